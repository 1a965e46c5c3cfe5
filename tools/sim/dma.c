/*
 * dma.c - operations on the DMA view: two devices, and buffers that are mapped over other operations.
 *
 * A buffer is filled by whoever has it, the worker or the device, and must read so on the other side
 * after it has changed hands.  Buffers go through boxes and interrupts as other memory does, so
 * that they are unmapped on other CPUs than they were mapped on.
 */
#include <quire/dma.h>

#include "../../ports/sim/monitor.h"
#include "world.h"

enum { DEVICES = 2, MAPPED_MOST = 16384 };

/* One reaches the DMA zone only, in short segments; the other is elsewhere on the bus, wants
 * aligned buffers, and does not see the caches. */
static const struct quire_dma_device kinds[DEVICES] = {
    {.name = "short", .mask = 0xffffff, .boundary = 65536, .max_segment = MAPPED_MOST},
    {.name = "far",
     .mask = UINT64_MAX,
     .offset = 1ull << 40,
     .align = 512,
     .flags = QUIRE_DMA_NONCOHERENT}};
/* In simulated memory: the library hashes their addresses, which must be the same in every run. */
static struct quire_dma_device *devices;
static bool on; /* the program has such operations */

static void *device_view(const struct held *h)
{
    return quire_ptr_of_pa(Q_PA(h->words[0] - devices[h->cache].offset));
}

static bool writes(const struct held *h) { return h->refs != QUIRE_DMA_TO_DEVICE; }

bool dma_hold(struct held *h, void *p, unsigned bytes, unsigned kind)
{
    struct quire_dma_device *d = &devices[kind / 3 % DEVICES];
    q_ba bus;

    switch (quire_dma_map_range(d, p, bytes, kind % 3, &bus)) {
    case QUIRE_OK: break;
    case QUIRE_NO_MEMORY: return false; /* slots or an entry */
    default: sim_fail("status", "%u bytes cannot be mapped for %s", bytes, d->name);
    }
    if (bus.v + bytes - 1 > d->mask || (d->align && bus.v % d->align) ||
        (d->boundary && bus.v / d->boundary != (bus.v + bytes - 1) / d->boundary))
        sim_fail("content", "%s is given %u bytes at bus %#llx", d->name, bytes,
                 (unsigned long long)bus.v);
    h->p[0] = p;
    h->n = bytes;
    h->refs = kind % 3;
    h->cache = kind / 3 % DEVICES;
    h->words[0] = bus.v;
    h->kind = HELD_MAPPED;
    memory_check(device_view(h), bytes, h->pattern, "a buffer, by its device,");
    return true;
}

static void dma_map(struct worker *w, struct held *h, unsigned bytes, unsigned kind)
{
    void *p;

    bytes = bytes % MAPPED_MOST & ~7u;
    p = quire_kmalloc(bytes += 8 * !bytes, QUIRE_GFP_KERNEL);
    if (!p) {
        if (bytes <= PAGE)
            must_be_short(w, "kmalloc of a buffer");
        return;
    }
    h->pattern = worker_random(w) | 1;
    memory_fill(p, bytes, h->pattern);
    if (!dma_hold(h, p, bytes, kind))
        quire_kfree(p);
}

/* The buffer changes hands there and back, or back and there. */
static void dma_sync(struct worker *w, struct held *h)
{
    struct quire_dma_device *d = &devices[h->cache];
    q_ba bus = Q_BA(h->words[0]);

    h->pattern = worker_random(w) | 1;
    if (writes(h)) {
        memory_fill(device_view(h), h->n, h->pattern);
        quire_dma_sync_for_cpu(d, bus, 0, h->n, h->refs);
        memory_check(h->p[0], h->n, h->pattern, "what a device wrote");
        quire_dma_sync_for_device(d, bus, 0, h->n, h->refs);
    } else {
        quire_dma_sync_for_cpu(d, bus, 0, h->n, h->refs);
        memory_fill(h->p[0], h->n, h->pattern);
        quire_dma_sync_for_device(d, bus, 0, h->n, h->refs);
    }
    memory_check(device_view(h), h->n, h->pattern, "a synced buffer, by its device,");
}

void dma_give_back(struct held *h)
{
    memory_check(device_view(h), h->n, h->pattern, "a mapped buffer, by its device,");
    if (writes(h))
        memory_fill(device_view(h), h->n, ++h->pattern);
    quire_dma_unmap(&devices[h->cache], Q_BA(h->words[0]), h->n, h->refs);
    memory_check(h->p[0], h->n, h->pattern, "an unmapped buffer");
    quire_kfree(h->p[0]);
}

/* Memory of both: taken, looked at, given back. */
static void dma_both(struct worker *w, unsigned bytes)
{
    uint64_t pattern = worker_random(w) | 1;
    void *p;
    q_ba bus;

    bytes = (bytes % MAPPED_MOST & ~7u) + 8;
    if (quire_dma_alloc(&devices[0], bytes, QUIRE_GFP_KERNEL, &p, &bus) != QUIRE_OK)
        return; /* the DMA zone may well be full */
    if (bus.v + bytes - 1 > devices[0].mask)
        sim_fail("content", "coherent memory at bus %#llx", (unsigned long long)bus.v);
    memory_check_zero(p, bytes, "coherent memory");
    memory_fill(p, bytes, pattern);
    memory_check(p, bytes, pattern, "coherent memory");
    quire_dma_free(&devices[0], bytes, p, bus);
}

bool do_dma_op(struct worker *w, const struct sim_op *op, struct held *h)
{
    switch (op->kind) {
    case SIM_OP_dma_map:
        if (h->kind == HELD_NOTHING)
            dma_map(w, h, op->arg[1], op->arg[2]);
        return true;
    case SIM_OP_dma_sync:
        if (h->kind == HELD_MAPPED)
            dma_sync(w, h);
        return true;
    case SIM_OP_dma_unmap:
        if (h->kind == HELD_MAPPED)
            memory_give_back(h);
        return true;
    case SIM_OP_dma_both: dma_both(w, op->arg[0]); return true;
    default: return false;
    }
}

bool dma_on(void) { return on; }

void dma_setup(void)
{
    const struct quire_dma_config config = {.slots = 24, .limit = 0xffffff, .mappings = 8};

    on = false;
    for (unsigned t = 0; t < world.program->ntasks; t++)
        for (size_t i = 0; i < world.program->tasks[t].n; i++)
            on |= world.program->tasks[t].ops[i].kind == SIM_OP_dma_map ||
                  world.program->tasks[t].ops[i].kind == SIM_OP_dma_both;
    if (!on)
        return;
    devices = quire_kmalloc(DEVICES * sizeof *devices, QUIRE_GFP_KERNEL);
    if (!devices || quire_dma_init(&config) != QUIRE_OK)
        sim_fail("boot", "no memory for bounce buffers");
    for (unsigned i = 0; i < DEVICES; i++) {
        devices[i] = kinds[i];
        if (quire_dma_device_init(&devices[i]) != QUIRE_OK)
            sim_fail("boot", "device %s is refused", kinds[i].name);
    }
}

void dma_teardown(void)
{
    struct quire_dma_stats s;

    if (!on)
        return;
    if (quire_dma_verify() != QUIRE_OK)
        sim_fail("verify", "DMA: %s", sim_last_error());
    quire_dma_stats(NULL, &s);
    if (s.free_slots != s.slots || s.maps != s.unmaps)
        sim_fail("leak", "%llu of %llu slots are free, %llu maps, %llu unmaps",
                 (unsigned long long)s.free_slots, (unsigned long long)s.slots,
                 (unsigned long long)s.maps, (unsigned long long)s.unmaps);
    for (unsigned i = 0; i < DEVICES; i++)
        if (quire_dma_device_fini(&devices[i]) != QUIRE_OK)
            sim_fail("leak", "device %s still has mappings", kinds[i].name);
    if (quire_dma_fini() != QUIRE_OK)
        sim_fail("leak", "mappings are still out");
    quire_kfree(devices);
}
