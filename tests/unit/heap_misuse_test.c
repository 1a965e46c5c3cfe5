/*
 * heap_misuse_test.c - what is reported to a caller that frees what is not its own, in every tier.
 */
#include <heap_suite.h>

static void expect_double_free(struct quire_cache *c, void *p)
{
    if (c)
        assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p)));
    else
        assert_true(HOSTED_EXPECT_PANIC(quire_kfree(p)));
    assert_non_null(strstr(hosted_panic_text(), "heap: "));
}

/* A second free is caught wherever the object lies by then: in the main sheaf, the spare, the barn,
 * its slab, or in a slab that is the frame allocator's again. */
/* proves: TRAP-3 X-13 */
static void double_free_in_every_tier(void **state)
{
    enum { N = 5000 };
    static void *p[N];

    (void)state;
    for (int i = 0; i < N; i++)
        p[i] = quire_kmalloc(64, QUIRE_GFP_KERNEL);
    quire_kfree(p[0]);
    expect_double_free(NULL, p[0]); /* the most recent */
    for (int i = 1; i < N; i++) {
        quire_kfree(p[i]);
        expect_double_free(NULL, p[i / 2]); /* spare, barn, slab, by and by */
        expect_double_free(NULL, p[i]);
    }
    heap_sound();
    quire_heap_drain();
    for (int i = 0; i < N; i++)
        expect_double_free(NULL, p[i]); /* the frame is free */
    assert_non_null(strstr(hosted_panic_text(), "freed twice or foreign"));
    p[0] = quire_kmalloc(50000, QUIRE_GFP_KERNEL); /* a run */
    quire_kfree(p[0]);
    expect_double_free(NULL, p[0]);
    expect_nothing_lost();
}

/* One object, freed by two CPUs at the very same time, both of which found it out: caught at its
 * slab. */
/* proves: TRAP-3 */
static void a_race_of_two_frees_is_caught_at_the_slab(void **state)
{
    struct quire_cache *c = cache("raced", 64, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(p));
    uint64_t i;

    (void)state;
    assert_true(qi_slab_index(s, p, &i));
    quire_cache_free(c, p);
    s->state[i] = QI_OBJ_OUT(0); /* what the other CPU had read */
    hosted_cpu_set(1);
    quire_cache_free(c, p);
    hosted_cpu_set(0);
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_destroy(c)));
    assert_non_null(strstr(hosted_panic_text(), "freed twice"));
}

/* proves: TRAP-3 X-13 */
static void foreign_pointers_are_caught(void **state)
{
    struct quire_cache *c = cache("mine", 64, 0, 0), *d = cache("other", 64, 0, 0);
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), *run = quire_kmalloc(40000, 0);
    void *header = qi_slab_of_page(quire_page_of_ptr(p));
    int local;

    (void)state;
    expect_double_free(NULL, &local);
    assert_non_null(strstr(hosted_panic_text(), "foreign"));
    expect_double_free(NULL, (void *)8);
    expect_double_free(NULL, (void *)UINTPTR_MAX);
    expect_double_free(NULL, quire_page_ptr(page));
    expect_double_free(NULL, header);
    expect_double_free(d, p);
    assert_non_null(strstr(hosted_panic_text(), "belongs to cache mine"));
    expect_double_free(c, &local);
    expect_double_free(c, NULL);
    expect_double_free(c, run);
    expect_double_free(NULL, run + 8);
    expect_double_free(NULL, run + 4096);
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(&local)));
    for (int off = 1; off < 64; off++)
        expect_double_free(c, p + off);
    quire_kfree(run);
    quire_cache_free(c, p);
    quire_page_free(page, 0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    expect_nothing_lost();
}

/* No byte of a slab but the first of an object that is out can be freed, for sizes that divide
 * nothing. */
static void every_wrong_byte_is_refused(void **state)
{
    static const size_t sizes[] = {8, 24, 72, 200, 328, 1000, 3000};

    (void)state;
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned flags = 0; flags <= QUIRE_CACHE_REDZONE; flags += QUIRE_CACHE_REDZONE) {
            struct quire_cache *c = cache("bytes", sizes[s], 0, flags);
            uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
            struct qi_slab *slab = qi_slab_of_page(quire_page_of_ptr(p));
            uint8_t *from = quire_page_ptr(slab->page), *to = from + (4096u << slab->order);

            for (uint8_t *q = from; q < to;
                 q += q + 64 < to && q > from + 64 && sizes[s] > 300 ? 7 : 1)
                if (q != p)
                    expect_double_free(NULL, q);
            quire_cache_free(c, p);
            assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        }
    expect_nothing_lost();
}

static void caught(const char *words)
{
    if (!strstr(hosted_panic_text(), words))
        fail_msg("said '%s', not '%s'", hosted_panic_text(), words);
}

/* A batch is looked at object by object: what is wrong in it is reported like a single free. */
static void bulk_frees_are_checked(void **state)
{
    struct quire_cache *c = cache("mine", 64, 0, 0), *d = cache("other", 64, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), *q = quire_cache_alloc(d, QUIRE_GFP_KERNEL);
    void *batch[2];
    int local;

    (void)state;
    batch[0] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    batch[1] = &local;
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free_bulk(c, 2, batch)));
    caught("foreign pointer");
    batch[0] = q;
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free_bulk(c, 1, batch)));
    caught("belongs to cache other");
    batch[0] = (char *)p + 1;
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free_bulk(c, 1, batch)));
    caught("not the start");
    batch[0] = batch[1] = p;
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free_bulk(c, 2, batch)));
    caught("double free");
    /* from a CPU that has no sheaves of the cache yet */
    hosted_cpu_set(3);
    batch[0] = quire_cache_alloc(d, QUIRE_GFP_KERNEL);
    batch[1] = q;
    quire_cache_free_bulk(d, 2, batch);
    hosted_cpu_set(0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    expect_nothing_lost();
}

/* While a slab goes back, its pages are flagged a moment longer than they name it: whoever frees into
 * one just then, and had to look closer, is told so. */
static void a_page_that_is_leaving(void **state)
{
    char *p = quire_kmalloc(40000, QUIRE_GFP_KERNEL);
    struct quire_page *page = quire_page_of_ptr(p + 4096);

    (void)state;
    page->flags |= QUIRE_PG_SLAB;
    assert_int_equal(page->owner, 0);
    assert_true(HOSTED_EXPECT_PANIC(qi_free_slow(NULL, p + 4096, 0)));
    caught("freed twice or foreign");
    page->flags &= ~QUIRE_PG_SLAB;
    quire_kfree(p);
    expect_nothing_lost();
}

/* The heap's own objects are nobody's to free or to ask about, and checked when it frees them. */
static void internal_objects_are_checked(void **state)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    struct quire_cache *sheaves = qi_header_cache(16);
    char *sheaf = qi_internal_alloc(sheaves, QUIRE_GFP_KERNEL);

    (void)state;
    quire_kfree(quire_kmalloc(1 << 20, QUIRE_GFP_KERNEL)); /* so that the heap reached the page */
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(sheaf)));
    caught("foreign pointer");
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(quire_page_ptr(page))));
    caught("foreign pointer");
    assert_true(HOSTED_EXPECT_PANIC(qi_internal_free(sheaves, sheaf + 8)));
    caught("internal object");
    assert_true(HOSTED_EXPECT_PANIC(qi_internal_free(&qi_cpu_cache, sheaf)));
    caught("internal object");
    qi_internal_free(sheaves, sheaf);
    assert_true(HOSTED_EXPECT_PANIC(qi_internal_free(sheaves, sheaf)));
    caught("internal object");
    quire_page_free(page, 0);
    expect_nothing_lost();
}

/* A state byte that changed while the object lay in a sheaf is noticed at its slab. */
static void a_damaged_state_is_caught_at_the_slab(void **state)
{
    struct quire_cache *c = cache("damaged", 64, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(p));
    uint64_t i;

    (void)state;
    assert_true(qi_slab_index(s, p, &i));
    quire_cache_free(c, p);
    s->state[i] = 0x77;
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_shrink(c)));
    caught("state 119");
}

static void nodes_that_are_not(void **state)
{
    struct quire_cache *c = cache("noded", 64, 0, 0);
    void *p = quire_cache_alloc_node(c, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY), *q;

    (void)state;
    assert_non_null(p);
    assert_non_null(q = quire_kmalloc_node(64, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY));
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_alloc_node(c, QUIRE_GFP_KERNEL, 1)));
    caught("node 1 of 1");
    assert_true(HOSTED_EXPECT_PANIC(quire_kmalloc_node(64, QUIRE_GFP_KERNEL, 1)));
    caught("node 1 of 1");
    quire_kfree(q);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(double_free_in_every_tier),
        TEST(a_race_of_two_frees_is_caught_at_the_slab),
        TEST(foreign_pointers_are_caught),
        TEST(every_wrong_byte_is_refused),
        TEST(bulk_frees_are_checked),
        TEST(internal_objects_are_checked),
        TEST(a_damaged_state_is_caught_at_the_slab),
        TEST(nodes_that_are_not),
        TEST(a_page_that_is_leaving),
    };

    test_seed("heap_misuse_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
