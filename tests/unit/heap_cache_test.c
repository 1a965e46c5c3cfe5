/*
 * heap_cache_test.c - the life of caches: shapes, constructors, bulk, shrinking, destroying.
 */
#include <heap_suite.h>

/* An object that was freed is the next that is given out, and while there are free objects no
 * frame is asked for. */
/* proves: VM-17 */
static void objects_are_reused(void **state)
{
    struct quire_cache *c = cache("task", 200, 0, 0);
    void *p[1000], *last;
    uint64_t slabs, free;

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    last = p[500];
    quire_cache_free(c, last);
    assert_ptr_equal(quire_cache_alloc(c, QUIRE_GFP_KERNEL), last);
    slabs = heap_stats("task").slabs;
    assert_in_range(slabs, 1000 / (4096 * 4 / 200), 1000 / (4096 / 200) + 1);
    free = quire_free_pages();
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 500; i++)
            quire_cache_free(c, p[i]);
        for (int i = 0; i < 500; i++)
            assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    }
    assert_in_range(heap_stats("task").slabs, slabs, slabs + 2);
    assert_in_range(quire_free_pages(), free - 12, free + 12);
    assert_int_equal(heap_stats("task").active, 1000);
    heap_sound();
    for (int i = 0; i < 1000; i++)
        quire_cache_free(c, p[i]);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* The page of an object is a slab's, and flagged so exactly while it is.
 * proves: AS-03 */
static void slab_pages_are_flagged(void **state)
{
    struct quire_cache *c = cache("flagged", 1000, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    q_pfn pfn = quire_pfn_of_page(quire_page_of_ptr(p));

    (void)state;
    assert_true(quire_page_flags(pfn) & QUIRE_PG_SLAB);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_false(quire_page_flags(pfn) & QUIRE_PG_SLAB);
    p = quire_kmalloc(100000, QUIRE_GFP_KERNEL);
    pfn = quire_pfn_of_page(quire_page_of_ptr(p));
    assert_true(quire_page_flags(pfn) & QUIRE_PG_SLAB);
    quire_kfree(p);
    assert_false(quire_page_flags(pfn) & QUIRE_PG_SLAB);
    expect_nothing_lost();
}

/* Every size and alignment: objects are aligned, disjoint, and hold what is written.
 * proves: VM-18 */
static void sizes_and_alignments(void **state)
{
    static const size_t sizes[] = {1,     7,     8,     9,     24,     63,     64,   65,
                                   100,   255,   512,   1000,  2049,   4095,   4096, 4097,
                                   10000, 32768, 50000, 65536, 262144, 1 << 20};

    (void)state;
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t align = 0; align <= 4096; align = align ? align * 4 : 1) {
            struct quire_cache *c = cache("shapes", sizes[s], align, 0);
            enum { N = 12 };
            uint8_t *p[N];

            for (unsigned i = 0; i < N; i++) {
                p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
                assert_non_null(p[i]);
                assert_int_equal((uintptr_t)p[i] % (align > 8 ? align : 8), 0);
                memset(p[i], (int)i, sizes[s]);
            }
            for (unsigned i = 0; i < N; i++) {
                assert_int_equal(p[i][0], i);
                assert_int_equal(p[i][sizes[s] - 1], i);
                quire_cache_free(c, p[i]);
            }
            assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        }
    expect_nothing_lost();
}

static void bad_caches_are_refused(void **state)
{
    struct quire_cache *c = NULL;
    void (*ctor)(void *) = (void (*)(void *))(uintptr_t)free;

    (void)state;
    assert_int_equal(quire_cache_create("x", 0, 0, 0, NULL, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create("x", (1 << 20) + 1, 0, 0, NULL, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create("x", 8, 3, 0, NULL, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create("x", 8, 8192, 0, NULL, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create("x", 8, 0, 0x10, NULL, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create(NULL, 8, 0, 0, NULL, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create("x", 8, 0, QUIRE_CACHE_ZERO, ctor, &c), QUIRE_INVALID);
    assert_int_equal(quire_cache_create("x", 8, 0, QUIRE_CACHE_POISON, ctor, &c), QUIRE_INVALID);
    assert_null(c);
    expect_nothing_lost();
}

static unsigned constructed;

static void construct(void *p)
{
    constructed++;
    memset(p, 0x5a, 40);
}

/* The constructor runs once for each object of a slab; a freed object keeps its state. */
static void constructors_run_once(void **state)
{
    struct quire_cache *c;
    uint8_t *p[300];

    (void)state;
    constructed = 0;
    assert_int_equal(quire_cache_create("ctor", 40, 0, 0, construct, &c), QUIRE_OK);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 300; i++) {
            p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
            for (int k = 0; k < 40; k++)
                assert_int_equal(p[i][k], 0x5a);
        }
        for (int i = 0; i < 300; i++)
            quire_cache_free(c, p[i]);
    }
    assert_int_equal(constructed, heap_stats("ctor").total);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

static void zeroing_caches_zero(void **state)
{
    struct quire_cache *c = cache("zero", 333, 0, QUIRE_CACHE_ZERO), *d = cache("plain", 333, 0, 0);

    (void)state;
    for (int i = 0; i < 200; i++) {
        uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL),
                *q = quire_cache_alloc(d, QUIRE_GFP_ZERO);

        for (int k = 0; k < 333; k++) {
            assert_int_equal(p[k], 0);
            assert_int_equal(q[k], 0);
        }
        memset(p, 0xff, 333);
        memset(q, 0xff, 333);
        quire_cache_free(c, p);
        quire_cache_free(d, q);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    expect_nothing_lost();
}

/* proves: AS-35 */
static void bulk_is_all_or_none(void **state)
{
    struct quire_cache *c = cache("bulk", 64, 0, 0),
                       *g = cache("bulk-red", 64, 0, QUIRE_CACHE_REDZONE),
                       *large = cache("bulk-large", 50000, 0, 0);
    static void *p[3000], *q[3000];

    (void)state;
    for (size_t n = 0; n <= 3000; n = n * 2 + 1) {
        assert_true(quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, n, p));
        assert_true(quire_cache_alloc_bulk(g, QUIRE_GFP_KERNEL, n, q));
        for (size_t i = 0; i < n; i++) {
            *(size_t *)p[i] = i;
            *(size_t *)q[i] = i;
        }
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(*(size_t *)p[i], i);
            assert_int_equal(*(size_t *)q[i], i);
        }
        assert_int_equal(heap_stats("bulk").active, n);
        quire_cache_free_bulk(c, n, p);
        quire_cache_free_bulk(g, n, q);
    }
    /* more than there is: none */
    assert_false(quire_cache_alloc_bulk(large, QUIRE_GFP_KERNEL, 3000, p));
    assert_int_equal(heap_stats("bulk-large").active, 0);
    assert_int_equal(quire_cache_destroy(large), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(g), QUIRE_OK);
    expect_nothing_lost();
}

/* proves: X-14 VE-56 */
static void destroy_names_what_is_out(void **state)
{
    struct quire_cache *c = cache("leaky", 100, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), *q = quire_cache_alloc(c, QUIRE_GFP_KERNEL);

    (void)state;
    assert_int_equal(quire_cache_destroy(c), QUIRE_BUSY);
    assert_non_null(strstr(hosted_log_last(), "leaky"));
    assert_non_null(strstr(hosted_log_last(), "2 objects"));
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_BUSY);
    quire_cache_free(c, q);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_destroy(qi_header_cache(16))));
    expect_nothing_lost();
}

/* Empty slabs go back: some by themselves, the rest when asked. */
static void shrink_returns_empty_slabs(void **state)
{
    struct quire_cache *c = cache("shrunk", 512, 0, 0);
    static void *p[4000];
    uint64_t before;
    size_t given;

    (void)state;
    for (int i = 0; i < 4000; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    for (int i = 0; i < 4000; i++)
        quire_cache_free(c, p[i]);
    assert_true(heap_stats("shrunk").total < 1000);
    before = quire_free_pages();
    given = quire_cache_shrink(c);
    assert_true(given > 0);
    assert_int_equal(heap_stats("shrunk").total, 0);
    assert_true(quire_free_pages() >= before + given);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* A cache's slabs lie anywhere, so that it never promises low memory. */
static void no_low_memory_from_caches(void **state)
{
    struct quire_cache *c = cache("anywhere", 64, 0, 0);
    void *p[2];

    (void)state;
    assert_null(quire_cache_alloc(c, QUIRE_GFP_DMA));
    assert_null(quire_cache_alloc(c, QUIRE_GFP_DMA32));
    assert_false(quire_cache_alloc_bulk(c, QUIRE_GFP_DMA, 2, p));
    assert_int_equal(heap_stats("anywhere").active, 0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* However many are out, all are counted; and nothing has changed. */
static void destroy_counts_all(void **state)
{
    struct quire_cache *c = cache("leaky", 100, 0, 0);
    void *p[20];

    (void)state;
    assert_true(quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 20, p));
    assert_int_equal(quire_cache_destroy(c), QUIRE_BUSY);
    assert_non_null(strstr(hosted_log_last(), "20 objects are out"));
    assert_int_equal(heap_stats("leaky").active, 20);
    heap_sound();
    quire_cache_free_bulk(c, 20, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* Where slabs end: enough objects in the fewest pages, and an eighth of a large object wasted at most
 * once ORDER_AIM allows it. */
static void slabs_are_of_a_fair_size(void **state)
{
    (void)state;
    for (size_t size = 8; size <= 40000; size += size / 5 / 8 * 8 + 8) {
        struct quire_cache *c = cache("fair", size, 0, 0);
        struct quire_cache_stats s = heap_stats("fair");
        size_t bytes = 4096u << s.slab_order, used = s.objects_per_slab * s.slot_size;

        assert_true(s.objects_per_slab >= 1 && used <= bytes && bytes - used < s.slot_size);
        if (s.slab_order < QUIRE_SLAB_MAX_ORDER)
            assert_true(s.objects_per_slab >= 16 && (bytes - used) * QUIRE_SLAB_WASTE <= bytes);
        else if (s.slab_order > QUIRE_SLAB_MAX_ORDER) /* no smaller one holds any */
            assert_true(bytes / 2 < size);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    }
    expect_nothing_lost();
}

/* What each free reads of a slab is in no line with the states of another slab's objects, which others write. */
static void headers_begin_at_lines(void **state)
{
    (void)state;
    for (size_t size = 8; size <= 4096; size *= 2) {
        struct quire_cache *c = cache("lines", size, 0, 0);
        unsigned n = 2 * (unsigned)heap_stats("lines").objects_per_slab + 1;
        void *p[1100];

        assert_true(n <= 1100 && quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, n, p));
        for (unsigned i = 0; i < n; i++)
            assert_int_equal((uintptr_t)qi_slab_of_page(quire_page_of_ptr(p[i])) % QI_CACHE_LINE,
                             0);
        quire_cache_free_bulk(c, n, p);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    }
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(objects_are_reused),         TEST(slab_pages_are_flagged),
        TEST(sizes_and_alignments),       TEST(bad_caches_are_refused),
        TEST(constructors_run_once),      TEST(zeroing_caches_zero),
        TEST(bulk_is_all_or_none),        TEST(destroy_names_what_is_out),
        TEST(shrink_returns_empty_slabs), TEST(no_low_memory_from_caches),
        TEST(destroy_counts_all),         TEST(slabs_are_of_a_fair_size),
        TEST(headers_begin_at_lines),
    };

    test_seed("heap_cache_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
