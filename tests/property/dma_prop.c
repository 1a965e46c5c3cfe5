/*
 * dma_prop.c - random devices, mappings and syncs against a dumb model of who sees which byte.
 *
 * The model knows for each byte of some buffers what the CPU reads (v), what the device reads (d)
 * and whose it is.  It does not ask whether a mapping is bounced: nobody may notice (D5 of dma.c).
 * For devices that do not see the CPU's caches there are caches, of this kind:
 *
 *     direct map   what the CPU reads: its caches, and memory where nothing is cached
 *     ram          what such a device reads and writes
 *     loaded       each line as the CPU last loaded or cleaned it: a line that differs now is dirty
 *
 * At any time a dirty line may be written back and a clean one loaded anew, as hardware does.
 */
#include <dma_machine.h>

#include <sys/mman.h>

#define LINE    64u
#define BUFFERS 24u
#define DEVICES 6u
#define ORDER   5u
#define BYTES   (4096u << ORDER)
#define SEGS    300u

enum owner { NOBODY, DEVICE, CPU, CPU_WROTE };

struct part {
    uint64_t bus, bytes, at; /* at: offset in the buffer */
};

struct buffer {
    uint8_t *p;
    uint64_t bytes;
    unsigned order;
    struct quire_dma_device *dev; /* it is mapped for */
    enum quire_dma_direction dir;
    bool list;
    struct quire_dma_segments segs;
    struct quire_dma_segment array[SEGS];
    struct part parts[SEGS];
    uint8_t v[BYTES], d[BYTES], owner[BYTES];
};

static struct buffer buffers[BUFFERS];
static struct quire_dma_device devices[DEVICES];
static struct quire_dma_range ranges[DEVICES][3];
static uint8_t *ram, *loaded;
static uint64_t seen_bounces, seen_refusals, seen_lists;

/* ---- caches ---- */

static uint64_t line_of(const void *p) { return dma_pa(p) & ~(uint64_t)(LINE - 1); }
static uint8_t *cpu_at(uint64_t pa) { return (uint8_t *)QPORT_DIRECT_BASE + pa; }

static void clean(void *ptr, uint64_t bytes)
{
    for (uint64_t pa = line_of(ptr); bytes && pa < dma_pa(ptr) + bytes; pa += LINE) {
        if (memcmp(cpu_at(pa), loaded + pa, LINE))
            memcpy(ram + pa, cpu_at(pa), LINE);
        memcpy(loaded + pa, cpu_at(pa), LINE);
    }
}

static void invalidate(void *ptr, uint64_t bytes)
{
    for (uint64_t pa = line_of(ptr); bytes && pa < dma_pa(ptr) + bytes; pa += LINE) {
        memcpy(cpu_at(pa), ram + pa, LINE);
        memcpy(loaded + pa, ram + pa, LINE);
    }
}

/* Nothing is cached. */
static void settle(const uint8_t *p, uint64_t bytes)
{
    memcpy(ram + dma_pa(p), p, bytes);
    memcpy(loaded + dma_pa(p), p, bytes);
}

/* What a cache does by itself to a line. */
static void stir(uint8_t *p)
{
    uint64_t pa = line_of(p);

    if (memcmp(cpu_at(pa), loaded + pa, LINE))
        clean(cpu_at(pa), LINE);
    else
        invalidate(cpu_at(pa), LINE);
}

/* ---- what a device does ---- */

static bool coherent(const struct quire_dma_device *d)
{
    return !(d->flags & QUIRE_DMA_NONCOHERENT);
}

static uint8_t device_reads(const struct quire_dma_device *d, uint64_t bus)
{
    uint8_t *p = dma_device_sees(d, bus);

    return coherent(d) ? *p : ram[dma_pa(p)];
}

static void device_writes(const struct quire_dma_device *d, uint64_t bus, uint8_t value)
{
    uint8_t *p = dma_device_sees(d, bus);

    ram[dma_pa(p)] = value;
    if (coherent(d))
        *p = loaded[dma_pa(p)] = value;
}

static uint64_t pow2_or_0(unsigned from, unsigned to)
{
    return test_random_below(2) ? 0 : 1ull << (from + test_random_below(to - from + 1));
}

static void random_device(unsigned i)
{
    static const unsigned bits[] = {24, 30, 32, 33, 40, 64};
    struct quire_dma_device *d = &devices[i];

    *d = (struct quire_dma_device){
        .name = "random",
        .mask = BITS(bits[test_random_below(6)]),
        .flags = test_random_below(2) ? QUIRE_DMA_NONCOHERENT : 0,
        .boundary = pow2_or_0(12, 17),
        .align = (uint32_t)pow2_or_0(0, 12),
        .max_segment = test_random_below(2) ? 0 : 4096 * (1 + test_random_below(40)),
    };
    switch (test_random_below(3)) {
    case 0: d->offset = (test_random_below(512) - 256) << 12; break;
    case 1: { /* a hole of 64 MiB in what it sees, the halves exchanged */
        uint64_t cut = (1 + test_random_below(78)) << 26;

        ranges[i][0] = (struct quire_dma_range){Q_PA(cut), DMA_SPAN - cut, Q_BA(0)};
        ranges[i][1] = (struct quire_dma_range){Q_PA(0), cut - (64 << 20), Q_BA(DMA_SPAN)};
        d->ranges = ranges[i];
        d->nranges = cut > 64 << 20 ? 2 : 1;
        d->mask |= BITS(test_random_below(2) ? 33 : 36);
        break;
    }
    default: break;
    }
    assert_int_equal(quire_dma_device_init(d), QUIRE_OK);
}

/* ---- what is to be expected ---- */

static bool bus_of(const struct quire_dma_device *d, uint64_t pa, uint64_t *bus)
{
    *bus = pa + d->offset;
    for (uint32_t i = 0; i < d->nranges; i++) {
        *bus = d->ranges[i].bus.v + (pa - d->ranges[i].pa.v);
        if (pa >= d->ranges[i].pa.v && pa - d->ranges[i].pa.v < d->ranges[i].bytes)
            return *bus <= d->mask;
    }
    return !d->nranges && *bus <= d->mask;
}

static bool segment_legal(const struct quire_dma_device *d, uint64_t bus, uint64_t bytes)
{
    return bytes && bus + (bytes - 1) >= bus && bus + (bytes - 1) <= d->mask &&
           (!d->align || bus % d->align == 0) && (!d->max_segment || bytes <= d->max_segment) &&
           (!d->boundary || bus / d->boundary == (bus + bytes - 1) / d->boundary);
}

/* The device can use the memory itself. */
static bool direct(const struct quire_dma_device *d, uint64_t pa, uint64_t bytes,
                   enum quire_dma_direction dir)
{
    uint64_t first, bus;

    if (!bus_of(d, pa, &first) || !segment_legal(d, first, bytes))
        return false;
    for (uint64_t i = 0; i < bytes; i++)
        if (!bus_of(d, pa + i, &bus) || bus != first + i)
            return false;
    return coherent(d) || dir == QUIRE_DMA_TO_DEVICE || (pa % LINE == 0 && bytes % LINE == 0);
}

static bool pool_in_reach(const struct quire_dma_device *d)
{
    for (uint32_t i = 0; i < qi_dma.nchunks; i++) {
        uint64_t pa = qi_dma.chunks[i].pa.v, bus, last;

        if (qi_dma.chunks[i].free != ~0ull || !bus_of(d, pa, &bus) ||
            !bus_of(d, pa + QUIRE_DMA_BOUNCE_MAX - 1, &last) ||
            last - bus != QUIRE_DMA_BOUNCE_MAX - 1)
            return false;
    }
    return true;
}

/* ---- the buffers ---- */

static void cpu_writes(struct buffer *b, uint64_t at)
{
    b->p[at] = b->v[at] = (uint8_t)test_random();
    if (b->owner[at] == CPU)
        b->owner[at] = CPU_WROTE;
}

static void cpu_checks(const struct buffer *b)
{
    for (uint64_t i = 0; i < b->bytes; i++)
        if (b->owner[i] != DEVICE && b->p[i] != b->v[i])
            fail_msg("the CPU reads %#x, not %#x, at %llu of buffer %ld, owner %u", b->p[i],
                     b->v[i], (unsigned long long)i, (long)(b - buffers), b->owner[i]);
}

static void device_checks(const struct buffer *b, const struct part *s)
{
    for (uint64_t i = 0; i < s->bytes; i++) {
        uint8_t got = device_reads(b->dev, s->bus + i);

        if (b->owner[s->at + i] == DEVICE && got != b->d[s->at + i])
            fail_msg("the device reads %#x, not %#x, at %llu of buffer %ld", got, b->d[s->at + i],
                     (unsigned long long)(s->at + i), (long)(b - buffers));
    }
}

static void to_device(struct buffer *b, uint64_t at, uint64_t bytes)
{
    memcpy(b->d + at, b->v + at, bytes);
    memset(b->owner + at, DEVICE, bytes);
}

/* What the device wrote is the CPU's to see; bytes that the CPU has already are as they are. */
static void to_cpu(struct buffer *b, uint64_t at, uint64_t bytes, enum owner owner)
{
    for (uint64_t i = at; i < at + bytes; i++) {
        if (b->owner[i] == DEVICE && b->dir != QUIRE_DMA_TO_DEVICE)
            b->v[i] = b->d[i];
        if (b->owner[i] != CPU_WROTE || owner == NOBODY)
            b->owner[i] = (uint8_t)owner;
    }
}

static void new_buffer(struct buffer *b)
{
    b->order = (unsigned)test_random_below(ORDER + 1);
    b->bytes = 4096ull << b->order;
    b->p = dma_block(b->order, test_random_below(3) ? 0 : QUIRE_GFP_DMA32);
    settle(b->p, b->bytes);
    memset(b->owner, NOBODY, b->bytes);
    for (uint64_t i = 0; i < b->bytes; i++)
        b->p[i] = b->v[i] = (uint8_t)test_random();
    b->dev = NULL;
}

/* ---- operations ---- */

static void check_parts(struct buffer *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(segment_legal(b->dev, b->parts[i].bus, b->parts[i].bytes));
        to_device(b, b->parts[i].at, b->parts[i].bytes);
        device_checks(b, &b->parts[i]);
    }
}

static void map_one(struct buffer *b, struct quire_dma_device *d)
{
    uint64_t at = test_random_below(b->bytes), bytes = 1 + test_random_below(b->bytes - at);
    uint64_t before = d->bounces, pa;
    bool whole = pool_in_reach(d), can;
    enum quire_status s;
    q_ba bus = Q_BA(0);

    if (test_random_below(2)) {
        at &= ~511ull;
        bytes = test_random_below(2) ? (bytes + 63) & ~63ull : bytes;
    }
    pa = dma_pa(b->p) + at;
    can = direct(d, pa, bytes, b->dir);
    s = test_random_below(2)
            ? quire_dma_map_range(d, b->p + at, bytes, b->dir, &bus)
            : quire_dma_map_page(d, quire_page_of_ptr(b->p), at, bytes, b->dir, &bus);
    if (s == QUIRE_OK) {
        assert_int_equal(d->bounces - before, !can);
        seen_bounces += !can;
        b->dev = d;
        b->list = false;
        b->segs.n = 1;
        b->parts[0] = (struct part){bus.v, bytes, at};
        check_parts(b, 1);
        return;
    }
    seen_refusals++;
    assert_false(can);
    if (bytes > quire_dma_max_bytes(d))
        assert_int_equal(s, QUIRE_INVALID);
    else
        assert_true(s == QUIRE_NO_MEMORY && !whole);
}

/* Pieces of the buffer from front to back, some of them neighbours. */
static uint32_t random_list(struct buffer *b, struct quire_dma_sg *list, uint32_t cap)
{
    uint64_t at = test_random_below(b->bytes / 2 + 1);
    uint32_t n = 0;

    while (n < cap && at < b->bytes) {
        uint64_t bytes = test_random_below(3) ? 1 + test_random_below(9000) : 4096;

        bytes = bytes < b->bytes - at ? bytes : b->bytes - at;
        list[n++] = (struct quire_dma_sg){quire_page_of_ptr(b->p) + at / 4096, at % 4096, bytes};
        at += bytes;
        if (!test_random_below(3))
            at += 1 + test_random_below(5000);
    }
    return n;
}

/* The segments, in order, are the pieces, in order. */
static void parts_of_list(struct buffer *b, const struct quire_dma_sg *list, uint32_t n)
{
    uint64_t done = 0;
    uint32_t k = 0;

    for (uint32_t i = 0; i < b->segs.n; i++) {
        uint64_t left = b->array[i].bytes, at = quire_pa_of_page(list[k].page).v + list[k].offset;

        b->parts[i] = (struct part){b->array[i].bus.v, left, at + done - dma_pa(b->p)};
        while (left) {
            uint64_t step = list[k].bytes - done < left ? list[k].bytes - done : left;

            assert_int_equal(quire_pa_of_page(list[k].page).v + list[k].offset + done,
                             dma_pa(b->p) + b->parts[i].at + (b->array[i].bytes - left));
            left -= step;
            done += step;
            if (done == list[k].bytes)
                k++, done = 0;
        }
    }
    assert_int_equal(k, n);
}

static void map_list(struct buffer *b, struct quire_dma_device *d)
{
    struct quire_dma_sg list[40];
    uint32_t n = random_list(b, list, 1 + (uint32_t)test_random_below(40));
    uint64_t live = d->maps - d->unmaps;
    enum quire_status s;

    b->segs =
        (struct quire_dma_segments){.segments = b->array, .cap = test_random_below(4) ? SEGS : 5};
    s = quire_dma_map_sg(d, list, n, b->dir, &b->segs);
    if (s != QUIRE_OK) {
        seen_refusals++;
        assert_true(s == QUIRE_NO_MEMORY || s == QUIRE_TOO_MANY);
        assert_int_equal(b->segs.n, 0);
        assert_int_equal(d->maps - d->unmaps, live);
        cpu_checks(b);
        return;
    }
    seen_lists++;
    b->dev = d;
    b->list = true;
    parts_of_list(b, list, n);
    check_parts(b, b->segs.n);
}

static bool is_cpus(const struct buffer *b, uint64_t at)
{
    return b->owner[at] == CPU || b->owner[at] == CPU_WROTE;
}

/* What the CPU has of the part from byte `from` on is handed over, up to the first that it has not:
 * bytes that the device has already may not be, for the device may just be writing them.  Where the
 * next such run may begin. */
static uint64_t hand_over(struct buffer *b, const struct part *s, uint64_t from)
{
    uint64_t to;

    while (from < s->bytes && !is_cpus(b, s->at + from))
        from++;
    for (to = from; to < s->bytes && is_cpus(b, s->at + to);)
        to++;
    if (from < to) {
        quire_dma_sync_for_device(b->dev, Q_BA(s->bus), from, to - from, b->dir);
        to_device(b, s->at + from, to - from);
    }
    return to;
}

static void ask_for(struct buffer *b, const struct part *s, uint64_t from, uint64_t bytes)
{
    /* what the CPU has written and not handed over would be lost */
    if (memchr(b->owner + s->at + from, CPU_WROTE, bytes))
        return;
    quire_dma_sync_for_cpu(b->dev, Q_BA(s->bus), from, bytes, b->dir);
    to_cpu(b, s->at + from, bytes, CPU);
    cpu_checks(b);
}

static void sync_part(struct buffer *b)
{
    struct part *s = &b->parts[test_random_below(b->segs.n)];
    uint64_t from = test_random_below(s->bytes + 1), bytes = test_random_below(s->bytes - from + 1);

    if (!coherent(b->dev)) {
        from &= ~(uint64_t)(LINE - 1);
        bytes = bytes + LINE < s->bytes - from ? bytes & ~(uint64_t)(LINE - 1) : s->bytes - from;
    }
    if (test_random_below(2)) {
        ask_for(b, s, from, bytes);
    } else {
        hand_over(b, s, from);
        device_checks(b, s);
    }
}

static void device_works(struct buffer *b)
{
    struct part *s = &b->parts[test_random_below(b->segs.n)];

    device_checks(b, s);
    if (b->dir == QUIRE_DMA_TO_DEVICE)
        return;
    for (unsigned n = 0; n < 200; n++) {
        uint64_t i = test_random_below(s->bytes);

        if (b->owner[s->at + i] != DEVICE)
            continue;
        b->d[s->at + i] = (uint8_t)test_random();
        device_writes(b->dev, s->bus + i, b->d[s->at + i]);
    }
}

static void unmap(struct buffer *b)
{
    for (uint32_t i = 0; i < b->segs.n; i++)
        for (uint64_t at = 0; at < b->parts[i].bytes;)
            at = hand_over(b, &b->parts[i], at);
    for (uint32_t i = 0; i < b->segs.n; i++)
        to_cpu(b, b->parts[i].at, b->parts[i].bytes, NOBODY);
    if (b->list)
        quire_dma_unmap_sg(b->dev, &b->segs, b->dir);
    else
        quire_dma_unmap(b->dev, Q_BA(b->parts[0].bus), b->parts[0].bytes, b->dir);
    b->dev = NULL;
    cpu_checks(b);
}

static void mapped_step(struct buffer *b)
{
    switch (test_random_below(5)) {
    case 0: unmap(b); break;
    case 1:
    case 2: sync_part(b); break;
    default: device_works(b); break;
    }
}

static void unmapped_step(struct buffer *b)
{
    struct quire_dma_device *d = &devices[test_random_below(DEVICES)];

    if (!test_random_below(10)) {
        dma_block_free(b->p, b->order);
        new_buffer(b);
        return;
    }
    b->dir = (enum quire_dma_direction)test_random_below(3);
    if (test_random_below(3))
        map_one(b, d);
    else
        map_list(b, d);
}

static void cpu_and_caches(struct buffer *b)
{
    for (unsigned n = 0; n < 50; n++) {
        uint64_t at = test_random_below(b->bytes);

        if (b->owner[at] != DEVICE)
            cpu_writes(b, at);
        stir(b->p + test_random_below(b->bytes));
        if (b->dev) {
            const struct part *s = &b->parts[test_random_below(b->segs.n)];

            stir(dma_device_sees(b->dev, s->bus + test_random_below(s->bytes)));
        }
    }
}

static void coherent_memory(struct quire_dma_device *d)
{
    uint64_t bytes = 1 + test_random_below(40000);
    enum quire_status s;
    void *ptr;
    q_ba bus;

    s = quire_dma_alloc(d, bytes, 0, &ptr, &bus);
    if (s == QUIRE_OK) {
        assert_true(segment_legal(d, bus.v, bytes));
        assert_ptr_equal(dma_device_sees(d, bus.v), ptr);
        for (uint64_t i = 0; i < bytes; i++)
            assert_int_equal(((uint8_t *)ptr)[i], 0);
        memset(ptr, 0xa5, bytes);
        quire_dma_free(d, bytes, ptr, bus);
    } else if (bytes > qi_dma_segment_max(d)) {
        assert_int_equal(s, QUIRE_INVALID);
    } else {
        assert_int_equal(s, coherent(d) ? QUIRE_NO_MEMORY : QUIRE_UNSUPPORTED);
    }
}

static void *image(void)
{
    void *p = mmap(NULL, DMA_SPAN, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

static void start(void)
{
    dma_machine(DMA_SPAN, 256);
    ram = image();
    loaded = image();
    for (uint32_t i = 0; i < qi_dma.nchunks; i++)
        settle(quire_ptr_of_pa(qi_dma.chunks[i].pa), QUIRE_DMA_BOUNCE_MAX);
    hosted_dma_clean = clean;
    hosted_dma_invalidate = invalidate;
    for (unsigned i = 0; i < DEVICES; i++)
        random_device(i);
    for (unsigned i = 0; i < BUFFERS; i++)
        new_buffer(&buffers[i]);
}

static void finish(void)
{
    for (unsigned i = 0; i < BUFFERS; i++) {
        if (buffers[i].dev)
            unmap(&buffers[i]);
        dma_block_free(buffers[i].p, buffers[i].order);
    }
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(quire_dma_device_fini(&devices[i]), QUIRE_OK);
    dma_nothing_lost();
    hosted_dma_clean = hosted_dma_invalidate = NULL;
    munmap(ram, DMA_SPAN);
    munmap(loaded, DMA_SPAN);
    hosted_fini();
}

/* Both sides see what the model says, whatever the device and wherever the memory.  proves: LX-57 */
static void both_sides_see_the_model(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        start();
        for (unsigned i = 0; i < 1500; i++) {
            struct buffer *b = &buffers[test_random_below(BUFFERS)];

            if (b->dev)
                mapped_step(b);
            else
                unmapped_step(b);
            cpu_and_caches(b);
            if (!test_random_below(50))
                coherent_memory(&devices[test_random_below(DEVICES)]);
            if (i % 100 == 0) {
                dma_sound();
                for (unsigned k = 0; k < BUFFERS; k++)
                    cpu_checks(&buffers[k]);
            }
        }
        finish();
    }
    assert_true(seen_bounces > 100 && seen_refusals > 10 && seen_lists > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_sides_see_the_model)};

    test_seed("dma_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
