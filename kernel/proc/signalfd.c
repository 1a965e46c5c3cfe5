/*
 * kernel/proc/signalfd.c - signals read from a descriptor.  Always those of the reader, as in Linux.
 */
#include "fs.h"
#include "proc.h"

#define SFD_CLOEXEC  0x80000u
#define SFD_NONBLOCK 0x800u

struct signalfd {
    u64 mask; /* atomic */
};

/*
 * One queue for all: a waiter may outlive the process whose signals it waits for (epoll keeps it while the
 * descriptor is open anywhere).  Each looks at its own signals when woken.
 */
struct waitq signalfd_wait;

static const struct file_ops signalfd_ops;

static bool pending(u64 mask)
{
    struct task *t = current;

    return (t->sig->pending.set | t->proc->pending.set) & mask;
}

static unsigned signalfd_poll(struct file *f, struct poll_table *pt)
{
    struct signalfd *s = f->priv;

    poll_add(pt, &signalfd_wait);
    return pending(__atomic_load_n(&s->mask, __ATOMIC_RELAXED)) ? POLL_IN : 0;
}

/* struct signalfd_siginfo. */
static void fill(const struct sigentry *e, u8 out[128])
{
    const struct ksiginfo *si = &e->si;
    u32 w[10] = {(u32)si->signo,   (u32)si->err,
                 (u32)si->code,    (u32)si->pid,
                 (u32)si->uid,     0,
                 (u32)si->timerid, 0,
                 (u32)si->overrun, 0};
    u32 status = (u32)si->status, value = (u32)si->value;

    memset(out, 0, 128);
    memcpy(out, w, sizeof(w));
    memcpy(out + 40, &status, 4);
    memcpy(out + 44, &value, 4);
    memcpy(out + 48, &si->value, 8);
    memcpy(out + 72, &si->addr, 8);
}

static int take(struct signalfd *s, struct sigentry *e)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);
    int signo = signal_dequeue(current, __atomic_load_n(&s->mask, __ATOMIC_RELAXED), e);

    signal_recalc(current);
    kspin_unlock(&p->siglock, flags);
    return signo;
}

static long signalfd_read(struct file *f, struct uio *u, u64 *pos)
{
    struct signalfd *s = f->priv;
    struct sigentry e;
    u8 out[128];
    long done = 0;

    (void)pos;
    if (u->left < sizeof(out))
        return -EINVAL;
    while (u->left >= sizeof(out)) {
        if (!take(s, &e)) {
            int err;

            if (done)
                break;
            if (f->flags & SFD_NONBLOCK)
                return -EAGAIN;
            err = WAIT_EVENT(&signalfd_wait, pending(__atomic_load_n(&s->mask, __ATOMIC_RELAXED)));
            if (err)
                return -ERESTARTSYS;
            continue;
        }
        fill(&e, out);
        if (uio_put(u, out, sizeof(out)))
            return done ? done : -EFAULT;
        done += (long)sizeof(out);
    }
    return done;
}

static void signalfd_release(struct file *f) { quire_kfree(f->priv); }

static const struct file_ops signalfd_ops = {
    .read = signalfd_read, .poll = signalfd_poll, .release = signalfd_release};

static long new_signalfd(u64 mask, unsigned flags)
{
    struct signalfd *s = quire_kmalloc(sizeof(*s), QUIRE_GFP_KERNEL);
    struct file *f;
    int fd;

    if (!s)
        return -ENOMEM;
    s->mask = mask;
    f = file_alloc(&signalfd_ops, NULL, s, 2 /* O_RDWR */ | (flags & SFD_NONBLOCK));
    if (!f) {
        quire_kfree(s);
        return -ENOMEM;
    }
    fd = fd_install(f, flags & SFD_CLOEXEC, 0);
    if (fd < 0)
        file_put(f);
    return fd;
}

long sys_signalfd4(int fd, u64 umask, size_t size, unsigned flags)
{
    struct file *f;
    u64 mask;

    if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK) || size != 8)
        return -EINVAL;
    if (copy_from_user(&mask, umask, 8))
        return -EFAULT;
    mask &= ~SIGS_UNBLOCKABLE;
    if (fd == -1)
        return new_signalfd(mask, flags);
    f = fd_get(fd);
    if (!f)
        return -EBADF;
    if (f->ops == &signalfd_ops) {
        __atomic_store_n(&((struct signalfd *)f->priv)->mask, mask, __ATOMIC_RELAXED);
        waitq_wake_all(&signalfd_wait);
    } else {
        fd = -EINVAL;
    }
    file_put(f);
    return fd;
}

long sys_signalfd(int fd, u64 umask, size_t size) { return sys_signalfd4(fd, umask, size, 0); }
