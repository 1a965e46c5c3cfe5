/*
 * frame/isolate.c - a range of pageblocks is kept apart, and emptied.
 *
 * Purpose.  Who needs a very range of frames (section.c, contig.c, cma.c) has to stop others from taking
 * them, and has to have moved what is there.
 *
 * Model.  An isolated pageblock is under its bitmap and on no list; what is free of it is counted apart
 * (F8).  What its holders free, or a stack gives back, lands in its bitmap and stays.  So its free frames
 * only become more, until whoever isolated it takes them (qi_zone_take_frame and the like) or undoes
 * the isolation.  A block is isolated once: it has one owner, and the second who asks is told BUSY.
 *
 * A range is emptied in rounds: stacks are drained, then, if something is still missing, the layer
 * that gave the frames to their holders is asked to move them (quire_mover).  What cannot be moved, or
 * stays in the stack of another CPU, keeps the range from being taken.
 *
 * Stacks.  Other CPUs' stacks may hold frames of the range, and only their owners can give them back.
 * They are asked to: a flag that the slow paths look at, and limits of 0, which send the next free there.
 * The limits also see to it that a mover is not given the very frame that it has just freed.
 *
 * Concurrency.  One taking of the zone's lock for each block.  The mover is called without any.
 *
 * Rejected.  ISOLATE as a list of its own with what was there (Linux until 6.15): the type that a block
 * had is lost, and moving single free blocks between lists is the work of a bitmap's one unlink.
 *
 * Sources.  Linux, mm/page_isolation.c: start_isolate_page_range(), has_unmovable_pages().
 */
#include "isolate.h"

static quire_mover mover;

void quire_frame_set_mover(quire_mover m) { qi_store_release(&mover, m); }

/* ---- Blocks ---- */

/* The block of frame pfn becomes isolated, or no longer is; false: it is not managed, or is isolated. */
static enum quire_status change(uint64_t pfn, bool on)
{
    unsigned long irq = qi_look_begin();
    enum quire_status s = QUIRE_INVALID;
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);

    if (z) {
        qi_zone_lock(z);
        if (!on)
            qi_zone_unisolate(z, (uint32_t)(b - z->blocks));
        else if (b->state >= QI_BLOCK_PART)
            s = qi_zone_isolate(z, (uint32_t)(b - z->blocks)) ? QUIRE_OK : QUIRE_BUSY;
        qi_zone_unlock(z);
    }
    qi_look_end(irq);
    return s;
}

/* The first frame of the range in the next block. */
static uint64_t next_block(uint64_t pfn) { return (pfn / QI_BLOCK_FRAMES + 1) * QI_BLOCK_FRAMES; }

enum quire_status qi_isolate_range(uint64_t start, uint64_t end)
{
    for (uint64_t pfn = start; pfn < end; pfn = next_block(pfn)) {
        enum quire_status s = change(pfn, true);

        if (s) {
            qi_isolate_undo(start, pfn);
            return s;
        }
    }
    return QUIRE_OK;
}

void qi_isolate_undo(uint64_t start, uint64_t end)
{
    for (uint64_t pfn = start; pfn < end; pfn = next_block(pfn))
        change(pfn, false);
}

void qi_isolated_set_type(uint64_t pfn, enum quire_migrate_type type)
{
    unsigned long irq = qi_look_begin();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);

    qi_zone_lock(z);
    qi_zone_set_type(z, (uint32_t)(b - z->blocks), type);
    qi_zone_unlock(z);
    qi_look_end(irq);
}

enum quire_migrate_type qi_frame_type(uint64_t pfn)
{
    unsigned long irq = qi_look_begin();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);
    enum quire_migrate_type type = z ? qi_block_type(b) : QUIRE_ISOLATE;

    qi_look_end(irq);
    return type;
}

/* ---- What is in the way ---- */

/* The bits of frame pfn's block; 0 if it is not under its bitmap. */
static void snapshot(uint64_t pfn, uint64_t bits[QI_BLOCK_WORDS])
{
    unsigned long irq = qi_look_begin();
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn, &b);
    uint64_t whole;

    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        bits[w] = 0;
    if (z) {
        qi_zone_lock(z);
        whole = qi_zone_is_whole(z, (uint32_t)(b - z->blocks)) ? UINT64_MAX : 0;
        for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
            bits[w] = b->state == QI_BLOCK_PART ? z->bits[b - z->blocks][w] : whole;
        qi_zone_unlock(z);
    }
    qi_look_end(irq);
}

#define FIXED (QUIRE_PG_SLAB | QUIRE_PG_TABLE | QUIRE_PG_KVA)

static void look_at(uint64_t pfn, struct qi_range_census *c)
{
    uint32_t flags = quire_page_flags(Q_PFN(pfn));
    struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));
    uint32_t index = flags & QUIRE_PG_TAIL ? qi_load_relaxed(&p->index) : 0;

    if (flags & QUIRE_PG_RESERVED) {
        *(flags & QUIRE_PG_POISON ? &c->bad : &c->other) += 1;
        c->last = c->last_used = pfn;
    } else if (flags & QUIRE_PG_FREE) {
        c->cached++;
    } else {
        c->used++;
        c->last_used = pfn;
        if (index && !(index >> QUIRE_MAX_ORDER)) /* a tail is what its head is */
            flags = quire_page_flags_now(p - index);
        if (flags & FIXED) {
            c->fixed++;
            c->last = pfn;
        }
    }
}

void qi_range_look(uint64_t start, uint64_t end, struct qi_range_census *out)
{
    uint64_t bits[QI_BLOCK_WORDS];

    *out = (struct qi_range_census){.last = start, .last_used = start};
    for (uint64_t pfn = start; pfn < end; pfn++) {
        if (pfn == start || pfn % QI_BLOCK_FRAMES == 0)
            snapshot(pfn, bits);
        if (!(bits[pfn / 64 % QI_BLOCK_WORDS] >> pfn % 64 & 1))
            look_at(pfn, out);
    }
}

/* ---- Emptying ---- */

/* A page that was in use for a moment is not the next time: so many rounds, and without progress. */
#define ROUNDS      8u
#define IDLE_ROUNDS 2u

bool qi_range_may_move(void) { return qi_load_acquire(&mover) != NULL; }

/* What this CPU keeps, and what zones set aside in the range. */
static void drain_own(uint64_t start, uint64_t end)
{
    unsigned long irq = qport_irq_save();

    qi_frame_drain_cpu(qport_cpu());
    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];

        if (!qi_load_relaxed(&z->atomic_bits))
            continue;
        qi_zone_lock(z);
        if (z->atomic_base < end && z->atomic_base + 64 > start)
            qi_reserve_release(z);
        qi_zone_unlock(z);
    }
    qport_irq_restore(irq);
}

static enum quire_status empty(uint64_t start, uint64_t end)
{
    quire_mover move = qi_load_acquire(&mover);
    unsigned round, idle = 0;
    uint64_t before = UINT64_MAX;
    struct qi_range_census c;

    for (round = 0; round < ROUNDS && idle < IDLE_ROUNDS; round++) {
        drain_own(start, end);
        qi_range_look(start, end, &c);
        if (!(c.used | c.cached | c.bad | c.other))
            return QUIRE_OK;
        if (c.fixed | c.bad | c.other || (c.used && !move))
            return QUIRE_BUSY;
        idle += c.used + c.cached >= before;
        before = c.used + c.cached;
        if (c.cached)
            quire_frame_drain_ask();
        if (c.used)
            move(Q_PFN(start), end - start);
    }
    return QUIRE_BUSY;
}

enum quire_status qi_range_empty(uint64_t start, uint64_t end)
{
    enum quire_status s;

    qi_stacks_bypass();
    s = empty(start, end);
    qi_stacks_use();
    return s;
}
