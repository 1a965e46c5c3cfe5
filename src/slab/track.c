/*
 * slab/track.c - who allocated each object, and who freed it.
 *
 * Model.  A slab of a tracked cache has a set of records beside it, one for each object: the same
 * order as the state bytes.  The set is made at the first tracked allocation in the slab and goes
 * with the slab.  A record holds numbers: of two stack traces (depot.c), of the call site (sites.c);
 * and times, CPUs, tasks.  So a record is 56 bytes however deep the stacks are, and nothing in or
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
 * Failure.  No memory for a set or no room for a trace: the object, or its trace, is not known;
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

#include "depot.h"
#include "sites.h"

#if QUIRE_TRACK

#define SET_MIN_SHIFT 4u /* sets for 16 objects, 32, ... */
#define SET_SIZES     7u

struct qi_track_set {
    struct qi_slab *slab;
    struct qi_track rec[];
};

static struct quire_cache set_caches[SET_SIZES];
static bool all;       /* atomic: new caches are tracked */
static uint32_t ready; /* atomic: tables and set caches are there */
static uint64_t lost;  /* atomic */

void qi_track_init(void)
{
    all = false;
    ready = 0;
    lost = 0;
    qi_depot_init();
    qi_sites_init();
}

bool qi_track_all(void) { return qi_load_relaxed(&all); }

/* ---- records ---- */

static unsigned set_size(unsigned objects)
{
    return objects <= 1u << SET_MIN_SHIFT ? 0 : qi_log2_ceil(objects) - SET_MIN_SHIFT;
}

/* The set of s, made if there is none; NULL: no memory, or a slab of more objects than foreseen. */
static struct qi_track_set *set_of(struct qi_slab *s)
{
    struct qi_track_set *set = qi_load_acquire(&s->track), *seen = NULL;
    unsigned size = set_size(s->n);
    unsigned long irq;

    if (set || size >= SET_SIZES)
        return set;
    irq = qport_irq_save();
    set = qi_internal_alloc(&set_caches[size], QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY);
    if (set) {
        __builtin_memset(set, 0, sizeof *set + s->n * sizeof set->rec[0]);
        set->slab = s;
        if (!qi_cas_acqrel(&s->track, &seen, set)) {
            qi_internal_free(&set_caches[size], set);
            set = seen;
        }
    }
    qport_irq_restore(irq);
    return set;
}

void qi_track_slab_gone(struct qi_slab *s)
{
    struct qi_track_set *set = qi_load_acquire(&s->track);

    if (set) {
        s->track = NULL;
        qi_internal_free(&set_caches[set_size(s->n)], set);
    }
}

/* ---- the events ---- */

static uint32_t now(void) { return (uint32_t)(qport_now_ns() >> QI_TRACK_TICK_SHIFT); }

static uint32_t trace_of(uintptr_t caller)
{
    uintptr_t frames[QI_TRACE_MAX];

    return qi_depot_put(frames, qi_trace(caller, frames, QI_TRACE_MAX));
}

void qi_track_alloc(struct quire_cache *c, void *obj, size_t asked, uintptr_t caller)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(obj));
    struct qi_track_set *set;
    struct qi_track *t;
    uint64_t i;

    (void)c;
    if (!qi_load_acquire(&ready))
        return;
    set = set_of(s);
    if (!set) {
        qi_fetch_add_relaxed(&lost, 1);
        return;
    }
    qi_slab_index(s, obj, &i);
    t = &set->rec[i - 1];
    qi_store_relaxed(&t->site, qi_site_of(caller));
    qi_store_relaxed(&t->asked, (uint32_t)asked);
    qi_store_relaxed(&t->alloc.trace, trace_of(caller));
    qi_store_relaxed(&t->alloc.time, now());
    qi_store_relaxed(&t->alloc.cpu, (uint32_t)qport_cpu());
    qi_store_relaxed(&t->alloc.task, QPORT_TRACK_TASK());
    qi_site_add(t->site, asked);
    qi_store_release(&t->phase, QI_TRACK_LIVE);
}

struct qi_track *qi_track_record(const struct qi_slab *s, unsigned i)
{
    struct qi_track_set *set = qi_load_acquire(&s->track);

    return set ? &set->rec[i - 1] : NULL;
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
    qi_store_release(&t->phase, QI_TRACK_NONE);
    qi_site_sub(t->site, t->asked);
    qi_store_relaxed(&t->free.trace, trace_of(caller));
    qi_store_relaxed(&t->free.time, now());
    qi_store_relaxed(&t->free.cpu, (uint32_t)qport_cpu());
    qi_store_relaxed(&t->free.task, QPORT_TRACK_TASK());
    qi_store_release(&t->phase, QI_TRACK_FREED);
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

/* The slab of a user's object that p lies in or beside; NULL: none.  *i is 0, or n + 1, if p is beside. */
static struct qi_slab *slab_around(const void *p, uint64_t *i)
{
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    struct qi_slab *s;

    if (off >= qi_load_relaxed(&qi_heap_end) || !quire_pfn_valid(Q_PFN(off >> QUIRE_PAGE_SHIFT)) ||
        !qi_slab_of_user(p, &s))
        return NULL;
    *i = ((uintptr_t)p + s->cache->left - s->origin) / s->cache->slot;
    return s;
}

bool qi_track_describe(const void *p)
{
    uint64_t i;
    struct qi_slab *s = slab_around(p, &i);
    struct qi_track *t = s && i >= 1 && i <= s->n ? qi_track_record(s, (unsigned)i) : NULL;
    uint32_t phase = t ? qi_load_acquire(&t->phase) : QI_TRACK_NONE;

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
        return false;
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

static enum quire_status get_ready(void)
{
    static const char *const names[SET_SIZES] = {"track-16",  "track-32",  "track-64",  "track-128",
                                                 "track-256", "track-512", "track-1024"};

    if (qi_load_acquire(&ready))
        return QUIRE_OK;
    if (!qi_depot_start() || !qi_sites_start())
        return QUIRE_NO_MEMORY;
    for (unsigned i = 0; i < SET_SIZES; i++)
        qi_cache_setup_internal(
            &set_caches[i], names[i],
            sizeof(struct qi_track_set) + (sizeof(struct qi_track) << (SET_MIN_SHIFT + i)), 8);
    qi_store_release(&ready, 1u);
    return QUIRE_OK;
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
size_t quire_heap_sites(struct quire_site *out, size_t max) { return (void)out, (void)max, 0; }

#endif
