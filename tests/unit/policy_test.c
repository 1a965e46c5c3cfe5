/*
 * policy_test.c - which node serves whom: policies against dumb models, what is known of nodes, and
 * what is counted of them.
 */
#include <frame_machine.h>

#include <quire/policy.h>
#include <quire/pressure.h>

enum { NODES = 4 };

static uint8_t cpu_node[] = {0, 1, 2, 3};
static const uint8_t ring[] = {
    10, 20, 40, 30, /**/ 20, 10, 25, 40, /**/ 40, 25, 10, 15, /**/ 30, 40, 15, 10,
};
static uint32_t latency[NODES * NODES], bandwidth[NODES * NODES];
static struct quire_boot wish;

/* Nodes 0..3 of 32 MiB each from 16 MiB on, but those of the mask have no memory; CPU n on node n. */
static void numa(uint64_t without)
{
    map_start((16 + NODES * 32) * MIB);
    for (unsigned i = 0; i < NODES; i++)
        if (!(without >> i & 1))
            map_add((16 + i * 32) * MIB, 32 * MIB, i);
    wish = (struct quire_boot){.map = &map,
                               .nodes = NODES,
                               .cpus = NODES,
                               .cpu_node = cpu_node,
                               .distance = ring,
                               .latency = wish.latency,
                               .bandwidth = wish.bandwidth};
    assert_int_equal(quire_frame_init(&wish), QUIRE_OK);
    healthy();
}

static struct quire_policy policy(enum quire_policy_mode mode, uint64_t nodes)
{
    struct quire_policy p;

    assert_int_equal(quire_policy_init(&p, mode, 0, nodes, ~0ull), QUIRE_OK);
    return p;
}

/* ---- What is refused ---- */

static void sets_and_flags_are_checked(void **state)
{
    struct quire_policy p;
    unsigned good = 0;

    (void)state;
    numa(1u << 2);
    assert_int_equal(quire_policy_init(&p, QUIRE_POLICY_MODES, 0, 1, ~0ull), QUIRE_INVALID);
    for (unsigned mode = 0; mode < QUIRE_POLICY_MODES; mode++)
        for (unsigned flags = 0; flags < 5; flags++)
            for (unsigned nodes = 0; nodes < 32; nodes++)
                for (unsigned allowed = 0; allowed < 16; allowed++) {
                    bool relative = flags == QUIRE_POLICY_RELATIVE;
                    bool empty_ok = mode <= QUIRE_POLICY_LOCAL || mode == QUIRE_POLICY_PREFERRED;
                    unsigned memory = allowed & 11u; /* node 2 has none */
                    enum quire_status want = QUIRE_OK;

                    if (flags > 2 || (nodes & 16 && !relative) ||
                        (!nodes && (flags || !empty_ok)) || (nodes && mode <= QUIRE_POLICY_LOCAL))
                        want = QUIRE_INVALID;
                    else if (!memory || (nodes && !relative && !(nodes & memory)))
                        want = QUIRE_NOT_FOUND;
                    memset(&p, 0x55, sizeof p);
                    if (quire_policy_init(&p, mode, flags, nodes, allowed) != want)
                        fail_msg("mode %u flags %u nodes %#x allowed %#x", mode, flags, nodes,
                                 allowed);
                    if (want != QUIRE_OK) {
                        assert_int_equal(p.refs, 0x55555555); /* untouched */
                        continue;
                    }
                    good++;
                    assert_int_equal(p.refs, 1);
                    assert_true(p.nodes && !(p.nodes & ~(uint64_t)memory));
                }
    assert_true(good > 500);
    assert_int_equal(policy(QUIRE_POLICY_PREFERRED, 0).mode, QUIRE_POLICY_LOCAL);
}

static void holders_are_counted(void **state)
{
    struct quire_policy p, q;

    (void)state;
    numa(0);
    p = policy(QUIRE_POLICY_BIND, 3);
    quire_policy_get(&p);
    assert_false(quire_policy_put(&p));
    assert_true(quire_policy_put(&p));
    PANICS(if (quire_policy_put(&p)) abort(), "nobody holds");
    p.refs = 0;
    PANICS(quire_policy_get(&p), "0 holders");

    p = policy(QUIRE_POLICY_BIND, 3);
    q = policy(QUIRE_POLICY_BIND, 3);
    quire_policy_get(&q);
    assert_true(quire_policy_equal(&p, &q));
    q = policy(QUIRE_POLICY_BIND, 2);
    assert_false(quire_policy_equal(&p, &q));
    q = policy(QUIRE_POLICY_PREFERRED_MANY, 3);
    assert_false(quire_policy_equal(&p, &q));
    assert_false(quire_policy_equal(&p, NULL));
    q = policy(QUIRE_POLICY_DEFAULT, 0);
    assert_true(quire_policy_equal(NULL, &q));
    assert_true(quire_policy_equal(NULL, NULL));
    p = policy(QUIRE_POLICY_WEIGHTED, 3);
    assert_int_equal(quire_node_set_weight(1, 3), QUIRE_OK);
    q = policy(QUIRE_POLICY_WEIGHTED, 3);
    assert_false(quire_policy_equal(&p, &q)); /* made with other weights */
}

/* ---- Sets when what is allowed changes ---- */

/* The n-th set bit of allowed, round. */
static unsigned nth_of(unsigned allowed, unsigned n)
{
    unsigned list[4], k = 0;

    for (unsigned i = 0; i < 4; i++)
        if (allowed >> i & 1)
            list[k++] = i;
    return list[n % k];
}

/* All sets, all masks before and after, against the words of the contract. */
static void rebinding(void **state)
{
    (void)state;
    numa(0);
    for (unsigned flags = 0; flags <= 2; flags++)
        for (unsigned asked = 1; asked < 16; asked++)
            for (unsigned before = 1; before < 16; before++)
                for (unsigned after = 1; after < 16; after++) {
                    struct quire_policy p, q;
                    unsigned want = 0, had = 0;

                    for (unsigned i = 0; i < 4; i++)
                        if (flags == QUIRE_POLICY_RELATIVE && asked >> i & 1) {
                            had |= 1u << nth_of(before, i);
                            want |= 1u << nth_of(after, i);
                        }
                    if (flags != QUIRE_POLICY_RELATIVE)
                        had = asked & before;
                    if (flags == QUIRE_POLICY_STATIC)
                        want = asked & after;
                    if (!flags) /* the same places among the allowed */
                        for (unsigned i = 0, place = 0; i < 4; i++) {
                            if (had >> i & 1)
                                want |= 1u << nth_of(after, place);
                            place += before >> i & 1;
                        }
                    if (!want)
                        want = after;
                    if (quire_policy_init(&p, QUIRE_POLICY_BIND, flags, asked, before)) {
                        assert_int_equal(had, 0);
                        continue;
                    }
                    assert_int_equal(p.nodes, had);
                    assert_int_equal(quire_policy_rebind(&p, after, &q), QUIRE_OK);
                    if (q.nodes != want)
                        fail_msg("flags %u asked %#x of %#x now %#x: %#x, not %#x", flags, asked,
                                 before, after, (unsigned)q.nodes, want);
                    assert_int_equal(q.refs, 1);
                }
}

/* ---- Who serves ---- */

static unsigned nearest(unsigned from, uint64_t set)
{
    unsigned best = 0, d = 1000;

    for (unsigned i = 0; i < NODES; i++)
        if (set >> i & 1 && ring[from * NODES + i] < d)
            d = ring[from * NODES + (best = i)];
    return best;
}

/* The node that must serve request number index of a policy whose sets are all free. */
static unsigned model(const struct quire_policy *p, unsigned cpu, unsigned index)
{
    unsigned list[NODES * 255], n = 0;

    switch (p->mode) {
    case QUIRE_POLICY_BIND:
    case QUIRE_POLICY_PREFERRED_MANY: return nearest(cpu, p->nodes);
    case QUIRE_POLICY_PREFERRED: return (unsigned)__builtin_ctzll(p->nodes);
    case QUIRE_POLICY_INTERLEAVE:
    case QUIRE_POLICY_WEIGHTED:
        for (unsigned i = 0; i < NODES; i++)
            for (unsigned k = 0; p->nodes >> i & 1 && k < p->weights[i]; k++)
                list[n++] = i;
        return list[index % n];
    default: return cpu;
    }
}

/* With memory everywhere each request of each policy is served where the model says, single, in blocks
 * and many at once.
 * proves: TRAP-20 AS-12 */
static void policies_choose_nodes(void **state)
{
    (void)state;
    numa(0);
    assert_int_equal(quire_node_set_weight(0, 5), QUIRE_OK);
    assert_int_equal(quire_node_set_weight(2, 2), QUIRE_OK);
    for (unsigned mode = 0; mode < QUIRE_POLICY_MODES; mode++)
        for (unsigned set = 1; set < 16; set++)
            for (unsigned cpu = 0; cpu < NODES; cpu++) {
                struct quire_policy p = policy(mode, mode < QUIRE_POLICY_BIND ? 0 : set);
                unsigned start = (unsigned)test_random_below(1000), count[NODES] = {0};
                size_t n = 40 + test_random_below(100), got;

                hosted_cpu_set(cpu);
                for (unsigned index = start; index < start + 20; index++) {
                    unsigned order = (unsigned)test_random_below(6), want = model(&p, cpu, index);
                    struct quire_page *page = quire_policy_alloc(&p, order, QUIRE_GFP_USER, index);

                    assert_int_equal(quire_policy_node(&p, index), want);
                    assert_int_equal(quire_page_node(page), want);
                    assert_int_equal(quire_page_order(page), order);
                    quire_page_free(page, order);
                }
                for (unsigned i = 0; i < n; i++)
                    count[model(&p, cpu, start + i)]++;
                got = quire_policy_alloc_bulk(&p, n, held, QUIRE_GFP_USER | QUIRE_GFP_ZERO, start);
                assert_int_equal(got, n);
                for (size_t i = 0; i < n; i++)
                    count[quire_page_node(held[i])]--;
                for (unsigned i = 0; i < NODES; i++)
                    assert_int_equal(count[i], 0);
                quire_page_free_bulk(n, held);
            }
    hosted_cpu_set(0);
    quire_frame_drain();
    healthy();
}

static size_t all_of(const struct quire_policy *p, uint64_t seen[NODES])
{
    size_t n = 0;

    memset(seen, 0, NODES * sizeof *seen);
    while ((held[n] = quire_policy_alloc(p, 0, QUIRE_GFP_USER, n)))
        seen[quire_page_node(held[n++])]++;
    return n;
}

/* When its nodes are full: BIND fails, nearest nodes first until then; the others go elsewhere.
 * proves: TRAP-20 */
static void full_nodes(void **state)
{
    struct quire_policy p;
    uint64_t seen[NODES];
    size_t n;

    (void)state;
    numa(0);
    hosted_cpu_set(1);
    p = policy(QUIRE_POLICY_BIND, 1u << 0 | 1u << 3);
    n = all_of(&p, seen);
    assert_int_equal(seen[1] + seen[2], 0);
    assert_true(seen[0] > 7000 && seen[3] > 7000);
    assert_int_equal(quire_page_node(held[0]), 0); /* 20 from node 1; node 3 is 40 */
    assert_int_equal(quire_policy_alloc_bulk(&p, 10, held + n, QUIRE_GFP_USER, 0), 0);
    assert_null(quire_policy_alloc(&p, 3, QUIRE_GFP_USER, 0));
    for (unsigned mode = QUIRE_POLICY_PREFERRED; mode < QUIRE_POLICY_MODES; mode++) {
        p = policy(mode, 1u << 0 | 1u << 3);
        held[n] = quire_policy_alloc(&p, 0, QUIRE_GFP_USER, 0);
        assert_in_range(quire_page_node(held[n]), 1, 2);
        quire_page_free(held[n], 0);
        assert_int_equal(quire_policy_alloc_bulk(&p, 20, held + n, QUIRE_GFP_USER, 0), 20);
        for (unsigned i = 0; i < 20; i++)
            assert_in_range(quire_page_node(held[n + i]), 1, 2);
        quire_page_free_bulk(20, held + n);
    }
    quire_page_free_bulk(n, held);
    quire_frame_drain();
    healthy();
    hosted_cpu_set(0);
}

/* A request of 2 MiB and more under the default policy goes over all nodes; a smaller one does not, nor
 * one that says LOCAL; the threshold can be moved.
 * proves: X-11 */
static void large_requests_are_spread(void **state)
{
    static const uint64_t thresholds[] = {2 * MIB, MIB, 0};
    struct quire_policy local;

    (void)state;
    numa(0);
    local = policy(QUIRE_POLICY_LOCAL, 0);
    for (unsigned t = 0; t < 3; t++) {
        struct quire_frame_tunables tune;
        struct quire_page *p;

        quire_frame_tunables_get(&tune);
        assert_int_equal(t ? 2 * MIB >> (t - 1) : tune.interleave_threshold,
                         2 * MIB >> (t ? t - 1 : 0));
        tune.interleave_threshold = thresholds[t];
        assert_int_equal(quire_frame_tunables_set(&tune), QUIRE_OK);
        for (unsigned order = 7; order <= QUIRE_MAX_ORDER; order++)
            for (unsigned i = 0; i < 2 * NODES; i++) {
                bool over = thresholds[t] && 4096ull << order >= thresholds[t];

                p = quire_policy_alloc(NULL, order, QUIRE_GFP_USER, i);
                assert_int_equal(quire_page_node(p), over ? i % NODES : 0);
                quire_page_free(p, order);
                p = quire_policy_alloc(&local, order, QUIRE_GFP_USER, i);
                assert_int_equal(quire_page_node(p), 0);
                quire_page_free(p, order);
            }
        for (unsigned n = 255; n <= 513; n++) {
            unsigned count[NODES] = {0};
            bool over = thresholds[t] && n * 4096ull >= thresholds[t];

            assert_int_equal(quire_policy_alloc_bulk(NULL, n, held, QUIRE_GFP_USER, 1), n);
            for (unsigned i = 0; i < n; i++)
                count[quire_page_node(held[i])]++;
            for (unsigned i = 0; i < NODES; i++)
                assert_in_range(count[i],
                                over ? n / NODES
                                : i  ? 0
                                     : n,
                                over ? n / NODES + 1
                                : i  ? 0
                                     : n);
            quire_page_free_bulk(n, held);
        }
    }
}

/* ---- What is counted ---- */

static struct quire_node_stats node_stats(unsigned node)
{
    struct quire_node_stats s;

    assert_int_equal(quire_node_stats(node, &s), QUIRE_OK);
    return s;
}

/* hit, miss, foreign, interleaved, local, other frames since *was, which moves on */
static void counted(unsigned node, struct quire_node_stats *was, const uint64_t want[6])
{
    struct quire_node_stats s = node_stats(node);
    uint64_t got[] = {s.hit - was->hit,         s.miss - was->miss,
                      s.foreign - was->foreign, s.interleave_hit - was->interleave_hit,
                      s.local - was->local,     s.other - was->other};

    for (unsigned i = 0; i < 6; i++)
        if (got[i] != want[i])
            fail_msg("node %u, count %u: %llu, not %llu", node, i, (unsigned long long)got[i],
                     (unsigned long long)want[i]);
    *was = s;
}

/* Every way to a frame, on every CPU: each is counted once, where numastat(8) would.
 * proves: AS-57 AS-02 AS-11 VE-05 VM-20 */
static void allocations_are_counted_by_node(void **state)
{
    struct quire_node_stats s[NODES], none;
    struct quire_policy turns, bind;
    size_t n;

    (void)state;
    numa(0);
    turns = policy(QUIRE_POLICY_INTERLEAVE, 15);
    bind = policy(QUIRE_POLICY_BIND, 1u << 2);
    for (unsigned i = 0; i < NODES; i++) {
        s[i] = node_stats(i);
        assert_int_equal(s[i].cpus, 1);
        assert_int_equal(s[i].free, s[i].managed);
        assert_int_equal(s[i].present, 32 * 256);
    }
    assert_int_equal(quire_node_stats(NODES, &none), QUIRE_NOT_FOUND);
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        uint64_t f = 1ull << order;

        hosted_cpu_set(1);
        quire_page_free(quire_page_alloc(order, QUIRE_GFP_USER, ANY), order);
        counted(1, &s[1], (uint64_t[]){f, 0, 0, 0, f, 0});
        quire_page_free(quire_page_alloc(order, QUIRE_GFP_USER, 3), order);
        counted(3, &s[3], (uint64_t[]){f, 0, 0, 0, 0, f});
        quire_page_free(quire_policy_alloc(&turns, order, QUIRE_GFP_USER, 2), order);
        counted(2, &s[2], (uint64_t[]){f, 0, 0, f, 0, f});
        quire_page_free(quire_policy_alloc(&bind, order, QUIRE_GFP_USER, 2), order);
        counted(2, &s[2], (uint64_t[]){f, 0, 0, 0, 0, f});
        counted(1, &s[1], (uint64_t[6]){0});
    }
    assert_int_equal(quire_policy_alloc_bulk(&turns, 1000, held, QUIRE_GFP_USER, 0), 1000);
    for (unsigned i = 0; i < NODES; i++)
        counted(i, &s[i], (uint64_t[]){250, 0, 0, 250, i == 1 ? 250 : 0, i == 1 ? 0 : 250});
    quire_page_free_bulk(1000, held);

    /* node 1 is full: what its CPU gets comes from node 0, and is counted at both */
    for (n = 0; (held[n] = quire_page_alloc(0, QUIRE_GFP_THISNODE | QUIRE_GFP_USER, 1));)
        n++;
    counted(1, &s[1], (uint64_t[]){n, 0, 0, 0, n, 0});
    quire_page_free(quire_page_alloc(0, QUIRE_GFP_USER, ANY), 0);
    quire_page_free(quire_page_alloc(9, QUIRE_GFP_USER, ANY), 9);
    assert_int_equal(quire_page_alloc_bulk(7, held + n, QUIRE_GFP_USER, ANY), 7);
    counted(0, &s[0], (uint64_t[]){0, 520, 0, 0, 0, 520});
    counted(1, &s[1], (uint64_t[]){0, 0, 520, 0, 0, 0});
    quire_page_free_bulk(n + 7, held);
    for (unsigned c = 0; c < NODES; c++) {
        hosted_cpu_set(c);
        quire_frame_drain();
    }
    for (unsigned i = 0; i < NODES; i++) {
        s[i] = node_stats(i);
        assert_int_equal(s[i].free, s[i].managed);
    }
    hosted_cpu_set(0);
    healthy();
}

/* ---- CPUs of nodes ---- */

/* A node's own CPUs, or those of the nearest that has any; which CPU has lived on which node's memory.
 * proves: VE-07 */
static void cpus_of_nodes(void **state)
{
    static const uint8_t two[] = {3, 1, 3, 1};
    uint64_t cpus[QUIRE_MAX_CPUS / 64 + 1];

    (void)state;
    numa(0);
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(quire_node_cpus(i, cpus), i);
        assert_int_equal(cpus[0], 1u << i);
    }
    wish.cpu_node = two;
    map_start((16 + NODES * 32) * MIB);
    for (unsigned i = 0; i < NODES; i++)
        map_add((16 + i * 32) * MIB, 32 * MIB, i);
    assert_int_equal(quire_frame_init(&wish), QUIRE_OK);
    assert_int_equal(quire_node_cpus(3, cpus), 3);
    assert_int_equal(cpus[0], 5);
    assert_int_equal(quire_node_cpus(1, cpus), 1);
    assert_int_equal(cpus[0], 10);
    assert_int_equal(quire_node_cpus(0, cpus), 1); /* 20, and 30 to node 3 */
    assert_int_equal(cpus[0], 10);
    assert_int_equal(quire_node_cpus(2, cpus), 3); /* 15, and 25 to node 1 */
    assert_int_equal(quire_node_cpus(NODES, cpus), QUIRE_NODE_ANY);
    assert_int_equal(cpus[0], 0);

    hosted_cpu_set(2);
    for (unsigned i = 0; i < 100; i++) {
        quire_page_free(quire_page_alloc(0, 0, ANY), 0);
        quire_page_free(quire_page_alloc(1, 0, 1), 1);
    }
    assert_int_equal(quire_node_affinity(3, 2), 100);
    assert_int_equal(quire_node_affinity(1, 2), 200);
    assert_int_equal(quire_node_affinity(3, 0), 0);
    assert_int_equal(quire_node_affinity(0, 2), 0);
    hosted_cpu_set(0);
}

/* Nodes without memory serve from others, in every policy, and that is as it was wanted. */
static void nodes_without_memory(void **state)
{
    struct quire_node_stats s;
    struct quire_policy p;

    (void)state;
    numa(1u << 1 | 1u << 2);
    hosted_cpu_set(1);
    for (unsigned mode = 0; mode < QUIRE_POLICY_MODES; mode++) {
        p = policy(mode, mode < QUIRE_POLICY_BIND ? 0 : 15);
        assert_int_equal(p.nodes, 9);
        for (unsigned i = 0; i < 8; i++) {
            struct quire_page *page = quire_policy_alloc(&p, 0, QUIRE_GFP_USER, i);

            assert_int_equal(quire_page_node(page), mode < QUIRE_POLICY_INTERLEAVE ? 0 : i % 2 * 3);
            quire_page_free(page, 0);
        }
    }
    assert_int_equal(quire_policy_init(&p, QUIRE_POLICY_BIND, 0, 6, ~0ull), QUIRE_NOT_FOUND);
    s = node_stats(1);
    assert_int_equal(s.managed + s.hit + s.miss + s.foreign + s.local, 0);
    assert_true(node_stats(0).other > 0 && node_stats(0).miss == 0);
    hosted_cpu_set(0);
}

/* ---- HMAT ---- */

static void speed(unsigned from, unsigned to, uint32_t ns, uint32_t mib)
{
    latency[from * NODES + to] = ns;
    bandwidth[from * NODES + to] = mib;
}

/* Nodes 0 and 1: CPUs and their memory.  2: slow and large.  3: fast, near 1. */
static void four_speeds(void)
{
    static const uint8_t two[] = {0, 1};

    for (unsigned from = 0; from < NODES; from++) {
        speed(from, 0, from == 0 ? 100 : 180, from == 0 ? 20000 : 9000);
        speed(from, 1, from == 1 ? 100 : 180, from == 1 ? 20000 : 9000);
        speed(from, 2, 400, 5000);
        speed(from, 3, from == 1 ? 90 : 190, from == 1 ? 40000 : 30000);
    }
    map_start((16 + NODES * 32) * MIB);
    for (unsigned i = 0; i < NODES; i++)
        map_add((16 + i * 32) * MIB, 32 * MIB, i);
    wish = (struct quire_boot){.map = &map,
                               .nodes = NODES,
                               .cpus = 2,
                               .cpu_node = two,
                               .latency = latency,
                               .bandwidth = bandwidth};
    assert_int_equal(quire_frame_init(&wish), QUIRE_OK);
}

static void tiers_and_demotion(void **state)
{
    (void)state;
    four_speeds();
    assert_int_equal(quire_node_latency(0, 2), 400);
    assert_int_equal(quire_node_bandwidth(1, 3), 40000);
    assert_int_equal(quire_node_latency(0, NODES), 0);
    assert_int_equal(quire_node_tiers(), 3);
    assert_int_equal(quire_node_tier(3), 0);
    assert_int_equal(quire_node_tier(0), 1);
    assert_int_equal(quire_node_tier(1), 1);
    assert_int_equal(quire_node_tier(2), 2);
    assert_int_equal(node_stats(2).tier, 2);
    assert_int_equal(quire_node_demotion(0), 2);
    assert_int_equal(quire_node_demotion(3), 0); /* all at distance 20: the lowest */
    assert_int_equal(quire_node_demotion(2), QUIRE_NODE_ANY);
    assert_int_equal(quire_node_demotion(NODES), QUIRE_NODE_ANY);
}

static void best_targets(void **state)
{
    uint8_t best[QUIRE_MAX_NODES];

    (void)state;
    four_speeds();
    assert_int_equal(quire_node_targets(0, QUIRE_BY_LATENCY, best), 4);
    assert_memory_equal(best, ((uint8_t[]){0, 1, 3, 2}), 4);
    assert_int_equal(quire_node_targets(0, QUIRE_BY_BANDWIDTH, best), 4);
    assert_memory_equal(best, ((uint8_t[]){3, 0, 1, 2}), 4);
    assert_int_equal(quire_node_targets(1, QUIRE_BY_LATENCY, best), 4);
    assert_memory_equal(best, ((uint8_t[]){3, 1, 0, 2}), 4);
}

static void weights_by_bandwidth(void **state)
{
    struct quire_policy p;

    (void)state;
    four_speeds();
    /* shares of 32 by bandwidth, as the best CPUs have it: 20, 20, 5 and 40 of 85 */
    assert_int_equal(quire_node_weight(0), 7);
    assert_int_equal(quire_node_weight(1), 7);
    assert_int_equal(quire_node_weight(2), 1);
    assert_int_equal(quire_node_weight(3), 15);
    p = policy(QUIRE_POLICY_WEIGHTED, 1u << 0 | 1u << 3);
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(quire_policy_node(&p, i), i % 22 < 7 ? 0 : 3);
    assert_int_equal(quire_node_set_weight(3, 256), QUIRE_INVALID);
    assert_int_equal(quire_node_set_weight(NODES, 1), QUIRE_INVALID);
    assert_int_equal(quire_node_set_weight(3, 255), QUIRE_OK);
    assert_int_equal(quire_node_weight(3), 255);
    assert_int_equal(quire_policy_node(&p, 21), 3); /* the policy is as it was made */
    assert_int_equal(quire_policy_node(&p, 22), 0);
    assert_int_equal(quire_node_set_weight(3, 0), QUIRE_OK);
    assert_int_equal(quire_node_weight(3), 15);
    assert_int_equal(quire_node_weight(NODES), 0);
}

/* One tier, equal weights, targets by distance. */
static void nothing_is_known_of_speeds(void **state)
{
    uint8_t best[QUIRE_MAX_NODES];

    (void)state;
    four_speeds();
    wish.latency = wish.bandwidth = NULL;
    numa(0);
    assert_int_equal(quire_node_tiers(), 1);
    assert_int_equal(quire_node_demotion(0), QUIRE_NODE_ANY);
    for (unsigned i = 0; i < NODES; i++)
        assert_int_equal(quire_node_weight(i), 1);
    assert_int_equal(quire_node_targets(0, QUIRE_BY_LATENCY, best), 4);
    assert_memory_equal(best, ((uint8_t[]){0, 1, 3, 2}), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_flags_are_checked),
        cmocka_unit_test(holders_are_counted),
        cmocka_unit_test(rebinding),
        cmocka_unit_test(policies_choose_nodes),
        cmocka_unit_test(full_nodes),
        cmocka_unit_test(large_requests_are_spread),
        cmocka_unit_test(allocations_are_counted_by_node),
        cmocka_unit_test(cpus_of_nodes),
        cmocka_unit_test(nodes_without_memory),
        cmocka_unit_test(tiers_and_demotion),
        cmocka_unit_test(best_targets),
        cmocka_unit_test(weights_by_bandwidth),
        cmocka_unit_test(nothing_is_known_of_speeds),
    };

    test_seed("policy_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
