/*
 * sync/rcu.h - grace periods for those who free; quire/rcu.h has the readers' part, rcu.c the theory.
 */
#ifndef QI_SYNC_RCU_H
#define QI_SYNC_RCU_H

#include <quire/rcu.h>

/* Begin a grace period; what was taken out of reach before the call may be freed when it is over.  Numbers only
 * grow.  Any context. */
uint64_t qi_rcu_start(void);
/* It is over.  Those before it are, too. */
bool qi_rcu_over(uint64_t period);

#endif
