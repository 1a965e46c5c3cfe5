/*
 * frame/block.c - the pageblocks of a zone: bitmaps below 2 MiB, buddies of whole blocks above.
 *
 * Everything here runs under the zone's lock.  The model and the invariants F1.. are in frame.c.
 */
#include "zone.h"

/* ---- Lists of partly free blocks ---- */

static void link(struct qi_zone *z, uint32_t *head, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    b->prev = QI_NONE;
    b->next = *head;
    if (*head != QI_NONE)
        z->blocks[*head].prev = i;
    *head = i;
}

static void unlink(struct qi_zone *z, uint32_t *head, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    if (b->next != QI_NONE)
        z->blocks[b->next].prev = b->prev;
    if (b->prev != QI_NONE)
        z->blocks[b->prev].next = b->next;
    else
        *head = b->next;
}

static void part_link(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];
    unsigned l = qi_part_list(b);

    link(z, &z->part[b->type][l], i);
    z->part_mask[b->type] |= 1ull << l;
}

static void part_unlink(struct qi_zone *z, uint32_t i, unsigned type, unsigned l)
{
    unlink(z, &z->part[type][l], i);
    if (z->part[type][l] == QI_NONE)
        z->part_mask[type] &= ~(1ull << l);
}

static void set_free(struct qi_zone *z, uint64_t free) { qi_store_relaxed(&z->free, free); }

/* ---- Whole blocks: a buddy system over the absolute block number ---- */

static void big_link(struct qi_zone *z, uint32_t i, unsigned order)
{
    struct qi_block *b = &z->blocks[i];

    qi_block_set(b, QI_BLOCK_WHOLE);
    b->order = (uint8_t)order;
    link(z, &z->big[order - QI_BLOCK_ORDER], i);
    z->big_mask |= 1u << (order - QI_BLOCK_ORDER);
}

static void big_unlink(struct qi_zone *z, uint32_t i)
{
    unsigned l = z->blocks[i].order - QI_BLOCK_ORDER;

    unlink(z, &z->big[l], i);
    if (z->big[l] == QI_NONE)
        z->big_mask &= ~(1u << l);
}

/* Put back a run of whole blocks, merged as far as it goes. */
static void big_give(struct qi_zone *z, uint32_t i, unsigned order)
{
    uint64_t n = z->first_block + i;

    qi_block_set(&z->blocks[i], QI_BLOCK_BODY);
    for (; order < QUIRE_MAX_ORDER; order++) {
        uint64_t buddy = n ^ (1ull << (order - QI_BLOCK_ORDER));
        struct qi_block *b;

        if (buddy < z->first_block || buddy - z->first_block >= z->nblocks)
            break;
        b = &z->blocks[buddy - z->first_block];
        if (b->state != QI_BLOCK_WHOLE || b->order != order)
            break;
        big_unlink(z, (uint32_t)(buddy - z->first_block));
        qi_block_set(b, QI_BLOCK_BODY);
        n &= ~(1ull << (order - QI_BLOCK_ORDER));
    }
    big_link(z, (uint32_t)(n - z->first_block), order);
}

/* Take a run of whole blocks of the smallest order that serves; halves that are not needed go
 * back.  QI_NONE: there is none. */
static uint32_t big_take(struct qi_zone *z, unsigned order)
{
    uint32_t fits = z->big_mask & ~0u << (order - QI_BLOCK_ORDER), i;
    unsigned have;

    if (!fits)
        return QI_NONE;
    have = QI_BLOCK_ORDER + qi_lowest_bit(fits);
    i = z->big[have - QI_BLOCK_ORDER];
    big_unlink(z, i);
    while (have > order) {
        have--;
        big_link(z, i + (1u << (have - QI_BLOCK_ORDER)), have);
    }
    qi_block_set(&z->blocks[i], QI_BLOCK_BODY);
    return i;
}

void qi_zone_add_whole(struct qi_zone *z, uint32_t i, uint32_t n)
{
    uint32_t end = i + n;

    set_free(z, z->free + (uint64_t)n * QI_BLOCK_FRAMES);
    for (uint32_t k = i; k < end; k++) {
        qi_block_set(&z->blocks[k], QI_BLOCK_BODY);
        z->blocks[k].managed = QI_BLOCK_FRAMES;
        qi_store_relaxed(&z->blocks[k].type, (uint8_t)QUIRE_MOVABLE);
    }
    /* from the top, so that the lists begin with the lowest blocks */
    while (end > i) {
        uint64_t top = z->first_block + end;
        unsigned o = QI_MIN(qi_lowest_bit(top), qi_highest_bit(end - i));

        o = QI_MIN(o, (unsigned)(QUIRE_MAX_ORDER - QI_BLOCK_ORDER));
        end -= 1u << o;
        big_link(z, end, QI_BLOCK_ORDER + o);
    }
}

/* ---- Blocks under the bitmap ---- */

/* What the bitmap now allows: the order of the largest run, the list, or the whole block back. */
static void part_changed(struct qi_zone *z, uint32_t i, unsigned was_free, unsigned was_list,
                         unsigned order)
{
    struct qi_block *b = &z->blocks[i];

    b->order = (uint8_t)order;
    if (was_free && b->free && b->free < QI_BLOCK_FRAMES && qi_part_list(b) == was_list)
        return;
    if (was_free)
        part_unlink(z, i, b->type, was_list);
    if (b->free == QI_BLOCK_FRAMES) {
        b->free = 0;
        big_give(z, i, QI_BLOCK_ORDER);
    } else if (b->free) {
        part_link(z, i);
    }
}

static void part_taken(struct qi_zone *z, uint32_t i, unsigned n)
{
    struct qi_block *b = &z->blocks[i];
    unsigned was_free = b->free, was_list = qi_part_list(b);
    unsigned order = b->order;

    b->free = (uint16_t)(b->free - n);
    set_free(z, z->free - n);
    if (b->free && order)
        order = qi_bits_max_order(z->bits[i]);
    part_changed(z, i, was_free, was_list, order);
}

void qi_zone_add_part(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    qi_block_set(b, QI_BLOCK_PART);
    qi_store_relaxed(&b->type, (uint8_t)QUIRE_MOVABLE);
    qi_store_relaxed(&b->pages, (uint8_t)QI_PAGES_LOOSE);
    b->free = (uint16_t)qi_bits_count(z->bits[i]);
    set_free(z, z->free + b->free);
    b->order = (uint8_t)qi_bits_max_order(z->bits[i]);
    part_link(z, i);
}

/* A whole block that was taken out, under the bitmap from now on; it is on its list. */
static void under_bitmap(struct qi_zone *z, uint32_t i, unsigned type)
{
    struct qi_block *b = &z->blocks[i];

    if (b->pages != QI_PAGES_LOOSE) {
        qi_pages_loose_free(z, quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i))), QI_BLOCK_ORDER);
        qi_store_relaxed(&b->pages, (uint8_t)QI_PAGES_LOOSE);
    }
    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        z->bits[i][w] = UINT64_MAX;
    qi_block_set(b, QI_BLOCK_PART);
    qi_store_relaxed(&b->type, (uint8_t)type);
    b->order = QI_BITS_MAX_ORDER;
    b->free = QI_BLOCK_FRAMES; /* for a moment: the caller takes at least one frame */
    part_link(z, i);
}

static uint32_t part_from_whole(struct qi_zone *z, unsigned type)
{
    uint32_t i = big_take(z, QI_BLOCK_ORDER);

    if (i != QI_NONE)
        under_bitmap(z, i, type);
    return i;
}

/* The head of the run of whole blocks that block i is in; QI_NONE: in none that is free. */
static uint32_t run_head(const struct qi_zone *z, uint32_t i)
{
    uint64_t n = z->first_block + i;

    for (unsigned o = QI_BLOCK_ORDER; o <= QUIRE_MAX_ORDER; o++) {
        uint64_t head = n & ~((1ull << (o - QI_BLOCK_ORDER)) - 1);
        const struct qi_block *b;

        if (head < z->first_block)
            break;
        b = &z->blocks[head - z->first_block];
        if (b->state != QI_BLOCK_BODY)
            return b->state == QI_BLOCK_WHOLE && b->order >= o ? (uint32_t)(head - z->first_block)
                                                               : QI_NONE;
    }
    return QI_NONE;
}

bool qi_zone_is_whole(const struct qi_zone *z, uint32_t i) { return run_head(z, i) != QI_NONE; }

bool qi_zone_isolate(struct qi_zone *z, uint32_t i)
{
    uint32_t at = run_head(z, i);
    unsigned order;

    if (at == QI_NONE)
        return false;
    order = z->blocks[at].order;
    big_unlink(z, at);
    while (order > QI_BLOCK_ORDER) { /* the half without it goes back */
        uint32_t half;

        order--;
        half = at + (1u << (order - QI_BLOCK_ORDER));
        qi_block_set(&z->blocks[half], QI_BLOCK_BODY);
        big_link(z, i < half ? half : at, order);
        at = i < half ? at : half;
    }
    qi_block_set(&z->blocks[i], QI_BLOCK_BODY);
    return true;
}

void qi_zone_break(struct qi_zone *z, uint32_t i)
{
    if (qi_zone_isolate(z, i))
        under_bitmap(z, i, z->blocks[i].type);
}

bool qi_zone_take_frame(struct qi_zone *z, uint64_t pfn)
{
    uint32_t i = qi_block_of(z, pfn);
    uint64_t *word = &z->bits[i][pfn / 64 % QI_BLOCK_WORDS], bit = 1ull << pfn % 64;

    if (z->blocks[i].state != QI_BLOCK_PART || !(*word & bit))
        return false;
    *word &= ~bit;
    part_taken(z, i, 1);
    return true;
}

/* In which order the blocks of the other types are broken into. */
static const uint8_t steal_order[QI_STACK_TYPES][2] = {
    [QUIRE_UNMOVABLE] = {QUIRE_RECLAIMABLE, QUIRE_MOVABLE},
    [QUIRE_MOVABLE] = {QUIRE_RECLAIMABLE, QUIRE_UNMOVABLE},
    [QUIRE_RECLAIMABLE] = {QUIRE_UNMOVABLE, QUIRE_MOVABLE},
};

/* A block of another type with a run of the order: the one with most free, which changes its type
 * if at least half of it is free, so that the next request needs not steal again. */
static uint32_t part_steal(struct qi_zone *z, unsigned type, unsigned order)
{
    for (unsigned k = 0; k < 2; k++) {
        unsigned from = steal_order[type][k], l;
        uint64_t fits = z->part_mask[from] & ~0ull << order * QI_FULLNESS;
        uint32_t i;

        if (!fits)
            continue;
        qi_zone_stolen(z);
        l = qi_highest_bit(fits);
        i = z->part[from][l];
        if (z->blocks[i].free >= QI_BLOCK_FRAMES / 2) {
            part_unlink(z, i, from, l);
            qi_store_relaxed(&z->blocks[i].type, (uint8_t)type);
            part_link(z, i);
        }
        return i;
    }
    return QI_NONE;
}

/* A block with a run of the order (0..8) for the type: of those partly free the one with the
 * smallest largest run, so that larger runs are not split, and among these the fullest, so that what
 * is nearly whole becomes whole. */
static uint32_t part_choose(struct qi_zone *z, unsigned type, unsigned order)
{
    uint64_t fits = z->part_mask[type] & ~0ull << order * QI_FULLNESS;
    uint32_t i;

    if (QI_LIKELY(fits))
        return z->part[type][qi_lowest_bit(fits)];
    i = part_from_whole(z, type);
    return i != QI_NONE ? i : part_steal(z, type, order);
}

/* The n lowest bits of x, which has more than n; n >= 1. */
static uint64_t lowest_bits(uint64_t x, unsigned n)
{
    uint64_t rest = x;

    if (x == UINT64_MAX)
        return UINT64_MAX >> (64 - n);
    while (n--)
        rest &= rest - 1;
    return x & ~rest;
}

/* Write the pages of the bits of a word, run by run, to out, out + step and so on. */
static struct quire_page **put_pages(struct quire_page *base, uint64_t bits,
                                     struct quire_page **out, int step)
{
    while (bits) {
        unsigned at = qi_lowest_bit(bits);
        uint64_t gap = ~(bits >> at);
        unsigned len = gap ? qi_lowest_bit(gap) : 64;
        struct quire_page *p = base + at, *end = p + len;

        for (; p < end; p++, out += step)
            *out = p;
        bits &= at + len < 64 ? UINT64_MAX << (at + len) : 0;
    }
    return out;
}

/* Up to n frames of block i: from broken words first, whole words last. */
static unsigned take_from_block(struct qi_zone *z, uint32_t i, unsigned n, struct quire_page **out,
                                int step)
{
    uint64_t *bits = z->bits[i];
    struct quire_page *base = quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i)));
    unsigned got = 0;

    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned w = 0; w < QI_BLOCK_WORDS && got < n; w++) {
            uint64_t x = bits[w], take = x;
            unsigned k;

            if (!x || (pass == 0 && x == UINT64_MAX))
                continue;
            k = x == UINT64_MAX ? 64 : qi_popcount(x);
            if (k > n - got) {
                k = n - got;
                take = lowest_bits(x, k);
            }
            bits[w] = x & ~take;
            out = put_pages(base + w * 64, take, out, step);
            got += k;
        }
    return got;
}

unsigned qi_zone_take_frames(struct qi_zone *z, unsigned type, unsigned n, struct quire_page **out,
                             int step)
{
    unsigned got = 0;

    while (got < n) {
        uint32_t i = part_choose(z, type, 0);
        unsigned k;

        if (i == QI_NONE)
            break;
        k = take_from_block(z, i, n - got, out + (int)got * step, step);
        part_taken(z, i, k);
        got += k;
    }
    return got;
}

struct quire_page *qi_zone_take(struct qi_zone *z, unsigned type, unsigned order)
{
    uint32_t i;
    unsigned at = 0;

    if (order >= QI_BLOCK_ORDER) {
        i = big_take(z, order);
        if (i == QI_NONE)
            return NULL;
        qi_block_set(&z->blocks[i], QI_BLOCK_USED);
        z->blocks[i].order = (uint8_t)order;
        for (uint32_t k = 0; k < 1u << (order - QI_BLOCK_ORDER); k++)
            qi_store_relaxed(&z->blocks[i + k].type, (uint8_t)type);
        set_free(z, z->free - (1ull << order));
    } else {
        i = part_choose(z, type, order);
        if (i == QI_NONE)
            return NULL;
        at = qi_bits_find(z->bits[i], order);
        QI_ASSERT(at < QI_BLOCK_FRAMES);
        qi_bits_clear_run(z->bits[i], at, order);
        part_taken(z, i, 1u << order);
    }
    return quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i) + at));
}

void qi_zone_give_mask(struct qi_zone *z, uint64_t pfn, uint64_t mask)
{
    uint32_t i = qi_block_of(z, pfn);
    struct qi_block *b = &z->blocks[i];
    uint64_t *word = &z->bits[i][pfn / 64 % QI_BLOCK_WORDS];
    unsigned was_free = b->free, was_list = qi_part_list(b), order = was_free ? b->order : 0;
    unsigned n = mask & (mask - 1) ? qi_popcount(mask) : 1, max;

    QI_CHECK(b->state == QI_BLOCK_PART && !(*word & mask),
             "frames: pfn %#lx mask %#lx: block state %u, bits %#lx: freed twice",
             (unsigned long)pfn, (unsigned long)mask, b->state, (unsigned long)*word);
    *word |= mask;
    b->free = (uint16_t)(b->free + n);
    set_free(z, z->free + n);
    /* only this word can have a larger run than before */
    max = *word == UINT64_MAX ? qi_bits_max_order(z->bits[i]) : qi_word_max_order(*word);
    part_changed(z, i, was_free, was_list, QI_MAX(order, max));
}

void qi_zone_give(struct qi_zone *z, uint64_t pfn, unsigned order)
{
    uint32_t i = qi_block_of(z, pfn);
    struct qi_block *b = &z->blocks[i];
    unsigned at = pfn % QI_BLOCK_FRAMES, was_free, was_list, max;

    if (order >= QI_BLOCK_ORDER) {
        QI_CHECK(b->state == QI_BLOCK_USED && b->order == order,
                 "frames: pfn %#lx order %u: block state %u order %u", (unsigned long)pfn, order,
                 b->state, b->order);
        set_free(z, z->free + (1ull << order));
        big_give(z, i, order);
        return;
    }
    if (order <= QI_WORD_ORDER) {
        uint64_t run = order == QI_WORD_ORDER ? UINT64_MAX : (1ull << (1u << order)) - 1;

        qi_zone_give_mask(z, pfn & ~63ull, run << at % 64);
        return;
    }
    QI_CHECK(b->state == QI_BLOCK_PART && !qi_bits_any(z->bits[i], at, order),
             "frames: pfn %#lx order %u: block state %u: freed twice", (unsigned long)pfn, order,
             b->state);
    was_free = b->free;
    was_list = qi_part_list(b);
    qi_bits_set_run(z->bits[i], at, order);
    b->free = (uint16_t)(b->free + (1u << order));
    set_free(z, z->free + (1ull << order));
    max = qi_bits_max_order(z->bits[i]);
    part_changed(z, i, was_free, was_list, max);
}

void qi_zone_shatter(struct qi_zone *z, uint64_t pfn, unsigned order)
{
    uint32_t i = qi_block_of(z, pfn), n = 1u << (order - QI_BLOCK_ORDER);

    /* the head's block last: quire_page_flags() compares the others' form with its */
    for (uint32_t k = i + n; k-- > i;) {
        qi_block_set(&z->blocks[k], QI_BLOCK_PART);
        z->blocks[k].free = 0;
        z->blocks[k].order = 0;
        qi_store_release(&z->blocks[k].pages, (uint8_t)QI_PAGES_LOOSE);
        for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
            z->bits[k][w] = 0;
    }
}
