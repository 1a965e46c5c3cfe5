/*
 * Bare port, x86-64: the hooks of the hot paths.  See include/quire/port.h for the contracts.
 *
 * What an embedding kernel must provide for it: a per-CPU area that %gs points to in kernel mode,
 * with the running task's pointer at offset 0, the CPU's number (32 bits) at offset 8, and at offset 12
 * twice that number (32 bits), plus 1 while an interrupt handler runs; no interrupt during a handler; no
 * involuntary preemption of kernel code, so that switching preemption off is only a matter for the
 * compiler.
 */
#ifndef QUIRE_PORT_BARE_H
#define QUIRE_PORT_BARE_H

#include <stdbool.h>
#include <stdint.h>
#include <quire/barrier.h>
#include <quire/types.h>

#define QPORT_DIRECT_BASE               0xffff800000000000ul
#define QPORT_VMEMMAP_BASE              0xffffea0000000000ul
#define QPORT_VMEMMAP_RELEASE(from, to) bare_vmemmap_release(from, to)
void bare_vmemmap_release(uintptr_t from, uintptr_t to);
#define QPORT_VMEMMAP_SHARE(at, pa) bare_vmemmap_share(at, pa)
#define QPORT_VMEMMAP_UNSHARE(at)   bare_vmemmap_unshare(at)
void bare_vmemmap_share(uintptr_t at, q_pa pa);
enum quire_status bare_vmemmap_unshare(uintptr_t at);
uint64_t bare_guard_page(void *page, bool closed);
#define QPORT_GUARD_PAGE(page, closed) bare_guard_page(page, closed)
bool quire_pt_guard_settled(uint64_t number);
#define QPORT_GUARD_SETTLED(number) quire_pt_guard_settled(number)
#if QUIRE_SHADOW
#define QPORT_SHADOW_BASE 0xffffec0000000000ul
#define QPORT_SHADOW_SPAN bare_shadow_span
extern uintptr_t bare_shadow_span;
#endif
/* Every switch of spaces flushes: the machines this port is run on so far have no PCID. */
#define QPORT_ASIDS 1

#define QPORT_POINT(kind, ptr) ((void)0)

/* The kernel's. */
struct quire_policy;
const struct quire_policy *bare_task_policy(void);
#define QPORT_TASK_POLICY() bare_task_policy()

/* The kernel's, for reports: it knows its functions and its stacks. */
unsigned bare_backtrace(uintptr_t caller, uintptr_t *out, unsigned max);
#define QPORT_BACKTRACE(caller, out, max) bare_backtrace(caller, out, max)
size_t bare_symbol(uintptr_t addr, char *buf, size_t cap);
#define QPORT_SYMBOL(addr, buf, cap) bare_symbol(addr, buf, cap)
uintptr_t bare_task_number(void);
#define QPORT_TRACK_TASK() bare_task_number()

/* Long, so that no use of it as an index extends it: writing the lower half did. */
static inline unsigned long qport_cpu(void)
{
    unsigned long cpu;

    __asm__ volatile("movl %%gs:8, %k0" : "=r"(cpu));
    return cpu;
}

#define QPORT_CONTEXTS 2u
static inline unsigned long qport_context(void)
{
    unsigned long context;

    __asm__ volatile("movl %%gs:12, %k0" : "=r"(context));
    return context;
}

static inline unsigned long qport_irq_save(void)
{
    unsigned long flags;

    __asm__ volatile("pushfq; popq %0; cli" : "=r"(flags) : : "memory");
    return flags;
}
static inline void qport_irq_restore(unsigned long flags)
{
    __asm__ volatile("pushq %0; popfq" : : "rm"(flags) : "memory", "cc");
}

static inline void qport_preempt_disable(void) { quire_barrier_compiler(); }
static inline void qport_preempt_enable(void) { quire_barrier_compiler(); }
static inline void qport_relax(void) { __asm__ volatile("pause" : : : "memory"); }

/* Chosen once at boot by what the CPU does best (bare.c). */
extern void (*bare_clear_page)(void *kla);
static inline void qport_clear_page(void *kla) { bare_clear_page(kla); }

static inline void qport_copy_page(void *dst, const void *src)
{
    unsigned long n = 512;

    __asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

static inline void qport_tlb_flush_page(uint64_t va, unsigned asid)
{
    (void)asid;
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void qport_tlb_flush_asid(unsigned asid)
{
    unsigned long cr3;

    (void)asid;
    __asm__ volatile("movq %%cr3, %0; movq %0, %%cr3" : "=r"(cr3) : : "memory");
}
/* Turning global pages off and on drops the global entries too (Intel SDM vol. 3, 4.10.4.1). */
static inline void qport_tlb_flush_all(void)
{
    unsigned long cr4, off;

    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    off = cr4 & ~0x80ul;
    __asm__ volatile("movq %0, %%cr4; movq %1, %%cr4" : : "r"(off), "r"(cr4) : "memory");
}
static inline void qport_table_load(q_pa root, unsigned asid, bool keep)
{
    (void)asid, (void)keep;
    __asm__ volatile("movq %0, %%cr3" : : "r"(root.v) : "memory");
}

#endif
