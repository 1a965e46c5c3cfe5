/*
 * frame_boot_test.c - from the memory map to zones: what is refused, and what boot may cost.
 */
#include <frame_machine.h>

#define VIRTUAL_MAP (QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP)

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
    if (VIRTUAL_MAP) {
        hosted_fail_populate = 0;
        assert_int_equal(quire_frame_init(&b), QUIRE_NO_MEMORY);
    }
    assert_int_equal(quire_free_pages(), 0);
    assert_null(quire_nodes() ? &b : NULL);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);

    /* a map of which nothing is left for the allocator's own data */
    map_start(64 * MIB);
    map_add(4096, 4096, 0);
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
    if (!VIRTUAL_MAP)
        skip(); /* the map lies in memory, which is reserved, frame by frame */
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

static void init_refuses_nothing_at_all(void **state)
{
    struct quire_boot b = {.map = NULL, .nodes = 1, .cpus = 1};

    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 16 * MIB, 0);
    assert_int_equal(quire_frame_init(NULL), QUIRE_INVALID);
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID);
    b.map = &map;
    b.nodes = 0;
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID);
    assert_non_null(strstr(hosted_log_last(), "nodes 0"));
    b.nodes = 1;
    b.cpus = QUIRE_MAX_CPUS + 1;
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID);
    b.cpus = 1;
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
}

/* Wherever the port runs out of memory for struct pages, init says so and nothing is left. */
static void every_part_of_the_array_may_fail(void **state)
{
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 1};

    (void)state;
    if (!VIRTUAL_MAP)
        skip();
    map_start(96 * MIB);
    for (unsigned i = 0; i < 3; i++)
        map_add((16 + 32 * i) * MIB, 8 * MIB, 0);
    for (int n = 0; n < 3; n++) {
        hosted_fail_populate = n;
        assert_int_equal(quire_frame_init(&b), QUIRE_NO_MEMORY);
        assert_int_equal(quire_managed_pages(), 0);
        assert_int_equal(quire_nodes(), 0);
    }
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    healthy();
}

/* Page by page up to the smallest machine that boots: below it init says what it has no memory for;
 * that one is all books and no frames, and lives. */
static void the_smallest_machine(void **state)
{
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 2};
    enum quire_status s = QUIRE_NO_MEMORY;
    bool stacks = false;

    (void)state;
    for (uint64_t pages = 1; s != QUIRE_OK; pages++) {
        assert_true(pages < 100);
        map_start(32 * MIB);
        map_add(16 * MIB, pages * 4096, 0);
        s = quire_frame_init(&b);
        if (s == QUIRE_OK)
            break;
        assert_int_equal(s, QUIRE_NO_MEMORY);
        stacks |= strstr(hosted_log_last(), "per-CPU frame lists") != NULL;
    }
    assert_true(stacks);
    healthy();
    assert_int_equal(quire_managed_pages(), 0);
    assert_null(quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY));
    assert_null(quire_page_alloc(QUIRE_MAX_ORDER, QUIRE_GFP_MEMALLOC, ANY));
    assert_int_equal(quire_page_alloc_bulk(3, held, QUIRE_GFP_MEMALLOC, ANY), 0);
}

/* What firmware keeps is no zone's, between what is. */
static void kinds_that_are_not_usable(void **state)
{
    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 8 * MIB, 0);
    assert_int_equal(quire_memmap_add(&map, Q_PA(20 * MIB), MIB, QUIRE_MEM_RESERVED), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    assert_int_equal(zone_stats(0).present, 7 * MIB / 4096);
    assert_int_equal(quire_page_flags(Q_PFN(20 * MIB / 4096)) & 0xffff, QUIRE_PG_RESERVED);
    exhaust(0, QUIRE_GFP_MEMALLOC); /* looks at the kind of each frame */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_refuses_what_is_wrong),
        cmocka_unit_test(boot_touches_no_untouched_memory),
        cmocka_unit_test(init_refuses_nothing_at_all),
        cmocka_unit_test(every_part_of_the_array_may_fail),
        cmocka_unit_test(the_smallest_machine),
        cmocka_unit_test(kinds_that_are_not_usable),
    };

    test_seed("frame_boot_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
