/*
 * kva_test.c - src/kva: areas and their guards, lazy purge, mappings of foreign
 * frames and devices, stacks.  Kernel addresses are not mapped in a hosted process: the tests look
 * through quire_pt_translate() and touch memory through the direct map.
 */
#include <kva_machine.h>

#include <pthread.h>

static int setup(void **state)
{
    (void)state;
    kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_fini();
    return 0;
}

/* ---- vmalloc ---- */

/* Every page of an area is mapped for reading and writing but not for execution, to frames
 * that nothing else has; the page behind it is not. */
/* proves: LX-05 LX-16 VM-11 TRAP-10 */
static void areas_are_mapped_and_guarded(void **state)
{
    uint8_t *p[20];

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        size_t bytes = i * 5000 + 1, pages = (bytes + PAGE - 1) / PAGE;

        p[i] = quire_vmalloc(bytes, QUIRE_GFP_KERNEL);
        assert_non_null(p[i]);
        assert_true((uintptr_t)p[i] >= AREAS && !((uintptr_t)p[i] % PAGE));
        assert_false(present((uintptr_t)p[i] + pages * PAGE));
        for (size_t k = 0; k < pages; k++) {
            struct quire_translation t;

            quire_pt_translate(root, (uintptr_t)p[i] + k * PAGE, &t);
            assert_true(t.present);
            assert_int_equal(t.prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC | QUIRE_USER),
                             QUIRE_READ | QUIRE_WRITE);
        }
        fill(p[i], bytes, (uint8_t)(i + 1));
    }
    for (unsigned i = 0; i < 20; i++)
        expect(p[i], i * 5000 + 1, (uint8_t)(i + 1));
    assert_int_equal(stats().areas, 20);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    for (unsigned i = 0; i < 20; i++) {
        quire_vfree(p[i]);
        assert_false(present((uintptr_t)p[i]));
    }
    quire_vfree(NULL);
    assert_int_equal(stats().areas, 0);
    assert_int_equal(stats().bytes, 0);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
}

/* proves: VE-38 */
static void zeroed_areas_are_zero(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        uint8_t *p = quire_vmalloc(3 << 20, QUIRE_GFP_KERNEL);

        assert_non_null(p);
        fill(p, 3 << 20, 0xff);
        quire_vfree(p);
        quire_kva_purge();
        p = quire_vzalloc(3 << 20, QUIRE_GFP_KERNEL);
        expect(p, 3 << 20, 0);
        quire_vfree(p);
    }
}

/* Sizes that cannot be had: nothing, more than the window, more than 2^64 when rounded. */
static void impossible_sizes_are_refused(void **state)
{
    uint64_t before = frames_left();

    (void)state;
    assert_null(quire_vmalloc(0, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(SIZE_MAX, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(SIZE_MAX - 4095, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(1ull << 41, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(1ull << 30, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc_aligned(PAGE, 3 * PAGE, QUIRE_GFP_KERNEL));
    assert_int_equal(stats().areas, 0);
    assert_int_equal(frames_left(), before);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
}

/* All frames as areas, then all back. */
static void exhaustion_is_survived(void **state)
{
    uint64_t before = frames_left();
    void *first = NULL, *p;
    unsigned n = 0;

    (void)state;
    while ((p = quire_vmalloc(40 * PAGE, QUIRE_GFP_KERNEL))) {
        *(void **)at_kernel_address(p) = first;
        first = p;
        n++;
    }
    assert_true(n > 300);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    for (; first; first = p) {
        p = *(void **)at_kernel_address(first);
        quire_vfree(first);
    }
    assert_int_equal(frames_left(), before);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
}

/* Large areas use 2 MiB leaves when there are 2 MiB blocks, small ones when not. */
static void large_areas_have_large_leaves(void **state)
{
    struct quire_translation t;
    uint8_t *p = quire_vmalloc((4 << 20) + 5, QUIRE_GFP_KERNEL);
    uint64_t before;

    (void)state;
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (2 << 20), 0);
    quire_pt_translate(root, (uintptr_t)p, &t);
    assert_int_equal(t.leaf_shift, 21);
    quire_pt_translate(root, (uintptr_t)p + (4 << 20), &t);
    assert_int_equal(t.leaf_shift, 12);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    quire_vfree(p);
    before = frames_left();
    p = quire_vmalloc(4 << 20, QUIRE_GFP_KERNEL);
    quire_vfree(p);
    assert_int_equal(frames_left(), before);
}

/* proves: TRAP-3 */
static void misuse_is_named(void **state)
{
    uint8_t *p = quire_vmalloc(3 * PAGE, QUIRE_GFP_KERNEL);
    q_kva m, top;
    int x;
    struct quire_page *page = quire_page_alloc(0, 0, QUIRE_NODE_ANY);

    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p + PAGE)));
    assert_non_null(strstr(hosted_panic_text(), "not the start of its area"));
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p + 1)));
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(&x)));
    assert_non_null(strstr(hosted_panic_text(), "foreign"));
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)0xfffffffffffff000)));
    quire_vfree(p);
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p)));
    quire_kva_purge();
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree(p)));
    assert_int_equal(quire_vmap(&page, 1, QUIRE_READ, &m), QUIRE_OK);
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)m.v)));
    assert_true(HOSTED_EXPECT_PANIC(quire_iounmap(m)));
    quire_vunmap(m);
    assert_true(HOSTED_EXPECT_PANIC(quire_vunmap(m)));
    assert_int_equal(quire_stack_alloc(2 * PAGE, &top), QUIRE_OK);
    assert_true(HOSTED_EXPECT_PANIC(quire_stack_free(Q_KVA(top.v - PAGE))));
    assert_true(HOSTED_EXPECT_PANIC(quire_stack_free(Q_KVA(top.v - 8))));
    assert_true(HOSTED_EXPECT_PANIC(quire_vfree((void *)(top.v - 2 * PAGE))));
    quire_stack_free(top);
    assert_true(HOSTED_EXPECT_PANIC(quire_stack_free(top)));
    quire_kva_purge();
    assert_true(HOSTED_EXPECT_PANIC(quire_stack_free(top)));
    quire_page_free(page, 0);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
}

/* ---- lazy purge ---- */

/* What was freed is not reused, neither frame nor address, before a flush. */
/* proves: AS-25 TRAP-11 */
static void nothing_is_reused_before_a_flush(void **state)
{
    struct quire_tlb_stats before, after;
    uint8_t *p = quire_vmalloc(4 * PAGE, QUIRE_GFP_KERNEL), *q;
    uint64_t frame = (uintptr_t)at_kernel_address(p), purges = stats().purges, freed = 0;

    (void)state;
    quire_tlb_stats(&before);
    quire_vfree(p);
    for (int i = 0; i < 50; i++) {
        q = quire_vmalloc(4 * PAGE, QUIRE_GFP_KERNEL);
        assert_ptr_not_equal(p, q);
        for (int k = 0; k < 4; k++)
            assert_true((uintptr_t)at_kernel_address(q + k * PAGE) != frame);
        quire_vfree(q);
        freed += 4;
    }
    quire_tlb_stats(&after);
    assert_int_equal(stats().purges, purges);
    assert_int_equal(after.requests, before.requests);
    assert_int_equal(quire_kva_purge(), freed + 4);
    quire_tlb_stats(&after);
    assert_int_equal(stats().purges, purges + 1);
    assert_true(after.requests > before.requests || after.local_flushes > before.local_flushes);
    q = quire_vmalloc(4 * PAGE, QUIRE_GFP_KERNEL);
    assert_ptr_equal(p, q);
    quire_vfree(q);
}

/* What waits is bounded: many frees need few flushes, but some. */
static void the_purge_comes_by_itself(void **state)
{
    uint64_t before = frames_left(), purges = stats().purges;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        quire_vfree(quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
        assert_true(before - (quire_free_pages() + quire_pt_pages()) < 700);
    }
    assert_in_range(stats().purges - purges, 5000 / 600, 5000 / 400);
    assert_int_equal(frames_left(), before);
}

/* When frames run short, those that wait are used before the answer is no. */
static void a_shortage_purges(void **state)
{
    void *p[10] = {0}, *more;

    (void)state;
    for (unsigned i = 0; (more = quire_vmalloc(40 * PAGE, QUIRE_GFP_KERNEL)); i++)
        p[i % 10] = more;
    for (unsigned i = 0; i < 10; i++)
        quire_vfree(p[i]);
    for (unsigned i = 0; i < 10; i++)
        assert_non_null(quire_vmalloc(40 * PAGE, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(40 * PAGE, QUIRE_GFP_KERNEL));
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
}

/* ---- other people's frames ---- */

static void vmap_maps_what_it_is_given(void **state)
{
    struct quire_page *pages[64];
    q_kva a, b;

    (void)state;
    assert_int_equal(quire_page_alloc_bulk(64, pages, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY), 64);
    assert_int_equal(quire_vmap(pages, 64, QUIRE_READ | QUIRE_WRITE, &a), QUIRE_OK);
    assert_int_equal(quire_vmap(pages, 2, QUIRE_READ, &b), QUIRE_OK);
    for (unsigned i = 0; i < 64; i++)
        assert_ptr_equal(at_kernel_address((void *)(a.v + i * PAGE)), quire_page_ptr(pages[i]));
    assert_false(present(a.v + 64 * PAGE));
    assert_int_equal(quire_vmap(pages, 0, QUIRE_READ, &b), QUIRE_INVALID);
    assert_int_equal(quire_vmap(pages, 1, QUIRE_WRITE | QUIRE_EXEC, &b), QUIRE_INVALID);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    quire_vunmap(a);
    quire_vunmap(b);
    assert_int_equal(stats().areas, 0);
    quire_page_free_bulk(64, pages);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
}

/* proves: VM-04 */
static void device_mappings_keep_the_offset(void **state)
{
    struct quire_translation t;
    q_kva a, b;

    (void)state;
    assert_int_equal(quire_ioremap(Q_PA(0xfee00123), 0x100, QUIRE_UNCACHED, &a), QUIRE_OK);
    assert_int_equal(a.v % PAGE, 0x123);
    quire_pt_translate(root, a.v, &t);
    assert_true(t.present);
    assert_int_equal(t.pa.v, 0xfee00123);
    assert_false(t.prot & QUIRE_EXEC);
    assert_false(present(a.v + PAGE));
    /* 0xe0201000..0xe0603000: two 2 MiB leaves, or one, in the middle */
    assert_int_equal(quire_ioremap(Q_PA(0xe0201000), 4 << 20, QUIRE_WRITE_COMBINING, &b), QUIRE_OK);
    assert_int_equal(b.v % (2 << 20), 0x1000);
    for (uint64_t off = 0; off < 4 << 20; off += 0x1000) {
        quire_pt_translate(root, b.v + off, &t);
        assert_true(t.present);
        assert_int_equal(t.pa.v, 0xe0201000 + off);
    }
    quire_pt_translate(root, b.v + (2 << 20), &t);
    assert_int_equal(t.leaf_shift, 21);
    assert_int_equal(quire_ioremap(Q_PA(0), 0, QUIRE_UNCACHED, &a), QUIRE_INVALID);
    assert_int_equal(quire_ioremap(Q_PA(UINT64_MAX - 5), 100, QUIRE_UNCACHED, &a), QUIRE_INVALID);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    quire_iounmap(a);
    quire_iounmap(b);
    assert_int_equal(stats().areas, 0);
}

/* kvmalloc: contiguous when small, anything when large; one free for both. */
/* proves: X-15 */
static void kvmalloc_takes_either(void **state)
{
    uint64_t before = frames_left();
    uint8_t *a = quire_kvmalloc(100, QUIRE_GFP_KERNEL),
            *b = quire_kvmalloc(1 << 20, QUIRE_GFP_ZERO);

    (void)state;
    assert_true((uintptr_t)a < AREAS);
    memset(a, 1, 100);
    assert_true((uintptr_t)b >= AREAS);
    expect(b, 1 << 20, 0);
    quire_kvfree(a);
    quire_kvfree(b);
    quire_kvfree(NULL);
    a = quire_kvmalloc(0, QUIRE_GFP_KERNEL);
    assert_non_null(a);
    quire_kvfree(a);
    assert_null(quire_kvmalloc(SIZE_MAX, QUIRE_GFP_KERNEL));
    /* no two frames in a row are free: still served */
    quire_heap_fail_after(1);
    b = quire_kvmalloc(10000, QUIRE_GFP_KERNEL);
    quire_heap_fail_after(-1);
    assert_true((uintptr_t)b >= AREAS);
    quire_kvfree(b);
    assert_int_equal(frames_left(), before);
}

/* ---- stacks ---- */

/* A stack has unmapped pages on both sides; a touch of the one below is told from all else. */
/* proves: VE-17 */
static void stacks_are_guarded(void **state)
{
    q_kva top[6];

    (void)state;
    for (int i = 0; i < 6; i++) {
        uint64_t low;

        assert_int_equal(quire_stack_alloc(4 * PAGE - 100, &top[i]), QUIRE_OK);
        low = top[i].v - 4 * PAGE;
        for (int k = 0; k < 4; k++)
            assert_true(present(low + k * PAGE));
        assert_false(present(low - PAGE));
        assert_false(present(top[i].v));
        for (unsigned off = 1; off <= PAGE; off += 500)
            assert_true(quire_stack_guard_hit(Q_KVA(low - off)));
        assert_false(quire_stack_guard_hit(Q_KVA(low)));
        assert_false(quire_stack_guard_hit(Q_KVA(top[i].v - 1)));
        fill((uint8_t *)low, 4 * PAGE, (uint8_t)i);
    }
    for (int i = 0; i < 6; i++)
        expect((uint8_t *)top[i].v - 4 * PAGE, 4 * PAGE, (uint8_t)i);
    assert_int_equal(stats().stacks, 6);
    assert_false(quire_stack_guard_hit(Q_KVA(0)));
    assert_false(quire_stack_guard_hit(Q_KVA(UINT64_MAX)));
    assert_false(quire_stack_guard_hit(Q_KVA(AREAS)));
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    for (int i = 0; i < 6; i++)
        quire_stack_free(top[i]);
    assert_int_equal(stats().stacks, 0);
    for (int i = 0; i < 6; i++) /* the guard of a free stack is nobody's */
        assert_false(quire_stack_guard_hit(Q_KVA(top[i].v - 4 * PAGE - 8)));
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    assert_int_equal(quire_stack_alloc(0, top), QUIRE_INVALID);
    assert_int_equal(quire_stack_alloc(SIZE_MAX, top), QUIRE_INVALID);
    assert_int_equal(quire_stack_alloc(1ull << 35, top), QUIRE_NO_MEMORY);
}

/* A stack freed and taken again on one CPU needs no frame and no flush; all come back at a purge.
 */
static void free_stacks_are_kept(void **state)
{
    uint64_t before = frames_left(), purges, left;
    q_kva top[3], again;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(quire_stack_alloc(4 * PAGE, &top[i]), QUIRE_OK);
    for (int i = 0; i < 3; i++)
        quire_stack_free(top[i]);
    purges = stats().purges;
    left = quire_free_pages();
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(quire_stack_alloc(4 * PAGE, &again), QUIRE_OK);
        quire_stack_free(again);
    }
    assert_int_equal(stats().purges, purges);
    assert_int_equal(quire_free_pages(), left);
    assert_int_equal(quire_stack_alloc(2 * PAGE, &again), QUIRE_OK); /* another size */
    quire_stack_free(again);
    assert_int_equal(frames_left(), before);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
}

/* ---- layout ---- */

static void layouts_are_checked(void **state)
{
    struct quire_kva_layout good = {
        .areas_start = Q_KVA(AREAS),
        .areas_end = Q_KVA(AREAS + (1 << 20)),
        .stacks_start = Q_KVA(STACKS),
        .stacks_end = Q_KVA(STACKS + (1 << 20)),
        .device_start = Q_KVA(DEVICE),
        .device_end = Q_KVA(DEVICE + (1 << 20)),
    };
    struct quire_kva_layout l = good;

    (void)state;
    l.areas_end.v = AREAS;
    assert_int_equal(quire_kva_init(&l), QUIRE_INVALID);
    l = good;
    l.stacks_start.v += 1;
    assert_int_equal(quire_kva_init(&l), QUIRE_INVALID);
    l = good;
    l.stacks_start.v = AREAS + 4096;
    assert_int_equal(quire_kva_init(&l), QUIRE_INVALID);
    l = good;
    l.device_end.v = l.device_start.v + 4096;
    assert_int_equal(quire_kva_init(&l), QUIRE_INVALID);
    assert_int_equal(quire_kva_init(&good), QUIRE_OK);
}

/* A window full of areas gives no address twice, and says no when it is full. */
static void a_full_window_says_no(void **state)
{
    void *p[64];
    unsigned n = 0;

    (void)state;
    hosted_fini();
    kva_machine(64 * HEAP_MIB, 1, 64 * PAGE);
    while ((p[n] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL)))
        n++;
    assert_int_equal(n, 32); /* a page and its guard */
    quire_vfree(p[7]);
    p[7] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL); /* purges for the address */
    assert_non_null(p[7]);
    for (unsigned i = 0; i < n; i++)
        quire_vfree(p[i]);
    p[0] = quire_vmalloc(63 * PAGE, QUIRE_GFP_KERNEL);
    assert_non_null(p[0]);
    assert_null(quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    quire_vfree(p[0]);
}

/* ---- failures ---- */

static bool try_everything(void)
{
    void *small = NULL, *large = NULL;
    struct quire_page *page = NULL;
    q_kva top = {0}, map = {0}, dev = {0};
    bool all = false;

    small = quire_vmalloc(3 * PAGE, QUIRE_GFP_KERNEL);
    large = small ? quire_vzalloc(600 * PAGE, QUIRE_GFP_KERNEL) : NULL;
    if (!large || quire_stack_alloc(4 * PAGE, &top) != QUIRE_OK)
        goto out;
    page = quire_page_alloc(0, 0, QUIRE_NODE_ANY);
    if (!page || quire_vmap(&page, 1, QUIRE_READ, &map) != QUIRE_OK)
        goto out;
    if (quire_ioremap(Q_PA(0xfee00000), 4096, QUIRE_UNCACHED, &dev) != QUIRE_OK)
        goto out;
    all = true;
out:
    quire_vfree(small);
    quire_vfree(large);
    if (top.v)
        quire_stack_free(top);
    if (map.v)
        quire_vunmap(map);
    if (page)
        quire_page_free(page, 0);
    if (dev.v)
        quire_iounmap(dev);
    return all;
}

/* Each allocation of a frame, then of an object, fails once: nothing is lost, and either the call
 * says no or it found another way. */
/* proves: TRAP-18 */
static void every_allocation_may_fail(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (int layer = 0; layer < 2; layer++)
        for (int64_t n = 1;; n++) {
            uint64_t before;
            bool reached;

            hosted_fini();
            kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
            before = frames_left();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(n);
            refused += !try_everything();
            reached = !(layer ? quire_heap_fail_armed : quire_frame_fail_armed)();
            (layer ? quire_heap_fail_after : quire_frame_fail_after)(-1);
            assert_int_equal(frames_left(), before);
            assert_int_equal(stats().areas, 0);
            assert_int_equal(quire_kva_verify(), QUIRE_OK);
            heap_sound();
            if (!reached)
                break;
        }
    assert_true(refused > 4);
}

/* ---- threads ---- */

static void *churn(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    uint64_t seed = cpu * 977 + 1;
    void *held[8] = {0};

    hosted_cpu_set(cpu);
    for (int i = 0; i < 3000; i++) {
        unsigned k = (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33 & 7;
        q_kva top;

        if (held[k]) {
            assert_int_equal(*(uint8_t *)at_kernel_address(held[k]), cpu);
            quire_vfree(held[k]);
            held[k] = NULL;
        } else {
            held[k] = quire_vmalloc((seed >> 50 & 15) * PAGE + 1, QUIRE_GFP_KERNEL);
            assert_non_null(held[k]);
            *(uint8_t *)at_kernel_address(held[k]) = (uint8_t)cpu;
        }
        assert_int_equal(quire_stack_alloc(4 * PAGE, &top), QUIRE_OK);
        quire_stack_free(top);
    }
    for (int k = 0; k < 8; k++)
        quire_vfree(held[k]);
    return NULL;
}

static void threads_do_not_meet(void **state)
{
    uint64_t before = frames_left();
    pthread_t t[4];

    (void)state;
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(quire_kva_verify(), QUIRE_OK);
    assert_int_equal(stats().areas, 0);
    assert_int_equal(frames_left(), before);
    heap_sound();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(areas_are_mapped_and_guarded),
        TEST(zeroed_areas_are_zero),
        TEST(impossible_sizes_are_refused),
        TEST(exhaustion_is_survived),
        TEST(large_areas_have_large_leaves),
        TEST(misuse_is_named),
        TEST(nothing_is_reused_before_a_flush),
        TEST(the_purge_comes_by_itself),
        TEST(a_shortage_purges),
        TEST(vmap_maps_what_it_is_given),
        TEST(device_mappings_keep_the_offset),
        TEST(kvmalloc_takes_either),
        TEST(stacks_are_guarded),
        TEST(free_stacks_are_kept),
        TEST(layouts_are_checked),
        TEST(a_full_window_says_no),
        TEST(every_allocation_may_fail),
        TEST(threads_do_not_meet),
    };

    test_seed("kva_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
