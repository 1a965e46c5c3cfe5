/*
 * frame_model_test.c - the memory map in each memory model: frame to page and back over holes, shared
 * pageblocks and nodes that alternate; what is backed; the limits.  Built once for each model.
 */
#include <frame_machine.h>

#include <frame/zone.h>

/* Two nodes whose memory alternates, small holes, and a pageblock in which two nodes and both sides of
 * the border between DMA and DMA32 meet. */
static void uneven_machine(void)
{
    map_start(512 * MIB);
    map_add(MIB, 15 * MIB + 300 * 4096, 0);
    map_add(16 * MIB + 300 * 4096, 47 * MIB, 1);
    map_add(64 * MIB + 8192, 64 * MIB - 8192, 0);
    map_add(256 * MIB, 33 * MIB + 4096, 1);
    map_add(290 * MIB + 4096, 100 * MIB, 0);
    boot(2, 1, NULL, NULL);
}

static bool usable(uint64_t pfn, unsigned *node)
{
    for (uint32_t i = 0; i < map.n; i++)
        if (map.ranges[i].kind == QUIRE_MEM_USABLE && pfn >= map.ranges[i].base.v / 4096 &&
            pfn < (map.ranges[i].base.v + map.ranges[i].len) / 4096) {
            *node = map.ranges[i].node;
            return true;
        }
    return false;
}

/* Every frame leads to a page of its own, which leads back, before anything was ever used; the page
 * tells its node and zone.
 * proves: LX-68 LX-11 */
static void frame_and_page_are_inverse(void **state)
{
    uint64_t n = 0;

    (void)state;
    uneven_machine();
    for (uint64_t pfn = 1; pfn < 512 * MIB / 4096; pfn++) {
        struct quire_page *p;
        unsigned node;

        if (!usable(pfn, &node))
            continue;
        n++;
        assert_true(quire_pfn_valid(Q_PFN(pfn)));
        p = quire_page_of_pfn(Q_PFN(pfn));
        assert_int_equal(quire_pfn_of_page(p).v, pfn);
        if (pfn % 512 && usable(pfn - 1, &node)) /* one array inside a block, 32 bytes each */
            assert_ptr_equal(p - 1, quire_page_of_pfn(Q_PFN(pfn - 1)));
    }
    assert_int_equal(n, quire_memmap_usable(&map) / 4096);
    /* all of it is handed out, each page is of the node and zone of its frame */
    n = exhaust(0, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE);
    assert_int_equal(n, quire_managed_pages());
    for (uint64_t i = 0; i < n; i++) {
        uint64_t pfn = quire_pfn_of_page(held[i]).v;
        unsigned node = 99;

        assert_true(usable(pfn, &node));
        assert_int_equal(quire_page_node(held[i]), node);
        assert_int_equal(quire_page_zone(held[i]),
                         pfn < 16 * MIB / 4096 ? QUIRE_ZONE_DMA : QUIRE_ZONE_DMA32);
        assert_ptr_equal(quire_page_of_pfn(Q_PFN(pfn)), held[i]);
        assert_ptr_equal(quire_page_of_ptr(quire_page_ptr(held[i])), held[i]);
    }
    give_back(n, 0);
    healthy();
}

/* Blocks of the largest order that lie side by side, wherever their pages are, split and merge. */
static void largest_blocks_stay_in_one_array(void **state)
{
    size_t n;

    (void)state;
    uneven_machine();
    n = exhaust(QUIRE_MAX_ORDER, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE);
    assert_in_range(n, 10, 100);
    for (size_t i = 0; i < n; i++) {
        uint64_t pfn = quire_pfn_of_page(held[i]).v;

        for (unsigned f = 0; f < 1u << QUIRE_MAX_ORDER; f++) {
            assert_ptr_equal(quire_page_of_pfn(Q_PFN(pfn + f)), held[i] + f);
            assert_int_equal(quire_pfn_of_page(held[i] + f).v, pfn + f);
            assert_ptr_equal(quire_page_head(held[i] + f), held[i]);
        }
        quire_page_split(held[i]);
        for (unsigned f = 1 << QUIRE_MAX_ORDER; f-- > 0;)
            quire_page_free(held[i] + f, 0);
    }
    healthy();
    assert_int_equal(exhaust(QUIRE_MAX_ORDER, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE), n);
    give_back(n, QUIRE_MAX_ORDER);
}

/* Until the allocator has taken over the map says of no frame that it may be looked at, nor after it could
 * not; and nothing is handed out.
 * proves: LX-69 */
static void no_map_before_the_hand_over(void **state)
{
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 1};
    uint64_t kept = 0;

    (void)state;
    map_start(64 * MIB);
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID); /* no memory: the last machine is gone */
    map_add(16 * MIB, 48 * MIB, 1);
    assert_int_equal(quire_frame_init(&b), QUIRE_INVALID); /* of a node that there is not */
    for (int i = 0; i < 2; i++) {
        q_pa pa;

        for (uint64_t pfn = 0; pfn < 64 * MIB / 4096; pfn++) {
            assert_false(quire_pfn_valid(Q_PFN(pfn)));
            assert_int_equal(quire_page_flags(Q_PFN(pfn)), QUIRE_PG_RESERVED);
        }
        assert_int_equal(quire_free_pages(), 0);
        /* the boot map is what hands out memory so far */
        assert_int_equal(quire_memmap_alloc(&map, MIB, 4096, 0, 0, "early", &pa), QUIRE_OK);
    }
    b.nodes = 2;
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    for (uint64_t pfn = 16 * MIB / 4096; pfn < 64 * MIB / 4096; pfn++) {
        bool early = quire_memmap_owner(&map, Q_PA(pfn * 4096)) != NULL;

        kept += early;
        assert_true(quire_pfn_valid(Q_PFN(pfn)));
        assert_int_equal(quire_page_flags(Q_PFN(pfn)) & 0xffffu,
                         early ? QUIRE_PG_RESERVED : QUIRE_PG_FREE);
    }
    assert_true(kept >= 2 * MIB / 4096);
    assert_int_equal(quire_free_pages() + kept, 48 * MIB / 4096);
    assert_int_equal(quire_managed_pages(), quire_free_pages());
}

/* What the pages of added memory take: in the sparse models the arrays of the two sections that had none. */
#define ARRAYS \
    (QUIRE_MEMORY_MODEL >= QUIRE_MODEL_SPARSE ? 2 * (1u << QUIRE_SECTION_ORDER) / 128 : 0)

/* Memory that comes later has pages as well, and they are gone with it: what is free is what was. */
static void memory_that_comes_later(void **state)
{
    uint64_t free, first = 96 * MIB / 4096, n;

    (void)state;
    map_start(256 * MIB);
    map_add(16 * MIB, 74 * MIB, 0);
    assert_int_equal(quire_memmap_add(&map, Q_PA(90 * MIB), 102 * MIB, QUIRE_MEM_HOTPLUG),
                     QUIRE_OK);
    boot(1, 1, NULL, NULL);
    free = quire_free_pages();
    for (int round = 0; round < 3; round++) {
        assert_int_equal(quire_memory_add(Q_PA(90 * MIB), 6 * MIB, 0), QUIRE_OK);
        assert_int_equal(quire_memory_add(Q_PA(96 * MIB), 64 * MIB, 0), QUIRE_OK);
        for (uint64_t pfn = 90 * MIB / 4096; pfn < first + 64 * MIB / 4096; pfn++) {
            assert_true(quire_pfn_valid(Q_PFN(pfn)));
            assert_int_equal(quire_pfn_of_page(quire_page_of_pfn(Q_PFN(pfn))).v, pfn);
            assert_int_equal(quire_page_flags(Q_PFN(pfn)) & 0xffffu, QUIRE_PG_FREE);
        }
        n = quire_page_alloc_bulk(QI_COUNT(held), held, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE,
                                  ANY);
        assert_int_equal(n, free + 70 * MIB / 4096 - ARRAYS);
        give_back(n, 0);
        quire_frame_drain();
        healthy();
        assert_int_equal(quire_memory_remove(Q_PA(96 * MIB), 64 * MIB), QUIRE_OK);
        assert_int_equal(quire_memory_remove(Q_PA(90 * MIB), 6 * MIB), QUIRE_OK);
        assert_false(quire_pfn_valid(Q_PFN(first)));
        assert_int_equal(quire_free_pages(), free);
        healthy();
    }
}

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP

/* proves: LX-66 */
static void the_array_is_virtual(void **state)
{
    (void)state;
    uneven_machine();
    for (uint64_t pfn = 256; pfn < 390 * MIB / 4096; pfn += 97)
        assert_int_equal((uintptr_t)quire_page_of_pfn(Q_PFN(pfn)), QPORT_VMEMMAP_BASE + 32 * pfn);
    /* the port was asked for what exists, and not for the hole from 128 to 256 MiB */
    assert_true(hosted_populated(1) && hosted_populated(300 * MIB / 4096));
    for (uint64_t pfn = 128 * MIB / 4096; pfn < 256 * MIB / 4096; pfn++)
        assert_false(hosted_populated(pfn));
}
#define MODEL_TEST cmocka_unit_test(the_array_is_virtual)

#elif QUIRE_MEMORY_MODEL == QUIRE_MODEL_FLAT

/* One array for everything, indexed from the first frame: there is none for what lies below.
 * proves: LX-61 */
static void one_array_from_the_first_frame(void **state)
{
    uint64_t first = 128 * MIB / 4096, frames = 128 * MIB / 4096, kept = 0;
    uintptr_t at;

    (void)state;
    map_start(256 * MIB);
    map_add(128 * MIB, 32 * MIB, 0);
    map_add(192 * MIB, 64 * MIB, 0);
    boot(1, 1, NULL, NULL);
    at = (uintptr_t)quire_page_of_pfn(Q_PFN(first));
    for (uint64_t pfn = first; pfn < first + frames; pfn++)
        assert_int_equal((uintptr_t)quire_page_of_pfn(Q_PFN(pfn)), at + 32 * (pfn - first));
    /* it lies in reserved memory of the map, all of it, and nothing for the 128 MiB below */
    for (uint32_t i = 0; i < map.nreserved; i++)
        if (!strcmp(map.reserved[i].owner, "struct pages")) {
            assert_int_equal((uintptr_t)quire_ptr_of_pa(map.reserved[i].base), at);
            kept += map.reserved[i].len;
        }
    assert_int_equal(kept, 32 * frames);
}
#define MODEL_TEST cmocka_unit_test(one_array_from_the_first_frame)

#elif QUIRE_MEMORY_MODEL == QUIRE_MODEL_NODES

/* Each node's array, free memory and counts are its own, and lie in its memory.
 * proves: LX-62 */
static void each_node_has_its_own(void **state)
{
    struct quire_zone_stats s;
    uint64_t arrays[2] = {0}, free[2] = {0};

    (void)state;
    map_start(256 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    map_add(128 * MIB, 128 * MIB, 1);
    boot(2, 1, NULL, NULL);
    for (uint64_t pfn = 16 * MIB / 4096; pfn < 256 * MIB / 4096; pfn++) {
        unsigned node, where;
        uint64_t at;

        if (!usable(pfn, &node))
            continue;
        at = (uintptr_t)quire_page_of_pfn(Q_PFN(pfn)) - QPORT_DIRECT_BASE;
        assert_true(usable(at / 4096, &where));
        assert_int_equal(where, node);
        assert_int_equal(
            at - ((uintptr_t)quire_page_of_pfn(Q_PFN(node ? 32768 : 4096)) - QPORT_DIRECT_BASE),
            32 * (pfn - (node ? 32768 : 4096)));
        arrays[node]++;
    }
    assert_int_equal(arrays[0], 64 * MIB / 4096);
    assert_int_equal(arrays[1], 128 * MIB / 4096);
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        free[s.node] += s.free;
    for (unsigned node = 0; node < 2; node++) {
        struct quire_page *p = quire_page_alloc(9, QUIRE_GFP_THISNODE, node);
        uint64_t now[2] = {0};

        assert_int_equal(quire_page_node(p), node);
        for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
            now[s.node] += s.free;
        assert_int_equal(now[node], free[node] - 512);
        assert_int_equal(now[!node], free[!node]);
        quire_page_free(p, 9);
    }
}
#define MODEL_TEST cmocka_unit_test(each_node_has_its_own)

#else

#define SECTION (1ull << QUIRE_SECTION_ORDER)

/* Sections with memory have an array, holes have none, whatever their size: the same memory costs the
 * same with a hole of 8 GiB in it as without.  The high bits of the frame number find the section;
 * a number in the page says which run of them, and which zone, it is of.
 * proves: LX-63 LX-65 */
static void holes_cost_nothing(void **state)
{
    uint64_t free[2];

    (void)state;
    for (int hole = 0; hole < 2; hole++) {
        uint64_t second = hole ? 8 * GIB : 4 * GIB + 64 * MIB, kept = 0;

        map_start(8 * GIB + 64 * MIB);
        map_add(4 * GIB, 64 * MIB, 0);
        map_add(second, 64 * MIB, 0);
        boot(1, 1, NULL, NULL);
        free[hole] = quire_free_pages();
        for (uint32_t i = 0; i < map.nreserved; i++)
            if (!strcmp(map.reserved[i].owner, "struct pages"))
                kept += map.reserved[i].len;
        assert_int_equal(kept, 128 * MIB / 4096 * 32);
        for (uint64_t pfn = second / 4096; pfn < (second + 64 * MIB) / 4096; pfn += 31) {
            const struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));
            const struct quire_page *first = quire_page_of_pfn(Q_PFN(pfn / SECTION * SECTION));

            assert_ptr_equal(p, first + pfn % SECTION);
            assert_int_equal(p->flags >> QUIRE_PG_ZONE_SHIFT, first->flags >> QUIRE_PG_ZONE_SHIFT);
            assert_int_equal(quire_page_place(p)->map, quire_map_of(pfn));
        }
        /* across the hole, another number */
        assert_int_equal(quire_page_of_pfn(Q_PFN(second / 4096))->flags >> QUIRE_PG_ZONE_SHIFT !=
                             quire_page_of_pfn(Q_PFN(4 * GIB / 4096))->flags >> QUIRE_PG_ZONE_SHIFT,
                         hole);
    }
    /* less what descriptors of blocks in the hole take (and, of SPARSE_EXTREME, a page of table) */
    assert_in_range(free[0] - free[1], 0, (4 * GIB / (2 * MIB) * 80 / 4096) + 2);
}

/* More than the numbers in a page, or the table, can name is said at boot, and nothing is left behind. */
static void limits_are_checked(void **state)
{
    static struct quire_mem_range many[4400];
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 1};

    (void)state;
    map_start(GIB);
    map_add(16 * MIB, 64 * MIB, 0);
    map_add(1ull << QUIRE_SPARSE_BITS, 64 * MIB, 0);
    assert_int_equal(quire_frame_init(&b), QUIRE_LIMIT);
    assert_non_null(strstr(hosted_log_last(), "table of sections ends"));
    assert_int_equal(quire_managed_pages(), 0);

    map_start(80 * GIB);
    quire_memmap_init(&map, many, QI_COUNT(many), reserved, CAP);
    for (uint64_t i = 1; i <= 2100; i++) /* each a section to itself */
        map_add(i * 34 * MIB, 2 * MIB, 0);
    map_add(72 * GIB, 128 * MIB, 0); /* where the arrays have room */
    assert_int_equal(quire_frame_init(&b), QUIRE_LIMIT);
    assert_non_null(strstr(hosted_log_last(), "more than 2047 places"));
    assert_int_equal(quire_managed_pages(), 0);
    assert_false(quire_pfn_valid(Q_PFN(256)));
    machine(16 * MIB, 64 * MIB);
    exhaust_every_order();
}

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_SPARSE_EXTREME
/* Second levels of the table are there for sections that are there, and for no others.
 * proves: LX-64 */
static void the_second_level_comes_on_demand(void **state)
{
    uint64_t covered = QUIRE_ROOT_SECTIONS * SECTION; /* frames of one part of the table */
    uint64_t far = 3 * covered * 4096, kept = 0;

    (void)state;
    map_start(far + 64 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    map_add(far, 64 * MIB, 0);
    boot(1, 1, NULL, NULL);
    for (uint64_t i = 0; i < QUIRE_ROOTS; i++)
        assert_int_equal(quire_section_roots[i] != NULL, i == 0 || i == 3);
    for (uint32_t i = 0; i < map.nreserved; i++)
        if (!strcmp(map.reserved[i].owner, "table of sections"))
            kept += map.reserved[i].len;
    assert_int_equal(kept, 2 * 4096);
    assert_int_equal(quire_pfn_of_page(quire_page_of_pfn(Q_PFN(far / 4096 + 5))).v, far / 4096 + 5);
    healthy();
}
#define MODEL_TEST cmocka_unit_test(the_second_level_comes_on_demand)
#endif

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_and_page_are_inverse),
        cmocka_unit_test(largest_blocks_stay_in_one_array),
        cmocka_unit_test(no_map_before_the_hand_over),
        cmocka_unit_test(memory_that_comes_later),
#ifdef MODEL_TEST
        MODEL_TEST,
#endif
#if QUIRE_MEMORY_MODEL >= QUIRE_MODEL_SPARSE
        cmocka_unit_test(holes_cost_nothing),
        cmocka_unit_test(limits_are_checked),
#endif
    };

    test_seed("frame_model_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
