/*
 * clocks.c - clocks go on, sleeps last as long as asked, affinity and policies are kept, the
 * errors are those of the manual.
 */
#include "guest.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static int64_t ns(clockid_t c)
{
    struct timespec t;

    return clock_gettime(c, &t) ? -1 : (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void clocks(void)
{
    static const clockid_t all[] = {CLOCK_REALTIME,           CLOCK_MONOTONIC,
                                    CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                                    CLOCK_MONOTONIC_RAW,      CLOCK_REALTIME_COARSE,
                                    CLOCK_MONOTONIC_COARSE,   CLOCK_BOOTTIME};
    struct timespec t;
    int wrong = 0;

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        int64_t a = ns(all[i]);

        wrong += a < 0 || ns(all[i]) < a || clock_getres(all[i], &t) || t.tv_sec || t.tv_nsec < 1;
    }
    CHECK(!wrong, "eight clocks tell the time and do not go back");
    CHECK(clock_gettime(77, &t) == -1 && errno == EINVAL, "there is no clock 77");
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8) == -1 && errno == EFAULT,
          "no time to nowhere");
    CHECK(ns(CLOCK_REALTIME) / 1000000000 - time(NULL) <= 1, "time() agrees");
}

static void woken(int sig) { (void)sig; }

static void sleeps(void)
{
    struct timespec t = {0, 30000000}, left = {9, 9};
    struct sigaction a = {.sa_handler = woken};
    struct itimerval alarm_soon = {.it_value = {0, 20000}};
    int64_t before = ns(CLOCK_MONOTONIC);

    CHECK(!nanosleep(&t, NULL), "a sleep of 30 ms");
    CHECK(ns(CLOCK_MONOTONIC) - before >= 30000000, "is not shorter");
    t.tv_nsec = 1000000000;
    CHECK(nanosleep(&t, NULL) == -1 && errno == EINVAL, "there are no 1000000000 nanoseconds");
    t = (struct timespec){-1, 0};
    CHECK(nanosleep(&t, NULL) == -1 && errno == EINVAL, "nor sleeps into the past");
    t = (struct timespec){5, 0};
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &alarm_soon, NULL);
    CHECK(nanosleep(&t, &left) == -1 && errno == EINTR && left.tv_sec == 4,
          "a signal ends a sleep and says what was left");
    clock_gettime(CLOCK_MONOTONIC, &t);
    CHECK(!clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL),
          "a moment that has passed is not waited for");
    CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL) == EINVAL,
          "nobody sleeps by his own CPU time");
}

static void spin(int64_t how_long)
{
    int64_t until = ns(CLOCK_THREAD_CPUTIME_ID) + how_long;

    while (ns(CLOCK_THREAD_CPUTIME_ID) < until)
        ;
}

static void cpu_time(void)
{
    struct rusage before, after;
    int64_t used;

    getrusage(RUSAGE_SELF, &before);
    spin(50000000);
    getrusage(RUSAGE_SELF, &after);
    used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
            before.ru_stime.tv_sec) *
               1000000l +
           after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
           before.ru_stime.tv_usec;
    CHECK(used >= 49000 && used < 5000000, "50 ms of work are charged");
}

static void affinity(void)
{
    cpu_set_t all, one;
    unsigned cpu = 99, wrong = 0;

    CHECK(!sched_getaffinity(0, sizeof(all), &all) && CPU_COUNT(&all) >= 1, "where we may run");
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        wrong +=
            sched_setaffinity(0, sizeof(one), &one) || getcpu(&cpu, NULL) || cpu != (unsigned)i;
    }
    CHECK(!wrong, "each CPU in turn, when told to");
    CPU_ZERO(&one);
    CHECK(sched_setaffinity(0, sizeof(one), &one) == -1 && errno == EINVAL,
          "no CPU at all is refused");
    CHECK(sched_setaffinity(0, sizeof(all), (cpu_set_t *)8) == -1 && errno == EFAULT,
          "so is a bad address");
    CHECK(sched_getaffinity(0, 1, &one) == -1 && errno == EINVAL, "and too small a set");
    CHECK(sched_setaffinity(999999, sizeof(all), &all) == -1 && errno == ESRCH,
          "and no such thread");
    CHECK(!sched_setaffinity(0, sizeof(all), &all), "everywhere again");
}

static void policies(void)
{
    struct sched_param p = {.sched_priority = 5};

    CHECK(sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_RR) == 1,
          "real-time priorities");
    CHECK(sched_get_priority_max(SCHED_OTHER) == 0 && sched_get_priority_max(42) == -1,
          "others have none");
    CHECK(sched_setscheduler(0, SCHED_OTHER, &p) == -1 && errno == EINVAL,
          "and may not ask for one");
    p.sched_priority = 0;
    CHECK(!sched_setscheduler(0, SCHED_BATCH, &p) && sched_getscheduler(0) == SCHED_BATCH, "batch");
    CHECK(!sched_setscheduler(0, SCHED_OTHER, &p) && sched_getscheduler(0) == SCHED_OTHER,
          "and normal again");
    CHECK(sched_getscheduler(-1) == -1 && errno == EINVAL, "no thread -1");
    CHECK(sched_getparam(0, NULL) == -1 && errno == EINVAL, "no place for the answer");
}

/* CPU-bound threads, more than CPUs: all get on. */
static volatile int stop;
static void *work(void *arg)
{
    while (!stop)
        ++*(volatile long *)arg;
    return NULL;
}

static void fairness(void)
{
    static long done[6];
    pthread_t t[6];
    struct timespec while_they_work = {0, 300000000};
    int starved = 0;

    for (int i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, work, &done[i]);
    nanosleep(&while_they_work, NULL);
    stop = 1;
    for (int i = 0; i < 6; i++) {
        pthread_join(t[i], NULL);
        starved += done[i] == 0;
    }
    CHECK(!starved, "six busy threads all get on, and the sleeper wakes");
}

int main(void)
{
    clocks();
    sleeps();
    cpu_time();
    affinity();
    policies();
    fairness();
    return 0;
}
