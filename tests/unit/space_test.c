/*
 * space_test.c - address spaces: each kind of fault, each way to cut a mapping, fork, and what happens when
 * memory runs out at every single place.
 */
#include <space_machine.h>

#include <space/space.h>

#define RW   (QUIRE_READ | QUIRE_WRITE)
#define PRIV (QUIRE_MAP_PRIVATE | QUIRE_MAP_ANONYMOUS)

static struct quire_space *s;
static uint64_t frames_before;

static int setup(void **state)
{
    (void)state;
    space_machine(128 * MIB);
    /* the object caches keep their slabs: let them exist before counting */
    s = space_new();
    assert_int_equal(store(s, map_anon(s, PAGE), 1), QUIRE_OK);
    quire_space_put(s);
    quire_heap_drain();
    frames_before = quire_free_pages();
    s = space_new();
    return 0;
}

/* Every test ends with a sound machine and every frame back. */
static int teardown(void **state)
{
    (void)state;
    if (s) {
        assert_int_equal(quire_space_verify(s), QUIRE_OK);
        quire_space_put(s);
        s = NULL;
    }
    quire_heap_drain();
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    assert_int_equal(quire_free_pages(), frames_before);
    hosted_fini();
    return 0;
}

static uint64_t count(enum quire_event e) { return quire_event_count(e); }

static struct quire_space_stats stats(struct quire_space *of)
{
    struct quire_space_stats st;

    quire_space_stats(of, &st);
    return st;
}

static q_pfn frame_at(struct quire_space *of, uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(quire_space_root(of), va, &t);
    assert_true(t.present);
    return quire_pfn_of_pa(t.pa);
}

static bool present(struct quire_space *of, uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(quire_space_root(of), va, &t);
    return t.present;
}

static bool writable(struct quire_space *of, uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(quire_space_root(of), va, &t);
    return t.present && (t.prot & QUIRE_WRITE);
}

/* proves: VM-05 VM-07 VE-30 VE-31 VE-38 AS-26 */
static void reading_maps_the_zero_page_and_writing_a_page_of_ones_own(void **state)
{
    uint64_t at = map_anon(s, 2 * PAGE), before = count(QUIRE_EVENT_FAULT_ZERO_READ);
    q_pfn zero;

    (void)state;
    assert_false(present(s, at));
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_READ), QUIRE_OK);
    assert_int_equal(quire_fault(s, Q_UVA(at + PAGE), QUIRE_READ), QUIRE_OK);
    assert_int_equal(count(QUIRE_EVENT_FAULT_ZERO_READ), before + 2);
    zero = frame_at(s, at);
    assert_int_equal(zero.v, frame_at(s, at + PAGE).v);
    assert_false(writable(s, at));
    expect(s, at, 0);
    assert_int_equal(stats(s).rss_anon, 0);

    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_WRITE), QUIRE_OK);
    assert_true(writable(s, at));
    assert_int_not_equal(frame_at(s, at).v, zero.v);
    assert_int_equal(frame_at(s, at + PAGE).v, zero.v);
    expect(s, at, 0);
    assert_int_equal(stats(s).rss_anon, 1);
}

/* proves: VE-38 */
static void a_frame_that_held_data_comes_back_zeroed(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        uint64_t at = map_anon(s, 8 * PAGE);

        for (unsigned i = 0; i < 8; i++) {
            expect(s, at + i * PAGE + 8 * round % 4088, 0);
            assert_int_equal(store(s, at + i * PAGE + 8 * round % 4088, ~0ull), QUIRE_OK);
        }
        assert_int_equal(quire_munmap(s, Q_UVA(at), 8 * PAGE), QUIRE_OK);
    }
}

/* proves: VE-30 VE-31 TRAP-10 VM-03 */
static void accesses_that_a_mapping_forbids_name_the_reason(void **state)
{
    uint64_t at = map_anon(s, 4 * PAGE);

    (void)state;
    assert_int_equal(quire_fault(s, Q_UVA(at - PAGE), QUIRE_READ), QUIRE_SEGV_MAPERR);
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_EXEC), QUIRE_SEGV_ACCERR);
    assert_int_equal(store(s, at, 5), QUIRE_OK);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), PAGE, QUIRE_READ), QUIRE_OK);
    assert_false(writable(s, at));
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_WRITE), QUIRE_SEGV_ACCERR);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), PAGE, 0), QUIRE_OK);
    assert_false(present(s, at));
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_READ), QUIRE_SEGV_ACCERR);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), PAGE, RW), QUIRE_OK);
    expect(s, at, 5);
}

/* proves: X-01 TRAP-9 */
static void munmap_cuts_a_mapping_in_all_five_ways(void **state)
{
    static const struct {
        unsigned from, n, vmas;
    } cut[] = {{0, 8, 0}, {0, 3, 1}, {5, 3, 1}, {2, 3, 2}, {3, 1, 2}};

    (void)state;
    for (unsigned k = 0; k < 5; k++) {
        uint64_t at = map_anon(s, 8 * PAGE), rss;

        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(store(s, at + i * PAGE, i + 1), QUIRE_OK);
        rss = stats(s).rss_anon;
        assert_int_equal(quire_munmap(s, Q_UVA(at + cut[k].from * PAGE), cut[k].n * PAGE),
                         QUIRE_OK);
        assert_int_equal(stats(s).rss_anon, rss - cut[k].n);
        assert_int_equal(stats(s).vmas, cut[k].vmas);
        for (unsigned i = 0; i < 8; i++) {
            uint64_t got;
            bool gone = i >= cut[k].from && i < cut[k].from + cut[k].n;

            assert_int_equal(load(s, at + i * PAGE, &got), gone ? QUIRE_SEGV_MAPERR : QUIRE_OK);
            if (!gone)
                assert_int_equal(got, i + 1);
        }
        assert_int_equal(quire_space_verify(s), QUIRE_OK);
        assert_int_equal(quire_munmap(s, Q_UVA(at), 8 * PAGE), QUIRE_OK);
        assert_int_equal(stats(s).vmas, 0);
    }
}

/* proves: TRAP-9 AS-18 */
static void mprotect_splits_and_merges_back(void **state)
{
    uint64_t at = map_anon(s, 16 * PAGE);

    (void)state;
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(store(s, at + i * PAGE, i), QUIRE_OK);
    assert_int_equal(quire_mprotect(s, Q_UVA(at + 8 * PAGE), PAGE, QUIRE_READ), QUIRE_OK);
    assert_int_equal(stats(s).vmas, 3);
    assert_int_equal(store(s, at + 8 * PAGE, 1), QUIRE_SEGV_ACCERR);
    assert_int_equal(quire_mprotect(s, Q_UVA(at + 8 * PAGE), PAGE, RW), QUIRE_OK);
    assert_int_equal(stats(s).vmas, 1);
    assert_int_equal(store(s, at + 8 * PAGE, 1), QUIRE_OK);
}

/* proves: X-02 */
static void the_break_grows_as_one_mapping_and_gives_frames_back(void **state)
{
    uint64_t start = 0x600000, rss;

    (void)state;
    quire_brk_init(s, Q_UVA(start));
    assert_int_equal(quire_brk(s, Q_UVA(0)).v, start);
    for (unsigned i = 1; i <= 64; i++)
        assert_int_equal(quire_brk(s, Q_UVA(start + i * PAGE)).v, start + i * PAGE);
    assert_int_equal(stats(s).vmas, 1);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(store(s, start + i * PAGE, i), QUIRE_OK);
    rss = stats(s).rss_anon;
    assert_int_equal(quire_brk(s, Q_UVA(start + 10 * PAGE)).v, start + 10 * PAGE);
    assert_int_equal(stats(s).rss_anon, rss - 54);
    /* beyond the limit, and below the start: the break stays */
    assert_int_equal(quire_brk(s, Q_UVA(start + QUIRE_BRK_MAX + PAGE)).v, start + 10 * PAGE);
    assert_int_equal(quire_brk(s, Q_UVA(start - 1)).v, start + 10 * PAGE);
    expect(s, start + 9 * PAGE, 9);
    /* it comes back zeroed */
    assert_int_equal(quire_brk(s, Q_UVA(start + 11 * PAGE)).v, start + 11 * PAGE);
    expect(s, start + 10 * PAGE, 0);
}

/* proves: VM-24 AS-27 TRAP-8 VE-30 */
static void fork_copies_only_what_is_written_and_both_ways_apart(void **state)
{
    uint64_t at = map_anon(s, 100 * PAGE), free_pages, copies;
    struct quire_space *child;

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(store(s, at + i * PAGE, i), QUIRE_OK);
    free_pages = quire_free_pages();
    assert_int_equal(quire_space_fork(s, &child), QUIRE_OK);
    assert_true(free_pages - quire_free_pages() < 16); /* tables and vmas only */
    assert_int_equal(frame_at(s, at).v, frame_at(child, at).v);
    assert_false(writable(s, at));
    assert_false(writable(child, at));

    copies = count(QUIRE_EVENT_FAULT_COW_COPY);
    assert_int_equal(store(child, at, 1000), QUIRE_OK);
    assert_int_equal(store(s, at + PAGE, 2000), QUIRE_OK);
    assert_int_equal(count(QUIRE_EVENT_FAULT_COW_COPY), copies + 2);
    expect(s, at, 0);
    expect(child, at, 1000);
    expect(s, at + PAGE, 2000);
    expect(child, at + PAGE, 1);
    assert_int_equal(quire_space_verify(child), QUIRE_OK);

    /* alone again: no copy */
    quire_space_put(child);
    assert_int_equal(store(s, at + 5 * PAGE, 7), QUIRE_OK);
    assert_int_equal(count(QUIRE_EVENT_FAULT_COW_COPY), copies + 2);
}

/* proves: TRAP-8 VM-24 */
static void forty_generations_of_forks_leave_no_chain(void **state)
{
    uint64_t at = map_anon(s, 4 * PAGE);

    (void)state;
    assert_int_equal(store(s, at, 0), QUIRE_OK);
    assert_int_equal(store(s, at + PAGE, 42), QUIRE_OK);
    for (unsigned k = 1; k <= 40; k++) {
        struct quire_space *child;
        struct quire_page *page;

        assert_int_equal(quire_space_fork(s, &child), QUIRE_OK);
        page = quire_page_of_pfn(frame_at(child, at + PAGE));
        assert_int_equal(page->maps, 2);
        assert_int_equal(page->refs, 2);
        quire_space_put(s);
        s = child;
        assert_int_equal(page->maps, 1);
        assert_int_equal(store(s, at, k), QUIRE_OK);
        expect(s, at + PAGE, 42);
    }
    expect(s, at, 40);
}

static unsigned fills;
static enum quire_status fill(void *cookie, uint64_t index, void *page)
{
    fills++;
    if (cookie == &fills && index == 3)
        return QUIRE_IO;
    ((uint64_t *)page)[0] = 0x1000 + index;
    return QUIRE_OK;
}
static const struct quire_pager pager = {.fill = fill};

/* proves: VM-25 VM-26 VM-06 AS-28 VM-03 */
static void a_file_is_read_once_and_shared_by_all_who_map_it(void **state)
{
    struct quire_object *o;
    uint64_t a = 0, b = 0, c = 0;
    struct quire_page *page;

    (void)state;
    fills = 0;
    assert_int_equal(quire_object_create_file(&pager, NULL, 20 * PAGE, &o), QUIRE_OK);
    assert_int_equal(map_at(s, &a, 20 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED, o, 0), QUIRE_OK);
    assert_int_equal(map_at(s, &b, 20 * PAGE, RW, QUIRE_MAP_PRIVATE, o, 0), QUIRE_OK);
    assert_int_equal(fills, 0);
    expect(s, a + 2 * PAGE, 0x1002);
    expect(s, b + 2 * PAGE, 0x1002);
    assert_int_equal(fills, 1);
    assert_int_equal(frame_at(s, a + 2 * PAGE).v, frame_at(s, b + 2 * PAGE).v);
    page = quire_object_peek(o, 2);
    assert_non_null(page);
    assert_int_equal(quire_pfn_of_page(page).v, frame_at(s, a + 2 * PAGE).v);
    assert_null(quire_object_peek(o, 3));
    assert_int_equal(page->maps, 2);
    quire_page_put(page);

    /* a private write stays private */
    assert_int_equal(store(s, b + 2 * PAGE, 9), QUIRE_OK);
    expect(s, b + 2 * PAGE, 9);
    expect(s, a + 2 * PAGE, 0x1002);
    /* with an offset */
    assert_int_equal(map_at(s, &c, PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE, o, 7 * PAGE), QUIRE_OK);
    expect(s, c, 0x1007);
    assert_int_equal(quire_object_resident(o), 2);
    quire_object_put(o);
}

/* proves: VM-06 AS-28 */
static void neighbours_in_the_cache_are_mapped_along(void **state)
{
    struct quire_object *o;
    uint64_t a = 0, before;

    (void)state;
    assert_int_equal(quire_object_create_shared(64 * PAGE, &o), QUIRE_OK);
    assert_int_equal(map_at(s, &a, 64 * PAGE, RW, QUIRE_MAP_SHARED, o, 0), QUIRE_OK);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(store(s, a + i * PAGE, i), QUIRE_OK);
    assert_int_equal(quire_munmap(s, Q_UVA(a), 64 * PAGE), QUIRE_OK);
    assert_int_equal(map_at(s, &a, 64 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED, o, 0), QUIRE_OK);
    before = count(QUIRE_EVENT_FAULT_SHARED);
    for (unsigned i = 0; i < 64; i++)
        expect(s, a + i * PAGE, i);
    /* one fault for each aligned group of 16 */
    assert_int_equal(count(QUIRE_EVENT_FAULT_SHARED) - before,
                     (a + 63 * PAGE) / (16 * PAGE) - a / (16 * PAGE) + 1);
    assert_int_equal(stats(s).rss_shared, 64);
    quire_object_put(o);
}

/* proves: VE-30 VE-31 */
static void beyond_the_end_of_a_file_is_a_bus_error_and_a_failed_read_is_one_too(void **state)
{
    struct quire_object *o;
    uint64_t a = 0, got;

    (void)state;
    assert_int_equal(quire_object_create_file(&pager, &fills, 5 * PAGE + 1, &o), QUIRE_OK);
    assert_int_equal(map_at(s, &a, 10 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED, o, 0), QUIRE_OK);
    expect(s, a + 5 * PAGE, 0x1005);
    assert_int_equal(load(s, a + 6 * PAGE, &got), QUIRE_BUS_ADRERR);
    assert_int_equal(load(s, a + 3 * PAGE, &got), QUIRE_IO);
    /* truncation takes mapped pages away */
    assert_int_equal(quire_object_set_size(o, PAGE), QUIRE_OK);
    assert_false(present(s, a + 5 * PAGE));
    assert_int_equal(load(s, a + 5 * PAGE, &got), QUIRE_BUS_ADRERR);
    assert_int_equal(stats(s).rss_file, 0);
    quire_object_put(o);
}

/* proves: VM-26 */
static void an_object_knows_who_maps_it(void **state)
{
    struct quire_object *o, *found;
    uint64_t a = 0, b = 0, offset = 0;

    (void)state;
    assert_int_equal(quire_object_create_shared(8 * PAGE, &o), QUIRE_OK);
    assert_int_equal(quire_object_mappings(o), 0);
    assert_false(quire_object_write_shared(o));
    assert_int_equal(map_at(s, &a, 4 * PAGE, RW, QUIRE_MAP_PRIVATE, o, 0), QUIRE_OK);
    assert_false(quire_object_write_shared(o)); /* private writes are nobody else's business */
    assert_int_equal(map_at(s, &b, 4 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED, o, 2 * PAGE), QUIRE_OK);
    assert_int_equal(quire_object_mappings(o), 2);
    assert_true(quire_object_write_shared(o)); /* mprotect could allow it */

    found = quire_space_object(s, Q_UVA(b + PAGE + 5), &offset);
    assert_ptr_equal(found, o);
    assert_int_equal(offset, 3 * PAGE + 5);
    quire_object_put(found);
    assert_null(quire_space_object(s, Q_UVA(map_anon(s, PAGE)), &offset));
    assert_null(quire_space_object(s, Q_UVA(0x10000), &offset));

    assert_true(quire_object_tryget(o));
    quire_object_put(o);
    quire_object_put(o);
}

/* proves: VM-04 */
static void a_device_is_mapped_as_it_is_and_uncounted(void **state)
{
    struct quire_object *o;
    struct quire_translation t;
    uint64_t a = 0;

    (void)state;
    assert_int_equal(quire_object_create_device(Q_PA(0xfee00000), 4 * PAGE, QUIRE_UNCACHED, &o),
                     QUIRE_OK);
    assert_int_equal(map_at(s, &a, 2 * PAGE, RW, QUIRE_MAP_SHARED, o, 2 * PAGE), QUIRE_OK);
    assert_int_equal(quire_fault(s, Q_UVA(a + PAGE), QUIRE_WRITE), QUIRE_OK);
    quire_pt_translate(quire_space_root(s), a + PAGE, &t);
    assert_true(t.present);
    assert_int_equal(t.pa.v, 0xfee03000);
    assert_true(t.entry & (1 << 4)); /* PCD: SDM 3A, table 4-20 */
    assert_int_equal(stats(s).rss_anon + stats(s).rss_file + stats(s).rss_shared, 0);
    quire_object_put(o);
}

/* proves: VE-30 VE-31 VM-09 */
static void a_stack_grows_to_its_limit_and_keeps_its_guard(void **state)
{
    uint64_t grown = count(QUIRE_EVENT_FAULT_STACK), low;
    q_uva top;

    (void)state;
    assert_int_equal(quire_stack_map(s, 8 * MIB, RW, &top), QUIRE_OK);
    assert_int_equal(store(s, top.v - 8, 1), QUIRE_OK);
    assert_int_equal(store(s, top.v - MIB, 2), QUIRE_OK);
    assert_int_equal(count(QUIRE_EVENT_FAULT_STACK), grown + 1);
    expect(s, top.v - MIB / 2, 0);
    assert_int_equal(store(s, top.v - 8 * MIB, 3), QUIRE_OK);
    assert_int_equal(store(s, top.v - 8 * MIB - 8, 4), QUIRE_SEGV_MAPERR);
    /* a hint inside the guard gap below is not followed, one at its end is */
    low = top.v - 8 * MIB - 64 * PAGE;
    assert_int_equal(map_at(s, &low, 64 * PAGE, RW, PRIV, NULL, 0), QUIRE_OK);
    assert_int_not_equal(low, top.v - 8 * MIB - 64 * PAGE);
    low = top.v - 8 * MIB - QI_STACK_GUARD - 64 * PAGE;
    assert_int_equal(map_at(s, &low, 64 * PAGE, RW, PRIV, NULL, 0), QUIRE_OK);
    assert_int_equal(low, top.v - 8 * MIB - QI_STACK_GUARD - 64 * PAGE);
}

/* proves: TRAP-7 LX-26 */
static void a_huge_leaf_is_split_where_it_is_cut(void **state)
{
    uint64_t at = map_anon(s, 6 * MIB), huge = (at + 2 * MIB - 1) & ~(2 * MIB - 1), free_pages;
    struct quire_translation t;

    (void)state;
    free_pages = quire_free_pages();
    assert_int_equal(quire_madvise(s, Q_UVA(huge), 4 * MIB, 14), QUIRE_OK);
    assert_int_equal(store(s, huge + 5 * PAGE, 77), QUIRE_OK);
    quire_pt_translate(quire_space_root(s), huge, &t);
    assert_int_equal(t.leaf_shift, 21);
    assert_int_equal(stats(s).rss_anon, 512);
    expect(s, huge + MIB, 0);

    /* protection of a part */
    assert_int_equal(quire_mprotect(s, Q_UVA(huge + 4 * PAGE), 4 * PAGE, QUIRE_READ), QUIRE_OK);
    quire_pt_translate(quire_space_root(s), huge, &t);
    assert_int_equal(t.leaf_shift, 12);
    assert_false(writable(s, huge + 5 * PAGE));
    assert_true(writable(s, huge + 3 * PAGE));
    expect(s, huge + 5 * PAGE, 77);

    /* a hole in another */
    assert_int_equal(store(s, huge + 2 * MIB, 5), QUIRE_OK);
    quire_pt_translate(quire_space_root(s), huge + 2 * MIB, &t);
    assert_int_equal(t.leaf_shift, 21);
    assert_int_equal(quire_munmap(s, Q_UVA(huge + 3 * MIB), PAGE), QUIRE_OK);
    expect(s, huge + 2 * MIB, 5);
    assert_int_equal(stats(s).rss_anon, 1023);
    assert_int_equal(quire_space_verify(s), QUIRE_OK);
    assert_int_equal(quire_munmap(s, Q_UVA(at), 6 * MIB), QUIRE_OK);
    quire_heap_drain();
    assert_true(quire_free_pages() + 8 >= free_pages);
}

/* proves: TRAP-8 TRAP-7 */
static void a_huge_page_survives_fork(void **state)
{
    uint64_t at = map_anon(s, 4 * MIB), huge = (at + 2 * MIB - 1) & ~(2 * MIB - 1);
    struct quire_space *child;

    (void)state;
    assert_int_equal(quire_madvise(s, Q_UVA(huge), 2 * MIB, 14), QUIRE_OK);
    assert_int_equal(store(s, huge + PAGE, 1), QUIRE_OK);
    assert_int_equal(quire_space_fork(s, &child), QUIRE_OK);
    assert_int_equal(store(child, huge + PAGE, 2), QUIRE_OK);
    expect(s, huge + PAGE, 1);
    assert_int_equal(quire_space_verify(s), QUIRE_OK);
    assert_int_equal(quire_space_verify(child), QUIRE_OK);
    quire_space_put(child);
}

/* proves: TRAP-17 */
static void mremap_moves_every_page_however_the_ranges_lie(void **state)
{
    /* distance of the target from a place that is alike modulo 2 MiB, and pages that exist */
    static const struct {
        uint64_t shift, from, step;
    } way[] = {{0, 0, 1},   {5 * PAGE, 0, 1}, {0, 3 * PAGE, 7}, {511 * PAGE, 200 * PAGE, 97},
               {0, 0, 600}, {PAGE, 0, 600}};
    const unsigned pages = 1600; /* parts of four tables and more */

    (void)state;
    for (unsigned k = 0; k < sizeof way / sizeof way[0]; k++) {
        uint64_t from = 0x100000000 + way[k].from, to = 0x140000000 + way[k].from + way[k].shift;
        uint64_t tables = quire_pt_pages(), rss = stats(s).rss_anon, got;
        q_pfn frame;
        q_uva out;

        assert_int_equal(map_at(s, &from, pages * PAGE, RW, PRIV | QUIRE_MAP_FIXED, NULL, 0),
                         QUIRE_OK);
        for (unsigned i = 0; i < pages; i += way[k].step)
            assert_int_equal(store(s, from + i * PAGE, i + 1), QUIRE_OK);
        frame = frame_at(s, from);
        assert_int_equal(quire_mremap(s, Q_UVA(from), pages * PAGE, (pages + 100) * PAGE,
                                      QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED, Q_UVA(to), &out),
                         QUIRE_OK);
        assert_int_equal(out.v, to);
        assert_int_equal(frame_at(s, to).v, frame.v); /* moved, not copied */
        for (unsigned i = 0; i < pages; i++)
            expect(s, to + i * PAGE, i % way[k].step ? 0 : i + 1);
        assert_int_equal(load(s, from, &got), QUIRE_SEGV_MAPERR);
        expect(s, to + (pages + 99) * PAGE, 0);
        assert_int_equal(quire_space_verify(s), QUIRE_OK);
        assert_int_equal(quire_munmap(s, out, (pages + 100) * PAGE), QUIRE_OK);
        assert_int_equal(stats(s).rss_anon, rss);
        assert_int_equal(quire_pt_pages(), tables);
    }
}

/* proves: X-04 VE-14 */
static void empty_tables_are_freed(void **state)
{
    uint64_t tables = quire_pt_pages(), at[32];

    (void)state;
    for (unsigned i = 0; i < 32; i++) {
        at[i] = 0x100000000ull + i * (3ull << 30) + i * PAGE;
        assert_int_equal(map_at(s, &at[i], PAGE, RW, PRIV | QUIRE_MAP_FIXED, NULL, 0), QUIRE_OK);
        assert_int_equal(store(s, at[i], i), QUIRE_OK);
    }
    assert_true(quire_pt_pages() >= tables + 64);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(quire_munmap(s, Q_UVA(at[i]), PAGE), QUIRE_OK);
    assert_int_equal(quire_pt_pages(), tables);
}

/* proves: VE-54 AS-17 VE-18 */
static void bad_arguments_are_refused_and_change_nothing(void **state)
{
    uint64_t at = map_anon(s, 4 * PAGE), x;
    struct quire_space_stats before = stats(s), after;
    q_uva out;
    static const struct {
        uint64_t at, len;
        unsigned flags;
        enum quire_status want;
    } bad[] = {
        {0, 0, PRIV, QUIRE_INVALID},
        {0, ~0ull, PRIV, QUIRE_NO_MEMORY},
        {0, ~0ull - 4095, PRIV, QUIRE_NO_MEMORY},
        {0, 1ull << 47, PRIV, QUIRE_NO_MEMORY},
        {0x7ffffffff000, PAGE, PRIV | QUIRE_MAP_FIXED, QUIRE_NO_MEMORY},
        {0x10001, PAGE, PRIV | QUIRE_MAP_FIXED, QUIRE_INVALID},
        {0, PAGE, PRIV | QUIRE_MAP_FIXED, QUIRE_PERM},
        {0, PAGE, QUIRE_MAP_ANONYMOUS, QUIRE_INVALID},
        {0, PAGE, PRIV | QUIRE_MAP_HUGETLB, QUIRE_INVALID},
        {0, 1ull << 40, PRIV, QUIRE_NO_MEMORY}, /* more than the machine has */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        x = bad[i].at;
        assert_int_equal(map_at(s, &x, bad[i].len, RW, bad[i].flags, NULL, 0), bad[i].want);
    }
    assert_int_equal(quire_munmap(s, Q_UVA(at + 1), PAGE), QUIRE_INVALID);
    assert_int_equal(quire_munmap(s, Q_UVA(at), 0), QUIRE_INVALID);
    assert_int_equal(quire_munmap(s, Q_UVA(at), ~0ull), QUIRE_INVALID);
    assert_int_equal(quire_mprotect(s, Q_UVA(at + 1), PAGE, RW), QUIRE_INVALID);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), ~0ull, RW), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), PAGE, 0x80), QUIRE_INVALID);
    assert_int_equal(quire_madvise(s, Q_UVA(at), PAGE, 77), QUIRE_INVALID);
    assert_int_equal(quire_madvise(s, Q_UVA(at), ~0ull, 4), QUIRE_INVALID);
    assert_int_equal(quire_msync(s, Q_UVA(at), PAGE, 5), QUIRE_INVALID);
    /* shrinking what would reach into the kernel's half */
    assert_int_equal(quire_mremap(s, Q_UVA(at), 1ull << 47, PAGE, 0, Q_UVA(0), &out),
                     QUIRE_INVALID);
    assert_int_equal(quire_mremap(s, Q_UVA(at), s->end, PAGE, QUIRE_MREMAP_MAYMOVE, Q_UVA(0), &out),
                     QUIRE_INVALID);
    after = stats(s);
    assert_memory_equal(&before, &after, sizeof before);
}

/* proves: VM-08 AS-14 VM-10 */
static void ten_thousand_vmas_are_found_and_the_tree_stays_sound(void **state)
{
    uint64_t base = map_anon(s, 20000 * PAGE);

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t k = i * 7919 % 10000; /* in scattered order */

        assert_int_equal(quire_mprotect(s, Q_UVA(base + 2 * k * PAGE), PAGE, QUIRE_READ), QUIRE_OK);
    }
    assert_int_equal(stats(s).vmas, 20000);
    assert_int_equal(quire_space_verify(s), QUIRE_OK);
    assert_true(s->root->rank <= 21); /* 1.44 log2 20000 */
    for (uint64_t i = 0; i < 20000; i += 37)
        assert_int_equal(quire_fault(s, Q_UVA(base + i * PAGE), QUIRE_WRITE),
                         i % 2 ? QUIRE_OK : QUIRE_SEGV_ACCERR);
    assert_int_equal(quire_mprotect(s, Q_UVA(base), 20000 * PAGE, RW), QUIRE_OK);
    assert_int_equal(stats(s).vmas, 1);
}

/* Everything a program does, once; QUIRE_OK or the first failure, which must be NO_MEMORY. */
static enum quire_status life_of_a_program(void)
{
    uint64_t at = 0, sh = 0;
    struct quire_space *child = NULL;
    enum quire_status st;
    q_uva moved;

    st = map_at(s, &at, 4 * MIB, RW, PRIV, NULL, 0);
    if (st == QUIRE_OK)
        st = map_at(s, &sh, 600 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_ANONYMOUS, NULL, 0);
    for (unsigned i = 0; st == QUIRE_OK && i < 600; i += 97) {
        st = store(s, at + i * PAGE, i);
        if (st == QUIRE_OK)
            st = store(s, sh + i * PAGE, i);
    }
    if (st == QUIRE_OK)
        st = quire_madvise(s, Q_UVA(at + 2 * MIB), 2 * MIB, 14);
    if (st == QUIRE_OK)
        st = store(s, at + 3 * MIB, 1);
    if (st == QUIRE_OK)
        st = quire_mprotect(s, Q_UVA(at + 3 * PAGE), PAGE, QUIRE_READ);
    if (st == QUIRE_OK)
        st = quire_space_fork(s, &child);
    if (st == QUIRE_OK)
        st = store(child, at, 5);
    if (st == QUIRE_OK)
        st = quire_mremap(s, Q_UVA(at + 8 * PAGE), 16 * PAGE, 600 * PAGE, QUIRE_MREMAP_MAYMOVE,
                          Q_UVA(0), &moved);
    if (st == QUIRE_OK)
        st = quire_munmap(s, Q_UVA(at + 3 * MIB), PAGE);
    assert_int_equal(quire_space_verify(s), QUIRE_OK);
    if (child) {
        assert_int_equal(quire_space_verify(child), QUIRE_OK);
        quire_space_put(child);
    }
    quire_space_put(s);
    s = NULL;
    return st;
}

/* proves: TRAP-18 */
static void every_allocation_fails_once_and_nothing_is_lost(void **state)
{
    unsigned failures = 0;

    (void)state;
    for (int64_t n = 1;; n++) {
        enum quire_status st;
        bool hit;

        if (!s)
            s = space_new();
        quire_frame_fail_after(n);
        st = life_of_a_program();
        hit = !quire_frame_fail_armed();
        quire_frame_fail_after(-1);
        /* a huge page that cannot be had is no failure: small ones do */
        assert_true(st == QUIRE_OK || st == QUIRE_NO_MEMORY);
        failures += st == QUIRE_NO_MEMORY;
        quire_heap_drain();
        assert_int_equal(quire_free_pages(), frames_before);
        if (!hit)
            break;
    }
    assert_true(failures > 10);
    s = space_new();
    for (int64_t n = 1;; n++) {
        enum quire_status st;
        bool hit;

        if (!s)
            s = space_new();
        quire_heap_fail_after(n);
        st = life_of_a_program();
        hit = !quire_heap_fail_armed();
        quire_heap_fail_after(-1);
        assert_true(st == QUIRE_OK || st == QUIRE_NO_MEMORY);
        quire_heap_drain();
        assert_int_equal(quire_free_pages(), frames_before);
        if (!hit)
            break;
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reading_maps_the_zero_page_and_writing_a_page_of_ones_own),
        T(a_frame_that_held_data_comes_back_zeroed),
        T(accesses_that_a_mapping_forbids_name_the_reason),
        T(munmap_cuts_a_mapping_in_all_five_ways),
        T(mprotect_splits_and_merges_back),
        T(the_break_grows_as_one_mapping_and_gives_frames_back),
        T(fork_copies_only_what_is_written_and_both_ways_apart),
        T(forty_generations_of_forks_leave_no_chain),
        T(a_file_is_read_once_and_shared_by_all_who_map_it),
        T(neighbours_in_the_cache_are_mapped_along),
        T(beyond_the_end_of_a_file_is_a_bus_error_and_a_failed_read_is_one_too),
        T(an_object_knows_who_maps_it),
        T(a_device_is_mapped_as_it_is_and_uncounted),
        T(a_stack_grows_to_its_limit_and_keeps_its_guard),
        T(a_huge_leaf_is_split_where_it_is_cut),
        T(a_huge_page_survives_fork),
        T(mremap_moves_every_page_however_the_ranges_lie),
        T(empty_tables_are_freed),
        T(bad_arguments_are_refused_and_change_nothing),
        T(ten_thousand_vmas_are_found_and_the_tree_stays_sound),
        T(every_allocation_fails_once_and_nothing_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
