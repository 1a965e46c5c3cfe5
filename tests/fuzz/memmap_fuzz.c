/*
 * memmap_fuzz.c - bytes to operations on a boot memory map, with a small array so that it runs full.
 *
 * Each operation is 17 bytes: what, base, length.  After each: sorted, disjoint, in whole pages, and
 * on an error nothing has changed.
 */
#include <stdlib.h>
#include <string.h>

#include <quire/memmap.h>

#define CAP 24

static struct quire_mem_range ranges[CAP], reserved[CAP], ranges_before[CAP], reserved_before[CAP];

static void check(const struct quire_mem_range *r, uint32_t n, uint32_t cap)
{
    if (n > cap)
        abort();
    for (uint32_t i = 0; i < n; i++) {
        uint64_t last = r[i].base.v + (r[i].len - 1);

        if (!r[i].len || (r[i].base.v | r[i].len) & 4095 || last < r[i].base.v)
            abort();
        if (i && r[i - 1].base.v + (r[i - 1].len - 1) >= r[i].base.v)
            abort();
    }
}

static enum quire_status operate(struct quire_memmap *m, uint8_t what, uint64_t base, uint64_t len)
{
    struct quire_mem_range clash;
    enum quire_status s;
    q_pa pa;

    switch (what % 4) {
    case 0:
        return quire_memmap_add(m, Q_PA(base), len,
                                (enum quire_mem_kind)(what / 4 % (QUIRE_MEM_KINDS + 1)));
    case 1: return quire_memmap_set_node(m, Q_PA(base), len, what / 4 % (QUIRE_MAX_NODES + 1));
    case 2:
        s = quire_memmap_reserve(m, Q_PA(base), len, "fuzz", &clash);
        if (s == QUIRE_OVERLAP && !clash.len)
            abort();
        return s;
    default:
        s = quire_memmap_alloc(m, len, 1ull << what / 4, base, what / 4 % 3, "fuzz", &pa);
        if (s == QUIRE_OK) {
            uint64_t last = pa.v + (len - 1);

            if (pa.v & ((1ull << what / 4) - 1) || last < pa.v || (base && last >= base))
                abort();
            if (!quire_memmap_owner(m, pa) || !quire_memmap_owner(m, Q_PA(last)))
                abort();
        }
        return s;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct quire_memmap m;

    quire_memmap_init(&m, ranges, CAP, reserved, CAP);
    for (; size >= 17; data += 17, size -= 17) {
        struct quire_memmap before = m;
        uint64_t base, len;

        memcpy(&base, data + 1, 8);
        memcpy(&len, data + 9, 8);
        memcpy(ranges_before, ranges, sizeof ranges);
        memcpy(reserved_before, reserved, sizeof reserved);
        if (operate(&m, data[0], base, len) != QUIRE_OK &&
            (m.n != before.n || m.nreserved != before.nreserved ||
             memcmp(ranges, ranges_before, m.n * sizeof ranges[0]) ||
             memcmp(reserved, reserved_before, m.nreserved * sizeof reserved[0])))
            abort();
        check(m.ranges, m.n, CAP);
        check(m.reserved, m.nreserved, CAP);
        if (quire_memmap_usable(&m) & 4095 || quire_memmap_top(&m) & 4095)
            abort();
    }
    return 0;
}
