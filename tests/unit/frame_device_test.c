/*
 * frame_device_test.c - memory of devices: pages that are held and put like others, and never handed out; struct
 * pages inside it, what they cost, and where which memory model has none.
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

#define IS_MODEL(name) (QUIRE_MEMORY_MODEL == QUIRE_MODEL_##name)
#define ONE_ARRAY      (IS_MODEL(FLAT) || IS_MODEL(NODES)) /* or one a node: what boot made */
#define SECTION        (4096ull << QUIRE_SECTION_ORDER)

static void announce(uint64_t base, uint64_t len)
{
    assert_int_equal(quire_memmap_add(&map, Q_PA(base), len, QUIRE_MEM_DEVICE), QUIRE_OK);
}

static void start(void)
{
    map_start(256 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    assert_int_equal(quire_memmap_add(&map, Q_PA(96 * MIB), 4 * MIB, QUIRE_MEM_HOTPLUG), QUIRE_OK);
    if (ONE_ARRAY)
        announce(120 * MIB, 136 * MIB);
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

/* ---- Struct pages in the device's own memory ---- */

#define BASE     (128 * MIB)
#define LARGEST  (512 * MIB)
#define ABOVE    (960 * MIB) /* memory of boot */
#define OWN(len) (quire_device_map_bytes(len) / 4096)

static struct quire_device_memory own = {
    .base = {BASE}, .released = given_back, .context = &own, .map = QUIRE_DEVICE_MAP_INSIDE};

static void start_wide(void)
{
    map_start(1024 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    map_add(ABOVE, 32 * MIB, IS_MODEL(NODES));
    boot(2, 1, NULL, NULL);
    released = 0;
}

#if !IS_MODEL(FLAT)
static struct quire_page *page(uint64_t i) { return quire_page_of_pfn(Q_PFN(BASE / 4096 + i)); }

static uint64_t ordinary(void)
{
    uint64_t n;

    quire_frame_drain();
    n = quire_free_pages();
#if IS_MODEL(VMEMMAP)
    for (uint64_t pfn = BASE / 4096; pfn < (BASE + LARGEST) / 4096;
         pfn += 128) /* pages of the array */
        n -= (uint64_t)hosted_populated(pfn);
#endif
    return n;
}

/* Frames of ordinary memory that a device of the size takes. */
static uint64_t cost(uint64_t len, enum quire_device_map how)
{
    struct quire_device_memory d = own;
    uint64_t before = ordinary(), taken;

    d.len = len;
    d.map = how;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_OK);
    taken = before - ordinary();
    assert_int_equal(quire_device_memory_remove(d.base, d.len), QUIRE_OK);
    assert_int_equal(ordinary(), before);
    healthy();
    return taken;
}

/* With its struct pages inside, a device costs no ordinary memory, whatever its size; else 0.8 % of that.
 * proves: LX-67 */
static void what_it_costs(void **state)
{
    (void)state;
    start_wide();
    own.len = 2 * MIB; /* a part of the table of sections stays */
    assert_int_equal(quire_device_memory_add(&own), QUIRE_OK);
    assert_int_equal(quire_device_memory_remove(own.base, own.len), QUIRE_OK);
    for (uint64_t len = 2 * MIB; len <= LARGEST; len *= 2) {
        assert_int_equal(cost(len, QUIRE_DEVICE_MAP_INSIDE), 0);
        if (IS_MODEL(VMEMMAP))
            assert_int_equal(cost(len, QUIRE_DEVICE_MAP_MEMORY), len / 128 / 4096);
        else if (!IS_MODEL(NODES))
            assert_int_equal(cost(len, QUIRE_DEVICE_MAP_MEMORY),
                             (len + SECTION - 1) / SECTION * (SECTION / 128 / 4096));
    }
}

/* The first frames hold the pages, their own among them, and nobody can have them; the rest is the driver's,
 * to the last byte.
 * proves: LX-67 */
static void pages_inside(void **state)
{
    const uint64_t n = 64 * MIB / 4096, taken = OWN(64 * MIB);

    (void)state;
    start_wide();
    own.len = 64 * MIB;
    assert_int_equal(taken, 128);
    memset(quire_ptr_of_pa(own.base), 0xdd, own.len); /* what was there before */
    assert_int_equal(quire_device_memory_add(&own), QUIRE_OK);
    assert_int_equal(quire_device_pages(QUIRE_NODE_ANY), n);
    for (uint64_t i = 0; i < taken; i++) {
        assert_int_equal(page(i)->counts, 1);
        assert_null(quire_device_page_take(Q_PFN(BASE / 4096 + i)));
    }
    for (uint64_t i = taken; i < n; i++) {
        assert_int_equal(page(i)->counts, 0);
        memset(quire_ptr_of_pa(quire_pa_of_page(page(i))), (int)i, 4096);
    }
    /* the map is where it says, and the driver's writing has not met it */
    assert_memory_equal(quire_ptr_of_pa(own.base), page(0), n * sizeof(struct quire_page));
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(quire_pfn_of_page(page(i)).v, BASE / 4096 + i);
        assert_int_equal(page(i)->flags & 0xffff, QUIRE_PG_RESERVED);
        assert_int_equal(quire_page_zone(page(i)), QUIRE_ZONE_DEVICE);
        assert_true(quire_pfn_valid(Q_PFN(BASE / 4096 + i)));
    }
    for (uint64_t i = taken; i < n; i++) {
        struct quire_page *p = quire_device_page_take(Q_PFN(BASE / 4096 + i));

        assert_ptr_equal(p, page(i));
        assert_int_equal(((uint8_t *)quire_page_ptr(p))[4095], (uint8_t)i);
        quire_page_put(p);
    }
    assert_int_equal(released, n - taken);
    healthy();
    PANICS(quire_page_put(page(0)), "reserved");
    PANICS(quire_page_free(page(taken - 1), 0), "reserved");
}

/* proves: LX-67 */
static void pages_inside_go_with_it(void **state)
{
    struct quire_page *p;

    (void)state;
    start_wide();
    own.len = 64 * MIB;
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(quire_device_memory_add(&own), QUIRE_OK);
        p = quire_device_page_take(Q_PFN((BASE + own.len) / 4096 - 1));
        assert_int_equal(quire_device_memory_remove(own.base, own.len), QUIRE_BUSY);
        quire_page_put(p);
        quire_page_get(page(3)); /* somebody holds a frame with struct pages */
        assert_int_equal(quire_device_memory_remove(own.base, own.len), QUIRE_BUSY);
        quire_page_put(page(3));
        assert_int_equal(quire_device_memory_remove(own.base, own.len), QUIRE_OK);
        assert_false(quire_pfn_valid(Q_PFN(BASE / 4096)));
        memset(quire_ptr_of_pa(own.base), 0xee, own.len);
        healthy();
        /* and the range serves with pages elsewhere, where the model has them */
        card.len = 4 * MIB;
        assert_int_equal(quire_device_memory_add(&card),
                         IS_MODEL(NODES) ? QUIRE_UNSUPPORTED : QUIRE_OK);
        if (!IS_MODEL(NODES))
            assert_int_equal(quire_device_memory_remove(card.base, card.len), QUIRE_OK);
    }
    /* several at once, until there are no more */
    own.len = 2 * MIB;
    for (unsigned i = 0; i < 16; i++) {
        own.base.v = BASE + i * 32 * MIB;
        assert_int_equal(quire_device_memory_add(&own), QUIRE_OK);
    }
    own.base.v = BASE + 16 * 32 * MIB;
    assert_int_equal(quire_device_memory_add(&own), QUIRE_TOO_MANY);
    for (unsigned i = 16; i-- > 0;) {
        own.base.v = BASE + i * 32 * MIB;
        assert_int_equal(page(i * 8192)->counts, 1);
        assert_int_equal(quire_device_memory_remove(own.base, own.len), QUIRE_OK);
    }
    healthy();
#if IS_MODEL(VMEMMAP)
    hosted_fail_populate = 0;
    assert_int_equal(quire_device_memory_add(&own), QUIRE_NO_MEMORY);
    assert_false(quire_pfn_valid(Q_PFN(BASE / 4096)));
    assert_int_equal(quire_device_memory_add(&own), QUIRE_OK);
#endif
}
#endif

/* ---- Where a model has no pages ---- */

static void refused(uint64_t base, uint64_t len, enum quire_device_map how, const char *why)
{
    struct quire_device_memory d = card;

    d.base.v = base;
    d.len = len;
    d.map = how;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_UNSUPPORTED);
    if (!strstr(hosted_log_last(), why))
        fail_msg("said '%s', not '%s'", hosted_log_last(), why);
    assert_false(quire_pfn_valid(Q_PFN(base / 4096)));
    healthy();
}

static void comes_and_goes(uint64_t base, uint64_t len, enum quire_device_map how)
{
    struct quire_device_memory d = card;
    uint64_t last = (base + len) / 4096 - 1, before;

    quire_frame_drain();
    before = quire_free_pages();
    d.base.v = base;
    d.len = len;
    d.map = how;
    assert_int_equal(quire_device_memory_add(&d), QUIRE_OK);
    assert_int_equal(quire_pfn_of_page(quire_page_of_pfn(Q_PFN(last))).v, last);
    quire_page_put(quire_device_page_take(Q_PFN(last)));
    healthy();
    assert_int_equal(quire_device_memory_remove(d.base, d.len), QUIRE_OK);
    quire_frame_drain();
    assert_in_range(before - quire_free_pages(), 0, 1); /* a part of the table of sections stays */
    healthy();
}

/* What has no pages is refused with the reason; what boot knew of has some. */
static void where_there_are_no_pages(void **state)
{
    (void)state;
    start_wide();
    switch (QUIRE_MEMORY_MODEL) {
    case QUIRE_MODEL_FLAT:
        comes_and_goes(BASE, 64 * MIB, QUIRE_DEVICE_MAP_MEMORY); /* in a hole */
        refused(BASE, 64 * MIB, QUIRE_DEVICE_MAP_INSIDE, "one array");
        refused(2 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY, "QUIRE_MEM_DEVICE");
        refused(ABOVE + 32 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY, "QUIRE_MEM_DEVICE");
        break;
    case QUIRE_MODEL_NODES:
        refused(BASE, 64 * MIB, QUIRE_DEVICE_MAP_MEMORY, "QUIRE_MEM_DEVICE");
        refused(ABOVE + 32 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY, "QUIRE_MEM_DEVICE");
        refused(ABOVE + 32 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_INSIDE, "last memory");
        comes_and_goes(ABOVE - 2 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_INSIDE);
        break;
    case QUIRE_MODEL_VMEMMAP: comes_and_goes(2 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_INSIDE); break;
    default:
        /* a section whose array, made at boot, ends at 80 MiB */
        refused(84 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY, "QUIRE_MEM_DEVICE");
        refused(84 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_INSIDE, "same section");
        assert_int_equal(quire_device_memory_add(&card), QUIRE_OK);
        refused(BASE + 16 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_INSIDE, "same section");
        assert_int_equal(quire_device_memory_remove(card.base, card.len), QUIRE_OK);
        card.map = QUIRE_DEVICE_MAP_INSIDE;
        assert_int_equal(quire_device_memory_add(&card), QUIRE_OK);
        refused(BASE + 16 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY, "section");
        assert_int_equal(quire_device_memory_remove(card.base, card.len), QUIRE_OK);
        card.map = QUIRE_DEVICE_MAP_MEMORY;
        comes_and_goes(BASE + 16 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY);
    }
    map_start(1024 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    announce(84 * MIB, 2 * MIB);
    announce(ABOVE, 32 * MIB);
    boot(1, 1, NULL, NULL);
    assert_int_equal(quire_managed_pages(), quire_free_pages());
    comes_and_goes(84 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_MEMORY);
    comes_and_goes(ABOVE, 32 * MIB, QUIRE_DEVICE_MAP_MEMORY);
    exhaust_every_order();
}

/* Memory that may come needs the array of its section. */
static void memory_that_may_come(void **state)
{
    (void)state;
    map_start(1024 * MIB);
    map_add(16 * MIB, 64 * MIB, 0);
    assert_int_equal(quire_memmap_add(&map, Q_PA(160 * MIB), 16 * MIB, QUIRE_MEM_HOTPLUG),
                     QUIRE_OK);
    announce(176 * MIB, 16 * MIB);
    boot(1, 1, NULL, NULL);
    if (QUIRE_MEMORY_MODEL >= QUIRE_MODEL_SPARSE)
        refused(176 * MIB, 2 * MIB, QUIRE_DEVICE_MAP_INSIDE, "same section");
    comes_and_goes(176 * MIB, 16 * MIB, QUIRE_DEVICE_MAP_MEMORY);
    assert_int_equal(quire_memory_add(Q_PA(160 * MIB), 16 * MIB, 0), QUIRE_OK);
    comes_and_goes(176 * MIB, 16 * MIB, QUIRE_DEVICE_MAP_MEMORY);
    assert_int_equal(quire_memory_remove(Q_PA(160 * MIB), 16 * MIB), QUIRE_OK);
    comes_and_goes(176 * MIB, 16 * MIB, QUIRE_DEVICE_MAP_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(pages_of_a_device),
        cmocka_unit_test(the_last_reference),
        cmocka_unit_test(misuse),
        cmocka_unit_test(never_handed_out_and_removed),
#if !IS_MODEL(FLAT)
        cmocka_unit_test(what_it_costs),
        cmocka_unit_test(pages_inside),
        cmocka_unit_test(pages_inside_go_with_it),
#endif
        cmocka_unit_test(where_there_are_no_pages),
        cmocka_unit_test(memory_that_may_come),
    };

    test_seed("frame_device_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
