/*
 * sim_mmu_random_test.c - random trees, accesses and changes of all formats on several CPUs: with
 * every flush done, what TLBs and walk caches give is what a walk of the tables gives; with one
 * left out, the oracle finds it.
 *
 * The test's own model is the list of what it mapped where.  A region of 2 MiB is empty, a huge
 * page, or a table of pages.
 */
#include <sim_memory.h>

#include "mmu.h"

enum { CPUS = 3, REGIONS = 3, TOP_FRAMES = 8, FIRST_PAGE = 1024, PAGES = 12 };
enum { CAN_WRITE = 1, CAN_USER = 2, CAN_EXECUTE = 4, IS_GLOBAL = 8 };

static struct walk_machine machine;
static struct region {
    uint64_t table; /* frame; 0: none */
    uint64_t huge;  /* frame of the huge page; 0: none */
    uint64_t page[512];
    unsigned page_bits[512], huge_bits;
} regions[REGIONS];
static bool frame_used[FRAMES];

static unsigned levels(void) { return walk_levels(machine.format); }

/* ---- Entries, as the manuals have them ---- */

static uint64_t link_to(uint64_t frame)
{
    switch (machine.format) {
    case WALK_X86_4:
    case WALK_X86_5: return frame << 12 | 7; /* P, R/W, U/S */
    case WALK_ARM64: return frame << 12 | 3; /* valid, table */
    default: return frame << 10 | 1;         /* V */
    }
}

static uint64_t leaf_to(uint64_t frame, unsigned level, unsigned bits)
{
    bool write = bits & CAN_WRITE, user = bits & CAN_USER, execute = bits & CAN_EXECUTE;
    bool global = bits & IS_GLOBAL;

    switch (machine.format) {
    case WALK_X86_4:
    case WALK_X86_5:
        return frame << 12 | 1 | write << 1 | user << 2 | (level ? 0x80 : 0) | global << 8 |
               (uint64_t)!execute << 63;
    case WALK_ARM64: /* AP, DBM, UXN and PXN, nG */
        return frame << 12 | (level ? 1 : 3) | 0x80 | user << 6 | !global << 11 |
               (uint64_t)write << 51 | (execute ? 0 : 3ull << 53);
    default: return frame << 10 | 1 | 2 | write << 2 | execute << 3 | user << 4 | global << 5;
    }
}

/* ---- The memory of the test ---- */

static uint64_t take(uint64_t from, uint64_t n)
{
    for (uint64_t f = from + n - 1 - (from + n - 1) % n;; f += n) {
        uint64_t i = 0;

        assert_in_range(f + n, 0, FRAMES);
        while (i < n && !frame_used[f + i])
            i++;
        if (i < n)
            continue;
        for (i = 0; i < n; i++)
            frame_used[f + i] = true;
        mmu_frame_allocated(f, n == 512 ? 9 : 0);
        return f;
    }
}

static void give(uint64_t frame, uint64_t n)
{
    mmu_frame_freed(frame, n == 512 ? 9 : 0);
    for (uint64_t i = 0; i < n; i++)
        frame_used[frame + i] = false;
}

static uint64_t region_va(unsigned r) { return 0x40000000ull + r * 0x200000ull; }

/* The entry of region r in the table of 2 MiB entries: frame levels - 1 of the tree. */
static uint64_t *region_entry(unsigned r) { return entry(levels() - 1, r); }

static void start(enum walk_format format)
{
    struct mmu_config c = {.cpus = CPUS, .frames = FRAMES, .tlb_entries = 16, .walk_entries = 4};

    machine = machine_of(format);
    machine.features.hw_accessed = machine.features.hw_dirty = true;
    c.machine = machine;
    memset(regions, 0, sizeof regions);
    memset(frame_used, 0, sizeof frame_used);
    mmu_reset(&c);
    /* tables 1, 2, ... from the root down; region_va has index 0, ..., 0, 1 above the 2 MiB ones */
    for (unsigned i = 1; i < levels() - 1; i++)
        *entry(i, i == levels() - 2) = link_to(i + 1);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        mmu_load_root(cpu, 0x1000, 1, false);
}

/* ---- Flushes; one CPU may be left out ---- */

enum { NOBODY = CPUS };

static void flush_page(uint64_t va, unsigned but)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        if (cpu != but)
            mmu_flush_page(cpu, va, 1);
}

static void flush_tables(unsigned but)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        if (cpu != but)
            mmu_flush_asid(cpu, 1);
}

/* ---- Changes ---- */

static void map_page(unsigned r, unsigned i)
{
    struct region *g = &regions[r];

    if (g->huge || g->page[i])
        return;
    if (!g->table) {
        g->table = take(TOP_FRAMES, 1);
        memset(memory[g->table], 0, 4096);
        *region_entry(r) = link_to(g->table);
    }
    g->page[i] = take(FIRST_PAGE, 1);
    g->page_bits[i] = (unsigned)test_random_below(16);
    *entry(g->table, i) = leaf_to(g->page[i], 0, g->page_bits[i]);
}

static void map_huge(unsigned r)
{
    struct region *g = &regions[r];

    if (g->huge || g->table)
        return;
    g->huge = take(FIRST_PAGE, 512);
    g->huge_bits = (unsigned)test_random_below(16);
    *region_entry(r) = leaf_to(g->huge, 1, g->huge_bits);
}

static void unmap_page(unsigned r, unsigned i, unsigned but)
{
    struct region *g = &regions[r];
    uint64_t frame = g->page[i];

    if (!frame)
        return;
    *entry(g->table, i) = 0;
    g->page[i] = 0;
    flush_page(region_va(r) + 0x1000 * i, but);
    give(frame, 1);
}

static void unmap_huge(unsigned r, unsigned but)
{
    uint64_t frame = regions[r].huge;

    if (!frame)
        return;
    *region_entry(r) = 0;
    regions[r].huge = 0;
    flush_page(region_va(r) + 0x1000 * test_random_below(512), but);
    give(frame, 512);
}

/* All of the region's pages, then its table. */
static void unmap_table(unsigned r, unsigned but)
{
    struct region *g = &regions[r];
    uint64_t table = g->table;

    if (!table)
        return;
    for (unsigned i = 0; i < 512; i++)
        unmap_page(r, i, NOBODY);
    *region_entry(r) = 0;
    g->table = 0;
    flush_tables(but);
    mmu_table_freed(table);
    give(table, 1);
}

static void protect(unsigned r, unsigned i)
{
    struct region *g = &regions[r];
    unsigned bits = (unsigned)test_random_below(16);

    if (g->huge) {
        g->huge_bits = bits;
        *region_entry(r) = leaf_to(g->huge, 1, bits);
    } else if (g->page[i]) {
        g->page_bits[i] = bits;
        *entry(g->table, i) = leaf_to(g->page[i], 0, bits);
    }
    flush_page(region_va(r) + 0x1000 * i, NOBODY);
}

/* ---- Accesses ---- */

static void access(void)
{
    unsigned cpu = (unsigned)test_random_below(CPUS), r = (unsigned)test_random_below(REGIONS);
    unsigned i = (unsigned)test_random_below(PAGES);
    enum mmu_kind kind = (enum mmu_kind)test_random_below(3);
    bool user = test_random() & 1;
    uint64_t va = region_va(r) + 0x1000 * i + test_random_below(4096);
    uint64_t frame = regions[r].huge ? regions[r].huge + i : regions[r].page[i];
    unsigned bits = regions[r].huge ? regions[r].huge_bits : regions[r].page_bits[i];
    struct mmu_reply reply;
    enum mmu_result now, result;
    struct walk w;

    if (!test_random_below(4)) {
        mmu_speculate(cpu, va);
        return;
    }
    now = mmu_walk(cpu, va, kind, user, &w);
    result = mmu_access(cpu, va, kind, user, &reply);
    assert_int_equal(result, now);
    assert_int_equal(now == MMU_ABSENT, !frame);
    if (!frame)
        return;
    /* what the formats agree on */
    if (user && !(bits & CAN_USER) && kind != MMU_FETCH)
        assert_int_equal(now, MMU_PROTECTION);
    if (kind == MMU_WRITE && !(bits & CAN_WRITE))
        assert_int_equal(now, MMU_PROTECTION);
    if (user && bits & CAN_USER && kind == MMU_READ)
        assert_int_equal(now, MMU_OK);
    if (now == MMU_OK) {
        assert_int_equal(reply.pa, w.pa);
        assert_int_equal(reply.pa, frame * 4096 + va % 4096);
    }
}

static void step(void)
{
    unsigned r = (unsigned)test_random_below(REGIONS), i = (unsigned)test_random_below(PAGES);

    switch (test_random_below(40)) {
    case 0: map_huge(r); break;
    case 1: unmap_huge(r, NOBODY); break;
    case 2:
        if (!test_random_below(4))
            unmap_table(r, NOBODY);
        break;
    case 3:
    case 4: unmap_page(r, i, NOBODY); break;
    case 5: protect(r, i); break;
    case 6:
    case 7:
    case 8:
    case 9: map_page(r, i); break;
    default: access(); break;
    }
}

/* ---- Tests ---- */

static void cached_is_as_walked_after_flushes(void **state)
{
    (void)state;
    for (unsigned f = 0; f < WALK_FORMATS; f++) {
        start((enum walk_format)f);
        for (unsigned n = 0; n < 20000; n++) {
            step();
            if (n % 1000 == 0)
                mmu_verify();
        }
        assert_in_range(mmu_stats().hits, 100, 20000); /* the test is not empty */
        assert_in_range(mmu_stats().walks, 100, 40000);
    }
}

static __attribute__((noinline)) void forget_page(unsigned cpu, bool huge)
{
    unsigned i = (unsigned)test_random_below(PAGES);
    struct mmu_reply reply = {0};

    if (huge)
        map_huge(0);
    else
        map_page(0, i);
    *(huge ? region_entry(0) : entry(regions[0].table, i)) =
        leaf_to(huge ? regions[0].huge : regions[0].page[i], huge, CAN_USER);
    for (unsigned k = 0; k < 1000 && !reply.hit; k++)
        assert_int_equal(mmu_access(cpu, region_va(0) + 0x1000 * i, MMU_READ, true, &reply),
                         MMU_OK);
    for (unsigned k = 0; k < 50; k++) /* what others have does not matter */
        mmu_speculate((cpu + 1) % CPUS, region_va(0) + 0x1000 * test_random_below(PAGES));
    if (huge)
        assert_true(SIM_EXPECT_FAIL(unmap_huge(0, cpu)));
    else
        assert_true(SIM_EXPECT_FAIL(unmap_page(0, i, cpu)));
    assert_string_equal(sim_fail_kind, "stale-tlb");
}

/* One CPU has the page in its TLB and is left out. */
static void forgotten_flush_of_a_page(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 300; n++) {
        start((enum walk_format)(n % WALK_FORMATS));
        forget_page((unsigned)test_random_below(CPUS), n / WALK_FORMATS % 2);
    }
}

static __attribute__((noinline)) void forget_table(unsigned cpu)
{
    map_page(0, 7);
    unmap_page(0, 7, NOBODY);
    for (unsigned k = 0; k < 60; k++)
        mmu_speculate(cpu, region_va(0) + 0x8000); /* nothing is there: only tables are kept */
    assert_true(SIM_EXPECT_FAIL(unmap_table(0, cpu)));
    assert_string_equal(sim_fail_kind, "stale-walk-cache");
}

/* One CPU has walked through the table and is left out. */
static void forgotten_flush_of_a_table(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 300; n++) {
        start((enum walk_format)(n % WALK_FORMATS));
        forget_table((unsigned)test_random_below(CPUS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_is_as_walked_after_flushes),
        cmocka_unit_test(forgotten_flush_of_a_page),
        cmocka_unit_test(forgotten_flush_of_a_table),
    };

    test_seed("sim_mmu_random_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
