/*
 * Malloc port: the heap as the malloc of a Linux process (libquire-malloc.so).  Memory is a reserved range
 * of addresses, CPUs are slots that threads hold (slot.c), interrupts do not exist.  See
 * include/quire/port.h for the contracts, docs/design/malloc.md for the design.
 */
#ifndef QUIRE_PORT_MALLOC_H
#define QUIRE_PORT_MALLOC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <quire/status.h>

extern uintptr_t malloc_direct_base, malloc_vmemmap_base;
/* The slot of this thread; 0: none of its own, see slot.c. */
extern __thread unsigned long malloc_cpu;

#define QPORT_DIRECT_BASE  malloc_direct_base
#define QPORT_VMEMMAP_BASE malloc_vmemmap_base
#define QPORT_ASIDS        1
#define QPORT_BOOT_ZEROED  1

static inline unsigned long qport_cpu(void) { return malloc_cpu; }
static inline unsigned long qport_irq_save(void) { return 0; }
static inline void qport_irq_restore(unsigned long flags) { (void)flags; }
static inline void qport_preempt_disable(void) {}
static inline void qport_preempt_enable(void) {}
static inline void qport_relax(void) { __builtin_ia32_pause(); }
static inline void qport_clear_page(void *kla) { memset(kla, 0, 4096); }
static inline void qport_copy_page(void *dst, const void *src) { memcpy(dst, src, 4096); }

/* A thread is about to take, has taken, has released a lock of the library: a fork waits for it (slot.c). */
void malloc_lock_begins(void);
void malloc_lock_taken(void);
void malloc_lock_released(void);
/* Frames leave and reach the allocator (pages.c). */
void malloc_frames_taken(const void *page, unsigned order);
void malloc_frames_given(const void *page, unsigned order);
/* A pointer that the heap does not know: true if it was one of large.c's, which is free now. */
bool malloc_large_free(void *p);

#define MALLOC_NOTHING         ((void)0)
#define MALLOC_POINT_LOAD(p)   MALLOC_NOTHING
#define MALLOC_POINT_STORE(p)  MALLOC_NOTHING
#define MALLOC_POINT_RMW(p)    MALLOC_NOTHING
#define MALLOC_POINT_FENCE(p)  MALLOC_NOTHING
#define MALLOC_POINT_TABLE(p)  MALLOC_NOTHING
#define MALLOC_POINT_LOCK(p)   malloc_lock_begins()
#define MALLOC_POINT_UNLOCK(p) MALLOC_NOTHING
#define QPORT_POINT(kind, ptr) MALLOC_POINT_##kind(ptr)

#define MALLOC_EVENT_FRAME_ALLOC(p, n)  malloc_frames_taken(p, n)
#define MALLOC_EVENT_FRAME_FREE(p, n)   malloc_frames_given(p, n)
#define MALLOC_EVENT_OBJECT_ALLOC(p, n) MALLOC_NOTHING
#define MALLOC_EVENT_OBJECT_FREE(p, n)  MALLOC_NOTHING
#define MALLOC_EVENT_LOCK_INIT(p, n)    MALLOC_NOTHING
#define MALLOC_EVENT_LOCKED(p, n)       ((n) ? MALLOC_NOTHING : malloc_lock_taken())
#define MALLOC_EVENT_UNLOCK(p, n)       MALLOC_NOTHING
#define QPORT_EVENT(kind, ptr, n)       MALLOC_EVENT_##kind(ptr, n)
#define QPORT_UNLOCKED(lock)            malloc_lock_released()
#define QPORT_FREE_FOREIGN(p)           malloc_large_free(p)

#endif
