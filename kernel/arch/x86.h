/*
 * arch/x86.h - instructions and machine constants (Intel SDM; AMD APM).  Usable from assembly too.
 */
#ifndef ARCH_X86_H
#define ARCH_X86_H

#define KERNEL_BASE 0xffffffff80000000

/* Selectors as in Linux: programs and debuggers know 0x33 and 0x2b. */
#define SEL_KERNEL_CS 0x10
#define SEL_KERNEL_DS 0x18
#define SEL_USER32_CS 0x23
#define SEL_USER_DS   0x2b
#define SEL_USER_CS   0x33
#define SEL_TSS       0x40

#define MSR_APIC_BASE      0x1b
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_PAT            0x277
#define MSR_EFER           0xc0000080
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_SFMASK         0xc0000084
#define MSR_FS_BASE        0xc0000100
#define MSR_GS_BASE        0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define EFER_SCE 0x1
#define EFER_LME 0x100
#define EFER_NXE 0x800

#define CR0_PE 0x1
#define CR0_MP 0x2
#define CR0_EM 0x4
#define CR0_TS 0x8
#define CR0_NE 0x20
#define CR0_WP 0x10000
#define CR0_PG 0x80000000

#define CR4_TSD        0x4
#define CR4_PAE        0x20
#define CR4_PGE        0x80
#define CR4_OSFXSR     0x200
#define CR4_OSXMMEXCPT 0x400
#define CR4_UMIP       0x800
#define CR4_OSXSAVE    0x40000
#define CR4_SMEP       0x100000

#define RFLAGS_TF 0x100
#define RFLAGS_IF 0x200
#define RFLAGS_DF 0x400
#define RFLAGS_RF 0x10000
#define RFLAGS_NT 0x4000
#define RFLAGS_AC 0x40000
/* What a program may change: CF PF AF ZF SF TF DF OF RF AC ID. */
#define RFLAGS_USER 0x250dd5

#define SYSCALL_COUNT 451 /* the table of core/syscall.c */

/* Interrupt vectors. */
#define VEC_IRQ_BASE  0x20
#define VEC_TIMER     0xf0
#define VEC_RESCHED   0xf1
#define VEC_SHOOTDOWN 0xf2
#define VEC_CALL      0xf3
#define VEC_SPURIOUS  0xff

/* struct cpu (cpu.h), by %gs. */
#define CPU_CURRENT  0
#define CPU_INDEX    8
#define CPU_CONTEXT  12
#define CPU_KSTACK   16
#define CPU_USER_RSP 24
#define CPU_CANARY   32 /* meson.build tells it the compiler */

/* struct task. */
#define TASK_KSTACK_TOP 0
#define TASK_SAVED_RSP  8
#define TASK_WORK       16

/* struct regs. */
#define REGS_R11      48
#define REGS_RAX      80
#define REGS_RCX      88
#define REGS_ORIG_RAX 120
#define REGS_RIP      128
#define REGS_CS       136
#define REGS_RFLAGS   144
#define REGS_SIZE     168

/* Where the start-up code of further CPUs is copied: a page below 1 MiB. */
#define TRAMPOLINE 0x8000

#ifndef __ASSEMBLER__
#include "k.h"

static inline u64 rdmsr(u32 msr)
{
    u32 lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (u64)hi << 32 | lo;
}
static inline void wrmsr(u32 msr, u64 v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
/* A base of FS or GS that a program chose: one that is not canonical would fault here. */
static inline void wrmsr_base(u32 msr, u64 base) { wrmsr(msr, base >> 47 ? 0 : base); }
static inline u64 rdtsc(void)
{
    u32 lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}
static inline void cpuid(u32 leaf, u32 sub, u32 out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(sub));
}
static inline void outb(u16 port, u8 v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline void outw(u16 port, u16 v)
{
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline void outl(u16 port, u32 v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline u8 inb(u16 port)
{
    u8 v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline u32 inl(u16 port)
{
    u32 v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline void outsb(u16 port, const void *p, size_t n)
{
    __asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(port) : "memory");
}
#define READ_CR(n)                                         \
    static inline u64 read_cr##n(void)                     \
    {                                                      \
        u64 v;                                             \
        __asm__ volatile("movq %%cr" #n ", %0" : "=r"(v)); \
        return v;                                          \
    }
#define WRITE_CR(n)                                                 \
    static inline void write_cr##n(u64 v)                           \
    {                                                               \
        __asm__ volatile("movq %0, %%cr" #n : : "r"(v) : "memory"); \
    }
READ_CR(0)
READ_CR(2)
READ_CR(3)
READ_CR(4)
WRITE_CR(0)
WRITE_CR(3)
WRITE_CR(4)
static inline void irq_on(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void irq_off(void) { __asm__ volatile("cli" : : : "memory"); }
static inline bool irq_are_on(void)
{
    u64 flags;

    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    return flags & RFLAGS_IF;
}

/* If the instruction at label `at` faults, execution goes on at `fixup` (traps.c). */
#define EX_TABLE(at, fixup) ".pushsection .ex_table, \"a\"; .quad " at ", " fixup "; .popsection\n"
#endif
#endif
