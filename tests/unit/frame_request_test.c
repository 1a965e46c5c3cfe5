/*
 * frame_request_test.c - what a request asks for beside its order: zeros, many at once, failure.
 */
#include <frame_machine.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_means_zeroed),
        cmocka_unit_test(bulk_takes_what_there_is),
        cmocka_unit_test(the_nth_allocation_fails),
    };

    test_seed("frame_request_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
