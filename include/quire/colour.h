/*
 * quire/colour.h - frames by their place in a cache (page colouring).
 *
 * A cache that is indexed by physical address keeps each frame in one of size / (ways * 4 KiB) groups of sets:
 * the frame's colour, its number modulo how many there are.  Frames of one colour push each other out however
 * empty the rest of the cache is; pages that are used together had better have different ones.
 * Off, with one colour, unless it is asked for.
 */
#ifndef QUIRE_COLOUR_H
#define QUIRE_COLOUR_H

#include <quire/frame.h>

#define QUIRE_MAX_COLOURS 4096u

enum quire_cache_kind { QUIRE_CACHE_DATA = 1, QUIRE_CACHE_CODE = 2, QUIRE_CACHE_UNIFIED = 3 };

/* One cache as the processor describes it. */
struct quire_cpu_cache {
    uint8_t level; /* 1 is next to the core */
    uint8_t kind;  /* enum quire_cache_kind */
    uint16_t ways; /* 0: it does not say */
    uint32_t line, sets;
    uint32_t shared; /* logical CPUs that share one */
};
static inline uint64_t quire_cache_bytes(const struct quire_cpu_cache *c)
{
    return (uint64_t)c->ways * c->line * c->sets;
}

/* Colours of one cache: 1..QUIRE_MAX_COLOURS; 1: every frame may be anywhere in it. */
unsigned quire_cache_colours(const struct quire_cpu_cache *c);
/* Those worth having on a machine with these caches: of the last one that holds data. */
unsigned quire_caches_colours(const struct quire_cpu_cache *caches, unsigned n);

/* Colours from now on, 1..QUIRE_MAX_COLOURS; 1: off.  INVALID: another number.  Any context. */
enum quire_status quire_frame_set_colours(unsigned n);
extern uint32_t quire_colours; /* read it with this: */
static inline unsigned quire_frame_colours(void)
{
    return __atomic_load_n(&quire_colours, __ATOMIC_RELAXED);
}
unsigned quire_page_colour(const struct quire_page *page);

/*
 * A single frame of this colour (modulo their number), from the node if there is one free that is not far to
 * find; else one of any colour, as quire_page_alloc(0, gfp, node) makes it.  What a CPU has in its lists is not
 * looked at.  Contexts and failure of quire_page_alloc().
 */
struct quire_page *quire_page_alloc_colour(unsigned colour, quire_gfp gfp, unsigned node);

/* One colour after the other, for what is used together: an address space, an object, a buffer.  All
 * zeros is a good beginning; several CPUs may share one. */
struct quire_colouring {
    uint32_t next; /* atomic */
};
struct quire_page *quire_page_alloc_round(struct quire_colouring *c, quire_gfp gfp, unsigned node);
static inline struct quire_page *quire_page_alloc_next(struct quire_colouring *c, quire_gfp gfp,
                                                       unsigned node)
{
    if (__builtin_expect(quire_frame_colours() == 1, 1))
        return quire_page_alloc(0, gfp, node);
    return quire_page_alloc_round(c, gfp, node);
}

struct quire_colour_stats {
    uint64_t exact, other; /* requests by colour that got it, that got another one */
};
void quire_colour_stats(struct quire_colour_stats *out);

#endif
