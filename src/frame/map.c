/*
 * frame/map.c - the ranges of the boot map that have struct pages, for all memory models.
 */
#include "map.h"

static bool next(const struct quire_memmap *m, uint32_t *i, enum quire_mem_kind least,
                 struct qi_map_range *out)
{
    for (; *i < m->n; ++*i) {
        const struct quire_mem_range *r = &m->ranges[*i];
        uint64_t start = r->base.v / QUIRE_PAGE_SIZE;
        uint64_t end = QI_MIN(start + r->len / QUIRE_PAGE_SIZE, QI_PFN_END);

        if (r->kind < least || r->kind > QUIRE_MEM_USABLE || start >= end)
            continue;
        *out = (struct qi_map_range){.from = qi_align_down(start, QI_BLOCK_FRAMES),
                                     .to = qi_align_up(end, QI_BLOCK_FRAMES),
                                     .node = r->node == QUIRE_NODE_ANY ? 0 : r->node};
        ++*i;
        return true;
    }
    return false;
}

bool qi_map_next(const struct quire_memmap *m, uint32_t *i, struct qi_map_range *out)
{
    _Static_assert(QUIRE_MEM_HOTPLUG < QUIRE_MEM_USABLE && !QUIRE_MEM_DEVICE,
                   "the kinds with pages come first");
    return next(m, i, QUIRE_MEM_USABLE, out);
}

bool qi_map_next_any(const struct quire_memmap *m, uint32_t *i, struct qi_map_range *out)
{
    return next(m, i, QUIRE_MEM_DEVICE, out);
}
