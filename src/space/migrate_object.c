/*
 * space/migrate_object.c - moving pages of objects: page cache and shared memory.
 *
 * The object's map_lock is held for writing while its pages of one part of the range move (theory:
 * migrate.c).  Who has a page in hand (read(2), write(2), write-back) has a reference, and the page stays; who
 * comes for it needs the tree's lock, under which it is compared, copied and replaced.
 *
 * The mark of a write that only a leaf has goes to the page before the leaf can be taken away by
 * munmap, which would note it in a page that is the object's no more.
 */
#include "migrate.h"

/* Pages of an object that move, as a list: the first is at index - 1 of m->to, each names the next in prev. */
typedef uint32_t chain;

static struct quire_page *old_page(const struct qi_move *m, chain c)
{
    return quire_page_of_pfn(Q_PFN(m->first + c - 1));
}

/* The page of a slot of the tree, if it is in the part. */
static struct quire_page *page_in_part(const struct qi_move *m, uint64_t entry)
{
    struct quire_page *page = (struct quire_page *)(uintptr_t)entry;

    return page && quire_pfn_of_page(page).v - m->first < m->n ? page : NULL;
}

/* Pages of o that are in the part, of the lowest node at or behind *index, at places of it: a reference
 * each, if pages is given.  *index: behind them; false: no more nodes. */
static bool look_at_node(const struct qi_move *m, struct quire_object *o, uint64_t *index,
                         struct quire_page **pages, unsigned *n)
{
    const struct qi_pagetree_node *node;

    *n = 0;
    qi_spin_lock(&o->tree_lock);
    node = qi_pagetree_leaf(&o->tree, index);
    for (unsigned k = 0; node && k < QI_PAGETREE_SLOTS; k++) {
        struct quire_page *page = page_in_part(m, node->slots[k]);

        if (!page)
            continue;
        if (pages) {
            qi_fetch_add_relaxed(&page->refs, 1u);
            pages[*n] = page;
        }
        ++*n;
    }
    qi_spin_unlock(&o->tree_lock);
    *index += QI_PAGETREE_SLOTS;
    return node;
}

static bool concerned(const struct qi_move *m, struct quire_object *o)
{
    uint64_t index = 0;
    unsigned n = 0;

    while (!n && look_at_node(m, o, &index, NULL, &n)) {
    }
    return n;
}

/* Take what moves: old pages with a reference, a new one for each. */
static chain collect(struct qi_move *m, struct quire_object *o)
{
    struct quire_page *pages[QI_PAGETREE_SLOTS];
    uint64_t index = 0;
    chain c = 0;
    unsigned n;

    while (look_at_node(m, o, &index, pages, &n))
        for (unsigned k = 0; k < n; k++) {
            struct quire_page *new = qi_move_alloc(m, pages[k], 0);

            if (!new) {
                quire_page_put(pages[k]);
                continue;
            }
            new->prev = c;
            c = (chain)(quire_pfn_of_page(pages[k]).v - m->first + 1);
            m->to[c - 1] = new;
        }
    return c;
}

/* The slot of v for the page, or NULL. */
static qi_pte *slot_of(const struct qi_vma *v, uint64_t index, uint64_t *va)
{
    unsigned level;
    qi_pte *slot;

    if (index < v->pgoff || index - v->pgoff >= qi_vma_pages(v))
        return NULL;
    *va = qi_vma_address(v, index);
    slot = qi_pt_lookup(v->space->tlb.root, *va, &level);
    return slot && !level ? slot : NULL;
}

/* Close the leaves of v for the pages of c, and flush. */
static void close_vma(struct qi_move *m, struct qi_vma *v, chain c)
{
    uint64_t first = ~0ull, last = 0, va;

    for (; c; c = m->to[c - 1]->prev) {
        struct quire_page *old = old_page(m, c);
        qi_pte *slot = slot_of(v, old->index, &va), e;

        if (!slot)
            continue;
        e = qi_move_mark(slot, old);
        if (qi_pte_none(e))
            continue;
        if (qi_pte_dirty(e))
            quire_object_dirty(v->object, old);
        m->to[c - 1]->next++;
        first = QI_MIN(first, va);
        last = QI_MAX(last, va + QUIRE_PAGE_SIZE);
    }
    if (first < last)
        qi_tlb_flush(&v->space->tlb, first, last, false);
}

static void reopen_vma(struct qi_move *m, struct qi_vma *v, chain c)
{
    uint64_t va;

    for (; c; c = m->to[c - 1]->prev) {
        struct quire_page *old = old_page(m, c), *new = m->to[c - 1];
        qi_pte *slot = slot_of(v, old->index, &va);

        if (slot)
            qi_move_settle(slot, old, qi_move_landed(new) ? new : NULL);
    }
}

static void move_pages(struct qi_move *m, struct quire_object *o, chain first)
{
    struct qi_vma *v;

    qi_list_for_each (v, &o->vmas, object_link)
        close_vma(m, v, first);
    for (chain c = first; c; c = m->to[c - 1]->prev) {
        struct quire_page *new = m->to[c - 1];

        /* leaves, the tree, and the mover */
        (void)qi_object_replace(o, old_page(m, c), new, new->next *QUIRE_PAGE_ONE_MAPPING + 2);
    }
    qi_list_for_each (v, &o->vmas, object_link)
        reopen_vma(m, v, first);
    qi_move_wake();
}

static void move_object(struct qi_move *m, struct quire_object *o)
{
    chain c;

    if (!concerned(m, o))
        return;
    qi_rwsem_write_lock(&o->map_lock);
    c = collect(m, o);
    if (c)
        move_pages(m, o, c);
    while (
        c) { /* before a truncation takes a new page away again, and with it what says that it landed */
        uint64_t i = c - 1;
        struct quire_page *old = old_page(m, c);

        c = m->to[i]->prev;
        qi_move_end(m, i, old);
    }
    qi_rwsem_write_unlock(&o->map_lock);
}

void qi_move_objects(struct qi_move *m)
{
    struct quire_object *next;

    for (struct quire_object *o = qi_object_after(NULL); o; o = next) {
        move_object(m, o);
        next = qi_object_after(o);
        quire_object_put(o);
    }
}
