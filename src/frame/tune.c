/*
 * frame/tune.c - the numbers that may be changed while the machine runs (quire/pressure.h).
 *
 * Each is one word that others read when they need it.  Those that marks are made of take effect by
 * making the marks anew.
 */
#include <quire/pressure.h>
#include "zone.h"

struct quire_frame_tunables qi_tune;

/* Of whoever sets them; above the zones' locks. */
static struct qi_spin lock;
static const struct qi_lock_class lock_class = {"tunables"};

static const struct quire_frame_tunables defaults = {
    .watermark_scale_factor = 10,
    .watermark_boost_factor = 15000,
    .boost_half_life_ms = 1000,
    .lowmem_reserve_ratio =
        {[QUIRE_ZONE_DMA] = 256, [QUIRE_ZONE_DMA32] = 256, [QUIRE_ZONE_NORMAL] = 32},
    .atomic_reserve_kbytes = 256,
    .remote_penalty = 20,
    .interleave_threshold = 2ull << 20,
};

/* Nobody else runs. */
void qi_tune_init(void)
{
    qi_tune = defaults;
    qi_spin_init(&lock, &lock_class);
}

/* Every word by itself: who reads two of them may find one old and one new. */
void quire_frame_tunables_get(struct quire_frame_tunables *out)
{
    out->min_free_kbytes = qi_load_relaxed(&qi_tune.min_free_kbytes);
    out->watermark_scale_factor = qi_load_relaxed(&qi_tune.watermark_scale_factor);
    out->watermark_boost_factor = qi_load_relaxed(&qi_tune.watermark_boost_factor);
    out->boost_half_life_ms = qi_load_relaxed(&qi_tune.boost_half_life_ms);
    for (unsigned i = 0; i < QI_COUNT(out->lowmem_reserve_ratio); i++)
        out->lowmem_reserve_ratio[i] = qi_load_relaxed(&qi_tune.lowmem_reserve_ratio[i]);
    out->atomic_reserve_kbytes = qi_load_relaxed(&qi_tune.atomic_reserve_kbytes);
    out->reclaim_mode = qi_load_relaxed(&qi_tune.reclaim_mode);
    out->remote_penalty = qi_load_relaxed(&qi_tune.remote_penalty);
    out->interleave_threshold = qi_load_relaxed(&qi_tune.interleave_threshold);
}

static bool within(const char *name, uint64_t value, uint64_t from, uint64_t to)
{
    if (value >= from && value <= to)
        return true;
    qi_log(QUIRE_LOG_ERROR, "frames: %s %lu is not in %lu..%lu", name, (unsigned long)value,
           (unsigned long)from, (unsigned long)to);
    return false;
}

static bool good(const struct quire_frame_tunables *t)
{
    return within("min_free_kbytes", t->min_free_kbytes, 0, quire_managed_pages() * 4 / 2) &&
           within("watermark_scale_factor", t->watermark_scale_factor, 1, 3000) &&
           within("watermark_boost_factor", t->watermark_boost_factor, 0, 100000) &&
           within("boost_half_life_ms", t->boost_half_life_ms, 1, 3600000) &&
           within("atomic_reserve_kbytes", t->atomic_reserve_kbytes, 0, 256) &&
           within("reclaim_mode", t->reclaim_mode, 0, QUIRE_RECLAIM_MODES - 1) &&
           within("remote_penalty", t->remote_penalty, 0, 1000);
}

enum quire_status quire_frame_tunables_set(const struct quire_frame_tunables *in)
{
    if (!good(in))
        return QUIRE_INVALID;
    qi_spin_lock(&lock);
    qi_store_relaxed(&qi_tune.min_free_kbytes, in->min_free_kbytes);
    qi_store_relaxed(&qi_tune.watermark_scale_factor, in->watermark_scale_factor);
    qi_store_relaxed(&qi_tune.watermark_boost_factor, in->watermark_boost_factor);
    qi_store_relaxed(&qi_tune.boost_half_life_ms, in->boost_half_life_ms);
    for (unsigned i = 0; i < QI_COUNT(in->lowmem_reserve_ratio); i++)
        qi_store_relaxed(&qi_tune.lowmem_reserve_ratio[i], in->lowmem_reserve_ratio[i]);
    qi_store_relaxed(&qi_tune.atomic_reserve_kbytes, in->atomic_reserve_kbytes);
    qi_store_relaxed(&qi_tune.reclaim_mode, in->reclaim_mode);
    qi_store_relaxed(&qi_tune.remote_penalty, in->remote_penalty);
    qi_store_relaxed(&qi_tune.interleave_threshold, in->interleave_threshold);
    qi_frame_watermarks();
    qi_spin_unlock(&lock);
    return QUIRE_OK;
}
