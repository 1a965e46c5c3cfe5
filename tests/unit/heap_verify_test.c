/*
 * heap_verify_test.c - each invariant of src/slab, broken: verify must see it and name it.
 */
#include <heap_suite.h>

/* A damaged header, bitmap or state is found by verify. */
static void verify_finds_damage(void **state)
{
    struct quire_cache *c = cache("damage", 100, 0, 0);
    void *p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(p));
    uint64_t i;

    (void)state;
    qi_slab_index(s, p, &i);
    s->nfree++;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->nfree--;
    s->free[(i - 1) / 64] ^= 1ull << (i - 1) % 64;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->free[(i - 1) / 64] ^= 1ull << (i - 1) % 64;
    s->state[0] = 0;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->state[0] = QI_OBJ_EDGE;
    s->page->owner ^= 64;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->page->owner ^= 64;
    c->node[0].objects++;
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    c->node[0].objects--;
    s->state[i] = QI_OBJ_IN; /* an object nowhere */
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    s->state[i] = QI_OBJ_OUT(0);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(verify_finds_damage),
    };

    test_seed("heap_verify_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
