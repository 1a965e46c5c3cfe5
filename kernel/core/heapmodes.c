/*
 * core/heapmodes.c - heap=MODE,... on the command line: hardening and observation of the heap
 * (quire/harden.h has the names), chosen before anything is mapped: sampled objects want pages of
 * the direct map that can be closed one by one.
 */
#include "arch/cpu.h"
#include "bare.h"
#include "cmdline.h"
#include "task.h"
#include "wait.h"
#include <quire/heap.h>

#define POOL_OBJECTS (QUIRE_HUGE_SIZE / QUIRE_PAGE_SIZE / 2 - 1)

static struct quire_heap_options options = QUIRE_HEAP_DEFAULTS;
static char words[256];

u64 heap_pool(void)
{
    q_pa pa;

    if (!(options.flags & QUIRE_HARDEN_SAMPLE))
        return 0;
    if (!options.sample_pool) {
        if (quire_memmap_alloc(&boot_memmap, QUIRE_HUGE_SIZE, QUIRE_HUGE_SIZE, 0, 0,
                               "sampled objects", &pa) != QUIRE_OK)
            kpanic("heap=%s: no memory for sampled objects", words);
        options.sample_pool = quire_ptr_of_pa(pa);
        options.sample_objects = POOL_OBJECTS;
    }
    return (u64)options.sample_pool - QPORT_DIRECT_BASE;
}

void heap_modes_parse(void)
{
    const char *wrong;

    if (cmdline_get("heap", words, sizeof(words)) &&
        quire_heap_options_parse(words, &options, &wrong) != QUIRE_OK)
        kpanic("heap=%s: '%s' is no mode of the heap", words, wrong);
}

enum quire_status heap_modes_choose(void)
{
    options.seed = qport_random();
    return quire_heap_configure(&options);
}

uint64_t bare_guard_page(void *page, bool closed)
{
    return quire_pt_guard(kernel_root, (u64)page, closed);
}

/* ---- one sampled object in so many milliseconds ---- */

static void sample_main(void *unused)
{
    (void)unused;
    for (;;) {
        quire_heap_sample();
        wait_prepare();
        wait_sleep(ktime_ns() + options.sample_ms * 1000000ull);
        wait_finish();
    }
}

void heap_modes_start(void)
{
    struct task *t;

    if (!options.sample_ms)
        return;
    t = task_alloc("sample", sample_main, NULL);
    if (!t)
        kpanic("no memory for the heap's timer");
    task_start(t);
}
