/*
 * slab/derived.c - the rest of the kmalloc family, made of kmalloc, ksize and kfree: arrays, changes of
 * size, copies, and a free that leaves nothing behind.  Products of sizes are checked here.  What is allocated and freed here counts as
 * the caller's.
 */
#include "track.h"

/* ---- arrays ---- */

static void *array(size_t n, size_t size, quire_gfp gfp, uintptr_t caller)
{
    uint64_t bytes;

    if (qi_mul_overflows(n, size, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return qi_kmalloc_from(bytes, gfp, caller);
}

void *quire_kmalloc_array(size_t n, size_t size, quire_gfp gfp)
{
    return array(n, size, gfp, QI_CALLER());
}

void *quire_kcalloc(size_t n, size_t size, quire_gfp gfp)
{
    return array(n, size, gfp | QUIRE_GFP_ZERO, QI_CALLER());
}

/* ---- changes of size ---- */

static void *resize(void *p, size_t size, quire_gfp gfp, uintptr_t caller)
{
    size_t have;
    void *fresh;

    if (!p)
        return qi_kmalloc_from(size, gfp, caller);
    if (!size) {
        qi_kfree_from(p, caller);
        return NULL;
    }
    have = quire_ksize(p);
    /* stay unless half or more would lie idle */
    if (size <= have && (size > have / 2 || have <= 64)) {
        qi_guard_shrink(p, size);
        qi_track_resize(p, size);
        return p;
    }
    fresh = qi_kmalloc_from(size, gfp & ~QUIRE_GFP_ZERO, caller);
    if (!fresh)
        return size <= have ? p : NULL;
    __builtin_memcpy(fresh, p, QI_MIN(size, have));
    if ((gfp & QUIRE_GFP_ZERO) && size > have)
        __builtin_memset((char *)fresh + have, 0, size - have);
    qi_kfree_from(p, caller);
    return fresh;
}

void *quire_krealloc(void *p, size_t size, quire_gfp gfp)
{
    return resize(p, size, gfp, QI_CALLER());
}

void *quire_krealloc_array(void *p, size_t n, size_t size, quire_gfp gfp)
{
    uint64_t bytes;

    if (qi_mul_overflows(n, size, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return resize(p, bytes, gfp, QI_CALLER());
}

void quire_kfree_sensitive(void *p)
{
    if (!p)
        return;
    __builtin_memset(p, 0, quire_ksize(p));
    /* an asm that may read p's memory: without it the stores are dead, as far as a compiler that
     * sees through kfree is concerned */
    __asm__ volatile("" : : "r"(p) : "memory");
    qi_kfree_from(p, QI_CALLER());
}

/* ---- copies ---- */

void *quire_kmemdup(const void *from, size_t n, quire_gfp gfp)
{
    void *p = qi_kmalloc_from(n, gfp & ~QUIRE_GFP_ZERO, QI_CALLER());

    if (p && n) /* of 0 bytes at NULL there is a copy too */
        __builtin_memcpy(p, from, n);
    return p;
}

static char *copy_string(const char *from, size_t max, quire_gfp gfp, uintptr_t caller)
{
    size_t n = 0;
    char *p;

    if (!from)
        return NULL;
    while (n < max && from[n])
        n++;
    p = qi_kmalloc_from(n + 1, gfp & ~QUIRE_GFP_ZERO, caller);
    if (!p)
        return NULL;
    __builtin_memcpy(p, from, n);
    p[n] = 0;
    return p;
}

char *quire_kstrndup(const char *from, size_t max, quire_gfp gfp)
{
    return copy_string(from, max, gfp, QI_CALLER());
}

char *quire_kstrdup(const char *from, quire_gfp gfp)
{
    return copy_string(from, SIZE_MAX - 1, gfp, QI_CALLER());
}
