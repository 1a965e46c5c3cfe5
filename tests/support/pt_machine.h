/*
 * pt_machine.h - a hosted machine with page tables, and the few moves that the tests of src/pt
 * share. What the hardware would see is told by pt_walker.h.
 */
#ifndef PT_MACHINE_H
#define PT_MACHINE_H

#include <quire_test.h>

#include <pt/gather.h>
#include <pt_walker.h>

#define MIB        (1ull << 20)
#define GIB        (1ull << 30)
#define SPAN       (64 * MIB)
#define USER_TOP   0x0000800000000000ull
#define KERNEL_LOW 0xffff800000000000ull
#define WINDOW     0xffffc90000000000ull /* some kernel window */
#define CACHED     QUIRE_CACHED

static const struct walk_access user_read = {.user = true},
                                user_write = {.user = true, .write = true},
                                user_fetch = {.user = true, .fetch = true}, kernel_read = {0},
                                kernel_write = {.write = true}, kernel_fetch = {.fetch = true};

static struct quire_mem_range ranges[8], reserved[8];
static q_pa kernel_root __attribute__((unused));

static inline void machine(void)
{
    static struct quire_memmap map;
    struct quire_boot boot = {.map = &map, .nodes = 1, .cpus = 8};
    struct quire_page *root;

    hosted_init(SPAN);
    hosted_ipi = NULL;
    quire_memmap_init(&map, ranges, 8, reserved, 8);
    assert_int_equal(quire_memmap_add(&map, Q_PA(MIB), SPAN - MIB, QUIRE_MEM_USABLE), QUIRE_OK);
    assert_int_equal(quire_frame_init(&boot), QUIRE_OK);
    root = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    assert_non_null(root);
    kernel_root = quire_pa_of_page(root);
    assert_int_equal(quire_pt_init(kernel_root), QUIRE_OK);
}

static inline int setup(void **state)
{
    (void)state;
    machine();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    hosted_fini();
    return 0;
}

static inline q_pa new_root(void)
{
    q_pa root;

    assert_int_equal(qi_pt_root_alloc(&root), QUIRE_OK);
    return root;
}

/* Put a leaf of level at va. */
static inline void put(q_pa root, uint64_t va, uint64_t pa, unsigned prot, unsigned level)
{
    qi_pte template = qi_pte_template(prot | QUIRE_USER, CACHED), empty = QI_PTE(0), *slot;
    q_pfn pfn = quire_pfn_of_pa(Q_PA(pa));
    unsigned l;

    assert_int_equal(qi_pt_slot_alloc(root, va, level, &slot, &l), QUIRE_OK);
    assert_int_equal(l, level);
    assert_true(qi_pte_cas(
        slot, &empty, level ? qi_pte_leaf_huge(template, pfn, 0) : qi_pte_leaf(template, pfn, 0)));
}

static inline void clear(q_pa root, uint64_t start, uint64_t end)
{
    struct qi_span s;

    for (uint64_t at = start; qi_pt_next_span(root, &at, end, &s);)
        for (unsigned i = 0; i < s.n; i++)
            qi_pte_xchg(&s.ptes[i], QI_PTE(0));
}

/* Clear [start, end) and free its tables; nothing else is mapped in the space. */
static inline void wipe(q_pa root, uint64_t start, uint64_t end)
{
    struct qi_gather g;
    struct qi_tlb tlb;

    qi_tlb_init(&tlb, root);
    qi_gather_init(&g, &tlb);
    clear(root, start, end);
    qi_gather_range(&g, start, end - start);
    qi_pt_free_range(&g, root, start, end, 0, USER_TOP);
    qi_gather_finish(&g);
}

static inline enum walk_fault access_of(q_pa root, uint64_t va, struct walk_access a)
{
    struct walk w;

    return pt_walk(root.v, va, a, &w);
}

#endif
