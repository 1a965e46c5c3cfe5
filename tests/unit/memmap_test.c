/*
 * memmap_test.c - the boot memory map: firmware's lies, reservations, allocation before the
 * allocator.  The randomised comparison with a page map is in property/frame_prop.c.
 */
#include <quire_test.h>

#include <quire/memmap.h>

#define CAP 4096
static struct quire_mem_range ranges[CAP], reserved[CAP];

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static struct quire_memmap fresh(void)
{
    struct quire_memmap m;

    quire_memmap_init(&m, ranges, CAP, reserved, CAP);
    return m;
}

static void add(struct quire_memmap *m, uint64_t base, uint64_t len, enum quire_mem_kind kind)
{
    assert_int_equal(quire_memmap_add(m, Q_PA(base), len, kind), QUIRE_OK);
}

static void expect(const struct quire_memmap *m, uint32_t i, uint64_t base, uint64_t len,
                   unsigned kind, unsigned node)
{
    assert_true(i < m->n);
    assert_int_equal(m->ranges[i].base.v, base);
    assert_int_equal(m->ranges[i].len, len);
    assert_int_equal(m->ranges[i].kind, kind);
    assert_int_equal(m->ranges[i].node, node);
}

static void unsorted_and_overlapping(void **state)
{
    struct quire_memmap m = fresh();

    (void)state;
    add(&m, 8 * MIB, 8 * MIB, QUIRE_MEM_USABLE);
    add(&m, 0, 4 * MIB, QUIRE_MEM_USABLE);
    add(&m, 3 * MIB, 6 * MIB, QUIRE_MEM_RESERVED);
    add(&m, 5 * MIB, 1 * MIB, QUIRE_MEM_USABLE); /* loses to the reserved range around it */
    add(&m, 3 * MIB + 4096, 4096, QUIRE_MEM_BAD);
    expect(&m, 0, 0, 3 * MIB, QUIRE_MEM_USABLE, 0);
    expect(&m, 1, 3 * MIB, 4096, QUIRE_MEM_RESERVED, 0);
    expect(&m, 2, 3 * MIB + 4096, 4096, QUIRE_MEM_BAD, 0);
    expect(&m, 3, 3 * MIB + 8192, 6 * MIB - 8192, QUIRE_MEM_RESERVED, 0);
    expect(&m, 4, 9 * MIB, 7 * MIB, QUIRE_MEM_USABLE, 0);
    assert_int_equal(m.n, 5);
    assert_int_equal(quire_memmap_usable(&m), 10 * MIB);
    assert_int_equal(quire_memmap_top(&m), 16 * MIB);
}

static void pages_are_whole(void **state)
{
    struct quire_memmap m = fresh();

    (void)state;
    add(&m, 1, 4095 + 4096, QUIRE_MEM_USABLE);
    expect(&m, 0, 4096, 4096, QUIRE_MEM_USABLE, 0);
    add(&m, 5 * 4096 - 1, 2, QUIRE_MEM_RESERVED);
    expect(&m, 1, 4 * 4096, 2 * 4096, QUIRE_MEM_RESERVED, 0);
    add(&m, MIB + 100, 3000, QUIRE_MEM_USABLE); /* no whole page in it */
    add(&m, UINT64_MAX - 10, 11, QUIRE_MEM_USABLE);
    add(&m, MIB, 0, QUIRE_MEM_BAD);
    assert_int_equal(m.n, 2);
}

static void the_end_of_the_address_space(void **state)
{
    struct quire_memmap m = fresh();

    (void)state;
    add(&m, UINT64_MAX - 8191, 8192, QUIRE_MEM_USABLE); /* ends at 2^64 exactly */
    assert_int_equal(quire_memmap_add(&m, Q_PA(UINT64_MAX - 8191), 8193, QUIRE_MEM_USABLE),
                     QUIRE_OVERFLOW);
    assert_int_equal(quire_memmap_add(&m, Q_PA(4096), UINT64_MAX, QUIRE_MEM_RESERVED),
                     QUIRE_OVERFLOW);
    assert_int_equal(quire_memmap_add(&m, Q_PA(0), 4096, QUIRE_MEM_KINDS), QUIRE_INVALID);
    assert_int_equal(m.n, 1);
    assert_int_equal(quire_memmap_usable(&m), 8192);
    assert_int_equal(quire_memmap_top(&m), UINT64_MAX & ~4095ull);

    /* everything there is: two ranges, for no length says 2^64 */
    add(&m, 1, UINT64_MAX, QUIRE_MEM_BAD);
    assert_int_equal(m.n, 2);
    assert_int_equal(m.ranges[0].base.v, 0);
    assert_int_equal(m.ranges[1].base.v, m.ranges[0].len);
    assert_int_equal(m.ranges[1].base.v + m.ranges[1].len, 0);
    assert_int_equal(quire_memmap_usable(&m), 0);
    assert_int_equal(quire_memmap_top(&m), 0);
}

static void thousands_of_entries(void **state)
{
    struct quire_memmap m = fresh();
    uint64_t usable = 0;

    (void)state;
    /* every second page, in an order that is neither sorted nor reversed */
    for (uint64_t i = 0; i < 2000; i++) {
        add(&m, (i * 769 % 2000) * 8192, 4096, i % 3 ? QUIRE_MEM_USABLE : QUIRE_MEM_RESERVED);
        usable += i % 3 ? 4096 : 0;
    }
    assert_int_equal(m.n, 2000);
    assert_int_equal(quire_memmap_usable(&m), usable);
    for (uint32_t i = 0; i < m.n; i++)
        assert_int_equal(m.ranges[i].base.v, i * 8192ull);
    add(&m, 0, 2000 * 8192, QUIRE_MEM_BAD); /* and all of it is bad after all */
    assert_int_equal(m.n, 1);
}

static void a_full_array_changes_nothing(void **state)
{
    struct quire_mem_range few[3], before[3];
    struct quire_memmap m;

    (void)state;
    quire_memmap_init(&m, few, 3, reserved, 1);
    add(&m, 0, MIB, QUIRE_MEM_USABLE);
    add(&m, 2 * MIB, MIB, QUIRE_MEM_USABLE);
    memcpy(before, few, sizeof few);
    /* would be four */
    assert_int_equal(quire_memmap_add(&m, Q_PA(4096), 4096, QUIRE_MEM_RESERVED), QUIRE_TOO_MANY);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(4096), 4096, 1), QUIRE_TOO_MANY);
    assert_int_equal(m.n, 2);
    assert_memory_equal(before, few, 2 * sizeof few[0]);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(0), 4096, "a", NULL), QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(8192), 4096, "b", NULL), QUIRE_TOO_MANY);
    assert_int_equal(m.nreserved, 1);
}

/* proves: VE-09 */
static void reservations_have_owners_and_never_overlap(void **state)
{
    struct quire_memmap m = fresh();
    struct quire_mem_range clash;

    (void)state;
    add(&m, 0, 64 * MIB, QUIRE_MEM_USABLE);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(2 * MIB), 3 * MIB, "kernel", NULL), QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(5 * MIB), MIB, "initramfs", NULL), QUIRE_OK);
    for (uint64_t at = 1 * MIB; at < 6 * MIB; at += 4096) {
        bool hits = at + 8192 > 2 * MIB;
        uint32_t n = m.nreserved;

        if (!hits)
            continue;
        assert_int_equal(quire_memmap_reserve(&m, Q_PA(at), 8192, "late", &clash), QUIRE_OVERLAP);
        assert_string_equal(clash.owner, at < 5 * MIB ? "kernel" : "initramfs");
        assert_int_equal(m.nreserved, n);
    }
    /* a single byte keeps its page */
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(8 * MIB + 5), 1, "byte", NULL), QUIRE_OK);
    assert_string_equal(quire_memmap_owner(&m, Q_PA(8 * MIB + 4095))->owner, "byte");
    assert_null(quire_memmap_owner(&m, Q_PA(8 * MIB + 4096)));
    assert_null(quire_memmap_owner(&m, Q_PA(2 * MIB - 1)));
    assert_string_equal(quire_memmap_owner(&m, Q_PA(2 * MIB))->owner, "kernel");
    /* also where there is no memory, and up to the end */
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(0xfec00000), 4096, "ioapic", NULL), QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(UINT64_MAX), 1, "last", NULL), QUIRE_OK);
    assert_string_equal(quire_memmap_owner(&m, Q_PA(UINT64_MAX - 1))->owner, "last");
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(UINT64_MAX), 2, "past", NULL), QUIRE_OVERFLOW);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(1), UINT64_MAX, "all", NULL), QUIRE_OVERFLOW);
}

/* What a PC reserves: allocation never returns any of it.
 * proves: VE-10 */
static void standard_reservations(void **state)
{
    static const struct {
        uint64_t base, len;
        const char *owner;
    } standard[] = {
        {0, MIB, "BIOS"},
        {2 * MIB, 6 * MIB, "kernel"},
        {30 * MIB, 65536, "ACPI tables"},
        {0xfee00000, 4096, "local APIC"},
    };
    struct quire_memmap m = fresh();
    uint64_t total = 0;
    q_pa pa;

    (void)state;
    add(&m, 0, 32 * MIB, QUIRE_MEM_USABLE);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(quire_memmap_reserve(&m, Q_PA(standard[i].base), standard[i].len,
                                              standard[i].owner, NULL),
                         QUIRE_OK);
    /* boot allocations of two kinds until nothing is left: each inside, in no reservation */
    for (uint64_t len = 1 * MIB; len >= 4096; len /= 16)
        for (;;) {
            enum quire_status s = quire_memmap_alloc(&m, len, 4096, 0, 0, "boot", &pa);

            if (s != QUIRE_OK) {
                assert_int_equal(s, QUIRE_NO_MEMORY);
                break;
            }
            for (unsigned i = 0; i < 4; i++)
                assert_true(pa.v + len <= standard[i].base ||
                            pa.v >= standard[i].base + standard[i].len);
            assert_true(pa.v + len <= 32 * MIB);
            total += len;
        }
    assert_int_equal(total, 32 * MIB - MIB - 6 * MIB - 65536);
    assert_string_equal(quire_memmap_owner(&m, Q_PA(20 * MIB))->owner, "boot");
}

static void allocation_before_the_allocator(void **state)
{
    struct quire_memmap m = fresh();
    q_pa pa;

    (void)state;
    add(&m, 0, 2 * GIB, QUIRE_MEM_USABLE);
    add(&m, 4 * GIB, GIB, QUIRE_MEM_USABLE);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(4 * GIB), GIB, 1), QUIRE_OK);

    assert_int_equal(quire_memmap_alloc(&m, 10, 4096, 0, 1, "a", &pa), QUIRE_OK);
    assert_int_equal(pa.v, 5 * GIB - 4096); /* from the top, rounded up to a page */
    assert_int_equal(quire_memmap_alloc(&m, 4096, 2 * MIB, 0, 1, "b", &pa), QUIRE_OK);
    assert_int_equal(pa.v, 5 * GIB - 2 * MIB);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 0, 0, "c", &pa), QUIRE_OK);
    assert_int_equal(pa.v, 2 * GIB - 4096); /* its node first, though the other is higher */
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 16 * MIB, 1, "d", &pa), QUIRE_OK);
    assert_int_equal(pa.v, 16 * MIB - 4096); /* the limit counts more than the node */
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 4096, 0, "e", &pa), QUIRE_NO_MEMORY);
    assert_int_equal(quire_memmap_alloc(&m, 3 * GIB, 4096, 0, 0, "f", &pa), QUIRE_NO_MEMORY);
    assert_int_equal(quire_memmap_alloc(&m, UINT64_MAX, 4096, 0, 0, "g", &pa), QUIRE_NO_MEMORY);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 2048, 0, 0, "h", &pa), QUIRE_INVALID);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 12288, 0, 0, "i", &pa), QUIRE_INVALID);
    assert_int_equal(quire_memmap_alloc(&m, 0, 4096, 0, 0, "j", &pa), QUIRE_INVALID);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 1ull << 63, 0, 0, "k", &pa), QUIRE_NO_MEMORY);
}

static void page_after_page_is_one_reservation(void **state)
{
    static const char owner[] = "page tables";
    struct quire_memmap m;
    q_pa pa;

    (void)state;
    quire_memmap_init(&m, ranges, CAP, reserved, 2);
    add(&m, 0, 64 * MIB, QUIRE_MEM_USABLE);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(0), MIB, "BIOS", NULL), QUIRE_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 0, 0, owner, &pa), QUIRE_OK);
    assert_int_equal(m.nreserved, 2);
    assert_int_equal(m.reserved[1].len, 1000 * 4096);
}

static void nodes_split_and_merge_ranges(void **state)
{
    struct quire_memmap m = fresh();

    (void)state;
    add(&m, 0, 8 * MIB, QUIRE_MEM_USABLE);
    add(&m, 2 * MIB, MIB, QUIRE_MEM_RESERVED);
    /* borders inside a page go down: the two nodes still meet */
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(MIB + 10), 4 * MIB, 1), QUIRE_OK);
    expect(&m, 0, 0, MIB, QUIRE_MEM_USABLE, 0);
    expect(&m, 1, MIB, MIB, QUIRE_MEM_USABLE, 1);
    expect(&m, 2, 2 * MIB, MIB, QUIRE_MEM_RESERVED, 0);
    expect(&m, 3, 3 * MIB, 2 * MIB, QUIRE_MEM_USABLE, 1);
    expect(&m, 4, 5 * MIB, 3 * MIB, QUIRE_MEM_USABLE, 0);
    assert_int_equal(m.n, 5);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(0), UINT64_MAX, 0), QUIRE_OK);
    assert_int_equal(m.n, 3);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(0), 4096, QUIRE_MAX_NODES), QUIRE_INVALID);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(4096), UINT64_MAX, 0), QUIRE_OVERFLOW);
}

/* What may come is less than what is there, and its node may be open. */
static void memory_that_may_come(void **state)
{
    struct quire_memmap m = fresh();
    q_pa pa;

    (void)state;
    add(&m, 4 * MIB, 12 * MIB, QUIRE_MEM_HOTPLUG);
    add(&m, 0, 8 * MIB, QUIRE_MEM_USABLE);
    add(&m, 12 * MIB, MIB, QUIRE_MEM_RESERVED);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(0), 10 * MIB, 1), QUIRE_OK);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(0), 12 * MIB, QUIRE_NODE_ANY), QUIRE_OK);
    expect(&m, 0, 0, 8 * MIB, QUIRE_MEM_USABLE, 1);
    expect(&m, 1, 8 * MIB, 4 * MIB, QUIRE_MEM_HOTPLUG, QUIRE_NODE_ANY);
    expect(&m, 2, 12 * MIB, MIB, QUIRE_MEM_RESERVED, 0);
    expect(&m, 3, 13 * MIB, 3 * MIB, QUIRE_MEM_HOTPLUG, 0);
    assert_int_equal(m.n, 4);
    assert_int_equal(quire_memmap_usable(&m), 8 * MIB);
    assert_int_equal(quire_memmap_top(&m), 8 * MIB);
    assert_int_equal(quire_memmap_alloc(&m, 9 * MIB, 4096, 0, 0, "big", &pa), QUIRE_NO_MEMORY);
}

/* The whole of 2^64 bytes: a length that cannot be written, so that it is two ranges. */
static void everything_is_two_ranges(void **state)
{
    struct quire_memmap m = fresh();

    (void)state;
    add(&m, 0, UINT64_MAX, QUIRE_MEM_RESERVED); /* rounded up to whole pages */
    assert_int_equal(m.n, 2);
    expect(&m, 0, 0, 1ull << 63, QUIRE_MEM_RESERVED, 0);
    expect(&m, 1, 1ull << 63, 1ull << 63, QUIRE_MEM_RESERVED, 0);
    assert_int_equal(quire_memmap_usable(&m), 0);

    m = fresh();
    add(&m, 0, 1ull << 63, QUIRE_MEM_USABLE);
    add(&m, 1ull << 63, 1ull << 63, QUIRE_MEM_USABLE);
    assert_int_equal(m.n, 2);
    assert_int_equal(quire_memmap_usable(&m), QUIRE_PAGE_MASK);
    assert_int_equal(quire_memmap_top(&m), QUIRE_PAGE_MASK);
}

/* What has no byte, or no whole page, changes nothing, wherever it is. */
static void nothing_changes_nothing(void **state)
{
    struct quire_memmap m = fresh();

    (void)state;
    add(&m, 0, 100, QUIRE_MEM_USABLE);
    assert_int_equal(m.n, 0);
    add(&m, MIB, MIB, QUIRE_MEM_USABLE);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(MIB), 0, 1), QUIRE_OK);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(MIB + 4096), 4095, 1), QUIRE_OK);
    assert_int_equal(quire_memmap_reserve(&m, Q_PA(MIB), 0, "none", NULL), QUIRE_OK);
    assert_int_equal(m.nreserved, 0);
    assert_int_equal(m.n, 1);
    expect(&m, 0, MIB, MIB, QUIRE_MEM_USABLE, 0);
}

/* An array without a free entry still takes a change that needs none. */
static void a_full_array_may_change(void **state)
{
    struct quire_mem_range few[2], held[1];
    struct quire_memmap m;
    q_pa pa;

    (void)state;
    quire_memmap_init(&m, few, 2, held, 1);
    add(&m, MIB, MIB, QUIRE_MEM_USABLE);
    add(&m, 4 * MIB, MIB, QUIRE_MEM_USABLE);
    assert_int_equal(quire_memmap_set_node(&m, Q_PA(4 * MIB), MIB, 1), QUIRE_OK);
    expect(&m, 0, MIB, MIB, QUIRE_MEM_USABLE, 0);
    expect(&m, 1, 4 * MIB, MIB, QUIRE_MEM_USABLE, 1);
    /* nor does it take memory that it could not write down; a neighbour of the same owner it can */
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 0, 0, "a", &pa), QUIRE_OK);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 0, 0, "b", &pa), QUIRE_TOO_MANY);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 0, 1, "a", &pa), QUIRE_TOO_MANY);
    assert_int_equal(m.nreserved, 1);
    assert_int_equal(held[0].len, 4096);
    assert_int_equal(quire_memmap_alloc(&m, 4096, 4096, 0, 0, held[0].owner, &pa), QUIRE_OK);
    assert_int_equal(m.nreserved, 1);
    assert_int_equal(held[0].len, 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsorted_and_overlapping),
        cmocka_unit_test(pages_are_whole),
        cmocka_unit_test(the_end_of_the_address_space),
        cmocka_unit_test(thousands_of_entries),
        cmocka_unit_test(a_full_array_changes_nothing),
        cmocka_unit_test(reservations_have_owners_and_never_overlap),
        cmocka_unit_test(standard_reservations),
        cmocka_unit_test(allocation_before_the_allocator),
        cmocka_unit_test(page_after_page_is_one_reservation),
        cmocka_unit_test(nodes_split_and_merge_ranges),
        cmocka_unit_test(memory_that_may_come),
        cmocka_unit_test(everything_is_two_ranges),
        cmocka_unit_test(nothing_changes_nothing),
        cmocka_unit_test(a_full_array_may_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
