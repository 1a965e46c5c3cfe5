/*
 * dma/dma.c - memory as devices see it: the start, the end, the numbers.
 *
 * Purpose.  A device names memory by bus addresses, which need not be physical ones, has limits
 * (how far it reaches, how long and how aligned a run may be), and may not see the CPU's caches.  A
 * driver should not have to know any of it.
 *
 * Model.  A device is a translation (an offset or a table of ranges) and its limits.  A mapping is
 * (device, bus address, bytes, direction, memory).  Where the device reaches the memory within its limits the
 * mapping is direct.  Otherwise it is bounced: slots of the pool stand in for the memory.
 *
 *     CPU        memory  [ A B C D ]                  memory  [ A B C D ]
 *                            |  translation               | copy at each change of hands
 *     device     bus     [ A B C D ]                  slots   [ A B C D . . ]
 *                        direct                       bounced
 *
 * Memory changes hands four times at most: map and sync_for_device give it to the device, unmap and
 * sync_for_cpu to the CPU.  Towards the device a bounced mapping copies memory into its slots,
 * *whatever the direction*; towards the CPU slots into memory if the device may write.  The copy that
 * seems useless, before a device writes, is what makes a short transfer harmless: what the device did
 * not write comes back as it went, not as the last user of the slots left it (CVE-2022-0854).  For
 * devices without a view of the caches the same four moments clean and invalidate lines.
 *
 * Structures.  Chunks of 64 slots of 2 KiB; which are free is one atomic word, so taking slots is one
 * compare-and-swap and there is no lock.  A table of all mappings, hashed by device and bus
 * address, with a lock for each chain.
 *
 * Invariants (quire_dma_verify)
 *   D1  a slot is either free in its chunk's word or belongs to exactly one mapping
 *   D2  a mapping is in the chain of its device and bus address, once; a device's maps less its unmaps
 *       are its mappings in the table
 *   D3  what a device is given lies in its translation and mask, is aligned, not longer than its
 *       segments, and crosses no boundary
 *   D4  a mapping holds a reference to each managed block of its memory: none is free
 *   D5  bounced and direct mappings give the same bytes to both sides at every change of hands
 *   D6  a device that is not coherent and may write shares no line of the cache of its memory with
 *       other memory: otherwise the mapping is bounced
 *   D7  what fails leaves nothing: no slot, no entry, no reference
 *
 * D4 is what makes a free of mapped memory either harmless (quire_page_put: the frame lives until the
 * unmap) or reported (quire_page_free: others hold it), without a look at the table in each free.
 *
 * Locking.  A chain's lock, irq-safe, around its list only; the list of devices has one of its own.
 * Nothing is allocated, copied or taken under either.
 *
 * Failure.  A mapping first takes its entry, then its slots; nothing after that can fail.
 *
 * Cost.  Direct: an object of the heap, one atomic for each block of memory, one chain.  Bounced: a
 * copy each way on top.
 *
 * Sources: Linux's Documentation/core-api/dma-api.rst and swiotlb.rst; FreeBSD bus_dma(9); illumos
 * ddi_dma_attr(9S).  What was taken and rejected: docs/design/dma.md.
 */
#include "dma.h"

#define MAPPINGS_DEFAULT 1024u
#define COUNT_MAX        (1u << 20)
#define LIMIT_DEFAULT    0xffffffffull
/* Chains in the largest block at most. */
#define CHAINS_MAX ((QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER) / sizeof(struct qi_dma_chain))

struct qi_dma qi_dma;

static const struct qi_lock_class chain_class = {"dma: chain"};
static const struct qi_lock_class devices_class = {"dma: devices"};

static enum quire_status chains_init(uint64_t mappings)
{
    unsigned log = qi_log2_ceil(QI_MIN(QI_MAX(mappings, 2ull), (uint64_t)CHAINS_MAX));

    qi_dma.chains = quire_kcalloc((size_t)1 << log, sizeof *qi_dma.chains, QUIRE_GFP_KERNEL);
    if (!qi_dma.chains)
        return QUIRE_NO_MEMORY;
    qi_dma.chain_shift = 64 - log;
    for (uint32_t i = 0; i < 1u << log; i++)
        qi_spin_init(&qi_dma.chains[i].lock, &chain_class);
    return QUIRE_OK;
}

static void give_back(void)
{
    qi_dma_pool_fini();
    quire_kfree(qi_dma.chains);
    qi_dma.chains = NULL;
}

enum quire_status quire_dma_init(const struct quire_dma_config *config)
{
    enum quire_status s;

    if (config->slots > COUNT_MAX || config->mappings > COUNT_MAX)
        return QUIRE_INVALID;
    qi_dma = (struct qi_dma){0};
    qi_spin_init(&qi_dma.lock, &devices_class);
    s = chains_init(config->mappings ? config->mappings : MAPPINGS_DEFAULT);
    if (s == QUIRE_OK)
        s = qi_dma_pool_init(config->slots, config->limit ? config->limit : LIMIT_DEFAULT);
    if (s == QUIRE_OK)
        s = quire_cache_create("dma-mapping", sizeof(struct qi_dma_mapping), 0, 0, NULL,
                               &qi_dma.cache);
    if (s != QUIRE_OK)
        give_back();
    return s;
}

enum quire_status quire_dma_fini(void)
{
    enum quire_status s;

    if (qi_dma.devices)
        return QUIRE_BUSY;
    s = quire_cache_destroy(qi_dma.cache);
    if (s == QUIRE_OK)
        give_back();
    return s;
}

static void add_device(const struct quire_dma_device *dev, struct quire_dma_stats *out)
{
    out->maps += qi_load_relaxed(&dev->maps);
    out->unmaps += qi_load_relaxed(&dev->unmaps);
    out->bounces += qi_load_relaxed(&dev->bounces);
    out->fails += qi_load_relaxed(&dev->fails);
}

void quire_dma_stats(const struct quire_dma_device *dev, struct quire_dma_stats *out)
{
    unsigned long irq;

    *out = (struct quire_dma_stats){0};
    for (uint32_t i = 0; i < qi_dma.nchunks; i++) {
        out->slots += qi_popcount(qi_dma.chunks[i].valid);
        out->free_slots += qi_popcount(qi_load_relaxed(&qi_dma.chunks[i].free));
    }
    if (dev) {
        add_device(dev, out);
        return;
    }
    irq = qi_spin_lock_irq(&qi_dma.lock);
    for (dev = qi_dma.devices; dev; dev = dev->next)
        add_device(dev, out);
    qi_spin_unlock_irq(&qi_dma.lock, irq);
}
