/*
 * migrate.c - user memory that moves from frame to frame while its owners work on.
 *
 * What is in a page, its rights, and what reaches the device must stay what the models say; so the
 * operations here compare little themselves.  They say which frames: those below a page that the worker
 * has in use, so that the mover meets what others do there, or whole pageblocks.
 */
#include "region.h"

static const uint64_t FRAMES = QUIRE_HUGE_SIZE / QUIRE_PAGE_SIZE;

/* New frames are taken from outside the range; those inside that are free are missing meanwhile. */
static bool room(uint64_t frames) { return quire_free_pages() >= world.low_mark + 2 * frames; }

static bool alone(const struct worker *w)
{
    return world.nworkers == 1 && !(w->program->switches.groups >> SIM_GROUP_FAILURES & 1);
}

/* Nobody else is there, and nothing can fail: what is left in the range belongs to somebody. */
static void must_be_empty(uint64_t first, uint64_t frames)
{
    for (uint64_t f = first; f < first + frames; f++) {
        const struct quire_page *page = quire_page_of_pfn(Q_PFN(f));
        uint32_t flags = quire_page_flags(Q_PFN(f));

        if (!(flags & (QUIRE_PG_ANON | QUIRE_PG_OBJECT)) || flags & QUIRE_PG_FREE)
            continue;
        if (page->refs == page->maps + (flags & QUIRE_PG_OBJECT ? 1 : 0))
            sim_fail("content", "frame %#llx, flags %#x refs %u maps %u, was left in its place",
                     (unsigned long long)f, flags, page->refs, page->maps);
    }
}

static void move(const struct worker *w, uint64_t first, uint64_t frames)
{
    uint64_t moved = quire_space_move_range(Q_PFN(first), frames);

    if (!alone(w) || !room(frames))
        return; /* others may put new pages where old ones were */
    if (moved > frames)
        sim_fail("status", "%llu frames moved out of a range of %llu", (unsigned long long)moved,
                 (unsigned long long)frames);
    must_be_empty(first, frames);
}

void move_blocks(struct worker *w, unsigned at, unsigned n)
{
    uint64_t blocks = sim_machine.memory / QUIRE_HUGE_SIZE, first = at % blocks;

    n = 1 + n % 2;
    if (n > blocks - first || !room(n * FRAMES))
        return;
    move(w, first * FRAMES, n * FRAMES);
}

/* The frame at page i of o's region, there after a look at it; false: none.  Nobody holds it: to hold a page of
 * several spaces for reading makes it one's own. */
static bool find_frame(const struct worker *w, const struct worker *o, unsigned i, uint64_t *pfn)
{
    q_uva at = Q_UVA(region_va(o, i));
    uint64_t word;
    char byte;
    size_t done;

    if (quire_space_read(w->now->s, at, &byte, 1, false, &done) != QUIRE_OK)
        return false;
    quire_space_pagemap(w->now->s, at, 1, &word);
    *pfn = word & ((1ull << 55) - 1);
    return word >> 63;
}

void move_page_of(struct worker *w, const struct worker *o)
{
    uint64_t pfn;

    if (room(FRAMES) && find_frame(w, o, o->last_page, &pfn))
        move(w, pfn, 1);
}

/* The frame of a page of ours, or of a page of a file that all work on. */
static bool choose_frame(struct worker *w, unsigned i, uint64_t *pfn)
{
    struct quire_page *page;

    if (worker_random(w) % 4)
        return find_frame(w, w, i, pfn);
    page = quire_object_peek(worker_random(w) & 1 ? world.common.o : w->file->o, i % OBJECT_PAGES);
    if (page) {
        *pfn = quire_pfn_of_page(page).v;
        quire_page_put(page);
    }
    return page;
}

void move_page(struct worker *w, unsigned i, unsigned n)
{
    const struct worker *o = worker_random(w) & 1 ? region_neighbour(w) : NULL;
    uint64_t pfn;

    if (o && w->now == &w->home)
        move_page_of(w, o);
    else if (room(FRAMES) && choose_frame(w, i, &pfn))
        move(w, pfn, 1 + n % 4); /* also up to three behind it */
}
