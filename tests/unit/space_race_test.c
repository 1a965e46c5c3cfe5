/*
 * space_race_test.c - two tasks in one space at the same time: faults on the same page, faults beside
 * truncation, forced writes beside madvise, a stack that both let grow.  Whoever comes second must
 * find or make the same memory; afterwards the space is sound and every frame is back.
 */
#include <space_fixture.h>

#include <pthread.h>
#include <stdatomic.h>

/* Both tasks run one move a round; the machine is looked at between rounds. */
static void (*move[2])(unsigned round);
static atomic_uint arrived;
static atomic_bool enough;
static uint64_t at; /* where */

static void meet(unsigned times)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < times)
        sched_yield(); /* the machine may have one CPU only */
}

static void *other(void *unused)
{
    hosted_cpu_set(1);
    for (unsigned round = 0;; round++) {
        meet(4 * round + 2);
        if (atomic_load(&enough))
            return unused;
        move[1](round);
        meet(4 * round + 4);
    }
}

/* Rounds of a beside b; between is called before each, done after it. */
static void race(unsigned rounds, void (*a)(unsigned), void (*b)(unsigned),
                 void (*between)(unsigned), void (*done)(unsigned))
{
    pthread_t thread;

    move[0] = a;
    move[1] = b;
    atomic_store(&arrived, 0);
    atomic_store(&enough, false);
    assert_int_equal(pthread_create(&thread, NULL, other, NULL), 0);
    for (unsigned round = 0; round < rounds; round++) {
        between(round);
        meet(4 * round + 2);
        move[0](round);
        meet(4 * round + 4);
        done(round);
    }
    atomic_store(&enough, true);
    meet(4 * rounds + 2);
    pthread_join(thread, NULL);
}

static atomic_uint refused; /* calls that did not answer as they should: asserts are for one task */

static void want(enum quire_status got, enum quire_status expected)
{
    if (got != expected)
        atomic_fetch_add(&refused, 1);
}

static void sound(unsigned round)
{
    assert_int_equal(atomic_load(&refused), 0);
    if (round % 64 == 0)
        OK(quire_space_verify(s));
}

/* ---- The same page ---- */

#define GROUP 16

static void fresh(unsigned round)
{
    (void)round;
    if (at)
        OK(quire_munmap(s, Q_UVA(at), GROUP * PAGE));
    at = map_anon(s, GROUP * PAGE);
}

static void touch(unsigned round)
{
    for (unsigned i = 0; i < GROUP; i++)
        want(quire_fault(s, Q_UVA(at + i * PAGE), (round + i) % 3 ? QUIRE_WRITE : QUIRE_READ),
             QUIRE_OK);
}

static void one_page_each(unsigned round)
{
    sound(round);
    for (unsigned i = 0; i < GROUP; i++)
        if ((round + i) % 3)
            assert_int_equal(page_at(s, at + i * PAGE)->counts, QUIRE_PAGE_ONE_MAPPING);
}

/* proves: VE-30 */
static void a_page_that_two_touch_is_made_once(void **state)
{
    (void)state;
    at = 0;
    race(3000, touch, touch, fresh, one_page_each);
}

static void fresh_huge(unsigned round)
{
    (void)round;
    at = 0x40000000;
    map_fixed(at, 2 * MIB, RW, PRIV);
    OK(quire_madvise(s, Q_UVA(at), 2 * MIB, 14));
}

static void touch_huge(unsigned round)
{
    want(quire_fault(s, Q_UVA(at + round % 512 * PAGE), QUIRE_WRITE), QUIRE_OK);
}

static void one_huge(unsigned round)
{
    sound(round);
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    assert_int_equal(stats(s).rss_anon, 512);
}

/* proves: TRAP-7 */
static void a_huge_page_that_two_touch_is_made_once(void **state)
{
    (void)state;
    race(300, touch_huge, touch_huge, fresh_huge, one_huge);
}

static struct quire_space *child;

static void forked(unsigned round)
{
    if (!round)
        at = map_anon(s, GROUP * PAGE);
    for (unsigned i = 0; i < GROUP; i++)
        OK(store(s, at + i * PAGE, i));
    OK(quire_space_fork(s, &child));
    if (round % 2) { /* the pages are ours alone again: no copy, only the right */
        quire_space_put(child);
        child = NULL;
    }
}

static void write_all(unsigned round)
{
    (void)round;
    for (unsigned i = 0; i < GROUP; i++)
        want(quire_fault(s, Q_UVA(at + i * PAGE), QUIRE_WRITE), QUIRE_OK);
}

static void apart(unsigned round)
{
    sound(round);
    for (unsigned i = 0; i < GROUP; i++) {
        expect(s, at + i * PAGE, i);
        assert_int_equal(page_at(s, at + i * PAGE)->counts, QUIRE_PAGE_ONE_MAPPING);
    }
    if (child) {
        assert_ptr_not_equal(page_at(s, at), page_at(child, at));
        quire_space_put(child);
        child = NULL;
    }
}

/* proves: TRAP-8 AS-27 */
static void a_page_that_two_write_after_fork_is_copied_once(void **state)
{
    (void)state;
    child = NULL;
    race(1500, write_all, write_all, forked, apart);
}

/* ---- The same stack ---- */

static void stack(unsigned round)
{
    (void)round;
    at = 0x40000000;
    map_fixed(at, PAGE, RW, PRIV | QUIRE_MAP_GROWSDOWN);
}

static void push(unsigned round)
{
    for (unsigned i = 1; i < 32; i++)
        want(quire_fault(s, Q_UVA(at - i * PAGE), (round + i) % 2 ? QUIRE_WRITE : QUIRE_READ),
             QUIRE_OK);
}

static void push_code(unsigned round)
{
    (void)round;
    for (unsigned i = 1; i < 32; i++)
        want(quire_fault(s, Q_UVA(at - i * PAGE), QUIRE_EXEC), QUIRE_SEGV_ACCERR);
}

static void unstack(unsigned round)
{
    sound(round);
    assert_int_equal(stats(s).stack, 32);
    OK(quire_munmap(s, Q_UVA(at - 31 * PAGE), 32 * PAGE));
}

static void a_stack_that_two_extend_grows_once(void **state)
{
    (void)state;
    race(3000, push, push, stack, unstack);
    race(1000, push, push_code, stack, unstack);
}

/* ---- Beside truncation and advice ---- */

static struct quire_object *object;

static void refill(unsigned round)
{
    (void)round;
    for (unsigned i = 0; i < GROUP; i++)
        OK(store(s, at + i * PAGE, i)); /* through the private view: copies */
}

static void punch(unsigned round)
{
    (void)round;
    want(quire_object_punch(object, 0, GROUP * PAGE), QUIRE_OK);
}

static void truncate_and_grow(unsigned round)
{
    (void)round;
    want(quire_object_set_size(object, 0), QUIRE_OK);
    want(quire_object_set_size(object, GROUP * PAGE), QUIRE_OK);
}

static void read_and_write(unsigned round)
{
    for (unsigned i = 0; i < GROUP; i++) {
        uint64_t va = at + (i + round) % GROUP * PAGE;
        enum quire_status st = quire_fault(s, Q_UVA(va), QUIRE_READ);

        if (st == QUIRE_OK)
            st = quire_fault(s, Q_UVA(va), QUIRE_WRITE);
        if (st != QUIRE_BUS_ADRERR) /* cut away for the moment */
            want(st, QUIRE_OK);
    }
}

static void unmap_view(unsigned round)
{
    (void)round;
    want(quire_munmap(s, Q_UVA(at), GROUP * PAGE), QUIRE_OK);
}

static void drop_copies(unsigned round)
{
    (void)round;
    OK(quire_madvise(s, Q_UVA(at), GROUP * PAGE, 4));
    for (unsigned i = 0; i < GROUP; i++)
        OK(quire_fault(s, Q_UVA(at + i * PAGE), QUIRE_READ));
}

static void view_again(unsigned round)
{
    (void)round;
    OK(map_at(s, &at, GROUP * PAGE, RW, QUIRE_MAP_SHARED | QUIRE_MAP_FIXED, object, 0));
    refill(round);
}

static void pages_leave_an_object_beside_its_users(void **state)
{
    (void)state;
    OK(quire_object_create_shared(GROUP * PAGE, &object));
    at = map_object(object, GROUP * PAGE, RW, QUIRE_MAP_PRIVATE);
    race(1500, read_and_write, punch, drop_copies, sound);
    race(1500, read_and_write, truncate_and_grow, drop_copies, sound);
    race(1500, unmap_view, truncate_and_grow, view_again, sound);
    quire_object_put(object);
}

static void closed(unsigned round)
{
    if (!round) {
        at = map_anon(s, GROUP * PAGE);
        OK(quire_mprotect(s, Q_UVA(at), GROUP * PAGE, QUIRE_READ));
    }
}

static void force(unsigned round)
{
    for (unsigned i = 0; i < GROUP; i++) {
        uint64_t value = round;
        size_t done;

        want(quire_space_write(s, Q_UVA(at + i * PAGE), &value, sizeof value, true, &done),
             QUIRE_OK);
    }
}

static void do_not_need(unsigned round)
{
    (void)round;
    for (unsigned i = 0; i < 2 * GROUP; i++)
        want(quire_madvise(s, Q_UVA(at + i % GROUP * PAGE), PAGE, 4), QUIRE_OK);
}

static void come_and_go(unsigned round)
{
    struct quire_mmap m = {.addr = Q_UVA(at + GROUP / 2 * PAGE),
                           .len = PAGE,
                           .prot = QUIRE_READ,
                           .flags = PRIV | QUIRE_MAP_FIXED};
    q_uva out;

    (void)round;
    for (unsigned i = 0; i < 8; i++) {
        want(quire_munmap(s, m.addr, PAGE), QUIRE_OK);
        want(quire_mmap(s, &m, &out), QUIRE_OK);
    }
}

static void force_where_it_goes(unsigned round)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t value = round;
        size_t done;
        enum quire_status st =
            quire_space_write(s, Q_UVA(at + GROUP / 2 * PAGE), &value, sizeof value, true, &done);

        if (st != QUIRE_SEGV_MAPERR) /* gone for the moment */
            want(st, QUIRE_OK);
    }
}

static void forced_writes_find_the_page_again(void **state)
{
    (void)state;
    race(2000, force, do_not_need, closed, sound);
    race(2000, force_where_it_goes, come_and_go, closed, sound);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_page_that_two_touch_is_made_once),
        T(a_huge_page_that_two_touch_is_made_once),
        T(a_page_that_two_write_after_fork_is_copied_once),
        T(a_stack_that_two_extend_grows_once),
        T(pages_leave_an_object_beside_its_users),
        T(forced_writes_find_the_page_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
