/*
 * slab/sample.c - now and then an object between two pages that fault: QUIRE_HARDEN_SAMPLE.
 *
 *   | fault | object page | fault | object page | fault | ...
 *           | red |obj    |       |    obj| red |
 *
 * An access beyond its page, and any access after its free, faults at the very instruction; the port hands
 * the address to quire_heap_fault(), which says whose it is.  An object lies at either end of its page, by lot:
 * at the right end an overflow by one faults (by its alignment, if the size is no multiple of it: the few bytes
 * between are a red zone, checked at the free), at the left an underflow.
 *
 * Which allocations: one of every sample_interval on each CPU, which makes caches go the special way for
 * good; or one each sample_ms milliseconds, when the embedder's timer calls quire_heap_sample(): in between,
 * the fast paths are as without.  quire_cache.slow has the bit while an allocation is wanted; whoever finds
 * it and comes too late clears it.
 *
 * An object's page is used again only after all others: the longer it stays closed, the later an access
 * it catches.  When all are out or closing, allocations are ordinary ones.
 *
 * The port closes a page for this CPU at once, and tells the others, which it cannot wait for: a free may be
 * made under any lock.  Until they have heard of it the object is closing, and what they have in their TLBs may be
 * used: a use after free is then missed, nothing worse.  Then it is closed, and no CPU gets
 * through.  One that is closing is not handed out again: each is closed to all before it is.  (KFENCE closes for
 * the freeing CPU alone, for interrupting all for each sampled free would cost more than it finds; but
 * one of a thousand frees pays, and those that come while an interrupt is on its way share it.)
 *
 * Locking: pool_lock, any context, interrupts off; the page hook is called under it.  A record belongs to who
 * holds its object, while that is out.  Source: Elver, Potapenko, "KFENCE", Linux 5.12, after
 * GWP-ASan (Serebryany and others, 2023).
 */
#include "harden.h"

#define GAP    0xaau /* the rest of an object's page */
#define TRACES 8u

enum state { UNUSED, OUT, FREED };

struct record {
    struct quire_cache *cache;
    const char *name; /* of the cache, which may be gone */
    uint8_t *obj;
    uint32_t asked;
    uint32_t next; /* in the queue of pages to use: index + 1, 0 the last */
    uint32_t state;
    uint64_t closing; /* FREED: of the port; see is_closed() */
    uint32_t nalloc, nfree;
    uintptr_t alloc[TRACES], free[TRACES];
};

uintptr_t qi_sample_base, qi_sample_span;

static struct qi_spin pool_lock;
static struct record *records;
static uint32_t nrecords, first, last; /* of the queue, as record.next */
static uint64_t drawn;
/* Allocations of each CPU until its next sample; its own, with interrupts off. */
static uint32_t left[QUIRE_MAX_CPUS];
/* One is wanted, and from when on the next; atomic. */
static uint32_t wanted;
static uint64_t wanted_from_ns;

static const struct qi_lock_class pool_class = {"heap: samples"};

#ifdef QPORT_GUARD_PAGE
#define CAN_GUARD true
static uint64_t guard_page(void *page, bool closed) { return QPORT_GUARD_PAGE(page, closed); }
#else
#define CAN_GUARD false
static uint64_t guard_page(void *page, bool closed) { return (void)page, (void)closed, 0; }
#endif

/* No CPU has access to the page of a freed object. */
static bool is_closed(const struct record *r)
{
#ifdef QPORT_GUARD_SETTLED
    return QPORT_GUARD_SETTLED(r->closing);
#else
    return (void)r, true;
#endif
}

static uint8_t *page_of(uint32_t i)
{
    return (uint8_t *)qi_sample_base + (2 * (size_t)i + 1) * QUIRE_PAGE_SIZE;
}
static uint32_t index_of(uintptr_t p)
{
    return (uint32_t)((p - qi_sample_base) / QUIRE_PAGE_SIZE / 2);
}

/* ---- the pool ---- */

static void enqueue_locked(uint32_t i)
{
    records[i].next = 0;
    if (first)
        records[last - 1].next = i + 1;
    else
        first = i + 1;
    last = i + 1;
}

static void *frames(size_t bytes, unsigned *order)
{
    struct quire_page *page;

    *order = qi_log2_ceil((bytes + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
    if (*order > QUIRE_MAX_ORDER)
        return NULL;
    page = quire_page_alloc(*order, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    return page ? quire_page_ptr(page) : NULL;
}

/* The pages, and a record for each object; false: no memory. */
static bool take_memory(void)
{
    uint32_t n = qi_heap_options.sample_objects;
    unsigned order, pool_order;
    void *pool = qi_heap_options.sample_pool;

    records = frames(n * sizeof(struct record), &order);
    if (!records)
        return false;
    if (!pool)
        pool = frames((2 * (size_t)n + 1) * QUIRE_PAGE_SIZE, &pool_order);
    if (!pool) {
        quire_page_free(quire_page_of_ptr(records), order);
        return false;
    }
    nrecords = n;
    qi_sample_base = (uintptr_t)pool;
    qi_sample_span = (2 * (size_t)n + 1) * QUIRE_PAGE_SIZE;
    return true;
}

enum quire_status qi_sample_init(void)
{
    qi_sample_base = qi_sample_span = 0;
    nrecords = first = 0;
    drawn = 0;
    wanted = 0;
    wanted_from_ns = 0;
    if (!qi_heap_mode(QUIRE_HARDEN_SAMPLE))
        return QUIRE_OK;
    if (!CAN_GUARD)
        return QUIRE_UNSUPPORTED;
    if (!take_memory())
        return QUIRE_NO_MEMORY;
    qi_spin_init(&pool_lock, &pool_class);
    for (uint32_t i = 0; i < QUIRE_MAX_CPUS; i++)
        left[i] = qi_heap_options.sample_interval;
    for (uint32_t i = 0; i < nrecords; i++)
        enqueue_locked(i);
    for (size_t at = 0; at < qi_sample_span; at += QUIRE_PAGE_SIZE)
        (void)guard_page((void *)(qi_sample_base + at), true);
    return QUIRE_OK;
}

/* ---- which allocations ---- */

bool qi_sample_suits(const struct quire_cache *c)
{
    return !(c->flags & (QI_CACHE_BARE | QUIRE_CACHE_RCU | QUIRE_CACHE_DMA | QUIRE_CACHE_DMA32)) &&
           c->size <= QUIRE_PAGE_SIZE;
}

static void arm_all(void)
{
    struct quire_cache *c;

    qi_rwsem_read_lock(&qi_caches_lock);
    qi_list_for_each (c, &qi_caches, link) {
        if (qi_sample_suits(c))
            qi_fetch_or_relaxed(&c->slow, QI_SLOW_SAMPLE);
    }
    qi_kmalloc_slow_changed();
    qi_rwsem_read_unlock(&qi_caches_lock);
}

/* kmalloc's classes share a short cut, which is open only if none has the bit. */
static void disarm(struct quire_cache *c)
{
    if (c->flags & QI_CACHE_SIZED)
        qi_kmalloc_clear_slow(QI_SLOW_SAMPLE);
    else
        qi_fetch_and_relaxed(&c->slow, ~QI_SLOW_SAMPLE);
}

/* Whether this allocation is one to sample; interrupts off.  False clears c's bit where it was for one. */
static bool is_turn(struct quire_cache *c)
{
    uint32_t yes = 1, *n = &left[qport_cpu()];

    if (!qi_heap_options.sample_ms) {
        if (--*n)
            return false;
        *n = qi_heap_options.sample_interval;
        return true;
    }
    disarm(c);
    return qi_load_relaxed(&wanted) && qi_cas_relaxed(&wanted, &yes, 0u);
}

/* ---- allocation ---- */

/* What the contract promises: of kmalloc, alignment to powers of two of the size asked for. */
static size_t align_of(const struct quire_cache *c, size_t asked)
{
    if (c->flags & QI_CACHE_SIZED)
        return asked >= 8 && qi_is_pow2(asked) ? asked : 8;
    return c->align;
}

/* An object of c at one end of a page, the rest of it gap. */
static void lay_out(struct record *r, uint8_t *page, struct quire_cache *c, size_t asked)
{
    size_t room = QUIRE_PAGE_SIZE - qi_align_up(QI_MAX(asked, (size_t)1), align_of(c, asked));
    bool right = qi_mix(qi_heap_secret + drawn++) & 1;

    r->cache = c;
    r->name = c->name;
    r->asked = (uint32_t)asked;
    r->obj = page + (right ? room : 0);
    r->state = OUT;
    __builtin_memset(page, GAP, QUIRE_PAGE_SIZE);
    if (c->ctor)
        c->ctor(r->obj);
}

void *qi_sample_alloc(struct quire_cache *c, size_t asked, uintptr_t caller)
{
    unsigned long irq = qport_irq_save();
    struct record *r = NULL;
    uint32_t i;

    if (asked > QUIRE_PAGE_SIZE || c->size > QUIRE_PAGE_SIZE || !is_turn(c)) {
        qport_irq_restore(irq);
        return NULL;
    }
    qi_spin_lock_raw(&pool_lock);
    if (first && is_closed(&records[first - 1])) {
        i = first - 1;
        r = &records[i];
        first = r->next;
        (void)guard_page(page_of(i), false);
        lay_out(r, page_of(i), c, asked);
    }
    qi_spin_unlock_raw(&pool_lock);
    qport_irq_restore(irq);
    if (!r)
        return NULL;
    r->nalloc = qi_trace(caller, r->alloc, TRACES);
    r->nfree = 0;
    return r->obj;
}

void quire_heap_sample(void)
{
    uint64_t now = qport_now_ns(), from = qi_load_relaxed(&wanted_from_ns);

    if (!qi_heap_options.sample_ms || !qi_sample_span || now < from ||
        !qi_cas_relaxed(&wanted_from_ns, &from,
                        now + qi_heap_options.sample_ms * (uint64_t)1000000))
        return;
    qi_store_relaxed(&wanted, 1u);
    arm_all();
}

/* ---- free ---- */

static void log_traces(const struct record *r)
{
    if (r->nalloc) {
        qi_log(QUIRE_LOG_ERROR, "heap: allocated");
        qi_log_trace(QUIRE_LOG_ERROR, r->alloc, r->nalloc);
    }
    if (r->nfree) {
        qi_log(QUIRE_LOG_ERROR, "heap: freed");
        qi_log_trace(QUIRE_LOG_ERROR, r->free, r->nfree);
    }
}

/* The record of p, which is the first byte of an object that is out, of c if given; else a panic. */
static struct record *holder(const struct quire_cache *c, const void *p, const char *who)
{
    uint32_t i = index_of((uintptr_t)p);
    struct record *r = &records[i < nrecords ? i : 0];
    const uint8_t *page = (const uint8_t *)((uintptr_t)p & ~(uintptr_t)(QUIRE_PAGE_SIZE - 1));

    if (i < nrecords && page == page_of(i) && r->state == OUT && p == r->obj &&
        (!c || c == r->cache))
        return r;
    log_traces(r);
    QI_CHECK(i < nrecords && page == page_of(i) && r->state != UNUSED,
             "heap: %s: pointer %p is in a guard page of sampled objects", who, p);
    QI_CHECK(p == r->obj, "heap: %s: pointer %p is not the start of an object: %p of %s (%u bytes)",
             who, p, (void *)r->obj, r->name, r->asked);
    QI_CHECK(r->state == OUT, "heap: %s: double free of object %p of %s (sampled)", who, p,
             r->name);
    qi_bug("heap: %s: object %p belongs to cache %s", who, p, r->name);
}

static void check_gap(const struct record *r, const uint8_t *page)
{
    for (unsigned i = 0; i < QUIRE_PAGE_SIZE; i++)
        if (page + i == r->obj && r->asked)
            i += r->asked - 1;
        else if (page[i] != GAP) {
            log_traces(r);
            qi_bug("heap: %s: red zone of object %p (%u bytes, sampled) overwritten at %p: offset "
                   "%ld is %02x",
                   r->name, (void *)r->obj, r->asked, (const void *)(page + i),
                   (long)(page + i - r->obj), page[i]);
        }
}

void qi_sample_free(struct quire_cache *c, void *p, uintptr_t caller)
{
    struct record *r = holder(c, p, c ? c->name : "kfree");
    uint32_t i = index_of((uintptr_t)p);
    unsigned long irq;
    bool once;

    check_gap(r, page_of(i));
    r->nfree = qi_trace(caller, r->free, TRACES);
    irq = qi_spin_lock_irq(&pool_lock);
    once = r->state == OUT;
    if (once) {
        r->state = FREED;
        r->closing = guard_page(page_of(i), true);
        enqueue_locked(i);
    }
    qi_spin_unlock_irq(&pool_lock, irq);
    QI_CHECK(once, "heap: %s: object %p of %s (sampled) was freed twice at once",
             c ? c->name : "kfree", p, r->name);
}

size_t qi_sample_size(const void *p) { return holder(NULL, p, "ksize")->asked; }

void qi_sample_shrink(void *p, size_t asked)
{
    struct record *r = holder(NULL, p, "krealloc");

    __builtin_memset(r->obj + asked, GAP, r->asked - asked);
    r->asked = (uint32_t)asked;
}

uint64_t qi_sample_out(const struct quire_cache *c, unsigned max)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < nrecords; i++)
        if (records[i].state == OUT && records[i].cache == c && n++ < max) {
            qi_log(QUIRE_LOG_ERROR, "heap: %s: object %p is still out (sampled)", c->name,
                   (void *)records[i].obj);
            log_traces(&records[i]);
        }
    return n;
}

void quire_sample_stats(struct quire_sample_stats *out)
{
    unsigned long irq = qport_irq_save();

    *out = (struct quire_sample_stats){.objects = nrecords};
    if (nrecords)
        qi_spin_lock_raw(&pool_lock);
    for (uint32_t i = 0; i < nrecords; i++) {
        out->out += records[i].state == OUT;
        if (records[i].state == FREED)
            ++*(is_closed(&records[i]) ? &out->closed : &out->closing);
    }
    if (nrecords)
        qi_spin_unlock_raw(&pool_lock);
    out->sampled = drawn;
    qport_irq_restore(irq);
}

/* ---- faults ---- */

/* Distance of addr from an object that was ever there; huge if none was. */
static uintptr_t distance(uint32_t i, uintptr_t addr)
{
    const struct record *r = &records[i];
    uintptr_t at = (uintptr_t)r->obj;

    if (i >= nrecords || r->state == UNUSED)
        return UINTPTR_MAX;
    return addr < at ? at - addr : addr - at - QI_MIN((uintptr_t)r->asked, addr - at);
}

static void report(const struct record *r, uintptr_t addr, const char *what)
{
    long off = (long)(addr - (uintptr_t)r->obj);
    bool inside = off >= 0 && off < (long)r->asked;
    const char *kind = !inside ? "out of bounds" : r->state == FREED ? "use after free" : "fault";

    qi_log(QUIRE_LOG_ERROR, "heap: %s: %s: %s at %p: offset %ld of object %p (%u bytes, sampled)",
           r->name, kind, what, (void *)addr, off, (void *)r->obj, r->asked);
    log_traces(r);
}

bool quire_heap_fault(const void *addr, bool write)
{
    uintptr_t at = (uintptr_t)addr;
    const char *what = write ? "write" : "read";
    uint32_t i;

    if (!qi_sample_owns(addr))
        return false;
    i = index_of(at);
    /* a guard page has an object on either side: whose it is, the nearer one's */
    if (at < (uintptr_t)page_of(i) && i && distance(i - 1, at) < distance(i, at))
        i--;
    if (distance(i, at) == UINTPTR_MAX)
        qi_log(QUIRE_LOG_ERROR, "heap: %s at %p, among sampled objects, where none is", what, addr);
    else
        report(&records[i], at, what);
    return true;
}
