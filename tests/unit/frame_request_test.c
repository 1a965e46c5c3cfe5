/*
 * frame_request_test.c - what a request asks for beside its order: zeros, many at once, failure.
 */
#include <frame_machine.h>

#include <frame/zone.h>

static void zeroed_means_zeroed(void **state)
{
    (void)state;
    machine(16 * MIB, 8 * MIB);
    for (unsigned o = 0; o <= 9; o++) {
        struct quire_page *p = get(o);
        unsigned char *at = quire_page_ptr(p);

        memset(at, 0xa5, 4096ull << o);
        quire_page_free(p, o);
        p = quire_page_alloc(o, QUIRE_GFP_ZERO | QUIRE_GFP_MEMALLOC, ANY);
        at = quire_page_ptr(p);
        for (uint64_t i = 0; i < 4096ull << o; i++)
            if (at[i])
                fail_msg("order %u byte %llu", o, (unsigned long long)i);
        quire_page_free(p, o);
    }
    assert_int_equal(quire_page_alloc_bulk(100, held, QUIRE_GFP_ZERO, ANY), 100);
    for (unsigned i = 0; i < 100; i++)
        for (unsigned k = 0; k < 4096; k += 8)
            assert_int_equal(*(uint64_t *)((char *)quire_page_ptr(held[i]) + k), 0);
    quire_page_free_bulk(100, held);
}

static void bulk_takes_what_there_is(void **state)
{
    uint64_t before, locked;
    size_t n;

    (void)state;
    machine(16 * MIB, 32 * MIB);
    before = quire_free_pages();
    locked = zone_stats(0).lock_acquisitions;
    assert_int_equal(quire_page_alloc_bulk(1000, held, QUIRE_GFP_USER, ANY), 1000);
    assert_true(zone_stats(0).lock_acquisitions - locked < 20);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(held[i]->refs, 1);
    held[1] = held[0]; /* a page that its caller dropped himself */
    held[0] = get(0);
    quire_page_free(get(0), 0);
    quire_page_put(held[0]);
    held[0] = held[1];
    held[0]->refs = 0;
    quire_page_free_bulk(1, held);
    quire_page_free_bulk(998, held + 2);
    healthy();
    n = quire_page_alloc_bulk(1 << 18, held, QUIRE_GFP_MEMALLOC, ANY);
    assert_int_equal(quire_free_pages(), 0);
    assert_int_equal(n, before - 1); /* one is out since the first thousand */
    assert_int_equal(quire_page_alloc_bulk(5, held + n, QUIRE_GFP_MEMALLOC, ANY), 0);
    quire_page_free_bulk(n, held);
    assert_int_equal(quire_free_pages(), before - 1);
    healthy();
}

/* proves: TRAP-18 */
static void the_nth_allocation_fails(void **state)
{
    struct quire_page *p;
    uint64_t before;

    (void)state;
    machine(16 * MIB, 32 * MIB);
    quire_page_free(get(0), 0); /* a stack with pages in it */
    before = quire_free_pages();
    for (int64_t n = 1; n < 20; n++) {
        quire_frame_fail_after(n);
        for (int64_t i = 1; i < 30; i++) {
            unsigned o = (unsigned)i % 11;

            assert_int_equal(quire_frame_fail_armed(), i <= n);
            p = i % 2 ? quire_page_alloc(o, 0, ANY) : qi_page_alloc_fast(0);
            if (i == n)
                assert_null(p);
            else
                quire_page_put(p);
            assert_int_equal(quire_free_pages(), before);
        }
        healthy();
    }
    quire_frame_fail_after(4);
    assert_int_equal(quire_page_alloc_bulk(10, held, 0, ANY), 3);
    assert_false(quire_frame_fail_armed());
    quire_page_free_bulk(3, held);
    quire_frame_fail_after(1);
    quire_frame_fail_after(-1);
    quire_page_free(get(0), 0);
    assert_int_equal(quire_free_pages(), before);
    healthy();
}

/* The inline path is quire_page_alloc(0): what it cannot do itself it hands on. */
static void the_inline_path_does_all(void **state)
{
    struct quire_page *p;
    size_t n = 0;

    (void)state;
    machine(16 * MIB, 8 * MIB);
    p = qi_page_alloc_fast(0);
    memset(quire_page_ptr(p), 0xff, 4096);
    qi_page_free_fast(p);
    assert_ptr_equal(qi_page_alloc_fast(QUIRE_GFP_ZERO), p);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(((char *)quire_page_ptr(p))[i], 0);
    qi_page_free_fast(p);
    qi_page_free_fast(qi_page_alloc_fast(QUIRE_GFP_THISNODE));
    while ((held[n] = qi_page_alloc_fast(QUIRE_GFP_MEMALLOC)))
        n++;
    assert_int_equal(n, quire_managed_pages());
    give_back(n, 0);
    healthy();
}

/* The zone's count is read without its lock, so that a CPU may find less than it said. */
static void fewer_frames_than_promised(void **state)
{
    struct quire_page *p[3];
    size_t n;

    (void)state;
    machine(16 * MIB, 8 * MIB);
    n = exhaust(0, QUIRE_GFP_MEMALLOC);
    give_back(3, 0);
    quire_frame_drain();
    qi_zones[0].free += 100; /* as it was a moment ago */
    for (unsigned i = 0; i < 3; i++) {
        p[i] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY);
        assert_true(p[i] == held[0] || p[i] == held[1] || p[i] == held[2]);
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(p[i], p[k]);
    }
    assert_null(quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY));
    assert_int_equal(quire_page_alloc_bulk(5, held, QUIRE_GFP_MEMALLOC, ANY), 0);
    qi_zones[0].free -= 100;
    assert_int_equal(quire_free_pages(), 0);
    for (unsigned i = 0; i < 3; i++)
        quire_page_free(p[i], 0);
    for (size_t i = 3; i < n; i++)
        quire_page_free(held[i], 0);
    assert_int_equal(quire_free_pages(), quire_managed_pages());
    healthy();
}

/* A stack whose limit became 0 while it held something keeps nothing from then on. */
static void a_stack_without_room_keeps_nothing(void **state)
{
    struct quire_page *p;
    struct qi_stack *s;

    (void)state;
    machine(16 * MIB, 8 * MIB);
    p = get(0);
    s = &qi_frame_cpus[0].stacks[0];
    assert_true(qi_stack_count(s) > 0);
    s->want = 0;
    s->end = s->base;
    quire_page_free(p, 0);
    assert_int_equal(qi_stack_count(s), 0);
    assert_int_equal(quire_free_pages(), quire_managed_pages());
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_means_zeroed),
        cmocka_unit_test(bulk_takes_what_there_is),
        cmocka_unit_test(the_nth_allocation_fails),
        cmocka_unit_test(the_inline_path_does_all),
        cmocka_unit_test(fewer_frames_than_promised),
        cmocka_unit_test(a_stack_without_room_keeps_nothing),
    };

    test_seed("frame_request_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
