/*
 * frame/model_sparse.c - the memory models SPARSE and SPARSE_EXTREME: an array of struct pages for each
 * section of 2^QUIRE_SECTION_ORDER frames that has memory.
 *
 * A section's array reaches from its first pageblock with memory to its last: a hole costs an entry of
 * the table, and of whole parts of the table (SPARSE_EXTREME) not even that.  The arrays of a node's
 * sections are taken from its memory in one piece, so that the boot map gets one reservation a node.
 *
 * Later a section without an array gets a whole one.  A device's range that holds its own struct pages is the
 * array of all sections that it reaches into, and of nothing else in them: such sections are not shared.
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
static uintptr_t *entry_of(uint64_t section) { return &quire_sections[section]; }
static enum quire_status section_slot(struct quire_memmap *m, uint64_t section, uintptr_t **out)
{
    (void)m;
    *out = entry_of(section);
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
/* The entry of a section; NULL: the part of the table that it is in does not exist. */
static uintptr_t *entry_of(uint64_t section)
{
    uintptr_t *root = quire_section_roots[section / QUIRE_ROOT_SECTIONS];

    return root ? root + section % QUIRE_ROOT_SECTIONS : NULL;
}
/* The same; the part of the table comes into being. */
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

/* Frames that the array of their section has pages for, where these are not all: of boot (sorted), and of
 * devices that hold their own (to 0: none). */
struct part {
    uint64_t from, to;
};
static struct part *boot_parts;
static uint64_t nboot_parts;
static struct part inside[QI_DEVICES];

#define FIRST_OF(section) ((section) << QUIRE_SECTION_ORDER)
#define END_OF(section)   FIRST_OF((section) + 1)

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

static bool is_part(const struct section *s)
{
    return s->from > FIRST_OF(s->number) || s->to < END_OF(s->number);
}

/* What the arrays of boot leave out is written down. */
static enum quire_status note_parts(struct quire_memmap *m)
{
    enum quire_status st;
    struct section s;
    uint64_t n = 0;
    void *at;

    for (uint64_t pfn = 0; next_section(m, pfn, &s); pfn = END_OF(s.number))
        n += is_part(&s);
    nboot_parts = 0;
    if (!n)
        return QUIRE_OK;
    st = qi_boot_alloc(m, n * sizeof *boot_parts, 0, "parts of sections", &at);
    if (st)
        return st;
    boot_parts = at;
    for (uint64_t pfn = 0; next_section(m, pfn, &s); pfn = END_OF(s.number))
        if (is_part(&s))
            boot_parts[nboot_parts++] = (struct part){s.from, s.to};
    return QUIRE_OK;
}

enum quire_status qi_map_alloc(struct quire_memmap *m)
{
    enum quire_status s = check_top(m);

    reset();
    for (unsigned i = 0; i < QI_DEVICES; i++)
        inside[i] = (struct part){0};
    if (!s)
        s = note_parts(m);
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

/* ---- What comes later ---- */

static bool meets(const struct part *p, uint64_t from, uint64_t to)
{
    return p->from < to && from < p->to;
}

/* The section, which has an array, has pages there in it for [from, to), or for what of it is its own. */
static bool reaches(uint64_t section, uint64_t from, uint64_t to)
{
    from = QI_MAX(from, FIRST_OF(section));
    to = QI_MIN(to, END_OF(section));
    for (uint64_t i = 0; i < nboot_parts; i++)
        if (meets(&boot_parts[i], FIRST_OF(section), END_OF(section)))
            return boot_parts[i].from <= from && to <= boot_parts[i].to;
    for (unsigned i = 0; i < QI_DEVICES; i++)
        if (meets(&inside[i], FIRST_OF(section), END_OF(section)))
            return false;
    return true;
}

/* The entry of a section that has an array; NULL: it has none. */
static uintptr_t *array_of(uint64_t section)
{
    uintptr_t *slot = section < QUIRE_SECTIONS ? entry_of(section) : NULL;

    return slot && *slot ? slot : NULL;
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

    for (uint64_t n = from >> QUIRE_SECTION_ORDER; FIRST_OF(n) < to; n++)
        if (array_of(n) && !reaches(n, from, to))
            return qi_map_refuse(from, to,
                                 "the array of their section ends before "
                                 "(QUIRE_MEM_DEVICE announces them)");
    for (uint64_t n = from >> QUIRE_SECTION_ORDER; !s && FIRST_OF(n) < to; n++)
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
        uintptr_t *slot = array_of(n);

        if (!slot || !section_empty(n))
            continue;
        p = quire_page_head(quire_page_of_ptr(quire_page_of_pfn(Q_PFN(at))));
        if (quire_page_flags_now(p) & QUIRE_PG_RESERVED)
            continue;
        *slot = 0;
        quire_page_free(p, ARRAY_ORDER);
    }
}

/* ---- Inside a device ---- */

/* Memory may come to the section, and then need an array. */
static bool is_announced(uint64_t section)
{
    for (uint32_t i = 0; i < qi_nannounced; i++)
        if (qi_announced[i].start < END_OF(section) && FIRST_OF(section) < qi_announced[i].end)
            return true;
    return false;
}

enum quire_status qi_map_place(uint64_t from, uint64_t to)
{
    const uintptr_t map =
        (uintptr_t)quire_ptr_of_pa(quire_pa_of_pfn(Q_PFN(from))) - from * sizeof(struct quire_page);
    enum quire_status s = QUIRE_OK;
    uintptr_t *slot;
    unsigned i = 0;

    if (to > FIRST_OF(QUIRE_SECTIONS))
        return QUIRE_LIMIT;
    for (uint64_t n = from >> QUIRE_SECTION_ORDER; FIRST_OF(n) < to; n++)
        if (array_of(n) || is_announced(n))
            return qi_map_refuse(from, to, "another memory has pages in the same section");
    for (uint64_t n = from >> QUIRE_SECTION_ORDER; !s && FIRST_OF(n) < to; n++)
        s = section_slot(NULL, n, &slot); /* parts of the table */
    if (s)
        return s;
    for (uint64_t n = from >> QUIRE_SECTION_ORDER; FIRST_OF(n) < to; n++)
        *entry_of(n) = map;
    while (inside[i].to) /* there are as many as ranges of devices */
        i++;
    inside[i] = (struct part){from, to};
    qi_map_clear(from, to);
    return QUIRE_OK;
}

void qi_map_displace(uint64_t from, uint64_t to)
{
    for (uint64_t n = from >> QUIRE_SECTION_ORDER; FIRST_OF(n) < to; n++)
        *entry_of(n) = 0;
    for (unsigned i = 0; i < QI_DEVICES; i++)
        if (inside[i].to == to)
            inside[i] = (struct part){0};
}

#endif
