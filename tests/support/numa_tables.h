/*
 * numa_tables.h - ACPI tables about nodes, written byte by byte from the specification (ACPI 6.4, 5.2.16,
 * 5.2.17, 5.2.27).
 */
#ifndef NUMA_TABLES_H
#define NUMA_TABLES_H

#include <stdint.h>
#include <string.h>

struct table {
    uint8_t bytes[8192];
    size_t n;
};

static inline void put_at(struct table *t, size_t at, unsigned bytes, uint64_t v)
{
    for (unsigned i = 0; i < bytes; i++)
        t->bytes[at + i] = i < sizeof v ? (uint8_t)(v >> 8 * i) : 0;
}
static inline void put(struct table *t, unsigned bytes, uint64_t v)
{
    put_at(t, t->n, bytes, v);
    t->n += bytes;
}
/* The length in the header follows. */
static inline void finish(struct table *t) { put_at(t, 4, 4, t->n); }

static inline void table_start(struct table *t, const char *signature, unsigned revision,
                               unsigned head)
{
    memset(t, 0, sizeof *t);
    memcpy(t->bytes, signature, 4);
    t->bytes[8] = (uint8_t)revision;
    t->n = head;
    finish(t);
}

static inline void srat_start(struct table *t) { table_start(t, "SRAT", 3, 48); }
static inline void srat_cpu(struct table *t, unsigned apic, uint32_t domain, unsigned flags)
{
    put(t, 1, 0);
    put(t, 1, 16);
    put(t, 1, domain);
    put(t, 1, apic);
    put(t, 4, flags);
    put(t, 1, 0);
    put(t, 3, domain >> 8);
    put(t, 4, 0);
    finish(t);
}
static inline void srat_x2apic(struct table *t, uint32_t apic, uint32_t domain, unsigned flags)
{
    put(t, 1, 2);
    put(t, 1, 24);
    put(t, 2, 0);
    put(t, 4, domain);
    put(t, 4, apic);
    put(t, 4, flags);
    put(t, 8, 0);
    finish(t);
}
static inline void srat_memory(struct table *t, uint64_t base, uint64_t len, uint32_t domain,
                               unsigned flags)
{
    put(t, 1, 1);
    put(t, 1, 40);
    put(t, 4, domain);
    put(t, 2, 0);
    put(t, 8, base);
    put(t, 8, len);
    put(t, 4, 0);
    put(t, 4, flags);
    put(t, 8, 0);
    finish(t);
}
static inline void srat_initiator(struct table *t, uint32_t domain, unsigned flags)
{
    put(t, 1, 5);
    put(t, 1, 32);
    put(t, 2, 1);
    put(t, 4, domain);
    put(t, 8, 0);
    put(t, 8, 0);
    put(t, 4, flags);
    put(t, 4, 0);
    finish(t);
}

static inline void slit(struct table *t, unsigned n, const uint8_t *distances)
{
    table_start(t, "SLIT", 1, 36);
    put(t, 8, n);
    for (unsigned i = 0; i < n * n; i++)
        put(t, 1, distances[i]);
    finish(t);
}

static inline void hmat_start(struct table *t, unsigned revision)
{
    table_start(t, "HMAT", revision, 40);
}
static inline void hmat_attributes(struct table *t, unsigned flags, uint32_t initiator,
                                   uint32_t memory)
{
    put(t, 4, 0);
    put(t, 4, 40);
    put(t, 4, flags);
    put(t, 4, initiator);
    put(t, 4, memory);
    put(t, 4, 0);
    put(t, 8, 0);
    put(t, 8, 0);
    finish(t);
}
/* flags: the hierarchy; type: 0..5, access, read and write latency, then bandwidth. */
static inline void hmat_locality(struct table *t, unsigned flags, unsigned type, uint64_t unit,
                                 unsigned ni, const uint32_t *initiators, unsigned nt,
                                 const uint32_t *targets, const uint16_t *values)
{
    put(t, 4, 1);
    put(t, 4, 32 + 4 * ni + 4 * nt + 2 * ni * nt);
    put(t, 1, flags);
    put(t, 1, type);
    put(t, 2, 0);
    put(t, 4, ni);
    put(t, 4, nt);
    put(t, 4, 0);
    put(t, 8, unit);
    for (unsigned i = 0; i < ni; i++)
        put(t, 4, initiators[i]);
    for (unsigned i = 0; i < nt; i++)
        put(t, 4, targets[i]);
    for (unsigned i = 0; i < ni * nt; i++)
        put(t, 2, values[i]);
    finish(t);
}
static inline void hmat_cache(struct table *t, uint32_t domain, uint64_t size, uint32_t attributes)
{
    put(t, 4, 2);
    put(t, 4, 32);
    put(t, 4, domain);
    put(t, 4, 0);
    put(t, 8, size);
    put(t, 4, attributes);
    put(t, 4, 0);
    finish(t);
}

#endif
