/*
 * slab/harden.h - what the modes of quire/harden.h share with the tiers of slab.c.
 */
#ifndef QI_HARDEN_H
#define QI_HARDEN_H

#include "shadow.h"
#include "slab.h"

/* ---- options.c ---- */
extern struct quire_heap_options qi_heap_options; /* constant after the start */
extern uint64_t qi_heap_secret;                   /* random; constant after the start */
/* First thing of quire_heap_init(). */
void qi_options_init(void);
/* A bijection of 64 bits under which neighbours have nothing in common. */
uint64_t qi_mix(uint64_t v);

/* What the modes add to the flags of a cache; one whose objects keep a constructor's state between uses
 * is neither filled nor cleared. */
uint32_t qi_mode_flags(bool constructed);

static inline bool qi_heap_mode(uint32_t flag) { return qi_heap_options.flags & flag; }

/* ---- guard.c: runs of pages that are no slab ---- */
/* The least behind a run's last byte: 0 without red zones. */
static inline size_t qi_guard_run_bytes(void)
{
    return QI_UNLIKELY(qi_heap_mode(QUIRE_HARDEN_REDZONE)) ? QI_GUARD_BYTES : 0;
}
/* asked bytes at run, of all that its pages have. */
void qi_guard_run_alloc(uint8_t *run, size_t asked, size_t bytes);
void qi_guard_run_free(uint8_t *run, size_t asked, size_t bytes);

/* ---- encode.c ----
 * An entry of a sheaf is open (two pointers) or closed (encoded for the place that it lies in). */
void qi_entry_close(struct qi_entry *at, struct qi_entry e);
void qi_entries_close(struct qi_entry *e, unsigned n);
/* Panic unless it is a free object of c. */
struct qi_entry qi_entry_open(const struct quire_cache *c, const struct qi_entry *at);
void qi_entries_open(const struct quire_cache *c, struct qi_entry *e, unsigned n);
/* The same without a panic. */
bool qi_entry_good(const struct quire_cache *c, const struct qi_entry *at, struct qi_entry *out);
struct qi_sheaf *qi_link_close(struct qi_sheaf *const *at, struct qi_sheaf *sheaf);
struct qi_sheaf *qi_link_open(struct qi_sheaf *const *at);
/* The sheaf that a link of the barn names, as the mode has it. */
static inline struct qi_sheaf *qi_sheaf_after(struct qi_sheaf *const *at)
{
    return QI_UNLIKELY(qi_heap_mode(QUIRE_HARDEN_ENCODE)) ? qi_link_open(at) : *at;
}
/* Panic if the header of a slab of c, or its place on a list, was overwritten.  The node's lock is held. */
void qi_slab_check(const struct quire_cache *c, const struct qi_slab *s);
/* As qi_slabs_take_locked(), of one slab, in random order. */
unsigned qi_slab_take_random(struct qi_cache_node *cn, struct qi_slab *s, struct qi_entry *out,
                             unsigned want);

/* ---- sample.c ---- */
extern uintptr_t qi_sample_base,
    qi_sample_span; /* constant after the start; span 0: the mode is off */
/* UNSUPPORTED: the port cannot close pages; NO_MEMORY.  Boot. */
enum quire_status qi_sample_init(void);
/* An object of c between guards, if it is time for one, and there is room; else NULL.  Any context. */
void *qi_sample_alloc(struct quire_cache *c, size_t asked, uintptr_t caller);
/* For p that qi_sample_owns(); a panic if it is no object that is out, of c if that is not NULL. */
void qi_sample_free(struct quire_cache *c, void *p, uintptr_t caller);
size_t qi_sample_size(const void *p);
void qi_sample_shrink(void *p, size_t asked);
/* How many of c are out; names the first max on the log. */
uint64_t qi_sample_out(const struct quire_cache *c, unsigned max);
static inline bool qi_sample_owns(const void *p)
{
    return (uintptr_t)p - qi_sample_base < qi_sample_span;
}
/* Whether objects of c may be sampled. */
bool qi_sample_suits(const struct quire_cache *c);

/* ---- quarantine.c ---- */
/* NO_MEMORY: none for its ring.  Boot. */
enum quire_status qi_quarantine_init(void);
/* Keep a free object of c for a while; its state byte becomes HELD.  Any context. */
void qi_quarantine(struct quire_cache *c, struct qi_entry e);
/* Let all that waits go, or (c not NULL) that of one cache.  Any context. */
void qi_quarantine_flush(struct quire_cache *c);

#endif
