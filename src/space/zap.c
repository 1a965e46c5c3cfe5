/*
 * space/zap.c - taking pages away from a space: munmap, MADV_DONTNEED, truncation, exit.
 *
 * An entry is cleared first, the page's map count goes down with it; the reference that the entry
 * held is dropped by the gather after the flush.  So a frame is never free while some CPU can still
 * reach it.  A space that no CPU has loaded has no translations: there the reference is dropped at
 * once (qi_zap_all), which halves the work of exit.
 */
#include "space.h"

void qi_peak_rss(struct quire_space *s)
{
    uint64_t now = 0, peak = qi_load_relaxed(&s->peak_rss);

    for (unsigned k = 0; k < QI_RSS_KINDS; k++)
        now += (uint64_t)qi_load_relaxed(&s->rss[k]);
    /* a truncation gets here without the space's lock */
    while (QI_UNLIKELY(now > peak) && !qi_cas_relaxed(&s->peak_rss, &peak, now)) {
    }
}

/* What one run took away, so that the counters are touched once. */
struct taken {
    int64_t rss[QI_RSS_KINDS];
    uint64_t pages;
};

static void settle(struct quire_space *s, const struct taken *t)
{
    for (unsigned k = 0; k < QI_RSS_KINDS; k++)
        if (t->rss[k])
            qi_rss_add(s, k, -t->rss[k]);
    if (t->pages)
        qi_event_add(QUIRE_EVENT_PAGES_ZAPPED, t->pages);
}

/* The hardware saw a write through the leaf e of an object's page. */
static void note_dirty(struct quire_page *page, qi_pte e)
{
    struct quire_object *o = (struct quire_object *)(uintptr_t)qi_load_relaxed(&page->owner);

    if (qi_pte_dirty(e) && o)
        quire_object_dirty(o, page);
}

/* The leaf e at one of v's addresses is gone: count it, hand its page to the gather. */
static QI_ALWAYS_INLINE void drop_leaf(struct qi_gather *g, const struct qi_vma *v, struct taken *t,
                                       qi_pte e, unsigned level)
{
    struct quire_page *page;

    if (qi_pte_special(e) || !qi_pte_present(e))
        return;
    page = quire_page_of_pfn(qi_pte_pfn(e));
    t->rss[qi_rss_kind(v, page)] += 1 << (QI_PT_BITS * level);
    t->pages++;
    if (!(quire_page_flags_now(page) & QUIRE_PG_ANON))
        note_dirty(page, e);
    if (qi_load_relaxed(&page->counts) == QUIRE_PAGE_ONE_MAPPING)
        qi_store_relaxed(&page->maps, 0u); /* nobody else knows the page */
    else
        qi_fetch_sub_relaxed(&page->maps, 1u);
    qi_gather_page(g, page);
}

static void zap_span(struct qi_gather *g, const struct qi_vma *v, struct taken *t,
                     const struct qi_span *sp)
{
    for (unsigned i = 0; i < sp->n; i++) {
        qi_pte *p = &sp->ptes[i];

        if (qi_pte_none(qi_pte_load(p)))
            continue;
        drop_leaf(g, v, t, qi_pte_xchg(p, QI_PTE(0)), sp->level);
    }
}

void qi_zap(struct qi_gather *g, struct qi_vma *v, uint64_t start, uint64_t end)
{
    struct taken t = {.pages = 0};
    struct qi_span sp;

    qi_peak_rss(v->space);
    for (uint64_t at = start; qi_pt_next_span(v->space->tlb.root, &at, end, &sp);) {
        QI_ASSERT(!sp.level || qi_span_whole(&sp));
        qi_gather_range(g, sp.va, sp.end - sp.va);
        zap_span(g, v, &t, &sp);
    }
    settle(v->space, &t);
}

/* ---- Huge leaves ---- */

/* Split the huge leaf at slot into 4 KiB leaves, and its frame into frames.  The space's lock is held
 * for writing. */
static enum quire_status huge_split(struct quire_space *s, qi_pte *slot, uint64_t va)
{
    struct quire_page *table, *page;
    qi_pte e = qi_pte_load_link(slot);
    bool split;

    page = quire_page_of_pfn(qi_pte_pfn(e));
    QI_CHECK(page->counts == QUIRE_PAGE_ONE_MAPPING,
             "huge page pfn %#lx at %#lx: refs %u maps %u, expected one of each", qi_pte_pfn(e).v,
             va, page->refs, page->maps);
    table = qi_pt_table_alloc();
    if (!table)
        return QUIRE_NO_MEMORY;
    /* the frames first: a small leaf must never point into a block that is still one */
    qi_store_relaxed(&page->maps, 0u);
    quire_page_split(page);
    for (unsigned i = 0; i < QI_PT_ENTRIES; i++)
        qi_store_relaxed(&page[i].maps, 1u);
    split = qi_pt_split(s->tlb.root, slot, e, 1, table);
    QI_ASSERT(split); /* only the hardware writes beside us, and that it takes over */
    (void)split;
    qi_tlb_flush_page(&s->tlb, va);
    qi_event(QUIRE_EVENT_HUGE_SPLIT);
    return QUIRE_OK;
}

enum quire_status qi_huge_boundary(struct quire_space *s, uint64_t va)
{
    unsigned level;
    qi_pte *slot;

    if (!(va & (QUIRE_HUGE_SIZE - 1)))
        return QUIRE_OK;
    slot = qi_pt_lookup(s->tlb.root, va, &level);
    if (!slot || level != 1)
        return QUIRE_OK;
    return huge_split(s, slot, qi_align_down(va, QUIRE_HUGE_SIZE));
}

enum quire_status qi_huge_split_range(struct quire_space *s, uint64_t start, uint64_t end)
{
    struct qi_span sp;

    for (uint64_t at = start; qi_pt_next_span(s->tlb.root, &at, end, &sp);) {
        if (sp.level == 1) {
            enum quire_status status = huge_split(s, sp.ptes, sp.va);

            if (status != QUIRE_OK)
                return status;
        }
    }
    return QUIRE_OK;
}

/* ---- Truncation: from an object to the spaces that map it ---- */

/*
 * The leaf e maps o's own page of index.  The tree tells, not the page's flags: a private copy may be freed and
 * allocated anew beside us, and be back in the leaf; a page of the tree stays what it is.
 */
static bool maps_own(struct quire_object *o, uint64_t index, qi_pte e)
{
    struct quire_page *page = quire_object_peek(o, index);
    bool own = page && qi_pte_pfn(e).v == quire_pfn_of_page(page).v;

    if (page)
        quire_page_put(page);
    return own;
}

/* Take the object's own pages of [start, end) out of v; private copies stay. */
static void zap_object_pages(struct qi_gather *g, struct qi_vma *v, uint64_t start, uint64_t end)
{
    struct taken t = {.pages = 0};
    struct qi_span sp;

    for (uint64_t at = start; qi_pt_next_span(v->space->tlb.root, &at, end, &sp);) {
        qi_gather_range(g, sp.va, sp.end - sp.va);
        for (unsigned i = 0; i < sp.n; i++) {
            uint64_t index = qi_vma_pgoff(v, sp.va + ((uint64_t)i << QUIRE_PAGE_SHIFT));
            qi_pte e = qi_pte_load_link(&sp.ptes[i]);

            if (!qi_pte_present(e) || !maps_own(v->object, index, e))
                continue;
            /* a write fault may put a copy here meanwhile: then it stays */
            if (qi_pte_cas(&sp.ptes[i], &e, QI_PTE(0)))
                drop_leaf(g, v, &t, e, 0);
            else
                i--;
        }
    }
    settle(v->space, &t);
}

/* map_lock keeps v and the tables below it in being; other tasks may fault and zap beside us. */
void qi_object_unmap(struct quire_object *o, uint64_t from, uint64_t to, bool copies)
{
    struct qi_vma *v;

    qi_list_for_each (v, &o->vmas, object_link) {
        uint64_t first = QI_MAX(from, v->pgoff), last = QI_MIN(to, v->pgoff + qi_vma_pages(v));
        struct qi_gather g;

        if (first >= last)
            continue;
        qi_gather_init(&g, &v->space->tlb);
        if (copies)
            qi_zap(&g, v, qi_vma_address(v, first), qi_vma_address(v, last));
        else
            zap_object_pages(&g, v, qi_vma_address(v, first), qi_vma_address(v, last));
        qi_gather_finish(&g);
    }
}

/* ---- Teardown ---- */

#define BATCH 64

struct batch {
    unsigned n;
    struct quire_page *pages[BATCH];
};

static void batch_flush(struct batch *b)
{
    if (b->n)
        quire_page_free_bulk(b->n, b->pages);
    b->n = 0;
}

/* Drop the mapping and its reference in one step; whoever drops the last frees the page. */
static QI_ALWAYS_INLINE void drop_now(struct batch *b, struct taken *t, qi_pte e, unsigned level)
{
    struct quire_page *page;

    if (qi_pte_special(e) || !qi_pte_present(e))
        return;
    page = quire_page_of_pfn(qi_pte_pfn(e));
    t->pages++;
    if (!(quire_page_flags_now(page) & QUIRE_PG_ANON))
        note_dirty(page, e);
    if (qi_load_acquire(&page->counts) == QUIRE_PAGE_ONE_MAPPING)
        qi_store_relaxed(&page->maps, 0u);
    else if ((uint32_t)qi_fetch_sub_acqrel(&page->counts, QUIRE_PAGE_ONE_MAPPING) != 1)
        return;
    else
        qi_store_relaxed(&page->refs, 1u); /* ours again, for the free */
    if (level) {
        quire_page_free(page, QUIRE_HUGE_ORDER);
        return;
    }
    b->pages[b->n++] = page;
    if (b->n == BATCH)
        batch_flush(b);
}

void qi_zap_all(struct quire_space *s)
{
    struct batch b = {.n = 0};
    struct taken t = {.pages = 0};
    struct qi_span sp;

    qi_peak_rss(s);
    /* by vma, not over the whole half: empty upper tables are long to walk */
    for (const struct qi_vma *v = s->first; v; v = v->next)
        for (uint64_t at = v->start; qi_pt_next_span(s->tlb.root, &at, v->end, &sp);)
            for (unsigned i = 0; i < sp.n; i++) {
                /* a truncation may come from outside: who gets the entry, counts it */
                if (!qi_pte_none(qi_pte_load(&sp.ptes[i])))
                    drop_now(&b, &t, qi_pte_xchg(&sp.ptes[i], QI_PTE(0)), sp.level);
            }
    batch_flush(&b);
    for (unsigned k = 0; k < QI_RSS_KINDS; k++)
        qi_store_relaxed(&s->rss[k], (int64_t)0);
    qi_event_add(QUIRE_EVENT_PAGES_ZAPPED, t.pages);
}
