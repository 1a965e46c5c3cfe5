/*
 * held.h - what the files with operations on kernel memory share (memory.c).
 */
#ifndef SIM_HELD_H
#define SIM_HELD_H

#include "../../ports/sim/monitor.h"
#include "world.h"

/* Which flags an operation's argument means; a pattern of the worker's, not 0. */
quire_gfp memory_gfp(uint32_t arg);
uint64_t memory_pattern(struct worker *w);
/* The slot, which is free, holds n bytes at p, filled. */
void memory_hold_bytes(struct worker *w, struct held *h, void *p, unsigned n, enum held_kind kind);

/* ---- frames.c ---- */
/* A page is looked at at its start and its end. */
void frame_fill(struct quire_page *page, uint64_t pattern);
void frame_check(const struct quire_page *page, uint64_t pattern);
/* What it holds is nobody's any more. */
bool frame_is_bad(const struct quire_page *page);
void frame_give_block(struct held *h);
void frame_give_pages(struct held *h);

/* ---- heap.c ---- */
void object_give(struct held *h);
unsigned heap_object_bytes(unsigned cache);
/* It has red zones and poison in any mode. */
bool heap_is_guarded(unsigned cache);
void heap_setup(void);
void heap_teardown(void);

/* ---- readers.c ---- */
void readers_setup(void);
void readers_teardown(void);

/* ---- watch.c ---- */
void watch_setup(void);

/* ---- misuse.c ---- */
void misuse_setup(void);
/* The library has found damage in the heap while it is in use: right, if it was planted, and was named. */
void misuse_seen_damage(void);

/* ---- areas.c ---- */
void kv_check(const struct held *h, unsigned bytes);
void percpu_give(struct held *h);

/* ---- guards.c ---- */
void guards_setup(void);
void guards_op(unsigned at);
void guards_teardown(void);

/* ---- arena.c ---- */
void piece_give(struct held *h);
void arena_setup(void);
void arena_teardown(void);

/* Each gives true if the operation was its, whether or not what the slot holds let it be done. */
bool do_frame_op(struct worker *w, const struct sim_op *op, struct held *h);
bool do_heap_op(struct worker *w, const struct sim_op *op, struct held *h);
bool do_reader_op(struct worker *w, const struct sim_op *op, struct held *h);
bool do_watch_op(struct worker *w, const struct sim_op *op);
bool do_arena_op(struct worker *w, const struct sim_op *op, struct held *h);
bool do_misuse_op(struct worker *w, const struct sim_op *op);
bool do_area_op(struct worker *w, const struct sim_op *op, struct held *h);

#endif
