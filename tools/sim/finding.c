/*
 * finding.c - a finding from its first sight to its regression file.
 */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SHOWN = 60 }; /* longer programs are only in their file */

static uint64_t seconds_from_now(uint64_t seconds)
{
    return sim_clock_ns() + seconds * 1000000000u;
}

/* Once more, with its report.  That it ends otherwise should happen with "hang" only, which the
 * host's speed decides; else the simulator itself is at fault. */
static void show(const struct sim_options *o, const struct sim_program *p, struct sim_trial *t,
                 const char *kind)
{
    struct sim_trial_mode mode = {.seconds = o->run_seconds, .report = stdout};

    if (!sim_trial_run(t, p, &mode))
        return;
    if (strcmp(t->out->kind, kind))
        printf("not the same again: this time it ended %s%s\n", t->out->kind[0] ? "in " : "clean",
               t->out->kind);
}

static bool make_folder(const char *path)
{
    if (!mkdir(path, 0777) || errno == EEXIST)
        return true;
    fprintf(stderr, "quire-sim: %s: %s\n", path, strerror(errno));
    return false;
}

/* The file's header: what it is, for who finds it in a folder a year later. */
static bool write_file(const struct sim_program *p, const char *path, const char *kind,
                       const char *text)
{
    FILE *f = fopen(path, "w");
    bool good;

    if (f) {
        fprintf(f, "# %s: %.*s\n# run: quire sim --replay %s\n", kind, (int)strcspn(text, "\n"),
                text, path);
        fprintf(f, "# When the fault is mended this run is clean.\n");
        sim_program_write(p, f);
    }
    good = f && !ferror(f);
    if ((f && fclose(f)) || !good) {
        fprintf(stderr, "quire-sim: %s: %s\n", path, strerror(errno));
        return false;
    }
    return true;
}

void sim_regression(const struct sim_options *o, const struct sim_program *p, uint64_t seed,
                    const char *kind, const char *text)
{
    char path[4096];
    struct sim_trial t;

    snprintf(path, sizeof path, "%s/%s-%llu.sim", o->out, kind, (unsigned long long)seed);
    if (!make_folder(o->out) || !write_file(p, path, kind, text))
        return;
    printf("shrunk: %zu operations of %u tasks on %u CPUs", sim_program_ops(p), p->ntasks,
           p->machine.cpus);
    if (p->schedule.strategy == SIM_STRATEGY_LISTED)
        printf(", %zu decisions", p->schedule.list_len);
    printf("\n");
    if (sim_program_ops(p) + p->schedule.list_len <= SHOWN)
        sim_program_write(p, stdout);
    sim_trial_init(&t);
    show(o, p, &t, kind);
    printf("finding: %s: %.*s\n", kind, (int)strcspn(text, "\n"), text);
    printf("regression: %s\nreplay: quire sim --replay %s\n", path, path);
    sim_trial_end(&t);
}

void sim_finding(const struct sim_options *o, struct sim_program *p, struct sim_trial *t)
{
    char kind[sizeof t->out->kind], text[sizeof t->out->text];
    uint64_t seed = p->seed; /* shrinking may change it */

    strcpy(kind, t->out->kind);
    strcpy(text, t->out->text);
    show(o, p, t, kind);
    printf("finding: %s: %.*s\n", kind, (int)strcspn(text, "\n"), text);
    printf("repeat: quire sim --seed %llu --runs 1", (unsigned long long)p->seed);
    sim_options_print(o, stdout);
    printf("\n");
    if (o->no_shrink || strcmp(t->out->kind, kind))
        return;
    sim_shrink(p, t, seconds_from_now(o->shrink_seconds));
    if (!sim_interrupted())
        sim_regression(o, p, seed, kind, t->out->kind[0] ? t->out->text : text);
}
