/*
 * dma/device.c - devices: their limits, and what they see of memory.
 */
#include "dma.h"

#define SEGMENT_UNIT 512u
#define MASK_MIN     (QUIRE_PAGE_SIZE - 1)

static bool range_ok(const struct quire_dma_range *r)
{
    uint64_t end;

    return r->bytes && qi_is_aligned(r->pa.v | r->bytes | r->bus.v, QUIRE_PAGE_SIZE) &&
           !qi_add_overflows(r->pa.v, r->bytes - 1, &end) &&
           !qi_add_overflows(r->bus.v, r->bytes - 1, &end);
}

static bool touch(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a <= b ? b - a < a_bytes : a - b < b_bytes;
}

static bool ranges_ok(const struct quire_dma_device *d)
{
    for (uint32_t i = 0; i < d->nranges; i++) {
        const struct quire_dma_range *r = &d->ranges[i];

        if (!range_ok(r))
            return false;
        for (uint32_t j = 0; j < i; j++) {
            const struct quire_dma_range *o = &d->ranges[j];

            if (touch(r->pa.v, r->bytes, o->pa.v, o->bytes) ||
                touch(r->bus.v, r->bytes, o->bus.v, o->bytes))
                return false;
        }
    }
    return true;
}

/* Limits are powers of two and each a multiple of what is below it, so that whatever is cut at one of
 * them begins a segment again. */
static bool limits_ok(const struct quire_dma_device *d)
{
    uint32_t align = d->align ? d->align : 1;

    return d->mask >= MASK_MIN && !(d->mask & (d->mask + 1)) && qi_is_pow2(align) &&
           align <= QUIRE_DMA_ALIGN_MAX && !(d->max_segment % SEGMENT_UNIT) &&
           !(d->max_segment % align) &&
           (!d->boundary ||
            (qi_is_pow2(d->boundary) && d->boundary >= QUIRE_DMA_SLOT && d->boundary >= align)) &&
           qi_is_aligned(d->offset, QUIRE_PAGE_SIZE) && !(d->flags & ~QUIRE_DMA_NONCOHERENT);
}

enum quire_status quire_dma_device_init(struct quire_dma_device *dev)
{
    unsigned long irq;

    QI_CHECK(dev->magic != QI_DMA_MAGIC, "dma: init of %s, which is a device already", dev->name);
    if (!limits_ok(dev) || !ranges_ok(dev))
        return QUIRE_INVALID;
    dev->maps = dev->unmaps = dev->bounces = dev->fails = 0;
    dev->magic = QI_DMA_MAGIC;
    dev->prev = NULL;
    irq = qi_spin_lock_irq(&qi_dma.lock);
    dev->next = qi_dma.devices;
    if (dev->next)
        dev->next->prev = dev;
    qi_dma.devices = dev;
    qi_spin_unlock_irq(&qi_dma.lock, irq);
    return QUIRE_OK;
}

enum quire_status quire_dma_device_fini(struct quire_dma_device *dev)
{
    unsigned long irq;

    qi_dma_check_device(dev, "fini");
    if (qi_load_relaxed(&dev->maps) != qi_load_relaxed(&dev->unmaps)) {
        qi_dma_table_report(dev);
        return QUIRE_BUSY;
    }
    irq = qi_spin_lock_irq(&qi_dma.lock);
    *(dev->prev ? &dev->prev->next : &qi_dma.devices) = dev->next;
    if (dev->next)
        dev->next->prev = dev->prev;
    qi_spin_unlock_irq(&qi_dma.lock, irq);
    dev->magic = 0;
    return QUIRE_OK;
}

void qi_dma_check_device(const struct quire_dma_device *dev, const char *who)
{
    QI_CHECK(dev->magic == QI_DMA_MAGIC, "dma: %s by %p, which is no device (magic %#x)", who,
             (const void *)dev, dev->magic);
}

/* Bytes from pa on that have successive bus addresses, however many; 0: the device does not see pa. */
static uint64_t window(const struct quire_dma_device *d, q_pa pa, q_ba *bus)
{
    if (!d->ranges) {
        bus->v = pa.v + d->offset;
        return bus->v ? 0 - bus->v : UINT64_MAX;
    }
    for (uint32_t i = 0; i < d->nranges; i++) {
        const struct quire_dma_range *r = &d->ranges[i];

        if (pa.v >= r->pa.v && pa.v - r->pa.v < r->bytes) {
            bus->v = r->bus.v + (pa.v - r->pa.v);
            return r->bytes - (pa.v - r->pa.v);
        }
    }
    return 0;
}

uint64_t qi_dma_segment_max(const struct quire_dma_device *d)
{
    uint64_t max = d->max_segment ? d->max_segment : UINT64_MAX;

    return d->boundary ? QI_MIN(max, d->boundary) : max;
}

uint64_t qi_dma_reach(const struct quire_dma_device *d, q_pa pa, uint64_t bytes, q_ba *bus)
{
    uint64_t n = QI_MIN(bytes, window(d, pa, bus));

    if (!n || bus->v > d->mask || (d->align && !qi_is_aligned(bus->v, d->align)))
        return 0;
    n = QI_MIN(n - 1, d->mask - bus->v) + 1;
    if (d->boundary)
        n = QI_MIN(n, d->boundary - (bus->v & (d->boundary - 1)));
    return QI_MIN(n, qi_dma_segment_max(d));
}

uint64_t quire_dma_max_bytes(const struct quire_dma_device *dev)
{
    qi_dma_check_device(dev, "max_bytes");
    return QI_MIN(qi_dma_segment_max(dev), (uint64_t)QUIRE_DMA_BOUNCE_MAX);
}

const char *qi_dma_direction_name(unsigned dir)
{
    static const char *const names[] = {"both ways", "to device", "from device"};

    return dir < QI_COUNT(names) ? names[dir] : "no direction";
}
