/*
 * heap_leak_test.c - the leak scan: what is lost is found, what is referenced never.
 */
#include <heap_suite.h>

#include <quire/leak.h>
#include <quire/rcu.h>
#include <quire/track.h>
#include <slab/leak.h>

enum { ROOTS = 64 };
static void *roots[ROOTS];
static int pauses;

static void give_roots(void *scan, void *ctx)
{
    (void)ctx;
    quire_leak_root(scan, roots, roots + ROOTS);
}

static void count_pause(void *ctx)
{
    (void)ctx;
    pauses++;
}

static void leak_machine(unsigned nodes)
{
    const struct quire_leak_hooks hooks = {.roots = give_roots, .pause = count_pause};
    struct quire_heap_options o = {.flags = QUIRE_HEAP_LEAKSCAN};

    assert_int_equal(quire_heap_configure(&o), QUIRE_OK);
    heap_machine(64 * HEAP_MIB, nodes);
    assert_int_equal(quire_heap_configure(NULL), QUIRE_OK);
    quire_leak_set_hooks(&hooks);
    quire_leak_min_age(0);
    memset(roots, 0, sizeof roots);
    pauses = 0;
}

static int setup_leak(void **state)
{
    (void)state;
    leak_machine(1);
    return 0;
}

static int setup_leak_nodes(void **state)
{
    (void)state;
    leak_machine(2);
    return 0;
}

/* What two scans say, which it takes to find anything. */
static struct quire_leak_stats scan(void)
{
    struct quire_leak_stats s;

    assert_int_equal(quire_leak_scan(&s), QUIRE_OK);
    assert_int_equal(quire_leak_scan(&s), QUIRE_OK);
    heap_sound();
    return s;
}

static bool collect(const struct quire_leak *leak, void *ctx)
{
    struct {
        struct quire_leak leak[32];
        unsigned n;
    } *c = ctx;

    c->leak[c->n++] = *leak;
    return c->n < 32;
}

static struct {
    struct quire_leak leak[32];
    unsigned n;
} found;

static void look(void)
{
    found.n = 0;
    quire_leak_each(collect, &found);
}

static bool is_suspect(const void *p)
{
    for (unsigned i = 0; i < found.n; i++)
        if (found.leak[i].start == p)
            return true;
    return false;
}

/* proves: VE-56 */
static void a_planted_leak_is_found_with_its_trace(void **state)
{
    static char text[4096];
    struct quire_leak_stats s;
    void *kept, *lost;
    size_t n;

    (void)state;
    s = scan();
    assert_int_equal(s.suspects, 0);
    hosted_task = 12;
    roots[3] = kept = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    memset(kept, 0, 100);
    lost = quire_kmalloc(72, QUIRE_GFP_KERNEL);
    memset(lost, 0xab, 72);
    s = scan();
    assert_int_equal(s.objects, 2);
    assert_int_equal(s.suspects, 1);
    assert_int_equal(s.fresh, 1);
    look();
    assert_int_equal(found.n, 1);
    assert_ptr_equal(found.leak[0].start, lost);
    assert_int_equal(found.leak[0].bytes, 72);
    assert_int_equal(found.leak[0].task, 12);
    assert_true(found.leak[0].nframes >= 1);
    assert_true(found.leak[0].frames[0] > (uintptr_t)a_planted_leak_is_found_with_its_trace &&
                found.leak[0].frames[0] < (uintptr_t)a_planted_leak_is_found_with_its_trace + 2000);
    n = quire_leak_text(text, sizeof text);
    assert_int_equal(n, strlen(text));
    assert_non_null(strstr(text, "unreferenced object 0x"));
    assert_non_null(strstr(text, "(size 72):"));
    assert_non_null(strstr(text, "pid 12"));
    assert_non_null(strstr(text, "ab ab ab ab"));
    assert_non_null(strstr(text, "backtrace (crc "));
    /* once more: no news */
    s = scan();
    assert_int_equal(s.suspects, 1);
    assert_int_equal(s.fresh, 0);
    quire_kfree(lost);
    look();
    assert_int_equal(found.n, 0);
    roots[3] = NULL;
    s = scan();
    assert_int_equal(s.suspects, 1);
    quire_kfree(kept);
}

/* A ring, and what it points to, is lost as a whole. */
/* proves: VE-56 */
static void a_leak_through_a_cycle_is_found(void **state)
{
    void **ring[5], *leaf;

    (void)state;
    for (int i = 0; i < 5; i++) {
        ring[i] = quire_kzalloc(64, QUIRE_GFP_KERNEL);
        if (i)
            ring[i - 1][1] = (char *)ring[i] + 8; /* into the object */
    }
    ring[4][7] = ring[0];
    ring[2][3] = leaf = quire_kzalloc(500, QUIRE_GFP_KERNEL);
    roots[ROOTS - 1] = (char *)ring[3] + 63; /* the last byte still is it */
    assert_int_equal(scan().suspects, 0);
    roots[ROOTS - 1] = NULL;
    assert_int_equal(scan().suspects, 6);
    look();
    for (int i = 0; i < 5; i++)
        assert_true(is_suspect(ring[i]));
    assert_true(is_suspect(leaf));
    for (int i = 0; i < 5; i++)
        quire_kfree(ring[i]);
    quire_kfree(leaf);
    assert_int_equal(scan().suspects, 0);
}

/* Behind the end, before the start: not the object. */
/* proves: VE-56 */
static void what_points_beside_is_no_reference(void **state)
{
    char *p = quire_kzalloc(64, QUIRE_GFP_KERNEL);

    (void)state;
    roots[0] = p + 64;
    roots[1] = p - 1;
    assert_int_equal(scan().suspects, 1);
    roots[0] = p + 63;
    assert_int_equal(scan().suspects, 0);
    quire_kfree(p);
}

/* proves: VE-56 */
static void runs_of_pages_are_objects_too(void **state)
{
    void **run = quire_kzalloc(300000, QUIRE_GFP_KERNEL), *small, **other;

    (void)state;
    roots[0] = (char *)run + 299999;
    run[300000 / sizeof(void *) - 1] = small = quire_kzalloc(32, QUIRE_GFP_KERNEL);
    other = quire_kzalloc(50000, QUIRE_GFP_KERNEL);
    assert_int_equal(scan().suspects, 1);
    look();
    assert_true(is_suspect(other));
    assert_int_equal(found.leak[0].bytes, 50000);
    roots[0] = NULL;
    assert_int_equal(scan().suspects, 3);
    look();
    assert_true(is_suspect(run) && is_suspect(other) && is_suspect(small));
    assert_true(pauses > 0);
    quire_kfree(run);
    quire_kfree(other);
    quire_kfree(small);
    assert_int_equal(scan().suspects, 0);
}

/* Who writes to it has it, wherever the address is. */
/* proves: VE-56 */
static void what_changes_is_no_leak(void **state)
{
    struct quire_leak_stats s;
    int *p = quire_kzalloc(64, QUIRE_GFP_KERNEL);

    (void)state;
    for (int i = 0; i < 5; i++) {
        p[5]++;
        assert_int_equal(quire_leak_scan(&s), QUIRE_OK);
        assert_int_equal(s.suspects, 0);
    }
    assert_int_equal(quire_leak_scan(&s), QUIRE_OK);
    assert_int_equal(s.suspects, 1);
    p[5]++;
    assert_int_equal(quire_leak_scan(&s), QUIRE_OK);
    assert_int_equal(s.suspects, 0);
    quire_kfree(p);
}

/* proves: VE-56 */
static void the_young_are_not_reported(void **state)
{
    void *p;

    (void)state;
    quire_leak_min_age(100000);
    p = quire_kzalloc(64, QUIRE_GFP_KERNEL);
    assert_int_equal(scan().suspects, 0);
    quire_leak_min_age(0);
    assert_int_equal(scan().suspects, 1);
    quire_kfree(p);
}

/* proves: VE-56 */
static void marks_are_heeded(void **state)
{
    void **a = quire_kzalloc(64, QUIRE_GFP_KERNEL), **b = quire_kzalloc(64, QUIRE_GFP_KERNEL);

    (void)state;
    a[0] = b;
    assert_int_equal(scan().suspects, 2);
    quire_leak_not_leak(a); /* with all that it holds */
    assert_int_equal(scan().suspects, 0);
    quire_leak_no_scan(a); /* but that is not looked at now */
    assert_int_equal(scan().suspects, 1);
    look();
    assert_true(is_suspect(b));
    quire_leak_ignore(b);
    assert_int_equal(scan().suspects, 0);
    quire_leak_not_leak(roots); /* no object: nothing happens */
    quire_kfree(a);
    quire_kfree(b);
    a = quire_kzalloc(64, QUIRE_GFP_KERNEL); /* in the same place: no mark is left */
    assert_int_equal(scan().suspects, 1);
    quire_leak_clear();
    assert_int_equal(scan().suspects, 0);
    quire_kfree(a);
}

/* What is freed late needs no word that points to it, and whatever it shows its readers does not either; if
 * there is no memory to free it late it is as it was. */
/* proves: VE-56 */
static void what_waits_for_readers_is_not_lost(void **state)
{
    struct quire_cache *batches = qi_sheaf_cache(63);
    static void *taken[8192];
    void **p = quire_kzalloc(64, QUIRE_GFP_KERNEL), *run = quire_kzalloc(20000, QUIRE_GFP_KERNEL);
    void *shown = quire_kzalloc(96, QUIRE_GFP_KERNEL);
    struct quire_page *page, *frames = NULL;
    uint64_t token = quire_rcu_read_lock();
    unsigned n = 0;

    (void)state;
    p[0] = shown;
    assert_int_equal(scan().suspects, 3);
    while ((page = quire_page_alloc(0, QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY))) {
        *(struct quire_page **)quire_page_ptr(page) = frames;
        frames = page;
    }
    while (n < 8192 && (taken[n] = qi_internal_alloc(batches, QUIRE_GFP_ATOMIC)))
        n++;
    assert_int_equal(quire_kfree_rcu(p), QUIRE_NO_MEMORY);
    while (n)
        qi_internal_free(batches, taken[--n]);
    for (; frames; frames = page) {
        page = *(struct quire_page **)quire_page_ptr(frames);
        quire_page_free(frames, 0);
    }
    assert_int_equal(scan().suspects, 3);
    assert_int_equal(quire_kfree_rcu(p), QUIRE_OK);
    assert_int_equal(quire_kfree_rcu(run), QUIRE_OK);
    assert_int_equal(scan().suspects, 0);
    quire_rcu_read_unlock(token);
    quire_rcu_wait();
    quire_rcu_reclaim();
    assert_int_equal(scan().suspects, 1); /* nobody shows it any more */
    quire_kfree(shown);
}

/* More gray objects at a time than the scan's stack has room for. */
/* proves: VE-56 */
static void a_full_stack_loses_nothing(void **state)
{
    enum { N = 40000 };
    void **all = quire_kzalloc(N * sizeof(void *), QUIRE_GFP_KERNEL), **p;

    (void)state;
    roots[0] = all;
    for (int i = 0; i < N; i++) {
        all[i] = p = quire_kzalloc(16, QUIRE_GFP_KERNEL);
        p[1] = quire_kzalloc(8, QUIRE_GFP_KERNEL); /* each holds another */
    }
    assert_int_equal(scan().suspects, 0);
    assert_int_equal(scan().objects, 2 * N + 1);
    p = all[N / 2];
    all[N / 2] = NULL;
    assert_int_equal(scan().suspects, 2);
    quire_kfree(p[1]);
    quire_kfree(p);
    for (int i = 0; i < N; i++) {
        if (all[i])
            quire_kfree(((void **)all[i])[1]);
        quire_kfree(all[i]);
    }
    quire_kfree(all);
}

/* Whatever a slab's number of objects, each of its places is looked at: the only object that is lost is found in any.
 * proves: VE-56 */
static void every_place_of_a_slab_is_looked_at(void **state)
{
    static void *p[600];
    unsigned odd = 0;

    (void)state;
    for (size_t size = 3000; size > 48; size -= size / 24 + 8) {
        struct quire_cache *c = cache("places", size, 8, 0);
        struct qi_slab *s;
        unsigned n;

        roots[0] = c; /* an object of the heap itself */
        p[0] = quire_cache_alloc(c, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
        s = qi_slab_of_page(quire_page_of_ptr(p[0]));
        n = s->n;
        assert_true(n < QI_COUNT(p));
        for (unsigned i = 1; i < n; i++)
            p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
        assert_int_equal(scan().suspects, n);
        look();
        for (unsigned i = 1; i <= n && n <= 32; i++)
            assert_true(is_suspect(qi_slab_object(s, i)));
        odd += n % 16 == 1;
        for (unsigned i = 0; i < n; i++)
            quire_cache_free(c, p[i]);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    }
    assert_true(odd); /* one that leaves a single object to the last look of a few */
}

/* Objects that there was no memory to record are looked at, and what struct pages name is held.
 * proves: VE-56 */
static void what_is_not_tracked_is_a_root(void **state)
{
    void **untracked, *held, *named;
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    struct quire_cache *c = cache("untracked", 256, 0, 0);

    (void)state;
    roots[0] = c;
    held = quire_kzalloc(64, QUIRE_GFP_KERNEL);
    named = quire_kzalloc(200, QUIRE_GFP_KERNEL);
    assert_int_equal(scan().suspects, 2);
    page->owner = (uintptr_t)named;
    assert_int_equal(scan().suspects, 1);
    quire_cache_track_stop(c);
    untracked = quire_cache_alloc(c, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    untracked[31] = held;
    assert_int_equal(scan().suspects, 0);
    untracked[31] = NULL;
    page->owner = 0;
    assert_int_equal(scan().suspects, 2);
    quire_cache_free(c, untracked);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    quire_page_free(page, 0);
    quire_kfree(held);
    quire_kfree(named);
}

/* proves: VE-56 */
static void without_the_mode_there_is_no_scan(void **state)
{
    struct quire_leak_stats s;

    (void)state;
    assert_int_equal(quire_leak_scan(&s), QUIRE_UNSUPPORTED);
    quire_leak_each(collect, &found);
}

/* An arbitrary graph: lost is exactly what a dumb walk does not reach. */
/* proves: VE-56 */
static void random_graphs_agree_with_a_walk(void **state)
{
    enum { N = 300 };
    struct node {
        struct node *to[3];
    } * n[N];
    static bool reached[N];
    static int stack[N * 4];

    (void)state;
    for (int round = 0; round < 30; round++) {
        int depth = 0, lost = 0;

        memset(roots, 0, sizeof roots);
        memset(reached, 0, sizeof reached);
        for (int i = 0; i < N; i++)
            n[i] = quire_kzalloc(sizeof(struct node) + test_random() % 4000, QUIRE_GFP_KERNEL);
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 3; k++)
                if (test_random() % 3 == 0)
                    n[i]->to[k] = n[test_random() % N];
        for (int i = 0; i < 6; i++) {
            int k = (int)(test_random() % N);

            roots[test_random() % ROOTS] = n[k];
        }
        for (int r = 0; r < ROOTS; r++)
            for (int i = 0; i < N; i++)
                if (roots[r] == n[i] && !reached[i]) {
                    reached[i] = true;
                    stack[depth++] = i;
                }
        while (depth) {
            int i = stack[--depth];

            for (int j = 0; j < N; j++)
                for (int k = 0; k < 3; k++)
                    if (n[i]->to[k] == n[j] && !reached[j]) {
                        reached[j] = true;
                        stack[depth++] = j;
                    }
        }
        for (int i = 0; i < N; i++)
            lost += !reached[i];
        assert_int_equal(scan().suspects, lost);
        for (int i = 0; i < N; i++)
            quire_kfree(n[i]);
    }
}

#define LEAK(f)       cmocka_unit_test_setup_teardown(f, setup_leak, teardown)
#define LEAK_NODES(f) cmocka_unit_test_setup_teardown(f, setup_leak_nodes, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LEAK(a_planted_leak_is_found_with_its_trace),
        LEAK(a_leak_through_a_cycle_is_found),
        LEAK(what_points_beside_is_no_reference),
        LEAK(runs_of_pages_are_objects_too),
        LEAK(what_changes_is_no_leak),
        LEAK(the_young_are_not_reported),
        LEAK(marks_are_heeded),
        LEAK(what_waits_for_readers_is_not_lost),
        LEAK(a_full_stack_loses_nothing),
        LEAK(every_place_of_a_slab_is_looked_at),
        LEAK(what_is_not_tracked_is_a_root),
        TEST(without_the_mode_there_is_no_scan),
        LEAK_NODES(random_graphs_agree_with_a_walk),
    };

    test_seed("heap_leak_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
