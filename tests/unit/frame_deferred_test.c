/*
 * frame_deferred_test.c - a machine that starts on a part of its memory and takes over the rest later.
 */
#include <frame_machine.h>

#include <pthread.h>

#define CHUNK (4096ull << QUIRE_SECTION_ORDER)
#define STEPS 200u /* more than there are chunks */

static struct quire_boot b;

/* Two nodes, 13 chunks and bits of others; reservations, holes, a pageblock of both nodes. */
static void start(uint64_t first_bytes, unsigned cpus)
{
    static const uint8_t cpu_node[] = {0, 1, 0, 1};

    map_start(24 * CHUNK);
    map_add(MIB, 7 * CHUNK - 9 * MIB + 8192, 0);
    map_add(7 * CHUNK - 8 * MIB + 8192, 5 * CHUNK, 1);
    map_add(20 * CHUNK + MIB, CHUNK + 4096, 0);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(quire_memmap_reserve(&map, Q_PA(i * CHUNK + 3 * MIB + i * 40960),
                                              i % 3 ? 12288 : 2 * MIB, "test", NULL),
                         QUIRE_OK);
    b = (struct quire_boot){
        .map = &map, .nodes = 2, .cpus = cpus, .cpu_node = cpu_node, .first_bytes = first_bytes};
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    healthy();
}

static uint64_t sum_blocks(uint64_t blocks[QUIRE_MAX_ORDER + 1])
{
    blocks_all(blocks);
    return quire_free_pages();
}

/* Boot on two chunks of each node: the rest cannot be looked at and is not counted.  Taken over step by step
 * it is, in the end, what a machine is that took over everything at once.
 * proves: LX-70 LX-69 */
static void the_rest_comes_later(void **state)
{
    uint64_t at_once[QUIRE_MAX_ORDER + 1], later[QUIRE_MAX_ORDER + 1], total, free;
    unsigned steps = 0;

    (void)state;
    start(0, 1);
    assert_int_equal(quire_frame_deferred(), 0);
    assert_int_equal(quire_frame_deferred_step(), QUIRE_NOT_FOUND);
    total = sum_blocks(at_once);

    start(2 * CHUNK, 1);
    free = quire_free_pages();
    assert_in_range(free * 4096, 3 * CHUNK, 7 * CHUNK);
    assert_in_range(quire_frame_deferred(), 8, 11);
    for (uint64_t pfn = 4 * CHUNK / 4096; pfn < 6 * CHUNK / 4096; pfn++) {
        assert_false(quire_pfn_valid(Q_PFN(pfn)));
        assert_int_equal(quire_page_flags(Q_PFN(pfn)), QUIRE_PG_RESERVED);
    }
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
    assert_true(hosted_populated(CHUNK / 4096 - 1));
    for (uint64_t pfn = 4 * CHUNK / 4096; pfn < 6 * CHUNK / 4096; pfn++)
        assert_false(hosted_populated(pfn));
#endif
    for (; quire_frame_deferred_step() == QUIRE_OK; steps++) {
        assert_true(steps < STEPS);
        assert_true(quire_free_pages() >= free);
        free = quire_free_pages();
        healthy();
    }
    assert_int_equal(quire_frame_deferred(), 0);
    assert_in_range(total - free, 0, 1); /* the bitmap of chunks */
    sum_blocks(later);
    for (unsigned o = 9; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(at_once[o], later[o]);
    for (uint64_t pfn = 4 * CHUNK / 4096; pfn < 6 * CHUNK / 4096; pfn++)
        assert_true(quire_pfn_valid(Q_PFN(pfn)));
    exhaust_every_order();
}

/* A CPU takes over memory of its own node first. */
static void own_node_first(void **state)
{
    (void)state;
    start(2 * CHUNK, 2);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        struct quire_zone_stats s;
        uint64_t before[2] = {0}, after[2] = {0};

        for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
            before[s.node] += s.managed;
        hosted_cpu_set(1 - cpu);
        assert_int_equal(quire_frame_deferred_step(), QUIRE_OK);
        for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
            after[s.node] += s.managed;
        assert_true(after[1 - cpu] > before[1 - cpu]);
    }
    hosted_cpu_set(0);
}

/* Whoever finds no memory takes over what there is: all of it can be had without one call.
 * proves: LX-70 */
static void requests_help_themselves(void **state)
{
    uint64_t total, n;

    (void)state;
    start(0, 1);
    total = exhaust(9, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE);
    start(CHUNK, 1);
    assert_true(quire_free_pages() / 512 < total / 2);
    n = exhaust(9, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE);
    assert_int_equal(n, total);
    assert_int_equal(quire_frame_deferred(), 0);
    healthy();
    give_back(n, 9);

    start(CHUNK, 1);
    n = quire_page_alloc_bulk(QI_COUNT(held), held, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE, ANY);
    assert_int_equal(n, quire_managed_pages());
    assert_int_equal(quire_frame_deferred(), 0);
    give_back(n, 0);
    healthy();

    start(CHUNK, 1);
    while (quire_page_alloc_zone(QUIRE_ZONE_DMA32, 9, QUIRE_GFP_MEMALLOC, 0))
        continue;
    assert_int_equal(quire_frame_deferred(), 0);
}

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
/* Struct pages that cannot be had: the chunk stays for later, and nobody crashes. */
static void no_struct_pages(void **state)
{
    uint64_t left, free;

    (void)state;
    start(2 * CHUNK, 1);
    left = quire_frame_deferred();
    free = quire_free_pages();
    for (unsigned i = 0; i < 3; i++) {
        hosted_fail_populate = 0;
        assert_int_equal(quire_frame_deferred_step(), QUIRE_NO_MEMORY);
        assert_int_equal(quire_frame_deferred(), left);
        assert_int_equal(quire_free_pages(), free);
    }
    while (quire_frame_deferred_step() == QUIRE_OK)
        left--;
    assert_int_equal(left, 0);
    exhaust_every_order();
}
#endif

struct worker {
    pthread_t thread;
    unsigned cpu;
    uint64_t steps, frames;
};

/* Takes over and allocates by turns, and gives back. */
static void *work(void *arg)
{
    struct quire_page *mine[600];
    struct worker *w = arg;
    unsigned n = 0;

    hosted_cpu_set(w->cpu);
    for (unsigned round = 0; round < 600; round++) {
        if (round % 40 == w->cpu)
            w->steps += quire_frame_deferred_step() == QUIRE_OK;
        mine[n] = quire_page_alloc(round % 3 ? 0 : 9, QUIRE_GFP_MOVABLE, ANY);
        if (!mine[n])
            continue;
        quire_page_flags(quire_pfn_of_page(mine[n]));
        quire_pfn_valid(Q_PFN((round * 40503u) % (24 * CHUNK / 4096)));
        n++;
    }
    w->frames = n;
    while (n-- > 0)
        quire_page_put(mine[n]);
    return NULL;
}

/* All CPUs at once, beside allocations: every chunk is taken over once.
 * proves: LX-70 */
static void all_cpus_at_once(void **state)
{
    struct worker w[4] = {{0}};
    uint64_t total, left, steps = 0;

    (void)state;
    start(0, 4);
    total = quire_free_pages();
    start(CHUNK, 4);
    left = quire_frame_deferred();
    for (unsigned i = 0; i < 4; i++) {
        w[i].cpu = i;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(w[i].thread, NULL);
    for (unsigned i = 0; i < 4; i++)
        steps += w[i].steps;
    assert_true(steps > 0 && steps <= left);
    while (quire_frame_deferred_step() == QUIRE_OK)
        steps++;
    assert_int_equal(quire_frame_deferred(), 0);
    quire_frame_drain();
    assert_in_range(total - quire_free_pages(), 0, 1);
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rest_comes_later),
        cmocka_unit_test(own_node_first),
        cmocka_unit_test(requests_help_themselves),
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
        cmocka_unit_test(no_struct_pages),
#endif
        cmocka_unit_test(all_cpus_at_once),
    };

    test_seed("frame_deferred_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
