/*
 * frame/device.c - memory of devices: it has struct pages, and the allocator never hands it out.
 *
 * Purpose.  Memory on a graphics card, or behind a link, is its driver's to give; but who maps it or holds
 * it does with it what he does with other frames: quire_page_get(), quire_page_put(), and when the
 * last reference goes its driver hears of it.
 *
 * Model.  Up to QI_DEVICES ranges of whole pageblocks, in no zone of the allocator; their pages say zone
 * DEVICE and RESERVED.  So every path of the allocator that frees leaves its fast part there, as for any
 * frame that is not its own, and only then asks whether it is a device's.  A page is with its driver
 * (refs 0) or held.
 *
 * Concurrency.  One range comes or goes at a time (the flag of section.c).  A range that is to go first
 * says so; then who takes the first reference of a page gives it back, and whoever did so before is
 * seen by the walk over the pages: a full fence on either side.  Its struct pages go when no CPU looks
 * any more (hotplug.c).
 *
 * Where its struct pages are is the memory model's business (map.h), or the device's own memory: then
 * its first frames hold them, the pages of these frames among them, with one reference for good, so that nobody takes
 * them; whoever drops that reference is found out.
 *
 *      | struct pages of all of it | frames for the driver                     |
 *      start                       own                                         end
 *
 * That costs no ordinary memory, whatever the size; the price is that every reference is counted in the device's
 * memory, which may be slow, and that the range must lie apart from others in most models.
 *
 * Sources.  Linux, mm/memremap.c: memremap_pages(), free_zone_device_page(); include/linux/memremap.h: struct
 * vmem_altmap.
 */
#include "map.h"

struct range {
    uint64_t start, end; /* frames; end atomic, 0: not in use */
    uint64_t own;        /* those below hold the struct pages of all */
    unsigned node;
    quire_device_released released;
    void *context;
    uint32_t leaving; /* atomic */
    uint32_t calls;   /* atomic; of released, under way */
};

static struct range ranges[QI_DEVICES];

void qi_device_init(void)
{
    for (unsigned i = 0; i < QI_DEVICES; i++)
        ranges[i] = (struct range){0};
}

/* The range of a frame; NULL: none.  The caller looks (qi_look_begin()), or holds the page. */
static struct range *range_of(uint64_t pfn)
{
    for (unsigned i = 0; i < QI_DEVICES; i++)
        if (pfn < qi_load_acquire(&ranges[i].end) && pfn >= ranges[i].start)
            return &ranges[i];
    return NULL;
}

bool qi_device_has(uint64_t pfn) { return range_of(pfn) != NULL; }

/* ---- Pages ---- */

struct quire_page *quire_device_page_take(q_pfn pfn)
{
    unsigned long irq = qi_look_begin();
    struct range *r = range_of(pfn.v);
    struct quire_page *p = r ? quire_page_of_pfn(pfn) : NULL;
    uint64_t none = 0;

    if (p && !qi_cas_acqrel(&p->counts, &none, (uint64_t)1))
        p = NULL;
    qi_fence_full();
    if (p && qi_load_relaxed(&r->leaving)) {
        qi_store_relaxed(&p->counts, (uint64_t)0);
        p = NULL;
    }
    qi_look_end(irq);
    return p;
}

void qi_device_page_freed(struct quire_page *p, unsigned refs)
{
    struct range *r = range_of(quire_pfn_of_page(p).v);

    if (!r || qi_load_relaxed(&p->counts) != refs || quire_pfn_of_page(p).v < r->own)
        qi_page_bad(p, 0, "bad free");
    qi_fetch_add_relaxed(&r->calls, 1u);
    p->owner = 0;
    qi_store_relaxed(&p->flags,
                     (quire_page_flags_now(p) & QI_PG_PLACE) | (uint32_t)QUIRE_PG_RESERVED);
    qi_store_release(&p->counts, (uint64_t)0);
    if (r->released)
        r->released(p, r->context);
    qi_fetch_sub_acqrel(&r->calls, 1u);
}

/* ---- Ranges ---- */

bool qi_device_meets(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < QI_DEVICES; i++)
        if (start < ranges[i].end && end > ranges[i].start)
            return true;
    return false;
}

static bool known(uint64_t start, uint64_t end)
{
    struct qi_block *b;

    if (qi_device_meets(start, end))
        return true;
    for (uint32_t i = 0; i < qi_nannounced; i++)
        if (start < qi_announced[i].end && end > qi_announced[i].start)
            return true;
    for (uint64_t pfn = start; pfn < end; pfn += QI_BLOCK_FRAMES)
        for (unsigned i = 0; i < qi_nzones; i++) {
            struct qi_zone *z = &qi_zones[i];

            if (pfn < qi_block_pfn(z, 0) || pfn >= qi_block_pfn(z, z->nblocks))
                continue;
            b = &z->blocks[qi_block_of(z, pfn)];
            if (qi_load_relaxed(&b->state) != QI_BLOCK_ABSENT)
                return true;
        }
    return false;
}

/* The pages, which are zeros, say where they belong. */
static enum quire_status claim(uint64_t start, uint64_t end, unsigned node)
{
    static struct qi_zone name; /* for the numbers in pages' flags alone; no stack has its slot */
    enum quire_status s;

    name.node = (uint8_t)node;
    name.type = QUIRE_ZONE_DEVICE;
    name.slot = (uint16_t)(QI_MAX_ZONES + node);
    s = qi_map_claim(&name, start, end);
    for (uint64_t pfn = start; !s && pfn < end; pfn++) {
        struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));
        uint32_t place = QUIRE_MODEL_PLACES
                             ? p->flags & QI_PG_PLACE
                             : (uint32_t)node << QUIRE_PG_NODE_SHIFT | (uint32_t)QUIRE_ZONE_DEVICE
                                                                           << QUIRE_PG_ZONE_SHIFT;

        qi_store_relaxed(&p->flags, place | QUIRE_PG_RESERVED);
    }
    return s;
}

/* The struct pages of the range are not needed any more. */
static void forget(uint64_t start, uint64_t own, uint64_t end)
{
    if (own > start)
        qi_map_displace(start, end);
    else
        qi_map_forget(start, end);
}

static enum quire_status add(const struct quire_device_memory *d, struct range *r)
{
    uint64_t start = d->base.v / QUIRE_PAGE_SIZE, end = start + d->len / QUIRE_PAGE_SIZE;
    uint64_t own = start;
    enum quire_status s;

    if (known(start, end))
        return QUIRE_EXISTS;
    if (d->map == QUIRE_DEVICE_MAP_INSIDE) {
        own += QI_MAP_INSIDE(end - start);
        s = qi_map_place(start, end);
    } else {
        s = qi_map_add(start, end, d->node);
    }
    if (s)
        return s;
    s = claim(start, end, d->node);
    if (s) {
        forget(start, own, end);
        return s;
    }
    for (uint64_t pfn = start; pfn < own; pfn++)
        qi_store_relaxed(&quire_page_of_pfn(Q_PFN(pfn))->counts, (uint64_t)1);
    r->start = start;
    r->own = own;
    r->node = d->node;
    r->released = d->released;
    r->context = d->context;
    qi_store_relaxed(&r->leaving, 0u);
    qi_store_release(&r->end, end);
    return QUIRE_OK;
}

enum quire_status quire_device_memory_add(const struct quire_device_memory *d)
{
    enum quire_status s = QUIRE_TOO_MANY;
    uint64_t last;

    if (!d->len || (d->base.v | d->len) % QUIRE_HUGE_SIZE || d->node >= qi_nnodes ||
        (unsigned)d->map > QUIRE_DEVICE_MAP_INSIDE ||
        qi_add_overflows(d->base.v, d->len - 1, &last) || last >> 52)
        return QUIRE_INVALID;
    if (!qi_blocks_begin())
        return QUIRE_BUSY;
    for (unsigned i = 0; i < QI_DEVICES; i++)
        if (!ranges[i].end) {
            s = add(d, &ranges[i]);
            break;
        }
    qi_blocks_end();
    return s;
}

/* All pages are with the driver, or hold struct pages, and nobody is about to tell him of one. */
static bool quiet(struct range *r)
{
    for (uint64_t pfn = r->start; pfn < r->end; pfn++)
        if (qi_load_acquire(&quire_page_of_pfn(Q_PFN(pfn))->counts) != (pfn < r->own))
            return false;
    return !qi_load_acquire(&r->calls);
}

static enum quire_status go(struct range *r)
{
    uint64_t end = r->end;

    qi_store_relaxed(&r->leaving, 1u);
    qi_fence_full();
    if (!quiet(r)) {
        qi_store_relaxed(&r->leaving, 0u);
        return QUIRE_BUSY;
    }
    qi_store_release(&r->end, (uint64_t)0);
    qi_wait_for_lookers();
    forget(r->start, r->own, end);
    return QUIRE_OK;
}

enum quire_status quire_device_memory_remove(q_pa base, uint64_t len)
{
    enum quire_status s = QUIRE_NOT_FOUND;

    if (!qi_blocks_begin())
        return QUIRE_BUSY;
    for (unsigned i = 0; i < QI_DEVICES; i++)
        if (ranges[i].end && ranges[i].start * QUIRE_PAGE_SIZE == base.v &&
            (ranges[i].end - ranges[i].start) * QUIRE_PAGE_SIZE == len) {
            s = go(&ranges[i]);
            break;
        }
    qi_blocks_end();
    return s;
}

uint64_t quire_device_pages(unsigned node)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < QI_DEVICES; i++) {
        uint64_t end = qi_load_acquire(&ranges[i].end);

        if (end && (node == QUIRE_NODE_ANY || ranges[i].node == node))
            n += end - ranges[i].start;
    }
    return n;
}
