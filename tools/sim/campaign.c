/*
 * campaign.c - run after run: the i-th has the seed after the first by i, so that each can be repeated
 * alone.  Runs go on until the time is over, or as many as were asked for.
 *
 * A finding whose text is that of an earlier one but for numbers is counted and not told again.
 */
#include "session.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, PROGRESS_NS = 500000000, KNOWN = 256 };

struct campaign {
    const struct sim_options *o;
    struct sim_trial trials[SIM_MOST_JOBS];
    uint64_t run[SIM_MOST_JOBS]; /* which run the trial is */
    uint64_t next, ended, points, findings, reported;
    uint64_t *hashes; /* of runs 0..room - 1; 0: has not ended */
    size_t room;
    uint64_t started, aside; /* aside: ns spent on findings */
    uint64_t told;           /* when the progress line was written */
    char *known[KNOWN];      /* findings, without numbers */
    unsigned nknown;
    bool terminal;
};

/* ---- What is shown ---- */

static double seconds_of(const struct campaign *c)
{
    return (double)(sim_clock_ns() - c->started - c->aside) / 1e9;
}

static void clear_progress(const struct campaign *c)
{
    if (c->terminal)
        printf("\r\033[K");
}

static void show_progress(struct campaign *c)
{
    uint64_t now = sim_clock_ns();
    double s = seconds_of(c);

    if (!c->terminal || now - c->told < PROGRESS_NS)
        return;
    c->told = now;
    printf("\r\033[K%llu runs, %.1f million points, %.0f points/s, %llu findings, %.0f s",
           (unsigned long long)c->ended, (double)c->points / 1e6, (double)c->points / (s + 1e-9),
           (unsigned long long)c->findings, s);
    fflush(stdout);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static void show_summary(const struct campaign *c)
{
    double s = seconds_of(c);
    uint64_t hash = 0;

    clear_progress(c);
    for (uint64_t i = 0; i < c->next; i++)
        if (c->hashes[i])
            hash = mix(hash, c->hashes[i]);
    if (c->reported)
        printf("misuses reported %llu\n", (unsigned long long)c->reported);
    printf("findings %llu\n", (unsigned long long)c->findings);
    printf("runs %llu points %llu points/s %.0f seconds %.1f hash %016llx\n",
           (unsigned long long)c->ended, (unsigned long long)c->points,
           (double)c->points / (s + 1e-9), s, (unsigned long long)hash);
}

/* ---- Findings ---- */

/* Is it the first of its kind and text, numbers apart? */
static bool is_new(struct campaign *c, const struct sim_outcome *out)
{
    char text[sizeof out->kind + sizeof out->text], *to = text;

    for (const char *s = out->kind; *s; s++)
        *to++ = *s;
    for (const char *s = out->text; *s && *s != '\n'; s++)
        if (!isxdigit((unsigned char)*s))
            *to++ = *s;
    *to = 0;
    for (unsigned i = 0; i < c->nknown; i++)
        if (!strcmp(c->known[i], text))
            return false;
    if (c->nknown < KNOWN)
        c->known[c->nknown++] = strdup(text);
    return true;
}

static void take_finding(struct campaign *c, struct sim_trial *t)
{
    uint64_t seed = c->o->seed + c->run[t - c->trials], began = sim_clock_ns();
    struct sim_program p;

    clear_progress(c);
    c->findings++;
    if (!is_new(c, t->out)) {
        printf("again: %s: %s (seed %llu)\n", t->out->kind, t->out->text, (unsigned long long)seed);
        return;
    }
    sim_options_program(c->o, seed, &p);
    sim_finding(c->o, &p, t);
    sim_program_free(&p);
    c->aside += sim_clock_ns() - began;
}

/* ---- Runs ---- */

static void start_run(struct campaign *c, struct sim_trial *t)
{
    const struct sim_options *o = c->o;
    struct sim_trial_mode mode = {.seconds = o->run_seconds, .trace = o->trace};
    struct sim_program p;

    if (c->next == c->room) {
        size_t room = c->room ? 2 * c->room : 1024;
        uint64_t *more = sim_allocate(room * sizeof *more);

        if (c->room)
            memcpy(more, c->hashes, c->room * sizeof *more);
        memset(more + c->room, 0, (room - c->room) * sizeof *more);
        free(c->hashes);
        c->hashes = more;
        c->room = room;
    }
    c->run[t - c->trials] = c->next;
    sim_options_program(o, o->seed + c->next, &p);
    sim_trial_start(t, &p, &mode);
    sim_program_free(&p);
    c->next++;
}

static bool is_over(const struct campaign *c)
{
    const struct sim_options *o = c->o;

    return sim_interrupted() || (o->runs && c->next >= o->runs) ||
           (o->seconds && sim_clock_ns() - c->started >= o->seconds * NS_PER_S) ||
           (o->stop_at_first && c->findings);
}

static void count_run(struct campaign *c, const struct sim_trial *t)
{
    c->ended++;
    c->points += t->out->points;
    c->reported += t->out->reported;
    c->hashes[c->run[t - c->trials]] = t->out->hash ? t->out->hash : 1;
}

/* Findings are told when no other run goes on: shrinking has the machine for itself. */
static void run_all(struct campaign *c)
{
    struct sim_trial *waiting[SIM_MOST_JOBS], *t;
    unsigned found = 0;

    for (;;) {
        for (unsigned i = 0; i < c->o->jobs && !found && !is_over(c); i++)
            if (!c->trials[i].pid)
                start_run(c, &c->trials[i]);
        t = sim_trials_wait(c->trials, c->o->jobs, sim_clock_ns() + PROGRESS_NS);
        show_progress(c);
        if (t) {
            count_run(c, t);
            if (t->out->kind[0])
                waiting[found++] = t;
            continue;
        }
        t = NULL;
        for (unsigned i = 0; i < c->o->jobs; i++)
            if (c->trials[i].pid)
                t = &c->trials[i];
        if (t && !sim_interrupted())
            continue;
        for (unsigned i = 0; i < found && !sim_interrupted(); i++)
            take_finding(c, waiting[i]);
        found = 0;
        if (is_over(c))
            return;
    }
}

int sim_campaign(const struct sim_options *o)
{
    struct campaign *c = sim_allocate(sizeof *c);
    int status;

    *c = (struct campaign){.o = o, .started = sim_clock_ns(), .terminal = isatty(STDOUT_FILENO)};
    for (unsigned i = 0; i < o->jobs; i++)
        sim_trial_init(&c->trials[i]);
    run_all(c);
    for (unsigned i = 0; i < o->jobs; i++)
        sim_trial_end(&c->trials[i]);
    show_summary(c);
    status = c->findings ? SIM_EXIT_FINDING : SIM_EXIT_CLEAN;
    for (unsigned i = 0; i < c->nknown; i++)
        free(c->known[i]);
    free(c->hashes);
    free(c);
    return status;
}
