/*
 * space/query.c - looking at a space: vmas, page counts, statistics, verify.
 */
#include "space.h"

static void info_of(const struct qi_vma *v, struct quire_vma_info *i)
{
    *i = (struct quire_vma_info){
        .start = Q_UVA(v->start),
        .end = Q_UVA(v->end),
        .prot = v->flags & QI_VM_PROT,
        .max_prot = v->max_prot,
        .shared = v->flags & QI_VM_SHARED,
        .grows_down = v->flags & QI_VM_GROWSDOWN,
        .locked = v->flags & QI_VM_LOCKED,
        .dontfork = v->flags & QI_VM_DONTFORK,
        .wipeonfork = v->flags & QI_VM_WIPEONFORK,
        .huge = v->flags & QI_VM_HUGE,
        .offset = v->object ? v->pgoff << QUIRE_PAGE_SHIFT : 0,
        .object = v->object,
        .name = v->name,
    };
    if (v->policy)
        qi_policy_copy(&i->policy, v->policy);
}

bool quire_object_write_shared(struct quire_object *o)
{
    struct qi_vma *v;
    bool found = false;

    qi_rwsem_read_lock(&o->map_lock);
    qi_list_for_each (v, &o->vmas, object_link)
        found |= (v->flags & QI_VM_SHARED) && (v->max_prot & QUIRE_WRITE);
    qi_rwsem_read_unlock(&o->map_lock);
    return found;
}

uint64_t quire_object_mappings(struct quire_object *o)
{
    struct qi_vma *v;
    uint64_t n = 0;

    qi_rwsem_read_lock(&o->map_lock);
    qi_list_for_each (v, &o->vmas, object_link)
        n++;
    qi_rwsem_read_unlock(&o->map_lock);
    return n;
}

static void count_leaf(struct quire_vma_info *i, qi_pte e, unsigned level)
{
    const struct quire_page *page = quire_page_of_pfn(qi_pte_pfn(e));
    uint64_t n = 1ull << (QI_PT_BITS * level);
    bool dirty = qi_pte_dirty(e) || (quire_page_flags_now(page) & QUIRE_PG_DIRTY);
    uint32_t maps = qi_load_relaxed(&page->maps);

    i->rss += n;
    i->node_pages[quire_page_node(page)] += n;
    i->most_maps = QI_MAX(i->most_maps, maps);
    i->pss_bytes += n * QUIRE_PAGE_SIZE / QI_MAX(maps, 1u);
    if (level)
        i->huge_pages += n;
    if (quire_page_flags_now(page) & QUIRE_PG_ANON)
        i->anon += n;
    if (qi_pte_accessed(e))
        i->referenced += n;
    if (maps > 1)
        *(dirty ? &i->shared_dirty : &i->shared_clean) += n;
    else
        *(dirty ? &i->private_dirty : &i->private_clean) += n;
}

static void count_pages(const struct qi_vma *v, struct quire_vma_info *i)
{
    struct qi_span sp;

    for (uint64_t at = v->start; qi_pt_next_span(v->space->tlb.root, &at, v->end, &sp);)
        for (unsigned k = 0; k < sp.n; k++) {
            qi_pte e = qi_pte_load_link(&sp.ptes[k]);

            if (qi_pte_present(e) && !qi_pte_special(e))
                count_leaf(i, e, sp.level);
        }
}

void quire_space_vmas(struct quire_space *s, bool detail,
                      bool (*visit)(void *ctx, const struct quire_vma_info *), void *ctx)
{
    struct quire_vma_info info;

    qi_rwsem_read_lock(&s->lock);
    for (const struct qi_vma *v = s->first; v; v = v->next) {
        info_of(v, &info);
        if (detail)
            count_pages(v, &info);
        if (!visit(ctx, &info))
            break;
    }
    qi_rwsem_read_unlock(&s->lock);
}

enum quire_status quire_space_vma(struct quire_space *s, q_uva addr, bool detail,
                                  struct quire_vma_info *out)
{
    const struct qi_vma *v;

    qi_rwsem_read_lock(&s->lock);
    v = qi_vma_find(s, addr.v);
    if (v) {
        info_of(v, out);
        if (detail)
            count_pages(v, out);
    }
    qi_rwsem_read_unlock(&s->lock);
    return v ? QUIRE_OK : QUIRE_NOT_FOUND;
}

#define PM_PRESENT (1ull << 63)
#define PM_FILE    (1ull << 61)
#define PM_ONCE    (1ull << 56)

/* Page number k below the leaf. */
static uint64_t pagemap_word(qi_pte e, uint64_t k)
{
    const struct quire_page *page;
    uint64_t word = PM_PRESENT | (qi_pte_pfn(e).v + k);

    if (qi_pte_special(e) || !quire_pfn_valid(qi_pte_pfn(e)))
        return word | PM_FILE;
    page = quire_page_of_pfn(qi_pte_pfn(e));
    if (!(quire_page_flags_now(page) & QUIRE_PG_ANON))
        word |= PM_FILE;
    return word | (qi_load_relaxed(&page->maps) == 1 ? PM_ONCE : 0);
}

void quire_space_pagemap(struct quire_space *s, q_uva start, size_t n, uint64_t *out)
{
    uint64_t at = qi_align_down(start.v, QUIRE_PAGE_SIZE), first = at, end;
    struct qi_span sp;

    for (size_t i = 0; i < n; i++)
        out[i] = 0;
    if (at >= s->end)
        return;
    end = at + (QI_MIN((uint64_t)n, (s->end - at) >> QUIRE_PAGE_SHIFT) << QUIRE_PAGE_SHIFT);
    qi_rwsem_read_lock(&s->lock);
    while (qi_pt_next_span(s->tlb.root, &at, end, &sp))
        for (uint64_t va = sp.va; va < sp.end; va += QUIRE_PAGE_SIZE) {
            qi_pte e = qi_pte_load_link(&sp.ptes[sp.level ? 0 : (va - sp.va) >> QUIRE_PAGE_SHIFT]);
            uint64_t inside = sp.level ? (va & (QI_PT_SIZE(sp.level) - 1)) >> QUIRE_PAGE_SHIFT : 0;

            if (qi_pte_present(e))
                out[(va - first) >> QUIRE_PAGE_SHIFT] = pagemap_word(e, inside);
        }
    qi_rwsem_read_unlock(&s->lock);
}

struct quire_object *quire_space_object(struct quire_space *s, q_uva addr, uint64_t *offset)
{
    struct quire_object *o = NULL;
    const struct qi_vma *v;

    qi_rwsem_read_lock(&s->lock);
    v = qi_vma_find(s, addr.v);
    if (v && addr.v >= v->start && v->object) {
        o = v->object;
        quire_object_get(o);
        *offset = (qi_vma_pgoff(v, addr.v) << QUIRE_PAGE_SHIFT) | (addr.v & ~QUIRE_PAGE_MASK);
    }
    qi_rwsem_read_unlock(&s->lock);
    return o;
}

static uint64_t rss_of(const struct quire_space *s, enum qi_rss kind)
{
    int64_t n = qi_load_relaxed(&s->rss[kind]);

    return n > 0 ? (uint64_t)n : 0;
}

void quire_space_stats(struct quire_space *s, struct quire_space_stats *out)
{
    uint64_t now;

    qi_rwsem_read_lock(&s->lock);
    *out = (struct quire_space_stats){
        .total = s->total,
        .rss_anon = rss_of(s, QI_RSS_ANON),
        .rss_file = rss_of(s, QI_RSS_FILE),
        .rss_shared = rss_of(s, QI_RSS_SHARED),
        .peak_rss = qi_load_relaxed(&s->peak_rss),
        .locked = s->locked,
        .data = s->data,
        .exec = s->exec,
        .stack = s->stack,
        .tables = qi_pt_tables(s->tlb.root),
        .vmas = s->nvmas,
        .peak_total = s->peak_total,
        .brk_start = Q_UVA(s->brk_start),
        .brk_end = Q_UVA(s->brk_end),
        .stack_top = Q_UVA(s->stack_top),
        .mmap_base = Q_UVA(s->mmap_base),
    };
    qi_rwsem_read_unlock(&s->lock);
    now = out->rss_anon + out->rss_file + out->rss_shared;
    if (now > out->peak_rss)
        out->peak_rss = now;
}

/* ---- verify: invariants S1 to S6 of space.c ---- */

static bool leaf_ok(const struct qi_vma *v, uint64_t va, qi_pte e, unsigned level,
                    int64_t rss[QI_RSS_KINDS])
{
    const struct quire_page *page;
    unsigned rights = qi_pte_prot(e);

    if (((rights & QUIRE_WRITE) && !(v->flags & QUIRE_WRITE)) ||
        ((rights & QUIRE_EXEC) && !(v->flags & QUIRE_EXEC)) ||
        (qi_pte_valid(e) && !(v->flags & QI_VM_PROT))) {
        qi_log(QUIRE_LOG_ERROR, "S3: leaf %#lx at %#lx exceeds vma flags %#x", e.v, va, v->flags);
        return false;
    }
    if (qi_pte_special(e))
        return true;
    page = quire_page_of_pfn(qi_pte_pfn(e));
    rss[qi_rss_kind(v, page)] += 1 << (QI_PT_BITS * level);
    if (page->maps < 1 || page->refs < page->maps || (page->flags & QUIRE_PG_FREE)) {
        qi_log(QUIRE_LOG_ERROR, "S2: leaf %#lx at %#lx: refs %u maps %u flags %#x", e.v, va,
               page->refs, page->maps, page->flags);
        return false;
    }
    if ((page->flags & QUIRE_PG_ANON) && (rights & QUIRE_WRITE) && !qi_pte_own(e)) {
        qi_log(QUIRE_LOG_ERROR, "S3: writable leaf %#lx at %#lx of a page that is not its own", e.v,
               va);
        return false;
    }
    if (qi_pte_own(e) && (page->maps > 1 || !(page->flags & QUIRE_PG_ANON))) {
        qi_log(QUIRE_LOG_ERROR, "S4: own leaf %#lx at %#lx of a page with flags %#x and %u maps",
               e.v, va, page->flags, page->maps);
        return false;
    }
    if (level && (!qi_pte_own(e) || page->counts != QUIRE_PAGE_ONE_MAPPING)) {
        qi_log(QUIRE_LOG_ERROR, "S6: huge leaf %#lx at %#lx: refs %u maps %u", e.v, va, page->refs,
               page->maps);
        return false;
    }
    return true;
}

static bool vma_leaves_ok(const struct qi_vma *v, int64_t rss[QI_RSS_KINDS], uint64_t *leaves)
{
    struct qi_span sp;

    for (uint64_t at = v->start; qi_pt_next_span(v->space->tlb.root, &at, v->end, &sp);)
        for (unsigned k = 0; k < sp.n; k++) {
            qi_pte e = qi_pte_load_link(&sp.ptes[k]);

            if (qi_pte_none(e))
                continue;
            ++*leaves;
            if (!leaf_ok(v, sp.va + ((uint64_t)k << QUIRE_PAGE_SHIFT), e, sp.level, rss))
                return false;
        }
    return true;
}

/* Leaves anywhere in the user half, vma or not. */
static uint64_t all_leaves(struct quire_space *s)
{
    uint64_t n = 0;
    struct qi_span sp;

    for (uint64_t at = 0; qi_pt_next_span(s->tlb.root, &at, QI_USER_HALF, &sp);)
        for (unsigned k = 0; k < sp.n; k++)
            n += !qi_pte_none(qi_pte_load(&sp.ptes[k]));
    return n;
}

enum quire_status quire_space_verify(struct quire_space *s)
{
    int64_t rss[QI_RSS_KINDS] = {0};
    uint64_t pages = 0, leaves = 0;
    bool ok;

    qi_space_lock(s);
    ok = qi_vmatree_verify(s);
    for (const struct qi_vma *v = s->first; ok && v; v = v->next) {
        pages += qi_vma_pages(v);
        ok = v->space == s && v->start >= s->start && v->end <= s->end &&
             vma_leaves_ok(v, rss, &leaves);
    }
    if (ok && (pages != s->total || leaves != all_leaves(s))) {
        qi_log(QUIRE_LOG_ERROR,
               "S1: %lu pages in vmas, %lu counted; %lu leaves in vmas, %lu in all", pages,
               s->total, leaves, all_leaves(s));
        ok = false;
    }
    for (unsigned k = 0; ok && k < QI_RSS_KINDS; k++)
        if (rss[k] != s->rss[k]) {
            qi_log(QUIRE_LOG_ERROR, "S5: rss kind %u: %ld counted, %ld leaves", k, s->rss[k],
                   rss[k]);
            ok = false;
        }
    qi_rwsem_write_unlock(&s->lock);
    return ok ? QUIRE_OK : QUIRE_CORRUPT;
}
