/*
 * slab/damage.c - a damaged object, told so that the culprit can be found: which byte of which object, what
 * it should be, what stands around it, who had the object, and who has its neighbours.
 *
 * Bytes in front of an object were most likely written by whoever has the one before it, over its end; bytes
 * behind it by its own holder; bytes inside a free one by who had it last.  One wrong bit is no program's
 * doing, as a rule.
 */
#include "track.h"

#include <quire/format.h>

#define ROWS_BEFORE 2u /* of 16 bytes, above the damaged one's */
#define ROWS        5u

/* Sixteen bytes, the damaged one in brackets; those outside the slab are not read. */
static void log_row(const struct qi_slab *s, uintptr_t row, uintptr_t bad)
{
    uintptr_t from = (uintptr_t)quire_page_ptr(s->page);
    uintptr_t to = from + (QUIRE_PAGE_SIZE << s->order);
    char text[16 * 4 + 1];
    size_t n = 0;

    for (uintptr_t at = row; at < row + 16; at++) {
        const char *form = at == bad ? "[%02x]" : at == bad + 1 ? "%02x" : " %02x";

        if (at >= from && at < to)
            n += quire_snprintf(text + n, sizeof text - n, form, qi_peek((const void *)at));
        else
            n += quire_snprintf(text + n, sizeof text - n, "   ");
    }
    qi_log(QUIRE_LOG_ERROR, "  %lx:%s", (unsigned long)row, text);
}

static void log_neighbour(const struct qi_slab *s, uint64_t i, const char *where)
{
    const char *obj = qi_slab_object(s, (unsigned)i);

    if (i < 1 || i > s->n) {
        qi_log(QUIRE_LOG_ERROR, " %s it: the edge of the slab", where);
        return;
    }
    qi_log(QUIRE_LOG_ERROR, " %s it: object %p, %s", where, obj,
           qi_is_out(qi_peek(&s->state[i])) ? "allocated" : "free");
    qi_track_describe(obj);
}

static void log_byte(long offset, uint8_t is, int want)
{
    unsigned wrong = want < 0 ? 0 : (unsigned)(is ^ want);

    if (want < 0)
        qi_log(QUIRE_LOG_ERROR, "heap: damage: byte %ld is %02x", offset, is);
    else if (qi_is_pow2(wrong))
        qi_log(QUIRE_LOG_ERROR,
               "heap: damage: byte %ld is %02x, not %02x: bit %u alone is wrong, as by bad memory",
               offset, is, (unsigned)want, qi_lowest_bit(wrong));
    else
        qi_log(QUIRE_LOG_ERROR, "heap: damage: byte %ld is %02x, not %02x", offset, is,
               (unsigned)want);
}

void qi_damage_report(const struct quire_cache *c, const void *obj, const uint8_t *at, int want)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(obj));
    uintptr_t row = ((uintptr_t)at & ~(uintptr_t)15) - ROWS_BEFORE * 16;
    long offset = (long)((uintptr_t)at - (uintptr_t)obj);
    uint64_t i;

    qi_slab_index(s, obj, &i);
    log_byte(offset, qi_peek(at), want);
    for (unsigned r = 0; r < ROWS; r++)
        log_row(s, row + r * 16, (uintptr_t)at);
    qi_log(QUIRE_LOG_ERROR, " object %p of %s, %u bytes, number %u of %u in its slab, %s", obj,
           c->name, c->size, (unsigned)i, s->n,
           qi_is_out(qi_peek(&s->state[i])) ? "allocated" : "free");
    qi_track_describe(obj);
    log_neighbour(s, i - 1, "before");
    log_neighbour(s, i + 1, "behind");
}
