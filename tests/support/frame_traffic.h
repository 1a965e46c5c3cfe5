/*
 * frame_traffic.h - three CPUs that allocate and free blocks of many orders while a test does something to
 * frames from a fourth, CPU 0; none of them may meet a frame that the test says is gone.
 */
#ifndef FRAME_TRAFFIC_H
#define FRAME_TRAFFIC_H

#include <pthread.h>

#include <frame_machine.h>

enum { TRAFFIC_CPUS = 3, TRAFFIC_BLOCKS = 32 };

static struct {
    bool (*gone)(const struct quire_page *page); /* from any thread */
    unsigned orders;                             /* 0 .. orders - 1 */
    bool stop;
    pthread_t threads[TRAFFIC_CPUS];
} traffic;

static void *traffic_run(void *arg)
{
    struct quire_page *mine[TRAFFIC_BLOCKS] = {NULL};
    unsigned orders[TRAFFIC_BLOCKS], x = (unsigned)(uintptr_t)arg * 7919;

    hosted_cpu_set((unsigned)(uintptr_t)arg);
    while (!__atomic_load_n(&traffic.stop, __ATOMIC_RELAXED)) {
        unsigned k = (x = x * 1664525 + 1013904223) >> 8 & (TRAFFIC_BLOCKS - 1);

        if (mine[k]) {
            quire_page_free(mine[k], orders[k]);
            mine[k] = NULL;
            continue;
        }
        orders[k] = (x >> 20) % 4 ? 0 : (x >> 24) % traffic.orders;
        mine[k] = quire_page_alloc(orders[k], 0, ANY);
        for (uint64_t i = 0; mine[k] && i < 1ull << orders[k]; i++)
            assert_false(traffic.gone(mine[k] + i));
    }
    for (unsigned k = 0; k < TRAFFIC_BLOCKS; k++)
        if (mine[k])
            quire_page_free(mine[k], orders[k]);
    return NULL;
}

/* On CPUs 1 to 3; the caller goes on on CPU 0. */
static inline void traffic_start(bool (*gone)(const struct quire_page *), unsigned orders)
{
    traffic.gone = gone;
    traffic.orders = orders;
    traffic.stop = false;
    for (unsigned i = 0; i < TRAFFIC_CPUS; i++)
        assert_int_equal(
            pthread_create(&traffic.threads[i], NULL, traffic_run, (void *)(uintptr_t)(i + 1)), 0);
    hosted_cpu_set(0);
}

static inline void traffic_end(void)
{
    __atomic_store_n(&traffic.stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < TRAFFIC_CPUS; i++)
        pthread_join(traffic.threads[i], NULL);
}

#endif
