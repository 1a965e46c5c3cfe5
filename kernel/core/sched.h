/*
 * core/sched.h - the scheduler's names for its own files.
 */
#ifndef CORE_SCHED_H
#define CORE_SCHED_H

#include "k.h"

struct cpu;
struct task;

enum { SCHED_NORMAL, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 5, SCHED_DEADLINE };

void sched_cpu_online(void);
void sched_account(struct task *t, u64 now);
/* How long until this CPU's running task wants a tick; 0: none.  Interrupts off. */
u64 sched_tick_after(struct cpu *c);
void sched_change(struct task *t, int policy, int rt_priority, int nice);
u64 sched_slice_ns(const struct task *t);

#endif
