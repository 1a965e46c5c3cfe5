/*
 * heap_track_test.c - who allocated what: records, call sites, traces, reports.
 */
#include <heap_suite.h>

#include <base/trace.h>
#include <quire/track.h>
#include <slab/depot.h>
#include <slab/track.h>

/* Tracking takes its tables at the start and traces by and by: they are the heap's until its end. */
static void start(void) { assert_int_equal(quire_track_start(), QUIRE_OK); }

static void expect_only_tables_out(void)
{
    struct quire_track_stats s;

    quire_track_stats(&s);
    assert_int_equal(s.live, 0);
    assert_int_equal(s.bytes, 0);
    assert_int_equal(s.lost, 0);
    heap_sound();
    assert_int_equal(heap_free_pages() + s.memory / QUIRE_PAGE_SIZE, frames_at_start);
    heap_sound();
}

/* A function in a section of its own, so that it is known where it ends. */
#define PLACE(name)                                            \
    extern const char __start_in_##name[], __stop_in_##name[]; \
    __attribute__((noinline, section("in_" #name))) static void *name(size_t size)
#define INSIDE(addr, name) \
    ((addr) > (uintptr_t)__start_in_##name && (addr) <= (uintptr_t)__stop_in_##name)
/* So that a call before is none in tail position. */
#define KEEP(p) __asm__ volatile("" : "+r"(p))

PLACE(one_place)
{
    void *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);

    KEEP(p);
    return p;
}

PLACE(another_place)
{
    void *p = quire_kzalloc(size, QUIRE_GFP_KERNEL);

    KEEP(p);
    return p;
}

PLACE(deeper)
{
    void *p = one_place(size);

    KEEP(p);
    return p;
}

PLACE(freed_here)
{
    void *p = (void *)size;

    quire_kfree(p);
    KEEP(p);
    return p;
}

PLACE(all_kinds)
{
    char *p = quire_kcalloc(size / 10, 10, QUIRE_GFP_KERNEL);

    p = quire_krealloc(p, size * 9 / 10, QUIRE_GFP_KERNEL); /* stays */
    p = quire_krealloc(p, size * 10, QUIRE_GFP_KERNEL);
    KEEP(p);
    return p;
}

static struct qi_track *record(const void *p)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(p));
    uint64_t i;

    assert_true(qi_slab_index(s, p, &i));
    return s->track ? qi_track_record(s, (unsigned)i) : NULL;
}

/* proves: VE-55 */
static void a_record_says_who_and_for_how_much(void **state)
{
    const uintptr_t *frames;
    struct qi_track *t;
    unsigned n;
    void *p;

    (void)state;
    start();
    hosted_task = 77;
    hosted_cpu_set(3);
    p = deeper(100);
    hosted_cpu_set(0);
    t = record(p);
    assert_non_null(t);
    assert_int_equal(t->phase, QI_TRACK_LIVE);
    assert_int_equal(t->asked, 100);
    assert_int_equal(t->alloc.cpu, 3);
    assert_int_equal(t->alloc.task, 77);
    n = qi_depot_get(t->alloc.trace, &frames);
    assert_true(n >= 3);
    assert_true(INSIDE(frames[0], one_place));
    assert_true(INSIDE(frames[1], deeper));
    hosted_task = 78;
    freed_here((size_t)p);
    assert_int_equal(t->phase, QI_TRACK_FREED);
    assert_int_equal(t->free.task, 78);
    assert_int_equal(t->alloc.task, 77);
    n = qi_depot_get(t->free.trace, &frames);
    assert_true(n >= 1);
    assert_true(INSIDE(frames[0], freed_here));
    expect_only_tables_out();
}

static const struct quire_site *site_in(uintptr_t from, uintptr_t to, const struct quire_site *s,
                                        size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i].caller > from && s[i].caller <= to)
            return &s[i];
    return NULL;
}
#define SITE_IN(name, s, n) site_in((uintptr_t)__start_in_##name, (uintptr_t)__stop_in_##name, s, n)

/* proves: VE-58 */
static void sites_are_counted_and_sorted(void **state)
{
    static struct quire_site s[64];
    const struct quire_site *a, *b;
    void *p[30], *q;
    size_t n;

    (void)state;
    start();
    for (int i = 0; i < 30; i++)
        p[i] = one_place(40);
    q = another_place(900);
    n = quire_heap_sites(s, 64);
    a = SITE_IN(one_place, s, n);
    b = SITE_IN(another_place, s, n);
    assert_non_null(a);
    assert_non_null(b);
    assert_true(a->bytes == 1200 && a->count == 30 && a->peak == 1200 && a->calls == 30);
    assert_true(b->bytes == 900 && b->count == 1);
    assert_true(a < b);
    for (size_t i = 1; i < n; i++)
        assert_true(s[i - 1].bytes >= s[i].bytes);
    /* the top alone */
    assert_int_equal(quire_heap_sites(s, 1), 1);
    assert_true(INSIDE(s[0].caller, one_place));
    for (int i = 0; i < 20; i++)
        quire_kfree(p[i]);
    n = quire_heap_sites(s, 64);
    a = SITE_IN(one_place, s, n);
    b = SITE_IN(another_place, s, n);
    assert_true(a->bytes == 400 && a->count == 10 && a->peak == 1200 && a->calls == 30);
    assert_true(b < a);
    for (int i = 20; i < 30; i++)
        quire_kfree(p[i]);
    quire_kfree(q);
    expect_only_tables_out();
}

/* Random sizes from a few sites: the table says what a dumb model says. */
/* proves: VE-58 */
static void random_calls_agree_with_a_model(void **state)
{
    enum { N = 400 };
    void *(*const places[2])(size_t) = {one_place, another_place};
    uint64_t bytes[2] = {0, 0}, count[2] = {0, 0}, peak[2] = {0, 0};
    struct {
        void *p;
        size_t size;
        int place;
    } live[N] = {{0}};
    static struct quire_site s[64];
    size_t n;

    (void)state;
    start();
    for (int i = 0; i < 20000; i++) {
        int k = (int)(test_random() % N), place = (int)(test_random() % 2);

        if (live[k].p) {
            quire_kfree(live[k].p);
            bytes[live[k].place] -= live[k].size;
            count[live[k].place]--;
            live[k].p = NULL;
            continue;
        }
        live[k].size = test_random() % 3000;
        live[k].place = place;
        live[k].p = places[place](live[k].size);
        assert_non_null(live[k].p);
        bytes[place] += live[k].size;
        count[place]++;
        if (peak[place] < bytes[place])
            peak[place] = bytes[place];
    }
    n = quire_heap_sites(s, 64);
    for (int i = 0; i < 2; i++) {
        const struct quire_site *site = i ? SITE_IN(another_place, s, n) : SITE_IN(one_place, s, n);

        assert_non_null(site);
        assert_int_equal(site->bytes, bytes[i]);
        assert_int_equal(site->count, count[i]);
        assert_int_equal(site->peak, peak[i]);
    }
    for (int i = 0; i < N; i++)
        quire_kfree(live[i].p);
    expect_only_tables_out();
}

/* Objects of before are unknown, also when they are freed; those of after have no record. */
/* proves: VE-55 */
static void tracking_is_switched_while_the_heap_is_used(void **state)
{
    struct quire_track_stats s;
    void *before[200], *during[200], *after;

    (void)state;
    for (int i = 0; i < 200; i++)
        before[i] = one_place(64);
    start();
    for (int i = 0; i < 200; i++)
        during[i] = one_place(64);
    quire_track_stats(&s);
    assert_int_equal(s.live, 200);
    for (int i = 0; i < 200; i++)
        quire_kfree(before[i]);
    quire_track_stats(&s);
    assert_int_equal(s.live, 200);
    quire_track_stop();
    after = one_place(64);
    quire_track_stats(&s);
    assert_int_equal(s.live, 200);
    for (int i = 0; i < 200; i++)
        quire_kfree(during[i]);
    quire_track_stats(&s);
    assert_int_equal(s.live, 0);
    quire_kfree(after);
    expect_only_tables_out();
}

/* proves: VE-55 */
static void one_cache_is_tracked_alone(void **state)
{
    struct quire_cache *c = cache("watched", 80, 0, 0), *d = cache("not", 80, 0, 0);
    struct quire_track_stats s;
    void *p, *q, *bulk[50];

    (void)state;
    assert_int_equal(quire_cache_track_start(c), QUIRE_OK);
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    q = quire_cache_alloc(d, QUIRE_GFP_KERNEL);
    assert_true(quire_cache_alloc_bulk(c, QUIRE_GFP_KERNEL, 50, bulk));
    quire_track_stats(&s);
    assert_int_equal(s.live, 51);
    assert_null(record(q));
    quire_cache_free_bulk(c, 50, bulk);
    quire_cache_free(c, p);
    quire_cache_free(d, q);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(d), QUIRE_OK);
    expect_only_tables_out();
}

/* proves: X-13 VE-55 */
static void a_double_free_names_both_culprits(void **state)
{
    const char *log;
    void *p;

    (void)state;
    start();
    hosted_task = 5;
    p = one_place(50);
    hosted_task = 6;
    quire_kfree(p);
    hosted_log_clear();
    assert_true(HOSTED_EXPECT_PANIC(quire_kfree(p)));
    assert_non_null(strstr(hosted_panic_text(), "double free"));
    log = hosted_log_text();
    assert_non_null(strstr(log, "allocated at "));
    assert_non_null(strstr(strstr(log, "allocated at "), "by task 5 on CPU 0"));
    assert_non_null(strstr(log, "freed at "));
    assert_non_null(strstr(strstr(log, "freed at "), "by task 6 on CPU 0"));
    expect_only_tables_out();
}

/* proves: VE-56 */
static void destroy_names_leaks_with_their_traces(void **state)
{
    struct quire_cache *c = cache("leaky", 48, 0, 0);
    void *p;

    (void)state;
    assert_int_equal(quire_cache_track_start(c), QUIRE_OK);
    hosted_task = 9;
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    hosted_log_clear();
    assert_int_equal(quire_cache_destroy(c), QUIRE_BUSY);
    assert_non_null(strstr(hosted_log_text(), "is still out"));
    assert_non_null(strstr(hosted_log_text(), "by task 9"));
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
}

/* proves: VE-55 */
static void describe_knows_any_pointer(void **state)
{
    char *p;
    int local;

    (void)state;
    start();
    hosted_task = 3;
    p = one_place(100);
    hosted_log_clear();
    assert_true(quire_heap_describe(p + 37));
    assert_non_null(strstr(hosted_log_text(), "byte 37 of object"));
    assert_non_null(strstr(hosted_log_text(), "kmalloc-112"));
    assert_non_null(strstr(hosted_log_text(), "by task 3"));
    assert_false(quire_heap_describe(&local));
    assert_false(quire_heap_describe(NULL));
    quire_kfree(p);
    expect_only_tables_out();
}

/* Different stacks have different numbers, the same one the same; a full depot says so. */
/* proves: VE-55 */
static void the_depot_keeps_each_trace_once(void **state)
{
    enum { N = 3000 };
    static uint32_t id[N];
    uintptr_t f[QI_TRACE_MAX];
    const uintptr_t *got;
    struct qi_depot_stats s;

    (void)state;
    start();
    for (int round = 0; round < 2; round++)
        for (uintptr_t i = 0; i < N; i++) {
            unsigned n = 1 + i % QI_TRACE_MAX;
            uint32_t now;

            for (unsigned k = 0; k < n; k++)
                f[k] = i * 31 + k / 3;
            now = qi_depot_put(f, n);
            assert_true(now);
            if (!round)
                id[i] = now;
            assert_int_equal(now, id[i]);
            assert_int_equal(qi_depot_get(now, &got), n);
            assert_memory_equal(got, f, n * sizeof f[0]);
        }
    assert_int_equal(qi_depot_stats().traces, N);
    for (uintptr_t i = 1; qi_depot_stats().refused < 10; i++) {
        assert_true(i < 10000000);
        for (unsigned k = 0; k < QI_TRACE_MAX; k++)
            f[k] = ~i * (k + 1);
        qi_depot_put(f, QI_TRACE_MAX);
    }
    s = qi_depot_stats();
    assert_true(s.bytes <= (QUIRE_TRACK_DEPOT_KB + 64) * 1024ull);
    assert_int_equal(qi_depot_get(id[N - 1], &got), 1 + (N - 1) % QI_TRACE_MAX);
}

/* By the walk of frame pointers, over a stack made by hand: bounded, upwards only, aligned only. */
/* proves: VE-55 */
static void frame_pointers_are_followed_with_care(void **state)
{
    uintptr_t stack[32] = {0}, out[8];
    uintptr_t low = (uintptr_t)stack, high = (uintptr_t)(stack + 32);

    (void)state;
    stack[2] = (uintptr_t)&stack[10];
    stack[3] = 111;
    stack[10] = (uintptr_t)&stack[20];
    stack[11] = 222;
    stack[20] = 0;
    stack[21] = 333;
    assert_int_equal(quire_backtrace_frames(111, (uintptr_t)&stack[2], low, high, out, 8), 3);
    assert_true(out[0] == 111 && out[1] == 222 && out[2] == 333);
    assert_int_equal(quire_backtrace_frames(111, (uintptr_t)&stack[2], low, high, out, 2), 2);
    assert_int_equal(quire_backtrace_frames(222, (uintptr_t)&stack[2], low, high, out, 8), 2);
    assert_true(out[0] == 222 && out[1] == 333); /* from the caller on */
    assert_int_equal(quire_backtrace_frames(444, (uintptr_t)&stack[2], low, high, out, 8), 0);
    stack[20] = (uintptr_t)&stack[2]; /* a cycle */
    assert_int_equal(quire_backtrace_frames(111, (uintptr_t)&stack[2], low, high, out, 8), 3);
    stack[20] = (uintptr_t)&stack[31]; /* the return address would lie beyond the end */
    assert_int_equal(quire_backtrace_frames(111, (uintptr_t)&stack[2], low, high, out, 8), 3);
    stack[10] = (uintptr_t)&stack[20] + 1;
    assert_int_equal(quire_backtrace_frames(111, (uintptr_t)&stack[2], low, high, out, 8), 2);
    stack[10] = 8;
    assert_int_equal(quire_backtrace_frames(111, (uintptr_t)&stack[2], low, high, out, 8), 2);
    assert_int_equal(quire_backtrace_frames(111, low - 16, low, high, out, 8), 0);
}

/* proves: VE-55 */
static void krealloc_and_kcalloc_are_their_callers(void **state)
{
    static struct quire_site s[64];
    size_t n;
    char *p;

    (void)state;
    start();
    p = all_kinds(100);
    assert_int_equal(record(p)->asked, 1000);
    n = quire_heap_sites(s, 64);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++)
        assert_true(INSIDE(s[i].caller, all_kinds)); /* not in the library */
    assert_int_equal(s[1].bytes, 0);
    assert_int_equal(s[1].peak, 100);
    p = quire_krealloc(p, 990, QUIRE_GFP_KERNEL);
    assert_int_equal(record(p)->asked, 990);
    quire_kfree(p);
    expect_only_tables_out();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_record_says_who_and_for_how_much),
        TEST(sites_are_counted_and_sorted),
        TEST(random_calls_agree_with_a_model),
        TEST(tracking_is_switched_while_the_heap_is_used),
        TEST(one_cache_is_tracked_alone),
        TEST(a_double_free_names_both_culprits),
        TEST(destroy_names_leaks_with_their_traces),
        TEST(describe_knows_any_pointer),
        TEST(the_depot_keeps_each_trace_once),
        TEST(frame_pointers_are_followed_with_care),
        TEST(krealloc_and_kcalloc_are_their_callers),
    };

    test_seed("heap_track_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
