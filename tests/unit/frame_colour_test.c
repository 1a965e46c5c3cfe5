/*
 * frame_colour_test.c - frames by colour: what a cache's shape says, that a colour is exact while there is
 * one, what comes when there is none, and that nothing changes for others.
 */
#include "frame_machine.h"

#include <frame/zone.h>
#include <quire/colour.h>

static const unsigned counts[] = {2, 3, 16, 64, 100, 512, 1000, QUIRE_MAX_COLOURS};

static void colours(unsigned n) { assert_int_equal(quire_frame_set_colours(n), QUIRE_OK); }

/* Frames of the colour that the allocator has. */
static uint64_t frames_of(unsigned colour, unsigned n)
{
    uint64_t found = 0;

    for (uint64_t pfn = colour; pfn < qi_top_frame; pfn += n)
        found += (quire_page_flags(Q_PFN(pfn)) & QUIRE_PG_FREE) != 0;
    return found;
}

static void colours_follow_from_the_cache(void **state)
{
    static const struct quire_cpu_cache caches[] = {
        {.level = 1, .kind = QUIRE_CACHE_DATA, .ways = 8, .line = 64, .sets = 64},
        {.level = 1, .kind = QUIRE_CACHE_CODE, .ways = 8, .line = 64, .sets = 64},
        {.level = 2, .kind = QUIRE_CACHE_UNIFIED, .ways = 16, .line = 64, .sets = 2048},
        {.level = 3, .kind = QUIRE_CACHE_UNIFIED, .ways = 16, .line = 64, .sets = 16384},
    };
    struct quire_cpu_cache c = caches[3];

    (void)state;
    assert_int_equal(quire_cache_bytes(&caches[0]), 32 * 1024);
    assert_int_equal(quire_cache_colours(&caches[0]), 1); /* a way is a page: no choice */
    assert_int_equal(quire_cache_colours(&caches[2]), 32);
    assert_int_equal(quire_cache_colours(&caches[3]), 256);
    assert_int_equal(quire_caches_colours(caches, 4), 256);
    assert_int_equal(quire_caches_colours(caches, 3), 32);
    assert_int_equal(quire_caches_colours(caches + 1, 1), 1); /* code only */
    assert_int_equal(quire_caches_colours(NULL, 0), 1);
    c.sets = 1u << 20;
    assert_int_equal(quire_cache_colours(&c), QUIRE_MAX_COLOURS);
    c.sets = 1;
    assert_int_equal(quire_cache_colours(&c), 1);
}

/* 1 to 4096 of them; with one, all is as ever. */
/* proves: X-33 */
static void colours_are_off_unless_asked_for(void **state)
{
    struct quire_colouring next = {0};
    struct quire_colour_stats before, after;
    struct quire_page *p[8];

    (void)state;
    machine(0, 64 * MIB);
    assert_int_equal(quire_frame_colours(), 1);
    assert_int_equal(quire_frame_set_colours(0), QUIRE_INVALID);
    assert_int_equal(quire_frame_set_colours(QUIRE_MAX_COLOURS + 1), QUIRE_INVALID);
    assert_int_equal(quire_frame_colours(), 1);
    quire_colour_stats(&before);
    for (unsigned i = 0; i < 8; i++) {
        p[i] = i & 1 ? quire_page_alloc_colour(i, QUIRE_GFP_USER, ANY)
                     : quire_page_alloc_next(&next, QUIRE_GFP_USER, ANY);
        assert_non_null(p[i]);
        assert_int_equal(quire_page_colour(p[i]), 0);
    }
    quire_colour_stats(&after);
    assert_memory_equal(&before, &after, sizeof before);
    for (unsigned i = 0; i < 8; i++)
        quire_page_free(p[i], 0);
    colours(QUIRE_MAX_COLOURS);
    assert_int_equal(quire_frame_colours(), QUIRE_MAX_COLOURS);
    colours(1);
}

#define TRIES 16u /* whole blocks that a request looks at, at most */

/* A request of the type had to find a frame of the colour in the zone: all blocks of its type are looked at, for
 * there are but 64, and whole ones if they are few. */
static bool had_to_be_found(const struct qi_zone *z, unsigned colour, unsigned n, unsigned type)
{
    unsigned whole = 0;
    bool in_whole = false;

    for (uint32_t i = 0; i < z->nblocks; i++) {
        const struct qi_block *b = &z->blocks[i];
        bool is_whole = qi_zone_is_whole(z, i);

        whole += is_whole;
        if (!is_whole && (b->state != QI_BLOCK_PART || qi_block_type(b) != type))
            continue;
        for (unsigned f = 0; f < QI_BLOCK_FRAMES; f++)
            if ((qi_block_pfn(z, i) + f) % n == colour) {
                in_whole |= is_whole;
                if (!is_whole && z->bits[i][f / 64] >> f % 64 & 1)
                    return true;
            }
    }
    return in_whole && whole < TRIES; /* one may have been broken since */
}

/* While there are such frames, that is what comes, whatever the number of colours. */
/* proves: X-33 */
static void a_colour_is_exact(void **state)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];

    (void)state;
    for (unsigned k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        unsigned others = 0;

        machine(0, 128 * MIB);
        blocks_all(before);
        colours(counts[k]);
        for (unsigned i = 0; i < 2000; i++) {
            unsigned want = (unsigned)test_random_below(counts[k]);
            bool user = test_random_below(2);

            held[i] = quire_page_alloc_colour(
                want, (user ? QUIRE_GFP_USER : QUIRE_GFP_KERNEL) | QUIRE_GFP_ZERO, ANY);
            assert_non_null(held[i]);
            assert_int_equal(quire_pfn_of_page(held[i]).v % counts[k], quire_page_colour(held[i]));
            if (quire_page_colour(held[i]) != want) { /* 8 frames have it if there are 4096 */
                others++;
                assert_false(had_to_be_found(qi_zone_by(0, QUIRE_ZONE_DMA32), want, counts[k],
                                             user ? QUIRE_MOVABLE : QUIRE_UNMOVABLE));
            }
            assert_int_equal(held[i]->refs, 1);
            assert_int_equal(*(uint64_t *)quire_page_ptr(held[i]), 0);
            *(uint64_t *)quire_page_ptr(held[i]) = i + 1;
        }
        healthy();
        assert_in_range(others, 0, counts[k] < 512 ? 0 : 20);
        for (unsigned i = 0; i < 2000; i++)
            assert_int_equal(*(uint64_t *)quire_page_ptr(held[i]), i + 1);
        give_back(2000, 0);
        quire_frame_drain();
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
        healthy();
        colours(1);
    }
}

/* Each colour as often as the others. */
/* proves: X-33 */
static void rounds_spread_evenly(void **state)
{
    struct quire_colouring next = {0};
    unsigned n[64] = {0};

    (void)state;
    machine(0, 64 * MIB);
    colours(64);
    for (unsigned i = 0; i < 64 * 20; i++) {
        held[i] = quire_page_alloc_next(&next, QUIRE_GFP_USER, ANY);
        n[quire_page_colour(held[i])]++;
        if (i)
            assert_int_equal(quire_page_colour(held[i]), (quire_page_colour(held[i - 1]) + 1) % 64);
    }
    for (unsigned c = 0; c < 64; c++)
        assert_int_equal(n[c], 20);
    give_back(64 * 20, 0);
    colours(1);
}

/* Every frame of the colour can be had; then others come, until memory ends. */
/* proves: X-33 */
static void another_colour_comes_when_one_is_exhausted(void **state)
{
    struct quire_colour_stats start, end;
    uint64_t all, of_colour, n = 0, plain;

    (void)state;
    machine(0, 64 * MIB);
    plain = exhaust(0, QUIRE_GFP_USER);
    give_back(plain, 0);
    quire_frame_drain();
    colours(16);
    all = quire_free_pages();
    of_colour = frames_of(5, 16);
    assert_in_range(of_colour, all / 16 - 2, all / 16 + 2);
    quire_colour_stats(&start);
    while ((held[n] = quire_page_alloc_colour(5, QUIRE_GFP_USER, ANY))) {
        assert_int_equal(quire_page_colour(held[n]) == 5, n < of_colour);
        n++;
    }
    quire_colour_stats(&end);
    assert_int_equal(end.exact - start.exact, of_colour);
    assert_int_equal(end.other - start.other, n - of_colour + 1); /* and the one that failed */
    assert_int_equal(n, plain);                                   /* reserves are kept as ever */
    healthy();
    give_back(n, 0);
    healthy();
    colours(1);
}

/* A colour is looked for on the node that was asked for, and not on others. */
static void the_node_matters_more(void **state)
{
    static const uint8_t nodes[] = {0, 1};

    (void)state;
    map_start(64 * MIB);
    map_add(0, 32 * MIB, 0);
    map_add(32 * MIB, 32 * MIB, 1);
    boot(2, 2, nodes, NULL);
    colours(8);
    for (unsigned i = 0; i < 400; i++) {
        held[i] = quire_page_alloc_colour(i, QUIRE_GFP_USER, i & 16 ? 1 : 0);
        assert_int_equal(quire_page_node(held[i]), i & 16 ? 1 : 0);
        assert_int_equal(quire_page_colour(held[i]), i % 8);
    }
    give_back(400, 0);
    healthy();
    colours(1);
}

static void injected_failures_count_it(void **state)
{
    (void)state;
    machine(0, 64 * MIB);
    colours(8);
    quire_frame_fail_after(1);
    assert_null(quire_page_alloc_colour(3, QUIRE_GFP_USER, ANY));
    quire_frame_fail_after(-1);
    colours(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colours_follow_from_the_cache),
        cmocka_unit_test(colours_are_off_unless_asked_for),
        cmocka_unit_test(a_colour_is_exact),
        cmocka_unit_test(rounds_spread_evenly),
        cmocka_unit_test(another_colour_comes_when_one_is_exhausted),
        cmocka_unit_test(the_node_matters_more),
        cmocka_unit_test(injected_failures_count_it),
    };

    test_seed("frame_colour_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
