/*
 * frame_nodes_test.c - the library with the smallest and the largest QUIRE_MAX_NODES.
 */
#include <frame_machine.h>

static uint8_t cpu_node[QUIRE_MAX_CPUS];
static uint8_t far_first[QUIRE_MAX_NODES * QUIRE_MAX_NODES];

/* As many nodes as there may be, each with 8 MiB and a CPU: each serves its CPU, all serve everybody,
 * and one node more is refused.
 * proves: AS-62 */
static void as_many_as_there_may_be(void **state)
{
    struct quire_boot more = {.map = &map, .nodes = QUIRE_MAX_NODES + 1, .cpus = 1};
    size_t n = 0;

    (void)state;
    map_start((QUIRE_MAX_NODES + 2) * 8 * MIB);
    assert_int_equal(quire_memmap_set_node(&map, Q_PA(0), MIB, QUIRE_MAX_NODES), QUIRE_INVALID);
    assert_int_equal(quire_frame_init(&more), QUIRE_INVALID);
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++) {
        map_add((i + 2) * 8 * MIB, 8 * MIB, i);
        cpu_node[i] = (uint8_t)i;
    }
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++)
        for (unsigned j = 0; j < QUIRE_MAX_NODES; j++)
            far_first[i * QUIRE_MAX_NODES + j] =
                i == j ? 10 : (uint8_t)(20 + (i > j ? i - j : j - i));
    boot(QUIRE_MAX_NODES, QUIRE_MAX_NODES, cpu_node, far_first);
    assert_int_equal(quire_nodes(), QUIRE_MAX_NODES);
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++) {
        struct quire_page *p;

        hosted_cpu_set(i);
        assert_int_equal(quire_cpu_node(i), i);
        for (unsigned o = 0; o <= QUIRE_HUGE_ORDER; o++) {
            p = quire_page_alloc(o, QUIRE_GFP_USER, ANY);
            assert_int_equal(quire_page_node(p), i);
            quire_page_free(p, o);
            p = quire_page_alloc(o, QUIRE_GFP_THISNODE, QUIRE_MAX_NODES - 1 - i);
            assert_int_equal(quire_page_node(p), QUIRE_MAX_NODES - 1 - i);
            quire_page_free(p, o);
        }
    }
    hosted_cpu_set(QUIRE_MAX_NODES - 1);
    quire_frame_drain();
    for (; (held[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY)); n++)
        if (n) /* down the row of nodes, nearest first */
            assert_true(quire_page_node(held[n]) <= quire_page_node(held[n - 1]) || n > 2000);
    assert_int_equal(n, quire_managed_pages());
    assert_int_equal(quire_page_node(held[n - 1]), 0);
    give_back(n, 0);
    healthy();
    hosted_cpu_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_there_may_be),
    };

    test_seed("frame_nodes_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
