/*
 * fs/procheap.c - the heap under observation: /sys/kernel/debug/kmemleak, in the words of Linux's
 * Documentation/dev-tools/kmemleak.rst; /proc/quire/leakscan, what the scans did; /proc/quire/samples, where sampled objects are; /proc/quire/validate, to
 * which 1 is written to have the heap looked through, and which then says what came of it.
 */
#include "core/heapwatch.h"
#include "gen.h"
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

int show_leakscan(struct text *t, u64 key)
{
    struct leakscan_state s = leakscan_state();

    (void)key;
    text_printf(t, "state %s\nperiod %u\nscans %lu\nby_itself %lu\n",
                !leakscan_enabled() ? "off"
                : s.automatic       ? "automatic"
                                    : "asked",
                s.period_secs, (unsigned long)s.last.scans, (unsigned long)s.by_itself);
    text_printf(t, "objects %lu\nsuspects %lu\nbytes %lu\n", (unsigned long)s.last.objects,
                (unsigned long)s.last.suspects, (unsigned long)s.last.bytes);
    return 0;
}

int show_samples(struct text *t, u64 key)
{
    struct quire_sample_stats s;

    (void)key;
    quire_sample_stats(&s);
    text_printf(t, "objects %u\nout %u\nclosing %u\nclosed %u\nsampled %lu\n", s.objects, s.out,
                s.closing, s.closed, (unsigned long)s.sampled);
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

static int scan(void)
{
    switch (leakscan_now()) {
    case QUIRE_OK: return 0;
    case QUIRE_UNSUPPORTED: return -EPERM;
    default: return -ENOMEM;
    }
}

static int scan_every(const char *secs)
{
    i64 n;
    int err = gen_number(secs, 0, 0xffffffff, &n);

    if (!err)
        leakscan_period((u32)n);
    return err;
}

static int set_age(const char *ms)
{
    i64 n;
    int err = gen_number(ms, 0, 86400000, &n);

    if (!err)
        quire_leak_min_age((u32)n);
    return err;
}

/* Words of a scan that is enabled; age=MS is ours: how old an object must be. */
static int command(const char *text)
{
    if (is(text, "scan"))
        return scan();
    if (is(text, "scan=on") || is(text, "scan=off"))
        leakscan_automatic(is(text, "scan=on"));
    else if (is(text, "stack=on") || is(text, "stack=off"))
        leakscan_set_stacks(is(text, "stack=on"));
    else if (is(text, "off"))
        leakscan_off();
    else if (!strncmp(text, "scan=", 5))
        return scan_every(text + 5);
    else if (!strncmp(text, "age=", 4))
        return set_age(text + 4);
    else
        return -EINVAL;
    return 0;
}

int store_kmemleak(const char *text, size_t n, u64 key)
{
    (void)n, (void)key;
    if (is(text, "clear")) {
        quire_leak_clear();
        return 0;
    }
    if (!strncmp(text, "dump=", 5))
        return dump(text + 5);
    return leakscan_enabled() ? command(text) : -EPERM;
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
