/*
 * heap_sheaf_test.c - sheaves: their capacity and the order of slabs by option, that they need no lock, sets
 * that were filled in advance, bulk calls that count.
 */
#include <heap_suite.h>

/* A sheaf of a cache holds what was asked for when it was created, or what the library was built for.
 * proves: AS-60 */
static void capacity_is_an_option(void **state)
{
    static const unsigned asked[] = {0, 4, 5, 16, 63, 64, 128};

    (void)state;
    for (unsigned i = 0; i < QI_COUNT(asked); i++) {
        unsigned n = asked[i] ? asked[i] : QUIRE_SLAB_SHEAF;
        struct quire_cache *c = cache("sized", 64, 0, QUIRE_CACHE_SHEAF(asked[i]));
        static void *p[3 * 128 + 1];

        /* the first takes a sheaf of them from the slabs, or all of the only one there is, 64 */
        p[0] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        assert_int_equal(qi_cpu_count(c->cpu[0]), (n < 64 ? n : 64) - 1);
        for (unsigned k = 1; k <= 3 * n; k++)
            assert_non_null(p[k] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
        assert_int_equal(c->node[0].nfull_sheaves, 0);
        /* main and spare take so many each, and one that is full goes into the barn */
        for (unsigned k = 0; k <= 3 * n; k++)
            quire_cache_free(c, p[k]);
        assert_int_equal(c->node[0].nfull_sheaves, 2);
        assert_int_equal(c->node[0].barn_cached, 2 * n);
        assert_int_equal(quire_heap_verify(), QUIRE_OK);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    }
    expect_nothing_lost();
}

/* No slab is larger than it may be but for an object that does not fit, and where more is allowed, slabs
 * waste less.
 * proves: AS-59 */
static void order_is_an_option(void **state)
{
    uint64_t waste, before = ~(uint64_t)0;

    (void)state;
    for (unsigned max = 0; max <= 10; max++) {
        struct quire_cache *c = cache("order", 2600, 0, QUIRE_CACHE_MAX_ORDER(max)),
                           *large = cache("large", 20000, 0, QUIRE_CACHE_MAX_ORDER(max));
        struct quire_cache_stats s = heap_stats("order");
        void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);

        assert_in_range(s.slab_order, 0, max);
        assert_int_equal(s.slab_order == 0, max == 0);
        assert_int_equal(qi_slab_of_page(quire_page_of_ptr(p))->order, s.slab_order);
        assert_int_equal(s.objects_per_slab, (4096u << s.slab_order) / s.slot_size);
        waste = ((4096u << s.slab_order) - s.objects_per_slab * s.slot_size) >> s.slab_order;
        assert_true(waste <= before);
        before = waste;
        assert_in_range(heap_stats("large").slab_order, 3, max < 3 ? 3 : max);
        quire_cache_free(c, p);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        assert_int_equal(quire_cache_destroy(large), QUIRE_OK);
    }
    /* and the same without asking is what the library was built for */
    {
        struct quire_cache *c =
                               cache("asked", 2600, 0, QUIRE_CACHE_MAX_ORDER(QUIRE_SLAB_MAX_ORDER)),
                           *d = cache("built", 2600, 0, 0);

        assert_int_equal(heap_stats("asked").slab_order, heap_stats("built").slab_order);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    }
    expect_nothing_lost();
}

/* proves: AS-59 AS-60 */
static void options_out_of_range(void **state)
{
    static const unsigned bad[] = {QUIRE_CACHE_SHEAF(1),      QUIRE_CACHE_SHEAF(3),
                                   QUIRE_CACHE_SHEAF(129),    QUIRE_CACHE_SHEAF(255),
                                   QUIRE_CACHE_MAX_ORDER(11), QUIRE_CACHE_MAX_ORDER(14)};
    struct quire_cache *c;

    (void)state;
    for (unsigned i = 0; i < QI_COUNT(bad); i++)
        assert_int_equal(quire_cache_create("bad", 64, 0, bad[i], NULL, &c), QUIRE_INVALID);
    expect_nothing_lost();
}

/* What a CPU has in its sheaves it gives out and takes back while somebody else holds the node's lock: two
 * sheaves of objects, that is.  Whoever took the lock would wait for ever.  One sheaf moves at once.
 * proves: AS-30 AS-31 */
static void no_lock_is_taken(void **state)
{
    enum { N = 16 };
    struct quire_cache *c = cache("magazine", 64, 0, QUIRE_CACHE_SHEAF(N));
    void *p[4 * N];
    uint64_t in_slabs;

    (void)state;
    for (unsigned i = 0; i < 4 * N; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    for (unsigned i = 0; i < 2 * N; i++)
        quire_cache_free(c, p[i]);
    in_slabs = c->node[0].in_slabs;
    qi_spin_lock_raw(&c->node[0].lock);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 2 * N; i++)
            assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
        for (unsigned i = 0; i < 2 * N; i++)
            quire_cache_free(c, p[i]);
    }
    qi_spin_unlock_raw(&c->node[0].lock);
    assert_int_equal(c->node[0].nfull_sheaves, 0);
    quire_cache_free(c, p[2 * N]);
    assert_int_equal(c->node[0].nfull_sheaves, 1);
    assert_int_equal(c->node[0].barn_cached, N);
    for (unsigned i = 2 * N + 1; i < 4 * N; i++)
        quire_cache_free(c, p[i]);
    assert_int_equal(c->node[0].in_slabs, in_slabs); /* the slabs saw nothing of it */
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- sets filled in advance ---- */

/* As many as were asked for can be taken when there is no memory at all; what is left goes back.
 * proves: AS-38 */
static void a_set_cannot_fail(void **state)
{
    struct quire_cache *c = cache("set", 512, 0, 0);
    struct quire_prefilled set = {.n = 0};
    void *p[QUIRE_PREFILLED_MAX], *all[4096];
    unsigned taken = 0, others = 0;

    (void)state;
    assert_int_equal(quire_prefilled_fill(&set, c, QUIRE_GFP_KERNEL, 20), QUIRE_OK);
    assert_int_equal(set.n, 20);
    assert_int_equal(quire_prefilled_fill(&set, c, QUIRE_GFP_KERNEL, 10), QUIRE_OK);
    assert_int_equal(set.n, 20); /* it has more than that */
    while (taken < 15)
        p[taken++] = quire_prefilled_take(&set);
    assert_int_equal(quire_prefilled_fill(&set, c, QUIRE_GFP_KERNEL, QUIRE_PREFILLED_MAX),
                     QUIRE_OK);
    assert_int_equal(set.n, QUIRE_PREFILLED_MAX);
    assert_int_equal(heap_stats("set").active, QUIRE_PREFILLED_MAX + 15);
    /* nobody else gets any */
    quire_heap_fail_after(1);
    for (unsigned i = 0; i < 40; i++)
        assert_non_null(p[taken++] = quire_prefilled_take(&set));
    assert_true(quire_heap_fail_armed());
    quire_heap_fail_after(-1);
    for (unsigned i = 0; i < taken; i++) {
        memset(p[i], (int)i, 512);
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(p[i], p[k]);
    }
    for (unsigned i = 0; i < taken; i++)
        quire_cache_free(c, p[i]);
    assert_int_equal(quire_cache_destroy(c), QUIRE_BUSY); /* the set has the rest */
    quire_prefilled_return(&set);
    assert_int_equal(set.n, 0);
    quire_prefilled_return(&set);
    /* what a set may not be asked for */
    assert_true(HOSTED_EXPECT_PANIC(quire_prefilled_take(&set)));
    assert_true(HOSTED_EXPECT_PANIC(
        quire_prefilled_fill(&set, c, QUIRE_GFP_KERNEL, QUIRE_PREFILLED_MAX + 1)));
    while (others < 4096 && (all[others] = quire_cache_alloc(c, QUIRE_GFP_KERNEL)))
        others++;
    quire_cache_free_bulk(c, others, all);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* Whichever allocation fails, the set has what it had.
 * proves: AS-38 TRAP-18 */
static void a_set_that_cannot_be_filled(void **state)
{
    struct quire_cache *c = cache("unset", 4096, 0, QUIRE_CACHE_POISON),
                       *other = cache("other", 64, 0, 0);
    struct quire_prefilled set = {.n = 0};
    unsigned fails = 0;

    (void)state;
    assert_int_equal(quire_prefilled_fill(&set, c, QUIRE_GFP_KERNEL, 3), QUIRE_OK);
    for (int n = 1;; n++) {
        enum quire_status st;

        quire_heap_fail_after(n);
        st = quire_prefilled_fill(&set, c, QUIRE_GFP_KERNEL, 12);
        if (quire_heap_fail_armed() && st == QUIRE_OK)
            break;
        quire_heap_fail_after(-1);
        assert_int_equal(st, QUIRE_NO_MEMORY);
        assert_int_equal(set.n, 3);
        assert_int_equal(heap_stats("unset").active, 3);
        fails++;
    }
    quire_heap_fail_after(-1);
    assert_int_equal(fails, 9);
    assert_int_equal(set.n, 12);
    assert_true(HOSTED_EXPECT_PANIC(quire_prefilled_fill(&set, other, QUIRE_GFP_KERNEL, 20)));
    quire_prefilled_return(&set);
    assert_int_equal(quire_prefilled_fill(&set, other, QUIRE_GFP_KERNEL, 20), QUIRE_OK);
    quire_prefilled_return(&set);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(other), QUIRE_OK);
    expect_nothing_lost();
}

/* Where there are not enough, quire_cache_alloc_some() gives what there are and says how many; bulk gives none.
 * proves: AS-35 */
static void bulk_may_count(void **state)
{
    struct quire_cache *c = cache("some", 50000, 0, 0), *small = cache("small", 64, 0, 0);
    static void *p[3000], *q[3000];
    size_t n;

    (void)state;
    for (n = 0; n <= 3000; n = n * 3 + 1) {
        assert_int_equal(quire_cache_alloc_some(small, QUIRE_GFP_KERNEL, n, p), n);
        for (size_t i = 0; i < n; i++)
            *(size_t *)p[i] = i;
        for (size_t i = 0; i < n; i++)
            assert_int_equal(*(size_t *)p[i], i);
        quire_cache_free_bulk(small, n, p);
    }
    assert_false(quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 3000, p));
    assert_int_equal(heap_stats("some").active, 0);
    n = quire_cache_alloc_some(c, QUIRE_GFP_KERNEL, 3000, p);
    assert_in_range(n, 900, 2999); /* of 64 MiB; slabs may not fill them to the end */
    assert_int_equal(heap_stats("some").active, n);
    assert_int_equal(quire_cache_alloc_some(c, QUIRE_GFP_KERNEL, 5, q), 0);
    for (size_t i = 0; i < n; i++)
        *(size_t *)p[i] = i;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(*(size_t *)p[i], i);
    quire_cache_free_bulk(c, n, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(small), QUIRE_OK);
    expect_nothing_lost();
}

/* A bulk free looks at each pointer, be it in the middle of good ones.
 * proves: X-13 TRAP-3 */
static void bulk_frees_are_checked(void **state)
{
    struct quire_cache *c = cache("checked", 64, 0, 0), *other = cache("stranger", 64, 0, 0);
    void *p[40], *foreign = quire_cache_alloc(other, QUIRE_GFP_KERNEL), *bad[5];

    (void)state;
    assert_true(quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 40, p));
    quire_cache_free(c, p[39]);
    bad[0] = p[39];               /* free already */
    bad[1] = foreign;             /* of another cache */
    bad[2] = (char *)p[20] + 8;   /* inside one */
    bad[3] = (char *)p[0] - 4096; /* of no slab, or of another */
    bad[4] = &p;                  /* on the stack */
    for (unsigned i = 0; i < 5; i++) {
        void *batch[3] = {p[3 * i], bad[i], p[3 * i + 1]};
        volatile uint64_t active = heap_stats("checked").active;

        assert_true(HOSTED_EXPECT_PANIC(quire_cache_free_bulk(c, 3, batch)));
        assert_int_equal(heap_stats("checked").active, active - 1); /* those before it */
        quire_cache_free(c, p[3 * i + 1]);
    }
    for (unsigned i = 0; i < 39; i++)
        if (i >= 15 || i % 3 == 2)
            quire_cache_free(c, p[i]);
    quire_cache_free(other, foreign);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(other), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(capacity_is_an_option), TEST(order_is_an_option),
        TEST(options_out_of_range),  TEST(no_lock_is_taken),
        TEST(a_set_cannot_fail),     TEST(a_set_that_cannot_be_filled),
        TEST(bulk_may_count),        TEST(bulk_frees_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
