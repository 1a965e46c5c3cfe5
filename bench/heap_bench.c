/*
 * heap_bench.c - nanoseconds of the kernel heap, called directly in a Linux process.
 */
#include <stdio.h>
#include <stdlib.h>

#include <hosted.h>
#include <quire/heap.h>

#define SPAN (1ull << 30)

static struct quire_mem_range ranges[8], reserved[16];
static struct quire_memmap map;

static void setup(void)
{
    struct quire_boot boot = {.map = &map, .nodes = 1, .cpus = 2};

    hosted_init(SPAN);
    quire_memmap_init(&map, ranges, 8, reserved, 16);
    if (quire_memmap_add(&map, Q_PA(1 << 20), SPAN - (1 << 20), QUIRE_MEM_USABLE) ||
        quire_frame_init(&boot) || quire_heap_init()) {
        fprintf(stderr, "no machine: %s\n", hosted_log_last());
        exit(1);
    }
}
static inline void *get(size_t size) { return quire_kmalloc(size, QUIRE_GFP_KERNEL); }
static inline void put(void *p) { quire_kfree(p); }
static inline void thread_begins(unsigned cpu) { hosted_cpu_set(cpu); }
/* All that is not free, and the struct pages of that. */
static size_t resident(void)
{
    uint64_t frames = SPAN / QUIRE_PAGE_SIZE - quire_free_pages();

    return frames * (QUIRE_PAGE_SIZE + sizeof(struct quire_page));
}

#include "heap_rows.h"
