/*
 * heaponly/large.c - kmalloc of more than the largest class, in place of slab/runs.c: from an arena that grows by
 * pages of the host.
 *
 * Runs of 2^n pages would waste up to half of each, and the host has no way to take the rest back.  In the
 * arena a piece costs 40 bytes, neighbours coalesce, and what has leaked is known by its call site.
 */
#include "../slab/harden.h"
#include "../slab/slab.h"
#include "heaponly.h"

#define STEP_ORDER 6u /* a region of 256 KiB, if the host has one */

static struct quire_arena arena;

static unsigned order_of(size_t bytes)
{
    return qi_log2_ceil(((uint64_t)bytes + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
}

static void *get(void *ctx, size_t *bytes)
{
    unsigned order = order_of(*bytes);
    struct quire_page *page = NULL;

    (void)ctx;
    if (order > QUIRE_MAX_ORDER)
        return NULL;
    if (order < STEP_ORDER)
        page = quire_page_alloc(STEP_ORDER, 0, QUIRE_NODE_ANY);
    if (page)
        order = STEP_ORDER;
    else
        page = quire_page_alloc(order, 0, QUIRE_NODE_ANY);
    if (!page)
        return NULL;
    *bytes = (size_t)QUIRE_PAGE_SIZE << order;
    for (unsigned i = 0; i < 1u << order; i++) {
        qi_page_make_run(&page[i], QUIRE_PAGE_SIZE); /* the arena knows the sizes of its pieces */
        qi_store_relaxed(&page[i].flags, QUIRE_PG_SLAB);
    }
    qi_heap_reaches((uintptr_t)quire_pa_of_page(page).v + *bytes);
    return quire_page_ptr(page);
}

static void put(void *ctx, void *memory, size_t bytes)
{
    struct quire_page *page = quire_page_of_ptr(memory);

    (void)ctx;
    for (unsigned i = 0; i < bytes >> QUIRE_PAGE_SHIFT; i++) {
        page[i].owner = 0;
        qi_store_relaxed(&page[i].flags, 0u);
    }
    quire_page_free(page, order_of(bytes));
}

void qi_large_init(void)
{
    static const struct quire_arena_source host = {.get = get, .put = put};

    quire_arena_init(&arena, "large", &host, qport_now_ns());
}

struct quire_arena *quire_heap_only_arena(void) { return &arena; }

void *qi_run_alloc(size_t size, quire_gfp gfp, unsigned node, uintptr_t caller)
{
    void *p;

    (void)node;
    if (gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32))
        return NULL;
    p = quire_arena_alloc_for(&arena, size, qi_is_pow2(size) ? QUIRE_PAGE_SIZE : 1, caller);
    if (p && ((gfp & QUIRE_GFP_ZERO) || qi_heap_mode(QUIRE_HARDEN_ZERO_ALLOC)))
        __builtin_memset(p, 0, size);
    return p;
}

void qi_run_free(struct quire_page *page, void *p)
{
    (void)page;
    if (qi_heap_mode(QUIRE_HARDEN_ZERO_FREE))
        __builtin_memset(p, 0, quire_arena_size(&arena, p));
    quire_arena_free(&arena, p);
}

size_t qi_run_room(const struct quire_page *page, const void *p)
{
    (void)page;
    return quire_arena_size(&arena, p);
}

size_t qi_runs_shrink(void) { return quire_arena_trim(&arena) >> QUIRE_PAGE_SHIFT; }

bool qi_runs_verify(void) { return quire_arena_verify(&arena) == QUIRE_OK; }
