/*
 * frame/zonelist.c - in which order the zones of which nodes are tried.
 */
#include "zone.h"

uint16_t qi_zonelists[QUIRE_MAX_NODES][QI_CLASSES][QI_MAX_ZONES + 1];

uint64_t qi_foreign[QUIRE_MAX_NODES];

static uint8_t distances[QUIRE_MAX_NODES][QUIRE_MAX_NODES];

/* The node itself, whatever the table says, then the others by distance; of equals the next higher
 * one first (and round), so that the nodes do not all fall back to node 0. */
static unsigned nodes_by_distance(unsigned from, uint8_t order[QUIRE_MAX_NODES])
{
    unsigned n = 0;

    for (unsigned k = 0; k < qi_nnodes; k++) {
        unsigned node = (from + k) % qi_nnodes, at = k;

        for (; at > 1 && distances[from][order[at - 1]] > distances[from][node]; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)node;
        n++;
    }
    return n;
}

static void list_update(unsigned node, unsigned class, const uint8_t order[], unsigned n)
{
    uint16_t list[QI_MAX_ZONES], *l = qi_zonelists[node][class];
    unsigned at = 0;

    for (unsigned k = 0; k < n; k++)
        for (unsigned type = class + 1; type-- > 0;) {
            const struct qi_zone *z = qi_zone_by(order[k], type);

            if (z && z->listed)
                list[at++] = z->slot;
        }
    while (at-- > 0)
        qi_store_relaxed(&l[at], list[at]);
}

/*
 * Others read the lists without a lock.  A list only grows, and is written from its end: a zone that
 * moves back is there twice for a moment, and never missing in front of a reader.
 */
void qi_zonelists_update(void)
{
    uint8_t order[QUIRE_MAX_NODES];

    for (unsigned i = 0; i < qi_nzones; i++)
        qi_zones[i].listed |= qi_load_relaxed(&qi_zones[i].managed) != 0;
    for (unsigned node = 0; node < qi_nnodes; node++) {
        unsigned n = nodes_by_distance(node, order);

        for (unsigned class = 0; class < QI_CLASSES; class ++)
            list_update(node, class, order, n);
    }
}

void qi_zonelists_init(const uint8_t *table)
{
    for (unsigned i = 0; i < qi_nnodes; i++)
        for (unsigned j = 0; j < qi_nnodes; j++)
            distances[i][j] = table ? table[i * qi_nnodes + j] : i == j ? 10 : 20;
    for (unsigned node = 0; node < qi_nnodes; node++)
        for (unsigned class = 0; class < QI_CLASSES; class ++)
            for (unsigned i = 0; i <= QI_MAX_ZONES; i++)
                qi_zonelists[node][class][i] = QI_LIST_END;
    qi_zonelists_update();
}

unsigned quire_node_distance(unsigned from, unsigned to)
{
    return from < qi_nnodes && to < qi_nnodes ? distances[from][to] : 0;
}
