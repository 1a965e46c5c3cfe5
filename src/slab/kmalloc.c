/*
 * slab/kmalloc.c - memory by size: classes up to 16 KiB, each a cache; above, runs of pages.
 *
 * The classes step so that from 64 bytes to 10 KiB rounding up wastes less than a third of the object at
 * worst; those above 2 KiB are as large as a slab of 32 KiB has room for.  Requests for DMA memory have
 * caches of their own, by powers of two, whose slabs lie in the zone asked for.  Runs: runs.c.
 */
#include "harden.h"
#include "track.h"

#define CLASS_MAX  16384u
#define SMALL_MAX  1024u
#define SMALL_STEP 8u
#define LARGE_STEP (QUIRE_KMALLOC_FINE ? 64u : 256u)

#define CLASS(size)            \
    {                          \
        size, "kmalloc-" #size \
    }

static const struct {
    uint32_t size;
    const char *name;
} classes[] = {
#if QUIRE_KMALLOC_FINE
    CLASS(8),     CLASS(16),   CLASS(24),   CLASS(32),   CLASS(48),   CLASS(64),   CLASS(80),
    CLASS(96),    CLASS(112),  CLASS(128),  CLASS(144),  CLASS(160),  CLASS(176),  CLASS(192),
    CLASS(208),   CLASS(224),  CLASS(240),  CLASS(256),  CLASS(288),  CLASS(320),  CLASS(352),
    CLASS(384),   CLASS(416),  CLASS(448),  CLASS(480),  CLASS(512),  CLASS(544),  CLASS(576),
    CLASS(608),   CLASS(640),  CLASS(672),  CLASS(704),  CLASS(736),  CLASS(768),  CLASS(800),
    CLASS(832),   CLASS(864),  CLASS(896),  CLASS(928),  CLASS(960),  CLASS(992),  CLASS(1024),
    CLASS(1088),  CLASS(1152), CLASS(1216), CLASS(1280), CLASS(1344), CLASS(1408), CLASS(1472),
    CLASS(1536),  CLASS(1600), CLASS(1664), CLASS(1728), CLASS(1792), CLASS(1856), CLASS(1920),
    CLASS(1984),  CLASS(2048), CLASS(2304), CLASS(2432), CLASS(2688), CLASS(2944), CLASS(3200),
    CLASS(3584),  CLASS(4096), CLASS(4608), CLASS(5376), CLASS(6528), CLASS(8192), CLASS(10880),
    CLASS(16384),
#else
    CLASS(8),    CLASS(16),   CLASS(24),   CLASS(32),   CLASS(48),    CLASS(64),
    CLASS(80),   CLASS(96),   CLASS(112),  CLASS(128),  CLASS(160),   CLASS(192),
    CLASS(224),  CLASS(256),  CLASS(320),  CLASS(384),  CLASS(448),   CLASS(512),
    CLASS(640),  CLASS(768),  CLASS(896),  CLASS(1024), CLASS(1280),  CLASS(1536),
    CLASS(1792), CLASS(2048), CLASS(2304), CLASS(2816), CLASS(3584),  CLASS(4096),
    CLASS(4608), CLASS(5376), CLASS(6400), CLASS(8192), CLASS(10752), CLASS(16384),
#endif
};

static struct quire_cache caches[QI_COUNT(classes)];
/* The class for a size, by steps of 8 up to 1 KiB and of LARGE_STEP above. */
static struct quire_cache *small[SMALL_MAX / SMALL_STEP + 1];
static struct quire_cache *large[CLASS_MAX / LARGE_STEP + 1];
/* For GFP_DMA and GFP_DMA32: 8, 16, 32, ... 16384. */
#define ZONE_CLASSES 12u
static struct quire_cache zone_caches[2][ZONE_CLASSES];
/* Sizes below need no look at quire_cache.slow; 0 while that says anything of any class, and before there are
 * classes.  Atomic. */
static size_t small_limit;

void qi_kmalloc_clear_slow(uint32_t bit)
{
    for (unsigned i = 0; i < QI_COUNT(caches); i++)
        qi_fetch_and_relaxed(&caches[i].slow, ~bit);
    qi_kmalloc_slow_changed();
}

void qi_kmalloc_slow_changed(void)
{
    uint32_t why = 0;

    for (unsigned i = 0; i < QI_COUNT(caches); i++)
        why |= qi_load_relaxed(&caches[i].slow);
    qi_store_relaxed(&small_limit, why ? 0 : SMALL_MAX + 1);
}

static void init_class(struct quire_cache *c, const char *name, uint32_t size, unsigned flags)
{
    qi_cache_setup(c, name, size, qi_is_pow2(size) ? QI_MIN(size, 4096u) : QUIRE_KMALLOC_ALIGN,
                   flags | QI_CACHE_SIZED, NULL);
    c->fixed = true;
    qi_cache_register(c);
}

static void init_zone_classes(void)
{
    static const char *const names[2][ZONE_CLASSES] = {
        {"dma-kmalloc-8", "dma-kmalloc-16", "dma-kmalloc-32", "dma-kmalloc-64", "dma-kmalloc-128",
         "dma-kmalloc-256", "dma-kmalloc-512", "dma-kmalloc-1024", "dma-kmalloc-2048",
         "dma-kmalloc-4096", "dma-kmalloc-8192", "dma-kmalloc-16384"},
        {"dma32-kmalloc-8", "dma32-kmalloc-16", "dma32-kmalloc-32", "dma32-kmalloc-64",
         "dma32-kmalloc-128", "dma32-kmalloc-256", "dma32-kmalloc-512", "dma32-kmalloc-1024",
         "dma32-kmalloc-2048", "dma32-kmalloc-4096", "dma32-kmalloc-8192", "dma32-kmalloc-16384"}};

    for (unsigned i = 0; i < ZONE_CLASSES; i++) {
        init_class(&zone_caches[0][i], names[0][i], 8u << i, QUIRE_CACHE_DMA);
        init_class(&zone_caches[1][i], names[1][i], 8u << i, QUIRE_CACHE_DMA32);
    }
}

void qi_kmalloc_init(void)
{
    unsigned k = 0;

    for (unsigned i = 0; i < QI_COUNT(classes); i++)
        init_class(&caches[i], classes[i].name, classes[i].size, 0);
    init_zone_classes();
    for (unsigned s = 0; s < QI_COUNT(small); s++) {
        while (classes[k].size < s * SMALL_STEP || classes[k].size % QUIRE_KMALLOC_ALIGN)
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

static struct quire_cache *zone_cache_for(size_t size, quire_gfp gfp)
{
    if (size > CLASS_MAX)
        return NULL;
    return &zone_caches[gfp & QUIRE_GFP_DMA ? 0 : 1][size <= 8 ? 0 : qi_log2_ceil(size) - 3];
}

/* ---- the public calls ---- */

static QI_NOINLINE void *alloc_unusual(size_t size, quire_gfp gfp, unsigned node, uintptr_t caller)
{
    struct quire_cache *c =
        gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32) ? zone_cache_for(size, gfp) : cache_for(size);

    if (c)
        return qi_alloc_special(c, gfp, node, size, caller);
    if (QI_UNLIKELY(qi_load_relaxed(&caches[0].slow) & QI_SLOW_FAILING) && qi_heap_fail_now())
        return NULL;
    return qi_run_alloc(size, gfp, node, caller);
}

static QI_ALWAYS_INLINE void *alloc(size_t size, quire_gfp gfp, uintptr_t caller)
{
    if (QI_UNLIKELY(gfp & QI_GFP_SPECIAL))
        return alloc_unusual(size, gfp, QUIRE_NODE_ANY, caller ? caller : QI_CALLER());
    if (QI_LIKELY(size < qi_load_operand(&small_limit)))
        return qi_alloc_plain(small[(size + SMALL_STEP - 1) / SMALL_STEP], gfp);
    if (size > SMALL_MAX && size <= CLASS_MAX)
        return qi_alloc_fast(large[(size + LARGE_STEP - 1) / LARGE_STEP], gfp, size, caller);
    return alloc_unusual(size, gfp, QUIRE_NODE_ANY, caller ? caller : QI_CALLER());
}

void *quire_kmalloc(size_t size, quire_gfp gfp) { return alloc(size, gfp, 0); }

void *quire_kmalloc_ready(size_t size)
{
    struct quire_cache *c;
    void *obj;

    if (QI_LIKELY(size < qi_load_operand(&small_limit)))
        c = small[(size + SMALL_STEP - 1) / SMALL_STEP];
    else if (size <= CLASS_MAX && qi_load_relaxed(&small_limit))
        c = large[(size + LARGE_STEP - 1) / LARGE_STEP];
    else
        return NULL;
    return QI_LIKELY(qi_pop(c, &obj)) ? obj : NULL;
}

void *qi_kmalloc_from(size_t size, quire_gfp gfp, uintptr_t caller)
{
    return alloc(size, gfp, caller);
}

void *quire_kzalloc(size_t size, quire_gfp gfp)
{
    return alloc_unusual(size, gfp | QUIRE_GFP_ZERO, QUIRE_NODE_ANY, QI_CALLER());
}

void *quire_kmalloc_node(size_t size, quire_gfp gfp, unsigned node)
{
    QI_CHECK(node == QUIRE_NODE_ANY || node < quire_nodes(), "heap: kmalloc_node: node %u of %u",
             node, quire_nodes());
    return alloc_unusual(size, gfp, node, QI_CALLER());
}

void quire_kfree(void *p) { qi_free_any(p, 0); }

bool quire_kfree_ready(void *p) { return qi_push_any(p); }

void qi_kfree_from(void *p, uintptr_t caller) { qi_free_any(p, caller); }

size_t quire_ksize(const void *p)
{
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    struct quire_page *page;
    struct qi_slab *s;
    uint64_t i;

    if (qi_sample_owns(p))
        return qi_sample_size(p);
    QI_CHECK(off < qi_load_relaxed(&qi_heap_end), "heap: ksize: foreign pointer %p", p);
    page = quire_page_of_ptr(p);
    QI_CHECK((qi_load_relaxed(&page->flags) & QUIRE_PG_SLAB) &&
                 (qi_page_is_run(page) || qi_page_has_objects(page)),
             "heap: ksize: foreign pointer %p", p);
    if (qi_page_is_run(page))
        return qi_run_room(page, p);
    s = qi_slab_of_page(page);
    QI_CHECK(qi_slab_index(s, p, &i) && qi_is_out(s->state[i]),
             "heap: ksize: pointer %p is not an object of %s that is out", p, s->cache->name);
    return qi_guard_size(s->cache, p);
}
