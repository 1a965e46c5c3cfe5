/*
 * kva/gaps.h - disjoint address ranges in order, with a search for the lowest gap that is large
 * enough.
 *
 * A height-balanced binary tree (Adelson-Velsky, Landis, 1962) of ranges, threaded as a list.  Each
 * node knows the gap in front of it and the largest gap in its subtree, so that the search descends
 * once.  The range behind the last is a node too (the fence), hence every gap has a node.
 * Nothing here allocates or locks.
 */
#ifndef QI_KVA_GAPS_H
#define QI_KVA_GAPS_H

#include "../base/bits.h"

struct qi_gap_node {
    uint64_t start, end; /* [start, end) */
    struct qi_gap_node *left, *right, *parent;
    struct qi_gap_node *prev, *next; /* by address */
    uint64_t max_gap;                /* largest gap in front of any node of this subtree */
    uint32_t height;                 /* of this subtree: 1 for a leaf */
};

struct qi_gaps {
    struct qi_gap_node *root;
    struct qi_gap_node floor; /* not in the tree: ends where the window starts */
    struct qi_gap_node fence; /* in the tree: starts where the window ends */
};

/* An empty window [start, end). */
void qi_gaps_init(struct qi_gaps *g, uint64_t start, uint64_t end);

/*
 * The lowest place for size bytes (not 0) at which (place + offset) is a multiple of align (a power
 * of two).  *next: the node before which it lies, for qi_gaps_insert.  False: there is none. O(log
 * n) for align no larger than the granularity of all ranges; else O(n) if the window is so
 * fragmented that no gap holds size + align bytes.
 */
bool qi_gaps_find(struct qi_gaps *g, uint64_t size, uint64_t align, uint64_t offset,
                  uint64_t granule, uint64_t *place, struct qi_gap_node **next);

/* Put n, whose start and end are set and lie in the gap in front of next.  O(log n). */
void qi_gaps_insert(struct qi_gaps *g, struct qi_gap_node *n, struct qi_gap_node *next);
void qi_gaps_remove(struct qi_gaps *g, struct qi_gap_node *n);

/* The range that contains at, or NULL. */
struct qi_gap_node *qi_gaps_lookup(const struct qi_gaps *g, uint64_t at);

/* The first range that ends after at; the fence, if there is none. */
struct qi_gap_node *qi_gaps_from(const struct qi_gaps *g, uint64_t at);

/* Order, balance, links and gaps of the whole tree are right. */
bool qi_gaps_verify(const struct qi_gaps *g);

#endif
