/*
 * kva_area_test.c - src/kva: whose ranges are whose (CPUs, nodes), short-lived maps, the purge by size and
 * time, areas as others see them, protections, stacks by the dozen, devices by what they are.
 */
#include <kva_machine.h>

#include <kva/kva.h>

#define MIB    (1ull << 20)
#define GIB    (1ull << 30)
#define OK(c)  assert_int_equal(c, QUIRE_OK)

static int setup(void **state)
{
    (void)state;
    kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_cpu_set(0);
    quire_kva_purge();
    OK(quire_kva_verify());
    heap_sound();
    hosted_fini();
    return 0;
}

static uint64_t flushes(void)
{
    struct quire_tlb_stats s;

    quire_tlb_stats(&s);
    return s.requests + s.local_flushes;
}

static unsigned prot_of(uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(root, va, &t);
    return t.present ? t.prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC) : 0;
}

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
            assert_non_null(p[cpu][i] = quire_vmalloc(3 * PAGE, QUIRE_GFP_KERNEL));
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
            uint8_t *q = quire_vmalloc(3 * PAGE, QUIRE_GFP_KERNEL);
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
                assert_int_equal(page->flags >> QUIRE_PG_NODE_SHIFT & 255, n);
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
        void *all = quire_vmalloc_aligned(PAGE, GIB, 0), *p;
        struct qi_part *mine = &QI_AREAS->parts[1];
        struct qi_gap_node hog = {.start = mine->gaps.fence.prev->end,
                                  .end = mine->gaps.fence.start};

        assert_int_equal(((uintptr_t)all - AREAS) / part, 1);
        qi_gaps_insert(&mine->gaps, &hog, &mine->gaps.fence);
        quire_vfree(all);
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
        quire_vm_unmap_ram(at[i * 7 % 399], 1);
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
            qi_spin_unlock(&at == NULL ? NULL : qi_block_lock(at));
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
