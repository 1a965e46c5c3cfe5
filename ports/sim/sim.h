/*
 * sim.h - what the parts of the simulated port share: the engine's view of CPUs and tasks, random
 * streams, and how a run ends.
 *
 * A simulated machine lives in one thread of one process.  Its CPUs take turns at the scheduling
 * points of the library (QPORT_POINT); between two points a CPU runs alone.  Everything that may
 * differ between two runs comes from the seed, through the streams below.
 *
 *   engine.c    CPUs, tasks, interrupts, time, who runs next
 *   strategy.c  the choice: random, priorities with change points, bounded preemption, replay
 *   mmu.c       page walks, TLBs and walk caches; walk_*.c the formats
 *   monitor.c   every access of the library: races, use after free, weak memory
 *   lockdep.c   the order of locks
 *   history.c   what happened to each frame
 *   report.c    how a finding is shown
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

enum { SIM_MAX_CPUS = 64, SIM_MAX_TASKS = 128 };

/* Fixed places, so that addresses are the same in every run. */
#define SIM_DIRECT_BASE  0x100000000000ull /* the simulated physical memory */
#define SIM_VMEMMAP_BASE 0x200000000000ull
#define SIM_STACKS_BASE  0x300000000000ull

/* ---- Random streams: independent, so that one more draw here does not change what is drawn there */
enum sim_stream {
    SIM_RANDOM_PROGRAM,  /* what the tasks do */
    SIM_RANDOM_SCHEDULE, /* who runs next */
    SIM_RANDOM_FAULTS,   /* what goes wrong */
    SIM_RANDOM_TLB,      /* what a TLB keeps, drops and fills on speculation */
    SIM_RANDOM_WEAK,     /* which store a weakly ordered load sees */
    SIM_RANDOM_LIBRARY,  /* qport_random() */
    SIM_STREAMS
};
void sim_random_seed(uint64_t seed);
uint64_t sim_random(enum sim_stream s);
/* 0..n-1; n >= 1. */
uint64_t sim_below(enum sim_stream s, uint64_t n);
/* True once in n times. */
bool sim_one_in(enum sim_stream s, uint64_t n);

/* ---- Where we are ---- */

unsigned sim_cpu(void);         /* the CPU that runs: 0.. */
unsigned sim_cpus(void);        /* how many there are */
unsigned sim_task_number(void); /* the task that runs, 1..; 0: the idle loop, or before the start */
uint64_t sim_points(void);      /* scheduling points so far */
bool sim_irqs_off(void);        /* the CPU that runs has its interrupts off */
bool sim_preempt_off(void);     /* its task must not leave it */
bool sim_in_irq(void);          /* it is in an interrupt handler */

/* ---- Findings ---- */

/*
 * The run has found an error: kind is one word for its class ("stale-tlb", "race", "use-after-free"
 * ...), the text says what, with values.  Prints the report, ends the run; does not return.
 */
_Noreturn void sim_fail(const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* More lines for the report that is being written, before sim_fail(): histories, backtraces. */
void sim_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- The shadow of frames (history.c) ---- */

/* Note the last things that happened to a frame on the report: who allocated and freed it when. */
void sim_frame_history(uint64_t pfn);

#endif
