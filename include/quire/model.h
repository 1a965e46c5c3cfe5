/*
 * quire/model.h - the memory map: from a frame number to its struct page, and back.  Included by
 * quire/frame.h, which declares struct quire_page.
 *
 * The five models (QUIRE_MEMORY_MODEL) differ in where the struct pages lie:
 *
 *     VMEMMAP          base + pfn; the port backs what exists.  No table, no load.
 *     FLAT             one array that begins at the first frame: map + (pfn - first).
 *     NODES            an array for each node, or added range; a table by block says which.
 *     SPARSE           an array for each section of 2^QUIRE_SECTION_ORDER frames, where there is memory.
 *     SPARSE_EXTREME   the same; parts of the table for address space without memory do not exist.
 *
 * Whatever the model, the pages of a block of 2^QUIRE_MAX_ORDER frames, aligned to its size, are one
 * array: arithmetic on pointers is good inside a block and nowhere else.  Frames without memory need
 * not have a page: quire_pfn_valid() is asked first.
 *
 * From page to frame, the last three need to know which array it is that a page lies in.  The bits of
 * its flags that name node and zone elsewhere hold the number of a place there: an array together with
 * a zone that has frames in it.  So a section that two zones or nodes share has two places, and
 * zones may meet anywhere.  Linux keeps the section's number beside the zone's, and has no bits
 * left for a node then, which it looks up by section; a section of two nodes is impossible there.
 *
 * Limits, checked at boot: places (2047) in NODES, SPARSE and SPARSE_EXTREME; in the sparse models
 * memory below 2^QUIRE_SPARSE_BITS.  Sections without a hole between them, which got memory for their
 * pages together, count as one array, so it is pieces of memory in zones that are counted.
 */
#ifndef QUIRE_MODEL_H
#define QUIRE_MODEL_H

#ifndef QUIRE_FRAME_H
#error "include quire/frame.h"
#endif

#if QUIRE_MEMORY_MODEL >= QUIRE_MODEL_NODES
#define QUIRE_MODEL_PLACES 1
#define QUIRE_PLACES       (1u << (32 - QUIRE_PG_ZONE_SHIFT))

/* By the topmost bits of a page's flags; 0 is none. */
struct quire_place {
    uintptr_t map; /* where the page of frame 0 would be if the array reached so far */
    uint8_t node, zone;
};
extern struct quire_place quire_places[QUIRE_PLACES];

static inline const struct quire_place *quire_page_place(const struct quire_page *p)
{
    return &quire_places[__atomic_load_n(&p->flags, __ATOMIC_RELAXED) >> QUIRE_PG_ZONE_SHIFT];
}
/* What quire_page_flags() says of a frame. */
static inline unsigned quire_flags_node(uint32_t flags)
{
    return quire_places[flags >> QUIRE_PG_ZONE_SHIFT].node;
}
static inline unsigned quire_flags_zone(uint32_t flags)
{
    return quire_places[flags >> QUIRE_PG_ZONE_SHIFT].zone;
}
#else
#define QUIRE_MODEL_PLACES 0

static inline unsigned quire_flags_node(uint32_t flags) { return flags >> QUIRE_PG_NODE_SHIFT; }
static inline unsigned quire_flags_zone(uint32_t flags) { return flags >> QUIRE_PG_ZONE_SHIFT & 7; }
#endif

/* Of a page that somebody holds; the pages of memory that was never used are zeros. */
static inline unsigned quire_page_node(const struct quire_page *p)
{
    return quire_flags_node(__atomic_load_n(&p->flags, __ATOMIC_RELAXED));
}
static inline unsigned quire_page_zone(const struct quire_page *p)
{
    return quire_flags_zone(__atomic_load_n(&p->flags, __ATOMIC_RELAXED));
}

/* ---- Where the page of frame 0 would be, if the array of this frame reached so far ---- */

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
static inline uintptr_t quire_map_of(uint64_t pfn)
{
    (void)pfn;
    return QPORT_VMEMMAP_BASE;
}
#elif QUIRE_MEMORY_MODEL == QUIRE_MODEL_FLAT
extern uintptr_t quire_flat_map;

static inline uintptr_t quire_map_of(uint64_t pfn)
{
    (void)pfn;
    return quire_flat_map;
}
#elif QUIRE_MEMORY_MODEL == QUIRE_MODEL_NODES
extern uintptr_t quire_node_maps[];   /* by number of the array */
extern const uint16_t *quire_node_of; /* by block: number of its array */

static inline uintptr_t quire_map_of(uint64_t pfn)
{
    return quire_node_maps[quire_node_of[pfn >> QUIRE_MAX_ORDER]];
}
#elif QUIRE_MEMORY_MODEL == QUIRE_MODEL_SPARSE
#define QUIRE_SECTIONS (1ull << (QUIRE_SPARSE_BITS - QUIRE_PAGE_SHIFT - QUIRE_SECTION_ORDER))
extern uintptr_t quire_sections[QUIRE_SECTIONS];

static inline uintptr_t quire_map_of(uint64_t pfn)
{
    return quire_sections[pfn >> QUIRE_SECTION_ORDER];
}
#else
#define QUIRE_SECTIONS      (1ull << (QUIRE_SPARSE_BITS - QUIRE_PAGE_SHIFT - QUIRE_SECTION_ORDER))
#define QUIRE_ROOT_SECTIONS (QUIRE_PAGE_SIZE / sizeof(uintptr_t)) /* a page of them */
#define QUIRE_ROOTS         ((QUIRE_SECTIONS + QUIRE_ROOT_SECTIONS - 1) / QUIRE_ROOT_SECTIONS)
extern uintptr_t *quire_section_roots[QUIRE_ROOTS];

static inline uintptr_t quire_map_of(uint64_t pfn)
{
    uint64_t section = pfn >> QUIRE_SECTION_ORDER;

    return quire_section_roots[section / QUIRE_ROOT_SECTIONS][section % QUIRE_ROOT_SECTIONS];
}
#endif

/* ---- The two functions that everything else is made from ---- */

/* The page of a frame that has one. */
static inline struct quire_page *quire_page_of_pfn(q_pfn pfn)
{
    uintptr_t offset = (uintptr_t)(pfn.v * sizeof(struct quire_page));

    return (struct quire_page *)(quire_map_of(pfn.v) + offset);
}
/* The frame of a page. */
static inline q_pfn quire_pfn_of_page(const struct quire_page *page)
{
#if QUIRE_MODEL_PLACES
    uintptr_t map = quire_page_place(page)->map;
#else
    uintptr_t map = quire_map_of(0);
#endif

    return Q_PFN(((uintptr_t)page - map) / sizeof(struct quire_page));
}

#endif
