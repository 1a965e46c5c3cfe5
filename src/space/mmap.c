/*
 * space/mmap.c - mmap, munmap, brk: making and removing mappings.
 *
 * Argument checks stand in Linux's order (do_mmap in mm/mmap.c; mmap(2)), so that a call with two
 * faults gets the same answer.  Everything that can fail happens before anything changes.
 */
#include "space.h"

/* ---- Where ---- */

/* [at, at + len) is free and inside the space, guard gaps kept. */
static bool range_free(struct quire_space *s, uint64_t at, uint64_t len)
{
    struct qi_vma *next;

    if (at < s->start || at > s->end || len > s->end - at)
        return false;
    next = qi_vma_find(s, at);
    return !next || at + len <= qi_vma_floor(next);
}

uint64_t qi_unmapped_area(struct quire_space *s, uint64_t hint, uint64_t len, unsigned flags)
{
    uint64_t align = QUIRE_PAGE_SIZE, at;

    if (flags & QUIRE_MAP_32BIT) {
        at = qi_gap_find(s, len, align, 0x40000000, 0x80000000);
        return at ? at : qi_gap_find(s, len, align, s->start, 0x80000000);
    }
    hint = qi_align_up(hint, QUIRE_PAGE_SIZE);
    if (hint && range_free(s, hint, len))
        return hint;
    /* whole huge pages, whole tables to move and to free */
    if (!(len & (QUIRE_HUGE_SIZE - 1)))
        align = QUIRE_HUGE_SIZE;
    at = qi_gap_find(s, len, align, s->start, s->mmap_base);
    if (!at && align > QUIRE_PAGE_SIZE)
        at = qi_gap_find(s, len, QUIRE_PAGE_SIZE, s->start, s->mmap_base);
    return at ? at : qi_gap_find(s, len, QUIRE_PAGE_SIZE, s->start, s->end);
}

/* ---- munmap ---- */

void qi_free_tables(struct quire_space *s, struct qi_gather *g, uint64_t start, uint64_t end)
{
    struct qi_vma *next = qi_vma_find(s, start), *prev = next ? next->prev : s->last;

    qi_pt_free_range(g, s->tlb.root, start, end, prev ? prev->end : 0,
                     next ? next->start : QI_USER_HALF);
}

/* All of v goes; its pages into g. */
static void unmap_whole(struct quire_space *s, struct qi_gather *g, struct qi_vma *v)
{
    qi_zap(g, v, v->start, v->end);
    qi_space_account(s, v->flags, -(int64_t)qi_vma_pages(v));
    qi_vma_unlink(s, v);
    qi_vma_object_unlink(v);
    qi_vma_free(v);
}

/* One end of v goes: [start, end) lies at its start or at its end.  No vma is made. */
static void trim(struct quire_space *s, struct qi_gather *g, struct qi_vma *v, uint64_t start,
                 uint64_t end)
{
    uint64_t pages = (end - start) >> QUIRE_PAGE_SHIFT;

    qi_zap(g, v, start, end);
    qi_space_account(s, v->flags, -(int64_t)pages);
    if (v->object)
        qi_rwsem_write_lock(&v->object->map_lock);
    if (start == v->start) {
        v->pgoff += pages;
        v->start = end;
    } else {
        v->end = start;
    }
    if (v->object)
        qi_rwsem_write_unlock(&v->object->map_lock);
    qi_vma_moved(s, v);
}

/*
 *   v:   |-----------|         what happens
 *        [-----------]         unlinked
 *        [----)                trimmed at the front
 *               [----)         trimmed at the back
 *            [--)              a hole: cut at its end, then trimmed at the back
 */
enum quire_status qi_munmap_locked(struct quire_space *s, uint64_t start, uint64_t end)
{
    struct qi_vma *v = qi_vma_find(s, start);
    enum quire_status status;
    struct qi_gather g;

    if (!v || v->start >= end)
        return QUIRE_OK;
    if (v->start < start && v->end > end) {
        status = qi_huge_boundary(s, start);
        if (status == QUIRE_OK)
            status = qi_vma_boundary(s, end);
    } else {
        status = qi_huge_boundary(s, start);
        if (status == QUIRE_OK)
            status = qi_huge_boundary(s, end);
    }
    if (status != QUIRE_OK)
        return status;

    qi_gather_init(&g, &s->tlb);
    if (v->start < start) {
        struct qi_vma *next = v->next;

        trim(s, &g, v, start, QI_MIN(v->end, end));
        v = next;
    }
    while (v && v->end <= end) {
        struct qi_vma *next = v->next;

        unmap_whole(s, &g, v);
        v = next;
    }
    if (v && v->start < end)
        trim(s, &g, v, v->start, end);
    qi_free_tables(s, &g, start, end);
    qi_gather_finish(&g);
    return QUIRE_OK;
}

enum quire_status quire_munmap(struct quire_space *s, q_uva addr, uint64_t len)
{
    enum quire_status status;

    if ((addr.v & ~QUIRE_PAGE_MASK) || addr.v > s->end || len > s->end - addr.v)
        return QUIRE_INVALID;
    len = qi_align_up(len, QUIRE_PAGE_SIZE);
    if (!len)
        return QUIRE_INVALID;
    qi_space_lock(s);
    qi_event(QUIRE_EVENT_MUNMAP);
    status = qi_munmap_locked(s, addr.v, addr.v + len);
    qi_rwsem_write_unlock(&s->lock);
    return status;
}

/* ---- mmap ---- */

/* Pages of [start, end) that are mapped. */
static uint64_t mapped_pages(struct quire_space *s, uint64_t start, uint64_t end)
{
    uint64_t n = 0;

    for (struct qi_vma *v = qi_vma_find(s, start); v && v->start < end; v = v->next)
        n += (QI_MIN(v->end, end) - QI_MAX(v->start, start)) >> QUIRE_PAGE_SHIFT;
    return n;
}

static enum quire_status check_type(const struct quire_mmap *m, unsigned *shared)
{
    unsigned type = m->flags & QUIRE_MAP_TYPE, max = m->max_prot ? m->max_prot : QI_VM_PROT;
    const unsigned known = QUIRE_MAP_TYPE | QUIRE_MAP_FIXED | QUIRE_MAP_ANONYMOUS |
                           QUIRE_MAP_32BIT | QUIRE_MAP_GROWSDOWN | QUIRE_MAP_DENYWRITE |
                           QUIRE_MAP_EXECUTABLE | QUIRE_MAP_LOCKED | QUIRE_MAP_NORESERVE |
                           QUIRE_MAP_POPULATE | QUIRE_MAP_NONBLOCK | QUIRE_MAP_STACK |
                           QUIRE_MAP_HUGETLB;

    *shared = type == QUIRE_MAP_SHARED || type == QUIRE_MAP_SHARED_VALIDATE;
    if (!*shared && type != QUIRE_MAP_PRIVATE)
        return QUIRE_INVALID;
    if (!m->object)
        return type == QUIRE_MAP_SHARED_VALIDATE || (*shared && (m->flags & QUIRE_MAP_GROWSDOWN))
                   ? QUIRE_INVALID
                   : QUIRE_OK;
    if (type == QUIRE_MAP_SHARED_VALIDATE && (m->flags & ~known))
        return QUIRE_UNSUPPORTED;
    if (*shared && (m->prot & QUIRE_WRITE) && !(max & QUIRE_WRITE))
        return QUIRE_ACCESS;
    if (!(max & QUIRE_READ))
        return QUIRE_ACCESS;
    if ((m->prot & QUIRE_EXEC) && !(max & QUIRE_EXEC))
        return QUIRE_PERM;
    return m->flags & QUIRE_MAP_GROWSDOWN ? QUIRE_INVALID : QUIRE_OK;
}

/* Where the mapping goes: checks of place.  *at is set. */
static enum quire_status choose_place(struct quire_space *s, const struct quire_mmap *m,
                                      uint64_t len, uint64_t *at)
{
    struct qi_vma *v;

    if (!(m->flags & (QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE))) {
        *at = qi_unmapped_area(s, m->addr.v, len, m->flags);
        return *at ? QUIRE_OK : QUIRE_NO_MEMORY;
    }
    *at = m->addr.v;
    if (*at > s->end - len)
        return QUIRE_NO_MEMORY;
    if (*at & ~QUIRE_PAGE_MASK)
        return QUIRE_INVALID;
    if (*at < s->start)
        return QUIRE_PERM;
    if (m->flags & QUIRE_MAP_FIXED_NOREPLACE) {
        v = qi_vma_find(s, *at);
        if (v && v->start < *at + len)
            return QUIRE_EXISTS;
    }
    return QUIRE_OK;
}

static uint32_t vma_flags(struct quire_space *s, const struct quire_mmap *m, bool shared)
{
    uint32_t f = (m->prot & QI_VM_PROT) | s->lock_future;

    if (shared)
        f |= QI_VM_SHARED;
    if (m->flags & QUIRE_MAP_GROWSDOWN)
        f |= QI_VM_GROWSDOWN;
    if (m->flags & QUIRE_MAP_LOCKED)
        f |= QI_VM_LOCKED;
    if (m->flags & QUIRE_MAP_NORESERVE)
        f |= QI_VM_NORESERVE;
    return f;
}

static enum quire_status check_limits(struct quire_space *s, uint32_t flags, uint64_t at,
                                      uint64_t len, bool replace)
{
    uint64_t pages = len >> QUIRE_PAGE_SHIFT;
    uint64_t grow = pages - (replace ? mapped_pages(s, at, at + len) : 0);

    if (s->nvmas >= QUIRE_MAX_VMAS)
        return QUIRE_LIMIT;
    if ((flags & QI_VM_LOCKED) && (s->locked + pages) << QUIRE_PAGE_SHIFT > s->limit_memlock)
        return QUIRE_AGAIN;
    if (!qi_space_may_grow(s, flags, grow) || qi_overcommits(flags, pages))
        return QUIRE_NO_MEMORY;
    return QUIRE_OK;
}

/* Insert a mapping like *like at its free range: grow a neighbour, or a new vma.  *spare: to be used for
 * that, then NULL; or NULL: one is made. */
static enum quire_status insert(struct quire_space *s, const struct qi_vma *like,
                                struct qi_vma **spare)
{
    struct qi_vma *next = qi_vma_find(s, like->start), *prev = next ? next->prev : s->last, *v;

    if (prev && prev->end == like->start && qi_vma_extends(prev, like)) {
        if (prev->object)
            qi_rwsem_write_lock(&prev->object->map_lock);
        prev->end = like->end;
        if (prev->object)
            qi_rwsem_write_unlock(&prev->object->map_lock);
        qi_vma_moved(s, prev);
        v = qi_vma_merge(prev);
    } else if (next && next->start == like->end && qi_vma_extends(like, next)) {
        if (next->object)
            qi_rwsem_write_lock(&next->object->map_lock);
        next->start = like->start;
        next->pgoff = like->pgoff;
        if (next->object)
            qi_rwsem_write_unlock(&next->object->map_lock);
        qi_vma_moved(s, next);
        v = next;
    } else {
        v = *spare ? *spare : qi_vma_alloc(s);
        if (!v)
            return QUIRE_NO_MEMORY;
        *spare = NULL;
        v->start = like->start;
        v->end = like->end;
        v->flags = like->flags;
        v->max_prot = like->max_prot;
        v->object = like->object;
        v->pgoff = like->pgoff;
        v->name = like->name;
        qi_vma_object_link(v);
        qi_vma_link(s, v, prev);
    }
    qi_space_account(s, like->flags, (int64_t)((like->end - like->start) >> QUIRE_PAGE_SHIFT));
    return QUIRE_OK;
}

static enum quire_status map_locked(struct quire_space *s, const struct quire_mmap *m,
                                    struct qi_vma *like, uint64_t len)
{
    bool replace = m->flags & QUIRE_MAP_FIXED && !(m->flags & QUIRE_MAP_FIXED_NOREPLACE);
    struct qi_vma *spare = NULL;
    enum quire_status status;
    unsigned shared;
    uint64_t at = 0;

    status = choose_place(s, m, len, &at);
    if (status == QUIRE_OK && m->object && m->offset > INT64_MAX - len)
        status = QUIRE_OVERFLOW;
    if (status == QUIRE_OK)
        status = check_type(m, &shared);
    if (status != QUIRE_OK)
        return status;
    like->flags = vma_flags(s, m, shared);
    status = check_limits(s, like->flags, at, len, replace);
    if (status == QUIRE_OK && replace) { /* nothing may fail once the old mapping is gone */
        spare = qi_vma_alloc(s);
        status = spare ? qi_munmap_locked(s, at, at + len) : QUIRE_NO_MEMORY;
    }
    like->start = at;
    like->end = at + len;
    if (status == QUIRE_OK)
        status = insert(s, like, &spare);
    if (spare)
        qi_vma_free(spare);
    return status;
}

/* A shared anonymous mapping gets an object of its own. */
static enum quire_status own_object(const struct quire_mmap *m, uint64_t len,
                                    struct quire_object **out)
{
    unsigned type = m->flags & QUIRE_MAP_TYPE;

    *out = NULL;
    if (m->object || type != QUIRE_MAP_SHARED || (m->flags & QUIRE_MAP_GROWSDOWN))
        return QUIRE_OK;
    return quire_object_create_shared(len, out);
}

enum quire_status quire_mmap(struct quire_space *s, const struct quire_mmap *m, q_uva *out)
{
    uint64_t len = qi_align_up(m->len, QUIRE_PAGE_SIZE);
    struct qi_vma like = {.name = m->name, .pgoff = m->offset >> QUIRE_PAGE_SHIFT};
    struct quire_object *own;
    enum quire_status status;

    if ((m->offset & ~QUIRE_PAGE_MASK) || !m->len)
        return QUIRE_INVALID;
    if (!len || len > s->end - s->start)
        return QUIRE_NO_MEMORY;
    if ((m->flags & QUIRE_MAP_HUGETLB) && !m->object)
        return QUIRE_INVALID; /* no pool of huge pages: as a kernel without hugetlbfs */
    status = own_object(m, len, &own);
    if (status != QUIRE_OK)
        return status;
    like.object = own ? own : m->object;
    like.max_prot = m->object && m->max_prot ? (uint8_t)m->max_prot : QI_VM_PROT;
    if (!m->object)
        like.pgoff = 0;

    qi_space_lock(s);
    qi_event(QUIRE_EVENT_MMAP);
    status = map_locked(s, m, &like, len);
    qi_rwsem_write_unlock(&s->lock);
    if (own)
        quire_object_put(own); /* the vma holds it, or nobody */
    if (status != QUIRE_OK)
        return status;
    *out = Q_UVA(like.start);
    if (((like.flags & QI_VM_LOCKED) && !(like.flags & QI_VM_LOCKONFAULT)) ||
        (m->flags & (QUIRE_MAP_POPULATE | QUIRE_MAP_NONBLOCK)) == QUIRE_MAP_POPULATE) {
        qi_rwsem_read_lock(&s->lock);
        (void)!qi_populate(s, like.start, like.end, true); /* best effort, as mmap(2) says */
        qi_rwsem_read_unlock(&s->lock);
    }
    return QUIRE_OK;
}

/* ---- brk ---- */

void quire_brk_init(struct quire_space *s, q_uva start)
{
    uint64_t at = qi_align_up(start.v, QUIRE_PAGE_SIZE);

    if (s->randomize)
        at += (qport_random() % 8192) << QUIRE_PAGE_SHIFT; /* 32 MiB, as Linux */
    s->brk_start = s->brk_end = at;
}

/* Map (old, new] page ends; both page-aligned, new > old. */
static bool brk_grow(struct quire_space *s, uint64_t old, uint64_t new)
{
    struct qi_vma like = {.start = old,
                          .end = new,
                          .flags = QUIRE_READ | QUIRE_WRITE | s->lock_future,
                          .max_prot = QI_VM_PROT,
                          .name = "[heap]"},
                  *spare = NULL;

    return range_free(s, old, new - old + QUIRE_PAGE_SIZE) &&
           check_limits(s, like.flags, old, new - old, false) == QUIRE_OK &&
           insert(s, &like, &spare) == QUIRE_OK;
}

q_uva quire_brk(struct quire_space *s, q_uva want)
{
    uint64_t old, new = qi_align_up(want.v, QUIRE_PAGE_SIZE), result;
    bool populate = false;

    qi_space_lock(s);
    qi_event(QUIRE_EVENT_BRK);
    old = qi_align_up(s->brk_end, QUIRE_PAGE_SIZE);
    if (want.v >= s->brk_start && want.v < s->end &&
        want.v - s->brk_start <= QI_MIN(s->limit_data, QUIRE_BRK_MAX)) {
        if (new == old || (new < old &&qi_munmap_locked(s, new, old) == QUIRE_OK))
            s->brk_end = want.v;
        else if (new > old && brk_grow(s, old, new)) {
            s->brk_end = want.v;
            populate = s->lock_future & QI_VM_LOCKED;
        }
    }
    result = s->brk_end;
    qi_rwsem_write_unlock(&s->lock);
    if (populate) {
        qi_rwsem_read_lock(&s->lock);
        (void)!qi_populate(s, old, new, true);
        qi_rwsem_read_unlock(&s->lock);
    }
    return Q_UVA(result);
}

/* ---- The stack of a program ---- */

enum quire_status quire_stack_map(struct quire_space *s, uint64_t limit, unsigned prot, q_uva *top)
{
    uint64_t end = s->end, first = 32 * QUIRE_PAGE_SIZE;
    struct qi_vma like = {
        .flags = (prot & QI_VM_PROT) | QI_VM_GROWSDOWN, .max_prot = QI_VM_PROT, .name = "[stack]"};
    struct qi_vma *spare = NULL;
    enum quire_status status;

    if (s->randomize)
        end -= (qport_random() & 0x3fffff) << QUIRE_PAGE_SHIFT; /* 16 GiB, as Linux */
    qi_space_lock(s);
    like.start = end - first;
    like.end = end;
    status = range_free(s, like.start, first) ? insert(s, &like, &spare) : QUIRE_EXISTS;
    if (status == QUIRE_OK) {
        s->stack_top = end;
        s->limit_stack = limit;
        *top = Q_UVA(end);
    }
    qi_rwsem_write_unlock(&s->lock);
    return status;
}
