/*
 * threads.c - threads share memory, have their own stacks and thread-local data, and wait for one
 * another.
 *
 * proves: VE-18
 */
#include "guest.h"

#include <pthread.h>
#include <sys/mman.h>

#define THREADS 8
#define ROUNDS  20000
#define PAGES   64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long counter, turn;
static __thread long mine;
static unsigned char *region;

static void *count(void *arg)
{
    long id = (long)arg;

    for (int i = 0; i < ROUNDS; i++) {
        mine++;
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
    }
    /* all fault in the same pages at once: each page is made once */
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < PAGES; i++)
        __atomic_fetch_add(&region[i * 4096], 1, __ATOMIC_RELAXED);
    /* in turn */
    pthread_mutex_lock(&lock);
    while (turn != id)
        pthread_cond_wait(&changed, &lock);
    turn++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return (void *)mine;
}

static void *short_lived(void *arg) { return (char *)arg + 1; }

int main(void)
{
    pthread_t t[THREADS];
    void *result;
    long sum = 0;
    int wrong = 0;

    region = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(region != MAP_FAILED, "a region");
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&t[i], NULL, count, (void *)i))
            wrong++;
    CHECK(!wrong, "%d threads start", THREADS);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], &result);
        sum += (long)result;
    }
    CHECK(counter == THREADS * ROUNDS, "no increment is lost under a mutex");
    CHECK(sum == THREADS * ROUNDS, "thread-local data is each thread's own");
    CHECK(mine == 0, "and the first thread's too");
    for (int i = 0; i < PAGES; i++)
        wrong += region[i * 4096] != THREADS;
    CHECK(!wrong, "pages touched by all at once hold every write");
    CHECK(turn == THREADS, "condition variables wake in turn");
    for (int i = 0; i < 300; i++) {
        wrong += pthread_create(&t[0], NULL, short_lived, (void *)(long)i) != 0;
        pthread_join(t[0], &result);
        wrong += (long)result != i + 1;
    }
    CHECK(!wrong, "300 threads come and go");
    return 0;
}
