/*
 * sync/rcu.c - grace periods by epochs.
 *
 * Model.  One global number, the epoch, and one word for each CPU: the epoch in which its outermost reader
 * began, or 0.  A grace period is a number above all epochs before it; it is over when every word is 0 or at
 * least that number.
 *
 * Why that is enough.  A reader stores its epoch, then a full fence, then it reads.  Whoever frees takes the
 * object out of reach, counts the epoch up, then a full fence, then it looks at the words.  Of the two fences one
 * is first.  If it is the reader's, its word is seen, with an epoch below the period.  If it is the other, the
 * reader finds the object no more.  A reader with an epoch of the period or later has read the epoch after it was
 * counted up, hence after the object was out of reach.
 *
 * A handler that interrupts a reader between its store and its fence fences for itself, and puts back the word
 * that it found.
 *
 * Against quiescent states (Linux: McKenney, Slingwine, PDCS 1998): those make reading free, but the embedder has
 * to report every context switch, every idle CPU and every return to user mode, and forgets one.  The fence costs
 * a reader as much as an uncontended lock, without its bouncing line (Fraser, "Practical lock-freedom", 2004, 5.2.3).
 */
#include "rcu.h"

#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/check.h"

static uint64_t epoch = 1; /* atomic */

static struct {
    uint64_t reader; /* atomic */
} QI_CACHE_ALIGNED cpus[QUIRE_MAX_CPUS];

uint64_t quire_rcu_read_lock(void)
{
    uint64_t *word, before;

    qport_preempt_disable();
    word = &cpus[qport_cpu()].reader;
    before = qi_load_relaxed(word);
    /* release: who finds this reader, and lets it be, must know that those before it on this CPU are over.  (C11 has the
     * store of 0 tell it; C++20 does not any more.) */
    if (QI_LIKELY(!before))
        qi_store_release(word, qi_load_acquire(&epoch));
    qi_fence_full();
    return before;
}

void quire_rcu_read_unlock(uint64_t token)
{
    qi_store_release(&cpus[qport_cpu()].reader, token);
    qport_preempt_enable();
}

uint64_t qi_rcu_start(void)
{
    uint64_t period = qi_fetch_add_acqrel(&epoch, (uint64_t)1) + 1;

    qi_fence_full();
    return period;
}

bool qi_rcu_over(uint64_t period)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        uint64_t reader = qi_load_acquire(&cpus[i].reader);

        if (reader && reader < period)
            return false;
    }
    return true;
}

void quire_rcu_wait(void)
{
    uint64_t period = qi_rcu_start();
    uint64_t own;

    qport_preempt_disable();
    own = qi_load_relaxed(&cpus[qport_cpu()].reader);
    qport_preempt_enable();
    QI_CHECK(!own, "rcu: a reader (of epoch %lu) waits for itself", (unsigned long)own);
    while (!qi_rcu_over(period))
        qport_relax();
}
