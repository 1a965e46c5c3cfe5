/*
 * frames.c - operations on frames.
 *
 * Whoever gets a frame fills its start and its end with a pattern of its own and looks at it when he
 * gives it back: another holder, or the library, that wrote into it meanwhile is found out.
 */
#include <stdlib.h>

#include "held.h"

/* A page is looked at at its start and its end. */
void frame_fill(struct quire_page *page, uint64_t pattern)
{
    char *at = quire_page_ptr(page);

    memory_fill(at, 32, pattern);
    memory_fill(at + PAGE - 32, 32, pattern + 100);
}

/* What it holds is nobody's any more. */
bool frame_is_bad(const struct quire_page *page)
{
    return quire_page_flags(quire_pfn_of_page(page)) & QUIRE_PG_POISON;
}

void frame_check(const struct quire_page *page, uint64_t pattern)
{
    const char *at = quire_page_ptr(page);

    if (frame_is_bad(page))
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
    h->pattern = memory_pattern(w);
    for (unsigned i = 0; i < 1u << order; i++)
        frame_fill(page + i, h->pattern + i);
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
    h->pattern = memory_pattern(w);
    for (size_t i = 0; i < got; i++) {
        check_place(h->p[i], gfp, 0);
        frame_fill(h->p[i], h->pattern + i);
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
    frame_check(h->p[0], h->pattern);
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
    h->pattern = memory_pattern(w);
    for (unsigned i = 0; i < n; i++) {
        h->p[i] = quire_page_of_pfn(Q_PFN(first.v + i));
        check_place(h->p[i], QUIRE_GFP_MOVABLE, 0);
        frame_fill(h->p[i], h->pattern + i);
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

void frame_give_block(struct held *h)
{
    struct quire_page *page = h->p[0];

    for (unsigned i = 0; i < 1u << h->n; i++)
        frame_check(page + i, h->pattern + i);
    if (h->refs == 1)
        quire_page_free(page, h->n);
    else
        for (unsigned i = 0; i < h->refs; i++)
            quire_page_put(page);
}

void frame_give_pages(struct held *h)
{
    for (unsigned i = 0; i < h->n; i++)
        frame_check(h->p[i], h->pattern + i);
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
    if (!frame_is_bad(page))
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

/* ---- Operations ---- */

/* Operations that fill a free slot. */
static bool do_frame_take(struct worker *w, const struct sim_op *op, struct held *h, bool free_slot)
{
    switch (op->kind) {
    case SIM_OP_frame_alloc:
        if (free_slot)
            frame_alloc(w, h, op->arg[1], memory_gfp(op->arg[2]));
        return true;
    case SIM_OP_frame_bulk:
        if (free_slot)
            frame_bulk(w, h, op->arg[1], memory_gfp(op->arg[2]));
        return true;
    case SIM_OP_frame_node:
        if (free_slot)
            frame_node(w, h, op->arg[1] % 5, op->arg[2]);
        return true;
    case SIM_OP_frame_colour:
        if (free_slot)
            frame_colour(w, h, op->arg[1], memory_gfp(op->arg[2]));
        return true;
    case SIM_OP_policy_alloc:
        if (free_slot)
            policy_alloc(w, h, op->arg[1] % 5, op->arg[2]);
        return true;
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
    default: return false;
    }
}

/* Operations on the frames that a slot holds. */
static bool do_frame_held(const struct sim_op *op, struct held *h)
{
    switch (op->kind) {
    case SIM_OP_frame_share:
        if (h->kind == HELD_FRAMES || h->kind == HELD_PAGES)
            frame_share(h);
        return true;
    case SIM_OP_frame_split: frame_split(h); return true;
    case SIM_OP_frame_poison: frame_poison(h, op->arg[1]); return true;
    case SIM_OP_frame_free:
        if (h->kind == HELD_FRAMES || h->kind == HELD_PAGES || h->kind == HELD_CMA)
            memory_give_back(h);
        return true;
    case SIM_OP_misuse_frame:
        if (h->kind == HELD_FRAMES) {
            struct held twice = *h;

            memory_give_back(h);
            frame_give_block(&twice);
        }
        return true;
    default: return false;
    }
}

bool do_frame_op(struct worker *w, const struct sim_op *op, struct held *h)
{
    bool free_slot = h->kind == HELD_NOTHING;

    switch (op->kind) {
    case SIM_OP_frame_zero: frame_zero(op->arg[0]); return true;
    case SIM_OP_frame_cold: frame_cold(w, h, free_slot); return true;
    case SIM_OP_frame_drain: frame_drain(op->arg[0]); return true;
    case SIM_OP_views: look_at_views(); return true;
    case SIM_OP_poison_any: poison_any(op->arg[0]); return true;
    case SIM_OP_soft_offline: soft_offline(op->arg[0]); return true;
    case SIM_OP_unpoison: unpoison(op->arg[0]); return true;
    case SIM_OP_tune: tune(w); return true;
    case SIM_OP_device_page: device_page(op->arg[0]); return true;
    case SIM_OP_device_plug: device_plug(op->arg[0]); return true;
    case SIM_OP_section_off: section_off(op->arg[0]); return true;
    case SIM_OP_section_on: section_on(op->arg[0]); return true;
    case SIM_OP_memory_add: memory_add(op->arg[0], op->arg[1]); return true;
    case SIM_OP_frames_ask: frames_ask(op->arg[0]); return true;
    case SIM_OP_memory_remove: memory_remove(op->arg[0]); return true;
    case SIM_OP_hog: hog(w); return true;
    case SIM_OP_unhog: memory_unhog(w); return true;
    default: return do_frame_held(op, h) || do_frame_take(w, op, h, free_slot);
    }
}
