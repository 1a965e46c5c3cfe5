/*
 * core/heapbench.c - rows of bench.c for the heap: quire.bench=heap.  Linux's figures for the same calls in
 * loops stand in bench/linux-6.1-heap.tsv.
 */
#include "arch/cpu.h"
#include "arch/x86.h"
#include "bench.h"
#include <quire/heap.h>

#define PAIRS 2000u
#define BULK  64u
#define HELD  4096u

static struct quire_cache *cache;
static void **held;
static const u8 sizes[] = {8, 96, 24, 200, 64, 32, 128, 16}; /* of a little everything */

static void *must(void *p)
{
    if (!p)
        kpanic("bench: no memory for the heap");
    return p;
}

/* ---- kmalloc ---- */

/* The size is not known when this is compiled: it is not in Linux's module either. */
static u64 pairs(size_t size)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < PAIRS; i++)
        quire_kfree(quire_kmalloc(size, QUIRE_GFP_KERNEL));
    return (rdtsc() - t) * 100 / PAIRS;
}
static u64 row_pair8(void) { return pairs(8); }
static u64 row_pair64(void) { return pairs(64); }
static u64 row_pair100(void) { return pairs(100); }
static u64 row_pair1k(void) { return pairs(1024); }
static u64 row_pair4k(void) { return pairs(4096); }
static u64 row_pair16k(void) { return pairs(16384); }

static u64 row_pair_atomic(void)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < PAIRS; i++)
        quire_kfree(quire_kmalloc(64, QUIRE_GFP_ATOMIC));
    return (rdtsc() - t) * 100 / PAIRS;
}

/* Many that are kept, so that sheaves and slabs take part, and all of them back in order. */
static u64 fill(bool free)
{
    u64 t = rdtsc(), got;

    for (unsigned i = 0; i < HELD; i++)
        held[i] = must(quire_kmalloc(64, QUIRE_GFP_KERNEL));
    got = rdtsc() - t;
    t = rdtsc();
    for (unsigned i = 0; i < HELD; i++)
        quire_kfree(held[i]);
    return (free ? rdtsc() - t : got) * 100 / HELD;
}
static u64 row_fill(void) { return fill(false); }
static u64 row_empty(void) { return fill(true); }

static u64 row_mixed(void)
{
    u64 t = rdtsc();

    for (unsigned k = 0; k < PAIRS / K_COUNT(sizes); k++) {
        for (unsigned i = 0; i < K_COUNT(sizes); i++)
            held[i] = must(quire_kmalloc(sizes[i], QUIRE_GFP_KERNEL));
        for (unsigned i = 0; i < K_COUNT(sizes); i++)
            quire_kfree(held[i]);
    }
    return (rdtsc() - t) * 100 / (PAIRS / K_COUNT(sizes) * K_COUNT(sizes));
}

/* ---- a cache ---- */

static u64 row_cache(void)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < PAIRS; i++)
        quire_cache_free(cache, quire_cache_alloc(cache, QUIRE_GFP_KERNEL));
    return (rdtsc() - t) * 100 / PAIRS;
}

/* 64 at a time, got and put again, the two ways apart. */
static u64 bulk(bool free)
{
    u64 got = 0, put = 0;

    for (unsigned i = 0; i < PAIRS / BULK; i++) {
        u64 t = rdtsc(), half;

        if (!quire_cache_alloc_bulk(cache, QUIRE_GFP_KERNEL, BULK, held))
            must(NULL);
        half = rdtsc();
        quire_cache_free_bulk(cache, BULK, held);
        put += rdtsc() - half;
        got += half - t;
    }
    return (free ? put : got) * 100 / (PAIRS / BULK * BULK);
}
static u64 row_bulk_get(void) { return bulk(false); }
static u64 row_bulk_put(void) { return bulk(true); }

void heap_bench(void)
{
    static const struct bench_row rows[] = {
        {"kmalloc_kfree_8", row_pair8},
        {"kmalloc_kfree_64", row_pair64},
        {"kmalloc_kfree_100", row_pair100},
        {"kmalloc_kfree_1k", row_pair1k},
        {"kmalloc_kfree_4k", row_pair4k},
        {"kmalloc_kfree_16k", row_pair16k},
        {"kmalloc_kfree_64_atomic", row_pair_atomic},
        {"kmalloc_kfree_8_mixed_sizes", row_mixed},
        {"kmalloc_4096_of_64", row_fill},
        {"kfree_4096_of_64", row_empty},
        {"cache_pair", row_cache},
        {"bulk64_get_per_object", row_bulk_get},
        {"bulk64_put_per_object", row_bulk_put},
    };

    held = must(quire_kmalloc(HELD * sizeof(*held), QUIRE_GFP_KERNEL));
    if (quire_cache_create("bench", 64, 0, 0, NULL, &cache) != QUIRE_OK)
        must(NULL);
    bench_print(rows, K_COUNT(rows));
    quire_cache_destroy(cache);
    quire_kfree(held);
}
