/*
 * frame/stack.c - each CPU's own lists of free blocks: filled from the zones, emptied into them.
 *
 * Purpose.  Keep nine calls of ten away from the zone's lock, with a bound on what a CPU may hold back
 * that follows what it needs.
 *
 * Model.  A stack belongs to its CPU, which uses it with interrupts off; the theory is in frame.c, the
 * fast paths are in frame.h.  For each zone and type there are
 *
 *     hot       orders 0..9: what was freed last goes out first, for it may still be in a cache.
 *               Blocks of order 1 and up lie here with head and tails, so that a pair touches the
 *               first two struct pages, which share a cache line
 *     cold      frames of order 0 that were freed as cold, and the leftover of a word that a fill
 *               broke: its neighbours stay with one CPU.  They fill the hot stack before the zone is
 *               asked, so they go out last.
 *
 * Sizes.  An empty stack takes a batch; a full one gives back its older half, and so merging is put
 * off and then done for a batch under one taking of the lock, word by word.  Fills that follow one
 * another double the batch (up to 64 frames).  A fill after an overflow, or an overflow after a fill, is
 * a swing that the stack was too small for: it grows to twice its size, up to 256 frames and a 64th
 * of the zone for all CPUs together.  So it does at an overflow that follows another: CPUs that free much at
 * once, from stacks that a shortage made small, would else wait for one another at the lock.
 * quire_frame_age() halves what was not used since the last call, and a CPU that meets the low mark makes its
 * stacks small.
 *
 * Other CPUs.  Nobody but its owner may empty a stack.  Others ask: they set qi_frame_cpu.asked and close
 * the stacks (end = base), so that the owner's next free comes here; an allocation comes here when its
 * stack is empty.  Both words are plain stores that the owner may overwrite at the same moment with
 * what he thinks right: then asked still stands when he comes the next time.
 */
#include "zone.h"

struct qi_frame_cpu qi_frame_cpus[QUIRE_MAX_CPUS];
uint32_t qi_stack_offset[QI_STACK_OFFSETS];

#define PER_ZONE (QI_STACK_KINDS * QI_STACK_TYPES)

struct quire_page qi_no_page;

/* Blocks, by kind. */
struct size {
    uint8_t order;
    uint16_t least, first, most; /* that a stack may hold */
    uint8_t batch, batch_most;
};
static const struct size sizes[QI_STACK_KINDS] = {
    {0, 32, 128, 256, 32, 64},
    {1, 4, 16, 64, 8, 32},
    {2, 2, 8, 32, 4, 16},
    {3, 1, 4, 16, 2, 8},
    {4, 1, 2, 8, 1, 4},
    {5, 1, 2, 4, 1, 2},
    {6, 1, 1, 4, 1, 2},
    {7, 1, 1, 2, 1, 1},
    {8, 1, 1, 2, 1, 1},
    {QI_BLOCK_ORDER, 1, 4, 8, 1, 4},
    [QI_STACK_COLD] = {0, 32, 64, 64, 32, 32},
};

/* Frames that a stack takes at once when the zone is short of them. */
#define FEW 8u

/* qi_stack.last */
enum { NEITHER, FILL, OVERFLOW };

/* While anybody wants them to be, stacks are closed. */
static struct qi_spin bypass_lock;
static unsigned bypasses;
static bool closed; /* bypasses is not 0; read without the lock */

static uint64_t pages_of(const struct qi_stack *s, unsigned n) { return (uint64_t)n << s->order; }

static void set_count(struct qi_stack *s, unsigned n) { qi_store_relaxed(&s->top, s->base + n); }

/* Who closes all at the same moment wins: his store comes after this one, or this sees that he did. */
static void open_to(struct qi_stack *s, unsigned want)
{
    qi_store_relaxed(&s->want, (uint16_t)want);
    qi_store_relaxed(&s->end, s->base + want);
    qi_fence_full();
    if (qi_load_relaxed(&closed))
        qi_store_relaxed(&s->end, s->base);
}

/* A zone must not disappear into the stacks. */
static unsigned fair(const struct qi_stack *s)
{
    uint64_t n = (qi_load_relaxed(&s->zone->managed) >> s->order) / (64ull * qi_ncpus);

    n = QI_MAX(n, (uint64_t)(s->order < QI_STACK_SMALL ? 2 : 0));
    return (unsigned)QI_MIN(n, (uint64_t)s->room);
}

/* ---- Back to the zone ---- */

static void move(struct quire_page **to, struct quire_page **from, unsigned n)
{
    for (; n >= 4; n -= 4, to += 4, from += 4) {
        to[0] = from[0];
        to[1] = from[1];
        to[2] = from[2];
        to[3] = from[3];
    }
    while (n--)
        *to++ = *from++;
}

/* Blocks that are not single frames. */
static void give_blocks(struct qi_stack *s, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        if (s->order < QI_BLOCK_ORDER)
            qi_pages_loose_free(s->zone, s->base[k], s->order);
        qi_zone_give(s->zone, quire_pfn_of_page(s->base[k]).v, s->order);
    }
}

/* Give the n oldest of a stack back to their blocks. */
static void stack_give(struct qi_stack *s, unsigned n)
{
    struct qi_zone *z = s->zone;
    unsigned count;

    qi_zone_lock(z);
    if (QI_UNLIKELY(z->marked)) /* under the lock, for others mark frames under it */
        qi_stack_sift(s);
    count = qi_stack_count(s);
    n = QI_MIN(n, count);
    if (s->order)
        give_blocks(s, n);
    else
        qi_zone_give_frames(z, s->base, n);
    qi_zone_unlock(z);
    s->net -= pages_of(s, n);
    move(s->base, s->base + n, count - n);
    set_count(s, count - n);
}

unsigned qi_frame_drain_cpu(unsigned cpu)
{
    unsigned n = qi_zero_drain(cpu);

    for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++) {
        struct qi_stack *s = &qi_frame_cpus[cpu].stacks[i];
        unsigned count = qi_stack_count(s);

        n += count;
        if (count)
            stack_give(s, count);
    }
    return n;
}

/* ---- Sizes ---- */

/* A swing, or a stream of frees, that the stack was too small for; false: it may not grow. */
static bool grow(struct qi_stack *s)
{
    unsigned want = QI_MIN(2u * s->want, fair(s));

    if (want <= s->want || qi_load_relaxed(&closed))
        return false;
    open_to(s, want);
    return true;
}

static void shrink(struct qi_stack *s)
{
    const struct size *size = &sizes[s->kind];

    qi_store_relaxed(&s->batch, (uint8_t)QI_MAX(s->batch / 2, (size->batch + 3) / 4));
    open_to(s, QI_MIN((unsigned)QI_MAX(s->want / 2, size->least), fair(s)));
}

void qi_frame_relieve(void)
{
    struct qi_frame_cpu *c = &qi_frame_cpus[qport_cpu()];

    for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++) {
        struct qi_stack *s = &c->stacks[i];
        unsigned count = qi_stack_count(s), keep;

        shrink(s);
        keep = s->kind < QI_STACK_SMALL ? s->want : 0;
        if (count > keep)
            stack_give(s, count - keep);
    }
}

void quire_frame_age(void)
{
    unsigned long irq = qport_irq_save();
    struct qi_frame_cpu *c = &qi_frame_cpus[qport_cpu()];

    for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++) {
        struct qi_stack *s = &c->stacks[i];
        unsigned count = qi_stack_count(s);

        if (s->seen == (uint16_t)s->allocs) {
            shrink(s);
            if (count)
                stack_give(s, (count + 1) / 2);
        }
        s->seen = (uint16_t)s->allocs;
    }
    qport_irq_restore(irq);
}

/* ---- Full, and empty ---- */

/* Another CPU wants what this one holds back; true: it has been done. */
static bool serve(void)
{
    struct qi_frame_cpu *c = &qi_frame_cpus[qport_cpu()];

    if (QI_LIKELY(!qi_load_relaxed(&c->asked)))
        return false;
    qi_store_relaxed(&c->asked, 0u);
    qi_frame_drain_cpu(qport_cpu());
    for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++)
        open_to(&c->stacks[i], c->stacks[i].want);
    return true;
}

/* The stack is full, or another CPU closed it, or it may hold nothing. */
void qi_stack_overflow(struct qi_stack *s, struct quire_page *p)
{
    unsigned count = serve() ? 0 : qi_stack_count(s);
    bool none = !s->want || qi_load_relaxed(&closed);

    if (none ? count : count >= s->want && !(s->want < s->room && s->last != NEITHER && grow(s)))
        stack_give(s, none ? count : count - s->want / 2);
    if (!none && qi_load_relaxed(&s->end) != s->base + s->want)
        open_to(s, s->want); /* who closed it may have done so after it was served */
    s->last = OVERFLOW;
    count = qi_stack_count(s);
    s->base[count] = p;
    set_count(s, count + 1);
    if (none)
        stack_give(s, count + 1);
}

QI_NOINLINE void qi_stack_overflow_restore(struct qi_stack *s, struct quire_page *p,
                                           unsigned long irq)
{
    qi_stack_overflow(s, p);
    qport_irq_restore(irq);
}

/* Frames that may be held back before the zone is at its low mark, or a few. */
static uint64_t plenty(const struct qi_zone *z)
{
    uint64_t free = qi_load_relaxed(&z->free), low = qi_load_relaxed(&z->wmark[QI_MARK_LOW]);

    return free > low + FEW ? free - low : FEW;
}

/* How many to take, of those that are allowed. */
static unsigned batch_now(struct qi_stack *s, uint64_t may)
{
    unsigned most = fair(s), least = QI_MIN((unsigned)sizes[s->kind].least, most);

    if (s->want > most || s->want < least) /* the zone has another size by now */
        open_to(s, QI_MIN((unsigned)sizes[s->kind].first, most));
    if (s->last == FILL)
        qi_store_relaxed(&s->batch,
                         (uint8_t)QI_MIN(2u * s->batch, (unsigned)sizes[s->kind].batch_most));
    else if (s->last == OVERFLOW)
        grow(s);
    s->last = FILL;
    if (s->want < 2 || qi_load_relaxed(&closed))
        return 1;
    may = QI_MIN(may, QI_MAX(plenty(s->zone), 1ull << s->order));
    return (unsigned)QI_MIN((uint64_t)QI_MIN(s->batch, (s->want + 1u) / 2), may >> s->order);
}

/* The frames of the cold stack become the last of the hot one, which is empty. */
static bool warm(struct qi_stack *s)
{
    struct qi_stack *cold = s + QI_STACK_COLD * QI_STACK_TYPES;
    unsigned n = qi_stack_count(cold);

    n = QI_MIN(n, (unsigned)QI_MAX(s->want, 1u));
    if (!n)
        return false;
    move(s->base, cold->base, n);
    move(cold->base, cold->base + n, qi_stack_count(cold) - n);
    set_count(cold, qi_stack_count(cold) - n);
    cold->net -= n;
    s->net += n;
    set_count(s, n);
    return true;
}

/* Frames into an empty stack, the lowest on top, and what is left of the last word into the cold one. */
static unsigned fill_frames(struct qi_stack *s, unsigned want, uint64_t may)
{
    struct qi_stack *cold = s + QI_STACK_COLD * QI_STACK_TYPES;
    struct qi_words words, rest;
    struct qi_zone *z = s->zone;
    struct quire_page **at;

    may = QI_MIN(may, plenty(z));
    rest.n = 0;
    qi_zone_lock(z);
    qi_zone_take_words(z, s->type, want, &words);
    if (words.frames == want && want > 1 && may > want)
        qi_zone_take_rest(z, words.word[words.n - 1].base,
                          (unsigned)QI_MIN((uint64_t)cold->want, may - want), &rest);
    qi_zone_unlock(z);
    at = s->base + words.frames - 1;
    for (unsigned i = 0; i < words.n; i++)
        at = qi_word_pages(&words.word[i], at, -1);
    if (rest.n) {
        qi_word_pages(&rest.word[0], cold->base + rest.frames - 1, -1);
        cold->net += rest.frames;
        set_count(cold, rest.frames);
    }
    return words.frames;
}

static unsigned fill_blocks(struct qi_stack *s, unsigned want)
{
    struct qi_zone *z = s->zone;
    unsigned n = 0;

    qi_zone_lock(z);
    while (n < want && (s->base[n] = qi_zone_take(z, s->type, s->order)))
        n++;
    qi_zone_unlock(z);
    for (unsigned k = 0; k < n; k++) {
        qi_pages_form(z, s->base[k], s->order);
        qi_store_relaxed(&s->base[k]->flags, qi_flags_at(s->base[k], s->flags | QUIRE_PG_FREE));
        qi_store_relaxed(&s->base[k]->counts, (uint64_t)0);
    }
    return n;
}

bool qi_stack_fill(struct qi_stack *s, uint64_t may)
{
    unsigned n;

    serve();
    if (!s->order && warm(s))
        return true;
    if (may >> s->order == 0)
        return false;
    n = batch_now(s, may);
    n = s->order ? fill_blocks(s, n) : fill_frames(s, n, may);
    s->net += pages_of(s, n);
    set_count(s, n);
    return n > 0;
}

/* ---- All of a CPU, all CPUs ---- */

void quire_frame_drain_local(void)
{
    unsigned long irq = qport_irq_save();

    if (!serve())
        qi_frame_drain_cpu(qport_cpu());
    qport_irq_restore(irq);
}

void quire_frame_drain_ask(void)
{
    unsigned long irq = qport_irq_save();
    unsigned me = qport_cpu();

    for (unsigned c = 0; c < qi_ncpus; c++) {
        struct qi_frame_cpu *cpu = &qi_frame_cpus[c];

        if (c == me || qi_load_relaxed(&cpu->asked))
            continue;
        qi_store_relaxed(&cpu->asked, 1u);
        for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++)
            qi_store_relaxed(&cpu->stacks[i].end, cpu->stacks[i].base);
    }
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

static void close_all(bool off)
{
    qi_store_relaxed(&closed, off);
    qi_fence_full();
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++) {
            struct qi_stack *s = &qi_frame_cpus[c].stacks[i];

            qi_store_relaxed(&s->end, s->base + (off ? 0u : qi_load_relaxed(&s->want)));
        }
}

void qi_stacks_bypass(void)
{
    unsigned long irq = qi_spin_lock_irq(&bypass_lock);

    if (bypasses++ == 0)
        close_all(true);
    qi_spin_unlock_irq(&bypass_lock, irq);
}

void qi_stacks_use(void)
{
    unsigned long irq = qi_spin_lock_irq(&bypass_lock);

    if (bypasses && --bypasses == 0) /* none: a new machine has begun */
        close_all(false);
    qi_spin_unlock_irq(&bypass_lock, irq);
}

void quire_page_free_cold(struct quire_page *page)
{
    uint32_t flags = quire_page_flags_now(page);
    unsigned long irq;
    struct qi_stack *s;

    if (QI_UNLIKELY(flags & QI_PG_NOT_FAST || page->counts != 1)) {
        qi_page_free_marked(page, 1);
        return;
    }
    irq = qport_irq_save();
    s = qi_page_mark_free(&qi_frame_cpus[qport_cpu()], page, flags);
    qi_stack_push(s + QI_STACK_COLD * QI_STACK_TYPES, page);
    qport_irq_restore(irq);
}

/* ---- Start ---- */

/* What a stack of this kind may ever hold, for the zone may grow up to its span. */
static unsigned room_of(const struct qi_zone *z, unsigned kind)
{
    uint64_t share = ((z->end - z->start) >> sizes[kind].order) / (64ull * qi_ncpus);

    return (unsigned)QI_MIN(QI_MAX(share, (uint64_t)2), (uint64_t)sizes[kind].most);
}

static unsigned room_of_zone(const struct qi_zone *z)
{
    unsigned n = 0;

    for (unsigned kind = 0; kind < QI_STACK_KINDS; kind++)
        n += (1 + room_of(z, kind)) * QI_STACK_TYPES;
    return n;
}

static struct quire_page **stack_init(struct qi_stack *s, struct qi_zone *z, unsigned kind,
                                      unsigned type, struct quire_page **slots)
{
    unsigned order = sizes[kind].order;

    *slots++ = &qi_no_page;
    *s = (struct qi_stack){
        .top = slots,
        .base = slots,
        .zone = z,
        .kind = (uint8_t)kind,
        .order = (uint8_t)order,
        .type = (uint8_t)type,
        .room = (uint16_t)room_of(z, kind),
        .batch = sizes[kind].batch,
        .flags = z->place |
                 (order ? QUIRE_PG_HEAD | order << QUIRE_PG_ORDER_SHIFT : type << QI_PG_TYPE_SHIFT),
    };
    open_to(s, QI_MIN((unsigned)sizes[kind].first, fair(s)));
    return slots + s->room;
}

enum quire_status qi_frame_stacks_alloc(struct quire_memmap *m)
{
    uint64_t heads = (uint64_t)qi_nzones * PER_ZONE * sizeof(struct qi_stack), slots = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        slots += room_of_zone(&qi_zones[i]) * sizeof(struct quire_page *);
    for (unsigned c = 0; c < qi_ncpus; c++) {
        void *at;
        enum quire_status s =
            qi_boot_alloc(m, heads + slots, qi_cpu_nodes[c], "per-CPU frame lists", &at);

        if (s)
            return s;
        qi_frame_cpus[c].stacks = at;
        qi_frame_cpus[c].asked = 0;
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

/* For a class without a zone: always empty. */
static struct quire_page *none_slot[] = {&qi_no_page};
static struct qi_stack none[PER_ZONE] = {
    [0 ... PER_ZONE - 1] = {.top = none_slot + 1, .base = none_slot + 1, .end = none_slot + 1},
};

/* Zones may have got their first memory, or other sizes: a stack's owner sees that when he fills it. */
void qi_frame_stacks_update(void)
{
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned i = 0; i <= QI_GFP_INDEX; i++) {
            quire_gfp gfp = i;
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
    closed = false;
    for (unsigned c = 0; c < qi_ncpus; c++) {
        struct qi_frame_cpu *cpu = &qi_frame_cpus[c];
        struct quire_page **slots = (struct quire_page **)(cpu->stacks + qi_nzones * PER_ZONE);

        for (unsigned i = 0; i < qi_nzones * PER_ZONE; i++)
            slots = stack_init(&cpu->stacks[i], &qi_zones[i / PER_ZONE],
                               i % PER_ZONE / QI_STACK_TYPES, i % QI_STACK_TYPES, slots);
    }
    qi_frame_stacks_update();
}
