/*
 * kva/kva.h - areas, shared by the files of this folder.  kva.c has the theory.
 */
#ifndef QI_KVA_KVA_H
#define QI_KVA_KVA_H

#include <quire/heap.h>
#include <quire/kva.h>

#include "../base/trace.h"
#include "../pt/pt.h"
#include "../sync/spin.h"
#include "gaps.h"

enum qi_kva_kind {
    QI_KVA_MEMORY,
    QI_KVA_MAPPED,
    QI_KVA_STACK,
    QI_KVA_DEVICE,
    QI_KVA_BLOCK,
    QI_KVA_PERCPU
};

/* The state is changed by whoever holds the area; others only look (verify, the guard test). */
enum qi_kva_state {
    QI_KVA_BUSY,   /* being made or taken down */
    QI_KVA_LIVE,   /* the caller's */
    QI_KVA_CACHED, /* a free stack, mapped, in a CPU's cache */
    QI_KVA_LAZY,   /* unmapped, waiting for a flush */
    QI_KVA_READY,  /* unmapped and flushed, kept for the next of its size */
};

struct qi_block;

struct qi_area {
    struct qi_gap_node node; /* with its guard page: lock of the part */
    uint64_t start;          /* first mapped address, page-aligned */
    uint64_t bytes;          /* mapped, whole pages */
    qi_pte *slots;           /* the entries of its pages, if known and in one table; stays */
    struct qi_area *next;    /* on a list of lazy or ready areas or of cached stacks */
    uint32_t state;          /* atomic; enum qi_kva_state */
    uint32_t pages;          /* frame number of the first of its own blocks, chained by next */
    uint8_t kind;            /* atomic; enum qi_kva_kind */
    uint8_t part;            /* of its window */
    uint16_t cpu;            /* the CPU that freed it */
    uint8_t cache;           /* atomic; DEVICE: enum quire_cache_type */
    uintptr_t caller;        /* atomic; who asked for it */
    union {
        uint64_t phys;          /* atomic; DEVICE */
        struct qi_block *block; /* BLOCK */
    };
};

#define QI_READY_PAGES     64u   /* largest area that is kept ready */
#define QI_READY_MAX       2048u /* areas that a part keeps ready */
#define QI_READY_CPU       256u  /* and a CPU, in front of that: so many pages of each size, */
#define QI_READY_CPU_LEAST 16u   /* but so many areas at least */

/* Ready areas of one size. */
struct qi_ready {
    struct qi_area *first;
    uint32_t n;   /* atomic, for a look without the lock */
    uint32_t low; /* the least since they were aged: so many were of no use */
};

/* The addresses of one node: a window is cut into as many as there are nodes, if it is large. */
struct qi_part {
    struct qi_spin lock;
    uint32_t nready;                           /* lock */
    struct qi_gaps gaps;                       /* lock */
    struct qi_ready ready[QI_READY_PAGES + 1]; /* lock; by pages */
    uint64_t start, end;
} QI_CACHE_ALIGNED;

struct qi_window {
    uint64_t start, end, part_bytes;
    unsigned nparts;
    uint64_t areas, bytes; /* live; atomic */
    struct qi_part parts[QUIRE_MAX_NODES];
};

#define QI_NO_PAGE UINT32_MAX

extern struct qi_window qi_windows[3];
extern struct quire_cache *qi_area_cache;
#define QI_AREAS   (&qi_windows[0])
#define QI_STACKS  (&qi_windows[1])
#define QI_DEVICES (&qi_windows[2])

static inline bool qi_window_has(const struct qi_window *w, uint64_t va)
{
    return va >= w->start && va < w->end;
}
static inline struct qi_window *qi_window_of(const struct qi_area *a)
{
    unsigned kind = qi_load_relaxed(&a->kind);

    return kind == QI_KVA_STACK ? QI_STACKS : kind == QI_KVA_DEVICE ? QI_DEVICES : QI_AREAS;
}
static inline size_t qi_area_pages(const struct qi_area *a)
{
    return (size_t)(a->bytes >> QUIRE_PAGE_SHIFT);
}
/* n bytes rounded up to pages; false: 0, or too large to round. */
static inline bool qi_whole_pages(uint64_t bytes, uint64_t *out)
{
    if (!bytes || qi_add_overflows(bytes, QUIRE_PAGE_SIZE - 1, out))
        return false;
    *out &= QUIRE_PAGE_MASK;
    return true;
}

/* What is wanted of a new area. */
struct qi_want {
    uint64_t bytes;         /* whole pages, not 0 */
    uint64_t align, offset; /* start - offset is a multiple of align */
    uintptr_t caller;
    unsigned node; /* addresses and frames of this one first, or QUIRE_NODE_ANY */
    enum qi_kva_kind kind;
};

/* ---- window.c: addresses ---- */

enum quire_status qi_windows_init(const struct quire_kva_layout *layout);
/* Addresses for what is wanted and a guard page: behind, or in front for stacks.  BUSY, nothing
 * mapped; NULL: no memory or no room. */
struct qi_area *qi_range_take(struct qi_window *w, const struct qi_want *want);
/* Nothing is mapped in the areas of the list, and they have been flushed: keep them, with the frames that
 * they may still have, for the next of their size, or give both back.  Returns the frames that came free. */
uint64_t qi_ranges_give(struct qi_area *list);
/* Addresses that are kept ready go back, with their frames; how many.  Task context. */
uint64_t qi_ranges_release(void);
/* So do half of those that nobody wanted since the last call. */
uint64_t qi_ranges_age(void);
/* The area in whose range, guard included, at lies; or NULL. */
struct qi_area *qi_area_at(const struct qi_window *w, uint64_t at);
/* Whoever looked at a while it was live, with its part locked, has done so. */
void qi_area_unseen(const struct qi_area *a);
/* The CPU's list of what it freed.  The area is retired and has no entries any more. */
void qi_lazy_push(struct qi_area *a);
struct qi_area *qi_lazy_take(void);

/* ---- pages.c: frames and entries ---- */

/* Fill an area with its own pages, mapped; false: not enough memory, what came is in the area. */
bool qi_area_populate(struct qi_area *a, quire_gfp gfp, unsigned node);
/* Fill n pages at an address of it with single frames, which are told, and map them; false: not enough memory. */
bool qi_area_populate_part(struct qi_area *a, uint64_t at, size_t n, quire_gfp gfp, unsigned node,
                           struct quire_page **pages);
/* Map n given pages over all of an area; nothing mapped on failure. */
enum quire_status qi_area_map(struct qi_area *a, struct quire_page *const *pages, unsigned prot);
/* Clear the entries of an area. */
void qi_area_unmap(struct qi_area *a);
/* The own pages of the areas of a list, chained by next, go to the frame allocator; how many. */
uint64_t qi_areas_free_pages(struct qi_area *list);
/* The frames of an area that has been flushed may stay with it for its next user, if there is room; they are
 * counted before anybody can find it. */
static inline bool qi_area_may_keep(const struct qi_area *a, uint64_t room)
{
    return a->slots && a->pages != QI_NO_PAGE && a->kind == QI_KVA_MEMORY &&
           qi_area_pages(a) <= room;
}
uint64_t qi_kept_room(void);
void qi_kept_count(uint64_t pages);
/* They go to the frame allocator after all; how many, 0: it has none. */
uint64_t qi_area_drop_pages(struct qi_area *a);
void qi_kept_init(uint64_t most); /* frames in all ready areas */
uint64_t qi_kept_pages(void);

/* ---- kva.c: the life of an area ---- */

/* qi_range_take(), after a purge if need be. */
struct qi_area *qi_area_make(struct qi_window *w, const struct qi_want *want);
void qi_area_publish(struct qi_window *w, struct qi_area *a);
/* Unmap a busy area; after the next flush free its pages and give the addresses back. */
void qi_area_retire(struct qi_area *a);
/* One flush for all that waits; returns the frames that came free. */
uint64_t qi_areas_flush(void);
/* Purges so far, for qi_purge_helps(). */
extern uint64_t qi_purges_ended; /* atomic */
static inline uint64_t qi_purge_rounds(void) { return qi_load_acquire(&qi_purges_ended); }
/* Purge, for an allocation that began when there had been so many and found nothing.  True: something came free,
 * by this purge or by one of others that ended meanwhile: it is worth a second try. */
bool qi_purge_helps(uint64_t since);
/* Unmap, flush, give the addresses back, now: memory and devices that are not ours. */
void qi_area_destroy(struct qi_area *a);
/* The live area of kind whose first byte is at start; panics with what is there instead. */
struct qi_area *qi_area_get(struct qi_window *w, uint64_t start, enum qi_kva_kind kind,
                            const char *who, uintptr_t caller);
/* The same, and it becomes busy: it is taken from its user. */
struct qi_area *qi_area_take(struct qi_window *w, uint64_t start, enum qi_kva_kind kind,
                             const char *who, uintptr_t caller);
/* a becomes busy; panics if it is not live (any more). */
void qi_area_claim(struct qi_window *w, struct qi_area *a, const char *who, uintptr_t caller);
/* Says what is wrong with an address given to who by caller, and panics. */
_Noreturn void qi_area_misused(const struct qi_window *w, uint64_t at, const char *who,
                               uintptr_t caller);
/* The area whose own page is mapped at va, or NULL.  A table walk; no lock, any context. */
struct qi_area *qi_area_owning(uint64_t va);
const char *qi_kind_name(unsigned kind);

/* ---- vmalloc.c ---- */

void *qi_vmalloc(size_t size, quire_gfp gfp, uintptr_t caller);
void qi_vfree(void *p, const char *who, uintptr_t caller);

/* ---- stack.c: release the free stacks that CPUs keep ---- */

void qi_stacks_init(void);
void qi_stacks_release(void);
uint64_t qi_stacks_live(void);

/* ---- verify.c ---- */

bool qi_kva_mapped(uint64_t va);

/* ---- percpu.c ---- */

void qi_percpu_init(void);
/* Retire chunks without objects, all but keep. */
void qi_percpu_release(unsigned keep);

/* ---- block.c: blocks for short-lived maps ---- */

void qi_blocks_init(void);
/* Blocks in which nothing is mapped any more are retired. */
void qi_blocks_release(void);
/* The flush after the end of a block has been: its pages are let go. */
uint64_t qi_block_free(struct qi_block *b);
/* The block's books are right (K6). */
bool qi_block_verify(const struct qi_area *a);

#endif
