/*
 * space_hold_test.c - private pages that somebody holds: as long as the program has the page, what it writes is
 * what the holder reads, and what the holder (a device) writes is what it reads, whatever it does meanwhile.
 */
#include <space_fixture.h>

static uint64_t copies_before;

/* Pages that were copied in this test. */
static uint64_t copies(void) { return count(QUIRE_EVENT_FAULT_COW_COPY) - copies_before; }

static int setup_hold(void **state)
{
    copies_before = count(QUIRE_EVENT_FAULT_COW_COPY);
    return setup(state);
}

static uint64_t *hold(struct quire_space *of, uint64_t at, unsigned access,
                      struct quire_page **page)
{
    OK(quire_space_page(of, Q_UVA(at), access, page));
    return quire_page_ptr(*page);
}

static void rights(struct quire_space *of, uint64_t at, uint64_t len, unsigned prot)
{
    OK(quire_mprotect(of, Q_UVA(at), len, prot));
}

/* One of at and the device writes, the other sees it. */
static void share_words(struct quire_space *of, uint64_t at, uint64_t *device, uint64_t value)
{
    OK(store(of, at, value));
    assert_int_equal(device[0], value);
    device[1] = value + 1;
    expect(of, at + 8, value + 1);
}

/* ---- Rights ---- */

static void rights_go_and_come_back_to_the_same_page(void **state)
{
    static const unsigned less[] = {QUIRE_READ, 0, QUIRE_READ | QUIRE_EXEC};
    uint64_t at = map_anon(s, 3 * PAGE), *device;
    struct quire_page *page;

    (void)state;
    device = hold(s, at + PAGE, QUIRE_WRITE, &page);
    for (unsigned i = 0; i < 3; i++) {
        rights(s, at, 3 * PAGE, less[i]);
        assert_int_equal(store(s, at + PAGE, 1), QUIRE_SEGV_ACCERR);
        device[2] = i;
        rights(s, at, 3 * PAGE, RW);
        share_words(s, at + PAGE, device, 100 * i);
        expect(s, at + PAGE + 16, i);
        assert_ptr_equal(page_at(s, at + PAGE), page);
    }
    assert_int_equal(copies(), 0);
    quire_page_put(page);
}

/* Not even a fault: the right to write comes back with mprotect. */
static void rights_come_back_without_a_fault(void **state)
{
    uint64_t at = map_anon(s, 600 * PAGE);
    struct quire_page *page[3];

    (void)state;
    for (unsigned i = 0; i < 600; i++)
        OK(store(s, at + i * PAGE, i));
    for (unsigned i = 0; i < 3; i++)
        (void)hold(s, at + i * PAGE, i ? QUIRE_WRITE : QUIRE_READ, &page[i]);
    rights(s, at, 600 * PAGE, QUIRE_READ);
    rights(s, at, 600 * PAGE, RW);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(leaf(s, at + i * PAGE).prot, RW | QUIRE_USER);
    for (unsigned i = 0; i < 3; i++)
        quire_page_put(page[i]);
}

/* Two that both want the page for themselves: the slower finds it OWN already, and held by the faster. */
static void what_became_ours_meanwhile_is_not_copied(void **state)
{
    uint64_t at = map_anon(s, PAGE), *device;
    struct quire_page *page;

    (void)state;
    OK(store(s, at, 1));
    rights(s, at, PAGE, QUIRE_READ);
    device = hold(s, at, QUIRE_READ, &page);
    qi_rwsem_read_lock(&s->lock);
    OK(qi_fault_page(qi_vma_find(s, at), at, QUIRE_WRITE));
    qi_rwsem_read_unlock(&s->lock);
    assert_ptr_equal(page_at(s, at), page);
    assert_int_equal(leaf(s, at).prot, QUIRE_READ | QUIRE_USER);
    rights(s, at, PAGE, RW);
    share_words(s, at, device, 5);
    quire_page_put(page);
}

/* A debugger writes into memory that may not be written, and that a device has. */
static void a_forced_write_reaches_the_holder(void **state)
{
    uint64_t at = map_anon(s, PAGE), *device, value = 7;
    struct quire_page *page;
    size_t done;

    (void)state;
    device = hold(s, at, QUIRE_WRITE, &page);
    rights(s, at, PAGE, QUIRE_READ);
    OK(quire_space_write(s, Q_UVA(at), &value, sizeof value, true, &done));
    assert_int_equal(device[0], 7);
    assert_int_equal(leaf(s, at).prot, QUIRE_READ | QUIRE_USER);
    rights(s, at, PAGE, RW);
    share_words(s, at, device, 8);
    quire_page_put(page);
}

/* ---- fork ---- */

/* A page that a device writes to stays the parent's at fork; the child has what was there. */
static void held_pages_are_not_shared_at_fork(void **state)
{
    uint64_t at = map_anon(s, 2 * PAGE), *device;
    struct quire_space *child;
    struct quire_page *page;

    (void)state;
    OK(store(s, at, 1));
    OK(store(s, at + PAGE, 2));
    device = hold(s, at, QUIRE_WRITE, &page);
    quire_frame_fail_after(2); /* a table or the copy: nothing is left of the child */
    assert_int_equal(quire_space_fork(s, &child), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    OK(quire_space_fork(s, &child));
    OK(store(s, at + 8, 3));
    *device = 4;
    quire_page_put(page);
    expect(s, at, 4);
    expect(s, at + 8, 3);
    expect(s, at + PAGE, 2);
    expect(child, at, 1);
    expect(child, at + 8, 0);
    expect(child, at + PAGE, 2);
    assert_int_equal(stats(child).rss_anon, 2);
    assert_int_equal(quire_space_verify(child), QUIRE_OK);
    quire_space_put(child);
}

/* Nor is one that may not be written at that moment. */
static void a_held_page_without_rights_is_not_shared_either(void **state)
{
    static const unsigned less[] = {QUIRE_READ, 0};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t at = map_anon(s, PAGE), *device;
        struct quire_space *child;
        struct quire_page *page;

        OK(store(s, at, 1));
        device = hold(s, at, i ? QUIRE_READ : QUIRE_WRITE, &page);
        rights(s, at, PAGE, less[i]);
        OK(quire_space_fork(s, &child));
        rights(s, at, PAGE, RW);
        share_words(s, at, device, 50);
        expect(child, at, 1);
        rights(child, at, PAGE, RW);
        OK(store(child, at, 2)); /* a page of its own already */
        assert_int_equal(copies(), 0);
        assert_int_equal(device[0], 50);
        OK(quire_space_verify(child));
        quire_space_put(child);
        quire_page_put(page);
    }
}

/* A page that is shared when somebody asks for it becomes one's own first, so that he sees the next write. */
static void who_holds_a_shared_page_to_read_it_sees_what_comes(void **state)
{
    uint64_t at = map_anon(s, PAGE), *device;
    struct quire_space *child;
    struct quire_page *page;

    (void)state;
    OK(store(s, at, 1));
    OK(quire_space_fork(s, &child));
    quire_frame_fail_after(1);
    assert_int_equal(quire_space_page(s, Q_UVA(at), QUIRE_READ, &page), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_ptr_equal(page_at(s, at), page_at(child, at));
    device = hold(s, at, QUIRE_READ, &page);
    assert_int_equal(copies(), 1);
    assert_int_equal(device[0], 1);
    share_words(s, at, device, 2);
    expect(child, at, 1);
    quire_page_put(page);
    device = hold(child, at, QUIRE_READ, &page); /* alone by now: no copy */
    share_words(child, at, device, 3);
    expect(s, at, 2);
    quire_page_put(page);
    assert_int_equal(copies(), 1);
    quire_space_put(child);
}

/* The same where nothing may be written: a copy with the rights that the mapping gives. */
static void a_shared_page_that_may_not_be_written_becomes_ones_own_too(void **state)
{
    uint64_t at = map_anon(s, PAGE), *device;
    struct quire_space *child;
    struct quire_page *page;

    (void)state;
    OK(store(s, at, 1));
    rights(s, at, PAGE, QUIRE_READ);
    OK(quire_space_fork(s, &child));
    device = hold(child, at, QUIRE_READ, &page);
    assert_ptr_not_equal(page_at(s, at), page);
    assert_int_equal(leaf(child, at).prot, QUIRE_READ | QUIRE_USER);
    OK(quire_space_verify(child));
    rights(child, at, PAGE, RW);
    share_words(child, at, device, 9);
    expect(s, at, 1);
    quire_space_put(child);
    quire_page_put(page);
    rights(s, at, PAGE, RW); /* nobody shares it any more */
    assert_int_equal(leaf(s, at).prot, RW | QUIRE_USER);
}

/* What a program only reads is the file's, or nobody's: held as it is, without a copy. */
static void pages_that_are_not_the_programs_are_held_as_they_are(void **state)
{
    uint64_t at = map_anon(s, PAGE), private;
    struct quire_page *zero, *page, *own;
    struct quire_object *o;

    (void)state;
    OK(quire_object_create_shared(PAGE, &o));
    private = map_object(o, PAGE, RW, QUIRE_MAP_PRIVATE);
    (void)hold(s, at, QUIRE_READ, &zero);
    assert_int_equal(quire_pfn_of_page(zero).v, qi_zero_pfn().v);
    (void)hold(s, private, QUIRE_READ, &page);
    own = quire_object_peek(o, 0);
    assert_ptr_equal(page, own);
    quire_page_put(own);
    OK(store(s, private, 3)); /* the program has its own now, and the holder the file's */
    assert_int_equal(*(uint64_t *)quire_page_ptr(page), 0);
    quire_page_put(page);
    quire_page_put(zero);
    quire_object_put(o);
}

/* ---- Huge pages, and pages that go elsewhere ---- */

/* proves: TRAP-7 */
static void the_parts_of_a_huge_page_are_ours_alone(void **state)
{
    uint64_t at = map_huge(0x40000000), *device;
    struct quire_page *page;

    (void)state;
    for (unsigned i = 0; i < 512; i++)
        OK(store(s, at + i * PAGE, i));
    rights(s, at, 2 * MIB, QUIRE_READ);
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    device = hold(s, at + 7 * PAGE, QUIRE_READ, &page); /* cuts it */
    assert_int_equal(leaf(s, at).leaf_shift, 12);
    rights(s, at, 2 * MIB, RW);
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(leaf(s, at + i * PAGE).prot, RW | QUIRE_USER);
    share_words(s, at + 7 * PAGE, device, 70);
    assert_int_equal(copies(), 0);
    quire_page_put(page);
}

static void a_huge_page_gets_its_rights_back_whole(void **state)
{
    uint64_t at = map_huge(0x40000000);

    (void)state;
    rights(s, at, 2 * MIB, 0);
    rights(s, at, 2 * MIB, RW);
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    assert_int_equal(leaf(s, at).prot, RW | QUIRE_USER);
    expect(s, at, 1);
}

static void a_held_page_may_change_its_address(void **state)
{
    uint64_t at = map_fixed(0x40000000, 4 * MIB, RW, PRIV), *device;
    struct quire_page *page;
    q_uva to;

    (void)state;
    device = hold(s, at + 5 * PAGE, QUIRE_WRITE, &page);
    /* one leaf, then the whole table */
    for (unsigned i = 0; i < 2; i++) {
        uint64_t len = i ? 2 * MIB : 8 * PAGE, want = i ? 0x80000000 : 0x50001000;

        OK(quire_mremap(s, Q_UVA(at), len, len, QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED,
                        Q_UVA(want), &to));
        at = want;
        rights(s, at, len, QUIRE_READ);
        rights(s, at, len, RW);
        share_words(s, at + 5 * PAGE, device, 10 * i);
        if (!i) { /* to where it lies as the target does */
            map_fixed(0x60000000, 2 * MIB, RW, PRIV);
            OK(quire_mremap(s, Q_UVA(at), len, len, QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED,
                            Q_UVA(0x60000000), &to));
            at = 0x60000000;
        }
    }
    assert_int_equal(copies(), 0);
    quire_page_put(page);
}

/* The mover leaves it alone; when nobody holds it, it moves, and is still ours alone. */
static void a_page_is_ours_alone_wherever_it_moves(void **state)
{
    uint64_t at = map_anon(s, PAGE), *device;
    struct quire_page *page;

    (void)state;
    device = hold(s, at, QUIRE_WRITE, &page);
    rights(s, at, PAGE, QUIRE_READ);
    assert_int_equal(quire_space_move_range(quire_pfn_of_page(page), 1), 0);
    rights(s, at, PAGE, RW);
    share_words(s, at, device, 20);
    rights(s, at, PAGE, QUIRE_READ);
    quire_page_put(page);
    assert_int_equal(quire_space_move_range(quire_pfn_of_page(page), 1), 1);
    assert_ptr_not_equal(page_at(s, at), page);
    device = hold(s, at, QUIRE_READ, &page);
    rights(s, at, PAGE, RW);
    assert_int_equal(leaf(s, at).prot, RW | QUIRE_USER);
    share_words(s, at, device, 30);
    quire_page_put(page);
}

#define H(name) cmocka_unit_test_setup_teardown(name, setup_hold, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        H(rights_go_and_come_back_to_the_same_page),
        H(rights_come_back_without_a_fault),
        H(what_became_ours_meanwhile_is_not_copied),
        H(a_forced_write_reaches_the_holder),
        H(held_pages_are_not_shared_at_fork),
        H(a_held_page_without_rights_is_not_shared_either),
        H(who_holds_a_shared_page_to_read_it_sees_what_comes),
        H(a_shared_page_that_may_not_be_written_becomes_ones_own_too),
        H(pages_that_are_not_the_programs_are_held_as_they_are),
        H(the_parts_of_a_huge_page_are_ours_alone),
        H(a_huge_page_gets_its_rights_back_whole),
        H(a_held_page_may_change_its_address),
        H(a_page_is_ours_alone_wherever_it_moves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
