/*
 * arch/cpu.c - descriptor tables, control registers, features, vector state.
 *
 * Each CPU has a GDT, a TSS and three emergency stacks (double fault, NMI and machine check,
 * debug).  Those of the boot CPU are static, so that a fault of the very first lines already has
 * somewhere to go.
 */
#include "cpu.h"
#include <quire/heap.h>
#include <quire/kva.h>

#define EMERGENCY_STACK  8192
#define IST_DOUBLE_FAULT 1
#define IST_NMI          2
#define IST_DEBUG        3

struct cpu_tables {
    u64 gdt[10];
    struct tss tss;
    u8 stacks[3][EMERGENCY_STACK] __attribute__((aligned(16)));
};

struct idt_gate {
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_mid;
    u32 offset_high, reserved;
};

struct cpu cpus[K_MAX_CPUS] = {[0] = {.index = 0, .online = 1}};
unsigned cpu_count = 1;
u32 cpu_features;

static struct cpu_tables boot_tables;
static struct idt_gate idt[256] __attribute__((aligned(16)));
static u64 xsave_mask;
static size_t fpu_bytes = 512;
static u8 fpu_fresh[4096] __attribute__((aligned(64))); /* state of a fresh program */

extern char vector_stubs[];
extern char syscall_entry[];
extern char clear_page_sse2[], clear_page_rep[];

static void idt_build(void)
{
    for (unsigned v = 0; v < 256; v++) {
        u64 at = (u64)vector_stubs + v * 16;
        unsigned ist = v == 8              ? IST_DOUBLE_FAULT
                       : v == 2 || v == 18 ? IST_NMI
                       : v == 1            ? IST_DEBUG
                                           : 0;
        /* int3 and into may be said by programs */
        u8 type = v == 3 || v == 4 ? 0xee : 0x8e;

        idt[v] = (struct idt_gate){(u16)at,         SEL_KERNEL_CS,   (u8)ist, type,
                                   (u16)(at >> 16), (u32)(at >> 32), 0};
    }
}

void cpu_load_idt(void)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) p = {sizeof(idt) - 1, (u64)idt};

    __asm__ volatile("lidt %0" : : "m"(p));
}

static void tables_fill(struct cpu_tables *t)
{
    u64 base = (u64)&t->tss;

    t->gdt[0] = t->gdt[1] = 0;
    t->gdt[SEL_KERNEL_CS / 8] = 0x00af9b000000ffff;
    t->gdt[SEL_KERNEL_DS / 8] = 0x00cf93000000ffff;
    t->gdt[SEL_USER32_CS / 8] = 0x00cffb000000ffff;
    t->gdt[SEL_USER_DS / 8] = 0x00cff3000000ffff;
    t->gdt[SEL_USER_CS / 8] = 0x00affb000000ffff;
    t->gdt[SEL_TSS / 8] = (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
                          (base >> 24 & 0xff) << 56;
    t->gdt[SEL_TSS / 8 + 1] = base >> 32;
    t->tss = (struct tss){.iomap = sizeof(struct tss)};
    for (unsigned i = 0; i < 3; i++)
        t->tss.ist[i] = (u64)(t->stacks[i] + EMERGENCY_STACK);
}

K_NO_CANARY static void tables_load(struct cpu *c, struct cpu_tables *t)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) p = {sizeof(t->gdt) - 1, (u64)t->gdt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1: movl %2, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "movl %3, %%eax\n\t"
                     "ltr %%ax"
                     :
                     : "m"(p), "i"(SEL_KERNEL_CS), "i"(SEL_KERNEL_DS), "i"(SEL_TSS)
                     : "rax", "memory");
    c->tss = &t->tss;
    c->self = c;
    wrmsr(MSR_GS_BASE, (u64)c);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
}

static void features_find(void)
{
    u32 r[4], max;

    cpuid(0, 0, r);
    max = r[0];
    cpuid(1, 0, r);
    cpu_features |= r[2] & 1u << 30 ? CPU_RDRAND : 0;
    cpu_features |= r[2] & 1u << 21 ? CPU_X2APIC : 0;
    cpu_features |= r[2] & 1u << 24 ? CPU_TSC_DEADLINE : 0;
    cpu_features |= r[2] & 1u << 26 ? CPU_XSAVE : 0;
    if (max >= 7) {
        cpuid(7, 0, r);
        cpu_features |= r[1] & 1u << 9 ? CPU_ERMS : 0;
    }
    cpuid(0x80000001, 0, r);
    cpu_features |= r[3] & 1u << 26 ? CPU_GBPAGES : 0;
    if (cpu_features & CPU_ERMS)
        bare_clear_page = (void (*)(void *))clear_page_rep;
    else
        bare_clear_page = (void (*)(void *))clear_page_sse2;
}

void arch_tsc_allow(bool yes)
{
    write_cr4(yes ? read_cr4() & ~(u64)CR4_TSD : read_cr4() | CR4_TSD);
}

/* What each CPU sets for itself: protections that it has, sysret, memory types, vector state. */
static void control_init(void)
{
    u32 r[4] = {0}, max[4];
    u64 cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;

    cpuid(0, 0, max);
    if (max[0] >= 7)
        cpuid(7, 0, r);
    cr4 |= r[1] & 1u << 7 ? CR4_SMEP : 0;
    cr4 |= r[2] & 1u << 2 ? CR4_UMIP : 0;
    cr4 |= cpu_features & CPU_XSAVE ? CR4_OSXSAVE : 0;
    write_cr4(cr4);
    write_cr0(CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_PG);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_NXE);
    wrmsr(MSR_STAR, (u64)SEL_USER32_CS << 48 | (u64)SEL_KERNEL_CS << 32);
    wrmsr(MSR_LSTAR, (u64)syscall_entry);
    wrmsr(MSR_SFMASK, RFLAGS_IF | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC);
    /* entry 1: write-combining instead of write-through; the rest as at reset */
    wrmsr(MSR_PAT, 0x0007040600070106);
    if (cpu_features & CPU_XSAVE)
        __asm__ volatile("xsetbv" : : "c"(0), "a"((u32)xsave_mask), "d"((u32)(xsave_mask >> 32)));
    __asm__ volatile("fninit");
}

/* x87, SSE and, if there, AVX: what needs no further set-up and is not too big to switch. */
static void fpu_init(void)
{
    u32 r[4];

    *(u16 *)&fpu_fresh[0] = 0x37f;
    *(u32 *)&fpu_fresh[24] = 0x1f80;
    if (!(cpu_features & CPU_XSAVE))
        return;
    cpuid(0xd, 0, r);
    xsave_mask = r[0] & 7;
    fpu_bytes = xsave_mask & 4 ? 512 + 64 + 256 : 512 + 64;
    *(u64 *)&fpu_fresh[512] = 3; /* XSTATE_BV: the legacy part counts */
}

K_NO_CANARY void cpu_early_init(void)
{
    idt_build();
    tables_fill(&boot_tables);
    tables_load(&cpus[0], &boot_tables);
    cpu_load_idt();
    features_find();
    fpu_init();
    control_init();
}

int cpu_prepare(struct cpu *c)
{
    struct cpu_tables *t = quire_kmalloc(sizeof(*t), QUIRE_GFP_KERNEL);

    if (!t)
        return -ENOMEM;
    tables_fill(t);
    c->tss = &t->tss;
    return 0;
}

K_NO_CANARY void cpu_init(struct cpu *c)
{
    tables_load(c, K_CONTAINER(c->tss, struct cpu_tables, tss));
    cpu_load_idt();
    control_init();
}

/* ---- vector state ---- */

size_t fpu_size(void) { return fpu_bytes; }

static void save(void *area)
{
    if (cpu_features & CPU_XSAVE)
        __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(-1), "d"(-1) : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

/* False: the area holds what no CPU saved (a program may write what it likes into a signal
 * frame). */
static bool load(const void *area)
{
    bool ok = false;

    if (cpu_features & CPU_XSAVE)
        __asm__ volatile("1: xrstor64 (%1)\n   movb $1, %0\n2:\n" EX_TABLE("1b", "2b")
                         : "+r"(ok)
                         : "r"(area), "a"(-1), "d"(-1)
                         : "memory");
    else
        __asm__ volatile("1: fxrstor64 (%1)\n   movb $1, %0\n2:\n" EX_TABLE("1b", "2b")
                         : "+r"(ok)
                         : "r"(area)
                         : "memory");
    return ok;
}

void fpu_save_current(void) { save(current->fpu); }

void fpu_load_current(void)
{
    if (!load(current->fpu))
        fpu_reset_current();
}

void fpu_reset_current(void)
{
    memcpy(current->fpu, fpu_fresh, fpu_bytes);
    load(current->fpu);
}

void arch_bases_load(u64 fs_base, u64 gs_base)
{
    current->fs_base = fs_base;
    current->gs_base = gs_base;
    wrmsr_base(MSR_FS_BASE, fs_base);
    wrmsr_base(MSR_KERNEL_GS_BASE, gs_base);
}
