/*
 * mmu.h - the memory management units of the simulated CPUs: page walks, a TLB and walk caches for
 * each CPU, and an oracle that knows when one of them has outlived what it refers to.
 *
 * The model is the weakest hardware that the manuals allow: anything may be cached until it is
 * flushed, and may be dropped or filled at any time.  Which of it happens is drawn from
 * SIM_RANDOM_TLB.
 *
 * How a run uses it:
 *   mmu_reset()                           before anything else
 *   mmu_frame_allocated/_freed(),         from QPORT_EVENT: FRAME_ALLOC (after the fact),
 *   mmu_table_freed()                     FRAME_FREE and TABLE_FREE (before it)
 *   mmu_load_root(), mmu_flush_*()        from the hooks of the port
 *   mmu_access()                          for each access of a simulated task; not over the end of
 *                                         a page
 *   mmu_speculate()                       whenever, for any address
 *
 * Findings (sim_fail): stale-tlb, stale-walk-cache, stale-root (something is freed that a CPU still
 * has cached, or may use, or is about to load), freed-frame, freed-table (a walk went through an entry that leads to a
 * freed frame), bad-root.
 */
#ifndef SIM_MMU_H
#define SIM_MMU_H

#include "sim.h"
#include "walk.h"

struct mmu_config {
    struct walk_machine machine;
    unsigned cpus;         /* 1..SIM_MAX_CPUS */
    uint64_t frames;       /* physical memory: frames 0..frames-1 are watched */
    unsigned tlb_entries;  /* a CPU; 0: drawn from 64..256 */
    unsigned walk_entries; /* a CPU; 0: 16 */
    /* one access in so many also fills a neighbour's translation on speculation; 0: never */
    unsigned speculate_one_in;
    /* one hit in so many finds its entry gone: it may go at any time; 0: never */
    unsigned forget_one_in;
    /* addresses [low, high] whose mappings outlive the frames: the direct map; high 0: none */
    uint64_t lasting_low, lasting_high;
};

/* Empty TLBs, all frames in use, no root loaded; what a former configuration had is given back. */
void mmu_reset(const struct mmu_config *config);
/* Give all memory back. */
void mmu_fini(void);

/* ---- Accesses ---- */

struct mmu_reply {
    uint64_t pa;
    void *host;      /* where the simulated byte is */
    unsigned memory; /* memory type bits, as struct walk has them */
    unsigned level;  /* of the leaf; on a fault, where the walk ended */
    bool hit;        /* from the TLB */
};

/* Translate va for an access of this CPU.  Anything but MMU_OK is an exception; *reply then has
 * only level.  May be called for any address. */
enum mmu_result mmu_access(unsigned cpu, uint64_t va, enum mmu_kind kind, bool user,
                           struct mmu_reply *reply);
/* What the CPU may do at any time on its own: walk va with the loaded root and keep the result. */
void mmu_speculate(unsigned cpu, uint64_t va);
/* What the tables say now, nothing cached and nothing changed; w is filled in. */
enum mmu_result mmu_walk(unsigned cpu, uint64_t va, enum mmu_kind kind, bool user, struct walk *w);

/* ---- What the port's hooks do; they may drop more than is asked, never less ---- */

/* Translate through root, as asid.  keep: what is cached of asid stays (or else its non-global
 * entries go). */
void mmu_load_root(unsigned cpu, uint64_t root, unsigned asid, bool keep);
/* Arm: TTBR1_EL1. */
void mmu_load_high_root(unsigned cpu, uint64_t root);
/* The page, 4 KiB or huge, that contains va: entries of asid and global ones.  Of the walk caches,
 * x86 drops all of asid (INVLPG), Arm those on the way to va (TLBI VAE1), RISC-V none
 * (SFENCE.VMA with an address orders leaf entries only). */
void mmu_flush_page(unsigned cpu, uint64_t va, unsigned asid);
/* All non-global entries of asid. */
void mmu_flush_asid(unsigned cpu, unsigned asid);
void mmu_flush_all(unsigned cpu);

/*
 * A lazy CPU has a root loaded but promises to use no user address (one in the lower half), so its
 * entries may outlive the frames; its walk caches and its root may not outlive the tables.  An
 * access through such an entry is a finding, and so is becoming active with one.  To be set before
 * the library is told that the space is not used, and cleared after the next activation.
 */
void mmu_set_lazy(unsigned cpu, bool lazy);
/* From here on the CPU may use whatever it has cached of the loaded asid: nothing of it may be
 * stale.  For use after the loading of a root with its flushes is complete. */
void mmu_check_cpu(unsigned cpu);

/* ---- The oracle ---- */

void mmu_frame_allocated(uint64_t pfn, unsigned order);
/* No CPU may use an entry that translates to one of these frames. */
void mmu_frame_freed(uint64_t pfn, unsigned order);
/* No CPU may have the table in a walk cache or loaded as a root. */
void mmu_table_freed(uint64_t pfn);

/* The counters agree with the entries, and the entries are possible; sim_fail("mmu") otherwise. */
void mmu_verify(void);

/* Since mmu_reset, over all CPUs. */
struct mmu_stats {
    uint64_t accesses, hits, walks, speculations, fills, faults, spurious, flushes, checks;
};
struct mmu_stats mmu_stats(void);

/* Lines for a report (sim_note): what the CPU has cached, and its last flushes. */
void mmu_report_cpu(unsigned cpu);

#endif
