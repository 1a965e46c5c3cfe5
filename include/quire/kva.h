/*
 * quire/kva.h - kernel virtual areas: memory that is contiguous only in kernel addresses.
 *
 * Each area is followed by at least one unmapped guard page; stacks have one below too.  Areas live
 * in [start, end) of quire_kva_init(); device mappings in a range of their own.  All calls are for tasks
 * that may be preempted, unless said otherwise.  Misuse (a double free, a pointer that is foreign, inside an
 * area, or of another kind of area) panics with the area, and with the addresses of the calls that freed
 * and that had allocated it.
 */
#ifndef QUIRE_KVA_H
#define QUIRE_KVA_H

#include <quire/frame.h>
#include <quire/pt.h>

/* Page-aligned half-open windows of the kernel's address space.  After heap and page tables. */
struct quire_kva_layout {
    q_kva areas_start, areas_end;
    q_kva stacks_start, stacks_end;
    q_kva device_start, device_end;
};
enum quire_status quire_kva_init(const struct quire_kva_layout *layout);
/* With QUIRE_DIRECT_LIMIT alone, for quire_kmap(): nothing is mapped.  After quire_frame_init(). */
void quire_kmap_init(void);

/* size bytes, rounded up to pages; NULL: no memory or no address space.  From 2 MiB on with leaves of 2 MiB
 * where frames for them can be had. */
void *quire_vmalloc(size_t size, quire_gfp gfp);
void *quire_vzalloc(size_t size, quire_gfp gfp);
/* Frames of this node first, and addresses of its part of the window. */
void *quire_vmalloc_node(size_t size, quire_gfp gfp, unsigned node);
/* At a multiple of align, a power of two; less than a page means a page. */
void *quire_vmalloc_aligned(size_t size, size_t align, quire_gfp gfp);
void quire_vfree(void *p); /* NULL is fine */

/*
 * For sizes that somebody else chooses: kmalloc if it fits and is contiguous, else vmalloc; kvfree takes
 * both.  Contracts as those of the heap's calls without the v (quire/heap.h), but that kvrealloc may move
 * between the two, and that addresses need not be contiguous in physical memory.  Task context.
 */
void *quire_kvmalloc(size_t size, quire_gfp gfp);
void *quire_kvzalloc(size_t size, quire_gfp gfp);
void *quire_kvmalloc_array(size_t n, size_t size, quire_gfp gfp);
void *quire_kvcalloc(size_t n, size_t size, quire_gfp gfp);
void *quire_kvrealloc(void *p, size_t size, quire_gfp gfp);
size_t quire_kvsize(const void *p); /* usable bytes */
void quire_kvfree(void *p);
void quire_kvfree_sensitive(void *p);

/* Map n given pages; they stay the caller's. */
enum quire_status quire_vmap(struct quire_page *const *pages, size_t n, unsigned prot, q_kva *out);
void quire_vunmap(q_kva at);

/*
 * The same for up to QUIRE_VM_MAP_RAM_MAX pages and a short time, readable and writable: without a search,
 * from a block of addresses of this CPU, and without a flush of its own.  Each page is held by a
 * reference until the flush that follows, so whoever gives a page back meanwhile uses quire_page_put().
 * INVALID: n; NO_MEMORY.  unmap: the very pages of one map; any CPU.
 */
#define QUIRE_VM_MAP_RAM_MAX 32u
enum quire_status quire_vm_map_ram(struct quire_page *const *pages, size_t n, q_kva *out);
void quire_vm_unmap_ram(q_kva at, size_t n);

/* Device memory; pa and len need not be aligned, the result keeps the offset.  INVALID; BUSY: part of it is
 * mapped with another cache type, or, unless CACHED, is memory of the allocator: a frame with two types
 * has undefined content. */
enum quire_status quire_ioremap(q_pa pa, uint64_t len, enum quire_cache_type cache, q_kva *out);
/* The same by what is there: the protection and cache type follow. */
enum quire_io_intent {
    QUIRE_IO_REGISTERS, /* uncached: each access reaches the device, in order */
    QUIRE_IO_BUFFER,    /* write combining: a frame buffer, filled in any order */
    QUIRE_IO_MEMORY,    /* cached: memory behind a device */
    QUIRE_IO_TABLES,    /* cached, read-only: what firmware left */
};
enum quire_status quire_ioremap_for(q_pa pa, uint64_t len, enum quire_io_intent what, q_kva *out);
void quire_iounmap(q_kva at);

/*
 * Another protection for [at, at + len), whole pages inside one area of vmalloc or vmap: read-only data, or code
 * that was written before (QUIRE_READ | QUIRE_EXEC).  Leaves of 2 MiB that it cuts are split.  INVALID: write
 * and execute together, or nothing at all; NO_MEMORY: nothing has changed.  No CPU has the old one
 * when it returns.  The caller holds the area.
 */
enum quire_status quire_kva_protect(q_kva at, uint64_t len, unsigned prot);

/* A stack of bytes (rounded up to pages) with a guard page below; *top is its end (exclusive,
 * aligned to 16). */
enum quire_status quire_stack_alloc(size_t bytes, q_kva *top);
void quire_stack_free(q_kva top);
/* n of them, all or none; and back, with one flush for all, after which their frames are free. */
enum quire_status quire_stack_alloc_bulk(size_t bytes, size_t n, q_kva *tops);
void quire_stack_free_bulk(size_t n, const q_kva *tops);
/* True if va lies in the guard page of a live stack: a fault there is an overflow.  Any context. */
bool quire_stack_guard_hit(q_kva va);

/*
 * Freed areas and stacks wait for a common flush before their frames and addresses are used again.  It comes
 * by itself when enough waits, in the free that finds the first has waited QUIRE_KVA_LAZY_MS, and before an
 * allocation fails.
 *
 * purge: flush now, and release the free stacks that CPUs keep.  Returns the frames that came free.
 * tick: flush if the first has waited that long; for a timer's task or a CPU that is idle (interrupts on),
 *       so that memory comes back when nobody frees any more.  A few instructions if nothing is due.
 */
uint64_t quire_kva_purge(void);
uint64_t quire_kva_tick(void);

/* ---- The content of one page ---- */

/*
 * An address for a page that may lie beyond the direct map (QUIRE_GFP_HIGHMEM with QUIRE_DIRECT_LIMIT); where the
 * direct map reaches everything, these are that address and nothing else.
 *
 * kmap_local: on this CPU, until kunmap_local() of the address; the last mapped is the first unmapped, which is
 *     checked, up to QUIRE_KMAP_DEPTH at a time.  Preemption is off meanwhile: do not sleep.  Any context.
 * kmap: for all CPUs, until as many calls of kunmap().  There are QUIRE_KMAP_SLOTS: if all are in use it sleeps
 *     until one is not, so do not take several while others do.  Task context.
 */
#if QUIRE_DIRECT_LIMIT
void *quire_kmap_local(struct quire_page *page);
void quire_kunmap_local(const void *at);
void *quire_kmap(struct quire_page *page);
void quire_kunmap(struct quire_page *page);
#else
static inline void *quire_kmap_local(struct quire_page *page) { return quire_page_ptr(page); }
static inline void quire_kunmap_local(const void *at) { (void)at; }
static inline void *quire_kmap(struct quire_page *page) { return quire_page_ptr(page); }
static inline void quire_kunmap(struct quire_page *page) { (void)page; }
#endif

/* ---- Looking ---- */

/* at lies in a window of areas, stacks or devices (mapped or not): is_vmalloc_addr().  Any context. */
bool quire_is_kva(const void *at);
/* The page mapped at a kernel virtual address, or NULL (device memory has none).  The caller holds the area.
 * Any context. */
struct quire_page *quire_kva_page(const void *at);

#define QUIRE_AREA_ALLOC   0x1u /* vmalloc: its own pages */
#define QUIRE_AREA_IOREMAP 0x2u
#define QUIRE_AREA_VMAP    0x4u  /* the caller's pages */
#define QUIRE_AREA_STACK   0x8u  /* its own pages, guard below */
#define QUIRE_AREA_RAM     0x10u /* a block of quire_vm_map_ram() */
#define QUIRE_AREA_HUGE    0x20u /* a leaf of 2 MiB or more is in it */
#define QUIRE_AREA_PERCPU  0x40u /* a unit of quire/percpu.h for each CPU */
struct quire_kva_area {
    q_kva addr;        /* first mapped byte */
    uint64_t size;     /* with its guard page */
    unsigned flags;    /* QUIRE_AREA_* */
    uint64_t nr_pages; /* mapped, in 4 KiB; 0 for devices */
    q_pa phys_addr;    /* devices */
    uintptr_t caller;  /* return address of the call that asked for it */
    q_kva next;        /* the area after it, 0: none */
};
/*
 * The first live area that begins at or after *at, in the order of addresses; *at then is past it.  NOT_FOUND:
 * no more.  Areas that come and go meanwhile may be missed.
 */
enum quire_status quire_kva_walk(q_kva *at, struct quire_kva_area *out);
/* pages[first .. first + n) of an area that the caller holds; how many there are of them. */
size_t quire_kva_pages(q_kva addr, size_t first, size_t n, struct quire_page **out);

struct quire_kva_stats {
    uint64_t areas, bytes, stacks, purges;
    uint64_t lazy_areas, lazy_bytes; /* waiting for a flush */
};
void quire_kva_stats(struct quire_kva_stats *out);
/* Areas that others make or free meanwhile are passed over. */
enum quire_status quire_kva_verify(void);

#endif
