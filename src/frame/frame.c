/*
 * frame/frame.c - the frame allocator: taking and giving back, from the CPU's stacks or the zones.
 *
 * Purpose.  Hand out physical memory in blocks of 2^n frames, n = 0..QUIRE_MAX_ORDER, to any context
 * on any CPU; take it back and merge it; never fail while something suitable is free and no reserve
 * forbids it; never hand out a frame twice; catch whoever frees what is not his.
 *
 * Model.  A node is memory with one distance to each CPU.  A node's memory is cut into zones (DMA
 * below 16 MiB, DMA32 below 4 GiB, NORMAL; MOVABLE and HIGHMEM: layout.c), a zone into pageblocks of
 * 2 MiB.  A pageblock is in one of three conditions:
 *
 *     whole          free or one allocation of order >= 9, alone or in a run of 2^k pageblocks
 *     under bitmap   512 bits, one cache line, say which of its frames are free
 *     not ours       reserved, off line, or a hole
 *
 *     order  0 1 2 3 | 4 .. 8          | 9    | 10 .. MAX
 *            stacks                             |          of each CPU
 *            runs in the bitmap of a pageblock of the right type
 *                                      | buddies over the number of the pageblock
 *
 * Below 2 MiB a free block of a buddy system *is* a maximal run in the bitmap (see bitmap.h): it needs
 * no list node in the page, splitting is clearing bits, merging is setting them.  From 2 MiB up, whole
 * pageblocks are merged and split by the buddy rule on absolute pageblock numbers, so blocks are
 * aligned physically wherever a zone begins; list links are in the pageblock descriptors.  A free
 * frame's struct page is not read or written but for the flag that says FREE, and the pages of a
 * pageblock that was never used are not written at all.
 *
 * Pageblocks with something free hang on lists by (migrate type, order of the largest run, eighth of
 * fullness), with a mask of the lists that are not empty.  A request for order n looks at the first
 * list of its type at or above n: the block whose largest run is smallest, and of those a fuller one.
 * So nearly full blocks fill up, nearly empty ones become whole.  If its type has none, a whole
 * pageblock is taken and given the type; if there is none either, another type's emptiest block is
 * broken into, and changes its type if half of it is free.
 *
 * Stacks.  In front, each CPU has arrays of free blocks of orders 0..9 by zone and type: no lock,
 * no list, interrupts off for a handful of instructions.  An empty one takes a batch, a full one gives
 * back its older half, both under one taking of the zone's lock and word by word; they grow where frames
 * swing and shrink where nothing happens (stack.c).  Before an allocation fails it empties the stacks of
 * its own CPU and tries again, and asks the other CPUs to empty theirs.
 *
 * Reserves.  Each zone keeps min, low and high marks and a part of itself for requests that can use
 * nothing higher (marks.c).  A request looks for a zone above low, then for one above min; ATOMIC goes to
 * three eighths of min; MEMALLOC to nothing.
 *
 * Invariants, walked by quire_frame_verify() (verify.c):
 *   F1  a bitmap, its block's count and largest run, and the zone's count agree.
 *   F2  a frame whose bit is set is FREE, alone, of that zone, and has no holder; its page leads back
 *       to it.
 *   F3  a whole run is aligned, inside the zone, all its blocks are managed; of two buddies not both
 *       are free at the same order.
 *   F4  a block with something free is on the one list that F1's values name, no other block is.
 *   F5  what a stack holds is FREE, in no bitmap, in no other stack; nothing else is FREE and in none.
 *   F6  bad frames that are withheld are POISON and RESERVED, and counted by the zone (bad.c).
 *   F7  of an offline block nothing is managed or free; its frames are RESERVED (section.c).
 *   F8  what a zone sets aside for ATOMIC requests is FREE and in no bitmap (pressure.c).
 *   F9  what was cleared in advance is FREE and in no bitmap (zero.c); F5 counts it among the stacks.
 *   F10 what an isolated block has free is in its bitmap, on no list, and counted apart (isolate.c);
 *       wholly free blocks are MOVABLE or CMA, which never merge; CMA blocks are counted, and what
 *       is free of them.
 *
 * Locking.  One spin lock a zone, taken with interrupts off, guards bitmaps, descriptors and lists; it
 * is the innermost lock of the library.  A stack belongs to its CPU; others read its count, and close
 * it to have him look at what they ask.  Struct
 * pages of a block belong to whoever has taken it out.
 *
 * Failure.  No memory is NULL and changes nothing.  Misuse stops with values: double free (the FREE
 * flag, wherever the frame is), reserved or never allocated frames, wrong order, tails, frames that are
 * mapped or that others hold; a frame that was written to while free is caught when it goes out.
 *
 * Cost.  An order-0 pair is 60 instructions on bare x86-64, ten of which switch interrupts.
 * 0.16 bytes a frame for bitmap and descriptor.  Figures and alternatives: docs/design/frames.md.
 *
 * Sources.  LLFree (Wrenger et al., ATC 2023): bitmaps of a cache line, fuller chunks first.  Linux
 * mm/page_alloc.c: migrate types, watermarks, per-CPU lists.  Knowlton 1965, Knuth 2.5: buddies.
 *
 * Rejected.  Free lists through struct pages (Linux): each split and merge touches the pages of
 * buddies, most of them cold.  LLFree's lock-free trees: their compare-and-swaps cost more than an
 * uncontended lock once stacks keep nine calls of ten from the zone.  Bitmaps above 2 MiB as well: runs
 * of whole blocks are rare enough for lists, and a search would not be O(1).  A lock on each stack, so
 * that others could drain it: two atomics on the path that matters most, for the sake of one that does
 * not; what a CPU may hold back is bounded instead.
 */
#include <quire/pressure.h>
#include "zone.h"

static const struct qi_lock_class zone_lock_class = {"zone"};

struct qi_zone qi_zones[QI_MAX_ZONES];
unsigned qi_nzones, qi_nnodes, qi_ncpus;
uint64_t qi_top_frame;
uint32_t qi_boots;
uint8_t qi_cpu_nodes[QUIRE_MAX_CPUS];

/* Failure injection: allocations still to come until one fails; 0: off. */
static int64_t fail_left;

/* ---- Failure injection: while armed, limits of 0 send every call past the fast path ---- */

static bool injected(void)
{
    int64_t left = qi_load_relaxed(&fail_left);

    if (QI_LIKELY(left == 0))
        return false;
    if (qi_fetch_sub_acqrel(&fail_left, 1) != 1)
        return false;
    qi_stacks_use();
    return true;
}

void quire_frame_fail_after(int64_t n)
{
    int64_t before = qi_xchg_relaxed(&fail_left, n > 0 ? n : 0);

    if (n > 0 && before <= 0)
        qi_stacks_bypass();
    else if (n <= 0 && before > 0)
        qi_stacks_use();
    if (n > 0)
        quire_frame_drain();
}

bool quire_frame_fail_armed(void) { return qi_load_relaxed(&fail_left) > 0; }

/* ---- Allocation past the fast path ---- */

/* Hand the block out, unless it has a bad frame: then it is split around it.  Interrupts off. */
static bool offer(struct quire_page *p, unsigned order, uint32_t flags)
{
    if (QI_UNLIKELY(qi_page_unfit(p))) {
        qi_pages_sift(p, order);
        return false;
    }
    qi_page_hand_out(p, flags);
    return true;
}

/* A block of order 4 and up, whose struct pages are made after the lock is dropped: the block is
 * ours then. */
static struct quire_page *take_block(struct qi_zone *z, unsigned order, unsigned type)
{
    struct quire_page *p;

    qi_zone_lock(z);
    p = qi_zone_take(z, type, order);
    if (p)
        z->allocs += 1ull << order;
    qi_zone_unlock(z);
    if (!p)
        return NULL;
    if (!qi_pages_form(z, p, order)) {
        QPORT_EVENT(FRAME_ALLOC, p, order);
        return p;
    }
    if (qi_page_unfit(p))
        qi_page_bad(p, order, "free frame was written to");
    qi_page_hand_out(p, z->place | QUIRE_PG_HEAD | order << QUIRE_PG_ORDER_SHIFT);
    return p;
}

static struct qi_stack *stack_for(struct qi_zone *z, unsigned order, quire_gfp gfp)
{
    struct qi_frame_cpu *c = &qi_frame_cpus[qport_cpu()];
    struct qi_stack *cold = qi_stack_of(c, z->place, QI_STACK_COLD, qi_gfp_type(gfp));

    if (gfp & QUIRE_GFP_COLD && !order && cold->top != cold->base)
        return cold;
    return qi_stack_of(c, z->place, order, qi_gfp_type(gfp));
}

/* From this zone, if the mark lets it.  Interrupts off. */
static struct quire_page *take_from_zone(struct qi_zone *z, unsigned order, quire_gfp gfp,
                                         unsigned class, enum qi_mark mark)
{
    struct qi_stack *s;
    struct quire_page *p;

    if (qi_order_stacked(order)) {
        s = stack_for(z, order, gfp);
        do {
            if (s->top == s->base) {
                if (!qi_stack_fill(s, qi_zone_spare(z, class, gfp, mark)))
                    return NULL;
                qi_zone_taken(z);
            }
            p = qi_stack_pop(s);
        } while (!offer(p, order, s->flags));
        return p;
    }
    if (qi_zone_spare(z, class, gfp, mark) >> order == 0)
        return NULL;
    p = take_block(z, order, qi_gfp_type(gfp));
    if (QI_LIKELY(p != NULL))
        qi_zone_taken(z);
    return p;
}

#define ALL_NODES ~0ull

/* From the first zone of the list that is above that mark, of these nodes. */
static struct quire_page *take_at_mark(unsigned order, quire_gfp gfp, unsigned node, uint64_t nodes,
                                       enum qi_mark mark)
{
    unsigned class = qi_gfp_class(gfp);
    struct qi_zone *z;

    for (const uint16_t *l = qi_zonelists[node][class]; (z = qi_zone_listed(l)); l++) {
        struct quire_page *p;

        if (!(nodes >> z->node & 1))
            continue;
        p = take_from_zone(z, order, gfp, class,
                           mark == QI_MARK_LOW && z->node != node ? QI_MARK_REMOTE : mark);
        if (p)
            return p;
    }
    return NULL;
}

static struct quire_page *take_from_list(unsigned order, quire_gfp gfp, unsigned node,
                                         uint64_t nodes)
{
    struct quire_page *p = take_at_mark(order, gfp, node, nodes, QI_MARK_LOW);
    struct qi_zone *z;

    if (QI_LIKELY(p != NULL))
        return p;
    qi_frame_relieve();
    for (const uint16_t *l = qi_zonelists[node][qi_gfp_class(gfp)]; (z = qi_zone_listed(l)); l++)
        if (nodes >> z->node & 1) {
            qi_pressure_note(z, QUIRE_PRESSURE_MIN);
            break;
        }
    return take_at_mark(order, gfp, node, nodes, QI_MARK_MIN);
}

/* From what the zones have set aside for such requests, or by giving that back to all. */
static struct quire_page *take_from_reserve(unsigned order, quire_gfp gfp, unsigned node,
                                            uint64_t nodes)
{
    bool urgent = gfp & QUIRE_GFP_ATOMIC && order, released = false;
    const uint16_t *l = qi_zonelists[node][qi_gfp_class(gfp)];
    struct quire_page *p = NULL;
    struct qi_zone *z;

    if (!urgent && gfp & QUIRE_GFP_NORETRY)
        return NULL;
    for (; !p && (z = qi_zone_listed(l)); l++) {
        if (!(nodes >> z->node & 1) || !qi_load_relaxed(&z->atomic_bits))
            continue;
        qi_zone_lock(z);
        if (urgent)
            p = qi_reserve_take(z, order);
        else
            released |= qi_reserve_release(z);
        z->allocs += p ? 1ull << order : 0;
        qi_zone_unlock(z);
        if (p) {
            qi_pages_compound(z, p, order);
            QPORT_EVENT(FRAME_ALLOC, p, order);
        }
    }
    return released ? take_at_mark(order, gfp, node, nodes, QI_MARK_MIN) : p;
}

/* What this CPU holds back, of other types and orders, may be just what is missing. */
static struct quire_page *take_held_back(unsigned order, quire_gfp gfp, unsigned node,
                                         uint64_t nodes)
{
    struct quire_page *p = NULL;

    if (qi_frame_drain_cpu(qport_cpu()))
        p = take_at_mark(order, gfp, node, nodes, QI_MARK_MIN);
    if (!p)
        quire_frame_drain_ask(); /* for those who try again */
    return p ? p : take_from_reserve(order, gfp, node, nodes);
}

/* No zone of the node is above low: before another node is asked, some of it may be made free. */
static struct quire_page *take_reclaimed(unsigned order, quire_gfp gfp, unsigned node,
                                         unsigned long *irq)
{
    const struct qi_zone *first = qi_zone_listed(qi_zonelists[node][qi_gfp_class(gfp)]);
    struct quire_page *p;
    bool some;

    if (!first || first->node != node)
        return NULL;
    p = take_at_mark(order, gfp, node, 1ull << node, QI_MARK_LOW);
    if (p)
        return p;
    qport_irq_restore(*irq);
    some = qi_reclaim_local(node, order, gfp);
    *irq = qport_irq_save();
    return some ? take_at_mark(order, gfp, node, 1ull << node, QI_MARK_LOW) : NULL;
}

static void count_failure(unsigned class, unsigned node)
{
    struct qi_zone *z = qi_zone_listed(qi_zonelists[node][class]);

    if (z)
        qi_fetch_add_relaxed(&z->fails, 1u);
}

unsigned qi_wanted_node(unsigned node, unsigned class)
{
    const struct qi_zone *first = qi_zone_listed(qi_zonelists[node][class]);

    return first ? first->node : node;
}

/* Both counts.  Those of the CPUs' stacks are told from whose they are (node.c). */
static void count_place(struct qi_zone *z, unsigned order, uint64_t frames, unsigned wanted)
{
    qi_count_missed(z, frames, wanted);
    if (!qi_order_stacked(order))
        qi_count_remote(z, frames);
}

static QI_NOINLINE struct quire_page *clear_block(struct quire_page *p, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++)
        quire_page_clear(p + i);
    return p;
}

/* Memory is missing that boot left for later: take over some of it, interrupts as they were. */
static bool help_out(unsigned long *irq)
{
    enum quire_status s;

    if (!qi_load_relaxed(&qi_deferred_left))
        return false;
    qport_irq_restore(*irq);
    s = quire_frame_deferred_step();
    *irq = qport_irq_save();
    return s == QUIRE_OK;
}

struct quire_page *qi_page_alloc_among(unsigned order, quire_gfp gfp, unsigned node, uint64_t nodes)
{
    struct quire_page *p = NULL;
    unsigned long irq;

    QI_CHECK(node == QUIRE_NODE_ANY || node < qi_nnodes, "frames: allocation from node %u of %u",
             node, qi_nnodes);
    if (order > QUIRE_MAX_ORDER || injected())
        return NULL;
    irq = qport_irq_save();
    if (node == QUIRE_NODE_ANY)
        node = qi_cpu_nodes[qport_cpu()];
    if (gfp & QUIRE_GFP_THISNODE)
        nodes = 1ull << node;
    if (QI_UNLIKELY(qi_load_relaxed(&qi_tune.reclaim_mode)) && nodes >> node & 1)
        p = take_reclaimed(order, gfp, node, &irq);
    if (!p)
        p = take_from_list(order, gfp, node, nodes);
    if (QI_UNLIKELY(!p))
        p = take_held_back(order, gfp, node, nodes);
    while (QI_UNLIKELY(!p) && help_out(&irq))
        p = take_from_list(order, gfp, node, nodes);
    if (QI_LIKELY(p != NULL))
        count_place(qi_zone_of(p->flags), order, 1ull << order,
                    qi_wanted_node(node, qi_gfp_class(gfp)));
    else
        count_failure(qi_gfp_class(gfp), node);
    qport_irq_restore(irq);
    if (QI_UNLIKELY(qi_load_relaxed(&qi_pressure_noted)))
        qi_pressure_tell();
    if (p && gfp & QUIRE_GFP_ZERO)
        clear_block(p, order);
    return p;
}

struct quire_page *qi_page_alloc_slow(unsigned order, quire_gfp gfp, unsigned node)
{
    return qi_page_alloc_among(order, gfp, node, ALL_NODES);
}

/* The fast path found its stack empty, or what is on top bad. */
QI_NOINLINE struct quire_page *qi_page_alloc_instead(unsigned order, quire_gfp gfp,
                                                     unsigned long irq)
{
    struct qi_stack *s = qi_stack_fast(order, gfp);

    if (QI_UNLIKELY(s->top != s->base))
        qi_pages_sift(qi_stack_pop(s), order);
    qport_irq_restore(irq);
    return qi_page_alloc_slow(order, gfp, QUIRE_NODE_ANY);
}

/* All but single frames. */
static QI_NOINLINE struct quire_page *alloc_block(unsigned order, quire_gfp gfp)
{
    if (QI_UNLIKELY(!qi_order_stacked(order)))
        return qi_page_alloc_slow(order, gfp, QUIRE_NODE_ANY);
    return qi_page_pop(order, gfp);
}

static QI_NOINLINE struct quire_page *alloc_and_clear(quire_gfp gfp)
{
    struct quire_page *p = qi_page_pop(0, gfp & ~QUIRE_GFP_ZERO);

    return QI_LIKELY(p != NULL) ? clear_block(p, 0) : NULL;
}

/* A single frame, cleared in advance or now. */
static QI_NOINLINE struct quire_page *alloc_zeroed(quire_gfp gfp)
{
    struct quire_page *p;

    if (qi_load_relaxed(&qi_zero_used) && (p = qi_zero_take(gfp)))
        return p;
    return alloc_and_clear(gfp);
}

/* What quire_page_alloc() has one test for. */
#define SPECIAL (QUIRE_GFP_THISNODE | QUIRE_GFP_COLD | QUIRE_GFP_ZERO)

static QI_NOINLINE struct quire_page *alloc_special(unsigned order, quire_gfp gfp, unsigned node)
{
    struct quire_page *p;

    if (node != QUIRE_NODE_ANY || gfp & (QUIRE_GFP_THISNODE | QUIRE_GFP_COLD))
        return qi_page_alloc_slow(order, gfp, node);
    if (!order)
        return alloc_zeroed(gfp);
    p = alloc_block(order, gfp & ~QUIRE_GFP_ZERO);
    return p ? clear_block(p, order) : NULL;
}

struct quire_page *quire_page_alloc(unsigned order, quire_gfp gfp, unsigned node)
{
    if (QI_UNLIKELY(node != QUIRE_NODE_ANY || gfp & SPECIAL))
        return alloc_special(order, gfp, node);
    if (QI_UNLIKELY(order))
        return alloc_block(order, gfp);
    return qi_page_pop(0, gfp);
}

struct quire_page *quire_page_alloc_zone(enum quire_zone_type zone, unsigned order, quire_gfp gfp,
                                         unsigned node)
{
    struct quire_page *p = NULL;
    unsigned long irq;

    if (order > QUIRE_MAX_ORDER || zone > qi_gfp_class(gfp) || injected())
        return NULL;
    irq = qport_irq_save();
    if (node == QUIRE_NODE_ANY)
        node = qi_cpu_nodes[qport_cpu()];
    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_zones[i].type == zone && qi_zones[i].node == node) {
            p = take_from_zone(&qi_zones[i], order, gfp, zone, QI_MARK_MIN);
            if (!p && qi_frame_drain_cpu(qport_cpu()))
                p = take_from_zone(&qi_zones[i], order, gfp, zone, QI_MARK_MIN);
            while (!p && help_out(&irq))
                p = take_from_zone(&qi_zones[i], order, gfp, zone, QI_MARK_MIN);
            if (!p)
                qi_fetch_add_relaxed(&qi_zones[i].fails, 1u);
            else
                count_place(&qi_zones[i], order, 1ull << order, node);
        }
    qport_irq_restore(irq);
    if (p && gfp & QUIRE_GFP_ZERO)
        clear_block(p, order);
    return p;
}

/* ---- Freeing ---- */

/* A block that was checked, and has no stack, to its zone; interrupts are restored. */
static QI_NOINLINE void free_to_zone(struct qi_zone *z, struct quire_page *p, unsigned order,
                                     unsigned long irq)
{
    qi_zone_lock(z);
    /* another CPU may have marked a frame of it since, which it then took for a cached one */
    if (QI_LIKELY(!z->marked) || !qi_zone_sift(z, p, order)) {
        qi_zone_give(z, quire_pfn_of_page(p).v, order);
        z->frees += 1ull << order;
    }
    qi_zone_unlock(z);
    qport_irq_restore(irq);
}

/* A block of order 1 and up with that many references; checks, then to its stack or zone. */
static void free_block(struct quire_page *p, unsigned order, unsigned refs)
{
    const uint32_t form = QI_PG_STATE | 31u << QUIRE_PG_ORDER_SHIFT;
    uint32_t flags = quire_page_flags_now(p);
    unsigned long irq;
    struct qi_stack *s;

    if (QI_UNLIKELY((flags & form) != (QUIRE_PG_HEAD | order << QUIRE_PG_ORDER_SHIFT) ||
                    p->counts != refs))
        qi_page_bad(p, order, "bad free");
    if (QI_UNLIKELY(p[1].owner))
        qi_attached_free(p, order);
    irq = qport_irq_save();
    s = qi_stack_home(&qi_frame_cpus[qport_cpu()], quire_page_flags_now(p + 1));
    QPORT_EVENT(FRAME_FREE, p, order);
    if (QI_UNLIKELY(qi_load_relaxed(&s->zone->marked)) && qi_pages_marked(p, order)) {
        qi_pages_sift(p, order);
        qport_irq_restore(irq);
        return;
    }
    /* it keeps its form, as a free block may */
    qi_store_relaxed(&p->flags, (flags & QI_PG_KEPT) | QUIRE_PG_HEAD | QUIRE_PG_FREE);
    qi_store_relaxed(&p->counts, (uint64_t)0);
    if (QI_LIKELY(qi_order_stacked(order)))
        qi_stack_push_restore(s + order * QI_STACK_TYPES, p, irq);
    else
        free_to_zone(s->zone, p, order, irq);
}

void quire_page_free(struct quire_page *page, unsigned order)
{
    if (QI_LIKELY(order == 0))
        qi_page_free_fast(page);
    else
        free_block(page, order, 1);
}

void quire_page_put(struct quire_page *page)
{
    struct quire_page *p = quire_page_head(page);
    uint32_t refs = qi_load_acquire(&p->refs);
    unsigned order;

    /* Only a holder can take another reference, so the last holder races with nobody. */
    if (refs != 1) {
        QI_CHECK(refs && !(quire_page_flags_now(p) & QUIRE_PG_FREE),
                 "frames: put of pfn %#lx flags %#x refs %u", (unsigned long)quire_pfn_of_page(p).v,
                 p->flags, refs);
        if (qi_fetch_sub_acqrel(&p->refs, 1u) != 1)
            return;
        refs = 0;
    }
    order = quire_page_order(p);
    if (QI_LIKELY(!order))
        qi_page_free_refs(p, refs);
    else if (!(QI_UNLIKELY(p[1].owner) && qi_attached_put(p, refs)))
        free_block(p, order, refs);
}

void qi_zone_lock_init(struct qi_zone *z) { qi_spin_init(&z->lock, &zone_lock_class); }
