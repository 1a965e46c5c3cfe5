/*
 * object/pagetree.h - index -> entry, the page cache's tree.
 *
 * A radix tree of 64-way nodes that grows at the root: depth by the highest index in use, so a file
 * of up to 256 KiB is one node.  An entry is a struct quire_page pointer; its two low bits are a
 * type (0 page), kept free for compressed, swapped and shadow entries.
 *
 * Not locked: the object's tree_lock covers it.
 */
#ifndef QI_OBJECT_PAGETREE_H
#define QI_OBJECT_PAGETREE_H

#include "../base/bits.h"
#include <quire/status.h>

#define QI_PAGETREE_BITS  6
#define QI_PAGETREE_SLOTS (1u << QI_PAGETREE_BITS)

struct qi_pagetree_node {
    uint64_t slots[QI_PAGETREE_SLOTS]; /* children, or entries at shift 0; 0 absent */
    struct qi_pagetree_node *parent;
    uint16_t used; /* slots not 0 */
    uint8_t shift; /* of the index bits this node decides */
    uint8_t slot;  /* in parent */
};

struct qi_pagetree {
    struct qi_pagetree_node *root;
    uint64_t count; /* entries */
};

/* What an insertion may need, taken before the lock: a tree of one level grows to all eleven above its
 * root, and as far down again to the new index. */
#define QI_PAGETREE_MAX_DEPTH 11
#define QI_PAGETREE_MAX_NODES (2 * (QI_PAGETREE_MAX_DEPTH - 1))
struct qi_pagetree_reserve {
    struct qi_pagetree_node *nodes[QI_PAGETREE_MAX_NODES];
    unsigned n;
};

enum quire_status qi_pagetree_setup(void);

/* How many nodes inserting at index needs at this moment. */
unsigned qi_pagetree_needed(const struct qi_pagetree *t, uint64_t index);
/* Fill r up to that many nodes.  Task context, without the lock. */
enum quire_status qi_pagetree_reserve(struct qi_pagetree_reserve *r, unsigned need);
void qi_pagetree_unreserve(struct qi_pagetree_reserve *r);

/* Entry at index, 0 if absent. */
uint64_t qi_pagetree_get(const struct qi_pagetree *t, uint64_t index);
/* Put entry (not 0) at an absent index; false if the reserve does not suffice: nothing changed. */
bool qi_pagetree_insert(struct qi_pagetree *t, uint64_t index, uint64_t entry,
                        struct qi_pagetree_reserve *r);
/* Take the entry out; 0 if absent.  Empty nodes are freed. */
uint64_t qi_pagetree_remove(struct qi_pagetree *t, uint64_t index);
/* Another entry (not 0) in the place of one that is there. */
void qi_pagetree_replace(struct qi_pagetree *t, uint64_t index, uint64_t entry);
/* The lowest node (shift 0) with the first entry at or after *index, which becomes the index of its first
 * slot; NULL: no more. */
const struct qi_pagetree_node *qi_pagetree_leaf(const struct qi_pagetree *t, uint64_t *index);
/* The first entry at or after *index; 0 at the end.  *index becomes its index. */
uint64_t qi_pagetree_next(const struct qi_pagetree *t, uint64_t *index);

#endif
