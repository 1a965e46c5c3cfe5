/*
 * fs/fcntl.c - fcntl(2), and files that are made without a name: memfd, eventfd, timerfd.
 */
#include "fsint.h"
#include <quire/space.h>
#include <signal.h>

#define F_DUPFD         0
#define F_GETFD         1
#define F_SETFD         2
#define F_GETFL         3
#define F_SETFL         4
#define F_GETLK         5
#define F_SETLKW        7
#define F_SETOWN        8
#define F_GETOWN        9
#define F_SETSIG        10
#define F_GETSIG        11
#define F_SETOWN_EX     15
#define F_GETOWN_EX     16
#define F_OFD_GETLK     36
#define F_OFD_SETLKW    38
#define F_DUPFD_CLOEXEC 1030
#define F_SETPIPE_SZ    1031
#define F_GETPIPE_SZ    1032
#define F_ADD_SEALS     1033
#define F_GET_SEALS     1034
#define SETFL_MASK      (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

static long dup_from(struct file *f, u64 from, bool cloexec)
{
    if (from >= current->proc->rlim[RLIMIT_NOFILE].cur || from > INT32_MAX)
        return -EINVAL;
    file_get(f);
    return fd_install(f, cloexec, (int)from);
}

static long set_status(struct file *f, u64 arg)
{
    u32 old = __atomic_load_n(&f->flags, __ATOMIC_RELAXED), new;

    if (((u32)arg & O_NOATIME) && !inode_owner_or_root(f->inode))
        return -EPERM;
    do {
        new = (old & ~SETFL_MASK) | ((u32)arg & SETFL_MASK);
    } while (!__atomic_compare_exchange_n(&f->flags, &old, new, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return 0;
}

static bool sealable(const struct file *f)
{
    return (f->inode->mode & S_IFMT) == S_IFREG && !f->inode->ops;
}

static long add_seals(struct file *f, u64 arg)
{
    u32 all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    struct inode *i = f->inode;
    long r = 0;

    if (!sealable(f))
        return -EINVAL;
    if (!file_writable(f))
        return -EPERM;
    if (arg & ~(u64)all)
        return -EINVAL;
    kmutex_lock(&i->lock);
    if (i->reg.seals & F_SEAL_SEAL)
        r = -EPERM;
    else if ((arg & ~(u64)i->reg.seals & F_SEAL_WRITE) && i->reg.object &&
             quire_object_write_shared(i->reg.object))
        r = -EBUSY; /* who has it mapped could go on writing */
    else
        i->reg.seals |= (u32)arg;
    kmutex_unlock(&i->lock);
    return r;
}

static long owner_ex(struct file *f, u64 arg, bool set)
{
    struct {
        int type, pid;
    } o = {f->owner_pid < 0 ? 2 : 1, f->owner_pid < 0 ? -f->owner_pid : f->owner_pid};

    if (!set)
        return copy_to_user(arg, &o, sizeof o);
    if (copy_from_user(&o, arg, sizeof o))
        return -EFAULT;
    if (o.type < 0 || o.type > 2)
        return -EINVAL;
    f->owner_pid = o.type == 2 ? -o.pid : o.pid;
    return 0;
}

static long on_file(struct file *f, unsigned cmd, u64 arg)
{
    switch (cmd) {
    case F_SETFL: return set_status(f, arg);
    case F_SETOWN: f->owner_pid = (int)arg; return 0;
    case F_GETOWN: return f->owner_pid;
    case F_SETOWN_EX:
    case F_GETOWN_EX: return owner_ex(f, arg, cmd == F_SETOWN_EX);
    case F_GETLK ... F_SETLKW:
    case F_OFD_GETLK ... F_OFD_SETLKW: return locks_fcntl(f, cmd, arg);
    case F_SETPIPE_SZ:
    case F_GETPIPE_SZ: return pipe_fcntl(f, cmd, arg);
    case F_ADD_SEALS: return add_seals(f, arg);
    case F_GET_SEALS: return sealable(f) ? (long)f->inode->reg.seals : -EINVAL;
    default: return -EINVAL;
    }
}

long sys_fcntl(int fd, unsigned cmd, u64 arg)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    switch (cmd) { /* these also take an O_PATH descriptor */
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: r = dup_from(f, arg, cmd == F_DUPFD_CLOEXEC); break;
    case F_GETFD: r = fd_cloexec(fd, -1); break;
    case F_SETFD: r = fd_cloexec(fd, (int)(arg & 1)); break;
    case F_GETFL: r = (long)((f->flags & ~(O_KERNEL | O_COUNTED)) | O_LARGEFILE); break;
    default: r = f->flags & O_PATH ? -EBADF : on_file(f, cmd, arg);
    }
    file_put(f);
    return r;
}

/* ---- memfd_create ---- */

#define MFD_CLOEXEC       1u
#define MFD_ALLOW_SEALING 2u
#define MFD_NAME_MAX      249

/* Also for others who need nameless memory with an inode: "/memfd:name (deleted)" in maps. */
static struct file *memory_file(const char *name, u32 seals)
{
    struct file *f = file_anon(&regfile_ops, name, S_IFREG | 0777, NULL, O_RDWR | O_LARGEFILE);

    if (!f)
        return NULL;
    f->inode->reg.seals = seals;
    f->inode->dead_path = quire_kstrdup(name, QUIRE_GFP_KERNEL);
    if (f->inode->dead_path)
        return f;
    file_put(f);
    return NULL;
}

long sys_memfd_create(u64 uname, unsigned flags)
{
    char name[MFD_NAME_MAX + 32] = "/memfd:";
    struct file *f;
    long n;

    if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING)) /* huge pages are not offered here */
        return -EINVAL;
    n = strncpy_from_user(name + 7, uname, MFD_NAME_MAX + 1);
    if (n < 0)
        return n == -ENAMETOOLONG ? -EINVAL : n;
    memcpy(name + 7 + n, " (deleted)", 11);
    f = memory_file(name, flags & MFD_ALLOW_SEALING ? 0 : F_SEAL_SEAL);
    return f ? fd_install(f, flags & MFD_CLOEXEC, 0) : -ENOMEM;
}

/* ---- eventfd ---- */

#define EFD_SEMAPHORE 1u

struct eventfd {
    struct kspin lock;
    u64 count;
    bool semaphore;
    struct waitq wait;
};

/* The value read, or 0 if there is none yet. */
static u64 event_take(struct eventfd *e)
{
    unsigned long flags = kspin_lock(&e->lock);
    u64 v = e->semaphore && e->count ? 1 : e->count;

    e->count -= v;
    kspin_unlock(&e->lock, flags);
    return v;
}

static bool event_add(struct eventfd *e, u64 v)
{
    unsigned long flags = kspin_lock(&e->lock);
    bool fits = v < ~0ull - e->count;

    if (fits)
        e->count += v;
    kspin_unlock(&e->lock, flags);
    return fits;
}

static long eventfd_read(struct file *f, struct uio *u, u64 *pos)
{
    struct eventfd *e = f->priv;
    u64 v;

    (void)pos;
    if (u->left < sizeof v)
        return -EINVAL;
    while (!(v = event_take(e))) {
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (WAIT_EVENT(&e->wait, __atomic_load_n(&e->count, __ATOMIC_ACQUIRE)))
            return -ERESTARTSYS;
    }
    waitq_wake_all(&e->wait);
    return uio_put(u, &v, sizeof v) ? -EFAULT : (long)sizeof v;
}

static long eventfd_write(struct file *f, struct uio *u, u64 *pos)
{
    struct eventfd *e = f->priv;
    u64 v;

    (void)pos;
    if (u->left < sizeof v)
        return -EINVAL;
    if (uio_get(u, &v, sizeof v))
        return -EFAULT;
    if (v == ~0ull)
        return -EINVAL;
    while (!event_add(e, v)) {
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (WAIT_EVENT(&e->wait, v < ~0ull - __atomic_load_n(&e->count, __ATOMIC_ACQUIRE)))
            return -ERESTARTSYS;
    }
    waitq_wake_all(&e->wait);
    return sizeof v;
}

static unsigned eventfd_poll(struct file *f, struct poll_table *pt)
{
    struct eventfd *e = f->priv;
    u64 count;

    poll_add(pt, &e->wait);
    count = __atomic_load_n(&e->count, __ATOMIC_ACQUIRE);
    return (count ? POLL_IN : 0) | (count < ~0ull - 1 ? POLL_OUT : 0);
}

static void free_priv(struct file *f) { quire_kfree(f->priv); }

static const struct file_ops eventfd_ops = {
    .read = eventfd_read, .write = eventfd_write, .poll = eventfd_poll, .release = free_priv};

long sys_eventfd2(unsigned count, unsigned flags)
{
    struct eventfd *e;
    struct file *f;

    if (flags & ~(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    e = quire_kzalloc(sizeof *e, QUIRE_GFP_KERNEL);
    if (!e)
        return -ENOMEM;
    e->count = count;
    e->semaphore = flags & EFD_SEMAPHORE;
    f = file_anon(&eventfd_ops, "anon_inode:[eventfd]", 0600, e, O_RDWR | (flags & O_NONBLOCK));
    if (!f) {
        quire_kfree(e);
        return -ENOMEM;
    }
    return fd_install_flags(f, flags);
}

long sys_eventfd(unsigned count) { return sys_eventfd2(count, 0); }

/* ---- timerfd ---- */

#define NS              1000000000ull
#define TFD_ABSTIME     1
#define TFD_CANCEL      2
#define CLOCK_REALTIME  0
#define CLOCK_MONOTONIC 1
#define CLOCK_BOOTTIME  7

struct timerfd {
    struct ktimer timer;
    struct kspin lock;
    u64 at_ns, interval_ns; /* of the monotonic clock; at 0: disarmed */
    u64 expired;            /* since the last read */
    bool realtime;
    struct waitq wait;
};

static void timer_fired(struct ktimer *kt)
{
    struct timerfd *t = K_CONTAINER(kt, struct timerfd, timer);
    unsigned long flags = kspin_lock(&t->lock);
    u64 now = ktime_ns(), again = 0;

    if (t->at_ns && t->at_ns <= now) {
        u64 more = t->interval_ns ? (now - t->at_ns) / t->interval_ns : 0;

        t->expired += 1 + more;
        t->at_ns = t->interval_ns ? t->at_ns + (1 + more) * t->interval_ns : 0;
    }
    again = t->at_ns;
    kspin_unlock(&t->lock, flags);
    waitq_wake_all(&t->wait);
    if (again)
        ktimer_start(kt, again);
}

static long timerfd_read(struct file *f, struct uio *u, u64 *pos)
{
    struct timerfd *t = f->priv;
    unsigned long flags;
    u64 n;

    (void)pos;
    if (u->left < sizeof n)
        return -EINVAL;
    for (;;) {
        flags = kspin_lock(&t->lock);
        n = t->expired;
        t->expired = 0;
        kspin_unlock(&t->lock, flags);
        if (n)
            return uio_put(u, &n, sizeof n) ? -EFAULT : (long)sizeof n;
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (WAIT_EVENT(&t->wait, __atomic_load_n(&t->expired, __ATOMIC_ACQUIRE)))
            return -ERESTARTSYS;
    }
}

static unsigned timerfd_poll(struct file *f, struct poll_table *pt)
{
    struct timerfd *t = f->priv;

    poll_add(pt, &t->wait);
    return __atomic_load_n(&t->expired, __ATOMIC_ACQUIRE) ? POLL_IN : 0;
}

static void timerfd_release(struct file *f)
{
    struct timerfd *t = f->priv;

    ktimer_cancel_sync(&t->timer); /* one that just fired may arm itself once more */
    ktimer_cancel_sync(&t->timer);
    quire_kfree(t);
}

static const struct file_ops timerfd_ops = {
    .read = timerfd_read, .poll = timerfd_poll, .release = timerfd_release};

long sys_timerfd_create(int clock, unsigned flags)
{
    struct timerfd *t;
    struct file *f;

    if (flags & ~(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME)
        return -EINVAL;
    t = quire_kzalloc(sizeof *t, QUIRE_GFP_KERNEL);
    if (!t)
        return -ENOMEM;
    t->timer.fn = timer_fired;
    t->realtime = clock == CLOCK_REALTIME;
    f = file_anon(&timerfd_ops, "anon_inode:[timerfd]", 0600, t, O_RDWR | (flags & O_NONBLOCK));
    if (!f) {
        quire_kfree(t);
        return -ENOMEM;
    }
    return fd_install_flags(f, flags);
}

struct kitimerspec {
    i64 interval_sec, interval_nsec, value_sec, value_nsec;
};

static void current_setting(struct timerfd *t, struct kitimerspec *out)
{
    unsigned long flags = kspin_lock(&t->lock);
    u64 now = ktime_ns(), left = 0;

    if (t->at_ns)
        left = t->at_ns > now ? t->at_ns - now : 1;
    *out = (struct kitimerspec){(i64)(t->interval_ns / NS), (i64)(t->interval_ns % NS),
                                (i64)(left / NS), (i64)(left % NS)};
    kspin_unlock(&t->lock, flags);
}

static struct file *timerfd_get(int fd, int *err)
{
    struct file *f = fd_get(fd);

    *err = -EBADF;
    if (!f || f->ops == &timerfd_ops)
        return f;
    file_put(f);
    *err = -EINVAL;
    return NULL;
}

static void timerfd_set(struct timerfd *t, const struct kitimerspec *s, bool absolute)
{
    u64 value = (u64)s->value_sec * NS + (u64)s->value_nsec, at = 0;
    unsigned long flags;

    if (value && absolute && t->realtime) {
        u64 real = krealtime_ns();

        at = ktime_ns() + (value > real ? value - real : 0);
    } else if (value) {
        at = absolute ? value : ktime_ns() + value;
    }
    ktimer_cancel_sync(&t->timer);
    flags = kspin_lock(&t->lock);
    t->at_ns = at;
    t->interval_ns = (u64)s->interval_sec * NS + (u64)s->interval_nsec;
    t->expired = 0;
    kspin_unlock(&t->lock, flags);
    if (at)
        ktimer_start(&t->timer, at);
}

static bool spec_ok(const struct kitimerspec *s)
{
    return s->value_sec >= 0 && s->value_sec < 1 << 30 && s->interval_sec >= 0 &&
           s->interval_sec < 1 << 30 && (u64)s->value_nsec < NS && (u64)s->interval_nsec < NS;
}

long sys_timerfd_settime(int fd, int how, u64 unew, u64 uold)
{
    struct kitimerspec spec, old;
    struct file *f;
    int err;

    if (copy_from_user(&spec, unew, sizeof spec))
        return -EFAULT;
    if ((how & ~(TFD_ABSTIME | TFD_CANCEL)) || !spec_ok(&spec))
        return -EINVAL;
    f = timerfd_get(fd, &err);
    if (!f)
        return err;
    current_setting(f->priv, &old);
    timerfd_set(f->priv, &spec, how & TFD_ABSTIME);
    file_put(f);
    return uold ? copy_to_user(uold, &old, sizeof old) : 0;
}

long sys_timerfd_gettime(int fd, u64 uout)
{
    struct kitimerspec now;
    int err;
    struct file *f = timerfd_get(fd, &err);

    if (!f)
        return err;
    current_setting(f->priv, &now);
    file_put(f);
    return copy_to_user(uout, &now, sizeof now);
}
