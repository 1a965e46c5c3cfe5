/*
 * kernel/proc/futex.h - between futex.c (waiting and waking), futex_pi.c and robust.c.
 */
#ifndef KERNEL_PROC_FUTEX_H
#define KERNEL_PROC_FUTEX_H

#include "proc.h"

#define FUTEX_WAITERS    0x80000000u
#define FUTEX_OWNER_DIED 0x40000000u
#define FUTEX_TID_MASK   0x3fffffffu

struct futex_bucket;

/* One sleeper on one word; on the sleeper's stack. */
struct futex_waiter {
    struct futex_waiter *next, *prev; /* under the bucket's lock */
    struct futex_bucket *bucket;      /* changes on requeue, under both buckets' locks */
    struct quire_futex_key key;
    struct task *task;
    u32 bitset;
    bool woken; /* release: the last touch of the waker */
    bool pi;    /* waits for ownership; only an unlock wakes it */
    int owner;  /* pi: tid of the owner as seen when it went to sleep */
    bool owner_died;
};

struct futex_bucket {
    struct kspin lock;
    struct futex_waiter *first; /* circular, in order of arrival */
};

int futex_key(u64 uaddr, bool private, struct quire_futex_key *key);
void futex_key_put(struct quire_futex_key *key);
bool futex_key_equal(const struct quire_futex_key *a, const struct quire_futex_key *b);
struct futex_bucket *futex_bucket(const struct quire_futex_key *key);
struct futex_bucket *futex_bucket_at(unsigned i); /* NULL after the last */
void futex_queue(struct futex_waiter *w);         /* w->key is set; w->task becomes current */
/* Off its bucket unless it was woken already: then false. */
bool futex_unqueue(struct futex_waiter *w);
/* Until woken: 0, -ETIMEDOUT or -EINTR; the caller then takes w off its bucket. */
int futex_sleep(struct futex_waiter *w, u64 deadline);
void futex_unlink_locked(struct futex_waiter *w);
void futex_wake_locked(struct futex_waiter *w);

long futex_lock_pi(u64 uaddr, bool private, u64 deadline, bool try_only);
long futex_unlock_pi(u64 uaddr, bool private);

#endif
