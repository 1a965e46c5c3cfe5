/*
 * frame_test.c - the frame allocator on hosted machines: shapes of memory that traps are made of,
 * misuse, CPUs, nodes, reserves, reports.  Long because all of them share one set of machines.
 */
#include <quire_test.h>

#include <pthread.h>

#include <frame/frame.h>
#include <quire/stats.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define ANY QUIRE_NODE_ANY
#define CAP 64

static struct quire_mem_range ranges[CAP], reserved[CAP];
static struct quire_memmap map;
/* large enough for every frame of the machines that are exhausted here */
static struct quire_page *held[1 << 19];
static uint8_t owned[1 << 21];

static void map_start(uint64_t span)
{
    hosted_init(span);
    quire_memmap_init(&map, ranges, CAP, reserved, CAP);
}
static void map_add(uint64_t base, uint64_t len, unsigned node)
{
    assert_int_equal(quire_memmap_add(&map, Q_PA(base), len, QUIRE_MEM_USABLE), QUIRE_OK);
    if (node)
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(base), len, node), QUIRE_OK);
}
static void boot(unsigned nodes, unsigned cpus, const uint8_t *cpu_node, const uint8_t *distance)
{
    struct quire_boot b = {
        .map = &map, .nodes = nodes, .cpus = cpus, .cpu_node = cpu_node, .distance = distance};

    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
}
/* One node, one CPU, one range. */
static void machine(uint64_t base, uint64_t len)
{
    map_start(base + len);
    map_add(base, len, 0);
    boot(1, 1, NULL, NULL);
}
static void healthy(void)
{
    if (quire_frame_verify() != QUIRE_OK)
        fail_msg("%s", hosted_log_last());
}
static struct quire_zone_stats zone_stats(unsigned i)
{
    struct quire_zone_stats s;

    assert_int_equal(quire_zone_stats(i, &s), QUIRE_OK);
    return s;
}
static uint64_t blocks_of(unsigned order)
{
    struct quire_zone_stats s;
    uint64_t n = 0;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        n += s.free_blocks[order];
    return n;
}
static void blocks_all(uint64_t out[QUIRE_MAX_ORDER + 1])
{
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        out[o] = blocks_of(o);
}
static struct quire_page *get(unsigned order)
{
    struct quire_page *p = quire_page_alloc(order, QUIRE_GFP_MEMALLOC, ANY);

    assert_non_null(p);
    return p;
}

/* Take every block of the order; each frame must be usable memory and handed out once. */
static size_t exhaust(unsigned order, quire_gfp gfp)
{
    size_t n = 0;

    memset(owned, 0, sizeof owned);
    while ((held[n] = quire_page_alloc(order, gfp, ANY))) {
        uint64_t pfn = quire_pfn_of_page(held[n]).v;
        bool inside = false;

        assert_int_equal(pfn & ((1u << order) - 1), 0);
        assert_int_equal(quire_page_order(held[n]), order);
        for (uint32_t r = 0; r < map.n; r++)
            inside |= map.ranges[r].kind == QUIRE_MEM_USABLE &&
                      pfn * 4096 >= map.ranges[r].base.v &&
                      (pfn + (1u << order)) * 4096 <= map.ranges[r].base.v + map.ranges[r].len;
        assert_true(inside);
        for (unsigned f = 0; f < 1u << order; f++) {
            assert_null(quire_memmap_owner(&map, Q_PA((pfn + f) * 4096)));
            assert_false(owned[pfn + f]);
            owned[pfn + f] = 1;
        }
        n++;
    }
    return n;
}
static void give_back(size_t n, unsigned order)
{
    for (size_t i = 0; i < n; i++)
        quire_page_free(held[i], order);
}
/* Exhaust, free in a random order, and find the same free blocks as before. */
static void exhaust_every_order(void)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
    uint64_t managed = quire_managed_pages();

    quire_frame_drain();
    blocks_all(before);
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        uint64_t fit = 0;
        size_t n;

        for (unsigned o = order; o <= QUIRE_MAX_ORDER; o++)
            fit += before[o] << (o - order);
        n = exhaust(order, QUIRE_GFP_MEMALLOC);
        assert_int_equal(n, fit);
        assert_int_equal(quire_free_pages(), managed - ((uint64_t)n << order));
        healthy();
        for (size_t i = n; i > 1; i--) {
            size_t j = test_random_below(i);
            struct quire_page *t = held[i - 1];

            held[i - 1] = held[j];
            held[j] = t;
        }
        give_back(n, order);
        assert_int_equal(quire_free_pages(), managed);
        healthy();
        quire_frame_drain();
        healthy();
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
    }
}

/* proves: TRAP-1 VM-13 VE-03 */
static void odd_sized_zones(void **state)
{
    static const struct {
        uint64_t base, len;
    } shapes[] = {
        {0x123000, 0x1357000},
        {4096, 511 * 4096},
        {0, 5 * MIB + 12288},
        {2 * MIB - 4096, 50 * 4096},
        {15 * MIB + 4096, 9 * MIB},
        {16 * MIB - 4096, 3 * MIB + 4096},
        {33 * MIB + 4096 * 77, 61 * MIB + 4096 * 3},
    };

    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        machine(shapes[i].base, shapes[i].len);
        exhaust_every_order();
    }
    /* holes and reservations inside pageblocks */
    map_start(64 * MIB);
    for (uint64_t at = 4096 * 3; at < 48 * MIB; at += 5 * MIB + 4096 * 7)
        map_add(at, 4 * MIB + 4096 * 5, 0);
    for (uint64_t at = MIB; at < 48 * MIB; at += 7 * MIB)
        assert_int_equal(quire_memmap_reserve(&map, Q_PA(at), 4096 * 9, "hole", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    exhaust_every_order();
}

/* proves: TRAP-2 */
static void bases_not_aligned_to_the_largest_order(void **state)
{
    (void)state;
    for (uint64_t k = 1; k < 4; k++) {
        /* 2, 6 and 10 MiB: odd multiples of a pageblock, against blocks of 4 MiB */
        machine((2 * k + 1) * 2 * MIB, 30 * MIB);
        /* after each step of a descent and an ascent everything still fits together */
        for (unsigned step = 0; step < 30; step++) {
            held[step] = get(step % (QUIRE_MAX_ORDER + 1));
            healthy();
        }
        for (unsigned step = 0; step < 30; step++) {
            quire_page_free(held[step * 7 % 30], step * 7 % 30 % (QUIRE_MAX_ORDER + 1));
            healthy();
        }
        exhaust_every_order();
    }
}

/* The smallest free block that serves is the one that is used; larger ones are split only if need
 * be, in halves, and the halves that are not needed are free blocks.
 * proves: VM-12 VM-14 VE-03 */
static void split_in_halves(void **state)
{
    struct quire_page *a, *b, *c;

    (void)state;
    machine(16 * MIB, 4 * MIB); /* the top of it holds the allocator's own data */
    a = get(9);                 /* so that one pageblock, free but for that data, is left */
    for (unsigned o = 0; o <= 8; o++)
        while (blocks_of(o))
            get(o), quire_frame_drain();
    quire_page_free(a, 9);
    assert_int_equal(blocks_of(9), 1);

    a = get(4);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o >= 4 && o <= 8); /* 32 + 64 + ... + 256 pages + the 16 */
    b = get(5);                                           /* the one of order 5: nothing is split */
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o == 4 || (o >= 6 && o <= 8));
    c = get(4); /* the buddy of a, not a half of anything larger */
    assert_int_equal(quire_pfn_of_page(c).v ^ quire_pfn_of_page(a).v, 16);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o >= 6 && o <= 8);
    quire_page_free(c, 4); /* its buddy is in use: it stays a block of order 4 */
    assert_int_equal(blocks_of(4), 1);
    quire_page_free(a, 4); /* merges with it, not with b */
    assert_int_equal(blocks_of(4), 0);
    assert_int_equal(blocks_of(5), 1);
    quire_page_free(b, 5); /* and now all the way up */
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks_of(o), o == 9);
    healthy();
}

/* Above 2 MiB as below.
 * proves: VM-12 VM-13 */
static void whole_blocks_split_and_merge(void **state)
{
    struct quire_page *a, *b;

    (void)state;
    machine(16 * MIB, 5 * MIB);
    assert_int_equal(blocks_of(10), 1);
    a = get(9);
    assert_int_equal(blocks_of(10), 0);
    assert_int_equal(blocks_of(9), 1);
    b = get(9);
    assert_int_equal(quire_pfn_of_page(a).v ^ quire_pfn_of_page(b).v, 512);
    quire_page_free(a, 9);
    quire_page_put(b);
    assert_int_equal(blocks_of(9), 0);
    assert_int_equal(blocks_of(10), 1);
    assert_null(quire_page_alloc(QUIRE_MAX_ORDER + 1, QUIRE_GFP_MEMALLOC, ANY));
    healthy();
}

#define PANICS(stmt, words)                                                         \
    do {                                                                            \
        if (!HOSTED_EXPECT_PANIC(stmt))                                             \
            fail_msg("%s went unnoticed", #stmt);                                   \
        if (!strstr(hosted_panic_text(), words))                                    \
            fail_msg("%s: said '%s', not '%s'", #stmt, hosted_panic_text(), words); \
    } while (0)

/* proves: TRAP-3 */
static void misuse_is_caught(void **state)
{
    static const unsigned orders[] = {0, 1, 3, 4, 8, 9, 10};
    struct quire_page *p, *bulk[2];
    uint64_t before;

    (void)state;
    map_start(64 * MIB);
    map_add(0, 64 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(MIB), MIB, "kernel", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    before = quire_free_pages();
    for (unsigned i = 0; i < 7; i++) {
        const volatile unsigned o = orders[i]; /* lives across setjmp */

        p = get(o);
        PANICS(quire_page_free(p, o + 1), "wrong order");
        if (o)
            PANICS(quire_page_free(p, o - 1), "wrong order");
        if (o)
            PANICS(quire_page_free(p + 1, 0), "tail");
        p->maps = 1;
        PANICS(quire_page_free(p, o), "mapped");
        PANICS(quire_page_put(p), "mapped");
        p->refs = 1;
        p->maps = 0;
        quire_page_get(p);
        PANICS(quire_page_free(p, o), "others hold");
        quire_page_put(p);
        quire_page_free(p, o);
        PANICS(quire_page_free(p, o), "double free"); /* in a stack, or merged */
        PANICS(quire_page_put(p), "put of");
        PANICS(quire_page_get(p), "get of");
        quire_frame_drain();
        PANICS(quire_page_free(p, o), "free"); /* back in its block */
    }
    PANICS(quire_page_free(quire_page_of_pfn(Q_PFN(256)), 0), "reserved");
    PANICS(quire_page_free(quire_page_of_pfn(Q_PFN(40 * MIB / 4096)), 0), "no holder");
    PANICS(quire_page_alloc(0, 0, 1), "node 1 of 1");
    bulk[0] = bulk[1] = get(0);
    quire_page_free(bulk[0], 0);
    PANICS(quire_page_free_bulk(2, bulk), "double free");
    p = get(0);
    p->refs = 3;
    PANICS(quire_page_split(p), "split");
    p->refs = 1;
    quire_page_free(p, 0);
    assert_int_equal(quire_free_pages(), before); /* nothing was harmed */
    healthy();

    /* a frame that is written to while free is noticed when it goes out again */
    p->refs = 1;
    PANICS(get(0), "written to");
}

/* proves: AS-01 AS-03 AS-05 */
static void flags_are_exact(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(4096, 32 * MIB);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        p = get(o);
        for (unsigned i = 0; i < 1u << o; i++) {
            q_pfn pfn = Q_PFN(quire_pfn_of_page(p).v + i);
            uint32_t want = !o ? 0 : i ? QUIRE_PG_TAIL : QUIRE_PG_HEAD;

            assert_int_equal(p[i].flags & 0xffff, want);
            assert_int_equal(quire_page_flags(pfn) & 0xffff, want);
            assert_ptr_equal(quire_page_head(&p[i]), p);
            assert_int_equal(p[i].refs, i == 0);
            assert_int_equal(p[i].maps, 0);
            assert_int_equal(p[i].owner, 0);
        }
        assert_int_equal(quire_page_order(p), o);
        /* a reference through a tail is one to the whole */
        quire_page_get(p + (1u << o) - 1);
        assert_int_equal(p->refs, 2);
        quire_page_put(p);
        /* what its user said of it goes with it */
        p->flags |= QUIRE_PG_SLAB | QUIRE_PG_DIRTY;
        p->owner = 77;
        quire_page_put(p + (1u << o) - 1);
        for (unsigned i = 0; i < 1u << o; i++)
            assert_int_equal(quire_page_flags(Q_PFN(quire_pfn_of_page(p).v + i)) & 0xffff,
                             QUIRE_PG_FREE);
    }
    quire_frame_drain();
    /* never touched, hole, nothing */
    assert_int_equal(quire_page_flags(Q_PFN(20 * MIB / 4096)) & 0xffff, QUIRE_PG_FREE);
    assert_int_equal(quire_page_flags(Q_PFN(0)) & 0xffff, QUIRE_PG_RESERVED);
    assert_int_equal(quire_page_flags(Q_PFN(1ull << 40)) & 0xffff, QUIRE_PG_RESERVED);
    assert_true(quire_pfn_valid(Q_PFN(20 * MIB / 4096)));
    assert_false(quire_pfn_valid(Q_PFN(1ull << 40)));
    for (uint64_t pfn = 1; pfn < (32 * MIB + 4096) / 4096; pfn++) {
        bool mine = quire_memmap_owner(&map, Q_PA(pfn * 4096)) != NULL;

        assert_int_equal(quire_page_flags(Q_PFN(pfn)) & 0xffff,
                         mine ? QUIRE_PG_RESERVED : QUIRE_PG_FREE);
    }
}

/* proves: AS-01 */
static void blocks_split_into_pages(void **state)
{
    uint64_t before;

    (void)state;
    machine(4096, 32 * MIB);
    before = quire_free_pages();
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        struct quire_page *p = get(o);

        p->flags |= QUIRE_PG_ANON | QUIRE_PG_DIRTY;
        p->owner = 1234;
        p->index = 50;
        quire_page_split(p);
        healthy();
        for (unsigned i = 0; i < 1u << o; i++) {
            assert_int_equal(p[i].flags & 0xffff, QUIRE_PG_ANON | QUIRE_PG_DIRTY);
            assert_int_equal(quire_page_order(&p[i]), 0);
            assert_int_equal(p[i].refs, 1);
            assert_int_equal(p[i].owner, 1234);
            assert_int_equal(p[i].index, 50 + i);
        }
        for (unsigned i = 0; i < 1u << o; i++)
            quire_page_put(&p[i]);
        assert_int_equal(quire_free_pages(), before);
        healthy();
    }
}

/* proves: VE-09 VE-10 */
static void reserved_frames_are_never_handed_out(void **state)
{
    static const char *const owners[] = {"BIOS", "kernel", "ACPI"};
    static const uint64_t bases[] = {0, 2 * MIB + 4096, 20 * MIB + 8192};
    size_t n;

    (void)state;
    map_start(32 * MIB);
    map_add(0, 32 * MIB, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(quire_memmap_reserve(&map, Q_PA(bases[i]), MIB, owners[i], NULL),
                         QUIRE_OK);
    boot(1, 1, NULL, NULL);
    n = exhaust(0, QUIRE_GFP_MEMALLOC); /* checks the owner of each frame */
    assert_int_equal(n, quire_managed_pages());
    give_back(n, 0);
}

/* ---- CPUs ---- */

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

/* ---- Zones, reserves, nodes ---- */

/* proves: TRAP-5 */
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

/* Nodes whose border lies inside a pageblock, and whose spans interleave.
 * proves: TRAP-1 */
static void nodes_that_share_a_pageblock(void **state)
{
    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 9 * MIB + 4096 * 5, 0);
    map_add(25 * MIB + 4096 * 5, 10 * MIB, 1);
    map_add(40 * MIB, 7 * MIB + 4096, 0);
    boot(2, 1, NULL, NULL);
    assert_int_equal(zone_stats(0).present + zone_stats(1).present, (26 * MIB + 4096 * 6) / 4096);
    exhaust_every_order();
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

/* ---- Requests ---- */

static void zeroed_means_zeroed(void **state)
{
    (void)state;
    machine(16 * MIB, 8 * MIB);
    for (unsigned o = 0; o <= 9; o++) {
        struct quire_page *p = get(o);
        unsigned char *at = quire_page_ptr(p);

        memset(at, 0xa5, 4096ull << o);
        quire_page_free(p, o);
        p = quire_page_alloc(o, QUIRE_GFP_ZERO | QUIRE_GFP_MEMALLOC, ANY);
        at = quire_page_ptr(p);
        for (uint64_t i = 0; i < 4096ull << o; i++)
            if (at[i])
                fail_msg("order %u byte %llu", o, (unsigned long long)i);
        quire_page_free(p, o);
    }
    assert_int_equal(quire_page_alloc_bulk(100, held, QUIRE_GFP_ZERO, ANY), 100);
    for (unsigned i = 0; i < 100; i++)
        for (unsigned k = 0; k < 4096; k += 8)
            assert_int_equal(*(uint64_t *)((char *)quire_page_ptr(held[i]) + k), 0);
    quire_page_free_bulk(100, held);
}

static void bulk_takes_what_there_is(void **state)
{
    uint64_t before, locked;
    size_t n;

    (void)state;
    machine(16 * MIB, 32 * MIB);
    before = quire_free_pages();
    locked = zone_stats(0).lock_acquisitions;
    assert_int_equal(quire_page_alloc_bulk(1000, held, QUIRE_GFP_USER, ANY), 1000);
    assert_true(zone_stats(0).lock_acquisitions - locked < 20);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(held[i]->refs, 1);
    held[1] = held[0]; /* a page that its caller dropped himself */
    held[0] = get(0);
    quire_page_free(get(0), 0);
    quire_page_put(held[0]);
    held[0] = held[1];
    held[0]->refs = 0;
    quire_page_free_bulk(1, held);
    quire_page_free_bulk(998, held + 2);
    healthy();
    n = quire_page_alloc_bulk(1 << 18, held, QUIRE_GFP_MEMALLOC, ANY);
    assert_int_equal(quire_free_pages(), 0);
    assert_int_equal(n, before - 1); /* one is out since the first thousand */
    assert_int_equal(quire_page_alloc_bulk(5, held + n, QUIRE_GFP_MEMALLOC, ANY), 0);
    quire_page_free_bulk(n, held);
    assert_int_equal(quire_free_pages(), before - 1);
    healthy();
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

/* proves: TRAP-18 */
static void the_nth_allocation_fails(void **state)
{
    struct quire_page *p;
    uint64_t before;

    (void)state;
    machine(16 * MIB, 32 * MIB);
    quire_page_free(get(0), 0); /* a stack with pages in it */
    before = quire_free_pages();
    for (int64_t n = 1; n < 20; n++) {
        quire_frame_fail_after(n);
        for (int64_t i = 1; i < 30; i++) {
            unsigned o = (unsigned)i % 11;

            assert_int_equal(quire_frame_fail_armed(), i <= n);
            p = i % 2 ? quire_page_alloc(o, 0, ANY) : qi_page_alloc_fast(0);
            if (i == n)
                assert_null(p);
            else
                quire_page_put(p);
            assert_int_equal(quire_free_pages(), before);
        }
        healthy();
    }
    quire_frame_fail_after(4);
    assert_int_equal(quire_page_alloc_bulk(10, held, 0, ANY), 3);
    assert_false(quire_frame_fail_armed());
    quire_page_free_bulk(3, held);
    quire_frame_fail_after(1);
    quire_frame_fail_after(-1);
    quire_page_free(get(0), 0);
    assert_int_equal(quire_free_pages(), before);
    healthy();
}

/* ---- Boot ---- */

static void init_refuses_what_is_wrong(void **state)
{
    static const uint8_t bad_node[] = {0, 3};
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 1};

    (void)state;
    map_start(64 * MIB);
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID); /* no memory at all */
    map_add(16 * MIB, 16 * MIB, 1);
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID); /* memory of a node that is not */
    assert_non_null(strstr(hosted_log_last(), "node 1 of 1"));
    b.nodes = QUIRE_MAX_NODES + 1;
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID);
    b.nodes = 2;
    b.cpus = 0;
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID);
    b.cpus = 2;
    b.cpu_node = bad_node;
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID);
    b.cpu_node = NULL;
    hosted_fail_populate = 0;
    assert_int_equal(quire_frame_init(&b), QUIRE_NO_MEMORY);
    assert_int_equal(quire_free_pages(), 0);
    assert_null(quire_nodes() ? &b : NULL);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);

    /* a map of which nothing is left for the allocator's own data */
    map_start(64 * MIB);
    map_add(4096, 8192, 0);
    b.nodes = 1;
    b.cpus = 1;
    assert_int_equal(quire_frame_init(&b), QUIRE_NO_MEMORY);
}

/* Struct pages of memory that nobody used are not written: boot does not grow with memory. */
static void boot_touches_no_untouched_memory(void **state)
{
    struct quire_zone_stats s;
    struct quire_page *p;
    uint64_t touched = 0, frames = 16 * GIB / 4096;

    (void)state;
    machine(MIB, 16 * GIB - MIB);
    assert_int_equal(quire_zone_stats(2, &s), QUIRE_OK);
    for (uint64_t pfn = 256; pfn < frames; pfn += 128) /* one look at each page of the array */
        touched += quire_page_of_pfn(Q_PFN(pfn))->flags != 0;
    assert_true(touched < 64);
    p = get(0);
    assert_int_equal(p->refs, 1);
    for (uint64_t pfn = 256; pfn < frames; pfn += 128)
        touched -= quire_page_of_pfn(Q_PFN(pfn))->flags != 0;
    assert_in_range(-touched, 0, 8);
    quire_page_free(p, 0);
}

/* ---- Reports ---- */

static void pageblocks_add_up(void **state)
{
    struct quire_block_info b;
    uint64_t free = 0, cached = 0, present = 0, n = 0;
    uint16_t slab = 0, table = 0, anon = 0, file = 0, kva = 0, huge = 0, other = 0;
    static const uint32_t kinds[] = {QUIRE_PG_SLAB, QUIRE_PG_TABLE, QUIRE_PG_KVA, QUIRE_PG_ANON,
                                     QUIRE_PG_OBJECT};

    (void)state;
    map_start(128 * MIB);
    map_add(MIB, 31 * MIB + 4096, 0);
    map_add(100 * MIB, 20 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(5 * MIB), 3 * MIB, "kernel", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    for (unsigned i = 0; i < 5; i++)
        (held[i] = get(i))->flags |= kinds[i];
    get(9);
    get(2);
    for (; quire_block_info(n, &b) == QUIRE_OK; n++) {
        assert_int_equal(b.start.v, n * 512);
        assert_int_equal(b.free + b.cached + b.reserved + b.slab + b.table + b.kva + b.anon +
                             b.file + b.huge + b.other + b.absent,
                         512);
        free += b.free;
        cached += b.cached;
        present += 512u - b.absent;
        slab += b.slab;
        table += b.table;
        kva += b.kva;
        anon += b.anon;
        file += b.file;
        huge += b.huge;
        other += b.other;
    }
    assert_int_equal(n, 60);
    assert_int_equal(present, zone_stats(0).present + zone_stats(1).present);
    assert_int_equal(free, zone_stats(0).free + zone_stats(1).free);
    assert_int_equal(cached, zone_stats(0).cached + zone_stats(1).cached);
    assert_int_equal(slab, 1);
    assert_int_equal(table, 2);
    assert_int_equal(kva, 4);
    assert_int_equal(anon, 8);
    assert_int_equal(file, 16);
    assert_int_equal(huge, 512);
    assert_int_equal(other, 4);
}

static void texts_for_proc(void **state)
{
    char buf[8192], name[16], small[40];
    unsigned node, z = 0;
    size_t n;

    (void)state;
    map_start(64 * MIB);
    map_add(MIB, 63 * MIB, 0);
    boot(1, 2, NULL, NULL);
    get(0);
    n = quire_buddyinfo(buf, sizeof buf);
    assert_int_equal(n, strlen(buf));
    for (char *line = strtok(buf, "\n"); line; line = strtok(NULL, "\n"), z++) {
        int at;

        assert_int_equal(sscanf(line, "Node %u, zone %15s%n", &node, name, &at), 2);
        assert_string_equal(name, zone_stats(z).name);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            unsigned long count;
            int more;

            assert_int_equal(sscanf(line + at, "%lu%n", &count, &more), 1);
            assert_int_equal(count, zone_stats(z).free_blocks[o]);
            at += more;
        }
    }
    assert_int_equal(z, 2);
    assert_int_equal(quire_buddyinfo(small, sizeof small), n);
    assert_int_equal(strlen(small), sizeof small - 1);
    assert_int_equal(quire_buddyinfo(NULL, 0), n);

    n = quire_zoneinfo(buf, sizeof buf);
    assert_int_equal(n, strlen(buf));
    assert_non_null(strstr(buf, "Node 0, zone    DMA32\n  pages free     "));
    assert_non_null(strstr(buf, "\n        protection: ("));
    assert_int_equal(strtoul(strstr(buf, "managed  ") + 9, NULL, 10), zone_stats(0).managed);
}

/* verify can fail: the canary. */
static void verify_sees_damage(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    p = get(4);
    p[16].flags |= QUIRE_PG_DIRTY; /* a free frame beside it */
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), "F2"));
    p[16].flags &= ~QUIRE_PG_DIRTY;
    healthy();
    p->flags |= QUIRE_PG_FREE; /* says that it is in a stack, but is in none */
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), "F5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_sized_zones),
        cmocka_unit_test(bases_not_aligned_to_the_largest_order),
        cmocka_unit_test(split_in_halves),
        cmocka_unit_test(whole_blocks_split_and_merge),
        cmocka_unit_test(misuse_is_caught),
        cmocka_unit_test(flags_are_exact),
        cmocka_unit_test(blocks_split_into_pages),
        cmocka_unit_test(reserved_frames_are_never_handed_out),
        cmocka_unit_test(cpus_conserve_frames),
        cmocka_unit_test(the_fast_path_takes_no_lock),
        cmocka_unit_test(dma_is_dma_or_nothing),
        cmocka_unit_test(reserves_by_urgency),
        cmocka_unit_test(two_nodes),
        cmocka_unit_test(four_nodes_by_distance),
        cmocka_unit_test(nodes_that_share_a_pageblock),
        cmocka_unit_test(a_node_without_memory),
        cmocka_unit_test(zeroed_means_zeroed),
        cmocka_unit_test(bulk_takes_what_there_is),
        cmocka_unit_test(types_fall_back),
        cmocka_unit_test(the_nth_allocation_fails),
        cmocka_unit_test(init_refuses_what_is_wrong),
        cmocka_unit_test(boot_touches_no_untouched_memory),
        cmocka_unit_test(pageblocks_add_up),
        cmocka_unit_test(texts_for_proc),
        cmocka_unit_test(verify_sees_damage),
    };

    test_seed("frame_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
