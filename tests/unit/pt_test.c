/*
 * pt_test.c - src/pt: the format, creating and walking tables, splitting, moving and freeing them,
 * and looking at them.
 */
#include <pt_machine.h>

/* ---- Format ---- */

/* proves: LX-25 VE-11 */
static void shape_of_the_tree(void **state)
{
    (void)state;
    assert_int_equal(sizeof(qi_pte), 8);
    assert_int_equal(QI_PT_ENTRIES * sizeof(qi_pte), 4096);
    for (int i = 0; i < 10000; i++) {
        uint64_t va = test_random();

        for (unsigned l = 0; l < 4; l++)
            assert_int_equal(qi_pt_index(va, l), va / (4096ull << 9 * l) % 512);
    }
}

/* Each protection and memory type, seen by the CPU: exactly what was asked for, read where
 * anything is allowed at all.  proves: TRAP-10 VE-16 */
static void protection_as_the_cpu_sees_it(void **state)
{
    static const unsigned pat[] = {
        [QUIRE_CACHED] = 0, [QUIRE_WRITE_COMBINING] = 1, [QUIRE_UNCACHED] = 3};
    q_pa root = new_root();
    uint64_t va = 0x400000;

    (void)state;
    put(root, va, 0x300000, QUIRE_READ, 0);
    for (unsigned prot = 0; prot < 16; prot++) {
        for (enum quire_cache_type c = QUIRE_CACHED; c <= QUIRE_UNCACHED; c++) {
            qi_pte e = qi_pte_make(Q_PFN(0x300), prot, c, QI_PTE_SPECIAL), *slot;
            bool any = prot & 7;
            struct walk w;
            unsigned l;

            slot = qi_pt_lookup(root, va, &l);
            qi_pte_set(slot, e);
            assert_true(qi_pte_present(e));
            assert_int_equal(qi_pte_valid(e), any);
            assert_false(qi_pte_is_soft(e));
            assert_int_equal(qi_pte_pfn(e).v, 0x300);
            assert_true(qi_pte_special(e));
            assert_int_equal(qi_pte_cache(e), c);
            assert_int_equal(pt_walk(root.v, va + 123, kernel_read, &w),
                             any ? WALK_OK : WALK_ABSENT);
            if (!any)
                continue;
            assert_int_equal(w.pa, 0x300000 + 123);
            assert_int_equal(w.pat, pat[c]);
            assert_int_equal(w.loads, 4);
            assert_false(w.global);
            assert_int_equal(access_of(root, va, user_read),
                             prot & QUIRE_USER ? WALK_OK : WALK_PROTECTION);
            assert_int_equal(access_of(root, va, kernel_write),
                             prot & QUIRE_WRITE ? WALK_OK : WALK_PROTECTION);
            assert_int_equal(access_of(root, va, kernel_fetch),
                             prot & QUIRE_EXEC ? WALK_OK : WALK_PROTECTION);
            assert_int_equal(qi_pte_prot(e), prot | QUIRE_READ);
        }
    }
    wipe(root, va, va + 4096);
    qi_pt_root_free(root);
}

/* modify changes protection and type, nothing else, and never loses a frame over PROT_NONE. */
static void modify_keeps_the_rest(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        unsigned p1 = (unsigned)test_random_below(8), p2 = (unsigned)test_random_below(8);
        uint64_t pfn = test_random_below(1ull << 40), soft = test_random() & (0xe00 | QI_PTE_OWN);
        uint64_t marks = test_random() & (QI_X86_A | QI_X86_D | QI_X86_PS);
        qi_pte e = QI_PTE(qi_pte_make(Q_PFN(pfn), p1, QUIRE_CACHED, soft).v | marks);
        qi_pte m = qi_pte_modify(e, qi_pte_template(p2, QUIRE_UNCACHED));

        assert_int_equal(m.v, qi_pte_make(Q_PFN(pfn), p2, QUIRE_UNCACHED, soft).v | marks);
        assert_int_equal(qi_pte_pfn(m).v, pfn);
    }
}

static void a_moving_leaf_remembers_what_it_was(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        unsigned prot = (unsigned)test_random_below(8) | QUIRE_USER;
        uint64_t pfn = test_random_below(1ull << 40), to = test_random_below(1ull << 40);
        uint64_t marks =
            test_random() & (QI_X86_A | QI_X86_D | QI_X86_PS | QI_PTE_SPECIAL | QI_PTE_OWN);
        qi_pte e = QI_PTE(qi_pte_make(Q_PFN(pfn), prot, QUIRE_CACHED, 0).v | marks);
        qi_pte m = qi_pte_mkmoving(e);

        assert_true(qi_pte_moving(m) && qi_pte_present(m) && !qi_pte_valid(m) && !qi_pte_leads(m));
        assert_false(qi_pte_moving(e));
        assert_int_equal(qi_pte_pfn(m).v, pfn);
        assert_int_equal(qi_pte_dirty(m), qi_pte_dirty(e));
        assert_int_equal(qi_pte_huge(m), qi_pte_huge(e));
        assert_int_equal(qi_pte_unmoving(m).v, e.v);
        assert_int_equal(qi_pte_elsewhere(e, Q_PFN(to)).v,
                         qi_pte_make(Q_PFN(to), prot, QUIRE_CACHED, 0).v | marks);
    }
}

static void software_entries_are_never_present(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        unsigned type = 1 + (unsigned)test_random_below(QI_PTE_SOFT_TYPES - 1);
        uint64_t payload = test_random() >> 9;
        qi_pte e = qi_pte_soft(type, payload);

        assert_true(qi_pte_is_soft(e));
        assert_false(qi_pte_present(e) || qi_pte_valid(e) || qi_pte_none(e) || qi_pte_huge(e));
        assert_int_equal(qi_pte_soft_type(e), type);
        assert_int_equal(qi_pte_soft_payload(e), payload);
    }
    assert_false(qi_pte_is_soft(QI_PTE(0)));
}

/* ---- Look up and create ---- */

/* proves: LX-01 */
static void the_root_is_the_address_space(void **state)
{
    q_pa a = new_root(), b = new_root();
    struct walk w;

    (void)state;
    put(a, 0x7000, 0x200000, QUIRE_READ, 0);
    put(b, 0x7000, 0x201000, QUIRE_READ, 0);
    assert_int_equal(pt_walk(a.v, 0x7004, user_read, &w), WALK_OK);
    assert_int_equal(w.pa, 0x200004);
    assert_int_equal(pt_walk(b.v, 0x7004, user_read, &w), WALK_OK);
    assert_int_equal(w.pa, 0x201004);
    wipe(a, 0x7000, 0x8000);
    assert_int_equal(access_of(a, 0x7000, user_read), WALK_ABSENT);
    assert_int_equal(access_of(b, 0x7000, user_read), WALK_OK);
    wipe(b, 0x7000, 0x8000);
    qi_pt_root_free(a);
    qi_pt_root_free(b);
}

/* proves: VE-14 LX-27 X-04 */
static void tables_come_and_go_by_themselves(void **state)
{
    const uint64_t vas[] = {0x1000, 0x200000, GIB, 512 * GIB, USER_TOP - 4096, USER_TOP / 2};
    uint64_t frames = quire_free_pages(), tables = quire_pt_pages();
    q_pa root = new_root();
    unsigned level;

    (void)state;
    for (unsigned i = 0; i < QI_COUNT(vas); i++) {
        assert_null(qi_pt_lookup(root, vas[i], &level));
        put(root, vas[i], 0x200000 + i * 4096, QUIRE_READ | QUIRE_WRITE, 0);
        assert_int_equal(qi_pt_tables(root), 4);
        assert_int_equal(quire_pt_pages(), tables + 4);
        assert_int_equal(access_of(root, vas[i], user_write), WALK_OK);
        assert_int_equal(access_of(root, vas[i], user_fetch), WALK_PROTECTION);
        assert_int_equal(access_of(root, vas[i] ^ 4096, user_read), WALK_ABSENT);
        wipe(root, vas[i], vas[i] + 4096);
        assert_int_equal(qi_pt_tables(root), 1);
    }
    assert_int_equal(access_of(root, USER_TOP, user_read), WALK_GP);
    assert_false(qi_pt_canonical(USER_TOP));
    assert_false(qi_pt_canonical(KERNEL_LOW - 1));
    assert_true(qi_pt_canonical(USER_TOP - 1));
    assert_true(qi_pt_canonical(KERNEL_LOW));
    qi_pt_root_free(root);
    assert_int_equal(quire_pt_pages(), tables);
    assert_int_equal(quire_free_pages(), frames);
}

/* Kept tables are clean, counted, limited, and come back when asked for.  proves: X-04 */
static void kept_tables_are_clean(void **state)
{
    uint64_t frames = quire_free_pages(), tables = quire_pt_pages();
    struct quire_page *t[40];
    q_pa root[6];

    (void)state;
    quire_pt_cache(8);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 40; i++) {
            t[i] = qi_pt_table_alloc();
            assert_int_equal(t[i]->refs, 1);
            assert_true(t[i]->flags & QUIRE_PG_TABLE);
            for (unsigned k = 0; k < 512; k++)
                assert_int_equal(((uint64_t *)quire_page_ptr(t[i]))[k], 0);
        }
        for (unsigned i = 0; i < 6; i++) {
            root[i] = new_root();
            assert_int_equal(qi_pt_tables(root[i]), 1);
            assert_memory_equal((char *)quire_ptr_of_pa(root[i]) + 2048,
                                (char *)quire_ptr_of_pa(kernel_root) + 2048, 2048);
            put(root[i], 0x5000, 0x200000, QUIRE_READ, 0);
            wipe(root[i], 0x5000, 0x6000);
        }
        assert_int_equal(quire_pt_pages(), tables + 46);
        for (unsigned i = 0; i < 40; i++)
            qi_pt_table_free(t[i]);
        for (unsigned i = 0; i < 6; i++)
            qi_pt_root_free(root[i]);
        assert_int_equal(quire_pt_cached(), 8 + 2);
        assert_int_equal(quire_pt_pages(), tables);
        assert_int_equal(quire_free_pages() + quire_pt_cached(), frames);
    }
    quire_pt_cache(0);
    assert_int_equal(quire_pt_cached(), 0);
    assert_int_equal(quire_free_pages(), frames);
}

/* Each CPU has its own four, cleared, which cost no frame; what is more goes back, and all of it when memory
 * is short. */
/* proves: X-06 */
static void each_cpu_keeps_four_tables(void **state)
{
    uint64_t frames = quire_free_pages();
    struct quire_page *t[10], *kept[4][4], *p;

    (void)state;
    quire_pt_cache(4);
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        hosted_cpu_set(cpu);
        for (unsigned i = 0; i < 10; i++)
            assert_non_null(t[i] = qi_pt_table_alloc());
        for (unsigned i = 0; i < 10; i++)
            qi_pt_table_free(t[i]);
        memcpy(kept[cpu], t, sizeof kept[cpu]);
        assert_int_equal(quire_pt_cached(), 4 * (cpu + 1));
        assert_int_equal(quire_free_pages(), frames - quire_pt_cached());
    }
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        hosted_cpu_set(cpu);
        for (unsigned i = 0; i < 5; i++) { /* four of its own, and one that costs a frame */
            t[i] = qi_pt_table_alloc();
            for (unsigned k = 0; k < 512; k++)
                assert_int_equal(((uint64_t *)quire_page_ptr(t[i]))[k], 0);
            if (i < 4)
                assert_ptr_equal(t[i], kept[cpu][3 - i]);
            assert_int_equal(quire_pt_cached(), 16 - 4 * cpu - (i < 4 ? i + 1 : 4));
            assert_int_equal(quire_free_pages(), frames - 16 - cpu - (i == 4));
        }
    }
    for (unsigned i = 0; i < 5; i++)
        qi_pt_table_free(t[i]);
    assert_int_equal(quire_pt_cached(), 4);
    while ((p = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY)))
        ;
    assert_non_null(t[0] = qi_pt_table_alloc()); /* a fault still finds a table */
    qi_pt_table_free(t[0]);
    frames = quire_free_pages();
    quire_pt_trim();
    assert_int_equal(quire_pt_cached(), 0);
    assert_int_equal(quire_free_pages(), frames + 4);
    assert_non_null(quire_page_alloc(0, QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY));
    quire_pt_cache(0);
}

/* Tables shared with a neighbour stay until the neighbour goes.  proves: X-04 */
static void neighbours_keep_their_tables(void **state)
{
    q_pa root = new_root();
    struct qi_gather g;
    struct qi_tlb tlb;

    (void)state;
    qi_tlb_init(&tlb, root);
    qi_gather_init(&g, &tlb);
    put(root, 0x200000, 0x300000, QUIRE_READ, 0); /* A, then B, in one 2 MiB; C in the next */
    put(root, 0x201000, 0x301000, QUIRE_READ, 0);
    put(root, 0x400000, 0x302000, QUIRE_READ, 0);
    assert_int_equal(qi_pt_tables(root), 5);
    clear(root, 0x200000, 0x201000);
    qi_pt_free_range(&g, root, 0x200000, 0x201000, 0, 0x201000);
    assert_int_equal(qi_pt_tables(root), 5);
    assert_int_equal(access_of(root, 0x201000, user_read), WALK_OK);
    clear(root, 0x201000, 0x202000);
    qi_pt_free_range(&g, root, 0x201000, 0x202000, 0, 0x400000);
    assert_int_equal(qi_pt_tables(root), 4); /* only the table of A and B */
    clear(root, 0x400000, 0x401000);
    qi_pt_free_range(&g, root, 0x400000, 0x401000, 0, USER_TOP);
    assert_int_equal(qi_pt_tables(root), 1);
    qi_gather_finish(&g);
    assert_int_equal(g.flushes, 1);
    qi_pt_root_free(root);
}

/* proves: LX-26 */
static void huge_leaves_at_their_level(void **state)
{
    q_pa root = new_root();
    struct walk w;
    unsigned level;
    qi_pte *slot;

    (void)state;
    put(root, 4 * MIB, 6 * MIB, QUIRE_READ | QUIRE_WRITE, 1);
    assert_int_equal(pt_walk(root.v, 4 * MIB + 0x12345, user_write, &w), WALK_OK);
    assert_int_equal(w.page_size, 21);
    assert_int_equal(w.loads, 3);
    assert_int_equal(w.pa, 6 * MIB + 0x12345);
    slot = qi_pt_lookup(root, 5 * MIB, &level);
    assert_non_null(slot);
    assert_int_equal(level, 1);
    assert_int_equal(qi_pt_lookup_alloc(root, 5 * MIB, &slot, &level), QUIRE_OK);
    assert_int_equal(level, 1);
    put(root, 3 * GIB, 7 * GIB, QUIRE_READ, 2);
    assert_int_equal(pt_walk(root.v, 4 * GIB - 1, user_read, &w), WALK_OK);
    assert_int_equal(w.page_size, 30);
    assert_int_equal(w.loads, 2);
    assert_int_equal(w.pa, 8 * GIB - 1);
    assert_int_equal(access_of(root, 3 * GIB, user_write), WALK_PROTECTION);
    wipe(root, 4 * MIB, 4 * GIB);
    assert_int_equal(qi_pt_tables(root), 1);
    qi_pt_root_free(root);
}

/* ---- Spans ---- */

static void spans_cover_what_is_there(void **state)
{
    q_pa root = new_root();
    uint64_t at = 0x1ff000;
    struct qi_span s;

    (void)state;
    put(root, 0x1ff000, 0x200000, QUIRE_READ, 0);
    put(root, 4 * MIB, 8 * MIB, QUIRE_READ, 1);
    put(root, 600 * GIB, 0x203000, QUIRE_READ, 0);
    assert_true(qi_pt_next_span(root, &at, USER_TOP, &s));
    assert_int_equal(s.va, 0x1ff000);
    assert_int_equal(s.n, 1); /* to the end of its table */
    assert_int_equal(s.level, 0);
    assert_true(qi_pt_next_span(root, &at, USER_TOP, &s));
    assert_int_equal(s.va, 4 * MIB);
    assert_int_equal(s.level, 1);
    assert_true(qi_span_whole(&s));
    assert_true(qi_pt_next_span(root, &at, USER_TOP, &s));
    assert_int_equal(s.va, 600 * GIB);
    assert_int_equal(s.n, 512);
    assert_false(qi_pt_next_span(root, &at, USER_TOP, &s));
    assert_int_equal(at, USER_TOP);
    at = 5 * MIB; /* the middle of a huge leaf */
    assert_true(qi_pt_next_span(root, &at, 5 * MIB + 4096, &s));
    assert_int_equal(s.va, 5 * MIB);
    assert_int_equal(s.end, 5 * MIB + 4096);
    assert_false(qi_span_whole(&s));
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
}

/* ---- Split and move ---- */

/* proves: TRAP-7 */
static void split_translates_alike(void **state)
{
    q_pa root = new_root();
    uint64_t va = 8 * MIB, pa = 32 * MIB;
    struct quire_page *table;
    unsigned level;
    qi_pte *slot, old;
    struct walk w;

    (void)state;
    for (unsigned prot = 0; prot < 8; prot++) {
        put(root, va, pa, prot, 1);
        slot = qi_pt_lookup(root, va, &level);
        old = qi_pte_load(slot);
        qi_pte_set(slot, qi_pte_mkdirty(old)); /* the hardware marks it behind our back */
        table = qi_pt_table_alloc();
        assert_true(qi_pt_split(root, slot, old, level, table));
        for (uint64_t off = 0; off < 2 * MIB; off += 4096) {
            enum walk_fault f = pt_walk(root.v, va + off + 7, user_read, &w);
            qi_pte e = qi_pte_load(qi_pt_lookup(root, va + off, &level));

            assert_int_equal(f, prot ? WALK_OK : WALK_ABSENT);
            assert_int_equal(level, 0);
            assert_true(qi_pte_present(e) && qi_pte_dirty(e) && qi_pte_accessed(e));
            assert_int_equal(qi_pte_pa(e).v, pa + off);
            if (!prot)
                continue;
            assert_int_equal(w.pa, pa + off + 7);
            assert_int_equal(w.page_size, 12);
            assert_true(w.dirty && w.accessed);
            assert_int_equal(access_of(root, va + off, user_write),
                             prot & QUIRE_WRITE ? WALK_OK : WALK_PROTECTION);
            assert_int_equal(access_of(root, va + off, user_fetch),
                             prot & QUIRE_EXEC ? WALK_OK : WALK_PROTECTION);
        }
        assert_int_equal(qi_pt_tables(root), 4);
        wipe(root, va, va + 2 * MIB);
        assert_int_equal(qi_pt_tables(root), 1);
    }
    qi_pt_root_free(root);
}

/* A slot that changed meanwhile is not touched, and the table comes back clean.  proves: TRAP-7 */
static void split_of_something_else_changes_nothing(void **state)
{
    q_pa root = new_root();
    struct quire_page *table = qi_pt_table_alloc();
    qi_pte *slot, old;
    unsigned level;

    (void)state;
    put(root, 8 * MIB, 32 * MIB, QUIRE_READ | QUIRE_WRITE, 1);
    slot = qi_pt_lookup(root, 8 * MIB, &level);
    old = qi_pte_load(slot);
    qi_pte_set(slot, qi_pte_wrprotect(old));
    assert_false(qi_pt_split(root, slot, old, 1, table));
    assert_int_equal(qi_pte_load(slot).v, qi_pte_wrprotect(old).v);
    for (int i = 0; i < 512; i++)
        assert_int_equal(((uint64_t *)quire_page_ptr(table))[i], 0);
    qi_pt_table_free(table);
    assert_int_equal(qi_pt_tables(root), 3);
    /* 1 GiB into 512 of 2 MiB */
    put(root, 5 * GIB, 9 * GIB, QUIRE_READ, 2);
    slot = qi_pt_lookup(root, 5 * GIB, &level);
    assert_true(qi_pt_split(root, slot, qi_pte_load(slot), 2, qi_pt_table_alloc()));
    for (uint64_t off = 0; off < GIB; off += 2 * MIB) {
        struct walk w;

        assert_int_equal(pt_walk(root.v, 5 * GIB + off + 99, user_read, &w), WALK_OK);
        assert_int_equal(w.page_size, 21);
        assert_int_equal(w.pa, 9 * GIB + off + 99);
    }
    wipe(root, 0, 8 * GIB);
    qi_pt_root_free(root);
}

static void move_takes_a_whole_subtree(void **state)
{
    q_pa root = new_root();

    (void)state;
    for (uint64_t i = 0; i < 512; i += 7)
        put(root, 2 * MIB + i * 4096, 32 * MIB + i * 4096, QUIRE_READ, 0);
    put(root, 64 * MIB, 34 * MIB, QUIRE_READ, 0);
    assert_int_equal(qi_pt_move(root, 4 * MIB, 100 * GIB, 1), QUIRE_NOT_FOUND);
    assert_int_equal(qi_pt_tables(root), 5); /* nothing was made for it */
    assert_int_equal(qi_pt_move(root, 2 * MIB, 64 * MIB, 1), QUIRE_EXISTS);
    assert_int_equal(qi_pt_move(root, 2 * MIB, 100 * GIB, 1), QUIRE_OK);
    assert_int_equal(qi_pt_tables(root), 6);
    for (uint64_t i = 0; i < 512; i++) {
        struct walk w;

        assert_int_equal(access_of(root, 2 * MIB + i * 4096, user_read), WALK_ABSENT);
        assert_int_equal(pt_walk(root.v, 100 * GIB + i * 4096, user_read, &w),
                         i % 7 ? WALK_ABSENT : WALK_OK);
        assert_int_equal(w.pa, i % 7 ? 0 : 32 * MIB + i * 4096);
    }
    assert_int_equal(qi_pt_move(root, 100 * GIB, 700 * GIB, 2), QUIRE_OK);
    assert_int_equal(access_of(root, 700 * GIB, user_read), WALK_OK);
    wipe(root, 0, USER_TOP);
    assert_int_equal(qi_pt_tables(root), 1);
    qi_pt_root_free(root);
}

/* ---- Looking ---- */

static char dumped[16][160];
static unsigned dumped_n;

static void collect(void *ctx, const char *line)
{
    (void)ctx;
    if (dumped_n < 16)
        snprintf(dumped[dumped_n], sizeof dumped[0], "%s", line);
    dumped_n++;
}

static void dump_shows_runs(void **state)
{
    q_pa root = new_root();

    (void)state;
    for (uint64_t i = 0; i < 700; i++)
        put(root, 0x10000000 + i * 4096, 0x200000 + (i * 37 % 512) * 4096, QUIRE_READ | QUIRE_WRITE,
            0);
    put(root, 0x10000000 + 700 * 4096, 0x200000, QUIRE_READ | QUIRE_EXEC, 0);
    put(root, 1 * GIB, 4 * MIB, QUIRE_READ, 1);
    put(root, 1 * GIB + 2 * MIB, 8 * MIB, QUIRE_READ, 1);
    put(root, 2 * GIB, 0x200000, 0, 0);
    assert_int_equal(
        qi_kpt_map(Q_KVA(-8192ull), Q_PFN(9), 1, QUIRE_READ, QUIRE_WRITE_COMBINING, 12), QUIRE_OK);
    dumped_n = 0;
    quire_pt_dump(root, 0, 0, collect, NULL);
    assert_int_equal(dumped_n, 5);
    assert_string_equal(dumped[0], "0000000010000000-00000000102bbfff       2800K rw-u- 4K wb");
    assert_string_equal(dumped[1], "00000000102bc000-00000000102bcfff          4K r-xu- 4K wb");
    assert_string_equal(dumped[2], "0000000040000000-00000000403fffff       4096K r--u- 2M wb");
    assert_string_equal(dumped[3], "0000000080000000-0000000080000fff          4K ---u- 4K wb");
    assert_string_equal(dumped[4], "ffffffffffffe000-ffffffffffffefff          4K r--kg 4K wc");
    dumped_n = 0;
    quire_pt_dump(root, 0x10001000, 0x10002000, collect, NULL);
    assert_int_equal(dumped_n, 1);
    assert_string_equal(dumped[0], "0000000010001000-0000000010001fff          4K rw-u- 4K wb");
    qi_kpt_unmap(Q_KVA(-8192ull), 4096);
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
}

static void translate_agrees_with_the_cpu(void **state)
{
    q_pa root = new_root();
    struct quire_translation t;
    struct walk w;

    (void)state;
    put(root, 2 * MIB, 6 * MIB, QUIRE_READ | QUIRE_WRITE, 1);
    quire_pt_translate(root, 2 * MIB + 0x54321, &t);
    assert_int_equal(pt_walk(root.v, 2 * MIB + 0x54321, user_write, &w), WALK_OK);
    assert_true(t.present);
    assert_int_equal(t.pa.v, w.pa);
    assert_int_equal(t.leaf_shift, 21);
    assert_int_equal(t.prot, QUIRE_READ | QUIRE_WRITE | QUIRE_USER);
    quire_pt_translate(root, USER_TOP, &t);
    assert_false(t.present);
    quire_pt_translate(root, GIB, &t);
    assert_false(t.present);
    assert_int_equal(t.entry, 0);
    wipe(root, 0, USER_TOP);
    qi_pt_root_free(root);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(shape_of_the_tree),
        T(protection_as_the_cpu_sees_it),
        T(modify_keeps_the_rest),
        T(a_moving_leaf_remembers_what_it_was),
        T(software_entries_are_never_present),
        T(the_root_is_the_address_space),
        T(tables_come_and_go_by_themselves),
        T(kept_tables_are_clean),
        T(each_cpu_keeps_four_tables),
        T(neighbours_keep_their_tables),
        T(huge_leaves_at_their_level),
        T(spans_cover_what_is_there),
        T(split_translates_alike),
        T(split_of_something_else_changes_nothing),
        T(move_takes_a_whole_subtree),
        T(dump_shows_runs),
        T(translate_agrees_with_the_cpu),
    };

    test_seed("pt_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
