/*
 * arch/smp.c - starting the other CPUs, and calling them.
 */
#include "cpu.h"
#include "core/sched.h"
#include <quire/pt.h>

extern char trampoline_start[], trampoline_end[];

/* What head.S reads: of the one CPU that is being started. */
u64 ap_root, ap_stack;
struct cpu *ap_cpu;

K_NO_CANARY void ap_main(struct cpu *c)
{
    cpu_init(c);
    apic_init_cpu();
    quire_pt_cpu_online();
    sched_init_cpu(c);
    sched_cpu_online();
    __atomic_store_n(&c->online, 1, __ATOMIC_RELEASE);
    sched_idle();
}

static void delay_us(u64 us)
{
    for (u64 end = ktime_ns() + us * 1000; ktime_ns() < end;)
        qport_relax();
}

static bool under_hypervisor(void)
{
    u32 r[4];

    cpuid(1, 0, r);
    return r[2] >> 31;
}

/* INIT, then the address of the trampoline, twice (Intel SDM vol. 3, 8.4.4). */
static bool start(struct cpu *c)
{
    apic_ipi_raw(c->apic_id, 0x4500);
    delay_us(under_hypervisor() ? 50 : 10000);
    for (int sipi = 0; sipi < 2; sipi++) {
        u64 end = ktime_ns() + (sipi ? 3000000000 : 20000000);

        apic_ipi_raw(c->apic_id, 0x4600 | TRAMPOLINE >> 12);
        while (ktime_ns() < end) {
            if (__atomic_load_n(&c->online, __ATOMIC_ACQUIRE))
                return true;
            qport_relax();
        }
    }
    /* A busy host may be late beyond that: put it back, lest it starts when its stack is
     * another's. */
    apic_ipi_raw(c->apic_id, 0x4500);
    return false;
}

static bool prepare(struct cpu *c, unsigned i)
{
    char name[16];

    ksnprintf(name, sizeof(name), "idle/%u", i);
    c->index = i;
    c->context = i * QPORT_CONTEXTS;
    c->rq.idle = task_alloc(name, (void (*)(void *))sched_idle, NULL);
    if (!c->rq.idle || cpu_prepare(c))
        return false;
    c->rq.idle->state = TASK_RUNNABLE;
    ap_root = kernel_root.v;
    ap_stack = c->rq.idle->kstack_top - 64;
    __atomic_store_n(&ap_cpu, c, __ATOMIC_SEQ_CST);
    return true;
}

/* A CPU that does not start leaves its number unused: numbers go by the firmware's table, as nodes
 * do. */
void smp_boot(void)
{
    memcpy(quire_ptr_of_pa(Q_PA(TRAMPOLINE)), trampoline_start,
           (size_t)(trampoline_end - trampoline_start));
    cpus[0].node = acpi.numa.cpu_node[0];
    for (unsigned i = 1; i < acpi.ncpus; i++) {
        struct cpu *c = &cpus[i];

        c->apic_id = acpi.apic_ids[i];
        c->node = acpi.numa.cpu_node[i];
        if (!prepare(c, i)) {
            printk("smp: no memory for CPU %u", i);
            return;
        }
        cpu_count = i + 1;
        if (!start(c))
            printk("smp: CPU %u (APIC id %u) does not start", i, c->apic_id);
    }
}

void smp_kick(unsigned cpu) { apic_ipi(cpu, VEC_RESCHED); }

/* ---- calls ---- */

static struct kmutex call_mutex;
static void (*call_fn)(void *);
static void *call_arg;
static u32 calls_left;

void smp_call_interrupt(void)
{
    struct cpu *c = this_cpu();

    if (!__atomic_exchange_n(&c->call_pending, 0, __ATOMIC_ACQ_REL))
        return;
    call_fn(call_arg);
    __atomic_sub_fetch(&calls_left, 1, __ATOMIC_RELEASE);
}

void smp_call_others(void (*fn)(void *), void *arg)
{
    unsigned me;

    kmutex_lock(&call_mutex);
    call_fn = fn;
    call_arg = arg;
    me = qport_cpu(); /* the kernel is not preempted, so it stays that */
    __atomic_store_n(&calls_left, cpus_online() - 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < cpu_count; i++) {
        if (i == me || !cpus[i].online)
            continue;
        __atomic_store_n(&cpus[i].call_pending, 1, __ATOMIC_RELEASE);
        apic_ipi(i, VEC_CALL);
    }
    while (__atomic_load_n(&calls_left, __ATOMIC_ACQUIRE))
        qport_relax();
    kmutex_unlock(&call_mutex);
}
