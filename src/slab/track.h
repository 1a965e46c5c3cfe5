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
#include "depot.h"
#include "slab.h"

#define QI_TRACK_TICK_SHIFT \
    20u /* times are nanoseconds >> this: 1.05 ms, 52 days until they wrap */

enum qi_track_phase { QI_TRACK_NONE, QI_TRACK_LIVE, QI_TRACK_FREED };

struct qi_track_event {
    uintptr_t task; /* as the port numbers them */
    uint32_t trace; /* number in the depot, 0: not kept */
    uint32_t time;
    uint32_t cpu;
};

/* What whoever holds an object says of it to the leak scan; struct qi_track.marks. */
#define QI_MARK_NOT_LEAK 0x1u
#define QI_MARK_IGNORE   0x2u
#define QI_MARK_NO_SCAN  0x4u
#define QI_MARK_LATE     0x8u /* on its way back: readers may have it */
#define QI_MARK_HELD     (QI_MARK_NOT_LEAK | QI_MARK_LATE)

/* Of one object; all fields are atomic, written by whoever holds the object but for the last. */
struct qi_track {
    uint32_t phase; /* enum qi_track_phase: are the others to be believed */
    uint32_t site;
    uint32_t asked; /* bytes; not of a large object */
    uint32_t marks; /* QI_MARK_* */
    struct qi_track_event alloc, free;
    /* the leak scan's: the scan that last found the object referenced, twice its number and 1 if it
     * looked inside too; what the content was when it found it not referenced, 0: never looked */
    uint32_t reached, content;
    uint32_t suspect; /* reported */
};

/* A run of pages, or a kernel area.  qi_track_lock guards the table of them. */
struct qi_track_large {
    struct qi_track t;
    uintptr_t start;
    size_t bytes;
    struct qi_track_large *next;
};

/* Nothing is tracked; the start of the heap.  Tracking itself begins with quire_track_start(). */
void qi_track_init(void);

/* damage.c: log all about the byte at, in or beside an object, which should be want, -1: not known. */
void qi_damage_report(const struct quire_cache *c, const void *obj, const uint8_t *at, int want);
/* verify.c: the sheaves of one context, which must be at rest; adds what is in them. */
bool qi_verify_sheaves(struct quire_cache *c, struct qi_cache_cpu *cc, uint64_t *cached);

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
/* A slab goes: interrupts off, no object of it is out, its pages are no slab's any more. */
void qi_track_slab_gone(struct qi_slab *s);

/* ---- for the leak scan ---- */

/* Guards the large records; while it is held, and qi_track_watch(true) was called, no slab that was
 * found by its pages goes, nor its header, nor memory with a large record.  Interrupts off; leaf. */
extern struct qi_spin qi_track_lock;
/* Large records that are freed stay in memory until it is over.  One at a time. */
void qi_track_watch_begin(void);
void qi_track_watch_end(void);
/* Up to max large records from number first on, in no order; how many.  Locked. */
size_t qi_track_large_list(size_t first, struct qi_track_large **out, size_t max);
uint32_t qi_track_now(void);
/* The live record of the object, of whatever kind, that starts at p, or NULL.  Locked. */
struct qi_track *qi_track_find(const void *p);

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
