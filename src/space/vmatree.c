/*
 * space/vmatree.c - vmas by address: a rank-balanced tree with gaps, and a list.
 *
 * Each vma knows the largest gap below any vma of its subtree, so that the highest gap of a given
 * size is found in O(log n).  The list gives neighbours at once, which also says where a new vma
 * goes in the tree: as right child of its predecessor or, that taken, as left child of its
 * successor; no descent is needed to insert.
 *
 * Invariants
 *   T1  in-order walk of the tree == list order == rising, disjoint ranges
 *   T2  rank(v) is 1 or 2 above that of each child; none has 0, a leaf 1
 *   T3  max_gap(v) = max(gap(v), max_gap of children); gap(v) = floor(v) - end of prev, where floor
 *       leaves the guard of a growing stack, and the end before the first is the space's start
 *
 * Cost: look-up one comparison pair a level, 1.44 log2 n levels at worst if vmas only come, 2 log2 n if they
 * come and go.  Insertion and removal change O(1) ranks on average, whatever their order, and walk up for
 * gaps only while these change.  Gaps are put right before ranks: a rotation keeps them right by itself.
 *
 * Source: Haeupler, Sen, Tarjan, "Rank-Balanced Trees", 2015; gaps as in Linux's former rb_subtree_gap.
 * Rejected: AVL trees, the same but for removals: a vma that comes and goes where the tree is full moves the
 * height of all above it each time (750 of 4,400 instructions of mmap and munmap among 20,000).  Linux's
 * maple tree: 2,500 instructions an insertion in its own measurement.  Rows of neighbours for each node, as
 * in kva/gaps.c: 32 bytes more for each vma, whose ends move while it is in the tree.
 */
#include "space.h"

static uint64_t gap_of(const struct quire_space *s, const struct qi_vma *v)
{
    uint64_t below = v->prev ? v->prev->end : s->start, floor = qi_vma_floor(v);

    return floor > below ? floor - below : 0;
}

static unsigned rank(const struct qi_vma *v) { return v ? v->rank : 0; }
static uint64_t max_gap(const struct qi_vma *v) { return v ? v->max_gap : 0; }

static uint64_t gap_of_subtree(const struct quire_space *s, const struct qi_vma *v)
{
    uint64_t gap = gap_of(s, v), l = max_gap(v->left), r = max_gap(v->right);

    gap = QI_MAX(gap, l);
    return QI_MAX(gap, r);
}

/* The gap of v, or a child of it, is another: T3 from v upwards, as far as something changes. */
static void fix_gaps(const struct quire_space *s, struct qi_vma *v)
{
    for (; v; v = v->parent) {
        uint64_t gap = gap_of_subtree(s, v);

        if (v->max_gap == gap)
            break;
        v->max_gap = gap;
    }
}

/* The same when the gap of v, and no other, has grown. */
static void raise_gaps(const struct quire_space *s, struct qi_vma *v)
{
    uint64_t gap = gap_of(s, v);

    for (; v && v->max_gap < gap; v = v->parent)
        v->max_gap = gap;
}

static void replace_child(struct quire_space *s, struct qi_vma *parent, struct qi_vma *old,
                          struct qi_vma *new)
{
    if (!parent)
        s->root = new;
    else if (parent->left == old)
        parent->left = new;
    else
        parent->right = new;
    if (new)
        new->parent = parent;
}

/* v has come to be below top: the vmas below top are those that were below v. */
static void lowered(const struct quire_space *s, struct qi_vma *v, struct qi_vma *top)
{
    top->max_gap = v->max_gap;
    v->max_gap = gap_of_subtree(s, v);
}

/*      v            r
 *     / \          / \
 *    a   r   ->   v   c      and the mirror image
 *       / \      / \
 *      b   c    a   b      */
static void rotate_left(struct quire_space *s, struct qi_vma *v)
{
    struct qi_vma *r = v->right;

    replace_child(s, v->parent, v, r);
    v->right = r->left;
    if (v->right)
        v->right->parent = v;
    r->left = v;
    v->parent = r;
    lowered(s, v, r);
}

static void rotate_right(struct quire_space *s, struct qi_vma *v)
{
    struct qi_vma *l = v->left;

    replace_child(s, v->parent, v, l);
    v->left = l->right;
    if (v->left)
        v->left->parent = v;
    l->right = v;
    v->parent = l;
    lowered(s, v, l);
}

/* v has the rank of p, above it, whose other child is two below: v, or its child on that side, comes up. */
static void lift(struct quire_space *s, struct qi_vma *v, struct qi_vma *p)
{
    bool left = p->left == v;
    struct qi_vma *inner = left ? v->right : v->left;

    if (rank(inner) + 1 == v->rank) {
        inner->rank++;
        v->rank--;
        if (left)
            rotate_left(s, v);
        else
            rotate_right(s, v);
    }
    p->rank--;
    if (left)
        rotate_right(s, p);
    else
        rotate_left(s, p);
}

/* Restore T2 above v, which is new. */
static void promote(struct quire_space *s, struct qi_vma *v)
{
    for (struct qi_vma *p = v->parent; p && p->rank == v->rank; p = v->parent) {
        if (p->rank - rank(p->left == v ? p->right : p->left) == 2) {
            lift(s, v, p);
            return;
        }
        p->rank++;
        v = p;
    }
}

/* A child of p is three below it, the other, y, one, and one of y's children one below that: y, or its child
 * on the side of the first, comes up. */
static void sink(struct quire_space *s, struct qi_vma *p, struct qi_vma *y)
{
    bool left = p->left == y;
    struct qi_vma *inner = left ? y->right : y->left, *outer = left ? y->left : y->right;

    if (rank(outer) + 1 == y->rank) {
        y->rank++;
        p->rank--;
    } else {
        inner->rank += 2;
        y->rank--;
        p->rank -= 2;
        if (left)
            rotate_left(s, y);
        else
            rotate_right(s, y);
    }
    if (left)
        rotate_right(s, p);
    else
        rotate_left(s, p);
    if (!p->left && !p->right)
        p->rank = 1;
}

/* Restore T2 from p upwards: its child x (NULL: one that it has not) is lower than before. */
static void demote(struct quire_space *s, struct qi_vma *p, struct qi_vma *x)
{
    if (p && !p->left && !p->right) {
        p->rank = 1;
        x = p;
        p = p->parent;
    }
    for (; p && p->rank - rank(x) == 3; x = p, p = p->parent) {
        struct qi_vma *y = p->left == x ? p->right : p->left;

        if (p->rank - y->rank == 1) {
            if (y->rank - rank(y->left) == 1 || y->rank - rank(y->right) == 1) {
                sink(s, p, y);
                return;
            }
            y->rank--;
        }
        p->rank--;
    }
}

struct qi_vma *qi_vma_find(struct quire_space *s, uint64_t va)
{
    struct qi_vma *v = qi_load_relaxed(&s->hit), *best = NULL;

    if (v && va >= v->start && va < v->end)
        return v;
    for (v = s->root; v;) {
        if (va < v->end) {
            best = v;
            if (va >= v->start)
                break;
            v = v->left;
        } else {
            v = v->right;
        }
    }
    if (best)
        qi_store_relaxed(&s->hit, best);
    return best;
}

void qi_vma_link(struct quire_space *s, struct qi_vma *v, struct qi_vma *prev)
{
    struct qi_vma *next = prev ? prev->next : s->first;

    v->prev = prev;
    v->next = next;
    v->left = v->right = NULL;
    v->rank = 1;
    if (prev)
        prev->next = v;
    else
        s->first = v;
    if (next)
        next->prev = v;
    else
        s->last = v;
    if (prev && !prev->right) {
        prev->right = v;
        v->parent = prev;
    } else if (next) {
        next->left = v; /* free: otherwise next's predecessor would be inside it */
        v->parent = next;
    } else {
        s->root = v;
        v->parent = NULL;
    }
    s->nvmas++;
    v->max_gap = gap_of(s, v);
    fix_gaps(s, v->parent);
    if (next)
        fix_gaps(s, next);
    promote(s, v);
}

void qi_vma_unlink(struct quire_space *s, struct qi_vma *v)
{
    struct qi_vma *from, *low; /* low stands below from where a node is missing */

    if (s->hit == v)
        s->hit = NULL;
    if (v->prev)
        v->prev->next = v->next;
    else
        s->first = v->next;
    if (v->next)
        v->next->prev = v->prev;
    else
        s->last = v->prev;
    if (v->left && v->right) {
        /* the successor takes v's place; it has no left child */
        struct qi_vma *n = v->next;

        from = n->parent == v ? n : n->parent;
        low = n->right;
        if (n->parent != v) {
            replace_child(s, n->parent, n, n->right);
            n->right = v->right;
            n->right->parent = n;
        }
        n->left = v->left;
        n->left->parent = n;
        replace_child(s, v->parent, v, n);
        /* what those above have counted with */
        n->rank = v->rank;
        n->max_gap = v->max_gap;
    } else {
        from = v->parent;
        low = v->left ? v->left : v->right;
        replace_child(s, from, v, low);
    }
    s->nvmas--;
    if (v->next)
        raise_gaps(s, v->next);
    fix_gaps(s, from);
    if (v->next)
        fix_gaps(s, v->next); /* it may stand in v's place, over other children */
    demote(s, from, low);
}

void qi_vma_moved(struct quire_space *s, struct qi_vma *v)
{
    fix_gaps(s, v);
    if (v->next)
        fix_gaps(s, v->next);
}

/* The highest vma of v's subtree with a gap of at least len below it; v's subtree has one. */
static struct qi_vma *highest_with_gap(const struct quire_space *s, struct qi_vma *v, uint64_t len)
{
    for (;;) {
        if (max_gap(v->right) >= len)
            v = v->right;
        else if (gap_of(s, v) >= len)
            return v;
        else
            v = v->left;
    }
}

/* The next vma below v (in address) with such a gap, or NULL. */
static struct qi_vma *next_lower_with_gap(const struct quire_space *s, struct qi_vma *v,
                                          uint64_t len)
{
    if (max_gap(v->left) >= len)
        return highest_with_gap(s, v->left, len);
    for (;;) {
        struct qi_vma *child = v;

        v = v->parent;
        if (!v)
            return NULL;
        if (v->right != child)
            continue;
        if (gap_of(s, v) >= len)
            return v;
        if (max_gap(v->left) >= len)
            return highest_with_gap(s, v->left, len);
    }
}

/* The highest aligned place for len in [from, to), or 0. */
static uint64_t fit(uint64_t from, uint64_t to, uint64_t len, uint64_t align)
{
    uint64_t at;

    if (to <= from || to - from < len)
        return 0;
    at = qi_align_down(to - len, align);
    return at >= from ? at : 0;
}

uint64_t qi_gap_find(struct quire_space *s, uint64_t len, uint64_t align, uint64_t low,
                     uint64_t high)
{
    struct qi_vma *v;
    uint64_t at, above;

    if (low < s->start)
        low = s->start;
    if (high > s->end)
        high = s->end;
    /* above the last vma */
    above = s->last ? s->last->end : s->start;
    at = fit(QI_MAX(above, low), high, len, align);
    if (at || !s->last)
        return at;
    /* then below each vma, from the one at or above high downwards */
    for (v = qi_vma_find(s, high - 1), v = v ? v : s->last; v; v = next_lower_with_gap(s, v, len)) {
        uint64_t below = v->prev ? v->prev->end : s->start;

        at = fit(QI_MAX(below, low), QI_MIN(qi_vma_floor(v), high), len, align);
        if (at)
            return at;
        if (below <= low)
            return 0;
    }
    return 0;
}

static bool below(const struct qi_vma *child, const struct qi_vma *v)
{
    return rank(child) + 1 == v->rank || rank(child) + 2 == v->rank;
}

static bool node_ok(const struct quire_space *s, const struct qi_vma *v)
{
    return below(v->left, v) && below(v->right, v) && (v->left || v->right || v->rank == 1) &&
           v->max_gap == gap_of_subtree(s, v) &&
           (!v->left || (v->left->parent == v && v->left->end <= v->start)) &&
           (!v->right || (v->right->parent == v && v->right->start >= v->end));
}

bool qi_vmatree_verify(struct quire_space *s)
{
    const struct qi_vma *prev = NULL;
    uint32_t n = 0;

    for (const struct qi_vma *v = s->first; v; prev = v, v = v->next) {
        const struct qi_vma *up = v;
        unsigned depth = 0;

        while (up->parent && depth++ < 64)
            up = up->parent;
        if (v->prev != prev || v->start >= v->end || (prev && prev->end > v->start) ||
            up != s->root || !node_ok(s, v)) {
            qi_log(QUIRE_LOG_ERROR, "vma tree: bad node %#lx-%#lx", v->start, v->end);
            return false;
        }
        n++;
    }
    return n == s->nvmas && s->last == prev;
}
