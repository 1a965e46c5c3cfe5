/*
 * fs/dirs.c - directories: listing them, and the calls that make, move and remove names.
 */
#include "fsint.h"

#define DIRENT_BUFFER 32768u

/* ---- getdents ---- */

bool dir_emit(struct dir_emit *e, const char *name, u64 ino, u32 mode, u64 next)
{
    struct {
        u64 ino;
        i64 off;
        u16 reclen;
        char rest[NAME_LIMIT + 16];
    } __attribute__((packed)) ent = {.ino = ino, .off = (i64)next};
    size_t n = strlen(name), head = 18 + (e->old ? 0 : 1);
    size_t len = K_UP(head + n + 1 + (e->old ? 1 : 0), 8);
    u8 type = (u8)(mode >> 12 & 15);

    if (len > e->u->left) {
        e->full = true;
        return false;
    }
    ent.reclen = (u16)len;
    if (e->old) {
        memcpy(ent.rest, name, n);
        ((char *)&ent)[len - 1] = (char)type;
    } else {
        ent.rest[0] = (char)type;
        memcpy(ent.rest + 1, name, n);
    }
    e->err = uio_put(e->u, &ent, len);
    if (e->err)
        return false;
    e->written += len;
    return true;
}

/* Position 0 is ".", 1 is "..", the name with cookie c is c + 1. */
static int list_memory(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    for (struct dentry *d = dir->inode->dir.first; d; d = d->next) {
        struct dentry *top = d;

        if (d->cookie + 1 < *pos)
            continue;
        while (top->covered)
            top = top->covered;
        if (!dir_emit(e, d->name, top->inode->ino, d->inode->mode, d->cookie + 2))
            return e->err;
        *pos = d->cookie + 2;
    }
    return 0;
}

static int list(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    const struct inode_ops *ops = dir->inode->ops;
    struct dentry *up = dir;
    u64 at;
    int err = 0;

    if (*pos == 0) {
        if (!dir_emit(e, ".", dir->inode->ino, S_IFDIR, 1))
            return e->err;
        *pos = 1;
    }
    while (up->covers)
        up = up->covers;
    if (up->parent)
        up = up->parent;
    if (*pos == 1) {
        if (!dir_emit(e, "..", up->inode->ino, S_IFDIR, 2))
            return e->err;
        *pos = 2;
    }
    if (!ops)
        return list_memory(dir, e, pos);
    at = *pos - 2;
    if (ops->readdir)
        err = ops->readdir(dir, e, &at);
    *pos = at + 2;
    return err;
}

/* The entries are put together in kernel memory: no fault may happen under the tree lock. */
static long do_getdents(int fd, u64 ubuf, unsigned n, bool old)
{
    struct file *f = fd_get(fd);
    struct dir_emit e = {.old = old};
    struct kiovec iov;
    struct uio u;
    void *buf;
    u64 pos;
    long r;

    if (!f)
        return -EBADF;
    if ((f->inode->mode & S_IFMT) != S_IFDIR || (f->flags & O_PATH)) {
        r = f->flags & O_PATH ? -EBADF : -ENOTDIR;
        file_put(f);
        return r;
    }
    n = K_MIN(n, DIRENT_BUFFER);
    buf = quire_kvmalloc(n ? n : 1, QUIRE_GFP_KERNEL);
    if (!buf) {
        file_put(f);
        return -ENOMEM;
    }
    uio_kernel(&u, &iov, buf, n);
    e.u = &u;
    kmutex_lock(&f->pos_lock);
    pos = f->pos;
    kmutex_lock(&fs_tree_lock);
    if (!f->inode->ops && !f->inode->nlink)
        r = -ENOENT;
    else
        r = list(f->dentry, &e, &pos);
    kmutex_unlock(&fs_tree_lock);
    if (!r && e.full && !e.written)
        r = -EINVAL;
    if (!r && copy_to_user(ubuf, buf, e.written))
        r = -EFAULT;
    if (!r) {
        f->pos = pos;
        f->inode->atime_ns = krealtime_ns();
        r = (long)e.written;
    }
    kmutex_unlock(&f->pos_lock);
    quire_kvfree(buf);
    file_put(f);
    return r;
}

long sys_getdents(int fd, u64 buf, unsigned n) { return do_getdents(fd, buf, n, true); }
long sys_getdents64(int fd, u64 buf, unsigned n) { return do_getdents(fd, buf, n, false); }

static i64 dir_lseek(struct file *f, i64 off, int whence)
{
    i64 to = off + (whence == 1 ? (i64)f->pos : 0);

    if (whence > 1 || to < 0)
        return -EINVAL;
    f->pos = (u64)to;
    return to;
}

static long dir_read(struct file *f, struct uio *u, u64 *pos)
{
    (void)f, (void)u, (void)pos;
    return -EISDIR;
}

static int dir_fsync(struct file *f)
{
    (void)f;
    return 0;
}

const struct file_ops dir_ops = {.read = dir_read, .lseek = dir_lseek, .fsync = dir_fsync};

/* ---- making and removing ---- */

/* Walk to the parent of a user path; on success the tree lock is held. */
static int begin(int dirfd, u64 upath, struct walk *w)
{
    int err;
    char *path = path_from_user(upath, &err);

    if (!path)
        return err;
    kmutex_lock(&fs_tree_lock);
    err = path_walk_locked(dirfd, path, WALK_PARENT, w);
    quire_kfree(path);
    if (!err && !w->special && (w->d->inode->mode & S_IFMT) != S_IFDIR) {
        dentry_put(w->d);
        err = -ENOTDIR;
    }
    if (err)
        kmutex_unlock(&fs_tree_lock);
    return err;
}

static void end(struct walk *w)
{
    kmutex_unlock(&fs_tree_lock);
    dentry_put(w->d);
}

/* 0 if name is free and may be made in dir. */
static int free_name(struct dentry *dir, const char *name)
{
    int err;
    struct dentry *d = lookup_one(dir, name, &err);

    if (d) {
        dentry_put(d);
        return -EEXIST;
    }
    return err == -ENOENT ? may_create(dir) : err;
}

static bool sticky_forbids(const struct inode *dir, const struct inode *victim)
{
    u32 uid = fs_uid();

    return (dir->mode & S_ISVTX) && uid && uid != victim->uid && uid != dir->uid;
}

static int may_remove(const struct dentry *dir, const struct dentry *victim)
{
    int err;

    if (dir->inode->ops)
        return -EPERM;
    err = inode_permission(dir->inode, 3);
    if (!err && sticky_forbids(dir->inode, victim->inode))
        err = -EPERM;
    return err;
}

static long do_mkdir(int dirfd, u64 upath, u32 mode)
{
    struct walk w;
    struct dentry *d;
    int err = begin(dirfd, upath, &w);

    if (err)
        return err;
    err = w.special ? -EEXIST : free_name(w.d, w.last);
    if (!err)
        err = create_in(w.d, w.last, S_IFDIR | (mode & 01777 & ~fs_umask()), 0, &d);
    if (!err)
        dentry_put(d);
    end(&w);
    return err;
}

long sys_mkdir(u64 path, unsigned mode) { return do_mkdir(AT_FDCWD, path, mode); }
long sys_mkdirat(int dirfd, u64 path, unsigned mode) { return do_mkdir(dirfd, path, mode); }

/* The name itself, not what is mounted on it; not referenced. */
static struct dentry *find_victim(struct walk *w, int *err)
{
    struct dentry *d;

    if (w->d->inode->ops) {
        d = lookup_one(w->d, w->last, err);
        if (d) {
            dentry_put(d);
            *err = -EPERM;
        }
        return NULL;
    }
    d = dir_find(w->d, w->last);
    *err = d ? may_remove(w->d, d) : -ENOENT;
    return d;
}

static int rmdir_locked(struct walk *w)
{
    struct dentry *d;
    int err;

    if (w->special)
        return !strcmp(w->last, ".") ? -EINVAL : !strcmp(w->last, "..") ? -ENOTEMPTY : -EBUSY;
    d = find_victim(w, &err);
    if (err)
        return err;
    if ((d->inode->mode & S_IFMT) != S_IFDIR)
        return -ENOTDIR;
    if (d->covered)
        return -EBUSY;
    if (!dir_empty(d->inode))
        return -ENOTEMPTY;
    dir_remove(d);
    return 0;
}

static int unlink_locked(struct walk *w)
{
    struct dentry *d;
    int err;

    if (w->special)
        return -EISDIR;
    d = find_victim(w, &err);
    if (err)
        return err;
    if ((d->inode->mode & S_IFMT) == S_IFDIR)
        return -EISDIR;
    if (w->slash)
        return -ENOTDIR;
    dir_remove(d);
    return 0;
}

static long do_unlink(int dirfd, u64 upath, bool dir)
{
    struct walk w;
    int err = begin(dirfd, upath, &w);

    if (err)
        return err;
    err = dir ? rmdir_locked(&w) : unlink_locked(&w);
    end(&w);
    return err;
}

long sys_rmdir(u64 path) { return do_unlink(AT_FDCWD, path, true); }
long sys_unlink(u64 path) { return do_unlink(AT_FDCWD, path, false); }
long sys_unlinkat(int dirfd, u64 path, int flags)
{
    return flags & ~AT_REMOVEDIR ? -EINVAL : do_unlink(dirfd, path, flags & AT_REMOVEDIR);
}

static long do_symlink(u64 utarget, int dirfd, u64 upath)
{
    struct walk w;
    struct dentry *d;
    int err;
    char *target = path_from_user(utarget, &err), *copy;

    if (!target)
        return err;
    copy = quire_kstrdup(target, QUIRE_GFP_KERNEL);
    if (!*target)
        err = -ENOENT;
    else
        err = copy ? 0 : -ENOMEM;
    quire_kfree(target);
    if (!err)
        err = begin(dirfd, upath, &w);
    if (err) {
        quire_kfree(copy);
        return err;
    }
    err = w.special ? -EEXIST : free_name(w.d, w.last);
    if (!err && w.slash)
        err = -ENOENT;
    if (!err)
        err = create_in(w.d, w.last, S_IFLNK | 0777, 0, &d);
    if (!err) {
        d->inode->target = copy;
        copy = NULL;
        dentry_put(d);
    }
    end(&w);
    quire_kfree(copy);
    return err;
}

long sys_symlink(u64 target, u64 path) { return do_symlink(target, AT_FDCWD, path); }
long sys_symlinkat(u64 target, int dirfd, u64 path) { return do_symlink(target, dirfd, path); }

long sys_linkat(int from_dir, u64 ufrom, int to_dir, u64 uto, int flags)
{
    struct walk from, to;
    struct dentry *d;
    int err;

    if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    err = walk_user(from_dir, ufrom,
                    (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) |
                        (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
                    &from);
    if (err)
        return err;
    err = begin(to_dir, uto, &to);
    if (!err) {
        struct inode *i = from.d->inode;

        err = to.special ? -EEXIST : free_name(to.d, to.last);
        if (!err && to.slash)
            err = -ENOENT;
        if (!err && (i->dev != to.d->inode->dev || i->ops))
            err = -EXDEV;
        if (!err && (i->mode & S_IFMT) == S_IFDIR)
            err = -EPERM;
        if (!err) {
            inode_get(i);
            d = dentry_new(i, to.d, to.last);
            err = d ? dir_add(to.d, d) : -ENOMEM;
            dentry_put(d);
            i->ctime_ns = krealtime_ns();
        }
        end(&to);
    }
    dentry_put(from.d);
    return err;
}

long sys_link(u64 from, u64 to) { return sys_linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* ---- rename ---- */

#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE  2u

static bool below(const struct dentry *d, const struct dentry *top)
{
    for (; d; d = d->parent)
        if (d == top)
            return true;
    return false;
}

/* May `to` (which exists) be replaced by `from`? */
static int may_replace(const struct dentry *from, const struct dentry *to)
{
    bool from_dir = (from->inode->mode & S_IFMT) == S_IFDIR;
    bool to_dir = (to->inode->mode & S_IFMT) == S_IFDIR;

    if (from_dir && !to_dir)
        return -ENOTDIR;
    if (!from_dir && to_dir)
        return -EISDIR;
    if (to->covered)
        return -EBUSY;
    return to_dir && !dir_empty(to->inode) ? -ENOTEMPTY : 0;
}

/* The swapped name passes through one that no path can spell. */
static int exchange(struct dentry *a, struct dentry *b, struct walk *from, struct walk *to)
{
    int err = dir_move(a, from->d, "/exchange");

    if (!err)
        err = dir_move(b, from->d, from->last);
    if (!err) {
        err = dir_move(a, to->d, to->last);
        if (err) {
            int back = dir_move(b, to->d, to->last);

            (void)back; /* without memory for either way the names stay distinct */
        }
    }
    return err;
}

static int rename_locked(struct walk *from, struct walk *to, unsigned flags)
{
    struct dentry *a, *b;
    int err;

    if (from->special || to->special)
        return -EBUSY;
    if (from->d->inode->dev != to->d->inode->dev)
        return -EXDEV;
    a = find_victim(from, &err);
    if (err)
        return err;
    b = dir_find(to->d, to->last);
    if (b && (flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!b && (flags & RENAME_EXCHANGE))
        return -ENOENT;
    if ((from->slash || to->slash) && (a->inode->mode & S_IFMT) != S_IFDIR)
        return -ENOTDIR;
    if (below(to->d, a) || (b && (flags & RENAME_EXCHANGE) && below(from->d, b)))
        return -EINVAL;
    if (b && below(from->d, b))
        return -ENOTEMPTY;
    err = b ? may_remove(to->d, b) : may_create(to->d);
    if (err)
        return err;
    if (a->covered)
        return -EBUSY;
    if (flags & RENAME_EXCHANGE)
        return exchange(a, b, from, to);
    if (b && b->inode == a->inode)
        return 0;
    err = b ? may_replace(a, b) : 0;
    if (err)
        return err;
    err = dir_move(a, to->d, to->last); /* first: it is what can fail */
    if (!err && b)
        dir_remove(b);
    return err;
}

long sys_renameat2(int from_dir, u64 ufrom, int to_dir, u64 uto, unsigned flags)
{
    struct walk from, to;
    int err;
    char *a, *b;

    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    a = path_from_user(ufrom, &err);
    if (!a)
        return err;
    b = path_from_user(uto, &err);
    if (!b) {
        quire_kfree(a);
        return err;
    }
    kmutex_lock(&fs_tree_lock);
    err = path_walk_locked(from_dir, a, WALK_PARENT, &from);
    if (!err) {
        err = path_walk_locked(to_dir, b, WALK_PARENT, &to);
        if (!err) {
            if ((from.d->inode->mode & S_IFMT) != S_IFDIR ||
                (to.d->inode->mode & S_IFMT) != S_IFDIR)
                err = -ENOTDIR;
            else
                err = rename_locked(&from, &to, flags);
            dentry_put(to.d);
        }
        dentry_put(from.d);
    }
    kmutex_unlock(&fs_tree_lock);
    quire_kfree(a);
    quire_kfree(b);
    return err;
}

long sys_renameat(int from_dir, u64 from, int to_dir, u64 to)
{
    return sys_renameat2(from_dir, from, to_dir, to, 0);
}
long sys_rename(u64 from, u64 to) { return sys_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* ---- working directory ---- */

static int may_stand(const struct dentry *d)
{
    return (d->inode->mode & S_IFMT) == S_IFDIR ? inode_permission(d->inode, 1) : -ENOTDIR;
}

long sys_chdir(u64 upath)
{
    struct walk w;
    int err = walk_user(AT_FDCWD, upath, WALK_FOLLOW, &w);

    if (err)
        return err;
    err = may_stand(w.d);
    if (err)
        dentry_put(w.d);
    else
        fs_set_cwd(w.d);
    return err;
}

long sys_fchdir(int fd)
{
    struct file *f = fd_get(fd);
    int err;

    if (!f)
        return -EBADF;
    err = may_stand(f->dentry);
    if (!err)
        fs_set_cwd(dentry_get(f->dentry));
    file_put(f);
    return err;
}

int kchdir(const char *path)
{
    struct walk w;
    int err = path_walk(AT_FDCWD, path, WALK_FOLLOW, &w);

    if (err)
        return err;
    err = may_stand(w.d);
    if (err)
        dentry_put(w.d);
    else
        fs_set_cwd(w.d);
    return err;
}

#define CAP_SYS_CHROOT 18

long sys_chroot(u64 upath)
{
    struct walk w;
    int err = walk_user(AT_FDCWD, upath, WALK_FOLLOW, &w);

    if (err)
        return err;
    err = may_stand(w.d);
    if (!err && !capable(CAP_SYS_CHROOT))
        err = -EPERM;
    if (err)
        dentry_put(w.d);
    else
        fs_set_root(w.d);
    return err;
}

long sys_getcwd(u64 ubuf, u64 size)
{
    char *buf = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
    struct dentry *d, *root;
    size_t n;
    long r;

    if (!buf)
        return -ENOMEM;
    d = fs_cwd();
    root = fs_rootdir();
    kmutex_lock(&fs_tree_lock);
    n = dentry_path_locked(d, root, buf, PATH_CAP) + 1;
    if (!d->inode->ops && !d->inode->nlink)
        r = -ENOENT;
    else
        r = n > size ? -ERANGE : (long)n;
    kmutex_unlock(&fs_tree_lock);
    dentry_put(root);
    dentry_put(d);
    if (r > 0 && copy_to_user(ubuf, buf, n))
        r = -EFAULT;
    quire_kfree(buf);
    return r;
}
