/*
 * space/advise.c - madvise, mlock, mincore, msync: what a program says of, and asks about, its
 * memory.
 *
 * Each call walks the vmas of a range.  Linux's rule for holes holds: what is mapped is dealt with,
 * and the answer is ENOMEM at the end (madvise(2), mlock(2), msync(2)).
 */
#include "space.h"

enum {
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MADV_DONTNEED,
    MADV_FREE = 8,
    MADV_REMOVE,
    MADV_DONTFORK,
    MADV_DOFORK,
    MADV_HUGEPAGE = 14,
    MADV_NOHUGEPAGE,
    MADV_DONTDUMP,
    MADV_DODUMP,
    MADV_WIPEONFORK,
    MADV_KEEPONFORK,
    MADV_POPULATE_READ = 22,
    MADV_POPULATE_WRITE,
    MADV_DONTNEED_LOCKED
};

/* Set and clear flags on [start, end) inside v. *out: the vma that then contains start. */
static enum quire_status set_flags(struct qi_vma *v, uint64_t start, uint64_t end, uint32_t set,
                                   uint32_t clear, struct qi_vma **out)
{
    uint32_t flags = (v->flags | set) & ~clear;
    enum quire_status status = QUIRE_OK;

    if (flags != v->flags) {
        status = qi_vma_reflag(&v, start, end, flags);
        v = qi_vma_merge(v);
    }
    *out = v;
    return status;
}

static bool is_device(const struct qi_vma *v)
{
    return v->object && v->object->kind == QUIRE_OBJECT_DEVICE;
}

static enum quire_status dont_need(struct qi_vma *v, uint64_t start, uint64_t end)
{
    struct quire_space *s = v->space;
    enum quire_status status;
    struct qi_gather g;

    status = qi_huge_boundary(s, start);
    if (status == QUIRE_OK)
        status = qi_huge_boundary(s, end);
    if (status != QUIRE_OK)
        return status;
    qi_gather_init(&g, &s->tlb);
    qi_zap(&g, v, start, end);
    qi_gather_finish(&g);
    return QUIRE_OK;
}

/* Bring the pages of a file into the cache. */
static enum quire_status will_need(struct qi_vma *v, uint64_t start, uint64_t end)
{
    if (!v->object || is_device(v))
        return QUIRE_OK;
    for (uint64_t va = start; va < end; va += QUIRE_PAGE_SIZE) {
        struct quire_page *page;

        if (qi_vma_pgoff(v, va) << QUIRE_PAGE_SHIFT >= v->object->size ||
            quire_object_page(v->object, qi_vma_pgoff(v, va), &page) != QUIRE_OK)
            return QUIRE_OK; /* only a hint */
        quire_page_put(page);
    }
    return QUIRE_OK;
}

/* Advice that only reads the vmas: the lock is held for reading. */
static enum quire_status advise_reader(struct qi_vma *v, uint64_t start, uint64_t end, int advice)
{
    enum quire_status status;

    if (advice == MADV_WILLNEED)
        return will_need(v, start, end);
    if (is_device(v))
        return QUIRE_INVALID;
    if (!(v->flags & (advice == MADV_POPULATE_WRITE ? QUIRE_WRITE : QUIRE_READ)))
        return QUIRE_INVALID;
    status = qi_populate(v->space, start, end, advice == MADV_POPULATE_WRITE);
    return status == QUIRE_BUS_ADRERR ? QUIRE_FAULT : status;
}

static enum quire_status advise_one(struct qi_vma *v, uint64_t start, uint64_t end, int advice,
                                    struct qi_vma **out)
{
    *out = v;
    switch (advice) {
    case MADV_NORMAL: return set_flags(v, start, end, 0, QI_VM_RANDOM | QI_VM_SEQUENTIAL, out);
    case MADV_RANDOM: return set_flags(v, start, end, QI_VM_RANDOM, QI_VM_SEQUENTIAL, out);
    case MADV_SEQUENTIAL: return set_flags(v, start, end, QI_VM_SEQUENTIAL, QI_VM_RANDOM, out);
    case MADV_DONTFORK: return set_flags(v, start, end, QI_VM_DONTFORK, 0, out);
    case MADV_DOFORK:
        return is_device(v) ? QUIRE_INVALID : set_flags(v, start, end, 0, QI_VM_DONTFORK, out);
    case MADV_DONTDUMP: return set_flags(v, start, end, QI_VM_DONTDUMP, 0, out);
    case MADV_DODUMP:
        return is_device(v) ? QUIRE_INVALID : set_flags(v, start, end, 0, QI_VM_DONTDUMP, out);
    case MADV_WIPEONFORK:
        return v->object ? QUIRE_INVALID : set_flags(v, start, end, QI_VM_WIPEONFORK, 0, out);
    case MADV_KEEPONFORK: return set_flags(v, start, end, 0, QI_VM_WIPEONFORK, out);
    case MADV_HUGEPAGE:
        return is_device(v) ? QUIRE_INVALID
                            : set_flags(v, start, end, QI_VM_HUGE, QI_VM_NOHUGE, out);
    case MADV_NOHUGEPAGE:
        return is_device(v) ? QUIRE_INVALID
                            : set_flags(v, start, end, QI_VM_NOHUGE, QI_VM_HUGE, out);
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
        if (is_device(v) || (advice == MADV_DONTNEED && (v->flags & QI_VM_LOCKED)))
            return QUIRE_INVALID;
        return dont_need(v, start, end);
    case MADV_FREE: /* the pages may go at any time: now */
        return v->object || (v->flags & QI_VM_LOCKED) ? QUIRE_INVALID : dont_need(v, start, end);
    default: return QUIRE_INVALID;
    }
}

/* MADV_REMOVE: a hole in the object, without the space's lock. */
static enum quire_status remove_range(struct quire_space *s, uint64_t start, uint64_t end)
{
    bool hole = false;

    while (start < end) {
        struct quire_object *o = NULL;
        enum quire_status status = QUIRE_OK;
        uint64_t stop = end, offset = 0;
        struct qi_vma *v;

        qi_rwsem_read_lock(&s->lock);
        v = qi_vma_find(s, start);
        if (v && v->start > start) {
            hole = true;
            start = v->start;
        }
        if (!v || start >= end) {
            status = QUIRE_NO_MEMORY;
        } else if (!v->object || is_device(v) || (v->flags & QI_VM_LOCKED)) {
            status = QUIRE_INVALID;
        } else if (qi_vma_private(v) || !(v->max_prot & QUIRE_WRITE)) {
            status = QUIRE_ACCESS;
        } else {
            stop = QI_MIN(v->end, end);
            o = v->object;
            quire_object_get(o);
            offset = qi_vma_pgoff(v, start) << QUIRE_PAGE_SHIFT;
        }
        qi_rwsem_read_unlock(&s->lock);
        if (o) {
            status = quire_object_punch(o, offset, stop - start);
            quire_object_put(o);
        }
        if (status != QUIRE_OK)
            return status;
        start = stop;
    }
    return hole ? QUIRE_NO_MEMORY : QUIRE_OK;
}

static bool advice_known(int advice)
{
    return (advice >= MADV_NORMAL && advice <= MADV_DONTNEED) ||
           (advice >= MADV_FREE && advice <= MADV_DOFORK) ||
           (advice >= MADV_HUGEPAGE && advice <= MADV_KEEPONFORK) ||
           (advice >= MADV_POPULATE_READ && advice <= MADV_DONTNEED_LOCKED);
}

static enum quire_status advise_locked(struct quire_space *s, uint64_t start, uint64_t end,
                                       int advice, bool reader)
{
    struct qi_vma *v = qi_vma_find(s, start);
    enum quire_status status = QUIRE_OK;
    bool hole = false;

    while (status == QUIRE_OK && start < end) {
        uint64_t stop;

        if (!v)
            return QUIRE_NO_MEMORY;
        if (v->start > start) {
            hole = true;
            if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
                return QUIRE_NO_MEMORY;
            start = v->start;
            if (start >= end)
                break;
        }
        stop = QI_MIN(v->end, end);
        status =
            reader ? advise_reader(v, start, stop, advice) : advise_one(v, start, stop, advice, &v);
        start = stop;
        if (v->end <= start)
            v = v->next;
    }
    return status == QUIRE_OK && hole ? QUIRE_NO_MEMORY : status;
}

enum quire_status quire_madvise(struct quire_space *s, q_uva addr, uint64_t len, int advice)
{
    uint64_t end, rounded = qi_align_up(len, QUIRE_PAGE_SIZE);
    bool reader =
        advice == MADV_WILLNEED || advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
    enum quire_status status;

    if (!advice_known(advice) || (addr.v & ~QUIRE_PAGE_MASK) || (len && !rounded) ||
        qi_add_overflows(addr.v, rounded, &end))
        return QUIRE_INVALID;
    if (end == addr.v)
        return QUIRE_OK;
    qi_event(QUIRE_EVENT_MADVISE);
    if (advice == MADV_REMOVE)
        return remove_range(s, addr.v, end);
    if (reader)
        qi_rwsem_read_lock(&s->lock);
    else
        qi_space_lock(s);
    status = advise_locked(s, addr.v, end, advice, reader);
    if (reader)
        qi_rwsem_read_unlock(&s->lock);
    else
        qi_rwsem_write_unlock(&s->lock);
    return status;
}

/* ---- mlock ---- */

static enum quire_status lock_range(struct quire_space *s, uint64_t start, uint64_t end,
                                    uint32_t set)
{
    struct qi_vma *v = qi_vma_find(s, start);

    while (start < end) {
        enum quire_status status;
        uint64_t stop;

        if (!v || v->start > start)
            return QUIRE_NO_MEMORY;
        stop = QI_MIN(v->end, end);
        status = set_flags(v, start, stop, set, (QI_VM_LOCKED | QI_VM_LOCKONFAULT) & ~set, &v);
        if (status != QUIRE_OK)
            return status;
        start = stop;
        if (v->end <= start)
            v = v->next;
    }
    return QUIRE_OK;
}

static uint64_t locked_pages(struct quire_space *s, uint64_t start, uint64_t end)
{
    uint64_t n = 0;

    for (struct qi_vma *v = qi_vma_find(s, start); v && v->start < end; v = v->next)
        if (v->flags & QI_VM_LOCKED)
            n += (QI_MIN(v->end, end) - QI_MAX(v->start, start)) >> QUIRE_PAGE_SHIFT;
    return n;
}

/* Round the range to pages outward.  A length that wraps to nothing is nothing, as in Linux. */
static enum quire_status round_range(q_uva addr, uint64_t len, uint64_t *start, uint64_t *end)
{
    *start = addr.v & QUIRE_PAGE_MASK;
    len = qi_align_up(len + (addr.v & ~QUIRE_PAGE_MASK), QUIRE_PAGE_SIZE);
    return qi_add_overflows(*start, len, end) ? QUIRE_INVALID : QUIRE_OK;
}

enum quire_status quire_mlock(struct quire_space *s, q_uva addr, uint64_t len, bool on_fault)
{
    uint32_t set = QI_VM_LOCKED | (on_fault ? QI_VM_LOCKONFAULT : 0);
    uint64_t start, end, fresh;
    enum quire_status status = round_range(addr, len, &start, &end);

    if (status != QUIRE_OK || start == end)
        return status;
    qi_space_lock(s);
    fresh = ((end - start) >> QUIRE_PAGE_SHIFT) - locked_pages(s, start, end);
    if (!s->limit_memlock)
        status = QUIRE_PERM;
    else if (fresh + s->locked > s->limit_memlock >> QUIRE_PAGE_SHIFT)
        status = QUIRE_NO_MEMORY;
    else
        status = lock_range(s, start, end, set);
    if (status == QUIRE_OK && !on_fault) {
        qi_rwsem_downgrade(&s->lock);
        status = qi_populate(s, start, end, true);
        qi_rwsem_read_unlock(&s->lock);
        return status == QUIRE_OK ? status : QUIRE_NO_MEMORY;
    }
    qi_rwsem_write_unlock(&s->lock);
    return status;
}

enum quire_status quire_munlock(struct quire_space *s, q_uva addr, uint64_t len)
{
    uint64_t start, end;
    enum quire_status status = round_range(addr, len, &start, &end);

    if (status != QUIRE_OK || start == end)
        return status;
    qi_space_lock(s);
    status = lock_range(s, start, end, 0);
    qi_rwsem_write_unlock(&s->lock);
    return status;
}

enum quire_status quire_mlockall(struct quire_space *s, unsigned flags)
{
    enum { CURRENT = 1, FUTURE = 2, ONFAULT = 4 };
    uint32_t set = QI_VM_LOCKED | (flags & ONFAULT ? QI_VM_LOCKONFAULT : 0);
    enum quire_status status = QUIRE_OK;

    if ((flags & ~(unsigned)(CURRENT | FUTURE | ONFAULT)) || flags == ONFAULT)
        return QUIRE_INVALID;
    qi_space_lock(s);
    if ((flags & CURRENT) && s->total > s->limit_memlock >> QUIRE_PAGE_SHIFT) {
        status = s->limit_memlock ? QUIRE_NO_MEMORY : QUIRE_PERM;
    } else {
        s->lock_future = flags & FUTURE ? set : 0;
        if (!flags || (flags & CURRENT))
            for (struct qi_vma *v = s->first; v && status == QUIRE_OK; v = v->next)
                status = set_flags(v, v->start, v->end, flags ? set : 0,
                                   (QI_VM_LOCKED | QI_VM_LOCKONFAULT) & ~(flags ? set : 0), &v);
    }
    qi_rwsem_downgrade(&s->lock);
    if (status == QUIRE_OK && (flags & CURRENT) && !(flags & ONFAULT))
        for (struct qi_vma *v = s->first; v; v = v->next)
            (void)!qi_populate(s, v->start, v->end, true); /* what can be, as mlockall(2) */
    qi_rwsem_read_unlock(&s->lock);
    return status;
}

/* ---- mincore, msync ---- */

static bool resident(struct qi_vma *v, uint64_t va)
{
    struct quire_page *page;
    unsigned level;
    qi_pte *slot = qi_pt_lookup(v->space->tlb.root, va, &level);

    if (slot && qi_pte_present(qi_pte_load(slot)))
        return true;
    if (!v->object || is_device(v))
        return false;
    page = quire_object_peek(v->object, qi_vma_pgoff(v, va));
    if (page)
        quire_page_put(page);
    return page;
}

enum quire_status quire_mincore(struct quire_space *s, q_uva addr, uint64_t len, uint8_t *vec)
{
    uint64_t va = addr.v, end;
    enum quire_status status = QUIRE_OK;
    struct qi_vma *v;

    if (va & ~QUIRE_PAGE_MASK)
        return QUIRE_INVALID;
    if (va > s->end || len > s->end - va)
        return QUIRE_NO_MEMORY;
    end = va + qi_align_up(len, QUIRE_PAGE_SIZE);
    qi_rwsem_read_lock(&s->lock);
    for (v = qi_vma_find(s, va); va < end; v = v->next) {
        if (!v || v->start > va) {
            status = QUIRE_NO_MEMORY;
            break;
        }
        for (; va < end && va < v->end; va += QUIRE_PAGE_SIZE)
            *vec++ = resident(v, va);
    }
    qi_rwsem_read_unlock(&s->lock);
    return status;
}

enum quire_status quire_msync(struct quire_space *s, q_uva addr, uint64_t len, unsigned flags)
{
    uint64_t va = addr.v, end;
    bool hole = false;

    if ((flags & ~(QUIRE_MS_ASYNC | QUIRE_MS_INVALIDATE | QUIRE_MS_SYNC)) ||
        (va & ~QUIRE_PAGE_MASK) || ((flags & QUIRE_MS_ASYNC) && (flags & QUIRE_MS_SYNC)))
        return QUIRE_INVALID;
    if (qi_add_overflows(va, qi_align_up(len, QUIRE_PAGE_SIZE), &end))
        return QUIRE_NO_MEMORY;
    while (va < end) {
        enum quire_status status = QUIRE_OK;
        struct quire_object *o = NULL;
        uint64_t offset = 0, stop = end;
        struct qi_vma *v;

        qi_rwsem_read_lock(&s->lock);
        v = qi_vma_find(s, va);
        if (v && v->start > va && v->start < end) {
            hole = true;
            va = v->start;
        }
        if (!v || v->start >= end) {
            status = QUIRE_NO_MEMORY;
        } else {
            stop = QI_MIN(v->end, end);
            if ((flags & QUIRE_MS_INVALIDATE) && (v->flags & QI_VM_LOCKED))
                status = QUIRE_BUSY;
            else if ((flags & QUIRE_MS_SYNC) && v->object && (v->flags & QI_VM_SHARED)) {
                o = v->object;
                quire_object_get(o);
                offset = qi_vma_pgoff(v, va) << QUIRE_PAGE_SHIFT;
            }
        }
        qi_rwsem_read_unlock(&s->lock);
        if (o) {
            status = quire_object_sync(o, offset, stop - va);
            quire_object_put(o);
        }
        if (status != QUIRE_OK)
            return status;
        va = stop;
    }
    return hole ? QUIRE_NO_MEMORY : QUIRE_OK;
}
