/*
 * quire/policy.h - from which node memory comes: policies, and what is known of nodes.
 *
 * A policy says for each request of a holder (an address space, a range of it, a task) which nodes may
 * serve it and which comes first.  It is made once and never changes, so that it is read without a
 * lock; who wants another makes another and changes the pointer.  NULL is the default policy.
 *
 *     DEFAULT      this CPU's node, then the others by distance; a request of many bytes
 *                  (interleave_threshold of quire/pressure.h) goes over all nodes in turn
 *     LOCAL        this CPU's node, then the others, whatever the size
 *     BIND         the nodes of the set and no other, nearest first
 *     PREFERRED    the lowest node of the set, then the others by distance from it
 *     PREFERRED_MANY   the nodes of the set, nearest first, then the others
 *     INTERLEAVE   request number i from the i-th node of the set, round and round; then the others
 *     WEIGHTED     the same, each node as often in a round as its weight
 *
 * A set is a mask, bit n for node n.  Not every holder may use every node (allowed, as with cpusets), and
 * that may change:
 *
 *     (no flag)    the set is cut to what is allowed; when that changes, the n-th allowed node is
 *                  replaced by the then n-th
 *     STATIC       the nodes that were named, as far as they are allowed now
 *     RELATIVE     bit n means the n-th allowed node, whichever it is; round if there are fewer
 *
 * Sources.  Linux, mm/mempolicy.c, include/uapi/linux/mempolicy.h; set_mempolicy(2), numa(7); ACPI 6.4,
 * 5.2.27 (HMAT).
 */
#ifndef QUIRE_POLICY_H
#define QUIRE_POLICY_H

#include <quire/frame.h>

enum quire_policy_mode {
    QUIRE_POLICY_DEFAULT,
    QUIRE_POLICY_LOCAL,
    QUIRE_POLICY_BIND,
    QUIRE_POLICY_PREFERRED,
    QUIRE_POLICY_PREFERRED_MANY,
    QUIRE_POLICY_INTERLEAVE,
    QUIRE_POLICY_WEIGHTED,
    QUIRE_POLICY_MODES
};
#define QUIRE_POLICY_STATIC   1u
#define QUIRE_POLICY_RELATIVE 2u

/* The memory is the caller's.  To be read by all, written by nobody after quire_policy_init(). */
struct quire_policy {
    uint32_t refs;    /* atomic */
    uint8_t mode;     /* enum quire_policy_mode */
    uint8_t flags;    /* QUIRE_POLICY_STATIC or RELATIVE, or 0 */
    uint16_t round;   /* INTERLEAVE, WEIGHTED: requests until the first node comes again */
    uint64_t asked;   /* the set as it was given */
    uint64_t allowed; /* what it was cut to */
    uint64_t nodes;   /* what came of both */
    uint8_t weights[QUIRE_MAX_NODES]; /* WEIGHTED: of each node of nodes, as it was then */
};

/*
 * Make a policy, with one reference.  nodes: the set; allowed: nodes that its holder may use.
 *
 *   INVALID    mode or flags are none, or both flags; a node that the machine has not; a set where the
 *              mode wants none (DEFAULT, LOCAL), none where it wants one; flags without a set
 *   NOT_FOUND  none of the nodes in effect is allowed and has memory
 *
 * PREFERRED without a set and flags is LOCAL.  Any context.
 */
enum quire_status quire_policy_init(struct quire_policy *p, enum quire_policy_mode mode,
                                    unsigned flags, uint64_t nodes, uint64_t allowed);
/* The same policy for a holder who may use other nodes now, with one reference; NOT_FOUND: none of those
 * has memory.  A set of which nothing is left becomes all that is allowed. */
enum quire_status quire_policy_rebind(const struct quire_policy *old, uint64_t allowed,
                                      struct quire_policy *p);
/* They say the same. */
bool quire_policy_equal(const struct quire_policy *a, const struct quire_policy *b);
/* One holder more, or less; put: true: that was the last, the memory is the caller's again. */
void quire_policy_get(struct quire_policy *p);
QUIRE_MUST_USE bool quire_policy_put(struct quire_policy *p);

/* The node that a request of one frame is served from first.  index: of the request among those of the
 * holder, as the offset of the page in the range. */
unsigned quire_policy_node(const struct quire_policy *p, uint64_t index);
/* As quire_page_alloc(); index counts requests of this order. */
struct quire_page *quire_policy_alloc(const struct quire_policy *p, unsigned order, quire_gfp gfp,
                                      uint64_t index);
/* As quire_page_alloc_bulk().  Of requests number index to index + n - 1 each node gets its share, in pages
 * that follow one another in out. */
size_t quire_policy_alloc_bulk(const struct quire_policy *p, size_t n, struct quire_page **out,
                               quire_gfp gfp, uint64_t index);

/* The weight that WEIGHTED policies made from now on give the node, 1..255; 0: the default, by its
 * bandwidth (HMAT), or 1.  INVALID: no such node. */
enum quire_status quire_node_set_weight(unsigned node, unsigned weight);
unsigned quire_node_weight(unsigned node);

/* ---- Nodes ---- */

struct quire_node_stats {
    uint64_t present, managed, free; /* frames; free includes the lists of CPUs */
    unsigned cpus;
    unsigned tier; /* 0: the fastest memory */
    /* frames allocated so far, as numastat(8) has them: */
    uint64_t hit;            /* here, as was wanted */
    uint64_t miss;           /* here, though another node was wanted */
    uint64_t foreign;        /* elsewhere, though this node was wanted */
    uint64_t interleave_hit; /* of hit: its turn in an interleaving */
    uint64_t local, other;   /* here, by CPUs of this node, of others */
};
/* NOT_FOUND: no such node.  O(zones * CPUs).  Task context; counters that are written meanwhile. */
enum quire_status quire_node_stats(unsigned node, struct quire_node_stats *out);
/* Frames that the CPU has taken from the node's memory through its own lists: whose node is whose. */
uint64_t quire_node_affinity(unsigned node, unsigned cpu);

/* The CPUs that should work on what lies in the node's memory: its own; if it has none, those of the
 * nearest node that has.  Returns the node whose they are. */
unsigned quire_node_cpus(unsigned node, uint64_t cpus[QUIRE_MAX_CPUS / 64 + 1]);

/* What struct quire_boot said; 0: not known. */
uint32_t quire_node_latency(unsigned from, unsigned to);
uint32_t quire_node_bandwidth(unsigned from, unsigned to);
/* Nodes with memory, best first from the view of a CPU of the node: by latency, bandwidth, then
 * distance, or by bandwidth first.  Returns how many. */
enum quire_access { QUIRE_BY_LATENCY, QUIRE_BY_BANDWIDTH };
unsigned quire_node_targets(unsigned from, enum quire_access by, uint8_t out[QUIRE_MAX_NODES]);
/* Memory as fast as the memory of CPUs is tier 0 (or less far down than faster memory), slower tiers
 * have higher numbers.  How many there are. */
unsigned quire_node_tier(unsigned node);
unsigned quire_node_tiers(void);
/* Where what is not used much may move from the node: the nearest of the next slower tier;
 * QUIRE_NODE_ANY: nowhere. */
unsigned quire_node_demotion(unsigned node);

#endif
