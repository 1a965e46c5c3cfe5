/*
 * quire/stats.h - the texts of /proc: what a kernel's own memory files show.
 *
 * Each writes at most cap - 1 characters and a 0 to buf (cap 0: nothing) and returns the full
 * length, like snprintf(3).  Task context.
 */
#ifndef QUIRE_STATS_H
#define QUIRE_STATS_H

#include <quire/types.h>

/* /proc/buddyinfo: free blocks of each order, a line for each zone. */
size_t quire_buddyinfo(char *buf, size_t cap);
/* /proc/pagetypeinfo: the same by migrate type, and how many pageblocks are of each. */
size_t quire_pagetypeinfo(char *buf, size_t cap);
/* The unusable free space index and the fragmentation index of each zone and order (quire/frame.h),
 * in the form of /sys/kernel/debug/extfrag. */
size_t quire_extfrag_unusable(char *buf, size_t cap);
size_t quire_extfrag_index(char *buf, size_t cap);
/* Everything that a picture of memory wants (docs/design/frames.md has the format). */
size_t quire_blockinfo(char *buf, size_t cap);
/* /proc/zoneinfo: watermarks, sizes and per-CPU lists of each zone. */
size_t quire_zoneinfo(char *buf, size_t cap);
/* /proc/slabinfo, version 2.1. */
size_t quire_slabinfo(char *buf, size_t cap);
/* /proc/allocinfo, version 1.0: live bytes and allocations of each call site that was seen
 * (quire/track.h), with its place in the code instead of file and line. */
size_t quire_allocinfo(char *buf, size_t cap);

#endif
