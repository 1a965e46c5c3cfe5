/*
 * slab/track.h - who allocated what, for the files of the heap.  track.c has the theory.
 *
 * How the tiers use it: caches that are tracked have QI_SLOW_TRACK in quire_cache.slow, so that
 * allocations come to qi_alloc_special(), and their objects are QI_OBJ_GUARDED while they are out, so
 * that frees come to qi_free_slow().  The fast paths know nothing of it.
 */
#ifndef QI_TRACK_H
#define QI_TRACK_H

#include <quire/track.h>

#include "../base/trace.h"
#include "slab.h"

#define QI_TRACK_TICK_SHIFT \
    20u /* times are nanoseconds >> this: 1.05 ms, 52 days until they wrap */

enum qi_track_phase { QI_TRACK_NONE, QI_TRACK_LIVE, QI_TRACK_FREED };

struct qi_track_event {
    uint32_t trace; /* number in the depot, 0: not kept */
    uint32_t time;
    uintptr_t task; /* as the port numbers them */
    uint32_t cpu;
};

/* Of one object; all fields are atomic, written by whoever holds the object. */
struct qi_track {
    uint32_t phase; /* enum qi_track_phase: are the others to be believed */
    uint32_t site;
    uint32_t asked; /* bytes */
    uint32_t unused;
    struct qi_track_event alloc, free;
};

/* Nothing is tracked; the start of the heap.  Tracking itself begins with quire_track_start(). */
void qi_track_init(void);

#if QUIRE_TRACK

/* obj of c, which the caller holds and nobody has been given yet, was allocated by a call from
 * caller, for asked bytes.  Any context. */
void qi_track_alloc(struct quire_cache *c, void *obj, size_t asked, uintptr_t caller);
/* obj of c, still the caller's alone, is being freed.  Any context; nothing if it is not tracked. */
void qi_track_free(struct quire_cache *c, void *obj, uintptr_t caller);
/* obj now has asked bytes in use (krealloc in place). */
void qi_track_resize(const void *obj, size_t asked);
/* The record of object i, 1..n, of a slab, or NULL: none was made. */
struct qi_track *qi_track_record(const struct qi_slab *s, unsigned i);
/* Log who allocated, and who freed, the object that p lies in; nothing is logged if nothing is known.
 * True if something was.  For reports: may race with the object's holder, never faults.  Any. */
bool qi_track_describe(const void *p);
/* Whether QI_SLOW_TRACK belongs into a new cache's word. */
bool qi_track_all(void);
/* A slab goes: interrupts off, no object of it is out. */
void qi_track_slab_gone(struct qi_slab *s);

#else

static inline void qi_track_alloc(struct quire_cache *c, void *obj, size_t asked, uintptr_t caller)
{
    (void)c, (void)obj, (void)asked, (void)caller;
}
static inline void qi_track_free(struct quire_cache *c, void *obj, uintptr_t caller)
{
    (void)c, (void)obj, (void)caller;
}
static inline void qi_track_resize(const void *obj, size_t asked) { (void)obj, (void)asked; }
static inline bool qi_track_describe(const void *p) { return (void)p, false; }
static inline bool qi_track_all(void) { return false; }
static inline void qi_track_slab_gone(struct qi_slab *s) { (void)s; }

#endif

#endif
