/*
 * kernel/include/ktime.h - the clock beyond what k.h says.
 */
#ifndef K_KTIME_H
#define K_KTIME_H

#include "k.h"

/* Set the date: krealtime_ns() is ns now. */
void krealtime_set(u64 ns);
/* TSC ticks (measure.h) in nanoseconds. */
u64 ktime_ticks_to_ns(u64 ticks);

#endif
