/*
 * kva_suite.h - what the tests of src/kva share: a machine for each test, the check at its end that all
 * is in order, and a few looks.
 */
#ifndef KVA_SUITE_H
#define KVA_SUITE_H

#include <kva_machine.h>

#include <kva/kva.h>

#define MIB     (1ull << 20)
#define GIB     (1ull << 30)
#define OK(c)   assert_int_equal(c, QUIRE_OK)
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static inline int setup(void **state)
{
    (void)state;
    kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    hosted_cpu_set(0);
    quire_kva_purge();
    OK(quire_kva_verify());
    heap_sound();
    hosted_fini();
    return 0;
}

static inline uint64_t flushes(void)
{
    struct quire_tlb_stats s;

    quire_tlb_stats(&s);
    return s.requests + s.local_flushes;
}

static inline unsigned prot_of(uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(root, va, &t);
    return t.present ? t.prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC) : 0;
}

static inline struct quire_kva_area find_area(uint64_t at)
{
    struct quire_kva_area a;
    q_kva from = Q_KVA(at);

    OK(quire_kva_walk(&from, &a));
    assert_int_equal(a.addr.v, at);
    return a;
}

#endif
