/*
 * kernel/ipc/sem.c - System V semaphores: semget, semop, semtimedop, semctl.
 *
 * Model.  The operations of a call are done all or none, under ipc_sem.lock.  A caller that cannot go on is counted at the
 * semaphore that stops it and sleeps on the set's queue; every change wakes the queue, and whoever can goes on.
 * The set stays, removed from the table, until the last sleeper has seen that it is gone.
 *
 * SEM_UNDO: per process and set a row of adjustments, in the process's list; applied at its end.
 *
 * Sources: semget(2), semop(2), semctl(2).
 */
#include "ipc.h"

enum {
    GETPID = 11,
    GETVAL,
    GETALL,
    GETNCNT,
    GETZCNT,
    SETVAL,
    SETALL,
    SEM_STAT,
    SEM_INFO,
    SEM_STAT_ANY
};
#define SEM_UNDO  0x1000
#define SEM_VALUE 32767 /* the highest */

struct sem {
    int value, pid;
    unsigned waiting_more, waiting_zero;
};

struct sem_set {
    struct ipc_object ipc;
    u64 otime, ctime;
    unsigned n;
    struct waitq queue;
    struct sem sems[];
};

struct sem_undo {
    struct sem_undo *next;
    int id;
    unsigned n;
    i64 adjust[];
};

struct sem_op {
    u16 num;
    short op, flags;
};

struct sem_ds {
    struct ipc_perm perm;
    u64 otime, unused1, ctime, unused2, n, unused3, unused4;
};

struct ipc_kind ipc_sem = {.max = &ipc_limits.semmni};
static unsigned total; /* semaphores; under ipc_sem.lock */

static struct sem_set *set_of(struct ipc_object *o) { return K_CONTAINER(o, struct sem_set, ipc); }

/* ---- semget ---- */

static int size_fits(struct ipc_object *o, u64 n) { return n > set_of(o)->n ? -EINVAL : 0; }

long sys_semget(int key, int n, int flags)
{
    struct ipc_request r = {.key = key, .flags = flags, .check = size_fits, .size = (u64)n};
    struct sem_set *s;
    unsigned long lock;
    bool taken;
    int id;

    if (n < 0 || (u64)n > ipc_limits.semmsl)
        return -EINVAL;
    id = ipc_get(&ipc_sem, &r, NULL, &taken);
    if (id != -ENOENT || (key != IPC_PRIVATE && !(flags & IPC_CREAT)))
        return id;
    if (!n)
        return -EINVAL;
    s = quire_kvmalloc(sizeof(*s) + (size_t)n * sizeof(s->sems[0]),
                       QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    if (!s)
        return -ENOMEM;
    s->n = (unsigned)n;
    s->ctime = ipc_now();
    id = ipc_get(&ipc_sem, &r, &s->ipc, &taken);
    if (!taken) {
        quire_kvfree(s);
        return id;
    }
    lock = kspin_lock(&ipc_sem.lock);
    total += (unsigned)n;
    kspin_unlock(&ipc_sem.lock, lock);
    return id;
}

/* ---- semop ---- */

/* The row of the current process for a set of n, made if absent; NULL: no memory.  Only the process's own threads
 * change its list, and they under ipc_sem.lock. */
static struct sem_undo *undo_row(int id, unsigned n)
{
    struct process *p = current_process();
    struct sem_undo *fresh, *u;
    unsigned long flags;

    fresh =
        quire_kvmalloc(sizeof(*u) + n * sizeof(u->adjust[0]), QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    flags = kspin_lock(&ipc_sem.lock);
    for (u = p->sem_undo; u && u->id != id; u = u->next)
        ;
    if (!u && fresh) {
        u = fresh;
        u->id = id;
        u->n = n;
        u->next = p->sem_undo;
        p->sem_undo = u;
        fresh = NULL;
    }
    kspin_unlock(&ipc_sem.lock, flags);
    quire_kvfree(fresh);
    return u;
}

/* Take the first n operations back. */
static void revert_locked(struct sem_set *s, const struct sem_op *ops, unsigned n,
                          struct sem_undo *u)
{
    while (n--) {
        s->sems[ops[n].num].value -= ops[n].op;
        if (ops[n].flags & SEM_UNDO)
            u->adjust[ops[n].num] += ops[n].op;
    }
}

/* All operations, or none: then the one that stops them, or -errno. */
static int try_locked(struct sem_set *s, const struct sem_op *ops, unsigned n, struct sem_undo *u,
                      unsigned *stopper)
{
    unsigned i;
    int err = 0;

    for (i = 0; i < n && !err; i++) {
        struct sem *x = &s->sems[ops[i].num];
        i64 adjust = ops[i].flags & SEM_UNDO ? u->adjust[ops[i].num] - ops[i].op : 0;

        if (ops[i].op ? x->value + ops[i].op < 0 : x->value != 0)
            err = -EAGAIN;
        else if (x->value + ops[i].op > SEM_VALUE || adjust > SEM_VALUE || adjust < -SEM_VALUE - 1)
            err = -ERANGE;
        if (err)
            break;
        x->value += ops[i].op;
        if (ops[i].flags & SEM_UNDO)
            u->adjust[ops[i].num] = adjust;
    }
    if (err) {
        *stopper = i;
        revert_locked(s, ops, i, u);
        return err;
    }
    for (i = 0; i < n; i++)
        s->sems[ops[i].num].pid = current_process()->pid;
    s->otime = ipc_now();
    return 0;
}

static bool alters(const struct sem_op *ops, unsigned n)
{
    while (n--)
        if (ops[n].op)
            return true;
    return false;
}

/* One attempt; -EAGAIN with *counter: the caller is counted there and sleeps. */
static int attempt(struct sem_set *s, const struct sem_op *ops, unsigned n, struct sem_undo *u,
                   unsigned **counter)
{
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    unsigned stopper = 0;
    int err;

    if (*counter)
        --**counter;
    *counter = NULL;
    if (s->ipc.removed) {
        err = -EIDRM;
    } else {
        err = try_locked(s, ops, n, u, &stopper);
        if (!err && alters(ops, n))
            waitq_wake_all(&s->queue);
        if (err == -EAGAIN && !(ops[stopper].flags & IPC_NOWAIT)) {
            struct sem *x = &s->sems[ops[stopper].num];

            *counter = ops[stopper].op ? &x->waiting_more : &x->waiting_zero;
            ++**counter;
        }
    }
    kspin_unlock(&ipc_sem.lock, flags);
    return err;
}

static int do_ops(struct sem_set *s, const struct sem_op *ops, unsigned n, struct sem_undo *u,
                  u64 deadline)
{
    unsigned *counter = NULL;
    struct waiter w;
    unsigned long flags;
    int err, slept = 0;

    waitq_add(&s->queue, &w);
    for (;;) {
        wait_prepare();
        err = attempt(s, ops, n, u, &counter);
        if (!counter || slept)
            break;
        slept = wait_sleep(deadline);
    }
    wait_finish();
    waitq_remove(&w);
    if (counter) {
        flags = kspin_lock(&ipc_sem.lock);
        --*counter;
        kspin_unlock(&ipc_sem.lock, flags);
        err = slept == -ETIMEDOUT ? -EAGAIN : -EINTR;
    }
    return err;
}

static void put_set(struct sem_set *s)
{
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    bool last = ipc_put_locked(&s->ipc);

    kspin_unlock(&ipc_sem.lock, flags);
    if (last)
        quire_kvfree(s);
}

/* The set, referenced, if the caller may do this and every number exists. */
static struct sem_set *set_for_ops(int id, const struct sem_op *ops, unsigned n, int *err)
{
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    struct ipc_object *o = ipc_find_locked(&ipc_sem, id, err);

    if (o) {
        for (unsigned i = 0; i < n; i++)
            if (ops[i].num >= set_of(o)->n)
                *err = -EFBIG;
        if (!*err && !ipc_allowed(o, alters(ops, n) ? 0222 : 0444))
            *err = -EACCES;
        if (!*err)
            o->refs++;
    }
    kspin_unlock(&ipc_sem.lock, flags);
    return *err ? NULL : set_of(o);
}

static bool undoes(const struct sem_op *ops, unsigned n)
{
    while (n--)
        if (ops[n].flags & SEM_UNDO)
            return true;
    return false;
}

long sys_semtimedop(int id, u64 user_ops, u64 n, u64 timeout)
{
    struct sem_undo *u = NULL;
    struct sem_op *ops;
    struct sem_set *s = NULL;
    u64 ns, deadline = WAIT_FOREVER;
    int err;

    if (id < 0 || (unsigned)n < 1)
        return -EINVAL;
    if ((unsigned)n > ipc_limits.semopm)
        return -E2BIG;
    n = (unsigned)n;
    if (timeout) {
        err = timespec_get(timeout, &ns);
        if (err)
            return err;
        deadline = ktime_ns() + ns < ns ? WAIT_FOREVER : ktime_ns() + ns;
    }
    ops = quire_kvmalloc_array(n, sizeof(*ops), QUIRE_GFP_KERNEL);
    if (!ops)
        return -ENOMEM;
    err = copy_from_user(ops, user_ops, n * sizeof(*ops));
    if (!err)
        s = set_for_ops(id, ops, (unsigned)n, &err);
    if (s && undoes(ops, (unsigned)n) && !(u = undo_row(id, s->n)))
        err = -ENOMEM;
    if (!err)
        err = do_ops(s, ops, (unsigned)n, u, deadline);
    if (s)
        put_set(s);
    quire_kvfree(ops);
    return err;
}

long sys_semop(int id, u64 ops, u64 n) { return sys_semtimedop(id, ops, n, 0); }

static void undo_locked(const struct sem_undo *u)
{
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_sem, u->id, &err);
    struct sem_set *s;

    if (!o)
        return;
    s = set_of(o);
    for (unsigned i = 0; i < u->n; i++) {
        i64 v = s->sems[i].value + u->adjust[i];

        if (!u->adjust[i])
            continue;
        s->sems[i].value = (int)K_MIN(K_MAX(v, (i64)0), (i64)SEM_VALUE);
        s->sems[i].pid = current_process()->pid;
    }
    s->otime = ipc_now();
    waitq_wake_all(&s->queue);
}

void ipc_exit(struct process *p)
{
    struct sem_undo *u, *next;

    for (u = p->sem_undo; u; u = next) {
        unsigned long flags = kspin_lock(&ipc_sem.lock);

        next = u->next;
        undo_locked(u);
        kspin_unlock(&ipc_sem.lock, flags);
        quire_kvfree(u);
    }
    p->sem_undo = NULL;
}

/* ---- semctl ---- */

/* A set by identifier, referenced and with want allowed (0: only found). */
static struct sem_set *set_get(int id, u32 want, int *err)
{
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    struct ipc_object *o = ipc_find_locked(&ipc_sem, id, err);

    if (o && want && !ipc_allowed(o, want))
        *err = -EACCES;
    if (!*err)
        o->refs++;
    kspin_unlock(&ipc_sem.lock, flags);
    return *err ? NULL : set_of(o);
}

/* IPC_STAT of an identifier; the other two of a slot: its identifier, or -errno. */
static int look(int id, int cmd, struct sem_ds *ds)
{
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    int err = -EINVAL;
    struct ipc_object *o =
        cmd == IPC_STAT ? ipc_find_locked(&ipc_sem, id, &err) : ipc_at_locked(&ipc_sem, id);

    *ds = (struct sem_ds){.n = 0};
    if (o && cmd != SEM_STAT_ANY && !ipc_allowed(o, 0444)) {
        err = -EACCES;
    } else if (o) {
        ipc_perm_fill(&ds->perm, o);
        ds->otime = set_of(o)->otime;
        ds->ctime = set_of(o)->ctime;
        ds->n = set_of(o)->n;
        err = o->id;
    }
    kspin_unlock(&ipc_sem.lock, flags);
    return err;
}

static long status(int id, int cmd, u64 buf)
{
    struct sem_ds ds;
    int found = look(id, cmd, &ds);

    if (found < 0)
        return found;
    if (copy_to_user(buf, &ds, sizeof(ds)))
        return -EFAULT;
    return cmd == IPC_STAT ? 0 : found;
}

int sem_line(int index, char *buf, size_t cap)
{
    struct sem_ds ds;
    int id = look(index, SEM_STAT_ANY, &ds);

    if (id < 0)
        return 0;
    return ksnprintf(buf, cap, "%10d %10d  %4o %10lu %5u %5u %5u %5u %10lu %10lu\n", ds.perm.key,
                     id, ds.perm.mode, (unsigned long)ds.n, ds.perm.uid, ds.perm.gid, ds.perm.cuid,
                     ds.perm.cgid, (unsigned long)ds.otime, (unsigned long)ds.ctime);
}

static long info(int cmd, u64 buf)
{
    struct {
        int map, sets, all, undos, size, ops, undo_size, usage, value, adjust;
    } i = {.map = (int)ipc_limits.semmns,
           .sets = (int)ipc_limits.semmni,
           .all = (int)ipc_limits.semmns,
           .undos = (int)ipc_limits.semmns,
           .size = (int)ipc_limits.semmsl,
           .ops = (int)ipc_limits.semopm,
           .undo_size = (int)ipc_limits.semopm,
           .usage = 20,
           .value = SEM_VALUE,
           .adjust = SEM_VALUE};
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    int highest = ipc_highest_locked(&ipc_sem);

    if (cmd == SEM_INFO) {
        i.usage = (int)ipc_sem.used;
        i.adjust = (int)total;
    }
    kspin_unlock(&ipc_sem.lock, flags);
    return copy_to_user(buf, &i, sizeof(i)) ? -EFAULT : highest;
}

static long one(struct sem_set *s, int num, int cmd, int value)
{
    unsigned long flags;
    long result = 0;

    if (num < 0 || num >= (int)s->n)
        return -EINVAL;
    if (cmd == SETVAL && (value < 0 || value > SEM_VALUE))
        return -ERANGE;
    flags = kspin_lock(&ipc_sem.lock);
    switch (s->ipc.removed ? -1 : cmd) {
    case GETPID: result = s->sems[num].pid; break;
    case GETVAL: result = s->sems[num].value; break;
    case GETNCNT: result = s->sems[num].waiting_more; break;
    case GETZCNT: result = s->sems[num].waiting_zero; break;
    case SETVAL:
        s->sems[num].value = value;
        s->sems[num].pid = current_process()->pid;
        s->ctime = ipc_now();
        waitq_wake_all(&s->queue);
        break;
    default: result = -EIDRM;
    }
    kspin_unlock(&ipc_sem.lock, flags);
    return result;
}

static long all(struct sem_set *s, int cmd, u64 user)
{
    size_t bytes = s->n * sizeof(u16);
    u16 *v = quire_kvmalloc(bytes, QUIRE_GFP_KERNEL);
    long err = v ? 0 : -ENOMEM;
    unsigned long flags;

    if (v && cmd == SETALL)
        err = copy_from_user(v, user, bytes);
    for (unsigned i = 0; i < s->n && !err && cmd == SETALL; i++)
        err = v[i] > SEM_VALUE ? -ERANGE : 0;
    if (!err) {
        flags = kspin_lock(&ipc_sem.lock);
        for (unsigned i = 0; i < s->n; i++) {
            if (cmd == GETALL) {
                v[i] = (u16)s->sems[i].value;
                continue;
            }
            s->sems[i].value = v[i];
            s->sems[i].pid = current_process()->pid;
        }
        if (cmd == SETALL) {
            s->ctime = ipc_now();
            waitq_wake_all(&s->queue);
        }
        err = s->ipc.removed ? -EIDRM : 0;
        kspin_unlock(&ipc_sem.lock, flags);
    }
    if (!err && cmd == GETALL)
        err = copy_to_user(user, v, bytes);
    quire_kvfree(v);
    return err;
}

static long change(int id, const struct ipc_perm *perm)
{
    unsigned long flags = kspin_lock(&ipc_sem.lock);
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_sem, id, &err);
    bool last = false;

    if (o && !ipc_owned(o)) {
        err = -EPERM;
    } else if (o && perm) {
        ipc_perm_set(o, perm);
        set_of(o)->ctime = ipc_now();
    } else if (o) {
        ipc_remove_locked(&ipc_sem, o);
        total -= set_of(o)->n;
        waitq_wake_all(&set_of(o)->queue);
        last = ipc_put_locked(o);
    }
    kspin_unlock(&ipc_sem.lock, flags);
    if (last)
        quire_kvfree(set_of(o));
    return err;
}

static long with_set(int id, int num, int cmd, u64 arg)
{
    bool whole = cmd == GETALL || cmd == SETALL;
    int err;
    struct sem_set *s = set_get(id, cmd == SETALL || cmd == SETVAL ? 0222 : 0444, &err);
    long result;

    if (!s)
        return err;
    result = whole ? all(s, cmd, arg) : one(s, num, cmd, (int)arg);
    put_set(s);
    return result;
}

long sys_semctl(int id, int num, int cmd, u64 arg)
{
    struct sem_ds ds;

    if (id < 0)
        return -EINVAL;
    switch (cmd) {
    case IPC_INFO:
    case SEM_INFO: return info(cmd, arg);
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY: return status(id, cmd, arg);
    case GETPID:
    case GETVAL:
    case GETNCNT:
    case GETZCNT:
    case SETVAL:
    case GETALL:
    case SETALL: return with_set(id, num, cmd, arg);
    case IPC_SET: return copy_from_user(&ds, arg, sizeof(ds)) ? -EFAULT : change(id, &ds.perm);
    case IPC_RMID: return change(id, NULL);
    default: return -EINVAL;
    }
}
