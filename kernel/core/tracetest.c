/*
 * core/tracetest.c - quire.crash=irq and =tick: an interrupt handler allocates, has the heap say who allocated (with
 * heap=track), and ends the kernel: while a function of the kernel is under way, or 700 ms later a program.
 *
 * What the heap has is the handler's callers and no more; the panic shows who was interrupted too, if it was
 * the kernel.
 */
#include "arch/cpu.h"
#include "ktime.h"
#include "task.h"
#include <quire/track.h>

#define SOON_NS  1000000u
#define LATER_NS 700000000u

static void in_interrupt(struct ktimer *t)
{
    void *p = quire_kmalloc(100, QUIRE_GFP_ATOMIC);

    (void)t;
    if (p)
        quire_heap_describe(p);
    kpanic("asked to crash in an interrupt");
}

static __attribute__((noinline)) void be_interrupted(void)
{
    for (;;)
        qport_relax();
}

void trace_crash(const char *how)
{
    static struct ktimer timer = {.fn = in_interrupt};
    bool soon = !strcmp(how, "irq");

    ktimer_start(&timer, ktime_ns() + (soon ? SOON_NS : LATER_NS));
    if (soon)
        be_interrupted();
}
