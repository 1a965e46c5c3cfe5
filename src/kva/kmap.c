/*
 * kva/kmap.c - addresses for frames beyond the direct map (QUIRE_DIRECT_LIMIT), one page at a time.
 *
 * Purpose.  A 32-bit kernel has 1 GiB of addresses for more memory than that.  Two kinds of temporary mapping,
 * as Linux has (its Documentation/mm/highmem.rst): of one CPU and of all.
 *
 * Model.  Those of a CPU are a stack: no lock, no flush of other CPUs, nested by interrupts without more ado.
 * That they are given back in reverse is checked here, for a port that keeps them in consecutive slots
 * would else take away somebody's mapping from under him.
 *
 * Those of all CPUs are slots with a count of users.  A slot whose last user has gone stays as it is:
 * the page is mapped again for nothing, and no flush is needed until empty slots have run out.  Then
 * all that nobody uses are cleared, and one flush serves them all.  Who finds every slot in use sleeps.
 *
 * Invariants
 *   M1  a page is in one slot at most; a slot with users is not cleared
 *   M2  a slot is set only after a flush that began after it was cleared
 *
 * Locking.  One sleeping lock; `freed` is a word to sleep on that changes when a slot loses its last user.
 *
 * Rejected.  A hash of slots by page: there are few, the search is a scan of words, and what is
 * mapped often should lie in the direct map.
 */
#include <quire/kva.h>

#include "../base/trace.h"
#include "../base/bits.h"
#include "../sync/rwsem.h"

#if QUIRE_DIRECT_LIMIT

static bool reached(const struct quire_page *page)
{
    return quire_pa_of_page(page).v < QUIRE_DIRECT_LIMIT;
}

/* ---- of one CPU ---- */

static struct cpu_maps {
    unsigned n; /* interrupts raise it, and lower it again */
    void *at[QUIRE_KMAP_DEPTH];
} QI_CACHE_ALIGNED maps[QUIRE_MAX_CPUS];

void *quire_kmap_local(struct quire_page *page)
{
    struct cpu_maps *m;
    unsigned i;

    if (reached(page))
        return quire_page_ptr(page);
    qport_preempt_disable();
    m = &maps[qport_cpu()];
    i = m->n;
    QI_CHECK(i < QUIRE_KMAP_DEPTH,
             "kmap_local: frame %#llx by %#lx: %u are mapped on CPU %u already",
             (unsigned long long)quire_pfn_of_page(page).v, (unsigned long)QI_CALLER(), i,
             (unsigned)qport_cpu());
    qi_store_relaxed(&m->n, i + 1); /* the place is taken before an interrupt looks for one */
    m->at[i] = qport_frame_map(quire_pa_of_page(page));
    return m->at[i];
}

void quire_kunmap_local(const void *at)
{
    uintptr_t from = QPORT_DIRECT_BASE, va = (uintptr_t)at & (uintptr_t)QUIRE_PAGE_MASK;
    struct cpu_maps *m;
    void *last;

    if (va >= from && va - from < QUIRE_DIRECT_LIMIT)
        return;
    m = &maps[qport_cpu()];
    last = m->n ? m->at[m->n - 1] : NULL;
    QI_CHECK(last && va == (uintptr_t)last,
             "kunmap_local: %#lx by %#lx is not the last mapped on CPU %u: that is %#lx, of %u",
             (unsigned long)va, (unsigned long)QI_CALLER(), (unsigned)qport_cpu(),
             (unsigned long)(uintptr_t)last, m->n);
    qport_frame_unmap(last);
    qi_store_relaxed(&m->n, m->n - 1);
    qport_preempt_enable();
}

/* ---- of all CPUs ---- */

#define NO_FRAME UINT32_MAX
#define SLOTS    ((unsigned)QUIRE_KMAP_SLOTS)

static struct {
    struct qi_rwsem lock;
    uint32_t freed; /* atomic */
    unsigned next;  /* lock: where the search for an empty slot goes on */
    struct {
        uint32_t frame, users;
        void *at;
    } slot[SLOTS]; /* lock */
} all;

static const struct qi_lock_class class = {"kva: kmap"};

void quire_kmap_init(void)
{
    qi_rwsem_init(&all.lock, &class);
    all.next = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        all.slot[i].frame = NO_FRAME;
        all.slot[i].users = 0;
    }
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++)
        maps[i].n = 0;
}

/* The slot of a frame, or SLOTS. */
static unsigned slot_of(uint32_t frame)
{
    unsigned i = 0;

    while (i < SLOTS && all.slot[i].frame != frame)
        i++;
    return i;
}

/* Clear those without users, and flush once.  False: there are none. */
static bool empty_unused(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        if (!all.slot[i].users && all.slot[i].frame != NO_FRAME) {
            qport_kmap_clear(i);
            all.slot[i].frame = NO_FRAME;
            n++;
        }
    if (n)
        qport_kmap_flush();
    return n;
}

/* An empty slot, or SLOTS. */
static unsigned empty_slot(void)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned k = 0; k < SLOTS; k++) {
            unsigned i = (all.next + k) % SLOTS;

            if (all.slot[i].frame == NO_FRAME) {
                all.next = i + 1;
                return i;
            }
        }
        if (!empty_unused())
            break;
    }
    return SLOTS;
}

/* NULL: every slot has users. */
static void *map_in_slot(struct quire_page *page)
{
    uint32_t frame = (uint32_t)quire_pfn_of_page(page).v;
    unsigned i = slot_of(frame);

    if (i == SLOTS) {
        i = empty_slot();
        if (i == SLOTS)
            return NULL;
        all.slot[i].at = qport_kmap_set(i, quire_pa_of_page(page));
        all.slot[i].frame = frame;
    }
    all.slot[i].users++;
    return all.slot[i].at;
}

void *quire_kmap(struct quire_page *page)
{
    if (reached(page))
        return quire_page_ptr(page);
    for (;;) {
        uint32_t seen;
        void *at;

        qi_rwsem_write_lock(&all.lock);
        seen = qi_load_relaxed(&all.freed);
        at = map_in_slot(page);
        qi_rwsem_write_unlock(&all.lock);
        if (at)
            return at;
        qport_wait(&all.freed, seen);
    }
}

void quire_kunmap(struct quire_page *page)
{
    bool last = false;
    unsigned i;

    if (reached(page))
        return;
    qi_rwsem_write_lock(&all.lock);
    i = slot_of((uint32_t)quire_pfn_of_page(page).v);
    if (i < SLOTS && all.slot[i].users) {
        last = !--all.slot[i].users;
        if (last)
            qi_fetch_add_relaxed(&all.freed, 1u);
    } else {
        i = SLOTS;
    }
    qi_rwsem_write_unlock(&all.lock);
    QI_CHECK(i < SLOTS, "kunmap: frame %#llx by %#lx is not mapped",
             (unsigned long long)quire_pfn_of_page(page).v, (unsigned long)QI_CALLER());
    if (last)
        qport_wake(&all.freed, 1);
}

#endif
