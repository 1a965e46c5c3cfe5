/*
 * slab/sites.h - how much each call site has allocated.
 */
#ifndef QI_SITES_H
#define QI_SITES_H

#include <quire/track.h>

void qi_sites_init(void);
/* Take the table's memory, once; false: no memory.  Task. */
bool qi_sites_start(void);
/* The number of a call site, 1..; 0: the table is full.  Any context. */
uint32_t qi_site_of(uintptr_t caller);
/* bytes more, or fewer, in one object more, or fewer.  Any context. */
void qi_site_add(uint32_t site, size_t bytes);
void qi_site_sub(uint32_t site, size_t bytes);
/* An object of the site has other bytes now. */
void qi_site_resize(uint32_t site, size_t from, size_t to);
/* Sites in use, what is live over all, and the table's memory. */
void qi_sites_totals(struct quire_track_stats *out);

#endif
