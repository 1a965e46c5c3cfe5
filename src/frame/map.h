/*
 * frame/map.h - where struct pages come from: what each memory model (quire/model.h) does at boot, and
 * when memory comes later.  Private to src/frame.
 *
 *     qi_map_alloc    tables of the model, and memory for all struct pages that boot knows of
 *     qi_map_make     the pages of a range are backed, and zeros
 *     qi_map_claim    ... and know what zone they are of, where the model wants that
 *     qi_map_add      the same as qi_map_make for memory that comes later
 *     qi_map_place    the same for a device's memory, whose first frames are to hold them
 *
 * model_vmemmap.c, model_flat.c, model_nodes.c and model_sparse.c are one model each; one of them is
 * not empty.  place.c serves the last two.
 */
#ifndef QI_FRAME_MAP_H
#define QI_FRAME_MAP_H

#include "zone.h"

/* A range of the boot map, grown to whole pageblocks. */
struct qi_map_range {
    uint64_t from, to; /* frames */
    unsigned node;
};
/* The first usable range of m from number *i on, which moves beyond it; false: there is none.  _any: or
 * where memory may come, of node 0 if it may be any node's. */
bool qi_map_next(const struct quire_memmap *m, uint32_t *i, struct qi_map_range *out);
bool qi_map_next_any(const struct quire_memmap *m, uint32_t *i, struct qi_map_range *out);

/* Boot: tables, and memory for the pages of all usable ranges.  NO_MEMORY, TOO_MANY or LIMIT with the
 * reason on the log. */
enum quire_status qi_map_alloc(struct quire_memmap *m);
/* Pages of whole pageblocks become zeros that may be read and written.  Boot or task context. */
enum quire_status qi_map_make(uint64_t from, uint64_t to, unsigned node);

/* Usable memory in [from, to), whole pageblocks: its struct pages are made; and, once they are, it is the
 * allocator's.  init.c; boot, or for what was deferred any context. */
enum quire_status qi_frames_make(const struct quire_memmap *m, uint64_t from, uint64_t to);
enum quire_status qi_frames_give(const struct quire_memmap *m, uint64_t from, uint64_t to);

/* ---- deferred.c ---- */

/* Boot: what is deferred if each node starts on so many bytes; 0: nothing is. */
enum quire_status qi_deferred_init(struct quire_memmap *m, uint64_t first_bytes);
/* Boot: the first range from frame *to on that is not deferred; false: there is none. */
bool qi_deferred_next(uint64_t *from, uint64_t *to);

/* Task context, one call at a time: pages of zeros for whole pageblocks that are absent; such pages are not
 * needed any more.  UNSUPPORTED, with the reason on the log: the model cannot have pages there; never so
 * where the boot map announced memory. */
enum quire_status qi_map_add(uint64_t from, uint64_t to, unsigned node);
void qi_map_forget(uint64_t from, uint64_t to);

/* Likewise, in the memory at from itself, of which they take QI_MAP_INSIDE(to - from) frames; and no more. */
enum quire_status qi_map_place(uint64_t from, uint64_t to);
void qi_map_displace(uint64_t from, uint64_t to);
#define QI_MAP_INSIDE(frames) ((frames) / QI_BLOCK_FRAMES * (QI_MAP_BLOCK / QUIRE_PAGE_SIZE))

/* Why there are no pages for what would come. */
static inline enum quire_status qi_map_refuse(uint64_t from, uint64_t to, const char *why)
{
    qi_log(QUIRE_LOG_WARN, "frames: no struct pages for [%#lx, %#lx): %s",
           (unsigned long)(from * QUIRE_PAGE_SIZE), (unsigned long)(to * QUIRE_PAGE_SIZE), why);
    return QUIRE_UNSUPPORTED;
}

/* Where the stacks of pages with this place are: those of the zone. */
static inline void qi_place_stacks_set(uint32_t place, const struct qi_zone *z)
{
    uint32_t first = place << (QUIRE_PG_ZONE_SHIFT - QI_PG_TYPE_SHIFT);

    for (unsigned t = 0; t < QI_STACK_TYPES; t++)
        qi_stack_offset[first + t] =
            (uint32_t)(z->slot * QI_ZONE_STACK_BYTES + t * sizeof(struct qi_stack));
}

#if QUIRE_MODEL_PLACES
/* The zone's own entry, before any page has one of its: z->place names the zone in both. */
void qi_place_init(struct qi_zone *z);
/* Frames [from, to), which have pages of zeros, are of this zone.  LIMIT: no place is left; then
 * some of them are not. */
enum quire_status qi_map_claim(const struct qi_zone *z, uint64_t from, uint64_t to);
/* No zone has a place: boot. */
void qi_places_reset(void);
#else
static inline void qi_place_init(struct qi_zone *z)
{
    z->place = (uint32_t)z->node << QUIRE_PG_NODE_SHIFT | (uint32_t)z->type << QUIRE_PG_ZONE_SHIFT;
    qi_place_stacks_set(z->place >> QUIRE_PG_ZONE_SHIFT, z);
}
static inline enum quire_status qi_map_claim(const struct qi_zone *z, uint64_t from, uint64_t to)
{
    (void)z, (void)from, (void)to;
    return QUIRE_OK;
}
static inline void qi_places_reset(void)
{
    for (unsigned i = 0; i < QI_STACK_OFFSETS; i++)
        qi_stack_offset[i] = 0;
}
#endif

/* Zeros into the pages of whole pageblocks that lie in memory. */
static inline void qi_map_clear(uint64_t from, uint64_t to)
{
    for (; from < to; from += QI_BLOCK_FRAMES) {
        char *at = (char *)quire_page_of_pfn(Q_PFN(from));

        for (uint64_t i = 0; i < QI_MAP_BLOCK; i += QUIRE_PAGE_SIZE)
            qport_clear_page(at + i);
    }
}

#endif
