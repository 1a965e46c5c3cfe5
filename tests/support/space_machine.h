/*
 * space_machine.h - a hosted machine with everything up to address spaces.
 */
#ifndef SPACE_MACHINE_H
#define SPACE_MACHINE_H

#include <quire_test.h>

#include <quire/heap.h>
#include <quire/pt.h>
#include <quire/space.h>

#define PAGE 4096ull
#define MIB  (1ull << 20)

static struct quire_mem_range sm_ranges[8], sm_reserved[8];

#ifndef MACHINE_HOT
#define MACHINE_HOT 0ull /* bytes above that may come */
#endif

/* bytes of memory, a share of them on each node. */
static inline void space_machine_nodes(uint64_t bytes, unsigned nodes)
{
    static struct quire_memmap map;
    struct quire_boot boot = {.map = &map, .nodes = nodes, .cpus = 4};
    struct quire_page *root;

    hosted_init(bytes + MACHINE_HOT);
    quire_memmap_init(&map, sm_ranges, 8, sm_reserved, 8);
    assert_int_equal(quire_memmap_add(&map, Q_PA(MIB), bytes - MIB, QUIRE_MEM_USABLE), QUIRE_OK);
    assert_int_equal(quire_memmap_add(&map, Q_PA(bytes), MACHINE_HOT, QUIRE_MEM_HOTPLUG), QUIRE_OK);
    for (unsigned i = 1; i < nodes; i++)
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(bytes / nodes * i), bytes / nodes, i),
                         QUIRE_OK);
    assert_int_equal(quire_frame_init(&boot), QUIRE_OK);
    assert_int_equal(quire_heap_init(), QUIRE_OK);
    root = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    assert_non_null(root);
    assert_int_equal(quire_pt_init(quire_pa_of_page(root)), QUIRE_OK);
    assert_int_equal(quire_space_init(), QUIRE_OK);
}

static inline void space_machine(uint64_t bytes) { space_machine_nodes(bytes, 1); }

static inline struct quire_space *space_new(void)
{
    struct quire_space_config c = {.start = Q_UVA(0x10000),
                                   .end = Q_UVA(0x7ffffffff000),
                                   .limit_as = ~0ull,
                                   .limit_data = ~0ull,
                                   .limit_stack = 8 * MIB,
                                   .limit_memlock = ~0ull};
    struct quire_space *s;

    assert_int_equal(quire_space_create(&c, &s), QUIRE_OK);
    return s;
}

/* mmap with the usual arguments; returns the status, the address in *at. */
static inline enum quire_status map_at(struct quire_space *s, uint64_t *at, uint64_t len,
                                       unsigned prot, unsigned flags, struct quire_object *o,
                                       uint64_t offset)
{
    struct quire_mmap m = {.addr = Q_UVA(*at),
                           .len = len,
                           .prot = prot,
                           .flags = flags,
                           .object = o,
                           .offset = offset};
    q_uva out;
    enum quire_status st = quire_mmap(s, &m, &out);

    if (st == QUIRE_OK)
        *at = out.v;
    return st;
}

static inline uint64_t map_anon(struct quire_space *s, uint64_t len)
{
    uint64_t at = 0;

    assert_int_equal(map_at(s, &at, len, QUIRE_READ | QUIRE_WRITE,
                            QUIRE_MAP_PRIVATE | QUIRE_MAP_ANONYMOUS, NULL, 0),
                     QUIRE_OK);
    return at;
}

static inline enum quire_status store(struct quire_space *s, uint64_t at, uint64_t value)
{
    size_t done;

    return quire_space_write(s, Q_UVA(at), &value, sizeof value, false, &done);
}

static inline enum quire_status load(struct quire_space *s, uint64_t at, uint64_t *value)
{
    size_t done;

    return quire_space_read(s, Q_UVA(at), value, sizeof *value, true, &done);
}

static inline void expect(struct quire_space *s, uint64_t at, uint64_t value)
{
    uint64_t got = ~value;

    assert_int_equal(load(s, at, &got), QUIRE_OK);
    assert_int_equal(got, value);
}

#endif
