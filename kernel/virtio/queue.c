/*
 * virtio/queue.c - split virtqueues (VIRTIO 1.1, section 2.6).
 *
 * The drivers here ask one thing at a time, so a queue has one chain, which starts at descriptor 0:
 * no list of free descriptors, and "used" means that the whole table is ours again.  The
 * three parts lie in one block of frames, physically contiguous:
 *
 *     descriptors, 16 * size | available ring, 6 + 2 * size | pad to 4 | used ring, 6 + 8 * size
 */
#include "virtio.h"
#include "task.h"

struct virtq_desc {
    u64 pa;
    u32 len;
    u16 flags, next;
};
#define DESC_NEXT  1u
#define DESC_WRITE 2u

struct virtq_avail {
    u16 flags, idx, ring[];
};
struct virtq_used {
    u16 flags, idx;
    struct {
        u32 id, len;
    } ring[];
};
#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY     1u

#define MAX_SIZE 256 /* two frames; a device may be told to use less than it offers (4.1.5.1.3) */

static unsigned order_of(size_t bytes)
{
    unsigned order = 0;

    while (4096ul << order < bytes)
        order++;
    return order;
}

int virtq_init(struct virtio *v, struct virtq *q, u16 index)
{
    u16 size = virtio_queue_size(v, index);
    size_t avail, used, total;
    struct quire_page *page;
    u8 *mem;

    if (!size)
        return -ENOENT;
    size = K_MIN(size, (u16)MAX_SIZE);
    avail = sizeof(struct virtq_desc) * size;
    used = K_UP(avail + 6 + 2ul * size, 4);
    total = used + 6 + 8ul * size;
    page = quire_page_alloc(order_of(total), QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    if (!page)
        return -ENOMEM;
    mem = quire_page_ptr(page);
    memset(mem, 0, 4096ul << order_of(total));
    *q = (struct virtq){.dev = v, .index = index, .size = size};
    q->desc = (struct virtq_desc *)mem;
    q->avail = (struct virtq_avail *)(mem + avail);
    q->used = (volatile struct virtq_used *)(mem + used);
    virtio_queue_enable(v, q, size, quire_pa_of_page(page), Q_PA(quire_pa_of_page(page).v + avail),
                        Q_PA(quire_pa_of_page(page).v + used));
    return 0;
}

void virtq_make_quiet(struct virtq *q)
{
    q->avail->flags = AVAIL_NO_INTERRUPT;
    q->quiet = true;
}

static u16 used_idx(const struct virtq *q)
{
    return __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
}

bool virtq_idle(const struct virtq *q) { return used_idx(q) == q->posted; }

static void notify(const struct virtq *q)
{
    /* the device looks at idx again after it has asked for notifications (2.6.7.1, 2.6.10.1) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!(q->used->flags & USED_NO_NOTIFY))
        *q->notify = q->index;
}

void virtq_post(struct virtq *q, const struct virtq_buf *bufs, unsigned n, enum virtq_direction dir)
{
    if (!n || n > q->size || !virtq_idle(q))
        kpanic("virtio: %u buffers for a queue of %u that is %s", n, q->size,
               virtq_idle(q) ? "idle" : "busy");
    for (unsigned i = 0; i < n; i++) {
        bool last = i + 1 == n;
        bool write = dir == VIRTQ_DEVICE_WRITES || (dir == VIRTQ_DEVICE_ANSWERS && last);

        q->desc[i] =
            (struct virtq_desc){.pa = bufs[i].pa.v,
                                .len = bufs[i].len,
                                .flags = (u16)((write ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT)),
                                .next = (u16)(i + 1)};
    }
    q->avail->ring[q->posted % q->size] = 0;
    q->posted++;
    __atomic_store_n(&q->avail->idx, q->posted, __ATOMIC_RELEASE);
    notify(q);
}

/* A device that polled may have stopped without looking again; one that was stopped while it polled, to
 * be copied, has left in the ring that it wants no notification, and the copy does not poll. */
static void look_and_notify(const struct virtq *q)
{
    for (unsigned n = 1; !virtq_idle(q); n++) {
        sched_yield_now();
        if (n % 256)
            notify(q);
        else
            *q->notify = q->index;
    }
}

void virtq_send(struct virtq *q, const struct virtq_buf *bufs, unsigned n, enum virtq_direction dir)
{
    struct waiter w;

    virtq_post(q, bufs, n, dir);
    if (q->quiet)
        look_and_notify(q);
    waitq_add(&q->dev->events, &w);
    for (;;) {
        int err;

        wait_prepare();
        if (virtq_idle(q))
            break;
        err = wait_sleep_killable(virtio_wake_time(q->dev, WAIT_FOREVER));
        if (err ==
            -EINTR) /* whoever dies has to wait like everybody: the buffers are the device's */
            sched_yield_now();
    }
    wait_finish();
    waitq_remove(&w);
}
