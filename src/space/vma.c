/*
 * space/vma.c - vmas: making, cutting, merging, and what they count for.
 *
 * Everything here runs under the space's lock held for writing.
 */
#include "space.h"

static struct quire_cache *vma_cache;

enum quire_status qi_vma_setup(void)
{
    return quire_cache_create("vma", sizeof(struct qi_vma), 64, 0, NULL, &vma_cache);
}

struct qi_vma *qi_vma_alloc(struct quire_space *s)
{
    struct qi_vma *v = quire_cache_alloc(vma_cache, QUIRE_GFP_KERNEL);

    if (!v)
        return NULL;
    *v = (struct qi_vma){.space = s};
    qi_list_init(&v->object_link);
    return v;
}

void qi_vma_free(struct qi_vma *v)
{
    qi_vma_set_policy(v, NULL);
    quire_cache_free(vma_cache, v);
}

void qi_vma_object_link(struct qi_vma *v)
{
    struct quire_object *o = v->object;

    if (!o)
        return;
    quire_object_get(o);
    qi_rwsem_write_lock(&o->map_lock);
    qi_list_add(&o->vmas, &v->object_link);
    qi_rwsem_write_unlock(&o->map_lock);
}

void qi_vma_object_unlink(struct qi_vma *v)
{
    struct quire_object *o = v->object;

    if (!o)
        return;
    qi_rwsem_write_lock(&o->map_lock);
    qi_list_del(&v->object_link);
    qi_rwsem_write_unlock(&o->map_lock);
    quire_object_put(o);
}

/* Change the borders of v so that whoever walks the object's vmas sees both or neither. */
static void set_range(struct qi_vma *v, uint64_t start, uint64_t end, uint64_t pgoff)
{
    if (v->object)
        qi_rwsem_write_lock(&v->object->map_lock);
    v->start = start;
    v->end = end;
    v->pgoff = pgoff;
    if (v->object)
        qi_rwsem_write_unlock(&v->object->map_lock);
}

void qi_vma_split(struct qi_vma *v, uint64_t at, struct qi_vma *spare)
{
    struct quire_space *s = v->space;

    QI_ASSERT(at > v->start && at < v->end);
    spare->start = at;
    spare->end = v->end;
    spare->flags = v->flags;
    spare->max_prot = v->max_prot;
    spare->has_anon = v->has_anon;
    spare->object = v->object;
    spare->name = v->name;
    qi_vma_set_policy(spare, v->policy);
    spare->pgoff = qi_vma_pgoff(v, at);
    /* link the upper part first: for a moment both list the range, none misses it */
    qi_vma_object_link(spare);
    set_range(v, v->start, at, v->pgoff);
    qi_vma_link(s, spare, v);
    qi_event(QUIRE_EVENT_VMA_SPLIT);
}

enum quire_status qi_vma_boundary(struct quire_space *s, uint64_t at)
{
    struct qi_vma *v = qi_vma_find(s, at), *spare;
    enum quire_status status;

    if (!v || v->start >= at)
        return QUIRE_OK;
    if (s->nvmas >= QUIRE_MAX_VMAS)
        return QUIRE_LIMIT;
    spare = qi_vma_alloc(s);
    if (!spare)
        return QUIRE_NO_MEMORY;
    status = qi_huge_boundary(s, at);
    if (status != QUIRE_OK) {
        qi_vma_free(spare);
        return status;
    }
    qi_vma_split(v, at, spare);
    return QUIRE_OK;
}

enum quire_status qi_vma_reflag(struct qi_vma **v, uint64_t start, uint64_t end, uint32_t flags)
{
    struct quire_space *s = (*v)->space;
    enum quire_status status;
    int64_t pages;

    status = qi_vma_boundary(s, start);
    if (status == QUIRE_OK)
        status = qi_vma_boundary(s, end);
    *v = qi_vma_find(s, start);
    if (status != QUIRE_OK)
        return status;
    pages = (int64_t)qi_vma_pages(*v);
    qi_space_account(s, (*v)->flags, -pages);
    (*v)->flags = flags;
    qi_space_account(s, flags, pages);
    return QUIRE_OK;
}

bool qi_vma_extends(const struct qi_vma *v, const struct qi_vma *like)
{
    return v->flags == like->flags && v->max_prot == like->max_prot && v->object == like->object &&
           v->name == like->name && qi_vma_same_policy(v, like) &&
           (!v->object || qi_vma_pgoff(v, v->end) == like->pgoff);
}

/* v and next, adjacent and alike, become v. */
static void absorb_next(struct quire_space *s, struct qi_vma *v, struct qi_vma *next)
{
    uint64_t end = next->end;

    qi_vma_unlink(s, next);
    v->has_anon |= next->has_anon;
    set_range(v, v->start, end, v->pgoff);
    qi_vma_object_unlink(next);
    qi_vma_free(next);
    qi_vma_moved(s, v);
    qi_event(QUIRE_EVENT_VMA_MERGE);
}

struct qi_vma *qi_vma_merge(struct qi_vma *v)
{
    struct quire_space *s = v->space;
    struct qi_vma *prev = v->prev, *next = v->next;

    if (next && next->start == v->end && qi_vma_extends(v, next))
        absorb_next(s, v, next);
    if (prev && prev->end == v->start && qi_vma_extends(prev, v)) {
        absorb_next(s, prev, v);
        v = prev;
    }
    return v;
}

/* What RLIMIT_DATA limits: private writable memory but stacks (mm/mmap.c does the same). */
bool qi_counts_as_data(uint32_t flags)
{
    return (flags & (QUIRE_WRITE | QI_VM_SHARED | QI_VM_GROWSDOWN)) == QUIRE_WRITE;
}

void qi_space_account(struct quire_space *s, uint32_t flags, int64_t pages)
{
    s->total += (uint64_t)pages;
    if (s->total > s->peak_total)
        s->peak_total = s->total;
    if (flags & QI_VM_LOCKED)
        s->locked += (uint64_t)pages;
    if (qi_counts_as_data(flags))
        s->data += (uint64_t)pages;
    else if (flags & QI_VM_GROWSDOWN)
        s->stack += (uint64_t)pages;
    else if ((flags & (QUIRE_EXEC | QUIRE_WRITE)) == QUIRE_EXEC)
        s->exec += (uint64_t)pages;
}

bool qi_overcommits(uint32_t flags, uint64_t pages)
{
    return (flags & (QUIRE_WRITE | QI_VM_SHARED | QI_VM_NORESERVE)) == QUIRE_WRITE &&
           pages > quire_managed_pages();
}

bool qi_space_may_grow(const struct quire_space *s, uint32_t flags, uint64_t pages)
{
    if (pages > s->limit_as >> QUIRE_PAGE_SHIFT ||
        s->total > (s->limit_as >> QUIRE_PAGE_SHIFT) - pages)
        return false;
    return !qi_counts_as_data(flags) || (pages <= s->limit_data >> QUIRE_PAGE_SHIFT &&
                                         s->data <= (s->limit_data >> QUIRE_PAGE_SHIFT) - pages);
}
