/*
 * Port of a 32-bit kernel, for compiling alone: the direct map ends at 896 MiB, as i386 kernels have it,
 * and there is no C library, not even its headers.
 */
#ifndef QUIRE_PORT_32_H
#define QUIRE_PORT_32_H

#include <quire/types.h>

#define QPORT_DIRECT_BASE  0xc0000000u
#define QPORT_VMEMMAP_BASE 0xf8000000u
#define QPORT_ASIDS        1

#define QPORT_POINT(kind, ptr) ((void)0)

void port32_clear_page(void *at);
void port32_copy_page(void *to, const void *from);

static inline unsigned qport_cpu(void) { return 0; }
static inline unsigned long qport_irq_save(void)
{
    unsigned long flags;

    __asm__ volatile("pushf; pop %0; cli" : "=r"(flags) : : "memory");
    return flags;
}
static inline void qport_irq_restore(unsigned long flags)
{
    __asm__ volatile("push %0; popf" : : "r"(flags) : "memory", "cc");
}
static inline void qport_preempt_disable(void) {}
static inline void qport_preempt_enable(void) {}
static inline void qport_relax(void) { __asm__ volatile("pause"); }
static inline void qport_clear_page(void *at) { port32_clear_page(at); }
static inline void qport_copy_page(void *to, const void *from) { port32_copy_page(to, from); }

#endif
