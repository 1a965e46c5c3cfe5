/*
 * space/space.c - address spaces: their life, and the theory of this folder.
 *
 * Purpose.  What a program sees as its memory: ranges with a protection and a backing, pages that
 * appear when touched, copies that are made when written.
 *
 * Model.  A space is a tree of vmas (vmatree.c), a page table (src/pt), and counters.  A vma names
 * an object and an offset, or is private anonymous.  Private pages belong to the leaves that map
 * them; a page of an object belongs to the object's tree, and each leaf holds a share.
 *
 *     space ── vma ── vma ── vma            struct quire_page
 *       │        │      └── object ── tree ──> refs = 1 (tree) + leaves + pins
 *       └ tables ── leaf ────────────────────> maps = leaves
 *
 * Invariants
 *   S1  vmas are disjoint, inside [start, end), page-aligned; neighbours that could be one are one,
 *       unless a call failed half way
 *   S2  a leaf that maps a counted page holds one reference and one map count of it; SPECIAL leaves
 *       (zero page, device) hold none
 *   S3  a leaf lies inside a vma that allows at least its rights; one that maps a private page is
 *       writable only if it is OWN
 *   S4  an OWN leaf is the only one that maps its private page, and every reference to the page but
 *       its own was taken through it: writing needs no copy, whatever the counts are.  A leaf is born
 *       OWN; fork alone takes that away, and never from a page that somebody holds.  A leaf whose
 *       page has the counts of one mapping may become OWN again.  So a fork many generations deep
 *       neither chains nor leaks: the last one just writes
 *   S5  rss counters equal the counted leaves by kind, at rest
 *   S6  a huge leaf maps a private anonymous block of order 9 that nobody else knows
 *   S7  a frame or table is freed only after no CPU can hold a translation to it (pt/gather.h)
 *
 * Locking.  space->lock: faults and queries read, everything that changes vmas or frees tables
 * writes. Faults install leaves by compare-and-swap under the read lock.  Then object->map_lock,
 * then the tree lock (object/object.h).
 *
 * Failure.  Each call takes what it may need before it changes anything; cuts of vmas that turn out
 * unneeded are merged again.  mprotect, madvise and mlock over several vmas stop at the first that
 * fails, with the earlier ones changed, as Linux documents.
 *
 * Holding.  Who keeps a reference to a private page (a device that writes to it) got it through an OWN
 * leaf, which stays one as long as he holds it.  So what he writes is what the program reads, whatever
 * is done to rights meanwhile.
 *
 * Cost.  Fault: one tree look-up (mostly a hit in `hit`), four table steps, one page, two atomics
 * on the lock and one each on the leaf and the counter.  fork: one entry copied and one atomic a
 * page, and only of private pages: what an object backs is faulted again.  munmap: one exchange a
 * page, one flush a call.
 *
 * Sources.  Linux mm/ for the semantics (man pages mmap(2) ff.); exact counts instead of chains:
 * Linux's answer to 4.4BSD's shadow objects; parallel faults by compare-and-swap on leaves:
 * Clements et al., "RadixVM", EuroSys 2013, and CortenMM, SOSP 2025.  The mark of an
 * exclusive page: Linux, PageAnonExclusive() of mm/memory.c, Documentation/core-api/pin_user_pages.rst.
 * Rejected.  That mark in the page (Linux, which has no bit left in the leaf): who asks has the leaf,
 * and only the leaf, before him; split, mremap and the mover carry it along.  A lock a table (Linux): the compare-and-swap does the same with nothing to wait for.
 * Copying leaves of files at fork (Linux does when the vma has private pages): faults around are
 * cheaper than copies that exec throws away.
 */
#include "migrate.h"

static const struct qi_lock_class space_class = {"space"};
static struct quire_cache *space_cache;

enum quire_status quire_space_init(void)
{
    enum quire_status status = qi_object_setup();

    qi_registry_setup();
    qi_move_setup();
    if (status == QUIRE_OK)
        status = qi_vma_setup();
    if (status == QUIRE_OK)
        status = quire_cache_create("space", sizeof(struct quire_space), 64, QUIRE_CACHE_ZERO, NULL,
                                    &space_cache);
    if (status == QUIRE_OK)
        status = qi_fault_setup();
    qi_object_unmap_hook = qi_object_unmap;
    qi_object_clean_hook = qi_object_clean;
    return status;
}

/* The stack gets its limit, between 128 MiB and five sixths, below the top; mappings start below.
 */
static uint64_t pick_mmap_base(const struct quire_space *s)
{
    uint64_t gap = s->limit_stack, span = s->end - s->start, least = 128ull << 20;

    gap = QI_MIN(QI_MAX(gap, least), span / 6 * 5);
    if (s->randomize) {
        gap += 16ull << 30; /* the stack's own randomness */
        gap += (qport_random() & 0xfffffff) << QUIRE_PAGE_SHIFT;
    }
    gap = qi_align_up(gap, QUIRE_PAGE_SIZE);
    return gap < span ? s->end - gap : s->end;
}

static enum quire_status space_new(struct quire_space **out)
{
    struct quire_space *s = quire_cache_alloc(space_cache, QUIRE_GFP_KERNEL);
    q_pa root;
    enum quire_status status;

    if (!s)
        return QUIRE_NO_MEMORY;
    status = qi_pt_root_alloc(&root);
    if (status != QUIRE_OK) {
        quire_cache_free(space_cache, s);
        return status;
    }
    s->refs = 1;
    qi_list_init(&s->link);
    qi_rwsem_init(&s->lock, &space_class);
    qi_tlb_init(&s->tlb, root);
    *out = s;
    return QUIRE_OK;
}

void quire_space_set_limits(struct quire_space *s, const struct quire_space_config *c)
{
    qi_space_lock(s);
    s->limit_as = c->limit_as;
    s->limit_data = c->limit_data;
    s->limit_stack = c->limit_stack;
    s->limit_memlock = c->limit_memlock;
    qi_rwsem_write_unlock(&s->lock);
}

enum quire_status quire_space_create(const struct quire_space_config *c, struct quire_space **out)
{
    enum quire_status status;
    struct quire_space *s;

    if (!c->start.v || ((c->start.v | c->end.v) & ~QUIRE_PAGE_MASK) || c->start.v >= c->end.v ||
        c->end.v > QI_USER_HALF)
        return QUIRE_INVALID;
    status = space_new(&s);
    if (status != QUIRE_OK)
        return status;
    s->start = c->start.v;
    s->end = c->end.v;
    s->randomize = c->randomize;
    quire_space_set_limits(s, c);
    s->mmap_base = pick_mmap_base(s);
    qi_space_register(s);
    *out = s;
    return QUIRE_OK;
}

void quire_space_get(struct quire_space *s)
{
    uint32_t old = qi_fetch_add_relaxed(&s->refs, 1u);

    QI_CHECK(old, "space %p: reference taken on a dead space", (void *)s);
}

/* The tables below all vmas, cluster by cluster: everything below a cluster is gone already. */
static void free_tables(struct quire_space *s)
{
    struct qi_gather g;

    qi_gather_init(&g, &s->tlb);
    for (const struct qi_vma *v = s->first, *last; v; v = last->next) {
        last = v;
        while (last->next && last->next->start <= last->end + QUIRE_HUGE_SIZE)
            last = last->next;
        qi_pt_free_range(&g, s->tlb.root, v->start, last->end, 0,
                         last->next ? last->next->start : QI_USER_HALF);
    }
    qi_gather_finish(&g);
}

/* All vmas and tables of a space that no CPU has loaded and nobody else uses. */
static void tear_down(struct quire_space *s)
{
    struct qi_vma *v = s->first;

    qi_zap_all(s);
    while (v) {
        struct qi_vma *next = v->next;

        qi_vma_object_unlink(v);
        v = next;
    }
    free_tables(s);
    for (v = s->first; v;) {
        struct qi_vma *next = v->next;

        qi_vma_free(v);
        v = next;
    }
}

void quire_space_put(struct quire_space *s)
{
    uint32_t old = qi_fetch_sub_acqrel(&s->refs, 1u);

    QI_CHECK(old, "space %p: reference dropped on a dead space", (void *)s);
    if (old != 1)
        return;
    qi_space_unregister(s);
    qi_tlb_retire(&s->tlb);
    tear_down(s);
    qi_pt_root_free(s->tlb.root);
    quire_cache_free(space_cache, s);
}

void quire_space_clear(struct quire_space *s)
{
    qi_space_lock(s);
    (void)!qi_munmap_locked(s, s->start, s->end); /* whole vmas: nothing to allocate */
    s->brk_start = s->brk_end = s->stack_top = 0;
    s->lock_future = 0;
    qi_rwsem_write_unlock(&s->lock);
}

void quire_space_activate(struct quire_space *s)
{
    if (s)
        qi_tlb_activate(&s->tlb);
    else
        qi_tlb_lazy();
}

struct quire_space *quire_space_active(void)
{
    struct qi_tlb *t = qi_tlb_current();

    return t ? QI_CONTAINER(t, struct quire_space, tlb) : NULL;
}

q_pa quire_space_root(struct quire_space *s) { return s->tlb.root; }

/* ---- fork ---- */

/* Somebody else than leaves has the page. */
static bool held(const struct quire_page *page)
{
    uint64_t counts = qi_load_relaxed(&page->counts);

    return (uint32_t)counts != counts >> 32;
}

/*
 * The page of the OWN leaf e, which somebody holds, stays the parent's; the child has a copy.  Were
 * it shared, the parent's next write would make a new page, and what a device writes to the held one would be
 * lost to it (Linux, copy_present_page()).  Returns the child's leaf; none: no memory.
 */
static qi_pte copy_held(const struct quire_page *page, qi_pte e)
{
    struct quire_page *copy = quire_page_alloc(0, QUIRE_GFP_USER, QUIRE_NODE_ANY);

    if (!copy)
        return QI_PTE(0);
    qport_copy_page(quire_page_ptr(copy), quire_page_ptr(page));
    qi_mark_anon(copy);
    return qi_pte_mkold(qi_pte_elsewhere(e, quire_pfn_of_page(copy)));
}

/* Share the private leaves of one run with the child's table.  *flush: a right was taken away. */
static enum quire_status share_span(const struct qi_span *sp, qi_pte *to, int64_t *shared,
                                    bool *flush)
{
    for (unsigned i = 0; i < sp->n; i++) {
        qi_pte e = qi_pte_load_link(&sp->ptes[i]);
        struct quire_page *page;

        if (!qi_pte_present(e) || qi_pte_special(e))
            continue;
        page = quire_page_of_pfn(qi_pte_pfn(e));
        if (!(quire_page_flags_now(page) & QUIRE_PG_ANON))
            continue; /* the object has it: faulted again when needed */
        if (qi_pte_own(e) && QI_UNLIKELY(held(page))) {
            e = copy_held(page, e);
            if (qi_pte_none(e))
                return QUIRE_NO_MEMORY;
        } else {
            if (qi_pte_own(e)) {
                qi_pte_mkshared_at(&sp->ptes[i]);
                *flush |= qi_pte_write(e);
            }
            qi_fetch_add_relaxed(&page->counts, QUIRE_PAGE_ONE_MAPPING);
            e = qi_pte_mkold(qi_pte_mkshared(e));
        }
        qi_pte_set(&to[i], e);
        ++*shared;
    }
    return QUIRE_OK;
}

static enum quire_status share_leaves(struct qi_vma *v, struct quire_space *child, bool *flush)
{
    enum quire_status status = qi_huge_split_range(v->space, v->start, v->end);
    int64_t shared = 0;
    struct qi_span sp;

    if (status != QUIRE_OK)
        return status;
    for (uint64_t at = v->start;
         status == QUIRE_OK && qi_pt_next_span(v->space->tlb.root, &at, v->end, &sp);) {
        unsigned level;
        qi_pte *to;

        status = qi_pt_lookup_alloc(child->tlb.root, sp.va, &to, &level);
        if (status == QUIRE_OK)
            status = share_span(&sp, to, &shared, flush);
    }
    qi_rss_add(child, QI_RSS_ANON, shared);
    return status;
}

static enum quire_status copy_vma(struct qi_vma *v, struct quire_space *child, bool *flush)
{
    struct qi_vma *n;

    if (v->flags & QI_VM_DONTFORK)
        return QUIRE_OK;
    n = qi_vma_alloc(child);
    if (!n)
        return QUIRE_NO_MEMORY;
    n->start = v->start;
    n->end = v->end;
    n->flags = v->flags & ~(QI_VM_LOCKED | QI_VM_LOCKONFAULT);
    n->max_prot = v->max_prot;
    n->object = v->object;
    n->pgoff = v->pgoff;
    n->name = v->name;
    qi_vma_set_policy(n, v->policy);
    qi_vma_object_link(n);
    qi_vma_link(child, n, child->last);
    qi_space_account(child, n->flags, (int64_t)qi_vma_pages(n));
    if (!v->has_anon || (v->flags & QI_VM_WIPEONFORK))
        return QUIRE_OK;
    n->has_anon = true;
    return share_leaves(v, child, flush);
}

static void copy_properties(struct quire_space *to, const struct quire_space *from)
{
    to->start = from->start;
    to->end = from->end;
    to->mmap_base = from->mmap_base;
    to->brk_start = from->brk_start;
    to->brk_end = from->brk_end;
    to->stack_top = from->stack_top;
    to->randomize = from->randomize;
    to->limit_as = from->limit_as;
    to->limit_data = from->limit_data;
    to->limit_stack = from->limit_stack;
    to->limit_memlock = from->limit_memlock;
}

enum quire_status quire_space_fork(struct quire_space *parent, struct quire_space **out)
{
    struct quire_space *child;
    enum quire_status status = space_new(&child);
    bool flush = false;

    if (status != QUIRE_OK)
        return status;
    qi_space_lock(parent);
    qi_event(QUIRE_EVENT_FORK);
    copy_properties(child, parent);
    for (struct qi_vma *v = parent->first; v && status == QUIRE_OK; v = v->next)
        status = copy_vma(v, child, &flush);
    if (flush)
        qi_tlb_flush_all(&parent->tlb);
    qi_rwsem_write_unlock(&parent->lock);
    if (status != QUIRE_OK) {
        quire_space_put(child);
        return status;
    }
    qi_space_register(child);
    *out = child;
    return QUIRE_OK;
}
