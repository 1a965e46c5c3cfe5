/*
 * ports/malloc/malloc.c - the C library's allocation functions, over quire_kmalloc().
 *
 * The contracts are those of malloc(3), posix_memalign(3), malloc_usable_size(3), mallinfo(3) and malloc_trim(3) as
 * glibc keeps them: sizes above PTRDIFF_MAX fail, realloc(p, 0) frees, memory of 16 bytes and more is
 * aligned to 16.  What is misused (a double free, a pointer that is nobody's) ends the process with a line
 * on standard error that says what.
 *
 * malloc() and free() are the fast part of the library's functions, which a thread without a slot never gets
 * through (slot 0 has no sheaves); everything else is out of line.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <quire/port.h>

#include "process.h"

#define RUN_MOST (QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER)
#define ZERO     1u
/* Tables that calloc() makes once for all are larger. */
#define ZEROED_RUN_MOST (1ull << 20)
/* The library's fast path becomes a part of it; what is rare there is out of line. */
#define MALLOC_HOT MALLOC_PUBLIC __attribute__((flatten))

static __attribute__((noinline)) void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* Pages of a run that are beyond what was asked for. */
static void spare(char *p, size_t size)
{
    size_t used = (size + QUIRE_PAGE_SIZE - 1) & ~(size_t)(QUIRE_PAGE_SIZE - 1);
    size_t have = quire_ksize(p);

    if (have > used)
        malloc_pages_spare(p + used, have - used);
}

/* The thread has a slot. */
static void *allocate(size_t size, unsigned zero)
{
    void *p;

    if (size <= MALLOC_CLASS_MOST)
        return zero ? quire_kzalloc(size, QUIRE_GFP_KERNEL) : quire_kmalloc(size, QUIRE_GFP_KERNEL);
    if (size <= MALLOC_MIDDLE_MOST && !zero && (p = malloc_middle(size)))
        return p;
    /* of a run it is known what is zeros, of a fresh mapping that all is */
    p = size <= (zero ? ZEROED_RUN_MOST : RUN_MOST) ? quire_kmalloc(size, QUIRE_GFP_KERNEL) : NULL;
    if (!p)
        return size <= PTRDIFF_MAX ? malloc_large(size, 1) : NULL;
    if (zero)
        malloc_pages_clear(p, size);
    spare(p, size);
    return p;
}

static __attribute__((noinline)) void *allocate_slowly(size_t size, unsigned zero)
{
    struct malloc_visit v;
    void *p;

    if (!malloc_enter(&v))
        return no_memory();
    p = allocate(size, zero);
    malloc_leave(&v);
    return p ? p : no_memory();
}

static __attribute__((noinline)) void free_slowly(void *p)
{
    struct malloc_visit v;
    int before = errno;

    if (!p || !malloc_enter(&v))
        return; /* without a heap there is nothing of it to free */
    quire_kfree(p);
    malloc_leave(&v);
    errno = before;
}

/* ---- The calls of every day ---- */

/* No object lay ready. */
static __attribute__((noinline, flatten)) void *allocate_more(size_t size)
{
    void *p = NULL;

    if (size > MALLOC_CLASS_MOST && size <= MALLOC_MIDDLE_MOST && MALLOC_LIKELY(malloc_cpu))
        p = malloc_middle(size);
    return MALLOC_LIKELY(p != NULL) ? p : allocate_slowly(size, 0);
}

MALLOC_HOT void *malloc(size_t size)
{
    void *p = quire_kmalloc_ready(size);

    return MALLOC_LIKELY(p != NULL) ? p : allocate_more(size);
}

MALLOC_HOT void free(void *p)
{
    if (MALLOC_UNLIKELY(!quire_kfree_ready(p)))
        free_slowly(p);
}

MALLOC_HOT void *calloc(size_t n, size_t size)
{
    size_t bytes;
    void *p;

    if (MALLOC_UNLIKELY(__builtin_mul_overflow(n, size, &bytes)))
        return no_memory();
    p = quire_kmalloc_ready(bytes);
    return MALLOC_LIKELY(p != NULL) ? memset(p, 0, bytes) : allocate_slowly(bytes, ZERO);
}

/* ---- Sizes that change ---- */

/* The thread has a slot.  NULL: p stays as it was. */
static void *resize(void *p, size_t size)
{
    size_t large = malloc_large_size(p), have;
    void *fresh;

    if (large && size > RUN_MOST)
        return size <= PTRDIFF_MAX ? malloc_large_resize(p, size) : NULL;
    have = large ? large : quire_ksize(p);
    if (!large && size <= have && (size > have / 2 || have <= 64))
        return p;
    fresh = allocate(size, 0);
    if (!fresh)
        return size <= have ? p : NULL;
    memcpy(fresh, p, size < have ? size : have);
    quire_kfree(p);
    return fresh;
}

MALLOC_PUBLIC void *realloc(void *p, size_t size)
{
    struct malloc_visit v;
    void *fresh;

    if (!p)
        return malloc(size);
    if (!size) {
        free(p);
        return NULL;
    }
    if (!malloc_enter(&v))
        return no_memory();
    fresh = resize(p, size);
    malloc_leave(&v);
    return fresh ? fresh : no_memory();
}

MALLOC_PUBLIC void *reallocarray(void *p, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        return no_memory();
    return realloc(p, bytes);
}

/* ---- Aligned memory ---- */

static bool is_aligned(const void *p, size_t align) { return !((uintptr_t)p & (align - 1)); }

/* The thread has a slot; align is a power of two.  A class whose size is a multiple of the alignment is aligned
 * to it up to a page, and so is a power of two; a run is aligned to all of itself. */
static void *allocate_aligned(size_t align, size_t size)
{
    size_t rounded = (size + align - 1) & ~(align - 1);
    void *p;

    if (size > PTRDIFF_MAX || align > PTRDIFF_MAX || rounded < size)
        return NULL;
    if (rounded < align)
        rounded = align; /* size 0 */
    if (align <= QUIRE_PAGE_SIZE && rounded > MALLOC_CLASS_MOST)
        return allocate(rounded, 0);
    if (align <= QUIRE_PAGE_SIZE) {
        p = quire_kmalloc(rounded, QUIRE_GFP_KERNEL);
        if (!p || is_aligned(p, align))
            return p;
        quire_kfree(p);
        return quire_kmalloc((size_t)1 << (64 - __builtin_clzl(rounded - 1)), QUIRE_GFP_KERNEL);
    }
    if (rounded <= MALLOC_CLASS_MOST)
        rounded = MALLOC_CLASS_MOST + 1; /* a run */
    p = rounded <= RUN_MOST ? quire_kmalloc(rounded, QUIRE_GFP_KERNEL) : NULL;
    if (!p)
        return malloc_large(rounded, align);
    spare(p, rounded);
    return p;
}

static void *aligned(size_t align, size_t size)
{
    struct malloc_visit v;
    void *p;

    if (!malloc_enter(&v))
        return NULL;
    p = allocate_aligned(align, size);
    malloc_leave(&v);
    return p;
}

static bool is_power_of_two(size_t n) { return n && !(n & (n - 1)); }

MALLOC_PUBLIC void *memalign(size_t align, size_t size)
{
    void *p;

    if (align > (size_t)1 << 62) {
        errno = EINVAL;
        return NULL;
    }
    while (!is_power_of_two(align)) /* as glibc: the next power of two */
        align = align ? (align | (align - 1)) + 1 : 1;
    p = aligned(align, size);
    return p ? p : no_memory();
}

MALLOC_PUBLIC void *aligned_alloc(size_t align, size_t size)
{
    if (is_power_of_two(align))
        return memalign(align, size);
    errno = EINVAL;
    return NULL;
}

MALLOC_PUBLIC int posix_memalign(void **out, size_t align, size_t size)
{
    int before = errno;
    void *p;

    if (!is_power_of_two(align) || align % sizeof(void *))
        return EINVAL;
    p = aligned(align, size);
    errno = before;
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

MALLOC_PUBLIC void *valloc(size_t size) { return memalign(QUIRE_PAGE_SIZE, size); }

MALLOC_PUBLIC void *pvalloc(size_t size)
{
    if (size > PTRDIFF_MAX)
        return no_memory();
    return memalign(QUIRE_PAGE_SIZE, (size + QUIRE_PAGE_SIZE - 1) & ~(size_t)(QUIRE_PAGE_SIZE - 1));
}

/* ---- Looking and tidying ---- */

MALLOC_PUBLIC size_t malloc_usable_size(void *p)
{
    struct malloc_visit v;
    size_t size;

    if (!p || !malloc_enter(&v))
        return 0;
    size = malloc_large_size(p);
    if (!size)
        size = quire_ksize(p);
    malloc_leave(&v);
    return size;
}

MALLOC_PUBLIC int malloc_trim(size_t keep)
{
    struct malloc_visit v;
    size_t given;

    if (!malloc_enter(&v))
        return 0;
    quire_heap_drain_local();
    quire_heap_shrink();
    quire_frame_drain_local();
    given = malloc_pages_purge(keep / QUIRE_PAGE_SIZE);
    malloc_leave(&v);
    return given != 0;
}

MALLOC_PUBLIC struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = {0};
    struct quire_cache_stats s;
    struct malloc_visit v;
    uint64_t used, dirty;
    size_t n, bytes;

    if (!malloc_enter(&v))
        return info;
    malloc_pages_count(&used, &dirty);
    malloc_large_count(&n, &bytes);
    info.arena = (used + dirty) * QUIRE_PAGE_SIZE;
    info.hblks = n;
    info.hblkhd = bytes;
    info.uordblks = used * QUIRE_PAGE_SIZE;
    for (unsigned i = 0; quire_cache_stats(i, &s) == QUIRE_OK; i++) {
        info.fsmblks += (s.total - s.active) * s.slot_size;
        info.smblks += s.total - s.active;
    }
    info.uordblks -= info.fsmblks < info.uordblks ? info.fsmblks : info.uordblks;
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = dirty * QUIRE_PAGE_SIZE;
    malloc_leave(&v);
    return info;
}
