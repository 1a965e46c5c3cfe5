/*
 * frame/pressure.c - who is told that memory gets short, and what a zone does about it itself.
 *
 * Model.  A zone can fall below a mark only where frames leave it: a stack is filled, a block is taken.
 * After each such taking qi_zone_taken() (zone.h) compares two words, and comes here if the zone
 * is below low, or was and was not above high since.  What is to be told is noted in the zone,
 * and told when the allocation has restored interrupts: whoever is called may take locks of his own.
 *
 * The atomic reserve.  When a zone falls below low, one aligned run of frames, up to 64, is taken out of
 * its bitmap; when it is above high again, what is left goes back.  Between the two an ATOMIC request of
 * more than one frame that finds nothing else is served from it.  Who else would fail for lack of memory
 * has it given back first, unless he said NORETRY.  The frames are free: they count as such, and
 * invariant F8 says where they are.
 *
 *     bitmap of the pageblock    1 0 1 1 0 0 0 0  0 0 0 0 1 1 0 1
 *     z->atomic                          [ 1 1 1 1  1 1 1 1 ]       in the one or in the other
 *
 * Blocks from the reserve are freed like others, into the bitmap.
 *
 * Sources.  Linux, mm/page_alloc.c: wake_all_kswapds(), reserve_highatomic_pageblock(), which sets aside
 * whole pageblocks; __node_reclaim() for the reclaim mode.
 */
#include <quire/pressure.h>
#include "zone.h"

/* Bits of z->pressure: what is to be told, and that the zone has not been above high since. */
#define SHORT 0x100u

static quire_pressure_fn told;
static quire_reclaimer reclaimer;
uint32_t qi_pressure_noted;

void quire_frame_set_pressure(quire_pressure_fn f) { qi_store_release(&told, f); }
void quire_frame_set_reclaimer(quire_reclaimer f) { qi_store_release(&reclaimer, f); }

void qi_pressure_init(void)
{
    told = NULL;
    reclaimer = NULL;
    qi_pressure_noted = 0;
}

void qi_pressure_note(struct qi_zone *z, unsigned why)
{
    if (!qi_load_relaxed(&told))
        return;
    qi_fetch_or_relaxed(&z->pressure, 1u << why);
    qi_store_release(&qi_pressure_noted, 1u);
}

void qi_pressure_tell(void)
{
    quire_pressure_fn f = qi_load_acquire(&told);

    if (!qi_xchg_acqrel(&qi_pressure_noted, 0u) || !f)
        return;
    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];
        uint32_t what = qi_load_relaxed(&z->pressure);

        if (!(what & ~SHORT))
            continue;
        what = qi_fetch_and_relaxed(&z->pressure, SHORT);
        for (unsigned why = QUIRE_PRESSURE_LOW; why <= QUIRE_PRESSURE_FRAGMENTED; why++)
            if (what >> why & 1)
                f(z->node, (enum quire_zone_type)z->type, (enum quire_pressure)why);
    }
}

/* ---- The atomic reserve; zone locked ---- */

/* Order of the run that the zone may set aside; 0: none. */
static unsigned reserve_order(const struct qi_zone *z)
{
    uint64_t frames = qi_load_relaxed(&qi_tune.atomic_reserve_kbytes) / 4;

    frames = QI_MIN(frames, z->managed / 100);
    return frames ? qi_highest_bit(frames) : 0;
}

static void reserve_fill(struct qi_zone *z)
{
    static const uint8_t types[] = {QUIRE_UNMOVABLE, QUIRE_RECLAIMABLE, QUIRE_MOVABLE};
    const struct quire_page *p = NULL;
    unsigned order = reserve_order(z);
    uint64_t pfn;

    if (!order || z->atomic_bits)
        return;
    /* out of a pageblock that is broken already, if there is one; never by stealing, which would boost,
     * and never what a contiguous area lends */
    for (unsigned i = 0; !p && i < QI_COUNT(types); i++)
        p = qi_zone_take_broken(z, types[i], order);
    if (!p && z->big_mask)
        p = qi_zone_take(z, QUIRE_UNMOVABLE, order);
    if (!p)
        return;
    pfn = quire_pfn_of_page(p).v;
    z->atomic_base = pfn & ~63ull;
    qi_store_relaxed(&z->atomic_bits,
                     (order == QI_WORD_ORDER ? UINT64_MAX : (1ull << (1u << order)) - 1)
                         << pfn % 64);
}

bool qi_reserve_release(struct qi_zone *z)
{
    uint64_t bits = z->atomic_bits;

    if (!bits)
        return false;
    qi_store_relaxed(&z->atomic_bits, (uint64_t)0);
    qi_zone_give_mask(z, z->atomic_base, bits);
    return true;
}

struct quire_page *qi_reserve_take(struct qi_zone *z, unsigned order)
{
    uint64_t bits[QI_BLOCK_WORDS] = {z->atomic_bits};
    unsigned at = order <= QI_WORD_ORDER ? qi_bits_find(bits, order) : QI_BLOCK_FRAMES;

    if (at == QI_BLOCK_FRAMES)
        return NULL;
    qi_bits_clear_run(bits, at, order);
    qi_store_relaxed(&z->atomic_bits, bits[0]);
    return quire_page_of_pfn(Q_PFN(z->atomic_base + at));
}

/* ---- A zone that is below low, or was ---- */

void qi_pressure_look(struct qi_zone *z)
{
    uint64_t free = qi_load_relaxed(&z->free) + qi_popcount(qi_load_relaxed(&z->atomic_bits));
    bool was_short = qi_load_relaxed(&z->pressure) & SHORT;

    if (free < qi_load_relaxed(&z->wmark[QI_MARK_LOW])) {
        if (was_short || qi_fetch_or_relaxed(&z->pressure, SHORT) & SHORT)
            return;
        qi_pressure_note(z, QUIRE_PRESSURE_LOW);
        qi_zone_lock(z);
        reserve_fill(z);
        qi_zone_unlock(z);
    } else if (was_short && free > qi_load_relaxed(&z->wmark[QI_MARK_HIGH]) + qi_zone_boost(z)) {
        qi_fetch_and_relaxed(&z->pressure, ~SHORT);
        qi_zone_lock(z);
        qi_reserve_release(z);
        qi_zone_unlock(z);
    }
}

/* ---- Reclaim on the node before others are asked ---- */

bool qi_reclaim_local(unsigned node, unsigned order, quire_gfp gfp)
{
    quire_reclaimer f = qi_load_acquire(&reclaimer);
    unsigned mode = qi_load_relaxed(&qi_tune.reclaim_mode);

    if (!f || mode == QUIRE_RECLAIM_OFF || gfp & (QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC))
        return false;
    return f(node, order, gfp, mode) > 0;
}
