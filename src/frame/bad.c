/*
 * frame/bad.c - frames that the hardware calls bad: out of the allocator at once, or when they come
 * back.
 *
 * Purpose.  A frame that was poisoned is never handed out again, whatever it is doing at that moment;
 * nothing else is lost with it, and who allocates and frees other frames does not notice.
 *
 * Model.  A bad frame is first marked (QUIRE_PG_POISON), then withheld: RESERVED as well, one
 * reference that nobody drops, no longer managed.  Marked and not withheld are frames that somebody
 * holds, and frames in the stack of another CPU.  A withheld frame is in no bitmap, so its pageblock is
 * never whole again and its neighbours merge up to it.
 *
 * A frame in a stack of another CPU is made to look wrong: FREE goes away from what its owner tests
 * when he takes it, so he comes here by the branch that catches damaged frames, and the path of sound
 * ones is as long as ever.  A free tests the mark in the same mask as double frees.  Blocks are scanned
 * only while their zone has marked frames (qi_zone.marked).
 *
 * Concurrency.  Under the zone's lock; marks are set by atomics.  The allocator's fast paths store the
 * flags of a frame that is theirs without one: a mark that meets another CPU between its test and
 * its store is lost.  That is why such a frame is reported as BUSY, which means ask again; and why only
 * the holder can be sure that the mark on a frame in use will stay (quire/frame.h).
 *
 * Who may sleep does better (quire_frame_soft_offline): the pageblock is isolated and the frame emptied
 * (isolate.c), so that it is withheld while it is in a bitmap, where no mark can be lost.
 *
 * Rejected.  A lock or an atomic in the fast paths: everybody would pay at every allocation for what
 * happens once in the life of a machine.  A bitmap of bad frames: twice the memory of the allocator's own.
 *
 * Sources.  Linux, mm/memory-failure.c: take_page_off_buddy(), free_has_hwpoisoned(),
 * soft_offline_page(), unpoison_memory().
 */
#include "isolate.h"

static bool is_marked(const struct quire_page *p)
{
    return (quire_page_flags_now(p) & (QUIRE_PG_POISON | QUIRE_PG_RESERVED)) == QUIRE_PG_POISON;
}

bool qi_pages_marked(const struct quire_page *p, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++)
        if (is_marked(p + i))
            return true;
    return false;
}

/* The frame, which is in no structure, never comes back. */
static void withhold(struct qi_zone *z, struct quire_page *p)
{
    struct qi_block *b = &z->blocks[qi_block_of(z, quire_pfn_of_page(p).v)];

    qi_store_relaxed(&p->flags, qi_flags_at(p, z->place | QUIRE_PG_POISON | QUIRE_PG_RESERVED));
    qi_store_relaxed(&p->counts, (uint64_t)1);
    qi_store_relaxed(&b->managed, (uint16_t)(b->managed - 1));
    z->cma -= (b->type & ~QI_TYPE_ISOLATED) == QUIRE_CMA;
    qi_store_relaxed(&z->managed, z->managed - 1);
    qi_store_relaxed(&z->poisoned, z->poisoned + 1);
}

/* A block that is in no structure and that nobody holds: withhold what is marked, and give the rest
 * back. */
static void sift(struct qi_zone *z, struct quire_page *p, unsigned order)
{
    uint64_t pfn = quire_pfn_of_page(p).v, n = 1ull << order, mask = 0;

    if (order >= QI_BLOCK_ORDER)
        qi_zone_shatter(z, pfn, order);
    z->frees += n;
    for (uint64_t i = 0; i < n; i++) {
        if (is_marked(p + i)) {
            withhold(z, p + i);
            qi_store_relaxed(&z->marked, z->marked - (z->marked != 0));
        } else {
            qi_store_relaxed(&p[i].flags, qi_flags_at(p, z->place | QUIRE_PG_FREE));
            qi_store_relaxed(&p[i].counts, (uint64_t)0);
            mask |= 1ull << (pfn + i) % 64;
        }
        if ((pfn + i) % 64 == 63 || i + 1 == n) {
            if (mask)
                qi_zone_give_mask(z, (pfn + i) & ~63ull, mask);
            mask = 0;
        }
    }
}

bool qi_zone_sift(struct qi_zone *z, struct quire_page *p, unsigned order)
{
    bool marked = qi_pages_marked(p, order);

    if (marked)
        sift(z, p, order);
    return marked;
}

void qi_pages_sift(struct quire_page *p, unsigned order)
{
    struct qi_zone *z = qi_zone_of(quire_page_flags_now(p));
    bool marked;

    qi_zone_lock(z);
    marked = qi_zone_sift(z, p, order);
    qi_zone_unlock(z);
    if (!marked)
        qi_page_bad(p, order, "free frame was written to");
}

QI_NOINLINE void qi_page_free_marked(struct quire_page *p, unsigned refs)
{
    unsigned long irq;

    if (quire_page_zone(p) == QUIRE_ZONE_DEVICE) {
        qi_device_page_freed(p, refs);
        return;
    }
    if (quire_page_flags_now(p) & QI_PG_STATE || p->counts != refs)
        qi_page_bad(p, 0, "bad free");
    irq = qport_irq_save();
    QPORT_EVENT(FRAME_FREE, p, 0);
    qi_pages_sift(p, 0);
    qport_irq_restore(irq);
}

/* ---- Stacks ---- */

/* Take the block at k out of a stack of this CPU, as if it had been handed out. */
static struct quire_page *stack_remove(struct qi_stack *s, unsigned k)
{
    struct quire_page *p = s->base[k];
    uint32_t n = qi_stack_count(s) - 1;

    for (; k < n; k++)
        s->base[k] = s->base[k + 1];
    qi_store_relaxed(&s->top, s->base + n);
    s->allocs++;
    return p;
}

void qi_stack_sift(struct qi_stack *s)
{
    for (unsigned k = qi_stack_count(s); k-- > 0;)
        if (qi_pages_marked(s->base[k], s->order))
            sift(s->zone, stack_remove(s, k), s->order);
}

/* The frame is in one of this CPU's stacks: withhold it. */
static bool poison_cached(struct qi_zone *z, struct quire_page *p)
{
    struct qi_stack *s = qi_stack_of(&qi_frame_cpus[qport_cpu()], z->place, 0, 0);

    for (unsigned k = 0; k < QI_STACK_KINDS * QI_STACK_TYPES; k++, s++)
        for (unsigned i = 0; i < qi_stack_count(s); i++) {
            if (p < s->base[i] || p >= s->base[i] + (1u << s->order))
                continue;
            qi_fetch_or_relaxed(&p->flags, QUIRE_PG_POISON);
            qi_store_relaxed(&z->marked, z->marked + 1);
            sift(z, stack_remove(s, i), s->order);
            return true;
        }
    return false;
}

/* ---- The report of the hardware ---- */

/* The head of the block that p is a part of, p itself if it is alone. */
static struct quire_page *block_head(struct quire_page *p)
{
    uint64_t pfn = quire_pfn_of_page(p).v;

    for (unsigned o = 0; quire_page_flags_now(p) & QUIRE_PG_TAIL && o <= QUIRE_MAX_ORDER; o++) {
        struct quire_page *head = p - pfn % (1ull << o);

        if (quire_page_flags_now(head) & QUIRE_PG_HEAD && quire_page_order(head) >= o)
            return head;
    }
    return p;
}

/* A frame that is in no bitmap and no stack of this CPU. */
static enum quire_status poison_elsewhere(struct qi_zone *z, struct quire_page *p)
{
    struct quire_page *head = block_head(p);
    bool cached = quire_page_flags_now(head) & QUIRE_PG_FREE;

    if (is_marked(p))
        return QUIRE_EXISTS;
    if (quire_page_flags_now(head) & QUIRE_PG_HEAD && qi_map_shared(head))
        return QUIRE_BUSY;
    qi_store_relaxed(&z->marked, z->marked + 1);
    qi_fetch_or_acqrel(&p->flags, QUIRE_PG_POISON);
    if (!cached)
        return QUIRE_OK;
    qi_fetch_and_acqrel(&head->flags, ~QUIRE_PG_FREE);
    return QUIRE_BUSY;
}

static enum quire_status poison(struct qi_zone *z, struct qi_block *b, struct quire_page *p)
{
    uint64_t pfn = quire_pfn_of_page(p).v;

    if (b->state == QI_BLOCK_WHOLE || b->state == QI_BLOCK_BODY)
        qi_zone_break(z, qi_block_of(z, pfn));
    if (b->state == QI_BLOCK_PART) {
        uint32_t flags = quire_page_flags_now(p);

        if (flags & QUIRE_PG_RESERVED)
            return flags & QUIRE_PG_POISON ? QUIRE_EXISTS : QUIRE_INVALID;
        if (z->atomic_bits && z->atomic_base == (pfn & ~63ull))
            qi_reserve_release(z);
        if (qi_zone_take_frame(z, pfn)) {
            withhold(z, p);
            return QUIRE_OK;
        }
        return poison_cached(z, p) ? QUIRE_OK : poison_elsewhere(z, p);
    }
    if (b->state < QI_BLOCK_PART)
        return QUIRE_INVALID;
    /* one allocation of whole blocks; its pages may still be in the making */
    if (qi_load_relaxed(&b->pages) < QI_BLOCK_ORDER)
        return QUIRE_BUSY;
    return poison_cached(z, p) ? QUIRE_OK : poison_elsewhere(z, p);
}

/* Do it to a frame of memory, under the lock of its zone. */
static enum quire_status with_frame(q_pfn pfn,
                                    enum quire_status (*act)(struct qi_zone *, struct qi_block *,
                                                             struct quire_page *))
{
    unsigned long irq = qi_look_begin();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn.v, &b);
    enum quire_status s = QUIRE_INVALID;

    if (z) {
        qi_zone_lock(z);
        s = act(z, b, quire_page_of_pfn(pfn));
        qi_zone_unlock(z);
    }
    qi_look_end(irq);
    return s;
}

enum quire_status quire_frame_poison(q_pfn pfn) { return with_frame(pfn, poison); }

/* ---- With time: off line before it fails, and back ---- */

/* The frame, alone in its range, is free in the bitmap of an isolated block: withhold it. */
static enum quire_status withhold_free(uint64_t pfn)
{
    unsigned long irq = qi_look_begin();
    enum quire_status s = QUIRE_BUSY;
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);

    qi_zone_lock(z);
    if (qi_zone_take_frame(z, pfn)) {
        withhold(z, quire_page_of_pfn(Q_PFN(pfn)));
        s = QUIRE_OK;
    }
    qi_zone_unlock(z);
    qi_look_end(irq);
    return s;
}

enum quire_status quire_frame_soft_offline(q_pfn pfn)
{
    uint32_t flags = quire_page_flags(pfn);
    enum quire_status s;

    if (flags & (QUIRE_PG_POISON | QUIRE_PG_RESERVED))
        return flags & QUIRE_PG_POISON ? QUIRE_EXISTS : QUIRE_INVALID;
    s = qi_isolate_range(pfn.v, pfn.v + 1);
    if (s)
        return s;
    s = qi_range_empty(pfn.v, pfn.v + 1);
    if (!s)
        s = withhold_free(pfn.v);
    qi_isolate_undo(pfn.v, pfn.v + 1);
    return s;
}

/* The frame of a block under its bitmap is withheld, or held and marked; zone locked. */
static enum quire_status unpoison(struct qi_zone *z, struct qi_block *b, struct quire_page *p)
{
    uint64_t pfn = quire_pfn_of_page(p).v;

    if (!(quire_page_flags_now(p) & QUIRE_PG_POISON) || b->state < QI_BLOCK_PART)
        return QUIRE_INVALID;
    if (is_marked(p)) {
        if (!block_head(p)->counts) /* in the stack of a CPU: first it has to come out */
            return QUIRE_BUSY;
        qi_fetch_and_acqrel(&p->flags, ~QUIRE_PG_POISON);
        qi_store_relaxed(&z->marked, z->marked - (z->marked != 0));
        return QUIRE_OK;
    }
    qi_store_relaxed(&p->flags, qi_flags_at(p, z->place | QUIRE_PG_FREE));
    qi_store_relaxed(&p->counts, (uint64_t)0);
    qi_store_relaxed(&b->managed, (uint16_t)(b->managed + 1));
    z->cma += (b->type & ~QI_TYPE_ISOLATED) == QUIRE_CMA;
    qi_store_relaxed(&z->managed, z->managed + 1);
    qi_store_relaxed(&z->poisoned, z->poisoned - 1);
    qi_zone_give_mask(z, pfn & ~63ull, 1ull << pfn % 64);
    return QUIRE_OK;
}

enum quire_status quire_frame_unpoison(q_pfn pfn) { return with_frame(pfn, unpoison); }

uint64_t quire_frame_poisoned_pages(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        n += qi_load_relaxed(&qi_zones[i].poisoned) + qi_load_relaxed(&qi_zones[i].marked);
    return n;
}
