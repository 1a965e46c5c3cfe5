/*
 * space/migrate.h - the mover as its two halves share it: private pages (migrate.c) and pages of
 * objects (migrate_object.c).  Theory: migrate.c.
 */
#ifndef QI_SPACE_MIGRATE_H
#define QI_SPACE_MIGRATE_H

#include "space.h"

#define QI_MOVE_STOCK 64

/*
 * A part of the range that is moved at once.  to: by frame, the new page for what is there, or NULL.
 * While a new page is in to it is the mover's alone until a leaf has it, and its fields say how far
 * things are:
 *   refs   one of the mover's, and those of the leaves and of the tree that have it already
 *   next   leaves that were found and are moving
 *   flags  ANON or OBJECT: the content is there; else the old page keeps its place
 */
struct qi_move {
    uint64_t start, end;      /* frames of the whole range: no new page lies there */
    uint64_t first, n;        /* frames of this part */
    struct quire_page **to;   /* n of them */
    struct quire_page *taken; /* allocated, but inside the range; linked through owner */
    struct quire_page *stock[QI_MOVE_STOCK]; /* allocated, not looked at */
    unsigned in_stock, next_stock;           /* how many; how many to take next time */
    unsigned node;          /* new pages come from there; QUIRE_NODE_ANY: from near the old one */
    uint64_t moved, stayed; /* frames; what somebody held, each time it was tried */
    bool again;             /* what was busy may soon not be, or a huge page was cut */
    bool no_huge;           /* there is no block for a huge page: cut it */
};

void qi_move_setup(void);

/* Where in m->to the block of 2^order frames at pfn is, if some of it is in the part. */
static QI_ALWAYS_INLINE bool qi_move_find(const struct qi_move *m, uint64_t pfn, unsigned order,
                                          uint64_t *i)
{
    if (QI_LIKELY(pfn - m->first >= m->n)) {
        if (!order || pfn >= m->first || pfn + (1ull << order) <= m->first)
            return false;
        pfn = m->first;
    }
    *i = pfn - m->first;
    return true;
}

/* A new block outside the range for old, or NULL. */
struct quire_page *qi_move_alloc(struct qi_move *m, const struct quire_page *old, unsigned order);
/* Make a present leaf of old at slot a moving one; returns it, or none if it is no leaf of old. */
qi_pte qi_move_mark(qi_pte *slot, const struct quire_page *old);
/* Let the moving leaf of old at slot, if it still is one, map new; NULL: old again. */
void qi_move_settle(qi_pte *slot, struct quire_page *old, struct quire_page *new);
/* The content of the new page is there. */
static inline bool qi_move_landed(const struct quire_page *new)
{
    return quire_page_flags_now(new) & (QUIRE_PG_ANON | QUIRE_PG_OBJECT);
}
/* Let go of both pages of m->to[i], count, and clear the place.  old: has a reference of the mover's, or NULL. */
void qi_move_end(struct qi_move *m, uint64_t i, struct quire_page *old);
/* All leaves that were moving have settled: wake who waits for that. */
void qi_move_wake(void);

/* migrate_object.c: all pages of objects in the part. */
void qi_move_objects(struct qi_move *m);

#endif
