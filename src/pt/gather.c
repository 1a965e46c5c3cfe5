/*
 * pt/gather.c - clear, flush, then free.
 *
 * Whoever clears entries hands the frames to a gather instead of freeing them.  A frame, or a
 * table, leaves the gather only behind a flush that began after its entry was cleared: there is no
 * other way out, so a CPU can never read a freed frame through a stale translation.
 *
 * References are dropped after the flush even if others remain: the others might be dropped, and
 * the frame freed, by another CPU before our flush.
 *
 * One shootdown for an operation of any size: the first 64 pages fit in the structure, then
 * whole frames are taken as arrays, one for 510 pages.  Only when no frame is to be had does the
 * gather flush early; it never fails.
 */
#include "internal.h"

#define BATCH_PAGES ((QUIRE_PAGE_SIZE - 2 * sizeof(uint64_t)) / sizeof(uintptr_t))

struct qi_gather_batch {
    struct qi_gather_batch *next;
    uint64_t n; /* set when the batch is full or the gather finishes */
    uintptr_t slots[BATCH_PAGES];
};

_Static_assert(sizeof(struct qi_gather_batch) == QUIRE_PAGE_SIZE, "a batch is a frame");

/* Drop what slot stands for.  True: that was the last reference of an order-0 page, which is now
 * the caller's to free. */
static inline bool drop(uintptr_t slot, struct quire_page **out)
{
    struct quire_page *page = (struct quire_page *)(slot & ~(uintptr_t)QI_GATHER_REF);

    if (QI_UNLIKELY(quire_page_flags_now(page) & QUIRE_PG_HEAD)) {
        if (!(slot & QI_GATHER_REF))
            qi_fetch_sub_relaxed(&page->maps, 1);
        quire_page_put(page);
        return false;
    }
    *out = page;
    if (slot & QI_GATHER_REF)
        return qi_fetch_sub_acqrel(&page->refs, 1) == 1;
    return (uint32_t)qi_fetch_sub_acqrel(&page->counts, QUIRE_PAGE_ONE_MAPPING) == 1;
}

/* Drop n slots; frees in bulk, packing the dead pages at the front of the array itself. */
static void drop_all(uintptr_t *slots, size_t n)
{
    struct quire_page **dead = (struct quire_page **)slots;
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        struct quire_page *page;

        if (drop(slots[i], &page))
            dead[k++] = page;
    }
    if (k)
        quire_page_free_bulk(k, dead);
}

/* A page of a batch frame is an array: newest first, each as long as its n says. */
static void drop_batches(struct qi_gather *g)
{
    while (g->batches) {
        struct qi_gather_batch *b = g->batches;

        g->batches = b->next;
        drop_all(b->slots, b->n);
        quire_page_free(quire_page_of_ptr(b), 0);
    }
}

void qi_gather_finish(struct qi_gather *g)
{
    if (g->start < g->end || g->tables) {
        qi_tlb_flush(g->tlb, g->start, g->end, g->tables);
        g->flushes++;
        g->start = ~(uint64_t)0;
        g->end = 0;
        g->tables = false;
    }
    if (g->batches) {
        g->batches->n = g->n;
        g->n = QI_GATHER_FIRST; /* the first array filled up before the batches began */
        drop_batches(g);
    }
    if (g->n)
        drop_all(g->first, g->n);
    g->n = 0;
    g->cap = QI_GATHER_FIRST;
    g->slots = g->first;
    if (g->freed_tables) {
        qi_pt_tables_free(g->freed_tables);
        g->freed_tables = NULL;
    }
}

void qi_gather_more(struct qi_gather *g)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_ATOMIC, QUIRE_NODE_ANY);
    struct qi_gather_batch *b;

    if (!page) {
        uint64_t start = g->start, end = g->end;

        /* the caller is inside a range that it announced once: its next pages are of it, too */
        qi_gather_finish(g);
        g->start = start;
        g->end = end;
        return;
    }
    if (g->batches)
        g->batches->n = g->n;
    b = quire_page_ptr(page);
    b->next = g->batches;
    g->batches = b;
    g->slots = b->slots;
    g->n = 0;
    g->cap = BATCH_PAGES;
}

void qi_gather_table(struct qi_gather *g, struct quire_page *table)
{
    table->owner = (uintptr_t)g->freed_tables;
    g->freed_tables = table;
    g->tables = true;
}
