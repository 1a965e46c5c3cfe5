/*
 * arch/numa.h - what firmware says of nodes: the ACPI tables SRAT, SLIT and HMAT, read from their bytes.  No
 * dependency but k.h and the options, so that the readers are tested and fuzzed in a hosted program.
 */
#ifndef ARCH_NUMA_H
#define ARCH_NUMA_H

#include "k.h"
#include <quire/config.h>

#define NUMA_RANGES 128
#define NUMA_CACHES 4 /* memory-side caches of a node that are kept */

/* How an initiator (CPUs, or a device that fetches by itself) reaches a node's memory; 0: not known. */
struct numa_reach {
    u32 read_latency, write_latency;     /* nanoseconds */
    u32 read_bandwidth, write_bandwidth; /* MB/s */
};

struct numa_cache {
    u64 size;
    u16 line;
    u8 level, indexing, write_policy; /* as ACPI numbers them */
};

struct numa_range {
    u64 base, len;
    u8 node;
    bool hotplug, nonvolatile;
};

struct numa_info {
    /* the caller's: APIC ids of the CPUs by number */
    const u32 *apic_ids;
    unsigned ncpus;

    /* SRAT; nodes are the domains in rising order */
    unsigned nnodes;
    u32 domain[QUIRE_MAX_NODES];
    u8 cpu_node[QUIRE_MAX_CPUS];
    u64 with_cpus, with_memory, with_initiator; /* bit n: node n has some (initiator: generic) */
    struct numa_range ranges[NUMA_RANGES];
    unsigned nranges;

    /* SLIT; [from * nnodes + to] */
    bool has_distance;
    u8 distance[QUIRE_MAX_NODES * QUIRE_MAX_NODES];

    /* HMAT; [initiator * nnodes + memory] */
    bool has_reach;
    struct numa_reach reach[QUIRE_MAX_NODES * QUIRE_MAX_NODES];
    u64 attached; /* bit n: HMAT names the initiator that node n's memory is attached to */
    u8 initiator[QUIRE_MAX_NODES];
    struct numa_cache caches[QUIRE_MAX_NODES][NUMA_CACHES];
    u8 ncaches[QUIRE_MAX_NODES];
};
_Static_assert(QUIRE_MAX_NODES <= 64, "sets of nodes are words");

/* What is wrong with a table, and at which byte. */
struct numa_fault {
    const char *what;
    u64 at;
};

/* One node that has everything. */
void numa_init(struct numa_info *n, const u32 *apic_ids, unsigned ncpus);

/*
 * Take a table of length bytes over (the header's checksum is the caller's business).  False: it is not
 * well formed; *f says where, and n is as it was.  SRAT comes first, for the others name its domains.
 */
bool numa_srat(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f);
bool numa_slit(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f);
bool numa_hmat(struct numa_info *n, const u8 *table, u64 length, struct numa_fault *f);

/* The node of a domain; QUIRE_MAX_NODES: it is none of SRAT's. */
unsigned numa_node_of(const struct numa_info *n, u32 domain);

/*
 * The initiators that reach a node's memory best, as a set of nodes: those HMAT names, or else the
 * fastest, or without HMAT the nearest.  cpus: among nodes with CPUs only.  0: there are none.
 */
u64 numa_best_initiators(const struct numa_info *n, unsigned node, bool cpus);

/* Little-endian, at any alignment. */
static inline u64 numa_field(const u8 *p, unsigned bytes)
{
    u64 v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (u64)p[i] << 8 * i;
    return v;
}

static inline bool numa_bad(struct numa_fault *f, const char *what, u64 at)
{
    *f = (struct numa_fault){what, at};
    return false;
}

#endif
