/*
 * frame_machine.h - a hosted machine of frames alone, for measurements: nothing but metadata is touched.
 */
#ifndef BENCH_FRAME_MACHINE_H
#define BENCH_FRAME_MACHINE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hosted.h>
#include <quire/frame.h>

static struct quire_mem_range bench_ranges[8], bench_reserved[64];
static struct quire_memmap bench_map;

static inline void bench_machine(uint64_t bytes, unsigned cpus)
{
    struct quire_boot b = {.map = &bench_map, .nodes = 1, .cpus = cpus};

    hosted_init(bytes);
    quire_memmap_init(&bench_map, bench_ranges, 8, bench_reserved, 64);
    if (quire_memmap_add(&bench_map, Q_PA(1 << 20), bytes - (1 << 20), QUIRE_MEM_USABLE) ||
        quire_frame_init(&b)) {
        fprintf(stderr, "no machine: %s\n", hosted_log_last());
        exit(1);
    }
}

/* Bytes that the allocator reserved under this name. */
static inline uint64_t bench_reserved_bytes(const char *owner)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < bench_map.nreserved; i++)
        if (!strcmp(bench_map.reserved[i].owner, owner))
            n += bench_map.reserved[i].len;
    return n;
}

#endif
