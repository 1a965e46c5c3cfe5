/*
 * monitor.h - sees every access that the library makes, and judges it.
 *
 * The library is compiled with -fsanitize=thread, so each plain access, each atomic with its order,
 * each fence and each function entry is a call of a function __tsan_...  These functions are ours
 * (monitor.c, monitor_atomic.c); the compiler's runtime is not linked.  What they find:
 *
 *   race            two accesses to the same byte, one of them a write, one of them plain, of two
 *                   CPUs, and nothing orders them (monitor_race.c)
 *   use-after-free  an access to a frame or heap object that is free; with double-free and
 *                   double-alloc from the same books (monitor_shadow.c)
 *   (a wrong result) because a load returned an older store than the newest, as a weakly ordered
 *                   CPU's may (monitor_atomic.c); whoever checks results finds it
 */
#ifndef SIM_MONITOR_H
#define SIM_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/port.h>

struct monitor_config {
    uint64_t memory;       /* bytes of simulated memory from SIM_DIRECT_BASE on */
    bool races;            /* plain against plain */
    bool mixed_races;      /* plain against atomic */
    bool frees;            /* use after free, double free */
    unsigned stale_one_in; /* a load may be stale once in so many; 0: never */
};

/* Forget everything; from here on watch as told.  sim_cpus() is the number of CPUs. */
void monitor_init(const struct monitor_config *c);

/* ---- What the engine tells ---- */

/* The running CPU created the task: what came before is ordered before the task's first step. */
void monitor_task_spawned(unsigned task);
/* The task is about to run on cpu, whatever is done for it before its first step; it has let go of
 * cpu. */
void monitor_task_enters(unsigned task, unsigned cpu);
void monitor_task_leaves(unsigned task, unsigned cpu);
/* The running CPU is on another fibre than before. */
void monitor_fibre_switched(void);
/* An event of the library, see QPORT_EVENT; pc: where in the library. */
void monitor_event(enum sim_event_kind kind, const void *ptr, uint64_t n, const void *pc);

/*
 * An order that the machine gives and the library does not see: all that the releasing CPU did
 * before is ordered before all that a CPU does after it has acquired the same key.  For interrupts
 * that one CPU asks another for, sleep and wake, devices.
 */
void monitor_release(const void *key);
void monitor_acquire(const void *key);
/* Everything that any CPU did so far is ordered before everything that follows: the start and the
 * end of a run, and checks that stop the machine. */
void monitor_all_ordered(void);

/* The simulated hardware wrote n bytes (accessed and dirty bits, a device): loads see that. */
void monitor_hw_write(const void *address, size_t n);

/* What a hook of the port does in the library's name: it clears and copies pages. */
void monitor_reads(const void *address, size_t n);
void monitor_writes(const void *address, size_t n);

/* Between the two, accesses are not judged: an oracle looks.  They nest. */
void monitor_pause(void);
void monitor_resume(void);

/* From here on accesses are not judged at all: the program itself is wrong. */
void monitor_blind(void);

/* Accesses seen so far. */
uint64_t monitor_accesses(void);

#endif
