/*
 * quire/track.h - who allocated what.  A part of the heap that is off until asked for: by
 * QUIRE_HEAP_TRACK at the start (quire/harden.h), or here.
 *
 * While a cache is tracked, each of its objects has a record: who allocated it (call site, stack,
 * task, CPU, time) and for how many bytes, and who freed it, until it is allocated again.  What was
 * allocated before is not known.  Whatever the heap then reports about an object says these too.
 *
 * A call site is the return address of the public call.  How much of the stack is seen depends on
 * the port (QPORT_BACKTRACE).  Records cost 80 bytes an object, and time mostly for the walk of
 * the stack; what is not tracked costs nothing.
 */
#ifndef QUIRE_TRACK_H
#define QUIRE_TRACK_H

#include <quire/heap.h>

/* Track every cache, those made later too; or none any more: what is known of objects that are out
 * stays until they are freed.  NO_MEMORY: nothing has changed; UNSUPPORTED: built without. Task. */
enum quire_status quire_track_start(void);
void quire_track_stop(void);
/* One cache alone. */
enum quire_status quire_cache_track_start(struct quire_cache *c);
void quire_cache_track_stop(struct quire_cache *c);

struct quire_site {
    uintptr_t caller; /* 0: the sites that the table had no room for */
    uint64_t bytes;   /* asked for, live */
    uint64_t count;   /* live allocations */
    uint64_t peak;    /* most bytes at a time */
    uint64_t calls;   /* allocations ever */
};
/* The max call sites with most live bytes, in falling order, into out; how many.  Task. */
size_t quire_heap_sites(struct quire_site *out, size_t max);

struct quire_track_stats {
    uint64_t sites, live, bytes; /* call sites; objects with a record, and what they asked for */
    uint64_t lost;               /* allocations without a record, for want of memory */
    uint64_t traces, traces_refused; /* different stacks kept; not kept for want of room */
    uint64_t memory;                 /* bytes that all this takes, but for the records */
};
void quire_track_stats(struct quire_track_stats *out);

/* Log what the heap knows about the memory at p, whatever p is: which object of which cache, whether it is
 * out, who allocated and who freed it.  False: nothing is known.  Any context. */
bool quire_heap_describe(const void *p);

#endif
