/*
 * fs/sysmemory.c - /sys/devices/system/memory: blocks of 128 MiB, what lsmem(1) shows (Linux,
 * Documentation/ABI/testing/sysfs-devices-memory).
 *
 * A block exists where some zone has frames in it.
 */
#include "gen.h"
#include "arch/cpu.h"

#define BLOCK_SHIFT 27
#define PAGEBLOCKS  (1u << (BLOCK_SHIFT - 21))
#define KPF_OFFLINE 23

static u64 zones_end(void)
{
    struct quire_zone_stats z;
    u64 end = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        end = K_MAX(end, z.end.v);
    return end;
}

u64 sys_memory_count(void) { return K_UP(zones_end() << 12, 1ull << BLOCK_SHIFT) >> BLOCK_SHIFT; }

/* Call visit for the first frame of each pageblock of the block that has one. */
static bool any_pageblock(u64 block, bool (*is)(q_pfn, u64), u64 arg)
{
    for (u64 k = 0; k < PAGEBLOCKS; k++) {
        q_pfn pfn = Q_PFN((block * PAGEBLOCKS + k) << 9);

        /* a zone may begin in the middle of its first pageblock */
        if ((quire_pfn_valid(pfn) || quire_pfn_valid(Q_PFN(pfn.v + 511))) && is(pfn, arg))
            return true;
    }
    return false;
}

static bool exists(q_pfn pfn, u64 arg)
{
    (void)pfn, (void)arg;
    return true;
}
static bool on_line(q_pfn pfn, u64 arg)
{
    (void)arg;
    return !(quire_kpageflags(pfn) >> KPF_OFFLINE & 1);
}
static bool of_node(q_pfn pfn, u64 node)
{
    struct quire_block_info b;

    return quire_block_info(pfn.v >> 9, &b) == QUIRE_OK && b.absent < 512 && b.node == node;
}
/* Something that stays where it is. */
static bool fixed(q_pfn pfn, u64 arg)
{
    struct quire_block_info b;

    (void)arg;
    return quire_block_info(pfn.v >> 9, &b) == QUIRE_OK &&
           (b.absent || b.reserved || b.slab || b.table || b.kva || b.other) && on_line(pfn, 0);
}

static bool has_block(u64 block, u64 key)
{
    (void)key;
    return any_pageblock(block, exists, 0);
}
bool sys_memory_of_node(u64 block, u64 node) { return any_pageblock(block, of_node, node); }

/* ---- one block ---- */

static int show_state(struct text *t, u64 block)
{
    text_printf(t, any_pageblock(block, on_line, 0) ? "online\n" : "offline\n");
    return 0;
}
/* ---- off line and back, by writing to state ---- */

static void drain(void *arg)
{
    (void)arg;
    quire_frame_drain_local();
}

/* A run of pageblocks of the block, from *at on, that exist and are on line, or off line; its length. */
static u64 next_run(u64 block, u64 *at, bool on)
{
    u64 n = 0;

    for (; *at < PAGEBLOCKS; ++*at) {
        q_pfn pfn = Q_PFN((block * PAGEBLOCKS + *at) << 9);

        if (quire_pfn_valid(pfn) && on_line(pfn, 0) == on)
            break;
    }
    while (*at + n < PAGEBLOCKS) {
        q_pfn pfn = Q_PFN((block * PAGEBLOCKS + *at + n) << 9);

        if (!quire_pfn_valid(pfn) || on_line(pfn, 0) != on)
            break;
        n++;
    }
    return n;
}

static int put_on_line(u64 block)
{
    u64 at = 0, n;
    int err = 0;

    while ((n = next_run(block, &at, false)) && !err)
        err = quire_frame_online(Q_PFN((block * PAGEBLOCKS + at) << 9), n << 9) ? -EBUSY : 0;
    return err;
}

/* All that is there, or nothing. */
static int put_off_line(u64 block)
{
    u64 at = 0, n;
    int err = 0;

    drain(NULL);
    smp_call_others(drain, NULL);
    while ((n = next_run(block, &at, true)) && !err)
        err = quire_frame_offline(Q_PFN((block * PAGEBLOCKS + at) << 9), n << 9) ? -EBUSY : 0;
    if (err)
        put_on_line(block);
    return err;
}

static bool word_is(const char *text, const char *word)
{
    size_t n = strlen(word);

    return !strncmp(text, word, n) && (!text[n] || (text[n] == '\n' && !text[n + 1]));
}

static int store_state(const char *text, size_t n, u64 block)
{
    (void)n;
    if (word_is(text, "offline"))
        return any_pageblock(block, on_line, 0) ? put_off_line(block) : 0;
    if (word_is(text, "online"))
        return put_on_line(block);
    return -EINVAL;
}

static int show_removable(struct text *t, u64 block)
{
    text_printf(t, "%d\n", !any_pageblock(block, fixed, 0));
    return 0;
}
static int show_index(struct text *t, u64 block)
{
    text_printf(t, "%08lx\n", (unsigned long)block);
    return 0;
}
static int show_device(struct text *t, u64 block)
{
    (void)block;
    text_printf(t, "0\n");
    return 0;
}

/* The zone of all its frames, or none if there are several. */
static int show_zones(struct text *t, u64 block)
{
    struct quire_zone_stats z;
    const char *name = "none";
    u64 from = block << (BLOCK_SHIFT - 12), to = from + (1ull << (BLOCK_SHIFT - 12));
    unsigned zones = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        if (z.start.v < to && z.end.v > from && sys_memory_of_node(block, z.node)) {
            name = z.name;
            zones++;
        }
    text_printf(t, "%s\n", zones == 1 ? name : "none");
    return 0;
}

static const struct gen_entry block_table[] = {
    GEN_RW("state", show_state, store_state), GEN_FILE("removable", show_removable),
    GEN_FILE("phys_index", show_index),       GEN_FILE("phys_device", show_device),
    GEN_FILE("valid_zones", show_zones),      {.name = NULL}};

static u64 count_nodes(void) { return quire_nodes(); }
static bool node_of_block(u64 node, u64 block) { return sys_memory_of_node(block, node); }
static const struct gen_family block_families[] = {
    {.prefix = "node", .count = count_nodes, .has = node_of_block, .member = &sys_node_link},
    {.prefix = NULL}};
static const struct gen_entry one_block = GEN_FAMILIES("memory", block_families, block_table);

/* ---- the directory ---- */

static int show_block_size(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "%lx\n", 1ul << BLOCK_SHIFT);
    return 0;
}

/* What memory that comes is for. */
static u32 use_movable = 1; /* atomic */

static int show_auto(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, __atomic_load_n(&use_movable, __ATOMIC_RELAXED) ? "online_movable\n"
                                                                   : "online_kernel\n");
    return 0;
}

static int store_auto(const char *text, size_t n, u64 key)
{
    bool movable = word_is(text, "online_movable") || word_is(text, "online");

    (void)n, (void)key;
    if (!movable && !word_is(text, "online_kernel"))
        return -EINVAL;
    __atomic_store_n(&use_movable, movable, __ATOMIC_RELAXED);
    quire_memory_set_use(movable ? QUIRE_ADD_MOVABLE : QUIRE_ADD_KERNEL);
    return 0;
}

const struct gen_family sys_memory_families[] = {
    {.prefix = "memory", .count = sys_memory_count, .has = has_block, .member = &one_block},
    {.prefix = NULL}};
const struct gen_entry sys_memory_table[] = {GEN_FILE("block_size_bytes", show_block_size),
                                             GEN_RW("auto_online_blocks", show_auto, store_auto),
                                             {.name = NULL}};

static long link_text(struct inode *i, char *buf, size_t cap)
{
    return ksnprintf(buf, cap, "../../memory/memory%lu", (unsigned long)i->key);
}
static const struct inode_ops link_ops = {.readlink = link_text};
const struct gen_entry sys_memory_link = GEN_LINK("memory", &link_ops);
