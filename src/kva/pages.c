/*
 * kva/pages.c - what lies behind an area: its own frames, and its entries in the kernel's table.
 *
 * A small area remembers where its entries are: level-0 tables of the windows stay, so the next user of
 * the range writes them without a walk.  Frames come and go in arrays, and a purge frees those of
 * many areas together.
 */
#include "kva.h"

#include "../base/check.h"

#define BATCH 128u

#define OWN_PROT (QUIRE_READ | QUIRE_WRITE)

/* ---- entries ---- */

/* The entries of a small area; NULL: they are not in one table, or there is no memory for it. */
static qi_pte *slots_of(struct qi_area *a)
{
    if (!a->slots && a->bytes <= QI_READY_PAGES << QUIRE_PAGE_SHIFT)
        a->slots = qi_kpt_slots(Q_KVA(a->start), qi_area_pages(a));
    return a->slots;
}

enum quire_status qi_area_map(struct qi_area *a, struct quire_page *const *pages, unsigned prot)
{
    qi_pte *slots = slots_of(a);

    if (!slots)
        return qi_kpt_map_pages(Q_KVA(a->start), pages, qi_area_pages(a), prot);
    if (!qi_kpt_prot_ok(prot))
        return QUIRE_INVALID;
    qi_kpt_fill(slots, pages, qi_area_pages(a), qi_pte_template(prot | QUIRE_GLOBAL, QUIRE_CACHED));
    return QUIRE_OK;
}

void qi_area_unmap(struct qi_area *a)
{
    if (a->kind == QI_KVA_BLOCK)
        return; /* the unmaps have done it */
    if (a->slots)
        qi_kpt_clear(a->slots, qi_area_pages(a));
    else
        qi_kpt_unmap(Q_KVA(a->start), a->bytes);
}

/* ---- own frames ---- */

static inline void chain_block(struct qi_area *a, struct quire_page *head)
{
    head->owner = (uint64_t)(uintptr_t)a;
    /* ours alone: others may read the flags, nobody else writes them */
    qi_store_relaxed(&head->flags, head->flags | QUIRE_PG_KVA);
    head->next = a->pages;
    a->pages = (uint32_t)quire_pfn_of_page(head).v;
}

/* A 2 MiB block at va, if it is aligned, fits, and there is one. */
static bool populate_huge(struct qi_area *a, uint64_t at, quire_gfp gfp, unsigned node)
{
    struct quire_page *head;

    if (!qi_is_aligned(at, QUIRE_HUGE_SIZE) || a->start + a->bytes - at < QUIRE_HUGE_SIZE)
        return false;
    head = quire_page_alloc(QUIRE_HUGE_ORDER, gfp | QUIRE_GFP_NORETRY, node);
    if (!head)
        return false;
    chain_block(a, head);
    return qi_kpt_map(Q_KVA(at), quire_pfn_of_page(head), 1u << QUIRE_HUGE_ORDER, OWN_PROT,
                      QUIRE_CACHED, QUIRE_HUGE_SHIFT) == QUIRE_OK;
}

/* Up to want single pages of the area's own.  Returns how many. */
static size_t take_pages(struct qi_area *a, size_t want, struct quire_page **pages, quire_gfp gfp,
                         unsigned node)
{
    size_t n;

    if (want == 1) {
        pages[0] = quire_page_alloc(0, gfp, node);
        n = pages[0] ? 1 : 0;
    } else {
        n = quire_page_alloc_bulk(want, pages, gfp, node);
    }
    for (size_t i = 0; i < n; i++)
        chain_block(a, pages[i]);
    return n;
}

/* Up to BATCH single pages at va, not beyond the next 2 MiB.  Returns how many, 0: no memory. */
static size_t populate_some(struct qi_area *a, uint64_t at, quire_gfp gfp, unsigned node)
{
    uint64_t until =
        QI_MIN(a->start + a->bytes, qi_align_down(at, QUIRE_HUGE_SIZE) + QUIRE_HUGE_SIZE);
    struct quire_page *pages[BATCH];
    size_t n =
        take_pages(a, QI_MIN((until - at) >> QUIRE_PAGE_SHIFT, (uint64_t)BATCH), pages, gfp, node);

    if (!n || qi_kpt_map_pages(Q_KVA(at), pages, n, OWN_PROT) != QUIRE_OK)
        return 0;
    return n;
}

static bool populate_large(struct qi_area *a, quire_gfp gfp, unsigned node)
{
    uint64_t at = a->start, end = a->start + a->bytes;

    /* where small areas were before, their tables are in the way of large leaves */
    if (a->bytes >= QUIRE_HUGE_SIZE)
        qi_kpt_drop_tables(Q_KVA(at), a->bytes);
    while (at < end) {
        size_t n;

        if (populate_huge(a, at, gfp, node)) {
            at += QUIRE_HUGE_SIZE;
            continue;
        }
        n = populate_some(a, at, gfp, node);
        if (!n)
            return false;
        at += n << QUIRE_PAGE_SHIFT;
    }
    return true;
}

/* ---- frames that stay with a ready area ---- */

/* What any frame may serve; the node is that of the range. */
#define ANY_FRAME                                                                    \
    (QUIRE_GFP_ATOMIC | QUIRE_GFP_MOVABLE | QUIRE_GFP_RECLAIMABLE | QUIRE_GFP_ZERO | \
     QUIRE_GFP_HIGHMEM | QUIRE_GFP_NORETRY | QUIRE_GFP_MEMALLOC | QUIRE_GFP_COLD)

static uint64_t kept, kept_most; /* atomic; set once */

void qi_kept_init(uint64_t most)
{
    kept = 0;
    kept_most = most;
}

uint64_t qi_kept_pages(void) { return qi_load_relaxed(&kept); }

uint64_t qi_kept_room(void)
{
    uint64_t now = qi_load_relaxed(&kept);

    return now < kept_most ? kept_most - now : 0;
}

void qi_kept_count(uint64_t pages) { qi_fetch_add_relaxed(&kept, pages); }

uint64_t qi_area_drop_pages(struct qi_area *a)
{
    if (a->pages == QI_NO_PAGE)
        return 0;
    qi_fetch_sub_relaxed(&kept, qi_area_pages(a));
    a->next = NULL;
    return qi_areas_free_pages(a);
}

/* Map the frames that a has; false: one of them went bad, or there are none. */
static bool map_kept(struct qi_area *a, quire_gfp gfp)
{
    const qi_pte template = qi_pte_template(OWN_PROT | QUIRE_GLOBAL, QUIRE_CACHED);
    uint32_t bad = 0, pfn;
    qi_pte *slot = a->slots;

    for (pfn = a->pages; pfn != QI_NO_PAGE; slot++) {
        struct quire_page *page = quire_page_of_pfn(Q_PFN(pfn));

        bad |= qi_load_relaxed(&page->flags);
        if (gfp & QUIRE_GFP_ZERO)
            quire_page_clear(page);
        qi_pte_set(slot, qi_pte_leaf(template, Q_PFN(pfn), 0));
        pfn = page->next;
    }
    if (QI_LIKELY(!(bad & QUIRE_PG_POISON))) {
        qi_fetch_sub_relaxed(&kept, qi_area_pages(a));
        return true;
    }
    qi_area_unmap(a); /* nobody has seen it */
    qi_kpt_flush(Q_KVA(a->start), a->bytes);
    qi_area_drop_pages(a);
    return false;
}

bool qi_area_populate(struct qi_area *a, quire_gfp gfp, unsigned node)
{
    struct quire_page *pages[QI_READY_PAGES];
    size_t n = qi_area_pages(a), got = 0;
    qi_pte *slots;

    if (a->pages != QI_NO_PAGE) {
        if (QI_LIKELY(!(gfp & ~ANY_FRAME)) && map_kept(a, gfp))
            return true;
        qi_area_drop_pages(a);
    }
    slots = slots_of(a);
    gfp &= ~(quire_gfp)(QUIRE_GFP_MOVABLE | QUIRE_GFP_RECLAIMABLE);
    if (!slots)
        return populate_large(a, gfp, node);
    while (got < n) {
        size_t more = take_pages(a, n - got, pages + got, gfp, node);

        if (!more) { /* none is mapped yet; and a ready area has all of them or none */
            a->next = NULL;
            qi_areas_free_pages(a);
            return false;
        }
        got += more;
    }
    qi_kpt_fill(slots, pages, n, qi_pte_template(OWN_PROT | QUIRE_GLOBAL, QUIRE_CACHED));
    return true;
}

bool qi_area_populate_part(struct qi_area *a, uint64_t at, size_t n, quire_gfp gfp, unsigned node,
                           struct quire_page **pages)
{
    for (size_t got = 0, more; got < n; got += more)
        if (!(more = take_pages(a, n - got, pages + got, gfp, node)))
            return false;
    return qi_kpt_map_pages(Q_KVA(at), pages, n, OWN_PROT) == QUIRE_OK;
}

/* ---- giving frames back ---- */

struct batch {
    size_t n;
    struct quire_page *pages[BATCH];
};

static uint64_t free_chain(struct qi_area *a, struct batch *b)
{
    uint64_t frames = 0;

    while (a->pages != QI_NO_PAGE) {
        struct quire_page *head = quire_page_of_pfn(Q_PFN(a->pages));
        uint32_t flags = head->flags;

        a->pages = head->next;
        head->owner = 0;
        qi_store_relaxed(&head->flags, flags & ~QUIRE_PG_KVA);
        if (QI_UNLIKELY(flags & QUIRE_PG_HEAD)) {
            frames += 1ull << quire_page_order(head);
            quire_page_free(head, quire_page_order(head));
            continue;
        }
        frames++;
        b->pages[b->n++] = head;
        if (b->n == BATCH) {
            quire_page_free_bulk(b->n, b->pages);
            b->n = 0;
        }
    }
    return frames;
}

uint64_t qi_areas_free_pages(struct qi_area *list)
{
    uint64_t frames = 0;
    struct batch b;

    b.n = 0;
    for (; list; list = list->next) {
        if (QI_UNLIKELY(list->kind == QI_KVA_BLOCK))
            frames += qi_block_free(list->block);
        else
            frames += free_chain(list, &b);
    }
    if (b.n)
        quire_page_free_bulk(b.n, b.pages);
    return frames;
}
