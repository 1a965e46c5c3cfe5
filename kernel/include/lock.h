/*
 * kernel/include/lock.h - the kernel's own locks.
 *
 * kspin: short sections; interrupts off while held, so usable from handlers.  kmutex: may sleep.
 * Order, outermost first: file-system mutexes, process lock, wait-queue locks, run-queue locks.
 */
#ifndef K_LOCK_H
#define K_LOCK_H

#include "k.h"
#include <quire/port.h>

struct kspin {
    u32 word;
};

static inline unsigned long kspin_lock(struct kspin *l)
{
    unsigned long flags = qport_irq_save();

    while (__atomic_exchange_n(&l->word, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&l->word, __ATOMIC_RELAXED))
            qport_relax();
    return flags;
}
static inline void kspin_unlock(struct kspin *l, unsigned long flags)
{
    __atomic_store_n(&l->word, 0, __ATOMIC_RELEASE);
    qport_irq_restore(flags);
}

/* 0 free, 1 held, 2 held and somebody waits (Drepper, "Futexes are tricky", mutex 3). */
struct kmutex {
    u32 word;
};
void kmutex_lock_slow(struct kmutex *m);
static inline void kmutex_lock(struct kmutex *m)
{
    u32 free = 0;

    if (!__atomic_compare_exchange_n(&m->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        kmutex_lock_slow(m);
}
static inline void kmutex_unlock(struct kmutex *m)
{
    if (__atomic_exchange_n(&m->word, 0, __ATOMIC_RELEASE) == 2)
        qport_wake(&m->word, 1);
}

#endif
