/*
 * frame_zone_test.c - zones, nodes, reserves and migrate types: whose memory a request gets.
 */
#include <frame_machine.h>

/* proves: TRAP-5 LX-10 AS-56 VE-25 */
static void dma_is_dma_or_nothing(void **state)
{
    size_t n = 0, m;
    uint64_t reserve;
    struct quire_zone_stats s;

    (void)state;
    map_start(5 * GIB);
    map_add(MIB, 3 * GIB, 0);
    map_add(4 * GIB, GIB, 0);
    boot(1, 1, NULL, NULL);
    assert_string_equal(zone_stats(0).name, "DMA");
    assert_string_equal(zone_stats(1).name, "DMA32");
    assert_string_equal(zone_stats(2).name, "Normal");

    /* ordinary requests use the highest zone, then those below it, but leave them their reserves */
    assert_int_equal(quire_page_zone(held[n++] = quire_page_alloc(10, 0, ANY)), QUIRE_ZONE_NORMAL);
    while ((held[n] = quire_page_alloc(10, 0, ANY)))
        n++;
    while ((held[n] = quire_page_alloc(0, 0, ANY)))
        n++;
    reserve = zone_stats(2).managed / 256;
    s = zone_stats(1);
    assert_in_range(s.free, s.wmark_min + reserve, s.wmark_min + reserve + 64);
    reserve += s.managed / 256;
    s = zone_stats(0);
    assert_true(s.wmark_min + reserve > s.managed); /* so none of it was touched */
    assert_int_equal(s.free, s.managed);
    /* which DMA requests may use, */
    m = n;
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_DMA32, ANY))) {
        assert_true(quire_pa_of_page(held[n]).v < 4 * GIB);
        n++;
    }
    assert_true(n > m);
    m = n;
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_DMA, ANY))) {
        assert_true(quire_pa_of_page(held[n]).v < 16 * MIB);
        n++;
    }
    assert_true(n > m);
    /* and when there is none they fail, though other memory is free */
    for (size_t i = 0; i < m; i++)
        if (quire_page_zone(held[i]) != QUIRE_ZONE_DMA)
            quire_page_put(held[i]);
    assert_true(quire_free_pages() > 3 * GIB / 4096);
    assert_null(quire_page_alloc(0, QUIRE_GFP_DMA, ANY));
    assert_null(quire_page_alloc(3, QUIRE_GFP_DMA | QUIRE_GFP_ZERO, ANY));
    assert_null(quire_page_alloc_zone(QUIRE_ZONE_DMA, 0, 0, 0));
    assert_null(quire_page_alloc_zone(QUIRE_ZONE_MOVABLE, 0, 0, 0));
    assert_true(zone_stats(0).fails > 0);
    held[0] = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, 0, 0);
    assert_int_equal(quire_page_zone(held[0]), QUIRE_ZONE_DMA32);
    healthy();

    /* a machine without such memory has none to give */
    machine(16 * MIB, 8 * MIB);
    assert_null(quire_page_alloc(0, QUIRE_GFP_DMA, ANY));
    assert_non_null(quire_page_alloc(0, QUIRE_GFP_DMA32, ANY));
}

/* proves: TRAP-5 */
static void reserves_by_urgency(void **state)
{
    size_t n = 0, atomic, memalloc;
    struct quire_zone_stats s;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    s = zone_stats(0);
    assert_true(s.wmark_min < s.wmark_low && s.wmark_low < s.wmark_high);
    /* Linux: sqrt(16 * KiB) KiB, all of it in the one zone */
    assert_in_range(s.wmark_min * 4, 1000, 1024);
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_KERNEL, ANY)))
        n++;
    assert_in_range(quire_free_pages(), s.wmark_min, s.wmark_min + 1);
    for (atomic = n; (held[atomic] = quire_page_alloc(0, QUIRE_GFP_ATOMIC, ANY));)
        atomic++;
    assert_in_range(atomic - n, s.wmark_min / 2, s.wmark_min);
    for (memalloc = atomic; (held[memalloc] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY));)
        memalloc++;
    assert_int_equal(quire_free_pages(), 0);
    assert_int_equal(memalloc, quire_managed_pages());
    give_back(memalloc, 0);
    healthy();
}

/* Nodes 0..n-1 of 32 MiB each from 16 MiB on. */
static void numa(unsigned nodes, const uint8_t *cpu_node, const uint8_t *distance)
{
    map_start(16 * MIB + nodes * 32 * MIB);
    for (unsigned i = 0; i < nodes; i++)
        map_add(16 * MIB + i * 32 * MIB, 32 * MIB, i);
    boot(nodes, nodes, cpu_node, distance);
}

/* proves: VE-05 VM-20 AS-11 */
static void two_nodes(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    size_t n = 0, there = 0;

    (void)state;
    numa(2, cpu_node, NULL);
    assert_int_equal(quire_nodes(), 2);
    assert_int_equal(quire_cpu_node(1), 1);
    assert_int_equal(quire_node_distance(0, 0), 10);
    assert_int_equal(quire_node_distance(0, 1), 20);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        hosted_cpu_set(cpu);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            struct quire_page *p = get(o), *q = quire_page_alloc(o, 0, !cpu);

            assert_int_equal(quire_page_node(p), cpu);
            assert_int_equal(quire_page_node(q), !cpu);
            quire_page_free(p, o);
            quire_page_free(q, o);
        }
    }
    hosted_cpu_set(0);
    quire_frame_drain();
    /* this node and no other; then any */
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_THISNODE, 1))) {
        assert_int_equal(quire_page_node(held[n]), 1);
        n++;
    }
    while ((held[n] = quire_page_alloc(0, 0, 1))) {
        there += quire_page_node(held[n]) == 0;
        n++;
    }
    assert_true(there > 7000);
    give_back(n, 0);
    healthy();
}

/* proves: VE-06 AS-13 X-11 */
static void four_nodes_by_distance(void **state)
{
    /* a ring with one long side */
    static const uint8_t distance[] = {
        10, 20, 40, 30, /**/ 20, 10, 25, 40, /**/ 40, 25, 10, 15, /**/ 30, 40, 15, 10,
    };
    static const uint8_t cpu_node[] = {0, 1, 2, 3};

    (void)state;
    for (unsigned from = 0; from < 4; from++) {
        unsigned at = 10;
        size_t n = 0;

        numa(4, cpu_node, distance);
        hosted_cpu_set(from);
        /* down to the reserves: first each node to its low mark in the order of distance */
        while ((held[n] = quire_page_alloc(4, 0, ANY))) {
            unsigned d = distance[from * 4 + quire_page_node(held[n])];

            if (d < at)
                break; /* the second round */
            at = d;
            n++;
        }
        assert_int_equal(at, 40);
        assert_int_equal(quire_node_distance(from, quire_page_node(held[n - 1])), 40);
        hosted_cpu_set(0);
    }
}

/* A node without memory, and a CPU on it. */
static void a_node_without_memory(void **state)
{
    static const uint8_t cpu_node[] = {1};

    (void)state;
    map_start(32 * MIB);
    map_add(16 * MIB, 16 * MIB, 0);
    boot(2, 1, cpu_node, NULL);
    assert_int_equal(quire_page_node(get(0)), 0);
    assert_null(quire_page_alloc(0, QUIRE_GFP_THISNODE, 1));
    assert_null(quire_page_alloc(0, QUIRE_GFP_THISNODE, ANY));
    assert_int_equal(quire_page_alloc_bulk(3, held, QUIRE_GFP_THISNODE, ANY), 0);
}

/* Types keep to their own pageblocks while there are whole ones; then they share rather than fail.
 */
static void types_fall_back(void **state)
{
    static const quire_gfp types[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_MOVABLE, QUIRE_GFP_RECLAIMABLE};
    struct quire_page *p[3];

    (void)state;
    for (unsigned first = 0; first < 3; first++) {
        size_t n = 0;

        machine(16 * MIB, 16 * MIB);
        for (unsigned t = 0; t < 3; t++)
            p[t] = quire_page_alloc(0, types[t] | QUIRE_GFP_MEMALLOC, ANY);
        quire_frame_drain();
        for (unsigned t = 0; t < 3; t++) {
            struct quire_block_info b;

            assert_int_equal(quire_block_info(quire_pfn_of_page(p[t]).v / 512, &b), QUIRE_OK);
            assert_int_equal(b.type, t);
        }
        while ((held[n] = quire_page_alloc(0, types[first] | QUIRE_GFP_MEMALLOC, ANY)))
            n++;
        assert_int_equal(n + 3, quire_managed_pages()); /* also out of the blocks of the others */
        give_back(n / 2, 0);
        for (unsigned t = 0; t < 3; t++)
            for (unsigned o = 0; o < 2; o++)
                quire_page_free(quire_page_alloc(o, types[t] | QUIRE_GFP_MEMALLOC, ANY), o);
        healthy();
    }
}

/* A zone that is asked for by name gives its own frames and no others.
 * proves: VE-29 */
static void one_zone_only(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    struct quire_page *p;
    size_t n = 0;

    (void)state;
    numa(2, cpu_node, NULL);
    assert_null(quire_page_alloc_zone(QUIRE_ZONE_DMA32, QUIRE_MAX_ORDER + 1, 0, 0));
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        hosted_cpu_set(cpu);
        p = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 1, 0, ANY);
        assert_int_equal(quire_page_node(p), cpu);
        quire_page_free(p, 1);
        p = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 1, 0, !cpu);
        assert_int_equal(quire_page_node(p), !cpu);
        quire_page_free(p, 1);
    }
    hosted_cpu_set(0);
    assert_null(quire_page_alloc_zone(QUIRE_ZONE_NORMAL, 0, 0, 0));
    p = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 2, 0, 0);
    memset(quire_page_ptr(p), 0xff, 4 * 4096);
    quire_page_free(p, 2);
    p = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 2, QUIRE_GFP_ZERO, 0);
    for (unsigned i = 0; i < 4 * 4096; i++)
        assert_int_equal(((char *)quire_page_ptr(p))[i], 0);
    quire_page_free(p, 2);

    /* what it needs lies in this CPU's stacks, as single frames */
    quire_frame_drain();
    while ((held[n] = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, QUIRE_GFP_MEMALLOC, 0)))
        n++;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(quire_page_node(held[i]), 0);
        if ((quire_pfn_of_page(held[i]).v & ~1ull) == (quire_pfn_of_page(held[n / 2]).v & ~1ull))
            quire_page_free(held[i], 0);
    }
    assert_int_equal(zone_stats(0).cached, 2);
    p = quire_page_alloc_zone(QUIRE_ZONE_DMA32, 1, QUIRE_GFP_MEMALLOC, 0);
    assert_int_equal(quire_pfn_of_page(p).v, quire_pfn_of_page(held[n / 2]).v & ~1ull);
    healthy();

    quire_frame_fail_after(1);
    assert_null(quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, 0, 1));
    assert_false(quire_frame_fail_armed());
    assert_non_null(quire_page_alloc_zone(QUIRE_ZONE_DMA32, 0, 0, 1));
}

/* Many at once, of a node: from it and no other if so asked, else from it first. */
static void bulk_of_a_node(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    uint64_t there;
    size_t n;

    (void)state;
    numa(2, cpu_node, NULL);
    there = zone_stats(1).free;
    n = quire_page_alloc_bulk(1 << 14, held, QUIRE_GFP_THISNODE | QUIRE_GFP_MEMALLOC, 1);
    assert_int_equal(n, there);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(quire_page_node(held[i]), 1);
    assert_int_equal(quire_page_alloc_bulk(1, held + n, QUIRE_GFP_THISNODE, 1), 0);
    assert_int_equal(quire_page_alloc_bulk(10, held + n, 0, 1), 10);
    for (size_t i = n; i < n + 10; i++)
        assert_int_equal(quire_page_node(held[i]), 0);
    quire_page_free_bulk(n + 10, held);
    healthy();
}

/* Free blocks of a zone as a buddy system would list them, from the flags of each frame alone. */
static void blocks_by_flags(const struct quire_zone_stats *s, uint64_t out[QUIRE_MAX_ORDER + 1])
{
    uint64_t start = s->start.v, end = s->end.v;

    memset(out, 0, (QUIRE_MAX_ORDER + 1) * sizeof *out);
    for (uint64_t pfn = start; pfn < end;) {
        unsigned best = 0;

        if (!(quire_page_flags(Q_PFN(pfn)) & QUIRE_PG_FREE)) {
            pfn++;
            continue;
        }
        for (unsigned o = 1; o <= QUIRE_MAX_ORDER && !(pfn & ((1ull << o) - 1)); o++) {
            bool all = pfn + (1ull << o) <= end;

            for (uint64_t f = pfn; all && f < pfn + (1ull << o); f++)
                all = quire_page_flags(Q_PFN(f)) & QUIRE_PG_FREE;
            if (!all)
                break;
            best = o;
        }
        out[best]++;
        pfn += 1ull << best;
    }
}

/* Each zone says how large it is, how much of it is whose, and what its free ranges are: at random moments
 * just what the flags of its frames say.  Every allocation and every free is counted, and failures.
 * proves: VM-22 VE-04 AS-02 */
static void zones_know_what_they_have(void **state)
{
    static unsigned orders[512];
    uint64_t by_flags[QUIRE_MAX_ORDER + 1], in_use = 0, failed = 0;
    struct quire_zone_stats s;
    size_t n = 0;

    (void)state;
    map_start(96 * MIB);
    map_add(MIB + 5 * 4096, 40 * MIB, 0);
    map_add(60 * MIB, 21 * MIB + 3 * 4096, 0);
    boot(1, 1, NULL, NULL);
    assert_int_equal(zone_stats(0).start.v, 256 + 5);
    assert_int_equal(zone_stats(0).present, 15 * 256 - 5);
    assert_int_equal(zone_stats(1).end.v * 4096, 81 * MIB + 3 * 4096);
    assert_int_equal(zone_stats(1).present, 25 * 256 + 5 + 21 * 256 + 3);
    assert_int_equal(quire_managed_pages(), zone_stats(0).managed + zone_stats(1).managed);
    for (unsigned round = 0; round < 30; round++) {
        uint64_t traffic = 0, fails = 0;

        for (unsigned step = 0; step < 60; step++)
            if (n && (n == 512 || test_random_below(2))) {
                size_t i = test_random_below(n);

                quire_page_free(held[i], orders[i]);
                in_use -= 1ull << orders[i];
                held[i] = held[--n];
                orders[i] = orders[n];
            } else {
                orders[n] = (unsigned)test_random_below(QUIRE_MAX_ORDER + 1);
                held[n] = quire_page_alloc(orders[n], QUIRE_GFP_MEMALLOC, ANY);
                if (held[n])
                    in_use += 1ull << orders[n++];
                else
                    failed++;
            }
        quire_frame_drain();
        for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
            blocks_by_flags(&s, by_flags);
            assert_memory_equal(by_flags, s.free_blocks, sizeof by_flags);
            traffic += s.allocs - s.frees;
            fails += s.fails;
        }
        assert_int_equal(traffic, in_use);
        assert_int_equal(quire_free_pages(), quire_managed_pages() - in_use);
        assert_int_equal(fails, failed);
    }
    for (size_t i = 0; i < n; i++)
        quire_page_free(held[i], orders[i]);
}

static void tables_of_places_have_ends(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};

    (void)state;
    numa(2, cpu_node, NULL);
    assert_int_equal(quire_cpu_node(1), 1);
    assert_int_equal(quire_cpu_node(2), 0);
    assert_int_equal(quire_node_distance(2, 0), 0);
    assert_int_equal(quire_node_distance(0, 2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dma_is_dma_or_nothing),
        cmocka_unit_test(reserves_by_urgency),
        cmocka_unit_test(two_nodes),
        cmocka_unit_test(four_nodes_by_distance),
        cmocka_unit_test(a_node_without_memory),
        cmocka_unit_test(types_fall_back),
        cmocka_unit_test(one_zone_only),
        cmocka_unit_test(bulk_of_a_node),
        cmocka_unit_test(zones_know_what_they_have),
        cmocka_unit_test(tables_of_places_have_ends),
    };

    test_seed("frame_zone_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
