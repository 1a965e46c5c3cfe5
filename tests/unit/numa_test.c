/*
 * numa_test.c - the reader of SRAT, SLIT and HMAT: machines as firmware describes them, and each way in which a
 * table can lie.
 */
#include <quire_test.h>

#include <numa_tables.h>

#include "arch/numa.h"

#define MIB (1ull << 20)

static const u32 apic_ids[] = {4, 0, 600, 9};
static struct numa_info info;
static struct numa_fault fault;
static struct table t;

static void fresh(void) { numa_init(&info, apic_ids, 4); }

/* Domains 7 (two CPUs, memory), 3 (two CPUs, memory in two ranges), 300 (memory only), 20 (a generic
 * initiator).  Their nodes are 1, 0, 3, 2. */
static void good_srat(void)
{
    fresh();
    srat_start(&t);
    srat_cpu(&t, 4, 7, 1);
    srat_cpu(&t, 0, 3, 1);
    srat_cpu(&t, 77, 99, 0); /* not there */
    srat_x2apic(&t, 600, 3, 1);
    srat_x2apic(&t, 9, 7, 1);
    srat_memory(&t, 0, 640 << 10, 3, 1);
    srat_memory(&t, MIB, 255 * MIB, 3, 1);
    srat_memory(&t, 256 * MIB, 256 * MIB, 7, 1);
    srat_memory(&t, 0, 0, 55, 0); /* QEMU leaves such places */
    srat_memory(&t, 1ull << 32, 1ull << 30, 300, 1 | 2 | 4);
    srat_initiator(&t, 20, 1);
    assert_true(numa_srat(&info, t.bytes, t.n, &fault));
}

/* proves: VE-07 */
static void srat_makes_nodes(void **state)
{
    static const u32 domains[] = {3, 7, 20, 300};
    static const u8 cpu_nodes[] = {1, 0, 0, 1};

    (void)state;
    good_srat();
    assert_int_equal(info.nnodes, 4);
    assert_memory_equal(info.domain, domains, sizeof domains);
    assert_memory_equal(info.cpu_node, cpu_nodes, sizeof cpu_nodes);
    assert_int_equal(info.with_cpus, 3);
    assert_int_equal(info.with_memory, 1 | 2 | 8);
    assert_int_equal(info.with_initiator, 4);
    assert_int_equal(info.nranges, 4);
    assert_int_equal(info.ranges[3].base, 1ull << 32);
    assert_int_equal(info.ranges[3].node, 3);
    assert_true(info.ranges[3].hotplug && info.ranges[3].nonvolatile);
    assert_false(info.ranges[0].hotplug || info.ranges[0].nonvolatile);
    assert_int_equal(numa_node_of(&info, 99), QUIRE_MAX_NODES);
}

/* The table t as it is now is refused for this reason, and nothing has changed. */
static void refused(bool (*take)(struct numa_info *, const u8 *, u64, struct numa_fault *),
                    const char *why)
{
    static struct numa_info before;

    before = info;
    if (take(&info, t.bytes, t.n, &fault))
        fail_msg("taken, though %s", why);
    if (!strstr(fault.what, why))
        fail_msg("refused for '%s', not '%s'", fault.what, why);
    assert_memory_equal(&info, &before, sizeof info);
}

static void bad_srat_is_refused(void **state)
{
    (void)state;
    good_srat();
    t.n = 40;
    refused(numa_srat, "shorter than its head");
    good_srat();
    t.bytes[49] = 1; /* length of the first entry */
    refused(numa_srat, "passes the end");
    good_srat();
    t.bytes[49] = 0;
    refused(numa_srat, "passes the end");
    good_srat();
    t.n -= 3;
    refused(numa_srat, "passes the end");
    srat_start(&t);
    put(&t, 1, 1);
    put(&t, 1, 16);
    put(&t, 14, 0);
    refused(numa_srat, "too short for its type");
    srat_start(&t);
    refused(numa_srat, "no domain");
    srat_memory(&t, ~0ull - 4095, 8192, 0, 1);
    refused(numa_srat, "passes 2^64");
    srat_start(&t);
    srat_memory(&t, 0, 2 * MIB, 0, 1);
    srat_memory(&t, 2 * MIB - 1, MIB, 1, 1);
    refused(numa_srat, "two domains claim");
    srat_start(&t);
    for (unsigned i = 0; i <= QUIRE_MAX_NODES; i++)
        srat_initiator(&t, i * 3, 1);
    refused(numa_srat, "more domains");
    srat_start(&t);
    for (unsigned i = 0; i <= NUMA_RANGES; i++)
        srat_memory(&t, i * MIB, MIB, 0, 1);
    refused(numa_srat, "more memory ranges");
    /* to the last byte of the address space is no overflow; the same domain may say a thing twice */
    srat_start(&t);
    srat_memory(&t, ~0ull - 4095, 4096, 0, 1);
    srat_memory(&t, ~0ull - 4095, 4096, 0, 1);
    assert_true(numa_srat(&info, t.bytes, t.n, &fault));
}

static void slit_is_checked(void **state)
{
    uint8_t d[301 * 301];

    (void)state;
    good_srat();
    /* larger than the buffer of the tables: built here */
    memset(d, 20, sizeof d);
    for (unsigned i = 0; i < 301; i++)
        d[i * 301 + i] = 10;
    d[7 * 301 + 3] = 33;
    d[3 * 301 + 300] = 255;
    static uint8_t big[44 + sizeof d];
    big[36] = 301 & 255;
    big[37] = 301 >> 8;
    memcpy(big + 44, d, sizeof d);
    assert_true(numa_slit(&info, big, sizeof big, &fault));
    assert_true(info.has_distance);
    assert_int_equal(info.distance[1 * 4 + 0], 33);
    assert_int_equal(info.distance[0 * 4 + 3], 255);
    assert_int_equal(info.distance[2 * 4 + 2], 10);
    assert_int_equal(info.distance[0 * 4 + 1], 20);

    good_srat();
    slit(&t, 4, (uint8_t[16]){10, 20, 20, 20, 20, 10, 20, 20, 20, 20, 10, 20, 20, 20, 20, 10});
    refused(numa_slit, "a domain that it has not");
    t.n--;
    refused(numa_slit, "does not fit its matrix");
    put_at(&t, 36, 8, 1ull << 32);
    refused(numa_slit, "does not fit its matrix");
    slit(&t, 2, (uint8_t[4]){10, 9, 20, 10});
    refused(numa_slit, "cannot be");
    slit(&t, 2, (uint8_t[4]){11, 20, 20, 10});
    refused(numa_slit, "cannot be");
    slit(&t, 0, NULL);
    refused(numa_slit, "does not fit its matrix");
}

static const uint32_t everyone[] = {3, 7, 20, 300};

/* Node 0 reaches everything fast, node 3 is far from all; reads and writes differ. */
static void good_hmat(void)
{
    static const uint16_t latency[] = {80, 130, 300, 85, 140, 350, 0xffff, 0, 60};
    static const uint16_t bandwidth[] = {200, 100, 30, 200, 110, 30, 1, 1, 90};
    static const uint32_t targets[] = {3, 7, 300};

    good_srat();
    hmat_start(&t, 2);
    hmat_attributes(&t, 0, 0, 300);
    hmat_attributes(&t, 1, 7, 7);
    hmat_locality(&t, 0, 0, 1000, 3, everyone, 3, targets, latency);
    hmat_locality(&t, 0, 4, 100, 3, everyone, 3, targets, bandwidth);
    hmat_locality(&t, 0, 5, 50, 3, everyone, 3, targets, bandwidth);
    hmat_locality(&t, 1, 0, 1, 3, everyone, 3, targets, latency); /* of a cache */
    hmat_cache(&t, 300, 64 * MIB, 64 << 16 | 1 << 12 | 1 << 8 | 1 << 4 | 1);
    put(&t, 4, 9); /* of a later version */
    put(&t, 4, 8);
    finish(&t);
    assert_true(numa_hmat(&info, t.bytes, t.n, &fault));
}

static void hmat_tells_reach(void **state)
{
    const struct numa_reach *r = info.reach;

    (void)state;
    good_hmat();
    assert_true(info.has_reach);
    assert_int_equal(r[0 * 4 + 0].read_latency, 80); /* picoseconds, rounded up */
    assert_int_equal(r[0 * 4 + 0].write_latency, 80);
    assert_int_equal(r[0 * 4 + 1].read_bandwidth, 10000);
    assert_int_equal(r[0 * 4 + 1].write_bandwidth, 5000);
    assert_int_equal(r[1 * 4 + 3].read_latency, 350);
    assert_int_equal(r[2 * 4 + 0].read_latency, 0); /* unreachable */
    assert_int_equal(r[2 * 4 + 1].read_latency, 0); /* nothing said */
    assert_int_equal(r[2 * 4 + 3].read_latency, 60);
    assert_int_equal(info.attached, 2);
    assert_int_equal(info.initiator[1], 1);
    assert_int_equal(info.ncaches[3], 1);
    assert_int_equal(info.caches[3][0].size, 64 * MIB);
    assert_int_equal(info.caches[3][0].line, 64);
    assert_int_equal(info.caches[3][0].level, 1);
    assert_int_equal(info.caches[3][0].write_policy, 1);
}

/* Revision 1 has tenths; what does not fit is not known. */
static void hmat_units(void **state)
{
    static const uint16_t v[] = {15, 0xfffe};
    static const uint32_t target[] = {3, 7};

    (void)state;
    good_srat();
    hmat_start(&t, 1);
    hmat_locality(&t, 0, 1, 1, 1, everyone, 2, target, v);
    hmat_locality(&t, 0, 3, 1ull << 33, 1, everyone, 2, target, v);
    assert_true(numa_hmat(&info, t.bytes, t.n, &fault));
    assert_int_equal(info.reach[0].read_latency, 2);
    assert_int_equal(info.reach[0].write_latency, 0);
    assert_int_equal(info.reach[1].read_latency, 6554);
    assert_int_equal(info.reach[0].read_bandwidth, 0);
    hmat_start(&t, 2);
    hmat_locality(&t, 0, 2, ~0ull, 1, everyone, 2, target, v);
    assert_true(numa_hmat(&info, t.bytes, t.n, &fault));
    assert_int_equal(info.reach[0].write_latency, 0);
}

static void bad_hmat_is_refused(void **state)
{
    static const uint16_t v[] = {1, 2, 3, 4};
    static const uint32_t strangers[] = {3, 8};

    (void)state;
    good_srat();
    hmat_start(&t, 2);
    t.n = 39;
    refused(numa_hmat, "shorter than its head");
    hmat_start(&t, 3);
    refused(numa_hmat, "revision");
    hmat_start(&t, 2);
    put(&t, 7, 0);
    refused(numa_hmat, "passes the end");
    hmat_start(&t, 2);
    put(&t, 4, 0);
    put(&t, 4, 7);
    refused(numa_hmat, "passes the end");
    hmat_start(&t, 2);
    hmat_attributes(&t, 0, 0, 3);
    t.n--;
    refused(numa_hmat, "passes the end");
    hmat_start(&t, 2);
    put(&t, 4, 2);
    put(&t, 4, 24);
    put(&t, 16, 0);
    refused(numa_hmat, "too short for its type");
    hmat_start(&t, 2);
    hmat_locality(&t, 0, 0, 1, 2, everyone, 2, everyone, v);
    put_at(&t, 40 + 16, 4, 3); /* one more target than there is room for */
    refused(numa_hmat, "matrix passes the end");
    put_at(&t, 40 + 16, 4, UINT32_MAX);
    refused(numa_hmat, "matrix passes the end");
    put_at(&t, 40 + 12, 4, UINT32_MAX);
    refused(numa_hmat, "matrix passes the end");
    hmat_start(&t, 2);
    hmat_locality(&t, 0, 6, 1, 2, everyone, 2, everyone, v);
    refused(numa_hmat, "unknown values");
    hmat_start(&t, 2);
    hmat_locality(&t, 0, 0, 1, 2, everyone, 2, strangers, v);
    refused(numa_hmat, "SRAT has not");
    hmat_start(&t, 2);
    hmat_attributes(&t, 1, 8, 3);
    refused(numa_hmat, "attached to a domain that SRAT has not");
    /* what came before the bad structure is not taken either */
    hmat_start(&t, 2);
    hmat_attributes(&t, 1, 7, 7);
    hmat_locality(&t, 0, 0, 1, 2, everyone, 2, everyone, v);
    hmat_cache(&t, 8, MIB, 1);
    refused(numa_hmat, "a cache is of a domain");
}

/* Whom a node's memory prefers: who is named; or the fastest by what is known; or the nearest. */
/* proves: VE-07 */
static void best_initiators(void **state)
{
    (void)state;
    good_hmat();
    assert_int_equal(numa_best_initiators(&info, 0, false), 1); /* 80 ns against 85 */
    assert_int_equal(numa_best_initiators(&info, 1, false),
                     2); /* HMAT says so, though 0 is faster */
    assert_int_equal(numa_best_initiators(&info, 3, false), 4); /* the device */
    assert_int_equal(numa_best_initiators(&info, 3, true), 1);  /* of CPUs: 300 against 350 */
    good_srat();
    assert_int_equal(numa_best_initiators(&info, 1, true), 2);
    assert_int_equal(numa_best_initiators(&info, 3, true), 3); /* both as far */
    info.has_distance = true;
    memset(info.distance, 20, sizeof info.distance);
    info.distance[1 * 4 + 3] = 15;
    assert_int_equal(numa_best_initiators(&info, 3, true), 2);
    fresh();
    assert_int_equal(numa_best_initiators(&info, 0, false), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(srat_makes_nodes), cmocka_unit_test(bad_srat_is_refused),
        cmocka_unit_test(slit_is_checked),  cmocka_unit_test(hmat_tells_reach),
        cmocka_unit_test(hmat_units),       cmocka_unit_test(bad_hmat_is_refused),
        cmocka_unit_test(best_initiators),
    };

    test_seed("numa_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
