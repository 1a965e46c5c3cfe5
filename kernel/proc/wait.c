/*
 * kernel/proc/wait.c - wait4, waitid, and what a parent is told.
 */
#include "proc.h"

#define WNOHANG    1u
#define WUNTRACED  2u
#define WEXITED    4u
#define WCONTINUED 8u
#define WNOWAIT    0x01000000u
#define WNOTHREAD  0x20000000u
#define WALL       0x40000000u
#define WCLONE     0x80000000u

enum { P_ALL, P_PID, P_PGID, P_PIDFD };

struct wait_ask {
    int type, id;
    struct process *pidfd;
    bool nonblock; /* the descriptor is: -EAGAIN instead of sleeping */
    unsigned options;
    /* the answer */
    int pid, code, status; /* siginfo's code and status */
    int wstatus;           /* wait4's */
    u32 uid;
    u64 rusage[18];
};

void ns_to_timeval(u64 ns, u64 tv[2])
{
    tv[0] = ns / 1000000000;
    tv[1] = ns % 1000000000 / 1000;
}

/* Live threads and dead ones.  proc_lock or siglock held, or p is a zombie of the caller. */
void process_cpu_ns(struct process *p, u64 *user, u64 *system)
{
    struct task *t = p->threads;

    *user = p->utime_ns;
    *system = p->stime_ns;
    if (!t)
        return;
    do {
        *user += t->utime_ns;
        *system += t->stime_ns;
        t = t->thread_next;
    } while (t != p->threads);
}

/* ---- telling ---- */

/* code 0: p has become a zombie.  Else CLD_STOPPED or CLD_CONTINUED with the signal.  proc_lock. */
void process_notify_parent_locked(struct process *p, int code, int status)
{
    struct process *parent = p->parent;
    struct ksiginfo si = {
        .signo = code ? SIGCHLD : p->exit_signal, .pid = p->pid, .uid = (int)p->uid};
    struct sigaction_k act;

    if (!parent)
        return;
    si.code = code;
    si.status = status;
    if (!code) {
        si.code =
            p->exit_status & 0x7f ? (p->exit_status & 0x80 ? CLD_DUMPED : CLD_KILLED) : CLD_EXITED;
        si.status = p->exit_status & 0x7f ? p->exit_status & 0x7f : p->exit_status >> 8 & 0xff;
    }
    act = signal_action(parent, SIGCHLD);
    if (si.signo && !(code && (act.flags & SA_NOCLDSTOP || act.handler == SIG_IGN)) &&
        !(!code && si.signo == SIGCHLD && act.handler == SIG_IGN))
        signal_send(parent, NULL, &si, NULL);
    waitq_wake_all(&parent->child_wait);
}

/* ---- reaping ---- */

/*
 * The dead child's numbers become free; what it used goes to a parent who waited: that of a child nobody waits
 * for is lost (getrusage(2), RUSAGE_CHILDREN).  proc_lock.
 */
void process_reap_locked(struct process *p, bool waited)
{
    struct process *parent = p->parent;

    if (parent && waited) {
        parent->cutime_ns += p->utime_ns + p->cutime_ns;
        parent->cstime_ns += p->stime_ns + p->cstime_ns;
        parent->cmin_flt += p->min_flt + p->cmin_flt;
        parent->cmaj_flt += p->maj_flt + p->cmaj_flt;
        parent->cnvcsw += p->nvcsw + p->cnvcsw;
        parent->cnivcsw += p->nivcsw + p->cnivcsw;
        parent->cmaxrss_kib = K_MAX(parent->cmaxrss_kib, K_MAX(p->maxrss_kib, p->cmaxrss_kib));
    }
    process_unlink_locked(p);
    process_put(p);
}

static void child_rusage(const struct process *p, u64 r[18])
{
    memset(r, 0, 18 * sizeof(r[0]));
    ns_to_timeval(p->utime_ns + p->cutime_ns, r);
    ns_to_timeval(p->stime_ns + p->cstime_ns, r + 2);
    r[4] = K_MAX(p->maxrss_kib, p->cmaxrss_kib);
    r[8] = p->min_flt + p->cmin_flt;
    r[9] = p->maj_flt + p->cmaj_flt;
    r[16] = p->nvcsw + p->cnvcsw;
    r[17] = p->nivcsw + p->cnivcsw;
}

/* ---- asking ---- */

static bool eligible(const struct process *c, const struct wait_ask *ask)
{
    bool clone = c->exit_signal != SIGCHLD;

    if (ask->type == P_PID && c->pid != ask->id)
        return false;
    if (ask->type == P_PGID && c->pgid != ask->id)
        return false;
    if (ask->type == P_PIDFD && c != ask->pidfd)
        return false;
    return ask->options & WALL || clone == !!(ask->options & WCLONE);
}

static bool take_zombie(struct process *c, struct wait_ask *ask)
{
    int s = c->exit_status;

    if (!c->zombie || !(ask->options & WEXITED))
        return false;
    ask->wstatus = s;
    ask->code = s & 0x7f ? (s & 0x80 ? CLD_DUMPED : CLD_KILLED) : CLD_EXITED;
    ask->status = s & 0x7f ? s & 0x7f : s >> 8 & 0xff;
    child_rusage(c, ask->rusage);
    if (!(ask->options & WNOWAIT))
        process_reap_locked(c, true);
    return true;
}

static bool take_stopped(struct process *c, struct wait_ask *ask)
{
    if (!c->stopped || c->stop_reported || !(ask->options & WUNTRACED))
        return false;
    ask->wstatus = c->stop_sig << 8 | 0x7f;
    ask->code = CLD_STOPPED;
    ask->status = c->stop_sig;
    c->stop_reported = !(ask->options & WNOWAIT);
    return true;
}

static bool take_continued(struct process *c, struct wait_ask *ask)
{
    if (!c->continued || !(ask->options & WCONTINUED))
        return false;
    ask->wstatus = 0xffff;
    ask->code = CLD_CONTINUED;
    ask->status = SIGCONT;
    c->continued = !!(ask->options & WNOWAIT);
    return true;
}

/* Pid, 0: nothing yet, -ECHILD: no such child. */
static int look(struct wait_ask *ask)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct process *me = current_process(), *c, *next;
    int result = -ECHILD;

    for (c = me->children; c; c = next) {
        next = c->sibling_next;
        if (!eligible(c, ask))
            continue;
        result = 0;
        ask->pid = c->pid;
        ask->uid = c->uid;
        memset(ask->rusage, 0, sizeof(ask->rusage));
        if (take_zombie(c, ask) || take_stopped(c, ask) || take_continued(c, ask)) {
            result = ask->pid;
            break;
        }
    }
    kspin_unlock(&proc_lock, flags);
    return result;
}

static long do_wait(struct wait_ask *ask)
{
    struct waiter w;
    long result = look(ask);

    if (result || ask->options & WNOHANG)
        return result;
    if (ask->nonblock)
        return -EAGAIN;
    waitq_add(&current_process()->child_wait, &w);
    for (;;) {
        wait_prepare();
        result = look(ask);
        if (result)
            break;
        if (wait_sleep(WAIT_FOREVER)) {
            result = -ERESTARTSYS;
            break;
        }
    }
    wait_finish();
    waitq_remove(&w);
    return result;
}

/* ---- the calls ---- */

long sys_wait4(int pid, u64 ustatus, unsigned options, u64 urusage)
{
    struct wait_ask ask = {.options = options | WEXITED};
    long result;

    if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE))
        return -EINVAL;
    if (pid == (int)0x80000000)
        return -ESRCH;
    if (pid < -1) {
        ask.type = P_PGID;
        ask.id = -pid;
    } else if (pid == 0) {
        ask.type = P_PGID;
        ask.id = current_process()->pgid;
    } else if (pid > 0) {
        ask.type = P_PID;
        ask.id = pid;
    }
    result = do_wait(&ask);
    if (result <= 0)
        return result;
    if (ustatus && put_user_u32(ustatus, (u32)ask.wstatus))
        return -EFAULT;
    if (urusage && copy_to_user(urusage, ask.rusage, sizeof(ask.rusage)))
        return -EFAULT;
    return result;
}

static int waitid_target(struct wait_ask *ask, int type, int id)
{
    struct file *f;

    ask->type = type;
    ask->id = id;
    switch (type) {
    case P_ALL: return 0;
    case P_PID: return id > 0 ? 0 : -EINVAL;
    case P_PGID:
        if (id < 0)
            return -EINVAL;
        if (id == 0)
            ask->id = current_process()->pgid;
        return 0;
    case P_PIDFD:
        if (id < 0)
            return -EINVAL;
        f = fd_get(id);
        if (!f)
            return -EBADF;
        ask->pidfd = pidfd_process(f);
        if (ask->pidfd)
            process_get(ask->pidfd);
        ask->nonblock = f->flags & PIDFD_NONBLOCK;
        file_put(f);
        return ask->pidfd ? 0 : -EBADF;
    }
    return -EINVAL;
}

static int put_waitid_info(u64 uinfo, const struct wait_ask *ask, bool found)
{
    /* Only the fields that waitid(2) names; the rest of the caller's structure stays. */
    u32 head[3] = {found ? SIGCHLD : 0, 0, found ? (u32)ask->code : 0};
    u32 body[3] = {found ? (u32)ask->pid : 0, found ? ask->uid : 0, found ? (u32)ask->status : 0};

    if (copy_to_user(uinfo, head, sizeof(head)) || copy_to_user(uinfo + 16, body, sizeof(body)))
        return -EFAULT;
    return 0;
}

long sys_waitid(int type, int id, u64 uinfo, unsigned options, u64 urusage)
{
    struct wait_ask ask = {.options = options};
    long result;

    if (options &
        ~(WNOHANG | WNOWAIT | WEXITED | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE))
        return -EINVAL;
    if (!(options & (WEXITED | WUNTRACED | WCONTINUED)))
        return -EINVAL;
    result = waitid_target(&ask, type, id);
    if (!result)
        result = do_wait(&ask);
    if (ask.pidfd)
        process_put(ask.pidfd);
    if (result < 0)
        return result;
    if (result > 0 && urusage && copy_to_user(urusage, ask.rusage, sizeof(ask.rusage)))
        return -EFAULT;
    return uinfo ? put_waitid_info(uinfo, &ask, result > 0) : 0;
}
