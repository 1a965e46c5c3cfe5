/*
 * slab/leak.h - what the leak scan (leak.c) and the views of what it found (leakview.c) share.
 */
#ifndef QI_LEAK_H
#define QI_LEAK_H

#include <quire/leak.h>

#include "track.h"

#if QUIRE_TRACK
void qi_leak_init(void);
/* The object at p is about to be freed when its readers have gone: no word needs to point to it; or it is not
 * after all.  The caller holds it.  Any context. */
void qi_leak_late(const void *p);
void qi_leak_not_late(const void *p);
#else
static inline void qi_leak_init(void) {}
static inline void qi_leak_late(const void *p) { (void)p; }
static inline void qi_leak_not_late(const void *p) { (void)p; }
#endif

/* A tracked object. */
struct qi_found {
    struct qi_track *t;
    uintptr_t start;
    size_t bytes;
};

/* Not seen by the monitors of races: whoever has the memory may write it at this moment. */
__attribute__((no_sanitize("thread", "address", "kernel-address"))) static inline uintptr_t
qi_leak_word(uintptr_t at)
{
    return *(const volatile uintptr_t *)at;
}

typedef void (*qi_leak_one)(void *ctx, const struct qi_found *f);

extern struct qi_rwsem qi_leak_lock; /* one scan, or look at its result, at a time */
extern uint32_t qi_leak_scans;       /* qi_leak_lock: the number of the last */

/* ---- leakwalk.c ---- */

/* The slab of users' objects that has the page of p, or NULL.  qi_track_lock is held. */
struct qi_slab *qi_leak_slab_at(uintptr_t p);
/* Object i of a slab.  qi_track_lock is held. */
struct qi_found qi_leak_object(struct qi_slab *s, unsigned i);
/* Call one, with qi_track_lock held, for each object of a slab that has a live record; pause without, now
 * and then. */
void qi_leak_walk(qi_leak_one one, void (*pause)(void *ctx, size_t words), void *ctx);
/* Call range, without a lock, for memory of users that is out and has no record: of slabs, and runs
 * that are_known() does not know. */
void qi_leak_walk_unknown(void (*range)(void *ctx, uintptr_t from, uintptr_t to),
                          bool (*is_known)(void *ctx, uintptr_t start), void *ctx);
/* Call one for the owner word of each frame that somebody other than the heap holds. */
void qi_leak_walk_owners(void (*one)(void *ctx, uintptr_t owner), void *ctx);

#endif
