/*
 * core/printf.c - formatted output: %d %i %u %x %X %o %p %s %c %%, lengths hh h l ll z j t, flags
 * - 0 + space #, width and precision as numbers or '*'.  Anything else is copied as it stands.
 */
#include "k.h"

struct out {
    char *buf;
    size_t cap, len;
};

struct spec {
    bool left, zero, plus, space, alt;
    int width, precision; /* precision -1: none */
    char conversion;
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

static void put_text(struct out *o, const struct spec *f, const char *s)
{
    size_t n = strnlen(s, f->precision < 0 ? ~(size_t)0 : (size_t)f->precision);

    if (!f->left)
        pad(o, ' ', f->width - (int)n);
    for (size_t i = 0; i < n; i++)
        put(o, s[i]);
    if (f->left)
        pad(o, ' ', f->width - (int)n);
}

static int digits_of(char *to, u64 v, char conversion)
{
    const char *set = conversion == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    unsigned base = conversion == 'd' || conversion == 'u' ? 10 : conversion == 'o' ? 8 : 16;
    int n = 0;

    for (; v; v /= base)
        to[n++] = set[v % base];
    return n;
}

static void put_number(struct out *o, const struct spec *f, u64 v, bool negative)
{
    char digits[24], prefix[3];
    int n = digits_of(digits, v, f->conversion), np = 0;
    int precision = f->precision < 0 ? 1 : f->precision, zeros, spaces;

    if (negative)
        prefix[np++] = '-';
    else if (f->conversion == 'd' && (f->plus || f->space))
        prefix[np++] = f->plus ? '+' : ' ';
    if (f->alt && v && (f->conversion == 'x' || f->conversion == 'X')) {
        prefix[np++] = '0';
        prefix[np++] = f->conversion;
    }
    zeros = K_MAX(precision - n, 0);
    if (f->zero && !f->left && f->precision < 0)
        zeros = K_MAX(zeros, f->width - n - np);
    spaces = f->width - n - np - zeros;
    if (!f->left)
        pad(o, ' ', spaces);
    for (int i = 0; i < np; i++)
        put(o, prefix[i]);
    pad(o, '0', zeros);
    while (n)
        put(o, digits[--n]);
    if (f->left)
        pad(o, ' ', spaces);
}

static u64 fetch(va_list *ap, int longs, bool is_signed)
{
    if (longs > 0)
        return va_arg(*ap, u64);
    if (is_signed) {
        int v = va_arg(*ap, int);

        return (u64)(i64)(longs == -1 ? (short)v : longs == -2 ? (signed char)v : v);
    } else {
        unsigned v = va_arg(*ap, unsigned);

        return longs == -1 ? (u16)v : longs == -2 ? (u8)v : v;
    }
}

static int number_or_star(const char **p, va_list *ap)
{
    int v = 0;

    if (**p == '*') {
        (*p)++;
        return va_arg(*ap, int);
    }
    while (**p >= '0' && **p <= '9')
        v = v * 10 + *(*p)++ - '0';
    return v;
}

static const char *parse_flags(const char *p, struct spec *f)
{
    for (;; p++) {
        if (*p == '-')
            f->left = true;
        else if (*p == '0')
            f->zero = true;
        else if (*p == '+')
            f->plus = true;
        else if (*p == ' ')
            f->space = true;
        else if (*p == '#')
            f->alt = true;
        else
            return p;
    }
}

/* One conversion; p is just past the '%'.  Returns where the text goes on, or NULL: not
 * understood. */
static const char *convert(struct out *o, const char *p, va_list *ap)
{
    struct spec f = {.precision = -1};
    int longs = 0;
    char text[2] = {0};

    p = parse_flags(p, &f);
    f.width = number_or_star(&p, ap);
    if (f.width < 0) {
        f.left = true;
        f.width = -f.width;
    }
    if (*p == '.') {
        p++;
        f.precision = number_or_star(&p, ap);
    }
    for (; *p == 'l' || *p == 'z' || *p == 'j' || *p == 't' || *p == 'h'; p++)
        longs += *p == 'h' ? -1 : 1;
    f.conversion = *p == 'i' ? 'd' : *p;
    switch (f.conversion) {
    case 'd': {
        i64 v = (i64)fetch(ap, longs, true);

        put_number(o, &f, v < 0 ? -(u64)v : (u64)v, v < 0);
        break;
    }
    case 'u':
    case 'x':
    case 'X':
    case 'o': put_number(o, &f, fetch(ap, longs, false), false); break;
    case 'p':
        f.conversion = 'x';
        f.alt = true;
        put_number(o, &f, (u64)va_arg(*ap, void *), false);
        break;
    case 's': {
        const char *s = va_arg(*ap, const char *);

        put_text(o, &f, s ? s : "(null)");
        break;
    }
    case 'c':
        text[0] = (char)va_arg(*ap, int);
        f.precision = 1;
        put_text(o, &f, text);
        break;
    case '%': put(o, '%'); break;
    default: return NULL;
    }
    return p + 1;
}

int kvsnprintf(char *buf, size_t cap, const char *fmt, va_list args)
{
    struct out o = {buf, cap, 0};
    va_list ap;

    va_copy(ap, args);
    while (*fmt) {
        const char *next = *fmt == '%' ? convert(&o, fmt + 1, &ap) : NULL;

        if (next)
            fmt = next;
        else
            put(&o, *fmt++);
    }
    va_end(ap);
    if (cap)
        buf[K_MIN(o.len, cap - 1)] = 0;
    return (int)o.len;
}

int ksnprintf(char *buf, size_t cap, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = kvsnprintf(buf, cap, fmt, ap);
    va_end(ap);
    return n;
}
