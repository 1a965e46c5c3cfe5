/*
 * base/selftest.h - checks of hooks that every profile of the library has: for the self-tests of ports.
 */
#ifndef QI_BASE_SELFTEST_H
#define QI_BASE_SELFTEST_H

#include <quire/port.h>

/* The number of this CPU is in range and does not change while the task cannot move. */
static inline bool qi_cpu_works(void)
{
    unsigned long outer = qport_irq_save(), inner = qport_irq_save();
    unsigned cpu = qport_cpu();
    bool good = cpu < QUIRE_MAX_CPUS;

    qport_irq_restore(inner);
    good = good && qport_cpu() == cpu;
    qport_irq_restore(outer);
    qport_preempt_disable();
    qport_preempt_disable();
    cpu = qport_cpu();
    for (int i = 0; i < 100; i++)
        qport_relax();
    qport_preempt_enable();
    good = good && qport_cpu() == cpu && cpu < QUIRE_MAX_CPUS;
    qport_preempt_enable();
    return good;
}

static inline bool qi_clock_works(void)
{
    uint64_t last = qport_now_ns();

    for (int i = 0; i < 1000; i++) {
        uint64_t now = qport_now_ns();

        if (now < last)
            return false;
        last = now;
    }
    return true;
}

#endif
