/*
 * frame/stack.c - each CPU's own lists of free blocks: filled from the zones, emptied into them.
 *
 * A stack belongs to its CPU, which uses it with interrupts off; the theory is in frame.c, the fast
 * paths are in frame.h.
 */
#include "zone.h"

struct qi_frame_cpu qi_frame_cpus[QUIRE_MAX_CPUS];
uint32_t qi_stack_offset[QI_STACK_OFFSETS];

static uint64_t pages_of(const struct qi_stack *s, unsigned n) { return (uint64_t)n << s->order; }

/* Give the n oldest of a stack back to their blocks; those next to one another in one step. */
static void stack_give(struct qi_stack *s, unsigned n)
{
    struct qi_zone *z = s->zone;
    unsigned i = 0;

    if (QI_UNLIKELY(qi_load_relaxed(&z->marked))) {
        qi_stack_sift(s);
        n = QI_MIN(n, s->count);
    }
    if (s->order)
        for (unsigned k = 0; k < n; k++)
            qi_pages_loose_free(z, s->pages[k], s->order);
    qi_zone_lock(z);
    while (i < n) {
        uint64_t pfn = quire_pfn_of_page(s->pages[i]).v, base = pfn & ~63ull;
        uint64_t run = (1ull << (1u << s->order)) - 1, mask = 0;

        do {
            mask |= run << (pfn - base);
            if (++i == n)
                break;
            pfn = quire_pfn_of_page(s->pages[i]).v;
        } while ((pfn & ~63ull) == base);
        qi_zone_give_mask(z, base, mask);
    }
    qi_zone_unlock(z);
    s->net -= pages_of(s, n);
    for (unsigned k = n; k < s->count; k++)
        s->pages[k - n] = s->pages[k];
    qi_store_relaxed(&s->count, s->count - n);
}

/* What others asked of this CPU; interrupts off. */
static void answer(void)
{
    struct qi_frame_cpu *c = &qi_frame_cpus[qport_cpu()];

    if (QI_LIKELY(!qi_load_relaxed(&c->asked)))
        return;
    qi_store_relaxed(&c->asked, 0u);
    qi_frame_drain_cpu(qport_cpu());
}

void qi_stacks_ask(void)
{
    unsigned self;
    unsigned long irq = qport_irq_save();

    self = qport_cpu();
    qport_irq_restore(irq);
    for (unsigned c = 0; c < qi_ncpus; c++)
        if (c != self)
            qi_store_relaxed(&qi_frame_cpus[c].asked, 1u);
}

void qi_stack_overflow(struct qi_stack *s, struct quire_page *p)
{
    uint32_t limit = qi_load_relaxed(&s->limit);

    if (s->count) /* the limit that sent us here may have been another */
        stack_give(s, limit ? QI_MIN(limit / 2, s->count) : s->count);
    s->pages[s->count] = p;
    qi_store_relaxed(&s->count, s->count + 1);
    if (!limit)
        stack_give(s, s->count);
    answer();
}

QI_NOINLINE void qi_stack_overflow_restore(struct qi_stack *s, struct quire_page *p,
                                           unsigned long irq)
{
    qi_stack_overflow(s, p);
    qport_irq_restore(irq);
}

/* The zone may have another size by now.  Who takes all limits away at this moment wins: he stores after,
 * or this does not. */
static uint32_t new_limit(struct qi_stack *s, uint32_t limit)
{
    uint32_t want = qi_load_relaxed(&s->want);

    return limit == want || qi_cas_relaxed(&s->limit, &limit, want) ? want : limit;
}

/* Fill an empty stack with about half its limit; false: the zone has nothing for it. */
bool qi_stack_fill(struct qi_stack *s, uint64_t may)
{
    struct qi_zone *z = s->zone;
    unsigned limit = qi_load_relaxed(&s->limit), want, n = 0;

    if (limit) /* the zone may have another size by now */
        limit = new_limit(s, limit);
    want = limit ? (limit + 1u) / 2 : 1;

    want = (unsigned)QI_MIN((uint64_t)want, may >> s->order);
    answer();
    qi_zone_lock(z);
    if (s->order == 0)
        n = qi_zone_take_frames(z, s->type, want, s->pages + want - 1, -1); /* the lowest on top */
    else
        while (n < want && (s->pages[n] = qi_zone_take(z, s->type, s->order)))
            n++;
    qi_zone_unlock(z);
    if (s->order == 0 && n < want)
        for (unsigned k = 0; k < n; k++)
            s->pages[k] = s->pages[k + want - n];
    if (s->order)
        for (unsigned k = 0; k < n; k++) {
            qi_pages_compound(z, s->pages[k], s->order);
            qi_store_relaxed(&s->pages[k]->flags,
                             qi_flags_at(s->pages[k], s->flags | QUIRE_PG_FREE));
            qi_store_relaxed(&s->pages[k]->counts, (uint64_t)0);
        }
    s->net += pages_of(s, n);
    qi_store_relaxed(&s->count, n);
    return n > 0;
}

unsigned qi_frame_drain_cpu(unsigned cpu)
{
    unsigned n = qi_zero_drain(cpu);

    for (unsigned i = 0; i < qi_nzones * QI_STACK_ORDERS * QI_STACK_TYPES; i++) {
        struct qi_stack *s = &qi_frame_cpus[cpu].stacks[i];

        n += s->count;
        if (s->count)
            stack_give(s, s->count);
    }
    return n;
}

void quire_frame_drain_local(void)
{
    unsigned long irq = qport_irq_save();

    qi_frame_drain_cpu(qport_cpu());
    qport_irq_restore(irq);
}

void quire_frame_drain(void)
{
    unsigned long irq = qport_irq_save();

    for (unsigned c = 0; c < qi_ncpus; c++)
        qi_frame_drain_cpu(c);
    for (unsigned i = 0; i < qi_nzones; i++) {
        qi_zone_lock(&qi_zones[i]);
        qi_reserve_release(&qi_zones[i]);
        qi_zone_unlock(&qi_zones[i]);
    }
    qport_irq_restore(irq);
}

/* Limits are 0 while anybody wants them so. */
static struct qi_spin bypass_lock;
static unsigned bypasses;

static void limits_set(bool on)
{
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned i = 0; i < qi_nzones * QI_STACK_ORDERS * QI_STACK_TYPES; i++) {
            struct qi_stack *s = &qi_frame_cpus[c].stacks[i];

            qi_store_relaxed(&s->limit, on ? qi_load_relaxed(&s->want) : 0u);
        }
}

void qi_stacks_bypass(void)
{
    unsigned long irq = qi_spin_lock_irq(&bypass_lock);

    if (bypasses++ == 0)
        limits_set(false);
    qi_spin_unlock_irq(&bypass_lock, irq);
}

void qi_stacks_use(void)
{
    unsigned long irq = qi_spin_lock_irq(&bypass_lock);

    if (bypasses && --bypasses == 0) /* none: a new machine has begun */
        limits_set(true);
    qi_spin_unlock_irq(&bypass_lock, irq);
}

/* ---- Start ---- */

/* A small zone must not disappear into the stacks. */
static uint16_t limit_for(const struct qi_zone *z, unsigned order)
{
    static const uint8_t limits[QI_STACK_ORDERS] = {56, 16, 8, 4};
    uint64_t fair = (qi_load_relaxed(&z->managed) >> order) / (64ull * qi_ncpus);

    return (uint16_t)QI_MAX(QI_MIN((uint64_t)limits[order], fair), (uint64_t)2);
}

static void stack_init(struct qi_stack *s, struct qi_zone *z, unsigned order, unsigned type)
{
    s->count = 0;
    s->allocs = s->net = 0;
    s->zone = z;
    s->order = (uint8_t)order;
    s->type = (uint8_t)type;
    s->want = limit_for(z, order);
    s->limit = s->want;
    s->flags = z->place |
               (order ? QUIRE_PG_HEAD | order << QUIRE_PG_ORDER_SHIFT : type << QI_PG_TYPE_SHIFT);
}

enum quire_status qi_frame_stacks_alloc(struct quire_memmap *m)
{
    unsigned n = qi_nzones * QI_STACK_ORDERS * QI_STACK_TYPES;

    for (unsigned c = 0; c < qi_ncpus; c++) {
        void *at;
        enum quire_status s = qi_boot_alloc(m, n * sizeof(struct qi_stack), qi_cpu_nodes[c],
                                            "per-CPU frame lists", &at);

        if (s)
            return s;
        qi_frame_cpus[c].stacks = at;
    }
    return QUIRE_OK;
}

/* The zone that serves most requests of a class that come from this node: the first with memory. */
static const struct qi_zone *first_zone(unsigned node, unsigned class)
{
    const struct qi_zone *z, *empty = NULL;

    for (const uint16_t *l = qi_zonelists[node][class]; (z = qi_zone_listed(l)); l++) {
        if (qi_load_relaxed(&z->managed))
            return z;
        empty = empty ? empty : z;
    }
    return empty;
}

static void choose_fast(void)
{
    /* for a class without a zone: always empty */
    static struct qi_stack none[QI_STACK_ORDERS * QI_STACK_TYPES];

    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned i = 0; i <= QI_GFP_INDEX; i++) {
            quire_gfp gfp = (quire_gfp)i << 1;
            const struct qi_zone *z = first_zone(qi_cpu_nodes[c], qi_gfp_class(gfp));

            qi_store_relaxed(&qi_frame_cpus[c].fast[i],
                             z ? qi_stack_of(&qi_frame_cpus[c], z->place, 0, qi_gfp_type(gfp))
                               : none);
        }
}

/* After the zones are filled: limits depend on their sizes. */
void qi_frame_stacks_init(void)
{
    static const struct qi_lock_class bypass_class = {"stack limits"};

    qi_spin_init(&bypass_lock, &bypass_class);
    bypasses = 0;
    for (unsigned c = 0; c < qi_ncpus; c++)
        qi_frame_cpus[c].asked = 0;
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned i = 0; i < qi_nzones; i++)
            for (unsigned k = 0; k < QI_STACK_ORDERS * QI_STACK_TYPES; k++)
                stack_init(&qi_frame_cpus[c].stacks[i * QI_STACK_ORDERS * QI_STACK_TYPES + k],
                           &qi_zones[i], k / QI_STACK_TYPES, k % QI_STACK_TYPES);
    choose_fast();
}

/* A stack's owner takes the new limit when he fills it. */
void qi_frame_stacks_update(void)
{
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned i = 0; i < qi_nzones * QI_STACK_ORDERS * QI_STACK_TYPES; i++) {
            struct qi_stack *s = &qi_frame_cpus[c].stacks[i];

            qi_store_relaxed(&s->want, limit_for(s->zone, s->order));
        }
    choose_fast();
}
