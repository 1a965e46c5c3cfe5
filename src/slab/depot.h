/*
 * slab/depot.h - stack traces, each kept once.
 *
 * Programs allocate from a few thousand places, however often: a trace is stored at its first use
 * and named by a number from then on.  Traces are never dropped, so that a number stays good as
 * long as the heap; the memory for them is bounded (QUIRE_TRACK_DEPOT_KB).
 */
#ifndef QI_DEPOT_H
#define QI_DEPOT_H

#include <quire/types.h>

/* Forget everything; the start of the heap. */
void qi_depot_init(void);
/* Take the table's memory, once; false: no memory.  Task. */
bool qi_depot_start(void);
/* The number of this trace of n >= 1 addresses; 0: no room.  Any context. */
uint32_t qi_depot_put(const uintptr_t *frames, unsigned n);
/* The addresses of a number, 0 for number 0.  Constant as long as the heap.  Any context. */
unsigned qi_depot_get(uint32_t id, const uintptr_t **frames);

struct qi_depot_stats {
    uint64_t traces, bytes, refused; /* bytes: of memory taken; refused: for want of room */
};
struct qi_depot_stats qi_depot_stats(void);

#endif
