/*
 * dma/table.c - which mappings there are: a hash table by device and bus address.
 *
 * One memory may be mapped for a device more than once (the same page sent twice), with the same
 * bus address: a chain then has several entries that differ in size, direction, or not at all.
 */
#include "dma.h"

#define REPORTED 8u

struct qi_dma_chain *qi_dma_chain_of(const struct quire_dma_device *dev, q_ba bus)
{
    uint64_t key = bus.v ^ (uint64_t)(uintptr_t)dev << 20;

    return &qi_dma.chains[(key ^ key >> 32) * 0x9e3779b97f4a7c15ull >> qi_dma.chain_shift];
}

void qi_dma_table_add(struct qi_dma_mapping *m)
{
    struct qi_dma_chain *c = qi_dma_chain_of(m->dev, m->bus);
    unsigned long irq = qi_spin_lock_irq(&c->lock);

    m->next = c->first;
    c->first = m;
    qi_spin_unlock_irq(&c->lock, irq);
}

static const char *kind_name(unsigned kind)
{
    return kind == QI_DMA_COHERENT ? "coherent" : "streaming";
}

/* Nothing is as key says: tell what is mapped at its address, if anything. */
_Noreturn static void no_such(const struct qi_dma_mapping *key, const struct qi_dma_mapping *near,
                              const char *who)
{
    if (!near->dev)
        qi_bug("dma: %s by %s of %lu bytes at bus %#lx, %s: nothing is mapped there", who,
               key->dev->name, (unsigned long)key->bytes, (unsigned long)key->bus.v,
               qi_dma_direction_name(key->dir));
    qi_bug("dma: %s by %s of %lu bytes at bus %#lx, %s %s: mapped there are %lu bytes, %s %s", who,
           key->dev->name, (unsigned long)key->bytes, (unsigned long)key->bus.v,
           kind_name(key->kind), qi_dma_direction_name(key->dir), (unsigned long)near->bytes,
           kind_name(near->kind), qi_dma_direction_name(near->dir));
}

static bool here(const struct qi_dma_mapping *m, const struct qi_dma_mapping *key)
{
    return m->dev == key->dev && m->bus.v == key->bus.v;
}

/* Coherent memory is freed by both of its addresses. */
static bool same(const struct qi_dma_mapping *m, const struct qi_dma_mapping *key)
{
    return m->bytes == key->bytes && m->dir == key->dir && m->kind == key->kind &&
           (m->kind != QI_DMA_COHERENT || m->pa.v == key->pa.v);
}

struct qi_dma_mapping *qi_dma_table_take(const struct qi_dma_mapping *key, const char *who)
{
    struct qi_dma_chain *c = qi_dma_chain_of(key->dev, key->bus);
    struct qi_dma_mapping near = {0}, *m, **at;
    unsigned long irq = qi_spin_lock_irq(&c->lock);

    for (at = &c->first; (m = *at); at = &m->next) {
        if (!here(m, key))
            continue;
        if (same(m, key))
            break;
        near = *m;
    }
    if (m)
        *at = m->next;
    qi_spin_unlock_irq(&c->lock, irq);
    if (!m)
        no_such(key, &near, who);
    return m;
}

struct qi_dma_mapping qi_dma_table_find(const struct qi_dma_mapping *key, uint64_t offset,
                                        const char *who)
{
    struct qi_dma_chain *c = qi_dma_chain_of(key->dev, key->bus);
    struct qi_dma_mapping near = {0}, found = {0}, *m;
    unsigned long irq = qi_spin_lock_irq(&c->lock);

    for (m = c->first; m && !found.dev; m = m->next) {
        if (!here(m, key))
            continue;
        near = *m;
        if (m->kind == key->kind && m->dir == key->dir && offset <= m->bytes &&
            key->bytes <= m->bytes - offset)
            found = *m;
    }
    qi_spin_unlock_irq(&c->lock, irq);
    if (found.dev)
        return found;
    QI_CHECK(!near.dev || near.dir != key->dir || near.kind != key->kind,
             "dma: %s by %s of %lu bytes from %lu on: the mapping at bus %#lx has %lu", who,
             key->dev->name, (unsigned long)key->bytes, (unsigned long)offset,
             (unsigned long)key->bus.v, (unsigned long)near.bytes);
    no_such(key, &near, who);
}

/* Copy out the first mappings of dev, so that nothing is said under a lock; how many there are. */
static uint64_t collect(const struct quire_dma_device *dev, struct qi_dma_mapping out[REPORTED])
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < qi_dma_chains(); i++) {
        struct qi_dma_chain *c = &qi_dma.chains[i];
        unsigned long irq = qi_spin_lock_irq(&c->lock);

        for (const struct qi_dma_mapping *m = c->first; m; m = m->next) {
            if (m->dev != dev)
                continue;
            if (n < REPORTED)
                out[n] = *m;
            n++;
        }
        qi_spin_unlock_irq(&c->lock, irq);
    }
    return n;
}

uint64_t qi_dma_table_report(const struct quire_dma_device *dev)
{
    struct qi_dma_mapping first[REPORTED];
    uint64_t n = collect(dev, first);

    qi_log(QUIRE_LOG_ERROR, "dma: %s still has %lu mappings", dev->name, (unsigned long)n);
    for (uint64_t i = 0; i < QI_MIN(n, (uint64_t)REPORTED); i++)
        qi_log(QUIRE_LOG_ERROR, "dma: %s: %lu bytes at bus %#lx, physical %#lx, %s %s%s", dev->name,
               (unsigned long)first[i].bytes, (unsigned long)first[i].bus.v,
               (unsigned long)first[i].pa.v, kind_name(first[i].kind),
               qi_dma_direction_name(first[i].dir),
               first[i].chunk == QI_DMA_DIRECT ? "" : ", bounced");
    return n;
}
