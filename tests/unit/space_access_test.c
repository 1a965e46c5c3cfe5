/*
 * space_access_test.c - a space seen from outside: reading and writing it with and without force,
 * its pages, futex keys, and what its mappings are said to hold.
 */
#include <space_fixture.h>

static enum quire_status fill_status;

static enum quire_status fill(void *cookie, uint64_t index, void *page)
{
    (void)cookie;
    ((uint64_t *)page)[0] = 0x1000 + index;
    return fill_status;
}
static const struct quire_pager pager = {.fill = fill};

static struct quire_object *file(uint64_t pages)
{
    struct quire_object *o;

    fill_status = QUIRE_OK;
    OK(quire_object_create_file(&pager, NULL, pages * PAGE, &o));
    return o;
}

static struct quire_object *device(uint64_t pages)
{
    struct quire_object *o;

    OK(quire_object_create_device(Q_PA(0xfee00000), pages * PAGE, QUIRE_UNCACHED, &o));
    return o;
}

static enum quire_status force(uint64_t at, uint64_t value)
{
    size_t done;

    return quire_space_write(s, Q_UVA(at), &value, sizeof value, true, &done);
}

/* ---- Reading and writing ---- */

static void copies_stop_at_the_first_bad_page(void **state)
{
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV), end = s->end;
    static char bytes[4 * PAGE];
    size_t done = 99;

    (void)state;
    OK(quire_munmap(s, Q_UVA(at + 2 * PAGE), PAGE));
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(quire_space_write(s, Q_UVA(at + 10), bytes, 3 * PAGE, false, &done),
                     QUIRE_SEGV_MAPERR);
    assert_int_equal(done, 2 * PAGE - 10);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(quire_space_read(s, Q_UVA(at), bytes, 4 * PAGE, false, &done),
                     QUIRE_SEGV_MAPERR);
    assert_int_equal(done, 2 * PAGE);
    assert_int_equal(bytes[9], 0);
    assert_int_equal(bytes[10], 'x');
    assert_int_equal(bytes[2 * PAGE - 1], 'x');

    map_fixed(end - PAGE, PAGE, RW, PRIV);
    assert_int_equal(quire_space_write(s, Q_UVA(end - 8), bytes, 16, false, &done),
                     QUIRE_SEGV_MAPERR);
    assert_int_equal(done, 8);
    assert_int_equal(quire_space_read(s, Q_UVA(end - 8), bytes, 16, true, &done),
                     QUIRE_SEGV_MAPERR);
    assert_int_equal(done, 8);
    assert_int_equal(quire_space_read(s, Q_UVA(~0ull - 7), bytes, 16, true, &done),
                     QUIRE_SEGV_MAPERR);
    assert_int_equal(done, 0);
    OK(quire_space_read(s, Q_UVA(~0ull), bytes, 0, true, &done));
}

/* proves: TRAP-10 */
static void force_reads_what_is_closed(void **state)
{
    uint64_t at = map_fixed(0x100000, 2 * PAGE, RW, PRIV), got = 1;
    size_t done;

    (void)state;
    OK(store(s, at, 77));
    OK(quire_mprotect(s, Q_UVA(at), 2 * PAGE, 0));
    assert_int_equal(quire_space_read(s, Q_UVA(at), &got, 8, false, &done), QUIRE_SEGV_ACCERR);
    expect(s, at, 77);
    expect(s, at + PAGE, 0); /* touched for the first time by force */
    assert_int_equal(quire_fault(s, Q_UVA(at + PAGE), QUIRE_READ), QUIRE_SEGV_ACCERR);
    OK(quire_mprotect(s, Q_UVA(at), 2 * PAGE, RW));
    OK(store(s, at + PAGE, 5));
    expect(s, at + PAGE, 5);
    expect(s, at, 77);
}

/* A forced write gives the mapping a copy of its own, which it still may not write itself. */
/* proves: TRAP-8 TRAP-10 */
static void force_writes_a_private_copy(void **state)
{
    struct quire_object *o = file(4);
    uint64_t at = map_fixed(0x100000, 4 * PAGE, RW, PRIV);
    uint64_t text = map_object(o, 4 * PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE), anon;
    uint64_t other = map_object(o, 4 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED);
    struct quire_page *own;
    struct quire_space *child;

    (void)state;
    OK(store(s, at, 1));
    OK(store(s, at + PAGE, 2));
    OK(quire_mprotect(s, Q_UVA(at), 4 * PAGE, QUIRE_READ));
    own = page_at(s, at);
    assert_int_equal(store(s, at, 9), QUIRE_SEGV_ACCERR);
    OK(force(at, 10));
    assert_ptr_equal(page_at(s, at), own); /* ours alone: no copy */
    OK(force(at + 2 * PAGE, 11));          /* in place of the zero page */
    expect(s, at, 10);
    expect(s, at + 2 * PAGE, 11);
    expect(s, at + 3 * PAGE, 0);

    OK(quire_space_fork(s, &child));
    anon = stats(s).rss_anon;
    OK(force(at + PAGE, 12)); /* shared with the child */
    assert_int_equal(stats(s).rss_anon, anon);
    expect(child, at + PAGE, 2);
    expect(s, at + PAGE, 12);
    OK(quire_space_verify(child));
    quire_space_put(child);

    OK(force(text + PAGE, 13)); /* of a file */
    assert_int_equal(stats(s).rss_anon, anon + 1);
    expect(s, text + PAGE, 13);
    expect(s, other + PAGE, 0x1001);
    for (unsigned i = 0; i < 4; i++)
        assert_false(leaf(s, at + i * PAGE).prot & QUIRE_WRITE);
    assert_false(leaf(s, text + PAGE).prot & QUIRE_WRITE);
    OK(quire_space_verify(s));
    quire_object_put(o);
}

static void force_has_its_limits(void **state)
{
    struct quire_object *o = file(4), *d = device(1);
    uint64_t shared = map_object(o, 2 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED);
    uint64_t text = map_object(o, 4 * PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE);
    uint64_t regs = map_object(d, PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE), free_pages;

    (void)state;
    assert_int_equal(force(shared, 1), QUIRE_SEGV_ACCERR);
    assert_int_equal(force(regs, 1), QUIRE_SEGV_ACCERR);
    assert_int_equal(force(0x10000, 1), QUIRE_SEGV_MAPERR);
    fill_status = QUIRE_IO;
    assert_int_equal(force(text + 2 * PAGE, 1), QUIRE_IO);
    fill_status = QUIRE_OK;
    expect(s, text, 0x1000);
    free_pages = quire_free_pages();
    quire_frame_fail_after(1); /* the copy */
    assert_int_equal(force(text, 1), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_int_equal(quire_free_pages(), free_pages);
    expect(s, text, 0x1000);
    OK(quire_munmap(s, Q_UVA(regs), PAGE)); /* the private view of a device: nothing to verify */
    quire_object_put(o);
    quire_object_put(d);
}

/* proves: TRAP-7 */
static void force_leaves_a_huge_page_whole(void **state)
{
    uint64_t at = map_huge(0x40000000);

    (void)state;
    OK(store(s, at + MIB, 5));
    OK(quire_mprotect(s, Q_UVA(at), 2 * MIB, QUIRE_READ));
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    OK(force(at + MIB, 6)); /* nobody shares it */
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    assert_false(leaf(s, at).prot & QUIRE_WRITE);
    expect(s, at + MIB, 6);
    expect(s, at, 1);
    assert_int_equal(stats(s).rss_anon, 512);
}

/* ---- Pages ---- */

static void a_page_is_held_for_whoever_asks(void **state)
{
    uint64_t at = map_fixed(0x100000, 2 * PAGE, RW, PRIV), value = 3;
    struct quire_page *page, *again, *zero;

    (void)state;
    OK(quire_space_page(s, Q_UVA(at + 100), QUIRE_WRITE, &page));
    OK(quire_space_page(s, Q_UVA(at), QUIRE_READ, &again));
    assert_ptr_equal(page, again);
    assert_int_equal(page->refs, 3);
    assert_int_equal(page->maps, 1);
    memcpy(quire_page_ptr(page), &value, sizeof value);
    expect(s, at, 3);
    OK(quire_munmap(s, Q_UVA(at), PAGE));
    assert_int_equal(page->refs, 2); /* it outlives its mapping */
    assert_int_equal(page->maps, 0);
    quire_page_put(page);
    quire_page_put(again);

    OK(quire_space_page(s, Q_UVA(at + PAGE), QUIRE_READ, &zero));
    assert_int_equal(quire_pfn_of_page(zero).v, qi_zero_pfn().v);
    quire_page_put(zero);
    assert_int_equal(quire_space_page(s, Q_UVA(at), QUIRE_READ, &page), QUIRE_SEGV_MAPERR);
    assert_int_equal(quire_space_page(s, Q_UVA(s->end), QUIRE_READ, &page), QUIRE_SEGV_MAPERR);
    assert_int_equal(quire_space_page(s, Q_UVA(~0ull), QUIRE_READ, &page), QUIRE_SEGV_MAPERR);
}

static void a_page_of_a_device_cannot_be_held(void **state)
{
    struct quire_object *d = device(1);
    uint64_t regs = map_object(d, PAGE, RW, QUIRE_MAP_SHARED);
    struct quire_page *page;

    (void)state;
    assert_int_equal(quire_space_page(s, Q_UVA(regs), QUIRE_WRITE, &page), QUIRE_INVALID);
    assert_int_equal(s->lock.state, 0); /* and nothing stays locked */
    quire_object_put(d);
}

/* proves: TRAP-7 */
static void a_held_page_was_made_small_first(void **state)
{
    uint64_t at = map_huge(0x40000000);
    struct quire_page *page;

    (void)state;
    OK(store(s, at + 7 * PAGE, 70));
    quire_frame_fail_after(1);
    assert_int_equal(quire_space_page(s, Q_UVA(at + 7 * PAGE), QUIRE_READ, &page), QUIRE_NO_MEMORY);
    quire_frame_fail_after(-1);
    assert_int_equal(leaf(s, at).leaf_shift, 21);
    OK(quire_space_page(s, Q_UVA(at + 7 * PAGE), QUIRE_READ, &page));
    assert_int_equal(leaf(s, at).leaf_shift, 12);
    assert_int_equal(*(uint64_t *)quire_page_ptr(page), 70);
    OK(quire_munmap(s, Q_UVA(at), 2 * MIB));
    assert_int_equal(*(uint64_t *)quire_page_ptr(page), 70);
    quire_page_put(page);
}

/* ---- Futex keys ---- */

static enum quire_status key(uint64_t at, bool private_hint, struct quire_futex_key *k)
{
    enum quire_status st = quire_space_futex_key(s, Q_UVA(at), private_hint, k);

    if (k->object && st == QUIRE_OK)
        quire_object_put(k->object);
    return st;
}

static void keys_are_equal_where_memory_is(void **state)
{
    struct quire_object *o = file(8);
    uint64_t a = map_object(o, 8 * PAGE, RW, QUIRE_MAP_SHARED), b = 0;
    uint64_t at = map_fixed(0x100000, 2 * PAGE, RW, PRIV);
    struct quire_futex_key ka, kb;

    (void)state;
    OK(map_at(s, &b, 2 * PAGE, QUIRE_READ, QUIRE_MAP_SHARED, o, 3 * PAGE));
    OK(key(a + 4 * PAGE + 12, false, &ka));
    OK(key(b + PAGE + 12, false, &kb));
    assert_memory_equal(&ka, &kb, sizeof ka);
    assert_ptr_equal(ka.object, o);
    OK(key(b + PAGE + 16, false, &kb));
    assert_int_not_equal(ka.b, kb.b);
    OK(key(at, false, &ka));
    OK(key(at, true, &kb));
    assert_memory_equal(&ka, &kb, sizeof ka);
    assert_int_equal(ka.b, at);
    assert_null(ka.object);
    OK(key(0x10000, true, &ka)); /* a hint is believed */

    assert_int_equal(key(0x10000, false, &ka), QUIRE_FAULT);
    assert_int_equal(key(s->end, true, &ka), QUIRE_FAULT);
    assert_int_equal(key(s->end - 4, false, &ka), QUIRE_FAULT);
    OK(quire_mprotect(s, Q_UVA(at), PAGE, 0));
    assert_int_equal(key(at, false, &ka), QUIRE_FAULT);
    quire_object_put(o);
}

/* ---- What mappings hold ---- */

struct seen {
    unsigned n, stop;
    struct quire_vma_info v[8];
};

static bool see(void *ctx, const struct quire_vma_info *info)
{
    struct seen *seen = ctx;

    seen->v[seen->n++] = *info;
    return seen->n != seen->stop;
}

static void mappings_are_listed_until_told_to_stop(void **state)
{
    struct seen seen = {.stop = 2};
    struct quire_vma_info info;

    (void)state;
    map_fixed(0x100000, PAGE, RW, PRIV);
    map_fixed(0x200000, PAGE, QUIRE_READ, PRIV);
    map_fixed(0x300000, PAGE, RW, PRIV);
    quire_space_vmas(s, false, see, &seen);
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.v[1].start.v, 0x200000);
    assert_int_equal(seen.v[1].prot, QUIRE_READ);
    seen = (struct seen){.stop = 0};
    quire_space_vmas(s, true, see, &seen);
    assert_int_equal(seen.n, 3);
    OK(quire_space_vma(s, Q_UVA(0x250000), true, &info));
    assert_int_equal(info.start.v, 0x300000);
    OK(quire_space_vma(s, Q_UVA(0x100fff), false, &info));
    assert_int_equal(info.start.v, 0x100000);
    assert_int_equal(quire_space_vma(s, Q_UVA(0x301000), false, &info), QUIRE_NOT_FOUND);
}

/* Every leaf counts once among shared or private, clean or dirty; a page's size is divided among its
 * mappings. */
static void details_count_every_page_as_what_it_is(void **state)
{
    struct quire_object *o = file(4);
    uint64_t text = map_object(o, 4 * PAGE, QUIRE_READ, QUIRE_MAP_PRIVATE);
    uint64_t view = map_object(o, 4 * PAGE, RW, QUIRE_MAP_SHARED);
    uint64_t at = map_fixed(0x100000, 8 * PAGE, RW, PRIV), huge = map_huge(0x40000000);
    struct quire_page *page;
    struct quire_space *child;
    struct quire_vma_info i;

    (void)state;
    for (unsigned k = 0; k < 3; k++)
        OK(store(s, at + k * PAGE, k));
    expect(s, at + 5 * PAGE, 0); /* the zero page counts nowhere */
    OK(quire_space_vma(s, Q_UVA(huge), true, &i));
    assert_true(i.huge);
    assert_int_equal(i.huge_pages, 512);
    assert_int_equal(i.private_dirty, 512);
    assert_int_equal(i.pss_bytes, 2 * MIB);
    OK(quire_space_fork(s, &child));
    OK(store(s, at, 9));
    OK(quire_space_vma(s, Q_UVA(at), true, &i));
    assert_int_equal(i.rss, 3);
    assert_int_equal(i.anon, 3);
    assert_int_equal(i.shared_dirty, 2);
    assert_int_equal(i.private_dirty, 1);
    assert_int_equal(i.pss_bytes, 2 * PAGE); /* one and two halves */
    assert_int_equal(i.huge_pages, 0);
    OK(quire_space_vma(child, Q_UVA(at), true, &i));
    assert_int_equal(i.rss, 3);
    assert_int_equal(i.referenced, 0); /* not by the child */
    quire_space_put(child);

    expect(s, text, 0x1000);
    OK(quire_space_vma(s, Q_UVA(text), true, &i));
    assert_int_equal(i.rss, 1);
    assert_int_equal(i.anon, 0);
    assert_int_equal(i.private_clean, 1);
    assert_int_equal(i.referenced, 1);
    expect(s, view, 0x1000);
    OK(quire_space_vma(s, Q_UVA(text), true, &i));
    assert_int_equal(i.shared_clean, 1);
    assert_int_equal(i.pss_bytes, PAGE / 2);
    page = page_at(s, text);
    quire_object_dirty(o, page); /* written with write(2): no leaf is dirty */
    OK(quire_space_vma(s, Q_UVA(text), true, &i));
    assert_int_equal(i.shared_clean, 0);
    assert_int_equal(i.shared_dirty, 1);
    quire_object_put(o);
}

static void what_may_be_written_through_a_mapping_is_known(void **state)
{
    struct quire_object *o = file(4);
    struct quire_mmap m = {.len = PAGE,
                           .prot = QUIRE_READ,
                           .flags = QUIRE_MAP_SHARED,
                           .object = o,
                           .max_prot = QUIRE_READ};
    uint64_t offset = 99;
    q_uva at;

    (void)state;
    OK(quire_mmap(s, &m, &at));
    assert_false(quire_object_write_shared(o)); /* mprotect could not allow it */
    assert_int_equal(quire_mprotect(s, at, PAGE, RW), QUIRE_ACCESS);
    assert_null(quire_space_object(s, Q_UVA(at.v - PAGE), &offset));
    assert_null(quire_space_object(s, Q_UVA(s->end), &offset));
    assert_int_equal(offset, 99);
    map_object(o, PAGE, QUIRE_READ, QUIRE_MAP_SHARED);
    assert_true(quire_object_write_shared(o));
    quire_object_put(o);
}

static void events_have_names_and_counts(void **state)
{
    uint64_t before = count(QUIRE_EVENT_MUNMAP);

    (void)state;
    for (unsigned e = 0; e < QUIRE_EVENT_COUNT; e++)
        assert_true(strlen(quire_event_name(e)) > 2);
    assert_string_equal(quire_event_name(QUIRE_EVENT_COUNT), "?");
    assert_int_equal(quire_event_count(QUIRE_EVENT_COUNT), 0);
    hosted_cpu_set(3); /* counted where it happens, summed where it is asked */
    OK(quire_munmap(s, Q_UVA(0x100000), PAGE));
    hosted_cpu_set(0);
    assert_int_equal(count(QUIRE_EVENT_MUNMAP), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(copies_stop_at_the_first_bad_page),
        T(force_reads_what_is_closed),
        T(force_writes_a_private_copy),
        T(force_has_its_limits),
        T(force_leaves_a_huge_page_whole),
        T(a_page_is_held_for_whoever_asks),
        T(a_page_of_a_device_cannot_be_held),
        T(a_held_page_was_made_small_first),
        T(keys_are_equal_where_memory_is),
        T(mappings_are_listed_until_told_to_stop),
        T(details_count_every_page_as_what_it_is),
        T(what_may_be_written_through_a_mapping_is_known),
        T(events_have_names_and_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
