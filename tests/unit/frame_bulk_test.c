/*
 * frame_bulk_test.c - arrays of frames: the same as single ones, whatever their length and whatever is in
 * them, and the same reports of what is wrong.
 */
#include <frame_machine.h>

#include <frame/zone.h>

enum { MOST = 3000 };

static struct quire_page *array[MOST];

static void fresh(const struct quire_page *p)
{
    assert_int_equal(p->refs, 1);
    assert_int_equal(p->maps, 0);
    assert_int_equal(p->owner, 0);
    assert_int_equal(p->flags & 0xffffu, 0);
}

/* All different, and made as single ones are. */
static void take(size_t n, quire_gfp gfp)
{
    memset(owned, 0, sizeof owned);
    assert_int_equal(quire_page_alloc_bulk(n, array, gfp, ANY), n);
    for (size_t i = 0; i < n; i++) {
        uint64_t pfn = quire_pfn_of_page(array[i]).v;

        fresh(array[i]);
        assert_false(owned[pfn]);
        owned[pfn] = 1;
        array[i]->owner = 77;
    }
}

static void shuffle(size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = test_random_below(i);
        struct quire_page *t = array[i - 1];

        array[i - 1] = array[j];
        array[j] = t;
    }
}

static void all_back(void)
{
    healthy();
    assert_int_equal(quire_free_pages(), quire_managed_pages());
}

/* Every length around the groups and the lists, several times, so that lists are met empty, full and in
 * between; in order and not. */
static void of_every_length(void **state)
{
    (void)state;
    machine(16 * MIB, 64 * MIB);
    for (unsigned round = 0; round < 6; round++)
        for (size_t n = 0; n < MOST; n += n < 140 ? 1 : 211) {
            take(n, round & 1 ? QUIRE_GFP_USER : QUIRE_GFP_KERNEL);
            if (round & 2)
                shuffle(n);
            quire_page_free_bulk(n, array);
            if (n % 16 == 0)
                all_back();
        }
    all_back();
    quire_frame_drain();
    all_back();
}

/* Zones, types, flags of the user and counts may be mixed in one array. */
static void of_every_kind(void **state)
{
    static const quire_gfp kinds[] = {
        QUIRE_GFP_KERNEL, QUIRE_GFP_USER,  QUIRE_GFP_RECLAIMABLE,
        QUIRE_GFP_DMA,    QUIRE_GFP_DMA32, QUIRE_GFP_DMA32 | QUIRE_GFP_MOVABLE,
    };

    (void)state;
    map_start(5 * GIB);
    map_add(MIB, 63 * MIB, 0);
    map_add(4 * GIB, 64 * MIB, 0);
    boot(1, 1, NULL, NULL);
    for (unsigned round = 0; round < 200; round++) {
        size_t n = 0, end = test_random_below(600);

        while (n < end) {
            size_t k = 1 + test_random_below(round % 2 ? 3 : 40), got;

            k = QI_MIN(k, end - n);
            got =
                quire_page_alloc_bulk(k, array + n, kinds[test_random_below(QI_COUNT(kinds))], ANY);
            assert_int_equal(got, k);
            n += k;
        }
        if (round % 3)
            shuffle(n);
        for (size_t i = 0; i < n; i++) {
            fresh(array[i]);
            if (test_random_below(8) == 0)
                array[i]->flags |= QUIRE_PG_ANON | QUIRE_PG_UPTODATE;
            if (test_random_below(8) == 0)
                array[i]->refs = 0; /* dropped by the caller */
        }
        quire_page_free_bulk(n, array);
        all_back();
    }
}

/* One of an array is not the caller's to free: the report has its values as they are, and says which it
 * is, wherever it stands. */
static void the_culprit_is_named(void **state)
{
    struct quire_page *p, *free;
    char text[96];

    (void)state;
    for (volatile unsigned n = 1; n < 40; n += 3)
        for (volatile unsigned at = 0; at < n; at++) { /* volatile: a panic jumps back */
            machine(16 * MIB, 64 * MIB);
            free = get(0);
            quire_page_free(free, 0);
            take(n, 0);
            p = array[at];

            p->counts = QUIRE_PAGE_ONE_MAPPING;
            p->flags |= QUIRE_PG_DIRTY;
            snprintf(text, sizeof text, "still mapped: pfn %#lx flags %#x refs 1 maps 1",
                     (unsigned long)quire_pfn_of_page(p).v, p->flags);
            PANICS(quire_page_free_bulk(n, array), text);

            machine(16 * MIB, 64 * MIB);
            take(n, 0);
            array[at]->refs = 3;
            PANICS(quire_page_free_bulk(n, array), "others hold");

            machine(16 * MIB, 64 * MIB);
            take(n, 0);
            array[at] = get(2) + 1;
            PANICS(quire_page_free_bulk(n, array), "free of a tail");

            machine(16 * MIB, 64 * MIB);
            take(n, 0);
            quire_page_free(array[at], 0);
            PANICS(quire_page_free_bulk(n, array), "double free");
        }
}

/* Twice in the array, near or far: the second is a double free.
 * proves: TRAP-3 */
static void twice_in_an_array(void **state)
{
    (void)state;
    for (unsigned n = 2; n < 40; n += 5)
        for (unsigned at = 0; at < n; at++)
            for (unsigned to = 0; to < n; to++) {
                if (at == to)
                    continue;
                machine(16 * MIB, 32 * MIB);
                take(n, 0);
                array[at] = array[to];
                PANICS(quire_page_free_bulk(n, array), "double free");
            }
}

/* n frames, and the list that they belong in is closed: so they go to the blocks. */
static void take_closed(size_t n)
{
    struct qi_stack *s;

    machine(16 * MIB, 32 * MIB);
    take(n, 0);
    s = qi_stack_of(&qi_frame_cpus[0], qi_zones[0].place, 0, QUIRE_UNMOVABLE);
    s->end = s->base;
}

/* An array that passes the lists is looked at no less, in order and not; nor is what comes from the blocks.
 * proves: TRAP-3 */
static void long_arrays_are_checked_as_well(void **state)
{
    enum { N = 150 };

    (void)state;
    for (volatile unsigned at = 0; at < N; at += 7) /* volatile: a panic jumps back */
        for (volatile unsigned way = 0; way < 2; way++) {
            struct quire_page *p;

            take_closed(N);
            quire_page_free_bulk(N, array);
            assert_true(zone_stats(0).cached < N);
            all_back();

            take_closed(N);
            if (way)
                shuffle(N);
            array[at]->refs = 2;
            PANICS(quire_page_free_bulk(N, array), "others hold");
            take_closed(N);
            if (way)
                shuffle(N);
            array[at] = array[(at + 1 + test_random_below(N - 1)) % N];
            PANICS(quire_page_free_bulk(N, array), "double free");

            take_closed(N);
            p = array[at];
            quire_page_free_bulk(N, array);
            quire_frame_drain();
            if (way)
                p->flags &= ~QUIRE_PG_FREE;
            else
                p->maps = 1;
            PANICS(quire_page_alloc_bulk(N, array, 0, ANY), way ? "written to" : "maps 1");
        }
}

/* A frame that was damaged while it was free stops the array that it would go out with; a bad one is left
 * out of it. */
static void unfit_frames_do_not_go_out(void **state)
{
    struct quire_page *p;

    (void)state;
    for (volatile unsigned depth = 0; depth < 30; depth++) { /* a panic jumps back */
        machine(16 * MIB, 64 * MIB);
        take(30, 0);
        quire_page_free_bulk(30, array);
        p = array[depth];
        p->maps = 1;
        PANICS(quire_page_alloc_bulk(30, array, 0, ANY), "maps 1");

        map_start(80 * MIB);
        map_add(16 * MIB, 64 * MIB, 0);
        boot(1, 2, NULL, NULL);
        hosted_cpu_set(0);
        take(30, 0);
        quire_page_free_bulk(30, array);
        p = array[depth];
        hosted_cpu_set(1);
        assert_int_equal(quire_frame_poison(quire_pfn_of_page(p)), QUIRE_BUSY);
        hosted_cpu_set(0);
        take(30, 0);
        for (unsigned i = 0; i < 30; i++)
            assert_ptr_not_equal(array[i], p);
        assert_int_equal(zone_stats(0).poisoned, 1);
        quire_page_free_bulk(30, array);
        all_back();
    }
}

/* What is more than the lists should hold goes to the blocks and comes from there, with one taking of the
 * lock for many frames. */
static void large_arrays_pass_the_lists(void **state)
{
    uint64_t before, cached, single;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    single = blocks_of(0); /* beside what the allocator keeps for itself */
    before = qi_zones[0].locked;
    take(2048, QUIRE_GFP_USER);
    assert_true(qi_zones[0].locked - before <= 2048 / 128);
    before = qi_zones[0].locked;
    quire_page_free_bulk(2048, array);
    assert_true(qi_zones[0].locked - before <= 2048 / 128);
    cached = zone_stats(0).cached;
    assert_in_range(cached, 0, 256);
    all_back();
    assert_int_equal(quire_page_alloc_bulk(MOST, array, 0, ANY), MOST);
    quire_page_free_bulk(MOST, array);
    quire_frame_drain();
    assert_int_equal(blocks_of(0), single); /* and merges there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_every_length),
        cmocka_unit_test(of_every_kind),
        cmocka_unit_test(the_culprit_is_named),
        cmocka_unit_test(twice_in_an_array),
        cmocka_unit_test(long_arrays_are_checked_as_well),
        cmocka_unit_test(unfit_frames_do_not_go_out),
        cmocka_unit_test(large_arrays_pass_the_lists),
    };

    test_seed("frame_bulk_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
