/*
 * The smallest port: one CPU, no interrupts, "physical" memory is a static array (see minimal.c).
 */
#include <stdint.h>
#include <string.h>

extern char minimal_memory[], minimal_pages[];
#define QPORT_DIRECT_BASE      ((uintptr_t)minimal_memory)
#define QPORT_VMEMMAP_BASE     ((uintptr_t)minimal_pages)
#define QPORT_POINT(kind, ptr) ((void)0)

static inline unsigned qport_cpu(void) { return 0; }
static inline unsigned long qport_irq_save(void) { return 0; }
static inline void qport_irq_restore(unsigned long flags) { (void)flags; }
static inline void qport_preempt_disable(void) {}
static inline void qport_preempt_enable(void) {}
static inline void qport_relax(void) {}
static inline void qport_clear_page(void *page) { memset(page, 0, 4096); }
