/*
 * frame_bench.c - nanoseconds of Quire's frame allocator in a Linux process; frame_rows.h has the rows.
 * Its last lines are the bytes that it keeps for each frame.
 */
#include "frame_machine.h"

#define FILL (8ull << 30 >> 12)

static inline void *get(unsigned order)
{
    return quire_page_alloc(order, QUIRE_GFP_USER, QUIRE_NODE_ANY);
}
static inline void put(void *p, unsigned order) { quire_page_free(p, order); }
static inline size_t get_many(size_t n, void **out)
{
    return quire_page_alloc_bulk(n, (struct quire_page **)out, QUIRE_GFP_USER, QUIRE_NODE_ANY);
}
static inline void put_many(size_t n, void **pages)
{
    quire_page_free_bulk(n, (struct quire_page **)pages);
}
static inline double metadata(void)
{
    return (double)bench_reserved_bytes("frame bitmaps") / (double)FILL;
}
static inline void thread_begins(unsigned cpu) { hosted_cpu_set(cpu); }
static inline void setup(void) { bench_machine(8ull << 30, 2); }

#include "frame_rows.h"
