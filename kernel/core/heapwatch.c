/*
 * core/heapwatch.c - what the library's leak scan asks of this kernel (quire/leak.h): where addresses of
 * objects may be; and who allocated most, for quire.report.
 */
#include "arch/cpu.h"
#include "heapwatch.h"
#include "ksyms.h"
#include "task.h"
#include <quire/track.h>

#define TOP 10

extern char kernel_data_start[], kernel_end[];

static void stack_of(struct task *t, void *scan)
{
    if (t != current && leakscan_sees_stacks())
        quire_leak_root(scan, (void *)task_stack_low(t), (void *)t->kstack_top);
}

/* Data and bss hold the CPUs' areas and the boot stack too; a task that does not run has its registers on
 * its stack. */
static void roots(void *scan, void *ctx)
{
    (void)ctx;
    __builtin_unwind_init(); /* our own registers, onto our stack */
    quire_leak_root(scan, kernel_data_start, kernel_end);
    quire_leak_root(scan, __builtin_frame_address(0), (void *)current->kstack_top);
    tasks_each(stack_of, scan);
}

static void let_others_run(void *ctx)
{
    (void)ctx;
    cond_resched();
}

void heap_watch_init(void)
{
    static const struct quire_leak_hooks hooks = {.roots = roots, .pause = let_others_run};

    quire_leak_set_hooks(&hooks);
}

void heap_watch_print(void)
{
    struct quire_site top[TOP];
    struct quire_track_stats s;
    size_t n = quire_heap_sites(top, TOP);

    if (!n)
        return;
    quire_track_stats(&s);
    printk("quire: heap live %lu bytes %lu sites %lu lost %lu", (unsigned long)s.live,
           (unsigned long)s.bytes, (unsigned long)s.sites, (unsigned long)s.lost);
    for (size_t i = 0; i < n; i++) {
        u64 off = 0;
        const char *name = ksym_name(top[i].caller, &off);

        printk("quire: site %s+%#lx bytes %lu count %lu peak %lu calls %lu", name ? name : "?",
               (unsigned long)off, (unsigned long)top[i].bytes, (unsigned long)top[i].count,
               (unsigned long)top[i].peak, (unsigned long)top[i].calls);
    }
}
