/*
 * frame/model_nodes.c - the memory model NODES: an array of struct pages for each node.
 *
 * Each node's array reaches from its first frame to its last, in the node's own memory.  A table of two
 * bytes for each block of 2^QUIRE_MAX_ORDER frames says in whose array its pages are: the first node's
 * that has memory in it, or may get some.  Nodes whose memory alternates have arrays with gaps that nobody uses; Linux's
 * DISCONTIGMEM was given up for this and for its weakness when memory is added.
 *
 * Blocks in holes are in no array (HOLE) until a device brings memory there: then in that of a node which reaches
 * over them, or in one of its own, in the device's memory.  The table ends with the last memory of boot.
 */
#include "map.h"

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_NODES

#define HOLE   QUIRE_MAX_NODES
#define ARRAYS (HOLE + 1 + QI_DEVICES)

struct span {
    uint64_t lo, hi;
};

uintptr_t quire_node_maps[ARRAYS];
const uint16_t *quire_node_of;
static struct span spans[ARRAYS]; /* frames that each array has pages for; hi 0: there is none */
static uint16_t *node_of;         /* quire_node_of, to write */
static uint64_t nruns;            /* blocks in the table */

static void find_spans(const struct quire_memmap *m)
{
    struct qi_map_range r;

    for (unsigned n = 0; n < ARRAYS; n++) {
        spans[n] = (struct span){.lo = UINT64_MAX};
        quire_node_maps[n] = 0;
    }
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
    struct qi_map_range r;
    enum quire_status s;
    void *at;

    nruns = top >> QUIRE_MAX_ORDER;
    s = qi_boot_alloc(m, nruns * sizeof *node_of, 0, "nodes of frames", &at);
    if (s)
        return s;
    quire_node_of = node_of = at;
    for (uint64_t n = 0; n < nruns; n++)
        node_of[n] = HOLE;
    for (uint32_t i = 0; qi_map_next_any(m, &i, &r);)
        for (uint64_t n = r.from >> QUIRE_MAX_ORDER; n << QUIRE_MAX_ORDER < r.to; n++)
            if (node_of[n] == HOLE)
                node_of[n] = (uint16_t)r.node;
    return QUIRE_OK;
}

enum quire_status qi_map_alloc(struct quire_memmap *m)
{
    enum quire_status s = QUIRE_OK;
    uint64_t top = 0;

    find_spans(m);
    for (unsigned n = 0; !s && n < QUIRE_MAX_NODES; n++) {
        const struct span *p = &spans[n];
        void *at;

        top = QI_MAX(top, p->hi);
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

/* ---- What comes later ---- */

#define FOR_EACH_RUN(n, from, to) \
    for (uint64_t n = (from) >> QUIRE_MAX_ORDER; n << QUIRE_MAX_ORDER < (to); n++)

static bool covers(unsigned array, uint64_t from, uint64_t to)
{
    return spans[array].lo <= from && to <= spans[array].hi;
}

/* The array of a node that reaches over all of it, best of this node; HOLE: none does. */
static unsigned array_over(uint64_t from, uint64_t to, unsigned node)
{
    if (covers(node, from, to))
        return node;
    for (unsigned n = 0; n < QUIRE_MAX_NODES; n++)
        if (covers(n, from, to))
            return n;
    return HOLE;
}

enum quire_status qi_map_add(uint64_t from, uint64_t to, unsigned node)
{
    unsigned array = array_over(from, to, node);

    FOR_EACH_RUN(n, from, to)
    if (n >= nruns || (array == HOLE && node_of[n] == HOLE) ||
        (node_of[n] != HOLE && !covers(node_of[n], QI_MAX(from, n << QUIRE_MAX_ORDER),
                                       QI_MIN(to, (n + 1) << QUIRE_MAX_ORDER))))
        return qi_map_refuse(from, to,
                             "no node's array reaches there (QUIRE_MEM_DEVICE announces "
                             "it)");
    FOR_EACH_RUN(n, from, to)
    if (node_of[n] == HOLE)
        qi_store_relaxed(&node_of[n], (uint16_t)array);
    return qi_map_make(from, to, node);
}

/* Blocks that were in holes stay in the node's array: what else comes there has pages in it too. */
void qi_map_forget(uint64_t from, uint64_t to) { (void)from, (void)to; }

enum quire_status qi_map_place(uint64_t from, uint64_t to)
{
    unsigned array = HOLE + 1;

    FOR_EACH_RUN(n, from, to)
    if (n >= nruns || node_of[n] != HOLE)
        return qi_map_refuse(
            from, to, n >= nruns ? "beyond the last memory of boot" : "a node has pages there");
    while (spans[array].hi) /* there are as many as ranges of devices */
        array++;
    spans[array] = (struct span){from, to};
    quire_node_maps[array] =
        (uintptr_t)quire_ptr_of_pa(quire_pa_of_pfn(Q_PFN(from))) - from * sizeof(struct quire_page);
    FOR_EACH_RUN(n, from, to)
    qi_store_relaxed(&node_of[n], (uint16_t)array);
    qi_map_clear(from, to);
    return QUIRE_OK;
}

void qi_map_displace(uint64_t from, uint64_t to)
{
    unsigned array = node_of[from >> QUIRE_MAX_ORDER];

    FOR_EACH_RUN(n, from, to)
    qi_store_relaxed(&node_of[n], (uint16_t)HOLE);
    spans[array] = (struct span){.lo = UINT64_MAX};
    quire_node_maps[array] = 0;
}

#endif
