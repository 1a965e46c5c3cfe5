/*
 * frame/model_vmemmap.c - the memory model VMEMMAP: the port makes a virtual array of all frames.
 */
#include "map.h"

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP

enum quire_status qi_map_alloc(struct quire_memmap *m)
{
    (void)m;
    return QUIRE_OK;
}

enum quire_status qi_map_make(uint64_t from, uint64_t to, unsigned node)
{
    return qport_vmemmap_populate((uintptr_t)quire_page_of_pfn(Q_PFN(from)),
                                  (uintptr_t)quire_page_of_pfn(Q_PFN(to)), node);
}

enum quire_status qi_map_add(uint64_t from, uint64_t to, unsigned node)
{
    enum quire_status s = qi_map_make(from, to, node);

#ifdef QPORT_VMEMMAP_RELEASE
    if (s) /* some may be there */
        qi_map_forget(from, to);
#endif
    return s;
}

/* They are zeros when they are asked for again: the port's, or cleared here. */
void qi_map_forget(uint64_t from, uint64_t to)
{
#ifdef QPORT_VMEMMAP_RELEASE
    QPORT_VMEMMAP_RELEASE((uintptr_t)quire_page_of_pfn(Q_PFN(from)),
                          (uintptr_t)quire_page_of_pfn(Q_PFN(to)));
#else
    qi_map_clear(from, to);
#endif
}

#endif
