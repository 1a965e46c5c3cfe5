/*
 * base_test.c - src/base and src/sync: bits, lists, formatted output against the host's, statuses
 * against the host's errno values, locks under contention.
 */
#include <quire_test.h>

#include <errno.h>
#include <pthread.h>

#include <base/bits.h>
#include <quire/format.h>
#include <base/list.h>
#include <quire/frame.h>
#include <sync/rwsem.h>
#include <sync/spin.h>

/* proves: LX-02 */
static void pfn_arithmetic(void **state)
{
    (void)state;
    assert_int_equal(quire_pfn_of_pa(Q_PA(0)).v, 0);
    assert_int_equal(quire_pfn_of_pa(Q_PA(4095)).v, 0);
    assert_int_equal(quire_pfn_of_pa(Q_PA(4096)).v, 1);
    for (int i = 0; i < 10000; i++) {
        uint64_t pa = test_random() >> 12; /* 52 bits of physical address */
        q_pfn pfn = quire_pfn_of_pa(Q_PA(pa));

        assert_int_equal(pfn.v, pa >> 12);
        assert_int_equal(quire_pa_of_pfn(pfn).v, pa & ~4095ull);
    }
}

/* proves: LX-04 */
static void direct_map_is_a_constant_offset(void **state)
{
    const uint64_t span = 64 << 20;
    uint64_t offset;

    (void)state;
    hosted_init(span);
    offset = quire_kla_of_pa(Q_PA(0)).v;
    for (uint64_t pa = 0; pa < span; pa += 4096) {
        q_kla a = quire_kla_of_pa(Q_PA(pa));

        assert_int_equal(a.v - pa, offset);
        assert_int_equal(quire_pa_of_kla(a).v, pa);
        assert_ptr_equal(quire_ptr_of_pa(Q_PA(pa)), (void *)a.v);
    }
    hosted_fini();
}

/* The kinds are distinct types: the compiler takes each for itself and for nothing else.
 * proves: LX-03 */
static void address_kinds_are_distinct(void **state)
{
#define KIND(x) _Generic((x), q_uva : 1, q_pa : 2, q_ba : 3, q_kla : 4, q_kva : 5, default : 0)
    (void)state;
    assert_int_equal(KIND(Q_UVA(0)), 1);
    assert_int_equal(KIND(Q_PA(0)), 2);
    assert_int_equal(KIND(Q_BA(0)), 3);
    assert_int_equal(KIND(Q_KLA(0)), 4);
    assert_int_equal(KIND(Q_KVA(0)), 5);
    assert_int_equal(KIND((uint64_t)0), 0);
    assert_int_equal(sizeof(q_uva), 8);
#undef KIND
}

static void bits_and_overflow(void **state)
{
    uint64_t r;

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t v = 1ull << i;

        assert_int_equal(qi_lowest_bit(v), i);
        assert_int_equal(qi_highest_bit(v), i);
        assert_int_equal(qi_log2_ceil(v), i);
        assert_int_equal(qi_log2_ceil(v - (i > 1)), i);
        assert_true(qi_is_pow2(v));
        assert_int_equal(qi_align_up(v, v), v);
        assert_int_equal(qi_align_down(v, v), v);
    }
    assert_false(qi_is_pow2(0));
    assert_false(qi_is_pow2(6));
    assert_true(qi_add_overflows(~0ull, 1, &r));
    assert_false(qi_add_overflows(~0ull, 0, &r));
    assert_true(qi_mul_overflows(1ull << 32, 1ull << 32, &r));
    assert_false(qi_mul_overflows(1ull << 32, (1ull << 32) - 1, &r));
}

struct item {
    int value;
    struct qi_list link;
};

static void list_keeps_order(void **state)
{
    struct qi_list head;
    struct item items[100], *pos, *tmp;
    int expect = 0;

    (void)state;
    qi_list_init(&head);
    assert_true(qi_list_empty(&head));
    for (int i = 50; i < 100; i++) {
        items[i].value = i;
        qi_list_add_tail(&head, &items[i].link);
    }
    for (int i = 49; i >= 0; i--) {
        items[i].value = i;
        qi_list_add(&head, &items[i].link);
    }
    qi_list_for_each (pos, &head, link)
        assert_int_equal(pos->value, expect++);
    assert_int_equal(expect, 100);
    qi_list_for_each_safe (pos, tmp, &head, link) {
        if (pos->value % 2)
            qi_list_del(&pos->link);
    }
    expect = 0;
    qi_list_for_each (pos, &head, link) {
        assert_int_equal(pos->value, expect);
        expect += 2;
    }
    assert_int_equal(expect, 100);
}

/* Every format that quire/format.h lists, at the edges of its type, gives what the host's snprintf gives. */
static void formats_match_the_host(void **state)
{
    static const char *const flags[] = {"", "-", "0", "+", " ", "#", "-#", "0+", "0#"};
    static const char *const widths[] = {"", "1", "7", "20", "*"};
    static const char *const kinds[] = {"lld", "llu", "llx", "llX", "lli", "llo"};
    static const uint64_t values[] = {0,          1,          9,     10,          255,
                                      1ull << 31, 1ull << 63, ~0ull, ~0ull - 4094};
    char format[32], ours[128], host[128];

    (void)state;
    for (size_t f = 0; f < QI_COUNT(flags); f++)
        for (size_t w = 0; w < QI_COUNT(widths); w++)
            for (size_t k = 0; k < QI_COUNT(kinds); k++)
                for (size_t v = 0; v < QI_COUNT(values); v++) {
                    int n, m, star = widths[w][0] == '*';

                    /* '+' and ' ' mean nothing to unsigned conversions: the host warns only */
                    snprintf(format, sizeof format, "<%%%s%s%s>", flags[f], widths[w], kinds[k]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                    n = star ? (int)quire_snprintf(ours, sizeof ours, format, 12, values[v])
                             : (int)quire_snprintf(ours, sizeof ours, format, values[v]);
                    m = star ? snprintf(host, sizeof host, format, 12, values[v])
                             : snprintf(host, sizeof host, format, values[v]);
#pragma GCC diagnostic pop
                    if (strcmp(ours, host) || n != m)
                        fail_msg("%s of %#llx: ours \"%s\", host \"%s\"", format,
                                 (unsigned long long)values[v], ours, host);
                }
}

static void formats_cut_at_the_end(void **state)
{
    char buf[8] = "xxxxxxx";

    (void)state;
    assert_int_equal(quire_snprintf(buf, 4, "%s", "abcdef"), 6);
    assert_string_equal(buf, "abc");
    assert_int_equal(buf[4], 'x');
    assert_int_equal(quire_snprintf(NULL, 0, "%d", 12345), 5);
    assert_int_equal(quire_snprintf(buf, sizeof buf, "%.2s|%c|%%", "abc", 'z'), 6);
    assert_string_equal(buf, "ab|z|%");
}

static void statuses_have_text_and_errno(void **state)
{
    (void)state;
    assert_int_equal(quire_status_errno(QUIRE_OK), 0);
    assert_int_equal(quire_status_errno(QUIRE_NO_MEMORY), ENOMEM);
    assert_int_equal(quire_status_errno(QUIRE_INVALID), EINVAL);
    assert_int_equal(quire_status_errno(QUIRE_FAULT), EFAULT);
    assert_int_equal(quire_status_errno(QUIRE_EXISTS), EEXIST);
    assert_int_equal(quire_status_errno(QUIRE_ACCESS), EACCES);
    assert_string_equal(quire_status_name(QUIRE_NO_MEMORY), "NO_MEMORY");
    assert_string_equal(quire_status_name((enum quire_status)9999), "?");
    for (int s = 0; s <= QUIRE_CORRUPT; s++)
        assert_true(strlen(quire_status_text((enum quire_status)s)) > 0);
}

#define THREADS 4
#define ROUNDS  20000
static struct qi_spin spin;
static struct qi_rwsem sem;
static uint64_t counted_spin, counted_sem;

static void *contend(void *arg)
{
    hosted_cpu_set((unsigned)(uintptr_t)arg);
    for (int i = 0; i < ROUNDS; i++) {
        unsigned long flags = qi_spin_lock_irq(&spin);

        counted_spin++;
        qi_spin_unlock_irq(&spin, flags);
        qi_rwsem_write_lock(&sem);
        counted_sem++;
        qi_rwsem_write_unlock(&sem);
        qi_rwsem_read_lock(&sem);
        if (counted_sem > THREADS * ROUNDS)
            abort();
        qi_rwsem_read_unlock(&sem);
    }
    return NULL;
}

static void locks_exclude(void **state)
{
    static const struct qi_lock_class class = {"test"};
    pthread_t t[THREADS];

    (void)state;
    qi_spin_init(&spin, &class);
    qi_rwsem_init(&sem, &(struct qi_lock_class){"test"});
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, contend, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(counted_spin, THREADS * ROUNDS);
    assert_int_equal(counted_sem, THREADS * ROUNDS);
    assert_int_equal(spin.word, 0);
    assert_int_equal(sem.state, 0);
}

static void misuse_is_reported(void **state)
{
    (void)state;
    assert_true(HOSTED_EXPECT_PANIC(qi_bug("object %d of %s", 7, "cache")));
    assert_string_equal(hosted_panic_text(), "object 7 of cache");
    assert_false(HOSTED_EXPECT_PANIC((void)0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pfn_arithmetic),
        cmocka_unit_test(direct_map_is_a_constant_offset),
        cmocka_unit_test(address_kinds_are_distinct),
        cmocka_unit_test(bits_and_overflow),
        cmocka_unit_test(list_keeps_order),
        cmocka_unit_test(formats_match_the_host),
        cmocka_unit_test(formats_cut_at_the_end),
        cmocka_unit_test(statuses_have_text_and_errno),
        cmocka_unit_test(locks_exclude),
        cmocka_unit_test(misuse_is_reported),
    };

    test_seed("base_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
