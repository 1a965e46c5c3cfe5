/*
 * object/pagetree.c - see pagetree.h.
 *
 * Invariants
 *   P1  a node other than the root has used >= 1; the root has used >= 1 or the tree is empty
 *   P2  node.used is the number of its slots that are not 0
 *   P3  child.shift + 6 == parent.shift, child.slot is its place, child.parent the parent
 *   P4  count is the number of entries
 */
#include "pagetree.h"

#include "../base/check.h"
#include <quire/heap.h>

static struct quire_cache *node_cache;

enum quire_status qi_pagetree_setup(void)
{
    return quire_cache_create("pagetree_node", sizeof(struct qi_pagetree_node), 64,
                              QUIRE_CACHE_ZERO, NULL, &node_cache);
}

static bool covers(const struct qi_pagetree_node *n, uint64_t index)
{
    unsigned top = n->shift + QI_PAGETREE_BITS;

    return top >= 64 || index >> top == 0;
}

static unsigned slot_of(const struct qi_pagetree_node *n, uint64_t index)
{
    return (unsigned)(index >> n->shift) & (QI_PAGETREE_SLOTS - 1);
}

static struct qi_pagetree_node *child(const struct qi_pagetree_node *n, unsigned slot)
{
    return (struct qi_pagetree_node *)(uintptr_t)n->slots[slot];
}

/* Nodes missing on the way to index.  Levels below the lowest present node count. */
unsigned qi_pagetree_needed(const struct qi_pagetree *t, uint64_t index)
{
    const struct qi_pagetree_node *n = t->root;
    unsigned need = 0, shift;

    if (!n) {
        for (shift = QI_PAGETREE_BITS, need = 1; shift < 64 && index >> shift;
             shift += QI_PAGETREE_BITS)
            need++;
        return need;
    }
    if (!covers(n, index)) {
        shift = n->shift;
        do {
            need++;
            shift += QI_PAGETREE_BITS;
        } while (shift + QI_PAGETREE_BITS < 64 && index >> (shift + QI_PAGETREE_BITS));
        return need + shift / QI_PAGETREE_BITS; /* a fresh path below the new root */
    }
    while (n->shift) {
        const struct qi_pagetree_node *c = child(n, slot_of(n, index));

        if (!c)
            return need + n->shift / QI_PAGETREE_BITS;
        n = c;
    }
    return need;
}

enum quire_status qi_pagetree_reserve(struct qi_pagetree_reserve *r, unsigned need)
{
    while (r->n < need) {
        struct qi_pagetree_node *n = quire_cache_alloc(node_cache, QUIRE_GFP_KERNEL);

        if (!n) {
            qi_pagetree_unreserve(r);
            return QUIRE_NO_MEMORY;
        }
        r->nodes[r->n++] = n;
    }
    return QUIRE_OK;
}

void qi_pagetree_unreserve(struct qi_pagetree_reserve *r)
{
    while (r->n)
        quire_cache_free(node_cache, r->nodes[--r->n]);
}

/* The lowest node on the way to index, or NULL. */
static struct qi_pagetree_node *lowest(const struct qi_pagetree *t, uint64_t index)
{
    struct qi_pagetree_node *n = t->root;

    if (!n || !covers(n, index))
        return NULL;
    while (n && n->shift)
        n = child(n, slot_of(n, index));
    return n;
}

uint64_t qi_pagetree_get(const struct qi_pagetree *t, uint64_t index)
{
    const struct qi_pagetree_node *n = lowest(t, index);

    return n ? n->slots[slot_of(n, index)] : 0;
}

void qi_pagetree_replace(struct qi_pagetree *t, uint64_t index, uint64_t entry)
{
    struct qi_pagetree_node *n = lowest(t, index);

    QI_ASSERT(n && entry && n->slots[slot_of(n, index)]);
    n->slots[slot_of(n, index)] = entry;
}

static struct qi_pagetree_node *take_node(struct qi_pagetree_reserve *r, unsigned shift)
{
    struct qi_pagetree_node *n = r->nodes[--r->n];

    n->parent = NULL;
    n->used = 0;
    n->shift = (uint8_t)shift;
    n->slot = 0;
    return n;
}

static void attach(struct qi_pagetree_node *parent, unsigned slot, struct qi_pagetree_node *c)
{
    parent->slots[slot] = (uintptr_t)c;
    parent->used++;
    c->parent = parent;
    c->slot = (uint8_t)slot;
}

bool qi_pagetree_insert(struct qi_pagetree *t, uint64_t index, uint64_t entry,
                        struct qi_pagetree_reserve *r)
{
    struct qi_pagetree_node *n;

    if (r->n < qi_pagetree_needed(t, index))
        return false;
    if (!t->root) {
        unsigned shift = 0;

        while (shift + QI_PAGETREE_BITS < 64 && index >> (shift + QI_PAGETREE_BITS))
            shift += QI_PAGETREE_BITS;
        t->root = take_node(r, shift);
    }
    while (!covers(t->root, index)) {
        n = take_node(r, t->root->shift + QI_PAGETREE_BITS);
        attach(n, 0, t->root);
        t->root = n;
    }
    for (n = t->root; n->shift; n = child(n, slot_of(n, index)))
        if (!child(n, slot_of(n, index)))
            attach(n, slot_of(n, index), take_node(r, n->shift - QI_PAGETREE_BITS));
    QI_ASSERT(!n->slots[slot_of(n, index)]);
    n->slots[slot_of(n, index)] = entry;
    n->used++;
    t->count++;
    return true;
}

/* Free n and its ancestors as long as they are empty (P1). */
static void prune(struct qi_pagetree *t, struct qi_pagetree_node *n)
{
    while (n && !n->used) {
        struct qi_pagetree_node *parent = n->parent;

        if (parent) {
            parent->slots[n->slot] = 0;
            parent->used--;
        } else {
            t->root = NULL;
        }
        quire_cache_free(node_cache, n);
        n = parent;
    }
}

uint64_t qi_pagetree_remove(struct qi_pagetree *t, uint64_t index)
{
    struct qi_pagetree_node *n = lowest(t, index);
    uint64_t entry;
    unsigned slot;

    if (!n)
        return 0;
    slot = slot_of(n, index);
    entry = n->slots[slot];
    if (entry) {
        n->slots[slot] = 0;
        n->used--;
        t->count--;
        prune(t, n);
    }
    return entry;
}

/* First index behind the subtree of slot in n, or 0 if that is 2^64. */
static uint64_t after(const struct qi_pagetree_node *n, uint64_t index)
{
    return ((index >> n->shift) + 1) << n->shift;
}

/* The first entry in the subtree of n at or after *index, or 0: then *index is behind the part of
 * the subtree that was searched. */
static uint64_t search_down(const struct qi_pagetree_node *n, uint64_t *index)
{
    for (;;) {
        unsigned slot = slot_of(n, *index);

        if (!n->slots[slot]) {
            *index = after(n, *index);
            if (slot == QI_PAGETREE_SLOTS - 1 || !*index)
                return 0;
        } else if (!n->shift) {
            return n->slots[slot];
        } else {
            n = child(n, slot);
        }
    }
}

uint64_t qi_pagetree_next(const struct qi_pagetree *t, uint64_t *index)
{
    /* a dead end inside a subtree starts again from the root, behind it: nodes are few */
    while (t->root && covers(t->root, *index)) {
        uint64_t entry = search_down(t->root, index);

        if (entry || !*index)
            return entry;
    }
    return 0;
}

const struct qi_pagetree_node *qi_pagetree_leaf(const struct qi_pagetree *t, uint64_t *index)
{
    if (!qi_pagetree_next(t, index))
        return NULL;
    *index = qi_align_down(*index, QI_PAGETREE_SLOTS);
    return lowest(t, *index);
}
