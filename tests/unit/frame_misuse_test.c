/*
 * frame_misuse_test.c - what struct pages say, and what is reported to a caller that misuses them.
 */
#include <frame_machine.h>

/* proves: TRAP-3 */
static void misuse_is_caught(void **state)
{
    static const unsigned orders[] = {0, 1, 3, 4, 8, 9, 10};
    struct quire_page *p, *bulk[2];
    uint64_t before;

    (void)state;
    map_start(64 * MIB);
    map_add(0, 64 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(MIB), MIB, "kernel", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    before = quire_free_pages();
    for (unsigned i = 0; i < 7; i++) {
        const volatile unsigned o = orders[i]; /* lives across setjmp */

        p = get(o);
        PANICS(quire_page_free(p, o + 1), "wrong order");
        if (o)
            PANICS(quire_page_free(p, o - 1), "wrong order");
        if (o)
            PANICS(quire_page_free(p + 1, 0), "tail");
        p->maps = 1;
        PANICS(quire_page_free(p, o), "mapped");
        PANICS(quire_page_put(p), "mapped");
        p->refs = 1;
        p->maps = 0;
        quire_page_get(p);
        PANICS(quire_page_free(p, o), "others hold");
        quire_page_put(p);
        quire_page_free(p, o);
        PANICS(quire_page_free(p, o), "double free"); /* in a stack, or merged */
        PANICS(quire_page_put(p), "put of");
        PANICS(quire_page_get(p), "get of");
        quire_frame_drain();
        PANICS(quire_page_free(p, o), "free"); /* back in its block */
    }
    PANICS(quire_page_free(quire_page_of_pfn(Q_PFN(256)), 0), "reserved");
    PANICS(quire_page_free(quire_page_of_pfn(Q_PFN(40 * MIB / 4096)), 0), "no holder");
    PANICS(quire_page_alloc(0, 0, 1), "node 1 of 1");
    bulk[0] = bulk[1] = get(0);
    quire_page_free(bulk[0], 0);
    PANICS(quire_page_free_bulk(2, bulk), "double free");
    p = get(0);
    p->refs = 3;
    PANICS(quire_page_split(p), "split");
    p->refs = 1;
    quire_page_free(p, 0);
    assert_int_equal(quire_free_pages(), before); /* nothing was harmed */
    healthy();

    /* a frame that is written to while free is noticed when it goes out again */
    p->refs = 1;
    PANICS(get(0), "written to");
}

/* proves: AS-01 AS-03 AS-05 */
static void flags_are_exact(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(4096, 32 * MIB);
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        p = get(o);
        for (unsigned i = 0; i < 1u << o; i++) {
            q_pfn pfn = Q_PFN(quire_pfn_of_page(p).v + i);
            uint32_t want = !o ? 0 : i ? QUIRE_PG_TAIL : QUIRE_PG_HEAD;

            assert_int_equal(p[i].flags & 0xffff, want);
            assert_int_equal(quire_page_flags(pfn) & 0xffff, want);
            assert_ptr_equal(quire_page_head(&p[i]), p);
            assert_int_equal(p[i].refs, i == 0);
            assert_int_equal(p[i].maps, 0);
            assert_int_equal(p[i].owner, 0);
        }
        assert_int_equal(quire_page_order(p), o);
        /* a reference through a tail is one to the whole */
        quire_page_get(p + (1u << o) - 1);
        assert_int_equal(p->refs, 2);
        quire_page_put(p);
        /* what its user said of it goes with it */
        p->flags |= QUIRE_PG_SLAB | QUIRE_PG_DIRTY;
        p->owner = 77;
        quire_page_put(p + (1u << o) - 1);
        for (unsigned i = 0; i < 1u << o; i++)
            assert_int_equal(quire_page_flags(Q_PFN(quire_pfn_of_page(p).v + i)) & 0xffff,
                             QUIRE_PG_FREE);
    }
    quire_frame_drain();
    /* never touched, hole, nothing */
    assert_int_equal(quire_page_flags(Q_PFN(20 * MIB / 4096)) & 0xffff, QUIRE_PG_FREE);
    assert_int_equal(quire_page_flags(Q_PFN(0)) & 0xffff, QUIRE_PG_RESERVED);
    assert_int_equal(quire_page_flags(Q_PFN(1ull << 40)) & 0xffff, QUIRE_PG_RESERVED);
    assert_true(quire_pfn_valid(Q_PFN(20 * MIB / 4096)));
    assert_false(quire_pfn_valid(Q_PFN(1ull << 40)));
    for (uint64_t pfn = 1; pfn < (32 * MIB + 4096) / 4096; pfn++) {
        bool mine = quire_memmap_owner(&map, Q_PA(pfn * 4096)) != NULL;

        assert_int_equal(quire_page_flags(Q_PFN(pfn)) & 0xffff,
                         mine ? QUIRE_PG_RESERVED : QUIRE_PG_FREE);
    }
}

/* proves: AS-01 */
static void blocks_split_into_pages(void **state)
{
    uint64_t before;

    (void)state;
    machine(4096, 32 * MIB);
    before = quire_free_pages();
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
        struct quire_page *p = get(o);

        p->flags |= QUIRE_PG_ANON | QUIRE_PG_DIRTY;
        p->owner = 1234;
        p->index = 50;
        quire_page_split(p);
        healthy();
        for (unsigned i = 0; i < 1u << o; i++) {
            assert_int_equal(p[i].flags & 0xffff, QUIRE_PG_ANON | QUIRE_PG_DIRTY);
            assert_int_equal(quire_page_order(&p[i]), 0);
            assert_int_equal(p[i].refs, 1);
            assert_int_equal(p[i].owner, 1234);
            assert_int_equal(p[i].index, 50 + i);
        }
        for (unsigned i = 0; i < 1u << o; i++)
            quire_page_put(&p[i]);
        assert_int_equal(quire_free_pages(), before);
        healthy();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse_is_caught),
        cmocka_unit_test(flags_are_exact),
        cmocka_unit_test(blocks_split_into_pages),
    };

    test_seed("frame_misuse_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
