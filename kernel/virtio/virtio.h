/*
 * virtio/virtio.h - virtio devices on PCI, as drivers see them.
 *
 * Virtual I/O Device (VIRTIO) Version 1.1, OASIS; sections are cited where they are followed.
 */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include "pci.h"
#include "wait.h"
#include <quire/frame.h>

#define VIRTIO_BALLOON     5 /* device types, section 5 */
#define VIRTIO_MEM         24
#define VIRTIO_F_VERSION_1 (1ull << 32)

struct virtio {
    struct pci_device pci;
    unsigned type;
    volatile u8 *common, *isr, *notify, *config;
    u32 notify_step, notify_len, config_len;
    u64 features;        /* negotiated */
    bool polled;         /* no interrupt: whoever waits looks now and then */
    u32 config_changed;  /* atomic; set by the interrupt, cleared by the driver */
    struct waitq events; /* woken by every interrupt of the device */
};

/* Section 2.6; queue.c. */
struct virtq_desc;
struct virtq_avail;
struct virtq_used;
struct virtq {
    struct virtio *dev; /* NULL: the device has no such queue */
    u16 index, size, posted;
    bool quiet; /* the device is asked for no interrupts: whoever sends looks all the time */
    struct virtq_desc *desc;
    struct virtq_avail *avail;
    volatile struct virtq_used *used;
    volatile u16 *notify;
};

struct virtq_buf {
    q_pa pa;
    u32 len;
};

/* Find the devices and start their drivers.  Boot, task context. */
void virtio_init(void);

/* ---- a driver's start, in this order: section 3.1.1 ---- */

/* Reset, and agree on `wanted` as far as the device offers it.  0 or -errno. */
int virtio_negotiate(struct virtio *v, u64 wanted);
/* 0, -ENOENT if the device has no such queue, -ENOMEM. */
int virtq_init(struct virtio *v, struct virtq *q, u16 index);
/* For a queue whose device cannot be trusted with interrupts and notifications.  After virtq_init. */
void virtq_make_quiet(struct virtq *q);
void virtio_ready(struct virtio *v);
/* Give up: the device is told, and does nothing more. */
void virtio_failed(struct virtio *v);

u32 virtio_config_read(struct virtio *v, u32 offset);
void virtio_config_write(struct virtio *v, u32 offset, u32 value);

/* When a sleeper on v->events that wants to sleep until deadline_ns has to look again. */
u64 virtio_wake_time(const struct virtio *v, u64 deadline_ns);

/*
 * One request at a time is on a queue: n buffers, 1..q->size, all read by the device, all written, or
 * all read but the last, which it answers in (section 2.6.13).  The next may be posted when the device has used it.  The caller serialises.
 */
enum virtq_direction { VIRTQ_DEVICE_READS, VIRTQ_DEVICE_WRITES, VIRTQ_DEVICE_ANSWERS };
void virtq_post(struct virtq *q, const struct virtq_buf *bufs, unsigned n,
                enum virtq_direction dir);
/* The device has used what was posted, or nothing was. */
bool virtq_idle(const struct virtq *q);
/* Post and sleep until the device has used it.  Task context; signals wait. */
void virtq_send(struct virtq *q, const struct virtq_buf *bufs, unsigned n,
                enum virtq_direction dir);

/* Set up by virtio.c for queue.c: select the queue, return what the device can hold. */
u16 virtio_queue_size(struct virtio *v, u16 index);
void virtio_queue_enable(struct virtio *v, struct virtq *q, u16 size, q_pa desc, q_pa avail,
                         q_pa used);

#endif
