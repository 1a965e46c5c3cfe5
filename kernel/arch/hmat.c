/*
 * arch/hmat.c - Heterogeneous Memory Attribute Table (ACPI 6.3, 5.2.27): which initiator memory is attached
 * to, how fast who reaches what, and caches in front of memory.
 *
 * Structures are checked, all of them, before one is taken: lengths, matrices, and that each domain is one
 * of SRAT's.  A value that says "nothing" (0), "unreachable" (ffff), or that does not fit 32 bits in our
 * units is 0.  Matrices of the memory's own latency and bandwidth are taken; those of its caches, that
 * need another one to mean something, are passed over.
 *
 * Linux, drivers/acpi/numa/hmat.c, for what the units of revision 1 are.
 */
#include "numa.h"

enum { HMAT_ATTRIBUTES = 0, HMAT_LOCALITY = 1, HMAT_CACHE = 2 };
enum { READ = 1, WRITE = 2 };
#define HMAT_ENTRIES   40u
#define LOCALITY_HEAD  32u
#define ATTACHED       1u
#define MAX_INITIATORS 4096u

/* A type 1 structure. */
struct locality {
    const u8 *initiators, *targets, *entries;
    u32 ninitiators, ntargets;
    u8 hierarchy, type;
    u64 unit;
};

/* s: at least LOCALITY_HEAD bytes. */
static void locality_decode(const u8 *s, struct locality *l)
{
    l->hierarchy = s[8] & 15;
    l->type = s[9];
    l->ninitiators = (u32)numa_field(s + 12, 4);
    l->ntargets = (u32)numa_field(s + 16, 4);
    l->unit = numa_field(s + 24, 8);
    l->initiators = s + LOCALITY_HEAD;
    l->targets = l->initiators + 4ull * l->ninitiators;
    l->entries = l->targets + 4ull * l->ntargets;
}

static bool known(const struct numa_info *n, const u8 *domain)
{
    return numa_node_of(n, (u32)numa_field(domain, 4)) < QUIRE_MAX_NODES;
}

static bool locality_fits(const struct numa_info *n, const u8 *s, u64 length, struct numa_fault *f,
                          u64 at)
{
    u64 initiators = numa_field(s + 12, 4), targets = numa_field(s + 16, 4);
    struct locality l;

    if (initiators > MAX_INITIATORS || targets > MAX_INITIATORS ||
        length < LOCALITY_HEAD + 4 * initiators + 4 * targets + 2 * initiators * targets)
        return numa_bad(f, "a matrix passes the end of its structure", at);
    locality_decode(s, &l);
    if (l.type > 5)
        return numa_bad(f, "a matrix of unknown values", at);
    for (u64 i = 0; i < initiators + targets; i++) /* the lists follow one another */
        if (!known(n, l.initiators + 4 * i))
            return numa_bad(f, "a matrix names a domain that SRAT has not", at);
    return true;
}

/* length: of the structure; it lies inside the table. */
static bool fits(const struct numa_info *n, const u8 *s, u64 length, struct numa_fault *f, u64 at)
{
    static const u8 least[] = {40, LOCALITY_HEAD, 32};
    u64 type = numa_field(s, 2);

    if (type >= K_COUNT(least))
        return true; /* of a later version: passed over */
    if (length < least[type])
        return numa_bad(f, "a structure is too short for its type", at);
    if (type == HMAT_LOCALITY)
        return locality_fits(n, s, length, f, at);
    if (type == HMAT_CACHE)
        return known(n, s + 8) || numa_bad(f, "a cache is of a domain that SRAT has not", at);
    if (!known(n, s + 16))
        return numa_bad(f, "memory is of a domain that SRAT has not", at);
    return !(s[8] & ATTACHED) || known(n, s + 12) ||
           numa_bad(f, "memory is attached to a domain that SRAT has not", at);
}

static bool well_formed(const struct numa_info *n, const u8 *table, u64 length,
                        struct numa_fault *f)
{
    if (length < HMAT_ENTRIES)
        return numa_bad(f, "the table is shorter than its head", length);
    if (table[8] < 1 || table[8] > 2)
        return numa_bad(f, "a revision that is not known", table[8]);
    for (u64 at = HMAT_ENTRIES, size; at < length; at += size) {
        if (length - at < 8)
            return numa_bad(f, "a structure passes the end", at);
        size = numa_field(table + at + 4, 4);
        if (size < 8 || size > length - at)
            return numa_bad(f, "a structure passes the end", at);
        if (!fits(n, table + at, size, f, at))
            return false;
    }
    return true;
}

/* ---- taking ---- */

/* Revision 1 counts tenths of our units, revision 2 picoseconds and MB/s. */
static u32 normal(u64 entry, u64 unit, bool latency, u8 revision)
{
    u64 v, by = revision == 1 ? 10 : latency ? 1000 : 1;

    if (!entry || entry == 0xffff || __builtin_mul_overflow(entry, unit, &v))
        return 0;
    v = v / by + (v % by != 0);
    return v > UINT32_MAX ? 0 : (u32)v;
}

static void set_reach(struct numa_reach *r, u8 type, u32 v)
{
    unsigned which = type % 3 ? type % 3 : READ | WRITE;

    if (type < 3) {
        r->read_latency = which & READ ? v : r->read_latency;
        r->write_latency = which & WRITE ? v : r->write_latency;
    } else {
        r->read_bandwidth = which & READ ? v : r->read_bandwidth;
        r->write_bandwidth = which & WRITE ? v : r->write_bandwidth;
    }
}

static void take_locality(struct numa_info *n, const u8 *s, u8 revision)
{
    struct locality l;

    locality_decode(s, &l);
    if (l.hierarchy)
        return;
    for (u32 i = 0; i < l.ninitiators; i++)
        for (u32 j = 0; j < l.ntargets; j++) {
            unsigned from = numa_node_of(n, (u32)numa_field(l.initiators + 4 * i, 4));
            unsigned to = numa_node_of(n, (u32)numa_field(l.targets + 4 * j, 4));
            u64 entry = numa_field(l.entries + 2 * ((u64)i * l.ntargets + j), 2);

            set_reach(&n->reach[from * n->nnodes + to], l.type,
                      normal(entry, l.unit, l.type < 3, revision));
        }
    n->has_reach = true;
}

static void take_cache(struct numa_info *n, const u8 *s)
{
    unsigned node = numa_node_of(n, (u32)numa_field(s + 8, 4));
    u32 a = (u32)numa_field(s + 24, 4);

    if (n->ncaches[node] == NUMA_CACHES)
        return;
    n->caches[node][n->ncaches[node]++] = (struct numa_cache){
        .size = numa_field(s + 16, 8),
        .line = (u16)(a >> 16),
        .level = a >> 4 & 15,
        .indexing = a >> 8 & 15,
        .write_policy = a >> 12 & 15,
    };
}

static void take_attributes(struct numa_info *n, const u8 *s)
{
    unsigned node = numa_node_of(n, (u32)numa_field(s + 16, 4));

    if (!(s[8] & ATTACHED))
        return;
    n->attached |= 1ull << node;
    n->initiator[node] = (u8)numa_node_of(n, (u32)numa_field(s + 12, 4));
}

bool numa_hmat(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f)
{
    if (!well_formed(n, table, length, f))
        return false;
    for (u64 at = HMAT_ENTRIES; at < length; at += numa_field(table + at + 4, 4)) {
        const u8 *s = table + at;

        switch (numa_field(s, 2)) {
        case HMAT_ATTRIBUTES: take_attributes(n, s); break;
        case HMAT_LOCALITY: take_locality(n, s, table[8]); break;
        case HMAT_CACHE: take_cache(n, s); break;
        }
    }
    return true;
}
