/*
 * shrink.c - a smaller program with the same kind of finding.
 *
 * Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE
 * TSE 2002): leave out halves, then quarters and so on, keep what still fails.  In this order:
 *
 *   1. the ends of tasks that were never reached: the run is the same without them
 *   2. tasks; whatever can be switched off: faults, slow devices, weak loads, memory, CPUs
 *   3. operations, first in large parts
 *   4. the schedule becomes the list of the decisions that were made; decisions are left out
 *   5. operations again, under the short list, and their arguments
 *
 * Without an operation everything after it is scheduled anew, and the finding may be missed by
 * bad luck; so while the schedule is drawn each candidate has several tries, with successive seeds.
 * And a short list of decisions is tried earlier as well: the operation took some points.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>

enum { NS_PER_S = 1000000000, SLACK_S = 2, MOST_S = 20 };
enum { SHORT_NS = 100000000, MANY_SEEDS = 12, FEW_SEEDS = 3 }; /* many for runs so short */
enum { EIGHTHS = 8, ALL = 1 << 30 };
enum { FEW = 4, SHIFTS = 24 }; /* decisions that are tried earlier, and how often */

struct shrinker {
    struct sim_program *best;
    struct sim_trial *t;
    char kind[32];
    uint64_t until;
    uint64_t seconds; /* for a trial */
    unsigned tries;   /* of each candidate, while the schedule is drawn */
};

static bool is_over(const struct shrinker *s)
{
    return sim_interrupted() || sim_clock_ns() >= s->until;
}

static bool fails(struct shrinker *s, const struct sim_program *p)
{
    struct sim_trial_mode mode = {.seconds = s->seconds, .quiet = true};

    return !is_over(s) && sim_trial_run(s->t, p, &mode) && !strcmp(s->t->out->kind, s->kind);
}

/* A next try of p, which did not fail; false: there is none. */
static bool vary(struct sim_program *p, unsigned tries, unsigned most_tries)
{
    struct sim_schedule *s = &p->schedule;

    if (s->strategy != SIM_STRATEGY_LISTED) {
        p->seed++;
        return tries < most_tries;
    }
    if (!s->list_len || s->list_len > FEW || tries >= SHIFTS)
        return false;
    for (size_t i = 0; i < s->list_len; i++) /* 1, 2, 4, 6, 9 ... earlier than at first */
        if (p->decisions[i].point > 1 + tries / 2)
            p->decisions[i].point -= 1 + tries / 2;
    return true;
}

/* Takes candidate: it is the best now, or gone. */
static bool try(struct shrinker *s, struct sim_program *candidate)
{
    unsigned tries = 0;

    do {
        if (fails(s, candidate)) {
            sim_program_free(s->best);
            *s->best = *candidate;
            return true;
        }
    } while (!is_over(s) && vary(candidate, ++tries, s->tries));
    sim_program_free(candidate);
    return false;
}

/* ---- Switches and rates ---- */

enum { SIMPLER = 16, LEAST_MEMORY = 16 << 20 };

/* Make p simpler in the which-th way; false: it is already. */
static bool simplify(struct sim_program *p, unsigned which)
{
    struct {
        unsigned *value, simple;
    } const ways[] = {
        {&p->machine.interrupt_every, 0}, {&p->machine.stall_every, 0},
        {&p->machine.preempt_every, 0},   {&p->machine.wake_early, 0},
        {&p->machine.ipi_delay, 1},       {&p->machine.nodes, 1},
        {&p->switches.io_ns, 0},          {&p->switches.io_fail, 0},
        {&p->switches.speculate, 0},      {&p->switches.pt_cache, 0},
        {&p->switches.colours, 1},        {&p->switches.tlb_entries, 64},
        {&p->schedule.every, 256},        {&p->schedule.every, 32},
        {&p->schedule.every, 8},
    };
    enum { WAYS = sizeof ways / sizeof ways[0] };

    if (which == WAYS) {
        bool was = p->switches.weak;

        p->switches.weak = false;
        return was;
    }
    if (which > WAYS)
        return false;
    if (ways[which].value == &p->schedule.every &&
        (p->schedule.strategy != SIM_STRATEGY_RANDOM || p->schedule.every >= ways[which].simple))
        return false;
    if (*ways[which].value == ways[which].simple)
        return false;
    *ways[which].value = ways[which].simple;
    return true;
}

static void shrink_memory(struct shrinker *s)
{
    struct sim_program p;

    if (s->best->machine.memory <= LEAST_MEMORY)
        return;
    sim_program_copy(&p, s->best);
    p.machine.memory = LEAST_MEMORY;
    try(s, &p);
}

static void shrink_switches(struct shrinker *s)
{
    shrink_memory(s);
    for (unsigned i = 0; i < SIMPLER && !is_over(s); i++) {
        struct sim_program p;

        sim_program_copy(&p, s->best);
        if (simplify(&p, i))
            try(s, &p);
        else
            sim_program_free(&p);
    }
}

static void shrink_cpus(struct shrinker *s)
{
    for (unsigned cpus = 1; cpus < s->best->machine.cpus && !is_over(s); cpus += 1 + cpus / 4) {
        struct sim_program p;

        sim_program_copy(&p, s->best);
        p.machine.cpus = cpus;
        if (try(s, &p))
            return;
    }
}

/* ---- Parts of a list ---- */

/* A list of which parts can be left out: how long it is, and p without items from..from + n - 1. */
struct parts {
    size_t (*count)(const struct sim_program *p, unsigned which);
    void (*drop)(struct sim_program *p, unsigned which, size_t from, size_t n);
};

/* Leave out chunks, from the whole list to least items; from its end, where nothing depends on them.
 * True if something went. */
static bool shrink_list(struct shrinker *s, const struct parts *parts, unsigned which, size_t least)
{
    bool any = false;

    for (size_t chunk = parts->count(s->best, which); chunk >= least && !is_over(s); chunk /= 2) {
        size_t end = parts->count(s->best, which);

        while (end && !is_over(s)) {
            size_t n = chunk < end ? chunk : end;
            struct sim_program p;

            sim_program_copy(&p, s->best);
            parts->drop(&p, which, end - n, n);
            any |= try(s, &p);
            end -= n;
        }
    }
    return any;
}

static size_t count_tasks(const struct sim_program *p, unsigned which)
{
    (void)which;
    return p->ntasks;
}

static void drop_tasks(struct sim_program *p, unsigned which, size_t from, size_t n)
{
    (void)which;
    for (size_t i = from; i < from + n; i++)
        free(p->tasks[i].ops);
    memmove(&p->tasks[from], &p->tasks[from + n], (p->ntasks - from - n) * sizeof p->tasks[0]);
    p->ntasks -= (unsigned)n;
}

static size_t count_ops(const struct sim_program *p, unsigned task) { return p->tasks[task].n; }

static void drop_ops(struct sim_program *p, unsigned task, size_t from, size_t n)
{
    struct sim_task_ops *t = &p->tasks[task];

    memmove(&t->ops[from], &t->ops[from + n], (t->n - from - n) * sizeof t->ops[0]);
    t->n -= n;
}

static size_t count_decisions(const struct sim_program *p, unsigned which)
{
    (void)which;
    return p->schedule.list_len;
}

static void drop_decisions(struct sim_program *p, unsigned which, size_t from, size_t n)
{
    (void)which;
    memmove(&p->decisions[from], &p->decisions[from + n],
            (p->schedule.list_len - from - n) * sizeof p->decisions[0]);
    p->schedule.list_len -= n;
}

static const struct parts tasks = {count_tasks, drop_tasks}, ops = {count_ops, drop_ops},
                          decisions = {count_decisions, drop_decisions};

/* Without the last n operations of each task from first to last, as far as they have them. */
static bool try_without_ends(struct shrinker *s, unsigned first, unsigned last, size_t n)
{
    struct sim_program p;

    sim_program_copy(&p, s->best);
    for (unsigned t = first; t <= last; t++) {
        size_t less = n < p.tasks[t].n ? n : p.tasks[t].n;

        drop_ops(&p, t, p.tasks[t].n - less, less);
    }
    return try(s, &p);
}

/* The shortest beginning of these tasks with the finding.  Nothing before the finding changes, so
 * one try is enough. */
static void shrink_ends(struct shrinker *s, unsigned first, unsigned last)
{
    size_t longest = 0;

    for (unsigned t = first; t <= last; t++)
        if (s->best->tasks[t].n > longest)
            longest = s->best->tasks[t].n;
    s->tries = 1;
    for (size_t n = (longest + 1) / 2; n && !is_over(s); n = n > 1 ? (n + 1) / 2 : 0)
        if (n <= longest && try_without_ends(s, first, last, n))
            longest -= n;
}

static void shrink_each_end(struct shrinker *s)
{
    for (unsigned t = 0; t < s->best->ntasks; t++)
        shrink_ends(s, t, t);
}

/* Tasks and chunks of at least a share of each task's operations; again if something went, because
 * others may have been there for it. */
static void shrink_ops(struct shrinker *s, unsigned share)
{
    bool any = true;

    while (any && !is_over(s)) {
        any = shrink_list(s, &tasks, 0, 1);
        for (unsigned t = s->best->ntasks; t-- > 0;) {
            size_t least = s->best->tasks[t].n / share;

            any |= shrink_list(s, &ops, t, least ? least : 1);
        }
        any &= share == ALL;
    }
}

/* Arguments that do not matter become the usual ones, so that those that do stand out. */
static void shrink_args(struct shrinker *s)
{
    for (unsigned t = 0; t < s->best->ntasks; t++)
        for (size_t i = 0; i < s->best->tasks[t].n; i++)
            for (unsigned a = 0; a < SIM_OP_ARGS && !is_over(s); a++) {
                const struct sim_op *op = &s->best->tasks[t].ops[i];
                uint32_t usual = sim_arg_range[sim_op_info[op->kind].arg_kinds[a]].usual;
                struct sim_program p;

                if (a >= sim_op_info[op->kind].nargs || op->arg[a] == usual)
                    continue;
                sim_program_copy(&p, s->best);
                p.tasks[t].ops[i].arg[a] = usual;
                try(s, &p);
            }
}

/* ---- The schedule ---- */

/* From drawn to listed: the decisions of one more run of the best. */
static bool list_schedule(struct shrinker *s)
{
    struct sim_program p;

    if (s->best->schedule.strategy == SIM_STRATEGY_LISTED)
        return true;
    if (!fails(s, s->best) ||
        s->t->out->ndecisions >= sizeof s->t->out->decisions / sizeof s->t->out->decisions[0])
        return false;
    sim_program_copy(&p, s->best);
    sim_program_list(&p, s->t->out->decisions, s->t->out->ndecisions);
    return try(s, &p);
}

static void shrink_drawn(struct shrinker *s)
{
    shrink_ends(s, 0, s->best->ntasks - 1);
    s->tries = FEW_SEEDS;
    shrink_list(s, &tasks, 0, 1);
    shrink_switches(s);
    shrink_cpus(s);
    shrink_each_end(s);
    s->tries = FEW_SEEDS;
    shrink_ops(s, EIGHTHS);
    s->tries = s->t->ended - s->t->started < SHORT_NS ? MANY_SEEDS : FEW_SEEDS;
    shrink_ops(s, ALL);
    shrink_cpus(s);
    shrink_switches(s);
}

static void shrink_listed(struct shrinker *s)
{
    shrink_list(s, &decisions, 0, 1);
    shrink_ops(s, ALL);
    shrink_args(s);
    shrink_cpus(s);
    shrink_switches(s);
    shrink_list(s, &decisions, 0, 1);
}

/* The time is shared, so that a list comes out also of what is slow. */
void sim_shrink(struct sim_program *p, struct sim_trial *t, uint64_t until)
{
    uint64_t now = sim_clock_ns(), took = (t->ended - t->started) / NS_PER_S;
    struct shrinker s = {.best = p, .t = t};

    strcpy(s.kind, t->out->kind);
    s.seconds = took < MOST_S ? took + SLACK_S : took;
    s.until = now + (until - now) / 4 * 3;
    if (p->schedule.strategy != SIM_STRATEGY_LISTED)
        shrink_drawn(&s);
    s.until = until;
    s.tries = 1;
    if (list_schedule(&s))
        shrink_listed(&s);
    s.until = UINT64_MAX;
    fails(&s, s.best); /* its outcome, for the caller */
}
