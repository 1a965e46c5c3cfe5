/*
 * quire_test.h - what every test includes: cmocka in the order that it wants, the hosted machine,
 * and the seed of randomised tests.
 */
#ifndef QUIRE_TEST_H
#define QUIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <hosted.h>

/* State of a small generator (xorshift64*); not 0. */
static uint64_t test_rng_state;

/* Start the random numbers of this program: from SEED in the environment, or anew; the first line
 * of output says how to repeat the run. */
static inline void test_seed(const char *program)
{
    const char *given = getenv("SEED");
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    test_rng_state =
        given ? strtoull(given, NULL, 0) : (uint64_t)t.tv_sec * 1000003u ^ (uint64_t)t.tv_nsec;
    if (!test_rng_state)
        test_rng_state = 1;
    printf("# %s: SEED=%llu repeats this run\n", program, (unsigned long long)test_rng_state);
    fflush(stdout);
}

static inline uint64_t test_random(void)
{
    uint64_t x = test_rng_state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    test_rng_state = x;
    return x * 2685821657736338717u;
}

/* 0..n-1 */
static inline uint64_t test_random_below(uint64_t n) { return test_random() % n; }

#endif
