/*
 * heap_derived_test.c - the members of the kmalloc family that are made of others: arrays, changes of
 * size, copies, frees that clear.
 */
#include <heap_suite.h>

/* n * size beyond size_t is refused by all that multiply, and what was held stays. */
/* proves: AS-36 TRAP-18 */
static void products_that_overflow(void **state)
{
    static const size_t n[][2] = {{SIZE_MAX / 2, 3},
                                  {1ull << 32, 1ull << 32},
                                  {SIZE_MAX, SIZE_MAX},
                                  {3, SIZE_MAX / 2},
                                  {SIZE_MAX, 2}};
    char *p = quire_kmalloc(10, QUIRE_GFP_KERNEL);

    (void)state;
    strcpy(p, "kept");
    for (unsigned i = 0; i < sizeof n / sizeof *n; i++) {
        assert_null(quire_kmalloc_array(n[i][0], n[i][1], QUIRE_GFP_KERNEL));
        assert_null(quire_kcalloc(n[i][0], n[i][1], QUIRE_GFP_KERNEL));
        assert_null(quire_krealloc_array(p, n[i][0], n[i][1], QUIRE_GFP_KERNEL));
        assert_string_equal(p, "kept");
    }
    quire_kfree(p);
    expect_nothing_lost();
}

/* proves: AS-36 AS-37 */
static void arrays_have_room_for_all(void **state)
{
    (void)state;
    for (size_t n = 1; n < 3000; n = n * 2 + 1)
        for (size_t size = 1; size < 100; size += 7) {
            uint8_t *p = quire_kmalloc_array(n, size, QUIRE_GFP_KERNEL), *q;

            assert_true(quire_ksize(p) >= n * size);
            memset(p, 0x5a, n * size);
            p = quire_krealloc_array(p, n * 3, size, QUIRE_GFP_KERNEL);
            assert_true(quire_ksize(p) >= n * size * 3);
            for (size_t i = 0; i < n * size; i++)
                assert_int_equal(p[i], 0x5a);
            memset(p, 0x5a, n * size * 3);
            quire_kfree(p);
            q = quire_kcalloc(n, size, QUIRE_GFP_KERNEL);
            for (size_t i = 0; i < n * size; i++)
                assert_int_equal(q[i], 0);
            assert_null(quire_krealloc_array(q, 0, size, QUIRE_GFP_KERNEL)); /* frees */
        }
    expect_nothing_lost();
}

/* proves: AS-37 */
static void copies_are_copies(void **state)
{
    static const char text[] = "a line of text that is a little longer than one word";
    char *p;

    (void)state;
    p = quire_kmemdup(text, sizeof text, QUIRE_GFP_KERNEL);
    assert_ptr_not_equal(p, text);
    assert_memory_equal(p, text, sizeof text);
    quire_kfree(p);
    p = quire_kstrdup(text, QUIRE_GFP_ATOMIC);
    assert_string_equal(p, text);
    quire_kfree(p);
    for (size_t max = 0; max < sizeof text + 5; max++) {
        p = quire_kstrndup(text, max, QUIRE_GFP_KERNEL);
        assert_int_equal(strlen(p), max < strlen(text) ? max : strlen(text));
        assert_memory_equal(p, text, strlen(p));
        quire_kfree(p);
    }
    /* at most max bytes are looked at */
    p = quire_kstrndup(text + sizeof text - 3, 2, QUIRE_GFP_KERNEL);
    assert_string_equal(p, "rd");
    quire_kfree(p);
    assert_null(quire_kstrdup(NULL, QUIRE_GFP_KERNEL));
    assert_null(quire_kstrndup(NULL, 5, QUIRE_GFP_KERNEL));
    p = quire_kmemdup(NULL, 0, QUIRE_GFP_KERNEL);
    assert_non_null(p);
    quire_kfree(p);
    expect_nothing_lost();
}

/* A copy is as large as what it copies, and the end of a string is part of it: the byte behind is a red zone.
 * proves: AS-37 */
static void copies_have_room_for_their_end(void **state)
{
    static const char text[] = "0123456789012345678901234567890123456789";

    (void)state;
    machine_of((struct quire_heap_options){.flags = QUIRE_HARDEN_REDZONE});
    for (size_t n = 0; n < sizeof text; n++) {
        char *p[3] = {quire_kstrdup(text + n, QUIRE_GFP_KERNEL), quire_kstrndup(text, n, 0),
                      quire_kmemdup(text, n, 0)};

        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(quire_ksize(p[i]), (i ? n : sizeof text - 1 - n) + (i != 2));
            quire_kfree(p[i]);
        }
    }
    expect_nothing_lost();
}

/* No memory: NULL, of each. */
/* proves: TRAP-18 */
static void refusals_change_nothing(void **state)
{
    void *kept = quire_kmalloc(100, QUIRE_GFP_KERNEL);

    (void)state;
    for (int i = 0; i < 6; i++) {
        void *p = kept;

        quire_heap_fail_after(1);
        switch (i) {
        case 0: p = quire_kmemdup("abc", 4, QUIRE_GFP_KERNEL); break;
        case 1: p = quire_kstrdup("abc", QUIRE_GFP_KERNEL); break;
        case 2: p = quire_kstrndup("abc", 2, QUIRE_GFP_KERNEL); break;
        case 3: p = quire_kmalloc_array(3, 50, QUIRE_GFP_KERNEL); break;
        case 4: p = quire_kcalloc(3, 5000, QUIRE_GFP_KERNEL); break;
        case 5: p = quire_krealloc_array(kept, 30, 1000, QUIRE_GFP_KERNEL); break;
        }
        assert_null(p);
        assert_false(quire_heap_fail_armed());
        quire_heap_fail_after(-1);
    }
    quire_kfree(kept);
    expect_nothing_lost();
}

/* All that was usable is zero once it is free: objects and runs. */
static void a_sensitive_free_leaves_nothing(void **state)
{
    (void)state;
    quire_kfree_sensitive(NULL);
    for (size_t size = 1; size < 100000; size = size * 3 / 2 + 1) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);
        size_t have = quire_ksize(p);

        memset(p, 0xee, have);
        quire_kfree_sensitive(p);
        for (size_t i = 0; i < have; i++)
            assert_int_equal(p[i], 0); /* the frames are still in the direct map */
    }
    expect_nothing_lost();
}

/* What is not an object that is out has no size: its size would be the next owner's. */
/* proves: TRAP-3 */
static void sizes_of_what_is_not_out(void **state)
{
    char *p = quire_kmalloc(100, QUIRE_GFP_KERNEL), *run = quire_kmalloc(50000, QUIRE_GFP_KERNEL);
    char local;

    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(p + 8)));
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(run + 4096)));
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(run + 8)));
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(&local)));
    assert_true(HOSTED_EXPECT_PANIC(quire_krealloc(p + 8, 200, QUIRE_GFP_KERNEL)));
    quire_kfree(p);
    quire_kfree(run);
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(p)));
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(run)));
    assert_true(HOSTED_EXPECT_PANIC(quire_krealloc(p, 200, QUIRE_GFP_KERNEL)));
    assert_true(HOSTED_EXPECT_PANIC(quire_kfree_sensitive(p)));
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(products_that_overflow),
        TEST(arrays_have_room_for_all),
        TEST(copies_are_copies),
        cmocka_unit_test_setup_teardown(copies_have_room_for_their_end, NULL, teardown_modes),
        TEST(refusals_change_nothing),
        TEST(a_sensitive_free_leaves_nothing),
        TEST(sizes_of_what_is_not_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
