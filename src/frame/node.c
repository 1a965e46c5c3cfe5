/*
 * frame/node.c - what is known of nodes: their CPUs, how fast their memory is, what was allocated there.
 *
 * Tiers.  The memory of the first node that has CPUs and memory is the measure.  A node is so far down as
 * its latency is longer and its bandwidth smaller, seen from the CPUs that reach it best; nodes within an
 * eighth of a measure's step share a tier.  (Linux, mm/memory-tiers.c: mt_perf_to_adistance(), chunks of
 * 128 around 576.)  Without HMAT all memory is of one tier.
 *
 * Statistics cost nothing where memory is allocated fast: each CPU counts what leaves its lists
 * anyway, by zone, and whose a list is says whether that was local.  Only what goes past the lists, and
 * what comes from a node that was not wanted, is counted by itself (frame.c).
 */
#include <quire/policy.h>
#include "zone.h"

static uint32_t latency[QUIRE_MAX_NODES][QUIRE_MAX_NODES];
static uint32_t bandwidth[QUIRE_MAX_NODES][QUIRE_MAX_NODES];
static uint64_t with_cpus;
static uint8_t tier[QUIRE_MAX_NODES];
static unsigned tiers;

static bool has_memory(unsigned node)
{
    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_zones[i].node == node && qi_load_relaxed(&qi_zones[i].managed))
            return true;
    return false;
}

uint64_t qi_nodes_with_memory(void)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_load_relaxed(&qi_zones[i].managed))
            mask |= 1ull << qi_zones[i].node;
    return mask;
}

unsigned qi_node_nearest(unsigned from, uint64_t mask)
{
    unsigned best = QUIRE_NODE_ANY;

    if (mask >> from & 1)
        return from;
    for (unsigned node = 0; node < qi_nnodes; node++)
        if (mask >> node & 1 && (best == QUIRE_NODE_ANY ||
                                 quire_node_distance(from, node) < quire_node_distance(from, best)))
            best = node;
    return best;
}

/* ---- Speed ---- */

uint32_t quire_node_latency(unsigned from, unsigned to)
{
    return from < qi_nnodes && to < qi_nnodes ? latency[from][to] : 0;
}

uint32_t quire_node_bandwidth(unsigned from, unsigned to)
{
    return from < qi_nnodes && to < qi_nnodes ? bandwidth[from][to] : 0;
}

/* The node whose CPUs reach the memory best: with the shortest latency, or the nearest; QUIRE_NODE_ANY:
 * there are no CPUs. */
static unsigned best_cpus(unsigned node)
{
    unsigned best = qi_node_nearest(node, with_cpus);

    for (unsigned from = 0; from < qi_nnodes; from++)
        if (with_cpus >> from & 1 && latency[from][node] &&
            (!latency[best][node] || latency[from][node] < latency[best][node]))
            best = from;
    return best;
}

uint32_t qi_node_best_bandwidth(unsigned node)
{
    unsigned from = best_cpus(node);

    return from == QUIRE_NODE_ANY ? 0 : bandwidth[from][node];
}

/* How far down the node's memory is: 4.5 chunks for the measure's. */
#define CHUNK   128u
#define MEASURE (4 * CHUNK + CHUNK / 2)

static uint64_t depth(unsigned node, unsigned measure)
{
    unsigned from = best_cpus(node);
    uint64_t lat, bw, lat0 = latency[measure][measure], bw0 = bandwidth[measure][measure];

    if (from == QUIRE_NODE_ANY)
        return MEASURE;
    lat = latency[from][node];
    bw = bandwidth[from][node];
    if (!lat || !bw || !lat0 || !bw0)
        return MEASURE;
    return MEASURE * lat / lat0 * bw0 / bw;
}

static void find_tiers(void)
{
    uint64_t memory = qi_nodes_with_memory(), both = memory & with_cpus, at[QUIRE_MAX_NODES] = {0};
    unsigned measure = both ? qi_lowest_bit(both) : 0;

    tiers = 0;
    for (unsigned i = 0; i < qi_nnodes; i++)
        at[i] = both ? depth(i, measure) / CHUNK : MEASURE / CHUNK;
    for (unsigned i = 0; i < qi_nnodes; i++) {
        uint64_t seen = 0; /* one node of each depth above */

        tier[i] = 0;
        for (unsigned k = 0; k < qi_nnodes; k++) {
            bool first = memory >> k & 1 && at[k] < at[i];

            for (unsigned j = 0; first && j < k; j++)
                first = !(seen >> j & 1) || at[j] != at[k];
            seen |= (uint64_t)first << k;
            tier[i] = (uint8_t)(tier[i] + first);
        }
        if (memory >> i & 1)
            tiers = QI_MAX(tiers, tier[i] + 1u);
    }
}

unsigned quire_node_tier(unsigned node) { return node < qi_nnodes ? tier[node] : 0; }
unsigned quire_node_tiers(void) { return tiers; }

unsigned quire_node_demotion(unsigned node)
{
    uint64_t mask = 0;

    if (node >= qi_nnodes)
        return QUIRE_NODE_ANY;
    for (unsigned i = 0; i < qi_nnodes; i++)
        if (has_memory(i) && tier[i] == tier[node] + 1u)
            mask |= 1ull << i;
    return mask ? qi_node_nearest(node, mask) : QUIRE_NODE_ANY;
}

/* a is better than b; what is not known comes last. */
static bool better(unsigned from, unsigned a, unsigned b, enum quire_access by)
{
    uint64_t la = latency[from][a] ? latency[from][a] : UINT64_MAX;
    uint64_t lb = latency[from][b] ? latency[from][b] : UINT64_MAX;
    uint32_t ba = bandwidth[from][a], bb = bandwidth[from][b];

    if (by == QUIRE_BY_LATENCY && la != lb)
        return la < lb;
    if (ba != bb)
        return ba > bb;
    if (la != lb)
        return la < lb;
    return quire_node_distance(from, a) < quire_node_distance(from, b);
}

unsigned quire_node_targets(unsigned from, enum quire_access by, uint8_t out[QUIRE_MAX_NODES])
{
    unsigned n = 0;

    for (unsigned node = 0; from < qi_nnodes && node < qi_nnodes; node++) {
        unsigned at = n;

        if (!has_memory(node))
            continue;
        for (; at > 0 && better(from, node, out[at - 1], by); at--)
            out[at] = out[at - 1];
        out[at] = (uint8_t)node;
        n++;
    }
    return n;
}

/* ---- CPUs ---- */

unsigned quire_node_cpus(unsigned node, uint64_t cpus[QUIRE_MAX_CPUS / 64 + 1])
{
    unsigned whose = node < qi_nnodes ? qi_node_nearest(node, with_cpus) : QUIRE_NODE_ANY;

    for (unsigned i = 0; i < QUIRE_MAX_CPUS / 64 + 1; i++)
        cpus[i] = 0;
    for (unsigned c = 0; c < qi_ncpus; c++)
        if (qi_cpu_nodes[c] == whose)
            cpus[c / 64] |= 1ull << c % 64;
    return whose;
}

/* ---- Statistics ---- */

/* Frames that left the CPU's stacks of the zone. */
static uint64_t taken_by(const struct qi_zone *z, unsigned cpu, uint64_t *held)
{
    uint64_t n = 0;

    for (unsigned k = 0; k < QI_STACK_KINDS; k++)
        for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
            struct qi_stack *s = qi_stack_of(&qi_frame_cpus[cpu], z->place, k, t);

            n += qi_load_relaxed(&s->allocs) << s->order;
            *held += (uint64_t)qi_stack_count(s) << s->order;
        }
    return n;
}

uint64_t quire_node_affinity(unsigned node, unsigned cpu)
{
    uint64_t n = 0, held = 0;

    for (unsigned i = 0; cpu < qi_ncpus && i < qi_nzones; i++)
        if (qi_zones[i].node == node)
            n += taken_by(&qi_zones[i], cpu, &held);
    return n;
}

static void add_zone(struct qi_zone *z, struct quire_node_stats *out)
{
    unsigned long irq = qport_irq_save();
    uint64_t all, other = qi_load_relaxed(&z->remote), miss = qi_load_relaxed(&z->missed);

    qi_zone_lock(z);
    all = z->allocs;
    out->present += z->present;
    out->managed += z->managed;
    out->free += z->free + qi_popcount(z->atomic_bits);
    qi_zone_unlock(z);
    qport_irq_restore(irq);
    for (unsigned c = 0; c < qi_ncpus; c++) {
        uint64_t n = taken_by(z, c, &out->free);

        all += n;
        other += qi_cpu_nodes[c] != z->node ? n : 0;
    }
    /* they were read one after the other */
    other = QI_MIN(other, all);
    miss = QI_MIN(miss, all);
    out->hit += all - miss;
    out->miss += miss;
    out->local += all - other;
    out->other += other;
}

enum quire_status quire_node_stats(unsigned node, struct quire_node_stats *out)
{
    if (node >= qi_nnodes)
        return QUIRE_NOT_FOUND;
    *out = (struct quire_node_stats){.tier = tier[node],
                                     .foreign = qi_load_relaxed(&qi_foreign[node]),
                                     .interleave_hit = qi_policy_hits(node)};
    for (unsigned c = 0; c < qi_ncpus; c++)
        out->cpus += qi_cpu_nodes[c] == node;
    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_zones[i].node == node)
            add_zone(&qi_zones[i], out);
    return QUIRE_OK;
}

/* ---- Start ---- */

void qi_node_init(const struct quire_boot *b)
{
    with_cpus = 0;
    for (unsigned c = 0; c < qi_ncpus; c++)
        with_cpus |= 1ull << qi_cpu_nodes[c];
    for (unsigned i = 0; i < qi_nnodes; i++) {
        qi_foreign[i] = 0;
        for (unsigned j = 0; j < qi_nnodes; j++) {
            latency[i][j] = b->latency ? b->latency[i * qi_nnodes + j] : 0;
            bandwidth[i][j] = b->bandwidth ? b->bandwidth[i * qi_nnodes + j] : 0;
        }
    }
    find_tiers();
    qi_policy_init();
}
