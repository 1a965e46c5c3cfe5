/*
 * machine.h - the simulated machine as a whole: memory, MMU, monitor and library brought up
 * together, and looked at when it stands still.
 */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

#include <stdio.h>

#include "engine.h"

struct sim_watch {
    bool weak, races;
    unsigned tlb_entries; /* 0: drawn */
    unsigned speculate;   /* once in so many accesses; 0 never */
};

/* Map the memory, reset all parts, initialise the library up to address spaces.  Exits with 2 if
 * the host has not enough memory. */
void sim_machine_start(const struct sim_machine *m, const struct sim_watch *w);
/* Kernel virtual areas of the machine. */
#define SIM_AREAS_START 0xffffc90000000000ull
#define SIM_AREAS_BYTES (1ull << 30)
/* Behind all windows: pages that tools/sim/guards.c closes. */
#define SIM_GUARDS_START (SIM_AREAS_START + (3ull << 40))

/* The last line that the library logged as an error, or "". */
const char *sim_last_error(void);

/* Where the report of a finding goes; NULL: nowhere.  on_fail is called before the process ends. */
void sim_report_to(FILE *out, void (*on_fail)(const char *kind, const char *text));

/* From now on these are called first, unless NULL: with each event of the library's, each line that it logs as an error,
 * and before a panic becomes a finding. */
void sim_on_trouble(void (*event)(enum sim_event_kind kind, const void *ptr, uint64_t n),
                    void (*log)(const char *line), void (*panic)(const char *text));

/* An access by the running task (or, with a kernel address, by anyone): a point, then the
 * translation and the access in one step, as one instruction.  False: an exception; *reply says
 * what the MMU knows. */
enum sim_access { SIM_ACCESS_READ, SIM_ACCESS_WRITE };
bool sim_access(uint64_t va, enum sim_access kind, bool user, uint64_t *value);
/* The kernel's table. */
q_pa sim_kernel_root(void);

#endif
