/*
 * quire/rcu.h - readers that take no lock, and whoever waits for them.
 *
 * A reader announces itself, follows pointers, and says when it is done; a writer takes an object out of
 * reach and frees it when every reader that may have found it is done: quire_kfree_rcu() (quire/heap.h)
 * later, or after quire_rcu_wait().  The port has nothing to do for it, and a CPU where nobody reads is
 * never waited for.
 */
#ifndef QUIRE_RCU_H
#define QUIRE_RCU_H

#include <quire/port.h>

/* Any context.  Until the unlock, which gets what this returned, preemption is off: do not sleep.  Nests. */
uint64_t quire_rcu_read_lock(void);
void quire_rcu_read_unlock(uint64_t token);

/* Returns when all readers that were there at the call are done.  Task context, not a reader. */
void quire_rcu_wait(void);

#endif
