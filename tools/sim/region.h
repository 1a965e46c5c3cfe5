/*
 * region.h - a worker's region of a space: what the files of operations on spaces share.
 */
#ifndef SIM_REGION_H
#define SIM_REGION_H

#include "world.h"

#define REGIONS 0x7f0000000000ull
#define BREAK   0x10000000ull
#define RW      (QUIRE_READ | QUIRE_WRITE)

/* Advice, numbered as in Linux. */
enum { DONTNEED = 4, FREE = 8, HUGEPAGE = 14 };

static inline uint64_t region_va(const struct worker *w, unsigned page)
{
    return REGIONS + ((uint64_t)w->place * world.region + page) * PAGE;
}

static inline bool page_has_object(const struct mpage *p) { return p->backing >= SHARED; }
static inline bool page_is_private_file(const struct mpage *p)
{
    return p->backing == FILE_PRIVATE || p->backing == SHARED_PRIVATE;
}
static inline bool page_is_mapped(const struct mpage *p) { return p->backing != NOTHING; }
static inline bool page_is_hole(const struct mpage *p) { return p->backing == NOTHING; }
static inline bool page_is_locked(const struct mpage *p) { return p->locked; }
static inline bool page_is_not_anon(const struct mpage *p) { return p->backing != ANON; }

struct file *page_file(struct worker *w, const struct mpage *p);
bool page_beyond(struct worker *w, const struct mpage *p);
/* The words that a read of the page gives; of a page that is not beyond its object. */
uint64_t *page_words(struct worker *w, struct mpage *p);
/* The pages that an operation names by its first two arguments. */
void region_range(const struct sim_op *op, unsigned *first, unsigned *n);
bool region_any(const struct worker *w, unsigned first, unsigned n,
                bool (*is)(const struct mpage *));
/* The library's answer is not the model's. */
_Noreturn void region_wrong(struct worker *w, const char *what, unsigned page,
                            enum quire_status got, const char *expected);
/* Unmap; for sure: again until there is memory enough for it. */
void region_clear(struct worker *w, unsigned first, unsigned n);
void region_clear_for_sure(struct worker *w, unsigned first, unsigned n);
/* policy.c: the range's private pages come from elsewhere. */
void region_policy(struct worker *w, const struct sim_op *op);
/* Whether the operation may have been cut short. */
bool region_uncertain(const struct worker *w);

/* ---- Access ---- */

/* Another worker of the group, by chance; NULL: there is none. */
const struct worker *region_neighbour(struct worker *w);
/* Access a word as a program does, with faults, until it is done or the answer is an error. */
enum quire_status region_reach(struct worker *w, uint64_t va, enum sim_access kind,
                               uint64_t *value);
/* What the access must answer, but for what fails by itself. */
enum quire_status page_expected(struct worker *w, const struct mpage *p, unsigned right);
/* True: the access was done; false: it failed, as it may. */
bool region_judge(struct worker *w, unsigned page, enum quire_status st, enum quire_status want,
                  const char *what);
/* A private page of a file has content of its own from now on. */
void region_own(struct worker *w, unsigned page);
/* The worker has written a word. */
void region_wrote(struct worker *w, unsigned page, unsigned which, uint64_t value);
/* A word was read: it must be what the model has. */
void region_compare(struct worker *w, unsigned page, unsigned which, uint64_t got, const char *how);
/* Look at one page of o, who goes on meanwhile: whatever is there, he has written it, or nobody. */
void region_peek(struct worker *w, const struct worker *o, unsigned page);

/* ---- Held pages: hold.c ---- */

/* The page of m, whose model forgets it, stays the device's. */
void hold_outlives(struct worker *w, const struct mspace *m);
/* The device looks once more at what it has; it gives it back. */
void hold_check(struct worker *w);
void hold_end(struct worker *w);

/* ---- Operations; the first three give true if it was their own ---- */

bool do_mapping_op(struct worker *w, const struct sim_op *op);
bool do_touch_op(struct worker *w, const struct sim_op *op);
bool do_hold_op(struct worker *w, const struct sim_op *op);
void do_duel(struct worker *w, uint32_t at, unsigned kind);

#endif
