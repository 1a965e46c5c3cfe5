/*
 * virtio/reporting.c - free page reporting and hinting (VIRTIO 1.2, sections 5.5.6.7 and 5.5.6.5).
 *
 * The host is told of free blocks of 2 MiB, whose frames it may use until we touch them again.  A
 * block must not come into use while the host takes it away; the frame allocator has no way to
 * hold a free block, so it is allocated, reported, and freed.  The allocator hands out first what came
 * back last: to see all free blocks a pass has to keep those that it has reported until its end.
 * It leaves a part of memory, and the low watermarks, to everybody else meanwhile; that part is
 * not reported.  If memory runs out nevertheless, what is held is freed (reporting_release).
 *
 * Which free blocks were reported before and not used since is not known: a pass reports them again,
 * which costs the host a look at an empty range.  So there is a pass only if at least a block's worth of
 * frames has been freed since the last one, and one in REPORTING_PERIOD_NS at most.
 *
 * Hinting is for a host that copies the machine elsewhere and wants to leave out what is free: one
 * such pass, whose blocks stay held until the host says that it is done.  Should they be freed before, for
 * lack of memory, nothing is lost: what is written to is copied, hinted or not.
 */
#include "reporting.h"
#include "lock.h"
#include "task.h"

#define ORDER  9
#define FRAMES (1ull << ORDER)
#define BLOCKS 32 /* a request, as Linux (PAGE_REPORTING_CAPACITY) */
#define NONE   0xffffffffu

/* Of memory: stays free during a pass, which takes milliseconds; while a copy is made. */
#define REPORTING_SHARE 32
#define HINTING_SHARE   8

static struct {
    struct kspin lock;
    u32 first;    /* blocks held, by their struct pages' next */
    bool stopped; /* atomic; released: the pass ends */
    u64 pages;    /* atomic: taken by a pass and not yet freed */
} held = {.first = NONE};

static u64 frees_seen; /* the thread's */
static bool hinting;   /* the thread's, atomic: what is held is the host's to end */

struct zones {
    u64 frees, low;
};

static struct zones look(void)
{
    struct quire_zone_stats z;
    struct zones sum = {0};

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++) {
        sum.frees += z.frees;
        sum.low += z.wmark_low;
    }
    return sum;
}

u64 reporting_pages(void)
{
    return __atomic_load_n(&hinting, __ATOMIC_RELAXED)
               ? 0
               : __atomic_load_n(&held.pages, __ATOMIC_RELAXED);
}

static unsigned take(unsigned max, u64 keep, struct quire_page *blocks[BLOCKS],
                     struct virtq_buf bufs[BLOCKS])
{
    unsigned n = 0;

    while (n < max && quire_free_pages() >= keep + FRAMES) {
        blocks[n] = quire_page_alloc(ORDER, QUIRE_GFP_MOVABLE | QUIRE_GFP_NORETRY, QUIRE_NODE_ANY);
        if (!blocks[n])
            break;
        __atomic_fetch_add(&held.pages, FRAMES, __ATOMIC_RELAXED);
        bufs[n].pa = quire_pa_of_page(blocks[n]);
        bufs[n++].len = FRAMES * 4096;
    }
    return n;
}

/* False: memory was wanted meanwhile. */
static bool keep_until_end(unsigned n, struct quire_page *blocks[BLOCKS])
{
    unsigned long flags = kspin_lock(&held.lock);
    bool go_on = !__atomic_load_n(&held.stopped, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < n; i++) {
        blocks[i]->next = held.first;
        held.first = (u32)quire_pfn_of_page(blocks[i]).v;
    }
    kspin_unlock(&held.lock, flags);
    return go_on;
}

static struct quire_page *pop(void)
{
    unsigned long flags = kspin_lock(&held.lock);
    struct quire_page *p = held.first == NONE ? NULL : quire_page_of_pfn(Q_PFN(held.first));

    if (p)
        held.first = p->next;
    kspin_unlock(&held.lock, flags);
    return p;
}

static bool free_held(void)
{
    struct quire_page *p;
    bool some = false;
    u64 n = 0;

    for (; (p = pop()); some = true) {
        quire_page_free(p, ORDER);
        n++;
    }
    __atomic_fetch_sub(&held.pages, n * FRAMES, __ATOMIC_RELAXED);
    return some;
}

bool reporting_release(void)
{
    __atomic_store_n(&held.stopped, true, __ATOMIC_RELAXED);
    return free_held();
}

/* Take blocks, tell, hold, until there are no more or *stop is set or memory is wanted. */
static void tell_all(struct virtq *q, unsigned at_once, u64 keep, const u32 *stop)
{
    struct quire_page *blocks[BLOCKS];
    struct virtq_buf bufs[BLOCKS];
    unsigned n;

    __atomic_store_n(&held.stopped, false, __ATOMIC_RELAXED);
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED) && (n = take(at_once, keep, blocks, bufs))) {
        virtq_send(q, bufs, n, VIRTQ_DEVICE_WRITES);
        if (!keep_until_end(n, blocks))
            break;
        cond_resched();
    }
    if (__atomic_load_n(&held.stopped, __ATOMIC_RELAXED))
        free_held();
}

void reporting_pass(struct virtq *q)
{
    static const u32 never;
    struct zones z = look();

    if (hinting || z.frees < frees_seen + FRAMES)
        return;
    tell_all(q, K_MIN((unsigned)q->size, (unsigned)BLOCKS),
             quire_managed_pages() / REPORTING_SHARE + z.low, &never);
    free_held();
    frees_seen = look().frees;
}

void hinting_pass(struct virtq *q, const u32 *stop)
{
    __atomic_store_n(&hinting, true, __ATOMIC_RELAXED);
    tell_all(q, 1, quire_managed_pages() / HINTING_SHARE + look().low, stop);
}

void hinting_done(void)
{
    free_held();
    __atomic_store_n(&hinting, false, __ATOMIC_RELAXED);
}
