/*
 * arch/traps.c - exceptions other than page faults, interrupts, the end of the kernel.
 */
#include "cpu.h"
#include "unwind.h"
#include "core/printk.h"
#include "core/rseq.h"
#include "signal.h"
#include "virtio/pci.h"
#include <quire/kva.h>
#include <quire/pt.h>

enum {
    SIGILL = 4,
    SIGTRAP = 5,
    SIGBUS = 7,
    SIGFPE = 8,
    SIGSEGV = 11,
    ILL_ILLOPN = 2,
    FPE_INTDIV = 1,
    FPE_FLTDIV = 3,
    FPE_FLTOVF,
    FPE_FLTUND,
    FPE_FLTRES,
    FPE_FLTINV,
    TRAP_BRKPT = 1,
    TRAP_TRACE = 2,
    BUS_ADRALN = 1,
    SI_KERNEL = 0x80
};

extern const u64 ex_table_start[][2], ex_table_end[][2];

bool extable_fixup(struct regs *r)
{
    for (const u64(*e)[2] = ex_table_start; e < ex_table_end; e++) {
        if ((*e)[0] == r->rip) {
            r->rip = (*e)[1];
            return true;
        }
    }
    return false;
}

/* ---- the end ---- */

static void print_regs(const struct regs *r)
{
    printk("  rax %016lx rbx %016lx rcx %016lx rdx %016lx", r->rax, r->rbx, r->rcx, r->rdx);
    printk("  rsi %016lx rdi %016lx rbp %016lx rsp %016lx", r->rsi, r->rdi, r->rbp, r->rsp);
    printk("  r8  %016lx r9  %016lx r10 %016lx r11 %016lx", r->r8, r->r9, r->r10, r->r11);
    printk("  r12 %016lx r13 %016lx r14 %016lx r15 %016lx", r->r12, r->r13, r->r14, r->r15);
    printk("  rip %016lx cs %02lx rflags %06lx cr2 %016lx cr3 %016lx", r->rip, r->cs, r->rflags,
           read_cr2(), read_cr3());
}

static void panic_begin(void)
{
    static u32 once;

    irq_off();
    printk_panic_mode();
    printk_console(true);
    if (__atomic_exchange_n(&once, 1, __ATOMIC_ACQ_REL))
        power_off(0x7f); /* a fault while we report one, or a second CPU */
    apic_nmi_others();
}

static _Noreturn void panic_end(void) { power_off(0x7f); }

static void print_where(void)
{
    struct task *t = current;

    printk("  cpu %u, task %d (%s)", (unsigned)qport_cpu(), t ? t->tid : 0, t ? t->comm : "boot");
}

_Noreturn void die(struct regs *r, const char *what, ...)
{
    struct unwind u = {.ip = r->rip, .sp = r->rsp, .bp = r->rbp};
    char text[256];
    va_list ap;

    panic_begin();
    va_start(ap, what);
    kvsnprintf(text, sizeof(text), what, ap);
    va_end(ap);
    printk("quire: panic: %s", text);
    print_where();
    print_regs(r);
    unwind_begin(&u);
    print_backtrace(&u);
    panic_end();
}

_Noreturn void kpanic(const char *fmt, ...)
{
    struct unwind u;
    char text[512];
    va_list ap;

    panic_begin();
    va_start(ap, fmt);
    kvsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printk("quire: panic: %s", text);
    print_where();
    UNWIND_HERE(&u);
    unwind_begin(&u);
    (void)unwind_step(&u);
    print_backtrace(&u);
    panic_end();
}

/* ---- exceptions ---- */

static const char *const names[] = {"divide error",
                                    "debug",
                                    "NMI",
                                    "breakpoint",
                                    "overflow",
                                    "bound range",
                                    "invalid opcode",
                                    "no FPU",
                                    "double fault",
                                    "coprocessor overrun",
                                    "invalid TSS",
                                    "segment not present",
                                    "stack fault",
                                    "general protection",
                                    "page fault",
                                    "reserved",
                                    "x87 error",
                                    "alignment check",
                                    "machine check",
                                    "SIMD error",
                                    "virtualization",
                                    "control protection"};

/* From the x87 or SSE status bits that are not masked (Intel SDM vol. 1, 8.5, 11.5). */
static int fpe_code(unsigned vec)
{
    u32 mxcsr;
    u16 sw, cw;
    unsigned bits;

    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstsw %0; fnstcw %1" : "=m"(sw), "=m"(cw));
    bits = vec == 16 ? sw & ~cw & 63u : mxcsr & ~(mxcsr >> 7) & 63u;
    if (vec == 16)
        __asm__ volatile("fnclex");
    return bits & 1    ? FPE_FLTINV
           : bits & 4  ? FPE_FLTDIV
           : bits & 8  ? FPE_FLTOVF
           : bits & 18 ? FPE_FLTUND
           : bits & 32 ? FPE_FLTRES
                       : 0;
}

static void user_exception(unsigned vec, struct regs *r, u64 err)
{
    struct task *t = current;

    t->trap_no = vec;
    t->trap_err = (u32)err;
    t->trap_addr = 0;
    switch (vec) {
    case 0: signal_fault(SIGFPE, FPE_INTDIV, r->rip); break;
    case 1: {
        u64 dr6;

        __asm__ volatile("movq %%dr6, %0" : "=r"(dr6));
        __asm__ volatile("movq %0, %%dr6" : : "r"(0xffff0ff0ul));
        signal_fault(SIGTRAP, dr6 & 0x4000 ? TRAP_TRACE : TRAP_BRKPT, r->rip);
        break;
    }
    case 3: signal_fault(SIGTRAP, SI_KERNEL, 0); break;
    case 6: signal_fault(SIGILL, ILL_ILLOPN, r->rip); break;
    case 16:
    case 19: signal_fault(SIGFPE, fpe_code(vec), r->rip); break;
    case 12: signal_fault(SIGBUS, SI_KERNEL, 0); break;
    case 17: signal_fault(SIGBUS, BUS_ADRALN, 0); break;
    default: signal_fault(SIGSEGV, SI_KERNEL, 0); break;
    }
}

static void double_fault(struct regs *r)
{
    u64 addr = read_cr2();

    if (quire_stack_guard_hit(Q_KVA(addr)) || quire_stack_guard_hit(Q_KVA(r->rsp)))
        die(r, "kernel stack overflow at %#lx", (unsigned long)addr);
    die(r, "double fault, rsp %#lx", (unsigned long)r->rsp);
}

static void exception(unsigned vec, struct regs *r, u64 err)
{
    if (vec == 2) {
        if (cpus_online() > 1)
            power_halt(); /* another CPU has panicked */
        printk("NMI ignored");
        return;
    }
    if (vec == 8)
        double_fault(r);
    if (r->cs & 3) {
        if (vec == 18)
            die(r, "machine check");
        irq_on();
        user_exception(vec, r, err);
        return;
    }
    if (vec == 1) { /* a watchpoint or a step of the program's, hit in the kernel: not ours */
        __asm__ volatile("movq %0, %%dr7" : : "r"(0x400ul));
        r->rflags &= ~(u64)RFLAGS_TF;
        return;
    }
    if (extable_fixup(r))
        return;
    die(r, "%s in the kernel, error %#lx", vec < K_COUNT(names) ? names[vec] : "unknown exception",
        (unsigned long)err);
}

static void dispatch_interrupt(unsigned vec, struct regs *r)
{
    switch (vec) {
    case VEC_TIMER:
        apic_eoi();
        timer_interrupt(r);
        break;
    case VEC_RESCHED:
        apic_eoi();
        sched_kick_interrupt();
        break;
    case VEC_SHOOTDOWN:
        apic_eoi();
        quire_shootdown_interrupt();
        break;
    case VEC_CALL:
        apic_eoi();
        smp_call_interrupt();
        break;
    case VEC_IRQ_BASE + 4:
        apic_eoi();
        serial_interrupt();
        break;
    case VEC_IRQ_BASE + 5 ... VEC_IRQ_BASE + 15:
        /* by level: quiet at the device first */
        pci_interrupt(vec - VEC_IRQ_BASE);
        apic_eoi();
        break;
    case VEC_SPURIOUS: break;
    default:
        apic_eoi();
        printk("interrupt %u: nobody's", vec);
        break;
    }
}

/* A handler runs with interrupts off to its end, as another context of the CPU than the task that it
 * interrupted: the port tells the heap (qport_context). */
static void interrupt(unsigned vec, struct regs *r)
{
    struct cpu *cpu = this_cpu();

    cpu->context = cpu->index * QPORT_CONTEXTS + 1;
    quire_barrier_compiler();
    dispatch_interrupt(vec, r);
    quire_barrier_compiler();
    cpu->context = cpu->index * QPORT_CONTEXTS;
}

/* From entry.S; interrupts off. */
void trap_dispatch(unsigned vec, struct regs *r, u64 err)
{
    if (vec >= VEC_IRQ_BASE)
        interrupt(vec, r);
    else
        exception(vec, r, err);
}

/* ---- the way back to user mode ---- */

/* Registers that something in the kernel may have set (signal frames, exec): only what a program
 * may have. */
static void clean_regs(struct regs *r)
{
    r->cs = SEL_USER_CS;
    r->ss = SEL_USER_DS;
    r->rflags = (r->rflags & RFLAGS_USER) | RFLAGS_IF | 2;
    if (r->rip >> 47) { /* iret would fault with the user's %gs */
        u64 bad = r->rip;

        r->rip = 0;
        irq_on();
        signal_fault(SIGSEGV, SI_KERNEL, bad);
        irq_off();
    }
}

/* A system call that does not return by sysret. */
void syscall_slow_exit(struct regs *r) { clean_regs(r); }

/* The task has work: it is done, with interrupts on, until there is none (entry.S looks again). */
void user_return_work(struct regs *r)
{
    u32 work = __atomic_load_n(&current->work, __ATOMIC_RELAXED);

    irq_on();
    if (work & WORK_RESCHED)
        schedule();
    if (work & WORK_RSEQ)
        __atomic_fetch_and(&current->work, ~WORK_RSEQ, __ATOMIC_RELAXED);
    if (work & (WORK_RSEQ | WORK_SIGNAL) && current->rseq_addr)
        rseq_resume(r);
    if (work & WORK_SIGNAL) {
        signal_deliver(r);
        clean_regs(r);
    }
}

/* What the compiler calls when a function finds the canary between its arrays and its return address
 * overwritten.  Whoever called it is named by the backtrace. */
_Noreturn void __stack_chk_fail(void);
_Noreturn void __stack_chk_fail(void)
{
    kpanic("kernel stack smashed: a local array of the function that follows overflowed");
}
