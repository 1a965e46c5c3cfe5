/*
 * arena/tree.c - the free chunks of an arena as a binary tree by address whose every node knows the
 * largest chunk below it, so that the lowest that is large enough is found in one descent.
 *
 * Balance comes from priorities, a hash of the address: a parent's is not below its children's (Aragon,
 * Seidel, "Randomized search trees", 1989).  The depth is that of a tree made in random order whatever
 * the order of frees; nothing is stored for it.  Every chunk is checked before a word of it is believed.
 *
 * Not the tree of kva/gaps.c, though both find the lowest that fits: there ranges are the nodes, in memory that
 * only the kernel writes, with a list and rows of them beside the tree, in twelve words; here the free pieces
 * are, between bytes that users overrun, in the four words that the smallest has, and a link is followed only
 * after a look at where it leads.
 *
 * Rejected: the Cartesian tree, by address and size at once (Stephenson, "Fast Fits", 1983), needs no
 * word for the largest, but chunks whose sizes rise with their addresses make a list of it.
 */
#include "chunk.h"

static uint64_t priority(const struct quire_arena *a, const struct qi_chunk *c)
{
    uint64_t h = ((uintptr_t)c ^ a->secret) * 0x9e3779b97f4a7c15;

    return (h ^ h >> 32) * 0xd6e8feb86659fd93;
}

static _Noreturn void lost(const struct quire_arena *a, const struct qi_chunk *c)
{
    qi_bug("arena %s: the tree of free pieces leads to %p, which is none: one was written to",
           a->name, (const void *)c);
}

/* c, after a look at it, for going there; NULL stays NULL. */
static QI_ALWAYS_INLINE struct qi_chunk *checked(const struct quire_arena *a, struct qi_chunk *c)
{
    if (QI_UNLIKELY(c && !(qi_chunk_sealed(a, c) && qi_chunk_is_free(c))))
        lost(a, c);
    return c;
}

/* For a look alone, its place is enough. */
static QI_ALWAYS_INLINE uint64_t largest(const struct quire_arena *a, const struct qi_chunk *c)
{
    if (!c)
        return 0;
    if (QI_UNLIKELY(!qi_chunk_place(a, c)))
        lost(a, c);
    return c->largest;
}

static uint64_t largest_of(const struct quire_arena *a, const struct qi_chunk *c)
{
    uint64_t l = largest(a, c->left), r = largest(a, c->right), most = qi_chunk_bytes(c);

    most = QI_MAX(most, l);
    return QI_MAX(most, r);
}

static void update_up(struct quire_arena *a, struct qi_chunk *c)
{
    for (; checked(a, c); c = c->parent) {
        uint64_t now = largest_of(a, c);

        if (c->largest == now)
            break;
        c->largest = now;
    }
}

/* Let child stand under old's parent where old stands. */
static void replace(struct quire_arena *a, struct qi_chunk *old, struct qi_chunk *child)
{
    struct qi_chunk *p = checked(a, old->parent);

    if (!p)
        a->root = child;
    else if (p->left == old)
        p->left = child;
    else
        p->right = child;
    if (child)
        child->parent = p;
}

/*
 *       p            c
 *      / \          / \
 *     c   3   <=>  1   p
 *    / \              / \
 *   1   2            2   3
 */
static void rotate_up(struct quire_arena *a, struct qi_chunk *c)
{
    struct qi_chunk *p = c->parent, *middle;

    replace(a, p, c);
    if (p->left == c) {
        middle = p->left = checked(a, c->right);
        c->right = p;
    } else {
        middle = p->right = checked(a, c->left);
        c->left = p;
    }
    if (middle)
        middle->parent = p;
    p->parent = c;
    c->largest = p->largest;
    p->largest = largest_of(a, p);
}

void qi_tree_insert(struct quire_arena *a, struct qi_chunk *c)
{
    struct qi_chunk *p = NULL, *at = checked(a, a->root);
    uint64_t bytes = qi_chunk_bytes(c), mine = priority(a, c);

    while (at) {
        p = at;
        p->largest = QI_MAX(p->largest, bytes);
        at = checked(a, c < p ? p->left : p->right);
    }
    c->left = c->right = NULL;
    c->parent = p;
    c->largest = bytes;
    if (!p)
        a->root = c;
    else if (c < p)
        p->left = c;
    else
        p->right = c;
    while (c->parent && priority(a, c->parent) < mine)
        rotate_up(a, c);
    a->free_pieces++;
}

void qi_tree_remove(struct quire_arena *a, struct qi_chunk *c)
{
    struct qi_chunk *l, *r, *p;

    while ((l = checked(a, c->left)) && (r = checked(a, c->right)))
        rotate_up(a, priority(a, l) > priority(a, r) ? l : r);
    p = c->parent;
    replace(a, c, c->left ? c->left : checked(a, c->right));
    update_up(a, p);
    a->free_pieces--;
}

void qi_tree_resized(struct quire_arena *a, struct qi_chunk *c) { update_up(a, c); }

static struct qi_chunk *fit_below(const struct quire_arena *a, struct qi_chunk *c, uint64_t bytes)
{
    while (c && c->largest >= bytes) {
        if (largest(a, c->left) >= bytes)
            c = checked(a, c->left);
        else if (qi_chunk_bytes(c) >= bytes)
            return c;
        else
            c = checked(a, c->right);
    }
    return NULL;
}

struct qi_chunk *qi_tree_fit(const struct quire_arena *a, uint64_t bytes)
{
    return fit_below(a, checked(a, a->root), bytes);
}

/* The nearest ancestor that is behind c. */
static struct qi_chunk *climb(const struct quire_arena *a, struct qi_chunk *c)
{
    struct qi_chunk *p = checked(a, c->parent);

    while (p && p->right == c) {
        c = p;
        p = checked(a, c->parent);
    }
    return p;
}

struct qi_chunk *qi_tree_fit_behind(const struct quire_arena *a, struct qi_chunk *c, uint64_t bytes)
{
    for (;;) {
        struct qi_chunk *found = fit_below(a, checked(a, c->right), bytes);

        if (found)
            return found;
        c = climb(a, c);
        if (!c || qi_chunk_bytes(c) >= bytes)
            return c;
    }
}

static struct qi_chunk *leftmost(const struct quire_arena *a, struct qi_chunk *c)
{
    while (c && c->left)
        c = checked(a, c->left);
    return c;
}

struct qi_chunk *qi_tree_first(const struct quire_arena *a)
{
    return leftmost(a, checked(a, a->root));
}

struct qi_chunk *qi_tree_next(const struct quire_arena *a, struct qi_chunk *c)
{
    return c->right ? leftmost(a, checked(a, c->right)) : climb(a, c);
}

static bool is_link(const struct quire_arena *a, const struct qi_chunk *c)
{
    return !c || (qi_chunk_sealed(a, c) && qi_chunk_is_free(c));
}

bool qi_tree_node_good(const struct quire_arena *a, const struct qi_chunk *c)
{
    const struct qi_chunk *l = c->left, *r = c->right, *p = c->parent;

    return is_link(a, l) && is_link(a, r) && is_link(a, p) &&
           (!l || (l < c && l->parent == c && priority(a, l) <= priority(a, c))) &&
           (!r || (r > c && r->parent == c && priority(a, r) <= priority(a, c))) &&
           (p ? p->left == c || p->right == c : a->root == c) && c->largest == largest_of(a, c);
}
