/*
 * kernel/proc/futex.c - sleeping on a word of user memory.
 *
 * Model.  Sleepers hang in hash buckets by what their word is (quire_space_futex_key(): the same memory
 * has the same key in every process that shares it).
 *
 * No wake-up is lost: a sleeper first enters its bucket, then reads the word.  A waker first changes the
 * word, then looks into the bucket.  Whichever comes second sees the other.  Reading after entering
 * also means that no lock is held while the word's page is faulted in.
 *
 * A waker's last touch of a sleeper is the release store to woken; the sleeper's memory may be gone
 * directly after, so the task is referenced before and woken after.
 *
 * Sources: futex(2); Franke, Russell, Kirkwood, "Fuss, Futexes and Furwocks" (2002).
 */
#include "futex.h"

#define BUCKETS 256u

enum {
    FUTEX_WAIT,
    FUTEX_WAKE,
    FUTEX_FD,
    FUTEX_REQUEUE,
    FUTEX_CMP_REQUEUE,
    FUTEX_WAKE_OP,
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_BITSET,
    FUTEX_WAKE_BITSET,
    FUTEX_WAIT_REQUEUE_PI,
    FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI2
};
#define FUTEX_PRIVATE  128
#define FUTEX_REALTIME 256
#define MATCH_ANY      0xffffffffu

static struct futex_bucket buckets[BUCKETS];

/* ---- keys and buckets ---- */

int futex_key(u64 uaddr, bool private, struct quire_futex_key *key)
{
    enum quire_status st;

    if (uaddr & 3)
        return -EINVAL;
    if (!user_range_ok(uaddr, 4))
        return -EFAULT;
    st = quire_space_futex_key(current->space, Q_UVA(uaddr), private, key);
    if (st != QUIRE_OK)
        return st == QUIRE_NO_MEMORY ? -ENOMEM : -EFAULT;
    /* The word must exist: not in a page that was cut off its file. */
    if (key->object && K_UP(quire_object_size(key->object), QUIRE_PAGE_SIZE) <= key->b) {
        futex_key_put(key);
        return -EFAULT;
    }
    return 0;
}

void futex_key_put(struct quire_futex_key *key)
{
    if (key->object)
        quire_object_put(key->object);
    key->object = NULL;
}

bool futex_key_equal(const struct quire_futex_key *a, const struct quire_futex_key *b)
{
    return a->a == b->a && a->b == b->b;
}

struct futex_bucket *futex_bucket(const struct quire_futex_key *key)
{
    u64 h = (key->a >> 4 ^ key->b >> 2) * 0x9e3779b97f4a7c15ull;

    return &buckets[h >> 56 & (BUCKETS - 1)];
}

struct futex_bucket *futex_bucket_at(unsigned i) { return i < BUCKETS ? &buckets[i] : NULL; }

static void link_locked(struct futex_bucket *b, struct futex_waiter *w)
{
    w->bucket = b;
    if (b->first) {
        w->next = b->first;
        w->prev = b->first->prev;
        w->prev->next = w;
        b->first->prev = w;
    } else {
        b->first = w->next = w->prev = w;
    }
}

void futex_unlink_locked(struct futex_waiter *w)
{
    struct futex_bucket *b = w->bucket;

    if (w->next == w)
        b->first = NULL;
    else if (b->first == w)
        b->first = w->next;
    w->next->prev = w->prev;
    w->prev->next = w->next;
}

void futex_wake_locked(struct futex_waiter *w)
{
    struct task *t = w->task;

    futex_unlink_locked(w);
    task_get(t);
    __atomic_store_n(&w->woken, true, __ATOMIC_RELEASE);
    task_wake(t);
    task_put(t);
}

void futex_queue(struct futex_waiter *w)
{
    struct futex_bucket *b = futex_bucket(&w->key);
    unsigned long flags = kspin_lock(&b->lock);

    w->task = current;
    w->woken = false;
    link_locked(b, w);
    kspin_unlock(&b->lock, flags);
}

bool futex_unqueue(struct futex_waiter *w)
{
    for (;;) {
        struct futex_bucket *b = __atomic_load_n(&w->bucket, __ATOMIC_ACQUIRE);
        unsigned long flags = kspin_lock(&b->lock);

        if (w->bucket == b) {
            bool queued = !w->woken;

            if (queued)
                futex_unlink_locked(w);
            kspin_unlock(&b->lock, flags);
            return queued;
        }
        kspin_unlock(&b->lock, flags); /* requeued meanwhile */
    }
}

/* Two buckets in the order of their addresses; they may be the same. */
static unsigned long lock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    unsigned long flags;

    if (a > b) {
        struct futex_bucket *c = a;

        a = b;
        b = c;
    }
    flags = kspin_lock(&a->lock);
    if (a != b)
        (void)kspin_lock(&b->lock);
    return flags;
}

static void unlock_two(struct futex_bucket *a, struct futex_bucket *b, unsigned long flags)
{
    if (a != b)
        __atomic_store_n(&b->lock.word, 0, __ATOMIC_RELEASE);
    kspin_unlock(&a->lock, flags);
}

/* ---- wake ---- */

static int wake_in(struct futex_bucket *b, const struct quire_futex_key *key, unsigned n,
                   u32 bitset)
{
    struct futex_waiter *w = b->first, *last = w ? w->prev : NULL, *next;
    int woken = 0;

    for (; w && (unsigned)woken < n; w = next) {
        next = w == last ? NULL : w->next;
        if (!futex_key_equal(&w->key, key) || !(w->bitset & bitset))
            continue;
        if (w->pi)
            return woken ? woken : -EINVAL;
        futex_wake_locked(w);
        woken++;
    }
    return woken;
}

static long wake(u64 uaddr, bool private, unsigned n, u32 bitset)
{
    struct quire_futex_key key;
    struct futex_bucket *b;
    unsigned long flags;
    long result;

    if (!bitset)
        return -EINVAL;
    result = futex_key(uaddr, private, &key);
    if (result)
        return result;
    b = futex_bucket(&key);
    flags = kspin_lock(&b->lock);
    result = wake_in(b, &key, n ? n : 1, bitset);
    kspin_unlock(&b->lock, flags);
    futex_key_put(&key);
    return result;
}

/* The kernel's own wake-ups (thread exit): the waiter may have used either kind of key. */
void futex_wake_address(u64 uaddr, unsigned n)
{
    (void)wake(uaddr, false, n, MATCH_ANY);
    (void)wake(uaddr, true, n, MATCH_ANY);
}

/* ---- wait ---- */

int futex_sleep(struct futex_waiter *w, u64 deadline)
{
    int err = 0;

    for (;;) {
        wait_prepare();
        if (__atomic_load_n(&w->woken, __ATOMIC_ACQUIRE))
            break;
        err = wait_sleep(deadline);
        if (err)
            break;
    }
    wait_finish();
    return err;
}

static long wait_on(u64 uaddr, bool private, u32 expected, u64 deadline, u32 bitset)
{
    struct futex_waiter w = {.bitset = bitset};
    u32 value;
    long err;

    if (!bitset)
        return -EINVAL;
    err = futex_key(uaddr, private, &w.key);
    if (err)
        return err;
    futex_queue(&w);
    if (get_user_u32(&value, uaddr))
        err = -EFAULT;
    else if (value != expected)
        err = -EAGAIN;
    else
        err = futex_sleep(&w, deadline);
    /* Whoever woke us counted us: then the call succeeds, whatever else happened. */
    if (!futex_unqueue(&w))
        err = 0;
    futex_key_put(&w.key);
    return err;
}

static long wait_restart(u64 *a);

static long wait_call(u64 uaddr, bool private, u32 expected, u64 deadline, u32 bitset)
{
    long err = wait_on(uaddr, private, expected, deadline, bitset);

    if (err != -EINTR)
        return err;
    if (deadline == WAIT_FOREVER)
        return -ERESTARTSYS;
    *restart_block() = (struct restart_block){.fn = wait_restart,
                                              .args = {uaddr, private, expected, deadline, bitset}};
    return -ERESTART_RESTARTBLOCK;
}

static long wait_restart(u64 *a) { return wait_call(a[0], a[1], (u32)a[2], a[3], (u32)a[4]); }

/* ---- requeue ---- */

static long requeue(u64 from, u64 to, bool private, unsigned n_wake, unsigned n_move,
                    const u32 *expected)
{
    struct quire_futex_key k1, k2;
    struct futex_bucket *b1, *b2;
    struct futex_waiter *w, *last, *next;
    unsigned long flags;
    unsigned woken = 0, moved = 0;
    u32 value;
    int err;

    if ((int)n_wake < 0 || (int)n_move < 0)
        return -EINVAL;
    err = futex_key(from, private, &k1);
    if (err)
        return err;
    err = futex_key(to, private, &k2);
    if (err) {
        futex_key_put(&k1);
        return err;
    }
    /* Read before the locks: a change after it is a change after the call, for all that callers can tell:
     * they hold the lock that the word stands for. */
    if (expected && get_user_u32(&value, from))
        err = -EFAULT;
    else if (expected && value != *expected)
        err = -EAGAIN;
    if (err) {
        futex_key_put(&k1);
        futex_key_put(&k2);
        return err;
    }
    b1 = futex_bucket(&k1);
    b2 = futex_bucket(&k2);
    flags = lock_two(b1, b2);
    w = b1->first;
    last = w ? w->prev : NULL;
    for (; w && woken + moved < (u64)n_wake + n_move; w = next) {
        next = w == last ? NULL : w->next;
        if (!futex_key_equal(&w->key, &k1) || w->pi)
            continue;
        if (woken < n_wake) {
            futex_wake_locked(w);
            woken++;
            continue;
        }
        moved++;
        if (futex_key_equal(&k1, &k2))
            continue;
        futex_unlink_locked(w);
        if (w->key.object)
            quire_object_put(w->key.object);
        w->key = k2;
        if (k2.object)
            quire_object_get(k2.object);
        link_locked(b2, w);
    }
    unlock_two(b1, b2, flags);
    futex_key_put(&k1);
    futex_key_put(&k2);
    return (long)woken + (expected ? moved : 0);
}

/* ---- wake-op: change the second word, wake on the first, and on the second if it was so ---- */

static int op_apply(u64 uaddr, u32 op, u32 *old)
{
    u32 arg = op >> 12 & 0xfff, seen, value;

    arg = (u32)((int)(arg << 20) >> 20);
    if (op >> 31 & 1)
        arg = 1u << (arg & 31);
    if (get_user_u32(&seen, uaddr))
        return -EFAULT;
    for (;;) {
        switch (op >> 28 & 7) {
        case 0: value = arg; break;
        case 1: value = seen + arg; break;
        case 2: value = seen | arg; break;
        case 3: value = seen & ~arg; break;
        case 4: value = seen ^ arg; break;
        default: return -ENOSYS;
        }
        if (cmpxchg_user_u32(uaddr, seen, value, old))
            return -EFAULT;
        if (*old == seen)
            return 0;
        seen = *old;
    }
}

static int op_compare(u32 old, u32 op)
{
    int arg = (int)((op & 0xfff) << 20) >> 20, v = (int)old;

    switch (op >> 24 & 15) {
    case 0: return v == arg;
    case 1: return v != arg;
    case 2: return v < arg;
    case 3: return v <= arg;
    case 4: return v > arg;
    case 5: return v >= arg;
    }
    return -ENOSYS;
}

static long wake_op(u64 first, u64 second, bool private, unsigned n1, unsigned n2, u32 op)
{
    u32 old;
    long woken, more;
    int hit;

    if (first & 3 || second & 3)
        return -EINVAL;
    if (!user_range_ok(first, 4) || !user_range_ok(second, 4))
        return -EFAULT;
    hit = op_apply(second, op, &old);
    if (hit)
        return hit;
    hit = op_compare(old, op);
    if (hit < 0)
        return hit;
    woken = wake(first, private, n1, MATCH_ANY);
    if (woken < 0 || !hit)
        return woken;
    more = wake(second, private, n2, MATCH_ANY);
    return more < 0 ? more : woken + more;
}

/* ---- the calls ---- */

/* The timeout as a monotonic deadline. */
static int deadline_get(u64 utime, bool absolute, bool realtime, u64 *deadline)
{
    u64 ns, now = ktime_ns();
    int err;

    *deadline = WAIT_FOREVER;
    if (!utime)
        return 0;
    err = timespec_get(utime, &ns);
    if (err)
        return err;
    if (!absolute) {
        *deadline = now + ns < ns ? WAIT_FOREVER : now + ns;
    } else if (realtime) {
        u64 wall = krealtime_ns();

        *deadline = ns <= wall ? now : now + (ns - wall);
    } else {
        *deadline = ns;
    }
    return 0;
}

static bool op_has_timeout(int op)
{
    return op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET || op == FUTEX_LOCK_PI ||
           op == FUTEX_LOCK_PI2;
}

long sys_futex(u64 uaddr, int op, u32 val, u64 utime, u64 uaddr2, u32 val3)
{
    int cmd = op & ~(FUTEX_PRIVATE | FUTEX_REALTIME), err;
    bool private = op & FUTEX_PRIVATE, realtime = op & FUTEX_REALTIME;
    u64 deadline = WAIT_FOREVER;

    if (realtime && cmd != FUTEX_WAIT && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_LOCK_PI2)
        return -ENOSYS;
    if (op_has_timeout(cmd)) {
        err = deadline_get(utime, cmd != FUTEX_WAIT, realtime || cmd == FUTEX_LOCK_PI, &deadline);
        if (err)
            return err;
    }
    switch (cmd) {
    case FUTEX_WAIT: return wait_call(uaddr, private, val, deadline, MATCH_ANY);
    case FUTEX_WAIT_BITSET: return wait_call(uaddr, private, val, deadline, val3);
    case FUTEX_WAKE: return wake(uaddr, private, val, MATCH_ANY);
    case FUTEX_WAKE_BITSET: return wake(uaddr, private, val, val3);
    case FUTEX_REQUEUE: return requeue(uaddr, uaddr2, private, val, (u32)utime, NULL);
    case FUTEX_CMP_REQUEUE: return requeue(uaddr, uaddr2, private, val, (u32)utime, &val3);
    case FUTEX_WAKE_OP: return wake_op(uaddr, uaddr2, private, val, (u32)utime, val3);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2: return futex_lock_pi(uaddr, private, deadline, false);
    case FUTEX_TRYLOCK_PI: return futex_lock_pi(uaddr, private, WAIT_FOREVER, true);
    case FUTEX_UNLOCK_PI: return futex_unlock_pi(uaddr, private);
    }
    return -ENOSYS;
}

/* ---- several words at once ---- */

#define WAITV_MAX 128u

struct waitv {
    u64 val, uaddr;
    u32 flags, reserved;
};

/* Index of a woken word, or -EAGAIN.. with all that was queued taken off. */
static long waitv_finish(struct futex_waiter *w, unsigned n, long err)
{
    for (unsigned i = 0; i < n; i++) {
        if (!futex_unqueue(&w[i]))
            err = i;
        futex_key_put(&w[i].key);
    }
    return err;
}

static long waitv_queue(const struct waitv *v, struct futex_waiter *w, unsigned n, unsigned *queued)
{
    for (*queued = 0; *queued < n; ++*queued) {
        const struct waitv *e = &v[*queued];
        u32 value;
        int err;

        w[*queued].bitset = MATCH_ANY;
        err = futex_key(e->uaddr, e->flags & FUTEX_PRIVATE, &w[*queued].key);
        if (err)
            return err;
        futex_queue(&w[*queued]);
        if (get_user_u32(&value, e->uaddr)) {
            ++*queued;
            return -EFAULT;
        }
        if (value != (u32)e->val) {
            ++*queued;
            return -EAGAIN;
        }
    }
    return 0;
}

static bool waitv_any(const struct futex_waiter *w, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (__atomic_load_n(&w[i].woken, __ATOMIC_ACQUIRE))
            return true;
    return false;
}

static long waitv_sleep(const struct waitv *v, unsigned n, u64 deadline)
{
    struct futex_waiter *w = quire_kcalloc(n, sizeof(*w), QUIRE_GFP_KERNEL);
    unsigned queued;
    long err;

    if (!w)
        return -ENOMEM;
    err = waitv_queue(v, w, n, &queued);
    while (!err) {
        wait_prepare();
        if (waitv_any(w, n))
            break;
        err = wait_sleep(deadline);
    }
    wait_finish();
    err = waitv_finish(w, queued, err);
    quire_kfree(w);
    return err == -EINTR ? -ERESTARTSYS : err;
}

long sys_futex_waitv(u64 uwaiters, unsigned n, unsigned flags, u64 utime, int clock)
{
    struct waitv *v;
    u64 deadline = WAIT_FOREVER;
    long err = 0;

    if (flags || n == 0 || n > WAITV_MAX || !uwaiters)
        return -EINVAL;
    if (utime) {
        if (clock != 0 && clock != 1)
            return -EINVAL;
        err = deadline_get(utime, true, clock == 0, &deadline);
        if (err)
            return err;
    }
    v = quire_kcalloc(n, sizeof(*v), QUIRE_GFP_KERNEL);
    if (!v)
        return -ENOMEM;
    if (copy_from_user(v, uwaiters, n * sizeof(*v)))
        err = -EFAULT;
    /* Only 32-bit words; bits: size 2, private 128. */
    for (unsigned i = 0; i < n && !err; i++)
        if (v[i].flags & ~(2u | FUTEX_PRIVATE) || !(v[i].flags & 2u) || v[i].reserved)
            err = -EINVAL;
    if (!err)
        err = waitv_sleep(v, n, deadline);
    quire_kfree(v);
    return err;
}
