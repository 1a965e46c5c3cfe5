/*
 * pt/tables.c - the frames that are page tables: made, counted, kept for reuse, given back.
 *
 * A table that comes back is all zeros already: its entries were cleared when what it mapped was
 * unmapped (P6).  Clearing the next one, the larger part of what a table costs, is then wasted.  So
 * each CPU may keep a few: quire_pt_cache().  The same goes for roots, which keep their kernel
 * half as well.  Kept tables still have QUIRE_PG_TABLE and one reference; they are counted by
 * quire_pt_cached() and not by quire_pt_pages().
 *
 * Locking.  One spin lock a CPU, taken by its owner on the fast path and by quire_pt_trim() from
 * anywhere.
 */
#include "../sync/spin.h"
#include "internal.h"

#define KEEP_MAX  32
#define KEEP_ROOT 4 /* a root for this many tables */

static struct keep {
    struct qi_spin lock;
    uint32_t n, nroots; /* atomic for readers without the lock */
    struct quire_page *tables[KEEP_MAX], *roots[KEEP_MAX / KEEP_ROOT];
} QI_CACHE_ALIGNED keeps[QUIRE_MAX_CPUS];

static const struct qi_lock_class keep_class = {"page table cache"};
static uint32_t keep_limit;   /* atomic; tables a CPU, 0..KEEP_MAX */
static uint64_t table_frames; /* atomic; tables in use */

void qi_pt_reset(uint64_t boot_tables)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        keeps[i] = (struct keep){0};
        qi_spin_init(&keeps[i].lock, &keep_class);
    }
    qi_store_relaxed(&keep_limit, 0);
    qi_store_relaxed(&table_frames, boot_tables);
}

uint64_t quire_pt_pages(void) { return qi_load_relaxed(&table_frames); }

/* ---- Keeping ---- */

/* This CPU's cache, locked. */
static inline struct keep *lock_keep(void)
{
    struct keep *k;

    qport_preempt_disable();
    k = &keeps[qport_cpu()];
    qi_spin_lock_raw(&k->lock);
    return k;
}
static inline void unlock_keep(struct keep *k)
{
    qi_spin_unlock_raw(&k->lock);
    qport_preempt_enable();
}

/* A kept table, or a kept root, or NULL. */
static inline struct quire_page *take_kept(bool root)
{
    struct quire_page *t = NULL;
    struct keep *k;

    if (!qi_load_relaxed(&keep_limit))
        return NULL;
    k = lock_keep();
    if (root && k->nroots)
        t = k->roots[--k->nroots];
    else if (!root && k->n)
        t = k->tables[--k->n];
    unlock_keep(k);
    return t;
}

static inline bool keep(struct quire_page *t, bool root)
{
    uint32_t limit = qi_load_relaxed(&keep_limit);
    struct keep *k;
    bool kept = true;

    if (!limit)
        return false;
    k = lock_keep();
    if (root && k->nroots < limit / KEEP_ROOT)
        k->roots[k->nroots++] = t;
    else if (!root && k->n < limit)
        k->tables[k->n++] = t;
    else
        kept = false;
    unlock_keep(k);
    return kept;
}

/* Give frames back that no cache has and nothing counts. */
static void release(struct quire_page **tables, size_t n)
{
    for (size_t i = 0; i < n; i++)
        qi_fetch_and_relaxed(&tables[i]->flags, ~QUIRE_PG_TABLE);
    quire_page_free_bulk(n, tables);
}

void quire_pt_trim(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        struct quire_page *all[KEEP_MAX + KEEP_MAX / KEEP_ROOT];
        struct keep *k = &keeps[i];
        size_t n = 0;

        qi_spin_lock(&k->lock);
        while (k->n)
            all[n++] = k->tables[--k->n];
        while (k->nroots)
            all[n++] = k->roots[--k->nroots];
        qi_spin_unlock(&k->lock);
        release(all, n);
    }
}

void quire_pt_cache(unsigned tables)
{
    qi_store_relaxed(&keep_limit, QI_MIN(tables, (unsigned)KEEP_MAX));
    if (!tables)
        quire_pt_trim();
}

uint64_t quire_pt_cached(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++)
        n += qi_load_relaxed(&keeps[i].n) + qi_load_relaxed(&keeps[i].nroots);
    return n;
}

/* ---- Tables ---- */

struct quire_page *qi_pt_table_alloc(void)
{
    struct quire_page *t = take_kept(false);

    if (!t) {
        t = quire_page_alloc(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
        if (!t)
            return NULL;
        qi_fetch_or_relaxed(&t->flags, QUIRE_PG_TABLE);
    }
    qi_fetch_add_relaxed(&table_frames, 1);
    QPORT_EVENT(TABLE_ALLOC, t, 0);
    return t;
}

/* Looked at with QUIRE_DEBUG only: a dirty table in the cache would be a mapping out of nowhere. */
static inline __attribute__((unused)) bool all_clear(const struct quire_page *t, unsigned entries)
{
    const qi_pte *e = quire_page_ptr(t);

    for (unsigned i = 0; i < entries; i++)
        if (!qi_pte_none(e[i]))
            return false;
    return true;
}

void qi_pt_tables_free(struct quire_page *chain)
{
    struct quire_page *batch[32];
    size_t n = 0, freed = 0;

    while (chain) {
        struct quire_page *t = chain;

        QI_CHECK(t->flags & QUIRE_PG_TABLE, "pt: frame %#llx freed as a table, flags %#x",
                 (unsigned long long)quire_pfn_of_page(t).v, t->flags);
        QI_ASSERT(all_clear(t, QI_PT_ENTRIES)); /* P6 */
        chain = (struct quire_page *)(uintptr_t)t->owner;
        QPORT_EVENT(TABLE_FREE, t, 0);
        t->owner = 0;
        freed++;
        if (keep(t, false))
            continue;
        batch[n++] = t;
        if (n == QI_COUNT(batch)) {
            release(batch, n);
            n = 0;
        }
    }
    release(batch, n);
    qi_fetch_sub_relaxed(&table_frames, freed);
}

void qi_pt_table_free(struct quire_page *table)
{
    table->owner = 0; /* a chain of one */
    qi_pt_tables_free(table);
}

/* ---- Roots ---- */

enum quire_status qi_pt_root_alloc(q_pa *root)
{
    struct quire_page *page = take_kept(true);

    if (page) {
        qi_fetch_add_relaxed(&table_frames, 1);
        QPORT_EVENT(TABLE_ALLOC, page, 0);
    } else {
        const qi_pte *from = qi_pt_entries(qi_kpt_root());
        qi_pte *to;

        page = qi_pt_table_alloc();
        if (!page)
            return QUIRE_NO_MEMORY;
        to = quire_page_ptr(page);
        for (unsigned i = QI_PT_KERNEL_SLOT; i < QI_PT_ENTRIES; i++)
            to[i] = from[i];
    }
    page->index = 1;
    *root = quire_pa_of_page(page);
    return QUIRE_OK;
}

void qi_pt_root_free(q_pa root)
{
    struct quire_page *page = quire_page_of_pfn(quire_pfn_of_pa(root));

    QI_CHECK(page->flags & QUIRE_PG_TABLE && page->index == 1,
             "pt: root %#llx freed with %u tables, flags %#x", (unsigned long long)root.v,
             page->index, page->flags);
    QI_ASSERT(all_clear(page, QI_PT_KERNEL_SLOT)); /* P6 */
    QPORT_EVENT(TABLE_FREE, page, 0);
    page->index = 0;
    qi_fetch_sub_relaxed(&table_frames, 1);
    if (!keep(page, true))
        release(&page, 1);
}

uint64_t qi_pt_tables(q_pa root)
{
    return qi_load_relaxed(&quire_page_of_pfn(quire_pfn_of_pa(root))->index);
}

/* ---- As a source for the walker ---- */

static bool make(void *ctx, q_pa *out)
{
    struct quire_page *t = qi_pt_table_alloc();

    (void)ctx;
    if (t)
        *out = quire_pa_of_page(t);
    return t != NULL;
}

static void drop(void *ctx, q_pa table)
{
    (void)ctx;
    qi_pt_table_free(quire_page_of_pfn(quire_pfn_of_pa(table)));
}

const struct qi_table_maker qi_frame_tables = {make, drop, NULL};
