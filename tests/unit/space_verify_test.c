/*
 * space_verify_test.c - quire_space_verify() and the checks of misuse: each kind of damage, planted
 * in a sound space, is found and named; mended, the space is sound again.
 */
#include <space_fixture.h>

static enum quire_status fill(void *cookie, uint64_t index, void *page)
{
    (void)cookie;
    ((uint64_t *)page)[0] = index;
    return QUIRE_OK;
}
static const struct quire_pager pager = {.fill = fill};

/* The space of these tests: small pages, a huge one, a hole, a file. */
#define SMALL 0x100000ull
#define OPEN  0x200000ull /* readable only */
#define TEXT  0x300000ull /* of a file, readable and executable */
#define HUGE  0x40000000ull

static struct quire_object *text;

static int setup_full(void **state)
{
    uint64_t at = TEXT;

    setup(state);
    map_fixed(SMALL, 8 * PAGE, RW, PRIV);
    map_fixed(OPEN, 8 * PAGE, QUIRE_READ, PRIV);
    map_huge(HUGE);
    OK(quire_object_create_file(&pager, NULL, 8 * PAGE, &text));
    OK(map_at(s, &at, 8 * PAGE, QUIRE_READ | QUIRE_EXEC, QUIRE_MAP_PRIVATE | QUIRE_MAP_FIXED, text,
              0));
    for (unsigned i = 0; i < 4; i++) {
        OK(store(s, SMALL + i * PAGE, i));
        expect(s, OPEN + i * PAGE, 0);
        expect(s, TEXT + i * PAGE, i);
    }
    OK(quire_space_verify(s));
    return 0;
}

static int teardown_full(void **state)
{
    quire_object_put(text);
    return teardown(state);
}

/* verify finds the damage and its line on the log holds word. */
static void found(const char *word)
{
    assert_int_equal(quire_space_verify(s), QUIRE_CORRUPT);
    assert_non_null(strstr(hosted_log_last(), word));
    assert_int_equal(s->lock.state, 0);
}

static qi_pte *slot_of(uint64_t va)
{
    unsigned level;
    qi_pte *slot = qi_pt_lookup(s->tlb.root, va, &level);

    assert_non_null(slot);
    return slot;
}

/* Change *p for as long as verify looks. */
#define PLANT(lvalue, value, word)            \
    do {                                      \
        __typeof__(lvalue) before = lvalue;   \
        lvalue = (__typeof__(lvalue))(value); \
        found(word);                          \
        lvalue = before;                      \
        OK(quire_space_verify(s));            \
    } while (0)

static void leaves_with_more_rights_than_their_mapping(void **state)
{
    qi_pte *open = slot_of(OPEN), *small = slot_of(SMALL);
    struct qi_vma *v = qi_vma_find(s, TEXT);

    (void)state;
    PLANT(open->v, open->v | QI_X86_W, "S3");
    PLANT(open->v, open->v & ~QI_X86_NX, "S3");
    PLANT(small->v, small->v & ~QI_X86_NX, "S3");
    PLANT(v->flags, v->flags & ~QUIRE_EXEC, "S3");
    PLANT(v->flags, 0, "S3");
    v = qi_vma_find(s, OPEN);
    PLANT(v->flags, 0, "S3"); /* readable where nothing is allowed */
}

static void leaves_that_are_wrongly_marked_as_their_own(void **state)
{
    qi_pte *small = slot_of(SMALL), *page = slot_of(TEXT), *huge = slot_of(HUGE);

    (void)state;
    PLANT(small->v, small->v & ~QI_PTE_OWN, "S3: writable leaf");
    PLANT(page->v, page->v | QI_PTE_OWN, "S4: own leaf");
    PLANT(huge->v, huge->v & ~(QI_PTE_OWN | QI_X86_W), "S6: huge leaf");
}

static void pages_that_are_not_counted_as_mapped(void **state)
{
    struct quire_page *small = page_at(s, SMALL), *huge = page_at(s, HUGE);

    (void)state;
    PLANT(small->maps, 0, "S2");
    PLANT(small->refs, 0, "S2");
    PLANT(small->flags, small->flags | QUIRE_PG_FREE, "S2");
    PLANT(small->counts, 2 * QUIRE_PAGE_ONE_MAPPING, "S4: own leaf");
    PLANT(huge->refs, 2, "S6");
}

static void counters_that_do_not_match(void **state)
{
    struct qi_vma *v = qi_vma_find(s, SMALL);
    qi_pte *empty = slot_of(SMALL + 7 * PAGE), *outside = slot_of(SMALL + 8 * PAGE);

    (void)state;
    for (unsigned k = 0; k < QI_RSS_KINDS; k++) {
        PLANT(s->rss[k], s->rss[k] + 1, "S5");
        PLANT(s->rss[k], s->rss[k] - 1, "S5");
    }
    s->rss[QI_RSS_SHARED] = -1; /* what is told is never below nothing */
    assert_int_equal(stats(s).rss_shared, 0);
    s->rss[QI_RSS_SHARED] = 0;
    PLANT(s->total, s->total + 1, "S1");
    PLANT(outside->v, slot_of(OPEN)->v, "S1"); /* a leaf that no mapping has */
    PLANT(empty->v, slot_of(SMALL)->v, "S5");
    assert_ptr_equal(v->space, s);
}

static void trees_that_are_broken(void **state)
{
    struct qi_vma *v = qi_vma_find(s, OPEN), *root = s->root, *stranger = s->last;
    struct qi_vma *child = root->left ? root->left : root->right;

    (void)state;
    PLANT(v->prev, NULL, "bad node");
    PLANT(v->end, v->start, "bad node");
    PLANT(v->start, SMALL + PAGE, "bad node"); /* over the one below */
    PLANT(root->rank, root->rank + 2, "bad node");
    PLANT(root->max_gap, root->max_gap + PAGE, "bad node");
    PLANT(child->parent, child, "bad node"); /* a circle */
    PLANT(child->parent, NULL, "bad node");
    PLANT(root->left, NULL, "bad node");
    PLANT(root->right, root->left, "bad node");
    PLANT(s->root, child, "bad node");
    assert_ptr_not_equal(stranger, s->first);
    /* found without a line: the number, and where the list ends */
    s->nvmas++;
    assert_int_equal(quire_space_verify(s), QUIRE_CORRUPT);
    s->nvmas--;
    s->last = s->first;
    assert_int_equal(quire_space_verify(s), QUIRE_CORRUPT);
    s->last = stranger;
}

static void mappings_of_others_and_outside(void **state)
{
    struct qi_vma *v = qi_vma_find(s, SMALL);
    struct quire_space *before = v->space;
    uint64_t start = s->start, end = s->end;

    (void)state;
    v->space = NULL;
    assert_int_equal(quire_space_verify(s), QUIRE_CORRUPT);
    v->space = before;
    s->end = HUGE;
    assert_int_equal(quire_space_verify(s), QUIRE_CORRUPT);
    s->end = end;
    s->start = SMALL + PAGE; /* the gap of the first is wrong then, or its place */
    assert_int_equal(quire_space_verify(s), QUIRE_CORRUPT);
    s->start = start;
}

/* A huge page that somebody else holds must not be taken apart. */
/* proves: TRAP-7 */
static void a_huge_page_that_is_shared_is_named(void **state)
{
    struct quire_page *huge = page_at(s, HUGE);

    (void)state;
    quire_page_get(huge);
    assert_true(HOSTED_EXPECT_PANIC(quire_munmap(s, Q_UVA(HUGE), MIB)));
    assert_non_null(strstr(hosted_panic_text(), "expected one of each"));
    qi_rwsem_write_unlock(&s->lock); /* the panic left it locked */
    quire_page_put(huge);
    OK(quire_munmap(s, Q_UVA(HUGE), MIB));
}

static void a_space_that_is_active_does_not_die(void **state)
{
    struct quire_space *other = space_new();

    (void)state;
    quire_space_activate(other);
    assert_true(HOSTED_EXPECT_PANIC(quire_space_put(other)));
    assert_non_null(strstr(hosted_panic_text(), "dies active"));
    quire_space_activate(NULL);
    other->refs = 1;
    quire_space_put(other);
}

#define F(name) cmocka_unit_test_setup_teardown(name, setup_full, teardown_full)

int main(void)
{
    const struct CMUnitTest tests[] = {
        F(leaves_with_more_rights_than_their_mapping),
        F(leaves_that_are_wrongly_marked_as_their_own),
        F(pages_that_are_not_counted_as_mapped),
        F(counters_that_do_not_match),
        F(trees_that_are_broken),
        F(mappings_of_others_and_outside),
        F(a_huge_page_that_is_shared_is_named),
        F(a_space_that_is_active_does_not_die),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
