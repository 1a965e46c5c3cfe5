/*
 * slab/guard.c - red zones around objects and poison inside free ones.  None of it costs the fast paths
 * anything: see quire_cache.slow and QI_OBJ_GUARDED.
 *
 *   |<- left ->|<-- asked -->|<- rest of the slot ->| 8 |
 *   | RED..RED | the object  | RED.............RED  |   |
 *
 * The last 8 bytes of a slot with red zones are the size that was asked for, with its complement, under
 * the heap's secret: of 50 bytes from kmalloc-64 the 51st is a red zone.  The word is part of the zone, and
 * a slot that is copied over another fails it too.
 */
#include "harden.h"
#include "track.h"

#define RED         0xbb
#define POISON_FREE 0x6b
#define POISON_END  0xa5 /* last byte: a string runs into it */

/* ---- the size asked for ---- */

static uint64_t *size_word(const struct quire_cache *c, const void *obj)
{
    return (uint64_t *)((uintptr_t)obj - c->left + c->slot - sizeof(uint64_t));
}

static uint64_t size_mask(const void *obj) { return qi_mix(qi_heap_secret ^ (uintptr_t)obj); }

/* What quire_heap_validate() looks at may be filled at this moment by whoever takes the object: it looks again
 * and again, and damage is what stays.  So those who watch for races do not see it. */
#define LOOKS_BESIDE_WRITERS __attribute__((no_sanitize("thread")))

/* False: the word was overwritten. */
QUIRE_NO_SHADOW LOOKS_BESIDE_WRITERS static bool read_size(const struct quire_cache *c,
                                                           const void *obj, size_t *asked)
{
    uint64_t v = *size_word(c, obj) ^ size_mask(obj);

    *asked = (size_t)(uint32_t)v;
    return (uint32_t)v == (uint32_t) ~(v >> 32) && (uint32_t)v <= c->size;
}

static void write_size(const struct quire_cache *c, const void *obj, size_t asked)
{
    *size_word(c, obj) = ((uint64_t) ~(uint32_t)asked << 32 | (uint32_t)asked) ^ size_mask(obj);
}

size_t qi_guard_size(const struct quire_cache *c, const void *obj)
{
    size_t asked = c->size;

    if (c->flags & QUIRE_CACHE_REDZONE)
        QI_CHECK(read_size(c, obj, &asked), "heap: %s: red zone of object %p overwritten at %p",
                 c->name, obj, (void *)size_word(c, obj));
    return asked;
}

/* ---- red zones ---- */

static void set_red_right(const struct quire_cache *c, uint8_t *obj, size_t asked)
{
    __builtin_memset(obj + asked, RED, (size_t)((uint8_t *)size_word(c, obj) - (obj + asked)));
    write_size(c, obj, asked);
}

typedef uint64_t __attribute__((may_alias)) any_word;

/* A word at a time, where that is possible: most of this file's time goes here. */
QUIRE_NO_SHADOW LOOKS_BESIDE_WRITERS static const uint8_t *
first_other(const uint8_t *p, const uint8_t *end, uint8_t want)
{
    const uint64_t words = want * (uint64_t)0x0101010101010101;

    for (; p < end && (uintptr_t)p % sizeof words; p++)
        if (*p != want)
            return p;
    while ((size_t)(end - p) >= sizeof words && *(const any_word *)p == words)
        p += sizeof words;
    for (; p < end; p++)
        if (*p != want)
            return p;
    return NULL;
}

static const uint8_t *red_damage(const struct quire_cache *c, const uint8_t *obj)
{
    const uint8_t *end = (const uint8_t *)size_word(c, obj), *at;
    size_t asked;

    at = first_other(obj - c->left, obj, RED);
    if (at)
        return at;
    /* an overflow that reached the size word came through the zone, unless it leapt */
    if (!read_size(c, obj, &asked)) {
        at = first_other(obj + c->size, end, RED);
        return at ? at : end;
    }
    return first_other(obj + asked, end, RED);
}

/* ---- poison ---- */

static void poison(const struct quire_cache *c, uint8_t *obj)
{
    __builtin_memset(obj, POISON_FREE, c->size - 1);
    obj[c->size - 1] = POISON_END;
}

QUIRE_NO_SHADOW LOOKS_BESIDE_WRITERS static const uint8_t *
poison_damage(const struct quire_cache *c, const uint8_t *obj)
{
    const uint8_t *last = obj + c->size - 1, *at = first_other(obj, last, POISON_FREE);

    return at ? at : *last != POISON_END ? last : NULL;
}

/* ---- what the tiers call ---- */

const uint8_t *qi_guard_damage(const struct quire_cache *c, const void *obj, bool out)
{
    if (out)
        return c->flags & QUIRE_CACHE_REDZONE ? red_damage(c, obj) : NULL;
    return c->flags & QUIRE_CACHE_POISON ? poison_damage(c, obj) : NULL;
}

void qi_guard_new(const struct quire_cache *c, void *obj) { poison(c, obj); }

QUIRE_NO_SHADOW void qi_guard_check_free(const struct quire_cache *c, const void *obj)
{
    const uint8_t *at = qi_guard_damage(c, obj, false);

    if (QI_LIKELY(!at))
        return;
    qi_damage_report(c, obj, at,
                     at == (const uint8_t *)obj + c->size - 1 ? POISON_END : POISON_FREE);
    qi_bug("heap: %s: object %p was written after its free: byte %ld is %02x", c->name, obj,
           (long)(at - (const uint8_t *)obj), *at);
}

/* What is behind asked bytes of the slot becomes red zone, to the bytes and to the shadow. */
static void close_tail(const struct quire_cache *c, uint8_t *obj, size_t asked)
{
    qi_shadow_set(obj, c->slot - c->left, 0);
    if (c->flags & QUIRE_CACHE_REDZONE)
        set_red_right(c, obj, asked);
    qi_shadow_out(obj, asked, c->slot - c->left);
}

void qi_guard_alloc(const struct quire_cache *c, void *obj, size_t asked)
{
    uint8_t *left = (uint8_t *)obj - c->left;

    qi_guard_check_free(c, obj);
    if (c->flags & QUIRE_CACHE_REDZONE) {
        qi_shadow_set(left, c->left, 0);
        __builtin_memset(left, RED, c->left);
        qi_shadow_set(left, c->left, QI_SHADOW_RED);
    }
    close_tail(c, obj, asked);
}

void qi_guard_shrink(void *obj, size_t asked)
{
    const struct quire_page *page = quire_page_of_ptr(obj);

    if (qi_sample_owns(obj))
        qi_sample_shrink(obj, asked);
    else if (qi_page_has_objects(page) &&
             (qi_slab_of_page(page)->cache->flags & QUIRE_CACHE_REDZONE))
        close_tail(qi_slab_of_page(page)->cache, obj, asked);
}

QUIRE_NO_SHADOW static _Noreturn void red_zone_broken(const struct quire_cache *c,
                                                      const uint8_t *obj, const uint8_t *at)
{
    size_t asked;

    if (!read_size(c, obj, &asked))
        asked = c->size; /* nobody knows */
    qi_damage_report(c, obj, at, at < (const uint8_t *)size_word(c, obj) ? RED : -1);
    qi_bug("heap: %s: red zone of object %p (%u bytes) overwritten at %p: offset %ld is %02x",
           c->name, (const void *)obj, (unsigned)asked, (const void *)at, (long)(at - obj), *at);
}

void qi_guard_free(const struct quire_cache *c, void *obj)
{
    const uint8_t *at = qi_guard_damage(c, obj, true);

    if (QI_UNLIKELY(at))
        red_zone_broken(c, obj, at);
    qi_shadow_set(obj, c->slot - c->left, 0);
    if (c->flags & QUIRE_CACHE_POISON)
        poison(c, obj);
    else if (c->flags & QI_CACHE_CLEAR)
        __builtin_memset(obj, 0, c->size);
    if (c->flags & QUIRE_CACHE_RCU) /* a reader may still look at it */
        qi_shadow_out(obj, c->size, c->slot - c->left);
    else
        qi_shadow_set(obj, c->slot - c->left, QI_SHADOW_FREED);
}

/* ---- runs of pages ---- */

void qi_guard_run_alloc(uint8_t *run, size_t asked, size_t bytes)
{
    if (qi_heap_mode(QUIRE_HARDEN_REDZONE))
        __builtin_memset(run + asked, RED, bytes - asked);
    qi_shadow_out(run, asked, bytes);
}

void qi_guard_run_free(uint8_t *run, size_t asked, size_t bytes)
{
    qi_shadow_set(run, bytes, 0);
    if (qi_heap_mode(QUIRE_HARDEN_REDZONE)) {
        const uint8_t *at = first_other(run + asked, run + bytes, RED);

        QI_CHECK(
            !at,
            "heap: kfree: red zone of object %p (%lu bytes) overwritten at %p: offset %ld is %02x",
            (void *)run, (unsigned long)asked, (const void *)at, (long)(at - run), *at);
    }
    /* its next owner is anybody: no check of it is possible, but a late reader sees no data */
    if (qi_heap_mode(QUIRE_HARDEN_ZERO_FREE | QUIRE_HARDEN_POISON))
        __builtin_memset(run, qi_heap_mode(QUIRE_HARDEN_POISON) ? POISON_FREE : 0, asked);
}
