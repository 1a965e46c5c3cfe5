/*
 * heap_rows.h - the rows of the heap table, for whichever heap the including program is about: heap_bench.c (the
 * kernel heap, called directly) and heap_malloc.c (malloc: the C library's, or one loaded before it).
 *
 * Before it includes this, a program defines
 *
 *     setup()                 before anything else
 *     get(size), put(p)
 *     thread_begins(cpu)      the calling thread is this CPU from now on
 *     resident()              bytes of memory that the process, or the machine, takes
 *
 * so that each is compiled into the loops as its users would have it.  A row is timed by the clocks of its
 * threads, which stand still while others have the processor; PROGRAM [ROW...] prints
 * row <tab> ns, for one object of one thread, allocated and freed (but bulk_get, bulk_put: one of both).  The row rss is a
 * ratio instead.  tools/bench_heap.py repeats and compares.
 */
#ifndef BENCH_HEAP_ROWS_H
#define BENCH_HEAP_ROWS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS 1000
#define BULK  1000000
#define PAIRS 1000000

/* What a thread does; objects done, timed by itself. */
struct job {
    size_t (*run)(struct job *);
    size_t size, ops;
    unsigned cpu;
    double ns;
    uint64_t rng;
    pthread_barrier_t *start;
    void *slots[SLOTS];
};

static double thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void *got(size_t size)
{
    void *p = get(size);

    if (!p) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        exit(1);
    }
    return p;
}

/* ---- One thread ---- */

static size_t run_pairs(struct job *j)
{
    double t = thread_ns();

    for (size_t i = 0; i < PAIRS; i++) {
        void *volatile p = get(j->size);

        put(p);
    }
    j->ns = thread_ns() - t;
    return PAIRS;
}

/* SLOTS objects, then all freed, last first or first first. */
static size_t filled(struct job *j, bool lifo)
{
    enum { N = 200 };
    double t = thread_ns();

    for (int k = 0; k < N; k++) {
        for (int i = 0; i < SLOTS; i++)
            j->slots[i] = got(j->size);
        for (int i = 0; i < SLOTS; i++)
            put(j->slots[lifo ? SLOTS - 1 - i : i]);
    }
    j->ns = thread_ns() - t;
    return N * SLOTS;
}
static size_t run_fifo(struct job *j) { return filled(j, false); }
static size_t run_lifo(struct job *j) { return filled(j, true); }

/* Mixed sizes up to j->size, each binary order of magnitude as often as the others. */
static size_t mixed(struct job *j)
{
    unsigned orders = (unsigned)__builtin_ctzl(j->size) - 2;
    uint64_t r = next_random(&j->rng);
    size_t top = (size_t)8 << (r >> 8) % orders;

    return top / 2 + (r >> 16) % (top / 2) + 1;
}

/* SLOTS objects of mixed sizes, one of which is replaced, at random; objects are written to. */
static size_t run_random(struct job *j)
{
    enum { N = 400000 };
    double t;

    for (int i = 0; i < SLOTS; i++)
        j->slots[i] = memset(got(mixed(j)), 1, 8);
    t = thread_ns();
    for (int i = 0; i < N; i++) {
        unsigned k = (unsigned)(next_random(&j->rng) % SLOTS);

        put(j->slots[k]);
        j->slots[k] = memset(got(mixed(j)), 1, 8);
    }
    j->ns = thread_ns() - t;
    for (int i = 0; i < SLOTS; i++)
        put(j->slots[i]);
    return N;
}

/* SLOTS objects of mixed sizes come, and go in reverse. */
static size_t run_random_lifo(struct job *j)
{
    enum { N = 400 };
    double t = thread_ns();

    for (int k = 0; k < N; k++) {
        for (int i = 0; i < SLOTS; i++)
            j->slots[i] = got(mixed(j));
        for (int i = SLOTS; i-- > 0;)
            put(j->slots[i]);
    }
    j->ns = thread_ns() - t;
    return N * SLOTS;
}

static void *bulk[BULK];

/* The second time, so that memory that the heap keeps is there. */
static double timed_bulk(struct job *j, bool freeing)
{
    double t = 0, u = 0;

    for (int round = 0; round < 2; round++) {
        t = thread_ns();
        for (size_t i = 0; i < BULK; i++)
            bulk[i] = got(j->size);
        u = thread_ns();
        for (size_t i = 0; i < BULK; i++)
            put(bulk[i]);
    }
    return freeing ? thread_ns() - u : u - t;
}
static size_t run_bulk_get(struct job *j)
{
    j->ns = timed_bulk(j, false);
    return BULK;
}
static size_t run_bulk_put(struct job *j)
{
    j->ns = timed_bulk(j, true);
    return BULK;
}

/* ---- Two threads ---- */

#define BATCH   1000
#define BATCHES 1000

/* One allocates and writes, the other reads and frees; each sleeps while it has nothing to do. */
static struct {
    void *p[2][BATCH];
    sem_t full, empty;
} belt;

static size_t run_remote(struct job *j)
{
    uint64_t sum = 0;
    double t = thread_ns();

    for (int b = 0; b < BATCHES; b++) {
        void **p = belt.p[b % 2];

        sem_wait(j->cpu ? &belt.full : &belt.empty);
        for (int i = 0; i < BATCH; i++)
            if (j->cpu) {
                sum += *(uint64_t *)p[i];
                put(p[i]);
            } else {
                p[i] = got(j->size);
                *(uint64_t *)p[i] = (uint64_t)i;
            }
        sem_post(j->cpu ? &belt.empty : &belt.full);
    }
    j->ns = thread_ns() - t;
    if (j->cpu && sum != (uint64_t)BATCHES * BATCH * (BATCH - 1) / 2)
        exit(1);
    return (size_t)BATCHES * BATCH;
}

/* ---- Memory after churn ---- */

#define LIVE (128u << 20)

/* Random sizes of 16 bytes to 2 KiB fill LIVE; then five times 80 % of them, at random, give way to others of
 * random sizes.  What the process takes for them, over what was asked for. */
static size_t run_rss(struct job *j)
{
    enum { MOST = 400000 };
    static void *p[MOST];
    static uint32_t size[MOST];
    size_t n = 0, live = 0, before;

    memset(p, 0, sizeof p);
    memset(size, 1, sizeof size);
    before = resident();
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < n; i++)
            if (p[i] && next_random(&j->rng) % 5) {
                put(p[i]);
                p[i] = NULL;
                live -= size[i];
            }
        for (size_t i = 0; i < MOST && live < LIVE; i++)
            if (!p[i]) {
                size[i] = (uint32_t)(16 + next_random(&j->rng) % 2033);
                p[i] = memset(got(size[i]), 1, size[i]);
                live += size[i];
                n = i + 1 > n ? i + 1 : n;
            }
    }
    j->ns = (double)(resident() - before) / (double)live;
    for (size_t i = 0; i < n; i++)
        if (p[i])
            put(p[i]);
    return 1;
}

/* ---- Rows ---- */

static const struct row {
    const char *name;
    size_t (*run)(struct job *);
    size_t size;
    unsigned threads;
} rows[] = {
    {"pair_16", run_pairs, 16, 1},
    {"pair_64", run_pairs, 64, 1},
    {"pair_256", run_pairs, 256, 1},
    {"pair_1024", run_pairs, 1024, 1},
    {"pair_4096", run_pairs, 4096, 1},
    {"pair_16384", run_pairs, 16384, 1},
    {"pair_65536", run_pairs, 65536, 1},
    {"fifo_64", run_fifo, 64, 1},
    {"lifo_64", run_lifo, 64, 1},
    {"fifo_512", run_fifo, 512, 1},
    {"lifo_512", run_lifo, 512, 1},
    {"random_1k", run_random, 1024, 1},
    {"random_16k", run_random, 16384, 1},
    {"random_lifo_16k", run_random_lifo, 16384, 1},
    {"bulk_get", run_bulk_get, 64, 1},
    {"bulk_put", run_bulk_put, 64, 1},
    {"remote_64", run_remote, 64, 2},
    {"pair_64_x2", run_pairs, 64, 2},
    {"random_1k_x2", run_random, 1024, 2},
    {"random_16k_x2", run_random, 16384, 2},
    {"rss", run_rss, 0, 1},
};

static void *thread(void *arg)
{
    struct job *j = arg;

    thread_begins(j->cpu);
    pthread_barrier_wait(j->start);
    j->ops = j->run(j);
    return NULL;
}

/* Nanoseconds an object; of one_to_other both threads' together. */
static double measured(const struct row *r)
{
    static struct job jobs[2];
    pthread_t t[2];
    pthread_barrier_t start;
    double ns = 0;

    sem_init(&belt.full, 0, 0);
    sem_init(&belt.empty, 0, 2);
    pthread_barrier_init(&start, NULL, r->threads);
    for (unsigned i = 0; i < r->threads; i++) {
        jobs[i] = (struct job){.run = r->run,
                               .size = r->size,
                               .cpu = i,
                               .rng = 88172645463325252u + i,
                               .start = &start};
        if (pthread_create(&t[i], NULL, thread, &jobs[i]))
            exit(1);
    }
    for (unsigned i = 0; i < r->threads; i++) {
        pthread_join(t[i], NULL);
        ns += jobs[i].ns / (double)jobs[i].ops;
    }
    pthread_barrier_destroy(&start);
    return r->run == run_remote ? ns : ns / r->threads;
}

int main(int argc, char **argv)
{
    setup();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool wanted = argc == 1;

        for (int a = 1; a < argc; a++)
            wanted |= !strcmp(argv[a], rows[i].name);
        if (wanted)
            printf("%s\t%.3f\n", rows[i].name, measured(&rows[i]));
    }
    return 0;
}

#endif
