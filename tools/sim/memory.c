/*
 * memory.c - operations on frames, the heap and kernel areas.
 *
 * Whoever gets memory fills it with a pattern of its own and looks at it when he gives it back or
 * hands it on: another holder, or the library, that wrote into it meanwhile is found out.  A task may
 * hand what it holds to another through a box, so that memory is freed on other CPUs and nodes than it
 * came from.
 */
#include <stdlib.h>

#include "../../ports/sim/monitor.h"
#include "world.h"

static const struct {
    const char *name;
    unsigned size, align, flags;
} cache_kinds[CACHES] = {{"small", 24, 8, 0},
                         {"guarded", 200, 8, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON},
                         {"large", 1500, 64, 0},
                         {"zeroed", 64, 64, QUIRE_CACHE_ZERO | QUIRE_CACHE_HWALIGN}};

static const quire_gfp gfps[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_ATOMIC, QUIRE_GFP_MOVABLE,
                                 QUIRE_GFP_ZERO,   QUIRE_GFP_DMA,    QUIRE_GFP_DMA32};

static quire_gfp gfp_of(uint32_t arg) { return gfps[arg % (sizeof gfps / sizeof gfps[0])]; }

/* ---- Patterns ---- */

/* Each 8 bytes of n at p: the pattern plus its place. */
void memory_fill(void *p, size_t n, uint64_t pattern)
{
    uint64_t *word = p;

    for (size_t i = 0; i < n / 8; i++)
        word[i] = pattern + i;
    monitor_hw_write(p, n);
}

void memory_check(const void *p, size_t n, uint64_t pattern, const char *what)
{
    const uint64_t *word = p;

    for (size_t i = 0; i < n / 8; i++)
        if (word[i] != pattern + i) {
            uint64_t pa = (uintptr_t)p + i * 8 - SIM_DIRECT_BASE;

            sim_frame_history(pa >> QUIRE_PAGE_SHIFT);
            sim_fail("content", "%s at %p: byte %zu of %zu reads %#llx, its holder wrote %#llx",
                     what, p, i * 8, n, (unsigned long long)word[i],
                     (unsigned long long)(pattern + i));
        }
}

void memory_check_zero(const void *p, size_t n, const char *what)
{
    const uint64_t *word = p;

    for (size_t i = 0; i < n / 8; i++)
        if (word[i])
            sim_fail("content", "%s at %p: byte %zu of %zu is not zero but %#llx", what, p, i * 8,
                     n, (unsigned long long)word[i]);
}

static uint64_t new_pattern(struct worker *w) { return worker_random(w) | 1; }

/* A page is looked at at its start and its end. */
static void fill_page(struct quire_page *page, uint64_t pattern)
{
    char *at = quire_page_ptr(page);

    memory_fill(at, 32, pattern);
    memory_fill(at + PAGE - 32, 32, pattern + 100);
}

/* What it holds is nobody's any more. */
static bool is_bad(const struct quire_page *page)
{
    return quire_page_flags(quire_pfn_of_page(page)) & QUIRE_PG_POISON;
}

static void check_page(const struct quire_page *page, uint64_t pattern)
{
    const char *at = quire_page_ptr(page);

    if (is_bad(page))
        return;
    memory_check(at, 32, pattern, "frame");
    memory_check(at + PAGE - 32, 32, pattern + 100, "end of a frame");
}

/* ---- Frames ---- */

static void check_place(const struct quire_page *page, quire_gfp gfp, unsigned order)
{
    uint64_t end = quire_pa_of_page(page).v + (PAGE << order);

    if ((gfp & QUIRE_GFP_DMA && end > 16u << 20) || end > sim_machine.memory)
        sim_fail("content", "a frame at %#llx for gfp %#x",
                 (unsigned long long)quire_pa_of_page(page).v, gfp);
    for (unsigned i = 0; i < world.nbad; i++)
        if (world.bad[i] - quire_pfn_of_page(page).v < 1u << order)
            sim_fail("content", "frame %#llx is bad and was handed out",
                     (unsigned long long)world.bad[i]);
    sections_check(page, order);
    contig_check(page, order, gfp);
    if (page->refs != 1 || page->maps || page->owner)
        sim_fail("content", "a new frame with refs %u, maps %u, owner %#llx", page->refs,
                 page->maps, (unsigned long long)page->owner);
}

void memory_hold(struct worker *w, struct held *h, struct quire_page *page, unsigned order)
{
    h->kind = HELD_FRAMES;
    h->n = order;
    h->refs = 1;
    h->p[0] = page;
    h->pattern = new_pattern(w);
    for (unsigned i = 0; i < 1u << order; i++)
        fill_page(page + i, h->pattern + i);
}

/* A request was answered with page. */
static void frame_came(struct worker *w, struct held *h, struct quire_page *page, unsigned order,
                       quire_gfp gfp)
{
    if (!page) {
        if (!(gfp & QUIRE_GFP_DMA) && order == 0)
            must_be_short(w, "frame_alloc");
        return;
    }
    check_place(page, gfp, order);
    for (unsigned i = 0; gfp & QUIRE_GFP_ZERO && i < 1u << order; i++)
        memory_check_zero(quire_page_ptr(page + i), PAGE, "a zeroed frame");
    memory_hold(w, h, page, order);
}

static void frame_alloc(struct worker *w, struct held *h, unsigned order, quire_gfp gfp)
{
    frame_came(w, h, quire_page_alloc(order, gfp, QUIRE_NODE_ANY), order, gfp);
}

/* Which colour comes depends on what is free at that moment; that it is a sound frame does not. */
static void frame_colour(struct worker *w, struct held *h, unsigned colour, quire_gfp gfp)
{
    frame_came(w, h, quire_page_alloc_colour(colour, gfp, QUIRE_NODE_ANY), 0, gfp);
}

/* As an idle CPU does it; several at once may each add what was missing when they looked. */
static void frame_zero(unsigned n)
{
    struct quire_zero_stats s;
    uint64_t done = quire_frame_zero_idle(n);

    quire_frame_zero_stats(&s);
    if (done > n || s.free > s.target + 64u * sim_machine.cpus + world.nsections * 6)
        sim_fail("content", "%llu frames cleared for %u; %llu are there for %llu",
                 (unsigned long long)done, n, (unsigned long long)s.free,
                 (unsigned long long)s.target);
}

static void frame_bulk(struct worker *w, struct held *h, unsigned n, quire_gfp gfp)
{
    size_t got = quire_page_alloc_bulk(n, (struct quire_page **)h->p, gfp, QUIRE_NODE_ANY);

    if (got < n && !(gfp & QUIRE_GFP_DMA))
        must_be_short(w, "frame_bulk");
    if (!got)
        return;
    h->kind = HELD_PAGES;
    h->n = (unsigned)got;
    h->refs = 1;
    h->pattern = new_pattern(w);
    for (size_t i = 0; i < got; i++) {
        check_place(h->p[i], gfp, 0);
        fill_page(h->p[i], h->pattern + i);
    }
}

/* A frame that no cache holds is taken, or given back. */
static void frame_cold(struct worker *w, struct held *h, bool free_slot)
{
    if (free_slot) {
        frame_alloc(w, h, 0, QUIRE_GFP_COLD);
        return;
    }
    if (h->kind != HELD_FRAMES || h->n || h->refs != 1)
        return;
    check_page(h->p[0], h->pattern);
    h->kind = HELD_NOTHING;
    quire_page_free_cold(h->p[0]);
}

/* The lists of this CPU, of all others, or what was not used of them go back to the zones. */
static void frame_drain(unsigned kind)
{
    if (kind % 3 == 0)
        quire_frame_drain_local();
    else if (kind % 3 == 1)
        quire_frame_drain_ask();
    else
        quire_frame_age();
}

void memory_hold_range(struct worker *w, struct held *h, q_pfn first, unsigned n,
                       enum held_kind kind)
{
    h->kind = kind;
    h->n = n;
    h->refs = 1;
    h->pattern = new_pattern(w);
    for (unsigned i = 0; i < n; i++) {
        h->p[i] = quire_page_of_pfn(Q_PFN(first.v + i));
        check_place(h->p[i], QUIRE_GFP_MOVABLE, 0);
        fill_page(h->p[i], h->pattern + i);
    }
}

static void frame_split(struct held *h)
{
    struct quire_page *page = h->p[0];

    if (h->kind != HELD_FRAMES || h->refs != 1 || h->n > 6)
        return;
    quire_page_split(page);
    h->kind = HELD_PAGES;
    h->n = 1u << h->n;
    for (unsigned i = 0; i < h->n; i++)
        h->p[i] = page + i;
}

static void give_frames(struct held *h)
{
    struct quire_page *page = h->p[0];

    for (unsigned i = 0; i < 1u << h->n; i++)
        check_page(page + i, h->pattern + i);
    if (h->refs == 1)
        quire_page_free(page, h->n);
    else
        for (unsigned i = 0; i < h->refs; i++)
            quire_page_put(page);
}

static void give_pages(struct held *h)
{
    for (unsigned i = 0; i < h->n; i++)
        check_page(h->p[i], h->pattern + i);
    if (h->refs == 1) {
        quire_page_free_bulk(h->n, (struct quire_page **)h->p);
        return;
    }
    for (unsigned i = 0; i < h->n; i++)
        for (unsigned r = 0; r < h->refs; r++)
            quire_page_put(h->p[i]);
}

static void frame_share(struct held *h)
{
    if (h->kind == HELD_FRAMES)
        quire_page_get(h->p[0]);
    else if (h->kind == HELD_PAGES)
        for (unsigned i = 0; i < h->n; i++)
            quire_page_get(h->p[i]);
    h->refs++;
}

/* From one node only, or of one zone. */
static void frame_node(struct worker *w, struct held *h, unsigned order, unsigned node)
{
    struct quire_page *page;
    bool dma = node & 4;

    node %= quire_nodes();
    page = dma ? quire_page_alloc_zone(QUIRE_ZONE_DMA, order, QUIRE_GFP_KERNEL, node)
               : quire_page_alloc(order, QUIRE_GFP_KERNEL | QUIRE_GFP_THISNODE, node);
    if (!page)
        return; /* one node, or zone, may well be full */
    if (quire_page_node(page) != node || (dma && quire_page_zone(page) != QUIRE_ZONE_DMA))
        sim_fail("content", "a frame of node %u, zone %u, where node %u was asked for",
                 quire_page_node(page), quire_page_zone(page), node);
    check_place(page, dma ? QUIRE_GFP_DMA : QUIRE_GFP_KERNEL, order);
    memory_hold(w, h, page, order);
}

/* ---- Bad frames ---- */

/* So few that the machine does not run short. */
static bool may_spoil(void)
{
    return world.nbad < sizeof world.bad / sizeof world.bad[0] && world.nbad < world.low_mark / 64;
}

/* A bit flips in a frame of a block that the worker holds, and the machine says so. */
static void frame_poison(struct held *h, unsigned at)
{
    unsigned n = h->kind == HELD_FRAMES ? 1u << h->n : h->n;
    struct quire_page *page = h->p[0];
    enum quire_status st;

    if ((h->kind != HELD_FRAMES && h->kind != HELD_PAGES) || !may_spoil())
        return;
    page = h->kind == HELD_FRAMES ? page + at % n : h->p[at % n];
    st = quire_frame_poison(quire_pfn_of_page(page));
    if (st != QUIRE_OK && st != QUIRE_EXISTS)
        sim_fail("status", "poison of a held frame: %s", quire_status_name(st));
    if (!is_bad(page))
        sim_fail("status", "a bad frame that is held is not marked");
    *(uint64_t *)quire_page_ptr(page) ^= 1;
    if (st == QUIRE_OK)
        world.bad[world.nbad++] = quire_pfn_of_page(page).v;
}

/* Any frame of the machine.  What it is doing is not known: only if it was withheld is it gone for
 * sure (quire/frame.h). */
static void poison_any(unsigned at)
{
    q_pfn pfn = Q_PFN(at * 2654435761u % (sim_machine.memory / PAGE));

    if (!may_spoil() || !(quire_page_flags(pfn) & QUIRE_PG_FREE))
        return;
    if (quire_frame_poison(pfn) == QUIRE_OK &&
        (quire_page_flags(pfn) & (QUIRE_PG_POISON | QUIRE_PG_RESERVED)) ==
            (QUIRE_PG_POISON | QUIRE_PG_RESERVED))
        world.bad[world.nbad++] = pfn.v;
}

/* A frame that somebody may use is to be replaced before it fails. */
static void soft_offline(unsigned at)
{
    q_pfn pfn = Q_PFN(at * 2654435761u % (sim_machine.memory / PAGE));
    enum quire_status st;

    if (!may_spoil() || quire_free_pages() < world.low_mark + 4 * QUIRE_HUGE_SIZE / PAGE)
        return;
    st = quire_frame_soft_offline(pfn);
    if (st == QUIRE_OK && may_spoil())
        world.bad[world.nbad++] = pfn.v;
    else if (st != QUIRE_OK && st != QUIRE_BUSY && st != QUIRE_EXISTS && st != QUIRE_INVALID)
        sim_fail("status", "soft off-lining of %#llx: %s", (unsigned long long)pfn.v,
                 quire_status_name(st));
}

/* One of the bad frames, which nobody holds, is good after all. */
static void unpoison(unsigned at)
{
    enum quire_status st;
    unsigned i;
    q_pfn pfn;

    if (!world.nbad)
        return;
    i = at % world.nbad;
    pfn = Q_PFN(world.bad[i]);
    if (!(quire_page_flags(pfn) & QUIRE_PG_RESERVED))
        return; /* its holder's content is spoiled */
    if (i >= world.nbad || world.bad[i] != pfn.v)
        return;                             /* another task has changed the list meanwhile */
    world.bad[i] = world.bad[--world.nbad]; /* from the call on it may be handed out */
    world.moves++;                          /* one frame more is managed */
    world.move_epoch++;
    st = quire_frame_unpoison(pfn);
    world.moves--;
    world.move_epoch++;
    if (st == QUIRE_BUSY)
        world.bad[world.nbad++] = pfn.v;
    else if (st != QUIRE_OK)
        sim_fail("status", "frame %#llx is bad, and not: %s", (unsigned long long)pfn.v,
                 quire_status_name(st));
}

/* ---- Heap ---- */

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
    h->pattern = new_pattern(w);
    for (unsigned i = 0; i < n; i++) {
        if (cache_kinds[cache].flags & QUIRE_CACHE_ZERO || gfp & QUIRE_GFP_ZERO)
            memory_check_zero(h->p[i], cache_size(cache), "a zeroed object");
        memory_fill(h->p[i], cache_size(cache), h->pattern + i);
    }
}

static void give_objects(struct held *h)
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
    void *p = quire_kmalloc(bytes, gfp);

    if (!p) {
        if (bytes <= PAGE && !(gfp & QUIRE_GFP_DMA))
            must_be_short(w, "kmalloc");
        return;
    }
    if (quire_ksize(p) < bytes)
        sim_fail("content", "kmalloc(%u) has %zu bytes", bytes, quire_ksize(p));
    if (gfp & QUIRE_GFP_ZERO)
        memory_check_zero(p, bytes, "zeroed kmalloc");
    h->kind = HELD_KMALLOC;
    h->n = bytes;
    h->p[0] = p;
    h->pattern = new_pattern(w);
    memory_fill(p, bytes, h->pattern);
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
    h->kind = HELD_KMALLOC;
    h->n = bytes;
    h->p[0] = p;
    h->pattern = new_pattern(w);
    memory_fill(p, bytes, h->pattern);
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

/* ---- Kernel areas: through the MMU, as a kernel would ---- */

static void touch(uint64_t va, enum sim_access kind, uint64_t *value, bool present)
{
    if (sim_access(va, kind, false, value) != present)
        sim_fail("content", "kernel address %#llx is%s mapped", (unsigned long long)va,
                 present ? " not" : "");
}

static void do_vmalloc(struct worker *w, struct held *h, unsigned bytes)
{
    char *p = quire_vzalloc(bytes, QUIRE_GFP_KERNEL);
    unsigned pages = (unsigned)((bytes + PAGE - 1) / PAGE);

    if (!p) {
        must_be_short(w, "vmalloc");
        return;
    }
    h->kind = HELD_AREA;
    h->n = bytes;
    h->p[0] = p;
    for (unsigned i = 0; i < pages && i < 9; i++) {
        touch((uintptr_t)p + i * PAGE, SIM_ACCESS_READ, &h->words[i], true);
        if (h->words[i])
            sim_fail("content", "vzalloc(%u): page %u reads %#llx", bytes, i,
                     (unsigned long long)h->words[i]);
        h->words[i] = worker_value(w);
        touch((uintptr_t)p + i * PAGE, SIM_ACCESS_WRITE, &h->words[i], true);
    }
}

static void vtouch(struct worker *w, struct held *h, unsigned at)
{
    unsigned pages, page;
    uint64_t got, va;

    if (h->kind != HELD_AREA)
        return;
    pages = (unsigned)((h->n + PAGE - 1) / PAGE);
    page = at % (pages + 1);
    va = (uintptr_t)h->p[0] + page * PAGE;
    if (page == pages) {
        touch(va, SIM_ACCESS_READ, &got, false); /* the guard */
        return;
    }
    if (page >= 9)
        return;
    touch(va, SIM_ACCESS_READ, &got, true);
    if (got != h->words[page])
        sim_fail("content", "kernel address %#llx reads %#llx, its holder wrote %#llx",
                 (unsigned long long)va, (unsigned long long)got,
                 (unsigned long long)h->words[page]);
    h->words[page] = worker_value(w);
    touch(va, SIM_ACCESS_WRITE, &h->words[page], true);
}

static void do_kvmalloc(struct worker *w, struct held *h, unsigned bytes)
{
    void *p = quire_kvmalloc(bytes, QUIRE_GFP_KERNEL);
    uint64_t value = worker_value(w), got;

    if (!p) {
        must_be_short(w, "kvmalloc");
        return;
    }
    h->kind = HELD_KV;
    h->p[0] = p;
    if ((uintptr_t)p < SIM_AREAS_START)
        return; /* of the heap: not mapped in the kernel's table */
    touch((uintptr_t)p, SIM_ACCESS_WRITE, &value, true);
    touch((uintptr_t)p, SIM_ACCESS_READ, &got, true);
    if (got != value)
        sim_fail("content", "kvmalloc at %p reads %#llx", p, (unsigned long long)got);
}

/* The held frames once more, at a kernel address. */
static void do_vmap(struct worker *w, struct held *h)
{
    enum quire_status st;
    uint64_t got;
    q_kva at;

    if (h->kind != HELD_PAGES)
        return;
    st = quire_vmap((struct quire_page *const *)h->p, h->n, QUIRE_READ | QUIRE_WRITE, &at);
    if (st != QUIRE_OK) {
        must_be_short(w, "vmap");
        return;
    }
    for (unsigned i = 0; i < h->n; i += 7) {
        touch(at.v + i * PAGE, SIM_ACCESS_READ, &got, true);
        if (got != h->pattern + i && !is_bad(h->p[i]))
            sim_fail("content", "vmap: page %u reads %#llx", i, (unsigned long long)got);
    }
    quire_vunmap(at);
}

/* Registers of a device: somewhere in the first MiB, which is no usable memory. */
static void do_ioremap(struct worker *w, unsigned at, unsigned bytes)
{
    uint64_t value = worker_value(w), got;
    enum quire_status st;
    q_kva va;

    at = (at * 8 + w->number * 16384) % (900 << 10);
    st = quire_ioremap(Q_PA(at & ~7u), bytes + 8, QUIRE_UNCACHED, &va);
    if (st != QUIRE_OK) {
        must_be_short(w, "ioremap");
        return;
    }
    touch(va.v, SIM_ACCESS_WRITE, &value, true);
    touch(va.v, SIM_ACCESS_READ, &got, true);
    (void)got; /* other tasks have the same device */
    quire_iounmap(va);
}

static void do_kstack(struct worker *w, struct held *h)
{
    q_kva top;
    uint64_t value = worker_value(w);

    if (h->kind == HELD_STACK) {
        quire_stack_free(Q_KVA((uintptr_t)h->p[0]));
        h->kind = HELD_NOTHING;
    } else if (h->kind == HELD_NOTHING) {
        if (quire_stack_alloc(4 * PAGE, &top) != QUIRE_OK) {
            must_be_short(w, "stack");
            return;
        }
        touch(top.v - 8, SIM_ACCESS_WRITE, &value, true);
        touch(top.v - 4 * PAGE - 8, SIM_ACCESS_READ, &value, false);
        h->kind = HELD_STACK;
        h->p[0] = (void *)top.v; /* NOLINT: kept as a number */
    }
}

/* ---- Giving back, handing on ---- */

void memory_give_back(struct held *h)
{
    struct held mine = *h;

    h->kind = HELD_NOTHING; /* before the points of the call: nobody else may take it */
    switch (mine.kind) {
    case HELD_NOTHING: break;
    case HELD_FRAMES: give_frames(&mine); break;
    case HELD_PAGES: give_pages(&mine); break;
    case HELD_OBJECTS: give_objects(&mine); break;
    case HELD_KMALLOC:
        memory_check(mine.p[0], mine.n, mine.pattern, "kmalloc");
        quire_kfree(mine.p[0]);
        break;
    case HELD_AREA: quire_vfree(mine.p[0]); break;
    case HELD_KV: quire_kvfree(mine.p[0]); break;
    case HELD_STACK: quire_stack_free(Q_KVA((uintptr_t)mine.p[0])); break;
    case HELD_MAPPED: dma_give_back(&mine); break;
    case HELD_CMA:
        for (unsigned i = 0; i < mine.n; i++)
            check_page(mine.p[i], mine.pattern + i);
        cma_give(mine.p[0], mine.n);
        break;
    }
}

/* Change what the slot and the box hold: one step, as an exchange under the tasks' own lock. */
static void exchange(struct held *slot, struct held *box)
{
    struct held t = *slot;

    monitor_acquire(box);
    *slot = *box;
    *box = t;
    monitor_release(box);
}

/* ---- Nearly all memory there is ---- */

static void hog(struct worker *w)
{
    static const quire_gfp gfps_of_hogs[] = {QUIRE_GFP_NORETRY, QUIRE_GFP_ATOMIC,
                                             QUIRE_GFP_MEMALLOC};
    quire_gfp gfp = gfps_of_hogs[worker_random(w) % 3]; /* how much of the reserves, too */
    size_t room = quire_managed_pages();

    if (w->hog)
        return;
    world.hog_epoch++;
    world.hogs++;
    w->hog = calloc(room, sizeof *w->hog);
    for (unsigned order = 9; order <= 9; order -= 3)
        for (struct quire_page *p;
             w->nhog < room && (p = quire_page_alloc(order, gfp, QUIRE_NODE_ANY));)
            w->hog[w->nhog++] = p;
    /* mostly a few are left, for the others to meet over */
    for (uint64_t n = worker_random(w) % 4 ? worker_random(w) % 200 : 0; n && w->nhog; n--)
        quire_page_put(w->hog[--w->nhog]);
}

void memory_unhog(struct worker *w)
{
    if (!w->hog)
        return;
    for (size_t i = 0; i < w->nhog; i++)
        quire_page_put(w->hog[i]);
    free(w->hog);
    w->hog = NULL;
    w->nhog = 0;
    world.hogs--;
    world.hog_epoch++;
}

/* ---- In interrupts ---- */

/* A driver: it takes and gives back small things, on whichever CPU. */
void memory_interrupt(void)
{
    struct held *h = &world.irq[sim_cpu()][sim_below(SIM_RANDOM_FAULTS, IRQ_SLOTS)];
    uint64_t pattern = sim_random(SIM_RANDOM_FAULTS);

    if (h->kind != HELD_NOTHING) {
        memory_give_back(h);
        return;
    }
    h->pattern = pattern;
    h->refs = 1;
    if (pattern & 1) {
        h->p[0] = quire_page_alloc(0, QUIRE_GFP_ATOMIC, QUIRE_NODE_ANY);
        if (!h->p[0])
            return;
        sections_check(h->p[0], 0);
        h->n = 0;
        fill_page(h->p[0], pattern);
        h->kind = HELD_FRAMES;
    } else {
        h->n = 64 << (pattern >> 1 & 3);
        h->p[0] = quire_kmalloc(h->n, QUIRE_GFP_ATOMIC);
        if (!h->p[0])
            return;
        memory_fill(h->p[0], h->n, pattern);
        if (!dma_on() || !(pattern & 8) || !dma_hold(h, h->p[0], h->n, pattern >> 4 & 7))
            h->kind = HELD_KMALLOC;
    }
}

/* ---- Operations ---- */

static bool do_frame_op(struct worker *w, const struct sim_op *op, struct held *h, bool free_slot)
{
    switch (op->kind) {
    case SIM_OP_frame_alloc:
        if (free_slot)
            frame_alloc(w, h, op->arg[1], gfp_of(op->arg[2]));
        return true;
    case SIM_OP_frame_bulk:
        if (free_slot)
            frame_bulk(w, h, op->arg[1], gfp_of(op->arg[2]));
        return true;
    case SIM_OP_frame_share:
        if (h->kind == HELD_FRAMES || h->kind == HELD_PAGES)
            frame_share(h);
        return true;
    case SIM_OP_frame_node:
        if (free_slot)
            frame_node(w, h, op->arg[1] % 5, op->arg[2]);
        return true;
    case SIM_OP_frame_colour:
        if (free_slot)
            frame_colour(w, h, op->arg[1], gfp_of(op->arg[2]));
        return true;
    case SIM_OP_frame_zero: frame_zero(op->arg[0]); return true;
    case SIM_OP_frame_cold: frame_cold(w, h, free_slot); return true;
    case SIM_OP_frame_drain: frame_drain(op->arg[0]); return true;
    case SIM_OP_views: look_at_views(); return true;
    case SIM_OP_frame_split: frame_split(h); return true;
    case SIM_OP_frame_poison: frame_poison(h, op->arg[1]); return true;
    case SIM_OP_poison_any: poison_any(op->arg[0]); return true;
    case SIM_OP_soft_offline: soft_offline(op->arg[0]); return true;
    case SIM_OP_unpoison: unpoison(op->arg[0]); return true;
    case SIM_OP_policy_alloc:
        if (free_slot)
            policy_alloc(w, h, op->arg[1] % 5, op->arg[2]);
        return true;
    case SIM_OP_tune: tune(w); return true;
    case SIM_OP_device_page: device_page(op->arg[0]); return true;
    case SIM_OP_device_plug: device_plug(op->arg[0]); return true;
    case SIM_OP_section_off: section_off(op->arg[0]); return true;
    case SIM_OP_section_on: section_on(op->arg[0]); return true;
    case SIM_OP_memory_add: memory_add(op->arg[0], op->arg[1]); return true;
    case SIM_OP_frames_ask: frames_ask(op->arg[0]); return true;
    case SIM_OP_memory_remove: memory_remove(op->arg[0]); return true;
    case SIM_OP_contig:
        if (free_slot)
            contig_take(w, h, op->arg[1], op->arg[2]);
        return true;
    case SIM_OP_contig_find:
        if (free_slot)
            contig_find(w, h, op->arg[1]);
        return true;
    case SIM_OP_cma_alloc:
        if (free_slot)
            cma_take(w, h, op->arg[1], op->arg[2]);
        return true;
    case SIM_OP_frame_free:
        if (h->kind == HELD_FRAMES || h->kind == HELD_PAGES || h->kind == HELD_CMA)
            memory_give_back(h);
        return true;
    case SIM_OP_misuse_frame:
        if (h->kind == HELD_FRAMES) {
            struct held twice = *h;

            memory_give_back(h);
            give_frames(&twice);
        }
        return true;
    case SIM_OP_hog: hog(w); return true;
    case SIM_OP_unhog: memory_unhog(w); return true;
    default: return false;
    }
}

static bool do_heap_op(struct worker *w, const struct sim_op *op, struct held *h, bool free_slot)
{
    switch (op->kind) {
    case SIM_OP_object_alloc:
        if (free_slot)
            object_alloc(w, h, op->arg[1] % CACHES, 1, gfp_of(op->arg[2]) & QUIRE_GFP_ZERO);
        return true;
    case SIM_OP_object_bulk:
        if (free_slot)
            object_alloc(w, h, op->arg[1] % CACHES, op->arg[2], QUIRE_GFP_KERNEL);
        return true;
    case SIM_OP_kmalloc:
        if (free_slot)
            do_kmalloc(w, h, op->arg[1], gfp_of(op->arg[2]));
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
            give_objects(&twice);
        }
        return true;
    case SIM_OP_heap_shrink: quire_heap_shrink(); return true;
    case SIM_OP_cache_cycle:
        cache_cycle(w, op->arg[0] < 8 ? 8 : op->arg[0], op->arg[1]);
        return true;
    default: return false;
    }
}

bool do_memory_op(struct worker *w, const struct sim_op *op)
{
    struct held *h = &w->slots[op->arg[0] % SIM_SLOTS];
    bool free_slot = h->kind == HELD_NOTHING;

    switch (op->kind) {
    case SIM_OP_frame_send:
    case SIM_OP_object_send: exchange(h, &world.boxes[op->arg[1] % SIM_BOXES]); return true;
    case SIM_OP_vmalloc:
        if (free_slot)
            do_vmalloc(w, h, op->arg[1]);
        return true;
    case SIM_OP_vfree:
        if (h->kind == HELD_AREA || h->kind == HELD_KV)
            memory_give_back(h);
        return true;
    case SIM_OP_kvmalloc:
        if (free_slot)
            do_kvmalloc(w, h, op->arg[1]);
        return true;
    case SIM_OP_vmap: do_vmap(w, h); return true;
    case SIM_OP_ioremap: do_ioremap(w, op->arg[0], op->arg[1]); return true;
    case SIM_OP_vtouch: vtouch(w, h, op->arg[1]); return true;
    case SIM_OP_kstack: do_kstack(w, h); return true;
    case SIM_OP_vpurge: quire_kva_purge(); return true;
    default:
        return do_frame_op(w, op, h, free_slot) || do_heap_op(w, op, h, free_slot) ||
               do_dma_op(w, op, h);
    }
}

/* ---- Start and end ---- */

void memory_setup(void)
{
    for (unsigned i = 0; i < CACHES; i++)
        if (quire_cache_create(cache_kinds[i].name, cache_kinds[i].size, cache_kinds[i].align,
                               cache_kinds[i].flags, NULL, &world.caches[i]) != QUIRE_OK)
            sim_fail("boot", "no memory for the caches");
    dma_setup();
}

void memory_teardown(void)
{
    for (unsigned i = 0; i < SIM_BOXES; i++)
        memory_give_back(&world.boxes[i]);
    for (unsigned i = 0; i < SIM_MAX_CPUS; i++)
        for (unsigned k = 0; k < IRQ_SLOTS; k++)
            memory_give_back(&world.irq[i][k]);
    dma_teardown();
    for (unsigned i = 0; i < CACHES; i++)
        if (quire_cache_destroy(world.caches[i]) != QUIRE_OK)
            sim_fail("leak", "cache %s still has objects out", cache_kinds[i].name);
}
