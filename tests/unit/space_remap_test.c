/*
 * space_remap_test.c - mremap and mprotect at their edges: what is refused, what limits them, and
 * what stays when they fail.
 */
#include <space_fixture.h>

#define MAY   QUIRE_MREMAP_MAYMOVE
#define FIXED (QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED)
#define KEEP  (QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_DONTUNMAP)

static q_uva moved;

static enum quire_status remap(uint64_t old, uint64_t old_len, uint64_t new_len, unsigned flags,
                               uint64_t to)
{
    return quire_mremap(s, Q_UVA(old), old_len, new_len, flags, Q_UVA(to), &moved);
}

static void limits(uint64_t as, uint64_t data, uint64_t memlock)
{
    struct quire_space_config c = {
        .limit_as = as, .limit_data = data, .limit_stack = 8 * MIB, .limit_memlock = memlock};

    quire_space_set_limits(s, &c);
}

/* ---- mremap ---- */

/* proves: VE-54 */
static void remaps_that_make_no_sense_are_refused(void **state)
{
    uint64_t at = map_fixed(0x100000, 8 * PAGE, RW, PRIV), end = s->end;
    struct quire_space_stats before = stats(s), after;
    const struct {
        uint64_t old, old_len, new_len;
        unsigned flags;
        uint64_t to;
        enum quire_status want;
    } bad[] = {
        {at, PAGE, PAGE, 8, 0, QUIRE_INVALID},
        {at, PAGE, PAGE, QUIRE_MREMAP_FIXED, 0x200000, QUIRE_INVALID}, /* FIXED without MAYMOVE */
        {at, PAGE, PAGE, QUIRE_MREMAP_DONTUNMAP, 0, QUIRE_INVALID},
        {at, PAGE, 2 * PAGE, KEEP, 0, QUIRE_INVALID},
        {at + 1, PAGE, PAGE, MAY, 0, QUIRE_INVALID},
        {at, PAGE, 0, MAY, 0, QUIRE_INVALID},
        {at, end + PAGE, PAGE, MAY, 0, QUIRE_INVALID},
        {at, PAGE, end + PAGE, MAY, 0, QUIRE_INVALID},
        {end + PAGE, PAGE, PAGE, MAY, 0, QUIRE_INVALID},
        {at - PAGE, PAGE, 2 * PAGE, MAY, 0, QUIRE_FAULT},
        {end - PAGE, PAGE, 2 * PAGE, MAY, 0, QUIRE_FAULT},
        {at, 9 * PAGE, 10 * PAGE, MAY, 0, QUIRE_FAULT}, /* over the end of the mapping */
        {at, 0, PAGE, MAY, 0, QUIRE_INVALID},           /* a second view of private memory */
        {at, PAGE, PAGE, FIXED, 0x200001, QUIRE_INVALID},
        {at, PAGE, 2 * PAGE, FIXED, end - PAGE, QUIRE_INVALID},
        {at, 8 * PAGE, 8 * PAGE, FIXED, at + 4 * PAGE, QUIRE_INVALID},
        {at + 4 * PAGE, PAGE, 8 * PAGE, FIXED, at, QUIRE_INVALID},
        {at, PAGE, PAGE, FIXED, 0, QUIRE_PERM},
        {at, 8 * PAGE, end - at + PAGE, 0, 0, QUIRE_NO_MEMORY}, /* in place, beyond the end */
        {at, 8 * PAGE, end - at - PAGE, MAY, 0, QUIRE_NO_MEMORY},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(remap(bad[i].old, bad[i].old_len, bad[i].new_len, bad[i].flags, bad[i].to),
                         bad[i].want);
    after = stats(s);
    assert_memory_equal(&before, &after, sizeof before);
    OK(remap(at, 8 * PAGE, 8 * PAGE, 0, 0)); /* nothing to do */
    assert_int_equal(moved.v, at);
    map_fixed(at + 16 * PAGE, PAGE, RW, PRIV);
    OK(remap(at, 8 * PAGE, 16 * PAGE, 0, 0));
    assert_int_equal(remap(at, 16 * PAGE, 17 * PAGE, 0, 0), QUIRE_NO_MEMORY); /* no room above */
    assert_int_equal(remap(at + 16 * PAGE, PAGE, end, 0, 0), QUIRE_NO_MEMORY);
    map_fixed(at + 32 * PAGE, PAGE, QUIRE_READ, PRIV); /* nobody counts on what is only read */
    assert_int_equal(remap(at + 32 * PAGE, PAGE, end, 0, 0), QUIRE_NO_MEMORY);
}

static void parts_that_were_never_touched_move_too(void **state)
{
    uint64_t at = map_fixed(0x40000000, 6 * MIB, RW, PRIV), to = 0x60000000;

    (void)state;
    OK(store(s, at + 5 * MIB, 5));
    OK(store(s, at, 1));
    OK(remap(at, 6 * MIB, 6 * MIB, FIXED, to)); /* of three tables the second is missing */
    expect(s, to, 1);
    expect(s, to + 3 * MIB, 0);
    expect(s, to + 5 * MIB, 5);
    assert_int_equal(stats(s).rss_anon, 2);
}

static void limits_hold_for_growth(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV);

    (void)state;
    OK(quire_mlock(s, Q_UVA(at), 4 * PAGE, false));
    limits(~0ull, ~0ull, 5 * PAGE);
    assert_int_equal(remap(at, 4 * PAGE, 6 * PAGE, MAY, 0), QUIRE_AGAIN);
    OK(remap(at, 4 * PAGE, 5 * PAGE, 0, 0));
    assert_int_equal(stats(s).locked, 5);
    assert_int_equal(stats(s).rss_anon, 5); /* what is locked is there */
    limits(6 * PAGE, ~0ull, ~0ull);
    assert_int_equal(remap(at, 5 * PAGE, 7 * PAGE, MAY, 0), QUIRE_NO_MEMORY);
    limits(~0ull, 6 * PAGE, ~0ull);
    assert_int_equal(remap(at, 5 * PAGE, 7 * PAGE, MAY, 0), QUIRE_NO_MEMORY);
    limits(6 * PAGE, ~0ull, ~0ull);
    /* what stays behind with DONTUNMAP counts twice */
    assert_int_equal(remap(at, 5 * PAGE, 5 * PAGE, KEEP, 0), QUIRE_NO_MEMORY);
    assert_int_equal(stats(s).total, 5);
    OK(quire_munlock(s, Q_UVA(at), 5 * PAGE));
    OK(remap(at, 5 * PAGE, 6 * PAGE, 0, 0));
    assert_int_equal(stats(s).rss_anon, 5);
    /* more than the machine has, unless nobody counts on it */
    limits(~0ull, ~0ull, ~0ull);
    assert_int_equal(remap(at, 6 * PAGE, 64 * MIB, MAY, 0), QUIRE_NO_MEMORY);
    at = map_fixed(0x10000000, 64 * MIB, QUIRE_READ, PRIV);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), 64 * MIB, RW), QUIRE_NO_MEMORY);
    OK(quire_mprotect(s, Q_UVA(at), 32 * MIB, RW));
    at = map_fixed(0x20000000, 64 * MIB, QUIRE_READ, PRIV | QUIRE_MAP_NORESERVE);
    OK(quire_mprotect(s, Q_UVA(at), 64 * MIB, RW));
    OK(remap(at, 64 * MIB, 200 * MIB, MAY, 0));
}

static void what_moves_may_leave_an_empty_place(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV);

    (void)state;
    OK(store(s, at + PAGE, 7));
    OK(quire_mlock(s, Q_UVA(at), 4 * PAGE, true));
    OK(remap(at, 4 * PAGE, 4 * PAGE, KEEP, 0)); /* anywhere */
    assert_int_not_equal(moved.v, at);
    expect(s, moved.v + PAGE, 7);
    expect(s, at + PAGE, 0);
    assert_int_equal(stats(s).total, 8);
    assert_int_equal(stats(s).locked, 4); /* what moved; not what stayed */
    OK(remap(moved.v, 4 * PAGE, 4 * PAGE, KEEP | QUIRE_MREMAP_FIXED, 0x300000));
    expect(s, 0x300000 + PAGE, 7);
    OK(quire_munmap(s, Q_UVA(0x10000), s->end - 0x10000)); /* all of it */
    map_fixed(0x10000, s->end - 0x10000, 0, PRIV | QUIRE_MAP_NORESERVE);
    assert_int_equal(remap(0x100000, 4 * PAGE, 4 * PAGE, KEEP, 0), QUIRE_NO_MEMORY);
    assert_int_equal(remap(0x100000, 4 * PAGE, 8 * PAGE, MAY, 0), QUIRE_NO_MEMORY);
    assert_int_equal(stats(s).vmas, 1);
}

static void objects_are_seen_twice_and_devices_stay(void **state)
{
    struct quire_object *o, *d;
    uint64_t view, regs, got;

    (void)state;
    OK(quire_object_create_shared(8 * PAGE, &o));
    OK(quire_object_create_device(Q_PA(0xfee00000), 4 * PAGE, QUIRE_UNCACHED, &d));
    view = map_object(o, 4 * PAGE, RW, QUIRE_MAP_SHARED);
    OK(store(s, view + 2 * PAGE, 5));
    OK(remap(view + PAGE, 0, 4 * PAGE, MAY, 0)); /* old_len 0: a second view from there */
    expect(s, moved.v + PAGE, 5);
    OK(store(s, moved.v + PAGE, 6));
    expect(s, view + 2 * PAGE, 6);
    assert_int_equal(quire_object_mappings(o), 2);
    OK(remap(view, 4 * PAGE, 4 * PAGE, FIXED, 0x100000));
    expect(s, 0x100000 + 2 * PAGE, 6);
    assert_int_equal(load(s, view, &got), QUIRE_SEGV_MAPERR);
    OK(remap(0x100000, 4 * PAGE, 6 * PAGE, 0, 0)); /* grown in place: the object goes on */
    OK(store(s, 0x100000 + 5 * PAGE, 55));
    expect(s, moved.v + 5 * PAGE, 55);
    assert_int_equal(stats(s).vmas, 2);

    regs = map_object(d, 2 * PAGE, RW, QUIRE_MAP_SHARED);
    assert_int_equal(remap(regs, 2 * PAGE, 2 * PAGE, KEEP, 0), QUIRE_INVALID);
    assert_int_equal(remap(regs, 2 * PAGE, 3 * PAGE, MAY, 0), QUIRE_FAULT);
    OK(quire_fault(s, Q_UVA(regs + PAGE), QUIRE_READ));
    OK(remap(regs, 2 * PAGE, 2 * PAGE, FIXED, 0x200000));
    assert_int_equal(leaf(s, 0x200000 + PAGE).pa.v, 0xfee01000);
    quire_object_put(o);
    quire_object_put(d);
}

/* proves: TRAP-7 */
static void huge_leaves_move_whole_or_in_parts(void **state)
{
    uint64_t at = map_huge(0x40000000), to = 0x60000000;

    (void)state;
    OK(remap(at, 2 * MIB, 2 * MIB, FIXED, to));
    assert_int_equal(leaf(s, to).leaf_shift, 21);
    expect(s, to, 1);
    quire_frame_fail_after(1); /* to where 2 MiB do not lie alike: it must be split */
    assert_int_equal(remap(to, 2 * MIB, 2 * MIB, FIXED, 0x80001000), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_int_equal(leaf(s, to).leaf_shift, 21);
    OK(remap(to, 2 * MIB, 2 * MIB, FIXED, 0x80001000));
    assert_int_equal(leaf(s, 0x80001000).leaf_shift, 12);
    expect(s, 0x80001000, 1);
    assert_int_equal(stats(s).rss_anon, 512);
}

/* A table that lies empty at the target is as good as none. */
static void an_empty_table_at_the_target_is_used(void **state)
{
    uint64_t at = map_fixed(0x40000000, 2 * MIB, RW, PRIV), to = 0x60000000;
    unsigned level;
    qi_pte *slot;

    (void)state;
    for (unsigned i = 0; i < 512; i += 100)
        OK(store(s, at + i * PAGE, i));
    OK(qi_pt_slot_alloc(s->tlb.root, to, 0, &slot, &level));
    OK(remap(at, 2 * MIB, 2 * MIB, FIXED | QUIRE_MREMAP_DONTUNMAP, to));
    for (unsigned i = 0; i < 512; i += 100)
        expect(s, to + i * PAGE, i);
    assert_int_equal(stats(s).rss_anon, 6);
    assert_int_equal(stats(s).vmas, 2);
}

/* proves: TRAP-18 */
static void a_target_is_cut_or_kept(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV), huge = map_huge(0x40000000);

    (void)state;
    OK(store(s, at, 7));
    quire_frame_fail_after(1); /* the target's huge leaf must be split first */
    assert_int_equal(remap(at, 4 * PAGE, 4 * PAGE, FIXED, huge + MIB), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    expect(s, at, 7);
    expect(s, huge, 1);
    assert_int_equal(leaf(s, huge).leaf_shift, 21);
    OK(remap(at, 4 * PAGE, 2 * PAGE, FIXED, huge + MIB)); /* smaller: the tail goes */
    expect(s, huge + MIB, 7);
    assert_int_equal(quire_fault(s, Q_UVA(at + 3 * PAGE), QUIRE_READ), QUIRE_SEGV_MAPERR);
    assert_int_equal(stats(s).total, 512);
}

/* ---- munmap over huge leaves without memory ---- */

/* proves: TRAP-18 TRAP-7 */
static void nothing_is_unmapped_without_tables_to_split(void **state)
{
    uint64_t a = map_huge(0x40000000), b = map_huge(0x40000000 + 2 * MIB);

    (void)state;
    assert_int_equal(stats(s).vmas, 1);
    for (int64_t n = 1; n < 3; n++) { /* from the middle of one into the middle of the other */
        quire_frame_fail_after(n);
        assert_int_equal(quire_munmap(s, Q_UVA(a + MIB), 2 * MIB), QUIRE_NO_MEMORY);
        quire_frame_fail_after(-1);
        expect(s, a, 1);
        expect(s, b, 1);
        assert_int_equal(stats(s).rss_anon, 1024);
        assert_int_equal(stats(s).total, 1024);
    }
    OK(quire_munmap(s, Q_UVA(a), 2 * MIB)); /* one is split already */
    for (int64_t n = 1; n < 2; n++) {
        quire_frame_fail_after(n); /* an end that sticks out */
        assert_int_equal(quire_munmap(s, Q_UVA(a), 3 * MIB), QUIRE_NO_MEMORY);
        quire_frame_fail_after(-1);
        assert_int_equal(stats(s).total, 512);
    }
    OK(quire_munmap(s, Q_UVA(a), 3 * MIB));
    assert_int_equal(stats(s).rss_anon, 256);
}

/* ---- mprotect ---- */

static void protection_has_its_rules(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV), low;

    (void)state;
    assert_int_equal(
        quire_mprotect(s, Q_UVA(at), PAGE, RW | QUIRE_PROT_GROWSDOWN | QUIRE_PROT_GROWSUP),
        QUIRE_INVALID);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), PAGE, RW | QUIRE_PROT_GROWSUP), QUIRE_INVALID);
    assert_int_equal(quire_mprotect(s, Q_UVA(at), PAGE, RW | QUIRE_PROT_GROWSDOWN), QUIRE_INVALID);
    assert_int_equal(quire_mprotect(s, Q_UVA(at + 7), PAGE, RW), QUIRE_INVALID);
    OK(quire_mprotect(s, Q_UVA(at), 0, RW));
    assert_int_equal(quire_mprotect(s, Q_UVA(at - PAGE), 2 * PAGE, QUIRE_READ), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mprotect(s, Q_UVA(s->end - PAGE), PAGE, QUIRE_READ), QUIRE_NO_MEMORY);
    assert_int_equal(quire_mprotect(s, Q_UVA(~0ull << 12), PAGE, QUIRE_READ), QUIRE_NO_MEMORY);
    assert_int_equal(stats(s).vmas, 1);
    /* up to a hole: what lies before it has changed, as on Linux */
    assert_int_equal(quire_mprotect(s, Q_UVA(at + 2 * PAGE), 4 * PAGE, QUIRE_READ),
                     QUIRE_NO_MEMORY);
    assert_int_equal(stats(s).vmas, 2);

    /* GROWSDOWN: from the start of the stack, wherever it has grown to */
    map_fixed(0x20000000, 4 * PAGE, RW, PRIV | QUIRE_MAP_GROWSDOWN);
    OK(store(s, 0x20000000 - 4 * PAGE, 1));
    low = 0x20000000 - 4 * PAGE;
    OK(quire_mprotect(s, Q_UVA(0x20000000), PAGE, QUIRE_READ | QUIRE_PROT_GROWSDOWN));
    assert_int_equal(store(s, low, 1), QUIRE_SEGV_ACCERR);
    assert_int_equal(store(s, 0x20000000, 1), QUIRE_SEGV_ACCERR);
    OK(store(s, 0x20000000 + PAGE, 1));
    assert_int_equal(quire_mprotect(s, Q_UVA(low - 64 * PAGE), PAGE, RW | QUIRE_PROT_GROWSDOWN),
                     QUIRE_NO_MEMORY); /* ends below the stack */
    OK(quire_mprotect(s, Q_UVA(low - PAGE), 2 * PAGE, RW | QUIRE_PROT_GROWSDOWN));
    OK(store(s, low, 1));
}

/* proves: TRAP-10 */
static void rights_beyond_those_of_the_opener_are_refused(void **state)
{
    struct quire_object *o;
    struct quire_mmap m = {.len = 4 * PAGE,
                           .prot = QUIRE_READ,
                           .flags = QUIRE_MAP_SHARED,
                           .max_prot = QUIRE_READ | QUIRE_EXEC};
    q_uva at;

    (void)state;
    OK(quire_object_create_shared(4 * PAGE, &o));
    m.object = o;
    OK(quire_mmap(s, &m, &at));
    assert_int_equal(quire_mprotect(s, at, PAGE, RW), QUIRE_ACCESS);
    OK(quire_mprotect(s, at, PAGE, QUIRE_READ | QUIRE_EXEC));
    expect(s, at.v, 0);
    assert_true(leaf(s, at.v).prot & QUIRE_EXEC);
    OK(quire_mprotect(s, at, PAGE, QUIRE_READ));
    assert_false(leaf(s, at.v).prot & QUIRE_EXEC); /* taken at once */
    quire_object_put(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(remaps_that_make_no_sense_are_refused),
        T(parts_that_were_never_touched_move_too),
        T(limits_hold_for_growth),
        T(what_moves_may_leave_an_empty_place),
        T(objects_are_seen_twice_and_devices_stay),
        T(huge_leaves_move_whole_or_in_parts),
        T(an_empty_table_at_the_target_is_used),
        T(a_target_is_cut_or_kept),
        T(nothing_is_unmapped_without_tables_to_split),
        T(protection_has_its_rules),
        T(rights_beyond_those_of_the_opener_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
