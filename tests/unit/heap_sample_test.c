/*
 * heap_sample_test.c - objects between pages that fault (QUIRE_HARDEN_SAMPLE).
 */
#include <heap_suite.h>
#include <slab/harden.h>

static void machine(uint32_t interval, uint32_t objects)
{
    machine_of((struct quire_heap_options){
        .flags = QUIRE_HARDEN_SAMPLE, .sample_interval = interval, .sample_objects = objects});
}

static void poke(volatile uint8_t *p) { *p = 1; }
static uint8_t peek(const volatile uint8_t *p) { return *p; }

static __attribute__((noinline)) bool write_faults(uint8_t *p)
{
    return HOSTED_EXPECT_PANIC(poke(p));
}

static __attribute__((noinline)) bool read_faults(const uint8_t *p)
{
    return HOSTED_EXPECT_PANIC(peek(p));
}

static __attribute__((noinline)) bool free_panics(void *p)
{
    return HOSTED_EXPECT_PANIC(quire_kfree(p));
}

static __attribute__((noinline)) bool realloc_panics(void *p)
{
    return HOSTED_EXPECT_PANIC(quire_krealloc(p, 10, QUIRE_GFP_KERNEL));
}

static void logged(const char *words)
{
    if (!strstr(hosted_panic_text(), "among sampled objects"))
        fail_msg("panic says '%s'", hosted_panic_text());
    if (!strstr(hosted_log_text(), words))
        fail_msg("logged '%s', not '%s'", hosted_log_text(), words);
    hosted_log_clear();
}

static bool at_right(const uint8_t *p) { return (uintptr_t)p & 4095; }

/* A sampled object of size bytes at the end asked for. */
static __attribute__((noinline)) uint8_t *sampled(size_t size, bool right)
{
    for (int i = 0; i < 1000; i++) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);

        if (at_right(p) == right)
            return p;
        quire_kfree(p);
    }
    fail_msg("none of 1000 objects lies at that end");
    return NULL;
}

/* proves: VE-40 AS-55 */
static void an_access_beyond_either_end_faults(void **state)
{
    (void)state;
    machine(1, 0);
    for (size_t size = 8; size <= 4000; size += 328) {
        uint8_t *right = sampled(size, true), *left = sampled(size, false);

        assert_true(qi_sample_owns(right) && qi_sample_owns(left));
        memset(right, 0x11, size);
        memset(left, 0x11, size);
        assert_true(write_faults(right + size));
        logged(": out of bounds: write at");
        assert_true(read_faults(right + size + 100));
        assert_true(read_faults(left - 1));
        assert_true(write_faults(left - 4096));
        quire_kfree(right);
        quire_kfree(left);
    }
    expect_nothing_lost();
}

/* proves: AS-54 X-13 TRAP-3 */
static void an_access_after_the_free_faults(void **state)
{
    uint8_t *p;

    (void)state;
    machine(1, 0);
    p = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    quire_kfree(p);
    assert_true(read_faults(p));
    logged(": use after free: read at");
    assert_true(write_faults(p + 99));
    assert_true(free_panics(p));
    assert_non_null(strstr(hosted_panic_text(), "double free"));
    assert_true(realloc_panics(p));
    /* as long as any other page is left: 254 more allocations */
    for (int i = 0; i < 254; i++) {
        void *q = quire_kmalloc(100, QUIRE_GFP_KERNEL);

        assert_true(q != p);
        quire_kfree(q);
        assert_true(read_faults(p));
    }
}

/* As long as another CPU may have what is freed in its TLB, the page is closing, and not used again.
 * proves: AS-55 */
static void a_page_that_others_may_have_is_not_used_again(void **state)
{
    struct quire_sample_stats s;
    void *p, *q, *r;

    (void)state;
    machine(1, 2);
    p = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    quire_sample_stats(&s);
    assert_true(s.objects == 2 && s.out == 1 && s.sampled == 1 && !s.closing && !s.closed);
    hosted_guard_late = true;
    quire_kfree(p);
    quire_sample_stats(&s);
    assert_true(s.closing == 1 && !s.closed && !s.out);
    q = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    r = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    assert_true(qi_sample_owns(q) && !qi_sample_owns(r));
    hosted_guard_late = false;
    quire_sample_stats(&s);
    assert_true(s.closed == 1 && !s.closing && s.out == 1);
    quire_kfree(r);
    r = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    assert_true(qi_sample_owns(r));
    assert_int_equal((uintptr_t)r / QUIRE_PAGE_SIZE, (uintptr_t)p / QUIRE_PAGE_SIZE);
    quire_kfree(q);
    quire_kfree(r);
    expect_nothing_lost();
}

/* What no page ends at is a red zone; and what is no object of the pool is refused. */
static void the_rest_of_the_page_is_looked_at(void **state)
{
    uint8_t *p;
    struct quire_cache *c;

    (void)state;
    machine(1, 0);
    p = sampled(13, true);
    assert_int_equal((uintptr_t)p % 8, 0);
    assert_int_equal(quire_ksize(p), 13);
    p[13] ^= 1; /* the page ends three bytes further on */
    assert_true(free_panics(p));
    assert_non_null(strstr(hosted_panic_text(), "red zone"));
    p[13] ^= 1;
    assert_true(free_panics(p + 1));
    assert_non_null(strstr(hosted_panic_text(), "not the start"));
    assert_true(free_panics((void *)((uintptr_t)p & ~4095ull)));
    assert_true(free_panics((void *)qi_sample_base));
    assert_non_null(strstr(hosted_panic_text(), "guard page"));
    c = cache("mine", 13, 0, 0);
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p)));
    assert_non_null(strstr(hosted_panic_text(), "belongs to cache"));
    p = quire_krealloc(p, 9, QUIRE_GFP_KERNEL);
    assert_int_equal(quire_ksize(p), 9);
    p[9] ^= 1;
    assert_true(free_panics(p));
    p[9] ^= 1;
    quire_kfree(p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* Objects come zeroed where they have to, constructed, aligned; a leak is known; when all pages are out the
 * others are ordinary. */
static void construct(void *p) { memset(p, 0x42, 48); }

static void sampled_objects_are_like_others(void **state)
{
    struct quire_cache *c, *d;
    uint8_t *p[20];
    int ordinary = 0;

    (void)state;
    machine(1, 8);
    for (int i = 0; i < 20; i++) {
        p[i] = quire_kzalloc(64, QUIRE_GFP_KERNEL);
        ordinary += !qi_sample_owns(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        for (int k = 0; k < 64; k++)
            assert_int_equal(p[i][k], 0);
    }
    assert_int_equal(ordinary, 12);
    for (int i = 0; i < 20; i++)
        quire_kfree(p[i]);
    assert_int_equal(quire_cache_create("made", 48, 0, 0, construct, &c), QUIRE_OK);
    for (int i = 0; i < 4; i++) {
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        assert_true(qi_sample_owns(p[i]));
        for (int k = 0; k < 48; k++)
            assert_int_equal(p[i][k], 0x42);
        quire_cache_free(c, p[i]);
    }
    d = cache("wide", 40, 1024, 0);
    p[0] = quire_cache_alloc(d, QUIRE_GFP_KERNEL);
    assert_true(qi_sample_owns(p[0]) && (uintptr_t)p[0] % 1024 == 0);
    assert_int_equal(quire_cache_destroy(d), QUIRE_BUSY);
    quire_cache_free(d, p[0]);
    assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* One of as many as asked for. */
static void so_many_are_sampled(void **state)
{
    int n = 0;

    (void)state;
    machine(50, 0);
    for (int i = 0; i < 10000; i++) {
        void *p = quire_kmalloc(8 + test_random_below(1000), QUIRE_GFP_KERNEL);

        n += qi_sample_owns(p);
        quire_kfree(p);
    }
    assert_in_range(n, 198, 202);
}

/* By time: one after each call, and no allocation goes the special way in between. */
static void one_in_an_interval_is_sampled(void **state)
{
    struct quire_heap_options o = {.flags = QUIRE_HARDEN_SAMPLE, .sample_ms = 1, .seed = 5};
    struct timespec wait = {.tv_nsec = 1500000};
    struct quire_cache *c;

    (void)state;
    assert_int_equal(quire_heap_configure(&o), QUIRE_OK);
    heap_machine(64 * HEAP_MIB, 1);
    c = cache("timed", 40, 0, 0);
    for (int round = 0; round < 20; round++) {
        int n = 0;

        quire_heap_sample();
        quire_heap_sample(); /* too early: nothing */
        for (int i = 0; i < 100; i++) {
            void *p = round & 1 ? quire_cache_alloc(c, 0) : quire_kmalloc(30, QUIRE_GFP_KERNEL);

            n += qi_sample_owns(p);
            quire_kfree(p);
        }
        assert_int_equal(n, 1);
        assert_int_equal(
            (round & 1 ? c : qi_slab_of_page(quire_page_of_ptr(quire_kmalloc(30, 0)))->cache)->slow,
            0);
        nanosleep(&wait, NULL);
    }
}

#define MODES(f) cmocka_unit_test_setup_teardown(f, NULL, teardown_modes)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODES(an_access_beyond_either_end_faults),
        MODES(an_access_after_the_free_faults),
        MODES(a_page_that_others_may_have_is_not_used_again),
        MODES(the_rest_of_the_page_is_looked_at),
        MODES(sampled_objects_are_like_others),
        MODES(so_many_are_sampled),
        MODES(one_in_an_interval_is_sampled),
    };

    test_seed("heap_sample_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
