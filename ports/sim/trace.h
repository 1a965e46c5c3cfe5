/*
 * trace.h - the last points of a run, for reports, and the number over all of them.
 */
#ifndef SIM_TRACE_H
#define SIM_TRACE_H

#include <stdio.h>

#include <quire/port.h>

void sim_trace_reset(void);
/* A point of this CPU and task: what it is about to do, to what, from where in the code. */
void sim_trace(enum sim_point_kind kind, const void *ptr, const void *pc);
/* Print the last n points, oldest first, a column for each CPU. */
void sim_trace_print(FILE *out, unsigned n);
/* Print every point as it comes, a line each (NULL: no more). */
void sim_trace_live(FILE *out);

#endif
