/*
 * frame/zero.c - frames that were cleared before anybody asked for them.
 *
 * Purpose.  Clearing is nine tenths of what a zeroed frame costs.  A CPU that has nothing to do clears some
 * in advance, quire_frame_zero_idle(), and a request for one zeroed frame gets one of these.
 *
 * Model.  Each zone has two pools, for movable and for unmovable requests, since a frame stays in a
 * pageblock of its type; each CPU has a small stack of each, filled from the pools of its node.  What is in
 * them is free for everybody else: it says FREE, quire_free_pages() counts it, a double free is found, and
 * whoever is short of memory gets all of it back (qi_frame_drain_cpu).  A pool is a list through the
 * struct pages; the frame's own bytes are not touched.
 *
 *     zone -- quire_page_alloc -> cleared -> pool -> stack of a CPU -> a request for a zeroed frame
 *      ^                                      |        |                        | freed: it is an
 *      +------------------ drained -----------+--------+                        v ordinary frame
 *
 * Bounds.  All pools together hold 1 % of what is managed, at least 256 frames, at most a sixteenth; a node its
 * part of it, three quarters of that movable.  Nothing is taken from a zone that is not above its high mark.
 *
 * Invariant F9, walked by qi_zero_verify(): what is in a pool or in a stack here is FREE, alone, of that
 * zone, in no bitmap, and there once.  With QUIRE_DEBUG what is handed out is looked at: all zeros.
 *
 * Locking.  One spin lock a pool, a leaf, taken with interrupts off.  A stack belongs to its CPU; others may
 * read it.  Frames are cleared with interrupts on, while they are allocated.
 *
 * Cost.  Nothing where nobody calls quire_frame_zero_idle(), but a load for each zeroed frame.  A hit is
 * as cheap as a frame that need not be zeroed.
 *
 * Rejected.  Zeroed frames in the ordinary stacks, marked so: every allocation would look at the mark.  A thread
 * that clears (FreeBSD had one, until 2016): it evicts what others have in their caches; an idle CPU's
 * cache is its own.
 *
 * Sources.  FreeBSD sys/vm/vm_zeroidle.c (removed in r305362, with the reason); Cascaval et al., "Multiple
 * Page Size Modeling and Optimization", 2005, on what clearing costs.
 */
#include "zone.h"

#define KINDS      2u /* 0: unmovable, 1: movable */
#define SLOTS      30u
#define LEAST      256u /* frames in all pools together, unless memory is small */
#define DRAIN_STEP 16u
/* A request with anything else wants a frame of a special place. */
#define PLAIN \
    (QUIRE_GFP_ZERO | QUIRE_GFP_MOVABLE | QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY | QUIRE_GFP_MEMALLOC)

/* What is cleared comes from this node, and not out of a cache. */
#define WHENCE (QUIRE_GFP_THISNODE | QUIRE_GFP_NORETRY | QUIRE_GFP_COLD)

static struct pool {
    struct qi_spin lock;
    /* under lock; count may be read without it */
    uint32_t first; /* frame number; linked through quire_page.next */
    uint64_t count;
    uint64_t entered; /* frames that ever came; may be read without it */
    uint64_t left;    /* for the stacks; atomic */
} pools[QI_MAX_ZONES][KINDS];

/* Atomic for others, which only look.  All that one holds is of one zone. */
static struct stack {
    uint32_t count, slot;
    uint64_t hits;
    struct quire_page *pages[SLOTS];
} QI_CACHE_ALIGNED stacks[QUIRE_MAX_CPUS][KINDS];

static const struct qi_lock_class pool_class = {"zeroed frames"};
uint32_t qi_zero_used; /* somebody has filled a pool since boot */

void qi_zero_init(void)
{
    for (unsigned i = 0; i < QI_MAX_ZONES; i++)
        for (unsigned k = 0; k < KINDS; k++) {
            pools[i][k] = (struct pool){.count = 0};
            qi_spin_init(&pools[i][k].lock, &pool_class);
        }
    for (unsigned c = 0; c < QUIRE_MAX_CPUS; c++)
        for (unsigned k = 0; k < KINDS; k++)
            stacks[c][k].count = 0, stacks[c][k].hits = 0;
    qi_store_relaxed(&qi_zero_used, 0u);
}

/* ---- Taking ---- */

/* Up to n frames of a pool; interrupts off. */
static unsigned pool_take(struct pool *pool, struct quire_page **out, unsigned n)
{
    uint32_t pfn;

    qi_spin_lock_raw(&pool->lock);
    n = (unsigned)QI_MIN((uint64_t)n, pool->count);
    pfn = pool->first;
    for (unsigned i = 0; i < n; i++) {
        struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));

        out[i] = p;
        pfn = p->next;
    }
    pool->first = pfn;
    qi_store_relaxed(&pool->count, pool->count - n);
    qi_spin_unlock_raw(&pool->lock);
    return n;
}

/* Fill an empty stack from the nearest pool of this node; false: they are all empty. */
static bool refill(struct stack *s, quire_gfp gfp)
{
    unsigned node = qi_cpu_nodes[qport_cpu()], kind = (gfp & QUIRE_GFP_MOVABLE) != 0;

    const struct qi_zone *z;

    for (const uint16_t *l = qi_zonelists[node][qi_gfp_class(gfp)]; (z = qi_zone_listed(l)); l++) {
        struct pool *pool = &pools[z->slot][kind];
        unsigned n;

        if (z->node != node || !qi_load_relaxed(&pool->count))
            continue;
        n = pool_take(pool, s->pages, SLOTS);
        if (!n)
            continue;
        qi_fetch_add_relaxed(&pool->left, (uint64_t)n);
        qi_store_relaxed(&s->slot, (uint32_t)z->slot);
        qi_store_relaxed(&s->count, n);
        return true;
    }
    return false;
}

static inline __attribute__((unused)) bool all_zero(const struct quire_page *p)
{
    const uint64_t *word = quire_page_ptr(p);

    for (unsigned i = 0; i < QUIRE_PAGE_SIZE / sizeof *word; i++)
        if (word[i])
            return false;
    return true;
}

static QI_ALWAYS_INLINE struct quire_page *pop(struct stack *s)
{
    uint32_t n = s->count - 1;

    qi_store_relaxed(&s->count, n);
    return s->pages[n];
}

static QI_ALWAYS_INLINE struct quire_page *hand_out(struct stack *s, struct quire_page *p,
                                                    unsigned long irq)
{
    qi_store_relaxed(&s->hits, s->hits + 1);
    qi_page_hand_out(p, quire_page_flags_now(p) & ~QUIRE_PG_FREE);
    qport_irq_restore(irq);
    QI_ASSERT(all_zero(p)); /* F9 */
    return p;
}

/* The stack is empty; or p, just taken from it, has gone bad. */
static QI_NOINLINE struct quire_page *take_slow(struct stack *s, quire_gfp gfp,
                                                struct quire_page *p, unsigned long irq)
{
    if (p)
        qi_pages_sift(p, 0);
    while (s->count || refill(s, gfp)) {
        p = pop(s);
        if (QI_LIKELY(!qi_page_unfit(p)))
            return hand_out(s, p, irq);
        qi_pages_sift(p, 0);
    }
    qport_irq_restore(irq);
    return NULL;
}

struct quire_page *qi_zero_take(quire_gfp gfp)
{
    struct quire_page *p = NULL;
    unsigned long irq;
    struct stack *s;

    if (gfp & ~PLAIN)
        return NULL;
    irq = qport_irq_save();
    s = &stacks[qport_cpu()][gfp / QUIRE_GFP_MOVABLE & 1];
    if (QI_LIKELY(s->count)) {
        p = pop(s);
        if (QI_LIKELY(!qi_page_unfit(p)))
            return hand_out(s, p, irq);
    }
    return take_slow(s, gfp, p, irq);
}

/* ---- Clearing ---- */

static uint64_t pooled(unsigned node, unsigned kind)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_zones[i].node == node)
            n += qi_load_relaxed(&pools[i][kind].count);
    return n;
}

/* Frames that the pools of all nodes may hold. */
static uint64_t target(uint64_t managed)
{
    return QI_MIN(QI_MAX(managed / 100, (uint64_t)LEAST), managed / 16);
}

/* What is still missing in the pools of one kind. */
static uint64_t missing(unsigned node, unsigned kind)
{
    uint64_t all = 0, here = 0, want, have;

    for (unsigned i = 0; i < qi_nzones; i++) {
        uint64_t n = qi_load_relaxed(&qi_zones[i].managed);

        all += n;
        here += qi_zones[i].node == node ? n : 0;
    }
    if (!all)
        return 0;
    want = target(all) / 4 * (kind ? 3 : 1);
    want = here == all ? want : want * (here / 16) / (all / 16 + 1);
    have = pooled(node, kind);
    return want > have ? want - have : 0;
}

/* The zone that a request is served from first, if it can spare frames. */
static bool plenty(unsigned node, quire_gfp gfp)
{
    unsigned class = qi_gfp_class(gfp);
    const struct qi_zone *z = qi_zone_listed(qi_zonelists[node][class]);

    return z && z->node == node && qi_zone_spare(z, class, gfp, QI_MARK_HIGH) > SLOTS;
}

/* A frame that is allocated and clear becomes free again, here. */
static void put_in(struct quire_page *p, unsigned kind)
{
    unsigned long irq = qport_irq_save();
    uint32_t flags = quire_page_flags_now(p);
    struct pool *pool = &pools[qi_zone_of(flags)->slot][kind];

    if (QI_UNLIKELY(flags & QI_PG_NOT_FAST || p->counts != 1)) {
        qport_irq_restore(irq);
        quire_page_free(p, 0); /* it has gone bad meanwhile */
        return;
    }
    QPORT_EVENT(FRAME_FREE, p, 0);
    qi_store_relaxed(&p->flags, (flags & QI_PG_KEPT) | QUIRE_PG_FREE);
    qi_store_relaxed(&p->counts, (uint64_t)0);
    qi_spin_lock_raw(&pool->lock);
    p->next = pool->first;
    pool->first = (uint32_t)quire_pfn_of_page(p).v;
    qi_store_relaxed(&pool->count, pool->count + 1);
    qi_store_relaxed(&pool->entered, pool->entered + 1);
    qi_spin_unlock_raw(&pool->lock);
    qport_irq_restore(irq);
}

static uint64_t clear_some(unsigned node, unsigned kind, uint64_t budget)
{
    quire_gfp gfp = kind ? QUIRE_GFP_MOVABLE : QUIRE_GFP_KERNEL;
    uint64_t n = QI_MIN(budget, missing(node, kind)), done = 0;

    for (; done < n && plenty(node, gfp) && !quire_frame_fail_armed(); done++) {
        struct quire_page *p = quire_page_alloc(0, gfp | WHENCE, node);

        if (!p)
            break;
        quire_page_clear(p);
        put_in(p, kind);
    }
    if (done)
        qi_store_relaxed(&qi_zero_used, 1u);
    return done;
}

uint64_t quire_frame_zero_idle(uint64_t budget)
{
    unsigned long irq = qport_irq_save();
    unsigned node = qi_cpu_nodes[qport_cpu()];
    uint64_t done;

    qport_irq_restore(irq);
    done = clear_some(node, 1, budget);
    return done + clear_some(node, 0, budget - done);
}

/* ---- Giving back ---- */

/* To the bitmap itself: the stacks of this CPU may be just what is being emptied.  Interrupts off. */
static void give_back(struct quire_page *p)
{
    uint64_t pfn = quire_pfn_of_page(p).v;
    struct qi_zone *z = qi_zone_of(quire_page_flags_now(p));

    if (QI_UNLIKELY(qi_page_unfit(p))) {
        qi_fetch_add_relaxed(&pools[z->slot][0].left,
                             (uint64_t)1); /* which sifting counts as a free */
        qi_pages_sift(p, 0);
        return;
    }
    qi_zone_lock(z);
    qi_zone_give_mask(z, pfn & ~63ull, 1ull << pfn % 64);
    qi_zone_unlock(z);
}

unsigned qi_zero_drain(unsigned cpu)
{
    struct quire_page *out[DRAIN_STEP];
    unsigned n = 0, got;

    if (!qi_load_relaxed(&qi_zero_used))
        return 0;
    for (unsigned k = 0; k < KINDS; k++) {
        struct stack *s = &stacks[cpu][k];

        for (; s->count; n++) {
            struct quire_page *p = s->pages[s->count - 1];

            qi_store_relaxed(&s->count, s->count - 1);
            qi_fetch_sub_relaxed(&pools[s->slot][k].left, (uint64_t)1);
            give_back(p);
        }
        for (unsigned i = 0; i < qi_nzones; i++)
            while (qi_load_relaxed(&pools[i][k].count) &&
                   (got = pool_take(&pools[i][k], out, DRAIN_STEP)))
                for (n += got; got; got--)
                    give_back(out[got - 1]);
    }
    return n;
}

/* ---- Counting ---- */

/* Their struct pages are not looked at: they may have gone meanwhile. */
static uint64_t in_stacks(const struct qi_zone *z)
{
    uint64_t n = 0;

    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned k = 0; k < KINDS; k++)
            if (qi_load_relaxed(&stacks[c][k].slot) == z->slot)
                n += qi_load_relaxed(&stacks[c][k].count);
    return n;
}

struct qi_zero_count qi_zero_count(const struct qi_zone *z)
{
    struct qi_zero_count c = {0};
    uint64_t held;

    if (!qi_load_relaxed(&qi_zero_used))
        return c;
    held = in_stacks(z);
    for (unsigned k = 0; k < KINDS; k++) {
        const struct pool *pool = &pools[z->slot][k];

        c.free += qi_load_relaxed(&pool->count);
        c.frees += qi_load_relaxed(&pool->entered);
        c.allocs += qi_load_relaxed(&pool->left);
    }
    c.free += held;
    c.allocs -= QI_MIN(held, c.allocs);
    return c;
}

void quire_frame_zero_stats(struct quire_zero_stats *out)
{
    *out = (struct quire_zero_stats){.target = target(quire_managed_pages())};
    for (unsigned i = 0; i < qi_nzones; i++) {
        out->free += qi_zero_count(&qi_zones[i]).free;
        for (unsigned k = 0; k < KINDS; k++)
            out->cleared += qi_load_relaxed(&pools[i][k].entered);
    }
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned k = 0; k < KINDS; k++)
            out->hits += qi_load_relaxed(&stacks[c][k].hits);
}

/* ---- Checking ---- */

static bool sound(const struct qi_zone *z, const struct quire_page *p)
{
    uint64_t pfn = quire_pfn_of_page(p).v;
    uint32_t b = qi_block_of(z, pfn);

    return pfn >= z->start && pfn < z->end && !p->refs && quire_page_order(p) == 0 &&
           (p->flags & QUIRE_PG_FREE || qi_pages_marked(p, 0)) &&
           z->blocks[b].state == QI_BLOCK_PART &&
           !qi_bits_any(z->bits[b], pfn % QI_BLOCK_FRAMES, 0);
}

static bool broken(const struct qi_zone *z, const struct quire_page *p)
{
    if (sound(z, p))
        return false;
    qi_log(QUIRE_LOG_ERROR, "frames: F9: zeroed pfn %#lx of zone %u: flags %#x refs %u",
           (unsigned long)quire_pfn_of_page(p).v, z->slot, p->flags, p->refs);
    return true;
}

bool qi_zero_verify(const struct qi_zone *z, uint64_t *frames)
{
    for (unsigned k = 0; k < KINDS; k++) {
        const struct pool *pool = &pools[z->slot][k];
        uint32_t pfn = pool->first;

        for (uint64_t i = 0; i < pool->count; i++, ++*frames) {
            if (broken(z, quire_page_of_pfn(Q_PFN(pfn))))
                return false;
            pfn = quire_page_of_pfn(Q_PFN(pfn))->next;
        }
        for (unsigned c = 0; c < qi_ncpus; c++)
            for (unsigned i = 0; i < stacks[c][k].count; i++) {
                const struct quire_page *p = stacks[c][k].pages[i];

                if (stacks[c][k].slot != z->slot)
                    break;
                if (broken(z, p))
                    return false;
                ++*frames;
            }
    }
    return true;
}
