/*
 * kva_area_test.c - src/kva: whose ranges are whose (CPUs, nodes), short-lived maps, the purge by size and
 * time, areas as others see them, misuse, failures.
 */
#include <kva_suite.h>

/* ---- ranges of CPUs and nodes ---- */

/* What a CPU freed it gets again, with its frames; another CPU gets something else. */
/* proves: AS-22 */
static void ranges_stay_with_their_cpu(void **state)
{
    uint8_t *p[2][8];
    uint64_t frame[2];

    (void)state;
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        hosted_cpu_set(cpu);
        for (unsigned i = 0; i < 8; i++)
            assert_non_null(p[cpu][i] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
        frame[cpu] = (uintptr_t)at_kernel_address(p[cpu][0]);
    }
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        hosted_cpu_set(cpu);
        for (unsigned i = 8; i-- > 0;)
            quire_vfree(p[cpu][i]);
    }
    qi_areas_flush();
    OK(quire_kva_verify());
    for (unsigned cpu = 2; cpu-- > 0;) {
        bool found = false;

        hosted_cpu_set(cpu);
        for (unsigned i = 0; i < 8; i++) {
            uint8_t *q = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL);
            bool mine = false;

            for (unsigned k = 0; k < 8; k++)
                mine |= q == p[cpu][k];
            assert_true(mine);
            if (q == p[cpu][0]) {
                found = true;
                assert_int_equal((uintptr_t)at_kernel_address(q), frame[cpu]);
            }
        }
        assert_true(found);
    }
}

/* Frames that stay with their ranges are bounded, cleared when it is asked for, not used where any frame
 * will not do, nor once they are bad; and they go back when nobody wants them. */
static void kept_frames_are_like_others(void **state)
{
    uint64_t before = frames_left();
    uint8_t *p = quire_vmalloc(4 * PAGE, QUIRE_GFP_KERNEL), *q;
    q_pfn bad;

    (void)state;
    fill(p, 4 * PAGE, 0xee);
    quire_vfree(p);
    qi_areas_flush();
    assert_int_equal(qi_kept_pages(), 4);
    q = quire_vzalloc(4 * PAGE, QUIRE_GFP_KERNEL);
    assert_ptr_equal(p, q);
    assert_int_equal(qi_kept_pages(), 0);
    expect(q, 4 * PAGE, 0);
    quire_vfree(q);
    qi_areas_flush();
    q = quire_vmalloc(4 * PAGE, QUIRE_GFP_DMA);
    assert_ptr_equal(p, q);
    for (unsigned i = 0; i < 4; i++)
        assert_true(quire_pa_of_page(quire_kva_page(q + i * PAGE)).v < 16 * MIB);
    quire_vfree(q);
    qi_areas_flush();
    q = quire_vmalloc(4 * PAGE, QUIRE_GFP_KERNEL);
    bad = quire_pfn_of_page(quire_kva_page(q + PAGE));
    quire_vfree(q);
    qi_areas_flush();
    assert_int_equal(qi_kept_pages(), 4);
    OK(quire_frame_poison(bad));
    q = quire_vmalloc(4 * PAGE, QUIRE_GFP_KERNEL);
    assert_ptr_equal(p, q);
    for (unsigned i = 0; i < 4; i++)
        assert_int_not_equal(quire_pfn_of_page(quire_kva_page(q + i * PAGE)).v, bad.v);
    quire_vfree(q);
    qi_areas_flush();
    /* a range of theirs serves a map, which brings its own */
    {
        struct quire_page *pages[4];
        q_kva at;

        assert_int_equal(quire_page_alloc_bulk(4, pages, 0, QUIRE_NODE_ANY), 4);
        OK(quire_vmap(pages, 4, QUIRE_READ, &at));
        assert_int_equal(at.v, (uintptr_t)p);
        assert_int_equal(qi_kept_pages(), 0);
        quire_vunmap(at);
        quire_page_free_bulk(4, pages);
    }
    assert_int_equal(frames_left(), before - 1); /* the bad one */
}

/* However much one flush finds, no more frames are kept than there was room for. */
static void kept_frames_are_bounded(void **state)
{
    static const unsigned pages[] = {60, 16, 5};
    const uint64_t room = qi_kept_room();
    uint8_t *p[64];

    (void)state;
    for (unsigned s = 0; s < QI_COUNT(pages); s++) {
        unsigned n = (unsigned)(room / pages[0]);

        assert_in_range(n, 2, QI_COUNT(p));
        for (unsigned i = 0; i < n; i++)
            assert_non_null(p[i] = quire_vmalloc(pages[s] * PAGE, QUIRE_GFP_KERNEL));
        for (unsigned i = 0; i < n; i++)
            quire_vfree(p[i]);
        qi_areas_flush();
        assert_in_range(qi_kept_pages(), pages[0], room);
    }
}

static void what_nobody_wants_goes_back(void **state)
{
    static void *p[100];
    uint64_t kept;

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        p[i] = quire_vmalloc(2 * PAGE, QUIRE_GFP_KERNEL);
    for (unsigned i = 0; i < 100; i++)
        quire_vfree(p[i]);
    qi_areas_flush();
    kept = qi_kept_pages();
    assert_in_range(kept, 64, 512);
    qi_ranges_age(); /* begins to look */
    for (unsigned i = 0; i < 20; i++) {
        qi_ranges_age();
        assert_true(qi_kept_pages() <= kept);
        kept = qi_kept_pages();
    }
    assert_int_equal(kept, 0);
}

/* Each node has a part of the window, and CPUs and callers who name a node get addresses and frames of it. */
/* proves: AS-24 */
static void nodes_have_their_parts(void **state)
{
    enum { NODES = 4 };
    uint64_t part = (1ull << 40) / NODES;

    (void)state;
    hosted_fini();
    kva_machine(128 * HEAP_MIB, NODES, 1ull << 40);
    for (int round = 0; round < 3; round++)
        for (unsigned cpu = 0; cpu < HEAP_CPUS; cpu++) {
            hosted_cpu_set(cpu);
            for (unsigned node = 0; node <= NODES; node++) {
                unsigned n = node < NODES ? node : cpu % NODES;
                uint8_t *p = node < NODES ? quire_vmalloc_node(2 * PAGE, 0, node)
                                          : quire_vmalloc(2 * PAGE, 0);
                struct quire_page *page = quire_kva_page(p);

                assert_int_equal(((uintptr_t)p - AREAS) / part, n);
                assert_int_equal(quire_page_node(page), n);
                quire_vfree(p);
            }
            quire_kva_tick();
        }
    OK(quire_kva_verify());
    qi_areas_flush();
    OK(quire_kva_verify());
    /* a part that is full is helped out by the others */
    hosted_cpu_set(1);
    {
        void *p;
        struct qi_part *mine = &QI_AREAS->parts[1];
        struct qi_gap_node hog = {.start = mine->gaps.fence.prev->end,
                                  .end = mine->gaps.fence.start};

        qi_gaps_insert(&mine->gaps, &hog, &mine->gaps.fence);
        p = quire_vmalloc_aligned(8 * MIB, 2 * MIB, 0);
        assert_non_null(p);
        assert_int_not_equal(((uintptr_t)p - AREAS) / part, 1);
        qi_gaps_remove(&mine->gaps, &hog);
        quire_vfree(p);
    }
}

/* ---- short-lived maps ---- */

/* Maps of up to 32 pages come one after the other from a block of 1 MiB; no address comes again, and no
 * frame that was mapped is free, before a flush, of which there is one for many. */
/* proves: AS-23 TRAP-11 */
static void short_maps_share_blocks(void **state)
{
    struct quire_page *pages[32];
    uint64_t before = frames_left(), purged = stats().purges, begun = flushes(), last = 0;
    q_kva at;

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(32, pages, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY), 32);
    for (unsigned i = 0; i < 300; i++) {
        unsigned n = 1 + i % 32;

        OK(quire_vm_map_ram(pages, n, &at));
        for (unsigned k = 0; k < n; k++) {
            assert_ptr_equal(at_kernel_address((void *)(at.v + k * PAGE)),
                             quire_page_ptr(pages[k]));
            assert_int_equal(prot_of(at.v + k * PAGE), QUIRE_READ | QUIRE_WRITE);
        }
        assert_false(present(at.v + n * PAGE));
        if (i) /* behind the last one, or in the next block */
            assert_true(at.v > last || at.v / MIB != last / MIB);
        last = at.v;
        if (i % 50 == 0)
            OK(quire_kva_verify());
        quire_vm_unmap_ram(at, n);
        assert_false(present(at.v));
        if (stats().purges == purged)
            assert_int_equal(flushes(), begun);
    }
    assert_true(stats().purges - purged <= 300 * 17 / 256);
    for (unsigned i = 0; i < 32; i++) {
        assert_true(pages[i]->refs > 1);
        quire_page_put(pages[i]);
        assert_true(pages[i]->refs >= 1); /* held until the flush */
    }
    assert_int_equal(frames_left(), before);
}

/* What is left of a block serves a map that leaves a page for its guard, and no larger one. */
/* proves: AS-23 */
static void the_last_map_of_a_block_has_its_guard(void **state)
{
    enum { EACH = 32, MAPS = QUIRE_KVA_BLOCK_PAGES / (EACH + 1) };
    const unsigned left = QUIRE_KVA_BLOCK_PAGES - MAPS * (EACH + 1);
    struct quire_page *page = quire_page_alloc(0, 0, QUIRE_NODE_ANY), *pages[EACH];

    (void)state;
    assert_in_range(left, 2, EACH);
    for (unsigned i = 0; i < EACH; i++)
        pages[i] = page;
    for (unsigned n = left - 1; n <= left; n++) {
        q_kva at[MAPS], last;

        for (unsigned i = 0; i < MAPS; i++) {
            OK(quire_vm_map_ram(pages, EACH, &at[i]));
            assert_int_equal(at[i].v - at[0].v, i * (EACH + 1) * PAGE);
        }
        OK(quire_vm_map_ram(pages, n, &last));
        assert_int_equal(last.v == at[0].v + MAPS * (EACH + 1) * PAGE, n < left);
        assert_false(present(last.v + n * PAGE));
        quire_vm_unmap_ram(last, n);
        for (unsigned i = 0; i < MAPS; i++)
            quire_vm_unmap_ram(at[i], EACH);
        quire_kva_purge();
    }
    quire_page_put(page);
}

/* A block outlives its CPU's interest in it, not its last map; others may unmap. */
static void blocks_end_with_their_last_map(void **state)
{
    struct quire_page *page = quire_page_alloc(0, 0, QUIRE_NODE_ANY);
    uint64_t areas = stats().areas;
    static q_kva at[400];

    (void)state;
    for (unsigned i = 0; i < 400; i++)
        OK(quire_vm_map_ram(&page, 1, &at[i]));
    assert_int_equal(page->refs, 401);
    assert_int_equal(stats().areas - areas, 4); /* 128 maps and guards each */
    OK(quire_kva_verify());
    hosted_cpu_set(3);
    for (unsigned i = 0; i < 399; i++)
        quire_vm_unmap_ram(at[i * 8 % 399], 1);
    assert_int_equal(stats().areas - areas, 1);
    quire_kva_purge();
    assert_true(present(at[399].v));
    assert_int_equal(page->refs, 1 + 400 - 384);
    quire_vm_unmap_ram(at[399], 1);
    quire_kva_purge();
    assert_int_equal(stats().areas, areas);
    assert_int_equal(page->refs, 1);
    quire_page_put(page);
}

/* proves: TRAP-3 */
static void short_maps_misused(void **state)
{
    struct quire_page *pages[8];
    q_kva at, next;
    void *p = quire_vmalloc(PAGE, 0);

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(8, pages, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY), 8);
    assert_int_equal(quire_vm_map_ram(pages, 0, &at), QUIRE_INVALID);
    assert_int_equal(quire_vm_map_ram(pages, 33, &at), QUIRE_INVALID);
    OK(quire_vm_map_ram(pages, 4, &at));
    OK(quire_vm_map_ram(pages, 4, &next));
    for (size_t n = 0; n < 12; n++)
        if (n != 4) {
            assert_true(HOSTED_EXPECT_PANIC(quire_vm_unmap_ram(at, n)));
            assert_non_null(strstr(hosted_panic_text(), "not one map"));
        }
    assert_true(HOSTED_EXPECT_PANIC(quire_vm_unmap_ram(Q_KVA((uintptr_t)p), 1)));
    assert_non_null(strstr(hosted_panic_text(), "vm_unmap_ram"));
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)at.v)));
    assert_true(HOSTED_EXPECT_PANIC(quire_vunmap(at)));
    assert_non_null(strstr(hosted_panic_text(), "vm_map_ram block"));
    quire_vm_unmap_ram(at, 4);
    quire_vm_unmap_ram(next, 4);
    quire_vfree(p);
    for (unsigned i = 0; i < 8; i++)
        quire_page_put(pages[i]);
}

/* ---- purge by size and time ---- */

/* What waits never exceeds the bound in bytes, nor in areas; a flush comes when it would. */
/* proves: AS-25 */
static void the_purge_comes_by_size(void **state)
{
    uint64_t bound = quire_managed_pages() / 32 * PAGE, most = 0, purges = 0, last = stats().purges;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        size_t bytes = (1 + test_random_below(8)) * PAGE;

        quire_vfree(quire_vmalloc(bytes, QUIRE_GFP_KERNEL));
        most = QI_MAX(most, stats().lazy_bytes);
        assert_true(stats().lazy_bytes <= bound && stats().lazy_areas < 1024);
        if (stats().purges != last) {
            assert_int_equal(stats().lazy_bytes, 0);
            assert_true(most > bound - 16 * PAGE || stats().lazy_areas == 0);
            purges++;
            last = stats().purges;
        }
    }
    assert_in_range(purges, 3000 * 4 * PAGE / bound, 3000 * 6 * PAGE / bound);
}

/* The first that waits does so for 100 ms, give or take: then a later free flushes, or a tick. */
/* proves: AS-25 */
static void the_purge_comes_by_time(void **state)
{
    const struct timespec wait = {.tv_nsec = (QUIRE_KVA_LAZY_MS + 10) * 1000000l};
    uint64_t purges = stats().purges;

    (void)state;
    quire_vfree(quire_vmalloc(PAGE, 0));
    quire_kva_tick();
    nanosleep(&wait, NULL);
    assert_int_equal(stats().purges, purges);
    assert_int_equal(stats().lazy_areas, 1);
    quire_kva_tick();
    assert_int_equal(stats().purges, purges + 1);
    assert_int_equal(stats().lazy_areas, 0);
    quire_kva_tick();
    quire_vfree(quire_vmalloc(PAGE, 0));
    nanosleep(&wait, NULL);
    for (unsigned i = 0; i < 16; i++)
        quire_vfree(quire_vmalloc(PAGE, 0));
    assert_int_equal(stats().purges, purges + 2);
}

/* ---- areas as others see them ---- */

/* Each area is listed once, in order, with what it is; pages lead to frames and back. */
/* proves: LX-16 LX-17 */
static void areas_are_described(void **state)
{
    uint8_t *small = quire_vmalloc(3 * PAGE, 0), *huge = quire_vmalloc(4 * MIB, 0);
    struct quire_page *pages[40], *out[40];
    struct quire_kva_area a;
    q_kva map, ram, top, dev, at = Q_KVA(0);
    uint64_t before = 0, next = 0;
    unsigned n = 0;

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(40, pages, 0, QUIRE_NODE_ANY), 40);
    OK(quire_vmap(pages, 40, QUIRE_READ, &map));
    OK(quire_vm_map_ram(pages, 2, &ram));
    OK(quire_stack_alloc(2 * PAGE, &top));
    OK(quire_ioremap(Q_PA(0xfee00010), 0x20, QUIRE_UNCACHED, &dev));
    a = find_area((uintptr_t)small);
    assert_int_equal(a.flags, QUIRE_AREA_ALLOC);
    assert_int_equal(a.size, 4 * PAGE);
    assert_int_equal(a.nr_pages, 3);
    assert_in_range(a.caller, (uintptr_t)areas_are_described,
                    (uintptr_t)areas_are_described + 4096);
    assert_int_equal(find_area((uintptr_t)huge).flags, QUIRE_AREA_ALLOC | QUIRE_AREA_HUGE);
    assert_int_equal(find_area((uintptr_t)huge).nr_pages, 1024);
    a = find_area(map.v);
    assert_int_equal(a.flags, QUIRE_AREA_VMAP);
    assert_int_equal(a.nr_pages, 40);
    assert_int_equal(quire_kva_pages(map, 0, 40, out), 40);
    assert_memory_equal(out, pages, sizeof pages);
    assert_int_equal(quire_kva_pages(map, 38, 10, out), 2);
    assert_int_equal(find_area(ram.v & ~(MIB - 1)).flags, QUIRE_AREA_RAM);
    a = find_area(top.v - 2 * PAGE);
    assert_int_equal(a.flags, QUIRE_AREA_STACK);
    assert_int_equal(a.nr_pages, 2);
    a = find_area(dev.v & ~(PAGE - 1));
    assert_int_equal(a.flags, QUIRE_AREA_IOREMAP);
    assert_int_equal(a.phys_addr.v, 0xfee00000);
    assert_int_equal(a.nr_pages, 0);
    assert_int_equal(a.next.v, 0);
    for (; quire_kva_walk(&at, &a) == QUIRE_OK; n++) {
        assert_true(a.addr.v >= before && a.size > PAGE);
        if (n)
            assert_int_equal(a.addr.v, next);
        next = a.next.v;
        before = a.addr.v + a.size;
        assert_true((a.addr.v >= AREAS && before <= AREAS + (1ull << 40)) || a.addr.v >= STACKS);
    }
    assert_int_equal(n, 6);
    assert_int_equal(next, 0);
    quire_vfree(small);
    quire_vfree(huge);
    quire_vunmap(map);
    quire_vm_unmap_ram(ram, 2);
    quire_stack_free(top);
    quire_iounmap(dev);
    quire_kva_purge();
    at = Q_KVA(0);
    assert_int_equal(quire_kva_walk(&at, &a), QUIRE_NOT_FOUND);
    for (unsigned i = 0; i < 40; i++)
        quire_page_put(pages[i]);
}

/* Which addresses are areas, and which page is behind one: not the heap's, which are the direct map's. */
/* proves: LX-05 */
static void addresses_are_told_apart(void **state)
{
    uint8_t *v = quire_vmalloc(2 * MIB + 5 * PAGE, 0), *k = quire_kmalloc(8192, 0);

    (void)state;
    assert_true(quire_is_kva(v) && quire_is_kva(v + 2 * MIB + 5 * PAGE - 1));
    assert_false(quire_is_kva(k) || quire_is_kva(&k));
    assert_null(quire_kva_page(k));
    assert_int_equal(quire_pa_of_page(quire_page_of_ptr(k)).v + PAGE,
                     quire_pa_of_page(quire_page_of_ptr(k + PAGE)).v); /* contiguous */
    for (size_t off = 0; off < 2 * MIB + 5 * PAGE; off += PAGE)
        assert_ptr_equal(quire_page_ptr(quire_kva_page(v + off)), at_kernel_address(v + off));
    assert_null(quire_kva_page(v + 2 * MIB + 5 * PAGE)); /* the guard */
    quire_vfree(v);
    quire_kfree(k);
}

/* ---- misuse, with the names of who did it ---- */

/* proves: TRAP-3 */
static void misuse_names_area_and_callers(void **state)
{
    uint8_t *p = quire_vmalloc(5 * PAGE, 0);
    struct quire_kva_area a = find_area((uintptr_t)p);
    char allocated[64], range[64];
    const struct {
        uint64_t at;
        const char *says;
    } wrong[] = {{(uintptr_t)p + PAGE, "not the start of its area"},
                 {(uintptr_t)p + 8, "not the start of its area"},
                 {(uintptr_t)p + 5 * PAGE, "the guard of an area"},
                 {AREAS + (1ull << 39), "no area is there"},
                 {0x1000, "outside of"}};

    (void)state;
    snprintf(allocated, sizeof allocated, "allocated by %#lx", (unsigned long)a.caller);
    snprintf(range, sizeof range, "vmalloc [%#lx, +%llu)", (unsigned long)(uintptr_t)p, 5 * PAGE);
    for (unsigned i = 0; i < QI_COUNT(wrong); i++) {
        char asked[64];

        assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)wrong[i].at)));
        snprintf(asked, sizeof asked, "vfree(%#lx) by 0x", (unsigned long)wrong[i].at);
        assert_non_null(strstr(hosted_panic_text(), asked));
        assert_non_null(strstr(hosted_panic_text(), wrong[i].says));
        if (i < 3) {
            assert_non_null(strstr(hosted_panic_text(), allocated));
            assert_non_null(strstr(hosted_panic_text(), range));
        }
    }
    assert_true(HOSTED_EXPECT_PANIC(quire_vunmap(Q_KVA((uintptr_t)p))));
    assert_non_null(strstr(hosted_panic_text(), "a live area of another kind"));
    quire_vfree(p);
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p)));
    assert_non_null(strstr(hosted_panic_text(), "an area that is already freed"));
    assert_non_null(strstr(hosted_panic_text(), allocated));
    qi_areas_flush();
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p)));
    assert_non_null(strstr(hosted_panic_text(), "an area that is already freed"));
    quire_kva_purge();
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p)));
    assert_non_null(strstr(hosted_panic_text(), "no area is there"));
}

/* ---- failures ---- */

/* Every allocation of a short-lived map and of stacks in bulk fails once. */
/* proves: TRAP-18 */
static void every_allocation_may_fail(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (int layer = 0; layer < 2; layer++)
        for (int64_t n = 1;; n++) {
            struct quire_page *pages[9];
            uint64_t before;
            q_kva at, tops[9];
            bool reached;

            hosted_fini();
            kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
            before = frames_left();
            assert_int_equal(quire_page_alloc_bulk(9, pages, 0, QUIRE_NODE_ANY), 9);
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(n);
            if (quire_vm_map_ram(pages, 9, &at) == QUIRE_OK)
                quire_vm_unmap_ram(at, 9);
            else
                refused++;
            if (quire_stack_alloc_bulk(3 * PAGE, 9, tops) == QUIRE_OK)
                quire_stack_free_bulk(9, tops);
            else
                refused++;
            reached = !(layer ? quire_heap_fail_armed : quire_frame_fail_armed)();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(-1);
            for (unsigned i = 0; i < 9; i++)
                quire_page_put(pages[i]);
            assert_int_equal(stats().stacks, 0);
            OK(quire_kva_verify());
            assert_int_equal(frames_left(), before);
            heap_sound();
            if (!reached)
                break;
        }
    assert_true(refused > 0); /* most find memory after a purge */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ranges_stay_with_their_cpu),
        TEST(kept_frames_are_like_others),
        TEST(kept_frames_are_bounded),
        TEST(what_nobody_wants_goes_back),
        TEST(nodes_have_their_parts),
        TEST(short_maps_share_blocks),
        TEST(the_last_map_of_a_block_has_its_guard),
        TEST(blocks_end_with_their_last_map),
        TEST(short_maps_misused),
        TEST(the_purge_comes_by_size),
        TEST(the_purge_comes_by_time),
        TEST(areas_are_described),
        TEST(addresses_are_told_apart),
        TEST(misuse_names_area_and_callers),
        TEST(every_allocation_may_fail),
    };

    test_seed("kva_area_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
