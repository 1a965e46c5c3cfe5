/*
 * arch/traps.c - exceptions other than page faults, interrupts, the end of the kernel.
 */
#include "cpu.h"
#include "ksyms.h"
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
extern char kernel_text_start[], kernel_text_end[];

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

/* ---- names and backtraces ---- */

#define STACK_WALK  12288u /* bytes that are searched for return addresses */
#define STACK_NEAR  512u
#define STACK_INNER 2048u /* the frames of the library, of which one asks for a trace */

/* The function that addr is in; NULL: none. */
static const struct ksym *ksym_of(u64 addr)
{
    unsigned lo = 0, hi = ksyms_count;

    if (!hi || addr < ksyms[0].addr || addr >= (u64)kernel_text_end)
        return NULL;
    while (hi - lo > 1) {
        unsigned mid = lo + (hi - lo) / 2;

        if (ksyms[mid].addr <= addr)
            lo = mid;
        else
            hi = mid;
    }
    return &ksyms[lo];
}

const char *ksym_name(u64 addr, u64 *offset)
{
    const struct ksym *s = ksym_of(addr);

    if (!s)
        return NULL;
    *offset = addr - s->addr;
    return s->name;
}

u64 ksym_size(u64 addr)
{
    const struct ksym *s = ksym_of(addr);

    return s ? K_MIN((u64)s[1].addr, (u64)kernel_text_end) - s->addr : 0;
}

static void print_frame(const char *what, u64 addr)
{
    u64 off = 0;
    const char *name = ksym_name(addr, &off);

    printk("  %s %#018lx %s+%#lx", what, (unsigned long)addr, name ? name : "?",
           (unsigned long)off);
}

/* Does a call instruction end at addr?  (e8 rel32, or ff /2 of 2, 3, 6 or 7 bytes) */
static bool after_call(u64 addr)
{
    const u8 *p = (const u8 *)addr;

    if (addr < (u64)kernel_text_start + 8 || addr >= (u64)kernel_text_end)
        return false;
    return p[-5] == 0xe8 || (p[-2] == 0xff && (p[-1] & 0x38) == 0x10) ||
           (p[-3] == 0xff && (p[-2] & 0x38) == 0x10) || (p[-6] == 0xff && (p[-5] & 0x38) == 0x10) ||
           (p[-7] == 0xff && (p[-6] & 0x38) == 0x10);
}

static bool readable(u64 va)
{
    struct quire_translation t;

    if (va < 0xffff800000000000)
        return false;
    quire_pt_translate(Q_PA(read_cr3() & ~0xfffull), va, &t);
    return t.present;
}

/*
 * Code is compiled without frame pointers (they cost instructions in every call), so the stack is
 * searched for return addresses: words that point into the text just behind a call.  Stale ones
 * may be among them.
 */
void print_backtrace(u64 rsp, u64 rip)
{
    unsigned shown = 0;

    print_frame("at", rip);
    if (!readable(rsp)) /* in the guard page: the stack begins above it */
        rsp = K_UP(rsp, 4096);
    for (u64 sp = K_UP(rsp, 8); shown < 24 && sp < rsp + STACK_WALK; sp += 8) {
        if ((sp == K_UP(rsp, 8) || !(sp & 4095)) && !readable(sp))
            break;
        if (after_call(*(const u64 *)sp)) {
            print_frame("by", *(const u64 *)sp);
            shown++;
        }
    }
}

size_t bare_symbol(uintptr_t addr, char *buf, size_t cap)
{
    u64 off = 0;
    const char *name = ksym_name(addr, &off);

    return name ? (size_t)ksnprintf(buf, cap, "%s+%#lx", name, (unsigned long)off) : 0;
}

/* Where the call that returns to ret goes; 0: a register says. */
static u64 call_target(u64 ret)
{
    int distance;

    memcpy(&distance, (const void *)(ret - 4), sizeof(distance));
    return *(const u8 *)(ret - 5) == 0xe8 ? ret + (u64)(i64)distance : 0;
}

/* Up to where the running stack is searched from sp on: its end if it is the task's. */
static u64 stack_end(u64 sp)
{
    u64 end = K_DOWN(sp, 4096) + 4096;

    if (current && sp < current->kstack_top && sp + STACK_WALK >= current->kstack_top)
        return current->kstack_top;
    while (end < sp + STACK_WALK && readable(end))
        end += 4096;
    return end;
}

/* The next return address at or above *sp into the function at inside; *sp is behind it then; 0: none.
 * One whose call goes elsewhere, or who knows where, is taken only if there is no better one near:
 * inside may have been reached by a jump, its caller's last act. */
static u64 next_frame(u64 *sp, u64 end, u64 inside)
{
    u64 other = 0, other_at = 0;

    for (u64 at = *sp; at < end && (!other || at < other_at + STACK_NEAR); at += 8) {
        u64 ret = *(const u64 *)at, target;

        if (!after_call(ret))
            continue;
        target = call_target(ret);
        if (target == inside) {
            *sp = at + 8;
            return ret;
        }
        if (!other && (!target || ksym_of(target))) {
            other = ret;
            other_at = at;
        }
    }
    *sp = other_at + 8;
    return other;
}

unsigned bare_backtrace(uintptr_t caller, uintptr_t *out, unsigned max)
{
    u64 from = K_UP((u64)__builtin_frame_address(0), 8), end = stack_end(from), sp = end;
    u64 ret = caller;
    unsigned n = 0;

    /* the last: what stands before the return address are copies of it, as an argument */
    for (u64 at = from; at < end && at < from + STACK_INNER; at += 8)
        if (*(const u64 *)at == caller)
            sp = at + 8;
    while (ret && n < max) {
        const struct ksym *f = ksym_of(ret);

        out[n++] = ret;
        ret = f && sp < end ? next_frame(&sp, end, f->addr) : 0;
    }
    return n;
}

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
    char text[256];
    va_list ap;

    panic_begin();
    va_start(ap, what);
    kvsnprintf(text, sizeof(text), what, ap);
    va_end(ap);
    printk("quire: panic: %s", text);
    print_where();
    print_regs(r);
    print_backtrace(r->rsp, r->rip);
    panic_end();
}

_Noreturn void kpanic(const char *fmt, ...)
{
    char text[512];
    va_list ap;

    panic_begin();
    va_start(ap, fmt);
    kvsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printk("quire: panic: %s", text);
    print_where();
    print_backtrace((u64)__builtin_dwarf_cfa(), (u64)__builtin_return_address(0));
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
