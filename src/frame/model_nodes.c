/*
 * frame/model_nodes.c - the memory model NODES: an array of struct pages for each node.
 *
 * Each node's array reaches from its first frame to its last, in the node's own memory.  A table of two
 * bytes for each block of 2^QUIRE_MAX_ORDER frames says in whose array its pages are: the first node's
 * that has memory in it, or may get some.  Nodes whose memory alternates have arrays with gaps that nobody uses; Linux's
 * DISCONTIGMEM was given up for this and for its weakness when memory is added.
 */
#include "map.h"

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_NODES

uintptr_t quire_node_maps[QUIRE_MAX_NODES];
const uint16_t *quire_node_of;

struct span {
    uint64_t lo, hi;
};

static void find_spans(const struct quire_memmap *m, struct span *spans)
{
    struct qi_map_range r;

    for (unsigned n = 0; n < QUIRE_MAX_NODES; n++)
        spans[n] = (struct span){.lo = UINT64_MAX};
    for (uint32_t i = 0; qi_map_next_any(m, &i, &r);) {
        struct span *s = &spans[r.node];

        /* whole blocks: another node's pages may be in this array */
        s->lo = QI_MIN(s->lo, qi_align_down(r.from, QI_RUN_FRAMES));
        s->hi = qi_align_up(r.to, QI_RUN_FRAMES);
    }
}

/* Which array each block's pages are in. */
static enum quire_status make_table(struct quire_memmap *m, uint64_t top)
{
    uint64_t runs = top >> QUIRE_MAX_ORDER;
    struct qi_map_range r;
    enum quire_status s;
    uint16_t *of;
    void *at;

    s = qi_boot_alloc(m, runs * sizeof *of, 0, "nodes of frames", &at);
    if (s)
        return s;
    of = at;
    for (uint64_t n = 0; n < runs; n++)
        of[n] = QUIRE_MAX_NODES;
    for (uint32_t i = 0; qi_map_next_any(m, &i, &r);)
        for (uint64_t n = r.from >> QUIRE_MAX_ORDER; n << QUIRE_MAX_ORDER < r.to; n++)
            if (of[n] == QUIRE_MAX_NODES)
                of[n] = (uint16_t)r.node;
    for (uint64_t n = 0; n < runs; n++)
        of[n] %= QUIRE_MAX_NODES; /* of a hole: any */
    quire_node_of = of;
    return QUIRE_OK;
}

enum quire_status qi_map_alloc(struct quire_memmap *m)
{
    struct span spans[QUIRE_MAX_NODES];
    enum quire_status s = QUIRE_OK;
    uint64_t top = 0;

    find_spans(m, spans);
    for (unsigned n = 0; !s && n < QUIRE_MAX_NODES; n++) {
        const struct span *p = &spans[n];
        void *at;

        top = QI_MAX(top, p->hi);
        quire_node_maps[n] = 0;
        if (!p->hi)
            continue;
        s = qi_boot_alloc(m, (p->hi - p->lo) * sizeof(struct quire_page), n, "struct pages", &at);
        if (!s)
            quire_node_maps[n] = (uintptr_t)at - p->lo * sizeof(struct quire_page);
    }
    return s ? s : make_table(m, top);
}

enum quire_status qi_map_make(uint64_t from, uint64_t to, unsigned node)
{
    (void)node;
    qi_map_clear(from, to);
    return QUIRE_OK;
}

enum quire_status qi_map_add(uint64_t from, uint64_t to, unsigned node)
{
    return qi_map_make(from, to, node);
}

void qi_map_forget(uint64_t from, uint64_t to) { (void)from, (void)to; }

#endif
