/*
 * frame_pressure_test.c - memory that gets short: marks and what makes them, who is told, who is
 * asked to reclaim, what is set aside, and what a broken pageblock does to the high mark.
 */
#include <frame_machine.h>

#include <frame/zone.h>
#include <quire/cma.h>
#include <quire/pressure.h>

static struct quire_frame_tunables tune;

static enum quire_status set_now(void) { return quire_frame_tunables_set(&tune); }

static void set(void) { assert_int_equal(set_now(), QUIRE_OK); }

/* Down to the given number of free frames in the zone, one by one; from held[n] on. */
static size_t take_down_to(unsigned zone, uint64_t left, size_t n, unsigned node)
{
    while (zone_stats(zone).free > left) {
        held[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC | QUIRE_GFP_THISNODE, node);
        assert_non_null(held[n]);
        n++;
        quire_frame_drain();
    }
    return n;
}

/* ---- Tunables ---- */

static void defaults_and_ranges(void **state)
{
    static struct quire_frame_tunables was, bad[10];
    struct quire_zone_stats z;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    quire_frame_tunables_get(&was);
    assert_int_equal(was.min_free_kbytes, 0);
    assert_in_range(quire_min_free_kbytes(), 1000, 1024); /* sqrt(16 * 65536) */
    assert_int_equal(was.watermark_scale_factor, 10);
    assert_int_equal(was.watermark_boost_factor, 15000);
    assert_int_equal(was.lowmem_reserve_ratio[QUIRE_ZONE_DMA], 256);
    assert_int_equal(was.lowmem_reserve_ratio[QUIRE_ZONE_NORMAL], 32);
    assert_int_equal(was.lowmem_reserve_ratio[QUIRE_ZONE_MOVABLE], 0);
    assert_int_equal(was.atomic_reserve_kbytes, 256);
    assert_int_equal(was.reclaim_mode, QUIRE_RECLAIM_OFF);
    assert_int_equal(was.remote_penalty, 20);
    assert_int_equal(was.interleave_threshold, 2 * MIB);

    for (unsigned i = 0; i < 10; i++)
        bad[i] = was;
    bad[0].min_free_kbytes = quire_managed_pages() * 2 + 1;
    bad[1].watermark_scale_factor = 0;
    bad[2].watermark_scale_factor = 3001;
    bad[3].watermark_boost_factor = 100001;
    bad[4].boost_half_life_ms = 0;
    bad[5].boost_half_life_ms = 3600001;
    bad[6].atomic_reserve_kbytes = 257;
    bad[7].reclaim_mode = QUIRE_RECLAIM_MODES;
    bad[8].remote_penalty = 1001;
    bad[9].watermark_scale_factor = UINT32_MAX;
    for (unsigned i = 0; i < 10; i++) {
        bad[i].interleave_threshold = 12345;
        assert_int_equal(quire_frame_tunables_set(&bad[i]), QUIRE_INVALID);
        assert_non_null(strstr(hosted_log_last(), "is not in"));
        quire_frame_tunables_get(&tune);
        assert_memory_equal(&tune, &was, sizeof was);
    }

    tune.min_free_kbytes = 8192;
    tune.watermark_scale_factor = 1000;
    set();
    z = zone_stats(0);
    assert_int_equal(quire_min_free_kbytes(), 8192);
    assert_int_equal(z.wmark_min, 2048);
    assert_int_equal(z.wmark_low - z.wmark_min, z.managed / 10);
    assert_int_equal(z.wmark_high - z.wmark_low, z.managed / 10);
    tune.watermark_scale_factor = 1; /* a quarter of min is more */
    set();
    z = zone_stats(0);
    assert_int_equal(z.wmark_low - z.wmark_min, 512);

    /* a machine that is started anew has the defaults again */
    machine(16 * MIB, 64 * MIB);
    quire_frame_tunables_get(&tune);
    assert_memory_equal(&tune, &was, sizeof was);
}

/* What lower zones keep: a part of what lies above, by the zone's own ratio; 0 keeps nothing. */
static void reserves_follow_their_ratios(void **state)
{
    size_t n = 0;

    (void)state;
    for (unsigned ratio = 0; ratio <= 64; ratio += 32) {
        map_start(5 * GIB);
        map_add(MIB, 63 * MIB, 0);
        map_add(4 * GIB, 256 * MIB, 0);
        boot(1, 1, NULL, NULL);
        quire_frame_tunables_get(&tune);
        tune.lowmem_reserve_ratio[QUIRE_ZONE_DMA32] = ratio;
        set();
        for (n = 0; (held[n] = quire_page_alloc(0, QUIRE_GFP_KERNEL, ANY));)
            n++;
        assert_in_range(zone_stats(1).free,
                        zone_stats(1).wmark_min + (ratio ? zone_stats(2).managed / ratio : 0),
                        zone_stats(1).wmark_min + (ratio ? zone_stats(2).managed / ratio : 0) + 64);
        give_back(n, 0);
    }
}

/* ---- Who is told ---- */

static unsigned told[3], told_node, told_zone;

static void listen(unsigned node, enum quire_zone_type zone, enum quire_pressure why)
{
    told[why]++;
    told_node = node;
    told_zone = zone;
}

static void expect_told(unsigned low, unsigned min)
{
    assert_int_equal(told[QUIRE_PRESSURE_LOW], low);
    assert_int_equal(told[QUIRE_PRESSURE_MIN], min);
}

/* Once when the zone falls below low, and again only after it was above high; whenever a request finds no
 * zone above low. */
static void told_when_memory_is_short(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    struct quire_zone_stats s;
    size_t n, m;

    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 32 * MIB, 0);
    map_add(48 * MIB, 32 * MIB, 1);
    boot(2, 2, cpu_node, NULL);
    quire_frame_tunables_get(&tune);
    tune.watermark_boost_factor = 0;
    set();
    quire_frame_set_pressure(listen);
    memset(told, 0, sizeof told);
    s = zone_stats(1);
    n = take_down_to(1, s.wmark_low + 64, 0, 1);
    expect_told(0, 0);
    n = take_down_to(1, s.wmark_low - 20, n, 1);
    expect_told(1, 0);
    assert_int_equal(told_node, 1);
    assert_int_equal(told_zone, QUIRE_ZONE_DMA32);
    held[n++] = quire_page_alloc(0, QUIRE_GFP_THISNODE, 1); /* it may use no other */
    assert_int_equal(quire_page_node(held[n - 1]), 1);
    expect_told(1, 1);
    quire_frame_drain();
    held[n++] = quire_page_alloc(0, 0, 1); /* node 0 is above its mark */
    assert_int_equal(quire_page_node(held[n - 1]), 0);
    expect_told(1, 1);
    for (m = n; zone_stats(1).free < s.wmark_high - 20; quire_frame_drain())
        quire_page_free(held[--m], 0);
    for (unsigned i = 0; i < 80; i++) {
        held[m++] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC | QUIRE_GFP_THISNODE, 1);
        quire_frame_drain();
    }
    assert_true(zone_stats(1).free < s.wmark_low);
    assert_int_equal(told[QUIRE_PRESSURE_LOW], 1); /* it was not above high meanwhile */
    for (; zone_stats(1).free <= s.wmark_high + 64; quire_frame_drain())
        quire_page_free(held[--m], 0);
    quire_page_free(quire_page_alloc(0, QUIRE_GFP_THISNODE, 1), 0); /* it notices */
    m = take_down_to(1, s.wmark_low - 1, m, 1);
    assert_int_equal(told[QUIRE_PRESSURE_LOW], 2);
    quire_frame_set_pressure(NULL);
    give_back(m, 0);
    quire_frame_drain();
    healthy();
}

/* ---- Reclaim on the node first: modes 0, 1 and 2 ---- */

static struct {
    unsigned calls, node, order, mode, give;
    size_t n;
} asked;

static uint64_t reclaim(unsigned node, unsigned order, quire_gfp gfp, unsigned mode)
{
    (void)gfp;
    asked.calls++;
    asked.node = node;
    asked.order = order;
    asked.mode = mode;
    for (unsigned i = 0; i < asked.give; i++)
        quire_page_free(held[--asked.n], 0);
    if (asked.give)
        quire_frame_drain();
    return asked.give;
}

/* Two nodes; the zone of node 1 is just at its low mark, that of node 0 is empty but for so many frames. */
static void one_node_short(void)
{
    static const uint8_t cpu_node[] = {0, 1};

    map_start(80 * MIB);
    map_add(16 * MIB, 32 * MIB, 0);
    map_add(48 * MIB, 32 * MIB, 1);
    boot(2, 2, cpu_node, NULL);
    quire_frame_tunables_get(&tune);
    tune.atomic_reserve_kbytes = 0; /* so that all that is free counts */
    set();
    asked.calls = asked.give = 0;
    asked.n = take_down_to(0, zone_stats(0).wmark_low - 1, 0, 0);
    quire_frame_set_reclaimer(reclaim);
}

/* proves: X-11 */
static void reclaim_mode_0_1_2(void **state)
{
    struct quire_page *p;

    (void)state;
    for (unsigned mode = QUIRE_RECLAIM_OFF; mode <= QUIRE_RECLAIM_WRITE; mode++) {
        one_node_short();
        tune.reclaim_mode = mode;
        set();
        /* it makes nothing free: then the other node */
        p = quire_page_alloc(4, QUIRE_GFP_KERNEL, 0);
        assert_int_equal(quire_page_node(p), 1);
        quire_page_free(p, 4);
        assert_int_equal(asked.calls, mode != QUIRE_RECLAIM_OFF);
        /* nobody is asked on behalf of those who cannot wait or reclaim themselves */
        quire_page_free(quire_page_alloc(4, QUIRE_GFP_ATOMIC, 0), 4);
        quire_page_free(quire_page_alloc(4, QUIRE_GFP_MEMALLOC, 0), 4);
        assert_int_equal(asked.calls, mode != QUIRE_RECLAIM_OFF);
        quire_frame_drain_local(); /* or these are still at hand */
        asked.give = 200;
        p = quire_page_alloc(4, QUIRE_GFP_KERNEL, 0);
        assert_int_equal(quire_page_node(p), mode == QUIRE_RECLAIM_OFF);
        if (mode) {
            assert_int_equal(asked.calls, 2);
            assert_int_equal(asked.node, 0);
            assert_int_equal(asked.order, 4);
            assert_int_equal(asked.mode, mode);
            /* above low again: no need */
            quire_page_free(quire_page_alloc(4, QUIRE_GFP_KERNEL, 0), 4);
            assert_int_equal(asked.calls, 2);
        }
        quire_page_free(p, 4);
        quire_frame_set_reclaimer(NULL);
        give_back(asked.n, 0);
        quire_frame_drain();
        healthy();
    }
}

/* A node that is just above its low mark serves its own CPUs; others only if it is 20 % above.
 * proves: X-11 */
static void strangers_pay_a_penalty(void **state)
{
    (void)state;
    for (unsigned penalty = 0; penalty <= 20; penalty += 20) {
        struct quire_page *p;
        uint64_t low;
        size_t n;

        one_node_short();
        quire_frame_set_reclaimer(NULL);
        tune.remote_penalty = penalty;
        set();
        low = zone_stats(1).wmark_low;
        n = take_down_to(1, low + low / 8, asked.n, 1);
        p = quire_page_alloc(4, QUIRE_GFP_KERNEL, 0);
        assert_int_equal(quire_page_node(p), penalty ? 0 : 1);
        quire_page_free(p, 4);
        p = quire_page_alloc(4, QUIRE_GFP_KERNEL, 1);
        assert_int_equal(quire_page_node(p), 1);
        quire_page_free(p, 4);
        give_back(n, 0);
        quire_frame_drain();
        n = take_down_to(0, zone_stats(0).wmark_low - 1, 0, 0);
        n = take_down_to(1, low + low / 5 + 17, n, 1);
        p = quire_page_alloc(4, QUIRE_GFP_KERNEL, 0); /* more than 20 % above */
        assert_int_equal(quire_page_node(p), 1);
        quire_page_free(p, 4);
        give_back(n, 0);
        healthy();
    }
}

/* ---- The boost ---- */

/* Every pageblock is MOVABLE, and every second frame of it is free. */
static size_t checkered(void)
{
    size_t n = 0, m = 0;

    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_MOVABLE | QUIRE_GFP_MEMALLOC, ANY)))
        n++;
    for (size_t i = 0; i < n; i++)
        if (quire_pfn_of_page(held[i]).v & 1)
            quire_page_free(held[i], 0);
        else
            held[m++] = held[i];
    quire_frame_drain();
    return m;
}

static void wait_ms(unsigned ms)
{
    uint64_t end = qport_now_ns() + ms * 1000000ull;

    while (qport_now_ns() < end)
        ;
}

/* One frame of another type is taken out of a pageblock, whatever is cached. */
static void steal(quire_gfp gfp)
{
    struct quire_page *p = quire_page_alloc(0, gfp, ANY);

    assert_non_null(p);
    quire_page_free(p, 0);
    quire_frame_drain();
}

/* The high mark is raised when a block of another type is broken into, by a block each time, to 150 % of
 * the mark; it falls by half in each half-life, and at once when reclaim has done its part.  What the
 * indices say moves with what is free.
 * proves: X-09 */
static void fragmentation_raises_the_high_mark(void **state)
{
    struct quire_zone_stats s;
    size_t n;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    s = zone_stats(0);
    assert_int_equal(quire_fragmentation_permille(&s, 3), -1000);
    assert_int_equal(quire_unusable_permille(&s, 3), 0);
    quire_frame_tunables_get(&tune);
    tune.boost_half_life_ms = 3600000;
    set();
    quire_frame_set_pressure(listen);
    memset(told, 0, sizeof told);
    n = checkered();
    s = zone_stats(0);
    assert_int_equal(s.boost, 0);
    assert_in_range(quire_fragmentation_permille(&s, 3), 800, 1000);
    assert_int_equal(quire_unusable_permille(&s, 3), 1000);
    steal(QUIRE_GFP_KERNEL);
    s = zone_stats(0);
    assert_int_equal(s.boost, 512);
    assert_int_equal(told[QUIRE_PRESSURE_FRAGMENTED], 1);
    steal(QUIRE_GFP_RECLAIMABLE);
    steal(QUIRE_GFP_RECLAIMABLE);
    assert_int_equal(zone_stats(0).boost, QI_MAX(s.wmark_high * 3 / 2, 512ull));
    quire_frame_reclaimed(1);
    assert_true(zone_stats(0).boost > 0);
    quire_frame_reclaimed(0);
    assert_int_equal(zone_stats(0).boost, 0);

    tune.boost_half_life_ms = 40;
    set();
    steal(QUIRE_GFP_KERNEL);
    assert_in_range(zone_stats(0).boost, 1, 512);
    wait_ms(45);
    assert_in_range(zone_stats(0).boost, 1, 256);
    wait_ms(400);
    assert_int_equal(zone_stats(0).boost, 0);

    tune.watermark_boost_factor = 0;
    set();
    steal(QUIRE_GFP_KERNEL);
    assert_int_equal(zone_stats(0).boost, 0);
    give_back(n, 0);
    quire_frame_drain();
    s = zone_stats(0);
    assert_int_equal(quire_fragmentation_permille(&s, 3), -1000);
    assert_int_equal(quire_unusable_permille(&s, 3), 0);

    /* a zone of three pageblocks has nothing to raise the mark to */
    machine(16 * MIB, 8 * MIB - 4096);
    checkered();
    steal(QUIRE_GFP_KERNEL);
    assert_true(zone_stats(0).managed >= 4 * 512 || zone_stats(0).boost == 0);
}

/* A raised mark is what the zone has to reach before it counts as well supplied. */
static void the_boost_is_to_be_reached(void **state)
{
    struct quire_zone_stats s;
    size_t n, m;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    quire_frame_tunables_get(&tune);
    tune.boost_half_life_ms = 3600000;
    set();
    quire_frame_set_pressure(listen);
    n = checkered();
    memset(told, 0, sizeof told);
    steal(QUIRE_GFP_KERNEL);
    s = zone_stats(0);
    for (m = n; zone_stats(0).free >= s.wmark_low; quire_frame_drain())
        held[m++] = get(0);
    assert_int_equal(told[QUIRE_PRESSURE_LOW], 1);
    while (zone_stats(0).free < s.wmark_high + s.boost - 8) {
        quire_page_free(held[--m], 0);
        quire_frame_drain();
    }
    quire_page_free(get(0), 0);
    m = take_down_to(0, s.wmark_low - 1, m, 0);
    assert_int_equal(told[QUIRE_PRESSURE_LOW], 1);
    quire_frame_reclaimed(0);
    while (zone_stats(0).free < s.wmark_high + 64) {
        quire_page_free(held[--m], 0);
        quire_frame_drain();
    }
    quire_page_free(get(0), 0);
    m = take_down_to(0, s.wmark_low - 1, m, 0);
    assert_int_equal(told[QUIRE_PRESSURE_LOW], 2);
    quire_frame_set_pressure(NULL);
    give_back(m, 0);
}

/* ---- The atomic reserve ---- */

#define NORETRY QUIRE_GFP_NORETRY

/* Nothing but single frames is free, and 1,000 of these; held is sorted by nothing.  Those who take all
 * that is there do not ask for what is set aside. */
static size_t nothing_but_singles(void)
{
    size_t n = 0, kept = 0, freed = 0;

    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_KERNEL | NORETRY, ANY)))
        n++;
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC | NORETRY, ANY)))
        n++;
    for (size_t i = 0; i < n; i++)
        if (quire_pfn_of_page(held[i]).v & 1 && freed < 1000) {
            quire_page_free(held[i], 0);
            freed++;
        } else {
            held[kept++] = held[i];
        }
    for (unsigned i = 0; i < qi_ncpus; i++) { /* but not quire_frame_drain(), which gives it back */
        unsigned long irq = qport_irq_save();

        qi_frame_drain_cpu(i);
        qport_irq_restore(irq);
    }
    return kept;
}

/* 256 KiB of a zone, at most 1 % of it, are there for ATOMIC requests of several frames when nobody else
 * gets any; others get it when they would fail for good.
 * proves: X-10 */
static void atomic_requests_have_a_reserve(void **state)
{
    static const uint64_t sizes[] = {64 * MIB, 16 * MIB, 26 * MIB, 8 * MIB};
    static const unsigned reserve[] = {64, 32, 64, 16};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned order = 1; order <= 4; order++) {
            struct quire_page *p[64];
            unsigned got = 0;
            size_t n;

            machine(16 * MIB, sizes[i]);
            assert_int_equal(zone_stats(0).atomic_reserve,
                             0); /* nothing as long as there is enough */
            n = nothing_but_singles();
            assert_int_equal(zone_stats(0).atomic_reserve, reserve[i]);
            assert_int_equal(quire_free_pages(), 1000 + reserve[i]);
            healthy();
            assert_null(quire_page_alloc(order, QUIRE_GFP_KERNEL | NORETRY, ANY));
            assert_null(quire_page_alloc(order, QUIRE_GFP_MEMALLOC | NORETRY, ANY));
            while ((p[got] = quire_page_alloc(order, QUIRE_GFP_ATOMIC | QUIRE_GFP_ZERO, ANY))) {
                assert_int_equal(quire_page_order(p[got]), order);
                assert_int_equal(quire_pfn_of_page(p[got]).v % (1u << order), 0);
                got++;
                healthy();
            }
            assert_int_equal(got, reserve[i] >> order);
            assert_int_equal(zone_stats(0).atomic_reserve, 0);
            assert_int_equal(quire_free_pages(), 1000);
            for (unsigned k = 0; k < got; k++)
                quire_page_free(p[k], order);
            give_back(n, 0);
            quire_frame_drain();
            assert_int_equal(quire_free_pages(), quire_managed_pages());
            healthy();
        }
}

/* Who would fail gets it; who frees enough finds whole blocks again. */
static void the_reserve_is_no_loss(void **state)
{
    struct quire_page *p;
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
    size_t n;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    blocks_all(before);
    n = nothing_but_singles();
    assert_int_equal(zone_stats(0).atomic_reserve, 64);
    p = quire_page_alloc(5, QUIRE_GFP_KERNEL | QUIRE_GFP_MEMALLOC, ANY); /* the last resort */
    assert_non_null(p);
    assert_int_equal(zone_stats(0).atomic_reserve, 0);
    assert_null(quire_page_alloc(6, QUIRE_GFP_ATOMIC, ANY));
    quire_page_free(p, 5);
    give_back(n, 0);
    quire_frame_drain();
    blocks_all(after);
    assert_memory_equal(before, after, sizeof before);

    /* above high again, the zone puts it back by itself */
    n = nothing_but_singles();
    assert_int_equal(zone_stats(0).atomic_reserve, 64);
    give_back(n, 0);
    quire_page_free(quire_page_alloc(9, 0, ANY), 9);
    assert_int_equal(zone_stats(0).atomic_reserve, 0);
    healthy();

    quire_frame_tunables_get(&tune);
    tune.atomic_reserve_kbytes = 0;
    set();
    n = nothing_but_singles();
    assert_int_equal(zone_stats(0).atomic_reserve, 0);
    assert_null(quire_page_alloc(1, QUIRE_GFP_ATOMIC, ANY));
    give_back(n, 0);
}

/* A bad frame, and a pageblock that goes off line, are found there too. */
static void nothing_hides_in_the_reserve(void **state)
{
    uint64_t base;
    size_t n;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    n = nothing_but_singles();
    base = qi_zones[0].atomic_base;
    assert_int_equal(quire_frame_poison(Q_PFN(base + 5)), QUIRE_OK);
    assert_int_equal(zone_stats(0).poisoned, 1);
    assert_int_equal(zone_stats(0).atomic_reserve, 0);
    healthy();
    give_back(n, 0);
    quire_frame_drain();

    map_start(4 * GIB + 16 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    map_add(4 * GIB, 16 * MIB, 0); /* where the allocator's own data is */
    boot(1, 1, NULL, NULL);
    n = nothing_but_singles();
    assert_int_equal(zone_stats(0).atomic_reserve, 64);
    base = qi_zones[0].atomic_base & ~511ull;
    for (size_t i = 0; i < n;)
        if ((quire_pfn_of_page(held[i]).v & ~511ull) == base) {
            quire_page_free(held[i], 0);
            held[i] = held[--n];
        } else {
            i++;
        }
    assert_int_equal(quire_frame_offline(Q_PFN(base), 512), QUIRE_OK);
    healthy();
    assert_int_equal(quire_frame_online(Q_PFN(base), 512), QUIRE_OK);
    give_back(n, 0);
    quire_frame_drain();
    healthy();
}

/* Where most of what is free is lent by a contiguous area, nothing of that is set aside: who is served from
 * it cannot be moved. */
static void nothing_is_set_aside_of_an_area(void **state)
{
    struct quire_cma_config c = {.name = "area", .size = 8 * MIB, .align = 8 * MIB};
    struct quire_cma *area;
    unsigned words[2] = {0}; /* of 64 frames: outside the area, in it */
    uint64_t word[2] = {0};
    struct quire_page *p;
    size_t n = 0, kept = 0;

    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    assert_int_equal(quire_cma_reserve(&map, &c, &area), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    assert_int_equal(quire_cma_start(), QUIRE_OK);
    quire_frame_tunables_get(&tune);
    tune.atomic_reserve_kbytes = tune.watermark_boost_factor = 0;
    tune.min_free_kbytes = 1;
    tune.watermark_scale_factor = 1;
    set();
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_MOVABLE | QUIRE_GFP_MEMALLOC, ANY)))
        n++;
    for (size_t i = 0; i < n; i++) { /* which words are all ours */
        p = held[i];
        owned[quire_pfn_of_page(p).v / 64] = 0;
    }
    for (size_t i = 0; i < n; i++)
        owned[quire_pfn_of_page(held[i]).v / 64]++;
    for (size_t i = 0; i < n; i++) {
        uint64_t w = quire_pfn_of_page(held[i]).v / 64;
        unsigned in = quire_cma_contains(area, held[i]);

        if (owned[w] == 64 && words[in] < (in ? 3 : 1) && w > word[in]) {
            word[in] = w;
            words[in]++;
            owned[w] = 100;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (owned[quire_pfn_of_page(held[i]).v / 64] == 100)
            quire_page_free(held[i], 0);
        else
            held[kept++] = held[i];
    quire_frame_drain();
    assert_int_equal(quire_free_pages(), 256);
    quire_page_free(quire_page_alloc(0, QUIRE_GFP_MOVABLE, ANY), 0); /* not short */
    quire_frame_drain();
    tune.atomic_reserve_kbytes = 256;
    tune.min_free_kbytes = 4096;
    set();
    p = quire_page_alloc(0, QUIRE_GFP_MOVABLE | QUIRE_GFP_MEMALLOC, ANY); /* short now */
    assert_int_equal(zone_stats(0).atomic_reserve, 64);
    healthy();
    while ((held[kept] = quire_page_alloc(1, QUIRE_GFP_ATOMIC, ANY))) {
        assert_false(quire_cma_contains(area, held[kept]));
        quire_page_split(held[kept]);
        held[kept + 1] = held[kept] + 1;
        kept += 2;
    }
    quire_page_free(p, 0);
    give_back(kept, 0);
    quire_frame_drain();
    healthy();
}

/* The walk says so if what is set aside is not as it should be. */
static void the_reserve_is_verified(void **state)
{
    struct quire_page *p;
    size_t n;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    n = nothing_but_singles();
    p = quire_page_of_pfn(Q_PFN(qi_zones[0].atomic_base + 3));
    p->refs = 1;
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), "F8"));
    p->refs = 0;
    qi_zones[0].atomic_bits &= ~8ull;
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    qi_zones[0].atomic_bits |= 8;
    healthy();
    give_back(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_ranges),
        cmocka_unit_test(reserves_follow_their_ratios),
        cmocka_unit_test(told_when_memory_is_short),
        cmocka_unit_test(reclaim_mode_0_1_2),
        cmocka_unit_test(strangers_pay_a_penalty),
        cmocka_unit_test(fragmentation_raises_the_high_mark),
        cmocka_unit_test(the_boost_is_to_be_reached),
        cmocka_unit_test(atomic_requests_have_a_reserve),
        cmocka_unit_test(the_reserve_is_no_loss),
        cmocka_unit_test(nothing_hides_in_the_reserve),
        cmocka_unit_test(nothing_is_set_aside_of_an_area),
        cmocka_unit_test(the_reserve_is_verified),
    };

    test_seed("frame_pressure_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
