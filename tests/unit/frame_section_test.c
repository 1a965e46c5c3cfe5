/*
 * frame_section_test.c - pageblocks off line and back: all of a range or nothing, nothing of it handed
 * out meanwhile, and nothing lost by it.
 */
#include <frame_mover.h>
#include <frame_traffic.h>

#include <frame/zone.h>

#define BLOCK  ((uint64_t)QI_BLOCK_FRAMES)
#define START  (16 * MIB / QUIRE_PAGE_SIZE) /* of the machine's memory */
#define BLOCKS 24u                          /* not a power of two: runs of several orders */
#define TAKEN  2u                           /* the last block, or two, have the boot's own tables */

static uint64_t managed_at_boot;

static enum quire_status off(uint64_t block, uint64_t n)
{
    return quire_frame_offline(Q_PFN(START + block * BLOCK), n * BLOCK);
}

static enum quire_status on(uint64_t block, uint64_t n)
{
    return quire_frame_online(Q_PFN(START + block * BLOCK), n * BLOCK);
}

static uint64_t block_of(const struct quire_page *p)
{
    return (quire_pfn_of_page(p).v - START) / BLOCK;
}

/* n blocks are away: counts, flags, pictures. */
static void away(uint64_t block, uint64_t n)
{
    struct quire_block_info b;

    healthy();
    for (uint64_t i = block; i < block + n; i++) {
        q_pfn first = Q_PFN(START + i * BLOCK);

        assert_int_equal(quire_block_info(first.v / BLOCK, &b), QUIRE_OK);
        assert_int_equal(b.reserved, BLOCK);
        for (uint64_t f = 0; f < BLOCK; f++) {
            assert_int_equal(quire_page_flags(Q_PFN(first.v + f)) & 0xffffu, QUIRE_PG_RESERVED);
            assert_true(quire_pfn_valid(Q_PFN(first.v + f)));
        }
    }
}

/* Everything is as it was at boot. */
static void all_back(void)
{
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_managed_pages(), managed_at_boot);
    assert_int_equal(quire_free_pages(), managed_at_boot);
}

static int setup(void **state)
{
    (void)state;
    map_start(16 * MIB + BLOCKS * 2 * MIB);
    map_add(16 * MIB, BLOCKS * 2 * MIB, 0);
    boot(1, 2, NULL, NULL);
    hosted_cpu_set(0);
    managed_at_boot = quire_managed_pages();
    assert_true(managed_at_boot > (BLOCKS - TAKEN) * BLOCK);
    return 0;
}

/* Memory that nobody has touched: each block by itself, out of a run of whatever order. */
static void each_free_block_goes_and_comes(void **state)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];

    (void)state;
    blocks_all(before);
    for (uint64_t i = 0; i < BLOCKS - TAKEN; i++) {
        assert_int_equal(off(i, 1), QUIRE_OK);
        away(i, 1);
        assert_int_equal(quire_managed_pages(), managed_at_boot - BLOCK);
        assert_int_equal(quire_free_pages(), managed_at_boot - BLOCK);
        assert_int_equal(on(i, 1), QUIRE_OK);
        all_back();
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
    }
}

/* Runs that begin and end anywhere, across the borders of the orders. */
static void ranges_go_and_come(void **state)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];

    (void)state;
    blocks_all(before);
    for (uint64_t i = 0; i < BLOCKS - TAKEN; i++)
        for (uint64_t n = 1; i + n <= BLOCKS - TAKEN; n += 1 + n / 2) {
            assert_int_equal(off(i, n), QUIRE_OK);
            away(i, n);
            assert_int_equal(quire_managed_pages(), managed_at_boot - n * BLOCK);
            for (uint64_t k = n; k-- > 0;) /* not as it went */
                assert_int_equal(on(i + k, 1), QUIRE_OK);
            all_back();
            blocks_all(after);
            assert_memory_equal(before, after, sizeof before);
        }
}

/* Blocks whose struct pages still have the form of the last allocation, of every order. */
static void what_was_used_and_freed_goes(void **state)
{
    unsigned order;

    for (order = 0; order <= QUIRE_MAX_ORDER; order++) {
        struct quire_page *p;
        uint64_t block, other;

        setup(state);
        p = quire_page_alloc(order, 0, ANY);
        if (!p)
            break; /* larger than the machine */
        block = block_of(p);
        quire_page_free(p, order);
        assert_int_equal(off(block, 1), QUIRE_OK); /* also from this CPU's stacks */
        away(block, 1);
        /* the rest of the run is still free, and said to be */
        for (other = block + 1; order > QI_BLOCK_ORDER && other < block + (1ull << (order - 9));
             other++)
            assert_int_equal(quire_page_flags(Q_PFN(START + other * BLOCK + 7)) & 0xffffu,
                             QUIRE_PG_FREE);
        assert_int_equal(on(block, 1), QUIRE_OK);
        all_back();
        exhaust_every_order();
    }
    assert_true(order > QI_BLOCK_ORDER + 1);
}

/* One frame held, of a block of each order, keeps all of the range. */
static void one_frame_in_use_keeps_the_range(void **state)
{
    for (unsigned order = 0; order <= QI_BLOCK_ORDER + 1; order++) {
        struct quire_page *p;
        uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1], block, free;

        setup(state);
        p = get(order);
        block = block_of(p);
        quire_frame_drain();
        free = quire_free_pages();
        blocks_all(before);
        for (uint64_t first = 0; first <= block; first++)
            for (uint64_t n = block - first + 1; first + n <= BLOCKS - TAKEN; n += 3)
                assert_int_equal(off(first, n), QUIRE_BUSY);
        if (order > QI_BLOCK_ORDER)
            assert_int_equal(off(block + 1, 1), QUIRE_BUSY);
        healthy();
        assert_int_equal(quire_managed_pages(), managed_at_boot);
        assert_int_equal(quire_free_pages(), free);
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
        quire_page_free(p, order);
        assert_int_equal(off(0, BLOCKS - TAKEN), QUIRE_OK);
        assert_int_equal(on(0, BLOCKS - TAKEN), QUIRE_OK);
        all_back();
    }
}

/* What another CPU keeps in its stacks nobody else may take. */
static void a_frame_in_another_cpus_stack_keeps_it(void **state)
{
    for (unsigned order = 0; order < QI_STACK_SMALL; order++) {
        struct quire_page *p;

        setup(state);
        hosted_cpu_set(1);
        p = get(order);
        quire_page_free(p, order);
        hosted_cpu_set(0);
        assert_int_equal(off(block_of(p), 1), QUIRE_BUSY);
        assert_int_equal(quire_free_pages(), managed_at_boot);
        healthy();
        hosted_cpu_set(1);
        assert_int_equal(off(block_of(p), 1), QUIRE_OK);
        assert_int_equal(on(block_of(p), 1), QUIRE_OK);
        all_back();
    }
}

/* Take all there is, of every order: never what is off line. */
static void nothing_offline_is_handed_out(void **state)
{
    static const unsigned gone[] = {0, 3, 4, 5, 11, 20};

    (void)state;
    for (unsigned i = 0; i < QI_COUNT(gone); i++)
        assert_int_equal(off(gone[i], 1), QUIRE_OK);
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        size_t n = exhaust(order, QUIRE_GFP_MEMALLOC);

        for (unsigned i = 0; i < QI_COUNT(gone); i++) {
            for (uint64_t f = 0; f < BLOCK; f++)
                assert_false(owned[START + gone[i] * BLOCK + f]);
            away(gone[i], 1);
        }
        if (order == 0)
            assert_int_equal(n, managed_at_boot - QI_COUNT(gone) * BLOCK);
        give_back(n, order);
    }
    for (unsigned i = 0; i < QI_COUNT(gone); i++)
        assert_int_equal(on(gone[i], 1), QUIRE_OK);
    all_back();
    exhaust_every_order();
}

/* A block comes back while all others are taken: it, and only it, can be had. */
static void what_comes_back_can_be_had(void **state)
{
    struct quire_page *p;
    size_t n;

    (void)state;
    assert_int_equal(off(6, 1), QUIRE_OK);
    n = exhaust(0, QUIRE_GFP_MEMALLOC);
    assert_int_equal(on(6, 1), QUIRE_OK);
    p = get(QI_BLOCK_ORDER);
    assert_int_equal(block_of(p), 6);
    assert_null(quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY));
    quire_page_free(p, QI_BLOCK_ORDER);
    give_back(n, 0);
    all_back();
}

/* A block of the largest order can be had again when its pieces have come back in any order. */
static void neighbours_merge_again(void **state)
{
    uint64_t n = 1ull << (QUIRE_MAX_ORDER - QI_BLOCK_ORDER);
    uint64_t first = START * QUIRE_PAGE_SIZE, size = QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER;
    struct quire_page *p;

    (void)state;
    first = (first + size - 1) / size * size;
    map_start(first + size + 4 * MIB);
    map_add(first, size, 0);
    map_add(first + size, 4 * MIB, 0); /* for the boot's own tables */
    boot(1, 1, NULL, NULL);
    managed_at_boot = quire_managed_pages();
    for (uint64_t i = 0; i < n; i += 2)
        assert_int_equal(quire_frame_offline(Q_PFN(first / QUIRE_PAGE_SIZE + i * BLOCK), BLOCK),
                         QUIRE_OK);
    assert_null(quire_page_alloc(QI_BLOCK_ORDER + 1, QUIRE_GFP_MEMALLOC, ANY));
    for (uint64_t i = 0; i < n; i += 2) {
        uint64_t k = (i * 7 + 2) % n; /* all even ones: 7 and n have no common divisor */

        assert_int_equal(quire_frame_online(Q_PFN(first / QUIRE_PAGE_SIZE + k * BLOCK), BLOCK),
                         QUIRE_OK);
        healthy();
    }
    p = get(QUIRE_MAX_ORDER);
    assert_int_equal(quire_pa_of_page(p).v, first);
    quire_page_free(p, QUIRE_MAX_ORDER);
    all_back();
}

static void marks_follow(void **state)
{
    struct quire_zone_stats before = zone_stats(0), less;

    (void)state;
    assert_int_equal(off(0, 16), QUIRE_OK);
    less = zone_stats(0);
    assert_true(less.wmark_min < before.wmark_min);
    assert_true(less.wmark_low < before.wmark_low && less.wmark_low > less.wmark_min);
    assert_true(less.wmark_high < before.wmark_high && less.wmark_high > less.wmark_low);
    assert_int_equal(less.managed, before.managed - 16 * BLOCK);
    assert_int_equal(less.present, before.present);
    assert_int_equal(on(0, 16), QUIRE_OK);
    less = zone_stats(0);
    assert_int_equal(less.wmark_min, before.wmark_min);
    assert_int_equal(less.wmark_low, before.wmark_low);
    assert_int_equal(less.wmark_high, before.wmark_high);
}

static void what_is_no_block_of_the_allocator_is_refused(void **state)
{
    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 16 * MIB + 4096, 0); /* ends inside a block */
    map_add(48 * MIB, 16 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(20 * MIB), 3 * MIB, "test", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    assert_int_equal(off(0, 0), QUIRE_INVALID);
    assert_int_equal(quire_frame_offline(Q_PFN(START + 1), BLOCK), QUIRE_INVALID);
    assert_int_equal(quire_frame_offline(Q_PFN(START), BLOCK + 1), QUIRE_INVALID);
    assert_int_equal(quire_frame_offline(Q_PFN(START), UINT64_MAX & ~(BLOCK - 1)), QUIRE_INVALID);
    assert_int_equal(quire_frame_offline(Q_PFN(0), BLOCK), QUIRE_INVALID); /* a hole */
    assert_int_equal(off(2, 1), QUIRE_INVALID);                            /* reserved */
    assert_int_equal(off(3, 1), QUIRE_INVALID);                            /* half of it */
    assert_int_equal(off(0, 4), QUIRE_INVALID);                            /* with good ones */
    assert_int_equal(off(8, 1), QUIRE_INVALID);                            /* half a hole */
    assert_int_equal(off(9, 1), QUIRE_INVALID);                            /* between ranges */
    assert_int_equal(quire_frame_offline(Q_PFN(1ull << 40), BLOCK), QUIRE_INVALID);
    assert_int_equal(on(0, 1), QUIRE_INVALID);
    assert_int_equal(on(2, 1), QUIRE_INVALID);
    assert_int_equal(on(9, 1), QUIRE_INVALID);
    assert_int_equal(off(0, 1), QUIRE_OK);
    assert_int_equal(off(0, 1), QUIRE_INVALID);
    assert_int_equal(off(0, 2), QUIRE_INVALID);
    assert_int_equal(on(0, 2), QUIRE_INVALID);
    assert_int_equal(quire_frame_online(Q_PFN(START), 1), QUIRE_INVALID);
    assert_int_equal(quire_frame_poison(Q_PFN(START)), QUIRE_INVALID);
    away(0, 1);
    PANICS(quire_page_free(quire_page_of_pfn(Q_PFN(START)), 0), "reserved");
    assert_int_equal(on(0, 1), QUIRE_OK);
    healthy();
}

/* A block with a bad frame would come back without it. */
static void a_bad_frame_keeps_its_block(void **state)
{
    struct quire_page *p = get(0);

    (void)state;
    assert_int_equal(quire_frame_poison(Q_PFN(START + 9 * BLOCK + 100)), QUIRE_OK);
    assert_int_equal(off(9, 1), QUIRE_BUSY);
    assert_int_equal(off(8, 3), QUIRE_BUSY);
    assert_int_equal(off(8, 1), QUIRE_OK);
    assert_int_equal(on(8, 1), QUIRE_OK);
    assert_int_equal(quire_frame_poison(quire_pfn_of_page(p)), QUIRE_OK); /* held */
    assert_int_equal(off(block_of(p), 1), QUIRE_BUSY);
    quire_page_free(p, 0);
    assert_int_equal(off(block_of(p), 1), QUIRE_BUSY);
    healthy();
    assert_int_equal(quire_managed_pages(), managed_at_boot - 2);
}

/* What one zone gives up, another's frame in use brings back. */
static void a_range_over_zones(void **state)
{
    struct quire_page *p;
    uint64_t dma, dma32;

    (void)state;
    map_start(48 * MIB);
    map_add(8 * MIB, 40 * MIB, 0); /* DMA, then DMA32 */
    boot(1, 1, NULL, NULL);
    managed_at_boot = quire_managed_pages();
    dma = zone_stats(0).managed;
    dma32 = zone_stats(1).managed;
    assert_int_equal(quire_frame_offline(Q_PFN(START - 2 * BLOCK), 8 * BLOCK), QUIRE_OK);
    assert_int_equal(zone_stats(0).managed, dma - 2 * BLOCK);
    assert_int_equal(zone_stats(1).managed, dma32 - 6 * BLOCK);
    assert_int_equal(quire_frame_online(Q_PFN(START - 2 * BLOCK), 8 * BLOCK), QUIRE_OK);
    all_back();
    p = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, QUIRE_GFP_MEMALLOC, 0);
    assert_non_null(p);
    assert_int_equal(quire_frame_offline(Q_PFN(START - 4 * BLOCK), (block_of(p) + 5) * BLOCK),
                     QUIRE_BUSY);
    assert_int_equal(zone_stats(0).managed, dma);
    assert_int_equal(zone_stats(1).managed, dma32);
    quire_page_free(p, 0);
    all_back();
}

/* ---- What can be moved ---- */

/* Blocks full of movable frames of every order go off line: what was in them is elsewhere, word for word. */
static void what_can_be_moved_is_moved(void **state)
{
    (void)state;
    quire_frame_set_mover(movables_move);
    for (unsigned order = 0; order <= QI_BLOCK_ORDER; order++) /* a twentieth of memory for each */
        for (uint64_t n = 0; n < managed_at_boot / 20; n += 1u << order)
            assert_non_null(movable_new(order));
    for (uint64_t i = 0; i < BLOCKS - TAKEN - 1; i++) {
        uint64_t n = 1 + i % 2;

        assert_int_equal(off(i, n), QUIRE_OK);
        away(i, n);
        for (size_t k = 0; k < nmovables; k++)
            assert_false(block_of(movables[k].page) >= i && block_of(movables[k].page) < i + n);
        movables_check();
        assert_int_equal(on(i, n), QUIRE_OK);
        healthy();
    }
    assert_true(moved_frames > 4 * BLOCK);
    movables_check();
    movables_free();
    all_back();
}

/* One frame that stays keeps the range; what was moved has been moved, and nothing is lost. */
static void what_cannot_be_moved_stays(void **state)
{
    struct movable *pinned;
    uint64_t block;

    (void)state;
    quire_frame_set_mover(movables_move);
    while (quire_free_pages() > managed_at_boot / 2)
        assert_non_null(movable_new(0));
    for (pinned = movables; block_of(pinned->page) >= BLOCKS - TAKEN; pinned++)
        ;
    pinned += 100; /* not the first of its block */
    pinned->pinned = true;
    block = block_of(pinned->page);
    assert_int_equal(off(block, 1), QUIRE_BUSY);
    healthy();
    movables_check();
    assert_int_equal(quire_managed_pages(), managed_at_boot);
    pinned->pinned = false;
    assert_int_equal(off(block, 1), QUIRE_OK);
    movables_check();
    assert_int_equal(on(block, 1), QUIRE_OK);
    quire_frame_set_mover(NULL);
    assert_int_equal(off(block_of(pinned->page), 1), QUIRE_BUSY);
    movables_free();
    all_back();
}

/* ---- Beside other CPUs ---- */

static uint8_t gone[BLOCKS];

static bool is_gone(const struct quire_page *p)
{
    return __atomic_load_n(&gone[block_of(p)], __ATOMIC_ACQUIRE);
}

/* Blocks go and come while three CPUs allocate and free; nothing of them is met meanwhile. */
static void offline_beside_traffic(void **state)
{
    unsigned went = 0, stayed = 0;

    (void)state;
    map_start(16 * MIB + BLOCKS * 2 * MIB);
    map_add(16 * MIB, BLOCKS * 2 * MIB, 0);
    boot(1, 4, NULL, NULL);
    managed_at_boot = quire_managed_pages();
    traffic_start(is_gone, 11);
    for (unsigned i = 0; i < 4000 || !went || !stayed; i++) {
        uint64_t at = i * 2654435761u % (BLOCKS - TAKEN - 3), n = 1 + i / 7 % 3;
        enum quire_status s = off(at, n);

        if (s == QUIRE_BUSY) {
            stayed++;
            continue;
        }
        assert_int_equal(s, QUIRE_OK);
        went++;
        memset(gone + at, 1, n);
        for (uint64_t f = 0; f < n * BLOCK; f++)
            assert_int_equal(quire_page_flags(Q_PFN(START + at * BLOCK + f)) & 0xffffu,
                             QUIRE_PG_RESERVED);
        memset(gone + at, 0, n);
        assert_int_equal(on(at, n), QUIRE_OK);
    }
    traffic_end();
    all_back();
    exhaust_every_order();
}

/* ---- verify ---- */

#define BROKEN_BY(place, value)                                         \
    do {                                                                \
        __typeof__(place) was_ = place;                                 \
        place = value;                                                  \
        assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);          \
        if (!strstr(hosted_log_last(), "F7"))                           \
            fail_msg("%s = %s: %s", #place, #value, hosted_log_last()); \
        place = was_;                                                   \
        healthy();                                                      \
    } while (0)

static void verify_knows_them(void **state)
{
    struct quire_page *p = quire_page_of_pfn(Q_PFN(START + 5 * BLOCK + 77));
    struct qi_block *b = &qi_zones[0].blocks[5];

    (void)state;
    assert_int_equal(off(5, 1), QUIRE_OK);
    healthy();
    BROKEN_BY(p->flags, qi_zones[0].place | QUIRE_PG_FREE);
    BROKEN_BY(p->counts, 0);
    BROKEN_BY(b->managed, 1);
    BROKEN_BY(b->free, 1);
    BROKEN_BY(b->pages, QI_PAGES_UNTOUCHED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_free_block_goes_and_comes, setup),
        cmocka_unit_test_setup(ranges_go_and_come, setup),
        cmocka_unit_test(what_was_used_and_freed_goes),
        cmocka_unit_test(one_frame_in_use_keeps_the_range),
        cmocka_unit_test(a_frame_in_another_cpus_stack_keeps_it),
        cmocka_unit_test_setup(nothing_offline_is_handed_out, setup),
        cmocka_unit_test_setup(what_comes_back_can_be_had, setup),
        cmocka_unit_test(neighbours_merge_again),
        cmocka_unit_test_setup(marks_follow, setup),
        cmocka_unit_test(what_is_no_block_of_the_allocator_is_refused),
        cmocka_unit_test_setup(a_bad_frame_keeps_its_block, setup),
        cmocka_unit_test(a_range_over_zones),
        cmocka_unit_test_setup(what_can_be_moved_is_moved, setup),
        cmocka_unit_test_setup(what_cannot_be_moved_stays, setup),
        cmocka_unit_test(offline_beside_traffic),
        cmocka_unit_test_setup(verify_knows_them, setup),
    };

    test_seed("frame_section_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
