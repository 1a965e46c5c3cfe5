/*
 * frame_zero_test.c - frames that were cleared before anybody asked: how many, for whom, and that they are
 * free memory like any other.
 */
#include "frame_machine.h"

#define MOVABLE_ZERO (QUIRE_GFP_USER | QUIRE_GFP_ZERO)

static struct quire_zero_stats zero_stats(void)
{
    struct quire_zero_stats s;

    quire_frame_zero_stats(&s);
    return s;
}
static void fill_pool(void)
{
    while (quire_frame_zero_idle(100))
        ;
    healthy();
}
static bool is_zero(struct quire_page *p)
{
    const unsigned char *at = quire_page_ptr(p);

    for (unsigned i = 0; i < 4096; i++)
        if (at[i])
            return false;
    return true;
}
/* Every byte of memory that the allocator has is written. */
static void dirty_all(void)
{
    size_t n = exhaust(0, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC);

    for (size_t i = 0; i < n; i++)
        memset(quire_page_ptr(held[i]), 0xa5, 4096);
    give_back(n, 0);
    quire_frame_drain();
}

/* 1 % of memory; at least 256 frames; never more than a sixteenth. */
/* proves: X-05 */
static void the_pool_holds_what_it_should(void **state)
{
    static const uint64_t sizes[] = {8 * MIB, 64 * MIB, 256 * MIB, GIB};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t managed, want, free, cleared = 0, got;

        machine(MIB, sizes[i]);
        managed = quire_managed_pages();
        want = managed / 100 > 256 ? managed / 100 : 256;
        want = want < managed / 16 ? want : managed / 16;
        free = quire_free_pages();
        assert_int_equal(zero_stats().target, want);
        assert_int_equal(zero_stats().free, 0);
        while ((got = quire_frame_zero_idle(7))) { /* a budget is kept */
            assert_in_range(got, 1, 7);
            cleared += got;
        }
        assert_in_range(cleared, want - 3, want); /* a quarter is rounded down */
        assert_int_equal(zero_stats().free, cleared);
        assert_int_equal(zero_stats().cleared, cleared);
        assert_int_equal(quire_free_pages(), free);
        assert_int_equal(quire_frame_zero_idle(100), 0);
        healthy();
    }
}

/* proves: X-05 */
static void requests_for_zeroed_frames_get_them_first(void **state)
{
    static const quire_gfp kinds[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_USER, QUIRE_GFP_ATOMIC};
    struct quire_page *p[64];
    uint64_t hits = 0;

    (void)state;
    machine(0, 64 * MIB);
    dirty_all();
    fill_pool();
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < 20; i++) {
            p[i] = quire_page_alloc(0, kinds[k] | QUIRE_GFP_ZERO, ANY);
            assert_non_null(p[i]);
            assert_true(is_zero(p[i]));
            assert_int_equal(p[i]->refs, 1);
            assert_int_equal(p[i]->owner, 0);
            assert_int_equal(quire_page_order(p[i]), 0);
            assert_int_equal(zero_stats().hits, ++hits);
        }
        for (unsigned i = 0; i < 20; i++)
            quire_page_free(p[i], 0);
    }
    /* others do not use them up: not zeroed, of a special zone, of a node, larger */
    p[0] = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
    p[1] = quire_page_alloc(0, QUIRE_GFP_DMA | QUIRE_GFP_ZERO, ANY);
    p[2] = quire_page_alloc(0, MOVABLE_ZERO, 0);
    p[3] = quire_page_alloc(0, MOVABLE_ZERO | QUIRE_GFP_THISNODE, ANY);
    for (unsigned i = 0; i < 4; i++)
        quire_page_free(p[i], 0);
    p[4] = quire_page_alloc(1, MOVABLE_ZERO, ANY);
    quire_page_free(p[4], 1);
    assert_int_equal(zero_stats().hits, hits);
    /* when the pool is empty they are cleared as ever */
    for (size_t n = exhaust(0, MOVABLE_ZERO); n > 0; n--) {
        assert_true(is_zero(held[n - 1]));
        quire_page_free(held[n - 1], 0);
    }
    assert_int_equal(quire_free_pages(), quire_managed_pages());
    healthy();
}

/* What is in the pool is free for everybody: the last frame can be had, and everything merges. */
/* proves: X-05 */
static void the_pool_is_given_back_under_pressure(void **state)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
    struct quire_zone_stats s;
    size_t n, with;

    (void)state;
    machine(0, 64 * MIB);
    blocks_all(before);
    n = exhaust(0, QUIRE_GFP_KERNEL);
    give_back(n, 0);
    quire_frame_drain();
    fill_pool();
    with = exhaust(0, QUIRE_GFP_KERNEL);
    assert_int_equal(with, n);
    assert_int_equal(zero_stats().free, 0);
    healthy();
    /* and while memory is short nothing is taken */
    assert_int_equal(quire_frame_zero_idle(10), 0);
    give_back(with, 0);
    quire_frame_drain();
    fill_pool();
    assert_true(zero_stats().free > 0);
    quire_frame_drain();
    assert_int_equal(zero_stats().free, 0);
    blocks_all(after);
    assert_memory_equal(before, after, sizeof before);
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        assert_int_equal(s.allocs, s.frees);
    healthy();
}

static void counts_add_up(void **state)
{
    struct quire_page *p[10];
    struct quire_zone_stats s;
    uint64_t used = 0;

    (void)state;
    machine(0, 64 * MIB);
    fill_pool();
    for (unsigned i = 0; i < 10; i++)
        p[i] = quire_page_alloc(0, MOVABLE_ZERO, ANY);
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        assert_int_equal(s.allocs - s.frees, s.managed - s.free - s.cached);
        used += s.allocs - s.frees;
    }
    assert_int_equal(used, 10);
    for (unsigned i = 0; i < 10; i++)
        quire_page_free(p[i], 0);
}

static void a_double_free_is_found_in_the_pool(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(0, 64 * MIB);
    p = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
    quire_page_free(p, 0);
    fill_pool(); /* what was freed last is what is taken first */
    assert_true(quire_page_flags_now(p) & QUIRE_PG_FREE);
    assert_true(HOSTED_EXPECT_PANIC(quire_page_free(p, 0)));
    assert_non_null(strstr(hosted_panic_text(), "double free"));
}

/* A frame of the pool that goes bad is never handed out. */
static void a_bad_frame_leaves_the_pool(void **state)
{
    struct quire_page *p, *bad;
    enum quire_status s;
    q_pfn pfn;
    size_t n;

    (void)state;
    machine(0, 64 * MIB);
    p = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
    pfn = quire_pfn_of_page(p);
    quire_page_free(p, 0);
    fill_pool();
    s = quire_frame_poison(pfn);
    assert_true(s == QUIRE_OK || s == QUIRE_BUSY);
    n = exhaust(0, MOVABLE_ZERO);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(quire_pfn_of_page(held[i]).v, pfn.v);
    bad = quire_page_of_pfn(pfn);
    assert_int_equal(quire_page_flags(pfn) & (QUIRE_PG_POISON | QUIRE_PG_RESERVED),
                     QUIRE_PG_POISON | QUIRE_PG_RESERVED);
    assert_int_equal(bad->refs, 1);
    give_back(n, 0);
    healthy();
}

/* A pageblock goes off line although frames of it were in the pool. */
static void a_pageblock_is_taken_from_the_pool(void **state)
{
    (void)state;
    machine(0, 64 * MIB);
    fill_pool();
    for (uint64_t b = 16; b < 31; b++) {
        assert_int_equal(quire_frame_offline(Q_PFN(b * 512), 512), QUIRE_OK);
        fill_pool();
    }
    for (uint64_t b = 16; b < 31; b++)
        assert_int_equal(quire_frame_online(Q_PFN(b * 512), 512), QUIRE_OK);
    healthy();
}

/* Each node clears its own, and a CPU takes those of its node. */
static void pools_are_of_nodes(void **state)
{
    static const uint8_t nodes[] = {0, 1};
    struct quire_zero_stats s;

    (void)state;
    map_start(256 * MIB);
    map_add(MIB, 127 * MIB, 0);
    map_add(128 * MIB, 128 * MIB, 1);
    boot(2, 2, nodes, NULL);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        hosted_cpu_set(cpu);
        fill_pool();
    }
    s = zero_stats();
    assert_in_range(s.free, s.target - s.target / 8, s.target);
    for (unsigned i = 0; i < 40; i++) {
        struct quire_page *p;

        hosted_cpu_set(i & 1);
        p = quire_page_alloc(0, MOVABLE_ZERO, ANY);
        assert_int_equal(quire_page_node(p), i & 1);
        quire_page_free(p, 0);
    }
    assert_int_equal(zero_stats().hits, 40);
    hosted_cpu_set(0);
    healthy();
}

/* An injected failure is not hidden by a frame at hand. */
static void failures_are_injected_before_the_pool(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(0, 64 * MIB);
    fill_pool();
    quire_frame_fail_after(1);
    assert_int_equal(quire_frame_zero_idle(10), 0);
    assert_null(quire_page_alloc(0, MOVABLE_ZERO, ANY));
    p = quire_page_alloc(0, MOVABLE_ZERO, ANY);
    assert_non_null(p);
    quire_page_free(p, 0);
    quire_frame_fail_after(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pool_holds_what_it_should),
        cmocka_unit_test(requests_for_zeroed_frames_get_them_first),
        cmocka_unit_test(the_pool_is_given_back_under_pressure),
        cmocka_unit_test(counts_add_up),
        cmocka_unit_test(a_double_free_is_found_in_the_pool),
        cmocka_unit_test(a_bad_frame_leaves_the_pool),
        cmocka_unit_test(a_pageblock_is_taken_from_the_pool),
        cmocka_unit_test(pools_are_of_nodes),
        cmocka_unit_test(failures_are_injected_before_the_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
