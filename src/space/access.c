/*
 * space/access.c - a space seen from outside: copying, pages, futex keys.
 *
 * Everything goes through the tables and the direct map, never through the space's own addresses,
 * so it works on any space, active or not, and in a hosted port that has no hardware tables.
 */
#include "space.h"

/*
 * A frame that stays where it is: the space's lock keeps the mapping, the object's map_lock (both held for
 * reading) keeps truncation away, which takes pages out without the space's lock.
 */
struct pin {
    struct quire_space *space;
    struct quire_object *object; /* whose map_lock is held, or NULL */
    q_pfn pfn;
    bool counted;
};

static void pin_lock(struct pin *p, const struct qi_vma *v)
{
    p->object = v->object && v->object->kind != QUIRE_OBJECT_DEVICE ? v->object : NULL;
    if (p->object)
        qi_rwsem_read_lock(&p->object->map_lock);
}

static void pin_unlock(struct pin *p)
{
    if (p->object)
        qi_rwsem_read_unlock(&p->object->map_lock);
}

static void unpin(struct pin *p)
{
    pin_unlock(p);
    qi_rwsem_read_unlock(&p->space->lock);
}

static void *pinned_byte(const struct pin *p, uint64_t va)
{
    return (char *)quire_ptr_of_pa(quire_pa_of_pfn(p->pfn)) + (va & ~QUIRE_PAGE_MASK);
}

/* The leaf of va as it stands, if it satisfies access; a huge leaf gives its part. */
static bool leaf_ready(struct pin *p, uint64_t va, unsigned access)
{
    unsigned level;
    qi_pte *slot = qi_pt_lookup(p->space->tlb.root, va, &level);
    qi_pte e = slot ? qi_pte_load_link(slot) : QI_PTE(0);

    /* a leaf without access still maps its frame: a forced read may use it, unless it moves */
    if (!qi_pte_present(e) || qi_pte_moving(e) || (access == QUIRE_WRITE && !qi_pte_write(e)))
        return false;
    p->pfn = Q_PFN(qi_pte_pfn(e).v + (level ? (va >> QUIRE_PAGE_SHIFT) & (QI_PT_ENTRIES - 1) : 0));
    p->counted = !qi_pte_special(e);
    return true;
}

/* Find the frame of va for access, faulting as often as it takes.  Pinned if OK.  force: for reading,
 * which no max_prot forbids (mmap refuses one without it). */
static enum quire_status pin_frame(struct quire_space *s, uint64_t va, unsigned access, bool force,
                                   struct pin *p)
{
    p->space = s;
    for (;;) {
        enum quire_status status;
        struct qi_vma *v;

        qi_rwsem_read_lock(&s->lock);
        v = qi_vma_find(s, va);
        if (v && va >= v->start) {
            /* stricter than the hardware, which reads whatever may be written or executed */
            if (!(v->flags & access) && !force) {
                status = QUIRE_SEGV_ACCERR;
            } else {
                pin_lock(p, v);
                if (leaf_ready(p, va, access))
                    return QUIRE_OK;
                pin_unlock(p);
                status = qi_fault_page(v, va, access);
            }
            qi_rwsem_read_unlock(&s->lock);
        } else {
            qi_rwsem_read_unlock(&s->lock);
            status = quire_fault(s, Q_UVA(va), access); /* a stack may grow */
        }
        if (status != QUIRE_OK)
            return status;
    }
}

/* Dumb byte copies are enough here: /proc/pid/mem, ptrace, hosted tests. */
static void copy_bytes(void *to, const void *from, size_t n)
{
    unsigned char *d = to;
    const unsigned char *f = from;

    while (n--)
        *d++ = *f++;
}

static size_t part_of_page(uint64_t va, size_t len)
{
    size_t room = QUIRE_PAGE_SIZE - (va & ~QUIRE_PAGE_MASK);

    return len < room ? len : room;
}

enum quire_status quire_space_read(struct quire_space *s, q_uva from, void *to, size_t len,
                                   bool force, size_t *done)
{
    char *out = to;

    for (*done = 0; *done < len;) {
        uint64_t va = from.v + *done;
        size_t n = part_of_page(va, len - *done);
        enum quire_status status;
        struct pin pin;

        if (va >= s->end)
            return QUIRE_SEGV_MAPERR;
        status = pin_frame(s, va, QUIRE_READ, force, &pin);
        if (status != QUIRE_OK)
            return status;
        copy_bytes(out + *done, pinned_byte(&pin, va), n);
        unpin(&pin);
        *done += n;
    }
    return QUIRE_OK;
}

/* Put a private copy of the page of leaf e, read-only, at slot.  Pinned as before. */
static enum quire_status copy_read_only(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte e,
                                        struct pin *p)
{
    struct quire_page *page = quire_page_of_pfn(qi_pte_pfn(e)), *copy;

    copy = qi_vma_page(v, va, 0, QUIRE_GFP_USER);
    if (!copy)
        return QUIRE_NO_MEMORY;
    qport_copy_page(quire_page_ptr(copy), quire_page_ptr(page));
    qi_mark_anon(copy);
    copy->counts = QUIRE_PAGE_ONE_MAPPING;
    qi_store_relaxed(&v->has_anon, true);
    qi_pte_xchg(slot,
                qi_pte_mkdirty(qi_pte_leaf(qi_vma_template(v, false), quire_pfn_of_page(copy), 0)));
    qi_tlb_flush_page(&v->space->tlb, va & QUIRE_PAGE_MASK);
    qi_rss_add(v->space, QI_RSS_ANON, 1);
    if (!qi_pte_special(e)) {
        qi_rss_add(v->space, qi_rss_kind(v, page), -1);
        qi_fetch_sub_relaxed(&page->maps, 1u);
        quire_page_put(page);
    }
    p->pfn = quire_pfn_of_page(copy);
    return QUIRE_OK;
}

/* Under the space's write lock: the frame of va as our own private one.  Pinned if OK. */
static enum quire_status own_frame(struct quire_space *s, uint64_t va, struct pin *p)
{
    struct qi_vma *v = qi_vma_find(s, va);
    const struct quire_page *page;
    enum quire_status status = QUIRE_OK;
    unsigned level;
    qi_pte *slot, e;

    if (!v || va < v->start)
        return QUIRE_SEGV_MAPERR;
    if ((v->flags & QI_VM_SHARED) || (v->object && v->object->kind == QUIRE_OBJECT_DEVICE))
        return QUIRE_SEGV_ACCERR;
    pin_lock(p, v);
    slot = qi_pt_lookup(s->tlb.root, va, &level);
    e = slot ? qi_pte_load_link(slot) : QI_PTE(0);
    page = quire_page_of_pfn(qi_pte_pfn(e));
    if (!qi_pte_present(e) || level) {
        status = QUIRE_AGAIN;
    } else if (qi_pte_special(e) || !(quire_page_flags_now(page) & QUIRE_PG_ANON) ||
               qi_load_acquire(&page->counts) != QUIRE_PAGE_ONE_MAPPING) {
        status = copy_read_only(v, va, slot, e, p);
    } else {
        p->pfn = qi_pte_pfn(e);
    }
    if (status != QUIRE_OK)
        pin_unlock(p);
    return status;
}

/* Give a private mapping that may not be written a private copy of the page, still read-only. */
static enum quire_status force_private(struct quire_space *s, uint64_t va, struct pin *p)
{
    enum quire_status status = pin_frame(s, va, QUIRE_READ, true, p);

    if (status != QUIRE_OK)
        return status;
    unpin(p);
    qi_space_lock(s);
    status = qi_huge_split_range(s, qi_align_down(va, QUIRE_HUGE_SIZE),
                                 qi_align_down(va, QUIRE_HUGE_SIZE) + QUIRE_HUGE_SIZE);
    if (status == QUIRE_OK)
        status = own_frame(s, va, p);
    qi_rwsem_downgrade(&s->lock);
    if (status != QUIRE_OK)
        qi_rwsem_read_unlock(&s->lock);
    return status;
}

/* The frame to write va through, pinned if OK. */
static enum quire_status pin_for_write(struct quire_space *s, uint64_t va, bool force,
                                       struct pin *p)
{
    enum quire_status status = pin_frame(s, va, QUIRE_WRITE, false, p);

    if (status != QUIRE_SEGV_ACCERR || !force)
        return status;
    do
        status = force_private(s, va, p);
    while (status == QUIRE_AGAIN);
    return status;
}

enum quire_status quire_space_write(struct quire_space *s, q_uva to, const void *from, size_t len,
                                    bool force, size_t *done)
{
    const char *in = from;

    for (*done = 0; *done < len;) {
        uint64_t va = to.v + *done;
        size_t n = part_of_page(va, len - *done);
        enum quire_status status;
        struct pin pin;

        if (va >= s->end)
            return QUIRE_SEGV_MAPERR;
        status = pin_for_write(s, va, force, &pin);
        if (status != QUIRE_OK)
            return status;
        copy_bytes(pinned_byte(&pin, va), in + *done, n);
        unpin(&pin);
        *done += n;
    }
    return QUIRE_OK;
}

enum quire_status quire_space_page(struct quire_space *s, q_uva addr, unsigned access,
                                   struct quire_page **out)
{
    enum quire_status status;
    struct pin pin;

    if (addr.v >= s->end)
        return QUIRE_SEGV_MAPERR;
    for (;;) {
        uint64_t base = qi_align_down(addr.v, QUIRE_HUGE_SIZE);

        status = pin_frame(s, addr.v, access, false, &pin);
        if (status != QUIRE_OK)
            return status;
        if (!pin.counted ||
            !(quire_page_flags_now(quire_page_of_pfn(pin.pfn)) & (QUIRE_PG_HEAD | QUIRE_PG_TAIL)))
            break;
        /* a reference into a huge page would keep it from being split: make it small first */
        unpin(&pin);
        qi_space_lock(s);
        status = qi_huge_split_range(s, base, base + QUIRE_HUGE_SIZE);
        qi_rwsem_write_unlock(&s->lock);
        if (status != QUIRE_OK)
            return status;
    }
    /* the zero page has a reference of its own to add to; a device frame has none to give */
    if (pin.counted || pin.pfn.v == qi_zero_pfn().v) {
        *out = quire_page_of_pfn(pin.pfn);
        quire_page_get(*out);
    } else {
        status = QUIRE_INVALID;
    }
    unpin(&pin);
    return status;
}

enum quire_status quire_space_futex_key(struct quire_space *s, q_uva addr, bool private_hint,
                                        struct quire_futex_key *out)
{
    struct qi_vma *v;
    enum quire_status status = QUIRE_OK;

    *out = (struct quire_futex_key){(uintptr_t)s, addr.v, NULL};
    if (addr.v >= s->end)
        return QUIRE_FAULT;
    if (private_hint)
        return QUIRE_OK;
    qi_rwsem_read_lock(&s->lock);
    v = qi_vma_find(s, addr.v);
    if (!v || addr.v < v->start || !qi_access_allowed(v, QUIRE_READ)) {
        status = QUIRE_FAULT;
    } else if (v->flags & QI_VM_SHARED) {
        out->a = (uintptr_t)v->object;
        out->b = (qi_vma_pgoff(v, addr.v) << QUIRE_PAGE_SHIFT) | (addr.v & ~QUIRE_PAGE_MASK);
        out->object = v->object;
        quire_object_get(v->object);
    }
    qi_rwsem_read_unlock(&s->lock);
    return status;
}
