/*
 * kva/gaps.c - the ranges of a window and the gaps between them.
 *
 * Model.  The ranges form a list by address, cut into rows of up to ROW_MAX neighbours.  One range of each
 * row, whichever, is its head: the node that stands for the row in a height-balanced binary tree (Adelson-
 * Velsky, Landis, 1962).  It knows the largest gap in front of a range of its row, and of its subtree.
 *
 *        floor                            a search for the lowest gap of a size goes down by max_gap,
 *        /                                then along one row; one for an address goes down to the last
 *       h------------.                    head at or before it, then along the list
 *      / \            \
 *     h   h            h
 *   [abcd][efg][hijklm][no fence]   rows
 *
 * Why rows.  A change moves a maximum up to the root, which costs by depth, and in one of three moves the
 * balance.  With rows the tree is three levels lower, and only one change in five touches its shape: this
 * halves a change, and makes a search for a gap shorter by a third.  Figures: docs/design/kva.md.
 *
 * No search on insertion: who found the gap has the range behind it, whose row takes the new one.
 *
 * Invariants (qi_gaps_verify)
 *   G1  the list rises, ranges are disjoint, and it ends with the fence
 *   G2  rows are neighbours of the list, 1 to ROW_MAX, the head among them; each range names its head
 *   G3  the walk of the tree gives the heads in the order of the list
 *   G4  height = 1 + that of the higher child; two children differ by one at most
 *   G5  row_gap is the largest of the row, max_gap the largest of row_gap and of both children's max_gap
 *
 * Two nodes stand for what is not there and save a test on each level.  Where there is no child is nil: no
 * height, no gap, behind all addresses, its own child; its parent is scribbled on.  Above the root is the
 * floor, whose gap nothing exceeds or lessens: walks up end there by themselves.
 *
 * Cost.  O(log n) but for the search for large alignments (gaps.h); a row is a bounded number of steps.
 * Rows that become short are merged into the one in front if that has room.  Were they not, there would be
 * one range for each node, so the depth has that bound whatever the order of changes.
 *
 * This is not the tree of arena/tree.c: there every link is checked before it is believed, for it lies in
 * memory that users overrun, the gaps are the nodes, and four words are all the room.  Nor that of
 * space/vmatree.c, whose ranges grow in place, and whose gaps leave room for stacks and are taken from above.
 */
#include "gaps.h"

#include "../base/check.h"

#define ROW_MAX   8u
#define ROW_SHORT 2u /* merged, if there is room for this many more afterwards */

static uint64_t gap_before(const struct qi_gap_node *n) { return n->start - n->prev->end; }

/* ---- the tree of rows ---- */

static inline uint64_t gap_of_subtree(const struct qi_gap_node *h)
{
    uint64_t gap = h->row_gap, l = h->left->max_gap, r = h->right->max_gap;

    gap = QI_MAX(gap, l);
    return QI_MAX(gap, r);
}

static inline void update(struct qi_gap_node *h)
{
    h->height = QI_MAX(h->left->height, h->right->height) + 1;
    h->max_gap = gap_of_subtree(h);
}

/* row_gap of h has changed: the maxima from there upwards, as far as they change. */
static void refresh(struct qi_gap_node *h)
{
    for (;; h = h->parent) {
        uint64_t gap = gap_of_subtree(h);

        if (h->max_gap == gap)
            break;
        h->max_gap = gap;
    }
}

/* The same when it can only have grown, to gap. */
static void raise(struct qi_gap_node *h, uint64_t gap)
{
    h->row_gap = QI_MAX(h->row_gap, gap);
    for (; h->max_gap < gap; h = h->parent)
        h->max_gap = gap;
}

/* Let child stand where old stands under its parent. */
static void replace(struct qi_gap_node *old, struct qi_gap_node *child)
{
    struct qi_gap_node *p = old->parent;

    if (p->left == old)
        p->left = child;
    else
        p->right = child;
    child->parent = p;
}

/*
 *     h              r
 *    / \            / \
 *   a   r    =>    h   c
 *      / \        / \
 *     b   c      a   b
 */
static struct qi_gap_node *rotate_left(struct qi_gap_node *h)
{
    struct qi_gap_node *r = h->right;

    replace(h, r);
    h->right = r->left;
    h->right->parent = h;
    r->left = h;
    h->parent = r;
    update(h);
    update(r);
    return r;
}

static struct qi_gap_node *rotate_right(struct qi_gap_node *h)
{
    struct qi_gap_node *l = h->left;

    replace(h, l);
    h->left = l->right;
    h->left->parent = h;
    l->right = h;
    h->parent = l;
    update(h);
    update(l);
    return l;
}

/* Something below h changed: restore balance and maxima from h upwards, as far as they change. */
static void rebalance(struct qi_gaps *g, struct qi_gap_node *h)
{
    for (; h != &g->floor; h = h->parent) {
        uint32_t height = h->height;
        uint64_t gap = h->max_gap;

        if (h->right->height > h->left->height + 1) {
            if (h->right->left->height > h->right->right->height)
                rotate_right(h->right);
            h = rotate_left(h);
        } else if (h->left->height > h->right->height + 1) {
            if (h->left->right->height > h->left->left->height)
                rotate_left(h->left);
            h = rotate_right(h);
        } else {
            update(h);
        }
        if (h->height == height && h->max_gap == gap)
            break;
    }
}

/* Put h, whose row is complete, between two that are neighbours: right of the one before it or, that taken,
 * left of the one after it, which then has nothing there. */
static void plant(struct qi_gaps *g, struct qi_gap_node *h, struct qi_gap_node *before,
                  struct qi_gap_node *after)
{
    h->left = h->right = &g->nil;
    if (before->right == &g->nil) {
        before->right = h;
        h->parent = before;
    } else {
        after->left = h;
        h->parent = after;
    }
    update(h);
    rebalance(g, h->parent);
}

/* Take h out.  If it has two children, the row before it takes its place, which has no right child. */
static void uproot(struct qi_gaps *g, struct qi_gap_node *h, struct qi_gap_node *before)
{
    struct qi_gap_node *from = before->parent;

    if (h->left == &g->nil || h->right == &g->nil) {
        replace(h, h->left != &g->nil ? h->left : h->right);
        rebalance(g, h->parent);
        return;
    }
    if (from == h) {
        from = before;
    } else {
        replace(before, before->left);
        before->left = h->left;
        before->left->parent = before;
    }
    before->right = h->right;
    before->right->parent = before;
    replace(h, before);
    /* what those above have counted with */
    before->height = h->height;
    before->max_gap = h->max_gap;
    rebalance(g, from);
    refresh(before);
}

void qi_gaps_init(struct qi_gaps *g, uint64_t start, uint64_t end)
{
    struct qi_gap_node *floor = &g->floor, *fence = &g->fence, *nil = &g->nil;

    *floor = (struct qi_gap_node){.end = start,
                                  .head = floor,
                                  .left = fence,
                                  .right = floor,
                                  .max_gap = UINT64_MAX,
                                  .row_gap = UINT64_MAX,
                                  .next = fence};
    *nil = (struct qi_gap_node){.start = UINT64_MAX, .left = nil, .right = nil};
    *fence = (struct qi_gap_node){.start = end,
                                  .end = end,
                                  .head = fence,
                                  .left = nil,
                                  .right = nil,
                                  .parent = floor,
                                  .row_gap = end - start,
                                  .prev = floor,
                                  .first = fence,
                                  .n = 1};
    update(fence);
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

/* The first range from n on with a gap of need bytes in front; there is one in its row. */
static struct qi_gap_node *gap_in_row(struct qi_gap_node *n, uint64_t need)
{
    while (gap_before(n) < need)
        n = n->next;
    return n;
}

/* The first such range in the subtree of h; NULL: none. */
static struct qi_gap_node *first_gap(struct qi_gap_node *h, uint64_t need)
{
    if (h->max_gap < need)
        return NULL;
    for (;; h = h->right) { /* it must be there: max_gap says so */
        while (h->left->max_gap >= need)
            h = h->left;
        if (h->row_gap >= need)
            return gap_in_row(h->first, need);
    }
}

/* The first such range behind n. */
static struct qi_gap_node *next_gap(struct qi_gaps *g, struct qi_gap_node *n, uint64_t need)
{
    struct qi_gap_node *h = n->head, *p;

    for (n = n->next; n && n->head == h; n = n->next)
        if (gap_before(n) >= need)
            return n;
    if (h->right->max_gap >= need)
        return first_gap(h->right, need);
    for (; (p = h->parent) != &g->floor; h = p) {
        if (p->left != h)
            continue;
        if (p->row_gap >= need)
            return gap_in_row(p->first, need);
        if (p->right->max_gap >= need)
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
        n = first_gap(g->floor.left, sure);
        if (n && fits(n, size, align, offset, place)) {
            *next = n;
            return true;
        }
    }
    for (n = first_gap(g->floor.left, size); n; n = next_gap(g, n, size))
        if (fits(n, size, align, offset, place)) {
            *next = n;
            return true;
        }
    return false;
}

/* One level down; n: the last head at or before at.  The hint keeps two loads and moves out of the way left. */
static inline const struct qi_gap_node *descend(const struct qi_gap_node *h, uint64_t at,
                                                const struct qi_gap_node **n)
{
    if (QI_LIKELY(at < h->start))
        return h->left;
    *n = h;
    return h->right;
}

struct qi_gap_node *qi_gaps_from(const struct qi_gaps *g, uint64_t at)
{
    const struct qi_gap_node *h = g->floor.left, *n = g->floor.next;

    if (at >= g->fence.start)
        return (struct qi_gap_node *)&g->fence;
    do { /* nil leads to nil: one test for two levels */
        h = descend(h, at, &n);
        h = descend(h, at, &n);
    } while (h != &g->nil);
    while (n->end <= at)
        n = n->next;
    return (struct qi_gap_node *)n;
}

struct qi_gap_node *qi_gaps_lookup(const struct qi_gaps *g, uint64_t at)
{
    struct qi_gap_node *n = qi_gaps_from(g, at);

    return at >= n->start && at < n->end ? n : NULL;
}

/* ---- rows ---- */

static uint64_t gap_of_row(const struct qi_gap_node *h)
{
    const struct qi_gap_node *n = h->first;
    uint64_t end = n->prev->end, most = 0;

    for (uint32_t i = h->n; i; i--, n = n->next) {
        uint64_t gap = n->start - end;

        most = QI_MAX(most, gap);
        end = n->end;
    }
    return most;
}

/* A gap that was in the row of h, or part of it, is not any more. */
static void lost_gap(struct qi_gap_node *h, uint64_t gap)
{
    if (gap != h->row_gap)
        return;
    h->row_gap = gap_of_row(h);
    refresh(h);
}

static void set_head(struct qi_gap_node *first, uint32_t n, struct qi_gap_node *h)
{
    for (; n; n--, first = first->next)
        first->head = h;
}

/* Cut the row of h in two; the part without h gets a head and goes into the tree. */
static void split(struct qi_gaps *g, struct qi_gap_node *h)
{
    /* who appends leaves full rows behind */
    uint32_t low = g->fence.head == h ? h->n - 1 : h->n / 2;
    struct qi_gap_node *before = h->first->prev->head, *middle = h->first, *fresh;
    bool in_low = false;

    for (uint32_t i = 0; i < low; i++, middle = middle->next)
        in_low |= middle == h;
    fresh = in_low ? middle : h->first;
    fresh->first = fresh;
    fresh->n = in_low ? h->n - low : low;
    h->n -= fresh->n;
    set_head(fresh, fresh->n, fresh);
    if (!in_low)
        h->first = middle;
    h->row_gap = gap_of_row(h);
    fresh->row_gap = gap_of_row(fresh);
    if (!in_low) {
        plant(g, fresh, before, h);
    } else {
        struct qi_gap_node *last = middle;

        for (uint32_t i = 1; i < fresh->n; i++)
            last = last->next;
        plant(g, fresh, h, last->next ? last->next->head : NULL);
    }
    refresh(h);
}

/* The head of a row leaves it: another takes its place. */
static struct qi_gap_node *succeed(struct qi_gap_node *h)
{
    struct qi_gap_node *heir = h->first;

    heir->left = h->left;
    heir->right = h->right;
    heir->left->parent = heir->right->parent = heir;
    replace(h, heir);
    heir->max_gap = h->max_gap;
    heir->row_gap = h->row_gap;
    heir->height = h->height;
    heir->first = heir;
    heir->n = h->n;
    set_head(heir, heir->n, heir);
    return heir;
}

/* The row of h is short: it becomes part of the one in front, if that has room. */
static void merge(struct qi_gaps *g, struct qi_gap_node *h)
{
    struct qi_gap_node *to = h->first->prev->head;

    if (to == &g->floor || to->n + h->n + ROW_SHORT > ROW_MAX)
        return;
    set_head(h->first, h->n, to);
    to->n += h->n;
    raise(to, h->row_gap);
    uproot(g, h, to);
}

/* ---- change ---- */

void qi_gaps_insert(struct qi_gaps *g, struct qi_gap_node *n, struct qi_gap_node *next)
{
    struct qi_gap_node *h = next->head;
    uint64_t gap = gap_before(next);

    n->head = h;
    n->next = next;
    n->prev = next->prev;
    next->prev = n;
    n->prev->next = n;
    if (h->first == next)
        h->first = n;
    if (++h->n > ROW_MAX)
        split(g, h);
    else
        lost_gap(h, gap);
}

void qi_gaps_remove(struct qi_gaps *g, struct qi_gap_node *n)
{
    struct qi_gap_node *h = n->head, *next = n->next, *prev = n->prev;
    uint64_t gap = gap_before(n);

    prev->next = next;
    next->prev = prev;
    if (!--h->n) {
        uproot(g, h, prev->head);
        raise(next->head, gap_before(next));
        return;
    }
    if (h->first == n)
        h->first = next;
    if (h == n)
        h = succeed(h);
    raise(next->head, gap_before(next));
    if (next->head != h)
        lost_gap(h, gap);
    if (h->n <= ROW_SHORT)
        merge(g, h);
}

/* ---- verify ---- */

/* Behind the last of the row of h, which begins with first; NULL: G1, G2 or the row's part of G5 is broken,
 * or the fence was its last.  Each step checks the way back, so the walk cannot come round. */
static const struct qi_gap_node *row_right(const struct qi_gaps *g, const struct qi_gap_node *h,
                                           const struct qi_gap_node *first, bool *right)
{
    const struct qi_gap_node *n = first, *prev = first->prev;
    uint64_t most = 0;
    bool has_head = false;
    uint32_t i;

    *right = false;
    if (h->first != first || h->n > ROW_MAX)
        return NULL;
    for (i = 0; i < h->n && n; i++, prev = n, n = n->next) {
        if (n->head != h || n->prev != prev || prev->end > n->start || n->start > n->end)
            return NULL;
        has_head |= n == h;
        most = QI_MAX(most, gap_before(n));
    }
    *right =
        has_head && i == h->n && h->row_gap == most && (n ? n->prev == prev : prev == &g->fence);
    return n;
}

static bool child_right(const struct qi_gaps *g, const struct qi_gap_node *h,
                        const struct qi_gap_node *child)
{
    return child == &g->nil || (child && child->parent == h && child->height < h->height);
}

/* G4, the tree's part of G5, and the links of h. */
static bool node_right(const struct qi_gaps *g, const struct qi_gap_node *h)
{
    const struct qi_gap_node *l = h->left, *r = h->right, *p = h->parent;

    return child_right(g, h, l) && child_right(g, h, r) && p && (p->left == h || p->right == h) &&
           (p == &g->floor || p->height > h->height) &&
           h->height == QI_MAX(l->height, r->height) + 1 && l->height <= r->height + 1 &&
           r->height <= l->height + 1 && h->max_gap == gap_of_subtree(h);
}

/* The head after h by the links of the tree, the floor after the last; or one that is wrong.  Heights fall on
 * the way down and rise on the way up, or it ends. */
static const struct qi_gap_node *successor(const struct qi_gaps *g, const struct qi_gap_node *h)
{
    if (h->right != &g->nil) {
        for (h = h->right; h->left != &g->nil && child_right(g, h, h->left);)
            h = h->left;
        return h;
    }
    while (h->parent != &g->floor && h->parent && h->parent->right == h &&
           h->parent->height > h->height)
        h = h->parent;
    return h->parent;
}

bool qi_gaps_verify(const struct qi_gaps *g)
{
    const struct qi_gap_node *n = g->floor.next, *nil = &g->nil;
    bool right = true;

    if (!n || !g->floor.left || g->floor.left->parent != &g->floor || nil->max_gap || nil->height ||
        nil->left != nil || nil->right != nil || nil->start != UINT64_MAX || n->prev != &g->floor)
        return false;
    while (n) {
        const struct qi_gap_node *h = n->head;

        if (!h || !node_right(g, h))
            return false;
        n = row_right(g, h, n, &right);
        if (!right || successor(g, h) != (n ? n->head : &g->floor))
            return false;
    }
    return g->fence.next == NULL;
}
