/*
 * canary.c - a test that must fail.  It runs inverted: if it ever counts as passed, the harness
 * does not notice failures, and no other result means anything.
 */
#include <quire_test.h>

static void must_fail(void **state)
{
    (void)state;
    assert_int_equal(1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(must_fail)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
