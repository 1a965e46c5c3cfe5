/*
 * frame_step_test.c - references and failures of src/frame one step at a time.
 */
#include <steps.h>

#include <frame/frame.c>
#include <frame_machine.h>

static struct quire_page *page;

static void other_holder_lets_go(void) { quire_page_put(page); }

/* Both holders have seen two references; the other lets go first: ours was the last, and frees. */
static void the_last_of_two_frees(void **state)
{
    static const unsigned orders[] = {0, 2, 5, 9};

    (void)state;
    machine(16 * MIB, 16 * MIB);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = quire_free_pages();
        struct act acts[] = {{"RMW", NULL, other_holder_lets_go}, {0}};

        page = get(orders[i]);
        quire_page_get(page);
        acts[0].at = &page->refs;
        steps_begin(acts);
        quire_page_put(page);
        steps_end();
        assert_true(page->flags & QUIRE_PG_FREE);
        assert_int_equal(page->refs, 0);
        assert_int_equal(quire_free_pages(), before);
        PANICS(quire_page_put(page), "put of");
        healthy();
    }
}

static void other_call_fails(void) { assert_null(quire_page_alloc(0, 0, ANY)); }

/* Of two calls at once that count down to the failure one fails, not both. */
static void one_failure_for_two_calls(void **state)
{
    static const struct act acts[] = {{"RMW", &fail_left, other_call_fails}, {0}};

    (void)state;
    machine(16 * MIB, 16 * MIB);
    quire_frame_fail_after(1);
    steps_begin(acts);
    page = quire_page_alloc(0, 0, ANY);
    steps_end();
    assert_non_null(page);
    quire_page_free(page, 0);
    assert_int_equal(quire_free_pages(), quire_managed_pages());
    healthy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_of_two_frees),
        cmocka_unit_test(one_failure_for_two_calls),
    };

    return cmocka_run_group_tests_name("frame_step_test", tests, NULL, NULL);
}
