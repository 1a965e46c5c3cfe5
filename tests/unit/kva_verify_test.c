/*
 * kva_verify_test.c - src/kva where it says no: damage that verify finds, foreign pointers, layouts
 * and sizes at their edges, and more free areas than are kept.
 */
#include <heap_machine.h>

#include <kva/kva.h>

#define PAGE   4096ull
#define AREAS  0xffffc90000000000ull
#define STACKS 0xffffe00000000000ull
#define DEVICE 0xfffff00000000000ull
#define OK(c)  assert_int_equal(c, QUIRE_OK)

static struct quire_kva_layout layout(void)
{
    return (struct quire_kva_layout){
        .areas_start = Q_KVA(AREAS),
        .areas_end = Q_KVA(AREAS + (1ull << 40)),
        .stacks_start = Q_KVA(STACKS),
        .stacks_end = Q_KVA(STACKS + (1ull << 30)),
        .device_start = Q_KVA(DEVICE),
        .device_end = Q_KVA(DEVICE + (1ull << 36)),
    };
}

static int setup(void **state)
{
    struct quire_kva_layout l = layout();
    struct quire_page *table;

    (void)state;
    heap_machine(64 * HEAP_MIB, 1);
    table = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    assert_non_null(table);
    OK(quire_pt_init(quire_pa_of_page(table)));
    OK(quire_kva_init(&l));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    OK(quire_kva_verify());
    heap_sound();
    hosted_fini();
    return 0;
}

static void found(const char *word)
{
    assert_int_equal(quire_kva_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), word));
}

/* Change lvalue for as long as verify looks. */
#define PLANT(lvalue, value, word)            \
    do {                                      \
        __typeof__(lvalue) before = lvalue;   \
        lvalue = (__typeof__(lvalue))(value); \
        found(word);                          \
        lvalue = before;                      \
        OK(quire_kva_verify());               \
    } while (0)

/* ---- Damage ---- */

static void areas_that_are_not_what_they_say(void **state)
{
    uint8_t *p = quire_vmalloc(3 * PAGE, QUIRE_GFP_KERNEL);
    struct qi_area *a = qi_area_owning((uintptr_t)p);
    struct quire_page *second = quire_page_of_pfn(Q_PFN(a->pages)), *mapped;
    struct quire_translation t;

    (void)state;
    PLANT(a->kind, QI_KVA_STACK, "K1");
    PLANT(a->part, 1, "K1");
    PLANT(QI_AREAS->parts[0].start, AREAS + PAGE, "K1");
    PLANT(QI_AREAS->parts[0].end, AREAS + PAGE, "K1");
    PLANT(a->start, AREAS + (1ull << 39), "K2"); /* where there is not even a table */
    PLANT(a->bytes, 5 * PAGE, "K2");
    PLANT(a->state, QI_KVA_LAZY, "K3");
    PLANT(second->owner, 0, "K4");
    a->state = QI_KVA_BUSY; /* being made: nobody may say what is mapped */
    OK(quire_kva_verify());
    a->state = QI_KVA_LIVE;

    quire_pt_translate(qi_kpt_root(), (uintptr_t)p + PAGE, &t);
    mapped = quire_page_of_pfn(quire_pfn_of_pa(t.pa));
    qi_kpt_unmap(Q_KVA((uintptr_t)p + PAGE), PAGE);
    found("K2");
    OK(qi_kpt_map_pages(Q_KVA((uintptr_t)p + PAGE), &mapped, 1, QUIRE_READ | QUIRE_WRITE));
    OK(qi_kpt_map_pages(Q_KVA((uintptr_t)p + 3 * PAGE), &mapped, 1, QUIRE_READ));
    found("guard");
    qi_kpt_unmap(Q_KVA((uintptr_t)p + 3 * PAGE), PAGE);
    quire_vfree(p);
    OK(qi_kpt_map_pages(Q_KVA((uintptr_t)p), &mapped, 1, QUIRE_READ)); /* the area is lazy */
    found("K3");
    qi_kpt_unmap(Q_KVA((uintptr_t)p), PAGE);
}

static void stacks_without_their_guard(void **state)
{
    struct quire_page *page = quire_page_alloc(0, 0, QUIRE_NODE_ANY);
    q_kva top;

    (void)state;
    OK(quire_stack_alloc(2 * PAGE, &top));
    OK(qi_kpt_map_pages(Q_KVA(top.v - 3 * PAGE), &page, 1, QUIRE_READ));
    found("guard");
    qi_kpt_unmap(Q_KVA(top.v - 3 * PAGE), PAGE);
    quire_stack_free(top);
    quire_page_free(page, 0);
}

static void trees_that_are_broken(void **state)
{
    enum { N = 60 }; /* eight rows: a tree of three levels at least */
    void *p[N];
    struct qi_gap_node *root, *inner, *leaf, *last;
    struct qi_gaps *g = &QI_AREAS->parts[0].gaps;

    (void)state;
    for (unsigned i = 0; i < N; i++)
        p[i] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL);
    root = g->floor.left;
    inner = root->left;
    leaf = inner->left;
    last = leaf->first;
    while (last->next->head == leaf)
        last = last->next;
    assert_ptr_not_equal(leaf, &g->nil);
    assert_ptr_not_equal(last, leaf->first);
    /* the list */
    PLANT(g->floor.next, root, "damaged"); /* it does not begin with the lowest */
    PLANT(g->floor.next, NULL, "damaged");
    PLANT(g->fence.next, root, "damaged");
    PLANT(leaf->end, leaf->start - 1, "damaged");
    PLANT(last->start, last->prev->end - 1, "damaged");
    PLANT(last->next->prev, root, "damaged");
    PLANT(leaf->next, root, "damaged");
    PLANT(leaf->next, leaf, "damaged");
    PLANT(last->next, NULL, "damaged");
    /* rows */
    PLANT(last->head, inner, "damaged");
    PLANT(last->head, NULL, "damaged");
    PLANT(last->head, last, "damaged");
    PLANT(inner->first, inner->first->next, "damaged");
    PLANT(leaf->n, leaf->n - 1, "damaged");
    PLANT(leaf->n, leaf->n + 1, "damaged");
    PLANT(leaf->n, UINT32_MAX, "damaged");
    PLANT(leaf->row_gap, 12345, "damaged");
    PLANT(leaf->max_gap, 12345, "damaged");
    /* the tree */
    PLANT(g->floor.left, NULL, "damaged");
    PLANT(g->floor.left, inner, "damaged");
    PLANT(root->parent, inner, "damaged");
    PLANT(leaf->height, 7, "damaged");
    PLANT(leaf->parent, root, "damaged");
    PLANT(leaf->parent, NULL, "damaged");
    PLANT(leaf->left, root, "damaged");
    PLANT(leaf->right, leaf, "damaged");
    PLANT(root->right->parent, inner, "damaged");
    PLANT(root->left, NULL, "damaged");
    PLANT(root->right, NULL, "damaged");
    PLANT(root->left, root->right, "damaged");
    PLANT(root->right, root->left, "damaged");
    PLANT(root->right, &g->nil, "damaged");
    PLANT(g->nil.max_gap, 1, "damaged");
    PLANT(g->nil.height, 1, "damaged");
    PLANT(g->nil.left, root, "damaged");
    PLANT(g->nil.start, 0, "damaged");
    for (unsigned i = 0; i < N; i++)
        quire_vfree(p[i]);
}

/* ---- Misuse ---- */

/* proves: TRAP-3 */
static void foreign_pointers_are_named(void **state)
{
    uint8_t *p = quire_vmalloc(2 * PAGE, QUIRE_GFP_KERNEL);
    q_kva regs;

    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)(AREAS + (1ull << 39)))));
    assert_non_null(strstr(hosted_panic_text(), "no area is there"));
    assert_true(HOSTED_EXPECT_PANIC(quire_vunmap(Q_KVA(AREAS + (1ull << 39)))));
    assert_non_null(strstr(hosted_panic_text(), "no area is there"));
    assert_true(HOSTED_EXPECT_PANIC(quire_vunmap(Q_KVA((uintptr_t)p)))); /* not a vmap */
    assert_non_null(strstr(hosted_panic_text(), "a live area of another kind: vmalloc"));
    OK(quire_ioremap(Q_PA(0xfee00000), 3 * PAGE, QUIRE_UNCACHED, &regs));
    assert_true(HOSTED_EXPECT_PANIC(quire_iounmap(Q_KVA(regs.v + PAGE))));
    assert_non_null(strstr(hosted_panic_text(), "not the start of its area"));
    quire_iounmap(regs);
    assert_true(HOSTED_EXPECT_PANIC(quire_iounmap(regs)));
    assert_true(HOSTED_EXPECT_PANIC(quire_stack_free(Q_KVA(AREAS))));
    assert_non_null(strstr(hosted_panic_text(), "foreign"));
    assert_true(HOSTED_EXPECT_PANIC(quire_stack_free(Q_KVA(STACKS + 8 * PAGE))));
    quire_vfree(p);
    quire_vfree(NULL);
}

static void guards_are_known_at_the_edges(void **state)
{
    q_kva top;

    (void)state;
    OK(quire_stack_alloc(PAGE, &top));
    assert_true(quire_stack_guard_hit(Q_KVA(top.v - 2 * PAGE)));
    assert_true(quire_stack_guard_hit(Q_KVA(top.v - PAGE - 1)));
    assert_false(quire_stack_guard_hit(Q_KVA(top.v - PAGE)));
    assert_false(quire_stack_guard_hit(top));
    assert_false(quire_stack_guard_hit(Q_KVA(STACKS - 1)));
    assert_false(quire_stack_guard_hit(Q_KVA(STACKS + (1ull << 30) - 1))); /* nothing above */
    assert_false(quire_stack_guard_hit(Q_KVA(STACKS + (1ull << 29))));
    assert_false(quire_stack_guard_hit(Q_KVA(0)));
    quire_stack_free(top);
    assert_false(quire_stack_guard_hit(Q_KVA(top.v - 2 * PAGE))); /* kept, not live */
}

/* ---- Sizes and layouts ---- */

static void sizes_that_overflow_are_refused(void **state)
{
    struct quire_page *page = quire_page_alloc(0, 0, QUIRE_NODE_ANY);
    q_kva at;

    (void)state;
    assert_int_equal(quire_vmap(&page, 0, QUIRE_READ, &at), QUIRE_INVALID);
    assert_int_equal(quire_vmap(&page, ~0ull >> 4, QUIRE_READ, &at), QUIRE_INVALID);
    assert_int_equal(quire_vmap(&page, 1ull << 40, QUIRE_READ, &at), QUIRE_NO_MEMORY);
    assert_int_equal(quire_ioremap(Q_PA(0), 0, QUIRE_CACHED, &at), QUIRE_INVALID);
    assert_int_equal(quire_ioremap(Q_PA(4095), ~0ull, QUIRE_CACHED, &at), QUIRE_INVALID);
    assert_int_equal(quire_ioremap(Q_PA(0), ~0ull, QUIRE_CACHED, &at), QUIRE_INVALID);
    assert_int_equal(quire_ioremap(Q_PA(~0ull << 12), 2 * PAGE, QUIRE_CACHED, &at), QUIRE_INVALID);
    assert_int_equal(quire_ioremap(Q_PA(1ull << 52), PAGE, QUIRE_CACHED, &at), QUIRE_INVALID);
    assert_int_equal(quire_stack_alloc(0, &at), QUIRE_INVALID);
    assert_int_equal(quire_stack_alloc(~0ull, &at), QUIRE_INVALID);
    assert_null(quire_vmalloc(0, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(~0ull, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc_aligned(PAGE, 3 * PAGE, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc_aligned(PAGE, 1ull << 63, QUIRE_GFP_KERNEL));
    quire_page_free(page, 0);
}

static void windows_may_lie_in_any_order(void **state)
{
    struct quire_kva_layout l = layout();
    void *p;

    (void)state;
    l.areas_start = Q_KVA(DEVICE + (1ull << 37));
    l.areas_end = Q_KVA(DEVICE + (1ull << 38));
    quire_heap_fail_after(1);
    assert_int_equal(quire_kva_init(&l), QUIRE_NO_MEMORY);
    quire_heap_fail_after(-1);
    OK(quire_kva_init(&l));
    p = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL);
    assert_int_equal((uintptr_t)p, DEVICE + (1ull << 37));
    quire_vfree(p);
    l.stacks_end = Q_KVA(STACKS + 3 * PAGE);
    assert_int_equal(quire_kva_init(&l), QUIRE_INVALID);
}

/* The search at the top of all addresses, where sums wrap. */
static void gaps_at_the_end_of_the_world(void **state)
{
    struct qi_gap_node *next;
    struct qi_gaps g;
    uint64_t at;

    (void)state;
    qi_gaps_init(&g, ~0ull << 20, ~0ull << 12);
    assert_true(qi_gaps_find(&g, PAGE, PAGE, 0, PAGE, &at, &next));
    assert_int_equal(at, ~0ull << 20);
    assert_ptr_equal(next, &g.fence);
    assert_false(qi_gaps_find(&g, ~0ull, 1ull << 63, 0, PAGE, &at, &next));
    /* the next multiple of the alignment is 2^64 */
    assert_false(qi_gaps_find(&g, PAGE, 1ull << 40, PAGE, PAGE, &at, &next));
    assert_true(qi_gaps_find(&g, PAGE, 1ull << 16, PAGE, PAGE, &at, &next));
    assert_int_equal((at + PAGE) % (1ull << 16), 0);
    assert_null(qi_gaps_lookup(&g, ~0ull << 12));
    assert_true(qi_gaps_verify(&g));
}

/* Of freed areas only so many are kept for the next of their size, by the CPU and behind it. */
static void no_more_free_areas_are_kept_than_planned(void **state)
{
    enum { N = 3000 };
    static void *p[N];
    struct qi_part *part = &QI_AREAS->parts[0];

    (void)state;
    for (unsigned i = 0; i < N; i++)
        assert_non_null(p[i] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < N; i++)
        quire_vfree(p[i]);
    qi_areas_flush();
    assert_int_equal(part->nready, QI_READY_MAX);
    OK(quire_kva_verify());
    for (unsigned i = 0; i < QI_READY_CPU; i++) /* those of the CPU first */
        assert_non_null(p[i] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    assert_int_equal(part->nready, QI_READY_MAX);
    assert_non_null(p[QI_READY_CPU] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    assert_in_range(part->nready, QI_READY_MAX - 16, QI_READY_MAX - 1);
    for (unsigned i = 0; i <= QI_READY_CPU; i++)
        quire_vfree(p[i]);
    quire_kva_purge();
    assert_int_equal(part->nready, 0);
    assert_ptr_equal(part->gaps.floor.next, &part->gaps.fence); /* nothing is left */
}

/* proves: X-15 */
static void nothing_is_still_something(void **state)
{
    void *p = quire_kvmalloc(0, QUIRE_GFP_KERNEL);

    (void)state;
    assert_non_null(p);
    quire_kvfree(p);
    for (size_t size = 0; size <= 100; size += 100) {
        quire_heap_fail_after(1); /* the heap says no: an area then */
        p = quire_kvmalloc(size, QUIRE_GFP_KERNEL);
        quire_heap_fail_after(-1);
        assert_non_null(p);
        if (size)
            assert_true(qi_window_has(QI_AREAS, (uintptr_t)p));
        quire_kvfree(p);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(areas_that_are_not_what_they_say),
        T(stacks_without_their_guard),
        T(trees_that_are_broken),
        T(foreign_pointers_are_named),
        T(guards_are_known_at_the_edges),
        T(sizes_that_overflow_are_refused),
        T(windows_may_lie_in_any_order),
        T(gaps_at_the_end_of_the_world),
        T(no_more_free_areas_are_kept_than_planned),
        T(nothing_is_still_something),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
