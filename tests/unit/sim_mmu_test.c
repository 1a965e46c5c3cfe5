/*
 * sim_mmu_test.c - the memory management units of the simulator: walks against tables built by
 * hand from the manuals, what TLBs and walk caches may and must do, and that the oracle finds what
 * outlives a frame or a table.
 *
 * The bits below are written down a second time on purpose, from the manuals, not from the walkers.
 */
#include <sim_fake.h>

#include "mmu.h"

/* ---- A small memory ---- */

enum { FRAMES = 4096 };
static uint64_t memory[FRAMES][512];
static struct {
    unsigned n, cpu;
    uint64_t pa, before, after;
} stores;

static uint64_t *at(void *ctx, uint64_t pa)
{
    (void)ctx;
    assert_int_equal(pa & 7, 0);
    return pa / 4096 < FRAMES ? &memory[pa / 4096][pa / 8 % 512] : NULL;
}

static void stored(void *ctx, unsigned cpu, uint64_t pa, uint64_t before, uint64_t after)
{
    (void)ctx;
    assert_int_equal(*at(NULL, pa), after);
    stores.n++;
    stores.cpu = cpu;
    stores.pa = pa;
    stores.before = before;
    stores.after = after;
}

static struct walk_machine machine_of(enum walk_format format)
{
    memset(memory, 0, sizeof memory);
    memset(&stores, 0, sizeof stores);
    return (struct walk_machine){
        .format = format, .features = walk_default_features(format), .at = at, .stored = stored};
}

static uint64_t *entry(uint64_t table_frame, unsigned index) { return &memory[table_frame][index]; }

struct what {
    enum mmu_kind kind;
    bool user;
};
static const struct what kernel_read = {MMU_READ, false}, kernel_write = {MMU_WRITE, false},
                         kernel_fetch = {MMU_FETCH, false}, user_read = {MMU_READ, true},
                         user_write = {MMU_WRITE, true}, user_fetch = {MMU_FETCH, true};

static struct walk walk_at(const struct walk_machine *m, enum walk_mode mode, uint64_t va,
                           struct what what)
{
    struct walk w = {.va = va,
                     .kind = what.kind,
                     .user = what.user,
                     .mode = mode,
                     .cpu = 3,
                     .root = 0x1000,
                     .high_root = 0x8000};

    if (walk_from_root(m, &w) == MMU_OK)
        walk_run(m, &w);
    return w;
}

static enum mmu_result pure(const struct walk_machine *m, uint64_t va, struct what what)
{
    return walk_at(m, WALK_PURE, va, what).result;
}

/* ---- x86-64: SDM volume 3A, tables "Format of a ... Entry" in 4.5.4 and 4.5.5 ---- */

#define X86_P      0x001ull /* present */
#define X86_RW     0x002ull
#define X86_US     0x004ull
#define X86_PWT    0x008ull
#define X86_PCD    0x010ull
#define X86_A      0x020ull
#define X86_D      0x040ull
#define X86_PS     0x080ull
#define X86_PAT_4K 0x080ull
#define X86_G      0x100ull
#define X86_PAT_2M 0x1000ull
#define X86_XD     0x8000000000000000ull
#define X86_ALL    (X86_P | X86_RW | X86_US)
/* PML4 1, PDPT 2, PD 3, PT 4: indexes of this address are 1, 2, 3, 4, offset 0x123 */
#define X86_VA (1ull << 39 | 2ull << 30 | 3ull << 21 | 4ull << 12 | 0x123)

static void x86_tree(void)
{
    *entry(1, 1) = 0x2000 | X86_ALL;
    *entry(2, 2) = 0x3000 | X86_ALL;
    *entry(3, 3) = 0x4000 | X86_ALL;
    *entry(4, 4) = 0x5000 | X86_ALL;
}

static void x86_walk_reads_each_level(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);
    struct walk w;

    (void)state;
    x86_tree();
    w = walk_at(&m, WALK_PURE, X86_VA, user_write);
    assert_int_equal(w.result, MMU_OK);
    assert_int_equal(w.pa, 0x5123);
    assert_int_equal(w.shift, 12);
    assert_int_equal(w.perms, 0x3f);
    assert_int_equal(w.reads, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(w.read[i].pa, 0x1000 * (i + 1) + 8 * (i + 1));
        assert_int_equal(w.read[i].level, 3 - i);
    }
    assert_int_equal(w.read[2].table, 0x4000);
    assert_int_equal(stores.n, 0);
    /* each level may be absent, whatever the other bits say */
    for (unsigned i = 1; i <= 4; i++) {
        x86_tree();
        *entry(i, i) = ~X86_P;
        w = walk_at(&m, WALK_PURE, X86_VA, user_write);
        assert_int_equal(w.result, MMU_ABSENT);
        assert_int_equal(w.level, 4 - i);
    }
}

/* 4.6.1: an access is allowed if every level allows it. */
static void x86_permissions_of_all_levels(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);

    (void)state;
    for (unsigned level = 1; level <= 4; level++) {
        x86_tree();
        *entry(level, level) &= ~X86_RW;
        assert_int_equal(pure(&m, X86_VA, user_read), MMU_OK);
        assert_int_equal(pure(&m, X86_VA, user_write), MMU_PROTECTION);
        assert_int_equal(pure(&m, X86_VA, kernel_write), MMU_PROTECTION);
        m.features.wp = false; /* the kernel may write read-only pages */
        assert_int_equal(pure(&m, X86_VA, kernel_write), MMU_OK);
        assert_int_equal(pure(&m, X86_VA, user_write), MMU_PROTECTION);
        m.features.wp = true;
        x86_tree();
        *entry(level, level) &= ~X86_US;
        assert_int_equal(pure(&m, X86_VA, user_read), MMU_PROTECTION);
        assert_int_equal(pure(&m, X86_VA, user_fetch), MMU_PROTECTION);
        assert_int_equal(pure(&m, X86_VA, kernel_write), MMU_OK);
        x86_tree();
        *entry(level, level) |= X86_XD;
        assert_int_equal(pure(&m, X86_VA, user_fetch), MMU_PROTECTION);
        assert_int_equal(pure(&m, X86_VA, kernel_fetch), MMU_PROTECTION);
        assert_int_equal(pure(&m, X86_VA, user_write), MMU_OK);
        m.features.nx = false; /* then bit 63 is reserved */
        assert_int_equal(pure(&m, X86_VA, user_read), MMU_RESERVED);
        m.features.nx = true;
    }
    x86_tree();
    m.features.smep = m.features.smap = true;
    assert_int_equal(pure(&m, X86_VA, kernel_fetch), MMU_PROTECTION);
    assert_int_equal(pure(&m, X86_VA, kernel_read), MMU_PROTECTION);
    assert_int_equal(pure(&m, X86_VA, user_fetch), MMU_OK);
    *entry(2, 2) &= ~X86_US; /* then it is the kernel's */
    assert_int_equal(pure(&m, X86_VA, kernel_fetch), MMU_OK);
    assert_int_equal(pure(&m, X86_VA, kernel_write), MMU_OK);
}

/* 4.5.4: bits above MAXPHYADDR; PS of a PML4E; the address bits below a huge page. */
static void x86_reserved_bits(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);

    (void)state;
    m.features.pa_bits = 40;
    for (unsigned level = 1; level <= 4; level++) {
        for (unsigned bit = 40; bit < 52; bit++) {
            x86_tree();
            *entry(level, level) |= 1ull << bit;
            assert_int_equal(pure(&m, X86_VA, user_read), MMU_RESERVED);
        }
        for (unsigned bit = 52; bit < 63; bit++) { /* ignored */
            x86_tree();
            *entry(level, level) |= 1ull << bit;
            assert_int_equal(pure(&m, X86_VA, user_read), MMU_OK);
        }
    }
    x86_tree();
    *entry(1, 1) |= X86_PS;
    assert_int_equal(pure(&m, X86_VA, user_read), MMU_RESERVED);
    for (unsigned bit = 13; bit < 21; bit++) {
        x86_tree();
        *entry(3, 3) = 1ull << bit | X86_ALL | X86_PS;
        assert_int_equal(pure(&m, X86_VA, user_read), MMU_RESERVED);
    }
    for (unsigned bit = 13; bit < 30; bit++) {
        x86_tree();
        *entry(2, 2) = 1ull << bit | X86_ALL | X86_PS;
        assert_int_equal(pure(&m, X86_VA, user_read), MMU_RESERVED);
    }
    *entry(2, 2) = X86_ALL | X86_PS;
    assert_int_equal(pure(&m, X86_VA, user_read), MMU_OK);
    m.features.gbpages = false;
    assert_int_equal(pure(&m, X86_VA, user_read), MMU_RESERVED);
}

/* 3.3.7.1: linear addresses are canonical, or #GP. */
static void x86_canonical_addresses(void **state)
{
    struct walk_machine m4 = machine_of(WALK_X86_4), m5 = machine_of(WALK_X86_5);

    (void)state;
    assert_int_equal(pure(&m4, 0x00007fffffffffff, user_read), MMU_ABSENT);
    assert_int_equal(pure(&m4, 0x0000800000000000, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m4, 0xffff7fffffffffff, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m4, 0xffff800000000000, user_read), MMU_ABSENT);
    assert_int_equal(pure(&m5, 0x00ffffffffffffff, user_read), MMU_ABSENT);
    assert_int_equal(pure(&m5, 0x0100000000000000, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m5, 0xfeffffffffffffff, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m5, 0xff00000000000000, user_read), MMU_ABSENT);
}

/* Huge leaves, memory types (4.9.2) and the global bit. */
static void x86_leaves(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);
    struct walk w;

    (void)state;
    x86_tree();
    *entry(3, 3) = 0x600000 | X86_ALL | X86_PS | X86_G | X86_PAT_2M | X86_PCD;
    w = walk_at(&m, WALK_PURE, X86_VA, user_read);
    assert_int_equal(w.result, MMU_OK);
    assert_int_equal(w.pa, 0x600000 + 0x4123);
    assert_int_equal(w.shift, 21);
    assert_int_equal(w.memory, 6);
    assert_true(w.global);
    *entry(2, 2) = 0x40000000 | X86_ALL | X86_PS | X86_PWT;
    w = walk_at(&m, WALK_PURE, X86_VA, user_read);
    assert_int_equal(w.pa, 0x40000000 + 3 * 0x200000 + 0x4123);
    assert_int_equal(w.shift, 30);
    assert_int_equal(w.memory, 1);
    assert_false(w.global);
    x86_tree();
    *entry(4, 4) |= X86_PAT_4K | X86_PWT;
    assert_int_equal(walk_at(&m, WALK_PURE, X86_VA, user_read).memory, 5);
    *entry(3, 3) = (uint64_t)FRAMES * 4096 | X86_ALL;
    assert_int_equal(pure(&m, X86_VA, user_read), MMU_BUS);
}

/* 4.5.5: with CR4.LA57 one more level, of bits 56..48. */
static void x86_five_levels(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_5);
    struct walk w;

    (void)state;
    x86_tree();
    *entry(6, 9) = 0x1000 | X86_ALL;
    w = (struct walk){.va = 9ull << 48 | X86_VA, .user = true, .root = 0x6000};
    assert_int_equal(walk_from_root(&m, &w), MMU_OK);
    assert_int_equal(walk_run(&m, &w), MMU_OK);
    assert_int_equal(w.pa, 0x5123);
    assert_int_equal(w.reads, 5);
    *entry(6, 9) |= X86_PS;
    walk_from_root(&m, &w);
    assert_int_equal(walk_run(&m, &w), MMU_RESERVED);
    assert_int_equal(w.level, 4);
}

/* 4.8: accessed everywhere on the way, dirty in the leaf and only by a write. */
static void x86_accessed_and_dirty(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);
    struct walk w;

    (void)state;
    x86_tree();
    w = walk_at(&m, WALK_ACCESS, X86_VA, user_read);
    assert_int_equal(w.result, MMU_OK);
    assert_false(w.dirty);
    assert_int_equal(stores.n, 4);
    for (unsigned i = 1; i <= 4; i++)
        assert_int_equal(*entry(i, i), 0x1000 * (i + 1) | X86_ALL | X86_A);
    assert_int_equal(walk_at(&m, WALK_ACCESS, X86_VA, user_fetch).result, MMU_OK);
    assert_int_equal(stores.n, 4);
    w = walk_at(&m, WALK_ACCESS, X86_VA, user_write);
    assert_true(w.dirty);
    assert_int_equal(stores.n, 5);
    assert_int_equal(stores.cpu, 3);
    assert_int_equal(stores.pa, 0x4020);
    assert_int_equal(stores.before, 0x5000 | X86_ALL | X86_A);
    assert_int_equal(stores.after, 0x5000 | X86_ALL | X86_A | X86_D);
    /* speculation: accessed, never dirty; and no permission is asked */
    x86_tree();
    *entry(4, 4) &= ~X86_US;
    w = walk_at(&m, WALK_SPECULATIVE, X86_VA, user_write);
    assert_int_equal(w.result, MMU_OK);
    assert_false(w.dirty);
    assert_int_equal(*entry(4, 4), 0x5000 | X86_P | X86_RW | X86_A);
    /* a denied write changes no leaf */
    x86_tree();
    *entry(4, 4) &= ~X86_RW;
    assert_int_equal(walk_at(&m, WALK_ACCESS, X86_VA, user_write).result, MMU_PROTECTION);
    assert_int_equal(*entry(4, 4), 0x5000 | X86_P | X86_US);
}

/* ---- TLBs ---- */

static void reset(enum walk_format format, unsigned cpus)
{
    struct mmu_config c = {.machine = machine_of(format), .cpus = cpus, .frames = FRAMES};

    mmu_reset(&c);
}

static void x86_machine(void)
{
    reset(WALK_X86_4, 2);
    x86_tree();
    for (unsigned cpu = 0; cpu < 2; cpu++)
        mmu_load_root(cpu, 0x1000, 0, false);
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

static void tlb_keeps_until_flushed(void **state)
{
    (void)state;
    x86_machine();
    cache(0, X86_VA, user_read);
    cache(1, X86_VA, user_read);
    *entry(4, 4) = 0;
    assert_int_equal(touch(0, X86_VA, user_read), MMU_OK);
    mmu_flush_page(0, X86_VA, 0);
    assert_int_equal(touch(0, X86_VA, user_read), MMU_ABSENT);
    assert_int_equal(touch(1, X86_VA, user_read), MMU_OK); /* each CPU its own */
    mmu_flush_asid(1, 0);
    assert_int_equal(touch(1, X86_VA, user_read), MMU_ABSENT);
    mmu_verify();
}

/* A clean entry does not let a write pass by: dirty is set in the table first. */
static void tlb_writes_set_dirty_once(void **state)
{
    (void)state;
    x86_machine();
    cache(0, X86_VA, user_read);
    assert_false(*entry(4, 4) & X86_D);
    assert_int_equal(touch(0, X86_VA, user_write), MMU_OK);
    assert_true(*entry(4, 4) & X86_D);
    cache(0, X86_VA, user_write);
    *entry(4, 4) &= ~(X86_D | X86_RW); /* no flush: the entry is still writable and dirty */
    assert_int_equal(touch(0, X86_VA, user_write), MMU_OK);
    assert_false(*entry(4, 4) & X86_D);
}

/* A freed frame, or table, that somebody still has cached. */
static void oracle_finds_what_outlives(void **state)
{
    (void)state;
    x86_machine();
    fake_task = 7;
    fake_points = 42;
    cache(1, X86_VA, user_read);
    *entry(4, 4) = 0;
    mmu_flush_page(0, X86_VA, 0); /* the wrong CPU */
    assert_true(SIM_EXPECT_FAIL(mmu_frame_freed(5, 0)));
    assert_string_equal(sim_fail_kind, "stale-tlb");
    assert_non_null(strstr(sim_fail_text, "CPU 1"));
    assert_non_null(strstr(sim_fail_text, "point 42 by an access of task 7"));
    assert_non_null(strstr(sim_fail_text, "history of frame 0x5"));
    mmu_flush_page(1, X86_VA, 0);
    mmu_frame_freed(5, 0);
    assert_true(SIM_EXPECT_FAIL(mmu_table_freed(1)));
    assert_string_equal(sim_fail_kind, "stale-root");
    mmu_verify();
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
        cmocka_unit_test(x86_walk_reads_each_level),
        cmocka_unit_test(x86_permissions_of_all_levels),
        cmocka_unit_test(x86_reserved_bits),
        cmocka_unit_test(x86_canonical_addresses),
        cmocka_unit_test(x86_leaves),
        cmocka_unit_test(x86_five_levels),
        cmocka_unit_test(x86_accessed_and_dirty),
        cmocka_unit_test(tlb_keeps_until_flushed),
        cmocka_unit_test(tlb_writes_set_dirty_once),
        cmocka_unit_test(oracle_finds_what_outlives),
    };

    test_seed("sim_mmu_test");
    return cmocka_run_group_tests(tests, NULL, finish);
}
