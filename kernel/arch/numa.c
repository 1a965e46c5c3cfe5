/*
 * arch/numa.c - nodes: System Resource Affinity Table and System Locality Information Table (ACPI 6.4,
 * 5.2.16, 5.2.17).
 *
 * Purpose.  From bytes that firmware wrote to a numbering of nodes, the node of each CPU and range, and a
 * matrix of distances.  Firmware lies: a table is looked through before anything of it is taken, and is
 * taken as a whole or not at all.
 *
 * Invariants of a numa_info: 1..QUIRE_MAX_NODES nodes; every node named in it is below that; ranges of
 * different nodes do not overlap and do not pass 2^64; distances are 10 to the node itself and more to
 * others.
 *
 * Linux, drivers/acpi/numa/srat.c, drops one bad entry and keeps the rest; then half a machine may be in
 * node 0, where nothing shows that firmware was wrong.
 */
#include "numa.h"

enum { SRAT_CPU = 0, SRAT_MEMORY = 1, SRAT_X2APIC = 2, SRAT_INITIATOR = 5 };
enum { MEMORY_ENABLED = 1, MEMORY_HOTPLUG = 2, MEMORY_NONVOLATILE = 4 };
#define SRAT_ENTRIES 48u
#define SLIT_MATRIX  44u
#define SELF         10u

void numa_init(struct numa_info *n, const u32 *apic_ids, unsigned ncpus)
{
    memset(n, 0, sizeof *n);
    n->apic_ids = apic_ids;
    n->ncpus = ncpus;
    n->nnodes = 1;
    n->with_cpus = n->with_memory = 1;
}

unsigned numa_node_of(const struct numa_info *n, u32 domain)
{
    for (unsigned i = 0; i < n->nnodes; i++)
        if (n->domain[i] == domain)
            return i;
    return QUIRE_MAX_NODES;
}

/* ---- SRAT ---- */

/* An entry that says something, whatever its type. */
struct srat_entry {
    u8 type;
    u32 domain, apic_id;
    u64 base, len;
    u32 flags;
};

/* Decode the entry at e, of e[1] bytes.  False: it is not of a type that matters, or not enabled. */
static bool srat_decode(const u8 *e, struct srat_entry *out)
{
    *out = (struct srat_entry){.type = e[0]};
    switch (e[0]) {
    case SRAT_CPU:
        out->domain = e[2] | (u32)numa_field(e + 9, 3) << 8;
        out->apic_id = e[3];
        return e[4] & 1;
    case SRAT_MEMORY:
        out->domain = (u32)numa_field(e + 2, 4);
        out->base = numa_field(e + 8, 8);
        out->len = numa_field(e + 16, 8);
        out->flags = (u32)numa_field(e + 28, 4);
        return out->flags & MEMORY_ENABLED && out->len;
    case SRAT_X2APIC:
        out->domain = (u32)numa_field(e + 4, 4);
        out->apic_id = (u32)numa_field(e + 8, 4);
        return e[12] & 1;
    case SRAT_INITIATOR: out->domain = (u32)numa_field(e + 4, 4); return e[24] & 1;
    default: return false;
    }
}

static unsigned srat_bytes(u8 type)
{
    static const u8 bytes[] = {16, 40, 24, 0, 0, 32}; /* ACPI 6.4, 5.2.16.1 to .6 */

    return type < K_COUNT(bytes) ? bytes[type] : 0;
}

/* The next entry that says something; false: that was the last. */
static bool srat_next(const u8 *table, u64 length, u64 *at, struct srat_entry *out)
{
    while (*at < length) {
        const u8 *e = table + *at;

        *at += e[1];
        if (srat_decode(e, out))
            return true;
    }
    return false;
}

static bool srat_well_formed(const u8 *table, u64 length, struct numa_fault *f)
{
    if (length < SRAT_ENTRIES)
        return numa_bad(f, "the table is shorter than its head", length);
    for (u64 at = SRAT_ENTRIES; at < length; at += table[at + 1]) {
        const u8 *e = table + at;

        if (length - at < 2 || e[1] < 2 || e[1] > length - at)
            return numa_bad(f, "an entry passes the end", at);
        if (e[1] < srat_bytes(e[0]))
            return numa_bad(f, "an entry is too short for its type", at);
        if (e[0] == SRAT_MEMORY && numa_field(e + 16, 8) &&
            numa_field(e + 8, 8) + (numa_field(e + 16, 8) - 1) < numa_field(e + 8, 8))
            return numa_bad(f, "a memory range passes 2^64", at);
    }
    return true;
}

/* Put a domain in its place; false: there are too many. */
static bool note_domain(struct numa_info *n, u32 domain)
{
    unsigned i = 0;

    while (i < n->nnodes && n->domain[i] < domain)
        i++;
    if (i < n->nnodes && n->domain[i] == domain)
        return true;
    if (n->nnodes == QUIRE_MAX_NODES)
        return false;
    memmove(&n->domain[i + 1], &n->domain[i], (n->nnodes - i) * sizeof(n->domain[0]));
    n->domain[i] = domain;
    n->nnodes++;
    return true;
}

/* A range of a node; false: it is another's already, or there is no room. */
static bool take_range(struct numa_info *n, const struct srat_entry *e, unsigned node,
                       struct numa_fault *f, u64 at)
{
    if (n->nranges == NUMA_RANGES)
        return numa_bad(f, "more memory ranges than are kept", at);
    for (unsigned i = 0; i < n->nranges; i++) {
        const struct numa_range *r = &n->ranges[i];

        if (r->node != node && e->base <= r->base + (r->len - 1) &&
            r->base <= e->base + (e->len - 1))
            return numa_bad(f, "two domains claim the same memory", at);
    }
    n->ranges[n->nranges++] = (struct numa_range){
        e->base, e->len, (u8)node, e->flags & MEMORY_HOTPLUG, e->flags & MEMORY_NONVOLATILE};
    n->with_memory |= 1ull << node;
    return true;
}

static bool take_entries(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f)
{
    struct srat_entry e;

    for (u64 at = SRAT_ENTRIES; srat_next(table, length, &at, &e);) {
        unsigned node = numa_node_of(n, e.domain);

        if (e.type == SRAT_MEMORY) {
            if (!take_range(n, &e, node, f, at))
                return false;
        } else if (e.type == SRAT_INITIATOR) {
            n->with_initiator |= 1ull << node;
        } else {
            for (unsigned c = 0; c < n->ncpus; c++)
                if (n->apic_ids[c] == e.apic_id) {
                    n->cpu_node[c] = (u8)node;
                    n->with_cpus |= 1ull << node;
                }
        }
    }
    return true;
}

bool numa_srat(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f)
{
    static struct numa_info next; /* large; boot is one CPU */
    struct srat_entry e;

    if (!srat_well_formed(table, length, f))
        return false;
    numa_init(&next, n->apic_ids, n->ncpus);
    next.nnodes = 0;
    next.with_cpus = next.with_memory = 0;
    for (u64 at = SRAT_ENTRIES; srat_next(table, length, &at, &e);)
        if (!note_domain(&next, e.domain))
            return numa_bad(f, "more domains than nodes may be", at);
    if (!next.nnodes)
        return numa_bad(f, "no domain has anything", length);
    if (!take_entries(&next, table, length, f))
        return false;
    *n = next;
    return true;
}

/* ---- SLIT: rows and columns are domains ---- */

bool numa_slit(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f)
{
    u64 size = length >= SLIT_MATRIX ? numa_field(table + 36, 8) : 0;

    if (!size || size > 4096 || length - SLIT_MATRIX != size * size)
        return numa_bad(f, "its length does not fit its matrix", length);
    for (u64 i = 0; i < size; i++)
        for (u64 j = 0; j < size; j++) {
            u64 at = SLIT_MATRIX + i * size + j;

            if (i == j ? table[at] != SELF : table[at] <= SELF)
                return numa_bad(f, "a distance that cannot be", at);
        }
    for (unsigned i = 0; i < n->nnodes; i++)
        if (n->domain[i] >= size)
            return numa_bad(f, "SRAT has a domain that it has not", n->domain[i]);
    for (unsigned i = 0; i < n->nnodes; i++)
        for (unsigned j = 0; j < n->nnodes; j++)
            n->distance[i * n->nnodes + j] =
                table[SLIT_MATRIX + n->domain[i] * size + n->domain[j]];
    n->has_distance = true;
    return true;
}

/* ---- who is near ---- */

/* Of the nodes in set, those whose value is least, or (most) greatest; 0 counts as not known, and if
 * nobody's is known, all of them. */
static u64 keep_best(const struct numa_info *n, unsigned node, u64 set, size_t field, bool most)
{
    u32 best = 0;
    u64 kept = 0;

    for (unsigned i = 0; i < n->nnodes; i++) {
        const struct numa_reach *r = &n->reach[i * n->nnodes + node];
        u32 v = *(const u32 *)((const char *)r + field);

        if (!(set >> i & 1) || !v)
            continue;
        if (!kept || (most ? v > best : v < best)) {
            best = v;
            kept = 0;
        }
        if (v == best)
            kept |= 1ull << i;
    }
    return kept ? kept : set;
}

static u64 nearest(const struct numa_info *n, unsigned node, u64 set)
{
    unsigned best = 256;
    u64 kept = 0;

    for (unsigned i = 0; i < n->nnodes; i++) {
        unsigned far = i == node ? SELF : n->has_distance ? n->distance[i * n->nnodes + node] : 20;

        if (!(set >> i & 1) || far > best)
            continue;
        if (far < best)
            kept = 0;
        best = far;
        kept |= 1ull << i;
    }
    return kept;
}

u64 numa_best_initiators(const struct numa_info *n, unsigned node, bool cpus)
{
    u64 set = n->with_cpus | (cpus ? 0 : n->with_initiator);

    if (n->attached >> node & 1 && set >> n->initiator[node] & 1)
        return 1ull << n->initiator[node];
    if (!n->has_reach)
        return nearest(n, node, set);
    set = keep_best(n, node, set, offsetof(struct numa_reach, read_latency), false);
    set = keep_best(n, node, set, offsetof(struct numa_reach, write_latency), false);
    set = keep_best(n, node, set, offsetof(struct numa_reach, read_bandwidth), true);
    return keep_best(n, node, set, offsetof(struct numa_reach, write_bandwidth), true);
}
