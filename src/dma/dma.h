/*
 * dma/dma.h - mappings, chains and slots, shared by the files of this folder.  dma.c has the theory.
 */
#ifndef QI_DMA_DMA_H
#define QI_DMA_DMA_H

#include <quire/dma.h>

#include "../base/bits.h"
#include "../sync/spin.h"

#define QI_DMA_MAGIC  0x51d3a001u /* in a device between init and fini */
#define QI_DMA_SLOTS  64u         /* of a chunk */
#define QI_DMA_DIRECT UINT32_MAX  /* as chunk: not bounced */

enum qi_dma_kind { QI_DMA_STREAM, QI_DMA_COHERENT };

/* Constant while it is in the table. */
struct qi_dma_mapping {
    struct qi_dma_mapping *next; /* in its chain: chain lock */
    struct quire_dma_device *dev;
    q_ba bus;
    uint64_t bytes;
    q_pa pa;             /* the memory, physically contiguous */
    uint32_t chunk;      /* of its slots, or QI_DMA_DIRECT */
    uint8_t slot, slots; /* first, number */
    uint8_t dir, kind;   /* enum quire_dma_direction, enum qi_dma_kind */
};

struct qi_dma_chain {
    struct qi_spin lock;
    struct qi_dma_mapping *first; /* lock */
};

/* A block of bounce slots. */
struct qi_dma_chunk {
    uint64_t free;  /* atomic; a bit for each slot */
    uint64_t valid; /* slots that exist */
    uint64_t seen;  /* verify's */
    q_pa pa;
};

struct qi_dma {
    struct qi_dma_chain *chains;
    uint32_t chain_shift; /* 64 - log2 of their number */
    struct qi_dma_chunk *chunks;
    uint32_t nchunks;
    struct quire_cache *cache; /* of mappings */
    struct qi_spin lock;       /* dma: devices */
    struct quire_dma_device *devices;
};
extern struct qi_dma qi_dma;

static inline uint32_t qi_dma_chains(void) { return 1u << (64 - qi_dma.chain_shift); }

/* ---- device.c ---- */

/* Panics unless dev is a device at this time. */
void qi_dma_check_device(const struct quire_dma_device *dev, const char *who);
/* How many bytes from pa on the device sees as one segment: 0 .. bytes; *bus is that of pa if not 0. */
uint64_t qi_dma_reach(const struct quire_dma_device *dev, q_pa pa, uint64_t bytes, q_ba *bus);
/* The longest segment that its limits allow, wherever. */
uint64_t qi_dma_segment_max(const struct quire_dma_device *dev);
/* "to device" and so on. */
const char *qi_dma_direction_name(unsigned dir);

/* ---- table.c ---- */

struct qi_dma_chain *qi_dma_chain_of(const struct quire_dma_device *dev, q_ba bus);
void qi_dma_table_add(struct qi_dma_mapping *m);
/* Out of the table; panics with what is there instead. */
struct qi_dma_mapping *qi_dma_table_take(const struct qi_dma_mapping *key, const char *who);
/* A copy of the streaming mapping that begins at key->bus, goes in key's direction and contains its
 * bytes from offset on; panics if there is none. */
struct qi_dma_mapping qi_dma_table_find(const struct qi_dma_mapping *key, uint64_t offset,
                                        const char *who);
/* Name what dev still has on the log, the first 8; their number. */
uint64_t qi_dma_table_report(const struct quire_dma_device *dev);

/* ---- pool.c ---- */

enum quire_status qi_dma_pool_init(uint32_t slots, uint64_t limit);
void qi_dma_pool_fini(void);
/* Where n successive bits of the word are set: a bit for each place that such a run begins. */
uint64_t qi_dma_runs(uint64_t word, unsigned n);
/* Slots for m->bytes in m->dev's reach: fills in bus, chunk, slot and slots; false: none. */
bool qi_dma_slots_take(struct qi_dma_mapping *m);
void qi_dma_slots_give(const struct qi_dma_mapping *m);
static inline uint64_t qi_dma_slot_bits(const struct qi_dma_mapping *m)
{
    return ~0ull >> (QI_DMA_SLOTS - m->slots) << m->slot;
}
static inline void *qi_dma_slot_ptr(const struct qi_dma_mapping *m)
{
    return quire_ptr_of_pa(Q_PA(qi_dma.chunks[m->chunk].pa.v + m->slot * QUIRE_DMA_SLOT));
}

/* ---- map.c ---- */

/* Panics unless all of it is memory that a device may use. */
void qi_dma_check_memory(const struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                         enum quire_dma_direction dir);
/* How much from pa on the device may use itself: qi_dma_reach, and no line of the cache is shared. */
uint64_t qi_dma_direct(const struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                       enum quire_dma_direction dir, q_ba *bus);
/* Make a mapping of memory that was checked; bus from qi_dma_direct, or filled in. */
enum quire_status qi_dma_map_direct(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                    enum quire_dma_direction dir, q_ba bus);
enum quire_status qi_dma_map_bounced(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                     enum quire_dma_direction dir, q_ba *bus);

#endif
