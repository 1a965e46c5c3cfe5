/*
 * fs/sysfs.c - /sys: the CPUs and the memory nodes (sysfs(5)).
 */
#include "gen.h"

static int show_cpus(struct text *t, u64 key)
{
    (void)key;
    if (cpus_online() == 1)
        text_printf(t, "0\n");
    else
        text_printf(t, "0-%u\n", cpus_online() - 1);
    return 0;
}

static int show_nodes(struct text *t, u64 key)
{
    (void)key;
    if (quire_nodes() == 1)
        text_printf(t, "0\n");
    else
        text_printf(t, "0-%u\n", quire_nodes() - 1);
    return 0;
}

/* ---- a directory for each number: cpu0, node0 ---- */

struct family {
    const char *prefix;
    unsigned (*count)(void);
    struct gen_entry member;        /* each of them */
    const struct gen_entry *others; /* files beside them */
};

static const struct family *family_of(const struct dentry *dir);

static struct dentry *family_lookup(struct dentry *dir, const char *name, int *err)
{
    const struct family *f = family_of(dir);
    size_t n = strlen(f->prefix);
    i64 v;

    if (!strncmp(name, f->prefix, n) && name[n] >= '0' && name[n] <= '9' &&
        (name[n] != '0' || !name[n + 1]) && !gen_number(name + n, 0, (i64)f->count() - 1, &v))
        return gen_make(dir, &f->member, name, (u64)v, err);
    return gen_find(dir, f->others, name, 0, err);
}

static int family_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    const struct family *f = family_of(dir);

    for (; *pos < f->count(); ++*pos) {
        char name[24];

        ksnprintf(name, sizeof name, "%s%u", f->prefix, (unsigned)*pos);
        if (!dir_emit(e, name, gen_ino(&f->member, *pos), S_IFDIR, *pos + 3))
            return e->err;
    }
    gen_list(f->others, 0, f->count(), e, pos);
    return e->err;
}

static const struct inode_ops family_ops = {.lookup = family_lookup, .readdir = family_readdir};

/* ---- CPUs ---- */

static int show_core_id(struct text *t, u64 cpu)
{
    text_printf(t, "%lu\n", (unsigned long)cpu);
    return 0;
}

static int show_online(struct text *t, u64 cpu)
{
    (void)cpu;
    text_printf(t, "1\n");
    return 0;
}

static int show_siblings(struct text *t, u64 cpu)
{
    text_printf(t, "%lx\n", 1ul << (cpu & 63));
    return 0;
}

static const struct gen_entry topology_table[] = {
    GEN_FILE("core_id", show_core_id),
    GEN_FILE("physical_package_id", show_core_id),
    GEN_FILE("thread_siblings_list", show_core_id),
    GEN_FILE("core_siblings_list", show_core_id),
    GEN_FILE("thread_siblings", show_siblings),
    {.name = NULL},
};
static const struct gen_entry cpu_table[] = {
    GEN_FILE("online", show_online), GEN_DIR("topology", topology_table), {.name = NULL}};
static const struct gen_entry cpus_table[] = {GEN_FILE("online", show_cpus),
                                              GEN_FILE("possible", show_cpus),
                                              GEN_FILE("present", show_cpus),
                                              {.name = NULL}};
static const struct family cpus = {.prefix = "cpu",
                                   .count = cpus_online,
                                   .member = GEN_DIR("cpu", cpu_table),
                                   .others = cpus_table};

/* ---- nodes ---- */

static void node_sums(u64 node, struct quire_zone_stats *sum)
{
    struct quire_zone_stats z;

    memset(sum, 0, sizeof *sum);
    for (unsigned k = 0; quire_zone_stats(k, &z) == QUIRE_OK; k++)
        if (z.node == node) {
            sum->managed += z.managed;
            sum->free += z.free + z.cached;
            sum->allocs += z.allocs;
            sum->fails += z.fails;
        }
}

static int show_node_meminfo(struct text *t, u64 node)
{
    struct quire_zone_stats s;

    node_sums(node, &s);
    text_printf(t, "Node %lu MemTotal:       %8lu kB\nNode %lu MemFree:        %8lu kB\n",
                (unsigned long)node, (unsigned long)(s.managed << 2), (unsigned long)node,
                (unsigned long)(s.free << 2));
    text_printf(t, "Node %lu MemUsed:        %8lu kB\n", (unsigned long)node,
                (unsigned long)((s.managed - K_MIN(s.free, s.managed)) << 2));
    return 0;
}

static int show_node_cpus(struct text *t, u64 node)
{
    const char *sep = "";

    for (unsigned c = 0; c < cpus_online(); c++)
        if (quire_cpu_node(c) == node) {
            text_printf(t, "%s%u", sep, c);
            sep = ",";
        }
    text_put(t, "\n", 1);
    return 0;
}

static int show_node_cpumap(struct text *t, u64 node)
{
    unsigned long mask = 0;

    for (unsigned c = 0; c < cpus_online() && c < 64; c++)
        if (quire_cpu_node(c) == node)
            mask |= 1ul << c;
    text_printf(t, "%lx\n", mask);
    return 0;
}

static int show_distance(struct text *t, u64 node)
{
    for (unsigned k = 0; k < quire_nodes(); k++)
        text_printf(t, "%s%u", k ? " " : "", quire_node_distance((unsigned)node, k));
    text_put(t, "\n", 1);
    return 0;
}

static int show_numastat(struct text *t, u64 node)
{
    struct quire_zone_stats s;

    node_sums(node, &s);
    text_printf(t, "numa_hit %lu\nnuma_miss %lu\n", (unsigned long)s.allocs,
                (unsigned long)s.fails);
    return 0;
}

static const struct gen_entry node_table[] = {
    GEN_FILE("meminfo", show_node_meminfo), GEN_FILE("cpulist", show_node_cpus),
    GEN_FILE("cpumap", show_node_cpumap),   GEN_FILE("distance", show_distance),
    GEN_FILE("numastat", show_numastat),    {.name = NULL}};
static const struct gen_entry nodes_table[] = {GEN_FILE("online", show_nodes),
                                               GEN_FILE("possible", show_nodes),
                                               GEN_FILE("has_cpu", show_nodes),
                                               GEN_FILE("has_memory", show_nodes),
                                               GEN_FILE("has_normal_memory", show_nodes),
                                               {.name = NULL}};
static const struct family nodes = {.prefix = "node",
                                    .count = quire_nodes,
                                    .member = GEN_DIR("node", node_table),
                                    .others = nodes_table};

/* ---- the tree ---- */

static const struct gen_entry system_table[] = {
    {.name = "cpu", .mode = S_IFDIR | 0555, .ops = &family_ops},
    {.name = "node", .mode = S_IFDIR | 0555, .ops = &family_ops},
    {.name = NULL}};

static const struct family *family_of(const struct dentry *dir)
{
    return dir->inode->priv == &system_table[0] ? &cpus : &nodes;
}

static const struct gen_entry empty_table[] = {{.name = NULL}};
static const struct gen_entry devices_table[] = {GEN_DIR("system", system_table), {.name = NULL}};
static const struct gen_entry kernel_table[] = {GEN_DIR("debug", empty_table), {.name = NULL}};
static const struct gen_entry fs_table[] = {GEN_DIR("cgroup", empty_table), {.name = NULL}};
static const struct gen_entry top_table[] = {GEN_DIR("devices", devices_table),
                                             GEN_DIR("fs", fs_table),
                                             GEN_DIR("kernel", kernel_table),
                                             {.name = NULL}};
static const struct gen_entry top = GEN_DIR("sys", top_table);

struct dentry *sysfs_root(u32 dev) { return gen_root(&top, dev); }
