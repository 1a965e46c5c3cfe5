/*
 * slab/track.c - who allocated each object, and who freed it.
 *
 * Model.  A slab of a tracked cache has records beside it, one for each object, in the same
 * order as the state bytes.  They are made at the first tracked allocation in the slab and go
 * with the slab.  A record holds numbers: of two stack traces (depot.c), of the call site (sites.c);
 * and times, CPUs, tasks.  So a record is 80 bytes however deep the stacks are, and nothing in or
 * beside the object changes: tracking can be switched on while the heap is in use.
 *
 * Whose is a record.  Its object's holder's, like the state byte: no lock.  Others look (reports, the
 * leak scan), so the fields are atomics; phase says whether the rest is to be believed: LIVE from the end
 * of the allocation to the begin of the free, then FREED until the next allocation.
 *
 * Switching.  QI_SLOW_TRACK in quire_cache.slow sends allocations to qi_alloc_special(); the object's
 * state GUARDED sends its free to qi_free_slow().  An object whose allocation was not seen has no
 * record or one that is not LIVE, and its free changes nothing.
 *
 * Failure.  No memory for records or no room for a trace: the object, or its trace, is not known;
 * counted, never an error.
 *
 * Cost.  Off: nothing.  On: the walk of the stack, a look-up in the depot, two atomic additions for
 * the site, twice a pair.
 *
 * Rejected: records in the slot behind the object (SLUB's user tracking): makes slots larger, can be
 * switched only before the cache is used, and an overrun destroys the evidence.
 */
#include "harden.h"
#include "track.h"

#include "sites.h"

#if QUIRE_TRACK

#define SET_MIN_SHIFT 4u /* sets for 16 objects, 32, ... */
#define SET_SIZES     7u

#define LARGE_BUCKETS 1024u

static struct quire_cache set_caches[SET_SIZES], large_cache;
static bool all;          /* atomic: new caches are tracked */
uint32_t qi_track_ready;  /* atomic: tables and set caches are there */
static uint32_t watching; /* atomic: a leak scan follows pointers */
static uint64_t lost;     /* atomic */

static const struct qi_lock_class track_class = {"heap: tracking"}, start_class = {"heap: start"};
struct qi_spin qi_track_lock;
static struct qi_rwsem start_lock;
static struct qi_track_large *larges[LARGE_BUCKETS]; /* qi_track_lock; by address */
static struct qi_track_large *freed;                 /* qi_track_lock: while watching */

void qi_track_init(void)
{
    all = false;
    qi_track_ready = watching = 0;
    lost = 0;
    __builtin_memset(larges, 0, sizeof larges);
    freed = NULL;
    qi_spin_init(&qi_track_lock, &track_class);
    qi_rwsem_init(&start_lock, &start_class);
    qi_depot_init();
    qi_sites_init();
}

bool qi_track_all(void) { return qi_load_relaxed(&all); }

/* ---- records ---- */

static unsigned set_size(unsigned objects)
{
    return objects <= 1u << SET_MIN_SHIFT ? 0 : qi_log2_ceil(objects) - SET_MIN_SHIFT;
}

/* The records of s, made if there are none; NULL: no memory, or a slab of more objects than foreseen. */
static struct qi_track *records(struct qi_slab *s)
{
    struct qi_track *set = qi_load_acquire(&s->track), *seen = NULL;
    unsigned long irq;
    unsigned size;

    if (QI_LIKELY(set != NULL))
        return set;
    size = set_size(s->n);
    if (size >= SET_SIZES)
        return NULL;
    irq = qport_irq_save();
    set = qi_internal_alloc(&set_caches[size], QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY);
    if (set) {
        __builtin_memset(set, 0, s->n * sizeof *set);
        if (!qi_cas_acqrel(&s->track, &seen, set)) {
            qi_internal_free(&set_caches[size], set);
            set = seen;
        }
    }
    qport_irq_restore(irq);
    return set;
}

/* A leak scan finds slabs by their pages, under the lock.  Either it sees that the pages are no slab's
 * any more, or we see that it is there, and wait. */
static void wait_for_watcher(void)
{
    qi_fence_full();
    if (QI_UNLIKELY(qi_load_acquire(&watching))) {
        qi_spin_lock_raw(&qi_track_lock);
        qi_spin_unlock_raw(&qi_track_lock);
    }
}

void qi_track_slab_gone(struct qi_slab *s)
{
    struct qi_track *set;

    if (!qi_load_acquire(&qi_track_ready))
        return;
    wait_for_watcher();
    set = qi_load_acquire(&s->track);
    if (set) {
        s->track = NULL;
        qi_internal_free(&set_caches[set_size(s->n)], set);
    }
}

/* ---- the events ---- */

uint32_t qi_track_now(void) { return (uint32_t)(qport_now_ns() >> QI_TRACK_TICK_SHIFT); }

/* Inline, as each function on the way is a step of the walk up the stack. */
static inline __attribute__((always_inline)) void note(struct qi_track_event *e, uintptr_t caller)
{
    uintptr_t frames[QI_TRACE_MAX];

    qport_preempt_disable();
    qi_store_relaxed(&e->cpu, (uint32_t)qport_cpu());
    qport_preempt_enable();
    qi_store_relaxed(&e->trace, qi_depot_put(frames, qi_trace(caller, frames, QI_TRACE_MAX)));
    qi_store_relaxed(&e->time, qi_track_now());
    qi_store_relaxed(&e->task, QPORT_TRACK_TASK());
}

static inline __attribute__((always_inline)) void begin(struct qi_track *t, size_t bytes,
                                                        uintptr_t caller)
{
    uint32_t site = qi_site_of(caller);

    qi_store_relaxed(&t->site, site);
    qi_store_relaxed(&t->asked, (uint32_t)bytes);
    qi_store_relaxed(&t->marks, 0u);
    qi_store_relaxed(&t->reached, 0u);
    qi_store_relaxed(&t->content, 0u);
    qi_store_relaxed(&t->suspect, 0u);
    note(&t->alloc, caller);
    qi_site_add(site, bytes);
    qi_store_release(&t->phase, (uint32_t)QI_TRACK_LIVE);
}

void qi_track_alloc(struct quire_cache *c, void *obj, size_t asked, uintptr_t caller)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(obj));
    struct qi_track *set;
    uint64_t i;

    (void)c;
    if (!qi_load_acquire(&qi_track_ready))
        return;
    set = records(s);
    if (!set) {
        qi_fetch_add_relaxed(&lost, 1);
        return;
    }
    qi_slab_index(s, obj, &i);
    begin(&set[i - 1], asked, caller);
}

struct qi_track *qi_track_record(const struct qi_slab *s, unsigned i)
{
    struct qi_track *set = qi_load_acquire(&s->track);

    return set ? &set[i - 1] : NULL;
}

/* Of an object that is known to be one. */
static struct qi_track *record_of(const void *obj)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(obj));
    uint64_t i;

    qi_slab_index(s, obj, &i);
    return qi_track_record(s, (unsigned)i);
}

void qi_track_free(struct quire_cache *c, void *obj, uintptr_t caller)
{
    struct qi_track *t = record_of(obj);

    (void)c;
    if (!t || qi_load_relaxed(&t->phase) != QI_TRACK_LIVE)
        return;
    qi_store_release(&t->phase, (uint32_t)QI_TRACK_NONE);
    qi_site_sub(t->site, t->asked);
    note(&t->free, caller);
    qi_store_release(&t->phase, (uint32_t)QI_TRACK_FREED);
}

void qi_track_resize(const void *obj, size_t asked)
{
    struct qi_track *t = NULL;

    if (!qi_sample_owns(obj) && qi_page_has_objects(quire_page_of_ptr(obj)))
        t = record_of(obj);
    if (t && qi_load_relaxed(&t->phase) == QI_TRACK_LIVE) {
        qi_site_resize(t->site, t->asked, asked);
        qi_store_relaxed(&t->asked, (uint32_t)asked);
    }
}

/* The slab of a user's object that p lies in or beside; NULL: none.  *i is 0, or n + 1, if p is beside. */
static struct qi_slab *slab_around(const void *p, uint64_t *i)
{
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    struct qi_slab *s;

    if (off >= qi_load_relaxed(&qi_heap_end) || !quire_pfn_valid(Q_PFN(off >> QUIRE_PAGE_SHIFT)) ||
        !qi_slab_of_user(p, &s) || !s || !s->recip)
        return NULL;
    *i = ((uintptr_t)p + s->cache->left - s->origin) / s->cache->slot;
    return s;
}

/* ---- large objects ---- */

static struct qi_track_large **bucket_of(uintptr_t start)
{
    uint64_t page = start >> QUIRE_PAGE_SHIFT;

    return &larges[page * 0x9e3779b97f4a7c15 >> 32 & (LARGE_BUCKETS - 1)];
}

void qi_track_note_large(const void *start, size_t bytes, uintptr_t caller)
{
    unsigned long irq;
    struct qi_track_large *l;

    if (!qi_load_acquire(&qi_track_ready) || !qi_track_all())
        return;
    irq = qport_irq_save();
    l = qi_internal_alloc(&large_cache, QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY);
    if (l) {
        *l = (struct qi_track_large){.start = (uintptr_t)start, .bytes = bytes};
        begin(&l->t, bytes, caller);
        qi_spin_lock_raw(&qi_track_lock);
        l->next = *bucket_of(l->start);
        *bucket_of(l->start) = l;
        qi_spin_unlock_raw(&qi_track_lock);
    } else {
        qi_fetch_add_relaxed(&lost, 1);
    }
    qport_irq_restore(irq);
}

void qi_track_drop_large(const void *start)
{
    struct qi_track_large **at, *l;
    unsigned long irq;

    if (!qi_load_acquire(&qi_track_ready))
        return;
    irq = qi_spin_lock_irq(&qi_track_lock);
    at = bucket_of((uintptr_t)start);
    while (*at && (*at)->start != (uintptr_t)start)
        at = &(*at)->next;
    l = *at;
    if (l) {
        *at = l->next;
        qi_store_release(&l->t.phase, (uint32_t)QI_TRACK_NONE);
        qi_site_sub(l->t.site, l->bytes);
        if (qi_load_relaxed(&watching)) {
            l->next = freed;
            freed = l;
            l = NULL;
        }
    }
    qi_spin_unlock_raw(&qi_track_lock);
    if (l)
        qi_internal_free(&large_cache, l);
    qport_irq_restore(irq);
}

size_t qi_track_large_list(size_t first, struct qi_track_large **out, size_t max)
{
    size_t n = 0;

    for (unsigned b = 0; b < LARGE_BUCKETS; b++)
        for (struct qi_track_large *l = larges[b]; l; l = l->next, n++)
            if (n >= first && n - first < max)
                out[n - first] = l;
    return n <= first ? 0 : QI_MIN(n - first, max);
}

void qi_track_watch_begin(void)
{
    qi_store_relaxed(&watching, 1u);
    qi_fence_full();
}

void qi_track_watch_end(void)
{
    unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
    struct qi_track_large *l = freed;

    freed = NULL;
    qi_store_release(&watching, 0u);
    qi_spin_unlock_raw(&qi_track_lock);
    while (l) {
        struct qi_track_large *next = l->next;

        qi_internal_free(&large_cache, l);
        l = next;
    }
    qport_irq_restore(irq);
}

struct qi_track *qi_track_find(const void *p)
{
    struct qi_track *t = NULL;
    struct qi_track_large *l;
    struct qi_slab *s;
    uint64_t i;

    if (!qi_load_acquire(&qi_track_ready))
        return NULL;
    s = slab_around(p, &i);
    if (s) {
        if (i >= 1 && i <= s->n && qi_slab_object(s, (unsigned)i) == p)
            t = qi_track_record(s, (unsigned)i);
    } else {
        for (l = *bucket_of((uintptr_t)p); l && l->start != (uintptr_t)p; l = l->next) {
        }
        t = l ? &l->t : NULL;
    }
    return t && qi_load_acquire(&t->phase) == QI_TRACK_LIVE ? t : NULL;
}

/* The large record that p lies in, or NULL; for reports. */
static struct qi_track_large *large_around(const void *p)
{
    struct qi_track_large *found = NULL;
    unsigned long irq = qi_spin_lock_irq(&qi_track_lock);

    for (unsigned b = 0; b < LARGE_BUCKETS && !found; b++)
        for (struct qi_track_large *l = larges[b]; l; l = l->next)
            if ((uintptr_t)p - l->start < l->bytes)
                found = l;
    qi_spin_unlock_irq(&qi_track_lock, irq);
    return found;
}

/* ---- reports ---- */

static void log_event(const char *what, const struct qi_track_event *e)
{
    uint64_t ms = (uint64_t)qi_load_relaxed(&e->time) * (1u << QI_TRACK_TICK_SHIFT) / 1000000;
    uint32_t trace = qi_load_relaxed(&e->trace);
    const uintptr_t *frames;
    unsigned n = qi_depot_get(trace, &frames);

    qi_log(QUIRE_LOG_ERROR, "  %s at %lu.%03u s by task %lu on CPU %u%s", what,
           (unsigned long)(ms / 1000), (unsigned)(ms % 1000),
           (unsigned long)qi_load_relaxed(&e->task), qi_load_relaxed(&e->cpu),
           n ? "" : ", from a place that was not kept");
    qi_log_trace(QUIRE_LOG_ERROR, frames, n);
}

static bool describe_large(const void *p)
{
    struct qi_track_large *l = qi_load_acquire(&qi_track_ready) ? large_around(p) : NULL;

    if (!l)
        return false;
    qi_log(QUIRE_LOG_ERROR, "%p: byte %lu of %lu bytes of whole pages", p,
           (unsigned long)((uintptr_t)p - l->start), (unsigned long)l->bytes);
    log_event("allocated", &l->t.alloc);
    return true;
}

bool qi_track_describe(const void *p)
{
    uint64_t i;
    struct qi_slab *s = slab_around(p, &i);
    struct qi_track *t = s && i >= 1 && i <= s->n ? qi_track_record(s, (unsigned)i) : NULL;
    uint32_t phase = t ? qi_load_acquire(&t->phase) : (uint32_t)QI_TRACK_NONE;

    if (phase == QI_TRACK_NONE)
        return false;
    /* freed since, but not seen to be allocated again: the record is of somebody before */
    log_event(phase == QI_TRACK_LIVE || !qi_is_out(s->state[i]) ? "allocated"
                                                                : "last seen allocated",
              &t->alloc);
    if (phase == QI_TRACK_FREED)
        log_event("freed", &t->free);
    return true;
}

bool quire_heap_describe(const void *p)
{
    uint64_t i;
    struct qi_slab *s = slab_around(p, &i);
    const char *obj;

    if (!s)
        return describe_large(p);
    if (i < 1 || i > s->n) {
        qi_log(QUIRE_LOG_ERROR, "%p: between the objects of a slab of %s", p, s->cache->name);
        return true;
    }
    obj = qi_slab_object(s, i);
    qi_log(QUIRE_LOG_ERROR, "%p: byte %ld of object %p of %s (%u bytes), %s", p,
           (long)((const char *)p - obj), obj, s->cache->name, s->cache->size,
           qi_is_out(s->state[i]) ? "allocated" : "free");
    qi_track_describe(p);
    return true;
}

/* ---- switching ---- */

static bool make_ready(void)
{
    static const char *const names[SET_SIZES] = {"track-16",  "track-32",  "track-64",  "track-128",
                                                 "track-256", "track-512", "track-1024"};

    if (!qi_depot_start() || !qi_sites_start())
        return false;
    for (unsigned i = 0; i < SET_SIZES; i++)
        qi_cache_setup_internal(&set_caches[i], names[i],
                                sizeof(struct qi_track) << (SET_MIN_SHIFT + i), 8);
    qi_cache_setup_internal(&large_cache, "track-large", sizeof(struct qi_track_large), 8);
    qi_store_release(&qi_track_ready, 1u);
    return true;
}

static enum quire_status get_ready(void)
{
    bool done;

    qi_rwsem_write_lock(&start_lock);
    done = qi_load_relaxed(&qi_track_ready) || make_ready();
    qi_rwsem_write_unlock(&start_lock);
    return done ? QUIRE_OK : QUIRE_NO_MEMORY;
}

enum quire_status quire_track_start(void)
{
    enum quire_status status = get_ready();

    if (status == QUIRE_OK) {
        qi_rwsem_write_lock(&qi_caches_lock);
        qi_store_relaxed(&all, true);
        qi_caches_set_slow(QI_SLOW_TRACK);
        qi_rwsem_write_unlock(&qi_caches_lock);
    }
    return status;
}

void quire_track_stop(void)
{
    qi_rwsem_write_lock(&qi_caches_lock);
    qi_store_relaxed(&all, false);
    qi_caches_clear_slow(QI_SLOW_TRACK);
    qi_rwsem_write_unlock(&qi_caches_lock);
}

enum quire_status quire_cache_track_start(struct quire_cache *c)
{
    enum quire_status status = get_ready();

    if (status == QUIRE_OK)
        qi_fetch_or_relaxed(&c->slow, QI_SLOW_TRACK);
    return status;
}

void quire_cache_track_stop(struct quire_cache *c)
{
    qi_fetch_and_relaxed(&c->slow, ~QI_SLOW_TRACK);
}

void quire_track_stats(struct quire_track_stats *out)
{
    struct qi_depot_stats depot = qi_depot_stats();

    qi_sites_totals(out);
    out->lost = qi_load_relaxed(&lost);
    out->traces = depot.traces;
    out->traces_refused = depot.refused;
    out->memory += depot.bytes;
}

#else

enum quire_status quire_track_start(void) { return QUIRE_UNSUPPORTED; }
void quire_track_stop(void) {}
enum quire_status quire_cache_track_start(struct quire_cache *c)
{
    return (void)c, QUIRE_UNSUPPORTED;
}
void quire_cache_track_stop(struct quire_cache *c) { (void)c; }
bool quire_heap_describe(const void *p) { return (void)p, false; }
void quire_track_stats(struct quire_track_stats *out) { *out = (struct quire_track_stats){0}; }

#endif
