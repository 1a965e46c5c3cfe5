/*
 * heap_malloc.c - nanoseconds of malloc and free: the C library's, or one that is loaded before it
 * (LD_PRELOAD=build/libquire-malloc.so, say).
 */
#include <stdio.h>
#include <stdlib.h>

static inline void setup(void) {}
static inline void *get(size_t size) { return malloc(size); }
static inline void put(void *p) { free(p); }
static inline void thread_begins(unsigned cpu) { (void)cpu; }
static size_t resident(void)
{
    unsigned long pages, rss = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f || fscanf(f, "%lu %lu", &pages, &rss) != 2)
        exit(1);
    fclose(f);
    return rss * 4096;
}

#include "heap_rows.h"
