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
/* /proc/zoneinfo: watermarks, sizes and per-CPU lists of each zone. */
size_t quire_zoneinfo(char *buf, size_t cap);
/* /proc/slabinfo, version 2.1. */
size_t quire_slabinfo(char *buf, size_t cap);

#endif
