/*
 * frame/contig.c - very ranges of frames: taken whole, with what is in use there moved out.
 *
 * Purpose.  Hand out a range that the caller names, or any range of a length that no block has: for devices
 * without scatter lists, gigantic pages, CMA areas (cma.c).
 *
 * Model.  The pageblocks of the range are isolated, the range is emptied (isolate.c), its bits are taken
 * from the bitmaps, and the isolation ends: what lies beside the range in its first and last block goes
 * back to the lists.  The frames come out as single pages, or as one block with head and tails.  All or
 * nothing: a range of which something stays is left as it was, but for what has been moved.
 *
 * A search (quire_alloc_contig_pages) looks at bitmaps and flags first, and goes on behind the last frame
 * that is in the way.  First for a range that is free, then for one that might be emptied.
 *
 * Rejected.  Linux's start at the larger of MAX_ORDER and pageblock: here free runs that reach over the
 * range's ends are bits of a bitmap, so that one frame can be taken out of the middle of anything.
 *
 * Sources.  Linux, mm/page_alloc.c: alloc_contig_range(), alloc_contig_pages().
 */
#include "isolate.h"

#define RANGE_GFP (QUIRE_GFP_ZERO | QUIRE_GFP_COMPOUND | QUIRE_GFP_MOVABLE)
#define PAGES_GFP \
    (RANGE_GFP | QUIRE_GFP_THISNODE | QUIRE_GFP_DMA | QUIRE_GFP_DMA32 | QUIRE_GFP_HIGHMEM)

/* The end of the part of a range that lies in frame pfn's block. */
static uint64_t part_end(uint64_t pfn, uint64_t end)
{
    return QI_MIN(end, (pfn / QI_BLOCK_FRAMES + 1) * QI_BLOCK_FRAMES);
}

/* ---- What may be asked for ---- */

/* A block of order n, or as single frames: possible? */
static bool shape_fits(uint64_t start, uint64_t frames, quire_gfp gfp)
{
    return !(gfp & QUIRE_GFP_COMPOUND) || (!(frames & (frames - 1)) && !(start & (frames - 1)) &&
                                           frames > 1 && frames >> QUIRE_MAX_ORDER <= 1);
}

/* The zone of the range, all of whose blocks are managed and of that type, CMA or not; NULL: it is none.
 * *beyond: behind the first block that is not. */
static struct qi_zone *zone_of_range(uint64_t start, uint64_t end, bool cma, uint64_t *beyond)
{
    struct qi_zone *zone = NULL;

    for (uint64_t pfn = start; pfn < end; pfn = *beyond) {
        unsigned long irq = qi_look_begin();
        struct qi_block *b;
        struct qi_zone *z = qi_zone_of_frame(pfn, &b);
        bool good = z && (!zone || z == zone) && qi_load_relaxed(&b->state) >= QI_BLOCK_PART &&
                    ((qi_load_relaxed(&b->type) & ~QI_TYPE_ISOLATED) == QUIRE_CMA) == cma;

        qi_look_end(irq);
        *beyond = part_end(pfn, UINT64_MAX);
        if (!good)
            return NULL;
        zone = z;
    }
    return zone;
}

/* ---- Taking ---- */

/* Give back what was taken of isolated blocks; their struct pages still say FREE. */
static void untake(struct qi_zone *z, uint64_t start, uint64_t end)
{
    unsigned long irq = qport_irq_save();

    qi_zone_lock(z);
    for (uint64_t pfn = start; pfn < end; pfn++)
        qi_zone_give_mask(z, pfn & ~63ull, 1ull << pfn % 64);
    z->frees += end - start;
    qi_zone_unlock(z);
    qport_irq_restore(irq);
}

/* All bits of the range out of the bitmaps of isolated blocks.  BUSY: a frame was called bad since the
 * range was found empty. */
static enum quire_status take(struct qi_zone *z, uint64_t start, uint64_t end)
{
    for (uint64_t pfn = start; pfn < end; pfn = part_end(pfn, end)) {
        unsigned n = (unsigned)(part_end(pfn, end) - pfn);
        unsigned long irq = qport_irq_save();
        bool got;

        qi_zone_lock(z);
        got = qi_zone_take_range(z, pfn, n);
        if (got)
            z->allocs += n;
        qi_zone_unlock(z);
        qport_irq_restore(irq);
        if (!got) {
            for (uint64_t at = start; at < pfn; at = part_end(at, pfn))
                untake(z, at, part_end(at, pfn));
            return QUIRE_BUSY;
        }
    }
    return QUIRE_OK;
}

/* Frames that were taken become pages that somebody holds.  False: one has been called bad. */
static bool make_singles(const struct qi_zone *z, uint64_t start, uint64_t end)
{
    /* what is freed from there one by one goes to MOVABLE stacks, as everything from such a block */
    uint32_t flags = z->place | (uint32_t)QUIRE_MOVABLE << QI_PG_TYPE_SHIFT;
    bool good = true;

    for (uint64_t pfn = start; pfn < end; pfn++) {
        struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));

        p->owner = 0;
        qi_store_relaxed(&p->counts, (uint64_t)1);
        if (qi_xchg_acqrel(&p->flags, qi_flags_at(p, flags)) & QUIRE_PG_POISON) {
            qi_fetch_or_relaxed(&p->flags, QUIRE_PG_POISON);
            good = false;
        }
        QPORT_EVENT(FRAME_ALLOC, p, 0);
    }
    return good;
}

/* The same as one block.  Nobody holds it yet. */
static void make_block(struct qi_zone *z, uint64_t start, uint64_t frames)
{
    struct quire_page *head = quire_page_of_pfn(Q_PFN(start));
    unsigned order = qi_lowest_bit(frames);
    uint32_t i = qi_block_of(z, start);
    unsigned long irq;

    if (order >= QI_BLOCK_ORDER) {
        irq = qport_irq_save();
        qi_zone_lock(z);
        qi_zone_join(z, i, order);
        qi_zone_unlock(z);
        qport_irq_restore(irq);
    }
    for (uint64_t n = frames; n-- > 0;) {
        QPORT_EVENT(FRAME_FREE, head + n, 0);
        head[n].counts = 0;
    }
    qi_pages_compound(z, head, order);
    for (uint32_t k = 0; order >= QI_BLOCK_ORDER && k < 1u << (order - QI_BLOCK_ORDER); k++)
        qi_store_relaxed(&z->blocks[i + k].pages, (uint8_t)order);
    QPORT_EVENT(FRAME_ALLOC, head, order);
}

static void clear(uint64_t start, uint64_t end)
{
    for (uint64_t pfn = start; pfn < end; pfn++)
        quire_page_clear(quire_page_of_pfn(Q_PFN(pfn)));
}

enum quire_status quire_alloc_contig_range(q_pfn start, uint64_t frames, quire_gfp gfp,
                                           enum quire_migrate_type type)
{
    uint64_t end = start.v + frames, beyond;
    struct qi_range_census c;
    enum quire_status s;
    struct qi_zone *z;

    if (!frames || end < frames || end > qi_top_frame || gfp & ~RANGE_GFP ||
        !shape_fits(start.v, frames, gfp) || (type != QUIRE_MOVABLE && type != QUIRE_CMA))
        return QUIRE_INVALID;
    z = zone_of_range(start.v, end, type == QUIRE_CMA, &beyond);
    if (!z)
        return QUIRE_INVALID;
    qi_range_look(start.v, end, &c);
    if (c.other | c.bad | c.fixed)
        return c.other ? QUIRE_INVALID : QUIRE_BUSY;
    s = qi_isolate_range(start.v, end);
    if (s)
        return s;
    s = qi_range_empty(start.v, end);
    if (!s)
        s = take(z, start.v, end);
    if (!s && !make_singles(z, start.v, end)) {
        quire_free_contig_range(start, frames);
        s = QUIRE_BUSY;
    }
    if (!s && gfp & QUIRE_GFP_COMPOUND)
        make_block(z, start.v, frames);
    qi_isolate_undo(start.v, end);
    if (!s && gfp & QUIRE_GFP_ZERO)
        clear(start.v, end);
    return s;
}

/* ---- Freeing ---- */

/* The page, held once, becomes free; false: it is bad, and went its own way. */
static bool make_free(struct quire_page *p)
{
    uint32_t flags = quire_page_flags_now(p);

    if (QI_UNLIKELY(flags & QI_PG_NOT_FAST || p->counts != 1)) {
        qi_page_free_marked(p, 1);
        return false;
    }
    QPORT_EVENT(FRAME_FREE, p, 0);
    qi_store_relaxed(&p->flags, (flags & QI_PG_KEPT) | QUIRE_PG_FREE);
    qi_store_relaxed(&p->counts, (uint64_t)0);
    return true;
}

/* Frames of one word of a bitmap. */
static void free_word(uint64_t pfn, uint64_t end)
{
    struct qi_zone *z = qi_zone_of(quire_page_flags_now(quire_page_of_pfn(Q_PFN(pfn))));
    unsigned long irq = qport_irq_save();
    uint64_t mask = 0, base = pfn & ~63ull;

    for (; pfn < end; pfn++)
        if (make_free(quire_page_of_pfn(Q_PFN(pfn))))
            mask |= 1ull << pfn % 64;
    if (mask) {
        qi_zone_lock(z);
        qi_zone_give_mask(z, base, mask);
        z->frees += qi_popcount(mask);
        qi_zone_unlock(z);
    }
    qport_irq_restore(irq);
}

void quire_free_contig_range(q_pfn start, uint64_t frames)
{
    uint64_t end = start.v + frames, next;

    QI_CHECK(frames && end > start.v && end <= qi_top_frame,
             "frames: free of a range from pfn %#lx, %lu frames", (unsigned long)start.v,
             (unsigned long)frames);
    for (uint64_t pfn = start.v; pfn < end; pfn = next) {
        next = QI_MIN(end, (pfn & ~63ull) + 64);
        free_word(pfn, next);
    }
}

/* ---- Searching ---- */

/* The range might be had: what is free, or (move) in use without being fixed.  *beyond: where to go on. */
static bool plausible(struct qi_zone *z, uint64_t start, uint64_t end, bool move, uint64_t *beyond)
{
    struct qi_range_census c;

    if (zone_of_range(start, end, false, beyond) != z)
        return false;
    qi_range_look(start, end, &c);
    *beyond = (move ? c.last : c.last_used) + 1;
    return !(c.other | c.bad | c.fixed) && (move || !c.used);
}

static struct quire_page *search(struct qi_zone *z, uint64_t n, uint64_t align, quire_gfp gfp,
                                 bool move)
{
    uint64_t at = qi_align_up(z->start, align), beyond;

    while (at < z->end && n <= z->end - at) {
        if (plausible(z, at, at + n, move, &beyond)) {
            if (quire_alloc_contig_range(Q_PFN(at), n, gfp, QUIRE_MOVABLE) == QUIRE_OK)
                return quire_page_of_pfn(Q_PFN(at));
            /* a look may say now what is in the way; what would not move is passed by as a whole, for each
             * try isolates and empties all of it */
            if (plausible(z, at, at + n, move, &beyond))
                beyond = at + n;
        }
        at = qi_align_up(beyond, align);
    }
    return NULL;
}

struct quire_page *quire_alloc_contig_pages(uint64_t n, uint64_t align, quire_gfp gfp,
                                            unsigned node)
{
    unsigned class = qi_gfp_class(gfp), from = node;
    struct qi_zone *z;

    QI_CHECK(node == QUIRE_NODE_ANY || node < qi_nnodes, "frames: allocation from node %u of %u",
             node, qi_nnodes);
    align = align ? align : 1;
    if (gfp & QUIRE_GFP_COMPOUND)
        align = QI_MAX(align, n);
    if (!n || align & (align - 1) || gfp & ~PAGES_GFP || !shape_fits(0, n, gfp))
        return NULL;
    if (node == QUIRE_NODE_ANY) {
        unsigned long irq = qport_irq_save();

        from = qi_cpu_nodes[qport_cpu()];
        qport_irq_restore(irq);
    }
    for (unsigned move = 0; move <= qi_range_may_move(); move++)
        for (const uint16_t *l = qi_zonelists[from][class]; (z = qi_zone_listed(l)); l++) {
            struct quire_page *p;

            if ((gfp & QUIRE_GFP_THISNODE && z->node != from) ||
                qi_zone_spare(z, class, gfp & ~QUIRE_GFP_MOVABLE, QI_MARK_MIN) < n)
                continue;
            p = search(z, n, align, gfp & RANGE_GFP, move);
            if (p)
                return p;
        }
    return NULL;
}
