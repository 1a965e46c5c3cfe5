/*
 * dma_thread_test.c - CPUs that share a device and a pool: each sees only its own data, and at the end
 * nothing is lost.
 */
#include <dma_machine.h>

#include <pthread.h>

#define THREADS 4u
#define ROUNDS  3000u
#define BYTES   9000u

static struct quire_dma_device shared = {.name = "shared", .mask = BITS(32)};
static uint64_t seeds[THREADS], refused[THREADS];

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 33;
}

static void once(uint8_t *p, unsigned cpu)
{
    uint64_t bytes = next(&seeds[cpu]) % BYTES + 1;
    unsigned fill = (unsigned)next(&seeds[cpu]);
    uint8_t *seen;
    q_ba bus;

    dma_fill(p, bytes, fill);
    if (quire_dma_map_range(&shared, p, bytes, QUIRE_DMA_BOTH, &bus) != QUIRE_OK) {
        refused[cpu]++;
        return;
    }
    seen = dma_device_sees(&shared, bus.v);
    dma_expect(seen, bytes, fill);
    dma_fill(seen, bytes, fill + 1);
    quire_dma_sync_for_cpu(&shared, bus, 0, bytes, QUIRE_DMA_BOTH);
    dma_expect(p, bytes, fill + 1);
    dma_fill(seen, bytes, fill + 2);
    quire_dma_unmap(&shared, bus, bytes, QUIRE_DMA_BOTH);
    dma_expect(p, bytes, fill + 2);
}

static void *work(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    uint8_t *p;

    hosted_cpu_set(cpu);
    for (unsigned i = 0; i < ROUNDS; i++) {
        p = dma_block(2, i % 4 ? 0 : QUIRE_GFP_DMA32);
        once(p, cpu);
        dma_block_free(p, 2);
        if (i % 64 == 0) {
            struct quire_dma_device own = {.name = "own", .mask = BITS(32)};
            struct quire_dma_stats s;

            assert_int_equal(quire_dma_device_init(&own), QUIRE_OK);
            quire_dma_stats(NULL, &s);
            assert_int_equal(s.slots, 8);
            assert_int_equal(quire_dma_device_fini(&own), QUIRE_OK);
        }
    }
    return NULL;
}

static void cpus_share_a_pool(void **state)
{
    pthread_t threads[THREADS];
    uint64_t no = 0;

    (void)state;
    dma_machine(DMA_SPAN, 8); /* room for one or two at a time */
    assert_int_equal(quire_dma_device_init(&shared), QUIRE_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = test_random();
        pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < THREADS; i++)
        no += refused[i];
    assert_int_equal(shared.maps, THREADS * ROUNDS - no);
    assert_int_equal(shared.fails, no);
    assert_int_equal(quire_dma_device_fini(&shared), QUIRE_OK);
    dma_nothing_lost();
    hosted_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cpus_share_a_pool)};

    test_seed("dma_thread_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
