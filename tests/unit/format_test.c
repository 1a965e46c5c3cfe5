/*
 * format_test.c - quire/format.h against the host's printf: every flag, width, precision and length
 * with every conversion, and what has no counterpart there.
 */
#include <quire_test.h>

#include <quire/format.h>
#include <quire/status.h>

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"

/* The same bytes and the same length, with a buffer that is large enough and one that is not. */
#define SAME(format, ...)                                                         \
    do {                                                                          \
        char ours_[300], host_[300], cut_[9], cut_host_[9];                       \
        int n_ = (int)quire_snprintf(ours_, sizeof ours_, format, __VA_ARGS__);   \
        int m_ = snprintf(host_, sizeof host_, format, __VA_ARGS__);              \
                                                                                  \
        if (n_ != m_ || memcmp(ours_, host_, (size_t)m_ + 1))                     \
            fail_msg("%s: ours \"%s\", the host's \"%s\"", format, ours_, host_); \
        quire_snprintf(cut_, sizeof cut_, format, __VA_ARGS__);                   \
        snprintf(cut_host_, sizeof cut_host_, format, __VA_ARGS__);               \
        assert_string_equal(cut_, cut_host_);                                     \
    } while (0)

static const char *const flags[] = {"", "-", "0", "+", " ", "#", "-0", "+ ", "#0", "#-", "0-+ #"};
static const char *const widths[] = {"", "1", "9", "21"};
static const char *const precisions[] = {"", ".", ".0", ".1", ".4", ".23"};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define FOR_EACH_SPEC(f, w, p)                       \
    for (unsigned f = 0; f < COUNT(flags); f++)      \
        for (unsigned w = 0; w < COUNT(widths); w++) \
            for (unsigned p = 0; p < COUNT(precisions); p++)

static const uint64_t numbers[] = {0,          1,           7,           8,
                                   127,        128,         255,         256,
                                   32767,      32768,       65535,       65536,
                                   0x7fffffff, 0x80000000u, 0xffffffffu, 1ull << 32,
                                   ~0ull,      1ull << 63,  ~0ull - 128, 0x123456789abcdefull};

static void integers_of_each_length(void **state)
{
    static const char *const lengths[] = {"hh", "h", "", "l", "ll", "z", "j", "t"};
    static const char conversions[] = "diuxXo";
    char format[32];

    (void)state;
    FOR_EACH_SPEC(f, w, p)
    for (unsigned l = 0; l < COUNT(lengths); l++)
        for (const char *c = conversions; *c; c++) {
            snprintf(format, sizeof format, "<%%%s%s%s%s%c>", flags[f], widths[w], precisions[p],
                     lengths[l], *c);
            for (unsigned v = 0; v < COUNT(numbers); v++)
                if (l < 3)
                    SAME(format, (int)numbers[v]);
                else
                    SAME(format, numbers[v]);
        }
}

static void texts_and_characters(void **state)
{
    static const char *const texts[] = {"", "a", "abcd", "a text of more than twenty bytes"};
    const char *volatile null = NULL, *volatile null_format = "<%s>"; /* unknown to the compiler */
    char format[32];

    (void)state;
    FOR_EACH_SPEC(f, w, p)
    {
        if (strpbrk(flags[f], "0+ #"))
            continue; /* undefined in C for these */
        snprintf(format, sizeof format, "<%%%s%s%ss>", flags[f], widths[w], precisions[p]);
        for (unsigned t = 0; t < COUNT(texts); t++)
            SAME(format, texts[t]);
        snprintf(format, sizeof format, "<%%%s%sc>", flags[f], widths[w]);
        SAME(format, 'x');
    }
    SAME(null_format, null);
    SAME("<%c|%c>", 'a', 0);
    SAME("<%5c>", 0);
    SAME("<%-5c>", 0);
}

static void counts_from_arguments(void **state)
{
    (void)state;
    for (int n = -12; n <= 12; n++) {
        SAME("<%*d>", n, 345);
        SAME("<%.*d>", n, 345);
        SAME("<%*.*s>", n, n, "abcdef");
        SAME("<%0*x>", n, 0xabc);
    }
}

static void pointers_and_percents(void **state)
{
    int here;
    char buf[32];

    (void)state;
    SAME("%p %d%%", (void *)&here, 7);
    assert_int_equal(quire_snprintf(buf, sizeof buf, "%p", NULL), 3);
    assert_string_equal(buf, "0x0");
}

/* What is not understood is copied; a format that ends within a conversion ends there. */
static void the_rest_is_copied(void **state)
{
    const char *volatile format = "a%yb%";
    char buf[32];

    (void)state;
    assert_int_equal(quire_snprintf(buf, sizeof buf, format), 4);
    assert_string_equal(buf, "a%yb");
    format = "%-08.3l";
    assert_int_equal(quire_snprintf(buf, sizeof buf, format), 0);
    assert_string_equal(buf, "");
    memset(buf, 'x', sizeof buf);
    assert_int_equal(quire_snprintf(buf, 0, "%s", "abc"), 3);
    assert_int_equal(buf[0], 'x');
    assert_int_equal(quire_snprintf(buf, 1, "%s", "abc"), 3);
    assert_int_equal(buf[0], 0);
    assert_int_equal(buf[1], 'x');
}

static void statuses_that_are_none(void **state)
{
    const enum quire_status none = (enum quire_status)1000;

    (void)state;
    assert_string_equal(quire_status_text(none), "unknown status");
    assert_string_equal(quire_status_name(none), "?");
    assert_int_equal(quire_status_errno(none), quire_status_errno(QUIRE_INVALID));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_each_length), cmocka_unit_test(texts_and_characters),
        cmocka_unit_test(counts_from_arguments),   cmocka_unit_test(pointers_and_percents),
        cmocka_unit_test(the_rest_is_copied),      cmocka_unit_test(statuses_that_are_none),
    };

    return cmocka_run_group_tests_name("format_test", tests, NULL, NULL);
}
