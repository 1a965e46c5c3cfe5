/*
 * api_test.c - the kernel's programming interface as an embedder meets it: allocate a frame, map it
 * at a page with the rights wanted.  Public calls only.
 */
#include <pt_machine.h>

#include <quire/pt.h>

static bool from_the_allocator(void *ctx, q_pa *out)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);

    (void)ctx;
    if (page)
        *out = quire_pa_of_page(page);
    return page;
}

static enum quire_status map_page(q_pa root, uint64_t page, q_pa frame, unsigned prot)
{
    return quire_pt_boot_map(root, page, frame, QUIRE_PAGE_SIZE, prot, QUIRE_CACHED, 12,
                             from_the_allocator, NULL);
}

/* allocate frame; map_page(page, frame, PRESENT|WRITABLE|USER).  proves: VE-53 */
static void a_frame_is_mapped_at_a_page(void **state)
{
    const uint64_t page = 0x7f0000400000;
    struct quire_page *frame = quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    struct quire_translation t;
    q_pa root = Q_PA(0), pa;

    (void)state;
    assert_non_null(frame);
    pa = quire_pa_of_page(frame);
    assert_true(from_the_allocator(NULL, &root));
    quire_pt_translate(root, page, &t);
    assert_false(t.present);
    assert_int_equal(map_page(root, page, pa, QUIRE_READ | QUIRE_WRITE | QUIRE_USER), QUIRE_OK);
    quire_pt_translate(root, page + 0x123, &t);
    assert_true(t.present);
    assert_int_equal(t.pa.v, pa.v + 0x123);
    assert_int_equal(t.prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC | QUIRE_USER),
                     QUIRE_READ | QUIRE_WRITE | QUIRE_USER);
    assert_int_equal(t.leaf_shift, 12);
    assert_int_equal(map_page(root, page, pa, QUIRE_READ | QUIRE_USER), QUIRE_EXISTS);
    quire_pt_translate(root, page + QUIRE_PAGE_SIZE, &t);
    assert_false(t.present);
}

/* The rights asked for are the rights there are.  proves: VE-53 */
static void rights_are_those_asked_for(void **state)
{
    static const unsigned rights[] = {QUIRE_READ,
                                      QUIRE_READ | QUIRE_WRITE,
                                      QUIRE_READ | QUIRE_EXEC,
                                      QUIRE_READ | QUIRE_USER,
                                      QUIRE_READ | QUIRE_WRITE | QUIRE_USER,
                                      QUIRE_READ | QUIRE_EXEC | QUIRE_USER};
    q_pa root = Q_PA(0);

    (void)state;
    assert_true(from_the_allocator(NULL, &root));
    for (unsigned i = 0; i < sizeof rights / sizeof rights[0]; i++) {
        uint64_t page = 0x10000000 + ((uint64_t)i << 30); /* tables of their own */
        struct quire_page *frame = quire_page_alloc(0, 0, QUIRE_NODE_ANY);
        struct quire_translation t;

        assert_non_null(frame);
        assert_int_equal(map_page(root, page, quire_pa_of_page(frame), rights[i]), QUIRE_OK);
        quire_pt_translate(root, page, &t);
        assert_true(t.present);
        assert_int_equal(t.prot & 15u, rights[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_frame_is_mapped_at_a_page, setup, teardown),
        cmocka_unit_test_setup_teardown(rights_are_those_asked_for, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
