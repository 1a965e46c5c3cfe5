/*
 * frame_bench.c - nanoseconds of the frame allocator in a Linux process, one row a line:
 * row <tab> ns per operation.  The rows are those of docs/design/frames.md.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <hosted.h>

#include <frame/frame.h>

#define ANY    QUIRE_NODE_ANY
#define FRAMES (1u << 20) /* of the 8 GiB machine, held at once */

static struct quire_mem_range ranges[8], reserved[64];
static struct quire_page *held[FRAMES];

static void machine(unsigned cpus)
{
    struct quire_memmap m;
    struct quire_boot b = {.map = &m, .nodes = 1, .cpus = cpus};

    hosted_init(8ull << 30);
    quire_memmap_init(&m, ranges, 8, reserved, 64);
    if (quire_memmap_add(&m, Q_PA(1 << 20), (8ull << 30) - (1 << 20), QUIRE_MEM_USABLE) ||
        quire_frame_init(&b)) {
        fprintf(stderr, "frame_bench: no machine\n");
        exit(1);
    }
}

static uint64_t started;
static void start(void) { started = qport_now_ns(); }
static void row(const char *name, uint64_t n)
{
    printf("%s\t%.1f\n", name, (double)(qport_now_ns() - started) / (double)n);
}

static unsigned next(unsigned *x) { return *x = *x * 1664525 + 1013904223; }

static void pairs(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        quire_page_free(quire_page_alloc(0, QUIRE_GFP_USER, ANY), 0);
}

static void one_cpu(void)
{
    struct quire_page *batch[64];
    unsigned x = 1;

    machine(1);
    pairs(1000);
    start();
    pairs(10000000);
    row("order 0 pair", 10000000);
    start();
    for (unsigned i = 0; i < 10000000; i++)
        qi_page_free_fast(qi_page_alloc_fast(QUIRE_GFP_USER));
    row("order 0 pair, inline", 10000000);
    for (unsigned round = 0; round < 2; round++) { /* the first one touches the page array */
        start();
        for (unsigned i = 0; i < FRAMES; i++)
            held[i] = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
        row(round ? "bulk get" : "bulk get, first touch", FRAMES);
        start();
        for (unsigned i = 0; i < FRAMES; i++)
            quire_page_free(held[i], 0);
        row("bulk put", FRAMES);
    }
    for (unsigned i = 0; i < FRAMES; i++)
        held[i] = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
    start();
    for (unsigned i = 0; i < FRAMES; i++) {
        unsigned k = next(&x) >> 12;

        quire_page_free(held[k], 0);
        held[k] = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
    }
    row("random free and allocate", FRAMES);
    for (unsigned i = 0; i < FRAMES; i++)
        quire_page_free(held[i], 0);
    quire_frame_drain();
    start();
    for (unsigned i = 0; i < 100000; i++) {
        quire_page_alloc_bulk(64, batch, QUIRE_GFP_USER, ANY);
        quire_page_free_bulk(64, batch);
    }
    row("array of 64, per page pair", 6400000);
    start();
    for (unsigned i = 0; i < 1000000; i++)
        quire_page_free(quire_page_alloc(3, QUIRE_GFP_USER, ANY), 3);
    row("order 3 pair", 1000000);
    start();
    for (unsigned i = 0; i < 1000000; i++)
        quire_page_free(quire_page_alloc(9, QUIRE_GFP_USER, ANY), 9);
    row("order 9 pair", 1000000);
}

static void *pair_thread(void *arg)
{
    hosted_cpu_set((unsigned)(uintptr_t)arg);
    pairs(10000000);
    return NULL;
}

static void two_cpus(void)
{
    pthread_t t[2];

    machine(2);
    start();
    for (uintptr_t i = 0; i < 2; i++)
        if (pthread_create(&t[i], NULL, pair_thread, (void *)i))
            exit(1);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    row("two threads: pair", 10000000);
}

/* Free frames in whole pageblocks, percent. */
static double whole_percent(void)
{
    struct quire_zone_stats s;
    uint64_t free = 0, whole = 0;

    quire_frame_drain();
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        free += s.free;
        for (unsigned o = 9; o <= QUIRE_MAX_ORDER; o++)
            whole += s.free_blocks[o] << o;
    }
    return 100.0 * (double)whole / (double)free;
}

/* A random choice of held[0..n), in random order, to held[0..part). */
static void shuffle_front(uint64_t n, uint64_t part, unsigned *x)
{
    for (uint64_t i = 0; i < part; i++) {
        uint64_t k = i + ((uint64_t)(next(x) >> 8) << 24 | next(x) >> 8) % (n - i);
        struct quire_page *t = held[i];

        held[i] = held[k];
        held[k] = t;
    }
}

/* The random-reallocation experiment (after LLFree, ATC 2023): all memory as single frames, a random
 * half freed, then round after round a random tenth of the rest freed and allocated again.  How much
 * of the free memory comes together in whole 2 MiB blocks, though nothing is migrated? */
static void fragmentation(void)
{
    uint64_t n = 0;
    unsigned x = 7;

    machine(1);
    while (n < FRAMES && (held[n] = quire_page_alloc(0, QUIRE_GFP_USER, ANY)))
        n++;
    /* the rest of the machine is taken away, so that all that is free was freed */
    while (quire_page_alloc(QUIRE_MAX_ORDER, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC, ANY))
        ;
    while (quire_page_alloc(9, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC, ANY))
        ;
    shuffle_front(n, n, &x);
    n /= 2;
    for (uint64_t i = n; i < 2 * n; i++)
        quire_page_free(held[i], 0);
    printf("whole 2 MiB blocks, percent of free memory, at random\t%.1f\n", whole_percent());
    for (unsigned round = 0; round < 100; round++) {
        shuffle_front(n, n / 10, &x);
        for (uint64_t i = 0; i < n / 10; i++)
            quire_page_free(held[i], 0);
        for (uint64_t i = 0; i < n / 10; i++)
            held[i] = quire_page_alloc(0, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC, ANY);
    }
    printf("whole 2 MiB blocks, percent of free memory, after reallocation\t%.1f\n",
           whole_percent());
}

int main(void)
{
    one_cpu();
    two_cpus();
    fragmentation();
    return 0;
}
