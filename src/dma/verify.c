/*
 * dma/verify.c - the walk that checks D1 to D6 of dma.c.  Quiet: nothing is locked.
 */
#include "dma.h"

#define FAIL(...) (qi_log(QUIRE_LOG_ERROR, __VA_ARGS__), false)

/* D1 of one mapping: its slots exist, are not free, and nobody else's. */
static bool slots_ok(const struct qi_dma_mapping *m)
{
    struct qi_dma_chunk *c = &qi_dma.chunks[m->chunk];
    uint64_t bits;

    if (m->chunk >= qi_dma.nchunks || !m->slots || m->slot + m->slots > QI_DMA_SLOTS)
        return FAIL("dma: D1: mapping at bus %#lx has slots %u+%u of chunk %u",
                    (unsigned long)m->bus.v, m->slot, m->slots, m->chunk);
    bits = qi_dma_slot_bits(m);
    if (bits & (c->free | c->seen | ~c->valid))
        return FAIL("dma: D1: slots %#lx of chunk %u: free %#lx, others' %#lx", (unsigned long)bits,
                    m->chunk, (unsigned long)c->free, (unsigned long)c->seen);
    c->seen |= bits;
    return true;
}

static bool segment_ok(const struct qi_dma_mapping *m)
{
    bool direct = m->chunk == QI_DMA_DIRECT;
    q_pa seen = direct ? m->pa : quire_pa_of_kla(Q_KLA((uintptr_t)qi_dma_slot_ptr(m)));
    q_ba bus = Q_BA(0);

    if (qi_dma_reach(m->dev, seen, m->bytes, &bus) != m->bytes || bus.v != m->bus.v)
        return FAIL("dma: D3: %s cannot have %lu bytes at bus %#lx", m->dev->name,
                    (unsigned long)m->bytes, (unsigned long)m->bus.v);
    if (direct && m->kind == QI_DMA_STREAM &&
        qi_dma_direct(m->dev, m->pa, m->bytes, m->dir, &bus) != m->bytes)
        return FAIL("dma: D6: %s shares a line at bus %#lx", m->dev->name, (unsigned long)m->bus.v);
    return true;
}

static bool memory_ok(const struct qi_dma_mapping *m)
{
    uint64_t last = (m->pa.v + m->bytes - 1) >> QUIRE_PAGE_SHIFT;

    for (uint64_t pfn = quire_pfn_of_pa(m->pa).v; pfn <= last; pfn++) {
        uint32_t flags = quire_page_flags(Q_PFN(pfn));

        if (flags & QUIRE_PG_FREE ||
            (!(flags & QUIRE_PG_RESERVED) && !quire_page_head(quire_page_of_pfn(Q_PFN(pfn)))->refs))
            return FAIL("dma: D4: pfn %#lx, mapped for %s at bus %#lx, is free", (unsigned long)pfn,
                        m->dev->name, (unsigned long)m->bus.v);
    }
    return true;
}

static uint64_t live_of(const struct quire_dma_device *d) { return d->maps - d->unmaps; }

/* The mappings of one chain; *left: how many there may still be. */
static bool chain_ok(const struct qi_dma_chain *c, uint64_t *left)
{
    for (const struct qi_dma_mapping *m = c->first; m; m = m->next) {
        if (!(*left)--)
            return FAIL("dma: D2: the table has more mappings than were made");
        if (m->dev->magic != QI_DMA_MAGIC || qi_dma_chain_of(m->dev, m->bus) != c)
            return FAIL("dma: D2: mapping at bus %#lx is in a foreign chain",
                        (unsigned long)m->bus.v);
        if ((m->chunk != QI_DMA_DIRECT && !slots_ok(m)) || !segment_ok(m) || !memory_ok(m))
            return false;
    }
    return true;
}

static uint64_t count_of(const struct quire_dma_device *d)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < qi_dma_chains(); i++)
        for (const struct qi_dma_mapping *m = qi_dma.chains[i].first; m; m = m->next)
            n += m->dev == d;
    return n;
}

static bool table_ok(void)
{
    uint64_t left = 0;

    for (const struct quire_dma_device *d = qi_dma.devices; d; d = d->next)
        left += live_of(d);
    for (uint32_t i = 0; i < qi_dma_chains(); i++)
        if (!chain_ok(&qi_dma.chains[i], &left))
            return false;
    for (const struct quire_dma_device *d = qi_dma.devices; d; d = d->next)
        if (count_of(d) != live_of(d))
            return FAIL("dma: D2: %s: %lu maps, %lu unmaps, %lu in the table", d->name,
                        (unsigned long)d->maps, (unsigned long)d->unmaps,
                        (unsigned long)count_of(d));
    return true;
}

/* After table_ok(): seen is what mappings have. */
static bool pool_ok(void)
{
    for (uint32_t i = 0; i < qi_dma.nchunks; i++) {
        const struct qi_dma_chunk *c = &qi_dma.chunks[i];

        if ((c->seen ^ c->free) != c->valid)
            return FAIL("dma: D1: chunk %u: slots %#lx, free %#lx, mapped %#lx", i,
                        (unsigned long)c->valid, (unsigned long)c->free, (unsigned long)c->seen);
    }
    return true;
}

enum quire_status quire_dma_verify(void)
{
    for (uint32_t i = 0; i < qi_dma.nchunks; i++)
        qi_dma.chunks[i].seen = 0;
    return table_ok() && pool_ok() ? QUIRE_OK : QUIRE_CORRUPT;
}
