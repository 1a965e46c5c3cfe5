/*
 * heap_failure_test.c - no memory: each allocation refused once, and all of it used up.
 */
#include <heap_suite.h>

/* A call that uses every path: caches of each kind, kmalloc of each kind, bulk, realloc. */
static bool try_everything(void)
{
    struct quire_cache *c = NULL, *g = NULL;
    void *small = NULL, *run = NULL, *bigger = NULL, *o = NULL, *guarded = NULL, *bulk[100];
    bool all = false, got = false;

    if (quire_cache_create("fail", 700, 0, 0, NULL, &c) != QUIRE_OK ||
        quire_cache_create("guarded", 70, 0, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON, NULL, &g) !=
            QUIRE_OK)
        goto out;
    if (!(small = quire_kzalloc(100, QUIRE_GFP_KERNEL)) ||
        !(run = quire_kmalloc(30000, QUIRE_GFP_KERNEL)) ||
        !(o = quire_cache_alloc(c, QUIRE_GFP_KERNEL)) ||
        !(guarded = quire_cache_alloc(g, QUIRE_GFP_KERNEL)) ||
        !(got = quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 100, bulk)))
        goto out;
    memset(small, 0x77, 100);
    bigger = quire_krealloc(small, 9000, QUIRE_GFP_KERNEL);
    assert_int_equal(*(uint8_t *)(bigger ? bigger : small), 0x77);
    if (!bigger)
        goto out;
    small = bigger;
    all = true;
out:
    quire_kfree(small);
    quire_kfree(run);
    if (o)
        quire_cache_free(c, o);
    if (guarded)
        quire_cache_free(g, guarded);
    if (got)
        quire_cache_free_bulk(c, 100, bulk);
    if (c)
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    if (g)
        assert_int_equal(quire_cache_destroy(g), QUIRE_OK);
    return all;
}

/* Each frame, then each object, that the calls ask for is refused once.
 * proves: TRAP-18 */
static void every_allocation_may_fail(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (int layer = 0; layer < 2; layer++)
        for (int64_t n = 1;; n++) {
            bool reached;

            setup(NULL);
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(n);
            refused += !try_everything();
            reached = !(layer ? quire_heap_fail_armed : quire_frame_fail_armed)();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(-1);
            expect_nothing_lost();
            if (!reached)
                break;
            assert_true(n < 1000);
        }
    assert_true(refused > 10);
}

/* The n-th call fails, exactly, and only while asked to. */
static void failures_come_when_asked(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 10; n++) {
        quire_kfree(quire_kmalloc(64, QUIRE_GFP_KERNEL));
        quire_heap_fail_after(n);
        for (int64_t i = 1; i < 12; i++) {
            void *p = i % 3   ? quire_kmalloc(i % 2 ? 64 : 3000, QUIRE_GFP_KERNEL)
                      : i % 2 ? quire_kmalloc(0, QUIRE_GFP_KERNEL)
                              : quire_kmalloc(70000, QUIRE_GFP_KERNEL);

            assert_int_equal(p == NULL, i == n);
            assert_int_equal(quire_heap_fail_armed(), i < n);
            quire_kfree(p);
        }
        quire_heap_fail_after(-1);
    }
    assert_true(HOSTED_EXPECT_PANIC(quire_heap_fail_after(0)));
    expect_nothing_lost();
}

/* All memory as objects; then everything back. */
static void exhaustion_is_survived(void **state)
{
    struct quire_cache *c = cache("all", 1000, 0, 0);
    void **first = NULL, **p;
    unsigned n = 0;

    (void)state;
    while ((p = quire_cache_alloc(c, QUIRE_GFP_KERNEL))) {
        *p = first;
        first = p;
        n++;
    }
    assert_true(n > 55000);
    heap_sound();
    for (; first; first = p) {
        p = *first;
        quire_cache_free(c, first);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_allocation_may_fail),
        TEST(failures_come_when_asked),
        TEST(exhaustion_is_survived),
    };

    test_seed("heap_failure_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
