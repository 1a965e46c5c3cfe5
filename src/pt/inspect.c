/*
 * pt/inspect.c - looking at tables: one translation, or a listing.  Reads only; the caller keeps
 * the tree from being taken apart meanwhile.
 */
#include <quire/format.h>
#include "internal.h"

#define ALLOW (QUIRE_WRITE | QUIRE_EXEC | QUIRE_USER) /* what every level must grant */

void quire_pt_translate(q_pa root, uint64_t va, struct quire_translation *out)
{
    qi_pte *table = qi_pt_entries(root);
    unsigned allowed = ALLOW;

    *out = (struct quire_translation){0};
    if (!qi_pt_canonical(va))
        return;
    for (unsigned l = QI_PT_TOP;; l--) {
        qi_pte e = qi_pte_load(&table[qi_pt_index(va, l)]);
        unsigned prot = qi_pte_prot(e);

        out->entry = e.v;
        out->leaf_shift = QI_PT_SHIFT(l);
        allowed &= prot;
        if (l && qi_pte_leads(e)) {
            table = qi_pt_entries(qi_pte_pa(e));
            continue;
        }
        if (!qi_pte_valid(e))
            return;
        out->present = true;
        out->prot = (prot & ~ALLOW) | allowed;
        out->accessed = qi_pte_accessed(e);
        out->dirty = qi_pte_dirty(e);
        out->pa = Q_PA((qi_pte_pa(e).v & ~(QI_PT_SIZE(l) - 1)) | (va & (QI_PT_SIZE(l) - 1)));
        return;
    }
}

/* ---- Dump ---- */

struct run {
    uint64_t start, last; /* inclusive, so that the end of the address space has a number */
    unsigned prot, level;
    uint64_t leaves;
    enum quire_cache_type cache;
    bool special;
};

struct dump {
    void (*emit)(void *ctx, const char *line);
    void *ctx;
    struct run run;
};

static void dump_flush(struct dump *d)
{
    static const char *const sizes[] = {"4K", "2M", "1G"}, *const caches[] = {"wb", "wc", "uc"};
    const struct run *r = &d->run;
    char line[128];

    if (!r->leaves)
        return;
    quire_snprintf(line, sizeof line, "%016llx-%016llx %10lluK %c%c%c%c%c %s %s%s",
                   (unsigned long long)r->start, (unsigned long long)r->last,
                   (unsigned long long)((r->last - r->start + 1) / 1024),
                   r->prot & QUIRE_READ ? 'r' : '-', r->prot & QUIRE_WRITE ? 'w' : '-',
                   r->prot & QUIRE_EXEC ? 'x' : '-', r->prot & QUIRE_USER ? 'u' : 'k',
                   r->prot & QUIRE_GLOBAL ? 'g' : '-', sizes[r->level], caches[r->cache],
                   r->special ? " special" : "");
    d->emit(d->ctx, line);
    d->run.leaves = 0;
}

static void dump_leaf(struct dump *d, q_pa root, uint64_t va, uint64_t last, qi_pte e,
                      unsigned level)
{
    struct quire_translation t;
    struct run *r = &d->run;

    quire_pt_translate(root, va, &t);
    if (!t.present)
        t.prot = qi_pte_prot(e); /* no access: still whose it is */
    if (r->leaves && r->last + 1 == va && r->prot == t.prot && r->level == level &&
        r->cache == qi_pte_cache(e) && r->special == qi_pte_special(e)) {
        r->last = last;
        r->leaves++;
        return;
    }
    dump_flush(d);
    *r = (struct run){.start = va,
                      .last = last,
                      .prot = t.prot,
                      .level = level,
                      .leaves = 1,
                      .cache = qi_pte_cache(e),
                      .special = qi_pte_special(e)};
}

/* [va, last] lies in one half. */
static void dump_half(struct dump *d, q_pa root, uint64_t va, uint64_t last)
{
    qi_pte *slot;
    unsigned level;

    while (va <= last && qi_pt_next(root, &va, last, 0, &slot, &level)) {
        uint64_t end = QI_MIN(va | (QI_PT_SIZE(level) - 1), last);
        qi_pte e = qi_pte_load(slot);

        if (qi_pte_present(e))
            dump_leaf(d, root, va, end, e, level);
        va = end + 1;
        if (!va)
            break;
    }
}

void quire_pt_dump(q_pa root, uint64_t from, uint64_t to, void (*emit)(void *ctx, const char *line),
                   void *ctx)
{
    const uint64_t user_last = QI_PT_SIZE(QI_PT_LEVELS) / 2 - 1, kernel_first = ~user_last;
    struct dump d = {.emit = emit, .ctx = ctx};
    uint64_t last = to - 1; /* to == 0: the end of the address space */

    from = qi_align_down(from, QUIRE_PAGE_SIZE);
    if (from > last)
        return;
    if (from <= user_last)
        dump_half(&d, root, from, QI_MIN(last, user_last));
    if (last >= kernel_first)
        dump_half(&d, root, QI_MAX(from, kernel_first), last);
    dump_flush(&d);
}
