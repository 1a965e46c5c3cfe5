/*
 * frame/policy.c - policies: which nodes serve a request, in which order (quire/policy.h).
 *
 * A policy is a value: what came of the set and of what is allowed is worked out when it is made, so that a
 * request costs a look at the mode, and for interleaving a walk over the bits of the set.  Who counts
 * requests is the holder: pages of a range have their offset anyway, and two CPUs that fault side by side
 * need not share a counter.
 *
 * Weights by bandwidth are the smallest whole numbers that come near the shares of 32 (Linux,
 * mm/mempolicy.c: reduce_interleave_weights()).
 */
#include <quire/policy.h>
#include <quire/pressure.h>
#include "zone.h"

#define WEIGHTINESS 32u

static uint8_t given[QUIRE_MAX_NODES], usual[QUIRE_MAX_NODES];
/* Frames that came from the node whose turn it was, by the CPU that asked; atomic. */
static uint64_t hits[QUIRE_MAX_CPUS][QUIRE_MAX_NODES];

/* ---- Sets of nodes ---- */

/* The n-th node of the set, which has more than n. */
static unsigned nth(uint64_t set, unsigned n)
{
    while (n--)
        set &= set - 1;
    return qi_lowest_bit(set);
}

static unsigned rank_of(uint64_t set, unsigned node)
{
    return qi_popcount(set & ((1ull << node) - 1));
}

/* Bit n becomes the n-th node of allowed, round if there are fewer. */
static uint64_t onto(uint64_t relative, uint64_t allowed)
{
    unsigned n = qi_popcount(allowed);
    uint64_t out = 0;

    for (; relative; relative &= relative - 1)
        out |= 1ull << nth(allowed, qi_lowest_bit(relative) % n);
    return out;
}

/* The set as ranks among what was allowed. */
static uint64_t ranks(uint64_t set, uint64_t allowed)
{
    uint64_t out = 0;

    for (; set; set &= set - 1)
        out |= 1ull << rank_of(allowed, qi_lowest_bit(set));
    return out;
}

static uint64_t all_nodes(void) { return UINT64_MAX >> (64 - qi_nnodes); }

/* ---- Making ---- */

static bool wants_set(unsigned mode) { return mode >= QUIRE_POLICY_BIND; }

static void weigh(struct quire_policy *p)
{
    unsigned round = 0;

    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++) {
        bool in = p->nodes >> i & 1;

        p->weights[i] = (uint8_t)(!in                                ? 0
                                  : p->mode == QUIRE_POLICY_WEIGHTED ? quire_node_weight(i)
                                                                     : 1);
        round += p->weights[i];
    }
    p->round = (uint16_t)round;
}

enum quire_status quire_policy_init(struct quire_policy *p, enum quire_policy_mode mode,
                                    unsigned flags, uint64_t nodes, uint64_t allowed)
{
    uint64_t usable = allowed & qi_nodes_with_memory(), effect;

    if (mode >= QUIRE_POLICY_MODES || flags > QUIRE_POLICY_RELATIVE ||
        (nodes & ~all_nodes() && flags != QUIRE_POLICY_RELATIVE))
        return QUIRE_INVALID;
    if (mode == QUIRE_POLICY_PREFERRED && !nodes && !flags)
        mode = QUIRE_POLICY_LOCAL;
    if (wants_set(mode) != (nodes != 0) || (flags && !nodes))
        return QUIRE_INVALID;
    if (!usable)
        return QUIRE_NOT_FOUND;
    effect = flags == QUIRE_POLICY_RELATIVE ? onto(nodes, usable) : nodes & usable;
    if (wants_set(mode) && !effect)
        return QUIRE_NOT_FOUND;
    *p = (struct quire_policy){.refs = 1,
                               .mode = (uint8_t)mode,
                               .flags = (uint8_t)flags,
                               .asked = nodes,
                               .allowed = usable,
                               .nodes = wants_set(mode) ? effect : usable};
    weigh(p);
    return QUIRE_OK;
}

enum quire_status quire_policy_rebind(const struct quire_policy *old, uint64_t allowed,
                                      struct quire_policy *p)
{
    uint64_t usable = allowed & qi_nodes_with_memory(), effect;

    if (!usable)
        return QUIRE_NOT_FOUND;
    if (!wants_set(old->mode))
        effect = usable;
    else if (old->flags == QUIRE_POLICY_RELATIVE)
        effect = onto(old->asked, usable);
    else if (old->flags == QUIRE_POLICY_STATIC)
        effect = old->asked & usable;
    else
        effect = onto(ranks(old->nodes, old->allowed), usable);
    *p = (struct quire_policy){.refs = 1,
                               .mode = old->mode,
                               .flags = old->flags,
                               .asked = old->asked,
                               .allowed = usable,
                               .nodes = effect ? effect : usable};
    weigh(p);
    return QUIRE_OK;
}

bool quire_policy_equal(const struct quire_policy *a, const struct quire_policy *b)
{
    if (!a || !b)
        return a == b || (a ? a : b)->mode == QUIRE_POLICY_DEFAULT;
    if (a->mode != b->mode || a->flags != b->flags || a->asked != b->asked ||
        a->allowed != b->allowed || a->nodes != b->nodes)
        return false;
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++)
        if (a->weights[i] != b->weights[i])
            return false;
    return true;
}

void quire_policy_get(struct quire_policy *p)
{
    uint32_t old = qi_fetch_add_relaxed(&p->refs, 1u);

    QI_CHECK(old && old != UINT32_MAX, "policy: get of one with %u holders", old);
}

bool quire_policy_put(struct quire_policy *p)
{
    uint32_t old = qi_fetch_sub_acqrel(&p->refs, 1u);

    QI_CHECK(old, "policy: put of one that nobody holds");
    return old == 1;
}

/* ---- Choosing ---- */

static unsigned here(void)
{
    unsigned long irq = qport_irq_save();
    unsigned node = qi_cpu_nodes[qport_cpu()];

    qport_irq_restore(irq);
    return node;
}

/* Whose turn request number index is. */
static unsigned turn(const struct quire_policy *p, uint64_t index)
{
    unsigned at = (unsigned)(index % p->round);
    uint64_t left = p->nodes;

    if (p->mode != QUIRE_POLICY_WEIGHTED)
        return nth(left, at);
    while (at >= p->weights[qi_lowest_bit(left)]) {
        at -= p->weights[qi_lowest_bit(left)];
        left &= left - 1;
    }
    return qi_lowest_bit(left);
}

static bool in_turns(const struct quire_policy *p)
{
    return p->mode == QUIRE_POLICY_INTERLEAVE || p->mode == QUIRE_POLICY_WEIGHTED;
}

unsigned quire_policy_node(const struct quire_policy *p, uint64_t index)
{
    if (!p || !wants_set(p->mode))
        return here();
    if (in_turns(p))
        return turn(p, index);
    return p->mode == QUIRE_POLICY_PREFERRED ? qi_lowest_bit(p->nodes)
                                             : qi_node_nearest(here(), p->nodes);
}

/* A request of so many bytes under the default policy goes over all nodes in turn. */
static bool spreads(const struct quire_policy *p, uint64_t bytes)
{
    uint64_t threshold = qi_load_relaxed(&qi_tune.interleave_threshold);

    return (!p || p->mode == QUIRE_POLICY_DEFAULT) && qi_nnodes > 1 && threshold &&
           bytes >= threshold;
}

/* The policy that a request which is spread has instead. */
static void spread(const struct quire_policy *p, struct quire_policy *out)
{
    *out = (struct quire_policy){.mode = QUIRE_POLICY_INTERLEAVE,
                                 .nodes = p ? p->nodes : qi_nodes_with_memory()};
    weigh(out);
}

/* ---- Allocating ---- */

static void count_hit(const struct quire_page *page, unsigned node, uint64_t frames)
{
    if (!page || quire_page_node(page) != node)
        return;
    qport_preempt_disable();
    qi_fetch_add_relaxed(&hits[qport_cpu()][node], frames);
    qport_preempt_enable();
}

struct quire_page *quire_policy_alloc(const struct quire_policy *p, unsigned order, quire_gfp gfp,
                                      uint64_t index)
{
    struct quire_policy all;
    struct quire_page *page;
    unsigned node;

    if (order <= QUIRE_MAX_ORDER && spreads(p, QUIRE_PAGE_SIZE << order)) {
        spread(p, &all);
        p = &all;
    }
    if (!p || !wants_set(p->mode))
        return quire_page_alloc(order, gfp, QUIRE_NODE_ANY);
    node = quire_policy_node(p, index);
    if (in_turns(p)) {
        page = quire_page_alloc(order, gfp, node);
        count_hit(page, node, 1ull << order);
        return page;
    }
    if (p->mode == QUIRE_POLICY_PREFERRED)
        return quire_page_alloc(order, gfp, node);
    if (p->mode == QUIRE_POLICY_BIND)
        return qi_page_alloc_among(order, gfp, node, p->nodes);
    page = qi_page_alloc_among(order, gfp | QUIRE_GFP_NORETRY, node, p->nodes);
    return page ? page : quire_page_alloc(order, gfp, node);
}

/* How many of the n requests from number index on are the node's: turns from first to last of a round. */
static size_t share(const struct quire_policy *p, size_t n, uint64_t index, unsigned first,
                    unsigned last)
{
    size_t rounds = n / p->round, rest = n % p->round, extra = 0, at = index % p->round;

    for (; rest; rest--, at = at + 1 == p->round ? 0 : at + 1)
        extra += at >= first && at < last;
    return rounds * (last - first) + extra;
}

static size_t bulk_in_turns(const struct quire_policy *p, size_t n, struct quire_page **out,
                            quire_gfp gfp, uint64_t index)
{
    unsigned first = 0;
    size_t got = 0;

    for (uint64_t left = p->nodes; left; left &= left - 1) {
        unsigned node = qi_lowest_bit(left), last = first + p->weights[node];
        size_t k = quire_page_alloc_bulk(share(p, n, index, first, last), out + got, gfp, node);

        for (size_t i = got; i < got + k; i++)
            count_hit(out[i], node, 1);
        got += k;
        first = last;
    }
    return got;
}

size_t quire_policy_alloc_bulk(const struct quire_policy *p, size_t n, struct quire_page **out,
                               quire_gfp gfp, uint64_t index)
{
    struct quire_policy all;
    unsigned node;
    size_t got;

    if (spreads(p, n * QUIRE_PAGE_SIZE)) {
        spread(p, &all);
        p = &all;
    }
    if (!p || !wants_set(p->mode))
        return quire_page_alloc_bulk(n, out, gfp, QUIRE_NODE_ANY);
    if (in_turns(p))
        return bulk_in_turns(p, n, out, gfp, index);
    node = quire_policy_node(p, index);
    if (p->mode == QUIRE_POLICY_PREFERRED)
        return quire_page_alloc_bulk(n, out, gfp, node);
    got = qi_page_alloc_bulk_among(n, out, gfp, node, p->nodes);
    if (got < n && p->mode == QUIRE_POLICY_PREFERRED_MANY)
        got += quire_page_alloc_bulk(n - got, out + got, gfp, node);
    return got;
}

/* ---- Weights ---- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;

        a = b;
        b = t;
    }
    return a;
}

void qi_policy_init(void)
{
    uint64_t memory = qi_nodes_with_memory(), sum = 0, by = 0;
    bool known = memory != 0;

    for (unsigned c = 0; c < QUIRE_MAX_CPUS; c++)
        for (unsigned i = 0; i < QUIRE_MAX_NODES; i++)
            hits[c][i] = 0;
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++)
        given[i] = 0;
    for (uint64_t left = memory; left; left &= left - 1) {
        uint32_t bw = qi_node_best_bandwidth(qi_lowest_bit(left));

        known &= bw != 0;
        sum += bw;
    }
    for (unsigned i = 0; i < qi_nnodes; i++) {
        uint64_t w = known ? (uint64_t)WEIGHTINESS * qi_node_best_bandwidth(i) / sum : 1;

        usual[i] = (uint8_t)QI_MAX(w, (uint64_t)1);
        if (memory >> i & 1)
            by = gcd(usual[i], by);
    }
    for (unsigned i = 0; i < qi_nnodes; i++)
        usual[i] = (uint8_t)QI_MAX(usual[i] / QI_MAX(by, (uint64_t)1), (uint64_t)1);
}

enum quire_status quire_node_set_weight(unsigned node, unsigned weight)
{
    if (node >= qi_nnodes || weight > 255)
        return QUIRE_INVALID;
    qi_store_relaxed(&given[node], (uint8_t)weight);
    return QUIRE_OK;
}

unsigned quire_node_weight(unsigned node)
{
    uint8_t w;

    if (node >= qi_nnodes)
        return 0;
    w = qi_load_relaxed(&given[node]);
    return w ? w : usual[node];
}

uint64_t qi_policy_hits(unsigned node)
{
    uint64_t n = 0;

    for (unsigned c = 0; c < qi_ncpus; c++)
        n += qi_load_relaxed(&hits[c][node]);
    return n;
}
