/*
 * litmus_test.c - litmus programs under memory models: what the barriers forbid, and that our own
 * lock-free protocols are right on every machine.
 *
 * tests/litmus/programs/published holds programs whose answers are in the literature, .../protocols
 * our own: each says which functions it models, must be safe as written, and must not be when an
 * order is weakened.  Each answer is computed from axioms for five models (tests/litmus/models.c);
 * for the first two also by a machine with store buffers (machine.c), which must agree.
 */
#include <quire_test.h>

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>

#include "../litmus/execution.h"
#include "../litmus/machine.h"

static struct {
    unsigned programs, questions, wrong;
} asked;

static const char *root(void)
{
    const char *given = getenv("QUIRE_TEST_ROOT");

    return given ? given : ".";
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 16);

    if (!f || !text)
        fail_msg("cannot read %s", path);
    if (fread(text, 1, (1 << 16) - 1, f) == 0)
        fail_msg("%s is empty", path);
    fclose(f);
    return text;
}

/* Every run of blanks becomes one. */
static void squeeze(char *text)
{
    char *out = text;

    for (const char *p = text; *p; p++)
        if (!isspace((unsigned char)*p))
            *out++ = *p;
        else if (out > text && out[-1] != ' ')
            *out++ = ' ';
    *out = 0;
}

/* The code that a program says it models stands in the source; how many such lines. */
static unsigned check_sources(const char *text, const char *name)
{
    unsigned n = 0;

    for (const char *at = text; at; at = strchr(at, '\n')) {
        char line[300], path[500], *code, *source;

        at += *at == '\n';
        snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
        if (strncmp(line, "source ", 7))
            continue;
        code = strstr(line, ": ");
        assert_non_null(code);
        *code = 0;
        snprintf(path, sizeof(path), "%s/%s", root(), line + 7);
        source = read_text(path);
        squeeze(source);
        if (!strstr(source, code + 2)) {
            print_error("%s: not in %s: %s\n", name, line + 7, code + 2);
            asked.wrong++;
        }
        free(source);
        n++;
    }
    return n;
}

static const char *describe(const struct filling *f)
{
    static char text[300];

    text[0] = 0;
    for (unsigned i = 0; i < f->holes; i++) {
        strcat(text, f->hole[i]);
        strcat(text, "=");
        strcat(text, f->text[i]);
        strcat(text, " ");
    }
    return text;
}

/* The models that allow the program's outcome; the machines must find the same outcomes. */
static unsigned allowed(const struct program *p, const char *name)
{
    struct outcomes axioms[MODELS] = {0}, machine = {0};
    unsigned models = 0;

    executions(p, axioms);
    for (unsigned m = 0; m < MODELS; m++) {
        assert_true(axioms[m].n > 0);
        models |= (unsigned)outcomes_match(&axioms[m], p) << m;
    }
    for (enum machine kind = MACHINE_SC; kind <= MACHINE_TSO; kind++) {
        machine_run(p, kind, &machine);
        if (!outcomes_within(&machine, &axioms[kind]) || !outcomes_within(&axioms[kind], &machine))
            fail_msg("%s: under %s the machine finds %u outcomes, the axioms %u", name,
                     model_names[kind], machine.n, axioms[kind].n);
        outcomes_free(&machine);
    }
    machine_run(p, MACHINE_WEAK, &machine);
    if (!outcomes_within(&machine, &axioms[MODEL_RISCV]))
        fail_msg("%s: the weak machine does what RVWMO forbids", name);
    outcomes_free(&machine);
    for (unsigned m = 0; m < MODELS; m++)
        outcomes_free(&axioms[m]);
    return models;
}

/* One file: every filling.  Returns how many of them some model allows; *safe: not the first.  A
 * protocol names its source. */
static unsigned check_file(const char *path, const char *name, bool protocol, bool *safe)
{
    char *text = read_text(path);
    const char *at = text, *why;
    struct filling f;
    unsigned expected, n = 0, reachable = 0;

    while (next_filling(&at, model_names, MODELS, &f, &expected, &why)) {
        struct program p;
        unsigned found;

        if (!program_parse(text, &f, &p, &why))
            fail_msg("%s with %s: %s", name, describe(&f), why);
        found = allowed(&p, name);
        for (unsigned m = 0; m < MODELS; m++)
            if ((found ^ expected) >> m & 1) {
                print_error("%s with %s: %s %s it\n", name, describe(&f), model_names[m],
                            found >> m & 1 ? "allows" : "forbids");
                asked.wrong++;
            }
        if (n++ == 0)
            *safe = !found;
        reachable += found != 0;
        asked.questions++;
    }
    if (why || !n)
        fail_msg("%s: %s", name, why ? why : "nothing is asked");
    if (protocol && !check_sources(text, name))
        fail_msg("%s: names no source", name);
    asked.programs++;
    free(text);
    return reachable;
}

static void check_folder(const char *folder, bool protocols)
{
    char path[500];
    struct dirent *entry;
    DIR *d;

    asked.programs = asked.questions = asked.wrong = 0;
    snprintf(path, sizeof(path), "%s/tests/litmus/programs/%s", root(), folder);
    d = opendir(path);
    if (!d)
        fail_msg("no folder %s", path);
    while ((entry = readdir(d))) {
        bool safe = false;
        unsigned reachable;

        if (!strstr(entry->d_name, ".litmus"))
            continue;
        snprintf(path, sizeof(path), "%s/tests/litmus/programs/%s/%s", root(), folder,
                 entry->d_name);
        reachable = check_file(path, entry->d_name, protocols, &safe);
        if (protocols && (!safe || !reachable))
            fail_msg("%s: %s", entry->d_name, safe ? "nothing is weakened" : "it is not safe");
    }
    closedir(d);
    printf("# %s: %u programs, %u questions\n", folder, asked.programs, asked.questions);
    assert_true(asked.programs >= 10);
    assert_int_equal(asked.wrong, 0);
}

/* proves: LX-59 */
static void published_programs_have_their_published_answers(void **state)
{
    (void)state;
    check_folder("published", false);
}

/* proves: LX-60 */
static void our_protocols_hold_on_every_machine(void **state)
{
    (void)state;
    check_folder("protocols", true);
}

/* ---- The barriers one by one ---- */

enum { NO_FENCE = FENCES };
static const char *const fence_words[] = {"load_load", "store_store", "load_store", "store_load",
                                          ""};

/* The six programs of two threads and two locations with one cycle (Tutorial, section 6), and
 * which pair of accesses each thread has. */
static const struct shape {
    const char *name, *text;
    enum fence pair[2];
} shapes[] = {
    {"SB",
     "init x=0 y=0\nstore x 1|store y 1\n?f|?g\nload r0 y|load r0 x\nexists 0:r0=0 1:r0=0\n",
     {STORE_LOAD, STORE_LOAD}},
    {"MP",
     "init x=0 y=0\nstore x 1|load r0 y\n?f|?g\nstore y 1|load r1 x\nexists 1:r0=1 1:r1=0\n",
     {STORE_STORE, LOAD_LOAD}},
    {"LB",
     "init x=0 y=0\nload r0 x|load r0 y\n?f|?g\nstore y 1|store x 1\nexists 0:r0=1 1:r0=1\n",
     {LOAD_STORE, LOAD_STORE}},
    {"R",
     "init x=0 y=0\nstore x 1|store y 2\n?f|?g\nstore y 1|load r0 x\nexists y=2 1:r0=0\n",
     {STORE_STORE, STORE_LOAD}},
    {"S",
     "init x=0 y=0\nstore x 2|load r0 y\n?f|?g\nstore y 1|store x 1\nexists 1:r0=1 x=2\n",
     {STORE_STORE, LOAD_STORE}},
    {"2+2W",
     "init x=0 y=0\nstore x 1|store y 1\n?f|?g\nstore y 2|store x 2\nexists x=1 y=1\n",
     {STORE_STORE, STORE_STORE}},
};

/* Does a barrier order a pair on a machine?  By the contract, and what its instruction does more. */
static bool covers(enum model m, unsigned fence, enum fence pair)
{
    if (m == MODEL_SC || fence == STORE_LOAD)
        return true;
    if (pair == STORE_LOAD)
        return false;
    if (m == MODEL_TSO || (m == MODEL_POWER && fence != NO_FENCE))
        return true; /* keeps all other pairs; lwsync orders all other pairs */
    if (m == MODEL_ARM && pair != STORE_STORE)
        return fence == LOAD_LOAD || fence == LOAD_STORE; /* both dmb ishld */
    return fence == (unsigned)pair;
}

static bool shape_allowed(enum model m, const struct shape *s, unsigned f, unsigned g)
{
    /* POWER: lwsync does not order a coherence edge before a full barrier elsewhere */
    if (m == MODEL_POWER && !strcmp(s->name, "R"))
        return f != STORE_LOAD || g != STORE_LOAD;
    return !covers(m, f, s->pair[0]) || !covers(m, g, s->pair[1]);
}

static unsigned ask(const char *text, const char *f, const char *g, const char *name)
{
    struct filling filling = {.hole = {"f", "g"}, .holes = 2};
    struct program p;
    const char *why;

    snprintf(filling.text[0], NAME_LEN, "%s", f);
    snprintf(filling.text[1], NAME_LEN, "%s", g);
    if (!program_parse(text, &filling, &p, &why))
        fail_msg("%s: %s", name, why);
    return allowed(&p, name);
}

/* proves: LX-59 */
static void each_barrier_orders_its_pair(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (unsigned f = 0; f <= NO_FENCE; f++)
            for (unsigned g = 0; g <= NO_FENCE; g++) {
                unsigned found =
                    ask(shapes[i].text, fence_words[f], fence_words[g], shapes[i].name);

                for (unsigned m = 0; m < MODELS; m++)
                    if ((found >> m & 1) != shape_allowed((enum model)m, &shapes[i], f, g))
                        fail_msg("%s with '%s' and '%s': %s %s it", shapes[i].name, fence_words[f],
                                 fence_words[g], model_names[m],
                                 found >> m & 1 ? "allows" : "forbids");
            }
}

/* proves: LX-59 */
static void only_store_load_makes_stores_visible_before_loads(void **state)
{
    static const char three[] = "init x=0 y=0\nstore x 1|store y 1\nload_load|load_load\n"
                                "store_store|store_store\nload_store|load_store\n?f|?g\n"
                                "load r0 y|load r0 x\nexists 0:r0=0 1:r0=0\n";
    const unsigned all_but_sc = (1u << MODELS) - 1 - (1u << MODEL_SC);

    (void)state;
    /* not even the three others together, nor with it on one side only */
    assert_int_equal(ask(three, "", "", "SB"), all_but_sc);
    assert_int_equal(ask(three, "store_load", "", "SB"), all_but_sc);
    assert_int_equal(ask(three, "store_load", "store_load", "SB"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_programs_have_their_published_answers),
        cmocka_unit_test(our_protocols_hold_on_every_machine),
        cmocka_unit_test(each_barrier_orders_its_pair),
        cmocka_unit_test(only_store_load_makes_stores_visible_before_loads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
