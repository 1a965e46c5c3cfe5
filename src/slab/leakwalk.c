/*
 * slab/leakwalk.c - going through all memory of the heap while it is in use, by the frames' struct pages.
 *
 * A slab is found by its pages, looked at with qi_track_lock held, which keeps it from going (track.c), a few
 * objects at a time; then it is asked for again.  What comes or goes meanwhile may be missed.
 */
#include "leak.h"

#include "harden.h"

#if QUIRE_TRACK

#define BATCH 16u /* objects under the lock */

struct qi_slab *qi_leak_slab_at(uintptr_t p)
{
    uintptr_t off = p - QPORT_DIRECT_BASE;
    struct quire_page *page;
    struct qi_slab *s;

    if (off >= qi_load_relaxed(&qi_heap_end) || !quire_pfn_valid(Q_PFN(off >> QUIRE_PAGE_SHIFT)))
        return NULL;
    page = quire_page_of_pfn(Q_PFN(off >> QUIRE_PAGE_SHIFT));
    if (!(qi_load_acquire(&page->flags) & QUIRE_PG_SLAB))
        return NULL;
    s = (struct qi_slab *)qi_leak_word((uintptr_t)&page->owner);
    /* NULL: it is just going; no reciprocal: it has the heap's own books */
    return s && s->recip && !(qi_load_relaxed(&s->cache->flags) & QI_CACHE_HIDDEN) ? s : NULL;
}

struct qi_found qi_leak_object(struct qi_slab *s, unsigned i)
{
    return (struct qi_found){qi_track_record(s, i), (uintptr_t)qi_slab_object(s, i),
                             s->cache->size};
}

#define BLOCK_FRAMES ((uint64_t)1 << QUIRE_HUGE_ORDER)

/* Zones of two nodes may span each other's frames.  (Memory that was never used says 0: nothing of ours is there.) */
static bool is_of(const struct quire_page *page, const struct quire_zone_stats *z)
{
    return quire_page_node(page) == z->node && quire_page_zone(page) == (unsigned)z->type;
}

/* Call one for each frame that has a struct page, those of devices left out.  Memory comes and goes by
 * whole pageblocks, so that one question serves for each. */
static void each_page(void (*one)(void *ctx, struct quire_page *page), void *ctx)
{
    struct quire_zone_stats z;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++) {
        bool valid = false;

        if (z.type == QUIRE_ZONE_DEVICE)
            continue;
        for (uint64_t pfn = z.start.v; pfn < z.end.v; pfn++) {
            if (pfn == z.start.v || pfn % BLOCK_FRAMES == 0)
                valid = quire_pfn_valid(Q_PFN(pfn));
            if (valid && is_of(quire_page_of_pfn(Q_PFN(pfn)), &z))
                one(ctx, quire_page_of_pfn(Q_PFN(pfn)));
        }
    }
}

/* ---- objects with records ---- */

struct walk {
    qi_leak_one one;
    void (*pause)(void *ctx, size_t words);
    void *ctx;
};

static void walk_page(void *arg, struct quire_page *page)
{
    uintptr_t start = (uintptr_t)quire_page_ptr(page);
    struct walk *w = arg;
    unsigned i = 1, end;

    if (!(qi_load_relaxed(&page->flags) & QUIRE_PG_SLAB)) {
        w->pause(w->ctx, 1);
        return;
    }
    do {
        unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
        struct qi_slab *s = qi_leak_slab_at(start);

        end = s && s->page == page && qi_load_acquire(&s->track) ? s->n : 0;
        for (unsigned n = 0; n < BATCH && i <= end; n++, i++) {
            struct qi_found f = qi_leak_object(s, i);

            if (qi_load_acquire(&f.t->phase) == QI_TRACK_LIVE)
                w->one(w->ctx, &f);
        }
        qi_spin_unlock_irq(&qi_track_lock, irq);
        w->pause(w->ctx, BATCH);
    } while (i <= end);
}

void qi_leak_walk(qi_leak_one one, void (*pause)(void *ctx, size_t words), void *ctx)
{
    struct walk w = {one, pause, ctx};

    each_page(walk_page, &w);
}

/* ---- what is not known ---- */

struct unknown {
    void (*range)(void *ctx, uintptr_t from, uintptr_t to);
    bool (*is_known)(void *ctx, uintptr_t start);
    void *ctx;
};

/* The next object from number *i on that is out without a record; false: none. */
static bool next_unknown(struct quire_page *page, unsigned *i, struct qi_found *f)
{
    unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
    struct qi_slab *s = qi_leak_slab_at((uintptr_t)quire_page_ptr(page));
    bool got = false;

    for (; s && s->page == page && !got && *i <= s->n; ++*i) {
        *f = qi_leak_object(s, *i);
        got = qi_is_out(qi_peek(&s->state[*i])) &&
              !(f->t && qi_load_acquire(&f->t->phase) == QI_TRACK_LIVE);
    }
    qi_spin_unlock_irq(&qi_track_lock, irq);
    return got;
}

static bool run_starts(const struct quire_page *page)
{
    return qi_load_acquire(&page->flags) & QUIRE_PG_SLAB &&
           qi_leak_word((uintptr_t)&page->owner) == (uintptr_t)&qi_run_slab;
}

/* Bytes of the run that page is the first of; 0: of none.  It may come and go meanwhile: a size counts if a run starts
 * there before and after it was read. */
static uint64_t run_bytes(const struct quire_page *page)
{
    uint64_t bytes;

    if (!run_starts(page))
        return 0;
    bytes =
        qi_leak_word((uintptr_t)&page->next); /* as qi_page_make_run() wrote it, low half first */
    qi_fence_full();
    return run_starts(page) && bytes <= QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER ? bytes : 0;
}

static void unknown_page(void *arg, struct quire_page *page)
{
    uintptr_t start = (uintptr_t)quire_page_ptr(page);
    struct unknown *u = arg;
    struct qi_found f;
    unsigned i = 1;
    uint64_t run;

    if (!(qi_load_relaxed(&page->flags) & QUIRE_PG_SLAB))
        return;
    run = run_bytes(page);
    if (run) {
        if (!u->is_known(u->ctx, start))
            u->range(u->ctx, start, start + run);
        return;
    }
    while (next_unknown(page, &i, &f))
        u->range(u->ctx, f.start, f.start + f.bytes);
}

void qi_leak_walk_unknown(void (*range)(void *ctx, uintptr_t from, uintptr_t to),
                          bool (*is_known)(void *ctx, uintptr_t start), void *ctx)
{
    struct unknown u = {range, is_known, ctx};

    each_page(unknown_page, &u);
}

/* ---- frames of others ---- */

struct owners {
    void (*one)(void *ctx, uintptr_t owner);
    void *ctx;
};

static void owner_of_page(void *arg, struct quire_page *page)
{
    uintptr_t owner = qi_leak_word((uintptr_t)&page->owner);
    struct owners *o = arg;

    if (owner >= QUIRE_PAGE_SIZE && (uint32_t)qi_leak_word((uintptr_t)&page->counts) &&
        !(qi_load_relaxed(&page->flags) & QUIRE_PG_SLAB))
        o->one(o->ctx, owner);
}

void qi_leak_walk_owners(void (*one)(void *ctx, uintptr_t owner), void *ctx)
{
    struct owners o = {one, ctx};

    each_page(owner_of_page, &o);
}

#endif
