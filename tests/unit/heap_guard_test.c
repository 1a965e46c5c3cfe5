/*
 * heap_guard_test.c - red zones and poison.
 */
#include <heap_suite.h>

/* proves: AS-34 VE-40 VE-57 */
static void red_zones_catch_each_byte(void **state)
{
    struct quire_cache *c = cache("red", 50, 0, QUIRE_CACHE_REDZONE);
    uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);

    (void)state;
    for (int off = -8; off < 58; off++) {
        uint8_t was = p[off];

        if (off >= 0 && off < 50) {
            p[off] = 0xee;
            continue;
        }
        p[off] ^= 0x10;
        assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
        assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, p)));
        assert_non_null(strstr(hosted_panic_text(), "red zone"));
        p[off] = was;
    }
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* proves: AS-34 AS-54 */
static void poison_catches_use_after_free(void **state)
{
    struct quire_cache *c = cache("poison", 80, 0, QUIRE_CACHE_POISON | QUIRE_CACHE_REDZONE);

    (void)state;
    for (int off = 0; off < 80; off++) {
        uint8_t *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL), was;

        memset(p, 0, 80);
        quire_cache_free(c, p);
        was = p[off];
        assert_true(was == 0x6b || was == 0xa5);
        p[off] = 1;
        assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
        assert_true(HOSTED_EXPECT_PANIC(quire_cache_alloc(c, QUIRE_GFP_KERNEL)));
        assert_non_null(strstr(hosted_panic_text(), "written after its free"));
        p[off] = was;
        /* the object that the panic interrupted is out: back with it, as verify must agree */
        quire_cache_free(c, p);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(red_zones_catch_each_byte),
        TEST(poison_catches_use_after_free),
    };

    test_seed("heap_guard_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
