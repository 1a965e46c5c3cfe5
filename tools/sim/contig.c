/*
 * contig.c - very ranges of frames, and a contiguous memory area, while others allocate, free and use
 * memory that has to be moved away for it.
 *
 * What was taken is held like any other frames, with a pattern that must be there at the end: nobody else
 * may have it meanwhile.  What was moved away is user memory, whose models know each word.  Frames of the
 * area come to movable users only.
 */
#include <quire/cma.h>

#include "world.h"

enum { AREA_BLOCKS = 2, AT_A_TIME = 2 };

static const uint64_t FRAMES = QUIRE_HUGE_SIZE / QUIRE_PAGE_SIZE;

static struct quire_cma *area;
static unsigned calls; /* going on now */

void contig_setup(const struct sim_program *p)
{
    const struct quire_cma_config c = {.name = "sim",
                                       .size = AREA_BLOCKS * QUIRE_HUGE_SIZE,
                                       .node = QUIRE_NODE_ANY,
                                       .order_per_bit = p->seed >> 2 & 3};

    area = NULL;
    calls = 0;
    quire_frame_set_mover(quire_space_move_range);
    if (p->seed & 1 && sim_machine.memory >= 64ull << 20 && quire_cma_create(&c, &area) != QUIRE_OK)
        sim_fail("boot", "no contiguous memory area of %u blocks", AREA_BLOCKS);
}

uint64_t contig_area_frames(void) { return area ? AREA_BLOCKS * FRAMES : 0; }

void contig_check(const struct quire_page *page, unsigned order, quire_gfp gfp)
{
    if (area && !(gfp & QUIRE_GFP_MOVABLE) && quire_cma_contains(area, page))
        sim_fail("content", "frame %#llx order %u is of the area and was given for flags %#x",
                 (unsigned long long)quire_pfn_of_page(page).v, order, gfp);
}

/* That the machine does not run short while blocks are isolated is for others to see to. */
static bool begin(void)
{
    sim_look_begin();
    if (calls >= AT_A_TIME || quire_free_pages() < world.low_mark + 2 * AT_A_TIME * FRAMES) {
        sim_look_end();
        return false;
    }
    sim_look_end();
    calls++;
    return true;
}

void contig_take(struct worker *w, struct held *h, unsigned at, unsigned n)
{
    uint64_t frames = sim_machine.memory / QUIRE_PAGE_SIZE - n;
    q_pfn first = Q_PFN((at * 7919ull + w->version) % frames);
    enum quire_status st;

    if (!begin())
        return;
    st = quire_alloc_contig_range(first, n, at & 1 ? QUIRE_GFP_ZERO : 0, QUIRE_MOVABLE);
    calls--;
    if (st == QUIRE_OK)
        memory_hold_range(w, h, first, n, HELD_PAGES);
    else if (st != QUIRE_BUSY && st != QUIRE_INVALID)
        sim_fail("status", "range of %u frames at %#llx: %s", n, (unsigned long long)first.v,
                 quire_status_name(st));
}

void contig_find(struct worker *w, struct held *h, unsigned n)
{
    struct quire_page *page;

    if (!begin())
        return;
    page = quire_alloc_contig_pages(n, n & 7 ? 1 : 8, 0, QUIRE_NODE_ANY);
    calls--;
    if (page)
        memory_hold_range(w, h, quire_pfn_of_page(page), n, HELD_PAGES);
}

void cma_take(struct worker *w, struct held *h, unsigned n, unsigned align_order)
{
    struct quire_page *page;

    if (!area || !begin())
        return;
    page = quire_cma_alloc(area, n, align_order, n & 1 ? QUIRE_GFP_ZERO : 0);
    calls--;
    if (!page)
        return;
    if (quire_pfn_of_page(page).v & ((1u << align_order) - 1))
        sim_fail("content", "frame %#llx is not aligned to order %u",
                 (unsigned long long)quire_pfn_of_page(page).v, align_order);
    memory_hold_range(w, h, quire_pfn_of_page(page), n, HELD_CMA);
}

void cma_give(struct quire_page *page, unsigned n) { quire_cma_release(area, page, n); }

void contig_verify(void)
{
    if (area && quire_cma_verify(area) != QUIRE_OK)
        sim_fail("verify", "the contiguous memory area");
}
