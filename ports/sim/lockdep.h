/*
 * lockdep.h - the order in which locks are taken, learnt from the library's events.
 *
 * Found, each as a finding of that name: lock-order (two classes taken in both orders, or a cycle
 * of more), lock-recursion (a class inside itself, where that is not documented), irq-unsafe (a
 * spin lock that an interrupt handler takes, taken with interrupts on), sleep-in-atomic (a sleep
 * with a spin lock held, or preemption or interrupts off), lock-not-held (an unlock of what is not held), lock-leak (a task ends
 * with a lock).
 */
#ifndef SIM_LOCKDEP_H
#define SIM_LOCKDEP_H

#include <quire/port.h>

/* Forget everything. */
void lockdep_reset(void);
/* LOCK_INIT, LOCKED or UNLOCK, see QPORT_EVENT; pc: where in the library. */
void lockdep_event(enum sim_event_kind kind, const void *ptr, uint64_t n, const void *pc);
/* The running task may sleep here. */
void lockdep_might_sleep(void);
/* The running task returns. */
void lockdep_task_ends(void);

#endif
