/*
 * kva/device.c - registers and memory of devices (ioremap).
 *
 * A frame that is mapped with two cache types has undefined content on most machines (Intel SDM 3A,
 * 12.12.4: aliasing of memory types), so a second mapping of other type is refused, and an uncached
 * one of memory that the allocator hands out and the direct map maps cached.
 */
#include "kva.h"

#include "../base/check.h"

/* Some other live mapping of [from, from + bytes) is not of the type cache.  O(mappings of devices). */
static bool mapped_otherwise(uint64_t from, uint64_t bytes, enum quire_cache_type cache)
{
    struct qi_part *p = &QI_DEVICES->parts[0];
    bool found = false;

    qi_spin_lock(&p->lock);
    for (struct qi_gap_node *n = p->gaps.floor.next; n != &p->gaps.fence && !found; n = n->next) {
        struct qi_area *a = QI_CONTAINER(n, struct qi_area, node);

        uint64_t phys;

        if (qi_load_acquire(&a->state) != QI_KVA_LIVE)
            continue;
        phys = qi_load_relaxed(&a->phys);
        found =
            phys < from + bytes && from < phys + a->bytes && qi_load_relaxed(&a->cache) != cache;
    }
    qi_spin_unlock(&p->lock);
    return found;
}

static bool allocated(uint64_t at)
{
    q_pfn pfn = quire_pfn_of_pa(Q_PA(at));

    return quire_pfn_valid(pfn) && !(quire_page_flags(pfn) & QUIRE_PG_RESERVED);
}

/* A frame of it is the allocator's to hand out. */
static bool is_memory(uint64_t from, uint64_t bytes)
{
    struct quire_zone_stats z;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++) {
        uint64_t at = QI_MAX(from, quire_pa_of_pfn(z.start).v);
        uint64_t end = QI_MIN(from + bytes, quire_pa_of_pfn(z.end).v);

        for (; z.type != QUIRE_ZONE_DEVICE && at < end; at += QUIRE_PAGE_SIZE)
            if (allocated(at))
                return true;
    }
    return false;
}

static enum quire_status remap(q_pa pa, uint64_t len, unsigned prot, enum quire_cache_type cache,
                               uintptr_t caller, q_kva *out)
{
    uint64_t offset = pa.v & ~QUIRE_PAGE_MASK, from = pa.v - offset;
    struct qi_want want = {.caller = caller, .node = QUIRE_NODE_ANY, .kind = QI_KVA_DEVICE};
    struct qi_area *a;
    enum quire_status s;

    if (!len || qi_add_overflows(len, offset, &want.bytes) ||
        !qi_whole_pages(want.bytes, &want.bytes) || from + want.bytes < from)
        return QUIRE_INVALID;
    if (mapped_otherwise(from, want.bytes, cache) ||
        (cache != QUIRE_CACHED && is_memory(from, want.bytes)))
        return QUIRE_BUSY;
    /* congruent to the physical address modulo 2 MiB, so that large leaves can serve */
    want.align = want.bytes >= QUIRE_HUGE_SIZE ? QUIRE_HUGE_SIZE : QUIRE_PAGE_SIZE;
    want.offset = from & (want.align - 1);
    a = qi_area_make(QI_DEVICES, &want);
    if (!a)
        return QUIRE_NO_MEMORY;
    qi_store_relaxed(&a->phys, from);
    qi_store_relaxed(&a->cache, (uint8_t)cache);
    s = qi_kpt_map(Q_KVA(a->start), quire_pfn_of_pa(Q_PA(from)), want.bytes >> QUIRE_PAGE_SHIFT,
                   prot, cache, QUIRE_HUGE_SHIFT);
    if (s != QUIRE_OK) {
        qi_area_destroy(a);
        return s;
    }
    qi_area_publish(QI_DEVICES, a);
    /* once more, now that others can see this one: of two at once, one at least is refused */
    if (mapped_otherwise(from, want.bytes, cache)) {
        qi_area_claim(QI_DEVICES, a, "ioremap", caller);
        qi_area_destroy(a);
        return QUIRE_BUSY;
    }
    *out = Q_KVA(a->start + offset);
    return QUIRE_OK;
}

enum quire_status quire_ioremap(q_pa pa, uint64_t len, enum quire_cache_type cache, q_kva *out)
{
    return remap(pa, len, QUIRE_READ | QUIRE_WRITE, cache, QI_CALLER(), out);
}

enum quire_status quire_ioremap_for(q_pa pa, uint64_t len, enum quire_io_intent what, q_kva *out)
{
    static const struct {
        unsigned prot;
        enum quire_cache_type cache;
    } kinds[] = {[QUIRE_IO_REGISTERS] = {QUIRE_READ | QUIRE_WRITE, QUIRE_UNCACHED},
                 [QUIRE_IO_BUFFER] = {QUIRE_READ | QUIRE_WRITE, QUIRE_WRITE_COMBINING},
                 [QUIRE_IO_MEMORY] = {QUIRE_READ | QUIRE_WRITE, QUIRE_CACHED},
                 [QUIRE_IO_TABLES] = {QUIRE_READ, QUIRE_CACHED}};

    if ((unsigned)what >= QI_COUNT(kinds))
        return QUIRE_INVALID;
    return remap(pa, len, kinds[what].prot, kinds[what].cache, QI_CALLER(), out);
}

void quire_iounmap(q_kva at)
{
    qi_area_destroy(
        qi_area_take(QI_DEVICES, at.v & QUIRE_PAGE_MASK, QI_KVA_DEVICE, "iounmap", QI_CALLER()));
}
