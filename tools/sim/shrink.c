/*
 * shrink.c - a smaller program with the same kind of finding.
 *
 * Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE
 * TSE 2002): leave out halves, then quarters and so on, keep what still fails.  In this order:
 *
 *   1. whatever can be switched off: faults, slow devices, weak loads, many CPUs; fewer switches
 *   2. tasks, then operations
 *   3. the schedule becomes the list of the decisions that were made; decisions are left out
 *   4. operations again, under the short list
 *
 * Without an operation everything after it is scheduled anew, and the finding may be missed by
 * bad luck; so while the schedule is drawn each candidate has SEEDS tries, with successive seeds.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>

enum { SEEDS = 4, NS_PER_S = 1000000000, SLACK_S = 2, MOST_S = 20 };

struct shrinker {
    struct sim_program *best;
    struct sim_trial *t;
    char kind[32];
    uint64_t until;
    uint64_t seconds; /* for a trial */
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

/* Takes candidate: it is the best now, or gone. */
static bool try(struct shrinker *s, struct sim_program *candidate)
{
    unsigned seeds = candidate->schedule.strategy == SIM_STRATEGY_LISTED ? 1 : SEEDS;

    for (unsigned i = 0; i < seeds && !is_over(s); i++, candidate->seed++)
        if (fails(s, candidate)) {
            sim_program_free(s->best);
            *s->best = *candidate;
            return true;
        }
    sim_program_free(candidate);
    return false;
}

/* ---- Switches and rates ---- */

enum { SIMPLER = 16 };

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
        {&p->switches.tlb_entries, 64},   {&p->schedule.every, 256},
        {&p->schedule.every, 32},         {&p->schedule.every, 8},
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

static void shrink_switches(struct shrinker *s)
{
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
    for (unsigned cpus = 1; cpus < s->best->machine.cpus && !is_over(s); cpus *= 2) {
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

/* Leave out chunks, from half of the list to single items; from its end, where nothing depends on
 * them.  True if something went. */
static bool shrink_list(struct shrinker *s, const struct parts *parts, unsigned which)
{
    bool any = false;

    for (size_t chunk = parts->count(s->best, which); chunk && !is_over(s); chunk /= 2) {
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

/* Every task once; again if something went, because others may have been there for it. */
static void shrink_ops(struct shrinker *s)
{
    bool any = true;

    while (any && !is_over(s)) {
        any = shrink_list(s, &tasks, 0);
        for (unsigned t = s->best->ntasks; t-- > 0;)
            any |= shrink_list(s, &ops, t);
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

void sim_shrink(struct sim_program *p, struct sim_trial *t, uint64_t until)
{
    struct shrinker s = {.best = p, .t = t, .until = until};
    uint64_t took = (t->ended - t->started) / NS_PER_S;

    strcpy(s.kind, t->out->kind);
    s.seconds = took < MOST_S ? took + SLACK_S : took;
    shrink_switches(&s);
    shrink_ops(&s);
    shrink_cpus(&s);
    shrink_switches(&s);
    if (list_schedule(&s)) {
        shrink_list(&s, &decisions, 0);
        shrink_ops(&s);
        shrink_switches(&s);
        shrink_list(&s, &decisions, 0);
    }
    s.until = UINT64_MAX;
    fails(&s, s.best); /* its outcome, for the caller */
}
