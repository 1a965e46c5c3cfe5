/*
 * fs/syscache.c - /sys/devices/system/cpu/cpuN/cache: what lscpu(1) and others read about caches (Linux,
 * Documentation/ABI/testing/sysfs-devices-system-cpu).
 */
#include "arch/cpu.h"
#include "gen.h"

/* Keys: number of the cache, and the CPU. */
static const struct quire_cpu_cache *cache_of(u64 key) { return &cpu_caches[key & 255]; }

static u64 count_caches(void) { return cpu_ncaches; }

/* CPUs that share one have the same number but for the low bits of their APIC id. */
static bool shares(unsigned a, unsigned b, const struct quire_cpu_cache *c)
{
    unsigned shift = 0;

    while (1u << shift < c->shared)
        shift++;
    return acpi.apic_ids[a] >> shift == acpi.apic_ids[b] >> shift;
}

static int show_level(struct text *t, u64 key)
{
    text_printf(t, "%u\n", cache_of(key)->level);
    return 0;
}
static int show_type(struct text *t, u64 key)
{
    static const char *const names[] = {"Data", "Instruction", "Unified"};

    text_printf(t, "%s\n", names[(cache_of(key)->kind - 1) % 3]);
    return 0;
}
static int show_size(struct text *t, u64 key)
{
    text_printf(t, "%luK\n", (unsigned long)(quire_cache_bytes(cache_of(key)) >> 10));
    return 0;
}
static int show_ways(struct text *t, u64 key)
{
    text_printf(t, "%u\n", cache_of(key)->ways);
    return 0;
}
static int show_line(struct text *t, u64 key)
{
    text_printf(t, "%u\n", cache_of(key)->line);
    return 0;
}
static int show_sets(struct text *t, u64 key)
{
    text_printf(t, "%u\n", cache_of(key)->sets);
    return 0;
}
static int show_partition(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "1\n");
    return 0;
}
static int show_shared_list(struct text *t, u64 key)
{
    const char *sep = "";

    for (unsigned i = 0; i < cpus_online(); i++)
        if (shares(i, (unsigned)(key >> 8), cache_of(key))) {
            text_printf(t, "%s%u", sep, i);
            sep = ",";
        }
    text_printf(t, "\n");
    return 0;
}
static int show_shared_map(struct text *t, u64 key)
{
    u64 map = 0;

    for (unsigned i = 0; i < cpus_online() && i < 64; i++)
        map |= (u64)shares(i, (unsigned)(key >> 8), cache_of(key)) << i;
    text_printf(t, "%lx\n", (unsigned long)map);
    return 0;
}

static const struct gen_entry index_table[] = {
    GEN_FILE("level", show_level),
    GEN_FILE("type", show_type),
    GEN_FILE("size", show_size),
    GEN_FILE("ways_of_associativity", show_ways),
    GEN_FILE("coherency_line_size", show_line),
    GEN_FILE("number_of_sets", show_sets),
    GEN_FILE("physical_line_partition", show_partition),
    GEN_FILE("shared_cpu_list", show_shared_list),
    GEN_FILE("shared_cpu_map", show_shared_map),
    {.name = NULL},
};
static const struct gen_entry index_entry = GEN_DIR("index", index_table);

const struct gen_family sys_cpu_cache_families[] = {
    {.prefix = "index", .count = count_caches, .member = &index_entry, .key = sys_pair},
    {.prefix = NULL}};
const struct gen_entry sys_cpu_cache_table[] = {{.name = NULL}};

int show_colours(struct text *t, u64 key)
{
    struct quire_colour_stats s;

    (void)key;
    quire_colour_stats(&s);
    text_printf(t, "colours %u\nexact %lu\nother %lu\n", quire_frame_colours(),
                (unsigned long)s.exact, (unsigned long)s.other);
    return 0;
}
