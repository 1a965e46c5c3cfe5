/*
 * heap_step_test.c - src/slab one step at a time: what is lost to another CPU is tried again.
 */
#include <steps.h>

#include <slab/cache.c>
#include <slab/kmalloc.c>
#include <slab/slab.c>
#include <slab/slabs.c>

#include <heap_suite.h>

/* ---- The end of the heap only grows ---- */

static uintptr_t far_end;

static void end_moves_a_little(void) { qi_heap_end++; }
static void end_moves_far(void) { qi_heap_end = far_end; }

static void the_end_only_grows(void **state)
{
    static const struct act little[] = {{"RMW", &qi_heap_end, end_moves_a_little}, {0}};
    static const struct act far[] = {{"RMW", &qi_heap_end, end_moves_far}, {0}};
    struct quire_cache *c;
    char *run, *p;

    (void)state;
    c = cache("grows", 4000, 0, 0);
    far_end = 64 * HEAP_MIB;
    for (unsigned i = 0; i < 2; i++) {
        qi_heap_end = 0;
        steps_begin(i ? far : little);
        run = quire_kmalloc(100000, QUIRE_GFP_KERNEL);
        steps_end();
        assert_true(i ? qi_heap_end == far_end
                      : qi_heap_end >= quire_pa_of_kla(Q_KLA(run)).v + 100000);
        quire_kfree(run);

        qi_heap_end = 0;
        steps_begin(i ? far : little);
        p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        steps_end();
        assert_true(i ? qi_heap_end == far_end : qi_heap_end >= quire_pa_of_kla(Q_KLA(p)).v + 4000);
        qi_heap_end = far_end; /* what the rest of the heap had made of it */
        quire_cache_free(c, p);
        quire_cache_shrink(c);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- The n-th call fails, whoever makes it ---- */

static void other_call_counts(void) { quire_kfree(quire_kmalloc(8, QUIRE_GFP_KERNEL)); }
static void other_call_fails(void) { assert_null(quire_kmalloc(8, QUIRE_GFP_KERNEL)); }

static void two_calls_count_down(void **state)
{
    static const struct act counts[] = {{"RMW", &fail_countdown, other_call_counts}, {0}};
    static const struct act fails[] = {{"RMW", &fail_countdown, other_call_fails}, {0}};
    void *p;

    (void)state;
    quire_heap_fail_after(2);
    steps_begin(counts);
    assert_null(quire_kmalloc(8, QUIRE_GFP_KERNEL)); /* the first has become the second */
    steps_end();
    quire_heap_fail_after(1);
    steps_begin(fails);
    assert_non_null(p = quire_kmalloc(8, QUIRE_GFP_KERNEL)); /* the failure is taken */
    steps_end();
    quire_heap_fail_after(-1);
    quire_kfree(p);
    expect_nothing_lost();
}

/* ---- A slab that was made for us is emptied by others ---- */

static struct quire_cache *grown;
static struct qi_entry stolen[512];
static unsigned nstolen;

static void nothing(void) {}

static void others_take_all(void)
{
    struct qi_cache_node *cn = &grown->node[0];

    nstolen += qi_slabs_take_locked(grown, cn, stolen + nstolen, 512 - nstolen);
    assert_true(nstolen > 0);
    assert_int_equal(cn->in_slabs, 0);
}

static void a_fresh_slab_is_lost(void **state)
{
    struct qi_spin *lock;
    void *p;

    (void)state;
    nstolen = 0;
    grown = cache("grown", 256, 0, 0);
    p = quire_cache_alloc(grown, QUIRE_GFP_KERNEL); /* makes the CPU's sheaves */
    quire_cache_free(grown, p);
    quire_cache_shrink(grown);
    lock = &grown->node[0].lock;
    {
        /* looked for an object; put the new slab on its list; look again, too late */
        const struct act acts[] = {
            {"LOCK", lock, nothing}, {"LOCK", lock, nothing}, {"LOCK", lock, others_take_all}, {0}};

        steps_begin(acts);
        p = quire_cache_alloc(grown, QUIRE_GFP_KERNEL);
        steps_end();
    }
    assert_non_null(p); /* of a second slab */
    for (unsigned i = 0; i < nstolen; i++)
        assert_ptr_not_equal(stolen[i].obj, p);
    qi_slabs_give(grown, stolen, nstolen);
    quire_cache_free(grown, p);
    heap_sound();
    assert_int_equal(quire_cache_destroy(grown), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- The last object of a slab is freed where there is no memory for sheaves ---- */

static struct qi_slab *going;

/* Its header is somebody else's memory by now. */
static void header_is_reused(void) { going->node = 1; }

static void a_slab_that_is_gone_is_not_asked(void **state)
{
    static void *sheaves[8192];
    struct quire_cache *c = cache("gone", 1500, 0, 0);
    struct quire_page *page, *frames = NULL;
    uint64_t frees;
    unsigned n = 0;
    void *p;

    (void)state;
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    quire_heap_drain();
    going = qi_slab_of_page(quire_page_of_ptr(p));
    c->max_empty = 0;
    while ((page = quire_page_alloc(0, QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY))) {
        *(struct quire_page **)quire_page_ptr(page) = frames;
        frames = page;
    }
    while (n < QI_COUNT(sheaves) && (sheaves[n] = qi_internal_alloc(c->sheaves, QUIRE_GFP_ATOMIC)))
        n++;
    frees = c->node[0].frees;
    {
        const struct act acts[] = {
            {"UNLOCK", &qi_header_cache(going->n)->node[0].lock, header_is_reused}, {0}};

        hosted_cpu_set(1);
        steps_begin(acts);
        quire_cache_free(c, p);
        steps_end();
        hosted_cpu_set(0);
    }
    assert_int_equal(c->node[0].frees, frees + 1);
    while (n)
        qi_internal_free(c->sheaves, sheaves[--n]);
    for (; frames; frames = page) {
        page = *(struct quire_page **)quire_page_ptr(frames);
        quire_page_free(frames, 0);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_end_only_grows),
        TEST(two_calls_count_down),
        TEST(a_fresh_slab_is_lost),
        TEST(a_slab_that_is_gone_is_not_asked),
    };

    return cmocka_run_group_tests_name("heap_step_test", tests, NULL, NULL);
}
