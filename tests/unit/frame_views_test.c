/*
 * frame_views_test.c - the texts and words that programs read about memory: each is compared with a count made
 * here, frame by frame or from the books of what was allocated.
 */
#include <frame_machine.h>

static char text[1 << 16];

/* Two nodes, the second in two zones; some of each kind of use. */
static void mixed_machine(void)
{
    static const uint32_t kinds[] = {QUIRE_PG_SLAB, QUIRE_PG_TABLE, QUIRE_PG_KVA, QUIRE_PG_ANON,
                                     QUIRE_PG_OBJECT};
    static const uint8_t cpu_node[] = {0, 1};

    map_start(256 * MIB);
    map_add(MIB, 31 * MIB, 1);
    map_add(64 * MIB, 64 * MIB, 0);
    boot(2, 2, cpu_node, NULL);
    for (unsigned i = 0; i < 200; i++) {
        quire_gfp gfp = i % 3 == 0   ? QUIRE_GFP_MOVABLE
                        : i % 3 == 1 ? QUIRE_GFP_RECLAIMABLE
                                     : QUIRE_GFP_KERNEL;

        held[i] = quire_page_alloc(i % 9, gfp, i & 1);
        assert_non_null(held[i]);
        held[i]->flags |= kinds[i % 5];
    }
    for (unsigned i = 0; i < 200; i += 2)
        quire_page_free(held[i], i % 9);
}

/* Calls of a view with too little room write what fits, and say how much there is. */
static void texts_say_their_length(void **state)
{
    static size_t (*const views[])(char *, size_t) = {quire_buddyinfo,        quire_pagetypeinfo,
                                                      quire_extfrag_unusable, quire_extfrag_index,
                                                      quire_zoneinfo,         quire_blockinfo};
    char small[64];

    (void)state;
    mixed_machine();
    for (unsigned i = 0; i < sizeof views / sizeof views[0]; i++) {
        size_t n = views[i](text, sizeof text);

        assert_true(n > 100 && n < sizeof text);
        assert_int_equal(strlen(text), n);
        assert_int_equal(views[i](small, sizeof small), n);
        assert_int_equal(strlen(small), sizeof small - 1);
        assert_memory_equal(small, text, sizeof small - 1);
        assert_int_equal(views[i](NULL, 0), n);
    }
}

static unsigned long number_after(const char *from, const char *name)
{
    const char *at = strstr(from, name);

    if (!at)
        fail_msg("no %s in %s", name, from);
    return strtoul(at + strlen(name), NULL, 10);
}

/* Free blocks by type add up to those of the zone, blocks by type to the pageblocks it has frames in. */
static void pagetypeinfo_adds_up(void **state)
{
    struct quire_zone_types y;
    struct quire_block_info b;
    uint64_t blocks = 0, present = 0;
    unsigned z = 0;

    (void)state;
    mixed_machine();
    for (; quire_zone_types(z, &y) == QUIRE_OK; z++) {
        struct quire_zone_stats s = zone_stats(z);
        uint64_t frames = 0;

        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            uint64_t sum = 0;

            for (unsigned t = 0; t < QUIRE_MIGRATE_TYPES; t++) {
                sum += y.free_blocks[t][o];
                frames += y.free_blocks[t][o] << o;
            }
            assert_int_equal(sum, s.free_blocks[o]);
        }
        assert_int_equal(frames, s.free);
        for (unsigned t = 0; t < QUIRE_MIGRATE_TYPES; t++)
            blocks += y.blocks[t];
    }
    assert_int_equal(z, 3);
    assert_int_equal(quire_zone_types(z, &y), QUIRE_NOT_FOUND);
    for (uint64_t n = 0; quire_block_info(n, &b) == QUIRE_OK; n++)
        present += b.absent < 512;
    assert_int_equal(blocks, present); /* zones begin and end at pageblocks here */
    /* the text has the same numbers: of each zone's lines the column of order 0, and of the last table */
    quire_pagetypeinfo(text, sizeof text);
    assert_non_null(strstr(text, "Page block order: 9\nPages per block:  512\n"));
    quire_zone_types(2, &y);
    assert_int_equal(number_after(text, "Node    1, zone    DMA32, type      Movable "),
                     y.free_blocks[QUIRE_MOVABLE][0]);
    assert_int_equal(number_after(strstr(text, "Number of blocks"), "Node 1, zone    DMA32 "),
                     y.blocks[QUIRE_UNMOVABLE]);
}

/* From the definition: the part of free memory that lies in blocks too small; frame by frame. */
static void unusable_space_is_counted(void **state)
{
    struct quire_zone_stats s;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    for (unsigned i = 0; i < 4096; i++)
        held[i] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY);
    quire_frame_drain();
    s = zone_stats(0);
    if (!s.free) {
        assert_int_equal(quire_unusable_permille(&s, 0), 1000);
        assert_int_equal(quire_fragmentation_permille(&s, 0), 0); /* no memory, not in pieces */
    }
    /* one frame of each four, and one whole quarter of the memory */
    for (unsigned i = 0; i < 4096 && held[i]; i++)
        if (quire_pfn_of_page(held[i]).v % 4 == 0 || quire_pfn_of_page(held[i]).v < 5 * 1024)
            quire_page_free(held[i], 0);
    quire_frame_drain();
    s = zone_stats(0);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        uint64_t bad = 0;

        for (unsigned k = 0; k < o; k++)
            bad += s.free_blocks[k] << k;
        assert_int_equal(quire_unusable_permille(&s, o), bad * 1000 / s.free);
    }
    assert_int_equal(quire_unusable_permille(&s, 0), 0);
    assert_in_range(quire_unusable_permille(&s, 1), 400, 500); /* 768 of some 1750 */
    assert_int_equal(quire_fragmentation_permille(&s, 3), -1000);
}

/* Every second frame free: nothing but single frames, so a larger request fails by fragmentation alone;
 * few of them: for lack of memory. */
static void fragmentation_index_tells_why(void **state)
{
    struct quire_zone_stats s;
    size_t n;
    int many, few;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    n = exhaust(0, QUIRE_GFP_MEMALLOC);
    for (size_t i = 0; i < n; i++)
        if (quire_pfn_of_page(held[i]).v % 2)
            quire_page_free(held[i], 0);
    quire_frame_drain();
    s = zone_stats(0);
    many = quire_fragmentation_permille(&s, 9);
    assert_in_range(many, 990, 1000);
    assert_int_equal(quire_fragmentation_permille(&s, 0), -1000);
    /* the index is that of the definition: 1 - (1 + free / requested) / blocks */
    for (unsigned o = 1; o <= QUIRE_MAX_ORDER; o++) {
        double want = 1000 - 1000 * (1 + (double)s.free / (double)(1u << o)) / (double)s.free;

        assert_true(quire_fragmentation_permille(&s, o) - want < 2 &&
                    want - quire_fragmentation_permille(&s, o) < 2);
    }
    for (size_t i = 0; i < n; i++)
        if (!(quire_pfn_of_page(held[i]).v % 2)) {
            quire_page_free(held[i], 0);
            break;
        }
    quire_frame_drain();
    assert_true(exhaust(0, QUIRE_GFP_MEMALLOC) > 1000);
    quire_page_free(held[0], 0);
    quire_page_free(held[7], 0);
    quire_frame_drain();
    s = zone_stats(0);
    few = quire_fragmentation_permille(&s, 9);
    assert_true(few < many && few < 600);
    quire_extfrag_index(text, sizeof text);
    assert_int_equal(strncmp(text, "Node 0, zone    DMA32 -1.000 ", 29), 0);
}

static void zoneinfo_is_complete(void **state)
{
    static const char *const words[] = {
        "\n  pages free     ",        "\n        boost    ",     "\n        min      ",
        "\n        low      ",        "\n        high     ",     "\n        spanned  ",
        "\n        present  ",        "\n        managed  ",     "\n        cma      ",
        "\n        protection: (",    "\n      nr_free_pages ",  "\n      nr_free_cma  ",
        "\n  pagesets\n    cpu: 0\n", "\n              count: ", "\n              high:  ",
        "\n              batch: ",    "\n    cpu: 1\n",          "\n  start_pfn:           "};
    char *at;

    (void)state;
    mixed_machine();
    quire_zoneinfo(text, sizeof text);
    at = text;
    for (unsigned z = 0; z < 3; z++) {
        struct quire_zone_stats s = zone_stats(z);
        char head[40], *next;

        snprintf(head, sizeof head, "Node %u, zone %8s\n", s.node, s.name);
        assert_memory_equal(at, head, strlen(head));
        next = strstr(at + 1, "\nNode ");
        if (next)
            *next = 0;
        for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
            if (!strstr(at, words[i]))
                fail_msg("no '%s' in %s", words[i], at);
        assert_int_equal(number_after(at, "pages free "), s.free);
        assert_int_equal(number_after(at, " low "), s.wmark_low);
        assert_int_equal(number_after(at, "spanned "), s.end.v - s.start.v);
        assert_int_equal(number_after(at, "present "), s.present);
        assert_int_equal(number_after(at, "managed "), s.managed);
        assert_int_equal(number_after(at, "start_pfn: "), s.start.v);
        /* the node's own numbers come with its first zone */
        assert_int_equal(!!strstr(at, "\n  per-node stats\n"), z != 2);
        at = next + 1;
    }
}

/* The usage of nodes is that of their frames, and of all nodes that of the machine. */
static void usage_by_node(void **state)
{
    struct quire_usage of[2], all;
    uint64_t free[2] = {0}, slab[2] = {0}, anon[2] = {0}, present = 0;

    (void)state;
    mixed_machine();
    quire_frame_drain();
    for (unsigned n = 0; n < 2; n++)
        quire_usage(n, &of[n]);
    quire_usage(ANY, &all);
    for (unsigned z = 0; z < 3; z++)
        present += zone_stats(z).present;
    for (unsigned i = 1; i < 200; i += 2) {
        unsigned node = quire_page_node(held[i]);

        slab[node] += (uint64_t)(i % 5 == 0) << i % 9;
        anon[node] += (uint64_t)(i % 5 == 3) << i % 9;
    }
    for (uint64_t pfn = 0; pfn < 256 * MIB / 4096; pfn++)
        if (quire_pfn_valid(Q_PFN(pfn)) && quire_page_flags(Q_PFN(pfn)) & QUIRE_PG_FREE)
            free[quire_flags_node(quire_page_flags(Q_PFN(pfn)))]++;
    for (unsigned n = 0; n < 2; n++) {
        assert_int_equal(of[n].free, free[n]);
        assert_int_equal(of[n].cached, 0);
        assert_int_equal(of[n].slab, slab[n]);
        assert_int_equal(of[n].anon, anon[n]);
    }
    assert_int_equal(of[0].free + of[1].free, all.free);
    assert_int_equal(of[0].reserved + of[1].reserved, all.reserved);
    assert_int_equal(all.free, quire_free_pages());
    assert_int_equal(all.free + all.cached + all.reserved + all.slab + all.table + all.kva +
                         all.anon + all.file + all.huge + all.other + all.poisoned,
                     present);
}

/* The dump names each pageblock that has memory once, with the numbers of quire_block_info(). */
static void dump_has_every_block(void **state)
{
    struct quire_block_info b;
    uint64_t covered = 0, wanted = 0;

    (void)state;
    mixed_machine();
    quire_blockinfo(text, sizeof text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long v[17];
        int at = 5, more;

        if (strncmp(line, "block ", 6))
            continue;
        for (unsigned i = 0; i < 17; i++, at += more)
            assert_int_equal(sscanf(line + at, "%lu%n", &v[i], &more), 1);
        assert_int_equal(line[at], 0);
        for (uint64_t n = v[0]; n < v[0] + v[1]; n++, covered++) {
            assert_int_equal(quire_block_info(n, &b), QUIRE_OK);
            assert_int_equal(v[2], b.node);
            assert_int_equal(v[3], b.zone);
            assert_int_equal(v[4], b.type);
            assert_int_equal(v[5], b.free);
            assert_int_equal(v[8], b.slab);
            assert_int_equal(v[11], b.anon);
            assert_int_equal(v[15], b.absent);
        }
    }
    for (uint64_t n = 0; quire_block_info(n, &b) == QUIRE_OK; n++)
        wanted += b.absent < 512;
    assert_int_equal(covered, wanted);
}

/* Pageblocks that are wholly free, or holes, are told without a look at a struct page: those of memory that
 * was never used hold nothing that could be right. */
static void free_blocks_are_not_walked(void **state)
{
    struct quire_block_info b;

    (void)state;
    map_start(256 * MIB);
    map_add(16 * MIB, 32 * MIB, 0);
    map_add(128 * MIB, 32 * MIB, 0);
    boot(1, 1, NULL, NULL);
    memset(quire_page_of_pfn(Q_PFN(20 * MIB / 4096)), 0xff, 512 * sizeof(struct quire_page));
    assert_int_equal(quire_block_info(10, &b), QUIRE_OK);
    assert_int_equal(b.free, 512);
    assert_int_equal(quire_block_info(40, &b), QUIRE_OK);
    assert_int_equal(b.absent, 512);
    memset(quire_page_of_pfn(Q_PFN(20 * MIB / 4096)), 0, 512 * sizeof(struct quire_page));
    healthy();
}

#define KPF(n) (1ull << (n))

/* The numbers are those of Linux, include/uapi/linux/kernel-page-flags.h. */
/* proves: LX-50 */
static void kpageflags_by_state(void **state)
{
    static const struct {
        uint32_t ours;
        uint64_t theirs;
    } rows[] = {{QUIRE_PG_LOCKED, KPF(0)},
                {QUIRE_PG_REF, KPF(2)},
                {QUIRE_PG_UPTODATE, KPF(3)},
                {QUIRE_PG_DIRTY, KPF(4)},
                {QUIRE_PG_LRU, KPF(5)},
                {QUIRE_PG_ACTIVE, KPF(6)},
                {QUIRE_PG_SLAB, KPF(7)},
                {QUIRE_PG_ANON, KPF(12) | KPF(14)},
                {QUIRE_PG_TABLE, KPF(26)},
                {QUIRE_PG_KVA, 0},
                {QUIRE_PG_OBJECT | QUIRE_PG_REF, KPF(2)}};
    struct quire_page *p, *block, *huge;
    uint64_t pfn;

    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB + 4096, 32 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(18 * MIB), 4096, "kernel", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    assert_int_equal(quire_kpageflags(Q_PFN(1)), KPF(20)); /* NOPAGE */
    assert_int_equal(quire_kpageflags(Q_PFN(16 * MIB / 4096)),
                     KPF(20)); /* in a pageblock that we have */
    assert_int_equal(quire_kpageflags(Q_PFN(UINT64_MAX)), KPF(20));
    assert_int_equal(quire_kpageflags(Q_PFN(18 * MIB / 4096)), KPF(32)); /* RESERVED */
    assert_int_equal(quire_kpageflags(Q_PFN(30 * MIB / 4096)), KPF(10)); /* BUDDY */
    p = get(0);
    assert_int_equal(quire_kpageflags(quire_pfn_of_page(p)), 0);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        p->flags |= rows[i].ours;
        assert_int_equal(quire_kpageflags(quire_pfn_of_page(p)), rows[i].theirs);
        p->flags &= ~rows[i].ours;
    }
    block = get(3);
    block->flags |= QUIRE_PG_SLAB;
    pfn = quire_pfn_of_page(block).v;
    assert_int_equal(quire_kpageflags(Q_PFN(pfn)), KPF(7) | KPF(15));
    for (unsigned i = 1; i < 8; i++)
        assert_int_equal(quire_kpageflags(Q_PFN(pfn + i)), KPF(7) | KPF(16));
    huge = get(9);
    huge->flags |= QUIRE_PG_ANON;
    huge->maps = 1;
    assert_int_equal(quire_kpageflags(Q_PFN(quire_pfn_of_page(huge).v + 77)),
                     KPF(11) | KPF(12) | KPF(14) | KPF(16) | KPF(22));
    huge->maps = 0;
    assert_int_equal(quire_frame_poison(Q_PFN(40 * MIB / 4096)), QUIRE_OK);
    assert_int_equal(quire_kpageflags(Q_PFN(40 * MIB / 4096)), KPF(19) | KPF(32));
    quire_frame_drain();
    for (pfn = 16 * MIB / 4096; quire_frame_offline(Q_PFN(pfn), 512) != QUIRE_OK; pfn += 512)
        ; /* one that nobody uses */
    assert_int_equal(quire_kpageflags(Q_PFN(pfn + 5)), KPF(23) | KPF(32));
    quire_page_free(p, 0);
    assert_int_equal(quire_kpageflags(quire_pfn_of_page(p)), KPF(10)); /* in a CPU's list */
}

/* proves: LX-49 */
static void kpagecount_counts_mappings(void **state)
{
    struct quire_page *p, *huge;

    (void)state;
    machine(16 * MIB, 32 * MIB);
    p = get(0);
    huge = get(9);
    for (uint32_t n = 0; n < 5; n++) {
        p->maps = huge->maps = n;
        p->refs = huge->refs = n + 2; /* holders that do not map it do not count */
        assert_int_equal(quire_kpagecount(quire_pfn_of_page(p)), n);
        assert_int_equal(quire_kpagecount(Q_PFN(quire_pfn_of_page(huge).v + 300)), n);
    }
    p->maps = huge->maps = 0;
    p->refs = huge->refs = 1;
    quire_page_free(p, 0);
    assert_int_equal(quire_kpagecount(quire_pfn_of_page(p)), 0);
    assert_int_equal(quire_kpagecount(Q_PFN(3)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_say_their_length),
        cmocka_unit_test(pagetypeinfo_adds_up),
        cmocka_unit_test(unusable_space_is_counted),
        cmocka_unit_test(fragmentation_index_tells_why),
        cmocka_unit_test(zoneinfo_is_complete),
        cmocka_unit_test(usage_by_node),
        cmocka_unit_test(dump_has_every_block),
        cmocka_unit_test(free_blocks_are_not_walked),
        cmocka_unit_test(kpageflags_by_state),
        cmocka_unit_test(kpagecount_counts_mappings),
    };

    test_seed("frame_views_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
