/*
 * slab/mail.h - full sheaves on their way home: what a CPU frees of another node's memory goes there by the sheaf,
 * without the lock of that node and without a walk over its slabs.
 *
 * Model.  A few cells, each with room for a sheaf, and one word that says which are claimed and which are
 * full.  To post: claim a free cell, put the sheaf in, mark it full.  To fetch: look which cell is full, read
 * the sheaf, then make the cell free.  Each step is one compare-and-swap of the word.
 *
 * Invariants
 *   M1  full implies claimed; whoever claimed a cell that is not full writes it, and nobody else
 *   M2  each change of the word counts its upper 48 bits up, which are never 0
 *
 * Why the count.  Between reading a sheaf and making its cell free, another CPU may fetch it and a third post a
 * different one in the same cell: the lower bits are what they were, and without the count the swap would succeed
 * with a sheaf that somebody else has by now, whose objects would be given out twice (ABA: IBM System/370
 * Principles of Operation, "Compare and swap").  It is odd and goes by twos, so that it skips 0 where it
 * wraps; a zeroed word is an empty one that was never used.
 */
#ifndef QI_MAIL_H
#define QI_MAIL_H

#include "../base/atomic.h"
#include "../base/bits.h"

struct qi_sheaf;

#define QI_MAIL_CELLS 8u

struct qi_mail {
    uint64_t word;                        /* atomic; id << 16 | full << 8 | claimed */
    struct qi_sheaf *cell[QI_MAIL_CELLS]; /* atomic */
};

/* The word's next id, with these cells. */
static inline uint64_t qi_mail_next(uint64_t word, uint32_t cells)
{
    return (((word >> 16) + 2) | 1) << 16 | cells;
}
static inline unsigned qi_mail_full(const struct qi_mail *m)
{
    return qi_popcount(qi_load_relaxed(&m->word) >> 8 & 0xff);
}

/* False: no cell is free. */
static inline bool qi_mail_post(struct qi_mail *m, struct qi_sheaf *sheaf)
{
    uint64_t word = qi_load_relaxed(&m->word), next;
    unsigned i;

    do {
        if ((word & 0xff) == 0xff)
            return false;
        i = qi_lowest_bit(~word);
        next = qi_mail_next(word, (uint32_t)(word & 0xffff) | 1u << i);
    } while (!qi_cas_acqrel(&m->word, &word, next));
    qi_store_relaxed(&m->cell[i], sheaf);
    word = next;
    while (!qi_cas_acqrel(&m->word, &word,
                          qi_mail_next(word, (uint32_t)(word & 0xffff) | 0x100u << i))) {
    }
    return true;
}

/* NULL: there is none. */
static inline struct qi_sheaf *qi_mail_fetch(struct qi_mail *m)
{
    uint64_t word = qi_load_acquire(&m->word);
    struct qi_sheaf *sheaf;
    unsigned i;

    do {
        if (!(word >> 8 & 0xff))
            return NULL;
        i = qi_lowest_bit(word >> 8);
        sheaf = qi_load_relaxed(&m->cell[i]);
    } while (!qi_cas_acqrel(&m->word, &word,
                            qi_mail_next(word, (uint32_t)(word & 0xffff) & ~(0x101u << i))));
    return sheaf;
}

#endif
