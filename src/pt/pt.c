/*
 * pt/pt.c - page tables: the generic part.
 *
 * Purpose.  Keep trees of tables in the shape that the hardware walks, let many CPUs fill them at
 * once, and take them apart without ever freeing what a CPU may still use.
 *
 * Model.  A tree has QI_PT_LEVELS levels of 512 entries.  An entry is empty, a leaf (level 0, or a
 * larger one up to QI_PT_LEAF_MAX), the address of a table, or a software entry.  All knowledge of
 * bits is in the format header; this file knows only shapes.  The upper half of every root is a
 * copy of the kernel's: its 256 tables exist from quire_pt_init() on and never go away, so a copy
 * never gets stale.
 *
 * Invariants.
 *   P1  An entry above level 0 that leads to a table leads to one with QUIRE_PG_TABLE (or made at
 *       boot), zeroed before it was linked, and linked from exactly one place (kernel half: from
 *       the same place of every root).
 *   P2  A table is unlinked only in an exclusive call, and freed only after a flush that began
 *       after the unlinking (gather.c).  A walk that ran before the unlinking therefore ends
 *       before the table is reused.
 *   P3  index of a root's struct quire_page is the number of tables of its user half plus one.
 *   P4  No user-half table exists outside the mappings' 2 MiB (1 GiB, 512 GiB) surroundings:
 *       qi_pt_free_range() is called for each range that is unmapped, with the neighbours' bounds.
 *   P5  No kernel mapping is both writable and executable.
 *   P6  A table handed to qi_pt_table_free() or a gather contains only zeros; of a root, the user
 *       half does.
 *
 * Locking.  None here.  Slots are filled with compare-and-swap; two CPUs that need the same table
 * both make one, the loser frees its own.  What must not run beside faults says "exclusive" in
 * pt.h, and the caller holds the space's write lock.
 *
 * Failure.  Creating a table is the only thing that can fail.  It fails before anything that the
 * caller could see has changed; tables created on the way stay linked, empty, and go with their
 * range.  Splitting takes its table up front.
 *
 * Cost.  A look-up of 4 levels is about 40 instructions, inline.  A span costs one walk for 512
 * entries.  Freeing tables costs a few instructions when there is nothing to free.
 *
 * Empty tables.  Counting present entries in each table would tell exactly when one is empty, but
 * costs an atomic per fault and per unmap.  The bounds of the neighbouring mappings tell it for
 * nothing (Gorman, "Understanding the Linux Virtual Memory Manager", 3.4; free_pgtables): a table
 * whose whole range lies between the neighbours is used by nobody else.
 *
 * Sources.  Intel SDM volume 3A 4.5, 4.10; Navarro et al., "Practical, transparent operating system
 * support for superpages", OSDI 2002 (split keeps protection and reference bits).
 */
#include "internal.h"

static struct quire_page *root_page(q_pa root) { return quire_page_of_pfn(quire_pfn_of_pa(root)); }

/* ---- Creating ---- */

/* Make *slot, seen empty, lead to a new table.  AGAIN: somebody else put something there. */
static enum quire_status link_table(qi_pte *slot, const struct qi_table_maker *m, bool user)
{
    qi_pte empty = QI_PTE(0);
    q_pa table;

    if (!m->make(m->ctx, &table))
        return QUIRE_NO_MEMORY;
    if (qi_pte_cas(slot, &empty, qi_pte_table(table, user)))
        return QUIRE_OK;
    m->drop(m->ctx, table);
    return QUIRE_AGAIN;
}

enum quire_status qi_pt_slot_make(q_pa root, uint64_t va, unsigned want,
                                  const struct qi_table_maker *m, qi_pte **slot, unsigned *level,
                                  uint64_t *made)
{
    qi_pte *p = &qi_pt_entries(root)[qi_pt_index(va, QI_PT_TOP)];
    bool user = qi_pt_index(va, QI_PT_TOP) < QI_PT_KERNEL_SLOT;
    unsigned l = QI_PT_TOP;

    while (l > want) {
        qi_pte e = qi_pte_load_link(p);

        if (qi_pte_none(e)) {
            enum quire_status s = link_table(p, m, user);

            if (s == QUIRE_NO_MEMORY)
                return s;
            *made += s == QUIRE_OK;
            continue; /* look again: it is there now, whoever made it */
        }
        if (!qi_pte_leads(e))
            break; /* a leaf */
        p = &qi_pt_entries(qi_pte_pa(e))[qi_pt_index(va, --l)];
    }
    *slot = p;
    *level = l;
    return QUIRE_OK;
}

enum quire_status qi_pt_slot_alloc_slow(q_pa root, uint64_t va, unsigned want, qi_pte **slot,
                                        unsigned *level)
{
    uint64_t made = 0;
    enum quire_status s = qi_pt_slot_make(root, va, want, &qi_frame_tables, slot, level, &made);

    if (made)
        qi_fetch_add_relaxed(&root_page(root)->index, (uint32_t)made);
    return s;
}

/* ---- Walking ---- */

bool qi_pt_next(q_pa root, uint64_t *va, uint64_t last, unsigned want, qi_pte **slot,
                unsigned *level)
{
    uint64_t at = *va;
    unsigned l = QI_PT_TOP;
    qi_pte *p = &qi_pt_entries(root)[qi_pt_index(at, l)];

    if (at > last)
        return false;
    for (;;) {
        qi_pte e;

        if (l == 0)
            break;
        e = qi_pte_load_link(p);
        if (qi_pte_none(e)) {
            at = (at | (QI_PT_SIZE(l) - 1)) + 1;
            if (at == 0 || at > last)
                return false;
            if (qi_pt_index(at, l) != 0) {
                p++;
                continue;
            }
            l = QI_PT_TOP; /* ran off this table: from the root again */
            p = &qi_pt_entries(root)[qi_pt_index(at, l)];
            continue;
        }
        if (l == want || !qi_pte_leads(e))
            break;
        l--;
        p = &qi_pt_entries(qi_pte_pa(e))[qi_pt_index(at, l)];
    }
    *va = at;
    *slot = p;
    *level = l;
    return true;
}

bool qi_pt_find_span(q_pa root, uint64_t *cursor, uint64_t end, struct qi_span *s)
{
    uint64_t va = *cursor, stop;

    s->ptes = qi_pt_slot(root, va, 0, &s->level); /* mostly something is there */
    if (!s->ptes && !qi_pt_next(root, &va, end - 1, 0, &s->ptes, &s->level)) {
        *cursor = end;
        return false;
    }
    /* a level-0 run ends with its table, a huge leaf with itself */
    stop = va | (QI_LIKELY(!s->level) ? QI_PT_SIZE(1) - 1 : QI_PT_SIZE(s->level) - 1);
    stop = QI_MIN(stop, end - 1) + 1;
    s->va = va;
    s->end = stop;
    s->n = s->level ? 1 : (unsigned)((stop - va + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
    *cursor = stop;
    return true;
}

/* ---- Changing the shape ---- */

bool qi_pt_split(q_pa root, qi_pte *slot, qi_pte old, unsigned level, struct quire_page *table)
{
    qi_pte *parts = quire_page_ptr(table), now = old;
    qi_pte link = qi_pte_table(quire_pa_of_page(table), qi_pte_user(old));

    QI_CHECK(level >= 1 && level <= QI_PT_LEAF_MAX && qi_pte_huge(old) && qi_pte_present(old),
             "pt: split of %#llx at level %u", (unsigned long long)old.v, level);
    do {
        for (unsigned i = 0; i < QI_PT_ENTRIES; i++)
            parts[i] = qi_pte_part(now, i, level);
        if (qi_pte_cas(slot, &now, link)) {
            qi_fetch_add_relaxed(&root_page(root)->index, 1);
            return true;
        }
        /* only accessed or dirty, set by the hardware meanwhile: take them over */
    } while (qi_pte_mkyoung(qi_pte_mkdirty(now)).v == qi_pte_mkyoung(qi_pte_mkdirty(old)).v);
    qport_clear_page(parts);
    return false;
}

enum quire_status qi_pt_move(q_pa root, uint64_t from, uint64_t to, unsigned level)
{
    enum quire_status s;
    unsigned l;
    qi_pte *source = qi_pt_slot(root, from, level, &l), *target;

    QI_CHECK(qi_is_aligned(from | to, QI_PT_SIZE(level)), "pt: move %#llx to %#llx at level %u",
             (unsigned long long)from, (unsigned long long)to, level);
    if (!source)
        return QUIRE_NOT_FOUND;
    if (l != level)
        return QUIRE_EXISTS;
    if (qi_pte_none(qi_pte_load(source)))
        return QUIRE_NOT_FOUND;
    s = qi_pt_slot_alloc(root, to, level, &target, &l);
    if (s != QUIRE_OK)
        return s;
    if (l != level || !qi_pte_none(qi_pte_load(target)))
        return QUIRE_EXISTS;
    qi_pte_set(target, qi_pte_xchg(source, QI_PTE(0)));
    return QUIRE_OK;
}

/* Unlink all tables whose slots of this level lie in [lo, hi).  Returns how many. */
static uint32_t free_level(struct qi_gather *g, q_pa root, unsigned level, uint64_t lo, uint64_t hi)
{
    uint32_t freed = 0;
    qi_pte *slot;
    unsigned l;

    for (uint64_t va = lo; va < hi && qi_pt_next(root, &va, hi - 1, level, &slot, &l);
         va = (va | (QI_PT_SIZE(l) - 1)) + 1) {
        qi_pte e = qi_pte_load(slot);

        QI_CHECK(l == level && qi_pte_leads(e), "pt: leaf %#llx left at %#llx, level %u",
                 (unsigned long long)e.v, (unsigned long long)va, l);
        qi_pte_set(slot, QI_PTE(0));
        qi_gather_table(g, quire_page_of_pfn(quire_pfn_of_pa(qi_pte_pa(e))));
        freed++;
    }
    return freed;
}

void qi_pt_free_tables(struct qi_gather *g, q_pa root, uint64_t start, uint64_t end, uint64_t floor,
                       uint64_t ceiling)
{
    uint32_t freed = 0;

    QI_ASSERT(floor <= start && start <= end && end <= ceiling);
    for (unsigned level = 1; level <= QI_PT_TOP; level++) {
        uint64_t size = QI_PT_SIZE(level);
        uint64_t lo = qi_align_down(start, size), hi = qi_align_up(end, size);

        if (lo < floor)
            lo += size;
        if (hi > ceiling)
            hi -= size;
        if (lo >= hi)
            break; /* then no larger unit fits either */
        freed += free_level(g, root, level, lo, hi);
    }
    if (freed)
        qi_fetch_sub_relaxed(&root_page(root)->index, freed);
}
