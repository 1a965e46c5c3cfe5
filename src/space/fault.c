/*
 * space/fault.c - from a faulting address to a page: the busiest path of the manager.
 *
 * The space lock is held for reading, so faults of one space run side by side; each installs its
 * leaf by compare-and-swap, and the loser of a race gives its page back and lets the instruction
 * run again. No lock covers a leaf.
 *
 *   backing             entry   access   what happens
 *   private anonymous   none    read     the shared zero page, read-only, uncounted (SPECIAL)
 *   private anonymous   none    write    a zeroed page; 2 MiB at once where the vma asks for it
 *   private             zero    write    a zeroed page instead
 *   private             page    write    ours alone, as mark or counts say: writable again; else a copy
 *   private file        none    read     the cache page, read-only, with its neighbours
 *   private file        none    write    a copy of the cache page
 *   shared              none    any      the cache page with the vma's protection
 *   device              none    any      the frame itself, uncounted
 *
 * Flushes: a leaf that gets another frame is closed, flushed, then opened: or one CPU could write to the
 * new frame, and tell a second one, which still reads the old frame (Linux, wp_page_copy()).  Adding permission
 * to the same frame needs no flush: a CPU with the old entry faults once more and finds the new one.
 */
#include "space.h"

static struct quire_page *zero_page;

/* Pages around a file fault that are mapped along, an aligned group: 64 KiB. */
#define AROUND 16u

enum quire_status qi_fault_setup(void)
{
    /* a hosted machine may have been made anew: always take a fresh one */
    zero_page = quire_page_alloc(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    return zero_page ? QUIRE_OK : QUIRE_NO_MEMORY;
}

q_pfn qi_zero_pfn(void) { return quire_pfn_of_page(zero_page); }

/* x86 has no write-only and no execute-only leaves: any right allows reading. */
bool qi_access_allowed(const struct qi_vma *v, unsigned access)
{
    if (access == QUIRE_READ)
        return v->flags & QI_VM_PROT;
    return v->flags & access;
}

/* ---- Private pages ---- */

/* A fresh private page with one mapping counted. */
static struct quire_page *anon_alloc(const struct qi_vma *v, uint64_t va, quire_gfp extra)
{
    const struct quire_policy *p = qi_vma_policy(v);
    struct quire_page *page =
        QI_LIKELY(!p)
            ? quire_page_alloc_next(&v->space->colouring, QUIRE_GFP_USER | extra, QUIRE_NODE_ANY)
            : qi_policy_page(p, va, 0, QUIRE_GFP_USER | extra);

    if (QI_LIKELY(page != NULL))
        qi_mark_anon(page);
    return page;
}

/* Give back a page that lost the race for its entry. */
static enum quire_status anon_lost(struct quire_page *page)
{
    qi_store_relaxed(&page->maps, 0u);
    quire_page_free(page, 0);
    qi_event(QUIRE_EVENT_FAULT_SPURIOUS);
    return QUIRE_OK;
}

static qi_pte anon_leaf(const struct qi_vma *v, struct quire_page *page)
{
    qi_pte t = qi_vma_template(v, v->flags & QUIRE_WRITE);

    return qi_pte_mkdirty(qi_pte_leaf(t, quire_pfn_of_page(page), QI_PTE_OWN));
}

static void note_anon(struct qi_vma *v)
{
    if (!qi_load_relaxed(&v->has_anon)) /* other faults may be doing the same */
        qi_store_relaxed(&v->has_anon, true);
}

/*
 * The leaf new in the place of old, which is none or read-only.  A closed leaf looks like one that moves:
 * who meets it waits, and who takes it away has what it held.  False: somebody was faster.
 */
static bool install(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte old, qi_pte new)
{
    qi_pte closed = qi_pte_mkmoving(old);
    bool installed;

    if (qi_pte_none(old))
        return qi_pte_cas(slot, &old, new);
    if (!qi_pte_cas(slot, &old, closed))
        return false;
    qi_tlb_flush_page(&v->space->tlb, va);
    installed = qi_pte_cas(slot, &closed, new);
    qi_move_wake_waiting();
    return installed;
}

static enum quire_status anon_new(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte old)
{
    struct quire_page *page = anon_alloc(v, va, QUIRE_GFP_ZERO);

    if (QI_UNLIKELY(!page))
        return QUIRE_NO_MEMORY;
    note_anon(v);
    if (QI_UNLIKELY(!install(v, va, slot, old, anon_leaf(v, page))))
        return anon_lost(page);
    qi_rss_add(v->space, QI_RSS_ANON, 1);
    qi_event(QUIRE_EVENT_FAULT_ANON);
    return QUIRE_OK;
}

/*
 * Put a private copy of from in the place of old.  *installed: it is there; else another fault was
 * faster.  from needs no reference if old maps it: should it be replaced and freed while we copy,
 * then the compare-and-swap fails and the copy is thrown away.
 */
static enum quire_status anon_copy(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte old,
                                   const struct quire_page *from, bool *installed)
{
    struct quire_page *page = anon_alloc(v, va, 0);

    if (QI_UNLIKELY(!page))
        return QUIRE_NO_MEMORY;
    QPORT_COPY_OPTIMISTIC(quire_page_ptr(page), quire_page_ptr(from));
    note_anon(v);
    *installed = install(v, va, slot, old, anon_leaf(v, page));
    if (QI_UNLIKELY(!*installed))
        return anon_lost(page);
    qi_rss_add(v->space, QI_RSS_ANON, 1);
    return QUIRE_OK;
}

/* Drop one mapping of a counted page whose entry was flushed and replaced. */
static void unmap_one(struct qi_vma *v, struct quire_page *page)
{
    qi_rss_add(v->space, qi_rss_kind(v, page), -1);
    qi_fetch_sub_relaxed(&page->maps, 1u);
    quire_page_put(page);
}

/* The page of the leaf old is ours alone: v's rights. */
static enum quire_status reuse(const struct qi_vma *v, qi_pte *slot, qi_pte old)
{
    qi_pte now = qi_pte_mkown(qi_pte_mkdirty(qi_pte_modify(old, qi_vma_template(v, true))));

    if (qi_pte_cas(slot, &old, now))
        qi_event(QUIRE_EVENT_FAULT_COW_REUSE);
    return QUIRE_OK;
}

/* A write to the counted, read-only leaf old, which is not OWN: its page is ours alone now, or copied. */
static enum quire_status write_counted(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte old)
{
    struct quire_page *page = quire_page_of_pfn(qi_pte_pfn(old));
    enum quire_status status;
    bool installed = false;

    if (qi_page_alone(page))
        return reuse(v, slot, old);
    status = anon_copy(v, va, slot, old, page, &installed);
    if (!installed)
        return status;
    unmap_one(v, page);
    qi_event(QUIRE_EVENT_FAULT_COW_COPY);
    return QUIRE_OK;
}

/* A write to a present, read-only leaf of a private vma. */
static enum quire_status write_private(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte old)
{
    enum quire_status status = QUIRE_OK;

    if (qi_pte_own(old))
        return reuse(v, slot, old);
    if (qi_pte_special(old))
        return anon_new(v, va, slot, old);
    if (!v->object)
        return write_counted(v, va, slot, old);
    /* a page of the object does not go, or move, while it is copied */
    qi_rwsem_read_lock(&v->object->map_lock);
    if (qi_pte_load_link(slot).v == old.v)
        status = write_counted(v, va, slot, old);
    qi_rwsem_read_unlock(&v->object->map_lock);
    return status;
}

/* ---- 2 MiB leaves ---- */

static bool huge_fits(const struct qi_vma *v, uint64_t va)
{
    uint64_t base = qi_align_down(va, QUIRE_HUGE_SIZE);

    return (v->flags & QI_VM_HUGE) && !v->object && base >= v->start &&
           base + QUIRE_HUGE_SIZE <= v->end;
}

/* Try a zeroed 2 MiB page; false: fall back to a small one. */
static bool huge_new(struct qi_vma *v, uint64_t va)
{
    uint64_t base = qi_align_down(va, QUIRE_HUGE_SIZE);
    struct quire_page *page;
    qi_pte *slot, none = QI_PTE(0), leaf;
    unsigned level;

    if (qi_pt_slot_alloc(v->space->tlb.root, base, 1, &slot, &level) != QUIRE_OK || level != 1 ||
        !qi_pte_none(qi_pte_load(slot)))
        return false;
    page =
        qi_vma_page(v, base, QUIRE_HUGE_ORDER, QUIRE_GFP_USER | QUIRE_GFP_ZERO | QUIRE_GFP_NORETRY);
    if (!page)
        return false;
    qi_mark_anon(page);
    note_anon(v);
    leaf = qi_pte_mkdirty(qi_pte_leaf_huge(qi_vma_template(v, v->flags & QUIRE_WRITE),
                                           quire_pfn_of_page(page), QI_PTE_OWN));
    if (!qi_pte_cas(slot, &none, leaf)) {
        qi_store_relaxed(&page->maps, 0u);
        quire_page_free(page, QUIRE_HUGE_ORDER);
        return false;
    }
    qi_rss_add(v->space, QI_RSS_ANON, QI_PT_ENTRIES);
    qi_event(QUIRE_EVENT_FAULT_HUGE);
    return true;
}

/* ---- Objects ---- */

/*
 * Map present neighbours of a page of o along, read-only or (shared) as the vma allows: the aligned
 * group of AROUND around va, inside the vma, the object and this table.  slot is va's.
 */
static void map_around(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte template)
{
    uint64_t group = qi_align_down(va, AROUND * QUIRE_PAGE_SIZE), from = QI_MAX(group, v->start);
    uint64_t to = QI_MIN(group + AROUND * QUIRE_PAGE_SIZE, v->end);
    struct quire_object *o = v->object;
    uint64_t limit = (o->size + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT;
    int64_t mapped = 0;

    while (from < to && qi_vma_pgoff(v, from) < limit) {
        struct quire_page *pages[AROUND];
        uint64_t index = qi_vma_pgoff(v, from);
        unsigned want = (unsigned)QI_MIN((to - from) >> QUIRE_PAGE_SHIFT, limit - index);
        unsigned n = qi_object_map_run(o, index, want, pages);

        for (unsigned i = 0; i < n; i++) {
            int64_t rel =
                (int64_t)(from + ((uint64_t)i << QUIRE_PAGE_SHIFT) - va) / (int64_t)QUIRE_PAGE_SIZE;
            qi_pte none = QI_PTE(0);

            if (qi_pte_none(qi_pte_load(&slot[rel])) &&
                qi_pte_cas(&slot[rel], &none,
                           qi_pte_leaf(template, quire_pfn_of_page(pages[i]), 0))) {
                mapped++;
            } else {
                qi_fetch_sub_relaxed(&pages[i]->maps, 1u);
                quire_page_put(pages[i]);
            }
        }
        from += (uint64_t)(n + 1) << QUIRE_PAGE_SHIFT; /* behind the hole */
    }
    qi_rss_add(v->space, o->kind == QUIRE_OBJECT_SHARED ? QI_RSS_SHARED : QI_RSS_FILE, mapped);
}

/* Whether leaves of shared v may be writable before the first write: if nobody must know of it. */
static bool write_early(const struct qi_vma *v)
{
    return (v->flags & QUIRE_WRITE) && !(v->object->pager && v->object->pager->store);
}

/* Install page, which has one reference for us, at an empty slot. */
static enum quire_status map_page(struct qi_vma *v, uint64_t va, qi_pte *slot,
                                  struct quire_page *page, unsigned access)
{
    bool shared = v->flags & QI_VM_SHARED, write = access == QUIRE_WRITE;
    qi_pte none = QI_PTE(0), t = qi_vma_template(v, shared && (write || write_early(v))), leaf;

    leaf = qi_pte_mkyoung(qi_pte_leaf(t, quire_pfn_of_page(page), 0));
    if (write) {
        leaf = qi_pte_mkdirty(leaf);
        quire_object_dirty(v->object, page);
    }
    qi_fetch_add_relaxed(&page->maps, 1u); /* our reference becomes the mapping's */
    if (!qi_pte_cas(slot, &none, leaf)) {
        qi_fetch_sub_relaxed(&page->maps, 1u);
        quire_page_put(page);
        qi_event(QUIRE_EVENT_FAULT_SPURIOUS);
        return QUIRE_OK;
    }
    qi_rss_add(v->space, v->object->kind == QUIRE_OBJECT_SHARED ? QI_RSS_SHARED : QI_RSS_FILE, 1);
    if (v->object->kind == QUIRE_OBJECT_SHARED)
        qi_event(QUIRE_EVENT_FAULT_SHARED);
    else
        qi_event(QUIRE_EVENT_FAULT_FILE_READ);
    if (!write)
        map_around(v, va, slot, t);
    return QUIRE_OK;
}

static enum quire_status map_device(struct qi_vma *v, uint64_t va, qi_pte *slot)
{
    uint64_t offset = qi_vma_pgoff(v, va) << QUIRE_PAGE_SHIFT;
    qi_pte none = QI_PTE(0), t = qi_vma_template(v, true);

    if (offset >= v->object->size)
        return QUIRE_BUS_ADRERR;
    qi_pte_cas(
        slot, &none,
        qi_pte_leaf(t, quire_pfn_of_pa(Q_PA(v->object->device_base.v + offset)), QI_PTE_SPECIAL));
    qi_event(QUIRE_EVENT_FAULT_DEVICE);
    return QUIRE_OK;
}

/* An empty slot of a vma with an object.  map_lock is held for reading. */
static enum quire_status object_fault(struct qi_vma *v, uint64_t va, qi_pte *slot, unsigned access)
{
    struct quire_object *o = v->object;
    uint64_t index = qi_vma_pgoff(v, va);
    struct quire_page *page;
    enum quire_status status;

    if (index >= (o->size + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT)
        return QUIRE_BUS_ADRERR;
    status = quire_object_page(o, index, &page);
    if (status != QUIRE_OK)
        return status;
    if (access == QUIRE_WRITE && qi_vma_private(v)) {
        bool installed = false;

        status = anon_copy(v, va, slot, QI_PTE(0), page, &installed);
        quire_page_put(page);
        if (installed)
            qi_event(QUIRE_EVENT_FAULT_FILE_COW);
        return status;
    }
    return map_page(v, va, slot, page, access);
}

static enum quire_status empty_slot(struct qi_vma *v, uint64_t va, qi_pte *slot, unsigned access)
{
    enum quire_status status;
    qi_pte none = QI_PTE(0), zero;

    if (!v->object) {
        if (access == QUIRE_WRITE)
            return anon_new(v, va, slot, none);
        zero = qi_pte_leaf(qi_vma_template(v, false), qi_zero_pfn(), QI_PTE_SPECIAL);
        qi_pte_cas(slot, &none, qi_pte_mkyoung(zero));
        qi_event(QUIRE_EVENT_FAULT_ZERO_READ);
        return QUIRE_OK;
    }
    if (v->object->kind == QUIRE_OBJECT_DEVICE)
        return map_device(v, va, slot);
    qi_rwsem_read_lock(&v->object->map_lock);
    status = object_fault(v, va, slot, access);
    qi_rwsem_read_unlock(&v->object->map_lock);
    return status;
}

/*
 * The first write to a page of a shared vma is noted.  map_lock keeps the page where it is meanwhile: a mark
 * must not land on a frame that has become somebody else's.
 */
static void write_shared(struct qi_vma *v, qi_pte *slot)
{
    qi_pte e;

    qi_rwsem_read_lock(&v->object->map_lock);
    e = qi_pte_load_link(slot);
    if (qi_pte_present(e) && !qi_pte_moving(e) && !qi_pte_write(e)) {
        if (!qi_pte_special(e))
            quire_object_dirty(v->object, quire_page_of_pfn(qi_pte_pfn(e)));
        qi_pte_cas(slot, &e, qi_pte_mkdirty(qi_pte_modify(e, qi_vma_template(v, true))));
    }
    qi_rwsem_read_unlock(&v->object->map_lock);
}

/* A present leaf, small or huge, that did not satisfy the access as the hardware saw it.  mprotect has
 * given it v's rights already, but for the writing that a copy or a note may have to precede. */
static enum quire_status present_slot(struct qi_vma *v, uint64_t va, qi_pte *slot, qi_pte e,
                                      unsigned access)
{
    if (access == QUIRE_WRITE && !qi_pte_write(e)) {
        if (qi_vma_private(v))
            return write_private(v, va, slot, e);
        write_shared(v, slot);
        return QUIRE_OK;
    }
    /* another CPU was faster, or this CPU held an old entry */
    qi_tlb_flush_page(&v->space->tlb, va);
    qi_event(QUIRE_EVENT_FAULT_SPURIOUS);
    return QUIRE_OK;
}

enum quire_status qi_fault_page(struct qi_vma *v, uint64_t va, unsigned access)
{
    enum quire_status status;
    unsigned level;
    qi_pte *slot, e;

    va = qi_align_down(va, QUIRE_PAGE_SIZE);
    if (QI_UNLIKELY(v->flags & QI_VM_HUGE) && huge_fits(v, va) && huge_new(v, va))
        return QUIRE_OK;
    status = qi_pt_lookup_alloc(v->space->tlb.root, va, &slot, &level);
    if (QI_UNLIKELY(status != QUIRE_OK))
        return status;
    e = qi_pte_load_link(slot);
    if (!qi_pte_none(e) && QI_UNLIKELY(qi_pte_moving(e)))
        e = qi_move_wait(slot);
    if (qi_pte_none(e)) /* of level 0: what is huge is not none */
        return empty_slot(v, va, slot, access);
    return present_slot(v, va, slot, e, access);
}

/* ---- Stacks ---- */

enum quire_status qi_stack_grow(struct qi_vma **stack, uint64_t va)
{
    struct qi_vma *v = *stack;
    struct quire_space *s = v->space;
    uint64_t start = qi_align_down(va, QUIRE_PAGE_SIZE),
             pages = (v->start - start) >> QUIRE_PAGE_SHIFT;
    uint64_t below = v->prev ? v->prev->end : s->start;

    if (v->end - start > s->limit_stack || start < below ||
        (v->prev && !(v->prev->flags & QI_VM_GROWSDOWN) && (v->prev->flags & QI_VM_PROT) &&
         start - below < QI_STACK_GUARD))
        return QUIRE_SEGV_MAPERR;
    if (!qi_space_may_grow(s, v->flags, pages))
        return QUIRE_SEGV_MAPERR;
    if ((v->flags & QI_VM_LOCKED) && (s->locked + pages) << QUIRE_PAGE_SHIFT > s->limit_memlock)
        return QUIRE_SEGV_MAPERR;
    v->start = start;
    qi_vma_moved(s, v);
    qi_space_account(s, v->flags, (int64_t)pages);
    *stack = qi_vma_merge(v); /* another stack below may be reached (S1) */
    qi_event(QUIRE_EVENT_FAULT_STACK);
    return QUIRE_OK;
}

/* The fault lies below a growing stack: take the lock for writing, look again, grow. */
static enum quire_status grow_and_fault(struct quire_space *s, uint64_t va, unsigned access)
{
    enum quire_status status = QUIRE_SEGV_MAPERR;
    struct qi_vma *v;

    qi_space_lock(s);
    v = qi_vma_find(s, va);
    if (v && va < v->start && (v->flags & QI_VM_GROWSDOWN))
        status = qi_access_allowed(v, access) ? qi_stack_grow(&v, va) : QUIRE_SEGV_ACCERR;
    else if (v && va >= v->start)
        status = QUIRE_OK;
    qi_rwsem_downgrade(&s->lock);
    if (status == QUIRE_OK)
        status = qi_access_allowed(v, access) ? qi_fault_page(v, va, access) : QUIRE_SEGV_ACCERR;
    qi_rwsem_read_unlock(&s->lock);
    return status;
}

static QI_NOINLINE enum quire_status fault_failed(enum quire_status status)
{
    if (status == QUIRE_SEGV_MAPERR || status == QUIRE_SEGV_ACCERR)
        qi_event(QUIRE_EVENT_FAULT_SEGV);
    else if (status == QUIRE_NO_MEMORY)
        qi_event(QUIRE_EVENT_FAULT_OOM);
    else
        qi_event(QUIRE_EVENT_FAULT_BUS);
    return status;
}

enum quire_status quire_fault(struct quire_space *s, q_uva addr, unsigned access)
{
    enum quire_status status;
    struct qi_vma *v;

    qi_rwsem_read_lock(&s->lock);
    v = qi_vma_find(s, addr.v);
    if (QI_LIKELY(v && addr.v >= v->start)) {
        status =
            qi_access_allowed(v, access) ? qi_fault_page(v, addr.v, access) : QUIRE_SEGV_ACCERR;
        qi_rwsem_read_unlock(&s->lock);
    } else {
        bool stack = v && (v->flags & QI_VM_GROWSDOWN);

        qi_rwsem_read_unlock(&s->lock);
        status = stack ? grow_and_fault(s, addr.v, access) : QUIRE_SEGV_MAPERR;
    }
    return QI_LIKELY(status == QUIRE_OK) ? status : fault_failed(status);
}

enum quire_status qi_populate(struct quire_space *s, uint64_t start, uint64_t end, bool write)
{
    while (start < end) {
        struct qi_vma *v = qi_vma_find(s, start);
        uint64_t stop;
        unsigned access;

        if (!v || v->start > start)
            return QUIRE_NO_MEMORY;
        access = write && (v->flags & QUIRE_WRITE) && qi_vma_private(v) ? QUIRE_WRITE : QUIRE_READ;
        if (write && (v->flags & QI_VM_SHARED) && (v->flags & QUIRE_WRITE))
            access = QUIRE_WRITE;
        if (!qi_access_allowed(v, access))
            return QUIRE_FAULT;
        for (stop = QI_MIN(end, v->end); start < stop;) {
            unsigned level;
            qi_pte *slot = qi_pt_lookup(s->tlb.root, start, &level);
            qi_pte e = slot ? qi_pte_load_link(slot) : QI_PTE(0);
            enum quire_status status;

            if (qi_pte_valid(e) && (access == QUIRE_READ || qi_pte_write(e))) {
                start += QUIRE_PAGE_SIZE;
                continue;
            }
            /* OK may mean that somebody was faster, with something else: look again */
            status = qi_fault_page(v, start, access);
            if (status != QUIRE_OK)
                return status;
        }
    }
    return QUIRE_OK;
}
