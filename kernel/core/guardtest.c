/*
 * core/guardtest.c - quire.crash=remote: one CPU frees a sampled object that another has just read, and so has in its
 * TLB (heap=sample=1).
 *
 * While the other keeps its interrupts off it cannot be told: the object is closing, for as long as that.  As soon
 * as it takes them the object is closed, and its next read ends the kernel.  What happens is on the log.
 */
#include "arch/cpu.h"
#include "ktime.h"
#include "task.h"
#include "wait.h"
#include <quire/heap.h>

#define DEAF_NS 5000000ull

enum { START, HAS_READ, MAY_HEAR, MUST_FAULT };

static volatile u8 *object;
static u32 step;

static void reach(u32 next) { __atomic_store_n(&step, next, __ATOMIC_RELEASE); }

static void await(u32 wanted)
{
    while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) < wanted)
        qport_relax();
}

static u32 closing(void)
{
    struct quire_sample_stats s;

    quire_sample_stats(&s);
    return s.closing;
}

static void reader(void *unused)
{
    (void)unused;
    irq_off();
    (void)*object;
    reach(HAS_READ);
    await(MAY_HEAR);
    irq_on();
    await(MUST_FAULT);
    (void)*object;
    kpanic("CPU %u reads a freed object that is said to be closed", (unsigned)qport_cpu());
}

/* On this CPU, while the other is deaf and then is not. */
static void free_it(void)
{
    u64 begin = ktime_ns();

    quire_kfree((void *)object);
    while (closing() && ktime_ns() < begin + DEAF_NS)
        qport_relax();
    printk("quire: freed object: %s", closing() ? "closing" : "closed");
    begin = ktime_ns();
    reach(MAY_HEAR);
    while (closing())
        qport_relax();
    printk("quire: closed for all CPUs %lu ns later", (unsigned long)(ktime_ns() - begin));
}

_Noreturn void guard_crash(void)
{
    struct task *t = task_alloc("reader", reader, NULL);
    u64 mask[4] = {2};

    object = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    if (!t || !object || task_set_affinity(t, mask) || qport_cpu())
        kpanic("quire.crash=remote wants CPU 1 for another, itself CPU 0, and memory");
    task_start(t);
    await(HAS_READ);
    free_it();
    reach(MUST_FAULT);
    for (;;) {
        wait_prepare();
        wait_sleep(WAIT_FOREVER);
    }
}
