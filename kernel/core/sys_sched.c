/*
 * core/sys_sched.c - system calls about scheduling: sched_*(2), getcpu(2).
 */
#include "arch/cpu.h"
#include "sched.h"
#include "task.h"
#include "uaccess.h"

#define RESET_ON_FORK 0x40000000
#define RT_MAX        99
#define CAP_SYS_NICE  23
#define ATTR_SIZE_0   48 /* struct sched_attr as first published */

struct attr {
    u32 size, policy;
    u64 flags;
    int nice;
    u32 priority;
    u64 runtime, deadline, period;
};

long sys_sched_yield(void)
{
    sched_yield_now();
    return 0;
}

long sys_getcpu(u64 cpu, u64 node)
{
    struct cpu *c = this_cpu();

    if ((cpu && put_user_u32(cpu, c->index)) || (node && put_user_u32(node, c->node)))
        return -EFAULT;
    return 0;
}

/* The task with a reference; pid 0: the caller.  NULL: ESRCH. */
static struct task *find(int pid)
{
    if (pid)
        return task_find(pid);
    task_get(current);
    return current;
}

static bool may_change(const struct task *t)
{
    const struct process *me = current->proc, *p = t->proc;

    return !p || me->euid == p->uid || me->euid == p->euid || capable(CAP_SYS_NICE);
}

/* ---- affinity ---- */

long sys_sched_setaffinity(int pid, unsigned len, u64 at)
{
    u64 mask[4] = {0};
    struct task *t;
    long err;

    if (copy_from_user(mask, at, K_MIN(len, (unsigned)sizeof(mask))))
        return -EFAULT;
    t = find(pid);
    if (!t)
        return -ESRCH;
    err = may_change(t) ? task_set_affinity(t, mask) : -EPERM;
    task_put(t);
    return err;
}

long sys_sched_getaffinity(int pid, unsigned len, u64 at)
{
    unsigned bytes = K_UP(K_MAX_CPUS, 64) / 8;
    u64 mask[4] = {0};
    struct task *t;

    if (len * 8ul < cpu_count || len & 7)
        return -EINVAL;
    t = find(pid);
    if (!t)
        return -ESRCH;
    for (unsigned i = 0; i < cpu_count; i++)
        if (cpus[i].online)
            mask[i / 64] |= t->affinity[i / 64] & 1ull << i % 64;
    task_put(t);
    bytes = K_MIN(bytes, len);
    return copy_to_user(at, mask, bytes) ? -EFAULT : (long)bytes;
}

/* ---- policies ---- */

static bool policy_ok(int policy)
{
    return policy == SCHED_NORMAL || policy == SCHED_FIFO || policy == SCHED_RR ||
           policy == SCHED_BATCH || policy == SCHED_IDLE;
}

static bool realtime(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }

/* Without CAP_SYS_NICE: RLIMIT_RTPRIO bounds rising, and SCHED_IDLE is left only as nice allows. */
static bool change_permitted(const struct task *t, int policy, int priority, int nice)
{
    const struct process *me = current->proc;

    if (capable(CAP_SYS_NICE))
        return true;
    if (!may_change(t))
        return false;
    if (realtime(policy) && (policy != t->policy || priority > t->rt_priority) &&
        (u64)priority > me->rlim[14].cur)
        return false;
    return nice >= t->nice || 20 - nice <= (int)K_MIN(me->rlim[13].cur, 40ul);
}

static long change(int pid, int policy, int priority, int nice, bool keep_nice)
{
    struct task *t;
    bool reset;
    long err = 0;

    t = find(pid);
    if (!t)
        return -ESRCH;
    reset = policy == -1 ? t->reset_on_fork : (bool)(policy & RESET_ON_FORK);
    policy = policy == -1 ? t->policy : policy & ~RESET_ON_FORK;
    nice = keep_nice ? t->nice : nice;
    if (!policy_ok(policy) || priority < 0 || priority > RT_MAX ||
        realtime(policy) != (priority > 0)) {
        err = -EINVAL;
    } else if (!change_permitted(t, policy, priority, nice) ||
               (t->reset_on_fork && !reset && !capable(CAP_SYS_NICE))) {
        err = -EPERM;
    } else {
        t->reset_on_fork = reset;
        sched_change(t, policy, priority, nice);
    }
    task_put(t);
    return err;
}

static long get_priority(u64 at, int *priority)
{
    u32 v;

    if (get_user_u32(&v, at))
        return -EFAULT;
    *priority = (int)v;
    return 0;
}

long sys_sched_setscheduler(int pid, int policy, u64 param)
{
    int priority;

    if (policy < 0 || pid < 0 || !param)
        return -EINVAL;
    if (get_priority(param, &priority))
        return -EFAULT;
    return change(pid, policy, priority, 0, true);
}

long sys_sched_setparam(int pid, u64 param)
{
    int priority;

    if (pid < 0 || !param)
        return -EINVAL;
    if (get_priority(param, &priority))
        return -EFAULT;
    return change(pid, -1, priority, 0, true);
}

long sys_sched_getscheduler(int pid)
{
    struct task *t;
    long policy;

    if (pid < 0)
        return -EINVAL;
    t = find(pid);
    if (!t)
        return -ESRCH;
    policy = t->policy | (t->reset_on_fork ? RESET_ON_FORK : 0);
    task_put(t);
    return policy;
}

long sys_sched_getparam(int pid, u64 param)
{
    struct task *t;
    int priority;

    if (pid < 0 || !param)
        return -EINVAL;
    t = find(pid);
    if (!t)
        return -ESRCH;
    priority = t->rt_priority;
    task_put(t);
    return put_user_u32(param, (u32)priority);
}

long sys_sched_get_priority_max(int policy)
{
    return !policy_ok(policy) && policy != SCHED_DEADLINE ? -EINVAL : realtime(policy) ? RT_MAX : 0;
}

long sys_sched_get_priority_min(int policy)
{
    return !policy_ok(policy) && policy != SCHED_DEADLINE ? -EINVAL : realtime(policy) ? 1 : 0;
}

long sys_sched_rr_get_interval(int pid, u64 at)
{
    struct task *t;
    u64 ns;

    if (pid < 0)
        return -EINVAL;
    t = find(pid);
    if (!t)
        return -ESRCH;
    ns = sched_slice_ns(t);
    task_put(t);
    return copy_to_user(at, (u64[2]){ns / 1000000000, ns % 1000000000}, 16);
}

/* ---- sched_setattr(2) ---- */

long sys_sched_setattr(int pid, u64 at, unsigned flags)
{
    struct attr a;
    u32 size;

    if (!at || pid < 0 || flags)
        return -EINVAL;
    if (get_user_u32(&size, at))
        return -EFAULT;
    if (size && size < ATTR_SIZE_0)
        return put_user_u32(at, sizeof(a)) ? -EFAULT : -E2BIG;
    if (copy_from_user(&a, at, sizeof(a)))
        return -EFAULT;
    if ((int)a.policy < 0 || a.flags & ~1ull || a.policy == SCHED_DEADLINE)
        return -EINVAL;
    return change(pid, (int)a.policy | (a.flags & 1 ? RESET_ON_FORK : 0), (int)a.priority,
                  K_MAX(-20, K_MIN(a.nice, 19)), realtime((int)a.policy));
}

long sys_sched_getattr(int pid, u64 at, unsigned size, unsigned flags)
{
    struct attr a = {.size = ATTR_SIZE_0};
    struct task *t;

    if (!at || pid < 0 || size > 4096 || size < ATTR_SIZE_0 || flags)
        return -EINVAL;
    t = find(pid);
    if (!t)
        return -ESRCH;
    a.policy = (u32)t->policy;
    a.flags = t->reset_on_fork;
    a.nice = realtime(t->policy) ? 0 : t->nice;
    a.priority = (u32)t->rt_priority;
    task_put(t);
    return copy_to_user(at, &a, sizeof(a));
}
