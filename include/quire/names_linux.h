/*
 * quire/names_linux.h - optional: the heap under the names that Linux's drivers know, as inline functions.
 * Nothing of the library includes it.  Contracts: quire/heap.h, quire/kva.h, quire/frame.h.
 *
 * What differs from Linux: kmalloc(0) is an object of its own and krealloc(p, 0) gives NULL, so there is no
 * ZERO_SIZE_PTR; a kmem_cache with objects out is not destroyed; flags that only tune reclaim or accounting are
 * 0; usercopy windows are not checked; kfree_rcu() may wait for readers, that is sleep, where memory is short, and the
 * readers are those of quire/rcu.h, whose lock gives a token to be handed back, so rcu_read_lock() is not here;
 * vm_map_ram() maps QUIRE_VM_MAP_RAM_MAX pages at most.  Nothing is both writable and executable: there is no
 * PAGE_KERNEL_EXEC.  struct page is struct quire_page: its members have other names.
 *
 * A kernel that links the heap alone may include it too: what is not called is not asked for.
 */
#ifndef QUIRE_NAMES_LINUX_H
#define QUIRE_NAMES_LINUX_H

#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/percpu.h>

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

/* Also where a variable is called so: of no consequence. */
#define page quire_page

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

/* The order of the smallest block with room for size bytes. */
static inline unsigned get_order(unsigned long size)
{
    unsigned order = 0;

    while (((unsigned long)QUIRE_PAGE_SIZE << order) < size && order <= QUIRE_MAX_ORDER)
        order++;
    return order;
}

static inline struct page *alloc_pages_node(int node, gfp_t gfp, unsigned order)
{
    return quire_page_alloc(order, gfp, quire_names_node(node));
}
static inline struct page *alloc_pages(gfp_t gfp, unsigned order)
{
    return alloc_pages_node(NUMA_NO_NODE, gfp, order);
}
static inline struct page *alloc_page(gfp_t gfp) { return alloc_pages(gfp, 0); }
static inline void get_page(struct page *p) { quire_page_get(p); }
static inline void put_page(struct page *p) { quire_page_put(p); }
/* The last reference frees; the block knows its order. */
static inline void __free_pages(struct page *p, unsigned order)
{
    (void)order;
    quire_page_put(p);
}
static inline void __free_page(struct page *p) { quire_page_put(p); }

static inline void *page_address(const struct page *p) { return quire_page_ptr(p); }
static inline struct page *virt_to_page(const void *p) { return quire_page_of_ptr(p); }
static inline unsigned long page_to_pfn(const struct page *p)
{
    return (unsigned long)quire_pfn_of_page(p).v;
}
static inline struct page *pfn_to_page(unsigned long pfn) { return quire_page_of_pfn(Q_PFN(pfn)); }
static inline uint64_t page_to_phys(const struct page *p) { return quire_pa_of_page(p).v; }
static inline int page_to_nid(const struct page *p) { return (int)quire_page_node(p); }

/* Whole pages and no more: what a block has beyond them is given back. */
static inline void *alloc_pages_exact(size_t size, gfp_t gfp)
{
    unsigned order = get_order(size);
    size_t used = (size + QUIRE_PAGE_SIZE - 1) / QUIRE_PAGE_SIZE;
    struct page *p = order <= QUIRE_MAX_ORDER && size ? alloc_pages(gfp, order) : NULL;

    if (!p)
        return NULL;
    if (order)
        quire_page_split(p);
    for (size_t i = used; i < (size_t)1 << order; i++)
        quire_page_free(p + i, 0);
    return quire_page_ptr(p);
}
static inline void free_pages_exact(void *at, size_t size)
{
    for (size_t done = 0; done < size; done += QUIRE_PAGE_SIZE)
        quire_page_free(quire_page_of_ptr((char *)at + done), 0);
}

static inline void *kmap(struct page *p) { return quire_kmap(p); }
static inline void kunmap(struct page *p) { quire_kunmap(p); }
static inline void *kmap_local_page(struct page *p) { return quire_kmap_local(p); }
static inline void kunmap_local(const void *at) { quire_kunmap_local(at); }

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
/* n times size, or more than there is if that overflows. */
static inline size_t quire_names_bytes(size_t n, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(n, size, &bytes) ? SIZE_MAX : bytes;
}
static inline void *kmalloc_array_node(size_t n, size_t size, gfp_t gfp, int node)
{
    return kmalloc_node(quire_names_bytes(n, size), gfp, node);
}
static inline void *kcalloc_node(size_t n, size_t size, gfp_t gfp, int node)
{
    return kzalloc_node(quire_names_bytes(n, size), gfp, node);
}
static inline size_t ksize(const void *p) { return p ? quire_ksize(p) : 0; }
static inline void kfree(const void *p) { quire_kfree((void *)(uintptr_t)p); }
static inline void kfree_sensitive(const void *p) { quire_kfree_sensitive((void *)(uintptr_t)p); }
static inline void quire_names_kfree_rcu(const void *p)
{
    if (quire_kfree_rcu((void *)(uintptr_t)p) != QUIRE_OK) {
        quire_rcu_wait();
        kfree(p);
    }
}
/* Structures have such a member for kfree_rcu(), which Linux needs for its list of what waits. */
struct rcu_head {
    void *not_used;
};
#define kfree_rcu(p, member)    quire_names_kfree_rcu(p)
#define kfree_rcu_mightsleep(p) quire_names_kfree_rcu(p)
static inline void synchronize_rcu(void) { quire_rcu_wait(); }
static inline void *kmemdup(const void *from, size_t n, gfp_t gfp)
{
    return quire_kmemdup(from, n, gfp);
}
static inline char *kstrdup(const char *s, gfp_t gfp) { return quire_kstrdup(s, gfp); }
static inline char *kstrndup(const char *s, size_t max, gfp_t gfp)
{
    return quire_kstrndup(s, max, gfp);
}
static inline void *kmemdup_array(const void *from, size_t n, size_t size, gfp_t gfp)
{
    return kmemdup(from, quire_names_bytes(n, size), gfp);
}
/* n bytes, and a 0 behind them. */
static inline char *kmemdup_nul(const char *from, size_t n, gfp_t gfp)
{
    char *to = from && n < SIZE_MAX ? quire_kmalloc(n + 1, gfp) : NULL;

    if (to) {
        __builtin_memcpy(to, from, n);
        to[n] = 0;
    }
    return to;
}

/* ---- slab.h: caches ---- */

#define kmem_cache quire_cache

typedef unsigned slab_flags_t;

#define SLAB_HWCACHE_ALIGN   QUIRE_CACHE_HWALIGN
#define SLAB_RED_ZONE        QUIRE_CACHE_REDZONE
#define SLAB_POISON          QUIRE_CACHE_POISON
#define SLAB_CACHE_DMA       QUIRE_CACHE_DMA
#define SLAB_CACHE_DMA32     QUIRE_CACHE_DMA32
#define SLAB_TYPESAFE_BY_RCU QUIRE_CACHE_RCU
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
static inline struct kmem_cache *kmem_cache_create_usercopy(const char *name, unsigned size,
                                                            unsigned align, slab_flags_t flags,
                                                            unsigned from, unsigned bytes,
                                                            void (*ctor)(void *))
{
    (void)from, (void)bytes;
    return kmem_cache_create(name, size, align, flags, ctor);
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
static inline void *__vmalloc(unsigned long size, gfp_t gfp) { return quire_vmalloc(size, gfp); }
static inline void *vmalloc_node(unsigned long size, int node)
{
    return quire_vmalloc_node(size, QUIRE_GFP_KERNEL, quire_names_node(node));
}
static inline void *vzalloc_node(unsigned long size, int node)
{
    return quire_vmalloc_node(size, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, quire_names_node(node));
}
static inline void *vmalloc_array(size_t n, size_t size)
{
    return vmalloc(quire_names_bytes(n, size));
}
static inline void *vcalloc(size_t n, size_t size) { return vzalloc(quire_names_bytes(n, size)); }
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
static inline void *kvmemdup(const void *from, size_t n, gfp_t gfp)
{
    void *to = quire_kvmalloc(n, gfp);

    if (to)
        __builtin_memcpy(to, from, n);
    return to;
}

typedef unsigned pgprot_t;

#define PAGE_KERNEL     (QUIRE_READ | QUIRE_WRITE)
#define PAGE_KERNEL_RO  QUIRE_READ
#define PAGE_KERNEL_ROX (QUIRE_READ | QUIRE_EXEC)
#define VM_MAP          0ul /* the pages stay the caller's */

static inline void *vmap(struct page **pages, unsigned n, unsigned long flags, pgprot_t prot)
{
    q_kva at;

    (void)flags;
    return quire_vmap(pages, n, prot, &at) == QUIRE_OK ? (void *)(uintptr_t)at.v : NULL;
}
static inline void vunmap(const void *at)
{
    if (at)
        quire_vunmap(Q_KVA((uintptr_t)at));
}
static inline void *vm_map_ram(struct page **pages, unsigned n, int node)
{
    q_kva at;

    (void)node; /* where Linux takes the address range's bookkeeping from */
    return quire_vm_map_ram(pages, n, &at) == QUIRE_OK ? (void *)(uintptr_t)at.v : NULL;
}
static inline void vm_unmap_ram(const void *at, unsigned n)
{
    quire_vm_unmap_ram(Q_KVA((uintptr_t)at), n);
}
static inline struct page *vmalloc_to_page(const void *at) { return quire_kva_page(at); }
static inline unsigned long vmalloc_to_pfn(const void *at)
{
    return page_to_pfn(vmalloc_to_page(at));
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

/* ---- percpu.h ---- */

#define __percpu

static inline void __percpu *__alloc_percpu_gfp(size_t size, size_t align, gfp_t gfp)
{
    return quire_percpu_alloc(size, align, gfp);
}
static inline void __percpu *__alloc_percpu(size_t size, size_t align)
{
    return quire_percpu_alloc(size, align, GFP_KERNEL);
}
#define alloc_percpu(type) \
    ((__typeof__(type) __percpu *)__alloc_percpu(sizeof(type), __alignof__(type)))
#define alloc_percpu_gfp(type, gfp) \
    ((__typeof__(type) __percpu *)__alloc_percpu_gfp(sizeof(type), __alignof__(type), gfp))
static inline void free_percpu(void __percpu *p) { quire_percpu_free(p); }
#define per_cpu_ptr(p, cpu) ((__typeof__(p))quire_percpu_ptr(p, cpu))
#define this_cpu_ptr(p)     ((__typeof__(p))quire_percpu_this(p))

#endif
