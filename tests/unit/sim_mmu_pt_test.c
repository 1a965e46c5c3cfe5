/*
 * sim_mmu_pt_test.c - the simulator's x86-64 walk on tables that src/pt made, against the walk of
 * pt_walker.h, which was written by somebody else from the same manual.
 */
#include <sim_fake.h>

#define walk pt_walker_result /* both have a struct of that name */
#include <pt_machine.h>
#undef walk

#include "mmu.h"

static uint64_t *at(void *ctx, uint64_t pa)
{
    (void)ctx;
    return pa < SPAN ? (uint64_t *)(QPORT_DIRECT_BASE + pa) : NULL;
}

static void reset(q_pa root)
{
    struct mmu_config c = {
        .machine = {.format = WALK_X86_4, .features = walk_default_features(WALK_X86_4), .at = at},
        .cpus = 1,
        .frames = SPAN / 4096,
        .tlb_entries = 64};

    mmu_reset(&c);
    mmu_load_root(0, root.v, 0, false);
}

static enum walk_fault as_walk_fault(enum mmu_result r)
{
    switch (r) {
    case MMU_OK: return WALK_OK;
    case MMU_NOT_CANONICAL: return WALK_GP;
    case MMU_ABSENT: return WALK_ABSENT;
    case MMU_RESERVED: return WALK_RESERVED;
    default: assert_int_equal(r, MMU_PROTECTION); return WALK_PROTECTION;
    }
}

/* Every kind of access at va: the same result, and if there is a leaf, the same of it. */
static void same_at(q_pa root, uint64_t va)
{
    for (unsigned n = 0; n < 6; n++) {
        struct walk_access a = {.user = n & 1, .write = n / 2 == 1, .fetch = n / 2 == 2};
        enum mmu_kind kind = a.write ? MMU_WRITE : a.fetch ? MMU_FETCH : MMU_READ;
        struct pt_walker_result theirs;
        enum walk_fault want = pt_walk(root.v, va, a, &theirs);
        struct walk ours;

        assert_int_equal(as_walk_fault(mmu_walk(0, va, kind, a.user, &ours)), want);
        if (want == WALK_GP)
            continue;
        assert_int_equal(ours.reads, theirs.loads);
        if (want != WALK_OK && want != WALK_PROTECTION)
            continue;
        assert_int_equal(ours.pa, theirs.pa);
        assert_int_equal(ours.shift, theirs.page_size);
        assert_int_equal(ours.memory, theirs.pat);
        assert_int_equal(ours.global, theirs.global);
        assert_int_equal(ours.dirty, theirs.dirty);
    }
}

/* Pages of all sizes and protections where src/pt puts them, and addresses all around. */
static void tables_of_the_library(void **state)
{
    static const uint64_t bases[] = {0, 0x400000, 0x40000000, 0x7f0000000000, 0x7fffc0000000};
    q_pa root = new_root();

    (void)state;
    reset(root);
    for (unsigned n = 0; n < 300; n++) {
        unsigned level = test_random_below(8) ? 0 : 1 + (unsigned)test_random_below(2);
        uint64_t size = QI_PT_SIZE(level), va = bases[test_random_below(5)];
        unsigned l;

        va = qi_align_down(va + test_random_below(1ull << 30), size);
        if (qi_pt_slot(root, va, level, &l)) /* the table is there: perhaps something below it */
            if (l != level || qi_pte_load(qi_pt_slot(root, va, level, &l)).v)
                continue;
        put(root, va, qi_align_down(test_random_below(1ull << 40), size),
            1 + (unsigned)test_random_below(7), level);
        same_at(root, va);
        same_at(root, va + size - 1);
        same_at(root, va + size);
        same_at(root, va - 1);
        same_at(root, test_random());
        same_at(root, test_random() >> 17);
    }
}

/* Entries that nobody would make: random bits in the last two levels, within the CPU's 52 bits. */
static void damaged_tables(void **state)
{
    q_pa root = new_root();
    uint64_t va = 0x12345000;
    qi_pte *pte, *pde;
    unsigned level;

    (void)state;
    reset(root);
    put(root, va, 0x300000, 7, 0);
    pte = qi_pt_slot(root, va, 0, &level);
    pde = qi_pt_slot(root, va, 1, &level);
    for (unsigned n = 0; n < 20000; n++) {
        uint64_t low = test_random() & 0xfff, old = qi_pte_load(pde).v;

        qi_pte_set(pte, QI_PTE((test_random() & ~0xfffull) | low | (n & 1)));
        same_at(root, va + 0x321);
        if (n % 4)
            continue;
        qi_pte_set(pde, QI_PTE((test_random() & 0xfff0000000000000) | (n & 16 ? 0x1fe000 : 0) |
                               0x600000 | QI_X86_PS | (low & 0x17f)));
        same_at(root, va + 0x321);
        qi_pte_set(pde, QI_PTE(old));
    }
}

/* Walks for random reads of 4 MiB at va, whose frames are those from pa on. */
static uint64_t walks_for_reads(q_pa root, uint64_t va, uint64_t pa)
{
    enum { READS = 20000 };
    uint64_t before;

    reset(root);
    before = mmu_stats().walks;
    for (unsigned n = 0; n < READS; n++) {
        uint64_t off = test_random_below(4 * MIB) & ~7ull;
        struct mmu_reply reply;

        assert_int_equal(mmu_access(0, va + off, MMU_READ, true, &reply), MMU_OK);
        assert_int_equal(reply.pa, pa + off);
    }
    return mmu_stats().walks - before;
}

/* 4 MiB in one block, through large leaves and through small ones: the TLB holds two entries of the former and
 * would need 1,024 of the latter. */
/* proves: VM-15 */
static void large_pages_save_misses(void **state)
{
    struct quire_page *block = quire_page_alloc(10, QUIRE_GFP_USER, QUIRE_NODE_ANY);
    q_pa small = new_root(), large = new_root();
    uint64_t pa, va = 0x7f0000400000, few, many;

    (void)state;
    assert_non_null(block);
    pa = quire_pa_of_page(block).v;
    assert_int_equal(pa % (4 * MIB), 0);
    for (uint64_t off = 0; off < 4 * MIB; off += 4096)
        put(small, va + off, pa + off, QUIRE_READ, 0);
    for (uint64_t off = 0; off < 4 * MIB; off += 2 * MIB)
        put(large, va + off, pa + off, QUIRE_READ, 1);
    many = walks_for_reads(small, va, pa);
    few = walks_for_reads(large, va, pa);
    printf("# walks of 20000 reads: %lu with 4 KiB leaves, %lu with 2 MiB\n", (unsigned long)many,
           (unsigned long)few);
    assert_true(few >= 2);
    assert_true(many > 18000); /* a sixteenth of the pages fits */
    assert_true(few * 10 < many);
}

static int finish(void **state)
{
    mmu_fini();
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tables_of_the_library, setup, finish),
        cmocka_unit_test_setup_teardown(damaged_tables, setup, finish),
        cmocka_unit_test_setup_teardown(large_pages_save_misses, setup, finish),
    };

    test_seed("sim_mmu_pt_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
