/*
 * virtio/balloon.c - the memory balloon (VIRTIO 1.1, section 5.5; hinting and reporting: 1.2).
 *
 * The host says how many pages it wants (num_pages), a kernel thread takes them from the frame
 * allocator and tells the host which they are; it says how many it has (actual).  When the host
 * wants fewer, pages go back, after the host has been told, whatever it demands: it is then never
 * in doubt about a page that is in use.
 *
 * Inflating stops at the low watermarks of all zones together and goes on when there is more.  When
 * memory runs out and the host agreed (DEFLATE_ON_OOM), whoever ran dry takes back a part;
 * from then on the balloon stays as it is until the host changes its mind: or it would take at
 * once what was given for a need.
 *
 * Invariants
 *   B1  held pages are in a chain through their struct pages (next), none twice; held counts them.
 *   B2  the lock is held from taking pages off or putting them on the chain until the host knows.
 *   B3  nothing on the way of deflating allocates memory.
 */
#include "balloon.h"
#include "reporting.h"
#include "task.h"
#include "virtio.h"
#include <quire/heap.h>
#include <quire/object.h>
#include <quire/space.h>

/* Feature bits, 5.5.3 */
#define F_STATS_VQ       (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_FREE_PAGE_HINT (1ull << 3)
#define F_REPORTING      (1ull << 5)

/* Configuration, 5.5.4 */
#define CONFIG_NUM_PAGES 0
#define CONFIG_ACTUAL    4
#define CONFIG_HINT_ID   8

/* 5.5.6.5: no hints wanted; hinted pages may be used again; all else asks for hints by this name. */
enum { HINT_STOP, HINT_DONE };

/* Statistics, 5.5.6.4 */
enum { S_SWAP_IN, S_SWAP_OUT, S_MAJFLT, S_MINFLT, S_MEMFREE, S_MEMTOT, S_AVAIL, S_CACHES };
struct stat {
    u16 tag;
    u64 value;
} __attribute__((packed));
#define STATS 8

#define BATCH     512  /* pages a request */
#define OOM_PAGES 1024 /* given back at least each time memory runs out */
#define RETRY_NS  200000000ull
#define NONE      0xffffffffu

/* What the device reads; a frame of its own. */
struct shared {
    u32 pfns[BATCH];
    struct stat stats[STATS];
    u32 hint_id;
};
_Static_assert(sizeof(struct shared) <= 4096, "one frame");

static struct balloon {
    struct virtio *dev;
    struct virtq inflate, deflate, stats, hint, report;
    struct shared *shared; /* pfns under lock, the rest the thread's */
    struct kmutex lock;
    struct quire_page *batch[BATCH]; /* under lock */
    u32 first;                       /* under lock */
    u64 held;                        /* under lock; atomic read */
    bool on_oom;                     /* constant: the host lets us deflate */
    u32 resting;                     /* atomic: not inflated until the host says something */
    u32 seen_target, seen_hint;      /* the thread's */
    u32 told_target, told_short;     /* the thread's: of the last line on the log */
} balloon = {.first = NONE};

u64 balloon_pages(void) { return __atomic_load_n(&balloon.held, __ATOMIC_RELAXED); }

static q_pa pa_of(const void *p) { return quire_pa_of_kla(Q_KLA((uintptr_t)p)); }

/* ---- pages on their way; lock held ---- */

static void set_held(struct balloon *b, u64 held)
{
    __atomic_store_n(&b->held, held, __ATOMIC_RELAXED);
    virtio_config_write(b->dev, CONFIG_ACTUAL, (u32)held);
}

static void tell_host(struct balloon *b, struct virtq *q, unsigned n)
{
    struct virtq_buf buf = {pa_of(b->shared->pfns), n * (u32)sizeof(u32)};

    for (unsigned i = 0; i < n; i++)
        b->shared->pfns[i] = (u32)quire_pfn_of_page(b->batch[i]).v;
    virtq_send(q, &buf, 1, VIRTQ_DEVICE_READS);
}

static unsigned inflate(struct balloon *b, u64 want)
{
    size_t n =
        quire_page_alloc_bulk(K_MIN(want, (u64)BATCH), b->batch, QUIRE_GFP_NORETRY, QUIRE_NODE_ANY);

    if (!n)
        return 0;
    tell_host(b, &b->inflate, (unsigned)n);
    for (size_t i = 0; i < n; i++) {
        b->batch[i]->next = b->first;
        b->first = (u32)quire_pfn_of_page(b->batch[i]).v;
    }
    set_held(b, b->held + n);
    return (unsigned)n;
}

static unsigned deflate(struct balloon *b, u64 want)
{
    unsigned n = 0;

    for (; n < K_MIN(want, (u64)BATCH) && b->first != NONE; n++) {
        b->batch[n] = quire_page_of_pfn(Q_PFN(b->first));
        b->first = b->batch[n]->next;
    }
    if (!n)
        return 0;
    tell_host(b, &b->deflate, n);
    quire_page_free_bulk(n, b->batch);
    set_held(b, b->held - n);
    return n;
}

/* ---- following the host ---- */

static u64 low_watermarks(void)
{
    struct quire_zone_stats z;
    u64 sum = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        sum += z.wmark_low;
    return sum;
}

/* One request's worth towards the target; false: no step can be made now. */
static bool step(struct balloon *b, u64 target, u64 keep)
{
    unsigned n = 0;

    kmutex_lock(&b->lock);
    if (b->held > target) {
        n = deflate(b, b->held - target);
    } else if (b->held < target && !__atomic_load_n(&b->resting, __ATOMIC_RELAXED)) {
        u64 free = quire_free_pages();

        if (free > keep)
            n = inflate(b, K_MIN(target - b->held, free - keep));
    }
    kmutex_unlock(&b->lock);
    return n;
}

static void tell_log(struct balloon *b, u32 target)
{
    u64 has = balloon_pages();
    bool is_short = has < target;

    if (b->told_target == target && b->told_short == is_short)
        return;
    b->told_target = target;
    b->told_short = is_short;
    printk("virtio-balloon: the host wants %u MiB, has %lu MiB%s", target >> 8,
           (unsigned long)has >> 8, is_short ? ": no more memory is free" : "");
}

/* True if pages are still missing. */
static bool follow_target(struct balloon *b)
{
    u64 keep = low_watermarks();
    u32 target;

    do {
        target = virtio_config_read(b->dev, CONFIG_NUM_PAGES);
        if (target != b->seen_target) { /* perhaps there are no interrupts */
            b->seen_target = target;
            __atomic_store_n(&b->resting, 0, __ATOMIC_RELAXED);
        }
        cond_resched();
    } while (step(b, target, keep));
    tell_log(b, target);
    return balloon_pages() < target && !__atomic_load_n(&b->resting, __ATOMIC_RELAXED);
}

bool balloon_deflate_on_oom(void)
{
    struct balloon *b = &balloon;
    bool some = reporting_release();
    unsigned n = 0, more = 1;

    if (some || !b->on_oom || !balloon_pages())
        return some;
    kmutex_lock(&b->lock);
    while (n < OOM_PAGES && more) {
        more = deflate(b, OOM_PAGES - n);
        n += more;
    }
    if (n && !__atomic_exchange_n(&b->resting, 1, __ATOMIC_RELAXED))
        printk("virtio-balloon: memory ran out: taking back from the host");
    kmutex_unlock(&b->lock);
    return n;
}

/* ---- statistics: the host keeps our buffer until it wants new ones (5.5.6.3) ---- */

/* Faults that were answered; none waits for a disk, so none is major. */
static u64 minor_faults(void)
{
    u64 sum = 0;

    for (unsigned k = QUIRE_EVENT_FAULT_ZERO_READ; k < QUIRE_EVENT_FAULT_SEGV; k++)
        sum += quire_event_count(k);
    return sum;
}

static void send_stats(struct balloon *b)
{
    u64 free = quire_free_pages() * 4096, files, shared;
    struct virtq_buf buf = {pa_of(b->shared->stats), sizeof(b->shared->stats)};

    quire_object_totals(&files, &shared);
    memcpy(b->shared->stats,
           (const struct stat[STATS]){
               {S_SWAP_IN, 0},
               {S_SWAP_OUT, 0},
               {S_MAJFLT, 0},
               {S_MINFLT, minor_faults()},
               {S_MEMFREE, free},
               {S_MEMTOT, quire_managed_pages() * 4096},
               {S_AVAIL, free},
               {S_CACHES, (files + shared) * 4096},
           },
           sizeof(b->shared->stats));
    virtq_post(&b->stats, &buf, 1, VIRTQ_DEVICE_READS);
}

/* ---- hinting ---- */

static void send_hint_id(struct balloon *b, u32 id)
{
    struct virtq_buf buf = {pa_of(&b->shared->hint_id), sizeof(id)};

    b->shared->hint_id = id;
    virtq_send(&b->hint, &buf, 1, VIRTQ_DEVICE_READS);
}

/* A wish that is answered may read as HINT_STOP: it is looked at only when the host has changed
 * something, and a change during a pass ends it. */
static void follow_hints(struct balloon *b)
{
    u32 id = virtio_config_read(b->dev, CONFIG_HINT_ID);

    if (id == HINT_DONE) {
        hinting_done();
    } else if (id != HINT_STOP && id != b->seen_hint) {
        b->seen_hint = id;
        send_hint_id(b, id);
        hinting_pass(&b->hint, &b->dev->config_changed);
        send_hint_id(b, HINT_STOP);
    }
}

/* ---- the thread ---- */

static bool something_to_do(struct balloon *b)
{
    return __atomic_load_n(&b->dev->config_changed, __ATOMIC_ACQUIRE) ||
           (b->stats.dev && virtq_idle(&b->stats));
}

static void balloon_main(void *arg)
{
    struct balloon *b = arg;
    u64 report_ns = b->report.dev ? ktime_ns() + REPORTING_PERIOD_NS : WAIT_FOREVER;
    struct waiter w;

    waitq_add(&b->dev->events, &w);
    for (;;) {
        u64 wake_ns = report_ns;

        if (__atomic_exchange_n(&b->dev->config_changed, 0, __ATOMIC_ACQUIRE)) {
            __atomic_store_n(&b->resting, 0, __ATOMIC_RELAXED);
            if (b->hint.dev)
                follow_hints(b);
        }
        if (follow_target(b))
            wake_ns = K_MIN(wake_ns, ktime_ns() + RETRY_NS);
        if (b->stats.dev && virtq_idle(&b->stats))
            send_stats(b);
        if (ktime_ns() >= report_ns) {
            reporting_pass(&b->report);
            report_ns = ktime_ns() + REPORTING_PERIOD_NS;
            continue;
        }
        wait_prepare();
        if (!something_to_do(b))
            wait_sleep(virtio_wake_time(b->dev, wake_ns));
        wait_finish();
    }
}

/* ---- start ---- */

/* Queues that a feature adds are numbered in order, without gaps for those that are not there:
 * not as section 5.5.2 has it, but as all devices and drivers do. */
static int init_queues(struct balloon *b)
{
    struct virtio *v = b->dev;
    int err = virtq_init(v, &b->inflate, 0);
    u16 n = 2;

    if (!err)
        err = virtq_init(v, &b->deflate, 1);
    if (!err && v->features & F_STATS_VQ)
        err = virtq_init(v, &b->stats, n++);
    if (!err && v->features & F_FREE_PAGE_HINT)
        err = virtq_init(v, &b->hint, n++);
    /* QEMU serves it in a thread that raises interrupts beside our reading of them, and that may miss
     * the last request when it stops polling */
    if (!err && b->hint.dev)
        virtq_make_quiet(&b->hint);
    if (!err && v->features & F_REPORTING)
        err = virtq_init(v, &b->report, n);
    return err;
}

int balloon_start(struct virtio *v)
{
    struct balloon *b = &balloon;
    struct quire_page *page;
    struct task *t = NULL;
    int err;

    if (b->dev)
        return -EBUSY;
    err = virtio_negotiate(v, F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING |
                                  (v->polled ? 0 : F_FREE_PAGE_HINT));
    if (err)
        return err;
    b->dev = v;
    err = init_queues(b);
    page = err ? NULL : quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    if (page)
        t = task_alloc("balloon", balloon_main, b);
    if (!t) {
        virtio_failed(v);
        if (page)
            quire_page_free(page, 0);
        return err ? err : -ENOMEM;
    }
    b->shared = quire_page_ptr(page);
    b->on_oom = v->features & F_DEFLATE_ON_OOM;
    virtio_ready(v);
    printk("virtio-balloon: %s%s%s%s%s%s", v->pci.name, b->stats.dev ? ", statistics" : "",
           b->on_oom ? ", deflates when memory runs out" : "",
           b->hint.dev ? ", hints at free pages" : "", b->report.dev ? ", reports free pages" : "",
           v->polled ? ", polled" : "");
    task_start(t);
    return 0;
}
