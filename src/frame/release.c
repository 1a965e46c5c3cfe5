/*
 * frame/release.c - frames that boot kept are not needed any more, and become the allocator's.
 *
 * Purpose.  What the boot map has reserved, an archive that was unpacked, part of the array of struct pages, is
 * memory like any other when its owner is done with it.
 *
 * Model.  A reserved frame is present and not managed, its struct page says so, with one reference.  In a block with
 * other memory it has no bit in the bitmap, as a bad frame; in a block of reserved frames alone there is no bitmap yet,
 * which begins with the first frame that is given back.  When all 512 are back the block is whole, like
 * any other.
 *
 * Sources.  Linux, include/linux/mm.h: free_reserved_page().
 */
#include "zone.h"

static bool releasable(const struct qi_zone *z, const struct qi_block *b,
                       const struct quire_page *p)
{
    uint32_t flags = quire_page_flags_now(p);

    return (flags & (QI_PG_STATE | QUIRE_PG_POISON)) == QUIRE_PG_RESERVED && p->counts == 1 &&
           qi_zone_has(z, flags) && (b->state == QI_BLOCK_RESERVED || b->state == QI_BLOCK_PART);
}

/* A block of reserved frames comes under a bitmap, with nothing in it. */
static void begin_bitmap(struct qi_zone *z, struct qi_block *b)
{
    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        z->bits[b - z->blocks][w] = 0;
    b->free = 0;
    b->order = 0;
    qi_store_relaxed(&b->type, (uint8_t)QUIRE_MOVABLE);
    qi_store_release(&b->pages, (uint8_t)QI_PAGES_LOOSE);
    qi_block_set(b, QI_BLOCK_PART);
}

enum quire_status quire_frame_release(q_pfn pfn)
{
    unsigned long irq = qi_look_begin();
    enum quire_status s = QUIRE_INVALID;
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn.v, &b);
    struct quire_page *p;

    if (z) {
        qi_zone_lock(z);
        p = quire_page_of_pfn(pfn);
        if (releasable(z, b, p)) {
            if (b->state == QI_BLOCK_RESERVED)
                begin_bitmap(z, b);
            qi_store_relaxed(&p->flags, qi_flags_at(p, z->place | QUIRE_PG_FREE));
            qi_store_relaxed(&p->counts, (uint64_t)0);
            qi_store_relaxed(&b->managed, (uint16_t)(b->managed + 1));
            qi_store_relaxed(&z->managed, z->managed + 1);
            qi_zone_give_mask(z, pfn.v & ~63ull, 1ull << pfn.v % 64);
            s = QUIRE_OK;
        }
        qi_zone_unlock(z);
    }
    qi_look_end(irq);
    return s;
}
