/*
 * space/remap.c - mremap: shrink, grow in place, or move the leaves to another address.
 *
 * Moving copies no page.  Where source and target lie alike in their 2 MiB slots, the whole table
 * moves with one entry; else leaves move one by one.  All tables that the target needs are made
 * before the first leaf moves, so a move cannot stop half way.
 */
#include "space.h"

/* End of the piece that begins at from and stays within one slot of 2 MiB on both sides. */
static uint64_t piece_end(uint64_t from, uint64_t to, uint64_t end)
{
    uint64_t room_from = QUIRE_HUGE_SIZE - (from & (QUIRE_HUGE_SIZE - 1));
    uint64_t room_to = QUIRE_HUGE_SIZE - (to & (QUIRE_HUGE_SIZE - 1));

    return QI_MIN(end, from + QI_MIN(room_from, room_to));
}

static bool whole_slot(uint64_t from, uint64_t to, uint64_t stop)
{
    return !((from | to) & (QUIRE_HUGE_SIZE - 1)) && stop - from == QUIRE_HUGE_SIZE;
}

/* Make the tables that moving [from, end) to `to` will need. */
static enum quire_status prepare(struct quire_space *s, uint64_t from, uint64_t end, uint64_t to)
{
    while (from < end) {
        uint64_t stop = piece_end(from, to, end);
        enum quire_status status = QUIRE_OK;
        unsigned level;
        qi_pte *slot = qi_pt_slot(s->tlb.root, from, 1, &level);

        if (slot && !qi_pte_none(qi_pte_load(slot))) {
            bool whole = whole_slot(from, to, stop);

            if (!whole && !qi_pte_leads(qi_pte_load(slot)))
                status =
                    qi_huge_split_range(s, qi_align_down(from, QUIRE_HUGE_SIZE),
                                        qi_align_down(from, QUIRE_HUGE_SIZE) + QUIRE_HUGE_SIZE);
            if (status == QUIRE_OK)
                status = qi_pt_slot_alloc(s->tlb.root, to, whole ? 1 : 0, &slot, &level);
        }
        if (status != QUIRE_OK)
            return status;
        to += stop - from;
        from = stop;
    }
    return QUIRE_OK;
}

static void move_leaves(struct quire_space *s, uint64_t from, uint64_t end, uint64_t to)
{
    unsigned level;
    qi_pte *src = qi_pt_lookup(s->tlb.root, from, &level), *dst;

    if (!src)
        return;
    dst = qi_pt_lookup(s->tlb.root, to, &level);
    for (; from < end; from += QUIRE_PAGE_SIZE, src++, dst++)
        if (!qi_pte_none(qi_pte_load(src)))
            qi_pte_set(dst, qi_pte_xchg(src, QI_PTE(0)));
}

/* Move all leaves of [from, end) to `to`, an empty range that prepare() has seen. */
static void move_range(struct quire_space *s, struct qi_gather *g, uint64_t from, uint64_t end,
                       uint64_t to)
{
    qi_gather_range(g, from, end - from);
    while (from < end) {
        uint64_t stop = piece_end(from, to, end);

        if (whole_slot(from, to, stop)) {
            enum quire_status status = qi_pt_move(s->tlb.root, from, to, 1);

            if (status == QUIRE_OK)
                qi_gather_tables(g);
            else if (status != QUIRE_NOT_FOUND)
                move_leaves(s, from, stop,
                            to); /* a table left empty there: the target has one too */
        } else {
            move_leaves(s, from, stop, to);
        }
        to += stop - from;
        from = stop;
    }
}

/* What mremap works on; checked by resize_check. */
struct remap {
    uint64_t old, old_len, new_len, to;
    unsigned flags;
};

/* v holds [r->old, r->old + r->old_len) and may become r->new_len: limits. */
static enum quire_status resize_check(struct quire_space *s, const struct qi_vma *v,
                                      const struct remap *r)
{
    uint64_t grow = r->new_len > r->old_len ? (r->new_len - r->old_len) >> QUIRE_PAGE_SHIFT : 0;
    bool device = v->object && v->object->kind == QUIRE_OBJECT_DEVICE;

    if (!r->old_len && qi_vma_private(v))
        return QUIRE_INVALID;
    if ((r->flags & QUIRE_MREMAP_DONTUNMAP) && device)
        return QUIRE_INVALID;
    if (r->old_len > v->end - r->old)
        return QUIRE_FAULT;
    if (!grow)
        return QUIRE_OK;
    if (device)
        return QUIRE_FAULT;
    if ((v->flags & QI_VM_LOCKED) && s->locked + grow > s->limit_memlock >> QUIRE_PAGE_SHIFT)
        return QUIRE_AGAIN;
    return qi_space_may_grow(s, v->flags, grow) && !qi_overcommits(v->flags, grow)
               ? QUIRE_OK
               : QUIRE_NO_MEMORY;
}

/* Put a copy of v's mapping of r->old at r->to, free there, and move the leaves. */
static enum quire_status move_vma(struct quire_space *s, struct qi_vma *v, const struct remap *r)
{
    struct qi_vma *n, *below;
    enum quire_status status;
    struct qi_gather g;

    if (s->nvmas + 3 > QUIRE_MAX_VMAS)
        return QUIRE_LIMIT;
    n = qi_vma_alloc(s);
    if (!n)
        return QUIRE_NO_MEMORY;
    /* what can fail: the cuts of the old range, the tables of the new one */
    status = r->old_len ? qi_vma_boundary(s, r->old) : QUIRE_OK;
    if (status == QUIRE_OK && r->old_len)
        status = qi_vma_boundary(s, r->old + r->old_len);
    if (r->old_len)
        v = qi_vma_find(s, r->old);
    if (status == QUIRE_OK)
        status = prepare(s, r->old, r->old + r->old_len, r->to);
    if (status != QUIRE_OK) {
        qi_gather_init(&g, &s->tlb);
        qi_free_tables(s, &g, r->to, r->to + r->new_len);
        qi_gather_finish(&g);
        qi_vma_merge(v);
        qi_vma_free(n);
        return status;
    }
    n->start = r->to;
    n->end = r->to + r->new_len;
    n->flags = v->flags;
    n->max_prot = v->max_prot;
    n->has_anon = v->has_anon;
    n->object = v->object;
    n->pgoff = qi_vma_pgoff(v, r->old);
    n->name = v->name;
    qi_vma_set_policy(n, v->policy);
    qi_vma_object_link(n);
    below = qi_vma_find(s, n->start);
    qi_vma_link(s, n, below ? below->prev : s->last);
    qi_space_account(s, n->flags, (int64_t)qi_vma_pages(n));

    if (r->old_len) {
        if (v->object)
            qi_rwsem_write_lock(&v->object->map_lock);
        qi_gather_init(&g, &s->tlb);
        move_range(s, &g, r->old, r->old + r->old_len, r->to);
        if (v->object)
            qi_rwsem_write_unlock(&v->object->map_lock);
        qi_gather_finish(&g); /* flushed before anybody can touch either range */
        if (!(r->flags & QUIRE_MREMAP_DONTUNMAP)) {
            status = qi_munmap_locked(s, r->old, r->old + r->old_len);
            QI_ASSERT(status == QUIRE_OK); /* the cuts stand already: nothing to allocate */
        } else {
            /* what stays behind is empty, and not locked (mremap(2)) */
            qi_space_account(s, v->flags, -(int64_t)qi_vma_pages(v));
            v->flags &= ~(QI_VM_LOCKED | QI_VM_LOCKONFAULT);
            qi_space_account(s, v->flags, (int64_t)qi_vma_pages(v));
        }
    }
    qi_vma_merge(n);
    return QUIRE_OK;
}

/* Grow v, which ends where the old range ends, without moving: false if there is no room. */
static bool grow_in_place(struct quire_space *s, struct qi_vma *v, const struct remap *r)
{
    uint64_t end = r->old + r->new_len;

    if (v->end != r->old + r->old_len || end > s->end || (v->next && qi_vma_floor(v->next) < end))
        return false;
    qi_space_account(s, v->flags, (int64_t)((end - v->end) >> QUIRE_PAGE_SHIFT));
    if (v->object)
        qi_rwsem_write_lock(&v->object->map_lock);
    v->end = end;
    if (v->object)
        qi_rwsem_write_unlock(&v->object->map_lock);
    qi_vma_moved(s, v);
    qi_vma_merge(v);
    return true;
}

/* FIXED or DONTUNMAP: the target is given, or free choice. */
static enum quire_status remap_to(struct quire_space *s, struct remap *r)
{
    enum quire_status status;
    struct qi_vma *v;

    if ((r->to & ~QUIRE_PAGE_MASK) || r->to > s->end - r->new_len)
        return QUIRE_INVALID;
    if ((r->flags & QUIRE_MREMAP_FIXED) && r->old + r->old_len > r->to &&
        r->to + r->new_len > r->old)
        return QUIRE_INVALID;
    if ((r->flags & QUIRE_MREMAP_FIXED) && r->to < s->start)
        return QUIRE_PERM;
    if (s->nvmas + 2 >= QUIRE_MAX_VMAS)
        return QUIRE_LIMIT;
    /* all that can be refused, before the target is unmapped */
    v = qi_vma_find(s, r->old);
    status = resize_check(s, v, r);
    if (status == QUIRE_OK && (r->flags & QUIRE_MREMAP_DONTUNMAP) &&
        !qi_space_may_grow(s, v->flags, r->old_len >> QUIRE_PAGE_SHIFT))
        status = QUIRE_NO_MEMORY;
    if (status == QUIRE_OK && (r->flags & QUIRE_MREMAP_FIXED))
        status = qi_munmap_locked(s, r->to, r->to + r->new_len);
    if (status == QUIRE_OK && r->old_len > r->new_len) {
        status = qi_munmap_locked(s, r->old + r->new_len, r->old + r->old_len);
        r->old_len = r->new_len;
    }
    if (status != QUIRE_OK)
        return status;
    v = qi_vma_find(s, r->old); /* the cuts may have replaced it */
    if (!(r->flags & QUIRE_MREMAP_FIXED)) {
        r->to = qi_unmapped_area(s, r->to, r->new_len, 0);
        if (!r->to)
            return QUIRE_NO_MEMORY;
    }
    return move_vma(s, v, r);
}

static enum quire_status remap_locked(struct quire_space *s, struct remap *r)
{
    struct qi_vma *v = qi_vma_find(s, r->old);
    enum quire_status status;

    if (!v || v->start > r->old)
        return QUIRE_FAULT;
    /* Cutting [old + new_len, old + old_len) must not reach beyond the space. */
    if (r->old_len > r->new_len && r->old_len > s->end - r->old)
        return QUIRE_INVALID;
    if (r->flags & (QUIRE_MREMAP_FIXED | QUIRE_MREMAP_DONTUNMAP))
        return remap_to(s, r);
    r->to = r->old;
    if (r->old_len >= r->new_len)
        return r->old_len == r->new_len
                   ? QUIRE_OK
                   : qi_munmap_locked(s, r->old + r->new_len, r->old + r->old_len);
    status = resize_check(s, v, r);
    if (status != QUIRE_OK || grow_in_place(s, v, r))
        return status;
    if (!(r->flags & QUIRE_MREMAP_MAYMOVE))
        return QUIRE_NO_MEMORY;
    r->to = qi_unmapped_area(s, 0, r->new_len, 0);
    return r->to ? move_vma(s, v, r) : QUIRE_NO_MEMORY;
}

enum quire_status quire_mremap(struct quire_space *s, q_uva old, uint64_t old_len, uint64_t new_len,
                               unsigned flags, q_uva new_addr, q_uva *out)
{
    struct remap r = {.old = old.v,
                      .old_len = qi_align_up(old_len, QUIRE_PAGE_SIZE),
                      .new_len = qi_align_up(new_len, QUIRE_PAGE_SIZE),
                      .to = new_addr.v,
                      .flags = flags};
    enum quire_status status;
    struct qi_vma *v;

    if ((flags & ~(QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED | QUIRE_MREMAP_DONTUNMAP)) ||
        (flags & (QUIRE_MREMAP_FIXED | QUIRE_MREMAP_MAYMOVE)) == QUIRE_MREMAP_FIXED ||
        ((flags & QUIRE_MREMAP_DONTUNMAP) &&
         (!(flags & QUIRE_MREMAP_MAYMOVE) || old_len != new_len)) ||
        (old.v & ~QUIRE_PAGE_MASK) || !r.new_len || r.old_len > s->end || r.new_len > s->end ||
        old.v > s->end)
        return QUIRE_INVALID;
    qi_space_lock(s);
    qi_event(QUIRE_EVENT_MREMAP);
    status = remap_locked(s, &r);
    qi_rwsem_downgrade(&s->lock);
    if (status == QUIRE_OK) {
        v = qi_vma_find(s, r.to);
        if (r.new_len > r.old_len &&
            (v->flags & (QI_VM_LOCKED | QI_VM_LOCKONFAULT)) == QI_VM_LOCKED)
            (void)!qi_populate(s, r.to + r.old_len, r.to + r.new_len, true);
        *out = Q_UVA(r.to);
    }
    qi_rwsem_read_unlock(&s->lock);
    return status;
}
