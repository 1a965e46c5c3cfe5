/*
 * frame_movable_test.c - the MOVABLE zone: where it lies, and who gets memory from it.
 */
#include <frame_machine.h>

static struct quire_boot wish;

static void start(void)
{
    wish.map = &map;
    assert_int_equal(quire_frame_init(&wish), QUIRE_OK);
    healthy();
}

static const struct quire_zone_stats *zone_named(unsigned node, enum quire_zone_type type)
{
    static struct quire_zone_stats s;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        if (s.node == node && s.type == type)
            return &s;
    return NULL;
}

/* The node's MOVABLE zone is [from, to) in MiB; from == to: it has none. */
static void movable_is(unsigned node, uint64_t from, uint64_t to)
{
    const struct quire_zone_stats *s = zone_named(node, QUIRE_ZONE_MOVABLE);

    if (from == to) {
        assert_null(s);
        return;
    }
    assert_non_null(s);
    assert_string_equal(s->name, "Movable");
    assert_int_equal(s->start.v * 4096 / MIB, from);
    assert_int_equal(s->end.v * 4096 / MIB, to);
    assert_int_equal(s->present, (to - from) * 256);
    assert_int_equal(s->managed, s->present); /* the allocator's own data is elsewhere */
}

static const quire_gfp not_movable[] = {QUIRE_GFP_KERNEL,
                                        QUIRE_GFP_ATOMIC,
                                        QUIRE_GFP_RECLAIMABLE,
                                        QUIRE_GFP_MEMALLOC,
                                        QUIRE_GFP_ZERO,
                                        QUIRE_GFP_HIGHMEM,
                                        QUIRE_GFP_DMA32,
                                        QUIRE_GFP_DMA | QUIRE_GFP_MOVABLE,
                                        QUIRE_GFP_DMA32 | QUIRE_GFP_MOVABLE,
                                        QUIRE_GFP_MEMALLOC | QUIRE_GFP_RECLAIMABLE};

/* Whatever is asked for, without MOVABLE nothing comes from there, though it is all that is left. */
static void only_movable_requests_get_it(void **state)
{
    size_t n = 0;

    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    wish = (struct quire_boot){.nodes = 1, .cpus = 1, .kernelcore = 32 * MIB};
    start();
    movable_is(0, 48, 80);
    assert_int_equal(zone_named(0, QUIRE_ZONE_DMA32)->present, 32 * 256);

    for (unsigned k = 0; k < sizeof not_movable / sizeof *not_movable; k++)
        for (unsigned o = QUIRE_MAX_ORDER + 1; o-- > 0;)
            for (struct quire_page *p; (p = quire_page_alloc(o, not_movable[k], ANY));) {
                assert_int_equal(quire_page_zone(p), QUIRE_ZONE_DMA32);
                held[n] = p;
                owned[n++] = (uint8_t)o;
            }
    for (unsigned k = 0; k < sizeof not_movable / sizeof *not_movable; k++) {
        assert_int_equal(quire_page_alloc_bulk(100, held + n, not_movable[k], ANY), 0);
        assert_int_equal(quire_page_alloc_bulk(100, held + n, not_movable[k], 0), 0);
        assert_null(quire_page_alloc_zone(QUIRE_ZONE_MOVABLE, 0, not_movable[k], 0));
        assert_null(quire_page_alloc(0, not_movable[k] | QUIRE_GFP_THISNODE, 0));
    }
    assert_int_equal(quire_free_pages(), 32 * 256); /* every frame of it is free, and no other */
    for (size_t i = 0; i < n; i++)
        quire_page_free(held[i], owned[i]);
    healthy();

    /* who asks for movable memory has that first, then all the rest down to the mark */
    for (n = 0; (held[n] = quire_page_alloc(0, QUIRE_GFP_USER, ANY)); n++)
        if (n < 32 * 256 - 2000)
            assert_int_equal(quire_page_zone(held[n]), QUIRE_ZONE_MOVABLE);
    assert_true(n > 62 * 256);
    give_back(n, 0);
    held[0] = quire_page_alloc_zone(QUIRE_ZONE_MOVABLE, 3, QUIRE_GFP_MOVABLE, 0);
    assert_int_equal(quire_page_zone(held[0]), QUIRE_ZONE_MOVABLE);
    quire_page_free(held[0], 3);
    healthy();
}

/* 32, 64 and 8 MiB on three nodes: an equal share each, and what the third has not. */
static void shares_of_the_nodes(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 3; how++) {
        map_start(256 * MIB);
        map_add(16 * MIB, 32 * MIB, 0);
        map_add(64 * MIB, 64 * MIB, 1);
        map_add(160 * MIB, 8 * MIB, 2);
        wish = (struct quire_boot){.nodes = 3, .cpus = 1};
        wish.kernelcore = how == 0 ? 48 * MIB : how == 2 ? 20 * MIB : 0;
        wish.movablecore = how ? 56 * MIB : 0; /* 104 - 48; the larger kernel part counts */
        start();
        movable_is(0, 36, 48);
        movable_is(1, 84, 128);
        movable_is(2, 0, 0);
        wish.kernelcore = 0;
    }
    /* more than there is: no such zone at all */
    map_start(256 * MIB);
    map_add(16 * MIB, 32 * MIB, 0);
    wish = (struct quire_boot){.nodes = 1, .cpus = 1, .kernelcore = 33 * MIB};
    start();
    movable_is(0, 0, 0);
}

/* Lower zones count as the kernel's, and are never cut. */
static void lower_zones_stay_whole(void **state)
{
    (void)state;
    map_start(5 * GIB);
    map_add(MIB, 64 * MIB - MIB, 0);
    map_add(4 * GIB, 64 * MIB, 0);
    wish = (struct quire_boot){.nodes = 1, .cpus = 1, .kernelcore = 32 * MIB};
    start();
    assert_int_equal(zone_named(0, QUIRE_ZONE_DMA)->present, 15 * 256);
    assert_int_equal(zone_named(0, QUIRE_ZONE_DMA32)->present, 48 * 256);
    assert_null(zone_named(0, QUIRE_ZONE_NORMAL));
    movable_is(0, 4096, 4160);
    map_start(5 * GIB);
    map_add(MIB, 64 * MIB - MIB, 0);
    map_add(4 * GIB, 64 * MIB, 0);
    wish.kernelcore = 65 * MIB; /* two more than lie below, up to the next largest block */
    start();
    assert_int_equal(zone_named(0, QUIRE_ZONE_NORMAL)->present, 4 * 256);
    movable_is(0, 4100, 4160);
}

static void a_node_that_may_go(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    struct quire_page *p;

    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 32 * MIB, 0);
    map_add(48 * MIB, 32 * MIB, 1);
    wish = (struct quire_boot){
        .nodes = 2, .cpus = 2, .cpu_node = cpu_node, .movable_nodes = 1ull << 1};
    start();
    movable_is(0, 0, 0);
    movable_is(1, 48, 80);
    hosted_cpu_set(1);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        p = quire_page_alloc(o, QUIRE_GFP_KERNEL, ANY);
        assert_int_equal(quire_page_node(p), 0);
        quire_page_free(p, o);
        p = quire_page_alloc(o, QUIRE_GFP_USER, ANY);
        assert_int_equal(quire_page_node(p), 1);
        quire_page_free(p, o);
        assert_null(quire_page_alloc(o, QUIRE_GFP_THISNODE, 1));
    }
    hosted_cpu_set(0);
    quire_frame_drain();
    healthy();
}

static void refuses_to_leave_nothing_for_the_kernel(void **state)
{
    (void)state;
    map_start(80 * MIB);
    map_add(16 * MIB, 32 * MIB, 0);
    map_add(48 * MIB, 32 * MIB, 1);
    wish = (struct quire_boot){.map = &map, .nodes = 2, .cpus = 1, .movable_nodes = 3};
    assert_int_equal(quire_frame_init(&wish), QUIRE_INVALID);
    assert_non_null(strstr(hosted_log_last(), "movable nodes 0x3 of 2"));
    wish.movable_nodes = 1ull << 2;
    assert_int_equal(quire_frame_init(&wish), QUIRE_INVALID);
    wish.movable_nodes = 0;
    wish.movablecore = 64 * MIB;
    assert_int_equal(quire_frame_init(&wish), QUIRE_INVALID);
    wish.movable_nodes = 2;
    wish.movablecore = 32 * MIB;
    assert_int_equal(quire_frame_init(&wish), QUIRE_INVALID);
    wish.movablecore = 16 * MIB;
    start();
    movable_is(0, 32, 48);
    movable_is(1, 48, 80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_movable_requests_get_it),
        cmocka_unit_test(shares_of_the_nodes),
        cmocka_unit_test(lower_zones_stay_whole),
        cmocka_unit_test(a_node_that_may_go),
        cmocka_unit_test(refuses_to_leave_nothing_for_the_kernel),
    };

    test_seed("frame_movable_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
