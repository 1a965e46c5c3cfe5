/*
 * sync/spin.h - spin locks.
 *
 * One 32-bit word, test-and-set with a read-only wait: the shortest uncontended path (one exchange
 * to lock, one store to unlock) and hot locks are split per CPU, per block or per node instead of
 * being made fair.  Two flavours by who else may take the lock:
 *
 *   qi_spin_lock      only tasks: preemption off
 *   qi_spin_lock_irq  also interrupt handlers: interrupts off on this CPU
 *
 * Every lock has a class (a static struct) that names it; the order between classes is the layer
 * order (see ARCHITECTURE.md), inside a layer the order written at the class.
 */
#ifndef QI_SYNC_SPIN_H
#define QI_SYNC_SPIN_H

#include "../base/atomic.h"
#include "../base/check.h"
#include "class.h"

struct qi_spin {
    uint32_t word; /* 0 free, 1 taken */
};

static inline void qi_spin_init(struct qi_spin *l, const struct qi_lock_class *c)
{
    (void)c;
    l->word = 0;
    QPORT_EVENT(LOCK_INIT, l, (uintptr_t)c->name);
}

static inline bool qi_spin_try_raw(struct qi_spin *l)
{
    bool got;

    QPORT_POINT(LOCK, l);
    got = !__atomic_exchange_n(&l->word, 1, __ATOMIC_ACQUIRE);
    if (QI_LIKELY(got))
        QPORT_EVENT(LOCKED, l, 0);
    return got;
}

/* Out of line: wait until the word is seen free, take it. */
void qi_spin_contended(struct qi_spin *l);

static inline void qi_spin_lock_raw(struct qi_spin *l)
{
    if (QI_UNLIKELY(!qi_spin_try_raw(l)))
        qi_spin_contended(l);
}
static inline void qi_spin_unlock_raw(struct qi_spin *l)
{
    QI_ASSERT(__atomic_load_n(&l->word, __ATOMIC_RELAXED));
    QPORT_POINT(UNLOCK, l);
    QPORT_EVENT(UNLOCK, l, 0);
    __atomic_store_n(&l->word, 0, __ATOMIC_RELEASE);
    QPORT_UNLOCKED(l);
}

static inline void qi_spin_lock(struct qi_spin *l)
{
    qport_preempt_disable();
    qi_spin_lock_raw(l);
}
static inline void qi_spin_unlock(struct qi_spin *l)
{
    qi_spin_unlock_raw(l);
    qport_preempt_enable();
}
static inline unsigned long qi_spin_lock_irq(struct qi_spin *l)
{
    unsigned long flags = qport_irq_save();

    qi_spin_lock_raw(l);
    return flags;
}
static inline void qi_spin_unlock_irq(struct qi_spin *l, unsigned long flags)
{
    qi_spin_unlock_raw(l);
    qport_irq_restore(flags);
}

#endif
