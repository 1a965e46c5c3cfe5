/*
 * kva/vmalloc.c - memory from scattered frames, and mappings of frames that are not ours.
 */
#include "kva.h"

#include "../base/check.h"

/* bytes rounded up to pages; false: 0, or too large to round. */
static bool whole_pages(uint64_t bytes, uint64_t *out)
{
    if (!bytes || qi_add_overflows(bytes, QUIRE_PAGE_SIZE - 1, out))
        return false;
    *out &= QUIRE_PAGE_MASK;
    return true;
}

static void *vmalloc_once(uint64_t bytes, uint64_t align, quire_gfp gfp)
{
    struct qi_area *a = qi_area_make(QI_AREAS, bytes, align, 0, QI_KVA_MEMORY);

    if (!a)
        return NULL;
    if (!qi_area_populate(a, gfp)) {
        qi_area_retire(QI_AREAS, a);
        return NULL;
    }
    qi_area_publish(QI_AREAS, a);
    return (void *)(uintptr_t)a->start;
}

void *quire_vmalloc_aligned(size_t size, size_t align, quire_gfp gfp)
{
    uint64_t bytes;
    void *p;

    if (!whole_pages(size, &bytes) || !qi_is_pow2(align))
        return NULL;
    align = QI_MAX(align, (size_t)(bytes >= QUIRE_HUGE_SIZE ? QUIRE_HUGE_SIZE : QUIRE_PAGE_SIZE));
    p = vmalloc_once(bytes, align, gfp);
    /* frames that wait for a flush may be all that is missing; what the failed try took goes too */
    if (QI_UNLIKELY(!p) && quire_kva_purge()) {
        p = vmalloc_once(bytes, align, gfp);
        if (!p)
            quire_kva_purge();
    }
    return p;
}

void *quire_vmalloc(size_t size, quire_gfp gfp)
{
    return quire_vmalloc_aligned(size, QUIRE_PAGE_SIZE, gfp);
}

void *quire_vzalloc(size_t size, quire_gfp gfp)
{
    return quire_vmalloc_aligned(size, QUIRE_PAGE_SIZE, gfp | QUIRE_GFP_ZERO);
}

void quire_vfree(void *p)
{
    if (p)
        qi_area_retire(QI_AREAS, qi_area_get(QI_AREAS, (uintptr_t)p, QI_KVA_MEMORY, "vfree"));
}

enum quire_status quire_vmap(struct quire_page *const *pages, size_t n, unsigned prot, q_kva *out)
{
    struct qi_area *a;
    enum quire_status s;
    uint64_t bytes;

    if (!n || qi_mul_overflows(n, QUIRE_PAGE_SIZE, &bytes))
        return QUIRE_INVALID;
    a = qi_area_make(QI_AREAS, bytes, QUIRE_PAGE_SIZE, 0, QI_KVA_MAPPED);
    if (!a)
        return QUIRE_NO_MEMORY;
    s = qi_kpt_map_pages(Q_KVA(a->start), pages, n, prot);
    if (s != QUIRE_OK) {
        qi_area_destroy(QI_AREAS, a);
        return s;
    }
    qi_area_publish(QI_AREAS, a);
    *out = Q_KVA(a->start);
    return QUIRE_OK;
}

void quire_vunmap(q_kva at)
{
    qi_area_destroy(QI_AREAS, qi_area_get(QI_AREAS, at.v, QI_KVA_MAPPED, "vunmap"));
}

enum quire_status quire_ioremap(q_pa pa, uint64_t len, enum quire_cache_type cache, q_kva *out)
{
    uint64_t offset = pa.v & ~QUIRE_PAGE_MASK, from = pa.v - offset, bytes, align;
    struct qi_area *a;
    enum quire_status s;

    if (!len || qi_add_overflows(len, offset, &bytes) || !whole_pages(bytes, &bytes) ||
        from + bytes < from)
        return QUIRE_INVALID;
    /* congruent to the physical address modulo 2 MiB, so that large leaves can serve */
    align = bytes >= QUIRE_HUGE_SIZE ? QUIRE_HUGE_SIZE : QUIRE_PAGE_SIZE;
    a = qi_area_make(QI_DEVICES, bytes, align, from & (align - 1), QI_KVA_DEVICE);
    if (!a)
        return QUIRE_NO_MEMORY;
    s = qi_kpt_map(Q_KVA(a->start), quire_pfn_of_pa(Q_PA(from)), bytes >> QUIRE_PAGE_SHIFT,
                   QUIRE_READ | QUIRE_WRITE, cache, QUIRE_HUGE_SHIFT);
    if (s != QUIRE_OK) {
        qi_area_destroy(QI_DEVICES, a);
        return s;
    }
    qi_area_publish(QI_DEVICES, a);
    *out = Q_KVA(a->start + offset);
    return QUIRE_OK;
}

void quire_iounmap(q_kva at)
{
    qi_area_destroy(QI_DEVICES,
                    qi_area_get(QI_DEVICES, at.v & QUIRE_PAGE_MASK, QI_KVA_DEVICE, "iounmap"));
}
