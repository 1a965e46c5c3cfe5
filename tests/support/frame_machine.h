/*
 * frame_machine.h - hosted machines of frames alone, of any shape, and the few moves that the tests of
 * src/frame share.
 */
#ifndef FRAME_MACHINE_H
#define FRAME_MACHINE_H

#include <quire_test.h>

#include <frame/frame.h>
#include <quire/stats.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define ANY QUIRE_NODE_ANY
#define CAP (64 + 4 * QUIRE_MAX_NODES)

static struct quire_mem_range ranges[CAP], reserved[CAP];
static struct quire_memmap map;
/* large enough for every frame of the machines that are exhausted here */
static struct quire_page *held[1 << 19];
static uint8_t owned[1 << 21];

static inline void map_start(uint64_t span)
{
    hosted_init(span);
    quire_memmap_init(&map, ranges, CAP, reserved, CAP);
}
static inline void map_add(uint64_t base, uint64_t len, unsigned node)
{
    assert_int_equal(quire_memmap_add(&map, Q_PA(base), len, QUIRE_MEM_USABLE), QUIRE_OK);
    if (node)
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(base), len, node), QUIRE_OK);
}
static inline void boot(unsigned nodes, unsigned cpus, const uint8_t *cpu_node,
                        const uint8_t *distance)
{
    struct quire_boot b = {
        .map = &map, .nodes = nodes, .cpus = cpus, .cpu_node = cpu_node, .distance = distance};

    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
}
/* One node, one CPU, one range. */
static inline void machine(uint64_t base, uint64_t len)
{
    map_start(base + len);
    map_add(base, len, 0);
    boot(1, 1, NULL, NULL);
}
static inline void healthy(void)
{
    if (quire_frame_verify() != QUIRE_OK)
        fail_msg("%s", hosted_log_last());
}
static inline struct quire_zone_stats zone_stats(unsigned i)
{
    struct quire_zone_stats s;

    assert_int_equal(quire_zone_stats(i, &s), QUIRE_OK);
    return s;
}
static inline uint64_t blocks_of(unsigned order)
{
    struct quire_zone_stats s;
    uint64_t n = 0;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        n += s.free_blocks[order];
    return n;
}
static inline void blocks_all(uint64_t out[QUIRE_MAX_ORDER + 1])
{
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        out[o] = blocks_of(o);
}
static inline struct quire_page *get(unsigned order)
{
    struct quire_page *p = quire_page_alloc(order, QUIRE_GFP_MEMALLOC, ANY);

    assert_non_null(p);
    return p;
}

/* Take every block of the order; each frame must be usable memory and handed out once. */
static inline size_t exhaust(unsigned order, quire_gfp gfp)
{
    size_t n = 0;

    memset(owned, 0, sizeof owned);
    while ((held[n] = quire_page_alloc(order, gfp, ANY))) {
        uint64_t pfn = quire_pfn_of_page(held[n]).v;
        bool inside = false;

        assert_int_equal(pfn & ((1u << order) - 1), 0);
        assert_int_equal(quire_page_order(held[n]), order);
        for (uint32_t r = 0; r < map.n; r++)
            inside |= map.ranges[r].kind == QUIRE_MEM_USABLE &&
                      pfn * 4096 >= map.ranges[r].base.v &&
                      (pfn + (1u << order)) * 4096 <= map.ranges[r].base.v + map.ranges[r].len;
        assert_true(inside);
        for (unsigned f = 0; f < 1u << order; f++) {
            assert_null(quire_memmap_owner(&map, Q_PA((pfn + f) * 4096)));
            assert_false(owned[pfn + f]);
            owned[pfn + f] = 1;
        }
        n++;
    }
    return n;
}
static inline void give_back(size_t n, unsigned order)
{
    for (size_t i = 0; i < n; i++)
        quire_page_free(held[i], order);
}
/* Exhaust, free in a random order, and find the same free blocks as before. */
static inline void exhaust_every_order(void)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
    uint64_t managed = quire_managed_pages();

    quire_frame_drain();
    blocks_all(before);
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        uint64_t fit = 0;
        size_t n;

        for (unsigned o = order; o <= QUIRE_MAX_ORDER; o++)
            fit += before[o] << (o - order);
        n = exhaust(order, QUIRE_GFP_MEMALLOC);
        assert_int_equal(n, fit);
        assert_int_equal(quire_free_pages(), managed - ((uint64_t)n << order));
        healthy();
        for (size_t i = n; i > 1; i--) {
            size_t j = test_random_below(i);
            struct quire_page *t = held[i - 1];

            held[i - 1] = held[j];
            held[j] = t;
        }
        give_back(n, order);
        assert_int_equal(quire_free_pages(), managed);
        healthy();
        quire_frame_drain();
        healthy();
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
    }
}

/* stmt ends in a report of misuse that has these words. */
#define PANICS(stmt, words)                                                         \
    do {                                                                            \
        if (!HOSTED_EXPECT_PANIC(stmt))                                             \
            fail_msg("%s went unnoticed", #stmt);                                   \
        if (!strstr(hosted_panic_text(), words))                                    \
            fail_msg("%s: said '%s', not '%s'", #stmt, hosted_panic_text(), words); \
    } while (0)

#endif
