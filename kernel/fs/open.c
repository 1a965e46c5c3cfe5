/*
 * fs/open.c - open(2) and the making of files.
 */
#include "fsint.h"

#define LINKS_MAX 40

u32 fs_umask(void)
{
    struct process *p = current ? current->proc : NULL;

    return p && p->fs ? p->fs->umask : 0;
}

int may_create(const struct dentry *dir)
{
    if (dir->inode->ops)
        return -ENOENT; /* generated directories make their own entries */
    if (!dir->inode->nlink)
        return -ENOENT; /* removed, but still somebody's working directory */
    return inode_permission(dir->inode, 3);
}

int create_in(struct dentry *dir, const char *name, u32 mode, u32 rdev, struct dentry **out)
{
    struct inode *i;
    struct dentry *d;
    int err;

    i = inode_new(mode, dir->inode->dev);
    if (!i)
        return -ENOMEM;
    i->rdev = rdev;
    i->uid = fs_uid();
    i->gid = fs_gid();
    if (dir->inode->mode & S_ISGID) {
        i->gid = dir->inode->gid;
        if ((mode & S_IFMT) == S_IFDIR)
            i->mode |= S_ISGID;
    }
    d = dentry_new(i, dir, name);
    if (!d)
        return -ENOMEM;
    err = dir_add(dir, d);
    if (err)
        dentry_put(d);
    else
        *out = d;
    return err;
}

/* Open or create the last part of w (a WALK_PARENT result).  1: it is a link to *target. */
static int open_last(struct walk *w, u32 flags, u32 mode, struct dentry **out, bool *created,
                     char *target)
{
    struct dentry *d;
    int err;

    if (w->special || w->slash)
        return -EISDIR;
    if ((w->d->inode->mode & S_IFMT) != S_IFDIR)
        return -ENOTDIR;
    d = lookup_one(w->d, w->last, &err);
    if (!d && err != -ENOENT)
        return err;
    if (!d) {
        err = may_create(w->d);
        *created = true;
        return err ? err : create_in(w->d, w->last, S_IFREG | (mode & 07777 & ~fs_umask()), 0, out);
    }
    if (flags & O_EXCL) {
        dentry_put(d);
        return -EEXIST;
    }
    if ((d->inode->mode & S_IFMT) == S_IFLNK && !(flags & O_NOFOLLOW) && !d->inode->ops) {
        strlcpy(target, d->inode->target, PATH_CAP);
        dentry_put(d);
        return 1;
    }
    *out = d;
    return 0;
}

/* With O_CREAT a link at the end is followed here, for it may lead to where nothing is yet. */
static int walk_create(int dirfd, const char *path, u32 flags, u32 mode, struct dentry **out,
                       bool *created)
{
    char *target = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
    struct dentry *base = NULL;
    int err = target ? 1 : -ENOMEM;

    for (unsigned links = 0; err == 1; links++) {
        struct walk w;

        if (links > LINKS_MAX) {
            err = -ELOOP;
            break;
        }
        err = base ? path_walk_from(base, target, WALK_PARENT, &w)
                   : path_walk_locked(dirfd, path, WALK_PARENT, &w);
        if (err)
            break;
        err = open_last(&w, flags, mode, out, created, target);
        dentry_put(base);
        base = w.d;
    }
    dentry_put(base);
    quire_kfree(target);
    return err;
}

/* A magic link (/proc/self/fd/1) cannot be seen as text: O_CREAT on it opens what is there. */
static int find_or_create(int dirfd, const char *path, u32 flags, u32 mode, struct dentry **out,
                          bool *created)
{
    struct walk w;
    int err;

    kmutex_lock(&fs_tree_lock);
    if (!(flags & O_CREAT)) {
        err = path_walk_locked(dirfd, path, flags & O_NOFOLLOW ? 0 : WALK_FOLLOW, &w);
        *out = w.d;
    } else {
        err = -ENOENT;
        if (!(flags & (O_EXCL | O_NOFOLLOW))) {
            err = path_walk_locked(dirfd, path, WALK_FOLLOW, &w);
            *out = w.d;
        }
        if (err == -ENOENT)
            err = walk_create(dirfd, path, flags, mode, out, created);
    }
    kmutex_unlock(&fs_tree_lock);
    return err;
}

static int check_open(const struct inode *i, u32 flags, bool created)
{
    static const u8 access[4] = {4, 2, 6, 6};
    u32 kind = i->mode & S_IFMT;

    if (kind == S_IFLNK)
        return flags & O_DIRECTORY ? -ENOTDIR : -ELOOP;
    if ((flags & O_DIRECTORY) && kind != S_IFDIR)
        return -ENOTDIR;
    if (kind == S_IFDIR && ((flags & (O_ACCMODE | O_TRUNC)) || (flags & O_CREAT)))
        return -EISDIR;
    if (kind == S_IFSOCK || kind == S_IFBLK)
        return -ENXIO;
    if ((flags & O_NOATIME) && !inode_owner_or_root(i))
        return -EPERM;
    if (created)
        return 0;
    return inode_permission(i, access[flags & O_ACCMODE] | (flags & O_TRUNC ? 2u : 0));
}

int file_open_kind(struct file *f)
{
    struct inode *i = f->inode;

    if (i->ops && i->ops->open)
        return i->ops->open(f);
    if (i->fops) {
        f->ops = i->fops;
        return 0;
    }
    switch (i->mode & S_IFMT) {
    case S_IFREG: f->ops = &regfile_ops; return 0;
    case S_IFDIR: f->ops = &dir_ops; return 0;
    case S_IFCHR: return chrdev_open(f);
    case S_IFIFO: return fifo_open(f);
    default: return -ENXIO;
    }
}

const struct file_ops path_ops = {.read = NULL};

/* d's reference is consumed. */
static struct file *open_dentry(struct dentry *d, u32 flags, bool created, int *err)
{
    struct file *f;

    if (!(flags & O_PATH)) {
        *err = check_open(d->inode, flags, created);
    } else {
        *err = (flags & O_DIRECTORY) && (d->inode->mode & S_IFMT) != S_IFDIR ? -ENOTDIR : 0;
    }
    if (*err) {
        dentry_put(d);
        return NULL;
    }
    f = file_on(d, &path_ops, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC));
    if (!f) {
        *err = -ENOMEM;
        return NULL;
    }
    if (flags & O_PATH)
        return f;
    *err = file_open_kind(f);
    f->flags &= ~O_NOCTTY; /* has had its effect */
    if (!*err && f->ops == &regfile_ops && file_writable(f)) {
        if (inode_claim(f->inode, 1))
            f->flags |= O_COUNTED;
        else
            *err = -ETXTBSY;
    }
    if (!*err && (flags & O_TRUNC) && f->ops == &regfile_ops && !created)
        *err = inode_truncate(f->inode, 0);
    if (*err) {
        file_put(f);
        return NULL;
    }
    return f;
}

/* O_TMPFILE: a file without a name, in the file system of a directory. */
static struct dentry *open_tmpfile(int dirfd, const char *path, u32 flags, u32 mode, int *err)
{
    struct walk w;
    struct inode *i;
    struct dentry *d = NULL;
    char name[32];

    *err = path_walk(dirfd, path, WALK_FOLLOW, &w);
    if (*err)
        return NULL;
    if ((w.d->inode->mode & S_IFMT) != S_IFDIR)
        *err = -ENOTDIR;
    else if (w.d->inode->ops)
        *err = -EOPNOTSUPP;
    else
        *err = (flags & O_ACCMODE) ? inode_permission(w.d->inode, 3) : -EINVAL;
    if (!*err) {
        i = inode_new(S_IFREG | (mode & 07777 & ~fs_umask()), w.d->inode->dev);
        if (i) {
            i->uid = fs_uid();
            i->gid = fs_gid();
            ksnprintf(name, sizeof name, "#%lu", i->ino);
            d = dentry_new(i, w.d, name);
        }
        *err = d ? 0 : -ENOMEM;
    }
    dentry_put(w.d);
    return d;
}

static struct file *open_path(int dirfd, const char *path, u32 flags, u32 mode, int *err)
{
    struct dentry *d = NULL;
    bool created = false;

    if (flags & O_PATH)
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY) &&
        (flags & O_TMPFILE) != O_TMPFILE) {
        *err = -EINVAL;
        return NULL;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        d = open_tmpfile(dirfd, path, flags, mode, err);
        if (!d)
            return NULL;
        flags &= ~O_TMPFILE;
        created = true;
    } else {
        *err = find_or_create(dirfd, path, flags, mode, &d, &created);
        if (*err)
            return NULL;
    }
    return open_dentry(d, flags, created, err);
}

static long do_open(int dirfd, u64 upath, u32 flags, u32 mode)
{
    int err;
    char *path = path_from_user(upath, &err);
    struct file *f;

    if (!path)
        return err;
    f = open_path(dirfd, path, flags, mode, &err);
    quire_kfree(path);
    return f ? fd_install(f, flags & O_CLOEXEC, 0) : err;
}

long sys_open(u64 path, unsigned flags, unsigned mode)
{
    return do_open(AT_FDCWD, path, flags, mode);
}
long sys_openat(int dirfd, u64 path, unsigned flags, unsigned mode)
{
    return do_open(dirfd, path, flags, mode);
}
long sys_creat(u64 path, unsigned mode)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

struct file *kfile_open_at(int dirfd, const char *path, u32 flags, int *err)
{
    struct walk w;
    struct file *f;

    *err = path_walk(dirfd, path, WALK_EMPTY | (flags & O_NOFOLLOW ? 0 : WALK_FOLLOW), &w);
    if (*err)
        return NULL;
    *err = inode_permission(w.d->inode, 1);
    if ((w.d->inode->mode & S_IFMT) != S_IFREG)
        *err = (w.d->inode->mode & S_IFMT) == S_IFLNK ? -ELOOP : -EACCES;
    if (*err) {
        dentry_put(w.d);
        return NULL;
    }
    f = file_on(w.d, &regfile_ops, O_KERNEL);
    if (!f)
        *err = -ENOMEM;
    else if (f->inode->ops)
        *err = -EACCES;
    else if (!inode_claim(f->inode, -1))
        *err = -ETXTBSY;
    else
        f->flags |= O_COUNTED;
    if (f && *err) {
        file_put(f);
        f = NULL;
    }
    return f;
}

struct file *kfile_create(const char *path, u32 flags, u32 mode, int *err)
{
    return open_path(AT_FDCWD, path, flags, mode, err);
}

struct file *kfile_open(const char *path, u32 flags, int *err)
{
    if (*path)
        return kfile_open_at(AT_FDCWD, path, flags, err);
    *err = -ENOENT;
    return NULL;
}

long sys_umask(unsigned mask)
{
    struct fs_context *c = current->proc->fs;

    return (long)__atomic_exchange_n(&c->umask, mask & 0777, __ATOMIC_RELAXED);
}

static long do_mknod(int dirfd, u64 upath, u32 mode, u32 dev)
{
    struct walk w;
    struct dentry *d;
    u32 kind = mode & S_IFMT ? mode & S_IFMT : S_IFREG;
    int err;
    char *path;

    if (kind == S_IFDIR)
        return -EPERM;
    if (kind != S_IFREG && kind != S_IFCHR && kind != S_IFBLK && kind != S_IFIFO &&
        kind != S_IFSOCK)
        return -EINVAL;
    path = path_from_user(upath, &err);
    if (!path)
        return err;
    kmutex_lock(&fs_tree_lock);
    err = path_walk_locked(dirfd, path, WALK_PARENT, &w);
    quire_kfree(path);
    if (!err) {
        if (w.special)
            err = -EEXIST;
        else if ((w.d->inode->mode & S_IFMT) != S_IFDIR)
            err = -ENOTDIR;
        else if ((d = lookup_one(w.d, w.last, &err))) {
            dentry_put(d);
            err = -EEXIST;
        } else if (err == -ENOENT) {
            err = w.slash ? -ENOENT : may_create(w.d);
        }
        if (!err && (kind == S_IFCHR || kind == S_IFBLK) && fs_uid() != 0)
            err = -EPERM;
        if (!err)
            err = create_in(w.d, w.last, kind | (mode & 07777 & ~fs_umask()), dev, &d);
        if (!err)
            dentry_put(d);
        dentry_put(w.d);
    }
    kmutex_unlock(&fs_tree_lock);
    return err;
}

long sys_mknod(u64 path, unsigned mode, unsigned dev)
{
    return do_mknod(AT_FDCWD, path, mode, dev);
}
long sys_mknodat(int dirfd, u64 path, unsigned mode, unsigned dev)
{
    return do_mknod(dirfd, path, mode, dev);
}
