/*
 * machine.h - a small multi-processor that runs litmus programs in every way it can.
 *
 * It has nothing in common with the axioms of execution.h but the paths of a program: it has
 * processors, memory and store buffers, and steps.  Three kinds:
 *
 *   MACHINE_SC    one instruction after the other, each at once in memory
 *   MACHINE_TSO   stores go to a buffer of their processor, first in first out, which leaks to
 *                 memory at any time; loads look there first; locked operations and store_load wait
 *                 until it is empty (Owens, Sarkar, Sewell 2009, the abstract machine)
 *   MACHINE_WEAK  out of order: any access may be done before earlier ones unless a barrier, an
 *                 acquire or release, the same location or a dependency orders the two, each
 *                 barrier exactly its pair; loads may be done before branches are decided and may
 *                 take the value of a waiting store of their own processor; one memory for all
 *                 (after Pulte et al. 2018, the flat machine)
 */
#ifndef LITMUS_MACHINE_H
#define LITMUS_MACHINE_H

#include "program.h"

enum machine { MACHINE_SC, MACHINE_TSO, MACHINE_WEAK, MACHINES };

/* All outcomes. */
void machine_run(const struct program *p, enum machine kind, struct outcomes *out);

#endif
