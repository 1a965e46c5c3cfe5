/*
 * kmap_test.c - temporary mappings of pages beyond the direct map: the library built with QUIRE_DIRECT_LIMIT
 * 896 MiB and 16 slots.
 */
#include <frame_machine.h>

#include <pthread.h>

#include <quire/kva.h>

#define LIMIT (896 * MIB)
#define SLOTS 16u

_Static_assert(QUIRE_DIRECT_LIMIT == LIMIT && QUIRE_KMAP_SLOTS == SLOTS, "built with the options");

static struct quire_page *pages[64];

static int setup(void **state)
{
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 4};

    (void)state;
    map_start(LIMIT + 64 * MIB);
    map_add(MIB, LIMIT + 63 * MIB, 0);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    quire_kmap_init();
    for (unsigned i = 0; i < 64; i++) {
        pages[i] = quire_page_alloc(0, QUIRE_GFP_HIGHMEM, ANY);
        assert_true(quire_pa_of_page(pages[i]).v >= LIMIT);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(hosted_frames_mapped, 0);
    for (unsigned i = 0; i < 64; i++)
        quire_page_free(pages[i], 0);
    healthy();
    hosted_fini();
    return 0;
}

/* A page keeps what is written through any of its addresses; up to 16 deep, each its own. */
/* proves: LX-06 LX-07 */
static void local_maps_are_a_stack(void **state)
{
    unsigned *at[QUIRE_KMAP_DEPTH];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < QUIRE_KMAP_DEPTH; i++) {
            at[i] = quire_kmap_local(pages[i]);
            for (unsigned k = 0; k < i; k++)
                assert_ptr_not_equal(at[i], at[k]);
            if (round)
                assert_int_equal(*at[i], i + 1000);
            *at[i] = i + 1000;
        }
        assert_int_equal(hosted_frames_mapped, QUIRE_KMAP_DEPTH);
        for (unsigned i = QUIRE_KMAP_DEPTH; i-- > 0;)
            quire_kunmap_local((char *)at[i] + i); /* anywhere in it */
        assert_int_equal(hosted_frames_mapped, 0);
    }
}

/* A page of the direct map has its own address, and needs no slot, whatever the order. */
static void low_pages_are_where_they_are(void **state)
{
    struct quire_page *low = quire_page_alloc(0, QUIRE_GFP_KERNEL, ANY);
    void *high;

    (void)state;
    assert_ptr_equal(quire_kmap_local(low), quire_page_ptr(low));
    high = quire_kmap_local(pages[0]);
    quire_kunmap_local(quire_page_ptr(low));
    quire_kunmap_local(high);
    assert_ptr_equal(quire_kmap(low), quire_page_ptr(low));
    quire_kunmap(low);
    quire_kunmap(low);
    quire_page_free(low, 0);
}

/* proves: LX-07 */
static void the_order_is_checked(void **state)
{
    void *a = quire_kmap_local(pages[0]), *b = quire_kmap_local(pages[1]);

    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(quire_kunmap_local(a)));
    assert_non_null(strstr(hosted_panic_text(), "not the last mapped"));
    quire_kunmap_local(b);
    quire_kunmap_local(a);
    assert_true(HOSTED_EXPECT_PANIC(quire_kunmap_local(a)));
    for (unsigned i = 0; i < QUIRE_KMAP_DEPTH; i++)
        assert_non_null(quire_kmap_local(pages[2]));
    assert_true(HOSTED_EXPECT_PANIC(quire_kmap_local(pages[3])));
    assert_non_null(strstr(hosted_panic_text(), "16 are mapped"));
    quire_kmap_init();
    hosted_frames_mapped = 0; /* their addresses are lost */
}

/* Each page has one address, while it has users and beyond, and all the frames their turn in few slots; one
 * flush empties all that nobody uses. */
/* proves: LX-06 */
static void slots_are_shared_and_reused(void **state)
{
    unsigned *a = quire_kmap(pages[0]);

    (void)state;
    *a = 77;
    assert_ptr_equal(quire_kmap(pages[0]), a);
    quire_kunmap(pages[0]);
    for (unsigned i = 1; i < 64; i++) {
        unsigned *p = quire_kmap(pages[i]);

        assert_ptr_not_equal(p, a);
        *p = i;
        quire_kunmap(pages[i]);
        assert_ptr_equal(quire_kmap(pages[i]), p); /* it has stayed */
        quire_kunmap(pages[i]);
        assert_int_equal(*a, 77);
    }
    assert_in_range(hosted_kmap_flushes, 63 / SLOTS, 63 / (SLOTS - 1));
    for (unsigned i = 1; i < 64; i++) {
        assert_int_equal(*(unsigned *)quire_kmap(pages[i]), i);
        quire_kunmap(pages[i]);
    }
    quire_kunmap(pages[0]);
    assert_true(HOSTED_EXPECT_PANIC(quire_kunmap(pages[0])));
    assert_non_null(strstr(hosted_panic_text(), "is not mapped"));
    assert_true(HOSTED_EXPECT_PANIC(quire_kunmap(pages[40])));
}

static void *user(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;

    hosted_cpu_set(cpu);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned k = (i * 7 + cpu * 13) % 64, *p = quire_kmap(pages[k]), before;

        before = __atomic_fetch_add(p + cpu, 1, __ATOMIC_RELAXED);
        assert_true(before < 2000);
        quire_kunmap(pages[k]);
    }
    return NULL;
}

/* All slots are in use but two, for which four CPUs wait in turn: each comes to its pages. */
static void who_finds_no_slot_waits(void **state)
{
    uint64_t sum = 0;
    pthread_t t[4];

    (void)state;
    for (unsigned i = 0; i < 64; i++)
        memset(quire_kmap(pages[i]), 0, 4096), quire_kunmap(pages[i]);
    for (unsigned i = 0; i < SLOTS - 2; i++)
        quire_kmap(pages[i]);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, user, (void *)i), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    hosted_cpu_set(0);
    for (unsigned i = 0; i < SLOTS - 2; i++)
        quire_kunmap(pages[i]);
    for (unsigned i = 0; i < 64; i++) {
        unsigned *p = quire_kmap(pages[i]);

        for (unsigned cpu = 0; cpu < 4; cpu++)
            sum += p[cpu];
        quire_kunmap(pages[i]);
    }
    assert_int_equal(sum, 4 * 2000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(local_maps_are_a_stack),  TEST(low_pages_are_where_they_are),
        TEST(the_order_is_checked),    TEST(slots_are_shared_and_reused),
        TEST(who_finds_no_slot_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
