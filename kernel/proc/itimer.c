/*
 * kernel/proc/itimer.c - alarm, setitimer, and limits on CPU time.
 *
 * ITIMER_REAL is a one-shot kernel timer that restarts itself.  The timers of CPU time (VIRTUAL, PROF,
 * RLIMIT_CPU) are looked at every CPU_TICK_NS while one is set: their grain is the scheduler's tick.
 *
 * A running callback cannot be waited for, so an armed timer holds a reference on its process, which
 * passes to the callback; who cancels in time drops it.
 */
#include "proc.h"

#define CPU_TICK_NS 4000000ul
enum { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };

struct itimerval {
    u64 interval, value; /* ns */
};

static void send(struct process *p, int signo)
{
    struct ksiginfo si = {.signo = signo, .code = SI_KERNEL};

    signal_send_locked(p, NULL, &si, NULL);
}

/* ---- real time; siglock held ---- */

static void real_stop(struct process *p)
{
    if (p->itimer_real.armed && ktimer_cancel(&p->itimer_real))
        process_put(p);
    p->itimer_real.at_ns = 0;
    p->itimer_interval_ns = 0;
}

static void real_fired(struct ktimer *t)
{
    struct process *p = K_CONTAINER(t, struct process, itimer_real);
    unsigned long flags = kspin_lock(&p->siglock);
    bool again = false;

    /* at_ns 0: stopped since.  armed: started anew since. */
    if (p->sighand && t->at_ns && !t->armed && ktime_ns() >= t->at_ns) {
        send(p, SIGALRM);
        again = p->itimer_interval_ns != 0;
        if (again) {
            u64 next = t->at_ns + p->itimer_interval_ns, now = ktime_ns();

            /* Missed periods are not made up for. */
            if (next <= now)
                next += (now - next) / p->itimer_interval_ns * p->itimer_interval_ns +
                        p->itimer_interval_ns;
            ktimer_start(t, next);
        } else {
            t->at_ns = 0;
        }
    }
    kspin_unlock(&p->siglock, flags);
    if (!again)
        process_put(p);
}

static void real_start(struct process *p, u64 value, u64 interval)
{
    real_stop(p);
    if (!value)
        return;
    p->itimer_interval_ns = interval;
    p->itimer_real.fn = real_fired;
    process_get(p);
    ktimer_start(&p->itimer_real, ktime_ns() + value);
}

static struct itimerval real_get(struct process *p)
{
    u64 now = ktime_ns(), at = p->itimer_real.at_ns;

    return (struct itimerval){p->itimer_interval_ns, !at ? 0 : at > now ? at - now : 1000};
}

/* ---- CPU time; siglock held ---- */

static bool cpu_expire(struct process *p, struct itimer_cpu *t, u64 used, int signo)
{
    if (t->at_ns && used >= t->at_ns) {
        send(p, signo);
        t->at_ns = t->interval_ns ? K_MAX(used + 1, t->at_ns + t->interval_ns) : 0;
    }
    return t->at_ns != 0;
}

/* SIGXCPU at the soft limit and each second after, SIGKILL at the hard one. */
static bool cpu_limit(struct process *p, u64 used)
{
    struct rlimit64 *l = &p->rlim[RLIMIT_CPU];
    u64 seconds = used / 1000000000;

    if (l->cur == RLIM_INFINITY && l->max == RLIM_INFINITY)
        return false;
    if (seconds >= l->max) {
        send(p, SIGKILL);
    } else if (seconds >= l->cur) {
        send(p, SIGXCPU);
        l->cur = seconds + 1;
    }
    return true;
}

static void cpu_fired(struct ktimer *t)
{
    struct process *p = K_CONTAINER(t, struct process, cpu_timer);
    unsigned long flags = kspin_lock(&p->siglock);
    bool again = false;
    u64 user, system;

    if (p->sighand) {
        process_cpu_ns(p, &user, &system);
        again = cpu_expire(p, &p->itimer_virt, user, SIGVTALRM);
        again |= cpu_expire(p, &p->itimer_prof, user + system, SIGPROF);
        again |= cpu_limit(p, user + system);
        again |= ptimers_cpu_check(p);
    }
    if (again)
        ktimer_start(t, ktime_ns() + CPU_TICK_NS);
    kspin_unlock(&p->siglock, flags);
    if (!again)
        process_put(p);
}

/* Needed or not, one turn finds out. siglock held. */
void cpu_timer_start_locked(struct process *p)
{
    if (p->cpu_timer.armed)
        return;
    p->cpu_timer.fn = cpu_fired;
    process_get(p);
    ktimer_start(&p->cpu_timer, ktime_ns() + CPU_TICK_NS);
}

void cpu_timer_start(struct process *p)
{
    unsigned long flags = kspin_lock(&p->siglock);

    cpu_timer_start_locked(p);
    kspin_unlock(&p->siglock, flags);
}

void itimers_exit(struct process *p)
{
    unsigned long flags;

    if (!p->itimer_real.at_ns && !p->cpu_timer.armed)
        return;
    flags = kspin_lock(&p->siglock);
    real_stop(p);
    p->itimer_virt.at_ns = p->itimer_prof.at_ns = 0;
    if (p->cpu_timer.armed && ktimer_cancel(&p->cpu_timer))
        process_put(p);
    kspin_unlock(&p->siglock, flags);
}

/* ---- the calls ---- */

static struct itimerval cpu_get(struct process *p, int which)
{
    struct itimer_cpu *t = which == ITIMER_VIRTUAL ? &p->itimer_virt : &p->itimer_prof;
    u64 user, system, used;

    process_cpu_ns(p, &user, &system);
    used = which == ITIMER_VIRTUAL ? user : user + system;
    return (struct itimerval){t->interval_ns, !t->at_ns         ? 0
                                              : t->at_ns > used ? t->at_ns - used
                                                                : 1000};
}

static void cpu_set(struct process *p, int which, const struct itimerval *v)
{
    struct itimer_cpu *t = which == ITIMER_VIRTUAL ? &p->itimer_virt : &p->itimer_prof;
    u64 user, system;

    process_cpu_ns(p, &user, &system);
    t->interval_ns = v->interval;
    t->at_ns = v->value ? v->value + (which == ITIMER_VIRTUAL ? user : user + system) : 0;
    if (t->at_ns)
        cpu_timer_start_locked(p);
}

static struct itimerval swap_timer(int which, const struct itimerval *new)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);
    struct itimerval old = which == ITIMER_REAL ? real_get(p) : cpu_get(p, which);

    if (new &&which == ITIMER_REAL)
        real_start(p, new->value, new->interval);
    else if (new)
        cpu_set(p, which, new);
    kspin_unlock(&p->siglock, flags);
    return old;
}

static int put_itimerval(u64 at, const struct itimerval *v)
{
    u64 tv[4];

    ns_to_timeval(v->interval, tv);
    ns_to_timeval(v->value, tv + 2);
    return copy_to_user(at, tv, sizeof(tv)) ? -EFAULT : 0;
}

static int timeval_ns(const i64 tv[2], u64 *ns)
{
    if (tv[0] < 0 || tv[1] < 0 || tv[1] >= 1000000)
        return -EINVAL;
    *ns = (u64)K_MIN(tv[0], (i64)4000000000) * 1000000000 + (u64)tv[1] * 1000;
    return 0;
}

long sys_getitimer(int which, u64 uold)
{
    struct itimerval old;

    if (which < ITIMER_REAL || which > ITIMER_PROF)
        return -EINVAL;
    old = swap_timer(which, NULL);
    return put_itimerval(uold, &old);
}

long sys_setitimer(int which, u64 unew, u64 uold)
{
    struct itimerval new = {0, 0}, old;
    i64 tv[4];

    /* A null new value disarms, as Linux still allows. */
    if (unew) {
        if (copy_from_user(tv, unew, sizeof(tv)))
            return -EFAULT;
        if (timeval_ns(tv, &new.interval) || timeval_ns(tv + 2, &new.value))
            return -EINVAL;
    }
    if (which < ITIMER_REAL || which > ITIMER_PROF)
        return -EINVAL;
    old = swap_timer(which, &new);
    return uold ? put_itimerval(uold, &old) : 0;
}

long sys_alarm(unsigned seconds)
{
    struct itimerval new = {0, (u64)seconds * 1000000000}, old = swap_timer(ITIMER_REAL, &new);

    /* Rounded, but a running timer never shows 0. */
    return old.value ? (long)K_MAX((old.value + 500000000) / 1000000000, 1ul) : 0;
}
