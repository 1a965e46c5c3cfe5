/*
 * dma_test.c - streaming mappings, coherent memory and scatter lists as a driver and its device meet them.
 */
#include <dma_machine.h>

#define TO   QUIRE_DMA_TO_DEVICE
#define FROM QUIRE_DMA_FROM_DEVICE
#define BOTH QUIRE_DMA_BOTH

#define CAP 64

static struct quire_dma_segment array[CAP];

static int setup(void **state)
{
    (void)state;
    dma_machine(DMA_SPAN, DMA_SLOTS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_dma_clean = hosted_dma_invalidate = NULL;
    hosted_fini();
    return 0;
}

static struct quire_dma_device *device(struct quire_dma_device *d)
{
    if (!d->name)
        d->name = "card";
    assert_int_equal(quire_dma_device_init(d), QUIRE_OK);
    return d;
}

static void remove_device(struct quire_dma_device *d)
{
    assert_int_equal(quire_dma_device_fini(d), QUIRE_OK);
}

static uint64_t free_slots(void)
{
    struct quire_dma_stats s;

    quire_dma_stats(NULL, &s);
    return s.free_slots;
}

static q_ba map(struct quire_dma_device *d, void *p, uint64_t bytes, enum quire_dma_direction dir)
{
    q_ba bus = Q_BA(0);

    assert_int_equal(quire_dma_map_range(d, p, bytes, dir, &bus), QUIRE_OK);
    dma_sound();
    return bus;
}

/* The bus address is another than the physical one, by an offset or by ranges, and names the same
 * memory.  proves: LX-57 */
static void bus_addresses_are_not_physical(void **state)
{
    static const struct quire_dma_range ranges[] = {
        {Q_PA(0), BEYOND_32, Q_BA(0x700000000000)},
        {Q_PA(BEYOND_32), GIB, Q_BA(0x10000000)},
    };
    struct quire_dma_device moved = {.mask = BITS(64), .offset = 0x4000000000},
                            down = {.mask = BITS(64), .offset = 0 - 0x100000ull},
                            split = {.mask = BITS(64), .ranges = ranges, .nranges = 2};
    struct quire_dma_device *all[] = {device(&moved), device(&down), device(&split)};
    uint8_t *high = dma_block(1, 0), *low = dma_block(1, QUIRE_GFP_DMA32);

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 2; k++) {
            uint8_t *p = k ? low : high;
            q_ba bus = map(all[i], p + 100, 8000, BOTH);

            assert_true(bus.v != dma_pa(p + 100));
            assert_ptr_equal(dma_device_sees(all[i], bus.v), p + 100);
            quire_dma_unmap(all[i], bus, 8000, BOTH);
        }
        remove_device(all[i]);
    }
    assert_int_equal(moved.bounces + down.bounces + split.bounces, 0);
    dma_block_free(high, 1);
    dma_block_free(low, 1);
    dma_nothing_lost();
}

/* Memory is one run, bus addresses are not: at the end of a range, of the mask, and at 2^64. */
static void runs_end_where_bus_addresses_do(void **state)
{
    uint8_t *p = dma_block(3, QUIRE_GFP_DMA32);
    uint64_t cut = dma_pa(p) + 16384;
    struct quire_dma_range ranges[] = {{Q_PA(0), cut, Q_BA(GIB)}, {Q_PA(cut), GIB, Q_BA(0)}};
    struct quire_dma_device split = {.mask = BITS(64), .ranges = ranges, .nranges = 2},
                            wrap = {.mask = BITS(64), .offset = 0 - cut},
                            top = {.mask = BITS(40), .offset = (1ull << 40) - cut};
    struct quire_dma_device *all[] = {&split, &wrap, &top};
    struct quire_dma_sg list = {quire_page_of_ptr(p), 0, 32768};
    struct quire_dma_segments segs = {.segments = array, .cap = CAP};

    (void)state;
    dma_fill(p, 32768, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct quire_dma_device *d = device(all[i]);
        q_ba bus = map(d, p + 16384 - 100, 100, TO);

        assert_ptr_equal(dma_device_sees(d, bus.v), p + 16384 - 100);
        assert_int_equal(d->bounces, 0);
        quire_dma_unmap(d, bus, 100, TO);
        bus = map(d, p + 16384 - 100, 101, TO);
        assert_memory_equal(dma_device_sees(d, bus.v), p + 16384 - 100, 101);
        assert_int_equal(d->bounces, 1);
        quire_dma_unmap(d, bus, 101, TO);
        assert_int_equal(quire_dma_map_sg(d, &list, 1, TO, &segs), QUIRE_OK);
        dma_sound();
        assert_int_equal(segs.n, 2);
        assert_int_equal(segs.segments[0].bytes, 16384);
        for (unsigned k = 0; k < 2; k++)
            assert_memory_equal(dma_device_sees(d, segs.segments[k].bus.v), p + 16384 * k, 16384);
        quire_dma_unmap_sg(d, &segs, TO);
        assert_int_equal(d->bounces, i == 2 ? 2 : 1);
        remove_device(d);
    }
    dma_block_free(p, 3);
    dma_nothing_lost();
}

/* What the device cannot reach goes through the pool: there and back, and what it leaves alone stays. */
static void bounces_carry_data_both_ways(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32)};
    uint8_t *p = dma_block(2, 0), *seen;
    uint64_t slots = free_slots();
    q_ba bus;

    (void)state;
    device(&d);
    dma_fill(p, 16384, 1);
    bus = map(&d, p + 10, 5000, TO);
    assert_int_equal(free_slots(), slots - 3);
    seen = dma_device_sees(&d, bus.v);
    assert_true(dma_pa(seen) + 5000 <= BEYOND_32);
    assert_memory_equal(seen, p + 10, 5000);
    memset(seen, 0xee, 5000); /* it may not, so nobody sees it */
    quire_dma_unmap(&d, bus, 5000, TO);
    dma_expect(p, 16384, 1);

    bus = map(&d, p + 10, 5000, FROM);
    memset(dma_device_sees(&d, bus.v), 0x55, 60);
    dma_expect(p, 16384, 1);
    quire_dma_unmap(&d, bus, 5000, FROM);
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(p[10 + i], 0x55);
        p[10 + i] = (uint8_t)(1 + (10 + i) * 13 + (10 + i) / 251);
    }
    dma_expect(p, 16384, 1); /* a short transfer, and nothing of the slots' last user */
    assert_int_equal(free_slots(), slots);
    assert_int_equal(d.bounces, 2);
    remove_device(&d);
    dma_block_free(p, 2);
    dma_nothing_lost();
}

/* A sync moves its bytes and no others. */
static void syncs_move_their_part(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32)};
    uint8_t *p = dma_block(1, 0), *seen;
    q_ba bus;

    (void)state;
    device(&d);
    memset(p, 1, 8192);
    bus = map(&d, p, 8192, BOTH);
    seen = dma_device_sees(&d, bus.v);
    memset(seen, 2, 8192);
    quire_dma_sync_for_cpu(&d, bus, 1000, 3000, BOTH);
    for (unsigned i = 0; i < 8192; i++)
        assert_int_equal(p[i], i >= 1000 && i < 4000 ? 2 : 1);
    memset(p, 3, 8192);
    quire_dma_sync_for_device(&d, bus, 8000, 192, BOTH);
    for (unsigned i = 0; i < 8192; i++)
        assert_int_equal(seen[i], i >= 8000 ? 3 : 2);
    quire_dma_sync_for_cpu(&d, bus, 8192, 0, BOTH);
    quire_dma_unmap(&d, bus, 8192, BOTH);
    for (unsigned i = 0; i < 8192; i++)
        assert_int_equal(p[i], i >= 8000 ? 3 : 2);
    remove_device(&d);
    dma_block_free(p, 1);
    dma_nothing_lost();
}

/* Each limit, just met and just missed, of a device that reaches everything. */
static void limits_are_kept(void **state)
{
    struct quire_dma_device bounded = {.mask = BITS(64), .boundary = 8192, .offset = 4096},
                            aligned = {.mask = BITS(64), .align = 512},
                            shorter = {.mask = BITS(64), .max_segment = 1536};
    uint8_t *p = dma_block(5, QUIRE_GFP_DMA32);
    q_ba bus;

    (void)state;
    device(&bounded), device(&aligned), device(&shorter);
    assert_int_equal(quire_dma_max_bytes(&bounded), 8192);
    assert_int_equal(quire_dma_max_bytes(&aligned), QUIRE_DMA_BOUNCE_MAX);
    assert_int_equal(quire_dma_max_bytes(&shorter), 1536);

    bus = map(&bounded, p + 4096, 8192, TO); /* bus addresses are a page further */
    assert_ptr_equal(dma_device_sees(&bounded, bus.v), p + 4096);
    quire_dma_unmap(&bounded, bus, 8192, TO);
    bus = map(&bounded, p + 4097, 8192, TO);
    assert_int_equal(bus.v % 8192, 0);
    quire_dma_unmap(&bounded, bus, 8192, TO);
    assert_int_equal(bounded.bounces, 1);
    assert_int_equal(quire_dma_map_range(&bounded, p, 8193, TO, &bus), QUIRE_INVALID);

    bus = map(&aligned, p + 512, 100, TO);
    quire_dma_unmap(&aligned, bus, 100, TO);
    assert_int_equal(aligned.bounces, 0);
    bus = map(&aligned, p + 256, 100, TO);
    assert_int_equal(bus.v % 512, 0);
    quire_dma_unmap(&aligned, bus, 100, TO);
    assert_int_equal(aligned.bounces, 1);
    bus = map(&aligned, p, QUIRE_DMA_BOUNCE_MAX, TO);
    quire_dma_unmap(&aligned, bus, QUIRE_DMA_BOUNCE_MAX, TO);
    assert_int_equal(aligned.bounces, 1);

    bus = map(&shorter, p + 1, 1536, TO);
    quire_dma_unmap(&shorter, bus, 1536, TO);
    assert_int_equal(shorter.bounces, 0);
    assert_int_equal(quire_dma_map_range(&shorter, p, 1537, TO, &bus), QUIRE_INVALID);
    assert_int_equal(quire_dma_map_range(&shorter, p, 0, TO, &bus), QUIRE_INVALID);
    assert_int_equal(quire_dma_map_range(&shorter, p, 1, 3, &bus), QUIRE_INVALID);
    remove_device(&bounded), remove_device(&aligned), remove_device(&shorter);
    dma_block_free(p, 5);
    dma_nothing_lost();
}

/* Longer than any run of slots is refused for good, a full pool for now. */
static void the_pool_has_an_end(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32)};
    uint8_t *p = dma_block(6, 0);
    q_ba bus[4], last;

    (void)state;
    device(&d);
    assert_int_equal(quire_dma_map_range(&d, p, QUIRE_DMA_BOUNCE_MAX + 1, TO, &last),
                     QUIRE_INVALID);
    for (unsigned i = 0; i < 3; i++)
        bus[i] = map(&d, p, QUIRE_DMA_BOUNCE_MAX, TO);
    assert_int_equal(free_slots(), 8);
    assert_int_equal(quire_dma_map_range(&d, p, 9 * QUIRE_DMA_SLOT, TO, &last), QUIRE_NO_MEMORY);
    assert_int_equal(d.fails, 1);
    dma_sound();
    last = map(&d, p, 8 * QUIRE_DMA_SLOT, TO);
    assert_int_equal(quire_dma_map_range(&d, p, 1, TO, &bus[3]), QUIRE_NO_MEMORY);
    quire_dma_unmap(&d, bus[1], QUIRE_DMA_BOUNCE_MAX, TO);
    bus[1] = map(&d, p, QUIRE_DMA_BOUNCE_MAX, TO);
    for (unsigned i = 0; i < 3; i++)
        quire_dma_unmap(&d, bus[i], QUIRE_DMA_BOUNCE_MAX, TO);
    quire_dma_unmap(&d, last, 8 * QUIRE_DMA_SLOT, TO);
    remove_device(&d);
    dma_block_free(p, 6);
    dma_nothing_lost();
}

/* ---- devices that do not see the caches ---- */

static struct {
    void *ptr;
    uint64_t bytes;
    unsigned n;
} cleaned, invalidated;

static void on_clean(void *ptr, uint64_t bytes)
{
    cleaned.ptr = ptr, cleaned.bytes = bytes, cleaned.n++;
}
static void on_invalidate(void *ptr, uint64_t bytes)
{
    invalidated.ptr = ptr, invalidated.bytes = bytes, invalidated.n++;
}

/* Lines are written back before the device looks and dropped before the CPU does, exactly those. */
static void caches_are_cleaned_and_dropped(void **state)
{
    struct quire_dma_device d = {.mask = BITS(64), .flags = QUIRE_DMA_NONCOHERENT},
                            seeing = {.mask = BITS(64)};
    uint8_t *p = dma_block(0, 0);
    q_ba bus;
    void *ptr;

    (void)state;
    device(&d), device(&seeing);
    hosted_dma_clean = on_clean;
    hosted_dma_invalidate = on_invalidate;
    memset(&cleaned, 0, sizeof cleaned), memset(&invalidated, 0, sizeof invalidated);
    bus = map(&seeing, p, 4096, BOTH);
    quire_dma_unmap(&seeing, bus, 4096, BOTH);
    assert_int_equal(cleaned.n + invalidated.n, 0);

    bus = map(&d, p + 64, 640, FROM);
    assert_int_equal(cleaned.n, 1);
    assert_ptr_equal(cleaned.ptr, p + 64);
    assert_int_equal(cleaned.bytes, 640);
    quire_dma_sync_for_cpu(&d, bus, 128, 64, FROM);
    assert_int_equal(invalidated.n, 1);
    assert_ptr_equal(invalidated.ptr, p + 192);
    assert_int_equal(invalidated.bytes, 64);
    quire_dma_sync_for_device(&d, bus, 128, 512, FROM);
    assert_int_equal(cleaned.n, 2);
    quire_dma_unmap(&d, bus, 640, FROM);
    assert_int_equal(invalidated.n, 2);
    assert_ptr_equal(invalidated.ptr, p + 64);
    assert_int_equal(d.bounces, 0);

    bus = map(&d, p + 1, 100, TO); /* it only reads: a shared line does no harm */
    quire_dma_unmap(&d, bus, 100, TO);
    assert_int_equal(invalidated.n, 2);
    assert_int_equal(d.bounces, 0);
    assert_int_equal(quire_dma_alloc(&d, 4096, 0, &ptr, &bus), QUIRE_UNSUPPORTED);
    remove_device(&d), remove_device(&seeing);
    dma_block_free(p, 0);
    dma_nothing_lost();
}

/* A line that other memory shares is never dropped. */
static void shared_lines_bounce(void **state)
{
    struct quire_dma_device d = {.mask = BITS(64), .flags = QUIRE_DMA_NONCOHERENT};
    uint8_t *p = dma_block(0, 0);
    static const struct {
        unsigned offset, bytes, bounced;
    } cases[] = {{0, 64, 0}, {0, 63, 1}, {64, 65, 1}, {1, 63, 1}, {32, 64, 1}, {192, 1024, 0}};

    (void)state;
    device(&d);
    hosted_dma_invalidate = on_invalidate;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t before = d.bounces;
        q_ba bus = map(&d, p + cases[i].offset, cases[i].bytes, FROM);

        assert_int_equal(d.bounces - before, cases[i].bounced);
        memset(&invalidated, 0, sizeof invalidated);
        quire_dma_unmap(&d, bus, cases[i].bytes, FROM);
        assert_int_equal(invalidated.n, 1);
        assert_int_equal(invalidated.ptr != p + cases[i].offset, cases[i].bounced);
    }
    remove_device(&d);
    dma_block_free(p, 0);
    dma_nothing_lost();
}

/* ---- coherent memory ---- */

/* In reach whatever the mask, zeroed, usable from both sides, and given back. */
static void coherent_memory_is_in_reach(void **state)
{
    static const unsigned bits[] = {64, 33, 32, 30, 24};

    (void)state;
    for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++) {
        struct quire_dma_device d = {.mask = BITS(bits[i])};

        device(&d);
        for (uint64_t bytes = 1; bytes < 200000; bytes = bytes * 5 + 7) {
            uint8_t *dirty = dma_block(6, 0);
            void *ptr;
            q_ba bus;

            memset(dirty, 0xff, 64 * 4096);
            dma_block_free(dirty, 6);
            assert_int_equal(quire_dma_alloc(&d, bytes, 0, &ptr, &bus), QUIRE_OK);
            assert_true(bus.v + bytes - 1 <= d.mask);
            assert_ptr_equal(dma_device_sees(&d, bus.v), ptr);
            for (uint64_t b = 0; b < bytes; b++)
                assert_int_equal(((uint8_t *)ptr)[b], 0);
            memset(ptr, 0xff, bytes);
            dma_sound();
            quire_dma_free(&d, bytes, ptr, bus);
        }
        remove_device(&d);
    }
    dma_nothing_lost();
}

static void coherent_memory_is_refused(void **state)
{
    struct quire_dma_device blind = {.mask = BITS(20)}, /* memory begins at 1 MiB */
        bounded = {.mask = BITS(32), .boundary = 65536};
    void *ptr;
    q_ba bus;

    (void)state;
    device(&blind), device(&bounded);
    assert_int_equal(quire_dma_alloc(&blind, 4096, 0, &ptr, &bus), QUIRE_NO_MEMORY);
    assert_int_equal(blind.fails, 1);
    assert_int_equal(quire_dma_alloc(&bounded, 0, 0, &ptr, &bus), QUIRE_INVALID);
    assert_int_equal(quire_dma_alloc(&bounded, 65537, 0, &ptr, &bus), QUIRE_INVALID);
    assert_int_equal(quire_dma_alloc(&blind, (4096ull << QUIRE_MAX_ORDER) + 1, 0, &ptr, &bus),
                     QUIRE_INVALID);
    remove_device(&blind), remove_device(&bounded);
    dma_nothing_lost();
}

/* ---- scatter lists ---- */

static void neighbours_merge_and_limits_split(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32), .boundary = 16384, .max_segment = 12288};
    uint8_t *low = dma_block(4, QUIRE_GFP_DMA32), *high = dma_block(1, 0);
    struct quire_page *l = quire_page_of_ptr(low), *h = quire_page_of_ptr(high);
    /* one run of 10 pages from 4 KiB before a boundary, then one out of reach */
    struct quire_dma_sg list[] = {
        {l + 3, 0, 4096}, {l + 4, 0, 8192}, {l + 6, 0, 7 * 4096}, {h, 2000, 5000}};
    static const uint64_t lengths[] = {4096, 12288, 4096, 12288, 4096, 4096, 5000};
    struct quire_dma_segments segs = {.segments = array, .cap = CAP};
    uint64_t at = 3 * 4096;

    (void)state;
    device(&d);
    dma_fill(high, 8192, 9);
    assert_int_equal(quire_dma_map_sg(&d, list, 4, TO, &segs), QUIRE_OK);
    dma_sound();
    assert_int_equal(segs.n, 7);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(segs.segments[i].bytes, lengths[i]);
        assert_ptr_equal(dma_device_sees(&d, segs.segments[i].bus.v), low + at);
        at += lengths[i];
    }
    assert_int_equal(segs.segments[6].bytes, 5000);
    assert_memory_equal(dma_device_sees(&d, segs.segments[6].bus.v), high + 2000, 5000);
    dma_fill(high, 8192, 10);
    quire_dma_sync_sg_for_device(&d, &segs, TO);
    assert_memory_equal(dma_device_sees(&d, segs.segments[6].bus.v), high + 2000, 5000);
    quire_dma_unmap_sg(&d, &segs, TO);
    assert_int_equal(d.bounces, 1);
    remove_device(&d);
    dma_block_free(low, 4);
    dma_block_free(high, 1);
    dma_nothing_lost();
}

/* Too many segments, a full pool, an empty element: nothing is mapped. */
static void lists_are_mapped_whole_or_not(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32)};
    uint8_t *high[4];
    struct quire_dma_sg list[4];
    struct quire_dma_segments segs = {.segments = array, .cap = 3};

    (void)state;
    device(&d);
    for (unsigned i = 0; i < 4; i++) {
        high[i] = dma_block(5, 0);
        dma_fill(high[i], 131072, i);
        list[i] = (struct quire_dma_sg){quire_page_of_ptr(high[i]), 4096 * (i & 1), 65536};
    }
    assert_int_equal(quire_dma_map_sg(&d, list, 4, BOTH, &segs), QUIRE_TOO_MANY);
    assert_int_equal(segs.n, 0);
    assert_int_equal(free_slots(), DMA_SLOTS);
    segs.cap = CAP;
    for (unsigned i = 0; i < 4; i++)
        list[i].offset = 0, list[i].bytes = 131072; /* 512 KiB through 400 */
    assert_int_equal(quire_dma_map_sg(&d, list, 4, BOTH, &segs), QUIRE_NO_MEMORY);
    assert_int_equal(segs.n, 0);
    assert_int_equal(free_slots(), DMA_SLOTS);
    list[3].bytes = 0;
    assert_int_equal(quire_dma_map_sg(&d, list, 4, BOTH, &segs), QUIRE_INVALID);
    assert_int_equal(quire_dma_map_sg(&d, list, 0, BOTH, &segs), QUIRE_INVALID);
    assert_int_equal(quire_dma_map_sg(&d, list, 1, 7, &segs), QUIRE_INVALID);
    list[3].bytes = 8 * QUIRE_DMA_SLOT; /* fits exactly */
    assert_int_equal(quire_dma_map_sg(&d, list, 4, BOTH, &segs), QUIRE_OK);
    assert_int_equal(free_slots(), 0);
    memset(dma_device_sees(&d, segs.segments[1].bus.v), 0x11, 5);
    quire_dma_sync_sg_for_cpu(&d, &segs, BOTH);
    quire_dma_unmap_sg(&d, &segs, BOTH);
    dma_expect(high[0], 131072, 0);
    dma_expect(high[2], 131072, 2);
    for (unsigned i = 0; i < 4; i++)
        dma_block_free(high[i], 5);
    remove_device(&d);
    dma_nothing_lost();
}

/* Bounced pieces are as long as the device's segments may be. */
static void bounced_lists_are_cut_at_limits(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32), .max_segment = 12288};
    uint8_t *p = dma_block(5, 0);
    struct quire_dma_sg list = {quire_page_of_ptr(p), 0, 131072};
    struct quire_dma_segments segs = {.segments = array, .cap = CAP};

    (void)state;
    device(&d);
    assert_int_equal(quire_dma_map_sg(&d, &list, 1, FROM, &segs), QUIRE_OK);
    dma_sound();
    assert_int_equal(segs.n, 11);
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(segs.segments[i].bytes, i < 10 ? 12288 : 131072 - 10 * 12288);
    quire_dma_unmap_sg(&d, &segs, FROM);
    remove_device(&d);
    dma_block_free(p, 5);
    dma_nothing_lost();
}

/* In a pool without long runs a list is cut shorter. */
static void lists_take_the_slots_that_there_are(void **state)
{
    struct quire_dma_device d = {.mask = BITS(32)};
    uint8_t *p = dma_block(5, 0);
    struct quire_dma_sg list = {quire_page_of_ptr(p), 0, 131072};
    struct quire_dma_segments segs = {.segments = array, .cap = CAP};
    q_ba bus[DMA_SLOTS];
    uint64_t sum = 0;

    (void)state;
    device(&d);
    dma_fill(p, 131072, 77);
    for (unsigned i = 0; i < DMA_SLOTS; i++)
        assert_int_equal(quire_dma_map_range(&d, p, 1, TO, &bus[i]), QUIRE_OK);
    for (unsigned i = 0; i < DMA_SLOTS; i++) /* three of four free again: runs of three */
        if (i % 4)
            quire_dma_unmap(&d, bus[i], 1, TO);
    assert_int_equal(quire_dma_map_sg(&d, &list, 1, TO, &segs), QUIRE_OK);
    dma_sound();
    assert_true(segs.n >= 64 / 3);
    for (unsigned i = 0; i < segs.n; i++) {
        assert_true(segs.segments[i].bytes <= 3 * QUIRE_DMA_SLOT);
        assert_memory_equal(dma_device_sees(&d, segs.segments[i].bus.v), p + sum,
                            segs.segments[i].bytes);
        sum += segs.segments[i].bytes;
    }
    assert_int_equal(sum, 131072);
    quire_dma_unmap_sg(&d, &segs, TO);
    for (unsigned i = 0; i < DMA_SLOTS; i += 4)
        quire_dma_unmap(&d, bus[i], 1, TO);
    remove_device(&d);
    dma_block_free(p, 5);
    dma_nothing_lost();
}

/* ---- memory that is nobody's to free ---- */

/* What the boot map reserves (firmware, an initial file system) may be mapped; its references are left alone. */
static void reserved_memory_is_mapped(void **state)
{
    static struct quire_mem_range list[8], reserved[8];
    static struct quire_memmap map_;
    struct quire_dma_device d = {.mask = BITS(32)};
    struct quire_dma_config config = {.slots = 8};
    struct quire_page *within;
    uint32_t refs;
    uint8_t *p;
    q_ba bus;

    (void)state;
    hosted_init(64 * HEAP_MIB);
    quire_memmap_init(&map_, list, 8, reserved, 8);
    assert_int_equal(quire_memmap_add(&map_, Q_PA(HEAP_MIB), 63 * HEAP_MIB, QUIRE_MEM_USABLE),
                     QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&map_, Q_PA(4 << 20), 4 << 20, "initrd", NULL), QUIRE_OK);
    assert_int_equal(quire_frame_init(&(struct quire_boot){.map = &map_, .nodes = 1, .cpus = 1}),
                     QUIRE_OK);
    assert_int_equal(quire_heap_init(), QUIRE_OK);
    assert_int_equal(quire_dma_init(&config), QUIRE_OK);
    device(&d);
    p = (uint8_t *)QPORT_DIRECT_BASE + (4 << 20);
    within = quire_page_of_ptr(p + (3 << 20));
    refs = within->refs;
    bus = map(&d, p, 4 << 20, BOTH);
    assert_ptr_equal(dma_device_sees(&d, bus.v), p);
    assert_int_equal(within->refs, refs);
    quire_dma_unmap(&d, bus, 4 << 20, BOTH);
    assert_int_equal(within->refs, refs);
    assert_int_equal(quire_page_flags(quire_pfn_of_page(within)) & QUIRE_PG_RESERVED,
                     QUIRE_PG_RESERVED);
    dma_sound();
    remove_device(&d);
    assert_int_equal(quire_dma_fini(), QUIRE_OK);
    heap_sound();
}

/* ---- where memory ends ---- */

/* Everything a driver does, once; false if something was refused, and then all is given back. */
static bool try_everything(uint8_t *low, uint8_t *high)
{
    struct quire_dma_config config = {.slots = 70, .mappings = 5000};
    struct quire_dma_device d = {.name = "tried", .mask = BITS(32)};
    struct quire_dma_sg list[] = {{quire_page_of_ptr(high), 0, 4096},
                                  {quire_page_of_ptr(low), 0, 4096}};
    struct quire_dma_segments segs = {.segments = array, .cap = CAP};
    bool all = false;
    void *ptr;
    q_ba bus, direct;

    if (quire_dma_init(&config) != QUIRE_OK)
        return false;
    assert_int_equal(quire_dma_device_init(&d), QUIRE_OK);
    if (quire_dma_alloc(&d, 9000, 0, &ptr, &bus) == QUIRE_OK) {
        if (quire_dma_map_range(&d, low, 100, FROM, &direct) == QUIRE_OK) {
            if (quire_dma_map_sg(&d, list, 2, BOTH, &segs) == QUIRE_OK) {
                all = true;
                quire_dma_unmap_sg(&d, &segs, BOTH);
            }
            quire_dma_unmap(&d, direct, 100, FROM);
        }
        quire_dma_free(&d, 9000, ptr, bus);
    }
    dma_sound();
    remove_device(&d);
    assert_int_equal(quire_dma_fini(), QUIRE_OK);
    return all;
}

/* Each allocation of each call fails once. */
static void every_allocation_may_fail(void **state)
{
    static void (*const arm[])(int64_t) = {quire_heap_fail_after, quire_frame_fail_after};
    static bool (*const armed[])(void) = {quire_heap_fail_armed, quire_frame_fail_armed};
    uint8_t *low = dma_block(0, QUIRE_GFP_DMA32), *high = dma_block(0, 0);
    unsigned refused = 0;

    (void)state;
    assert_int_equal(quire_dma_fini(), QUIRE_OK);
    for (unsigned layer = 0; layer < 2; layer++) {
        bool done = false;

        for (int64_t n = 1; !done; n++) {
            uint64_t frames = heap_free_pages();
            bool all;

            arm[layer](n);
            all = try_everything(low, high);
            done = armed[layer]();
            arm[layer](-1);
            refused += !all;
            assert_true(all || !done);
            heap_sound();
            assert_int_equal(heap_free_pages(), frames);
        }
    }
    assert_true(refused >= 7); /* chains, chunks, cache, four entries */
    dma_block_free(low, 0);
    dma_block_free(high, 0);
    assert_int_equal(heap_free_pages(), dma_frames_at_start);
}

/* No pool, or none that the device reaches: NO_MEMORY. */
static void without_a_pool_nothing_bounces(void **state)
{
    struct quire_dma_device low = {.mask = BITS(32)}, lower = {.mask = BITS(24)};
    struct quire_dma_config none = {.slots = 0}, small = {.slots = 16, .limit = 0xffffff},
                            many = {.slots = (1u << 20) + 1}, chains = {.mappings = (1u << 20) + 1},
                            nowhere = {.slots = 1, .limit = 0xfffff};
    uint8_t *p = dma_block(0, 0);
    q_ba bus;

    (void)state;
    device(&lower); /* the pool lies high in the first 4 GiB */
    assert_int_equal(quire_dma_map_range(&lower, p, 1, TO, &bus), QUIRE_NO_MEMORY);
    remove_device(&lower);
    assert_int_equal(quire_dma_fini(), QUIRE_OK);
    assert_int_equal(quire_dma_init(&many), QUIRE_INVALID);
    assert_int_equal(quire_dma_init(&chains), QUIRE_INVALID);
    assert_int_equal(quire_dma_init(&nowhere), QUIRE_NO_MEMORY);
    assert_int_equal(quire_dma_init(&none), QUIRE_OK);
    device(&low);
    assert_int_equal(quire_dma_map_range(&low, p, 1, TO, &bus), QUIRE_NO_MEMORY);
    assert_int_equal(quire_dma_fini(), QUIRE_BUSY);
    remove_device(&low);
    assert_int_equal(quire_dma_fini(), QUIRE_OK);
    assert_int_equal(quire_dma_init(&small), QUIRE_OK);
    device(&lower);
    bus = map(&lower, p, 4096, TO);
    quire_dma_unmap(&lower, bus, 4096, TO);
    remove_device(&lower);
    dma_block_free(p, 0);
    dma_nothing_lost();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bus_addresses_are_not_physical),
        TEST(runs_end_where_bus_addresses_do),
        TEST(bounces_carry_data_both_ways),
        TEST(syncs_move_their_part),
        TEST(limits_are_kept),
        TEST(the_pool_has_an_end),
        TEST(caches_are_cleaned_and_dropped),
        TEST(shared_lines_bounce),
        TEST(coherent_memory_is_in_reach),
        TEST(coherent_memory_is_refused),
        TEST(neighbours_merge_and_limits_split),
        TEST(lists_are_mapped_whole_or_not),
        TEST(bounced_lists_are_cut_at_limits),
        TEST(lists_take_the_slots_that_there_are),
        TEST(reserved_memory_is_mapped),
        TEST(every_allocation_may_fail),
        TEST(without_a_pool_nothing_bounces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
