/*
 * kva_kvmalloc_test.c - memory of any size, of the heap or of an area, against a byte model.  Areas are
 * written and read through the direct map: no kernel address is mapped in a hosted process.
 */
#include <kva_suite.h>

static bool is_area(const void *p) { return (uintptr_t)p >= AREAS; }

static uint8_t *see(void *p)
{
    uint8_t *at = is_area(p) ? at_kernel_address(p) : p;

    assert_non_null(at);
    return at;
}

static uint8_t byte_of(unsigned seed, size_t i) { return (uint8_t)(seed + i * 7 + i / 4096); }

/* Every 61st byte. */
static void each(uint8_t *p, size_t n, unsigned seed, bool write)
{
    for (size_t i = 0; i < n; i += 61)
        if (write)
            *see(p + i) = byte_of(seed, i);
        else if (*see(p + i) != byte_of(seed, i))
            fail_msg("byte %zu of %zu changed", i, n);
}

static void expect_zero(uint8_t *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        assert_int_equal(*see(p + i), 0);
}

/* From the heap to an area, in areas, and back: min(old, new) bytes stay. */
/* proves: X-15 AS-37 */
static void content_moves_between_heap_and_areas(void **state)
{
    static const size_t steps[] = {100,   5000,  32768, 32769,  70000, 3 << 20, 100000,
                                   40000, 16000, 300,   200000, 1,     5 << 20, 7};
    uint64_t before = frames_left();
    size_t have = 10;
    uint8_t *p = quire_kvrealloc(NULL, have, QUIRE_GFP_KERNEL);
    bool heap = false, area = false;

    (void)state;
    each(p, have, 1, true);
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        p = quire_kvrealloc(p, steps[i], QUIRE_GFP_KERNEL);
        assert_non_null(p);
        assert_true(quire_kvsize(p) >= steps[i]);
        heap |= !is_area(p);
        area |= is_area(p);
        each(p, steps[i] < have ? steps[i] : have, i + 1, false);
        have = steps[i];
        each(p, have, i + 2, true);
    }
    assert_true(heap && area);
    assert_null(quire_kvrealloc(p, 0, QUIRE_GFP_KERNEL));
    assert_int_equal(frames_left(), before);
}

/* Random sizes, also those that the heap has no run for. */
/* proves: X-15 */
static void random_sizes_keep_their_content(void **state)
{
    enum { N = 12 };
    struct {
        uint8_t *p;
        size_t n;
        unsigned seed;
    } b[N] = {0};
    uint64_t before = frames_left();

    (void)state;
    for (int round = 0; round < 1500; round++) {
        unsigned k = (unsigned)test_random_below(N);
        size_t n = 1 + test_random_below(1ull << (4 + test_random_below(16)));
        uint8_t *p;

        if (!test_random_below(3))
            quire_heap_fail_after(1);
        p = test_random_below(5) ? quire_kvrealloc(b[k].p, n, QUIRE_GFP_KERNEL)
                                 : quire_kvrealloc(b[k].p, n = 0, QUIRE_GFP_KERNEL);
        quire_heap_fail_after(-1);
        if (p || !n) {
            if (b[k].p && p)
                each(p, b[k].n < n ? b[k].n : n, b[k].seed, false);
            b[k].p = p;
            b[k].n = n;
            b[k].seed = (unsigned)round;
            if (p)
                each(p, n, b[k].seed, true);
        } else if (b[k].p) {
            each(b[k].p, b[k].n, b[k].seed, false);
        }
        if (b[k].p && !n) {
            quire_kvfree(b[k].p);
            b[k].p = NULL;
        }
    }
    for (unsigned k = 0; k < N; k++)
        quire_kvfree(b[k].p);
    assert_int_equal(frames_left(), before);
}

/* proves: X-15 TRAP-18 */
static void arrays_and_zeros(void **state)
{
    uint64_t before = frames_left();
    uint8_t *p;

    (void)state;
    assert_null(quire_kvmalloc_array(SIZE_MAX / 2, 3, QUIRE_GFP_KERNEL));
    assert_null(quire_kvcalloc(1ull << 32, 1ull << 32, QUIRE_GFP_KERNEL));
    for (size_t n = 10; n < 400000; n *= 7) {
        p = quire_kvmalloc(n, QUIRE_GFP_KERNEL);
        each(p, n, 9, true);
        quire_kvfree(p);
        p = quire_kvcalloc(n, 3, QUIRE_GFP_KERNEL);
        expect_zero(p, 0, n * 3);
        quire_kvfree(p);
        p = quire_kvzalloc(n, QUIRE_GFP_KERNEL);
        expect_zero(p, 0, n);
        each(p, n, 3, true);
        p = quire_kvrealloc(p, n * 4, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
        each(p, n, 3, false);
        expect_zero(p, (n + 8191) & ~4095ull, n * 4);
        quire_kvfree(p);
    }
    assert_int_equal(frames_left(), before);
}

/* Smaller cannot fail; larger fails with the old content in place. */
/* proves: TRAP-18 X-15 */
static void a_refused_change_keeps_the_block(void **state)
{
    uint8_t *p = quire_kvmalloc(100000, QUIRE_GFP_KERNEL), *q;

    (void)state;
    each(p, 100000, 4, true);
    assert_null(quire_kvrealloc(p, 1ull << 32, QUIRE_GFP_KERNEL));
    each(p, 100000, 4, false);
    /* the heap says no: an area, though the rest fits the heap */
    quire_heap_fail_after(1);
    q = quire_kvrealloc(p, 20000, QUIRE_GFP_KERNEL);
    assert_false(quire_heap_fail_armed());
    quire_heap_fail_after(-1);
    assert_true(is_area(q));
    each(q, 20000, 4, false);
    /* neither has memory */
    while (quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY)) {
    }
    assert_null(quire_kvrealloc(q, 500000, QUIRE_GFP_KERNEL));
    quire_heap_fail_after(1);
    q = quire_kvrealloc(q, 9000, QUIRE_GFP_KERNEL);
    quire_heap_fail_after(-1);
    assert_non_null(q);
    each(q, 9000, 4, false);
    quire_kvfree(q);
}

/* Every second frame is free, so no two in a row are: the heap has nothing of two pages, an area has, of frames
 * that lie apart.  Before and after, when blocks can be had, the heap serves, whose memory is contiguous. */
/* proves: VM-11 LX-05 X-15 */
static void areas_serve_when_memory_is_in_pieces(void **state)
{
    enum { MOST = 64 * 256, SIZE = 32768 };
    static struct quire_page *page[MOST];
    uint8_t *p = quire_kvmalloc(SIZE, QUIRE_GFP_KERNEL);
    uint64_t apart = 0;
    size_t n = 0;

    (void)state;
    assert_false(is_area(p));
    for (size_t i = 0; i < SIZE; i += 4096)
        assert_int_equal(quire_pa_of_kla(Q_KLA((uintptr_t)p + i)).v,
                         quire_pa_of_kla(Q_KLA((uintptr_t)p)).v + i);
    quire_kvfree(p);
    quire_heap_drain();
    while (n < MOST && (page[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY)))
        n++;
    for (size_t i = 0; i < n; i++)
        if (quire_pfn_of_page(page[i]).v % 2)
            quire_page_free(page[i], 0);
    assert_null(quire_kmalloc(SIZE, QUIRE_GFP_KERNEL));
    assert_null(quire_kmalloc(8192, QUIRE_GFP_KERNEL));
    p = quire_kvmalloc(SIZE, QUIRE_GFP_KERNEL);
    assert_true(is_area(p));
    each(p, SIZE, 6, true);
    for (size_t i = 4096; i < SIZE; i += 4096)
        apart += see(p + i) != see(p + i - 4096) + 4096;
    assert_int_equal(apart, SIZE / 4096 - 1);
    each(p, SIZE, 6, false);
    quire_kvfree(p);
    for (size_t i = 0; i < n; i++)
        if (!(quire_pfn_of_page(page[i]).v % 2))
            quire_page_free(page[i], 0);
    quire_kva_purge();
    p = quire_kvmalloc(SIZE, QUIRE_GFP_KERNEL);
    assert_false(is_area(p));
    quire_kvfree(p);
}

static void a_sensitive_free_leaves_nothing(void **state)
{
    (void)state;
    quire_kvfree_sensitive(NULL);
    for (size_t n = 100; n < 100000; n *= 9) {
        uint8_t *p = quire_kvmalloc(n, QUIRE_GFP_KERNEL), *first = see(p), *last = see(p + n - 1);

        each(p, n, 77, true);
        quire_kvfree_sensitive(p);
        assert_int_equal(*first, 0);
        assert_int_equal(*last, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(content_moves_between_heap_and_areas),
        TEST(random_sizes_keep_their_content),
        TEST(arrays_and_zeros),
        TEST(a_refused_change_keeps_the_block),
        TEST(areas_serve_when_memory_is_in_pieces),
        TEST(a_sensitive_free_leaves_nothing),
    };

    test_seed("kva_kvmalloc_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
