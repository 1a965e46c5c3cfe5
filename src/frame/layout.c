/*
 * frame/layout.c - which zone a frame belongs to.
 *
 * By its address: DMA below 16 MiB, DMA32 below 4 GiB, NORMAL, and HIGHMEM above what the direct map
 * reaches.  On top of that the caller may want a part of the memory for what can be moved, so that it
 * can always be made free again: whole nodes, or the upper end of the highest zone of each node,
 * like this with kernelcore = 1/2:
 *
 *     node 0   |DMA|  DMA32  |  NORMAL   :      MOVABLE     |
 *     node 1                 |     NORMAL       :      MOVABLE     |
 *
 * Memory in lower zones counts as the kernel's share first.  What a node is too small for the others
 * take over.  Borders are multiples of the largest block.
 *
 * Sources.  Linux, mm/mm_init.c: find_zone_movable_pfns_for_nodes(), and its documentation of
 * kernelcore= and movablecore= in Documentation/admin-guide/kernel-parameters.txt.
 */
#include "zone.h"

#define PFN_16M ((16ull << 20) / QUIRE_PAGE_SIZE)
#define PFN_4G  ((4ull << 30) / QUIRE_PAGE_SIZE)
#define REACH   (QUIRE_DIRECT_LIMIT ? QUIRE_DIRECT_LIMIT / QUIRE_PAGE_SIZE : UINT64_MAX)

static unsigned nodes;
static uint64_t movable_nodes;
/* The zone that MOVABLE is cut from, and for each node the frame from which on; UINT64_MAX: nowhere */
static unsigned cut_zone;
static uint64_t movable_from[QUIRE_MAX_NODES];

unsigned qi_layout_address(uint64_t pfn, uint64_t *end)
{
    *end = pfn < PFN_16M ? PFN_16M : REACH;
    if (pfn < PFN_16M)
        return QUIRE_ZONE_DMA;
    if (pfn >= REACH) {
        *end = UINT64_MAX;
        return QUIRE_ZONE_HIGHMEM;
    }
    if (QI_ZONE_BELOW_4G == QUIRE_ZONE_NORMAL || pfn >= PFN_4G)
        return QUIRE_ZONE_NORMAL;
    *end = PFN_4G;
    return QUIRE_ZONE_DMA32;
}

bool qi_layout_movable(unsigned node) { return movable_nodes >> node & 1; }

unsigned qi_layout_zone(unsigned node, uint64_t pfn, uint64_t *end)
{
    unsigned type = qi_layout_address(pfn, end);

    if (node >= nodes)
        return type;
    if (movable_nodes >> node & 1) {
        *end = UINT64_MAX;
        return QUIRE_ZONE_MOVABLE;
    }
    if (type != cut_zone || movable_from[node] == UINT64_MAX)
        return type;
    if (pfn >= movable_from[node])
        return QUIRE_ZONE_MOVABLE;
    *end = QI_MIN(*end, movable_from[node]);
    return type;
}

uint64_t qi_layout_limit(unsigned *node)
{
    uint64_t limit = QUIRE_DIRECT_LIMIT;

    for (unsigned i = 0; movable_nodes >> *node & 1 && i < nodes; i++)
        if (!(movable_nodes >> i & 1))
            *node = i;
    if (movable_from[*node] != UINT64_MAX &&
        (!limit || movable_from[*node] < limit / QUIRE_PAGE_SIZE))
        limit = movable_from[*node] * QUIRE_PAGE_SIZE;
    return limit;
}

/* ---- Shares of the nodes ---- */

static bool countable(const struct quire_mem_range *r)
{
    return r->kind == QUIRE_MEM_USABLE && !(movable_nodes >> r->node & 1);
}

/* The kernel's part of the node grows by up to that many frames; returns by how many. */
static uint64_t advance(const struct quire_memmap *m, unsigned node, uint64_t want)
{
    uint64_t got = 0;

    for (uint32_t i = 0; i < m->n && got < want; i++) {
        const struct quire_mem_range *r = &m->ranges[i];
        uint64_t start = r->base.v / QUIRE_PAGE_SIZE, end = start + r->len / QUIRE_PAGE_SIZE, n;

        start = QI_MAX(start, movable_from[node]);
        if (r->node != node || !countable(r) || start >= end)
            continue;
        n = QI_MIN(end - start, want - got);
        movable_from[node] = start + n;
        got += n;
    }
    return got;
}

/* Each node keeps an equal share of left frames for all requests, and of what other nodes have not. */
static void share(const struct quire_memmap *m, uint64_t left)
{
    uint64_t open = 0; /* nodes that may have more */

    for (unsigned node = 0; node < nodes; node++) {
        movable_from[node] = 0;
        open |= 1ull << node;
    }
    while (left && open) {
        uint64_t each = QI_MAX(left / qi_popcount(open), (uint64_t)1);

        for (unsigned node = 0; node < nodes && left; node++) {
            uint64_t want = QI_MIN(each, left), got;

            if (!(open >> node & 1))
                continue;
            got = advance(m, node, want);
            left -= got;
            if (got < want)
                open &= ~(1ull << node);
        }
    }
    for (unsigned node = 0; node < nodes; node++)
        movable_from[node] = qi_align_up(movable_from[node], 1ull << QUIRE_MAX_ORDER);
}

enum quire_status qi_layout_init(const struct quire_boot *b)
{
    uint64_t total = 0, all = 0, core = (b->kernelcore + QUIRE_PAGE_SIZE - 1) / QUIRE_PAGE_SIZE;
    uint64_t movable = b->movablecore / QUIRE_PAGE_SIZE, border;

    nodes = b->nodes;
    movable_nodes = b->movable_nodes;
    cut_zone = QUIRE_ZONE_DMA;
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++)
        movable_from[i] = UINT64_MAX;
    for (uint32_t i = 0; i < b->map->n; i++) {
        const struct quire_mem_range *r = &b->map->ranges[i];

        all += r->kind == QUIRE_MEM_USABLE ? r->len / QUIRE_PAGE_SIZE : 0;
        if (!countable(r))
            continue;
        total += r->len / QUIRE_PAGE_SIZE;
        cut_zone = QI_MAX(cut_zone,
                          qi_layout_address((r->base.v + (r->len - 1)) / QUIRE_PAGE_SIZE, &border));
    }
    if (movable_nodes >> (nodes - 1) > 1 || (all && !total) || (movable && movable >= total)) {
        qi_log(QUIRE_LOG_ERROR,
               "frames: movable nodes %#lx of %u, movablecore %lu KiB: %lu KiB for the kernel",
               (unsigned long)movable_nodes, nodes, (unsigned long)(b->movablecore >> 10),
               (unsigned long)(total * 4));
        return QUIRE_INVALID;
    }
    if (movable)
        core = QI_MAX(core, total - movable);
    if (core && core < total)
        share(b->map, core);
    return QUIRE_OK;
}
