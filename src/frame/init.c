/*
 * frame/init.c - from the boot memory map to zones, watermarks, zone lists and stacks.
 *
 * The work is proportional to the number of ranges and pageblocks, not of frames: struct pages are
 * written here only for frames that are reserved or share a pageblock with one; all others stay as
 * the port delivered them, zeroed, until their pageblock is first used (QI_PAGES_UNTOUCHED).
 */
#include <quire/format.h>
#include "map.h"

const char *const qi_zone_names[QUIRE_ZONES] = {"DMA",     "DMA32",   "Normal",
                                                "HighMem", "Movable", "Device"};

/* One usable piece of memory that lies in one zone. */
struct piece {
    uint64_t start, end; /* frames */
    unsigned node, type;
};

struct cursor {
    enum quire_mem_kind kind;
    uint32_t range;
    uint64_t at; /* go on from this frame of the range */
};

/* Of memory that may come: whole pageblocks that nobody has reserved.  Shrinks [*start, *end) to the
 * first such part. */
static void announced_part(const struct quire_memmap *m, uint64_t *start, uint64_t *end)
{
    for (uint32_t i = 0; i < m->nreserved; i++) {
        const struct quire_mem_range *r = &m->reserved[i];
        uint64_t from = r->base.v / QUIRE_PAGE_SIZE;
        uint64_t to = (r->base.v + (r->len - 1)) / QUIRE_PAGE_SIZE + 1;

        if (to <= *start)
            continue;
        if (qi_align_down(from, QI_BLOCK_FRAMES) <= qi_align_up(*start, QI_BLOCK_FRAMES))
            *start = to; /* no whole block before it */
        else
            *end = QI_MIN(*end, from);
    }
    *start = qi_align_up(*start, QI_BLOCK_FRAMES);
    *end = qi_align_down(*end, QI_BLOCK_FRAMES);
}

/* Walk the ranges of the kind, cut at the borders between zone types.  False: done. */
static bool next_piece(const struct quire_memmap *m, struct cursor *c, struct piece *out)
{
    for (; c->range < m->n; c->range++, c->at = 0) {
        const struct quire_mem_range *r = &m->ranges[c->range];
        uint64_t start = r->base.v / QUIRE_PAGE_SIZE, end = start + r->len / QUIRE_PAGE_SIZE;
        uint64_t border;

        /* Frame 0 is never handed out: too many callers take address 0 for "none". */
        start = QI_MAX(QI_MAX(start, c->at), (uint64_t)1);
        end = QI_MIN(end, QI_PFN_END);
        if (r->kind == c->kind && c->kind == QUIRE_MEM_HOTPLUG)
            announced_part(m, &start, &end);
        if (r->kind != c->kind || start >= end)
            continue;
        out->node = r->node;
        if (c->kind == QUIRE_MEM_HOTPLUG)
            out->type = qi_layout_address(start, &border);
        else
            out->type = qi_layout_zone(r->node, start, &border);
        out->start = start;
        out->end = c->at = QI_MIN(end, border);
        return true;
    }
    return false;
}

#define FOR_EACH_PIECE(m, p) \
    for (struct cursor c_ = {.kind = QUIRE_MEM_USABLE}; next_piece(m, &c_, &(p));)
#define FOR_EACH_ANNOUNCED(m, p) \
    for (struct cursor c_ = {.kind = QUIRE_MEM_HOTPLUG}; next_piece(m, &c_, &(p));)

/* ---- What the caller says ---- */

static enum quire_status no_such_node(const struct quire_boot *b, const struct piece *p)
{
    qi_log(QUIRE_LOG_ERROR, "frames: memory at %#lx is of node %u of %u",
           (unsigned long)(p->start * QUIRE_PAGE_SIZE), p->node, b->nodes);
    return QUIRE_INVALID;
}

static enum quire_status check_boot(const struct quire_boot *b)
{
    struct piece p;

    if (!b || !b->map || b->nodes < 1 || b->nodes > QUIRE_MAX_NODES || b->cpus < 1 ||
        b->cpus > QUIRE_MAX_CPUS) {
        qi_log(QUIRE_LOG_ERROR, "frames: nodes %u (1..%u), cpus %u (1..%u)", b ? b->nodes : 0,
               QUIRE_MAX_NODES, b ? b->cpus : 0, QUIRE_MAX_CPUS);
        return QUIRE_INVALID;
    }
    for (unsigned c = 0; b->cpu_node && c < b->cpus; c++)
        if (b->cpu_node[c] >= b->nodes) {
            qi_log(QUIRE_LOG_ERROR, "frames: cpu %u is of node %u of %u", c, b->cpu_node[c],
                   b->nodes);
            return QUIRE_INVALID;
        }
    FOR_EACH_PIECE(b->map, p)
    if (p.node >= b->nodes)
        return no_such_node(b, &p);
    FOR_EACH_ANNOUNCED(b->map, p)
    if (p.node >= b->nodes && p.node != QUIRE_NODE_ANY)
        return no_such_node(b, &p);
    return QUIRE_OK;
}

/* ---- Zones ---- */

/* What there is of the zone, and where more of it may come. */
static void find_span(const struct quire_memmap *m, struct qi_zone *z)
{
    struct piece p;

    FOR_EACH_PIECE(m, p)
    if (p.node == z->node && p.type == z->type) {
        z->start = QI_MIN(z->start, p.start);
        z->end = QI_MAX(z->end, p.end);
        z->present += p.end - p.start;
    }
    FOR_EACH_ANNOUNCED(m, p)
    if ((p.node == z->node || p.node == QUIRE_NODE_ANY) &&
        (p.type == z->type || z->type == QUIRE_ZONE_MOVABLE)) {
        z->start = QI_MIN(z->start, p.start);
        z->end = QI_MAX(z->end, p.end);
    }
}

/* The zones by node, then upwards, with their spans. */
static enum quire_status find_zones(const struct quire_boot *b)
{
    uint64_t present = 0;

    qi_nzones = 0;
    qi_places_reset();
    for (unsigned node = 0; node < b->nodes; node++)
        for (unsigned type = 0; type < QI_CLASSES; type++) {
            struct qi_zone *z = &qi_zones[qi_nzones];

            *z =
                (struct qi_zone){.start = UINT64_MAX, .node = (uint8_t)node, .type = (uint8_t)type};
            find_span(b->map, z);
            present += z->present;
            if (z->start > z->end)
                continue;
            z->slot = (uint16_t)qi_nzones++;
            qi_place_init(z);
            z->first_block = z->start / QI_BLOCK_FRAMES;
            z->nblocks =
                (uint32_t)((z->end + QI_BLOCK_FRAMES - 1) / QI_BLOCK_FRAMES - z->first_block);
            qi_zone_lock_init(z);
            qi_zone_lists_init(z);
        }
    if (present)
        return QUIRE_OK;
    qi_log(QUIRE_LOG_ERROR, "frames: the memory map has no usable memory");
    return QUIRE_INVALID;
}

enum quire_status qi_frames_make(const struct quire_memmap *m, uint64_t from, uint64_t to)
{
    struct qi_map_range r, run = {0};
    enum quire_status s = QUIRE_OK;

    for (uint32_t i = 0; !s && qi_map_next(m, &i, &r);) {
        r.from = QI_MAX(r.from, from);
        r.to = QI_MIN(r.to, to);
        if (r.from >= r.to)
            continue;
        if (run.to && r.from <= run.to && r.node == run.node) {
            run.to = r.to;
            continue;
        }
        if (run.to)
            s = qi_map_make(run.from, run.to, run.node);
        run = r;
    }
    return s || !run.to ? s : qi_map_make(run.from, run.to, run.node);
}

/* Do so for everything that is not deferred. */
static enum quire_status at_once(struct quire_memmap *m,
                                 enum quire_status (*f)(const struct quire_memmap *, uint64_t,
                                                        uint64_t))
{
    enum quire_status s = QUIRE_OK;

    for (uint64_t from = 0, to = 0; !s && qi_deferred_next(&from, &to);)
        s = f(m, from, to);
    return s;
}

enum quire_status qi_boot_alloc(struct quire_memmap *m, uint64_t len, unsigned node,
                                const char *owner, void **out)
{
    q_pa pa;
    uint64_t limit = qi_layout_limit(&node);
    enum quire_status s = quire_memmap_alloc(m, len, QUIRE_PAGE_SIZE, limit, node, owner, &pa);

    if (s && limit != QUIRE_DIRECT_LIMIT) /* rather in a MOVABLE zone than nowhere */
        s = quire_memmap_alloc(m, len, QUIRE_PAGE_SIZE, QUIRE_DIRECT_LIMIT, node, owner, &pa);
    if (s) {
        qi_log(QUIRE_LOG_ERROR, "frames: no %lu KiB for %s: %s", (unsigned long)(len >> 10), owner,
               quire_status_text(s));
        return s;
    }
    *out = quire_ptr_of_pa(pa);
    return QUIRE_OK;
}

static enum quire_status alloc_blocks(struct quire_memmap *m, struct qi_zone *z)
{
    uint64_t bits = (uint64_t)z->nblocks * sizeof z->bits[0], i;
    void *at;
    enum quire_status s = qi_boot_alloc(m, bits + (uint64_t)z->nblocks * sizeof *z->blocks, z->node,
                                        "frame bitmaps", &at);

    if (s)
        return s;
    z->bits = at;
    z->blocks = (struct qi_block *)((char *)at + bits);
    for (i = 0; i < z->nblocks && !QPORT_BOOT_ZEROED; i++)
        z->blocks[i] = (struct qi_block){.state = QI_BLOCK_ABSENT};
    return QUIRE_OK;
}

/* The ranges where memory may come are written down: the map is the caller's. */
static enum quire_status alloc_announced(struct quire_memmap *m)
{
    struct qi_announced *to;
    enum quire_status s;
    struct piece p;
    uint32_t n = 0;
    void *at;

    qi_nannounced = 0;
    FOR_EACH_ANNOUNCED(m, p) n++;
    if (!n)
        return QUIRE_OK;
    s = qi_boot_alloc(m, n * sizeof *to, 0, "hot-plug ranges", &at);
    if (s)
        return s;
    to = qi_announced = at;
    FOR_EACH_ANNOUNCED(m, p)
    to[qi_nannounced++] = (struct qi_announced){p.start, p.end, p.node};
    return QUIRE_OK;
}

/* ---- Frames into blocks ---- */

/* [start, end) may be handed out. */
static void add_free(struct qi_zone *z, uint64_t start, uint64_t end)
{
    while (start < end) {
        uint32_t i = qi_block_of(z, start);
        uint64_t stop = QI_MIN(end, qi_block_pfn(z, i) + QI_BLOCK_FRAMES);
        struct qi_block *b = &z->blocks[i];

        if (!b->managed && stop - start < QI_BLOCK_FRAMES)
            for (unsigned w = 0; w < QI_BLOCK_WORDS; w++)
                z->bits[i][w] = 0;
        if (stop - start < QI_BLOCK_FRAMES)
            for (uint64_t f = start; f < stop; f++)
                z->bits[i][f / 64 % QI_BLOCK_WORDS] |= 1ull << f % 64;
        qi_store_relaxed(&b->managed, (uint16_t)(b->managed + (stop - start)));
        start = stop;
    }
}

static void mark_reserved(struct qi_zone *z, uint64_t start, uint64_t end)
{
    for (; start < end; start++) {
        struct quire_page *p = quire_page_of_pfn(Q_PFN(start));

        qi_store_relaxed(&p->flags, qi_flags_at(p, z->place | QUIRE_PG_RESERVED));
        qi_store_relaxed(&p->counts, (uint64_t)1);
        qi_block_set(&z->blocks[qi_block_of(z, start)], QI_BLOCK_RESERVED);
    }
}

/* Split a piece into what is reserved and what is free. */
static void add_piece(const struct quire_memmap *m, struct qi_zone *z, const struct piece *p)
{
    uint64_t at = p->start;
    uint32_t lo = 0, hi = m->nreserved;

    while (lo < hi) { /* the first reservation that ends above at */
        uint32_t mid = lo + (hi - lo) / 2;
        const struct quire_mem_range *r = &m->reserved[mid];

        if ((r->base.v + (r->len - 1)) / QUIRE_PAGE_SIZE < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < m->nreserved && at < p->end; lo++) {
        const struct quire_mem_range *r = &m->reserved[lo];
        uint64_t from = r->base.v / QUIRE_PAGE_SIZE;
        uint64_t to = (r->base.v + (r->len - 1)) / QUIRE_PAGE_SIZE + 1;

        from = QI_MIN(QI_MAX(from, at), p->end);
        to = QI_MIN(QI_MAX(to, at), p->end);
        add_free(z, at, from);
        mark_reserved(z, from, to);
        at = to;
    }
    add_free(z, at, p->end);
}

/* Struct pages of a block that is not wholly free: its own free frames, and the holes that no zone
 * has claimed. */
static void make_pages(struct qi_zone *z, uint32_t i)
{
    uint64_t pfn = qi_block_pfn(z, i);
    struct quire_page *page = quire_page_of_pfn(Q_PFN(pfn));
    bool some = z->blocks[i].managed != 0;

    for (unsigned f = 0; f < QI_BLOCK_FRAMES; f++)
        if (some && z->bits[i][f / 64] >> f % 64 & 1) {
            qi_store_relaxed(&page[f].flags, qi_flags_at(&page[f], z->place | QUIRE_PG_FREE));
        } else if (!page[f].flags) {
            qi_map_claim(z, pfn + f, pfn + f + 1); /* it has: the zone has frames in the block */
            qi_store_relaxed(&page[f].flags, qi_flags_at(&page[f], z->place | QUIRE_PG_RESERVED));
        }
}

/* Blocks [from, to) to their lists, from the top; z is locked. */
static void add_blocks(struct qi_zone *z, uint32_t from, uint32_t to)
{
    uint32_t i = to, run = 0;

    while (i-- > from) {
        struct qi_block *b = &z->blocks[i];

        qi_store_relaxed(&z->managed, z->managed + b->managed);
        if (b->managed == QI_BLOCK_FRAMES) {
            run++;
            continue;
        }
        if (run)
            qi_zone_add_whole(z, i + 1, run);
        run = 0;
        if (b->managed || b->state == QI_BLOCK_RESERVED)
            make_pages(z, i);
        if (b->managed)
            qi_zone_add_part(z, i);
    }
    if (run)
        qi_zone_add_whole(z, from, run);
}

/* What there is of a piece in [from, to). */
static bool cut(struct piece *p, uint64_t from, uint64_t to)
{
    p->start = QI_MAX(p->start, from);
    p->end = QI_MIN(p->end, to);
    return p->start < p->end;
}

enum quire_status qi_frames_give(const struct quire_memmap *m, uint64_t from, uint64_t to)
{
    enum quire_status s = QUIRE_OK;
    struct piece p;

    FOR_EACH_PIECE(m, p)
    if (!s && cut(&p, from, to))
        s = qi_map_claim(qi_zone_by(p.node, p.type), p.start, p.end);
    if (s)
        return s;
    FOR_EACH_PIECE(m, p)
    if (cut(&p, from, to))
        add_piece(m, qi_zone_by(p.node, p.type), &p);
    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];
        uint64_t first = QI_MAX(from / QI_BLOCK_FRAMES, z->first_block);
        uint64_t end = QI_MIN(to / QI_BLOCK_FRAMES, z->first_block + z->nblocks);
        unsigned long irq;

        if (first >= end)
            continue;
        irq = qport_irq_save();
        qi_zone_lock(z);
        add_blocks(z, (uint32_t)(first - z->first_block), (uint32_t)(end - z->first_block));
        qi_zone_unlock(z);
        qport_irq_restore(irq);
    }
    return QUIRE_OK;
}

static enum quire_status build(const struct quire_boot *b)
{
    enum quire_status s = qi_layout_init(b);

    if (!s)
        s = find_zones(b);
    if (!s)
        s = qi_deferred_init(b->map, b->first_bytes);
    if (!s)
        s = qi_map_alloc(b->map);
    if (!s)
        s = at_once(b->map, qi_frames_make);
    if (!s)
        s = qi_frame_stacks_alloc(b->map);
    if (!s)
        s = alloc_announced(b->map);
    for (unsigned i = 0; !s && i < qi_nzones; i++)
        s = alloc_blocks(b->map, &qi_zones[i]);
    /* nothing more is taken from the map: what is reserved now stays reserved */
    if (!s)
        s = at_once(b->map, qi_frames_give);
    if (s)
        return s;
    for (unsigned i = 0; i < qi_nzones; i++) {
        qi_zones[i].listed = b->first_bytes && qi_zones[i].present;
        qi_top_frame = QI_MAX(qi_top_frame, qi_zones[i].end);
    }
    qi_frame_watermarks();
    qi_zonelists_init(b->distance);
    qi_frame_stacks_init();
    quire_memory_set_use(QUIRE_ADD_MOVABLE);
    qi_zero_init();
    return QUIRE_OK;
}

enum quire_status quire_frame_init(const struct quire_boot *b)
{
    enum quire_status s = check_boot(b);

    if (s)
        return s;
    qi_nnodes = b->nodes;
    qi_ncpus = b->cpus;
    qi_top_frame = 0;
    qi_tune_init();
    qi_pressure_init();
    qi_attached_init();
    qi_device_init();
    for (unsigned c = 0; c < b->cpus; c++)
        qi_cpu_nodes[c] = b->cpu_node ? b->cpu_node[c] : 0;
    s = build(b);
    if (s) {
        qi_nzones = qi_nnodes = qi_ncpus = 0;
        return s;
    }
    qi_node_init(b);
    quire_frame_fail_after(-1);
    quire_frame_set_mover(NULL);
    quire_frame_set_settler(NULL);
    qi_boots++;
    return QUIRE_OK;
}

unsigned quire_nodes(void) { return qi_nnodes; }

unsigned quire_cpus(void) { return qi_ncpus; }
unsigned quire_cpu_node(unsigned cpu) { return cpu < qi_ncpus ? qi_cpu_nodes[cpu] : 0; }
