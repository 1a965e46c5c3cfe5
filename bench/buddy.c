/*
 * buddy.c - the buddy allocator of the textbooks (Knowlton 1965, Knuth 2.5), as kernels write it: a free list for
 * each order, links in the page structures, last in first out, one lock.
 *
 * It is meant to be a fair rival: 32 bytes a page, a mask of the orders that have something, links as
 * pointers so that no multiplication is in the way, a spin lock that is one exchange when free, no check
 * beyond the one for double frees that every production allocator has, arrays under one taking of the lock.
 * It has no caches for each CPU: that is what makes it the textbook's.
 */
#include "buddy.h"

#include <stdlib.h>
#include <sys/mman.h>

struct buddy_page {
    struct buddy_page *next, *prev; /* of a free block's head */
    uint32_t refs;
    uint8_t order; /* of a free block's head */
    bool free;     /* heads a free block */
    uint64_t owner;
};
_Static_assert(sizeof(struct buddy_page) == 32, "two pages a cache line");

static struct {
    unsigned lock;   /* 0: free */
    uint32_t orders; /* bit n: lists[n] has something */
    struct buddy_page *lists[BUDDY_MAX_ORDER + 1];
    size_t counts[BUDDY_MAX_ORDER + 1];
    struct buddy_page *pages;
    size_t frames;
} zone;

static inline void lock(void)
{
    while (__atomic_exchange_n(&zone.lock, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&zone.lock, __ATOMIC_RELAXED))
            __builtin_ia32_pause();
}
static inline void unlock(void) { __atomic_store_n(&zone.lock, 0, __ATOMIC_RELEASE); }

static inline void push(struct buddy_page *p, unsigned order)
{
    struct buddy_page *first = zone.lists[order];

    p->order = (uint8_t)order;
    p->free = true;
    p->prev = NULL;
    p->next = first;
    if (first)
        first->prev = p;
    zone.lists[order] = p;
    zone.counts[order]++;
    zone.orders |= 1u << order;
}

static inline void take_out(struct buddy_page *p, unsigned order)
{
    if (p->prev)
        p->prev->next = p->next;
    else if (!(zone.lists[order] = p->next))
        zone.orders &= ~(1u << order);
    if (p->next)
        p->next->prev = p->prev;
    p->free = false;
    zone.counts[order]--;
}

static inline struct buddy_page *alloc_locked(unsigned order)
{
    uint32_t fit = zone.orders >> order << order;
    struct buddy_page *p;
    unsigned have;

    if (!fit)
        return NULL;
    have = (unsigned)__builtin_ctz(fit);
    p = zone.lists[have];
    take_out(p, have);
    while (have > order) {
        have--;
        push(p + ((size_t)1 << have), have);
    }
    return p;
}

static inline void free_locked(struct buddy_page *p, unsigned order)
{
    size_t i = (size_t)(p - zone.pages);

    if (p->free || p->refs)
        abort();
    while (order < BUDDY_MAX_ORDER) {
        size_t k = i ^ (size_t)1 << order;

        if (k >= zone.frames || !zone.pages[k].free || zone.pages[k].order != order)
            break;
        take_out(&zone.pages[k], order);
        i &= k;
        order++;
    }
    push(&zone.pages[i], order);
}

bool buddy_init(size_t frames)
{
    struct buddy_page *pages = mmap(NULL, frames * sizeof *pages, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (pages == MAP_FAILED)
        return false;
    zone.pages = pages;
    zone.frames = frames;
    for (size_t i = 0; i < frames;) {
        unsigned order = i ? (unsigned)__builtin_ctzl(i) : BUDDY_MAX_ORDER;

        if (order > BUDDY_MAX_ORDER)
            order = BUDDY_MAX_ORDER;
        while (i + ((size_t)1 << order) > frames)
            order--;
        push(&pages[i], order);
        i += (size_t)1 << order;
    }
    return true;
}

void buddy_fini(void)
{
    munmap(zone.pages, zone.frames * sizeof *zone.pages);
    zone.pages = NULL;
    zone.frames = 0;
    zone.orders = 0;
    for (unsigned o = 0; o <= BUDDY_MAX_ORDER; o++) {
        zone.lists[o] = NULL;
        zone.counts[o] = 0;
    }
}

struct buddy_page *buddy_alloc(unsigned order)
{
    struct buddy_page *p;

    lock();
    p = alloc_locked(order);
    unlock();
    if (p)
        p->refs = 1;
    return p;
}

size_t buddy_alloc_many(size_t n, struct buddy_page **out)
{
    size_t i = 0;

    lock();
    for (; i < n && (out[i] = alloc_locked(0)); i++)
        out[i]->refs = 1;
    unlock();
    return i;
}

void buddy_free(struct buddy_page *p, unsigned order)
{
    p->refs--;
    lock();
    free_locked(p, order);
    unlock();
}

void buddy_free_many(size_t n, struct buddy_page **pages)
{
    lock();
    for (size_t i = 0; i < n; i++) {
        pages[i]->refs--;
        free_locked(pages[i], 0);
    }
    unlock();
}

size_t buddy_frame(const struct buddy_page *page) { return (size_t)(page - zone.pages); }

size_t buddy_free_frames(unsigned order)
{
    size_t n = 0;

    for (; order <= BUDDY_MAX_ORDER; order++)
        n += zone.counts[order] << order;
    return n;
}
