/*
 * mmap_prop.c - random calls of the mmap family against a model that knows only pages.
 *
 * The model is an array of pages for each of a few spaces: mapped or not, protection, backing, and
 * two words of content. The manager must give the same answers, the same content, and at the end
 * the same number of free frames as at the start.
 */
#include <space_machine.h>

enum { WINDOW = 1200, OBJECT_PAGES = 64, SPACES = 4, MAX_RUN = 40 };
#define BASE 0x7f0000000000ull /* of the window: 2 MiB-aligned, so that huge slots are inside */

enum backing { NOTHING, ANON, SHARED, PRIVATE };

/* Content of a page: the first and the last word. */
struct words {
    uint64_t first, last;
};

struct mpage {
    enum backing backing;
    unsigned prot;
    unsigned index; /* in the object */
    bool own;       /* has content of its own (anonymous, or a private copy) */
    struct words w;
};

struct model {
    struct quire_space *s;
    struct mpage pages[WINDOW];
};

static struct model spaces[SPACES];
static struct words object_words[OBJECT_PAGES];
static unsigned object_pages; /* its size now */
static struct quire_object *object;

static uint64_t va(unsigned i) { return BASE + i * PAGE; }

static struct model *some_space(void)
{
    for (;;) {
        struct model *m = &spaces[test_random_below(SPACES)];

        if (m->s)
            return m;
    }
}

static void pick(unsigned *first, unsigned *n)
{
    *n = 1 + (unsigned)test_random_below(test_random_below(8) ? MAX_RUN : 700);
    *first = (unsigned)test_random_below(WINDOW - *n);
}

static unsigned some_prot(void)
{
    static const unsigned prots[] = {
        QUIRE_READ | QUIRE_WRITE, QUIRE_READ | QUIRE_WRITE, QUIRE_READ | QUIRE_WRITE, QUIRE_READ, 0,
        QUIRE_READ | QUIRE_EXEC};

    return prots[test_random_below(6)];
}

static struct words *content(struct mpage *p)
{
    return p->backing == SHARED || (p->backing == PRIVATE && !p->own) ? &object_words[p->index]
                                                                      : &p->w;
}

static bool beyond(const struct mpage *p)
{
    return (p->backing == SHARED || p->backing == PRIVATE) && p->index >= object_pages;
}

/* ---- The calls ---- */

static void do_map(struct model *m)
{
    enum backing b = ANON + (enum backing)test_random_below(3);
    unsigned first, n, prot = some_prot(), index = (unsigned)test_random_below(OBJECT_PAGES);
    unsigned flags = b == SHARED ? QUIRE_MAP_SHARED : QUIRE_MAP_PRIVATE;
    bool replace = test_random_below(2), taken = false;
    uint64_t at;

    pick(&first, &n);
    at = va(first);
    for (unsigned i = first; i < first + n; i++)
        taken |= m->pages[i].backing != NOTHING;
    flags |= replace ? QUIRE_MAP_FIXED : QUIRE_MAP_FIXED_NOREPLACE;
    if (b == ANON)
        flags |= QUIRE_MAP_ANONYMOUS;
    if (!test_random_below(8))
        flags |= QUIRE_MAP_POPULATE;
    assert_int_equal(map_at(m->s, &at, n * PAGE, prot, flags, b == ANON ? NULL : object,
                            b == ANON ? 0 : index * PAGE),
                     !replace && taken ? QUIRE_EXISTS : QUIRE_OK);
    if (!replace && taken)
        return;
    assert_int_equal(at, va(first));
    /* populating a private writable mapping copies in advance, as in Linux */
    bool copies = b == PRIVATE && (flags & QUIRE_MAP_POPULATE) && (prot & QUIRE_WRITE);
    if (b == ANON && !test_random_below(3))
        assert_int_equal(quire_madvise(m->s, Q_UVA(at), n * PAGE, 14), QUIRE_OK); /* huge */
    for (unsigned i = 0; i < n; i++) {
        struct mpage *p = &m->pages[first + i];

        *p = (struct mpage){.backing = b, .prot = prot, .index = index + i, .own = b == ANON};
        if (copies && p->index < object_pages) {
            p->own = true;
            p->w = object_words[p->index];
        }
    }
}

static void do_unmap(struct model *m)
{
    unsigned first, n;

    pick(&first, &n);
    assert_int_equal(quire_munmap(m->s, Q_UVA(va(first)), n * PAGE), QUIRE_OK);
    memset(&m->pages[first], 0, n * sizeof m->pages[0]);
}

static void do_protect(struct model *m)
{
    unsigned first, n, prot = some_prot(), i;
    enum quire_status st;

    pick(&first, &n);
    st = quire_mprotect(m->s, Q_UVA(va(first)), n * PAGE, prot);
    for (i = first; i < first + n && m->pages[i].backing != NOTHING; i++)
        m->pages[i].prot = prot;
    assert_int_equal(st, i == first + n ? QUIRE_OK : QUIRE_NO_MEMORY);
}

static void do_dontneed(struct model *m)
{
    unsigned first, n;
    bool hole = false;
    enum quire_status st;

    pick(&first, &n);
    st = quire_madvise(m->s, Q_UVA(va(first)), n * PAGE, 4);
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &m->pages[i];

        hole |= p->backing == NOTHING;
        p->w = (struct words){0, 0};
        p->own = p->backing == ANON;
    }
    assert_int_equal(st, hole ? QUIRE_NO_MEMORY : QUIRE_OK);
}

/* One mapping, as far as the model can tell: alike and contiguous. */
static bool one_vma(const struct model *m, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        const struct mpage *a = &m->pages[first], *p = &m->pages[i];

        if (p->backing == NOTHING || p->backing != a->backing || p->prot != a->prot ||
            (p->backing != ANON && p->index != a->index + (i - first)))
            return false;
    }
    return true;
}

static void do_move(struct model *m)
{
    unsigned first, n, to;
    struct mpage copy[WINDOW];
    enum quire_status st;
    q_uva out;

    pick(&first, &n);
    to = (unsigned)test_random_below(WINDOW - n);
    st = quire_mremap(m->s, Q_UVA(va(first)), n * PAGE, n * PAGE,
                      QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED, Q_UVA(va(to)), &out);
    if (m->pages[first].backing == NOTHING) {
        assert_int_equal(st, QUIRE_FAULT);
        return;
    }
    if (first < to + n && to < first + n) {
        assert_int_equal(st, QUIRE_INVALID);
        return;
    }
    /* several vmas that look like one (different advice) are refused, and nothing changes */
    if (st != QUIRE_OK) {
        assert_int_equal(st, QUIRE_FAULT);
        return;
    }
    assert_true(one_vma(m, first, n));
    assert_int_equal(out.v, va(to));
    memcpy(copy, &m->pages[first], n * sizeof copy[0]);
    memset(&m->pages[first], 0, n * sizeof copy[0]);
    memcpy(&m->pages[to], copy, n * sizeof copy[0]);
}

static void do_resize(struct model *m)
{
    unsigned first, n, want;
    enum quire_status st;
    q_uva out;

    pick(&first, &n);
    want = 1 + (unsigned)test_random_below(2 * n);
    if (first + want > WINDOW)
        return;
    st = quire_mremap(m->s, Q_UVA(va(first)), n * PAGE, want * PAGE, 0, Q_UVA(0), &out);
    if (m->pages[first].backing == NOTHING) {
        assert_int_equal(st, QUIRE_FAULT);
    } else if (want <= n) {
        assert_int_equal(st, QUIRE_OK);
        memset(&m->pages[first + want], 0, (n - want) * sizeof m->pages[0]);
    } else if (st == QUIRE_OK) {
        assert_true(one_vma(m, first, n));
        for (unsigned i = n; i < want; i++) {
            assert_int_equal(m->pages[first + i].backing, NOTHING);
            m->pages[first + i] = m->pages[first];
            m->pages[first + i].index = m->pages[first].index + i;
            m->pages[first + i].own = m->pages[first].backing == ANON;
            m->pages[first + i].w = (struct words){0, 0};
        }
    } else {
        assert_true(st == QUIRE_FAULT || st == QUIRE_NO_MEMORY);
    }
}

static void do_fork(struct model *m)
{
    struct model *child = &spaces[test_random_below(SPACES)];

    if (child->s)
        return;
    memcpy(child->pages, m->pages, sizeof m->pages);
    assert_int_equal(quire_space_fork(m->s, &child->s), QUIRE_OK);
}

static void do_exit(struct model *m)
{
    unsigned alive = 0;

    for (unsigned i = 0; i < SPACES; i++)
        alive += spaces[i].s != NULL;
    if (alive == 1)
        return;
    quire_space_put(m->s);
    memset(m, 0, sizeof *m);
}

static void do_truncate(void)
{
    unsigned n = (unsigned)test_random_below(OBJECT_PAGES + 1);

    assert_int_equal(quire_object_set_size(object, n * PAGE), QUIRE_OK);
    for (unsigned i = n; i < OBJECT_PAGES; i++)
        object_words[i] = (struct words){0, 0};
    for (unsigned k = 0; n < object_pages && k < SPACES; k++)
        for (unsigned i = 0; i < WINDOW; i++) {
            struct mpage *p = &spaces[k].pages[i];

            /* a private copy beyond the end goes too */
            if (p->backing == PRIVATE && p->index >= n && p->index < OBJECT_PAGES)
                p->own = false;
            if (p->backing == PRIVATE && p->index >= n)
                p->w = (struct words){0, 0};
        }
    object_pages = n;
}

static void do_store(struct model *m)
{
    unsigned i = (unsigned)test_random_below(WINDOW);
    struct mpage *p = &m->pages[i];
    uint64_t value = test_random();
    bool last = test_random_below(2);
    enum quire_status st = store(m->s, va(i) + (last ? PAGE - 8 : 0), value);

    if (p->backing == NOTHING) {
        assert_int_equal(st, QUIRE_SEGV_MAPERR);
    } else if (!(p->prot & QUIRE_WRITE)) {
        assert_int_equal(st, QUIRE_SEGV_ACCERR);
    } else if (beyond(p)) {
        assert_int_equal(st, QUIRE_BUS_ADRERR);
    } else {
        assert_int_equal(st, QUIRE_OK);
        if (p->backing == PRIVATE && !p->own) {
            p->w = object_words[p->index];
            p->own = true;
        }
        *(last ? &content(p)->last : &content(p)->first) = value;
    }
}

static void check_page(struct model *m, unsigned i)
{
    struct mpage *p = &m->pages[i];
    uint64_t got[2] = {0, 0};
    enum quire_status st = load(m->s, va(i), &got[0]);

    /* read is also given to debuggers where the program has none */
    if (p->backing == NOTHING) {
        assert_int_equal(st, QUIRE_SEGV_MAPERR);
    } else if (beyond(p)) {
        assert_int_equal(st, QUIRE_BUS_ADRERR);
    } else {
        assert_int_equal(st, QUIRE_OK);
        assert_int_equal(load(m->s, va(i) + PAGE - 8, &got[1]), QUIRE_OK);
        if (got[0] != content(p)->first || got[1] != content(p)->last)
            fail_msg("page %u backing %d own %d index %u: %llx %llx, expected %llx %llx", i,
                     p->backing, p->own, p->index, (unsigned long long)got[0],
                     (unsigned long long)got[1], (unsigned long long)content(p)->first,
                     (unsigned long long)content(p)->last);
    }
}

static void check_all(void)
{
    for (unsigned k = 0; k < SPACES; k++)
        if (spaces[k].s) {
            assert_int_equal(quire_space_verify(spaces[k].s), QUIRE_OK);
            for (unsigned i = 0; i < WINDOW; i++)
                check_page(&spaces[k], i);
            assert_int_equal(quire_space_verify(spaces[k].s), QUIRE_OK);
        }
}

static void step(void)
{
    struct model *m = some_space();

    switch (test_random_below(32)) {
    case 0 ... 3: do_map(m); break;
    case 4 ... 5: do_unmap(m); break;
    case 6 ... 8: do_protect(m); break;
    case 9: do_dontneed(m); break;
    case 10: do_move(m); break;
    case 11: do_resize(m); break;
    case 12: do_fork(m); break;
    case 13: do_exit(m); break;
    case 14:
        if (!test_random_below(4))
            do_truncate();
        break;
    case 15 ... 25: do_store(m); break;
    default: check_page(m, (unsigned)test_random_below(WINDOW)); break;
    }
}

/* proves: TRAP-7 TRAP-8 TRAP-9 TRAP-10 TRAP-17 VE-54 VM-03 VM-05 VM-24 AS-18 AS-27 X-01 */
static void random_calls_match_the_page_model(void **state)
{
    unsigned steps = getenv("STEPS") ? (unsigned)atoi(getenv("STEPS")) : 100000;
    uint64_t frames, tables;

    (void)state;
    space_machine(256 * MIB);
    test_seed("mmap_prop");
    spaces[0].s = space_new(); /* caches warm up */
    quire_space_put(spaces[0].s);
    quire_heap_drain();
    frames = quire_free_pages();
    tables = quire_pt_pages();
    assert_int_equal(quire_object_create_shared(OBJECT_PAGES * PAGE, &object), QUIRE_OK);
    object_pages = OBJECT_PAGES;
    spaces[0].s = space_new();
    for (unsigned i = 0; i < steps; i++) {
        step();
        if (i % 2000 == 0)
            check_all();
    }
    check_all();
    for (unsigned k = 0; k < SPACES; k++)
        if (spaces[k].s)
            quire_space_put(spaces[k].s);
    quire_object_put(object);
    assert_int_equal(quire_pt_pages(), tables);
    quire_heap_drain();
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
    assert_int_equal(quire_free_pages(), frames);
    hosted_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_calls_match_the_page_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
