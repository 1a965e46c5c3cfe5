/*
 * vmatree_prop.c - the tree of vmas (src/space/vmatree.c) against a dumb model: an array of pages that says whose
 * each is.
 *
 * Vmas are linked, unlinked and moved at either end at random, in order and where the tree is full; stacks among
 * them, with their guard.  After each change the tree is verified, and look-ups and the highest gap of some
 * size must be what a search page by page finds.
 */
#include <quire_test.h>

#include <space/space.h>

#define PAGE  QUIRE_PAGE_SIZE
#define PAGES 1024u
#define VMAS  400u
#define START (16 * PAGE)

static struct quire_space space;
static struct qi_vma vmas[VMAS];
static bool in[VMAS];
static uint16_t whose[PAGES]; /* number of the vma and 1; 0: nobody's */

static uint64_t va_of(unsigned page) { return START + page * PAGE; }
static unsigned page_of(uint64_t va) { return (unsigned)((va - START) / PAGE); }

static void set(unsigned from, unsigned to, unsigned owner)
{
    for (unsigned i = from; i < to; i++)
        whose[i] = (uint16_t)owner;
}

/* The pages below a stack that nobody gets but by address. */
static bool guarded(unsigned page)
{
    for (unsigned i = page + 1; i < PAGES && i <= page + QI_STACK_GUARD / PAGE; i++)
        if (whose[i])
            return vmas[whose[i] - 1].flags & QI_VM_GROWSDOWN;
    return false;
}

static void check_lookup(unsigned page)
{
    unsigned i = page;

    while (i < PAGES && !whose[i])
        i++;
    assert_ptr_equal(qi_vma_find(&space, va_of(page) + test_random_below(PAGE)),
                     i < PAGES ? &vmas[whose[i] - 1] : NULL);
}

/* The highest place for so many pages in [low, high), or 0, found page by page. */
static uint64_t highest(unsigned pages, uint64_t align, unsigned low, unsigned high)
{
    unsigned run = 0;

    for (unsigned i = high; i-- > low;) {
        run = whose[i] || guarded(i) ? 0 : run + 1;
        if (run >= pages && va_of(i) % align == 0)
            return va_of(i);
    }
    return 0;
}

static void check_gap(void)
{
    unsigned pages = 1 + (unsigned)test_random_below(test_random_below(4) ? 4 : 64);
    unsigned low = (unsigned)test_random_below(PAGES / 2);
    unsigned high = low + (unsigned)test_random_below(PAGES - low) + 1;
    uint64_t align = PAGE << test_random_below(4);

    assert_int_equal(qi_gap_find(&space, pages * PAGE, align, va_of(low), va_of(high)),
                     highest(pages, align, low, high));
}

static unsigned count(void)
{
    unsigned n = 0;

    for (unsigned k = 0; k < VMAS; k++)
        n += in[k];
    return n;
}

static void check(void)
{
    unsigned n = count(), bound = 0;

    assert_true(qi_vmatree_verify(&space));
    assert_int_equal(space.nvmas, n);
    for (unsigned i = n + 1; i > 1; i /= 2)
        bound += 2;
    assert_true(!space.root || space.root->rank <= bound + 2); /* 2 log2(n + 1), rounded up */
    check_lookup((unsigned)test_random_below(PAGES));
    check_gap();
}

static void link_vma(unsigned k, unsigned from, unsigned to)
{
    struct qi_vma *v = &vmas[k], *next = qi_vma_find(&space, va_of(from));

    *v = (struct qi_vma){.start = va_of(from),
                         .end = va_of(to),
                         .flags = test_random_below(40) ? 0 : QI_VM_GROWSDOWN};
    set(from, to, k + 1);
    qi_vma_link(&space, v, next ? next->prev : space.last);
    in[k] = true;
}

static void unlink_vma(unsigned k)
{
    set(page_of(vmas[k].start), page_of(vmas[k].end), 0);
    qi_vma_unlink(&space, &vmas[k]);
    in[k] = false;
}

static void link_somewhere(unsigned k)
{
    unsigned from = (unsigned)test_random_below(PAGES), to = from;

    while (to < PAGES && !whose[to] && to - from < 5)
        to++;
    if (to > from)
        link_vma(k, from, from + 1 + (unsigned)test_random_below(to - from));
}

/* One end goes by a page, in or out. */
static void move_end(unsigned k)
{
    struct qi_vma *v = &vmas[k];
    unsigned from = page_of(v->start), to = page_of(v->end);

    set(from, to, 0);
    switch (test_random_below(4)) {
    case 0: from -= from && !whose[from - 1]; break;
    case 1: to += to < PAGES && !whose[to]; break;
    case 2: from += to - from > 1; break;
    default: to -= to - from > 1;
    }
    set(from, to, k + 1);
    v->start = va_of(from);
    v->end = va_of(to);
    qi_vma_moved(&space, v);
}

static int fresh(void **state)
{
    (void)state;
    space = (struct quire_space){.start = START, .end = va_of(PAGES)};
    memset(in, 0, sizeof in);
    memset(whose, 0, sizeof whose);
    return 0;
}

/* proves: AS-14 */
static void at_random(void **state)
{
    bool rising = true;

    (void)state;
    for (unsigned i = 0; i < 30000; i++) {
        unsigned k = (unsigned)test_random_below(VMAS);

        if (!test_random_below(VMAS))
            rising = !rising;
        if (!in[k] && (rising || !test_random_below(4)))
            link_somewhere(k);
        else if (in[k] && test_random_below(2))
            move_end(k);
        else if (in[k] && (!rising || !test_random_below(4)))
            unlink_vma(k);
        check();
    }
}

/* Linked from below, from above and from the middle; unlinked from below, from above, scattered. */
static void in_order(void **state)
{
    for (unsigned way = 0; way < 9; way++) {
        fresh(state);
        for (unsigned i = 0; i < VMAS; i++) {
            unsigned middle = i % 2 ? VMAS / 2 - 1 - i / 2 : VMAS / 2 + i / 2;
            unsigned k = way % 3 == 0 ? i : way % 3 == 1 ? VMAS - 1 - i : middle;

            link_vma(k, 2 * k, 2 * k + 1 + k % 2);
            check();
        }
        for (unsigned i = 0; i < VMAS; i++) {
            unsigned k = way / 3 == 0 ? i : way / 3 == 1 ? VMAS - 1 - i : i * 151 % VMAS;

            unlink_vma(k);
            check();
        }
        assert_null(space.root);
        assert_null(space.first);
    }
}

/* One comes and goes below a tree whose every place is taken: after the first time ranks stay, up to the one
 * above it. */
static void toggled(void **state)
{
    unsigned above[2];

    (void)state;
    for (unsigned k = 0; k < 255; k++)
        link_vma(k, 2 + 2 * k, 3 + 2 * k);
    for (unsigned i = 0; i < 8; i++) {
        link_vma(VMAS - 1, 0, 1);
        check();
        above[0] = space.root->rank;
        unlink_vma(VMAS - 1);
        check();
        above[1] = space.root->rank;
        assert_int_equal(above[0], above[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(at_random, fresh),
        cmocka_unit_test(in_order),
        cmocka_unit_test_setup(toggled, fresh),
    };

    test_seed("vmatree_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
