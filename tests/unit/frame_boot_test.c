/*
 * frame_boot_test.c - from the memory map to zones: what is refused, and what boot may cost.
 */
#include <frame_machine.h>

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
    hosted_fail_populate = 0;
    assert_int_equal(quire_frame_init(&b), QUIRE_NO_MEMORY);
    assert_int_equal(quire_free_pages(), 0);
    assert_null(quire_nodes() ? &b : NULL);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);

    /* a map of which nothing is left for the allocator's own data */
    map_start(64 * MIB);
    map_add(4096, 8192, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_refuses_what_is_wrong),
        cmocka_unit_test(boot_touches_no_untouched_memory),
    };

    test_seed("frame_boot_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
