/*
 * space/migrate.c - moving user memory out of a range of frames while programs use it.
 *
 * Purpose.  Who needs very frames (contiguous memory, a part of memory that is switched off) has them
 * emptied: quire_space_move_range().
 *
 * Model.  For each page of the range: find all leaves that map it and close them (a moving leaf is a
 * no-access entry that remembers what it was); flush; if the counts now say that nobody but these leaves
 * (and the object's tree, and the mover) has the page, copy it; let the leaves map the new page with
 * the rights and marks that they had, or else the old one again.
 *
 *        leaf(old) ──mark──> moving(old) ──flush──> counts as expected? ──yes: copy──> leaf(new)
 *                                                           └──no──────────────────> leaf(old)
 *
 * A moving leaf still holds its reference and its map count of the old page.  So whoever takes leaves
 * away (munmap, truncation, exit) need not know of it; it goes with what it holds, and the mover finds it
 * gone.  Only who would use the frame, or make the leaf valid, must look.
 *
 * Invariants
 *   M1  a frame's content is copied only when no CPU can write it: all its leaves are closed, a flush
 *       has begun after that and ended, and no reference is out but the leaves', the tree's and ours
 *   M2  from the check of the counts to the end nobody gets a new reference: for a private page that
 *       takes a leaf, and all are closed; for a page of an object the tree's lock, under which it is
 *       replaced
 *   M3  a leaf that settles has the rights, accessed and dirty bits that it had, or that mprotect gave it
 *       meanwhile
 *   M4  when the counts are not as expected every leaf is again what it was
 *
 * Exclusion.  One mover at a time (move_lock).
 *   Private pages: the leaves of a space are closed under its lock held for writing, so that no fault, copy
 *   or pin is half way.  Then the lock is dropped, with space->moving set: who wants to write waits
 *   (qi_space_lock); who reads goes on, and waits only for a leaf that moves (qi_move_wait).  So the
 *   mover holds no two spaces at once, and none while it copies.  Truncation comes without the
 *   space's lock: a leaf below a vma with an object is closed under map_lock, and settles by
 *   compare-and-swap.  While space->moving is set no table goes away.
 *   Pages of objects: map_lock held for writing from the first leaf closed to the last one settled.
 *   It keeps out faults on the object, truncation, write-back, and the end of the tables below its vmas;
 *   munmap and mprotect change leaves beside us, each by one exchange.
 *   Who waits for a moving leaf holds no map_lock, as the mover may want it.
 *
 * Finding the leaves.  Objects list their vmas.  Private pages have no reverse map: all tables are
 * walked, once for a part of the range (16 MiB), and again only where leaves were found.
 *
 * Failure.  The new page is taken before anything is touched; without it the page stays.  A 2 MiB page
 * for which there is no 2 MiB is cut into small ones, and these move.
 *
 * Cost.  A page: taking and freeing a frame, the copy, three visits to each leaf.  A flush for each space
 * and part.  A part: 10 instructions for each leaf in the machine, if a private page is in it.
 *
 * Sources.  Linux, mm/migrate.c and Documentation/mm/page_migration.rst (order of steps, expected
 * counts); Lameter, "Page migration", 2006.  FreeBSD, sys/vm/vm_phys.c and vm_page.c,
 * vm_page_reclaim_contig(): pages of objects only, found through the object.
 * Rejected.  Keeping all spaces locked while copying: everybody waits for the slowest.  Software
 * entries instead of closed leaves (Linux): every walk must then count for them.
 */
#include "migrate.h"

/* Frames of a part, as an order of the array of their new pages: 4096, or 512 if memory is scarce. */
#define PART_ORDER 3
#define PER_FRAME  (QUIRE_PAGE_SIZE / sizeof(struct quire_page *))
/* Times that a part is looked at, while something in it is only busy. */
#define ROUNDS 4

static const struct qi_lock_class move_class = {"mover"};
static struct qi_rwsem move_lock;
static uint32_t settled; /* atomic; changes when moving leaves have settled: waited on */
static uint32_t waiting; /* atomic; tasks in qi_move_wait(), at least */

void qi_move_setup(void)
{
    qi_rwsem_init(&move_lock, &move_class);
    qi_store_relaxed(&settled, 0u);
    qi_store_relaxed(&waiting, 0u);
}

/* ---- Waiting ---- */

void qi_move_wait_all(struct quire_space *s)
{
    for (;;) {
        uint32_t seen = qi_load_acquire(&settled);

        if (!qi_load_acquire(&s->moving))
            return;
        qport_wait(&settled, seen);
    }
}

qi_pte qi_move_wait(qi_pte *slot)
{
    for (;;) {
        uint32_t seen = qi_load_acquire(&settled);
        qi_pte e;

        qi_fetch_add_acqrel(&waiting, 1u);
        qi_fence_full(); /* with qi_move_wake_waiting(): it sees us, or we its leaf */
        e = qi_pte_load_link(slot);
        if (qi_pte_moving(e))
            qport_wait(&settled, seen);
        qi_fetch_sub_acqrel(&waiting, 1u);
        if (!qi_pte_moving(e))
            return e;
    }
}

void qi_move_wake_waiting(void)
{
    qi_fence_full();
    if (QI_UNLIKELY(qi_load_relaxed(&waiting)))
        qi_move_wake();
}

void qi_move_wake(void)
{
    qi_fetch_add_acqrel(&settled, 1u);
    qport_wake(&settled, ~0u);
}

/* ---- One leaf ---- */

qi_pte qi_move_mark(qi_pte *slot, const struct quire_page *old)
{
    uint64_t pfn = quire_pfn_of_page(old).v;
    qi_pte e = qi_pte_load_link(slot);

    while (qi_pte_present(e) && !qi_pte_special(e) && qi_pte_pfn(e).v == pfn)
        if (qi_pte_cas(slot, &e, qi_pte_mkmoving(e))) /* else: accessed or dirty, or rights */
            return e;
    return QI_PTE(0);
}

void qi_move_settle(qi_pte *slot, struct quire_page *old, struct quire_page *new)
{
    uint64_t pfn = quire_pfn_of_page(old).v;
    qi_pte e = qi_pte_load_link(slot), n;

    if (!qi_pte_moving(e) || qi_pte_pfn(e).v != pfn)
        return;
    if (new) /* first, for whoever takes the leaf away as soon as it is there */
        qi_fetch_add_relaxed(&new->counts, QUIRE_PAGE_ONE_MAPPING);
    do {
        n = qi_pte_unmoving(e);
        if (new)
            n = qi_pte_elsewhere(n, quire_pfn_of_page(new));
        if (qi_pte_cas(slot, &e, n)) {
            if (new)
                qi_fetch_sub_acqrel(&old->counts, QUIRE_PAGE_ONE_MAPPING);
            return;
        }
    } while (qi_pte_moving(e) && qi_pte_pfn(e).v == pfn);
    if (new)
        qi_fetch_sub_acqrel(&new->counts, QUIRE_PAGE_ONE_MAPPING);
}

/* ---- New pages ---- */

static bool overlaps(const struct qi_move *m, uint64_t pfn, unsigned order)
{
    return pfn < m->end && pfn + (1ull << order) > m->start;
}

/* A node that was asked for is meant; one that is only near may be full. */
static quire_gfp move_gfp(const struct qi_move *m)
{
    return QUIRE_GFP_USER | (m->node == QUIRE_NODE_ANY ? 0 : QUIRE_GFP_THISNODE);
}

/* The next of some that were taken at once, which is a quarter of the price of single ones; NULL: no memory.
 * Ever more at once: who moves one page needs one. */
static struct quire_page *from_stock(struct qi_move *m, unsigned node)
{
    if (!m->in_stock) {
        m->next_stock = QI_MIN(QI_MAX(2 * m->next_stock, 1u), (unsigned)QI_MOVE_STOCK);
        m->in_stock = (unsigned)quire_page_alloc_bulk(m->next_stock, m->stock, move_gfp(m), node);
    }
    return m->in_stock ? m->stock[--m->in_stock] : NULL;
}

static struct quire_page *take(struct qi_move *m, unsigned node, unsigned order)
{
    return order ? quire_page_alloc(order, move_gfp(m) | QUIRE_GFP_NORETRY, node)
                 : from_stock(m, node);
}

struct quire_page *qi_move_alloc(struct qi_move *m, const struct quire_page *old, unsigned order)
{
    unsigned node = m->node == QUIRE_NODE_ANY ? quire_page_node(old) : m->node;
    struct quire_page *p;

    while ((p = take(m, node, order)) && overlaps(m, quire_pfn_of_page(p).v, order)) {
        p->owner = (uintptr_t)m->taken; /* the caller has not isolated the range */
        m->taken = p;
    }
    if (p)
        p->next = 0;
    return p;
}

static void free_unused(struct qi_move *m)
{
    while (m->taken) {
        struct quire_page *p = m->taken;

        m->taken = (struct quire_page *)(uintptr_t)p->owner;
        p->owner = 0;
        quire_page_put(p);
    }
    quire_page_free_bulk(m->in_stock, m->stock);
    m->in_stock = 0;
}

void qi_move_end(struct qi_move *m, uint64_t i, struct quire_page *old)
{
    struct quire_page *new = m->to[i];
    uint64_t frames = QI_MIN(1ull << quire_page_order(new), m->n - i);

    m->to[i] = NULL;
    if (qi_move_landed(new)) {
        m->moved += frames;
    } else if (old) {
        m->again = true;
        m->stayed += frames;
    }
    if (old)
        quire_page_put(old);
    quire_page_put(new);
}

/* ---- Private pages: find ---- */

/* The leaf e, of level, may map a private page of the part: have a new page ready.  True: worth coming back. */
static bool want(struct qi_move *m, qi_pte e, unsigned level)
{
    unsigned order = level * QI_PT_BITS;
    const struct quire_page *old;
    uint64_t i;

    if (QI_LIKELY(!qi_move_find(m, qi_pte_pfn(e).v, order, &i)) || !qi_pte_present(e) ||
        qi_pte_special(e))
        return false;
    old = quire_page_of_pfn(qi_pte_pfn(e));
    if (!(quire_page_flags_now(old) & QUIRE_PG_ANON))
        return false;
    if (!m->to[i])
        m->to[i] = qi_move_alloc(m, old, order);
    if (!m->to[i] && order)
        m->no_huge = true;
    return m->to[i] || order;
}

/* The first of the small leaves of sp, from number k on, that maps a frame of the part; sp->n: none. */
static unsigned skip_others(const struct qi_move *m, const struct qi_span *sp, unsigned k)
{
    const uint64_t first = m->first << QUIRE_PAGE_SHIFT, size = m->n << QUIRE_PAGE_SHIFT;

    while (k < sp->n && qi_pte_pa(qi_pte_load(&sp->ptes[k])).v - first >= size)
        k++;
    return k;
}

/* Find out where in s leaves of the part are: s->move_start and move_end.  False: nowhere. */
static bool find_leaves(struct qi_move *m, struct quire_space *s)
{
    uint64_t start = ~0ull, end = 0;
    struct qi_span sp;

    qi_rwsem_read_lock(&s->lock);
    for (const struct qi_vma *v = s->first; v; v = v->next)
        for (uint64_t at = v->start; qi_pt_next_span(s->tlb.root, &at, v->end, &sp);)
            for (unsigned k = 0; (k = sp.level ? k : skip_others(m, &sp, k)) < sp.n; k++)
                if (want(m, qi_pte_load_link(&sp.ptes[k]), sp.level)) {
                    uint64_t va = sp.va + ((uint64_t)k << QUIRE_PAGE_SHIFT);

                    start = QI_MIN(start, va);
                    end = QI_MAX(end, va + QI_PT_SIZE(sp.level));
                }
    qi_rwsem_read_unlock(&s->lock);
    s->move_start = start;
    s->move_end = end;
    return start < end;
}

/* All spaces with such leaves, referenced, linked through move_next. */
static struct quire_space *find_spaces(struct qi_move *m)
{
    struct quire_space *found = NULL, *s, *next;

    for (s = qi_space_after(NULL); s; s = next) {
        bool wanted = find_leaves(m, s);

        next = qi_space_after(s);
        if (wanted) {
            s->move_next = found;
            found = s;
        } else {
            quire_space_put(s);
        }
    }
    return found;
}

/* ---- Private pages: close ---- */

/* Close the leaf at slot if its page is to be moved. */
static bool close_leaf(struct qi_move *m, qi_pte *slot, unsigned level)
{
    unsigned order = level * QI_PT_BITS;
    qi_pte e = qi_pte_load_link(slot);
    struct quire_page *old, *new;
    uint64_t i;

    if (QI_LIKELY(!qi_move_find(m, qi_pte_pfn(e).v, order, &i)) || !qi_pte_present(e) ||
        qi_pte_special(e))
        return false;
    old = quire_page_of_pfn(qi_pte_pfn(e));
    new = m->to[i];
    if (!new || !(quire_page_flags_now(old) & QUIRE_PG_ANON) || quire_page_order(new) != order)
        return false;
    if (!new->next) /* one for the mover: the old page stays while leaves go */
        qi_fetch_add_relaxed(&old->refs, 1u);
    if (qi_pte_none(qi_move_mark(slot, old))) {
        if (!new->next)
            quire_page_put(old);
        return false;
    }
    new->next++;
    return true;
}

/* The huge leaf of sp, for whose page there is no block, is cut: its parts may move in the next round. */
static bool cut(struct qi_move *m, struct quire_space *s, const struct qi_span *sp)
{
    qi_pte e = qi_pte_load_link(sp->ptes);
    uint64_t i;

    if (!sp->level || !m->no_huge || !qi_pte_present(e) ||
        !qi_move_find(m, qi_pte_pfn(e).v, QUIRE_HUGE_ORDER, &i) || m->to[i])
        return false;
    if (qi_huge_split_range(s, sp->va, sp->va + QUIRE_HUGE_SIZE) == QUIRE_OK)
        m->again = true;
    return true;
}

/* Close what v has in [start, end) of its space; *first and *last: where that was. */
static void close_vma(struct qi_move *m, struct qi_vma *v, uint64_t start, uint64_t end,
                      uint64_t *first, uint64_t *last)
{
    struct qi_span sp;

    if (v->object)
        qi_rwsem_read_lock(&v->object->map_lock);
    for (uint64_t at = start; qi_pt_next_span(v->space->tlb.root, &at, end, &sp);) {
        if (cut(m, v->space, &sp))
            continue;
        for (unsigned k = 0; k < sp.n; k++)
            if (close_leaf(m, &sp.ptes[k], sp.level)) {
                uint64_t va = sp.va + ((uint64_t)k << QUIRE_PAGE_SHIFT);

                *first = QI_MIN(*first, va);
                *last = QI_MAX(*last, va + QI_PT_SIZE(sp.level));
            }
    }
    if (v->object)
        qi_rwsem_read_unlock(&v->object->map_lock);
}

/* Close the leaves that find_leaves() saw, as far as they are there, and flush. */
static void close_space(struct qi_move *m, struct quire_space *s)
{
    uint64_t first = ~0ull, last = 0;

    qi_space_lock(s);
    for (struct qi_vma *v = qi_vma_find(s, s->move_start); v && v->start < s->move_end; v = v->next)
        close_vma(m, v, QI_MAX(v->start, s->move_start), QI_MIN(v->end, s->move_end), &first,
                  &last);
    if (first < last) {
        qi_store_relaxed(&s->moving, 1u); /* until reopen_space(): no table goes, no vma changes */
        qi_tlb_flush(&s->tlb, first, last, false);
    }
    qi_rwsem_write_unlock(&s->lock);
}

/* ---- Private pages: copy, and open again ---- */

/* What the flags of a private page say of its content. */
#define PAGE_STATE (QUIRE_PG_DIRTY | QUIRE_PG_UPTODATE | QUIRE_PG_REF | QUIRE_PG_ACTIVE)

/* The page of m->to[i], all of whose leaves may be closed. */
static struct quire_page *old_page(const struct qi_move *m, uint64_t i)
{
    return quire_page_head(quire_page_of_pfn(Q_PFN(m->first + i)));
}

/* Copy the page of m->to[i] if nobody else has it (M1, M2). */
static void copy_private(struct qi_move *m, uint64_t i)
{
    struct quire_page *new = m->to[i], *old = old_page(m, i);
    uint64_t frames = 1ull << quire_page_order(new);

    if (qi_load_acquire(&old->counts) != new->next * QUIRE_PAGE_ONE_MAPPING + 1)
        return;
    for (uint64_t f = 0; f < frames; f++)
        qport_copy_page((char *)quire_page_ptr(new) + f * QUIRE_PAGE_SIZE,
                        (char *)quire_page_ptr(old) + f * QUIRE_PAGE_SIZE);
    new->owner = old->owner;
    new->index = old->index;
    qi_store_relaxed(&new->flags, quire_page_flags_now(new) | QUIRE_PG_ANON |
                                      (quire_page_flags_now(old) & PAGE_STATE));
}

static void reopen_leaf(struct qi_move *m, qi_pte *slot, unsigned level)
{
    qi_pte e = qi_pte_load_link(slot);
    uint64_t i;

    if (qi_pte_moving(e) && qi_move_find(m, qi_pte_pfn(e).v, level * QI_PT_BITS, &i) && m->to[i])
        qi_move_settle(slot, quire_page_of_pfn(qi_pte_pfn(e)),
                       qi_move_landed(m->to[i]) ? m->to[i] : NULL);
}

/* Under no lock: s->moving keeps tables and vmas as they are. */
static void reopen_space(struct qi_move *m, struct quire_space *s)
{
    struct qi_span sp;

    if (!qi_load_relaxed(&s->moving))
        return;
    for (uint64_t at = s->move_start; qi_pt_next_span(s->tlb.root, &at, s->move_end, &sp);)
        for (unsigned k = 0; k < sp.n; k++)
            reopen_leaf(m, &sp.ptes[k], sp.level);
}

static void move_private(struct qi_move *m)
{
    struct quire_space *spaces = find_spaces(m);
    bool closed = false;

    for (struct quire_space *s = spaces; s; s = s->move_next) {
        close_space(m, s);
        closed |= qi_load_relaxed(&s->moving);
    }
    for (uint64_t i = 0; closed && i < m->n; i++)
        if (m->to[i] && m->to[i]->next)
            copy_private(m, i);
    for (struct quire_space *s = spaces; s; s = s->move_next)
        reopen_space(m, s);
    for (uint64_t i = 0; i < m->n; i++)
        if (m->to[i])
            qi_move_end(m, i, m->to[i]->next ? old_page(m, i) : NULL);
    /* now that the mover holds none of the pages: who locks a space may cut a huge one, which wants it alone */
    for (struct quire_space *s = spaces; s; s = s->move_next)
        qi_store_release(&s->moving, 0u);
    if (closed)
        qi_move_wake();
    while (spaces) {
        struct quire_space *s = spaces;

        spaces = s->move_next;
        quire_space_put(s);
    }
}

/* ---- The range ---- */

/* What is in the part: flags that some frame of it has, as far as they matter. */
static uint32_t inhabitants(const struct qi_move *m)
{
    const uint32_t all = QUIRE_PG_OBJECT | QUIRE_PG_ANON;
    uint32_t flags = 0;

    for (uint64_t i = 0; i < m->n && (flags & all) != all; i++)
        flags |= quire_page_flags(Q_PFN(m->first + i));
    return flags;
}

static void move_part(struct qi_move *m)
{
    m->again = true;
    for (unsigned round = 0; m->again && round < ROUNDS; round++) {
        uint32_t flags = inhabitants(m);

        m->again = m->no_huge = false;
        if (flags & QUIRE_PG_OBJECT)
            qi_move_objects(m);
        if (flags & (QUIRE_PG_ANON | QUIRE_PG_TAIL)) /* a tail may be one of a huge page */
            move_private(m);
        free_unused(m);
        qport_relax();
    }
}

uint64_t quire_space_move_range(q_pfn start, uint64_t frames)
{
    return quire_space_move_to(start, frames, QUIRE_NODE_ANY);
}

uint64_t quire_space_move_to(q_pfn start, uint64_t frames, unsigned node)
{
    struct qi_move m = {.start = start.v, .end = start.v + frames, .node = node};
    unsigned order = frames > PER_FRAME ? PART_ORDER : 0;
    struct quire_page *array;

    if (qi_add_overflows(start.v, frames, &m.end))
        return 0;
    qi_rwsem_write_lock(&move_lock);
    array = quire_page_alloc(order, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (!array && order)
        array = quire_page_alloc(order = 0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (array) {
        m.to = quire_page_ptr(array);
        for (m.first = m.start; m.first < m.end; m.first += m.n) {
            m.n = QI_MIN(m.end - m.first, PER_FRAME << order);
            move_part(&m);
        }
        quire_page_free(array, order);
        qi_event_add(QUIRE_EVENT_PAGES_MOVED, m.moved);
        qi_event_add(QUIRE_EVENT_PAGES_STAYED, m.stayed);
    }
    qi_rwsem_write_unlock(&move_lock);
    return m.moved;
}
