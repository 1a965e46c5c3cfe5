/*
 * frame_high_test.c - memory beyond the direct map: the library built with QUIRE_DIRECT_LIMIT 896 MiB, as
 * for a 32-bit kernel.
 */
#include <frame_machine.h>

#define LIMIT (896 * MIB)

_Static_assert(QUIRE_DIRECT_LIMIT == LIMIT, "built with the option");

static void high_machine(uint64_t kernelcore)
{
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 1, .kernelcore = kernelcore};

    map_start(LIMIT + 64 * MIB);
    map_add(MIB, LIMIT + 63 * MIB, 0);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    healthy();
}

/* DMA, NORMAL and HIGHMEM lie where a 32-bit kernel has them; the allocator's own data is below.
 * proves: VM-21 */
static void zones_of_a_small_machine(void **state)
{
    struct quire_zone_stats s;

    (void)state;
    high_machine(0);
    s = zone_stats(0);
    assert_string_equal(s.name, "DMA");
    assert_int_equal(s.end.v * 4096, 16 * MIB);
    s = zone_stats(1);
    assert_string_equal(s.name, "Normal");
    assert_int_equal(s.start.v * 4096, 16 * MIB);
    assert_int_equal(s.end.v * 4096, LIMIT);
    s = zone_stats(2);
    assert_string_equal(s.name, "HighMem");
    assert_int_equal(s.start.v * 4096, LIMIT);
    assert_int_equal(s.end.v * 4096, LIMIT + 64 * MIB);
    assert_int_equal(s.managed, s.present); /* nothing of the allocator's own up there */
    assert_int_equal(quire_zone_stats(3, &s), QUIRE_NOT_FOUND);
}

/* Who did not say HIGHMEM gets memory of the direct map, or none; who did, gets the other first. */
static void only_who_says_so_gets_it(void **state)
{
    static const quire_gfp low[] = {QUIRE_GFP_KERNEL,
                                    QUIRE_GFP_ATOMIC,
                                    QUIRE_GFP_MOVABLE,
                                    QUIRE_GFP_MEMALLOC,
                                    QUIRE_GFP_DMA32,
                                    QUIRE_GFP_DMA,
                                    QUIRE_GFP_DMA | QUIRE_GFP_HIGHMEM};
    size_t n = 0;

    (void)state;
    high_machine(0);
    for (unsigned k = 0; k < sizeof low / sizeof *low; k++) {
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            struct quire_page *p = quire_page_alloc(o, low[k], ANY);

            assert_true(quire_pa_of_page(p).v < LIMIT);
            quire_page_free(p, o);
        }
        assert_null(quire_page_alloc_zone(QUIRE_ZONE_HIGHMEM, 0, low[k], 0));
    }
    while ((held[n] = quire_page_alloc(10, QUIRE_GFP_MEMALLOC, ANY)))
        assert_true(quire_pa_of_page(held[n++]).v < LIMIT);
    assert_int_equal(zone_stats(2).free, 64 * 256);
    give_back(n, 10);
    quire_frame_drain();
    for (unsigned i = 0; i < 64 * 256 - 100; i++) {
        held[i] = quire_page_alloc(
            0, i % 2 ? QUIRE_GFP_HIGHMEM : QUIRE_GFP_HIGHMEM | QUIRE_GFP_USER, ANY);
        if (i < 50 * 256)
            assert_int_equal(quire_page_zone(held[i]), QUIRE_ZONE_HIGHMEM);
    }
    give_back(64 * 256 - 100, 0);
    healthy();
}

/* The bytes of a high frame, through a mapping of our own. */
static void expect_bytes(const struct quire_page *p, unsigned char c)
{
    unsigned char *at = qport_frame_map(quire_pa_of_page(p));

    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(at[i], c);
    qport_frame_unmap(at);
}

static void fill(const struct quire_page *p, unsigned char c)
{
    unsigned char *at = qport_frame_map(quire_pa_of_page(p));

    memset(at, c, 4096);
    qport_frame_unmap(at);
}

/* Zeroed, cleared and copied like other memory; nothing stays mapped. */
static void content_through_windows(void **state)
{
    struct quire_page *p, *q, *low;

    (void)state;
    high_machine(0);
    for (unsigned o = 0; o <= 4; o++) {
        p = quire_page_alloc(o, QUIRE_GFP_HIGHMEM, ANY);
        assert_true(quire_pa_of_page(p).v >= LIMIT);
        for (unsigned i = 0; i < 1u << o; i++)
            fill(p + i, 0x5a);
        quire_page_free(p, o);
        quire_frame_drain();
        p = quire_page_alloc(o, QUIRE_GFP_HIGHMEM | QUIRE_GFP_ZERO, ANY);
        for (unsigned i = 0; i < 1u << o; i++)
            expect_bytes(p + i, 0);
        quire_page_free(p, o);
    }
    assert_int_equal(quire_page_alloc_bulk(300, held, QUIRE_GFP_HIGHMEM | QUIRE_GFP_ZERO, ANY),
                     300);
    for (unsigned i = 0; i < 300; i++)
        expect_bytes(held[i], 0);
    p = held[0];
    q = held[1];
    low = quire_page_alloc(0, 0, ANY);
    fill(p, 0x77);
    quire_page_copy(q, p);
    expect_bytes(q, 0x77);
    quire_page_copy(low, q);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(((unsigned char *)quire_page_ptr(low))[i], 0x77);
    quire_page_clear(low);
    quire_page_copy(p, low);
    expect_bytes(p, 0);
    quire_page_clear(q);
    expect_bytes(q, 0);
    assert_int_equal(hosted_frames_mapped, 0);
}

/* MOVABLE is cut from the high memory, and then needs both words. */
static void movable_memory_lies_high(void **state)
{
    struct quire_page *p;

    (void)state;
    high_machine(LIMIT + 32 * MIB - MIB);
    assert_string_equal(zone_stats(3).name, "Movable");
    assert_int_equal(zone_stats(3).start.v * 4096, LIMIT + 32 * MIB);
    p = quire_page_alloc(0, QUIRE_GFP_MOVABLE, ANY);
    assert_int_equal(quire_page_zone(p), QUIRE_ZONE_NORMAL);
    quire_page_free(p, 0);
    p = quire_page_alloc(0, QUIRE_GFP_MOVABLE | QUIRE_GFP_HIGHMEM, ANY);
    assert_int_equal(quire_page_zone(p), QUIRE_ZONE_MOVABLE);
    quire_page_free(p, 0);
    p = quire_page_alloc(0, QUIRE_GFP_HIGHMEM, ANY);
    assert_int_equal(quire_page_zone(p), QUIRE_ZONE_HIGHMEM);
    quire_page_free(p, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zones_of_a_small_machine),
        cmocka_unit_test(only_who_says_so_gets_it),
        cmocka_unit_test(content_through_windows),
        cmocka_unit_test(movable_memory_lies_high),
    };

    test_seed("frame_high_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
