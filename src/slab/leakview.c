/*
 * slab/leakview.c - what the last leak scan found, and what holders of objects say to the next.
 */
#include "leak.h"

#include "harden.h"

#include <quire/format.h>

#if QUIRE_TRACK

#define BATCH 16u /* suspects copied under the lock */

/* ---- marks ---- */

static void mark(const void *p, uint32_t what)
{
    unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
    struct qi_track *t = qi_track_find(p);

    if (t)
        qi_fetch_or_relaxed(&t->marks, what);
    qi_spin_unlock_irq(&qi_track_lock, irq);
}

void qi_leak_late(const void *p)
{
    if (qi_heap_mode(QUIRE_HEAP_LEAKSCAN))
        mark(p, QI_MARK_LATE);
}

void qi_leak_not_late(const void *p)
{
    unsigned long irq;
    struct qi_track *t;

    if (!qi_heap_mode(QUIRE_HEAP_LEAKSCAN))
        return;
    irq = qi_spin_lock_irq(&qi_track_lock);
    t = qi_track_find(p);
    if (t)
        qi_fetch_and_relaxed(&t->marks, ~QI_MARK_LATE);
    qi_spin_unlock_irq(&qi_track_lock, irq);
}

void quire_leak_hide(struct quire_cache *c) { qi_fetch_or_relaxed(&c->flags, QI_CACHE_HIDDEN); }
void quire_leak_not_leak(const void *p) { mark(p, QI_MARK_NOT_LEAK); }
void quire_leak_ignore(const void *p) { mark(p, QI_MARK_IGNORE); }
void quire_leak_no_scan(const void *p) { mark(p, QI_MARK_NO_SCAN); }

/* ---- suspects ---- */

static bool is_suspect(const struct qi_track *t)
{
    return qi_leak_scans && qi_load_relaxed(&t->suspect) == qi_leak_scans &&
           !(qi_load_relaxed(&t->marks) & (QI_MARK_HELD | QI_MARK_IGNORE));
}

struct view {
    bool (*one)(const struct quire_leak *leak, void *ctx);
    void *ctx;
    bool over;
    unsigned n;
    struct quire_leak kept[BATCH]; /* to be shown when the lock is dropped */
};

static void keep(void *arg, const struct qi_found *f)
{
    const struct qi_track *t = f->t;
    struct view *v = arg;
    struct quire_leak *leak;

    if (!is_suspect(t) || v->n == BATCH)
        return;
    leak = &v->kept[v->n++];
    *leak = (struct quire_leak){
        .start = (const void *)f->start,
        .bytes = qi_load_relaxed(&t->asked),
        .age_ms = (uint32_t)(((uint64_t)(qi_track_now() - qi_load_relaxed(&t->alloc.time))
                              << QI_TRACK_TICK_SHIFT) /
                             1000000),
        .task = qi_load_relaxed(&t->alloc.task),
        .cpu = qi_load_relaxed(&t->alloc.cpu),
        .content = qi_load_relaxed(&t->content),
    };
    leak->nframes = qi_depot_get(qi_load_relaxed(&t->alloc.trace), &leak->frames);
}

static void show(void *arg, size_t words)
{
    struct view *v = arg;

    (void)words;
    for (unsigned i = 0; i < v->n && !v->over; i++)
        v->over = !v->one(&v->kept[i], v->ctx);
    v->n = 0;
}

/* The same for the large ones. */
static void each_large(qi_leak_one one, void (*pause)(void *, size_t), void *ctx)
{
    struct qi_track_large *l[BATCH];
    size_t n, first = 0;

    do {
        unsigned long irq = qi_spin_lock_irq(&qi_track_lock);

        n = qi_track_large_list(first, l, BATCH);
        for (size_t i = 0; i < n; i++) {
            struct qi_found f = {&l[i]->t, l[i]->start, l[i]->bytes};

            one(ctx, &f);
        }
        qi_spin_unlock_irq(&qi_track_lock, irq);
        pause(ctx, BATCH);
        first += n;
    } while (n == BATCH);
}

void quire_leak_each(bool (*one)(const struct quire_leak *leak, void *ctx), void *ctx)
{
    struct view v = {.one = one, .ctx = ctx};

    qi_rwsem_write_lock(&qi_leak_lock);
    if (qi_leak_scans) {
        qi_track_watch_begin();
        qi_leak_walk(keep, show, &v);
        each_large(keep, show, &v);
        qi_track_watch_end();
    }
    qi_rwsem_write_unlock(&qi_leak_lock);
}

static void forgive(void *ctx, const struct qi_found *f)
{
    (void)ctx;
    if (is_suspect(f->t))
        qi_fetch_or_relaxed(&f->t->marks, QI_MARK_NOT_LEAK);
}

static void no_pause(void *ctx, size_t words) { (void)ctx, (void)words; }

void quire_leak_clear(void)
{
    qi_rwsem_write_lock(&qi_leak_lock);
    if (qi_leak_scans) {
        qi_track_watch_begin();
        qi_leak_walk(forgive, no_pause, NULL);
        each_large(forgive, no_pause, NULL);
        qi_track_watch_end();
    }
    qi_rwsem_write_unlock(&qi_leak_lock);
}

/* ---- as text ---- */

struct text {
    char *buf;
    size_t cap, len;
};

static void put(struct text *t, const char *fmt, ...) QUIRE_PRINTF(2, 3);
static void put(struct text *t, const char *fmt, ...)
{
    size_t room = t->len < t->cap ? t->cap - t->len : 0;
    va_list ap;

    va_start(ap, fmt);
    t->len += quire_vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
    va_end(ap);
}

/* The words of Linux's mm/kmemleak.c; without the name of the task's program, which the heap does not know. */
static bool put_leak(const struct quire_leak *leak, void *ctx)
{
    const uint8_t *at = leak->start;
    size_t shown = QI_MIN(leak->bytes, (size_t)32);
    struct text *t = ctx;
    char place[160];

    put(t, "unreferenced object 0x%lx (size %lu):\n", (unsigned long)(uintptr_t)leak->start,
        (unsigned long)leak->bytes);
    put(t, "  pid %lu, cpu %u (age %u.%03us)\n", (unsigned long)leak->task, leak->cpu,
        leak->age_ms / 1000, leak->age_ms % 1000);
    put(t, "  hex dump (first %lu bytes):", (unsigned long)shown);
    for (size_t i = 0; i < shown; i++)
        put(t, "%s%02x", i % 16 ? " " : "\n    ", qi_peek(at + i));
    put(t, "\n  backtrace (crc %x):\n", leak->content);
    for (unsigned i = 0; i < leak->nframes; i++)
        put(t, "    %s\n", qi_place_text(leak->frames[i], place, sizeof place));
    return true;
}

size_t quire_leak_text(char *buf, size_t cap)
{
    struct text t = {buf, cap, 0};

    if (cap)
        buf[0] = 0;
    quire_leak_each(put_leak, &t);
    return t.len;
}

#else

void quire_leak_set_hooks(const struct quire_leak_hooks *hooks) { (void)hooks; }
void quire_leak_root(void *scan, const void *from, const void *to)
{
    (void)scan, (void)from, (void)to;
}
enum quire_status quire_leak_scan(struct quire_leak_stats *out)
{
    return (void)out, QUIRE_UNSUPPORTED;
}
void quire_leak_clear(void) {}
void quire_leak_min_age(uint32_t ms) { (void)ms; }
void quire_leak_each(bool (*one)(const struct quire_leak *leak, void *ctx), void *ctx)
{
    (void)one, (void)ctx;
}
size_t quire_leak_text(char *buf, size_t cap) { return quire_snprintf(buf, cap, "%s", ""); }
void quire_leak_hide(struct quire_cache *c) { (void)c; }
void quire_leak_not_leak(const void *p) { (void)p; }
void quire_leak_ignore(const void *p) { (void)p; }
void quire_leak_no_scan(const void *p) { (void)p; }

#endif
