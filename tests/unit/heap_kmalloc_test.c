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

/* DMA memory of any size is below the limit, or NULL.
 * proves: VM-19 TRAP-5 */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(kmalloc_classes),
        TEST(kmalloc_refuses_the_impossible),
        TEST(two_of_size_zero_differ),
        TEST(krealloc_keeps_the_content),
        TEST(kzalloc_zeroes),
        TEST(kmalloc_dma_is_low),
        TEST(krealloc_down_never_fails),
        TEST(krealloc_clears_what_is_new),
        TEST(nothing_of_low_memory),
    };

    test_seed("heap_kmalloc_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
