/*
 * heap_harden_test.c - encoded free pointers, random order, clearing and quarantine (quire/harden.h).
 */
#include <heap_suite.h>
#include <slab/harden.h>

static void machine(uint32_t flags, size_t quarantine)
{
    machine_of((struct quire_heap_options){.flags = flags, .quarantine_bytes = quarantine});
}

static __attribute__((noinline)) bool alloc_panics(struct quire_cache *c)
{
    return HOSTED_EXPECT_PANIC(quire_cache_alloc(c, QUIRE_GFP_KERNEL));
}

static __attribute__((noinline)) bool free_panics(void *p)
{
    return HOSTED_EXPECT_PANIC(quire_kfree(p));
}

static void said(const char *words)
{
    if (!strstr(hosted_panic_text(), words))
        fail_msg("said '%s', not '%s'", hosted_panic_text(), words);
}

/* ---- encode ---- */

/* No pointer to an object, nor to its state byte, stands anywhere in the heap's books. */
/* proves: X-12 */
static void no_free_pointer_is_in_memory(void **state)
{
    struct quire_cache *c;
    void *p[200];

    (void)state;
    machine(QUIRE_HARDEN_ENCODE, 0);
    c = cache("secret", 96, 0, 0);
    for (int i = 0; i < 200; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    for (int i = 0; i < 200; i++)
        quire_cache_free(c, p[i]);
    for (uint64_t pfn = 256; pfn < 64 * 256; pfn++) {
        struct quire_page *page = quire_page_of_pfn(Q_PFN(pfn));
        uintptr_t *word = quire_page_ptr(page);

        if (!(page->flags & QUIRE_PG_SLAB))
            continue;
        for (unsigned w = 0; w < 512; w++)
            for (int i = 0; i < 200; i++)
                if (word[w] == (uintptr_t)p[i])
                    fail_msg("object %d of 200 stands at %p", i, (void *)&word[w]);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* An entry that was written over, or replaced by another slot's, is not handed out. */
/* proves: X-12 */
static void a_damaged_entry_is_not_handed_out(void **state)
{
    struct quire_cache *c;
    struct qi_cache_cpu *cc;
    struct qi_entry was;
    void *p;

    (void)state;
    machine(QUIRE_HARDEN_ENCODE, 0);
    c = cache("damaged", 96, 0, 0);
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    cc = c->cpu[0];
    was = cc->top[-1];
    for (int bit = 0; bit < 64; bit += 3) {
        cc->top[-1].obj = (void *)((uintptr_t)was.obj ^ 1ull << bit);
        assert_true(alloc_panics(c));
        said("free pointer at");
        cc->top[-1] = was;
        cc->top[-1].state = (uint8_t *)((uintptr_t)was.state ^ 1ull << bit);
        assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
        assert_true(alloc_panics(c));
        cc->top[-1] = was;
    }
    cc->top[-1] = cc->top[-2]; /* one and the same object twice, elsewhere that is an attack */
    assert_true(alloc_panics(c));
    cc->top[-1] = was;
    cc->top[-1].obj = p; /* what an overflow that knows no secret would write */
    assert_true(alloc_panics(c));
    cc->top[-1] = was;
    quire_cache_free(c, p);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* Enough to have full sheaves in the barn. */
static void fill_barn(struct quire_cache *c)
{
    static void *p[400];

    for (int i = 0; i < 400; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    for (int i = 0; i < 400; i++)
        quire_cache_free(c, p[i]);
    assert_true(c->node[0].nfull_sheaves >= 2);
}

static __attribute__((noinline)) bool shrink_panics(struct quire_cache *c)
{
    return HOSTED_EXPECT_PANIC(quire_cache_shrink(c));
}

/* proves: X-12 */
static void links_of_barn_and_slabs_are_checked(void **state)
{
    static struct qi_list elsewhere;
    struct quire_cache *c;
    struct qi_sheaf *was;
    struct qi_list *next;
    struct qi_slab *s;
    void *p;

    (void)state;
    machine(QUIRE_HARDEN_ENCODE, 0);
    c = cache("links", 96, 0, 0);
    fill_barn(c);
    was = c->node[0].full_sheaves;
    c->node[0].full_sheaves =
        quire_kmalloc(64, QUIRE_GFP_KERNEL); /* a sheaf of somebody's making */
    assert_true(shrink_panics(c));
    said("link at");
    quire_kfree(c->node[0].full_sheaves);
    c->node[0].full_sheaves = was;
    c->node[0].lock = (struct qi_spin){0};
    quire_cache_shrink(c);

    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    s = qi_slab_of_page(quire_page_of_ptr(p));
    quire_cache_shrink(c);
    next = s->link.next;
    s->link.next = &elsewhere; /* would be written to */
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_alloc(c, QUIRE_GFP_KERNEL)));
    said("links of slab");
    s->link.next = next;
}

/* ---- random ---- */

/* 0: the objects of a fresh cache come in order of address; else in another.  *hash names the order. */
static int disorder(uint32_t flags, uint64_t *hash)
{
    uintptr_t last = 0;
    int back = 0;

    machine(flags, 0);
    *hash = 0;
    for (int i = 0; i < 64; i++) {
        uintptr_t p = (uintptr_t)quire_kmalloc(64, QUIRE_GFP_KERNEL);

        back += p < last;
        last = p;
        *hash = (*hash ^ (p & 4095)) * 0x9e3779b97f4a7c15;
    }
    heap_sound();
    hosted_fini();
    return back;
}

/* The order is another each time, and every object comes once. */
static void objects_come_in_random_order(void **state)
{
    uint64_t plain[2], drawn[2];
    uint8_t seen[64] = {0};
    int d;

    (void)state;
    disorder(0, &plain[0]);
    disorder(0, &plain[1]);
    assert_int_equal(plain[0], plain[1]);
    d = disorder(QUIRE_HARDEN_RANDOM, &drawn[0]);
    assert_true(d > 16 &&
                d < 48); /* 32 of 64 are expected to be before the last, with a deviation of 2.3 */
    disorder(QUIRE_HARDEN_RANDOM, &drawn[1]);
    assert_true(drawn[0] != drawn[1]);
    machine(QUIRE_HARDEN_RANDOM, 0);
    for (int i = 0; i < 64; i++) {
        uintptr_t p = (uintptr_t)quire_kmalloc(64, QUIRE_GFP_KERNEL);

        assert_int_equal(seen[(p & 4095) / 64]++, 0);
    }
}

/* ---- zero ---- */

static void memory_is_cleared_when_taken_and_when_given(void **state)
{
    static const size_t sizes[] = {1, 8, 50, 64, 1000, 5000, 16384, 20000, 100000};

    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        machine(mode ? QUIRE_HARDEN_ZERO_FREE : QUIRE_HARDEN_ZERO_ALLOC, 0);
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            uint8_t *p = quire_kmalloc(sizes[s], QUIRE_GFP_KERNEL);

            memset(p, 0xaa, sizes[s]);
            quire_kfree(p);
            for (size_t i = 0; mode && i < sizes[s]; i++)
                assert_int_equal(p[i], 0);
            p = quire_kmalloc(sizes[s], QUIRE_GFP_KERNEL);
            for (size_t i = 0; !mode && i < sizes[s]; i++)
                assert_int_equal(p[i], 0);
            quire_kfree(p);
        }
        expect_nothing_lost();
        hosted_fini();
    }
}

/* ---- quarantine ---- */

/* A freed object is not handed out while it waits, is known to be free, and waits as long as there is room. */
/* proves: TRAP-3 X-13 AS-54 */
static void freed_objects_wait(void **state)
{
    enum { BYTES = 64 * 1024, SIZE = 64 };
    void *first, *p;
    volatile int n = 0;

    (void)state;
    machine(QUIRE_HARDEN_QUARANTINE, BYTES);
    first = quire_kmalloc(SIZE, QUIRE_GFP_KERNEL);
    quire_kfree(first);
    assert_int_equal(heap_stats("kmalloc-64").active, 0);
    assert_true(free_panics(first));
    said("in quarantine");
    assert_true(HOSTED_EXPECT_PANIC(quire_ksize(first)));
    while (n < 100000 && (p = quire_kmalloc(SIZE, QUIRE_GFP_KERNEL)) != first) {
        quire_kfree(p);
        n++;
    }
    assert_true(n >= BYTES / SIZE - 1 && n < BYTES / SIZE + 200);
    quire_kfree(first);
    expect_nothing_lost();
}

/* proves: AS-54 */
static void a_write_in_quarantine_is_seen_when_it_ends(void **state)
{
    struct quire_cache *c;
    uint8_t *p, was;

    (void)state;
    machine(QUIRE_HARDEN_QUARANTINE, 0);
    c = cache("held", 200, 0, 0);
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    quire_cache_free(c, p);
    was = p[77];
    p[77] = 'x';
    assert_int_equal(quire_heap_verify(), QUIRE_CORRUPT);
    assert_true(HOSTED_EXPECT_PANIC(quire_heap_drain()));
    said("written after its free: byte 77");
    p[77] = was;
    assert_true(free_panics(p)); /* it is out of the ring, and nowhere: still no one's to free */
}

/* A cache goes with what of it waits; a ring of one small page serves objects larger than itself. */
static void the_ring_gives_way(void **state)
{
    struct quire_cache *c;
    void *p[300];

    (void)state;
    for (unsigned random = 0; random <= QUIRE_HARDEN_RANDOM; random += QUIRE_HARDEN_RANDOM) {
        machine(QUIRE_HARDEN_QUARANTINE | random, 100);
        c = cache("large", 3000, 0, 0);
        for (int i = 0; i < 300; i++)
            p[i] = i & 1 ? quire_cache_alloc(c, QUIRE_GFP_KERNEL) : quire_kmalloc(8, 0);
        for (int i = 0; i < 300; i++)
            quire_kfree(p[i]);
        heap_sound();
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        expect_nothing_lost();
        hosted_fini();
    }
}

/* Of objects that are smaller than the ring reckons with its places are full before its bytes are: it takes one for each
 * that it lets go, and all are there in the end. */
static void small_objects_fill_the_ring(void **state)
{
    enum { N = 3000 };
    static void *p[N];
    struct quire_cache *c;

    (void)state;
    for (unsigned random = 0; random <= QUIRE_HARDEN_RANDOM; random += QUIRE_HARDEN_RANDOM) {
        machine(QUIRE_HARDEN_QUARANTINE | random, 16384);
        c = cache("small", 8, 0, 0);
        for (int i = 0; i < N; i++)
            assert_non_null(p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL));
        for (int i = 0; i < N; i++)
            quire_cache_free(c, p[i]);
        heap_sound();
        assert_int_equal(heap_stats("small").active, 0);
        assert_in_range(qi_load_relaxed(&c->held), 1, 16384 / 16);
        quire_heap_drain();
        assert_int_equal(qi_load_relaxed(&c->held), 0);
        assert_int_equal(heap_stats("small").slabs, 0);
        assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
        expect_nothing_lost();
        hosted_fini();
    }
}

/* A constructor's state outlives the wait. */
static void construct(void *p) { memset(p, 0x42, 48); }

static void constructed_objects_are_left_alone(void **state)
{
    struct quire_cache *c;
    uint8_t *p;

    (void)state;
    machine(QUIRE_HEAP_FLAGS & ~QUIRE_HARDEN_SAMPLE & ~QUIRE_HEAP_TRACK & ~QUIRE_HEAP_LEAKSCAN,
            4096);
    assert_int_equal(quire_cache_create("made", 48, 0, 0, construct, &c), QUIRE_OK);
    for (int i = 0; i < 1000; i++) {
        p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        for (int k = 0; k < 48; k++)
            assert_int_equal(p[k], 0x42);
        quire_cache_free(c, p);
    }
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

#define MODES(f) cmocka_unit_test_setup_teardown(f, NULL, teardown_modes)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODES(no_free_pointer_is_in_memory),
        MODES(a_damaged_entry_is_not_handed_out),
        MODES(links_of_barn_and_slabs_are_checked),
        MODES(objects_come_in_random_order),
        MODES(memory_is_cleared_when_taken_and_when_given),
        MODES(freed_objects_wait),
        MODES(a_write_in_quarantine_is_seen_when_it_ends),
        MODES(the_ring_gives_way),
        MODES(small_objects_fill_the_ring),
        MODES(constructed_objects_are_left_alone),
    };

    test_seed("heap_harden_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
