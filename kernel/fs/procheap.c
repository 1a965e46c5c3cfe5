/*
 * fs/procheap.c - the heap under observation: /sys/kernel/debug/kmemleak, in the words of Linux's
 * Documentation/dev-tools/kmemleak.rst; /proc/quire/validate, to which 1 is written to have the heap
 * looked through, and which then says what came of it.
 */
#include "gen.h"
#include <quire/leak.h>
#include <quire/track.h>

/* "word\n" or "word". */
static bool is(const char *text, const char *word)
{
    size_t n = strlen(word);

    return !strncmp(text, word, n) && (!text[n] || (text[n] == '\n' && !text[n + 1]));
}

int show_kmemleak(struct text *t, u64 key)
{
    (void)key;
    return show_library(t, (u64)(uintptr_t)quire_leak_text);
}

static int scan(void)
{
    struct quire_leak_stats s;
    enum quire_status status = quire_leak_scan(&s);

    if (status != QUIRE_OK)
        return status == QUIRE_UNSUPPORTED ? -EPERM : -ENOMEM;
    if (s.fresh)
        printk("kmemleak: %lu new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
               (unsigned long)s.fresh);
    return 0;
}

/* 0x and digits; what is known of the memory there goes to the log. */
static int dump(const char *text)
{
    u64 addr = 0;
    unsigned digits = 0;

    if (text[0] == '0' && text[1] == 'x')
        text += 2;
    for (; *text && *text != '\n'; text++, digits++) {
        char c = *text >= 'A' && *text <= 'F' ? *text | 32 : *text;

        if (digits == 16 || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return -EINVAL;
        addr = addr << 4 | (u64)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return digits && quire_heap_describe((const void *)addr) ? 0 : -EINVAL;
}

/* age=MS is ours: how old an object must be. */
int store_kmemleak(const char *text, size_t n, u64 key)
{
    i64 ms;
    int err;

    (void)n, (void)key;
    if (is(text, "scan"))
        return scan();
    if (is(text, "clear")) {
        quire_leak_clear();
        return 0;
    }
    if (!strncmp(text, "dump=", 5))
        return dump(text + 5);
    if (strncmp(text, "age=", 4))
        return -EINVAL;
    err = gen_number(text + 4, 0, 86400000, &ms);
    if (!err)
        quire_leak_min_age((u32)ms);
    return err;
}

static u32 validated; /* atomic: 0 not yet, 1 sound, 2 damaged */

int show_validate(struct text *t, u64 key)
{
    static const char *const said[] = {"not asked", "sound", "damaged"};

    (void)key;
    text_printf(t, "%s\n", said[__atomic_load_n(&validated, __ATOMIC_RELAXED)]);
    return 0;
}

/* What is damaged goes to the log. */
int store_validate(const char *text, size_t n, u64 key)
{
    bool sound;

    (void)n, (void)key;
    if (!is(text, "1"))
        return -EINVAL;
    sound = quire_heap_validate() == QUIRE_OK;
    __atomic_store_n(&validated, sound ? 1 : 2, __ATOMIC_RELAXED);
    return sound ? 0 : -EIO;
}
