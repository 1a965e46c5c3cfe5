/*
 * core/string.c - the C library's memory and string functions that the kernel and the compiler use.
 */
#include "k.h"

#include <quire/format.h>
#include <quire/shadow.h>

/* The compiler leaves it to these to look at shadow memory, where there is any. */

/* Words at a time: counted in instructions, a byte costs as much as a word. */

void *memcpy(void *d, const void *s, size_t n)
{
    void *to = d;
    size_t words = n / 8, bytes = n & 7;

    quire_shadow_check(s, n, false);
    quire_shadow_check(d, n, true);
    if (words)
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(s), "+c"(words) : : "memory");
    if (bytes)
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(s), "+c"(bytes) : : "memory");
    return d;
}

void *memmove(void *d, const void *s, size_t n)
{
    u8 *to = (u8 *)d + n;
    const u8 *from = (const u8 *)s + n;

    if ((u64)d - (u64)s >= n)
        return memcpy(d, s, n);
    quire_shadow_check(s, n, false);
    quire_shadow_check(d, n, true);
    /* overlapping, d above s: from the end; the direction flag would cost more than it saves */
    for (; n >= 8; n -= 8) {
        u64 w;

        to -= 8;
        from -= 8;
        __builtin_memcpy(&w, from, 8);
        __builtin_memcpy(to, &w, 8);
    }
    while (n--)
        __asm__ volatile("movb %1, %%al; movb %%al, %0" : "=m"(*--to) : "m"(*--from) : "al");
    return d;
}

void *memset(void *d, int c, size_t n)
{
    void *to = d;
    size_t words = n / 8, bytes = n & 7;
    u64 fill = (u8)c * 0x0101010101010101ull;

    quire_shadow_check(d, n, true);
    if (words)
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(fill) : "memory");
    if (bytes)
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(fill) : "memory");
    return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n]) {
        n++;
        __asm__ volatile("" : "+r"(n)); /* lest the compiler see strlen in it and call us */
    }
    return n;
}

size_t strlen(const char *s) { return strnlen(s, ~(size_t)0); }

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, ~(size_t)0); }

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)(u64)s;
        if (!*s)
            return NULL;
    }
}

char *strrchr(const char *s, int c)
{
    const char *last = NULL;

    for (;; s++) {
        if (*s == (char)c)
            last = s;
        if (!*s)
            return (char *)(u64)last;
    }
}

char *strstr(const char *s, const char *what)
{
    size_t n = strlen(what);

    for (; strnlen(s, n) == n; s++)
        if (!memcmp(s, what, n))
            return (char *)(u64)s;
    return NULL;
}

size_t strlcpy(char *d, const char *s, size_t cap)
{
    size_t n = strlen(s);

    if (cap) {
        size_t m = K_MIN(n, cap - 1);

        memcpy(d, s, m);
        d[m] = 0;
    }
    return n;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return 99;
}

u64 kstrtou64(const char *s, const char **end)
{
    u64 v = 0;
    int base = 10;

    if (s[0] == '0' && (s[1] | 32) == 'x' && digit(s[2]) < 16) {
        base = 16;
        s += 2;
    }
    while (digit(*s) < base)
        v = v * (u64)base + (u64)digit(*s++);
    if (end)
        *end = s;
    return v;
}

/* GCC calls it where the CPU is not known to have popcnt (libgcc's place). */
int __popcountdi2(u64 v);
int __popcountdi2(u64 v)
{
    v -= v >> 1 & 0x5555555555555555ull;
    v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
    return (int)(v * 0x0101010101010101ull >> 56);
}

int kvsnprintf(char *buf, size_t cap, const char *fmt, va_list ap)
{
    return (int)quire_vsnprintf(buf, cap, fmt, ap);
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
