/*
 * session.h - the parts of the quire-sim program around a run.
 *
 *   main.c      the command line
 *   campaign.c  runs of successive seeds, until the time is over
 *   trial.c     one run, in a child process
 *   shrink.c    a smaller program and schedule with the same finding
 *   finding.c   what is told of a finding, and its regression file
 *   replay.c    a file once more
 *   explore.c   all schedules of a file with few switches
 */
#ifndef SIM_SESSION_H
#define SIM_SESSION_H

#include <sys/types.h>

#include "args.h"

enum { SIM_EXIT_CLEAN, SIM_EXIT_FINDING, SIM_EXIT_USAGE };
enum { SIM_MOST_JOBS = 256 };

struct sim_options {
    uint64_t seed, runs; /* runs 0: until the time is over */
    uint64_t seconds, shrink_seconds, run_seconds;
    struct sim_wishes wishes;
    unsigned jobs, preemptions;
    bool seed_given, stop_at_first, trace, no_weak, no_shrink;
    const char *out, *replay, *explore, *blocks;
};

/* ---- trial.c ---- */

uint64_t sim_clock_ns(void); /* the host's; nothing that happens in a run depends on it */

/* Before anything else: take the signals that end and interrupt.  From then on SIGINT and SIGTERM do
 * nothing but make sim_interrupted() true and waiting return. */
void sim_trials_init(void);
bool sim_interrupted(void);

/* How a trial is run. */
struct sim_trial_mode {
    uint64_t seconds;     /* killed then, as a finding "hang" */
    FILE *report;         /* NULL: nowhere */
    bool trace;           /* print every point */
    bool quiet;           /* what it writes to standard error is thrown away */
    void (*before)(void); /* called in the child, or NULL */
};

/* A run that goes on in a child process. */
struct sim_trial {
    pid_t pid; /* 0: none */
    uint64_t started, deadline, ended;
    struct sim_outcome *out; /* shared with the child */
    bool overdue;
};
void sim_trial_init(struct sim_trial *t);
void sim_trial_end(struct sim_trial *t); /* kills it if it goes on */
void sim_trial_start(struct sim_trial *t, const struct sim_program *p,
                     const struct sim_trial_mode *m);
/* One of the n trials that has ended, its outcome complete; NULL at the time until, when none runs,
 * or when interrupted. */
struct sim_trial *sim_trials_wait(struct sim_trial *list, unsigned n, uint64_t until);
void sim_trial_kill(struct sim_trial *t);
/* Start and wait: true if it came to its end, clean or not; false when interrupted. */
bool sim_trial_run(struct sim_trial *t, const struct sim_program *p,
                   const struct sim_trial_mode *m);
/* Memory that a child shares with us; zero. */
void *sim_shared(size_t bytes);

/* ---- the others ---- */

/* The program of a seed, as the options want it. */
void sim_options_program(const struct sim_options *o, uint64_t seed, struct sim_program *p);
/* The options that a repetition needs, as they are written: " --cpus 4 --no-weak". */
void sim_options_print(const struct sim_options *o, FILE *out);

int sim_campaign(const struct sim_options *o);
int sim_replay(const struct sim_options *o);
int sim_explore(const struct sim_options *o);
/* Read a program from a file; exits with SIM_EXIT_USAGE and a message if it is none. */
void sim_program_load(const char *path, struct sim_program *p);

/* p, which had the outcome of t, shrinks until until; t is used for the trials. */
void sim_shrink(struct sim_program *p, struct sim_trial *t, uint64_t until);

/* Tell of the finding of p in t (report, repetition), shrink it, write the regression file. */
void sim_finding(const struct sim_options *o, struct sim_program *p, struct sim_trial *t);
/* Write p as a regression file of that finding, which the run of this seed had first, and run it
 * once more with a report. */
void sim_regression(const struct sim_options *o, const struct sim_program *p, uint64_t seed,
                    const char *kind, const char *text);

#endif
