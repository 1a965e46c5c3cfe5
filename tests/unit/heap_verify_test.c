/*
 * heap_verify_test.c - each invariant of src/slab, broken: verify must see it and name it.
 *
 * Every test plants one damage at a time in a sound heap, asks verify, and takes it back: that the heap
 * is sound again shows that nothing but the damage was reported.
 */
#include <heap_suite.h>

#define HELD 400

/* What the tests damage: a cache of two nodes with objects in every tier. */
static struct quire_cache *damaged, *other;
static void *held[HELD];
static struct qi_slab *partial, *full;
static struct qi_cache_cpu *cpu; /* CPU 0, of node 0: entries in main, spare and remote */
static struct qi_sheaf *barn;    /* a full sheaf of node 0 */

static int setup_damaged(void **state)
{
    void *far[3];

    setup_nodes(state);
    damaged = cache("damaged", 100, 0, QUIRE_CACHE_SHEAF(31));
    other = cache("other", 100, 0, 0);
    quire_cache_free(other, quire_cache_alloc(other, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < HELD; i++)
        assert_non_null(held[i] = quire_cache_alloc(damaged, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(far[i] = quire_cache_alloc_node(damaged, QUIRE_GFP_KERNEL, 1));
    for (unsigned i = 0; i < 3 * damaged->sheaf_cap + 5u; i++)
        quire_cache_free(damaged, held[i]);
    quire_cache_free(damaged, far[0]);
    cpu = damaged->cpu[0];
    barn = damaged->node[0].full_sheaves;
    assert_true(qi_cpu_count(cpu) > 1 && cpu->spare->n > 1 && cpu->remote->n == 1);
    assert_non_null(barn);
    partial = qi_list_first(&damaged->node[0].slabs[QI_SLAB_PARTIAL], struct qi_slab, link);
    full = qi_list_first(&damaged->node[0].slabs[QI_SLAB_FULL], struct qi_slab, link);
    assert_true(partial->nfree > 0 && partial->nfree < partial->n && full->nfree == 0);
    heap_sound();
    return 0;
}

static void broken(const char *invariant, const char *words)
{
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    if (!strstr(hosted_log_last(), invariant) || !strstr(hosted_log_last(), words))
        fail_msg("said '%s', not '%s: %s'", hosted_log_last(), invariant, words);
}

/* While lvalue has this value, the invariant is broken. */
#define BROKEN_BY(lvalue, value, invariant, words) \
    do {                                           \
        __typeof__(lvalue) before_ = (lvalue);     \
                                                   \
        (lvalue) = (value);                        \
        broken(invariant, words);                  \
        (lvalue) = before_;                        \
        heap_sound();                              \
    } while (0)

static void pages_name_their_slab(void **state)
{
    struct quire_page *last = partial->page + (1u << partial->order) - 1;

    (void)state;
    BROKEN_BY(last->flags, last->flags & ~QUIRE_PG_SLAB, "H1", "has flags");
    BROKEN_BY(last->owner, last->owner ^ 64, "H1", "has flags");
    BROKEN_BY(last->owner, (uintptr_t)&qi_run_slab, "H1", "has flags");
}

static void states_are_known(void **state)
{
    uint8_t *out = &full->state[1], *in = &partial->state[partial->n];

    (void)state;
    assert_int_equal(*in, QI_OBJ_IN);
    BROKEN_BY(full->state[0], 0, "H2", "edges");
    BROKEN_BY(full->state[full->n + 1], 0, "H2", "edges");
    BROKEN_BY(*out, 0x77, "H3", "has state 119");
    BROKEN_BY(*out, QI_OBJ_OUT(1), "H3", "has state 2");
    BROKEN_BY(*in, QI_OBJ_OUT(0), "H3", "has state 1"); /* the bitmap says that it is free */
    BROKEN_BY(*in, QI_OBJ_GUARDED, "H3", "has state 253");
}

static void bitmaps_count(void **state)
{
    unsigned i = partial->n - 1;
    uint64_t *word = &qi_slab_bits(partial)[i / 64];

    (void)state;
    assert_true(*word >> i % 64 & 1);
    BROKEN_BY(*word, *word & ~(1ull << i % 64), "H3", "bitmap");
    BROKEN_BY(partial->nfree, partial->nfree + 1, "H3", "bitmap");
}

static void objects_in_sheaves_are_free(void **state)
{
    struct qi_entry *e = cpu->base;
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(e->obj));
    uint64_t i;

    (void)state;
    assert_true(qi_slab_index(s, e->obj, &i));
    BROKEN_BY(*e->state, QI_OBJ_OUT(0), "H4", "is not free");
    BROKEN_BY(e->state, &s->state[0], "H4", "is not free");
    BROKEN_BY(e->state, &s->state[s->n + 1], "H4", "is not free");
    BROKEN_BY(e->state, &s->state[i == 1 ? 2 : 1], "H4", "is not free"); /* of another object */
    BROKEN_BY(e->obj, (char *)e->obj + 8, "H4", "is not free");
    BROKEN_BY(e->obj, damaged, "H4", "is not free"); /* an object, but of another cache */
    BROKEN_BY(e->obj, &e, "H4", "is no object");
    BROKEN_BY(e->obj, s, "H4", "is no object"); /* the heap's own */
    BROKEN_BY(e->obj, NULL, "H4", "is no object");
}

/* The slab's books agree with themselves: only the sheaf tells that the object is in two places. */
static void objects_are_in_one_place(void **state)
{
    struct qi_entry e = cpu->base[0];
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(e.obj));
    uint64_t i;

    (void)state;
    assert_true(qi_slab_index(s, e.obj, &i));
    qi_slabs_give(damaged, &e, 1);
    broken("H4", "or also in its slab");
}

/* Each place where sheaves are is looked at. */
static void every_sheaf_is_looked_at(void **state)
{
    struct qi_entry *of[] = {cpu->base, cpu->spare->e, cpu->remote->e, barn->e};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        BROKEN_BY(of[i]->obj, NULL, "H4", "is no object");
    BROKEN_BY(cpu->spare->n, damaged->sheaf_cap + 1u, "damaged", "a sheaf with");
    BROKEN_BY(barn->n, barn->n - 1, "H6", "a full sheaf has");
}

static void objects_are_at_home(void **state)
{
    struct qi_entry far = cpu->remote->e[0];

    (void)state;
    BROKEN_BY(cpu->base[0], far, "H5", "of node 1 at node 0");
}

static void slabs_are_on_the_right_list(void **state)
{
    (void)state;
    BROKEN_BY(partial->list, QI_SLAB_FULL, "H6", "is on list 1");
    BROKEN_BY(partial->nfree, 0, "H6", "is on list 1");
    BROKEN_BY(partial->nfree, partial->n, "H6", "is on list 1");
    BROKEN_BY(full->nfree, 1, "H6", "is on list 2");
    BROKEN_BY(partial->cache, other, "heap verify", "is on a list of damaged");
    BROKEN_BY(partial->node, 1, "heap verify", "is on a list of damaged");
}

static void sums_are_right(void **state)
{
    struct qi_cache_node *cn = &damaged->node[0];

    (void)state;
    BROKEN_BY(cn->nslabs, cn->nslabs + 1, "H7", "node 0 counts");
    BROKEN_BY(cn->objects, cn->objects + 1, "H7", "node 0 counts");
    BROKEN_BY(cn->in_slabs, cn->in_slabs - 1, "H7", "node 0 counts");
    BROKEN_BY(cn->barn_cached, cn->barn_cached - 1, "H7", "node 0 counts");
    BROKEN_BY(cn->nfull_sheaves, cn->nfull_sheaves + 1, "H7", "node 0 counts");
    /* an object nowhere: neither out nor in any tier */
    BROKEN_BY(full->state[1], QI_OBJ_IN, "H7", "out");
    BROKEN_BY(cpu->spare->n, cpu->spare->n - 1, "H7", "at CPUs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_name_their_slab, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(states_are_known, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(bitmaps_count, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(objects_in_sheaves_are_free, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(objects_are_in_one_place, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(every_sheaf_is_looked_at, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(objects_are_at_home, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(slabs_are_on_the_right_list, setup_damaged, teardown),
        cmocka_unit_test_setup_teardown(sums_are_right, setup_damaged, teardown),
    };

    return cmocka_run_group_tests_name("heap_verify_test", tests, NULL, NULL);
}
