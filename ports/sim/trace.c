/*
 * trace.c - see trace.h.
 *
 * The hash takes in what is the same with any compiler and at any load address: the kind of the point,
 * CPU, task, and the address where it lies in the machine's memory or its struct pages.  Variables
 * of the library and stacks count as one place each.
 */
#include "trace.h"

#include <string.h>

#include "engine.h"
#include "symbols.h"

enum { KEPT = 1 << 14 };

struct entry {
    uint64_t point;
    const void *ptr, *pc;
    const char *doing;
    uint8_t kind, cpu, task;
};

static struct entry kept[KEPT];
static uint64_t hash, count;
static FILE *live_out;

static const char *const kinds[] = {"load",   "store", "rmw",   "fence",  "lock",
                                    "unlock", "spin",  "sleep", "access", "irqs on"};

void sim_trace_reset(void)
{
    hash = 0xcbf29ce484222325u;
    count = 0;
}

void sim_trace_mix(uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
}

uint64_t sim_trace_hash(void) { return hash; }

static uint64_t place(const void *ptr)
{
    uintptr_t p = (uintptr_t)ptr;

    if (p >= SIM_DIRECT_BASE && p < SIM_STACKS_BASE)
        return p;
    return p != 0;
}

/* In words: frame 0x123+0x10, page of 0x123, or a variable's name. */
static const char *place_name(const void *ptr, char *buf, size_t len)
{
    uintptr_t p = (uintptr_t)ptr;

    if (!p)
        buf[0] = 0;
    else if (p >= SIM_STACKS_BASE && p < SIM_STACKS_BASE + (1ull << 32))
        snprintf(buf, len, "stack");
    else if (p >= SIM_VMEMMAP_BASE && p < SIM_STACKS_BASE)
        snprintf(buf, len, "page %#llx+%llu", (p - SIM_VMEMMAP_BASE) / 32ull,
                 (p - SIM_VMEMMAP_BASE) % 32ull);
    else if (p >= SIM_DIRECT_BASE && p < SIM_VMEMMAP_BASE)
        snprintf(buf, len, "frame %#llx+%#llx", (p - SIM_DIRECT_BASE) >> 12,
                 (p - SIM_DIRECT_BASE) & 4095ull);
    else
        sim_symbol(ptr, buf, len);
    return buf;
}

static void print_entry(FILE *out, const struct entry *e, unsigned width)
{
    char where[96], what[96];

    sim_symbol(e->pc, where, sizeof where);
    place_name(e->ptr, what, sizeof what);
    fprintf(out, "%9llu  %*sCPU %u task %-2u %-7s %-24s %s%s%s\n", (unsigned long long)e->point,
            (int)(e->cpu * width), "", e->cpu, e->task, kinds[e->kind], what, where,
            e->doing ? "  in " : "", e->doing ? e->doing : "");
}

void sim_trace(enum sim_point_kind kind, const void *ptr, const void *pc)
{
    const struct sim_task *t = sim_current();
    struct entry e = {.point = sim_points(),
                      .ptr = ptr,
                      .pc = pc,
                      .doing = t ? t->doing : NULL,
                      .kind = (uint8_t)kind,
                      .cpu = (uint8_t)sim_cpu(),
                      .task = (uint8_t)sim_task_number()};

    sim_trace_mix(place(ptr) ^ (uint64_t)kind << 60 ^ (uint64_t)e.cpu << 54 ^
                  (uint64_t)e.task << 46);
    kept[count++ % KEPT] = e;
    if (live_out)
        print_entry(live_out, &e, 0);
}

void sim_trace_print(FILE *out, unsigned n)
{
    uint64_t first = count > n ? count - n : 0;

    if (count > KEPT && first < count - KEPT)
        first = count - KEPT;
    for (uint64_t i = first; i < count; i++)
        print_entry(out, &kept[i % KEPT], sim_cpus() <= 8 ? 6 : 1);
}

void sim_trace_live(FILE *out) { live_out = out; }
