/*
 * sim_weak_test.c - litmus tests of the monitor's weakly ordered loads: what C11 allows and the model
 * claims to show is seen, what C11 forbids never.
 *
 * A program is a list of operations, each of a CPU; a run takes the CPUs' next operations in random
 * order.  The results of its loads are the outcome.  Names as in Alglave, Maranget, Tautschnig,
 * "Herding cats", TOPLAS 2014.
 */
#include <sim_fake.h>

#include <quire/frame.h>
#include <sys/mman.h>

#include "monitor.h"
#include "sim_subject.h"

enum { MEMORY = 64 << 20, RUNS = 20000, LOADS = 6, CPUS = 4 };
enum kind { END, W, W_REL, R, R_ACQ, ADD, FULL, REL, ACQ };
enum { X, Y };

struct op {
    unsigned cpu;
    enum kind kind;
    unsigned word;
    uint64_t value;
};
struct outcome {
    uint64_t r[LOADS]; /* of the loads, in the order of the list */
};

static char *memory;

static int set_up(void **state)
{
    struct monitor_config c = {.memory = MEMORY, .races = true, .stale_one_in = 2};

    (void)state;
    memory = mmap((void *)SIM_DIRECT_BASE, MEMORY, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    fake_cpus = CPUS;
    fake_cpu = 0;
    monitor_init(&c);
    return memory == MAP_FAILED;
}

/* Words of a run: 64 bytes apart, of no run before. */
static uint64_t *word(unsigned run, unsigned w)
{
    return (uint64_t *)(memory + run * 128 + w * 64);
}

static uint64_t step(const struct op *op, unsigned run)
{
    uint64_t *p = word(run, op->word);

    fake_cpu = op->cpu;
    switch (op->kind) {
    case W: subject_store(p, op->value); break;
    case W_REL: subject_store_release(p, op->value); break;
    case R: return subject_load(p);
    case R_ACQ: return subject_load_acquire(p);
    case ADD: return subject_add(p, op->value);
    case FULL: subject_fence_full(); break;
    case REL: subject_fence_release(); break;
    case ACQ: subject_fence_acquire(); break;
    case END: break;
    }
    return 0;
}

static bool gives(enum kind k) { return k == R || k == R_ACQ || k == ADD; }

/* One run; CPU c's next operation is the first of it at or after at[c]. */
static struct outcome run_once(const struct op *ops, unsigned run)
{
    struct outcome out = {{0}};
    unsigned at[CPUS] = {0}, n = 0, left;

    while (ops[n].kind)
        n++;
    monitor_all_ordered();
    for (left = n; left;) {
        unsigned cpu = (unsigned)test_random_below(CPUS), nth = 0;
        uint64_t result;

        while (at[cpu] < n && ops[at[cpu]].cpu != cpu)
            at[cpu]++;
        if (at[cpu] == n)
            continue;
        result = step(&ops[at[cpu]], run);
        for (unsigned i = 0; i < at[cpu]; i++)
            nth += gives(ops[i].kind);
        if (gives(ops[at[cpu]].kind))
            out.r[nth] = result;
        at[cpu]++;
        left--;
    }
    return out;
}

/* In how many of RUNS the loads returned what is wanted. */
static unsigned count(const struct op *ops, const uint64_t *want, unsigned loads)
{
    static unsigned run;
    unsigned hits = 0;

    set_up(NULL);
    run = 0;
    for (; run < RUNS; run++) {
        struct outcome out = run_once(ops, run);

        hits += !memcmp(out.r, want, loads * sizeof *want);
    }
    return hits;
}

#define PROGRAM(...)        ((const struct op[]){__VA_ARGS__, {0, END, 0, 0}})
#define WANT(...)           ((const uint64_t[]){__VA_ARGS__}), sizeof((uint64_t[]){__VA_ARGS__}) / 8
#define SEEN(program, ...)  assert_true(count(program, WANT(__VA_ARGS__)) > 0)
#define NEVER(program, ...) assert_int_equal(count(program, WANT(__VA_ARGS__)), 0)

/* proves: LX-59 LX-60 */
static void test_store_buffering_needs_two_full_fences(void **state)
{
    (void)state;
    SEEN(PROGRAM({0, W, X, 1}, {0, R, Y, 0}, {1, W, Y, 1}, {1, R, X, 0}), 0, 0);
    SEEN(PROGRAM({0, W_REL, X, 1}, {0, R_ACQ, Y, 0}, {1, W_REL, Y, 1}, {1, R_ACQ, X, 0}), 0, 0);
    SEEN(PROGRAM({0, W, X, 1}, {0, FULL, 0, 0}, {0, R, Y, 0}, {1, W, Y, 1}, {1, R, X, 0}), 0, 0);
    NEVER(PROGRAM({0, W, X, 1}, {0, FULL, 0, 0}, {0, R, Y, 0}, {1, W, Y, 1}, {1, FULL, 0, 0},
                  {1, R, X, 0}),
          0, 0);
}

/* proves: LX-59 LX-60 */
static void test_message_passing_needs_both_sides(void **state)
{
    (void)state;
    SEEN(PROGRAM({0, W, X, 1}, {0, W, Y, 1}, {1, R, Y, 0}, {1, R, X, 0}), 1, 0);
    SEEN(PROGRAM({0, W, X, 1}, {0, W_REL, Y, 1}, {1, R, Y, 0}, {1, R, X, 0}), 1, 0);
    SEEN(PROGRAM({0, W, X, 1}, {0, W, Y, 1}, {1, R_ACQ, Y, 0}, {1, R, X, 0}), 1, 0);
    NEVER(PROGRAM({0, W, X, 1}, {0, W_REL, Y, 1}, {1, R_ACQ, Y, 0}, {1, R, X, 0}), 1, 0);
    SEEN(PROGRAM({0, W, X, 1}, {0, W_REL, Y, 1}, {1, R_ACQ, Y, 0}, {1, R, X, 0}), 1, 1);
    SEEN(PROGRAM({0, W, X, 1}, {0, REL, 0, 0}, {0, W, Y, 1}, {1, R, Y, 0}, {1, R, X, 0}), 1, 0);
    NEVER(PROGRAM({0, W, X, 1}, {0, REL, 0, 0}, {0, W, Y, 1}, {1, R, Y, 0}, {1, ACQ, 0, 0},
                  {1, R, X, 0}),
          1, 0);
}

static void test_a_word_alone_is_coherent(void **state)
{
    (void)state;
    NEVER(PROGRAM({0, W, X, 1}, {1, R, X, 0}, {1, R, X, 0}), 1, 0);
    NEVER(PROGRAM({0, W, X, 1}, {0, W, X, 2}, {1, R, X, 0}, {1, R, X, 0}), 2, 1);
    SEEN(PROGRAM({0, W, X, 1}, {0, W, X, 2}, {1, R, X, 0}, {1, R, X, 0}), 1, 2);
    NEVER(PROGRAM({0, W, X, 1}, {0, R, X, 0}), 0);
    /* two readers do not see two stores in different order */
    NEVER(
        PROGRAM({0, W, X, 1}, {1, W, X, 2}, {2, R, X, 0}, {2, R, X, 0}, {3, R, X, 0}, {3, R, X, 0}),
        1, 2, 2, 1);
}

static void test_a_read_is_handed_on_too(void **state)
{
    (void)state;
    SEEN(PROGRAM({0, W, X, 1}, {1, R, X, 0}, {1, W, Y, 1}, {2, R_ACQ, Y, 0}, {2, R, X, 0}), 1, 1,
         0);
    NEVER(PROGRAM({0, W, X, 1}, {1, R, X, 0}, {1, W_REL, Y, 1}, {2, R_ACQ, Y, 0}, {2, R, X, 0}), 1,
          1, 0);
}

/* proves: LX-59 */
static void test_independent_readers_agree_by_full_fences_only(void **state)
{
    (void)state;
    SEEN(PROGRAM({0, W_REL, X, 1}, {1, W_REL, Y, 1}, {2, R_ACQ, X, 0}, {2, R_ACQ, Y, 0},
                 {3, R_ACQ, Y, 0}, {3, R_ACQ, X, 0}),
         1, 0, 1, 0);
    NEVER(PROGRAM({0, W, X, 1}, {1, W, Y, 1}, {2, R, X, 0}, {2, FULL, 0, 0}, {2, R, Y, 0},
                  {3, R, Y, 0}, {3, FULL, 0, 0}, {3, R, X, 0}),
          1, 0, 1, 0);
}

static void test_what_the_model_does_not_show(void **state)
{
    (void)state;
    /* load buffering: C11 allows it */
    NEVER(PROGRAM({0, R, X, 0}, {0, W, Y, 1}, {1, R, Y, 0}, {1, W, X, 1}), 1, 1);
}

static void test_a_read_modify_write_sees_the_newest(void **state)
{
    (void)state;
    NEVER(PROGRAM({0, ADD, X, 1}, {1, ADD, X, 1}), 0, 0);
    NEVER(PROGRAM({0, ADD, X, 1}, {1, ADD, X, 1}), 1, 1);
    /* it goes on with the release sequence */
    NEVER(PROGRAM({0, W, X, 1}, {0, W_REL, Y, 1}, {1, ADD, Y, 1}, {2, R_ACQ, Y, 0}, {2, R, X, 0}),
          1, 2, 0);
    SEEN(PROGRAM({0, W, X, 1}, {0, W_REL, Y, 1}, {1, W, Y, 2}, {2, R_ACQ, Y, 0}, {2, R, X, 0}), 2,
         0);
}

static void test_a_loop_sees_the_news_in_the_end(void **state)
{
    set_up(state);
    for (unsigned run = 0; run < 1000; run++) {
        unsigned turns = 0;

        monitor_all_ordered();
        fake_cpu = 0;
        subject_store(word(run, X), 1);
        fake_cpu = 1;
        while (!subject_load(word(run, X)))
            assert_true(turns++ < 200);
    }
}

static void test_plain_and_hardware_stores_hide_the_past(void **state)
{
    set_up(state);
    for (unsigned run = 0; run < 1000; run++) {
        fake_cpu = 0;
        subject_store(word(run, X), 1);
        subject_store(word(run, X), 2);
        if (run & 1) {
            subject_write(word(run, X), 3);
        } else {
            *word(run, X) = 3;
            monitor_hw_write(word(run, X), 8);
        }
        fake_cpu = 1;
        assert_int_equal(subject_load(word(run, X)), 3);
    }
}

/* A half of a word is not read older than a store of the whole that is known of. */
static void test_sizes_that_overlap(void **state)
{
    set_up(state);
    for (unsigned run = 0; run < 1000; run++) {
        uint32_t *half = (uint32_t *)word(run, X);

        monitor_all_ordered();
        fake_cpu = 0;
        subject_store32(half, 1);
        subject_store(word(run, X), 2);
        subject_store_release(word(run, Y), 1);
        fake_cpu = 1;
        if (subject_load_acquire(word(run, Y)))
            assert_int_equal(subject_load32(half), 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_buffering_needs_two_full_fences),
        cmocka_unit_test(test_message_passing_needs_both_sides),
        cmocka_unit_test(test_a_word_alone_is_coherent),
        cmocka_unit_test(test_a_read_is_handed_on_too),
        cmocka_unit_test(test_independent_readers_agree_by_full_fences_only),
        cmocka_unit_test(test_what_the_model_does_not_show),
        cmocka_unit_test(test_a_read_modify_write_sees_the_newest),
        cmocka_unit_test(test_a_loop_sees_the_news_in_the_end),
        cmocka_unit_test(test_plain_and_hardware_stores_hide_the_past),
        cmocka_unit_test(test_sizes_that_overlap),
    };

    test_seed("sim_weak_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
