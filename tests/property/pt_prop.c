/*
 * pt_prop.c - random maps, unmaps, protections, splits and moves on several roots, against a dumb
 * model: an array that says for each page of a few windows which frame it shows and how.
 *
 * The windows straddle the boundaries of every level (2 MiB, 1 GiB, 512 GiB) and the end of the
 * user half.  The CPU's view comes from pt_walker.h.  At every step the number of tables is
 * compared with the number of distinct table ranges that the model needs, so a table freed too
 * early or kept too long shows at once.
 */
#include <quire_test.h>

#include <pt/gather.h>
#include <pt_walker.h>

#define MIB          (1ull << 20)
#define GIB          (1ull << 30)
#define SPAN         (64 * MIB)
#define USER_TOP     0x0000800000000000ull
#define WINDOW_PAGES 2048u /* 8 MiB */
#define WINDOWS      5u
#define PAGES        (WINDOW_PAGES * WINDOWS)
#define NONE         0xffffffffu

static const uint64_t window_start[WINDOWS] = {
    4 * MIB, GIB - 4 * MIB, 512 * GIB - 4 * MIB, 1024 * GIB + 2 * MIB, USER_TOP - 8 * MIB,
};

struct page {
    uint32_t pfn; /* NONE: nothing mapped */
    uint8_t prot;
    bool huge, dirty;
};

struct space {
    q_pa root;
    struct qi_tlb tlb;
    struct page page[PAGES];
};

static struct space spaces[2];
static uint64_t moves, splits, huge_maps;

static uint64_t va_of(unsigned i)
{
    return window_start[i / WINDOW_PAGES] + (uint64_t)(i % WINDOW_PAGES) * 4096;
}

/* A random run of pages inside one window. */
static void pick(unsigned *first, unsigned *n, unsigned max)
{
    unsigned w = (unsigned)test_random_below(WINDOWS);
    unsigned from = (unsigned)test_random_below(WINDOW_PAGES);

    *n = 1 + (unsigned)test_random_below(max);
    if (*n > WINDOW_PAGES - from)
        *n = WINDOW_PAGES - from;
    *first = w * WINDOW_PAGES + from;
}

/* ---- The model's tables ---- */

/* Bounds of the mapped neighbourhood of [first, first + n), as a space's vmas would give them. */
static void bounds(const struct space *s, unsigned first, unsigned n, uint64_t *floor,
                   uint64_t *ceiling)
{
    *floor = 0;
    *ceiling = USER_TOP;
    for (unsigned i = first; i-- > 0;) {
        if (s->page[i].pfn != NONE) {
            *floor = va_of(i) + 4096;
            break;
        }
    }
    for (unsigned i = first + n; i < PAGES; i++) {
        if (s->page[i].pfn != NONE) {
            *ceiling = va_of(i);
            break;
        }
    }
}

/* Tables needed by what is mapped: distinct ranges at each level. */
static uint64_t tables_needed(const struct space *s)
{
    uint64_t last[4] = {~0ull, ~0ull, ~0ull, ~0ull}, n = 1;

    for (unsigned i = 0; i < PAGES; i++) {
        if (s->page[i].pfn == NONE)
            continue;
        for (unsigned l = s->page[i].huge ? 1 : 0; l < 3; l++) {
            uint64_t range = va_of(i) >> (21 + 9 * l);

            if (range != last[l])
                n++;
            last[l] = range;
        }
    }
    return n;
}

/* ---- Checking ---- */

static void check_page(const struct space *s, unsigned i)
{
    const struct page *m = &s->page[i];
    const struct walk_access r = {.user = true}, wr = {.user = true, .write = true},
                             x = {.user = true, .fetch = true};
    uint64_t off = test_random_below(4096);
    struct quire_translation t;
    struct walk w;
    enum walk_fault f = pt_walk(s->root.v, va_of(i) + off, r, &w);

    quire_pt_translate(s->root, va_of(i) + off, &t);
    if (m->pfn == NONE || !(m->prot & 7)) {
        assert_int_equal(f, WALK_ABSENT);
        assert_false(t.present);
        assert_int_equal(qi_pte_present(QI_PTE(t.entry)), m->pfn != NONE);
        return;
    }
    assert_int_equal(f, WALK_OK);
    assert_int_equal(w.pa, (uint64_t)m->pfn * 4096 + off);
    assert_int_equal(w.page_size, m->huge ? 21 : 12);
    assert_int_equal(w.dirty, m->dirty);
    assert_int_equal(pt_walk(s->root.v, va_of(i), wr, &w),
                     m->prot & QUIRE_WRITE ? WALK_OK : WALK_PROTECTION);
    assert_int_equal(pt_walk(s->root.v, va_of(i), x, &w),
                     m->prot & QUIRE_EXEC ? WALK_OK : WALK_PROTECTION);
    assert_int_equal(t.pa.v, (uint64_t)m->pfn * 4096 + off);
    assert_int_equal(t.prot, m->prot | QUIRE_READ | QUIRE_USER);
}

static void check(const struct space *s, bool all)
{
    for (unsigned i = 0; i < (all ? PAGES : 64); i++)
        check_page(s, all ? i : (unsigned)test_random_below(PAGES));
    assert_int_equal(qi_pt_tables(s->root), tables_needed(s));
}

/* ---- Operations, on the tables and on the model ---- */

static qi_pte make(uint32_t pfn, unsigned prot, bool huge)
{
    qi_pte t = qi_pte_template(prot | QUIRE_USER, QUIRE_CACHED);

    return huge ? qi_pte_leaf_huge(t, Q_PFN(pfn), 0) : qi_pte_leaf(t, Q_PFN(pfn), 0);
}

static void op_map(struct space *s)
{
    unsigned first, n, prot = (unsigned)test_random_below(8);

    pick(&first, &n, 40);
    for (unsigned i = first; i < first + n; i++) {
        uint32_t pfn = (uint32_t)test_random_below(1u << 30);
        qi_pte empty = QI_PTE(0), *slot;
        unsigned level;

        if (s->page[i].pfn != NONE)
            continue;
        assert_int_equal(qi_pt_lookup_alloc(s->root, va_of(i), &slot, &level), QUIRE_OK);
        assert_int_equal(level, 0);
        assert_true(qi_pte_cas(slot, &empty, make(pfn, prot, false)));
        s->page[i] = (struct page){.pfn = pfn, .prot = (uint8_t)prot};
    }
}

static void op_map_huge(struct space *s)
{
    unsigned i = (unsigned)test_random_below(PAGES), prot = (unsigned)test_random_below(8), level;
    uint32_t pfn = (uint32_t)test_random_below(1u << 21) * 512;
    qi_pte empty = QI_PTE(0), *slot;
    bool used = false;

    i -= (unsigned)(va_of(i) >> 12 & 511); /* windows begin and end at multiples of 2 MiB */
    for (unsigned k = 0; k < 512; k++)
        used |= s->page[i + k].pfn != NONE;
    if (used)
        return;
    assert_int_equal(qi_pt_slot_alloc(s->root, va_of(i), 1, &slot, &level), QUIRE_OK);
    assert_int_equal(level, 1);
    assert_true(qi_pte_cas(slot, &empty, make(pfn, prot, true)));
    for (unsigned k = 0; k < 512; k++)
        s->page[i + k] = (struct page){.pfn = pfn + k, .prot = (uint8_t)prot, .huge = true};
    huge_maps++;
}

/* Split the huge leaves that [first, first + n) cuts. */
static void split_edges(struct space *s, unsigned first, unsigned n)
{
    struct qi_span sp;
    uint64_t start = va_of(first), end = start + (uint64_t)n * 4096;

    for (uint64_t at = start; qi_pt_next_span(s->root, &at, end, &sp);) {
        if (!sp.level || qi_span_whole(&sp))
            continue;
        assert_true(qi_pt_split(s->root, sp.ptes, qi_pte_load(sp.ptes), 1, qi_pt_table_alloc()));
        for (unsigned i = 0; i < PAGES; i++)
            if (va_of(i) >> 21 == sp.va >> 21)
                s->page[i].huge = false;
        at = sp.va;
        splits++;
    }
}

static void op_unmap(struct space *s)
{
    uint64_t floor, ceiling, start, end;
    struct qi_gather g;
    struct qi_span sp;
    unsigned first, n;

    pick(&first, &n, WINDOW_PAGES);
    split_edges(s, first, n);
    start = va_of(first);
    end = start + (uint64_t)n * 4096;
    qi_gather_init(&g, &s->tlb);
    for (uint64_t at = start; qi_pt_next_span(s->root, &at, end, &sp);) {
        for (unsigned i = 0; i < sp.n; i++)
            qi_pte_xchg(&sp.ptes[i], QI_PTE(0));
        qi_gather_range(&g, sp.va, sp.end - sp.va);
    }
    bounds(s, first, n, &floor, &ceiling);
    qi_pt_free_range(&g, s->root, start, end, floor, ceiling);
    qi_gather_finish(&g);
    for (unsigned i = first; i < first + n; i++)
        s->page[i].pfn = NONE;
}

static void op_protect(struct space *s)
{
    unsigned first, n, prot = (unsigned)test_random_below(8);
    qi_pte template = qi_pte_template(prot | QUIRE_USER, QUIRE_CACHED);
    struct qi_span sp;

    pick(&first, &n, WINDOW_PAGES);
    split_edges(s, first, n);
    for (uint64_t at = va_of(first);
         qi_pt_next_span(s->root, &at, va_of(first) + (uint64_t)n * 4096, &sp);)
        for (unsigned i = 0; i < sp.n; i++)
            if (qi_pte_present(qi_pte_load(&sp.ptes[i])))
                qi_pte_set(&sp.ptes[i], qi_pte_modify(qi_pte_load(&sp.ptes[i]), template));
    for (unsigned i = first; i < first + n; i++)
        s->page[i].prot = (uint8_t)prot;
}

/* The CPU writes to a page. */
static void op_dirty(struct space *s)
{
    unsigned i = (unsigned)test_random_below(PAGES), level;
    qi_pte *slot = qi_pt_lookup(s->root, va_of(i), &level);

    if (s->page[i].pfn == NONE)
        return;
    assert_non_null(slot);
    qi_pte_set(slot, qi_pte_mkdirty(qi_pte_load(slot)));
    for (unsigned k = 0; k < PAGES; k++)
        if (k == i || (level && va_of(k) >> 21 == va_of(i) >> 21))
            s->page[k].dirty = true;
}

static void op_move(struct space *s)
{
    unsigned from = (unsigned)test_random_below(PAGES / 512) * 512;
    unsigned to = (unsigned)test_random_below(PAGES / 512) * 512;
    bool source = false, target = false;
    uint64_t floor, ceiling;
    enum quire_status st;
    struct qi_gather g;

    for (unsigned i = 0; i < 512; i++) {
        source |= s->page[from + i].pfn != NONE;
        target |= s->page[to + i].pfn != NONE;
    }
    st = qi_pt_move(s->root, va_of(from), va_of(to), 1);
    assert_int_equal(st, !source ? QUIRE_NOT_FOUND : target ? QUIRE_EXISTS : QUIRE_OK);
    if (st != QUIRE_OK)
        return;
    memcpy(&s->page[to], &s->page[from], 512 * sizeof s->page[0]);
    for (unsigned i = 0; i < 512; i++)
        s->page[from + i].pfn = NONE;
    qi_gather_init(&g, &s->tlb);
    qi_gather_range(&g, va_of(from), 2 * MIB);
    qi_gather_tables(&g);
    bounds(s, from, 512, &floor, &ceiling);
    qi_pt_free_range(&g, s->root, va_of(from), va_of(from) + 2 * MIB, floor, ceiling);
    qi_gather_finish(&g);
    moves++;
}

/* proves: TRAP-7 TRAP-10 VE-14 LX-26 X-04 */
static void tables_match_the_model(void **state)
{
    static void (*const ops[])(struct space *) = {op_map,      op_map,     op_map,   op_map_huge,
                                                  op_map_huge, op_protect, op_unmap, op_move,
                                                  op_dirty,    op_dirty};
    uint64_t frames = quire_free_pages(), tables = quire_pt_pages();

    (void)state;
    quire_pt_cache((unsigned)test_random_below(2) *
                   16); /* a table that comes back dirty would show */
    for (unsigned k = 0; k < 2; k++) {
        assert_int_equal(qi_pt_root_alloc(&spaces[k].root), QUIRE_OK);
        qi_tlb_init(&spaces[k].tlb, spaces[k].root);
        for (unsigned i = 0; i < PAGES; i++)
            spaces[k].page[i] = (struct page){.pfn = NONE};
    }
    for (unsigned step = 0; step < 20000; step++) {
        struct space *s = &spaces[test_random_below(2)];

        ops[test_random_below(QI_COUNT(ops))](s);
        check(s, step % 1000 == 999);
    }
    assert_true(moves > 50 && splits > 50 && huge_maps > 50);
    for (unsigned k = 0; k < 2; k++) {
        check(&spaces[k], true);
        for (unsigned i = 0; i < 100000 && qi_pt_tables(spaces[k].root) > 1; i++)
            op_unmap(&spaces[k]);
        assert_int_equal(qi_pt_tables(spaces[k].root), 1);
        qi_pt_root_free(spaces[k].root);
    }
    assert_int_equal(quire_pt_pages(), tables);
    quire_pt_trim();
    assert_int_equal(quire_free_pages(), frames);
}

/* ---- The kernel's windows ---- */

#define KPAGES 4096u
#define KSTART 0xffffc8ffff800000ull /* 8 MiB below a 512 GiB boundary */

/* proves: VE-16 TRAP-3 */
static void kernel_window_matches_the_model(void **state)
{
    static uint32_t model[KPAGES]; /* 0 or frame number */
    static bool huge[KPAGES];

    (void)state;
    for (unsigned step = 0; step < 5000; step++) {
        unsigned first = (unsigned)test_random_below(KPAGES),
                 n = 1 + (unsigned)test_random_below(1200);
        uint32_t pfn = 1 + (uint32_t)test_random_below(1u << 24);
        q_kva va = Q_KVA(KSTART + first * 4096ull);
        bool used = false, cut = false;

        if (test_random_below(2)) {
            first &= ~511u;
            pfn &= ~511u;
            pfn += pfn ? 0 : 512;
            va = Q_KVA(KSTART + first * 4096ull);
        }
        n = QI_MIN(n, KPAGES - first);
        for (unsigned i = first; i < first + n; i++)
            used |= model[i] != 0;
        cut = (first % 512 && huge[first]) ||
              ((first + n) % 512 && first + n < KPAGES && huge[first + n]);
        if (test_random_below(3)) {
            enum quire_status s = qi_kpt_map(va, Q_PFN(pfn), n, QUIRE_READ, QUIRE_CACHED, 21);

            assert_int_equal(s, used ? QUIRE_EXISTS : QUIRE_OK);
            for (unsigned i = first; i < first + n && !used; i++) {
                struct quire_translation t;

                quire_pt_translate(qi_kpt_root(), KSTART + i * 4096ull, &t);
                model[i] = pfn + i - first;
                huge[i] = t.leaf_shift == 21;
            }
        } else if (!cut) {
            qi_kpt_unmap(va, n * 4096ull);
            qi_kpt_flush(va, n * 4096ull);
            for (unsigned i = first; i < first + n; i++) {
                model[i] = 0;
                huge[i] = false;
            }
        }
        for (unsigned k = 0; k < 100; k++) {
            unsigned i = (unsigned)test_random_below(KPAGES);
            struct walk w;
            enum walk_fault f =
                pt_walk(qi_kpt_root().v, KSTART + i * 4096ull, (struct walk_access){0}, &w);

            assert_int_equal(f, model[i] ? WALK_OK : WALK_ABSENT);
            assert_int_equal(w.pa, (uint64_t)model[i] * 4096);
        }
    }
    qi_kpt_unmap(Q_KVA(KSTART), KPAGES * 4096ull);
}

static int setup(void **state)
{
    static struct quire_mem_range ranges[8], reserved[8];
    static struct quire_memmap map;
    struct quire_boot boot = {.map = &map, .nodes = 1, .cpus = 1};

    (void)state;
    hosted_init(SPAN);
    quire_memmap_init(&map, ranges, 8, reserved, 8);
    assert_int_equal(quire_memmap_add(&map, Q_PA(MIB), SPAN - MIB, QUIRE_MEM_USABLE), QUIRE_OK);
    assert_int_equal(quire_frame_init(&boot), QUIRE_OK);
    assert_int_equal(
        quire_pt_init(quire_pa_of_page(quire_page_alloc(0, QUIRE_GFP_ZERO, QUIRE_NODE_ANY))),
        QUIRE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tables_match_the_model, setup, teardown),
        cmocka_unit_test_setup_teardown(kernel_window_matches_the_model, setup, teardown),
    };

    test_seed("pt_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
