/*
 * policy.c - policies for ranges of a region, beside faults, cuts, moves and forks of the same space.
 *
 * Only modes that fall back to other nodes: with BIND a fault may find no memory while there is some.
 */
#include <quire/policy.h>

#include "region.h"

static bool page_is_shared(const struct mpage *p)
{
    return page_is_mapped(p) && p->backing != ANON && !page_is_private_file(p);
}

/* What the library must answer if there is memory enough: by the first page that has no policy. */
static enum quire_status expected(const struct worker *w, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        if (page_is_hole(&w->now->pages[i]))
            return QUIRE_FAULT;
        if (page_is_shared(&w->now->pages[i]))
            return QUIRE_INVALID;
    }
    return QUIRE_OK;
}

void region_policy(struct worker *w, const struct sim_op *op)
{
    static const enum quire_policy_mode modes[] = {QUIRE_POLICY_DEFAULT, QUIRE_POLICY_LOCAL,
                                                   QUIRE_POLICY_PREFERRED, QUIRE_POLICY_INTERLEAVE};
    enum quire_policy_mode mode = modes[op->arg[2] % 4];
    uint64_t all = ~0ull >> (64 - quire_nodes());
    struct quire_vma_info v;
    struct quire_policy p;
    enum quire_status st, want;
    unsigned first, n;

    region_range(op, &first, &n);
    if (!n)
        return;
    st = quire_policy_init(&p, mode, 0, mode >= QUIRE_POLICY_BIND ? all : 0, all);
    if (st != QUIRE_OK)
        sim_fail("status", "a policy of mode %u: %s", mode, quire_status_name(st));
    want = expected(w, first, n);
    st = quire_space_set_policy(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, &p);
    if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "set_policy");
    else if (st != want)
        region_wrong(w, "set_policy", first, st, quire_status_name(want));
    if (st != QUIRE_OK)
        return;
    if (quire_space_vma(w->now->s, Q_UVA(region_va(w, first)), false, &v) != QUIRE_OK ||
        v.policy.mode != mode)
        sim_fail("content", "page %u has policy %u, not %u", first, v.policy.mode, mode);
}
