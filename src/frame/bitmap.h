/*
 * frame/bitmap.h - the 512 bits of a pageblock: 1 = the frame is free.
 *
 * Pure functions on eight words, one cache line.  A run of order o is 2^o free frames, aligned to
 * 2^o; a run is maximal when its buddy is not wholly free, which is exactly a free block of that
 * order in a buddy system.  The bitmap of a block so says what a buddy system's lists would say,
 * and merging costs nothing: it is what setting a bit means.
 *
 * A fold of order o of a word has bit i set (i a multiple of 2^o) if the run of order o at i is
 * free; it comes from the fold of order o - 1 with one shift and two ands.
 */
#ifndef QI_FRAME_BITMAP_H
#define QI_FRAME_BITMAP_H

#include "../base/bits.h"

#define QI_BLOCK_FRAMES   512u
#define QI_BLOCK_WORDS    8u
#define QI_WORD_ORDER     6u /* a word is one run of order 6 */
#define QI_BITS_MAX_ORDER 8u /* the largest run that is handed out of a bitmap */

/* Positions where a run of order o may begin. */
static const uint64_t qi_fold_mask[] = {
    0xffffffffffffffffu, 0x5555555555555555u, 0x1111111111111111u, 0x0101010101010101u,
    0x0001000100010001u, 0x0000000100000001u, 0x0000000000000001u,
};

/* Fold of order o (1..6) from the one below. */
static inline uint64_t qi_fold(uint64_t below, unsigned o)
{
    return below & below >> (1u << (o - 1)) & qi_fold_mask[o];
}

/* Bits set. */
static inline unsigned qi_bits_count(const uint64_t b[QI_BLOCK_WORDS])
{
    unsigned n = 0;

    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        n += qi_popcount(b[w]);
    return n;
}

/* Bit w set: word w is all free. */
static inline uint64_t qi_bits_full_words(const uint64_t b[QI_BLOCK_WORDS])
{
    uint64_t full = b[7] == UINT64_MAX;

    full =
        full * 2 + (b[6] == UINT64_MAX); /* written out: gcc keeps the loop, of twice the length */
    full = full * 2 + (b[5] == UINT64_MAX);
    full = full * 2 + (b[4] == UINT64_MAX);
    full = full * 2 + (b[3] == UINT64_MAX);
    full = full * 2 + (b[2] == UINT64_MAX);
    full = full * 2 + (b[1] == UINT64_MAX);
    return full * 2 + (b[0] == UINT64_MAX);
}
/* Order of the largest run of whole words; there are some. */
static inline unsigned qi_full_words_order(uint64_t full)
{
    full = qi_fold(full, 1);
    return !full ? 6 : qi_fold(full, 2) ? 8 : 7;
}

/* Order of the largest run in a word that is not 0. */
static inline unsigned qi_word_max_order(uint64_t x)
{
    unsigned o = 0;

    while (o < QI_WORD_ORDER && (x = qi_fold(x, o + 1)))
        o++;
    return o;
}

/* Order of the largest run; some bit is set, and no run is of a larger order than most. */
static inline unsigned qi_bits_max_order(const uint64_t b[QI_BLOCK_WORDS], unsigned most)
{
    unsigned max = 0;

    if (most >= QI_WORD_ORDER) {
        uint64_t full = qi_bits_full_words(b);

        if (full)
            return qi_full_words_order(full);
        most = QI_WORD_ORDER - 1;
    }
    for (unsigned w = 0; w < QI_BLOCK_WORDS && max < most; w++)
        if (b[w])
            max = QI_MAX(max, qi_word_max_order(b[w]));
    return max;
}

/* Of the runs of order o in fold, those whose buddy is not free as well. */
static inline uint64_t qi_maximal(uint64_t fold, unsigned o)
{
    uint64_t merged = fold & fold >> (1u << o) & qi_fold_mask[o + 1];

    return fold & ~(merged | merged << (1u << o));
}

/* First frame of the smallest maximal run of order *order (0..5) to limit - 1 in a word, whose order
 * then replaces *order; 64 if there is none. */
static inline unsigned qi_word_find(uint64_t x, unsigned *order, unsigned limit)
{
    for (unsigned o = 0; o < limit && x; o++) {
        uint64_t best = o >= *order ? qi_maximal(x, o) : 0;

        if (best) {
            *order = o;
            return qi_lowest_bit(best);
        }
        x = qi_fold(x, o + 1);
    }
    return 64;
}

/*
 * First frame of the smallest maximal run of order at least order (0..8), of equals the lowest:
 * larger runs are split only if nothing smaller serves.  QI_BLOCK_FRAMES if there is none.
 */
static inline unsigned qi_bits_find(const uint64_t b[QI_BLOCK_WORDS], unsigned order)
{
    unsigned found = QI_BLOCK_FRAMES, limit = QI_WORD_ORDER;
    uint64_t full = 0;

    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++) {
        unsigned o = order, at;

        full |= (uint64_t)(b[w] == UINT64_MAX) << w;
        if (!b[w] || b[w] == UINT64_MAX || o >= limit)
            continue;
        at = qi_word_find(b[w], &o, limit);
        if (at < 64) {
            found = w * 64 + at;
            limit = o; /* from now on only smaller ones are better */
        }
    }
    for (unsigned o = 0; found == QI_BLOCK_FRAMES && full; o++) {
        uint64_t best = o + QI_WORD_ORDER >= order ? qi_maximal(full, o) : 0;

        if (best)
            found = qi_lowest_bit(best) * 64;
        full = qi_fold(full, o + 1);
    }
    return found;
}

/* Set or clear the run of the order at frame at. */
static inline void qi_bits_set_run(uint64_t b[QI_BLOCK_WORDS], unsigned at, unsigned order)
{
    if (order < QI_WORD_ORDER)
        b[at / 64] |= ((1ull << (1u << order)) - 1) << at % 64;
    else
        for (unsigned w = at / 64; w < at / 64 + (1u << (order - QI_WORD_ORDER)); w++)
            b[w] = UINT64_MAX;
}
static inline void qi_bits_clear_run(uint64_t b[QI_BLOCK_WORDS], unsigned at, unsigned order)
{
    if (order < QI_WORD_ORDER)
        b[at / 64] &= ~(((1ull << (1u << order)) - 1) << at % 64);
    else
        for (unsigned w = at / 64; w < at / 64 + (1u << (order - QI_WORD_ORDER)); w++)
            b[w] = 0;
}
/* Any bit of the run is set. */
static inline bool qi_bits_any(const uint64_t b[QI_BLOCK_WORDS], unsigned at, unsigned order)
{
    uint64_t any = 0;

    if (order < QI_WORD_ORDER)
        return b[at / 64] >> at % 64 & ((1ull << (1u << order)) - 1);
    for (unsigned w = at / 64; w < at / 64 + (1u << (order - QI_WORD_ORDER)); w++)
        any |= b[w];
    return any;
}

/* Add the number of maximal runs of each order to count[0..9]. */
static inline void qi_bits_census(const uint64_t b[QI_BLOCK_WORDS], uint64_t *count)
{
    uint64_t full = qi_bits_full_words(b);

    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++) {
        uint64_t x = b[w];

        for (unsigned o = 0; o < QI_WORD_ORDER && x; o++) {
            count[o] += qi_popcount(qi_maximal(x, o));
            x = qi_fold(x, o + 1);
        }
    }
    for (unsigned o = 0; o <= 3; o++) {
        count[QI_WORD_ORDER + o] += qi_popcount(qi_maximal(full, o));
        full = qi_fold(full, o + 1);
    }
}

#endif
