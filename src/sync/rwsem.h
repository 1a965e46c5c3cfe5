/*
 * sync/rwsem.h - a sleeping lock with many readers or one writer.
 *
 * One state word: bit 31 a writer holds it, bit 30 somebody waits, bits 0..29 the readers.  The
 * uncontended paths are one compare-and-swap each way.  A waiter sets bit 30 and sleeps on the
 * word through qport_wait; while bit 30 is set no new reader enters, so writers do not starve.
 * Whoever releases the lock last with bit 30 set clears it and wakes all: they race afresh.
 *
 * Task context only.  Not recursive.
 */
#ifndef QI_SYNC_RWSEM_H
#define QI_SYNC_RWSEM_H

#include "../base/atomic.h"
#include "../base/check.h"
#include "class.h"

#define QI_RWSEM_WRITER 0x80000000u
#define QI_RWSEM_WAITER 0x40000000u

struct qi_rwsem {
    uint32_t state;
};

static inline void qi_rwsem_init(struct qi_rwsem *s, const struct qi_lock_class *c)
{
    (void)c;
    s->state = 0;
    QPORT_EVENT(LOCK_INIT, s, (uintptr_t)c->name);
}

void qi_rwsem_read_contended(struct qi_rwsem *s);
void qi_rwsem_write_contended(struct qi_rwsem *s);
void qi_rwsem_wake(struct qi_rwsem *s);

static inline bool qi_rwsem_try_read(struct qi_rwsem *s)
{
    uint32_t old = qi_load_relaxed(&s->state);
    bool got =
        !(old & (QI_RWSEM_WRITER | QI_RWSEM_WAITER)) && qi_cas_acqrel(&s->state, &old, old + 1);

    if (QI_LIKELY(got))
        QPORT_EVENT(LOCKED, s, 1);
    return got;
}
static inline void qi_rwsem_read_lock(struct qi_rwsem *s)
{
    if (QI_UNLIKELY(!qi_rwsem_try_read(s)))
        qi_rwsem_read_contended(s);
}
static inline void qi_rwsem_read_unlock(struct qi_rwsem *s)
{
    uint32_t old;

    QPORT_EVENT(UNLOCK, s, 1);
    old = qi_fetch_sub_acqrel(&s->state, 1u);
    QI_ASSERT(old & ~(QI_RWSEM_WRITER | QI_RWSEM_WAITER));
    if (QI_UNLIKELY(old == (QI_RWSEM_WAITER | 1)))
        qi_rwsem_wake(s);
}
static inline void qi_rwsem_write_lock(struct qi_rwsem *s)
{
    uint32_t old = 0;

    if (QI_UNLIKELY(!qi_cas_acqrel(&s->state, &old, QI_RWSEM_WRITER)))
        qi_rwsem_write_contended(s);
    QPORT_EVENT(LOCKED, s, 2);
}
/* Does not wait: with preemption off, too. */
static inline bool qi_rwsem_try_write(struct qi_rwsem *s)
{
    uint32_t old = 0;
    bool got = qi_cas_acqrel(&s->state, &old, QI_RWSEM_WRITER);

    if (QI_LIKELY(got))
        QPORT_EVENT(LOCKED, s, 3);
    return got;
}
static inline void qi_rwsem_write_unlock(struct qi_rwsem *s)
{
    uint32_t old;

    QPORT_EVENT(UNLOCK, s, 2);
    old = qi_fetch_and_acqrel(&s->state, ~QI_RWSEM_WRITER);
    QI_ASSERT(old & QI_RWSEM_WRITER);
    if (QI_UNLIKELY(old & QI_RWSEM_WAITER))
        qi_rwsem_wake(s);
}
/* The writer becomes a reader without letting another writer in between. */
static inline void qi_rwsem_downgrade(struct qi_rwsem *s)
{
    uint32_t old = qi_load_relaxed(&s->state);

    QPORT_EVENT(UNLOCK, s, 2);
    while (!qi_cas_acqrel(&s->state, &old, (old & ~QI_RWSEM_WRITER) + 1)) {
    }
    QPORT_EVENT(LOCKED, s, 1);
}

#endif
