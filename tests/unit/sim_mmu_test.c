/*
 * sim_mmu_test.c - TLBs and walk caches of the simulated CPUs: what they may keep, what a flush must
 * drop, and that the oracle finds what outlives a frame or a table.
 */
#include <sim_memory.h>

#include "mmu.h"

/* ---- An x86-64 machine: SDM volume 3A, the tables of entries in 4.5 ---- */

#define X86_P  0x001ull
#define X86_RW 0x002ull
#define X86_US 0x004ull
#define X86_A  0x020ull
#define X86_D  0x040ull
#define X86_PS 0x080ull
#define X86_G  0x100ull
#define X86_XD 0x8000000000000000ull
#define X86_UW (X86_P | X86_RW | X86_US)

/* Tables in frames 1, 2, 3, 4 from the root down, the page in frame 5; index i in table i. */
#define VA      (1ull << 39 | 2ull << 30 | 3ull << 21 | 4ull << 12 | 0x123)
#define HUGE_VA (VA & ~0x1fffffull)

static void reset(enum walk_format format, unsigned cpus)
{
    struct mmu_config c = {.machine = machine_of(format), .cpus = cpus, .frames = FRAMES};

    mmu_reset(&c);
}

/* Two CPUs with the tree loaded as address space 1. */
static void x86_machine(void)
{
    reset(WALK_X86_4, 2);
    *entry(1, 1) = 0x2000 | X86_UW;
    *entry(2, 2) = 0x3000 | X86_UW;
    *entry(3, 3) = 0x4000 | X86_UW;
    *entry(4, 4) = 0x5000 | X86_UW;
    for (unsigned cpu = 0; cpu < 2; cpu++)
        mmu_load_root(cpu, 0x1000, 1, false);
}

static enum mmu_result touch(unsigned cpu, uint64_t va, struct what what)
{
    struct mmu_reply r;
    enum mmu_result result = mmu_access(cpu, va, what.kind, what.user, &r);

    if (result == MMU_OK)
        assert_ptr_equal(r.host, (char *)memory + r.pa);
    return result;
}

/* Until the CPU has the translation in its TLB: a fill may be left out. */
static void cache(unsigned cpu, uint64_t va, struct what what)
{
    struct mmu_reply r = {0};

    for (unsigned i = 0; i < 1000 && !r.hit; i++)
        assert_int_equal(mmu_access(cpu, va, what.kind, what.user, &r), MMU_OK);
    assert_true(r.hit);
}

/* How often in n accesses the result is this one: what is free to happen has to, at last. */
static unsigned count(unsigned n, uint64_t va, struct what what, enum mmu_result result)
{
    unsigned found = 0;

    for (unsigned i = 0; i < n; i++)
        found += touch(0, va, what) == result;
    return found;
}

/* ---- Entries ---- */

static void entries_stay_until_flushed(void **state)
{
    (void)state;
    x86_machine();
    cache(0, VA, user_read);
    cache(1, VA, user_read);
    *entry(4, 4) = 0;
    assert_int_equal(touch(0, VA, user_read), MMU_OK);
    mmu_flush_page(0, VA ^ 0xfff, 1); /* any address in the page */
    assert_int_equal(touch(0, VA, user_read), MMU_ABSENT);
    assert_int_equal(touch(1, VA, user_read), MMU_OK); /* each CPU its own */
    mmu_flush_asid(1, 1);
    assert_int_equal(touch(1, VA, user_read), MMU_ABSENT);
    mmu_verify();
}

/* Each kind of flush against each kind of entry: must it go?  (If it need not, it may.) */
static void flushes_drop_what_they_must(void **state)
{
    enum { PAGE, OTHER_PAGE, PAGE_OF_OTHER_ASID, ASID, OTHER_ASID, ALL, LOAD, LOAD_KEEP, FLUSHES };
    static const bool drops[FLUSHES][2] = {
        /* not global, global */
        [PAGE] = {true, true},  [PAGE_OF_OTHER_ASID] = {false, true},
        [ASID] = {true, false}, [ALL] = {true, true},
        [LOAD] = {true, false},
    };

    (void)state;
    for (unsigned n = 0; n < 100 * FLUSHES * 2; n++) {
        unsigned flush = n % FLUSHES, global = n / FLUSHES % 2;

        x86_machine();
        *entry(4, 4) |= global ? X86_G : 0;
        cache(0, VA, user_read);
        *entry(4, 4) = 0;
        switch (flush) {
        case PAGE: mmu_flush_page(0, VA, 1); break;
        case OTHER_PAGE: mmu_flush_page(0, VA + 0x1000, 1); break;
        case PAGE_OF_OTHER_ASID: mmu_flush_page(0, VA, 2); break;
        case ASID: mmu_flush_asid(0, 1); break;
        case OTHER_ASID: mmu_flush_asid(0, 2); break;
        case ALL: mmu_flush_all(0); break;
        case LOAD: mmu_load_root(0, 0x1000, 1, false); break;
        case LOAD_KEEP: mmu_load_root(0, 0x1000, 1, true); break;
        }
        if (drops[flush][global])
            assert_int_equal(touch(0, VA, user_read), MMU_ABSENT);
        mmu_verify();
    }
}

/* ... and most often a flush drops nothing else: other pages, other ids, global entries. */
static void flushes_mostly_keep_the_rest(void **state)
{
    unsigned kept = 0, global = 0;

    (void)state;
    for (unsigned n = 0; n < 200; n++) {
        x86_machine();
        *entry(4, 6) = 0x6000 | X86_UW | X86_G;
        cache(0, VA, user_read);
        cache(0, VA + 0x2000, user_read);
        *entry(4, 4) = *entry(4, 6) = 0;
        mmu_flush_page(0, VA + 0x1000, 1);
        mmu_flush_asid(0, 2);
        mmu_load_root(0, 0x1000, 1, true);
        kept += touch(0, VA, user_read) == MMU_OK;
        mmu_flush_asid(0, 1);
        mmu_load_root(0, 0x1000, 1, false);
        global += touch(0, VA + 0x2000, user_read) == MMU_OK;
    }
    assert_in_range(kept, 100, 199); /* about 3 in 4: each of three may drop more */
    assert_in_range(global, 100, 199);
}

/* Global entries are for every id, others for their own; an id that comes back finds its entries. */
static void ids_and_global_entries(void **state)
{
    volatile unsigned tries = 0;

    (void)state;
    do { /* a load may drop more than it must: until it did not */
        assert_in_range(tries++, 0, 1000);
        x86_machine();
        *entry(4, 6) = 0x6000 | X86_UW | X86_G;
        cache(0, VA, user_read);
        cache(0, VA + 0x2000, user_read);
        *entry(4, 4) = *entry(4, 6) = 0;
        mmu_load_root(0, 0x1000, 2, false);
        if (touch(0, VA + 0x2000, user_read) != MMU_OK)
            continue;
        assert_int_equal(touch(0, VA, user_read), MMU_ABSENT);
        mmu_load_root(0, 0x1000, 1, true);
    } while (touch(0, VA, user_read) != MMU_OK);
}

/* A clean entry does not let a write pass by: dirty is set in the table first.  A dirty one does,
 * whatever the table says meanwhile: SDM 4.8, 4.10.4.3. */
static void writes_set_dirty_once(void **state)
{
    (void)state;
    x86_machine();
    cache(0, VA, user_read);
    assert_true(*entry(4, 4) & X86_A);
    assert_false(*entry(4, 4) & X86_D);
    assert_int_equal(touch(0, VA, user_write), MMU_OK);
    assert_true(*entry(4, 4) & X86_D);
    cache(0, VA, user_write);
    *entry(4, 4) &= ~(X86_D | X86_RW);
    assert_int_equal(touch(0, VA, user_write), MMU_OK);
    assert_false(*entry(4, 4) & X86_D);
    /* a clean entry whose page has become read-only: the write finds it out */
    mmu_flush_page(0, VA, 1);
    *entry(4, 4) |= X86_RW;
    cache(0, VA, user_read);
    *entry(4, 4) &= ~X86_RW;
    assert_int_equal(touch(0, VA, user_write), MMU_PROTECTION);
}

/* Less restrictive without a flush is fine on x86: one spurious fault at most, and it comes. */
static void spurious_faults_happen_once(void **state)
{
    unsigned spurious = 0;

    (void)state;
    for (unsigned n = 0; n < 100; n++) {
        x86_machine();
        *entry(4, 4) &= ~X86_RW;
        cache(0, VA, user_read);
        *entry(4, 4) |= X86_RW;
        if (touch(0, VA, user_write) == MMU_PROTECTION) {
            spurious++;
            assert_int_equal(touch(0, VA, user_write), MMU_OK);
        }
    }
    assert_in_range(spurious, 10, 90); /* one half */
}

/* A huge page may be cached in any fragments; a flush of any address in it drops them all. */
static void huge_pages_and_fragments(void **state)
{
    unsigned whole = 0;

    (void)state;
    for (unsigned n = 0; n < 100; n++) {
        x86_machine();
        *entry(3, 3) = 0x400000 | X86_UW | X86_PS;
        cache(0, HUGE_VA + 0x1000, user_read);
        cache(0, HUGE_VA + 0x7000, user_read);
        *entry(3, 3) = 0;
        whole += touch(0, HUGE_VA + 0x100000, user_read) == MMU_OK; /* nobody was there */
        mmu_flush_page(0, HUGE_VA + 0x1ff000, 1);
        assert_int_equal(touch(0, HUGE_VA + 0x1000, user_read), MMU_ABSENT);
        assert_int_equal(touch(0, HUGE_VA + 0x7000, user_read), MMU_ABSENT);
        mmu_verify();
    }
    assert_in_range(whole, 20, 99);
}

/* A page that was part of a huge page, without a flush between: either may be used. */
static void several_entries_for_one_address(void **state)
{
    bool old = false, new = false;

    (void)state;
    for (unsigned n = 0; n < 200; n++) {
        struct mmu_reply r;

        x86_machine();
        *entry(3, 3) = 0x400000 | X86_UW | X86_PS;
        cache(0, HUGE_VA, user_read);
        *entry(3, 3) = 0x4000 | X86_UW;
        *entry(4, 0) = 0x6000 | X86_UW;
        mmu_speculate(0, HUGE_VA);
        assert_int_equal(mmu_access(0, HUGE_VA, MMU_READ, true, &r), MMU_OK);
        assert_true(r.pa == 0x400000 || r.pa == 0x6000);
        old |= r.pa == 0x400000;
        new |= r.pa == 0x6000;
    }
    assert_true(old && new);
}

/* ---- Speculation ---- */

static void speculation_fills_and_asks_nobody(void **state)
{
    (void)state;
    x86_machine();
    *entry(4, 4) &= ~X86_US;
    for (unsigned i = 0; i < 100; i++)
        mmu_speculate(0, VA);
    assert_true(*entry(4, 4) & X86_A);
    assert_false(*entry(4, 4) & X86_D);
    *entry(4, 4) = 0;
    assert_int_equal(touch(0, VA, kernel_read), MMU_OK);
    mmu_speculate(0, 1ull << 50); /* not canonical: nothing happens */
    mmu_speculate(0, VA ^ 1ull << 40);
    assert_int_equal(mmu_stats().faults, 0);
}

static void accesses_speculate_nearby(void **state)
{
    struct mmu_config c = {
        .machine = machine_of(WALK_X86_4), .cpus = 1, .frames = FRAMES, .speculate_one_in = 1};

    (void)state;
    mmu_reset(&c);
    *entry(1, 1) = 0x2000 | X86_UW;
    *entry(2, 2) = 0x3000 | X86_UW;
    *entry(3, 3) = 0x4000 | X86_UW;
    for (unsigned i = 0; i < 512; i++)
        *entry(4, i) = (0x100 + i) << 12 | X86_UW;
    mmu_load_root(0, 0x1000, 1, false);
    assert_int_equal(count(1000, HUGE_VA + 0x100000, user_read, MMU_OK), 1000);
    assert_true(*entry(4, 0x101) & X86_A);
    assert_true(*entry(4, 0xff) & X86_A);
}

static void entries_may_go_at_any_time(void **state)
{
    struct mmu_config c = {
        .machine = machine_of(WALK_X86_4), .cpus = 1, .frames = FRAMES, .forget_one_in = 4};

    (void)state;
    mmu_reset(&c);
    *entry(1, 1) = 0x2000 | X86_UW;
    *entry(2, 2) = 0x3000 | X86_UW;
    *entry(3, 3) = 0x4000 | X86_UW;
    *entry(4, 4) = 0x5000 | X86_UW;
    mmu_load_root(0, 0x1000, 1, false);
    cache(0, VA, user_read);
    *entry(4, 4) = 0;
    assert_in_range(count(1000, VA, user_read, MMU_ABSENT), 900, 1000);
}

/* More pages than entries: bounded, and every counter in its place. */
static void capacity_is_bounded(void **state)
{
    struct mmu_config c = {
        .machine = machine_of(WALK_X86_4), .cpus = 1, .frames = FRAMES, .tlb_entries = 8};
    unsigned hits = 0;

    (void)state;
    mmu_reset(&c);
    *entry(1, 1) = 0x2000 | X86_UW;
    *entry(2, 2) = 0x3000 | X86_UW;
    *entry(3, 3) = 0x4000 | X86_UW;
    for (unsigned i = 0; i < 512; i++)
        *entry(4, i) = (0x100 + i) << 12 | X86_UW;
    mmu_load_root(0, 0x1000, 1, false);
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(touch(0, HUGE_VA + 0x1000 * i, user_read), MMU_OK);
    mmu_verify();
    memset(memory[4], 0, sizeof memory[4]);
    for (unsigned i = 0; i < 512; i++)
        hits += touch(0, HUGE_VA + 0x1000 * i, user_read) == MMU_OK;
    assert_in_range(hits, 1, 8);
}

/* ---- Walk caches ---- */

/* Tables that were replaced without a flush may still be walked; x86's flush of any page drops all
 * of the id, Arm's those on the way, RISC-V's none. */
static void cached_tables_are_walked(void **state)
{
    unsigned old = 0;

    (void)state;
    for (unsigned n = 0; n < 200; n++) {
        struct mmu_reply r;

        x86_machine();
        *entry(4, 5) = 0x6000 | X86_UW;
        cache(0, VA, user_read);
        *entry(3, 3) = 0x8000 | X86_UW; /* another table, with another page */
        *entry(8, 5) = 0x9000 | X86_UW;
        if (n % 2)
            mmu_flush_page(0, VA + (1ull << 30), 1); /* INVLPG of whatever address */
        assert_int_equal(mmu_access(0, VA + 0x1000, MMU_READ, true, &r), MMU_OK);
        assert_true((r.pa & ~0xfffull) == 0x9000 || ((r.pa & ~0xfffull) == 0x6000 && n % 2 == 0));
        old += (r.pa & ~0xfffull) == 0x6000;
    }
    assert_in_range(old, 10, 90);
}

/* TLBI VAE1 drops the tables on its way; SFENCE.VMA with an address drops none. */
static void cached_tables_of_other_formats(void **state)
{
    static const struct {
        enum walk_format format;
        uint64_t link, leaf[2]; /* to frame 2, and to the pages in frames 5 and 6 */
        bool flushed;
    } rows[] = {
        {WALK_ARM64, 0x2003, {0x5443, 0x6443}, true},                      /* AF, EL0 too */
        {WALK_SV39, 2 << 10 | 1, {5 << 10 | 0x53, 6 << 10 | 0x53}, false}, /* A, U, R */
    };

    unsigned stale_walks = 0;

    (void)state;
    for (unsigned n = 0; n < 400; n++) {
        bool old, arm = n % 2 == 0;
        unsigned depth = arm ? 3 : 2;
        uint64_t step = arm ? 0x1000 : 1 << 10;
        struct mmu_reply r;

        reset(rows[n % 2].format, 1);
        for (unsigned i = 1; i <= depth; i++)
            *entry(i, 0) = rows[n % 2].link + (i - 1) * step;
        *entry(depth + 1, 1) = rows[n % 2].leaf[0];
        *entry(8, 1) = rows[n % 2].leaf[1];
        mmu_load_root(0, 0x1000, 1, false);
        for (unsigned i = 0; i < 100; i++)
            mmu_speculate(0, 0x1000);
        *entry(depth, 0) = rows[n % 2].link + 6 * step;
        mmu_flush_page(0, 0x1000, 1);
        assert_int_equal(mmu_access(0, 0x1000, MMU_READ, true, &r), MMU_OK);
        old = r.pa == 0x5000;
        assert_true(old || r.pa == 0x6000);
        assert_false(old && rows[n % 2].flushed);
        stale_walks += old;
    }
    assert_in_range(stale_walks, 20, 190);
}

/* What a table took away is cached with it. */
static void cached_tables_keep_permissions(void **state)
{
    unsigned denied = 0;

    (void)state;
    for (unsigned n = 0; n < 200; n++) {
        x86_machine();
        *entry(4, 5) = 0x6000 | X86_UW;
        *entry(2, 2) &= ~X86_RW;
        cache(0, VA, user_read);
        *entry(2, 2) |= X86_RW; /* less restrictive: a fault at most once */
        if (touch(0, VA + 0x1000, user_write) == MMU_PROTECTION) {
            denied++;
            assert_int_equal(touch(0, VA + 0x1000, user_write), MMU_OK);
        }
    }
    assert_in_range(denied, 10, 190);
}

/* ---- The oracle ---- */

static void freed_frame_that_is_cached(void **state)
{
    (void)state;
    x86_machine();
    fake_task = 7;
    fake_points = 42;
    cache(1, VA, user_read);
    *entry(4, 4) = 0;
    mmu_flush_page(0, VA, 1); /* the wrong CPU */
    fake_points = 50;
    assert_true(SIM_EXPECT_FAIL(mmu_frame_freed(5, 0)));
    assert_string_equal(sim_fail_kind, "stale-tlb");
    assert_non_null(strstr(sim_fail_text, "CPU 1"));
    assert_non_null(strstr(sim_fail_text, "point 42 by an access of task 7"));
    assert_non_null(strstr(sim_fail_text, "history of frame 0x5"));
    mmu_flush_page(1, VA, 1);
    mmu_frame_freed(5, 0);
    mmu_verify();
}

/* Runs of frames, huge entries, parts of either. */
static void freed_runs_and_huge_entries(void **state)
{
    (void)state;
    x86_machine();
    *entry(3, 3) = 0x400000 | X86_UW | X86_PS;
    for (unsigned i = 0; i < 512; i++) /* whole or in fragments: all of it is cached */
        cache(0, HUGE_VA + 0x1000 * i, user_read);
    *entry(3, 3) = 0;
    for (unsigned order = 0; order <= 9; order++)
        assert_true(SIM_EXPECT_FAIL(mmu_frame_freed(0x400, order)));
    mmu_frame_freed(0x3ff, 0);
    mmu_frame_freed(0x600, 9);
    mmu_flush_page(0, HUGE_VA, 1);
    mmu_frame_freed(0x400, 9);
    mmu_verify();
}

static void freed_table_that_is_cached(void **state)
{
    (void)state;
    x86_machine();
    for (unsigned i = 0; i < 100; i++)
        mmu_speculate(1, VA);
    for (unsigned table = 2; table <= 4; table++) {
        assert_true(SIM_EXPECT_FAIL(mmu_table_freed(table)));
        assert_string_equal(sim_fail_kind, "stale-walk-cache");
    }
    mmu_table_freed(5);
    assert_true(SIM_EXPECT_FAIL(mmu_table_freed(1)));
    assert_string_equal(sim_fail_kind, "stale-root");
    mmu_flush_asid(1, 1);
    for (unsigned table = 2; table <= 4; table++)
        mmu_table_freed(table);
    for (unsigned cpu = 0; cpu < 2; cpu++)
        mmu_load_root(cpu, 0x7000, 1, false);
    mmu_table_freed(1);
    mmu_frame_freed(1, 0);
    assert_true(SIM_EXPECT_FAIL(mmu_load_root(0, 0x1000, 1, false)));
    assert_string_equal(sim_fail_kind, "stale-root");
    assert_true(SIM_EXPECT_FAIL(mmu_load_root(0, 0x1008, 1, false)));
    assert_string_equal(sim_fail_kind, "bad-root");
    assert_true(SIM_EXPECT_FAIL(mmu_load_root(0, (uint64_t)FRAMES * 4096, 1, false)));
    assert_string_equal(sim_fail_kind, "bad-root");
}

/* The tables themselves lead to what is free. */
static void walks_to_freed_frames(void **state)
{
    (void)state;
    x86_machine();
    mmu_frame_freed(5, 0);
    assert_true(SIM_EXPECT_FAIL(touch(0, VA, user_read)));
    assert_string_equal(sim_fail_kind, "freed-frame");
    assert_true(SIM_EXPECT_FAIL(mmu_speculate(0, VA)));
    mmu_frame_allocated(5, 0);
    assert_int_equal(touch(0, VA, user_read), MMU_OK);
    mmu_flush_all(0);
    mmu_frame_freed(4, 0);
    assert_true(SIM_EXPECT_FAIL(touch(0, VA, user_read)));
    assert_string_equal(sim_fail_kind, "freed-table");
}

/* A lazy CPU may keep what it promised not to use; not the tables, and not for longer. */
static void lazy_cpus(void **state)
{
    (void)state;
    x86_machine();
    cache(0, VA, user_read);
    mmu_set_lazy(0, true);
    *entry(4, 4) = 0;
    mmu_frame_freed(5, 0);
    assert_true(SIM_EXPECT_FAIL(touch(0, VA, user_read)));
    assert_string_equal(sim_fail_kind, "stale-tlb");
    assert_true(SIM_EXPECT_FAIL(mmu_set_lazy(0, false)));
    assert_string_equal(sim_fail_kind, "stale-tlb");
    mmu_set_lazy(0, true);
    mmu_flush_asid(0, 1);
    mmu_set_lazy(0, false);
    *entry(4, 4) = 0x6000 | X86_UW;
    for (unsigned i = 0; i < 100; i++)
        mmu_speculate(0, VA);
    mmu_set_lazy(0, true);
    assert_true(SIM_EXPECT_FAIL(mmu_table_freed(4)));
    assert_string_equal(sim_fail_kind, "stale-walk-cache");
}

/* What another id left behind is found when it is used again. */
static void entries_of_other_ids(void **state)
{
    volatile unsigned tries = 0;

    (void)state;
    do {
        assert_in_range(tries++, 0, 1000);
        x86_machine();
        cache(0, VA, user_read);
        *entry(4, 4) = 0;
        mmu_load_root(0, 0x7000, 2, false);
        mmu_frame_freed(5, 0);
        mmu_load_root(0, 0x1000, 1, true);
    } while (!SIM_EXPECT_FAIL(mmu_check_cpu(0))); /* a load may have dropped it */
    assert_string_equal(sim_fail_kind, "stale-tlb");
    assert_true(SIM_EXPECT_FAIL(touch(0, VA, user_read)));
    mmu_flush_asid(0, 1);
    mmu_check_cpu(0);
    assert_int_equal(touch(0, VA, user_read), MMU_ABSENT);
}

static void tables_of_other_ids(void **state)
{
    volatile unsigned tries = 0;

    (void)state;
    do {
        assert_in_range(tries++, 0, 1000);
        x86_machine();
        *entry(4, 4) = 0;
        for (unsigned i = 0; i < 100; i++)
            mmu_speculate(0, VA);
        mmu_load_root(0, 0x7000, 2, false);
        mmu_table_freed(4);
        mmu_load_root(0, 0x1000, 1, true);
    } while (!SIM_EXPECT_FAIL(mmu_check_cpu(0)));
    assert_string_equal(sim_fail_kind, "stale-walk-cache");
    mmu_flush_asid(0, 1);
    mmu_check_cpu(0);
}

/* The direct map's entries outlive the frames; nobody else's do. */
static void lasting_mappings(void **state)
{
    struct mmu_config c = {.machine = machine_of(WALK_X86_4),
                           .cpus = 1,
                           .frames = FRAMES,
                           .lasting_low = HUGE_VA,
                           .lasting_high = HUGE_VA + 0x4fff};

    (void)state;
    mmu_reset(&c);
    *entry(1, 1) = 0x2000 | X86_UW;
    *entry(2, 2) = 0x3000 | X86_UW;
    *entry(3, 3) = 0x4000 | X86_UW;
    *entry(4, 4) = 0x5000 | X86_UW;
    *entry(4, 5) = 0x6000 | X86_UW;
    mmu_load_root(0, 0x1000, 1, false);
    cache(0, VA, user_read);
    cache(0, VA + 0x1000, user_read);
    mmu_frame_freed(5, 0);
    assert_int_equal(touch(0, VA, user_read), MMU_OK);
    assert_true(SIM_EXPECT_FAIL(mmu_frame_freed(6, 0)));
    mmu_flush_all(0);
    assert_int_equal(touch(0, VA, user_read), MMU_OK);
    mmu_verify();
}

static void reports_tell_all(void **state)
{
    (void)state;
    x86_machine();
    cache(0, VA, user_read);
    for (unsigned i = 0; i < 10; i++)
        mmu_load_root(0, 0x1000, i + 1, true);
    assert_true(SIM_EXPECT_FAIL({
        mmu_report_cpu(0);
        sim_fail("end", "of the report");
    }));
    assert_non_null(strstr(sim_fail_text, "last 8 of 11 flushes"));
    assert_non_null(strstr(sim_fail_text, "loaded root, keeping 0x1000 asid 10"));
    assert_null(strstr(sim_fail_text, "asid 2\n"));
}

static int finish(void **state)
{
    (void)state;
    mmu_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_stay_until_flushed),
        cmocka_unit_test(flushes_drop_what_they_must),
        cmocka_unit_test(flushes_mostly_keep_the_rest),
        cmocka_unit_test(ids_and_global_entries),
        cmocka_unit_test(writes_set_dirty_once),
        cmocka_unit_test(spurious_faults_happen_once),
        cmocka_unit_test(huge_pages_and_fragments),
        cmocka_unit_test(several_entries_for_one_address),
        cmocka_unit_test(speculation_fills_and_asks_nobody),
        cmocka_unit_test(accesses_speculate_nearby),
        cmocka_unit_test(entries_may_go_at_any_time),
        cmocka_unit_test(capacity_is_bounded),
        cmocka_unit_test(cached_tables_are_walked),
        cmocka_unit_test(cached_tables_of_other_formats),
        cmocka_unit_test(cached_tables_keep_permissions),
        cmocka_unit_test(freed_frame_that_is_cached),
        cmocka_unit_test(freed_runs_and_huge_entries),
        cmocka_unit_test(freed_table_that_is_cached),
        cmocka_unit_test(walks_to_freed_frames),
        cmocka_unit_test(lazy_cpus),
        cmocka_unit_test(entries_of_other_ids),
        cmocka_unit_test(tables_of_other_ids),
        cmocka_unit_test(lasting_mappings),
        cmocka_unit_test(reports_tell_all),
    };

    test_seed("sim_mmu_test");
    return cmocka_run_group_tests(tests, NULL, finish);
}
