/*
 * quire/leak.h - lost memory: objects that nothing in memory points to any more.
 *
 * The heap has to be started with QUIRE_HEAP_LEAKSCAN (quire/harden.h), which tracks every allocation.
 * A scan looks for words that are addresses of, or in, allocated objects: first in the roots, which the
 * embedder names, and in what the heap does not know, then in each object so found.  What is not found
 * in a scan, is as it was when the scan before did not find it either, and is old enough, is reported
 * with who allocated it.  A word that only looks like an address hides a leak; nothing makes
 * one up but an address that is nowhere in memory as it is (packed into fewer bits, say): mark
 * such objects.
 *
 * All calls are for tasks, but the marks, which may be made anywhere.
 */
#ifndef QUIRE_LEAK_H
#define QUIRE_LEAK_H

#include <quire/heap.h>

/*
 * What the embedder does for a scan.  roots calls quire_leak_root() for its data and bss, for the
 * stacks of all tasks with the registers saved there, and for memory that it has from the frame
 * allocator directly, if they can hold addresses of objects.  It may hold spin locks of its own, also with
 * interrupts off.  pause, or NULL, is called now and then without any lock: it may let others run.
 */
struct quire_leak_hooks {
    void (*roots)(void *scan, void *ctx);
    void (*pause)(void *ctx);
    void *ctx;
};
/* NULL: no roots.  The struct is copied. */
void quire_leak_set_hooks(const struct quire_leak_hooks *hooks);
/* Inside roots: look at each word of [from, to). */
void quire_leak_root(void *scan, const void *from, const void *to);

struct quire_leak_stats {
    uint64_t scans;
    uint64_t objects;         /* with a record, at the last scan */
    uint64_t suspects, bytes; /* found lost by it */
    uint64_t fresh;           /* of them, not by the one before */
};
/* Scan once.  Two are needed to find anything.  UNSUPPORTED: the heap was not started for it; NO_MEMORY.
 * One at a time: a second caller waits. */
enum quire_status quire_leak_scan(struct quire_leak_stats *out);
/* The suspects of now are none from here on. */
void quire_leak_clear(void);
/* Objects younger than this are not reported; 5,000 at the start. */
void quire_leak_min_age(uint32_t ms);

struct quire_leak {
    const void *start;
    size_t bytes; /* asked for */
    uint32_t age_ms;
    uintptr_t task; /* who allocated it */
    unsigned cpu;
    unsigned nframes;
    const uintptr_t *frames; /* from where; constant as long as the heap */
    uint32_t content;        /* a checksum */
};
/* Call one for each suspect of the last scan that is still allocated, in order of address, until it
 * returns false. */
void quire_leak_each(bool (*one)(const struct quire_leak *leak, void *ctx), void *ctx);
/* They, as Linux's /sys/kernel/debug/kmemleak has them.  As in quire/stats.h. */
size_t quire_leak_text(char *buf, size_t cap);

/* Objects of this cache are neither reported nor looked into, now and later: books that have the addresses of
 * what they keep count of. */
void quire_leak_hide(struct quire_cache *c);
/* Of the allocated object that starts at p; nothing if it is not tracked. */
void quire_leak_not_leak(const void *p); /* held in a way that no scan sees: a root */
void quire_leak_ignore(const void *p);   /* neither reported nor looked into */
void quire_leak_no_scan(const void *p);  /* holds no addresses: not looked into */

#endif
