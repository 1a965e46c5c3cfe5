/*
 * fs/mount.c - mounts: a root that covers a directory.
 *
 * What can be mounted lives in memory: tmpfs (and devtmpfs, ramfs), proc, sysfs.  A walk steps from
 * a covered dentry to the root on top (path.c).
 */
#include "fsint.h"

struct mount *fs_mounts;

static u32 next_minor = 20; /* under fs_tree_lock */

#define MAGIC_TMPFS 0x01021994u
#define MAGIC_PROC  0x9fa0u
#define MAGIC_SYSFS 0x62656572u
#define MAGIC_PIPE  0x50495045u
#define MAGIC_SOCK  0x534f434bu
#define MAGIC_ANON  0x09041934u

struct mount *mount_of(const struct dentry *d)
{
    while (d->parent)
        d = d->parent;
    for (struct mount *m = fs_mounts; m; m = m->next)
        if (m->root == d)
            return m;
    return NULL;
}

u64 fs_magic(const struct dentry *d)
{
    const struct mount *m = mount_of(d);

    if (!m) {
        switch (d->inode->mode & S_IFMT) {
        case S_IFIFO: return MAGIC_PIPE;
        case S_IFSOCK: return MAGIC_SOCK;
        case S_IFREG: return MAGIC_TMPFS;
        default: return MAGIC_ANON;
        }
    }
    if (!strcmp(m->type, "proc"))
        return MAGIC_PROC;
    return !strcmp(m->type, "sysfs") ? MAGIC_SYSFS : MAGIC_TMPFS;
}

struct dentry *tmpfs_root(u32 dev, u32 mode)
{
    struct inode *i = inode_new(S_IFDIR | mode, dev);

    if (!i)
        return NULL;
    i->nlink = 2;
    return dentry_nameless(i, "");
}

static struct dentry *make_root(const char *type, u32 dev)
{
    if (!strcmp(type, "proc"))
        return procfs_root(dev);
    if (!strcmp(type, "sysfs"))
        return sysfs_root(dev);
    if (!strcmp(type, "devtmpfs"))
        return devfs_root(dev);
    return tmpfs_root(dev, 01777);
}

static bool known_type(const char *type)
{
    static const char *const types[] = {"proc", "sysfs", "devtmpfs", "tmpfs", "ramfs"};

    for (unsigned k = 0; k < K_COUNT(types); k++)
        if (!strcmp(type, types[k]))
            return true;
    return false;
}

/* at may be NULL for the first root.  Takes a reference of its own on at. */
int mount_at(const char *source, struct dentry *at, const char *type, unsigned flags)
{
    struct mount *m = quire_kzalloc(sizeof *m, QUIRE_GFP_KERNEL), **end = &fs_mounts;
    struct dentry *root;

    if (!m)
        return -ENOMEM;
    m->dev = MAKEDEV(0, next_minor);
    next_minor++;
    root = make_root(type, m->dev);
    if (!root) {
        quire_kfree(m);
        return -ENOMEM;
    }
    if (at) {
        while (at->covered)
            at = at->covered;
        root->covers = dentry_get(at);
        at->covered = root;
    }
    m->root = root;
    m->flags = flags;
    strlcpy(m->type, type, sizeof m->type);
    strlcpy(m->source, source, sizeof m->source);
    while (*end)
        end = &(*end)->next;
    *end = m;
    return 0;
}

#define CAP_SYS_ADMIN 21
#define MS_RDONLY     1u
#define MS_REMOUNT    32u
#define MS_BIND       4096u
#define MS_MOVE       8192u
#define MS_CHANGES    (0xf0000u | 1u << 21) /* propagation, which one name space does not need */

static int user_word(char *to, size_t cap, u64 from)
{
    long n;

    to[0] = 0;
    if (!from)
        return 0;
    n = strncpy_from_user(to, from, cap);
    return n == -ENAMETOOLONG ? -EINVAL : n < 0 ? (int)n : 0;
}

long sys_mount(u64 usource, u64 utarget, u64 utype, u64 flags)
{
    char source[64], type[16];
    struct walk w;
    int err;

    if (!capable(CAP_SYS_ADMIN))
        return -EPERM;
    err = user_word(type, sizeof type, utype);
    if (!err)
        err = user_word(source, sizeof source, usource);
    if (!err)
        err = walk_user(AT_FDCWD, utarget, WALK_FOLLOW, &w);
    if (err)
        return err;
    if (flags & (MS_BIND | MS_MOVE))
        err = -EINVAL;
    else if (flags & (MS_REMOUNT | MS_CHANGES))
        err = flags & MS_RDONLY ? -EINVAL : 0;
    else if (!known_type(type))
        err = -ENODEV;
    else if ((w.d->inode->mode & S_IFMT) != S_IFDIR)
        err = -ENOTDIR;
    else if (flags & MS_RDONLY)
        err = -EINVAL;
    else {
        kmutex_lock(&fs_tree_lock);
        err = mount_at(*source ? source : "none", w.d, type, (unsigned)flags);
        kmutex_unlock(&fs_tree_lock);
    }
    dentry_put(w.d);
    return err;
}

/* Names hold each other up to the root; take them out leaf by leaf. */
static void empty_tree(struct dentry *root)
{
    struct dentry *d = root;

    for (;;) {
        struct dentry *up;

        while ((d->inode->mode & S_IFMT) == S_IFDIR && !d->inode->ops && d->inode->dir.first)
            d = d->inode->dir.first;
        if (d == root)
            return;
        up = d->parent;
        dir_remove(d);
        d = up;
    }
}

static bool has_mount_below(const struct dentry *root)
{
    for (struct mount *m = fs_mounts; m; m = m->next)
        for (const struct dentry *d = m->root->covers; d; d = d->parent)
            if (d == root)
                return true;
    return false;
}

static int unmount(struct dentry *root)
{
    struct mount **at = &fs_mounts, *m;

    while (*at && (*at)->root != root)
        at = &(*at)->next;
    m = *at;
    if (!m || !root->covers)
        return -EINVAL;
    if (has_mount_below(root) || root->covered)
        return -EBUSY;
    *at = m->next;
    root->covers->covered = NULL;
    empty_tree(root);
    dentry_put(root->covers);
    root->covers = NULL;
    dentry_put(root);
    quire_kfree(m);
    return 0;
}

#define UMOUNT_FLAGS    15u
#define UMOUNT_NOFOLLOW 8u
#define MNT_EXPIRE      4u

long sys_umount2(u64 upath, unsigned flags)
{
    struct walk w;
    int err;
    char *path;

    if (flags & ~UMOUNT_FLAGS)
        return -EINVAL;
    if (!capable(CAP_SYS_ADMIN))
        return -EPERM;
    path = path_from_user(upath, &err);
    if (!path)
        return err;
    kmutex_lock(&fs_tree_lock);
    err = path_walk_locked(AT_FDCWD, path, flags & UMOUNT_NOFOLLOW ? 0 : WALK_FOLLOW, &w);
    if (!err) {
        /* somebody besides the mount and this walk: a working directory, an open directory */
        bool busy = w.d->refs > 2 && !w.d->inode->dir.first;

        err = flags & MNT_EXPIRE ? -EINVAL : busy && !(flags & 3u) ? -EBUSY : unmount(w.d);
        dentry_put(w.d);
    }
    kmutex_unlock(&fs_tree_lock);
    quire_kfree(path);
    return err;
}

/* Every missing directory of an absolute path; boot. */
int fs_mkdir_path(const char *path, u32 mode)
{
    struct dentry *d = dentry_get(fs_root);
    int err = 0;

    while (!err && *path) {
        char name[NAME_LIMIT + 1];
        struct dentry *next;
        size_t n = 0;

        while (*path == '/')
            path++;
        while (path[n] && path[n] != '/')
            n++;
        if (!n || n > NAME_LIMIT)
            break;
        memcpy(name, path, n);
        name[n] = 0;
        path += n;
        next = lookup_one(d, name, &err);
        if (!next && err == -ENOENT)
            err = create_in(d, name, S_IFDIR | (*path ? 0755 : mode), 0, &next);
        if (next) {
            err = 0;
            dentry_put(d);
            d = next;
        }
    }
    dentry_put(d);
    return err;
}
