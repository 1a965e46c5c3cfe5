/*
 * space_map_test.c - mmap, brk and the stack at their edges: types, limits, places, and what a space
 * is made from.
 */
#include <space_fixture.h>

static enum quire_status no_fill(void *cookie, uint64_t index, void *page)
{
    (void)cookie, (void)index, (void)page;
    return QUIRE_OK;
}
static const struct quire_pager pager = {.fill = no_fill};

static struct quire_object *shared(uint64_t pages)
{
    struct quire_object *o;

    OK(quire_object_create_shared(pages * PAGE, &o));
    return o;
}

static void limits(uint64_t as, uint64_t data, uint64_t stack, uint64_t memlock)
{
    struct quire_space_config c = {
        .limit_as = as, .limit_data = data, .limit_stack = stack, .limit_memlock = memlock};

    quire_space_set_limits(s, &c);
}

static enum quire_status space_of(uint64_t start, uint64_t end, bool randomize)
{
    struct quire_space_config c = {.start = Q_UVA(start),
                                   .end = Q_UVA(end),
                                   .randomize = randomize,
                                   .limit_as = ~0ull,
                                   .limit_data = ~0ull,
                                   .limit_stack = 8 * MIB,
                                   .limit_memlock = ~0ull};
    struct quire_space *made;
    enum quire_status st = quire_space_create(&c, &made);

    if (st == QUIRE_OK) {
        quire_space_put(s);
        s = made;
    }
    return st;
}

static enum quire_status map_flags(unsigned flags, unsigned prot, uint64_t len)
{
    uint64_t at = 0;

    return map_at(s, &at, len, prot, flags, NULL, 0);
}

static uint64_t map_where(uint64_t hint, uint64_t len, unsigned flags)
{
    OK(map_at(s, &hint, len, 0, PRIV | flags, NULL, 0));
    return hint;
}

/* ---- Types and rights ---- */

/* proves: VE-54 */
static void each_type_has_its_rules(void **state)
{
    struct quire_object *o = shared(4), *f;
    static const struct {
        unsigned flags, prot, max;
        enum quire_status want;
    } with_object[] = {
        {QUIRE_MAP_SHARED_VALIDATE, RW, 0, QUIRE_OK},
        {QUIRE_MAP_SHARED_VALIDATE | QUIRE_MAP_SYNC, RW, 0, QUIRE_UNSUPPORTED},
        {QUIRE_MAP_SHARED | QUIRE_MAP_SYNC, RW, 0, QUIRE_OK}, /* unknown words are passed over */
        {QUIRE_MAP_SHARED, RW, QUIRE_READ, QUIRE_ACCESS},
        {QUIRE_MAP_SHARED, QUIRE_READ, QUIRE_READ, QUIRE_OK},
        {QUIRE_MAP_PRIVATE, RW, QUIRE_READ, QUIRE_OK},
        {QUIRE_MAP_PRIVATE, QUIRE_READ, QUIRE_EXEC, QUIRE_ACCESS},
        {QUIRE_MAP_PRIVATE, QUIRE_READ | QUIRE_EXEC, QUIRE_READ, QUIRE_PERM},
        {QUIRE_MAP_PRIVATE, QUIRE_READ | QUIRE_EXEC, 7, QUIRE_OK},
        {QUIRE_MAP_PRIVATE | QUIRE_MAP_GROWSDOWN, RW, 0, QUIRE_INVALID},
        {QUIRE_MAP_PRIVATE | QUIRE_MAP_HUGETLB, RW, 0, QUIRE_OK}, /* a file's own affair */
        {0, RW, 0, QUIRE_INVALID},
    };

    (void)state;
    OK(quire_object_create_file(&pager, NULL, 4 * PAGE, &f));
    for (unsigned i = 0; i < sizeof with_object / sizeof with_object[0]; i++) {
        struct quire_mmap m = {.len = PAGE,
                               .prot = with_object[i].prot,
                               .flags = with_object[i].flags,
                               .object = i % 2 ? f : o,
                               .max_prot = with_object[i].max};
        uint64_t vmas = stats(s).vmas;
        q_uva at;

        assert_int_equal(quire_mmap(s, &m, &at), with_object[i].want);
        if (with_object[i].want == QUIRE_OK)
            OK(quire_munmap(s, at, PAGE));
        assert_int_equal(stats(s).vmas, vmas);
    }
    assert_int_equal(map_flags(QUIRE_MAP_SHARED_VALIDATE | QUIRE_MAP_ANONYMOUS, RW, PAGE),
                     QUIRE_INVALID);
    assert_int_equal(map_flags(ANON | QUIRE_MAP_GROWSDOWN, RW, PAGE), QUIRE_INVALID);
    assert_int_equal(o->refs, 1);
    quire_object_put(o);
    quire_object_put(f);
}

static void offsets_are_whole_pages_and_do_not_overflow(void **state)
{
    struct quire_object *o = shared(4);
    uint64_t at = 0;

    (void)state;
    assert_int_equal(map_at(s, &at, PAGE, RW, QUIRE_MAP_SHARED, o, 7), QUIRE_INVALID);
    assert_int_equal(map_at(s, &at, PAGE, RW, QUIRE_MAP_SHARED, o, 1ull << 63), QUIRE_OVERFLOW);
    assert_int_equal(map_at(s, &at, PAGE, RW, QUIRE_MAP_SHARED, o, INT64_MAX - 4095),
                     QUIRE_OVERFLOW);
    OK(map_at(s, &at, PAGE, RW, QUIRE_MAP_SHARED, o, (INT64_MAX & QUIRE_PAGE_MASK) - PAGE));
    assert_int_equal(quire_fault(s, Q_UVA(at), QUIRE_READ), QUIRE_BUS_ADRERR);
    assert_int_equal(quire_munmap(s, Q_UVA(s->end + PAGE), PAGE), QUIRE_INVALID);
    quire_object_put(o);
}

/* A mapping of an object that goes on where the last ends is one with it, on either side. */
static void neighbours_of_one_object_are_one(void **state)
{
    struct quire_object *o = shared(16);
    uint64_t at = 0x100000, below = at - 2 * PAGE, above = at + 4 * PAGE, got;

    (void)state;
    OK(map_at(s, &at, 4 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 4 * PAGE));
    OK(store(s, at, 4));
    OK(map_at(s, &above, 2 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 8 * PAGE));
    OK(map_at(s, &below, 2 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 2 * PAGE));
    assert_int_equal(stats(s).vmas, 1);
    OK(store(s, below, 2));
    OK(store(s, above, 8));
    for (unsigned i = 2; i <= 8; i += i < 4 ? 2 : 4) {
        struct quire_page *page = quire_object_peek(o, i);

        memcpy(&got, quire_page_ptr(page), sizeof got);
        assert_int_equal(got, i);
        quire_page_put(page);
    }
    above += 2 * PAGE; /* not where the object goes on */
    OK(map_at(s, &above, PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 0));
    assert_int_equal(stats(s).vmas, 2);
    above += PAGE;
    { /* other rights in store, another name */
        struct quire_mmap m = {.addr = Q_UVA(above),
                               .len = PAGE,
                               .prot = QUIRE_READ,
                               .flags = QUIRE_MAP_SHARED | QUIRE_MAP_FIXED,
                               .object = o,
                               .offset = PAGE,
                               .max_prot = QUIRE_READ};
        q_uva out;

        OK(quire_mmap(s, &m, &out));
        m.addr.v += PAGE;
        m.offset += PAGE;
        m.max_prot = 0;
        OK(quire_mmap(s, &m, &out));
        m.addr.v += PAGE;
        m.offset += PAGE;
        m.name = "[other]";
        OK(quire_mmap(s, &m, &out));
    }
    assert_int_equal(stats(s).vmas, 5);
    quire_object_put(o);
}

/* ---- Limits ---- */

static void limits_of_memory_hold(void **state)
{
    uint64_t at;

    (void)state;
    limits(8 * PAGE, 4 * PAGE, 8 * MIB, 2 * PAGE);
    at = map_fixed(0x100000, 2 * PAGE, RW, PRIV);
    assert_int_equal(map_flags(PRIV, RW, 3 * PAGE), QUIRE_NO_MEMORY); /* data */
    assert_int_equal(map_flags(PRIV, RW, 5 * PAGE), QUIRE_NO_MEMORY);
    OK(map_flags(PRIV, QUIRE_READ, 6 * PAGE));
    assert_int_equal(map_flags(PRIV, QUIRE_READ, PAGE), QUIRE_NO_MEMORY); /* address space */
    assert_int_equal(map_flags(PRIV, QUIRE_READ, 9 * PAGE), QUIRE_NO_MEMORY);
    map_fixed(at, 2 * PAGE, RW, PRIV); /* in place of as much: fits */
    assert_int_equal(stats(s).total, 8);
    limits(~0ull, 4 * PAGE, 8 * MIB, 2 * PAGE);
    assert_int_equal(map_flags(PRIV | QUIRE_MAP_LOCKED, QUIRE_READ, 3 * PAGE), QUIRE_AGAIN);
    OK(map_flags(PRIV | QUIRE_MAP_LOCKED, QUIRE_READ, 2 * PAGE));
    assert_int_equal(stats(s).locked, 2);
    assert_int_equal(map_flags(PRIV | QUIRE_MAP_LOCKED, QUIRE_READ, PAGE), QUIRE_AGAIN);
    /* what becomes writable becomes data */
    at = map_fixed(0x200000, 4 * PAGE, QUIRE_READ, PRIV);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), 3 * PAGE, RW), QUIRE_NO_MEMORY);
    assert_int_equal(store(s, at, 1), QUIRE_SEGV_ACCERR);
    OK(quire_mprotect(s, Q_UVA(at), 2 * PAGE, RW));
    assert_int_equal(stats(s).data, 4);
    OK(quire_mprotect(s, Q_UVA(at), 2 * PAGE, 7)); /* data already */
}

static void the_number_of_mappings_has_a_limit(void **state)
{
    const unsigned single = QUIRE_MAX_VMAS - 1;
    uint64_t base, big;
    q_uva out;

    (void)state;
    big = map_fixed(0x100000, 8 * PAGE, RW, PRIV);
    base = map_fixed(0x40000000, single * PAGE, 0, PRIV);
    quire_brk_init(s, Q_UVA(0x1000000));
    for (unsigned i = 0; i < single; i += 2)
        OK(quire_mprotect(s, Q_UVA(base + i * PAGE), PAGE, QUIRE_READ));
    assert_int_equal(stats(s).vmas, QUIRE_MAX_VMAS);
    OK(store(s, big + 4 * PAGE, 4));

    assert_int_equal(map_flags(PRIV, QUIRE_READ, PAGE), QUIRE_LIMIT);
    assert_int_equal(quire_munmap(s, Q_UVA(big + PAGE), PAGE), QUIRE_LIMIT);
    assert_int_equal(quire_mprotect(s, Q_UVA(big + PAGE), PAGE, QUIRE_READ), QUIRE_LIMIT);
    assert_int_equal(
        quire_mremap(s, Q_UVA(big), PAGE, 16 * PAGE, QUIRE_MREMAP_MAYMOVE, Q_UVA(0), &out),
        QUIRE_LIMIT);
    assert_int_equal(quire_mremap(s, Q_UVA(big), 8 * PAGE, 8 * PAGE,
                                  QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED, Q_UVA(0x200000), &out),
                     QUIRE_LIMIT);
    assert_int_equal(quire_brk(s, Q_UVA(0x1001000)).v, 0x1000000);
    assert_int_equal(stats(s).vmas, QUIRE_MAX_VMAS);
    assert_int_equal(stats(s).total, single + 8);
    OK(quire_munmap(s, Q_UVA(big), PAGE)); /* an edge makes no mapping */
    expect(s, big + 4 * PAGE, 4);
    OK(quire_munmap(s, Q_UVA(base), single * PAGE));
}

/* ---- Places ---- */

static void places_below_two_gigabytes(void **state)
{
    uint64_t at, hint = 0;

    (void)state;
    at = map_where(0, PAGE, QUIRE_MAP_32BIT);
    assert_true(at >= 0x40000000 && at < 0x80000000);
    map_where(0x40000000, 0x40000000, QUIRE_MAP_FIXED);
    at = map_where(0, PAGE, QUIRE_MAP_32BIT);
    assert_true(at < 0x40000000);
    map_where(0x10000, 0x80000000 - 0x10000, QUIRE_MAP_FIXED);
    assert_int_equal(map_at(s, &hint, PAGE, 0, PRIV | QUIRE_MAP_32BIT, NULL, 0), QUIRE_NO_MEMORY);
    OK(space_of(0x50000000, 0x60000000, false)); /* a space that lies inside */
    assert_int_equal(map_where(0, 0x10000000, QUIRE_MAP_32BIT), 0x50000000);
    assert_int_equal(map_at(s, &hint, PAGE, 0, PRIV | QUIRE_MAP_32BIT, NULL, 0), QUIRE_NO_MEMORY);
}

static void hints_are_taken_where_there_is_room(void **state)
{
    uint64_t at = map_where(0x100000, PAGE, 0), end = s->end;

    (void)state;
    assert_int_equal(at, 0x100000);
    assert_int_equal(map_where(0x100801, PAGE, 0), 0x101000); /* rounded up */
    assert_true(map_where(0x100000, PAGE, 0) > 0x101000);
    assert_true(map_where(0x1000, PAGE, 0) > 0x101000); /* below the space, above, across */
    assert_true(map_where(end + PAGE, PAGE, 0) < end);
    assert_true(map_where(end - PAGE, 2 * PAGE, 0) < end - 2 * PAGE);
    assert_int_equal(map_where(end - PAGE, PAGE, 0), end - PAGE);
    /* FIXED gives way to FIXED_NOREPLACE */
    at = 0x100000;
    assert_int_equal(
        map_at(s, &at, PAGE, RW, PRIV | QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE, NULL, 0),
        QUIRE_EXISTS);
    at = 0xff000;
    assert_int_equal(map_at(s, &at, 2 * PAGE, RW, PRIV | QUIRE_MAP_FIXED_NOREPLACE, NULL, 0),
                     QUIRE_EXISTS);
    OK(map_at(s, &at, PAGE, RW, PRIV | QUIRE_MAP_FIXED_NOREPLACE, NULL, 0));
    at = 0x90000000;
    OK(map_at(s, &at, PAGE, RW, PRIV | QUIRE_MAP_FIXED_NOREPLACE, NULL, 0));
}

/* First below the base and aligned; then unaligned; then above the base; then not at all. */
static void a_small_space_is_filled_to_the_last_page(void **state)
{
    uint64_t at = 0;

    (void)state;
    OK(space_of(0x1000, 0x1000 + 24 * MIB, false));
    assert_int_equal(s->mmap_base, 0x1000 + 4 * MIB);              /* the stack keeps five sixths */
    assert_int_equal(map_where(0, 20 * MIB, 0), 0x1000 + 4 * MIB); /* too large for the rest */
    OK(quire_munmap(s, Q_UVA(0x1000), 24 * MIB));
    assert_int_equal(map_where(0, 2 * MIB, 0), 2 * MIB);
    OK(quire_munmap(s, Q_UVA(2 * MIB + PAGE), 2 * MIB - PAGE));
    assert_int_equal(map_where(0, 2 * MIB, 0), 2 * MIB + PAGE);
    assert_int_equal(map_where(0, 20 * MIB, 0), 4 * MIB + PAGE);
    assert_int_equal(map_where(0, 2 * MIB - PAGE, 0), PAGE);
    assert_int_equal(map_at(s, &at, PAGE, 0, PRIV, NULL, 0), QUIRE_NO_MEMORY);
    assert_int_equal(stats(s).total, 24 * MIB / PAGE);
}

#define WINDOW 4096 /* pages */

/* The highest place, page by page. */
static uint64_t highest(const bool *taken, uint64_t pages, uint64_t align, uint64_t low,
                        uint64_t high)
{
    for (uint64_t p = WINDOW - pages + 1; p-- > 0;) {
        uint64_t at = s->start + p * PAGE, n = 0;

        if (at % align || at < low || at + pages * PAGE > high)
            continue;
        while (n < pages && !taken[p + n])
            n++;
        if (n == pages)
            return at;
    }
    return 0;
}

static void gaps_are_those_of_a_search_by_page(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        static bool taken[WINDOW];

        OK(space_of(0x10000, 0x10000 + WINDOW * PAGE, false));
        memset(taken, 0, sizeof taken);
        for (unsigned i = 0; i < 10 + 10 * round; i++) {
            unsigned p = (unsigned)test_random_below(WINDOW - 8), n = 1 + p % 7;
            bool grows = test_random_below(40) == 0;

            map_fixed(s->start + p * PAGE, n * PAGE, i % 2 ? QUIRE_READ : 0,
                      PRIV | (grows ? QUIRE_MAP_GROWSDOWN : 0));
        }
        for (struct qi_vma *v = s->first; v; v = v->next)
            /* a guard gap ends at the mapping below, wherever that was forced to lie */
            for (uint64_t at = QI_MAX(qi_vma_floor(v), v->prev ? v->prev->end : s->start);
                 at < v->end; at += PAGE)
                taken[(at - s->start) / PAGE] = true;
        for (unsigned i = 0; i < 400; i++) {
            uint64_t pages = 1 + test_random_below(i % 4 ? 30 : 600);
            uint64_t align = PAGE << (i % 3 ? 0 : test_random_below(7));
            uint64_t low = test_random_below(2 * WINDOW) * PAGE / 2;
            uint64_t high = low + (1 + test_random_below(2 * WINDOW)) * PAGE;

            if (i % 5 == 0)
                low = 0, high = ~0ull;
            assert_int_equal(qi_gap_find(s, pages * PAGE, align, low, high),
                             highest(taken, pages, align, low, high));
        }
    }
}

/* ---- The break ---- */

static void the_break_stays_where_it_cannot_go(void **state)
{
    const uint64_t start = 0x600000;

    (void)state;
    quire_brk_init(s, Q_UVA(start - 5)); /* rounded up */
    assert_int_equal(quire_brk(s, Q_UVA(start + 100)).v, start + 100);
    assert_int_equal(quire_brk(s, Q_UVA(start + 200)).v, start + 200); /* within the page */
    assert_int_equal(stats(s).total, 1);
    assert_int_equal(quire_brk(s, Q_UVA(s->end)).v, start + 200);
    assert_int_equal(quire_brk(s, Q_UVA(~0ull)).v, start + 200);
    map_fixed(start + 4 * PAGE, PAGE, RW, PRIV);
    /* a page stays free between the heap and whatever lies above */
    assert_int_equal(quire_brk(s, Q_UVA(start + 4 * PAGE)).v, start + 200);
    assert_int_equal(quire_brk(s, Q_UVA(start + 3 * PAGE)).v, start + 3 * PAGE);
    limits(~0ull, 2 * PAGE, 0, ~0ull);
    assert_int_equal(quire_brk(s, Q_UVA(start + 3 * PAGE - 1)).v, start + 3 * PAGE);
    assert_int_equal(quire_brk(s, Q_UVA(start + PAGE)).v, start + PAGE);
    limits(3 * PAGE, ~0ull, 0, ~0ull);
    assert_int_equal(quire_brk(s, Q_UVA(start + 2 * PAGE)).v, start + 2 * PAGE);
    assert_int_equal(quire_brk(s, Q_UVA(start + 3 * PAGE)).v, start + 2 * PAGE);
    assert_int_equal(stats(s).total, 3);
    assert_int_equal(quire_brk(s, Q_UVA(start)).v, start);
}

/* proves: TRAP-18 */
static void the_break_stays_without_memory(void **state)
{
    const uint64_t start = 4 * MIB, end = start + 4 * MIB;

    (void)state;
    quire_brk_init(s, Q_UVA(start));
    quire_heap_fail_after(1);
    assert_int_equal(quire_brk(s, Q_UVA(end)).v, start);
    quire_heap_fail_after(-1);
    assert_int_equal(quire_brk(s, Q_UVA(end)).v, end);
    OK(quire_madvise(s, Q_UVA(start), 4 * MIB, 14));
    OK(store(s, start + 2 * MIB, 1));
    assert_int_equal(leaf(s, start + 2 * MIB).leaf_shift, 21);
    quire_frame_fail_after(1); /* the table that splits the huge leaf */
    assert_int_equal(quire_brk(s, Q_UVA(start + 3 * MIB)).v, end);
    quire_frame_fail_after(-1);
    expect(s, start + 2 * MIB, 1);
    assert_int_equal(quire_brk(s, Q_UVA(start + 3 * MIB)).v, start + 3 * MIB);
}

static void a_locked_heap_is_there_at_once(void **state)
{
    const uint64_t start = 0x600000;

    (void)state;
    OK(quire_mlockall(s, 2));
    quire_brk_init(s, Q_UVA(start));
    assert_int_equal(quire_brk(s, Q_UVA(start + 3 * PAGE)).v, start + 3 * PAGE);
    assert_int_equal(stats(s).rss_anon, 3);
    assert_int_equal(stats(s).locked, 3);
}

/* proves: TRAP-18 */
static void what_cannot_be_replaced_stays(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV), want = at;
    bool hit = true;

    (void)state;
    OK(store(s, at + PAGE, 7));
    for (int64_t n = 1; hit; n++) {
        enum quire_status st;

        quire_heap_fail_after(n);
        st = map_at(s, &want, 4 * PAGE, QUIRE_READ, PRIV | QUIRE_MAP_FIXED, NULL, 0);
        hit = !quire_heap_fail_armed();
        quire_heap_fail_after(-1);
        assert_int_equal(st, hit ? QUIRE_NO_MEMORY : QUIRE_OK);
        expect(s, at + PAGE, hit ? 7 : 0);
        assert_int_equal(stats(s).total, 4);
    }
}

/* ---- What becomes present at once ---- */

static void some_mappings_are_populated(void **state)
{
    (void)state;
    OK(map_flags(PRIV | QUIRE_MAP_POPULATE, RW, 3 * PAGE));
    assert_int_equal(stats(s).rss_anon, 3);
    OK(map_flags(PRIV | QUIRE_MAP_POPULATE | QUIRE_MAP_NONBLOCK, RW, 3 * PAGE));
    assert_int_equal(stats(s).rss_anon, 3);
    OK(map_flags(PRIV | QUIRE_MAP_LOCKED, RW, 2 * PAGE));
    assert_int_equal(stats(s).rss_anon, 5);
    assert_int_equal(stats(s).locked, 2);
    OK(map_flags(PRIV | QUIRE_MAP_POPULATE, 0, 2 * PAGE)); /* nothing may touch it */
    OK(map_flags(ANON | QUIRE_MAP_POPULATE, RW, 2 * PAGE));
    assert_int_equal(stats(s).rss_shared, 2);
    OK(map_flags(ANON | QUIRE_MAP_POPULATE, QUIRE_READ, 2 * PAGE));
    assert_int_equal(stats(s).rss_shared, 4);
    OK(quire_mlockall(s, 2 | 4)); /* to come, on fault */
    OK(map_flags(PRIV, RW, 4 * PAGE));
    assert_int_equal(stats(s).locked, 6);
    assert_int_equal(stats(s).rss_anon, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_type_has_its_rules),
        T(offsets_are_whole_pages_and_do_not_overflow),
        T(neighbours_of_one_object_are_one),
        T(limits_of_memory_hold),
        T(the_number_of_mappings_has_a_limit),
        T(places_below_two_gigabytes),
        T(hints_are_taken_where_there_is_room),
        T(a_small_space_is_filled_to_the_last_page),
        T(gaps_are_those_of_a_search_by_page),
        T(the_break_stays_where_it_cannot_go),
        T(the_break_stays_without_memory),
        T(a_locked_heap_is_there_at_once),
        T(what_cannot_be_replaced_stays),
        T(some_mappings_are_populated),
    };

    test_seed("space_map_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
