/*
 * heap_failure_test.c - no memory: each allocation refused once, and all of it used up.
 */
#include <heap_suite.h>

/* A call that uses every path: caches of each kind, kmalloc of each kind, bulk, realloc. */
static bool try_everything(void)
{
    struct quire_cache *c = NULL, *g = NULL;
    void *small = NULL, *run = NULL, *bigger = NULL, *o = NULL, *guarded = NULL, *bulk[100];
    bool all = false, got = false;

    if (quire_cache_create("fail", 700, 0, 0, NULL, &c) != QUIRE_OK ||
        quire_cache_create("guarded", 70, 0, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON, NULL, &g) !=
            QUIRE_OK)
        goto out;
    if (!(small = quire_kzalloc(100, QUIRE_GFP_KERNEL)) ||
        !(run = quire_kmalloc(30000, QUIRE_GFP_KERNEL)) ||
        !(o = quire_cache_alloc(c, QUIRE_GFP_KERNEL)) ||
        !(guarded = quire_cache_alloc(g, QUIRE_GFP_KERNEL)) ||
        !(got = quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 100, bulk)))
        goto out;
    memset(small, 0x77, 100);
    bigger = quire_krealloc(small, 9000, QUIRE_GFP_KERNEL);
    assert_int_equal(*(uint8_t *)(bigger ? bigger : small), 0x77);
    if (!bigger)
        goto out;
    small = bigger;
    all = true;
out:
    quire_kfree(small);
    quire_kfree(run);
    if (o)
        quire_cache_free(c, o);
    if (guarded)
        quire_cache_free(g, guarded);
    if (got)
        quire_cache_free_bulk(c, 100, bulk);
    if (c)
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    if (g)
        assert_int_equal(quire_cache_destroy(g), QUIRE_OK);
    return all;
}

/* Each frame, then each object, that the calls ask for is refused once.
 * proves: TRAP-18 */
static void every_allocation_may_fail(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (int layer = 0; layer < 2; layer++)
        for (int64_t n = 1;; n++) {
            bool reached;

            setup(NULL);
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(n);
            refused += !try_everything();
            reached = !(layer ? quire_heap_fail_armed : quire_frame_fail_armed)();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(-1);
            expect_nothing_lost();
            if (!reached)
                break;
            assert_true(n < 1000);
        }
    assert_true(refused > 10);
}

/* The n-th call fails, exactly, and only while asked to. */
static void failures_come_when_asked(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 10; n++) {
        quire_kfree(quire_kmalloc(64, QUIRE_GFP_KERNEL));
        quire_heap_fail_after(n);
        for (int64_t i = 1; i < 12; i++) {
            void *p = i % 3   ? quire_kmalloc(i % 2 ? 64 : 3000, QUIRE_GFP_KERNEL)
                      : i % 2 ? quire_kmalloc(0, QUIRE_GFP_KERNEL)
                              : quire_kmalloc(70000, QUIRE_GFP_KERNEL);

            assert_int_equal(p == NULL, i == n);
            assert_int_equal(quire_heap_fail_armed(), i < n);
            quire_kfree(p);
        }
        quire_heap_fail_after(-1);
    }
    assert_true(HOSTED_EXPECT_PANIC(quire_heap_fail_after(0)));
    expect_nothing_lost();
}

/* All memory as objects; then everything back. */
static void exhaustion_is_survived(void **state)
{
    struct quire_cache *c = cache("all", 1000, 0, 0);
    void **first = NULL, **p;
    unsigned n = 0;

    (void)state;
    while ((p = quire_cache_alloc(c, QUIRE_GFP_KERNEL))) {
        *p = first;
        first = p;
        n++;
    }
    assert_true(n > 55000);
    heap_sound();
    for (; first; first = p) {
        p = *first;
        quire_cache_free(c, first);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- memory that ends below the heap ---- */

static void *taken[1000];

/* Every frame is somebody's; objects that lie in slabs and sheaves remain. */
static void no_frames(void)
{
    quire_frame_drain();
    for (int order = QUIRE_MAX_ORDER; order >= 0; order--)
        while (quire_page_alloc((unsigned)order, QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY)) {
        }
}

/* All objects of an internal cache; how many. */
static unsigned none_left(struct quire_cache *c)
{
    unsigned n = 0;

    while ((taken[n] = qi_internal_alloc(c, QUIRE_GFP_KERNEL)))
        assert_true(++n < 1000);
    return n;
}

/* A cache with free objects in its slabs, and nothing at any CPU. */
static struct quire_cache *stocked(const char *name)
{
    struct quire_cache *c = cache(name, 64, 0, 0);
    void *kept = quire_cache_alloc(c, QUIRE_GFP_KERNEL);

    quire_kfree(kept);
    qi_drain_cpu(c, c->cpu[0]);
    assert_true(heap_stats(name).total >= 16);
    return c;
}

/* A CPU for which there is no memory for sheaves works with the slabs directly. */
static void without_sheaves(void **state)
{
    struct quire_cache *c = stocked("bare");
    uint64_t total = heap_stats("bare").total;
    void *p[8], *batch[8];

    (void)state;
    no_frames();
    none_left(c->sheaves);
    hosted_cpu_set(1);
    for (unsigned i = 0; i < 8; i++)
        assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    assert_true(quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 8, batch));
    assert_ptr_equal(c->cpu[1], &qi_no_cpu);
    assert_int_equal(heap_stats("bare").active, 16);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    for (unsigned i = 0; i < 8; i++)
        quire_cache_free(c, p[i]);
    quire_cache_free_bulk(c, 8, batch);
    assert_int_equal(heap_stats("bare").active, 0);
    assert_int_equal(heap_stats("bare").frees, 17); /* these, and the one that stocked() freed */
    assert_int_equal(heap_stats("bare").total, total);
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p[0])));
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* Whichever of main, spare and the CPU's struct fails: what was there already goes back. */
static void half_of_the_sheaves(void **state)
{
    struct quire_cache *c = stocked("half");
    unsigned n;
    void *p;

    (void)state;
    no_frames();
    n = none_left(c->sheaves);
    qi_internal_free(c->sheaves, taken[--n]); /* a main one, but no spare */
    hosted_cpu_set(1);
    assert_non_null(p = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    assert_ptr_equal(c->cpu[1], &qi_no_cpu);
    quire_cache_free(c, p);
    assert_non_null(p = qi_internal_alloc(c->sheaves, QUIRE_GFP_KERNEL));
    assert_null(qi_internal_alloc(c->sheaves, QUIRE_GFP_KERNEL));

    qi_internal_free(c->sheaves, p); /* both, but nothing to hang them on */
    qi_internal_free(c->sheaves, taken[--n]);
    none_left(&qi_cpu_cache);
    assert_non_null(p = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    assert_ptr_equal(c->cpu[1], &qi_no_cpu);
    quire_cache_free(c, p);
    for (unsigned i = 0; i < 2; i++)
        assert_non_null(qi_internal_alloc(c->sheaves, QUIRE_GFP_KERNEL));
    assert_null(qi_internal_alloc(c->sheaves, QUIRE_GFP_KERNEL));
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* An object of another node, and no sheaf to send it home with: it goes at once. */
static void a_foreign_object_without_a_sheaf(void **state)
{
    struct quire_cache *c = cache("foreign", 64, 0, 0);
    void *p = quire_cache_alloc_node(c, QUIRE_GFP_KERNEL, 1), *own;

    (void)state;
    assert_non_null(own = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    assert_int_equal(quire_page_node(quire_page_of_ptr(p)), 1);
    no_frames();
    none_left(c->sheaves);
    while (qi_internal_alloc(c->sheaves, QUIRE_GFP_KERNEL)) {
    }
    quire_cache_free(c, p);
    assert_null(c->cpu[0]->remote);
    assert_int_equal(c->node[1].in_slabs, c->node[1].objects);
    assert_int_equal(heap_stats("foreign").active, 1);
    assert_int_equal(heap_stats("foreign").frees, 1);
    quire_cache_free(c, own);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

/* A barn that may keep no more empty sheaves gives them back. */
static void a_barn_without_room(void **state)
{
    struct quire_cache *c = cache("barn", 64, 0, 0);
    static void *p[500];

    (void)state;
    for (unsigned i = 0; i < 500; i++)
        assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < 500; i++)
        quire_cache_free(c, p[i]);
    assert_true(c->node[0].nfull_sheaves > 2);
    c->max_sheaves = 1;
    for (unsigned i = 0; i < 500; i++)
        assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    assert_int_equal(c->node[0].nfull_sheaves, 0);
    assert_int_equal(c->node[0].nempty_sheaves, 1);
    heap_sound();
    for (unsigned i = 0; i < 500; i++)
        quire_cache_free(c, p[i]);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_allocation_may_fail), TEST(failures_come_when_asked),
        TEST(exhaustion_is_survived),    TEST(without_sheaves),
        TEST(half_of_the_sheaves),       NODES(a_foreign_object_without_a_sheaf),
        TEST(a_barn_without_room),
    };

    test_seed("heap_failure_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
