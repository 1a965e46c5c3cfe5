/*
 * kva_map_test.c - src/kva: how areas are mapped: protections, large leaves, stacks by the dozen, alignments,
 * devices by what they are.
 */
#include <kva_suite.h>

/* ---- protections ---- */

/* Parts of areas become read-only or code, never both writable and code; large leaves are split; nothing
 * is lost, and the area goes as it came. */
/* proves: TRAP-7 TRAP-10 */
static void parts_are_protected(void **state)
{
    uint64_t before = frames_left();
    uint8_t *p = quire_vmalloc(4 * MIB, 0);
    uint64_t at = (uintptr_t)p;

    (void)state;
    for (size_t off = 0; off < 4 * MIB; off += PAGE)
        *(uint64_t *)at_kernel_address(p + off) = off;
    OK(quire_kva_protect(Q_KVA(at + MIB), 2 * MIB, QUIRE_READ));
    OK(quire_kva_protect(Q_KVA(at + 3 * PAGE), PAGE, QUIRE_READ | QUIRE_EXEC));
    OK(quire_kva_verify());
    for (size_t off = 0; off < 4 * MIB; off += PAGE) {
        unsigned want = off == 3 * PAGE               ? QUIRE_READ | QUIRE_EXEC
                        : off >= MIB && off < 3 * MIB ? QUIRE_READ
                                                      : QUIRE_READ | QUIRE_WRITE;

        assert_int_equal(prot_of(at + off), want);
        assert_int_equal(*(uint64_t *)at_kernel_address(p + off), off);
    }
    assert_int_equal(quire_kva_protect(Q_KVA(at), PAGE, QUIRE_WRITE | QUIRE_EXEC), QUIRE_INVALID);
    assert_int_equal(quire_kva_protect(Q_KVA(at), PAGE, 0), QUIRE_INVALID);
    assert_int_equal(quire_kva_protect(Q_KVA(at), PAGE, QUIRE_READ | QUIRE_USER), QUIRE_INVALID);
    assert_int_equal(quire_kva_protect(Q_KVA(at), 0, QUIRE_READ), QUIRE_INVALID);
    assert_int_equal(quire_kva_protect(Q_KVA(at), 4 * MIB + PAGE, QUIRE_READ), QUIRE_INVALID);
    assert_int_equal(quire_kva_protect(Q_KVA(at + 1), PAGE, QUIRE_READ), QUIRE_INVALID);
    assert_int_equal(prot_of(at), QUIRE_READ | QUIRE_WRITE);
    OK(quire_kva_protect(Q_KVA(at), 4 * MIB, QUIRE_READ | QUIRE_WRITE));
    quire_vfree(p);
    assert_int_equal(frames_left(), before);
    assert_true(HOSTED_EXPECT_PANIC(quire_kva_protect(Q_KVA(at), PAGE, QUIRE_READ)));
    assert_true(HOSTED_EXPECT_PANIC(quire_kva_protect(Q_KVA(0x1000), PAGE, QUIRE_READ)));
}

/* Each table that a split needs fails once: no protection has changed then. */
/* proves: TRAP-18 */
static void a_split_may_fail(void **state)
{
    uint8_t *p = quire_vmalloc(4 * MIB, 0);
    uint64_t at = (uintptr_t)p;
    unsigned refused = 0;

    (void)state;
    for (int64_t n = 1;; n++) {
        bool reached;
        enum quire_status s;

        quire_frame_fail_after(n);
        s = quire_kva_protect(Q_KVA(at + MIB), 2 * MIB, QUIRE_READ);
        reached = !quire_frame_fail_armed();
        quire_frame_fail_after(-1);
        assert_int_equal(s, reached ? QUIRE_NO_MEMORY : QUIRE_OK);
        for (size_t off = 0; off < 4 * MIB; off += PAGE)
            assert_int_equal(prot_of(at + off), s == QUIRE_OK && off >= MIB && off < 3 * MIB
                                                    ? QUIRE_READ
                                                    : QUIRE_READ | QUIRE_WRITE);
        if (!reached)
            break;
        refused++;
    }
    assert_int_equal(refused, 2);
    quire_vfree(p);
}

/* Memory ends in the middle of an area: what it has by then goes back, and does not pass for the frames of a ready
 * range, of which the next area of the size would map too few. */
/* proves: TRAP-18 */
static void half_an_area_is_no_ready_one(void **state)
{
    enum { PAGES = 7 };
    const struct qi_want want = {
        .bytes = PAGES * PAGE, .align = PAGE, .node = QUIRE_NODE_ANY, .kind = QI_KVA_MEMORY};
    static struct quire_page *all[64 * HEAP_MIB / PAGE];

    (void)state;
    for (unsigned some = 0; some < PAGES; some++) {
        struct qi_area *a = qi_area_make(QI_AREAS, &want);
        size_t n = 0;
        uint8_t *p;

        assert_non_null(a);
        while ((all[n] = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY)))
            n++;
        for (unsigned i = 0; i < some; i++)
            quire_page_free(all[--n], 0);
        assert_false(qi_area_populate(a, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY));
        qi_area_retire(a);
        while (n)
            quire_page_free(all[--n], 0);
        qi_areas_flush(); /* makes ready what is ready */
        assert_int_equal(qi_kept_pages(), 0);
        assert_non_null(p = quire_vmalloc(PAGES * PAGE, 0));
        for (unsigned i = 0; i < PAGES; i++)
            assert_int_equal(prot_of((uintptr_t)p + i * PAGE), QUIRE_READ | QUIRE_WRITE);
    }
}

/* Where small areas were before, a large one has large leaves again. */
static void large_leaves_come_back(void **state)
{
    static void *p[1200];
    struct quire_translation t;
    uint64_t before = frames_left();
    uint8_t *large;

    (void)state;
    for (unsigned i = 0; i < 1200; i++)
        assert_non_null(p[i] = quire_vmalloc(PAGE, 0));
    for (unsigned i = 0; i < 1200; i++)
        quire_vfree(p[i]);
    quire_kva_purge();
    large = quire_vmalloc(4 * MIB, 0);
    assert_int_equal((uintptr_t)large, AREAS);
    for (size_t off = 0; off < 4 * MIB; off += 2 * MIB) {
        quire_pt_translate(root, (uintptr_t)large + off, &t);
        assert_int_equal(t.leaf_shift, 21);
    }
    OK(quire_kva_verify());
    quire_vfree(large);
    assert_int_equal(frames_left(), before);
}

/* ---- stacks ---- */

/* Sixty-four stacks with guards come together and go with one flush, after which their frames are free. */
/* proves: X-16 VE-17 */
static void stacks_come_and_go_together(void **state)
{
    enum { N = 64 };
    uint64_t before = frames_left(), begun;
    q_kva top[N];

    (void)state;
    for (int round = 0; round < 3; round++) {
        uint64_t purges = stats().purges;

        begun = flushes();
        OK(quire_stack_alloc_bulk(4 * PAGE, N, top));
        assert_int_equal(flushes(), begun);
        assert_int_equal(stats().stacks, N);
        for (unsigned i = 0; i < N; i++) {
            assert_true(present(top[i].v - 1) && present(top[i].v - 4 * PAGE));
            assert_false(present(top[i].v - 4 * PAGE - 1) || present(top[i].v));
            assert_true(quire_stack_guard_hit(Q_KVA(top[i].v - 4 * PAGE - 1)));
            fill((uint8_t *)top[i].v - 4 * PAGE, 4 * PAGE, (uint8_t)i);
        }
        for (unsigned i = 0; i < N; i++)
            expect((uint8_t *)top[i].v - 4 * PAGE, 4 * PAGE, (uint8_t)i);
        OK(quire_kva_verify());
        quire_stack_free_bulk(N, top);
        assert_int_equal(flushes(), begun + 1);
        assert_int_equal(stats().purges, purges + 1);
        assert_int_equal(stats().stacks, 0);
        for (unsigned i = 0; i < N; i++)
            assert_false(quire_stack_guard_hit(Q_KVA(top[i].v - 4 * PAGE - 1)));
        /* but for some slabs: addresses are kept */
        assert_in_range(heap_free_pages() + quire_pt_pages(), before - 8, before);
    }
    quire_stack_free_bulk(0, top);
    assert_int_equal(quire_stack_alloc_bulk(0, 2, top), QUIRE_INVALID);
    /* more than there is: none */
    {
        static q_kva many[6000];

        assert_int_equal(quire_stack_alloc_bulk(4 * PAGE, 6000, many), QUIRE_NO_MEMORY);
        assert_int_equal(stats().stacks, 0);
    }
    assert_int_equal(frames_left(), before);
}

/* ---- alignment ---- */

/* Up to 1 GiB, in a window that is full of holes: aligned, apart, and refused only when there is no place. */
/* proves: X-17 TRAP-16 */
static void large_alignments_never_overlap(void **state)
{
    enum { N = 200 };
    static struct {
        uint64_t at, end;
    } got[N];
    unsigned large = 0;

    (void)state;
    hosted_fini();
    kva_machine(128 * HEAP_MIB, 1, 64 * GIB);
    memset(got, 0, sizeof got);
    for (unsigned round = 0; round < 4000; round++) {
        unsigned k = (unsigned)test_random_below(N), shift = 12 + (unsigned)test_random_below(19);
        uint64_t bytes = (1 + test_random_below(test_random_below(8) ? 20 : 600)) * PAGE;

        if (got[k].at) {
            quire_vfree((void *)got[k].at);
            got[k].at = 0;
            continue;
        }
        got[k].at = (uintptr_t)quire_vmalloc_aligned(bytes, 1ull << shift, 0);
        got[k].end = got[k].at + bytes + PAGE;
        if (!got[k].at)
            continue;
        large += shift == 30;
        assert_int_equal(got[k].at % (1ull << shift), 0);
        assert_true(got[k].at >= AREAS && got[k].end <= AREAS + 64 * GIB);
        for (unsigned i = 0; i < N; i++)
            if (i != k && got[i].at)
                assert_true(got[i].end <= got[k].at || got[k].end <= got[i].at);
        if (round % 500 == 0)
            OK(quire_kva_verify());
    }
    assert_true(large > 20);
    for (unsigned i = 0; i < N; i++)
        quire_vfree((void *)got[i].at);
}

/* ---- devices ---- */

static void devices_are_mapped_for_what_they_are(void **state)
{
    static const struct {
        enum quire_io_intent what;
        unsigned prot;
        enum quire_cache_type cache;
    } kinds[] = {{QUIRE_IO_REGISTERS, QUIRE_READ | QUIRE_WRITE, QUIRE_UNCACHED},
                 {QUIRE_IO_BUFFER, QUIRE_READ | QUIRE_WRITE, QUIRE_WRITE_COMBINING},
                 {QUIRE_IO_MEMORY, QUIRE_READ | QUIRE_WRITE, QUIRE_CACHED},
                 {QUIRE_IO_TABLES, QUIRE_READ, QUIRE_CACHED}};
    q_kva at, other;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct quire_translation t;

        OK(quire_ioremap_for(Q_PA(0xe0000000 + i * MIB), 3 * PAGE, kinds[i].what, &at));
        assert_int_equal(prot_of(at.v), kinds[i].prot);
        quire_pt_translate(root, at.v, &t);
        assert_int_equal(qi_pte_cache(QI_PTE(t.entry)), kinds[i].cache);
        for (unsigned k = 0; k < 4; k++) { /* the same memory for something else */
            enum quire_status s = quire_ioremap_for(Q_PA(0xe0000000 + i * MIB + 2 * PAGE), 3 * PAGE,
                                                    kinds[k].what, &other);

            assert_int_equal(s, kinds[k].cache == kinds[i].cache ? QUIRE_OK : QUIRE_BUSY);
            if (s == QUIRE_OK)
                quire_iounmap(other);
        }
        quire_iounmap(at);
    }
    assert_int_equal(quire_ioremap_for(Q_PA(0xe0000000), PAGE, (enum quire_io_intent)4, &at),
                     QUIRE_INVALID);
    /* memory that the allocator hands out is not uncached anywhere */
    assert_int_equal(quire_ioremap(Q_PA(8 * MIB), PAGE, QUIRE_UNCACHED, &at), QUIRE_BUSY);
    assert_int_equal(quire_ioremap(Q_PA(MIB - PAGE), 2 * PAGE, QUIRE_UNCACHED, &at), QUIRE_BUSY);
    OK(quire_ioremap(Q_PA(8 * MIB), PAGE, QUIRE_CACHED, &at));
    quire_iounmap(at);
    assert_int_equal(quire_ioremap(Q_PA(0), ~0ull >> 12 << 12, QUIRE_UNCACHED, &at), QUIRE_BUSY);
    assert_int_equal(quire_ioremap(Q_PA(1ull << 52), PAGE, QUIRE_UNCACHED, &at), QUIRE_INVALID);
    assert_int_equal(stats().areas, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(parts_are_protected),
        TEST(a_split_may_fail),
        TEST(half_an_area_is_no_ready_one),
        TEST(large_leaves_come_back),
        TEST(stacks_come_and_go_together),
        TEST(large_alignments_never_overlap),
        TEST(devices_are_mapped_for_what_they_are),
    };

    test_seed("kva_map_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
