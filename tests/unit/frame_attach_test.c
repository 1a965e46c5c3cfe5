/*
 * frame_attach_test.c - kinds of blocks with destructors of their own, shared memory maps, and what a struct page
 * says of its frame.
 */
#include <frame_machine.h>

/* ---- Kinds ---- */

static struct quire_page *pool[8];
static unsigned npool, calls;

/* A pool that keeps what its holders drop. */
static void to_pool(struct quire_page *head)
{
    calls++;
    assert_int_equal(head->refs, 1);
    pool[npool++] = head;
}

static void to_allocator(struct quire_page *head)
{
    calls++;
    quire_page_free(head, quire_page_order(head));
}

/* A head, tails that lead to it, and the allocator as the one that gets it back, unless its kind says otherwise: then
 * the destructor has it, once, when the last of several holders lets go; and the pool's account is its own.
 * proves: LX-23 LX-24 */
static void the_last_put_calls_the_destructor(void **state)
{
    uint64_t free;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    free = quire_free_pages();
    assert_int_equal(quire_page_kind_set(0, to_pool), QUIRE_INVALID);
    assert_int_equal(quire_page_kind_set(QUIRE_PAGE_KINDS, to_pool), QUIRE_INVALID);
    assert_int_equal(quire_page_kind_set(1, to_pool), QUIRE_OK);
    assert_int_equal(quire_page_kind_set(7, to_allocator), QUIRE_OK);
    for (unsigned o = 1; o <= QUIRE_MAX_ORDER; o++) {
        struct quire_page *p = get(o), *q;

        for (unsigned i = 0; i < 1u << o; i++) {
            assert_ptr_equal(quire_page_head(p + i), p);
            assert_int_equal(p[i].flags & 0xfu, i ? QUIRE_PG_TAIL : QUIRE_PG_HEAD);
        }
        npool = calls = 0;
        quire_page_set_kind(p, 1);
        quire_page_get(p + 1); /* a second holder, by a tail */
        quire_page_put(p);
        assert_int_equal(calls, 0);
        quire_page_put(p + 1);
        assert_int_equal(calls, 1);
        assert_ptr_equal(pool[0], p);
        quire_frame_drain();
        assert_int_equal(quire_free_pages(), free - (1u << o)); /* the pool's, not free */
        healthy();

        /* out of the pool it is an ordinary block again, which can be made to be of another kind */
        quire_page_set_kind(p, 7);
        quire_page_put(p);
        assert_int_equal(calls, 2);
        quire_frame_drain();
        assert_int_equal(quire_free_pages(), free);

        /* the next holder of the same frames finds no kind there; free does not ask */
        q = get(o);
        quire_page_put(q);
        q = get(o);
        quire_page_set_kind(q, 1);
        quire_page_free(q, o);
        q = get(o);
        quire_page_put(q);
        assert_int_equal(calls, 2);
        quire_frame_drain();
        assert_int_equal(quire_free_pages(), free);
        healthy();
    }
}

static void misuse_of_kinds(void **state)
{
    struct quire_page *p, *one;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    p = get(3);
    one = get(0);
    PANICS(quire_page_set_kind(p, 3), "kind 3 has no destructor");
    PANICS(quire_page_set_kind(p, 8), "kind 8");
    PANICS(quire_page_set_kind(p + 1, 0), "no block");
    PANICS(quire_page_set_kind(one, 0), "no block");
    assert_int_equal(quire_page_kind_set(3, to_pool), QUIRE_OK);
    quire_page_set_kind(p, 3);
    __atomic_store_n(&p->maps, 1, __ATOMIC_RELAXED); /* somebody still maps it */
    PANICS(quire_page_put(p), "still mapped");
    __atomic_store_n(&p->maps, 0, __ATOMIC_RELAXED);
    npool = 0;
    p->refs = 1;
    quire_page_put(p);
    assert_int_equal(npool, 1);
}

/* ---- What a page says ---- */

static __attribute__((noinline)) void refused(struct quire_page *p)
{
    PANICS(quire_page_free(p, 0), "reserved");
    PANICS(quire_page_put(p), "reserved");
    PANICS(quire_page_split(p), "split");
}

/* A reserved frame is nobody's: never handed out, not one byte or flag of it changed, and every operation that
 * would do so refused.  LOCKED is another matter: the frame is somebody's, and it stays set.
 * proves: LX-12 */
static void reserved_frames_are_not_touched(void **state)
{
    const uint64_t at = 24 * MIB + 12 * 4096;
    struct quire_page *p;
    unsigned char *bytes;
    size_t n;

    (void)state;
    map_start(64 * MIB);
    map_add(16 * MIB, 48 * MIB, 0);
    assert_int_equal(quire_memmap_reserve(&map, Q_PA(at), 3 * 4096, "firmware", NULL), QUIRE_OK);
    bytes = quire_ptr_of_pa(Q_PA(at));
    memset(bytes, 0xa7, 3 * 4096);
    boot(1, 1, NULL, NULL);
    n = exhaust(0, QUIRE_GFP_MEMALLOC | QUIRE_GFP_ZERO);
    for (size_t i = 0; i < n; i++)
        memset(quire_page_ptr(held[i]), (int)i, 4096);
    for (uint64_t f = 0; f < 3; f++) {
        p = quire_page_of_pfn(Q_PFN(at / 4096 + f));
        assert_int_equal(quire_page_flags(Q_PFN(at / 4096 + f)) & 0xffffu, QUIRE_PG_RESERVED);
        refused(p);
        assert_int_equal(quire_frame_poison(Q_PFN(at / 4096 + f)), QUIRE_INVALID);
        assert_int_equal(p->refs, 1);
    }
    assert_int_equal(quire_frame_offline(Q_PFN(24 * MIB / 4096), 512), QUIRE_INVALID);
    give_back(n, 0);
    for (unsigned i = 0; i < 3 * 4096; i++)
        assert_int_equal(bytes[i], 0xa7);
    p = get(0);
    __atomic_fetch_or(&p->flags, QUIRE_PG_LOCKED, __ATOMIC_RELAXED);
    quire_page_get(p);
    quire_page_put(p);
    assert_int_equal(p->flags & (QUIRE_PG_LOCKED | QUIRE_PG_RESERVED), QUIRE_PG_LOCKED);
    quire_page_put(p);
    healthy();
}

/* The page is the frame's, wherever what is in it goes: data that moves gets another page, and the frame's
 * own page forgets whose it was.
 * proves: VM-02 LX-11 */
static void a_page_describes_the_frame(void **state)
{
    struct quire_page *a, *b;
    q_pfn frame;
    char object;

    (void)state;
    machine(16 * MIB, 16 * MIB);
    _Static_assert(sizeof(struct quire_page) == 32, "one page for each 4 KiB");
    a = get(0);
    frame = quire_pfn_of_page(a);
    a->owner = (uintptr_t)&object;
    a->index = 77;
    __atomic_fetch_or(&a->flags, QUIRE_PG_OBJECT | QUIRE_PG_DIRTY, __ATOMIC_RELAXED);
    strcpy(quire_page_ptr(a), "data");
    /* swapped out and in: the same data, another frame, another page */
    b = get(0);
    memcpy(quire_page_ptr(b), quire_page_ptr(a), 4096);
    b->owner = a->owner;
    b->index = a->index;
    quire_page_put(a);
    assert_ptr_not_equal(quire_page_of_pfn(quire_pfn_of_page(b)), quire_page_of_pfn(frame));
    assert_ptr_equal(quire_page_of_pfn(frame), a);
    assert_string_equal(quire_page_ptr(b), "data");
    /* the frame goes to somebody else: same page, nothing of the old association in it */
    assert_int_equal(a->flags & 0xffffu, QUIRE_PG_FREE);
    assert_ptr_equal(get(0), a);
    assert_int_equal(a->owner, 0);
    assert_int_equal(a->refs, 1);
    assert_int_equal(a->maps, 0);
    assert_int_equal(a->flags & 0xffffu, 0);
    assert_int_equal(b->owner, (uintptr_t)&object);
}

/* ---- Shared maps ---- */

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP

/* Pages of the map that the process has to itself. */
static unsigned own_pages(const struct quire_page *head, unsigned order)
{
    unsigned n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    uintptr_t from = (uintptr_t)head, to = from + (32ull << order);
    unsigned long a, e;
    char perm[8], line[512];

    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx %7s", &a, &e, perm) == 3 && a < to && e > from && perm[1] == 'w')
            n += (unsigned)(((e < to ? e : to) - (a > from ? a : from)) / 4096);
    fclose(f);
    return n;
}

static __attribute__((noinline)) void refused_while_shared(struct quire_page *h)
{
    PANICS(quire_page_free(h, quire_page_order(h)), "memory map is shared");
    PANICS(quire_page_put(h), "memory map is shared");
    PANICS(quire_page_split(h), "memory map is shared");
}

/* Three of four pages of a 2 MiB block's map are gone, and all but the first of a larger one's; the pages still say
 * what they are and whose; what must not happen meanwhile does not; restored, it is as before.
 * proves: LX-29 */
static void tails_are_shared(void **state)
{
    struct quire_page *p[2][3], *h;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    for (unsigned o = 0; o < 2; o++)
        for (unsigned i = 0; i < 3; i++)
            p[o][i] = get(9 + o);
    for (unsigned o = 0; o < 2; o++)
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(own_pages(p[o][i], 9 + o), 4 << o);
            assert_int_equal(quire_page_map_share(p[o][i]), QUIRE_OK);
            assert_int_equal(own_pages(p[o][i], 9 + o), 1);
            assert_int_equal(quire_page_map_share(p[o][i]), QUIRE_EXISTS);
        }
    for (unsigned o = 0; o < 2; o++)
        for (unsigned i = 0; i < 3; i++) {
            h = p[o][i];
            for (unsigned f = 0; f < 512u << o; f++) {
                assert_ptr_equal(quire_page_head(h + f), h);
                assert_int_equal(quire_page_flags(quire_pfn_of_page(h + f)) & 0xffffu,
                                 f ? QUIRE_PG_TAIL : QUIRE_PG_HEAD);
                assert_int_equal(quire_page_node(h + f), 0);
            }
            quire_page_get(h + 300);
            assert_int_equal(h->refs, 2);
            quire_page_put(h + 400);
            refused_while_shared(h);
            assert_int_equal(quire_frame_poison(quire_pfn_of_page(h + 500)), QUIRE_BUSY);
            assert_int_equal(h->refs, 1);
        }
    healthy();
    for (unsigned o = 0; o < 2; o++)
        for (unsigned i = 0; i < 3; i++) {
            h = p[o][i];
            for (int n = 0; n < 3; n++) { /* the port has no memory: at each page */
                hosted_fail_populate = n;
                assert_int_equal(quire_page_map_restore(h), QUIRE_NO_MEMORY);
                assert_int_equal(own_pages(h, 9 + o), 1);
                assert_ptr_equal(quire_page_head(h + 511), h);
            }
            assert_int_equal(quire_page_map_restore(h), QUIRE_OK);
            assert_int_equal(quire_page_map_restore(h), QUIRE_NOT_FOUND);
            assert_int_equal(own_pages(h, 9 + o), 4 << o);
            for (unsigned f = 1; f < 512u << o; f++) {
                assert_int_equal(h[f].index, f);
                assert_int_equal(h[f].flags & 0x1fffffu, QUIRE_PG_TAIL);
            }
            if (i == 0) { /* and it can be split like any other */
                quire_page_split(h);
                for (unsigned f = 0; f < 512u << o; f++)
                    quire_page_put(h + f);
            } else {
                quire_page_put(h);
            }
        }
    quire_frame_drain();
    healthy();
    /* all is there but the two pages of tails */
    assert_int_equal(exhaust(0, QUIRE_GFP_MEMALLOC | QUIRE_GFP_MOVABLE), quire_managed_pages() - 2);
}

/* Only whole blocks of 2 MiB and more that are held and have no bad frame. */
static void what_cannot_be_shared(void **state)
{
    struct quire_page *p;

    (void)state;
    machine(16 * MIB, 64 * MIB);
    assert_int_equal(quire_page_map_share(get(8)), QUIRE_INVALID);
    PANICS((void)quire_page_map_share(get(9) + 1), "no block");
    p = get(9);
    assert_int_equal(quire_page_map_restore(p), QUIRE_NOT_FOUND);
    assert_int_equal(quire_frame_poison(quire_pfn_of_page(p + 200)), QUIRE_OK);
    assert_int_equal(quire_page_map_share(p), QUIRE_BUSY);
    quire_page_put(p);
    healthy();
}

#else

static void other_models_cannot(void **state)
{
    (void)state;
    machine(16 * MIB, 64 * MIB);
    assert_int_equal(quire_page_map_share(get(9)), QUIRE_UNSUPPORTED);
    assert_int_equal(quire_page_map_restore(get(9)), QUIRE_UNSUPPORTED);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_put_calls_the_destructor),
        cmocka_unit_test(misuse_of_kinds),
        cmocka_unit_test(reserved_frames_are_not_touched),
        cmocka_unit_test(a_page_describes_the_frame),
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
        cmocka_unit_test(tails_are_shared),
        cmocka_unit_test(what_cannot_be_shared),
#else
        cmocka_unit_test(other_models_cannot),
#endif
    };

    test_seed("frame_attach_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
