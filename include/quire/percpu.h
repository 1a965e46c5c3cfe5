/*
 * quire/percpu.h - memory of which each CPU has a copy: counters and lists that one CPU writes without a lock.
 *
 * An allocation is known by the address of CPU 0's copy.  That of CPU n lies n times QUIRE_PERCPU_UNIT further
 * and in memory of that CPU's node, so that finding it is an addition; nothing else is near it that another CPU
 * writes.  Copies lie in kernel areas (quire/kva.h).
 */
#ifndef QUIRE_PERCPU_H
#define QUIRE_PERCPU_H

#include <quire/kva.h>
#include <quire/port.h>

/* Bytes from one CPU's copy to the next one's; the largest allocation. */
#define QUIRE_PERCPU_UNIT 32768u

/*
 * A copy of size bytes for each CPU, all zero, aligned to align (a power of two, up to QUIRE_PERCPU_UNIT).  NULL: no
 * memory, or size or align is 0 or too large.  gfp: QUIRE_GFP_ATOMIC takes what is there already, in any context;
 * else task context.  Nothing else of gfp matters but NORETRY and MEMALLOC.
 */
void *quire_percpu_alloc(size_t size, size_t align, quire_gfp gfp);
/* p as it was given (CPU 0's copy); NULL is fine.  Any context.  Panics if p is not an allocation that is out. */
void quire_percpu_free(void *p);

/* CPU n's copy.  Any context; n is not checked. */
static inline void *quire_percpu_ptr(void *p, unsigned cpu)
{
    return (char *)p + (uintptr_t)cpu * QUIRE_PERCPU_UNIT;
}
/* This CPU's; preemption off for as long as it must stay so. */
static inline void *quire_percpu_this(void *p)
{
    return quire_percpu_ptr(p, (unsigned)qport_cpu());
}

struct quire_percpu_stats {
    uint64_t objects; /* allocations that are out */
    uint64_t bytes;   /* of them, of one CPU */
    uint64_t frames;  /* of memory, of all CPUs */
};
/* Any context. */
void quire_percpu_stats(struct quire_percpu_stats *out);
/* QUIRE_CORRUPT, and the log says what: the books of what is free do not agree.  Any context. */
enum quire_status quire_percpu_verify(void);

#endif
