/*
 * frame/block.c - the pageblocks of a zone: bitmaps below 2 MiB, buddies of whole blocks above.
 *
 * Everything here runs under the zone's lock.  The model and the invariants F1.. are in frame.c.
 *
 * It is long because it is one: what takes and what gives frames changes the same lists, bits and counts, which
 * nobody else may, and the compiler puts those changes into both.
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

/* n frames more (or, wrapping, less) are free in a block. */
static void count(struct qi_zone *z, const struct qi_block *b, uint64_t n)
{
    if (QI_UNLIKELY(b->type >= QUIRE_CMA)) {
        if (qi_block_isolated(b)) {
            z->isolated += n;
            return;
        }
        qi_store_relaxed(&z->free_cma, z->free_cma + n);
    }
    qi_store_relaxed(&z->free, z->free + n);
}

void qi_zone_lists_init(struct qi_zone *z)
{
    for (unsigned l = 0; l < QI_BIG_LISTS; l++)
        z->big[l] = z->cma_big[l] = QI_NONE;
    for (unsigned t = 0; t < QI_LIST_TYPES; t++)
        for (unsigned l = 0; l < QI_PART_LISTS; l++)
            z->part[t][l] = QI_NONE;
}

/* ---- Whole blocks: two buddy systems over the absolute block number, CMA blocks by themselves ---- */

static void big_link(struct qi_zone *z, uint32_t i, unsigned order)
{
    struct qi_block *b = &z->blocks[i];
    bool cma = b->type == QUIRE_CMA;

    qi_block_set(b, QI_BLOCK_WHOLE);
    b->order = (uint8_t)order;
    link(z, &(cma ? z->cma_big : z->big)[order - QI_BLOCK_ORDER], i);
    *(cma ? &z->cma_mask : &z->big_mask) |= 1u << (order - QI_BLOCK_ORDER);
}

static void big_unlink(struct qi_zone *z, uint32_t i)
{
    unsigned l = z->blocks[i].order - QI_BLOCK_ORDER;
    bool cma = z->blocks[i].type == QUIRE_CMA;
    uint32_t *heads = cma ? z->cma_big : z->big;

    unlink(z, &heads[l], i);
    if (heads[l] == QI_NONE)
        *(cma ? &z->cma_mask : &z->big_mask) &= ~(1u << l);
}

/* Put back a run of whole blocks, merged as far as it goes.  What they were used for is over. */
static void big_give(struct qi_zone *z, uint32_t i, unsigned order)
{
    uint64_t n = z->first_block + i;
    unsigned type = z->blocks[i].type == QUIRE_CMA ? QUIRE_CMA : QUIRE_MOVABLE;

    for (uint32_t k = i; k < i + (1u << (order - QI_BLOCK_ORDER)); k++)
        qi_store_relaxed(&z->blocks[k].type, (uint8_t)type);
    qi_block_set(&z->blocks[i], QI_BLOCK_BODY);
    for (; order < QUIRE_MAX_ORDER; order++) {
        uint64_t buddy = n ^ (1ull << (order - QI_BLOCK_ORDER));
        struct qi_block *b;

        if (buddy < z->first_block || buddy - z->first_block >= z->nblocks)
            break;
        b = &z->blocks[buddy - z->first_block];
        if (b->state != QI_BLOCK_WHOLE || b->order != order || b->type != type)
            break;
        big_unlink(z, (uint32_t)(buddy - z->first_block));
        qi_block_set(b, QI_BLOCK_BODY);
        n &= ~(1ull << (order - QI_BLOCK_ORDER));
    }
    big_link(z, (uint32_t)(n - z->first_block), order);
}

/* Take a run of whole blocks of the smallest order that serves; halves that are not needed go
 * back.  QI_NONE: there is none. */
static uint32_t big_take(struct qi_zone *z, unsigned order, bool cma)
{
    uint32_t fits = (cma ? z->cma_mask : z->big_mask) & ~0u << (order - QI_BLOCK_ORDER), i;
    unsigned have;

    if (!fits)
        return QI_NONE;
    have = QI_BLOCK_ORDER + qi_lowest_bit(fits);
    i = (cma ? z->cma_big : z->big)[have - QI_BLOCK_ORDER];
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

    for (uint32_t k = i; k < end; k++) {
        qi_block_set(&z->blocks[k], QI_BLOCK_BODY);
        qi_store_relaxed(&z->blocks[k].managed, (uint16_t)QI_BLOCK_FRAMES);
        qi_store_relaxed(&z->blocks[k].type, (uint8_t)QUIRE_MOVABLE);
        count(z, &z->blocks[k], QI_BLOCK_FRAMES);
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

/* A block under the bitmap, with something free and on no list, to where it belongs. */
static void part_settle(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    if (b->free == QI_BLOCK_FRAMES) {
        b->free = 0;
        big_give(z, i, QI_BLOCK_ORDER);
    } else if (b->free) {
        part_link(z, i);
    }
}

/* What the bitmap now allows: the order of the largest run, the list, or the whole block back. */
static void part_changed(struct qi_zone *z, uint32_t i, unsigned was_free, unsigned was_list,
                         unsigned order)
{
    struct qi_block *b = &z->blocks[i];

    b->order = (uint8_t)order;
    if (QI_UNLIKELY(qi_block_isolated(b)))
        return;
    if (was_free && b->free && b->free < QI_BLOCK_FRAMES && qi_part_list(b) == was_list)
        return;
    if (was_free)
        part_unlink(z, i, b->type, was_list);
    part_settle(z, i);
}

/* n frames of a block were taken, after which these words are whole; 0: or not. */
static QI_ALWAYS_INLINE void part_taken_but(struct qi_zone *z, uint32_t i, unsigned n,
                                            unsigned whole)
{
    struct qi_block *b = &z->blocks[i];
    unsigned was_free = b->free, was_list = qi_part_list(b);
    unsigned order = b->order;

    b->free = (uint16_t)(b->free - n);
    count(z, b, -(uint64_t)n);
    if (whole)
        order = qi_full_words_order(whole);
    else if (b->free && order)
        order = qi_bits_max_order(z->bits[i], order);
    part_changed(z, i, was_free, was_list, order);
}
static QI_NOINLINE void part_taken(struct qi_zone *z, uint32_t i, unsigned n)
{
    part_taken_but(z, i, n, 0);
}

void qi_zone_add_part(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    qi_block_set(b, QI_BLOCK_PART);
    qi_store_relaxed(&b->type, (uint8_t)QUIRE_MOVABLE);
    qi_store_relaxed(&b->pages, (uint8_t)QI_PAGES_LOOSE);
    b->free = (uint16_t)qi_bits_count(z->bits[i]);
    count(z, b, b->free);
    b->order = (uint8_t)qi_bits_max_order(z->bits[i], QI_BITS_MAX_ORDER);
    part_link(z, i);
}

/* A whole block that was taken out, under the bitmap from now on, all of it free. */
static void under_bitmap(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    if (b->pages != QI_PAGES_LOOSE) {
        qi_pages_loose_free(z, quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i))), QI_BLOCK_ORDER);
        qi_store_release(&b->pages, (uint8_t)QI_PAGES_LOOSE);
    }
    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        z->bits[i][w] = UINT64_MAX;
    qi_block_set(b, QI_BLOCK_PART);
    b->order = QI_BITS_MAX_ORDER;
    b->free = QI_BLOCK_FRAMES;
}

/* A whole block on a list of the partly free for a moment: the caller takes at least one frame. */
static uint32_t part_from_whole(struct qi_zone *z, unsigned type)
{
    uint32_t i = big_take(z, QI_BLOCK_ORDER, type == QUIRE_CMA);

    if (i == QI_NONE)
        return i;
    under_bitmap(z, i);
    qi_store_relaxed(&z->blocks[i].type, (uint8_t)type);
    part_link(z, i);
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

/* A wholly free block leaves its run and all lists; false: it is not wholly free. */
static bool leave_run(struct qi_zone *z, uint32_t i)
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
    if (!leave_run(z, i))
        return;
    under_bitmap(z, i);
    part_link(z, i);
}

/* ---- Isolation ---- */

bool qi_zone_isolate(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    if (qi_block_isolated(b))
        return false;
    if (leave_run(z, i))
        under_bitmap(z, i);
    else if (b->state == QI_BLOCK_PART && b->free)
        part_unlink(z, i, b->type, qi_part_list(b));
    count(z, b, -(uint64_t)b->free);
    qi_store_relaxed(&b->type, (uint8_t)(b->type | QI_TYPE_ISOLATED));
    count(z, b, b->free);
    z->nisolated++;
    return true;
}

void qi_zone_unisolate(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    count(z, b, -(uint64_t)b->free);
    qi_store_relaxed(&b->type, (uint8_t)(b->type & ~QI_TYPE_ISOLATED));
    count(z, b, b->free);
    z->nisolated--;
    if (b->state == QI_BLOCK_PART)
        part_settle(z, i);
}

bool qi_zone_claim(struct qi_zone *z, uint32_t i)
{
    struct qi_block *b = &z->blocks[i];

    QI_ASSERT(qi_block_isolated(b));
    if (b->state != QI_BLOCK_PART || b->free != QI_BLOCK_FRAMES)
        return false;
    z->isolated -= b->free;
    z->nisolated--;
    qi_store_relaxed(&b->type, (uint8_t)(b->type & ~QI_TYPE_ISOLATED));
    b->free = 0;
    return true;
}

void qi_zone_set_type(struct qi_zone *z, uint32_t i, unsigned type)
{
    struct qi_block *b = &z->blocks[i];

    z->cma += (uint64_t)(type == QUIRE_CMA) * b->managed;
    z->cma -= (uint64_t)((b->type & ~QI_TYPE_ISOLATED) == QUIRE_CMA) * b->managed;
    qi_store_relaxed(&b->type, (uint8_t)(type | QI_TYPE_ISOLATED));
}

/* An allocation of whole blocks comes back, and some of them are isolated: each by itself. */
static void give_each(struct qi_zone *z, uint32_t i, unsigned order)
{
    for (uint32_t k = i + (1u << (order - QI_BLOCK_ORDER)); k-- > i;) {
        count(z, &z->blocks[k], QI_BLOCK_FRAMES);
        if (qi_block_isolated(&z->blocks[k]))
            under_bitmap(z, k);
        else
            big_give(z, k, QI_BLOCK_ORDER);
    }
}

/* The bits of word w that are frames [at, at + n) of the block. */
static uint64_t bits_of_range(unsigned w, unsigned at, unsigned n)
{
    unsigned from = QI_MAX(at, w * 64), to = QI_MIN(at + n, w * 64 + 64);

    return from < to ? UINT64_MAX >> (64 - (to - from)) << from % 64 : 0;
}

bool qi_zone_take_range(struct qi_zone *z, uint64_t pfn, unsigned n)
{
    uint32_t i = qi_block_of(z, pfn);
    unsigned at = pfn % QI_BLOCK_FRAMES;

    if (z->blocks[i].state != QI_BLOCK_PART)
        return false;
    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        if (bits_of_range(w, at, n) & ~z->bits[i][w])
            return false;
    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
        z->bits[i][w] &= ~bits_of_range(w, at, n);
    part_taken(z, i, n);
    return true;
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

/*
 * A block of another type with a run of the order.  For what can be moved the smallest run that serves, so
 * that the room of others stays in large pieces; for what cannot, the block with most free.  That one
 * changes its type at once: whatever is freed in it from now on is found first by the next such
 * request, which so breaks into no other block.  The other way round, half of it must be free.
 */
static uint32_t part_steal(struct qi_zone *z, unsigned type, unsigned order)
{
    for (unsigned k = 0; k < 2; k++) {
        unsigned from = steal_order[type][k], l;
        uint64_t fits = z->part_mask[from] & qi_lists_from(order);
        uint32_t i;

        if (!fits)
            continue;
        qi_zone_stolen(z);
        l = type == QUIRE_MOVABLE ? qi_lowest_bit(fits) : qi_highest_bit(fits);
        i = z->part[from][l];
        if (from == QUIRE_MOVABLE || z->blocks[i].free >= QI_BLOCK_FRAMES / 2) {
            part_unlink(z, i, from, l);
            qi_store_relaxed(&z->blocks[i].type, (uint8_t)type);
            part_link(z, i);
        }
        return i;
    }
    return QI_NONE;
}

/* Of the blocks of a type with a run of the order (0..8), the one with the smallest largest run, so
 * that larger runs are not split, and among these the fullest, so that what is nearly whole becomes
 * whole. */
static uint32_t part_of_type(struct qi_zone *z, unsigned type, unsigned order)
{
    uint64_t fits = z->part_mask[type] & qi_lists_from(order);

    return fits ? z->part[type][qi_lowest_bit(fits)] : QI_NONE;
}

static uint32_t part_of_cma(struct qi_zone *z, unsigned order)
{
    uint32_t i = part_of_type(z, QUIRE_CMA, order);

    return i != QI_NONE ? i : part_from_whole(z, QUIRE_CMA);
}

/* What is free is mostly CMA's: movable requests go there, for nobody else may. */
static bool mostly_cma(const struct qi_zone *z, unsigned type)
{
    return type == QUIRE_MOVABLE && z->free_cma > z->free / 2;
}

/* A block with a run of the order for the type: its own, a whole one, CMA's. */
static uint32_t part_choose(struct qi_zone *z, unsigned type, unsigned order)
{
    uint32_t i = QI_UNLIKELY(mostly_cma(z, type)) ? part_of_cma(z, order) : QI_NONE;

    if (QI_LIKELY(i == QI_NONE))
        i = part_of_type(z, type, order);
    if (QI_LIKELY(i != QI_NONE))
        return i;
    i = part_from_whole(z, type);
    if (i == QI_NONE && type == QUIRE_MOVABLE)
        i = part_of_cma(z, order);
    return i;
}

/* A run of whole blocks. */
static uint32_t run_choose(struct qi_zone *z, unsigned type, unsigned order)
{
    uint32_t i = mostly_cma(z, type) ? big_take(z, order, true) : QI_NONE;

    if (i == QI_NONE)
        i = big_take(z, order, false);
    return i == QI_NONE && type == QUIRE_MOVABLE ? big_take(z, order, true) : i;
}

/* The n lowest of the k bits of x; 1 <= n < k. */
static uint64_t lowest_bits(uint64_t x, unsigned n, unsigned k)
{
    uint64_t rest = x;

    if (x == UINT64_MAX)
        return UINT64_MAX >> (64 - n);
    while (k > 32) { /* that many lie in runs */
        unsigned first = qi_lowest_bit(rest), len = qi_lowest_bit(~(rest >> first));

        if (len >= n)
            return x & UINT64_MAX >> (64 - first - n);
        rest &= rest + (1ull << first); /* carries through the run */
        n -= len;
    }
    while (n--)
        rest &= rest - 1;
    return x & ~rest;
}

/* Up to k frames of a word that has more, or has as many as it has; returns how many. */
static unsigned take_from_word(uint64_t *word, struct quire_page *base, unsigned k, unsigned has,
                               struct qi_words *out)
{
    uint64_t x = *word, take = has > k ? lowest_bits(x, k, has) : x;

    *word = x & ~take;
    out->word[out->n++] = (struct qi_word){base, take};
    return QI_MIN(has, k);
}

/* What whole words of a block do not serve, or are too good for: broken ones first. */
static QI_NOINLINE unsigned take_broken(uint64_t *bits, struct quire_page *base, unsigned n,
                                        unsigned *whole, struct qi_words *out)
{
    unsigned got = 0, w;

    for (w = 0; w < QI_BLOCK_WORDS && got < n && out->n < QI_WORDS; w++)
        if (bits[w] && !(*whole >> w & 1))
            got += take_from_word(&bits[w], base + w * 64, n - got, qi_popcount(bits[w]), out);
    for (; *whole && got < n && out->n < QI_WORDS; *whole &= *whole - 1) {
        w = qi_lowest_bit(*whole);
        got += take_from_word(&bits[w], base + w * 64, n - got, 64, out);
    }
    return got;
}

/* Up to n frames of block i: whole words of whole words' worth, the rest of broken ones if there are any. */
static QI_ALWAYS_INLINE unsigned take_from_block(struct qi_zone *z, uint32_t i, unsigned n,
                                                 struct qi_words *out)
{
    struct quire_page *base = quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i)));
    unsigned got = 0, whole = (unsigned)qi_bits_full_words(z->bits[i]);

    for (; whole && n - got >= 64 && out->n < QI_WORDS; whole &= whole - 1) {
        unsigned w = qi_lowest_bit(whole);

        z->bits[i][w] = 0;
        out->word[out->n++] = (struct qi_word){base + w * 64, UINT64_MAX};
        got += 64;
    }
    if (got < n)
        got += take_broken(z->bits[i], base, n - got, &whole, out);
    part_taken_but(z, i, got, whole);
    return got;
}

void qi_zone_take_words(struct qi_zone *z, unsigned type, unsigned n, struct qi_words *out)
{
    out->n = out->frames = 0;
    while (out->frames < n && out->n < QI_WORDS) {
        uint32_t i = part_choose(z, type, 0);

        if (i == QI_NONE && !out->n)
            /* for more than what was found no other type's block is broken into */
            i = part_steal(z, type, 0);
        if (i == QI_NONE)
            return;
        out->frames += take_from_block(z, i, n - out->frames, out);
    }
}

void qi_zone_take_rest(struct qi_zone *z, struct quire_page *base, unsigned n, struct qi_words *out)
{
    uint64_t pfn = quire_pfn_of_page(base).v;
    uint32_t i = qi_block_of(z, pfn);
    uint64_t *word = &z->bits[i][pfn / 64 % QI_BLOCK_WORDS], rest = *word;
    unsigned k;

    if (z->blocks[i].state != QI_BLOCK_PART || !rest || (k = qi_popcount(rest)) > n)
        return;
    *word = 0;
    out->frames = k;
    out->n = 1;
    out->word[0] = (struct qi_word){base, rest};
    part_taken(z, i, k);
}

/* A run out of block i, which has one; its first frame within the block. */
static unsigned take_run(struct qi_zone *z, uint32_t i, unsigned order)
{
    unsigned at = qi_bits_find(z->bits[i], order);

    QI_ASSERT(at < QI_BLOCK_FRAMES);
    qi_bits_clear_run(z->bits[i], at, order);
    part_taken(z, i, 1u << order);
    return at;
}

struct quire_page *qi_zone_take_broken(struct qi_zone *z, unsigned type, unsigned order)
{
    uint32_t i = part_of_type(z, type, order);

    if (i == QI_NONE)
        return NULL;
    return quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i) + take_run(z, i, order)));
}

struct quire_page *qi_zone_take(struct qi_zone *z, unsigned type, unsigned order)
{
    uint32_t i;
    unsigned at = 0;

    if (order >= QI_BLOCK_ORDER) {
        i = run_choose(z, type, order);
        if (i == QI_NONE)
            return NULL;
        qi_block_set(&z->blocks[i], QI_BLOCK_USED);
        z->blocks[i].order = (uint8_t)order;
        count(z, &z->blocks[i], -(1ull << order));
        for (uint32_t k = i; k < i + (1u << (order - QI_BLOCK_ORDER)); k++)
            if (z->blocks[k].type != QUIRE_CMA)
                qi_store_relaxed(&z->blocks[k].type, (uint8_t)type);
    } else {
        i = part_choose(z, type, order);
        if (i == QI_NONE)
            i = part_steal(z, type, order);
        if (i == QI_NONE)
            return NULL;
        at = take_run(z, i, order);
    }
    return quire_page_of_pfn(Q_PFN(qi_block_pfn(z, i) + at));
}

void qi_zone_give_mask(struct qi_zone *z, uint64_t pfn, uint64_t mask)
{
    uint32_t i = qi_block_of(z, pfn);
    struct qi_block *b = &z->blocks[i];
    uint64_t *word = &z->bits[i][pfn / 64 % QI_BLOCK_WORDS];
    unsigned was_free = b->free, was_list = qi_part_list(b), order = was_free ? b->order : 0;
    unsigned n = !(mask & (mask - 1)) ? 1 : mask == UINT64_MAX ? 64 : qi_popcount(mask), max;

    QI_CHECK(b->state == QI_BLOCK_PART && !(*word & mask),
             "frames: pfn %#lx mask %#lx: block state %u, bits %#lx: freed twice",
             (unsigned long)pfn, (unsigned long)mask, b->state, (unsigned long)*word);
    *word |= mask;
    b->free = (uint16_t)(b->free + n);
    count(z, b, n);
    /* only this word can have a larger run than before */
    max = *word == UINT64_MAX ? qi_bits_max_order(z->bits[i], QI_BITS_MAX_ORDER)
                              : qi_word_max_order(*word);
    part_changed(z, i, was_free, was_list, QI_MAX(order, max));
}

/* Runs of each order. */
static const uint64_t runs[QI_WORD_ORDER + 1] = {
    0x1, 0x3, 0xf, 0xff, 0xffff, 0xffffffff, UINT64_MAX,
};

/*
 * One frame that changes neither the list of its block nor its largest run, which are nine of ten; false: it may, or
 * all is not well.  The caller counts it.  frame: from the first of the zone's first block.
 */
static QI_ALWAYS_INLINE bool give_quick(struct qi_block *blocks, uint64_t (*bits)[QI_BLOCK_WORDS],
                                        uint64_t frame)
{
    struct qi_block *b = &blocks[frame / QI_BLOCK_FRAMES];
    uint64_t *word = (uint64_t *)bits + frame / 64, now;
    unsigned at = frame % 64, order;

    /* at the end of an eighth, or the first of a block that is on no list */
    if (b->free % QI_EIGHTH == 0)
        return false;
    now = *word;
    if (now >> at & 1)
        return false;
    now |= 1ull << at;
    if (now >> (at ^ 1) & 1) {
        order = b->order + 1u;
        if (order > QI_WORD_ORDER || !(~(now >> (at >> order << order)) & runs[order]))
            return false;
    }
    *word = now;
    b->free++;
    return true;
}

/* Frames that lie one here, one there, until one of them needs more than its bit set, or the next one is its
 * neighbour; returns how many, less than n. */
static QI_NOINLINE unsigned give_scattered(struct qi_zone *z, struct quire_page *const *pages,
                                           unsigned n)
{
    uint64_t(*bits)[QI_BLOCK_WORDS] = z->bits, first = qi_block_pfn(z, 0);
    struct quire_page *const *at = pages, *const *end = pages + n;
    struct qi_block *blocks = z->blocks;

    if (QI_UNLIKELY(z->cma || z->nisolated)) /* whose frames are counted apart */
        return 0;
    for (struct quire_page *p = *at, *next; at + 1 < end; at++, p = next) {
        next = at[1];
        if (next == p + 1 || !give_quick(blocks, bits, quire_pfn_of_page(p).v - first))
            break;
    }
    return (unsigned)(at - pages);
}

/* Pages from p on, one after the other, of n; no more than to the end of the word. */
static QI_ALWAYS_INLINE unsigned run_from(struct quire_page *const *pages, unsigned n,
                                          const struct quire_page *p)
{
    unsigned k = 1;

    for (; k + 4 <= n; k += 4)
        if (pages[k] != p + k || pages[k + 1] != p + k + 1 || pages[k + 2] != p + k + 2 ||
            pages[k + 3] != p + k + 3)
            break;
    while (k < n && pages[k] == p + k)
        k++;
    return k;
}

/* The first of n pages, and those after it that lie in the same word; returns how many. */
static unsigned give_word(struct qi_zone *z, struct quire_page *const *pages, unsigned n)
{
    uint64_t pfn = quire_pfn_of_page(pages[0]).v, mask = 0;
    struct quire_page *base = pages[0] - pfn % 64;
    unsigned i = 0, at = pfn % 64;

    do {
        unsigned k = run_from(pages + i, QI_MIN(n - i, 64 - at), pages[i]);

        mask |= UINT64_MAX >> (64 - k) << at;
        i += k;
        if (i == n)
            break;
        at = (unsigned)QI_MIN((uint64_t)((uintptr_t)pages[i] - (uintptr_t)base) / sizeof *base,
                              (uint64_t)64);
    } while (at < 64);
    qi_zone_give_mask(z, pfn & ~63ull, mask);
    return i;
}

void qi_zone_give_frames(struct qi_zone *z, struct quire_page *const *pages, unsigned n)
{
    unsigned i = 0, quick = 0;

    while (i < n) {
        unsigned k = give_scattered(z, pages + i, n - i);

        quick += k;
        i += k;
        i += give_word(z, pages + i, n - i);
    }
    qi_store_relaxed(&z->free, z->free + quick);
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
        if (QI_UNLIKELY(z->nisolated)) {
            give_each(z, i, order);
            return;
        }
        count(z, b, 1ull << order);
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
    count(z, b, 1ull << order);
    max = qi_bits_max_order(z->bits[i], QI_BITS_MAX_ORDER);
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

void qi_zone_join(struct qi_zone *z, uint32_t i, unsigned order)
{
    for (uint32_t k = i + (1u << (order - QI_BLOCK_ORDER)); k-- > i;)
        qi_block_set(&z->blocks[k], k == i ? QI_BLOCK_USED : QI_BLOCK_BODY);
    z->blocks[i].order = (uint8_t)order;
}
