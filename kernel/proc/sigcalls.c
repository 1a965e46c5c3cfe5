/*
 * kernel/proc/sigcalls.c - the system calls of signals: handlers, masks, sending, waiting.
 */
#include "proc.h"

enum { SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK };

/* ---- handlers and masks ---- */

/* A handler that ignores must forget what already waits (POSIX). siglock held. */
static void forget_ignored(struct process *p, const struct sigaction_k *act, int signo)
{
    struct task *t = p->threads;

    if (act->handler != SIG_IGN && !(act->handler == SIG_DFL && SIGBIT(signo) & SIGS_IGNORED))
        return;
    if (p->pending.set & SIGBIT(signo))
        signal_remove(p, &p->pending, SIGBIT(signo));
    do {
        if (t->sig->pending.set & SIGBIT(signo))
            signal_remove(p, &t->sig->pending, SIGBIT(signo));
        t = t->thread_next;
    } while (t != p->threads);
}

#define SA_KNOWN                                                                        \
    (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART | \
     SA_NODEFER | SA_RESETHAND)

long sys_rt_sigaction(int signo, u64 unew, u64 uold, size_t size)
{
    struct process *p = current_process();
    struct sigaction_k new, old;
    unsigned long flags, inner;

    if (size != 8)
        return -EINVAL;
    if (unew && copy_from_user(&new, unew, sizeof(new)))
        return -EFAULT;
    if (signo < 1 || signo > NSIG || (unew && SIGBIT(signo) & SIGS_UNBLOCKABLE))
        return -EINVAL;
    flags = kspin_lock(&p->siglock);
    inner = kspin_lock(&p->sighand->lock);
    old = p->sighand->action[signo - 1];
    if (unew) {
        /* Bits that this kernel does not know are cleared, so that a program can find out. */
        new.flags &= SA_KNOWN;
        new.mask &= ~SIGS_UNBLOCKABLE;
        p->sighand->action[signo - 1] = new;
    }
    kspin_unlock(&p->sighand->lock, inner);
    if (unew)
        forget_ignored(p, &new, signo);
    kspin_unlock(&p->siglock, flags);
    return uold && copy_to_user(uold, &old, sizeof(old)) ? -EFAULT : 0;
}

long sys_rt_sigprocmask(int how, u64 unew, u64 uold, size_t size)
{
    u64 old = current->sig->mask, new;

    if (size != 8)
        return -EINVAL;
    if (unew) {
        if (copy_from_user(&new, unew, 8))
            return -EFAULT;
        switch (how) {
        case SIG_BLOCK: new |= old; break;
        case SIG_UNBLOCK: new = old & ~new; break;
        case SIG_SETMASK: break;
        default: return -EINVAL;
        }
        if ((new & ~SIGS_UNBLOCKABLE) != old)
            signal_mask_set(new);
    }
    return uold && copy_to_user(uold, &old, 8) ? -EFAULT : 0;
}

long sys_rt_sigpending(u64 uset, size_t size)
{
    struct task *t = current;
    u64 set;

    if (size > 8)
        return -EINVAL;
    set = (t->sig->pending.set | t->proc->pending.set) & t->sig->mask;
    return copy_to_user(uset, &set, size) ? -EFAULT : 0;
}

/* ---- waiting ---- */

static long wait_for_handler(void)
{
    for (;;) {
        wait_prepare();
        if (signal_pending(current) || wait_sleep(WAIT_FOREVER))
            break;
    }
    wait_finish();
    return -ERESTARTNOHAND;
}

long sys_pause(void) { return wait_for_handler(); }

long sys_rt_sigsuspend(u64 umask, size_t size)
{
    int err = size != 8 ? -EINVAL : umask ? signal_mask_set_user(umask, size) : -EFAULT;

    return err ? err : wait_for_handler();
}

static int dequeue(u64 set, struct sigentry *e)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);
    int signo = signal_dequeue(current, set, e);

    if (signo)
        signal_recalc(current);
    kspin_unlock(&p->siglock, flags);
    return signo;
}

/* While we sleep the wanted signals are unblocked, so that senders wake us; real_mask tells them that
 * the default action does not happen. */
static int wait_for_signal(u64 set, u64 deadline, struct sigentry *e)
{
    struct task_signals *s = current->sig;
    u64 old = s->mask;
    int signo, err = 0;

    s->real_mask = old;
    signal_mask_set(old & ~set);
    wait_prepare();
    if (!signal_pending(current))
        err = wait_sleep(deadline);
    wait_finish();
    s->real_mask = 0;
    signo = dequeue(set, e);
    signal_mask_set(old);
    return signo ? signo : err == -ETIMEDOUT ? -EAGAIN : -EINTR;
}

long sys_rt_sigtimedwait(u64 uset, u64 uinfo, u64 utimeout, size_t size)
{
    struct sigentry e;
    u64 set, ns = 0, deadline = WAIT_FOREVER;
    u8 info[128];
    int signo;

    if (size != 8)
        return -EINVAL;
    if (copy_from_user(&set, uset, 8))
        return -EFAULT;
    if (utimeout) {
        int err = timespec_get(utimeout, &ns);

        if (err)
            return err;
        deadline = ktime_ns() + ns;
        if (deadline < ns)
            deadline = WAIT_FOREVER;
    }
    set &= ~SIGS_UNBLOCKABLE;
    signo = dequeue(set, &e);
    if (!signo && (!utimeout || ns))
        signo = wait_for_signal(set, deadline, &e);
    if (signo <= 0)
        return signo ? signo : -EAGAIN;
    siginfo_to_user_bytes(&e.si, e.extra, info);
    return uinfo && copy_to_user(uinfo, info, sizeof(info)) ? -EFAULT : signo;
}

/* ---- sending ---- */

static struct ksiginfo from_me(int signo, int code)
{
    return (struct ksiginfo){.signo = signo,
                             .code = code,
                             .pid = current_process()->pid,
                             .uid = (int)current_process()->uid};
}

/* Signal 0 only asks whether it would be allowed. */
static int send_checked(struct process *p, struct task *t, const struct ksiginfo *si,
                        const u64 *extra)
{
    if (!signal_permitted(p, si->signo))
        return -EPERM;
    return si->signo ? signal_send(p, t, si, extra) : 0;
}

/* Everybody of the group, or (pgid 0) everybody but init and ourselves. */
static long kill_many(int pgid, const struct ksiginfo *si)
{
    struct process *me = current_process();
    unsigned long flags = kspin_lock(&proc_lock);
    long result = -ESRCH;
    bool success = false;

    for (struct process *p = process_list; p; p = p->all_next) {
        int err;

        if (pgid ? p->pgid != pgid : p == me || p->pid <= 1)
            continue;
        err = send_checked(p, NULL, si, NULL);
        success = success || !err;
        if (pgid || err != -EPERM)
            result = err;
    }
    kspin_unlock(&proc_lock, flags);
    return success ? 0 : result;
}

/* A thread's number names its process too.  Referenced, or NULL. */
static struct process *process_of_number(int pid)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct process *p = process_find_locked(pid);
    struct task *t = p ? NULL : task_find_locked(pid);

    p = t ? t->proc : p;
    if (p)
        process_get(p);
    kspin_unlock(&proc_lock, flags);
    return p;
}

static long kill_one(int pid, const struct ksiginfo *si, const u64 *extra)
{
    struct process *p = process_of_number(pid);
    long err;

    if (!p)
        return -ESRCH;
    err = send_checked(p, NULL, si, extra);
    process_put(p);
    return err;
}

long sys_kill(int pid, int signo)
{
    struct ksiginfo si = from_me(signo, SI_USER);

    if (pid == (int)0x80000000)
        return -ESRCH;
    if (signo < 0 || signo > NSIG)
        return -EINVAL;
    if (pid > 0)
        return kill_one(pid, &si, NULL);
    return kill_many(pid == 0 ? current_process()->pgid : pid == -1 ? 0 : -pid, &si);
}

/* tgid -1: whichever process the thread is of. */
static long kill_thread(int tgid, int tid, const struct ksiginfo *si, const u64 *extra)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct task *t = task_find_locked(tid);
    long err = -ESRCH;

    /* The list keeps t and its process while we hold the lock. */
    if (t && t->proc && (tgid == -1 || t->proc->pid == tgid))
        err = send_checked(t->proc, t, si, extra);
    kspin_unlock(&proc_lock, flags);
    return err;
}

long sys_tgkill(int tgid, int tid, int signo)
{
    struct ksiginfo si = from_me(signo, SI_TKILL);

    if (tgid <= 0 || tid <= 0 || signo < 0 || signo > NSIG)
        return -EINVAL;
    return kill_thread(tgid, tid, &si, NULL);
}

long sys_tkill(int tid, int signo)
{
    struct ksiginfo si = from_me(signo, SI_TKILL);

    if (tid <= 0 || signo < 0 || signo > NSIG)
        return -EINVAL;
    return kill_thread(-1, tid, &si, NULL);
}

static int get_siginfo(u64 uinfo, int signo, struct ksiginfo *si, u64 extra[2])
{
    u8 b[128];

    if (copy_from_user(b, uinfo, sizeof(b)))
        return -EFAULT;
    *si = (struct ksiginfo){.signo = signo};
    memcpy(&si->err, b + 4, 4);
    memcpy(&si->code, b + 8, 4);
    memcpy(&si->pid, b + 16, 4);
    memcpy(&si->uid, b + 20, 4);
    memcpy(&si->value, b + 24, 8);
    memcpy(extra, b + 32, 16);
    if (si->code == SI_TIMER) {
        si->timerid = si->pid;
        si->overrun = si->uid;
    }
    return 0;
}

/* Only the kernel speaks with a code of its own (and kill(2)'s): to oneself anything goes. */
static bool forged(const struct ksiginfo *si, int pid)
{
    return (si->code >= 0 || si->code == SI_TKILL) && current_process()->pid != pid;
}

long sys_rt_sigqueueinfo(int pid, int signo, u64 uinfo)
{
    struct ksiginfo si;
    u64 extra[2];
    int err = get_siginfo(uinfo, signo, &si, extra);

    if (err)
        return err;
    if (forged(&si, pid))
        return -EPERM;
    if (signo < 0 || signo > NSIG)
        return -EINVAL;
    return kill_one(pid, &si, extra);
}

long sys_rt_tgsigqueueinfo(int tgid, int tid, int signo, u64 uinfo)
{
    struct ksiginfo si;
    u64 extra[2];
    int err = get_siginfo(uinfo, signo, &si, extra);

    if (err)
        return err;
    if (tgid <= 0 || tid <= 0)
        return -EINVAL;
    if ((si.code >= 0 || si.code == SI_TKILL) && current->tid != tid)
        return -EPERM;
    if (signo < 0 || signo > NSIG)
        return -EINVAL;
    return kill_thread(tgid, tid, &si, extra);
}

long sys_pidfd_send_signal(int pidfd, int signo, u64 uinfo, unsigned flags)
{
    struct file *f;
    struct process *p;
    struct ksiginfo si = from_me(signo, SI_USER);
    u64 extra[2] = {0};
    long err = 0;

    if (flags)
        return -EINVAL;
    f = fd_get(pidfd);
    if (!f)
        return -EBADF;
    p = pidfd_process(f);
    if (!p)
        err = -EBADF;
    if (!err && uinfo) {
        err = get_siginfo(uinfo, signo, &si, extra);
        if (!err && forged(&si, p->pid))
            err = -EPERM;
    }
    if (!err && (signo < 0 || signo > NSIG))
        err = -EINVAL;
    if (!err && p->zombie && !p->parent)
        err = -ESRCH;
    if (!err)
        err = send_checked(p, NULL, &si, extra);
    file_put(f);
    return err;
}
