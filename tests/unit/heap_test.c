/*
 * heap_test.c - src/slab: caches, kmalloc, misuse in every tier, guards, nodes, failures, threads.
 * Long because every tier is held to the same list of misuses.
 */
#include <heap_machine.h>

#include <pthread.h>
#include <sched.h>

#include <quire/stats.h>
#include <slab/slab.h>

static uint64_t frames_at_start;

static int setup(void **state)
{
    (void)state;
    heap_machine(64 * HEAP_MIB, 1);
    frames_at_start = quire_free_pages();
    return 0;
}

static int setup_nodes(void **state)
{
    (void)state;
    heap_machine(64 * HEAP_MIB, 2);
    frames_at_start = quire_free_pages();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_fini();
    return 0;
}

/* Nothing is out: every frame is back. */
static void expect_nothing_lost(void)
{
    heap_sound();
    assert_int_equal(heap_free_pages(), frames_at_start);
    heap_sound();
}

static struct quire_cache *cache(const char *name, size_t size, size_t align, unsigned flags)
{
    struct quire_cache *c = NULL;

    assert_int_equal(quire_cache_create(name, size, align, flags, NULL, &c), QUIRE_OK);
    return c;
}

/* ---- caches ---- */

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

/* The page of an object is a slab's, and flagged so exactly while it is. */
/* proves: AS-03 */
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

/* Every size and alignment: objects are aligned, disjoint, and hold what is written. */
/* proves: VM-18 */
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
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_destroy(&qi_sheaf_cache)));
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

/* ---- kmalloc ---- */

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
        assert_int_equal((uintptr_t)p % 8, 0);
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

/* DMA memory of any size is below the limit, or NULL. */
/* proves: VM-19 TRAP-5 */
static void kmalloc_dma_is_low(void **state)
{
    (void)state;
    for (size_t size = 10; size < 100000; size *= 5) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_DMA);

        assert_non_null(p);
        assert_true(quire_pa_of_kla(Q_KLA(p + size)).v <= 16 << 20);
        assert_true(quire_ksize(p) >= size);
        quire_kfree(p);
        p = quire_kmalloc(size, QUIRE_GFP_DMA32 | QUIRE_GFP_ZERO);
        assert_non_null(p);
        assert_int_equal(p[size - 1], 0);
        quire_kfree(p);
    }
    while (quire_page_alloc(4, QUIRE_GFP_DMA, QUIRE_NODE_ANY)) {
    }
    while (quire_page_alloc(0, QUIRE_GFP_DMA, QUIRE_NODE_ANY)) {
    }
    assert_null(quire_kmalloc(10, QUIRE_GFP_DMA));
    assert_non_null(quire_kmalloc(10, QUIRE_GFP_KERNEL));
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* ---- misuse ---- */

static void expect_double_free(struct quire_cache *c, void *p)
{
    if (c)
        assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p)));
    else
        assert_true(HOSTED_EXPECT_PANIC(quire_kfree(p)));
    assert_non_null(strstr(hosted_panic_text(), "heap: "));
}

/* A second free is caught wherever the object lies by then: in the main sheaf, the spare, the barn,
 * its slab, or in a slab that is the frame allocator's again. */
/* proves: TRAP-3 X-13 */
static void double_free_in_every_tier(void **state)
{
    enum { N = 5000 };
    static void *p[N];

    (void)state;
    for (int i = 0; i < N; i++)
        p[i] = quire_kmalloc(64, QUIRE_GFP_KERNEL);
    quire_kfree(p[0]);
    expect_double_free(NULL, p[0]); /* the most recent */
    for (int i = 1; i < N; i++) {
        quire_kfree(p[i]);
        expect_double_free(NULL, p[i / 2]); /* spare, barn, slab, by and by */
        expect_double_free(NULL, p[i]);
    }
    heap_sound();
    quire_heap_drain();
    for (int i = 0; i < N; i++)
        expect_double_free(NULL, p[i]); /* the frame is free */
    assert_non_null(strstr(hosted_panic_text(), "freed twice or foreign"));
    p[0] = quire_kmalloc(50000, QUIRE_GFP_KERNEL); /* a run */
    quire_kfree(p[0]);
    expect_double_free(NULL, p[0]);
    expect_nothing_lost();
}

/* One object, freed by two CPUs at the very same time, both of which found it out: caught at its
 * slab. */
/* proves: TRAP-3 */
static void a_race_of_two_frees_is_caught_at_the_slab(void **state)
{
    struct quire_cache *c = cache("raced", 64, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(p));
    uint64_t i;

    (void)state;
    assert_true(qi_slab_index(s, p, &i));
    quire_cache_free(c, p);
    s->state[i] = QI_OBJ_OUT(0); /* what the other CPU had read */
    hosted_cpu_set(1);
    quire_cache_free(c, p);
    hosted_cpu_set(0);
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_destroy(c)));
    assert_non_null(strstr(hosted_panic_text(), "freed twice"));
}

/* proves: TRAP-3 X-13 */
static void foreign_pointers_are_caught(void **state)
{
    struct quire_cache *c = cache("mine", 64, 0, 0), *d = cache("other", 64, 0, 0);
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), *run = quire_kmalloc(40000, 0);
    void *header = qi_slab_of_page(quire_page_of_ptr(p));
    int local;

    (void)state;
    expect_double_free(NULL, &local);
    assert_non_null(strstr(hosted_panic_text(), "foreign"));
    expect_double_free(NULL, (void *)8);
    expect_double_free(NULL, (void *)UINTPTR_MAX);
    expect_double_free(NULL, quire_page_ptr(page));
    expect_double_free(NULL, header);
    expect_double_free(d, p);
    assert_non_null(strstr(hosted_panic_text(), "belongs to cache mine"));
    expect_double_free(c, &local);
    expect_double_free(c, NULL);
    expect_double_free(c, run);
    expect_double_free(NULL, run + 8);
    expect_double_free(NULL, run + 4096);
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(&local)));
    for (int off = 1; off < 64; off++)
        expect_double_free(c, p + off);
    quire_kfree(run);
    quire_cache_free(c, p);
    quire_page_free(page, 0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    expect_nothing_lost();
}

/* No byte of a slab but the first of an object that is out can be freed, for sizes that divide
 * nothing. */
static void every_wrong_byte_is_refused(void **state)
{
    static const size_t sizes[] = {8, 24, 72, 200, 328, 1000, 3000};

    (void)state;
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned flags = 0; flags <= QUIRE_CACHE_REDZONE; flags += QUIRE_CACHE_REDZONE) {
            struct quire_cache *c = cache("bytes", sizes[s], 0, flags);
            uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
            struct qi_slab *slab = qi_slab_of_page(quire_page_of_ptr(p));
            uint8_t *from = quire_page_ptr(slab->page), *to = from + (4096u << slab->order);

            for (uint8_t *q = from; q < to;
                 q += q + 64 < to && q > from + 64 && sizes[s] > 300 ? 7 : 1)
                if (q != p)
                    expect_double_free(NULL, q);
            quire_cache_free(c, p);
            assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        }
    expect_nothing_lost();
}

/* ---- guards ---- */

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

/* A damaged header, bitmap or state is found by verify. */
static void verify_finds_damage(void **state)
{
    struct quire_cache *c = cache("damage", 100, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(p));
    uint64_t i;

    (void)state;
    qi_slab_index(s, p, &i);
    s->nfree++;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->nfree--;
    s->free[(i - 1) / 64] ^= 1ull << (i - 1) % 64;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->free[(i - 1) / 64] ^= 1ull << (i - 1) % 64;
    s->state[0] = 0;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->state[0] = QI_OBJ_EDGE;
    s->page->owner ^= 64;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->page->owner ^= 64;
    c->node[0].objects++;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    c->node[0].objects--;
    s->state[i] = QI_OBJ_IN; /* an object nowhere */
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->state[i] = QI_OBJ_OUT(0);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- statistics ---- */

/* proves: VE-58 */
static void counts_are_exact_at_rest(void **state)
{
    struct quire_cache *c = cache("counted", 300, 0, 0);
    static void *p[700];
    struct quire_cache_stats s;

    (void)state;
    for (int i = 0; i < 700; i++) {
        hosted_cpu_set((unsigned)i % 3);
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    }
    for (int i = 0; i < 200; i++) {
        hosted_cpu_set((unsigned)(i / 7) % 3);
        quire_cache_free(c, p[i]);
    }
    hosted_cpu_set(0);
    s = heap_stats("counted");
    assert_int_equal(s.object_size, 300);
    assert_int_equal(s.slot_size, 304);
    assert_int_equal(s.allocs, 700);
    assert_int_equal(s.frees, 200);
    assert_int_equal(s.active, 500);
    assert_true(s.total >= 500 && s.total == s.slabs * s.objects_per_slab);
    quire_cache_free_bulk(c, 500, p + 200);
    quire_cache_shrink(c);
    s = heap_stats("counted");
    assert_int_equal(s.frees, 700);
    assert_int_equal(s.active, 0);
    assert_int_equal(quire_cache_stats(100000, &s), QUIRE_NOT_FOUND);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* The text has Linux's two head lines, and each line its columns; a short buffer is filled and
 * ended, the full length told. */
static void slabinfo_is_linux_text(void **state)
{
    void *p = quire_kmalloc(64, QUIRE_GFP_KERNEL);
    size_t len = quire_slabinfo(NULL, 0), lines = 0;
    char *text = malloc(len + 1), shorter[100];
    bool found = false;

    (void)state;
    assert_int_equal(quire_slabinfo(text, len + 1), len);
    assert_int_equal(strlen(text), len);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        unsigned long active, total, size, per, pages, a, b, c, slabs, num, shared;
        char name[64];

        if (lines == 0) {
            assert_string_equal(line, "slabinfo - version: 2.1");
        } else if (lines == 1) {
            assert_int_equal(strncmp(line, "# name            <active_objs> <num_objs>", 42), 0);
        } else {
            assert_int_equal(
                sscanf(
                    line, "%63s %lu %lu %lu %lu %lu : tunables %lu %lu %lu : slabdata %lu %lu %lu",
                    name, &active, &total, &size, &per, &pages, &a, &b, &c, &slabs, &num, &shared),
                12);
            assert_true(per * size <= pages * 4096 && active <= total);
            if (!strcmp(name, "kmalloc-64")) {
                found = true;
                assert_int_equal(active, 1);
            }
        }
    }
    assert_true(found && lines > 30);
    assert_int_equal(quire_slabinfo(shorter, sizeof shorter), len);
    assert_int_equal(strlen(shorter), 99);
    free(text);
    quire_kfree(p);
}

/* ---- nodes ---- */

static unsigned node_of(void *p) { return quire_page_node(quire_page_of_ptr(p)); }

/* Memory is of the CPU's node, or of the one that is asked for, wherever it was freed. */
/* proves: AS-33 */
static void objects_stay_on_their_node(void **state)
{
    struct quire_cache *c = cache("noded", 128, 0, 0);
    static void *p[2][500];

    (void)state;
    for (int round = 0; round < 10; round++) {
        for (unsigned node = 0; node < 2; node++) {
            hosted_cpu_set(node);
            for (int i = 0; i < 500; i++) {
                p[node][i] = i % 2 ? quire_cache_alloc(c, QUIRE_GFP_KERNEL)
                                   : quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, node);
                assert_int_equal(node_of(p[node][i]), node);
            }
        }
        /* each CPU frees what the other took */
        for (unsigned node = 0; node < 2; node++) {
            hosted_cpu_set(node);
            for (int i = 0; i < 500; i++)
                quire_cache_free(c, p[!node][i]);
        }
        heap_sound();
    }
    hosted_cpu_set(0);
    for (int i = 0; i < 100; i++) {
        void *far = quire_kmalloc_node(100, QUIRE_GFP_KERNEL, 1);

        assert_int_equal(node_of(far), 1);
        quire_kfree(far);
        far = quire_kmalloc_node(50000, QUIRE_GFP_KERNEL, 1);
        assert_int_equal(node_of(far), 1);
        quire_kfree(far);
    }
    assert_true(HOSTED_EXPECT_PANIC(quire_kmalloc_node(8, QUIRE_GFP_KERNEL, 2)));
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* A node without memory: its CPUs are served by the other, unless that is forbidden. */
static void an_empty_node_falls_back(void **state)
{
    struct quire_cache *c = cache("fallback", 256, 0, 0);
    void *p[100], *local;

    (void)state;
    hosted_cpu_set(1);
    local = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    while (quire_page_alloc(0, QUIRE_GFP_THISNODE | QUIRE_GFP_MEMALLOC, 1)) {
    }
    while (quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, 1)) {
    }
    assert_null(quire_cache_alloc(c, QUIRE_GFP_THISNODE));
    for (int i = 0; i < 100; i++) {
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        assert_non_null(p[i]);
        assert_int_equal(node_of(p[i]), 0);
    }
    for (int i = 0; i < 100; i++)
        quire_cache_free(c, p[i]);
    quire_cache_free(c, local);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* ---- failures ---- */

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

/* Each frame, then each object, that the calls ask for is refused once. */
/* proves: TRAP-18 */
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

/* ---- threads ---- */

#define THREADS 4
#define SLOTS   64

static struct quire_cache *shared_cache;
static void *mailbox[SLOTS];

/* Take, write, check, free; and exchange objects with the others through mailboxes, so that many
 * are freed on another CPU and another node than they came from. */
static void *churn(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    uint64_t seed = cpu * 977 + 1;
    void *held[200] = {0};

    hosted_cpu_set(cpu);
    for (int i = 0; i < 60000; i++) {
        unsigned k;
        uint64_t *p;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        k = (unsigned)(seed >> 33) % 200;
        p = held[k];
        if (p) {
            assert_true(p[0] == (uint64_t)(uintptr_t)p && p[7] == ~p[0]);
            if (seed >> 60 == 0)
                p = __atomic_exchange_n(&mailbox[k % SLOTS], p, __ATOMIC_ACQ_REL);
            held[k] = NULL;
            if (p) {
                assert_true(p[0] == (uint64_t)(uintptr_t)p && p[7] == ~p[0]);
                p[0] = 0;
                quire_cache_free(shared_cache, p);
            }
        } else {
            p = held[k] = quire_cache_alloc(shared_cache, QUIRE_GFP_KERNEL);
            assert_non_null(p);
            p[0] = (uint64_t)(uintptr_t)p;
            p[7] = ~p[0];
        }
        if (i % 1000 == 0) {
            void *q = quire_kmalloc(seed >> 50, QUIRE_GFP_KERNEL);

            quire_kfree(q);
            if (cpu == 1)
                quire_heap_shrink();
            if (cpu == 2)
                heap_stats("shared");
        }
    }
    for (int k = 0; k < 200; k++)
        if (held[k])
            quire_cache_free(shared_cache, held[k]);
    return NULL;
}

/* Free, cached and taken objects add up when all is quiet, on one node and on two. */
/* proves: TRAP-4 AS-31 */
static void threads_lose_nothing(void **state)
{
    pthread_t t[THREADS];
    struct quire_cache_stats s;

    (void)state;
    shared_cache = cache("shared", 64, 0, 0);
    memset(mailbox, 0, sizeof mailbox);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    heap_sound();
    for (int i = 0; i < SLOTS; i++)
        if (mailbox[i])
            quire_cache_free(shared_cache, mailbox[i]);
    s = heap_stats("shared");
    assert_int_equal(s.active, 0);
    assert_int_equal(s.allocs, s.frees);
    heap_sound();
    assert_int_equal(quire_cache_destroy(shared_cache), QUIRE_OK);
    expect_nothing_lost();
}

#define TEST(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define NODES(f) cmocka_unit_test_setup_teardown(f, setup_nodes, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(objects_are_reused),
        TEST(slab_pages_are_flagged),
        TEST(sizes_and_alignments),
        TEST(bad_caches_are_refused),
        TEST(constructors_run_once),
        TEST(zeroing_caches_zero),
        TEST(bulk_is_all_or_none),
        TEST(destroy_names_what_is_out),
        TEST(shrink_returns_empty_slabs),
        TEST(kmalloc_classes),
        TEST(kmalloc_refuses_the_impossible),
        TEST(two_of_size_zero_differ),
        TEST(krealloc_keeps_the_content),
        TEST(kzalloc_zeroes),
        TEST(kmalloc_dma_is_low),
        TEST(double_free_in_every_tier),
        TEST(a_race_of_two_frees_is_caught_at_the_slab),
        TEST(foreign_pointers_are_caught),
        TEST(every_wrong_byte_is_refused),
        TEST(red_zones_catch_each_byte),
        TEST(poison_catches_use_after_free),
        TEST(verify_finds_damage),
        TEST(counts_are_exact_at_rest),
        TEST(slabinfo_is_linux_text),
        NODES(objects_stay_on_their_node),
        NODES(an_empty_node_falls_back),
        TEST(every_allocation_may_fail),
        TEST(failures_come_when_asked),
        TEST(exhaustion_is_survived),
        TEST(threads_lose_nothing),
        NODES(threads_lose_nothing),
    };

    test_seed("heap_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
