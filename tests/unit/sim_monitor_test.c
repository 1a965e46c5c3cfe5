/*
 * sim_monitor_test.c - the monitor of the simulator: that it finds races, uses of freed memory and
 * no others, and that stale loads return what C11 allows and nothing else.
 *
 * The functions of sim_subject.c are instrumented as the library is; the test says which CPU makes
 * each call.
 */
#include <sim_fake.h>

#include <quire/frame.h>
#include <sys/mman.h>

#include "monitor.h"
#include "sim_subject.h"

enum { MEMORY = 64 << 20 };

static uint64_t *const words = subject_words, *const flags = subject_flags;

static void fresh(bool mixed, unsigned stale)
{
    struct monitor_config c = {.memory = MEMORY,
                               .races = true,
                               .mixed_races = mixed,
                               .frees = true,
                               .stale_one_in = stale};

    fake_cpu = 0;
    fake_task = 0;
    memset(subject_words, 0, sizeof subject_words);
    memset(subject_flags, 0, sizeof subject_flags);
    monitor_init(&c);
}

static void *memory_at(uint64_t offset)
{
    static char *memory;

    if (!memory) {
        memory = mmap((void *)SIM_DIRECT_BASE, MEMORY, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        assert_ptr_equal(memory, SIM_DIRECT_BASE);
    }
    return memory + offset;
}

static void *page_of(uint64_t pfn)
{
    return (char *)SIM_VMEMMAP_BASE + pfn * sizeof(struct quire_page);
}

#define ON(cpu, call)            (fake_cpu = (cpu), call)
#define EVENT(cpu, kind, ptr, n) ON(cpu, monitor_event(SIM_EVENT_##kind, ptr, n, (void *)fresh))

static void assert_finding(const char *kind, const char *text)
{
    assert_string_equal(sim_fail_kind, kind);
    if (!strstr(sim_fail_text, text))
        fail_msg("no \"%s\" in:\n%s", text, sim_fail_text);
}

/* ---- Races ---- */

static void test_two_writes_race(void **state)
{
    (void)state;
    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    ON(1, subject_write(&words[1], 1));
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_outer_write(&words[0], 2))));
    assert_finding("race", "subject_write");
    assert_finding("race", "subject_outer_write");
    assert_finding("race", "subject_words");
    assert_finding("race", "CPU 0");

    fresh(true, 0);
    ON(0, subject_read(&words[0]));
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_write(&words[0], 2))));
    fresh(true, 0);
    ON(0, subject_write(&words[0], 2));
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_read(&words[0]))));
    fresh(true, 0);
    ON(0, subject_clear(words, sizeof subject_words));
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_read(&words[9]))));
}

static void test_what_does_not_meet_does_not_race(void **state)
{
    (void)state;
    fresh(true, 0);
    ON(0, subject_read(&words[0]));
    ON(1, subject_read(&words[0]));
    ON(2, subject_read(&words[0]));
    for (unsigned i = 0; i < 4; i++)
        ON(i, subject_write_byte((char *)&words[1] + i, 1));
    assert_true(SIM_EXPECT_FAIL(ON(0, subject_write_byte((char *)&words[1] + 2, 1))));
    assert_finding("race", "CPU 2");
}

static void pass_message(void (*store)(uint64_t *, uint64_t), uint64_t (*load)(const uint64_t *))
{
    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    ON(0, store(&flags[0], 1));
    assert_int_equal(ON(1, load(&flags[0])), 1);
    ON(1, subject_write(&words[0], 2));
}

static void test_release_and_acquire_order(void **state)
{
    (void)state;
    pass_message(subject_store_release, subject_load_acquire);
    assert_true(SIM_EXPECT_FAIL(pass_message(subject_store, subject_load_acquire)));
    assert_true(SIM_EXPECT_FAIL(pass_message(subject_store_release, subject_load)));

    /* what comes after the release is not covered */
    fresh(true, 0);
    ON(0, subject_store_release(&flags[0], 1));
    ON(0, subject_write(&words[0], 1));
    ON(1, subject_load_acquire(&flags[0]));
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_read(&words[0]))));
}

static void test_a_release_sequence_goes_through_rmw(void **state)
{
    (void)state;
    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    ON(0, subject_store_release(&flags[0], 1));
    ON(1, subject_add(&flags[0], 1));
    ON(2, subject_load_acquire(&flags[0]));
    ON(2, subject_write(&words[0], 2));

    /* a plain atomic store in between ends it */
    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    ON(0, subject_store_release(&flags[0], 1));
    ON(1, subject_store(&flags[0], 2));
    ON(2, subject_load_acquire(&flags[0]));
    assert_true(SIM_EXPECT_FAIL(ON(2, subject_write(&words[0], 2))));
}

static void pass_message_by_fences(bool release, bool acquire)
{
    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    if (release)
        ON(0, subject_fence_release());
    ON(0, subject_store(&flags[0], 1));
    ON(1, subject_load(&flags[0]));
    if (acquire)
        ON(1, subject_fence_acquire());
    ON(1, subject_write(&words[0], 2));
}

static void test_fences_order(void **state)
{
    (void)state;
    pass_message_by_fences(true, true);
    assert_true(SIM_EXPECT_FAIL(pass_message_by_fences(true, false)));
    assert_true(SIM_EXPECT_FAIL(pass_message_by_fences(false, true)));
}

static void test_a_lock_orders(void **state)
{
    (void)state;
    fresh(true, 0);
    for (unsigned i = 0; i < 100; i++) {
        fake_cpu = i % 5;
        assert_int_equal(subject_cas_acqrel(&flags[0], 0, 1), 0);
        subject_write(&words[0], subject_read(&words[0]) + 1);
        subject_store_release(&flags[0], 0);
    }
    assert_true(SIM_EXPECT_FAIL(ON(0, subject_read(&words[0]))));
}

static void test_plain_against_atomic_has_its_switch(void **state)
{
    (void)state;
    fresh(true, 0);
    ON(0, subject_store(&flags[0], 1));
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_read(&flags[0]))));
    assert_finding("mixed-race", "atomic write");
    fresh(false, 0);
    ON(0, subject_store(&flags[0], 1));
    ON(1, subject_read(&flags[0]));
}

static void test_the_machine_orders(void **state)
{
    (void)state;
    /* a task takes its past with it */
    fresh(true, 0);
    fake_task = 1;
    ON(0, subject_write(&words[0], 1));
    fake_task = 0;
    monitor_task_leaves(1, 0);
    fake_cpu = 1;
    fake_task = 1;
    monitor_task_enters(1, 1);
    subject_write(&words[0], 2);
    /* and is ordered behind whoever made it */
    fake_task = 0;
    ON(2, subject_write(&words[1], 1));
    monitor_task_spawned(2);
    ON(2, subject_write(&words[2], 1));
    fake_cpu = 3;
    fake_task = 2;
    monitor_task_enters(2, 3);
    subject_write(&words[1], 2);
    assert_true(SIM_EXPECT_FAIL(subject_write(&words[2], 2)));

    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    monitor_release(state);
    ON(1, monitor_acquire(state));
    subject_write(&words[0], 2);
    ON(2, monitor_all_ordered());
    subject_write(&words[0], 2);

    monitor_pause();
    ON(1, subject_read(&words[0]));
    monitor_resume();
    assert_true(SIM_EXPECT_FAIL(ON(1, subject_read(&words[0]))));
}

/* ---- What is free ---- */

/* proves: TRAP-3 */
static void test_freed_frames_and_objects_are_watched(void **state)
{
    uint64_t *frame, *object;

    (void)state;
    fresh(true, 0);
    frame = memory_at(8 * 4096);
    object = memory_at(20 * 4096 + 64);
    EVENT(0, FRAME_ALLOC, page_of(8), 1);
    ON(0, subject_write(frame, 1));
    assert_true(SIM_EXPECT_FAIL(EVENT(0, FRAME_ALLOC, page_of(9), 0)));
    assert_finding("double-alloc", "frame 0x9");

    fresh(true, 0);
    EVENT(0, FRAME_ALLOC, page_of(8), 1);
    EVENT(0, FRAME_FREE, page_of(8), 1);
    assert_true(SIM_EXPECT_FAIL(ON(0, subject_read(frame + 512))));
    assert_finding("use-after-free", "history of frame 0x9");
    monitor_resume();
    assert_true(SIM_EXPECT_FAIL(EVENT(0, FRAME_FREE, page_of(8), 0)));
    assert_finding("double-free", "frame 0x8");
    monitor_resume();
    EVENT(0, FRAME_ALLOC, page_of(9), 0);
    ON(0, subject_read(frame + 512));
    assert_true(SIM_EXPECT_FAIL(ON(0, subject_add(frame, 1))));

    fresh(true, 0);
    EVENT(0, OBJECT_ALLOC, object, 24);
    ON(0, subject_write(object + 2, 1));
    EVENT(0, OBJECT_FREE, object, 24);
    ON(0, subject_write(object + 3, 1));
    assert_true(SIM_EXPECT_FAIL(ON(0, subject_write(object + 2, 1))));
    assert_finding("use-after-free", "heap object");
    monitor_resume();
    assert_true(SIM_EXPECT_FAIL(EVENT(0, OBJECT_FREE, object, 24)));
    assert_finding("double-free", "heap object");
    monitor_resume();
    EVENT(0, OBJECT_ALLOC, object, 24);
    ON(0, subject_write(object + 2, 1));
}

static void test_who_may_what_others_may_not(void **state)
{
    uint64_t *object = memory_at(20 * 4096 + 64), *data = memory_at(30 * 4096);
    uint64_t here = 1;

    (void)state;
    fresh(true, 0);
    EVENT(0, OBJECT_ALLOC, object, 24);
    EVENT(0, OBJECT_FREE, object, 24);
    ON(0, poison(object));
    /* two programs may race, but not with the library */
    ON(0, copy_bytes(data, &here, 8));
    ON(1, copy_bytes(data, &here, 8));
    assert_true(SIM_EXPECT_FAIL(ON(2, subject_read(data))));
    assert_finding("race", "copy_bytes");
    /* and nowhere but in frames */
    fresh(true, 0);
    ON(0, copy_bytes(words, &here, 8));
    assert_true(SIM_EXPECT_FAIL(ON(1, copy_bytes(words, &here, 8))));
    /* a report reads what others are writing */
    fresh(true, 0);
    ON(0, subject_write(&words[0], 1));
    ON(1, census(&words[0]));
    ON(0, subject_write(&words[0], 2));
}

static void test_a_use_that_nothing_orders_against_the_free_races(void **state)
{
    uint64_t *frame = memory_at(8 * 4096);

    (void)state;
    fresh(true, 0);
    EVENT(0, FRAME_ALLOC, page_of(8), 0);
    ON(0, subject_store_release(&flags[0], 1));
    ON(1, subject_load_acquire(&flags[0]));
    ON(1, subject_write(frame + 7, 1));
    assert_true(SIM_EXPECT_FAIL(EVENT(0, FRAME_FREE, page_of(8), 0)));
    assert_finding("race", "byte 56 of frame 0x8");

    /* an allocator that hands memory from CPU to CPU without order */
    fresh(true, 0);
    EVENT(0, FRAME_ALLOC, page_of(8), 0);
    EVENT(0, FRAME_FREE, page_of(8), 0);
    assert_true(SIM_EXPECT_FAIL(EVENT(1, FRAME_ALLOC, page_of(8), 0)));
    fresh(true, 0);
    EVENT(0, FRAME_ALLOC, page_of(8), 0);
    EVENT(0, FRAME_FREE, page_of(8), 0);
    ON(0, subject_store_release(&flags[0], 1));
    ON(1, subject_load_acquire(&flags[0]));
    EVENT(1, FRAME_ALLOC, page_of(8), 0);
    ON(1, monitor_writes(frame, 4096));
    assert_true(SIM_EXPECT_FAIL(ON(2, monitor_reads(frame + 8, 8))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_writes_race),
        cmocka_unit_test(test_what_does_not_meet_does_not_race),
        cmocka_unit_test(test_release_and_acquire_order),
        cmocka_unit_test(test_a_release_sequence_goes_through_rmw),
        cmocka_unit_test(test_fences_order),
        cmocka_unit_test(test_a_lock_orders),
        cmocka_unit_test(test_plain_against_atomic_has_its_switch),
        cmocka_unit_test(test_the_machine_orders),
        cmocka_unit_test(test_freed_frames_and_objects_are_watched),
        cmocka_unit_test(test_who_may_what_others_may_not),
        cmocka_unit_test(test_a_use_that_nothing_orders_against_the_free_races),
    };

    test_seed("sim_monitor_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
