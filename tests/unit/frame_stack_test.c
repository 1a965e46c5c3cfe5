/*
 * frame_stack_test.c - each CPU's own lists: what they spare, what they keep, how large they are, and how
 * they are emptied for others.
 */
#include <frame_machine.h>

#include <frame/zone.h>

static struct qi_stack *stack(unsigned cpu, unsigned zone, unsigned kind, unsigned type)
{
    return qi_stack_of(&qi_frame_cpus[cpu], qi_zones[zone].place, kind, type);
}

static uint64_t locks(void)
{
    struct quire_zone_stats s;
    uint64_t n = 0;

    /* each report takes the lock too, but as often each time */
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        n += s.lock_acquisitions;
    return n;
}

static uint64_t lock_count(const struct qi_zone *z) { return z->locked; }

static uint64_t cached(void)
{
    struct quire_zone_stats s;
    uint64_t n = 0;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        n += s.cached;
    return n;
}

/* One node, CPUs, memory in one zone. */
static void machine_of(unsigned cpus, uint64_t bytes)
{
    hosted_cpu_set(0);
    map_start(16 * MIB + bytes);
    map_add(16 * MIB, bytes, 0);
    boot(1, cpus, NULL, NULL);
}

static void everything_is_back(void)
{
    quire_frame_drain();
    healthy();
    assert_int_equal(quire_free_pages(), quire_managed_pages());
    assert_int_equal(cached(), 0);
}

/* ---- What they spare ---- */

/* Two CPUs of two nodes take and give at random, and one frees half of what the other took; returns how
 * often a zone's lock was taken.  Each gets frames of its own node all the time. */
static uint64_t lock_takings(unsigned calls)
{
    static const uint8_t cpu_node[] = {0, 1};
    enum { HOLD = 256 };
    struct quire_page *mine[2][HOLD] = {{NULL}};
    uint64_t before;

    before = locks();
    for (unsigned i = 0; i < calls; i++) {
        unsigned cpu = i % 2, k = (unsigned)test_random_below(HOLD);
        struct quire_page **p = &mine[cpu][k];

        hosted_cpu_set(cpu);
        if (!*p) {
            *p = quire_page_alloc(0, QUIRE_GFP_USER, ANY);
            assert_non_null(*p);
            assert_int_equal(quire_page_node(*p), cpu_node[cpu]);
            continue;
        }
        hosted_cpu_set(test_random_below(4) ? cpu : !cpu);
        quire_page_free(*p, 0);
        *p = NULL;
    }
    before = locks() - before;
    for (unsigned i = 0; i < 2 * HOLD; i++)
        if (mine[i / HOLD][i % HOLD])
            quire_page_free(mine[i / HOLD][i % HOLD], 0);
    hosted_cpu_set(0);
    everything_is_back();
    return before;
}

/* With lists at most one call of thirty takes a lock, though a quarter of the frames is freed by the CPU
 * of the other node; without them every call does.
 * proves: AS-10 VE-36 VM-16 */
static void lists_spare_the_lock_and_stay_on_the_node(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    const unsigned calls = 40000;
    uint64_t with, without;

    (void)state;
    map_start(16 * MIB + 128 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    map_add(80 * MIB, 64 * MIB, 1);
    boot(2, 2, cpu_node, NULL);
    with = lock_takings(calls);
    quire_frame_fail_after(INT64_MAX); /* nothing is kept */
    without = lock_takings(calls);
    quire_frame_fail_after(-1);
    printf("# %u calls: %llu takings of a lock with lists, %llu without\n", calls,
           (unsigned long long)with, (unsigned long long)without);
    assert_true(with < calls / 30);
    assert_true(without >= calls);
}

/* ---- What they keep ---- */

/* Hot: what was freed last goes out first.  Cold: after all that is hot, or when it is asked for.
 * Leftover: the neighbours of a frame stay with the CPU that broke their word.
 * proves: AS-09 */
static void hot_cold_leftover(void **state)
{
    struct quire_page *p[3], *q, *first;
    struct qi_stack *hot;
    uint64_t before;
    unsigned n;

    (void)state;
    machine_of(2, 64 * MIB);
    hot = stack(0, 0, 0, QUIRE_UNMOVABLE);
    for (unsigned i = 0; i < 3; i++)
        p[i] = get(0);
    for (unsigned i = 0; i < 3; i++)
        quire_page_free(p[i], 0);
    for (unsigned i = 3; i-- > 0;)
        assert_ptr_equal(get(0), p[i]);

    quire_page_free_cold(p[0]);
    healthy();
    for (n = qi_stack_count(hot); n; n--)
        assert_ptr_not_equal(get(0), p[0]);
    quire_page_free_cold(p[1]);
    before = lock_count(&qi_zones[0]);
    q = quire_page_alloc(0, QUIRE_GFP_COLD, ANY);
    assert_ptr_equal(q, p[1]);
    assert_int_equal(q->refs, 1);
    quire_page_free(q, 0);
    assert_ptr_equal(get(0), p[1]); /* hot again */
    q = get(0);                     /* of the hot ones none is left */
    assert_int_equal(lock_count(&qi_zones[0]), before);
    healthy();

    machine_of(2, 64 * MIB);
    before = lock_count(&qi_zones[0]);
    first = get(0);
    hosted_cpu_set(1);
    q = get(0);
    assert_true(quire_pfn_of_page(q).v / 64 != quire_pfn_of_page(first).v / 64);
    hosted_cpu_set(0);
    for (unsigned i = 1; i < 64; i++)
        assert_int_equal(quire_pfn_of_page(get(0)).v / 64, quire_pfn_of_page(first).v / 64);
    assert_int_equal(lock_count(&qi_zones[0]), before + 2); /* one for each CPU */
    healthy();
}

/* Frees do not reach the blocks one by one: the bitmap stays as it is until a list is full; then at
 * least 32 frames are merged under one taking of the lock.
 * proves: X-08 */
static void merging_is_put_off(void **state)
{
    enum { N = 2048 };
    struct qi_zone *z = &qi_zones[0];
    uint64_t before, free, given = 0, times = 0;

    (void)state;
    machine_of(1, 64 * MIB);
    for (unsigned i = 0; i < N; i++)
        held[i] = get(0);
    quire_frame_drain();
    before = lock_count(z);
    free = z->free;
    for (unsigned i = 0; i < N; i++) {
        quire_page_free(held[i], 0);
        if (lock_count(z) == before) {
            assert_int_equal(z->free, free);
            continue;
        }
        assert_int_equal(lock_count(z), before + 1);
        assert_in_range(z->free - free, 32, 128);
        given += z->free - free;
        times++;
        before = lock_count(z);
        free = z->free;
    }
    assert_true(times > 0 && given / times >= 32);
    assert_true(given + 256 >= N); /* what is put off is bounded */
    everything_is_back();
}

/* ---- How large they are ---- */

/* Take n frames and give them back. */
static void swing(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        held[i] = get(0);
    give_back(n, 0);
}

/* Lists grow where frames swing, within the zone's share, and shrink where nothing happens; orders that have
 * any are 0 to 9, each within its own bounds.
 * proves: X-07 */
static void lists_follow_the_demand(void **state)
{
    struct qi_stack *s;
    uint64_t before, first, last;

    (void)state;
    machine_of(1, 256 * MIB);
    s = stack(0, 0, 0, QUIRE_UNMOVABLE);
    assert_in_range(s->want, 32, 255);
    before = lock_count(&qi_zones[0]);
    swing(250);
    first = lock_count(&qi_zones[0]) - before;
    for (unsigned i = 0; i < 20; i++) {
        swing(250);
        assert_in_range(s->want, 32, 256);
        assert_in_range(s->batch, 8, 64);
    }
    assert_int_equal(s->want, 256);
    before = lock_count(&qi_zones[0]);
    swing(250);
    last = lock_count(&qi_zones[0]) - before;
    assert_true(first > 2);
    assert_int_equal(last, 0); /* all of the swing is in the list by now */
    /* a stream of takings: larger batches, not a larger list */
    for (unsigned i = 0; i < 1000; i++)
        held[i] = get(0);
    assert_int_equal(s->batch, 64);
    give_back(1000, 0);
    healthy();

    /* used since: nothing happens; then half by half */
    quire_frame_age();
    before = qi_stack_count(s);
    assert_int_equal(s->want, 256);
    assert_true(before > 64);
    quire_frame_age();
    assert_in_range(qi_stack_count(s), before / 2 - 1, before / 2);
    for (unsigned i = 0; i < 10; i++)
        quire_frame_age();
    assert_int_equal(cached(), 0);
    assert_int_equal(s->want, 32);
    assert_int_equal(s->batch, 8);
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        struct quire_page *p = get(order);

        assert_true(qi_order_stacked(order) == (order <= 9));
        quire_page_free(p, order);
        p = get(order);
        before = lock_count(&qi_zones[0]);
        quire_page_free(p, order);
        assert_int_equal(lock_count(&qi_zones[0]) == before, qi_order_stacked(order));
    }
    everything_is_back();

    /* all CPUs together, of one type and order, no more than a 64th of the zone */
    for (unsigned cpus = 1; cpus <= 16; cpus *= 4)
        for (uint64_t mib = 16; mib <= 256; mib *= 4) {
            machine_of(cpus, mib * MIB);
            for (unsigned i = 0; i < 12; i++)
                swing(400);
            s = stack(0, 0, 0, QUIRE_UNMOVABLE);
            assert_true(s->want <= QI_MAX(mib * 256 / 64 / cpus, (uint64_t)2));
            assert_true(cached() <= 2u * s->want + 64);
            everything_is_back();
        }
}

/* A shortage made the lists small; whoever frees much then soon takes the lock as seldom as before it. */
static void lists_grow_in_a_stream_of_frees(void **state)
{
    struct qi_stack *s;
    uint64_t before;

    (void)state;
    machine_of(2, 256 * MIB);
    s = stack(0, 0, 0, QUIRE_UNMOVABLE);
    for (unsigned i = 0; i < 8192; i++)
        held[i] = get(0);
    for (unsigned i = 0; i < 10; i++)
        qi_frame_relieve();
    assert_int_equal(s->want, 32);
    before = lock_count(&qi_zones[0]);
    give_back(8192, 0);
    assert_int_equal(s->want, 256);
    /* 128 at a time, but for the first few */
    assert_in_range(lock_count(&qi_zones[0]) - before, 8192 / 128 - 2, 8192 / 128 + 2);
    everything_is_back();
}

/* Frames that CPU 0 holds in blocks of order 4 and up. */
static uint64_t in_blocks(void)
{
    uint64_t n = 0;

    for (unsigned k = QI_STACK_SMALL; k < QI_STACK_COLD; k++)
        for (unsigned t = 0; t < QI_STACK_TYPES; t++)
            n += (uint64_t)qi_stack_count(stack(0, 0, k, t)) << k;
    return n;
}

/* When memory is short a CPU holds back no more than a few frames at once. */
static void nothing_is_hoarded_when_memory_is_short(void **state)
{
    size_t n = 0;

    (void)state;
    machine_of(1, 64 * MIB);
    for (unsigned i = 0; i < 20; i++)
        swing(250);
    while (zone_stats(0).free > zone_stats(0).wmark_low)
        held[n++] = get(0);
    quire_frame_drain();
    while (zone_stats(0).free > zone_stats(0).wmark_low)
        held[n++] = get(0), quire_frame_drain();
    held[n++] = get(0);
    assert_true(cached() < 8);
    /* a larger block that comes back now is free for all with the next ordinary request */
    quire_page_free(quire_page_alloc(4, QUIRE_GFP_MEMALLOC, ANY), 4);
    assert_int_equal(in_blocks(), 16);
    for (unsigned i = 0; i < 10; i++) { /* until single frames are used up */
        held[n] = quire_page_alloc(0, QUIRE_GFP_KERNEL, ANY);
        assert_non_null(held[n++]);
    }
    assert_int_equal(in_blocks(), 0);
    give_back(n, 0);
    everything_is_back();
}

/* ---- Order 9 ---- */

/* A pair of 2 MiB takes no lock and writes no struct page but the head. */
static void whole_blocks_go_out_as_they_came(void **state)
{
    struct quire_page *p, *tails, before[511];
    uint64_t taken;

    (void)state;
    machine_of(1, 256 * MIB);
    p = get(9);
    tails = p + 1;
    quire_page_free(p, 9);
    healthy();
    assert_int_equal(cached(), 512);
    assert_int_equal(quire_page_flags(quire_pfn_of_page(p)) & 0xffffu, QUIRE_PG_FREE);
    assert_int_equal(quire_page_flags(quire_pfn_of_page(tails + 77)) & 0xffffu, QUIRE_PG_FREE);
    for (unsigned i = 1; i < 511; i++) { /* the first has what is attached to the block */
        before[i] = tails[i];
        tails[i].owner = 0x5a5a; /* whoever writes the tails writes this too */
    }
    taken = lock_count(&qi_zones[0]);
    for (unsigned i = 0; i < 1000; i++) {
        assert_ptr_equal(get(9), p);
        assert_int_equal(quire_page_order(p), 9);
        assert_int_equal(p->refs, 1);
        quire_page_free(p, 9);
        PANICS(quire_page_free(p, 9), "double free");
    }
    assert_int_equal(lock_count(&qi_zones[0]), taken);
    for (unsigned i = 1; i < 511; i++) {
        assert_int_equal(tails[i].owner, 0x5a5a);
        tails[i] = before[i];
    }
    everything_is_back();
}

/* No more of them than a 64th of the zone, and none in a small one. */
static void whole_blocks_are_not_hoarded(void **state)
{
    (void)state;
    for (unsigned mib = 64; mib <= 512; mib *= 2) {
        unsigned n = mib / 4, most = mib / 2 / 64;

        machine_of(1, mib * MIB);
        for (unsigned round = 0; round < 5; round++) {
            for (unsigned i = 0; i < n; i++)
                held[i] = get(9);
            give_back(n, 9);
            healthy();
            assert_true(cached() / 512 <= most);
        }
        /* and they are there for whoever needs more than 2 MiB, or less */
        n = (unsigned)exhaust(10, QUIRE_GFP_MEMALLOC);
        assert_true(n >= mib / 4 - 2);
        give_back(n, 10);
        everything_is_back();
    }
}

/* A bad frame in a 2 MiB block that is cached here goes at once; elsewhere when it comes out. */
static void a_cached_whole_block_with_a_bad_frame(void **state)
{
    struct quire_page *p, *q;
    q_pfn bad;

    (void)state;
    for (unsigned at = 0; at < 512; at += 73)
        for (unsigned way = 0; way < 3; way++) {
            machine_of(2, 512 * MIB);
            p = get(9);
            bad = Q_PFN(quire_pfn_of_page(p).v + at);
            quire_page_free(p, 9);
            hosted_cpu_set(way ? 1 : 0);
            assert_int_equal(quire_frame_poison(bad), way ? QUIRE_BUSY : QUIRE_OK);
            if (way)
                assert_int_equal(quire_frame_poison(bad), QUIRE_EXISTS);
            healthy();
            hosted_cpu_set(0);
            if (way == 1) {
                quire_frame_drain_local();
            } else {
                q = get(9);
                assert_ptr_not_equal(q, p);
                quire_page_free(q, 9);
            }
            quire_frame_drain();
            healthy();
            assert_int_equal(quire_page_flags(bad) & 0xffffu, QUIRE_PG_POISON | QUIRE_PG_RESERVED);
            assert_int_equal(zone_stats(0).poisoned, 1);
            assert_int_equal(quire_free_pages(), quire_managed_pages());
        }
}

/* ---- For others ---- */

static void fill_lists_of_cpu(unsigned cpu)
{
    struct quire_page *p[40];

    hosted_cpu_set(cpu);
    for (unsigned i = 0; i < 40; i++)
        p[i] = get(i % 10);
    for (unsigned i = 0; i < 40; i++)
        quire_page_free(p[i], quire_page_order(p[i]));
    hosted_cpu_set(0);
}

static uint64_t cached_by(unsigned cpu)
{
    uint64_t n = 0;

    for (unsigned k = 0; k < QI_STACK_KINDS; k++)
        for (unsigned t = 0; t < QI_STACK_TYPES; t++)
            n += (uint64_t)qi_stack_count(stack(cpu, 0, k, t)) << stack(cpu, 0, k, t)->order;
    return n;
}

/* Who is asked gives all back at his next free or when a list of his is empty, once, and has lists again. */
static void lists_are_emptied_on_demand(void **state)
{
    struct quire_page *p;
    uint64_t taken;

    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        machine_of(3, 512 * MIB);
        fill_lists_of_cpu(1);
        hosted_cpu_set(1);
        p = get(0);
        hosted_cpu_set(0);
        quire_page_free(get(0), 0);
        assert_true(cached_by(1) > 512);
        quire_frame_drain_ask();
        assert_true(cached_by(0) > 0);
        assert_true(cached_by(1) > 512);
        healthy();
        hosted_cpu_set(1);
        if (way == 0) {
            quire_page_free(p, 0);
        } else if (way == 1) {
            quire_frame_drain_local();
            quire_page_free(p, 0);
        } else {
            quire_page_free(quire_page_alloc(2, QUIRE_GFP_RECLAIMABLE, ANY), 2);
            quire_page_free(p, 0);
        }
        assert_true(cached_by(1) <= 1 + (way == 2 ? 16u : 0u));
        healthy();
        quire_page_free(get(0), 0);
        taken = lock_count(&qi_zones[0]);
        for (unsigned i = 0; i < 100; i++)
            quire_page_free(get(0), 0);
        assert_int_equal(lock_count(&qi_zones[0]), taken);
        hosted_cpu_set(0);
        everything_is_back();
    }
}

/* A CPU that closes a list after its owner was served does no harm but one free on the slow way. */
static void a_list_closed_too_late_opens_again(void **state)
{
    struct qi_stack *s;
    uint64_t taken;

    (void)state;
    machine_of(1, 64 * MIB);
    quire_page_free(get(0), 0);
    s = stack(0, 0, 0, QUIRE_UNMOVABLE);
    s->end = s->base;
    taken = lock_count(&qi_zones[0]);
    quire_page_free(get(0), 0);
    assert_ptr_equal(s->end, s->base + s->want);
    assert_int_equal(lock_count(&qi_zones[0]), taken);
    everything_is_back();
}

/* A request that fails for what others hold back succeeds when they have given it back. */
static void what_is_missing_comes_back(void **state)
{
    struct quire_page *p, *one;
    size_t n = 0;

    (void)state;
    machine_of(2, 64 * MIB);
    hosted_cpu_set(1);
    one = get(0);
    for (unsigned i = 0; i < 30; i++)
        held[n++] = get(0);
    give_back(n, 0);
    assert_true(cached_by(1) >= 30);
    hosted_cpu_set(0);
    n = exhaust(0, QUIRE_GFP_MEMALLOC);
    assert_null(quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY));
    hosted_cpu_set(1);
    quire_page_free(one, 0);
    hosted_cpu_set(0);
    p = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY);
    assert_non_null(p);
    quire_page_free(p, 0);
    give_back(n, 0);
    everything_is_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_spare_the_lock_and_stay_on_the_node),
        cmocka_unit_test(hot_cold_leftover),
        cmocka_unit_test(merging_is_put_off),
        cmocka_unit_test(lists_follow_the_demand),
        cmocka_unit_test(lists_grow_in_a_stream_of_frees),
        cmocka_unit_test(nothing_is_hoarded_when_memory_is_short),
        cmocka_unit_test(whole_blocks_go_out_as_they_came),
        cmocka_unit_test(whole_blocks_are_not_hoarded),
        cmocka_unit_test(a_cached_whole_block_with_a_bad_frame),
        cmocka_unit_test(lists_are_emptied_on_demand),
        cmocka_unit_test(a_list_closed_too_late_opens_again),
        cmocka_unit_test(what_is_missing_comes_back),
    };

    test_seed("frame_stack_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
