/*
 * core/timer.c - one-shot timers and the scheduler's tick, on each CPU's local timer.
 *
 * A CPU's armed timers stand in a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986):
 * insertion and looking at the first are a few instructions, removal of any is cheap, no memory is
 * needed beside the timer.  The local timer is programmed for the first of them or the tick,
 * whichever comes first, and not at all when there is neither: an idle machine is quiet.
 *
 * A timer belongs to the CPU that armed it, until it fires or is cancelled.
 */
#include "arch/cpu.h"
#include "sched.h"
#include "task.h"

/* ---- the heap: child = first child; next, prev = siblings, prev of the first child = its parent
 * ---- */

static struct ktimer *meld(struct ktimer *a, struct ktimer *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (b->at_ns < a->at_ns) {
        struct ktimer *t = a;

        a = b;
        b = t;
    }
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    b->prev = a;
    a->child = b;
    a->next = a->prev = NULL;
    return a;
}

/* Meld a list of siblings: in pairs from the front, then the pairs from the back. */
static struct ktimer *meld_list(struct ktimer *first)
{
    struct ktimer *pairs = NULL, *root = NULL;

    while (first) {
        struct ktimer *a = first, *b = a->next;

        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct ktimer *next = pairs->next;

        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = next;
    }
    return root;
}

static void heap_remove(struct timer_base *b, struct ktimer *t)
{
    struct ktimer *rest = meld_list(t->child);

    t->child = NULL;
    if (t == b->root) {
        b->root = rest;
        return;
    }
    *(t->prev->child == t ? &t->prev->child : &t->prev->next) = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->next = t->prev = NULL;
    b->root = meld(b->root, rest);
}

/* ---- programming; lock held, interrupts off, own CPU ---- */

static void program(struct timer_base *b, u64 now)
{
    u64 first = K_MIN(b->root ? b->root->at_ns : ~0ull, b->tick_ns);

    if (first >= b->programmed_ns)
        return;
    b->programmed_ns = K_MIN(first, now + 1000000000);
    apic_timer_oneshot(b->programmed_ns > now ? b->programmed_ns - now : 0);
}

void timer_base_init(struct timer_base *b)
{
    b->root = NULL;
    b->programmed_ns = b->tick_ns = ~0ull;
}

void timer_start_tick(void)
{
    struct cpu *c = this_cpu();
    struct timer_base *b = &c->timers;
    u64 now = ktime_ns(), after = sched_tick_after(c);

    if (!after || now + after >= b->tick_ns)
        return;
    /* tick_ns and programmed_ns are this CPU's own: with interrupts off nobody else changes them */
    b->tick_ns = now + after;
    if (b->tick_ns < b->programmed_ns) {
        b->programmed_ns = b->tick_ns;
        apic_timer_oneshot(after);
    }
}

/* ---- the calls ---- */

static bool remove_armed(struct ktimer *t)
{
    while (__atomic_load_n(&t->armed, __ATOMIC_ACQUIRE)) {
        struct timer_base *b = &cpus[__atomic_load_n(&t->cpu, __ATOMIC_RELAXED)].timers;
        unsigned long flags = kspin_lock(&b->lock);
        bool mine = t->armed && &cpus[t->cpu].timers == b;

        if (mine) {
            heap_remove(b, t);
            t->armed = false;
        }
        kspin_unlock(&b->lock, flags);
        if (mine)
            return true;
    }
    return false;
}

void ktimer_start(struct ktimer *t, u64 at_ns)
{
    unsigned long flags;
    struct timer_base *b;

    remove_armed(t);
    flags = qport_irq_save();
    b = &this_cpu()->timers;
    kspin_lock(&b->lock);
    t->at_ns = at_ns;
    t->child = t->next = t->prev = NULL;
    t->cpu = qport_cpu();
    __atomic_store_n(&t->armed, true, __ATOMIC_RELEASE);
    b->root = meld(b->root, t);
    if (b->root == t)
        program(b, ktime_ns());
    kspin_unlock(&b->lock, flags);
}

bool ktimer_cancel(struct ktimer *t) { return remove_armed(t); }

bool ktimer_cancel_sync(struct ktimer *t)
{
    bool was = remove_armed(t);
    struct timer_base *b = &cpus[t->cpu].timers;

    /* on this CPU it cannot be running: it would be below us on the stack */
    while (__atomic_load_n(&b->running, __ATOMIC_ACQUIRE) == t && b != &this_cpu()->timers)
        qport_relax();
    return was;
}

/* The first timer whose time has come, removed; NULL: none. */
static struct ktimer *take_due(struct timer_base *b, u64 now)
{
    struct ktimer *t;

    kspin_lock(&b->lock);
    t = b->root;
    if (t && t->at_ns <= now) {
        heap_remove(b, t);
        __atomic_store_n(&b->running, t, __ATOMIC_RELEASE);
        __atomic_store_n(&t->armed, false, __ATOMIC_RELEASE);
    } else {
        t = NULL;
        __atomic_store_n(&b->running, NULL, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&b->lock.word, 0, __ATOMIC_RELEASE);
    return t;
}

void timer_interrupt(struct regs *r)
{
    struct cpu *c = this_cpu();
    struct timer_base *b = &c->timers;
    struct ktimer *t;
    u64 after;

    b->programmed_ns = ~0ull;
    while ((t = take_due(b, ktime_ns())))
        t->fn(t);
    if (ktime_ns() >= b->tick_ns) {
        sched_tick(r);
        after = sched_tick_after(c);
        b->tick_ns = after ? ktime_ns() + after : ~0ull;
    }
    kspin_lock(&b->lock);
    program(b, ktime_ns());
    __atomic_store_n(&b->lock.word, 0, __ATOMIC_RELEASE);
}
