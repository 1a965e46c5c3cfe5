/*
 * monitor_parts.h - what the files of the monitor share: shadow memory, clocks, and the CPU that
 * runs.  For users there is monitor.h.
 */
#ifndef SIM_MONITOR_PARTS_H
#define SIM_MONITOR_PARTS_H

#include <string.h>

#include <quire/frame.h>

#include "fibre.h"
#include "monitor.h"
#include "sim.h"

enum { PAGE = 4096, GRANULE = 8, GRANULES = PAGE / GRANULE, CELLS = 4 };
enum { STACK_DEPTH = 64, EPOCHS = 4096, EPOCH_FRAMES = 12 };

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- Clocks ---- */

/*
 * A vector clock: an entry a CPU.  The first half is what happened before (races), the second what
 * is visible (stale loads); a clock of visibility is never behind its other half.
 */
struct clock {
    uint32_t t[2 * SIM_MAX_CPUS];
};

static inline void clock_join(struct clock *into, const struct clock *from, unsigned words)
{
    for (unsigned i = 0; i < words; i++)
        into->t[i] = into->t[i] > from->t[i] ? into->t[i] : from->t[i];
}

/* ---- Shadow memory ---- */

/*
 * A cell is one past access to a granule (or to a whole page), 0 for none:
 *
 *    63      36 35  30 29     22  21      20   19        0
 *   |  clock   |  cpu |  bytes  | write|atomic| pc - text  |
 */
typedef uint64_t cell;
enum { CELL_PC_BITS = 20, CELL_CLOCK_BITS = 28 };
#define CELL_PC     (((cell)1 << CELL_PC_BITS) - 1)
#define CELL_ATOMIC ((cell)1 << 20)
#define CELL_WRITE  ((cell)1 << 21)
#define CELL_BYTES  ((cell)0xff << 22)

static inline unsigned cell_cpu(cell c) { return c >> 30 & 63; }
static inline uint32_t cell_clock(cell c) { return (uint32_t)(c >> 36); }

enum frame_state { FRAME_UNKNOWN, FRAME_USED, FRAME_IS_FREE };

struct page_shadow {
    cell whole;    /* the last write of the whole page; older than any cell of its granules */
    bool touched;  /* some granule has cells */
    bool syncs;    /* some granule has atomics */
    uint8_t state; /* enum frame_state */
    uint16_t free; /* bits set below */
    uint64_t objects[GRANULES / 64]; /* bit i: granule i is part of a free heap object */
};

struct region {
    uintptr_t base;
    uint64_t bytes;
    struct page_shadow *pages;
    cell *cells; /* CELLS a granule; NULL: accesses are not judged here, only atomics followed */
    uint32_t *atomics; /* a granule's first struct atomic, by number; 0 none */
};

enum { REGION_DIRECT, REGION_VMEMMAP, REGION_DATA, REGION_STACKS, REGIONS };
extern struct region monitor_regions[REGIONS];

static inline struct region *region_of(uintptr_t a)
{
    for (unsigned i = 0; i < REGIONS; i++)
        if (a - monitor_regions[i].base < monitor_regions[i].bytes)
            return &monitor_regions[i];
    return NULL;
}

/* ---- The CPU that runs ---- */

/* How things stood when a CPU's clock began to show a value. */
struct epoch {
    uint32_t clock;
    uint16_t task;
    uint16_t frames;
    uint64_t point;
    uintptr_t stack[EPOCH_FRAMES]; /* innermost first */
};

/* Where a fibre is: return addresses of the functions that it has entered, outermost first. */
struct context {
    unsigned depth; /* may be beyond STACK_DEPTH: those are not kept */
    uintptr_t stack[STACK_DEPTH];
};

struct cpu {
    unsigned number;
    uint32_t now; /* = clock.t[number]; a release makes it one more */
    struct clock clock;
    struct clock fence;   /* at the last release fence; what a relaxed store publishes */
    struct clock pending; /* of relaxed loads: an acquire fence makes it ours */
    bool has_fence, has_pending;
    struct epoch *epochs; /* [EPOCHS], by clock */
};

extern struct cpu *monitor_cpu; /* of the last access; may be old: monitor_here() */
extern struct context *monitor_context;
extern unsigned monitor_cpu_number;
extern unsigned monitor_words, monitor_ncpus; /* of a clock that are in use; CPUs */
extern unsigned monitor_paused;
extern struct monitor_config monitor_config;
extern struct clock monitor_sc; /* visibility that full fences have left */

void monitor_sync_here(unsigned cpu);
struct cpu *monitor_cpu_of(unsigned number);

static inline struct cpu *monitor_here(void)
{
    unsigned cpu = sim_cpu();

    if (UNLIKELY(cpu != monitor_cpu_number))
        monitor_sync_here(cpu);
    return monitor_cpu;
}

/* Memory of zeros that costs nothing until it is used; never given back but by unmap. */
void *monitor_map(uint64_t bytes);
void monitor_unmap(void *p, uint64_t bytes);

/* monitor_race.c */
/* A new epoch: what follows is not covered by what was handed on before. */
void monitor_tick(struct cpu *c);
/* An access by the running CPU; type of CELL_WRITE and CELL_ATOMIC. */
void monitor_access(uintptr_t a, uint64_t bytes, cell type, uintptr_t pc);
/* The running CPU writes the whole page: alloc, free, clear. */
void monitor_page_write(struct region *r, uint64_t page, uintptr_t pc);

/* monitor_shadow.c */
/* The page has something free in it: may this access be? */
void monitor_check_free(struct region *r, uintptr_t a, cell type, uintptr_t pc);

/* monitor_atomic.c */
void monitor_atomic_init(void);
/* Plain stores, or hardware's, to bytes of the region: older values are out of reach. */
void monitor_forget(struct region *r, uintptr_t a, uint64_t bytes);
void monitor_forget_page(struct region *r, uint64_t page);

/* monitor_report.c */
void monitor_note_here(const char *what, uintptr_t a, uint64_t bytes, cell type, uintptr_t pc);
void monitor_note_cell(const char *what, cell c);
void monitor_note_place(uintptr_t a);
/* Is the function that pc lies in one of names (ended by NULL)? */
bool monitor_in_function(uintptr_t pc, const char *const *names);

extern char __executable_start[], etext[], __data_start[], _end[];

#endif
