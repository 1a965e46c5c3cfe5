/*
 * The functions of libquire-malloc.so, loaded before the C library's: what malloc(3), posix_memalign(3) and
 * their kin promise, and how misuse ends.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "resident.h"

#define MIB                  ((size_t)1 << 20)
#define TOO_MUCH             (too_much())
#define IS_ALIGNED(p, align) (!((uintptr_t)(p) & ((align)-1)))

/* The compiler need not know what is asked for. */
static size_t asked(size_t n)
{
    __asm__("" : "+r"(n));
    return n;
}
static size_t too_much(void) { return asked((size_t)PTRDIFF_MAX + 1); }

/* Sizes around every border there is: classes, pages, runs, mappings. */
static const size_t sizes[] = {
    0,       1,     7,     8,     9,      15,   16,          17,           24,       25,
    32,      33,    48,    63,    64,     65,   100,         1000,         1023,     1024,
    1025,    2048,  2049,  4095,  4096,   4097, 5000,        8192,         10240,    16383,
    16384,   16385, 20000, 65536, 100001, MIB,  3 * MIB + 5, 32 * MIB - 1, 32 * MIB, 32 * MIB + 1,
    40 * MIB};
#define NSIZES (sizeof sizes / sizeof sizes[0])

/* Every 61st byte, and the last: large objects would take long otherwise. */
static void paint(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i += 61)
        p[i] = (unsigned char)(seed + i / 61);
    if (n)
        p[n - 1] = (unsigned char)seed;
}
static bool painted(const unsigned char *p, size_t n, size_t of, unsigned seed)
{
    for (size_t i = 0; i < n; i += 61)
        if (i != of - 1 && p[i] != (unsigned char)(seed + i / 61))
            return false;
    return n < of || !n || p[n - 1] == (unsigned char)seed;
}

static void test_it_is_ours(void **state)
{
    const char *names[] = {
        "malloc",         "free",     "calloc", "realloc", "reallocarray",       "aligned_alloc",
        "posix_memalign", "memalign", "valloc", "pvalloc", "malloc_usable_size", "malloc_trim",
        "mallinfo2"};
    Dl_info info;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_true(dladdr(dlsym(RTLD_DEFAULT, names[i]), &info));
        assert_non_null(strstr(info.dli_fname, "libquire-malloc"));
    }
}

static void test_every_size(void **state)
{
    unsigned char *p[NSIZES];

    (void)state;
    for (size_t i = 0; i < NSIZES; i++) {
        p[i] = malloc(sizes[i]);
        assert_non_null(p[i]);
        assert_true(IS_ALIGNED(p[i], 16));
        assert_true(malloc_usable_size(p[i]) >= sizes[i]);
        paint(p[i], malloc_usable_size(p[i]), (unsigned)i);
    }
    for (size_t i = 0; i < NSIZES; i++) {
        assert_true(painted(p[i], malloc_usable_size(p[i]), malloc_usable_size(p[i]), (unsigned)i));
        free(p[i]);
    }
    assert_int_equal(malloc_usable_size(NULL), 0);
    free(NULL);
}

static void test_small_sizes_one_by_one(void **state)
{
    enum { N = 3000 };
    static unsigned char *p[N];

    (void)state;
    for (size_t n = 0; n < N; n++) {
        p[n] = malloc(n);
        assert_true(p[n] && IS_ALIGNED(p[n], 16));
        memset(p[n], (int)n, n);
    }
    for (size_t n = 0; n < N; n++) {
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[n][i], (unsigned char)n);
        free(p[n]);
    }
}

/* Objects of pages, beside one another: each keeps its content while others come and go. */
static void test_middle_sizes_keep_to_themselves(void **state)
{
    enum { N = 400 };
    static struct {
        unsigned char *p;
        size_t n;
    } o[N];
    unsigned rng = 1;

    (void)state;
    memset(o, 0, sizeof o);
    for (unsigned round = 0; round < 20 * N; round++) {
        unsigned i = (rng = rng * 1103515245u + 12345u) >> 16 & 0xffff;
        size_t class = (size_t)(4 + i % 4) << (i / 4 % 7 + 11);

        i = round < N ? round : i % N;
        if (o[i].p)
            assert_true(painted(o[i].p, o[i].n, o[i].n, i));
        free(o[i].p);
        o[i].n = class + (round & 1 ? 0 : class / 5);
        paint(o[i].p = malloc(o[i].n), o[i].n, i);
    }
    for (unsigned i = 0; i < N; i++) {
        assert_true(painted(o[i].p, o[i].n, o[i].n, i));
        free(o[i].p);
    }
}

static void test_alignments(void **state)
{
    (void)state;
    for (size_t align = 1; align <= 128 * MIB; align *= 2)
        for (size_t i = align % 3; i < NSIZES; i += align < 64 || sizes[i] > MIB ? 3 : 1) {
            unsigned char *p = memalign(align, sizes[i]), *q = NULL;

            assert_true(p && IS_ALIGNED(p, align) && malloc_usable_size(p) >= sizes[i]);
            paint(p, sizes[i], 7);
            if (align >= sizeof(void *)) {
                assert_int_equal(posix_memalign((void **)&q, align, sizes[i]), 0);
                assert_true(q && IS_ALIGNED(q, align));
                paint(q, sizes[i], 8);
                free(q);
            }
            q = aligned_alloc(align, sizes[i]);
            assert_true(q && IS_ALIGNED(q, align));
            paint(q, sizes[i], 9);
            assert_true(painted(p, sizes[i], sizes[i], 7));
            free(q);
            p = realloc(p, sizes[i] + 100);
            assert_true(painted(p, sizes[i], sizes[i], 7));
            free(p);
        }
}

static void test_pages(void **state)
{
    void *p = valloc(100), *q = pvalloc(4097);

    (void)state;
    assert_true(p && IS_ALIGNED(p, 4096));
    assert_true(q && IS_ALIGNED(q, 4096) && malloc_usable_size(q) >= 8192);
    free(p);
    free(q);
    p = memalign(asked(48), 10); /* not a power of two: the next */
    assert_true(p && IS_ALIGNED(p, 64));
    free(p);
}

static void test_limits(void **state)
{
    void *here = &here, *keep = here;

    (void)state;
#define FAILS(call, error)              \
    do {                                \
        errno = 0;                      \
        assert_null(call);              \
        assert_int_equal(errno, error); \
    } while (0)
    FAILS(malloc(TOO_MUCH), ENOMEM);
    FAILS(malloc(asked(SIZE_MAX)), ENOMEM);
    FAILS(malloc((size_t)1 << 60), ENOMEM);
    FAILS(calloc(asked(SIZE_MAX / 2), 3), ENOMEM);
    FAILS(calloc(TOO_MUCH, 1), ENOMEM);
    FAILS(reallocarray(NULL, asked(SIZE_MAX / 2), 3), ENOMEM);
    FAILS(memalign(64, asked(SIZE_MAX - 10)), ENOMEM);
    FAILS(memalign(64, TOO_MUCH), ENOMEM);
    FAILS(memalign(TOO_MUCH / 2, 1), ENOMEM);
    FAILS(memalign(asked(SIZE_MAX), 1), EINVAL);
    FAILS(aligned_alloc(asked(24), 100), EINVAL);
    FAILS(aligned_alloc(asked(0), 100), EINVAL);
    FAILS(pvalloc(SIZE_MAX - 100), ENOMEM);
    errno = 0;
    assert_int_equal(posix_memalign(&keep, asked(24), 10), EINVAL);
    assert_int_equal(posix_memalign(&keep, asked(4), 10), EINVAL);
    assert_int_equal(posix_memalign(&keep, 64, TOO_MUCH), ENOMEM);
    assert_int_equal(errno, 0);
    assert_ptr_equal(keep, here);
    /* what could not be resized is as it was */
    for (size_t n = 100; n < 100 * MIB; n *= 50) {
        unsigned char *q = malloc(n);

        paint(q, n, 3);
        FAILS(realloc(q, TOO_MUCH), ENOMEM);
        FAILS(reallocarray(q, asked(SIZE_MAX / 16), 32), ENOMEM);
        assert_true(painted(q, n, n, 3));
        free(q);
    }
}

static void test_realloc_keeps(void **state)
{
    (void)state;
    for (size_t i = 0; i < NSIZES; i++)
        for (size_t k = i % 2; k < NSIZES; k += 2) {
            size_t both = sizes[i] < sizes[k] ? sizes[i] : sizes[k];
            unsigned char *p = realloc(NULL, sizes[i]);

            paint(p, sizes[i], (unsigned)k);
            p = realloc(p, sizes[k]);
            if (!sizes[k]) {
                assert_null(p); /* and it was freed */
                continue;
            }
            assert_true(p && IS_ALIGNED(p, 16) && malloc_usable_size(p) >= sizes[k]);
            assert_true(painted(p, both, sizes[i], (unsigned)k));
            paint(p, sizes[k], 1);
            free(p);
        }
}

static void test_calloc_is_zeros(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < NSIZES; i++) {
            unsigned char *p = malloc(sizes[i]), *q = malloc(sizes[i] / 3);

            memset(p, 0xa5, sizes[i]);
            memset(q, 0xa5, sizes[i] / 3);
            free(p);
            free(q);
            if (round == 2)
                malloc_trim(0);
            for (int half = 1; half <= 2; half++) {
                p = calloc(half, sizes[i] / 2);
                assert_non_null(p);
                for (size_t b = 0; b < half * (sizes[i] / 2); b++)
                    if (p[b])
                        fail_msg("byte %zu of %zu is %u", b, half * (sizes[i] / 2), p[b]);
                memset(p, 0x5a, half * (sizes[i] / 2));
                free(p);
            }
        }
}

static void test_memory_goes_back(void **state)
{
    enum { N = 50000, EACH = 1000 };
    size_t before, full, after;
    void **p = calloc(N, sizeof *p);

    (void)state;
    malloc_trim(0);
    before = resident();
    for (int i = 0; i < N; i++)
        memset(p[i] = malloc(EACH), 1, EACH);
    full = resident();
    assert_true(full - before > (size_t)N * EACH);
    for (int i = 0; i < N; i++)
        free(p[i]);
    malloc_trim(0);
    after = resident();
    assert_in_range(after, 0, before + 2 * MIB);
    for (int i = 0; i < 10; i++)
        memset(p[i] = malloc(8 * MIB), 1, 8 * MIB);
    for (int i = 0; i < 10; i++)
        free(p[i]);
    malloc_trim(0);
    assert_in_range(resident(), 0, before + 2 * MIB);
    free(p);
}

static void test_counts(void **state)
{
    struct mallinfo2 before = mallinfo2(), with;
    void *p = malloc(64 * MIB), *q = malloc(10 * MIB);

    (void)state;
    with = mallinfo2();
    assert_int_equal(with.hblks, before.hblks + 1);
    assert_int_equal(with.hblkhd, before.hblkhd + 64 * MIB);
    assert_true(with.uordblks >= before.uordblks + 10 * MIB);
    free(p);
    free(q);
    assert_int_equal(mallinfo2().hblkhd, before.hblkhd);
}

static void test_free_keeps_errno(void **state)
{
    (void)state;
    for (size_t i = 0; i < NSIZES; i++) {
        void *p = malloc(sizes[i]);

        errno = 42;
        free(p);
        assert_int_equal(errno, 42);
    }
}

/* ---- Misuse: in a child, whose last words are read ---- */

static char words[4096];

static void must_end(void (*misuse)(size_t), size_t size, const char *expected)
{
    int fd[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t child;

    assert_int_equal(pipe(fd), 0);
    child = fork();
    if (!child) {
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(fd[1], STDERR_FILENO);
        misuse(size);
        _exit(0);
    }
    close(fd[1]);
    while ((got = read(fd[0], words + n, sizeof words - 1 - n)) > 0)
        n += (size_t)got;
    words[n] = 0;
    close(fd[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT ||
        !strstr(words, "libquire-malloc: ") || !strstr(words, expected))
        fail_msg("size %zu: status %#x, \"%s\" without \"%s\"", size, status, words, expected);
}

/* The compiler need not know. */
static void *hidden(void *p)
{
    __asm__("" : "+r"(p));
    return p;
}

static void double_free(size_t size)
{
    void *p = malloc(size), *q = hidden(p);

    free(p);
    free(q);
}
static void double_free_later(size_t size)
{
    void *p[300], *q;

    for (int i = 0; i < 300; i++)
        p[i] = malloc(size);
    q = hidden(p[100]);
    for (int i = 0; i < 300; i++)
        free(p[i]);
    free(q);
}
static void inside(size_t size) { free(hidden((char *)malloc(size) + 16)); }
static void on_stack(size_t size)
{
    char here[64] __attribute__((aligned(64)));

    (void)size;
    free(hidden(here));
}
static void beside_reserve(size_t size)
{
    char *p = malloc(16);

    (void)size;
    free(hidden((char *)((uintptr_t)p & ~(((uintptr_t)1 << 30) - 1)) - ((uintptr_t)1 << 30)));
}
static void resize_freed(size_t size)
{
    void *p = malloc(size), *q = hidden(p);

    free(p);
    q = realloc(q, 2 * size);
    free(q);
}

/* proves: X-13 TRAP-3 */
static void test_double_free_is_named(void **state)
{
    (void)state;
    for (size_t size = 8; size <= 8192; size *= 2) {
        must_end(double_free, size, "double free of object");
        must_end(double_free_later, size, "free");
    }
    must_end(double_free, 20000, "free");
    must_end(double_free, 3 * MIB, "free");
    must_end(double_free, 100 * MIB, "foreign");
    must_end(resize_freed, 64, "not an object of kmalloc-64 that is out");
}

/* proves: X-13 */
static void test_foreign_free_is_named(void **state)
{
    (void)state;
    must_end(inside, 64, "not the start of an object");
    must_end(inside, 20000, "not the start");
    must_end(inside, 100 * MIB, "foreign");
    must_end(on_stack, 0, "foreign");
    must_end(beside_reserve, 0, "foreign");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_ours),
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_small_sizes_one_by_one),
        cmocka_unit_test(test_middle_sizes_keep_to_themselves),
        cmocka_unit_test(test_alignments),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_realloc_keeps),
        cmocka_unit_test(test_calloc_is_zeros),
        cmocka_unit_test(test_memory_goes_back),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_free_keeps_errno),
        cmocka_unit_test(test_double_free_is_named),
        cmocka_unit_test(test_foreign_free_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
