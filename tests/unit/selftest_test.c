/*
 * selftest_test.c - the port's self-test passes on a right port and names what is wrong in a wrong one.
 *
 * The source is included once more with hooks that can be broken one at a time.
 */
#include <quire_test.h>

#include <quire/port.h>

static const char *broken;

static int is_broken(const char *name) { return broken && !strcmp(broken, name); }

static void test_clear_page(void *p)
{
    memset(p, 0, is_broken("clear short") ? 4095 : is_broken("clear long") ? 4097 : 4096);
}
static void test_copy_page(void *to, const void *from)
{
    memcpy(to, from, is_broken("copy") ? 2048 : 4096);
}
static uint64_t test_now_ns(void)
{
    static uint64_t t = 1 << 20;

    return is_broken("clock") ? t-- : t++;
}
static uint64_t test_port_random(void)
{
    return is_broken("random") ? qport_random() | 1 : qport_random();
}
static uintptr_t test_task_id(void) { return !is_broken("task"); }
static unsigned test_cpu(void) { return is_broken("cpu") ? QUIRE_MAX_CPUS : 0; }

#define qport_clear_page    test_clear_page
#define qport_copy_page     test_copy_page
#define qport_now_ns        test_now_ns
#define qport_random        test_port_random
#define qport_task_id       test_task_id
#define qport_cpu           test_cpu
#define quire_port_selftest breakable_selftest
enum quire_status breakable_selftest(const char **culprit);
#include "../../src/space/selftest.c"
#undef quire_port_selftest

static void the_hosted_port_is_right(void **state)
{
    const char *culprit = "?";

    (void)state;
    hosted_init(64 << 20);
    assert_int_equal(quire_port_selftest(&culprit), QUIRE_OK);
    assert_null(culprit);
    hosted_fini();
}

static void a_wrong_hook_is_named(void **state)
{
    static const char *const cases[][2] = {
        {"clear short", "qport_clear_page"},
        {"clear long", "qport_clear_page"},
        {"copy", "qport_copy_page"},
        {"clock", "qport_now_ns"},
        {"random", "qport_random"},
        {"task", "qport_task_id"},
        {"cpu", "qport_cpu"},
    };
    const char *culprit;

    (void)state;
    hosted_init(64 << 20);
    broken = NULL;
    assert_int_equal(breakable_selftest(&culprit), QUIRE_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        broken = cases[i][0];
        assert_int_equal(breakable_selftest(&culprit), QUIRE_INVALID);
        assert_non_null(strstr(culprit, cases[i][1]));
    }
    hosted_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hosted_port_is_right),
        cmocka_unit_test(a_wrong_hook_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
