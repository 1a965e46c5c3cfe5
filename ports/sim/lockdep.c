/*
 * lockdep.c - the order in which locks are taken.  See lockdep.h for what is found.
 *
 * Model.  A lock belongs to the class that its LOCK_INIT named, or to one of its own if it had none.
 * A spin lock is held by the CPU, a sleeping one by the task.  Taking a lock while others are held
 * adds an edge from each of their classes to its own; the first time an edge is new, a path back
 * means that two orders exist, and that there is a schedule in which they meet, though it was not
 * this one.  An interrupt handler's locks follow those that its CPU holds: the interrupted code
 * does not go on before it.
 *
 * Each class remembers where it was first taken in an interrupt and first with interrupts on, each
 * edge where it was first made, so that a report names both sides.
 *
 * Source.  Molnar, Documentation/locking/lockdep-design.rst of Linux.
 */
#include "lockdep.h"

#include <stdio.h>
#include <string.h>

#include "monitor_parts.h"
#include "symbols.h"

enum { CLASSES = 64, LOCKS = 1 << 20, HELD = 16, NAME = 64, SITE_FRAMES = 8 };
/* n of LOCKED and UNLOCK */
enum { SPIN, READER, ALONE, TRIED };

/* Where something happened for the first time. */
struct site {
    unsigned cpu, task, frames;
    uint64_t point;
    uintptr_t stack[SITE_FRAMES]; /* innermost first; frames 0: it never happened */
};
struct class
{
    char name[NAME];
    struct site in_irq, irqs_on;
};
struct lock {
    const void *address;
    unsigned class;
};
struct held {
    const void *lock;
    unsigned class;
    uintptr_t pc;
};
struct holder {
    unsigned n;
    struct held h[HELD];
};

static struct class classes[CLASSES];
static unsigned nclasses;
static struct site edges[CLASSES][CLASSES]; /* [held][taken] */
static struct lock *locks;                  /* hash by address, open addressing */
static unsigned nlocks;
static struct holder cpu_holds[SIM_MAX_CPUS], task_holds[SIM_MAX_TASKS + 1];

void lockdep_reset(void)
{
    monitor_unmap(locks, LOCKS * sizeof *locks);
    locks = monitor_map(LOCKS * sizeof *locks);
    memset(classes, 0, sizeof classes);
    memset(edges, 0, sizeof edges);
    memset(cpu_holds, 0, sizeof cpu_holds);
    memset(task_holds, 0, sizeof task_holds);
    nclasses = nlocks = 0;
}

/* ---- Sites and reports ---- */

static struct site site_here(uintptr_t pc)
{
    struct site s = {.cpu = sim_cpu(), .task = sim_task_number(), .point = sim_points()};
    const struct context *x;

    monitor_here();
    x = monitor_context;
    s.stack[s.frames++] = pc;
    for (unsigned i = x->depth; i && s.frames < SITE_FRAMES; i--)
        if (i <= STACK_DEPTH)
            s.stack[s.frames++] = x->stack[i - 1];
    return s;
}

static void note_site(const char *what, const struct site *s)
{
    char buf[128];

    sim_note("  %s, CPU %u, task %u, point %llu", what, s->cpu, s->task,
             (unsigned long long)s->point);
    for (unsigned i = 0; i < s->frames; i++)
        sim_note("      #%u %s", i, sim_symbol((void *)(s->stack[i] - 1), buf, sizeof buf));
}

static void note_held(const struct holder *x)
{
    char buf[128];

    for (unsigned i = 0; i < x->n; i++)
        sim_note("  holds \"%s\" %p, taken at %s", classes[x->h[i].class].name, x->h[i].lock,
                 sim_symbol((void *)(x->h[i].pc - 1), buf, sizeof buf));
}

/* ---- Locks and classes ---- */

static unsigned class_of_name(const char *name)
{
    unsigned i = 0;

    while (i < nclasses && strncmp(classes[i].name, name, NAME - 1))
        i++;
    if (i == CLASSES)
        sim_fail("lockdep", "more than %d classes of locks", CLASSES);
    if (i == nclasses)
        snprintf(classes[nclasses++].name, NAME, "%s", name);
    return i;
}

static struct lock *slot_of(const void *address)
{
    unsigned i = (unsigned)((uintptr_t)address * 0x9e3779b97f4a7c15u >> 44);

    while (locks[i].address && locks[i].address != address)
        i = (i + 1) % LOCKS;
    return &locks[i];
}

static struct lock *lock_of(const void *address, const char *name)
{
    struct lock *l = slot_of(address);
    char buf[NAME];

    if (!l->address) {
        if (++nlocks > LOCKS / 2)
            sim_fail("lockdep", "more than %d locks", LOCKS / 2);
        l->address = address;
        l->class = class_of_name(name ? name : sim_symbol(address, buf, sizeof buf));
    } else if (name) {
        l->class = class_of_name(name);
    }
    return l;
}

/* ---- Order ---- */

/* A way along the edges; before[] tells whence each class was reached. */
static bool path(unsigned from, unsigned to, unsigned before[CLASSES])
{
    unsigned queue[CLASSES], head = 0, tail = 0;
    bool reached[CLASSES] = {false};

    queue[tail++] = from;
    reached[from] = true;
    while (head < tail) {
        unsigned c = queue[head++];

        if (c == to)
            return true;
        for (unsigned i = 0; i < nclasses; i++)
            if (edges[c][i].frames && !reached[i]) {
                reached[i] = true;
                before[i] = c;
                queue[tail++] = i;
            }
    }
    return false;
}

static void __attribute__((noreturn))
report_cycle(unsigned held, unsigned taken, const unsigned before[CLASSES])
{
    char what[3 * NAME];

    snprintf(what, sizeof what, "\"%s\", then \"%s\"", classes[held].name, classes[taken].name);
    note_site(what, &edges[held][taken]);
    for (unsigned c = held; c != taken; c = before[c]) {
        snprintf(what, sizeof what, "but \"%s\", then \"%s\"", classes[before[c]].name,
                 classes[c].name);
        note_site(what, &edges[before[c]][c]);
    }
    sim_fail("lock-order", "\"%s\" and \"%s\" are taken in both orders", classes[held].name,
             classes[taken].name);
}

/* class is taken while h is held. */
static void check_order(const struct holder *x, const struct held *h, const void *lock,
                        unsigned class, uintptr_t pc)
{
    unsigned before[CLASSES];
    struct site *e = &edges[h->class][class];

    if (h->lock == lock || h->class == class) {
        struct site here = site_here(pc);

        note_held(x);
        note_site("taken now", &here);
        sim_fail("lock-recursion", "\"%s\" %p is taken inside \"%s\" %p", classes[class].name, lock,
                 classes[h->class].name, h->lock);
    }
    if (e->frames)
        return;
    *e = site_here(pc);
    if (path(class, h->class, before))
        report_cycle(h->class, class, before);
}

static void check_irqs(unsigned class, uintptr_t pc)
{
    struct class *c = &classes[class];
    struct site *s = sim_in_irq() ? &c->in_irq : sim_irqs_off() ? NULL : &c->irqs_on;

    if (!s || s->frames)
        return;
    *s = site_here(pc);
    if (!c->in_irq.frames || !c->irqs_on.frames)
        return;
    note_site("in an interrupt", &c->in_irq);
    note_site("with interrupts on", &c->irqs_on);
    sim_fail("irq-unsafe", "\"%s\" is taken by an interrupt handler, and with interrupts on",
             c->name);
}

/* ---- Events ---- */

static void locked(const void *address, uint64_t how, uintptr_t pc)
{
    unsigned class = lock_of(address, NULL)->class;
    struct holder *cpu = &cpu_holds[sim_cpu()], *task = &task_holds[sim_task_number()];
    struct holder *x = how == SPIN ? cpu : task;

    for (unsigned i = 0; i < task->n; i++)
        check_order(task, &task->h[i], address, class, pc);
    for (unsigned i = 0; i < cpu->n; i++)
        check_order(cpu, &cpu->h[i], address, class, pc);
    if (how == SPIN)
        check_irqs(class, pc);
    else if (how != TRIED)
        lockdep_might_sleep();
    if (x->n == HELD)
        sim_fail("lockdep", "more than %d locks held at once", HELD);
    x->h[x->n++] = (struct held){.lock = address, .class = class, .pc = pc};
}

static void unlock(const void *address, uint64_t how, uintptr_t pc)
{
    struct holder *x = how == SPIN ? &cpu_holds[sim_cpu()] : &task_holds[sim_task_number()];
    unsigned i = x->n;
    struct site here;

    while (i && x->h[i - 1].lock != address)
        i--;
    if (i) {
        memmove(&x->h[i - 1], &x->h[i], (x->n - i) * sizeof x->h[0]);
        x->n--;
        return;
    }
    here = site_here(pc);
    note_held(x);
    note_site("unlocked now", &here);
    sim_fail("lock-not-held", "\"%s\" %p is unlocked by who does not hold it",
             classes[lock_of(address, NULL)->class].name, address);
}

void lockdep_event(enum sim_event_kind kind, const void *ptr, uint64_t n, const void *pc)
{
    if (kind == SIM_EVENT_LOCK_INIT)
        lock_of(ptr, (const char *)(uintptr_t)n);
    else if (kind == SIM_EVENT_LOCKED)
        locked(ptr, n, (uintptr_t)pc);
    else if (kind == SIM_EVENT_UNLOCK)
        unlock(ptr, n, (uintptr_t)pc);
}

void lockdep_might_sleep(void)
{
    const struct holder *cpu = &cpu_holds[sim_cpu()];

    if (!cpu->n && !sim_in_irq() && !sim_irqs_off() && !sim_preempt_off())
        return;
    note_held(cpu);
    sim_fail("sleep-in-atomic", "a sleep %s",
             cpu->n           ? "with a spin lock held"
             : sim_in_irq()   ? "in an interrupt handler"
             : sim_irqs_off() ? "with interrupts off"
                              : "with preemption off");
}

void lockdep_task_ends(void)
{
    const struct holder *x = &task_holds[sim_task_number()];

    if (!x->n)
        return;
    note_held(x);
    sim_fail("lock-leak", "task %u ends with a lock", sim_task_number());
}
