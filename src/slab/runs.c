/*
 * slab/runs.c - kmalloc of more than the largest class: runs of whole pages.
 *
 * A run's first page has QUIRE_PG_SLAB and the size in its owner word, tagged.  A block of which a quarter or
 * more would lie idle is split, and what is behind the last page asked for goes back.
 *
 * src/heaponly/large.c stands in its place where there are no zones behind the heap.
 */
#include "harden.h"
#include "track.h"

#define RUN_MAX   (QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER)
#define RUN_BATCH 32u

/* Of a run for size bytes, with a red zone behind them where that is on. */
static size_t pages_of(size_t size)
{
    return (size + qi_guard_run_bytes() + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT;
}

/* The pages of a run of size bytes are not one block: what its block had beyond them was given back. */
static bool is_cut(size_t size)
{
    size_t pages = pages_of(size), block = (size_t)1 << qi_log2_ceil(pages);

    return block - pages >= block / 4;
}

static void free_pages(struct quire_page *page, size_t n)
{
    struct quire_page *batch[RUN_BATCH];

    while (n) {
        size_t part = QI_MIN(n, (size_t)RUN_BATCH);

        for (size_t i = 0; i < part; i++)
            batch[i] = page++;
        quire_page_free_bulk(part, batch);
        n -= part;
    }
}

/* Bytes that the pages of a run have. */
static size_t room(const struct quire_page *page)
{
    size_t size = qi_run_size(page), pages = pages_of(size);

    return QUIRE_PAGE_SIZE * (is_cut(size) ? pages : (size_t)1 << qi_log2_ceil(pages));
}

void *qi_run_alloc(size_t size, quire_gfp gfp, unsigned node, uintptr_t caller)
{
    size_t pages = pages_of(size);
    struct quire_page *page;
    unsigned order;

    if (size > RUN_MAX - qi_guard_run_bytes())
        return NULL;
    if (qi_heap_mode(QUIRE_HARDEN_ZERO_ALLOC))
        gfp |= QUIRE_GFP_ZERO;
    order = qi_log2_ceil(pages);
    page = quire_page_alloc(order, gfp & ~QUIRE_GFP_MOVABLE, node);
    if (!page)
        return NULL;
    if (is_cut(size)) {
        quire_page_split(page);
        free_pages(page + pages, ((size_t)1 << order) - pages);
    }
    qi_page_make_run(page, size);
    qi_fetch_or_relaxed(&page->flags, QUIRE_PG_SLAB);
    qi_heap_reaches((uintptr_t)quire_pa_of_page(page).v + (pages << QUIRE_PAGE_SHIFT));
    qi_guard_run_alloc(quire_page_ptr(page), size, room(page));
    qi_track_large_alloc(quire_page_ptr(page), size, caller);
    return quire_page_ptr(page);
}

void qi_run_free(struct quire_page *page, void *p)
{
    size_t size = qi_run_size(page);

    QI_CHECK(p == quire_page_ptr(page), "heap: kfree: pointer %p is not the start of its run at %p",
             p, quire_page_ptr(page));
    qi_guard_run_free(p, size, room(page));
    qi_track_large_free(p);
    qi_store_relaxed(&page->owner, (uint64_t)0);
    qi_fetch_and_relaxed(&page->flags, ~QUIRE_PG_SLAB);
    if (is_cut(size))
        free_pages(page, pages_of(size));
    else
        quire_page_free(page, qi_log2_ceil(pages_of(size)));
}

size_t qi_run_room(const struct quire_page *page, const void *p)
{
    QI_CHECK(p == quire_page_ptr(page), "heap: ksize: pointer %p is not the start of its run", p);
    return qi_guard_run_bytes() ? qi_run_size(page) : room(page);
}

/* Nothing is kept of what was freed. */
size_t qi_runs_shrink(void) { return 0; }

/* What a run's page says is all there is to know of it. */
bool qi_runs_verify(void) { return true; }
