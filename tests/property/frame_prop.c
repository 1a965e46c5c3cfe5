/*
 * frame_prop.c - the memory map and the allocator against dumb models: an array that says for each
 * page what it is, or whose.  Random operations, the same answer from both after each.
 */
#include <quire_test.h>

#include <base/bits.h>
#include <frame/bitmap.h>
#include <frame/frame.h>

/* ---- The memory map against an array of pages ---- */

#define MAP_PAGES 256
#define MAP_CAP   1024
/* The modelled pages are the lowest and the highest ones of the address space. */
#define HIGH_BASE (0ull - MAP_PAGES / 2 * 4096)

static struct quire_mem_range ranges[MAP_CAP], reserved[MAP_CAP];
static struct quire_memmap map;
static int kind_of[MAP_PAGES]; /* -1: unknown */
static unsigned node_of[MAP_PAGES];
static const char *owner_of[MAP_PAGES];

static uint64_t address_of(unsigned page)
{
    return page < MAP_PAGES / 2 ? page * 4096ull : HIGH_BASE + (page - MAP_PAGES / 2) * 4096ull;
}

/* A random range of bytes within one of the two halves: first and last page, base, length. */
static void random_range(unsigned *first, unsigned *last, uint64_t *base, uint64_t *len)
{
    unsigned half = test_random_below(2) ? MAP_PAGES / 2 : 0;
    unsigned a = (unsigned)test_random_below(MAP_PAGES / 2);
    unsigned b = a + (unsigned)test_random_below(test_random_below(4) ? 8 : MAP_PAGES);
    uint64_t end;

    *first = half + a;
    *last = half + QI_MIN(b, MAP_PAGES / 2 - 1u);
    *base = address_of(*first);
    end = address_of(*last) + 4095; /* inclusive */
    if (test_random_below(3) == 0) {
        *base += test_random_below(4096);
        end -= test_random_below(*first == *last ? end - *base + 1 : 4096);
    }
    *len = end - *base + 1;
}

/* The page lies wholly in [base, base + len); or has a byte in it. */
static bool covered(unsigned page, uint64_t base, uint64_t len, bool wholly)
{
    uint64_t a = address_of(page), last = base + (len - 1);

    return wholly ? a >= base && a + 4095 <= last : a + 4095 >= base && a <= last;
}

static void map_matches(void)
{
    uint64_t usable = 0;

    for (uint32_t i = 0; i < map.n; i++) {
        assert_true(map.ranges[i].len != 0 && map.ranges[i].len % 4096 == 0);
        if (i) {
            uint64_t before = map.ranges[i - 1].base.v + (map.ranges[i - 1].len - 1);

            assert_true(before < map.ranges[i].base.v);
            assert_false(before + 1 == map.ranges[i].base.v &&
                         map.ranges[i - 1].kind == map.ranges[i].kind &&
                         map.ranges[i - 1].node == map.ranges[i].node);
        }
    }
    for (unsigned p = 0; p < MAP_PAGES; p++) {
        int kind = -1;
        unsigned node = 0;
        const struct quire_mem_range *owner = quire_memmap_owner(&map, Q_PA(address_of(p) + 17));

        for (uint32_t i = 0; i < map.n; i++)
            if (address_of(p) - map.ranges[i].base.v < map.ranges[i].len) {
                kind = map.ranges[i].kind;
                node = map.ranges[i].node;
            }
        assert_int_equal(kind, kind_of[p]);
        if (kind <= QUIRE_MEM_USABLE && kind >= 0)
            assert_int_equal(node, node_of[p]);
        assert_ptr_equal(owner ? owner->owner : NULL, owner_of[p]);
        usable += kind_of[p] == QUIRE_MEM_USABLE ? 4096 : 0;
    }
    assert_int_equal(quire_memmap_usable(&map), usable);
}

static void op_add(void)
{
    unsigned first, last;
    uint64_t base, len;
    int kind = (int)test_random_below(6 + QUIRE_MEM_KINDS);

    kind = kind < 6 ? QUIRE_MEM_USABLE : kind - 6;
    random_range(&first, &last, &base, &len);
    assert_int_equal(quire_memmap_add(&map, Q_PA(base), len, kind), QUIRE_OK);
    for (unsigned p = first; p <= last; p++)
        if (covered(p, base, len, kind <= QUIRE_MEM_USABLE) && kind > kind_of[p]) {
            node_of[p] = 0;
            kind_of[p] = kind;
        }
}

static void op_node(void)
{
    unsigned first, last, node = (unsigned)test_random_below(QUIRE_MAX_NODES + 1);
    uint64_t base, len;

    node = node == QUIRE_MAX_NODES ? QUIRE_NODE_ANY : node;
    random_range(&first, &last, &base, &len);
    base &= ~4095ull;
    len = address_of(last) + 4095 - base + 1;
    assert_int_equal(quire_memmap_set_node(&map, Q_PA(base), len, node), QUIRE_OK);
    for (unsigned p = first; p <= last; p++)
        if (kind_of[p] == QUIRE_MEM_HOTPLUG ||
            (kind_of[p] >= 0 && kind_of[p] <= QUIRE_MEM_USABLE && node != QUIRE_NODE_ANY))
            node_of[p] = node;
}

static void op_reserve(void)
{
    static const char *const names[] = {"a", "b", "c"};
    unsigned first, last;
    uint64_t base, len;
    bool clash = false;
    const char *name = names[test_random_below(3)];

    random_range(&first, &last, &base, &len);
    for (unsigned p = first; p <= last; p++)
        clash |= covered(p, base, len, false) && owner_of[p];
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(base), len, name, NULL),
                     clash ? QUIRE_OVERLAP : QUIRE_OK);
    for (unsigned p = first; p <= last && !clash; p++)
        if (covered(p, base, len, false))
            owner_of[p] = name;
}

static void op_alloc(void)
{
    unsigned pages = 1 + (unsigned)test_random_below(6);
    unsigned align = 1u << test_random_below(4), limit = (unsigned)test_random_below(MAP_PAGES / 2);
    int best = -1;
    q_pa pa;
    enum quire_status s;

    if (test_random_below(2))
        limit = 0;
    for (unsigned p = 1; p + pages <= MAP_PAGES; p++) {
        bool fits = (address_of(p) / 4096) % align == 0 && (!limit || p + pages <= limit) &&
                    (p >= MAP_PAGES / 2 || p + pages <= MAP_PAGES / 2);

        for (unsigned k = p; fits && k < p + pages; k++)
            fits = kind_of[k] == QUIRE_MEM_USABLE && !owner_of[k] && node_of[k] == node_of[p];
        if (fits)
            best = (int)p;
    }
    s = quire_memmap_alloc(&map, pages * 4096 - test_random_below(4096), align * 4096,
                           limit * 4096ull, QUIRE_NODE_ANY, "alloc", &pa);
    assert_int_equal(s, best < 0 ? QUIRE_NO_MEMORY : QUIRE_OK);
    if (s)
        return;
    assert_int_equal(pa.v, address_of((unsigned)best));
    for (unsigned k = 0; k < pages; k++)
        owner_of[(unsigned)best + k] = quire_memmap_owner(&map, pa)->owner;
}

static void memmap_against_pages(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        quire_memmap_init(&map, ranges, MAP_CAP, reserved, MAP_CAP);
        for (unsigned p = 0; p < MAP_PAGES; p++) {
            kind_of[p] = -1;
            node_of[p] = 0;
            owner_of[p] = NULL;
        }
        for (unsigned op = 0; op < 60; op++) {
            unsigned what = (unsigned)test_random_below(16);

            if (what < 8)
                op_add();
            else if (what < 11)
                op_node();
            else if (what < 13)
                op_reserve();
            else
                op_alloc();
            map_matches();
        }
    }
}

/* ---- The bitmap of a pageblock against 512 bytes ---- */

static bool run_free(const uint8_t *bytes, unsigned at, unsigned order)
{
    for (unsigned i = 0; i < 1u << order; i++)
        if (!bytes[at + i])
            return false;
    return true;
}

/* proves: VM-14 */
static void bitmaps_against_bytes(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        uint64_t b[QI_BLOCK_WORDS] = {0}, census[10] = {0}, want[10] = {0};
        uint8_t bytes[QI_BLOCK_FRAMES] = {0};
        unsigned count = 0, max = 0;

        for (unsigned k = (unsigned)test_random_below(40); k > 0; k--) {
            unsigned o = (unsigned)test_random_below(10) % 9;
            unsigned at = (unsigned)test_random_below(QI_BLOCK_FRAMES >> o) << o;
            bool set = test_random_below(3) != 0;

            if (set)
                qi_bits_set_run(b, at, o);
            else
                qi_bits_clear_run(b, at, o);
            memset(bytes + at, set, 1u << o);
            assert_int_equal(qi_bits_any(b, at, o), set);
        }
        for (unsigned i = 0; i < QI_BLOCK_FRAMES; i++) {
            assert_int_equal(b[i / 64] >> i % 64 & 1, bytes[i]);
            count += bytes[i];
        }
        assert_int_equal(qi_bits_count(b), count);
        for (unsigned o = 0; o <= 9; o++)
            for (unsigned at = 0; at < QI_BLOCK_FRAMES; at += 1u << o)
                if (run_free(bytes, at, o)) {
                    max = o;
                    want[o] += o == 9 || !run_free(bytes, at & ~((2u << o) - 1), o + 1);
                }
        qi_bits_census(b, census);
        assert_memory_equal(census, want, sizeof want);
        if (count)
            assert_int_equal(qi_bits_max_order(b, QI_BITS_MAX_ORDER), QI_MIN(max, 8u));
        for (unsigned o = 0; o <= 8; o++) {
            unsigned at = qi_bits_find(b, o), k = o;

            while (k <= 9 && !want[k])
                k++;
            if (k > 9) {
                assert_int_equal(at, QI_BLOCK_FRAMES);
                continue;
            }
            /* the lowest of the smallest free blocks that serve */
            assert_int_equal(at % (1u << k), 0);
            assert_true(run_free(bytes, at, k));
            assert_true(k == 9 || !run_free(bytes, at & ~((2u << k) - 1), k + 1));
        }
    }
}

/* ---- The allocator against a byte for each frame ---- */

#define MAX_HELD 6000

static struct {
    struct quire_page *page;
    uint8_t order;
} held[MAX_HELD];
static unsigned nheld;
static uint8_t busy[1 << 16];
static uint64_t busy_frames;

static void model_take(struct quire_page *p, unsigned order)
{
    uint64_t pfn = quire_pfn_of_page(p).v;

    assert_int_equal(pfn & ((1u << order) - 1), 0);
    assert_int_equal(quire_page_order(p), order);
    assert_int_equal(p->refs, 1);
    for (unsigned i = 0; i < 1u << order; i++) {
        assert_false(busy[pfn + i]);
        busy[pfn + i] = 1;
    }
    busy_frames += 1u << order;
    held[nheld].page = p;
    held[nheld++].order = (uint8_t)order;
}

static struct quire_page *model_give(unsigned *order)
{
    unsigned k = (unsigned)test_random_below(nheld);
    struct quire_page *p = held[k].page;

    *order = held[k].order;
    held[k] = held[--nheld];
    memset(busy + quire_pfn_of_page(p).v, 0, 1u << *order);
    busy_frames -= 1u << *order;
    return p;
}

static quire_gfp random_gfp(void)
{
    static const quire_gfp types[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_MOVABLE, QUIRE_GFP_RECLAIMABLE};
    static const quire_gfp urgency[] = {0, 0, QUIRE_GFP_ATOMIC, QUIRE_GFP_MEMALLOC};

    return types[test_random_below(3)] | urgency[test_random_below(4)] |
           (test_random_below(16) ? 0 : QUIRE_GFP_DMA);
}

/* A free block of the order is in the model: with no reserve in the way and no stack in between, the
 * allocator must find one. */
static bool model_has(unsigned order, uint64_t frames)
{
    for (uint64_t at = 0; at + (1u << order) <= frames; at += 1u << order) {
        unsigned i = 0;

        while (i < 1u << order && !busy[at + i])
            i++;
        if (i == 1u << order)
            return true;
    }
    return false;
}

static void op_frames_alloc(uint64_t frames)
{
    unsigned order = (unsigned)test_random_below(test_random_below(4) ? 4 : QUIRE_MAX_ORDER + 1);
    quire_gfp gfp = random_gfp();
    struct quire_page *p, *many[70];
    size_t n;

    if (test_random_below(8) == 0) {
        n = quire_page_alloc_bulk(QI_MIN(test_random_below(70), (uint64_t)(MAX_HELD - nheld)), many,
                                  gfp, QUIRE_NODE_ANY);
        while (n)
            model_take(many[--n], 0);
        return;
    }
    p = quire_page_alloc(order, gfp, QUIRE_NODE_ANY);
    if (!p && gfp & QUIRE_GFP_MEMALLOC && !(gfp & QUIRE_GFP_DMA)) {
        quire_frame_drain(); /* what the other CPU holds back may be what was missing */
        p = quire_page_alloc(order, gfp, QUIRE_NODE_ANY);
        assert_int_equal(p != NULL, model_has(order, frames));
    }
    if (!p)
        return;
    model_take(p, order);
    if (gfp & QUIRE_GFP_DMA)
        assert_true(quire_pa_of_page(p).v < 16 << 20);
}

static void op_frames_free(void)
{
    struct quire_page *p, *many[70];
    unsigned order, n = 0;

    p = model_give(&order);
    switch (test_random_below(5)) {
    case 0:
        quire_page_get(p);
        quire_page_put(p);
        quire_page_put(p);
        return;
    case 1: /* as pages, from now on each by itself */
        if (nheld + (1u << order) > MAX_HELD)
            break;
        quire_page_split(p);
        for (unsigned i = 0; i < 1u << order; i++)
            model_take(p + i, 0);
        return;
    case 2:
        if (order)
            break;
        many[n++] = p;
        while (n < 70 && nheld && held[nheld - 1].order == 0) {
            many[n++] = held[--nheld].page;
            busy[quire_pfn_of_page(held[nheld].page).v] = 0;
            busy_frames--;
        }
        quire_page_free_bulk(n, many);
        return;
    default: break;
    }
    quire_page_free(p, order);
}

static uint64_t blocks(unsigned order)
{
    struct quire_zone_stats s;
    uint64_t n = 0;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        n += s.free_blocks[order];
    return n;
}

static void verified(void)
{
    if (quire_frame_verify() != QUIRE_OK)
        fail_msg("%s", hosted_log_last());
}

/* One machine of a random shape: filled and emptied by turns, conserved at each step. */
static void one_machine(unsigned ops)
{
    uint64_t base = test_random_below(20 << 8) * 4096,
             len = (24 << 20) + test_random_below(9000) * 4096;
    uint64_t frames = (base + len) / 4096, managed, before[QUIRE_MAX_ORDER + 1];
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 2};
    bool filling = true;

    hosted_init(base + len);
    quire_memmap_init(&map, ranges, MAP_CAP, reserved, MAP_CAP);
    assert_int_equal(quire_memmap_add(&map, Q_PA(base), len, QUIRE_MEM_USABLE), QUIRE_OK);
    for (unsigned i = 0; i < 5; i++)
        quire_memmap_reserve(&map, Q_PA(base + test_random_below(len)), test_random_below(90000),
                             "hole", NULL);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    memset(busy, 1, sizeof busy);
    for (uint64_t f = 1; f < frames; f++)
        if (f * 4096 >= base && !quire_memmap_owner(&map, Q_PA(f * 4096)))
            busy[f] = 0;
    nheld = 0;
    busy_frames = 0;
    managed = quire_managed_pages();
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        before[o] = blocks(o);

    for (unsigned op = 0; op < ops; op++) {
        hosted_cpu_set(test_random_below(8) == 0);
        if (test_random_below(400) == 0)
            filling = !filling;
        if (nheld && (nheld >= MAX_HELD - 1030 || test_random_below(10) < (filling ? 3 : 7)))
            op_frames_free();
        else
            op_frames_alloc(frames);
        assert_int_equal(quire_free_pages(), managed - busy_frames);
        if (op % 64 == 0)
            verified();
    }
    while (nheld) {
        unsigned order;
        struct quire_page *p = model_give(&order);

        quire_page_free(p, order);
        assert_int_equal(quire_free_pages(), managed - busy_frames);
    }
    hosted_cpu_set(0);
    quire_frame_drain();
    verified();
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        assert_int_equal(blocks(o), before[o]); /* merged back whole */
}

/* proves: TRAP-1 TRAP-2 VM-12 VM-13 VE-03 */
static void frames_against_bytes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        one_machine(6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memmap_against_pages),
        cmocka_unit_test(bitmaps_against_bytes),
        cmocka_unit_test(frames_against_bytes),
    };

    test_seed("frame_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
