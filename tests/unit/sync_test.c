/*
 * sync_test.c - src/sync one step at a time: every lost race is met, each time.
 */
#include <steps.h>

static void step_wait(const uint32_t *word, uint32_t expected);
static void step_wake(const uint32_t *word, unsigned n);

#define qport_wait step_wait
#define qport_wake step_wake

#include <sync/rwsem.c>
#include <sync/spin.c>

#define W QI_RWSEM_WRITER
#define S QI_RWSEM_WAITER /* somebody sleeps */

static unsigned waits, wakes;
static uint32_t wait_expected;

static struct qi_rwsem sem;
static struct qi_spin spin;

static void step_wait(const uint32_t *word, uint32_t expected)
{
    assert_ptr_equal(word, &sem.state);
    assert_true(++waits < 10);
    wait_expected = expected;
    steps_point("wait", word);
}

static void step_wake(const uint32_t *word, unsigned n)
{
    assert_ptr_equal(word, &sem.state);
    assert_int_equal(n, ~0u);
    wakes++;
}

/* Start with this word, and these others. */
static void scene(uint32_t word, const struct act *acts)
{
    sem.state = word;
    waits = wakes = 0;
    steps_begin(acts);
}

/* All acts were played; the word is this, and so often somebody slept and was woken. */
static void finale(uint32_t word, unsigned slept, unsigned woken)
{
    steps_end();
    assert_int_equal(sem.state, word);
    assert_int_equal(waits, slept);
    assert_int_equal(wakes, woken);
}

static void reader_enters(void) { assert_true(qi_rwsem_try_read(&sem)); }
static void reader_leaves(void) { qi_rwsem_read_unlock(&sem); }
static void writer_leaves(void) { qi_rwsem_write_unlock(&sem); }
static void sleeper_comes(void) { sem.state |= S; }
static void nothing(void) {}

static void writer_enters(void)
{
    assert_int_equal(sem.state & ~S, 0);
    sem.state |= W;
}

/* ---- Readers and writers ---- */

static void alone(void **state)
{
    static const struct qi_lock_class class = {"test"};

    (void)state;
    sem.state = 77;
    qi_rwsem_init(&sem, &class);
    scene(sem.state, NULL);
    assert_int_equal(sem.state, 0);
    qi_rwsem_read_lock(&sem);
    qi_rwsem_read_lock(&sem);
    assert_int_equal(sem.state, 2);
    qi_rwsem_read_unlock(&sem);
    qi_rwsem_read_unlock(&sem);
    qi_rwsem_write_lock(&sem);
    assert_int_equal(sem.state, W);
    assert_false(qi_rwsem_try_read(&sem));
    qi_rwsem_downgrade(&sem);
    assert_int_equal(sem.state, 1);
    assert_true(qi_rwsem_try_read(&sem));
    qi_rwsem_read_unlock(&sem);
    qi_rwsem_read_unlock(&sem);
    finale(0, 0, 0);
}

/* Another reader comes in between: the word has changed, but nobody needs to wait. */
static void readers_at_once(void **state)
{
    static const struct act once[] = {{"RMW", NULL, reader_enters}, {0}},
                            twice[] = {
                                {"RMW", NULL, reader_enters}, {"RMW", NULL, reader_enters}, {0}};

    (void)state;
    scene(0, once);
    assert_false(qi_rwsem_try_read(&sem));
    finale(1, 0, 0);
    scene(0, once);
    qi_rwsem_read_lock(&sem);
    finale(2, 0, 0);
    scene(0, twice);
    qi_rwsem_read_lock(&sem);
    finale(3, 0, 0);
}

/* No reader passes a writer, nor one that waits. */
static void readers_wait_for_the_writer(void **state)
{
    static const struct act sleeps[] = {{"wait", NULL, writer_leaves}, {0}},
                            early[] = {{"wait", NULL, nothing}, {"wait", NULL, writer_leaves}, {0}},
                            gone[] = {{"RMW", NULL, writer_leaves}, {0}};

    (void)state;
    scene(W, sleeps);
    qi_rwsem_read_lock(&sem);
    assert_int_equal(wait_expected, W | S);
    finale(1, 1, 1);
    /* somebody sleeps already */
    scene(W | S, sleeps);
    qi_rwsem_read_lock(&sem);
    finale(1, 1, 1);
    /* a wait that ends early is only taken again */
    scene(W, early);
    qi_rwsem_read_lock(&sem);
    finale(1, 2, 1);
    /* the writer leaves before the reader has said that it waits: nobody would wake it */
    scene(W, gone);
    qi_rwsem_read_lock(&sem);
    finale(1, 0, 0);
    /* a reader holds it, a writer waits */
    scene(1 | S, (const struct act[]){{"wait", NULL, reader_leaves}, {0}});
    qi_rwsem_read_lock(&sem);
    finale(1, 1, 1);
}

static void writers_wait_for_all(void **state)
{
    static const struct act last[] = {{"wait", NULL, reader_leaves},
                                      {"wait", NULL, reader_leaves},
                                      {0}},
                            lost[] = {{"RMW", NULL, writer_enters},
                                      {"wait", NULL, writer_leaves},
                                      {0}},
                            again[] = {{"wait", NULL, writer_leaves},
                                       {"RMW", NULL, reader_enters},
                                       {"wait", NULL, reader_leaves},
                                       {0}};

    (void)state;
    scene(2, last);
    qi_rwsem_write_lock(&sem);
    finale(W, 2, 1); /* only the last reader wakes */
    /* another writer is faster */
    scene(0, lost);
    qi_rwsem_write_lock(&sem);
    finale(W, 1, 1);
    /* and after a wait a reader is */
    scene(W, again);
    qi_rwsem_write_lock(&sem);
    finale(W, 2, 2);
    qi_rwsem_write_unlock(&sem);
    assert_int_equal(sem.state, 0);
}

/* Who only tries neither waits nor comes in beside a holder. */
static void who_tries_does_not_wait(void **state)
{
    (void)state;
    scene(0, NULL);
    assert_true(qi_rwsem_try_write(&sem));
    assert_false(qi_rwsem_try_write(&sem));
    assert_false(qi_rwsem_try_read(&sem));
    assert_int_equal(sem.state, W);
    qi_rwsem_write_unlock(&sem);
    assert_true(qi_rwsem_try_read(&sem));
    assert_false(qi_rwsem_try_write(&sem));
    qi_rwsem_read_unlock(&sem);
    assert_int_equal(sem.state, 0);
}

/* Who takes the lock while others sleep on it wakes them when it lets go. */
static void sleepers_are_not_forgotten(void **state)
{
    (void)state;
    scene(S, NULL);
    qi_rwsem_write_lock(&sem);
    assert_int_equal(sem.state, W | S);
    qi_rwsem_write_unlock(&sem);
    finale(0, 0, 1);
    scene(2 | S, NULL);
    qi_rwsem_read_unlock(&sem);
    assert_int_equal(wakes, 0);
    qi_rwsem_read_unlock(&sem);
    finale(0, 0, 1);
    /* one that comes during a downgrade is woken by the reader that it became */
    scene(W, (const struct act[]){{"RMW", NULL, sleeper_comes}, {0}});
    qi_rwsem_downgrade(&sem);
    finale(1 | S, 0, 0);
    qi_rwsem_read_unlock(&sem);
    finale(0, 0, 1);
}

/* ---- Spin locks ---- */

static void spin_freed(void) { spin.word = 0; }
static void spin_taken(void) { spin.word = 1; }

static void spinning(void **state)
{
    static const struct qi_lock_class class = {"test"};
    static const struct act turns[] = {
        {"LOAD", NULL, nothing}, {"LOAD", NULL, nothing}, {"LOAD", NULL, spin_freed}, {0}};
    static const struct act lost[] = {{"LOAD", NULL, spin_freed},
                                      {"LOCK", NULL, spin_taken},
                                      {"LOAD", NULL, nothing},
                                      {"LOAD", NULL, spin_freed},
                                      {0}};
    unsigned long irq;

    (void)state;
    spin.word = 5;
    qi_spin_init(&spin, &class);
    assert_int_equal(spin.word, 0);
    assert_true(qi_spin_try_raw(&spin));
    assert_false(qi_spin_try_raw(&spin));
    steps_begin(turns);
    qi_spin_lock(&spin);
    steps_end();
    assert_int_equal(spin.word, 1);
    qi_spin_unlock(&spin);
    assert_int_equal(spin.word, 0);
    /* seen free, but another was faster */
    spin.word = 1;
    steps_begin(lost);
    qi_spin_contended(&spin);
    steps_end();
    assert_int_equal(spin.word, 1);
    qi_spin_unlock_raw(&spin);
    irq = qi_spin_lock_irq(&spin);
    assert_int_equal(spin.word, 1);
    qi_spin_unlock_irq(&spin, irq);
    assert_int_equal(spin.word, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone),
        cmocka_unit_test(readers_at_once),
        cmocka_unit_test(readers_wait_for_the_writer),
        cmocka_unit_test(writers_wait_for_all),
        cmocka_unit_test(who_tries_does_not_wait),
        cmocka_unit_test(sleepers_are_not_forgotten),
        cmocka_unit_test(spinning),
    };

    return cmocka_run_group_tests_name("sync_test", tests, NULL, NULL);
}
