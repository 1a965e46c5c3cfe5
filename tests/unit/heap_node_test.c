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

int main(void)
{
    const struct CMUnitTest tests[] = {
        NODES(objects_stay_on_their_node),
        NODES(an_empty_node_falls_back),
    };

    test_seed("heap_node_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
