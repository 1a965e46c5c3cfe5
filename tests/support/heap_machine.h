/*
 * heap_machine.h - a hosted machine with frames and a heap, of one or more nodes, and the check
 * that nothing of it is lost.
 */
#ifndef HEAP_MACHINE_H
#define HEAP_MACHINE_H

#include <quire_test.h>

#include <quire/heap.h>

#define HEAP_MIB  (1ull << 20)
#define HEAP_CPUS 8

/* span bytes, the first MiB missing, split evenly among nodes; CPU i is on node i % nodes. */
static inline void heap_machine(uint64_t span, unsigned nodes)
{
    static struct quire_mem_range ranges[32], reserved[32];
    static struct quire_memmap map;
    static uint8_t cpu_node[HEAP_CPUS];
    struct quire_boot boot = {.map = &map, .nodes = nodes, .cpus = HEAP_CPUS, .cpu_node = cpu_node};

    hosted_init(span);
    quire_memmap_init(&map, ranges, 32, reserved, 32);
    assert_int_equal(quire_memmap_add(&map, Q_PA(HEAP_MIB), span - HEAP_MIB, QUIRE_MEM_USABLE),
                     QUIRE_OK);
    for (unsigned n = 0; n < nodes; n++)
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(span / nodes * n), span / nodes, n),
                         QUIRE_OK);
    for (unsigned i = 0; i < HEAP_CPUS; i++)
        cpu_node[i] = (uint8_t)(i % nodes);
    assert_int_equal(quire_frame_init(&boot), QUIRE_OK);
    assert_int_equal(quire_heap_init(), QUIRE_OK);
}

/* Every structure of both layers is sound. */
static inline void heap_sound(void)
{
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
}

/* Statistics of a cache by name. */
static inline struct quire_cache_stats heap_stats(const char *name)
{
    struct quire_cache_stats s;

    for (unsigned i = 0; quire_cache_stats(i, &s) == QUIRE_OK; i++)
        if (!strcmp(s.name, name))
            return s;
    fail_msg("no cache %s", name);
    return s;
}

/* Free frames once nothing is cached anywhere; the machine is quiet. */
static inline uint64_t heap_free_pages(void)
{
    quire_heap_drain();
    return quire_free_pages();
}

#endif
