/*
 * futexes.c - futex(2) call by call: waiting, waking, moving, timeouts, sharing, ownership, robustness.
 *
 */
#include "guest.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static long futex(_Atomic uint32_t *at, int op, uint32_t val, const void *timeout, void *second,
                  uint32_t val3)
{
    return syscall(SYS_futex, at, op, val, timeout, second, val3);
}

static _Atomic uint32_t word, other;
static _Atomic int woken;

static void *waiter(void *arg)
{
    int op = arg ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE;

    while (futex(&word, op, 1, NULL, NULL, 0) == -1 && errno == EINTR)
        ;
    woken++;
    return NULL;
}

static void start(pthread_t *t, int n, void *arg)
{
    woken = 0;
    word = 1;
    for (int i = 0; i < n; i++)
        pthread_create(&t[i], NULL, waiter, arg);
    usleep(100000);
}

static void until(int n)
{
    for (int i = 0; i < 1000 && woken < n; i++)
        usleep(2000);
}

static void waking(void)
{
    pthread_t t[5];
    struct timespec ts = {0, 30000000}, now;

    CHECK(futex(&word, FUTEX_WAIT, 5, NULL, NULL, 0) == -1 && errno == EAGAIN,
          "another value: no wait");
    CHECK(futex(&word, FUTEX_WAIT, word, &ts, NULL, 0) == -1 && errno == ETIMEDOUT,
          "a wait ends in time");
    CHECK(futex((void *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EINVAL,
          "an unaligned word is refused");
    CHECK(futex((void *)8, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EFAULT, "so is none");
    ts.tv_nsec = 1000000000;
    CHECK(futex(&word, FUTEX_WAIT, word, &ts, NULL, 0) == -1 && errno == EINVAL,
          "and a bad timeout");
    CHECK(futex(&word, 99, 0, NULL, NULL, 0) == -1 && errno == ENOSYS, "and an unknown operation");
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_nsec += 20000000;
    if (now.tv_nsec >= 1000000000)
        now.tv_sec++, now.tv_nsec -= 1000000000;
    CHECK(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, word, &now, NULL, 1) == -1 &&
              errno == ETIMEDOUT,
          "an absolute timeout of the wall clock");
    CHECK(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0, "nobody to wake");
    start(t, 5, NULL);
    CHECK(futex(&word, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0) == 2, "two of five woken");
    until(2);
    CHECK(woken == 2, "two came");
    CHECK(futex(&word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) == 3, "the rest");
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    start(t, 4, NULL);
    CHECK(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 2) == -1 && errno == EAGAIN,
          "requeue looks at the value");
    CHECK(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 1) == 3,
          "one woken, two moved");
    CHECK(futex(&word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) == 1, "one had stayed");
    CHECK(futex(&other, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) == 2, "two are at the other word");
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    start(t, 2, NULL);
    other = 5;
    CHECK(futex(&other, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &word,
                (uint32_t)FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 1)) == 1 &&
              word == 4,
          "wake-op changes the word and wakes by its old value");
    futex(&word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

static void shared(void)
{
    _Atomic uint32_t *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    _Atomic uint32_t *alias = mremap((void *)p, 0, 4096, MREMAP_MAYMOVE);
    int status;
    pid_t child;

    CHECK(p != MAP_FAILED && alias != MAP_FAILED, "shared memory, mapped twice");
    *p = 7;
    child = fork();
    if (!child) {
        while (futex(p, FUTEX_WAIT, 7, NULL, NULL, 0) == -1 && errno == EINTR)
            ;
        _exit(*p == 8 ? 0 : 1);
    }
    usleep(100000);
    *alias = 8;
    CHECK(futex(alias, FUTEX_WAKE, 1, NULL, NULL, 0) == 1,
          "the other process sleeps on the same word");
    waitpid(child, &status, 0);
    CHECK(status == 0, "and woke");
}

static void *owner(void *arg)
{
    (void)arg;
    word = (uint32_t)syscall(SYS_gettid);
    usleep(100000);
    return (void *)(uintptr_t)futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static void ownership(void)
{
    uint32_t me = (uint32_t)syscall(SYS_gettid);
    pthread_t t;
    void *result;

    word = 0;
    CHECK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 && word == me,
          "a free lock is taken");
    CHECK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == -1 && errno == EDEADLK,
          "but not twice");
    CHECK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 && word == 0,
          "and given back");
    CHECK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == -1 && errno == EPERM,
          "by the owner only");
    pthread_create(&t, NULL, owner, NULL);
    while (!word)
        usleep(1000);
    CHECK(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == -1 && errno == EAGAIN,
          "try does not wait");
    CHECK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 &&
              (word & FUTEX_TID_MASK) == me,
          "an owned one is handed over");
    pthread_join(t, &result);
    CHECK(result == NULL, "by an unlock that succeeded");
    futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static pthread_mutex_t robust;

static void *dies_holding(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&robust);
    return NULL;
}

static void robustness(int protocol, const char *name)
{
    pthread_mutexattr_t a;
    pthread_t t;

    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setprotocol(&a, protocol);
    CHECK(pthread_mutex_init(&robust, &a) == 0, "a robust mutex (%s)", name);
    pthread_create(&t, NULL, dies_holding, NULL);
    pthread_join(t, NULL);
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD, "its owner died");
    CHECK(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0,
          "it is repaired");
    CHECK(pthread_mutex_lock(&robust) == 0 && pthread_mutex_unlock(&robust) == 0, "and works");
    pthread_mutex_destroy(&robust);
}

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long total, turn;

static void *worker(void *arg)
{
    long me = (long)(intptr_t)arg;

    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&m);
        total++;
        pthread_mutex_unlock(&m);
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&m);
        while (turn % 4 != me)
            pthread_cond_wait(&c, &m);
        turn++;
        pthread_cond_broadcast(&c);
        pthread_mutex_unlock(&m);
    }
    return NULL;
}

static void threads_together(void)
{
    pthread_t t[4];

    pthread_barrier_init(&barrier, NULL, 4);
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, worker, (void *)(intptr_t)i);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    CHECK(total == 8000 && turn == 200, "mutex, condition and barrier of four threads");
}

struct waitv_entry {
    uint64_t val, uaddr;
    uint32_t flags, reserved;
};

static void *wake_other(void *arg)
{
    (void)arg;
    usleep(50000);
    other = 1;
    futex(&other, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return NULL;
}

static void several(void)
{
    struct waitv_entry v[2] = {{0, (uintptr_t)&word, 2 | 128, 0},
                               {0, (uintptr_t)&other, 2 | 128, 0}};
    pthread_t t;
    long r;

    word = other = 0;
    v[1].val = 3;
    CHECK(syscall(449, v, 2, 0, NULL, 0) == -1 && errno == EAGAIN,
          "futex_waitv looks at all values");
    v[1].val = 0;
    pthread_create(&t, NULL, wake_other, NULL);
    r = syscall(449, v, 2, 0, NULL, 0);
    CHECK(r == 1, "and tells which one woke it");
    pthread_join(t, NULL);
    CHECK(syscall(449, v, 0, 0, NULL, 0) == -1 && errno == EINVAL, "none is not enough");
}

int main(void)
{
    waking();
    shared();
    ownership();
    robustness(PTHREAD_PRIO_NONE, "plain");
    robustness(PTHREAD_PRIO_INHERIT, "owner");
    threads_together();
    several();
    return 0;
}
