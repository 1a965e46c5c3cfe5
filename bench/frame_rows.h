/*
 * frame_rows.h - the rows of the frame table, for whichever allocator the including program is about:
 * frame_bench.c (Quire), frame_buddy.c (a textbook buddy), frame_pool.c (pages of a malloc).
 *
 * Before it includes this, a program defines
 *
 *     FILL                    frames that the largest rows hold at once; fewer if memory ends before
 *     setup()                 a machine of two CPUs
 *     get(order), put(p, order)
 *     get_many(n, out), put_many(n, pages)    as good as the allocator has it; get_many returns how many
 *     thread_begins(cpu)      the calling thread is this CPU from now on
 *     metadata()              bytes of its own that it keeps for each frame, without what describes the page; 0: unknown
 *
 * so that each is compiled into the loops as its users would have it.  A row is timed by the clock of
 * its threads, which stands still while others have the processor; PROGRAM [ROW...] prints
 * row <tab> ns for one operation of one thread.  bench/frames.py repeats and compares.
 */
#ifndef BENCH_FRAME_ROWS_H
#define BENCH_FRAME_ROWS_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 2
#define ARRAY   64

static void *held[FILL];

static double clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static double thread_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void shuffle(void **p, size_t n, uint64_t seed)
{
    for (size_t i = n; i > 1; i--) {
        size_t k = next_random(&seed) % i;
        void *t = p[i - 1];

        p[i - 1] = p[k];
        p[k] = t;
    }
}

static size_t fill(void **p, size_t n)
{
    size_t i = 0;

    while (i < n && (p[i] = get(0)))
        i++;
    return i;
}
static void drop(void **p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put(p[i], 0);
}

/* What a thread does with its part of held; returns how many operations, and stops the time itself. */
struct job {
    size_t (*run)(struct job *);
    void **part;
    size_t room, ops;
    unsigned cpu;
    double ns;
    pthread_barrier_t *start;
};

static double per_op(const struct job *j) { return j->ns / (double)j->ops; }

/* ---- What is timed ---- */

static size_t pairs(struct job *j, unsigned order, size_t n)
{
    double t = thread_ns();

    for (size_t i = 0; i < n; i++) {
        void *p = get(order);

        if (!p)
            exit(1);
        put(p, order);
    }
    j->ns = thread_ns() - t;
    return n;
}
static size_t run_pairs(struct job *j) { return pairs(j, 0, 2000000); }
static size_t run_huge_pairs(struct job *j) { return pairs(j, 9, 20000); }

static size_t run_fill(struct job *j)
{
    double t = thread_ns();
    size_t n = fill(j->part, j->room);

    j->ns = thread_ns() - t;
    drop(j->part, n);
    return n;
}

static size_t timed_drop(struct job *j, bool random)
{
    size_t n = fill(j->part, j->room);
    double t;

    if (random)
        shuffle(j->part, n, 88172645463325252ull + j->cpu);
    t = thread_ns();
    drop(j->part, n);
    j->ns = thread_ns() - t;
    return n;
}
static size_t run_drop(struct job *j) { return timed_drop(j, false); }
static size_t run_drop_random(struct job *j) { return timed_drop(j, true); }

/* So many are held; a random one of them goes back and another comes. */
static size_t churn(struct job *j, size_t n)
{
    size_t ops = 1000000;
    uint64_t x = 88172645463325252ull + j->cpu;
    double t;

    n = fill(j->part, n);
    shuffle(j->part, n, x);
    t = thread_ns();
    for (size_t i = 0; i < ops; i++) {
        size_t k = next_random(&x) % n;

        put(j->part[k], 0);
        j->part[k] = get(0);
    }
    j->ns = thread_ns() - t;
    drop(j->part, n);
    return ops;
}
static size_t run_churn(struct job *j) { return churn(j, j->room / 2); }
static size_t run_churn_small(struct job *j) { return churn(j, 1u << 15); }

static size_t run_arrays(struct job *j)
{
    void *pages[ARRAY];
    size_t rounds = 20000;
    double t = thread_ns();

    for (size_t i = 0; i < rounds; i++)
        put_many(get_many(ARRAY, pages), pages);
    j->ns = thread_ns() - t;
    return rounds * ARRAY;
}

/* ---- One thread, or all ---- */

static void *job_thread(void *arg)
{
    struct job *j = arg;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(j->cpu, &cpus);
    pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus); /* if there are so many */
    thread_begins(j->cpu);
    pthread_barrier_wait(j->start);
    j->ops = j->run(j);
    return NULL;
}

static double in_threads(size_t (*run)(struct job *), unsigned threads)
{
    pthread_t t[THREADS];
    struct job jobs[THREADS];
    pthread_barrier_t start;
    double ns = 0;

    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        jobs[i] = (struct job){.run = run,
                               .part = held + i * (FILL / threads),
                               .room = FILL / threads,
                               .cpu = i,
                               .start = &start};
        if (pthread_create(&t[i], NULL, job_thread, &jobs[i]))
            exit(1);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
        ns += per_op(&jobs[i]);
    }
    pthread_barrier_destroy(&start);
    return ns / threads;
}

/* ---- One allocates, the other frees ---- */

#define CHUNK  256u
#define CHUNKS 4096u
#define RING   64u

static struct {
    void *pages[RING][CHUNK];
    unsigned made, gone; /* chunks */
    double get_ns[CHUNKS], put_ns[CHUNKS];
} ring;

static void await(unsigned *word, unsigned above, unsigned at)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) + above <= at)
        sched_yield();
}

static size_t run_remote(struct job *j)
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        void **p = ring.pages[i % RING];
        double t;

        if (j->cpu == 0)
            await(&ring.gone, RING, i);
        else
            await(&ring.made, 0, i);
        t = clock_ns(CLOCK_MONOTONIC);
        for (unsigned k = 0; k < CHUNK; k++)
            if (j->cpu)
                put(p[k], 0);
            else
                p[k] = get(0);
        t = clock_ns(CLOCK_MONOTONIC) - t;
        (j->cpu ? ring.put_ns : ring.get_ns)[i] = t;
        __atomic_store_n(j->cpu ? &ring.gone : &ring.made, i + 1, __ATOMIC_RELEASE);
    }
    return CHUNKS * CHUNK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* The median of the chunks: neither the waits for one another nor what others did to us. */
static double remote(bool free)
{
    double *ns = free ? ring.put_ns : ring.get_ns;

    ring.made = ring.gone = 0;
    in_threads(run_remote, 2);
    qsort(ns, CHUNKS, sizeof *ns, by_value);
    return ns[CHUNKS / 2] / CHUNK;
}

/* ---- The table ---- */

static const struct row {
    const char *name;
    size_t (*run)(struct job *);
    unsigned threads;
} rows[] = {
    {"pair_order0", run_pairs, 1},
    {"pair_order9", run_huge_pairs, 1},
    {"fill", run_fill, 1},
    {"free_in_order", run_drop, 1},
    {"free_random", run_drop_random, 1},
    {"churn", run_churn, 1},
    {"churn_small", run_churn_small, 1},
    {"array64", run_arrays, 1},
    {"pair_order0_x2", run_pairs, 2},
    {"pair_order9_x2", run_huge_pairs, 2},
    {"fill_x2", run_fill, 2},
    {"free_in_order_x2", run_drop, 2},
    {"churn_x2", run_churn, 2},
    {"remote_get", NULL, 0},
    {"remote_free", NULL, 1},
};

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name))
            return true;
    return argc < 2;
}

static void touch_all(void)
{
    size_t n;

    thread_begins(0);
    n = fill(held, FILL);
    drop(held, n);
}

int main(int argc, char **argv)
{
    setup();
    touch_all();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];

        if (wanted(r->name, argc, argv))
            printf("%s\t%.2f\n", r->name,
                   r->run ? in_threads(r->run, r->threads) : remote(r->threads));
        fflush(stdout);
    }
    if (metadata() > 0 && wanted("metadata", argc, argv))
        printf("metadata\t%.4f\n", metadata());
    return 0;
}

#endif
