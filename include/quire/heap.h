/*
 * quire/heap.h - object caches and kmalloc, above quire/frame.h.  No further hooks.
 *
 * Context: every call may be made from any context, interrupt handlers too, but create, destroy,
 * shrink, stats and verify (task).  Double free, foreign free and an overrun of a red zone panic
 * with the object, its cache and the offending address.
 */
#ifndef QUIRE_HEAP_H
#define QUIRE_HEAP_H

#include <quire/frame.h>
#include <quire/harden.h>
#include <quire/rcu.h>

struct quire_cache;

#define QUIRE_CACHE_ZERO    0x1u  /* objects come zeroed */
#define QUIRE_CACHE_REDZONE 0x2u  /* guard bytes around each object, checked at free */
#define QUIRE_CACHE_POISON  0x4u  /* freed objects are filled, checked at allocation */
#define QUIRE_CACHE_HWALIGN 0x8u  /* align to cache lines */
#define QUIRE_CACHE_DMA     0x40u /* objects lie in the zone DMA */
#define QUIRE_CACHE_DMA32   0x80u /* ... in DMA32 or below */
#define QUIRE_CACHE_RCU     0x20u /* memory of an object stays one of this cache while a reader reads */
/* Instead of what QUIRE_SLAB_SHEAF and QUIRE_SLAB_MAX_ORDER say: n objects to a sheaf, 4..128; slabs of
 * order n at most, 0..10. */
#define QUIRE_CACHE_SHEAF(n)     ((unsigned)(n) << 16)
#define QUIRE_CACHE_MAX_ORDER(n) (((unsigned)(n) + 1) << 24)
#define QUIRE_CACHE_FLAGS        0x0fff00efu

/* After quire_frame_init(), before any other call here. */
enum quire_status quire_heap_init(void);

/* size 1..1 MiB; align 0 (natural, 8) or a power of two up to 4096; name is not copied; ctor, if
 * any, runs once for each object when its slab is made: freed objects keep their state (so not with
 * ZERO or POISON).  With RCU too: an object may be freed and given out again under a reader's eyes, who has
 * to see from its content whether it is still what was looked for. */
enum quire_status quire_cache_create(const char *name, size_t size, size_t align, unsigned flags,
                                     void (*ctor)(void *), struct quire_cache **out);
/* BUSY: objects are still out; names them on the log (first 8) and nothing changes. */
enum quire_status quire_cache_destroy(struct quire_cache *c);

/* NULL: out of memory; always with GFP_DMA or DMA32 if the cache is not one of such memory. */
void *quire_cache_alloc(struct quire_cache *c, quire_gfp gfp);
void *quire_cache_alloc_node(struct quire_cache *c, quire_gfp gfp, unsigned node);
void quire_cache_free(struct quire_cache *c, void *obj); /* obj not NULL */
/* All n or none (false). */
bool quire_cache_alloc_bulk(struct quire_cache *c, quire_gfp gfp, size_t n, void **out);
/* As many of n as there are; the count. */
size_t quire_cache_alloc_some(struct quire_cache *c, quire_gfp gfp, size_t n, void **out);
void quire_cache_free_bulk(struct quire_cache *c, size_t n, void **objs);
/* Return empty slabs to the frame allocator; frames given back. */
size_t quire_cache_shrink(struct quire_cache *c);
/* Shrink every cache. */
size_t quire_heap_shrink(void);
/* The same with the sheaves of all CPUs, which must be quiet; shrink alone asks the others to
 * give theirs back when next they enter a slow path. */
size_t quire_heap_drain(void);
/* What this CPU's sheaves hold goes back to the slabs, of all caches: before the CPU goes away, say.  Task
 * context that stays on its CPU. */
void quire_heap_drain_local(void);

/*
 * Objects put by for a part of the program where no allocation may fail or sleep.  Zeros are an empty set; its memory and
 * whoever uses it are the owner's to look after.
 */
#define QUIRE_PREFILLED_MAX 64u
struct quire_prefilled {
    struct quire_cache *cache;
    unsigned n; /* objects that can be taken */
    void *object[QUIRE_PREFILLED_MAX];
};
/* Until the set has n objects of c, at most QUIRE_PREFILLED_MAX; NO_MEMORY: it has what it had.  Of one cache
 * until it is empty. */
enum quire_status quire_prefilled_fill(struct quire_prefilled *set, struct quire_cache *c,
                                       quire_gfp gfp, unsigned n);
/* O(1), no lock; the set must have one. */
void *quire_prefilled_take(struct quire_prefilled *set);
/* What is left goes back to the cache. */
void quire_prefilled_return(struct quire_prefilled *set);

/*
 * Free what readers (quire/rcu.h) may still look at: objects of caches and of kmalloc, once those who read now are
 * done; nobody may find p any more.  NULL is fine.  NO_MEMORY: p stays; quire_rcu_wait() and free it.
 */
enum quire_status quire_kfree_rcu(void *p);
/* Frees what no reader holds any more; for an idle CPU or a timer, so that the last few do not wait for others to
 * follow. */
void quire_rcu_reclaim(void);

/* Physically contiguous memory.  size 0 gives a unique non-NULL pointer.  Aligned to
 * QUIRE_KMALLOC_ALIGN, powers of two to their size up to 4096.  GFP_DMA and DMA32 round up to a power of two.  Above 16 KiB whole pages.
 * NULL: out of memory or size above the largest block. */
void *quire_kmalloc(size_t size, quire_gfp gfp);
void *quire_kzalloc(size_t size, quire_gfp gfp);
void *quire_kmalloc_node(size_t size, quire_gfp gfp, unsigned node);
/* n things of size bytes each, kcalloc's zeroed; NULL too if n * size overflows. */
void *quire_kmalloc_array(size_t n, size_t size, quire_gfp gfp);
void *quire_kcalloc(size_t n, size_t size, quire_gfp gfp);
/* Keeps min(old, new) bytes; p NULL allocates; size 0 frees and returns NULL; on failure, an
 * overflow too, p stays.  GFP_ZERO clears what lies beyond ksize(p). */
void *quire_krealloc(void *p, size_t size, quire_gfp gfp);
void *quire_krealloc_array(void *p, size_t n, size_t size, quire_gfp gfp);
/* n bytes at from, or a string with its 0; of kstrndup at most max bytes before it.  A string NULL
 * gives NULL. */
void *quire_kmemdup(const void *from, size_t n, quire_gfp gfp);
char *quire_kstrdup(const char *from, quire_gfp gfp);
char *quire_kstrndup(const char *from, size_t max, quire_gfp gfp);
size_t quire_ksize(const void *p);   /* usable bytes; p not NULL, an object or run that is out */
void quire_kfree(void *p);           /* NULL is fine */
void quire_kfree_sensitive(void *p); /* all ksize(p) bytes are zero before anyone else has them */

/*
 * The fast part of both, for whoever has a slow way of his own (a malloc whose threads have to be given a CPU first): an
 * object of at least size bytes that lies ready on this CPU; NULL: nothing has happened, ask
 * quire_kmalloc().  True: p is free; false: nothing has happened and nothing was reported, ask quire_kfree().  May be
 * called before quire_heap_init(), and on a CPU number on which nothing else of the heap is ever called: NULL and
 * false.
 */
void *quire_kmalloc_ready(size_t size);
bool quire_kfree_ready(void *p);

struct quire_cache_stats {
    const char *name;
    size_t object_size, slot_size; /* asked; with alignment and guards */
    unsigned objects_per_slab, slab_order;
    uint64_t active, total, slabs; /* objects out; objects in slabs; slabs */
    uint64_t allocs, frees;
};
/* i-th cache, 0..; NOT_FOUND after the last. */
enum quire_status quire_cache_stats(unsigned i, struct quire_cache_stats *out);
enum quire_status quire_heap_verify(void); /* of a heap that nobody uses meanwhile */
/* Of one that is in use: what of it holds at all times.  Damage is told with who had the object and its
 * neighbours (quire/track.h), and CORRUPT. */
enum quire_status quire_heap_validate(void);

/* Failure injection, a debugging feature: the n-th next allocation call of this layer fails (n
 * >= 1), then all succeed again; -1: off.  Costs the fast paths nothing while off.  Task
 * context. */
void quire_heap_fail_after(int64_t n);
/* The failure asked for has not happened yet. */
bool quire_heap_fail_armed(void);

#endif
