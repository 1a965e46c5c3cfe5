/*
 * space_life_test.c - how a space begins, forks and ends; stacks; and faults that are not the
 * common ones.
 */
#include <space_fixture.h>

/* ---- Beginning and end ---- */

static enum quire_status create(struct quire_space_config c, struct quire_space **out)
{
    c.limit_as = c.limit_data = c.limit_memlock = ~0ull;
    c.limit_stack = 8 * MIB;
    return quire_space_create(&c, out);
}

static void spaces_that_cannot_be_are_refused(void **state)
{
    static const struct {
        uint64_t start, end;
    } bad[] = {{0, MIB},   {0x10001, MIB}, {0x10000, MIB + 1},
               {MIB, MIB}, {2 * MIB, MIB}, {0x10000, (1ull << 47) + 4096}};
    struct quire_space *made = NULL;

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(create((struct quire_space_config){.start = Q_UVA(bad[i].start),
                                                            .end = Q_UVA(bad[i].end)},
                                &made),
                         QUIRE_INVALID);
    assert_null(made);
}

/* proves: TRAP-18 */
static void a_space_is_made_whole_or_not_at_all(void **state)
{
    struct quire_space_config c = {.start = Q_UVA(0x10000), .end = Q_UVA(1ull << 47)};
    struct quire_space *made;
    uint64_t free_pages;

    (void)state;
    quire_heap_drain();
    free_pages = quire_free_pages();
    for (int layer = 0; layer < 2; layer++) {
        enum quire_status st = QUIRE_NO_MEMORY;
        unsigned refused = 0;

        for (int64_t n = 1; st != QUIRE_OK || n < 4; n++) {
            (layer ? quire_frame_fail_after : quire_heap_fail_after)(n);
            st = create(c, &made);
            (layer ? quire_frame_fail_after : quire_heap_fail_after)(-1);
            refused += st == QUIRE_NO_MEMORY;
            if (st == QUIRE_OK)
                quire_space_put(made);
            quire_heap_drain();
            assert_int_equal(quire_free_pages(), free_pages);
        }
        assert_true(refused > 0);
    }
}

/* Nothing stays of a start that failed; one that succeeds makes caches, which take memory.
 * proves: TRAP-18 */
static void the_layer_comes_up_or_says_no(void **state)
{
    uint64_t free_pages;
    unsigned refused = 0;
    bool hit = true;

    (void)state;
    quire_space_put(s);
    s = NULL;
    for (int layer = 0; layer < 2; layer++, hit = true)
        for (int64_t n = 1; hit; n++) {
            enum quire_status st;

            quire_heap_drain();
            free_pages = quire_free_pages();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(n);
            st = quire_space_init();
            hit = !(layer ? quire_heap_fail_armed : quire_frame_fail_armed)();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(-1);
            /* a large slab that cannot be had is made smaller */
            assert_true(st == QUIRE_OK || (hit && st == QUIRE_NO_MEMORY));
            refused += st != QUIRE_OK;
            quire_heap_drain();
            if (st != QUIRE_OK)
                assert_int_equal(quire_free_pages(), free_pages);
        }
    assert_true(refused >= 5); /* four caches and the zero page */
    s = space_new();
    expect(s, map_anon(s, PAGE), 0);
    quire_space_put(s);
    s = NULL;
    quire_heap_drain();
    frames_before = quire_free_pages(); /* caches of layers that came up before stay */
}

static void a_space_may_be_active_lazy_or_neither(void **state)
{
    uint64_t at = map_anon(s, PAGE);

    (void)state;
    assert_null(quire_space_active());
    quire_space_activate(NULL); /* nothing is loaded yet */
    assert_null(quire_space_active());
    quire_space_get(s);
    quire_space_activate(s);
    assert_ptr_equal(quire_space_active(), s);
    OK(store(s, at, 1));
    quire_space_put(s); /* not the last */
    expect(s, at, 1);
    quire_space_activate(NULL);
    assert_null(quire_space_active());
    quire_space_clear(s);
    assert_int_equal(stats(s).total, 0);
    assert_int_equal(stats(s).rss_anon, 0);
    expect(s, map_anon(s, PAGE), 0); /* usable still */
}

static void random_places_stay_inside(void **state)
{
    uint64_t base[8], brk[8], stack[8], same = 0;
    struct quire_space *r;

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        q_uva top;

        OK(create((struct quire_space_config){.start = Q_UVA(0x10000),
                                              .end = Q_UVA(0x7ffffffff000),
                                              .randomize = true},
                  &r));
        quire_brk_init(r, Q_UVA(0x600000));
        brk[i] = stats(r).brk_start.v;
        assert_in_range(brk[i], 0x600000, 0x600000 + 32 * MIB);
        OK(quire_stack_map(r, 8 * MIB, RW, &top));
        stack[i] = top.v;
        assert_in_range(0x7ffffffff000 - stack[i], 0, (16ull << 30) - PAGE);
        base[i] = stats(r).mmap_base.v;
        assert_true(base[i] < stack[i]);
        assert_int_equal((base[i] | brk[i] | stack[i]) % PAGE, 0);
        same += i && base[i] == base[0] && brk[i] == brk[0] && stack[i] == stack[0];
        quire_space_put(r);
    }
    assert_int_equal(same, 0);
    OK(create((struct quire_space_config){.start = Q_UVA(0x10000),
                                          .end = Q_UVA(1ull << 32),
                                          .randomize = true},
              &r)); /* too small for any randomness: from the top */
    assert_int_equal(stats(r).mmap_base.v, 1ull << 32);
    quire_space_put(r);
}

/* ---- Fork ---- */

/* proves: TRAP-8 */
static void what_is_not_for_children_stays(void **state)
{
    uint64_t keep = map_fixed(0x100000, 2 * PAGE, RW, PRIV);
    uint64_t mine = map_fixed(0x200000, 2 * PAGE, RW, PRIV);
    uint64_t wipe = map_fixed(0x300000, 2 * PAGE, RW, PRIV), got;
    struct quire_space *child;

    (void)state;
    OK(store(s, keep, 1));
    OK(store(s, mine, 2));
    OK(store(s, wipe, 3));
    OK(quire_madvise(s, Q_UVA(mine), 2 * PAGE, 10));
    OK(quire_madvise(s, Q_UVA(wipe), 2 * PAGE, 18));
    OK(quire_mlock(s, Q_UVA(keep), PAGE, false));
    OK(quire_space_fork(s, &child));
    expect(child, keep, 1);
    assert_int_equal(load(child, mine, &got), QUIRE_SEGV_MAPERR);
    expect(child, wipe, 0);
    expect(s, wipe, 3);
    assert_int_equal(stats(child).locked, 0);
    assert_int_equal(stats(child).vmas, 3); /* what was locked, the rest of it, the wiped */
    OK(quire_space_verify(child));
    quire_space_put(child);
}

/* proves: TRAP-18 TRAP-8 */
static void a_fork_without_memory_leaves_no_child(void **state)
{
    uint64_t at = map_huge(0x40000000), free_pages;
    struct quire_space *child;
    unsigned refused = 0;
    bool hit = true;

    (void)state;
    map_fixed(0x100000, PAGE, RW, PRIV);
    OK(store(s, 0x100000, 7));
    for (int64_t n = 1; hit; n++) {
        enum quire_status st;
        uint64_t tables;

        OK(quire_munmap(s, Q_UVA(at), 2 * MIB)); /* split by the fork before, perhaps */
        map_huge(at);
        tables = stats(s).tables;
        quire_heap_drain();
        free_pages = quire_free_pages();
        quire_frame_fail_after(n);
        st = quire_space_fork(s, &child);
        hit = !quire_frame_fail_armed();
        quire_frame_fail_after(-1);
        if (st == QUIRE_OK) { /* not reached, or the heap could do without */
            expect(child, at, 1);
            quire_space_put(child);
        } else {
            assert_int_equal(st, QUIRE_NO_MEMORY);
            refused++;
        }
        expect(s, 0x100000, 7);
        expect(s, at, 1);
        OK(quire_space_verify(s));
        quire_heap_drain();
        /* at most the huge page was split */
        assert_int_equal(quire_free_pages(), free_pages - (stats(s).tables - tables));
    }
    assert_true(refused > 4); /* the root, the table of the split, tables of the child */
}

/* ---- Stacks ---- */

static uint64_t stack_of(uint64_t at, uint64_t len, unsigned flags)
{
    return map_fixed(at, len, RW, PRIV | QUIRE_MAP_GROWSDOWN | flags);
}

static void set_limits(uint64_t as, uint64_t stack, uint64_t memlock)
{
    struct quire_space_config c = {
        .limit_as = as, .limit_data = ~0ull, .limit_stack = stack, .limit_memlock = memlock};

    quire_space_set_limits(s, &c);
}

/* proves: VE-30 */
static void a_stack_stops_at_what_lies_below(void **state)
{
    const uint64_t guard = QI_STACK_GUARD;
    uint64_t low = map_fixed(0x10000000, PAGE, RW, PRIV) + PAGE, top = low + 4 * MIB;

    (void)state;
    stack_of(top, PAGE, 0);
    OK(store(s, low + guard, 1)); /* a gap is left to writable memory */
    assert_int_equal(store(s, low + guard - 8, 1), QUIRE_SEGV_MAPERR);
    OK(quire_mprotect(s, Q_UVA(low - PAGE), PAGE, 0)); /* a guard page of the program's own */
    OK(store(s, low, 1));
    assert_int_equal(store(s, low - PAGE, 1), QUIRE_SEGV_ACCERR);

    stack_of(0x20000000, PAGE, 0); /* another stack below needs no gap */
    stack_of(0x20000000 + MIB, PAGE, 0);
    OK(store(s, 0x20000000 + 2 * PAGE, 1));
    assert_int_equal(stats(s).vmas, 4);
    OK(store(s, 0x20000000 + PAGE, 2)); /* and where they meet, they are one */
    assert_int_equal(stats(s).vmas, 3);
    expect(s, 0x20000000 + 2 * PAGE, 1);

    stack_of(0x80000, PAGE, 0); /* down to the start of the space */
    OK(store(s, s->start, 1));
    assert_int_equal(store(s, s->start - 8, 1), QUIRE_SEGV_MAPERR);
}

static void a_stack_stops_at_the_limits(void **state)
{
    const uint64_t at = 0x20000000;

    (void)state;
    set_limits(10 * PAGE, 4 * PAGE, ~0ull);
    stack_of(at, PAGE, 0);
    assert_int_equal(quire_fault(s, Q_UVA(at - PAGE), QUIRE_EXEC), QUIRE_SEGV_ACCERR);
    assert_int_equal(store(s, at - 4 * PAGE, 1), QUIRE_SEGV_MAPERR);
    OK(store(s, at - 3 * PAGE, 1));
    assert_int_equal(stats(s).stack, 4);
    set_limits(4 * PAGE, 8 * MIB, ~0ull);
    assert_int_equal(store(s, at - 4 * PAGE, 1), QUIRE_SEGV_MAPERR);
    set_limits(~0ull, 8 * MIB, 5 * PAGE);
    OK(quire_mlock(s, Q_UVA(at - 3 * PAGE), 4 * PAGE, true));
    assert_int_equal(store(s, at - 5 * PAGE, 1), QUIRE_SEGV_MAPERR);
    OK(store(s, at - 4 * PAGE, 1));
    assert_int_equal(stats(s).locked, 5);
    assert_int_equal(stats(s).total, 5);
}

static void a_stack_is_mapped_once_and_grows_to_its_own_limit(void **state)
{
    q_uva top, other = Q_UVA(0);

    (void)state;
    quire_heap_fail_after(1);
    assert_int_equal(quire_stack_map(s, MIB, RW, &other), QUIRE_NO_MEMORY);
    quire_heap_fail_after(-1);
    OK(quire_stack_map(s, MIB, RW, &top));
    assert_int_equal(quire_stack_map(s, MIB, RW, &other), QUIRE_EXISTS);
    assert_int_equal(other.v, 0);
    assert_int_equal(stats(s).stack_top.v, top.v);
    OK(store(s, top.v - MIB, 1));
    assert_int_equal(store(s, top.v - MIB - 8, 1), QUIRE_SEGV_MAPERR);
}

/* proves: AS-18 */
static void a_stack_that_was_cut_becomes_one_again(void **state)
{
    uint64_t at = stack_of(0x20000000, 8 * PAGE, 0);

    (void)state;
    OK(quire_mprotect(s, Q_UVA(at + 2 * PAGE), PAGE, 0));
    assert_int_equal(stats(s).vmas, 3);
    OK(quire_mprotect(s, Q_UVA(at + 2 * PAGE), PAGE, RW));
    assert_int_equal(stats(s).vmas, 1);
    OK(store(s, at - PAGE, 1)); /* and grows as one */
    assert_int_equal(stats(s).stack, 9);
}

/* ---- Faults ---- */

static unsigned fills;
static struct {
    struct quire_space *space;
    uint64_t at;
    unsigned access;
} again; /* a fault while a page is being filled: as if by another CPU */

static enum quire_status fill(void *cookie, uint64_t index, void *page)
{
    uint64_t at = again.at;

    (void)cookie;
    fills++;
    if (at) {
        again.at = 0;
        OK(quire_fault(again.space, Q_UVA(at), again.access));
    }
    ((uint64_t *)page)[0] = 0x1000 + index;
    return QUIRE_OK;
}
static enum quire_status keep(void *cookie, uint64_t index, const void *page)
{
    (void)index, (void)page;
    ++*(unsigned *)cookie;
    return QUIRE_OK;
}
static const struct quire_pager pager = {.fill = fill};
static const struct quire_pager disk = {.fill = fill, .store = keep};

static void the_slower_of_two_faults_gives_way(void **state)
{
    struct quire_object *o;
    uint64_t view, text, spurious = count(QUIRE_EVENT_FAULT_SPURIOUS), free_pages;

    (void)state;
    OK(quire_object_create_file(&pager, NULL, 8 * PAGE, &o));
    view = map_object(o, 8 * PAGE, RW, QUIRE_MAP_SHARED);
    text = map_object(o, 8 * PAGE, RW, QUIRE_MAP_PRIVATE);
    expect(s, view, 0x1000);
    expect(s, text, 0x1000);
    free_pages = quire_free_pages();
    fills = 0;
    again.space = s;
    again.access = QUIRE_READ;
    again.at = view + PAGE;
    OK(quire_fault(s, Q_UVA(view + PAGE), QUIRE_READ));
    assert_int_equal(fills, 2);
    assert_int_equal(count(QUIRE_EVENT_FAULT_SPURIOUS), spurious + 1);
    assert_int_equal(quire_free_pages(), free_pages - 1);
    assert_int_equal(page_at(s, view + PAGE)->maps, 1);
    again.access = QUIRE_WRITE;
    again.at = text + 2 * PAGE;
    OK(quire_fault(s, Q_UVA(text + 2 * PAGE), QUIRE_WRITE));
    assert_int_equal(count(QUIRE_EVENT_FAULT_SPURIOUS), spurious + 2);
    assert_int_equal(quire_free_pages(), free_pages - 3); /* the cache's page and the copy */
    assert_int_equal(page_at(s, text + 2 * PAGE)->refs, 1);
    expect(s, text + 2 * PAGE, 0x1002);
    quire_object_put(o);
}

static void the_first_write_to_a_file_is_noticed(void **state)
{
    struct quire_object *o;
    struct quire_page *page;
    unsigned stored = 0;
    uint64_t view;

    (void)state;
    OK(quire_object_create_file(&disk, &stored, 8 * PAGE, &o));
    view = map_object(o, 8 * PAGE, RW, QUIRE_MAP_SHARED);
    expect(s, view, 0x1000);
    page = page_at(s, view);
    assert_false(leaf(s, view).prot & QUIRE_WRITE);
    assert_false(page->flags & QUIRE_PG_DIRTY);
    OK(store(s, view, 5));
    assert_true(leaf(s, view).prot & QUIRE_WRITE);
    assert_true(page->flags & QUIRE_PG_DIRTY);
    OK(quire_msync(s, Q_UVA(view), 8 * PAGE, QUIRE_MS_SYNC));
    assert_int_equal(stored, 1);
    OK(store(s, view + PAGE, 5)); /* a write first: noticed at once */
    OK(quire_msync(s, Q_UVA(view), 8 * PAGE, QUIRE_MS_SYNC));
    assert_int_equal(stored, 2);
    quire_object_put(o);
}

/* A neighbour that is mapped already stays as it is. */
static void neighbours_are_mapped_where_nothing_is(void **state)
{
    struct quire_object *o;
    uint64_t at;

    (void)state;
    OK(quire_object_create_file(&pager, NULL, 64 * PAGE, &o));
    at = map_object(o, 64 * PAGE, RW, QUIRE_MAP_PRIVATE);
    at = qi_align_up(at, 16 * PAGE);
    for (unsigned i = 0; i < 4; i++)
        OK(store(s, at + 2 * i * PAGE, i)); /* copies, and the pages behind in the cache */
    OK(quire_fault(s, Q_UVA(at + PAGE), QUIRE_READ));
    for (unsigned i = 0; i < 4; i++)
        expect(s, at + 2 * i * PAGE, i);
    assert_int_equal(stats(s).rss_file, 1);
    assert_int_equal(stats(s).rss_anon, 4);
    quire_object_put(o);
}

/* proves: VM-04 */
static void devices_fault_in_and_end(void **state)
{
    struct quire_object *o;
    uint64_t at, got;

    (void)state;
    OK(quire_object_create_device(Q_PA(0xfee00000), 2 * PAGE, QUIRE_UNCACHED, &o));
    at = map_object(o, 4 * PAGE, RW, QUIRE_MAP_SHARED);
    OK(quire_fault(s, Q_UVA(at), QUIRE_READ));
    assert_int_equal(load(s, at + 2 * PAGE, &got), QUIRE_BUS_ADRERR);
    assert_true(leaf(s, at).prot & QUIRE_WRITE);
    /* rights taken and given again come back with the first write, and it stays the same frame */
    OK(quire_mprotect(s, Q_UVA(at), PAGE, QUIRE_READ));
    OK(quire_mprotect(s, Q_UVA(at), PAGE, RW));
    assert_false(leaf(s, at).prot & QUIRE_WRITE);
    OK(quire_fault(s, Q_UVA(at), QUIRE_WRITE));
    assert_true(leaf(s, at).prot & QUIRE_WRITE);
    assert_int_equal(leaf(s, at).pa.v, 0xfee00000);
    assert_int_equal(stats(s).rss_file + stats(s).rss_shared + stats(s).rss_anon, 0);
    quire_object_put(o);
}

/* proves: TRAP-7 */
static void huge_pages_fault_exit_and_fall_back(void **state)
{
    uint64_t huge = map_huge(0x40000000), spurious = count(QUIRE_EVENT_FAULT_SPURIOUS), flushes;
    uint64_t at = map_fixed(0x80000000, 2 * MIB, RW, PRIV);

    (void)state;
    quire_space_activate(s);
    flushes = hosted_tlb_flushes;
    OK(quire_fault(s, Q_UVA(huge + MIB), QUIRE_READ)); /* by a CPU with an old entry */
    assert_int_equal(count(QUIRE_EVENT_FAULT_SPURIOUS), spurious + 1);
    assert_int_equal(hosted_tlb_flushes, flushes + 1);
    quire_space_activate(NULL);

    OK(quire_madvise(s, Q_UVA(at), 2 * MIB, 14));
    quire_frame_fail_after(2); /* a table, then the block */
    OK(store(s, at + MIB, 1));
    assert_false(quire_frame_fail_armed());
    quire_frame_fail_after(-1);
    assert_int_equal(leaf(s, at + MIB).leaf_shift, 12);
    OK(store(s, at, 1)); /* small pages are there: no huge one over them */
    assert_int_equal(leaf(s, at).leaf_shift, 12);
    at += 64 * PAGE; /* a mapping that does not begin where a huge page would */
    map_fixed(at + 2 * MIB, 3 * MIB, RW, PRIV);
    OK(quire_madvise(s, Q_UVA(at + 2 * MIB), 3 * MIB, 14));
    OK(store(s, at + 2 * MIB, 1));
    assert_int_equal(leaf(s, at + 2 * MIB).leaf_shift, 12);
    at -= 64 * PAGE;
    OK(quire_munmap(s, Q_UVA(at), 2 * MIB));
    map_fixed(at, 2 * MIB, RW, PRIV);
    OK(quire_madvise(s, Q_UVA(at), 2 * MIB, 14));
    quire_frame_fail_after(1); /* not even a table */
    assert_int_equal(store(s, at, 1), QUIRE_OK);
    quire_frame_fail_after(-1);
    quire_space_put(s); /* the rest is freed as it is, huge */
    s = NULL;
}

static void failed_faults_are_counted_as_what_they_are(void **state)
{
    struct quire_object *o;
    uint64_t at = map_anon(s, PAGE), oom = count(QUIRE_EVENT_FAULT_OOM);
    uint64_t segv = count(QUIRE_EVENT_FAULT_SEGV), bus = count(QUIRE_EVENT_FAULT_BUS), view;

    (void)state;
    OK(quire_object_create_shared(PAGE, &o));
    view = map_object(o, 2 * PAGE, RW, QUIRE_MAP_SHARED);
    quire_frame_fail_after(1);
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_WRITE), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_int_equal(count(QUIRE_EVENT_FAULT_OOM), oom + 1);
    assert_int_equal(quire_fault(s, Q_UVA(0x10000), QUIRE_WRITE), QUIRE_SEGV_MAPERR);
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_EXEC), QUIRE_SEGV_ACCERR);
    assert_int_equal(count(QUIRE_EVENT_FAULT_SEGV), segv + 2);
    assert_int_equal(quire_fault(s, Q_UVA(view + PAGE), QUIRE_READ), QUIRE_BUS_ADRERR);
    assert_int_equal(count(QUIRE_EVENT_FAULT_BUS), bus + 1);
    quire_object_put(o);
}

/* ---- A frame in the place of another ---- */

static uint64_t replaced_va;
static unsigned seen_open, seen_closed;

/* A CPU that is to forget the old frame must not be able to find the new one yet. */
static void look_at_leaf(unsigned cpu)
{
    unsigned self = hosted_cpu, level;
    qi_pte *slot = qi_pt_lookup(s->tlb.root, replaced_va, &level);

    seen_open += qi_pte_valid(*slot);
    seen_closed += qi_pte_moving(*slot);
    hosted_cpu_set(cpu);
    quire_shootdown_interrupt();
    hosted_cpu_set(self);
}

static void run_on(unsigned cpu, struct quire_space *space)
{
    hosted_cpu_set(cpu);
    quire_space_activate(space);
    hosted_cpu_set(0);
}

/* proves: TRAP-11 */
static void a_new_frame_shows_when_all_have_forgotten_the_old(void **state)
{
    uint64_t at = map_anon(s, 2 * PAGE);
    struct quire_space *child;

    (void)state;
    expect(s, at, 0); /* the zero page */
    OK(store(s, at + PAGE, 5));
    OK(quire_space_fork(s, &child)); /* the second is the child's too */
    run_on(0, s);
    run_on(1, s);
    hosted_ipi = look_at_leaf;
    for (unsigned i = 0; i < 2; i++) {
        seen_open = seen_closed = 0;
        replaced_va = at + i * PAGE;
        OK(store(s, replaced_va, 7));
        assert_int_equal(seen_open, 0);
        assert_int_equal(seen_closed, 1);
        expect(s, replaced_va, 7);
    }
    hosted_ipi = NULL;
    run_on(1, NULL);
    run_on(0, NULL);
    expect(child, at + PAGE, 5);
    quire_space_put(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(spaces_that_cannot_be_are_refused),
        T(a_space_is_made_whole_or_not_at_all),
        T(the_layer_comes_up_or_says_no),
        T(a_space_may_be_active_lazy_or_neither),
        T(random_places_stay_inside),
        T(what_is_not_for_children_stays),
        T(a_fork_without_memory_leaves_no_child),
        T(a_stack_stops_at_what_lies_below),
        T(a_stack_stops_at_the_limits),
        T(a_stack_is_mapped_once_and_grows_to_its_own_limit),
        T(a_stack_that_was_cut_becomes_one_again),
        T(the_slower_of_two_faults_gives_way),
        T(the_first_write_to_a_file_is_noticed),
        T(neighbours_are_mapped_where_nothing_is),
        T(devices_fault_in_and_end),
        T(huge_pages_fault_exit_and_fall_back),
        T(failed_faults_are_counted_as_what_they_are),
        T(a_new_frame_shows_when_all_have_forgotten_the_old),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
