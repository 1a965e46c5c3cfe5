/*
 * generate.c - the program of a seed.
 *
 * Swarm testing (Groce et al., "Swarm testing", ISSTA 2012): each run leaves out some groups of
 * operations and some faults, and weighs the rest anew, because what is rare among everything is
 * frequent in a world of less.  Operations of different tasks must meet, so places are few: slots
 * and boxes are small numbers, and pages lie near a few hot spots that the tasks of a run share.
 *
 * Draws that a wish overrides are made all the same, so that --cpus 8 changes nothing but the CPUs.
 */
#include "args.h"
#include "idioms.h"

#include <quire/harden.h>

#include <string.h>

enum {
    HOT_SPOTS = 3,
    MIB = 1 << 20,
    HUGE_PAGES = 512,
    LARGEST_RUN = 4000,
    POINTS_AN_OP = 10000,
    COSTLY_SHARE = 64
};

struct swarm {
    unsigned groups;
    unsigned weight[SIM_OP_KINDS], total;
    uint32_t hot[HOT_SPOTS], last;
};

static unsigned below(unsigned n) { return (unsigned)sim_below(SIM_RANDOM_PROGRAM, n); }
static unsigned between(unsigned low, unsigned high) { return low + below(high - low + 1); }
static bool chance(unsigned percent) { return below(100) < percent; }

/* 1..max; each power of two as likely as the next. */
static unsigned mostly_small(unsigned max)
{
    unsigned bits = 0;

    while (max >> (bits + 1))
        bits++;
    bits = below(bits + 1);
    bits = between(1u << bits, (2u << bits) - 1);
    return bits < max ? bits : max;
}

#define PICK(...) \
    ((const unsigned[]){__VA_ARGS__}[below(sizeof((unsigned[]){__VA_ARGS__}) / sizeof(unsigned))])

/* ---- The machine ---- */

/* Statements, not an initialiser: those are evaluated in an order of the compiler's. */
static void draw_machine(struct sim_machine *m)
{
    bool large = chance(10), stalls, interrupts, preempts;

    *m = (struct sim_machine){0};
    m->cpus = large ? between(9, 64) : between(1, 8);
    if (large && chance(70))
        m->cpus = between(9, 16);
    m->nodes = between(1, 2);
    m->memory = (uint64_t)between(16, 96) * MIB;
    m->hotplug = chance(50) ? (uint64_t)between(2, 12) * MIB : 0;
    m->memory += m->hotplug;
    interrupts = chance(50);
    m->interrupt_every = between(20, 2000) * interrupts;
    stalls = chance(50);
    m->stall_every = between(1000, 20000) * stalls;
    preempts = chance(60);
    m->preempt_every = (4 + mostly_small(496)) * preempts;
    m->wake_early = PICK(0, 4, 50);
    m->ipi_delay = PICK(1, 10, 100, 1000);
}

/* Those that need no pages that fault; books of who allocated what are drawn apart, for they take time. */
#define HEAP_MODES \
    (QUIRE_HEAP_FLAGS & ~QUIRE_HARDEN_SAMPLE & ~QUIRE_HEAP_TRACK & ~QUIRE_HEAP_LEAKSCAN)

/* The scan reads kernel areas by their addresses, where the simulator has nothing. */
static unsigned leakscan(const struct swarm *s)
{
    return s->groups >> SIM_GROUP_KVA & 1 ? 0 : QUIRE_HEAP_LEAKSCAN;
}

static void draw_switches(struct sim_switches *s)
{
    bool slow;

    *s = (struct sim_switches){.races = true};
    s->weak = chance(50);
    s->pt_cache = PICK(0, 4, 16);
    slow = chance(70);
    s->io_ns = mostly_small(50000) * slow;
    s->io_fail = PICK(0, 0, 3, 20);
    s->speculate = PICK(0, 2, 20);
    s->tlb_entries = PICK(8, 64, 256);
    s->colours = PICK(1, 1, 1, 16, 1000);
}

/* ops: of all tasks.  A run has some hundred points an operation; half of the change points should
 * come where it still goes on. */
static void draw_schedule(struct sim_schedule *s, unsigned ops)
{
    unsigned every = PICK(1, 2, 4, 8, 16, 64, 256);
    unsigned depth = between(1, 5);
    uint64_t points = (uint64_t)ops * (25u << below(5));

    *s = (struct sim_schedule){0};
    if (chance(60)) {
        s->strategy = SIM_STRATEGY_RANDOM;
        s->every = every;
    } else {
        s->strategy = SIM_STRATEGY_PRIORITY;
        s->depth = depth;
        s->expected_points = points;
    }
}

/* ---- Which operations ---- */

static unsigned draw_groups(void)
{
    const unsigned need_space =
        1u << SIM_GROUP_OBJECT | 1u << SIM_GROUP_FORK | 1u << SIM_GROUP_HUGE;
    unsigned groups = 1u << below(SIM_GROUP_FAILURES);

    for (unsigned g = 0; g < SIM_GROUP_FAILURES; g++)
        if (chance(45))
            groups |= 1u << g;
    if (groups & need_space)
        groups |= 1u << SIM_GROUP_SPACE;
    return groups;
}

/* Operations that look at each page of the machine, or of much of it, are as long as a thousand others: keep
 * them rare, also where few others were drawn. */
static const enum sim_op_kind costly[] = {SIM_OP_views, SIM_OP_move_blocks, SIM_OP_heap_validate,
                                          SIM_OP_leak_scan};

static void limit_costly(struct swarm *s)
{
    enum { N = sizeof costly / sizeof costly[0] };
    unsigned others = s->total;

    for (unsigned i = 0; i < N; i++)
        others -= s->weight[costly[i]];
    s->total = others;
    for (unsigned i = 0; i < N; i++) {
        unsigned *weight = &s->weight[costly[i]];

        if (*weight > others / COSTLY_SHARE / N)
            *weight = others / COSTLY_SHARE / N;
        s->total += *weight;
    }
}

static void weigh(struct swarm *s, bool drawn)
{
    s->total = 0;
    for (unsigned k = 0; k < SIM_OP_KINDS; k++) {
        unsigned scale = drawn ? PICK(0, 16, 32, 64, 64, 64, 128, 256) : 64;

        s->weight[k] = s->groups >> sim_op_info[k].group & 1 ? sim_op_info[k].weight * scale : 0;
        s->total += s->weight[k];
    }
    limit_costly(s);
}

static void draw_weights(struct swarm *s)
{
    weigh(s, true);
    if (!s->total)
        weigh(s, false); /* all of them had bad luck */
}

static enum sim_op_kind draw_op(const struct swarm *s)
{
    unsigned at = below(s->total), k = 0;

    while (at >= s->weight[k])
        at -= s->weight[k++];
    return k;
}

/* ---- Arguments ---- */

/* The regions of a space lie one after the other from a border of 2 MiB on; where a later such border
 * falls into one of the first, tables and huge pages begin. */
static void draw_hot_spots(struct swarm *s)
{
    for (unsigned i = 0; i < HOT_SPOTS; i++) {
        unsigned region = below(4), anywhere = below(SIM_REGION_PAGES);
        unsigned border = (HUGE_PAGES - region * SIM_REGION_PAGES % HUGE_PAGES) % HUGE_PAGES;

        s->hot[i] = chance(60) || border >= SIM_REGION_PAGES ? anywhere : border;
    }
}

static uint32_t draw_page(struct swarm *s)
{
    int at = (int)s->hot[below(HOT_SPOTS)] - 4;

    at += (int)below(8);
    if (chance(20)) /* the same once more */
        return s->last;
    if (chance(10))
        at = (int)below(SIM_REGION_PAGES);
    s->last = at < 0 ? 0 : at >= SIM_REGION_PAGES ? SIM_REGION_PAGES - 1 : (uint32_t)at;
    return s->last;
}

static uint32_t draw_word(const struct sim_word *words)
{
    unsigned n = 0;

    while (words[n].name)
        n++;
    return words[below(n)].value;
}

static uint32_t draw_arg(struct swarm *s, enum sim_arg kind)
{
    const struct sim_arg_range *r = &sim_arg_range[kind];

    switch (kind) {
    case SIM_ARG_ORDER: return chance(80) ? below(4) : below(QUIRE_MAX_ORDER + 1);
    case SIM_ARG_COUNT: return mostly_small(64);
    case SIM_ARG_BYTES: return mostly_small(32768);
    case SIM_ARG_PAGE: return draw_page(s);
    case SIM_ARG_PAGES: return chance(80) ? between(1, 12) : mostly_small(SIM_REGION_PAGES);
    case SIM_ARG_GFP: return chance(50) ? 0 : draw_word(r->words);
    case SIM_ARG_PROT: return chance(60) ? r->usual : draw_word(r->words);
    case SIM_ARG_BACKING:
        return chance(40) || !(s->groups >> SIM_GROUP_OBJECT & 1) ? 0 : draw_word(r->words);
    case SIM_ARG_ADVICE: return chance(30) ? r->usual : draw_word(r->words);
    case SIM_ARG_FLAGS: return chance(60) ? 0 : below(8);
    case SIM_ARG_NS: return mostly_small(100000);
    default: return between(r->min, r->max);
    }
}

static struct sim_op *add_drawn(struct sim_program *p, unsigned task, struct swarm *s,
                                enum sim_op_kind kind)
{
    struct sim_op *op = sim_program_add(p, task, kind);

    for (unsigned i = 0; i < sim_op_info[kind].nargs; i++)
        op->arg[i] = draw_arg(s, sim_op_info[kind].arg_kinds[i]);
    return op;
}

/* Something to work on at the hot spots; else most accesses of a short program hit nothing. */
static void add_mappings(struct sim_program *p, unsigned task, struct swarm *s)
{
    bool huge = s->groups >> SIM_GROUP_HUGE & 1;

    for (unsigned i = 0; i < HOT_SPOTS; i++) {
        struct sim_op *op;

        if (chance(30))
            continue;
        op = add_drawn(p, task, s, SIM_OP_mmap);
        op->arg[0] = huge ? below(16) : s->hot[i] > 4 ? s->hot[i] - 4 : 0;
        op->arg[1] = huge ? between(SIM_REGION_PAGES / 2, SIM_REGION_PAGES) : between(4, 16);
    }
}

/* ---- The whole ---- */

/* How many tasks, and operations a task: many of both would take minutes. */
static unsigned draw_size(struct sim_program *p, const struct sim_wishes *w)
{
    unsigned cpus = p->machine.cpus, tasks = between(cpus, 2 * cpus + 1);
    unsigned ops = between(30, 60);

    ops <<= below(4);
    p->ntasks = tasks < 2 ? 2 : tasks < SIM_PROGRAM_TASKS ? tasks : SIM_PROGRAM_TASKS;
    if (ops > 400)
        ops = 400;
    if (ops * p->ntasks > LARGEST_RUN)
        ops = LARGEST_RUN / p->ntasks;
    return w->ops ? w->ops : ops;
}

/* The library wants nobody else to allocate while it makes an allocation fail. */
static void want_failures(struct sim_program *p, struct swarm *s)
{
    s->groups |= 1u << SIM_GROUP_FAILURES;
    p->machine.interrupt_every = 0;
}

/* In the first half of some task's operations, with a mode on that promises to see it. */
static void add_misuse(struct sim_program *p, struct swarm *s)
{
    static const uint32_t needed[SIM_MISUSES] = {[SIM_MISUSE_OVERFLOW] = QUIRE_HARDEN_REDZONE,
                                                 [SIM_MISUSE_UNDERFLOW] = QUIRE_HARDEN_REDZONE,
                                                 [SIM_MISUSE_LATE_WRITE] = QUIRE_HARDEN_POISON};
    struct sim_task_ops *t = &p->tasks[below(p->ntasks)];
    struct sim_op op = *add_drawn(p, (unsigned)(t - p->tasks), s, SIM_OP_misuse);
    size_t at = below((unsigned)(t->n + 1) / 2);
    bool quarantine = chance(30);

    memmove(&t->ops[at + 1], &t->ops[at], (t->n - 1 - at) * sizeof op);
    t->ops[at] = op;
    p->machine.heap |= op.arg[0] == SIM_MISUSE_LATE_WRITE && quarantine ? QUIRE_HARDEN_QUARANTINE
                                                                        : needed[op.arg[0]];
}

void sim_generate(struct sim_program *p, uint64_t seed, const struct sim_wishes *w)
{
    struct swarm s;
    unsigned ops, idioms;
    bool misuse;

    sim_program_init(p);
    p->seed = seed;
    sim_random_seed(seed);
    draw_machine(&p->machine);
    if (w->cpus)
        p->machine.cpus = w->cpus;
    draw_switches(&p->switches);
    s.groups = draw_groups();
    if (w->groups)
        s.groups = w->groups;
    if (w->groups ? w->groups >> SIM_GROUP_FAILURES & 1 : chance(8))
        want_failures(p, &s);
    else
        s.groups &= ~(1u << SIM_GROUP_FAILURES);
    misuse = chance(10);
    if (!w->groups && misuse)
        s.groups |= 1u << SIM_GROUP_MISUSE;
    if (s.groups >> SIM_GROUP_MISUSE & 1)
        s.groups |= 1u << SIM_GROUP_HEAP;
    s.groups &= ~w->without;
    if (!s.groups)
        s.groups = ~w->without & SIM_DRAWN_GROUPS;
    p->switches.groups = s.groups;
    draw_weights(&s);
    draw_hot_spots(&s);
    s.last = s.hot[0];
    ops = draw_size(p, w);
    if (s.groups >> SIM_GROUP_FAILURES & 1)
        p->ntasks = 1;
    idioms = PICK(0, 5, 20, 40);
    draw_schedule(&p->schedule, ops * p->ntasks);
    p->machine.max_points = (uint64_t)POINTS_AN_OP * LARGEST_RUN;
    if (ops * p->ntasks > LARGEST_RUN)
        p->machine.max_points = (uint64_t)POINTS_AN_OP * ops * p->ntasks;
    for (unsigned t = 0; t < p->ntasks; t++) {
        if (s.groups >> SIM_GROUP_SPACE & 1)
            add_mappings(p, t, &s);
        while (p->tasks[t].n < ops)
            if (chance(idioms))
                sim_add_idiom(p, t, s.groups, draw_page(&s));
            else
                add_drawn(p, t, &s, draw_op(&s));
    }
    if (chance(25))
        p->machine.heap = below(QUIRE_HEAP_FLAGS + 1) & HEAP_MODES;
    if (chance(10))
        p->machine.heap |= QUIRE_HEAP_TRACK | leakscan(&s) * chance(75);
    if (s.groups >> SIM_GROUP_MISUSE & 1)
        add_misuse(p, &s);
}
