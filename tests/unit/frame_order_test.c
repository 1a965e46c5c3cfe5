/*
 * frame_order_test.c - blocks of up to 16 MiB: the library built with QUIRE_MAX_ORDER 12, where a buddy
 * may be split while its whole is not.
 */
#include <frame_machine.h>

/* The allocator's own data lies in the zone above, so that this one is three runs of 16 MiB. */
static void three_large_blocks(void)
{
    map_start(4 * GIB + 32 * MIB);
    map_add(16 * MIB, 48 * MIB, 0);
    map_add(4 * GIB, 32 * MIB, 0);
    boot(1, 1, NULL, NULL);
    assert_int_equal(zone_stats(0).free_blocks[12], 3);
    assert_int_equal(zone_stats(0).free, 3 * 4096);
}

static struct quire_page *low(unsigned order)
{
    return quire_page_alloc(order, QUIRE_GFP_DMA32 | QUIRE_GFP_MEMALLOC, ANY);
}

/* How many free blocks of the orders 9 to 12 there are. */
static void expect_blocks(uint64_t n9, uint64_t n10, uint64_t n11, uint64_t n12)
{
    struct quire_zone_stats s = zone_stats(0);

    assert_int_equal(s.free_blocks[9], n9);
    assert_int_equal(s.free_blocks[10], n10);
    assert_int_equal(s.free_blocks[11], n11);
    assert_int_equal(s.free_blocks[12], n12);
    healthy();
}

/* A free block is not merged with a half of its buddy.
 * proves: VM-12 VM-13 */
static void a_split_buddy_is_no_buddy(void **state)
{
    struct quire_page *a, *b, *c;

    (void)state;
    three_large_blocks();
    a = low(10);
    b = low(9);
    c = low(9);
    assert_int_equal(quire_pfn_of_page(b).v, quire_pfn_of_page(a).v + 1024);
    assert_int_equal(quire_pfn_of_page(c).v, quire_pfn_of_page(b).v + 512);
    expect_blocks(0, 0, 1, 2);
    quire_page_free(b, 9);
    quire_page_free(a, 10); /* beside it lies b, free, but only half of what would fit */
    expect_blocks(1, 1, 1, 2);
    quire_page_free(c, 9); /* and now all of it, up to the largest */
    expect_blocks(0, 0, 0, 3);
}

/* All orders at random; whatever happened, what is free at the end is what was free at first. */
static void all_orders_split_and_merge(void **state)
{
    static struct quire_page *p[64];
    static unsigned orders[64];

    (void)state;
    three_large_blocks();
    for (unsigned step = 0; step < 3000; step++) {
        unsigned i = (unsigned)test_random_below(64);

        if (p[i]) {
            assert_int_equal(quire_page_order(p[i]), orders[i]);
            quire_page_free(p[i], orders[i]);
            p[i] = NULL;
        } else {
            orders[i] = 6 + (unsigned)test_random_below(7);
            p[i] = low(orders[i]);
            if (p[i])
                assert_int_equal(quire_pfn_of_page(p[i]).v & ((1u << orders[i]) - 1), 0);
        }
        if (step % 16 == 0)
            healthy();
    }
    for (unsigned i = 0; i < 64; i++)
        if (p[i])
            quire_page_free(p[i], orders[i]);
    quire_frame_drain();
    expect_blocks(0, 0, 0, 3);
    assert_null(quire_page_alloc(13, QUIRE_GFP_MEMALLOC, ANY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_buddy_is_no_buddy),
        cmocka_unit_test(all_orders_split_and_merge),
    };

    test_seed("frame_order_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
