/*
 * monitor_atomic.c - atomics: the order that they make, and older values that they may return.
 *
 * Model.  Views, as in the operational models of C11 (Kang et al., "A promising semantics for
 * relaxed-memory concurrency", POPL 2017, without promises).  An atomic word remembers its last
 * eight stores in the order in which they were made; each with the clock that it publishes and, for
 * each CPU, the epoch in which that CPU first saw it (wrote or read it).  A load may return any
 * remembered store that is not older than the newest one that some CPU saw in an epoch that is
 * visible to the loading CPU.  That is coherence and happens-before in one.  Memory always holds the
 * newest store, and a read-modify-write sees that.
 *
 *   A1  A store publishes the CPU's clock if it is a release, the clock of the last release fence if
 *       that was before it; a read-modify-write publishes in addition what the store that it read
 *       published (release sequences, as C++20 has them).
 *   A2  An acquire load joins what its store published; a relaxed one keeps that for the next
 *       acquire fence.
 *   A3  A full fence exchanges visibility (not order, as far as races go) with a clock that all full
 *       fences share: of two CPUs that store, fence and load, one sees the other's store.
 *       Sequentially consistent accesses, which the library does not use, do the same.
 *   A4  A plain store, or one by the hardware, to a word puts all older values out of reach.
 *
 * What this can show: store buffering, message passing without release or acquire, IRIW, coherence
 * of one word only.  What it cannot: load buffering (a load that sees a store which comes later in
 * time), stores of one CPU that overtake each other in the order of modification of one word (2+2W),
 * stale plain reads, dependencies that order (consume is acquire).  All it shows C11 allows.
 *
 * A load is stale once in monitor_config.stale_one_in times where it may be, so a loop that waits
 * ends.
 */
#include "monitor_parts.h"

enum { HISTORY = 8, ATOMICS = 1 << 24, SHARED = 1 << 22 };

/* A clock that several stores refer to; number 0 is none. */
struct shared {
    uint32_t refs; /* free: the next free one */
    uint32_t t[];
};

struct store {
    uint64_t value;
    uint32_t published; /* struct shared */
    uint32_t seen;      /* struct shared, only entry i of i < CPUs: the epoch, 0 never */
    uint32_t epoch;     /* of the store; 0: before anybody looked */
    uint32_t cpu;
};

struct atomic {
    uintptr_t address;
    uint32_t next; /* of the same granule */
    uint8_t size, n, newest;
    struct store s[HISTORY];
};

#define SHARED_BYTES ((uint64_t)SHARED * (sizeof(struct shared) + sizeof(struct clock)))

static struct atomic *atomics;
static char *shared;
static uint32_t atomics_used, atomics_free, shared_used, shared_free;

void monitor_atomic_init(void)
{
    monitor_unmap(atomics, (uint64_t)ATOMICS * sizeof *atomics);
    monitor_unmap(shared, SHARED_BYTES);
    atomics = monitor_map((uint64_t)ATOMICS * sizeof *atomics);
    shared = monitor_map(SHARED_BYTES);
    atomics_used = shared_used = 1;
    atomics_free = shared_free = 0;
}

/* ---- Shared clocks ---- */

static inline struct shared *shared_of(uint32_t n)
{
    return (struct shared *)(shared + (uint64_t)n * (monitor_words + 1) * sizeof(uint32_t));
}

static uint32_t shared_new(void)
{
    uint32_t n = shared_free;
    struct shared *s;

    if (n)
        shared_free = shared_of(n)->refs;
    else if (shared_used < SHARED)
        n = shared_used++;
    else
        sim_fail("monitor", "more than %d clocks", SHARED);
    s = shared_of(n);
    memset(s, 0, (monitor_words + 1) * sizeof(uint32_t));
    s->refs = 1;
    return n;
}

static void shared_put(uint32_t n)
{
    if (n && !--shared_of(n)->refs) {
        shared_of(n)->refs = shared_free;
        shared_free = n;
    }
}

static void join_words(uint32_t *into, const uint32_t *from)
{
    for (unsigned i = 0; i < monitor_words; i++)
        into[i] = into[i] > from[i] ? into[i] : from[i];
}

/* ---- Words ---- */

static inline struct store *newest(struct atomic *v) { return &v->s[v->newest]; }

static inline uint64_t read_memory(uintptr_t a, unsigned size)
{
    uint64_t v = 0;

    memcpy(&v, (const void *)a, size); /* little endian; nobody else runs */
    return v;
}

static void drop_store(struct store *s)
{
    shared_put(s->published);
    shared_put(s->seen);
    *s = (struct store){0};
}

/* Only the newest store stays. */
static void collapse(struct atomic *v)
{
    for (; v->n > 1; v->n--)
        drop_store(&v->s[(v->newest + HISTORY + 1 - v->n) % HISTORY]);
}

/* The word, or NULL.  Words that overlap it with another size lose their older stores if it is to
 * be written; *others: there are such. */
static struct atomic *find(struct region *r, uintptr_t a, unsigned size, bool write, bool *others)
{
    struct atomic *found = NULL;

    *others = false;
    for (uint32_t i = r->atomics[(a - r->base) / GRANULE]; i; i = atomics[i].next) {
        struct atomic *v = &atomics[i];

        if (v->address == a && v->size == size) {
            found = v;
        } else if (v->address < a + size && a < v->address + v->size) {
            *others = true;
            if (write)
                collapse(v);
        }
    }
    return found;
}

static struct atomic *create(struct region *r, uintptr_t a, unsigned size)
{
    uint32_t *head = &r->atomics[(a - r->base) / GRANULE], i = atomics_free;
    struct atomic *v;

    if (i)
        atomics_free = atomics[i].next;
    else if (atomics_used < ATOMICS)
        i = atomics_used++;
    else
        sim_fail("monitor", "more than %d atomic words", ATOMICS);
    v = &atomics[i];
    *v = (struct atomic){.address = a, .next = *head, .size = (uint8_t)size, .n = 1};
    v->s[0].value = read_memory(a, size);
    *head = i;
    r->pages[(a - r->base) / PAGE].syncs = true;
    return v;
}

/* Forget the words of the granule that overlap [a, a + bytes). */
static void forget_granule(uint32_t *link, uintptr_t a, uint64_t bytes)
{
    while (*link) {
        struct atomic *v = &atomics[*link];
        uint32_t i = *link;

        if (v->address >= a + bytes || a >= v->address + v->size) {
            link = &v->next;
            continue;
        }
        collapse(v);
        drop_store(newest(v));
        *link = v->next;
        v->next = atomics_free;
        atomics_free = i;
    }
}

void monitor_forget(struct region *r, uintptr_t a, uint64_t bytes)
{
    for (uintptr_t g = a & ~(uintptr_t)(GRANULE - 1); g < a + bytes; g += GRANULE) {
        uint64_t off = g - r->base;

        if (!r->pages[off / PAGE].syncs)
            g = (g | (PAGE - 1)) + 1 - GRANULE;
        else if (r->atomics[off / GRANULE])
            forget_granule(&r->atomics[off / GRANULE], a, bytes);
    }
}

void monitor_forget_page(struct region *r, uint64_t page)
{
    monitor_forget(r, r->base + page * PAGE, PAGE);
    r->pages[page].syncs = false;
}

void monitor_hw_write(const void *address, size_t n)
{
    uintptr_t a = (uintptr_t)address;
    struct region *r = region_of(a);

    /* as a relaxed read-modify-write: what was published stays so */
    for (uintptr_t g = a & ~(uintptr_t)(GRANULE - 1); r && g < a + n; g += GRANULE)
        for (uint32_t i = r->atomics[(g - r->base) / GRANULE]; i; i = atomics[i].next)
            collapse(&atomics[i]);
}

/* ---- What a CPU sees ---- */

static bool is_acquire(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
           order == __ATOMIC_SEQ_CST;
}
static bool is_release(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* Exchange visibility with the other full fences. */
static void exchange_sc(struct cpu *c)
{
    for (unsigned i = monitor_ncpus; i < monitor_words; i++) {
        uint32_t *mine = &c->clock.t[i], *all = &monitor_sc.t[i];

        *mine = *all = *mine > *all ? *mine : *all;
    }
}

/* Some CPU saw the store in an epoch that is visible to c. */
static bool visible(const struct cpu *c, const struct store *s)
{
    const uint32_t *vis = &c->clock.t[monitor_ncpus], *seen;

    if (s->epoch <= vis[s->cpu])
        return true;
    if (!s->seen)
        return false;
    seen = shared_of(s->seen)->t;
    for (unsigned i = 0; i < monitor_ncpus; i++)
        if (seen[i] && seen[i] <= vis[i])
            return true;
    return false;
}

/* The store that a load returns. */
static struct store *choose(const struct cpu *c, struct atomic *v)
{
    unsigned older = 0;

    if (v->n == 1 || !monitor_config.stale_one_in ||
        !sim_one_in(SIM_RANDOM_WEAK, monitor_config.stale_one_in))
        return newest(v);
    while (older + 1 < v->n && !visible(c, &v->s[(v->newest + HISTORY - older) % HISTORY]))
        older++;
    if (older)
        older = 1 + (unsigned)sim_below(SIM_RANDOM_WEAK, older);
    return &v->s[(v->newest + HISTORY - older) % HISTORY];
}

static void see(const struct cpu *c, struct store *s)
{
    if (monitor_words == monitor_ncpus || s->cpu == c->number)
        return;
    if (!s->seen)
        s->seen = shared_new();
    if (!shared_of(s->seen)->t[c->number])
        shared_of(s->seen)->t[c->number] = c->now;
}

static void take_published(struct cpu *c, const struct store *s, int order)
{
    if (!s->published)
        return;
    if (is_acquire(order)) {
        join_words(c->clock.t, shared_of(s->published)->t);
    } else {
        join_words(c->pending.t, shared_of(s->published)->t);
        c->has_pending = true;
    }
}

/* Words of another size that overlap: one takes what they published too. */
static void take_from_others(struct region *r, struct cpu *c, uintptr_t a, unsigned size, int order)
{
    for (uint32_t i = r->atomics[(a - r->base) / GRANULE]; i; i = atomics[i].next) {
        struct atomic *v = &atomics[i];

        if (v->address < a + size && a < v->address + v->size)
            take_published(c, newest(v), order);
    }
}

static void judge(struct region *r, uintptr_t a, unsigned size, cell type, uintptr_t pc)
{
    if (r->cells)
        monitor_access(a, size, type | CELL_ATOMIC, pc);
}

static uint64_t load(uintptr_t a, unsigned size, int order, uintptr_t pc)
{
    struct region *r = region_of(a);
    struct cpu *c = monitor_here();
    uint64_t value = read_memory(a, size);
    struct atomic *v;
    struct store *s;
    bool others;

    if (!r)
        return value;
    judge(r, a, size, 0, pc);
    if (order == __ATOMIC_SEQ_CST)
        exchange_sc(c);
    v = find(r, a, size, false, &others);
    if (others)
        take_from_others(r, c, a, size, order);
    if (!v)
        return value;
    if (newest(v)->value != value) { /* the hardware's */
        collapse(v);
        newest(v)->value = value;
    }
    s = others ? newest(v) : choose(c, v);
    see(c, s);
    take_published(c, s, order);
    return s->value;
}

/* What a store of this order publishes, over what was published before (read-modify-writes). */
static uint32_t publish(struct cpu *c, const struct store *before, int order)
{
    uint32_t n;

    if (!is_release(order) && !c->has_fence && !(before && before->published))
        return 0;
    n = shared_new();
    if (is_release(order))
        join_words(shared_of(n)->t, c->clock.t);
    else if (c->has_fence)
        join_words(shared_of(n)->t, c->fence.t);
    if (before && before->published)
        join_words(shared_of(n)->t, shared_of(before->published)->t);
    return n;
}

/* The store is made: memory holds it, and the word remembers it. */
static void store(struct region *r, struct cpu *c, uintptr_t a, unsigned size, uint64_t value,
                  int order, bool rmw)
{
    bool weak = monitor_words > monitor_ncpus, others;
    struct atomic *v = find(r, a, size, true, &others);
    uint32_t published = publish(c, v && rmw ? newest(v) : NULL, order);
    struct store *s;

    if (!v && (weak || published))
        v = create(r, a, size);
    memcpy((void *)a, &value, size);
    if (v) {
        if (!weak || v->n == HISTORY)
            drop_store(&v->s[weak ? (v->newest + 1) % HISTORY : v->newest]);
        else
            v->n++;
        v->newest = weak ? (v->newest + 1) % HISTORY : v->newest;
        s = newest(v);
        *s = (struct store){
            .value = value, .published = published, .epoch = c->now, .cpu = c->number};
    }
    if (order == __ATOMIC_SEQ_CST)
        exchange_sc(c);
    if (is_release(order))
        monitor_tick(c);
}

enum rmw { EXCHANGE, ADD, SUB, AND, OR, XOR, NAND };

static uint64_t apply(enum rmw op, uint64_t old, uint64_t v)
{
    switch (op) {
    case EXCHANGE: return v;
    case ADD: return old + v;
    case SUB: return old - v;
    case AND: return old & v;
    case OR: return old | v;
    case XOR: return old ^ v;
    default: return ~(old & v);
    }
}

static void do_store(uintptr_t a, unsigned size, uint64_t value, int order, uintptr_t pc)
{
    struct region *r = region_of(a);
    struct cpu *c = monitor_here();

    if (!r) {
        memcpy((void *)a, &value, size);
        return;
    }
    judge(r, a, size, CELL_WRITE, pc);
    if (order == __ATOMIC_SEQ_CST)
        exchange_sc(c);
    store(r, c, a, size, value, order, false);
}

/* The CPU reads the newest value in order to write. */
static void read_newest(struct region *r, struct cpu *c, uintptr_t a, unsigned size, int order)
{
    bool others;
    struct atomic *v = find(r, a, size, true, &others);
    uint64_t value = read_memory(a, size);

    if (order == __ATOMIC_SEQ_CST)
        exchange_sc(c);
    if (others)
        take_from_others(r, c, a, size, order);
    if (!v)
        return;
    if (newest(v)->value != value) {
        collapse(v);
        newest(v)->value = value;
    }
    see(c, newest(v));
    take_published(c, newest(v), order);
}

static uint64_t do_rmw(uintptr_t a, unsigned size, enum rmw op, uint64_t operand, int order,
                       uintptr_t pc)
{
    struct region *r = region_of(a);
    struct cpu *c = monitor_here();
    uint64_t old = read_memory(a, size), new = apply(op, old, operand);

    if (!r) {
        memcpy((void *)a, &new, size);
        return old;
    }
    judge(r, a, size, CELL_WRITE, pc);
    read_newest(r, c, a, size, order);
    store(r, c, a, size, new, order, true);
    return old;
}

/* The value found; it was replaced if it is the expected one. */
static uint64_t do_cas(uintptr_t a, unsigned size, uint64_t expected, uint64_t value, int order,
                       int failure, uintptr_t pc)
{
    struct region *r = region_of(a);
    struct cpu *c = monitor_here();
    uint64_t old = read_memory(a, size);

    if (old != expected) {
        if (r) {
            judge(r, a, size, 0, pc);
            read_newest(r, c, a, size, failure);
        }
        return old;
    }
    do_rmw(a, size, EXCHANGE, value, order, pc);
    return old;
}

/* ---- What the compiler calls ---- */

#define PC ((uintptr_t)__builtin_return_address(0))

#define RMW(bits, name, op)                                                                     \
    uint##bits##_t __tsan_atomic##bits##_##name(uint##bits##_t *p, uint##bits##_t v, int order) \
    {                                                                                           \
        return (uint##bits##_t)do_rmw((uintptr_t)p, bits / 8, op, v, order, PC);                \
    }

#define CAS(bits, name)                                                                          \
    int __tsan_atomic##bits##_##name(uint##bits##_t *p, uint##bits##_t *expected,                \
                                     uint##bits##_t v, int order, int failure)                   \
    {                                                                                            \
        uint##bits##_t want = *expected;                                                         \
                                                                                                 \
        *expected = (uint##bits##_t)do_cas((uintptr_t)p, bits / 8, want, v, order, failure, PC); \
        return *expected == want;                                                                \
    }

#define ATOMIC(bits)                                                                            \
    uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t *p, int order)               \
    {                                                                                           \
        return (uint##bits##_t)load((uintptr_t)p, bits / 8, order, PC);                         \
    }                                                                                           \
    void __tsan_atomic##bits##_store(uint##bits##_t *p, uint##bits##_t v, int order)            \
    {                                                                                           \
        do_store((uintptr_t)p, bits / 8, v, order, PC);                                         \
    }                                                                                           \
    RMW(bits, exchange, EXCHANGE)                                                               \
    RMW(bits, fetch_add, ADD)                                                                   \
    RMW(bits, fetch_sub, SUB)                                                                   \
    RMW(bits, fetch_and, AND)                                                                   \
    RMW(bits, fetch_or, OR)                                                                     \
    RMW(bits, fetch_xor, XOR)                                                                   \
    RMW(bits, fetch_nand, NAND)                                                                 \
    CAS(bits, compare_exchange_strong)                                                          \
    CAS(bits, compare_exchange_weak)                                                            \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                  \
        uint##bits##_t *p, uint##bits##_t expected, uint##bits##_t v, int order, int failure)   \
    {                                                                                           \
        return (uint##bits##_t)do_cas((uintptr_t)p, bits / 8, expected, v, order, failure, PC); \
    }

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_atomic_thread_fence(int order)
{
    struct cpu *c = monitor_here();

    if (is_acquire(order) && c->has_pending) {
        join_words(c->clock.t, c->pending.t);
        memset(&c->pending, 0, sizeof c->pending);
        c->has_pending = false;
    }
    if (order == __ATOMIC_SEQ_CST)
        exchange_sc(c);
    if (is_release(order)) {
        c->fence = c->clock;
        c->has_fence = true;
        monitor_tick(c);
    }
}

void __tsan_atomic_signal_fence(int order) { (void)order; }
