/*
 * tlb.c - what the CPUs have cached: entries, fragments, tables on the way, and flushes.
 *
 * Sources: Intel SDM volume 3A 4.10 (TLBs, paging-structure caches, which invalidation drops what,
 * 4.10.2.3 fragments of huge pages); Arm ARM D8.16 (TLB maintenance); RISC-V privileged
 * specification, SFENCE.VMA.
 */
#include "tlb.h"

/* ---- Entries ---- */

static void entry_drop(struct tlb_entry *e)
{
    if (e->valid && e->counted)
        count_entry(e, -1);
    e->valid = false;
}

static void walk_drop(struct walk_entry *e)
{
    if (e->valid)
        count_table(e->table, -1);
    e->valid = false;
}

static bool translates(const struct mmu_cpu *c, const struct tlb_entry *e, uint64_t va)
{
    return e->valid && (e->global || e->asid == c->asid) && !((e->va ^ va) >> e->shift);
}

/* Several entries may translate one address: a page and the huge page that it was part of.  The
 * hardware may use any (4.10.2.3), and so does this. */
struct tlb_entry *tlb_find(struct mmu_cpu *c, uint64_t va)
{
    struct tlb_entry *found = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < c->tlb_used; i++) {
        if (!translates(c, &c->tlb[i], va))
            continue;
        n++;
        if (n == 1 || !sim_below(SIM_RANDOM_TLB, n))
            found = &c->tlb[i];
    }
    return found;
}

void tlb_drop_address(struct mmu_cpu *c, uint64_t va)
{
    for (unsigned i = 0; i < c->tlb_used; i++)
        if (translates(c, &c->tlb[i], va))
            entry_drop(&c->tlb[i]);
    for (unsigned i = 0; i < mmu.config.walk_entries; i++) {
        struct walk_entry *e = &c->walks[i];

        if (e->valid && e->asid == c->asid && !((e->va ^ va) >> walk_shift(e->level + 1u)))
            walk_drop(e);
    }
}

/* A huge page may be cached whole or as any smaller page that contains va. */
static unsigned cached_shift(unsigned leaf_shift)
{
    unsigned most = leaf_shift > 30 ? 30 : leaf_shift;
    unsigned sizes = (most - WALK_PAGE_SHIFT) / WALK_BITS + 1;

    return WALK_PAGE_SHIFT + WALK_BITS * (unsigned)sim_below(SIM_RANDOM_TLB, sizes);
}

static struct origin origin_of(const struct walk *w, const struct walk_read *r)
{
    return (struct origin){.point = sim_points(),
                           .task = sim_task_number(),
                           .mode = w->mode,
                           .entry_pa = r->pa,
                           .entry = r->value};
}

/* Some place: an empty one if there is any, else a random one. */
static unsigned tlb_place(struct mmu_cpu *c)
{
    for (unsigned i = 0; i < c->tlb_used; i++)
        if (!c->tlb[i].valid)
            return i;
    if (c->tlb_used < mmu.config.tlb_entries)
        return c->tlb_used++;
    return (unsigned)sim_below(SIM_RANDOM_TLB, mmu.config.tlb_entries);
}

/* After many entries went: look no further than the last that is left. */
static void tlb_shrink(struct mmu_cpu *c)
{
    while (c->tlb_used && !c->tlb[c->tlb_used - 1].valid)
        c->tlb_used--;
}

void tlb_fill(struct mmu_cpu *c, const struct walk *w)
{
    unsigned shift = cached_shift(w->shift);
    uint64_t va = page_base(w->va, shift);
    struct tlb_entry *e = NULL;

    if (sim_one_in(SIM_RANDOM_TLB, 16))
        return; /* kept for this one access only */
    for (unsigned i = 0; i < c->tlb_used && !e; i++)
        if (translates(c, &c->tlb[i], va) && c->tlb[i].shift == shift)
            e = &c->tlb[i]; /* the newer of the same */
    if (!e)
        e = &c->tlb[tlb_place(c)];
    entry_drop(e);
    *e = (struct tlb_entry){.valid = true,
                            .global = w->global,
                            .dirty = w->dirty,
                            .counted = !lasting(va),
                            .shift = (uint8_t)shift,
                            .leaf_shift = (uint8_t)w->shift,
                            .perms = (uint8_t)w->perms,
                            .memory = (uint8_t)w->memory,
                            .asid = c->asid,
                            .va = va,
                            .pa = page_base(w->pa, shift),
                            .origin = origin_of(w, &w->read[w->reads - 1])};
    e->generation = frame_generation(e->pa);
    if (e->counted)
        count_entry(e, 1);
    mmu.stats.fills++;
}

/* ---- Tables on the way ---- */

static void walk_keep(struct mmu_cpu *c, const struct walk *w, const struct walk_read *r)
{
    unsigned level = r->level - 1;
    uint64_t va = page_base(w->va, walk_shift(r->level));
    struct walk_entry *e = NULL;

    for (unsigned i = 0; i < mmu.config.walk_entries; i++) {
        struct walk_entry *at = &c->walks[i];

        if (at->valid && at->asid == c->asid && at->level == level && at->va == va) {
            e = at;
            break;
        }
        if (!at->valid && !e)
            e = at;
    }
    if (!e)
        e = &c->walks[sim_below(SIM_RANDOM_TLB, mmu.config.walk_entries)];
    walk_drop(e);
    *e = (struct walk_entry){.valid = true,
                             .level = (uint8_t)level,
                             .asid = c->asid,
                             .va = va,
                             .table = r->table,
                             .inherited = r->inherited,
                             .origin = origin_of(w, r)};
    count_table(e->table, 1);
}

void walks_fill(struct mmu_cpu *c, const struct walk *w)
{
    for (unsigned i = 0; i < w->reads; i++)
        if (w->read[i].level && w->read[i].table != WALK_NO_TABLE && !sim_one_in(SIM_RANDOM_TLB, 3))
            walk_keep(c, w, &w->read[i]);
}

bool walks_start(struct mmu_cpu *c, struct walk *w)
{
    struct walk_entry *found = NULL;
    unsigned n = 1; /* the root is one of the choices */

    for (unsigned i = 0; i < mmu.config.walk_entries; i++) {
        struct walk_entry *e = &c->walks[i];

        if (e->valid && e->asid == c->asid && !((e->va ^ w->va) >> walk_shift(e->level + 1u)) &&
            sim_below(SIM_RANDOM_TLB, ++n))
            found = e;
    }
    if (!found)
        return false;
    if (found->stale)
        fail_stale_walk(c, found, "is used");
    w->level = found->level;
    w->table = found->table;
    w->inherited = found->inherited;
    return true;
}

/* ---- Flushes ---- */

static void remember(struct mmu_cpu *c, enum flush_kind kind, uint64_t what, unsigned asid)
{
    c->flush[c->flushes++ % FLUSH_HISTORY] = (struct flush){
        .kind = kind, .asid = asid, .what = what, .task = sim_task_number(), .point = sim_points()};
    mmu.stats.flushes++;
}

static void drop_all(struct mmu_cpu *c)
{
    for (unsigned i = 0; i < c->tlb_used; i++)
        entry_drop(&c->tlb[i]);
    tlb_shrink(c);
    for (unsigned i = 0; i < mmu.config.walk_entries; i++)
        walk_drop(&c->walks[i]);
}

static void drop_asid(struct mmu_cpu *c, unsigned asid)
{
    for (unsigned i = 0; i < c->tlb_used; i++)
        if (!c->tlb[i].global && c->tlb[i].asid == asid)
            entry_drop(&c->tlb[i]);
    tlb_shrink(c);
    for (unsigned i = 0; i < mmu.config.walk_entries; i++)
        if (c->walks[i].asid == asid)
            walk_drop(&c->walks[i]);
}

/* Hardware may always drop more. */
static void drop_more(struct mmu_cpu *c, unsigned asid)
{
    if (sim_one_in(SIM_RANDOM_TLB, 64))
        drop_all(c);
    else if (sim_one_in(SIM_RANDOM_TLB, 16))
        drop_asid(c, asid);
}

void mmu_load_root(unsigned cpu, uint64_t root, unsigned asid, bool keep)
{
    struct mmu_cpu *c = &mmu.cpu[cpu];

    check_root(c, root);
    remember(c, keep ? LOADED_KEEP : LOADED_DROP, root, asid);
    c->root = root;
    c->asid = asid;
    if (!keep)
        drop_asid(c, asid);
    drop_more(c, asid);
}

void mmu_load_high_root(unsigned cpu, uint64_t root)
{
    struct mmu_cpu *c = &mmu.cpu[cpu];

    check_root(c, root);
    remember(c, LOADED_HIGH, root, c->asid);
    c->high_root = root;
}

static bool walk_goes_with_page(const struct walk_entry *e, uint64_t va, unsigned asid)
{
    if (e->asid != asid)
        return false;
    switch (mmu.config.machine.format) {
    case WALK_X86_4:
    case WALK_X86_5: return true;
    case WALK_ARM64: return !((e->va ^ va) >> walk_shift(e->level + 1u));
    default: return false;
    }
}

void mmu_flush_page(unsigned cpu, uint64_t va, unsigned asid)
{
    struct mmu_cpu *c = &mmu.cpu[cpu];

    remember(c, FLUSHED_PAGE, va, asid);
    for (unsigned i = 0; i < c->tlb_used; i++) {
        struct tlb_entry *e = &c->tlb[i];

        if ((e->global || e->asid == asid) && !((e->va ^ va) >> e->leaf_shift))
            entry_drop(e);
    }
    tlb_shrink(c);
    for (unsigned i = 0; i < mmu.config.walk_entries; i++)
        if (walk_goes_with_page(&c->walks[i], va, asid))
            walk_drop(&c->walks[i]);
    drop_more(c, asid);
}

void mmu_flush_asid(unsigned cpu, unsigned asid)
{
    remember(&mmu.cpu[cpu], FLUSHED_ASID, 0, asid);
    drop_asid(&mmu.cpu[cpu], asid);
    drop_more(&mmu.cpu[cpu], asid);
}

void mmu_flush_all(unsigned cpu)
{
    remember(&mmu.cpu[cpu], FLUSHED_ALL, 0, 0);
    drop_all(&mmu.cpu[cpu]);
}
