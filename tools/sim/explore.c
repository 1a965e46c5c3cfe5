/*
 * explore.c - all schedules of a small program with few switches.
 *
 * Iterative context bounding (Musuvathi and Qadeer, PLDI 2007): most bugs need few switches at the
 * wrong place, and all schedules with few switches can be had.  The default schedule switches only
 * where a CPU cannot go on.  Each schedule that ran yields those with one switch more: at every
 * choice after its own last switch, to every other CPU that could have run there.  So each list of
 * at most B switches is run exactly once, all those with fewer before those with more.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>

enum { CHOICES = 1 << 20, NS_PER_S = 1000000000 };

/* The choices that a run had, in their order: written by the child. */
struct choices {
    size_t n;
    struct choice {
        uint64_t local, eligible;
        uint32_t cpu;
    } at[CHOICES];
};
static struct choices *choices;

/* Lists of one length, one after the other. */
struct schedules {
    struct sim_decision *all;
    size_t n, room; /* schedules */
    unsigned len;   /* decisions of each */
};

static void log_choice(unsigned cpu, uint64_t local, uint64_t eligible)
{
    if (choices->n < CHOICES)
        choices->at[choices->n++] = (struct choice){local, eligible, cpu};
}

static void watch(void) { sim_watch_choices(log_choice); }

static void add(struct schedules *s, const struct sim_decision *list, struct sim_decision last)
{
    if (s->n == s->room) {
        struct sim_decision *more;

        s->room = s->room ? 2 * s->room : 1024;
        more = sim_allocate(s->room * s->len * sizeof *more);
        if (s->n)
            memcpy(more, s->all, s->n * s->len * sizeof *more);
        free(s->all);
        s->all = more;
    }
    for (unsigned i = 0; i + 1 < s->len; i++)
        s->all[s->n * s->len + i] = list[i];
    s->all[s->n * s->len + s->len - 1] = last;
    s->n++;
}

/* After list ran: its choices yield the lists that are longer by one. */
static void extend(struct schedules *longer, const struct sim_decision *list)
{
    size_t i = 0;

    if (longer->len > 1) {
        const struct sim_decision *last = &list[longer->len - 2];

        while (i < choices->n &&
               (choices->at[i].cpu != last->cpu || choices->at[i].local != last->point))
            i++;
        i++;
    }
    for (; i < choices->n; i++) {
        const struct choice *c = &choices->at[i];
        struct sim_decision d = {.point = c->local, .cpu = c->cpu, .action = SIM_SWITCH};

        for (uint64_t m = c->eligible; m; m &= m - 1) {
            d.arg = (uint16_t)__builtin_ctzll(m);
            if (d.arg != sim_default_cpu(c->cpu, c->eligible))
                add(longer, list, d);
        }
    }
}

struct exploration {
    const struct sim_options *o;
    struct sim_program *p;
    struct sim_trial t;
    uint64_t runs, points, until;
};

static bool is_over(const struct exploration *e)
{
    return sim_interrupted() || (e->until && sim_clock_ns() >= e->until);
}

/* Run all lists of a length; longer: collects their extensions, or NULL.  True: a finding. */
static bool run_level(struct exploration *e, const struct schedules *s, struct schedules *longer)
{
    struct sim_trial_mode mode = {.seconds = e->o->run_seconds, .before = watch};

    for (size_t i = 0; i < s->n && !is_over(e); i++) {
        const struct sim_decision *list = s->all + i * s->len;

        choices->n = 0;
        sim_program_list(e->p, list, s->len);
        if (!sim_trial_run(&e->t, e->p, &mode))
            return false;
        e->runs++;
        e->points += e->t.out->points;
        if (strcmp(e->t.out->kind, ""))
            return true;
        if (longer)
            extend(longer, list);
    }
    return false;
}

static bool explore(struct exploration *e)
{
    struct schedules now = {.n = 1};
    bool found = false;

    for (unsigned len = 0; len <= e->o->preemptions && !found && !is_over(e); len++) {
        struct schedules longer = {.len = len + 1};

        found = run_level(e, &now, len < e->o->preemptions ? &longer : NULL);
        if (!found && !is_over(e))
            printf("%u switches: %zu schedules clean\n", len, now.n);
        free(now.all);
        now = longer;
    }
    free(now.all);
    return found;
}

int sim_explore(const struct sim_options *o)
{
    struct sim_program p;
    struct exploration e = {.o = o, .p = &p};
    char kind[sizeof e.t.out->kind], text[sizeof e.t.out->text];
    uint64_t began = sim_clock_ns();
    bool found;

    sim_program_load(o->explore, &p);
    if (o->no_weak)
        p.switches.weak = false;
    if (o->seconds)
        e.until = began + o->seconds * NS_PER_S;
    choices = sim_shared(sizeof *choices);
    sim_trial_init(&e.t);
    found = explore(&e);
    if (found) {
        strcpy(kind, e.t.out->kind);
        strcpy(text, e.t.out->text);
        sim_regression(o, &p, p.seed, kind, text);
    }
    printf("explored %llu schedules, points %llu, seconds %.1f: %s\n", (unsigned long long)e.runs,
           (unsigned long long)e.points, (double)(sim_clock_ns() - began) / 1e9,
           found         ? "a finding"
           : is_over(&e) ? "not all"
                         : "clean");
    sim_trial_end(&e.t);
    sim_program_free(&p);
    return found ? SIM_EXIT_FINDING : SIM_EXIT_CLEAN;
}
