/*
 * space_policy_test.c - policies of ranges: where new pages come from, and that cutting, merging, moving and
 * forking keep them.
 */
#define FIXTURE_NODES 2
#include <space_fixture.h>

#include <quire/policy.h>

static uint64_t map(uint64_t pages)
{
    uint64_t at = 0x10000000;

    OK(map_at(s, &at, pages * PAGE, RW, PRIV | QUIRE_MAP_FIXED, NULL, 0));
    return at;
}

static struct quire_policy policy(enum quire_policy_mode mode, uint64_t nodes)
{
    struct quire_policy p;

    OK(quire_policy_init(&p, mode, 0, nodes, 3));
    return p;
}

static void bind_to(uint64_t at, uint64_t pages, uint64_t nodes)
{
    struct quire_policy p = policy(QUIRE_POLICY_BIND, nodes);

    OK(quire_space_set_policy(s, Q_UVA(at), pages * PAGE, &p));
}

/* Write to the pages; how many of them are on node 1. */
static unsigned on_node_1(struct quire_space *of, uint64_t at, uint64_t pages)
{
    unsigned n = 0;

    for (uint64_t k = 0; k < pages; k++) {
        struct quire_translation t;

        OK(store(of, at + k * PAGE, k + 1));
        quire_pt_translate(quire_space_root(of), at + k * PAGE, &t);
        assert_true(t.present);
        n += quire_page_node(quire_page_of_pfn(quire_pfn_of_pa(t.pa))) == 1;
    }
    return n;
}

static unsigned vmas(void)
{
    struct quire_space_stats st;

    quire_space_stats(s, &st);
    return (unsigned)st.vmas;
}

static struct quire_policy policy_at(uint64_t at)
{
    struct quire_vma_info v;

    OK(quire_space_vma(s, Q_UVA(at), false, &v));
    return v.policy;
}

static void pages_come_from_the_policy(void **state)
{
    uint64_t at = map(64);

    (void)state;
    assert_int_equal(policy_at(at).mode, QUIRE_POLICY_DEFAULT);
    assert_int_equal(on_node_1(s, at, 8), 0);
    bind_to(at + 8 * PAGE, 16, 2);
    assert_int_equal(vmas(), 3);
    assert_int_equal(on_node_1(s, at, 8), 0); /* what is there stays */
    assert_int_equal(on_node_1(s, at + 8 * PAGE, 16), 16);
    assert_int_equal(on_node_1(s, at + 24 * PAGE, 40), 0);
    assert_int_equal(policy_at(at + 9 * PAGE).mode, QUIRE_POLICY_BIND);
    assert_int_equal(policy_at(at + 9 * PAGE).nodes, 2);
    assert_int_equal(policy_at(at + 24 * PAGE).mode, QUIRE_POLICY_DEFAULT);
}

/* Page k of the address space is from node k % 2, whatever was cut and merged in between. */
static void interleaving_goes_by_address(void **state)
{
    struct quire_policy p = policy(QUIRE_POLICY_INTERLEAVE, 3);
    uint64_t at = map(64);

    (void)state;
    OK(quire_space_set_policy(s, Q_UVA(at), 64 * PAGE, &p));
    OK(quire_munmap(s, Q_UVA(at + 7 * PAGE), 3 * PAGE));
    OK(quire_mprotect(s, Q_UVA(at + 20 * PAGE), PAGE, QUIRE_READ));
    OK(quire_mprotect(s, Q_UVA(at + 20 * PAGE), PAGE, RW));
    for (uint64_t k = 10; k < 64; k++)
        assert_int_equal(on_node_1(s, at + k * PAGE, 1), (at / PAGE + k) % 2);
}

static void policies_cut_and_merge(void **state)
{
    struct quire_policy none = policy(QUIRE_POLICY_DEFAULT, 0);
    uint64_t at = map(64);

    (void)state;
    bind_to(at + 16 * PAGE, 16, 2);
    assert_int_equal(vmas(), 3);
    bind_to(at + 32 * PAGE, 16, 2); /* another object that says the same: one vma */
    assert_int_equal(vmas(), 3);
    bind_to(at + 20 * PAGE, 4, 1);
    assert_int_equal(vmas(), 5);
    bind_to(at + 20 * PAGE, 4, 2);
    assert_int_equal(vmas(), 3);
    OK(quire_space_set_policy(s, Q_UVA(at), 64 * PAGE, &none));
    assert_int_equal(vmas(), 1);
    OK(quire_space_set_policy(s, Q_UVA(at), 64 * PAGE, NULL));
    bind_to(at, 64, 2);
    assert_int_equal(vmas(), 1);
}

/* The copy of a shared page, too, and what a moved or forked range gets later. */
static void fork_and_remap_keep_policies(void **state)
{
    struct quire_space *child;
    uint64_t at = map(32);
    q_uva to;

    (void)state;
    assert_int_equal(on_node_1(s, at, 8), 0);
    bind_to(at, 32, 2);
    OK(quire_space_fork(s, &child));
    assert_int_equal(on_node_1(child, at, 8), 8); /* copied on write */
    assert_int_equal(on_node_1(child, at + 8 * PAGE, 8), 8);
    quire_space_put(child);
    OK(quire_mremap(s, Q_UVA(at), 32 * PAGE, 64 * PAGE, 1 | 2, Q_UVA(0x20000000), &to));
    assert_int_equal(to.v, 0x20000000);
    assert_int_equal(on_node_1(s, to.v + 8 * PAGE, 56), 56);
}

static void misuse_changes_nothing(void **state)
{
    struct quire_policy p = policy(QUIRE_POLICY_BIND, 2);
    uint64_t at = map(16), shared = 0x30000000;

    (void)state;
    OK(map_at(s, &shared, 4 * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_ANONYMOUS | QUIRE_MAP_FIXED,
              NULL, 0));
    assert_int_equal(quire_space_set_policy(s, Q_UVA(at), 17 * PAGE, &p), QUIRE_FAULT);
    assert_int_equal(quire_space_set_policy(s, Q_UVA(at - PAGE), 4 * PAGE, &p), QUIRE_FAULT);
    assert_int_equal(quire_space_set_policy(s, Q_UVA(at + 1), PAGE, &p), QUIRE_INVALID);
    assert_int_equal(quire_space_set_policy(s, Q_UVA(at), ~0ull, &p), QUIRE_INVALID);
    assert_int_equal(quire_space_set_policy(s, Q_UVA(shared), PAGE, &p), QUIRE_INVALID);
    assert_int_equal(vmas(), 2);
    assert_int_equal(on_node_1(s, at, 16), 0);
    OK(quire_space_set_policy(s, Q_UVA(at), 0, &p));
}

/* Each allocation of it fails once: the policies are then as before. */
static void no_memory_changes_nothing(void **state)
{
    struct quire_policy p = policy(QUIRE_POLICY_BIND, 2);
    uint64_t at = map(64);
    unsigned failures = 0;

    (void)state;
    for (int64_t n = 1;; n++) {
        enum quire_status st;

        quire_heap_fail_after(n);
        st = quire_space_set_policy(s, Q_UVA(at + 8 * PAGE), 8 * PAGE, &p);
        quire_heap_fail_after(-1);
        if (st == QUIRE_OK)
            break;
        assert_int_equal(st, QUIRE_NO_MEMORY);
        assert_int_equal(policy_at(at + 8 * PAGE).mode, QUIRE_POLICY_DEFAULT);
        assert_int_equal(vmas(), 1);
        failures++;
    }
    assert_in_range(failures, 3, 6); /* the policy and two vmas at least */
    assert_int_equal(vmas(), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(pages_come_from_the_policy), T(interleaving_goes_by_address),
        T(policies_cut_and_merge),     T(fork_and_remap_keep_policies),
        T(misuse_changes_nothing),     T(no_memory_changes_nothing),
    };

    test_seed("space_policy_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
