/*
 * frame_device_test.c - memory of devices: pages that are held and put like others, and never handed out.
 */
#include <frame_machine.h>

#define FIRST  (128 * MIB / 4096)
#define FRAMES 1024u

static unsigned released;
static struct quire_page *last;
static void *last_context;
static bool again;

static void given_back(struct quire_page *page, void *context)
{
    released++;
    last = page;
    last_context = context;
    assert_int_equal(page->counts, 0);
    if (again)
        assert_ptr_equal(quire_device_page_take(quire_pfn_of_page(page)), page);
}

static struct quire_device_memory card = {
    .base = {128 * MIB}, .len = FRAMES * 4096, .node = 0, .released = given_back, .context = &card};

#if QUIRE_MEMORY_MODEL != QUIRE_MODEL_FLAT && QUIRE_MEMORY_MODEL != QUIRE_MODEL_NODES
static void start(void)
{
    map_start(256 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    assert_int_equal(quire_memmap_add(&map, Q_PA(96 * MIB), 4 * MIB, QUIRE_MEM_HOTPLUG), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    released = 0;
    again = false;
    assert_int_equal(quire_device_memory_add(&card), QUIRE_OK);
}

static void what_is_refused(void **state)
{
    static const uint64_t taken[] = {16 * MIB, 78 * MIB, 96 * MIB, 98 * MIB, 126 * MIB, 130 * MIB};
    struct quire_device_memory d = card;

    (void)state;
    start();
    assert_int_equal(quire_device_memory_add(&card), QUIRE_EXISTS);
    d.len = 4 * MIB;
    for (unsigned i = 0; i < sizeof taken / sizeof *taken; i++) {
        d.base.v = taken[i];
        assert_int_equal(quire_device_memory_add(&d), QUIRE_EXISTS);
    }
    d.base.v = 140 * MIB;
    d.len = 0;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_INVALID);
    d.len = MIB;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_INVALID);
    d.len = 2 * MIB;
    d.base.v += 4096;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_INVALID);
    d.base.v = 0ull - 2 * MIB;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_INVALID);
    d.base.v = 140 * MIB;
    d.node = 1;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_INVALID);
    d.node = 0;
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
    hosted_fail_populate = 0;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_NO_MEMORY);
    assert_false(quire_pfn_valid(Q_PFN(140 * MIB / 4096)));
#endif
    for (unsigned i = 1; i < 16; i++) {
        assert_int_equal(quire_device_memory_add(&d), QUIRE_OK);
        d.base.v += 4 * MIB;
    }
    assert_int_equal(quire_device_memory_add(&d), QUIRE_TOO_MANY);
    assert_int_equal(quire_device_pages(QUIRE_NODE_ANY), FRAMES + 15 * 512);
    assert_int_equal(quire_device_memory_remove(Q_PA(128 * MIB), 2 * MIB), QUIRE_NOT_FOUND);
    assert_int_equal(quire_device_memory_remove(Q_PA(16 * MIB), 2 * MIB), QUIRE_NOT_FOUND);
    assert_int_equal(quire_device_memory_remove(Q_PA(140 * MIB), 2 * MIB), QUIRE_OK);
    assert_int_equal(quire_device_memory_add(&d), QUIRE_OK);
    healthy();
}

static void pages_of_a_device(void **state)
{
    (void)state;
    start();
    assert_int_equal(quire_device_pages(0), FRAMES);
    assert_int_equal(quire_device_pages(1), 0);
    assert_false(quire_pfn_valid(Q_PFN(FIRST - 1)));
    assert_false(quire_pfn_valid(Q_PFN(FIRST + FRAMES)));
    for (unsigned i = 0; i < FRAMES; i++) {
        struct quire_page *p = quire_page_of_pfn(Q_PFN(FIRST + i));

        assert_true(quire_pfn_valid(Q_PFN(FIRST + i)));
        assert_int_equal(quire_page_zone(p), QUIRE_ZONE_DEVICE);
        assert_int_equal(quire_page_node(p), 0);
        assert_true(quire_page_flags(Q_PFN(FIRST + i)) & QUIRE_PG_RESERVED);
        assert_int_equal(p->counts, 0);
    }
    assert_null(quire_device_page_take(Q_PFN(FIRST - 1)));
    assert_null(quire_device_page_take(Q_PFN(FIRST + FRAMES)));
    assert_null(quire_device_page_take(Q_PFN(16 * MIB / 4096)));
    assert_int_equal(quire_frame_poison(Q_PFN(FIRST)), QUIRE_INVALID);
    assert_int_equal(quire_frame_offline(Q_PFN(FIRST), 512), QUIRE_INVALID);
}

/* The driver hears of the last reference, however it goes, and of no other. */
static void the_last_reference(void **state)
{
    struct quire_page *p, *bulk[3];
    uint64_t before;

    (void)state;
    start();
    before = quire_free_pages(); /* in some models the device's struct pages lie in memory */
    for (unsigned how = 0; how < 3; how++) {
        q_pfn pfn = Q_PFN(FIRST + 7 + how);

        p = quire_device_page_take(pfn);
        assert_ptr_equal(p, quire_page_of_pfn(pfn));
        assert_int_equal(p->refs, 1);
        assert_null(quire_device_page_take(pfn)); /* it is held */
        quire_page_get(p);
        quire_page_get(p);
        p->flags |= QUIRE_PG_DIRTY;
        p->owner = 5;
        quire_page_put(p);
        quire_page_put(p);
        assert_int_equal(released, how);
        bulk[0] = p;
        if (how == 0)
            quire_page_put(p);
        else if (how == 1)
            quire_page_free(p, 0);
        else
            quire_page_free_bulk(1, bulk);
        assert_int_equal(released, how + 1);
        assert_ptr_equal(last, p);
        assert_ptr_equal(last_context, &card);
        assert_int_equal(p->owner, 0);
        assert_false(p->flags & QUIRE_PG_DIRTY);
    }
    /* among other pages */
    bulk[0] = get(0);
    bulk[1] = quire_device_page_take(Q_PFN(FIRST));
    bulk[2] = get(0);
    quire_page_free_bulk(3, bulk);
    assert_int_equal(released, 4);
    quire_frame_drain();
    assert_int_equal(quire_free_pages(), before);
    /* and he may give it to the next one at once */
    again = true;
    p = quire_device_page_take(Q_PFN(FIRST + FRAMES - 1));
    quire_page_put(p);
    assert_int_equal(p->refs, 1);
    again = false;
    quire_page_put(p);
    assert_int_equal(released, 6);
    healthy();
}

static void misuse(void **state)
{
    struct quire_page *p;

    (void)state;
    start();
    p = quire_device_page_take(Q_PFN(FIRST));
    quire_page_get(p);
    PANICS(quire_page_free(p, 0), "reserved"); /* others hold it */
    quire_page_put(p);
    PANICS(quire_page_free(p, 1), "reserved");
    p->maps = 1;
    PANICS(quire_page_put(p), "reserved");
    p->maps = 0;
    quire_page_put(p);
    assert_int_equal(released, 1);
    PANICS(quire_page_put(p), "put of pfn");
    PANICS(quire_page_get(p), "get of pfn");
    PANICS(quire_page_free(p, 0), "reserved");
    assert_int_equal(released, 1);
}

/* All memory is handed out, and none of it is the device's; a range goes when nobody holds a page. */
static void never_handed_out_and_removed(void **state)
{
    struct quire_page *p;

    (void)state;
    start();
    give_back(exhaust(0, QUIRE_GFP_MEMALLOC), 0);
    give_back(exhaust(9, QUIRE_GFP_MEMALLOC), 9);
    for (unsigned i = 0; i < FRAMES; i++)
        assert_int_equal(quire_page_of_pfn(Q_PFN(FIRST + i))->counts, 0);
    p = quire_device_page_take(Q_PFN(FIRST + 1000));
    assert_int_equal(quire_device_memory_remove(card.base, card.len), QUIRE_BUSY);
    assert_non_null(quire_device_page_take(Q_PFN(FIRST + 1))); /* as before */
    quire_page_put(quire_page_of_pfn(Q_PFN(FIRST + 1)));
    quire_page_put(p);
    assert_int_equal(quire_device_memory_remove(card.base, card.len), QUIRE_OK);
    assert_false(quire_pfn_valid(Q_PFN(FIRST)));
    assert_null(quire_device_page_take(Q_PFN(FIRST)));
    assert_int_equal(quire_device_pages(QUIRE_NODE_ANY), 0);
    quire_frame_drain();
    assert_int_equal(quire_free_pages(), quire_managed_pages());
    assert_int_equal(quire_device_memory_remove(card.base, card.len), QUIRE_NOT_FOUND);
    card.node = 0;
    assert_int_equal(quire_device_memory_add(&card), QUIRE_OK);
    assert_int_equal(quire_page_of_pfn(Q_PFN(FIRST + 1000))->counts, 0);
}

#endif

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_FLAT || QUIRE_MEMORY_MODEL == QUIRE_MODEL_NODES
static void not_in_this_model(void **state)
{
    (void)state;
    map_start(256 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    boot(1, 1, NULL, NULL);
    assert_int_equal(quire_device_memory_add(&card), QUIRE_UNSUPPORTED);
    assert_false(quire_pfn_valid(Q_PFN(FIRST)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(not_in_this_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(pages_of_a_device),
        cmocka_unit_test(the_last_reference),
        cmocka_unit_test(misuse),
        cmocka_unit_test(never_handed_out_and_removed),
    };

    test_seed("frame_device_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
