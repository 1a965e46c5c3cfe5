/*
 * arena/chunk.h - the pieces of an arena and the tree of those that are free.  arena.c has the theory.
 */
#ifndef QI_ARENA_CHUNK_H
#define QI_ARENA_CHUNK_H

#include <quire/arena.h>

#include "../base/bits.h"
#include "../sync/spin.h"

#define QI_CHUNK_UNIT   32u
#define QI_CHUNK_OUT    1u
#define QI_CHUNK_END    2u /* behind the last of a region: no bytes, never free */
#define QI_CHUNK_FLAGS  (QI_CHUNK_UNIT - 1)
#define QI_CHUNK_BYTES  (((uint64_t)1 << 48) - QI_CHUNK_UNIT)
#define QI_CHUNK_GUARD  8u /* at least so many bytes behind what was asked for */
#define QI_CHUNK_FILLER 0xbb

struct qi_chunk {
    uint64_t tag;    /* check << 48 | bytes, a multiple of UNIT, header included | flags */
    uint64_t before; /* bytes of the chunk in front; 0: the first of its region */
    uint64_t asked;  /* OUT: by the holder; else 0 */
    uint64_t site;   /* OUT: who asked; else 0 */
    /* free: place in the tree */
    struct qi_chunk *left, *right, *parent;
    uint64_t largest; /* bytes of the largest in this subtree */
};
#define QI_CHUNK_HEADER offsetof(struct qi_chunk, left)
#define QI_CHUNK_MIN    ((sizeof(struct qi_chunk) + QI_CHUNK_UNIT - 1) / QI_CHUNK_UNIT * QI_CHUNK_UNIT)
_Static_assert(QI_CHUNK_HEADER == QI_CHUNK_UNIT, "what is handed out is aligned as chunks are");

struct qi_region {
    struct qi_region *next;
    uint64_t bytes; /* from this struct to behind the END chunk */
    void *memory;   /* as it was given */
    size_t given;   /* bytes of that; with own in the lowest bit */
    bool own;       /* the source's */
};
#define QI_REGION_HEADER \
    ((sizeof(struct qi_region) + QI_CHUNK_UNIT - 1) / QI_CHUNK_UNIT * QI_CHUNK_UNIT)

static inline uint64_t qi_chunk_bytes(const struct qi_chunk *c) { return c->tag & QI_CHUNK_BYTES; }
static inline bool qi_chunk_is_free(const struct qi_chunk *c)
{
    return !(c->tag & (QI_CHUNK_OUT | QI_CHUNK_END));
}
static inline struct qi_chunk *qi_chunk_next(const struct qi_chunk *c)
{
    return (struct qi_chunk *)((uintptr_t)c + (uintptr_t)qi_chunk_bytes(c));
}
static inline struct qi_chunk *qi_chunk_before(const struct qi_chunk *c)
{
    return (struct qi_chunk *)((uintptr_t)c - (uintptr_t)c->before);
}
static inline void *qi_chunk_payload(const struct qi_chunk *c)
{
    return (char *)(uintptr_t)c + QI_CHUNK_HEADER;
}
static inline struct qi_chunk *qi_chunk_of(const void *p)
{
    return (struct qi_chunk *)((uintptr_t)p - QI_CHUNK_HEADER);
}
static inline struct qi_chunk *qi_region_first(const struct qi_region *r)
{
    return (struct qi_chunk *)((uintptr_t)r + QI_REGION_HEADER);
}
static inline struct qi_spin *qi_arena_lock(struct quire_arena *a)
{
    return (struct qi_spin *)a->lock;
}

/* 16 bits of all words of a header whose tag is to be that: an odd factor carries a change of any bit of
 * them into the upper ones. */
static inline uint64_t qi_chunk_check(const struct quire_arena *a, const struct qi_chunk *c,
                                      uint64_t tag)
{
    uint64_t h = ((uintptr_t)c ^ a->secret ^ tag) * 0x9e3779b97f4a7c15;
    uint64_t rest = c->before ^ (c->asked << 21 | c->asked >> 43) ^ (c->site << 42 | c->site >> 22);

    return ((h ^ h >> 32) + rest) * 0xd6e8feb86659fd93 >> 48;
}
/* There may be a chunk at c: its words may be looked at. */
static inline bool qi_chunk_place(const struct quire_arena *a, const struct qi_chunk *c)
{
    return !((uintptr_t)c % QI_CHUNK_UNIT) && (uintptr_t)c - a->low < a->high - a->low;
}
/* There is one: its words are those that were sealed. */
static inline bool qi_chunk_sealed(const struct quire_arena *a, const struct qi_chunk *c)
{
    return qi_chunk_place(a, c) &&
           c->tag >> 48 == qi_chunk_check(a, c, c->tag & (((uint64_t)1 << 48) - 1));
}

/* Give c its tag; before, asked and site are set. */
void qi_chunk_seal(const struct quire_arena *a, struct qi_chunk *c, uint64_t bytes, unsigned flags);
/* First byte behind what was asked for that is not as it was left; NULL: intact. */
const uint8_t *qi_chunk_overrun(const struct qi_chunk *c);

/* ---- tree.c: the free chunks, by address.  The arena is locked. ---- */
void qi_tree_insert(struct quire_arena *a, struct qi_chunk *c);
void qi_tree_remove(struct quire_arena *a, struct qi_chunk *c);
/* c, which is in the tree, has another size. */
void qi_tree_resized(struct quire_arena *a, struct qi_chunk *c);
/* The lowest with that many bytes; NULL: none. */
struct qi_chunk *qi_tree_fit(const struct quire_arena *a, uint64_t bytes);
/* The same among those behind c, which is in the tree. */
struct qi_chunk *qi_tree_fit_behind(const struct quire_arena *a, struct qi_chunk *c,
                                    uint64_t bytes);
/* The first of the walk by address; and the next. */
struct qi_chunk *qi_tree_first(const struct quire_arena *a);
struct qi_chunk *qi_tree_next(const struct quire_arena *a, struct qi_chunk *c);
/* Links, order, priority and largest of c, which is free, are right as far as its neighbours in the tree tell.
 * Does not panic. */
bool qi_tree_node_good(const struct quire_arena *a, const struct qi_chunk *c);

#endif
