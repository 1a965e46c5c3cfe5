/*
 * kva/kvmalloc.c - memory of any size: of the heap where that is cheap and there is a run, else a kernel
 * area.  For sizes that somebody else chooses.
 *
 * A change of size may lead from the heap to an area and back.  Areas are copied through the direct map,
 * frame by frame, which costs one walk for each 4 KiB.
 */
#include "kva.h"

#include "../base/check.h"
#include "../slab/large.h"

/* The heap is tried first up to here: beyond, a run is hard to come by and mapping costs little against
 * what is done with the bytes. */
#define HEAP_MAX (QUIRE_PAGE_SIZE << 3)

static bool in_area(const void *p) { return qi_window_has(QI_AREAS, (uintptr_t)p); }

/* Runs of pages are not fought for: there is another way. */
static quire_gfp heap_gfp(size_t size, quire_gfp gfp)
{
    return gfp | (size > QUIRE_PAGE_SIZE ? QUIRE_GFP_NORETRY : 0);
}

static void *alloc_for(size_t size, quire_gfp gfp, uintptr_t caller)
{
    void *p = NULL;

    if (size <= HEAP_MAX)
        p = qi_kmalloc_from(size, heap_gfp(size, gfp), caller);
    return p ? p : qi_vmalloc(size ? size : 1, gfp, caller);
}

static void *array_for(size_t n, size_t size, quire_gfp gfp, uintptr_t caller)
{
    uint64_t bytes;

    if (qi_mul_overflows(n, size, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return alloc_for(bytes, gfp, caller);
}

void *quire_kvmalloc(size_t size, quire_gfp gfp) { return alloc_for(size, gfp, QI_CALLER()); }

void *quire_kvzalloc(size_t size, quire_gfp gfp)
{
    return alloc_for(size, gfp | QUIRE_GFP_ZERO, QI_CALLER());
}

void *quire_kvmalloc_array(size_t n, size_t size, quire_gfp gfp)
{
    return array_for(n, size, gfp, QI_CALLER());
}

void *quire_kvcalloc(size_t n, size_t size, quire_gfp gfp)
{
    return array_for(n, size, gfp | QUIRE_GFP_ZERO, QI_CALLER());
}

size_t quire_kvsize(const void *p)
{
    return in_area(p)
               ? qi_area_get(QI_AREAS, (uintptr_t)p, QI_KVA_MEMORY, "kvsize", QI_CALLER())->bytes
               : quire_ksize(p);
}

/* Where the direct map has the byte that the kernel sees at p; *n is cut at the end of its page. */
static void *in_direct_map(const void *p, size_t *n)
{
    struct quire_translation t;

    if (!in_area(p))
        return (void *)(uintptr_t)p;
    quire_pt_translate(qi_kpt_root(), (uintptr_t)p, &t);
    *n = QI_MIN(*n, (size_t)(QUIRE_PAGE_SIZE - (uintptr_t)p % QUIRE_PAGE_SIZE));
    return quire_ptr_of_pa(t.pa);
}

static void copy(char *to, const char *from, size_t bytes)
{
    while (bytes) {
        size_t n = bytes;
        void *t = in_direct_map(to, &n);
        void *f = in_direct_map(from, &n);

        __builtin_memcpy(t, f, n);
        to += n;
        from += n;
        bytes -= n;
    }
}

static void clear(char *p, size_t bytes)
{
    while (bytes) {
        size_t n = bytes;
        void *at = in_direct_map(p, &n);

        __builtin_memset(at, 0, n);
        p += n;
        bytes -= n;
    }
}

void *quire_kvrealloc(void *p, size_t size, quire_gfp gfp)
{
    size_t have;
    void *fresh;

    if (!p)
        return quire_kvmalloc(size, gfp);
    if (!size) {
        quire_kvfree(p);
        return NULL;
    }
    have = quire_kvsize(p);
    if (size <= have && !in_area(p))
        return quire_krealloc(p, size, heap_gfp(size, gfp));
    if (size <= have && size > have / 2)
        return p;
    fresh = quire_kvmalloc(size, gfp & ~QUIRE_GFP_ZERO);
    if (!fresh)
        return size <= have ? p : NULL;
    copy(fresh, p, QI_MIN(size, have));
    if ((gfp & QUIRE_GFP_ZERO) && size > have)
        clear((char *)fresh + have, size - have);
    quire_kvfree(p);
    return fresh;
}

void quire_kvfree(void *p)
{
    if (in_area(p))
        qi_vfree(p, "kvfree", QI_CALLER());
    else
        quire_kfree(p);
}

void quire_kvfree_sensitive(void *p)
{
    if (!in_area(p)) {
        quire_kfree_sensitive(p);
        return;
    }
    clear(p, quire_kvsize(p));
    __asm__ volatile("" : : : "memory");
    quire_vfree(p);
}
