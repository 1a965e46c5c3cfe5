/*
 * frame/model_flat.c - the memory model FLAT: one array of struct pages from the first frame to the last.
 *
 * Holes between have pages too, at 8 MiB for each GiB, and so has what may come later; a machine with much
 * of either takes another model.  So a device's memory has pages if it lies in a hole, or was announced
 * (QUIRE_MEM_DEVICE), and need not hold them.
 */
#include "map.h"

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_FLAT

uintptr_t quire_flat_map;
static uint64_t first, end; /* frames that it has pages for */

enum quire_status qi_map_alloc(struct quire_memmap *m)
{
    uint64_t lo = UINT64_MAX, hi = 0;
    struct qi_map_range r;
    enum quire_status s;
    void *at;

    for (uint32_t i = 0; qi_map_next_any(m, &i, &r);) {
        lo = QI_MIN(lo, r.from);
        hi = r.to;
    }
    s = qi_boot_alloc(m, (hi - lo) * sizeof(struct quire_page), 0, "struct pages", &at);
    if (s)
        return s;
    quire_flat_map = (uintptr_t)at - lo * sizeof(struct quire_page);
    first = lo;
    end = hi;
    return QUIRE_OK;
}

enum quire_status qi_map_make(uint64_t from, uint64_t to, unsigned node)
{
    (void)node;
    qi_map_clear(from, to);
    return QUIRE_OK;
}

enum quire_status qi_map_add(uint64_t from, uint64_t to, unsigned node)
{
    if (from < first || to > end)
        return qi_map_refuse(from, to, "beyond the array of boot (QUIRE_MEM_DEVICE announces it)");
    return qi_map_make(from, to, node);
}

void qi_map_forget(uint64_t from, uint64_t to) { (void)from, (void)to; }

enum quire_status qi_map_place(uint64_t from, uint64_t to)
{
    return qi_map_refuse(from, to, "they all lie in one array, in memory of boot");
}

void qi_map_displace(uint64_t from, uint64_t to) { (void)from, (void)to; }

#endif
