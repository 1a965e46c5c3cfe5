/*
 * kva_machine.h - a hosted machine with kernel areas.  Kernel addresses are not mapped in a hosted process:
 * tests look through quire_pt_translate() and touch memory through the direct map.
 */
#ifndef KVA_MACHINE_H
#define KVA_MACHINE_H

#include <heap_machine.h>

#include <quire/kva.h>

#define PAGE   4096ull
#define AREAS  0xffffc90000000000ull
#define STACKS 0xffffe00000000000ull
#define DEVICE 0xfffff00000000000ull

static q_pa root;

/* span bytes of memory in nodes, a window of so many bytes for areas. */
static inline void kva_machine(uint64_t span, unsigned nodes, uint64_t areas_bytes)
{
    struct quire_kva_layout l = {
        .areas_start = Q_KVA(AREAS),
        .areas_end = Q_KVA(AREAS + areas_bytes),
        .stacks_start = Q_KVA(STACKS),
        .stacks_end = Q_KVA(STACKS + ((uint64_t)nodes << 30)),
        .device_start = Q_KVA(DEVICE),
        .device_end = Q_KVA(DEVICE + (1ull << 36)),
    };
    struct quire_page *table;

    heap_machine(span, nodes);
    table = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    assert_non_null(table);
    root = quire_pa_of_page(table);
    assert_int_equal(quire_pt_init(root), QUIRE_OK);
    assert_int_equal(quire_kva_init(&l), QUIRE_OK);
}

/* Frames that nobody holds; page tables of the windows stay, so they count as free here. */
static inline uint64_t frames_left(void)
{
    quire_kva_purge();
    return heap_free_pages() + quire_pt_pages();
}

static inline void *at_kernel_address(const void *va)
{
    struct quire_translation t;

    quire_pt_translate(root, (uintptr_t)va, &t);
    return t.present ? quire_ptr_of_pa(t.pa) : NULL;
}

static inline bool present(uint64_t va) { return at_kernel_address((void *)va) != NULL; }

static inline void fill(uint8_t *va, size_t bytes, uint8_t with)
{
    for (size_t i = 0; i < bytes; i += 512)
        *(uint8_t *)at_kernel_address(va + i) = with;
}

static inline void expect(uint8_t *va, size_t bytes, uint8_t what)
{
    for (size_t i = 0; i < bytes; i += 512)
        assert_int_equal(*(uint8_t *)at_kernel_address(va + i), what);
}

static inline struct quire_kva_stats stats(void)
{
    struct quire_kva_stats s;

    quire_kva_stats(&s);
    return s;
}

#endif
