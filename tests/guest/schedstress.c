/*
 * schedstress.c - threads that sleep, wake each other and yield while others move them between
 * CPUs and policies: every one gets on, none is lost.
 */
#include "guest.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#define PAIRS   6
#define MOVERS  2
#define SECONDS 2

static struct {
    unsigned word;
    unsigned waked; /* the word for which the sleeper was last woken, or nobody slept */
    long waked_at;  /* ms */
    long rounds;
} pairs[PAIRS];
static pid_t tids[PAIRS * 2];
static volatile int stop;
static unsigned seed_base;

static int futex(unsigned *word, int op, unsigned value)
{
    struct timespec second = {1, 0};

    return (int)syscall(SYS_futex, word, op, value, op == FUTEX_WAIT_PRIVATE ? &second : NULL, NULL,
                        0);
}

static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The word has changed and the sleep went on to its end, a second, though the other's wake-up was over long
 * before.  (A thread of low rank may go without a turn for a second, also between its word and its wake-up.) */
static int was_lost(unsigned pair, unsigned seen)
{
    return __atomic_load_n(&pairs[pair].word, __ATOMIC_ACQUIRE) != seen &&
           __atomic_load_n(&pairs[pair].waked, __ATOMIC_ACQUIRE) == seen + 1 &&
           now_ms() - __atomic_load_n(&pairs[pair].waked_at, __ATOMIC_ACQUIRE) > 300;
}

/* Two threads hand a word to and fro. */
static void *player(void *arg)
{
    unsigned id = (unsigned)(uintptr_t)arg, me = id & 1;
    long lost = 0;

    tids[id] = (pid_t)syscall(SYS_gettid);
    while (!stop) {
        unsigned seen = __atomic_load_n(&pairs[id / 2].word, __ATOMIC_ACQUIRE);

        if ((seen & 1) != me) {
            if (futex(&pairs[id / 2].word, FUTEX_WAIT_PRIVATE, seen) && errno == ETIMEDOUT)
                lost += was_lost(id / 2, seen);
            continue;
        }
        if (seen % 7 == 0)
            sched_yield();
        pairs[id / 2].rounds++;
        __atomic_store_n(&pairs[id / 2].word, seen + 1, __ATOMIC_RELEASE);
        futex(&pairs[id / 2].word, FUTEX_WAKE_PRIVATE, 1);
        __atomic_store_n(&pairs[id / 2].waked_at, now_ms(), __ATOMIC_RELEASE);
        __atomic_store_n(&pairs[id / 2].waked, seen + 1, __ATOMIC_RELEASE);
    }
    futex(&pairs[id / 2].word, FUTEX_WAKE_PRIVATE, 2);
    return (void *)lost;
}

/* Moves anybody anywhere. */
static void *mover(void *arg)
{
    unsigned seed = seed_base + (unsigned)(uintptr_t)arg;
    struct timespec pause = {0, 300000};
    cpu_set_t all, one;

    sched_getaffinity(0, sizeof(all), &all);
    while (!stop) {
        pid_t t = tids[rand_r(&seed) % (PAIRS * 2)];
        int cpu = rand_r(&seed) % CPU_COUNT(&all), kind = rand_r(&seed) % 4;
        struct sched_param p = {.sched_priority = kind == 1 ? 1 + rand_r(&seed) % 3 : 0};
        static const int policies[] = {SCHED_OTHER, SCHED_RR, SCHED_BATCH, SCHED_IDLE};

        if (!t)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(t, sizeof(one), rand_r(&seed) % 3 ? &one : &all);
        sched_setscheduler(t, policies[kind], &p);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[PAIRS * 2 + MOVERS];
    struct timespec run = {SECONDS, 0};
    long lost = 0, stuck = 0;
    char *text = getenv("SEED");
    void *result;

    seed_base = text ? (unsigned)atoi(text) : (unsigned)time(NULL);
    fprintf(stderr, "SEED=%u\n", seed_base);
    for (unsigned i = 0; i < PAIRS * 2 + MOVERS; i++)
        if (pthread_create(&threads[i], NULL, i < PAIRS * 2 ? player : mover, (void *)(uintptr_t)i))
            return 1;
    nanosleep(&run, NULL);
    stop = 1;
    for (unsigned i = 0; i < PAIRS * 2 + MOVERS; i++) {
        pthread_join(threads[i], &result);
        lost += (long)result;
    }
    for (unsigned i = 0; i < PAIRS; i++)
        stuck += pairs[i].rounds < 10;
    CHECK(!stuck, "every pair gets on");
    CHECK(!lost, "no wake-up is lost");
    return 0;
}
