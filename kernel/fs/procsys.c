/*
 * fs/procsys.c - /proc/sys: settings; and the tables of mounts.
 *
 * A row that can be written is one that something reads.
 */
#include "../proc/proc.h"
#include "procipc.h"
#include "proctune.h"
#include <quire/config.h>

static int constant(struct text *t, u64 v)
{
    text_printf(t, "%lu\n", (unsigned long)v);
    return 0;
}

/* ---- kernel ---- */

static int show_uts(struct text *t, u64 which)
{
    char n[6][UTS_LEN];

    uts_get(n);
    text_printf(t, "%s\n", n[which - 1]);
    return 0;
}

static int show_pid_max(struct text *t, u64 key)
{
    (void)key;
    return constant(t, (u64)pid_max);
}
static int store_pid_max(const char *text, size_t n, u64 key)
{
    i64 v;
    int err = gen_number(text, 301, PID_MAX, &v);

    (void)n;
    (void)key;
    if (!err)
        pid_max = (int)v;
    return err;
}
static int show_core_pattern(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "core\n"); /* in the directory of the program, always: proc/core.c */
    return 0;
}
static int show_overflow_id(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 65534);
}
static int show_cap_last(struct text *t, u64 key)
{
    (void)key;
    return constant(t, CAP_LAST);
}
static int show_ngroups_max(struct text *t, u64 key)
{
    (void)key;
    return constant(t, K_COUNT(((struct process *)0)->groups));
}
static int show_tainted(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 0);
}

static void put_uuid(struct text *t, u8 b[16])
{
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    for (unsigned k = 0; k < 16; k++)
        text_printf(t, "%s%02x", k == 4 || k == 6 || k == 8 || k == 10 ? "-" : "", b[k]);
    text_put(t, "\n", 1);
}

static int show_uuid(struct text *t, u64 key)
{
    u8 b[16];

    (void)key;
    random_bytes(b, sizeof b);
    put_uuid(t, b);
    return 0;
}

static int show_boot_id(struct text *t, u64 key)
{
    static struct kmutex lock;
    static u8 id[16];
    u8 b[16];

    (void)key;
    kmutex_lock(&lock);
    if (!(id[8] & 0x80)) {
        random_bytes(id, sizeof id);
        id[8] |= 0x80;
    }
    memcpy(b, id, sizeof b);
    kmutex_unlock(&lock);
    put_uuid(t, b);
    return 0;
}

static int show_entropy(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 256); /* the generator's state: 256 bits */
}

static const struct gen_entry random_table[] = {
    GEN_FILE("boot_id", show_boot_id),
    GEN_FILE("uuid", show_uuid),
    GEN_FILE("entropy_avail", show_entropy),
    GEN_FILE("poolsize", show_entropy),
    {.name = NULL},
};

#define UTS_FILE(n, which)                                                        \
    {                                                                             \
        .name = (n), .mode = S_IFREG | 0444, .show = show_uts, .key = (which) + 1 \
    }

static const struct gen_entry kernel_table[] = {
    UTS_FILE("ostype", 0),
    UTS_FILE("hostname", 1),
    UTS_FILE("osrelease", 2),
    UTS_FILE("version", 3),
    UTS_FILE("domainname", 5),
    GEN_RW("pid_max", show_pid_max, store_pid_max),
    GEN_FILE("core_pattern", show_core_pattern),
    GEN_FILE("overflowuid", show_overflow_id),
    GEN_FILE("overflowgid", show_overflow_id),
    GEN_FILE("cap_last_cap", show_cap_last),
    GEN_FILE("ngroups_max", show_ngroups_max),
    GEN_FILE("tainted", show_tainted),
    PROCIPC_ENTRIES,
    GEN_DIR("random", random_table),
    {.name = NULL},
};

/* ---- vm ---- */

static int show_overcommit(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 1); /* reservations are never refused */
}
static int show_max_map_count(struct text *t, u64 key)
{
    (void)key;
    return constant(t, QUIRE_MAX_VMAS);
}
static int show_mmap_min_addr(struct text *t, u64 key)
{
    (void)key;
    return constant(t, USER_START);
}

static const struct gen_entry vm_table[] = {
    GEN_FILE("overcommit_memory", show_overcommit),
    GEN_FILE("max_map_count", show_max_map_count),
    GEN_FILE("mmap_min_addr", show_mmap_min_addr),
    PROCTUNE_ENTRIES,
    {.name = NULL},
};

/* ---- fs ---- */

static int show_file_max(struct text *t, u64 key)
{
    (void)key;
    return constant(t, INT64_MAX); /* no limit but memory */
}
static int show_nr_open(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 1 << 20);
}
static int show_pipe_max(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 1 << 20);
}

static const struct gen_entry fs_table[] = {
    GEN_FILE("file-max", show_file_max),
    GEN_FILE("nr_open", show_nr_open),
    GEN_FILE("pipe-max-size", show_pipe_max),
    {.name = NULL},
};

/* ---- net: what the loopback sockets keep ---- */

static int show_somaxconn(struct text *t, u64 key)
{
    (void)key;
    return constant(t, 4096);
}
static const struct gen_entry net_core_table[] = {GEN_FILE("somaxconn", show_somaxconn),
                                                  {.name = NULL}};
static const struct gen_entry net_table[] = {GEN_DIR("core", net_core_table), {.name = NULL}};

const struct gen_entry proc_sys_table[] = {
    GEN_DIR("kernel", kernel_table), GEN_DIR("vm", vm_table), GEN_DIR("fs", fs_table),
    GEN_DIR("net", net_table),       {.name = NULL},
};

/* ---- mounts ---- */

static void escaped(struct text *t, const char *s)
{
    for (; *s; s++)
        if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\\')
            text_printf(t, "\\%03o", (unsigned)(u8)*s);
        else
            text_put(t, s, 1);
}

static const char *options(const struct mount *m)
{
    static const char *const by_flags[8] = {"rw,relatime",
                                            "rw,nosuid,relatime",
                                            "rw,nodev,relatime",
                                            "rw,nosuid,nodev,relatime",
                                            "rw,noexec,relatime",
                                            "rw,nosuid,noexec,relatime",
                                            "rw,nodev,noexec,relatime",
                                            "rw,nosuid,nodev,noexec,relatime"};

    return by_flags[m->flags >> 1 & 7]; /* MS_NOSUID, MS_NODEV, MS_NOEXEC */
}

static int each_mount(struct text *t, bool info)
{
    char *path = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
    unsigned id = 1;

    if (!path)
        return -ENOMEM;
    kmutex_lock(&fs_tree_lock);
    for (const struct mount *m = fs_mounts; m; m = m->next, id++) {
        dentry_path_locked(m->root, NULL, path, PATH_CAP);
        if (info)
            text_printf(t, "%u %u %u:%u / ", id, id > 1 ? 1u : 0u, DEV_MAJOR(m->dev),
                        DEV_MINOR(m->dev));
        else
            escaped(t, m->source), text_put(t, " ", 1);
        escaped(t, path);
        if (info) {
            text_printf(t, " %s - %s ", options(m), m->type);
            escaped(t, m->source);
            text_printf(t, " rw\n");
        } else {
            text_printf(t, " %s %s 0 0\n", m->type, options(m));
        }
    }
    kmutex_unlock(&fs_tree_lock);
    quire_kfree(path);
    return 0;
}

int show_mounts(struct text *t, u64 key)
{
    (void)key;
    return each_mount(t, false);
}
int show_mountinfo(struct text *t, u64 key)
{
    (void)key;
    return each_mount(t, true);
}
