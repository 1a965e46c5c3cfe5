/*
 * core/report.c - quire.report: what the manager saw, said when process 1 has ended.
 *
 * Lines "quire: NAME VALUE...", between "quire: report begin" and "quire: report end"; format in
 * kernel/include/cmdline.md.  A kernel that was not asked for it counts nothing for it.
 */
#include "arch/cpu.h"
#include "cmdline.h"
#include "heapwatch.h"
#include "ktime.h"
#include "measure.h"
#include "bare.h"
#include "task.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/object.h>
#include <quire/pt.h>
#include <quire/space.h>

bool measure_on;
static u64 start_free, boot_ticks, first_program_ns;
static u64 lowest_free = ~0ull;
static struct ktimer sampler;

void measure_add(enum measure_kind kind, u64 ticks)
{
    struct cpu *c = this_cpu();

    c->mm_ns[kind] += ticks;
    c->mm_calls[kind]++;
}

/* Peak use: looked at every 10 ms and at the end. */
static void sample(struct ktimer *t)
{
    lowest_free = K_MIN(lowest_free, quire_free_pages());
    ktimer_start(t, ktime_ns() + 10000000);
}

void report_boot(void) { boot_ticks = rdtsc(); }
void report_first_program(void) { first_program_ns = ktime_ticks_to_ns(rdtsc() - boot_ticks); }

void report_init(void)
{
    start_free = quire_free_pages();
    measure_on = cmdline_has("quire.report");
    if (!measure_on)
        return;
    sampler.fn = sample;
    sample(&sampler);
}

static void print_memory(void)
{
    u64 files, shared, now = quire_free_pages();
    struct quire_kva_stats kva;
    struct quire_tlb_stats tlb;

    lowest_free = K_MIN(lowest_free, now);
    quire_object_totals(&files, &shared);
    quire_kva_stats(&kva);
    quire_tlb_stats(&tlb);
    printk("quire: memory managed %lu start_free %lu free %lu lowest_free %lu pages",
           (unsigned long)quire_managed_pages(), (unsigned long)start_free, (unsigned long)now,
           (unsigned long)lowest_free);
    printk("quire: cache files %lu shared %lu pages", (unsigned long)files, (unsigned long)shared);
    printk("quire: tables %lu pages", (unsigned long)quire_pt_pages());
    printk("quire: maps shared %lu pages", (unsigned long)vmemmap_pages_saved());
    printk("quire: areas %lu bytes %lu stacks %lu", (unsigned long)kva.areas,
           (unsigned long)kva.bytes, (unsigned long)kva.stacks);
    printk("quire: tlb requests %lu ipis %lu local %lu", (unsigned long)tlb.requests,
           (unsigned long)tlb.ipis, (unsigned long)tlb.local_flushes);
}

static void print_time(void)
{
    static const char *const names[MEASURE_KINDS] = {"faults", "calls", "moves"};

    for (unsigned k = 0; k < MEASURE_KINDS; k++) {
        u64 ticks = 0, n = 0;

        for (unsigned i = 0; i < cpu_count; i++) {
            ticks += cpus[i].mm_ns[k];
            n += cpus[i].mm_calls[k];
        }
        printk("quire: time %s %lu in %lu ns", names[k], (unsigned long)n,
               (unsigned long)ktime_ticks_to_ns(ticks));
    }
    printk("quire: time first_program %lu ns", (unsigned long)first_program_ns);
    printk("quire: time uptime %lu ns", (unsigned long)ktime_ns());
}

static void print_events(void)
{
    for (unsigned e = 0; e < QUIRE_EVENT_COUNT; e++)
        printk("quire: event %s %lu", quire_event_name(e), (unsigned long)quire_event_count(e));
}

static void print_zones(void)
{
    struct quire_zone_stats z;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++) {
        char orders[200];
        int n = 0;

        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
            n += ksnprintf(orders + n, sizeof(orders) - (size_t)n, " %lu",
                           (unsigned long)z.free_blocks[o]);
        printk("quire: zone node %u %s present %lu managed %lu free %lu cached %lu allocs %lu "
               "frees %lu fails %lu locks %lu",
               z.node, z.name, (unsigned long)z.present, (unsigned long)z.managed,
               (unsigned long)z.free, (unsigned long)z.cached, (unsigned long)z.allocs,
               (unsigned long)z.frees, (unsigned long)z.fails, (unsigned long)z.lock_acquisitions);
        printk("quire: orders node %u %s%s", z.node, z.name, orders);
    }
}

void report_print(void)
{
    char every[16];

    if (measure_on || cmdline_has("quire.blocks") ||
        cmdline_get("quire.blocks", every, sizeof every))
        blocks_print();
    if (!measure_on)
        return;
    ktimer_cancel(&sampler);
    printk("quire: report begin");
    print_memory();
    print_time();
    print_events();
    print_zones();
    heap_watch_print();
    printk("quire: report end");
}
