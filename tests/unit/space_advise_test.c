/*
 * space_advise_test.c - madvise, mlock, mincore and msync: what each takes, refuses and does, over
 * holes, limits and devices.
 */
#include <space_fixture.h>

enum {
    NORMAL,
    RANDOM,
    SEQUENTIAL,
    WILLNEED,
    DONTNEED,
    FREE = 8,
    REMOVE,
    DONTFORK,
    DOFORK,
    HUGEPAGE = 14,
    NOHUGEPAGE,
    DONTDUMP,
    DODUMP,
    WIPEONFORK,
    KEEPONFORK,
    POPULATE_READ = 22,
    POPULATE_WRITE,
    DONTNEED_LOCKED
};

static enum quire_status advise(uint64_t at, uint64_t len, int advice)
{
    return quire_madvise(s, Q_UVA(at), len, advice);
}

static struct quire_object *shared(uint64_t pages)
{
    struct quire_object *o;

    OK(quire_object_create_shared(pages * PAGE, &o));
    return o;
}

static unsigned fills, stores;
static enum quire_status store_status;

static enum quire_status fill(void *cookie, uint64_t index, void *page)
{
    (void)cookie;
    fills++;
    ((uint64_t *)page)[0] = 0x1000 + index;
    return index == 6 ? QUIRE_IO : QUIRE_OK;
}
static enum quire_status keep(void *cookie, uint64_t index, const void *page)
{
    (void)cookie, (void)index, (void)page;
    stores++;
    return store_status;
}
static const struct quire_pager pager = {.fill = fill, .store = keep};

static struct quire_object *file(uint64_t pages)
{
    struct quire_object *o;

    fills = stores = 0;
    store_status = QUIRE_OK;
    OK(quire_object_create_file(&pager, NULL, pages * PAGE, &o));
    return o;
}

static uint32_t flags_at(uint64_t at) { return qi_vma_find(s, at)->flags; }

static void limit_memlock(uint64_t bytes)
{
    struct quire_space_config c = {
        .limit_as = ~0ull, .limit_data = ~0ull, .limit_stack = ~0ull, .limit_memlock = bytes};

    quire_space_set_limits(s, &c);
}

/* ---- madvise ---- */

static void advice_is_kept_and_taken_back(void **state)
{
    static const struct {
        int on, off;
        uint32_t flag;
    } pair[] = {{RANDOM, NORMAL, QI_VM_RANDOM},
                {SEQUENTIAL, NORMAL, QI_VM_SEQUENTIAL},
                {DONTFORK, DOFORK, QI_VM_DONTFORK},
                {DONTDUMP, DODUMP, QI_VM_DONTDUMP},
                {WIPEONFORK, KEEPONFORK, QI_VM_WIPEONFORK},
                {HUGEPAGE, NOHUGEPAGE, QI_VM_HUGE}};
    uint64_t at = map_fixed(0x100000, 8 * PAGE, RW, PRIV);

    (void)state;
    for (unsigned i = 0; i < sizeof pair / sizeof pair[0]; i++) {
        OK(advise(at + 2 * PAGE, 2 * PAGE, pair[i].on));
        assert_true(flags_at(at + 2 * PAGE) & pair[i].flag);
        assert_false(flags_at(at) & pair[i].flag);
        assert_int_equal(stats(s).vmas, 3);
        OK(advise(at, 8 * PAGE, pair[i].off)); /* over several: and they are one again */
        assert_false(flags_at(at + 2 * PAGE) & pair[i].flag);
        assert_int_equal(stats(s).vmas, 1);
    }
    OK(advise(at, PAGE, RANDOM));
    OK(advise(at, PAGE, SEQUENTIAL)); /* one or the other */
    assert_false(flags_at(at) & QI_VM_RANDOM);
    OK(advise(at, 8 * PAGE, NORMAL));
}

/* proves: VE-54 VM-04 */
static void advice_that_does_not_fit_is_refused(void **state)
{
    static const int unknown[] = {-1, 5, 7, 12, 13, 20, 21, 25, 100};
    static const int not_for_devices[] = {DOFORK,        DODUMP,         HUGEPAGE,       NOHUGEPAGE,
                                          WIPEONFORK,    DONTNEED,       FREE,           REMOVE,
                                          POPULATE_READ, POPULATE_WRITE, DONTNEED_LOCKED};
    struct quire_object *d, *o = shared(4);
    uint64_t regs, view, at = map_fixed(0x100000, 4 * PAGE, RW, PRIV);

    (void)state;
    OK(quire_object_create_device(Q_PA(0xfee00000), 2 * PAGE, QUIRE_UNCACHED, &d));
    regs = map_object(d, 2 * PAGE, RW, QUIRE_MAP_SHARED);
    view = map_object(o, 4 * PAGE, RW, QUIRE_MAP_SHARED);
    for (unsigned i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_int_equal(advise(at, PAGE, unknown[i]), QUIRE_INVALID);
    for (unsigned i = 0; i < sizeof not_for_devices / sizeof not_for_devices[0]; i++)
        assert_int_equal(advise(regs, 2 * PAGE, not_for_devices[i]), QUIRE_INVALID);
    OK(advise(regs, 2 * PAGE, WILLNEED));
    assert_int_equal(advise(at + 1, PAGE, NORMAL), QUIRE_INVALID);
    assert_int_equal(advise(at, ~0ull, NORMAL), QUIRE_INVALID);
    assert_int_equal(advise(~0ull << 12, 2 * PAGE, NORMAL), QUIRE_INVALID);
    OK(advise(at, 0, NORMAL));
    assert_int_equal(advise(view, PAGE, FREE), QUIRE_INVALID);
    assert_int_equal(advise(view, PAGE, WIPEONFORK), QUIRE_INVALID);
    OK(quire_mprotect(s, Q_UVA(at), PAGE, QUIRE_READ));
    assert_int_equal(advise(at, PAGE, POPULATE_WRITE), QUIRE_INVALID);
    OK(quire_mprotect(s, Q_UVA(at), PAGE, 0));
    assert_int_equal(advise(at, PAGE, POPULATE_READ), QUIRE_INVALID);
    quire_object_put(d);
    quire_object_put(o);
}

/* proves: TRAP-9 */
static void unneeded_pages_go_unless_they_are_locked(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV), huge = map_huge(0x40000000);

    (void)state;
    OK(store(s, at, 1));
    OK(store(s, at + PAGE, 2));
    OK(advise(at, PAGE, FREE));
    expect(s, at, 0);
    OK(quire_mlock(s, Q_UVA(at + PAGE), PAGE, false));
    assert_int_equal(advise(at + PAGE, PAGE, FREE), QUIRE_INVALID);
    assert_int_equal(advise(at + PAGE, PAGE, DONTNEED), QUIRE_INVALID);
    expect(s, at + PAGE, 2);
    OK(advise(at + PAGE, PAGE, DONTNEED_LOCKED));
    expect(s, at + PAGE, 0);

    OK(store(s, huge + MIB, 5));
    for (int64_t n = 1; n < 3; n++) { /* a part of a huge page, and two parts of two */
        uint64_t len = n == 1 ? MIB : 2 * MIB;

        if (n == 2)
            map_huge(huge + 2 * MIB);
        quire_frame_fail_after(n);
        assert_int_equal(advise(huge + MIB, len, DONTNEED), QUIRE_NO_MEMORY);
        quire_frame_fail_after(-1);
        expect(s, huge + MIB, 5);
    }
    OK(advise(huge + MIB, 2 * MIB, DONTNEED));
    expect(s, huge + MIB, 0);
    expect(s, huge, 1);
    assert_int_equal(stats(s).rss_anon, 512);
}

static void holes_are_told_at_the_end(void **state)
{
    uint64_t at = map_fixed(0x100000, 2 * PAGE, RW, PRIV);

    (void)state;
    map_fixed(at + 4 * PAGE, 2 * PAGE, RW, PRIV);
    for (unsigned i = 0; i < 6; i++)
        if (i < 2 || i > 3)
            OK(store(s, at + i * PAGE, 1));
    assert_int_equal(advise(at + PAGE, 4 * PAGE, DONTNEED), QUIRE_NO_MEMORY);
    expect(s, at, 1);
    expect(s, at + PAGE, 0);
    expect(s, at + 4 * PAGE, 0); /* beyond the hole too */
    expect(s, at + 5 * PAGE, 1);
    assert_int_equal(advise(at, 4 * PAGE, DONTNEED), QUIRE_NO_MEMORY); /* up to the hole's end */
    assert_int_equal(advise(at + 2 * PAGE, PAGE, DONTNEED), QUIRE_NO_MEMORY);
    assert_int_equal(advise(at + 5 * PAGE, 2 * PAGE, DONTNEED), QUIRE_NO_MEMORY);
    expect(s, at + 5 * PAGE, 0);
    assert_int_equal(advise(at, 6 * PAGE, POPULATE_WRITE), QUIRE_NO_MEMORY);
    assert_int_equal(advise(at, 6 * PAGE, POPULATE_READ), QUIRE_NO_MEMORY);
}

static void needed_pages_are_read_ahead(void **state)
{
    struct quire_object *o = file(8);
    uint64_t at = map_object(o, 12 * PAGE, RW, QUIRE_MAP_PRIVATE), anon;

    (void)state;
    OK(advise(at, 4 * PAGE, WILLNEED));
    assert_int_equal(fills, 4);
    assert_int_equal(quire_object_resident(o), 4);
    assert_int_equal(stats(s).rss_file, 0);
    OK(advise(at, 12 * PAGE, WILLNEED)); /* a page that cannot be read, and the end: a hint */
    assert_int_equal(quire_object_resident(o), 6);
    OK(quire_object_set_size(o, 3 * PAGE));
    OK(advise(at, 12 * PAGE, WILLNEED));
    assert_int_equal(quire_object_resident(o), 3);
    assert_int_equal(advise(at, 8 * PAGE, POPULATE_READ), QUIRE_FAULT); /* this is none */
    assert_int_equal(stats(s).rss_file, 3);
    OK(advise(at, 2 * PAGE, POPULATE_WRITE));
    assert_int_equal(stats(s).rss_anon, 2);
    OK(advise(at, 2 * PAGE, POPULATE_WRITE));
    anon = map_anon(s, 2 * PAGE);
    OK(advise(anon, 2 * PAGE, WILLNEED));
    assert_int_equal(stats(s).rss_anon, 2);
    quire_object_put(o);
}

static void a_hole_is_punched_through_a_mapping(void **state)
{
    struct quire_object *o = shared(8);
    uint64_t a, b, priv, anon = map_fixed(0x100000, PAGE, RW, PRIV);
    struct quire_mmap m = {.len = 2 * PAGE,
                           .prot = QUIRE_READ,
                           .flags = QUIRE_MAP_SHARED,
                           .object = o,
                           .max_prot = QUIRE_READ};
    q_uva reader;

    (void)state;
    a = 0x200000;
    OK(map_at(s, &a, 4 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 0));
    b = a + 6 * PAGE;
    OK(map_at(s, &b, 2 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 4 * PAGE));
    priv = map_object(o, 8 * PAGE, RW, QUIRE_MAP_PRIVATE);
    OK(quire_mmap(s, &m, &reader));
    for (unsigned i = 0; i < 4; i++)
        OK(store(s, a + i * PAGE, i + 1));
    OK(store(s, b, 5));
    OK(store(s, priv + PAGE, 99)); /* a copy */
    expect(s, priv + 2 * PAGE, 3);
    OK(advise(a + PAGE, 2 * PAGE, REMOVE));
    assert_int_equal(quire_object_resident(o), 3);
    expect(s, a + PAGE, 0);
    expect(s, a + 3 * PAGE, 4);
    expect(s, priv + PAGE, 99);    /* a copy stays */
    expect(s, priv + 2 * PAGE, 0); /* the object's own page does not */
    assert_int_equal(advise(a, 8 * PAGE, REMOVE), QUIRE_NO_MEMORY); /* over a hole, to the end */
    assert_null(quire_object_peek(o, 3));
    assert_null(quire_object_peek(o, 4));
    assert_int_equal(advise(a + 4 * PAGE, PAGE, REMOVE), QUIRE_NO_MEMORY);
    assert_int_equal(advise(s->end - PAGE, PAGE, REMOVE), QUIRE_NO_MEMORY);
    assert_int_equal(advise(anon, PAGE, REMOVE), QUIRE_INVALID);
    assert_int_equal(advise(priv, PAGE, REMOVE), QUIRE_ACCESS);
    assert_int_equal(advise(reader.v, PAGE, REMOVE), QUIRE_ACCESS);
    OK(quire_mlock(s, Q_UVA(a), PAGE, true));
    assert_int_equal(advise(a, PAGE, REMOVE), QUIRE_INVALID);
    quire_object_put(o);
}

/* ---- mlock ---- */

static void locking_stays_below_its_limit(void **state)
{
    uint64_t at = map_fixed(0x100000, 8 * PAGE, RW, PRIV);

    (void)state;
    limit_memlock(0);
    assert_int_equal(quire_mlock(s, Q_UVA(at), PAGE, false), QUIRE_PERM);
    assert_int_equal(quire_mlockall(s, 1), QUIRE_PERM);
    limit_memlock(4 * PAGE);
    assert_int_equal(quire_mlock(s, Q_UVA(at), 5 * PAGE, false), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mlockall(s, 1), QUIRE_NO_MEMORY);
    OK(quire_mlock(s, Q_UVA(at + 100), 2 * PAGE, false)); /* rounded outward */
    assert_int_equal(stats(s).locked, 3);
    assert_int_equal(stats(s).rss_anon, 3);
    OK(quire_mlock(s, Q_UVA(at), 4 * PAGE, true)); /* three of them count already */
    assert_int_equal(stats(s).locked, 4);
    assert_int_equal(stats(s).rss_anon, 3);
    assert_true(flags_at(at) & QI_VM_LOCKONFAULT);
    OK(quire_mlock(s, Q_UVA(at + 1), ~0ull, false)); /* wraps to nothing, as on Linux */
    assert_int_equal(quire_mlock(s, Q_UVA(~0ull << 12), 2 * PAGE, false), QUIRE_INVALID);
    assert_int_equal(quire_munlock(s, Q_UVA(~0ull << 12), 2 * PAGE), QUIRE_INVALID);
    OK(quire_mlock(s, Q_UVA(at), 0, false));
    OK(quire_munlock(s, Q_UVA(at), 0));
    limit_memlock(~0ull);
    assert_int_equal(quire_mlock(s, Q_UVA(at - PAGE), 2 * PAGE, false), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mlock(s, Q_UVA(at + 7 * PAGE), 2 * PAGE, false), QUIRE_NO_MEMORY);
    OK(quire_munlock(s, Q_UVA(at), 8 * PAGE));
    assert_int_equal(stats(s).locked, 0);
    assert_int_equal(stats(s).vmas, 1);
    OK(quire_mprotect(s, Q_UVA(at), PAGE, 0)); /* locked, but nobody may touch it */
    assert_int_equal(quire_mlock(s, Q_UVA(at), PAGE, false), QUIRE_NO_MEMORY);
    assert_int_equal(stats(s).locked, 1);
}

static void all_is_locked_now_or_later_or_never(void **state)
{
    uint64_t at = map_fixed(0x100000, 2 * PAGE, RW, PRIV), b;

    (void)state;
    map_fixed(0x200000, 2 * PAGE, 0, PRIV); /* cannot be populated: passed over */
    b = map_fixed(0x300000, 2 * PAGE, RW, PRIV);
    assert_int_equal(quire_mlockall(s, 8), QUIRE_INVALID);
    assert_int_equal(quire_mlockall(s, 4), QUIRE_INVALID);
    OK(quire_mlockall(s, 2)); /* what is to come only */
    assert_int_equal(stats(s).locked, 0);
    OK(quire_mlockall(s, 1 | 4)); /* now, as it is touched; what is to come no more */
    assert_int_equal(stats(s).locked, 6);
    assert_int_equal(stats(s).rss_anon, 0);
    map_fixed(0x400000, PAGE, RW, PRIV);
    assert_int_equal(stats(s).locked, 6);
    OK(quire_mlockall(s, 1));
    assert_int_equal(stats(s).locked, 7);
    assert_int_equal(stats(s).rss_anon, 5);
    assert_false(flags_at(at) & QI_VM_LOCKONFAULT);
    OK(quire_mlockall(s, 0));
    assert_int_equal(stats(s).locked, 0);
    assert_false(flags_at(b) & QI_VM_LOCKED);
}

/* Locked memory that may be written from now on has its copies at once (Linux, mprotect_fixup()); what is
 * locked as it is touched, shared, or writable already has not. */
static void locked_memory_that_becomes_writable_is_copied(void **state)
{
    struct quire_object *o = file(4);
    uint64_t at = map_object(o, 2 * PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE);
    uint64_t later = map_object(o, 2 * PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE);
    uint64_t both = map_object(o, 2 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED);

    (void)state;
    OK(quire_mlock(s, Q_UVA(at), 2 * PAGE, false));
    OK(quire_mlock(s, Q_UVA(later), 2 * PAGE, true));
    OK(quire_mlock(s, Q_UVA(both), 2 * PAGE, false));
    assert_int_equal(stats(s).rss_anon, 0);
    OK(quire_mprotect(s, Q_UVA(later), 2 * PAGE, RW));
    OK(quire_mprotect(s, Q_UVA(both), 2 * PAGE, RW));
    assert_int_equal(stats(s).rss_anon, 0);
    OK(quire_mprotect(s, Q_UVA(at), PAGE, RW));
    assert_int_equal(stats(s).rss_anon, 1);
    OK(store(s, both, 77));
    expect(s, at, 0x1000);
    expect(s, later, 77);
    quire_object_put(o);
}

/* ---- mincore, msync ---- */

static void residence_is_told_by_page(void **state)
{
    struct quire_object *o = shared(4), *d;
    uint64_t at = 0x100000, view = at + 4 * PAGE, regs = view + 4 * PAGE;
    uint8_t vec[16];

    (void)state;
    OK(quire_object_create_device(Q_PA(0xfee00000), 2 * PAGE, QUIRE_UNCACHED, &d));
    map_fixed(at, 4 * PAGE, RW, PRIV);
    OK(map_at(s, &view, 4 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 0));
    OK(map_at(s, &regs, 2 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, d, 0));
    OK(store(s, at + PAGE, 1));
    OK(store(s, view + 2 * PAGE, 1));
    OK(quire_munmap(s, Q_UVA(view), 4 * PAGE)); /* it stays in the cache */
    OK(map_at(s, &view, 4 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 0));
    memset(vec, 9, sizeof vec);
    OK(quire_mincore(s, Q_UVA(at), 10 * PAGE - 1, vec));
    assert_memory_equal(vec, ((uint8_t[]){0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 9}), 11);
    OK(quire_fault(s, Q_UVA(regs + PAGE), QUIRE_READ));
    OK(quire_mincore(s, Q_UVA(regs), 2 * PAGE, vec));
    assert_memory_equal(vec, ((uint8_t[]){0, 1}), 2);

    assert_int_equal(quire_mincore(s, Q_UVA(at + 1), PAGE, vec), QUIRE_INVALID);
    assert_int_equal(quire_mincore(s, Q_UVA(at - PAGE), 2 * PAGE, vec), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mincore(s, Q_UVA(at), 11 * PAGE, vec), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mincore(s, Q_UVA(s->end + PAGE), PAGE, vec), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mincore(s, Q_UVA(s->end - PAGE), 2 * PAGE, vec), QUIRE_NO_MEMORY);
    OK(quire_mincore(s, Q_UVA(at), 0, vec));
    quire_object_put(o);
    quire_object_put(d);
}

static void what_was_written_is_stored(void **state)
{
    struct quire_object *o = file(6);
    uint64_t at = 0x100000, view = at + PAGE, end = view + 4 * PAGE, other, beyond = 0;

    (void)state;
    map_fixed(at, PAGE, RW, PRIV);
    OK(map_at(s, &view, 4 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, o, 0));
    OK(store(s, view + PAGE, 1));
    OK(store(s, view + 3 * PAGE, 1));
    OK(quire_msync(s, Q_UVA(at), 3 * PAGE, QUIRE_MS_ASYNC)); /* some time */
    OK(quire_msync(s, Q_UVA(at), 3 * PAGE, 0));
    assert_int_equal(stores, 0);
    OK(quire_msync(s, Q_UVA(at), 3 * PAGE, QUIRE_MS_SYNC));
    assert_int_equal(stores, 1);
    store_status = QUIRE_NO_SPACE;
    assert_int_equal(quire_msync(s, Q_UVA(at), 5 * PAGE, QUIRE_MS_SYNC), QUIRE_NO_SPACE);
    store_status = QUIRE_OK;
    other = map_object(o, PAGE, QUIRE_READ, QUIRE_MAP_SHARED); /* more views: of other pages, */
    OK(map_at(s, &beyond, PAGE, RW, QUIRE_MAP_SHARED, o, 4 * PAGE)); /* and behind */
    expect(s, other, 0x1000);
    /* from a hole, into a hole: what is mapped is stored */
    assert_int_equal(quire_msync(s, Q_UVA(at - PAGE), 8 * PAGE, QUIRE_MS_SYNC), QUIRE_NO_MEMORY);
    assert_int_equal(stores, 3);
    assert_int_equal(quire_msync(s, Q_UVA(at - PAGE), 2 * PAGE, QUIRE_MS_SYNC), QUIRE_NO_MEMORY);
    assert_int_equal(quire_msync(s, Q_UVA(at - PAGE), PAGE, QUIRE_MS_SYNC), QUIRE_NO_MEMORY);
    assert_int_equal(quire_msync(s, Q_UVA(end), PAGE, QUIRE_MS_SYNC), QUIRE_NO_MEMORY);

    assert_int_equal(quire_msync(s, Q_UVA(at), PAGE, 8), QUIRE_INVALID);
    assert_int_equal(quire_msync(s, Q_UVA(at + 1), PAGE, 0), QUIRE_INVALID);
    assert_int_equal(quire_msync(s, Q_UVA(~0ull << 12), 2 * PAGE, 0), QUIRE_NO_MEMORY);
    OK(quire_msync(s, Q_UVA(at), 0, QUIRE_MS_SYNC));
    OK(quire_msync(s, Q_UVA(at), PAGE, QUIRE_MS_INVALIDATE));
    OK(quire_mlock(s, Q_UVA(at), PAGE, true));
    assert_int_equal(quire_msync(s, Q_UVA(at), PAGE, QUIRE_MS_INVALIDATE), QUIRE_BUSY);
    quire_object_put(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(advice_is_kept_and_taken_back),
        T(advice_that_does_not_fit_is_refused),
        T(unneeded_pages_go_unless_they_are_locked),
        T(holes_are_told_at_the_end),
        T(needed_pages_are_read_ahead),
        T(a_hole_is_punched_through_a_mapping),
        T(locking_stays_below_its_limit),
        T(all_is_locked_now_or_later_or_never),
        T(locked_memory_that_becomes_writable_is_copied),
        T(residence_is_told_by_page),
        T(what_was_written_is_stored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
