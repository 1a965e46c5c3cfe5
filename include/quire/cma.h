/*
 * quire/cma.h - contiguous memory areas: reserved for large blocks, lent to movable users until these
 * are wanted.
 *
 * An area is a run of whole pageblocks.  Their frames count as free memory and serve requests with
 * QUIRE_GFP_MOVABLE, no others.  quire_cma_alloc() has what lies in a range moved elsewhere
 * (quire_frame_set_mover()) and takes it.
 */
#ifndef QUIRE_CMA_H
#define QUIRE_CMA_H

#include <quire/frame.h>

struct quire_cma;

struct quire_cma_config {
    const char *name; /* kept */
    uint64_t size;    /* bytes; grown to whole pageblocks */
    uint64_t align;   /* of the area, bytes, a power of two; 0: a pageblock */
    q_pa base;        /* 0: anywhere; else exactly there, a multiple of a pageblock */
    uint64_t limit;   /* the area ends at or below it; 0: anywhere */
    unsigned node;    /* preferred, or QUIRE_NODE_ANY; not looked at where base is given */
    unsigned
        order_per_bit; /* a bit of the area's bitmap stands for so many frames, as an order; up to 9 */
};

/*
 * Set an area aside on the boot map, before quire_frame_init(); quire_cma_start() makes it one.  Boot
 * context.  INVALID: the configuration, or base is not all usable; OVERLAP: base is reserved; NO_MEMORY:
 * no such range; TOO_MANY: QUIRE_MAX_CMA_AREAS.  Then nothing has changed.
 */
enum quire_status quire_cma_reserve(struct quire_memmap *map, const struct quire_cma_config *config,
                                    struct quire_cma **out);
/* After quire_frame_init(): areas that were set aside on its map are given to the allocator, and can be
 * used.  NO_MEMORY for an area's bitmap, INVALID: it is not there, or not yet (memory that is taken over
 * later): call again.  Others have been started.  One CPU, boot or task context. */
enum quire_status quire_cma_start(void);

/* Make an area out of ordinary memory that is free or can be emptied.  As quire_cma_reserve(); limit must
 * be 0, 4 GiB or 16 MiB; BUSY: base is in use and stays so.  Task context. */
enum quire_status quire_cma_create(const struct quire_cma_config *config, struct quire_cma **out);
/* Its memory is ordinary again.  BUSY: something of it is allocated, or cannot be emptied; then it is as
 * before.  Nobody else uses the area.  Task context. */
enum quire_status quire_cma_destroy(struct quire_cma *area);

/*
 * count frames with numbers in a row, the first aligned to 2^align_order frames, as single pages;
 * NULL: none can be had.  Where a range is busy the next one is tried.  gfp: ZERO, and NORETRY for one try.
 * Task context; may sleep.
 */
struct quire_page *quire_cma_alloc(struct quire_cma *area, uint64_t count, unsigned align_order,
                                   quire_gfp gfp);
/* Give back exactly what an allocation returned.  Any context. */
void quire_cma_release(struct quire_cma *area, struct quire_page *page, uint64_t count);
/* The page lies in the area. */
bool quire_cma_contains(const struct quire_cma *area, const struct quire_page *page);

struct quire_cma_stats {
    const char *name;
    q_pfn start;
    uint64_t frames;
    unsigned order_per_bit;
    uint64_t used;             /* frames allocated, in whole bits */
    uint64_t largest;          /* longest run of frames not allocated */
    uint64_t allocs, fails;    /* calls */
    uint64_t frames_allocated; /* so far */
    uint64_t busy;             /* ranges that were tried and found busy */
};
/* The i-th area, 0..; NOT_FOUND after the last.  Any context. */
enum quire_status quire_cma_stats(unsigned i, struct quire_cma_stats *out);

/* OK, or CORRUPT with the first disagreement on the log.  Task context, area quiet. */
enum quire_status quire_cma_verify(struct quire_cma *area);

#endif
