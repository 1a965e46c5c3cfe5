/*
 * virtio/virtio.c - the transport: virtio over PCI (VIRTIO 1.1, section 4.1), and who drives what.
 *
 * Only the modern interface is used: structures found by vendor capabilities (4.1.4) in memory BARs.  A
 * transitional device has it too.  Interrupts are by pin: some of QEMU's virtio devices, the
 * balloon among them, have no MSI-X.
 */
#include "virtio.h"
#include "balloon.h"
#include "mem.h"
#include "task.h"
#include <quire/heap.h>

#define VENDOR              0x1af4
#define DEVICE_TRANSITIONAL 0x1000 /* ..0x103f: the type is the subsystem (4.1.2.1) */
#define DEVICE_MODERN       0x1040 /* and the type */
#define DEVICE_END          0x1080

/* Types of capabilities, 4.1.4. */
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE };

/* The common configuration, 4.1.4.3. */
struct common {
    u32 device_feature_select, device_feature, driver_feature_select, driver_feature;
    u16 msix_config, num_queues;
    u8 device_status, config_generation;
    u16 queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    u32 queue_desc[2], queue_driver[2], queue_device[2];
};
_Static_assert(sizeof(struct common) == 56, "VIRTIO 1.1, 4.1.4.3");

/* 2.1 */
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define STATUS_FAILED      128

#define ISR_CONFIG 2u

#define POLL_NS 10000000

static volatile struct common *common(struct virtio *v)
{
    return (volatile struct common *)v->common;
}

/* ---- start ---- */

static void add_status(struct virtio *v, u8 bit) { common(v)->device_status |= bit; }

void virtio_failed(struct virtio *v) { add_status(v, STATUS_FAILED); }
void virtio_ready(struct virtio *v) { add_status(v, STATUS_DRIVER_OK); }

int virtio_negotiate(struct virtio *v, u64 wanted)
{
    volatile struct common *c = common(v);
    u64 offered = 0;

    c->device_status = 0;
    while (c->device_status) /* 4.1.4.3.2: reset is done when it reads 0 */
        sched_yield_now();
    add_status(v, STATUS_ACKNOWLEDGE);
    add_status(v, STATUS_DRIVER);
    for (u32 i = 0; i < 2; i++) {
        c->device_feature_select = i;
        offered |= (u64)c->device_feature << i * 32;
    }
    v->features = offered & (wanted | VIRTIO_F_VERSION_1);
    for (u32 i = 0; i < 2; i++) {
        c->driver_feature_select = i;
        c->driver_feature = (u32)(v->features >> i * 32);
    }
    add_status(v, STATUS_FEATURES_OK);
    if (v->features & VIRTIO_F_VERSION_1 && c->device_status & STATUS_FEATURES_OK)
        return 0;
    virtio_failed(v);
    return -ENODEV;
}

u16 virtio_queue_size(struct virtio *v, u16 index)
{
    if (index >= common(v)->num_queues)
        return 0;
    common(v)->queue_select = index;
    return common(v)->queue_size;
}

static void write_pa(volatile u32 to[2], q_pa pa)
{
    to[0] = (u32)pa.v;
    to[1] = (u32)(pa.v >> 32);
}

void virtio_queue_enable(struct virtio *v, struct virtq *q, u16 size, q_pa desc, q_pa avail,
                         q_pa used)
{
    volatile struct common *c = common(v);
    u32 off;

    c->queue_select = q->index;
    c->queue_size = size;
    write_pa(c->queue_desc, desc);
    write_pa(c->queue_driver, avail);
    write_pa(c->queue_device, used);
    off = c->queue_notify_off * v->notify_step; /* 4.1.4.4 */
    if (off + 2 > v->notify_len)
        kpanic("%s: queue %u notifies at %u of %u", v->pci.name, q->index, off, v->notify_len);
    q->notify = (volatile u16 *)(v->notify + off);
    c->queue_enable = 1;
}

/* ---- the device's own configuration; fields of 32 bits, read at once (4.1.3.1) ---- */

u32 virtio_config_read(struct virtio *v, u32 offset)
{
    return offset + 4 <= v->config_len ? *(volatile u32 *)(v->config + offset) : 0;
}

void virtio_config_write(struct virtio *v, u32 offset, u32 value)
{
    if (offset + 4 <= v->config_len)
        *(volatile u32 *)(v->config + offset) = value;
}

/* ---- interrupts ---- */

/* Reading the status takes the interrupt back (4.1.4.5). */
static bool heard(void *arg)
{
    struct virtio *v = arg;
    u8 isr = *v->isr;

    if (isr & ISR_CONFIG)
        __atomic_store_n(&v->config_changed, 1, __ATOMIC_RELEASE);
    if (isr)
        waitq_wake_all(&v->events);
    return isr;
}

u64 virtio_wake_time(const struct virtio *v, u64 deadline_ns)
{
    return v->polled ? K_MIN(deadline_ns, ktime_ns() + POLL_NS) : deadline_ns;
}

/* ---- finding devices ---- */

static const struct {
    unsigned type;
    int (*start)(struct virtio *);
} drivers[] = {{VIRTIO_BALLOON, balloon_start}, {VIRTIO_MEM, virtio_mem_start}};

static void map_structures(struct virtio *v)
{
    const struct pci_device *d = &v->pci;

    for (unsigned at = 0; (at = pci_capability(d, PCI_CAP_VENDOR, at));) {
        unsigned kind = pci_read8(d, at + 3), bar = pci_read8(d, at + 4);
        u32 off = pci_read32(d, at + 8), len = pci_read32(d, at + 12);
        volatile u8 **to = kind == CAP_COMMON && len >= sizeof(struct common) ? &v->common
                           : kind == CAP_NOTIFY                               ? &v->notify
                           : kind == CAP_ISR                                  ? &v->isr
                           : kind == CAP_DEVICE                               ? &v->config
                                                                              : NULL;

        if (!to || *to || !len) /* the first of a kind that can be used (4.1.4.1) */
            continue;
        *to = pci_map(d, bar, off, len);
        if (*to && kind == CAP_NOTIFY) {
            v->notify_step = pci_read32(d, at + 16);
            v->notify_len = len;
        }
        if (*to && kind == CAP_DEVICE)
            v->config_len = len;
    }
}

static void enable(struct virtio *v)
{
    u16 command = pci_read16(&v->pci, PCI_COMMAND);

    command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    command &= (u16)~PCI_COMMAND_NO_INTX;
    pci_write16(&v->pci, PCI_COMMAND, command);
}

static unsigned type_of(const struct pci_device *d)
{
    return d->device >= DEVICE_MODERN ? d->device - DEVICE_MODERN : pci_read16(d, PCI_SUBSYSTEM);
}

static void start(const struct pci_device *d, int (*driver)(struct virtio *))
{
    struct virtio *v = quire_kzalloc(sizeof(*v), QUIRE_GFP_KERNEL);
    int err = -ENOMEM;

    if (v) {
        v->pci = *d;
        enable(v);
        map_structures(v);
        err = -ENODEV;
    }
    if (v && v->common && v->notify && v->isr && v->config) {
        v->polled = !pci_listen(d, heard, v);
        err = driver(v);
    }
    /* v stays: the interrupt may go to it */
    if (err)
        printk("virtio: %s, type %u, cannot be used: error %d", d->name, type_of(d), -err);
}

static void found(const struct pci_device *d)
{
    if (d->vendor != VENDOR || d->device < DEVICE_TRANSITIONAL || d->device >= DEVICE_END)
        return;
    for (unsigned i = 0; i < K_COUNT(drivers); i++)
        if (drivers[i].type == type_of(d))
            start(d, drivers[i].start);
}

void virtio_init(void) { pci_for_each(found); }
