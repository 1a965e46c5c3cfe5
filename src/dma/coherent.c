/*
 * dma/coherent.c - memory that CPU and device use at the same time.
 *
 * It is entered in the table like a mapping, so that a wrong free is caught and a device that goes
 * names what it left behind.
 */
#include "dma.h"

static const quire_gfp zones[] = {0, QUIRE_GFP_DMA32, QUIRE_GFP_DMA};

/* A block in the device's reach, from the highest zone that has one: memory below is scarcer. */
static struct quire_page *block_for(const struct quire_dma_device *dev, unsigned order,
                                    uint64_t bytes, quire_gfp gfp, q_ba *bus)
{
    gfp &= ~(QUIRE_GFP_MOVABLE | QUIRE_GFP_DMA | QUIRE_GFP_DMA32);
    for (unsigned i = 0; i < QI_COUNT(zones); i++) {
        struct quire_page *page = quire_page_alloc(order, gfp | zones[i], QUIRE_NODE_ANY);

        if (!page)
            continue;
        if (qi_dma_reach(dev, quire_pa_of_page(page), bytes, bus) == bytes)
            return page;
        quire_page_free(page, order);
    }
    return NULL;
}

static unsigned order_of(uint64_t bytes)
{
    return qi_log2_ceil(((bytes - 1) >> QUIRE_PAGE_SHIFT) + 1);
}

static struct qi_dma_mapping *make(struct quire_dma_device *dev, uint64_t bytes, quire_gfp gfp)
{
    struct qi_dma_mapping *m = quire_cache_alloc(qi_dma.cache, gfp & QUIRE_GFP_ATOMIC);
    struct quire_page *page;

    if (!m)
        return NULL;
    *m = (struct qi_dma_mapping){
        .dev = dev, .bytes = bytes, .chunk = QI_DMA_DIRECT, .kind = QI_DMA_COHERENT};
    page = block_for(dev, order_of(bytes), bytes, gfp, &m->bus);
    if (!page) {
        quire_cache_free(qi_dma.cache, m);
        return NULL;
    }
    m->pa = quire_pa_of_page(page);
    return m;
}

enum quire_status quire_dma_alloc(struct quire_dma_device *dev, uint64_t bytes, quire_gfp gfp,
                                  void **ptr, q_ba *bus)
{
    struct qi_dma_mapping *m;

    qi_dma_check_device(dev, "alloc");
    if (!bytes || bytes > QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER || bytes > qi_dma_segment_max(dev))
        return QUIRE_INVALID;
    if (dev->flags & QUIRE_DMA_NONCOHERENT)
        return QUIRE_UNSUPPORTED;
    m = make(dev, bytes, gfp);
    if (!m) {
        qi_fetch_add_relaxed(&dev->fails, 1u);
        return QUIRE_NO_MEMORY;
    }
    *ptr = quire_ptr_of_pa(m->pa);
    *bus = m->bus;
    for (uint64_t at = 0; at < QUIRE_PAGE_SIZE << order_of(bytes); at += QUIRE_PAGE_SIZE)
        qport_clear_page((char *)*ptr + at);
    qi_fetch_add_relaxed(&dev->maps, 1u);
    qi_dma_table_add(m);
    return QUIRE_OK;
}

void quire_dma_free(struct quire_dma_device *dev, uint64_t bytes, void *ptr, q_ba bus)
{
    struct qi_dma_mapping *m, key = {.dev = dev,
                                     .bus = bus,
                                     .bytes = bytes,
                                     .pa = quire_pa_of_kla(Q_KLA((uintptr_t)ptr)),
                                     .kind = QI_DMA_COHERENT};

    qi_dma_check_device(dev, "free");
    m = qi_dma_table_take(&key, "free");
    quire_page_free(quire_page_of_ptr(ptr), order_of(bytes));
    quire_cache_free(qi_dma.cache, m);
    qi_fetch_add_relaxed(&dev->unmaps, 1u);
}
