/*
 * pt/internal.h - shared between the files of this folder only.
 */
#ifndef QI_PT_INTERNAL_H
#define QI_PT_INTERNAL_H

#include "gather.h"

/* Where tables come from.  drop: take back a table that another CPU made superfluous; never called
 * where only one CPU makes tables (boot), and may be NULL then. */
struct qi_table_maker {
    bool (*make)(void *ctx, q_pa *out);
    void (*drop)(void *ctx, q_pa table);
    void *ctx;
};

/* Frames of the frame allocator, counted by quire_pt_pages(). */
extern const struct qi_table_maker qi_frame_tables;

/* qi_pt_slot, making tables with m.  made: counts the tables linked (may be NULL). */
enum quire_status qi_pt_slot_make(q_pa root, uint64_t va, unsigned want,
                                  const struct qi_table_maker *m, qi_pte **slot, unsigned *level,
                                  uint64_t *made);

/*
 * The first entry at or after *va and at or below last that is either a slot of level want or a
 * non-empty entry above it that leads nowhere (a leaf).  Slots of level 0 count even if empty,
 * those of higher levels only if not.  *va moves to the start of the entry if that lies ahead.
 */
bool qi_pt_next(q_pa root, uint64_t *va, uint64_t last, unsigned want, qi_pte **slot,
                unsigned *level);

/* Free a chain of tables linked through quire_page.owner. */
void qi_pt_tables_free(struct quire_page *chain);

/* Forget everything (a new machine); count tables that boot made. */
void qi_pt_reset(uint64_t boot_tables);
void qi_tlb_reset(void);

/* shootdown.c: word w of the CPUs that take part in shootdown. */
uint64_t qi_tlb_online(unsigned w);
/* kernel.c: the entry of quire_pt_guard(). */
void qi_kpt_guard(q_pa root, uint64_t va, bool closed);
/* guard.c: a new machine; this CPU, with interrupts off, comes online, or takes a shootdown interrupt. */
void qi_guard_reset(void);
void qi_guard_online(unsigned cpu);
void qi_guard_interrupt(unsigned cpu);

#endif
