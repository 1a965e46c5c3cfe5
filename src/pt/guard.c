/*
 * pt/guard.c - kernel pages that are closed in any context, for all CPUs, without waiting.
 *
 * Why not a shootdown.  Whoever closes a page may hold any lock with interrupts off, and a CPU that
 * has translated the page may be spinning for that lock with its own off: it would never acknowledge.
 *
 * Model.  Closings are numbered.  Each CPU says up to which number it has dropped what it had (seen); a
 * closing holds for all when every CPU that is online has seen its number.
 *
 *   close:     entry; number = ++closings; of each CPU that is online asked = 1, an interrupt if it was 0
 *   interrupt: asked = 0; n = closings; flush all; seen = n
 *
 *   G1  A CPU that was asked flushes after it, or has been asked before and not yet begun: its exchange
 *       of asked comes before its reading of closings, so a closing that found asked set is among those it
 *       drops.  So many closings cost a CPU one flush.
 *   G2  The number is drawn before it is read who is online, and who comes online says so before it reads the number up
 *       to which it has seen all: of a closing and a CPU that comes, one sees the other (Dekker).
 *   G3  Who closed has flushed that page; it has seen the number too if it had seen the one before, else somebody has
 *       asked it.
 *
 * Opening needs nothing: what is closed is cached nowhere, and a CPU that faults nevertheless (an entry that was
 * read before) would be a use of memory that nobody has handed to it.
 *
 * Locking.  None; interrupts off.  Cost.  A closing: about 20 instructions and one interrupt for each other CPU
 * that has none on its way; there the flush of all it has.
 */
#include "internal.h"

static uint64_t closings; /* atomic; never starts anew: numbers outlive a new machine */
static struct guard_cpu {
    uint64_t seen;  /* atomic; this CPU writes */
    uint32_t asked; /* atomic */
} QI_CACHE_ALIGNED guards[QUIRE_MAX_CPUS];

void qi_guard_reset(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++)
        guards[i] = (struct guard_cpu){0};
}

static void drop_all(struct guard_cpu *g)
{
    uint64_t n = qi_load_acquire(&closings);

    qport_tlb_flush_all();
    qi_store_release(&g->seen, n);
}

void qi_guard_online(unsigned cpu) { drop_all(&guards[cpu]); }

void qi_guard_interrupt(unsigned cpu)
{
    struct guard_cpu *g = &guards[cpu];

    if (qi_load_relaxed(&g->asked)) {
        (void)qi_xchg_acqrel(&g->asked, 0u); /* G1 */
        drop_all(g);
    }
}

/* The calling CPU has dropped its own. */
static uint64_t tell_others(unsigned cpu)
{
    uint64_t ipi[QUIRE_MAX_CPUS / 64 + 1] = {0}, others = 0, any = 0;
    uint64_t number = qi_fetch_add_acqrel(&closings, 1) + 1;

    if (qi_load_relaxed(&guards[cpu].seen) == number - 1)
        qi_store_release(&guards[cpu].seen, number); /* G3 */
    qi_fence_full();                                 /* G2 */
    for (unsigned w = 0; w < QI_CPU_WORDS; w++) {
        uint64_t m = qi_tlb_online(w) & ~(w == cpu / 64 ? (uint64_t)1 << cpu % 64 : 0);

        for (others |= m; m; m &= m - 1)
            if (!qi_xchg_acqrel(&guards[w * 64 + qi_lowest_bit(m)].asked, 1u))
                any |= ipi[w] |= m & -m;
    }
    if (any)
        qport_ipi(ipi);
    return others ? number : 0;
}

uint64_t quire_pt_guard(q_pa root, uint64_t va, bool closed)
{
    unsigned long flags = qport_irq_save();
    uint64_t number = 0;

    qi_kpt_guard(root, va, closed);
    qport_tlb_flush_page(va, 0);
    if (closed)
        number = tell_others(qport_cpu());
    qport_irq_restore(flags);
    return number;
}

bool quire_pt_guard_settled(uint64_t number)
{
    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        for (uint64_t m = qi_tlb_online(w); m; m &= m - 1)
            if (qi_load_acquire(&guards[w * 64 + qi_lowest_bit(m)].seen) < number)
                return false;
    return true;
}
