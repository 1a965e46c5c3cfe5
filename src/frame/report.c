/*
 * frame/report.c - what the allocator says of itself: counts of zones, what occupies a pageblock and
 * a node.  The texts made of it are in views.c.
 *
 * Nothing stops while it is counted: each number was true at some moment, but not all at the same.
 */
#include "zone.h"

/* Blocks walked under one taking of the lock. */
#define WALK_STEP 64u

uint64_t quire_managed_pages(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        n += qi_load_relaxed(&qi_zones[i].managed);
    return n;
}

static uint64_t cached_pages(const struct qi_zone *z)
{
    uint64_t n = qi_zero_count(z).free;

    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned k = 0; k < QI_STACK_KINDS; k++)
            for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
                struct qi_stack *s = qi_stack_of(&qi_frame_cpus[c], z->place, k, t);

                n += (uint64_t)qi_stack_count(s) << s->order;
            }
    return n;
}

uint64_t quire_free_pages(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        n += qi_load_relaxed(&qi_zones[i].free) + cached_pages(&qi_zones[i]) +
             qi_popcount(qi_load_relaxed(&qi_zones[i].atomic_bits));
    return n;
}

/* Maximal free blocks of each order, from the bitmaps and the heads of whole runs; and pageblocks, by
 * type.  A run of whole blocks counts as what its first block is. */
static void census(struct qi_zone *z, struct quire_zone_types *out)
{
    uint64_t bits[QI_BLOCK_WORDS] = {0};

    *out = (struct quire_zone_types){0};
    for (uint32_t i = 0; i < z->nblocks;) {
        unsigned long irq = qport_irq_save();
        uint32_t end = QI_MIN(z->nblocks, i + WALK_STEP);

        qi_zone_lock(z);
        for (; i < end; i++) {
            const struct qi_block *b = &z->blocks[i];
            unsigned type = qi_block_type(b);

            if (b->state != QI_BLOCK_ABSENT)
                out->blocks[type]++;
            if (b->state == QI_BLOCK_WHOLE)
                out->free_blocks[type][b->order]++;
            else if (b->state == QI_BLOCK_PART && b->free)
                qi_bits_census(z->bits[i], out->free_blocks[type]);
        }
        qi_zone_unlock(z);
        qport_irq_restore(irq);
    }
    bits[0] = qi_load_relaxed(&z->atomic_bits);
    if (bits[0])
        qi_bits_census(bits, out->free_blocks[QUIRE_UNMOVABLE]);
}

/* Adds what went through the stacks, whose counters may change meanwhile. */
static void count_traffic(const struct qi_zone *z, struct quire_zone_stats *out)
{
    struct qi_zero_count zeroed = qi_zero_count(z);

    out->allocs += zeroed.allocs;
    out->frees += zeroed.frees;
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned k = 0; k < QI_STACK_KINDS; k++)
            for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
                const struct qi_stack *s = qi_stack_of(&qi_frame_cpus[c], z->place, k, t);
                uint64_t taken = s->allocs << s->order;
                uint64_t now = (uint64_t)qi_stack_count(s) << s->order;

                /* what it holds came from blocks or was freed by callers */
                out->allocs += taken;
                out->frees += now + taken - s->net;
            }
}

enum quire_status quire_zone_stats(unsigned i, struct quire_zone_stats *out)
{
    struct qi_zone *z = &qi_zones[i];
    struct quire_zone_types types;
    unsigned long irq;

    if (i >= qi_nzones)
        return QUIRE_NOT_FOUND;
    *out = (struct quire_zone_stats){
        .name = qi_zone_names[z->type],
        .node = z->node,
        .type = (enum quire_zone_type)z->type,
        .start = Q_PFN(z->start),
        .end = Q_PFN(z->end),
        .cached = cached_pages(z),
        .fails = qi_load_relaxed(&z->fails),
    };
    irq = qport_irq_save();
    qi_zone_lock(z);
    out->present = qi_load_relaxed(&z->present); /* with managed, which never exceeds it */
    out->managed = z->managed;
    out->poisoned = z->poisoned;
    out->atomic_reserve = qi_popcount(z->atomic_bits);
    out->free = z->free + out->atomic_reserve;
    out->cma = z->cma;
    out->free_cma = z->free_cma;
    out->isolated = z->isolated;
    out->wmark_min = z->wmark[QI_MARK_MIN];
    out->wmark_low = z->wmark[QI_MARK_LOW];
    out->wmark_high = z->wmark[QI_MARK_HIGH];
    out->boost = qi_zone_boost(z);
    out->allocs = z->allocs;
    out->frees = z->frees;
    out->lock_acquisitions = z->locked;
    qi_zone_unlock(z);
    qport_irq_restore(irq);
    count_traffic(z, out);
    census(z, &types);
    for (unsigned t = 0; t < QUIRE_ISOLATE; t++)
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
            out->free_blocks[o] += types.free_blocks[t][o];
    return QUIRE_OK;
}

enum quire_status quire_zone_types(unsigned i, struct quire_zone_types *out)
{
    if (i >= qi_nzones)
        return QUIRE_NOT_FOUND;
    census(&qi_zones[i], out);
    return QUIRE_OK;
}

/*
 * Linux, mm/vmstat.c: unusable_free_index(), __fragmentation_index(); Gorman and Whitcroft, "The
 * What, The Why and the Where To of Anti-Fragmentation", OLS 2006; Gorman's thesis, chapter 2.
 * A free block of order k serves 2^(k - order) requests.
 */
unsigned quire_unusable_permille(const struct quire_zone_stats *s, unsigned order)
{
    uint64_t pages = 0, usable = 0;

    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        pages += s->free_blocks[o] << o;
        usable += o >= order ? s->free_blocks[o] << o : 0;
    }
    return pages ? (unsigned)((pages - usable) * 1000 / pages) : 1000;
}

int quire_fragmentation_permille(const struct quire_zone_stats *s, unsigned order)
{
    uint64_t pages = 0, blocks = 0;

    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        if (o >= order && s->free_blocks[o])
            return -1000; /* a request would succeed */
        pages += s->free_blocks[o] << o;
        blocks += s->free_blocks[o];
    }
    return blocks ? 1000 - (int)((1000 + (pages * 1000 >> order)) / blocks) : 0;
}

/* ---- One frame, one pageblock ---- */

struct qi_zone *qi_zone_of_frame(uint64_t pfn, struct qi_block **block)
{
    /* Spans of nodes may interleave, so the span alone does not say whose the frame is; where two
     * zones share a pageblock the struct page does. */
    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];
        struct qi_block *b;

        if (pfn < qi_block_pfn(z, 0) || pfn >= qi_block_pfn(z, z->nblocks))
            continue;
        b = &z->blocks[qi_block_of(z, pfn)];
        if (qi_load_acquire(&b->state) == QI_BLOCK_ABSENT)
            continue;
        *block = b;
        if (qi_load_relaxed(&b->managed) == QI_BLOCK_FRAMES ||
            qi_zone_has(z, qi_load_relaxed(&quire_page_of_pfn(Q_PFN(pfn))->flags)))
            return z;
    }
    return NULL;
}

bool quire_pfn_valid(q_pfn pfn)
{
    unsigned long irq = qi_look_begin();
    struct qi_block *b;
    bool valid = qi_zone_of_frame(pfn.v, &b) != NULL || qi_device_has(pfn.v);

    qi_look_end(irq);
    return valid;
}

/* The head of a page with these flags; itself unless it is a tail, for the index of others is their
 * user's.  One that may just become something else has an index that is not to be believed. */
static const struct quire_page *head_now(const struct quire_page *p, uint32_t flags)
{
    uint32_t index = flags & QUIRE_PG_TAIL ? qi_load_relaxed(&p->index) : 0;

    if (flags & QUIRE_PG_TAIL && !index) /* of a shared map (attach.c) */
        index = quire_pfn_of_page(p).v & ((1u << (flags >> QUIRE_PG_ORDER_SHIFT & 31)) - 1);
    return index >> QUIRE_MAX_ORDER ? p : p - index;
}

/* The caller looks (qi_look_begin()). */
static uint32_t flags_of(q_pfn pfn)
{
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn.v, &b);
    const struct quire_page *p, *head;
    uint32_t flags;
    uint64_t first;
    unsigned form;

    if (!z)
        return qi_device_has(pfn.v) ? qi_load_relaxed(&quire_page_of_pfn(pfn)->flags)
                                    : QUIRE_PG_RESERVED;
    p = quire_page_of_pfn(pfn);
    /* of one moment: zeros of a block that was just untouched are no flags of one that is not */
    do {
        form = qi_load_acquire(&b->pages);
        flags = qi_load_acquire(&p->flags);
    } while (qi_load_relaxed(&b->pages) != form);
    if (qi_load_relaxed(&b->managed) == QI_BLOCK_FRAMES && form == QI_PAGES_UNTOUCHED)
        return qi_flags_at(p, z->place | QUIRE_PG_FREE);
    if (!(flags & (QUIRE_PG_HEAD | QUIRE_PG_TAIL)))
        return flags;
    head = head_now(p, flags);
    /* what is left of a block whose head is something else by now, or not there any more, is free */
    first = quire_pfn_of_page(head).v;
    if (form > QI_BLOCK_ORDER && first >= qi_block_pfn(z, 0) &&
        qi_load_relaxed(&z->blocks[qi_block_of(z, first)].pages) != form)
        return qi_flags_at(p, z->place | QUIRE_PG_FREE);
    /* so is a free block that kept its form */
    if (qi_load_relaxed(&head->flags) & QUIRE_PG_FREE)
        return qi_flags_at(p, z->place | QUIRE_PG_FREE);
    return flags;
}

uint32_t quire_page_flags(q_pfn pfn)
{
    unsigned long irq = qi_look_begin();
    uint32_t flags = flags_of(pfn);

    qi_look_end(irq);
    return flags;
}

/* A free frame is in no block, so it must be in a stack. */
static bool cached(const struct qi_zone *z, const struct qi_block *b, uint64_t pfn)
{
    uint64_t head = pfn & ~(QI_BLOCK_FRAMES - 1ull);

    if (b->state == QI_BLOCK_PART)
        return !(z->bits[qi_block_of(z, pfn)][pfn / 64 % QI_BLOCK_WORDS] >> pfn % 64 & 1);
    return b->state == QI_BLOCK_USED &&
           qi_load_relaxed(&quire_page_of_pfn(Q_PFN(head))->flags) & QUIRE_PG_FREE;
}

/* One frame of a pageblock that is not free as a whole. */
static void classify(struct quire_block_info *out, const struct qi_zone *z,
                     const struct qi_block *b, uint64_t pfn)
{
    uint32_t raw = qi_load_relaxed(&quire_page_of_pfn(Q_PFN(pfn))->flags);
    uint32_t flags = flags_of(Q_PFN(pfn));
    /* a tail is what its head is */
    uint32_t what = raw & QUIRE_PG_TAIL && !(flags & QUIRE_PG_FREE)
                        ? qi_load_relaxed(&head_now(quire_page_of_pfn(Q_PFN(pfn)), raw)->flags)
                        : flags;

    if (flags & QUIRE_PG_POISON)
        out->poisoned++;
    else if (flags & QUIRE_PG_RESERVED)
        out->reserved++;
    else if (flags & QUIRE_PG_FREE && cached(z, b, pfn))
        out->cached++;
    else if (flags & QUIRE_PG_FREE)
        out->free++;
    else if (what & QUIRE_PG_SLAB)
        out->slab++;
    else if (what & QUIRE_PG_TABLE)
        out->table++;
    else if (what & QUIRE_PG_KVA)
        out->kva++;
    else if (what & QUIRE_PG_HEAD && (what >> QUIRE_PG_ORDER_SHIFT & 31) >= QI_BLOCK_ORDER)
        out->huge++, out->anon_huge += !!(what & QUIRE_PG_ANON);
    else if (what & QUIRE_PG_ANON)
        out->anon++;
    else if (what & QUIRE_PG_OBJECT)
        out->file++;
    else
        out->other++;
}

/* Frame pfn of a pageblock that some zone has frames in: is it one of any zone? */
static bool frame_present(uint64_t pfn, const struct qi_zone **z, const struct qi_block **block)
{
    struct qi_block *b;
    const struct quire_page *p;

    *z = qi_zone_of_frame(pfn, &b);
    *block = b;
    if (!*z)
        return false;
    p = quire_page_of_pfn(Q_PFN(pfn));
    /* a hole is RESERVED without a holder */
    return qi_load_relaxed(&p->refs) || !(quire_page_flags_now(p) & QUIRE_PG_RESERVED);
}

/* All frames of the n-th pageblock are of one zone and free, so that none of them need be looked at (the
 * struct pages of memory that was never used need not even exist); or no zone has any of them. */
static bool uniform(uint64_t n, struct quire_block_info *out)
{
    struct qi_zone *owner = NULL;
    const struct qi_block *b;
    unsigned long irq;
    bool free;

    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];

        if (n < z->first_block || n - z->first_block >= z->nblocks ||
            qi_load_relaxed(&z->blocks[n - z->first_block].state) == QI_BLOCK_ABSENT)
            continue;
        if (owner)
            return false;
        owner = z;
    }
    if (!owner) {
        out->absent = QI_BLOCK_FRAMES;
        return true;
    }
    b = &owner->blocks[n - owner->first_block];
    irq = qport_irq_save();
    qi_zone_lock(owner);
    free = qi_zone_is_whole(owner, (uint32_t)(n - owner->first_block));
    out->type = qi_block_type(b);
    qi_zone_unlock(owner);
    qport_irq_restore(irq);
    out->node = owner->node;
    out->zone = (enum quire_zone_type)owner->type;
    out->free = free ? QI_BLOCK_FRAMES : 0;
    return free;
}

/* Frame pfn of the block, if it is one of this node. */
static void count_frame(uint64_t pfn, unsigned node, struct quire_block_info *out)
{
    const struct qi_zone *z;
    const struct qi_block *b;

    if (!frame_present(pfn, &z, &b) || (node != QUIRE_NODE_ANY && node != z->node)) {
        out->absent++;
        return;
    }
    if (out->absent == pfn - out->start.v) { /* the first that is there gives its name */
        out->node = z->node;
        out->zone = (enum quire_zone_type)z->type;
        out->type = qi_block_type(b);
    }
    classify(out, z, b, pfn);
}

/* The n-th pageblock; only frames of this node, unless it is QUIRE_NODE_ANY. */
static void count_block(uint64_t n, unsigned node, struct quire_block_info *out)
{
    unsigned long irq;

    *out = (struct quire_block_info){.start = Q_PFN(n * QI_BLOCK_FRAMES)};
    if (uniform(n, out)) {
        if (out->free && node != QUIRE_NODE_ANY && node != out->node)
            out->free = 0, out->absent = QI_BLOCK_FRAMES;
        return;
    }
    irq = qi_look_begin();
    for (uint64_t pfn = out->start.v; pfn < out->start.v + QI_BLOCK_FRAMES; pfn++)
        count_frame(pfn, node, out);
    qi_look_end(irq);
}

static uint64_t blocks_of_all(void)
{
    return (qi_top_frame + QI_BLOCK_FRAMES - 1) / QI_BLOCK_FRAMES;
}

enum quire_status quire_block_info(uint64_t n, struct quire_block_info *out)
{
    if (n >= blocks_of_all())
        return QUIRE_NOT_FOUND;
    count_block(n, QUIRE_NODE_ANY, out);
    return QUIRE_OK;
}

void quire_usage(unsigned node, struct quire_usage *out)
{
    struct quire_block_info b;

    *out = (struct quire_usage){0};
    for (uint64_t n = 0; n < blocks_of_all(); n++) {
        count_block(n, node, &b);
        out->free += b.free;
        out->cached += b.cached;
        out->reserved += b.reserved;
        out->slab += b.slab;
        out->table += b.table;
        out->kva += b.kva;
        out->anon += b.anon;
        out->file += b.file;
        out->huge += b.huge;
        out->anon_huge += b.anon_huge;
        out->other += b.other;
        out->poisoned += b.poisoned;
    }
}
