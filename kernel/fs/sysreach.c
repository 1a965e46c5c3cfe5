/*
 * fs/sysreach.c - of a node's memory: who reaches it best and how fast, and the caches in front of it, as HMAT
 * tells (Linux, Documentation/admin-guide/mm/numaperf.rst).
 *
 * access0 counts every initiator, access1 only CPUs.
 */
#include "arch/cpu.h"
#include "gen.h"

/* Keys: a number below 256, and the node. */
u64 sys_pair(u64 n, u64 node) { return node << 8 | n; }

#define CLASSES 2u
u64 sys_access_count(void) { return CLASSES; }

static u64 best(u64 key) { return numa_best_initiators(&acpi.numa, (unsigned)(key >> 8), key & 1); }

bool sys_has_access(u64 n, u64 node)
{
    return acpi.numa.has_reach && acpi.numa.with_memory >> node & 1 && best(sys_pair(n, node));
}

/* Of several best initiators the values are the same. */
static int show(struct text *t, u64 key, size_t field)
{
    const struct numa_info *n = &acpi.numa;
    unsigned from = (unsigned)__builtin_ctzll(best(key));

    text_printf(t, "%u\n",
                *(const u32 *)((const char *)&n->reach[from * n->nnodes + (key >> 8)] + field));
    return 0;
}

#define SHOW(field)                                              \
    static int show_##field(struct text *t, u64 key)             \
    {                                                            \
        return show(t, key, offsetof(struct numa_reach, field)); \
    }
SHOW(read_latency)
SHOW(write_latency)
SHOW(read_bandwidth)
SHOW(write_bandwidth)

static const struct gen_entry reach_table[] = {GEN_FILE("read_latency", show_read_latency),
                                               GEN_FILE("write_latency", show_write_latency),
                                               GEN_FILE("read_bandwidth", show_read_bandwidth),
                                               GEN_FILE("write_bandwidth", show_write_bandwidth),
                                               {.name = NULL}};

static u64 count_nodes(void) { return quire_nodes(); }
static bool is_best(u64 initiator, u64 key) { return best(key) >> initiator & 1; }

static long link_text(struct inode *i, char *buf, size_t cap)
{
    return ksnprintf(buf, cap, "../../../node%lu", (unsigned long)i->key);
}
static const struct inode_ops link_ops = {.readlink = link_text};
static const struct gen_entry initiator = GEN_LINK("node", &link_ops);

static const struct gen_family initiators[] = {
    {.prefix = "node", .count = count_nodes, .has = is_best, .member = &initiator},
    {.prefix = NULL}};
static const struct gen_entry access_table[] = {GEN_FAMILIES("initiators", initiators, reach_table),
                                                {.name = NULL}};
const struct gen_entry sys_reach = GEN_DIR("access", access_table);

/* ---- caches, by level ---- */

static const struct numa_cache *cache_of(u64 level, u64 node)
{
    const struct numa_info *n = &acpi.numa;

    for (unsigned i = 0; i < n->ncaches[node]; i++)
        if (n->caches[node][i].level == level)
            return &n->caches[node][i];
    return NULL;
}

static int show_size(struct text *t, u64 key)
{
    text_printf(t, "%lu\n", (unsigned long)cache_of(key & 255, key >> 8)->size);
    return 0;
}
static int show_line(struct text *t, u64 key)
{
    text_printf(t, "%u\n", cache_of(key & 255, key >> 8)->line);
    return 0;
}
/* ACPI counts none, direct, complex; Linux direct, indexed, other. */
static int show_indexing(struct text *t, u64 key)
{
    unsigned v = cache_of(key & 255, key >> 8)->indexing;

    text_printf(t, "%u\n", v == 1 || v == 2 ? v - 1 : 2);
    return 0;
}
/* ACPI counts none, back, through; Linux back, through, other. */
static int show_policy(struct text *t, u64 key)
{
    unsigned v = cache_of(key & 255, key >> 8)->write_policy;

    text_printf(t, "%u\n", v == 1 || v == 2 ? v - 1 : 2);
    return 0;
}

static const struct gen_entry cache_table[] = {GEN_FILE("size", show_size),
                                               GEN_FILE("line_size", show_line),
                                               GEN_FILE("indexing", show_indexing),
                                               GEN_FILE("write_policy", show_policy),
                                               {.name = NULL}};
static const struct gen_entry cache = GEN_DIR("index", cache_table);

static u64 count_levels(void) { return 16; }
static bool has_level(u64 level, u64 node) { return cache_of(level, node); }
const struct gen_family sys_cache_families[] = {
    {.prefix = "index", .count = count_levels, .has = has_level, .member = &cache, .key = sys_pair},
    {.prefix = NULL}};
const struct gen_entry sys_cache_entry_table[] = {{.name = NULL}};
