/*
 * quire/kva.h - kernel virtual areas: memory that is contiguous only in kernel addresses.
 *
 * Each area is followed by at least one unmapped guard page; stacks have one below too.  Areas live
 * in [start, end) of quire_kva_init(); device mappings in a range of their own.
 */
#ifndef QUIRE_KVA_H
#define QUIRE_KVA_H

#include <quire/frame.h>
#include <quire/pt.h>

/* Page-aligned halves-open windows of the kernel's address space.  After heap and page tables. */
struct quire_kva_layout {
    q_kva areas_start, areas_end;
    q_kva stacks_start, stacks_end;
    q_kva device_start, device_end;
};
enum quire_status quire_kva_init(const struct quire_kva_layout *layout);

/* size bytes, rounded up to pages; NULL: no memory or no address space.  Task context. */
void *quire_vmalloc(size_t size, quire_gfp gfp);
void *quire_vzalloc(size_t size, quire_gfp gfp);
/* At a multiple of align, a power of two; less than a page means a page. */
void *quire_vmalloc_aligned(size_t size, size_t align, quire_gfp gfp);
void quire_vfree(void *p); /* NULL is fine; a foreign pointer panics */

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

/* Device memory; pa and len need not be aligned, the result keeps the offset. */
enum quire_status quire_ioremap(q_pa pa, uint64_t len, enum quire_cache_type cache, q_kva *out);
void quire_iounmap(q_kva at);

/* A stack of bytes (rounded up to pages) with a guard page below; *top is its end (exclusive,
 * aligned to 16). */
enum quire_status quire_stack_alloc(size_t bytes, q_kva *top);
void quire_stack_free(q_kva top);
/* True if va lies in the guard page of a live stack: a fault there is an overflow. */
bool quire_stack_guard_hit(q_kva va);

/* Freed areas and stacks wait for a common flush before their frames and addresses are used again;
 * flush now, and release the free stacks that CPUs keep.  Returns the frames that came free.  Task
 * context. */
uint64_t quire_kva_purge(void);

struct quire_kva_stats {
    uint64_t areas, bytes, stacks, purges;
};
void quire_kva_stats(struct quire_kva_stats *out);
enum quire_status quire_kva_verify(void);

#endif
