/*
 * fs/proctune.h - entries of /proc/sys/vm that the frame allocator serves.
 */
#ifndef K_FS_PROCTUNE_H
#define K_FS_PROCTUNE_H

#include "gen.h"

enum { TUNE_MIN = 1, TUNE_SCALE, TUNE_BOOST, TUNE_RECLAIM };

int tune_show(struct text *t, u64 key);
int tune_store(const char *text, size_t n, u64 key);
int tune_show_ratios(struct text *t, u64 key);
int tune_store_ratios(const char *text, size_t n, u64 key);

/* clang-format off */
#define TUNE_FILE(n, which) {.name = (n), .mode = S_IFREG | 0644, .show = tune_show, .store = tune_store, .key = (which)}
#define PROCTUNE_ENTRIES                                                      \
    TUNE_FILE("min_free_kbytes", TUNE_MIN),                                   \
    GEN_RW("lowmem_reserve_ratio", tune_show_ratios, tune_store_ratios),      \
    TUNE_FILE("watermark_scale_factor", TUNE_SCALE),                          \
    TUNE_FILE("watermark_boost_factor", TUNE_BOOST),                          \
    TUNE_FILE("zone_reclaim_mode", TUNE_RECLAIM)
/* clang-format on */

#endif
