/*
 * quire/shadow.h - shadow memory: with QUIRE_SHADOW (config.h) every load and store of code that is compiled
 * with -fsanitize=kernel-address is looked up: is this byte of the direct map an embedder's to use?
 *
 * docs/design/hardening.md says how to build with it.  What is written in assembly, or was compiled without,
 * calls quire_shadow_check() itself.
 */
#ifndef QUIRE_SHADOW_H
#define QUIRE_SHADOW_H

#include <quire/port.h>

#if QUIRE_SHADOW

/* Panic, with what is known of the object, unless all of [p, p + n) may be used; addresses outside the
 * direct map may.  Any context. */
void quire_shadow_check(const void *p, size_t n, bool write);

/* On functions that have to look at memory nobody may use. */
#define QUIRE_NO_SHADOW __attribute__((no_sanitize("kernel-address"), noinline))

#else

static inline void quire_shadow_check(const void *p, size_t n, bool write)
{
    (void)p, (void)n, (void)write;
}
#define QUIRE_NO_SHADOW

#endif

#endif
