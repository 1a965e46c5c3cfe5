/*
 * percpu_test.c - memory of which each CPU has a copy (quire/percpu.h).
 */
#include <kva_suite.h>

#include <pthread.h>

#include <quire/percpu.h>

#define UNIT QUIRE_PERCPU_UNIT

static struct quire_percpu_stats percpu(void)
{
    struct quire_percpu_stats s;

    OK(quire_percpu_verify());
    quire_percpu_stats(&s);
    return s;
}

/* CPU n's byte at p + off, through the direct map. */
static uint8_t *byte_at(void *p, unsigned cpu, size_t off)
{
    uint8_t *at = at_kernel_address((uint8_t *)quire_percpu_ptr(p, cpu) + off);

    assert_non_null(at);
    return at;
}

static void all_copies(void *p, size_t size, int want, int put)
{
    for (unsigned cpu = 0; cpu < quire_cpus(); cpu++)
        for (size_t off = 0; off < size; off++) {
            uint8_t *at = byte_at(p, cpu, off);

            if (want >= 0 && *at != (uint8_t)(want + (int)cpu))
                fail_msg("byte %zu of CPU %u's copy is %u", off, cpu, *at);
            *at = (uint8_t)(put + (int)cpu);
        }
}

/* Sizes of all kinds: aligned, zero on every CPU whatever was there before, apart from each other. */
static void copies_are_zero_and_apart(void **state)
{
    static const size_t sizes[] = {1,    8,    9,    24,   40,   64,   65,   100,
                                   130,  200,  300,  500,  700,  900,  1030, 1361,
                                   1500, 2048, 2049, 4096, 4097, 9000, UNIT};
    enum { N = sizeof sizes / sizeof *sizes };
    void *p[N];

    (void)state;
    assert_true(quire_cpus() > 1);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < N; i++) {
            p[i] = quire_percpu_alloc(sizes[i], 8, QUIRE_GFP_KERNEL);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 8, 0);
            for (unsigned cpu = 0; cpu < quire_cpus(); cpu++)
                for (size_t off = 0; off < sizes[i]; off++)
                    assert_int_equal(*byte_at(p[i], cpu, off), 0);
            all_copies(p[i], sizes[i], -1, (int)i + 1);
        }
        assert_int_equal(percpu().objects, N);
        for (unsigned i = 0; i < N; i++)
            all_copies(p[i], sizes[i], (int)i + 1, 0xee);
        for (unsigned i = 0; i < N; i++)
            quire_percpu_free(p[i * 7 % N]);
        assert_int_equal(percpu().objects, 0);
        assert_int_equal(percpu().bytes, 0);
    }
    quire_percpu_free(NULL);
}

static void alignments(void **state)
{
    (void)state;
    for (size_t align = 1; align <= UNIT; align *= 2)
        for (size_t size = 1; size <= UNIT; size = size * 3 + 1) {
            void *p = quire_percpu_alloc(size, align, QUIRE_GFP_KERNEL);

            assert_non_null(p);
            assert_int_equal((uintptr_t)p % align, 0);
            assert_int_equal((uintptr_t)quire_percpu_ptr(p, 1) % align, 0);
            *byte_at(p, quire_cpus() - 1, size - 1) = 1;
            quire_percpu_free(p);
        }
    assert_int_equal(percpu().objects, 0);
}

static void the_impossible_is_refused(void **state)
{
    (void)state;
    assert_null(quire_percpu_alloc(0, 8, QUIRE_GFP_KERNEL));
    assert_null(quire_percpu_alloc(UNIT + 1, 8, QUIRE_GFP_KERNEL));
    assert_null(quire_percpu_alloc(SIZE_MAX, 8, QUIRE_GFP_KERNEL));
    assert_null(quire_percpu_alloc(8, 0, QUIRE_GFP_KERNEL));
    assert_null(quire_percpu_alloc(8, 24, QUIRE_GFP_KERNEL));
    assert_null(quire_percpu_alloc(8, 2 * UNIT, QUIRE_GFP_KERNEL));
    /* nothing is there yet, and an interrupt cannot map more */
    assert_null(quire_percpu_alloc(8, 8, QUIRE_GFP_ATOMIC));
    assert_int_equal(percpu().frames, 0);
    quire_percpu_free(quire_percpu_alloc(8, 8, QUIRE_GFP_KERNEL));
    quire_percpu_free(quire_percpu_alloc(8, 8, QUIRE_GFP_ATOMIC));
}

static void caught(const char *words)
{
    if (!strstr(hosted_panic_text(), words))
        fail_msg("said '%s', not '%s'", hosted_panic_text(), words);
}

static void misuse_is_named(void **state)
{
    uint8_t *p = quire_percpu_alloc(48, 8, QUIRE_GFP_KERNEL), *q, *area;
    static char foreign[64];

    (void)state;
    q = quire_percpu_alloc(9000, 8, QUIRE_GFP_KERNEL);
    area = quire_vmalloc(5000, QUIRE_GFP_KERNEL);
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(p + 8)));
    caught("not the start");
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(q + PAGE)));
    caught("not the start");
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(q + 16)));
    caught("not the start");
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(quire_percpu_ptr(p, 1))));
    caught("another CPU");
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(foreign)));
    caught("foreign");
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(area)));
    caught("no per-CPU memory");
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)((uintptr_t)p & ~(uintptr_t)(UNIT - 1)))));
    caught("per-CPU memory");
    quire_percpu_free(p);
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(p)));
    caught("double free");
    quire_percpu_free(q);
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(q)));
    caught("double free");
    quire_vfree(area);
    quire_kva_purge();
    assert_true(HOSTED_EXPECT_PANIC(quire_percpu_free(q)));
    caught("already freed");
    assert_int_equal(percpu().objects, 0);
}

/* A unit holds what it should before a second chunk is made; everything goes back. */
static void chunks_fill_and_go(void **state)
{
    enum { N = UNIT / 64 };
    static void *p[2 * N];
    uint64_t left = frames_left();

    (void)state;
    for (unsigned i = 0; i < 2 * N; i++) {
        p[i] = quire_percpu_alloc(64, 64, QUIRE_GFP_KERNEL);
        assert_non_null(p[i]);
        assert_int_equal(percpu().frames, (i / N + 1) * quire_cpus() * (UNIT / PAGE));
    }
    assert_int_equal(percpu().bytes, 2 * UNIT);
    assert_int_equal(stats().areas, 2);
    for (unsigned i = 0; i < 2 * N; i += 2)
        quire_percpu_free(p[i]);
    quire_kva_purge();
    assert_int_equal(stats().areas, 2); /* half of each is out */
    for (unsigned i = 1; i < 2 * N; i += 2)
        quire_percpu_free(p[i]);
    quire_kva_tick();
    quire_kva_purge();
    assert_int_equal(stats().areas, 0);
    assert_int_equal(percpu().frames, 0);
    quire_heap_drain();
    assert_int_equal(frames_left(), left);
}

static void copies_lie_on_their_nodes(void **state)
{
    void *p;

    teardown(state);
    kva_machine(64 * HEAP_MIB, 2, 1ull << 40);
    assert_int_equal(quire_nodes(), 2);
    p = quire_percpu_alloc(100, 8, QUIRE_GFP_KERNEL);
    for (unsigned cpu = 0; cpu < quire_cpus(); cpu++)
        assert_int_equal(quire_page_node(quire_kva_page(quire_percpu_ptr(p, cpu))),
                         quire_cpu_node(cpu));
    quire_percpu_free(p);
}

/* Whatever fails on the way leaves nothing behind. */
static void every_failure_leaves_nothing(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (int layer = 0; layer < 2; layer++)
        for (int64_t n = 1;; n++) {
            uint64_t before;
            bool reached;
            void *p;

            hosted_fini();
            kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
            before = frames_left();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(n);
            p = quire_percpu_alloc(64, 8, QUIRE_GFP_KERNEL);
            reached = !(layer ? quire_heap_fail_armed : quire_frame_fail_armed)();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(-1);
            refused += !p;
            quire_percpu_free(p);
            assert_int_equal(percpu().objects, 0);
            OK(quire_kva_verify());
            assert_int_equal(frames_left(), before);
            heap_sound();
            if (!reached)
                break;
        }
    assert_true(refused > 1);
}

#define THREADS 4
static uint64_t seeds[THREADS];

static void *many(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    uint64_t rng = seeds[cpu];
    void *p[50] = {NULL};

    hosted_cpu_set(cpu);
    for (int i = 0; i < 20000; i++) {
        unsigned k;

        rng = rng * 6364136223846793005u + 1442695040888963407u;
        k = (unsigned)(rng >> 33) % 50;
        if (p[k]) {
            assert_int_equal(*(uint32_t *)byte_at(p[k], cpu, 0), k + 1);
            quire_percpu_free(p[k]);
            p[k] = NULL;
        } else if ((p[k] = quire_percpu_alloc(8 + (rng >> 20) % 3000, 8, QUIRE_GFP_KERNEL))) {
            assert_int_equal(*(uint32_t *)byte_at(p[k], cpu, 0), 0);
            *(uint32_t *)byte_at(p[k], cpu, 0) = k + 1;
        }
        if (i % 1000 == 0)
            quire_kva_purge();
    }
    for (unsigned k = 0; k < 50; k++)
        quire_percpu_free(p[k]);
    return NULL;
}

static void threads_keep_apart(void **state)
{
    pthread_t t[THREADS];

    (void)state;
    assert_true(quire_cpus() >= THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        seeds[i] = test_random();
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, many, (void *)i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(percpu().objects, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(copies_are_zero_and_apart),    TEST(alignments),
        TEST(the_impossible_is_refused),    TEST(misuse_is_named),
        TEST(chunks_fill_and_go),           TEST(copies_lie_on_their_nodes),
        TEST(every_failure_leaves_nothing), TEST(threads_keep_apart),
    };

    test_seed("percpu_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
