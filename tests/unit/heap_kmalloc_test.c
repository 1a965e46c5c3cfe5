/*
 * heap_kmalloc_test.c - memory by size.
 */
#include <heap_suite.h>

/* Every size up to 20,000 and some above: natural alignment, usable size, direct-map addresses
 * that are contiguous in physical memory. */
/* proves: VM-19 VE-22 AS-36 */
static void kmalloc_classes(void **state)
{
    (void)state;
    for (size_t size = 0; size < 600000; size = size < 20000 ? size + 1 : size * 5 / 4) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);
        size_t have = quire_ksize(p);

        assert_non_null(p);
        assert_true(have >= size && have >= 8);
        if (size > 64 && size <= 10240)
            assert_true(have - size <= size / 3);
        assert_int_equal((uintptr_t)p % QUIRE_KMALLOC_ALIGN, 0);
        if (size && !(size & (size - 1)))
            assert_int_equal((uintptr_t)p % (size < 4096 ? size : 4096), 0);
        assert_int_equal(quire_pa_of_kla(Q_KLA(p)).v + QPORT_DIRECT_BASE, (uintptr_t)p);
        p[0] = 1;
        p[have - 1] = 1;
        quire_kfree(p);
    }
    quire_kfree(NULL);
    expect_nothing_lost();
}

static void kmalloc_refuses_the_impossible(void **state)
{
    size_t largest = 4096ull << QUIRE_MAX_ORDER;

    (void)state;
    assert_null(quire_kmalloc(largest + 1, QUIRE_GFP_KERNEL));
    assert_null(quire_kmalloc(SIZE_MAX, QUIRE_GFP_KERNEL));
    assert_null(quire_kmalloc(SIZE_MAX - 6, QUIRE_GFP_KERNEL));
    assert_null(quire_kcalloc(SIZE_MAX / 2, 3, QUIRE_GFP_KERNEL));
    assert_null(quire_kcalloc(1ull << 32, 1ull << 32, QUIRE_GFP_KERNEL));
    expect_nothing_lost();
}

static void two_of_size_zero_differ(void **state)
{
    void *a = quire_kmalloc(0, QUIRE_GFP_KERNEL), *b = quire_kmalloc(0, QUIRE_GFP_KERNEL);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    quire_kfree(a);
    quire_kfree(b);
    expect_nothing_lost();
}

/* proves: AS-37 */
static void krealloc_keeps_the_content(void **state)
{
    static const size_t steps[] = {10,    20,    200, 5000,  16384, 16385, 100000,
                                   60000, 20000, 300, 10000, 64,    1,     7};
    uint8_t *p = quire_krealloc(NULL, 5, QUIRE_GFP_KERNEL);
    size_t have = 5;

    (void)state;
    for (size_t k = 0; k < 5; k++)
        p[k] = (uint8_t)(k * 7 + 1);
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        size_t keep = steps[i] < have ? steps[i] : have;

        p = quire_krealloc(p, steps[i], QUIRE_GFP_KERNEL);
        assert_non_null(p);
        assert_true(quire_ksize(p) >= steps[i]);
        for (size_t k = 0; k < keep; k++)
            assert_int_equal(p[k], (uint8_t)(k * 7 + 1));
        have = steps[i];
        for (size_t k = 0; k < have; k++)
            p[k] = (uint8_t)(k * 7 + 1);
    }
    /* failure: p stays */
    quire_heap_fail_after(1);
    assert_null(quire_krealloc(p, 100000, QUIRE_GFP_KERNEL));
    quire_heap_fail_after(-1);
    for (size_t k = 0; k < have; k++)
        assert_int_equal(p[k], (uint8_t)(k * 7 + 1));
    assert_null(quire_krealloc(p, SIZE_MAX, QUIRE_GFP_KERNEL));
    assert_null(quire_krealloc(p, 0, QUIRE_GFP_KERNEL));
    expect_nothing_lost();
}

static void kzalloc_zeroes(void **state)
{
    (void)state;
    for (size_t size = 1; size < 40000; size = size * 3 / 2 + 1) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);

        memset(p, 0xff, size);
        quire_kfree(p);
        p = quire_kzalloc(size, QUIRE_GFP_KERNEL);
        for (size_t k = 0; k < size; k++)
            assert_int_equal(p[k], 0);
        memset(p, 0xff, size);
        quire_kfree(p);
        p = quire_kcalloc(size, 3, QUIRE_GFP_KERNEL);
        for (size_t k = 0; k < size * 3; k++)
            assert_int_equal(p[k], 0);
        quire_kfree(p);
    }
    expect_nothing_lost();
}

static bool lies_below(const void *p, size_t size, uint64_t limit)
{
    return quire_pa_of_kla(Q_KLA((const char *)p + size)).v <= limit;
}

/* DMA memory of any size is below the limit, or NULL.
 * proves: VM-19 TRAP-5 */
static void kmalloc_dma_is_low(void **state)
{
    (void)state;
    for (size_t size = 10; size < 100000; size *= 5) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_DMA);

        assert_non_null(p);
        assert_true(lies_below(p, size, 16 << 20));
        assert_true(quire_ksize(p) >= size);
        quire_kfree(p);
        p = quire_kmalloc(size, QUIRE_GFP_DMA32 | QUIRE_GFP_ZERO);
        assert_non_null(p);
        assert_int_equal(p[size - 1], 0);
        quire_kfree(p);
    }
    quire_heap_drain();
    while (quire_page_alloc(4, QUIRE_GFP_DMA, QUIRE_NODE_ANY)) {
    }
    while (quire_page_alloc(0, QUIRE_GFP_DMA, QUIRE_NODE_ANY)) {
    }
    assert_null(quire_kmalloc(10, QUIRE_GFP_DMA));
    assert_non_null(quire_kmalloc(10, QUIRE_GFP_KERNEL));
    assert_non_null(quire_kmalloc(10, QUIRE_GFP_DMA32));
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* For each power of two from 8 to 16384 a cache of low memory: its objects are packed into slabs, not one to
 * a page.
 * proves: VM-19 TRAP-5 */
static void low_memory_has_slabs(void **state)
{
    enum { N = 64 };
    static const struct {
        quire_gfp gfp;
        const char *name;
        uint64_t limit;
    } zones[] = {{QUIRE_GFP_DMA, "dma-kmalloc-%zu", 16 << 20},
                 {QUIRE_GFP_DMA32, "dma32-kmalloc-%zu", 1ull << 32}};
    static void *p[N];

    (void)state;
    for (unsigned z = 0; z < 2; z++)
        for (size_t size = 8; size <= 16384; size *= 2) {
            struct quire_cache_stats s;
            char name[32];

            snprintf(name, sizeof name, zones[z].name, size);
            for (int i = 0; i < N; i++) {
                p[i] = quire_kmalloc(size - (size_t)i % (size / 2), zones[z].gfp);
                assert_true(lies_below(p[i], size, zones[z].limit));
                assert_int_equal((uintptr_t)p[i] % (size < 4096 ? size : 4096), 0);
                assert_int_equal(quire_ksize(p[i]), size);
                memset(p[i], i, size);
            }
            s = heap_stats(name);
            assert_int_equal(s.active, N);
            assert_true(s.slabs <= N / 2 + 1);
            for (int i = 0; i < N; i++) {
                assert_int_equal(((uint8_t *)p[i])[size - 1], i);
                quire_kfree(p[i]);
            }
        }
    expect_nothing_lost();
}

/* Caches of low memory; others refuse requests for it.
 * proves: TRAP-5 */
static void caches_of_low_memory(void **state)
{
    struct quire_cache *dma = cache("low", 300, 0, QUIRE_CACHE_DMA),
                       *dma32 = cache("low32", 300, 0, QUIRE_CACHE_DMA32),
                       *any = cache("any", 300, 0, 0);
    void *p = quire_cache_alloc(dma, QUIRE_GFP_KERNEL), *q = quire_cache_alloc(dma, QUIRE_GFP_DMA),
         *r = quire_cache_alloc(dma32, QUIRE_GFP_DMA32);

    (void)state;
    assert_true(lies_below(p, 300, 16 << 20) && lies_below(q, 300, 16 << 20));
    assert_non_null(r);
    assert_null(quire_cache_alloc(dma32, QUIRE_GFP_DMA));
    assert_null(quire_cache_alloc(any, QUIRE_GFP_DMA));
    assert_null(quire_cache_alloc(any, QUIRE_GFP_DMA32));
    quire_cache_free(dma, p);
    p = quire_cache_alloc(dma, QUIRE_GFP_DMA32); /* lower than asked */
    assert_non_null(p);
    quire_cache_free(dma, p);
    quire_cache_free(dma, q);
    quire_cache_free(dma32, r);
    assert_int_equal(quire_cache_destroy(dma), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(dma32), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(any), QUIRE_OK);
    expect_nothing_lost();
}

static void expect_refused(void *p) { assert_true(HOSTED_EXPECT_PANIC(quire_kfree(p))); }

/* Above the classes, less than a quarter of a run is idle but for the last page; frames that a run has no use
 * for are free. */
static void runs_keep_what_they_use(void **state)
{
    (void)state;
    for (size_t size = 16385; size < 3 << 20; size = size * 17 / 16 + 4096) {
        uint64_t before = quire_free_pages(), pages = (size + 4095) / 4096, took;
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);
        size_t have;

        assert_non_null(p);
        have = quire_ksize(p);
        took = before - quire_free_pages();
        assert_int_equal(took, have / 4096);
        assert_true(took >= pages && took - pages < took / 4);
        memset(p, 0x5a, have);
        heap_sound();
        expect_refused(p + 4096);
        quire_kfree(p);
        expect_refused(p);
        assert_int_equal(quire_free_pages(), before);
    }
    expect_nothing_lost();
}

/* Making it smaller cannot fail: without memory for a smaller one it stays where it is. */
static void krealloc_down_never_fails(void **state)
{
    char *p = quire_kmalloc(9000, QUIRE_GFP_KERNEL);

    (void)state;
    strcpy(p, "kept");
    quire_heap_fail_after(1);
    assert_ptr_equal(quire_krealloc(p, 100, QUIRE_GFP_KERNEL), p);
    assert_false(quire_heap_fail_armed());
    quire_heap_fail_after(-1);
    assert_string_equal(p, "kept");
    quire_kfree(p);
    expect_nothing_lost();
}

static void krealloc_clears_what_is_new(void **state)
{
    unsigned char *p;
    size_t have;

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        p = quire_kmalloc(5000, QUIRE_GFP_KERNEL); /* leave dirt behind */
        memset(p, 0xff, 5000);
        quire_kfree(p);
        p = quire_kmalloc(100, QUIRE_GFP_KERNEL);
        have = quire_ksize(p);
        memset(p, 0x11, have);
        p = quire_krealloc(p, 5000, QUIRE_GFP_ZERO);
        for (size_t i = 0; i < 5000; i++)
            assert_int_equal(p[i], i < have ? 0x11 : 0);
        /* and nothing is cleared of what was there */
        p = quire_krealloc(p, 50, QUIRE_GFP_ZERO);
        for (size_t i = 0; i < 50; i++)
            assert_int_equal(p[i], 0x11);
        quire_kfree(p);
    }
    expect_nothing_lost();
}

static void nothing_of_low_memory(void **state)
{
    void *p = quire_kmalloc(0, QUIRE_GFP_DMA), *q = quire_kmalloc(0, QUIRE_GFP_DMA);

    (void)state;
    assert_non_null(p);
    assert_non_null(q);
    assert_ptr_not_equal(p, q);
    quire_kfree(p);
    quire_kfree(q);
    expect_nothing_lost();
}

/* The fast part alone gives what an ordinary free left, frees it, and leaves everything unusual to the ordinary
 * calls. */
static void the_fast_part_alone(void **state)
{
    static char foreign[64];

    (void)state;
    assert_null(quire_kmalloc_ready(16385));
    assert_null(quire_kmalloc_ready(SIZE_MAX));
    assert_false(quire_kfree_ready(NULL));
    assert_false(quire_kfree_ready(foreign));
    for (size_t size = 0; size <= 16384; size = size * 5 / 4 + 1) {
        void *p = quire_kmalloc(size, QUIRE_GFP_KERNEL), *q;

        quire_kfree(p);
        q = quire_kmalloc_ready(size);
        assert_ptr_equal(q, p);
        assert_true(quire_ksize(q) >= size);
        assert_false(quire_kfree_ready((char *)q + 8));
        assert_true(quire_kfree_ready(q));
        assert_false(quire_kfree_ready(q));
        assert_true(HOSTED_EXPECT_PANIC(quire_kfree(q)));
        assert_non_null(strstr(hosted_panic_text(), "double free of"));
    }
    expect_nothing_lost();
    assert_null(quire_kmalloc_ready(64)); /* nothing lies ready */
}

/* A call that has to fail, or whose object has to be looked at, is not for the fast part. */
static void the_fast_part_passes_by_modes(void **state)
{
    void *p;

    (void)state;
    quire_kfree(quire_kmalloc(64, QUIRE_GFP_KERNEL));
    quire_heap_fail_after(1);
    assert_null(quire_kmalloc_ready(64));
    assert_null(quire_kmalloc(64, QUIRE_GFP_KERNEL));
    quire_heap_fail_after(-1);
    p = quire_kmalloc_ready(64);
    assert_non_null(p);
    quire_kfree(p);
    teardown(NULL);
    machine_of((struct quire_heap_options){.flags = QUIRE_HARDEN_REDZONE});
    p = quire_kmalloc(64, QUIRE_GFP_KERNEL);
    assert_false(quire_kfree_ready(p));
    quire_kfree(p);
    assert_null(quire_kmalloc_ready(64));
    expect_nothing_lost();
    quire_heap_configure(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(kmalloc_classes),
        TEST(kmalloc_refuses_the_impossible),
        TEST(two_of_size_zero_differ),
        TEST(krealloc_keeps_the_content),
        TEST(kzalloc_zeroes),
        TEST(kmalloc_dma_is_low),
        TEST(low_memory_has_slabs),
        TEST(caches_of_low_memory),
        TEST(runs_keep_what_they_use),
        TEST(krealloc_down_never_fails),
        TEST(krealloc_clears_what_is_new),
        TEST(nothing_of_low_memory),
        TEST(the_fast_part_alone),
        TEST(the_fast_part_passes_by_modes),
    };

    test_seed("heap_kmalloc_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
