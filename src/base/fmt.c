/*
 * base/fmt.c - see quire/format.h.  Also the log and the end of a failed check, for both only format.
 */
#include <quire/format.h>
#include "check.h"

struct out {
    char *buf;
    size_t cap, len;
};

struct spec {
    bool left, zero, plus, space, alt;
    int width, precision; /* precision -1: none */
    int length;           /* bytes of the integer argument */
};

static void put(struct out *o, char c)
{
    if (o->len + 1 < o->cap)
        o->buf[o->len] = c;
    o->len++;
}

static void pad(struct out *o, char c, int n)
{
    while (n-- > 0)
        put(o, c);
}

static void put_text(struct out *o, const struct spec *s, const char *text)
{
    int n = 0;

    if (!text)
        text = "(null)";
    while (text[n] && (s->precision < 0 || n < s->precision))
        n++;
    if (!s->left)
        pad(o, ' ', s->width - n);
    for (int i = 0; i < n; i++)
        put(o, text[i]);
    if (s->left)
        pad(o, ' ', s->width - n);
}

static void put_number(struct out *o, const struct spec *s, uint64_t v, unsigned base,
                       const char *prefix, bool upper)
{
    char digits[24];
    int n = 0, np = 0, zeros = 0;

    if (v || s->precision != 0)
        do {
            unsigned d = (unsigned)(v % base);

            digits[n++] = (char)(d < 10 ? '0' + d : (upper ? 'A' : 'a') + d - 10);
        } while (v /= base);
    while (prefix[np])
        np++;
    if (s->precision > n) {
        zeros = s->precision - n;
        if (base == 8)
            np = 0; /* C11 7.21.6.1: '#' asks for one leading zero, not for one more */
    } else if (s->zero && !s->left && s->precision < 0 && s->width > n + np) {
        zeros = s->width - n - np;
    }
    if (!s->left)
        pad(o, ' ', s->width - n - np - zeros);
    for (int i = 0; i < np; i++)
        put(o, prefix[i]);
    pad(o, '0', zeros);
    for (int i = n; i-- > 0;)
        put(o, digits[i]);
    if (s->left)
        pad(o, ' ', s->width - n - np - zeros);
}

static const char *parse_flags(const char *f, struct spec *s)
{
    for (;; f++) {
        switch (*f) {
        case '-': s->left = true; break;
        case '0': s->zero = true; break;
        case '+': s->plus = true; break;
        case ' ': s->space = true; break;
        case '#': s->alt = true; break;
        default: return f;
        }
    }
}

static const char *parse_length(const char *f, struct spec *s)
{
    for (;; f++) {
        switch (*f) {
        case 'h': s->length = s->length == 2 ? 1 : 2; break;
        case 'l':
        case 'z':
        case 'j':
        case 't': s->length = 8; break;
        default: return f;
        }
    }
}

/* va_list may be an array type, which C passes by reference only inside a struct. */
struct args {
    va_list ap;
};

static int parse_count(const char **f, struct args *a)
{
    int n = 0;

    if (**f == '*') {
        ++*f;
        return va_arg(a->ap, int);
    }
    while (**f >= '0' && **f <= '9')
        n = n * 10 + (*(*f)++ - '0');
    return n;
}

static uint64_t fetch_unsigned(struct args *a, int length)
{
    uint64_t v = length == 8 ? va_arg(a->ap, uint64_t) : va_arg(a->ap, unsigned);

    return length == 1 ? (uint8_t)v : length == 2 ? (uint16_t)v : v;
}

static int64_t fetch_signed(struct args *a, int length)
{
    int64_t v = length == 8 ? va_arg(a->ap, int64_t) : va_arg(a->ap, int);

    return length == 1 ? (int8_t)v : length == 2 ? (int16_t)v : v;
}

static void convert(struct out *o, struct spec *s, char c, struct args *a)
{
    int64_t d;
    uint64_t u;

    switch (c) {
    case 'd':
    case 'i':
        d = fetch_signed(a, s->length);
        put_number(o, s, d < 0 ? -(uint64_t)d : (uint64_t)d, 10,
                   d < 0      ? "-"
                   : s->plus  ? "+"
                   : s->space ? " "
                              : "",
                   false);
        break;
    case 'u': put_number(o, s, fetch_unsigned(a, s->length), 10, "", false); break;
    case 'x':
    case 'X':
        u = fetch_unsigned(a, s->length);
        put_number(o, s, u, 16, s->alt && u ? (c == 'X' ? "0X" : "0x") : "", c == 'X');
        break;
    case 'o':
        u = fetch_unsigned(a, s->length);
        put_number(o, s, u, 8, s->alt && (u || !s->precision) ? "0" : "", false);
        break;
    case 'p': put_number(o, s, (uint64_t)(uintptr_t)va_arg(a->ap, void *), 16, "0x", false); break;
    case 'c':
        if (!s->left)
            pad(o, ' ', s->width - 1);
        put(o, (char)va_arg(a->ap, int));
        if (s->left)
            pad(o, ' ', s->width - 1);
        break;
    case 's': put_text(o, s, va_arg(a->ap, const char *)); break;
    default:
        put(o, '%');
        if (c != '%')
            put(o, c);
    }
}

size_t quire_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap)
{
    struct out o = {buf, cap, 0};
    struct args a;

    va_copy(a.ap, ap);
    for (const char *f = fmt; *f; f++) {
        struct spec s = {.precision = -1, .length = 4};

        if (*f != '%') {
            put(&o, *f);
            continue;
        }
        f = parse_flags(f + 1, &s);
        s.width = parse_count(&f, &a);
        if (s.width < 0) {
            s.left = true;
            s.width = -s.width;
        }
        if (*f == '.') {
            f++;
            s.precision = parse_count(&f, &a);
        }
        f = parse_length(f, &s);
        if (!*f)
            break;
        convert(&o, &s, *f, &a);
    }
    va_end(a.ap);
    if (cap)
        buf[o.len < cap ? o.len : cap - 1] = 0;
    return o.len;
}

size_t quire_snprintf(char *buf, size_t cap, const char *fmt, ...)
{
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    n = quire_vsnprintf(buf, cap, fmt, ap);
    va_end(ap);
    return n;
}

void qi_log(enum quire_log_level level, const char *fmt, ...)
{
    char line[256];
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    n = quire_vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    qport_log(level, line, n < sizeof line ? n : sizeof line - 1);
}

void qi_bug(const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    quire_vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    qport_panic(line);
}
