/*
 * sim_text_test.c - programs of the simulator: what the generator draws is in range and repeatable,
 * and the text format gives back exactly what was written.
 */
#include <quire_test.h>

#include <stdlib.h>

#include "../../tools/sim/args.h"

static char *text_of(const struct sim_program *p)
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    sim_program_write(p, f);
    fclose(f);
    return text;
}

static bool parse(struct sim_program *p, const char *text, unsigned *line, char *message)
{
    FILE *f = fmemopen((void *)text, strlen(text), "r");
    bool good = sim_program_read(p, f, line, message, 256);

    fclose(f);
    return good;
}

static void same_ops(const struct sim_task_ops *a, const struct sim_task_ops *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(a->ops[i].kind, b->ops[i].kind);
        assert_memory_equal(a->ops[i].arg, b->ops[i].arg, sizeof a->ops[i].arg);
    }
}

static void same_schedule(const struct sim_schedule *a, const struct sim_schedule *b)
{
    assert_int_equal(a->strategy, b->strategy);
    assert_int_equal(a->every, b->every);
    assert_int_equal(a->depth, b->depth);
    assert_int_equal(a->expected_points, b->expected_points);
    assert_int_equal(a->list_len, b->list_len);
    for (size_t i = 0; i < a->list_len; i++) {
        assert_int_equal(a->list[i].cpu, b->list[i].cpu);
        assert_int_equal(a->list[i].point, b->list[i].point);
        assert_int_equal(a->list[i].action, b->list[i].action);
        assert_int_equal(a->list[i].arg, b->list[i].arg);
    }
}

/* Member by member: padding may differ. */
static void same_program(const struct sim_program *a, const struct sim_program *b)
{
    const struct sim_machine *m = &a->machine, *n = &b->machine;
    const struct sim_switches *s = &a->switches, *t = &b->switches;

    assert_int_equal(a->seed, b->seed);
    assert_int_equal(m->cpus, n->cpus);
    assert_int_equal(m->nodes, n->nodes);
    assert_int_equal(m->memory, n->memory);
    assert_int_equal(m->heap, n->heap);
    assert_int_equal(m->max_points, n->max_points);
    assert_int_equal(m->interrupt_every, n->interrupt_every);
    assert_int_equal(m->stall_every, n->stall_every);
    assert_int_equal(m->preempt_every, n->preempt_every);
    assert_int_equal(m->wake_early, n->wake_early);
    assert_int_equal(m->ipi_delay, n->ipi_delay);
    assert_int_equal(s->weak, t->weak);
    assert_int_equal(s->races, t->races);
    assert_int_equal(s->pt_cache, t->pt_cache);
    assert_int_equal(s->colours, t->colours);
    assert_int_equal(s->io_ns, t->io_ns);
    assert_int_equal(s->io_fail, t->io_fail);
    assert_int_equal(s->speculate, t->speculate);
    assert_int_equal(s->tlb_entries, t->tlb_entries);
    assert_int_equal(s->groups, t->groups);
    same_schedule(&a->schedule, &b->schedule);
    assert_string_equal(a->expect, b->expect);
    assert_int_equal(a->ntasks, b->ntasks);
    for (unsigned i = 0; i < a->ntasks; i++)
        same_ops(&a->tasks[i], &b->tasks[i]);
}

/* Every third program with a list of decisions, every fifth with an expectation. */
static void draw(struct sim_program *p, unsigned i)
{
    static const struct sim_wishes any;
    struct sim_decision list[50];

    sim_generate(p, test_random(), &any);
    if (i % 5 == 0)
        strcpy(p->expect, "use-after-free");
    if (i % 3)
        return;
    for (unsigned k = 0; k < 50; k++)
        list[k] = (struct sim_decision){.point = test_random() >> (k % 60),
                                        .cpu = test_random() % SIM_MAX_CPUS,
                                        .action = test_random() % SIM_ACTIONS,
                                        .arg = (uint16_t)test_random()};
    sim_program_list(p, list, 50);
}

static void round_trip(void **state)
{
    char message[256];
    unsigned line;

    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        struct sim_program p, q;
        char *text, *again;

        draw(&p, i);
        text = text_of(&p);
        if (!parse(&q, text, &line, message))
            fail_msg("line %u: %s", line, message);
        same_program(&p, &q);
        again = text_of(&q);
        assert_string_equal(text, again);
        free(text);
        free(again);
        sim_program_free(&p);
        sim_program_free(&q);
    }
}

static void in_range(const struct sim_program *p)
{
    unsigned misuses = 0;

    for (unsigned t = 0; t < p->ntasks; t++)
        for (size_t i = 0; i < p->tasks[t].n; i++) {
            const struct sim_op *op = &p->tasks[t].ops[i];
            const struct sim_op_info *info = &sim_op_info[op->kind];

            assert_true(p->switches.groups >> info->group & 1);
            assert_true(info->weight || op->kind == SIM_OP_misuse);
            misuses += op->kind == SIM_OP_misuse;
            for (unsigned a = 0; a < info->nargs; a++) {
                assert_true(op->arg[a] >= sim_arg_range[info->arg_kinds[a]].min);
                assert_true(op->arg[a] <= sim_arg_range[info->arg_kinds[a]].max);
            }
        }
    assert_int_equal(misuses, p->switches.groups >> SIM_GROUP_MISUSE & 1);
}

/* The same seed, the same program; wishes are granted; in 400 programs every operation that can be
 * drawn is. */
static void generator(void **state)
{
    bool seen[SIM_OP_KINDS] = {false};

    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        struct sim_wishes w = {.cpus = i % 4 ? 0 : 1 + i % 64, .ops = i % 7 ? 0 : 5};
        uint64_t seed = test_random();
        struct sim_program p, q;

        if (i % 3 == 0)
            w.groups = 1u << test_random() % SIM_GROUP_CONTROL;
        sim_generate(&p, seed, &w);
        sim_generate(&q, seed, &w);
        same_program(&p, &q);
        in_range(&p);
        assert_in_range(p.machine.cpus, 1, SIM_MAX_CPUS);
        assert_in_range(p.ntasks, 1, SIM_PROGRAM_TASKS);
        assert_true(!w.cpus || p.machine.cpus == w.cpus);
        if (w.groups >> SIM_GROUP_MISUSE & 1) /* of the heap, which is then in use */
            w.groups |= 1u << SIM_GROUP_HEAP;
        assert_true(!w.groups || p.switches.groups == w.groups);
        assert_true(!w.ops || p.tasks[0].n >= w.ops);
        for (size_t k = 0; k < p.tasks[0].n; k++)
            seen[p.tasks[0].ops[k].kind] = true;
        sim_program_free(&p);
        sim_program_free(&q);
    }
    for (unsigned k = 0; k < SIM_OP_KINDS; k++)
        if (sim_op_info[k].weight && !seen[k])
            fail_msg("%s is never drawn", sim_op_info[k].name);
}

/* What a scenario leaves out has its usual value. */
static void defaults(void **state)
{
    struct sim_program p;
    char message[256];
    unsigned line;

    (void)state;
    assert_true(parse(&p,
                      "# a scenario\n\nmachine cpus=3   # the rest as usual\n"
                      "expect finding=stale-tlb\ntask\n  mmap at=7\n\ttask\nhog\n",
                      &line, message));
    assert_int_equal(p.machine.cpus, 3);
    assert_int_equal(p.machine.memory, 32 << 20);
    assert_int_equal(p.ntasks, 2);
    assert_string_equal(p.expect, "stale-tlb");
    assert_int_equal(p.tasks[0].ops[0].kind, SIM_OP_mmap);
    assert_int_equal(p.tasks[0].ops[0].arg[0], 7);
    assert_int_equal(p.tasks[0].ops[0].arg[1], 1);
    assert_int_equal(p.tasks[1].ops[0].kind, SIM_OP_hog);
    sim_program_free(&p);
}

static void errors(void **state)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *message;
    } wrong[] = {
        {"task\n  mnap at=3\n", 2, "'mnap' is neither a line nor an operation"},
        {"task\n  mmap at=400\n", 2, "at: '400' is not a number from 0 to 399"},
        {"task\n  mmap at=-1\n", 2, "at: '-1' is not a number from 0 to 399"},
        {"task\n  mmap where=3\n", 2, "mmap has no 'where'"},
        {"task\n  mmap prot=rwx\n", 2, "prot: 'rwx' is none of its words"},
        {"task\n  mmap 3\n", 2, "'3' is not of the form name=value"},
        {"mmap at=3\n", 1, "mmap: an operation before the first task"},
        {"\nmachine cpus=65\n", 2, "cpus: '65' is not a number from 1 to 64"},
        {"machine cpu=2\n", 1, "machine has no 'cpu'"},
        {"watch weak=2\n", 1, "weak: '2' is not a number from 0 to 1"},
        {"watch groups=heap,stack\n", 1, "groups: 'heap,stack' names a group that is none"},
        {"schedule lazy\n", 1, "'lazy' is no schedule: random, priority or listed"},
        {"schedule random depth=3\n", 1, "random has no 'depth'"},
        {"switch cpu=0 point=1 arg=1\n", 1, "switch: decisions belong to schedule listed"},
        {"schedule listed\nswitch cpu=64\n", 2, "cpu: '64' is not a number from 0 to 63"},
        {"schedule listed\nstall at=1\n", 2, "stall has no 'at'"},
        {"expect stale-tlb\n", 1, "expect wants finding=KIND"},
        {"seed 1 2\n", 1, "'2' is too much"},
        {"seed 18446744073709551616\n", 1,
         "seed: '18446744073709551616' is not a number from 0 to 18446744073709551615"},
        {"# nothing\n", 2, "there is no task"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct sim_program p;
        char message[256];
        unsigned line;

        assert_false(parse(&p, wrong[i].text, &line, message));
        assert_string_equal(message, wrong[i].message);
        assert_int_equal(line, wrong[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(generator),
        cmocka_unit_test(defaults),
        cmocka_unit_test(errors),
    };

    test_seed("sim_text_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
