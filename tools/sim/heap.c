/*
 * heap.c - operations on object caches and kmalloc.
 *
 * An object is filled with a pattern of its holder's, who looks at it when he gives it back.
 */
#include "held.h"

static const struct {
    const char *name;
    unsigned size, align, flags;
} cache_kinds[CACHES] = {{"small", 24, 8, QUIRE_CACHE_SHEAF(4)},
                         {"guarded", 200, 8, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON},
                         {"large", 1500, 64, 0},
                         {"zeroed", 64, 64, QUIRE_CACHE_ZERO | QUIRE_CACHE_HWALIGN}};

static size_t cache_size(unsigned cache) { return cache_kinds[cache].size; }

static void object_alloc(struct worker *w, struct held *h, unsigned cache, unsigned n,
                         quire_gfp gfp)
{
    struct quire_cache *c = world.caches[cache];

    if (n == 1) {
        h->p[0] = quire_cache_alloc(c, gfp);
        n = h->p[0] != NULL;
    } else if (!quire_cache_alloc_bulk(c, gfp, n, h->p)) {
        n = 0;
    }
    if (!n) {
        must_be_short(w, "object_alloc");
        return;
    }
    h->kind = HELD_OBJECTS;
    h->n = n;
    h->cache = cache;
    h->pattern = memory_pattern(w);
    for (unsigned i = 0; i < n; i++) {
        if (cache_kinds[cache].flags & QUIRE_CACHE_ZERO || gfp & QUIRE_GFP_ZERO)
            memory_check_zero(h->p[i], cache_size(cache), "a zeroed object");
        memory_fill(h->p[i], cache_size(cache), h->pattern + i);
    }
}

void object_give(struct held *h)
{
    for (unsigned i = 0; i < h->n; i++)
        memory_check(h->p[i], cache_size(h->cache), h->pattern + i, cache_kinds[h->cache].name);
    if (h->n == 1)
        quire_cache_free(world.caches[h->cache], h->p[0]);
    else
        quire_cache_free_bulk(world.caches[h->cache], h->n, h->p);
}

static void do_kmalloc(struct worker *w, struct held *h, unsigned bytes, quire_gfp gfp)
{
    void *p = gfp == QUIRE_GFP_KERNEL && bytes % 2 ? quire_kmalloc_ready(bytes) : NULL;

    if (!p)
        p = quire_kmalloc(bytes, gfp);
    if (!p) {
        if (bytes <= PAGE && !(gfp & QUIRE_GFP_DMA))
            must_be_short(w, "kmalloc");
        return;
    }
    if (quire_ksize(p) < bytes)
        sim_fail("content", "kmalloc(%u) has %zu bytes", bytes, quire_ksize(p));
    if (gfp & QUIRE_GFP_ZERO)
        memory_check_zero(p, bytes, "zeroed kmalloc");
    memory_hold_bytes(w, h, p, bytes, HELD_KMALLOC);
}

static void kmalloc_node(struct worker *w, struct held *h, unsigned bytes, unsigned node)
{
    void *p =
        quire_kmalloc_node(bytes, QUIRE_GFP_KERNEL | QUIRE_GFP_THISNODE, node % quire_nodes());

    if (!p)
        return; /* one node may well be full */
    if (quire_page_node(quire_page_of_ptr(p)) != node % quire_nodes())
        sim_fail("content", "kmalloc_node gives memory of node %u for node %u",
                 quire_page_node(quire_page_of_ptr(p)), node % quire_nodes());
    memory_hold_bytes(w, h, p, bytes, HELD_KMALLOC);
}

static void do_krealloc(struct worker *w, struct held *h, unsigned bytes)
{
    void *p;

    if (h->kind != HELD_KMALLOC)
        return;
    memory_check(h->p[0], h->n, h->pattern, "kmalloc");
    p = quire_krealloc(h->p[0], bytes, QUIRE_GFP_KERNEL);
    if (!p) {
        if (bytes <= PAGE)
            must_be_short(w, "krealloc");
        return;
    }
    memory_check(p, h->n < bytes ? h->n : bytes, h->pattern, "krealloc");
    h->p[0] = p;
    h->n = bytes;
    memory_fill(p, bytes, h->pattern);
}

/* A cache of its own, used and destroyed. */
static void cache_cycle(struct worker *w, unsigned bytes, unsigned n)
{
    struct quire_cache *c;
    void *objects[64];
    unsigned got = 0;

    if (quire_cache_create("cycle", bytes, 0, 0, NULL, &c) != QUIRE_OK) {
        must_be_short(w, "cache_create");
        return;
    }
    for (; got < n && (objects[got] = quire_cache_alloc(c, QUIRE_GFP_KERNEL)); got++)
        memory_fill(objects[got], bytes, got);
    if (got < n && bytes <= PAGE)
        must_be_short(w, "an object of a new cache");
    if (got && quire_cache_destroy(c) != QUIRE_BUSY)
        sim_fail("status", "a cache was destroyed with %u objects out", got);
    for (unsigned i = 0; i < got; i++) {
        memory_check(objects[i], bytes, i, "object of a new cache");
        quire_cache_free(c, objects[i]);
    }
    if (quire_cache_destroy(c) != QUIRE_OK)
        sim_fail("status", "an empty cache cannot be destroyed");
}

bool do_heap_op(struct worker *w, const struct sim_op *op, struct held *h)
{
    bool free_slot = h->kind == HELD_NOTHING;

    switch (op->kind) {
    case SIM_OP_object_alloc:
        if (free_slot)
            object_alloc(w, h, op->arg[1] % CACHES, 1, memory_gfp(op->arg[2]) & QUIRE_GFP_ZERO);
        return true;
    case SIM_OP_object_bulk:
        if (free_slot)
            object_alloc(w, h, op->arg[1] % CACHES, op->arg[2], QUIRE_GFP_KERNEL);
        return true;
    case SIM_OP_kmalloc:
        if (free_slot)
            do_kmalloc(w, h, op->arg[1], memory_gfp(op->arg[2]));
        return true;
    case SIM_OP_kmalloc_node:
        if (free_slot)
            kmalloc_node(w, h, op->arg[1], op->arg[2]);
        return true;
    case SIM_OP_krealloc: do_krealloc(w, h, op->arg[1]); return true;
    case SIM_OP_object_free:
        if (h->kind == HELD_OBJECTS || h->kind == HELD_KMALLOC)
            memory_give_back(h);
        return true;
    case SIM_OP_misuse_object:
        if (h->kind == HELD_OBJECTS) {
            struct held twice = *h;

            memory_give_back(h);
            object_give(&twice);
        }
        return true;
    case SIM_OP_heap_shrink: quire_heap_shrink(); return true;
    case SIM_OP_cache_cycle:
        cache_cycle(w, op->arg[0] < 8 ? 8 : op->arg[0], op->arg[1]);
        return true;
    default: return false;
    }
}

unsigned heap_object_bytes(unsigned cache) { return cache_kinds[cache].size; }

bool heap_is_guarded(unsigned cache)
{
    return cache < CACHES && cache_kinds[cache].flags & QUIRE_CACHE_REDZONE;
}

void heap_setup(void)
{
    for (unsigned i = 0; i < CACHES; i++)
        if (quire_cache_create(cache_kinds[i].name, cache_kinds[i].size, cache_kinds[i].align,
                               cache_kinds[i].flags, NULL, &world.caches[i]) != QUIRE_OK)
            sim_fail("boot", "no memory for the caches");
}

void heap_teardown(void)
{
    for (unsigned i = 0; i < CACHES; i++)
        if (quire_cache_destroy(world.caches[i]) != QUIRE_OK)
            sim_fail("leak", "cache %s still has objects out", cache_kinds[i].name);
}
