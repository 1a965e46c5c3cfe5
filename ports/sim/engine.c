/*
 * engine.c - CPUs, tasks, interrupts and time of the simulated machine.
 *
 * Model.  One thread.  Each CPU has an idle loop, and each task a fibre; a CPU's fibre is that of
 * its task or of its idle loop.  The thread runs one CPU (`cur`); every scheduling point of the
 * library ends in sim_point(), which lets happen what may happen there.  Code of the simulator
 * between two points is atomic, so nothing here needs a lock.
 *
 *   E1  A task is in exactly one place: on a CPU (on_cpu), in the run queue (queued), waiting for a
 *       word or for the time, or done.  One that was woken before its CPU had let go of it is
 *       queued by the switch itself (finish_switch).
 *   E2  A CPU is switched away from only at a point; a task leaves its CPU only at a point with
 *       preemption and interrupts on, or in qport_wait().
 *   E3  A CPU that waits in a loop (qport_relax) does not run again before another has stored
 *       something, but for a few tries (a weakly ordered load may see the news late).  So a loop
 *       cannot eat the run, and if all CPUs loop or sleep and no time is waited for, nobody can
 *       ever go on: a finding.
 *   E4  What is decided comes from strategy.c, what is random from sim_random(): nothing else
 *       enters, so the same seed gives the same run.
 *   E5  A CPU counts its points and its choices of the next CPU, so that no two decisions of one
 *       kind have the same number: a list of them gives the same run again.
 *
 * Time is counted in points; each is STEP_NS of it.  When no CPU can run, it jumps to the first
 * sleeper's.
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#include "lockdep.h"
#include "mmu.h"
#include "monitor.h"
#include "strategy.h"
#include "trace.h"

enum { STEP_NS = 20, SPIN_TRIES = 6, GRACES = 20, STARVED = 4000000 };

struct vcpu {
    struct sim_fibre idle, *fibre;
    struct sim_task *task, *prev; /* prev: being switched away from */
    bool irqs_off, in_irq, resting;
    unsigned preempt;    /* disabled so many times */
    uint64_t local;      /* points of this CPU */
    uint64_t ipi_since;  /* local point at which an IPI was sent, plus 1; 0: none */
    uint64_t stalled;    /* until so many points */
    bool stored;         /* its last point came before a store, which is done by the next */
    unsigned spins;      /* turns of a busy wait without news */
    uint64_t spins_seen; /* stores at the last of them */
};

struct sim_machine sim_machine;
static struct vcpu vcpus[SIM_MAX_CPUS];
static struct sim_task *tasks[SIM_MAX_TASKS + 1], *queue_head, *queue_tail;
static unsigned ntasks, live, queued, cur;
static bool running, looking;
static struct sim_fibre main_fibre;
static uint64_t points, stores, now_ns;
static void (*on_interrupt)(void), (*on_hardware)(void);
static unsigned hardware_every;

unsigned sim_cpu(void) { return cur; }
unsigned sim_cpus(void) { return sim_machine.cpus; }
uint64_t sim_points(void) { return points; }
bool sim_running(void) { return running; }
struct sim_task *sim_current(void) { return running ? vcpus[cur].task : NULL; }
struct sim_task *sim_task(unsigned number) { return number <= ntasks ? tasks[number] : NULL; }
unsigned sim_task_number(void) { return sim_current() ? sim_current()->number : 0; }
bool sim_irqs_off(void) { return vcpus[cur].irqs_off; }
bool sim_preempt_off(void) { return vcpus[cur].preempt; }
bool sim_in_irq(void) { return vcpus[cur].in_irq; }
void sim_on_interrupt(void (*handler)(void)) { on_interrupt = handler; }

void sim_on_hardware(void (*handler)(void), unsigned once_in)
{
    on_hardware = once_in ? handler : NULL;
    hardware_every = once_in;
}

void sim_look_begin(void) { looking = true; }
void sim_look_end(void) { looking = false; }

/* ---- The run queue ---- */

static void enqueue(struct sim_task *t)
{
    t->state = SIM_RUNNABLE;
    if (t->on_cpu)
        return; /* E1: finish_switch() */
    t->queued = true;
    t->next = NULL;
    if (queue_tail)
        queue_tail->next = t;
    else
        queue_head = t;
    queue_tail = t;
    queued++;
}

static struct sim_task *dequeue(unsigned nth)
{
    struct sim_task **link = &queue_head, *t, *before = NULL;

    while (nth-- && (*link)->next) {
        before = *link;
        link = &(*link)->next;
    }
    t = *link;
    *link = t->next;
    if (queue_tail == t)
        queue_tail = before;
    t->queued = false;
    queued--;
    return t;
}

static void wake_sleepers(void)
{
    for (unsigned i = 1; i <= ntasks; i++)
        if (tasks[i]->state == SIM_SLEEPING && tasks[i]->until <= now_ns)
            enqueue(tasks[i]);
}

static bool jump_to_next_sleeper(void)
{
    uint64_t first = ~0ull;

    for (unsigned i = 1; i <= ntasks; i++)
        if (tasks[i]->state == SIM_SLEEPING && tasks[i]->until < first)
            first = tasks[i]->until;
    if (first == ~0ull)
        return false;
    now_ns = first;
    wake_sleepers();
    return true;
}

/* ---- Which CPUs can run ---- */

static bool can_run(const struct vcpu *c)
{
    if (c->stalled > points)
        return false;
    if (c->ipi_since && !c->irqs_off)
        return true;
    if (c->task || !c->resting)
        return c->spins < SPIN_TRIES || c->spins_seen != stores;
    return queue_head != NULL;
}

static uint64_t runnable_cpus(void)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < sim_machine.cpus; i++)
        if (can_run(&vcpus[i]))
            mask |= 1ull << i;
    return mask;
}

void sim_note_cpus(void)
{
    for (unsigned i = 0; running && i < sim_machine.cpus; i++) {
        const struct vcpu *c = &vcpus[i];

        sim_note("CPU %u: %s%s%s%s%s", i, c->task ? c->task->doing : "idle",
                 c->in_irq ? ", in an interrupt" : "", c->irqs_off ? ", interrupts off" : "",
                 c->preempt ? ", preemption off" : "",
                 c->spins >= SPIN_TRIES ? ", waiting in a loop" : "");
    }
    for (unsigned i = 1; i <= ntasks; i++)
        if (tasks[i]->state == SIM_WAITING || tasks[i]->state == SIM_SLEEPING)
            sim_note("task %u: %s, asleep since %s", i, tasks[i]->doing,
                     tasks[i]->state == SIM_WAITING ? "it waits for a lock" : "a while");
}

/* Those that wait in a loop look again, for their last looks may all have been at old values. */
static bool look_again(void)
{
    static uint64_t at;
    static unsigned times;

    times = at == stores ? times + 1 : 0;
    at = stores;
    for (unsigned i = 0; i < sim_machine.cpus; i++)
        vcpus[i].spins = 0;
    return times < GRACES;
}

/* Somebody must be able to run: wait for the time, or it is a deadlock. */
static uint64_t find_runnable(void)
{
    for (;;) {
        uint64_t mask = runnable_cpus();
        bool stalled = false;

        if (mask)
            return mask;
        for (unsigned i = 0; i < sim_machine.cpus; i++) {
            stalled |= vcpus[i].stalled > points;
            vcpus[i].stalled = 0;
        }
        if (!stalled && !jump_to_next_sleeper() && !look_again())
            sim_fail("deadlock", "no CPU can go on: each sleeps, or waits in a loop for another");
    }
}

/* ---- Switching ---- */

static void switch_cpu(unsigned next)
{
    struct vcpu *from = &vcpus[cur], *to = &vcpus[next];

    if (next == cur)
        return;
    cur = next;
    sim_fibre_switch(from->fibre, to->fibre);
}

/* On the fibre that was switched to: the one before may go elsewhere now. */
static void finish_switch(void)
{
    struct vcpu *c = &vcpus[cur];
    struct sim_task *prev = c->prev;

    c->prev = NULL;
    monitor_fibre_switched();
    if (!prev)
        return;
    monitor_task_leaves(prev->number, cur);
    prev->on_cpu = false;
    if (prev->state == SIM_RUNNABLE)
        enqueue(prev);
}

/*
 * Translate through space from here on.  NULL: this CPU promises to use no user address, and may
 * keep what it has cached of one.  The promise is made before the library hears of it, and taken back
 * when it has flushed.
 */
static void activate(struct quire_space *space)
{
    if (!space)
        mmu_set_lazy(cur, true);
    quire_space_activate(space);
    if (space) {
        mmu_set_lazy(cur, false);
        mmu_check_cpu(cur);
    }
}

/* Run next (NULL: the idle loop) on this CPU in place of what runs.  Returns when the caller's task runs
 * again, wherever. */
static void switch_task(struct sim_task *next)
{
    struct vcpu *c = &vcpus[cur];
    struct sim_fibre *from = c->fibre;

    c->preempt++;
    if (next) {
        next->on_cpu = true;
        next->state = SIM_RUNNING;
        next->cpu = cur;
        monitor_task_enters(next->number, cur);
    }
    activate(next ? next->space : NULL);
    c->preempt--;
    c->prev = c->task;
    c->task = next;
    c->spins = 0;
    c->fibre = next ? &next->fibre : &c->idle;
    sim_fibre_switch(from, c->fibre);
    finish_switch();
}

static void give_up_cpu(void) { switch_task(queue_head ? dequeue(0) : NULL); }

/* Everything is at rest: the last task is gone, and no CPU is inside the library. */
static bool all_rest(void)
{
    for (unsigned i = 0; i < sim_machine.cpus; i++)
        if (vcpus[i].task || !vcpus[i].resting || vcpus[i].ipi_since)
            return false;
    return true;
}

static void interrupts(struct vcpu *c);

static void idle_loop(void *arg)
{
    (void)arg;
    finish_switch();
    if (cur)
        quire_pt_cpu_online(); /* CPU 0 is it since quire_pt_init() */
    for (;;) {
        struct vcpu *c = &vcpus[cur];

        interrupts(c);
        if (queue_head) {
            switch_task(dequeue(0));
            continue;
        }
        c->resting = true;
        stores += c->stored;
        c->stored = false;
        if (!live && all_rest())
            sim_fibre_switch(&c->idle, &main_fibre);
        switch_cpu(sim_choose_cpu(cur, ++c->local, find_runnable())); /* E5 */
        c->resting = false;
    }
}

static void task_main(void *arg)
{
    struct sim_task *t = arg;

    finish_switch();
    t->fn(t->arg);
    lockdep_task_ends();
    t->state = SIM_DONE;
    t->doing = "done";
    live--;
    give_up_cpu();
    abort();
}

/* ---- The point ---- */

static void interrupt(struct vcpu *c, void (*handler)(void))
{
    c->irqs_off = c->in_irq = true;
    handler();
    c->irqs_off = c->in_irq = false;
}

static void interrupts(struct vcpu *c)
{
    unsigned arg;

    if (c->irqs_off || c->in_irq)
        return;
    if (c->ipi_since && (!c->task || c->local - c->ipi_since >= sim_machine.ipi_delay ||
                         sim_choose(cur, c->local, SIM_DELIVER, sim_machine.ipi_delay, 1, &arg))) {
        c->ipi_since = 0;
        monitor_acquire(&c->ipi_since);
        interrupt(c, quire_shootdown_interrupt);
    }
    if (on_interrupt && live &&
        sim_choose(cur, c->local, SIM_INTERRUPT, sim_machine.interrupt_every, 1, &arg))
        interrupt(c, on_interrupt);
}

static void maybe_preempt(struct vcpu *c)
{
    unsigned nth;

    if (c->preempt || c->irqs_off || c->in_irq || !c->task || !queued)
        return;
    if (sim_choose(cur, c->local, SIM_PREEMPT, sim_machine.preempt_every, queued, &nth)) {
        c->task->state = SIM_RUNNABLE;
        switch_task(dequeue(nth));
    }
}

static void watch_progress(const struct vcpu *c)
{
    if (points > sim_machine.max_points)
        sim_fail("no-progress", "%llu points, and the program has not ended",
                 (unsigned long long)points);
    if (c->task && c->task->points - c->task->doing_since > STARVED)
        sim_fail("no-progress", "task %u: %s for %u points", c->task->number, c->task->doing,
                 STARVED);
}

void sim_point(enum sim_point_kind kind, const void *ptr)
{
    struct vcpu *c = &vcpus[cur];
    unsigned arg;

    if (!running || looking)
        return;
    points++;
    if (c->task)
        c->task->points++;
    c->local++;
    now_ns += STEP_NS;
    stores += c->stored;
    c->stored = kind == SIM_POINT_STORE || kind == SIM_POINT_RMW || kind == SIM_POINT_UNLOCK ||
                kind == SIM_POINT_LOCK || kind == SIM_POINT_ACCESS;
    sim_trace(kind, ptr, __builtin_return_address(0));
    if ((points & 1023) == 0) {
        wake_sleepers();
        watch_progress(c);
    }
    if (on_hardware && sim_one_in(SIM_RANDOM_TLB, hardware_every))
        on_hardware();
    interrupts(c);
    maybe_preempt(c);
    c = &vcpus[cur]; /* the task may be elsewhere now */
    if (sim_machine.cpus > 1 &&
        sim_choose(cur, c->local, SIM_STALL, sim_machine.stall_every, 2000, &arg))
        c->stalled = points + arg;
    switch_cpu(sim_choose_cpu(cur, ++c->local, find_runnable())); /* E5 */
}

/* ---- The port's hooks ---- */

unsigned qport_cpu(void)
{
    const struct vcpu *c = &vcpus[cur];

    if (running && c->task && !c->preempt && !c->irqs_off)
        sim_fail("unpinned-cpu", "the number of the CPU is asked for with preemption on");
    return cur;
}

unsigned qport_context(void) { return qport_cpu() * QPORT_CONTEXTS + vcpus[cur].in_irq; }

unsigned long qport_irq_save(void)
{
    struct vcpu *c = &vcpus[cur];
    unsigned long was = c->irqs_off;

    c->irqs_off = true;
    return was;
}

void qport_irq_restore(unsigned long flags)
{
    struct vcpu *c = &vcpus[cur];

    if (!c->irqs_off)
        sim_fail("irq-state", "interrupts are restored that were never saved");
    c->irqs_off = flags != 0;
    if (!flags && !c->in_irq)
        sim_point(SIM_POINT_IRQ, NULL);
}

void qport_preempt_disable(void) { vcpus[cur].preempt++; }

void qport_preempt_enable(void)
{
    struct vcpu *c = &vcpus[cur];

    if (!c->preempt)
        sim_fail("preempt-state", "preemption is enabled more often than disabled");
    if (!--c->preempt)
        sim_point(SIM_POINT_IRQ, NULL);
}

void qport_relax(void)
{
    struct vcpu *c = &vcpus[cur];

    if (!running)
        sim_fail("deadlock", "a busy wait with nobody else running");
    if (c->spins_seen != stores)
        c->spins = 0;
    c->spins++;
    c->spins_seen = stores;
    sim_strategy_yields(cur);
    sim_point(SIM_POINT_RELAX, NULL);
}

uint64_t qport_now_ns(void) { return now_ns; }
uint64_t qport_random(void) { return sim_random(SIM_RANDOM_LIBRARY); }
uintptr_t qport_task_id(void) { return sim_task_number() + 1; }
uintptr_t sim_caller(void) { return sim_task_number() + 1; }

void qport_ipi(const uint64_t cpus[QUIRE_MAX_CPUS / 64 + 1])
{
    for (uint64_t m = cpus[0]; m; m &= m - 1) {
        unsigned i = (unsigned)__builtin_ctzll(m);

        if (i == cur || i >= sim_machine.cpus)
            sim_fail("ipi", "an interrupt is sent to CPU %u of %u by CPU %u", i, sim_machine.cpus,
                     cur);
        monitor_release(&vcpus[i].ipi_since);
        if (!vcpus[i].ipi_since)
            vcpus[i].ipi_since = vcpus[i].local + 1;
    }
}

void qport_wait(const uint32_t *word, uint32_t expected)
{
    struct sim_task *t;

    sim_point(SIM_POINT_WAIT, word);
    lockdep_might_sleep();
    t = sim_current();
    if (!t || vcpus[cur].preempt || vcpus[cur].irqs_off)
        sim_fail("sleep-in-atomic", "a sleep with preemption or interrupts off");
    if (*word != expected)
        return;
    t->word = word;
    t->state = SIM_WAITING;
    if (sim_machine.wake_early && sim_one_in(SIM_RANDOM_FAULTS, sim_machine.wake_early)) {
        t->state = SIM_SLEEPING;
        t->until = now_ns + STEP_NS * sim_below(SIM_RANDOM_FAULTS, 1000);
    }
    give_up_cpu();
    monitor_acquire(t);
}

void qport_wake(const uint32_t *word, unsigned n)
{
    sim_point(SIM_POINT_RMW, word);
    for (unsigned i = 1; i <= ntasks && n; i++)
        if ((tasks[i]->state == SIM_WAITING || tasks[i]->state == SIM_SLEEPING) &&
            tasks[i]->word == word) {
            tasks[i]->word = NULL;
            monitor_release(tasks[i]);
            enqueue(tasks[i]);
            n--;
        }
}

/* ---- What tasks call ---- */

void sim_use_space(struct quire_space *space)
{
    struct sim_task *t = sim_current();

    vcpus[cur].preempt++;
    t->space = space;
    activate(space);
    qport_preempt_enable();
}

void sim_doing(const char *what)
{
    struct sim_task *t = sim_current();

    t->doing = what;
    t->doing_since = t->points;
}

void sim_sleep(uint64_t ns)
{
    struct sim_task *t;

    sim_point(SIM_POINT_WAIT, NULL);
    lockdep_might_sleep();
    t = sim_current();
    t->word = NULL;
    t->until = now_ns + ns;
    t->state = SIM_SLEEPING;
    give_up_cpu();
}

void sim_yield(void)
{
    if (queue_head) {
        sim_current()->state = SIM_RUNNABLE;
        give_up_cpu();
    }
    sim_point(SIM_POINT_RELAX, NULL);
}

/* ---- Setting up ---- */

void sim_engine_init(const struct sim_machine *m)
{
    sim_machine = *m;
    memset(vcpus, 0, sizeof vcpus);
    ntasks = live = queued = cur = 0;
    queue_head = queue_tail = NULL;
    points = stores = now_ns = 0;
    for (unsigned i = 0; i < m->cpus; i++) {
        sim_fibre_init(&vcpus[i].idle, i, idle_loop, NULL);
        vcpus[i].fibre = &vcpus[i].idle;
    }
}

struct sim_task *sim_spawn(void (*fn)(void *), void *arg)
{
    struct sim_task *t;

    if (ntasks == SIM_MAX_TASKS)
        return NULL;
    t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct sim_task){.number = ++ntasks, .fn = fn, .arg = arg, .doing = "not yet started"};
    tasks[ntasks] = t;
    sim_fibre_init(&t->fibre, SIM_MAX_CPUS + ntasks, task_main, t);
    live++;
    enqueue(t);
    return t;
}

void sim_run(void)
{
    running = true;
    sim_fibre_switch(&main_fibre, vcpus[cur].fibre);
    running = false;
}
