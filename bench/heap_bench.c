/*
 * heap_bench.c - nanoseconds of the kernel heap in a Linux process, beside glibc's malloc in the same run.
 *
 * Prints row, ours, glibc's, ratio, tab-separated; each figure is the median of nine rounds, ours and
 * theirs in turn, so that a busy machine disturbs both.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <hosted.h>
#include <quire/heap.h>

#define ROUNDS 9
#define SLOTS  1000
#define SPAN   (256ull << 20)

struct heap {
    void *(*get)(size_t);
    void (*put)(void *);
};

static void *quire_get(size_t n) { return quire_kmalloc(n, QUIRE_GFP_KERNEL); }
static const struct heap ours = {quire_get, quire_kfree}, theirs = {malloc, free};

static void *slots[SLOTS];
static unsigned sizes[SLOTS];

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* One object at a time. */
static double pairs(const struct heap *h, size_t size)
{
    enum { N = 200000 };
    double start = now_ns();

    for (int i = 0; i < N; i++) {
        void *volatile p = h->get(size);

        h->put(p);
    }
    return (now_ns() - start) / N;
}

/* Many, then free them in the order given or the reverse. */
static double filled(const struct heap *h, size_t size, int lifo)
{
    enum { N = 100 };
    double start = now_ns();

    for (int k = 0; k < N; k++) {
        for (int i = 0; i < SLOTS; i++)
            slots[i] = h->get(size);
        for (int i = 0; i < SLOTS; i++)
            h->put(slots[lifo ? SLOTS - 1 - i : i]);
    }
    return (now_ns() - start) / (N * SLOTS);
}

/* A working set of mixed sizes, 8 bytes to 16 KiB, from which one is replaced at random. */
static double working_set(const struct heap *h, size_t unused)
{
    enum { N = 200000 };
    unsigned long rng = 88172645463325252ul;
    double start;

    (void)unused;
    for (int i = 0; i < SLOTS; i++)
        slots[i] = h->get(sizes[i]);
    start = now_ns();
    for (int i = 0; i < N; i++) {
        unsigned k;

        rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
        k = (unsigned)(rng % SLOTS);
        h->put(slots[k]);
        slots[k] = h->get(sizes[(k + (unsigned)(rng >> 32)) % SLOTS]);
    }
    start = (now_ns() - start) / N;
    for (int i = 0; i < SLOTS; i++)
        h->put(slots[i]);
    return start;
}

static double fifo(const struct heap *h, size_t size) { return filled(h, size, 0); }
static double lifo(const struct heap *h, size_t size) { return filled(h, size, 1); }

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void row(const char *name, double (*run)(const struct heap *, size_t), size_t size)
{
    double a[ROUNDS], b[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        a[i] = run(&ours, size);
        b[i] = run(&theirs, size);
    }
    qsort(a, ROUNDS, sizeof a[0], by_value);
    qsort(b, ROUNDS, sizeof b[0], by_value);
    printf("%s\t%.1f\t%.1f\t%.2f\n", name, a[ROUNDS / 2], b[ROUNDS / 2],
           a[ROUNDS / 2] / b[ROUNDS / 2]);
}

static int machine(void)
{
    static struct quire_mem_range ranges[8], reserved[8];
    static struct quire_memmap map;
    struct quire_boot boot = {.map = &map, .nodes = 1, .cpus = 1};

    hosted_init(SPAN);
    quire_memmap_init(&map, ranges, 8, reserved, 8);
    return quire_memmap_add(&map, Q_PA(1 << 20), SPAN - (1 << 20), QUIRE_MEM_USABLE) == QUIRE_OK &&
           quire_frame_init(&boot) == QUIRE_OK && quire_heap_init() == QUIRE_OK;
}

int main(void)
{
    if (!machine())
        return 1;
    for (int i = 0; i < SLOTS; i++)
        sizes[i] = 8u << (i % 12); /* 8 bytes to 16 KiB */
    printf("ns a pair\tours\tglibc\tratio\n");
    row("pair of 64 bytes", pairs, 64);
    row("pair of 1 KiB", pairs, 1024);
    row("pair of 4 KiB", pairs, 4096);
    row("1,000 of 64 bytes, first in first out", fifo, 64);
    row("1,000 of 64 bytes, last in first out", lifo, 64);
    row("random sizes, working set of 1,000", working_set, 0);
    return 0;
}
