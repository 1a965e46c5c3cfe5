/*
 * quire/names_linux.h - optional: the heap under the names that Linux's drivers know, as inline functions.
 * Nothing of the library includes it.  Contracts: quire/heap.h, quire/kva.h, quire/frame.h.
 *
 * What differs from Linux: kmalloc(0) is an object of its own and krealloc(p, 0) gives NULL, so there is no
 * ZERO_SIZE_PTR; a kmem_cache with objects out is not destroyed; flags that only tune reclaim or accounting are
 * 0.  A kernel that links the heap alone may include it too: what is not called is not asked for.
 */
#ifndef QUIRE_NAMES_LINUX_H
#define QUIRE_NAMES_LINUX_H

#include <quire/heap.h>
#include <quire/kva.h>

/* ---- gfp.h ---- */

typedef quire_gfp gfp_t;

#define GFP_KERNEL          QUIRE_GFP_KERNEL
#define GFP_KERNEL_ACCOUNT  QUIRE_GFP_KERNEL
#define GFP_NOIO            QUIRE_GFP_KERNEL
#define GFP_NOFS            QUIRE_GFP_KERNEL
#define GFP_USER            QUIRE_GFP_KERNEL
#define GFP_ATOMIC          QUIRE_GFP_ATOMIC
#define GFP_NOWAIT          (QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY)
#define GFP_DMA             QUIRE_GFP_DMA
#define GFP_DMA32           QUIRE_GFP_DMA32
#define __GFP_ZERO          QUIRE_GFP_ZERO
#define __GFP_DMA           QUIRE_GFP_DMA
#define __GFP_DMA32         QUIRE_GFP_DMA32
#define __GFP_NORETRY       QUIRE_GFP_NORETRY
#define __GFP_THISNODE      QUIRE_GFP_THISNODE
#define __GFP_MEMALLOC      QUIRE_GFP_MEMALLOC
#define __GFP_NOWARN        0u
#define __GFP_RETRY_MAYFAIL 0u
#define __GFP_ACCOUNT       0u

#define NUMA_NO_NODE (-1)
static inline unsigned quire_names_node(int node)
{
    return node < 0 ? QUIRE_NODE_ANY : (unsigned)node;
}

static inline unsigned long __get_free_pages(gfp_t gfp, unsigned order)
{
    struct quire_page *page = quire_page_alloc(order, gfp, QUIRE_NODE_ANY);

    return page ? (unsigned long)(uintptr_t)quire_page_ptr(page) : 0;
}
static inline unsigned long __get_free_page(gfp_t gfp) { return __get_free_pages(gfp, 0); }
static inline unsigned long get_zeroed_page(gfp_t gfp)
{
    return __get_free_pages(gfp | QUIRE_GFP_ZERO, 0);
}
static inline void free_pages(unsigned long at, unsigned order)
{
    if (at)
        quire_page_free(quire_page_of_ptr((void *)(uintptr_t)at), order);
}
static inline void free_page(unsigned long at) { free_pages(at, 0); }

/* ---- slab.h: by size ---- */

#define ZERO_OR_NULL_PTR(p) (!(p))

static inline void *kmalloc(size_t size, gfp_t gfp) { return quire_kmalloc(size, gfp); }
static inline void *kzalloc(size_t size, gfp_t gfp) { return quire_kzalloc(size, gfp); }
static inline void *kmalloc_node(size_t size, gfp_t gfp, int node)
{
    return quire_kmalloc_node(size, gfp, quire_names_node(node));
}
static inline void *kzalloc_node(size_t size, gfp_t gfp, int node)
{
    return quire_kmalloc_node(size, gfp | QUIRE_GFP_ZERO, quire_names_node(node));
}
static inline void *kmalloc_array(size_t n, size_t size, gfp_t gfp)
{
    return quire_kmalloc_array(n, size, gfp);
}
static inline void *kcalloc(size_t n, size_t size, gfp_t gfp)
{
    return quire_kcalloc(n, size, gfp);
}
static inline void *krealloc(const void *p, size_t size, gfp_t gfp)
{
    return quire_krealloc((void *)(uintptr_t)p, size, gfp);
}
static inline void *krealloc_array(void *p, size_t n, size_t size, gfp_t gfp)
{
    return quire_krealloc_array(p, n, size, gfp);
}
static inline size_t ksize(const void *p) { return p ? quire_ksize(p) : 0; }
static inline void kfree(const void *p) { quire_kfree((void *)(uintptr_t)p); }
static inline void kfree_sensitive(const void *p) { quire_kfree_sensitive((void *)(uintptr_t)p); }
static inline void *kmemdup(const void *from, size_t n, gfp_t gfp)
{
    return quire_kmemdup(from, n, gfp);
}
static inline char *kstrdup(const char *s, gfp_t gfp) { return quire_kstrdup(s, gfp); }
static inline char *kstrndup(const char *s, size_t max, gfp_t gfp)
{
    return quire_kstrndup(s, max, gfp);
}

/* ---- slab.h: caches ---- */

#define kmem_cache quire_cache

typedef unsigned slab_flags_t;

#define SLAB_HWCACHE_ALIGN   QUIRE_CACHE_HWALIGN
#define SLAB_RED_ZONE        QUIRE_CACHE_REDZONE
#define SLAB_POISON          QUIRE_CACHE_POISON
#define SLAB_CACHE_DMA       QUIRE_CACHE_DMA
#define SLAB_CACHE_DMA32     QUIRE_CACHE_DMA32
#define SLAB_RECLAIM_ACCOUNT 0u
#define SLAB_ACCOUNT         0u
#define SLAB_PANIC           0x80000000u /* no cache: the end */

static inline struct kmem_cache *kmem_cache_create(const char *name, unsigned size, unsigned align,
                                                   slab_flags_t flags, void (*ctor)(void *))
{
    struct quire_cache *c = NULL;

    if (quire_cache_create(name, size, align, flags & ~SLAB_PANIC, ctor, &c) != QUIRE_OK &&
        (flags & SLAB_PANIC))
        qport_panic(name);
    return c;
}
#define KMEM_CACHE(type, flags) \
    kmem_cache_create(#type, sizeof(struct type), __alignof__(struct type), flags, NULL)

/* NULL is fine. */
static inline void kmem_cache_destroy(struct kmem_cache *c)
{
    enum quire_status left = c ? quire_cache_destroy(c) : QUIRE_OK;

    (void)left; /* BUSY: the objects that are out are on the log, as they are in Linux */
}
static inline void *kmem_cache_alloc(struct kmem_cache *c, gfp_t gfp)
{
    return quire_cache_alloc(c, gfp);
}
static inline void *kmem_cache_zalloc(struct kmem_cache *c, gfp_t gfp)
{
    return quire_cache_alloc(c, gfp | QUIRE_GFP_ZERO);
}
static inline void *kmem_cache_alloc_node(struct kmem_cache *c, gfp_t gfp, int node)
{
    return quire_cache_alloc_node(c, gfp, quire_names_node(node));
}
static inline void kmem_cache_free(struct kmem_cache *c, void *p)
{
    if (p)
        quire_cache_free(c, p);
}
/* All or none: n or 0. */
static inline int kmem_cache_alloc_bulk(struct kmem_cache *c, gfp_t gfp, size_t n, void **out)
{
    return quire_cache_alloc_bulk(c, gfp, n, out) ? (int)n : 0;
}
static inline void kmem_cache_free_bulk(struct kmem_cache *c, size_t n, void **p)
{
    quire_cache_free_bulk(c, n, p);
}
static inline int kmem_cache_shrink(struct kmem_cache *c)
{
    quire_cache_shrink(c);
    return 0;
}

/* ---- vmalloc.h, mm.h, io.h ---- */

static inline void *vmalloc(unsigned long size) { return quire_vmalloc(size, QUIRE_GFP_KERNEL); }
static inline void *vzalloc(unsigned long size) { return quire_vzalloc(size, QUIRE_GFP_KERNEL); }
static inline void vfree(const void *p) { quire_vfree((void *)(uintptr_t)p); }

static inline void *kvmalloc(size_t size, gfp_t gfp) { return quire_kvmalloc(size, gfp); }
static inline void *kvzalloc(size_t size, gfp_t gfp) { return quire_kvzalloc(size, gfp); }
static inline void *kvmalloc_array(size_t n, size_t size, gfp_t gfp)
{
    return quire_kvmalloc_array(n, size, gfp);
}
static inline void *kvcalloc(size_t n, size_t size, gfp_t gfp)
{
    return quire_kvcalloc(n, size, gfp);
}
static inline void *kvrealloc(const void *p, size_t size, gfp_t gfp)
{
    return quire_kvrealloc((void *)(uintptr_t)p, size, gfp);
}
static inline void kvfree(const void *p) { quire_kvfree((void *)(uintptr_t)p); }
static inline void kvfree_sensitive(const void *p, size_t size)
{
    (void)size; /* known */
    quire_kvfree_sensitive((void *)(uintptr_t)p);
}
static inline bool is_vmalloc_addr(const void *p) { return quire_is_kva(p); }

static inline uint64_t virt_to_phys(const void *p)
{
    return quire_pa_of_kla(Q_KLA((uintptr_t)p)).v;
}
static inline void *phys_to_virt(uint64_t pa) { return quire_ptr_of_pa(Q_PA(pa)); }

static inline void *quire_names_ioremap(uint64_t pa, size_t size, enum quire_io_intent what)
{
    q_kva at;

    return quire_ioremap_for(Q_PA(pa), size, what, &at) == QUIRE_OK ? (void *)(uintptr_t)at.v
                                                                    : NULL;
}
static inline void *ioremap(uint64_t pa, size_t size)
{
    return quire_names_ioremap(pa, size, QUIRE_IO_REGISTERS);
}
static inline void *ioremap_wc(uint64_t pa, size_t size)
{
    return quire_names_ioremap(pa, size, QUIRE_IO_BUFFER);
}
static inline void iounmap(const void *at) { quire_iounmap(Q_KVA((uintptr_t)at)); }

#endif
