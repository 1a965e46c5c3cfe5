/*
 * frame_report_test.c - what the allocator says of itself: pageblocks, texts of /proc.
 */
#include <frame_machine.h>

static void pageblocks_add_up(void **state)
{
    struct quire_block_info b;
    uint64_t free = 0, cached = 0, present = 0, n = 0;
    uint16_t slab = 0, table = 0, anon = 0, file = 0, kva = 0, huge = 0, other = 0;
    static const uint32_t kinds[] = {QUIRE_PG_SLAB, QUIRE_PG_TABLE, QUIRE_PG_KVA, QUIRE_PG_ANON,
                                     QUIRE_PG_OBJECT};

    (void)state;
    map_start(128 * MIB);
    map_add(MIB, 31 * MIB + 4096, 0);
    map_add(100 * MIB, 20 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(5 * MIB), 3 * MIB, "kernel", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    for (unsigned i = 0; i < 5; i++)
        (held[i] = get(i))->flags |= kinds[i];
    get(9);
    get(2);
    for (; quire_block_info(n, &b) == QUIRE_OK; n++) {
        assert_int_equal(b.start.v, n * 512);
        assert_int_equal(b.free + b.cached + b.reserved + b.slab + b.table + b.kva + b.anon +
                             b.file + b.huge + b.other + b.absent,
                         512);
        free += b.free;
        cached += b.cached;
        present += 512u - b.absent;
        slab += b.slab;
        table += b.table;
        kva += b.kva;
        anon += b.anon;
        file += b.file;
        huge += b.huge;
        other += b.other;
    }
    assert_int_equal(n, 60);
    assert_int_equal(present, zone_stats(0).present + zone_stats(1).present);
    assert_int_equal(free, zone_stats(0).free + zone_stats(1).free);
    assert_int_equal(cached, zone_stats(0).cached + zone_stats(1).cached);
    assert_int_equal(slab, 1);
    assert_int_equal(table, 2);
    assert_int_equal(kva, 4);
    assert_int_equal(anon, 8);
    assert_int_equal(file, 16);
    assert_int_equal(huge, 512);
    assert_int_equal(other, 4);
}

static void texts_for_proc(void **state)
{
    char buf[8192], name[16], small[40];
    unsigned node, z = 0;
    size_t n;

    (void)state;
    map_start(64 * MIB);
    map_add(MIB, 63 * MIB, 0);
    boot(1, 2, NULL, NULL);
    get(0);
    n = quire_buddyinfo(buf, sizeof buf);
    assert_int_equal(n, strlen(buf));
    for (char *line = strtok(buf, "\n"); line; line = strtok(NULL, "\n"), z++) {
        int at;

        assert_int_equal(sscanf(line, "Node %u, zone %15s%n", &node, name, &at), 2);
        assert_string_equal(name, zone_stats(z).name);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            unsigned long count;
            int more;

            assert_int_equal(sscanf(line + at, "%lu%n", &count, &more), 1);
            assert_int_equal(count, zone_stats(z).free_blocks[o]);
            at += more;
        }
    }
    assert_int_equal(z, 2);
    assert_int_equal(quire_buddyinfo(small, sizeof small), n);
    assert_int_equal(strlen(small), sizeof small - 1);
    assert_int_equal(quire_buddyinfo(NULL, 0), n);

    n = quire_zoneinfo(buf, sizeof buf);
    assert_int_equal(n, strlen(buf));
    assert_non_null(strstr(buf, "Node 0, zone    DMA32\n  pages free     "));
    assert_non_null(strstr(buf, "\n        protection: ("));
    assert_int_equal(strtoul(strstr(buf, "managed  ") + 9, NULL, 10), zone_stats(0).managed);
}

/* Zones that begin above the frame that is asked for, and two that share its pageblock. */
static void frames_belong_to_one_zone(void **state)
{
    const uint64_t border = 25 * MIB / 4096 + 5;
    struct quire_block_info b;

    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 9 * MIB + 4096 * 5, 0);
    map_add(25 * MIB + 4096 * 5, 10 * MIB, 1);
    boot(2, 1, NULL, NULL);
    for (uint64_t pfn = border - 20; pfn < border + 20; pfn++) {
        assert_true(quire_pfn_valid(Q_PFN(pfn)));
        assert_int_equal(quire_page_node(quire_page_of_pfn(Q_PFN(pfn))), pfn >= border);
        assert_true(quire_page_flags(Q_PFN(pfn)) & (QUIRE_PG_FREE | QUIRE_PG_RESERVED));
    }
    assert_false(quire_pfn_valid(Q_PFN(16 * MIB / 4096 - 1)));
    assert_int_equal(quire_block_info(border / 512, &b), QUIRE_OK);
    assert_int_equal(b.absent, 0);
    assert_int_equal(b.node, 0); /* of its first frame */
    assert_int_equal(quire_block_info(0, &b), QUIRE_OK);
    assert_int_equal(b.absent, 512);
    assert_true(quire_zoneinfo(NULL, 0) > 500);
}

/* What the user of a block keeps in its head's index leads nowhere; what a tail says is believed only as
 * far as a block can reach. */
static void only_tails_lead_to_heads(void **state)
{
    struct quire_page *before, *p;
    struct quire_block_info b;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    before = get(5);
    p = get(5);
    assert_ptr_equal(p, before + 32);
    quire_page_free(before, 5);
    p->index = 32; /* as of a page in an object; 32 frames down is something free */
    p->flags |= QUIRE_PG_OBJECT;
    assert_int_equal(quire_page_flags(quire_pfn_of_page(p)) & 0xffff,
                     QUIRE_PG_HEAD | QUIRE_PG_OBJECT);
    assert_int_equal(quire_page_flags(quire_pfn_of_page(p + 31)) & 0xffff, QUIRE_PG_TAIL);
    assert_int_equal(quire_block_info(quire_pfn_of_page(p).v / 512, &b), QUIRE_OK);
    assert_int_equal(b.file, 32);
    /* a tail that is just becoming something else */
    p[31].index = UINT32_MAX;
    assert_int_equal(quire_page_flags(quire_pfn_of_page(p + 31)) & 0xffff, QUIRE_PG_TAIL);
    assert_int_equal(quire_block_info(quire_pfn_of_page(p).v / 512, &b), QUIRE_OK);
    assert_int_equal(b.file + b.other, 32);
    p[31].index = 31;
    quire_page_free(p, 5);
    healthy();
}

/* Half of a block that was one allocation goes out again; the rest, whose pages still have the form of
 * the whole, is free, and says so. */
static void the_rest_of_a_block_is_free(void **state)
{
    struct quire_block_info b;
    struct quire_page *p, *half;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    p = get(10);
    quire_page_free(p, 10);
    half = get(9);
    while (half != p) /* other whole blocks go first */
        half = get(9);
    for (unsigned f = 512; f < 1024; f += 73)
        assert_int_equal(quire_page_flags(quire_pfn_of_page(p + f)) & 0xffffu, QUIRE_PG_FREE);
    assert_int_equal(quire_block_info(quire_pfn_of_page(p).v / 512 + 1, &b), QUIRE_OK);
    assert_int_equal(b.free, 512);
    quire_page_free(half, 9);
    assert_int_equal(quire_frame_poison(quire_pfn_of_page(p + 700)), QUIRE_OK);
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pageblocks_add_up),           cmocka_unit_test(texts_for_proc),
        cmocka_unit_test(frames_belong_to_one_zone),   cmocka_unit_test(only_tails_lead_to_heads),
        cmocka_unit_test(the_rest_of_a_block_is_free),
    };

    test_seed("frame_report_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
