/*
 * frame_area_test.c - where free frames are kept: bitmaps below 2 MiB, buddies above, lists by the order of what
 * is free and by migrate type.
 */
#include <frame_machine.h>

#include <frame/zone.h>

enum { PATTERN = 0x5a };

static struct qi_zone *zone;

static uint32_t block_of(const struct quire_page *p)
{
    return qi_block_of(zone, quire_pfn_of_page(p).v);
}

static void start(void)
{
    machine(16 * MIB, 64 * MIB);
    zone = &qi_zones[0];
    /* the bitmaps of whole blocks say nothing, so nobody may look at them or change them */
    for (uint32_t i = 0; i < zone->nblocks; i++)
        if (zone->blocks[i].state != QI_BLOCK_PART)
            memset(zone->bits[i], PATTERN, sizeof zone->bits[i]);
}

static bool has_pattern(uint32_t i)
{
    for (size_t b = 0; b < sizeof zone->bits[i]; b++)
        if (((const uint8_t *)zone->bits[i])[b] != PATTERN)
            return false;
    return true;
}

/* Up to 256 frames are bits of one pageblock; from 512 on whole pageblocks are split and merged as
 * buddies, and no bitmap is touched.
 * proves: VE-01 */
static void bitmaps_below_buddies_above(void **state)
{
    (void)state;
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        struct quire_page *p;
        unsigned first;
        uint32_t i;

        start();
        p = get(order);
        quire_frame_drain(); /* what was taken with it */
        i = block_of(p);
        first = quire_pfn_of_page(p).v % QI_BLOCK_FRAMES;
        if (order >= QI_BLOCK_ORDER) {
            assert_int_equal(zone->blocks[i].state, QI_BLOCK_USED);
            for (unsigned k = 0; k < 1u << (order - QI_BLOCK_ORDER); k++)
                assert_true(has_pattern(i + k));
        } else {
            assert_int_equal(zone->blocks[i].state, QI_BLOCK_PART);
            for (unsigned f = 0; f < QI_BLOCK_FRAMES; f++)
                assert_int_equal(zone->bits[i][f / 64] >> f % 64 & 1,
                                 f < first || f >= first + (1u << order));
        }
        healthy();
        quire_page_free(p, order);
        quire_frame_drain();
        assert_true(qi_zone_is_whole(zone, i));
        healthy();
    }
}

/* Maximal free blocks of each order of a type, counted from its lists alone: each block on a list is looked
 * at by its bitmap. */
static void count_lists(unsigned type, uint64_t out[QUIRE_MAX_ORDER + 1])
{
    memset(out, 0, (QUIRE_MAX_ORDER + 1) * sizeof *out);
    for (unsigned l = 0; l < QI_PART_LISTS; l++)
        for (uint32_t i = zone->part[type][l]; i != QI_NONE; i = zone->blocks[i].next) {
            assert_int_equal(zone->blocks[i].type, type);
            unsigned order = qi_bits_max_order(zone->bits[i], QI_BITS_MAX_ORDER);

            assert_in_range(l, qi_first_list[order],
                            order < QI_BITS_MAX_ORDER ? qi_first_list[order + 1] - 1u : 60);
            qi_bits_census(zone->bits[i], out);
        }
    for (unsigned l = 0; type == QUIRE_MOVABLE && l < QI_BIG_LISTS; l++)
        for (uint32_t i = zone->big[l]; i != QI_NONE; i = zone->blocks[i].next)
            out[QI_BLOCK_ORDER + l]++;
}

/* Every free frame is on the list of its type and of the order of what it is free in, the zone's counts by
 * order and type say the same, and a request is served from its own type's lists.
 * proves: LX-15 AS-07 */
static void lists_by_order_and_type(void **state)
{
    static const quire_gfp gfps[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_MOVABLE, QUIRE_GFP_RECLAIMABLE};
    struct quire_page *mine[600] = {NULL};
    uint8_t orders[600];

    (void)state;
    start();
    for (unsigned step = 0; step < 4000; step++) {
        size_t k = test_random_below(600);
        unsigned type = (unsigned)(k % 3);

        if (mine[k]) {
            quire_page_free(mine[k], orders[k]);
            mine[k] = NULL;
        } else {
            orders[k] = test_random_below(4) ? 0 : (uint8_t)test_random_below(QUIRE_MAX_ORDER + 1);
            mine[k] = quire_page_alloc(orders[k], gfps[type], ANY);
        }
        if (step % 50)
            continue;
        quire_frame_drain();
        healthy();
        {
            struct quire_zone_types types;
            uint64_t frames = 0, lists[QUIRE_MAX_ORDER + 1];

            assert_int_equal(quire_zone_types(0, &types), QUIRE_OK);
            for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
                count_lists(t, lists);
                assert_memory_equal(lists, types.free_blocks[t], sizeof lists);
                for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
                    frames += lists[o] << o;
            }
            assert_int_equal(frames, zone->free);
            assert_int_equal(QI_COUNT(lists), QUIRE_MAX_ORDER + 1);
        }
    }
    for (unsigned k = 0; k < 600; k++)
        if (mine[k])
            quire_page_free(mine[k], orders[k]);
    /* On a new machine, for a block may have been claimed for good: a block for each type, with all but
     * one frame free, which is one run of each order below 9 on its own lists, from which the next request
     * of that type is served. */
    start();
    for (unsigned t = 0; t < 3; t++)
        mine[t] = quire_page_alloc(0, gfps[t], ANY);
    quire_frame_drain();
    for (unsigned t = 0; t < 3; t++) {
        uint64_t lists[QUIRE_MAX_ORDER + 1];
        struct quire_page *p;

        count_lists(t, lists);
        for (unsigned o = 0; o < QI_BLOCK_ORDER; o++)
            if (t != QUIRE_MOVABLE) /* whose lists have what is left beside the boot's own tables */
                assert_int_equal(lists[o], 1);
        for (unsigned o = 0; o < QI_BLOCK_ORDER; o++) {
            p = quire_page_alloc(o, gfps[t], ANY);
            assert_int_equal(zone->blocks[block_of(p)].type, t);
            assert_true(t == QUIRE_MOVABLE || block_of(p) == block_of(mine[t]));
            quire_page_free(p, o);
            quire_frame_drain();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmaps_below_buddies_above),
        cmocka_unit_test(lists_by_order_and_type),
    };

    test_seed("frame_area_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
