/*
 * space_unplug_test.c - memory is unplugged while a fault copies a page of it that nobody has any more.
 *
 * The fault is held up in the middle of its copy: the page that it reads is made inaccessible, and the signal's
 * handler waits there.  Meanwhile another fault makes a copy of the same page, the child gives the page up, so that it
 * is free, and its memory is removed; the frame must be there until the first copy is done.
 */
#define MACHINE_HOT (8ull << 20)
#include <space_fixture.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define HOT  (64 * MIB)
#define LATE 300000000ull /* ns that the copy takes if nobody ends it */

static struct {
    void *page;
    atomic_bool reached, ended; /* the copy has come there; has gone on */
    atomic_bool removed;        /* the memory is gone */
    bool removed_first;
} copy;

static void held_up(int number, siginfo_t *info, void *context)
{
    uint64_t end = qport_now_ns() + LATE;
    uintptr_t off = (uintptr_t)info->si_addr - (uintptr_t)copy.page;

    (void)context;
    if (off >= PAGE) {
        signal(number, SIG_DFL); /* a crash of another sort */
        return;
    }
    if (!hosted_cpu) { /* the second fault */
        mprotect(copy.page, PAGE, PROT_READ | PROT_WRITE);
        return;
    }
    atomic_store(&copy.reached, true);
    while (!atomic_load(&copy.removed) && qport_now_ns() < end)
        sched_yield();
    copy.removed_first = atomic_load(&copy.removed);
    mprotect(copy.page, PAGE, PROT_READ | PROT_WRITE);
    atomic_store(&copy.ended, true);
}

static void *fault(void *at)
{
    hosted_cpu_set(1);
    quire_fault(s, Q_UVA((uintptr_t)at), QUIRE_WRITE);
    return NULL;
}

/* A page in memory that may go, which s shares with its child. */
static struct quire_space *shared_page(uint64_t *at)
{
    struct quire_space *child;

    OK(quire_memory_add(Q_PA(HOT), MACHINE_HOT, 0));
    *at = map_anon(s, PAGE);
    OK(store(s, *at, 7));
    assert_true(quire_pa_of_page(page_at(s, *at)).v >= HOT);
    OK(quire_space_fork(s, &child));
    return child;
}

/* What the CPU takes next is not of this block: that would keep it. */
static void next_from_elsewhere(unsigned cpu, uint64_t block)
{
    static struct quire_page *mine[512];
    struct quire_page *p;
    unsigned n = 0;

    hosted_cpu_set(cpu);
    while ((p = quire_page_alloc(0, QUIRE_GFP_USER, QUIRE_NODE_ANY)) &&
           quire_pa_of_page(p).v / QUIRE_HUGE_SIZE == block / QUIRE_HUGE_SIZE)
        mine[n++] = p;
    assert_non_null(p);
    quire_page_free(p, 0);
    hosted_cpu_set(2);
    while (n)
        quire_page_free(mine[--n], 0);
    quire_frame_drain_local();
    hosted_cpu_set(0);
}

/* Another thread has its copy, the child gives the page up, and its memory goes. */
static void free_and_remove(struct quire_space *child, uint64_t at, uint64_t block)
{
    const struct quire_page *page = page_at(s, at);

    OK(quire_fault(s, Q_UVA(at), QUIRE_WRITE));
    assert_ptr_not_equal(page_at(s, at), page);
    OK(quire_madvise(child, Q_UVA(at), PAGE, 4));
    assert_int_equal(page->refs, 0);
    quire_frame_drain_local();
    OK(quire_memory_remove(Q_PA(block), QUIRE_HUGE_SIZE));
    atomic_store(&copy.removed, true);
}

static void remove_the_rest(void)
{
    quire_frame_drain();
    for (uint64_t at = HOT; at < HOT + MACHINE_HOT; at += QUIRE_HUGE_SIZE)
        if (quire_pfn_valid(Q_PFN(at / PAGE)))
            OK(quire_memory_remove(Q_PA(at), QUIRE_HUGE_SIZE));
}

/* proves: LX-37 VE-48 */
static void a_copy_ends_before_its_memory_goes(void **state)
{
    const struct sigaction action = {.sa_sigaction = held_up, .sa_flags = SA_SIGINFO};
    struct quire_space *child;
    struct sigaction before;
    pthread_t faults;
    uint64_t at, block;

    (void)state;
    quire_frame_set_mover(quire_space_move_range);
    quire_frame_set_settler(quire_space_settle);
    child = shared_page(&at);
    copy.page = quire_page_ptr(page_at(s, at));
    block = quire_pa_of_page(page_at(s, at)).v & ~(QUIRE_HUGE_SIZE - 1);
    next_from_elsewhere(1, block);
    next_from_elsewhere(0, block);
    sigaction(SIGSEGV, &action, &before);
    assert_int_equal(mprotect(copy.page, PAGE, PROT_NONE), 0);
    assert_int_equal(pthread_create(&faults, NULL, fault, (void *)(uintptr_t)at), 0);
    while (!atomic_load(&copy.reached))
        sched_yield();
    free_and_remove(child, at, block);
    pthread_join(faults, NULL);
    sigaction(SIGSEGV, &before, NULL);
    assert_true(atomic_load(&copy.ended));
    assert_false(copy.removed_first);
    /* the first copy was of no use to anybody */
    expect(s, at, 7);
    expect(child, at, 0);
    OK(quire_space_verify(child));
    quire_space_put(child);
    OK(quire_space_verify(s));
    quire_space_put(s);
    s = NULL;
    remove_the_rest();
}

/* All spaces are waited for, whatever becomes of them meanwhile. */
static void every_space_settles(void **state)
{
    struct quire_space *many[20];

    (void)state;
    for (unsigned i = 0; i < 20; i++)
        many[i] = space_new();
    quire_space_settle();
    for (unsigned i = 0; i < 20; i++) {
        OK(store(many[i], map_anon(many[i], PAGE), i));
        quire_space_settle();
        quire_space_put(many[i]);
    }
    quire_space_settle();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_copy_ends_before_its_memory_goes),
        T(every_space_settles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
