/*
 * kva/gaps.h - disjoint address ranges in order, with a search for the lowest gap that is large
 * enough.  gaps.c has the theory.  Nothing here allocates or locks.
 *
 * The range behind the last is a node too (the fence), hence every gap is in front of a node.
 */
#ifndef QI_KVA_GAPS_H
#define QI_KVA_GAPS_H

#include "../base/bits.h"

/* A range; one of each row of neighbours, its head, is a node of the tree as well. */
struct qi_gap_node {
    uint64_t start, end;      /* [start, end) */
    struct qi_gap_node *head; /* of its row */
    struct qi_gap_node *left, *right, *parent;
    uint64_t max_gap;                /* head: largest gap in the rows of this subtree */
    uint64_t row_gap;                /* head: largest in front of a range of this row */
    struct qi_gap_node *prev, *next; /* by address */
    struct qi_gap_node *first;       /* head: of the row */
    uint32_t n;                      /* head: ranges in the row */
    uint32_t height;                 /* head: of this subtree, 1 for a leaf */
};

struct qi_gaps {
    struct qi_gap_node floor; /* no range: ends where the window starts; left: the root */
    struct qi_gap_node fence; /* starts where the window ends */
    struct qi_gap_node nil;   /* where a row has no child */
};

/* An empty window [start, end).  g stays where it is. */
void qi_gaps_init(struct qi_gaps *g, uint64_t start, uint64_t end);

/*
 * A place for size bytes (not 0) at which (place + offset) is a multiple of align (a power of two): the
 * lowest for align no larger than granule, of which all ranges are multiples; else the lowest in a gap
 * that holds size + align - granule, and only if there is none in a smaller one.  *next: the node before
 * which it lies, for qi_gaps_insert.  False: there is none.  O(log n); O(n) if it comes to smaller gaps.
 */
bool qi_gaps_find(struct qi_gaps *g, uint64_t size, uint64_t align, uint64_t offset,
                  uint64_t granule, uint64_t *place, struct qi_gap_node **next);

/* Put n, whose start and end are set and lie in the gap in front of next.  O(log n), no search. */
void qi_gaps_insert(struct qi_gaps *g, struct qi_gap_node *n, struct qi_gap_node *next);
void qi_gaps_remove(struct qi_gaps *g, struct qi_gap_node *n);

/* The range that contains at, or NULL. */
struct qi_gap_node *qi_gaps_lookup(const struct qi_gaps *g, uint64_t at);

/* The first range that ends after at; the fence, if there is none. */
struct qi_gap_node *qi_gaps_from(const struct qi_gaps *g, uint64_t at);

/* Order, rows, balance, links and gaps are right.  Ends whatever is damaged but a pointer to nowhere. */
bool qi_gaps_verify(const struct qi_gaps *g);

#endif
