/*
 * core/heapwatch.h - observing the heap: quire/track.h and quire/leak.h in this kernel.
 */
#ifndef HEAPWATCH_H
#define HEAPWATCH_H

#include "k.h"
#include <quire/leak.h>

/* ---- heapwatch.c ---- */

/* Once the heap is there. */
void heap_watch_init(void);
/* Lines of quire.report: the call sites that hold most, if the heap is tracked. */
void heap_watch_print(void);

/* ---- leakscan.c ---- */

struct leakscan_state {
    bool automatic, off; /* the thread scans; nobody does any more */
    u32 period_secs;
    u64 by_itself;                /* scans of the thread */
    struct quire_leak_stats last; /* of whatever scan was the last */
};
struct leakscan_state leakscan_state(void);
/* heap=leakscan was given, and leakscan_off() was not called. */
bool leakscan_enabled(void);
/* Once tasks can be started: the thread that scans by itself, if the heap has the mode. */
void leakscan_start(void);
/* Tasks: scan, and tell the log if there is news. */
enum quire_status leakscan_now(void);
/* The thread scans from now on, at once if it did not, or no more; at another period, 0: no more. */
void leakscan_automatic(bool on);
void leakscan_period(u32 secs);
/* For good. */
void leakscan_off(void);
/* Are the stacks of tasks looked at?  Without, what only they hold is taken for lost. */
bool leakscan_sees_stacks(void);
void leakscan_set_stacks(bool on);

#endif
