/*
 * frame_verify_test.c - each invariant of src/frame, broken: verify must see it and name it.
 */
#include <frame_machine.h>

/* verify can fail: the canary. */
static void verify_sees_damage(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    p = get(4);
    p[16].flags |= QUIRE_PG_DIRTY; /* a free frame beside it */
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), "F2"));
    p[16].flags &= ~QUIRE_PG_DIRTY;
    healthy();
    p->flags |= QUIRE_PG_FREE; /* says that it is in a stack, but is in none */
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), "F5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_sees_damage),
    };

    test_seed("frame_verify_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
