/*
 * kva/window.c - which addresses are whose: windows, their parts, and the ranges that are kept.
 *
 * A window is cut into one part for each node, so that CPUs of different nodes take no common lock
 * and an address tells where it came from; only a request that its part cannot serve goes to the
 * next one.  A window too small for that (PART_MIN for each node) is one part.
 *
 * A range that has been flushed need not go back to the tree: 64 pages or less stay, unmapped but
 * named in the tree, in a list by size, with their frames if these are not too many (pages.c).  Each CPU has such
 * lists (256 single pages, 16 of the larger sizes), behind it each part (2,048 in all; when it is full, sizes of which there are
 * many make room for others).  A CPU's lists hold ranges of its own node only, and are filled by sixteen
 * from the part's.  So the common vmalloc() searches nothing, takes no frames and no lock that others
 * want.  What was of no use for a while, by the least length of a list since the last look, goes back by halves
 * (Bonwick and Adams' working sets of magazines).
 */
#include "kva.h"

#include <quire/leak.h>

#include "../base/check.h"

#define PART_MIN (1ull << 30) /* a part below this is not worth the limit that it sets */
#define REFILL   16u
#define EVICT    16u

struct qi_window qi_windows[3];
struct quire_cache *qi_area_cache;

/* Ranges of one CPU; others come to purge. */
struct cpu_ranges {
    struct qi_spin lock;
    struct qi_area *lazy;                      /* lock; atomic, for a look without it */
    struct qi_ready ready[QI_READY_PAGES + 1]; /* lock; by pages */
} QI_CACHE_ALIGNED;

static struct cpu_ranges ranges[QUIRE_MAX_CPUS];

static const struct qi_lock_class part_class = {"kva: window"};
static const struct qi_lock_class ranges_class = {"kva: ranges of a CPU"};

/* ---- init ---- */

static bool layout_ok(const struct quire_kva_layout *l)
{
    const uint64_t v[] = {l->areas_start.v, l->areas_end.v,    l->stacks_start.v,
                          l->stacks_end.v,  l->device_start.v, l->device_end.v};

    for (unsigned i = 0; i < 6; i += 2) {
        /* room for a page and its guard, and no end at 2^64, where addresses wrap */
        if (!qi_is_aligned(v[i] | v[i + 1], QUIRE_PAGE_SIZE) || v[i] >= v[i + 1] ||
            v[i + 1] - v[i] < 4 * QUIRE_PAGE_SIZE)
            return false;
        for (unsigned j = 0; j < i; j += 2)
            if (v[i] < v[j + 1] && v[j] < v[i + 1])
                return false;
    }
    return true;
}

/* tail: bytes at the end of each part that stay empty. */
static void window_init(struct qi_window *w, q_kva start, q_kva end, unsigned parts, uint64_t tail)
{
    uint64_t share = qi_align_down((end.v - start.v) / parts, PART_MIN);

    if (!share) {
        parts = 1;
        share = end.v - start.v;
    }
    *w = (struct qi_window){.start = start.v, .end = end.v, .nparts = parts, .part_bytes = share};
    for (unsigned i = 0; i < parts; i++) {
        struct qi_part *p = &w->parts[i];

        p->start = start.v + i * share;
        p->end = i + 1 < parts ? p->start + share : end.v;
        qi_spin_init(&p->lock, &part_class);
        qi_gaps_init(&p->gaps, p->start, p->end - tail);
    }
}

enum quire_status qi_windows_init(const struct quire_kva_layout *l)
{
    enum quire_status s;

    if (!layout_ok(l))
        return QUIRE_INVALID;
    s = quire_cache_create("kva-area", sizeof(struct qi_area), QI_CACHE_LINE, 0, NULL,
                           &qi_area_cache);
    if (s != QUIRE_OK)
        return s;
    quire_leak_hide(qi_area_cache); /* it has the addresses of all that is live */
    window_init(QI_AREAS, l->areas_start, l->areas_end, quire_nodes(), 0);
    /* the last stack has a guard behind it as well */
    window_init(QI_STACKS, l->stacks_start, l->stacks_end, quire_nodes(), QUIRE_PAGE_SIZE);
    window_init(QI_DEVICES, l->device_start, l->device_end, 1, 0);
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        ranges[i] = (struct cpu_ranges){0};
        qi_spin_init(&ranges[i].lock, &ranges_class);
    }
    return QUIRE_OK;
}

/* ---- parts ---- */

static unsigned part_of_node(const struct qi_window *w, unsigned node)
{
    return node < w->nparts ? node : 0;
}

static unsigned part_of_cpu(const struct qi_window *w, unsigned cpu)
{
    return w->nparts == 1 ? 0 : part_of_node(w, quire_cpu_node(cpu));
}

static struct qi_part *part_at(struct qi_window *w, uint64_t at)
{
    uint64_t i = (at - w->start) / w->part_bytes;

    return &w->parts[QI_MIN(i, (uint64_t)w->nparts - 1)];
}

struct qi_area *qi_area_at(const struct qi_window *w, uint64_t at)
{
    struct qi_part *p = part_at((struct qi_window *)w, at);
    struct qi_gap_node *n;

    qi_spin_lock(&p->lock);
    n = qi_gaps_lookup(&p->gaps, at);
    qi_spin_unlock(&p->lock);
    return n ? QI_CONTAINER(n, struct qi_area, node) : NULL; /* the fence contains nothing */
}

void qi_area_unseen(const struct qi_area *a)
{
    struct qi_part *p = &qi_window_of(a)->parts[a->part];

    qi_spin_lock(&p->lock);
    qi_spin_unlock(&p->lock);
}

/* ---- ready ranges ---- */

static struct qi_area *pop(struct qi_ready *r)
{
    struct qi_area *a = r->first;

    if (!a)
        return NULL;
    r->first = a->next;
    qi_store_relaxed(&r->n, r->n - 1);
    r->low = QI_MIN(r->low, r->n);
    return a;
}

static void push(struct qi_ready *r, struct qi_area *a)
{
    a->next = r->first;
    r->first = a;
    qi_store_relaxed(&r->n, r->n + 1);
}

/* One for the caller, and some for this CPU's list if they are of its node. */
static struct qi_area *take_from_part(struct qi_part *p, size_t pages, struct cpu_ranges *c)
{
    struct qi_ready *from = &p->ready[pages], more = {0};
    struct qi_area *a, *b;

    if (!qi_load_relaxed(&from->n))
        return NULL;
    qi_spin_lock(&p->lock);
    a = pop(from);
    while (c && more.n < REFILL - 1 && (b = pop(from)))
        push(&more, b);
    p->nready -= (a != NULL) + more.n;
    qi_spin_unlock(&p->lock);
    if (more.n) {
        qi_spin_lock(&c->lock);
        while ((b = pop(&more)))
            push(&c->ready[pages], b);
        qi_spin_unlock(&c->lock);
    }
    return a;
}

static struct qi_area *take_ready(struct qi_window *w, const struct qi_want *want)
{
    size_t pages = (size_t)(want->bytes >> QUIRE_PAGE_SHIFT);
    struct cpu_ranges *c = NULL;
    struct qi_area *a = NULL;
    unsigned part, cpu;

    qport_preempt_disable();
    cpu = qport_cpu();
    part = part_of_cpu(w, cpu);
    if (QI_UNLIKELY(want->node != QUIRE_NODE_ANY && part_of_node(w, want->node) != part))
        part = part_of_node(w, want->node);
    else if (w == QI_AREAS)
        c = &ranges[cpu];
    if (c) {
        qi_spin_lock_raw(&c->lock);
        a = pop(&c->ready[pages]);
        qi_spin_unlock_raw(&c->lock);
    }
    if (!a)
        a = take_from_part(&w->parts[part], pages, c);
    qport_preempt_enable();
    return a;
}

/* Where an area is kept; areas that are alike in that are given back together. */
struct kind_of_place {
    const struct qi_window *window;
    uint64_t bytes;
    uint32_t cpu, part;
};

static struct kind_of_place place_of(const struct qi_area *a)
{
    return (struct kind_of_place){qi_window_of(a), a->bytes, a->cpu, a->part};
}

static bool goes_to(const struct qi_area *a, const struct kind_of_place *k)
{
    return a && a->bytes == k->bytes && a->cpu == k->cpu && a->part == k->part &&
           qi_window_of(a) == k->window;
}

/* More small ranges than large ones. */
static uint32_t room_of_cpu(size_t pages)
{
    return pages > QI_READY_PAGES
               ? 0
               : QI_MAX(QI_READY_CPU / (uint32_t)pages, (uint32_t)QI_READY_CPU_LEAST);
}

/* The CPU that freed the first of the list, and those like it, keeps what it has room for.  Returns
 * what is left of the list. */
static struct qi_area *give_to_cpu(struct qi_area *list, const struct kind_of_place *k)
{
    struct cpu_ranges *c = &ranges[k->cpu];
    uint32_t room = room_of_cpu(qi_area_pages(list));
    struct qi_ready *r;

    if (!room || k->window != QI_AREAS || k->part != part_of_cpu(QI_AREAS, k->cpu))
        return list;
    r = &c->ready[qi_area_pages(list)];
    qi_spin_lock(&c->lock);
    do {
        struct qi_area *a = list;

        if (r->n >= room)
            break;
        list = a->next;
        push(r, a);
    } while (goes_to(list, k));
    qi_spin_unlock(&c->lock);
    return list;
}

/* Areas that are in no tree and on no list any more.  Returns the frames that came free. */
static uint64_t forget(struct qi_area *list)
{
    uint64_t frames = 0;

    while (list) {
        struct qi_area *a = list;

        list = a->next;
        frames += qi_area_drop_pages(a);
        quire_cache_free(qi_area_cache, a);
    }
    return frames;
}

/* n of a size leave the part, which is locked: they are chained in front of list. */
static struct qi_area *evict(struct qi_part *p, struct qi_ready *r, uint32_t n,
                             struct qi_area *list)
{
    struct qi_area *a;

    for (; n && (a = pop(r)); n--) {
        p->nready--;
        qi_gaps_remove(&p->gaps, &a->node);
        a->next = list;
        list = a;
    }
    return list;
}

/* The size of which there are most. */
static struct qi_ready *most_of(struct qi_part *p)
{
    struct qi_ready *most = &p->ready[1];

    for (unsigned pages = 2; pages <= QI_READY_PAGES; pages++)
        if (p->ready[pages].n > most->n)
            most = &p->ready[pages];
    return most;
}

/* Keep it, instead of some of a size of which there are many if it must be; or not.  The part is locked; what
 * leaves it is chained in front of gone. */
static struct qi_area *keep_in_part(struct qi_part *p, struct qi_area *a, struct qi_area *gone)
{
    struct qi_ready *r = &p->ready[QI_MIN(qi_area_pages(a), (size_t)QI_READY_PAGES)];

    if (QI_UNLIKELY(p->nready >= QI_READY_MAX)) {
        struct qi_ready *most = most_of(p);

        if (most->n > r->n + EVICT)
            gone = evict(p, most, EVICT, gone);
    }
    if (qi_area_pages(a) <= QI_READY_PAGES && p->nready < QI_READY_MAX) {
        push(r, a);
        p->nready++;
        return gone;
    }
    qi_gaps_remove(&p->gaps, &a->node);
    a->next = gone;
    return a;
}

/* The first of the list, and those like it, are the part's.  Returns the rest; *frames: came free. */
static struct qi_area *give_to_part(struct qi_area *list, const struct kind_of_place *k,
                                    uint64_t *frames)
{
    struct qi_part *p = &qi_window_of(list)->parts[k->part];
    struct qi_area *gone = NULL;

    qi_spin_lock(&p->lock);
    do {
        struct qi_area *a = list;

        list = a->next;
        gone = keep_in_part(p, a, gone);
    } while (goes_to(list, k));
    qi_spin_unlock(&p->lock);
    *frames += forget(gone);
    return list;
}

uint64_t qi_ranges_give(struct qi_area *list)
{
    uint64_t frames = 0;

    for (struct qi_area *a = list; a; a = a->next)
        qi_store_relaxed(&a->state, (uint32_t)QI_KVA_READY);
    while (list) {
        struct kind_of_place k = place_of(list);

        list = give_to_cpu(list, &k);
        if (goes_to(list, &k)) /* it has no room for more */
            list = give_to_part(list, &k, &frames);
    }
    return frames;
}

enum share { ALL, HALF_OF_UNUSED };

static uint32_t share_of(const struct qi_ready *r, enum share what)
{
    return what == ALL ? r->n : (r->low + 1) / 2;
}

static uint64_t release_part(struct qi_part *p, enum share what)
{
    struct qi_area *gone = NULL;

    qi_spin_lock(&p->lock);
    for (unsigned pages = 1; pages <= QI_READY_PAGES && p->nready; pages++) {
        struct qi_ready *r = &p->ready[pages];

        gone = evict(p, r, share_of(r, what), gone);
        r->low = r->n;
    }
    qi_spin_unlock(&p->lock);
    return forget(gone);
}

static uint64_t release_cpu(struct cpu_ranges *c, enum share what)
{
    uint64_t frames = 0;

    for (unsigned pages = 1; pages <= QI_READY_PAGES; pages++) {
        struct qi_ready *r = &c->ready[pages], gone = {0};
        struct qi_area *a;
        uint32_t n;

        if (!qi_load_relaxed(&r->n))
            continue;
        qi_spin_lock(&c->lock);
        for (n = share_of(r, what); n && (a = pop(r)); n--)
            push(&gone, a);
        r->low = r->n;
        qi_spin_unlock(&c->lock);
        while (gone.first) {
            struct kind_of_place k = place_of(gone.first);

            gone.first = give_to_part(gone.first, &k, &frames);
        }
    }
    return frames;
}

static uint64_t release(enum share what)
{
    uint64_t frames = 0;

    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++)
        frames += release_cpu(&ranges[i], what);
    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++)
        for (unsigned k = 0; k < qi_windows[i].nparts; k++)
            frames += release_part(&qi_windows[i].parts[k], what);
    return frames;
}

uint64_t qi_ranges_release(void) { return release(ALL); }
uint64_t qi_ranges_age(void) { return release(HALF_OF_UNUSED); }

/* ---- new ranges ---- */

static bool place(struct qi_part *p, struct qi_area *a, const struct qi_want *want)
{
    uint64_t front = want->kind == QI_KVA_STACK ? QUIRE_PAGE_SIZE : 0, at;
    struct qi_gap_node *next;
    bool found;

    qi_spin_lock(&p->lock);
    found = qi_gaps_find(&p->gaps, want->bytes + QUIRE_PAGE_SIZE, want->align, front - want->offset,
                         QUIRE_PAGE_SIZE, &at, &next);
    if (found) {
        a->node.start = at;
        a->node.end = at + want->bytes + QUIRE_PAGE_SIZE;
        a->start = at + front;
        qi_gaps_insert(&p->gaps, &a->node, next);
    }
    qi_spin_unlock(&p->lock);
    return found;
}

/* In the part of the node wanted, then in the others. */
static bool place_somewhere(struct qi_window *w, struct qi_area *a, const struct qi_want *want)
{
    unsigned first = 0;

    if (w->nparts > 1 && want->node != QUIRE_NODE_ANY) {
        first = part_of_node(w, want->node);
    } else if (w->nparts > 1) {
        qport_preempt_disable();
        first = part_of_cpu(w, qport_cpu());
        qport_preempt_enable();
    }
    for (unsigned i = 0; i < w->nparts; i++) {
        a->part = (uint8_t)((first + i) % w->nparts);
        if (place(&w->parts[a->part], a, want))
            return true;
    }
    return false;
}

/* Who looks at the areas of a part may be reading what the last user was. */
static void name(struct qi_area *a, const struct qi_want *want)
{
    qi_store_relaxed(&a->kind, (uint8_t)want->kind);
    qi_store_relaxed(&a->caller, want->caller);
}

struct qi_area *qi_range_take(struct qi_window *w, const struct qi_want *want)
{
    struct qi_area *a = NULL;

    if (want->bytes <= QI_READY_PAGES << QUIRE_PAGE_SHIFT && want->align <= QUIRE_PAGE_SIZE)
        a = take_ready(w, want);
    if (!a) {
        if (want->bytes > w->end - w->start)
            return NULL;
        a = quire_cache_alloc(qi_area_cache, QUIRE_GFP_KERNEL);
        if (!a)
            return NULL;
        a->bytes = want->bytes;
        a->slots = NULL;
        a->pages = QI_NO_PAGE;
        a->cpu = 0;
        name(a, want);
        qi_store_relaxed(&a->state, (uint32_t)QI_KVA_BUSY);
        if (place_somewhere(w, a, want))
            return a;
        quire_cache_free(qi_area_cache, a);
        return NULL;
    }
    qi_store_relaxed(&a->state, (uint32_t)QI_KVA_BUSY);
    if (want->kind != QI_KVA_MEMORY)
        qi_area_drop_pages(a);
    name(a, want);
    return a;
}

/* ---- what waits for a flush ---- */

void qi_lazy_push(struct qi_area *a)
{
    struct cpu_ranges *c;

    qport_preempt_disable();
    a->cpu = (uint16_t)qport_cpu();
    c = &ranges[a->cpu];
    qi_spin_lock_raw(&c->lock);
    qi_store_release(&a->state, (uint32_t)QI_KVA_LAZY);
    a->next = c->lazy;
    qi_store_relaxed(&c->lazy, a);
    qi_spin_unlock_raw(&c->lock);
    qport_preempt_enable();
}

struct qi_area *qi_lazy_take(void)
{
    struct qi_area *all = NULL;

    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        struct cpu_ranges *c = &ranges[i];
        struct qi_area *list, *last;

        if (!qi_load_relaxed(&c->lazy))
            continue;
        qi_spin_lock(&c->lock);
        list = c->lazy;
        qi_store_relaxed(&c->lazy, NULL);
        qi_spin_unlock(&c->lock);
        if (!list)
            continue;
        for (last = list; last->next; last = last->next) {
        }
        last->next = all;
        all = list;
    }
    return all;
}
