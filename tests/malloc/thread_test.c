/*
 * Threads under libquire-malloc.so: random operations with every byte checked, more threads than it has slots,
 * threads that come and go, and forks while all of them allocate.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "resident.h"

#define MIB    ((size_t)1 << 20)
#define SHARED 256 /* objects that anybody frees */
#define OWN    300
#define MANY   500

static uint64_t seed;

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Mostly small, now and then large. */
static size_t some_size(uint64_t *rng)
{
    uint64_t r = next_random(rng);
    unsigned bits = r % 64     ? (unsigned)(r >> 8) % 12
                    : r % 4096 ? 12 + (unsigned)(r >> 8) % 6
                               : 18 + (unsigned)(r >> 8) % 8;

    return (size_t)(r >> 32) & (((size_t)1 << bits) - 1);
}

/* An object knows its size and what all its bytes are. */
struct object {
    size_t size;
    unsigned char fill;
    unsigned char bytes[];
};

static void *made(size_t size, unsigned char fill, struct object *o)
{
    if (!o)
        abort();
    o->size = size;
    o->fill = fill;
    memset(o->bytes, fill, size);
    return o;
}
static void check(const struct object *o)
{
    size_t step = o->size > 4096 ? 509 : 1;

    for (size_t i = 0; i < o->size; i += step)
        if (o->bytes[i] != o->fill) {
            fprintf(stderr, "object %p of %zu: byte %zu is %u, not %u\n", (const void *)o, o->size,
                    i, o->bytes[i], o->fill);
            abort();
        }
}

static struct object *new_object(uint64_t *rng)
{
    size_t size = some_size(rng);
    unsigned how = (unsigned)next_random(rng) % 8;
    unsigned char fill = (unsigned char)*rng;
    struct object *o;

    if (how == 0)
        o = memalign((size_t)16 << (*rng >> 20) % 9, sizeof *o + size);
    else if (how == 1)
        o = calloc(1, sizeof *o + size);
    else
        o = malloc(sizeof *o + size);
    if (how == 1)
        for (size_t i = 0; i < size; i++)
            if (o->bytes[i])
                abort();
    return made(size, fill, o);
}
static void end_object(struct object *o)
{
    if (o) {
        check(o);
        free(o);
    }
}
static struct object *resized(struct object *o, uint64_t *rng)
{
    size_t size = some_size(rng), before = o->size;

    check(o);
    o = realloc(o, sizeof *o + size);
    o->size = size < before ? size : before;
    check(o);
    return made(size, o->fill, o);
}

/* ---- Random operations ---- */

static struct object *shared[SHARED]; /* atomic */

struct job {
    pthread_t thread;
    uint64_t rng;
    unsigned ops;
};

static void *churn(void *arg)
{
    struct job *j = arg;
    struct object *own[OWN] = {0};

    for (unsigned i = 0; i < j->ops; i++) {
        uint64_t r = next_random(&j->rng);
        unsigned k = (unsigned)(r >> 8) % OWN;

        if (r % 8 == 0) { /* somebody else's, who will free this one */
            struct object *o =
                __atomic_exchange_n(&shared[(r >> 8) % SHARED], NULL, __ATOMIC_ACQ_REL);

            end_object(o);
            o = new_object(&j->rng);
            end_object(__atomic_exchange_n(&shared[(r >> 8) % SHARED], o, __ATOMIC_ACQ_REL));
        } else if (r % 8 == 1 && own[k]) {
            own[k] = resized(own[k], &j->rng);
        } else {
            end_object(own[k]);
            own[k] = r % 3 ? new_object(&j->rng) : NULL;
        }
    }
    for (unsigned k = 0; k < OWN; k++)
        end_object(own[k]);
    return NULL;
}

static void run(struct job *jobs, unsigned n, unsigned ops)
{
    for (unsigned i = 0; i < n; i++) {
        jobs[i] = (struct job){.rng = seed + 0x9e3779b97f4a7c15u * (i + 1), .ops = ops};
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, churn, &jobs[i]), 0);
    }
}
static void join(struct job *jobs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(pthread_join(jobs[i].thread, NULL), 0);
}
static void empty_shared(void)
{
    for (unsigned i = 0; i < SHARED; i++) {
        end_object(shared[i]);
        shared[i] = NULL;
    }
}

static void test_random_operations(void **state)
{
    struct job jobs[8];

    (void)state;
    run(jobs, 8, 20000);
    join(jobs, 8);
    empty_shared();
}

/* More than there are slots, all at once. */
static void test_500_threads(void **state)
{
    static struct job jobs[MANY];

    (void)state;
    run(jobs, MANY, 400);
    join(jobs, MANY);
    empty_shared();
}

/* ---- The end of threads ---- */

/* Fills its lists with objects of all classes, and leaves nothing. */
static void *visit(void *arg)
{
    void *p[400];

    (void)arg;
    for (size_t size = 16; size <= 16384; size *= 2) {
        for (int i = 0; i < 400; i++)
            memset(p[i] = malloc(size), 1, size);
        for (int i = 0; i < 400; i++)
            free(p[i]);
    }
    return NULL;
}

static void test_threads_leave_nothing(void **state)
{
    pthread_t t;
    size_t first, after;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pthread_create(&t, NULL, visit, NULL), 0);
        assert_int_equal(pthread_join(t, NULL), 0);
    }
    malloc_trim(0);
    first = resident();
    for (int i = 0; i < 300; i++) {
        assert_int_equal(pthread_create(&t, NULL, visit, NULL), 0);
        assert_int_equal(pthread_join(t, NULL), 0);
    }
    malloc_trim(0);
    after = resident();
    assert_in_range(after, 0, first + MIB);
}

/* Destructors of thread-specific values that come after ours still allocate. */
static pthread_key_t late;
static void at_end(void *p)
{
    static __thread int again;

    free(p);
    if (again++ < 3)
        pthread_setspecific(late, malloc(100));
}
static void *leaves_late(void *arg)
{
    (void)arg;
    pthread_setspecific(late, malloc(100));
    return NULL;
}
static void test_destructors_allocate(void **state)
{
    pthread_t t;

    (void)state;
    assert_int_equal(pthread_key_create(&late, at_end), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(pthread_create(&t, NULL, leaves_late, NULL), 0);
        assert_int_equal(pthread_join(t, NULL), 0);
    }
    pthread_key_delete(late);
}

/* ---- Fork ---- */

/* All of the heap works in a child, and it can have children and threads. */
static int child_life(uint64_t rng, int depth)
{
    struct job jobs[3], own = {.rng = rng, .ops = 2000};
    int status = 0;
    pid_t child;

    churn(&own);
    if (!depth)
        return 0;
    for (unsigned i = 0; i < 3; i++) {
        jobs[i] = (struct job){.rng = rng + i + 1, .ops = 1000};
        if (pthread_create(&jobs[i].thread, NULL, churn, &jobs[i]))
            return 1;
    }
    child = fork();
    if (!child)
        _exit(child_life(rng + 7, depth - 1));
    for (unsigned i = 0; i < 3; i++)
        pthread_join(jobs[i].thread, NULL);
    return child < 0 || waitpid(child, &status, 0) != child || status;
}

static void test_fork_while_threads_allocate(void **state)
{
    struct job jobs[6];

    (void)state;
    run(jobs, 6, 60000);
    for (int i = 0; i < 40; i++) {
        int status;
        pid_t child = fork();

        if (!child) {
            alarm(60); /* a lock that nobody gives back */
            _exit(child_life(seed + (unsigned)i, i % 4));
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    join(jobs, 6);
    empty_shared();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_500_threads),
        cmocka_unit_test(test_threads_leave_nothing),
        cmocka_unit_test(test_destructors_allocate),
        cmocka_unit_test(test_fork_while_threads_allocate),
    };
    const char *given = getenv("SEED");

    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
    printf("SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
