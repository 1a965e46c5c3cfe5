/*
 * heap_node_test.c - objects of many nodes: whose memory a CPU gets, and where what it frees goes.
 */
#include <heap_suite.h>

static unsigned node_of(void *p) { return quire_page_node(quire_page_of_ptr(p)); }

/* Memory is of the CPU's node, or of the one that is asked for, wherever it was freed.
 * proves: AS-33 */
static void objects_stay_on_their_node(void **state)
{
    struct quire_cache *c = cache("noded", 128, 0, 0);
    static void *p[2][500];

    (void)state;
    for (int round = 0; round < 10; round++) {
        for (unsigned node = 0; node < 2; node++) {
            hosted_cpu_set(node);
            for (int i = 0; i < 500; i++) {
                p[node][i] = i % 2 ? quire_cache_alloc(c, QUIRE_GFP_KERNEL)
                                   : quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, node);
                assert_int_equal(node_of(p[node][i]), node);
            }
        }
        /* each CPU frees what the other took */
        for (unsigned node = 0; node < 2; node++) {
            hosted_cpu_set(node);
            for (int i = 0; i < 500; i++)
                quire_cache_free(c, p[!node][i]);
        }
        heap_sound();
    }
    hosted_cpu_set(0);
    for (int i = 0; i < 100; i++) {
        void *far = quire_kmalloc_node(100, QUIRE_GFP_KERNEL, 1);

        assert_int_equal(node_of(far), 1);
        quire_kfree(far);
        far = quire_kmalloc_node(50000, QUIRE_GFP_KERNEL, 1);
        assert_int_equal(node_of(far), 1);
        quire_kfree(far);
    }
    assert_true(HOSTED_EXPECT_PANIC(quire_kmalloc_node(8, QUIRE_GFP_KERNEL, 2)));
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* A node without memory: its CPUs are served by the other, unless that is forbidden. */
static void an_empty_node_falls_back(void **state)
{
    struct quire_cache *c = cache("fallback", 256, 0, 0);
    void *p[100], *local;

    (void)state;
    hosted_cpu_set(1);
    local = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    while (quire_page_alloc(0, QUIRE_GFP_THISNODE | QUIRE_GFP_MEMALLOC, 1)) {
    }
    while (quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, 1)) {
    }
    assert_null(quire_cache_alloc(c, QUIRE_GFP_THISNODE));
    for (int i = 0; i < 100; i++) {
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        assert_non_null(p[i]);
        assert_int_equal(node_of(p[i]), 0);
    }
    for (int i = 0; i < 100; i++)
        quire_cache_free(c, p[i]);
    quire_cache_free(c, local);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* Four nodes of 16 MiB; seen from node 0 the others are far in the order 2, 3, 1. */
static int setup_four(void **state)
{
    static struct quire_mem_range ranges[8], reserved[16];
    static struct quire_memmap map;
    static const uint8_t cpu_node[] = {0, 1, 2, 3};
    static const uint8_t distance[] = {
        10, 40, 20, 30, /**/ 40, 10, 20, 20, /**/ 20, 20, 10, 20, /**/ 30, 20, 20, 10,
    };
    struct quire_boot boot = {
        .map = &map, .nodes = 4, .cpus = 4, .cpu_node = cpu_node, .distance = distance};

    (void)state;
    hosted_init(80 * HEAP_MIB);
    quire_memmap_init(&map, ranges, 8, reserved, 16);
    for (unsigned n = 0; n < 4; n++) {
        uint64_t base = (16 + 16 * n) * HEAP_MIB;

        assert_int_equal(quire_memmap_add(&map, Q_PA(base), 16 * HEAP_MIB, QUIRE_MEM_USABLE), 0);
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(base), 16 * HEAP_MIB, n), QUIRE_OK);
    }
    assert_int_equal(quire_frame_init(&boot), QUIRE_OK);
    assert_int_equal(quire_heap_init(), QUIRE_OK);
    frames_at_start = quire_free_pages();
    return 0;
}

/* What one CPU frees of all the others' memory goes home, each object to its own node. */
static void mixed_objects_go_home(void **state)
{
    struct quire_cache *c = cache("mixed", 128, 0, 0);
    static void *p[4][200];

    (void)state;
    for (unsigned node = 0; node < 4; node++)
        for (unsigned i = 0; i < 200; i++) {
            p[node][i] = quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, node);
            assert_int_equal(node_of(p[node][i]), node);
        }
    for (unsigned i = 0; i < 200; i++)
        for (unsigned node = 0; node < 4; node++)
            quire_cache_free(c, p[node][i]);
    heap_sound();
    qi_drain_cpu(c, c->cpu[0]);
    for (unsigned node = 1; node < 4; node++)
        assert_int_equal(c->node[node].in_slabs, c->node[node].objects);
    heap_sound();
    assert_int_equal(heap_stats("mixed").active, 0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* Without a frame left anywhere: first what the own node has, then the others' by distance. */
static void the_nearest_node_helps(void **state)
{
    static const unsigned order[] = {0, 2, 3, 1};
    struct quire_cache *c = cache("near", 128, 0, 0);
    unsigned at = 0, counts[4] = {0};
    void *p, *kept[4];

    (void)state;
    for (unsigned node = 0; node < 4; node++) {
        hosted_cpu_set(node);
        kept[node] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        qi_drain_cpu(c, c->cpu[node]);
        assert_true(c->node[node].in_slabs > 10);
    }
    hosted_cpu_set(0);
    while (quire_page_alloc(0, QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY)) {
    }
    while (quire_page_alloc_bulk(1, (struct quire_page *[1]){NULL}, QUIRE_GFP_MEMALLOC, 0)) {
    }
    while ((p = quire_cache_alloc(c, QUIRE_GFP_KERNEL))) {
        while (at < 4 && node_of(p) != order[at])
            at++;
        assert_true(at < 4);
        counts[node_of(p)]++;
    }
    for (unsigned node = 0; node < 4; node++) {
        assert_true(counts[node] > 10);
        assert_int_equal(node_of(kept[node]), node);
    }
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* A node's objects that lie in full sheaves of its barn are had from afar as well. */
static void a_barn_is_opened_from_afar(void **state)
{
    struct quire_cache *c = cache("afar", 128, 0, 0);
    static void *p[400];
    uint64_t cached;
    unsigned n = 0;

    (void)state;
    hosted_cpu_set(1);
    for (unsigned i = 0; i < 400; i++)
        assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < 400; i++)
        quire_cache_free(c, p[i]);
    cached = c->node[1].barn_cached;
    assert_true(cached >= 2 * c->sheaf_cap);
    hosted_cpu_set(0);
    while (quire_page_alloc(0, QUIRE_GFP_THISNODE | QUIRE_GFP_MEMALLOC, 1)) {
    }
    while ((p[n] = quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, 1))) {
        assert_int_equal(node_of(p[n]), 1);
        assert_true(++n < 400);
        heap_sound();
    }
    assert_int_equal(c->node[1].nfull_sheaves, 0);
    assert_true(n >= cached);
    quire_cache_free_bulk(c, n, p);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* What is freed far from home goes there by the sheaf, without its lock, and is given out there next.
 * proves: AS-32 AS-33 */
static void sheaves_go_home_by_mail(void **state)
{
    enum { N = 16 };
    struct quire_cache *c = cache("mail", 128, 0, QUIRE_CACHE_SHEAF(N));
    void *p[N * (QI_MAIL_CELLS + 2)], *again;
    uint64_t in_slabs, word = 0;

    (void)state;
    for (unsigned i = 0; i < QI_COUNT(p); i++)
        p[i] = quire_cache_alloc_node(c, QUIRE_GFP_THISNODE, 1);
    again = quire_cache_alloc(c, QUIRE_GFP_KERNEL); /* of here: this CPU has its struct */
    quire_cache_free(c, again);
    in_slabs = c->node[1].in_slabs;
    qi_spin_lock_raw(&c->node[1].lock);
    for (unsigned i = 0; i < N * QI_MAIL_CELLS; i++) {
        quire_cache_free(c, p[i]);
        assert_int_equal(qi_mail_full(&c->node[1].mail), (i + 1) / N);
        if ((i + 1) % N == 0) { /* the id counts each change */
            assert_true(c->node[1].mail.word >> 16 > word >> 16);
            word = c->node[1].mail.word;
        }
    }
    qi_spin_unlock_raw(&c->node[1].lock);
    heap_sound();
    assert_int_equal(heap_stats("mail").active, 2 * N);
    assert_int_equal(c->node[1].in_slabs, in_slabs);
    for (unsigned i = 0; i < N; i++) /* no cell is free: to the slabs */
        quire_cache_free(c, p[N * QI_MAIL_CELLS + i]);
    assert_int_equal(c->node[1].in_slabs, in_slabs + N);
    for (unsigned i = 0; i < N; i++)
        quire_cache_free(c, p[N * (QI_MAIL_CELLS + 1) + i]);
    hosted_cpu_set(1);
    again = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    assert_int_equal(qi_mail_full(&c->node[1].mail), QI_MAIL_CELLS - 1);
    assert_ptr_equal(again, p[N - 1]);
    quire_cache_free(c, again);
    heap_sound();
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* Another CPU fetches the sheaf and posts a different one in the same cell, after this one has looked at it and
 * before it says so: the bits are what they were, the id is not, and the look counts for nothing.  Where the
 * id wraps it is not 0.
 * proves: AS-32 */
static void a_cell_that_was_filled_again(void **state)
{
    struct qi_mail m = {.word = 0};
    struct qi_sheaf *a = (void *)64, *b = (void *)128;
    uint64_t seen;

    (void)state;
    assert_null(qi_mail_fetch(&m));
    assert_true(qi_mail_post(&m, a));
    seen = m.word;
    assert_ptr_equal(qi_mail_fetch(&m), a);
    assert_true(qi_mail_post(&m, b));
    assert_int_equal(m.word & 0xffff, seen & 0xffff);
    assert_false(qi_cas_acqrel(&m.word, &seen, qi_mail_next(seen, 0)));
    assert_ptr_equal(qi_mail_fetch(&m), b);
    m.word = ~(uint64_t)0 << 16;
    for (unsigned i = 0; i < 4; i++) {
        assert_true(qi_mail_post(&m, a));
        assert_true(m.word >> 16 != 0);
        assert_ptr_equal(qi_mail_fetch(&m), a);
        assert_true(m.word >> 16 != 0);
    }
    for (unsigned i = 0; i < QI_MAIL_CELLS; i++)
        assert_true(qi_mail_post(&m, a));
    assert_false(qi_mail_post(&m, a));
}

#define FOUR(f) cmocka_unit_test_setup_teardown(f, setup_four, teardown)

/* Four nodes; from each, which are nearer is another matter, as firmware's table has it.  Each slab is on the
 * lists of its node, and as nodes run out of memory, one after the other, objects come from the nearest that has
 * some: what is free in its slabs already, then new ones.
 * proves: AS-33 */
static void the_nearest_node_that_has_some(void **state)
{
    static const uint8_t distance[16] = {10, 40, 20, 30, 25, 10, 35, 15,
                                         12, 14, 10, 13, 21, 31, 11, 10};
    static struct quire_mem_range ranges[16], reserved[32];
    static struct quire_memmap map;
    static const uint8_t cpu_node[4] = {0, 1, 2, 3};
    const uint64_t span = 64 * HEAP_MIB;
    struct quire_boot boot = {
        .map = &map, .nodes = 4, .cpus = 4, .cpu_node = cpu_node, .distance = distance};

    (void)state;
    for (unsigned home = 0; home < 4; home++) {
        struct quire_cache *c;
        unsigned seen = 1u << home;

        hosted_init(span);
        quire_memmap_init(&map, ranges, 16, reserved, 32);
        assert_int_equal(quire_memmap_add(&map, Q_PA(HEAP_MIB), span - HEAP_MIB, QUIRE_MEM_USABLE),
                         QUIRE_OK);
        for (unsigned n = 0; n < 4; n++)
            quire_memmap_set_node(&map, Q_PA(span / 4 * n), span / 4, n);
        assert_int_equal(quire_frame_init(&boot), QUIRE_OK);
        assert_int_equal(quire_heap_init(), QUIRE_OK);
        hosted_cpu_set(home);
        c = cache("near", 4096, 0, 0);
        for (void *p; (p = quire_cache_alloc(c, QUIRE_GFP_KERNEL));) {
            unsigned node = node_of(p);

            assert_int_equal(qi_slab_of_page(quire_page_of_ptr(p))->node, node);
            if (seen & 1u << node)
                continue;
            /* none of those that were not used yet is nearer */
            for (unsigned n = 0; n < 4; n++)
                if (!(seen & 1u << n))
                    assert_true(distance[home * 4 + n] >= distance[home * 4 + node]);
            seen |= 1u << node;
        }
        assert_int_equal(seen, 15);
        for (unsigned n = 0; n < 4; n++)
            assert_true(c->node[n].nslabs > 0);
        assert_int_equal(quire_heap_verify(), QUIRE_OK);
        hosted_fini();
    }
    setup(state); /* for the teardown */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NODES(sheaves_go_home_by_mail),
        TEST(a_cell_that_was_filled_again),
        cmocka_unit_test_teardown(the_nearest_node_that_has_some, teardown),
        NODES(objects_stay_on_their_node),
        NODES(an_empty_node_falls_back),
        FOUR(mixed_objects_go_home),
        FOUR(the_nearest_node_helps),
        NODES(a_barn_is_opened_from_afar),
    };

    test_seed("heap_node_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
