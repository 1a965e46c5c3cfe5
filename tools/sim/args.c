/*
 * args.c - operations and their arguments as tables, and programs as values.
 */
#include "args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
const struct sim_op_info sim_op_info[SIM_OP_KINDS] = {
#define A(name, kind) #name,
#define X(op, group, weight, args) [SIM_OP_##op].arg_names = {args},
    SIM_OPS(X)
#undef X
#undef A
#define A(name, kind) SIM_ARG_##kind,
#define X(op, group, weight, args) [SIM_OP_##op].arg_kinds = {args},
    SIM_OPS(X)
#undef X
#undef A
#define A(name, kind) +1
#define X(op, g, w, args) \
    [SIM_OP_##op].name = #op, [SIM_OP_##op].group = SIM_GROUP_##g, \
    [SIM_OP_##op].weight = w, [SIM_OP_##op].nargs = 0 args,
    SIM_OPS(X)
#undef X
#undef A
};
/* clang-format on */

static const struct sim_word gfp_words[] = {
    {"kernel", 0}, {"atomic", 1}, {"movable", 2}, {"zero", 3}, {"dma", 4}, {"dma32", 5}, {NULL, 0}};
static const struct sim_word prot_words[] = {
    {"rw", 0}, {"r", 2}, {"none", 3}, {"rx", 4}, {NULL, 0}};
static const struct sim_word backing_words[] = {
    {"anon", 0}, {"shared", 1}, {"file", 2}, {"private-file", 3}, {"private-shared", 4}, {NULL, 0}};
/* The numbers are those of Linux.  Only what the model of a space knows. */
static const struct sim_word advice_words[] = {
    {"normal", 0}, {"random", 1},    {"sequential", 2},  {"willneed", 3}, {"dontneed", 4},
    {"free", 8},   {"hugepage", 14}, {"nohugepage", 15}, {NULL, 0}};

const struct sim_word sim_misuse_words[] = {{"overflow", SIM_MISUSE_OVERFLOW},
                                            {"underflow", SIM_MISUSE_UNDERFLOW},
                                            {"late_write", SIM_MISUSE_LATE_WRITE},
                                            {"twice", SIM_MISUSE_TWICE},
                                            {"middle", SIM_MISUSE_MIDDLE},
                                            {"foreign", SIM_MISUSE_FOREIGN},
                                            {"frame", SIM_MISUSE_FRAME},
                                            {"wrong_cache", SIM_MISUSE_WRONG_CACHE},
                                            {NULL, 0}};

const struct sim_arg_range sim_arg_range[SIM_ARG_MISUSE + 1] = {
    [SIM_ARG_SLOT] = {0, SIM_SLOTS - 1, 0, NULL},
    [SIM_ARG_BOX] = {0, SIM_BOXES - 1, 0, NULL},
    [SIM_ARG_ORDER] = {0, QUIRE_MAX_ORDER, 0, NULL},
    [SIM_ARG_GFP] = {0, 5, 0, gfp_words},
    [SIM_ARG_COUNT] = {1, 64, 1, NULL},
    [SIM_ARG_CACHE] = {0, 3, 0, NULL},
    [SIM_ARG_BYTES] = {1, 32768, 1, NULL},
    [SIM_ARG_PAGE] = {0, SIM_REGION_PAGES - 1, 0, NULL},
    [SIM_ARG_PAGES] = {1, SIM_REGION_PAGES, 1, NULL},
    [SIM_ARG_PROT] = {0, 4, 0, prot_words},
    [SIM_ARG_BACKING] = {0, 4, 0, backing_words},
    [SIM_ARG_FLAGS] = {0, 7, 0, NULL},
    [SIM_ARG_ADVICE] = {0, 15, 4, advice_words},
    [SIM_ARG_CHILD] = {0, SIM_CHILDREN - 1, 0, NULL},
    [SIM_ARG_NS] = {0, UINT32_MAX, 1000, NULL},
    [SIM_ARG_EVENT] = {0, SIM_EVENTS - 1, 0, NULL},
    [SIM_ARG_MISUSE] = {0, SIM_MISUSES - 1, 0, sim_misuse_words},
};

const char *const sim_group_names[SIM_GROUPS] = {"frames",   "heap",   "kva",    "space",
                                                 "object",   "fork",   "huge",   "pressure",
                                                 "failures", "misuse", "control"};

unsigned sim_groups_parse(const char *names)
{
    unsigned groups = 0;

    if (!strcmp(names, "all"))
        return SIM_DRAWN_GROUPS;
    for (;;) {
        size_t len = strcspn(names, ",");
        unsigned g = 0;

        while (g < SIM_GROUPS &&
               (strlen(sim_group_names[g]) != len || strncmp(sim_group_names[g], names, len)))
            g++;
        if (g == SIM_GROUPS)
            return 0;
        groups |= 1u << g;
        if (!names[len])
            return groups;
        names += len + 1;
    }
}

bool sim_number_parse(const char *text, uint64_t *value)
{
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return !*end && !errno;
}

void *sim_allocate(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    if (!p) {
        perror("quire-sim: no memory for a program");
        exit(2);
    }
    return p;
}

void sim_program_init(struct sim_program *p)
{
    *p = (struct sim_program){
        .seed = 1,
        .machine = {.cpus = 2, .nodes = 1, .memory = 32u << 20, .max_points = 20000000},
        .switches = {.races = true, .tlb_entries = 64, .groups = SIM_DRAWN_GROUPS},
        .schedule = {.strategy = SIM_STRATEGY_RANDOM, .every = 4},
    };
}

void sim_program_free(struct sim_program *p)
{
    for (unsigned t = 0; t < p->ntasks; t++)
        free(p->tasks[t].ops);
    free(p->decisions);
    *p = (struct sim_program){0};
}

struct sim_op *sim_program_add(struct sim_program *p, unsigned task, enum sim_op_kind kind)
{
    struct sim_task_ops *t = &p->tasks[task];

    if (t->n == t->room) {
        struct sim_op *more = sim_allocate((t->room ? 2 * t->room : 32) * sizeof *more);

        if (t->n)
            memcpy(more, t->ops, t->n * sizeof *more);
        free(t->ops);
        t->ops = more;
        t->room = t->room ? 2 * t->room : 32;
    }
    t->ops[t->n] = (struct sim_op){.kind = kind};
    return &t->ops[t->n++];
}

void sim_program_list(struct sim_program *p, const struct sim_decision *list, size_t n)
{
    struct sim_decision *copy = sim_allocate(n * sizeof *copy);

    if (n)
        memcpy(copy, list, n * sizeof *copy);
    free(p->decisions);
    p->decisions = copy;
    p->schedule =
        (struct sim_schedule){.strategy = SIM_STRATEGY_LISTED, .list = p->decisions, .list_len = n};
}

void sim_program_copy(struct sim_program *to, const struct sim_program *from)
{
    *to = *from;
    to->decisions = NULL;
    if (from->schedule.strategy == SIM_STRATEGY_LISTED)
        sim_program_list(to, from->decisions, from->schedule.list_len);
    for (unsigned t = 0; t < to->ntasks; t++) {
        struct sim_task_ops *ops = &to->tasks[t];

        ops->ops = sim_allocate(ops->n * sizeof *ops->ops);
        ops->room = ops->n;
        if (ops->n)
            memcpy(ops->ops, from->tasks[t].ops, ops->n * sizeof *ops->ops);
    }
}

size_t sim_program_ops(const struct sim_program *p)
{
    size_t n = 0;

    for (unsigned t = 0; t < p->ntasks; t++)
        n += p->tasks[t].n;
    return n;
}
