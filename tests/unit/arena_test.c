/*
 * arena_test.c - src/arena: pieces, growth, what is reported, what is caught.
 */
#include <quire_test.h>

#include <arena/chunk.h>
#include <pthread.h>

#define OK(c) assert_int_equal(c, QUIRE_OK)

static struct quire_arena arena;
static _Alignas(4096) uint8_t memory[1 << 20];

static int setup(void **state)
{
    (void)state;
    memset(memory, 0xa7, sizeof memory);
    quire_arena_init(&arena, "test", NULL, 12345);
    OK(quire_arena_add(&arena, memory, sizeof memory));
    OK(quire_arena_verify(&arena));
    return 0;
}

static struct quire_arena_stats stats(void)
{
    struct quire_arena_stats s;

    quire_arena_stats(&arena, &s);
    return s;
}

/* One free piece, as at the start. */
static void expect_whole(void)
{
    OK(quire_arena_verify(&arena));
    assert_int_equal(stats().pieces, 0);
    assert_int_equal(stats().used, 0);
    assert_int_equal(stats().free_pieces, stats().regions);
}

/* The lowest free piece that is large enough serves, whatever the others are like. */
/* proves: VE-23 */
static void the_first_fit_is_taken(void **state)
{
    uint8_t *p[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        p[i] = quire_arena_alloc(&arena, 20000 - 2000 * (size_t)i);
    for (int i = 0; i < 5; i++)
        assert_true(p[i] < p[i + 1]);
    quire_arena_free(&arena, p[4]); /* 12000 bytes */
    quire_arena_free(&arena, p[2]); /* 16000 */
    quire_arena_free(&arena, p[0]); /* 20000 */
    assert_int_equal(stats().free_pieces, 4);
    assert_ptr_equal(quire_arena_alloc(&arena, 11000), p[0]); /* though p[4] fits best */
    assert_ptr_equal(quire_arena_alloc(&arena, 15000), p[2]);
    assert_ptr_equal(quire_arena_alloc(&arena, 12000), p[4]);
    assert_true((uint8_t *)quire_arena_alloc(&arena, 12001) > p[5]);
    OK(quire_arena_verify(&arena));
}

/* Freed in every order, three neighbours become one piece again. */
/* proves: VE-23 */
static void neighbours_coalesce(void **state)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    (void)state;
    for (int o = 0; o < 6; o++) {
        uint8_t *p[3], *fence;

        for (int i = 0; i < 3; i++)
            p[i] = quire_arena_alloc(&arena, 30000);
        fence = quire_arena_alloc(&arena, 1);
        for (int i = 0; i < 3; i++) {
            quire_arena_free(&arena, p[orders[o][i]]);
            OK(quire_arena_verify(&arena));
        }
        assert_int_equal(stats().free_pieces, 2);
        assert_ptr_equal(quire_arena_alloc(&arena, 90000), p[0]);
        quire_arena_free(&arena, p[0]);
        quire_arena_free(&arena, fence);
        expect_whole();
    }
}

static void alignments(void **state)
{
    enum { N = 40 };
    uint8_t *p[N];

    (void)state;
    for (size_t align = 1; align <= 65536; align *= 2) {
        int n = 0;

        for (; n < N; n++) {
            p[n] = quire_arena_alloc_aligned(&arena, 1 + (size_t)n * 37, align);
            if (!p[n])
                break;
            assert_int_equal((uintptr_t)p[n] % (align < 16 ? 16 : align), 0);
            memset(p[n], n, 1 + (size_t)n * 37);
        }
        assert_true(n >= 13); /* 65536: one MiB has 16 such places */
        OK(quire_arena_verify(&arena));
        while (n--)
            quire_arena_free(&arena, p[n]);
        expect_whole();
    }
    assert_true(HOSTED_EXPECT_PANIC(quire_arena_alloc_aligned(&arena, 10, 24)));
    assert_true(HOSTED_EXPECT_PANIC(quire_arena_alloc_aligned(&arena, 10, 0)));
}

/* Many pieces that are large enough but lie wrong, more than are looked at: the one that must do is found. */
static void alignment_among_holes(void **state)
{
    enum { N = 60 };
    uint8_t *hole[N], *fence[N], *p;

    (void)state;
    for (int i = 0; i < N; i++) {
        hole[i] = quire_arena_alloc(&arena, 5000);
        fence[i] = quire_arena_alloc(&arena, 3000);
    }
    for (int i = 0; i < N; i++)
        quire_arena_free(&arena, hole[i]);
    p = quire_arena_alloc_aligned(&arena, 4500, 65536);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 65536, 0);
    OK(quire_arena_verify(&arena));
    quire_arena_free(&arena, p);
    for (int i = 0; i < N; i++)
        quire_arena_free(&arena, fence[i]);
    expect_whole();
}

static void what_does_not_fit(void **state)
{
    uint8_t *all;

    (void)state;
    assert_null(quire_arena_alloc(&arena, sizeof memory));
    assert_null(quire_arena_alloc(&arena, SIZE_MAX));
    assert_null(quire_arena_alloc(&arena, SIZE_MAX - 40));
    assert_null(quire_arena_alloc(&arena, 1ull << 47));
    assert_int_equal(stats().failures, 4);
    all = quire_arena_alloc(&arena, stats().largest - 40);
    assert_non_null(all);
    assert_int_equal(stats().largest, 0);
    assert_null(quire_arena_alloc(&arena, 0));
    assert_null(quire_arena_realloc(&arena, all, sizeof memory));
    assert_int_equal(quire_arena_size(&arena, all), stats().used);
    quire_arena_free(&arena, all);
    quire_arena_free(&arena, NULL);
    expect_whole();
    all = quire_arena_alloc(&arena, 0);
    assert_non_null(all);
    assert_ptr_not_equal(all, quire_arena_alloc(&arena, 0));
    assert_int_equal(quire_arena_add(&arena, memory + 4096, 8192), QUIRE_INVALID); /* is its own */
    assert_int_equal(quire_arena_add(&arena, &state, sizeof state), QUIRE_INVALID);
    assert_int_equal(quire_arena_add(&arena, (void *)(UINTPTR_MAX - 100), 8192), QUIRE_INVALID);
}

static void realloc_in_place_and_not(void **state)
{
    uint8_t *a = quire_arena_realloc(&arena, NULL, 1000), *b, *c;

    (void)state;
    memset(a, 0x11, 1000);
    b = quire_arena_alloc(&arena, 1000);
    memset(b, 0x22, 1000);
    assert_ptr_equal(quire_arena_realloc(&arena, b, 50000), b); /* the rest behind it is free */
    c = quire_arena_realloc(&arena, a, 5000);
    assert_ptr_not_equal(c, a); /* b is in the way */
    for (int i = 0; i < 1000; i++)
        assert_true(c[i] == 0x11 && b[i] == 0x22);
    assert_ptr_equal(quire_arena_realloc(&arena, b, 10), b);
    assert_int_equal(quire_arena_size(&arena, b), 10);
    OK(quire_arena_verify(&arena));
    assert_int_equal(stats().used, 5010);
    assert_null(quire_arena_realloc(&arena, c, 0));
    quire_arena_free(&arena, b);
    expect_whole();
}

/* ---- misuse ---- */

static void expect_caught(void *p, const char *word)
{
    assert_true(HOSTED_EXPECT_PANIC(quire_arena_free(&arena, p)));
    assert_non_null(strstr(hosted_panic_text(), word));
    OK(quire_arena_verify(&arena)); /* and the lock is free */
}

static void expect_caught_unverified(void *p)
{
    assert_true(HOSTED_EXPECT_PANIC(quire_arena_free(&arena, p)));
}

static void expect_no_size(void *p)
{
    assert_true(HOSTED_EXPECT_PANIC(quire_arena_realloc(&arena, p, 10)));
    assert_true(HOSTED_EXPECT_PANIC(quire_arena_size(&arena, p)));
}

/* Whatever its neighbours are by now. */
/* proves: TRAP-3 */
static void frees_of_what_is_not_out(void **state)
{
    uint8_t *p[3];
    int local;

    (void)state;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++)
            p[i] = quire_arena_alloc(&arena, 500);
        if (round & 1)
            quire_arena_free(&arena, p[0]);
        if (round & 2)
            quire_arena_free(&arena, p[2]);
        quire_arena_free(&arena, p[1]);
        expect_caught(p[1], "freed before");
        expect_no_size(p[1]);
        if (!(round & 1))
            quire_arena_free(&arena, p[0]);
        if (!(round & 2))
            quire_arena_free(&arena, p[2]);
        expect_whole();
    }
    p[0] = quire_arena_alloc(&arena, 500);
    expect_caught(p[0] + 32, "not a piece");
    expect_caught(p[0] + 1, "not a piece");
    expect_caught(&local, "not a piece");
    expect_caught((void *)64, "not a piece");
    quire_arena_free(&arena, p[0]);
}

/* One byte behind any size of object is enough. */
static void overruns_by_one(void **state)
{
    (void)state;
    for (size_t size = 0; size < 300; size++) {
        uint8_t *p = quire_arena_alloc(&arena, size), was = p[size];

        p[size] ^= 0x40;
        expect_caught_unverified(p);
        assert_non_null(strstr(hosted_panic_text(), "overrun"));
        assert_int_equal(quire_arena_verify(&arena), QUIRE_CORRUPT);
        assert_non_null(strstr(hosted_log_last(), "A5"));
        p[size] = was;
        quire_arena_free(&arena, p);
        expect_whole();
    }
}

/* Any byte of a header that is written to, before or behind, and the words of a free piece. */
static void damaged_books(void **state)
{
    uint8_t *p = quire_arena_alloc(&arena, 600), *q = quire_arena_alloc(&arena, 600);

    (void)state;
    for (int i = 1; i <= 32; i++) {
        p[-i] ^= 0x80;
        expect_caught_unverified(p);
        p[-i] ^= 0x80;
        q[-i] ^= 1;
        expect_caught_unverified(p); /* the one behind it */
        q[-i] ^= 1;
        OK(quire_arena_verify(&arena));
    }
    quire_arena_free(&arena, p);
    for (int i = 0; i < 32; i++) {
        uint8_t was = p[i];

        p[i] ^= 0x20; /* use after free */
        assert_int_equal(quire_arena_verify(&arena), QUIRE_CORRUPT);
        p[i] = was;
    }
    quire_arena_free(&arena, q);
    expect_whole();
}

/* ---- reports ---- */

/* Called through pointers, so that there is one of each. */
static void *here_(size_t n)
{
    void *p = quire_arena_alloc(&arena, n);

    __asm__ volatile("" : : "r"(p)); /* no tail call: the site is in this function */
    return p;
}

static void *there_(size_t n)
{
    void *p = quire_arena_alloc_aligned(&arena, n, 64);

    __asm__ volatile("" : : "r"(p));
    return p;
}

static void *(*volatile here)(size_t) = here_;
static void *(*volatile there)(size_t) = there_;

/* What is still out is told by who allocated it, the most bytes first. */
/* proves: VE-24 */
static void leaks_are_named_by_call_site(void **state)
{
    struct quire_arena_site s[5];
    void *p[7];

    (void)state;
    for (int i = 0; i < 3; i++)
        p[i] = here(100);
    for (int i = 3; i < 5; i++)
        p[i] = there(1000);
    p[5] = quire_arena_alloc_for(&arena, 5, 1, 0x1234);
    p[6] = quire_arena_alloc_for(&arena, 7, 1, 0x5678);
    quire_arena_free(&arena, p[0]);
    assert_int_equal(quire_arena_sites(&arena, s, 5), 4);
    assert_true(s[0].pieces == 2 && s[0].bytes == 2000);
    assert_true(s[0].site > (uintptr_t)there_ && s[0].site < (uintptr_t)there_ + 200);
    assert_true(s[1].pieces == 2 && s[1].bytes == 200);
    assert_true(s[1].site > (uintptr_t)here_ && s[1].site < (uintptr_t)here_ + 200);
    assert_true(s[2].bytes + s[3].bytes == 12);
    assert_int_equal(quire_arena_sites(&arena, s, 2), 2); /* what is left in one */
    assert_true(s[1].site == 0 && s[0].pieces + s[1].pieces == 6);
    assert_int_equal(quire_arena_report(&arena), 6);
    assert_int_equal(quire_arena_fini(&arena), QUIRE_BUSY);
    assert_non_null(strstr(hosted_log_last(), "are out"));
    for (int i = 1; i < 7; i++)
        quire_arena_free(&arena, p[i]);
    assert_int_equal(quire_arena_report(&arena), 0);
    OK(quire_arena_fini(&arena));
}

static bool add_up(void *ctx, const struct quire_arena_piece *piece)
{
    uint64_t *sum = ctx;

    sum[piece->site ? 0 : 1] += piece->bytes;
    return ++sum[2] < 5;
}

static void the_walk_sees_each_piece(void **state)
{
    uint64_t sum[3] = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        here(100);
    assert_true(quire_arena_walk(&arena, add_up, sum));
    assert_true(sum[0] == 300 && sum[1] > 900000 && sum[2] == 4);
    here(1);
    here(1);
    sum[2] = 0;
    assert_false(quire_arena_walk(&arena, add_up, sum)); /* until it has had enough */
    assert_int_equal(sum[2], 5);
}

/* ---- a source ---- */

static unsigned gets, puts_, refuse;

static void *get(void *ctx, size_t *bytes)
{
    assert_ptr_equal(ctx, &gets);
    if (refuse)
        return NULL;
    gets++;
    *bytes += 100;
    return malloc(*bytes);
}

static void put(void *ctx, void *p, size_t bytes)
{
    assert_ptr_equal(ctx, &gets);
    memset(p, 0, bytes);
    free(p);
    puts_++;
}

static void an_arena_that_grows(void **state)
{
    struct quire_arena_source source = {get, put, &gets, 65536};
    void *p[100];

    (void)state;
    gets = puts_ = refuse = 0;
    quire_arena_init(&arena, "growing", &source, 0);
    for (int i = 0; i < 100; i++) {
        p[i] = quire_arena_alloc(&arena, 10000);
        assert_non_null(p[i]);
        memset(p[i], i, 10000);
    }
    assert_true(gets >= 16 && gets <= 25);
    assert_int_equal(stats().regions, gets);
    OK(quire_arena_verify(&arena));
    assert_int_equal(quire_arena_trim(&arena), 0);
    refuse = 1;
    assert_null(quire_arena_alloc(&arena, 100000));
    refuse = 0;
    quire_arena_free(&arena,
                     quire_arena_alloc_aligned(&arena, 500000, 1 << 20)); /* more than a step */
    assert_int_equal(stats().regions, gets);
    assert_true(quire_arena_trim(&arena) >= 500000);
    assert_int_equal(quire_arena_fini(&arena), QUIRE_BUSY);
    for (int i = 0; i < 100; i++)
        quire_arena_free(&arena, p[i]);
    OK(quire_arena_fini(&arena));
    assert_int_equal(puts_, gets);
    assert_int_equal(stats().bytes, 0);
    /* memory of the caller's own stays */
    OK(quire_arena_add(&arena, memory, sizeof memory));
    quire_arena_free(&arena, quire_arena_alloc(&arena, 1));
    assert_int_equal(quire_arena_trim(&arena), 0);
    assert_int_equal(stats().regions, 1);
}

/* ---- threads ---- */

static void *work(void *arg)
{
    uint64_t x = (uintptr_t)arg * 2654435761u + 1;
    uint8_t *p[20] = {0};
    size_t n[20] = {0};

    for (int i = 0; i < 20000; i++) {
        unsigned k;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        k = (unsigned)(x % 20);
        if (p[k]) {
            if (p[k][0] != (uint8_t)k || p[k][n[k] - 1] != (uint8_t)k)
                return "content";
            quire_arena_free(&arena, p[k]);
        }
        n[k] = 1 + (x >> 20) % 4000;
        p[k] = quire_arena_alloc(&arena, n[k]);
        if (p[k])
            memset(p[k], (int)k, n[k]);
    }
    for (int k = 0; k < 20; k++)
        quire_arena_free(&arena, p[k]);
    return NULL;
}

static void threads_do_not_meet(void **state)
{
    pthread_t t[4];
    void *wrong;

    (void)state;
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, work, (void *)i), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &wrong);
        assert_null(wrong);
    }
    expect_whole();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, setup)
    const struct CMUnitTest tests[] = {
        TEST(the_first_fit_is_taken),
        TEST(neighbours_coalesce),
        TEST(alignments),
        TEST(alignment_among_holes),
        TEST(what_does_not_fit),
        TEST(realloc_in_place_and_not),
        TEST(frees_of_what_is_not_out),
        TEST(overruns_by_one),
        TEST(damaged_books),
        TEST(leaks_are_named_by_call_site),
        TEST(the_walk_sees_each_piece),
        TEST(an_arena_that_grows),
        TEST(threads_do_not_meet),
    };

    hosted_init(1 << 24);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
