/*
 * frame_cma_test.c - contiguous memory areas: set aside at boot or later, lent to movable users only,
 * given back by moving them out.
 */
#include <frame_mover.h>

#include <frame/zone.h>
#include <quire/cma.h>
#include <pthread.h>

#define BLOCK ((uint64_t)QI_BLOCK_FRAMES)
#define AREA  (16 * MIB)

static struct quire_cma *area;
static uint64_t at_boot; /* managed before the area was */
static uint64_t managed; /* free but for the area, when all is back: the area's bitmap is not */

static struct quire_cma_stats area_stats(unsigned i)
{
    struct quire_cma_stats s;

    assert_int_equal(quire_cma_stats(i, &s), QUIRE_OK);
    return s;
}

static void sound(void)
{
    healthy();
    if (quire_cma_verify(area) != QUIRE_OK)
        fail_msg("%s", hosted_log_last());
}

/* 64 MiB with an area of 16 MiB set aside on the boot map. */
static void machine_with_area(unsigned cpus, unsigned order_per_bit)
{
    struct quire_cma_config c = {
        .name = "test", .size = AREA, .align = 4 * MIB, .order_per_bit = order_per_bit};

    map_start(80 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    assert_int_equal(quire_cma_reserve(&map, &c, &area), QUIRE_OK);
    boot(1, cpus, NULL, NULL);
    at_boot = quire_managed_pages();
    assert_int_equal(quire_cma_start(), QUIRE_OK);
    managed = quire_free_pages() - AREA / QUIRE_PAGE_SIZE;
    assert_int_equal(managed, at_boot - 1);
    nmovables = 0;
    moved_frames = mover_calls = 0;
}
static int setup(void **state)
{
    (void)state;
    machine_with_area(1, 0);
    return 0;
}

static bool in_area(const struct quire_page *p, unsigned order)
{
    return quire_cma_contains(area, p) || quire_cma_contains(area, p + (1u << order) - 1);
}

static void all_back(void)
{
    quire_frame_drain();
    sound();
    assert_int_equal(quire_free_pages(), managed + area_stats(0).frames);
    assert_int_equal(area_stats(0).used, 0);
    assert_int_equal(zone_stats(0).free_cma, area_stats(0).frames);
}

/* What was set aside becomes free memory that is managed and counted. */
static void an_area_is_free_memory(void **state)
{
    struct quire_cma_stats s = area_stats(0);
    struct quire_zone_stats z = zone_stats(0);
    struct quire_block_info b;

    (void)state;
    sound();
    assert_int_equal(s.frames * QUIRE_PAGE_SIZE, AREA);
    assert_int_equal(s.start.v * QUIRE_PAGE_SIZE % (4 * MIB), 0);
    assert_int_equal(quire_managed_pages(), at_boot + s.frames);
    assert_int_equal(z.cma, s.frames);
    assert_int_equal(z.free_cma, s.frames);
    assert_int_equal(s.used, 0);
    assert_int_equal(s.largest, s.frames);
    for (uint64_t f = 0; f < s.frames; f += BLOCK) {
        assert_int_equal(quire_block_info((s.start.v + f) / BLOCK, &b), QUIRE_OK);
        assert_int_equal(b.type, QUIRE_CMA);
        assert_int_equal(b.free, BLOCK);
    }
    assert_int_equal(quire_cma_stats(1, &s), QUIRE_NOT_FOUND);
}

/* Who may not have CMA frames gets all other memory, and not one of them, of any order. */
static void only_movable_requests_borrow(void **state)
{
    static const quire_gfp others[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_RECLAIMABLE, QUIRE_GFP_ATOMIC,
                                       QUIRE_GFP_ZERO};

    (void)state;
    for (unsigned k = 0; k < QI_COUNT(others); k++)
        for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order += order < 4 ? 1 : 3) {
            size_t n = exhaust(order, others[k] | QUIRE_GFP_MEMALLOC);

            for (size_t i = 0; i < n; i++)
                assert_false(in_area(held[i], order));
            if (order == 0)
                assert_int_equal(n, managed);
            sound();
            give_back(n, order);
            all_back();
        }
    /* bulk, and exactly from the zone */
    assert_int_equal(quire_page_alloc_bulk(managed + 100, held, QUIRE_GFP_MEMALLOC, ANY), managed);
    assert_null(quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, QUIRE_GFP_MEMALLOC, 0));
    give_back(managed, 0);
    all_back();
}

/* Movable users can have all memory; what they free in the area is not given to others afterwards. */
static void movable_requests_get_all(void **state)
{
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        size_t n, lent = 0;

        setup(state);
        n = quire_free_pages() >> QUIRE_MAX_ORDER;
        while ((held[lent] = quire_page_alloc(order, QUIRE_GFP_MOVABLE | QUIRE_GFP_MEMALLOC, ANY)))
            lent++;
        assert_true(lent << order >= n << QUIRE_MAX_ORDER);
        if (order == 0)
            assert_int_equal(lent, managed + area_stats(0).frames);
        for (size_t i = n = 0; i < lent; i++)
            n += (size_t)quire_cma_contains(area, held[i]) << order;
        assert_int_equal(n, area_stats(0).frames);
        sound();
        for (size_t i = 0; i < lent; i++) {
            if (order && i % 2)
                quire_page_split(held[i]); /* the pieces, too, are the area's */
            for (size_t f = 0; order && i % 2 && f < 1u << order; f++)
                quire_page_free(held[i] + f, 0);
            if (!order || i % 2 == 0)
                quire_page_free(held[i], order);
        }
        for (unsigned o = order;; o = 0) { /* unmovable, with what the stacks now hold */
            n = exhaust(o, QUIRE_GFP_MEMALLOC);
            for (size_t i = 0; i < n; i++)
                assert_false(in_area(held[i], o));
            give_back(n, o);
            if (!o)
                break;
        }
        all_back();
    }
}

/* What is free in the area is not there for others' watermarks. */
static void marks_do_not_count_it(void **state)
{
    uint64_t low;
    size_t n = 0;

    (void)state;
    low = zone_stats(0).wmark_min;
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_KERNEL, ANY)))
        n++;
    assert_true(quire_free_pages() - zone_stats(0).free_cma + zone_stats(0).cached <= low + 64);
    assert_true(quire_free_pages() >= area_stats(0).frames);
    assert_non_null(held[n] = quire_page_alloc(0, QUIRE_GFP_MOVABLE, ANY));
    give_back(n + 1, 0);
    all_back();
}

/* The story of the row: reserved at boot, lent, and returned by migration in large contiguous runs. */
/* proves: LX-22 */
static void lent_and_returned(void **state)
{
    struct quire_page *runs[64];
    uint64_t sizes[64], used;
    unsigned n = 0, lent = 0;

    (void)state;
    quire_frame_set_mover(movables_move);
    while (quire_free_pages() > managed / 2)
        assert_non_null(movable_new((unsigned)test_random_below(5)));
    while (movable_new(0)) /* all there is, the area too */
        ;
    for (size_t i = 0; i < nmovables; i++)
        if (!quire_cma_contains(area, movables[i].page))
            movable_free(&movables[i]);
        else
            lent += 1u << movables[i].order;
    assert_int_equal(lent, area_stats(0).frames);
    moved_frames = 0;
    used = 0;
    for (n = 0; n < 8; n++) {
        sizes[n] = 100 + test_random_below(300);
        runs[n] = quire_cma_alloc(area, sizes[n], n % 4, QUIRE_GFP_ZERO);
        assert_non_null(runs[n]);
        assert_int_equal(quire_pfn_of_page(runs[n]).v % (1u << n % 4), 0);
        for (uint64_t f = 0; f < sizes[n]; f++) {
            assert_true(quire_cma_contains(area, runs[n] + f));
            assert_int_equal(runs[n][f].refs, 1);
            assert_int_equal(*movable_word(runs[n], (unsigned)f, true), 0);
            *movable_word(runs[n], (unsigned)f, true) = ~(uint64_t)(n * 1000 + f);
        }
        used += sizes[n];
        assert_int_equal(area_stats(0).used, used);
        sound();
        movables_check();
    }
    assert_true(moved_frames >= used);
    assert_int_equal(area_stats(0).allocs, 8);
    assert_int_equal(area_stats(0).frames_allocated, used);
    while (n-- > 0) {
        for (uint64_t f = 0; f < sizes[n]; f++)
            assert_int_equal(*movable_word(runs[n], (unsigned)f, true), ~(uint64_t)(n * 1000 + f));
        quire_cma_release(area, runs[n], sizes[n]);
        sound();
    }
    movables_check();
    /* all of it at once */
    runs[0] = quire_cma_alloc(area, area_stats(0).frames, 0, 0);
    assert_non_null(runs[0]);
    assert_int_equal(area_stats(0).largest, 0);
    assert_null(quire_cma_alloc(area, 1, 0, 0));
    assert_int_equal(area_stats(0).fails, 1);
    quire_cma_release(area, runs[0], area_stats(0).frames);
    movables_check();
    movables_free();
    all_back();
}

/* A page that stays: the run is had somewhere else; only where there is no such place, not at all. */
static void busy_ranges_are_passed_by(void **state)
{
    struct quire_page *p, *pin;
    unsigned pinned = 0;

    (void)state;
    quire_frame_set_mover(movables_move);
    while (movable_new(0)) /* all there is */
        ;
    for (size_t i = 0; i < nmovables; i++) {
        struct movable *m = &movables[i];
        uint64_t f = quire_pfn_of_page(m->page).v - area_stats(0).start.v;

        if (!quire_cma_contains(area, m->page))
            movable_free(m);
        else if (f % 1000 == 500)
            pinned += m->pinned = true;
    }
    assert_int_equal(pinned, 4);
    p = quire_cma_alloc(area, 700, 0, 0);
    assert_non_null(p);
    assert_true(area_stats(0).busy > 0);
    assert_true(quire_pfn_of_page(p).v - area_stats(0).start.v > 500);
    assert_null(quire_cma_alloc(area, 1000, 0, 0)); /* no such gap */
    assert_int_equal(area_stats(0).used, 700);
    assert_null(quire_cma_alloc(area, 700, 0, QUIRE_GFP_NORETRY)); /* busy at the first place */
    sound();
    movables_check();
    quire_cma_release(area, p, 700);
    for (size_t i = 0; i < nmovables; i++)
        movables[i].pinned = false;
    pin = quire_cma_alloc(area, area_stats(0).frames, 0, 0);
    assert_non_null(pin);
    quire_cma_release(area, pin, area_stats(0).frames);
    movables_free();
    all_back();
}

/* A bit for several frames: what an allocation does not need of its last bit stays lent. */
static void bits_for_several_frames(void **state)
{
    struct quire_page *a, *b;

    (void)state;
    machine_with_area(1, 4);
    a = quire_cma_alloc(area, 5, 0, 0);
    b = quire_cma_alloc(area, 17, 0, 0);
    assert_int_equal(area_stats(0).used, 16 + 32);
    assert_int_equal(b - a, 16);
    assert_int_equal(quire_free_pages(), managed + area_stats(0).frames - 5 - 17);
    sound();
    quire_cma_release(area, a, 5);
    assert_int_equal(area_stats(0).used, 32);
    quire_cma_release(area, b, 17);
    all_back();
}

/* Fixed places, limits, several areas; what cannot be, and what was given wrongly. */
static void areas_on_the_map(void **state)
{
    struct quire_cma_config c = {.name = "fixed", .size = 2 * MIB + 1, .base = Q_PA(32 * MIB)};
    struct quire_cma *one, *two, *none;

    (void)state;
    map_start(80 * MIB);
    map_add(8 * MIB, 72 * MIB, 0);
    assert_int_equal(quire_cma_reserve(&map, &c, &one), QUIRE_OK);
    assert_int_equal(quire_cma_reserve(&map, &c, &none), QUIRE_OVERLAP);
    c.base.v = 4 * MIB; /* not memory */
    assert_int_equal(quire_cma_reserve(&map, &c, &none), QUIRE_INVALID);
    c.base.v = 33 * MIB; /* not aligned */
    assert_int_equal(quire_cma_reserve(&map, &c, &none), QUIRE_INVALID);
    c.base.v = 0;
    c.order_per_bit = 10;
    assert_int_equal(quire_cma_reserve(&map, &c, &none), QUIRE_INVALID);
    c.order_per_bit = 3;
    c.size = 400 * MIB;
    assert_int_equal(quire_cma_reserve(&map, &c, &none), QUIRE_NO_MEMORY);
    c.size = 4 * MIB;
    c.limit = 16 * MIB;
    c.name = "low";
    assert_int_equal(quire_cma_reserve(&map, &c, &two), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    assert_int_equal(quire_cma_start(), QUIRE_OK);
    healthy();
    area = one;
    sound();
    assert_int_equal(area_stats(0).start.v, 32 * MIB / QUIRE_PAGE_SIZE);
    assert_int_equal(area_stats(0).frames, 2 * BLOCK);
    area = two;
    sound();
    assert_true(area_stats(1).start.v + area_stats(1).frames <= 16 * MIB / QUIRE_PAGE_SIZE);
    assert_string_equal(area_stats(1).name, "low");
    assert_int_equal(zone_stats(0).cma, 2 * BLOCK); /* DMA */
    assert_int_equal(zone_stats(1).cma, 2 * BLOCK);
    /* another machine: the areas of the last are gone */
    machine(16 * MIB, 16 * MIB);
    assert_int_equal(quire_cma_start(), QUIRE_OK);
    assert_int_equal(quire_cma_stats(0, &(struct quire_cma_stats){0}), QUIRE_NOT_FOUND);
    assert_int_equal(zone_stats(0).cma, 0);
    healthy();
}

/* Out of memory in use, and back into ordinary memory. */
static void made_and_unmade_at_run_time(void **state)
{
    struct quire_cma_config c = {.name = "late", .size = 8 * MIB, .node = ANY};
    struct quire_cma *late, *fixed;
    struct quire_page *p;
    uint64_t all;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    quire_frame_set_mover(movables_move);
    nmovables = 0;
    all = quire_managed_pages();
    while (quire_free_pages() > all / 2)
        assert_non_null(movable_new((unsigned)test_random_below(3)));
    assert_int_equal(quire_cma_create(&c, &late), QUIRE_OK);
    area = late;
    sound();
    assert_int_equal(zone_stats(0).cma, 4 * BLOCK);
    c.base = quire_pa_of_pfn(area_stats(0).start);
    assert_int_equal(quire_cma_create(&c, &fixed), QUIRE_INVALID); /* it is CMA */
    c.base = Q_PA(24 * MIB);
    if (c.base.v != quire_pa_of_pfn(area_stats(0).start).v)
        assert_int_equal(quire_cma_create(&c, &fixed), QUIRE_OK);
    p = quire_cma_alloc(late, 1000, 3, 0);
    assert_non_null(p);
    sound();
    assert_int_equal(quire_cma_destroy(late), QUIRE_BUSY);
    assert_int_equal(quire_frame_offline(area_stats(0).start, BLOCK), QUIRE_BUSY);
    quire_cma_release(late, p, 1000);
    assert_int_equal(quire_cma_destroy(late), QUIRE_OK);
    assert_int_equal(quire_cma_destroy(fixed), QUIRE_OK);
    assert_int_equal(zone_stats(0).cma, 0);
    movables_check();
    movables_free();
    quire_frame_drain();
    assert_int_equal(quire_free_pages(), all);
    exhaust_every_order();
}

/* No memory for an area's bitmap: nothing has changed, and the next time it works. */
static void without_memory_nothing_changes(void **state)
{
    struct quire_cma_config c = {.name = "late", .size = 4 * MIB, .node = ANY};
    uint64_t free;

    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    assert_int_equal(quire_cma_reserve(&map, &c, &area), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    free = quire_free_pages();
    quire_frame_fail_after(1);
    assert_int_equal(quire_cma_start(), QUIRE_NO_MEMORY);
    healthy();
    assert_int_equal(quire_free_pages(), free);
    assert_int_equal(quire_cma_start(), QUIRE_OK);
    sound();
    free = quire_free_pages();
    quire_frame_fail_after(1);
    assert_int_equal(quire_cma_create(&c, &area), QUIRE_NO_MEMORY);
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_free_pages(), free);
    for (unsigned i = 1; i < QUIRE_MAX_CMA_AREAS; i++)
        assert_int_equal(quire_cma_create(&c, &area), QUIRE_OK);
    assert_int_equal(quire_cma_create(&c, &area), QUIRE_TOO_MANY);
    healthy();
}

static void misuse_is_caught(void **state)
{
    struct quire_page *p = quire_cma_alloc(area, 10, 0, 0);

    (void)state;
    PANICS(quire_cma_release(area, p, 11), "not allocated from test");
    PANICS(quire_cma_release(area, p - 1, 1), "not allocated from test");
    PANICS(quire_cma_alloc(area, 0, 0, 0), "allocation of 0 frames");
    PANICS(quire_cma_alloc(area, 1, 0, QUIRE_GFP_DMA), "flags");
    quire_cma_release(area, p, 10);
    PANICS(quire_cma_release(area, p, 10), "not allocated from test");
}

/* ---- Beside others ---- */

static bool stop; /* atomic */

static void *borrower(void *arg)
{
    struct quire_page *mine[64] = {NULL};
    unsigned x = (unsigned)(uintptr_t)arg * 7919;

    hosted_cpu_set((unsigned)(uintptr_t)arg);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned k = (x = x * 1664525 + 1013904223) >> 8 & 63;

        if (mine[k])
            quire_page_free(mine[k], 0);
        mine[k] = mine[k] ? NULL : quire_page_alloc(0, x >> 30 ? QUIRE_GFP_MOVABLE : 0, ANY);
        if (mine[k] && !(x >> 30))
            assert_false(quire_cma_contains(area, mine[k]));
    }
    for (unsigned k = 0; k < 64; k++)
        if (mine[k])
            quire_page_free(mine[k], 0);
    return NULL;
}

static void *taker(void *arg)
{
    unsigned got = 0;

    hosted_cpu_set((unsigned)(uintptr_t)arg);
    while (got < 300) {
        uint64_t n = 1 + (got * 37) % 200;
        struct quire_page *p = quire_cma_alloc(area, n, 0, 0);

        if (!p)
            continue;
        for (uint64_t f = 0; f < n; f++)
            *movable_word(p, (unsigned)f, false) = (uintptr_t)arg * 1000000 + got;
        for (uint64_t f = 0; f < n; f++)
            assert_int_equal(*movable_word(p, (unsigned)f, false), (uintptr_t)arg * 1000000 + got);
        quire_cma_release(area, p, n);
        got++;
    }
    return NULL;
}

/* Two take from the area while two borrow from it, and give back. */
static void takers_beside_borrowers(void **state)
{
    pthread_t t[4];

    (void)state;
    machine_with_area(5, 0);
    stop = false;
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, i < 2 ? borrower : taker, (void *)(i + 1)), 0);
    for (unsigned i = 4; i-- > 0;) {
        if (i == 1)
            __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        pthread_join(t[i], NULL);
    }
    assert_int_equal(area_stats(0).used, 0);
    all_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_area_is_free_memory, setup),
        cmocka_unit_test_setup(only_movable_requests_borrow, setup),
        cmocka_unit_test(movable_requests_get_all),
        cmocka_unit_test_setup(marks_do_not_count_it, setup),
        cmocka_unit_test_setup(lent_and_returned, setup),
        cmocka_unit_test_setup(busy_ranges_are_passed_by, setup),
        cmocka_unit_test(bits_for_several_frames),
        cmocka_unit_test(areas_on_the_map),
        cmocka_unit_test(made_and_unmade_at_run_time),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test_setup(misuse_is_caught, setup),
        cmocka_unit_test(takers_beside_borrowers),
    };

    test_seed("frame_cma_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
