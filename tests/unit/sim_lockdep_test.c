/*
 * sim_lockdep_test.c - that the simulator's lockdep finds each kind of misuse of locks, from runs in
 * which nothing went wrong, and is silent about proper use.
 */
#include <sim_fake.h>

#include "lockdep.h"

enum { SPIN, READER, ALONE };

static char locks[8];
static const char *const names[] = {"a", "b", "c", "d", "a", "b"}; /* classes of the first six */

static void fresh(void)
{
    fake_cpu = fake_task = 0;
    fake_irqs_off = fake_preempt_off = fake_in_irq = false;
    lockdep_reset();
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        lockdep_event(SIM_EVENT_LOCK_INIT, &locks[i], (uintptr_t)names[i], (void *)fresh);
}

static void lock(unsigned i, unsigned how)
{
    lockdep_event(SIM_EVENT_LOCKED, &locks[i], how, (void *)lock);
}
static void unlock(unsigned i, unsigned how)
{
    lockdep_event(SIM_EVENT_UNLOCK, &locks[i], how, (void *)unlock);
}
static void both(unsigned first, unsigned second)
{
    lock(first, SPIN);
    lock(second, SPIN);
    unlock(second, SPIN);
    unlock(first, SPIN);
}

static void assert_finding(const char *kind, const char *text)
{
    assert_string_equal(sim_fail_kind, kind);
    if (!strstr(sim_fail_text, text))
        fail_msg("no \"%s\" in:\n%s", text, sim_fail_text);
}

static void test_two_orders_are_found_by_class(void **state)
{
    (void)state;
    fresh();
    both(0, 1);
    both(0, 1);
    both(0, 2);
    both(1, 2);
    fake_cpu = 3;
    /* other locks of the same classes */
    assert_true(SIM_EXPECT_FAIL(both(5, 4)));
    assert_finding("lock-order", "but \"a\", then \"b\", CPU 0");
    assert_finding("lock-order", "\"b\", then \"a\", CPU 3");
}

static void test_a_cycle_of_three(void **state)
{
    (void)state;
    fresh();
    both(0, 1);
    both(1, 2);
    both(2, 3);
    assert_true(SIM_EXPECT_FAIL(both(3, 0)));
    assert_finding("lock-order", "but \"c\", then \"d\"");
    assert_finding("lock-order", "but \"a\", then \"b\"");
}

static void test_recursion(void **state)
{
    (void)state;
    fresh();
    lock(0, SPIN);
    assert_true(SIM_EXPECT_FAIL(lock(0, SPIN)));
    assert_finding("lock-recursion", "holds \"a\"");
    assert_true(SIM_EXPECT_FAIL(lock(4, SPIN)));
    /* held by another CPU: no matter of ours */
    fake_cpu = 1;
    lock(4, SPIN);
    unlock(4, SPIN);
    fake_task = 1;
    lock(1, READER);
    assert_true(SIM_EXPECT_FAIL(lock(1, READER)));
}

static void test_a_lock_without_a_name_is_its_own_class(void **state)
{
    (void)state;
    fresh();
    both(6, 7);
    assert_true(SIM_EXPECT_FAIL(both(7, 6)));
    assert_finding("lock-order", "locks+");
    /* new memory, new lock */
    lockdep_event(SIM_EVENT_LOCK_INIT, &locks[6], (uintptr_t) "fresh", NULL);
    unlock(7, SPIN);
    both(7, 6);
}

static void test_interrupts(void **state)
{
    (void)state;
    fresh();
    fake_irqs_off = true;
    lock(0, SPIN);
    unlock(0, SPIN);
    fake_in_irq = true;
    lock(0, SPIN);
    unlock(0, SPIN);
    fake_in_irq = false;
    lock(0, SPIN);
    unlock(0, SPIN);
    fake_irqs_off = false;
    lock(1, SPIN);
    unlock(1, SPIN);
    assert_true(SIM_EXPECT_FAIL(lock(0, SPIN)));
    assert_finding("irq-unsafe", "in an interrupt");

    /* and the other way round */
    fresh();
    lock(0, SPIN);
    unlock(0, SPIN);
    fake_in_irq = fake_irqs_off = true;
    assert_true(SIM_EXPECT_FAIL(lock(4, SPIN)));
    assert_finding("irq-unsafe", "\"a\"");
}

static void test_sleeping(void **state)
{
    (void)state;
    fresh();
    fake_task = 1;
    lockdep_might_sleep();
    lock(0, ALONE);
    lockdep_might_sleep();
    lock(1, SPIN);
    assert_true(SIM_EXPECT_FAIL(lockdep_might_sleep()));
    assert_finding("sleep-in-atomic", "holds \"b\"");
    assert_true(SIM_EXPECT_FAIL(lock(2, READER)));
    fake_cpu = 1;
    fake_task = 2;
    lockdep_might_sleep();
    fake_preempt_off = true;
    assert_true(SIM_EXPECT_FAIL(lockdep_might_sleep()));
    assert_finding("sleep-in-atomic", "preemption off");
    fake_preempt_off = false;
    fake_irqs_off = true;
    assert_true(SIM_EXPECT_FAIL(lockdep_might_sleep()));
    fake_in_irq = true;
    assert_true(SIM_EXPECT_FAIL(lockdep_might_sleep()));
    assert_finding("sleep-in-atomic", "interrupt handler");
}

static void test_who_holds_what(void **state)
{
    (void)state;
    fresh();
    assert_true(SIM_EXPECT_FAIL(unlock(0, SPIN)));
    assert_finding("lock-not-held", "\"a\"");
    lock(0, SPIN);
    fake_cpu = 1;
    assert_true(SIM_EXPECT_FAIL(unlock(0, SPIN)));
    fake_cpu = 0;
    unlock(0, SPIN);

    fake_task = 1;
    lock(1, ALONE);
    lock(2, READER);
    fake_cpu = 1; /* it goes with the task */
    unlock(1, ALONE);
    fake_task = 2;
    lockdep_task_ends();
    fake_task = 1;
    assert_true(SIM_EXPECT_FAIL(lockdep_task_ends()));
    assert_finding("lock-leak", "holds \"c\"");
    unlock(2, READER);
    lockdep_task_ends();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_orders_are_found_by_class),
        cmocka_unit_test(test_a_cycle_of_three),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_a_lock_without_a_name_is_its_own_class),
        cmocka_unit_test(test_interrupts),
        cmocka_unit_test(test_sleeping),
        cmocka_unit_test(test_who_holds_what),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
