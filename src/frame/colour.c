/*
 * frame/colour.c - frames by their place in a cache.
 *
 * Purpose.  Whoever fills pages that are used together can have frames that do not meet in a large cache indexed
 * by physical address (quire/colour.h has the arithmetic).
 *
 * Model.  A colour needs no list of its own: which frames of a pageblock have it follows from the
 * pageblock's number, and whether one of them is free is a bit.  So a request looks through the blocks of its type
 * in the order of part lists, the fullest of those with the smallest runs first, at most LOOKS of them; then it
 * breaks a whole block, or with more colours than a block has frames, one of TRIES.  What it finds goes out
 * as from the zone, past the CPU's lists, which know no colours.
 *
 * Cost.  The zone's lock, and at most LOOKS cache lines of bitmaps; nothing at all for other requests.
 * A colour is a wish: whoever finds none within these bounds gets any frame.
 *
 * Rejected.  Lists by colour (Solaris' page_freelists, FreeBSD's PQ_L2 before 7.0): links in the pages, and blocks
 * of 2 MiB that come together on none of them.  Colours in the CPUs' lists: every free would compute one.
 *
 * Sources.  Taylor, Davies, Farmwald, "The TLB slice", ISCA 1990; Kessler and Hill, "Page Placement Algorithms for
 * Large Real-Indexed Caches", TOCS 1992.
 */
#include <quire/colour.h>
#include "zone.h"

#define LOOKS 64u
#define TRIES 16u

uint32_t quire_colours = 1;
static uint64_t exact_n, other_n; /* atomic */

/* ---- Arithmetic ---- */

unsigned quire_cache_colours(const struct quire_cpu_cache *c)
{
    uint64_t n = (uint64_t)c->line * c->sets / QUIRE_PAGE_SIZE;

    return (unsigned)QI_MAX(QI_MIN(n, (uint64_t)QUIRE_MAX_COLOURS), (uint64_t)1);
}

unsigned quire_caches_colours(const struct quire_cpu_cache *caches, unsigned n)
{
    const struct quire_cpu_cache *last = NULL;

    for (unsigned i = 0; i < n; i++)
        if (caches[i].kind & QUIRE_CACHE_DATA && (!last || caches[i].level > last->level))
            last = &caches[i];
    return last ? quire_cache_colours(last) : 1;
}

enum quire_status quire_frame_set_colours(unsigned n)
{
    if (n < 1 || n > QUIRE_MAX_COLOURS)
        return QUIRE_INVALID;
    qi_store_relaxed(&quire_colours, n);
    return QUIRE_OK;
}

unsigned quire_page_colour(const struct quire_page *page)
{
    return (unsigned)(quire_pfn_of_page(page).v % qi_load_relaxed(&quire_colours));
}

/* The first frame at or above pfn that has the colour. */
static uint64_t next_of(uint64_t pfn, unsigned colour, unsigned n)
{
    unsigned at = (unsigned)(pfn % n);

    return pfn + (at <= colour ? colour - at : n - at + colour);
}

/* ---- Search; the zone is locked ---- */

/* A free frame of a block under the bitmap; 0: none. */
static uint64_t find_in_block(const struct qi_zone *z, uint32_t i, unsigned colour, unsigned n)
{
    uint64_t base = qi_block_pfn(z, i);

    for (uint64_t f = next_of(base, colour, n) - base; f < QI_BLOCK_FRAMES; f += n)
        if (z->bits[i][f / 64] >> f % 64 & 1)
            return base + f;
    return 0;
}

static uint64_t find_in_parts(const struct qi_zone *z, unsigned type, unsigned colour, unsigned n)
{
    unsigned looks = LOOKS;

    for (uint64_t lists = z->part_mask[type]; lists; lists &= lists - 1)
        for (uint32_t i = z->part[type][qi_lowest_bit(lists)]; i != QI_NONE;
             i = z->blocks[i].next) {
            uint64_t pfn;

            if (!looks--)
                return 0;
            pfn = find_in_block(z, i, colour, n);
            if (pfn)
                return pfn;
        }
    return 0;
}

/* An allocated pageblock comes under the bitmap, all of it free but one frame. */
static void break_up(struct qi_zone *z, uint64_t base, uint64_t pfn)
{
    struct quire_page *head = quire_page_of_pfn(Q_PFN(base));

    qi_zone_shatter(z, base, QI_BLOCK_ORDER);
    qi_pages_loose_free(z, head, QI_BLOCK_ORDER);
    for (uint64_t at = base; at < base + QI_BLOCK_FRAMES; at += 64)
        qi_zone_give_mask(z, at, ~(pfn - at < 64 ? 1ull << (pfn - at) : 0));
}

/* A frame of a block that was whole; 0: none of those tried has the colour. */
static uint64_t find_in_whole(struct qi_zone *z, unsigned type, unsigned colour, unsigned n)
{
    uint64_t tried[TRIES], pfn = 0, base = 0;
    unsigned k = 0;

    while (!pfn && k < TRIES) {
        struct quire_page *p = qi_zone_take(z, type, QI_BLOCK_ORDER);

        if (!p)
            break;
        base = quire_pfn_of_page(p).v;
        pfn = next_of(base, colour, n);
        if (pfn - base >= QI_BLOCK_FRAMES) {
            pfn = 0;
            tried[k++] = base;
        }
    }
    while (k > 0)
        qi_zone_give(z, tried[--k], QI_BLOCK_ORDER);
    if (pfn)
        break_up(z, base, pfn);
    return pfn;
}

static struct quire_page *take(struct qi_zone *z, unsigned type, unsigned colour, unsigned n)
{
    struct quire_page *p = NULL;
    uint64_t pfn;

    qi_zone_lock(z);
    pfn = find_in_parts(z, type, colour, n);
    if (pfn && !qi_zone_take_frame(z, pfn))
        pfn = 0;
    if (!pfn)
        pfn = find_in_whole(z, type, colour, n);
    if (pfn) {
        p = quire_page_of_pfn(Q_PFN(pfn));
        z->allocs++;
    }
    qi_zone_unlock(z);
    return p;
}

/* ---- Requests ---- */

/* From the zones of this node alone.  Interrupts off. */
static struct quire_page *take_from_node(unsigned colour, unsigned n, quire_gfp gfp, unsigned node)
{
    unsigned class = qi_gfp_class(gfp), type = qi_gfp_type(gfp);
    struct qi_zone *z;

    for (const uint16_t *l = qi_zonelists[node][class]; (z = qi_zone_listed(l)); l++) {
        struct quire_page *p;

        if (z->node != node || !qi_zone_spare(z, class, gfp, QI_MARK_LOW))
            continue;
        p = take(z, type, colour, n);
        if (!p)
            continue;
        qi_zone_taken(z);
        if (!qi_page_unfit(p)) {
            qi_page_hand_out(p, qi_flags_at(p, z->place | type << QI_PG_TYPE_SHIFT));
            return p;
        }
        qi_pages_sift(p, 0);
    }
    return NULL;
}

struct quire_page *quire_page_alloc_colour(unsigned colour, quire_gfp gfp, unsigned node)
{
    unsigned n = qi_load_relaxed(&quire_colours);
    struct quire_page *p = NULL;
    unsigned long irq;

    QI_CHECK(node == QUIRE_NODE_ANY || node < qi_nnodes, "frames: allocation from node %u of %u",
             node, qi_nnodes);
    if (n > 1 && !quire_frame_fail_armed()) {
        irq = qport_irq_save();
        p = take_from_node(colour % n, n, gfp,
                           node == QUIRE_NODE_ANY ? qi_cpu_nodes[qport_cpu()] : node);
        qport_irq_restore(irq);
        qi_fetch_add_relaxed(p ? &exact_n : &other_n, (uint64_t)1);
    }
    if (!p)
        return quire_page_alloc(0, gfp, node);
    if (gfp & QUIRE_GFP_ZERO)
        quire_page_clear(p);
    return p;
}

struct quire_page *quire_page_alloc_round(struct quire_colouring *c, quire_gfp gfp, unsigned node)
{
    return quire_page_alloc_colour(qi_fetch_add_relaxed(&c->next, 1u), gfp, node);
}

void quire_colour_stats(struct quire_colour_stats *out)
{
    out->exact = qi_load_relaxed(&exact_n);
    out->other = qi_load_relaxed(&other_n);
}
