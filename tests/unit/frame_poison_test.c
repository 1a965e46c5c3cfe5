/*
 * frame_poison_test.c - frames that the hardware calls bad: out at once, or when they come back, and
 * nothing else with them.
 */
#include <frame_mover.h>
#include <frame_traffic.h>

#include <frame/zone.h>

#define BAD (QUIRE_PG_POISON | QUIRE_PG_RESERVED)

static uint64_t managed_at_boot;

static uint32_t kind(const struct quire_page *p)
{
    return quire_page_flags(quire_pfn_of_page(p)) & 0xffffu;
}

static enum quire_status poison(const struct quire_page *p)
{
    return quire_frame_poison(quire_pfn_of_page(p));
}

/* Take all there is, frame by frame: p is not among it, everything else is. */
static void all_but(const struct quire_page *p, unsigned bad)
{
    uint64_t n = 0, managed = quire_managed_pages();

    healthy();
    assert_int_equal(zone_stats(0).poisoned, bad);
    assert_int_equal(managed, managed_at_boot - bad);
    assert_int_equal(kind(p), BAD);
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY)))
        assert_ptr_not_equal(held[n++], p);
    assert_int_equal(n, managed);
    healthy();
    while (n)
        quire_page_free(held[--n], 0);
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_free_pages(), managed);
    assert_int_equal(kind(p), BAD);
}

static int setup(void **state)
{
    (void)state;
    map_start(32 * MIB);
    map_add(16 * MIB, 16 * MIB, 0);
    boot(1, 2, NULL, NULL);
    managed_at_boot = quire_managed_pages();
    return 0;
}

/* A frame of memory that nobody has touched, in a run of every order. */
static void a_free_frame_goes_at_once(void **state)
{
    uint64_t first = 16 * MIB / QUIRE_PAGE_SIZE, managed = quire_managed_pages();
    unsigned bad = 0;

    (void)state;
    for (uint64_t at = 1; at < 4000; at = at * 2 + 1) {
        assert_int_equal(quire_frame_poison(Q_PFN(first + at)), QUIRE_OK);
        assert_int_equal(quire_managed_pages(), managed - ++bad);
        assert_int_equal(quire_free_pages(), managed - bad);
        assert_int_equal(quire_frame_poison(Q_PFN(first + at)), QUIRE_EXISTS);
        healthy();
    }
    for (uint64_t at = 1; at < 4000; at = at * 2 + 1)
        all_but(quire_page_of_pfn(Q_PFN(first + at)), bad);
}

static void what_is_no_frame_cannot_be_bad(void **state)
{
    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 16 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(20 * MIB), 3 * MIB, "test", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    assert_int_equal(quire_frame_poison(Q_PFN(0)), QUIRE_INVALID);
    assert_int_equal(quire_frame_poison(Q_PFN(32 * MIB / QUIRE_PAGE_SIZE)), QUIRE_INVALID);
    assert_int_equal(quire_frame_poison(Q_PFN(UINT64_MAX)), QUIRE_INVALID);
    assert_int_equal(quire_frame_poison(Q_PFN(20 * MIB / QUIRE_PAGE_SIZE)), QUIRE_INVALID);
    assert_int_equal(quire_frame_poison(Q_PFN(23 * MIB / QUIRE_PAGE_SIZE - 1)), QUIRE_INVALID);
    assert_int_equal(zone_stats(0).poisoned, 0);
    healthy();
}

/* Every frame of a block of every order, while it is held. */
static void a_held_frame_goes_when_it_is_freed(void **state)
{
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++)
        for (uint64_t at = 0; at < 1ull << order; at += at + 1) {
            struct quire_page *p;
            uint64_t managed;
            struct quire_block_info info;

            setup(state);
            managed = quire_managed_pages();
            p = get(order);
            assert_int_equal(poison(p + at), QUIRE_OK);
            assert_int_equal(poison(p + at), QUIRE_EXISTS);
            assert_true(kind(p + at) & QUIRE_PG_POISON);
            assert_int_equal(quire_managed_pages(), managed);
            assert_int_equal(
                quire_block_info(quire_pfn_of_page(p).v / QI_BLOCK_FRAMES + at / QI_BLOCK_FRAMES,
                                 &info),
                QUIRE_OK);
            assert_int_equal(info.poisoned, 1);
            healthy();
            if (at % 3) {
                quire_page_get(p);
                quire_page_put(p);
                quire_page_put(p);
            } else {
                quire_page_free(p, order);
            }
            assert_int_equal(quire_managed_pages(), managed - 1);
            assert_int_equal(quire_free_pages(), managed - 1);
            all_but(p + at, 1);
        }
}

static void the_mark_survives_a_split(void **state)
{
    struct quire_page *p = get(5), *all[32];

    (void)state;
    assert_int_equal(poison(p), QUIRE_OK);
    assert_int_equal(poison(p + 21), QUIRE_OK);
    quire_page_split(p);
    for (unsigned i = 0; i < 32; i++) {
        all[i] = p + i;
        assert_int_equal(kind(p + i), i == 0 || i == 21 ? QUIRE_PG_POISON : 0);
    }
    quire_page_free_bulk(32, all);
    all_but(p, 2);
    all_but(p + 21, 2);
}

/* In the stacks of this CPU, of every order. */
static void a_cached_frame_of_this_cpu_goes_at_once(void **state)
{
    for (unsigned order = 0; order < QI_STACK_SMALL; order++)
        for (unsigned at = 0; at < 1u << order; at++) {
            struct quire_page *p;

            setup(state);
            p = get(order);
            quire_page_free(p, order);
            assert_true(zone_stats(0).cached > 0);
            assert_int_equal(poison(p + at), QUIRE_OK);
            assert_int_equal(kind(p + at), BAD);
            all_but(p + at, 1);
        }
}

/* In the stacks of another CPU, which finds out when it takes it, or gives it to the zone. */
static void a_cached_frame_of_another_cpu_goes_when_it_moves(void **state)
{
    for (unsigned order = 0; order < QI_STACK_SMALL; order++)
        for (unsigned way = 0; way < 3; way++) {
            struct quire_page *p, *q, *out[8];

            setup(state);
            p = get(order);
            quire_page_free(p, order);
            hosted_cpu_set(1);
            assert_int_equal(poison(p + order), QUIRE_BUSY);
            assert_int_equal(poison(p + order), QUIRE_EXISTS);
            healthy();
            hosted_cpu_set(0);
            if (way == 0) {
                quire_frame_drain();
            } else if (way == 1) {
                q = get(order);
                assert_true(p + order < q || p + order >= q + (1u << order));
                quire_page_free(q, order);
            } else if (order == 0) {
                assert_int_equal(quire_page_alloc_bulk(8, out, 0, ANY), 8);
                for (unsigned i = 0; i < 8; i++)
                    assert_ptr_not_equal(out[i], p);
                quire_page_free_bulk(8, out);
            } else {
                q = quire_page_alloc_zone(QUIRE_ZONE_DMA32, order, 0, 0);
                assert_true(p + order < q || p + order >= q + (1u << order));
                quire_page_free(q, order);
            }
            assert_int_equal(kind(p + order), BAD);
            all_but(p + order, 1);
        }
}

/* A frame that goes at once does not hide one that has yet to go. */
static void one_in_use_beside_one_cached(void **state)
{
    struct quire_page *block = get(3), *p = get(0);

    (void)state;
    assert_int_equal(poison(block + 5), QUIRE_OK);
    quire_page_free(p, 0);
    assert_int_equal(poison(p), QUIRE_OK);
    quire_page_free(block, 3);
    all_but(p, 2);
    all_but(block + 5, 2);
}

static void nothing_is_counted_twice(void **state)
{
    struct quire_zone_stats s;

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        struct quire_page *p = get(i % 6);

        if (i % 2)
            assert_int_equal(poison(p + i % 3 % (1u << i % 6)), QUIRE_OK);
        quire_page_free(p, i % 6);
    }
    s = zone_stats(0);
    assert_int_equal(s.allocs, s.frees);
    assert_int_equal(s.poisoned, 20);
    assert_int_equal(s.free + s.cached, s.managed);
    quire_frame_drain();
    healthy();
}

/* ---- Beside other CPUs ---- */

static uint8_t bad[16 * MIB / QUIRE_PAGE_SIZE]; /* withheld, as its finder read */

static unsigned number(const struct quire_page *p)
{
    return (unsigned)(quire_pfn_of_page(p).v - 16 * MIB / QUIRE_PAGE_SIZE);
}

static bool is_gone(const struct quire_page *p)
{
    return __atomic_load_n(&bad[number(p)], __ATOMIC_ACQUIRE);
}

/* What was withheld while others work stays away from them, and nothing else does. */
static void poison_beside_traffic(void **state)
{
    uint64_t managed;

    (void)state;
    map_start(32 * MIB);
    map_add(16 * MIB, 16 * MIB, 0);
    boot(1, 4, NULL, NULL);
    managed = quire_managed_pages();
    traffic_start(is_gone, 7);
    for (unsigned i = 0; i < 200; i++) {
        struct quire_page *p =
            quire_page_of_pfn(Q_PFN(16 * MIB / QUIRE_PAGE_SIZE + i * 2654435761u % 1500));

        quire_frame_poison(quire_pfn_of_page(p));
        if (kind(p) == BAD)
            __atomic_store_n(&bad[number(p)], 1, __ATOMIC_RELEASE);
    }
    traffic_end();
    quire_frame_drain();
    healthy();
    assert_true(zone_stats(0).poisoned > 0);
    assert_int_equal(quire_free_pages() + zone_stats(0).poisoned, managed);
    assert_int_equal(quire_free_pages(), quire_managed_pages());
}

/* ---- verify ---- */

static void verify_counts_them(void **state)
{
    struct quire_page *p = get(0);

    (void)state;
    quire_page_free(p, 0);
    assert_int_equal(poison(p), QUIRE_OK);
    healthy();
    qi_zones[0].poisoned++;
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), "F6"));
    qi_zones[0].poisoned--;
    p->flags &= ~QUIRE_PG_POISON;
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    p->flags |= QUIRE_PG_POISON;
    healthy();
}

/* ---- With time ---- */

static void a_frame_in_use_is_moved_and_withheld(void **state)
{
    struct movable *m, *pinned;
    struct quire_page *was;
    unsigned bad = 0;

    (void)state;
    nmovables = 0;
    quire_frame_set_mover(movables_move);
    for (unsigned order = 0; order <= QI_BLOCK_ORDER; order += 3)
        for (unsigned i = 0; i < 3; i++) {
            m = movable_new(order);
            assert_non_null(m);
            was = m->page + test_random_below(1u << order);
            assert_int_equal(quire_frame_soft_offline(quire_pfn_of_page(was)), QUIRE_OK);
            assert_int_equal(kind(was), BAD);
            assert_true(was < m->page || was >= m->page + (1u << order));
            assert_int_equal(zone_stats(0).poisoned, ++bad);
            assert_int_equal(quire_frame_poisoned_pages(), bad);
            assert_int_equal(quire_frame_soft_offline(quire_pfn_of_page(was)), QUIRE_EXISTS);
            healthy();
            movables_check();
        }
    pinned = movable_new(2);
    pinned->pinned = true;
    assert_int_equal(quire_frame_soft_offline(quire_pfn_of_page(pinned->page)), QUIRE_BUSY);
    assert_int_equal(zone_stats(0).poisoned, bad);
    assert_int_equal(kind(pinned->page), QUIRE_PG_HEAD);
    assert_int_equal(quire_frame_soft_offline(Q_PFN(1)), QUIRE_INVALID);
    movables_check();
    movables_free();
    all_but(was, bad);
}

static void a_frame_can_be_good_after_all(void **state)
{
    struct quire_page *free = get(0), *used = get(3), *other;

    (void)state;
    quire_page_free(free, 0);
    assert_int_equal(quire_frame_unpoison(quire_pfn_of_page(free)), QUIRE_INVALID);
    assert_int_equal(quire_frame_soft_offline(quire_pfn_of_page(free)), QUIRE_OK);
    assert_int_equal(poison(used + 5), QUIRE_OK);
    assert_int_equal(quire_frame_poisoned_pages(), 2);
    assert_int_equal(quire_frame_unpoison(quire_pfn_of_page(free)), QUIRE_OK);
    assert_int_equal(quire_frame_unpoison(quire_pfn_of_page(used + 5)), QUIRE_OK);
    assert_int_equal(quire_frame_poisoned_pages(), 0);
    assert_int_equal(quire_frame_unpoison(quire_pfn_of_page(free)), QUIRE_INVALID);
    assert_int_equal(quire_frame_unpoison(Q_PFN(1)), QUIRE_INVALID);
    quire_page_free(used, 3);
    /* marked, then withheld when it came back, then good */
    other = get(2);
    assert_int_equal(poison(other + 1), QUIRE_OK);
    quire_page_free(other, 2);
    assert_int_equal(kind(other + 1), BAD);
    assert_int_equal(quire_frame_unpoison(quire_pfn_of_page(other + 1)), QUIRE_OK);
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_managed_pages(), managed_at_boot);
    assert_int_equal(quire_free_pages(), managed_at_boot);
    exhaust_every_order();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_free_frame_goes_at_once, setup),
        cmocka_unit_test(what_is_no_frame_cannot_be_bad),
        cmocka_unit_test(a_held_frame_goes_when_it_is_freed),
        cmocka_unit_test_setup(the_mark_survives_a_split, setup),
        cmocka_unit_test(a_cached_frame_of_this_cpu_goes_at_once),
        cmocka_unit_test(a_cached_frame_of_another_cpu_goes_when_it_moves),
        cmocka_unit_test_setup(one_in_use_beside_one_cached, setup),
        cmocka_unit_test_setup(nothing_is_counted_twice, setup),
        cmocka_unit_test(poison_beside_traffic),
        cmocka_unit_test_setup(verify_counts_them, setup),
        cmocka_unit_test_setup(a_frame_in_use_is_moved_and_withheld, setup),
        cmocka_unit_test_setup(a_frame_can_be_good_after_all, setup),
    };

    test_seed("frame_poison_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
