/*
 * space/policy.c - from which node the private memory of a range comes (mbind(2), numa(7)).
 *
 * A vma has a policy, or none: then that of the running task counts (QPORT_TASK_POLICY), or none.  The policy is
 * a heap object of this layer with a reference for each vma; it never changes, so a fault reads it under the
 * space's lock for reading and takes none.  Interleaving counts by address: the page at va has the number
 * va / 4096, whatever the vmas around it become, so that splitting and merging move no page to another node.
 *
 * Shared memory is filled by its object, which does not know through which vma: a policy for it would be kept
 * and do nothing, so it is refused.
 */
#include "space.h"

void qi_vma_set_policy(struct qi_vma *v, struct quire_policy *p)
{
    struct quire_policy *old = v->policy;

    if (p)
        quire_policy_get(p);
    v->policy = p;
    if (old && quire_policy_put(old))
        quire_kfree(old);
}

bool qi_vma_same_policy(const struct qi_vma *a, const struct qi_vma *b)
{
    return a->policy == b->policy ||
           (a->policy && b->policy && quire_policy_equal(a->policy, b->policy));
}

struct quire_page *qi_policy_page(const struct quire_policy *p, uint64_t va, unsigned order,
                                  quire_gfp gfp)
{
    return quire_policy_alloc(p, order, gfp, va >> QUIRE_PAGE_SHIFT >> order);
}

void qi_policy_copy(struct quire_policy *to, const struct quire_policy *from)
{
    *to = (struct quire_policy){.refs = 1,
                                .mode = from->mode,
                                .flags = from->flags,
                                .round = from->round,
                                .asked = from->asked,
                                .allowed = from->allowed,
                                .nodes = from->nodes};
    for (unsigned n = 0; n < QUIRE_MAX_NODES; n++)
        to->weights[n] = from->weights[n];
}

/* Every page of [start, end) is mapped, and by vmas that can have a policy. */
static enum quire_status may_have_policy(struct quire_space *s, uint64_t start, uint64_t end)
{
    for (const struct qi_vma *v = qi_vma_find(s, start); start < end; v = v->next) {
        if (!v || v->start > start)
            return QUIRE_FAULT;
        if (!qi_vma_private(v))
            return QUIRE_INVALID;
        start = v->end;
    }
    return QUIRE_OK;
}

static void merge_range(struct quire_space *s, uint64_t start, uint64_t end)
{
    for (struct qi_vma *v = qi_vma_find(s, start); v && v->start < end; v = v->next)
        v = qi_vma_merge(v);
}

/* p: referenced by the caller, or NULL. */
static enum quire_status set_range(struct quire_space *s, uint64_t start, uint64_t end,
                                   struct quire_policy *p)
{
    enum quire_status status = may_have_policy(s, start, end);

    if (status == QUIRE_OK)
        status = qi_vma_boundary(s, start);
    if (status == QUIRE_OK)
        status = qi_vma_boundary(s, end);
    for (struct qi_vma *v = qi_vma_find(s, start); status == QUIRE_OK && v && v->start < end;
         v = v->next)
        qi_vma_set_policy(v, p);
    merge_range(s, start, end);
    return status;
}

enum quire_status quire_space_set_policy(struct quire_space *s, q_uva start, uint64_t len,
                                         const struct quire_policy *policy)
{
    struct quire_policy *mine = NULL;
    enum quire_status status;
    uint64_t end;

    if (start.v % QUIRE_PAGE_SIZE || __builtin_add_overflow(start.v, len, &end) || end > s->end ||
        qi_align_up(end, QUIRE_PAGE_SIZE) < end)
        return QUIRE_INVALID;
    end = qi_align_up(end, QUIRE_PAGE_SIZE);
    if (end == start.v)
        return QUIRE_OK;
    if (policy && policy->mode != QUIRE_POLICY_DEFAULT) {
        mine = quire_kmalloc(sizeof *mine, QUIRE_GFP_KERNEL);
        if (!mine)
            return QUIRE_NO_MEMORY;
        qi_policy_copy(mine, policy);
    }
    qi_space_lock(s);
    status = set_range(s, start.v, end, mine);
    qi_rwsem_write_unlock(&s->lock);
    if (mine && quire_policy_put(mine))
        quire_kfree(mine);
    return status;
}
