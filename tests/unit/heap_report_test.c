/*
 * heap_report_test.c - counts and the text of /proc/slabinfo.
 */
#include <heap_suite.h>

/* proves: VE-58 */
static void counts_are_exact_at_rest(void **state)
{
    struct quire_cache *c = cache("counted", 300, 0, 0);
    static void *p[700];
    struct quire_cache_stats s;

    (void)state;
    for (int i = 0; i < 700; i++) {
        hosted_cpu_set((unsigned)i % 3);
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    }
    for (int i = 0; i < 200; i++) {
        hosted_cpu_set((unsigned)(i / 7) % 3);
        quire_cache_free(c, p[i]);
    }
    hosted_cpu_set(0);
    s = heap_stats("counted");
    assert_int_equal(s.object_size, 300);
    assert_int_equal(s.slot_size, 304);
    assert_int_equal(s.allocs, 700);
    assert_int_equal(s.frees, 200);
    assert_int_equal(s.active, 500);
    assert_true(s.total >= 500 && s.total == s.slabs * s.objects_per_slab);
    quire_cache_free_bulk(c, 500, p + 200);
    quire_cache_shrink(c);
    s = heap_stats("counted");
    assert_int_equal(s.frees, 700);
    assert_int_equal(s.active, 0);
    assert_int_equal(quire_cache_stats(100000, &s), QUIRE_NOT_FOUND);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* The text has Linux's two head lines, and each line its columns; a short buffer is filled and
 * ended, the full length told. */
static void slabinfo_is_linux_text(void **state)
{
    void *p = quire_kmalloc(64, QUIRE_GFP_KERNEL);
    size_t len = quire_slabinfo(NULL, 0), lines = 0;
    char *text = malloc(len + 1), shorter[100];
    bool found = false;

    (void)state;
    assert_int_equal(quire_slabinfo(text, len + 1), len);
    assert_int_equal(strlen(text), len);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        unsigned long active, total, size, per, pages, a, b, c, slabs, num, shared;
        char name[64];

        if (lines == 0) {
            assert_string_equal(line, "slabinfo - version: 2.1");
        } else if (lines == 1) {
            assert_int_equal(strncmp(line, "# name            <active_objs> <num_objs>", 42), 0);
        } else {
            assert_int_equal(
                sscanf(
                    line, "%63s %lu %lu %lu %lu %lu : tunables %lu %lu %lu : slabdata %lu %lu %lu",
                    name, &active, &total, &size, &per, &pages, &a, &b, &c, &slabs, &num, &shared),
                12);
            assert_true(per * size <= pages * 4096 && active <= total);
            if (!strcmp(name, "kmalloc-64")) {
                found = true;
                assert_int_equal(active, 1);
            }
        }
    }
    assert_true(found && lines > 30);
    assert_int_equal(quire_slabinfo(shorter, sizeof shorter), len);
    assert_int_equal(strlen(shorter), 99);
    free(text);
    quire_kfree(p);
}

/* Another CPU exchanges sheaves while we count: what cannot be is not counted. */
static void counting_beside_a_busy_cpu(void **state)
{
    struct quire_cache *c = cache("busy", 64, 0, 0);
    struct qi_entry *base;

    (void)state;
    hosted_cpu_set(1);
    quire_cache_free(c, quire_cache_alloc(c, QUIRE_GFP_KERNEL));
    hosted_cpu_set(0);
    assert_int_equal(heap_stats("busy").active, 0);
    base = c->cpu[1]->base;
    c->cpu[1]->base = base - 1000; /* of the sheaf that it had before */
    assert_in_range(heap_stats("busy").active, 1, heap_stats("busy").total);
    c->cpu[1]->base = base;
    assert_int_equal(heap_stats("busy").active, 0);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(counts_are_exact_at_rest),
        TEST(slabinfo_is_linux_text),
        TEST(counting_beside_a_busy_cpu),
    };

    test_seed("heap_report_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
