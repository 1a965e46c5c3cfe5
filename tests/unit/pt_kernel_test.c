/*
 * pt_kernel_test.c - src/pt: the kernel's own table: boot mappings, windows, flushes of every CPU;
 * and what happens without memory or by misuse.
 */
#include <pt_machine.h>

static uint64_t interrupted; /* CPUs that the hook was called for */

static void interrupt(unsigned cpu)
{
    unsigned self = hosted_cpu;

    interrupted |= 1ull << cpu;
    hosted_cpu_set(cpu);
    quire_shootdown_interrupt();
    hosted_cpu_set(self);
}

/* ---- The kernel's table ---- */

struct boot_tables {
    uint64_t next, end;
};

static bool boot_source(void *ctx, q_pa *out)
{
    struct boot_tables *b = ctx;

    if (b->next == b->end)
        return false;
    *out = Q_PA(b->next);
    memset(quire_ptr_of_pa(*out), 0, 4096);
    b->next += 4096;
    return true;
}

/* Leaves are as large as alignment allows and no larger.  proves: LX-26 X-04 */
static void boot_map_uses_the_largest_leaves(void **state)
{
    struct boot_tables b = {SPAN - 4 * MIB, SPAN};
    uint64_t va = KERNEL_LOW + 512 * GIB, len = 3 * GIB + 6 * MIB + 3 * 4096,
             pa = GIB - 2 * MIB - 4096;
    q_pa root = Q_PA(SPAN - 5 * MIB);
    uint64_t leaves[40] = {0};
    struct walk w;

    (void)state;
    memset(quire_ptr_of_pa(root), 0, 4096);
    va += pa; /* the same alignment, as in a direct map */
    assert_int_equal(quire_pt_boot_map(root, va, Q_PA(pa), len,
                                       QUIRE_READ | QUIRE_WRITE | QUIRE_GLOBAL, CACHED, 30,
                                       boot_source, &b),
                     QUIRE_OK);
    for (uint64_t off = 0; off < len; off += 1ull << w.page_size) {
        assert_int_equal(pt_walk(root.v, va + off, kernel_write, &w), WALK_OK);
        assert_int_equal(w.pa, pa + off);
        assert_true(w.global);
        assert_int_equal(access_of(root, va + off, user_read), WALK_PROTECTION);
        leaves[w.page_size]++;
    }
    assert_int_equal(leaves[30], 3);
    assert_int_equal(leaves[21], 1 + 3 - 1 + 0);
    assert_int_equal(leaves[12], (len - 3 * GIB - leaves[21] * 2 * MIB) / 4096);
    assert_int_equal(access_of(root, va - 1, kernel_read), WALK_ABSENT);
    assert_int_equal(access_of(root, va + len, kernel_read), WALK_ABSENT);
    /* limited to 4 KiB, misaligned, W with X, not canonical, occupied */
    assert_int_equal(quire_pt_boot_map(root, KERNEL_LOW, Q_PA(0), 2 * MIB, QUIRE_READ, CACHED, 12,
                                       boot_source, &b),
                     QUIRE_OK);
    assert_int_equal(pt_walk(root.v, KERNEL_LOW, kernel_read, &w), WALK_OK);
    assert_int_equal(w.page_size, 12);
    assert_int_equal(quire_pt_boot_map(root, KERNEL_LOW + 1, Q_PA(0), 4096, QUIRE_READ, CACHED, 12,
                                       boot_source, &b),
                     QUIRE_INVALID);
    assert_int_equal(quire_pt_boot_map(root, KERNEL_LOW, Q_PA(0), 4096, QUIRE_WRITE | QUIRE_EXEC,
                                       CACHED, 12, boot_source, &b),
                     QUIRE_INVALID);
    assert_int_equal(quire_pt_boot_map(root, USER_TOP - 4096, Q_PA(0), 8192, QUIRE_READ, CACHED, 12,
                                       boot_source, &b),
                     QUIRE_INVALID);
    assert_int_equal(
        quire_pt_boot_map(root, USER_TOP, Q_PA(0), 4096, QUIRE_READ, CACHED, 12, boot_source, &b),
        QUIRE_INVALID);
    assert_int_equal(
        quire_pt_boot_map(root, -4096ull, Q_PA(0), 8192, QUIRE_READ, CACHED, 12, boot_source, &b),
        QUIRE_INVALID);
    assert_int_equal(
        quire_pt_boot_map(root, va - 4096, Q_PA(0), 8192, QUIRE_READ, CACHED, 12, boot_source, &b),
        QUIRE_EXISTS);
    assert_int_equal(access_of(root, va - 4096, kernel_read), WALK_ABSENT);
    assert_int_equal(
        quire_pt_boot_map(root, va + GIB, Q_PA(0), 4096, QUIRE_READ, CACHED, 12, boot_source, &b),
        QUIRE_EXISTS);
}

/* The source runs dry after n tables, for every n.  proves: TRAP-18 */
static void boot_map_without_tables(void **state)
{
    q_pa root = Q_PA(SPAN - 5 * MIB);

    (void)state;
    for (uint64_t n = 0;; n++) {
        struct boot_tables b = {SPAN - 4 * MIB, SPAN - 4 * MIB + n * 4096};
        enum quire_status s;

        memset(quire_ptr_of_pa(root), 0, 4096);
        s = quire_pt_boot_map(root, 6 * MIB - 8192, Q_PA(4 * MIB), 4 * MIB, QUIRE_READ, CACHED, 12,
                              boot_source, &b);
        if (s == QUIRE_OK) {
            assert_int_equal(n, 5);
            return;
        }
        assert_int_equal(s, QUIRE_NO_MEMORY);
        for (uint64_t va = 0; va < 12 * MIB; va += 4096)
            assert_int_equal(access_of(root, va, kernel_read), WALK_ABSENT);
    }
}

/* What the kernel maps later is seen through every root, older ones too.  proves: LX-01 */
static void kernel_windows_are_shared(void **state)
{
    struct quire_page *pages[600];
    q_pa before = new_root(), after;

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(600, pages, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY), 600);
    for (uint64_t top = 0; top < 256; top += 51) {
        q_kva va = Q_KVA(KERNEL_LOW + top * 512 * GIB + 0x1f0000);

        assert_int_equal(qi_kpt_map_pages(va, pages, 600, QUIRE_READ | QUIRE_WRITE), QUIRE_OK);
        after = new_root();
        for (uint64_t i = 0; i < 600; i++) {
            const q_pa roots[] = {kernel_root, before, after};

            for (unsigned r = 0; r < 3; r++) {
                struct walk w;

                assert_int_equal(pt_walk(roots[r].v, va.v + i * 4096, kernel_write, &w), WALK_OK);
                assert_int_equal(w.pa, quire_pa_of_page(pages[i]).v);
                assert_true(w.global);
                assert_int_equal(access_of(roots[r], va.v + i * 4096, kernel_fetch),
                                 WALK_PROTECTION);
            }
        }
        assert_int_equal(qi_kpt_map_pages(Q_KVA(va.v - 4096), pages, 2, QUIRE_READ), QUIRE_EXISTS);
        assert_int_equal(access_of(before, va.v - 4096, kernel_read), WALK_ABSENT);
        qi_kpt_unmap(va, 600 * 4096);
        qi_kpt_flush(va, 600 * 4096);
        assert_int_equal(access_of(before, va.v, kernel_read), WALK_ABSENT);
        qi_pt_root_free(after);
    }
    quire_page_free_bulk(600, pages);
    qi_pt_root_free(before);
}

static void kernel_device_mappings(void **state)
{
    uint64_t pa = 0xfd0000000ull; /* 2 MiB-aligned, beyond memory */
    q_kva va = Q_KVA(WINDOW);
    struct walk w;

    (void)state;
    assert_int_equal(
        qi_kpt_map(va, Q_PFN(pa >> 12), 1024 + 3, QUIRE_READ | QUIRE_WRITE, QUIRE_UNCACHED, 30),
        QUIRE_OK);
    assert_int_equal(pt_walk(kernel_root.v, va.v + 5, kernel_write, &w), WALK_OK);
    assert_int_equal(w.page_size, 21);
    assert_int_equal(w.pat, 3);
    assert_int_equal(pt_walk(kernel_root.v, va.v + 4 * MIB + 0x2fff, kernel_write, &w), WALK_OK);
    assert_int_equal(w.page_size, 12);
    assert_int_equal(w.pa, pa + 4 * MIB + 0x2fff);
    assert_true(HOSTED_EXPECT_PANIC(qi_kpt_unmap(va, 4096)));
    assert_non_null(strstr(hosted_panic_text(), "cuts a leaf"));
    assert_int_equal(qi_kpt_map(Q_KVA(va.v + 4096), Q_PFN(5), 1, QUIRE_READ, CACHED, 12),
                     QUIRE_EXISTS);
    qi_kpt_unmap(va, 4 * MIB + 3 * 4096);
    qi_kpt_flush(va, 4 * MIB + 3 * 4096);
    for (uint64_t off = 0; off < 6 * MIB; off += 4096)
        assert_int_equal(access_of(kernel_root, va.v + off, kernel_read), WALK_ABSENT);
    /* the table of the three pages is kept: now smaller leaves go where a huge one would fit */
    assert_int_equal(
        qi_kpt_map(Q_KVA(va.v + 4 * MIB), Q_PFN(pa >> 12), 512, QUIRE_READ, CACHED, 30), QUIRE_OK);
    assert_int_equal(pt_walk(kernel_root.v, va.v + 4 * MIB, kernel_read, &w), WALK_OK);
    assert_int_equal(w.page_size, 12);
    qi_kpt_unmap(Q_KVA(va.v + 4 * MIB), 2 * MIB);
}

/* proves: VE-16 TRAP-10 */
static void kernel_mappings_are_never_writable_and_executable(void **state)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    q_kva va = Q_KVA(WINDOW);

    (void)state;
    for (unsigned prot = 0; prot < 16; prot++) {
        bool ok = prot && prot < 8 && (prot & 6) != 6;

        assert_int_equal(qi_kpt_map(va, Q_PFN(77), 1, prot, CACHED, 12),
                         ok ? QUIRE_OK : QUIRE_INVALID);
        if (ok) {
            assert_false(access_of(kernel_root, va.v, kernel_write) == WALK_OK &&
                         access_of(kernel_root, va.v, kernel_fetch) == WALK_OK);
            qi_kpt_unmap(va, 4096);
        }
        assert_int_equal(qi_kpt_map_pages(va, &page, 1, prot), ok ? QUIRE_OK : QUIRE_INVALID);
        if (ok)
            qi_kpt_unmap(va, 4096);
    }
    assert_int_equal(qi_kpt_map(Q_KVA(0x1000), Q_PFN(77), 1, QUIRE_READ, CACHED, 12),
                     QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(va.v + 1), Q_PFN(77), 1, QUIRE_READ, CACHED, 12),
                     QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(va, Q_PFN(77), 0, QUIRE_READ, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(va, Q_PFN(77), 1ull << 52, QUIRE_READ, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(va, Q_PFN(1ull << 40), 1, QUIRE_READ, CACHED, 12), QUIRE_INVALID);
    assert_int_equal(qi_kpt_map(Q_KVA(-4096ull), Q_PFN(77), 2, QUIRE_READ, CACHED, 12),
                     QUIRE_INVALID);
    quire_page_free(page, 0);
}

static void kernel_flush_reaches_every_cpu_online(void **state)
{
    (void)state;
    hosted_ipi = interrupt;
    interrupted = 0;
    qi_kpt_flush(Q_KVA(WINDOW), 4096);
    assert_int_equal(interrupted, 0);
    for (unsigned cpu = 1; cpu < 8; cpu += 2) {
        hosted_cpu_set(cpu);
        quire_pt_cpu_online();
    }
    hosted_cpu_set(5);
    qi_kpt_flush(Q_KVA(WINDOW), 4096);
    hosted_cpu_set(0);
    assert_int_equal(interrupted, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 7);
}

/* One page of a large leaf leads to other memory, its neighbours where they did; every CPU hears of it. */
static void one_page_leads_elsewhere(void **state)
{
    const unsigned rw = QUIRE_READ | QUIRE_WRITE;
    const uint64_t va = WINDOW + 5 * 4096, other = 9 * MIB;
    struct walk w;

    (void)state;
    assert_int_equal(quire_pt_kernel_map(WINDOW, Q_PA(2 * MIB), 2 * MIB, rw, 21), QUIRE_OK);
    quire_frame_fail_after(1); /* the table that the leaf becomes */
    assert_int_equal(quire_pt_kernel_remap(va, Q_PA(other), QUIRE_READ), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_int_equal(pt_walk(kernel_root.v, va, kernel_write, &w), WALK_OK);
    assert_int_equal(w.page_size, 21);
    hosted_ipi = interrupt;
    interrupted = 0;
    hosted_cpu_set(3);
    quire_pt_cpu_online();
    hosted_cpu_set(0);
    assert_int_equal(quire_pt_kernel_remap(va, Q_PA(other), QUIRE_READ), QUIRE_OK);
    assert_int_equal(interrupted, 1 << 3);
    for (uint64_t at = WINDOW; at < WINDOW + 2 * MIB; at += 4096) {
        assert_int_equal(pt_walk(kernel_root.v, at, kernel_read, &w), WALK_OK);
        assert_int_equal(w.pa, at == va ? other : 2 * MIB + (at - WINDOW));
        assert_int_equal(access_of(kernel_root, at, kernel_write),
                         at == va ? WALK_PROTECTION : WALK_OK);
    }
    assert_int_equal(quire_pt_kernel_remap(va, Q_PA(2 * MIB + 5 * 4096), rw), QUIRE_OK);
    assert_int_equal(access_of(kernel_root, va, kernel_write), WALK_OK);
    assert_int_equal(quire_pt_kernel_remap(WINDOW + 2 * MIB, Q_PA(other), rw), QUIRE_NOT_FOUND);
    assert_int_equal(quire_pt_kernel_remap(va + 1, Q_PA(other), rw), QUIRE_INVALID);
    assert_int_equal(quire_pt_kernel_remap(va, Q_PA(other + 1), rw), QUIRE_INVALID);
    assert_int_equal(quire_pt_kernel_remap(4096, Q_PA(other), rw), QUIRE_INVALID);
    assert_int_equal(quire_pt_kernel_remap(va, Q_PA(other), QUIRE_WRITE | QUIRE_EXEC),
                     QUIRE_INVALID);
    quire_pt_kernel_unmap(WINDOW, 2 * MIB);
}

/* ---- Failure ---- */

/* Take all memory but n frames; returns how many were taken. */
static size_t leave_frames(struct quire_page **hoard, size_t cap, size_t n)
{
    size_t got = 0;

    while (got < cap && (hoard[got] = quire_page_alloc(0, QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC,
                                                       QUIRE_NODE_ANY)))
        got++;
    for (; n; n--)
        quire_page_free(hoard[--got], 0);
    return got;
}

/* Every table allocation fails once: the call says so, nothing is mapped, nothing is lost.
 * proves: TRAP-18 */
static void each_table_allocation_fails_once(void **state)
{
    static struct quire_page *hoard[SPAN / 4096];
    uint64_t frames = quire_free_pages();
    struct quire_page *pages[3];
    q_pa root, other;
    qi_pte *slot;
    unsigned level;

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(3, pages, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY), 3);
    root = new_root();
    put(root, 3 * GIB, 0x300000, QUIRE_READ, 0);
    for (size_t n = 0; n < 4; n++) {
        size_t got = leave_frames(hoard, QI_COUNT(hoard), n);
        enum quire_status want = n < 3 ? QUIRE_NO_MEMORY : QUIRE_OK;

        assert_int_equal(qi_pt_lookup_alloc(root, 700 * GIB, &slot, &level), want);
        assert_int_equal(access_of(root, 3 * GIB, user_read), WALK_OK);
        assert_int_equal(access_of(root, 700 * GIB, user_read), WALK_ABSENT);
        wipe(root, 700 * GIB, 700 * GIB + 4096);
        assert_int_equal(qi_pt_tables(root), 4);
        if (n == 0) {
            assert_int_equal(qi_pt_root_alloc(&other), QUIRE_NO_MEMORY);
            assert_null(qi_pt_table_alloc());
            assert_int_equal(qi_pt_move(root, 3 * GIB, 700 * GIB, 1), QUIRE_NO_MEMORY);
            assert_int_equal(access_of(root, 3 * GIB, user_read), WALK_OK);
        }
        quire_page_free_bulk(got, hoard);
    }
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
    for (size_t n = 0; n < 4;
         n++) { /* across a 1 GiB boundary: two level-1 and two level-0 tables */
        q_kva va = Q_KVA(WINDOW + (100 + 2 * n) * GIB - 4096);
        size_t got = leave_frames(hoard, QI_COUNT(hoard), n);

        assert_int_equal(qi_kpt_map_pages(va, pages, 3, QUIRE_READ), QUIRE_NO_MEMORY);
        for (int i = 0; i < 3; i++)
            assert_int_equal(access_of(kernel_root, va.v + (uint64_t)i * 4096, kernel_read),
                             WALK_ABSENT);
        quire_page_free_bulk(got, hoard);
        assert_int_equal(qi_kpt_map_pages(va, pages, 3, QUIRE_READ), QUIRE_OK);
        qi_kpt_unmap(va, 3 * 4096);
    }
    quire_page_free_bulk(3, pages);
    assert_int_equal(quire_free_pages() + 4 * 4,
                     frames); /* window tables stay, all others came back */
}

/* quire_pt_init without memory for the window tables leaves the table as it was.
 * proves: TRAP-18 X-04 */
static void init_fails_without_trace(void **state)
{
    static struct quire_page *hoard[SPAN / 4096];
    struct quire_page *root = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    uint64_t frames = quire_free_pages();

    (void)state;
    for (size_t n = 0; n < 256; n += 51) {
        size_t got = leave_frames(hoard, QI_COUNT(hoard), n);

        assert_int_equal(quire_pt_init(quire_pa_of_page(root)), QUIRE_NO_MEMORY);
        for (int i = 0; i < 512; i++)
            assert_int_equal(((uint64_t *)quire_page_ptr(root))[i], 0);
        quire_page_free_bulk(got, hoard);
        assert_int_equal(quire_free_pages(), frames);
    }
    assert_int_equal(quire_pt_init(quire_pa_of_page(root)), QUIRE_OK);
    assert_int_equal(quire_pt_pages(), 257);
    assert_int_equal(quire_pt_init(Q_PA(123)), QUIRE_INVALID);
}

static void misuse_is_caught(void **state)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    q_pa root = new_root();

    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_table_free(page)));
    put(root, 0, 0x200000, QUIRE_READ, 0);
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_root_free(root)));
    assert_true(HOSTED_EXPECT_PANIC(qi_pt_move(root, 4096, 8192, 1)));
    assert_true(HOSTED_EXPECT_PANIC(qi_kpt_unmap(Q_KVA(0x1000), 4096)));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(boot_map_uses_the_largest_leaves),
        T(boot_map_without_tables),
        T(kernel_windows_are_shared),
        T(kernel_device_mappings),
        T(kernel_mappings_are_never_writable_and_executable),
        T(kernel_flush_reaches_every_cpu_online),
        T(one_page_leads_elsewhere),
        T(each_table_allocation_fails_once),
        T(init_fails_without_trace),
        T(misuse_is_caught),
    };

    test_seed("pt_kernel_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
