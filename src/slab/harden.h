/*
 * slab/harden.h - what the modes of quire/harden.h share with the tiers of slab.c.
 */
#ifndef QI_HARDEN_H
#define QI_HARDEN_H

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

#endif
