/*
 * heaponly/frames.c - the part of quire/frame.h that src/slab calls, over pages of the host.
 *
 * Purpose.  Let the heap run where frames are somebody else's, with the same source: what differs stands in
 * this folder, in place of src/frame and src/slab/runs.c.
 *
 * Model.  A window of addresses, and a struct quire_page for each of its pages in the caller's books: the heap's
 * way from a pointer to its slab is one subtraction and one load, as ever.  "Physical" address 0 is the
 * window's first byte.  One node, no zones.  Nothing is kept: pages come when a slab or the arena for large
 * objects (large.c) is made, and go when it goes.
 *
 * Invariants
 *   O1  pages that the heap does not have are zeros in the books
 *   O2  pages of a slab are as H1 says (slab/slab.c); of the arena: all are runs
 *
 * Failure.  If the host has none, free regions of the arena go back to it, and it is asked once more.
 */
#include "heaponly.h"

#include "../base/bits.h"
#include "../base/check.h"
#include "../slab/slab.h"

char *qi_window_start, *qi_window_pages;
static uint64_t window_pages;

enum quire_status quire_heap_only_init(void *window, size_t bytes, void *books)
{
    if (!qi_is_aligned((uintptr_t)window | bytes, QUIRE_PAGE_SIZE) || !bytes || !books ||
        (uintptr_t)books % 8)
        return QUIRE_INVALID;
    qi_window_start = window;
    qi_window_pages = books;
    window_pages = bytes >> QUIRE_PAGE_SHIFT;
    __builtin_memset(books, 0, QUIRE_HEAP_BOOKS(bytes));
    qi_large_init();
    return quire_heap_init();
}

/* ---- frame.h ---- */

unsigned quire_nodes(void) { return 1; }

unsigned quire_cpu_node(unsigned cpu)
{
    (void)cpu;
    return 0;
}

unsigned quire_node_distance(unsigned from, unsigned to)
{
    (void)from, (void)to;
    return 10;
}

bool quire_pfn_valid(q_pfn pfn) { return pfn.v < window_pages; }

/* The window, of which the host alone knows more. */
enum quire_status quire_zone_stats(unsigned i, struct quire_zone_stats *out)
{
    if (i)
        return QUIRE_NOT_FOUND;
    *out = (struct quire_zone_stats){.name = "window",
                                     .type = QUIRE_ZONE_NORMAL,
                                     .start = Q_PFN(0),
                                     .end = Q_PFN(window_pages),
                                     .present = window_pages};
    return QUIRE_OK;
}

struct quire_page *quire_page_alloc(unsigned order, quire_gfp gfp, unsigned node)
{
    uint64_t bytes = QUIRE_PAGE_SIZE << order, at;
    void *p;

    (void)node;
    if (gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32))
        return NULL;
    p = quire_host_pages_get(order);
    if (!p && qi_runs_shrink())
        p = quire_host_pages_get(order);
    if (!p)
        return NULL;
    at = (uint64_t)((uintptr_t)p - QPORT_DIRECT_BASE);
    QI_CHECK(
        qi_is_aligned((uintptr_t)p, bytes) && at < window_pages << QUIRE_PAGE_SHIFT &&
            bytes <= (window_pages << QUIRE_PAGE_SHIFT) - at,
        "heap: the host gave %p for order %u: not aligned, or not in the window at %p, %lu pages",
        p, order, (void *)qi_window_start, (unsigned long)window_pages);
    for (unsigned i = 0; i < 1u << order; i++)
        QI_CHECK(!quire_page_of_ptr(p)[i].flags,
                 "heap: the host gave %p for order %u: page %u of it is the heap's", p, order, i);
    if (gfp & QUIRE_GFP_ZERO)
        __builtin_memset(p, 0, bytes);
    return quire_page_of_ptr(p);
}

void quire_page_free(struct quire_page *page, unsigned order)
{
    quire_host_pages_put(quire_page_ptr(page), order);
}

/* ---- port.h: sleeping locks, without anything to sleep on ---- */

void qport_wait(const uint32_t *word, uint32_t expected)
{
    while (qi_load_relaxed(word) == expected)
        qport_relax();
}

void qport_wake(const uint32_t *word, unsigned n) { (void)word, (void)n; }
