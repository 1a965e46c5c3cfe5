/*
 * mail_model_test.c - every interleaving of CPUs that post and fetch sheaves (slab/mail.h): none is lost, none is fetched twice.
 *
 * The true source runs on fibres, one a CPU, that stop at each of its atomic operations.  All orders of their steps are
 * gone through, depth first: each path is run from the start, along the choices made so far, and given up where it comes
 * to a state in which another path has been.  A state is the mailbox, what each CPU has done, and the bytes of each
 * fibre's stack, which has its registers too: so two that look alike go on alike.
 *
 * The programs are all that three CPUs can do with two calls each, from a mailbox with one sheaf
 * and from one with room for one; and one CPU that is slow among two that fetch and post in the same cell time
 * and again, which is when a word without an id would be what it was.  One step after the other: that other CPUs may see
 * steps late is tests/litmus' part (mail-post.litmus).
 */
#include <quire_test.h>

#include <quire_port.h>

#undef QPORT_POINT
#define QPORT_POINT(kind, ptr) stop_here()
static void stop_here(void);

#include <slab/mail.h>

#include <sanitizer/asan_interface.h>

#include "fibre.h"

enum { CPUS = 3, CALLS = 4, SHEAVES = QI_MAIL_CELLS + CPUS * CALLS, MOST_STEPS = 400 };
enum { SEEN = 1 << 21, TOP = 512 };

enum call { END, POST, FETCH };

struct cpu {
    enum call calls[CALLS];
    unsigned done;  /* of its calls */
    bool over;      /* all of them */
    unsigned next;  /* number of the sheaf that it posts next */
    bool was_empty; /* at some time since its call of fetch began */
    bool was_full;  /* no cell was free, the same for post */
    struct sim_fibre fibre, fresh;
    char top[TOP]; /* of the stack, before the first step */
};

/* What is with whom: a posted sheaf is in the mailbox until it is fetched. */
enum place { NOWHERE, POSTED, FETCHED };

static struct cpu cpus[CPUS];
static struct sim_fibre checker;
static struct cpu *running;
static struct qi_mail mail;
static enum place places[SHEAVES];
static uint64_t *seen; /* hashes; 0: none */
static size_t nseen;

static struct qi_sheaf *sheaf(unsigned n) { return (struct qi_sheaf *)(uintptr_t)(64 * (n + 1)); }

/* ---- a CPU ---- */

static void stop_here(void)
{
    if (running)
        sim_fibre_switch(&running->fibre, &checker);
}

static void post_one(struct cpu *c)
{
    unsigned n = c->next++;

    places[n] = POSTED; /* before: somebody may fetch it at once */
    c->was_full = (mail.word & 0xff) == 0xff;
    if (!qi_mail_post(&mail, sheaf(n))) {
        assert_true(c->was_full);
        assert_int_equal(places[n], POSTED);
        places[n] = NOWHERE;
    }
}

static void fetched(const struct qi_sheaf *s)
{
    uintptr_t n = (uintptr_t)s / 64 - 1;

    assert_true(n < SHEAVES);
    assert_int_equal(places[n], POSTED); /* not twice, and none that nobody has posted */
    places[n] = FETCHED;
}

static void fetch_one(struct cpu *c)
{
    struct qi_sheaf *s;

    c->was_empty = !(mail.word >> 8 & 0xff);
    s = qi_mail_fetch(&mail);
    if (s)
        fetched(s);
    else
        assert_true(c->was_empty);
}

static void live(void *arg)
{
    struct cpu *c = arg;

    for (; c->done < CALLS && c->calls[c->done] != END; c->done++)
        if (c->calls[c->done] == POST)
            post_one(c);
        else
            fetch_one(c);
    c->over = true;
    for (;;)
        stop_here();
}

/* ---- states ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* The stack of another, whatever the sanitizer thinks of its frames. */
__attribute__((no_sanitize("address"), noinline)) static uint64_t
hash_words(uint64_t h, const volatile uint64_t *from, const volatile uint64_t *to)
{
    for (; from < to; from++) {
        h = (h ^ *from) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

static const uint64_t *stack_pointer(const struct sim_fibre *f)
{
#if defined(__x86_64__)
    return f->sp;
#else
    /* more than it needs: what lies below its stack tells states apart that are one */
    return (const uint64_t *)(f->stack + SIM_STACK_BYTES - 4096);
#endif
}

static uint64_t hash_state(void)
{
    uint64_t h = hash_words(1, (const uint64_t *)&mail, (const uint64_t *)(&mail + 1));

    for (unsigned i = 0; i < SHEAVES; i++)
        h = mix(h, places[i]);
    for (unsigned i = 0; i < CPUS; i++) {
        struct cpu *c = &cpus[i];

        h = mix(h, c->done | c->over << 8 | c->next << 9 | c->was_empty << 20 | c->was_full << 21);
        if (!c->over)
            h = hash_words(h, stack_pointer(&c->fibre),
                           (uint64_t *)(c->fibre.stack + SIM_STACK_BYTES));
    }
    return h ? h : 1;
}

/* False: it was seen before. */
static bool is_new(uint64_t h)
{
    size_t at = h % SEEN;

    while (seen[at] && seen[at] != h)
        at = (at + 1) % SEEN;
    if (seen[at])
        return false;
    seen[at] = h;
    assert_true(++nseen < SEEN / 2);
    return true;
}

/* ---- a path ---- */

__attribute__((no_sanitize("address"), noinline)) static void copy_top(char *to, const char *from)
{
    for (volatile unsigned i = 0; i < TOP; i++)
        to[i] = from[i];
}

static void make_fibres(void)
{
    for (unsigned i = 0; i < CPUS; i++) {
        struct cpu *c = &cpus[i];

        sim_fibre_init(&c->fibre, i, live, c);
        c->fresh = c->fibre;
        copy_top(c->top, c->fibre.stack + SIM_STACK_BYTES - TOP);
    }
}

/* Before the first step, with so many sheaves in the mailbox. */
static void begin(unsigned posted)
{
    running = NULL;
    mail = (struct qi_mail){0};
    memset(places, 0, sizeof places);
    for (unsigned n = 0; n < posted; n++) {
        assert_true(qi_mail_post(&mail, sheaf(n)));
        places[n] = POSTED;
    }
    for (unsigned i = 0; i < CPUS; i++) {
        struct cpu *c = &cpus[i];

        c->done = 0;
        c->over = c->was_empty = c->was_full = false;
        c->next = QI_MAIL_CELLS + i * CALLS;
        c->fibre = c->fresh;
        ASAN_UNPOISON_MEMORY_REGION(c->fibre.stack, SIM_STACK_BYTES);
        copy_top(c->fibre.stack + SIM_STACK_BYTES - TOP, c->top);
    }
}

static void step(struct cpu *c)
{
    uint64_t before = mail.word;

    running = c;
    sim_fibre_switch(&checker, &c->fibre);
    running = NULL;
    assert_int_equal(mail.word >> 8 & ~mail.word & 0xff, 0); /* M1 */
    if (mail.word != before) {                               /* M2 */
        assert_int_not_equal(mail.word >> 16, before >> 16);
        assert_int_not_equal(mail.word >> 16, 0);
    }
    for (unsigned i = 0; i < CPUS; i++) {
        cpus[i].was_empty |= !(mail.word >> 8 & 0xff);
        cpus[i].was_full |= (mail.word & 0xff) == 0xff;
    }
}

/* Whatever was posted has been fetched, or can be now. */
static void look_at_the_end(void)
{
    struct qi_sheaf *s;

    assert_int_equal(mail.word >> 8 & 0xff, mail.word & 0xff);
    while ((s = qi_mail_fetch(&mail)))
        fetched(s);
    assert_int_equal(mail.word & 0xffff, 0);
    for (unsigned n = 0; n < SHEAVES; n++)
        assert_int_not_equal(places[n], POSTED);
}

/* A choice of who goes on, and who else could. */
struct choice {
    uint8_t cpu, others;
};

static unsigned still_going(void)
{
    unsigned who = 0;

    for (unsigned i = 0; i < CPUS; i++)
        who |= (unsigned)!cpus[i].over << i;
    return who;
}

static void choose(struct choice *at, unsigned from)
{
    *at = (struct choice){(uint8_t)qi_lowest_bit(from), (uint8_t)(from & (from - 1))};
}

/* All orders of steps of the calls that the CPUs have. */
static void explore(unsigned posted)
{
    static struct choice path[MOST_STEPS];
    unsigned depth = 0;

    memset(seen, 0, SEEN * sizeof *seen);
    nseen = 0;
    for (;;) {
        begin(posted);
        for (unsigned i = 0; i < depth; i++)
            step(&cpus[path[i].cpu]);
        while (still_going() && is_new(hash_state())) {
            assert_true(depth < MOST_STEPS);
            choose(&path[depth], still_going());
            step(&cpus[path[depth++].cpu]);
        }
        if (!still_going())
            look_at_the_end();
        while (depth && !path[depth - 1].others)
            depth--;
        if (!depth)
            return;
        choose(&path[depth - 1], path[depth - 1].others);
    }
}

static void calls(unsigned cpu, enum call a, enum call b, enum call c, enum call d)
{
    const enum call all[CALLS] = {a, b, c, d};

    memcpy(cpus[cpu].calls, all, sizeof all);
}

static void two_calls(unsigned cpu, unsigned which)
{
    calls(cpu, which & 1 ? FETCH : POST, which & 2 ? FETCH : POST, END, END);
}

/* proves: AS-32 */
static void no_sheaf_is_lost_or_doubled(void **state)
{
    size_t all = 0;

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        unsigned a = i & 3, b = i >> 2 & 3, c = i >> 4;

        if (a > b || b > c) /* the same with other names */
            continue;
        two_calls(0, a);
        two_calls(1, b);
        two_calls(2, c);
        explore(1);
        all += nseen;
        explore(QI_MAIL_CELLS - 1);
        all += nseen;
    }
    print_message("%zu states\n", all);
}

/* One fetches, slowly, while the others fetch and post in the same cell.
 * proves: AS-32 */
static void a_slow_one_is_not_deceived(void **state)
{
    (void)state;
    for (unsigned posted = 0; posted < 2; posted++) {
        calls(0, FETCH, END, END, END);
        calls(1, FETCH, POST, FETCH, POST);
        calls(2, POST, FETCH, END, END);
        explore(posted);
        calls(0, POST, END, END, END);
        explore(posted);
    }
}

static int setup(void **state)
{
    (void)state;
    seen = calloc(SEEN, sizeof *seen);
    assert_non_null(seen);
    make_fibres();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    running = NULL;
    free(seen);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_sheaf_is_lost_or_doubled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_one_is_not_deceived, setup, teardown),
    };

    return cmocka_run_group_tests_name("mail_model_test", tests, NULL, NULL);
}
