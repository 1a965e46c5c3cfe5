/*
 * core/bench.c - what the memory manager costs in this kernel: quire.bench=WHAT on the command line prints,
 * before the first program,
 *
 *     quire: bench ROW TICKS.HUNDREDTHS
 *
 * for one operation in ticks of the time-stamp counter, which are instructions under QEMU's -icount.  Each row
 * begins with empty lists of frames, so that it does not depend on those before it, and runs once to warm up, then
 * RUNS times; the median counts.
 */
#include "bench.h"
#include "arch/cpu.h"
#include <quire/frame.h>

#define RUNS 5u

static u64 median(u64 (*run)(void))
{
    u64 sorted[RUNS];

    quire_frame_drain();
    run();
    for (unsigned r = 0; r < RUNS; r++) {
        u64 t = run();
        unsigned at = r;

        for (; at > 0 && sorted[at - 1] > t; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = t;
    }
    return sorted[RUNS / 2];
}

void bench_print(const struct bench_row *rows, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        u64 ticks = median(rows[i].run);

        printk("quire: bench %s %lu.%02lu", rows[i].name, (unsigned long)(ticks / 100),
               (unsigned long)(ticks % 100));
    }
}

void bench_run(const char *what)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {
        {"frames", frame_bench},
        {"heap", heap_bench},
        {"areas", kva_bench},
    };

    for (unsigned i = 0; i < K_COUNT(all); i++)
        if (!strcmp(what, all[i].name)) {
            all[i].run();
            return;
        }
    printk("quire: quire.bench=%s: no such benchmark", what);
}
