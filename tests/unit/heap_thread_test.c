/*
 * heap_thread_test.c - many CPUs at once.
 */
#include <heap_suite.h>

#include <pthread.h>

#define THREADS 4
#define SLOTS   64

static struct quire_cache *shared_cache;
static void *mailbox[SLOTS];

/* Take, write, check, free; and exchange objects with the others through mailboxes, so that many
 * are freed on another CPU and another node than they came from. */
static void *churn(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    uint64_t seed = cpu * 977 + 1;
    void *held[200] = {0};

    hosted_cpu_set(cpu);
    for (int i = 0; i < 60000; i++) {
        unsigned k;
        uint64_t *p;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        k = (unsigned)(seed >> 33) % 200;
        p = held[k];
        if (p) {
            assert_true(p[0] == (uint64_t)(uintptr_t)p && p[7] == ~p[0]);
            if (seed >> 60 == 0)
                p = __atomic_exchange_n(&mailbox[k % SLOTS], p, __ATOMIC_ACQ_REL);
            held[k] = NULL;
            if (p) {
                assert_true(p[0] == (uint64_t)(uintptr_t)p && p[7] == ~p[0]);
                p[0] = 0;
                quire_cache_free(shared_cache, p);
            }
        } else {
            p = held[k] = quire_cache_alloc(shared_cache, QUIRE_GFP_KERNEL);
            assert_non_null(p);
            p[0] = (uint64_t)(uintptr_t)p;
            p[7] = ~p[0];
        }
        if (i % 1000 == 0) {
            void *q = quire_kmalloc(seed >> 50, QUIRE_GFP_KERNEL);

            quire_kfree(q);
            if (cpu == 1)
                quire_heap_shrink();
            if (cpu == 2)
                heap_stats("shared");
        }
    }
    for (int k = 0; k < 200; k++)
        if (held[k])
            quire_cache_free(shared_cache, held[k]);
    return NULL;
}

/* Free, cached and taken objects add up when all is quiet, on one node and on two.
 * proves: TRAP-4 AS-31 */
static void threads_lose_nothing(void **state)
{
    pthread_t t[THREADS];
    struct quire_cache_stats s;

    (void)state;
    shared_cache = cache("shared", 64, 0, 0);
    memset(mailbox, 0, sizeof mailbox);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    heap_sound();
    for (int i = 0; i < SLOTS; i++)
        if (mailbox[i])
            quire_cache_free(shared_cache, mailbox[i]);
    s = heap_stats("shared");
    assert_int_equal(s.active, 0);
    assert_int_equal(s.allocs, s.frees);
    heap_sound();
    assert_int_equal(quire_cache_destroy(shared_cache), QUIRE_OK);
    expect_nothing_lost();
}

static int setup_modes(void **state, uint32_t flags)
{
    struct quire_heap_options o = {
        .flags = flags, .sample_interval = 50, .quarantine_bytes = 20000};

    o.seed = test_random() | 1;
    assert_int_equal(quire_heap_configure(&o), QUIRE_OK);
    return setup_nodes(state);
}

static int setup_hardened(void **state)
{
    return setup_modes(state, QUIRE_HEAP_FLAGS & ~QUIRE_HEAP_TRACK & ~QUIRE_HEAP_LEAKSCAN);
}

static int setup_encoded(void **state)
{
    return setup_modes(state, QUIRE_HARDEN_ENCODE | QUIRE_HARDEN_RANDOM | QUIRE_HARDEN_SAMPLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(threads_lose_nothing),
        NODES(threads_lose_nothing),
        cmocka_unit_test_setup_teardown(threads_lose_nothing, setup_hardened, teardown_modes),
        cmocka_unit_test_setup_teardown(threads_lose_nothing, setup_encoded, teardown_modes),
    };

    test_seed("heap_thread_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
