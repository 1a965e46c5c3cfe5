/*
 * frame_contig_test.c - very ranges of frames: free ones, and such as have to be emptied; all or nothing.
 */
#include <frame_mover.h>

#include <frame/isolate.h>

#define BLOCK  ((uint64_t)QI_BLOCK_FRAMES)
#define START  (16 * MIB / QUIRE_PAGE_SIZE)
#define BLOCKS 24u
#define ALL    ((BLOCKS - 2) * BLOCK) /* the boot's own tables are in the last two */

static uint64_t managed;

static int setup(void **state)
{
    (void)state;
    machine(16 * MIB, BLOCKS * 2 * MIB);
    nmovables = 0;
    moved_frames = mover_calls = 0;
    managed = quire_managed_pages();
    return 0;
}

static void all_back(void)
{
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_free_pages(), managed);
    assert_int_equal(zone_stats(0).isolated, 0);
}

static enum quire_status take(uint64_t at, uint64_t n, quire_gfp gfp)
{
    return quire_alloc_contig_range(Q_PFN(START + at), n, gfp, QUIRE_MOVABLE);
}

/* Fill a part of memory with movable pages, and let every other of them go. */
static void fill(unsigned percent)
{
    while (quire_free_pages() > managed * (100 - percent) / 100)
        assert_non_null(movable_new(test_random_below(4) ? 0 : (unsigned)test_random_below(6)));
    for (size_t i = 0; i < nmovables; i += 2)
        movable_free(&movables[i]);
}

/* n frames from at on are ours: single pages with one reference. */
static void ours(uint64_t at, uint64_t n)
{
    for (uint64_t f = at; f < at + n; f++) {
        const struct quire_page *p = quire_page_of_pfn(Q_PFN(START + f));

        assert_int_equal(quire_page_flags(Q_PFN(START + f)) & 0xffff, 0);
        assert_int_equal(p->refs, 1);
        assert_int_equal(p->owner, 0);
    }
}

/* Any part of free memory, within a pageblock or over several. */
static void any_free_range_can_be_had(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        uint64_t n = 1 + test_random_below(i % 4 ? 100 : 3 * BLOCK);
        uint64_t at = test_random_below(ALL - n);

        assert_int_equal(take(at, n, 0), QUIRE_OK);
        ours(at, n);
        assert_int_equal(quire_free_pages(), managed - n);
        assert_int_equal(take(at + n / 2, 1, 0), QUIRE_BUSY); /* nobody can move it */
        healthy();
        quire_free_contig_range(Q_PFN(START + at), n);
        assert_int_equal(quire_free_pages(), managed);
        healthy();
    }
    all_back();
    exhaust_every_order();
}

/* Nothing but the range is taken while it is held: whoever takes all there is gets none of it. */
static void what_is_taken_is_the_takers(void **state)
{
    size_t n;

    (void)state;
    assert_int_equal(take(3 * BLOCK - 100, 700, 0), QUIRE_OK);
    n = exhaust(0, QUIRE_GFP_MEMALLOC);
    assert_int_equal(n, managed - 700);
    for (uint64_t f = 3 * BLOCK - 100; f < 3 * BLOCK + 600; f++)
        assert_false(owned[START + f]);
    give_back(n, 0);
    quire_free_contig_range(Q_PFN(START + 3 * BLOCK - 100), 700);
    all_back();
}

/* Ranges full of movable pages: their content is elsewhere, and nobody lost anything. */
static void used_ranges_are_emptied(void **state)
{
    (void)state;
    quire_frame_set_mover(movables_move);
    fill(80);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t n = 1 + test_random_below(i % 3 ? 300 : 2 * BLOCK);
        uint64_t at = test_random_below(ALL - n);
        uint64_t before;

        quire_frame_drain();
        before = quire_free_pages();
        assert_int_equal(take(at, n, 0), QUIRE_OK);
        ours(at, n);
        for (size_t k = 0; k < nmovables; k++) {
            uint64_t pfn = movables[k].page ? quire_pfn_of_page(movables[k].page).v - START : ALL;

            assert_true(pfn + (1u << movables[k].order) <= at || pfn >= at + n);
        }
        healthy();
        assert_int_equal(quire_free_pages(), before - n);
        for (uint64_t f = at; f < at + n; f++)
            memset(quire_page_ptr(quire_page_of_pfn(Q_PFN(START + f))), 0x77, QUIRE_PAGE_SIZE);
        movables_check();
        quire_free_contig_range(Q_PFN(START + at), n);
        assert_int_equal(quire_free_pages(), before);
    }
    assert_true(moved_frames > 4 * BLOCK / 10); /* most ranges met some */
    movables_free();
    all_back();
}

/* One page that stays in the middle: BUSY, nothing taken, nothing lost. */
static void one_page_that_stays_keeps_it(void **state)
{
    struct quire_page *fixed;
    uint64_t before, at;

    (void)state;
    quire_frame_set_mover(movables_move);
    fixed = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, QUIRE_GFP_MOVABLE, 0);
    at = quire_pfn_of_page(fixed).v - START;
    if (at >= ALL) { /* the first came from the part of a block at the end */
        size_t n = exhaust(0, QUIRE_GFP_MEMALLOC);

        quire_page_free(fixed, 0);
        fixed = held[n / 2];
        at = quire_pfn_of_page(fixed).v - START;
        held[n / 2] = held[n - 1];
        give_back(n - 1, 0);
    }
    fill(50);
    quire_frame_drain();
    before = quire_free_pages();
    for (uint64_t back = 0; back <= 100 && back <= at; back += 20)
        assert_int_equal(take(at - back, 130, 0), QUIRE_BUSY);
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_free_pages(), before);
    movables_check();
    fixed->flags |= QUIRE_PG_SLAB; /* of a kind that nobody can move: not even tried */
    mover_calls = 0;
    assert_int_equal(take(at, 1, 0), QUIRE_BUSY);
    assert_int_equal(mover_calls, 0);
    fixed->flags &= ~QUIRE_PG_SLAB;
    quire_page_free(fixed, 0);
    assert_int_equal(take(at - at % 100, 130, 0), QUIRE_OK);
    quire_free_contig_range(Q_PFN(START + at - at % 100), 130);
    movables_free();
    all_back();
}

/* As one block: of every order, also of whole pageblocks, freed like any other. */
static void compound_ranges(void **state)
{
    (void)state;
    for (unsigned order = 1; order <= QUIRE_MAX_ORDER; order++) {
        uint64_t n = 1ull << order;
        uint64_t at = (START + 4 * BLOCK + n - 1) / n * n - START;
        struct quire_page *p = quire_page_of_pfn(Q_PFN(START + at));

        assert_int_equal(take(at, n, QUIRE_GFP_COMPOUND | QUIRE_GFP_ZERO), QUIRE_OK);
        assert_int_equal(quire_page_order(p), order);
        assert_int_equal(p->refs, 1);
        assert_ptr_equal(quire_page_head(p + n - 1), p);
        for (uint64_t f = 0; f < n; f++)
            assert_int_equal(*movable_word(p, (unsigned)f, true), 0);
        memset(quire_page_ptr(p), 0x55, n * QUIRE_PAGE_SIZE);
        healthy();
        assert_int_equal(quire_free_pages(), managed - n);
        quire_page_free(p, order);
        all_back();
        assert_int_equal(take(at + 1, n, QUIRE_GFP_COMPOUND), QUIRE_INVALID);
    }
    exhaust_every_order();
}

/* Pages of a range that are freed one by one, or split from a block of it, are ordinary pages. */
static void freed_one_by_one(void **state)
{
    struct quire_page *p = quire_page_of_pfn(Q_PFN(START + 5 * BLOCK));

    (void)state;
    assert_int_equal(take(5 * BLOCK, BLOCK, 0), QUIRE_OK);
    for (unsigned f = 0; f < BLOCK; f++)
        quire_page_put(p + (f * 7) % BLOCK);
    all_back();
    if ((START / BLOCK + 5) % 2 == 0) {
        assert_int_equal(take(5 * BLOCK, BLOCK, QUIRE_GFP_COMPOUND), QUIRE_OK);
        quire_page_split(p);
        quire_free_contig_range(Q_PFN(START + 5 * BLOCK), BLOCK);
        all_back();
    }
    PANICS(quire_free_contig_range(Q_PFN(START + 5 * BLOCK), 3), "double free");
}

/* Search: memory in pieces, none of which is long enough; then with somebody who moves. */
static void a_range_is_found(void **state)
{
    struct quire_page *p;

    (void)state;
    fill(90);
    for (size_t i = 1; i < nmovables; i += 2) /* the pieces are everywhere */
        assert_non_null(movables[i].page);
    assert_null(quire_alloc_contig_pages(6 * BLOCK, 1, 0, ANY));
    assert_int_equal(zone_stats(0).isolated, 0);
    quire_frame_set_mover(movables_move);
    p = quire_alloc_contig_pages(6 * BLOCK, 64, QUIRE_GFP_ZERO, ANY);
    assert_non_null(p);
    assert_int_equal(quire_pfn_of_page(p).v % 64, 0);
    ours(quire_pfn_of_page(p).v - START, 6 * BLOCK);
    healthy();
    movables_check();
    for (unsigned f = 0; f < 6 * BLOCK; f += 97)
        assert_int_equal(*movable_word(p, f, false), 0);
    quire_free_contig_range(quire_pfn_of_page(p), 6 * BLOCK);
    assert_null(quire_alloc_contig_pages(managed + 1, 1, 0, ANY));
    assert_null(quire_alloc_contig_pages(4, 1, QUIRE_GFP_DMA, ANY)); /* no such zone */
    assert_null(quire_alloc_contig_pages(4, 3, 0, ANY));
    assert_null(quire_alloc_contig_pages(0, 1, 0, ANY));
    movables_free();
    all_back();
}

static uint64_t move_nothing(q_pfn start, uint64_t frames)
{
    (void)start, (void)frames;
    mover_calls++;
    return 0;
}

/* What does not move is passed by: a search tries as often as its range goes into memory, not from each frame. */
static void a_search_without_success_ends_soon(void **state)
{
    uint64_t one;

    (void)state;
    fill(90);
    quire_frame_set_mover(move_nothing);
    assert_int_equal(take(0, 6 * BLOCK, 0), QUIRE_BUSY);
    one = mover_calls;
    assert_true(one > 0);
    mover_calls = 0;
    assert_null(quire_alloc_contig_pages(6 * BLOCK, 1, 0, ANY));
    assert_true(mover_calls <= one * (BLOCKS / 6 + 1));
    movables_free();
    all_back();
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    assert_int_equal(take(0, 0, 0), QUIRE_INVALID);
    assert_int_equal(take(0, 1, QUIRE_GFP_DMA), QUIRE_INVALID);
    assert_int_equal(take(0, 3, QUIRE_GFP_COMPOUND), QUIRE_INVALID);
    assert_int_equal(take(0, 1, QUIRE_GFP_COMPOUND), QUIRE_INVALID);
    assert_int_equal(take(0, UINT64_MAX, 0), QUIRE_INVALID);
    assert_int_equal(take(0, BLOCKS * BLOCK + 1, 0), QUIRE_INVALID);
    assert_int_equal(quire_alloc_contig_range(Q_PFN(START), 1, 0, QUIRE_UNMOVABLE), QUIRE_INVALID);
    assert_int_equal(quire_alloc_contig_range(Q_PFN(START), 1, 0, QUIRE_CMA), QUIRE_INVALID);
    assert_int_equal(quire_alloc_contig_range(Q_PFN(100), 1, 0, QUIRE_MOVABLE), QUIRE_INVALID);
    /* reserved frames at the end: the boot's tables */
    assert_int_equal(take(BLOCKS * BLOCK - 1, 1, 0), QUIRE_INVALID);
    assert_int_equal(quire_frame_poison(Q_PFN(START + 100)), QUIRE_OK);
    assert_int_equal(take(90, 20, 0), QUIRE_BUSY);
    assert_int_equal(take(101, 20, 0), QUIRE_OK);
    quire_free_contig_range(Q_PFN(START + 101), 20);
    healthy();
}

/* ---- Isolation by itself ---- */

static void isolated_blocks_keep_what_comes_back(void **state)
{
    struct quire_page *big, *p[64];
    uint64_t at, free;

    (void)state;
    big = get(QI_BLOCK_ORDER + 1);
    for (unsigned i = 0; i < 64; i++)
        p[i] = get(0);
    quire_frame_drain();
    free = quire_free_pages();
    at = quire_pfn_of_page(big).v;
    /* the second half of the large block, and the block of the small ones */
    assert_int_equal(qi_isolate_range(at + BLOCK, at + 2 * BLOCK), QUIRE_OK);
    assert_int_equal(qi_isolate_range(at + BLOCK + 9, at + BLOCK + 10), QUIRE_BUSY);
    assert_int_equal(qi_isolate_range(at, at + 2 * BLOCK), QUIRE_BUSY);
    healthy();
    assert_int_equal(quire_free_pages(), free);
    quire_page_free(big, QI_BLOCK_ORDER + 1);
    healthy();
    assert_int_equal(quire_free_pages(), free + BLOCK); /* one half only */
    assert_int_equal(zone_stats(0).isolated, BLOCK);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        size_t n = exhaust(o, QUIRE_GFP_MEMALLOC);

        for (uint64_t f = 0; f < BLOCK; f++)
            assert_false(owned[at + BLOCK + f]);
        give_back(n, o);
        quire_frame_drain();
        healthy();
    }
    qi_isolate_undo(at + BLOCK, at + 2 * BLOCK);
    healthy();
    assert_int_equal(quire_free_pages(), free + 2 * BLOCK);
    at = quire_pfn_of_page(p[0]).v;
    assert_int_equal(qi_isolate_range(at, at + 1), QUIRE_OK);
    assert_true(quire_free_pages() < free + 2 * BLOCK);
    for (unsigned i = 0; i < 64; i++)
        quire_page_free(p[i], 0);
    quire_frame_drain();
    healthy();
    qi_isolate_undo(at, at + 1);
    all_back();
    assert_int_equal(qi_isolate_range(0, 1), QUIRE_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(any_free_range_can_be_had, setup),
        cmocka_unit_test_setup(what_is_taken_is_the_takers, setup),
        cmocka_unit_test_setup(used_ranges_are_emptied, setup),
        cmocka_unit_test_setup(one_page_that_stays_keeps_it, setup),
        cmocka_unit_test_setup(compound_ranges, setup),
        cmocka_unit_test_setup(freed_one_by_one, setup),
        cmocka_unit_test_setup(a_range_is_found, setup),
        cmocka_unit_test_setup(a_search_without_success_ends_soon, setup),
        cmocka_unit_test_setup(what_makes_no_sense_is_refused, setup),
        cmocka_unit_test_setup(isolated_blocks_keep_what_comes_back, setup),
    };

    test_seed("frame_contig_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
