/*
 * pt/pt.h - page tables for the layers above: look up, create, walk, split, move, free.
 *
 * A tree is named by the physical address of its root.  Concurrency: any number of CPUs may look
 * up and create entries at once (with compare-and-swap); split may run beside them; the calls
 * marked "exclusive" need every other user of those addresses kept out (the space's write lock).
 * Tables disappear only in exclusive calls, and only through a gather (gather.h).
 *
 * Levels: 0 is the table of 4 KiB leaves, 1 of 2 MiB slots, 2 of 1 GiB slots, QI_PT_TOP the root.
 */
#ifndef QI_PT_PT_H
#define QI_PT_PT_H

#include <quire/pt.h>

#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/check.h"
#include "x86_64/format.h"

struct qi_gather;

/* ---- One entry, shared with other CPUs and the hardware ---- */

static inline qi_pte qi_pte_load(const qi_pte *p) { return QI_PTE(qi_load_relaxed(&p->v)); }
/* The same, for an entry that is followed, to a table or to the page of a leaf: what was written to
 * either before it was linked is seen.  (A dependency would do; compilers offer none.  On x86 both
 * are plain loads.) */
static inline qi_pte qi_pte_load_link(const qi_pte *p) { return QI_PTE(qi_load_acquire(&p->v)); }
/* Publishes what was written to the frame before.  Not over an entry that hardware may be marking
 * accessed or dirty: use xchg or cas for those. */
static inline void qi_pte_set(qi_pte *p, qi_pte e) { qi_store_release(&p->v, e.v); }
static inline qi_pte qi_pte_xchg(qi_pte *p, qi_pte e) { return QI_PTE(qi_xchg_acqrel(&p->v, e.v)); }
/* Install e if *p is still *expected; else *expected is what is there. */
static inline bool qi_pte_cas(qi_pte *p, qi_pte *expected, qi_pte e)
{
    return qi_cas_acqrel(&p->v, &expected->v, e.v);
}
/* Make the leaf qi_pte_mkshared() in place; accessed and dirty survive. */
static inline void qi_pte_mkshared_at(qi_pte *p)
{
    qi_fetch_and_acqrel(&p->v, ~(QI_X86_W | QI_PTE_OWN));
}

/* ---- Look up ---- */

static inline qi_pte *qi_pt_entries(q_pa table) { return quire_ptr_of_pa(table); }

/*
 * The slot of va at level want, or the huge leaf above it; *level says which.  NULL: a table on the
 * way is missing.  The slot itself may be empty.  va canonical.  Any context.
 */
static QI_ALWAYS_INLINE qi_pte *qi_pt_slot(q_pa root, uint64_t va, unsigned want, unsigned *level)
{
    qi_pte *p = &qi_pt_entries(root)[qi_pt_index(va, QI_PT_TOP)];

#pragma GCC unroll 8
    for (unsigned l = QI_PT_TOP; l > want; l--) {
        qi_pte e = qi_pte_load_link(p);

        if (QI_UNLIKELY(!qi_pte_leads(e))) {
            *level = l;
            return !qi_pte_none(e) && l <= QI_PT_LEAF_MAX ? p : NULL;
        }
        p = &qi_pt_entries(qi_pte_pa(e))[qi_pt_index(va, l - 1)];
    }
    *level = want;
    return p;
}

/* The level-0 slot of va, or the huge leaf that covers it, or NULL. */
static QI_ALWAYS_INLINE qi_pte *qi_pt_lookup(q_pa root, uint64_t va, unsigned *level)
{
    return qi_pt_slot(root, va, 0, level);
}

/* As qi_pt_slot, making the missing tables.  OK: *slot and *level are set (*level > want: a huge
 * leaf is there).  NO_MEMORY: nothing usable; tables made so far stay (empty; freed with the
 * range).  Parallel callers agree on one table. */
enum quire_status qi_pt_slot_alloc_slow(q_pa root, uint64_t va, unsigned want, qi_pte **slot,
                                        unsigned *level);
static QI_ALWAYS_INLINE enum quire_status qi_pt_slot_alloc(q_pa root, uint64_t va, unsigned want,
                                                           qi_pte **slot, unsigned *level)
{
    *slot = qi_pt_slot(root, va, want, level);
    if (QI_LIKELY(*slot != NULL))
        return QUIRE_OK;
    return qi_pt_slot_alloc_slow(root, va, want, slot, level);
}
/* The level-0 slot of va (or a huge leaf above it), creating tables. */
static QI_ALWAYS_INLINE enum quire_status qi_pt_lookup_alloc(q_pa root, uint64_t va, qi_pte **slot,
                                                             unsigned *level)
{
    return qi_pt_slot_alloc(root, va, 0, slot, level);
}

/* ---- Walk a range ---- */

/* A run of entries inside one table. */
struct qi_span {
    qi_pte *ptes;     /* the entry of va */
    unsigned n;       /* entries; 1 for a huge leaf */
    unsigned level;   /* 0, or that of the huge leaf */
    uint64_t va, end; /* what the run covers inside the range asked for; for a huge leaf possibly
                       * less than the leaf: then it must be split (or left) as a whole */
};

/*
 * The first run at or after *cursor and below end: all slots of one level-0 table inside the range
 * (empty ones too), or one huge leaf.  Missing tables are skipped at full stride.  Sets *cursor to
 * s->end; false: nothing more.  To visit a run again (after a split) set *cursor to s->va.
 *
 *     for (uint64_t at = start; qi_pt_next_span(root, &at, end, &s);)
 *         for (unsigned i = 0; i < s.n; i++)
 *             ... s.ptes[i], s.va + (i << 12) ...
 */
bool qi_pt_find_span(q_pa root, uint64_t *cursor, uint64_t end, struct qi_span *s);
static inline bool qi_pt_next_span(q_pa root, uint64_t *cursor, uint64_t end, struct qi_span *s)
{
    return *cursor < end && qi_pt_find_span(root, cursor, end, s);
}

/* True if [s->va, s->end) is all of a huge leaf. */
static inline bool qi_span_whole(const struct qi_span *s)
{
    return s->end - s->va == QI_PT_SIZE(s->level);
}

/* ---- Tables ---- */

/* A zeroed frame flagged QUIRE_PG_TABLE with one reference, or NULL.  Task or no-sleep context. */
struct quire_page *qi_pt_table_alloc(void);
/* Give back a table that no CPU and no entry can reach (never linked, or after the flush). */
void qi_pt_table_free(struct quire_page *table);

/* A root for a space: the kernel half is the kernel's, the user half empty. */
enum quire_status qi_pt_root_alloc(q_pa *root);
/* The user half is empty again (qi_pt_free_range) and no CPU has it loaded (qi_tlb_retire). */
void qi_pt_root_free(q_pa root);
/* Tables of the user half and the root itself. */
uint64_t qi_pt_tables(q_pa root);

/*
 * Replace the leaf at slot (level 1 or 2, value old) by a table of 512 smaller leaves with the
 * same frames, protection, accessed, dirty and software bits.  table: from qi_pt_table_alloc(),
 * so that nothing can fail after something else has changed.  False: *slot is no longer old but for
 * accessed and dirty; nothing changed, the caller keeps table.  True: table belongs to root; the
 * caller flushes one page of the range before it relies on the small leaves (old and new
 * translate alike until then).
 */
bool qi_pt_split(q_pa root, qi_pte *slot, qi_pte old, unsigned level, struct quire_page *table);

/*
 * Move what the slot of level (1 or 2) at from holds, a table with all below it or a leaf, to the
 * empty slot at to.  Both aligned to the level's size.  Exclusive; the caller flushes the old
 * range (qi_gather_range and qi_gather_tables).  NOT_FOUND: nothing at from; EXISTS: to is occupied
 * or either lies under a bigger leaf (move entries one by one); NO_MEMORY.
 */
enum quire_status qi_pt_move(q_pa root, uint64_t from, uint64_t to, unsigned level);

/*
 * Free the tables that only [start, end) used, through the gather.  Its leaves are clear already.
 * floor: end of the mapping below (0: none); ceiling: start of the mapping above (or the end of the
 * user half): a table that reaches beyond either stays.  floor <= start, end <= ceiling. Exclusive.
 * A few instructions when no table lies inside.
 */
void qi_pt_free_tables(struct qi_gather *g, q_pa root, uint64_t start, uint64_t end, uint64_t floor,
                       uint64_t ceiling);
static inline void qi_pt_free_range(struct qi_gather *g, q_pa root, uint64_t start, uint64_t end,
                                    uint64_t floor, uint64_t ceiling)
{
    const uint64_t size = QI_PT_SIZE(1);
    uint64_t lo = qi_align_down(start, size), hi = qi_align_up(end, size);

    if ((lo < floor ? lo + size : lo) < (hi > ceiling ? hi - size : hi))
        qi_pt_free_tables(g, root, start, end, floor, ceiling);
}

/* ---- The kernel's own table ---- */

/* The root given to quire_pt_init(). */
q_pa qi_kpt_root(void);

/*
 * Map n contiguous frames at va (both 4 KiB units; 2 MiB and 1 GiB leaves where all is aligned and
 * huge is allowed by max_leaf_shift 12, 21 or 30).  prot without QUIRE_USER.  INVALID: write and
 * execute together, USER, not canonical or not in the kernel half; EXISTS: something is mapped;
 * NO_MEMORY.  On failure nothing is mapped.  Parallel calls for different ranges are fine.
 * No flush is needed: nothing was there (and a range is flushed before it is reused).
 */
enum quire_status qi_kpt_map(q_kva va, q_pfn pfn, uint64_t n, unsigned prot,
                             enum quire_cache_type cache, unsigned max_leaf_shift);
/* The same for n single pages, cached. */
enum quire_status qi_kpt_map_pages(q_kva va, struct quire_page *const *pages, size_t n,
                                   unsigned prot);
/* Clear all entries of [va, va + len).  Holes are fine; a huge leaf only as a whole (else panic).
 * The frames stay the caller's: he frees them, and reuses the range, only after qi_kpt_flush().
 * Tables of kernel windows stay for reuse. */
void qi_kpt_unmap(q_kva va, uint64_t len);
/* No CPU holds a translation of [va, va + len) any more.  Not in interrupts. */
void qi_kpt_flush(q_kva va, uint64_t len);

/* prot is one that a kernel mapping may have: something is allowed, not write and execute, not USER. */
bool qi_kpt_prot_ok(unsigned prot);
/*
 * The level-0 entries of n pages at va, in whole pages of the kernel half, if they are in one table,
 * which is made if it is missing; NULL: they are not, there is no memory, a larger leaf is there.  They stay
 * where they are until qi_kpt_drop_tables() of that address.
 */
qi_pte *qi_kpt_slots(q_kva va, size_t n);
/* Fill the empty entries, or clear them: what qi_kpt_map_pages() and qi_kpt_unmap() do, without the walk. */
static inline void qi_kpt_fill(qi_pte *slots, struct quire_page *const *pages, size_t n,
                               qi_pte template)
{
    for (size_t i = 0; i < n; i++) {
        QI_ASSERT(qi_pte_none(qi_pte_load(&slots[i])));
        qi_pte_set(&slots[i], qi_pte_leaf(template, quire_pfn_of_page(pages[i]), 0));
    }
}
static inline void qi_kpt_clear(qi_pte *slots, size_t n)
{
    for (size_t i = 0; i < n; i++)
        qi_pte_set(&slots[i], QI_PTE(0));
}
/* Free the empty tables of level 0 that translate 2 MiB of [va, va + len) each, after a flush, so that large
 * leaves can stand there.  The range is the caller's, and nothing in it is mapped.  Task context. */
void qi_kpt_drop_tables(q_kva va, uint64_t len);
/*
 * Give all mappings of [va, va + len), in whole pages, another protection, flushed; larger leaves that the
 * range cuts are split.  INVALID: !qi_kpt_prot_ok(); NO_MEMORY for tables: no protection has changed.
 * The range is the caller's.  Task context.
 */
enum quire_status qi_kpt_protect(q_kva va, uint64_t len, unsigned prot);

#endif
