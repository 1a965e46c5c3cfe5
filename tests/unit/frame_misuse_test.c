/*
 * frame_misuse_test.c - what struct pages say, and what is reported to a caller that misuses them.
 */
#include <frame_machine.h>

#include <frame/zone.h>

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

/* To a list of this CPU, if there is room, and then to the block. */
static void free_and_drain(struct quire_page *p, unsigned order)
{
    quire_page_free(p, order);
    quire_frame_drain();
}

static void free_again_at_the_block(unsigned order)
{
    struct quire_page *p, was;

    machine(16 * MIB, 16 * MIB);
    get(4); /* keeps the block under its bitmap */
    was = *(p = get(order));
    quire_page_free(p, order);
    quire_frame_drain();
    *p = was;
    PANICS(free_and_drain(p, order), "freed twice");
}

/* What a struct page said is damaged, so that only the pageblock knows that the frames are free: the
 * second free is caught there. */
static void the_block_knows_what_is_free(void **state)
{
    (void)state;
    free_again_at_the_block(0);
    free_again_at_the_block(4);
    free_again_at_the_block(6);
    free_again_at_the_block(7);
    free_again_at_the_block(8);
}

static void free_to_a_block(unsigned order, enum qi_block_state state, unsigned block_order)
{
    struct quire_page *p;
    struct qi_block *b;

    machine(16 * MIB, 16 * MIB);
    p = get(order);
    b = &qi_zones[0].blocks[qi_block_of(&qi_zones[0], quire_pfn_of_page(p).v)];
    b->state = (uint8_t)state;
    b->order = (uint8_t)block_order;
    PANICS(free_and_drain(p, order), "block state");
}

/* A pageblock that is not under the bitmap takes no frames, one that is no allocation of that order
 * takes no run. */
static void the_block_knows_what_it_is(void **state)
{
    (void)state;
    free_to_a_block(4, QI_BLOCK_RESERVED, 0);
    free_to_a_block(8, QI_BLOCK_RESERVED, 0);
    free_to_a_block(9, QI_BLOCK_BODY, 9);
    free_to_a_block(10, QI_BLOCK_WHOLE, 10);
    free_to_a_block(9, QI_BLOCK_USED, 10);
}

/* Whatever a stray pointer did to a free frame, it does not go out. */
static void damaged_free_frames_stay(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    quire_page_free(p = get(0), 0);
    p->flags &= ~QUIRE_PG_FREE;
    PANICS(get(0), "written to");
    p->flags |= QUIRE_PG_FREE;
    p->maps = 1; /* the panic took it from the stack; the next is damaged as well */
    quire_page_free(get(0), 0);
    quire_page_free(p = get(3), 3);
    p->maps = 1;
    PANICS(get(3), "still mapped");
}

/* proves: TRAP-3 */
static void references_are_bounded(void **state)
{
    struct quire_page *p, *pages[1];

    (void)state;
    machine(16 * MIB, 16 * MIB);
    p = get(0);
    p->refs = UINT32_MAX; /* one more would be none */
    PANICS(quire_page_get(p), "get of");
    assert_int_equal(p->refs, UINT32_MAX);
    p->refs = 2;
    PANICS(quire_page_split(p), "split of");
    pages[0] = p;
    PANICS(quire_page_free_bulk(1, pages), "others hold");
    p->refs = 1;
    quire_page_free(p, 0);
    PANICS(quire_page_split(p), "split of");
    p->refs = 2;
    PANICS(quire_page_put(p), "put of");
    p->refs = 0;
    healthy();
    PANICS(quire_page_alloc_bulk(1, pages, 0, 1), "node 1 of 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse_is_caught),
        cmocka_unit_test(flags_are_exact),
        cmocka_unit_test(blocks_split_into_pages),
        cmocka_unit_test(the_block_knows_what_is_free),
        cmocka_unit_test(the_block_knows_what_it_is),
        cmocka_unit_test(damaged_free_frames_stay),
        cmocka_unit_test(references_are_bounded),
    };

    test_seed("frame_misuse_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
