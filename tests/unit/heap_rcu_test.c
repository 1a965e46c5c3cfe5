/*
 * heap_rcu_test.c - readers without locks: what they may still see is not given to anybody else.
 */
#include <heap_suite.h>

#include <pthread.h>

/* What was freed while somebody reads stays as it was until he is done; then it is given out again.
 * The other CPUs of the machine, where nobody reads, are not waited for. */
static void readers_keep_objects(void **state)
{
    struct quire_cache *c = cache("rcu", 128, 0, 0);
    uint8_t *p[300], *again;
    uint64_t token, inner;

    (void)state;
    for (int i = 0; i < 300; i++)
        memset(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL), i, 128);
    hosted_cpu_set(1);
    token = quire_rcu_read_lock();
    hosted_cpu_set(0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(quire_kfree_rcu(p[i]), QUIRE_OK);
    quire_rcu_reclaim();
    assert_int_equal(heap_stats("rcu").active, 300);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    for (int n = 0; n < 1000; n++) {
        again = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        for (int i = 0; i < 300; i++)
            assert_ptr_not_equal(again, p[i]);
        quire_cache_free(c, again);
    }
    hosted_cpu_set(1);
    inner = quire_rcu_read_lock(); /* a reader inside the reader does not end it */
    quire_rcu_read_unlock(inner);
    hosted_cpu_set(0);
    quire_rcu_reclaim();
    assert_int_equal(heap_stats("rcu").active, 300);
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < 128; k++)
            assert_int_equal(p[i][k], (uint8_t)i);
    hosted_cpu_set(1);
    quire_rcu_read_unlock(token);
    /* a reader who comes later holds nothing of it */
    token = quire_rcu_read_lock();
    hosted_cpu_set(0);
    quire_rcu_reclaim();
    assert_int_equal(heap_stats("rcu").active, 0);
    hosted_cpu_set(1);
    quire_rcu_read_unlock(token);
    hosted_cpu_set(0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* A batch that is full is another's beginning: none of it, nor of what lies beside it, is lost. */
static void batches_have_room_for_so_many(void **state)
{
    enum { N = 300, ROOM = 63 };
    struct quire_cache *batches = qi_sheaf_cache(ROOM);
    struct qi_sheaf *beside[64];
    uint64_t token = quire_rcu_read_lock();
    struct qi_slab *s;
    void *p[N];

    (void)state;
    for (int i = 0; i < N; i++)
        p[i] = quire_kmalloc(64, QUIRE_GFP_KERNEL);
    /* all other batches of the slab are ours, so that the one used lies between them */
    for (unsigned i = 0; i < QI_COUNT(beside); i++)
        memset(beside[i] = qi_internal_alloc(batches, QUIRE_GFP_KERNEL), 0x5a, batches->size);
    for (unsigned i = 1; i < QI_COUNT(beside); i += 2)
        qi_internal_free(batches, beside[i]);
    s = qi_slab_of_page(quire_page_of_ptr(beside[0]));
    assert_true(s->n > 2);
    for (int i = 0; i < N; i++)
        assert_int_equal(quire_kfree_rcu(p[i]), QUIRE_OK);
    for (unsigned i = 0; i < QI_COUNT(beside); i += 2)
        for (unsigned k = 0; k < batches->size; k++)
            assert_int_equal(((uint8_t *)beside[i])[k], 0x5a);
    assert_int_equal(heap_stats("kmalloc-64").active, N);
    quire_rcu_read_unlock(token);
    qi_late_flush();
    assert_int_equal(heap_stats("kmalloc-64").active, 0);
    for (unsigned i = 0; i < QI_COUNT(beside); i += 2)
        qi_internal_free(batches, beside[i]);
    expect_nothing_lost();
}

/* Objects with red zones, of kmalloc, runs of pages: each goes the way of its kind, poisoned when the
 * readers are done and not before. */
static void every_kind_of_memory(void **state)
{
    struct quire_cache *c = cache("kinds", 100, 0, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON);
    uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), *q = quire_kmalloc(300, QUIRE_GFP_KERNEL),
            *run = quire_kmalloc(70000, QUIRE_GFP_KERNEL);
    uint64_t token;

    (void)state;
    memset(p, 1, 100);
    memset(q, 2, 300);
    memset(run, 3, 70000);
    token = quire_rcu_read_lock();
    assert_int_equal(quire_kfree_rcu(NULL), QUIRE_OK);
    assert_int_equal(quire_kfree_rcu(p), QUIRE_OK);
    assert_int_equal(quire_kfree_rcu(q), QUIRE_OK);
    assert_int_equal(quire_kfree_rcu(run), QUIRE_OK);
    quire_rcu_reclaim();
    assert_int_equal(p[99], 1);
    assert_int_equal(q[299], 2);
    assert_int_equal(run[69999], 3);
    quire_rcu_read_unlock(token);
    quire_rcu_reclaim();
    assert_int_not_equal(p[50], 1);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* proves: X-13 TRAP-3 */
static void a_second_free_is_named(void **state)
{
    struct quire_cache *c = cache("twice", 64, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    uint64_t token = quire_rcu_read_lock();

    (void)state;
    assert_int_equal(quire_kfree_rcu(p), QUIRE_OK);
    assert_true(HOSTED_EXPECT_PANIC(quire_kfree_rcu(p)));
    assert_non_null(strstr(hosted_panic_text(), "waiting for readers"));
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p)));
    assert_true(HOSTED_EXPECT_PANIC(quire_kfree_rcu((char *)p + 8)));
    assert_true(HOSTED_EXPECT_PANIC(quire_kfree_rcu(&p)));
    assert_true(HOSTED_EXPECT_PANIC(quire_rcu_wait())); /* for itself */
    quire_rcu_read_unlock(token);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK); /* waits for what is on its way */
    expect_nothing_lost();
}

/* Without memory for a batch the object stays whose it was.
 * proves: TRAP-18 */
static void no_memory_for_a_batch(void **state)
{
    struct quire_cache *c = cache("poor", 64, 0, 0), *batches = qi_sheaf_cache(63);
    static void *taken[8192];
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    struct quire_page *page, *frames = NULL;
    unsigned n = 0;

    (void)state;
    while ((page = quire_page_alloc(0, QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY))) {
        *(struct quire_page **)quire_page_ptr(page) = frames;
        frames = page;
    }
    while (n < 8192 && (taken[n] = qi_internal_alloc(batches, QUIRE_GFP_ATOMIC)))
        n++;
    memset(p, 7, 64);
    assert_int_equal(quire_kfree_rcu(p), QUIRE_NO_MEMORY);
    assert_int_equal(((char *)p)[63], 7);
    assert_int_equal(heap_stats("poor").active, 1);
    while (n)
        qi_internal_free(batches, taken[--n]);
    assert_int_equal(quire_kfree_rcu(p), QUIRE_OK);
    for (; frames; frames = page) {
        page = *(struct quire_page **)quire_page_ptr(frames);
        quire_page_free(frames, 0);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* A cache whose memory stays its own while somebody reads: an object is given out again at once, but its
 * page goes to nobody else. */
static void pages_stay_while_somebody_reads(void **state)
{
    struct quire_cache *c = cache("typed", 1024, 0, QUIRE_CACHE_RCU), *d;
    static void *p[400];
    uint64_t token;
    q_pfn pfn;

    (void)state;
    assert_int_equal(quire_cache_create("no", 64, 0, QUIRE_CACHE_RCU | QUIRE_CACHE_ZERO, NULL, &d),
                     QUIRE_INVALID);
    assert_int_equal(
        quire_cache_create("no", 64, 0, QUIRE_CACHE_RCU | QUIRE_CACHE_POISON, NULL, &d),
        QUIRE_INVALID);
    for (int i = 0; i < 400; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    pfn = quire_pfn_of_page(quire_page_of_ptr(p[200]));
    hosted_cpu_set(1);
    token = quire_rcu_read_lock();
    hosted_cpu_set(0);
    quire_cache_free(c, p[200]);
    assert_ptr_equal(quire_cache_alloc(c, QUIRE_GFP_KERNEL), p[200]);
    for (int i = 0; i < 400; i++)
        quire_cache_free(c, p[i]);
    quire_cache_shrink(c);
    quire_rcu_reclaim();
    assert_int_equal(heap_stats("typed").slabs, 0);
    assert_true(quire_page_flags(pfn) & QUIRE_PG_SLAB);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    hosted_cpu_set(1);
    quire_rcu_read_unlock(token);
    hosted_cpu_set(0);
    quire_rcu_reclaim();
    assert_false(quire_page_flags(pfn) & QUIRE_PG_SLAB);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- threads ---- */

static uint64_t *shown; /* atomic */
static bool stop;       /* atomic */

static void *read_on(void *arg)
{
    hosted_cpu_set((unsigned)(uintptr_t)arg);
    for (uint64_t rounds = 0; !qi_load_relaxed(&stop); rounds++) {
        uint64_t token = quire_rcu_read_lock();
        uint64_t *p = qi_load_acquire(&shown);

        for (int k = 0; k < 20; k++)
            for (int i = 1; i < 16; i++)
                if (qi_load_relaxed(&p[i]) != qi_load_relaxed(&p[0]))
                    return p;
        quire_rcu_read_unlock(token);
    }
    return NULL;
}

/* Readers on other CPUs never see an object that was freed: its words stop being equal when it is given to
 * the next. */
static void readers_on_other_cpus(void **state)
{
    struct quire_cache *c = cache("readers", 128, 0, 0);
    pthread_t threads[3];

    (void)state;
    shown = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    memset(shown, 0, 128);
    stop = false;
    for (uintptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, (void *)(i + 1)), 0);
    for (uint64_t n = 1; n < 20000; n++) {
        uint64_t *fresh = quire_cache_alloc(c, QUIRE_GFP_KERNEL), *old = shown;

        assert_non_null(fresh);
        for (int i = 0; i < 16; i++)
            qi_store_relaxed(&fresh[i], n);
        qi_store_release(&shown, fresh);
        if (n % 64 == 0) {
            quire_rcu_wait();
            quire_cache_free(c, old);
        } else {
            assert_int_equal(quire_kfree_rcu(old), QUIRE_OK);
        }
    }
    qi_store_relaxed(&stop, true);
    for (int i = 0; i < 3; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    quire_cache_free(c, shown);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

static void *free_late(void *arg)
{
    hosted_cpu_set((unsigned)(uintptr_t)arg);
    while (!qi_load_relaxed(&stop))
        if (quire_kfree_rcu(quire_kmalloc(64, QUIRE_GFP_KERNEL)) != QUIRE_OK)
            return arg;
    return NULL;
}

/* The open batches of all CPUs are closed under those who fill them, and who waits for what was freed so far is not
 * kept waiting by what is freed meanwhile. */
static void batches_are_closed_by_others(void **state)
{
    pthread_t threads[3];

    (void)state;
    stop = false;
    for (uintptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, free_late, (void *)(i + 1)), 0);
    for (unsigned n = 0; n < 5000; n++)
        qi_late_flush();
    qi_store_relaxed(&stop, true);
    for (int i = 0; i < 3; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(readers_keep_objects),  TEST(batches_have_room_for_so_many),
        TEST(every_kind_of_memory),  TEST(a_second_free_is_named),
        TEST(no_memory_for_a_batch), TEST(pages_stay_while_somebody_reads),
        TEST(readers_on_other_cpus), TEST(batches_are_closed_by_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
