/*
 * frame/page.c - struct pages: references, form (single, head, tail), and what is wrong with one.
 */
#include "zone.h"

void qi_page_bad(const struct quire_page *p, unsigned order, const char *what)
{
    uint32_t flags = p->flags;

    if (flags & QUIRE_PG_FREE && *what == 'b')
        what = "double free";
    else if (flags & QUIRE_PG_TAIL)
        what = "free of a tail";
    else if (flags & QUIRE_PG_RESERVED)
        what = "foreign free: the frame is reserved";
    else if (!p->refs && *what == 'b')
        what = "foreign free: the frame has no holder";
    else if (p->maps)
        what = "free of a frame that is still mapped";
    else if (quire_page_order(p) != order)
        what = "free with the wrong order";
    else if (p->refs > 1)
        what = "free of a frame that others hold";
    qi_bug("frames: %s: pfn %#lx flags %#x refs %u maps %u order %u, freed as order %u", what,
           (unsigned long)quire_pfn_of_page(p).v, flags, p->refs, p->maps, quire_page_order(p),
           order);
}

/* A tail says which stack its block goes to. */
static uint32_t tail_flags(const struct qi_zone *z, const struct quire_page *head)
{
    const struct qi_block *b = &z->blocks[qi_block_of(z, quire_pfn_of_page(head).v)];

    return qi_flags_at(head, z->place) | QUIRE_PG_TAIL | qi_block_stack_type(b) << QI_PG_TYPE_SHIFT;
}

void qi_pages_compound(struct qi_zone *z, struct quire_page *head, unsigned order)
{
    uint64_t n = 1ull << order;
    uint32_t place = qi_flags_at(head, z->place), tail = tail_flags(z, head);

    for (uint64_t i = 1; i < n; i++) {
        /* who looks at what becomes a tail may read these */
        qi_store_relaxed(&head[i].index, (uint32_t)i);
        qi_store_relaxed(&head[i].flags, tail);
        qi_store_relaxed(&head[i].owner, (uint64_t)0);
        head[i].counts = 0;
    }
    head->counts = 1;
    head->owner = 0;
    qi_store_relaxed(&head->flags, place | QUIRE_PG_HEAD | order << QUIRE_PG_ORDER_SHIFT);
}

bool qi_pages_form(struct qi_zone *z, struct quire_page *head, unsigned order)
{
    struct qi_block *b = &z->blocks[qi_block_of(z, quire_pfn_of_page(head).v)];
    uint32_t n = order < QI_BLOCK_ORDER ? 0 : 1u << (order - QI_BLOCK_ORDER), k = 0;

    while (k < n && b[k].pages == order)
        k++;
    if (n && k == n) {
        qi_store_relaxed(&head[1].flags, tail_flags(z, head)); /* the type may be another */
        return true;
    }
    qi_pages_compound(z, head, order);
    for (k = 0; k < n; k++)
        qi_store_release(&b[k].pages, (uint8_t)order);
    return false;
}

void qi_pages_loose_free(struct qi_zone *z, struct quire_page *head, unsigned order)
{
    uint64_t n = 1ull << order;
    uint32_t flags = qi_flags_at(head, z->place | QUIRE_PG_FREE);

    for (uint64_t i = 0; i < n; i++)
        qi_store_relaxed(&head[i].flags, flags);
}

void quire_page_get(struct quire_page *page)
{
    struct quire_page *p = quire_page_head(page);
    uint32_t old = qi_fetch_add_relaxed(&p->refs, 1u);

    if (QI_UNLIKELY(old == 0 || old == UINT32_MAX)) {
        qi_fetch_sub_relaxed(&p->refs, 1u);
        qi_bug("frames: get of pfn %#lx flags %#x refs %u", (unsigned long)quire_pfn_of_page(p).v,
               p->flags, old);
    }
}

void quire_page_split(struct quire_page *page)
{
    uint32_t flags = quire_page_flags_now(page);
    unsigned order = quire_page_order(page);
    struct qi_zone *z;
    uint64_t pfn = quire_pfn_of_page(page).v;
    unsigned type;

    QI_CHECK(!(flags & (QUIRE_PG_FREE | QUIRE_PG_TAIL | QUIRE_PG_RESERVED)) && page->refs == 1,
             "frames: split of pfn %#lx flags %#x refs %u", (unsigned long)pfn, flags, page->refs);
    if (!order)
        return;
    QI_CHECK(!qi_map_shared(page), "frames: split of pfn %#lx, whose memory map is shared",
             (unsigned long)pfn);
    z = qi_zone_of(flags);
    type = qi_block_stack_type(&z->blocks[qi_block_of(z, pfn)]);
    if (order >= QI_BLOCK_ORDER) {
        unsigned long irq = qport_irq_save();

        qi_zone_lock(z);
        qi_zone_shatter(z, pfn, order);
        qi_zone_unlock(z);
        qport_irq_restore(irq);
    }
    flags = qi_flags_at(page, z->place) |
            (flags & ~QI_PG_KEPT & ~(QUIRE_PG_HEAD | QUIRE_PG_POISON)) | type << QI_PG_TYPE_SHIFT;
    for (uint64_t i = 1ull << order; i-- > 0;) {
        page[i].owner = page->owner;
        qi_store_relaxed(&page[i].index, page->index + (uint32_t)i);
        page[i].counts = 1;
        qi_store_relaxed(&page[i].flags,
                         flags | (quire_page_flags_now(&page[i]) & QUIRE_PG_POISON));
    }
}
