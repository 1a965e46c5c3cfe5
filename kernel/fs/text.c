/*
 * fs/text.c - growing buffers in which generated files are written.  Lack of memory is remembered and
 * reported once, at the end.
 */
#include "fsint.h"

bool text_room(struct text *t, size_t n)
{
    size_t cap = t->cap ? t->cap : 1024;
    char *p;

    if (t->failed)
        return false;
    if (t->cap - t->len > n)
        return true;
    while (cap - t->len <= n) {
        if (cap > SIZE_MAX / 4) {
            t->failed = true;
            return false;
        }
        cap *= 2;
    }
    /* who runs short of memory looks at these files */
    do
        p = quire_kvrealloc(t->p, cap, QUIRE_GFP_KERNEL);
    while (!p && oom_make_room());
    if (!p) {
        t->failed = true;
        return false;
    }
    t->p = p;
    t->cap = cap;
    return true;
}

void text_put(struct text *t, const char *p, size_t n)
{
    if (!text_room(t, n))
        return;
    memcpy(t->p + t->len, p, n);
    t->len += n;
}

void text_printf(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (!text_room(t, 256))
        return;
    va_start(ap, fmt);
    n = kvsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    if ((size_t)n >= t->cap - t->len) {
        if (!text_room(t, (size_t)n + 1))
            return;
        va_start(ap, fmt);
        n = kvsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
        va_end(ap);
    }
    t->len += (size_t)n;
}

void text_fini(struct text *t)
{
    quire_kvfree(t->p);
    *t = (struct text){0};
}
