/*
 * heap_damage_test.c - what is told of a damaged object, and damage found while the heap is in use.
 */
#include <heap_suite.h>

#include <pthread.h>

#include <quire/track.h>

/* Three objects side by side, of tasks 1, 2, 3; the one in the middle. */
static char *three(struct quire_cache *c, char *p[3])
{
    char *all[64];

    for (int i = 0; i < 64; i++) {
        hosted_task = (uintptr_t)i + 100;
        all[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
        assert_non_null(all[i]);
    }
    p[0] = p[1] = p[2] = NULL;
    for (int i = 0; i < 64 && !p[1]; i++) {
        uintptr_t slot = qi_slab_of_page(quire_page_of_ptr(all[i]))->cache->slot;

        for (int k = 0; k < 64; k++) {
            if (all[k] == all[i] - slot)
                p[0] = all[k];
            if (all[k] == all[i] + slot)
                p[2] = all[k];
        }
        if (p[0] && p[2])
            p[1] = all[i];
        else
            p[0] = p[2] = NULL;
    }
    assert_non_null(p[1]);
    for (int i = 0; i < 64; i++)
        if (all[i] != p[0] && all[i] != p[1] && all[i] != p[2])
            quire_cache_free(c, all[i]);
    return p[1];
}

static int has(const char *text, const char *fmt, ...)
{
    char want[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(want, sizeof want, fmt, ap);
    va_end(ap);
    if (!strstr(text, want))
        printf("'%s' is not in:\n%s", want, text);
    return strstr(text, want) != NULL;
}

/* proves: VE-57 VE-55 */
static void an_overrun_is_told_with_its_neighbours(void **state)
{
    struct quire_cache *c = cache("hurt", 50, 0, QUIRE_CACHE_REDZONE);
    char *p[3], *mid;
    const char *log;

    (void)state;
    assert_int_equal(quire_cache_track_start(c), QUIRE_OK);
    mid = three(c, p);
    hosted_task = 7;
    quire_cache_free(c, p[2]);
    mid[50] = 0x11;
    hosted_log_clear();
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, mid)));
    log = hosted_log_text();
    assert_true(has(log, "byte 50 is 11, not bb\n"));
    assert_true(has(log, "[11]bb bb"));
    assert_true(has(log, "object %p of hurt, 50 bytes", mid));
    assert_true(has(log, "before it: object %p, allocated\n", p[0]));
    assert_true(has(log, "behind it: object %p, free\n", p[2]));
    /* each with who had it; the one behind also with who freed it */
    assert_true(strstr(strstr(log, "before it"), "  allocated at ") != NULL);
    assert_true(has(strstr(log, "behind it"), "by task 7 on CPU 0"));
    mid[50] = (char)0xbb;
    mid[-1] ^= 4;
    hosted_log_clear();
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(c, mid)));
    assert_true(has(hosted_log_text(), "byte -1 is bf, not bb: bit 2 alone is wrong"));
    mid[-1] ^= 4;
    quire_cache_free(c, mid);
    quire_cache_free(c, p[0]);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
}

/* proves: VE-57 */
static void a_write_after_free_is_told_with_who_freed(void **state)
{
    struct quire_cache *c = cache("late", 64, 0, QUIRE_CACHE_POISON);
    char *p;

    (void)state;
    assert_int_equal(quire_cache_track_start(c), QUIRE_OK);
    hosted_task = 21;
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    hosted_task = 22;
    quire_cache_free(c, p);
    p[13] = 'x';
    hosted_log_clear();
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_alloc(c, QUIRE_GFP_KERNEL)));
    assert_true(has(hosted_log_text(), "byte 13 is 78, not 6b"));
    assert_true(has(hosted_log_text(), "by task 21 on CPU 0"));
    assert_true(has(hosted_log_text(), "by task 22 on CPU 0"));
}

/* The wrong cache, or a pointer into an object: whose it is. */
/* proves: X-13 TRAP-3 */
static void a_foreign_free_names_the_owner(void **state)
{
    struct quire_cache *c = cache("mine", 64, 0, 0), *d = cache("other", 64, 0, 0);
    char *p;

    (void)state;
    assert_int_equal(quire_cache_track_start(c), QUIRE_OK);
    hosted_task = 31;
    p = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    hosted_log_clear();
    assert_true(HOSTED_EXPECT_PANIC(quire_cache_free(d, p)));
    assert_true(has(hosted_log_text(), "by task 31 on CPU 0"));
    hosted_log_clear();
    assert_true(HOSTED_EXPECT_PANIC(quire_kfree(p + 8)));
    assert_true(has(hosted_log_text(), "byte 8 of object %p of mine", p));
    assert_true(has(hosted_log_text(), "by task 31 on CPU 0"));
    quire_cache_free(c, p);
}

/* Each kind of damage that can be seen at all times. */
/* proves: VE-57 */
static void validate_finds_planted_damage(void **state)
{
    struct quire_cache *c = cache("looked at", 40, 0, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON);
    struct qi_slab *s;
    uint8_t *p[40];
    uint64_t was;

    (void)state;
    for (int i = 0; i < 40; i++)
        p[i] = quire_cache_alloc(c, QUIRE_GFP_KERNEL);
    s = qi_slab_of_page(quire_page_of_ptr(p[39]));
    assert_int_equal(quire_heap_validate(), QUIRE_OK);
#define PLANT(what, bad)                                        \
    do {                                                        \
        __typeof__(what) before_ = (what);                      \
        (what) = (bad);                                         \
        assert_int_equal(quire_heap_validate(), QUIRE_CORRUPT); \
        (what) = before_;                                       \
        assert_int_equal(quire_heap_validate(), QUIRE_OK);      \
    } while (0)
    PLANT(p[5][40], 0);
    PLANT(p[5][-1], 0);
    PLANT(s->state[0], QI_OBJ_IN);
    PLANT(s->state[s->n + 1], QI_OBJ_IN);
    PLANT(s->nfree, s->nfree + 1);
    PLANT(s->list, (uint8_t)(s->list + 1));
    PLANT(s->recip, s->recip + 1);
    PLANT(s->page->owner, (uintptr_t)s + 8);
    PLANT(s->page->flags, s->page->flags & ~QUIRE_PG_SLAB);
    for (unsigned i = 0; i < s->n; i++)
        if (qi_slab_bits(s)[i / 64] >> i % 64 & 1) {
            uint8_t *in = qi_slab_object(s, i + 1);

            PLANT(s->state[i + 1], QI_OBJ_OUT(0));
            PLANT(in[3], 0);
            break;
        }
    was = qi_slab_bits(s)[0];
    qi_slab_bits(s)[0] ^= 1;
    assert_int_equal(quire_heap_validate(), QUIRE_CORRUPT);
    qi_slab_bits(s)[0] = was;
    for (int i = 0; i < 40; i++)
        quire_cache_free(c, p[i]);
    assert_int_equal(quire_heap_validate(), QUIRE_OK);
    assert_int_equal(quire_cache_destroy(c), QUIRE_OK);
    expect_nothing_lost();
}

/* ---- beside others ---- */

static struct quire_cache *shared;
static int stop;

static void *allocate(void *cpu)
{
    uint64_t rng = (uint64_t)(uintptr_t)cpu * 77 + 5;
    void *p[64] = {NULL};

    hosted_cpu_set((unsigned)(uintptr_t)cpu);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned i;

        rng = rng * 6364136223846793005u + 1442695040888963407u;
        i = rng >> 33 & 63;
        if (!p[i]) {
            p[i] = i & 1 ? quire_cache_alloc(shared, QUIRE_GFP_KERNEL)
                         : quire_kmalloc(rng >> 50, QUIRE_GFP_KERNEL);
            continue;
        }
        if (i & 1)
            quire_cache_free(shared, p[i]);
        else
            quire_kfree(p[i]);
        p[i] = NULL;
    }
    for (int i = 0; i < 64; i++)
        if (p[i] && (i & 1))
            quire_cache_free(shared, p[i]);
        else
            quire_kfree(p[i]);
    return NULL;
}

/* proves: VE-57 */
static void validate_is_right_beside_others(void **state)
{
    pthread_t t[3];

    (void)state;
    shared = cache("shared", 100, 0, QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON);
    stop = 0;
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, allocate, (void *)(i + 1));
    for (int i = 0; i < 300; i++)
        assert_int_equal(quire_heap_validate(), QUIRE_OK);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(quire_cache_destroy(shared), QUIRE_OK);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_overrun_is_told_with_its_neighbours),
        TEST(a_write_after_free_is_told_with_who_freed),
        TEST(a_foreign_free_names_the_owner),
        TEST(validate_finds_planted_damage),
        TEST(validate_is_right_beside_others),
    };

    test_seed("heap_damage_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
