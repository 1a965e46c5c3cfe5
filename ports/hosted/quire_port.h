/*
 * Hosted port: a Linux process.  Memory is an mmap'ed arena, CPUs are threads that registered,
 * interrupts and TLBs do not exist.  See include/quire/port.h for the contracts.
 */
#ifndef QUIRE_PORT_HOSTED_H
#define QUIRE_PORT_HOSTED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <quire/status.h>

extern uintptr_t hosted_direct_base, hosted_vmemmap_base;
extern __thread unsigned hosted_cpu;

#define QPORT_DIRECT_BASE hosted_direct_base
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
#define QPORT_VMEMMAP_BASE              hosted_vmemmap_base
#define QPORT_VMEMMAP_RELEASE(from, to) hosted_vmemmap_release(from, to)
void hosted_vmemmap_release(uintptr_t from, uintptr_t to);
#define QPORT_VMEMMAP_SHARE(at, pa) hosted_vmemmap_share(at, pa)
#define QPORT_VMEMMAP_UNSHARE(at)   hosted_vmemmap_unshare(at)
void hosted_vmemmap_share(uintptr_t at, q_pa pa);
enum quire_status hosted_vmemmap_unshare(uintptr_t at);
#define QPORT_VMEMMAP_PLACE(from, to, pa) hosted_vmemmap_place(from, to, pa)
#define QPORT_VMEMMAP_DISPLACE(from, to)  hosted_vmemmap_displace(from, to)
enum quire_status hosted_vmemmap_place(uintptr_t from, uintptr_t to, q_pa pa);
void hosted_vmemmap_displace(uintptr_t from, uintptr_t to);
#endif
#define QPORT_ASIDS 1

#define QPORT_POINT(kind, ptr) ((void)0)

/* By mprotect(2); from the first call on a SIGSEGV asks quire_heap_fault() and ends in qport_panic(). */
/* mprotect(2) returns when no thread has access any more; a test may say that others do for a while. */
uint64_t hosted_guard_page(void *page, bool closed);
#define QPORT_GUARD_PAGE(page, closed) hosted_guard_page(page, closed)
extern bool hosted_guard_late;
#define QPORT_GUARD_SETTLED(number) (!(number) || !hosted_guard_late)

/* Caches of a device that does not see the CPU's, if a test makes some; NULL: none. */
extern void (*hosted_dma_clean)(void *ptr, uint64_t bytes);
extern void (*hosted_dma_invalidate)(void *ptr, uint64_t bytes);
#define QPORT_DMA_CLEAN(ptr, n) (hosted_dma_clean ? hosted_dma_clean(ptr, n) : (void)0)
#define QPORT_DMA_INVALIDATE(ptr, n) \
    (hosted_dma_invalidate ? hosted_dma_invalidate(ptr, n) : (void)0)

unsigned hosted_backtrace(uintptr_t caller, uintptr_t *out, unsigned max);
#define QPORT_BACKTRACE(caller, out, max) hosted_backtrace(caller, out, max)
size_t hosted_symbol(uintptr_t addr, char *buf, size_t cap);
#define QPORT_SYMBOL(addr, buf, cap) hosted_symbol(addr, buf, cap)
/* What reports call the running task: 0 unless a test gives its threads numbers. */
extern __thread uintptr_t hosted_task;
#define QPORT_TRACK_TASK() hosted_task

#if QUIRE_SHADOW
extern uintptr_t hosted_shadow_base, hosted_shadow_span;
#define QPORT_SHADOW_BASE hosted_shadow_base
#define QPORT_SHADOW_SPAN hosted_shadow_span
#endif

static inline unsigned qport_cpu(void) { return hosted_cpu; }
#if HOSTED_INTERRUPTS
/* A program that plays interrupts, on one thread, says when a handler runs, and asks when it may. */
extern volatile unsigned hosted_in_interrupt, hosted_irqs_off;
#define QPORT_CONTEXTS 2u
static inline unsigned qport_context(void) { return hosted_cpu * 2 + hosted_in_interrupt; }
static inline unsigned long qport_irq_save(void)
{
    unsigned long before = hosted_irqs_off;

    hosted_irqs_off = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return before;
}
static inline void qport_irq_restore(unsigned long flags)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    hosted_irqs_off = (unsigned)flags;
}
#else
#define QPORT_CONTEXTS 1u
static inline unsigned qport_context(void) { return hosted_cpu; }
static inline unsigned long qport_irq_save(void) { return 0; }
static inline void qport_irq_restore(unsigned long flags) { (void)flags; }
#endif
static inline void qport_preempt_disable(void) {}
static inline void qport_preempt_enable(void) {}
static inline void qport_relax(void) { __builtin_ia32_pause(); }
static inline void qport_clear_page(void *kla) { memset(kla, 0, 4096); }
static inline void qport_copy_page(void *dst, const void *src) { memcpy(dst, src, 4096); }

/* Counted, so that a test can see that a flush was asked for. */
extern uint64_t hosted_tlb_flushes;
static inline void qport_tlb_flush_page(uint64_t va, unsigned asid)
{
    (void)va, (void)asid;
    __atomic_add_fetch(&hosted_tlb_flushes, 1, __ATOMIC_RELAXED);
}
static inline void qport_tlb_flush_asid(unsigned asid)
{
    (void)asid;
    __atomic_add_fetch(&hosted_tlb_flushes, 1, __ATOMIC_RELAXED);
}
static inline void qport_tlb_flush_all(void)
{
    __atomic_add_fetch(&hosted_tlb_flushes, 1, __ATOMIC_RELAXED);
}
static inline void qport_table_load(q_pa root, unsigned asid, bool keep)
{
    (void)root, (void)asid, (void)keep;
}

#endif
