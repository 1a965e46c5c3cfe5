/*
 * core/bench.h - rows of a benchmark that the kernel makes of its own manager; bench.c has the form.
 */
#ifndef K_BENCH_H
#define K_BENCH_H

#include "k.h"

struct bench_row {
    const char *name;
    u64 (*run)(void); /* hundredths of ticks for one operation */
};

void bench_print(const struct bench_row *rows, unsigned n);

void frame_bench(void);
void heap_bench(void);
void kva_bench(void);

#endif
