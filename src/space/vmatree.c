/*
 * space/vmatree.c - vmas by address: an AVL tree with gaps, and a list.
 *
 * Each vma knows the largest gap below any vma of its subtree, so that the highest gap of a given
 * size is found in O(log n).  The list gives neighbours at once, which also says where a new vma
 * goes in the tree: as right child of its predecessor or, that taken, as left child of its
 * successor; no descent is needed to insert.
 *
 * Invariants
 *   T1  in-order walk of the tree == list order == rising, disjoint ranges
 *   T2  height(v) = 1 + max(heights of children); they differ by at most 1
 *   T3  max_gap(v) = max(gap(v), max_gap of children); gap(v) = floor(v) - end of prev, where floor
 *       leaves the guard of a growing stack, and the end before the first is the space's start
 *
 * Cost: look-up one comparison pair a level, 1.44 log2 n at worst; insertion and removal walk up
 * only while something changes.  Source: Adelson-Velsky and Landis 1962; gaps as in Linux's former
 * rb_subtree_gap.  Rejected: Linux's maple tree (2,500 instructions an insertion in its own
 * measurement); red-black: a little less rotation, deeper look-ups, longer code.
 */
#include "space.h"

static uint64_t gap_of(const struct quire_space *s, const struct qi_vma *v)
{
    uint64_t below = v->prev ? v->prev->end : s->start, floor = qi_vma_floor(v);

    return floor > below ? floor - below : 0;
}

static unsigned height(const struct qi_vma *v) { return v ? v->height : 0; }
static uint64_t max_gap(const struct qi_vma *v) { return v ? v->max_gap : 0; }

/* Recompute v from its children; true if anything changed. */
static bool refresh(const struct quire_space *s, struct qi_vma *v)
{
    unsigned l = height(v->left), r = height(v->right), h = 1 + (l > r ? l : r);
    uint64_t gap = gap_of(s, v);

    if (max_gap(v->left) > gap)
        gap = max_gap(v->left);
    if (max_gap(v->right) > gap)
        gap = max_gap(v->right);
    if (h == v->height && gap == v->max_gap)
        return false;
    v->height = (uint8_t)h;
    v->max_gap = gap;
    return true;
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

/*      v            r
 *     / \          / \
 *    a   r   ->   v   c      and the mirror image
 *       / \      / \
 *      b   c    a   b      */
static struct qi_vma *rotate_left(struct quire_space *s, struct qi_vma *v)
{
    struct qi_vma *r = v->right;

    replace_child(s, v->parent, v, r);
    v->right = r->left;
    if (v->right)
        v->right->parent = v;
    r->left = v;
    v->parent = r;
    refresh(s, v);
    refresh(s, r);
    return r;
}

static struct qi_vma *rotate_right(struct quire_space *s, struct qi_vma *v)
{
    struct qi_vma *l = v->left;

    replace_child(s, v->parent, v, l);
    v->left = l->right;
    if (v->left)
        v->left->parent = v;
    l->right = v;
    v->parent = l;
    refresh(s, v);
    refresh(s, l);
    return l;
}

/* Restore T2 and T3 from v upwards, as far as something changes. */
static void fix_up(struct quire_space *s, struct qi_vma *v)
{
    for (; v; v = v->parent) {
        int lean = (int)height(v->left) - (int)height(v->right);

        if (lean > 1) {
            if (height(v->left->left) < height(v->left->right))
                rotate_left(s, v->left);
            v = rotate_right(s, v);
        } else if (lean < -1) {
            if (height(v->right->right) < height(v->right->left))
                rotate_right(s, v->right);
            v = rotate_left(s, v);
        } else if (!refresh(s, v)) {
            return;
        }
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
    v->height = 0;
    v->max_gap = 0;
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
    fix_up(s, v);
    if (next)
        fix_up(s, next);
}

void qi_vma_unlink(struct quire_space *s, struct qi_vma *v)
{
    struct qi_vma *from;

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
        if (n->parent != v) {
            replace_child(s, n->parent, n, n->right);
            n->right = v->right;
            n->right->parent = n;
        }
        n->left = v->left;
        n->left->parent = n;
        replace_child(s, v->parent, v, n);
        n->height = 0; /* so that the walk up does not stop at it too early */
    } else {
        from = v->parent;
        replace_child(s, v->parent, v, v->left ? v->left : v->right);
    }
    s->nvmas--;
    fix_up(s, from);
    if (v->next) {
        /* its gap grew; and if it was moved into v's place it still has height 0 */
        fix_up(s, v->next);
    }
}

void qi_vma_moved(struct quire_space *s, struct qi_vma *v)
{
    fix_up(s, v);
    if (v->next)
        fix_up(s, v->next);
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

static bool node_ok(const struct quire_space *s, const struct qi_vma *v)
{
    int lean = (int)height(v->left) - (int)height(v->right);
    unsigned h = 1 + QI_MAX(height(v->left), height(v->right));
    uint64_t gap = QI_MAX(gap_of(s, v), QI_MAX(max_gap(v->left), max_gap(v->right)));

    return lean >= -1 && lean <= 1 && h == v->height && gap == v->max_gap &&
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
