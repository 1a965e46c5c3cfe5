/*
 * core/task.c - tasks and their stacks: making, first run, going.
 *
 * A task's stack is a kernel virtual area with a guard page.  Making and unmapping one costs more
 * than the rest of a thread's creation, so the stacks of the dead wait in a small cache for the
 * next of kin.
 */
#include "arch/cpu.h"
#include "task.h"
#include <quire/heap.h>
#include <quire/kva.h>

#define STACKS_CACHED 32

_Static_assert(offsetof(struct task, kstack_top) == TASK_KSTACK_TOP &&
                   offsetof(struct task, saved_rsp) == TASK_SAVED_RSP &&
                   offsetof(struct task, work) == TASK_WORK,
               "entry.S");
_Static_assert(sizeof(struct regs) == REGS_SIZE && offsetof(struct regs, r11) == REGS_R11 &&
                   offsetof(struct regs, rax) == REGS_RAX &&
                   offsetof(struct regs, rcx) == REGS_RCX &&
                   offsetof(struct regs, orig_rax) == REGS_ORIG_RAX &&
                   offsetof(struct regs, rip) == REGS_RIP && offsetof(struct regs, cs) == REGS_CS &&
                   offsetof(struct regs, rflags) == REGS_RFLAGS,
               "entry.S");

static struct quire_cache *task_cache, *fpu_cache;
static struct kspin stacks_lock;
static u64 stacks; /* tops, each linked to the next by the word below it */
static unsigned nstacks;

extern char task_first_user[], task_first_kernel[];
_Noreturn void enter_user(struct regs *r);

void task_caches_init(void)
{
    enum quire_status s = quire_cache_create("task", sizeof(struct task), 64, 0, NULL, &task_cache);

    if (s == QUIRE_OK)
        s = quire_cache_create("fpu", fpu_size(), 64, 0, NULL, &fpu_cache);
    if (s != QUIRE_OK)
        kpanic("task caches: %s", quire_status_text(s));
}

/* ---- stacks ---- */

static u64 stack_pop(unsigned keep)
{
    unsigned long flags = kspin_lock(&stacks_lock);
    u64 top = nstacks > keep ? stacks : 0;

    if (top) {
        stacks = *(u64 *)(top - 8);
        nstacks--;
    }
    kspin_unlock(&stacks_lock, flags);
    return top;
}

/* Any context; unmapping needs a task: stack_take() of the next one does it. */
static void stack_give(u64 top)
{
    unsigned long flags = kspin_lock(&stacks_lock);

    *(u64 *)(top - 8) = stacks;
    stacks = top;
    nstacks++;
    kspin_unlock(&stacks_lock, flags);
}

static u64 stack_take(void)
{
    u64 top = stack_pop(0), extra;
    q_kva fresh;

    while (__builtin_expect(nstacks > STACKS_CACHED, 0) && (extra = stack_pop(STACKS_CACHED)))
        quire_stack_free(Q_KVA(extra));
    if (top)
        return top;
    return quire_stack_alloc(KSTACK_BYTES, &fresh) == QUIRE_OK ? fresh.v : 0;
}

/* ---- tasks ---- */

static struct kspin all_lock;
static struct task *all_tasks; /* all_lock */

static void enlist(struct task *t)
{
    unsigned long flags = kspin_lock(&all_lock);

    t->all_prev = NULL;
    t->all_next = all_tasks;
    if (all_tasks)
        all_tasks->all_prev = t;
    all_tasks = t;
    kspin_unlock(&all_lock, flags);
}

static void delist(struct task *t)
{
    unsigned long flags = kspin_lock(&all_lock);

    if (t->all_next)
        t->all_next->all_prev = t->all_prev;
    *(t->all_prev ? &t->all_prev->all_next : &all_tasks) = t->all_next;
    kspin_unlock(&all_lock, flags);
}

u64 task_stack_low(const struct task *t)
{
    u64 base = t->kstack_top - KSTACK_BYTES;

    return t->on_cpu || t->saved_rsp < base || t->saved_rsp >= t->kstack_top ? base : t->saved_rsp;
}

void tasks_each(void (*one)(struct task *t, void *ctx), void *ctx)
{
    unsigned long flags = kspin_lock(&all_lock);

    for (struct task *t = all_tasks; t; t = t->all_next)
        one(t, ctx);
    kspin_unlock(&all_lock, flags);
}

/* The stack of a task that has not run: switch_stacks() pops six registers and returns to
 * `start`. */
static void first_frame(struct task *t, u64 below, const char *start)
{
    u64 *sp = (u64 *)below;

    *--sp = (u64)start;
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    t->saved_rsp = (u64)sp;
}

struct task *task_alloc(const char *comm, void (*main)(void *), void *arg)
{
    struct task *t = quire_cache_alloc(task_cache, QUIRE_GFP_KERNEL);

    if (!t)
        return NULL;
    memset(t, 0, sizeof(*t));
    t->fpu = quire_cache_alloc(fpu_cache, QUIRE_GFP_KERNEL);
    t->kstack_top = t->fpu ? stack_take() : 0;
    if (!t->kstack_top) {
        if (t->fpu)
            quire_cache_free(fpu_cache, t->fpu);
        quire_cache_free(task_cache, t);
        return NULL;
    }
    t->regs = (struct regs *)t->kstack_top - 1;
    t->state = TASK_STOPPED;
    t->canary = qport_random();
    t->refs = 1;
    t->sample_user = !main;
    memset(t->affinity, 0xff, sizeof(t->affinity));
    strlcpy(t->comm, comm, sizeof(t->comm));
    enlist(t);
    if (main) {
        t->kthread_main = main;
        t->kthread_arg = arg;
        memset(t->regs, 0, sizeof(*t->regs));
        /* below the room for user registers: it may become a program */
        first_frame(t, K_DOWN((u64)t->regs, 16) - 8, task_first_kernel);
    }
    return t;
}

void task_set_user(struct task *t, const struct regs *r)
{
    *t->regs = *r;
    first_frame(t, (u64)t->regs, task_first_user);
}

_Noreturn void task_enter_user(const struct regs *r)
{
    struct regs *mine = current->regs;

    irq_off();
    *mine = *r;
    enter_user(mine);
}

/* From entry.S: the life of a kernel thread. */
_Noreturn void kthread_run(void)
{
    struct task *t = current;

    irq_on();
    t->kthread_main(t->kthread_arg);
    task_exit_final();
}

void task_get(struct task *t) { __atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED); }

void task_put(struct task *t)
{
    if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
        return;
    delist(t);
    stack_give(t->kstack_top);
    quire_kfree(t->mempolicy);
    quire_cache_free(fpu_cache, t->fpu);
    quire_cache_free(task_cache, t);
}
