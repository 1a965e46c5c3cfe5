/*
 * frame/model_sparse.c - the memory models SPARSE and SPARSE_EXTREME: an array of struct pages for each
 * section of 2^QUIRE_SECTION_ORDER frames that has memory.
 *
 * A section's array reaches from its first pageblock with memory to its last: a hole costs an entry of
 * the table, and of whole parts of the table (SPARSE_EXTREME) not even that.  The arrays of a node's
 * sections are taken from its memory in one piece, so that the boot map gets one reservation a node.
 *
 * Sources.  Linux, mm/sparse.c: sparse_init_nid(), sparse_index_alloc().
 */
#include "map.h"

#if QUIRE_MEMORY_MODEL >= QUIRE_MODEL_SPARSE

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_SPARSE

uintptr_t quire_sections[QUIRE_SECTIONS];

static void reset(void)
{
    for (uint64_t i = 0; i < QUIRE_SECTIONS; i++)
        quire_sections[i] = 0;
}
static enum quire_status section_slot(struct quire_memmap *m, uint64_t section, uintptr_t **out)
{
    (void)m;
    *out = &quire_sections[section];
    return QUIRE_OK;
}

#else

uintptr_t *quire_section_roots[QUIRE_ROOTS];

static void reset(void)
{
    for (uint64_t i = 0; i < QUIRE_ROOTS; i++)
        quire_section_roots[i] = NULL;
}
/* From the boot map, or (NULL) from the allocator. */
static enum quire_status table_memory(struct quire_memmap *m, void **out)
{
    struct quire_page *p;

    if (m)
        return qi_boot_alloc(m, QUIRE_PAGE_SIZE, 0, "table of sections", out);
    p = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    *out = p ? quire_page_ptr(p) : NULL;
    return p ? QUIRE_OK : QUIRE_NO_MEMORY;
}
/* The entry of a section; the part of the table that it is in comes into being. */
static enum quire_status section_slot(struct quire_memmap *m, uint64_t section, uintptr_t **out)
{
    uintptr_t **root = &quire_section_roots[section / QUIRE_ROOT_SECTIONS];

    if (!*root) {
        void *at;
        enum quire_status s = table_memory(m, &at);

        if (s)
            return s;
        qport_clear_page(at);
        *root = at;
    }
    *out = *root + section % QUIRE_ROOT_SECTIONS;
    return QUIRE_OK;
}

#endif

/* A section, and the part of it that has struct pages.  Its memory is that of the node of its first
 * range. */
struct section {
    uint64_t number, from, to;
    unsigned node;
};

/* The section of frame at, or the first above it that has memory; false: none has.  Memory that may come
 * has its pages in the same array. */
static bool next_section(const struct quire_memmap *m, uint64_t at, struct section *out)
{
    uint64_t from = UINT64_MAX, start, end;
    struct qi_map_range r;

    for (uint32_t i = 0; from == UINT64_MAX && qi_map_next(m, &i, &r);)
        if (r.to > at)
            from = QI_MAX(r.from, at);
    if (from == UINT64_MAX)
        return false;
    *out = (struct section){
        .number = from >> QUIRE_SECTION_ORDER, .from = from, .to = from, .node = r.node};
    start = out->number << QUIRE_SECTION_ORDER;
    end = start + (1ull << QUIRE_SECTION_ORDER);
    for (uint32_t i = 0; qi_map_next_any(m, &i, &r) && r.from < end;)
        if (r.to > start) {
            out->from = QI_MIN(out->from, QI_MAX(r.from, start));
            out->to = QI_MIN(r.to, end);
        }
    return true;
}

static uint64_t bytes_of(const struct section *s)
{
    return (s->to - s->from) * sizeof(struct quire_page);
}

static enum quire_status check_top(const struct quire_memmap *m)
{
    uint64_t top = 0;
    struct qi_map_range r;

    for (uint32_t i = 0; qi_map_next(m, &i, &r);)
        top = r.to;
    if (top <= QUIRE_SECTIONS << QUIRE_SECTION_ORDER)
        return QUIRE_OK;
    qi_log(QUIRE_LOG_ERROR,
           "frames: memory up to %#lx, the table of sections ends at %#lx: QUIRE_SPARSE_BITS is %u",
           (unsigned long)(top * QUIRE_PAGE_SIZE),
           (unsigned long)((QUIRE_SECTIONS << QUIRE_SECTION_ORDER) * QUIRE_PAGE_SIZE),
           (unsigned)QUIRE_SPARSE_BITS);
    return QUIRE_LIMIT;
}

/* The arrays of a node's sections, in one piece. */
static enum quire_status alloc_node(struct quire_memmap *m, unsigned node)
{
    uint64_t bytes = 0;
    struct section s;
    enum quire_status st;
    void *at;

    for (uint64_t pfn = 0; next_section(m, pfn, &s); pfn = (s.number + 1) << QUIRE_SECTION_ORDER)
        bytes += s.node == node ? bytes_of(&s) : 0;
    if (!bytes)
        return QUIRE_OK;
    st = qi_boot_alloc(m, bytes, node, "struct pages", &at);
    for (uint64_t pfn = 0; !st && next_section(m, pfn, &s);
         pfn = (s.number + 1) << QUIRE_SECTION_ORDER) {
        uintptr_t *slot;

        if (s.node != node)
            continue;
        st = section_slot(m, s.number, &slot);
        if (st)
            break;
        *slot = (uintptr_t)at - s.from * sizeof(struct quire_page);
        at = (char *)at + bytes_of(&s);
    }
    return st;
}

enum quire_status qi_map_alloc(struct quire_memmap *m)
{
    enum quire_status s = check_top(m);

    reset();
    for (unsigned node = 0; !s && node < QUIRE_MAX_NODES; node++)
        s = alloc_node(m, node);
    return s;
}

enum quire_status qi_map_make(uint64_t from, uint64_t to, unsigned node)
{
    (void)node;
    qi_map_clear(from, to);
    return QUIRE_OK;
}

/* An array that was made for added memory is one block: 32 bytes a frame, 4096 in a frame. */
#define ARRAY_ORDER (QUIRE_SECTION_ORDER - 7u)

/* The array of a section that has none yet, whole.  A larger one than the allocator has blocks for cannot
 * be had. */
static enum quire_status add_section(uint64_t number, unsigned node)
{
    const unsigned order = ARRAY_ORDER;
    struct quire_page *p;
    uintptr_t *slot;
    enum quire_status s;

    if (number >= QUIRE_SECTIONS || order > QUIRE_MAX_ORDER)
        return QUIRE_LIMIT;
    s = section_slot(NULL, number, &slot);
    if (s || *slot)
        return s;
    p = quire_page_alloc(order, QUIRE_GFP_KERNEL, node);
    if (!p)
        return QUIRE_NO_MEMORY;
    for (uint64_t i = 0; i < 1ull << order; i++)
        qport_clear_page((char *)quire_page_ptr(p) + i * QUIRE_PAGE_SIZE);
    *slot =
        (uintptr_t)quire_page_ptr(p) - (number << QUIRE_SECTION_ORDER) * sizeof(struct quire_page);
    return QUIRE_OK;
}

enum quire_status qi_map_add(uint64_t from, uint64_t to, unsigned node)
{
    enum quire_status s = QUIRE_OK;

    for (uint64_t n = from >> QUIRE_SECTION_ORDER; !s && n << QUIRE_SECTION_ORDER < to; n++)
        s = add_section(n, node);
    if (!s)
        qi_map_clear(from, to);
    else
        qi_map_forget(from, to);
    return s;
}

static bool section_empty(uint64_t number)
{
    uint64_t from = number << QUIRE_SECTION_ORDER, to = from + (1ull << QUIRE_SECTION_ORDER);

    if (qi_device_meets(from, to))
        return false;
    for (unsigned i = 0; i < qi_nzones; i++) {
        const struct qi_zone *z = &qi_zones[i];
        uint64_t at = QI_MAX(from, qi_block_pfn(z, 0));

        for (; at < QI_MIN(to, qi_block_pfn(z, z->nblocks)); at += QI_BLOCK_FRAMES)
            if (qi_load_relaxed(&z->blocks[qi_block_of(z, at)].state) != QI_BLOCK_ABSENT)
                return false;
    }
    return true;
}

/* The array of a section of which nothing is there goes, if it was made by add_section(): those of boot
 * are reserved. */
void qi_map_forget(uint64_t from, uint64_t to)
{
    for (uint64_t n = from >> QUIRE_SECTION_ORDER; n << QUIRE_SECTION_ORDER < to; n++) {
        uint64_t at = QI_MAX(from, n << QUIRE_SECTION_ORDER);
        struct quire_page *p;
        uintptr_t *slot;

        if (n >= QUIRE_SECTIONS || !section_empty(n) || section_slot(NULL, n, &slot) || !*slot)
            continue;
        p = quire_page_head(quire_page_of_ptr(quire_page_of_pfn(Q_PFN(at))));
        if (quire_page_flags_now(p) & QUIRE_PG_RESERVED)
            continue;
        *slot = 0;
        quire_page_free(p, ARRAY_ORDER);
    }
}

#endif
