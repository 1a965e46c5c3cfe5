/*
 * sync/rwsem.c - the slow paths of sleeping locks.  See rwsem.h.  A file of its own: who links no
 * sleeping lock need not have qport_wait.
 */
#include "rwsem.h"

/* Say that somebody waits, then sleep unless the word has changed meanwhile. */
static void wait_for_change(struct qi_rwsem *s, uint32_t seen)
{
    uint32_t waiting = seen | QI_RWSEM_WAITER;

    if (seen == waiting || qi_cas_acqrel(&s->state, &seen, waiting))
        qport_wait(&s->state, waiting);
}

void qi_rwsem_read_contended(struct qi_rwsem *s)
{
    for (;;) {
        uint32_t old = qi_load_relaxed(&s->state);

        if (!(old & (QI_RWSEM_WRITER | QI_RWSEM_WAITER))) {
            if (qi_cas_acqrel(&s->state, &old, old + 1)) {
                QPORT_EVENT(LOCKED, s, 1);
                return;
            }
        } else {
            wait_for_change(s, old);
        }
    }
}

void qi_rwsem_write_contended(struct qi_rwsem *s)
{
    for (;;) {
        uint32_t old = qi_load_relaxed(&s->state);

        /* take it with the waiter bit kept: whoever else sleeps is woken at our release */
        if (!(old & ~QI_RWSEM_WAITER)) {
            if (qi_cas_acqrel(&s->state, &old, old | QI_RWSEM_WRITER))
                return;
        } else {
            wait_for_change(s, old);
        }
    }
}

void qi_rwsem_wake(struct qi_rwsem *s)
{
    qi_fetch_and_acqrel(&s->state, ~QI_RWSEM_WAITER);
    qport_wake(&s->state, ~0u);
}
