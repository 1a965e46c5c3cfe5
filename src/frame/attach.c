/*
 * frame/attach.c - what the owner of a block of order 1 and up may attach to it: a kind, whose destructor
 * the last put calls; and a memory map that it shares with other blocks.
 *
 * Purpose.  A pool of huge pages wants its pages back when the last holder drops them; and it has thousands,
 * whose struct pages, but the first few, all say the same: tail.
 *
 * Model.  Both are written down in the owner of the block's second page, which lies in the cache line of
 * its head and is 0 otherwise:
 *
 *     bits 0..2   the kind; 0: the allocator
 *     bit  63     the map is shared
 *
 * Shared map (VMEMMAP).  512 struct pages of 32 bytes are four pages of the map.  The first, with the head,
 * stays; in place of each of the others the port shows, read-only, one page of tails that all blocks of
 * the same zone and order have in common, and has the memory behind them back.  Such a tail cannot say
 * how far its head is: its index is 0, and it says the order of the block instead, whose first frame
 * is known from that, for blocks are aligned to their size (quire_page_head()).
 *
 *     own     | head t1 t2 ... t127 | t128 ... t255 | t256 ... t383 | t384 ... t511 |
 *     shared  | head t1 t2 ... t127 |  o9  ...  o9  |  o9  ...  o9  |  o9  ...  o9  |
 *                                     one page for all blocks of order 9 of the zone
 *
 * While the map is shared nobody may write to tails: the block is neither split nor freed, which is
 * checked, nor called bad, which is BUSY.  Linux keeps 1 of 8 pages, of 64 bytes a frame; here it is 1
 * of 4, of 32 bytes: 8 bytes a frame in both, of 2 MiB blocks; 4 of 4 MiB blocks, 0.016 of 1 GiB blocks.
 *
 * Sources.  Linux, mm/hugetlb_vmemmap.c; mm/page_alloc.c before 6.5: compound_page_dtors.
 */
#include "zone.h"

#define SHARED (1ull << 63)
#define KIND   7ull

static quire_page_destructor destructors[QUIRE_PAGE_KINDS];

/* ---- Kinds ---- */

enum quire_status quire_page_kind_set(unsigned kind, quire_page_destructor destructor)
{
    if (kind < 1 || kind >= QUIRE_PAGE_KINDS)
        return QUIRE_INVALID;
    qi_store_release(&destructors[kind], destructor);
    return QUIRE_OK;
}

static struct quire_page *second_of(struct quire_page *head)
{
    QI_CHECK((quire_page_flags_now(head) & QI_PG_STATE) == QUIRE_PG_HEAD && head->refs,
             "frames: pfn %#lx flags %#x refs %u is no block that somebody holds",
             (unsigned long)quire_pfn_of_page(head).v, quire_page_flags_now(head), head->refs);
    return head + 1;
}

void quire_page_set_kind(struct quire_page *head, unsigned kind)
{
    struct quire_page *second = second_of(head);

    QI_CHECK(kind < QUIRE_PAGE_KINDS && (!kind || qi_load_relaxed(&destructors[kind])),
             "frames: pfn %#lx: kind %u has no destructor",
             (unsigned long)quire_pfn_of_page(head).v, kind);
    qi_store_relaxed(&second->owner, (second->owner & ~KIND) | kind);
}

bool qi_attached_put(struct quire_page *head, unsigned refs)
{
    struct quire_page *second = head + 1;
    unsigned kind = second->owner & KIND;

    if (!kind || quire_page_flags_now(head) & QUIRE_PG_SLAB || head->counts != refs)
        return false;
    qi_store_relaxed(&second->owner, second->owner & ~KIND);
    qi_store_relaxed(&head->counts, (uint64_t)1);
    qi_load_acquire (&destructors[kind])(head);
    return true;
}

void qi_attached_free(struct quire_page *head, unsigned order)
{
    if (head[1].owner & SHARED)
        qi_page_bad(head, order, "free of a block whose memory map is shared");
    qi_store_relaxed(&head[1].owner, (uint64_t)0);
}

/* Asked of blocks in the making too, for which the answer is no before and after (bad.c). */
bool qi_map_shared(const struct quire_page *head)
{
    return qi_load_relaxed(&head[1].owner) & SHARED;
}

/* ---- Shared maps ---- */

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP && defined(QPORT_VMEMMAP_SHARE)

#define TAILS_A_PAGE (QUIRE_PAGE_SIZE / sizeof(struct quire_page))

/* The page of tails of a zone and order; made when first asked for, kept for good. */
static uintptr_t commons[QI_MAX_ZONES][QUIRE_MAX_ORDER - QI_BLOCK_ORDER + 1];

void qi_attached_init(void)
{
    for (unsigned z = 0; z < QI_MAX_ZONES; z++)
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER - QI_BLOCK_ORDER; o++)
            commons[z][o] = 0;
    for (unsigned k = 0; k < QUIRE_PAGE_KINDS; k++)
        destructors[k] = NULL;
}

static struct quire_page *common_tails(const struct qi_zone *z, unsigned order)
{
    uintptr_t *slot = &commons[z->slot][order - QI_BLOCK_ORDER], none = 0;
    uintptr_t have = qi_load_acquire(slot);
    struct quire_page *p, *tails;

    if (have)
        return (struct quire_page *)have;
    p = quire_page_alloc(0, QUIRE_GFP_KERNEL, z->node);
    if (!p)
        return NULL;
    tails = quire_page_ptr(p);
    for (unsigned i = 0; i < TAILS_A_PAGE; i++)
        tails[i] =
            (struct quire_page){.flags = z->place | QUIRE_PG_TAIL | order << QUIRE_PG_ORDER_SHIFT};
    if (qi_cas_acqrel(slot, &none, (uintptr_t)tails))
        return tails;
    quire_page_free(p, 0); /* another CPU was faster */
    return (struct quire_page *)none;
}

/* The block's map beyond its first page. */
static uintptr_t tails_from(const struct quire_page *head)
{
    return (uintptr_t)head + QUIRE_PAGE_SIZE;
}
static uintptr_t tails_to(const struct quire_page *head, unsigned order)
{
    return (uintptr_t)head + (sizeof *head << order);
}

/* Pages of the map in [from, to) are the block's own again; they say what they said.  If one cannot be had
 * all are shared, as before. */
static enum quire_status unshare(uintptr_t from, uintptr_t to, const struct quire_page *tails)
{
    enum quire_status s = QUIRE_OK;
    uintptr_t at;

    for (at = from; !s && at < to; at += QUIRE_PAGE_SIZE)
        s = QPORT_VMEMMAP_UNSHARE(at);
    if (!s)
        return QUIRE_OK;
    for (at -= QUIRE_PAGE_SIZE; at > from; at -= QUIRE_PAGE_SIZE)
        QPORT_VMEMMAP_SHARE(at - QUIRE_PAGE_SIZE, quire_pa_of_kla(Q_KLA((uintptr_t)tails)));
    return s;
}

/* From here on no frame of the block can be called bad; false: one has been.  Under the zone's lock, as is the mark. */
static bool begin_sharing(struct quire_page *head, unsigned order)
{
    struct qi_zone *z = qi_zone_of(head->flags);
    struct quire_page *second = second_of(head);
    unsigned long irq = qport_irq_save();
    bool sound;

    qi_zone_lock(z);
    sound = !qi_load_relaxed(&z->marked) || !qi_pages_marked(head, order);
    if (sound)
        qi_store_relaxed(&second->owner, second->owner | SHARED);
    qi_zone_unlock(z);
    qport_irq_restore(irq);
    return sound;
}

enum quire_status quire_page_map_share(struct quire_page *head)
{
    struct quire_page *second = second_of(head), *tails;
    unsigned order = quire_page_order(head);
    q_pa pa;

    if (order < QI_BLOCK_ORDER)
        return QUIRE_INVALID;
    if (second->owner & SHARED)
        return QUIRE_EXISTS;
    tails = common_tails(qi_zone_of(head->flags), order);
    if (!tails)
        return QUIRE_NO_MEMORY;
    pa = quire_pa_of_kla(Q_KLA((uintptr_t)tails));
    if (!begin_sharing(head, order))
        return QUIRE_BUSY;
    for (uintptr_t at = tails_from(head); at < tails_to(head, order); at += QUIRE_PAGE_SIZE)
        QPORT_VMEMMAP_SHARE(at, pa);
    return QUIRE_OK;
}

enum quire_status quire_page_map_restore(struct quire_page *head)
{
    struct quire_page *second = second_of(head);
    unsigned order = quire_page_order(head);
    enum quire_status s;

    if (!(second->owner & SHARED))
        return QUIRE_NOT_FOUND;
    s = unshare(tails_from(head), tails_to(head, order),
                common_tails(qi_zone_of(head->flags), order));
    if (s)
        return s;
    for (uint64_t i = TAILS_A_PAGE; i < 1ull << order; i++) {
        qi_store_relaxed(&head[i].index, (uint32_t)i);
        qi_store_release(&head[i].flags, (head->flags & QI_PG_PLACE) | QUIRE_PG_TAIL);
    }
    qi_store_relaxed(&second->owner, second->owner & ~SHARED);
    return QUIRE_OK;
}

#else

void qi_attached_init(void)
{
    for (unsigned k = 0; k < QUIRE_PAGE_KINDS; k++)
        destructors[k] = NULL;
}

enum quire_status quire_page_map_share(struct quire_page *head)
{
    (void)head;
    return QUIRE_UNSUPPORTED;
}

enum quire_status quire_page_map_restore(struct quire_page *head)
{
    (void)head;
    return QUIRE_UNSUPPORTED;
}

#endif
