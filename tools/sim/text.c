/*
 * text.c - programs as text, see program.h for the format.
 *
 * Every line is a word and then words of the form name=value; a # begins a comment.  What a line
 * leaves out has its usual value: that of sim_program_init(), or of sim_arg_range.  The writer gives
 * everything, so that what it wrote reads back as the same program.
 */
#include "args.h"

#include <quire/harden.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Fields that are numbers: the line they belong to, and where they live. */
enum width { BOOL, UNSIGNED, U64, MEBIBYTES };
struct field {
    const char *line, *name;
    size_t offset;
    enum width width;
    uint64_t min, max;
};
#define AT(member) offsetof(struct sim_program, member)
#define RATE(name)                                                  \
    {                                                               \
        "machine", #name, AT(machine.name), UNSIGNED, 0, UINT32_MAX \
    }
static const struct field fields[] = {
    {"machine", "cpus", AT(machine.cpus), UNSIGNED, 1, SIM_MAX_CPUS},
    {"machine", "memory", AT(machine.memory), MEBIBYTES, 1, 1 << 20},
    {"machine", "hotplug", AT(machine.hotplug), MEBIBYTES, 0, 1 << 20},
    {"machine", "nodes", AT(machine.nodes), UNSIGNED, 1, 8},
    {"machine", "heap", AT(machine.heap), UNSIGNED, 0, QUIRE_HEAP_FLAGS},
    {"machine", "max_points", AT(machine.max_points), U64, 1, UINT64_MAX},
    RATE(interrupt_every),
    RATE(stall_every),
    RATE(preempt_every),
    RATE(wake_early),
    RATE(ipi_delay),
    {"watch", "weak", AT(switches.weak), BOOL, 0, 1},
    {"watch", "races", AT(switches.races), BOOL, 0, 1},
    {"watch", "pt_cache", AT(switches.pt_cache), UNSIGNED, 0, UINT32_MAX},
    {"watch", "colours", AT(switches.colours), UNSIGNED, 0, 4096},
    {"watch", "io_ns", AT(switches.io_ns), UNSIGNED, 0, UINT32_MAX},
    {"watch", "io_fail", AT(switches.io_fail), UNSIGNED, 0, UINT32_MAX},
    {"watch", "speculate", AT(switches.speculate), UNSIGNED, 0, UINT32_MAX},
    {"watch", "tlb_entries", AT(switches.tlb_entries), UNSIGNED, 1, 1 << 16},
    {"random", "every", AT(schedule.every), UNSIGNED, 1, UINT32_MAX},
    {"priority", "depth", AT(schedule.depth), UNSIGNED, 0, 64},
    {"priority", "points", AT(schedule.expected_points), U64, 1, UINT64_MAX},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static const char *const strategies[] = {
    [SIM_STRATEGY_RANDOM] = "random",
    [SIM_STRATEGY_PRIORITY] = "priority",
    [SIM_STRATEGY_LISTED] = "listed",
};
enum { STRATEGIES = sizeof strategies / sizeof strategies[0] };

static uint64_t field_get(const struct sim_program *p, const struct field *f)
{
    const char *at = (const char *)p + f->offset;

    switch (f->width) {
    case BOOL: return *(const bool *)at;
    case UNSIGNED: return *(const unsigned *)at;
    case MEBIBYTES: return *(const uint64_t *)at >> 20;
    default: return *(const uint64_t *)at;
    }
}

static void field_set(struct sim_program *p, const struct field *f, uint64_t value)
{
    char *at = (char *)p + f->offset;

    switch (f->width) {
    case BOOL: *(bool *)at = value; break;
    case UNSIGNED: *(unsigned *)at = (unsigned)value; break;
    case MEBIBYTES: *(uint64_t *)at = value << 20; break;
    default: *(uint64_t *)at = value; break;
    }
}

/* ---- Writing ---- */

static void write_fields(const struct sim_program *p, const char *line, FILE *out)
{
    for (unsigned i = 0; i < FIELDS; i++)
        if (!strcmp(fields[i].line, line))
            fprintf(out, " %s=%llu", fields[i].name, (unsigned long long)field_get(p, &fields[i]));
}

static void write_groups(unsigned groups, FILE *out)
{
    const char *separator = " groups=";

    for (unsigned g = 0; g < SIM_GROUPS; g++)
        if (groups >> g & 1) {
            fprintf(out, "%s%s", separator, sim_group_names[g]);
            separator = ",";
        }
}

const char *sim_op_text(const struct sim_op *op, char *buf, size_t len)
{
    const struct sim_op_info *info = &sim_op_info[op->kind];
    size_t at = (size_t)snprintf(buf, len, "%s", info->name);

    for (unsigned i = 0; i < info->nargs && at < len; i++) {
        const struct sim_word *w = sim_arg_range[info->arg_kinds[i]].words;

        while (w && w->name && w->value != op->arg[i])
            w++;
        if (w && w->name)
            at += (size_t)snprintf(buf + at, len - at, " %s=%s", info->arg_names[i], w->name);
        else
            at += (size_t)snprintf(buf + at, len - at, " %s=%u", info->arg_names[i], op->arg[i]);
    }
    return buf;
}

void sim_program_write(const struct sim_program *p, FILE *out)
{
    const char *strategy = strategies[p->schedule.strategy];
    char text[256];

    fprintf(out, "seed %llu\nmachine", (unsigned long long)p->seed);
    write_fields(p, "machine", out);
    fprintf(out, "\nwatch");
    write_fields(p, "watch", out);
    write_groups(p->switches.groups, out);
    fprintf(out, "\nschedule %s", strategy);
    write_fields(p, strategy, out);
    fprintf(out, "\n");
    if (p->expect[0])
        fprintf(out, "expect finding=%s\n", p->expect);
    for (unsigned t = 0; t < p->ntasks; t++) {
        fprintf(out, "task\n");
        for (size_t i = 0; i < p->tasks[t].n; i++)
            fprintf(out, "  %s\n", sim_op_text(&p->tasks[t].ops[i], text, sizeof text));
    }
    if (p->schedule.strategy != SIM_STRATEGY_LISTED)
        return;
    for (size_t i = 0; i < p->schedule.list_len; i++) {
        const struct sim_decision *d = &p->schedule.list[i];

        fprintf(out, "%s cpu=%u point=%llu arg=%u\n", sim_action_names[d->action], d->cpu,
                (unsigned long long)d->point, d->arg);
    }
}

/* ---- Reading ---- */

struct reader {
    struct sim_program *p;
    char *rest; /* of the line */
    size_t ndecisions, room;
    uint64_t times;     /* repeat; 0: none is open */
    size_t repeat_from; /* its first operation */
    char *message;
    size_t len;
};

static bool __attribute__((format(printf, 2, 3))) wrong(struct reader *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(r->message, r->len, fmt, args);
    va_end(args);
    return false;
}

/* The next word of the line, or NULL. */
static char *next_word(struct reader *r) { return strtok_r(NULL, " \t\r\n", &r->rest); }

/* Split name=value in place. */
static bool split(struct reader *r, char *word, char **value)
{
    *value = strchr(word, '=');
    if (!*value)
        return wrong(r, "'%s' is not of the form name=value", word);
    *(*value)++ = 0;
    return true;
}

static bool number(struct reader *r, const char *name, const char *text, uint64_t min, uint64_t max,
                   uint64_t *value)
{
    if (sim_number_parse(text, value) && *value >= min && *value <= max)
        return true;
    return wrong(r, "%s: '%s' is not a number from %llu to %llu", name, text,
                 (unsigned long long)min, (unsigned long long)max);
}

static bool read_field(struct reader *r, const char *line, const char *name, const char *text)
{
    uint64_t value;

    if (!strcmp(line, "watch") && !strcmp(name, "groups")) {
        r->p->switches.groups = sim_groups_parse(text);
        return r->p->switches.groups || wrong(r, "groups: '%s' names a group that is none", text);
    }
    for (unsigned i = 0; i < FIELDS; i++) {
        const struct field *f = &fields[i];

        if (strcmp(f->line, line) || strcmp(f->name, name))
            continue;
        if (!number(r, name, text, f->min, f->max, &value))
            return false;
        field_set(r->p, f, value);
        return true;
    }
    return wrong(r, "%s has no '%s'", line, name);
}

static bool read_fields(struct reader *r, const char *line)
{
    char *word, *value;

    while ((word = next_word(r)))
        if (!split(r, word, &value) || !read_field(r, line, word, value))
            return false;
    return true;
}

static bool read_schedule(struct reader *r)
{
    const char *name = next_word(r);
    unsigned s = 0;

    if (r->ndecisions)
        return wrong(r, "schedule: it comes before its decisions");
    while (name && s < STRATEGIES && strcmp(strategies[s], name))
        s++;
    if (!name || s == STRATEGIES)
        return wrong(r, "'%s' is no schedule: random, priority or listed", name ? name : "");
    r->p->schedule = (struct sim_schedule){.strategy = s};
    if (s == SIM_STRATEGY_RANDOM)
        r->p->schedule.every = 4;
    if (s == SIM_STRATEGY_PRIORITY) {
        r->p->schedule.depth = 3;
        r->p->schedule.expected_points = 10000;
    }
    return read_fields(r, name);
}

static bool read_expect(struct reader *r)
{
    char *word = next_word(r), *value;

    if (!word || !split(r, word, &value) || strcmp(word, "finding"))
        return wrong(r, "expect wants finding=KIND");
    if (!*value || strlen(value) >= sizeof r->p->expect)
        return wrong(r, "'%s' is no kind of finding", value);
    strcpy(r->p->expect, value);
    return true;
}

static bool read_argument(struct reader *r, struct sim_op *op, char *word)
{
    const struct sim_op_info *info = &sim_op_info[op->kind];
    const struct sim_arg_range *range;
    const struct sim_word *w;
    uint64_t number_read;
    char *value;
    unsigned i = 0;

    if (!split(r, word, &value))
        return false;
    while (i < info->nargs && strcmp(info->arg_names[i], word))
        i++;
    if (i == info->nargs)
        return wrong(r, "%s has no '%s'", info->name, word);
    range = &sim_arg_range[info->arg_kinds[i]];
    if (!range->words) {
        if (!number(r, word, value, range->min, range->max, &number_read))
            return false;
        op->arg[i] = (uint32_t)number_read;
        return true;
    }
    for (w = range->words; w->name && strcmp(w->name, value);)
        w++;
    if (!w->name)
        return wrong(r, "%s: '%s' is none of its words", word, value);
    op->arg[i] = w->value;
    return true;
}

static bool read_op(struct reader *r, const char *name)
{
    struct sim_op *op;
    unsigned kind = 0;
    char *word;

    while (kind < SIM_OP_KINDS && strcmp(sim_op_info[kind].name, name))
        kind++;
    if (kind == SIM_OP_KINDS)
        return wrong(r, "'%s' is neither a line nor an operation", name);
    if (!r->p->ntasks)
        return wrong(r, "%s: an operation before the first task", name);
    op = sim_program_add(r->p, r->p->ntasks - 1, kind);
    for (unsigned i = 0; i < sim_op_info[kind].nargs; i++)
        op->arg[i] = sim_arg_range[sim_op_info[kind].arg_kinds[i]].usual;
    while ((word = next_word(r)))
        if (!read_argument(r, op, word))
            return false;
    return true;
}

static bool read_decision(struct reader *r, unsigned action)
{
    uint64_t value[3] = {0, 0, 0};
    static const char *const names[3] = {"cpu", "point", "arg"};
    static const uint64_t most[3] = {SIM_MAX_CPUS - 1, UINT64_MAX, UINT16_MAX};
    char *word, *text;

    if (r->p->schedule.strategy != SIM_STRATEGY_LISTED)
        return wrong(r, "%s: decisions belong to schedule listed", sim_action_names[action]);
    while ((word = next_word(r))) {
        unsigned i = 0;

        if (!split(r, word, &text))
            return false;
        while (i < 3 && strcmp(names[i], word))
            i++;
        if (i == 3)
            return wrong(r, "%s has no '%s'", sim_action_names[action], word);
        if (!number(r, word, text, 0, most[i], &value[i]))
            return false;
    }
    if (r->ndecisions == r->room) {
        struct sim_decision *more;

        r->room = r->room ? 2 * r->room : 64;
        more = sim_allocate(r->room * sizeof *more);
        if (r->ndecisions)
            memcpy(more, r->p->decisions, r->ndecisions * sizeof *more);
        free(r->p->decisions);
        r->p->decisions = more;
    }
    r->p->decisions[r->ndecisions++] = (struct sim_decision){.point = value[1],
                                                             .cpu = (uint32_t)value[0],
                                                             .action = (uint16_t)action,
                                                             .arg = (uint16_t)value[2]};
    r->p->schedule.list = r->p->decisions;
    r->p->schedule.list_len = r->ndecisions;
    return true;
}

/* repeat N ... again: what is between them, N times. */
static bool read_repeat(struct reader *r, bool begins)
{
    struct sim_task_ops *t = &r->p->tasks[r->p->ntasks - 1];
    char *word = begins ? next_word(r) : NULL;
    size_t end = t->n;

    if (!r->p->ntasks || begins == (r->times != 0))
        return wrong(r, "repeat and again come in pairs, inside a task");
    if (begins) {
        r->repeat_from = t->n;
        return number(r, "repeat", word ? word : "", 1, 1000000, &r->times);
    }
    for (; r->times > 1; r->times--)
        for (size_t i = r->repeat_from; i < end; i++) {
            struct sim_op copy = t->ops[i];

            *sim_program_add(r->p, r->p->ntasks - 1, copy.kind) = copy;
        }
    r->times = 0;
    return true;
}

static bool read_line(struct reader *r, char *line)
{
    char *word = strtok_r(line, " \t\r\n", &r->rest), *more;

    if (!word)
        return true;
    if (!strcmp(word, "machine") || !strcmp(word, "watch"))
        return read_fields(r, word);
    if (!strcmp(word, "schedule"))
        return read_schedule(r);
    if (!strcmp(word, "expect"))
        return read_expect(r);
    if (!strcmp(word, "seed")) {
        more = next_word(r);
        return number(r, word, more ? more : "", 0, UINT64_MAX, &r->p->seed);
    }
    if (!strcmp(word, "repeat") || !strcmp(word, "again"))
        return read_repeat(r, word[0] == 'r');
    if (!strcmp(word, "task")) {
        if (r->times)
            return wrong(r, "a repeat is still open");
        if (r->p->ntasks == SIM_PROGRAM_TASKS)
            return wrong(r, "more than %d tasks", SIM_PROGRAM_TASKS);
        r->p->ntasks++;
        return true;
    }
    for (unsigned a = 0; a < SIM_ACTIONS; a++)
        if (!strcmp(word, sim_action_names[a]))
            return read_decision(r, a);
    return read_op(r, word);
}

bool sim_program_read(struct sim_program *p, FILE *in, unsigned *line, char *message, size_t len)
{
    struct reader r = {.p = p, .message = message, .len = len};
    char text[1024], *comment, *more;
    bool good = true;

    sim_program_init(p);
    for (*line = 1; good && fgets(text, sizeof text, in); *line += good) {
        if (!strchr(text, '\n') && !feof(in)) {
            good = wrong(&r, "the line is too long");
            break;
        }
        comment = strchr(text, '#');
        if (comment)
            *comment = 0;
        good = read_line(&r, text);
        more = good ? next_word(&r) : NULL;
        if (more)
            good = wrong(&r, "'%s' is too much", more);
    }
    if (good && r.times)
        good = wrong(&r, "a repeat is still open");
    if (good && !p->ntasks)
        good = wrong(&r, "there is no task");
    if (!good)
        sim_program_free(p);
    return good;
}
