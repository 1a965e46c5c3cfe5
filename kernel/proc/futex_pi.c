/*
 * kernel/proc/futex_pi.c - futexes that name their owner: LOCK_PI, UNLOCK_PI, TRYLOCK_PI.
 *
 * The word holds the owner's thread number, FUTEX_WAITERS while somebody sleeps, FUTEX_OWNER_DIED after a
 * death.  An unlock hands the word to the first sleeper.  Ownership is exact; the owner's priority is
 * not raised (the scheduler is fair: no priority between starves a waiting thread).
 *
 * All of the slow path is under one sleeping mutex: words may fault while it is held, and a sleeper's
 * entering, an unlock and a death are each one step.  Uncontended locks never come here.
 */
#include "futex.h"

#include <quire/barrier.h>

static struct kmutex pi_mutex;
static u32 pi_sleepers; /* atomic: an exit need not search when there are none */

static struct futex_waiter *first_pi(struct futex_bucket *b, const struct quire_futex_key *key)
{
    struct futex_waiter *w = b->first;

    if (!w)
        return NULL;
    do {
        if (w->pi && futex_key_equal(&w->key, key))
            return w;
        w = w->next;
    } while (w != b->first);
    return NULL;
}

/* A thread that can still unlock what it owns. */
static bool owner_lives(u32 tid)
{
    struct task *t = task_find((int)tid);
    bool lives = t && !__atomic_load_n(&t->exiting, __ATOMIC_SEQ_CST);

    if (t)
        task_put(t);
    return lives;
}

/* 1: it is ours.  0: *owner has it and FUTEX_WAITERS is set.  -errno.  died: an owner known to be dead. */
static int try_take(u64 uaddr, bool only_try, u32 died, u32 *owner)
{
    u32 me = (u32)current->tid, seen, old, want;

    if (get_user_u32(&seen, uaddr))
        return -EFAULT;
    for (;;) {
        *owner = seen & FUTEX_TID_MASK;
        if (*owner == me)
            return -EDEADLK;
        if (*owner == 0 || *owner == died) {
            want =
                me | (seen & (FUTEX_WAITERS | FUTEX_OWNER_DIED)) | (*owner ? FUTEX_OWNER_DIED : 0);
            *owner = 0;
        } else {
            if (!owner_lives(*owner))
                return -ESRCH;
            if (only_try)
                return -EAGAIN;
            want = seen | FUTEX_WAITERS;
            if (want == seen)
                return 0;
        }
        if (cmpxchg_user_u32(uaddr, seen, want, &old))
            return -EFAULT;
        if (old == seen)
            return *owner == 0;
        seen = old;
    }
}

long futex_lock_pi(u64 uaddr, bool private, u64 deadline, bool try_only)
{
    struct futex_waiter w = {.bitset = ~0u, .pi = true};
    u32 died = 0, owner;
    int err = futex_key(uaddr, private, &w.key);

    if (err)
        return err;
    __atomic_add_fetch(&pi_sleepers, 1, __ATOMIC_SEQ_CST);
    kmutex_lock(&pi_mutex);
    while ((err = try_take(uaddr, try_only, died, &owner)) == 0) {
        w.owner = (int)owner;
        w.owner_died = false;
        futex_queue(&w);
        kmutex_unlock(&pi_mutex);
        err = futex_sleep(&w, deadline);
        kmutex_lock(&pi_mutex);
        if (futex_unqueue(&w))
            break; /* timeout or signal, and nobody handed it to us */
        err = 1;
        if (!w.owner_died)
            break;
        died = owner;
    }
    kmutex_unlock(&pi_mutex);
    __atomic_sub_fetch(&pi_sleepers, 1, __ATOMIC_SEQ_CST);
    futex_key_put(&w.key);
    return err == 1 ? 0 : err == -EINTR ? -ERESTARTNOINTR : err;
}

/* To the first sleeper, or to nobody.  pi_mutex held: no sleeper comes or goes. */
static int hand_over(u64 uaddr, const struct quire_futex_key *key, u32 seen)
{
    struct futex_bucket *b = futex_bucket(key);
    unsigned long flags = kspin_lock(&b->lock);
    struct futex_waiter *w = first_pi(b, key);
    u32 want = w ? (u32)w->task->tid | FUTEX_WAITERS : 0, old;

    kspin_unlock(&b->lock, flags);
    for (;;) {
        if (cmpxchg_user_u32(uaddr, seen, want, &old))
            return -EFAULT;
        if (old == seen)
            break;
        if ((int)(old & FUTEX_TID_MASK) != current->tid)
            return -EPERM;
        seen = old;
    }
    if (w) {
        flags = kspin_lock(&b->lock);
        futex_wake_locked(w);
        kspin_unlock(&b->lock, flags);
    }
    return 0;
}

long futex_unlock_pi(u64 uaddr, bool private)
{
    struct quire_futex_key key;
    u32 value;
    int err = futex_key(uaddr, private, &key);

    if (err)
        return err;
    kmutex_lock(&pi_mutex);
    if (get_user_u32(&value, uaddr))
        err = -EFAULT;
    else if ((int)(value & FUTEX_TID_MASK) != current->tid)
        err = -EPERM;
    else
        err = hand_over(uaddr, &key, value);
    kmutex_unlock(&pi_mutex);
    futex_key_put(&key);
    return err;
}

/* Who sleeps for a lock of the leaving thread looks again, and may take it. */
void pi_exit(struct task *t)
{
    struct futex_bucket *b;

    quire_barrier_store_load();
    if (__atomic_load_n(&pi_sleepers, __ATOMIC_SEQ_CST) == 0)
        return;
    kmutex_lock(&pi_mutex);
    for (unsigned i = 0; (b = futex_bucket_at(i)); i++) {
        unsigned long flags = kspin_lock(&b->lock);
        struct futex_waiter *w = b->first, *last = w ? w->prev : NULL, *next;

        for (; w; w = next) {
            next = w == last ? NULL : w->next;
            if (w->pi && w->owner == t->tid) {
                w->owner_died = true;
                futex_wake_locked(w);
            }
        }
        kspin_unlock(&b->lock, flags);
    }
    kmutex_unlock(&pi_mutex);
}
