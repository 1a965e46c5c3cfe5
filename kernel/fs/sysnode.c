/*
 * fs/sysnode.c - /sys/devices/system/node: what numactl(8), numastat(8) and lscpu(1) read (Linux,
 * Documentation/ABI/stable/sysfs-devices-node).
 */
#include "arch/cpu.h"
#include "gen.h"
#include <quire/policy.h>

#define KIB(pages) ((unsigned long)((pages) << 2))

/* Frames that the allocator was given; key: a node. */
static u64 node_managed(u64 node)
{
    struct quire_zone_stats z;
    u64 n = 0;

    for (unsigned k = 0; quire_zone_stats(k, &z) == QUIRE_OK; k++)
        if (z.node == node)
            n += z.managed;
    return n;
}

/* ---- lists of nodes and CPUs ---- */

static void put_list(struct text *t, unsigned n, bool (*in)(unsigned i, u64 arg), u64 arg)
{
    const char *sep = "";

    for (unsigned i = 0, end; i < n; i = end + 1) {
        end = i;
        if (!in(i, arg))
            continue;
        while (end + 1 < n && in(end + 1, arg))
            end++;
        text_printf(t, end > i ? "%s%u-%u" : "%s%u", sep, i, end);
        sep = ",";
    }
    text_put(t, "\n", 1);
}

static bool any_node(unsigned node, u64 arg)
{
    (void)node, (void)arg;
    return true;
}
static bool cpu_of_node(unsigned cpu, u64 node) { return quire_cpu_node(cpu) == node; }
static bool with_cpu(unsigned node, u64 arg)
{
    (void)arg;
    for (unsigned c = 0; c < cpus_online(); c++)
        if (cpu_of_node(c, node))
            return true;
    return false;
}
static bool with_memory(unsigned node, u64 arg)
{
    (void)arg;
    return node_managed(node) > 0;
}
/* Memory that the kernel itself may use. */
static bool with_normal(unsigned node, u64 arg)
{
    struct quire_zone_stats z;

    (void)arg;
    for (unsigned k = 0; quire_zone_stats(k, &z) == QUIRE_OK; k++)
        if (z.node == node && z.type <= QUIRE_ZONE_NORMAL && z.managed)
            return true;
    return false;
}

#define SHOW_NODES(name, in)                 \
    static int name(struct text *t, u64 key) \
    {                                        \
        (void)key;                           \
        put_list(t, quire_nodes(), in, 0);   \
        return 0;                            \
    }
static bool with_initiator(unsigned node, u64 arg)
{
    (void)arg;
    return acpi.numa.with_initiator >> node & 1;
}

SHOW_NODES(show_nodes, any_node)
SHOW_NODES(show_with_cpu, with_cpu)
SHOW_NODES(show_with_memory, with_memory)
SHOW_NODES(show_with_normal, with_normal)
SHOW_NODES(show_with_initiator, with_initiator)

static int show_cpulist(struct text *t, u64 node)
{
    put_list(t, cpus_online(), cpu_of_node, node);
    return 0;
}

/* Groups of 32, the highest first. */
static int show_cpumap(struct text *t, u64 node)
{
    unsigned groups = (cpus_online() + 31) / 32;

    for (unsigned g = groups; g-- > 0;) {
        u32 mask = 0;

        for (unsigned c = g * 32; c < g * 32 + 32 && c < cpus_online(); c++)
            mask |= cpu_of_node(c, node) ? 1u << c % 32 : 0;
        text_printf(t, "%08x%s", mask, g ? "," : "\n");
    }
    return 0;
}

static int show_distance(struct text *t, u64 node)
{
    for (unsigned k = 0; k < quire_nodes(); k++)
        text_printf(t, "%s%u", k ? " " : "", quire_node_distance((unsigned)node, k));
    text_put(t, "\n", 1);
    return 0;
}

/* ---- what a node's memory is used for ---- */

static void row(struct text *t, u64 node, const char *name, u64 pages)
{
    text_printf(t, "Node %lu %-15s %8lu kB\n", (unsigned long)node, name, KIB(pages));
}

static int show_meminfo_of(struct text *t, u64 node)
{
    u64 total = node_managed(node), free;
    struct quire_usage u;

    quire_usage((unsigned)node, &u);
    free = u.free + u.cached;
    row(t, node, "MemTotal:", total);
    row(t, node, "MemFree:", free);
    row(t, node, "MemUsed:", total - K_MIN(free, total));
    row(t, node, "FilePages:", u.file);
    row(t, node, "AnonPages:", u.anon + u.anon_huge);
    row(t, node, "PageTables:", u.table);
    row(t, node, "Slab:", u.slab);
    row(t, node, "SReclaimable:", 0);
    row(t, node, "SUnreclaim:", u.slab);
    row(t, node, "AnonHugePages:", u.anon_huge);
    return 0;
}

static int show_vmstat_of(struct text *t, u64 node)
{
    struct quire_node_stats n;
    struct quire_usage u;

    if (quire_node_stats((unsigned)node, &n) != QUIRE_OK)
        return -ENODEV;
    quire_usage((unsigned)node, &u);
    text_printf(t, "nr_free_pages %lu\nnr_anon_pages %lu\nnr_file_pages %lu\n",
                (unsigned long)(u.free + u.cached), (unsigned long)(u.anon + u.anon_huge),
                (unsigned long)u.file);
    text_printf(t, "nr_page_table_pages %lu\nnr_slab_reclaimable 0\nnr_slab_unreclaimable %lu\n",
                (unsigned long)u.table, (unsigned long)u.slab);
    text_printf(t, "nr_anon_transparent_hugepages %lu\n",
                (unsigned long)(u.anon_huge >> QUIRE_HUGE_ORDER));
    text_printf(t, "numa_hit %lu\nnuma_miss %lu\nnuma_foreign %lu\n", (unsigned long)n.hit,
                (unsigned long)n.miss, (unsigned long)n.foreign);
    text_printf(t, "numa_interleave %lu\nnuma_local %lu\nnuma_other %lu\n",
                (unsigned long)n.interleave_hit, (unsigned long)n.local, (unsigned long)n.other);
    return 0;
}

static int show_numastat(struct text *t, u64 node)
{
    struct quire_node_stats n;

    if (quire_node_stats((unsigned)node, &n) != QUIRE_OK)
        return -ENODEV;
    text_printf(t, "numa_hit %lu\nnuma_miss %lu\nnuma_foreign %lu\n", (unsigned long)n.hit,
                (unsigned long)n.miss, (unsigned long)n.foreign);
    text_printf(t, "interleave_hit %lu\nlocal_node %lu\nother_node %lu\n",
                (unsigned long)n.interleave_hit, (unsigned long)n.local, (unsigned long)n.other);
    return 0;
}

static const struct gen_entry node_table[] = {GEN_FILE("meminfo", show_meminfo_of),
                                              GEN_FILE("cpulist", show_cpulist),
                                              GEN_FILE("cpumap", show_cpumap),
                                              GEN_FILE("distance", show_distance),
                                              GEN_FILE("numastat", show_numastat),
                                              GEN_FILE("vmstat", show_vmstat_of),
                                              SYS_CACHE_ENTRY,
                                              {.name = NULL}};

/* ---- links to what belongs to the node ---- */

static u64 count_cpus(void) { return cpus_online(); }
static bool has_cpu(u64 cpu, u64 node) { return cpu_of_node((unsigned)cpu, node); }

static long cpu_link_text(struct inode *i, char *buf, size_t cap)
{
    return ksnprintf(buf, cap, "../../cpu/cpu%lu", (unsigned long)i->key);
}
static const struct inode_ops cpu_link_ops = {.readlink = cpu_link_text};
static const struct gen_entry cpu_link = GEN_LINK("cpu", &cpu_link_ops);

static const struct gen_family of_node[] = {
    {.prefix = "cpu", .count = count_cpus, .has = has_cpu, .member = &cpu_link},
    {.prefix = "memory",
     .count = sys_memory_count,
     .has = sys_memory_of_node,
     .member = &sys_memory_link},
    SYS_REACH_FAMILY,
    {.prefix = NULL}};

/* ---- the directory ---- */

static const struct gen_entry one_node = GEN_FAMILIES("node", of_node, node_table);

static u64 count_nodes(void) { return quire_nodes(); }
const struct gen_family sys_node_families[] = {
    {.prefix = "node", .count = count_nodes, .member = &one_node}, {.prefix = NULL}};
const struct gen_entry sys_node_table[] = {GEN_FILE("online", show_nodes),
                                           GEN_FILE("possible", show_nodes),
                                           GEN_FILE("has_cpu", show_with_cpu),
                                           GEN_FILE("has_memory", show_with_memory),
                                           GEN_FILE("has_normal_memory", show_with_normal),
                                           GEN_FILE("has_generic_initiator", show_with_initiator),
                                           {.name = NULL}};

static long node_link_text(struct inode *i, char *buf, size_t cap)
{
    return ksnprintf(buf, cap, "../../node/node%lu", (unsigned long)i->key);
}
static const struct inode_ops node_link_ops = {.readlink = node_link_text};
const struct gen_entry sys_node_link = GEN_LINK("node", &node_link_ops);
