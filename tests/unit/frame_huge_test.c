/*
 * frame_huge_test.c - much memory: machines of 128 GiB and of 1 TiB, on 8 nodes and with holes, of which only
 * the metadata is there.  What a machine costs is counted in bytes of the host that it touches.
 */
#include <quire_test.h>

#include <quire/frame.h>

#define GIB    (1ull << 30)
#define NODES  8u
#define PIECES 4u /* of each node's memory */
#define EACH   500u

static struct quire_mem_range ranges[4 * NODES * PIECES], reserved[256];
static struct quire_memmap map;
static struct quire_page *held[NODES][EACH];

/* Each node has its memory in pieces of one 32nd of the whole, with holes between them. */
static void machine(uint64_t bytes)
{
    static const uint8_t cpu_node[NODES] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct quire_boot b = {.map = &map, .nodes = NODES, .cpus = NODES, .cpu_node = cpu_node};
    uint64_t piece = bytes / NODES / PIECES, at = 0;

    hosted_init_sparse(bytes + bytes / 8);
    quire_memmap_init(&map, ranges, 4 * NODES * PIECES, reserved, 256);
    for (unsigned i = 0; i < NODES * PIECES; i++, at += piece + piece / 8) {
        assert_int_equal(quire_memmap_add(&map, Q_PA(at), piece, QUIRE_MEM_USABLE), QUIRE_OK);
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(at), piece, i / PIECES), QUIRE_OK);
    }
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
}

/* Single and huge frames of every node, all held at once, each from its own; and back. */
static void serve(void)
{
    uint64_t free = quire_free_pages();

    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < EACH; i++) {
            struct quire_page *p = quire_page_alloc(i % 20 ? 0 : QUIRE_HUGE_ORDER,
                                                    QUIRE_GFP_USER | QUIRE_GFP_THISNODE, n);

            assert_non_null(p);
            assert_int_equal(quire_page_node(p), n);
            held[n][i] = p;
        }
    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < EACH; i++)
            quire_page_put(held[n][i]);
    assert_int_equal(quire_free_pages(), free);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
}

/* Bytes that the machine has touched once it works, and once it has served. */
static void cost(uint64_t bytes, uint64_t *start, uint64_t *served)
{
    machine(bytes);
    assert_true(quire_managed_pages() > bytes / QUIRE_PAGE_SIZE * 99 / 100);
    *start = hosted_resident();
    serve();
    *served = hosted_resident();
}

static void a_gibibyte_costs_the_same_in_every_machine(void **state)
{
    uint64_t start[3], served[3], low, high;

    (void)state;
    cost(128 * GIB, &start[0], &served[0]);
    cost(512 * GIB, &start[1], &served[1]);
    cost(1024 * GIB, &start[2], &served[2]);
    printf("# touched at the start: %lu, %lu, %lu KiB for 128, 512, 1024 GiB\n",
           (unsigned long)(start[0] >> 10), (unsigned long)(start[1] >> 10),
           (unsigned long)(start[2] >> 10));
    low = (start[1] - start[0]) / (512 - 128);
    high = (start[2] - start[1]) / (1024 - 512);
    /* a sixteenth of a byte for each of its frames, and no more for one that comes late */
    assert_in_range(low, 1, GIB / QUIRE_PAGE_SIZE / 16);
    assert_in_range(high * 100, low * 97, low * 103);
    /* the same requests touch the same, however much there is */
    for (unsigned i = 1; i < 3; i++)
        assert_in_range(served[i] - start[i], 0, served[0] - start[0] + 64 * 1024);
    hosted_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gibibyte_costs_the_same_in_every_machine)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
