/*
 * tlb.h - inside the memory management units: what is cached, and by which rules it goes.  Shared
 * by mmu.c (accesses), tlb.c (entries and flushes) and stale.c (the oracle).
 */
#ifndef SIM_TLB_H
#define SIM_TLB_H

#include "mmu.h"

/* Beyond all memory, in every format: a walk from there is a bus error. */
#define NO_ROOT 0x000ffffffffff000ull

enum { FLUSH_HISTORY = 8 };

/* Where an entry comes from, for reports. */
struct origin {
    uint64_t point; /* sim_points() */
    unsigned task;
    enum walk_mode mode;
    uint64_t entry_pa, entry; /* the table entry that it was made of */
};

struct tlb_entry {
    bool valid, global, dirty;
    bool counted;       /* in the counters of frames */
    bool stale;         /* its frame was freed while the entry could not be used */
    uint8_t shift;      /* what is cached: the leaf or a fragment of it */
    uint8_t leaf_shift; /* what the tables had: a flush of any part drops all */
    uint8_t perms;      /* WALK_PERM */
    uint8_t memory;
    unsigned asid;
    uint64_t va, pa;      /* aligned to shift */
    uint32_t generation;  /* of the first frame, at the fill */
    uint64_t stale_point; /* when stale was set */
    struct origin origin;
};

/* Reading starts at table, for addresses that agree with va above level + 1. */
struct walk_entry {
    bool valid, stale;
    uint8_t level; /* of the entries of the table */
    unsigned asid;
    uint64_t va, table;
    uint32_t inherited;
    struct origin origin;
};

enum flush_kind { FLUSHED_PAGE, FLUSHED_ASID, FLUSHED_ALL, LOADED_KEEP, LOADED_DROP, LOADED_HIGH };

struct flush {
    enum flush_kind kind;
    unsigned asid, task;
    uint64_t what; /* address or root */
    uint64_t point;
};

struct mmu_cpu {
    uint64_t root, high_root; /* NO_ROOT: none loaded */
    unsigned asid;
    bool lazy;
    unsigned number;
    struct tlb_entry *tlb;
    unsigned tlb_used; /* no entry from here on is valid */
    struct walk_entry *walks;
    uint64_t flushes;
    struct flush flush[FLUSH_HISTORY]; /* a ring: the last is at flushes - 1 */
};

/* Counters, so that freeing a frame that nobody has cached looks at nothing else.  An entry counts
 * where its size is: in its frame, its 2 MiB or its 1 GiB. */
struct counters {
    uint32_t *page, *huge, *giant;
    uint32_t *pages_in_huge; /* sum of page over 2 MiB */
    uint32_t *table;         /* walk cache entries that refer to this table */
    uint32_t *generation;    /* odd: free */
};

struct mmu {
    struct mmu_config config;
    struct mmu_cpu cpu[SIM_MAX_CPUS];
    struct counters count;
    struct mmu_stats stats;
};
extern struct mmu mmu;

static inline uint64_t page_base(uint64_t x, unsigned shift) { return x >> shift << shift; }
static inline bool is_user_half(uint64_t va) { return !(va >> 63); }
/* The CPU has promised not to use the entry now, or cannot. */
static inline bool usable(const struct mmu_cpu *c, unsigned asid, bool global, uint64_t va)
{
    return global || (asid == c->asid && !(c->lazy && is_user_half(va)));
}

/* ---- tlb.c ---- */

/* An entry for va that the CPU may use now: any of them if there are several; or NULL. */
struct tlb_entry *tlb_find(struct mmu_cpu *c, uint64_t va);
/* Keep the leaf that w found, or a part of it; or not. */
void tlb_fill(struct mmu_cpu *c, const struct walk *w);
/* Drop all that would translate va now. */
void tlb_drop_address(struct mmu_cpu *c, uint64_t va);
/* Keep some of the tables that w went through. */
void walks_fill(struct mmu_cpu *c, const struct walk *w);
/* Put w where a cached table lets it begin; false: at the root then. */
bool walks_start(struct mmu_cpu *c, struct walk *w);

/* ---- stale.c ---- */

void count_entry(const struct tlb_entry *e, int by);
void count_table(uint64_t table, int by);
uint32_t frame_generation(uint64_t pa);
/* The walk read tables, and found a leaf, that are in use. */
void check_walk(struct mmu_cpu *c, const struct walk *w);
/* The root that is to be loaded is a table in use. */
void check_root(struct mmu_cpu *c, uint64_t root);
_Noreturn void fail_stale_entry(struct mmu_cpu *c, const struct tlb_entry *e, const char *why);
_Noreturn void fail_stale_walk(struct mmu_cpu *c, const struct walk_entry *e, const char *why);
bool lasting(uint64_t va);

#endif
