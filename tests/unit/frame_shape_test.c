/*
 * frame_shape_test.c - shapes of memory that traps are made of: odd borders, holes, splitting, merging.
 */
#include <frame_machine.h>

/* proves: TRAP-1 VM-13 VE-03 */
static void odd_sized_zones(void **state)
{
    static const struct {
        uint64_t base, len;
    } shapes[] = {
        {0x123000, 0x1357000},
        {4096, 511 * 4096},
        {0, 5 * MIB + 12288},
        {2 * MIB - 4096, 50 * 4096},
        {15 * MIB + 4096, 9 * MIB},
        {16 * MIB - 4096, 3 * MIB + 4096},
        {33 * MIB + 4096 * 77, 61 * MIB + 4096 * 3},
    };

    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        machine(shapes[i].base, shapes[i].len);
        exhaust_every_order();
    }
    /* holes and reservations inside pageblocks */
    map_start(64 * MIB);
    for (uint64_t at = 4096 * 3; at < 48 * MIB; at += 5 * MIB + 4096 * 7)
        map_add(at, 4 * MIB + 4096 * 5, 0);
    for (uint64_t at = MIB; at < 48 * MIB; at += 7 * MIB)
        assert_int_equal(quire_memmap_reserve(&map, Q_PA(at), 4096 * 9, "hole", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    exhaust_every_order();
}

/* proves: TRAP-2 */
static void bases_not_aligned_to_the_largest_order(void **state)
{
    (void)state;
    for (uint64_t k = 1; k < 4; k++) {
        /* 2, 6 and 10 MiB: odd multiples of a pageblock, against blocks of 4 MiB */
        machine((2 * k + 1) * 2 * MIB, 30 * MIB);
        /* after each step of a descent and an ascent everything still fits together */
        for (unsigned step = 0; step < 30; step++) {
            held[step] = get(step % (QUIRE_MAX_ORDER + 1));
            healthy();
        }
        for (unsigned step = 0; step < 30; step++) {
            quire_page_free(held[step * 7 % 30], step * 7 % 30 % (QUIRE_MAX_ORDER + 1));
            healthy();
        }
        exhaust_every_order();
    }
}

/* The smallest free block that serves is the one that is used; larger ones are split only if need
 * be, in halves, and the halves that are not needed are free blocks.
 * proves: VM-12 VM-14 VE-03 */
static void split_in_halves(void **state)
{
    struct quire_page *a, *b, *c;

    (void)state;
    machine(16 * MIB, 4 * MIB); /* the top of it holds the allocator's own data */
    a = get(9);                 /* so that one pageblock, free but for that data, is left */
    for (unsigned o = 0; o <= 8; o++)
        while (blocks_of(o))
            get(o), quire_frame_drain();
    quire_page_free(a, 9);
    assert_int_equal(blocks_of(9), 1);

    a = get(4);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o >= 4 && o <= 8); /* 32 + 64 + ... + 256 pages + the 16 */
    b = get(5);                                           /* the one of order 5: nothing is split */
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o == 4 || (o >= 6 && o <= 8));
    c = get(4); /* the buddy of a, not a half of anything larger */
    assert_int_equal(quire_pfn_of_page(c).v ^ quire_pfn_of_page(a).v, 16);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o >= 6 && o <= 8);
    quire_page_free(c, 4); /* its buddy is in use: it stays a block of order 4 */
    assert_int_equal(blocks_of(4), 1);
    quire_page_free(a, 4); /* merges with it, not with b */
    assert_int_equal(blocks_of(4), 0);
    assert_int_equal(blocks_of(5), 1);
    quire_page_free(b, 5); /* and now all the way up */
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o == 9);
    healthy();
}

/* Above 2 MiB as below.
 * proves: VM-12 VM-13 */
static void whole_blocks_split_and_merge(void **state)
{
    struct quire_page *a, *b;

    (void)state;
    machine(16 * MIB, 5 * MIB);
    assert_int_equal(blocks_of(10), 1);
    a = get(9);
    assert_int_equal(blocks_of(10), 0);
    assert_int_equal(blocks_of(9), 1);
    b = get(9);
    assert_int_equal(quire_pfn_of_page(a).v ^ quire_pfn_of_page(b).v, 512);
    quire_page_free(a, 9);
    quire_page_put(b);
    assert_int_equal(blocks_of(9), 0);
    assert_int_equal(blocks_of(10), 1);
    assert_null(quire_page_alloc(QUIRE_MAX_ORDER + 1, QUIRE_GFP_MEMALLOC, ANY));
    healthy();
}

/* proves: VE-09 VE-10 */
static void reserved_frames_are_never_handed_out(void **state)
{
    static const char *const owners[] = {"BIOS", "kernel", "ACPI"};
    static const uint64_t bases[] = {0, 2 * MIB + 4096, 20 * MIB + 8192};
    size_t n;

    (void)state;
    map_start(32 * MIB);
    map_add(0, 32 * MIB, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(quire_memmap_reserve(&map, Q_PA(bases[i]), MIB, owners[i], NULL),
                         QUIRE_OK);
    boot(1, 1, NULL, NULL);
    n = exhaust(0, QUIRE_GFP_MEMALLOC); /* checks the owner of each frame */
    assert_int_equal(n, quire_managed_pages());
    give_back(n, 0);
}

/* Nodes whose border lies inside a pageblock, and whose spans interleave.
 * proves: TRAP-1 */
static void nodes_that_share_a_pageblock(void **state)
{
    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 9 * MIB + 4096 * 5, 0);
    map_add(25 * MIB + 4096 * 5, 10 * MIB, 1);
    map_add(40 * MIB, 7 * MIB + 4096, 0);
    boot(2, 1, NULL, NULL);
    assert_int_equal(zone_stats(0).present + zone_stats(1).present, (26 * MIB + 4096 * 6) / 4096);
    exhaust_every_order();
}

/* The last pageblock of a zone has no buddy: the zone ends after an odd number of them, whole. */
static void a_zone_of_odd_pageblocks(void **state)
{
    struct quire_page *p[3];

    (void)state;
    map_start(4 * GIB + 128 * MIB);
    map_add(16 * MIB, 6 * MIB, 0);
    map_add(4 * GIB, 128 * MIB, 0); /* the allocator's own data lies here */
    boot(1, 1, NULL, NULL);
    for (unsigned i = 0; i < 3; i++) {
        p[i] = quire_page_alloc(9, QUIRE_GFP_DMA32 | QUIRE_GFP_MEMALLOC, ANY);
        assert_non_null(p[i]);
    }
    assert_null(quire_page_alloc(0, QUIRE_GFP_DMA32 | QUIRE_GFP_MEMALLOC, ANY));
    for (unsigned i = 0; i < 3; i++)
        quire_page_free(p[i], 9);
    assert_int_equal(zone_stats(0).free_blocks[9], 1);
    assert_int_equal(zone_stats(0).free_blocks[10], 1);
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_sized_zones),
        cmocka_unit_test(bases_not_aligned_to_the_largest_order),
        cmocka_unit_test(split_in_halves),
        cmocka_unit_test(whole_blocks_split_and_merge),
        cmocka_unit_test(reserved_frames_are_never_handed_out),
        cmocka_unit_test(nodes_that_share_a_pageblock),
        cmocka_unit_test(a_zone_of_odd_pageblocks),
    };

    test_seed("frame_shape_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
