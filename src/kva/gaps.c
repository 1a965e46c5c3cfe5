/*
 * kva/gaps.c - see gaps.h.
 */
#include "gaps.h"

static uint32_t height(const struct qi_gap_node *n) { return n ? n->height : 0; }
static uint64_t max_gap(const struct qi_gap_node *n) { return n ? n->max_gap : 0; }
static uint64_t gap_before(const struct qi_gap_node *n) { return n->start - n->prev->end; }

static inline uint64_t gap_of(const struct qi_gap_node *n)
{
    uint64_t gap = gap_before(n);

    gap = QI_MAX(gap, max_gap(n->left));
    return QI_MAX(gap, max_gap(n->right));
}

static inline void update(struct qi_gap_node *n)
{
    n->height = QI_MAX(height(n->left), height(n->right)) + 1;
    n->max_gap = gap_of(n);
}

/* Let child stand where old stands under its parent. */
static void replace(struct qi_gaps *g, struct qi_gap_node *old, struct qi_gap_node *child)
{
    struct qi_gap_node *p = old->parent;

    if (!p)
        g->root = child;
    else if (p->left == old)
        p->left = child;
    else
        p->right = child;
    if (child)
        child->parent = p;
}

/*
 *     n              r
 *    / \            / \
 *   a   r    =>    n   c
 *      / \        / \
 *     b   c      a   b
 */
static struct qi_gap_node *rotate_left(struct qi_gaps *g, struct qi_gap_node *n)
{
    struct qi_gap_node *r = n->right;

    replace(g, n, r);
    n->right = r->left;
    if (n->right)
        n->right->parent = n;
    r->left = n;
    n->parent = r;
    update(n);
    update(r);
    return r;
}

static struct qi_gap_node *rotate_right(struct qi_gaps *g, struct qi_gap_node *n)
{
    struct qi_gap_node *l = n->left;

    replace(g, n, l);
    n->left = l->right;
    if (n->left)
        n->left->parent = n;
    l->right = n;
    n->parent = l;
    update(n);
    update(l);
    return l;
}

/* Something below n changed: restore balance and sums from n upwards, as far as they change. */
static void rebalance(struct qi_gaps *g, struct qi_gap_node *n)
{
    for (; n; n = n->parent) {
        uint32_t height_before = n->height;
        uint64_t gap_before_it = n->max_gap;

        if (height(n->right) > height(n->left) + 1) {
            if (height(n->right->left) > height(n->right->right))
                rotate_right(g, n->right);
            n = rotate_left(g, n);
        } else if (height(n->left) > height(n->right) + 1) {
            if (height(n->left->right) > height(n->left->left))
                rotate_left(g, n->left);
            n = rotate_right(g, n);
        } else {
            update(n);
        }
        if (n->height == height_before && n->max_gap == gap_before_it)
            break;
    }
}

/* The gap in front of n changed: the largest of it and of those above, as far as they change. */
static void refresh(struct qi_gap_node *n)
{
    for (; n; n = n->parent) {
        uint64_t gap = gap_of(n);

        if (n->max_gap == gap)
            break;
        n->max_gap = gap;
    }
}

void qi_gaps_init(struct qi_gaps *g, uint64_t start, uint64_t end)
{
    *g = (struct qi_gaps){.root = &g->fence};
    g->floor.end = start;
    g->floor.next = &g->fence;
    g->fence.start = g->fence.end = end;
    g->fence.prev = &g->floor;
    update(&g->fence);
}

/* ---- search ---- */

/* The lowest fit in the gap in front of n. */
static bool fits(const struct qi_gap_node *n, uint64_t size, uint64_t align, uint64_t offset,
                 uint64_t *place)
{
    uint64_t at = qi_align_up(n->prev->end + offset, align) - offset;

    *place = at;
    return at >= n->prev->end && at <= n->start && n->start - at >= size;
}

static struct qi_gap_node *leftmost_with(struct qi_gap_node *n, uint64_t need)
{
    while (max_gap(n->left) >= need)
        n = n->left;
    return n;
}

/* The first node at or below n, then after n, in order, with a gap of need bytes in front. */
static struct qi_gap_node *first_gap(struct qi_gap_node *n, uint64_t need)
{
    if (n->max_gap < need)
        return NULL;
    for (;;) {
        n = leftmost_with(n, need);
        if (gap_before(n) >= need)
            return n;
        n = n->right; /* it must be there: max_gap says so */
    }
}

static struct qi_gap_node *next_gap(struct qi_gap_node *n, uint64_t need)
{
    if (max_gap(n->right) >= need)
        return first_gap(n->right, need);
    for (; n->parent; n = n->parent) {
        struct qi_gap_node *p = n->parent;

        if (p->left != n)
            continue;
        if (gap_before(p) >= need)
            return p;
        if (max_gap(p->right) >= need)
            return first_gap(p->right, need);
    }
    return NULL;
}

bool qi_gaps_find(struct qi_gaps *g, uint64_t size, uint64_t align, uint64_t offset,
                  uint64_t granule, uint64_t *place, struct qi_gap_node **next)
{
    struct qi_gap_node *n;
    uint64_t sure;

    /* a gap of this size holds an aligned place wherever it begins */
    if (!qi_add_overflows(size, align > granule ? align - granule : 0, &sure)) {
        n = first_gap(g->root, sure);
        if (n && fits(n, size, align, offset, place)) {
            *next = n;
            return true;
        }
    }
    for (n = first_gap(g->root, size); n; n = next_gap(n, size))
        if (fits(n, size, align, offset, place)) {
            *next = n;
            return true;
        }
    return false;
}

struct qi_gap_node *qi_gaps_lookup(const struct qi_gaps *g, uint64_t at)
{
    struct qi_gap_node *n = g->root;

    while (n && !(at >= n->start && at < n->end))
        n = at < n->start ? n->left : n->right;
    return n;
}

struct qi_gap_node *qi_gaps_from(const struct qi_gaps *g, uint64_t at)
{
    struct qi_gap_node *n = g->root, *best = (struct qi_gap_node *)&g->fence;

    while (n) {
        if (n->end > at) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return best;
}

/* ---- change ---- */

void qi_gaps_insert(struct qi_gaps *g, struct qi_gap_node *n, struct qi_gap_node *next)
{
    n->left = n->right = NULL;
    n->next = next;
    n->prev = next->prev;
    next->prev = n;
    n->prev->next = n;
    /* in order, n comes right before next: below it to the left, or else right of the node before
     */
    if (!next->left) {
        n->parent = next;
        next->left = n;
    } else {
        n->parent = n->prev;
        n->prev->right = n;
    }
    update(n);
    rebalance(g, n->parent);
    refresh(next);
}

/* Take the node with two children out by putting the one before it, which has no right child, in
 * its place.  Returns where balance may be lost. */
static struct qi_gap_node *remove_inner(struct qi_gaps *g, struct qi_gap_node *n)
{
    struct qi_gap_node *p = n->prev, *from = p->parent;

    if (from == n) {
        from = p;
    } else {
        replace(g, p, p->left);
        p->left = n->left;
        p->left->parent = p;
    }
    p->right = n->right;
    p->right->parent = p;
    replace(g, n, p);
    /* what those above have counted with */
    p->height = n->height;
    p->max_gap = n->max_gap;
    return from;
}

void qi_gaps_remove(struct qi_gaps *g, struct qi_gap_node *n)
{
    struct qi_gap_node *from, *moved = NULL;

    if (n->left && n->right) {
        moved = n->prev;
        from = remove_inner(g, n);
    } else {
        from = n->parent;
        replace(g, n, n->left ? n->left : n->right);
    }
    n->prev->next = n->next;
    n->next->prev = n->prev;
    rebalance(g, from);
    if (moved)
        refresh(moved);
    refresh(n->next);
}

/* ---- verify ---- */

static bool node_right(const struct qi_gap_node *n)
{
    uint64_t gap = gap_before(n), most = QI_MAX(gap, QI_MAX(max_gap(n->left), max_gap(n->right)));
    uint32_t l = height(n->left), r = height(n->right);

    return n->prev->end <= n->start && n->start <= n->end && n->prev->next == n &&
           n->max_gap == most && n->height == QI_MAX(l, r) + 1 && l <= r + 1 && r <= l + 1 &&
           (!n->left || (n->left->parent == n && n->left->start < n->start)) &&
           (!n->right || (n->right->parent == n && n->right->start >= n->end));
}

/* The node after n by the tree's links. */
static const struct qi_gap_node *successor(const struct qi_gap_node *n)
{
    if (n->right) {
        for (n = n->right; n->left;)
            n = n->left;
        return n;
    }
    while (n->parent && n->parent->right == n)
        n = n->parent;
    return n->parent;
}

bool qi_gaps_verify(const struct qi_gaps *g)
{
    const struct qi_gap_node *n = g->root;

    if (!n || n->parent)
        return false;
    while (n->left)
        n = n->left;
    if (n != g->floor.next)
        return false;
    for (; n; n = successor(n)) {
        if (!node_right(n) || successor(n) != n->next)
            return false;
    }
    return g->fence.next == NULL;
}
