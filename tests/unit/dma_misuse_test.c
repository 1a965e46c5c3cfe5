/*
 * dma_misuse_test.c - what a driver must not do, each with the words of the report; each invariant broken, and
 * what verify says.
 */
#include <dma_machine.h>

#include <unistd.h>

#define TO   QUIRE_DMA_TO_DEVICE
#define FROM QUIRE_DMA_FROM_DEVICE
#define BOTH QUIRE_DMA_BOTH

static struct quire_dma_device dev, other;
static uint8_t *high, *low; /* four pages each */

static int setup(void **state)
{
    (void)state;
    dma_machine(DMA_SPAN, DMA_SLOTS);
    high = dma_block(2, 0);
    low = dma_block(2, QUIRE_GFP_DMA32);
    dev = (struct quire_dma_device){.name = "disk", .mask = BITS(32)};
    other = (struct quire_dma_device){
        .name = "nic", .mask = BITS(64), .offset = 1ull << 40, .flags = QUIRE_DMA_NONCOHERENT};
    assert_int_equal(quire_dma_device_init(&dev), QUIRE_OK);
    assert_int_equal(quire_dma_device_init(&other), QUIRE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_fini();
    return 0;
}

static q_ba map(struct quire_dma_device *d, void *p, uint64_t bytes, enum quire_dma_direction dir)
{
    q_ba bus = Q_BA(0);

    assert_int_equal(quire_dma_map_range(d, p, bytes, dir, &bus), QUIRE_OK);
    return bus;
}

static void finish(void)
{
    assert_int_equal(quire_dma_device_fini(&dev), QUIRE_OK);
    assert_int_equal(quire_dma_device_fini(&other), QUIRE_OK);
    dma_block_free(high, 2);
    dma_block_free(low, 2);
    dma_nothing_lost();
}

/* An unmap names what was mapped, exactly, and once; what is refused is still mapped. */
static void unmaps_match_their_maps(void **state)
{
    uint8_t *memory[] = {high, low};

    (void)state;
    for (volatile unsigned i = 0; i < 2; i++) { /* volatile: kept by longjmp */
        q_ba bus = map(&dev, memory[i], 3000, FROM);

        PANICS(quire_dma_unmap(&dev, bus, 3001, FROM), "unmap by disk of 3001 bytes");
        PANICS(quire_dma_unmap(&dev, bus, 3001, FROM),
               "mapped there are 3000 bytes, streaming from device");
        PANICS(quire_dma_unmap(&dev, bus, 3000, TO),
               "streaming to device: mapped there are 3000 bytes");
        PANICS(quire_dma_unmap(&dev, Q_BA(bus.v + 1), 3000, FROM), "nothing is mapped there");
        PANICS(quire_dma_unmap(&other, bus, 3000, FROM), "unmap by nic");
        PANICS(quire_dma_free(&dev, 3000, memory[i], bus), "free by disk");
        dma_sound();
        quire_dma_unmap(&dev, bus, 3000, FROM);
        PANICS(quire_dma_unmap(&dev, bus, 3000, FROM), "nothing is mapped there");
    }
    finish();
}

/* Of several mappings of one memory each unmap ends one, the one that it describes. */
static void mappings_of_one_address_are_told_apart(void **state)
{
    q_ba a = map(&dev, low, 3000, TO), b = map(&dev, low, 2000, TO), c = map(&dev, low, 3000, FROM),
         d = map(&dev, low, 3000, TO);

    (void)state;
    assert_true(a.v == b.v && b.v == c.v && c.v == d.v);
    dma_sound();
    quire_dma_unmap(&dev, a, 3000, TO);
    quire_dma_unmap(&dev, a, 2000, TO);
    quire_dma_unmap(&dev, a, 3000, TO);
    dma_sound();
    PANICS(quire_dma_unmap(&dev, a, 3000, TO),
           "mapped there are 3000 bytes, streaming from device");
    quire_dma_unmap(&dev, a, 3000, FROM);
    finish();
}

static void syncs_stay_inside(void **state)
{
    q_ba bus = map(&dev, high, 3000, FROM), lines = map(&other, low, 640, BOTH);

    (void)state;
    PANICS(quire_dma_sync_for_cpu(&dev, bus, 0, 3001, FROM), "the mapping at bus");
    PANICS(quire_dma_sync_for_device(&dev, bus, 3000, 1, FROM), "of 1 bytes from 3000 on");
    PANICS(quire_dma_sync_for_device(&dev, bus, UINT64_MAX, 2, FROM), "has 3000");
    PANICS(quire_dma_sync_for_cpu(&dev, bus, 0, 3000, BOTH), "streaming both ways");
    PANICS(quire_dma_sync_for_cpu(&dev, Q_BA(bus.v + 1), 0, 1, FROM), "nothing is mapped there");
    PANICS(quire_dma_sync_for_cpu(&other, lines, 32, 64, BOTH), "not whole lines of 64 bytes");
    PANICS(quire_dma_sync_for_device(&other, lines, 64, 65, BOTH), "not whole lines of 64 bytes");
    quire_dma_sync_for_cpu(&other, lines, 576, 64, BOTH);
    quire_dma_unmap(&other, lines, 640, BOTH);
    PANICS(quire_dma_sync_for_cpu(&other, lines, 0, 64, BOTH), "nothing is mapped there");
    quire_dma_unmap(&dev, bus, 3000, FROM);
    finish();
}

/* Only memory of the direct map that somebody holds. */
static void only_memory_is_mapped(void **state)
{
    uint8_t local[64];
    static uint8_t image[64];
    struct quire_page *table = quire_page_of_ptr(low);
    struct quire_dma_sg list = {quire_page_of_ptr(low), DMA_SPAN, 4096};
    struct quire_dma_segment one;
    struct quire_dma_segments segs = {.segments = &one, .cap = 1};
    uint8_t *freed = dma_block(0, 0);
    q_ba bus;

    (void)state;
    PANICS((void)quire_dma_map_range(&other, local, 64, TO, &bus), "not in the direct map");
    PANICS((void)quire_dma_map_range(&other, image, 64, TO, &bus), "not in the direct map");
    PANICS((void)quire_dma_map_range(&other, (void *)0xffffc00000001000, 64, TO, &bus),
           "a kernel area");
    PANICS(
        (void)quire_dma_map_range(&other, (char *)QPORT_DIRECT_BASE + DMA_SPAN - 64, 65, TO, &bus),
        "not in the direct map");
    PANICS((void)quire_dma_map_range(&other, low, UINT64_MAX, TO, &bus),
           "past the end of addresses");
    PANICS((void)quire_dma_map_sg(&other, &list, 1, TO, &segs), "not in the direct map");
    dma_block_free(freed, 0);
    PANICS((void)quire_dma_map_range(&other, freed, 64, TO, &bus), "is free");
    table->flags |= QUIRE_PG_TABLE;
    PANICS((void)quire_dma_map_range(&other, low, 64, FROM, &bus), "is a page table");
    bus = map(&other, low, 64, TO); /* reading one is what an IOMMU does */
    quire_dma_unmap(&other, bus, 64, TO);
    table->flags &= ~QUIRE_PG_TABLE;
    dma_sound();
    finish();
}

/* Whoever frees memory that a device still uses is told; a reference that is dropped waits. */
static void mapped_memory_is_not_freed(void **state)
{
    struct quire_page *page = quire_page_of_ptr(dma_block(0, 0));
    volatile q_ba bus = map(&other, quire_page_ptr(page), 4096, FROM); /* kept by longjmp */
    q_ba bounced = map(&dev, quire_page_ptr(page), 4096, FROM);
    uint64_t frames;
    void *p;

    (void)state;
    PANICS(quire_page_free(page, 0), "others hold");
    frames = quire_free_pages();
    quire_page_put(page);
    assert_int_equal(quire_free_pages(), frames);
    dma_sound();
    quire_dma_unmap(&dev, bounced, 4096, FROM);
    assert_int_equal(quire_free_pages(), frames);
    quire_dma_unmap(&other, bus, 4096, FROM);
    assert_int_equal(quire_free_pages(), frames + 1);

    p = quire_kmalloc(100000, 0);
    bus = map(&other, p, 100000 & ~63u, FROM);
    PANICS(quire_kfree(p), "others hold");
    quire_dma_unmap(&other, bus, 100000 & ~63u, FROM);
    quire_page_free(quire_page_of_ptr(p), 5); /* where kfree stopped */
    finish();
}

static void devices_are_known(void **state)
{
    struct quire_dma_device stranger = {.name = "stranger", .mask = BITS(32)};
    q_ba bus;
    void *p;

    (void)state;
    PANICS((void)quire_dma_map_range(&stranger, low, 1, TO, &bus), "which is no device");
    PANICS(quire_dma_unmap(&stranger, Q_BA(0), 1, TO), "which is no device");
    PANICS((void)quire_dma_alloc(&stranger, 1, 0, &p, &bus), "which is no device");
    PANICS((void)quire_dma_device_fini(&stranger), "which is no device");
    PANICS((void)quire_dma_device_init(&dev), "init of disk, which is a device already");
    finish();
}

/* Limits that make no sense are refused. */
static void limits_are_checked(void **state)
{
    static const struct quire_dma_range bus_overlap[] = {{Q_PA(0), 8192, Q_BA(0)},
                                                         {Q_PA(8192), 8192, Q_BA(4096)}},
                                        pa_overlap[] = {{Q_PA(8192), 8192, Q_BA(0)},
                                                        {Q_PA(4096), 8192, Q_BA(8192)}},
                                        odd[] = {{Q_PA(100), 4096, Q_BA(0)}},
                                        empty[] = {{Q_PA(0), 0, Q_BA(0)}},
                                        wrap[] = {{Q_PA(0), 8192, Q_BA(0xfffffffffffff000)}};
    struct quire_dma_device bad[] = {
        {.mask = 0},
        {.mask = 0x7ff},
        {.mask = 0xfff0ffff},
        {.mask = BITS(32), .align = 3},
        {.mask = BITS(32), .align = 8192},
        {.mask = BITS(32), .max_segment = 100},
        {.mask = BITS(32), .max_segment = 512, .align = 1024},
        {.mask = BITS(32), .boundary = 1024},
        {.mask = BITS(32), .boundary = 12288},
        {.mask = BITS(32), .boundary = 2048, .align = 4096},
        {.mask = BITS(32), .offset = 100},
        {.mask = BITS(32), .flags = 2},
        {.mask = BITS(32), .ranges = bus_overlap, .nranges = 2},
        {.mask = BITS(32), .ranges = pa_overlap, .nranges = 2},
        {.mask = BITS(32), .ranges = odd, .nranges = 1},
        {.mask = BITS(32), .ranges = empty, .nranges = 1},
        {.mask = BITS(32), .ranges = wrap, .nranges = 1},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (quire_dma_device_init(&bad[i]) != QUIRE_INVALID)
            fail_msg("device %u was taken", i);
    finish();
}

/* What was written to the log while fn ran. */
static size_t log_of(void (*fn)(void), char *text, size_t cap)
{
    FILE *f = tmpfile();
    int saved = dup(2);
    size_t n;

    assert_non_null(f);
    fflush(stderr);
    dup2(fileno(f), 2);
    hosted_log_on = 1;
    fn();
    hosted_log_on = 0;
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    rewind(f);
    n = fread(text, 1, cap - 1, f);
    text[n] = 0;
    fclose(f);
    return n;
}

static void try_to_remove(void) { assert_int_equal(quire_dma_device_fini(&dev), QUIRE_BUSY); }

/* A device that goes names the first eight of what it left, and stays until all is unmapped. */
static void leaks_are_named(void **state)
{
    static char text[4096];
    unsigned lines = 0;
    q_ba bus[10], foreign = map(&other, low, 64, TO), coherent;
    void *ptr;

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        bus[i] = map(&dev, high + 256 * i, 100 + i, TO);
    log_of(try_to_remove, text, sizeof text);
    assert_non_null(strstr(text, "disk still has 10 mappings"));
    assert_non_null(strstr(text, "streaming to device, bounced"));
    assert_null(strstr(text, "nic"));
    for (const char *at = text; (at = strstr(at, "bytes at bus")); at++)
        lines++;
    assert_int_equal(lines, 8);
    for (unsigned i = 0; i < 10; i++)
        quire_dma_unmap(&dev, bus[i], 100 + i, TO);
    assert_int_equal(quire_dma_alloc(&dev, 777, 0, &ptr, &coherent), QUIRE_OK);
    log_of(try_to_remove, text, sizeof text);
    assert_non_null(strstr(text, "disk still has 1 mapping"));
    assert_non_null(strstr(text, "777 bytes"));
    assert_non_null(strstr(text, "coherent"));
    PANICS(quire_dma_free(&dev, 778, ptr, coherent), "mapped there are 777 bytes, coherent");
    PANICS(quire_dma_free(&dev, 777, (char *)ptr + 4096, coherent), "mapped there are 777 bytes");
    PANICS(quire_dma_unmap(&dev, coherent, 777, BOTH), "mapped there are 777 bytes, coherent");
    quire_dma_free(&dev, 777, ptr, coherent);
    PANICS(quire_dma_free(&dev, 777, ptr, coherent), "nothing is mapped there");
    quire_dma_unmap(&other, foreign, 64, TO);
    finish();
}

static void corrupt(const char *words)
{
    assert_int_equal(quire_dma_verify(), QUIRE_CORRUPT);
    if (!strstr(hosted_log_last(), words))
        fail_msg("said '%s', not '%s'", hosted_log_last(), words);
}

static struct qi_dma_mapping *entry_of(struct quire_dma_device *d, q_ba bus)
{
    struct qi_dma_mapping *m = qi_dma_chain_of(d, bus)->first;

    while (m && (m->dev != d || m->bus.v != bus.v))
        m = m->next;
    assert_non_null(m);
    return m;
}

/* Broken, seen, mended. */
#define BREAK(where, value, words)                      \
    do {                                                \
        __typeof__(where) break_was_ = (where);         \
        (where) = (value);                              \
        corrupt(words);                                 \
        (where) = break_was_;                           \
        assert_int_equal(quire_dma_verify(), QUIRE_OK); \
    } while (0)

static void verify_sees_each_invariant_broken(void **state)
{
    q_ba a = map(&dev, high, 3000, FROM), b = map(&dev, high + 4096, 3000, FROM),
         c = map(&other, low, 128, FROM);
    struct qi_dma_mapping *ma = entry_of(&dev, a), *mb = entry_of(&dev, b),
                          *mc = entry_of(&other, c);
    struct qi_dma_chunk *chunk = &qi_dma.chunks[ma->chunk];

    (void)state;
    BREAK(chunk->free, chunk->free | qi_dma_slot_bits(ma), "D1");
    BREAK(chunk->free, chunk->free & (chunk->free - 1), "D1");
    BREAK(ma->slot, mb->slot, "dma: D"); /* D1 or D3, by the order in the table */
    BREAK(ma->slots, 0, "D1");
    BREAK(ma->chunk, qi_dma.nchunks, "D1");
    BREAK(dev.maps, dev.maps + 1, "D2: disk: 3 maps, 0 unmaps, 2 in the table");
    BREAK(dev.maps, dev.maps - 1, "D2");
    BREAK(other.magic, 0, "D2");
    BREAK(ma->bus, Q_BA(a.v + 1), "D");
    BREAK(dev.mask, BITS(12), "D3");
    BREAK(mc->bytes, 100, "D6");
    BREAK(quire_page_of_ptr(high)->refs, 0, "D4");
    PANICS(qi_dma_slots_give(&(struct qi_dma_mapping){.chunk = 3, .slot = 7, .slots = 1}),
           "D1: slots 7 to 7 of chunk 3 are free already");
    quire_dma_unmap(&dev, a, 3000, FROM);
    quire_dma_unmap(&dev, b, 3000, FROM);
    quire_dma_unmap(&other, c, 128, FROM);
    finish();
}

/* Against the definition, for all lengths. */
static void runs_are_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t word = test_random() | test_random() | (i % 3 ? test_random() : 0);

        if (!i)
            word = ~0ull;
        for (unsigned n = 1; n <= 64; n++) {
            uint64_t runs = qi_dma_runs(word, n);

            for (unsigned at = 0; at < 64; at++) {
                bool all = at + n <= 64;

                for (unsigned k = at; all && k < at + n; k++)
                    all = word >> k & 1;
                assert_int_equal(runs >> at & 1, all);
            }
        }
    }
    finish();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unmaps_match_their_maps),
        TEST(mappings_of_one_address_are_told_apart),
        TEST(syncs_stay_inside),
        TEST(only_memory_is_mapped),
        TEST(mapped_memory_is_not_freed),
        TEST(devices_are_known),
        TEST(limits_are_checked),
        TEST(leaks_are_named),
        TEST(verify_sees_each_invariant_broken),
        TEST(runs_are_found),
    };

    test_seed("dma_misuse_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
