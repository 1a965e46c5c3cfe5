/*
 * space_migrate_test.c - moving user memory out of a range of frames: what moves and with what rights, what
 * stays, who goes on meanwhile, and what is left when there is no memory.
 */
#include <space_fixture.h>

#include <pthread.h>
#include <stdatomic.h>

#define HALF (32 * MIB / PAGE) /* frames of the lower, and of the upper half of memory */

static uint64_t move_one(const struct quire_page *page)
{
    return quire_space_move_range(quire_pfn_of_page(page), 1);
}

static uint64_t move_all_below(void) { return quire_space_move_range(Q_PFN(0), HALF); }
static uint64_t move_all_above(void) { return quire_space_move_range(Q_PFN(HALF), HALF); }

/* What was at page is somewhere else, and the frame is nobody's. */
static void gone(const struct quire_page *page)
{
    assert_true(quire_page_flags(quire_pfn_of_page(page)) & QUIRE_PG_FREE);
}

/* ---- What moves ---- */

static void private_pages_move_with_content_and_rights(void **state)
{
    uint64_t at = map_anon(s, 3 * PAGE);
    const struct quire_page *page[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        OK(store(s, at + i * PAGE + 8 * i, 100 + i));
        page[i] = page_at(s, at + i * PAGE);
    }
    OK(quire_mprotect(s, Q_UVA(at + PAGE), PAGE, QUIRE_READ));
    OK(quire_mprotect(s, Q_UVA(at + 2 * PAGE), PAGE, 0));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(move_one(page[i]), 1);
        gone(page[i]);
        expect(s, at + i * PAGE + 8 * i, 100 + i);
    }
    assert_int_equal(leaf(s, at).prot, RW | QUIRE_USER);
    assert_true(leaf(s, at).dirty);
    assert_int_equal(page_at(s, at)->counts, QUIRE_PAGE_ONE_MAPPING);
    assert_int_equal(leaf(s, at + PAGE).prot, QUIRE_READ | QUIRE_USER);
    assert_false(leaf(s, at + 2 * PAGE).present);
    assert_int_equal(quire_fault(s, Q_UVA(at + 2 * PAGE), QUIRE_READ), QUIRE_SEGV_ACCERR);
    OK(quire_mprotect(s, Q_UVA(at + 2 * PAGE), PAGE, RW));
    expect(s, at + 2 * PAGE + 16, 102);
    assert_int_equal(stats(s).rss_anon, 3);
    assert_int_equal(count(QUIRE_EVENT_PAGES_MOVED), 3);
}

static void a_page_of_three_generations_moves_once_and_stays_shared(void **state)
{
    uint64_t at = map_anon(s, PAGE);
    struct quire_space *child, *grandchild;
    const struct quire_page *page;

    (void)state;
    OK(store(s, at, 7));
    OK(quire_space_fork(s, &child));
    OK(quire_space_fork(child, &grandchild));
    page = page_at(s, at);
    assert_int_equal(move_one(page), 1);
    gone(page);
    assert_ptr_equal(page_at(s, at), page_at(child, at));
    assert_ptr_equal(page_at(s, at), page_at(grandchild, at));
    assert_int_equal(page_at(s, at)->counts, 3 * QUIRE_PAGE_ONE_MAPPING);
    OK(store(child, at, 8));
    expect(s, at, 7);
    expect(child, at, 8);
    expect(grandchild, at, 7);
    OK(quire_space_verify(child));
    quire_space_put(child);
    quire_space_put(grandchild);
    OK(store(s, at, 9)); /* alone again: no copy */
    assert_int_equal(page_at(s, at)->counts, QUIRE_PAGE_ONE_MAPPING);
}

static void pages_of_an_object_move_for_all_that_see_it(void **state)
{
    struct quire_object *o;
    struct quire_page *page;
    uint64_t shared, private;

    (void)state;
    OK(quire_object_create_shared(200 * PAGE, &o));
    shared = map_object(o, 200 * PAGE, RW, QUIRE_MAP_SHARED);
    private = map_object(o, 200 * PAGE, RW, QUIRE_MAP_PRIVATE);
    OK(store(s, shared + 130 * PAGE, 5));
    expect(s, private + 130 * PAGE, 5);
    page = page_at(s, shared + 130 * PAGE);
    assert_int_equal(page->maps, 2);
    assert_int_equal(move_one(page), 1);
    gone(page);
    page = quire_object_peek(o, 130);
    assert_ptr_equal(page_at(s, shared + 130 * PAGE), page);
    assert_ptr_equal(page_at(s, private + 130 * PAGE), page);
    assert_int_equal(page->counts, 2 * QUIRE_PAGE_ONE_MAPPING + 2); /* the tree, and ours */
    assert_int_equal(page->index, 130);
    quire_page_put(page);
    OK(store(s, shared + 130 * PAGE, 6));
    expect(s, private + 130 * PAGE, 6);
    assert_int_equal(quire_object_resident(o), 1);
    quire_object_put(o);
}

static void a_page_that_nobody_maps_moves_in_the_cache(void **state)
{
    struct quire_object *o;
    struct quire_page *page, *now;

    (void)state;
    OK(quire_object_create_shared(PAGE, &o));
    OK(quire_object_page(o, 0, &page));
    *(uint64_t *)quire_page_ptr(page) = 77;
    assert_int_equal(move_one(page), 0); /* we have it in hand */
    quire_page_put(page);
    assert_int_equal(move_one(page), 1);
    gone(page);
    OK(quire_object_page(o, 0, &now));
    assert_int_equal(*(uint64_t *)quire_page_ptr(now), 77);
    quire_page_put(now);
    quire_object_put(o);
}

static void a_huge_page_moves_as_a_whole(void **state)
{
    uint64_t at = map_huge(0x40000000);
    const struct quire_page *page = page_at(s, at);

    (void)state;
    for (unsigned i = 0; i < 512; i++)
        OK(store(s, at + i * PAGE + 8, i));
    assert_int_equal(quire_space_move_range(quire_pfn_of_page(page), 512), 512);
    gone(page);
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    assert_int_equal(page_at(s, at)->counts, QUIRE_PAGE_ONE_MAPPING);
    for (unsigned i = 0; i < 512; i++)
        expect(s, at + i * PAGE + 8, i);
    /* one frame in the middle is asked for: all of it has to go */
    page = page_at(s, at);
    assert_int_equal(quire_space_move_range(Q_PFN(quire_pfn_of_page(page).v + 77), 1), 1);
    gone(page);
    expect(s, at + 511 * PAGE + 8, 511);
}

static void a_huge_page_without_a_block_is_cut_and_moves(void **state)
{
    uint64_t at = map_huge(0x40000000);
    struct quire_page *page = page_at(s, at), *held[64], *crumbs[2];
    unsigned n = 0;

    (void)state;
    OK(store(s, at + 300 * PAGE, 300));
    /* take all blocks of its order, and make two of them into crumbs */
    while ((held[n] = quire_page_alloc(QUIRE_HUGE_ORDER, QUIRE_GFP_USER, QUIRE_NODE_ANY)))
        n++;
    assert_true(n > 2);
    for (unsigned k = 0; k < 2; k++) {
        crumbs[k] = held[--n];
        quire_page_split(crumbs[k]);
        for (unsigned i = 0; i < 512; i++)
            if (i % 64)
                quire_page_free(crumbs[k] + i, 0);
    }
    assert_int_equal(quire_space_move_range(quire_pfn_of_page(page), 512), 512);
    assert_int_equal(leaf(s, at).leaf_shift, 12);
    assert_int_equal(count(QUIRE_EVENT_HUGE_SPLIT), 1);
    expect(s, at, 1);
    expect(s, at + 300 * PAGE, 300);
    for (unsigned i = 0; i < 512; i += 64) {
        quire_page_free(crumbs[0] + i, 0);
        quire_page_free(crumbs[1] + i, 0);
    }
    while (n)
        quire_page_free(held[--n], QUIRE_HUGE_ORDER);
}

static void a_range_is_flushed_once_a_space(void **state)
{
    uint64_t at = map_anon(s, 1000 * PAGE);
    struct quire_tlb_stats before, after;
    uint64_t there = 0;

    (void)state;
    quire_space_activate(s);
    for (unsigned i = 0; i < 1000; i++) {
        OK(store(s, at + i * PAGE, i));
        there += quire_pfn_of_page(page_at(s, at + i * PAGE)).v < HALF;
    }
    if (there < 1000)
        (void)move_all_above();
    quire_tlb_stats(&before);
    assert_int_equal(move_all_below(), 1000);
    quire_tlb_stats(&after);
    /* 8192 frames are two parts */
    assert_in_range(after.local_flushes + after.requests - before.local_flushes - before.requests,
                    1, 2);
    for (unsigned i = 0; i < 1000; i++)
        expect(s, at + i * PAGE, i);
    quire_space_activate(NULL);
}

/* ---- What stays ---- */

static void a_page_that_somebody_holds_stays_where_it_is(void **state)
{
    uint64_t at = map_anon(s, 2 * PAGE);
    struct quire_page *held, *other;
    struct quire_space *child;

    (void)state;
    OK(store(s, at, 1));
    OK(store(s, at + PAGE, 2));
    OK(quire_space_fork(s, &child));
    held = page_at(s, at);
    quire_page_get(held);
    other = page_at(s, at + PAGE);
    assert_int_equal(move_one(held), 0);
    assert_ptr_equal(page_at(s, at), held);
    assert_int_equal(held->counts, 2 * QUIRE_PAGE_ONE_MAPPING + 1);
    assert_int_equal(leaf(s, at).prot, QUIRE_READ | QUIRE_USER);
    assert_true(count(QUIRE_EVENT_PAGES_STAYED) > 0);
    OK(quire_space_verify(s));
    assert_int_equal(move_one(other), 1); /* the neighbour is nobody's */
    quire_page_put(held);
    assert_int_equal(move_one(held), 1);
    quire_space_put(child);
}

static void the_kernels_memory_and_tables_stay(void **state)
{
    uint64_t at = map_anon(s, PAGE);
    struct quire_page *mine = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    const struct quire_page *root = quire_page_of_pfn(quire_pfn_of_pa(quire_space_root(s)));

    (void)state;
    OK(store(s, at, 3));
    assert_int_equal(move_one(mine), 0);
    assert_int_equal(move_one(root), 0);
    assert_int_equal(move_one(quire_page_of_ptr(s)), 0);
    OK(quire_fault(s, Q_UVA(map_anon(s, PAGE)), QUIRE_READ)); /* the zero page */
    (void)move_all_above();
    assert_int_equal(move_all_below(), 1);
    assert_int_equal(move_all_above(), 1);
    expect(s, at, 3);
    quire_page_free(mine, 0);
    /* no such frames, and none at all */
    assert_int_equal(quire_space_move_range(Q_PFN(1ull << 40), 512), 0);
    assert_int_equal(quire_space_move_range(Q_PFN(~0ull), 2), 0);
    assert_int_equal(quire_space_move_range(Q_PFN(0), 0), 0);
}

static void without_memory_everything_stays(void **state)
{
    uint64_t at = map_anon(s, 8 * PAGE);
    struct quire_object *o;
    uint64_t shared;

    (void)state;
    OK(quire_object_create_shared(4 * PAGE, &o));
    shared = map_object(o, 4 * PAGE, RW, QUIRE_MAP_SHARED);
    for (unsigned i = 0; i < 8; i++) {
        OK(store(s, at + i * PAGE, i));
        OK(store(s, shared + i % 4 * PAGE, 50 + i % 4));
    }
    for (int64_t n = 1;; n++) {
        uint64_t free = quire_free_pages();
        bool armed;

        quire_frame_fail_after(n);
        (void)move_all_below();
        (void)move_all_above();
        armed = quire_frame_fail_armed();
        quire_frame_fail_after(-1);
        assert_int_equal(quire_free_pages(), free);
        OK(quire_space_verify(s));
        for (unsigned i = 0; i < 8; i++) {
            expect(s, at + i * PAGE, i);
            expect(s, shared + i % 4 * PAGE, 50 + i % 4);
        }
        if (armed)
            break;
        assert_in_range(n, 1, 1000);
    }
    assert_int_equal(move_all_below(), 12); /* nothing failed: all were left in the lower half */
    quire_object_put(o);
}

/* ---- Write-back ---- */

static unsigned stored; /* pages that reached the device */

static enum quire_status fill(void *cookie, uint64_t index, void *page)
{
    (void)cookie;
    (void)index;
    (void)page;
    return QUIRE_OK;
}
static enum quire_status keep(void *cookie, uint64_t index, const void *page)
{
    (void)index;
    *(uint64_t *)cookie = *(const uint64_t *)page;
    stored++;
    return QUIRE_OK;
}

static void a_write_that_only_the_leaf_knows_of_reaches_the_device(void **state)
{
    static const struct quire_pager pager = {.fill = fill, .store = keep};
    uint64_t device = 0, at;
    struct quire_object *o;

    (void)state;
    OK(quire_object_create_file(&pager, &device, PAGE, &o));
    at = map_object(o, PAGE, RW, QUIRE_MAP_SHARED);
    OK(store(s, at, 1));
    OK(quire_object_sync(o, 0, PAGE));
    assert_int_equal(device, 1);
    for (unsigned i = 2; i < 6; i++) {
        OK(store(s, at, i)); /* noted at the first write; later ones only in the leaf */
        assert_int_equal(move_one(page_at(s, at)), 1);
        stored = 0;
        if (i % 2)
            OK(quire_munmap(s, Q_UVA(at), PAGE));
        OK(quire_object_sync(o, 0, PAGE));
        assert_int_equal(device, i);
        assert_int_equal(stored, 1);
        if (i % 2)
            at = map_object(o, PAGE, RW, QUIRE_MAP_SHARED);
    }
    /* clean and moved is clean: nothing to store */
    stored = 0;
    expect(s, at, 5);
    assert_int_equal(move_one(page_at(s, at)), 1);
    OK(quire_object_sync(o, 0, PAGE));
    assert_int_equal(stored, 0);
    quire_object_put(o);
}

/* ---- Beside others ---- */

#define PAGES 64

static atomic_bool stop;
static atomic_uint wrong;
static atomic_ulong moved_total;

static void *mover(void *unused)
{
    hosted_cpu_set(1);
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&moved_total, move_all_below());
        atomic_fetch_add(&moved_total, move_all_above());
    }
    return unused;
}

/* Each round writes a number to all pages and reads it back, as a program would: no write may be lost. */
static void *writer(void *where)
{
    uint64_t at = (uintptr_t)where, got;

    hosted_cpu_set(2);
    for (uint64_t round = 1; !atomic_load(&stop); round++) {
        for (unsigned i = 0; i < PAGES; i++)
            if (store(s, at + i * PAGE + 24, round + i) != QUIRE_OK)
                atomic_fetch_add(&wrong, 1);
        for (unsigned i = 0; i < PAGES; i++)
            if (load(s, at + i * PAGE + 24, &got) != QUIRE_OK || got != round + i)
                atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

/* What a program does with its memory meanwhile. */
static void live(uint64_t shared, struct quire_object *o, unsigned round)
{
    uint64_t at = map_anon(s, 16 * PAGE), private = map_object(o, 16 * PAGE, RW, QUIRE_MAP_PRIVATE);
    struct quire_space *child;

    for (unsigned i = 0; i < 16; i++) {
        OK(store(s, at + i * PAGE, round + i));
        OK(store(s, shared + i * PAGE, round + i));
        if (i % 2)
            OK(store(s, private + i * PAGE, ~0ull));
    }
    OK(quire_space_fork(s, &child));
    OK(store(child, at + PAGE, 1));
    OK(quire_mprotect(s, Q_UVA(at), 4 * PAGE, QUIRE_READ));
    OK(quire_munmap(s, Q_UVA(at + 8 * PAGE), 2 * PAGE));
    for (unsigned i = 0; i < 8; i++) {
        expect(s, at + i * PAGE, round + i);
        expect(child, at + i * PAGE, i == 1 ? 1 : round + i);
        expect(child, shared + i * PAGE, round + i);
        expect(s, private + i * PAGE, i % 2 ? ~0ull : round + i);
    }
    OK(quire_object_set_size(o, 8 * PAGE));
    assert_int_equal(quire_fault(child, Q_UVA(shared + 9 * PAGE), QUIRE_READ), QUIRE_BUS_ADRERR);
    assert_int_equal(quire_fault(s, Q_UVA(private + 9 * PAGE), QUIRE_READ), QUIRE_BUS_ADRERR);
    OK(quire_object_set_size(o, 16 * PAGE));
    expect(s, shared + 9 * PAGE, 0);
    expect(s, shared + 7 * PAGE, round + 7);
    quire_space_put(child);
    OK(quire_munmap(s, Q_UVA(at), 16 * PAGE));
    OK(quire_munmap(s, Q_UVA(private), 16 * PAGE));
}

static void nothing_is_lost_while_programs_go_on(void **state)
{
    uint64_t at = map_anon(s, PAGES * PAGE), shared;
    pthread_t moves, writes;
    struct quire_object *o;

    (void)state;
    OK(quire_object_create_shared(16 * PAGE, &o));
    shared = map_object(o, 16 * PAGE, RW, QUIRE_MAP_SHARED);
    atomic_store(&stop, false);
    atomic_store(&moved_total, 0);
    assert_int_equal(pthread_create(&moves, NULL, mover, NULL), 0);
    assert_int_equal(pthread_create(&writes, NULL, writer, (void *)(uintptr_t)at), 0);
    for (unsigned round = 0; round < 300 || atomic_load(&moved_total) < 20 * PAGES; round++)
        live(shared, o, round * 1000);
    atomic_store(&stop, true);
    pthread_join(moves, NULL);
    pthread_join(writes, NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    OK(quire_munmap(s, Q_UVA(shared), 16 * PAGE));
    quire_object_put(o);
}

/* Every pageblock in turn goes off line and comes back, under two programs. */
static void memory_goes_off_line_under_its_users(void **state)
{
    uint64_t at = map_anon(s, PAGES * PAGE), big = map_anon(s, 16 * MIB), went = 0, stayed = 0;
    struct quire_block_info b;
    struct quire_space *child;
    pthread_t writes;

    (void)state;
    quire_frame_set_mover(quire_space_move_range);
    for (uint64_t i = 0; i < 4096; i++)
        OK(store(s, big + i * PAGE, i * i));
    OK(quire_space_fork(s, &child));
    atomic_store(&stop, false);
    atomic_store(&wrong, 0);
    assert_int_equal(pthread_create(&writes, NULL, writer, (void *)(uintptr_t)at), 0);
    for (uint64_t n = 1; n < 32; n++) {
        enum quire_status st = QUIRE_BUSY;
        unsigned fixed;

        OK(quire_block_info(n, &b));
        fixed = b.slab + b.table + b.kva + b.other + b.reserved;
        for (unsigned tries = 0; st == QUIRE_BUSY && tries < 50; tries++) {
            st = quire_frame_offline(Q_PFN(n * 512), 512); /* the writer may be about a page */
            if (st == QUIRE_BUSY)
                sched_yield();
        }
        if (st == QUIRE_OK) {
            assert_int_equal(fixed, 0);
            OK(quire_block_info(n, &b));
            assert_int_equal(b.reserved, 512);
            went++;
            for (uint64_t i = n; i < 4096; i += 32)
                expect(i % 64 == n ? child : s, big + i * PAGE, i * i);
            OK(quire_frame_online(Q_PFN(n * 512), 512));
        } else {
            stayed +=
                !fixed && !b.cached; /* in the writer's own list: only it can give them back */
        }
    }
    atomic_store(&stop, true);
    pthread_join(writes, NULL);
    quire_frame_set_mover(NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(went >= 20);
    assert_int_equal(stayed, 0);
    for (uint64_t i = 0; i < 4096; i++) {
        expect(s, big + i * PAGE, i * i);
        expect(child, big + i * PAGE, i * i);
    }
    OK(quire_space_verify(child));
    quire_space_put(child);
}

/* The words of what is left of a mapping of which every third page was given back. */
static void check_thirds(uint64_t at, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++)
        if (i % 3)
            expect(s, at + i * PAGE + 40, ~i);
}

/* No two megabytes are free in one piece, though a third of memory is; with the pages of a program that goes
 * on writing to them moved there are.
 * proves: TRAP-6 */
static void large_requests_succeed_beside_writers(void **state)
{
    uint64_t pages = quire_free_pages() - 2500, big = map_anon(s, pages * PAGE);
    struct quire_page *large[4], *rest[32];
    unsigned n = 0;
    pthread_t writes;
    uint64_t at;

    (void)state;
    for (uint64_t i = 0; i < pages; i++)
        OK(store(s, big + i * PAGE + 40, ~i));
    at = map_anon(s, PAGES * PAGE);
    for (unsigned i = 0; i < PAGES; i++)
        OK(store(s, at + i * PAGE, i));
    for (uint64_t i = 0; i < pages; i += 3)
        OK(quire_madvise(s, Q_UVA(big + i * PAGE), PAGE, 4));
    while (n < 32 && (rest[n] = quire_page_alloc(QUIRE_HUGE_ORDER, QUIRE_GFP_USER, QUIRE_NODE_ANY)))
        n++; /* what is still there in large pieces */
    assert_true(n < 32 && quire_free_pages() > pages / 4);
    assert_null(
        quire_alloc_contig_pages(512, 512, QUIRE_GFP_COMPOUND | QUIRE_GFP_MOVABLE, QUIRE_NODE_ANY));
    quire_frame_set_mover(quire_space_move_range);
    atomic_store(&stop, false);
    atomic_store(&wrong, 0);
    assert_int_equal(pthread_create(&writes, NULL, writer, (void *)(uintptr_t)at), 0);
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned tries = 0; tries < 100; tries++) { /* the writer may be about a page */
            large[k] = quire_alloc_contig_pages(512, 512, QUIRE_GFP_COMPOUND | QUIRE_GFP_MOVABLE,
                                                QUIRE_NODE_ANY);
            if (large[k])
                break;
            sched_yield();
        }
        assert_non_null(large[k]);
        memset(quire_page_ptr(large[k]), 0xa5, 2 * MIB);
    }
    check_thirds(big, pages);
    atomic_store(&stop, true);
    pthread_join(writes, NULL);
    quire_frame_set_mover(NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    check_thirds(big, pages);
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < 2 * MIB; i += 64)
            assert_int_equal(((unsigned char *)quire_page_ptr(large[k]))[i], 0xa5);
        quire_page_free(large[k], QUIRE_HUGE_ORDER);
    }
    while (n)
        quire_page_free(rest[--n], QUIRE_HUGE_ORDER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(private_pages_move_with_content_and_rights),
        T(a_page_of_three_generations_moves_once_and_stays_shared),
        T(pages_of_an_object_move_for_all_that_see_it),
        T(a_page_that_nobody_maps_moves_in_the_cache),
        T(a_huge_page_moves_as_a_whole),
        T(a_huge_page_without_a_block_is_cut_and_moves),
        T(a_range_is_flushed_once_a_space),
        T(a_page_that_somebody_holds_stays_where_it_is),
        T(the_kernels_memory_and_tables_stay),
        T(without_memory_everything_stays),
        T(a_write_that_only_the_leaf_knows_of_reaches_the_device),
        T(nothing_is_lost_while_programs_go_on),
        T(memory_goes_off_line_under_its_users),
        T(large_requests_succeed_beside_writers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
