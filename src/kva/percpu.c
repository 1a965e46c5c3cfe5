/*
 * kva/percpu.c - memory of which each CPU has a copy (quire/percpu.h).
 *
 * Model.  A chunk is a kernel area of one unit for each CPU, filled at once with frames of the CPUs' nodes:
 *
 *     unit of CPU 0      unit of CPU 1      ...
 *     | 8 pages        | | 8 pages        |
 *       a page of unit 0 stands for that page of all units: what is free is free in all
 *
 * A page of units is free, or a row of objects of one size, or part of a larger object of whole pages.  A row has
 * a bitmap of its free objects; rows with room are listed by size, chunks by whether a page of them is free.  So an
 * object is found without a search, a larger one by a look at a byte of each chunk that has a free page.
 *
 * Objects are cleared when they are given out, through the direct map.  A free finds the chunk by its address in a
 * hash table.
 *
 * Invariants (quire_percpu_verify checks them; under the lock)
 *   C1  a page is FREE if and only if its bit in chunk->free is set; a row's index is its page's
 *   C2  nfree is the number of bits of a row; it is on its size's list if and only if that is not 0
 *   C3  a chunk is open if and only if a page of it is free
 *
 * A size keeps one row without objects.  Those, and chunks without rows, go back with a purge (quire_kva_purge(), but for one
 * chunk quire_kva_tick()): frees may come from interrupts, which cannot unmap.
 *
 * From others: fixed distance between copies and units in the kernel's window from Linux (mm/percpu.c), which finds
 * room by bitmaps of 4 bytes each with hints and keeps an owner pointer for each page; rows of one size from slabs, as FreeBSD's UMA
 * has them for its per-CPU zones (which take a page for each CPU and so serve sizes that divide it).
 */
#include <quire/percpu.h>

#include "../base/list.h"
#include "../slab/large.h"
#include "kva.h"

#define UNIT_PAGES (QUIRE_PERCPU_UNIT >> QUIRE_PAGE_SHIFT)
#define LEAST      8u
#define BUCKETS    256u
#define ROW_WORDS  (QUIRE_PAGE_SIZE / LEAST / 64)

/* Aligned to their lowest bit. */
static const uint16_t sizes[] = {8,   16,  32,  48,  64,   96,   128, 192,
                                 256, 384, 512, 768, 1024, 1360, 2048};

enum { PAGE_FREE, PAGE_ROW, PAGE_HEAD, PAGE_TAIL };

struct row {
    struct qi_list link;
    uint64_t free[ROW_WORDS];
    uint16_t nfree, n, size;
    uint8_t class, index;
};

struct qi_chunk {
    struct qi_list link;   /* open, or closed */
    struct qi_chunk *next; /* of the same bucket */
    struct qi_area *area;
    uint8_t *base;
    unsigned units;           /* CPUs */
    uint32_t free;            /* bit i: page i of the units is free */
    uint8_t what[UNIT_PAGES]; /* PAGE_* */
    struct row rows[UNIT_PAGES];
    struct quire_page *pages[]; /* [CPUs][UNIT_PAGES] */
};

#define ALL_FREE ((1u << UNIT_PAGES) - 1)

static const struct qi_lock_class lock_class = {"per-CPU memory"};
static struct qi_spin lock; /* with interrupts off; a leaf */
static struct qi_list with_room[QI_COUNT(sizes)], open_chunks, closed_chunks;
static struct qi_chunk *buckets[BUCKETS]; /* lock; by the address of CPU 0's unit */
static uint64_t objects, bytes, chunks;   /* lock */
static uint8_t class_of[2048 / LEAST + 1];

void qi_percpu_init(void)
{
    unsigned class = 0;

    qi_spin_init(&lock, &lock_class);
    for (unsigned i = 0; i < QI_COUNT(with_room); i++)
        qi_list_init(&with_room[i]);
    qi_list_init(&open_chunks);
    qi_list_init(&closed_chunks);
    objects = bytes = chunks = 0;
    __builtin_memset(buckets, 0, sizeof buckets);
    for (unsigned i = 0; i < QI_COUNT(class_of); i++) {
        while (sizes[class] < i * LEAST)
            class ++;
        class_of[i] = (uint8_t) class;
    }
}

/* ---- chunks ---- */

static struct qi_chunk **bucket_of(const void *p)
{
    return &buckets[(uintptr_t)p / QUIRE_PERCPU_UNIT % BUCKETS];
}

static struct qi_chunk **place_of(const uint8_t *base)
{
    struct qi_chunk **at = bucket_of(base);

    while (*at && (*at)->base != base)
        at = &(*at)->next;
    return at;
}

static struct qi_chunk *chunk_make(quire_gfp gfp, uintptr_t caller)
{
    unsigned cpus = quire_cpus();
    uint64_t total = (uint64_t)cpus * QUIRE_PERCPU_UNIT;
    struct qi_want want = {.bytes = total,
                           .align = QUIRE_PERCPU_UNIT,
                           .caller = caller,
                           .node = QUIRE_NODE_ANY,
                           .kind = QI_KVA_PERCPU};
    struct qi_chunk *c;

    gfp &= QUIRE_GFP_NORETRY | QUIRE_GFP_MEMALLOC;
    c = quire_kmalloc(sizeof *c + cpus * UNIT_PAGES * sizeof *c->pages,
                      gfp | QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    if (!c)
        return NULL;
    c->area = qi_area_make(QI_AREAS, &want);
    if (!c->area) {
        quire_kfree(c);
        return NULL;
    }
    for (unsigned cpu = 0; cpu < cpus; cpu++)
        if (!qi_area_populate_part(c->area, c->area->start + (uint64_t)cpu * QUIRE_PERCPU_UNIT,
                                   UNIT_PAGES, gfp | QUIRE_GFP_KERNEL, quire_cpu_node(cpu),
                                   c->pages + (size_t)cpu * UNIT_PAGES)) {
            qi_area_retire(c->area);
            quire_kfree(c);
            return NULL;
        }
    c->base = (uint8_t *)(uintptr_t)c->area->start;
    c->free = ALL_FREE;
    c->units = cpus;
    qi_area_publish(QI_AREAS, c->area);
    qi_track_large_alloc(c->base, total, caller);
    return c;
}

/* It is on no list, and nothing of it is out. */
static void chunk_drop(struct qi_chunk *c)
{
    qi_track_large_free(c->base);
    qi_area_claim(QI_AREAS, c->area, "percpu", QI_CALLER());
    qi_area_retire(c->area);
    quire_kfree(c);
}

static void chunk_relist(struct qi_chunk *c)
{
    qi_list_del(&c->link);
    qi_list_add(c->free ? &open_chunks : &closed_chunks, &c->link);
}

/* n pages of units from index on, of which the first says what they are, leave the free ones. */
static void pages_take(struct qi_chunk *c, unsigned index, unsigned n, uint8_t what)
{
    c->free &= ~(((1u << n) - 1) << index);
    for (unsigned i = 0; i < n; i++)
        c->what[index + i] = i ? PAGE_TAIL : what;
    if (!c->free)
        chunk_relist(c);
}

static unsigned pages_give(struct qi_chunk *c, unsigned index)
{
    bool closed = !c->free;
    unsigned n = 0;

    do {
        c->what[index + n] = PAGE_FREE;
        c->free |= 1u << (index + n);
        n++;
    } while (index + n < UNIT_PAGES && c->what[index + n] == PAGE_TAIL);
    if (closed)
        chunk_relist(c);
    return n;
}

/* ---- taking; the lock is held ---- */

/* n pages at a multiple of step pages, in the first chunk that has them. */
static uint8_t *take_pages(unsigned n, unsigned step, uint8_t what, struct qi_chunk **out)
{
    for (struct qi_list *l = open_chunks.next; l != &open_chunks; l = l->next) {
        struct qi_chunk *c = QI_CONTAINER(l, struct qi_chunk, link);

        for (unsigned i = 0; i + n <= UNIT_PAGES; i += step)
            if ((c->free >> i & ((1u << n) - 1)) == (1u << n) - 1) {
                pages_take(c, i, n, what);
                *out = c;
                return c->base + i * QUIRE_PAGE_SIZE;
            }
    }
    return NULL;
}

static struct row *row_make(unsigned class)
{
    struct qi_chunk *c;
    uint8_t *at = take_pages(1, 1, PAGE_ROW, &c);
    struct row *r;

    if (!at)
        return NULL;
    r = &c->rows[(at - c->base) >> QUIRE_PAGE_SHIFT];
    r->size = sizes[class];
    r->n = r->nfree = (uint16_t)(QUIRE_PAGE_SIZE / r->size);
    r->class = (uint8_t) class;
    r->index = (uint8_t)(r - c->rows);
    for (unsigned w = 0; w < ROW_WORDS; w++)
        r->free[w] = w < r->n / 64u    ? ~(uint64_t)0
                     : w == r->n / 64u ? ((uint64_t)1 << r->n % 64) - 1
                                       : 0;
    qi_list_add(&with_room[class], &r->link);
    return r;
}

static struct qi_chunk *chunk_of_row(struct row *r)
{
    return QI_CONTAINER(r - r->index, struct qi_chunk, rows[0]);
}

/* A row without objects. */
static void row_drop(struct qi_chunk *c, struct row *r)
{
    qi_list_del(&r->link);
    pages_give(c, r->index);
}

static uint8_t *take_object(unsigned class, struct qi_chunk **out)
{
    struct qi_list *l = with_room[class].next;
    struct row *r = l != &with_room[class] ? QI_CONTAINER(l, struct row, link) : row_make(class);
    unsigned w = 0, bit;

    if (!r)
        return NULL;
    while (!r->free[w])
        w++;
    bit = (unsigned)__builtin_ctzll(r->free[w]);
    r->free[w] &= r->free[w] - 1;
    if (!--r->nfree)
        qi_list_del(&r->link);
    *out = chunk_of_row(r);
    return (*out)->base + r->index * QUIRE_PAGE_SIZE + (w * 64 + bit) * r->size;
}

/* ---- giving back ---- */

/* Each size keeps a row without objects. */
static void drop_empty_rows(void)
{
    for (unsigned class = 0; class < QI_COUNT(sizes); class ++)
        for (struct qi_list *l = with_room[class].next, *next; l != &with_room[class]; l = next) {
            struct row *r = QI_CONTAINER(l, struct row, link);

            next = l->next;
            if (r->nfree == r->n)
                row_drop(chunk_of_row(r), r);
        }
}

void qi_percpu_release(unsigned keep)
{
    struct qi_list gone;
    unsigned long irq;

    qi_list_init(&gone);
    irq = qi_spin_lock_irq(&lock);
    if (!keep)
        drop_empty_rows();
    for (struct qi_list *l = open_chunks.next, *next; l != &open_chunks; l = next) {
        struct qi_chunk *c = QI_CONTAINER(l, struct qi_chunk, link);

        next = l->next;
        if (c->free == ALL_FREE && !(keep && keep--)) {
            qi_list_del(l);
            qi_list_add(&gone, l);
            *place_of(c->base) = c->next;
            chunks--;
        }
    }
    qi_spin_unlock_irq(&lock, irq);
    while (gone.next != &gone) {
        struct qi_chunk *c = QI_CONTAINER(gone.next, struct qi_chunk, link);

        qi_list_del(&c->link);
        chunk_drop(c);
    }
}

/* ---- allocation ---- */

/* An object of a row, of size bytes, or n whole pages. */
static void clear(struct qi_chunk *c, const uint8_t *p, size_t size, unsigned n)
{
    size_t off = (size_t)(p - c->base), first = off >> QUIRE_PAGE_SHIFT;
    struct quire_page **pages = c->pages + first, **end = c->pages + c->units * UNIT_PAGES;

    for (; pages < end; pages += UNIT_PAGES) {
        uint64_t *at = (uint64_t *)((char *)quire_page_ptr(*pages) + off % QUIRE_PAGE_SIZE);

        for (uint64_t *stop = at + size / 8; at < stop; at++)
            *at = 0;
        for (unsigned i = 0; i < n; i++)
            quire_page_clear(pages[i]);
    }
}

/* The class whose objects are large enough and aligned enough; as many as there are: whole pages. */
static unsigned class_for(size_t size, size_t align)
{
    unsigned class;

    if (size > 2048 || align > 2048)
        return QI_COUNT(sizes);
    class = class_of[(QI_MAX(size, align) + LEAST - 1) / LEAST];
    while (class < QI_COUNT(sizes) && (sizes[class] & (align - 1)))
        class ++;
    return class;
}

/* An object of a class, or n pages if there is no class for it. */
static uint8_t *take(unsigned class, unsigned n, size_t align, struct qi_chunk **c)
{
    unsigned step = (unsigned)QI_MAX(align >> QUIRE_PAGE_SHIFT, (size_t)1);
    unsigned long irq = qi_spin_lock_irq(&lock);
    uint8_t *p =
        class < QI_COUNT(sizes) ? take_object(class, c) : take_pages(n, step, PAGE_HEAD, c);

    if (p) {
        objects++;
        bytes += class < QI_COUNT(sizes) ? sizes[class] : n * QUIRE_PAGE_SIZE;
    }
    qi_spin_unlock_irq(&lock, irq);
    return p;
}

static QI_NOINLINE bool grow(quire_gfp gfp, uintptr_t caller)
{
    struct qi_chunk *c = chunk_make(gfp, caller), **at;
    unsigned long irq;

    if (!c)
        return false;
    irq = qi_spin_lock_irq(&lock);
    qi_list_add(&open_chunks, &c->link);
    at = bucket_of(c->base);
    c->next = *at;
    *at = c;
    chunks++;
    qi_spin_unlock_irq(&lock, irq);
    return true;
}

void *quire_percpu_alloc(size_t size, size_t align, quire_gfp gfp)
{
    uintptr_t caller = QI_CALLER();
    struct qi_chunk *c;
    unsigned class, pages = 0;
    uint8_t *p;

    if (!size || size > QUIRE_PERCPU_UNIT || !qi_is_pow2(align) || align > QUIRE_PERCPU_UNIT)
        return NULL;
    class = class_for(size, align);
    if (class == QI_COUNT(sizes))
        pages = (unsigned)((size + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
    while (!(p = take(class, pages, align, &c)))
        if ((gfp & QUIRE_GFP_ATOMIC) || !grow(gfp, caller))
            return NULL;
    clear(c, p, pages ? 0 : sizes[class], pages);
    return p;
}

/* ---- free ---- */

/* No chunk has its unit of CPU 0 at p. */
static const char *foreign(const void *p)
{
    struct qi_area *a =
        qi_window_has(QI_AREAS, (uintptr_t)p) ? qi_area_at(QI_AREAS, (uintptr_t)p) : NULL;

    if (!a || qi_load_relaxed(&a->kind) != QI_KVA_PERCPU ||
        qi_load_acquire(&a->state) != QI_KVA_LIVE)
        return "foreign or already freed pointer: no per-CPU memory is there";
    return "the copy of another CPU than 0";
}

/* NULL, or what is wrong with p. */
static const char *give_object(struct qi_chunk *c, struct row *r, const uint8_t *p)
{
    unsigned off = (unsigned)((uintptr_t)p % QUIRE_PAGE_SIZE), i = off / r->size;
    uint64_t bit = (uint64_t)1 << i % 64;

    if (off % r->size || i >= r->n)
        return "not the start of an object";
    if (r->free[i / 64] & bit)
        return "double free";
    r->free[i / 64] |= bit;
    if (!r->nfree++)
        qi_list_add(&with_room[r->class], &r->link);
    bytes -= r->size;
    if (r->nfree == r->n && r->link.next != r->link.prev) /* not the only one with room */
        row_drop(c, r);
    return NULL;
}

static const char *give(struct qi_chunk *c, const uint8_t *p)
{
    unsigned index = (unsigned)((p - c->base) >> QUIRE_PAGE_SHIFT);
    const char *wrong = NULL;

    switch (c->what[index]) {
    case PAGE_ROW: wrong = give_object(c, &c->rows[index], p); break;
    case PAGE_HEAD:
        if ((uintptr_t)p % QUIRE_PAGE_SIZE)
            return "not the start of an object";
        bytes -= pages_give(c, index) * QUIRE_PAGE_SIZE;
        break;
    case PAGE_TAIL: return "not the start of an object";
    default: return "double free, or never allocated";
    }
    objects -= !wrong;
    return wrong;
}

void quire_percpu_free(void *p)
{
    const uint8_t *base = (uint8_t *)qi_align_down((uintptr_t)p, QUIRE_PERCPU_UNIT);
    const char *wrong = NULL;
    struct qi_chunk *c;
    unsigned long irq;

    if (!p)
        return;
    irq = qi_spin_lock_irq(&lock);
    c = *place_of(base);
    if (QI_LIKELY(c != NULL))
        wrong = give(c, p);
    qi_spin_unlock_irq(&lock, irq);
    if (QI_UNLIKELY(!c))
        wrong = foreign(p);
    if (QI_UNLIKELY(wrong != NULL))
        qi_bug("percpu: free(%p) by %#lx: %s", p, (unsigned long)QI_CALLER(), wrong);
}

/* ---- looking ---- */

void quire_percpu_stats(struct quire_percpu_stats *out)
{
    unsigned long irq = qi_spin_lock_irq(&lock);

    *out = (struct quire_percpu_stats){objects, bytes, chunks * quire_cpus() * UNIT_PAGES};
    qi_spin_unlock_irq(&lock, irq);
}

static bool row_right(const struct row *r, unsigned index)
{
    unsigned bits = 0;

    for (unsigned w = 0; w < ROW_WORDS; w++)
        bits += qi_popcount(r->free[w]);
    return r->index == index && r->class < QI_COUNT(sizes) && r->size == sizes[r->class] &&
           bits == r->nfree && r->nfree <= r->n;
}

static bool chunk_right(const struct qi_chunk *c, bool open, uint64_t *out)
{
    for (unsigned i = 0; i < UNIT_PAGES; i++) {
        const struct row *r = &c->rows[i];
        bool row = c->what[i] == PAGE_ROW;

        if ((c->what[i] == PAGE_FREE) != (c->free >> i & 1) || (row && !row_right(r, i))) {
            qi_log(QUIRE_LOG_ERROR, "percpu verify: %s: page %u of chunk %p", row ? "C2" : "C1", i,
                   (const void *)c->base);
            return false;
        }
        *out += row ? (uint64_t)r->n - r->nfree : c->what[i] == PAGE_HEAD;
    }
    if (open != (c->free != 0))
        qi_log(QUIRE_LOG_ERROR, "percpu verify: C3: chunk %p, free pages %#x",
               (const void *)c->base, c->free);
    return open == (c->free != 0);
}

enum quire_status quire_percpu_verify(void)
{
    unsigned long irq = qi_spin_lock_irq(&lock);
    uint64_t seen = 0, n = 0;
    bool good = true;

    for (struct qi_list *l = open_chunks.next; good && l != &open_chunks; l = l->next, n++)
        good = chunk_right(QI_CONTAINER(l, struct qi_chunk, link), true, &seen);
    for (struct qi_list *l = closed_chunks.next; good && l != &closed_chunks; l = l->next, n++)
        good = chunk_right(QI_CONTAINER(l, struct qi_chunk, link), false, &seen);
    if (good && (seen != objects || n != chunks)) {
        qi_log(QUIRE_LOG_ERROR, "percpu verify: %lu objects in %lu chunks, booked %lu in %lu",
               (unsigned long)seen, (unsigned long)n, (unsigned long)objects,
               (unsigned long)chunks);
        good = false;
    }
    qi_spin_unlock_irq(&lock, irq);
    return good ? QUIRE_OK : QUIRE_CORRUPT;
}
