/*
 * frame/marks.c - watermarks and reserves: what of a zone is kept from whom.
 *
 * A zone keeps three marks, min, low and high, and for each class of requests that could have used a
 * higher zone a reserve.  qi_zone_spare() (zone.h) says what a request may take.
 */
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
 * high lie a quarter of min, or a thousandth of the zone, apart.  A zone keeps 1/256 of the memory
 * of the higher zones of its node from requests that could have used those.
 */
static void set_marks(struct qi_zone *z, uint64_t pages, uint64_t all)
{
    uint64_t min = all ? pages * z->managed / all : 0, kept = 0;
    uint64_t step = QI_MAX(min / 4, z->managed / 1000);

    for (unsigned i = 0; i < 3; i++)
        qi_store_relaxed(&z->wmark[i], min + i * step);
    for (unsigned class = z->type + 1u; class < QI_CLASSES; class ++) {
        const struct qi_zone *up = qi_zone_by(z->node, class);

        kept += up ? qi_load_relaxed(&up->managed) / 256 : 0;
        qi_store_relaxed(&z->reserve[class], kept);
    }
}

void qi_frame_watermarks(void)
{
    uint64_t all = quire_managed_pages(), kb = isqrt(all * 4 * 16);

    kb = QI_MIN(QI_MAX(kb, (uint64_t)128), (uint64_t)262144);
    for (unsigned i = 0; i < qi_nzones; i++) {
        unsigned long irq = qport_irq_save();

        qi_zone_lock(&qi_zones[i]);
        set_marks(&qi_zones[i], kb / 4, all);
        qi_zone_unlock(&qi_zones[i]);
        qport_irq_restore(irq);
    }
}
