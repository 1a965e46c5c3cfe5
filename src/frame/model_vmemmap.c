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

#ifdef QPORT_VMEMMAP_PLACE

enum quire_status qi_map_place(uint64_t from, uint64_t to)
{
    enum quire_status s =
        QPORT_VMEMMAP_PLACE((uintptr_t)quire_page_of_pfn(Q_PFN(from)),
                            (uintptr_t)quire_page_of_pfn(Q_PFN(to)), quire_pa_of_pfn(Q_PFN(from)));

    if (s == QUIRE_EXISTS)
        return qi_map_refuse(from, to, "part of the array is backed already");
    if (!s)
        qi_map_clear(from, to);
    return s;
}

void qi_map_displace(uint64_t from, uint64_t to)
{
    QPORT_VMEMMAP_DISPLACE((uintptr_t)quire_page_of_pfn(Q_PFN(from)),
                           (uintptr_t)quire_page_of_pfn(Q_PFN(to)));
}

#else

enum quire_status qi_map_place(uint64_t from, uint64_t to)
{
    return qi_map_refuse(from, to, "the port has no QPORT_VMEMMAP_PLACE");
}

void qi_map_displace(uint64_t from, uint64_t to) { (void)from, (void)to; }

#endif

#endif
