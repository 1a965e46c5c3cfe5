/*
 * dma/map.c - streaming mappings: map, sync, unmap.
 */
#include "dma.h"

static bool device_writes(unsigned dir) { return dir != QUIRE_DMA_TO_DEVICE; }

/* ---- the memory ---- */

/* Frames of the block that this frame begins, or goes on, up to its end. */
static uint64_t frames_left(q_pfn pfn)
{
    const struct quire_page *page = quire_page_of_pfn(pfn),
                            *head = quire_page_head((struct quire_page *)page);

    return (1ull << quire_page_order(head)) - (uint64_t)(page - head);
}

void qi_dma_check_memory(const struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                         enum quire_dma_direction dir)
{
    uint64_t last, pfn = quire_pfn_of_pa(pa).v;

    QI_CHECK(!qi_add_overflows(pa.v, bytes - 1, &last),
             "dma: map by %s of %lu bytes at physical %#lx: past the end of addresses", dev->name,
             (unsigned long)bytes, (unsigned long)pa.v);
    while (pfn <= last >> QUIRE_PAGE_SHIFT) {
        uint32_t flags;

        QI_CHECK(quire_pfn_valid(Q_PFN(pfn)),
                 "dma: map by %s of %lu bytes at physical %#lx: not in the direct map (a stack, a "
                 "kernel area, the image?)",
                 dev->name, (unsigned long)bytes, (unsigned long)pa.v);
        flags = quire_page_flags(Q_PFN(pfn));
        QI_CHECK(!(flags & QUIRE_PG_FREE),
                 "dma: map by %s of %lu bytes at physical %#lx: pfn %#lx is free", dev->name,
                 (unsigned long)bytes, (unsigned long)pa.v, (unsigned long)pfn);
        QI_CHECK(!(flags & QUIRE_PG_TABLE) || !device_writes(dir),
                 "dma: map by %s of %lu bytes at physical %#lx, %s: pfn %#lx is a page table",
                 dev->name, (unsigned long)bytes, (unsigned long)pa.v, qi_dma_direction_name(dir),
                 (unsigned long)pfn);
        pfn += flags & QUIRE_PG_RESERVED ? 1 : frames_left(Q_PFN(pfn));
    }
}

/* A reference to, or from, each managed block (D4).  Reserved frames are nobody's to free. */
static void hold(const struct qi_dma_mapping *m, void (*change)(struct quire_page *))
{
    uint64_t pfn = quire_pfn_of_pa(m->pa).v, last = m->pa.v + m->bytes - 1;

    while (pfn <= last >> QUIRE_PAGE_SHIFT) {
        bool reserved = quire_page_flags(Q_PFN(pfn)) & QUIRE_PG_RESERVED;
        uint64_t left = reserved ? 1 : frames_left(Q_PFN(pfn));

        if (!reserved)
            change(quire_page_of_pfn(Q_PFN(pfn)));
        pfn += left;
    }
}

uint64_t qi_dma_direct(const struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                       enum quire_dma_direction dir, q_ba *bus)
{
    uint64_t n = qi_dma_reach(dev, pa, bytes, bus);

    if (!(dev->flags & QUIRE_DMA_NONCOHERENT) || !device_writes(dir))
        return n;
    return qi_is_aligned(pa.v, QPORT_DMA_LINE) ? qi_align_down(n, QPORT_DMA_LINE) : 0;
}

/* ---- changes of hands ---- */

/* Bytes [offset, offset + bytes) become the device's. */
static void to_device(const struct qi_dma_mapping *m, uint64_t offset, uint64_t bytes)
{
    char *memory = (char *)quire_ptr_of_pa(m->pa) + offset, *seen = memory;

    if (m->chunk != QI_DMA_DIRECT) {
        seen = (char *)qi_dma_slot_ptr(m) + offset;
        __builtin_memcpy(seen, memory, bytes);
    }
    if (m->dev->flags & QUIRE_DMA_NONCOHERENT)
        QPORT_DMA_CLEAN(seen, bytes);
}

/* They become the CPU's. */
static void to_cpu(const struct qi_dma_mapping *m, uint64_t offset, uint64_t bytes)
{
    char *memory = (char *)quire_ptr_of_pa(m->pa) + offset, *seen = memory;

    if (!device_writes(m->dir))
        return;
    if (m->chunk != QI_DMA_DIRECT)
        seen = (char *)qi_dma_slot_ptr(m) + offset;
    if (m->dev->flags & QUIRE_DMA_NONCOHERENT)
        QPORT_DMA_INVALIDATE(seen, bytes);
    if (seen != memory)
        __builtin_memcpy(memory, seen, bytes);
}

/* ---- map ---- */

static struct qi_dma_mapping *entry(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                    enum quire_dma_direction dir)
{
    struct qi_dma_mapping *m = quire_cache_alloc(qi_dma.cache, QUIRE_GFP_ATOMIC);

    if (!m) {
        qi_fetch_add_relaxed(&dev->fails, 1u);
        return NULL;
    }
    *m = (struct qi_dma_mapping){.dev = dev,
                                 .bytes = bytes,
                                 .pa = pa,
                                 .chunk = QI_DMA_DIRECT,
                                 .dir = (uint8_t)dir,
                                 .kind = QI_DMA_STREAM};
    return m;
}

static void begin(struct qi_dma_mapping *m)
{
    hold(m, quire_page_get);
    to_device(m, 0, m->bytes);
    qi_fetch_add_relaxed(&m->dev->maps, 1u);
    qi_dma_table_add(m);
}

enum quire_status qi_dma_map_direct(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                    enum quire_dma_direction dir, q_ba bus)
{
    struct qi_dma_mapping *m = entry(dev, pa, bytes, dir);

    if (!m)
        return QUIRE_NO_MEMORY;
    m->bus = bus;
    begin(m);
    return QUIRE_OK;
}

enum quire_status qi_dma_map_bounced(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                     enum quire_dma_direction dir, q_ba *bus)
{
    struct qi_dma_mapping *m = entry(dev, pa, bytes, dir);

    if (!m)
        return QUIRE_NO_MEMORY;
    if (!qi_dma_slots_take(m)) {
        quire_cache_free(qi_dma.cache, m);
        qi_fetch_add_relaxed(&dev->fails, 1u);
        return QUIRE_NO_MEMORY;
    }
    *bus = m->bus;
    qi_fetch_add_relaxed(&dev->bounces, 1u);
    begin(m);
    return QUIRE_OK;
}

static enum quire_status map(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                             enum quire_dma_direction dir, q_ba *out)
{
    enum quire_status s;
    q_ba bus = Q_BA(0);

    qi_dma_check_device(dev, "map");
    if (!bytes || (unsigned)dir > QUIRE_DMA_FROM_DEVICE)
        return QUIRE_INVALID;
    qi_dma_check_memory(dev, pa, bytes, dir);
    if (bytes > qi_dma_segment_max(dev))
        return QUIRE_INVALID;
    if (qi_dma_direct(dev, pa, bytes, dir, &bus) == bytes)
        s = qi_dma_map_direct(dev, pa, bytes, dir, bus);
    else if (bytes <= QUIRE_DMA_BOUNCE_MAX)
        s = qi_dma_map_bounced(dev, pa, bytes, dir, &bus);
    else
        s = QUIRE_INVALID;
    if (s == QUIRE_OK)
        *out = bus;
    return s;
}

enum quire_status quire_dma_map_range(struct quire_dma_device *dev, const void *ptr, uint64_t bytes,
                                      enum quire_dma_direction dir, q_ba *out)
{
    return map(dev, quire_pa_of_kla(Q_KLA((uintptr_t)ptr)), bytes, dir, out);
}

enum quire_status quire_dma_map_page(struct quire_dma_device *dev, const struct quire_page *page,
                                     uint64_t offset, uint64_t bytes, enum quire_dma_direction dir,
                                     q_ba *out)
{
    return map(dev, Q_PA(quire_pa_of_page(page).v + offset), bytes, dir, out);
}

/* ---- unmap and sync ---- */

static struct qi_dma_mapping key_of(struct quire_dma_device *dev, q_ba bus, uint64_t bytes,
                                    enum quire_dma_direction dir)
{
    return (struct qi_dma_mapping){
        .dev = dev, .bus = bus, .bytes = bytes, .dir = (uint8_t)dir, .kind = QI_DMA_STREAM};
}

void quire_dma_unmap(struct quire_dma_device *dev, q_ba bus, uint64_t bytes,
                     enum quire_dma_direction dir)
{
    struct qi_dma_mapping key = key_of(dev, bus, bytes, dir), *m;

    qi_dma_check_device(dev, "unmap");
    m = qi_dma_table_take(&key, "unmap");
    to_cpu(m, 0, bytes);
    if (m->chunk != QI_DMA_DIRECT)
        qi_dma_slots_give(m);
    hold(m, quire_page_put);
    quire_cache_free(qi_dma.cache, m);
    qi_fetch_add_relaxed(&dev->unmaps, 1u);
}

/* The mapping that a sync is for.  A part of a line cannot change hands (D6). */
static struct qi_dma_mapping synced(const struct qi_dma_mapping *key, uint64_t offset,
                                    const char *who)
{
    struct qi_dma_mapping m;

    qi_dma_check_device(key->dev, who);
    m = qi_dma_table_find(key, offset, who);
    QI_CHECK(!(m.dev->flags & QUIRE_DMA_NONCOHERENT) ||
                 (qi_is_aligned(offset, QPORT_DMA_LINE) &&
                  (offset + key->bytes == m.bytes || qi_is_aligned(key->bytes, QPORT_DMA_LINE))),
             "dma: %s by %s of %lu bytes from %lu on of bus %#lx: not whole lines of %u bytes", who,
             m.dev->name, (unsigned long)key->bytes, (unsigned long)offset, (unsigned long)m.bus.v,
             (unsigned)QPORT_DMA_LINE);
    return m;
}

void quire_dma_sync_for_cpu(struct quire_dma_device *dev, q_ba bus, uint64_t offset, uint64_t bytes,
                            enum quire_dma_direction dir)
{
    struct qi_dma_mapping key = key_of(dev, bus, bytes, dir),
                          m = synced(&key, offset, "sync_for_cpu");

    to_cpu(&m, offset, bytes);
}

void quire_dma_sync_for_device(struct quire_dma_device *dev, q_ba bus, uint64_t offset,
                               uint64_t bytes, enum quire_dma_direction dir)
{
    struct qi_dma_mapping key = key_of(dev, bus, bytes, dir),
                          m = synced(&key, offset, "sync_for_device");

    to_device(&m, offset, bytes);
}
