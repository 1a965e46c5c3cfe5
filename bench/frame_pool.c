/*
 * frame_pool.c - nanoseconds of pages from a malloc, as programs make page pools: aligned_alloc() of
 * 4 KiB, or of 2 MiB for order 9.  Which malloc: the C library's, or one loaded before it (LD_PRELOAD).
 * Such an allocator touches the pages themselves, so that it holds 256 MiB where the others have 8 GiB.
 */
#include <stdbool.h>
#include <stdlib.h>

#define FILL (256ull << 20 >> 12)

static inline void setup(void) {}
static inline void *get(unsigned order)
{
    return aligned_alloc((size_t)4096 << order, (size_t)4096 << order);
}
static inline void put(void *p, unsigned order)
{
    (void)order;
    free(p);
}
static inline size_t get_many(size_t n, void **out)
{
    size_t i = 0;

    while (i < n && (out[i] = get(0)))
        i++;
    return i;
}
static inline void put_many(size_t n, void **pages)
{
    for (size_t i = 0; i < n; i++)
        put(pages[i], 0);
}
static inline double metadata(void) { return 0; }
static inline void thread_begins(unsigned cpu) { (void)cpu; }

#include "frame_rows.h"
