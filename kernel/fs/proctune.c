/*
 * fs/proctune.c - /proc/sys/vm: what the frame allocator keeps back (quire/pressure.h), under Linux's names.
 *
 * zone_reclaim_mode has the allocator's three levels: 0 off, 1 on the node first, 2 with writing.
 */
#include "gen.h"
#include "proctune.h"
#include <quire/pressure.h>

int tune_show(struct text *t, u64 key)
{
    struct quire_frame_tunables now;
    u64 v;

    quire_frame_tunables_get(&now);
    switch (key) {
    case TUNE_MIN: v = quire_min_free_kbytes(); break; /* what is in force, where 0 was set too */
    case TUNE_SCALE: v = now.watermark_scale_factor; break;
    case TUNE_BOOST: v = now.watermark_boost_factor; break;
    default: v = now.reclaim_mode; break;
    }
    text_printf(t, "%lu\n", (unsigned long)v);
    return 0;
}

int tune_store(const char *text, size_t n, u64 key)
{
    struct quire_frame_tunables now;
    i64 v;
    int err = gen_number(text, 0, INT32_MAX, &v);

    (void)n;
    if (err)
        return err;
    quire_frame_tunables_get(&now);
    switch (key) {
    case TUNE_MIN: now.min_free_kbytes = (u64)v; break;
    case TUNE_SCALE: now.watermark_scale_factor = (u32)v; break;
    case TUNE_BOOST: now.watermark_boost_factor = (u32)v; break;
    default: now.reclaim_mode = (u32)v; break;
    }
    return quire_frame_tunables_set(&now) == QUIRE_OK ? 0 : -EINVAL;
}

/* As Linux: one number a zone type, with tabs. */
int tune_show_ratios(struct text *t, u64 key)
{
    struct quire_frame_tunables now;

    (void)key;
    quire_frame_tunables_get(&now);
    for (unsigned i = 0; i < K_COUNT(now.lowmem_reserve_ratio); i++)
        text_printf(t, "%s%u", i ? "\t" : "", now.lowmem_reserve_ratio[i]);
    text_printf(t, "\n");
    return 0;
}

/* The first so many of them. */
int tune_store_ratios(const char *text, size_t n, u64 key)
{
    struct quire_frame_tunables now;
    unsigned zone = 0;

    (void)n;
    (void)key;
    quire_frame_tunables_get(&now);
    for (;;) {
        u64 v = 0;

        while (*text == ' ' || *text == '\t' || *text == '\n')
            text++;
        if (!*text)
            break;
        if (zone == K_COUNT(now.lowmem_reserve_ratio) || *text < '0' || *text > '9')
            return -EINVAL;
        for (; *text >= '0' && *text <= '9'; text++)
            v = K_MIN(v * 10 + (u64)(*text - '0'), (u64)INT32_MAX + 1);
        if (v > INT32_MAX)
            return -EINVAL;
        now.lowmem_reserve_ratio[zone++] = (u32)v;
    }
    if (!zone)
        return -EINVAL;
    return quire_frame_tunables_set(&now) == QUIRE_OK ? 0 : -EINVAL;
}
