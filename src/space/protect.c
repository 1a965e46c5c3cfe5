/*
 * space/protect.c - taking rights from leaves.  mprotect: the vmas change first, then the leaves.
 * Write-back: the vmas stay, the leaves of one page become clean and read-only.
 *
 * Permission is given lazily and taken eagerly: leaves lose rights at once, with one flush for the
 * whole call; they gain write only where a write would not have to copy or be noticed (a page that
 * is ours alone), which saves the fault that Linux takes.  A change that only adds rights flushes
 * nothing.
 */
#include "space.h"

/* The entry that e, which does not move, must become under v's new flags. */
static QI_ALWAYS_INLINE qi_pte settled_leaf(const struct qi_vma *v, qi_pte e, qi_pte reader,
                                            qi_pte writer)
{
    if (!(v->flags & QUIRE_WRITE) || qi_pte_special(e))
        return qi_pte_modify(e, reader);
    if (v->flags & QI_VM_SHARED)
        return qi_pte_modify(e, qi_pte_dirty(e) ? writer : reader);
    if (QI_LIKELY(qi_pte_own(e)))
        return qi_pte_modify(e, writer);
    if (qi_page_alone(quire_page_of_pfn(qi_pte_pfn(e))))
        return qi_pte_mkown(qi_pte_modify(e, writer));
    return qi_pte_modify(e, reader);
}

static QI_ALWAYS_INLINE qi_pte new_leaf(const struct qi_vma *v, qi_pte e, qi_pte reader,
                                        qi_pte writer)
{
    if (QI_LIKELY(!qi_pte_moving(e)))
        return settled_leaf(v, e, reader, writer);
    return qi_pte_mkmoving(settled_leaf(v, qi_pte_unmoving(e), reader, writer));
}

/* True if a CPU that goes on using old has rights that new does not give. */
static bool loses(qi_pte old, qi_pte new)
{
    if (QI_UNLIKELY(qi_pte_moving(old))) { /* whoever moves it may not have flushed yet */
        old = qi_pte_unmoving(old);
        new = qi_pte_unmoving(new);
    }
    return qi_pte_valid(old) && (!qi_pte_valid(new) || (qi_pte_write(old) && !qi_pte_write(new)) ||
                                 (qi_pte_exec(old) && !qi_pte_exec(new)));
}

/* Give the leaves of [start, end) of v the rights of v; true if a flush is needed. */
static bool protect_leaves(struct qi_vma *v, uint64_t start, uint64_t end)
{
    qi_pte reader = qi_vma_template(v, false), writer = qi_vma_template(v, true);
    bool flush = false;
    struct qi_span sp;

    for (uint64_t at = start; qi_pt_next_span(v->space->tlb.root, &at, end, &sp);)
        for (unsigned i = 0; i < sp.n; i++) {
            qi_pte e = qi_pte_load_link(&sp.ptes[i]), n;

            if (!qi_pte_present(e))
                continue;
            do
                n = new_leaf(v, e, reader, writer);
            while (n.v != e.v && !qi_pte_cas(&sp.ptes[i], &e, n) && qi_pte_present(e));
            flush |= loses(e, n);
        }
    return flush;
}

/* Change [start, end), inside v, to these flags.  *out: the vma that then contains start. */
static enum quire_status change(struct qi_vma *v, uint64_t start, uint64_t end, uint32_t flags,
                                bool *flush, struct qi_vma **out)
{
    uint64_t pages = (end - start) >> QUIRE_PAGE_SHIFT;
    struct quire_space *s = v->space;
    enum quire_status status;

    *out = v;
    if (flags == v->flags)
        return QUIRE_OK;
    if (qi_counts_as_data(flags) && !qi_counts_as_data(v->flags) &&
        (s->data + pages > s->limit_data >> QUIRE_PAGE_SHIFT || qi_overcommits(flags, pages)))
        return QUIRE_NO_MEMORY;
    status = qi_vma_reflag(&v, start, end, flags);
    if (status == QUIRE_OK)
        *flush |= protect_leaves(v, start, end);
    *out = qi_vma_merge(v);
    return status;
}

static enum quire_status protect_locked(struct quire_space *s, uint64_t start, uint64_t end,
                                        unsigned prot, bool grows, bool *flush)
{
    struct qi_vma *v = qi_vma_find(s, start);

    if (!v || (grows ? v->start >= end : v->start > start))
        return QUIRE_NO_MEMORY;
    if (grows) {
        if (!(v->flags & QI_VM_GROWSDOWN))
            return QUIRE_INVALID;
        start = v->start;
    }
    while (start < end) {
        enum quire_status status;
        uint64_t stop;
        bool locked;

        if (!v || v->start > start)
            return QUIRE_NO_MEMORY;
        if (prot & ~(unsigned)v->max_prot)
            return QUIRE_ACCESS;
        stop = QI_MIN(v->end, end);
        locked = (v->flags & (QI_VM_LOCKED | QI_VM_LOCKONFAULT | QI_VM_SHARED | QUIRE_WRITE)) ==
                 QI_VM_LOCKED;
        status = change(v, start, stop, (v->flags & ~QI_VM_PROT) | prot, flush, &v);
        if (status != QUIRE_OK)
            return status;
        if (locked && prot & QUIRE_WRITE) /* what is locked is there, also the copies */
            (void)!qi_populate(s, start, stop, true);
        start = stop;
        if (v->end <= start)
            v = v->next;
    }
    return QUIRE_OK;
}

enum quire_status quire_mprotect(struct quire_space *s, q_uva addr, uint64_t len, unsigned prot)
{
    bool down = prot & QUIRE_PROT_GROWSDOWN, up = prot & QUIRE_PROT_GROWSUP, flush = false;
    uint64_t end;
    enum quire_status status;

    prot &= ~(QUIRE_PROT_GROWSDOWN | QUIRE_PROT_GROWSUP);
    if ((down && up) || (addr.v & ~QUIRE_PAGE_MASK))
        return QUIRE_INVALID;
    if (!len)
        return QUIRE_OK;
    if (qi_add_overflows(addr.v, qi_align_up(len, QUIRE_PAGE_SIZE), &end) || end <= addr.v)
        return QUIRE_NO_MEMORY;
    if (prot & ~QI_VM_PROT)
        return QUIRE_INVALID;
    if (up)
        return QUIRE_INVALID; /* no mapping grows up on this machine */
    qi_space_lock(s);
    qi_event(QUIRE_EVENT_MPROTECT);
    status = protect_locked(s, addr.v, end, prot, down, &flush);
    if (flush)
        qi_tlb_flush(&s->tlb, addr.v, end, false);
    qi_rwsem_write_unlock(&s->lock);
    return status;
}

/* ---- Write-back ---- */

/* Make the leaf of page at va of v clean and read-only; true if it was dirty. */
static bool clean_leaf(const struct qi_vma *v, uint64_t va, const struct quire_page *page)
{
    unsigned level;
    qi_pte *slot = qi_pt_lookup(v->space->tlb.root, va, &level), e;

    if (!slot)
        return false;
    e = qi_pte_load_link(slot);
    do {
        /* a private mapping may have a copy here */
        if (!qi_pte_present(e) || qi_pte_pfn(e).v != quire_pfn_of_page(page).v ||
            !(qi_pte_write(e) || qi_pte_dirty(e)))
            return false;
    } while (!qi_pte_cas(slot, &e, qi_pte_mkclean(qi_pte_wrprotect(e))));
    qi_tlb_flush_page(&v->space->tlb, va);
    return qi_pte_dirty(e);
}

/* map_lock keeps v and the tables below it in being; other tasks may fault and zap beside us. */
bool qi_object_clean(struct quire_object *o, uint64_t index, const struct quire_page *page)
{
    bool dirty = false;
    struct qi_vma *v;

    qi_list_for_each (v, &o->vmas, object_link)
        if (index >= v->pgoff && index - v->pgoff < qi_vma_pages(v))
            dirty |= clean_leaf(v, qi_vma_address(v, index), page);
    return dirty;
}
