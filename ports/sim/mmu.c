/*
 * mmu.c - accesses of the simulated CPUs: TLB, walk, exception.
 *
 * Purpose.  Be the worst hardware that still keeps the manuals' promises, so that a flush that the
 * library forgot, or did too late, meets an access that shows it.
 *
 * Model.  A CPU has a loaded root and address-space id, a TLB and a set of cached tables.
 *
 *   M1  An entry is made only by a walk, in the id that is loaded, with accessed set in the tables.
 *   M2  What an entry allows is what the tables allowed when it was made.  A write through an entry
 *       that is not dirty walks again; so may an access that the entry denies, or it is an
 *       exception, which a fresh walk would not have been (4.10.4.3 of the SDM: at most once, as
 *       the exception drops the entries of its address; elsewhere they may stay).
 *   M3  A walk may begin at any cached table on its way, with the permissions cached with it.
 *   M4  An entry goes when it is flushed, and may go at any time.
 *   M5  Each frame has counters of the entries that translate to it (count_entry), so that
 *       mmu_frame_freed() and mmu_table_freed() cost a few loads when nothing is wrong.
 *   M6  A freed frame that an entry translates to is a finding at once, if the CPU could use the
 *       entry in its next instruction.  If it could not (another id is loaded; the CPU is lazy and
 *       the address a user's), the entry is marked and its use is the finding: such entries are
 *       what address-space ids and lazy switching leave behind by design.
 *
 * Rejected.  Comparing each hit with a fresh walk: between the change of a table and the end of its
 * flush the two differ by right, so it finds nothing that M6 does not.
 *
 * Sources: the manuals as named in walk.h; Bhattacharjee and Lustig, "Architectural and Operating
 * System Support for Virtual Memory", chapters 4 and 5.
 */
#include "tlb.h"

#include <stdlib.h>

struct mmu mmu;

/* ---- Start and end ---- */

static void *zeroed(uint64_t n, size_t size)
{
    void *p = calloc(n, size);

    if (!p)
        sim_fail("simulator", "mmu: no memory for %llu items", (unsigned long long)n);
    return p;
}

void mmu_fini(void)
{
    for (unsigned i = 0; i < SIM_MAX_CPUS; i++) {
        free(mmu.cpu[i].tlb);
        free(mmu.cpu[i].walks);
    }
    free(mmu.count.page);
    free(mmu.count.huge);
    free(mmu.count.giant);
    free(mmu.count.pages_in_huge);
    free(mmu.count.table);
    free(mmu.count.generation);
    mmu = (struct mmu){0};
}

void mmu_reset(const struct mmu_config *config)
{
    struct mmu_config *c = &mmu.config;

    mmu_fini();
    *c = *config;
    if (!c->tlb_entries)
        c->tlb_entries = 64 + (unsigned)sim_below(SIM_RANDOM_TLB, 193);
    if (!c->walk_entries)
        c->walk_entries = 16;
    if (c->cpus < 1 || c->cpus > SIM_MAX_CPUS)
        sim_fail("simulator", "mmu: %u CPUs", c->cpus);
    for (unsigned i = 0; i < c->cpus; i++)
        mmu.cpu[i] = (struct mmu_cpu){.root = NO_ROOT,
                                      .high_root = NO_ROOT,
                                      .number = i,
                                      .tlb = zeroed(c->tlb_entries, sizeof(struct tlb_entry)),
                                      .walks = zeroed(c->walk_entries, sizeof(struct walk_entry))};
    mmu.count.page = zeroed(c->frames, sizeof(uint32_t));
    mmu.count.huge = zeroed((c->frames >> 9) + 1, sizeof(uint32_t));
    mmu.count.giant = zeroed((c->frames >> 18) + 1, sizeof(uint32_t));
    mmu.count.pages_in_huge = zeroed((c->frames >> 9) + 1, sizeof(uint32_t));
    mmu.count.table = zeroed(c->frames, sizeof(uint32_t));
    mmu.count.generation = zeroed(c->frames, sizeof(uint32_t));
}

struct mmu_stats mmu_stats(void) { return mmu.stats; }

/* ---- Walks ---- */

static struct walk walk_of(const struct mmu_cpu *c, uint64_t va, enum walk_mode mode)
{
    return (struct walk){
        .va = va, .mode = mode, .cpu = c->number, .root = c->root, .high_root = c->high_root};
}

enum mmu_result mmu_walk(unsigned cpu, uint64_t va, enum mmu_kind kind, bool user, struct walk *w)
{
    *w = walk_of(&mmu.cpu[cpu], va, WALK_PURE);
    w->kind = kind;
    w->user = user;
    if (walk_from_root(&mmu.config.machine, w) != MMU_OK)
        return w->result;
    return walk_run(&mmu.config.machine, w);
}

/* Walk for real, from wherever the hardware may begin, and keep what it may keep. */
static enum mmu_result walk_and_fill(struct mmu_cpu *c, struct walk *w)
{
    const struct walk_machine *m = &mmu.config.machine;

    if (walk_from_root(m, w) != MMU_OK)
        return w->result;
    walks_start(c, w);
    mmu.stats.walks++;
    walk_run(m, w);
    check_walk(c, w);
    walks_fill(c, w);
    if (w->result == MMU_OK)
        tlb_fill(c, w);
    return w->result;
}

void mmu_speculate(unsigned cpu, uint64_t va)
{
    struct walk w = walk_of(&mmu.cpu[cpu], va, WALK_SPECULATIVE);

    mmu.stats.speculations++;
    walk_and_fill(&mmu.cpu[cpu], &w);
}

/* Sometimes, what lies near an access: the next lines of a loop, a mispredicted branch. */
static void speculate_nearby(unsigned cpu, uint64_t va)
{
    static const uint64_t far[] = {0x1000, 0x1000, 0x4000, 0x10000, 0x200000, 0x40000000};
    uint64_t step;

    if (!mmu.config.speculate_one_in || !sim_one_in(SIM_RANDOM_TLB, mmu.config.speculate_one_in))
        return;
    step = far[sim_below(SIM_RANDOM_TLB, sizeof far / sizeof far[0])];
    mmu_speculate(cpu, sim_one_in(SIM_RANDOM_TLB, 2) ? va + step : va - step);
}

/* ---- Accesses ---- */

static bool is_x86(void)
{
    return mmu.config.machine.format == WALK_X86_4 || mmu.config.machine.format == WALK_X86_5;
}

static enum mmu_result deliver(uint64_t pa, unsigned memory, unsigned level,
                               struct mmu_reply *reply)
{
    uint64_t *host = mmu.config.machine.at(mmu.config.machine.ctx, pa & ~7ull);

    reply->level = level;
    if (!host)
        return MMU_BUS;
    reply->pa = pa;
    reply->host = (char *)host + (pa & 7);
    reply->memory = memory;
    return MMU_OK;
}

static enum mmu_result exception(struct mmu_cpu *c, uint64_t va, enum mmu_result why)
{
    mmu.stats.faults++;
    if (is_x86() || sim_one_in(SIM_RANDOM_TLB, 2))
        tlb_drop_address(c, va);
    return why;
}

static enum mmu_result walk_for(struct mmu_cpu *c, uint64_t va, enum mmu_kind kind, bool user,
                                struct mmu_reply *reply)
{
    struct walk w = walk_of(c, va, WALK_ACCESS);

    w.kind = kind;
    w.user = user;
    if (walk_and_fill(c, &w) == MMU_OK)
        return deliver(w.pa, w.memory, w.level, reply);
    reply->level = w.level;
    return exception(c, va, w.result);
}

static enum mmu_result hit(struct mmu_cpu *c, struct tlb_entry *e, uint64_t va,
                           struct mmu_reply *reply)
{
    if (e->stale)
        fail_stale_entry(c, e, "is used");
    mmu.stats.hits++;
    reply->hit = true;
    return deliver(e->pa | (va & (((uint64_t)1 << e->shift) - 1)), e->memory,
                   (e->leaf_shift - WALK_PAGE_SHIFT) / WALK_BITS, reply);
}

enum mmu_result mmu_access(unsigned cpu, uint64_t va, enum mmu_kind kind, bool user,
                           struct mmu_reply *reply)
{
    struct mmu_cpu *c = &mmu.cpu[cpu];
    struct tlb_entry *e;

    *reply = (struct mmu_reply){0};
    mmu.stats.accesses++;
    speculate_nearby(cpu, va);
    e = tlb_find(c, va);
    if (e && mmu.config.forget_one_in && sim_one_in(SIM_RANDOM_TLB, mmu.config.forget_one_in)) {
        tlb_drop_address(c, va);
        e = NULL;
    }
    if (!e)
        return walk_for(c, va, kind, user, reply);
    if (!(e->perms & WALK_PERM(kind, user))) {
        if (sim_one_in(SIM_RANDOM_TLB, 2)) {
            mmu.stats.spurious++;
            reply->level = (e->leaf_shift - WALK_PAGE_SHIFT) / WALK_BITS;
            return exception(c, va, MMU_PROTECTION);
        }
        tlb_drop_address(c, va);
        return walk_for(c, va, kind, user, reply);
    }
    if (kind == MMU_WRITE && !e->dirty)
        return walk_for(c, va, kind, user, reply);
    return hit(c, e, va, reply);
}
