/*
 * frame_buddy.c - nanoseconds of the textbook buddy of buddy.c; frame_rows.h has the rows.
 */
#include "buddy.h"

#include <stdlib.h>

#define FILL (8ull << 30 >> 12)

static inline void setup(void)
{
    if (!buddy_init(FILL))
        exit(1);
}
static inline void *get(unsigned order) { return buddy_alloc(order); }
static inline void put(void *p, unsigned order) { buddy_free(p, order); }
static inline size_t get_many(size_t n, void **out)
{
    return buddy_alloc_many(n, (struct buddy_page **)out);
}
static inline void put_many(size_t n, void **pages)
{
    buddy_free_many(n, (struct buddy_page **)pages);
}
/* its links lie in the page's own structure */
static inline double metadata(void) { return 0; }
static inline void thread_begins(unsigned cpu) { (void)cpu; }

#include "frame_rows.h"
