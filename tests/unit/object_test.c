/*
 * object_test.c - src/object: the page tree against a sorted list, and objects: what is refused,
 * pagers that fail or come twice, storing, truncation and holes.
 */
#include <space_fixture.h>

#include <pthread.h>

/* ---- The page tree ---- */

#define ENTRIES 300

static uint64_t keys[ENTRIES]; /* of the model, in order */
static unsigned nkeys;

/* The place in keys of the first that is not below index. */
static unsigned model_find(uint64_t index)
{
    unsigned i = 0;

    while (i < nkeys && keys[i] < index)
        i++;
    return i;
}

static bool model_has(uint64_t index)
{
    unsigned i = model_find(index);

    return i < nkeys && keys[i] == index;
}

static uint64_t entry_of(uint64_t index) { return (index ^ 0x5555) << 2 | 4; }

static void tree_insert(struct qi_pagetree *t, uint64_t index)
{
    struct qi_pagetree_reserve r = {.n = 0};
    unsigned at = model_find(index);

    OK(qi_pagetree_reserve(&r, qi_pagetree_needed(t, index)));
    assert_true(r.n <= QI_PAGETREE_MAX_NODES);
    if (r.n) { /* one node less than it takes */
        struct qi_pagetree_reserve less = r;
        uint64_t before = t->count;

        less.n--;
        assert_false(qi_pagetree_insert(t, index, entry_of(index), &less));
        assert_int_equal(t->count, before);
        assert_int_equal(qi_pagetree_get(t, index), 0);
    }
    assert_true(qi_pagetree_insert(t, index, entry_of(index), &r));
    assert_int_equal(r.n, 0);
    qi_pagetree_unreserve(&r);
    memmove(keys + at + 1, keys + at, (nkeys++ - at) * sizeof keys[0]);
    keys[at] = index;
}

static void tree_remove(struct qi_pagetree *t, uint64_t index)
{
    unsigned at = model_find(index);
    bool had = model_has(index);

    assert_int_equal(qi_pagetree_remove(t, index), had ? entry_of(index) : 0);
    if (had)
        memmove(keys + at, keys + at + 1, (--nkeys - at) * sizeof keys[0]);
}

static void tree_check(const struct qi_pagetree *t, uint64_t index)
{
    unsigned at = model_find(index);
    uint64_t next = index, entry = qi_pagetree_next(t, &next);

    assert_int_equal(t->count, nkeys);
    assert_int_equal(qi_pagetree_get(t, index), model_has(index) ? entry_of(index) : 0);
    if (at == nkeys) {
        assert_int_equal(entry, 0);
    } else {
        assert_int_equal(next, keys[at]);
        assert_int_equal(entry, entry_of(next));
    }
}

/* Indexes of every magnitude, and near those that there are. */
static uint64_t some_index(void)
{
    uint64_t near = nkeys ? keys[test_random_below(nkeys)] : 0;

    switch (test_random_below(4)) {
    case 0: return test_random() >> test_random_below(64);
    case 1: return near + test_random_below(130) - 65;
    case 2: return ~(test_random() >> (40 + test_random_below(24)));
    default: return near;
    }
}

static void the_tree_matches_a_sorted_list(void **state)
{
    struct qi_pagetree t = {.root = NULL};

    (void)state;
    nkeys = 0;
    for (unsigned i = 0; i < 40000; i++) {
        uint64_t index = some_index();

        tree_check(&t, index);
        if (model_has(index) || nkeys == ENTRIES || test_random_below(4) == 0)
            tree_remove(&t, index);
        else
            tree_insert(&t, index);
    }
    while (nkeys)
        tree_remove(&t, keys[nkeys / 2]);
    assert_null(t.root);
    assert_int_equal(t.count, 0);
}

/* From one page to the last index there is: the deepest growth in one step. */
static void one_insertion_may_need_twenty_nodes(void **state)
{
    struct qi_pagetree t = {.root = NULL};
    struct qi_pagetree_reserve r = {.n = 0};
    uint64_t index;

    (void)state;
    nkeys = 0;
    tree_insert(&t, 0);
    OK(qi_pagetree_reserve(&r, qi_pagetree_needed(&t, ~0ull)));
    assert_int_equal(r.n, QI_PAGETREE_MAX_NODES);
    assert_true(qi_pagetree_insert(&t, ~0ull, entry_of(~0ull), &r));
    assert_int_equal(r.n, 0);
    keys[nkeys++] = ~0ull;
    for (index = 1; index; index <<= 1)
        tree_check(&t, index);
    index = 15ull << 60 | 1; /* the last slot of the root, nothing from there to before the end */
    tree_check(&t, index);
    tree_remove(&t, ~0ull);
    tree_check(&t, index);
    tree_insert(&t, 14ull << 60);
    tree_check(&t, index); /* the search runs off the end of all indexes */
    tree_remove(&t, 14ull << 60);
    tree_remove(&t, 0);
    assert_null(t.root);
}

/* proves: TRAP-18 */
static void a_reserve_without_memory_keeps_nothing(void **state)
{
    struct qi_pagetree t = {.root = NULL};
    struct qi_pagetree_reserve r = {.n = 0};
    bool armed = true;

    (void)state;
    for (int64_t n = 1; armed; n++) {
        enum quire_status st;

        quire_heap_fail_after(n);
        st = qi_pagetree_reserve(&r, qi_pagetree_needed(&t, 1ull << 40));
        armed = !quire_heap_fail_armed();
        quire_heap_fail_after(-1);
        assert_int_equal(st, armed ? QUIRE_NO_MEMORY : QUIRE_OK);
        assert_int_equal(r.n > 0, !armed);
    }
    qi_pagetree_unreserve(&r);
    assert_int_equal(r.n, 0);
}

/* ---- Objects ---- */

struct file {
    struct quire_object *object;
    enum quire_status fill, store; /* what to answer */
    uint64_t again;                /* fill of this page asks for it once more; ~0: none */
    unsigned fills, stores, releases;
    uint64_t stored; /* bit a page */
};

static enum quire_status file_fill(void *cookie, uint64_t index, void *page)
{
    struct file *f = cookie;

    f->fills++;
    if (f->fill != QUIRE_OK)
        return f->fill;
    if (index == f->again) {
        struct quire_page *inner;

        f->again = ~0ull;
        OK(quire_object_page(f->object, index, &inner));
        quire_page_put(inner);
    }
    memset(page, (int)(1 + index % 255), PAGE);
    return QUIRE_OK;
}

static enum quire_status file_store(void *cookie, uint64_t index, const void *page)
{
    struct file *f = cookie;

    assert_non_null(page);
    f->stores++;
    if (f->store == QUIRE_OK)
        f->stored |= 1ull << index;
    return f->store;
}

static void file_release(void *cookie) { ((struct file *)cookie)->releases++; }

static const struct quire_pager file_pager = {file_fill, file_store, file_release};
static const struct quire_pager fill_only = {.fill = file_fill};
static const struct quire_pager store_only = {.store = file_store};

static void file_open(struct file *f, uint64_t pages)
{
    *f = (struct file){.again = ~0ull};
    OK(quire_object_create_file(&file_pager, f, pages * PAGE, &f->object));
}

/* Page index of o holds value throughout [from, to). */
static void check_bytes(struct quire_object *o, uint64_t index, unsigned from, unsigned to,
                        unsigned char value)
{
    struct quire_page *page;
    const unsigned char *p;

    OK(quire_object_page(o, index, &page));
    p = quire_page_ptr(page);
    for (unsigned i = from; i < to; i++)
        assert_int_equal(p[i], value);
    quire_page_put(page);
}

static void put_bytes(struct quire_object *o, uint64_t index, unsigned from, unsigned to,
                      unsigned char value)
{
    struct quire_page *page;

    OK(quire_object_page(o, index, &page));
    memset((char *)quire_page_ptr(page) + from, value, to - from);
    quire_page_put(page);
}

static void what_cannot_be_an_object_is_refused(void **state)
{
    struct quire_object *o = NULL;

    (void)state;
    assert_int_equal(quire_object_create_shared(1ull << 63, &o), QUIRE_OVERFLOW);
    assert_int_equal(quire_object_create_file(NULL, NULL, PAGE, &o), QUIRE_INVALID);
    assert_int_equal(quire_object_create_file(&store_only, NULL, PAGE, &o), QUIRE_INVALID);
    assert_int_equal(quire_object_create_file(&file_pager, NULL, ~0ull, &o), QUIRE_OVERFLOW);
    assert_int_equal(quire_object_create_device(Q_PA(0), 0, QUIRE_CACHED, &o), QUIRE_INVALID);
    assert_int_equal(quire_object_create_device(Q_PA(1), PAGE, QUIRE_CACHED, &o), QUIRE_INVALID);
    assert_int_equal(quire_object_create_device(Q_PA(0), 1, QUIRE_CACHED, &o), QUIRE_INVALID);
    assert_int_equal(quire_object_create_device(Q_PA(~0ull - 4095), 2 * PAGE, QUIRE_CACHED, &o),
                     QUIRE_INVALID);
    quire_heap_fail_after(1);
    assert_int_equal(quire_object_create_device(Q_PA(0), PAGE, QUIRE_CACHED, &o), QUIRE_NO_MEMORY);
    quire_heap_fail_after(-1);
    assert_null(o);
}

static void a_device_has_no_pages(void **state)
{
    struct quire_object *o;
    struct quire_page *page;

    (void)state;
    OK(quire_object_create_device(Q_PA(0xfee00000), PAGE, QUIRE_UNCACHED, &o));
    assert_int_equal(quire_object_kind(o), QUIRE_OBJECT_DEVICE);
    assert_null(quire_object_cookie(o));
    assert_int_equal(quire_object_page(o, 0, &page), QUIRE_INVALID);
    assert_int_equal(quire_object_set_size(o, 2 * PAGE), QUIRE_INVALID);
    assert_int_equal(quire_object_punch(o, 0, PAGE), QUIRE_INVALID);
    OK(quire_object_sync(o, 0, PAGE));
    assert_int_equal(quire_object_size(o), PAGE);
    quire_object_put(o);
}

static void references_of_the_dead_are_named(void **state)
{
    static struct quire_object dead;
    static struct quire_space dead_space;

    (void)state;
    dead.refs = dead_space.refs = 0;
    assert_false(quire_object_tryget(&dead));
    assert_true(HOSTED_EXPECT_PANIC(quire_object_get(&dead)));
    assert_non_null(strstr(hosted_panic_text(), "taken on a dead object"));
    dead.refs = 0;
    assert_true(HOSTED_EXPECT_PANIC(quire_object_put(&dead)));
    assert_non_null(strstr(hosted_panic_text(), "dropped on a dead object"));
    assert_true(HOSTED_EXPECT_PANIC(quire_space_get(&dead_space)));
    assert_non_null(strstr(hosted_panic_text(), "taken on a dead space"));
    dead_space.refs = 0;
    assert_true(HOSTED_EXPECT_PANIC(quire_space_put(&dead_space)));
    assert_non_null(strstr(hosted_panic_text(), "dropped on a dead space"));
}

static void a_pager_that_fails_leaves_no_page(void **state)
{
    struct quire_page *page;
    uint64_t free_pages, files, shared;
    struct file f;

    (void)state;
    file_open(&f, 8);
    free_pages = quire_free_pages();
    f.fill = QUIRE_IO;
    assert_int_equal(quire_object_page(f.object, 3, &page), QUIRE_IO);
    assert_int_equal(quire_object_page(f.object, 1ull << 32, &page), QUIRE_INVALID);
    assert_int_equal(f.fills, 1);
    assert_null(quire_object_peek(f.object, 3));
    assert_int_equal(quire_object_resident(f.object), 0);
    assert_int_equal(quire_free_pages(), free_pages);
    f.fill = QUIRE_OK;
    check_bytes(f.object, 3, 0, PAGE, 4);
    check_bytes(f.object, 3, 0, PAGE, 4);
    assert_int_equal(f.fills, 2);
    quire_object_totals(&files, &shared);
    assert_int_equal(files, 1);
    assert_int_equal(shared, 0);
    quire_object_get(f.object);
    quire_object_put(f.object);
    assert_int_equal(f.releases, 0);
    quire_object_put(f.object);
    assert_int_equal(f.releases, 1);
    quire_object_totals(&files, &shared);
    assert_int_equal(files, 0);
}

/* Whoever fills a page last finds the other's and gives its own copy up. */
static void a_page_filled_twice_is_there_once(void **state)
{
    struct quire_page *page, *peeked;
    uint64_t free_pages;
    struct file f;

    (void)state;
    file_open(&f, 8);
    check_bytes(f.object, 0, 0, PAGE, 1); /* the tree's node */
    free_pages = quire_free_pages();
    f.again = 5;
    OK(quire_object_page(f.object, 5, &page));
    assert_int_equal(f.fills, 3);
    peeked = quire_object_peek(f.object, 5);
    assert_ptr_equal(page, peeked);
    assert_int_equal(page->refs, 3); /* the tree's and our two */
    assert_int_equal(quire_object_resident(f.object), 2);
    assert_int_equal(quire_free_pages(), free_pages - 1);
    quire_page_put(page);
    quire_page_put(page);
    quire_object_put(f.object);
}

static void dirty_pages_of_a_range_are_stored(void **state)
{
    struct quire_page *page;
    struct file f;

    (void)state;
    file_open(&f, 8);
    for (unsigned i = 0; i < 8; i++) {
        OK(quire_object_page(f.object, i, &page));
        if (i != 4)
            quire_object_dirty(f.object, page);
        quire_page_put(page);
    }
    OK(quire_object_sync(f.object, 2 * PAGE, 4 * PAGE));
    assert_int_equal(f.stored, 1 << 2 | 1 << 3 | 1 << 5);
    f.store = QUIRE_IO;
    assert_int_equal(quire_object_sync(f.object, 0, ~0ull), QUIRE_IO);
    assert_int_equal(f.stores, 3 + 4); /* each was tried, and is dirty still */
    f.store = QUIRE_OK;
    OK(quire_object_sync(f.object, PAGE, ~0ull));
    assert_int_equal(f.stored, 0xee);
    OK(quire_object_sync(f.object, 0, 8 * PAGE));
    assert_int_equal(f.stored, 0xef);
    assert_int_equal(f.stores, 3 + 4 + 3 + 1);
    OK(quire_object_sync(f.object, 0, 8 * PAGE));
    assert_int_equal(f.stores, 3 + 4 + 3 + 1);

    /* whose cache is the only home has nothing to store */
    quire_object_set_cookie(f.object, &f, &fill_only);
    OK(quire_object_page(f.object, 1, &page));
    quire_object_dirty(f.object, page);
    OK(quire_object_sync(f.object, 0, 8 * PAGE));
    assert_true(page->flags & QUIRE_PG_DIRTY);
    quire_page_put(page);
    quire_object_put(f.object);
    assert_int_equal(f.releases, 0);
}

/* A page that stays mapped writable is stored again after each write, and only then; also what was written
 * through another mapping, or before the mapping lost its right. */
static void writes_through_mappings_are_stored_each_time(void **state)
{
    uint64_t at, other;
    struct file f;

    (void)state;
    file_open(&f, 2);
    at = map_object(f.object, 2 * PAGE, RW, QUIRE_MAP_SHARED);
    other = map_object(f.object, 2 * PAGE, RW, QUIRE_MAP_SHARED);
    for (unsigned i = 1; i <= 3; i++) {
        OK(store(s, at + PAGE, i));
        OK(quire_object_sync(f.object, 0, 2 * PAGE));
        assert_int_equal(f.stores, i);
        OK(quire_object_sync(f.object, 0, 2 * PAGE));
        assert_int_equal(f.stores, i);
    }
    OK(store(s, at, 1));
    OK(store(s, other, 2));
    OK(quire_object_sync(f.object, 0, PAGE));
    assert_int_equal(f.stores, 4);
    OK(store(s, other, 3));
    OK(quire_mprotect(s, Q_UVA(other), PAGE, 0));
    OK(quire_object_sync(f.object, 0, PAGE));
    assert_int_equal(f.stores, 5);
    OK(store(s, at, 4));
    OK(quire_munmap(s, Q_UVA(at), PAGE));
    OK(quire_object_sync(f.object, 0, PAGE));
    assert_int_equal(f.stores, 6);
    OK(quire_munmap(s, Q_UVA(at), 2 * PAGE));
    OK(quire_munmap(s, Q_UVA(other), 2 * PAGE));
    OK(quire_object_sync(f.object, 0, 2 * PAGE));
    assert_int_equal(f.stores, 6);
    quire_object_put(f.object);
}

static void truncation_zeroes_what_is_cut(void **state)
{
    struct file f;

    (void)state;
    file_open(&f, 8);
    for (unsigned i = 0; i < 8; i++)
        check_bytes(f.object, i, 0, PAGE, (unsigned char)(1 + i));
    assert_int_equal(quire_object_set_size(f.object, 1ull << 60), QUIRE_OVERFLOW);
    OK(quire_object_set_size(f.object, 8 * PAGE));
    assert_int_equal(quire_object_resident(f.object), 8);
    OK(quire_object_set_size(f.object, 5 * PAGE + 100));
    assert_int_equal(quire_object_resident(f.object), 6);
    check_bytes(f.object, 5, 0, 100, 6);
    check_bytes(f.object, 5, 100, PAGE, 0);
    OK(quire_object_set_size(f.object, 3 * PAGE));
    assert_int_equal(quire_object_resident(f.object), 3);
    OK(quire_object_set_size(f.object, 2 * PAGE + 5)); /* inside the last page that there is */
    assert_int_equal(quire_object_resident(f.object), 3);
    check_bytes(f.object, 2, 5, PAGE, 0);
    put_bytes(f.object, 2, 5, PAGE, 77);               /* as who maps the page may */
    OK(quire_object_set_size(f.object, 2 * PAGE + 5)); /* cut where the end is already */
    check_bytes(f.object, 2, 5, PAGE, 0);
    OK(quire_object_set_size(f.object, 0));
    OK(quire_object_set_size(f.object, 2 * PAGE));
    OK(quire_object_set_size(f.object, PAGE + 7)); /* cut in a page that is not there */
    assert_int_equal(quire_object_resident(f.object), 0);
    quire_object_put(f.object);
}

static void holes_free_whole_pages_and_zero_the_rest(void **state)
{
    struct file f;

    (void)state;
    file_open(&f, 8);
    for (unsigned i = 0; i < 8; i++)
        check_bytes(f.object, i, 0, PAGE, (unsigned char)(1 + i));
    assert_int_equal(quire_object_punch(f.object, 0, 0), QUIRE_INVALID);
    assert_int_equal(quire_object_punch(f.object, PAGE, ~0ull), QUIRE_OVERFLOW);
    assert_int_equal(quire_object_punch(f.object, PAGE, 1ull << 63), QUIRE_OVERFLOW);
    assert_int_equal(f.fills, 8);

    OK(quire_object_punch(f.object, PAGE, 2 * PAGE)); /* whole pages only */
    assert_int_equal(quire_object_resident(f.object), 6);
    OK(quire_object_punch(f.object, 3 * PAGE + 10, 20)); /* inside one page */
    check_bytes(f.object, 3, 0, 10, 4);
    check_bytes(f.object, 3, 10, 30, 0);
    check_bytes(f.object, 3, 30, PAGE, 4);
    OK(quire_object_punch(f.object, 4 * PAGE + 4000, 96 + PAGE + 50)); /* with both edges */
    assert_int_equal(quire_object_resident(f.object), 5);
    check_bytes(f.object, 4, 0, 4000, 5);
    check_bytes(f.object, 4, 4000, PAGE, 0);
    check_bytes(f.object, 6, 0, 50, 0);
    check_bytes(f.object, 6, 50, PAGE, 7);
    OK(quire_object_punch(f.object, 7 * PAGE + 4090, 6)); /* to the end of a page */
    check_bytes(f.object, 7, 0, 4090, 8);
    check_bytes(f.object, 7, 4090, PAGE, 0);
    OK(quire_object_punch(f.object, PAGE + 10, 20)); /* where there is nothing */
    assert_int_equal(quire_object_size(f.object), 8 * PAGE);
    assert_int_equal(f.fills, 8);
    quire_object_put(f.object);
}

/* References by many at once: none is lost, none is given to the dead. */
static void *take_and_drop(void *object)
{
    uintptr_t refused = 0;

    for (unsigned i = 0; i < 200000; i++)
        if (quire_object_tryget(object))
            quire_object_put(object);
        else
            refused++;
    return (void *)refused;
}

static void references_are_counted_by_many(void **state)
{
    struct quire_object *o;
    pthread_t other;
    void *refused;

    (void)state;
    OK(quire_object_create_shared(PAGE, &o));
    assert_int_equal(pthread_create(&other, NULL, take_and_drop, o), 0);
    assert_null(take_and_drop(o));
    pthread_join(other, &refused);
    assert_null(refused);
    assert_int_equal(o->refs, 1);
    quire_object_put(o);
}

/* Runs first: afterwards the cache exists. */
static void no_object_before_the_layer_is_up(void **state)
{
    struct quire_object *o;

    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(quire_object_create_shared(PAGE, &o)));
    assert_non_null(strstr(hosted_panic_text(), "before quire_space_init()"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_object_before_the_layer_is_up),
        T(the_tree_matches_a_sorted_list),
        T(one_insertion_may_need_twenty_nodes),
        T(a_reserve_without_memory_keeps_nothing),
        T(what_cannot_be_an_object_is_refused),
        T(a_device_has_no_pages),
        T(references_of_the_dead_are_named),
        T(a_pager_that_fails_leaves_no_page),
        T(a_page_filled_twice_is_there_once),
        T(dirty_pages_of_a_range_are_stored),
        T(writes_through_mappings_are_stored_each_time),
        T(truncation_zeroes_what_is_cut),
        T(holes_free_whole_pages_and_zero_the_rest),
        T(references_are_counted_by_many),
    };

    test_seed("object_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
