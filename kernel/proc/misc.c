/*
 * kernel/proc/misc.c - small calls about the machine as a whole, and shared user-memory conversions.
 */
#include "proc.h"

int timespec_get(u64 at, u64 *ns)
{
    i64 ts[2];

    if (copy_from_user(ts, at, sizeof(ts)))
        return -EFAULT;
    if (ts[0] < 0 || ts[1] < 0 || ts[1] >= 1000000000)
        return -EINVAL;
    /* About 292 years: later is as good as for ever. */
    *ns = ts[0] > 9223372035 ? 9223372035ull * 1000000000 : (u64)ts[0] * 1000000000 + (u64)ts[1];
    return 0;
}

int timespec_put(u64 at, u64 ns)
{
    u64 ts[2] = {ns / 1000000000, ns % 1000000000};

    return copy_to_user(at, ts, sizeof(ts)) ? -EFAULT : 0;
}

/* ---- names ---- */

static struct {
    struct kspin lock;
    char hostname[UTS_LEN], domain[UTS_LEN];
} uts = {.hostname = "quire", .domain = "(none)"};

void uts_get(char n[6][UTS_LEN])
{
    static const char fixed[6][UTS_LEN] = {"Linux", "", "6.1.0-quire", "#1 SMP", "x86_64", ""};
    unsigned long flags = kspin_lock(&uts.lock);

    memcpy(n, fixed, sizeof(fixed));
    memcpy(n[1], uts.hostname, UTS_LEN);
    memcpy(n[5], uts.domain, UTS_LEN);
    kspin_unlock(&uts.lock, flags);
}

long sys_uname(u64 at)
{
    char n[6][UTS_LEN];

    uts_get(n);
    return copy_to_user(at, n, sizeof(n)) ? -EFAULT : 0;
}

static long set_name(char *name, u64 uname, int len)
{
    char new[UTS_LEN] = {0};
    unsigned long flags;

    if (!capable(CAP_SYS_ADMIN))
        return -EPERM;
    if (len < 0 || len >= UTS_LEN)
        return -EINVAL;
    if (copy_from_user(new, uname, (size_t)len))
        return -EFAULT;
    flags = kspin_lock(&uts.lock);
    memcpy(name, new, UTS_LEN);
    kspin_unlock(&uts.lock, flags);
    return 0;
}

long sys_sethostname(u64 name, int len) { return set_name(uts.hostname, name, len); }
long sys_setdomainname(u64 name, int len) { return set_name(uts.domain, name, len); }

/* ---- the machine ---- */

struct sysinfo {
    i64 uptime;
    u64 loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
    u16 procs, pad;
    u32 pad2;
    u64 totalhigh, freehigh;
    u32 unit;
    char end[4];
};
_Static_assert(sizeof(struct sysinfo) == 112, "Linux's ABI");

long sys_sysinfo(u64 at)
{
    struct sysinfo s = {.uptime = (i64)(ktime_ns() / 1000000000), .unit = 1};
    u64 files, shared, procs = 0, running = 0;
    unsigned long flags = kspin_lock(&proc_lock);

    for (struct process *p = process_list; p; p = p->all_next) {
        struct task *t = p->threads;

        for (int n = p->nthreads; n > 0; n--, t = t->thread_next)
            running += t->state == TASK_RUNNABLE;
        procs += (u64)p->nthreads;
    }
    kspin_unlock(&proc_lock, flags);
    /* As in /proc/loadavg: the present value stands for all three averages. 16 bits of fraction. */
    s.loads[0] = s.loads[1] = s.loads[2] = running << 16;
    quire_object_totals(&files, &shared);
    s.totalram = quire_managed_pages() * QUIRE_PAGE_SIZE;
    s.freeram = quire_free_pages() * QUIRE_PAGE_SIZE;
    s.sharedram = shared * QUIRE_PAGE_SIZE;
    s.procs = (u16)K_MIN(procs, 65535ul);
    return copy_to_user(at, &s, sizeof(s)) ? -EFAULT : 0;
}
