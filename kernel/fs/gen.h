/*
 * fs/gen.h - files and directories whose content is made when they are read (/proc, /sys).
 *
 * A table of entries describes a directory; key says of what (a process, a CPU): it is passed to
 * every function of the entries below.
 */
#ifndef FS_GEN_H
#define FS_GEN_H

#include "fsint.h"
#include <quire/stats.h>

/* Directories, files or links that differ by a number: cpu0, cpu1, node0. */
struct gen_family {
    const char *prefix; /* NULL ends a list */
    u64 (*count)(void); /* numbers are below */
    /* Is there one, in a directory with this key?  NULL: yes. */
    bool (*has)(u64 n, u64 key);
    const struct gen_entry *member; /* of each */
    u64 (*key)(u64 n, u64 key);     /* of a member, in a directory with this key; NULL: n */
};

struct gen_entry {
    const char *name; /* NULL ends a table */
    u32 mode;
    int (*show)(struct text *t, u64 key);
    /* What was written, with a 0 behind it; 0 or -errno. */
    int (*store)(const char *text, size_t n, u64 key);
    const struct gen_entry *children;
    const struct gen_family *families; /* beside the children, with gen_family_ops */
    const struct inode_ops *ops;       /* instead of the usual ones of a directory, link or file */
    u64 key;                           /* of a directory whose parent has none */
};

/* New dentry for an entry of dir, referenced, or NULL and *err. */
struct dentry *gen_make(struct dentry *dir, const struct gen_entry *e, const char *name, u64 key,
                        int *err);
struct dentry *gen_root(const struct gen_entry *e, u32 dev);
struct dentry *gen_find(struct dentry *dir, const struct gen_entry *table, const char *name,
                        u64 key, int *err);
/* Emit a table from *pos (counted from first) on; false: full. */
bool gen_list(const struct gen_entry *table, u64 key, u64 first, struct dir_emit *e, u64 *pos);
u64 gen_ino(const struct gen_entry *e, u64 key);
/* A whole decimal number within [low, high], white space around it allowed. */
int gen_number(const char *text, i64 low, i64 high, i64 *out);

extern const struct inode_ops gen_dir_ops, gen_file_ops, gen_family_ops;

/* clang-format off */
#define GEN_FILE(n, f)       {.name = (n), .mode = S_IFREG | 0444, .show = (f)}
#define GEN_SECRET(n, f)     {.name = (n), .mode = S_IFREG | 0400, .show = (f)}
#define GEN_RW(n, f, s)      {.name = (n), .mode = S_IFREG | 0644, .show = (f), .store = (s)}
#define GEN_DIR(n, c)        {.name = (n), .mode = S_IFDIR | 0555, .children = (c)}
#define GEN_FAMILIES(n, f, c) {.name = (n), .mode = S_IFDIR | 0555, .ops = &gen_family_ops, \
                               .families = (f), .children = (c)}
#define GEN_LINK(n, o)       {.name = (n), .mode = S_IFLNK | 0777, .ops = (o)}
/* clang-format on */

/* procpid.c */
extern const struct inode_ops proc_self_ops, proc_thread_self_ops;
struct dentry *procpid_lookup(struct dentry *root, const char *name, int *err);
int procpid_list(struct dir_emit *e, u64 *pos); /* pos: pids from here on */
/* procvm.c: memory of the whole machine */
int show_meminfo(struct text *t, u64 key);
int show_vmstat(struct text *t, u64 key);
int show_vmallocinfo(struct text *t, u64 key); /* procvmalloc.c */
/* procheap.c */
int show_kmemleak(struct text *t, u64 key);
int store_kmemleak(const char *text, size_t n, u64 key);
int show_leakscan(struct text *t, u64 key);
int show_samples(struct text *t, u64 key);
int show_validate(struct text *t, u64 key);
int store_validate(const char *text, size_t n, u64 key);
/* What a function of quire/stats.h writes; key: that function. */
int show_library(struct text *t, u64 key);
extern const struct inode_ops kpageflags_ops, kpagecount_ops;
extern const struct gen_entry proc_quire_table[], extfrag_table[];
/* clang-format off */
#define GEN_LIBRARY(n, m, f) {.name = (n), .mode = S_IFREG | (m), .show = show_library, .key = (u64)(uintptr_t)(f)}
#define PROCVM_ENTRIES                                                                                    \
    GEN_FILE("meminfo", show_meminfo), GEN_FILE("vmstat", show_vmstat),                                   \
    GEN_LIBRARY("buddyinfo", 0444, quire_buddyinfo), GEN_LIBRARY("zoneinfo", 0444, quire_zoneinfo),       \
    GEN_LIBRARY("pagetypeinfo", 0400, quire_pagetypeinfo), GEN_LIBRARY("slabinfo", 0400, quire_slabinfo), \
    GEN_LIBRARY("allocinfo", 0400, quire_allocinfo),                                                     \
    GEN_SECRET("vmallocinfo", show_vmallocinfo),                                                          \
    {.name = "kpageflags", .mode = S_IFREG | 0400, .ops = &kpageflags_ops},                               \
    {.name = "kpagecount", .mode = S_IFREG | 0400, .ops = &kpagecount_ops}
/* clang-format on */
/* sysnode.c, sysmemory.c: /sys/devices/system/node and memory */
extern const struct gen_family sys_node_families[], sys_memory_families[];
extern const struct gen_entry sys_node_table[], sys_memory_table[];
/* Links to members of the other, and which of them there are. */
extern const struct gen_entry sys_node_link, sys_memory_link;
/* sysreach.c: of a node, what HMAT says */
extern const struct gen_entry sys_reach, sys_cache_entry_table[];
extern const struct gen_family sys_cache_families[];
u64 sys_access_count(void);
bool sys_has_access(u64 n, u64 node);
u64 sys_pair(u64 n, u64 node);
#define SYS_REACH_FAMILY                                                      \
    {                                                                         \
        .prefix = "access", .count = sys_access_count, .has = sys_has_access, \
        .member = &sys_reach, .key = sys_pair                                 \
    }
#define SYS_CACHE_ENTRY GEN_FAMILIES("memory_side_cache", sys_cache_families, sys_cache_entry_table)
u64 sys_memory_count(void);
bool sys_memory_of_node(u64 block, u64 node);
/* syscache.c: caches of a CPU; of /proc/quire: colours of frames */
extern const struct gen_family sys_cpu_cache_families[];
extern const struct gen_entry sys_cpu_cache_table[];
int show_colours(struct text *t, u64 key);
/* procconfig.c */
int show_config(struct text *t, u64 key);
/* procsys.c */
extern const struct gen_entry proc_sys_table[];
int show_mounts(struct text *t, u64 key);
int show_mountinfo(struct text *t, u64 key);

#endif
