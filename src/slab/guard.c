/*
 * slab/guard.c - red zones around objects and poison inside free ones; and allocations made to
 * fail.  None of it costs the fast paths anything: see quire_cache.slow and QI_OBJ_GUARDED.
 *
 *   |<- left ->|<-- size -->|<- rest of the slot ->|
 *   | RED..RED | the object | RED.............RED  |
 */
#include "slab.h"

#define RED         0xbb
#define POISON_FREE 0x6b
#define POISON_END  0xa5 /* last byte: a string runs into it */

static uint8_t *red_right(const struct quire_cache *c, const void *obj)
{
    return (uint8_t *)(uintptr_t)obj + c->size;
}
static size_t red_right_bytes(const struct quire_cache *c) { return c->slot - c->left - c->size; }

static const uint8_t *first_other(const uint8_t *p, size_t n, uint8_t want)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != want)
            return p + i;
    return NULL;
}

static void poison(const struct quire_cache *c, uint8_t *obj)
{
    __builtin_memset(obj, POISON_FREE, c->size - 1);
    obj[c->size - 1] = POISON_END;
}

static const uint8_t *poison_damage(const struct quire_cache *c, const uint8_t *obj)
{
    const uint8_t *at = first_other(obj, c->size - 1, POISON_FREE);

    return at ? at : obj[c->size - 1] != POISON_END ? obj + c->size - 1 : NULL;
}

static const uint8_t *red_damage(const struct quire_cache *c, const uint8_t *obj)
{
    const uint8_t *at = first_other(obj - c->left, c->left, RED);

    return at ? at : first_other(red_right(c, obj), red_right_bytes(c), RED);
}

const uint8_t *qi_guard_damage(const struct quire_cache *c, const void *obj, bool out)
{
    if (out)
        return c->flags & QUIRE_CACHE_REDZONE ? red_damage(c, obj) : NULL;
    return c->flags & QUIRE_CACHE_POISON ? poison_damage(c, obj) : NULL;
}

void qi_guard_new(const struct quire_cache *c, void *obj) { poison(c, obj); }

void qi_guard_alloc(const struct quire_cache *c, void *obj)
{
    if (c->flags & QUIRE_CACHE_POISON) {
        const uint8_t *at = poison_damage(c, obj);

        QI_CHECK(!at, "heap: %s: object %p was written after its free: byte %ld is %02x", c->name,
                 obj, (long)(at - (uint8_t *)obj), *at);
    }
    if (c->flags & QUIRE_CACHE_REDZONE) {
        __builtin_memset((uint8_t *)obj - c->left, RED, c->left);
        __builtin_memset(red_right(c, obj), RED, red_right_bytes(c));
    }
}

void qi_guard_free(const struct quire_cache *c, void *obj)
{
    if (c->flags & QUIRE_CACHE_REDZONE) {
        const uint8_t *at = red_damage(c, obj);

        QI_CHECK(!at,
                 "heap: %s: red zone of object %p (%u bytes) overwritten at %p: offset %ld is %02x",
                 c->name, obj, c->size, at, (long)(at - (uint8_t *)obj), *at);
    }
    if (c->flags & QUIRE_CACHE_POISON)
        poison(c, obj);
}
