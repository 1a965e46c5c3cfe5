/*
 * kernel/proc/pidfd.c - descriptors that name a process: readable when it has ended.
 */
#include "proc.h"
#include "../fs/fsint.h"

static unsigned pidfd_poll(struct file *f, struct poll_table *pt)
{
    struct process *p = f->priv;

    poll_add(pt, &p->exit_wait);
    return __atomic_load_n(&p->zombie, __ATOMIC_ACQUIRE) ? POLL_IN : 0;
}

static void pidfd_release(struct file *f) { process_put(f->priv); }

static const struct file_ops pidfd_ops = {.poll = pidfd_poll, .release = pidfd_release};

int pidfd_make(struct process *p, u32 flags, struct file **out)
{
    *out = file_alloc(&pidfd_ops, NULL, p, 2 /* O_RDWR */ | flags);
    if (!*out)
        return -ENOMEM;
    process_get(p);
    return 0;
}

struct process *pidfd_process(struct file *f) { return f->ops == &pidfd_ops ? f->priv : NULL; }

long sys_pidfd_open(int pid, unsigned flags)
{
    struct process *p;
    struct file *f;
    int err, fd;

    if (flags & ~PIDFD_NONBLOCK || pid <= 0)
        return -EINVAL;
    p = process_find(pid);
    if (!p) {
        struct task *t = task_find(pid);

        if (t)
            task_put(t);
        return t ? -EINVAL : -ESRCH; /* only of a leader */
    }
    err = pidfd_make(p, flags, &f);
    process_put(p);
    if (err)
        return err;
    fd = fd_install(f, true, 0);
    if (fd < 0)
        file_put(f);
    return fd;
}

/* ptrace's question: may the caller look into p? */
static bool may_look_into(const struct process *p)
{
    const struct process *me = current_process();

    return p == me || capable(CAP_SYS_PTRACE) ||
           (me->uid == p->uid && me->uid == p->euid && me->uid == p->suid && p->dumpable == 1);
}

static struct file *file_of_process(struct process *p, int fd, int *err)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct files *files = p->files;
    struct file *f;

    if (files)
        files_get(files);
    kspin_unlock(&proc_lock, flags);
    *err = files ? -EBADF : -ESRCH;
    if (!files)
        return NULL;
    f = files_get_fd(files, fd);
    files_put(files);
    return f;
}

long sys_pidfd_getfd(int pidfd, int target, unsigned flags)
{
    struct file *f, *got = NULL;
    struct process *p;
    int err = -EBADF, fd;

    if (flags)
        return -EINVAL;
    f = fd_get(pidfd);
    if (!f)
        return -EBADF;
    p = pidfd_process(f);
    if (p)
        err = may_look_into(p) ? 0 : -EPERM;
    if (!err)
        got = file_of_process(p, target, &err);
    file_put(f);
    if (!got)
        return err;
    fd = fd_install(got, true, 0);
    if (fd < 0)
        file_put(got);
    return fd;
}
