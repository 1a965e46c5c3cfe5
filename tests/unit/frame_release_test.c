/*
 * frame_release_test.c - frames that boot kept become memory like any other, one by one, and whole blocks again.
 */
#include <frame_machine.h>

#define KEPT   (32 * MIB) /* a block, and three frames behind it */
#define FRAMES (512u + 3)

static uint64_t managed, whole;

static void start(void)
{
    map_start(64 * MIB);
    map_add(16 * MIB, 48 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(KEPT), FRAMES * 4096, "boot", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    managed = quire_managed_pages();
    whole = blocks_of(9) + 2 * blocks_of(10);
}

static q_pfn kept(unsigned i) { return Q_PFN(KEPT / 4096 + i); }

static void kept_frames_become_free(void **state)
{
    static unsigned order[FRAMES];
    struct quire_page *p;

    (void)state;
    start();
    for (unsigned i = 0; i < FRAMES; i++) {
        unsigned j = (unsigned)test_random_below(i + 1);

        order[i] = order[j];
        order[j] = i;
    }
    for (unsigned i = 0; i < FRAMES; i++) {
        assert_true(quire_page_flags(kept(order[i])) & QUIRE_PG_RESERVED);
        assert_int_equal(quire_frame_release(kept(order[i])), QUIRE_OK);
        assert_int_equal(quire_page_flags(kept(order[i])) & 0xffff, QUIRE_PG_FREE);
        assert_int_equal(quire_frame_release(kept(order[i])), QUIRE_INVALID);
        assert_int_equal(quire_managed_pages(), managed + i + 1);
        assert_int_equal(quire_free_pages(), managed + i + 1);
        if (i % 37 == 0 || i > FRAMES - 3)
            healthy();
    }
    assert_int_equal(blocks_of(9) + 2 * blocks_of(10), whole + 2);
    for (unsigned n = 0; (p = quire_page_alloc(9, QUIRE_GFP_MEMALLOC, ANY)); n++)
        held[n] = p, whole--;
    assert_int_equal(whole + 2, 0);
}

static void others_stay(void **state)
{
    struct quire_page *p;

    (void)state;
    start();
    p = get(0);
    assert_int_equal(quire_frame_release(quire_pfn_of_page(p)), QUIRE_INVALID);
    assert_int_equal(quire_frame_release(Q_PFN(20 * MIB / 4096)), QUIRE_INVALID); /* free */
    assert_int_equal(quire_frame_release(Q_PFN(1)), QUIRE_INVALID);               /* no memory */
    assert_int_equal(quire_frame_poison(Q_PFN(40 * MIB / 4096)), QUIRE_OK);
    assert_int_equal(quire_frame_release(Q_PFN(40 * MIB / 4096)), QUIRE_INVALID);
    assert_int_equal(quire_frame_offline(Q_PFN(50 * MIB / 4096), 512), QUIRE_OK);
    assert_int_equal(quire_frame_release(Q_PFN(50 * MIB / 4096)), QUIRE_INVALID);
    assert_int_equal(quire_frame_online(Q_PFN(50 * MIB / 4096), 512), QUIRE_OK);
    assert_int_equal(quire_managed_pages(), managed - 1);
    quire_page_free(p, 0);
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_frames_become_free),
        cmocka_unit_test(others_stay),
    };

    test_seed("frame_release_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
