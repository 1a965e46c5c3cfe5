/*
 * kva/kva.h - areas, shared by the files of this folder.  kva.c has the theory.
 */
#ifndef QI_KVA_KVA_H
#define QI_KVA_KVA_H

#include <quire/heap.h>
#include <quire/kva.h>

#include "../pt/pt.h"
#include "../sync/spin.h"
#include "gaps.h"

enum qi_kva_kind { QI_KVA_MEMORY, QI_KVA_MAPPED, QI_KVA_STACK, QI_KVA_DEVICE };

/* The state is changed by whoever holds the area; others only look (verify, the guard test). */
enum qi_kva_state {
    QI_KVA_BUSY,   /* being made or taken down */
    QI_KVA_LIVE,   /* the caller's */
    QI_KVA_CACHED, /* a free stack, mapped, in a CPU's cache */
    QI_KVA_LAZY,   /* unmapped, waiting for a flush */
    QI_KVA_READY,  /* unmapped and flushed, kept for the next of its size */
};

struct qi_area {
    struct qi_gap_node node; /* with its guard page: window lock */
    uint64_t start;          /* first mapped address, page-aligned */
    uint64_t bytes;          /* mapped, whole pages */
    uint32_t state;          /* atomic; enum qi_kva_state */
    uint8_t kind;            /* enum qi_kva_kind */
    uint32_t pages;          /* frame number of the first of its own blocks, chained by next */
    struct qi_area *next;    /* on a list of lazy or ready areas or of cached stacks */
};

#define QI_READY_PAGES 64u   /* largest area that is kept ready */
#define QI_READY_MAX   1024u /* areas of a window that are */

struct qi_window {
    struct qi_spin lock;
    struct qi_gaps gaps;                       /* lock */
    struct qi_area *ready[QI_READY_PAGES + 1]; /* lock; by pages */
    uint32_t nready;                           /* lock */
    uint64_t start, end;
    uint64_t areas, bytes; /* not lazy; atomic */
};

#define QI_NO_PAGE UINT32_MAX

extern struct qi_window qi_windows[3];
#define QI_AREAS   (&qi_windows[0])
#define QI_STACKS  (&qi_windows[1])
#define QI_DEVICES (&qi_windows[2])

static inline bool qi_window_has(const struct qi_window *w, uint64_t va)
{
    return va >= w->start && va < w->end;
}

/* Reserve bytes (whole pages, not 0) and a guard page: behind, or in front for stacks.  At
 * addresses where start - offset is a multiple of align.  BUSY, nothing mapped; NULL: no memory or
 * no room, even after a purge. */
struct qi_area *qi_area_make(struct qi_window *w, uint64_t bytes, uint64_t align, uint64_t offset,
                             enum qi_kva_kind kind);
void qi_area_publish(struct qi_window *w, struct qi_area *a);
/* Fill an area with its own pages, mapped; false: not enough memory, what came is in the area. */
bool qi_area_populate(struct qi_area *a, quire_gfp gfp);
/* Unmap; after the next flush free its pages and give the addresses back. */
void qi_area_retire(struct qi_window *w, struct qi_area *a);
/* Unmap, flush, give the addresses back, now: memory and devices that are not ours. */
void qi_area_destroy(struct qi_window *w, struct qi_area *a);
/* The live area of kind whose first byte is at start; panics with what is there instead. */
struct qi_area *qi_area_get(struct qi_window *w, uint64_t start, enum qi_kva_kind kind,
                            const char *who);

/* The area whose own page is mapped at va, or NULL.  A table walk; no lock, any context. */
struct qi_area *qi_area_owning(uint64_t va);

/* stack.c: release the free stacks that CPUs keep. */
void qi_stacks_init(void);
void qi_stacks_release(void);
uint64_t qi_stacks_live(void);

#endif
