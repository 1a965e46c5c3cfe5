/*
 * kva/kva.c - kernel virtual areas: the windows, the life of an area, the lazy purge.
 *
 * Purpose.  Memory that is contiguous for the kernel though its frames are scattered; device
 * registers; stacks that fault when they overflow.
 *
 * Model.  Three windows of kernel addresses, each a set of disjoint areas ordered by address
 * (gaps.h).  An area is a run of mapped pages and one unmapped guard page: behind it, so that
 * running over the end faults; for stacks, which grow down, in front.
 *
 *     areas     | memory      G| mapped G|   free   | memory          G|  ...  fence
 *     stacks    |G stack |G stack |  free  |G stack |  ...               G fence
 *
 * An area that has its own pages is freed in two steps.  Its entries are cleared and it is put on
 * the lazy list; addresses and frames stay taken.  When enough is on the list one flush serves all
 * of it (the purge): then frames and addresses are given back.  A purge also happens before an
 * allocation is refused.  Areas of up to 64 pages then stay in the window, ready for the next
 * request of their size, which needs no search.  So one shootdown pays for hundreds of frees, and
 * neither a frame nor an address is ever reused while a CPU may still translate through the old
 * entry.  Areas over somebody else's frames (vmap, ioremap) are flushed at once, for their owner
 * may free these the moment we return.
 *
 * Invariants (quire_kva_verify)
 *   K1  areas of a window, with their guards, are disjoint and lie inside it
 *   K2  every page of a live area or cached stack is mapped; no guard is
 *   K3  no page of a lazy or ready area is mapped
 *   K4  the own pages of an area carry QUIRE_PG_KVA and name it in owner, and nothing else does
 *   K5  an area leaves its window only after a flush that began after its entries were cleared
 *
 * K4 makes vfree() a table walk and one look at the page, whatever the number of areas.  An area's
 * own blocks are chained by quire_page.next: no array of pages is needed however large it is.
 *
 * Locking.  qi_window.lock: the tree.  lazy_lock: the lazy list.  Nothing is allocated, mapped or
 * flushed under either.  Table entries need no lock, for areas are disjoint.  All calls are for
 * tasks but quire_stack_guard_hit(), which only walks tables and may be made by the handler of the
 * fault.
 *
 * Failure.  Lack of memory or of addresses: NULL or NO_MEMORY after a purge and a second try;
 * nothing is left mapped.
 *
 * Cost.  O(log n) in the number of areas for each make and free, O(1) for a stack from the CPU's
 * cache, O(pages) to map.
 *
 * Sources: Linux's vmap_area tree with augmented gaps and lazy purge (description in its
 * documentation only); Bonwick and Adams, "Magazines and Vmem" (2001), whose vmem was
 * rejected: its boundary tags and quantum caches pay off with many small sizes, here nearly all are
 * stacks.
 */
#include "kva.h"

#include "../base/check.h"

#define LAZY_PAGES_MAX 512u /* 2 MiB: what may wait for a flush */
#define BATCH          32u

struct qi_window qi_windows[3];

static const struct qi_lock_class window_class = {"kva: window"};
static const struct qi_lock_class lazy_class = {"kva: lazy list"};

static struct quire_cache *area_cache;
static struct qi_spin lazy_lock;
static struct qi_area *lazy_list; /* lazy_lock */
static uint64_t lazy_pages;       /* lazy_lock */
static uint64_t purges;           /* atomic */

/* ---- windows ---- */

static bool layout_ok(const struct quire_kva_layout *l)
{
    const uint64_t v[] = {l->areas_start.v, l->areas_end.v,    l->stacks_start.v,
                          l->stacks_end.v,  l->device_start.v, l->device_end.v};

    for (unsigned i = 0; i < 6; i += 2) {
        /* room for a page and its guard, and no end at 2^64, where addresses wrap */
        if (!qi_is_aligned(v[i] | v[i + 1], QUIRE_PAGE_SIZE) || v[i] >= v[i + 1] ||
            v[i + 1] - v[i] < 4 * QUIRE_PAGE_SIZE)
            return false;
        for (unsigned j = 0; j < i; j += 2)
            if (v[i] < v[j + 1] && v[j] < v[i + 1])
                return false;
    }
    return true;
}

static void window_init(struct qi_window *w, q_kva start, q_kva end, uint64_t tail)
{
    *w = (struct qi_window){.start = start.v, .end = end.v};
    qi_spin_init(&w->lock, &window_class);
    qi_gaps_init(&w->gaps, start.v, end.v - tail);
}

enum quire_status quire_kva_init(const struct quire_kva_layout *l)
{
    enum quire_status s;

    if (!layout_ok(l))
        return QUIRE_INVALID;
    s = quire_cache_create("kva-area", sizeof(struct qi_area), QI_CACHE_LINE, 0, NULL, &area_cache);
    if (s != QUIRE_OK)
        return s;
    window_init(QI_AREAS, l->areas_start, l->areas_end, 0);
    /* the last stack has a guard behind it as well */
    window_init(QI_STACKS, l->stacks_start, l->stacks_end, QUIRE_PAGE_SIZE);
    window_init(QI_DEVICES, l->device_start, l->device_end, 0);
    qi_spin_init(&lazy_lock, &lazy_class);
    lazy_list = NULL;
    lazy_pages = 0;
    purges = 0;
    qi_stacks_init();
    return QUIRE_OK;
}

/* ---- own pages ---- */

static void chain_block(struct qi_area *a, struct quire_page *head)
{
    head->owner = (uint64_t)(uintptr_t)a;
    /* ours alone: others may read the flags, nobody else writes them */
    qi_store_relaxed(&head->flags, head->flags | QUIRE_PG_KVA);
    head->next = a->pages;
    a->pages = (uint32_t)quire_pfn_of_page(head).v;
}

/* A 2 MiB block at va, if it is aligned, fits, and there is one. */
static bool populate_huge(struct qi_area *a, uint64_t at, quire_gfp gfp)
{
    struct quire_page *head;

    if (!qi_is_aligned(at, QUIRE_HUGE_SIZE) || a->start + a->bytes - at < QUIRE_HUGE_SIZE)
        return false;
    head = quire_page_alloc(QUIRE_HUGE_ORDER, gfp | QUIRE_GFP_NORETRY, QUIRE_NODE_ANY);
    if (!head)
        return false;
    chain_block(a, head);
    return qi_kpt_map(Q_KVA(at), quire_pfn_of_page(head), 1u << QUIRE_HUGE_ORDER,
                      QUIRE_READ | QUIRE_WRITE, QUIRE_CACHED, QUIRE_HUGE_SHIFT) == QUIRE_OK;
}

/* Up to BATCH single pages at va, not beyond the next 2 MiB.  Returns how many, 0: no memory. */
static size_t populate_small(struct qi_area *a, uint64_t at, quire_gfp gfp)
{
    uint64_t until =
        QI_MIN(a->start + a->bytes, qi_align_down(at, QUIRE_HUGE_SIZE) + QUIRE_HUGE_SIZE);
    size_t want = QI_MIN((until - at) >> QUIRE_PAGE_SHIFT, (uint64_t)BATCH), n;
    struct quire_page *pages[BATCH];

    if (want == 1) {
        pages[0] = quire_page_alloc(0, gfp, QUIRE_NODE_ANY);
        n = pages[0] ? 1 : 0;
    } else {
        n = quire_page_alloc_bulk(want, pages, gfp, QUIRE_NODE_ANY);
    }
    for (size_t i = 0; i < n; i++)
        chain_block(a, pages[i]);
    if (!n || qi_kpt_map_pages(Q_KVA(at), pages, n, QUIRE_READ | QUIRE_WRITE) != QUIRE_OK)
        return 0;
    return n;
}

bool qi_area_populate(struct qi_area *a, quire_gfp gfp)
{
    uint64_t at = a->start, end = a->start + a->bytes;

    gfp &= ~(quire_gfp)(QUIRE_GFP_MOVABLE | QUIRE_GFP_RECLAIMABLE);
    while (at < end) {
        size_t n;

        if (populate_huge(a, at, gfp)) {
            at += QUIRE_HUGE_SIZE;
            continue;
        }
        n = populate_small(a, at, gfp);
        if (!n)
            return false;
        at += n << QUIRE_PAGE_SHIFT;
    }
    return true;
}

static void free_pages(struct qi_area *a)
{
    struct quire_page *batch[BATCH];
    size_t n = 0;

    while (a->pages != QI_NO_PAGE) {
        struct quire_page *head = quire_page_of_pfn(Q_PFN(a->pages));
        unsigned order = quire_page_order(head);

        a->pages = head->next;
        head->owner = 0;
        qi_store_relaxed(&head->flags, head->flags & ~QUIRE_PG_KVA);
        if (order)
            quire_page_free(head, order);
        else
            batch[n++] = head;
        if (n == BATCH || (n && a->pages == QI_NO_PAGE)) {
            quire_page_free_bulk(n, batch);
            n = 0;
        }
    }
}

/* ---- areas ---- */

/* Nothing is mapped in a, and it has been flushed: keep its addresses for the next of its size, or
 * give them back. */
static void put_away(struct qi_window *w, struct qi_area *a)
{
    uint64_t pages = a->bytes >> QUIRE_PAGE_SHIFT;
    bool keep;

    qi_spin_lock(&w->lock);
    keep = pages <= QI_READY_PAGES && w->nready < QI_READY_MAX;
    if (keep) {
        qi_store_relaxed(&a->state, (uint32_t)QI_KVA_READY);
        a->next = w->ready[pages];
        w->ready[pages] = a;
        w->nready++;
    } else {
        qi_gaps_remove(&w->gaps, &a->node);
    }
    qi_spin_unlock(&w->lock);
    if (!keep)
        quire_cache_free(area_cache, a);
}

static struct qi_area *pop_ready(struct qi_window *w, uint64_t pages)
{
    struct qi_area *a;

    qi_spin_lock(&w->lock);
    a = w->ready[pages];
    if (a) {
        w->ready[pages] = a->next;
        w->nready--;
        qi_store_relaxed(&a->state, (uint32_t)QI_KVA_BUSY);
    }
    qi_spin_unlock(&w->lock);
    return a;
}

static void release_ready(struct qi_window *w)
{
    struct qi_area *a;

    for (unsigned pages = 1; pages <= QI_READY_PAGES; pages++)
        while ((a = pop_ready(w, pages))) {
            qi_spin_lock(&w->lock);
            qi_gaps_remove(&w->gaps, &a->node);
            qi_spin_unlock(&w->lock);
            quire_cache_free(area_cache, a);
        }
}

static struct qi_window *window_of(const struct qi_area *a)
{
    return a->kind == QI_KVA_STACK ? QI_STACKS : a->kind == QI_KVA_DEVICE ? QI_DEVICES : QI_AREAS;
}

static bool place(struct qi_window *w, struct qi_area *a, uint64_t align, uint64_t offset)
{
    uint64_t front = a->kind == QI_KVA_STACK ? QUIRE_PAGE_SIZE : 0, at;
    struct qi_gap_node *next;
    bool found;

    qi_spin_lock(&w->lock);
    found = qi_gaps_find(&w->gaps, a->bytes + QUIRE_PAGE_SIZE, align, front - offset,
                         QUIRE_PAGE_SIZE, &at, &next);
    if (found) {
        a->node.start = at;
        a->node.end = at + a->bytes + QUIRE_PAGE_SIZE;
        a->start = at + front;
        qi_gaps_insert(&w->gaps, &a->node, next);
    }
    qi_spin_unlock(&w->lock);
    return found;
}

struct qi_area *qi_area_make(struct qi_window *w, uint64_t bytes, uint64_t align, uint64_t offset,
                             enum qi_kva_kind kind)
{
    struct qi_area *a = NULL;

    if (bytes <= QI_READY_PAGES << QUIRE_PAGE_SHIFT && align <= QUIRE_PAGE_SIZE)
        a = pop_ready(w, bytes >> QUIRE_PAGE_SHIFT);
    if (a) {
        a->kind = (uint8_t)kind; /* pages: none, its own are freed */
        return a;
    }
    if (bytes > w->end - w->start)
        return NULL;
    a = quire_cache_alloc(area_cache, QUIRE_GFP_KERNEL);
    if (!a)
        return NULL;
    a->bytes = bytes;
    a->kind = (uint8_t)kind;
    a->pages = QI_NO_PAGE;
    qi_store_relaxed(&a->state, (uint32_t)QI_KVA_BUSY);
    if (place(w, a, align, offset))
        return a;
    quire_kva_purge();
    if (place(w, a, align, offset))
        return a;
    quire_cache_free(area_cache, a);
    return NULL;
}

void qi_area_publish(struct qi_window *w, struct qi_area *a)
{
    qi_fetch_add_relaxed(&w->areas, 1);
    qi_fetch_add_relaxed(&w->bytes, a->bytes);
    qi_store_release(&a->state, (uint32_t)QI_KVA_LIVE);
}

struct qi_area *qi_area_owning(uint64_t va)
{
    unsigned level;
    qi_pte *p = qi_pt_lookup(qi_kpt_root(), va, &level), e;
    struct quire_page *page;

    if (!p)
        return NULL;
    e = qi_pte_load(p);
    if (qi_pte_none(e))
        return NULL;
    page = quire_page_of_pfn(quire_pfn_of_pa(qi_pte_pa(e)));
    return qi_load_relaxed(&page->flags) & QUIRE_PG_KVA ? (struct qi_area *)(uintptr_t)page->owner
                                                        : NULL;
}

static struct qi_area *area_at(struct qi_window *w, uint64_t start)
{
    struct qi_gap_node *n;

    qi_spin_lock(&w->lock);
    n = qi_gaps_lookup(&w->gaps, start);
    qi_spin_unlock(&w->lock);
    return n ? QI_CONTAINER(n, struct qi_area, node) : NULL; /* the fence contains nothing */
}

struct qi_area *qi_area_get(struct qi_window *w, uint64_t start, enum qi_kva_kind kind,
                            const char *who)
{
    struct qi_area *a = NULL;

    if (qi_window_has(w, start))
        a = kind == QI_KVA_MEMORY ? qi_area_owning(start) : area_at(w, start);
    QI_CHECK(a, "kva: %s: foreign or already freed pointer %#lx: no such area there", who,
             (unsigned long)start);
    QI_CHECK(
        a->start == start && a->kind == kind && qi_load_acquire(&a->state) == QI_KVA_LIVE,
        "kva: %s: pointer %#lx is not a live area's: area at %#lx, %lu bytes, kind %u, state %u",
        who, (unsigned long)start, (unsigned long)a->start, (unsigned long)a->bytes, a->kind,
        a->state);
    return a;
}

/* ---- purge ---- */

/* One flush of what the areas of one window on the list span. */
static void flush_window(const struct qi_window *w, const struct qi_area *list)
{
    uint64_t low = UINT64_MAX, high = 0;

    for (; list; list = list->next)
        if (window_of(list) == w) {
            low = QI_MIN(low, list->start);
            high = QI_MAX(high, list->start + list->bytes);
        }
    if (high)
        qi_kpt_flush(Q_KVA(low), high - low);
}

/* Returns the frames that came free. */
static uint64_t flush_lazy(void)
{
    struct qi_area *list;
    uint64_t frames;

    qi_spin_lock(&lazy_lock);
    list = lazy_list;
    frames = lazy_pages;
    lazy_list = NULL;
    lazy_pages = 0;
    qi_spin_unlock(&lazy_lock);
    if (!list)
        return 0;
    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++)
        flush_window(&qi_windows[i], list);
    while (list) {
        struct qi_area *a = list;

        list = a->next;
        free_pages(a);
        put_away(window_of(a), a);
    }
    qi_fetch_add_relaxed(&purges, 1);
    return frames;
}

uint64_t quire_kva_purge(void)
{
    uint64_t frames;

    qi_stacks_release();
    frames = flush_lazy();
    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++)
        release_ready(&qi_windows[i]);
    return frames;
}

/* ---- the end of an area ---- */

static void unpublish(struct qi_window *w, struct qi_area *a)
{
    if (qi_xchg_acqrel(&a->state, (uint32_t)QI_KVA_BUSY) == QI_KVA_LIVE) {
        qi_fetch_sub_relaxed(&w->areas, 1);
        qi_fetch_sub_relaxed(&w->bytes, a->bytes);
    }
}

void qi_area_retire(struct qi_window *w, struct qi_area *a)
{
    bool full;

    unpublish(w, a);
    qi_kpt_unmap(Q_KVA(a->start), a->bytes);
    qi_spin_lock(&lazy_lock);
    qi_store_release(&a->state, (uint32_t)QI_KVA_LAZY);
    a->next = lazy_list;
    lazy_list = a;
    lazy_pages += a->bytes >> QUIRE_PAGE_SHIFT;
    full = lazy_pages > LAZY_PAGES_MAX;
    qi_spin_unlock(&lazy_lock);
    if (full)
        flush_lazy();
}

void qi_area_destroy(struct qi_window *w, struct qi_area *a)
{
    unpublish(w, a);
    qi_kpt_unmap(Q_KVA(a->start), a->bytes);
    qi_kpt_flush(Q_KVA(a->start), a->bytes);
    put_away(w, a);
}

/* ---- what an observer sees ---- */

void quire_kva_stats(struct quire_kva_stats *out)
{
    *out = (struct quire_kva_stats){.stacks = qi_stacks_live(), .purges = qi_load_relaxed(&purges)};
    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++) {
        out->areas += qi_load_relaxed(&qi_windows[i].areas);
        out->bytes += qi_load_relaxed(&qi_windows[i].bytes);
    }
}

static bool mapped(uint64_t va)
{
    unsigned level;
    qi_pte *p = qi_pt_lookup(qi_kpt_root(), va, &level);

    return p && !qi_pte_none(qi_pte_load(p));
}

static bool verify_area(const struct qi_window *w, const struct qi_area *a)
{
    bool want = a->state == QI_KVA_LIVE || a->state == QI_KVA_CACHED;
    uint64_t guard = a->kind == QI_KVA_STACK ? a->node.start : a->node.end - QUIRE_PAGE_SIZE;

    if (a->state == QI_KVA_BUSY)
        return true;
    if (window_of(a) != w || a->node.start < w->start || a->node.end > w->end) {
        qi_log(QUIRE_LOG_ERROR, "kva verify: K1: area at %#lx, kind %u, in window %#lx",
               (unsigned long)a->start, a->kind, (unsigned long)w->start);
        return false;
    }
    for (uint64_t at = a->start; at < a->start + a->bytes; at += QUIRE_PAGE_SIZE)
        if (mapped(at) != want) {
            qi_log(QUIRE_LOG_ERROR, "kva verify: %s: area at %#lx, state %u: page %#lx is %smapped",
                   want ? "K2" : "K3", (unsigned long)a->start, a->state, (unsigned long)at,
                   want ? "not " : "");
            return false;
        }
    if (mapped(guard)) {
        qi_log(QUIRE_LOG_ERROR, "kva verify: K2: guard %#lx of area at %#lx is mapped",
               (unsigned long)guard, (unsigned long)a->start);
        return false;
    }
    for (uint32_t p = a->pages; p != QI_NO_PAGE; p = quire_page_of_pfn(Q_PFN(p))->next)
        if (quire_page_of_pfn(Q_PFN(p))->owner != (uint64_t)(uintptr_t)a) {
            qi_log(QUIRE_LOG_ERROR, "kva verify: K4: frame %#x is not of area at %#lx", p,
                   (unsigned long)a->start);
            return false;
        }
    return true;
}

enum quire_status quire_kva_verify(void)
{
    bool good = true;

    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++) {
        struct qi_window *w = &qi_windows[i];
        struct qi_gap_node *n;

        qi_spin_lock(&w->lock);
        if (!qi_gaps_verify(&w->gaps)) {
            qi_log(QUIRE_LOG_ERROR, "kva verify: K1: the tree of window %#lx is damaged",
                   (unsigned long)w->start);
            good = false;
        }
        for (n = w->gaps.floor.next; good && n != &w->gaps.fence; n = n->next)
            good = verify_area(w, QI_CONTAINER(n, struct qi_area, node));
        qi_spin_unlock(&w->lock);
    }
    return good ? QUIRE_OK : QUIRE_CORRUPT;
}
