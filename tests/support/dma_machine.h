/*
 * dma_machine.h - a hosted machine with memory on both sides of 4 GiB, a pool of bounce buffers, and
 * what a device does: it turns a bus address back into memory, by its own arithmetic.
 */
#ifndef DMA_MACHINE_H
#define DMA_MACHINE_H

#include <heap_machine.h>

#include <dma/dma.h>

#define GIB       (1ull << 30)
#define DMA_SPAN  (5 * GIB)
#define DMA_SLOTS 200u /* three whole chunks and one of 8 */
#define BITS(n)   (~0ull >> (64 - (n)))
#define BEYOND_32 (4 * GIB)

static uint64_t dma_frames_at_start;

static inline void dma_machine(uint64_t span, uint32_t slots)
{
    struct quire_dma_config config = {.slots = slots, .mappings = 64};

    heap_machine(span, 1);
    dma_frames_at_start = heap_free_pages();
    assert_int_equal(quire_dma_init(&config), QUIRE_OK);
}

static inline void dma_sound(void)
{
    if (quire_dma_verify() != QUIRE_OK)
        fail_msg("%s", hosted_log_last());
    heap_sound();
}

/* All slots are free, nothing is mapped, every frame is back. */
static inline void dma_nothing_lost(void)
{
    struct quire_dma_stats s;

    dma_sound();
    quire_dma_stats(NULL, &s);
    assert_int_equal(s.free_slots, s.slots);
    assert_int_equal(s.maps, s.unmaps);
    assert_int_equal(quire_dma_fini(), QUIRE_OK);
    heap_sound();
    assert_int_equal(heap_free_pages(), dma_frames_at_start);
}

/* Where a device finds what it calls bus. */
static inline uint8_t *dma_device_sees(const struct quire_dma_device *d, uint64_t bus)
{
    assert_true(bus <= d->mask);
    if (!d->ranges)
        return (uint8_t *)QPORT_DIRECT_BASE + (bus - d->offset);
    for (uint32_t i = 0; i < d->nranges; i++)
        if (bus >= d->ranges[i].bus.v && bus < d->ranges[i].bus.v + d->ranges[i].bytes)
            return (uint8_t *)QPORT_DIRECT_BASE + d->ranges[i].pa.v + (bus - d->ranges[i].bus.v);
    fail_msg("the device sees nothing at bus %#llx", (unsigned long long)bus);
    return NULL;
}

static inline uint64_t dma_pa(const void *p) { return (uintptr_t)p - QPORT_DIRECT_BASE; }

/* A block of 2^order frames beyond 4 GiB, or below. */
static inline uint8_t *dma_block(unsigned order, quire_gfp gfp)
{
    struct quire_page *page = quire_page_alloc(order, gfp, QUIRE_NODE_ANY);

    assert_non_null(page);
    assert_int_equal(quire_pa_of_page(page).v >= BEYOND_32,
                     !(gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32)));
    return quire_page_ptr(page);
}
static inline void dma_block_free(uint8_t *p, unsigned order)
{
    quire_page_free(quire_page_of_ptr(p), order);
}

static inline void dma_fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(seed + i * 13 + i / 251);
}
static inline void dma_expect(const uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != (uint8_t)(seed + i * 13 + i / 251))
            fail_msg("byte %zu of %zu is %#x", i, n, p[i]);
}

/* stmt ends in a report of misuse that has these words. */
#define PANICS(stmt, words)                                                         \
    do {                                                                            \
        if (!HOSTED_EXPECT_PANIC(stmt))                                             \
            fail_msg("%s went unnoticed", #stmt);                                   \
        if (!strstr(hosted_panic_text(), words))                                    \
            fail_msg("%s: said '%s', not '%s'", #stmt, hosted_panic_text(), words); \
    } while (0)

#endif
