/*
 * monitor_report.c - accesses and addresses in words, for the monitor's findings.
 *
 * Of the access that is made now the whole call stack is known.  Of an earlier one its place in the
 * code, and the task, point and stack with which its CPU began the epoch that it fell into: the
 * access itself came at or after that.
 */
#include "monitor_parts.h"

#include <stdio.h>

#include "symbols.h"

static const char *type_name(cell type)
{
    if (type & CELL_ATOMIC)
        return type & CELL_WRITE ? "atomic write" : "atomic read";
    return type & CELL_WRITE ? "write" : "read";
}

static void note_frame(unsigned depth, uintptr_t pc)
{
    char buf[128];

    sim_note("      #%u %s", depth, sim_symbol((void *)(pc - 1), buf, sizeof buf));
}

void monitor_note_here(const char *what, uintptr_t a, uint64_t bytes, cell type, uintptr_t pc)
{
    const struct context *x = monitor_context;
    unsigned depth = 0;

    sim_note("  %s %s of %llu bytes at %p by CPU %u, task %u, point %llu", what, type_name(type),
             (unsigned long long)bytes, (void *)a, sim_cpu(), sim_task_number(),
             (unsigned long long)sim_points());
    note_frame(depth++, pc);
    for (unsigned i = x->depth; i; i--)
        if (i <= STACK_DEPTH)
            note_frame(depth++, x->stack[i - 1]);
}

void monitor_note_cell(const char *what, cell c)
{
    const struct epoch *e = &monitor_cpu_of(cell_cpu(c))->epochs[cell_clock(c) % EPOCHS];

    if (!c)
        return;
    sim_note("  %s %s by CPU %u, bytes %#x of the granule", what, type_name(c), cell_cpu(c),
             (unsigned)((c & CELL_BYTES) >> 22));
    note_frame(0, (c & CELL_PC) + (uintptr_t)__executable_start);
    if (e->clock != cell_clock(c)) {
        sim_note("      too long ago to know more");
        return;
    }
    sim_note("      at or after point %llu, task %u, where the stack was:",
             (unsigned long long)e->point, e->task);
    for (unsigned i = 0; i < e->frames; i++)
        note_frame(i + 1, e->stack[i]);
}

void monitor_note_place(uintptr_t a)
{
    char buf[128];
    uint64_t pfn;

    if (a - SIM_DIRECT_BASE < monitor_regions[REGION_DIRECT].bytes) {
        pfn = (a - SIM_DIRECT_BASE) / PAGE;
        sim_note("  %p is byte %u of frame %#llx", (void *)a, (unsigned)(a % PAGE),
                 (unsigned long long)pfn);
        sim_frame_history(pfn);
    } else if (a - SIM_VMEMMAP_BASE < monitor_regions[REGION_VMEMMAP].bytes) {
        pfn = (a - SIM_VMEMMAP_BASE) / sizeof(struct quire_page);
        sim_note("  %p is byte %u of the struct page of frame %#llx", (void *)a,
                 (unsigned)((a - SIM_VMEMMAP_BASE) % sizeof(struct quire_page)),
                 (unsigned long long)pfn);
        sim_frame_history(pfn);
    } else {
        sim_note("  %p is %s", (void *)a, sim_symbol((void *)a, buf, sizeof buf));
    }
}

bool monitor_in_function(uintptr_t pc, const char *const *names)
{
    char buf[128];
    const char *name;
    size_t n;

    if (!*names)
        return false;
    name = sim_symbol((void *)(pc - 1), buf, sizeof buf);
    n = strcspn(name, "+.");
    for (; *names; names++)
        if (strlen(*names) == n && !strncmp(*names, name, n))
            return true;
    return false;
}
