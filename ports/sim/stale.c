/*
 * stale.c - the oracle of the memory management units: what is cached must not outlive what it
 * refers to.  See M5 and M6 in mmu.c.
 */
#include "tlb.h"

typedef unsigned long long ull;

bool lasting(uint64_t va)
{
    return mmu.config.lasting_high && va >= mmu.config.lasting_low && va <= mmu.config.lasting_high;
}

/* ---- Counters ---- */

void count_entry(const struct tlb_entry *e, int by)
{
    uint64_t pfn = e->pa >> WALK_PAGE_SHIFT;

    if (pfn >= mmu.config.frames)
        return;
    if (e->shift == walk_shift(0)) {
        mmu.count.page[pfn] += (uint32_t)by;
        mmu.count.pages_in_huge[pfn >> 9] += (uint32_t)by;
    } else if (e->shift == walk_shift(1)) {
        mmu.count.huge[pfn >> 9] += (uint32_t)by;
    } else {
        mmu.count.giant[pfn >> 18] += (uint32_t)by;
    }
}

void count_table(uint64_t table, int by)
{
    if (table >> WALK_PAGE_SHIFT < mmu.config.frames)
        mmu.count.table[table >> WALK_PAGE_SHIFT] += (uint32_t)by;
}

uint32_t frame_generation(uint64_t pa)
{
    uint64_t pfn = pa >> WALK_PAGE_SHIFT;

    return pfn < mmu.config.frames ? mmu.count.generation[pfn] : 0;
}

static bool is_free(uint64_t pa) { return frame_generation(pa) & 1; }

/* ---- Reports ---- */

static const char *mode_name(enum walk_mode mode)
{
    return mode == WALK_SPECULATIVE ? "speculation" : "an access";
}

static void note_origin(const struct origin *o)
{
    sim_note("  made of entry %#llx at %#llx, at point %llu by %s of task %u", (ull)o->entry,
             (ull)o->entry_pa, (ull)o->point, mode_name(o->mode), o->task);
}

static void note_entry(const struct mmu_cpu *c, const struct tlb_entry *e)
{
    static const char letters[] = "rwxRWX"; /* kernel, user */
    char perms[7];

    for (unsigned i = 0; i < 6; i++)
        perms[i] = e->perms >> i & 1 ? letters[i] : '-';
    perms[6] = 0;
    sim_note("TLB of CPU %u: va %#llx asid %u -> pa %#llx, 2^%u bytes of a leaf of 2^%u, %s%s%s%s",
             c->number, (ull)e->va, e->asid, (ull)e->pa, e->shift, e->leaf_shift, perms,
             e->dirty ? ", dirty" : "", e->global ? ", global" : "", e->stale ? ", stale" : "");
    note_origin(&e->origin);
    if (e->stale)
        sim_note("  its frame was freed at point %llu, when the CPU could not use the entry",
                 (ull)e->stale_point);
    sim_note("  generation of the frame: %u when filled, %u now", e->generation,
             frame_generation(e->pa));
}

static void note_flushes(const struct mmu_cpu *c)
{
    static const char *const names[] = {
        [FLUSHED_PAGE] = "flushed page",         [FLUSHED_ASID] = "flushed asid",
        [FLUSHED_ALL] = "flushed all",           [LOADED_KEEP] = "loaded root, keeping",
        [LOADED_DROP] = "loaded root, dropping", [LOADED_HIGH] = "loaded high root",
    };
    uint64_t n = c->flushes < FLUSH_HISTORY ? c->flushes : FLUSH_HISTORY;

    sim_note("CPU %u has root %#llx, asid %u%s; its last %llu of %llu flushes:", c->number,
             (ull)c->root, c->asid, c->lazy ? ", lazy" : "", (ull)n, (ull)c->flushes);
    for (uint64_t i = c->flushes - n; i < c->flushes; i++) {
        const struct flush *f = &c->flush[i % FLUSH_HISTORY];

        sim_note("  point %llu, task %u: %s %#llx asid %u", (ull)f->point, f->task, names[f->kind],
                 (ull)f->what, f->asid);
    }
}

static void note_walk(const struct mmu_cpu *c, const struct walk_entry *e)
{
    sim_note("walk cache of CPU %u: va %#llx asid %u -> table %#llx of level %u%s", c->number,
             (ull)e->va, e->asid, (ull)e->table, e->level, e->stale ? ", stale" : "");
    note_origin(&e->origin);
}

void mmu_report_cpu(unsigned cpu)
{
    struct mmu_cpu *c = &mmu.cpu[cpu];

    for (unsigned i = 0; i < c->tlb_used; i++)
        if (c->tlb[i].valid)
            note_entry(c, &c->tlb[i]);
    for (unsigned i = 0; i < mmu.config.walk_entries; i++)
        if (c->walks[i].valid)
            note_walk(c, &c->walks[i]);
    note_flushes(c);
}

void fail_stale_entry(struct mmu_cpu *c, const struct tlb_entry *e, const char *why)
{
    note_entry(c, e);
    note_flushes(c);
    sim_frame_history(e->pa >> WALK_PAGE_SHIFT);
    sim_fail("stale-tlb", "entry of CPU %u for %#llx, asid %u, to frame %#llx %s", c->number,
             (ull)e->va, e->asid, (ull)e->pa >> WALK_PAGE_SHIFT, why);
}

void fail_stale_walk(struct mmu_cpu *c, const struct walk_entry *e, const char *why)
{
    note_walk(c, e);
    note_flushes(c);
    sim_frame_history(e->table >> WALK_PAGE_SHIFT);
    sim_fail("stale-walk-cache", "table %#llx that CPU %u has cached for %#llx, asid %u, %s",
             (ull)e->table >> WALK_PAGE_SHIFT, c->number, (ull)e->va, e->asid, why);
}

/* ---- Walks through what is free ---- */

static _Noreturn void fail_freed(struct mmu_cpu *c, const struct walk *w, uint64_t pa,
                                 const char *kind)
{
    for (unsigned i = 0; i < w->reads; i++)
        sim_note("walk of CPU %u for %#llx: level %u, entry %#llx at %#llx", c->number, (ull)w->va,
                 w->read[i].level, (ull)w->read[i].value, (ull)w->read[i].pa);
    note_flushes(c);
    sim_frame_history(pa >> WALK_PAGE_SHIFT);
    sim_fail(kind, "%s on CPU %u for %#llx goes to frame %#llx, which is free", mode_name(w->mode),
             c->number, (ull)w->va, (ull)pa >> WALK_PAGE_SHIFT);
}

void check_walk(struct mmu_cpu *c, const struct walk *w)
{
    for (unsigned i = 0; i < w->reads; i++)
        if (is_free(w->read[i].pa))
            fail_freed(c, w, w->read[i].pa, "freed-table");
    if (w->result == MMU_OK && !lasting(w->va) && is_free(w->pa))
        fail_freed(c, w, w->pa, "freed-frame");
}

void check_root(struct mmu_cpu *c, uint64_t root)
{
    if (root & 0xfff || !mmu.config.machine.at(mmu.config.machine.ctx, root))
        sim_fail("bad-root", "CPU %u is to load root %#llx", c->number, (ull)root);
    if (!is_free(root))
        return;
    note_flushes(c);
    sim_frame_history(root >> WALK_PAGE_SHIFT);
    sim_fail("stale-root", "CPU %u is to load root %#llx, which is free", c->number, (ull)root);
}

/* ---- Frames and tables go ---- */

void mmu_frame_allocated(uint64_t pfn, unsigned order)
{
    for (uint64_t i = pfn; i < pfn + (1ull << order) && i < mmu.config.frames; i++)
        mmu.count.generation[i] = (mmu.count.generation[i] + 1) & ~1u;
}

static bool overlaps(const struct tlb_entry *e, uint64_t from, uint64_t to)
{
    return e->valid && e->counted && e->pa < to && from < e->pa + ((uint64_t)1 << e->shift);
}

/* Somebody has an entry to one of the frames. */
static void find_entries(uint64_t from, uint64_t to)
{
    mmu.stats.checks++;
    for (unsigned cpu = 0; cpu < mmu.config.cpus; cpu++) {
        struct mmu_cpu *c = &mmu.cpu[cpu];

        for (unsigned i = 0; i < c->tlb_used; i++) {
            struct tlb_entry *e = &c->tlb[i];

            if (!overlaps(e, from, to) || e->stale)
                continue;
            if (usable(c, e->asid, e->global, e->va))
                fail_stale_entry(c, e, "is still there when the frame is freed");
            e->stale = true;
            e->stale_point = sim_points();
        }
    }
}

static bool counted(uint64_t pfn, uint64_t end)
{
    for (uint64_t h = pfn >> 9; h <= (end - 1) >> 9; h++) {
        if (mmu.count.huge[h] || mmu.count.giant[h >> 9])
            return true;
        if (!mmu.count.pages_in_huge[h])
            continue;
        for (uint64_t i = pfn > h << 9 ? pfn : h << 9; i < end && i < (h + 1) << 9; i++)
            if (mmu.count.page[i])
                return true;
    }
    return false;
}

void mmu_frame_freed(uint64_t pfn, unsigned order)
{
    uint64_t end = pfn + (1ull << order);

    if (end > mmu.config.frames)
        end = mmu.config.frames;
    if (pfn >= end)
        return;
    if (counted(pfn, end))
        find_entries(pfn << WALK_PAGE_SHIFT, end << WALK_PAGE_SHIFT);
    for (uint64_t i = pfn; i < end; i++)
        mmu.count.generation[i] |= 1;
}

static void find_walks(uint64_t table)
{
    mmu.stats.checks++;
    for (unsigned cpu = 0; cpu < mmu.config.cpus; cpu++) {
        struct mmu_cpu *c = &mmu.cpu[cpu];

        for (unsigned i = 0; i < mmu.config.walk_entries; i++) {
            struct walk_entry *e = &c->walks[i];

            if (!e->valid || e->table != table || e->stale)
                continue;
            if (e->asid == c->asid)
                fail_stale_walk(c, e, "is still there when the table is freed");
            e->stale = true;
        }
    }
}

void mmu_table_freed(uint64_t pfn)
{
    uint64_t table = pfn << WALK_PAGE_SHIFT;

    if (pfn < mmu.config.frames && mmu.count.table[pfn])
        find_walks(table);
    for (unsigned cpu = 0; cpu < mmu.config.cpus; cpu++) {
        struct mmu_cpu *c = &mmu.cpu[cpu];

        if (c->root != table && c->high_root != table)
            continue;
        note_flushes(c);
        sim_frame_history(pfn);
        sim_fail("stale-root", "frame %#llx is freed while CPU %u translates through it", (ull)pfn,
                 cpu);
    }
}

void mmu_check_cpu(unsigned cpu)
{
    struct mmu_cpu *c = &mmu.cpu[cpu];

    for (unsigned i = 0; i < c->tlb_used; i++) {
        struct tlb_entry *e = &c->tlb[i];

        if (e->valid && e->stale && usable(c, e->asid, e->global, e->va))
            fail_stale_entry(c, e, "was not flushed before the CPU may use it again");
    }
    for (unsigned i = 0; i < mmu.config.walk_entries; i++) {
        struct walk_entry *e = &c->walks[i];

        if (e->valid && e->stale && e->asid == c->asid)
            fail_stale_walk(c, e, "was not flushed before the CPU may use it again");
    }
}

void mmu_set_lazy(unsigned cpu, bool lazy)
{
    mmu.cpu[cpu].lazy = lazy;
    if (!lazy)
        mmu_check_cpu(cpu);
}

/* ---- The simulator's own soundness ---- */

static void verify_entry(const struct mmu_cpu *c, const struct tlb_entry *e)
{
    if (e->shift > e->leaf_shift || (e->va | e->pa) & (((uint64_t)1 << e->shift) - 1) || !e->perms)
        sim_fail("mmu", "CPU %u has an impossible entry for %#llx", c->number, (ull)e->va);
    if (e->counted && is_free(e->pa) && !e->stale && e->shift == WALK_PAGE_SHIFT)
        sim_fail("mmu", "CPU %u has an entry for %#llx to a free frame", c->number, (ull)e->va);
}

void mmu_verify(void)
{
    struct counters *k = &mmu.count;
    uint64_t entries = 0, tables = 0;

    for (unsigned cpu = 0; cpu < mmu.config.cpus; cpu++) {
        const struct mmu_cpu *c = &mmu.cpu[cpu];

        for (unsigned i = 0; i < c->tlb_used; i++) {
            const struct tlb_entry *e = &c->tlb[i];

            if (!e->valid)
                continue;
            verify_entry(c, e);
            entries += e->counted && e->pa >> WALK_PAGE_SHIFT < mmu.config.frames;
        }
        for (unsigned i = 0; i < mmu.config.walk_entries; i++)
            tables += c->walks[i].valid && c->walks[i].table >> WALK_PAGE_SHIFT < mmu.config.frames;
    }
    for (uint64_t i = 0; i < mmu.config.frames; i++) {
        entries -=
            k->page[i] + (i % 512 ? 0 : k->huge[i >> 9]) + (i % (1 << 18) ? 0 : k->giant[i >> 18]);
        tables -= k->table[i];
    }
    if (entries || tables)
        sim_fail("mmu", "counters are off by %lld entries and %lld tables", (long long)entries,
                 (long long)tables);
}
