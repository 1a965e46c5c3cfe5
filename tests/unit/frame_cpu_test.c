/*
 * frame_cpu_test.c - frames taken and given back by many CPUs at once.
 */
#include <frame_machine.h>

#include <pthread.h>

#define STRESS_CPUS 4

static void *stress_cpu(void *arg)
{
    enum { HOLD = 300 };
    struct quire_page *mine[HOLD] = {NULL};
    uint8_t orders[HOLD];
    unsigned cpu = (unsigned)(uintptr_t)arg, x = cpu * 7919 + 1;

    hosted_cpu_set(cpu);
    for (unsigned i = 0; i < 60000; i++) {
        unsigned k;

        x = x * 1664525 + 1013904223;
        k = (x >> 8) % HOLD;
        if (mine[k]) {
            /* nobody else was given it */
            assert_int_equal(mine[k]->owner, cpu + 1);
            quire_page_free(mine[k], orders[k]);
            mine[k] = NULL;
            continue;
        }
        orders[k] = (x >> 20) % 16 ? 0 : (x >> 24) % 10;
        mine[k] =
            quire_page_alloc(orders[k], (x >> 28) % 2 ? QUIRE_GFP_USER : QUIRE_GFP_KERNEL, ANY);
        if (mine[k])
            mine[k]->owner = cpu + 1;
    }
    for (unsigned k = 0; k < HOLD; k++)
        if (mine[k])
            quire_page_free(mine[k], orders[k]);
    return NULL;
}

/* proves: TRAP-4 */
static void cpus_conserve_frames(void **state)
{
    pthread_t threads[STRESS_CPUS];
    uint64_t free, blocks[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
    uint64_t locked = 0, cached = 0, ops = 0;
    struct quire_zone_stats s;

    (void)state;
    map_start(128 * MIB);
    map_add(MIB, 127 * MIB, 0);
    boot(1, STRESS_CPUS, NULL, NULL);
    free = quire_free_pages();
    assert_int_equal(free, quire_managed_pages());
    blocks_all(blocks);
    for (unsigned i = 0; i < STRESS_CPUS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, stress_cpu, (void *)(uintptr_t)i), 0);
    for (unsigned i = 0; i < STRESS_CPUS; i++)
        pthread_join(threads[i], NULL);
    /* free + allocated (none) + cached = total, at rest */
    assert_int_equal(quire_free_pages(), free);
    healthy();
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        cached += s.cached;
        locked += s.lock_acquisitions;
        ops += s.allocs;
        assert_int_equal(s.allocs, s.frees);
        assert_int_equal(s.free + s.cached, s.managed);
    }
    assert_true(cached > 0);
    assert_true(locked < ops / 2); /* most calls met no lock */
    quire_frame_drain();
    healthy();
    blocks_all(after);
    assert_memory_equal(blocks, after, sizeof blocks);
    assert_true(ops > 0);
}

/* Nanoseconds of n pairs, the best of five: other work on the machine only adds. */
static uint64_t time_pairs(unsigned n)
{
    uint64_t best = UINT64_MAX;

    for (unsigned round = 0; round < 5; round++) {
        uint64_t t = qport_now_ns();

        for (unsigned i = 0; i < n; i++)
            quire_page_free(get(0), 0);
        t = qport_now_ns() - t;
        best = t < best ? t : best;
    }
    return best;
}

/* The per-CPU path takes no lock and is faster than the zone's.
 * proves: TRAP-4 */
static void the_fast_path_takes_no_lock(void **state)
{
    const unsigned n = 20000;
    uint64_t fast, slow, before;

    (void)state;
    machine(16 * MIB, 32 * MIB);
    quire_page_free(get(0), 0);
    before = zone_stats(0).lock_acquisitions;
    fast = time_pairs(n);
    assert_true(zone_stats(0).lock_acquisitions - before < 10);

    quire_frame_fail_after(INT64_MAX); /* armed: every call goes to the zone */
    slow = time_pairs(n);
    quire_frame_fail_after(-1);
    assert_true(zone_stats(0).lock_acquisitions - before > n);
    assert_true(fast < slow);
    printf("# per-CPU pair %llu ns, zone pair %llu ns\n", (unsigned long long)fast / n,
           (unsigned long long)slow / n);
}

static struct quire_page *shared[2][64];
static pthread_barrier_t both;

static void *drop_shared(void *arg)
{
    hosted_cpu_set((unsigned)(uintptr_t)arg);
    for (unsigned round = 0; round < 2000; round++) {
        pthread_barrier_wait(&both);
        for (unsigned i = 0; i < 64; i++)
            quire_page_put(shared[round % 2][i]);
    }
    return NULL;
}

/* Of two holders that let go at once one is the last, whichever it is: the page is freed, once. */
static void two_holders_let_go_at_once(void **state)
{
    pthread_t threads[2];
    uint64_t before;

    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 48 * MIB, 0);
    boot(1, 3, NULL, NULL);
    before = quire_free_pages();
    hosted_cpu_set(2);
    assert_int_equal(pthread_barrier_init(&both, NULL, 3), 0);
    for (uintptr_t t = 0; t < 2; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, drop_shared, (void *)t), 0);
    for (unsigned round = 0; round < 2000; round++) {
        /* the others still let go of what they were given in the round before */
        for (unsigned i = 0; i < 64; i++) {
            shared[round % 2][i] = get(i % 3);
            quire_page_get(shared[round % 2][i]);
        }
        pthread_barrier_wait(&both);
    }
    for (unsigned t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    pthread_barrier_destroy(&both);
    hosted_cpu_set(0);
    assert_int_equal(quire_free_pages(), before);
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_conserve_frames),
        cmocka_unit_test(the_fast_path_takes_no_lock),
        cmocka_unit_test(two_holders_let_go_at_once),
    };

    test_seed("frame_cpu_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
