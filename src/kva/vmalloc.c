/*
 * kva/vmalloc.c - memory from scattered frames, and mappings of frames that are not ours.
 */
#include "kva.h"

#include "../base/check.h"
#include "../slab/large.h"

static void *vmalloc_once(const struct qi_want *want, quire_gfp gfp)
{
    struct qi_area *a = qi_area_make(QI_AREAS, want);

    if (QI_UNLIKELY(!a))
        return NULL;
    if (QI_UNLIKELY(!qi_area_populate(a, gfp, want->node))) {
        qi_area_retire(a);
        return NULL;
    }
    qi_area_publish(QI_AREAS, a);
    return (void *)(uintptr_t)a->start;
}

static void *vmalloc_again(const struct qi_want *want, quire_gfp gfp, uint64_t since)
{
    void *p = NULL;

    /* frames that wait for a flush may be all that is missing; what the failed try took goes too */
    if (qi_purge_helps(since)) {
        p = vmalloc_once(want, gfp);
        if (!p)
            quire_kva_purge();
    }
    return p;
}

static QI_ALWAYS_INLINE void *vmalloc_for(size_t size, size_t align, quire_gfp gfp, unsigned node,
                                          uintptr_t caller)
{
    struct qi_want want = {.caller = caller, .node = node, .kind = QI_KVA_MEMORY};
    uint64_t since = qi_purge_rounds();
    void *p;

    if (!qi_whole_pages(size, &want.bytes) || !qi_is_pow2(align))
        return NULL;
    want.align = want.bytes >= QUIRE_HUGE_SIZE ? QUIRE_HUGE_SIZE : QUIRE_PAGE_SIZE;
    want.align = QI_MAX(want.align, (uint64_t)align);
    p = vmalloc_once(&want, gfp);
    if (QI_UNLIKELY(!p))
        p = vmalloc_again(&want, gfp, since);
    if (QI_LIKELY(p != NULL))
        qi_track_large_alloc(p, size, caller);
    return p;
}

void *quire_vmalloc_aligned(size_t size, size_t align, quire_gfp gfp)
{
    return vmalloc_for(size, align, gfp, QUIRE_NODE_ANY, QI_CALLER());
}

void *quire_vmalloc(size_t size, quire_gfp gfp)
{
    return vmalloc_for(size, QUIRE_PAGE_SIZE, gfp, QUIRE_NODE_ANY, QI_CALLER());
}

void *quire_vmalloc_node(size_t size, quire_gfp gfp, unsigned node)
{
    return vmalloc_for(size, QUIRE_PAGE_SIZE, gfp, node, QI_CALLER());
}

void *quire_vzalloc(size_t size, quire_gfp gfp)
{
    return vmalloc_for(size, QUIRE_PAGE_SIZE, gfp | QUIRE_GFP_ZERO, QUIRE_NODE_ANY, QI_CALLER());
}

void *qi_vmalloc(size_t size, quire_gfp gfp, uintptr_t caller)
{
    return vmalloc_for(size, QUIRE_PAGE_SIZE, gfp, QUIRE_NODE_ANY, caller);
}

void qi_vfree(void *p, const char *who, uintptr_t caller)
{
    struct qi_area *a = qi_area_take(QI_AREAS, (uintptr_t)p, QI_KVA_MEMORY, who, caller);

    qi_track_large_free(p);
    qi_area_retire(a);
}

void quire_vfree(void *p)
{
    if (p)
        qi_vfree(p, "vfree", QI_CALLER());
}

/* ---- frames of others ---- */

enum quire_status quire_vmap(struct quire_page *const *pages, size_t n, unsigned prot, q_kva *out)
{
    struct qi_want want = {.align = QUIRE_PAGE_SIZE,
                           .caller = QI_CALLER(),
                           .node = QUIRE_NODE_ANY,
                           .kind = QI_KVA_MAPPED};
    struct qi_area *a;
    enum quire_status s;

    if (!n || qi_mul_overflows(n, QUIRE_PAGE_SIZE, &want.bytes))
        return QUIRE_INVALID;
    a = qi_area_make(QI_AREAS, &want);
    if (!a)
        return QUIRE_NO_MEMORY;
    s = qi_area_map(a, pages, prot);
    if (s != QUIRE_OK) {
        qi_area_destroy(a);
        return s;
    }
    qi_area_publish(QI_AREAS, a);
    *out = Q_KVA(a->start);
    return QUIRE_OK;
}

void quire_vunmap(q_kva at)
{
    qi_area_destroy(qi_area_take(QI_AREAS, at.v, QI_KVA_MAPPED, "vunmap", QI_CALLER()));
}
