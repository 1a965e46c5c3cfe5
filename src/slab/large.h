/*
 * slab/large.h - allocations in somebody else's name; and who allocated what is no object of a slab: runs of
 * pages, kernel areas.  track.c has the theory.
 */
#ifndef QI_LARGE_H
#define QI_LARGE_H

#include <quire/heap.h>

#include "../base/atomic.h"
#include "../base/check.h"

/* The public calls, made by one that is asked by caller. */
void *qi_kmalloc_from(size_t size, quire_gfp gfp, uintptr_t caller);
void qi_kfree_from(void *p, uintptr_t caller);

#if QUIRE_TRACK

extern uint32_t qi_track_ready; /* atomic: it was switched on at some time */
void qi_track_note_large(const void *start, size_t bytes, uintptr_t caller);
void qi_track_drop_large(const void *start);

/* bytes from start on, page-aligned, were allocated by a call from caller; until they are freed, by whoever
 * holds them, before they are unmapped.  Nothing if nothing is tracked.  Any context. */
static inline void qi_track_large_alloc(const void *start, size_t bytes, uintptr_t caller)
{
    if (QI_UNLIKELY(qi_load_relaxed(&qi_track_ready)))
        qi_track_note_large(start, bytes, caller);
}
static inline void qi_track_large_free(const void *start)
{
    if (QI_UNLIKELY(qi_load_relaxed(&qi_track_ready)))
        qi_track_drop_large(start);
}

#else

static inline void qi_track_large_alloc(const void *start, size_t bytes, uintptr_t caller)
{
    (void)start, (void)bytes, (void)caller;
}
static inline void qi_track_large_free(const void *start) { (void)start; }

#endif

#endif
