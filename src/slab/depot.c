/*
 * slab/depot.c - stack traces, each kept once.  depot.h has the purpose.
 *
 * Model.  Chunks of pages are filled with records one after the other, and a hash table leads to
 * them.  A record never changes and never goes; so looking one up needs no lock, and only who finds
 * nothing locks to add.  A record's number is its place: the chunk, and the unit of 8 bytes in it;
 * unit 0 of chunk 0 stays empty, so that no record has number 0.
 *
 * The lock is a leaf, taken with interrupts off; memory is taken before it.
 *
 * Source: the idea is that of Linux's lib/stackdepot.c (its documentation); ours never evicts, for
 * what refers to traces here are objects, which may live as long as the machine.
 */
#include "depot.h"

#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/trace.h"
#include "../sync/spin.h"

#include <quire/frame.h>

#if QUIRE_TRACK

#define CHUNK_ORDER 3u
#define CHUNK_BYTES (QUIRE_PAGE_SIZE << CHUNK_ORDER)
#define CHUNK_UNITS (CHUNK_BYTES / 8)
#define CHUNKS      (QUIRE_TRACK_DEPOT_KB * 1024u / CHUNK_BYTES)
#define TABLE_ORDER 2u
#define BUCKETS     ((QUIRE_PAGE_SIZE << TABLE_ORDER) / sizeof(uint32_t))

struct trace {
    uint32_t next; /* the following in the bucket, or 0 */
    uint32_t hash;
    uint32_t n;
    uint32_t unused; /* to the alignment of what follows */
    uintptr_t frames[];
};

static const struct qi_lock_class depot_class = {"heap: depot"};

static struct qi_spin lock; /* irq */
static uint32_t *buckets;   /* atomic each; numbers */
static char *chunks[CHUNKS];
static uint32_t nchunks;         /* lock; atomic for readers of statistics */
static uint32_t used;            /* lock: units of the last chunk */
static uint32_t traces, refused; /* atomic */

void qi_depot_init(void)
{
    qi_spin_init(&lock, &depot_class);
    buckets = NULL;
    nchunks = used = traces = refused = 0;
}

bool qi_depot_start(void)
{
    struct quire_page *page;

    if (buckets)
        return true;
    page = quire_page_alloc(TABLE_ORDER, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (!page)
        return false;
    buckets = quire_page_ptr(page);
    return true;
}

static const struct trace *trace_at(uint32_t id)
{
    return (const struct trace *)(chunks[id / CHUNK_UNITS] + id % CHUNK_UNITS * 8);
}

static uint32_t hash_of(const uintptr_t *frames, unsigned n)
{
    uint64_t h = n;

    for (unsigned i = 0; i < n; i++) {
        h = (h ^ frames[i]) * 0x9e3779b97f4a7c15; /* what is above depends on all below */
    }
    return (uint32_t)(h >> 32);
}

static bool is_of(const struct trace *t, const uintptr_t *frames, unsigned n)
{
    uintptr_t differ = 0;

    for (unsigned i = 0; i < n; i++) /* word by word: memcmp() may be a loop of bytes */
        differ |= t->frames[i] ^ frames[i];
    return !differ;
}

/* Among the records from first on, up to but without last. */
static uint32_t look_up(uint32_t first, uint32_t last, uint32_t hash, const uintptr_t *frames,
                        unsigned n)
{
    while (first != last) {
        const struct trace *t = trace_at(first);

        if (t->hash == hash && t->n == n && is_of(t, frames, n))
            return first;
        first = t->next;
    }
    return 0;
}

static unsigned units_of(unsigned n)
{
    return (unsigned)((sizeof(struct trace) + n * sizeof(uintptr_t) + 7) / 8);
}

/* Room for units in the last chunk, or in *fresh, which is then taken.  Locked. */
static struct trace *carve(unsigned units, struct quire_page **fresh, uint32_t *id)
{
    if (!nchunks || used + units > CHUNK_UNITS) {
        if (!*fresh || nchunks == CHUNKS)
            return NULL;
        chunks[nchunks] = quire_page_ptr(*fresh);
        *fresh = NULL;
        used = !nchunks;
        qi_store_relaxed(&nchunks, nchunks + 1);
    }
    *id = (nchunks - 1) * (uint32_t)CHUNK_UNITS + used;
    used += units;
    return (struct trace *)(uintptr_t)trace_at(*id);
}

/* Memory for a chunk, if this trace may need one. */
static struct quire_page *chunk_page(unsigned units)
{
    unsigned long irq = qi_spin_lock_irq(&lock);
    bool wanted = (!nchunks || used + units > CHUNK_UNITS) && nchunks < CHUNKS;

    qi_spin_unlock_irq(&lock, irq);
    if (!wanted)
        return NULL;
    return quire_page_alloc(CHUNK_ORDER, QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY, QUIRE_NODE_ANY);
}

/* A trace that was not in its bucket when that began with head; its number, 0: there is no room. */
static QI_NOINLINE uint32_t add(uint32_t hash, uint32_t head, const uintptr_t *frames, unsigned n)
{
    uint32_t *bucket = &buckets[hash % BUCKETS], now, id;
    struct quire_page *fresh = chunk_page(units_of(n));
    unsigned long irq = qi_spin_lock_irq(&lock);
    struct trace *t = NULL;

    now = qi_load_relaxed(bucket);
    id = look_up(now, head, hash, frames, n); /* what others added meanwhile */
    if (!id && (t = carve(units_of(n), &fresh, &id))) {
        t->next = now;
        t->hash = hash;
        t->n = n;
        __builtin_memcpy(t->frames, frames, n * sizeof *frames);
        qi_store_release(bucket, id);
        qi_fetch_add_relaxed(&traces, 1);
    }
    qi_spin_unlock_irq(&lock, irq);
    if (fresh)
        quire_page_free(fresh, CHUNK_ORDER);
    if (!id)
        qi_fetch_add_relaxed(&refused, 1);
    return id;
}

uint32_t qi_depot_put(const uintptr_t *frames, unsigned n)
{
    uint32_t hash = hash_of(frames, n), head, id;

    if (!buckets)
        return 0;
    head = qi_load_acquire(&buckets[hash % BUCKETS]);
    id = look_up(head, 0, hash, frames, n);
    return id ? id : add(hash, head, frames, n);
}

unsigned qi_depot_get(uint32_t id, const uintptr_t **frames)
{
    if (!id)
        return 0;
    *frames = trace_at(id)->frames;
    return trace_at(id)->n;
}

struct qi_depot_stats qi_depot_stats(void)
{
    return (struct qi_depot_stats){
        .traces = qi_load_relaxed(&traces),
        .refused = qi_load_relaxed(&refused),
        .bytes =
            qi_load_relaxed(&nchunks) * CHUNK_BYTES + (buckets ? BUCKETS * sizeof *buckets : 0),
    };
}

#endif
