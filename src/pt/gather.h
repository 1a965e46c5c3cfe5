/*
 * pt/gather.h - taking mappings away: the TLB state of a space, shootdown, and the gather that
 * makes "clear, flush, then free" the only order there is.
 */
#ifndef QI_PT_GATHER_H
#define QI_PT_GATHER_H

#include "pt.h"

/* ---- Which CPUs may hold translations of a space ---- */

#define QI_CPU_WORDS ((QUIRE_MAX_CPUS + 63) / 64)

/* The part of a space that shootdown knows.  Embedded in it; outlives every activation. */
struct qi_tlb {
    q_pa root;
    uint32_t asid;                 /* 0 while the port has no address-space ids */
    uint64_t gen;                  /* atomic; flushes asked for so far */
    uint64_t active[QI_CPU_WORDS]; /* atomic; CPUs that have root loaded, lazy ones too */
};

void qi_tlb_init(struct qi_tlb *t, q_pa root);

/* This CPU translates through t from now on; it sees every change made before any flush that it
 * was not asked to take part in.  No-sleep context, preemption off. */
void qi_tlb_activate(struct qi_tlb *t);
/* This CPU needs no user addresses for now: it keeps the table loaded, but is not interrupted until
 * a table is freed; the next activate flushes what it missed.  Same context. */
void qi_tlb_lazy(void);
/* The state active (not lazy) on this CPU, or NULL. */
struct qi_tlb *qi_tlb_current(void);
/* No CPU has t loaded when this returns (lazy ones are asked to let go).  No CPU may be using it
 * actively.  Before qi_pt_root_free.  Not in interrupts. */
void qi_tlb_retire(struct qi_tlb *t);

/*
 * When it returns no CPU uses a translation of [start, end) of t that the tables no longer give.
 * tables: entries that led to tables were cleared or moved too.  Waits for the other CPUs
 * concerned; none is interrupted if only this one has t loaded, and nothing at all is done if none
 * has.  Task or no-sleep context, never in interrupts, no spin lock held that an interrupt handler
 * takes.
 */
void qi_tlb_flush(struct qi_tlb *t, uint64_t start, uint64_t end, bool tables);
static inline void qi_tlb_flush_page(struct qi_tlb *t, uint64_t va)
{
    qi_tlb_flush(t, va, va + QUIRE_PAGE_SIZE, false);
}
/* The same for all of t's addresses; no table was unlinked. */
void qi_tlb_flush_all(struct qi_tlb *t);

/* ---- The gather ---- */

#define QI_GATHER_FIRST 64
#define QI_GATHER_REF   1u /* in a slot: drop a reference only */

/* On the stack of one operation; used by one task. */
struct qi_gather {
    struct qi_tlb *tlb;
    uint64_t start, end; /* to flush; start >= end: nothing */
    bool tables;         /* tables were unlinked or moved */
    unsigned n, cap;     /* slots of the current batch */
    uintptr_t *slots;
    struct qi_gather_batch *batches; /* further batches, newest first */
    struct quire_page *freed_tables; /* linked through quire_page.owner */
    uint64_t flushes;                /* done so far */
    uintptr_t first[QI_GATHER_FIRST];
};

/* g->slots is full: get a further batch or, without memory, flush and free what there is. */
void qi_gather_more(struct qi_gather *g);

static inline void qi_gather_init(struct qi_gather *g, struct qi_tlb *tlb)
{
    g->tlb = tlb;
    g->start = ~(uint64_t)0;
    g->end = 0;
    g->tables = false;
    g->n = 0;
    g->cap = QI_GATHER_FIRST;
    g->slots = g->first;
    g->batches = NULL;
    g->freed_tables = NULL;
    g->flushes = 0;
}
/* [va, va + size) had entries that the hardware may have cached and that are now cleared or
 * weaker.  Before the qi_gather_page() of these addresses. */
static inline void qi_gather_range(struct qi_gather *g, uint64_t va, uint64_t size)
{
    if (va < g->start)
        g->start = va;
    if (va + size > g->end)
        g->end = va + size;
}
static inline void qi_gather_add_(struct qi_gather *g, uintptr_t tagged)
{
    g->slots[g->n++] = tagged;
    if (QI_UNLIKELY(g->n == g->cap))
        qi_gather_more(g);
}
/* After the flush, drop one mapping of page: a reference and one of maps, which the cleared
 * entry held, in one step (QUIRE_PAGE_ONE_MAPPING).  page: of order 0, or a head. */
static inline void qi_gather_mapping(struct qi_gather *g, struct quire_page *page)
{
    qi_gather_add_(g, (uintptr_t)page);
}
/* After the flush, drop one reference of page; maps stays as it is. */
static inline void qi_gather_page(struct qi_gather *g, struct quire_page *page)
{
    qi_gather_add_(g, (uintptr_t)page | QI_GATHER_REF);
}
/* After the flush, free this table; the entry that led to it is clear. */
void qi_gather_table(struct qi_gather *g, struct quire_page *table);
/* Entries that lead to tables changed although no table is freed (qi_pt_move). */
static inline void qi_gather_tables(struct qi_gather *g) { g->tables = true; }

/* Flush what is to be flushed, then free what was gathered.  The gather is empty again and may be
 * used on.  Not in interrupts.  Must be called, also if nothing was gathered. */
void qi_gather_finish(struct qi_gather *g);

#endif
