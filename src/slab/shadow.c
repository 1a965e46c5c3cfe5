/*
 * slab/shadow.c - is this byte anyone's?  Checks of each load and store, by the compiler's calls.
 *
 * Model.  One shadow byte says of 8 bytes of the direct map whether they may be used (shadow.h).  The compiler
 * puts a call in front of each access (-fsanitize=kernel-address, by calls, without stack and globals); the call
 * looks the address up and panics if it is not.  What is outside the direct map, and all of it before the
 * start, is let through: kernel areas and stacks have guard pages.
 *
 * Who writes it: the slab tier for its pages, guard.c for objects as they go out and come back, runs.c.  All caches
 * of users have red zones in such a build, so that the byte behind an object is never another's; and the
 * quarantine keeps freed objects, whose bytes stay forbidden meanwhile.  Memory that is no slab's is 0.
 *
 * The heap's own code is instrumented too: what looks at dead bytes on purpose (guard.c, verify) is
 * QUIRE_NO_SHADOW.  Functions here must not be, or they would ask for ever; the report may be, and what it
 * touches wrongly is not reported again.
 *
 * Shadow bytes belong to who holds the memory, as the memory does; a bad access may read one while it
 * changes, and is reported or not, as it happens.
 *
 * Sources: Serebryany and others, "AddressSanitizer", USENIX ATC 2012; the names of the calls are those of
 * gcc 12 and clang 14.  Rejected: checks inline (the kernel's code grows by a third again, and the shadow has to be
 * mapped before the first instruction); one byte for 16 (no such instrumentation).
 */
#include "shadow.h"

#if QUIRE_SHADOW

#include "harden.h"
#include "track.h"

#include <quire/format.h>

#define PLAIN __attribute__((no_sanitize("kernel-address")))
#define SHIFT 3
#define GRAIN 8u

static uint8_t *shadow;
static uintptr_t span; /* bytes of the direct map that have a shadow */
static uint32_t reporting;

PLAIN void qi_shadow_init(void)
{
    reporting = 0;
    shadow = (uint8_t *)QPORT_SHADOW_BASE;
    span = QPORT_SHADOW_SPAN;
}

/* Volatile: the compiler must not make memset of these loops, which would be looked up. */
PLAIN void qi_shadow_set(const void *p, size_t n, uint8_t what)
{
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    volatile uint8_t *s = shadow + (off >> SHIFT);

    if (off >= span)
        return;
    for (size_t i = 0; i < n >> SHIFT; i++)
        s[i] = what;
}

PLAIN void qi_shadow_out(const void *p, size_t asked, size_t room)
{
    size_t whole = asked & ~(size_t)(GRAIN - 1), rest = asked - whole;
    const char *at = p;

    qi_shadow_set(at, whole, 0);
    at += whole;
    if (rest) {
        qi_shadow_set(at, GRAIN, (uint8_t)rest);
        at += GRAIN;
    }
    room &= ~(size_t)(GRAIN - 1);
    if (room > (size_t)(at - (const char *)p))
        qi_shadow_set(at, room - (size_t)(at - (const char *)p), QI_SHADOW_RED);
}

/* ---- report ---- */

PLAIN static uint8_t shadow_at(uintptr_t off) { return off < span ? shadow[off >> SHIFT] : 0; }

/* The first byte of n that may not be used, as an offset into the direct map; n: all may. */
PLAIN static size_t first_bad(uintptr_t off, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t s = shadow_at(off + i);
        size_t in = (off + i) & (GRAIN - 1);

        if (s && in >= (s < GRAIN ? s : 0))
            return i;
        i += s ? 1 : GRAIN - in;
    }
    return n;
}

/* 16 shadow bytes a line, that of the access in the middle one. */
PLAIN static void log_shadow(uintptr_t off)
{
    uintptr_t line = (off >> SHIFT) & ~(uintptr_t)15;
    char text[16 * 3 + 1];

    for (int i = -1; i <= 1; i++) {
        uintptr_t at = line + (uintptr_t)((intptr_t)i * 16);

        if (at >= span >> SHIFT)
            continue;
        for (unsigned k = 0; k < 16; k++)
            quire_snprintf(text + 3 * k, 4, "%c%02x", at + k == off >> SHIFT ? '>' : ' ',
                           shadow[at + k]);
        qi_log(QUIRE_LOG_ERROR, "%s %p:%s", i ? "  " : "=>",
               (void *)(QPORT_DIRECT_BASE + (at << SHIFT)), text);
    }
}

/* What the shadow of a byte means; that of a granule's tail is the next one's. */
PLAIN static const char *kind_of(uintptr_t off)
{
    uint8_t s = shadow_at(off);

    switch (s < GRAIN ? shadow_at(off + GRAIN) : s) {
    case QI_SHADOW_FREED: return s < GRAIN ? "out of bounds" : "use after free";
    case QI_SHADOW_FRESH:
        return s < GRAIN ? "out of bounds" : "use of memory that was never allocated";
    default: return "out of bounds";
    }
}

static void report(uintptr_t p, size_t n, bool write, uintptr_t caller)
{
    uintptr_t off = p - QPORT_DIRECT_BASE, bad = off + first_bad(off, n);
    uint32_t no = 0;
    char place[160];

    if (!qi_cas_relaxed(&reporting, &no, 1u))
        return;
    qi_log(QUIRE_LOG_ERROR, "shadow: %s: %s of %lu bytes at %p, by %s", kind_of(bad),
           write ? "write" : "read", (unsigned long)n, (void *)p,
           qi_place_text(caller, place, sizeof place));
    quire_heap_describe((void *)(QPORT_DIRECT_BASE + bad));
    log_shadow(bad);
    qi_store_relaxed(&reporting, 0u);
    qi_bug("shadow: %s: %s of %lu bytes at %p", kind_of(bad), write ? "write" : "read",
           (unsigned long)n, (void *)p);
}

/* ---- the check ---- */

PLAIN static inline void check(uintptr_t p, size_t n, bool write, uintptr_t caller)
{
    uintptr_t off = p - QPORT_DIRECT_BASE;

    if (QI_LIKELY(off >= span))
        return;
    if (QI_LIKELY((off & (GRAIN - 1)) + n <= GRAIN && !shadow[off >> SHIFT]))
        return;
    if (first_bad(off, n) < n)
        report(p, n, write, caller);
}

PLAIN void quire_shadow_check(const void *p, size_t n, bool write)
{
    check((uintptr_t)p, n, write, QI_CALLER());
}

/* clang-format off */
#define ACCESS(n)                                                                                 \
    void __asan_load##n##_noabort(uintptr_t p);                                                   \
    void __asan_store##n##_noabort(uintptr_t p);                                                  \
    PLAIN void __asan_load##n##_noabort(uintptr_t p) { check(p, n, false, QI_CALLER()); }         \
    PLAIN void __asan_store##n##_noabort(uintptr_t p) { check(p, n, true, QI_CALLER()); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
/* clang-format on */

void __asan_loadN_noabort(uintptr_t p, size_t n);
void __asan_storeN_noabort(uintptr_t p, size_t n);
void __asan_handle_no_return(void);
void *__asan_memcpy(void *to, const void *from, size_t n);
void *__asan_memmove(void *to, const void *from, size_t n);
void *__asan_memset(void *to, int c, size_t n);

PLAIN void __asan_loadN_noabort(uintptr_t p, size_t n) { check(p, n, false, QI_CALLER()); }
PLAIN void __asan_storeN_noabort(uintptr_t p, size_t n) { check(p, n, true, QI_CALLER()); }
/* Of stacks, which have no shadow. */
PLAIN void __asan_handle_no_return(void) {}

/* clang's names for what gcc looks up before it calls the function itself. */
PLAIN void *__asan_memcpy(void *to, const void *from, size_t n)
{
    check((uintptr_t)from, n, false, QI_CALLER());
    check((uintptr_t)to, n, true, QI_CALLER());
    return __builtin_memcpy(to, from, n);
}

PLAIN void *__asan_memmove(void *to, const void *from, size_t n)
{
    check((uintptr_t)from, n, false, QI_CALLER());
    check((uintptr_t)to, n, true, QI_CALLER());
    return __builtin_memmove(to, from, n);
}

PLAIN void *__asan_memset(void *to, int c, size_t n)
{
    check((uintptr_t)to, n, true, QI_CALLER());
    return __builtin_memset(to, c, n);
}

#endif
