/*
 * replay.c - a scenario or a regression file once more, against what it expects.
 *
 * With --runs N and a schedule that is drawn, the file runs N times with seeds that follow its own:
 * what it expects must come at least once, and nothing else ever.
 */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void sim_program_load(const char *path, struct sim_program *p)
{
    FILE *f = fopen(path, "r");
    char message[256];
    unsigned line;

    if (!f) {
        fprintf(stderr, "quire-sim: %s: %s\n", path, strerror(errno));
        exit(SIM_EXIT_USAGE);
    }
    if (!sim_program_read(p, f, &line, message, sizeof message)) {
        fprintf(stderr, "quire-sim: %s:%u: %s\n", path, line, message);
        exit(SIM_EXIT_USAGE);
    }
    fclose(f);
}

int sim_replay(const struct sim_options *o)
{
    struct sim_trial_mode mode = {.seconds = o->run_seconds, .report = stdout, .trace = o->trace};
    uint64_t points = 0, runs = o->runs ? o->runs : 1, expected = 0, named = 0,
             began = sim_clock_ns(), i;
    struct sim_program p;
    struct sim_trial t;
    bool wrong = false;

    sim_program_load(o->replay, &p);
    if (o->no_weak)
        p.switches.weak = false;
    if (o->seed_given)
        p.seed = o->seed;
    if (p.expect[0] && runs > 1)
        mode.report = NULL;
    sim_trial_init(&t);
    for (i = 0; i < runs && !wrong && sim_trial_run(&t, &p, &mode); i++, p.seed++) {
        bool reported = t.out->reported && !strcmp(p.expect, "reported");
        bool as_expected = reported || !strcmp(t.out->kind, p.expect);

        points += t.out->points;
        if (t.out->kind[0])
            printf("finding: %s: %.*s (seed %llu)\n", t.out->kind, (int)strcspn(t.out->text, "\n"),
                   t.out->text, (unsigned long long)p.seed);
        expected += as_expected;
        named += t.out->reported;
        wrong = t.out->kind[0] && !as_expected;
    }
    if (!wrong && p.expect[0] && !expected) {
        printf("missed: the finding %s was expected and did not come\n", p.expect);
        wrong = true;
    }
    if (named)
        printf("misuses reported %llu\n", (unsigned long long)named);
    printf("runs %llu points %llu seconds %.1f hash %016llx: %s\n", (unsigned long long)i,
           (unsigned long long)points, (double)(sim_clock_ns() - began) / 1e9,
           (unsigned long long)t.out->hash, wrong ? "NOT as expected" : "as expected");
    sim_trial_end(&t);
    sim_program_free(&p);
    return wrong ? SIM_EXIT_FINDING : SIM_EXIT_CLEAN;
}
