/*
 * pt/kernel.c - the kernel's own table: building it at boot, mapping and unmapping in its windows.
 *
 * All spaces share the kernel half by copying the root's upper entries.  quire_pt_init() gives each
 * of these entries a table at once (1 MiB for 256), so that no mapping made later is missing in
 * some space: the alternative, copying new entries into every root when a window grows, needs a
 * list of all roots and a fault handler for the races.
 *
 * Windows are written without locks: areas are disjoint (src/kva), tables are linked with
 * compare-and-swap.  Level-0 tables of the windows are kept when they get empty: a window is as
 * large as its busiest moment was, and a vmalloc after a vfree finds its table.
 */
#include "internal.h"

static q_pa kernel_root;

q_pa qi_kpt_root(void) { return kernel_root; }

/* ---- Mapping ---- */

/* Is [va, va + len) a range of whole pages that the format can translate, not wrapping? */
static bool range_ok(uint64_t va, uint64_t len)
{
    uint64_t end;

    return len && qi_is_aligned(va | len, QUIRE_PAGE_SIZE) && !qi_add_overflows(va, len, &end) &&
           qi_pt_canonical(va) && qi_pt_canonical(end - 1) &&
           qi_pt_index(va, QI_PT_TOP) / QI_PT_KERNEL_SLOT ==
               qi_pt_index(end - 1, QI_PT_TOP) / QI_PT_KERNEL_SLOT;
}

static bool frames_ok(uint64_t pa, uint64_t len)
{
    uint64_t end;

    return qi_is_aligned(pa, QUIRE_PAGE_SIZE) && !qi_add_overflows(pa, len, &end) &&
           !((end - 1) & ~(QI_X86_ADDR | (QUIRE_PAGE_SIZE - 1)));
}

/* P5, and something must be allowed. */
static bool prot_ok(unsigned prot)
{
    return prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC) &&
           (prot & (QUIRE_WRITE | QUIRE_EXEC)) != (QUIRE_WRITE | QUIRE_EXEC);
}

/* The largest leaf level that fits at va, pa with len left. */
static unsigned leaf_level(uint64_t va, uint64_t pa, uint64_t len, unsigned max_leaf_shift)
{
    unsigned l = QI_PT_LEAF_MAX;

    while (l > 0 && (QI_PT_SHIFT(l) > max_leaf_shift || len < QI_PT_SIZE(l) ||
                     !qi_is_aligned(va | pa, QI_PT_SIZE(l))))
        l--;
    return l;
}

struct mapping {
    q_pa root;
    qi_pte template;
    unsigned max_leaf_shift;
    const struct qi_table_maker *tables;
    uint64_t made; /* tables linked */
};

/* Fill level-0 slots from p on, up to the end of the table or of the range.  Returns the bytes. */
static uint64_t fill_small(const struct mapping *m, qi_pte *p, uint64_t va, uint64_t pa,
                           uint64_t len, enum quire_status *s)
{
    uint64_t room = QI_PT_SIZE(1) - (va & (QI_PT_SIZE(1) - 1)), done = 0;

    for (uint64_t n = QI_MIN(room, len); done < n; done += QUIRE_PAGE_SIZE, p++) {
        if (!qi_pte_none(qi_pte_load(p))) {
            *s = QUIRE_EXISTS;
            break;
        }
        qi_pte_set(p, qi_pte_leaf(m->template, quire_pfn_of_pa(Q_PA(pa + done)), 0));
    }
    return done;
}

/* Map one huge leaf, or one run of small ones.  Returns the bytes mapped; *s why it stopped. */
static uint64_t map_some(struct mapping *m, uint64_t va, uint64_t pa, uint64_t len,
                         enum quire_status *s)
{
    unsigned want = leaf_level(va, pa, len, m->max_leaf_shift), level;
    qi_pte *p;

    for (;;) {
        *s = qi_pt_slot_make(m->root, va, want, m->tables, &p, &level, &m->made);
        if (*s != QUIRE_OK)
            return 0;
        if (level != want) { /* under a larger leaf */
            *s = QUIRE_EXISTS;
            return 0;
        }
        if (!want)
            return fill_small(m, p, va, pa, len, s);
        if (qi_pte_none(qi_pte_load(p))) {
            qi_pte_set(p, qi_pte_leaf_huge(m->template, quire_pfn_of_pa(Q_PA(pa)), 0));
            return QI_PT_SIZE(want);
        }
        if (!qi_pte_leads(qi_pte_load(p))) {
            *s = QUIRE_EXISTS;
            return 0;
        }
        want--; /* a table is there already, perhaps empty: smaller leaves */
    }
}

/* Clear every entry of [va, va + len). */
static void clear_range(q_pa root, uint64_t va, uint64_t len)
{
    struct qi_span s;

    for (uint64_t at = va; qi_pt_next_span(root, &at, va + len, &s);) {
        QI_CHECK(!s.level || qi_span_whole(&s), "pt: unmap [%#llx, %#llx) cuts a leaf of level %u",
                 (unsigned long long)s.va, (unsigned long long)s.end, s.level);
        for (unsigned i = 0; i < s.n; i++)
            qi_pte_set(&s.ptes[i], QI_PTE(0));
    }
}

/* Map all of it or nothing.  *dirty: bytes that were mapped for a while, to be flushed. */
static enum quire_status map_range(struct mapping *m, uint64_t va, uint64_t pa, uint64_t len,
                                   uint64_t *dirty)
{
    enum quire_status s = QUIRE_OK;
    uint64_t done = 0;

    while (done < len && s == QUIRE_OK)
        done += map_some(m, va + done, pa + done, len - done, &s);
    if (s != QUIRE_OK) {
        clear_range(m->root, va, done);
        *dirty = done;
    }
    return s;
}

/* ---- Boot ---- */

struct boot_source {
    quire_table_source source;
    void *ctx;
};

static bool boot_table_make(void *ctx, q_pa *out)
{
    const struct boot_source *b = ctx;

    return b->source(b->ctx, out);
}

enum quire_status quire_pt_boot_map(q_pa root, uint64_t va, q_pa pa, uint64_t len, unsigned prot,
                                    enum quire_cache_type cache, unsigned max_leaf_shift,
                                    quire_table_source source, void *ctx)
{
    struct boot_source b = {source, ctx};
    struct qi_table_maker maker = {.make = boot_table_make, .ctx = &b};
    struct mapping m = {.root = root,
                        .template = qi_pte_template(prot, cache),
                        .max_leaf_shift = max_leaf_shift,
                        .tables = &maker};
    uint64_t dirty;

    if (!range_ok(va, len) || !frames_ok(pa.v, len) || !prot_ok(prot) ||
        (max_leaf_shift != QI_PT_SHIFT(0) && max_leaf_shift != QI_PT_SHIFT(1) &&
         max_leaf_shift != QI_PT_SHIFT(2)))
        return QUIRE_INVALID;
    return map_range(&m, va, pa.v, len, &dirty);
}

/* Tables of the whole tree at root, itself included. */
static uint64_t count_tables(q_pa root)
{
    uint64_t n = 1;

    for (unsigned half = 0; half < 2; half++) {
        uint64_t last = half ? ~(uint64_t)0 : QI_PT_SIZE(QI_PT_LEVELS) / 2 - 1;

        for (unsigned level = QI_PT_TOP; level >= 1; level--) {
            uint64_t va = half ? ~(QI_PT_SIZE(QI_PT_LEVELS) / 2 - 1) : 0;
            qi_pte *slot;
            unsigned l;

            while (qi_pt_next(root, &va, last, level, &slot, &l)) {
                n += l == level && qi_pte_leads(qi_pte_load(slot));
                va = (va | (QI_PT_SIZE(l) - 1)) + 1;
                if (!va)
                    break;
            }
        }
    }
    return n;
}

/* Unlink and free the tables that prepare() made. */
static void unprepare(const uint64_t made[QI_PT_KERNEL_SLOT / 64])
{
    qi_pte *root = qi_pt_entries(kernel_root);

    for (unsigned i = 0; i < QI_PT_KERNEL_SLOT; i++) {
        qi_pte *p = &root[QI_PT_KERNEL_SLOT + i];

        if (!(made[i / 64] >> i % 64 & 1))
            continue;
        qi_pt_table_free(quire_page_of_pfn(quire_pfn_of_pa(qi_pte_pa(*p))));
        qi_pte_set(p, QI_PTE(0));
    }
}

/* Give each kernel entry of the root its table. */
static enum quire_status prepare(void)
{
    uint64_t made[QI_PT_KERNEL_SLOT / 64] = {0};

    for (unsigned i = 0; i < QI_PT_KERNEL_SLOT; i++) {
        qi_pte *p = &qi_pt_entries(kernel_root)[QI_PT_KERNEL_SLOT + i];
        struct quire_page *t;

        if (!qi_pte_none(qi_pte_load(p)))
            continue;
        t = qi_pt_table_alloc();
        if (!t) {
            unprepare(made);
            return QUIRE_NO_MEMORY;
        }
        qi_pte_set(p, qi_pte_table(quire_pa_of_page(t), false));
        made[i / 64] |= (uint64_t)1 << i % 64;
    }
    return QUIRE_OK;
}

enum quire_status quire_pt_init(q_pa root)
{
    enum quire_status s;

    if (!qi_is_aligned(root.v, QUIRE_PAGE_SIZE) || root.v & ~QI_X86_ADDR)
        return QUIRE_INVALID;
    kernel_root = root;
    qi_pt_reset(count_tables(root));
    qi_tlb_reset();
    s = prepare();
    if (s == QUIRE_OK)
        quire_pt_cpu_online();
    return s;
}

/* ---- Windows ---- */

/* Whole pages of the kernel half: of those, no range that does not wrap is non-canonical. */
static inline bool kernel_range_ok(uint64_t va, uint64_t len)
{
    const uint64_t low = ~(QI_PT_SIZE(QI_PT_LEVELS) / 2 - 1);

    return va >= low && va + len > va && qi_is_aligned(va | len, QUIRE_PAGE_SIZE);
}

bool qi_kpt_prot_ok(unsigned prot) { return prot_ok(prot) && !(prot & QUIRE_USER); }

enum quire_status qi_kpt_map(q_kva va, q_pfn pfn, uint64_t n, unsigned prot,
                             enum quire_cache_type cache, unsigned max_leaf_shift)
{
    struct mapping m = {.root = kernel_root,
                        .template = qi_pte_template(prot | QUIRE_GLOBAL, cache),
                        .max_leaf_shift = max_leaf_shift,
                        .tables = &qi_frame_tables};
    uint64_t len, dirty = 0;
    enum quire_status s;

    if (qi_mul_overflows(n, QUIRE_PAGE_SIZE, &len) || pfn.v >> (52 - QUIRE_PAGE_SHIFT) ||
        !frames_ok(quire_pa_of_pfn(pfn).v, len) || !kernel_range_ok(va.v, len) ||
        !qi_kpt_prot_ok(prot))
        return QUIRE_INVALID;
    s = map_range(&m, va.v, quire_pa_of_pfn(pfn).v, len, &dirty);
    if (dirty)
        qi_kpt_flush(va, dirty);
    return s;
}

/* Fill one table's worth of slots with pages.  Returns how many. */
static size_t fill_pages(uint64_t va, struct quire_page *const *pages, size_t n, qi_pte template,
                         enum quire_status *s)
{
    uint64_t made = 0;
    unsigned level;
    qi_pte *p;
    size_t i;

    p = qi_pt_lookup(kernel_root, va, &level);
    if (!p) {
        *s = qi_pt_slot_make(kernel_root, va, 0, &qi_frame_tables, &p, &level, &made);
        if (*s != QUIRE_OK)
            return 0;
    }
    n = QI_MIN(n, (size_t)(QI_PT_ENTRIES - qi_pt_index(va, 0)));
    for (i = 0; i < n; i++) {
        if (level || !qi_pte_none(qi_pte_load(&p[i]))) {
            *s = QUIRE_EXISTS;
            break;
        }
        qi_pte_set(&p[i], qi_pte_leaf(template, quire_pfn_of_page(pages[i]), 0));
    }
    return i;
}

enum quire_status qi_kpt_map_pages(q_kva va, struct quire_page *const *pages, size_t n,
                                   unsigned prot)
{
    qi_pte template = qi_pte_template(prot | QUIRE_GLOBAL, QUIRE_CACHED);
    enum quire_status s = QUIRE_OK;
    uint64_t len;
    size_t done = 0;

    if (qi_mul_overflows(n, QUIRE_PAGE_SIZE, &len) || !kernel_range_ok(va.v, len) ||
        !qi_kpt_prot_ok(prot))
        return QUIRE_INVALID;
    while (done < n && s == QUIRE_OK)
        done += fill_pages(va.v + done * QUIRE_PAGE_SIZE, pages + done, n - done, template, &s);
    if (s != QUIRE_OK && done) {
        clear_range(kernel_root, va.v, done * QUIRE_PAGE_SIZE);
        qi_kpt_flush(va, done * QUIRE_PAGE_SIZE);
    }
    return s;
}

void qi_kpt_unmap(q_kva va, uint64_t len)
{
    QI_CHECK(kernel_range_ok(va.v, len), "pt: kernel unmap of [%#llx, + %#llx)",
             (unsigned long long)va.v, (unsigned long long)len);
    clear_range(kernel_root, va.v, len);
}

qi_pte *qi_kpt_slots(q_kva va, size_t n)
{
    unsigned level;
    qi_pte *p;

    if (n > QI_PT_ENTRIES - qi_pt_index(va.v, 0))
        return NULL;
    p = qi_pt_lookup(kernel_root, va.v, &level);
    if (!p) {
        uint64_t made = 0;

        if (qi_pt_slot_make(kernel_root, va.v, 0, &qi_frame_tables, &p, &level, &made) != QUIRE_OK)
            return NULL;
    }
    return level ? NULL : p;
}

static bool table_empty(qi_pte link)
{
    const qi_pte *p = qi_pt_entries(qi_pte_pa(link));

    for (unsigned i = 0; i < QI_PT_ENTRIES; i++)
        if (!qi_pte_none(qi_pte_load(&p[i])))
            return false;
    return true;
}

void qi_kpt_drop_tables(q_kva va, uint64_t len)
{
    uint64_t first = qi_align_up(va.v, QI_PT_SIZE(1)),
             end = qi_align_down(va.v + len, QI_PT_SIZE(1));
    struct quire_page *dropped = NULL, *table;

    for (uint64_t at = first; at < end; at += QI_PT_SIZE(1)) {
        unsigned level;
        qi_pte *slot = qi_pt_slot(kernel_root, at, 1, &level), e;

        if (!slot || level != 1)
            continue;
        e = qi_pte_load_link(slot);
        if (!qi_pte_leads(e) || !table_empty(e))
            continue;
        qi_pte_set(slot, QI_PTE(0));
        table = quire_page_of_pfn(quire_pfn_of_pa(qi_pte_pa(e)));
        table->owner = (uint64_t)(uintptr_t)dropped;
        dropped = table;
    }
    if (!dropped)
        return;
    qi_kpt_flush(Q_KVA(first), end - first); /* a CPU may keep the way to a table */
    qi_pt_tables_free(dropped);
}

/* A large leaf that the border at va cuts becomes a table. */
static enum quire_status split_at(uint64_t va)
{
    for (;;) {
        unsigned level;
        qi_pte *slot = qi_pt_lookup(kernel_root, va, &level);
        struct quire_page *table;

        if (!slot || !level || qi_is_aligned(va, QI_PT_SIZE(level)))
            return QUIRE_OK;
        table = qi_pt_table_alloc();
        if (!table)
            return QUIRE_NO_MEMORY;
        if (!qi_pt_split(kernel_root, slot, qi_pte_load(slot), level, table))
            qi_pt_table_free(table);
    }
}

enum quire_status qi_kpt_protect(q_kva va, uint64_t len, unsigned prot)
{
    enum quire_status s = QUIRE_INVALID;
    qi_pte template;
    struct qi_span sp;

    if (!kernel_range_ok(va.v, len) || !qi_kpt_prot_ok(prot))
        return QUIRE_INVALID;
    s = split_at(va.v);
    if (s == QUIRE_OK)
        s = split_at(va.v + len);
    if (s != QUIRE_OK)
        return s;
    for (uint64_t at = va.v; qi_pt_next_span(kernel_root, &at, va.v + len, &sp);)
        for (unsigned i = 0; i < sp.n; i++) {
            qi_pte e = qi_pte_load(&sp.ptes[i]);

            template = qi_pte_template(prot | QUIRE_GLOBAL, qi_pte_cache(e));
            while (!qi_pte_none(e) && !qi_pte_cas(&sp.ptes[i], &e, qi_pte_modify(e, template))) {
            }
        }
    qi_kpt_flush(va, len);
    return QUIRE_OK;
}

/* ---- For the kernel around the library ---- */

enum quire_status quire_pt_kernel_map(uint64_t va, q_pa pa, uint64_t len, unsigned prot,
                                      unsigned max_leaf_shift)
{
    if ((pa.v | len) % QUIRE_PAGE_SIZE || !len)
        return QUIRE_INVALID;
    return qi_kpt_map(Q_KVA(va), quire_pfn_of_pa(pa), len / QUIRE_PAGE_SIZE, prot, QUIRE_CACHED,
                      max_leaf_shift);
}

void quire_pt_kernel_unmap(uint64_t va, uint64_t len)
{
    qi_kpt_unmap(Q_KVA(va), len);
    qi_kpt_flush(Q_KVA(va), len);
}

enum quire_status quire_pt_kernel_remap(uint64_t va, q_pa pa, unsigned prot)
{
    enum quire_status s;
    unsigned level;
    qi_pte *p;

    if (!kernel_range_ok(va, QUIRE_PAGE_SIZE) || !frames_ok(pa.v, QUIRE_PAGE_SIZE) ||
        !qi_kpt_prot_ok(prot))
        return QUIRE_INVALID;
    s = split_at(va);
    if (s == QUIRE_OK)
        s = split_at(va + QUIRE_PAGE_SIZE);
    if (s != QUIRE_OK)
        return s;
    p = qi_pt_lookup(kernel_root, va, &level);
    if (!p || level || qi_pte_none(qi_pte_load(p)))
        return QUIRE_NOT_FOUND;
    qi_pte_set(
        p, qi_pte_leaf(qi_pte_template(prot | QUIRE_GLOBAL, QUIRE_CACHED), quire_pfn_of_pa(pa), 0));
    qi_kpt_flush(Q_KVA(va), QUIRE_PAGE_SIZE);
    return QUIRE_OK;
}

void qi_kpt_guard(q_pa root, uint64_t va, bool closed)
{
    unsigned level;
    qi_pte *p = qi_pt_lookup(root, va, &level);
    qi_pte e;

    QI_CHECK(p && !level && kernel_range_ok(va, QUIRE_PAGE_SIZE),
             "pt: guard at %#llx: no small leaf of the kernel's is there", (unsigned long long)va);
    e = qi_pte_load(p);
    QI_CHECK(qi_pte_present(e), "pt: guard at %#llx: nothing is mapped: entry %#llx",
             (unsigned long long)va, (unsigned long long)e.v);
    qi_pte_set(
        p, qi_pte_modify(e, qi_pte_template(closed ? 0 : QUIRE_READ | QUIRE_WRITE | QUIRE_GLOBAL,
                                            QUIRE_CACHED)));
}
