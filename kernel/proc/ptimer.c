/*
 * kernel/proc/ptimer.c - timer_create(2) and its family.
 *
 * Each timer owns its queue entry (struct sigentry), so expiry needs no memory.  While the entry waits,
 * further expiries only count as overruns; ptimers_signal_taken() moves the count into the siginfo.
 *
 * References: the process's list holds one, an armed ktimer one (see itimer.c), a waiting entry one.
 */
#include "proc.h"

enum {
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME,
    CLOCK_THREAD_CPUTIME,
    CLOCK_BOOTTIME = 7
};
enum { SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 4 };
#define TIMER_ABSTIME 1
#define TIMERS_MAX    4096
#define DELAY_MAX     2147483647

struct ptimer {
    struct ptimer *next; /* of the process; under siglock */
    struct process *proc;
    struct task *target; /* SIGEV_THREAD_ID; referenced */
    struct ktimer timer;
    struct sigentry entry;
    int id, clock, notify;
    u64 at_ns, interval_ns; /* of its clock; at 0: disarmed */
    u64 overruns, last_overruns;
    u32 refs;
    bool queued, dead;
};

static void ptimer_put(struct ptimer *t)
{
    if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
        return;
    if (t->target)
        task_put(t->target);
    process_put(t->proc);
    quire_kfree(t);
}

static bool cpu_clock(int clock)
{
    return clock == CLOCK_PROCESS_CPUTIME || clock == CLOCK_THREAD_CPUTIME;
}

/* As clock_getcpuclockid(3) encodes the caller's own; glibc asks for timers so. */
#define CLOCK_OWN_PROCESS (-6)
#define CLOCK_OWN_THREAD  (-2)

static bool clock_known(int clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
           cpu_clock(clock);
}

static u64 cpu_used(struct ptimer *t)
{
    u64 user, system;

    if (t->clock == CLOCK_THREAD_CPUTIME && t->target)
        return t->target->utime_ns + t->target->stime_ns;
    process_cpu_ns(t->proc, &user, &system);
    return user + system;
}

static u64 clock_now(struct ptimer *t)
{
    if (cpu_clock(t->clock))
        return cpu_used(t);
    return t->clock == CLOCK_REALTIME ? krealtime_ns() : ktime_ns();
}

/* ---- expiry; siglock held ---- */

static void deliver(struct ptimer *t)
{
    struct task *only = t->notify == SIGEV_THREAD_ID ? t->target : NULL;

    if (t->notify == SIGEV_NONE)
        return;
    if (only && !only->sig)
        return; /* the thread has ended */
    if (t->queued) {
        t->overruns++;
        return;
    }
    t->queued = true;
    __atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
    t->entry.si.overrun = 0;
    t->overruns = 0;
    if (!signal_ptimer_queue(t->proc, only, &t->entry)) {
        /* The same number waits from elsewhere, or is ignored: nothing was queued. */
        t->queued = false;
        t->refs--;
    }
}

/* The entry leaves its queue. siglock held. */
void ptimers_signal_taken(struct sigentry *e)
{
    struct ptimer *t = e->timer;

    t->queued = false;
    t->last_overruns = K_MIN(t->overruns, (u64)DELAY_MAX);
    e->si.overrun = (int)t->last_overruns;
    ptimer_put(t);
}

/* Periods that have passed by now count as overruns of this expiry. */
static void next_period(struct ptimer *t, u64 now)
{
    u64 missed;

    if (!t->interval_ns) {
        t->at_ns = 0;
        return;
    }
    t->at_ns += t->interval_ns;
    if (t->at_ns > now)
        return;
    missed = (now - t->at_ns) / t->interval_ns + 1;
    t->overruns += missed;
    t->at_ns += missed * t->interval_ns;
}

static u64 monotonic_of(struct ptimer *t)
{
    u64 now = ktime_ns(), clock = clock_now(t);

    return t->at_ns <= clock ? now : now + (t->at_ns - clock);
}

static void fired(struct ktimer *k)
{
    struct ptimer *t = K_CONTAINER(k, struct ptimer, timer);
    struct process *p = t->proc;
    unsigned long flags = kspin_lock(&p->siglock);
    bool again = false;

    if (!t->dead && t->at_ns && !k->armed && t->at_ns <= clock_now(t)) {
        u64 now = clock_now(t);

        deliver(t);
        next_period(t, now);
        again = t->at_ns != 0;
    } else if (!t->dead && t->at_ns && !k->armed) {
        again = true; /* the wall clock was set back */
    }
    if (again)
        ktimer_start(k, monotonic_of(t));
    kspin_unlock(&p->siglock, flags);
    if (!again)
        ptimer_put(t);
}

/* True while a timer of CPU time is armed. siglock held. */
bool ptimers_cpu_check(struct process *p)
{
    bool any = false;

    for (struct ptimer *t = p->ptimers; t; t = t->next) {
        u64 now;

        if (!cpu_clock(t->clock) || !t->at_ns)
            continue;
        now = cpu_used(t);
        if (now >= t->at_ns) {
            deliver(t);
            next_period(t, now);
        }
        any |= t->at_ns != 0;
    }
    return any;
}

static void disarm(struct ptimer *t)
{
    t->at_ns = 0;
    if (t->timer.armed && ktimer_cancel(&t->timer))
        ptimer_put(t);
}

static void arm(struct ptimer *t)
{
    if (!t->at_ns)
        return;
    if (cpu_clock(t->clock)) {
        cpu_timer_start_locked(t->proc);
        return;
    }
    t->timer.fn = fired;
    __atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
    ktimer_start(&t->timer, monotonic_of(t));
}

/* ---- creation and deletion ---- */

struct sigevent {
    u64 value;
    int signo, notify, tid;
    int pad[11];
};
_Static_assert(sizeof(struct sigevent) == 64, "Linux's ABI");

static struct ptimer *find_locked(struct process *p, int id)
{
    struct ptimer *t = p->ptimers;

    while (t && t->id != id)
        t = t->next;
    return t;
}

/* The thread that SIGEV_THREAD_ID names must be ours. */
static struct task *find_target(int tid)
{
    struct task *t = task_find(tid);

    if (t && t->proc != current_process()) {
        task_put(t);
        t = NULL;
    }
    return t;
}

static int init_timer(struct ptimer *t, int clock, const struct sigevent *ev)
{
    t->proc = current_process();
    t->refs = 1;
    t->clock = clock;
    t->notify = ev->notify;
    t->entry.timer = t;
    t->entry.si = (struct ksiginfo){.signo = ev->signo, .code = SI_TIMER, .value = ev->value};
    if (ev->notify == (SIGEV_SIGNAL | SIGEV_THREAD_ID)) {
        t->notify = SIGEV_THREAD_ID;
        t->target = find_target(ev->tid);
        if (!t->target)
            return -EINVAL;
    } else if (clock == CLOCK_THREAD_CPUTIME) {
        t->target = current;
        task_get(t->target);
    }
    process_get(t->proc);
    return 0;
}

static int link_timer(struct ptimer *t, bool default_value)
{
    struct process *p = t->proc;
    unsigned long flags = kspin_lock(&p->siglock);
    int n = 0;

    for (struct ptimer *o = p->ptimers; o; o = o->next)
        n++;
    if (n < TIMERS_MAX) {
        do {
            t->id = p->next_timer_id++ & 0x7fffffff;
        } while (find_locked(p, t->id));
        t->entry.si.timerid = t->id;
        if (default_value)
            t->entry.si.value = (u64)t->id;
        t->next = p->ptimers;
        p->ptimers = t;
    }
    kspin_unlock(&p->siglock, flags);
    return n < TIMERS_MAX ? 0 : -EAGAIN;
}

long sys_timer_create(int clock, u64 uevent, u64 uid)
{
    struct sigevent ev = {.signo = SIGALRM, .notify = SIGEV_SIGNAL};
    struct ptimer *t;
    int err;

    if (uevent && copy_from_user(&ev, uevent, sizeof(ev)))
        return -EFAULT;
    if (clock == CLOCK_OWN_PROCESS || clock == CLOCK_OWN_THREAD)
        clock = clock == CLOCK_OWN_THREAD ? CLOCK_THREAD_CPUTIME : CLOCK_PROCESS_CPUTIME;
    if (!clock_known(clock))
        return -EINVAL;
    if (ev.notify != SIGEV_SIGNAL && ev.notify != SIGEV_NONE && ev.notify != SIGEV_THREAD &&
        ev.notify != SIGEV_THREAD_ID)
        return -EINVAL;
    if (ev.notify != SIGEV_NONE && (ev.signo < 1 || ev.signo > NSIG))
        return -EINVAL;
    t = quire_kzalloc(sizeof(*t), QUIRE_GFP_KERNEL);
    if (!t)
        return -EAGAIN;
    err = init_timer(t, clock, &ev);
    if (err) {
        quire_kfree(t);
        return err;
    }
    err = link_timer(t, !uevent);
    if (err) {
        ptimer_put(t);
        return err;
    }
    if (put_user_u32(uid, (u32)t->id)) {
        sys_timer_delete(t->id);
        return -EFAULT;
    }
    return 0;
}

static void unlink_timer(struct process *p, struct ptimer *t)
{
    struct ptimer **link = &p->ptimers;

    while (*link != t)
        link = &(*link)->next;
    *link = t->next;
    t->dead = true;
    disarm(t);
}

long sys_timer_delete(int id)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);
    struct ptimer *t = find_locked(p, id);

    if (t)
        unlink_timer(p, t);
    kspin_unlock(&p->siglock, flags);
    if (!t)
        return -EINVAL;
    ptimer_put(t);
    return 0;
}

void ptimers_exit(struct process *p)
{
    while (p->ptimers) {
        unsigned long flags = kspin_lock(&p->siglock);
        struct ptimer *t = p->ptimers;

        if (t)
            unlink_timer(p, t);
        kspin_unlock(&p->siglock, flags);
        if (t)
            ptimer_put(t);
    }
}

/* ---- setting ---- */

struct itimerspec {
    i64 interval[2], value[2];
};

static void get_locked(struct ptimer *t, struct itimerspec *s)
{
    u64 now = clock_now(t), left = !t->at_ns ? 0 : t->at_ns > now ? t->at_ns - now : 1;

    s->interval[0] = (i64)(t->interval_ns / 1000000000);
    s->interval[1] = (i64)(t->interval_ns % 1000000000);
    s->value[0] = (i64)(left / 1000000000);
    s->value[1] = (i64)(left % 1000000000);
}

long sys_timer_gettime(int id, u64 uold)
{
    struct process *p = current_process();
    struct itimerspec old;
    unsigned long flags = kspin_lock(&p->siglock);
    struct ptimer *t = find_locked(p, id);

    if (t)
        get_locked(t, &old);
    kspin_unlock(&p->siglock, flags);
    if (!t)
        return -EINVAL;
    return copy_to_user(uold, &old, sizeof(old)) ? -EFAULT : 0;
}

static void set_locked(struct ptimer *t, u64 value, u64 interval, bool absolute)
{
    disarm(t);
    t->overruns = 0;
    t->interval_ns = value ? interval : 0;
    if (value)
        t->at_ns = absolute ? value : clock_now(t) + value;
    arm(t);
}

long sys_timer_settime(int id, int flags, u64 unew, u64 uold)
{
    struct process *p = current_process();
    struct itimerspec old;
    struct ptimer *t;
    u64 value, interval;
    unsigned long irq;
    int err;

    if (!unew)
        return -EINVAL;
    err = timespec_get(unew, &interval);
    if (!err)
        err = timespec_get(unew + 16, &value);
    if (err)
        return err;
    irq = kspin_lock(&p->siglock);
    t = find_locked(p, id);
    if (t) {
        get_locked(t, &old);
        set_locked(t, value, interval, flags & TIMER_ABSTIME);
    }
    kspin_unlock(&p->siglock, irq);
    if (!t)
        return -EINVAL;
    return uold && copy_to_user(uold, &old, sizeof(old)) ? -EFAULT : 0;
}

long sys_timer_getoverrun(int id)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);
    struct ptimer *t = find_locked(p, id);
    long n = t ? (long)t->last_overruns : -EINVAL;

    kspin_unlock(&p->siglock, flags);
    return n;
}
