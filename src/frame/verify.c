/*
 * frame/verify.c - the walk over every structure of this layer.  The invariants are in frame.c.
 */
#include "zone.h"

/* Log the first broken invariant, with the values, and give up. */
#define BROKEN(...) return qi_log(QUIRE_LOG_ERROR, __VA_ARGS__), QUIRE_CORRUPT

struct sums {
    uint64_t free;     /* frames in blocks, but isolated ones */
    uint64_t free_cma; /* of these, in CMA blocks */
    uint64_t cma;      /* frames of CMA blocks */
    uint64_t isolated; /* free frames in isolated blocks */
    uint32_t nisolated;
    uint64_t loose;  /* frames that say FREE but are in no bitmap: they must be in stacks */
    uint64_t listed; /* blocks met on lists */
    uint64_t bad;    /* frames withheld */
};

#define BAD (QUIRE_PG_POISON | QUIRE_PG_RESERVED)

/* In the stack of a CPU that does not know yet that a frame of it is bad (bad.c). */
static bool marked_free(const struct qi_zone *z, const struct quire_page *p)
{
    return z->marked && !(p->flags & (QUIRE_PG_RESERVED | QUIRE_PG_TAIL)) && !p->counts;
}

/* F1, F2: the bitmap of a block agrees with its descriptor and with its pages. */
static enum quire_status verify_part(const struct qi_zone *z, uint32_t i, struct sums *s)
{
    const struct qi_block *b = &z->blocks[i];
    const uint64_t *bits = z->bits[i];
    const struct quire_page *page = quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i)));

    if (b->free != qi_bits_count(bits) || b->free > b->managed ||
        (b->free == QI_BLOCK_FRAMES && !qi_block_isolated(b)))
        BROKEN("frames: F1: block %u of zone %u: free %u, bits %u, managed %u", i, z->slot, b->free,
               qi_bits_count(bits), b->managed);
    if (b->free && b->order != qi_bits_max_order(bits, QI_BITS_MAX_ORDER))
        BROKEN("frames: F1: block %u of zone %u: largest run %u, said %u", i, z->slot,
               qi_bits_max_order(bits, QI_BITS_MAX_ORDER), b->order);
    for (unsigned f = 0; f < QI_BLOCK_FRAMES; f++) {
        bool bit = bits[f / 64] >> f % 64 & 1;
        uint32_t flags = page[f].flags;

        if (bit && ((flags & 0xffffu) != QUIRE_PG_FREE || page[f].refs || !qi_zone_has(z, flags) ||
                    quire_pfn_of_page(&page[f]).v != qi_block_pfn(z, i) + f))
            BROKEN("frames: F2: pfn %#lx is free, flags %#x refs %u",
                   (unsigned long)(qi_block_pfn(z, i) + f), flags, page[f].refs);
        if (!qi_zone_has(z, flags))
            continue;
        s->bad += (flags & BAD) == BAD;
        if (!bit && (flags & QUIRE_PG_FREE || marked_free(z, &page[f])))
            s->loose += 1ull << quire_page_order(&page[f]);
    }
    if (qi_block_isolated(b)) {
        s->isolated += b->free;
        return QUIRE_OK;
    }
    s->free += b->free;
    s->free_cma += b->type == QUIRE_CMA ? b->free : 0u;
    s->listed += b->free != 0;
    return QUIRE_OK;
}

/* F3: a run of whole blocks is aligned, in the zone, and its bodies are bodies; the buddy of a free
 * one is not free as well. */
static enum quire_status verify_run(const struct qi_zone *z, uint32_t i, struct sums *s)
{
    const struct qi_block *b = &z->blocks[i];
    bool known = b->order >= QI_BLOCK_ORDER && b->order <= QUIRE_MAX_ORDER;
    uint64_t abs = z->first_block + i, n = known ? 1ull << (b->order - QI_BLOCK_ORDER) : 0;
    uint64_t buddy = (abs ^ n) - z->first_block;

    if (!known || abs & (n - 1) || i + n > z->nblocks)
        BROKEN("frames: F3: block %u of zone %u heads a run of order %u", i, z->slot, b->order);
    for (uint64_t k = 0; k < n; k++)
        if (b[k].managed != QI_BLOCK_FRAMES || b[k].free || (k && b[k].state != QI_BLOCK_BODY))
            BROKEN("frames: F3: block %lu of zone %u in a run of order %u: state %u managed %u",
                   (unsigned long)(i + k), z->slot, b->order, b[k].state, b[k].managed);
    if (b->state == QI_BLOCK_USED) {
        const struct quire_page *head = quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i)));

        if (head->flags & QUIRE_PG_FREE || marked_free(z, head))
            s->loose += n * QI_BLOCK_FRAMES;
        return QUIRE_OK;
    }
    if (b->order < QUIRE_MAX_ORDER && buddy < z->nblocks &&
        z->blocks[buddy].state == QI_BLOCK_WHOLE && z->blocks[buddy].order == b->order &&
        (z->blocks[buddy].type == QUIRE_CMA) == (b->type == QUIRE_CMA))
        BROKEN("frames: F3: block %u of zone %u and its buddy of order %u are both free", i,
               z->slot, b->order);
    for (uint64_t k = 1; k < n; k++)
        if (b[k].type != b->type)
            BROKEN("frames: F10: block %lu of zone %u is of type %#x in a run of type %#x",
                   (unsigned long)(i + k), z->slot, b[k].type, b->type);
    s->free += n * QI_BLOCK_FRAMES;
    s->free_cma += b->type == QUIRE_CMA ? n * QI_BLOCK_FRAMES : 0;
    s->listed++;
    return QUIRE_OK;
}

/* F7: nothing of an offline block is the allocator's, and every page of it says so. */
static enum quire_status verify_offline(const struct qi_zone *z, uint32_t i)
{
    const struct qi_block *b = &z->blocks[i];
    const struct quire_page *page = quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i)));

    if (b->managed || b->free || b->pages != QI_PAGES_LOOSE)
        BROKEN("frames: F7: block %u of zone %u is off line: managed %u, free %u, pages %u", i,
               z->slot, b->managed, b->free, b->pages);
    for (unsigned f = 0; f < QI_BLOCK_FRAMES; f++)
        if (page[f].flags != qi_flags_at(page, z->place | QUIRE_PG_RESERVED) || page[f].counts != 1)
            BROKEN("frames: F7: pfn %#lx is off line, flags %#x refs %u maps %u",
                   (unsigned long)(qi_block_pfn(z, i) + f), page[f].flags, page[f].refs,
                   page[f].maps);
    return QUIRE_OK;
}

static enum quire_status verify_blocks(const struct qi_zone *z, struct sums *s)
{
    uint32_t step;
    uint64_t managed = 0;

    for (uint32_t i = 0; i < z->nblocks; i += step) {
        const struct qi_block *b = &z->blocks[i];
        enum quire_status r = QUIRE_OK;

        step = 1;
        if (b->state == QI_BLOCK_PART) {
            r = verify_part(z, i, s);
        } else if (b->state == QI_BLOCK_WHOLE || b->state == QI_BLOCK_USED) {
            r = verify_run(z, i, s);
            if (!r)
                step = 1u << (b->order - QI_BLOCK_ORDER);
        } else if (b->state == QI_BLOCK_OFFLINE) {
            r = verify_offline(z, i);
        } else if (b->state > QI_BLOCK_RESERVED || b->managed) {
            BROKEN("frames: F3: block %u of zone %u: state %u outside a run", i, z->slot, b->state);
        }
        if (r)
            return r;
        for (uint32_t k = i; k < i + step; k++) {
            b = &z->blocks[k];
            managed += b->managed;
            s->cma += (b->type & ~QI_TYPE_ISOLATED) == QUIRE_CMA ? b->managed : 0u;
            s->nisolated += qi_block_isolated(b);
        }
    }
    if (managed != z->managed)
        BROKEN("frames: F1: zone %u manages %lu frames, its blocks %lu", z->slot,
               (unsigned long)z->managed, (unsigned long)managed);
    return QUIRE_OK;
}

/* Each block on the list belongs there; how many there are is added to *n.  A circle ends where it
 * closes: a block has one prev. */
static enum quire_status verify_list(const struct qi_zone *z, uint32_t head, unsigned state,
                                     unsigned type, unsigned list, uint64_t *n)
{
    uint32_t prev = QI_NONE;

    for (uint32_t i = head; i != QI_NONE; prev = i, i = z->blocks[i].next) {
        const struct qi_block *b;
        unsigned want;

        if (i >= z->nblocks)
            BROKEN("frames: F4: a list of zone %u leads to block %u of %u", z->slot, i, z->nblocks);
        ++*n;
        b = &z->blocks[i];
        want = state == QI_BLOCK_WHOLE ? b->order - (unsigned)QI_BLOCK_ORDER : qi_part_list(b);
        if (b->state != state || b->prev != prev || want != list || b->type != type)
            BROKEN("frames: F4: block %u of zone %u (state %u type %u) is on list %u of type %u, "
                   "not %u",
                   i, z->slot, b->state, b->type, list, type, want);
    }
    return QUIRE_OK;
}

static enum quire_status verify_lists(const struct qi_zone *z, const struct sums *s)
{
    enum quire_status r;
    uint64_t n = 0;

    for (unsigned k = 0; k < 2 * QI_BIG_LISTS; k++) {
        unsigned l = k / 2, type = k % 2 ? QUIRE_CMA : QUIRE_MOVABLE;
        uint32_t head = k % 2 ? z->cma_big[l] : z->big[l];
        uint32_t mask = k % 2 ? z->cma_mask : z->big_mask;

        if ((head != QI_NONE) != (mask >> l & 1))
            BROKEN("frames: F4: zone %u: mask of whole blocks %#x", z->slot, mask);
        r = verify_list(z, head, QI_BLOCK_WHOLE, type, l, &n);
        if (r)
            return r;
    }
    for (unsigned t = 0; t < QI_LIST_TYPES; t++)
        for (unsigned l = 0; l < QI_PART_LISTS; l++) {
            if ((z->part[t][l] != QI_NONE) != (z->part_mask[t] >> l & 1))
                BROKEN("frames: F4: zone %u: mask %#lx of type %u", z->slot,
                       (unsigned long)z->part_mask[t], t);
            r = verify_list(z, z->part[t][l], QI_BLOCK_PART, t, l, &n);
            if (r)
                return r;
        }
    if (n != s->listed)
        BROKEN("frames: F4: zone %u: %lu blocks on lists, %lu should be", z->slot, (unsigned long)n,
               (unsigned long)s->listed);
    return QUIRE_OK;
}

/* Of this order, free, and nowhere else. */
static bool in_place(const struct qi_zone *z, const struct quire_page *p, unsigned order)
{
    uint64_t pfn = quire_pfn_of_page(p).v;
    uint32_t i = qi_block_of(z, pfn);

    if (pfn < z->start || pfn >= z->end ||
        !(p->flags & QUIRE_PG_FREE || qi_pages_marked(p, order)) || p->refs ||
        quire_page_order(p) != order)
        return false;
    if (order == QI_BLOCK_ORDER)
        return z->blocks[i].state == QI_BLOCK_USED && z->blocks[i].order == order;
    return z->blocks[i].state == QI_BLOCK_PART &&
           !qi_bits_any(z->bits[i], pfn % QI_BLOCK_FRAMES, order);
}

/* F5: what a stack holds is free and in no bitmap.  *frames: how many there are. */
static enum quire_status verify_stacks(const struct qi_zone *z, uint64_t *frames)
{
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned k = 0; k < QI_STACK_KINDS * QI_STACK_TYPES; k++) {
            const struct qi_stack *s =
                &qi_frame_cpus[c].stacks[z->slot * QI_STACK_KINDS * QI_STACK_TYPES + k];

            if (qi_stack_count(s) > s->room)
                BROKEN("frames: F5: cpu %u: a stack of %u", c, qi_stack_count(s));
            for (unsigned i = 0; i < qi_stack_count(s); i++) {
                const struct quire_page *p = s->base[i];

                if (!in_place(z, p, s->order))
                    BROKEN("frames: F5: cpu %u holds pfn %#lx order %u, flags %#x refs %u", c,
                           (unsigned long)quire_pfn_of_page(p).v, s->order, p->flags, p->refs);
                *frames += 1ull << s->order;
            }
        }
    return QUIRE_OK;
}

/* F8: what is set aside is free, in no bitmap, and of a pageblock under one. */
static enum quire_status verify_reserve(const struct qi_zone *z, uint64_t *frames)
{
    for (unsigned i = 0; i < 64; i++) {
        uint64_t pfn = z->atomic_base + i;
        const struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));

        if (!(z->atomic_bits >> i & 1))
            continue;
        if (pfn < z->start || pfn >= z->end ||
            z->blocks[qi_block_of(z, pfn)].state != QI_BLOCK_PART ||
            qi_bits_any(z->bits[qi_block_of(z, pfn)], pfn % QI_BLOCK_FRAMES, 0) ||
            !(p->flags & QUIRE_PG_FREE) || p->counts)
            BROKEN("frames: F8: zone %u sets pfn %#lx aside, flags %#x refs %u", z->slot,
                   (unsigned long)pfn, p->flags, p->refs);
        ++*frames;
    }
    return QUIRE_OK;
}

/* F1, F10: the counts of a zone are the sums over its blocks. */
static enum quire_status verify_sums(const struct qi_zone *z, const struct sums *s)
{
    if (s->free != z->free)
        BROKEN("frames: F1: zone %u says %lu free, its blocks %lu", z->slot, (unsigned long)z->free,
               (unsigned long)s->free);
    if (s->free_cma != z->free_cma || s->cma != z->cma)
        BROKEN("frames: F10: zone %u has %lu CMA frames, %lu free, its blocks %lu, %lu free",
               z->slot, (unsigned long)z->cma, (unsigned long)z->free_cma, (unsigned long)s->cma,
               (unsigned long)s->free_cma);
    if (s->isolated != z->isolated || s->nisolated != z->nisolated)
        BROKEN("frames: F10: zone %u has %u isolated blocks with %lu free, found %u with %lu",
               z->slot, z->nisolated, (unsigned long)z->isolated, s->nisolated,
               (unsigned long)s->isolated);
    if (s->bad != z->poisoned)
        BROKEN("frames: F6: zone %u withholds %lu bad frames, %lu are marked so", z->slot,
               (unsigned long)z->poisoned, (unsigned long)s->bad);
    return QUIRE_OK;
}

static enum quire_status verify_zone(const struct qi_zone *z)
{
    struct sums s = {0};
    uint64_t cached = 0;
    enum quire_status r = verify_blocks(z, &s);

    if (!r)
        r = verify_sums(z, &s);
    if (!r)
        r = verify_lists(z, &s);
    if (!r)
        r = verify_stacks(z, &cached);
    if (!r)
        r = verify_reserve(z, &cached);
    if (!r && !qi_zero_verify(z, &cached))
        r = QUIRE_CORRUPT;
    if (!r && cached != s.loose)
        BROKEN("frames: F5: zone %u: %lu frames in stacks, %lu marked so", z->slot,
               (unsigned long)cached, (unsigned long)s.loose);
    return r;
}

enum quire_status quire_frame_verify(void)
{
    enum quire_status r = QUIRE_OK;

    for (unsigned i = 0; !r && i < qi_nzones; i++) {
        unsigned long irq = qport_irq_save();

        qi_zone_lock(&qi_zones[i]);
        r = verify_zone(&qi_zones[i]);
        qi_zone_unlock(&qi_zones[i]);
        qport_irq_restore(irq);
    }
    return r;
}
