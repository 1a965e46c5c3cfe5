/*
 * main.c - the command line of quire-sim, which is that of `quire sim`.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <unistd.h>

/* The times of the help text. */
enum { CAMPAIGN_SECONDS = 60, SHRINK_SECONDS = 60, RUN_SECONDS = 60 };

static const char help[] =
    "usage: quire sim [options]\n"
    "\n"
    "Runs generated programs on simulated machines, each from a seed, until the time is over, and\n"
    "reports what goes wrong.  The first line repeats all of it, `repeat:` a single run.\n"
    "\n"
    "  --seed N           of the first run; the next has N + 1 (fresh, and printed)\n"
    "  --time T           how long: 90s, 10m, 1h (60s unless --runs is given)\n"
    "  --runs N           how many\n"
    "  --cpus N           of each machine, 1 to 64 (drawn)\n"
    "  --groups A,B       only these operations: frames heap kva space object fork huge pressure\n"
    "                     failures misuse\n"
    "  --without A,B      never these\n"
    "  --ops N            operations of each task (drawn)\n"
    "  --no-weak          loads see the newest store\n"
    "  --jobs N           so many runs at a time (1)\n"
    "  --stop-at-first    end at the first finding\n"
    "  --no-shrink        do not look for a smaller program with the same finding\n"
    "  --shrink-time T    ... nor longer than that (60s)\n"
    "  --run-time T       a run that takes longer hangs (60s)\n"
    "  --out DIR          where regression files go (sim-findings)\n"
    "  --trace            print every scheduling point\n"
    "  --replay FILE      run a scenario or a regression file, and check what it expects; with\n"
    "                     --runs N under N seeds\n"
    "  --blocks FILE      what every pageblock holds at the end of the last run; quire blocks "
    "FILE\n"
    "                     draws it\n"
    "  --explore FILE     all schedules of a scenario with few switches away from the default\n"
    "  --preemptions N    ... so many (2)\n"
    "\n"
    "Exit status: 0 clean, 1 a finding, 2 wrong use.\n";

static _Noreturn void misused(const char *option, const char *what)
{
    fprintf(stderr, "quire-sim: %s %s; quire sim --help lists the options\n", option, what);
    exit(SIM_EXIT_USAGE);
}

static uint64_t number(const char *option, const char *text, uint64_t min, uint64_t max)
{
    char what[160];
    uint64_t value;

    if (sim_number_parse(text, &value) && value >= min && value <= max)
        return value;
    snprintf(what, sizeof what, "wants a number from %llu to %llu, not '%.40s'",
             (unsigned long long)min, (unsigned long long)max, text);
    misused(option, what);
}

/* 60, 60s, 10m, 1h in seconds. */
static uint64_t duration(const char *option, const char *text)
{
    size_t len = strlen(text);
    char digits[32];
    uint64_t unit = 1;

    if (!len || len >= sizeof digits)
        misused(option, "wants a time, like 90s or 10m");
    memcpy(digits, text, len + 1);
    switch (digits[len - 1]) {
    case 'h': unit = 3600; break;
    case 'm': unit = 60; break;
    case 's': break;
    default: len++;
    }
    digits[len - 1] = 0;
    return number(option, digits, 1, 1000000) * unit;
}

enum option_kind {
    OPTION_FLAG,
    OPTION_NUMBER,
    OPTION_UNSIGNED,
    OPTION_TIME,
    OPTION_TEXT,
    OPTION_GROUPS
};
struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
    uint64_t min, max;
    size_t given; /* of a flag that says so, or 0 */
};
#define AT(member) offsetof(struct sim_options, member)
static const struct option options[] = {
    {"--seed", OPTION_NUMBER, AT(seed), 0, UINT64_MAX, AT(seed_given)},
    {"--time", OPTION_TIME, AT(seconds), 0, 0, 0},
    {"--runs", OPTION_NUMBER, AT(runs), 1, UINT64_MAX, 0},
    {"--cpus", OPTION_UNSIGNED, AT(wishes.cpus), 1, SIM_MAX_CPUS, 0},
    {"--ops", OPTION_UNSIGNED, AT(wishes.ops), 1, 100000, 0},
    {"--groups", OPTION_GROUPS, AT(wishes.groups), 0, 0, 0},
    {"--without", OPTION_GROUPS, AT(wishes.without), 0, 0, 0},
    {"--jobs", OPTION_UNSIGNED, AT(jobs), 1, SIM_MOST_JOBS, 0},
    {"--preemptions", OPTION_UNSIGNED, AT(preemptions), 0, 64, 0},
    {"--shrink-time", OPTION_TIME, AT(shrink_seconds), 0, 0, 0},
    {"--run-time", OPTION_TIME, AT(run_seconds), 0, 0, 0},
    {"--out", OPTION_TEXT, AT(out), 0, 0, 0},
    {"--replay", OPTION_TEXT, AT(replay), 0, 0, 0},
    {"--explore", OPTION_TEXT, AT(explore), 0, 0, 0},
    {"--blocks", OPTION_TEXT, AT(blocks), 0, 0, 0},
    {"--stop-at-first", OPTION_FLAG, AT(stop_at_first), 0, 0, 0},
    {"--trace", OPTION_FLAG, AT(trace), 0, 0, 0},
    {"--no-weak", OPTION_FLAG, AT(no_weak), 0, 0, 0},
    {"--no-shrink", OPTION_FLAG, AT(no_shrink), 0, 0, 0},
};
enum { OPTIONS = sizeof options / sizeof options[0] };

static const struct option *find_option(const char *word, size_t len)
{
    for (unsigned i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == len && !strncmp(options[i].name, word, len))
            return &options[i];
    return NULL;
}

static void set_option(struct sim_options *o, const struct option *d, const char *value)
{
    char *at = (char *)o + d->offset;
    unsigned groups;

    if (d->given)
        *(bool *)((char *)o + d->given) = true;
    switch (d->kind) {
    case OPTION_FLAG: *(bool *)at = true; break;
    case OPTION_NUMBER: *(uint64_t *)at = number(d->name, value, d->min, d->max); break;
    case OPTION_UNSIGNED: *(unsigned *)at = (unsigned)number(d->name, value, d->min, d->max); break;
    case OPTION_TIME: *(uint64_t *)at = duration(d->name, value); break;
    case OPTION_TEXT: *(const char **)at = value; break;
    case OPTION_GROUPS:
        groups = sim_groups_parse(value);
        if (!groups || groups & ~(unsigned)SIM_DRAWN_GROUPS)
            misused(
                d->name,
                "wants some of frames,heap,kva,space,object,fork,huge,pressure,failures,misuse");
        *(unsigned *)at = groups;
    }
}

static void parse(struct sim_options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t len = strcspn(argv[i], "=");
        const struct option *d = find_option(argv[i], len);
        const char *value = argv[i][len] ? argv[i] + len + 1 : NULL;

        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "help")) {
            fputs(help, stdout);
            exit(SIM_EXIT_CLEAN);
        }
        if (!d)
            misused(argv[i], "is no option");
        if (d->kind == OPTION_FLAG && value)
            misused(d->name, "takes no value");
        if (d->kind != OPTION_FLAG && !value) {
            if (++i == argc)
                misused(d->name, "wants a value");
            value = argv[i];
        }
        set_option(o, d, value);
    }
    if (o->replay && o->explore)
        misused("--explore", "and --replay do not go together");
    if (!o->runs && !o->seconds)
        o->seconds = CAMPAIGN_SECONDS;
}

void sim_options_program(const struct sim_options *o, uint64_t seed, struct sim_program *p)
{
    sim_generate(p, seed, &o->wishes);
    if (o->no_weak)
        p->switches.weak = false;
}

static void print_groups(const char *name, unsigned groups, FILE *out)
{
    const char *separator = " ";

    if (groups)
        fprintf(out, " %s", name);
    for (unsigned g = 0; g < SIM_GROUPS; g++)
        if (groups >> g & 1) {
            fprintf(out, "%s%s", separator, sim_group_names[g]);
            separator = ",";
        }
}

void sim_options_print(const struct sim_options *o, FILE *out)
{
    if (o->wishes.cpus)
        fprintf(out, " --cpus %u", o->wishes.cpus);
    if (o->wishes.ops)
        fprintf(out, " --ops %u", o->wishes.ops);
    print_groups("--groups", o->wishes.groups, out);
    print_groups("--without", o->wishes.without, out);
    if (o->no_weak)
        fprintf(out, " --no-weak");
    if (o->run_seconds != RUN_SECONDS)
        fprintf(out, " --run-time %llus", (unsigned long long)o->run_seconds);
}

static void print_first_line(const struct sim_options *o)
{
    printf("quire sim --seed %llu", (unsigned long long)o->seed);
    if (o->runs)
        printf(" --runs %llu", (unsigned long long)o->runs);
    if (o->seconds)
        printf(" --time %llus", (unsigned long long)o->seconds);
    sim_options_print(o, stdout);
    if (o->jobs != 1)
        printf(" --jobs %u", o->jobs);
    if (o->stop_at_first)
        printf(" --stop-at-first");
    printf("\n");
    fflush(stdout);
}

/* Short enough to be copied by hand. */
static uint64_t fresh_seed(void)
{
    uint32_t seed;

    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        perror("quire-sim: getrandom");
        exit(SIM_EXIT_USAGE);
    }
    return seed;
}

/* The leak scan reads our own data, where our addresses stand: they have to be the same each time.  Where that
 * is forbidden, runs with a scan may differ. */
static void be_where_we_were(char **argv)
{
    int now = personality(0xffffffff);

    if (now != -1 && !(now & ADDR_NO_RANDOMIZE) &&
        personality((unsigned long)now | ADDR_NO_RANDOMIZE) != -1)
        execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    struct sim_options o = {.jobs = 1,
                            .preemptions = 2,
                            .shrink_seconds = SHRINK_SECONDS,
                            .run_seconds = RUN_SECONDS,
                            .out = "sim-findings"};

    be_where_we_were(argv);
    parse(&o, argc, argv);
    sim_trials_init();
    sim_blocks_to(o.blocks);
    if (o.replay)
        return sim_replay(&o);
    if (o.explore)
        return sim_explore(&o);
    if (!o.seed_given)
        o.seed = fresh_seed();
    print_first_line(&o);
    return sim_campaign(&o);
}
