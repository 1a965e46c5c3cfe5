/*
 * heap_suite.h - what the tests of src/slab share: a machine for each test, and the check at its end that
 * nothing of it is lost.
 */
#ifndef HEAP_SUITE_H
#define HEAP_SUITE_H

#include <heap_machine.h>

#include <quire/stats.h>
#include <slab/slab.h>

static uint64_t frames_at_start;

static inline int setup(void **state)
{
    (void)state;
    heap_machine(64 * HEAP_MIB, 1);
    frames_at_start = quire_free_pages();
    return 0;
}

static inline int setup_nodes(void **state)
{
    (void)state;
    heap_machine(64 * HEAP_MIB, 2);
    frames_at_start = quire_free_pages();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    hosted_fini();
    return 0;
}

/* A machine whose heap has modes of quire/harden.h, until teardown_modes(); the seed is drawn. */
static inline void machine_of(struct quire_heap_options o)
{
    o.seed = test_random() | 1;
    assert_int_equal(quire_heap_configure(&o), QUIRE_OK);
    heap_machine(64 * HEAP_MIB, 1);
    frames_at_start = quire_free_pages();
}

static inline int teardown_modes(void **state)
{
    quire_heap_configure(NULL);
    return teardown(state);
}

/* Nothing is out: every frame is back. */
static inline void expect_nothing_lost(void)
{
    heap_sound();
    assert_int_equal(heap_free_pages(), frames_at_start);
    heap_sound();
}

static inline struct quire_cache *cache(const char *name, size_t size, size_t align, unsigned flags)
{
    struct quire_cache *c = NULL;

    assert_int_equal(quire_cache_create(name, size, align, flags, NULL, &c), QUIRE_OK);
    return c;
}

#define TEST(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define NODES(f) cmocka_unit_test_setup_teardown(f, setup_nodes, teardown)

#endif
