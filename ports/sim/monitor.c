/*
 * monitor.c - the monitor's set-up, the CPU and the fibre that it is on, and what the compiler calls
 * for plain accesses.
 *
 * Model.  The entity whose accesses are ordered by themselves is the CPU, not the task: the library
 * keeps state for each CPU with nothing but interrupts off.  A task that goes to another CPU takes
 * with it what came before (monitor_task_leaves, monitor_task_enters).
 *
 * What is watched: simulated memory, the struct pages and the data of this program that the library
 * touches.  On stacks only atomics are followed.  Anything else (constants, the C library's heap) is
 * nobody's to share.
 *
 *   M1  Each instrumented function calls __tsan_func_entry and _exit in pairs, so a fibre's context
 *       is its call stack.  A fibre is named by its task, or by its CPU when it is the idle loop.
 *   M2  The monitor draws random numbers from SIM_RANDOM_WEAK only, and only at atomic loads, which
 *       are the same with every compiler.
 *
 * Sources.  The calls: GCC's tsan.cc and sanitizer.def, LLVM's ThreadSanitizer.cpp and
 * tsan_interface.h.
 */
#include "monitor_parts.h"

#include <sys/mman.h>

struct saved {
    struct clock clock, fence, pending;
    bool has_fence, has_pending;
};
struct key {
    const void *key;
    struct clock clock;
};
enum { KEYS = 1024 };
/* of all fibres, as fibre.c lays them out */
#define STACKS_BYTES ((SIM_MAX_CPUS + SIM_MAX_TASKS + 1ull) * (SIM_STACK_BYTES + PAGE))

struct region monitor_regions[REGIONS];
struct cpu *monitor_cpu;
struct context *monitor_context;
unsigned monitor_cpu_number = ~0u, monitor_words, monitor_ncpus, monitor_paused;
struct monitor_config monitor_config;
struct clock monitor_sc;

static struct cpu cpus[SIM_MAX_CPUS];
static struct context contexts[SIM_MAX_TASKS + 1 + SIM_MAX_CPUS];
static struct saved tasks[SIM_MAX_TASKS + 1];
static struct key keys[KEYS];
static uint64_t accesses;

void *monitor_map(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        sim_fail("monitor", "no %llu bytes of shadow memory", (unsigned long long)bytes);
    return p;
}

void monitor_unmap(void *p, uint64_t bytes)
{
    if (p)
        munmap(p, bytes);
}

static void region_init(unsigned which, uintptr_t base, uint64_t bytes, bool judged)
{
    struct region *r = &monitor_regions[which];
    uint64_t granules;

    granules = r->bytes / GRANULE;
    monitor_unmap(r->pages, r->bytes / PAGE * sizeof *r->pages);
    monitor_unmap(r->cells, granules * CELLS * sizeof *r->cells);
    monitor_unmap(r->atomics, granules * sizeof *r->atomics);
    bytes += base % PAGE + PAGE - 1;
    base -= base % PAGE;
    bytes -= bytes % PAGE;
    granules = bytes / GRANULE;
    *r = (struct region){.base = base, .bytes = bytes};
    r->pages = monitor_map(bytes / PAGE * sizeof *r->pages);
    r->atomics = monitor_map(granules * sizeof *r->atomics);
    if (judged)
        r->cells = monitor_map(granules * CELLS * sizeof *r->cells);
}

void monitor_init(const struct monitor_config *config)
{
    if ((uintptr_t)(etext - __executable_start) > CELL_PC)
        sim_fail("monitor", "the program's text is larger than a cell can name");
    monitor_config = *config;
    monitor_ncpus = sim_cpus();
    monitor_words = monitor_ncpus * (config->stale_one_in ? 2 : 1);
    monitor_paused = 0;
    accesses = 0;
    region_init(REGION_DIRECT, SIM_DIRECT_BASE, config->memory, true);
    region_init(REGION_VMEMMAP, SIM_VMEMMAP_BASE,
                (config->memory + 2 * QUIRE_HUGE_SIZE) / PAGE * sizeof(struct quire_page), true);
    region_init(REGION_DATA, (uintptr_t)__data_start, (uintptr_t)(_end - __data_start), true);
    region_init(REGION_STACKS, SIM_STACKS_BASE, STACKS_BYTES, false);
    memset(contexts, 0, sizeof contexts);
    memset(tasks, 0, sizeof tasks);
    memset(keys, 0, sizeof keys);
    memset(&monitor_sc, 0, sizeof monitor_sc);
    for (unsigned i = 0; i < SIM_MAX_CPUS; i++)
        monitor_unmap(cpus[i].epochs, EPOCHS * sizeof *cpus[i].epochs);
    memset(cpus, 0, sizeof cpus);
    monitor_sync_here(sim_cpu());
    for (unsigned i = 0; i < monitor_ncpus; i++) {
        cpus[i].number = i;
        cpus[i].epochs = monitor_map(EPOCHS * sizeof *cpus[i].epochs);
        monitor_tick(&cpus[i]);
    }
    monitor_atomic_init();
}

void monitor_sync_here(unsigned cpu)
{
    unsigned task = sim_task_number();

    monitor_cpu_number = cpu;
    monitor_cpu = &cpus[cpu];
    monitor_context = &contexts[task ? task : SIM_MAX_TASKS + 1 + cpu];
}

/* The state of a CPU's clock, without its history. */
struct cpu *monitor_cpu_of(unsigned number) { return &cpus[number]; }

uint64_t monitor_accesses(void) { return accesses; }
void monitor_pause(void) { monitor_paused++; }
void monitor_resume(void) { monitor_paused--; }
void monitor_blind(void)
{
    monitor_config.races = monitor_config.mixed_races = monitor_config.frees = false;
}

/* ---- Orders that the machine gives ---- */

static void publish(struct clock *to)
{
    struct cpu *c = monitor_here();

    clock_join(to, &c->clock, monitor_words);
    monitor_tick(c);
}

void monitor_task_spawned(unsigned task)
{
    contexts[task].depth = 0;
    memset(&tasks[task], 0, sizeof tasks[task]);
    publish(&tasks[task].clock);
}

void monitor_task_leaves(unsigned task, unsigned cpu)
{
    struct cpu *c = &cpus[cpu];

    tasks[task] = (struct saved){.clock = c->clock,
                                 .fence = c->fence,
                                 .pending = c->pending,
                                 .has_fence = c->has_fence,
                                 .has_pending = c->has_pending};
    monitor_sync_here(sim_cpu());
    monitor_tick(c);
}

void monitor_task_enters(unsigned task, unsigned cpu)
{
    struct cpu *c = &cpus[cpu];
    const struct saved *s = &tasks[task];

    clock_join(&c->clock, &s->clock, monitor_words);
    clock_join(&c->fence, &s->fence, monitor_words);
    clock_join(&c->pending, &s->pending, monitor_words);
    c->has_fence |= s->has_fence;
    c->has_pending |= s->has_pending;
    monitor_sync_here(sim_cpu());
    monitor_tick(c);
}

void monitor_fibre_switched(void) { monitor_sync_here(sim_cpu()); }

static struct clock *key_clock(const void *key)
{
    unsigned i = (unsigned)((uintptr_t)key * 0x9e3779b97f4a7c15u >> 54), tries = 0;

    for (; tries < KEYS; i = (i + 1) % KEYS, tries++) {
        if (!keys[i].key)
            keys[i].key = key;
        if (keys[i].key == key)
            return &keys[i].clock;
    }
    sim_fail("monitor", "more than %d keys of monitor_release()", KEYS);
}

void monitor_release(const void *key) { publish(key_clock(key)); }

void monitor_acquire(const void *key)
{
    clock_join(&monitor_here()->clock, key_clock(key), monitor_words);
}

void monitor_all_ordered(void)
{
    struct clock all = {{0}};

    for (unsigned i = 0; i < monitor_ncpus; i++)
        clock_join(&all, &cpus[i].clock, monitor_words);
    for (unsigned i = 0; i < monitor_ncpus; i++) {
        cpus[i].clock = all;
        monitor_tick(&cpus[i]);
    }
}

/* ---- Plain accesses ---- */

#define PC ((uintptr_t)__builtin_return_address(0))

static inline void plain(const void *p, uint64_t bytes, cell type, uintptr_t pc)
{
    accesses++;
    monitor_access((uintptr_t)p, bytes, type, pc);
}

void __tsan_init(void) {}

void __tsan_func_entry(void *caller)
{
    struct context *x;

    monitor_here();
    x = monitor_context;
    if (x->depth < STACK_DEPTH)
        x->stack[x->depth] = (uintptr_t)caller;
    x->depth++;
}

void __tsan_func_exit(void)
{
    monitor_here();
    if (monitor_context->depth)
        monitor_context->depth--;
}

#define PLAIN(bytes)                                                                  \
    void __tsan_read##bytes(void *p) { plain(p, bytes, 0, PC); }                      \
    void __tsan_write##bytes(void *p) { plain(p, bytes, CELL_WRITE, PC); }            \
    void __tsan_unaligned_read##bytes(void *p) { plain(p, bytes, 0, PC); }            \
    void __tsan_unaligned_write##bytes(void *p) { plain(p, bytes, CELL_WRITE, PC); }  \
    /* the C language gives them no order, but they are meant to be seen by others */ \
    void __tsan_volatile_read##bytes(void *p) { plain(p, bytes, CELL_ATOMIC, PC); }   \
    void __tsan_volatile_write##bytes(void *p) { plain(p, bytes, CELL_ATOMIC | CELL_WRITE, PC); }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_read_range(void *p, size_t n) { plain(p, n, 0, PC); }
void __tsan_write_range(void *p, size_t n) { plain(p, n, CELL_WRITE, PC); }

/* quire_port.h sends the calls of the C library's functions here. */
void *__tsan_memset(void *p, int value, size_t n)
{
    plain(p, n, CELL_WRITE, PC);
    return memset(p, value, n);
}
void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    plain(from, n, 0, PC);
    plain(to, n, CELL_WRITE, PC);
    return memcpy(to, from, n);
}
void *__tsan_memmove(void *to, const void *from, size_t n)
{
    plain(from, n, 0, PC);
    plain(to, n, CELL_WRITE, PC);
    return memmove(to, from, n);
}

void monitor_reads(const void *p, size_t n) { plain(p, n, 0, PC); }
void monitor_writes(const void *p, size_t n) { plain(p, n, CELL_WRITE, PC); }
