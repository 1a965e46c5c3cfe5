/*
 * core/sys_time.c - system calls about time: clock_*(2), nanosleep(2), gettimeofday(2), time(2).
 */
#include "ktime.h"
#include "sched.h"
#include "signal.h"
#include "task.h"
#include "uaccess.h"
#include "wait.h"

#define SEC_NS        1000000000ull
#define CAP_SYS_TIME  25
#define TICK_NS       4000000
#define TIMER_ABSTIME 1

enum {
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
    CLOCK_REALTIME_ALARM,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_TAI = 11
};

struct timespec {
    i64 sec, nsec;
};

/* Later than 292 years is as good as for ever. */
static int get_timespec(u64 at, u64 *ns)
{
    struct timespec ts;

    if (copy_from_user(&ts, at, sizeof(ts)))
        return -EFAULT;
    if (ts.sec < 0 || ts.nsec < 0 || ts.nsec >= (i64)SEC_NS)
        return -EINVAL;
    *ns = ts.sec > 9223372035 ? 9223372035 * SEC_NS : (u64)ts.sec * SEC_NS + (u64)ts.nsec;
    return 0;
}

static long put_timespec(u64 at, u64 ns)
{
    struct timespec ts = {(i64)(ns / SEC_NS), (i64)(ns % SEC_NS)};

    return copy_to_user(at, &ts, sizeof(ts));
}

/* ---- CPU time ---- */

static u64 task_ns(struct task *t)
{
    sched_charge(t);
    return t->utime_ns + t->stime_ns;
}

static u64 process_ns(struct process *p)
{
    unsigned long flags = kspin_lock(&proc_lock);
    u64 ns = p->utime_ns + p->stime_ns;
    struct task *t = p->threads;

    if (t) {
        do {
            ns += task_ns(t);
            t = t->thread_next;
        } while (t != p->threads);
    }
    kspin_unlock(&proc_lock, flags);
    return ns;
}

/*
 * Clocks below 0 name a process or thread: ~id << 3 | 4 (a thread's) | kind
 * (clock_getcpuclockid(3)).  0, or -EINVAL if there is none.  ns NULL: only asks.
 */
static long cpu_clock(int clock, u64 *ns)
{
    int id = ~(clock >> 3);
    u64 v;

    if ((clock & 3) == 3 || id < 0)
        return -EINVAL;
    if (clock & 4) {
        struct task *t = id ? task_find(id) : current;

        if (!t)
            return -EINVAL;
        v = task_ns(t);
        if (id)
            task_put(t);
    } else {
        struct process *p = id ? process_find(id) : current->proc;

        if (!p)
            return -EINVAL;
        v = process_ns(p);
        if (id)
            process_put(p);
    }
    if (ns)
        *ns = v;
    return 0;
}

static long read_clock(int clock, u64 *ns)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_TAI: *ns = krealtime_ns(); return 0;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM: *ns = ktime_ns(); return 0;
    case CLOCK_PROCESS_CPUTIME_ID: *ns = process_ns(current->proc); return 0;
    case CLOCK_THREAD_CPUTIME_ID: *ns = task_ns(current); return 0;
    default: return clock < 0 ? cpu_clock(clock, ns) : -EINVAL;
    }
}

/* ---- reading and setting ---- */

long sys_clock_gettime(int clock, u64 at)
{
    u64 ns;
    long err = read_clock(clock, &ns);

    return err ? err : put_timespec(at, ns);
}

long sys_clock_getres(int clock, u64 at)
{
    u64 ns;
    long err = read_clock(clock, &ns);

    if (err || !at)
        return err;
    return put_timespec(
        at, clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ? TICK_NS : 1);
}

long sys_clock_settime(int clock, u64 at)
{
    u64 ns;
    int err;

    if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
        return read_clock(clock, &ns) ? -EINVAL : -EPERM;
    if (clock != CLOCK_REALTIME)
        return -EINVAL;
    err = get_timespec(at, &ns);
    if (err)
        return err;
    if (!capable(CAP_SYS_TIME))
        return -EPERM;
    krealtime_set(ns);
    return 0;
}

long sys_gettimeofday(u64 tv, u64 tz)
{
    u64 ns = krealtime_ns();
    static const u32 utc[2];

    if (tv && copy_to_user(tv, (u64[2]){ns / SEC_NS, ns % SEC_NS / 1000}, 16))
        return -EFAULT;
    return tz ? copy_to_user(tz, utc, sizeof(utc)) : 0;
}

long sys_settimeofday(u64 tv, u64 tz)
{
    i64 v[2];
    u32 zone[2];

    if (tv && copy_from_user(v, tv, sizeof(v)))
        return -EFAULT;
    if (tv && (v[0] < 0 || v[1] < 0 || v[1] >= 1000000))
        return -EINVAL;
    if (tz && copy_from_user(zone, tz, sizeof(zone)))
        return -EFAULT;
    if (!capable(CAP_SYS_TIME))
        return -EPERM;
    if (tv)
        krealtime_set((u64)v[0] * SEC_NS + (u64)v[1] * 1000);
    return 0;
}

long sys_time(u64 at)
{
    u64 s = krealtime_ns() / SEC_NS;

    return at && put_user_u64(at, s) ? -EFAULT : (long)s;
}

/* ---- sleeping ---- */

/* 0, or -EINTR. */
static int sleep_until(u64 deadline)
{
    int err;

    do {
        wait_prepare();
        err = wait_sleep(deadline);
    } while (!err);
    wait_finish();
    return err == -ETIMEDOUT ? 0 : -EINTR;
}

static long sleep_relative(u64 deadline, u64 remaining_at);

static long sleep_restart(u64 *args) { return sleep_relative(args[0], args[1]); }

static long sleep_relative(u64 deadline, u64 remaining_at)
{
    u64 now;
    struct restart_block *b;

    if (!sleep_until(deadline))
        return 0;
    now = ktime_ns();
    if (now >= deadline)
        return 0;
    if (remaining_at && put_timespec(remaining_at, deadline - now))
        return -EFAULT;
    b = restart_block();
    b->fn = sleep_restart;
    b->args[0] = deadline;
    b->args[1] = remaining_at;
    return -ERESTART_RESTARTBLOCK;
}

static u64 after(u64 now, u64 ns) { return now + ns < now ? WAIT_FOREVER - 1 : now + ns; }

long sys_nanosleep(u64 at, u64 remaining_at)
{
    u64 ns;
    int err = get_timespec(at, &ns);

    return err ? err : sleep_relative(after(ktime_ns(), ns), remaining_at);
}

/* Until the process has used so much CPU time: it is looked at when that can be at the earliest. */
static long sleep_cpu(int clock, u64 until)
{
    u64 used;

    for (;;) {
        long err = read_clock(clock, &used);

        if (err || used >= until)
            return err;
        wait_prepare();
        if (wait_sleep(after(ktime_ns(), K_MAX(until - used, 1000000ull))) == -EINTR) {
            wait_finish();
            return -ERESTARTNOHAND;
        }
        wait_finish();
    }
}

static long sleep_absolute(int clock, u64 at)
{
    u64 now;

    if (clock == CLOCK_REALTIME || clock == CLOCK_TAI || clock == CLOCK_REALTIME_ALARM) {
        now = krealtime_ns();
        at = at > now ? after(ktime_ns(), at - now) : 0;
    }
    return sleep_until(at) ? -ERESTARTNOHAND : 0;
}

long sys_clock_nanosleep(int clock, int flags, u64 at, u64 remaining_at)
{
    u64 ns, used;
    long err = read_clock(clock, &used);

    if (err)
        return -EINVAL;
    if (clock == CLOCK_THREAD_CPUTIME_ID || clock == CLOCK_MONOTONIC_RAW ||
        clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE)
        return -EOPNOTSUPP;
    err = get_timespec(at, &ns);
    if (err)
        return err;
    if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID)
        return sleep_cpu(clock, flags & TIMER_ABSTIME ? ns : after(used, ns));
    if (flags & TIMER_ABSTIME)
        return sleep_absolute(clock, ns);
    return sleep_relative(after(ktime_ns(), ns), remaining_at);
}
