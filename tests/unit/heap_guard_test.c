/*
 * heap_guard_test.c - red zones and poison.
 */
#include <heap_suite.h>

/* proves: AS-34 VE-40 VE-57 */
static void red_zones_catch_each_byte(void **state)
{
    struct quire_cache *c = cache("red", 50, 0, QUIRE_CACHE_REDZONE);
    uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);

    (void)state;
    for (int off = -8; off < 58; off++) {
        uint8_t was = p[off];

        if (off >= 0 && off < 50) {
            p[off] = 0xee;
            continue;
        }
        p[off] ^= 0x10;
        assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
        assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p)));
        assert_non_null(strstr(hosted_panic_text(), "red zone"));
        p[off] = was;
    }
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* proves: AS-34 AS-54 */
static void poison_catches_use_after_free(void **state)
{
    struct quire_cache *c = cache("poison", 80, 0, QUIRE_CACHE_POISON | QUIRE_CACHE_REDZONE);

    (void)state;
    for (int off = 0; off < 80; off++) {
        uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), was;

        memset(p, 0, 80);
        quire_cache_free(c, p);
        was = p[off];
        assert_true(was == 0x6b || was == 0xa5);
        p[off] = 1;
        assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
        assert_true(HOSTED_EXPECT_PANIC(quire_cache_alloc(c, QUIRE_GFP_KERNEL)));
        assert_non_null(strstr(hosted_panic_text(), "written after its free"));
        p[off] = was;
        /* the object that the panic interrupted is out: back with it, as verify must agree */
        quire_cache_free(c, p);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* The object that was written to lies in a slab that nobody takes from any more: seen when the slab goes, not in whatever
 * its page is used for next.
 * proves: AS-54 */
static void poison_is_looked_at_when_a_slab_goes(void **state)
{
    enum { N = 400 };
    struct quire_cache *c = cache("goes", 128, 0, QUIRE_CACHE_POISON);
    uint8_t *p[N], was;

    (void)state;
    for (unsigned i = 0; i < N; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    for (unsigned i = 0; i < N; i++)
        quire_cache_free(c, p[i]);
    was = p[7][100];
    p[7][100] = 0;
    assert_true(HOSTED_EXPECT_PANIC(quire_heap_drain()));
    assert_non_null(strstr(hosted_panic_text(), "written after its free: byte 100 is 00"));
    p[7][100] = was;
    assert_int_equal(quire_heap_verify(), QUIRE_OK); /* but for the slab that was on its way */
    assert_non_null(p[0] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    quire_cache_free(c, p[0]);
}

/* A run of pages has its zone behind the last byte asked for, also where that is the last of a page.  The byte before is
 * its holder's.
 * proves: AS-34 VE-40 */
static void runs_have_a_red_zone_at_any_size(void **state)
{
    static const size_t sizes[] = {20000, 5 * QUIRE_PAGE_SIZE, 8 * QUIRE_PAGE_SIZE - 1,
                                   8 * QUIRE_PAGE_SIZE, 16 * QUIRE_PAGE_SIZE + 1};

    (void)state;
    machine_of((struct quire_heap_options){.flags = QUIRE_HARDEN_REDZONE});
    for (unsigned i = 0; i < QI_COUNT(sizes); i++) {
        uint8_t *p = quire_kmalloc(sizes[i], QUIRE_GFP_KERNEL), was;

        assert_int_equal(quire_ksize(p), sizes[i]);
        p[sizes[i] - 1] = 0xee;
        was = p[sizes[i]];
        p[sizes[i]] = 0xee;
        assert_true(HOSTED_EXPECT_PANIC(quire_kfree(p)));
        assert_non_null(strstr(hosted_panic_text(), "red zone"));
        p[sizes[i]] = was;
        quire_kfree(p);
    }
    expect_nothing_lost();
}

/* All bytes of an object's slot, zones and all, over those of its neighbour: what is kept of its size is that of its
 * place, and fails in another.
 * proves: AS-34 VE-57 */
static void a_slot_copied_over_another_is_seen(void **state)
{
    struct quire_cache *c = cache("copied", 48, 0, QUIRE_CACHE_REDZONE);
    uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL),
            *q = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    uint8_t kept[256];

    (void)state;
    assert_true(c->slot <= sizeof kept);
    memcpy(kept, qi_slot_of(c, q), c->slot);
    memcpy(qi_slot_of(c, q), qi_slot_of(c, p), c->slot);
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, q)));
    assert_non_null(strstr(hosted_panic_text(), "red zone"));
    memcpy(qi_slot_of(c, q), kept, c->slot);
    quire_cache_free(c, q);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(red_zones_catch_each_byte),
        TEST(poison_catches_use_after_free),
        TEST(poison_is_looked_at_when_a_slab_goes),
        cmocka_unit_test_setup_teardown(runs_have_a_red_zone_at_any_size, NULL, teardown_modes),
        TEST(a_slot_copied_over_another_is_seen),
    };

    test_seed("heap_guard_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
