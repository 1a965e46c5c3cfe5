/*
 * slab/kmalloc.c - memory by size: classes up to 16 KiB, each a cache; above, runs of pages.
 *
 * The classes step so that from 64 bytes to 10 KiB rounding up wastes a quarter of the object at
 * worst, and 10 % on average over sizes.  A run's first page has QUIRE_PG_SLAB and the size in its
 * owner word, tagged. Requests for DMA memory are runs whatever their size: slabs lie in any zone.
 */
#include "slab.h"

#define CLASS_MAX  16384u
#define SMALL_MAX  1024u
#define SMALL_STEP 8u
#define LARGE_STEP 256u

#define CLASS(size)            \
    {                          \
        size, "kmalloc-" #size \
    }

static const struct {
    uint32_t size;
    const char *name;
} classes[] = {
    CLASS(8),    CLASS(16),   CLASS(24),   CLASS(32),   CLASS(48),    CLASS(64),    CLASS(80),
    CLASS(96),   CLASS(112),  CLASS(128),  CLASS(160),  CLASS(192),   CLASS(224),   CLASS(256),
    CLASS(320),  CLASS(384),  CLASS(448),  CLASS(512),  CLASS(640),   CLASS(768),   CLASS(896),
    CLASS(1024), CLASS(1280), CLASS(1536), CLASS(1792), CLASS(2048),  CLASS(2560),  CLASS(3072),
    CLASS(4096), CLASS(5120), CLASS(6144), CLASS(8192), CLASS(10240), CLASS(16384),
};

static struct quire_cache caches[QI_COUNT(classes)];
/* The class for a size, by steps of 8 up to 1 KiB and of 256 above. */
static struct quire_cache *small[SMALL_MAX / SMALL_STEP + 1];
static struct quire_cache *large[CLASS_MAX / LARGE_STEP + 1];
/* Sizes below need no look at quire_cache.slow; 0 while that says anything.  Atomic. */
static size_t small_limit;

void qi_kmalloc_slow_changed(void)
{
    uint32_t why = 0;

    for (unsigned i = 0; i < QI_COUNT(caches); i++)
        why |= qi_load_relaxed(&caches[i].slow);
    qi_store_relaxed(&small_limit, why ? 0 : SMALL_MAX + 1);
}

void qi_kmalloc_init(void)
{
    unsigned k = 0;

    for (unsigned i = 0; i < QI_COUNT(classes); i++) {
        uint32_t size = classes[i].size;

        qi_cache_setup(&caches[i], classes[i].name, size,
                       qi_is_pow2(size) ? QI_MIN(size, 4096u) : 8, QI_CACHE_SIZED, NULL);
        caches[i].fixed = true;
        qi_cache_register(&caches[i]);
    }
    for (unsigned s = 0; s < QI_COUNT(small); s++) {
        while (classes[k].size < s * SMALL_STEP)
            k++;
        small[s] = &caches[k];
    }
    for (unsigned s = SMALL_MAX / LARGE_STEP; s < QI_COUNT(large); s++) {
        while (classes[k].size < s * LARGE_STEP)
            k++;
        large[s] = &caches[k];
    }
    qi_kmalloc_slow_changed();
}

/* The cache for size, or NULL: a run of pages. */
static QI_ALWAYS_INLINE struct quire_cache *cache_for(size_t size)
{
    if (QI_LIKELY(size <= SMALL_MAX))
        return small[(size + SMALL_STEP - 1) / SMALL_STEP];
    if (size <= CLASS_MAX)
        return large[(size + LARGE_STEP - 1) / LARGE_STEP];
    return NULL;
}

static unsigned order_of(size_t size)
{
    return qi_log2_ceil((size + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
}

/* ---- runs ---- */

static void *run_alloc(size_t size, quire_gfp gfp, unsigned node)
{
    struct quire_page *page;
    uintptr_t end, seen;

    if (QI_UNLIKELY(qi_load_relaxed(&caches[0].slow) & QI_SLOW_FAILING) && qi_heap_fail_now())
        return NULL;
    if (size > QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER)
        return NULL;
    page = quire_page_alloc(order_of(size), gfp & ~QUIRE_GFP_MOVABLE, node);
    if (!page)
        return NULL;
    page->owner = (uint64_t)size << 2 | QI_OWNER_RUN;
    qi_fetch_or_relaxed(&page->flags, QUIRE_PG_SLAB);
    end = (uintptr_t)quire_pa_of_page(page).v + (QUIRE_PAGE_SIZE << order_of(size));
    seen = qi_load_relaxed(&qi_heap_end);
    while (seen < end && !qi_cas_relaxed(&qi_heap_end, &seen, end)) {
    }
    return quire_page_ptr(page);
}

static size_t run_size(const struct quire_page *page) { return (size_t)(page->owner >> 2); }

void qi_run_free(struct quire_page *page, void *p)
{
    unsigned order = order_of(run_size(page));

    QI_CHECK(p == quire_page_ptr(page), "heap: kfree: pointer %p is not the start of its run at %p",
             p, quire_page_ptr(page));
    page->owner = 0;
    qi_fetch_and_relaxed(&page->flags, ~QUIRE_PG_SLAB);
    quire_page_free(page, order);
}

/* ---- the public calls ---- */

static void *alloc_unusual(size_t size, quire_gfp gfp, unsigned node)
{
    struct quire_cache *c = cache_for(size);

    if (c && !(gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32)))
        return qi_alloc_special(c, gfp, node, size);
    return run_alloc(size ? size : 1, gfp, node);
}

void *quire_kmalloc(size_t size, quire_gfp gfp)
{
    if (QI_UNLIKELY(gfp & QI_GFP_SPECIAL))
        return alloc_unusual(size, gfp, QUIRE_NODE_ANY);
    if (QI_LIKELY(size < qi_load_relaxed(&small_limit)))
        return qi_alloc_plain(small[(size + SMALL_STEP - 1) / SMALL_STEP], gfp);
    if (size > SMALL_MAX && size <= CLASS_MAX)
        return qi_alloc_fast(large[(size + LARGE_STEP - 1) / LARGE_STEP], gfp, size);
    return alloc_unusual(size, gfp, QUIRE_NODE_ANY);
}

void *quire_kzalloc(size_t size, quire_gfp gfp)
{
    return alloc_unusual(size, gfp | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
}

void *quire_kmalloc_node(size_t size, quire_gfp gfp, unsigned node)
{
    QI_CHECK(node == QUIRE_NODE_ANY || node < quire_nodes(), "heap: kmalloc_node: node %u of %u",
             node, quire_nodes());
    return alloc_unusual(size, gfp, node);
}

void quire_kfree(void *p) { qi_free_fast(NULL, p); }

size_t quire_ksize(const void *p)
{
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    struct quire_page *page;
    struct qi_slab *s;
    uint64_t i;

    QI_CHECK(off < qi_load_relaxed(&qi_heap_end), "heap: ksize: foreign pointer %p", p);
    page = quire_page_of_ptr(p);
    QI_CHECK((qi_load_relaxed(&page->flags) & QUIRE_PG_SLAB) && !(page->owner & QI_OWNER_INTERNAL),
             "heap: ksize: foreign pointer %p", p);
    if (page->owner & QI_OWNER_RUN) {
        QI_CHECK(p == quire_page_ptr(page), "heap: ksize: pointer %p is not the start of its run",
                 p);
        return QUIRE_PAGE_SIZE << order_of(run_size(page));
    }
    s = qi_slab_of_page(page);
    QI_CHECK(qi_slab_index(s, p, &i) && s->state[i] != QI_OBJ_IN && s->state[i] != QI_OBJ_EDGE,
             "heap: ksize: pointer %p is not an object of %s that is out", p, s->cache->name);
    return qi_guard_size(s->cache, p);
}
