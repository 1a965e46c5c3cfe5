/*
 * mapping.c - operations that change what is mapped, with which rights, and what is known of it.
 */
#include <stdlib.h>
#include <string.h>

#include "region.h"

static const unsigned prots[] = {RW, RW, QUIRE_READ, 0, QUIRE_READ | QUIRE_EXEC};

/* ---- Mapping ---- */

static void populated(struct worker *w, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &w->now->pages[i];

        /* as in Linux: writable private mappings are written to, in advance */
        if (p->prot & QUIRE_WRITE && !page_beyond(w, p))
            region_own(w, i);
    }
}

static void do_mmap(struct worker *w, const struct sim_op *op)
{
    enum backing b = ANON + op->arg[3] % 5;
    unsigned first, n, index = op->arg[0] % OBJECT_PAGES, prot = prots[op->arg[2] % 5];
    struct mpage like = {.backing = (uint8_t)b, .prot = (uint8_t)prot, .own = b == ANON};
    struct quire_mmap m = {.len = 0, .prot = prot};
    enum quire_status st;
    bool taken;
    q_uva at;

    region_range(op, &first, &n);
    like.file = (b == FILE_SHARED || b == FILE_PRIVATE) && op->arg[0] & 1;
    taken = region_any(w, first, n, page_is_mapped);
    m.addr = Q_UVA(region_va(w, first));
    m.len = n * PAGE;
    m.flags = b == SHARED || b == FILE_SHARED ? QUIRE_MAP_SHARED : QUIRE_MAP_PRIVATE;
    m.flags |= op->arg[4] & 1 ? QUIRE_MAP_FIXED : QUIRE_MAP_FIXED_NOREPLACE;
    m.flags |= op->arg[4] & 2 ? QUIRE_MAP_POPULATE : 0;
    m.flags |= b == ANON ? QUIRE_MAP_ANONYMOUS : 0;
    m.object = b == ANON ? NULL : page_file(w, &like)->o;
    m.offset = b == ANON ? 0 : index * PAGE;
    st = quire_mmap(w->now->s, &m, &at);
    if (!(op->arg[4] & 1) && taken) {
        if (st != QUIRE_EXISTS && st != QUIRE_NO_MEMORY)
            region_wrong(w, "mmap", first, st, "EXISTS");
        return;
    }
    if (st == QUIRE_NO_MEMORY) {
        must_be_short(w, "mmap");
        return;
    }
    if (st != QUIRE_OK || at.v != m.addr.v)
        region_wrong(w, "mmap", first, st, "OK");
    for (unsigned i = 0; i < n; i++) {
        w->now->pages[first + i] = like;
        w->now->pages[first + i].index = index + i;
    }
    if (op->arg[4] & 2) {
        populated(w, first, n);
        if (b != ANON && region_uncertain(w))
            region_clear_for_sure(w, first, n);
    }
}

static void do_munmap(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;

    region_range(op, &first, &n);
    if (n)
        region_clear(w, first, n);
}

/* Ask what rights the pages have: the call stopped somewhere. */
static void learn_prot(struct worker *w, unsigned first, unsigned n, unsigned prot)
{
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &w->now->pages[i];
        struct quire_vma_info info;

        if (p->backing == NOTHING)
            continue;
        if (quire_space_vma(w->now->s, Q_UVA(region_va(w, i)), false, &info) != QUIRE_OK ||
            info.start.v > region_va(w, i))
            region_wrong(w, "query", i, QUIRE_NOT_FOUND, "a mapping");
        if (info.prot != p->prot && info.prot != prot)
            region_wrong(w, "mprotect", i, QUIRE_NO_MEMORY, "the old rights or the new");
        p->prot = (uint8_t)info.prot;
    }
}

static void do_mprotect(struct worker *w, const struct sim_op *op)
{
    unsigned first, n, i, prot = prots[op->arg[2] % 5];
    enum quire_status st;

    region_range(op, &first, &n);
    if (!n)
        return;
    st = quire_mprotect(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, prot);
    if (st == QUIRE_NO_MEMORY && may_be_short(w)) {
        learn_prot(w, first, n, prot);
        return;
    }
    for (i = first; i < first + n && w->now->pages[i].backing != NOTHING; i++)
        w->now->pages[i].prot = (uint8_t)prot;
    if (st != (i == first + n ? QUIRE_OK : QUIRE_NO_MEMORY))
        region_wrong(w, "mprotect", first, st,
                     i == first + n ? "OK" : "NO_MEMORY, for there is a hole");
}

/* Ask which pages are still there: the target of a move that failed may be gone, all or nothing. */
static void learn_mapped(struct worker *w, unsigned first, unsigned n)
{
    bool gone = false, there = false;

    for (unsigned i = first; i < first + n; i++) {
        struct quire_vma_info info;

        if (w->now->pages[i].backing == NOTHING)
            continue;
        if (quire_space_vma(w->now->s, Q_UVA(region_va(w, i)), false, &info) == QUIRE_OK &&
            info.start.v <= region_va(w, i)) {
            there = true;
        } else {
            gone = true;
            w->now->pages[i] = (struct mpage){0};
        }
    }
    if (gone && there)
        region_wrong(w, "mremap", first, QUIRE_NO_MEMORY,
                     "all of the target there, or nothing of it");
}

/* Several vmas cannot be one mapping for mremap. */
static bool one_mapping(const struct worker *w, unsigned first, unsigned n)
{
    const struct mpage *a = &w->now->pages[first];

    for (unsigned i = first; i < first + n; i++) {
        const struct mpage *p = &w->now->pages[i];

        if (p->backing == NOTHING || p->backing != a->backing || p->prot != a->prot ||
            p->file != a->file || (p->backing != ANON && p->index != a->index + (i - first)))
            return false;
    }
    return true;
}

static void do_mremap(struct worker *w, const struct sim_op *op)
{
    unsigned first, n, to = op->arg[2] * world.scale % world.region;
    struct mpage *pages = w->now->pages, *copy;
    enum quire_status st;
    q_uva out;

    region_range(op, &first, &n);
    if (!n || to + n > world.region)
        return;
    st = quire_mremap(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, n * PAGE,
                      QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED, Q_UVA(region_va(w, to)), &out);
    if (pages[first].backing != NOTHING && first < to + n && to < first + n) {
        if (st != QUIRE_INVALID)
            region_wrong(w, "mremap onto itself", first, st, "INVALID");
        return;
    }
    if (st == QUIRE_NO_MEMORY) {
        must_be_short(w, "mremap");
        learn_mapped(w, to, n);
        return;
    }
    /* FAULT also for what differs only in advice or locking, which the model does not keep */
    if (st == QUIRE_FAULT)
        return;
    if (st != QUIRE_OK || !one_mapping(w, first, n) || out.v != region_va(w, to))
        region_wrong(w, "mremap", first, st, "something else");
    copy = malloc(n * sizeof *copy);
    memcpy(copy, &pages[first], n * sizeof *copy);
    memset(&pages[first], 0, n * sizeof *copy);
    memcpy(&pages[to], copy, n * sizeof *copy);
    free(copy);
}

/* ---- Advice ---- */

static void dropped(struct worker *w, unsigned first, unsigned n, bool certain)
{
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &w->now->pages[i];

        p->held = false;
        if (p->backing == ANON && !certain) {
            p->maybe = true;
        } else if (p->backing == ANON || page_is_private_file(p)) {
            p->own = p->backing == ANON;
            p->maybe = false;
            p->word[0] = p->word[1] = 0;
        }
    }
}

static void do_dontneed(struct worker *w, unsigned first, unsigned n, int advice)
{
    enum quire_status st;

    if (region_any(w, first, n, page_is_locked) ||
        (advice == FREE && region_any(w, first, n, page_is_not_anon)))
        return;
    st = quire_madvise(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, advice);
    if (st == QUIRE_NO_MEMORY && !region_any(w, first, n, page_is_hole)) {
        must_be_short(w, "madvise");
        dropped(w, first, n, false);
        for (unsigned i = first; i < first + n; i++)
            if (page_is_private_file(&w->now->pages[i]))
                region_clear_for_sure(w, i, 1);
        return;
    }
    if (st != (region_any(w, first, n, page_is_hole) ? QUIRE_NO_MEMORY : QUIRE_OK))
        region_wrong(w, "madvise", first, st,
                     region_any(w, first, n, page_is_hole) ? "NO_MEMORY" : "OK");
    dropped(w, first, n, advice == DONTNEED && !may_be_short(w));
    if (may_be_short(w) && region_any(w, first, n, page_is_hole))
        for (unsigned i = first; i < first + n; i++)
            if (page_is_private_file(&w->now->pages[i]))
                region_clear_for_sure(w, i, 1);
}

static void do_madvise(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;
    int advice = (int)op->arg[2];
    enum quire_status st;

    region_range(op, &first, &n);
    if (!n)
        return;
    if (advice == DONTNEED || advice == FREE) {
        do_dontneed(w, first, n, advice);
        return;
    }
    st = quire_madvise(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, advice);
    if (st == QUIRE_NO_MEMORY && !region_any(w, first, n, page_is_hole))
        must_be_short(w, "madvise");
    else if (st != QUIRE_OK && st != QUIRE_NO_MEMORY && st != QUIRE_INVALID)
        region_wrong(w, "madvise", first, st, "OK, NO_MEMORY or INVALID");
}

static void do_huge(struct worker *w)
{
    enum quire_status st =
        quire_madvise(w->now->s, Q_UVA(region_va(w, 0)), world.region * PAGE, HUGEPAGE);

    if (st == QUIRE_NO_MEMORY && !region_any(w, 0, world.region, page_is_hole))
        must_be_short(w, "madvise");
}

static void do_mlock(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;
    enum quire_status st;

    region_range(op, &first, &n);
    if (!n)
        return;
    if (op->kind == SIM_OP_munlock) {
        st = quire_munlock(w->now->s, Q_UVA(region_va(w, first)), n * PAGE);
        for (unsigned i = first; i < first + n && st == QUIRE_OK; i++)
            w->now->pages[i].locked = false;
        return;
    }
    st = quire_mlock(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, false);
    for (unsigned i = first; i < first + n; i++)
        w->now->pages[i].locked = true;
    if (st == QUIRE_OK && !region_uncertain(w)) {
        populated(w, first, n);
        return;
    }
    for (unsigned i = first; i < first + n; i++)
        if (page_is_private_file(&w->now->pages[i]))
            region_clear_for_sure(w, i, 1);
}

bool do_mapping_op(struct worker *w, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_OP_mmap: do_mmap(w, op); return true;
    case SIM_OP_munmap: do_munmap(w, op); return true;
    case SIM_OP_mprotect: do_mprotect(w, op); return true;
    case SIM_OP_mremap: do_mremap(w, op); return true;
    case SIM_OP_madvise: do_madvise(w, op); return true;
    case SIM_OP_huge: do_huge(w); return true;
    case SIM_OP_mbind: region_policy(w, op); return true;
    case SIM_OP_mlock:
    case SIM_OP_munlock: do_mlock(w, op); return true;
    default: return false;
    }
}
