/*
 * frame/bulk.c - arrays of single frames, taken and given back at a few instructions a frame.
 *
 * Purpose.  Whoever needs sixty-four frames should not pay sixty-four calls.
 *
 * Model.  Frames go between the caller's array and a stack of this CPU in groups of eight: their states
 * are tested together, and only if all are as they must be is anything written that cannot be
 * taken back.  A group in which something is unusual is left as it was, and its frames go one by one through
 * the same tests as single ones, which name the culprit.  What is more than a stack should hold goes
 * between the array and the bitmaps, a word at a time.
 *
 * Cost.  A frame that comes from a stack takes two loads, two tests and four stores; one that goes there
 * one more: it must have the flags that the stack hands out, which is a comparison.  A frame that is twice in
 * one group is FREE when it is met again, since flags are written in turn.
 *
 * Rejected.  Stacks of runs instead of frames: a run costs less than its frames, but what comes back
 * one by one has none.  Vector registers: the library is compiled without them, interrupts do not save
 * them.
 */
#include <quire/pressure.h>
#include "zone.h"

/* Interrupts are off no longer than it takes to get or free this many. */
#define STEP 256u
/* From here on an array comes from blocks, if the stack does not have all of it. */
#define WORDS_FROM 48u

/* One line for each of a group. */
#define GROUP   8u
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

/* ---- Taking ---- */

/*
 * Groups from top down to stop, until there is a damaged or bad frame in one; returns the new top.  By
 * itself, so that eight pages and all else are in registers.
 */
static QI_NOINLINE struct quire_page **pop_groups(struct quire_page **top, struct quire_page **stop,
                                                  struct quire_page **out, uint32_t flags)
{
    do {
#define X(k) struct quire_page *p##k = top[-1 - k];
        EACH(X)
#undef X
        uint32_t all = QUIRE_PG_FREE;
        uint64_t any = 0;

#define X(k) all &= QI_FLAGS(p##k), any |= p##k->counts;
        EACH(X)
#undef X
        if (QI_UNLIKELY(!all || any))
            break;
#define X(k) out[k] = p##k, qi_page_hand_out(p##k, flags);
        EACH(X)
#undef X
        top -= GROUP;
        out += GROUP;
    } while (top != stop);
    return top;
}

/* The same for pages that lie side by side: groups of n; returns how many pages. */
static QI_NOINLINE unsigned hand_out_run(struct quire_page *p, unsigned n, struct quire_page **out,
                                         uint32_t flags)
{
    struct quire_page *from = p, *end = p + n / GROUP * GROUP;

    for (; p < end; p += GROUP, out += GROUP) {
        uint32_t all = QUIRE_PG_FREE;
        uint64_t any = 0;

#define X(k) all &= QI_FLAGS(p + k), any |= p[k].counts;
        EACH(X)
#undef X
        if (QI_UNLIKELY(!all || any))
            break;
#define X(k) out[k] = p + k, qi_page_hand_out(p + k, flags);
        EACH(X)
#undef X
    }
    return (unsigned)(p - from);
}

/* Frames out of a bitmap, made into pages; bad ones are withheld.  Returns where the next one goes. */
static QI_ALWAYS_INLINE struct quire_page **hand_out(const struct qi_word *w,
                                                     struct quire_page **out, uint32_t flags)
{
    uint64_t bits = w->bits;

    if (QI_LIKELY(bits == UINT64_MAX)) {
        unsigned n = hand_out_run(w->base, 64, out, flags);

        bits = n < 64 ? bits << n : 0;
        out += n;
    }
    while (QI_UNLIKELY(bits)) {
        unsigned at = qi_lowest_bit(bits);
        uint64_t gap = ~(bits >> at);
        unsigned len = gap ? qi_lowest_bit(gap) : 64, k;
        struct quire_page *p = w->base + at, *end = p + len;

        bits &= bits + (1ull << at); /* carries through the run */
        k = hand_out_run(p, len, out, flags);
        for (p += k, out += k; p < end; p++) {
            if (QI_UNLIKELY(qi_page_unfit(p))) {
                qi_pages_sift(p, 0);
                continue;
            }
            qi_page_hand_out(p, flags);
            *out++ = p;
        }
    }
    return out;
}

/* Up to n, until one is unfit, which is then on top. */
static QI_NOINLINE size_t pop_many(struct qi_stack *s, size_t n, struct quire_page **out)
{
    struct quire_page **top = s->top;
    uint32_t flags = s->flags;
    size_t i = 0;

    n = QI_MIN(n, (size_t)(top - s->base));
    if (n >= GROUP)
        i = (size_t)(top - pop_groups(top, top - n / GROUP * GROUP, out, flags));
    for (; i < n && !qi_page_unfit(top[-1 - (long)i]); i++) {
        out[i] = top[-1 - (long)i];
        qi_page_hand_out(out[i], flags);
    }
    qi_store_relaxed(&s->top, top - i);
    s->allocs += i;
    return i;
}

/* Straight from the blocks of a zone, up to n. */
static QI_ALWAYS_INLINE size_t take_from_blocks(struct qi_zone *z, unsigned type, size_t n,
                                                struct quire_page **out)
{
    uint32_t flags = z->place | type << QI_PG_TYPE_SHIFT;
    struct quire_page **at = out, **end = out + n;
    struct qi_words words;
    size_t got;

    do {
        qi_zone_lock(z);
        qi_zone_take_words(z, type, (unsigned)(end - at), &words);
        z->allocs += words.frames;
        qi_zone_unlock(z);
        for (unsigned i = 0; i < words.n; i++)
            at = hand_out(&words.word[i], at, flags);
    } while (at < end && words.n == QI_WORDS);
    got = (size_t)(at - out);
    qi_zone_taken(z);
    qi_count_remote(z, got);
    return got;
}

/* From the stack of the zone; what is much for it, from the blocks. */
static size_t bulk_from_zone(struct qi_zone *z, size_t n, struct quire_page **out, quire_gfp gfp)
{
    struct qi_stack *s = qi_stack_of(&qi_frame_cpus[qport_cpu()], z->place, 0, qi_gfp_type(gfp));
    size_t got = 0;

    for (;;) {
        uint64_t may;

        got += pop_many(s, n - got, out + got);
        if (got == n)
            return n;
        if (s->top != s->base) { /* something is wrong with the next one */
            qi_pages_sift(qi_stack_pop(s), 0);
            continue;
        }
        may = qi_zone_spare(z, qi_gfp_class(gfp), gfp, QI_MARK_MIN);
        if (may && n - got >= s->want / 2u)
            return got + take_from_blocks(z, s->type, QI_MIN(n - got, may), out + got);
        if (!qi_stack_fill(s, may))
            return got;
        qi_zone_taken(z);
    }
}

static size_t take_step(size_t n, struct quire_page **out, quire_gfp gfp, unsigned node,
                        uint64_t nodes)
{
    unsigned class = qi_gfp_class(gfp), wanted;
    unsigned long irq = qport_irq_save();
    struct qi_zone *z;
    size_t got = 0, k;

    if (node == QUIRE_NODE_ANY)
        node = qi_cpu_nodes[qport_cpu()];
    if (gfp & QUIRE_GFP_THISNODE)
        nodes = 1ull << node;
    wanted = qi_wanted_node(node, class);
    for (const uint16_t *l = qi_zonelists[node][class]; got < n && (z = qi_zone_listed(l)); l++) {
        if (!(nodes >> z->node & 1))
            continue;
        k = bulk_from_zone(z, n - got, out + got, gfp);
        qi_count_missed(z, k, wanted);
        got += k;
    }
    qport_irq_restore(irq);
    return got;
}

size_t qi_page_alloc_bulk_among(size_t n, struct quire_page **out, quire_gfp gfp, unsigned node,
                                uint64_t nodes)
{
    size_t got = 0, k;

    QI_CHECK(node == QUIRE_NODE_ANY || node < qi_nnodes, "frames: allocation from node %u of %u",
             node, qi_nnodes);
    while (got < n && !quire_frame_fail_armed()) {
        k = take_step(QI_MIN(n - got, (size_t)STEP), out + got, gfp, node, nodes);
        if (QI_UNLIKELY(qi_load_relaxed(&qi_pressure_noted)))
            qi_pressure_tell();
        if (!k)
            break;
        for (size_t i = got; gfp & QUIRE_GFP_ZERO && i < got + k; i++)
            quire_page_clear(out[i]);
        got += k;
    }
    /* the last ones, or those that injected failures count, one by one */
    while (got < n && (out[got] = qi_page_alloc_among(0, gfp, node, nodes)))
        got++;
    return got;
}

/* n pages of the preferred zone: from the stack, if it has all of them; or from the blocks, where frames lie word by
 * word, while there is plenty.  Else 0. */
static QI_NOINLINE size_t alloc_words(size_t n, struct quire_page **out, quire_gfp gfp)
{
    unsigned long irq = qport_irq_save();
    struct qi_stack *s = qi_stack_fast(0, gfp);
    struct qi_zone *z = s->zone;
    size_t got = 0;

    if (n <= qi_stack_count(s))
        got = pop_many(s, n, out);
    else if (QI_LIKELY(z && qi_zone_spare(z, qi_gfp_class(gfp), gfp, QI_MARK_LOW) >= n))
        got = take_from_blocks(z, s->type, n, out);
    qport_irq_restore(irq);
    if (QI_UNLIKELY(qi_load_relaxed(&qi_pressure_noted)))
        qi_pressure_tell();
    return got;
}

static size_t alloc_few(size_t n, struct quire_page **out, quire_gfp gfp)
{
    unsigned long irq = qport_irq_save();
    size_t got = pop_many(qi_stack_fast(0, gfp), n, out);

    qport_irq_restore(irq);
    return got;
}

size_t quire_page_alloc_bulk(size_t n, struct quire_page **out, quire_gfp gfp, unsigned node)
{
    size_t got = 0;

    if (QI_LIKELY(node == QUIRE_NODE_ANY && !(gfp & (QUIRE_GFP_THISNODE | QUIRE_GFP_ZERO)) &&
                  !quire_frame_fail_armed()))
        got =
            n - WORDS_FROM <= STEP - WORDS_FROM ? alloc_words(n, out, gfp) : alloc_few(n, out, gfp);
    if (QI_LIKELY(got == n))
        return n;
    return got + qi_page_alloc_bulk_among(n - got, out + got, gfp, node, ~0ull);
}

/* ---- Giving back ---- */

/* Groups of pages with just these flags become free, and are stored from top on if store is set; one with anything
 * unusual stays as it is.  Returns how many, a multiple of eight. */
static QI_ALWAYS_INLINE size_t free_each(struct quire_page **pages, size_t count, uint32_t flags,
                                         struct quire_page **top, bool store)
{
    struct quire_page **at = pages, **end = pages + count / GROUP * GROUP;
    uint32_t freed = flags | QUIRE_PG_FREE;
    unsigned n;

    for (; at < end; at += GROUP) {
        uint64_t any = 0;

#define X(k)                                    \
    struct quire_page *p##k = at[k];            \
    if (QI_UNLIKELY(QI_FLAGS(p##k) != flags)) { \
        n = k;                                  \
        goto undo;                              \
    }                                           \
    any |= p##k->counts;                        \
    qi_store_relaxed(&p##k->flags, freed);
        EACH(X)
#undef X
        n = GROUP;
        if (QI_UNLIKELY(any > 1))
            goto undo;
#define X(k)                                      \
    QPORT_EVENT(FRAME_FREE, p##k, 0);             \
    qi_store_relaxed(&p##k->counts, (uint64_t)0); \
    if (store)                                    \
        top[k] = p##k;
        EACH(X)
#undef X
        top += store ? GROUP : 0;
    }
    return (size_t)(at - pages);
undo:
    while (n--)
        qi_store_relaxed(&at[n]->flags, flags);
    return (size_t)(at - pages);
}
static QI_NOINLINE size_t push_groups(struct quire_page **pages, size_t n, uint32_t flags,
                                      struct quire_page **top)
{
    return free_each(pages, n, flags, top, true);
}
static QI_NOINLINE size_t free_groups(struct quire_page **pages, size_t n, uint32_t flags)
{
    return free_each(pages, n, flags, NULL, false);
}

/* May be freed to where these flags say, whatever its user's flags are. */
static QI_ALWAYS_INLINE bool alike(const struct quire_page *p, uint32_t flags)
{
    return !((QI_FLAGS(p) ^ flags) & (QI_PG_KEPT | QI_PG_NOT_FAST)) && p->counts <= 1;
}

/* Up to n pages that belong on this stack, while it has room. */
static QI_ALWAYS_INLINE size_t push_many(struct qi_stack *s, size_t n, struct quire_page **pages)
{
    struct quire_page **top = s->top, **end = qi_load_relaxed(&s->end);
    uint32_t flags = qi_flags_at(pages[0], s->flags);
    size_t i = 0;

    n = QI_MIN(n, top < end ? (size_t)(end - top) : 0);
    if (n >= GROUP)
        i = push_groups(pages, n, flags, top);
    for (; i < n && alike(pages[i], flags); i++) {
        QPORT_EVENT(FRAME_FREE, pages[i], 0);
        qi_store_relaxed(&pages[i]->flags, flags | QUIRE_PG_FREE);
        qi_store_relaxed(&pages[i]->counts, (uint64_t)0);
        top[i] = pages[i];
    }
    qi_store_relaxed(&s->top, top + i);
    return i;
}

/* Pages side by side with just these flags become free: groups of n; returns how many. */
static QI_NOINLINE unsigned free_run(struct quire_page **pages, unsigned n, uint32_t flags)
{
    struct quire_page *p = pages[0], **at = pages, **end = pages + n / GROUP * GROUP;
    uint32_t freed = flags | QUIRE_PG_FREE;

    for (; at < end; at += GROUP, p += GROUP) {
        uint64_t any = 0;

#define X(k)                                                     \
    if (QI_UNLIKELY(at[k] != p + k || QI_FLAGS(p + k) != flags)) \
        break;                                                   \
    any |= p[k].counts;
        EACH(X)
#undef X
        if (QI_UNLIKELY(any > 1))
            break;
#define X(k)                              \
    QPORT_EVENT(FRAME_FREE, p + k, 0);    \
    qi_store_relaxed(&p[k].flags, freed); \
    qi_store_relaxed(&p[k].counts, (uint64_t)0);
        EACH(X)
#undef X
    }
    return (unsigned)(at - pages);
}

/* The next of n pages, if they belong to this zone and type, to their blocks: those side by side in one step, or a
 * group, or one; returns how many. */
static size_t give_step(struct qi_zone *z, size_t n, struct quire_page **pages, uint32_t flags)
{
    uint64_t pfn = quire_pfn_of_page(pages[0]).v;
    unsigned at = pfn % 64, k = free_run(pages, (unsigned)QI_MIN(n, 64ul - at), flags);

    if (QI_LIKELY(k)) {
        qi_zone_give_mask(z, pfn - at, UINT64_MAX >> (64 - k) << at);
        return k;
    }
    k = (unsigned)free_groups(pages, QI_MIN(n, (size_t)GROUP), flags);
    if (!k && alike(pages[0], flags)) {
        QPORT_EVENT(FRAME_FREE, pages[0], 0);
        qi_store_relaxed(&pages[0]->flags, flags | QUIRE_PG_FREE);
        qi_store_relaxed(&pages[0]->counts, (uint64_t)0);
        k = 1;
    }
    if (k)
        qi_zone_give_frames(z, pages, k);
    return k;
}

/* Up to n pages of one zone and type, without a detour through a stack. */
static size_t give_to_blocks(struct qi_zone *z, size_t n, struct quire_page **pages, uint32_t flags)
{
    size_t i = 0, k;

    qi_zone_lock(z);
    while (i < n && (k = give_step(z, n - i, pages + i, flags)))
        i += k;
    z->frees += i;
    qi_zone_unlock(z);
    return i;
}

/* At least one, whose stack has no room for it, or that is not like the others.  Interrupts off. */
static size_t give_some(struct qi_stack *s, size_t n, struct quire_page **pages, uint32_t flags)
{
    if (n >= WORDS_FROM && s->top + n > qi_load_relaxed(&s->end))
        return give_to_blocks(s->zone, n, pages, flags & QI_PG_KEPT);
    qi_stack_push(qi_page_mark_free(&qi_frame_cpus[qport_cpu()], pages[0], flags), pages[0]);
    return 1;
}

/* It is no long array, or the stack has room for all of it. */
static QI_ALWAYS_INLINE bool fits(const struct qi_stack *s, size_t n)
{
    return n < WORDS_FROM || s->top + n <= QI_PEEK(s->end);
}

static QI_NOINLINE void give_rest(size_t n, struct quire_page **pages)
{
    unsigned long irq = qport_irq_save();
    size_t i = 0, k;

    while (i < n) {
        struct quire_page *p = pages[i];
        uint32_t flags = quire_page_flags_now(p);
        struct qi_stack *s;

        if (QI_UNLIKELY(flags & QI_PG_NOT_FAST || p->counts > 1)) {
            qport_irq_restore(irq);
            qi_page_free_marked(p, p->refs != 0);
            irq = qport_irq_save();
            i++;
            continue;
        }
        s = qi_stack_home(&qi_frame_cpus[qport_cpu()], flags);
        k = fits(s, n - i) ? push_many(s, n - i, pages + i) : 0;
        i += k ? k : give_some(s, n - i, pages + i, flags);
    }
    qport_irq_restore(irq);
}

void quire_page_free_bulk(size_t n, struct quire_page **pages)
{
    for (size_t k; n; n -= k, pages += k) {
        unsigned long irq = qport_irq_save();
        uint32_t flags = quire_page_flags_now(pages[0]);
        struct qi_stack *s = qi_stack_home(&qi_frame_cpus[qport_cpu()], flags);

        /* what belongs on the stack of the first, and fits; or else to its zone */
        if (fits(s, n))
            k = push_many(s, n, pages);
        else
            k = give_to_blocks(s->zone, QI_MIN(n, (size_t)STEP), pages, flags & QI_PG_KEPT);
        qport_irq_restore(irq);
        if (QI_LIKELY(k == n))
            return;
        n -= k;
        pages += k;
        k = QI_MIN(n, (size_t)STEP);
        give_rest(k, pages);
    }
}
