/*
 * numa_fuzz.c - any bytes as SRAT, SLIT and HMAT: refused with a reason and without effect, or what is taken
 * keeps the invariants of a numa_info.
 *
 * Input: two bytes each, how long SRAT and SLIT are; then the three tables.  Each is copied to memory of its
 * exact size, so that a read beyond it is seen.
 */
#include <stdlib.h>
#include <string.h>

#include "arch/numa.h"

static const u32 apic_ids[] = {0, 1, 2, 3, 4, 5, 6, 0x10203};

static void check_nodes(const struct numa_info *n)
{
    u64 all;

    if (n->nnodes < 1 || n->nnodes > QUIRE_MAX_NODES || n->nranges > NUMA_RANGES)
        abort();
    all = ~0ull >> (64 - n->nnodes);
    if ((n->with_cpus | n->with_memory | n->with_initiator | n->attached) & ~all)
        abort();
    for (unsigned i = 1; i < n->nnodes; i++)
        if (n->domain[i - 1] >= n->domain[i])
            abort();
    for (unsigned c = 0; c < n->ncpus; c++)
        if (n->cpu_node[c] >= n->nnodes)
            abort();
    for (unsigned i = 0; i < n->nnodes; i++) {
        u64 best = numa_best_initiators(n, i, i & 1);

        if (n->initiator[i] >= n->nnodes || n->ncaches[i] > NUMA_CACHES || best & ~all)
            abort();
        if (!best && n->with_cpus)
            abort();
    }
}

static void check_ranges(const struct numa_info *n)
{
    for (unsigned i = 0; i < n->nranges; i++) {
        const struct numa_range *r = &n->ranges[i];
        u64 last = r->base + (r->len - 1);

        if (!r->len || last < r->base || r->node >= n->nnodes || !(n->with_memory >> r->node & 1))
            abort();
        for (unsigned j = 0; j < i; j++) {
            const struct numa_range *o = &n->ranges[j];

            if (o->node != r->node && r->base <= o->base + (o->len - 1) && o->base <= last)
                abort();
        }
    }
    for (unsigned i = 0; n->has_distance && i < n->nnodes; i++)
        for (unsigned j = 0; j < n->nnodes; j++) {
            u8 d = n->distance[i * n->nnodes + j];

            if (i == j ? d != 10 : d <= 10)
                abort();
        }
}

static void take(struct numa_info *n, const uint8_t *data, size_t size,
                 bool (*reader)(struct numa_info *, const u8 *, u64, struct numa_fault *))
{
    static struct numa_info before;
    struct numa_fault f = {0};
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        return;
    memcpy(copy, data, size);
    before = *n;
    if (!reader(n, copy, size, &f) && (!f.what || memcmp(n, &before, sizeof before)))
        abort();
    free(copy);
    check_nodes(n);
    check_ranges(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct numa_info n;
    size_t srat, slit;

    if (size < 4)
        return 0;
    srat = data[0] | (size_t)data[1] << 8;
    slit = data[2] | (size_t)data[3] << 8;
    data += 4;
    size -= 4;
    srat = srat < size ? srat : size;
    slit = slit < size - srat ? slit : size - srat;
    numa_init(&n, apic_ids, K_COUNT(apic_ids));
    take(&n, data, srat, numa_srat);
    take(&n, data + srat, slit, numa_slit);
    take(&n, data + srat + slit, size - srat - slit, numa_hmat);
    return 0;
}
