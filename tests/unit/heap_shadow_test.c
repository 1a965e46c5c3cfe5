/*
 * heap_shadow_test.c - shadow memory (quire/shadow.h): the library and this file are compiled with
 * -fsanitize=kernel-address, and each wrong access is caught where it happens.
 */
#include <heap_suite.h>

#include <quire/track.h>
#include <slab/harden.h>

static __attribute__((noinline)) void put(volatile uint8_t *p) { *p = 1; }
static __attribute__((noinline)) uint8_t get(const volatile uint8_t *p) { return *p; }
static __attribute__((noinline)) void put8(volatile uint64_t *p) { *p = 1; }

static __attribute__((noinline)) bool write_caught(uint8_t *p)
{
    return HOSTED_EXPECT_PANIC(put(p));
}
static __attribute__((noinline)) bool read_caught(uint8_t *p)
{
    return HOSTED_EXPECT_PANIC(get(p));
}
static __attribute__((noinline)) bool word_caught(void *p) { return HOSTED_EXPECT_PANIC(put8(p)); }

static void said(const char *words)
{
    if (!strstr(hosted_panic_text(), words))
        fail_msg("said '%s', not '%s'", hosted_panic_text(), words);
}

/* No byte beside an object of any size can be touched, each of its own can. */
/* proves: AS-55 VE-40 */
static void every_byte_beside_an_object_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 16384; size += size < 140 ? 1 : size / 5) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);

        for (size_t i = 0; i<size; i += size> 300 && i > 64 && i < size - 70 ? 61 : 1) {
            put(p + i);
            assert_int_equal(get(p + i), 1);
        }
        for (int i = 0; i < 16; i++) {
            assert_true(write_caught(p + size + i));
            said("shadow: out of bounds: write of 1 bytes");
        }
        assert_true(read_caught(p + size));
        said("shadow: out of bounds: read of 1 bytes");
        for (int i = 1; i <= 8; i++)
            assert_true(read_caught(p - i));
        if (size >= 8)
            assert_true(word_caught(p + (size - 4) / 4 * 4)); /* half of it or more beyond */
        quire_kfree(p);
        heap_sound();
    }
}

/* proves: AS-54 */
static void every_byte_of_a_freed_object_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 16384; size *= 3) {
        uint8_t *p = quire_kmalloc(size, QUIRE_GFP_KERNEL);

        quire_kfree(p);
        for (size_t i = 0; i<size; i += size> 300 ? 97 : 1) {
            assert_true(read_caught(p + i));
            said("shadow: use after free: read");
            assert_true(write_caught(p + i));
        }
    }
    expect_nothing_lost();
}

static void *volatile sink;

static __attribute__((noinline)) void copy(void *to, const void *from, size_t n)
{
    sink = memcpy(to, from, n);
}
static __attribute__((noinline)) void fill(void *to, size_t n) { sink = memset(to, 0, n); }
static __attribute__((noinline)) bool copy_caught(void *to, const void *from, size_t n)
{
    return HOSTED_EXPECT_PANIC(copy(to, from, n));
}
static __attribute__((noinline)) bool fill_caught(void *to, size_t n)
{
    return HOSTED_EXPECT_PANIC(fill(to, n));
}

/* proves: AS-55 */
static void copies_that_are_too_long_are_caught(void **state)
{
    uint8_t *p = quire_kmalloc(100, QUIRE_GFP_KERNEL), *q = quire_kmalloc(300, QUIRE_GFP_KERNEL);
    uint8_t *run = quire_kmalloc(40000, QUIRE_GFP_KERNEL);

    (void)state;
    fill(p, 100);
    fill(q, 300);
    copy(q, p, 100);
    assert_true(copy_caught(q, p, 101));
    said("shadow: out of bounds: read of 101 bytes");
    assert_true(copy_caught(p, q, 300));
    said("shadow: out of bounds: write of 300 bytes");
    assert_true(fill_caught(p + 50, 51));
    fill(run, 40000);
    assert_true(fill_caught(run + 39999, 2));
    p = quire_krealloc(p, 70, QUIRE_GFP_KERNEL);
    assert_true(write_caught(p + 70));
    p = quire_krealloc(p, 4000, QUIRE_GFP_KERNEL);
    fill(p, 4000);
    assert_true(write_caught(p + 4000));
    quire_kfree(p);
    quire_kfree(q);
    quire_kfree(run);
    expect_nothing_lost();
    fill(run, 40000); /* the frame allocator's: not the heap's to say */
}

/* The report says where, of what, and whose. */
static void the_report_names_object_and_bytes(void **state)
{
    struct quire_cache *c = cache("reported", 40, 0, 0);
    uint8_t *p;
    char want[100];

    (void)state;
    assert_int_equal(quire_cache_track_start(c), QUIRE_OK);
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    hosted_log_clear();
    assert_true(write_caught(p + 43));
    snprintf(want, sizeof want, "byte 43 of object %p of reported (40 bytes), allocated",
             (void *)p);
    assert_non_null(strstr(hosted_log_text(), want));
    snprintf(want, sizeof want, "=> %p:", (void *)((uintptr_t)(p + 43) & ~127ull));
    assert_non_null(strstr(hosted_log_text(), want));
    assert_non_null(strstr(hosted_log_text(), ">f3"));
    assert_non_null(strstr(hosted_log_text(), "allocated at"));
    quire_cache_free(c, p);
    hosted_log_clear();
    assert_true(read_caught(p + 8));
    assert_non_null(strstr(hosted_log_text(), "(40 bytes), free"));
    assert_non_null(strstr(hosted_log_text(), ">f2"));
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    heap_sound();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_byte_beside_an_object_is_caught),
        TEST(every_byte_of_a_freed_object_is_caught),
        TEST(copies_that_are_too_long_are_caught),
        TEST(the_report_names_object_and_bytes),
    };

    test_seed("heap_shadow_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
