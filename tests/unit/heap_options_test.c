/*
 * heap_options_test.c - the modes of the heap by number and by name, and that they hold for every cache.
 */
#include <heap_suite.h>
#include <slab/harden.h>

static uint32_t flags_of(const char *text)
{
    struct quire_heap_options o = {.seed = 7};
    const char *wrong = NULL;

    if (quire_heap_options_parse(text, &o, &wrong) != QUIRE_OK)
        fail_msg("%s: refused at '%s'", text, wrong);
    assert_int_equal(o.seed, 7);
    return o.flags;
}

static void names_mean_modes(void **state)
{
    struct quire_heap_options o = {0};

    (void)state;
    assert_int_equal(flags_of("none"), 0);
    assert_int_equal(flags_of("poison"), QUIRE_HARDEN_POISON);
    assert_int_equal(flags_of("redzone,poison"), QUIRE_HARDEN_REDZONE | QUIRE_HARDEN_POISON);
    assert_int_equal(flags_of("hardening"), QUIRE_HARDEN_BUNDLE);
    assert_int_equal(flags_of("zero"), QUIRE_HARDEN_ZERO_ALLOC | QUIRE_HARDEN_ZERO_FREE);
    assert_int_equal(flags_of("track,leakscan,encode"),
                     QUIRE_HEAP_TRACK | QUIRE_HEAP_LEAKSCAN | QUIRE_HARDEN_ENCODE);
    assert_int_equal(quire_heap_options_parse("sample=64,quarantine=3M,random", &o, NULL),
                     QUIRE_OK);
    assert_int_equal(o.flags, QUIRE_HARDEN_SAMPLE | QUIRE_HARDEN_QUARANTINE | QUIRE_HARDEN_RANDOM);
    assert_int_equal(o.sample_interval, 64);
    assert_int_equal(o.sample_ms, 0);
    assert_int_equal(o.quarantine_bytes, 3 << 20);
    assert_int_equal(quire_heap_options_parse("sample=100ms", &o, NULL), QUIRE_OK);
    assert_int_equal(o.sample_ms, 100);
    assert_int_equal(quire_heap_options_parse("quarantine=100ms", &o, NULL), QUIRE_INVALID);
    assert_int_equal(quire_heap_options_parse("sample=1Kms", &o, NULL), QUIRE_INVALID);
}

/* What is not a mode changes nothing, and is pointed at. */
static void what_is_no_mode_is_refused(void **state)
{
    static const struct {
        const char *text;
        size_t at;
    } bad[] = {
        {"", 0},
        {"poison,", 7},
        {"poisons", 0},
        {"redzone,poiso", 8},
        {"poison=3", 0},
        {"none,sample=", 5},
        {"sample=0", 0},
        {"sample=12x", 0},
        {"sample=-1", 0},
        {"quarantine=9999999999999", 0},
        {"quarantine=9999999999G", 0},
        {"sample=5000000000", 0},
        {",poison", 0},
        {"Poison", 0},
        {"poison redzone", 0},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct quire_heap_options o = {.flags = 0x55, .seed = 3};
        const char *wrong = NULL;

        assert_int_equal(quire_heap_options_parse(bad[i].text, &o, &wrong), QUIRE_INVALID);
        if (wrong != bad[i].text + bad[i].at)
            fail_msg("'%s': points to '%s'", bad[i].text, wrong);
        assert_int_equal(o.flags, 0x55);
    }
}

static int configured(uint32_t flags)
{
    struct quire_heap_options o = {.flags = flags, .seed = test_random()};

    return quire_heap_configure(&o);
}

static void a_flag_that_does_not_exist_is_refused(void **state)
{
    (void)state;
    assert_int_equal(configured(QUIRE_HEAP_FLAGS + 1), QUIRE_INVALID);
    heap_machine(64 * HEAP_MIB, 1);
    assert_int_equal(quire_heap_options().flags, 0);
    assert_int_equal(quire_heap_options().seed, 0);
    assert_true(quire_heap_options().sample_interval && quire_heap_options().quarantine_bytes);
}

static __attribute__((noinline)) bool kfree_panics(void *p)
{
    return HOSTED_EXPECT_PANIC(quire_kfree(p));
}

static int setup_guards(void **state)
{
    assert_int_equal(configured(QUIRE_HARDEN_REDZONE | QUIRE_HARDEN_POISON), QUIRE_OK);
    return setup(state);
}

/* With the switch on, every byte of a slot that was not asked for is a red zone, for every size of kmalloc
 * and for a cache that asked for nothing. */
/* proves: AS-34 AS-61 VE-40 AS-55 */
static void red_zones_begin_where_the_asked_size_ends(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 16384; size += size < 70 ? 1 : size / 7) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);
        struct quire_cache *c = qi_slab_of_page(quire_page_of_ptr(p))->cache;

        assert_int_equal(quire_ksize(p), size);
        memset(p, 0xee, size);
        for (long off = -(long)c->left; off < (long)(c->slot - c->left); off++) {
            if (off >= 0 && off < (long)size)
                continue;
            if (off > (long)size + 40 && off < (long)(c->slot - c->left) - 9)
                off = (long)(c->slot - c->left) - 9; /* not each of thousands */
            p[off] ^= 0x10;
            assert_true(kfree_panics(p));
            assert_non_null(strstr(hosted_panic_text(), "red zone"));
            p[off] ^= 0x10;
        }
        quire_kfree(p);
    }
    expect_nothing_lost();
}

/* proves: AS-34 AS-54 AS-61 */
static void writes_after_a_free_are_seen(void **state)
{
    struct quire_cache *c = cache("plain", 40, 0, 0);
    uint8_t *p = quire_kmalloc(100, QUIRE_GFP_KERNEL), *q = quire_cache_alloc(c, QUIRE_GFP_KERNEL);

    (void)state;
    quire_kfree(p);
    quire_cache_free(c, q);
    p[3] = 0;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    assert_true(HOSTED_EXPECT_PANIC(quire_kmalloc(100, QUIRE_GFP_KERNEL)));
    assert_non_null(strstr(hosted_panic_text(), "written after its free"));
    q[39] = 0;
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_alloc(c, QUIRE_GFP_KERNEL)));
    assert_non_null(strstr(hosted_panic_text(), "written after its free"));
}

/* krealloc keeps the zone at the end of what is asked, in place and elsewhere. */
static void krealloc_moves_the_red_zone(void **state)
{
    uint8_t *p = quire_kmalloc(60, QUIRE_GFP_KERNEL), *q;

    (void)state;
    memset(p, 0x11, 60);
    assert_ptr_equal(quire_krealloc(p, 50, QUIRE_GFP_KERNEL), p);
    assert_int_equal(quire_ksize(p), 50);
    p[50] ^= 1;
    assert_true(kfree_panics(p));
    p[50] ^= 1;
    q = quire_krealloc(p, 63, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    assert_int_equal(quire_ksize(q), 63);
    for (int i = 0; i < 63; i++)
        assert_int_equal(q[i], i < 50 ? 0x11 : 0);
    quire_kfree(q);
    p = quire_kzalloc(33, QUIRE_GFP_KERNEL);
    for (int i = 0; i < 33; i++)
        assert_int_equal(p[i], 0);
    quire_kfree(p);
    expect_nothing_lost();
}

#define GUARDED(f) cmocka_unit_test_setup_teardown(f, setup_guards, teardown_modes)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_mean_modes),
        cmocka_unit_test(what_is_no_mode_is_refused),
        cmocka_unit_test(a_flag_that_does_not_exist_is_refused),
        GUARDED(red_zones_begin_where_the_asked_size_ends),
        GUARDED(writes_after_a_free_are_seen),
        GUARDED(krealloc_moves_the_red_zone),
    };

    test_seed("heap_options_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
