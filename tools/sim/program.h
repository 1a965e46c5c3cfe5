/*
 * program.h - what a simulated machine is made to do: a machine, a schedule, and a list of
 * operations for each task.
 *
 * A program is data, so that it can be generated from a seed, written to a file, shrunk by leaving
 * operations out, and run again.  Any list of operations is valid: one whose object is not there
 * does nothing.  The same text format serves scenarios written by hand and regression files
 * written by the shrinker:
 *
 *     # comment
 *     machine cpus=2 memory=32 nodes=1 ...
 *     schedule random every=4            or: priority depth=3, listed
 *     expect finding=stale-tlb           (none: the run must be clean; reported: a planted misuse is named)
 *     task
 *       mmap at=0 n=16 prot=rw backing=anon
 *       write at=3
 *       repeat 100                       the operations up to `again` so many times
 *       read at=3
 *       again
 *     task
 *       ...
 *     switch cpu=0 point=120 arg=1       decisions, with schedule listed
 */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include <stdio.h>

#include "../../ports/sim/engine.h"
#include "../../ports/sim/strategy.h"

enum { SIM_OP_ARGS = 5, SIM_PROGRAM_TASKS = 64 };

/* Groups of operations; swarm testing leaves some out of each run (Groce et al., "Swarm testing",
 * ISSTA 2012). */
enum sim_group {
    SIM_GROUP_FRAMES,
    SIM_GROUP_HEAP,
    SIM_GROUP_KVA,
    SIM_GROUP_SPACE,  /* anonymous memory */
    SIM_GROUP_OBJECT, /* shared memory and files */
    SIM_GROUP_FORK,
    SIM_GROUP_HUGE,
    SIM_GROUP_MEMORY_PRESSURE,
    SIM_GROUP_FAILURES, /* one allocation fails; only programs of one task */
    SIM_GROUP_MISUSE,   /* one wrong use of the heap, which is planted (misuse.c) */
    SIM_GROUP_CONTROL,  /* never drawn: for scenarios */
    SIM_GROUPS
};

/* Kinds of arguments: how they are drawn and written. */
enum sim_arg {
    SIM_ARG_NONE,
    SIM_ARG_SLOT,    /* 0..15: a place of this task */
    SIM_ARG_BOX,     /* 0..7: a place that all tasks share */
    SIM_ARG_ORDER,   /* 0..QUIRE_MAX_ORDER, small ones more often */
    SIM_ARG_GFP,     /* kernel atomic movable zero dma dma32 */
    SIM_ARG_COUNT,   /* 1..64 */
    SIM_ARG_CACHE,   /* 0..3 */
    SIM_ARG_BYTES,   /* 1..32768, small ones more often */
    SIM_ARG_PAGE,    /* 0..SIM_REGION_PAGES - 1: a page of this task's region */
    SIM_ARG_PAGES,   /* 1..SIM_REGION_PAGES, short ones more often */
    SIM_ARG_PROT,    /* none r rw rx */
    SIM_ARG_BACKING, /* anon shared file private-file private-shared */
    SIM_ARG_FLAGS,   /* bits: 1 replace (MAP_FIXED), 2 populate, 4 locked */
    SIM_ARG_ADVICE,  /* dontneed free willneed hugepage nohugepage dontfork ... by number */
    SIM_ARG_CHILD,   /* 0..2: a child space of this task */
    SIM_ARG_NS,      /* simulated nanoseconds */
    SIM_ARG_EVENT,   /* 0..15: of signal and await */
    SIM_ARG_MISUSE   /* enum sim_misuse */
};
/* What a program may do to the heap that is wrong. */
enum sim_misuse {
    SIM_MISUSE_OVERFLOW,
    SIM_MISUSE_UNDERFLOW,
    SIM_MISUSE_LATE_WRITE,
    SIM_MISUSE_TWICE,
    SIM_MISUSE_MIDDLE,
    SIM_MISUSE_FOREIGN,
    SIM_MISUSE_FRAME,
    SIM_MISUSE_WRONG_CACHE
};
enum { SIM_MISUSES = SIM_MISUSE_WRONG_CACHE + 1 };
enum { SIM_SLOTS = 16, SIM_BOXES = 8, SIM_REGION_PAGES = 400, SIM_CHILDREN = 3, SIM_EVENTS = 16 };

/* name, group, weight, names and kinds of the arguments */
#define SIM_OPS(X)                                                                                \
    X(frame_alloc, FRAMES, 10, A(slot, SLOT) A(order, ORDER) A(gfp, GFP))                         \
    X(frame_free, FRAMES, 10, A(slot, SLOT))                                                      \
    X(frame_bulk, FRAMES, 3, A(slot, SLOT) A(n, COUNT) A(gfp, GFP))                               \
    X(frame_share, FRAMES, 3, A(slot, SLOT))                                                      \
    X(frame_split, FRAMES, 2, A(slot, SLOT))                                                      \
    X(frame_send, FRAMES, 3, A(slot, SLOT) A(box, BOX))                                           \
    X(frame_node, FRAMES, 2, A(slot, SLOT) A(order, ORDER) A(node, BOX))                          \
    X(policy_alloc, FRAMES, 3, A(slot, SLOT) A(order, ORDER) A(kind, BOX))                        \
    X(tune, FRAMES, 1, )                                                                          \
    X(device_page, FRAMES, 2, A(at, COUNT))                                                       \
    X(device_plug, FRAMES, 1, A(kind, BOX))                                                       \
    X(frame_poison, FRAMES, 1, A(slot, SLOT) A(at, COUNT))                                        \
    X(poison_any, FRAMES, 1, A(at, BYTES))                                                        \
    X(soft_offline, FRAMES, 1, A(at, BYTES))                                                      \
    X(unpoison, FRAMES, 1, A(at, COUNT))                                                          \
    X(section_off, FRAMES, 1, A(at, BYTES))                                                       \
    X(section_on, FRAMES, 1, A(at, BYTES))                                                        \
    X(frame_zero, FRAMES, 2, A(n, COUNT))                                                         \
    X(memory_add, FRAMES, 2, A(at, BYTES) A(node, BOX))                                           \
    X(frames_ask, FRAMES, 4, A(at, BYTES))                                                        \
    X(memory_remove, FRAMES, 2, A(at, BYTES))                                                     \
    X(frame_colour, FRAMES, 2, A(slot, SLOT) A(colour, BYTES) A(gfp, GFP))                        \
    X(frame_cold, FRAMES, 3, A(slot, SLOT))                                                       \
    X(frame_drain, FRAMES, 1, A(kind, BOX))                                                       \
    X(contig, FRAMES, 2, A(slot, SLOT) A(at, BYTES) A(n, COUNT))                                  \
    X(contig_find, FRAMES, 1, A(slot, SLOT) A(n, COUNT))                                          \
    X(cma_alloc, FRAMES, 2, A(slot, SLOT) A(n, COUNT) A(order, BOX))                              \
    X(views, FRAMES, 1, )                                                                         \
    X(object_alloc, HEAP, 12, A(slot, SLOT) A(cache, CACHE) A(gfp, GFP))                          \
    X(object_free, HEAP, 12, A(slot, SLOT))                                                       \
    X(object_bulk, HEAP, 3, A(slot, SLOT) A(cache, CACHE) A(n, COUNT))                            \
    X(kmalloc, HEAP, 8, A(slot, SLOT) A(bytes, BYTES) A(gfp, GFP))                                \
    X(krealloc, HEAP, 3, A(slot, SLOT) A(bytes, BYTES))                                           \
    X(kmalloc_node, HEAP, 2, A(slot, SLOT) A(bytes, BYTES) A(node, BOX))                          \
    X(object_send, HEAP, 5, A(slot, SLOT) A(box, BOX))                                            \
    X(arena, HEAP, 5, A(slot, SLOT) A(bytes, BYTES) A(kind, BOX))                                 \
    X(heap_shrink, HEAP, 1, )                                                                     \
    X(cache_cycle, HEAP, 1, A(bytes, BYTES) A(n, COUNT))                                          \
    X(object_prefill, HEAP, 3, A(slot, SLOT) A(cache, CACHE) A(n, COUNT))                         \
    X(board_replace, HEAP, 5, A(place, BOX))                                                      \
    X(board_read, HEAP, 6, A(place, BOX) A(n, COUNT))                                             \
    X(rcu_reclaim, HEAP, 1, )                                                                     \
    X(heap_sites, HEAP, 1, )                                                                      \
    X(heap_validate, HEAP, 1, )                                                                   \
    X(leak_scan, HEAP, 1, )                                                                       \
    X(dma_map, HEAP, 4, A(slot, SLOT) A(bytes, BYTES) A(kind, BOX))                               \
    X(dma_sync, HEAP, 4, A(slot, SLOT))                                                           \
    X(dma_unmap, HEAP, 4, A(slot, SLOT))                                                          \
    X(dma_both, HEAP, 1, A(bytes, BYTES))                                                         \
    X(vmalloc, KVA, 6, A(slot, SLOT) A(bytes, BYTES))                                             \
    X(vfree, KVA, 6, A(slot, SLOT))                                                               \
    X(vtouch, KVA, 10, A(slot, SLOT) A(at, BYTES))                                                \
    X(kvmalloc, KVA, 2, A(slot, SLOT) A(bytes, BYTES))                                            \
    X(kvrealloc, KVA, 3, A(slot, SLOT) A(bytes, BYTES))                                           \
    X(vmap, KVA, 2, A(slot, SLOT))                                                                \
    X(ioremap, KVA, 1, A(at, BYTES) A(bytes, BYTES))                                              \
    X(kstack, KVA, 2, A(slot, SLOT))                                                              \
    X(vpurge, KVA, 1, )                                                                           \
    X(vtick, KVA, 2, )                                                                            \
    X(vm_map_ram, KVA, 6, A(slot, SLOT) A(n, COUNT))                                              \
    X(vprotect, KVA, 3, A(slot, SLOT) A(at, BYTES))                                               \
    X(vguard, KVA, 4, A(at, BYTES))                                                               \
    X(vwalk, KVA, 1, A(slot, SLOT))                                                               \
    X(vhuge, KVA, 1, A(bytes, BYTES) A(at, BYTES))                                                \
    X(kstacks, KVA, 1, A(n, BOX))                                                                 \
    X(percpu, KVA, 3, A(slot, SLOT) A(bytes, BYTES))                                              \
    X(mmap, SPACE, 10, A(at, PAGE) A(n, PAGES) A(prot, PROT) A(backing, BACKING) A(flags, FLAGS)) \
    X(munmap, SPACE, 5, A(at, PAGE) A(n, PAGES))                                                  \
    X(mprotect, SPACE, 5, A(at, PAGE) A(n, PAGES) A(prot, PROT))                                  \
    X(mremap, SPACE, 3, A(at, PAGE) A(n, PAGES) A(to, PAGE))                                      \
    X(madvise, SPACE, 4, A(at, PAGE) A(n, PAGES) A(advice, ADVICE))                               \
    X(mbind, SPACE, 1, A(at, PAGE) A(n, PAGES) A(mode, BOX))                                      \
    X(mlock, SPACE, 1, A(at, PAGE) A(n, PAGES))                                                   \
    X(munlock, SPACE, 1, A(at, PAGE) A(n, PAGES))                                                 \
    X(write, SPACE, 30, A(at, PAGE))                                                              \
    X(read, SPACE, 30, A(at, PAGE))                                                               \
    X(peek, SPACE, 12, A(at, PAGE))                                                               \
    X(fill, SPACE, 2, A(at, PAGE) A(n, PAGES))                                                    \
    X(duel, SPACE, 8, A(at, PAGE) A(kind, BOX))                                                   \
    X(sweep, SPACE, 2, A(at, PAGE) A(n, PAGES))                                                   \
    X(copy_in, SPACE, 3, A(at, PAGE))                                                             \
    X(copy_out, SPACE, 3, A(at, PAGE))                                                            \
    X(brk, SPACE, 2, A(n, PAGES))                                                                 \
    X(mincore, SPACE, 2, A(at, PAGE) A(n, PAGES))                                                 \
    X(pin, SPACE, 3, A(at, PAGE))                                                                 \
    X(pin_write, SPACE, 3, A(at, PAGE))                                                           \
    X(hold, SPACE, 3, A(at, PAGE))                                                                \
    X(hold_use, SPACE, 6, )                                                                       \
    X(futex_key, SPACE, 1, A(at, PAGE))                                                           \
    X(query, SPACE, 1, A(at, PAGE))                                                               \
    X(move_page, SPACE, 6, A(at, PAGE) A(n, BOX))                                                 \
    X(move_blocks, SPACE, 1, A(at, BYTES) A(n, BOX))                                              \
    X(msync, OBJECT, 2, A(at, PAGE) A(n, PAGES))                                                  \
    X(truncate, OBJECT, 2, A(n, PAGES))                                                           \
    X(punch, OBJECT, 1, A(at, PAGE) A(n, PAGES))                                                  \
    X(file_read, OBJECT, 4, A(at, PAGE))                                                          \
    X(file_write, OBJECT, 4, A(at, PAGE))                                                         \
    X(fork, FORK, 3, A(child, CHILD))                                                             \
    X(enter, FORK, 6, A(child, CHILD))                                                            \
    X(leave, FORK, 3, )                                                                           \
    X(end, FORK, 3, A(child, CHILD))                                                              \
    X(clear, FORK, 1, )                                                                           \
    X(huge, HUGE, 4, A(at, PAGE))                                                                 \
    X(hog, MEMORY_PRESSURE, 1, )                                                                  \
    X(unhog, MEMORY_PRESSURE, 4, )                                                                \
    X(fail_frame, FAILURES, 20, A(n, COUNT))                                                      \
    X(fail_heap, FAILURES, 20, A(n, COUNT))                                                       \
    X(misuse, MISUSE, 0, A(kind, MISUSE) A(bytes, BYTES) A(at, BYTES))                            \
    X(signal, CONTROL, 0, A(event, EVENT))                                                        \
    X(await, CONTROL, 0, A(event, EVENT))                                                         \
    X(sleep, CONTROL, 0, A(ns, NS))                                                               \
    X(misuse_frame, CONTROL, 0, A(slot, SLOT))                                                    \
    X(misuse_object, CONTROL, 0, A(slot, SLOT))

enum sim_op_kind {
#define A(name, kind)
#define X(name, group, weight, args) SIM_OP_##name,
    SIM_OPS(X)
#undef X
#undef A
        SIM_OP_KINDS
};

struct sim_op {
    uint32_t kind;
    uint32_t arg[SIM_OP_ARGS];
};

struct sim_op_info {
    const char *name;
    enum sim_group group;
    unsigned weight;
    unsigned nargs;
    const char *arg_names[SIM_OP_ARGS];
    enum sim_arg arg_kinds[SIM_OP_ARGS];
};
extern const struct sim_op_info sim_op_info[SIM_OP_KINDS];

/* What else a run does or watches; each is drawn by the generator too. */
struct sim_switches {
    bool weak;          /* loads may see older stores */
    bool races;         /* look for data races */
    unsigned pt_cache;  /* tables kept for reuse */
    unsigned colours;   /* of frames; 0 and 1: off */
    unsigned io_ns;     /* longest time of a device request; 0: at once */
    unsigned io_fail;   /* a request fails once in so many; 0 never */
    unsigned speculate; /* a CPU translates something by itself once in so many accesses; 0 never */
    unsigned tlb_entries;
    unsigned groups; /* bits of enum sim_group that were drawn */
};

struct sim_task_ops {
    struct sim_op *ops;
    size_t n, room;
};

struct sim_program {
    uint64_t seed; /* of all random streams of the run */
    struct sim_machine machine;
    struct sim_switches switches;
    struct sim_schedule schedule;
    struct sim_decision *decisions; /* what schedule.list points to, owned */
    char expect[32];                /* kind of finding that must come, or "reported"; "": none */
    unsigned ntasks;
    struct sim_task_ops tasks[SIM_PROGRAM_TASKS];
};

/* ---- generate.c ---- */

struct sim_wishes {
    unsigned cpus;    /* 0: drawn */
    unsigned groups;  /* bits; 0: drawn */
    unsigned without; /* bits: never */
    unsigned ops;     /* per task; 0: drawn */
};
/* The program of a seed. */
void sim_generate(struct sim_program *p, uint64_t seed, const struct sim_wishes *w);
void sim_program_free(struct sim_program *p);
struct sim_op *sim_program_add(struct sim_program *p, unsigned task, enum sim_op_kind kind);

/* ---- text.c ---- */

void sim_program_write(const struct sim_program *p, FILE *out);
/* False: *line and message say what is wrong. */
bool sim_program_read(struct sim_program *p, FILE *in, unsigned *line, char *message, size_t len);
/* "mmap at=0 n=16 prot=rw backing=anon"; buf. */
const char *sim_op_text(const struct sim_op *op, char *buf, size_t len);

/* ---- run.c ---- */

/* What is known of a run when it has ended; filled in memory shared with the parent. */
struct sim_outcome {
    char kind[32];   /* "": clean */
    char text[2048]; /* the first line of the finding */
    bool reported;   /* a planted misuse was named as it should be, which ended the run */
    uint64_t points, hash, ops_done;
    uint64_t tlb_hits, tlb_misses, faults, frames_low;
    size_t ndecisions;
    struct sim_decision decisions[1 << 20];
};
/* From now on each run writes what every pageblock holds to this file, at its end; NULL: none does. */
void sim_blocks_to(const char *path);
/* Run p to its end in this process; out is filled in also when it ends in a finding, of which the
 * whole report goes to report (NULL: nowhere).  Does not return on a finding: exits with 1. */
void sim_run_program(const struct sim_program *p, struct sim_outcome *out, FILE *report);

#endif
