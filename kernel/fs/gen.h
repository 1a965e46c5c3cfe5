/*
 * fs/gen.h - files and directories whose content is made when they are read (/proc, /sys).
 *
 * A table of entries describes a directory; key says of what (a process, a CPU): it is passed to
 * every function of the entries below.
 */
#ifndef FS_GEN_H
#define FS_GEN_H

#include "fsint.h"

struct gen_entry {
    const char *name; /* NULL ends a table */
    u32 mode;
    int (*show)(struct text *t, u64 key);
    /* What was written, with a 0 behind it; 0 or -errno. */
    int (*store)(const char *text, size_t n, u64 key);
    const struct gen_entry *children;
    const struct inode_ops *ops; /* instead of the usual ones of a directory, link or file */
    u64 key;                     /* of a directory whose parent has none */
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

extern const struct inode_ops gen_dir_ops, gen_file_ops;

/* clang-format off */
#define GEN_FILE(n, f)       {.name = (n), .mode = S_IFREG | 0444, .show = (f)}
#define GEN_SECRET(n, f)     {.name = (n), .mode = S_IFREG | 0400, .show = (f)}
#define GEN_RW(n, f, s)      {.name = (n), .mode = S_IFREG | 0644, .show = (f), .store = (s)}
#define GEN_DIR(n, c)        {.name = (n), .mode = S_IFDIR | 0555, .children = (c)}
#define GEN_LINK(n, o)       {.name = (n), .mode = S_IFLNK | 0777, .ops = (o)}
/* clang-format on */

/* procpid.c */
extern const struct inode_ops proc_self_ops, proc_thread_self_ops;
struct dentry *procpid_lookup(struct dentry *root, const char *name, int *err);
int procpid_list(struct dir_emit *e, u64 *pos); /* pos: pids from here on */
/* procconfig.c */
int show_config(struct text *t, u64 key);
/* procsys.c */
extern const struct gen_entry proc_sys_table[];
int show_mounts(struct text *t, u64 key);
int show_mountinfo(struct text *t, u64 key);

#endif
