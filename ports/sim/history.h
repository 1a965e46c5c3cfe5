/*
 * history.h - the engine's side of history.c; reports use sim_frame_history() of sim.h.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include <quire/port.h>

/* A machine of n frames, nothing known. */
void sim_history_init(uint64_t n);
void sim_history_event(enum sim_event_kind kind, uint64_t pfn, unsigned order, const void *pc);

#endif
