/*
 * pt_flush_test.c - src/pt: the gather and shootdown: who is interrupted, when frames are freed,
 * and many CPUs at once.
 */
#include <pt_machine.h>

#include <pthread.h>
#include <stdatomic.h>

/* ---- Gather and shootdown ---- */

static uint64_t interrupted; /* CPUs that the hook was called for */
static void (*at_interrupt)(void);

static void interrupt(unsigned cpu)
{
    unsigned self = hosted_cpu;

    interrupted |= 1ull << cpu;
    if (at_interrupt)
        at_interrupt();
    hosted_cpu_set(cpu);
    quire_shootdown_interrupt();
    hosted_cpu_set(self);
}

static void activate_on(unsigned cpu, struct qi_tlb *t)
{
    hosted_cpu_set(cpu);
    qi_tlb_activate(t);
    assert_ptr_equal(qi_tlb_current(), t);
    hosted_cpu_set(0);
}

static void lazy_on(unsigned cpu)
{
    hosted_cpu_set(cpu);
    qi_tlb_lazy();
    assert_null(qi_tlb_current());
    hosted_cpu_set(0);
}

/* Which CPUs are interrupted by a flush of one page of t from CPU 0. */
static uint64_t flush_interrupts(struct qi_tlb *t, bool tables)
{
    interrupted = 0;
    qi_tlb_flush(t, 0x1000, 0x2000, tables);
    return interrupted;
}

static void shootdown_goes_to_those_who_may_hold_it(void **state)
{
    q_pa ra = new_root(), rb = new_root();
    struct quire_tlb_stats s0, s1;
    struct qi_tlb a, b;
    uint64_t flushes;

    (void)state;
    hosted_ipi = interrupt;
    at_interrupt = NULL;
    qi_tlb_init(&a, ra);
    qi_tlb_init(&b, rb);
    flushes = hosted_tlb_flushes;
    quire_tlb_stats(&s0);
    assert_int_equal(flush_interrupts(&a, true), 0); /* active nowhere: nothing at all */
    assert_int_equal(hosted_tlb_flushes, flushes);
    activate_on(0, &a);
    flushes = hosted_tlb_flushes;
    assert_int_equal(flush_interrupts(&a, true), 0); /* only here: local */
    assert_int_equal(hosted_tlb_flushes, flushes + 1);
    quire_tlb_stats(&s1);
    assert_int_equal(s1.ipis, s0.ipis);
    assert_int_equal(s1.local_flushes, s0.local_flushes + 1);
    activate_on(1, &a);
    activate_on(3, &a);
    activate_on(4, &b);
    flushes = hosted_tlb_flushes;
    assert_int_equal(flush_interrupts(&a, false), 1 << 1 | 1 << 3);
    assert_int_equal(hosted_tlb_flushes, flushes + 3);
    quire_tlb_stats(&s1);
    assert_int_equal(s1.requests, s0.requests + 1);
    assert_int_equal(s1.ipis, s0.ipis + 2);
    activate_on(3, &b); /* a switch takes CPU 3 out of a */
    assert_int_equal(flush_interrupts(&a, false), 1 << 1);
    assert_int_equal(flush_interrupts(&b, false), 1 << 3 | 1 << 4);
    lazy_on(3);
    lazy_on(4);
    qi_tlb_retire(&b);
    lazy_on(0);
    lazy_on(1);
    qi_tlb_retire(&a);
    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        assert_int_equal(a.active[w] | b.active[w], 0);
    qi_pt_root_free(ra);
    qi_pt_root_free(rb);
}

static void lazy_cpus_are_left_alone(void **state)
{
    q_pa root = new_root();
    struct qi_tlb t;
    uint64_t flushes;

    (void)state;
    hosted_ipi = interrupt;
    at_interrupt = NULL;
    qi_tlb_init(&t, root);
    activate_on(1, &t);
    activate_on(2, &t);
    lazy_on(2);
    assert_int_equal(flush_interrupts(&t, false), 1 << 1);
    interrupted = 0;
    qi_tlb_flush_all(&t);
    assert_int_equal(interrupted, 1 << 1);
    flushes = hosted_tlb_flushes;
    activate_on(2, &t); /* catches up with what it missed, once */
    assert_int_equal(hosted_tlb_flushes, flushes + 1);
    lazy_on(2);
    activate_on(2, &t); /* missed nothing */
    assert_int_equal(hosted_tlb_flushes, flushes + 1);
    lazy_on(2);
    assert_int_equal(flush_interrupts(&t, true), 1 << 1 | 1 << 2); /* tables: it lets go */
    assert_int_equal(flush_interrupts(&t, true), 1 << 1);
    lazy_on(1);
    qi_tlb_retire(&t);
    assert_int_equal(t.active[0], 0);
    qi_pt_root_free(root);
}

static void a_space_cannot_die_active(void **state)
{
    q_pa root = new_root();
    struct qi_tlb t;

    (void)state;
    qi_tlb_init(&t, root);
    activate_on(0, &t);
    assert_true(HOSTED_EXPECT_PANIC(qi_tlb_retire(&t)));
    assert_non_null(strstr(hosted_panic_text(), "dies active"));
}

/* The frames and tables of the operation in progress, looked at while the flush waits. */
static struct quire_page *watched[4000];
static unsigned watched_n, watched_flushes;
static q_pa watched_root;

static void still_held(void)
{
    watched_flushes++;
    for (unsigned i = 0; i < watched_n; i++)
        assert_true(watched[i]->refs >= 1 && !(watched[i]->flags & QUIRE_PG_FREE));
    for (uint64_t va = 2 * MIB; va < 2 * MIB + watched_n * 4096; va += 4096)
        assert_int_equal(access_of(watched_root, va, user_read), WALK_ABSENT);
}

/* Frames and tables live until every CPU has answered, and one shootdown is enough for any size.
 * proves: TRAP-11 X-04 */
static void frames_are_freed_after_the_flush(void **state)
{
    uint64_t frames = quire_free_pages(), tables = quire_pt_pages();
    struct qi_gather g;
    struct qi_tlb t;
    q_pa root = new_root();

    (void)state;
    hosted_ipi = interrupt;
    at_interrupt = still_held;
    watched_root = root;
    watched_flushes = 0;
    qi_tlb_init(&t, root);
    activate_on(1, &t);
    watched_n = 4000;
    assert_int_equal(quire_page_alloc_bulk(watched_n, watched, QUIRE_GFP_USER, QUIRE_NODE_ANY),
                     watched_n);
    for (unsigned i = 0; i < watched_n; i++) {
        watched[i]->counts = QUIRE_PAGE_ONE_MAPPING;
        put(root, 2 * MIB + i * 4096, quire_pa_of_page(watched[i]).v, QUIRE_READ, 0);
    }
    quire_page_get(watched[17]); /* somebody else holds this one */
    qi_gather_init(&g, &t);
    clear(root, 2 * MIB, 2 * MIB + watched_n * 4096);
    qi_gather_range(&g, 2 * MIB, watched_n * 4096);
    for (unsigned i = 0; i < watched_n; i++)
        qi_gather_mapping(&g, watched[i]);
    qi_pt_free_range(&g, root, 2 * MIB, 2 * MIB + watched_n * 4096, 0, USER_TOP);
    assert_int_equal(watched_flushes, 0);
    qi_gather_finish(&g);
    assert_int_equal(watched_flushes, 1);
    assert_int_equal(g.flushes, 1);
    assert_int_equal(watched[17]->refs, 1);
    assert_int_equal(watched[17]->maps, 0);
    assert_int_equal(quire_free_pages(), frames - 2); /* it, and the root */
    at_interrupt = NULL;
    qi_gather_page(&g, watched[17]); /* the gather is empty and may be used on */
    qi_gather_finish(&g);
    assert_int_equal(g.flushes, 1); /* no range: no flush */
    lazy_on(1);
    qi_tlb_retire(&t);
    qi_pt_root_free(root);
    assert_int_equal(quire_free_pages(), frames);
    assert_int_equal(quire_pt_pages(), tables);
}

/* Without memory for its arrays the gather flushes early, and still frees everything after.
 * proves: TRAP-18 TRAP-11 */
static void gather_without_memory(void **state)
{
    uint64_t frames = quire_free_pages();
    static struct quire_page *pages[300], *rest[SPAN / 4096];
    struct qi_gather g;
    struct qi_tlb t;
    q_pa root = new_root();
    unsigned flushes;
    size_t n;

    (void)state;
    hosted_ipi = interrupt;
    at_interrupt = NULL;
    qi_tlb_init(&t, root);
    activate_on(1, &t);
    assert_int_equal(quire_page_alloc_bulk(300, pages, QUIRE_GFP_USER, QUIRE_NODE_ANY), 300);
    n = quire_page_alloc_bulk(QI_COUNT(rest), rest, QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC,
                              QUIRE_NODE_ANY);
    for (unsigned i = 0; i < 300; i++)
        quire_page_get(pages[i]); /* nothing comes back for the arrays */
    interrupted = 0;
    qi_gather_init(&g, &t);
    for (unsigned i = 0; i < 300; i++) {
        qi_gather_range(&g, 0x1000 * i, 0x1000);
        qi_gather_page(&g, pages[i]);
    }
    qi_gather_finish(&g);
    assert_int_equal(interrupted, 1 << 1);
    assert_true(g.flushes > 1);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(pages[i]->refs, 1);
    /* the same with a range that is announced once: what comes after an early flush is of it too */
    for (unsigned i = 0; i < 300; i++)
        quire_page_get(pages[i]);
    qi_gather_init(&g, &t);
    qi_gather_range(&g, 0, 300 * 0x1000);
    for (unsigned i = 0; i < 300; i++) {
        unsigned before = g.flushes;

        qi_gather_page(&g, pages[i]);
        if (i % 64 == 63)
            assert_int_equal(g.flushes, before + 1);
    }
    flushes = g.flushes;
    qi_gather_finish(&g);
    assert_int_equal(g.flushes, flushes + 1);
    quire_page_free_bulk(300, pages);
    quire_page_free_bulk(n, rest);
    lazy_on(1);
    qi_tlb_retire(&t);
    qi_pt_root_free(root);
    assert_int_equal(quire_free_pages(), frames);
}

/* ---- Pages that are closed without waiting ---- */

static void note_interrupt(unsigned cpu) { interrupted |= 1ull << cpu; }

static void come_online(unsigned cpu)
{
    hosted_cpu_set(cpu);
    quire_pt_cpu_online();
    hosted_cpu_set(0);
}

/* What CPU cpu finds when it takes the interrupt; how often it flushed. */
static uint64_t hear(unsigned cpu)
{
    uint64_t flushes = hosted_tlb_flushes;

    hosted_cpu_set(cpu);
    quire_shootdown_interrupt();
    hosted_cpu_set(0);
    return hosted_tlb_flushes - flushes;
}

static uint64_t close_and_ask(unsigned page, uint64_t asked)
{
    uint64_t number;

    interrupted = 0;
    number = quire_pt_guard(kernel_root, WINDOW + page * 4096ull, true);
    assert_int_equal(interrupted, asked);
    assert_int_equal(access_of(kernel_root, WINDOW + page * 4096ull, kernel_read), WALK_ABSENT);
    return number;
}

/* A closing is settled when each CPU has flushed since, and who has an interrupt on its way gets no other. */
static void closed_pages_settle_when_all_have_heard(void **state)
{
    uint64_t a, b, c;

    (void)state;
    hosted_ipi = note_interrupt;
    assert_int_equal(
        quire_pt_kernel_map(WINDOW, Q_PA(2 * MIB), 16 * 4096, QUIRE_READ | QUIRE_WRITE, 12),
        QUIRE_OK);
    assert_int_equal(close_and_ask(0, 0), 0); /* alone */
    assert_true(quire_pt_guard_settled(0));
    come_online(1);
    come_online(2);
    a = close_and_ask(1, 1 << 1 | 1 << 2);
    assert_true(a && !quire_pt_guard_settled(a));
    assert_int_equal(hear(1), 1);
    assert_int_equal(hear(1), 0);
    assert_false(quire_pt_guard_settled(a));
    b = close_and_ask(2, 1 << 1);
    assert_true(b > a);
    assert_int_equal(hear(2), 1); /* for both */
    assert_true(quire_pt_guard_settled(a) && !quire_pt_guard_settled(b));
    hosted_cpu_set(2); /* who has not heard of the one before does not settle his own */
    c = close_and_ask(3, 1 << 0);
    hosted_cpu_set(0);
    assert_int_equal(hear(1), 1);
    assert_true(quire_pt_guard_settled(b) && !quire_pt_guard_settled(c));
    come_online(3);
    assert_int_equal(hear(0), 1);
    assert_true(quire_pt_guard_settled(c));
    assert_int_equal(quire_pt_guard(kernel_root, WINDOW + 4096, false), 0);
    assert_int_equal(access_of(kernel_root, WINDOW + 4096, kernel_write), WALK_OK);
    for (unsigned i = 0; i < 4; i++)
        quire_pt_guard(kernel_root, WINDOW + i * 4096ull, false);
    hosted_ipi = interrupt;
    at_interrupt = NULL;
    quire_pt_kernel_unmap(WINDOW, 16 * 4096);
}

/* ---- Many CPUs at once ---- */

#define THREADS 4

static q_pa shared_root;
static struct qi_tlb shared_tlb;
static _Atomic unsigned running;
static _Atomic uint64_t flushes_done;
static _Atomic bool flagged[QUIRE_MAX_CPUS];

static void *fill_same_range(void *arg)
{
    uint64_t cpu = (uintptr_t)arg;

    hosted_cpu_set((unsigned)cpu);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t va = i * 2 * MIB + cpu * 4096;
        qi_pte *slot, empty = QI_PTE(0);
        unsigned level;

        if (qi_pt_lookup_alloc(shared_root, va % (24 * GIB), &slot, &level) != QUIRE_OK)
            break;
        qi_pte_cas(slot, &empty, qi_pte_make(Q_PFN(i + 1), QUIRE_READ | QUIRE_USER, CACHED, 0));
    }
    return NULL;
}

/* Racing faults agree on each table; the losers' are freed.  proves: VE-14 X-04 */
static void parallel_creation(void **state)
{
    uint64_t frames = quire_free_pages();
    pthread_t thread[THREADS];

    (void)state;
    shared_root = new_root();
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, fill_same_range, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    hosted_cpu_set(0);
    /* root, one of 512 GiB, 24 of 1 GiB, 512 * 24 of 2 MiB at most */
    assert_true(qi_pt_tables(shared_root) <= 2 + 24 + 24 * 512);
    for (uint64_t cpu = 0; cpu < THREADS; cpu++)
        assert_int_equal(access_of(shared_root, 5 * 2 * MIB + cpu * 4096, user_read), WALK_OK);
    wipe(shared_root, 0, USER_TOP);
    assert_int_equal(qi_pt_tables(shared_root), 1);
    qi_pt_root_free(shared_root);
    assert_int_equal(quire_free_pages(), frames);
}

static void flag_cpu(unsigned cpu) { flagged[cpu] = true; }

static void poll_interrupt(unsigned cpu)
{
    if (atomic_exchange(&flagged[cpu], false))
        quire_shootdown_interrupt();
}

static void *flush_each_other(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    time_t stop = time(NULL) + 2; /* each answer may take a time slice on a busy machine */

    hosted_cpu_set(cpu);
    qi_tlb_activate(&shared_tlb);
    for (unsigned i = 0; i < 3000 && time(NULL) < stop; i++) {
        qi_tlb_flush(&shared_tlb, 0x1000ull * i, 0x1000ull * i + 0x3000, i % 7 == 0);
        atomic_fetch_add(&flushes_done, 1);
        poll_interrupt(cpu);
        if (i % 11 == cpu)
            qi_tlb_lazy();
        poll_interrupt(cpu);
        qi_tlb_activate(&shared_tlb);
    }
    qi_tlb_lazy();
    atomic_fetch_sub(&running, 1);
    while (atomic_load(&running)) /* the others may still need an answer */
        poll_interrupt(cpu);
    return NULL;
}

/* All CPUs flush at once, each waiting for the others with "interrupts off".  proves: TRAP-11 */
static void crossing_shootdowns_do_not_deadlock(void **state)
{
    pthread_t thread[THREADS];

    (void)state;
    shared_root = new_root();
    qi_tlb_init(&shared_tlb, shared_root);
    hosted_ipi = flag_cpu;
    atomic_store(&running, THREADS);
    atomic_store(&flushes_done, 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, flush_each_other, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    assert_true(flushes_done >= THREADS);
    assert_int_equal(shared_tlb.gen, flushes_done);
    hosted_ipi = interrupt;
    at_interrupt = NULL;
    hosted_cpu_set(0);
    qi_tlb_retire(&shared_tlb);
    qi_pt_root_free(shared_root);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(closed_pages_settle_when_all_have_heard),
        T(shootdown_goes_to_those_who_may_hold_it),
        T(lazy_cpus_are_left_alone),
        T(a_space_cannot_die_active),
        T(frames_are_freed_after_the_flush),
        T(gather_without_memory),
        T(parallel_creation),
        T(crossing_shootdowns_do_not_deadlock),
    };

    test_seed("pt_flush_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
