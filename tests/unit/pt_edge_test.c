/*
 * pt_edge_test.c - src/pt where it says no: ranges that no table can hold, places that are taken,
 * damage; and tables that were there before us.
 */
#include <pt_machine.h>

#define OK(c) assert_int_equal(c, QUIRE_OK)

static bool from_frames(void *ctx, q_pa *out)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);

    ++*(unsigned *)ctx;
    if (page)
        *out = quire_pa_of_page(page);
    return page;
}

static unsigned taken; /* tables from the source */

static enum quire_status boot(q_pa root, uint64_t va, uint64_t pa, uint64_t len, unsigned shift)
{
    return quire_pt_boot_map(root, va, Q_PA(pa), len, QUIRE_READ, CACHED, shift, from_frames,
                             &taken);
}

/* ---- Ranges ---- */

static void ranges_that_no_table_holds_are_refused(void **state)
{
    q_pa root = new_root();
    static const struct {
        uint64_t va, pa, len;
        unsigned shift;
    } bad[] = {
        {0x1000, 0, 0, 12},      /* nothing */
        {0x1001, 0, 0x1000, 12}, /* not whole pages */
        {0x1000, 0x800, 0x1000, 12},
        {0x1000, 0, 0x1800, 12},
        {~0ull << 12, 0, 0x2000, 12},        /* wraps */
        {0x800000000000, 0, 0x1000, 12},     /* not canonical */
        {0x7ffffffff000, 0, 0x2000, 12},     /* into what is not */
        {0x1000, 0, 0xffff800000000000, 12}, /* across the hole */
        {0x1000, ~0ull << 12, 0x2000, 12},   /* frames that wrap */
        {0x1000, 1ull << 52, 0x1000, 12},    /* frames that no entry can name */
        {0x1000, (1ull << 52) - 0x1000, 0x2000, 12},
        {0x1000, 0, 0x1000, 13}, /* no size of a leaf */
        {0x1000, 0, 0x1000, 39},
    };

    (void)state;
    taken = 0;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(boot(root, bad[i].va, bad[i].pa, bad[i].len, bad[i].shift), QUIRE_INVALID);
    assert_int_equal(
        quire_pt_boot_map(root, 0x1000, Q_PA(0), 0x1000, 0, CACHED, 12, from_frames, &taken),
        QUIRE_INVALID);
    assert_int_equal(quire_pt_boot_map(root, 0x1000, Q_PA(0), 0x1000, QUIRE_WRITE | QUIRE_EXEC,
                                       CACHED, 12, from_frames, &taken),
                     QUIRE_INVALID);
    assert_int_equal(taken, 0);
    OK(boot(root, 0x7ffffffff000, (1ull << 52) - 0x1000, 0x1000, 30)); /* the last of both */
    assert_int_equal(access_of(root, 0x7ffffffff000, kernel_read), WALK_OK);
}

static void kernel_ranges_are_checked(void **state)
{
    struct quire_page *page = quire_page_alloc(0, 0, QUIRE_NODE_ANY), *pages[2] = {page, page};
    const q_pfn one = Q_PFN(256);
    const unsigned rw = QUIRE_READ | QUIRE_WRITE;

    (void)state;
    assert_int_equal(qi_kpt_map(Q_KVA(WINDOW), one, ~0ull, rw, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(WINDOW), Q_PFN(1ull << 40), 1, rw, CACHED, 12),
                     QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(WINDOW), Q_PFN((1ull << 40) - 1), 2, rw, CACHED, 12),
                     QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(0x1000), one, 1, rw, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(WINDOW + 1), one, 1, rw, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(~0ull << 12), one, 2, rw, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(WINDOW), one, 0, rw, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(WINDOW), one, 1, rw | QUIRE_USER, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map_pages(Q_KVA(WINDOW), pages, ~0ull, rw), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map_pages(Q_KVA(0x1000), pages, 1, rw), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map_pages(Q_KVA(WINDOW), pages, 0, rw), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map_pages(Q_KVA(WINDOW), pages, 1, rw | QUIRE_USER), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map_pages(Q_KVA(WINDOW), pages, 1, 0), QUIRE_INVALID);
    assert_int_equal(access_of(kernel_root, WINDOW, kernel_read), WALK_ABSENT);
    quire_page_free(page, 0);
}

/* proves: LX-26 */
static void what_is_taken_is_refused(void **state)
{
    struct quire_page *pages[2];
    q_pa root = new_root();

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(2, pages, 0, QUIRE_NODE_ANY), 2);
    taken = 0;
    OK(boot(root, 1 * GIB, 0, 2 * MIB, 30));
    assert_int_equal(boot(root, 1 * GIB, 0, 2 * MIB, 30), QUIRE_EXISTS);
    assert_int_equal(boot(root, 1 * GIB + 4096, 0, 4096, 30), QUIRE_EXISTS); /* under it */
    OK(boot(root, 2 * GIB, 0, 1 * GIB, 30));
    assert_int_equal(boot(root, 2 * GIB, 0, 1 * GIB, 30), QUIRE_EXISTS);
    assert_int_equal(boot(root, 2 * GIB + 4 * MIB, 0, 2 * MIB, 30), QUIRE_EXISTS);
    OK(boot(root, 3 * GIB, 0, 4096, 12));
    OK(boot(root, 3 * GIB + 2 * MIB, 0, 2 * MIB, 21));
    /* the first of two is free: it is taken back */
    assert_int_equal(boot(root, 3 * GIB + 4096, 0, 2 * MIB, 12), QUIRE_EXISTS);
    assert_int_equal(access_of(root, 3 * GIB + 4096, kernel_read), WALK_ABSENT);

    OK(qi_kpt_map(Q_KVA(WINDOW), Q_PFN(512), 512, QUIRE_READ, CACHED, 21));
    assert_int_equal(qi_kpt_map_pages(Q_KVA(WINDOW + 4096), pages, 1, QUIRE_READ), QUIRE_EXISTS);
    assert_int_equal(qi_kpt_map_pages(Q_KVA(WINDOW - 4096), pages, 2, QUIRE_READ), QUIRE_EXISTS);
    assert_int_equal(access_of(kernel_root, WINDOW - 4096, kernel_read), WALK_ABSENT);
    assert_true(HOSTED_EXPECT_PANIC(qi_kpt_unmap(Q_KVA(WINDOW + 4096), 4096)));
    assert_non_null(strstr(hosted_panic_text(), "cuts a leaf"));
    qi_kpt_unmap(Q_KVA(WINDOW), 2 * MIB);
    quire_page_free_bulk(2, pages);
}

/* ---- Moving and splitting ---- */

static void moves_under_and_over_bigger_leaves_are_refused(void **state)
{
    q_pa root = new_root();

    (void)state;
    put(root, 1 * GIB, 0, QUIRE_READ, 2); /* a leaf of 1 GiB */
    put(root, 2 * GIB, 0x200000, QUIRE_READ, 1);
    put(root, 2 * GIB + 4 * MIB, 0x200000, QUIRE_READ, 0);
    assert_int_equal(qi_pt_move(root, 1 * GIB + 2 * MIB, 3 * GIB, 1), QUIRE_EXISTS);
    assert_int_equal(qi_pt_move(root, 2 * GIB, 1 * GIB + 2 * MIB, 1), QUIRE_EXISTS);
    assert_int_equal(qi_pt_move(root, 2 * GIB, 2 * GIB + 4 * MIB, 1), QUIRE_EXISTS);
    assert_int_equal(qi_pt_move(root, 2 * GIB + 2 * MIB, 3 * GIB, 1), QUIRE_NOT_FOUND);
    assert_int_equal(qi_pt_move(root, 100 * GIB, 3 * GIB, 1), QUIRE_NOT_FOUND);
    quire_frame_fail_after(1);
    assert_int_equal(qi_pt_move(root, 2 * GIB, 600 * GIB, 1), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_int_equal(access_of(root, 2 * GIB, user_read), WALK_OK);
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
}

static void splits_of_what_is_no_huge_leaf_are_named(void **state)
{
    struct quire_page *table = qi_pt_table_alloc();
    q_pa root = new_root();
    unsigned level;
    qi_pte *slot, e, small = qi_pte_make(Q_PFN(512), QUIRE_READ, CACHED, 0);

    (void)state;
    put(root, 0, 0x200000, QUIRE_READ, 1);
    slot = qi_pt_slot(root, 0, 1, &level);
    e = qi_pte_load(slot);
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_split(root, slot, e, 0, table)));
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_split(root, slot, e, 3, table)));
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_split(root, slot, small, 1, table)));
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_split(root, slot, QI_PTE(QI_X86_PS), 1, table)));
    assert_non_null(strstr(hosted_panic_text(), "split of"));
    assert_int_equal(qi_pte_load(slot).v, e.v);
    qi_pt_table_free(table);
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
}

/* Whoever frees tables must have cleared what they map. */
static void tables_that_still_map_are_not_freed(void **state)
{
    q_pa root = new_root();
    struct qi_gather g;
    struct qi_tlb tlb;

    (void)state;
    qi_tlb_init(&tlb, root);
    qi_gather_init(&g, &tlb);
    put(root, 0, 0x200000, QUIRE_READ, 1);
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_free_tables(&g, root, 0, 2 * MIB, 0, USER_TOP)));
    assert_non_null(strstr(hosted_panic_text(), "left at 0"));
    put(root, 2 * GIB, 0, QUIRE_READ, 2);
    assert_true(
        HOSTED_EXPECT_PANIC(qi_pt_free_tables(&g, root, 2 * GIB, 2 * GIB + 4 * MIB, 0, USER_TOP)));
    assert_non_null(strstr(hosted_panic_text(), "level 2"));
    qi_gather_finish(&g);
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
}

/* ---- The gather ---- */

/* proves: TRAP-11 */
static void blocks_leave_the_gather_whole(void **state)
{
    struct quire_page *mapped = quire_page_alloc(3, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    struct quire_page *held = quire_page_alloc(3, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    uint64_t free_pages = quire_free_pages();
    q_pa root = new_root();
    struct qi_gather g;
    struct qi_tlb tlb;

    (void)state;
    qi_tlb_init(&tlb, root);
    qi_gather_init(&g, &tlb);
    free_pages = quire_free_pages();
    mapped->maps = 1;
    quire_page_get(held);
    qi_gather_range(&g, 8 * MIB, 4096);
    qi_gather_range(&g, 1 * MIB, 4096); /* below: the end stays */
    assert_int_equal(g.start, 1 * MIB);
    assert_int_equal(g.end, 8 * MIB + 4096);
    qi_gather_mapping(&g, mapped);
    qi_gather_page(&g, held);
    assert_int_equal(quire_free_pages(), free_pages);
    qi_gather_finish(&g);
    assert_int_equal(quire_free_pages(), free_pages + 8);
    assert_int_equal(held->refs, 1);
    quire_page_free(held, 3);
    qi_pt_root_free(root);
}

/* ---- Shootdown ---- */

static struct qi_tlb *inner;

static void flush_in_the_interrupt(unsigned cpu)
{
    unsigned self = hosted_cpu;

    (void)cpu;
    hosted_cpu_set(self); /* the sender's own code, while it waits */
    qi_tlb_flush(inner, 0, 4096, false);
}

static void a_shootdown_inside_a_shootdown_is_named(void **state)
{
    q_pa root = new_root();
    struct qi_tlb t;

    (void)state;
    qi_tlb_init(&t, root);
    inner = &t;
    hosted_cpu_set(1);
    qi_tlb_activate(&t);
    hosted_cpu_set(0);
    hosted_ipi = flush_in_the_interrupt;
    assert_true(HOSTED_EXPECT_PANIC(qi_tlb_flush(&t, 0, 4096, false)));
    assert_non_null(strstr(hosted_panic_text(), "inside a shootdown"));
    hosted_ipi = NULL;
    OK(quire_pt_init(kernel_root)); /* the panic left it half done */
}

static void a_lazy_cpu_without_a_space_stays_so(void **state)
{
    (void)state;
    hosted_cpu_set(5);
    qi_tlb_lazy();
    assert_null(qi_tlb_current());
    quire_shootdown_interrupt(); /* nothing is asked */
    hosted_cpu_set(0);
}

/* ---- Tables that were there ---- */

/* Boot may have mapped anything: all of it is counted, in both halves, up to their last slots. */
static void tables_of_the_boot_loader_are_counted(void **state)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    q_pa root = quire_pa_of_page(page);

    (void)state;
    taken = 0;
    OK(boot(root, 0x1000, 0x1000, 0x1000, 12));
    OK(boot(root, 0x7ffffffff000, 0x1000, 0x1000, 12));
    OK(boot(root, 0xffffffffffc00000, 0, 2 * MIB, 21));
    OK(boot(root, 0xfffffffffffff000 - 8 * GIB, 0, 0x1000, 12));
    OK(boot(root, 0xffff800000000000, 0, 1 * GIB, 30));
    OK(quire_pt_init(root));
    /* the root, those of boot, and one for each kernel entry that had none */
    assert_int_equal(quire_pt_pages(), 1 + taken + 256 - 2);
    assert_int_equal(quire_pt_init(Q_PA(1ull << 52)), QUIRE_INVALID);
    assert_int_equal(quire_pt_init(Q_PA(root.v + 8)), QUIRE_INVALID);
}

static char dumped[4][160];
static unsigned dumped_n;

static void collect(void *ctx, const char *line)
{
    (void)ctx;
    assert_true(dumped_n < 4);
    snprintf(dumped[dumped_n++], sizeof dumped[0], "%s", line);
}

static void dumps_of_parts(void **state)
{
    unsigned level;
    qi_pte *slot;

    (void)state;
    OK(qi_kpt_map(Q_KVA(-8192ull), Q_PFN(9), 1, QUIRE_READ, QUIRE_UNCACHED, 12));
    OK(qi_pt_slot_alloc(kernel_root, 0x1000, 0, &slot, &level));
    qi_pte_set(slot, qi_pte_make(Q_PFN(3), QUIRE_READ | QUIRE_USER, CACHED, QI_PTE_SPECIAL));
    qi_pte_set(slot + 1, qi_pte_make(Q_PFN(4), QUIRE_READ | QUIRE_USER, CACHED, 0));
    qi_pte_set(slot + 2, qi_pte_make(Q_PFN(4), QUIRE_READ | QUIRE_USER, QUIRE_UNCACHED, 0));
    qi_pte_set(slot + 3, qi_pte_soft(1, 7)); /* maps nothing */
    dumped_n = 0;
    quire_pt_dump(kernel_root, 0x2000, 0x1000, collect, NULL); /* ends before it begins */
    assert_int_equal(dumped_n, 0);
    quire_pt_dump(kernel_root, KERNEL_LOW, 0, collect, NULL);
    assert_int_equal(dumped_n, 1);
    assert_string_equal(dumped[0], "ffffffffffffe000-ffffffffffffefff          4K r--kg 4K uc");
    dumped_n = 0;
    quire_pt_dump(kernel_root, 0, 0x10000, collect, NULL);
    assert_int_equal(dumped_n, 3); /* alike but for one thing each */
    assert_string_equal(dumped[0],
                        "0000000000001000-0000000000001fff          4K r--u- 4K wb special");
    qi_kpt_unmap(Q_KVA(-8192ull), 4096);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(ranges_that_no_table_holds_are_refused),
        T(kernel_ranges_are_checked),
        T(what_is_taken_is_refused),
        T(moves_under_and_over_bigger_leaves_are_refused),
        T(splits_of_what_is_no_huge_leaf_are_named),
        T(tables_that_still_map_are_not_freed),
        T(blocks_leave_the_gather_whole),
        T(a_shootdown_inside_a_shootdown_is_named),
        T(a_lazy_cpu_without_a_space_stays_so),
        T(tables_of_the_boot_loader_are_counted),
        T(dumps_of_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
