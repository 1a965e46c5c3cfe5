/*
 * frame/cma.c - contiguous memory areas.  What they are for is in quire/cma.h.
 *
 * Model.  An area is a bitmap over frames whose pageblocks are of the type CMA.  A set bit: its frames
 * were allocated from the area, or are just being taken.  A clear one: they are the allocator's, free or
 * lent.  An allocation sets bits where they are clear, takes the frames (contig.c), and clears the bits
 * again if it finds them busy.
 *
 *     bitmap     0 0 1 1 1 0 0 0
 *     frames     f m c c c m f f       f free, m lent to a movable user, c the area's
 *
 * Blocks become CMA when all their frames are held by the area: they are isolated, freed, given the type,
 * and released.  The same way back.
 *
 * Locking.  `busy`, a sleeping lock of the area, is held while frames are taken, since two that take in one
 * pageblock would only disturb each other.  The bitmap has a spin lock, so that a release need not wait.
 *
 * Rejected.  A bitmap alone, without lending: that is a reservation.  Linux's ranges of several zones in
 * one area: a range is taken from one zone.
 *
 * Sources.  Linux, mm/cma.c: cma_declare_contiguous(), cma_alloc(); Nazarewicz, "A deep dive into CMA",
 * LWN 2012.
 */
#include <quire/cma.h>
#include "../sync/rwsem.h"
#include "isolate.h"

#define FRAMES_OF(bytes) ((bytes) / QUIRE_PAGE_SIZE)
#define ALLOC_GFP        (QUIRE_GFP_ZERO | QUIRE_GFP_NORETRY)

enum area_state { UNUSED, SET_ASIDE, READY };

struct quire_cma {
    enum area_state state;
    uint32_t boot; /* of which quire_frame_init(), counted: others' areas are gone */
    const char *name;
    uint64_t start, frames;
    unsigned order_per_bit;
    struct qi_rwsem busy;
    struct qi_spin lock;
    /* under lock */
    uint64_t *bits;
    struct quire_page *bits_page; /* where they are */
    uint64_t used;                /* bits set */
    uint64_t allocs, fails, frames_allocated, busies;
};

static struct quire_cma areas[QUIRE_MAX_CMA_AREAS];

static const struct qi_lock_class busy_class = {"cma area"}, lock_class = {"cma bitmap"};

/* ---- The table of areas ---- */

static bool alive(const struct quire_cma *a) { return a->state == READY && a->boot == qi_boots; }

/* A place for an area of that quire_frame_init(); NULL: it has as many as there may be. */
static struct quire_cma *area_new(const struct quire_cma_config *c, uint32_t boot)
{
    for (unsigned i = 0; i < QUIRE_MAX_CMA_AREAS; i++) {
        struct quire_cma *a = &areas[i];

        if (a->state != UNUSED && a->boot == boot)
            continue;
        *a = (struct quire_cma){.name = c->name, .boot = boot, .order_per_bit = c->order_per_bit};
        qi_rwsem_init(&a->busy, &busy_class);
        qi_spin_init(&a->lock, &lock_class);
        return a;
    }
    return NULL;
}

static bool config_good(const struct quire_cma_config *c, uint64_t *size, uint64_t *align)
{
    *align = QI_MAX(c->align, (uint64_t)QUIRE_HUGE_SIZE);
    *size = qi_align_up(c->size, QUIRE_HUGE_SIZE);
    return c->name && c->size && *size >= c->size && !(*align & (*align - 1)) &&
           !(c->base.v & (*align - 1)) && c->base.v + *size >= c->base.v &&
           (!c->limit || !c->base.v || c->base.v + *size <= c->limit) &&
           c->order_per_bit <= QI_BLOCK_ORDER;
}

/* ---- At boot ---- */

/* All of the range is usable. */
static bool usable(const struct quire_memmap *m, uint64_t at, uint64_t end)
{
    for (uint32_t i = 0; i < m->n && at < end; i++) { /* they rise */
        const struct quire_mem_range *r = &m->ranges[i];

        if (r->kind == QUIRE_MEM_USABLE && r->base.v <= at && at - r->base.v < r->len)
            at = r->base.v + r->len;
    }
    return at >= end;
}

enum quire_status quire_cma_reserve(struct quire_memmap *map, const struct quire_cma_config *config,
                                    struct quire_cma **out)
{
    uint64_t size, align;
    struct quire_cma *a;
    enum quire_status s;
    q_pa at = config->base;

    if (!config_good(config, &size, &align) || (at.v && !usable(map, at.v, at.v + size)))
        return QUIRE_INVALID;
    a = area_new(config, qi_boots + 1);
    if (!a)
        return QUIRE_TOO_MANY;
    s = at.v ? quire_memmap_reserve(map, at, size, config->name, NULL)
             : quire_memmap_alloc(map, size, align, config->limit, config->node, config->name, &at);
    if (s)
        return s;
    a->start = FRAMES_OF(at.v);
    a->frames = FRAMES_OF(size);
    a->state = SET_ASIDE;
    *out = a;
    return QUIRE_OK;
}

static uint64_t nbits(const struct quire_cma *a) { return a->frames >> a->order_per_bit; }

static enum quire_status make_bitmap(struct quire_cma *a)
{
    uint64_t bytes = (nbits(a) + 63) / 64 * 8;
    unsigned order = 0;

    while (QUIRE_PAGE_SIZE << order < bytes)
        order++;
    a->bits_page = quire_page_alloc(order, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (!a->bits_page)
        return QUIRE_NO_MEMORY;
    a->bits = quire_page_ptr(a->bits_page);
    return QUIRE_OK;
}

/* A block that is there and of which no frame is managed becomes free memory of the type CMA, or (probe)
 * could. */
static bool give_reserved(uint64_t pfn, bool probe)
{
    unsigned long irq = qi_look_begin();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);
    bool could = z && b->state == QI_BLOCK_RESERVED && !b->managed;

    if (could && !probe) {
        qi_store_relaxed(&b->type, (uint8_t)QUIRE_CMA);
        qi_store_relaxed(&b->pages, (uint8_t)QI_PAGES_LOOSE);
        qi_block_give(pfn);
    }
    qi_look_end(irq);
    return could;
}

static enum quire_status start(struct quire_cma *a)
{
    enum quire_status s;

    for (uint64_t f = 0; f < a->frames; f += QI_BLOCK_FRAMES)
        if (!give_reserved(a->start + f, true)) {
            qi_log(QUIRE_LOG_ERROR, "cma: %s: pfn %#lx is not reserved", a->name,
                   (unsigned long)(a->start + f));
            return QUIRE_INVALID;
        }
    s = make_bitmap(a);
    if (s)
        return s;
    for (uint64_t f = 0; f < a->frames; f += QI_BLOCK_FRAMES)
        give_reserved(a->start + f, false);
    a->state = READY;
    return QUIRE_OK;
}

enum quire_status quire_cma_start(void)
{
    enum quire_status worst = QUIRE_OK, s;

    for (unsigned i = 0; i < QUIRE_MAX_CMA_AREAS; i++)
        if (areas[i].state == SET_ASIDE && areas[i].boot == qi_boots) {
            s = start(&areas[i]);
            worst = s ? s : worst;
        }
    qi_frame_watermarks();
    qi_zonelists_update();
    qi_frame_stacks_update();
    return worst;
}

/* ---- Later ---- */

/* The blocks of a range all of whose frames we hold, as single pages, become free blocks of the type. */
static void give_as(uint64_t start, uint64_t frames, enum quire_migrate_type type)
{
    enum quire_status s = qi_isolate_range(start, start + frames);

    QI_CHECK(!s, "cma: pfn %#lx, %lu frames: held, but %s", (unsigned long)start,
             (unsigned long)frames, quire_status_text(s));
    quire_free_contig_range(Q_PFN(start), frames);
    for (uint64_t f = 0; f < frames; f += QI_BLOCK_FRAMES)
        qi_isolated_set_type(start + f, type);
    qi_isolate_undo(start, start + frames);
}

static quire_gfp gfp_below(uint64_t limit)
{
    return limit == 16ull << 20 ? QUIRE_GFP_DMA : limit ? QUIRE_GFP_DMA32 : QUIRE_GFP_KERNEL;
}

enum quire_status quire_cma_create(const struct quire_cma_config *config, struct quire_cma **out)
{
    uint64_t size, align;
    struct quire_page *p;
    struct quire_cma *a;
    enum quire_status s;

    if (!config_good(config, &size, &align) ||
        (config->limit && config->limit != 4ull << 30 && config->limit != 16ull << 20))
        return QUIRE_INVALID;
    a = area_new(config, qi_boots);
    if (!a)
        return QUIRE_TOO_MANY;
    a->frames = FRAMES_OF(size);
    s = make_bitmap(a);
    if (s)
        return s;
    if (config->base.v) {
        p = quire_page_of_pfn(quire_pfn_of_pa(config->base));
        s = quire_alloc_contig_range(quire_pfn_of_pa(config->base), a->frames, 0, QUIRE_MOVABLE);
    } else {
        p = quire_alloc_contig_pages(a->frames, FRAMES_OF(align), gfp_below(config->limit),
                                     config->node);
        s = p ? QUIRE_OK : QUIRE_NO_MEMORY;
    }
    if (s) {
        quire_page_put(a->bits_page);
        return s;
    }
    a->start = quire_pfn_of_page(p).v;
    give_as(a->start, a->frames, QUIRE_CMA);
    a->state = READY;
    *out = a;
    return QUIRE_OK;
}

enum quire_status quire_cma_destroy(struct quire_cma *a)
{
    enum quire_status s = QUIRE_BUSY;

    if (!a->used)
        s = quire_alloc_contig_range(Q_PFN(a->start), a->frames, 0, QUIRE_CMA);
    if (s)
        return s;
    give_as(a->start, a->frames, QUIRE_MOVABLE);
    quire_page_put(a->bits_page);
    a->state = UNUSED;
    return QUIRE_OK;
}

/* ---- The bitmap ---- */

static bool bit(const struct quire_cma *a, uint64_t i) { return a->bits[i / 64] >> i % 64 & 1; }

static void set_bits(struct quire_cma *a, uint64_t at, uint64_t n, bool on)
{
    for (uint64_t i = at; i < at + n; i++)
        if (on)
            a->bits[i / 64] |= 1ull << i % 64;
        else
            a->bits[i / 64] &= ~(1ull << i % 64);
    a->used += on ? n : -n;
}

/* n clear bits from bit at on, the first of which stands for a frame aligned to so many; set them.
 * nbits(): there are none. */
static uint64_t claim(struct quire_cma *a, uint64_t at, uint64_t n, uint64_t align)
{
    unsigned long irq = qi_spin_lock_irq(&a->lock);
    uint64_t end = nbits(a), run = 0, first = end;

    for (; at < end; at++) {
        if (!run && (a->start + (at << a->order_per_bit)) & (align - 1))
            continue;
        run = bit(a, at) ? 0 : run + 1;
        if (run == n) {
            first = at + 1 - n;
            set_bits(a, first, n, true);
            break;
        }
    }
    qi_spin_unlock_irq(&a->lock, irq);
    return first;
}

static void unclaim(struct quire_cma *a, uint64_t at, uint64_t n, bool busy)
{
    unsigned long irq = qi_spin_lock_irq(&a->lock);

    set_bits(a, at, n, false);
    a->busies += busy;
    qi_spin_unlock_irq(&a->lock, irq);
}

/* ---- Allocation ---- */

static void count_call(struct quire_cma *a, uint64_t frames)
{
    unsigned long irq = qi_spin_lock_irq(&a->lock);

    a->allocs += frames != 0;
    a->fails += frames == 0;
    a->frames_allocated += frames;
    qi_spin_unlock_irq(&a->lock, irq);
}

struct quire_page *quire_cma_alloc(struct quire_cma *a, uint64_t count, unsigned align_order,
                                   quire_gfp gfp)
{
    uint64_t n = (count + (1ull << a->order_per_bit) - 1) >> a->order_per_bit, at = 0;
    struct quire_page *p = NULL;

    QI_CHECK(alive(a) && count && !(gfp & ~ALLOC_GFP),
             "cma: allocation of %lu frames, flags %#x, from an area in state %u",
             (unsigned long)count, gfp, a->state);
    if (count > a->frames || align_order >= 52)
        return count_call(a, 0), NULL;
    qi_rwsem_write_lock(&a->busy);
    while ((at = claim(a, at, n, 1ull << align_order)) < nbits(a)) {
        q_pfn first = Q_PFN(a->start + (at << a->order_per_bit));

        if (!quire_alloc_contig_range(first, count, gfp & QUIRE_GFP_ZERO, QUIRE_CMA)) {
            p = quire_page_of_pfn(first);
            break;
        }
        unclaim(a, at, n, true);
        if (gfp & QUIRE_GFP_NORETRY)
            break;
        at++;
    }
    qi_rwsem_write_unlock(&a->busy);
    count_call(a, p ? count : 0);
    return p;
}

bool quire_cma_contains(const struct quire_cma *a, const struct quire_page *page)
{
    uint64_t pfn = quire_pfn_of_page(page).v;

    return pfn >= a->start && pfn - a->start < a->frames;
}

/* count frames from pfn on are the area's, and all their bits are set. */
static bool allocated(struct quire_cma *a, uint64_t pfn, uint64_t count, uint64_t at, uint64_t n)
{
    unsigned long irq = qi_spin_lock_irq(&a->lock);
    bool good = pfn >= a->start && pfn - a->start < a->frames && count &&
                count <= a->frames - (pfn - a->start) &&
                !((pfn - a->start) & ((1ull << a->order_per_bit) - 1));

    for (uint64_t i = at; good && i < at + n; i++)
        good = bit(a, i);
    qi_spin_unlock_irq(&a->lock, irq);
    return good;
}

void quire_cma_release(struct quire_cma *a, struct quire_page *page, uint64_t count)
{
    uint64_t pfn = quire_pfn_of_page(page).v, at = (pfn - a->start) >> a->order_per_bit;
    uint64_t n = (count + (1ull << a->order_per_bit) - 1) >> a->order_per_bit;

    QI_CHECK(allocated(a, pfn, count, at, n),
             "cma: release of pfn %#lx, %lu frames: not allocated from %s", (unsigned long)pfn,
             (unsigned long)count, a->name);
    quire_free_contig_range(Q_PFN(pfn), count);
    unclaim(a, at, n, false);
}

/* ---- What it says of itself ---- */

static uint64_t largest(const struct quire_cma *a)
{
    uint64_t best = 0, run = 0;

    for (uint64_t i = 0; i < nbits(a); i++) {
        run = bit(a, i) ? 0 : run + 1;
        best = QI_MAX(best, run);
    }
    return best << a->order_per_bit;
}

enum quire_status quire_cma_stats(unsigned i, struct quire_cma_stats *out)
{
    struct quire_cma *a = areas, *end = areas + QUIRE_MAX_CMA_AREAS;
    unsigned long irq;

    for (; a < end; a++)
        if (alive(a) && i-- == 0)
            break;
    if (a == end)
        return QUIRE_NOT_FOUND;
    irq = qi_spin_lock_irq(&a->lock);
    *out = (struct quire_cma_stats){
        .name = a->name,
        .start = Q_PFN(a->start),
        .frames = a->frames,
        .order_per_bit = a->order_per_bit,
        .used = a->used << a->order_per_bit,
        .largest = largest(a),
        .allocs = a->allocs,
        .fails = a->fails,
        .frames_allocated = a->frames_allocated,
        .busy = a->busies,
    };
    qi_spin_unlock_irq(&a->lock, irq);
    return QUIRE_OK;
}

enum quire_status quire_cma_verify(struct quire_cma *a)
{
    uint64_t used = 0;

    for (uint64_t f = 0; f < a->frames; f++) {
        uint64_t i = f >> a->order_per_bit;
        uint32_t flags = quire_page_flags(Q_PFN(a->start + f));
        bool first = !(f & ((1ull << a->order_per_bit) - 1));

        used += first && bit(a, i);
        if (qi_frame_type(a->start + f) != QUIRE_CMA ||
            (first && bit(a, i) && flags & QUIRE_PG_FREE)) {
            qi_log(QUIRE_LOG_ERROR, "cma: %s: pfn %#lx, type %u, flags %#x, bit %u", a->name,
                   (unsigned long)(a->start + f), qi_frame_type(a->start + f), flags, bit(a, i));
            return QUIRE_CORRUPT;
        }
    }
    if (used == a->used)
        return QUIRE_OK;
    qi_log(QUIRE_LOG_ERROR, "cma: %s: %lu bits set, %lu said", a->name, (unsigned long)used,
           (unsigned long)a->used);
    return QUIRE_CORRUPT;
}
