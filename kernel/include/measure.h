/*
 * kernel/include/measure.h - time spent in the memory manager, counted only when quire.report asks
 * for it.
 */
#ifndef K_MEASURE_H
#define K_MEASURE_H

#include "k.h"

enum measure_kind { MEASURE_FAULT, MEASURE_CALL, MEASURE_MOVE, MEASURE_KINDS };

extern bool measure_on; /* set once at boot */
void measure_add(enum measure_kind kind, u64 ticks);

static inline u64 measure_ticks(void)
{
    u32 lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}

/* 0 when off. */
static inline u64 measure_begin(void)
{
    return __builtin_expect(measure_on, 0) ? measure_ticks() : 0;
}
static inline void measure_end(enum measure_kind kind, u64 begin)
{
    if (__builtin_expect(begin != 0, 0))
        measure_add(kind, measure_ticks() - begin);
}

#endif
