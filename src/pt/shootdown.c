/*
 * pt/shootdown.c - which CPUs may hold a translation, and making them drop it.
 *
 * Model.  A space's qi_tlb counts the flushes asked for (gen) and names the CPUs that have its root
 * loaded (active).  Each CPU remembers which root it has loaded, whether it is lazy (loaded, but
 * no user address is used), and the last generation it has caught up with (seen).
 *
 * Flush.  The entries are changed; gen goes up by one; a full fence; then active and lazy are read.
 * CPUs that are active get a request and an interrupt; this CPU flushes while they do; then it
 * waits for all acknowledgements.
 *
 *   S1  A CPU with seen == g has done every flush up to g.  A request for seen + 1 is done page by
 *       page; anything later (requests overtook each other, or were missed while lazy) by a flush
 *       of the whole space, which catches up with the gen read before it.
 *   S2  Activation sets the bit in active (or clears lazy), fences, and only then reads gen and
 *       loads the root (or flushes).  Of a flush and an activation that cross, one sees the other
 *       (Dekker): either the flusher sees the CPU and waits for it, or the CPU reads the new gen
 *       and walks the new entries.
 *   S3  A lazy CPU is left alone for leaves, but not when tables go: it may still walk them
 *       speculatively.  It is told once, loads the kernel's root, and is out.
 *   S4  Each CPU sends one request at a time, from its own request structure: no queue can overflow
 *       and no memory is needed.  A target's pending word has one bit per sender.
 *   S5  While a CPU waits, with interrupts off, it serves its own pending word: two CPUs that flush
 *       at once serve each other.
 *   S6  Who becomes lazy or leaves active says so with a release, behind its last access through the
 *       root, and a flusher that therefore leaves it alone has read that with an acquire: the
 *       access comes before all that is done with the frame behind the flush.
 *
 * Locking.  None; everything here runs with interrupts off on its CPU.
 *
 * Cost.  Nobody else active: about 40 instructions and one invalidation per page (whole space
 * above FLUSH_PAGES_MAX).  Nobody active at all: the increment of gen.
 *
 * Sources.  Black et al., "Translation lookaside buffer consistency: a software approach", ASPLOS
 * 1989; Intel SDM volume 3A 4.10.4 and 4.10.5.
 *
 * Address-space ids.  The port says whether there are any.  With one (QPORT_ASIDS == 1) loading a
 * root drops all that is cached of others, so "may hold translations" is "has it loaded", which S1
 * and S2 rely on.  With more, active would keep its bit after a switch and seen would be kept per
 * (CPU, id): the generations are there for it.
 */
#include "internal.h"

#define FLUSH_PAGES_MAX 32

enum request_kind { FLUSH_SPACE, FLUSH_KERNEL, RETIRE };

struct request {
    enum request_kind kind;
    bool tables;
    bool busy;
    uint32_t waiting; /* atomic; targets that have not acknowledged */
    struct qi_tlb *tlb;
    uint64_t start, end, gen;
};

static struct tlb_cpu {
    /* this CPU writes, with interrupts off; others read loaded never, lazy when they flush */
    struct qi_tlb *loaded; /* atomic */
    uint32_t lazy;         /* atomic */
    uint64_t seen;         /* atomic only for the hosted port's emulated interrupts */
    struct quire_tlb_stats stats;
    struct request request; /* others read it between pending and their acknowledgement */
    QI_CACHE_ALIGNED uint64_t pending[QI_CPU_WORDS]; /* atomic; senders that want something */
} QI_CACHE_ALIGNED cpus[QUIRE_MAX_CPUS];

static uint64_t online[QI_CPU_WORDS]; /* atomic; CPUs that may hold kernel translations */

static inline uint64_t cpu_bit(unsigned cpu) { return (uint64_t)1 << cpu % 64; }

static inline void count(uint64_t *counter, uint64_t n)
{
    qi_store_relaxed(counter, qi_load_relaxed(counter) + n);
}

void qi_tlb_reset(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++)
        cpus[i] = (struct tlb_cpu){0};
    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        online[w] = 0;
    qi_guard_reset();
}

uint64_t qi_tlb_online(unsigned w) { return qi_load_relaxed(&online[w]); }

void qi_tlb_init(struct qi_tlb *t, q_pa root) { *t = (struct qi_tlb){.root = root}; }

void quire_pt_cpu_online(void)
{
    unsigned long flags = qport_irq_save();
    unsigned cpu = qport_cpu();

    qi_fetch_or_acqrel(&online[cpu / 64], cpu_bit(cpu));
    qi_fence_full();
    qi_guard_online(cpu); /* flushes all: what was cached before nobody told us of */
    qport_irq_restore(flags);
}

/* ---- What a CPU does for itself; interrupts off ---- */

/* Let go of the loaded root: the kernel's own from here on. */
static void unload(struct tlb_cpu *c, unsigned cpu)
{
    struct qi_tlb *t = qi_load_relaxed(&c->loaded);

    qport_table_load(qi_kpt_root(), 0, false);
    qi_store_relaxed(&c->loaded, NULL);
    qi_store_relaxed(&c->lazy, 0);
    qi_fetch_and_acqrel(&t->active[cpu / 64], ~cpu_bit(cpu));
}

/* Catch up with generation gen of t, in which [start, end) changed (and tables went). */
static inline void flush_here(struct tlb_cpu *c, unsigned cpu, struct qi_tlb *t, uint64_t gen,
                              uint64_t start, uint64_t end, bool tables)
{
    uint64_t seen = qi_load_relaxed(&c->seen);

    if (qi_load_relaxed(&c->loaded) != t)
        return;
    if (QI_UNLIKELY(qi_load_relaxed(&c->lazy))) {
        if (tables)
            unload(c, cpu);
        return; /* seen stays behind: S1 when it becomes active */
    }
    if (gen <= seen)
        return;
    if (gen == seen + 1 && start < end && end - start <= FLUSH_PAGES_MAX * QUIRE_PAGE_SIZE) {
        for (; start < end; start += QUIRE_PAGE_SIZE)
            qport_tlb_flush_page(start, t->asid);
        qi_store_relaxed(&c->seen, gen);
        return;
    }
    seen = qi_load_acquire(&t->gen);
    qport_tlb_flush_asid(t->asid);
    qi_store_relaxed(&c->seen, seen);
}

static void flush_kernel_here(const struct request *r)
{
    if (r->end - r->start > FLUSH_PAGES_MAX * QUIRE_PAGE_SIZE) {
        qport_tlb_flush_all();
        return;
    }
    for (uint64_t va = r->start; va < r->end; va += QUIRE_PAGE_SIZE)
        qport_tlb_flush_page(va, 0);
}

static void do_request(struct tlb_cpu *c, unsigned cpu, const struct request *r)
{
    switch (r->kind) {
    case FLUSH_SPACE: flush_here(c, cpu, r->tlb, r->gen, r->start, r->end, r->tables); break;
    case FLUSH_KERNEL: flush_kernel_here(r); break;
    case RETIRE:
        if (qi_load_relaxed(&c->loaded) != r->tlb)
            break;
        QI_CHECK(qi_load_relaxed(&c->lazy), "pt: space %p dies active on CPU %u", (void *)r->tlb,
                 cpu);
        unload(c, cpu);
        break;
    }
}

/* Serve all that is pending for this CPU. */
static void serve(struct tlb_cpu *c, unsigned cpu)
{
    for (unsigned w = 0; w < QI_CPU_WORDS; w++) {
        uint64_t senders;

        if (!qi_load_relaxed(&c->pending[w]))
            continue;
        senders = qi_xchg_acqrel(&c->pending[w], 0);
        for (; senders; senders &= senders - 1) {
            struct request *r = &cpus[w * 64 + qi_lowest_bit(senders)].request;

            do_request(c, cpu, r);
            qi_fetch_sub_acqrel(&r->waiting, 1); /* r may be reused from here */
        }
    }
}

void quire_shootdown_interrupt(void)
{
    unsigned cpu = qport_cpu();

    qi_guard_interrupt(cpu);
    serve(&cpus[cpu], cpu);
}

/* ---- Asking others; interrupts off ---- */

/* Hand this CPU's request to the CPUs in mask and interrupt them. */
static void send(struct tlb_cpu *c, unsigned cpu, const uint64_t mask[QI_CPU_WORDS])
{
    uint64_t ipi[QUIRE_MAX_CPUS / 64 + 1] = {0};
    uint32_t n = 0;

    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        for (uint64_t m = mask[w]; m; m &= m - 1)
            n++; /* no popcount: without the instruction it is a call into libgcc */
    qi_store_relaxed(&c->request.waiting, n);
    for (unsigned w = 0; w < QI_CPU_WORDS; w++) {
        ipi[w] = mask[w];
        for (uint64_t m = mask[w]; m; m &= m - 1)
            qi_fetch_or_acqrel(&cpus[w * 64 + qi_lowest_bit(m)].pending[cpu / 64], cpu_bit(cpu));
    }
    count(&c->stats.requests, 1);
    count(&c->stats.ipis, n);
    qport_ipi(ipi);
}

static void wait_for_acks(struct tlb_cpu *c, unsigned cpu)
{
    while (qi_load_acquire(&c->request.waiting)) {
        serve(c, cpu); /* S5 */
        qport_relax();
    }
}

/* Do r on this CPU and on those in mask (without this one). */
static void run(struct tlb_cpu *c, unsigned cpu, const struct request *r,
                const uint64_t mask[QI_CPU_WORDS])
{
    uint64_t any = 0;

    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        any |= mask[w];
    if (!any) {
        do_request(c, cpu, r);
        count(&c->stats.local_flushes, 1);
        return;
    }
    QI_CHECK(!c->request.busy, "pt: shootdown inside a shootdown on CPU %u", cpu);
    c->request = *r;
    c->request.busy = true;
    send(c, cpu, mask);
    do_request(c, cpu, r);
    wait_for_acks(c, cpu);
    c->request.busy = false;
}

/* CPUs other than cpu that have t loaded; without the lazy ones unless they matter.  True if any
 * CPU at all, this one too, has it. */
static bool holders(struct qi_tlb *t, unsigned cpu, bool with_lazy, uint64_t mask[QI_CPU_WORDS])
{
    uint64_t any = 0;

    for (unsigned w = 0; w < QI_CPU_WORDS; w++) {
        uint64_t m = qi_load_acquire(&t->active[w]);

        any |= m;
        if (w == cpu / 64)
            m &= ~cpu_bit(cpu);
        mask[w] = m;
        for (; m && !with_lazy; m &= m - 1)
            if (qi_load_acquire(&cpus[w * 64 + qi_lowest_bit(m)].lazy))
                mask[w] &= ~(m & -m);
    }
    return any;
}

/* Others than cpu may have t loaded. */
static inline bool elsewhere(struct qi_tlb *t, unsigned cpu)
{
    uint64_t any = 0;

    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        any |= qi_load_acquire(&t->active[w]) & ~(w == cpu / 64 ? cpu_bit(cpu) : 0);
    return any;
}

/* Out of line: other CPUs are, or may be, concerned. */
static QI_NOINLINE void flush_elsewhere(struct tlb_cpu *c, unsigned cpu, struct qi_tlb *t,
                                        uint64_t gen, uint64_t start, uint64_t end, bool tables)
{
    struct request r = {
        .kind = FLUSH_SPACE, .tables = tables, .tlb = t, .start = start, .end = end, .gen = gen};
    uint64_t mask[QI_CPU_WORDS];

    holders(t, cpu, tables, mask);
    run(c, cpu, &r, mask);
}

void qi_tlb_flush(struct qi_tlb *t, uint64_t start, uint64_t end, bool tables)
{
    unsigned long flags = qport_irq_save();
    unsigned cpu = qport_cpu();
    struct tlb_cpu *c = &cpus[cpu];
    uint64_t gen = qi_fetch_add_acqrel(&t->gen, 1) + 1;

    qi_fence_full(); /* S2: entries and gen before active and lazy */
    if (QI_UNLIKELY(elsewhere(t, cpu))) {
        flush_elsewhere(c, cpu, t, gen, start, end, tables);
    } else if (qi_load_relaxed(&c->loaded) == t) {
        flush_here(c, cpu, t, gen, start, end, tables);
        count(&c->stats.local_flushes, 1);
    }
    qport_irq_restore(flags);
}

void qi_tlb_flush_all(struct qi_tlb *t) { qi_tlb_flush(t, 0, ~(uint64_t)0, false); }

void qi_tlb_retire(struct qi_tlb *t)
{
    struct request r = {.kind = RETIRE, .tlb = t};
    uint64_t mask[QI_CPU_WORDS];
    unsigned long flags = qport_irq_save();
    unsigned cpu = qport_cpu();

    qi_fence_full();
    if (holders(t, cpu, true, mask))
        run(&cpus[cpu], cpu, &r, mask);
    qport_irq_restore(flags);
}

void qi_kpt_flush(q_kva va, uint64_t len)
{
    struct request r = {.kind = FLUSH_KERNEL, .start = va.v, .end = va.v + len};
    uint64_t mask[QI_CPU_WORDS];
    unsigned long flags = qport_irq_save();
    unsigned cpu = qport_cpu();

    qi_fence_full(); /* cleared entries before the mask: a CPU that comes online later walks anew */
    for (unsigned w = 0; w < QI_CPU_WORDS; w++)
        mask[w] = qi_tlb_online(w) & ~(w == cpu / 64 ? cpu_bit(cpu) : 0);
    run(&cpus[cpu], cpu, &r, mask);
    qport_irq_restore(flags);
}

/* ---- Activation ---- */

static void load(struct tlb_cpu *c, unsigned cpu, struct qi_tlb *t)
{
    struct qi_tlb *before = qi_load_relaxed(&c->loaded);

    qi_fetch_or_acqrel(&t->active[cpu / 64], cpu_bit(cpu));
    qi_store_relaxed(&c->lazy, 0);
    qi_fence_full(); /* S2 */
    qi_store_relaxed(&c->seen, qi_load_relaxed(&t->gen));
    qi_store_relaxed(&c->loaded, t);
    qport_table_load(t->root, t->asid, false);
    if (before)
        qi_fetch_and_acqrel(&before->active[cpu / 64], ~cpu_bit(cpu));
}

void qi_tlb_activate(struct qi_tlb *t)
{
    unsigned long flags = qport_irq_save();
    unsigned cpu = qport_cpu();
    struct tlb_cpu *c = &cpus[cpu];

    if (qi_load_relaxed(&c->loaded) != t) {
        load(c, cpu, t);
    } else if (qi_load_relaxed(&c->lazy)) {
        uint64_t gen;

        qi_store_relaxed(&c->lazy, 0);
        qi_fence_full(); /* S2 */
        gen = qi_load_acquire(&t->gen);
        if (gen != qi_load_relaxed(&c->seen)) {
            qport_tlb_flush_asid(t->asid);
            qi_store_relaxed(&c->seen, gen);
        }
    }
    qport_irq_restore(flags);
}

void qi_tlb_lazy(void)
{
    unsigned long flags = qport_irq_save();
    struct tlb_cpu *c = &cpus[qport_cpu()];

    if (qi_load_relaxed(&c->loaded))
        qi_store_release(&c->lazy, 1); /* S6 */
    qport_irq_restore(flags);
}

struct qi_tlb *qi_tlb_current(void)
{
    unsigned long flags = qport_irq_save();
    struct tlb_cpu *c = &cpus[qport_cpu()];
    struct qi_tlb *t = qi_load_relaxed(&c->lazy) ? NULL : qi_load_relaxed(&c->loaded);

    qport_irq_restore(flags);
    return t;
}

void quire_tlb_stats(struct quire_tlb_stats *out)
{
    *out = (struct quire_tlb_stats){0};
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        out->requests += qi_load_relaxed(&cpus[i].stats.requests);
        out->ipis += qi_load_relaxed(&cpus[i].stats.ipis);
        out->local_flushes += qi_load_relaxed(&cpus[i].stats.local_flushes);
    }
}
