/*
 * core/sched.c - which task runs where.
 *
 * Model: each CPU has a run queue of three classes: real-time by priority, normal, idle.  Within
 * the normal class tasks take turns; a turn lasts a slice of 4 ms for nice 0, longer or shorter by
 * Linux's weights.  A task that sleeps keeps the rest of its slice, and on waking preempts one
 * that has used clearly more of its own: so interactive tasks are served soon, but nobody gets
 * more than his slice in a round.
 *
 * The kernel is never preempted: a switch happens in schedule(), which is called to sleep, by long
 * loops (cond_resched) and on the way to user mode when WORK_RESCHED is set.
 *
 * Invariants:
 *  1. A task's state goes from SLEEPING to RUNNABLE by compare-and-swap; whoever succeeds sees
 *     that it runs: enqueue_woken().
 *  2. on_queue: NOT_QUEUED, QUEUED (in the list of run queue t->cpu), CLAIMED (someone is about to
 *     queue it elsewhere).  Changes under the lock of run queue t->cpu.  A task is queued by the
 *     one who finds it, under that lock, RUNNABLE, not on a CPU and NOT_QUEUED.
 *  3. A run queue's lock is held across the switch of stacks: on_cpu falls only when the stack is
 *     left.
 *  4. A CPU's idle task is never queued.
 *
 * Two run queue locks are never held at once, but for stealing, which only tries.
 *
 * Rejected: virtual run times in a tree (exact fairness is not this kernel's business, and each
 * switch would pay for it); a global queue (one lock for all CPUs).
 */
#include "sched.h"
#include "arch/cpu.h"
#include "task.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

enum { NOT_QUEUED, QUEUED, CLAIMED };
enum { CLASS_RT, CLASS_NORMAL, CLASS_IDLE, CLASSES };

#define SLICE_NS      4000000
#define SLICE_MIN_NS  250000
#define SLICE_MAX_NS  40000000
#define PREEMPT_NS    1000000  /* a woken task has so much more of its slice left */
#define TICK_ALONE_NS 10000000 /* time is sampled so often when nobody else waits */
#define RT_PERIOD_NS  1000000000
#define RT_SHARE_NS   950000000

/* Weight by nice, -20..19: a step is a factor of 1.25 (Linux, sched_prio_to_weight). */
static const u32 weights[40] = {
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906,  3121,  2501,  1991,  1586,  1277,  1024,  820,   655,   526,   423,  335,  272,  215,
    172,   137,   110,   87,    70,    56,    45,    36,    29,    23,    18,   15};

static u32 online_count = 1;

unsigned cpus_online(void) { return __atomic_load_n(&online_count, __ATOMIC_RELAXED); }
void sched_cpu_online(void) { __atomic_add_fetch(&online_count, 1, __ATOMIC_RELAXED); }

static unsigned class_of(const struct task *t)
{
    return t->policy == SCHED_FIFO || t->policy == SCHED_RR ? CLASS_RT
           : t->policy == SCHED_IDLE                        ? CLASS_IDLE
                                                            : CLASS_NORMAL;
}

static i64 slice_of(const struct task *t)
{
    i64 ns = (i64)SLICE_NS * weights[t->nice + 20] / 1024;

    return K_MIN(K_MAX(ns, (i64)SLICE_MIN_NS), (i64)SLICE_MAX_NS);
}

static bool allowed(const struct task *t, unsigned cpu)
{
    return t->affinity[cpu / 64] >> cpu % 64 & 1;
}

/* ---- the lists; lock held ---- */

static void lock_raw(struct kspin *l)
{
    while (__atomic_exchange_n(&l->word, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&l->word, __ATOMIC_RELAXED))
            qport_relax();
}
static void unlock_raw(struct kspin *l) { __atomic_store_n(&l->word, 0, __ATOMIC_RELEASE); }

static void insert_before(struct runqueue *rq, unsigned class, struct task *t, struct task *at)
{
    struct task **ends = rq->queue[class];

    t->rq_class = (u8) class;
    t->rq_next = at;
    t->rq_prev = at ? at->rq_prev : ends[1];
    *(t->rq_prev ? &t->rq_prev->rq_next : &ends[0]) = t;
    *(at ? &at->rq_prev : &ends[1]) = t;
    t->on_queue = QUEUED;
    __atomic_store_n(&rq->queued, rq->queued + 1, __ATOMIC_RELAXED);
}

static void enqueue(struct runqueue *rq, struct task *t, bool front)
{
    unsigned class = class_of(t);
    struct task *at = front ? rq->queue[class][0] : NULL;

    if (class == CLASS_RT) /* behind (or, preempted, before) those of the same priority */
        for (at = rq->queue[class][0]; at; at = at->rq_next)
            if (at->rt_priority < t->rt_priority || (front && at->rt_priority == t->rt_priority))
                break;
    insert_before(rq, class, t, at);
}

static void dequeue(struct runqueue *rq, struct task *t)
{
    struct task **ends = rq->queue[t->rq_class]; /* its policy may have changed since */

    *(t->rq_prev ? &t->rq_prev->rq_next : &ends[0]) = t->rq_next;
    *(t->rq_next ? &t->rq_next->rq_prev : &ends[1]) = t->rq_prev;
    t->on_queue = NOT_QUEUED;
    __atomic_store_n(&rq->queued, rq->queued - 1, __ATOMIC_RELAXED);
}

/* Classes by who goes first: real-time, unless it has had its share of this second. */
static unsigned rank_of(const struct runqueue *rq, const struct task *t)
{
    unsigned class = class_of(t);

    return class == CLASS_RT && rq->rt_throttled ? CLASSES : class;
}

static struct task *peek(struct runqueue *rq)
{
    for (unsigned c = rq->rt_throttled ? CLASS_NORMAL : CLASS_RT; c < CLASSES; c++)
        if (rq->queue[c][0])
            return rq->queue[c][0];
    return rq->queue[CLASS_RT][0];
}

/*
 * Real-time tasks get at most 950 ms of a second while others want to run (sched(7)): one that
 * never sleeps does not take the machine with it.
 */
static void rt_charge(struct runqueue *rq, bool rt, u64 ran, u64 now)
{
    if (now - rq->rt_period_ns >= RT_PERIOD_NS) {
        rq->rt_period_ns = now;
        rq->rt_used_ns = 0;
        rq->rt_throttled = false;
    }
    if (!rt)
        return;
    rq->rt_used_ns += ran;
    rq->rt_throttled = rq->rt_used_ns > RT_SHARE_NS;
}

/* ---- placing ---- */

static bool looks_idle(const struct cpu *c)
{
    return c->online && __atomic_load_n(&c->rq.running, __ATOMIC_RELAXED) == c->rq.idle &&
           !__atomic_load_n(&c->rq.queued, __ATOMIC_RELAXED);
}

/* Where t had best run: where it was if that is idle, any idle CPU, the one with the shortest
 * queue. */
static struct cpu *choose_cpu(const struct task *t)
{
    struct cpu *last = &cpus[t->cpu], *best = NULL;
    u32 best_load = ~0u;

    if (cpus_online() == 1 || (looks_idle(last) && allowed(t, last->index)))
        return last;
    for (unsigned i = 0; i < cpu_count; i++) {
        struct cpu *c = &cpus[(last->index + i) % cpu_count];
        u32 load;

        if (!c->online || !allowed(t, c->index))
            continue;
        load = looks_idle(c) ? 0 : 1 + __atomic_load_n(&c->rq.queued, __ATOMIC_RELAXED);
        if (load < best_load) {
            best_load = load;
            best = c;
        }
    }
    return best ? best : last;
}

static bool preempts(const struct task *t, const struct runqueue *rq, u64 now)
{
    const struct task *r = rq->running;
    unsigned mine = rank_of(rq, t), theirs;

    if (r == rq->idle)
        return true;
    theirs = rank_of(rq, r);
    if (mine != theirs)
        return mine < theirs;
    if (class_of(t) == CLASS_RT)
        return t->rt_priority > r->rt_priority;
    return t->slice_left_ns - (r->slice_left_ns - (i64)(now - r->run_start_ns)) > PREEMPT_NS;
}

static void set_resched(struct task *t)
{
    __atomic_fetch_or(&t->work, WORK_RESCHED, __ATOMIC_RELAXED);
}

/* Put a CLAIMED task on c's queue and let c know.  Interrupts off, no run queue locked. */
static void place(struct task *t, struct cpu *c)
{
    struct runqueue *rq = &c->rq;
    u64 now = ktime_ns();
    bool first, preempt;

    lock_raw(&rq->lock);
    t->cpu = (int)c->index;
    preempt = preempts(t, rq, now);
    first = !rq->queued;
    enqueue(rq, t, preempt && class_of(t) != CLASS_RT);
    if (preempt)
        set_resched(rq->running);
    unlock_raw(&rq->lock);
    if (c != this_cpu()) {
        if (preempt || first)
            smp_kick(c->index);
    } else if (first) {
        timer_start_tick();
    }
}

/* Lock the run queue that t belongs to.  Interrupts off. */
static struct cpu *lock_home(struct task *t)
{
    for (;;) {
        struct cpu *c = &cpus[__atomic_load_n(&t->cpu, __ATOMIC_RELAXED)];

        lock_raw(&c->rq.lock);
        if (t->cpu == (int)c->index)
            return c;
        unlock_raw(&c->rq.lock);
    }
}

/* Invariant 2.  Called by whoever made t RUNNABLE; interrupts off. */
static void enqueue_woken(struct task *t)
{
    struct cpu *old = lock_home(t), *to;

    if (t->on_cpu || t->on_queue != NOT_QUEUED || t->state != TASK_RUNNABLE) {
        unlock_raw(&old->rq.lock);
        return;
    }
    if (t->slice_left_ns <= 0 || ktime_ns() - t->run_start_ns > SLICE_NS)
        t->slice_left_ns = slice_of(t);
    to = choose_cpu(t);
    t->on_queue = CLAIMED;
    unlock_raw(&old->rq.lock);
    place(t, to);
}

void task_wake(struct task *t)
{
    u32 sleeping = TASK_SLEEPING;
    unsigned long flags;

    if (!__atomic_compare_exchange_n(&t->state, &sleeping, TASK_RUNNABLE, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
        return;
    flags = qport_irq_save();
    enqueue_woken(t);
    qport_irq_restore(flags);
}

void task_start(struct task *t)
{
    unsigned long flags = qport_irq_save();

    t->cpu = (int)qport_cpu();
    t->state = TASK_RUNNABLE;
    t->run_start_ns = ktime_ns();
    /* no more than its parent has left: being made is no reason to preempt the maker */
    t->slice_left_ns =
        K_MIN(slice_of(t), current->slice_left_ns - (i64)(t->run_start_ns - current->run_start_ns));
    enqueue_woken(t);
    qport_irq_restore(flags);
}

/* ---- switching ---- */

/* The task with the longest wait that may run here, from a CPU that has more than it can do. */
static struct task *steal(struct cpu *c)
{
    for (unsigned i = 1; i < cpu_count; i++) {
        struct cpu *victim = &cpus[(c->index + i) % cpu_count];
        struct runqueue *rq = &victim->rq;
        struct task *t;

        if (!__atomic_load_n(&rq->queued, __ATOMIC_RELAXED) ||
            __atomic_exchange_n(&rq->lock.word, 1, __ATOMIC_ACQUIRE))
            continue;
        for (unsigned class = 0; class < CLASSES; class ++)
            for (t = rq->queue[class][0]; t; t = t->rq_next)
                if (allowed(t, c->index)) {
                    dequeue(rq, t);
                    t->cpu = (int)c->index;
                    unlock_raw(&rq->lock);
                    return t;
                }
        unlock_raw(&rq->lock);
    }
    return NULL;
}

/* prev could go on: may it?  Else it is queued again (or, with this CPU forbidden to it,
 * CLAIMED). */
static bool keep_running(struct runqueue *rq, struct task *prev, unsigned cpu)
{
    struct task *first = peek(rq);
    bool used_up = prev->slice_left_ns <= 0;

    if (!allowed(prev, cpu)) {
        prev->on_queue = CLAIMED;
        return false;
    }
    if (used_up)
        prev->slice_left_ns = slice_of(prev);
    if (!first || rank_of(rq, first) > rank_of(rq, prev) ||
        (class_of(prev) == CLASS_RT && class_of(first) == CLASS_RT &&
         (first->rt_priority < prev->rt_priority ||
          (first->rt_priority == prev->rt_priority && !used_up))))
        return true;
    return false;
}

static void switch_to(struct cpu *c, struct task *prev, struct task *next)
{
    if (prev->space)
        fpu_save_current();
    c->task = next;
    c->canary = next->canary; /* what is on next's stack */
    c->kstack = next->kstack_top;
    c->tss->rsp[0] = next->kstack_top;
    quire_space_activate(next->space);
    if (prev->tsc_off != next->tsc_off)
        arch_tsc_allow(!next->tsc_off);
    if (next->space) {
        fpu_load_current();
        wrmsr_base(MSR_FS_BASE, next->fs_base);
        wrmsr_base(MSR_KERNEL_GS_BASE, next->gs_base);
        if (next->rseq_addr)
            __atomic_fetch_or(&next->work, WORK_RSEQ, __ATOMIC_RELAXED);
    }
    sched_finish_switch(switch_stacks(prev, next));
}

/* Pick who runs next; prev is accounted for.  Lock held. */
static struct task *pick(struct cpu *c, struct task *prev)
{
    struct runqueue *rq = &c->rq;
    struct task *next;

    if (prev != rq->idle && prev->state == TASK_RUNNABLE) {
        bool used_up = prev->slice_left_ns <= 0;

        if (keep_running(rq, prev, c->index))
            return prev;
        next = peek(rq);
        if (next)
            dequeue(rq, next);
        if (prev->on_queue == NOT_QUEUED)
            enqueue(rq, prev, !used_up);
    } else {
        next = peek(rq);
        if (next)
            dequeue(rq, next);
    }
    return next ? next : (next = steal(c)) ? next : rq->idle;
}

void schedule(void)
{
    unsigned long flags = qport_irq_save();
    struct cpu *c = this_cpu();
    struct runqueue *rq = &c->rq;
    struct task *prev = current, *next;
    u64 now = ktime_ns();

    lock_raw(&rq->lock);
    __atomic_fetch_and(&prev->work, ~WORK_RESCHED, __ATOMIC_RELAXED);
    sched_account(prev, now);
    next = pick(c, prev);
    if (next != prev) {
        if (prev->state == TASK_RUNNABLE)
            prev->nivcsw++;
        else
            prev->nvcsw++;
        rq->switches++;
        next->on_cpu = true;
        next->run_start_ns = now;
        __atomic_store_n(&rq->running, next, __ATOMIC_RELAXED);
        if (next != rq->idle) {
            timer_start_tick();
            if (!allowed(next, c->index)) /* moves on before it sees user mode */
                set_resched(next);
        }
        switch_to(c, prev, next);
    } else {
        unlock_raw(&rq->lock);
    }
    qport_irq_restore(flags);
}

/* On the stack of the new task: the old one is off the CPU now.  Interrupts off. */
void sched_finish_switch(struct task *prev)
{
    struct cpu *c = this_cpu();
    bool moves = prev->on_queue == CLAIMED, dead = prev->state == TASK_DEAD;

    prev->on_cpu = false;
    unlock_raw(&c->rq.lock);
    if (moves)
        place(prev, choose_cpu(prev));
    if (dead)
        task_put(prev);
}

void sched_yield_now(void)
{
    current->slice_left_ns = 0;
    schedule();
}

void cond_resched(void)
{
    if (__atomic_load_n(&current->work, __ATOMIC_RELAXED) & WORK_RESCHED)
        schedule();
}

_Noreturn void task_exit_final(void)
{
    irq_off();
    current->state = TASK_DEAD;
    schedule();
    kpanic("a dead task was run");
}

/* ---- time ---- */

/*
 * run_start_ns .. now was spent by t.  The sum is exact; how it divides into user and system time
 * is sampled by the tick.
 */
void sched_account(struct task *t, u64 now)
{
    u64 ran = now - t->run_start_ns;

    t->run_start_ns = now;
    if (t->policy != SCHED_FIFO) /* only yielding ends its turn */
        t->slice_left_ns -= (i64)ran;
    rt_charge(&cpus[t->cpu].rq, class_of(t) == CLASS_RT, ran, now);
    if (t->sample_user)
        t->utime_ns += ran;
    else
        t->stime_ns += ran;
}

u64 sched_tick_after(struct cpu *c)
{
    struct task *t = c->rq.running;

    if (t == c->rq.idle)
        return 0;
    if (!c->rq.queued)
        return TICK_ALONE_NS;
    return (u64)K_MAX(t->slice_left_ns, (i64)SLICE_MIN_NS / 2);
}

/* From the timer interrupt, when the time that sched_tick_after() gave is over. */
void sched_tick(struct regs *r)
{
    struct cpu *c = this_cpu();
    struct runqueue *rq = &c->rq;
    struct task *t = current, *first;

    if (t == rq->idle)
        return;
    lock_raw(&rq->lock);
    t->sample_user = r->cs & 3;
    sched_account(t, ktime_ns());
    first = peek(rq);
    if (first &&
        (rank_of(rq, first) < rank_of(rq, t) || (t->slice_left_ns <= 0 && t->policy != SCHED_FIFO)))
        set_resched(t);
    unlock_raw(&rq->lock);
    if (!rq->queued)
        return;
    for (unsigned i = 0; i < cpu_count; i++)
        if (looks_idle(&cpus[i])) {
            smp_kick(i); /* it will steal */
            break;
        }
}

/* Another CPU queued something here, set work for the running task, or wants us to steal. */
void sched_kick_interrupt(void)
{
    struct cpu *c = this_cpu();

    if (current == c->rq.idle)
        set_resched(current);
    else
        timer_start_tick();
}

/* ---- others ---- */

void task_set_work(struct task *t, u32 bits)
{
    unsigned cpu;

    __atomic_fetch_or(&t->work, bits, __ATOMIC_SEQ_CST);
    cpu = (unsigned)__atomic_load_n(&t->cpu, __ATOMIC_SEQ_CST);
    if (t != current && t->on_cpu && cpu != qport_cpu())
        smp_kick(cpu);
}

int task_set_affinity(struct task *t, const u64 mask[4])
{
    u64 usable = 0;

    for (unsigned i = 0; i < cpu_count; i++)
        usable |= cpus[i].online && mask[i / 64] >> i % 64 & 1;
    if (!usable)
        return -EINVAL;
    for (unsigned i = 0; i < 4; i++)
        __atomic_store_n(&t->affinity[i], mask[i], __ATOMIC_RELAXED);
    if (t == current) {
        if (!allowed(t, qport_cpu()))
            schedule();
    } else if (t->on_cpu && !allowed(t, (unsigned)t->cpu)) {
        task_set_work(t, WORK_RESCHED);
    }
    return 0;
}

void sched_charge(struct task *t)
{
    unsigned long flags = qport_irq_save();
    struct cpu *c = lock_home(t);

    if (c->rq.running == t)
        sched_account(t, ktime_ns());
    unlock_raw(&c->rq.lock);
    qport_irq_restore(flags);
}

void sched_change(struct task *t, int policy, int rt_priority, int nice)
{
    unsigned long flags = qport_irq_save();
    struct cpu *c = lock_home(t);

    if (t->on_queue == QUEUED) {
        dequeue(&c->rq, t);
        t->policy = policy;
        t->rt_priority = rt_priority;
        t->nice = nice;
        enqueue(&c->rq, t, false);
    } else {
        t->policy = policy;
        t->rt_priority = rt_priority;
        t->nice = nice;
    }
    if (c->rq.running)
        set_resched(c->rq.running);
    unlock_raw(&c->rq.lock);
    qport_irq_restore(flags);
}

u64 sched_slice_ns(const struct task *t) { return t->policy == SCHED_FIFO ? 0 : (u64)slice_of(t); }

K_NO_CANARY void sched_init_cpu(struct cpu *c)
{
    c->task = c->rq.idle;
    c->canary = c->rq.idle->canary;
    c->rq.running = c->rq.idle;
    c->kstack = c->rq.idle->kstack_top;
    c->rq.idle->on_cpu = true;
    c->rq.idle->cpu = (int)c->index;
    timer_base_init(&c->timers);
}

/* Frames that an idle CPU clears before it looks again whether there is something to do. */
#define IDLE_CLEARS 4

/* How often an idle CPU gives back frames that it has not used. */
#define AGE_NS 1000000000ull

static void age_frames(struct cpu *c)
{
    u64 now = qport_now_ns();

    if (now - c->frames_aged < AGE_NS)
        return;
    c->frames_aged = now;
    quire_frame_age();
}

_Noreturn void sched_idle(void)
{
    struct cpu *c = this_cpu();

    for (;;) {
        if (!c->rq.queued)
            age_frames(c);
        if (!c->rq.queued)
            quire_kva_tick();
        if (!c->rq.queued && quire_frame_deferred_step() == QUIRE_OK)
            continue;
        quire_rcu_reclaim();
        if (!c->rq.queued && quire_frame_zero_idle(IDLE_CLEARS))
            continue;
        irq_off();
        if (c->rq.queued || current->work & WORK_RESCHED) {
            schedule();
            irq_on();
        } else {
            __asm__ volatile("sti; hlt" : : : "memory");
        }
    }
}
