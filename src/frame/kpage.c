/*
 * frame/kpage.c - single frames in the words of Linux, for /proc/kpageflags and /proc/kpagecount.
 *
 * Programs read one 64-bit word a frame (Linux, Documentation/admin-guide/mm/pagemap.rst); the bits are
 * numbered in include/uapi/linux/kernel-page-flags.h, and fs/proc/page.c says which state sets them.
 * What belongs to a block is told of each of its frames, from the head.
 */
#include "zone.h"

enum {
    KPF_LOCKED = 0,
    KPF_REFERENCED = 2,
    KPF_UPTODATE = 3,
    KPF_DIRTY = 4,
    KPF_LRU = 5,
    KPF_ACTIVE = 6,
    KPF_SLAB = 7,
    KPF_BUDDY = 10,
    KPF_MMAP = 11,
    KPF_ANON = 12,
    KPF_SWAPBACKED = 14,
    KPF_COMPOUND_HEAD = 15,
    KPF_COMPOUND_TAIL = 16,
    KPF_HWPOISON = 19,
    KPF_NOPAGE = 20,
    KPF_THP = 22,
    KPF_OFFLINE = 23,
    KPF_PGTABLE = 26,
    KPF_RESERVED = 32,
};
#define BIT(n) (1ull << (n))

/* What is the same in both worlds; flags of the head. */
static const struct {
    uint32_t ours;
    uint8_t theirs;
} same[] = {
    {QUIRE_PG_LOCKED, KPF_LOCKED},     {QUIRE_PG_REF, KPF_REFERENCED},
    {QUIRE_PG_UPTODATE, KPF_UPTODATE}, {QUIRE_PG_DIRTY, KPF_DIRTY},
    {QUIRE_PG_LRU, KPF_LRU},           {QUIRE_PG_ACTIVE, KPF_ACTIVE},
    {QUIRE_PG_SLAB, KPF_SLAB},         {QUIRE_PG_ANON, KPF_ANON},
    {QUIRE_PG_ANON, KPF_SWAPBACKED},   {QUIRE_PG_TABLE, KPF_PGTABLE},
};

/* The head of a block in use; a tail that is just becoming something else leads nowhere. */
static const struct quire_page *head_of(const struct quire_page *p, uint32_t flags)
{
    uint32_t index = flags & QUIRE_PG_TAIL ? qi_load_relaxed(&p->index) : 0;

    return index >> QUIRE_MAX_ORDER ? p : p - index;
}

static bool is_offline(uint64_t pfn)
{
    struct qi_block *b;

    return qi_zone_of_frame(pfn, &b) && qi_load_relaxed(&b->state) == QI_BLOCK_OFFLINE;
}

/* The caller looks (qi_look_begin()). */
static uint64_t kpageflags(q_pfn pfn)
{
    uint32_t flags, what;
    uint64_t out = 0;
    const struct quire_page *head;

    if (!quire_pfn_valid(pfn))
        return BIT(KPF_NOPAGE);
    flags = quire_page_flags(pfn);
    if (flags & QUIRE_PG_POISON)
        out |= BIT(KPF_HWPOISON);
    if (flags & QUIRE_PG_FREE)
        return out | BIT(KPF_BUDDY);
    if (flags & QUIRE_PG_RESERVED && !out && !qi_load_relaxed(&quire_page_of_pfn(pfn)->refs))
        return BIT(KPF_NOPAGE); /* a hole in a pageblock: reserved, and nobody holds it */
    if (flags & QUIRE_PG_RESERVED)
        return out | BIT(KPF_RESERVED) | (is_offline(pfn.v) ? BIT(KPF_OFFLINE) : 0);
    head = head_of(quire_page_of_pfn(pfn), flags);
    what = quire_page_flags_now(head);
    for (unsigned i = 0; i < QI_COUNT(same); i++)
        if (what & same[i].ours)
            out |= BIT(same[i].theirs);
    if (flags & QUIRE_PG_HEAD)
        out |= BIT(KPF_COMPOUND_HEAD);
    if (flags & QUIRE_PG_TAIL)
        out |= BIT(KPF_COMPOUND_TAIL);
    if (what & QUIRE_PG_ANON && quire_page_order(head) >= QUIRE_HUGE_ORDER)
        out |= BIT(KPF_THP);
    if (qi_load_relaxed(&head->maps))
        out |= BIT(KPF_MMAP);
    return out;
}

uint64_t quire_kpageflags(q_pfn pfn)
{
    unsigned long irq = qi_look_begin();
    uint64_t out = kpageflags(pfn);

    qi_look_end(irq);
    return out;
}

uint64_t quire_kpagecount(q_pfn pfn)
{
    unsigned long irq = qi_look_begin();
    const struct quire_page *p = quire_page_of_pfn(pfn);
    uint32_t flags = quire_page_flags(pfn);
    uint64_t maps = 0;

    if (!(flags & (QUIRE_PG_FREE | QUIRE_PG_RESERVED)))
        maps = qi_load_relaxed(&head_of(p, flags)->maps);
    qi_look_end(irq);
    return maps;
}
