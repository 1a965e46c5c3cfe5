/*
 * core/irqheap.c - quire.irqheap=MS: for so long a timer's interrupts on every CPU, and tasks, allocate and free.
 *
 * Whoever has made an object puts it into a box that all share, and frees what was there: so what an interrupt
 * allocated is freed by tasks, on other CPUs too, and the other way round.  An object says how long it is, and is filled
 * with what its first word leads to; whoever takes it out looks at all of it.  The timers' times are random, so that
 * interrupts come at any instruction of a task's call; how many came inside one is counted.
 */
#include "arch/cpu.h"
#include "cmdline.h"
#include "task.h"
#include "wait.h"
#include <quire/heap.h>
#include <quire/rcu.h>

#define BOXES      64u
#define BYTES_MOST 9000u /* some are runs of pages */
#define TASKS_EACH 2u    /* on each CPU */
#define SHORTEST   5000u /* ns between interrupts */
#define LONGEST    150000u

struct object {
    u64 seed;
    u64 words; /* behind this */
    u64 word[];
};

/* Of one CPU: only it writes them. */
struct side {
    struct ktimer timer;
    u64 random;
    u64 objects, inside; /* of interrupts; inside: while a task was in a call of the heap */
    u32 in_heap;         /* 1: such a call goes on */
};

static struct side sides[K_MAX_CPUS];
static struct object *boxes[BOXES];
static u64 until, task_objects;
static u32 running;

static u64 next(u64 *random)
{
    *random = *random * 6364136223846793005 + 1442695040888963407;
    return *random >> 33;
}

static void check(const struct object *o)
{
    for (u64 i = 0; i < o->words; i++)
        if (o->word[i] != o->seed + i * o->seed)
            kpanic("irqheap: object %p: word %lu of %lu is %#lx", (const void *)o, (unsigned long)i,
                   (unsigned long)o->words, (unsigned long)o->word[i]);
}

/* in: says for so long that the heap is at work. */
static struct object *make(u64 *random, quire_gfp gfp, u32 *in)
{
    u64 bytes = next(random) % (next(random) % 8 ? 500 : BYTES_MOST) + sizeof(struct object);
    struct object *o;

    __atomic_store_n(in, 1, __ATOMIC_RELAXED);
    o = quire_kmalloc(bytes, gfp);
    __atomic_store_n(in, 0, __ATOMIC_RELAXED);
    if (!o)
        return NULL;
    o->seed = next(random) | 1;
    o->words = (bytes - sizeof(*o)) / sizeof(u64);
    for (u64 i = 0; i < o->words; i++)
        o->word[i] = o->seed + i * o->seed;
    return o;
}

static void drop(struct object *o, bool late, u32 *in)
{
    if (!o)
        return;
    check(o);
    __atomic_store_n(in, 1, __ATOMIC_RELAXED);
    if (!late || quire_kfree_rcu(o) != QUIRE_OK)
        quire_kfree(o);
    __atomic_store_n(in, 0, __ATOMIC_RELAXED);
}

/* One in four leaves the box empty, so that how many there are goes up and down. */
static bool step(u64 *random, quire_gfp gfp, u32 *in)
{
    struct object *o = next(random) % 4 ? make(random, gfp, in) : NULL;
    u64 r = next(random);

    drop(__atomic_exchange_n(&boxes[r % BOXES], o, __ATOMIC_ACQ_REL), r % 1024 < 128, in);
    return o;
}

static void on_timer(struct ktimer *t)
{
    struct side *s = &sides[qport_cpu()];
    u32 nobody = 0;

    s->inside += s->in_heap;
    s->objects += step(&s->random, QUIRE_GFP_ATOMIC, &nobody);
    if (ktime_ns() < until)
        ktimer_start(t, ktime_ns() + SHORTEST + next(&s->random) % (LONGEST - SHORTEST));
}

static void work(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg / TASKS_EACH;
    u64 mask[4] = {0}, random = (u64)(uintptr_t)arg * 7919 + 1, made = 0;
    struct side *s = &sides[cpu];

    mask[cpu / 64] = 1ull << cpu % 64;
    if (task_set_affinity(current, mask))
        kpanic("irqheap: CPU %u is not there", cpu);
    if ((uintptr_t)arg % TASKS_EACH == 0) {
        s->random = cpu + 1;
        s->timer.fn = on_timer;
        ktimer_start(&s->timer, ktime_ns() + SHORTEST);
    }
    while (ktime_ns() < until) {
        made += step(&random, QUIRE_GFP_KERNEL, &s->in_heap);
        cond_resched();
    }
    if ((uintptr_t)arg % TASKS_EACH == 0)
        while (__atomic_load_n(&s->timer.armed, __ATOMIC_ACQUIRE))
            cond_resched();
    __atomic_fetch_add(&task_objects, made, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
}

static void print(void)
{
    u64 objects = 0, inside = 0;

    for (unsigned i = 0; i < cpus_online(); i++) {
        objects += sides[i].objects;
        inside += sides[i].inside;
    }
    printk("quire: irqheap: tasks made %lu objects, interrupts %lu, %lu times inside a call of a "
           "task's",
           (unsigned long)task_objects, (unsigned long)objects, (unsigned long)inside);
}

void irqheap_run(u64 ms)
{
    unsigned n = cpus_online() * TASKS_EACH;

    until = ktime_ns() + ms * 1000000;
    running = n;
    for (unsigned i = 0; i < n; i++) {
        struct task *t = task_alloc("irqheap", work, (void *)(uintptr_t)i);

        if (!t)
            kpanic("no memory for the tasks of quire.irqheap");
        task_start(t);
    }
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
        wait_prepare();
        wait_sleep(ktime_ns() + 1000000);
        wait_finish();
    }
    for (unsigned i = 0; i < BOXES; i++)
        drop(boxes[i], false, &sides[0].in_heap);
    quire_rcu_reclaim();
    print();
    if (quire_heap_validate() != QUIRE_OK)
        kpanic("irqheap: the heap is damaged");
}
