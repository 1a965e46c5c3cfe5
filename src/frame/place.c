/*
 * frame/place.c - places: the arrays of struct pages, each together with a zone that has frames in it.
 *
 * A page's flags hold the number of its place in the models that cannot tell from its address what
 * frame it describes (quire/model.h).  Numbers are given when memory is given to a zone, and found again
 * by a look at the last ones first: a zone's memory comes section after section.
 */
#include "map.h"

#if QUIRE_MODEL_PLACES

struct quire_place quire_places[QUIRE_PLACES];

static unsigned nplaces = 1; /* 0 is that of pages that nobody has claimed */

void qi_places_reset(void)
{
    nplaces = 1;
    for (unsigned i = 0; i < QI_STACK_OFFSETS; i++)
        qi_stack_offset[i] = 0;
}

/* The place of (map, zone), a new one if need be; 0: no number is left.  map 0: only the zone's name. */
static unsigned place_of(const struct qi_zone *z, uintptr_t map)
{
    uint32_t offset = (uint32_t)(z->slot * QI_ZONE_STACK_BYTES);

    for (unsigned i = nplaces; i-- > 1;)
        if (quire_places[i].map == map && qi_place_stacks(i) == offset)
            return i;
    if (nplaces == QUIRE_PLACES) {
        qi_log(QUIRE_LOG_ERROR,
               "frames: memory in more than %u places (sections of order %u): raise "
               "QUIRE_SECTION_ORDER",
               QUIRE_PLACES - 1, (unsigned)QUIRE_SECTION_ORDER);
        return 0;
    }
    quire_places[nplaces] = (struct quire_place){.map = map, .node = z->node, .zone = z->type};
    qi_place_stacks_set(nplaces, z);
    return nplaces++;
}

void qi_place_init(struct qi_zone *z)
{
    _Static_assert(QI_MAX_ZONES < QUIRE_PLACES, "every zone has a place to itself");
    z->place = place_of(z, 0) << QUIRE_PG_ZONE_SHIFT;
}

enum quire_status qi_map_claim(const struct qi_zone *z, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint64_t stop = QI_MIN(to, qi_align_up(from + 1, QI_RUN_FRAMES));
        struct quire_page *p = quire_page_of_pfn(Q_PFN(from));
        uint32_t place = place_of(z, quire_map_of(from)) << QUIRE_PG_ZONE_SHIFT;

        if (!place)
            return QUIRE_LIMIT;
        for (; from < stop; from++, p++)
            qi_store_relaxed(&p->flags, (p->flags & ~QI_PG_PLACE) | place);
    }
    return QUIRE_OK;
}

#endif
