/*
 * frame/zone.h - zones and pageblocks, private to src/frame.  The theory is in frame.c.
 */
#ifndef QI_FRAME_ZONE_H
#define QI_FRAME_ZONE_H

#include "../sync/spin.h"
#include "bitmap.h"
#include "frame.h"

#define QI_NONE        UINT32_MAX
#define QI_BLOCK_ORDER QUIRE_HUGE_ORDER
#define QI_CLASSES     QUIRE_ZONE_DEVICE /* DMA..MOVABLE: the highest zone a request may use */
#define QI_MAX_ZONES   (QUIRE_MAX_NODES * QI_CLASSES)
/* What the direct map reaches is below 4 GiB anyway: then NORMAL begins where DMA ends. */
#define QI_ZONE_BELOW_4G                                                                  \
    (QUIRE_DIRECT_LIMIT && (uint64_t)QUIRE_DIRECT_LIMIT <= 4ull << 30 ? QUIRE_ZONE_NORMAL \
                                                                      : QUIRE_ZONE_DMA32)
#define QI_RUN_FRAMES (1ull << QUIRE_MAX_ORDER) /* the longest block */
/* Bytes of the struct pages of a pageblock. */
#define QI_MAP_BLOCK (QI_BLOCK_FRAMES * sizeof(struct quire_page))
/* x86-64 and AArch64 have at most 52 bits of physical address: what firmware says beyond is a lie. */
#define QI_PFN_END          ((1ull << 52) / QUIRE_PAGE_SIZE)
#define QI_ZONE_STACK_BYTES (QI_STACK_KINDS * QI_STACK_TYPES * sizeof(struct qi_stack))
#define QI_PART_LISTS       61u
#define QI_BIG_LISTS        (QUIRE_MAX_ORDER - QI_BLOCK_ORDER + 1)
#define QI_LIST_TYPES       4 /* QUIRE_UNMOVABLE, MOVABLE, RECLAIMABLE, CMA */

enum qi_block_state {
    QI_BLOCK_ABSENT,   /* the zone has no frame in it */
    QI_BLOCK_RESERVED, /* none that the allocator was given */
    QI_BLOCK_OFFLINE,  /* taken from it, to come back (section.c) */
    QI_BLOCK_PART,     /* the bitmap says what is free */
    QI_BLOCK_WHOLE,    /* first of 2^(order - 9) wholly free blocks, on a list */
    QI_BLOCK_USED,     /* first of 2^(order - 9) blocks that are one allocation */
    QI_BLOCK_BODY,     /* a later block of such a run */
};

/* What the struct pages of a block hold. */
#define QI_PAGES_UNTOUCHED 0 /* zeros: never handed out */
#define QI_PAGES_LOOSE     1 /* each its own state */
                             /* 9..: head and tails of a block of this order */

struct qi_block {
    uint32_t next, prev; /* indexes in the zone; of PART with something free, and of WHOLE */
    uint16_t free;       /* PART: bits set; else 0 */
    uint16_t managed;    /* frames that the allocator was given */
    uint8_t state;
    uint8_t order; /* PART: of its largest run, if free; WHOLE, USED: of the run that it heads */
    uint8_t type;  /* one of QI_LIST_TYPES, and QI_TYPE_ISOLATED; free whole blocks: MOVABLE or CMA;
                      atomic: frees look at it without the lock */
    uint8_t pages;
};
_Static_assert(sizeof(struct qi_block) == 16, "struct qi_block");

enum qi_mark { QI_MARK_MIN, QI_MARK_LOW, QI_MARK_HIGH, QI_MARK_REMOTE, QI_MARKS };

/* In qi_block.type: nothing of the block is handed out, and what comes back stays (isolate.c). */
#define QI_TYPE_ISOLATED 0x80u

struct qi_zone {
    struct qi_spin lock;
    uint8_t node, type;
    bool listed; /* has or had memory: stands in the zone lists */
    uint16_t slot;
    uint32_t place;       /* names the zone as the flags of a page do (qi_flags_at) */
    uint64_t start, end;  /* frames spanned */
    uint64_t first_block; /* start / 512 */
    uint32_t nblocks;
    struct qi_block *blocks;
    uint64_t (*bits)[QI_BLOCK_WORDS];
    uint64_t present, managed;
    /* written under lock, read without it */
    uint64_t wmark[QI_MARKS];
    uint64_t reserve[QI_CLASSES]; /* kept from requests of that class, beside the mark */

    /* under lock; the first two may be read without it */
    uint64_t free QI_CACHE_ALIGNED; /* frames in blocks, but isolated ones */
    uint64_t free_cma;              /* of these, in CMA blocks */
    uint64_t part_mask[QI_LIST_TYPES];
    uint32_t big_mask, cma_mask;
    uint32_t big[QI_BIG_LISTS], cma_big[QI_BIG_LISTS]; /* runs of whole blocks; those of CMA */
    uint32_t part[QI_LIST_TYPES][QI_PART_LISTS];
    uint32_t nisolated;                    /* blocks that are isolated */
    uint64_t isolated;                     /* frames free in them */
    uint64_t cma;                          /* frames of CMA blocks */
    uint64_t allocs, frees, fails, locked; /* allocs, frees: past the stacks, in frames */
    uint64_t poisoned;                     /* frames withheld for good */
    uint64_t marked;            /* bad frames not withheld yet, or more; read without the lock */
    uint64_t boost, boosted_ns; /* of the high mark when it was raised last, and when that was */
    uint64_t atomic_base, atomic_bits; /* set aside: bit n, frame atomic_base + n (pressure.c) */
    /* atomic */
    uint32_t pressure;
    uint64_t remote; /* frames that CPUs of other nodes took past the stacks */
    uint64_t missed; /* frames taken by requests that would rather have had another node's */
};

extern struct qi_zone qi_zones[QI_MAX_ZONES];
extern uint32_t qi_boots; /* calls of quire_frame_init() that succeeded */
extern unsigned qi_nzones, qi_nnodes, qi_ncpus;
extern uint64_t qi_top_frame; /* end of the highest zone */
#define QI_LIST_END 0xffffu
/* Slots of the zones to try for a class from a node, in order; QI_LIST_END ends.  Zones may come in
 * (zonelist.c): read with qi_zone_listed(). */
extern uint16_t qi_zonelists[QUIRE_MAX_NODES][QI_CLASSES][QI_MAX_ZONES + 1];
extern uint8_t qi_cpu_nodes[QUIRE_MAX_CPUS];
/* Frames that requests got elsewhere, which would rather have had this node's; atomic. */
extern uint64_t qi_foreign[QUIRE_MAX_NODES];
extern const char *const qi_zone_names[QUIRE_ZONES];

/* Whole pageblocks of one zone type that were not there at boot and may come (hotplug.c); constant. */
struct qi_announced {
    uint64_t start, end; /* frames */
    unsigned node;       /* or QUIRE_NODE_ANY */
};
extern struct qi_announced *qi_announced;
extern uint32_t qi_nannounced;

/* The zone at a place of a zone list; NULL: the end. */
static inline struct qi_zone *qi_zone_listed(const uint16_t *l)
{
    uint16_t slot = qi_load_relaxed(l);

    return slot == QI_LIST_END ? NULL : &qi_zones[slot];
}

static inline struct qi_zone *qi_zone_by(unsigned node, unsigned type)
{
    for (unsigned i = 0; i < qi_nzones; i++)
        if (qi_zones[i].node == node && qi_zones[i].type == type)
            return &qi_zones[i];
    return NULL;
}

/* Under the zone's lock, or at boot; qi_zone_of_frame() reads it without, and then the struct pages that
 * were made before. */
static inline void qi_block_set(struct qi_block *b, enum qi_block_state state)
{
    qi_store_release(&b->state, (uint8_t)state);
}

/*
 * The list of a block under the bitmap, with something free: by its largest run, and of equals by eighths free, (free - 1)
 * / 64.  A block without an aligned pair has at most half free, so eighths 0 to 3; one with a run of 256 has at least
 * half: so there are not 72 lists but 61, and a mask of them is one word.
 *
 *     order of the run    0     1     2     3     4     5     6     7     8
 *     eighths           0..3  0..5  0..6  0..7  0..7  0..7  0..7  1..7  3..7
 */
#define QI_EIGHTH (QI_BLOCK_FRAMES / 8)
static const uint8_t qi_first_list[QI_BITS_MAX_ORDER + 1] = {0, 4, 10, 17, 25, 33, 41, 49, 56};
static const uint8_t qi_list_base[32] = {0, 4, 10, 17, 25, 33, 41, 49 - 1, 56 - 3};

static inline unsigned qi_part_list(const struct qi_block *b)
{
    return qi_list_base[b->order % 32] + (b->free - 1u) / QI_EIGHTH;
}
/* The lists of blocks with a run of the order or a larger one. */
static inline uint64_t qi_lists_from(unsigned order) { return ~0ull << qi_first_list[order]; }

/* Interrupts are off. */
static inline void qi_zone_lock(struct qi_zone *z)
{
    qi_spin_lock_raw(&z->lock);
    z->locked++;
}
static inline void qi_zone_unlock(struct qi_zone *z) { qi_spin_unlock_raw(&z->lock); }

static inline struct qi_zone *qi_zone_of(uint32_t flags)
{
    return &qi_zones[qi_place_stacks(flags >> QUIRE_PG_ZONE_SHIFT) / QI_ZONE_STACK_BYTES];
}
/* A page with these flags is one of the zone. */
static inline bool qi_zone_has(const struct qi_zone *z, uint32_t flags)
{
    return QUIRE_MODEL_PLACES ? qi_zone_of(flags) == z : (flags & QI_PG_PLACE) == z->place;
}
static inline uint32_t qi_block_of(const struct qi_zone *z, uint64_t pfn)
{
    return (uint32_t)(pfn / QI_BLOCK_FRAMES - z->first_block);
}
static inline uint64_t qi_block_pfn(const struct qi_zone *z, uint32_t i)
{
    return (z->first_block + i) * QI_BLOCK_FRAMES;
}
/* Free frames that a request of the type may have at all. */
static inline uint64_t qi_zone_free_for(const struct qi_zone *z, quire_gfp gfp)
{
    uint64_t free = qi_load_relaxed(&z->free), cma;

    if (gfp & QUIRE_GFP_MOVABLE)
        return free;
    cma = qi_load_relaxed(&z->free_cma);
    return free > cma ? free - cma : 0; /* read one after the other */
}
/* The stacks that the blocks of order 1..3 in it come from and go to: CMA's are MOVABLE ones. */
static inline unsigned qi_block_stack_type(const struct qi_block *b)
{
    unsigned type = qi_load_relaxed(&b->type) & ~QI_TYPE_ISOLATED;

    return type == QUIRE_CMA ? (unsigned)QUIRE_MOVABLE : type;
}
/* What the outside is told: isolated blocks are of a type of their own. */
static inline enum quire_migrate_type qi_block_type(const struct qi_block *b)
{
    unsigned type = qi_load_relaxed(&b->type);

    return type & QI_TYPE_ISOLATED ? QUIRE_ISOLATE : (enum quire_migrate_type)type;
}
static inline bool qi_block_isolated(const struct qi_block *b)
{
    return b->type & QI_TYPE_ISOLATED;
}
static inline unsigned qi_gfp_type(quire_gfp gfp)
{
    return gfp & QUIRE_GFP_MOVABLE       ? QUIRE_MOVABLE
           : gfp & QUIRE_GFP_RECLAIMABLE ? QUIRE_RECLAIMABLE
                                         : QUIRE_UNMOVABLE;
}
static inline unsigned qi_gfp_class(quire_gfp gfp)
{
    if (QI_UNLIKELY(gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32)))
        return gfp & QUIRE_GFP_DMA ? QUIRE_ZONE_DMA : QI_ZONE_BELOW_4G;
    if (QUIRE_DIRECT_LIMIT && !(gfp & QUIRE_GFP_HIGHMEM))
        return QUIRE_ZONE_NORMAL;
    return gfp & QUIRE_GFP_MOVABLE ? QUIRE_ZONE_MOVABLE
           : QUIRE_DIRECT_LIMIT    ? QUIRE_ZONE_HIGHMEM
                                   : QUIRE_ZONE_NORMAL;
}

/* Frames that a request may take from the zone before it meets its mark; 0: none. */
static inline uint64_t qi_zone_spare(const struct qi_zone *z, unsigned class, quire_gfp gfp,
                                     enum qi_mark mark)
{
    uint64_t free = qi_zone_free_for(z, gfp), keep = qi_load_relaxed(&z->wmark[mark]);

    if (gfp & QUIRE_GFP_MEMALLOC)
        return free;
    if (gfp & QUIRE_GFP_ATOMIC && mark == QI_MARK_MIN) {
        keep -= keep / 2; /* as Linux does for GFP_ATOMIC: half, and a quarter of the rest */
        keep -= keep / 4;
    }
    keep += qi_load_relaxed(&z->reserve[class]);
    return free > keep ? free - keep : 0;
}

/* ---- block.c: all with the zone's lock held ---- */

/* A block of which nothing is on a list yet comes into being: n wholly free blocks at i, aligned
 * or not; or one with the bitmap as it stands, which is not empty. */
void qi_zone_add_whole(struct qi_zone *z, uint32_t i, uint32_t n);
void qi_zone_add_part(struct qi_zone *z, uint32_t i);

/* Single frames, by words of bitmaps: the page of the first frame of the word, and which are meant. */
#define QI_WORDS 16u
struct qi_words {
    unsigned frames, n;
    struct qi_word {
        struct quire_page *base;
        uint64_t bits;
    } word[QI_WORDS];
};
/* Their pages, ascending, to at[0], at[step]..; returns what comes next.  step is a constant. */
static QI_ALWAYS_INLINE struct quire_page **qi_word_pages(const struct qi_word *w,
                                                          struct quire_page **at, int step)
{
    uint64_t bits = w->bits;

    while (bits) {
        unsigned first = qi_lowest_bit(bits);
        uint64_t gap = ~(bits >> first);
        struct quire_page *p = w->base + first, *end = p + (gap ? qi_lowest_bit(gap) : 64);

        bits &= bits + (1ull << first); /* carries through the run */
        for (; p + 4 <= end; p += 4, at += 4 * step) {
            at[0] = p;
            at[step] = p + 1;
            at[2 * step] = p + 2;
            at[3 * step] = p + 3;
        }
        for (; p < end; p++, at += step)
            *at = p;
    }
    return at;
}
/* Up to n frames, n > 0, of as many words as there is room for. */
void qi_zone_take_words(struct qi_zone *z, unsigned type, unsigned n, struct qi_words *out);
/* What is free of the word that begins with this page, if that is at most n frames; else *out stays. */
void qi_zone_take_rest(struct qi_zone *z, struct quire_page *base, unsigned n,
                       struct qi_words *out);
/* A block of order 1..QUIRE_MAX_ORDER; its struct pages are not made.  NULL: none. */
struct quire_page *qi_zone_take(struct qi_zone *z, unsigned type, unsigned order);
/* Orders 0..8: out of a pageblock of that very type that is under a bitmap; NULL: there is none. */
struct quire_page *qi_zone_take_broken(struct qi_zone *z, unsigned type, unsigned order);
/* Frames of one word of a bitmap: those of mask from frame pfn, a multiple of 64. */
void qi_zone_give_mask(struct qi_zone *z, uint64_t pfn, uint64_t mask);
/* Single frames in any order, n > 0; their struct pages are marked free already. */
void qi_zone_give_frames(struct qi_zone *z, struct quire_page *const *pages, unsigned n);
/* A block that is not in any structure; struct pages are marked free already. */
void qi_zone_give(struct qi_zone *z, uint64_t pfn, unsigned order);
/* Isolated blocks, all of whose frames the caller holds, become one allocation of the order. */
void qi_zone_join(struct qi_zone *z, uint32_t i, unsigned order);
/* The frames of an allocated block of order 9 and up become separate allocations. */
void qi_zone_shatter(struct qi_zone *z, uint64_t pfn, unsigned order);

/* Empty lists. */
void qi_zone_lists_init(struct qi_zone *z);
/* A block is wholly free, alone or in a run. */
bool qi_zone_is_whole(const struct qi_zone *z, uint32_t i);
/* The free frames of a managed block leave the lists and the count; those that come back stay in its
 * bitmap, until all of it is on the lists again.  False: it is isolated already. */
bool qi_zone_isolate(struct qi_zone *z, uint32_t i);
void qi_zone_unisolate(struct qi_zone *z, uint32_t i);
/* An isolated block is of that type from now on. */
void qi_zone_set_type(struct qi_zone *z, uint32_t i, unsigned type);
/* A wholly free block, if it is one, comes under the bitmap; the caller takes a frame of it. */
void qi_zone_break(struct qi_zone *z, uint32_t i);
/* All of an isolated block is free: it leaves the zone's count, and is isolated no more.  False, and
 * nothing done: something is not. */
bool qi_zone_claim(struct qi_zone *z, uint32_t i);
/* n free frames of one block out of the bitmap; false, and nothing done: not all of them are free. */
bool qi_zone_take_range(struct qi_zone *z, uint64_t pfn, unsigned n);
/* This very frame out of the bitmap; false: it is in none. */
bool qi_zone_take_frame(struct qi_zone *z, uint64_t pfn);

/* ---- bad.c: interrupts off, no lock ---- */

/* A frame of the block was marked as bad. */
bool qi_pages_marked(const struct quire_page *p, unsigned order);
/* A block that is in no structure and that nobody holds: withhold its bad frames, give back the rest.
 * One without bad frames is damaged: stop. */
void qi_pages_sift(struct quire_page *p, unsigned order);
/* With the zone's lock held: false: it has no bad frames, and is as it was. */
bool qi_zone_sift(struct qi_zone *z, struct quire_page *p, unsigned order);
/* The same with the blocks of a stack of this CPU that have any; with the zone's lock held. */
void qi_stack_sift(struct qi_stack *s);

/* ---- report.c ---- */

/* The zone and block of a frame; NULL: there is no such frame.  Whoever neither holds the frame nor
 * keeps blocks from coming and going is between qi_look_begin() and qi_look_end(). */
struct qi_zone *qi_zone_of_frame(uint64_t pfn, struct qi_block **block);

/* ---- hotplug.c ---- */

/*
 * Look at frames that may cease to exist: as long as this CPU looks, the struct pages of a block that
 * was there after qi_look_begin() stay.  Interrupts are off in between; nests.
 */
static inline unsigned long qi_look_begin(void)
{
    unsigned long irq = qport_irq_save();
    uint32_t *looking = &qi_frame_cpus[qport_cpu()].looking;

    qi_store_relaxed(looking, *looking + 1);
    qi_fence_full();
    return irq;
}
static inline void qi_look_end(unsigned long irq)
{
    uint32_t *looking = &qi_frame_cpus[qport_cpu()].looking;

    qi_store_release(looking, *looking - 1);
    qport_irq_restore(irq);
}

/* ---- section.c ---- */

/* One at a time takes blocks off line, brings them back, or makes them come and go; false: somebody
 * does. */
bool qi_blocks_begin(void);
void qi_blocks_end(void);
/* Managed blocks off line, all of the range or nothing (BUSY); an offline block back. */
enum quire_status qi_blocks_take(q_pfn start, uint64_t frames);
void qi_block_give(uint64_t pfn);

/* ---- page.c: struct pages, no lock ---- */

/* Head and tails of a block that is about to be handed out. */
void qi_pages_compound(struct qi_zone *z, struct quire_page *head, unsigned order);
/* The same, but a block of order 9 and up that kept its form stays as it is, free; true: it did. */
bool qi_pages_form(struct qi_zone *z, struct quire_page *head, unsigned order);
/* 2^order free frames, each by itself; nobody holds them, so their counts are 0 already. */
void qi_pages_loose_free(struct qi_zone *z, struct quire_page *head, unsigned order);

/* ---- frame.c ---- */

/* As quire_page_alloc(), from nodes whose bit is set, nearest to node first; gfp's THISNODE counts too. */
struct quire_page *qi_page_alloc_among(unsigned order, quire_gfp gfp, unsigned node,
                                       uint64_t nodes);
void qi_zone_lock_init(struct qi_zone *z);
/* The node of the first zone of a list, which is another than the request's if that has no memory of
 * the class. */
unsigned qi_wanted_node(unsigned node, unsigned class);

/* Frames that are not from where the request wanted them. */
static inline void qi_count_missed(struct qi_zone *z, uint64_t frames, unsigned wanted)
{
    if (QI_UNLIKELY(z->node != wanted)) {
        qi_fetch_add_relaxed(&z->missed, frames);
        qi_fetch_add_relaxed(&qi_foreign[wanted], frames);
    }
}
/* Frames past the stacks that are not of this CPU's node. */
static inline void qi_count_remote(struct qi_zone *z, uint64_t frames)
{
    if (QI_UNLIKELY(z->node != qi_cpu_nodes[qport_cpu()]))
        qi_fetch_add_relaxed(&z->remote, frames);
}

/* ---- bulk.c ---- */

/* As quire_page_alloc_bulk(), likewise. */
size_t qi_page_alloc_bulk_among(size_t n, struct quire_page **out, quire_gfp gfp, unsigned node,
                                uint64_t nodes);

/* ---- stack.c ---- */

/* Fill an empty stack with a batch, of the frames that a request may take; false: there is nothing
 * for it.  Interrupts off. */
bool qi_stack_fill(struct qi_stack *s, uint64_t may);
/* Until as many calls of the second as of the first, stacks are closed: no fast path is taken for long,
 * and nothing that is freed stays in them.  Any context. */
void qi_stacks_bypass(void);
void qi_stacks_use(void);
/* Memory is getting short: make the stacks of this CPU small.  Interrupts off, no lock. */
void qi_frame_relieve(void);
/* All that a CPU's stacks hold back to its blocks; returns how many there were.  That CPU is this one,
 * or quiet; interrupts off, no lock. */
unsigned qi_frame_drain_cpu(unsigned cpu);
/* At boot: memory for the stacks of all CPUs; their limits, once the zones are filled. */
enum quire_status qi_frame_stacks_alloc(struct quire_memmap *m);
void qi_frame_stacks_init(void);

/* ---- zero.c: frames that were cleared in advance ---- */

extern uint32_t qi_zero_used; /* somebody cleared frames in advance; atomic */
void qi_zero_init(void);
/* A clear frame of order 0 for this CPU's node, as quire_page_alloc() makes it; NULL: none at hand. */
struct quire_page *qi_zero_take(quire_gfp gfp);
/* All of them back to their blocks, but for what other CPUs have at hand; returns how many there were.
 * Contract of qi_frame_drain_cpu(). */
unsigned qi_zero_drain(unsigned cpu);
struct qi_zero_count {
    uint64_t free;          /* frames here now */
    uint64_t allocs, frees; /* frames that went out to callers, and that came in */
};
struct qi_zero_count qi_zero_count(const struct qi_zone *z);
/* F9; adds how many there are to *frames.  Allocator quiet. */
bool qi_zero_verify(const struct qi_zone *z, uint64_t *frames);

/* ---- attach.c ---- */

void qi_attached_init(void);
/* The last holder of a block with something attached lets go: its kind's destructor was called; false: it
 * has none. */
bool qi_attached_put(struct quire_page *head, unsigned refs);
/* A block with something attached is freed: only a kind is forgotten. */
void qi_attached_free(struct quire_page *head, unsigned order);
/* Tails of the block cannot be written. */
bool qi_map_shared(const struct quire_page *head);

/* ---- deferred.c ---- */

/* Chunks of memory that nobody has begun to take over (quire_frame_deferred_step()). */
extern uint64_t qi_deferred_left;

/* ---- marks.c ---- */

/* The marks and reserves of all zones, from what they manage now.  No lock. */
void qi_frame_watermarks(void);
/* What the high mark is raised by at this moment. */
uint64_t qi_zone_boost(const struct qi_zone *z);
/* A pageblock of one type was broken into for another.  Zone locked. */
void qi_zone_stolen(struct qi_zone *z);

/* ---- tune.c ---- */

extern struct quire_frame_tunables qi_tune; /* each word atomic */
void qi_tune_init(void);

/* ---- pressure.c ---- */

void qi_pressure_init(void);
/* why: enum quire_pressure; to be told by qi_pressure_tell().  Any lock. */
void qi_pressure_note(struct qi_zone *z, unsigned why);
extern uint32_t qi_pressure_noted;
/* Interrupts as the caller of the library had them. */
void qi_pressure_tell(void);
void qi_pressure_look(struct qi_zone *z);
/* Frames have left the zone.  Interrupts off, no lock. */
static inline void qi_zone_taken(struct qi_zone *z)
{
    if (QI_UNLIKELY(qi_load_relaxed(&z->pressure) ||
                    qi_load_relaxed(&z->free) < qi_load_relaxed(&z->wmark[QI_MARK_LOW])))
        qi_pressure_look(z);
}
/* What is set aside goes back to its pageblock; false: nothing was.  Zone locked. */
bool qi_reserve_release(struct qi_zone *z);
/* A block of what is set aside, whose struct pages are as in a bitmap; NULL: none.  Zone locked. */
struct quire_page *qi_reserve_take(struct qi_zone *z, unsigned order);
/* Some frames of the node may have become free.  Interrupts as the caller of the library had them. */
bool qi_reclaim_local(unsigned node, unsigned order, quire_gfp gfp);

/* ---- zonelist.c ---- */

/* table: SLIT, or NULL. */
void qi_zonelists_init(const uint8_t *table);
/* Zones that have got memory for the first time come in; none leaves.  Beside readers. */
void qi_zonelists_update(void);

/* After what zones manage has changed: the limits of their stacks, and which are the fast ones. */
void qi_frame_stacks_update(void);

/* Until every CPU that might have seen frames that are absent now has looked away. */
void qi_wait_for_lookers(void);

/* ---- device.c ---- */

#define QI_DEVICES 16u /* ranges of devices' memory, at most */

void qi_device_init(void);
/* The frame is a device's.  The caller looks, or holds it. */
bool qi_device_has(uint64_t pfn);
/* Some of the frames are a device's. */
bool qi_device_meets(uint64_t start, uint64_t end);
/* The last reference of a device's page goes; it has refs as given.  Context of the caller. */
void qi_device_page_freed(struct quire_page *p, unsigned refs);

/* ---- node.c, policy.c ---- */

/* At the end of boot: what is known of nodes; default weights. */
void qi_node_init(const struct quire_boot *b);
void qi_policy_init(void);
uint64_t qi_nodes_with_memory(void);
/* The nearest node of the mask, the node itself first; QUIRE_NODE_ANY: the mask is empty. */
unsigned qi_node_nearest(unsigned from, uint64_t mask);
/* To the node's memory from its nearest CPUs; 0: not known. */
uint32_t qi_node_best_bandwidth(unsigned node);
uint64_t qi_policy_hits(unsigned node);

/* ---- layout.c: at boot, one CPU ---- */

/* What the caller of quire_frame_init() wants to be MOVABLE. */
enum quire_status qi_layout_init(const struct quire_boot *b);
/* The zone type of a frame of the node; *end: the first frame above that may have another. */
unsigned qi_layout_zone(unsigned node, uint64_t pfn, uint64_t *end);
/* The same for memory that is nowhere cut off for MOVABLE. */
unsigned qi_layout_address(uint64_t pfn, uint64_t *end);
/* All memory of the node is MOVABLE. */
bool qi_layout_movable(unsigned node);
/* Where the allocator's own data should lie: not in MOVABLE zones; *node may change.  0: anywhere. */
uint64_t qi_layout_limit(unsigned *node);

/* ---- init.c ---- */

enum quire_status qi_boot_alloc(struct quire_memmap *m, uint64_t len, unsigned node,
                                const char *owner, void **out);

#endif
