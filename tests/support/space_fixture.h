/*
 * space_fixture.h - one space on a small machine, fresh for each test, and the check afterwards that
 * the machine is sound and that every frame came back.  A test that wants more than one node says so:
 * FIXTURE_NODES, each of 64 MiB.
 */
#ifndef SPACE_FIXTURE_H
#define SPACE_FIXTURE_H

#include <space_machine.h>

#include <space/space.h>

#define RW       (QUIRE_READ | QUIRE_WRITE)
#define PRIV     (QUIRE_MAP_PRIVATE | QUIRE_MAP_ANONYMOUS)
#define ANON     (QUIRE_MAP_SHARED | QUIRE_MAP_ANONYMOUS)
#define OK(call) assert_int_equal(call, QUIRE_OK)
#define T(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)

#ifndef FIXTURE_NODES
#define FIXTURE_NODES 1
#endif

static struct quire_space *s;
static uint64_t frames_before;

static int setup(void **state)
{
    (void)state;
    space_machine_nodes(FIXTURE_NODES * 64 * MIB, FIXTURE_NODES);
    /* the object caches keep their slabs: let them exist before counting */
    s = space_new();
    OK(store(s, map_anon(s, PAGE), 1));
    quire_space_put(s);
    quire_heap_drain();
    frames_before = quire_free_pages();
    s = space_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (s) {
        OK(quire_space_verify(s));
        quire_space_put(s);
        s = NULL;
    }
    quire_heap_drain();
    OK(quire_frame_verify());
    OK(quire_heap_verify());
    assert_int_equal(quire_free_pages(), frames_before);
    hosted_fini();
    return 0;
}

static inline uint64_t count(enum quire_event e) { return quire_event_count(e); }

static inline struct quire_space_stats stats(struct quire_space *of)
{
    struct quire_space_stats st;

    quire_space_stats(of, &st);
    return st;
}

static inline struct quire_translation leaf(struct quire_space *of, uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(quire_space_root(of), va, &t);
    return t;
}

static inline struct quire_page *page_at(struct quire_space *of, uint64_t va)
{
    struct quire_translation t = leaf(of, va);

    assert_true(t.present);
    return quire_page_of_pfn(quire_pfn_of_pa(t.pa));
}

/* A mapping at exactly this place, of RW private memory unless prot and flags say otherwise. */
static inline uint64_t map_fixed(uint64_t at, uint64_t len, unsigned prot, unsigned flags)
{
    OK(map_at(s, &at, len, prot, flags | QUIRE_MAP_FIXED, NULL, 0));
    return at;
}

/* A mapping of o, anywhere. */
static inline uint64_t map_object(struct quire_object *o, uint64_t len, unsigned prot,
                                  unsigned flags)
{
    uint64_t at = 0;

    OK(map_at(s, &at, len, prot, flags, o, 0));
    return at;
}

/* Memory mapped with a huge leaf at its start: 2 MiB, aligned. */
static inline uint64_t map_huge(uint64_t at)
{
    map_fixed(at, 2 * MIB, RW, PRIV);
    OK(quire_madvise(s, Q_UVA(at), 2 * MIB, 14));
    OK(store(s, at, 1));
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    return at;
}

#endif
