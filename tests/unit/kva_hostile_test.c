/*
 * kva_hostile_test.c - src/kva where it is narrow: windows of a few pages, at the end of all addresses, cut
 * among nodes unevenly; sizes and alignments that overflow; alignments up to 1 GiB among fragments; others that
 * ask, or free, while a purge has what they need.
 */
#include <kva_machine.h>

#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include <kva/kva.h>

#define GIB   (1ull << 30)
#define OK(c) assert_int_equal(c, QUIRE_OK)

static int nothing(void **state)
{
    (void)state;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_ipi = NULL;
    OK(quire_kva_verify());
    heap_sound();
    hosted_fini();
    return 0;
}

/* Areas in [start, end), few stacks and devices, below them. */
static void machine_at(uint64_t start, uint64_t end, unsigned nodes)
{
    struct quire_kva_layout l = {
        .areas_start = Q_KVA(start),
        .areas_end = Q_KVA(end),
        .stacks_start = Q_KVA(STACKS),
        .stacks_end = Q_KVA(STACKS + 8 * PAGE),
        .device_start = Q_KVA(DEVICE),
        .device_end = Q_KVA(DEVICE + 8 * PAGE),
    };

    kva_machine(64 * HEAP_MIB, nodes, 1ull << 40);
    OK(quire_kva_init(&l));
}

/* ---- beside a purge ---- */

/* A flush has others to tell. */
static void other_cpus(void)
{
    for (unsigned cpu = 1; cpu < 4; cpu++) {
        hosted_cpu_set(cpu);
        quire_pt_cpu_online();
    }
    hosted_cpu_set(0);
}

/* The interrupt of the flush on cpu. */
static void interrupt(unsigned cpu)
{
    unsigned self = (unsigned)qport_cpu();

    hosted_cpu_set(cpu);
    quire_shootdown_interrupt();
    hosted_cpu_set(self);
}

static sem_t begun, asked;
static void *found;

static void *ask(void *arg)
{
    (void)arg;
    hosted_cpu_set(2);
    sem_wait(&begun);
    found = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL);
    sem_post(&asked);
    return NULL;
}

/* In the middle of the flush: let the other ask now, and wait a while for the answer. */
static void let_ask(unsigned cpu)
{
    static bool again;

    interrupt(cpu);
    if (!again) {
        again = true;
        sem_post(&begun);
        for (unsigned i = 0; i < 200 && sem_trywait(&asked); i++)
            usleep(1000);
    }
}

/* All addresses are with a purge that has not ended: who asks then waits for it, and is not refused. */
/* proves: LX-16 */
static void what_a_purge_holds_is_not_gone(void **state)
{
    void *p[32];
    pthread_t t;

    (void)state;
    machine_at(AREAS, AREAS + 64 * PAGE, 1);
    other_cpus();
    sem_init(&begun, 0, 0);
    sem_init(&asked, 0, 0);
    for (unsigned i = 0; i < 32; i++)
        assert_non_null(p[i] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    assert_null(quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < 32; i++)
        quire_vfree(p[i]);
    assert_int_equal(pthread_create(&t, NULL, ask, NULL), 0);
    hosted_ipi = let_ask;
    quire_kva_purge();
    pthread_join(t, NULL);
    assert_non_null(found);
    quire_vfree(found);
}

static void *given[64];
static unsigned flushes;

static void free_some(unsigned cpu)
{
    unsigned self = (unsigned)qport_cpu();

    interrupt(cpu);
    if (flushes++)
        return;
    hosted_cpu_set(3);
    for (unsigned i = 0; i < 64; i++)
        quire_vfree(given[i]);
    hosted_cpu_set(self);
}

/* While a purge flushes, more is freed on another CPU, and there is too much by all that still waits: that is no
 * reason for a flush each. */
static void frees_beside_a_purge_wait_for_the_next(void **state)
{
    uint64_t before;

    (void)state;
    kva_machine(64 * HEAP_MIB, 1, 1ull << 40);
    other_cpus();
    before = frames_left();
    for (unsigned i = 0; i < 64; i++)
        assert_non_null(given[i] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    flushes = 0;
    while (stats().lazy_bytes < quire_managed_pages() / 32 * PAGE) {
        void *p = quire_vmalloc(65 * PAGE, QUIRE_GFP_KERNEL);

        assert_non_null(p);
        hosted_ipi = free_some;
        quire_vfree(p);
        if (flushes)
            break;
    }
    assert_true(flushes > 0);
    assert_in_range(flushes, 1, HEAP_CPUS); /* one flush: an interrupt of each CPU at most */
    assert_int_equal(stats().lazy_areas, 64);
    hosted_ipi = NULL;
    assert_int_equal(frames_left(), before);
}

/* ---- sizes ---- */

/* proves: X-15 */
static void sizes_at_the_edge_of_all(void **state)
{
    static const uint64_t sizes[] = {SIZE_MAX,
                                     SIZE_MAX - 1,
                                     SIZE_MAX - PAGE,
                                     SIZE_MAX - PAGE + 2,
                                     SIZE_MAX - 2 * PAGE + 1,
                                     1ull << 63,
                                     (1ull << 63) - 1,
                                     1ull << 52,
                                     17 * PAGE,
                                     16 * PAGE,
                                     15 * PAGE + 1};
    uint64_t before;
    q_kva at;

    (void)state;
    machine_at(AREAS, AREAS + 16 * PAGE, 1);
    before = frames_left();
    for (unsigned i = 0; i < QI_COUNT(sizes); i++) {
        size_t size = sizes[i];

        assert_null(quire_vmalloc(size, QUIRE_GFP_KERNEL));
        assert_null(quire_vzalloc(size, QUIRE_GFP_KERNEL));
        assert_null(quire_vmalloc_node(size, QUIRE_GFP_KERNEL, 0));
        assert_null(quire_kvmalloc(size, QUIRE_GFP_KERNEL | QUIRE_GFP_NORETRY));
        for (unsigned shift = 12; shift < 64; shift++)
            assert_null(quire_vmalloc_aligned(size, 1ull << shift, QUIRE_GFP_KERNEL));
        assert_int_not_equal(quire_stack_alloc(size, &at), QUIRE_OK);
        assert_int_not_equal(quire_ioremap(Q_PA(0xfee00000), size, QUIRE_UNCACHED, &at), QUIRE_OK);
        assert_null(quire_kvmalloc_array(size, 2, QUIRE_GFP_KERNEL));
    }
    assert_int_equal(frames_left(), before);
    for (unsigned i = 0; i < 3; i++) { /* the whole window, but for the guard; each time anew */
        void *p = quire_vmalloc(15 * PAGE, QUIRE_GFP_KERNEL);

        assert_ptr_equal(p, (void *)AREAS);
        assert_null(quire_vmalloc(1, QUIRE_GFP_KERNEL));
        quire_vfree(p);
        p = quire_vmalloc(14 * PAGE,
                          QUIRE_GFP_KERNEL); /* another size: those of 15 must go first */
        assert_non_null(p);
        quire_vfree(p);
    }
}

/* A stack window of eight pages has room for stacks of 1, 2 and 6, each with its guard, and for the guard behind. */
static void stacks_to_the_last_page(void **state)
{
    q_kva top[4];

    (void)state;
    machine_at(AREAS, AREAS + GIB, 1);
    for (unsigned i = 0; i < 3; i++) {
        OK(quire_stack_alloc(6 * PAGE, &top[0]));
        assert_int_equal(top[0].v, STACKS + 7 * PAGE);
        assert_int_equal(quire_stack_alloc(PAGE, &top[1]), QUIRE_NO_MEMORY);
        quire_stack_free(top[0]); /* it stays with the CPU until it is in the way */
        OK(quire_stack_alloc_bulk(PAGE, 3, top));
        assert_int_equal(quire_stack_alloc(PAGE, &top[3]), QUIRE_NO_MEMORY);
        assert_int_equal(quire_stack_alloc_bulk(PAGE, 2, &top[3]), QUIRE_NO_MEMORY);
        for (unsigned k = 0; k < 3; k++)
            assert_true(quire_stack_guard_hit(Q_KVA(top[k].v - 2 * PAGE)));
        OK(quire_kva_verify());
        quire_stack_free_bulk(3, top);
    }
}

/* ---- the end of all addresses ---- */

/* Windows that end at the last pages that there are: all of it serves, and nothing comes round to 0. */
static void the_last_addresses(void **state)
{
    const uint64_t end = ~0ull << 12, start = end - 64 * PAGE;
    uint8_t *p[32];
    unsigned n = 0;

    (void)state;
    machine_at(start, end, 1);
    for (unsigned shift = 13; shift < 64; shift++) {
        uint8_t *q = quire_vmalloc_aligned(PAGE, 1ull << shift, QUIRE_GFP_KERNEL);
        uint64_t mask = (1ull << shift) - 1, first = (start + mask) & ~mask;

        assert_int_equal(q != NULL,
                         first >= start && first < end - PAGE); /* first 0: past the end */
        if (q)
            assert_int_equal((uintptr_t)q & mask, 0);
        quire_vfree(q);
    }
    quire_kva_purge();
    while ((p[n] = quire_vmalloc(PAGE, QUIRE_GFP_KERNEL))) {
        assert_in_range((uintptr_t)p[n], start, end - 2 * PAGE);
        fill(p[n], PAGE, (uint8_t)n);
        if (++n == 32)
            break;
    }
    assert_int_equal(n, 32);
    assert_null(quire_vmalloc(PAGE, QUIRE_GFP_KERNEL));
    OK(quire_kva_verify());
    while (n--) {
        expect(p[n], PAGE, (uint8_t)n);
        quire_vfree(p[n]);
    }
}

/* ---- alignments among fragments ---- */

/* Every aligned place serves, though no gap has room for size and alignment together; none is given twice. */
/* proves: TRAP-16 */
static void aligned_among_fragments(void **state)
{
    enum { PLACES = 6 };
    void *big[PLACES], *small[3 * PLACES];
    unsigned n = 0, holes = 0;

    (void)state;
    machine_at(AREAS, AREAS + PLACES * GIB, 1);
    for (unsigned i = 0; i < PLACES; i++) {
        assert_non_null(big[i] = quire_vmalloc_aligned(PAGE, GIB, QUIRE_GFP_KERNEL));
        assert_int_equal((uintptr_t)big[i] % GIB, 0);
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(big[i], big[k]);
    }
    assert_null(quire_vmalloc_aligned(PAGE, GIB, QUIRE_GFP_KERNEL)); /* the places are taken, */
    for (unsigned i = 0; i < PLACES; i++) { /* but not the rest: one behind each */
        small[n++] = quire_vmalloc_aligned(PAGE, GIB / 2, QUIRE_GFP_KERNEL);
        assert_non_null(small[n - 1]);
        assert_int_equal((uintptr_t)small[n - 1] % GIB, GIB / 2);
    }
    assert_null(quire_vmalloc_aligned(PAGE, GIB / 2, QUIRE_GFP_KERNEL));
    for (unsigned i = 0; i < PLACES; i += 2) {
        quire_vfree(big[i]);
        holes++;
    }
    while (holes--) { /* gaps of half a GiB on either side: only the look at each finds them */
        void *p = quire_vmalloc_aligned(3 * PAGE, GIB, QUIRE_GFP_KERNEL);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % GIB, 0);
        small[n++] = p;
    }
    assert_null(quire_vmalloc_aligned(PAGE, GIB, QUIRE_GFP_KERNEL));
    OK(quire_kva_verify());
    while (n--)
        quire_vfree(small[n]);
    for (unsigned i = 1; i < PLACES; i += 2)
        quire_vfree(big[i]);
}

/* ---- nodes ---- */

/* A window that nodes divide unevenly, and a node whose part is all taken. */
/* proves: AS-23 */
static void parts_of_any_shape(void **state)
{
    struct qi_gap_node hog;
    struct qi_part *last;
    void *p;

    (void)state;
    machine_at(AREAS, AREAS + 2 * GIB + 3 * PAGE, 2);
    assert_int_equal(QI_AREAS->nparts, 2);
    last = &QI_AREAS->parts[1];
    assert_int_equal(last->end, AREAS + 2 * GIB + 3 * PAGE);
    hog = (struct qi_gap_node){.start = last->start, .end = last->end};
    qi_gaps_insert(&last->gaps, &hog, &last->gaps.fence);
    for (unsigned pages = 1; pages < 70; pages += 23) {
        assert_non_null(p = quire_vmalloc_node(pages * PAGE, QUIRE_GFP_KERNEL, 1));
        assert_in_range((uintptr_t)p, AREAS, AREAS + GIB - PAGE);
        quire_vfree(p);
    }
    assert_null(qi_area_at(QI_AREAS, last->end));
    qi_gaps_remove(&last->gaps, &hog);
    assert_non_null(p = quire_vmalloc_node(PAGE, QUIRE_GFP_KERNEL, 1));
    quire_vfree(p);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, nothing, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_purge_holds_is_not_gone),
        TEST(frees_beside_a_purge_wait_for_the_next),
        TEST(sizes_at_the_edge_of_all),
        TEST(stacks_to_the_last_page),
        TEST(the_last_addresses),
        TEST(aligned_among_fragments),
        TEST(parts_of_any_shape),
    };

    test_seed("kva_hostile_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
