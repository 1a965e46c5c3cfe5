/*
 * Simulated port: a whole machine in one thread.  See include/quire/port.h for the contracts and
 * sim.h for the parts.  Every hook is a function of engine.c or mmu.c; every point may switch to
 * another CPU, take an interrupt, or preempt the task.
 */
#ifndef QUIRE_PORT_SIM_H
#define QUIRE_PORT_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <quire/types.h>

#define QPORT_DIRECT_BASE               ((uintptr_t)0x100000000000) /* SIM_DIRECT_BASE */
#define QPORT_VMEMMAP_RELEASE(from, to) sim_vmemmap_release(from, to)
void sim_vmemmap_release(uintptr_t from, uintptr_t to);
#define QPORT_VMEMMAP_PLACE(from, to, pa) sim_vmemmap_place(from, to, pa)
#define QPORT_VMEMMAP_DISPLACE(from, to)  sim_vmemmap_displace(from, to)
enum quire_status sim_vmemmap_place(uintptr_t from, uintptr_t to, q_pa pa);
void sim_vmemmap_displace(uintptr_t from, uintptr_t to);
#define QPORT_VMEMMAP_BASE ((uintptr_t)0x200000000000) /* SIM_VMEMMAP_BASE */
#define QPORT_ASIDS        1

/* In code that the monitor watches, the clearing and copying that is left to the C library is to be seen
 * too: clang leaves all of it, gcc what it does not do in line. */
#ifdef __SANITIZE_THREAD__
#define SIM_WATCHED 1
#elif defined(__has_feature)
#define SIM_WATCHED __has_feature(thread_sanitizer)
#else
#define SIM_WATCHED 0
#endif
#if SIM_WATCHED
__asm__(".set memset, __tsan_memset\n"
        ".set memcpy, __tsan_memcpy\n"
        ".set memmove, __tsan_memmove\n");
#endif

enum sim_point_kind {
    SIM_POINT_LOAD,
    SIM_POINT_STORE,
    SIM_POINT_RMW,
    SIM_POINT_FENCE,
    SIM_POINT_LOCK,
    SIM_POINT_UNLOCK,
    SIM_POINT_RELAX,  /* one turn of a busy wait */
    SIM_POINT_WAIT,   /* about to sleep */
    SIM_POINT_ACCESS, /* a task touches its memory */
    SIM_POINT_IRQ     /* interrupts, or preemption, have just been allowed again */
};
void sim_point(enum sim_point_kind kind, const void *ptr);
#define QPORT_POINT(kind, ptr) sim_point(SIM_POINT_##kind, ptr)

enum sim_event_kind {
    SIM_EVENT_FRAME_ALLOC,
    SIM_EVENT_FRAME_FREE,
    SIM_EVENT_OBJECT_ALLOC,
    SIM_EVENT_OBJECT_FREE,
    SIM_EVENT_TABLE_ALLOC,
    SIM_EVENT_TABLE_FREE,
    SIM_EVENT_LOCK_INIT,
    SIM_EVENT_LOCKED,
    SIM_EVENT_UNLOCK
};
void sim_event(enum sim_event_kind kind, const void *ptr, uint64_t n);
#define QPORT_EVENT(kind, ptr, n) sim_event(SIM_EVENT_##kind, ptr, n)

unsigned qport_cpu(void);
#define QPORT_CONTEXTS 2u
unsigned qport_context(void);
/* Code lies elsewhere in each run: who called is told by the task. */
uintptr_t sim_caller(void);
#define QPORT_CALLER() sim_caller()
unsigned long qport_irq_save(void);
void qport_irq_restore(unsigned long flags);
void qport_preempt_disable(void);
void qport_preempt_enable(void);
void qport_relax(void);
void qport_clear_page(void *kla);
void qport_copy_page(void *dst, const void *src);
void sim_copy_optimistic(void *dst, const void *src);
#define QPORT_COPY_OPTIMISTIC(dst, src) sim_copy_optimistic(dst, src)

void qport_tlb_flush_page(uint64_t va, unsigned asid);
void qport_tlb_flush_asid(unsigned asid);
void qport_tlb_flush_all(void);
void qport_table_load(q_pa root, unsigned asid, bool keep);

#endif
