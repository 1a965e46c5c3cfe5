/*
 * litmus_prop.c - what holds of every program under every memory model, on random ones.
 *
 * The axioms (execution.h) and the machines (machine.h) have only the program in common, so that
 * their agreement says something about both.
 */
#include <quire_test.h>

#include <stdbool.h>

#include "../litmus/execution.h"
#include "../litmus/machine.h"

enum { LOCATIONS = 2, REGISTERS = 3 };
enum { SINGLE = 4000, DOUBLE = 3000, FENCED = 1000 }; /* programs; 10 s with sanitizers */

static struct instr random_access(bool deps)
{
    struct instr in = {.addr_reg = -1, .data_reg = -1, .reg = -1, .test.reg = -1};

    in.op = (enum op)test_random_below(OP_CAS + 1);
    if (test_random_below(3))
        in.op = test_random_below(2) ? OP_LOAD : OP_STORE; /* mostly */
    in.loc = (int8_t)test_random_below(LOCATIONS);
    in.value = (struct operand){-1, (uint8_t)(1 + test_random_below(3))};
    in.expected = (struct operand){-1, (uint8_t)test_random_below(2)};
    if (in.op != OP_STORE)
        in.reg = (int8_t)test_random_below(REGISTERS);
    if (in.op != OP_LOAD) {
        in.release = !test_random_below(4);
        if (!test_random_below(4))
            in.value.reg = (int8_t)test_random_below(REGISTERS);
    }
    if (in.op != OP_STORE)
        in.acquire = !test_random_below(4);
    if (deps && !test_random_below(6))
        in.addr_reg = (int8_t)test_random_below(REGISTERS);
    if (deps && !test_random_below(6)) {
        in.guarded = true;
        in.test = (struct test){(int8_t)test_random_below(REGISTERS), test_random_below(2), 0};
    }
    return in;
}

static struct instr fence(enum fence f)
{
    return (struct instr){.op = OP_FENCE,
                          .fence = f,
                          .reg = -1,
                          .loc = -1,
                          .addr_reg = -1,
                          .data_reg = -1,
                          .value.reg = -1,
                          .expected.reg = -1,
                          .test.reg = -1};
}

static struct program random_program(unsigned threads, unsigned length, bool fences)
{
    struct program p = {.threads = threads, .locs = LOCATIONS};

    for (unsigned t = 0; t < threads; t++)
        for (unsigned i = 0; i < length; i++)
            p.code[t][p.count[t]++] = fences && !test_random_below(4)
                                          ? fence((enum fence)test_random_below(FENCES))
                                          : random_access(true);
    return p;
}

/* A full barrier between any two accesses of each thread. */
static struct program fenced(const struct program *p)
{
    struct program q = *p;

    for (unsigned t = 0; t < p->threads; t++) {
        q.count[t] = 0;
        for (unsigned i = 0; i < p->count[t]; i++) {
            q.code[t][q.count[t]++] = p->code[t][i];
            q.code[t][q.count[t]++] = fence(STORE_LOAD);
        }
    }
    return q;
}

static uint8_t operand(const struct outcome *o, unsigned t, const struct operand *v)
{
    return v->reg < 0 ? v->value : o->reg[t][v->reg];
}

/* What C says: one instruction after the other. */
static struct outcome interpret(const struct program *p, unsigned t)
{
    struct outcome o = {0};

    memcpy(o.mem, p->init, sizeof(o.mem));
    for (unsigned i = 0; i < p->count[t]; i++) {
        const struct instr *in = &p->code[t][i];
        uint8_t found, v;

        if (!is_memory(in) ||
            (in->guarded && (o.reg[t][in->test.reg] == in->test.value) != in->test.equal))
            continue;
        found = o.mem[in->loc];
        v = operand(&o, t, &in->value);
        if (in->op == OP_STORE)
            o.mem[in->loc] = v;
        else if (is_rmw(in) && (in->op != OP_CAS || found == operand(&o, t, &in->expected)))
            o.mem[in->loc] = rmw_value(in, found, v);
        if (in->reg >= 0)
            o.reg[t][in->reg] = found;
    }
    return o;
}

static void show(const struct program *p)
{
    static const char *const ops[] = {"load", "store", "xchg", "add",    "or",
                                      "and",  "cas",   "-",    "require"};
    static const char *const fences[] = {"load_load", "store_store", "load_store", "store_load"};

    for (unsigned t = 0; t < p->threads; t++)
        for (unsigned i = 0; i < p->count[t]; i++) {
            const struct instr *in = &p->code[t][i];

            if (in->op == OP_FENCE)
                print_error("%u: %s\n", t, fences[in->fence]);
            else
                print_error("%u: %s%s%s r%d loc%d value %d/r%d expected %d addr r%d if r%d%s%d\n",
                            t, ops[in->op], in->acquire ? ".acq" : "", in->release ? ".rel" : "",
                            in->reg, in->loc, in->value.value, in->value.reg, in->expected.value,
                            in->addr_reg, in->test.reg,
                            in->test.equal ? "=" : "!=", in->test.value);
        }
}

static void demand(bool holds, const char *what, const struct program *p)
{
    if (holds)
        return;
    show(p);
    fail_msg("%s", what);
}

struct answers {
    struct outcomes axioms[MODELS], machine[MACHINES];
};

static void answer(const struct program *p, struct answers *a)
{
    memset(a, 0, sizeof(*a));
    executions(p, a->axioms);
    for (unsigned k = 0; k < MACHINES; k++)
        machine_run(p, (enum machine)k, &a->machine[k]);
}

static void forget(struct answers *a)
{
    for (unsigned m = 0; m < MODELS; m++)
        outcomes_free(&a->axioms[m]);
    for (unsigned k = 0; k < MACHINES; k++)
        outcomes_free(&a->machine[k]);
}

static bool same(const struct outcomes *a, const struct outcomes *b)
{
    return outcomes_within(a, b) && outcomes_within(b, a);
}

/* proves: LX-60 */
static void a_single_thread_runs_as_written(void **state)
{
    (void)state;
    for (int n = 0; n < SINGLE; n++) {
        struct program p = random_program(1, 1 + (unsigned)test_random_below(7), true);
        struct outcome o = interpret(&p, 0);
        struct outcomes only = {&o, 1, 1};
        struct answers a;

        answer(&p, &a);
        for (unsigned m = 0; m < MODELS; m++)
            demand(same(&a.axioms[m], &only), model_names[m], &p);
        for (unsigned k = 0; k < MACHINES; k++)
            demand(same(&a.machine[k], &only), "machine", &p);
        forget(&a);
    }
}

static bool has_load_fence(const struct program *p)
{
    for (unsigned t = 0; t < p->threads; t++)
        for (unsigned i = 0; i < p->count[t]; i++)
            if (p->code[t][i].op == OP_FENCE &&
                (p->code[t][i].fence == LOAD_LOAD || p->code[t][i].fence == LOAD_STORE))
                return true;
    return false;
}

/* proves: LX-60 */
static void stronger_machines_do_less(void **state)
{
    unsigned more[MODELS] = {0};

    (void)state;
    for (int n = 0; n < DOUBLE; n++) {
        struct program p =
            random_program(2, 2 + (unsigned)test_random_below(3), test_random_below(2));
        struct answers a;

        answer(&p, &a);
        demand(same(&a.machine[MACHINE_SC], &a.axioms[MODEL_SC]), "sc: machine and axioms", &p);
        demand(same(&a.machine[MACHINE_TSO], &a.axioms[MODEL_TSO]), "tso: machine and axioms", &p);
        demand(outcomes_within(&a.axioms[MODEL_SC], &a.axioms[MODEL_TSO]), "sc in tso", &p);
        for (unsigned m = MODEL_ARM; m < MODELS; m++)
            demand(outcomes_within(&a.axioms[MODEL_TSO], &a.axioms[m]), model_names[m], &p);
        demand(outcomes_within(&a.machine[MACHINE_TSO], &a.machine[MACHINE_WEAK]),
               "tso in the weak machine", &p);
        demand(outcomes_within(&a.machine[MACHINE_WEAK], &a.axioms[MODEL_RISCV]),
               "the weak machine in riscv", &p);
        if (!has_load_fence(&p)) /* dmb ishld orders more than the machine's load_load */
            demand(outcomes_within(&a.machine[MACHINE_WEAK], &a.axioms[MODEL_ARM]),
                   "the weak machine in arm", &p);
        for (unsigned m = 0; m < MODELS; m++)
            more[m] += a.axioms[m].n > a.axioms[MODEL_SC].n;
        forget(&a);
    }
    /* else the inclusions say nothing */
    for (unsigned m = MODEL_TSO; m < MODELS; m++) {
        printf("# %s: %u of %d programs have outcomes that sc has not\n", model_names[m], more[m],
               DOUBLE);
        assert_true(more[m] > 10);
    }
}

/* proves: LX-60 */
static void full_barriers_make_every_machine_sequential(void **state)
{
    (void)state;
    for (int n = 0; n < FENCED; n++) {
        struct program p = random_program(2 + (unsigned)test_random_below(2), 2, false), q;
        struct answers plain, a;

        if (p.threads == 2)
            p = random_program(2, 2 + (unsigned)test_random_below(3), false);
        q = fenced(&p);
        answer(&p, &plain);
        answer(&q, &a);
        for (unsigned m = 0; m < MODELS; m++)
            demand(same(&a.axioms[m], &plain.axioms[MODEL_SC]), model_names[m], &q);
        for (unsigned k = 0; k < MACHINES; k++)
            demand(same(&a.machine[k], &plain.axioms[MODEL_SC]), "machine", &q);
        forget(&plain);
        forget(&a);
    }
}

/* The program with one thing stronger: a barrier put in, or an access made an acquire, a release. */
static struct program strengthened(const struct program *p)
{
    struct program q = *p;
    unsigned t = (unsigned)test_random_below(p->threads);
    unsigned i = (unsigned)test_random_below(p->count[t]);
    struct instr *in = &q.code[t][i];

    if (is_memory(in) && test_random_below(2)) {
        in->acquire |= in->op != OP_STORE;
        in->release |= in->op != OP_LOAD;
        return q;
    }
    memmove(in + 1, in, (p->count[t] - i) * sizeof(*in));
    *in = fence((enum fence)test_random_below(FENCES));
    q.count[t]++;
    return q;
}

static void a_barrier_never_allows_more(void **state)
{
    unsigned less = 0;

    (void)state;
    for (int n = 0; n < DOUBLE; n++) {
        struct program p = random_program(2, 2 + (unsigned)test_random_below(3), true);
        struct program q = strengthened(&p);
        struct answers a, b;

        answer(&p, &a);
        answer(&q, &b);
        for (unsigned m = 0; m < MODELS; m++) {
            demand(outcomes_within(&b.axioms[m], &a.axioms[m]), model_names[m], &q);
            less += b.axioms[m].n < a.axioms[m].n;
        }
        for (unsigned k = 0; k < MACHINES; k++)
            demand(outcomes_within(&b.machine[k], &a.machine[k]), "machine", &q);
        demand(same(&b.axioms[MODEL_SC], &a.axioms[MODEL_SC]), "sc needs no barrier", &q);
        forget(&a);
        forget(&b);
    }
    assert_true(less); /* some, one in a hundred, made a difference */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_thread_runs_as_written),
        cmocka_unit_test(stronger_machines_do_less),
        cmocka_unit_test(full_barriers_make_every_machine_sequential),
        cmocka_unit_test(a_barrier_never_allows_more),
    };

    test_seed("litmus_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
