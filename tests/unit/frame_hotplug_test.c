/*
 * frame_hotplug_test.c - memory that comes and goes: all of a range or nothing, counted, handed out,
 * taken back, and nothing lost by it.  The hosted port makes struct pages that were released
 * inaccessible, so that whoever still reads one crashes.
 */
#include <frame_machine.h>

#include <frame/zone.h>
#include <pthread.h>
#include <sched.h>

#define BLOCK   ((uint64_t)QI_BLOCK_FRAMES)
#define HOT     (64 * MIB) /* the machine has memory from 16 MiB on to here */
#define HOT_END (128 * MIB)
#define HOT_LEN (HOT_END - HOT)

static uint64_t boot_managed;

static void announce(uint64_t base, uint64_t len, unsigned node)
{
    assert_int_equal(quire_memmap_add(&map, Q_PA(base), len, QUIRE_MEM_HOTPLUG), QUIRE_OK);
    if (node)
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(base), len, node), QUIRE_OK);
}

static int setup(void **state)
{
    (void)state;
    map_start(HOT_END);
    map_add(16 * MIB, HOT - 16 * MIB, 0);
    announce(HOT, HOT_LEN, 0);
    boot(1, 4, NULL, NULL);
    hosted_cpu_set(0);
    quire_memory_set_use(QUIRE_ADD_KERNEL);
    boot_managed = quire_managed_pages();
    return 0;
}

static enum quire_status add(uint64_t base, uint64_t len)
{
    return quire_memory_add(Q_PA(base), len, 0);
}
static enum quire_status take(uint64_t base, uint64_t len)
{
    return quire_memory_remove(Q_PA(base), len);
}

/* Frames of [base, base + len) do not exist. */
static void absent(uint64_t base, uint64_t len)
{
    struct quire_block_info b;

    for (uint64_t pfn = base / 4096; pfn < (base + len) / 4096; pfn += 37) {
        assert_false(quire_pfn_valid(Q_PFN(pfn)));
        assert_int_equal(quire_page_flags(Q_PFN(pfn)), QUIRE_PG_RESERVED);
        assert_int_equal(quire_frame_poison(Q_PFN(pfn)), QUIRE_INVALID);
        assert_int_equal(quire_block_info(pfn / BLOCK, &b), QUIRE_OK);
        assert_int_equal(b.absent, BLOCK);
    }
    assert_int_equal(quire_frame_offline(Q_PFN(base / 4096), len / 4096), QUIRE_INVALID);
    assert_int_equal(quire_frame_online(Q_PFN(base / 4096), len / 4096), QUIRE_INVALID);
}

static uint64_t present(void)
{
    struct quire_zone_stats s;
    uint64_t n = 0;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        n += s.present;
    return n;
}

/* Nothing but the announced bytes was there before; then memory that serves every order; then nothing
 * again.  Counts and marks follow.  proves: LX-37 VE-48 */
static void memory_comes_and_goes(void **state)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1], there = present();
    struct quire_zone_stats small = zone_stats(0), big;

    (void)state;
    absent(HOT, HOT_LEN);
    blocks_all(before);
    for (unsigned round = 0; round < 3; round++) {
        uint64_t at = HOT + round * 2 * MIB, len = HOT_LEN - round * 6 * MIB;

        assert_int_equal(add(at, len), QUIRE_OK);
        healthy();
        assert_int_equal(quire_managed_pages(), boot_managed + len / 4096);
        assert_int_equal(quire_free_pages(), boot_managed + len / 4096);
        assert_int_equal(present(), there + len / 4096);
        big = zone_stats(0);
        assert_true(big.wmark_min > small.wmark_min && big.wmark_high > small.wmark_high);
        for (uint64_t pfn = at / 4096; pfn < (at + len) / 4096; pfn += 11)
            assert_int_equal(quire_page_flags(Q_PFN(pfn)) & 0xffff, QUIRE_PG_FREE);
        for (uint32_t i = 0; i < map.n; i++) /* for exhaust(): what is usable now */
            if (map.ranges[i].base.v == HOT)
                map.ranges[i].kind = QUIRE_MEM_USABLE;
        exhaust_every_order();
        quire_frame_drain();
        assert_int_equal(take(at, len), QUIRE_OK);
        healthy();
        absent(HOT, HOT_LEN);
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
        assert_int_equal(quire_managed_pages(), boot_managed);
        assert_int_equal(present(), there);
        assert_int_equal(zone_stats(0).wmark_min, small.wmark_min);
    }
}

/* Piece by piece in one order, away in another. */
static void pieces_in_any_order(void **state)
{
    uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
    uint64_t n = HOT_LEN / QUIRE_HUGE_SIZE;
    struct quire_page *p;

    (void)state;
    blocks_all(before);
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(add(HOT + i * 7 % n * QUIRE_HUGE_SIZE, QUIRE_HUGE_SIZE), QUIRE_OK);
    healthy();
    assert_int_equal(quire_managed_pages(), boot_managed + HOT_LEN / 4096);
    p = get(QUIRE_MAX_ORDER);
    quire_page_free(p, QUIRE_MAX_ORDER);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = HOT + i * 11 % n * QUIRE_HUGE_SIZE;

        assert_int_equal(add(at, QUIRE_HUGE_SIZE), QUIRE_EXISTS);
        assert_int_equal(take(at, QUIRE_HUGE_SIZE), QUIRE_OK);
        absent(at, QUIRE_HUGE_SIZE);
        assert_int_equal(take(at, QUIRE_HUGE_SIZE), QUIRE_NOT_FOUND);
        for (uint64_t k = i + 1; k < n; k++) /* also what had its head there */
            assert_int_equal(quire_page_flags(Q_PFN(HOT / 4096 + k * 11 % n * BLOCK + 5)) & 0xffff,
                             QUIRE_PG_FREE);
        healthy();
    }
    blocks_all(after);
    assert_memory_equal(before, after, sizeof before);
}

/* A frame of it in use keeps all of the range, and all of it goes on. */
static void what_is_in_use_stays(void **state)
{
    for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
        uint64_t before[QUIRE_MAX_ORDER + 1], after[QUIRE_MAX_ORDER + 1];
        struct quire_page *p = NULL, *others[64];
        unsigned n = 0;

        setup(state);
        assert_int_equal(add(HOT, HOT_LEN), QUIRE_OK);
        while (!p && n < QI_COUNT(others)) { /* the highest blocks come last */
            others[n] = get(QI_BLOCK_ORDER);
            if (quire_pa_of_page(others[n]).v >= HOT + 8 * MIB) {
                quire_page_free(others[n], QI_BLOCK_ORDER);
                p = get(order);
            } else {
                n++;
            }
        }
        assert_non_null(p);
        quire_frame_drain();
        blocks_all(before);
        assert_int_equal(take(HOT, HOT_LEN), QUIRE_BUSY);
        assert_int_equal(quire_managed_pages(), boot_managed + HOT_LEN / 4096);
        blocks_all(after);
        assert_memory_equal(before, after, sizeof before);
        healthy();
        quire_page_free(p, order);
        while (n)
            quire_page_free(others[--n], QI_BLOCK_ORDER);
        assert_int_equal(take(HOT, HOT_LEN), QUIRE_OK);
        absent(HOT, HOT_LEN);
        healthy();
    }
}

/* Blocks that were off line before a removal that fails are so afterwards; those of one that
 * succeeds go with the others. */
static void what_was_off_line(void **state)
{
    struct quire_page *p = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(add(HOT, 16 * MIB), QUIRE_OK);
    assert_int_equal(quire_frame_offline(Q_PFN(HOT / 4096 + BLOCK), 2 * BLOCK), QUIRE_OK);
    while ((held[n] = quire_page_alloc(QI_BLOCK_ORDER, QUIRE_GFP_MEMALLOC, ANY)))
        if (quire_pa_of_page(held[n]).v == HOT + 10 * MIB && !p)
            p = held[n];
        else
            n++;
    assert_non_null(p);
    give_back(n, QI_BLOCK_ORDER);
    assert_int_equal(take(HOT, 16 * MIB), QUIRE_BUSY);
    healthy();
    assert_int_equal(quire_managed_pages(), boot_managed + 6 * BLOCK);
    assert_int_equal(quire_frame_online(Q_PFN(HOT / 4096 + 2 * BLOCK), BLOCK), QUIRE_OK);
    assert_int_equal(quire_managed_pages(), boot_managed + 7 * BLOCK);
    quire_page_free(p, QI_BLOCK_ORDER);
    assert_int_equal(take(HOT, 16 * MIB), QUIRE_OK);
    absent(HOT, HOT_LEN);
    assert_int_equal(quire_managed_pages(), boot_managed);
    healthy();
    assert_int_equal(add(HOT, 16 * MIB), QUIRE_OK); /* on line, all of it */
    assert_int_equal(quire_managed_pages(), boot_managed + 8 * BLOCK);
}

/* The port has no memory for struct pages: nothing has changed. */
static void no_struct_pages(void **state)
{
    (void)state;
    hosted_fail_populate = 0;
    assert_int_equal(add(HOT, HOT_LEN), QUIRE_NO_MEMORY);
    assert_int_equal(quire_managed_pages(), boot_managed);
    absent(HOT, HOT_LEN);
    healthy();
    assert_int_equal(add(HOT, HOT_LEN), QUIRE_OK);
    healthy();
}

static void what_cannot_come_is_refused(void **state)
{
    (void)state;
    assert_int_equal(add(HOT + 4096, QUIRE_HUGE_SIZE), QUIRE_INVALID);
    assert_int_equal(add(HOT, QUIRE_HUGE_SIZE - 4096), QUIRE_INVALID);
    assert_int_equal(add(HOT, 0), QUIRE_INVALID);
    assert_int_equal(add(UINT64_MAX - QUIRE_HUGE_SIZE + 1, 2 * QUIRE_HUGE_SIZE), QUIRE_INVALID);
    assert_int_equal(quire_memory_add(Q_PA(HOT), QUIRE_HUGE_SIZE, 1), QUIRE_INVALID);
    assert_int_equal(add(HOT_END, QUIRE_HUGE_SIZE), QUIRE_UNSUPPORTED);
    assert_int_equal(add(HOT_END - QUIRE_HUGE_SIZE, 2 * QUIRE_HUGE_SIZE), QUIRE_UNSUPPORTED);
    assert_int_equal(add(1ull << 50, QUIRE_HUGE_SIZE), QUIRE_UNSUPPORTED);
    assert_int_equal(add(32 * MIB, QUIRE_HUGE_SIZE), QUIRE_EXISTS); /* since boot */
    assert_int_equal(add(HOT - QUIRE_HUGE_SIZE, 2 * QUIRE_HUGE_SIZE), QUIRE_EXISTS);
    assert_int_equal(take(32 * MIB, QUIRE_HUGE_SIZE), QUIRE_UNSUPPORTED);
    assert_int_equal(take(HOT, QUIRE_HUGE_SIZE), QUIRE_NOT_FOUND);
    assert_int_equal(take(HOT + 4096, QUIRE_HUGE_SIZE), QUIRE_INVALID);
    assert_int_equal(take(HOT, 0), QUIRE_INVALID);
    assert_int_equal(add(HOT, 4 * MIB), QUIRE_OK);
    assert_int_equal(add(HOT + 2 * MIB, 4 * MIB), QUIRE_EXISTS);
    assert_int_equal(take(HOT + 2 * MIB, 4 * MIB), QUIRE_NOT_FOUND);
    assert_int_equal(quire_managed_pages(), boot_managed + 2 * BLOCK);
    healthy();
}

/* Firmware announces more than can be used: parts of blocks, what is there, what is reserved. */
static void announced_ranges_are_cut(void **state)
{
    (void)state;
    map_start(HOT_END);
    map_add(16 * MIB, HOT - 16 * MIB + 4096, 0); /* ends in the first hot-pluggable block */
    announce(32 * MIB, 96 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(70 * MIB + 4096), 4096, "a", NULL), QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(74 * MIB), 2 * MIB, "b", NULL), QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(76 * MIB), 4096, "c", NULL), QUIRE_OK);
    boot(1, 1, NULL, NULL);
    quire_memory_set_use(QUIRE_ADD_KERNEL);
    boot_managed = quire_managed_pages();
    for (uint64_t at = HOT; at < HOT_END; at += QUIRE_HUGE_SIZE)
        assert_int_equal(add(at, QUIRE_HUGE_SIZE),
                         at == HOT                                            ? QUIRE_EXISTS
                         : at == 70 * MIB || at == 74 * MIB || at == 76 * MIB ? QUIRE_UNSUPPORTED
                                                                              : QUIRE_OK);
    assert_int_equal(quire_managed_pages(), boot_managed + 28 * BLOCK);
    healthy();
    for (uint64_t at = HOT; at < HOT_END; at += QUIRE_HUGE_SIZE)
        take(at, QUIRE_HUGE_SIZE);
    assert_int_equal(quire_managed_pages(), boot_managed);
    healthy();
}

/* Unless the caller wants it otherwise, what comes serves only what can be moved. */
static void new_memory_is_movable(void **state)
{
    struct quire_page *p;
    size_t n = 0;

    (void)state;
    quire_memory_set_use(QUIRE_ADD_MOVABLE);
    assert_int_equal(add(HOT, HOT_LEN), QUIRE_OK);
    while ((held[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY)))
        assert_true(quire_pa_of_page(held[n++]).v < HOT);
    assert_int_equal(n, boot_managed);
    p = quire_page_alloc(0, QUIRE_GFP_USER | QUIRE_GFP_ZERO, ANY);
    assert_non_null(p);
    assert_int_equal(quire_page_zone(p), QUIRE_ZONE_MOVABLE);
    assert_true(quire_pa_of_page(p).v >= HOT);
    quire_page_free(p, 0);
    quire_frame_drain();
    assert_int_equal(take(HOT, HOT_LEN), QUIRE_OK); /* whatever the kernel holds */
    assert_null(quire_page_alloc(0, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC, ANY));
    give_back(n, 0);
    quire_frame_drain();
    healthy();
    /* half of it each way */
    assert_int_equal(add(HOT, HOT_LEN / 2), QUIRE_OK);
    quire_memory_set_use(QUIRE_ADD_KERNEL);
    assert_int_equal(add(HOT + HOT_LEN / 2, HOT_LEN / 2), QUIRE_OK);
    healthy();
    for (n = 0; (held[n] = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, ANY)); n++)
        assert_false(quire_pa_of_page(held[n]).v - HOT < HOT_LEN / 2);
    assert_int_equal(n, boot_managed + HOT_LEN / 2 / 4096);
    give_back(n, 0);
    quire_frame_drain();
    assert_int_equal(take(HOT, HOT_LEN), QUIRE_OK);
    assert_int_equal(quire_managed_pages(), boot_managed);
    healthy();
}

/* A node without memory at boot: its requests went elsewhere, then to its own, then elsewhere. */
static void a_node_gets_its_first_memory(void **state)
{
    static const uint8_t cpu_node[] = {0, 1};
    struct quire_page *p;

    (void)state;
    map_start(HOT_END);
    map_add(16 * MIB, HOT - 16 * MIB, 0);
    announce(HOT, HOT_LEN, QUIRE_NODE_ANY);
    boot(2, 2, cpu_node, NULL);
    quire_memory_set_use(QUIRE_ADD_KERNEL);
    boot_managed = quire_managed_pages();
    hosted_cpu_set(1);
    p = get(0);
    assert_int_equal(quire_page_node(p), 0);
    quire_page_free(p, 0);
    assert_null(quire_page_alloc(0, QUIRE_GFP_THISNODE, 1));
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(quire_memory_add(Q_PA(HOT), 32 * MIB, 1), QUIRE_OK);
        assert_int_equal(quire_memory_add(Q_PA(HOT + 32 * MIB), 32 * MIB, 0), QUIRE_OK);
        assert_int_equal(quire_memory_add(Q_PA(HOT), 2 * MIB, 0), QUIRE_EXISTS);
        healthy();
        for (unsigned order = 0; order <= QUIRE_MAX_ORDER; order++) {
            p = get(order);
            assert_int_equal(quire_page_node(p), 1);
            assert_in_range(quire_pa_of_page(p).v, HOT, HOT + 32 * MIB - 1);
            quire_page_free(p, order);
        }
        p = quire_page_alloc(0, QUIRE_GFP_THISNODE, 1); /* the fast way too */
        assert_non_null(p);
        quire_page_free(p, 0);
        quire_frame_drain();
        assert_int_equal(take(HOT, HOT_LEN), QUIRE_OK); /* of both nodes */
        p = get(0);
        assert_int_equal(quire_page_node(p), 0);
        quire_page_free(p, 0);
        assert_null(quire_page_alloc(0, QUIRE_GFP_THISNODE, 1));
        quire_frame_drain();
        healthy();
        assert_int_equal(quire_managed_pages(), boot_managed);
    }
    hosted_cpu_set(0);
}

/* ---- Beside other CPUs ---- */

#define USERS 3
enum { HOLD = 64 };
static bool stop;
static uint8_t there[(HOT_END - HOT) / QUIRE_HUGE_SIZE]; /* atomic: 1 if frames may be handed out */

/* cmocka's asserts are for one thread: in another they end the process without a word. */
static void must(bool good, const char *what, uint64_t value)
{
    if (good)
        return;
    fprintf(stderr, "cpu %u: %s: %#lx\n", hosted_cpu, what, (unsigned long)value);
    abort();
}

static void must_be_there(const struct quire_page *p, unsigned order)
{
    uint64_t pa = quire_pa_of_page(p).v;

    for (uint64_t at = pa; pa >= HOT && at < pa + (4096ull << order); at += QUIRE_HUGE_SIZE)
        must(__atomic_load_n(&there[(at - HOT) / QUIRE_HUGE_SIZE], __ATOMIC_ACQUIRE), "absent", at);
}

/* Questions about a frame that may come or go at this moment. */
static void look(uint64_t pfn)
{
    must(quire_page_flags(Q_PFN(pfn)) != 0, "flags", pfn);
    quire_pfn_valid(Q_PFN(pfn));
}

/* Allocates, writes, and finds what it wrote. */
static void *user(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg, x = cpu * 7919, orders[HOLD];
    struct quire_page *mine[HOLD] = {NULL};

    hosted_cpu_set(cpu);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned k = (x = x * 1664525 + 1013904223) >> 8 & (HOLD - 1);
        uint64_t *words;

        look(HOT / 4096 + x % (HOT_LEN / 4096));
        if (mine[k]) {
            words = quire_page_ptr(mine[k]);
            must(words[0] == (uintptr_t)mine[k] + cpu, "first word", words[0]);
            must(words[(512u << orders[k]) - 1] == k, "last word", words[(512u << orders[k]) - 1]);
            quire_page_free(mine[k], orders[k]);
            mine[k] = NULL;
            continue;
        }
        orders[k] = (x >> 20) % 4 ? 0 : (x >> 24) % 10;
        mine[k] = quire_page_alloc(orders[k], x >> 30 ? QUIRE_GFP_USER : 0, ANY);
        if (mine[k]) {
            must_be_there(mine[k], orders[k]);
            words = quire_page_ptr(mine[k]);
            words[0] = (uintptr_t)mine[k] + cpu;
            words[(512u << orders[k]) - 1] = k;
        }
        if (x % 64 == 0) /* else a frame in a stack keeps its block */
            qi_frame_drain_cpu(cpu);
    }
    for (unsigned k = 0; k < HOLD; k++)
        if (mine[k])
            quire_page_free(mine[k], orders[k]);
    return NULL;
}

/* Memory comes and goes while three CPUs allocate, write, free, and ask about any frame of it.
 * proves: TRAP-20 */
static void memory_comes_and_goes_under_load(void **state)
{
    unsigned came = 0, went = 0, stayed = 0, n = HOT_LEN / QUIRE_HUGE_SIZE;
    uint64_t late = qport_now_ns() + 5000000000u;
    pthread_t threads[USERS];

    (void)state;
    stop = false;
    memset(there, 0, sizeof there);
    for (unsigned i = 0; i < USERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, user, (void *)(uintptr_t)(i + 1)), 0);
    /* a busy machine gives us little time: less of it does, then */
    for (unsigned i = 0; (i < 1500 && qport_now_ns() < late) || went < 30 || !stayed; i++) {
        unsigned at = i * 2654435761u % n, len = 1 + i / 7 % 4;
        uint64_t base = HOT + at * QUIRE_HUGE_SIZE, bytes = len * QUIRE_HUGE_SIZE;
        enum quire_status s;

        if (at + len > n)
            continue;
        if (!there[at]) {
            while (memchr(there + at, 1, len))
                bytes = --len * QUIRE_HUGE_SIZE;
            for (unsigned k = 0; k < len; k++)
                __atomic_store_n(&there[at + k], 1, __ATOMIC_RELEASE);
            assert_int_equal(add(base, bytes), QUIRE_OK);
            came++;
            continue;
        }
        while (memchr(there + at, 0, len))
            bytes = --len * QUIRE_HUGE_SIZE;
        s = take(base, bytes);
        if (s == QUIRE_OK) {
            for (unsigned k = 0; k < len; k++)
                __atomic_store_n(&there[at + k], 0, __ATOMIC_RELEASE);
            /* nobody writes there any more */
            memset(quire_ptr_of_pa(Q_PA(base)), 0xee, bytes);
            went++;
        } else {
            assert_int_equal(s, QUIRE_BUSY);
            stayed++;
            sched_yield(); /* to who is in the way: the machine may have fewer CPUs than tasks */
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < USERS; i++)
        pthread_join(threads[i], NULL);
    quire_frame_drain();
    healthy();
    for (unsigned at = 0; at < n; at++)
        if (there[at])
            assert_int_equal(take(HOT + at * QUIRE_HUGE_SIZE, QUIRE_HUGE_SIZE), QUIRE_OK);
    absent(HOT, HOT_LEN);
    healthy();
    assert_int_equal(quire_managed_pages(), boot_managed);
    assert_int_equal(quire_free_pages(), boot_managed);
    assert_true(came > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_comes_and_goes, setup),
        cmocka_unit_test_setup(pieces_in_any_order, setup),
        cmocka_unit_test_setup(what_is_in_use_stays, setup),
        cmocka_unit_test_setup(what_was_off_line, setup),
        cmocka_unit_test_setup(no_struct_pages, setup),
        cmocka_unit_test_setup(what_cannot_come_is_refused, setup),
        cmocka_unit_test(announced_ranges_are_cut),
        cmocka_unit_test_setup(new_memory_is_movable, setup),
        cmocka_unit_test(a_node_gets_its_first_memory),
        cmocka_unit_test_setup(memory_comes_and_goes_under_load, setup),
    };

    test_seed("frame_hotplug_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
