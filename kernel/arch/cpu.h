/*
 * arch/cpu.h - the per-CPU area, and what arch offers to core.
 */
#ifndef ARCH_CPU_H
#define ARCH_CPU_H

#include "lock.h"
#include "measure.h"
#include "numa.h"
#include "task.h"
#include "x86.h"
#include <quire/colour.h>

#define K_MAX_CPUS QUIRE_MAX_CPUS

struct tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, iomap;
} __attribute__((packed));

struct runqueue {
    struct kspin lock;
    struct task *queue[3][2]; /* by class (sched.c): first, last */
    u32 queued;               /* tasks waiting, all classes; atomic read */
    struct task *idle, *running;
    u64 switches;
    u64 rt_period_ns, rt_used_ns; /* real-time tasks in the current second */
    bool rt_throttled;
};

/* Timers of a CPU: a pairing heap (timer.c). */
struct timer_base {
    struct kspin lock;
    struct ktimer *root, *running; /* running: whose fn is being called */
    u64 programmed_ns;             /* when the local timer will fire; ~0: not */
    u64 tick_ns;                   /* next scheduler tick; ~0: none */
};

struct cpu {
    /* entry.S and ports/bare know these offsets */
    struct task *task; /* 0: the running one */
    u32 index;         /* 8 */
    u32 context;       /* 12: 2 * index, + 1 in an interrupt handler */
    u64 kstack;        /* 16: top of the current task's stack */
    u64 user_rsp;      /* 24: scratch of syscall_entry */
    u64 canary;        /* 32: the running task's, that functions with arrays keep on the stack */

    struct tss *tss;
    struct cpu *self;
    u32 apic_id;
    u32 online; /* atomic */
    u32 node;
    u32 call_pending; /* atomic; of smp_call_all */
    u64 frames_aged;  /* when an idle CPU last gave back frames that it does not use */
    struct runqueue rq;
    struct timer_base timers;
    u64 mm_ns[MEASURE_KINDS],
        mm_calls[MEASURE_KINDS]; /* quire.report: time in the manager, TSC ticks */
    u64 user_samples, kernel_samples;
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct cpu, task) == CPU_CURRENT &&
                   offsetof(struct cpu, index) == CPU_INDEX &&
                   offsetof(struct cpu, context) == CPU_CONTEXT &&
                   offsetof(struct cpu, kstack) == CPU_KSTACK &&
                   offsetof(struct cpu, user_rsp) == CPU_USER_RSP &&
                   offsetof(struct cpu, canary) == CPU_CANARY,
               "entry.S");

extern struct cpu cpus[K_MAX_CPUS];
extern unsigned cpu_count; /* known to firmware; those online: cpus_online() */

static inline struct cpu *this_cpu(void) { return &cpus[qport_cpu()]; }

/* ---- cpu.c ---- */
enum {
    CPU_NX = 1,
    CPU_ERMS = 2,
    CPU_GBPAGES = 4,
    CPU_RDRAND = 8,
    CPU_X2APIC = 16,
    CPU_TSC_DEADLINE = 32,
    CPU_XSAVE = 64
};
extern u32 cpu_features;
void cpu_early_init(void);      /* boot CPU: %gs, GDT, IDT, TSS on static stacks */
void cpu_init(struct cpu *c);   /* this CPU: tables and control registers */
int cpu_prepare(struct cpu *c); /* memory for another CPU's tables: 0 or -ENOMEM */
void cpu_load_idt(void);
const char *cpu_vendor(void);

/* ---- boot ---- */
struct hvm_start_info;
struct boot_info {
    u64 start_info;
    const char *cmdline;
    u64 initrd_pa, initrd_len;
    u64 rsdp_pa;
};
extern struct boot_info boot_info;
void bootmap_build(u32 start_info_pa); /* memory map, from the start info; no output before */
void bootmap_tables(void);             /* the final kernel tables, loaded */
extern q_pa kernel_root;
void bootmap_report(void);

/* ---- acpi.c ---- */
struct acpi_info {
    u64 lapic_pa;
    unsigned ncpus;
    u32 apic_ids[K_MAX_CPUS];
    struct numa_info numa;
    u64 ioapic_pa;
    u32 ioapic_gsi_base;
    u32 irq_gsi[16];
    u16 irq_flags[16];
    u16 pm1a_control, pm1b_control, pm_timer;
    u16 reset_port;
    u8 reset_value;
    bool has_reset;
};
extern struct acpi_info acpi;
void acpi_parse(u64 rsdp_pa);

/* ---- cache.c ---- */
#define CPU_CACHES 8u
extern struct quire_cpu_cache cpu_caches[CPU_CACHES]; /* of the boot CPU; by level */
extern unsigned cpu_ncaches;
void cache_init(void);

/* ---- apic.c ---- */
void apic_init_boot(void);
void apic_init_cpu(void);
void apic_eoi(void);
u32 apic_id(void);
void apic_ipi(unsigned cpu, u8 vector);
void apic_ipi_raw(u32 apic_id, u32 command);
void apic_nmi_others(void);
void apic_timer_oneshot(u64 delta_ns); /* of this CPU */
u32 apic_timer_count(void);
void apic_timer_start_max(void);
void apic_timer_set_rate(u64 ticks, u64 ns);
void ioapic_route(unsigned isa_irq, u8 vector, unsigned cpu);

/* ---- smp.c ---- */
void smp_boot(void);
/* fn on every other online CPU, in interrupt context; returns when all have done it.  Task
 * context. */
void smp_call_others(void (*fn)(void *), void *arg);
void smp_call_interrupt(void);
void smp_kick(unsigned cpu); /* make it look at its run queue and timers */

/* ---- clock.c ---- */
void clock_init(void);

/* ---- traps.c ---- */
bool extable_fixup(struct regs *r);
/* Full registers, stack and backtrace of a kernel fault; does not return. */
_Noreturn void die(struct regs *r, const char *what, ...) QUIRE_PRINTF(2, 3);
struct unwind;
void print_backtrace(const struct unwind *from); /* backtrace.c */
const char *ksym_name(u64 addr, u64 *offset);
u64 ksym_size(u64 addr); /* bytes of that function, with what pads it; 0: none */

/* ---- serial.c, console.c ---- */
void serial_init(void);
void serial_write(const char *p, size_t n);
void serial_enable_input(void);
void serial_interrupt(void);
void console_init(void);
void console_log_write(const char *p, size_t n);

/* ---- power.c ---- */
/* code: value for isa-debug-exit, when the command line names its port. */
_Noreturn void power_off(u8 code);
_Noreturn void power_reset(void);
_Noreturn void power_halt(void);

/* ---- core ---- */
void cmdline_init(const char *text);
void printk_init(void);
void sched_init_cpu(struct cpu *c);
_Noreturn void sched_idle(void);
void sched_start_boot_task(void);
struct task *switch_stacks(struct task *prev, struct task *next);
void sched_finish_switch(struct task *prev);
void sched_tick(struct regs *r);
void sched_kick_interrupt(void);
void timer_interrupt(struct regs *r);
void timer_start_tick(void); /* this CPU has work: let the scheduler tick come; interrupts off */
void timer_base_init(struct timer_base *b);
void user_return_work(struct regs *r);
void task_caches_init(void);
void stack_cache_trim(void);

void syscall_init(void);
void report_print(void);
/* mm/move.c: what quire.move asks for. */
void move_init(void);
/* heapmodes.c, in this order: before the kernel's tables; before the heap; with tasks. */
void heap_modes_parse(void);
enum quire_status heap_modes_choose(void);
void heap_modes_start(void);
/* Physical address of 2 MiB whose pages can be closed one by one; 0: none are needed. */
u64 heap_pool(void);
void blocks_start(void); /* quire.blocks: pageblocks on the log now and then */
void blocks_print(void);
void selftest_boot(void);
/* core/areas.c: the windows of the kernel's areas */
struct quire_kva_layout;
void areas_layout(struct quire_kva_layout *l);
void selftest_verify(void);
void selftest_print_tables(void);
void selftest_lose(void); /* memory, for the leak scan to find */
void selftest_crash(const char *how);
/* guardtest.c, tracetest.c */
_Noreturn void guard_crash(void);
void trace_crash(const char *how);
void irqheap_run(u64 ms); /* core/irqheap.c: what quire.irqheap asks for */
void report_init(void);
void report_boot(void);           /* the kernel's first instruction, or nearly */
void report_first_program(void);  /* it starts now */
void bench_run(const char *what); /* core/bench.c */
extern void *syscall_table[SYSCALL_COUNT];

#endif
