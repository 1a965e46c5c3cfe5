/*
 * dma/pool.c - bounce buffers: chunks of 64 slots, free slots in one word.
 *
 * A request is a run of slots within a chunk.  Each CPU begins its search at another chunk, so that
 * they rarely meet at a word.
 */
#include "dma.h"

/* A block with its last byte at limit or below; zones are tried from the highest. */
static struct quire_page *block_below(unsigned order, uint64_t limit)
{
    static const quire_gfp zones[] = {0, QUIRE_GFP_DMA32, QUIRE_GFP_DMA};

    for (unsigned i = 0; i < QI_COUNT(zones); i++) {
        struct quire_page *page =
            quire_page_alloc(order, zones[i] | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);

        if (!page)
            continue;
        if (quire_pa_of_page(page).v + (QUIRE_PAGE_SIZE << order) - 1 <= limit)
            return page;
        quire_page_free(page, order);
    }
    return NULL;
}

static unsigned chunk_order(unsigned slots)
{
    return qi_log2_ceil((slots * (uint64_t)QUIRE_DMA_SLOT + QUIRE_PAGE_SIZE - 1) >>
                        QUIRE_PAGE_SHIFT);
}

static unsigned chunk_slots(const struct qi_dma_chunk *c) { return qi_popcount(c->valid); }

enum quire_status qi_dma_pool_init(uint32_t slots, uint64_t limit)
{
    uint32_t n = (slots + QI_DMA_SLOTS - 1) / QI_DMA_SLOTS;

    if (!n)
        return QUIRE_OK;
    qi_dma.chunks = quire_kcalloc(n, sizeof *qi_dma.chunks, QUIRE_GFP_KERNEL);
    if (!qi_dma.chunks)
        return QUIRE_NO_MEMORY;
    for (; qi_dma.nchunks < n; qi_dma.nchunks++) {
        unsigned count = QI_MIN(slots - qi_dma.nchunks * QI_DMA_SLOTS, QI_DMA_SLOTS);
        struct quire_page *page = block_below(chunk_order(count), limit);
        struct qi_dma_chunk *c = &qi_dma.chunks[qi_dma.nchunks];

        if (!page)
            return QUIRE_NO_MEMORY;
        c->pa = quire_pa_of_page(page);
        c->free = c->valid = ~0ull >> (QI_DMA_SLOTS - count);
    }
    return QUIRE_OK;
}

void qi_dma_pool_fini(void)
{
    while (qi_dma.nchunks) {
        struct qi_dma_chunk *c = &qi_dma.chunks[--qi_dma.nchunks];

        quire_page_free(quire_page_of_pfn(quire_pfn_of_pa(c->pa)), chunk_order(chunk_slots(c)));
    }
    quire_kfree(qi_dma.chunks);
    qi_dma.chunks = NULL;
}

/* Doubling: after each step a set bit says that the next `have` bits are set. */
uint64_t qi_dma_runs(uint64_t word, unsigned n)
{
    for (unsigned have = 1, step; have < n; have += step) {
        step = QI_MIN(have, n - have);
        word &= word >> step;
    }
    return word;
}

/* A run of n free slots of this chunk that the device may use as one segment. */
static bool take_from(struct qi_dma_mapping *m, uint32_t chunk, unsigned n)
{
    struct qi_dma_chunk *c = &qi_dma.chunks[chunk];
    uint64_t free = qi_load_relaxed(&c->free), at = qi_dma_runs(free, n);

    m->chunk = chunk;
    m->slots = (uint8_t)n;
    while (at) {
        q_pa pa;

        m->slot = (uint8_t)qi_lowest_bit(at);
        pa = Q_PA(c->pa.v + m->slot * (uint64_t)QUIRE_DMA_SLOT);
        if (qi_dma_reach(m->dev, pa, m->bytes, &m->bus) < m->bytes)
            at &= at - 1;
        else if (qi_cas_acqrel(&c->free, &free, free & ~qi_dma_slot_bits(m)))
            return true;
        else
            at = qi_dma_runs(free, n);
    }
    return false;
}

/* Where this CPU begins; it may be another by the time that it does. */
static uint32_t first_chunk(void)
{
    uint32_t first;

    qport_preempt_disable();
    first = qport_cpu() % qi_dma.nchunks;
    qport_preempt_enable();
    return first;
}

bool qi_dma_slots_take(struct qi_dma_mapping *m)
{
    unsigned n = (unsigned)((m->bytes + QUIRE_DMA_SLOT - 1) / QUIRE_DMA_SLOT);
    uint32_t first;

    if (!qi_dma.nchunks)
        return false;
    first = first_chunk();
    for (uint32_t i = 0; i < qi_dma.nchunks; i++)
        if (take_from(m, (first + i) % qi_dma.nchunks, n))
            return true;
    return false;
}

void qi_dma_slots_give(const struct qi_dma_mapping *m)
{
    uint64_t bits = qi_dma_slot_bits(m),
             was = qi_fetch_or_acqrel(&qi_dma.chunks[m->chunk].free, bits);

    QI_CHECK(!(was & bits), "dma: D1: slots %u to %u of chunk %u are free already (%#lx)", m->slot,
             m->slot + m->slots - 1u, m->chunk, (unsigned long)was);
}
