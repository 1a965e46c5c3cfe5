/*
 * slab/derived.c - the rest of the kmalloc family, made of kmalloc, ksize and kfree: arrays, changes of
 * size, copies, and a free that leaves nothing behind.  Products of sizes are checked here.
 */
#include "slab.h"

/* ---- arrays ---- */

void *quire_kmalloc_array(size_t n, size_t size, quire_gfp gfp)
{
    uint64_t bytes;

    return qi_mul_overflows(n, size, &bytes) || bytes > SIZE_MAX ? NULL : quire_kmalloc(bytes, gfp);
}

void *quire_kcalloc(size_t n, size_t size, quire_gfp gfp)
{
    return quire_kmalloc_array(n, size, gfp | QUIRE_GFP_ZERO);
}

/* ---- changes of size ---- */

void *quire_krealloc(void *p, size_t size, quire_gfp gfp)
{
    size_t have;
    void *fresh;

    if (!p)
        return quire_kmalloc(size, gfp);
    if (!size) {
        quire_kfree(p);
        return NULL;
    }
    have = quire_ksize(p);
    /* stay unless half or more would lie idle */
    if (size <= have && (size > have / 2 || have <= 64)) {
        qi_guard_shrink(p, size);
        return p;
    }
    fresh = quire_kmalloc(size, gfp & ~QUIRE_GFP_ZERO);
    if (!fresh)
        return size <= have ? p : NULL;
    __builtin_memcpy(fresh, p, QI_MIN(size, have));
    if ((gfp & QUIRE_GFP_ZERO) && size > have)
        __builtin_memset((char *)fresh + have, 0, size - have);
    quire_kfree(p);
    return fresh;
}

void *quire_krealloc_array(void *p, size_t n, size_t size, quire_gfp gfp)
{
    uint64_t bytes;

    return qi_mul_overflows(n, size, &bytes) || bytes > SIZE_MAX ? NULL
                                                                 : quire_krealloc(p, bytes, gfp);
}

void quire_kfree_sensitive(void *p)
{
    if (!p)
        return;
    __builtin_memset(p, 0, quire_ksize(p));
    /* an asm that may read p's memory: without it the stores are dead, as far as a compiler that
     * sees through kfree is concerned */
    __asm__ volatile("" : : "r"(p) : "memory");
    quire_kfree(p);
}

/* ---- copies ---- */

void *quire_kmemdup(const void *from, size_t n, quire_gfp gfp)
{
    void *p = quire_kmalloc(n, gfp & ~QUIRE_GFP_ZERO);

    if (p)
        __builtin_memcpy(p, from, n);
    return p;
}

char *quire_kstrndup(const char *from, size_t max, quire_gfp gfp)
{
    size_t n = 0;
    char *p;

    if (!from)
        return NULL;
    while (n < max && from[n])
        n++;
    p = quire_kmalloc(n + 1, gfp & ~QUIRE_GFP_ZERO);
    if (!p)
        return NULL;
    __builtin_memcpy(p, from, n);
    p[n] = 0;
    return p;
}

char *quire_kstrdup(const char *from, quire_gfp gfp)
{
    return quire_kstrndup(from, SIZE_MAX - 1, gfp);
}
