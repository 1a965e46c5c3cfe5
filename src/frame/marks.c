/*
 * frame/marks.c - watermarks, reserves and the boost: what of a zone is kept from whom.
 *
 * A zone keeps three marks, min, low and high, and for each class of requests that could have used a
 * higher zone a reserve.  qi_zone_spare() (zone.h) says what a request may take.  A fourth mark, above
 * low, is what low is for requests from other nodes.
 */
#include <quire/pressure.h>
#include "zone.h"

static uint64_t isqrt(uint64_t v)
{
    uint64_t r = 0;

    for (uint64_t bit = 1ull << 31; bit; bit >>= 1)
        if ((r + bit) * (r + bit) <= v)
            r += bit;
    return r;
}

/*
 * As Linux (mm/page_alloc.c: calculate_min_free_kbytes, __setup_per_zone_wmarks,
 * setup_per_zone_lowmem_reserve; Documentation/admin-guide/sysctl/vm.rst): min_free_kbytes is the
 * root of 16 times the memory in KiB, within 128 KiB..256 MiB; each zone keeps its share.  low and
 * high lie a quarter of min, or some 10,000ths of the zone, apart.  A zone keeps a part of the memory
 * of the higher zones of its node from requests that could have used those.
 */
static void set_marks(struct qi_zone *z, uint64_t pages, uint64_t all)
{
    uint64_t min = all ? pages * z->managed / all : 0, kept = 0;
    uint64_t scale = qi_load_relaxed(&qi_tune.watermark_scale_factor);
    uint64_t step = QI_MAX(min / 4, z->managed * scale / 10000);
    uint32_t ratio = qi_load_relaxed(&qi_tune.lowmem_reserve_ratio[z->type]);
    uint64_t low = min + step;

    qi_store_relaxed(&z->wmark[QI_MARK_MIN], min);
    qi_store_relaxed(&z->wmark[QI_MARK_LOW], low);
    qi_store_relaxed(&z->wmark[QI_MARK_HIGH], low + step);
    qi_store_relaxed(&z->wmark[QI_MARK_REMOTE],
                     low + low * qi_load_relaxed(&qi_tune.remote_penalty) / 100);
    for (unsigned class = z->type + 1u; class < QI_CLASSES; class ++) {
        const struct qi_zone *up = qi_zone_by(z->node, class);

        kept += up && ratio ? qi_load_relaxed(&up->managed) / ratio : 0;
        qi_store_relaxed(&z->reserve[class], kept);
    }
}

static uint64_t min_free_kbytes(uint64_t all)
{
    uint64_t kb = qi_load_relaxed(&qi_tune.min_free_kbytes);

    if (!kb)
        kb = QI_MIN(QI_MAX(isqrt(all * 4 * 16), (uint64_t)128), (uint64_t)262144);
    return kb;
}

uint64_t quire_min_free_kbytes(void) { return min_free_kbytes(quire_managed_pages()); }

void qi_frame_watermarks(void)
{
    uint64_t all = quire_managed_pages(), kb = min_free_kbytes(all);

    for (unsigned i = 0; i < qi_nzones; i++) {
        unsigned long irq = qport_irq_save();

        qi_zone_lock(&qi_zones[i]);
        set_marks(&qi_zones[i], kb / 4, all);
        qi_zone_unlock(&qi_zones[i]);
        qport_irq_restore(irq);
    }
}

/* ---- The boost: Linux, boost_watermark().  It fades by itself: nothing has to run for that. ---- */

uint64_t qi_zone_boost(const struct qi_zone *z)
{
    uint64_t boost = qi_load_relaxed(&z->boost), half, age;

    if (QI_LIKELY(!boost))
        return 0;
    half = qi_load_relaxed(&qi_tune.boost_half_life_ms) * 1000000ull;
    age = qport_now_ns() - qi_load_relaxed(&z->boosted_ns);
    return age >= half * 63 ? 0 : boost >> age / half;
}

void qi_zone_stolen(struct qi_zone *z)
{
    uint64_t most = qi_load_relaxed(&z->wmark[QI_MARK_HIGH]) *
                    qi_load_relaxed(&qi_tune.watermark_boost_factor) / 10000;
    uint64_t boost;

    /* a small zone would be boosted beyond all it has */
    if (!most || z->managed < 4 * QI_BLOCK_FRAMES)
        return;
    boost = qi_zone_boost(z) + QI_BLOCK_FRAMES;
    qi_store_relaxed(&z->boost, QI_MIN(boost, QI_MAX(most, (uint64_t)QI_BLOCK_FRAMES)));
    qi_store_relaxed(&z->boosted_ns, qport_now_ns());
    qi_pressure_note(z, QUIRE_PRESSURE_FRAGMENTED);
}

void quire_frame_reclaimed(unsigned node)
{
    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_zones[i].node == node) {
            unsigned long irq = qport_irq_save();

            qi_zone_lock(&qi_zones[i]);
            qi_store_relaxed(&qi_zones[i].boost, (uint64_t)0);
            qi_zone_unlock(&qi_zones[i]);
            qport_irq_restore(irq);
        }
}
