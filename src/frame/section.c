/*
 * frame/section.c - pageblocks off line and back: memory that the allocator lends to somebody else.
 *
 * Purpose.  A range of whole pageblocks leaves the allocator, if it can be emptied, and comes back
 * later: a device or a balloon that takes 2 MiB at a time, memory that is to be switched off.
 *
 * Model.  An offline block is in the state QI_BLOCK_OFFLINE: nothing of it is managed or free, it is
 * on no list, the buddy rule passes it by, and its struct pages are reserved frames with one holder,
 * so that every misuse of them is found out like that of any reserved frame (F7).  Before, the range
 * was isolated and emptied (isolate.c).
 *
 * Concurrency.  One range at a time, guarded by a flag: who finds it set is told BUSY, so that half
 * of a range that has yet to be rolled back is nobody else's.  Each block is a step by itself, with
 * interrupts off: the zone's lock is held to take it out, or to put it back, and the 512 struct pages are
 * written without it, for a block in this state is touched by nobody.
 *
 * Rejected.  All of a range under one taking of the lock: a gibibyte would keep interrupts off for a
 * millisecond.
 *
 * Sources.  Linux, mm/memory_hotplug.c: offline_pages(), online_pages(); its blocks, too, are RESERVED
 * in between.
 */
#include "isolate.h"

#define BAD (QUIRE_PG_POISON | QUIRE_PG_RESERVED)

static uint32_t changing; /* somebody takes a range off line, or back */

/* Whole pageblocks below the end of memory? */
static bool in_blocks(q_pfn start, uint64_t frames)
{
    uint64_t end = qi_align_up(qi_top_frame, QI_BLOCK_FRAMES);

    return frames && !((start.v | frames) % QI_BLOCK_FRAMES) && start.v < end &&
           frames <= end - start.v;
}

/* All frames of the block are the allocator's, or were until they went bad.  Zone locked. */
static bool was_managed(const struct qi_zone *z, const struct qi_block *b, uint64_t pfn)
{
    const struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));
    unsigned n = b->managed;

    if (b->state < QI_BLOCK_PART)
        return false;
    for (unsigned f = 0; n < QI_BLOCK_FRAMES && f < QI_BLOCK_FRAMES; f++) {
        uint32_t flags = quire_page_flags_now(p + f);

        n += (flags & BAD) == BAD && qi_zone_has(z, flags);
    }
    return n == QI_BLOCK_FRAMES;
}

/* Every block of the range is off line, or every one could be. */
static bool all_are(q_pfn start, uint64_t frames, bool offline)
{
    bool good = true;

    for (uint64_t pfn = start.v; good && pfn < start.v + frames; pfn += QI_BLOCK_FRAMES) {
        unsigned long irq = qport_irq_save();
        struct qi_block *b;
        struct qi_zone *z = qi_zone_of_frame(pfn, &b);

        if (z) {
            qi_zone_lock(z);
            good = offline ? b->state == QI_BLOCK_OFFLINE : was_managed(z, b, pfn);
            qi_zone_unlock(z);
        } else {
            good = false;
        }
        qport_irq_restore(irq);
    }
    return good;
}

static void write_pages(const struct qi_zone *z, uint64_t pfn, uint32_t state, uint64_t counts)
{
    struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));

    for (unsigned f = 0; f < QI_BLOCK_FRAMES; f++) {
        qi_store_relaxed(&p[f].counts, counts);
        qi_store_relaxed(&p[f].flags, qi_flags_at(p, z->place | state));
    }
}

/* An isolated block that is wholly free leaves the allocator; interrupts off. */
static bool leave(struct qi_zone *z, struct qi_block *b)
{
    bool free;

    qi_zone_lock(z);
    free = qi_zone_claim(z, (uint32_t)(b - z->blocks));
    if (free) {
        qi_block_set(b, QI_BLOCK_OFFLINE);
        qi_store_relaxed(&z->managed, z->managed - QI_BLOCK_FRAMES);
    }
    qi_zone_unlock(z);
    return free;
}

/* False: somebody has called a frame bad since the range was found empty. */
static bool take(uint64_t pfn)
{
    unsigned long irq = qport_irq_save();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);
    bool left = leave(z, b);

    if (left) {
        write_pages(z, pfn, QUIRE_PG_RESERVED, 1);
        qi_store_relaxed(&b->managed, (uint16_t)0);
    }
    qport_irq_restore(irq);
    return left;
}

void qi_block_give(uint64_t pfn)
{
    unsigned long irq = qport_irq_save();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);

    write_pages(z, pfn, QUIRE_PG_FREE, 0);
    qi_store_relaxed(&b->managed, (uint16_t)QI_BLOCK_FRAMES);
    qi_zone_lock(z);
    qi_block_set(b, QI_BLOCK_USED); /* for a moment: given back like an allocation of this order */
    b->order = QI_BLOCK_ORDER;
    z->cma += b->type == QUIRE_CMA ? QI_BLOCK_FRAMES : 0u;
    qi_store_relaxed(&z->managed, z->managed + QI_BLOCK_FRAMES);
    qi_zone_give(z, pfn, QI_BLOCK_ORDER);
    qi_zone_unlock(z);
    qport_irq_restore(irq);
}

bool qi_blocks_begin(void) { return !qi_xchg_acqrel(&changing, 1u); }
void qi_blocks_end(void) { qi_store_release(&changing, 0u); }

enum quire_status qi_blocks_take(q_pfn start, uint64_t frames)
{
    uint64_t end = start.v + frames, pfn;
    enum quire_status s;

    for (pfn = start.v; pfn < end; pfn += QI_BLOCK_FRAMES)
        if (qi_frame_type(pfn) == QUIRE_CMA) /* an area's for good */
            return QUIRE_BUSY;
    s = qi_isolate_range(start.v, end);
    if (s)
        return s;
    s = qi_range_empty(start.v, end);
    for (pfn = start.v; !s && pfn < end; pfn += QI_BLOCK_FRAMES)
        if (!take(pfn)) {
            s = QUIRE_BUSY;
            break;
        }
    if (!s)
        return QUIRE_OK;
    qi_isolate_undo(pfn, end);
    while (pfn > start.v)
        qi_block_give(pfn -= QI_BLOCK_FRAMES);
    return s;
}

enum quire_status quire_frame_offline(q_pfn start, uint64_t frames)
{
    enum quire_status s = QUIRE_INVALID;

    if (!in_blocks(start, frames))
        return QUIRE_INVALID;
    if (!qi_blocks_begin())
        return QUIRE_BUSY;
    if (all_are(start, frames, false))
        s = qi_blocks_take(start, frames);
    if (!s)
        qi_frame_watermarks();
    qi_blocks_end();
    return s;
}

enum quire_status quire_frame_online(q_pfn start, uint64_t frames)
{
    bool offline;

    if (!in_blocks(start, frames))
        return QUIRE_INVALID;
    if (!qi_blocks_begin())
        return QUIRE_BUSY;
    offline = all_are(start, frames, true);
    for (uint64_t n = 0; offline && n < frames; n += QI_BLOCK_FRAMES)
        qi_block_give(start.v + n);
    if (offline)
        qi_frame_watermarks();
    qi_blocks_end();
    return offline ? QUIRE_OK : QUIRE_INVALID;
}
