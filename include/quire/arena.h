/*
 * quire/arena.h - memory of one's own, cut into pieces of any size: first fit by address, neighbours
 * coalesce.  For what no frame allocator stands behind: a window of a device's memory, what the boot loader
 * left over, a region lent by somebody else; and for large objects where there are no runs of pages.
 *
 * An arena has one or more regions.  They are given with quire_arena_add(), or fetched when needed from a
 * source.  The books lie in the memory itself: 32 bytes before each piece, and 8 or more behind it
 * that show an overrun.  Memory that others write to at any time, as a device does, must not be such a region.
 *
 * Context: any, interrupt handlers too, but those calls that are said to be for tasks; a source is called in
 * the context of the call that needs it, with no lock held.  A double free, a pointer that is not a
 * piece, an overrun and damaged books panic with the piece, its size and who allocated it.
 */
#ifndef QUIRE_ARENA_H
#define QUIRE_ARENA_H

#include <quire/port.h>

struct quire_arena;

/* Where more memory comes from. */
struct quire_arena_source {
    /* At least *bytes, aligned to 16, *bytes then as many as came; NULL: there is no more. */
    void *(*get)(void *ctx, size_t *bytes);
    /* Take a region back that get() gave. */
    void (*put)(void *ctx, void *memory, size_t bytes);
    void *ctx;
    size_t step; /* ask for so many at least */
};

/* Members are the library's own. */
struct quire_arena {
    uint32_t lock[2];
    const char *name;
    struct quire_arena_source source;
    uint64_t secret;
    void *root, *regions;
    uintptr_t low, high;
    uint64_t total, used, peak, pieces, free_pieces, nregions;
    uint64_t allocs, failures;
};

/* An arena without memory.  source NULL: only quire_arena_add() gives it some.  seed: of what its books are
 * encoded with; 0 will do.  name and source->ctx stay the caller's. */
void quire_arena_init(struct quire_arena *a, const char *name,
                      const struct quire_arena_source *source, uint64_t seed);
/* bytes of memory become a region.  INVALID: too small to hold anything, or part of it is the arena's
 * already. */
enum quire_status quire_arena_add(struct quire_arena *a, void *memory, size_t bytes);
/* Everything back to the source.  Pieces that are out are named on the log and make it BUSY; nothing has
 * changed then.  Task. */
enum quire_status quire_arena_fini(struct quire_arena *a);

/* Aligned to 16, or to a power of two; NULL: no such room.  bytes 0 gives a unique pointer. */
void *quire_arena_alloc(struct quire_arena *a, size_t bytes);
void *quire_arena_alloc_aligned(struct quire_arena *a, size_t bytes, size_t align);
/* For those who wrap it: site is who the reports name as the caller. */
void *quire_arena_alloc_for(struct quire_arena *a, size_t bytes, size_t align, uintptr_t site);
/* Keeps min(old, new) bytes, in place if there is room; p NULL allocates; bytes 0 frees and returns NULL; on
 * failure p stays.  A piece that moves is aligned to 16. */
void *quire_arena_realloc(struct quire_arena *a, void *p, size_t bytes);
void quire_arena_free(struct quire_arena *a, void *p); /* NULL is fine */
/* The bytes asked for; what is behind them is not the holder's. */
size_t quire_arena_size(struct quire_arena *a, const void *p);
/* Regions of the source that are free from end to end, back to it; bytes. */
size_t quire_arena_trim(struct quire_arena *a);

struct quire_arena_stats {
    uint64_t regions, bytes;       /* all of it */
    uint64_t pieces, used, peak;   /* out; bytes asked for; most there ever were */
    uint64_t free_pieces, largest; /* the largest piece that is free, with its books */
    uint64_t allocs, failures;
};
void quire_arena_stats(struct quire_arena *a, struct quire_arena_stats *out);

/* Each piece, region by region, by address, until visit says false: it must not call the arena.  The arena is
 * locked meanwhile, interrupts off.  Task. */
struct quire_arena_piece {
    void *at;
    size_t bytes;   /* asked for; of a free one all there are */
    uintptr_t site; /* who allocated it; 0: it is free */
};
bool quire_arena_walk(struct quire_arena *a,
                      bool (*visit)(void *ctx, const struct quire_arena_piece *piece), void *ctx);

/* Who holds how much: up to max sites, the most bytes first; returns how many.  Those for which there is no
 * room are one entry of site 0.  Locked as above.  Task. */
struct quire_arena_site {
    uintptr_t site;
    uint64_t pieces, bytes;
};
size_t quire_arena_sites(struct quire_arena *a, struct quire_arena_site *out, size_t max);
/* The same on the log, as what has leaked; pieces that are out. */
uint64_t quire_arena_report(struct quire_arena *a);

/* CORRUPT: the first thing wrong is on the log.  Task. */
enum quire_status quire_arena_verify(struct quire_arena *a);

#endif
