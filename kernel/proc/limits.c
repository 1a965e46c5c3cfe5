/*
 * kernel/proc/limits.c - resource limits, and what was used.
 */
#include "proc.h"

void limits_init(struct process *p)
{
    for (int i = 0; i < RLIMITS; i++)
        p->rlim[i] = (struct rlimit64){RLIM_INFINITY, RLIM_INFINITY};
    p->rlim[RLIMIT_STACK].cur = 8ul << 20;
    p->rlim[RLIMIT_CORE].cur = 0;
    p->rlim[RLIMIT_NPROC] = (struct rlimit64){PID_MAX / 2, PID_MAX / 2};
    p->rlim[RLIMIT_NOFILE] = (struct rlimit64){1024, 4096};
    p->rlim[RLIMIT_MEMLOCK] = (struct rlimit64){8ul << 20, 8ul << 20};
    p->rlim[RLIMIT_SIGPENDING] = (struct rlimit64){PID_MAX / 2, PID_MAX / 2};
    p->rlim[RLIMIT_MSGQUEUE] = (struct rlimit64){819200, 819200};
    p->rlim[RLIMIT_NICE] = p->rlim[RLIMIT_RTPRIO] = (struct rlimit64){0, 0};
}

u64 limits_memlock(const struct process *p)
{
    return p->cap_effective >> CAP_IPC_LOCK & 1 ? RLIM_INFINITY : p->rlim[RLIMIT_MEMLOCK].cur;
}

void limits_apply(struct process *p, struct quire_space *s)
{
    struct quire_space_config limits = {.limit_as = p->rlim[RLIMIT_AS].cur,
                                        .limit_data = p->rlim[RLIMIT_DATA].cur,
                                        .limit_stack = p->rlim[RLIMIT_STACK].cur,
                                        .limit_memlock = limits_memlock(p)};

    quire_space_set_limits(s, &limits);
}

static long change(struct process *p, unsigned which, const struct rlimit64 *new)
{
    struct quire_space *s;

    if (new->cur > new->max)
        return -EINVAL;
    if (which == RLIMIT_NOFILE && new->max > 1u << 20)
        return -EPERM;
    if (new->max > p->rlim[which].max && !capable(CAP_SYS_RESOURCE))
        return -EPERM;
    p->rlim[which] = *new;
    if (which == RLIMIT_CPU)
        cpu_timer_start(p);
    s = process_space(p);
    if (s) {
        limits_apply(p, s);
        quire_space_put(s);
    }
    return 0;
}

static bool may_limit(const struct process *p)
{
    const struct process *me = current_process();

    if (p == me || capable(CAP_SYS_RESOURCE))
        return true;
    return me->uid == p->uid && me->uid == p->euid && me->uid == p->suid && me->gid == p->gid &&
           me->gid == p->egid && me->gid == p->sgid;
}

long sys_prlimit64(int pid, unsigned which, u64 unew, u64 uold)
{
    struct process *p;
    struct rlimit64 new, old;
    long err = 0;

    if (which >= RLIMITS)
        return -EINVAL;
    if (unew && copy_from_user(&new, unew, sizeof(new)))
        return -EFAULT;
    p = process_find(pid ? pid : current_process()->pid);
    if (!p)
        return -ESRCH;
    old = p->rlim[which];
    if (!may_limit(p))
        err = -EPERM;
    else if (unew)
        err = change(p, which, &new);
    process_put(p);
    if (!err && uold && copy_to_user(uold, &old, sizeof(old)))
        err = -EFAULT;
    return err;
}

long sys_getrlimit(unsigned which, u64 uold)
{
    if (which >= RLIMITS)
        return -EINVAL;
    return copy_to_user(uold, &current_process()->rlim[which], sizeof(struct rlimit64)) ? -EFAULT
                                                                                        : 0;
}

long sys_setrlimit(unsigned which, u64 unew)
{
    struct rlimit64 new;

    if (copy_from_user(&new, unew, sizeof(new)))
        return -EFAULT;
    return which < RLIMITS ? change(current_process(), which, &new) : -EINVAL;
}

/* ---- use ---- */

enum { RUSAGE_CHILDREN = -1, RUSAGE_SELF = 0, RUSAGE_THREAD = 1 };

static void rusage_self(struct process *p, u64 r[18])
{
    struct quire_space_stats stats;
    u64 user, system;
    unsigned long flags = kspin_lock(&p->siglock);
    struct task *t = p->threads;

    process_cpu_ns(p, &user, &system);
    r[8] = p->min_flt, r[9] = p->maj_flt, r[16] = p->nvcsw, r[17] = p->nivcsw;
    do {
        r[8] += t->min_flt, r[9] += t->maj_flt, r[16] += t->nvcsw, r[17] += t->nivcsw;
        t = t->thread_next;
    } while (t != p->threads);
    kspin_unlock(&p->siglock, flags);
    ns_to_timeval(user, r);
    ns_to_timeval(system, r + 2);
    quire_space_stats(p->space, &stats);
    r[4] = stats.peak_rss * 4;
}

static void rusage_children(const struct process *p, u64 r[18])
{
    ns_to_timeval(p->cutime_ns, r);
    ns_to_timeval(p->cstime_ns, r + 2);
    r[4] = p->cmaxrss_kib;
    r[8] = p->cmin_flt, r[9] = p->cmaj_flt, r[16] = p->cnvcsw, r[17] = p->cnivcsw;
}

long sys_getrusage(int who, u64 uusage)
{
    struct process *p = current_process();
    struct task *t = current;
    u64 r[18] = {0};

    switch (who) {
    case RUSAGE_SELF: rusage_self(p, r); break;
    case RUSAGE_CHILDREN: rusage_children(p, r); break;
    case RUSAGE_THREAD:
        rusage_self(p, r);
        ns_to_timeval(t->utime_ns, r);
        ns_to_timeval(t->stime_ns, r + 2);
        r[8] = t->min_flt, r[9] = t->maj_flt, r[16] = t->nvcsw, r[17] = t->nivcsw;
        break;
    default: return -EINVAL;
    }
    return copy_to_user(uusage, r, sizeof(r)) ? -EFAULT : 0;
}

#define TICK_NS 10000000ul /* USER_HZ 100 */

long sys_times(u64 utimes)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);
    u64 user, system, t[4];

    process_cpu_ns(p, &user, &system);
    kspin_unlock(&p->siglock, flags);
    t[0] = user / TICK_NS;
    t[1] = system / TICK_NS;
    t[2] = p->cutime_ns / TICK_NS;
    t[3] = p->cstime_ns / TICK_NS;
    if (utimes && copy_to_user(utimes, t, sizeof(t)))
        return -EFAULT;
    return (long)(ktime_ns() / TICK_NS);
}

/* ---- priorities: nice values ---- */

enum { PRIO_PROCESS, PRIO_PGRP, PRIO_USER };

static bool prio_matches(const struct process *p, int which, int who)
{
    const struct process *me = current_process();

    switch (which) {
    case PRIO_PGRP: return p->pgid == (who ? who : me->pgid);
    case PRIO_USER: return p->uid == (who ? (u32)who : me->uid);
    }
    return false;
}

static int set_nice(struct task *t, int nice)
{
    const struct process *me = current_process();

    if (me->euid != t->proc->uid && me->euid != t->proc->euid && !capable(CAP_SYS_NICE))
        return -EPERM;
    if (nice < t->nice && 20 - nice > (int)K_MIN(me->rlim[RLIMIT_NICE].cur, 40ul) &&
        !capable(CAP_SYS_NICE))
        return -EACCES;
    t->nice = nice;
    return 0;
}

/* Call fn for each thread that (which, who) names. proc_lock held by us meanwhile. */
static long prio_each(int which, int who, int nice, int (*fn)(struct task *, int, long *))
{
    unsigned long flags = kspin_lock(&proc_lock);
    long result = -ESRCH;

    if (which == PRIO_PROCESS) {
        struct task *t = who ? task_find_locked(who) : current;

        if (t && t->proc)
            fn(t, nice, &result);
    } else {
        for (struct process *p = process_list; p; p = p->all_next) {
            struct task *t = p->threads;

            if (!t || !prio_matches(p, which, who))
                continue;
            do {
                fn(t, nice, &result);
                t = t->thread_next;
            } while (t != p->threads);
        }
    }
    kspin_unlock(&proc_lock, flags);
    return result;
}

static int prio_set(struct task *t, int nice, long *result)
{
    int err = set_nice(t, nice);

    if (err || *result == -ESRCH)
        *result = err;
    return err;
}

static int prio_get(struct task *t, int nice, long *result)
{
    (void)nice;
    *result = K_MAX(*result, 20l - t->nice);
    return 0;
}

long sys_setpriority(int which, int who, int nice)
{
    if (which < PRIO_PROCESS || which > PRIO_USER)
        return -EINVAL;
    return prio_each(which, who, K_MAX(-20, K_MIN(nice, 19)), prio_set);
}

/* 20 - nice: never negative. */
long sys_getpriority(int which, int who)
{
    if (which < PRIO_PROCESS || which > PRIO_USER)
        return -EINVAL;
    return prio_each(which, who, 0, prio_get);
}
