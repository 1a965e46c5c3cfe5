/*
 * quire_port.h of the heap by itself: what the sources ask of a port, by the eight functions of
 * quire/heap_only.h.  Whoever builds from sources may have a copy of this file in which the three short
 * ones are inline.
 */
#ifndef QUIRE_PORT_HEAP_H
#define QUIRE_PORT_HEAP_H

#include <quire/types.h>

#if QUIRE_MEMORY_MODEL != QUIRE_MODEL_VMEMMAP || QUIRE_DIRECT_LIMIT
#error "the heap by itself has one window, and one array of pages"
#endif

unsigned quire_host_cpu(void);
unsigned long quire_host_irq_save(void);
void quire_host_irq_restore(unsigned long was);

/* heaponly/frames.c: the window, and struct quire_page of its first page. */
extern char *qi_window_start;
extern char *qi_window_pages;
#define QPORT_DIRECT_BASE  ((uintptr_t)qi_window_start)
#define QPORT_VMEMMAP_BASE ((uintptr_t)qi_window_pages)

#define QPORT_POINT(kind, ptr) ((void)0)

static inline unsigned qport_cpu(void) { return quire_host_cpu(); }
static inline unsigned long qport_irq_save(void) { return quire_host_irq_save(); }
static inline void qport_irq_restore(unsigned long was) { quire_host_irq_restore(was); }
/* Locks of tasks are none of the heap's: interrupts are off wherever preemption would have to be. */
static inline void qport_preempt_disable(void) {}
static inline void qport_preempt_enable(void) {}
static inline void qport_relax(void) { __asm__ volatile("" : : : "memory"); }
static inline void qport_clear_page(void *page) { __builtin_memset(page, 0, 4096); }

#endif
