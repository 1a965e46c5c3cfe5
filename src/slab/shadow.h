/*
 * slab/shadow.h - what the tiers tell the shadow (shadow.c); nothing without QUIRE_SHADOW.
 */
#ifndef QI_SHADOW_H
#define QI_SHADOW_H

#include <quire/shadow.h>

/* What a shadow byte says of its 8 bytes: 0 all may be used, 1..7 the first so many, else none: why. */
#define QI_SHADOW_FRESH 0xf1u /* of a slab; never handed out */
#define QI_SHADOW_FREED 0xf2u
#define QI_SHADOW_RED   0xf3u /* around or behind an object */

#if QUIRE_SHADOW

/* Nothing is known of any memory.  First thing of the heap's start. */
void qi_shadow_init(void);
/* [p, p + n) is what; p and n multiples of 8. */
void qi_shadow_set(const void *p, size_t n, uint8_t what);
/* [p, p + asked) may be used, and nothing else of [p, p + room). */
void qi_shadow_out(const void *p, size_t asked, size_t room);

#else

static inline void qi_shadow_init(void) {}
static inline void qi_shadow_set(const void *p, size_t n, uint8_t what)
{
    (void)p, (void)n, (void)what;
}
static inline void qi_shadow_out(const void *p, size_t asked, size_t room)
{
    (void)p, (void)asked, (void)room;
}

#endif

#endif
