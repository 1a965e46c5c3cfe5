/*
 * kva/kva.c - kernel virtual areas: the life of an area, the lazy purge, misuse named.
 *
 * Purpose.  Memory that is contiguous for the kernel though its frames are scattered; device
 * registers; stacks that fault when they overflow.
 *
 * Model.  Three windows of kernel addresses, each cut into a part for each node: a set of disjoint
 * areas ordered by address (gaps.h).  An area is a run of mapped pages and one unmapped guard page:
 * behind it, so that running over the end faults; for stacks, which grow down, in front.
 *
 *     areas     | memory      G| mapped G|   free   | memory          G|  ...  fence
 *     stacks    |G stack |G stack |  free  |G stack |  ...               G fence
 *
 * An area that has its own pages is freed in two steps.  Its entries are cleared and it is put on
 * the lazy list of this CPU; addresses and frames stay taken.  When enough waits, or the first has waited
 * long enough, one flush serves all lists (the purge): then frames and addresses are given back.  A
 * purge also happens before an allocation is refused.  Ranges of up to 64 pages are kept for the next
 * request of their size, which needs no search and knows its page-table entries (window.c).  So one
 * shootdown pays for thousands of frees, and neither a frame nor an address is ever reused while a CPU
 * may still translate through the old entry.  Areas over somebody else's frames (vmap, ioremap) are
 * flushed at once, for their owner may free these the moment we return; short-lived maps of a few
 * pages hold references instead, and share blocks of addresses (block.c).
 *
 * Invariants (quire_kva_verify)
 *   K1  areas of a part, with their guards, are disjoint and lie inside it
 *   K2  every page of a live area or cached stack is mapped; no guard is
 *   K3  no page of a lazy or ready area is mapped
 *   K4  the own pages of an area carry QUIRE_PG_KVA and name it in owner, and nothing else does
 *   K5  an area leaves its window only after a flush that began after its entries were cleared
 *   K6  in a block, exactly the pages of its maps are mapped (block.c)
 *
 * K4 makes vfree() a table walk and one look at the page, whatever the number of areas.  An area's
 * own blocks are chained by quire_page.next: no array of pages is needed however large it is.
 *
 * Locking.  One purge at a time, under a sleeping lock: who needs what another has taken off the lists waits for
 * it; who only frees, or is idle, does not.  qi_part.lock: tree and ready ranges of a part.  The lock of a CPU's ranges: its ready
 * ranges and its lazy list; others come for it to purge only.  Neither is taken inside the other,
 * and nothing is allocated, mapped or flushed under either.  Table entries need no lock, for areas are
 * disjoint.  All calls are for tasks but quire_stack_guard_hit(), which only walks tables and may be
 * made by the handler of the fault.
 *
 * Failure.  Lack of memory or of addresses: NULL or NO_MEMORY after a purge and a second try;
 * nothing is left mapped.
 *
 * Cost.  O(pages) for a vmalloc of a size that was there before, on this CPU; else O(log n) in the
 * number of areas.  O(1) for a stack from the CPU's cache.  Figures: docs/design/kva.md.
 *
 * Sources and what was rejected: docs/design/kva.md.
 */
#include "kva.h"

#include "../base/check.h"
#include "../sync/rwsem.h"

/* Descriptors that may wait, however small their areas are: it bounds the memory in them, and the
 * time of a purge. */
#define LAZY_AREAS_MAX 1024u
#define LAZY_PAGES_MIN 64u
/* Of all memory, what may wait at most. */
#define LAZY_SHARE 32u
#define LAZY_NS    (QUIRE_KVA_LAZY_MS * 1000000ull)
/* The clock is looked at by every so many frees. */
#define CLOCK_EVERY 16u

/* What waits: pages and areas in one word. */
#define LAZY_ONE(pages)  ((uint64_t)(pages) << 24 | 1)
#define LAZY_PAGES(word) ((word) >> 24)
#define LAZY_AREAS(word) ((uint32_t)(word)&0xffffff)

static uint64_t lazy;           /* atomic: at least what is on the lists */
static uint64_t lazy_since;     /* atomic: ns, when the first of them came */
static uint64_t ticked;         /* atomic: ns, the last tick that looked */
static uint64_t lazy_pages_max; /* set once */
static uint64_t purges;         /* atomic: that flushed */
uint64_t qi_purges_ended;       /* whether there was anything or not */
static struct qi_rwsem purging; /* what waited is with its holder */
static const struct qi_lock_class purging_class = {"kva: purge"};

enum quire_status quire_kva_init(const struct quire_kva_layout *l)
{
    enum quire_status s = qi_windows_init(l);

    if (s != QUIRE_OK)
        return s;
    lazy_pages_max =
        QI_MAX(QI_MIN(QUIRE_KVA_LAZY_BYTES >> QUIRE_PAGE_SHIFT, quire_managed_pages() / LAZY_SHARE),
               (uint64_t)LAZY_PAGES_MIN);
    qi_kept_init(lazy_pages_max);
    lazy = 0;
    lazy_since = 0;
    ticked = 0;
    purges = 0;
    qi_purges_ended = 0;
    qi_rwsem_init(&purging, &purging_class);
    qi_stacks_init();
    qi_blocks_init();
    qi_percpu_init();
    return QUIRE_OK;
}

/* ---- purge ---- */

/* One flush of all that the areas on the list span. */
static void flush_span(const struct qi_area *list)
{
    uint64_t low = UINT64_MAX, high = 0;

    for (; list; list = list->next) {
        low = QI_MIN(low, list->start);
        high = QI_MAX(high, list->start + list->bytes);
    }
    qi_kpt_flush(Q_KVA(low), high - low);
}

/* All that waits now; one at a time.  Returns the frames that came free. */
static uint64_t flush_locked(void)
{
    struct qi_area *list = qi_lazy_take(), *warm = NULL, *cold = NULL;
    uint64_t taken = 0, keeps = 0, room = qi_kept_room(), frames;

    if (!list)
        return 0;
    flush_span(list);
    while (list) {
        struct qi_area *a = list, **to = &cold;

        if (qi_area_may_keep(a, room - keeps)) {
            keeps += qi_area_pages(a);
            to = &warm;
        }
        list = a->next;
        a->next = *to;
        *to = a;
        taken += LAZY_ONE(qi_area_pages(a));
    }
    qi_kept_count(keeps);
    frames = qi_areas_free_pages(cold);
    frames += qi_ranges_give(cold);
    frames += qi_ranges_give(warm); /* on top: they serve first */
    qi_fetch_sub_relaxed(&lazy, taken);
    qi_fetch_add_relaxed(&purges, 1);
    return frames;
}

static void purge_ends(void)
{
    qi_fetch_add_acqrel(&qi_purges_ended, 1);
    qi_rwsem_write_unlock(&purging);
}

uint64_t qi_areas_flush(void)
{
    uint64_t frames;

    qi_rwsem_write_lock(&purging);
    frames = flush_locked();
    purge_ends();
    return frames;
}

uint64_t quire_kva_purge(void)
{
    uint64_t frames;

    qi_stacks_release();
    qi_blocks_release();
    qi_percpu_release(0);
    qi_rwsem_write_lock(&purging);
    frames = flush_locked();
    frames += qi_ranges_release();
    purge_ends();
    return frames;
}

bool qi_purge_helps(uint64_t since) { return quire_kva_purge() || qi_purge_rounds() - since > 1; }

static bool waited_long(void) { return qport_now_ns() - qi_load_relaxed(&lazy_since) >= LAZY_NS; }

static uint64_t age_locked(void)
{
    uint64_t frames = qi_ranges_age();

    qi_blocks_release(); /* what it adds is flushed by the next one */
    if (LAZY_AREAS(qi_load_relaxed(&lazy)) && waited_long())
        frames += flush_locked();
    return frames;
}

/* An idle task that lost its CPU here would keep those waiting who need what it purges, so it cannot. */
uint64_t quire_kva_tick(void)
{
    uint64_t now = qport_now_ns(), before = qi_load_relaxed(&ticked), frames = 0;

    if (now - before < LAZY_NS || !qi_cas_relaxed(&ticked, &before, now))
        return 0;
    qi_percpu_release(1); /* what it retires is flushed by the next one */
    qport_preempt_disable();
    if (qi_rwsem_try_write(&purging)) {
        frames = age_locked();
        purge_ends();
    }
    qport_preempt_enable();
    return frames;
}

/* Unless somebody purges: what came too late for that one waits for the next. */
static void try_flush(void)
{
    if (!qi_rwsem_try_write(&purging))
        return;
    flush_locked();
    purge_ends();
}

/* a has no entries any more: it waits for the next flush, which may be now. */
static void wait_for_flush(struct qi_area *a)
{
    uint64_t one = LAZY_ONE(qi_area_pages(a)), all = qi_fetch_add_relaxed(&lazy, one) + one;

    if (all == one)
        qi_store_relaxed(&lazy_since, qport_now_ns());
    qi_lazy_push(a);
    if (QI_UNLIKELY(LAZY_PAGES(all) > lazy_pages_max || LAZY_AREAS(all) >= LAZY_AREAS_MAX ||
                    (LAZY_AREAS(all) % CLOCK_EVERY == 0 && waited_long())))
        try_flush();
}

/* ---- the life of an area ---- */

struct qi_area *qi_area_make(struct qi_window *w, const struct qi_want *want)
{
    struct qi_area *a = qi_range_take(w, want);

    if (QI_LIKELY(a != NULL) || want->bytes > w->end - w->start)
        return a;
    quire_kva_purge();
    return qi_range_take(w, want);
}

void qi_area_publish(struct qi_window *w, struct qi_area *a)
{
    qi_fetch_add_relaxed(&w->areas, 1);
    qi_fetch_add_relaxed(&w->bytes, a->bytes);
    qi_store_release(&a->state, (uint32_t)QI_KVA_LIVE);
}

void qi_area_retire(struct qi_area *a)
{
    qi_area_unmap(a);
    wait_for_flush(a);
}

void qi_area_destroy(struct qi_area *a)
{
    qi_area_unmap(a);
    qi_kpt_flush(Q_KVA(a->start), a->bytes);
    qport_preempt_disable();
    a->cpu = (uint16_t)qport_cpu();
    qport_preempt_enable();
    a->next = NULL;
    qi_ranges_give(a);
}

/* ---- which area is it ---- */

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

static inline struct qi_area *find(struct qi_window *w, uint64_t start, enum qi_kva_kind kind)
{
    struct qi_area *a = NULL;

    if (QI_LIKELY(qi_window_has(w, start)))
        a = kind == QI_KVA_MEMORY ? qi_area_owning(start) : qi_area_at(w, start);
    return a && a->start == start && a->kind == kind ? a : NULL;
}

struct qi_area *qi_area_get(struct qi_window *w, uint64_t start, enum qi_kva_kind kind,
                            const char *who, uintptr_t caller)
{
    struct qi_area *a = find(w, start, kind);

    if (!a || qi_load_acquire(&a->state) != QI_KVA_LIVE)
        qi_area_misused(w, start, who, caller);
    return a;
}

/* ---- taking it from its user ---- */

void qi_area_claim(struct qi_window *w, struct qi_area *a, const char *who, uintptr_t caller)
{
    uint32_t was = QI_KVA_LIVE;

    if (QI_UNLIKELY(!qi_cas_acqrel(&a->state, &was, (uint32_t)QI_KVA_BUSY)))
        qi_area_misused(w, a->start, who, caller);
    qi_fetch_sub_relaxed(&w->areas, 1);
    qi_fetch_sub_relaxed(&w->bytes, a->bytes);
}

struct qi_area *qi_area_take(struct qi_window *w, uint64_t start, enum qi_kva_kind kind,
                             const char *who, uintptr_t caller)
{
    struct qi_area *a = find(w, start, kind);

    if (QI_UNLIKELY(!a))
        qi_area_misused(w, start, who, caller);
    qi_area_claim(w, a, who, caller);
    return a;
}

/* ---- misuse ---- */

const char *qi_kind_name(unsigned kind)
{
    static const char *const names[] = {"vmalloc",          "vmap",          "stack", "ioremap",
                                        "vm_map_ram block", "per-CPU memory"};

    return kind < QI_COUNT(names) ? names[kind] : "damaged";
}

static const char *wrong_with(const struct qi_area *a, uint64_t at)
{
    switch (qi_load_acquire(&a->state)) {
    case QI_KVA_LIVE:
        if (at >= a->start + a->bytes || at < a->start)
            return "the guard of an area";
        return at == a->start ? "a live area of another kind" : "not the start of its area";
    case QI_KVA_BUSY: return "an area that is being made or freed";
    default: return "an area that is already freed";
    }
}

_Noreturn void qi_area_misused(const struct qi_window *w, uint64_t at, const char *who,
                               uintptr_t caller)
{
    const struct qi_area *a;

    if (!qi_window_has(w, at))
        qi_bug("kva: %s(%#lx) by %#lx: foreign pointer, outside of [%#lx, %#lx)", who,
               (unsigned long)at, (unsigned long)caller, (unsigned long)w->start,
               (unsigned long)w->end);
    a = qi_area_at(w, at);
    if (!a)
        qi_bug("kva: %s(%#lx) by %#lx: foreign or already freed pointer: no area is there", who,
               (unsigned long)at, (unsigned long)caller);
    qi_bug("kva: %s(%#lx) by %#lx: %s: %s [%#lx, +%lu), state %u, allocated by %#lx", who,
           (unsigned long)at, (unsigned long)caller, wrong_with(a, at), qi_kind_name(a->kind),
           (unsigned long)a->start, (unsigned long)a->bytes, qi_load_relaxed(&a->state),
           (unsigned long)a->caller);
}

/* ---- what an observer sees ---- */

void quire_kva_stats(struct quire_kva_stats *out)
{
    uint64_t waits = qi_load_relaxed(&lazy);

    *out = (struct quire_kva_stats){.stacks = qi_stacks_live(),
                                    .purges = qi_load_relaxed(&purges),
                                    .lazy_areas = LAZY_AREAS(waits),
                                    .lazy_bytes = LAZY_PAGES(waits) << QUIRE_PAGE_SHIFT};
    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++) {
        out->areas += qi_load_relaxed(&qi_windows[i].areas);
        out->bytes += qi_load_relaxed(&qi_windows[i].bytes);
    }
}
