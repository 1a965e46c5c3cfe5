/*
 * port.c - the hooks of the port that are no scheduling: memory, MMU, events, log, and how the
 * machine comes up.
 *
 * Physical memory is one mapping of the host at SIM_DIRECT_BASE: frame n is there at 4096 n, so the
 * library's direct map is plain memory.  Its first MiB is no usable memory, as on a PC, and with two
 * nodes each has half, with a hole that belongs to neither between them.
 */
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "history.h"
#include "lockdep.h"
#include "machine.h"
#include "mmu.h"
#include "monitor.h"
#include "trace.h"

void __tsan_read_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n);

enum { MIB = 1 << 20 };

/* ---- Memory ---- */

static void map_fixed(uintptr_t at, size_t len)
{
    void *want = (void *)at; /* NOLINT: an address by decision */

    if (mmap(want, len, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != want) {
        perror("quire-sim: no memory for the machine");
        exit(2);
    }
}

enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node)
{
    (void)node;
    map_fixed(from, to - from);
    monitor_writes((void *)from, to - from); /* NOLINT: the mapping above */
    return QUIRE_OK;
}

/* Whoever touches it from now on crashes. */
void sim_vmemmap_release(uintptr_t from, uintptr_t to)
{
    if (mprotect((void *)from, to - from, PROT_NONE)) { /* NOLINT: an address of ours */
        perror("quire-sim: release of struct pages");
        exit(2);
    }
}

/* The device's memory is nowhere in this machine but in the array. */
enum quire_status sim_vmemmap_place(uintptr_t from, uintptr_t to, q_pa pa)
{
    (void)pa;
    return qport_vmemmap_populate(from, to, 0);
}

void sim_vmemmap_displace(uintptr_t from, uintptr_t to) { sim_vmemmap_release(from, to); }

void qport_clear_page(void *kla)
{
    monitor_writes(kla, QUIRE_PAGE_SIZE);
    memset(kla, 0, QUIRE_PAGE_SIZE);
}

static inline __attribute__((always_inline)) void copy_page(void *dst, const void *src)
{
    monitor_reads(src, QUIRE_PAGE_SIZE);
    monitor_writes(dst, QUIRE_PAGE_SIZE);
    memcpy(dst, src, QUIRE_PAGE_SIZE);
}

/* Two functions: the monitor knows the reads of the second by it (monitor_race.c). */
void qport_copy_page(void *dst, const void *src) { copy_page(dst, src); }
void sim_copy_optimistic(void *dst, const void *src) { copy_page(dst, src); }

/* ---- The MMU ---- */

static uint64_t *memory_at(void *ctx, uint64_t pa)
{
    (void)ctx;
    return pa < sim_machine.memory ? (uint64_t *)(SIM_DIRECT_BASE + pa) : NULL; /* NOLINT */
}

static void entry_changed(void *ctx, unsigned cpu, uint64_t pa, uint64_t before, uint64_t after)
{
    (void)ctx, (void)cpu, (void)before, (void)after;
    monitor_hw_write(memory_at(NULL, pa), 8);
}

void qport_tlb_flush_page(uint64_t va, unsigned asid) { mmu_flush_page(sim_cpu(), va, asid); }
void qport_tlb_flush_asid(unsigned asid) { mmu_flush_asid(sim_cpu(), asid); }
void qport_tlb_flush_all(void) { mmu_flush_all(sim_cpu()); }
void qport_table_load(q_pa root, unsigned asid, bool keep)
{
    mmu_load_root(sim_cpu(), root.v, asid, keep);
}

bool sim_access(uint64_t va, enum sim_access kind, bool user, uint64_t *value)
{
    struct mmu_reply reply;

    sim_point(SIM_POINT_ACCESS, NULL);
    if (mmu_access(sim_cpu(), va, kind == SIM_ACCESS_WRITE ? MMU_WRITE : MMU_READ, user, &reply) !=
        MMU_OK)
        return false;
    if (kind == SIM_ACCESS_WRITE) {
        memcpy(reply.host, value, sizeof *value);
        monitor_hw_write(reply.host, sizeof *value);
    } else {
        memcpy(value, reply.host, sizeof *value);
    }
    return true;
}

/* ---- Events ---- */

static void (*event_hook)(enum sim_event_kind kind, const void *ptr, uint64_t n);
static void (*log_hook)(const char *line);
static void (*panic_hook)(const char *text);

void sim_on_trouble(void (*event)(enum sim_event_kind kind, const void *ptr, uint64_t n),
                    void (*log)(const char *line), void (*panic)(const char *text))
{
    event_hook = event;
    log_hook = log;
    panic_hook = panic;
}

void sim_event(enum sim_event_kind kind, const void *ptr, uint64_t n)
{
    const void *pc = __builtin_return_address(0);
    uint64_t pfn = ((uintptr_t)ptr - SIM_VMEMMAP_BASE) / sizeof(struct quire_page);

    if (event_hook)
        event_hook(kind, ptr, n);
    switch (kind) {
    case SIM_EVENT_LOCK_INIT:
    case SIM_EVENT_LOCKED:
    case SIM_EVENT_UNLOCK: lockdep_event(kind, ptr, n, pc); return;
    case SIM_EVENT_OBJECT_ALLOC:
    case SIM_EVENT_OBJECT_FREE: break;
    default: sim_history_event(kind, pfn, (unsigned)n, pc); break;
    }
    monitor_event(kind, ptr, n, pc);
    if (kind == SIM_EVENT_FRAME_ALLOC)
        mmu_frame_allocated(pfn, (unsigned)n);
    else if (kind == SIM_EVENT_FRAME_FREE)
        mmu_frame_freed(pfn, (unsigned)n);
    else if (kind == SIM_EVENT_TABLE_FREE)
        mmu_table_freed(pfn);
}

/* ---- Log and panic ---- */

static char last_error[512];

void qport_log(enum quire_log_level level, const char *text, size_t len)
{
    if (level != QUIRE_LOG_ERROR)
        return;
    snprintf(last_error, sizeof last_error, "%.*s", (int)len, text);
    if (log_hook)
        log_hook(last_error);
}

void qport_panic(const char *text)
{
    if (panic_hook)
        panic_hook(text);
    sim_fail("panic", "%s", text);
}

const char *sim_last_error(void) { return last_error; }

/* ---- Bringing it up ---- */

static void must(enum quire_status status, const char *what)
{
    if (status != QUIRE_OK)
        sim_fail("boot", "%s: %s", what, quire_status_name(status));
}

static void start_frames(const struct sim_machine *m)
{
    static struct quire_mem_range ranges[16], reserved[16];
    static struct quire_memmap map;
    static uint8_t cpu_node[SIM_MAX_CPUS];
    struct quire_boot boot = {
        .map = &map, .nodes = m->nodes, .cpus = m->cpus, .cpu_node = cpu_node};
    /* less than 16 MiB at boot is no machine: a program that is made smaller loses what may come */
    uint64_t coming = m->memory >= m->hotplug + 16 * MIB ? m->hotplug : 0;
    uint64_t there = m->memory - coming, half = there / 2 & ~(uint64_t)(QUIRE_PAGE_SIZE - 1);

    quire_memmap_init(&map, ranges, 16, reserved, 16);
    if (m->nodes == 1) {
        must(quire_memmap_add(&map, Q_PA(MIB), there - MIB, QUIRE_MEM_USABLE), "memory");
    } else {
        /* the border is no multiple of 2 MiB, and neither side is whole */
        must(quire_memmap_add(&map, Q_PA(MIB), half - MIB - 5 * QUIRE_PAGE_SIZE, QUIRE_MEM_USABLE),
             "memory");
        must(quire_memmap_add(&map, Q_PA(half + 3 * QUIRE_PAGE_SIZE),
                              there - half - 3 * QUIRE_PAGE_SIZE, QUIRE_MEM_USABLE),
             "memory");
        must(quire_memmap_set_node(&map, Q_PA(0), half, 0), "node 0");
        must(quire_memmap_set_node(&map, Q_PA(half), there - half, 1), "node 1");
    }
    must(quire_memmap_add(&map, Q_PA(there), coming, QUIRE_MEM_HOTPLUG), "what may come");
    must(quire_memmap_set_node(&map, Q_PA(there), coming, QUIRE_NODE_ANY), "any node");
    for (unsigned i = 0; i < m->cpus; i++)
        cpu_node[i] = (uint8_t)(i % m->nodes);
    must(quire_frame_init(&boot), "frames");
}

static q_pa kernel_root;

q_pa sim_kernel_root(void) { return kernel_root; }

static void start_library(const struct sim_machine *m)
{
    const struct quire_kva_layout layout = {
        .areas_start = Q_KVA(SIM_AREAS_START),
        .areas_end = Q_KVA(SIM_AREAS_START + SIM_AREAS_BYTES),
        .stacks_start = Q_KVA(SIM_AREAS_START + (1ull << 40)),
        .stacks_end = Q_KVA(SIM_AREAS_START + (1ull << 40) + SIM_AREAS_BYTES),
        .device_start = Q_KVA(SIM_AREAS_START + (2ull << 40)),
        .device_end = Q_KVA(SIM_AREAS_START + (2ull << 40) + SIM_AREAS_BYTES)};
    struct quire_page *root;

    start_frames(m);
    /* the seed is no secret here: a run must be the same again */
    must(quire_heap_configure(
             &(struct quire_heap_options){.flags = m->heap, .quarantine_bytes = 16384, .seed = 1}),
         "modes of the heap");
    must(quire_heap_init(), "heap");
    root = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (!root)
        sim_fail("boot", "no frame for the kernel's table");
    for (unsigned i = 0; i < m->cpus; i++)
        mmu_load_root(i, quire_pa_of_page(root).v, 0, false);
    kernel_root = quire_pa_of_page(root);
    must(quire_pt_init(kernel_root), "page tables");
    must(quire_kva_init(&layout), "kernel areas");
    must(quire_space_init(), "spaces");
    quire_frame_set_mover(quire_space_move_range);
    quire_frame_set_settler(quire_space_settle);
}

void sim_machine_start(const struct sim_machine *m, const struct sim_watch *w)
{
    const struct mmu_config mmu = {.machine = {.format = WALK_X86_4,
                                               .features = walk_default_features(WALK_X86_4),
                                               .at = memory_at,
                                               .stored = entry_changed},
                                   .cpus = m->cpus,
                                   .frames = m->memory >> QUIRE_PAGE_SHIFT,
                                   .tlb_entries = w->tlb_entries,
                                   .speculate_one_in = w->speculate,
                                   .forget_one_in = 64};
    const struct monitor_config watch = {.memory = m->memory,
                                         .races = w->races,
                                         .mixed_races = w->races,
                                         .frees = true,
                                         .stale_one_in = w->weak ? 8 : 0};

    map_fixed(SIM_DIRECT_BASE, m->memory);
    sim_trace_reset();
    sim_engine_init(m);
    sim_history_init(m->memory >> QUIRE_PAGE_SHIFT);
    mmu_reset(&mmu);
    monitor_init(&watch);
    lockdep_reset();
    start_library(m);
}
