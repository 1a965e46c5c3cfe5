/*
 * fs/sysfs.c - /sys: the tree, and the CPUs (sysfs(5)).  Nodes and memory: sysnode.c, sysmemory.c.
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
    GEN_FILE("core_siblings", show_siblings),
    {.name = NULL},
};
static const struct gen_entry cpu_table[] = {
    GEN_FILE("online", show_online),
    GEN_DIR("topology", topology_table),
    GEN_FAMILIES("cache", sys_cpu_cache_families, sys_cpu_cache_table),
    {.name = NULL}};
static const struct gen_entry cpus_table[] = {GEN_FILE("online", show_cpus),
                                              GEN_FILE("possible", show_cpus),
                                              GEN_FILE("present", show_cpus),
                                              {.name = NULL}};
static const struct gen_entry one_cpu = GEN_DIR("cpu", cpu_table);

static u64 count_cpus(void) { return cpus_online(); }
static const struct gen_family cpu_families[] = {
    {.prefix = "cpu", .count = count_cpus, .member = &one_cpu}, {.prefix = NULL}};

/* ---- the tree ---- */

static const struct gen_entry system_table[] = {
    GEN_FAMILIES("cpu", cpu_families, cpus_table),
    GEN_FAMILIES("node", sys_node_families, sys_node_table),
    GEN_FAMILIES("memory", sys_memory_families, sys_memory_table),
    {.name = NULL}};

static const struct gen_entry empty_table[] = {{.name = NULL}};
static const struct gen_entry devices_table[] = {GEN_DIR("system", system_table), {.name = NULL}};
static const struct gen_entry debug_table[] = {GEN_DIR("extfrag", extfrag_table),
                                               GEN_RW("kmemleak", show_kmemleak, store_kmemleak),
                                               {.name = NULL}};
static const struct gen_entry kernel_table[] = {GEN_DIR("debug", debug_table), {.name = NULL}};
static const struct gen_entry fs_table[] = {GEN_DIR("cgroup", empty_table), {.name = NULL}};
static const struct gen_entry top_table[] = {GEN_DIR("devices", devices_table),
                                             GEN_DIR("fs", fs_table),
                                             GEN_DIR("kernel", kernel_table),
                                             {.name = NULL}};
static const struct gen_entry top = GEN_DIR("sys", top_table);

struct dentry *sysfs_root(u32 dev) { return gen_root(&top, dev); }
