/*
 * fs/stat.c - what is known about files, and changing it: stat, statx, access, modes, owners, times.
 */
#include "fsint.h"

struct kstat {
    u64 dev, ino, nlink;
    u32 mode, uid, gid, pad0;
    u64 rdev;
    i64 size, blksize, blocks;
    u64 atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns;
    i64 unused[3];
};
_Static_assert(sizeof(struct kstat) == 144, "struct stat of x86-64");

#define NS 1000000000ull

static void fill_stat(const struct inode *i, struct kstat *st)
{
    *st = (struct kstat){
        .dev = i->dev,
        .ino = i->ino,
        .nlink = i->nlink ? i->nlink : (i->aliases || i->ops || !(i->mode & S_IFMT) ? 1 : 0),
        .mode = i->mode,
        .uid = i->uid,
        .gid = i->gid,
        .rdev = i->rdev,
        .size = (i64)inode_size(i),
        .blksize = 4096,
        .blocks = (i64)inode_blocks(i),
        .atime = i->atime_ns / NS,
        .atime_ns = i->atime_ns % NS,
        .mtime = i->mtime_ns / NS,
        .mtime_ns = i->mtime_ns % NS,
        .ctime = i->ctime_ns / NS,
        .ctime_ns = i->ctime_ns % NS,
    };
    if ((i->mode & S_IFMT) == S_IFIFO || (i->mode & S_IFMT) == S_IFSOCK)
        st->nlink = 1;
}

static long put_stat(const struct inode *i, u64 ubuf)
{
    struct kstat st;

    fill_stat(i, &st);
    return copy_to_user(ubuf, &st, sizeof st);
}

long sys_fstat(int fd, u64 ubuf)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    r = put_stat(f->inode, ubuf);
    file_put(f);
    return r;
}

static long stat_at(int dirfd, u64 upath, unsigned walk_flags, u64 ubuf)
{
    struct walk w;
    long r = walk_user(dirfd, upath, walk_flags, &w);

    if (r)
        return r;
    r = put_stat(w.d->inode, ubuf);
    dentry_put(w.d);
    return r;
}

static int walk_flags_of(int at, int allowed, unsigned *out)
{
    if (at & ~allowed)
        return -EINVAL;
    *out = (at & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (at & AT_EMPTY_PATH ? WALK_EMPTY : 0);
    return 0;
}

long sys_stat(u64 path, u64 buf) { return stat_at(AT_FDCWD, path, WALK_FOLLOW, buf); }
long sys_lstat(u64 path, u64 buf) { return stat_at(AT_FDCWD, path, 0, buf); }
long sys_newfstatat(int dirfd, u64 path, u64 buf, int at)
{
    unsigned flags;
    int err = walk_flags_of(at, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, &flags);

    return err ? err : stat_at(dirfd, path, flags, buf);
}

/* ---- statx ---- */

struct kstatx {
    u32 mask, blksize;
    u64 attributes;
    u32 nlink, uid, gid;
    u16 mode, pad0;
    u64 ino, size, blocks, attributes_mask;
    struct {
        i64 sec;
        u32 nsec;
        u32 pad;
    } atime, btime, ctime, mtime;
    u32 rdev_major, rdev_minor, dev_major, dev_minor;
    u64 mnt_id, pad1[13];
};
_Static_assert(sizeof(struct kstatx) == 256, "struct statx");

#define STATX_BASIC    0x7ffu
#define STATX_RESERVED 0x80000000u
#define AT_STATX_SYNC  0x6000

long sys_statx(int dirfd, u64 upath, int at, unsigned mask, u64 ubuf)
{
    unsigned flags;
    struct walk w;
    struct kstat st;
    struct kstatx sx = {.mask = STATX_BASIC, .blksize = 4096};
    int err = walk_flags_of(
        at, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC, &flags);

    if (err || (mask & STATX_RESERVED) || (at & AT_STATX_SYNC) == AT_STATX_SYNC)
        return -EINVAL;
    err = walk_user(dirfd, upath, flags, &w);
    if (err)
        return err;
    fill_stat(w.d->inode, &st);
    dentry_put(w.d);
    sx.nlink = (u32)st.nlink;
    sx.uid = st.uid;
    sx.gid = st.gid;
    sx.mode = (u16)st.mode;
    sx.ino = st.ino;
    sx.size = (u64)st.size;
    sx.blocks = (u64)st.blocks;
    sx.atime.sec = (i64)st.atime;
    sx.atime.nsec = (u32)st.atime_ns;
    sx.ctime.sec = (i64)st.ctime;
    sx.ctime.nsec = (u32)st.ctime_ns;
    sx.mtime.sec = (i64)st.mtime;
    sx.mtime.nsec = (u32)st.mtime_ns;
    sx.rdev_major = DEV_MAJOR((u32)st.rdev);
    sx.rdev_minor = DEV_MINOR((u32)st.rdev);
    sx.dev_major = DEV_MAJOR((u32)st.dev);
    sx.dev_minor = DEV_MINOR((u32)st.dev);
    return copy_to_user(ubuf, &sx, sizeof sx);
}

/* ---- statfs ---- */

struct kstatfs {
    u64 type, bsize, blocks, bfree, bavail, files, ffree;
    u32 fsid[2];
    u64 namelen, frsize, flags, spare[4];
};
_Static_assert(sizeof(struct kstatfs) == 120, "struct statfs");

static long put_statfs(struct dentry *d, u64 ubuf)
{
    struct kstatfs s = {.bsize = 4096, .frsize = 4096, .namelen = 255, .flags = 0x1000};

    kmutex_lock(&fs_tree_lock);
    s.type = fs_magic(d);
    kmutex_unlock(&fs_tree_lock);
    s.fsid[0] = d->inode->dev;
    if (s.type == 0x01021994) { /* what memory is left is what files may take */
        s.blocks = quire_managed_pages();
        s.bfree = s.bavail = file_room();
        s.files = s.ffree = s.blocks;
    }
    return copy_to_user(ubuf, &s, sizeof s);
}

long sys_statfs(u64 upath, u64 ubuf)
{
    struct walk w;
    long r = walk_user(AT_FDCWD, upath, WALK_FOLLOW, &w);

    if (r)
        return r;
    r = put_statfs(w.d, ubuf);
    dentry_put(w.d);
    return r;
}

long sys_fstatfs(int fd, u64 ubuf)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    r = put_statfs(f->dentry, ubuf);
    file_put(f);
    return r;
}

/* ---- access ---- */

/* access(2) asks with the real ids. */
static long do_access(int dirfd, u64 upath, unsigned mode, int at)
{
    struct process *p = current->proc;
    u32 fsuid = p->fsuid, fsgid = p->fsgid;
    unsigned flags;
    struct walk w;
    long r = walk_flags_of(at & ~AT_EACCESS, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &flags);

    if (r || (mode & ~7u))
        return -EINVAL;
    if (!(at & AT_EACCESS)) {
        p->fsuid = p->uid;
        p->fsgid = p->gid;
    }
    r = walk_user(dirfd, upath, flags, &w);
    if (!r) {
        r = mode ? inode_permission(w.d->inode, mode) : 0;
        dentry_put(w.d);
    }
    p->fsuid = fsuid;
    p->fsgid = fsgid;
    return r;
}

long sys_access(u64 path, unsigned mode) { return do_access(AT_FDCWD, path, mode, 0); }
long sys_faccessat(int dirfd, u64 path, unsigned mode) { return do_access(dirfd, path, mode, 0); }
long sys_faccessat2(int dirfd, u64 path, unsigned mode, int at)
{
    return do_access(dirfd, path, mode, at);
}

/* ---- readlink ---- */

static long link_text(struct walk *w, char *buf, size_t cap)
{
    const struct inode *i = w->d->inode;

    if ((i->mode & S_IFMT) != S_IFLNK)
        return -EINVAL;
    if (i->ops && i->ops->readlink)
        return i->ops->readlink(w->d->inode, buf, cap);
    strlcpy(buf, i->target, cap);
    return (long)strlen(buf);
}

static long do_readlink(int dirfd, u64 upath, u64 ubuf, int size)
{
    struct walk w;
    char *path, *buf;
    int err;
    long n;

    if (size <= 0)
        return -EINVAL;
    path = path_from_user(upath, &err);
    if (!path)
        return err;
    buf = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
    kmutex_lock(&fs_tree_lock);
    n = buf ? path_walk_locked(dirfd, path, *path ? 0 : WALK_EMPTY, &w) : -ENOMEM;
    if (!n) {
        n = link_text(&w, buf, PATH_CAP);
        if (!*path && n == -EINVAL)
            n = -ENOENT;
        dentry_put(w.d);
    }
    kmutex_unlock(&fs_tree_lock);
    if (n > 0) {
        n = K_MIN(n, (long)size);
        if (copy_to_user(ubuf, buf, (size_t)n))
            n = -EFAULT;
    }
    quire_kfree(path);
    quire_kfree(buf);
    return n;
}

long sys_readlink(u64 path, u64 buf, int size) { return do_readlink(AT_FDCWD, path, buf, size); }
long sys_readlinkat(int dirfd, u64 path, u64 buf, int size)
{
    return do_readlink(dirfd, path, buf, size);
}

/* ---- modes and owners ---- */

static int inode_chmod(struct inode *i, u32 mode)
{
    if (!inode_owner_or_root(i))
        return -EPERM;
    if (fs_uid() && (mode & S_ISGID) && i->gid != fs_gid())
        mode &= ~S_ISGID;
    i->mode = (i->mode & S_IFMT) | (mode & 07777);
    i->ctime_ns = krealtime_ns();
    return 0;
}

static long chmod_at(int dirfd, u64 upath, u32 mode)
{
    struct walk w;
    long r = walk_user(dirfd, upath, WALK_FOLLOW, &w);

    if (r)
        return r;
    r = inode_chmod(w.d->inode, mode);
    dentry_put(w.d);
    return r;
}

long sys_chmod(u64 path, unsigned mode) { return chmod_at(AT_FDCWD, path, mode); }
long sys_fchmodat(int dirfd, u64 path, unsigned mode) { return chmod_at(dirfd, path, mode); }
long sys_fchmod(int fd, unsigned mode)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    r = f->flags & O_PATH ? -EBADF : inode_chmod(f->inode, mode);
    file_put(f);
    return r;
}

static int inode_chown(struct inode *i, u32 uid, u32 gid)
{
    u32 me = fs_uid();

    if (me && ((uid != ~0u && (me != i->uid || uid != i->uid)) ||
               (gid != ~0u && (me != i->uid || (gid != i->gid && gid != fs_gid())))))
        return -EPERM;
    if (uid != ~0u)
        i->uid = uid;
    if (gid != ~0u)
        i->gid = gid;
    if ((i->mode & S_IFMT) != S_IFDIR) {
        i->mode &= ~S_ISUID;
        if (i->mode & 010)
            i->mode &= ~S_ISGID;
    }
    i->ctime_ns = krealtime_ns();
    return 0;
}

static long chown_at(int dirfd, u64 upath, unsigned walk_flags, u32 uid, u32 gid)
{
    struct walk w;
    long r = walk_user(dirfd, upath, walk_flags, &w);

    if (r)
        return r;
    r = inode_chown(w.d->inode, uid, gid);
    dentry_put(w.d);
    return r;
}

long sys_chown(u64 path, u32 uid, u32 gid)
{
    return chown_at(AT_FDCWD, path, WALK_FOLLOW, uid, gid);
}
long sys_lchown(u64 path, u32 uid, u32 gid) { return chown_at(AT_FDCWD, path, 0, uid, gid); }
long sys_fchownat(int dirfd, u64 path, u32 uid, u32 gid, int at)
{
    unsigned flags;
    int err = walk_flags_of(at, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &flags);

    return err ? err : chown_at(dirfd, path, flags, uid, gid);
}
long sys_fchown(int fd, u32 uid, u32 gid)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    r = f->flags & O_PATH ? -EBADF : inode_chown(f->inode, uid, gid);
    file_put(f);
    return r;
}

/* ---- times ---- */

#define UTIME_NOW  0x3fffffff
#define UTIME_OMIT 0x3ffffffe

struct ktimes {
    i64 sec, nsec;
};

/* t NULL: both now, for which writing permission suffices. */
static int inode_utimes(struct inode *i, const struct ktimes *t)
{
    u64 now = krealtime_ns(), *to[2] = {&i->atime_ns, &i->mtime_ns};
    bool both_now = !t || (t[0].nsec == UTIME_NOW && t[1].nsec == UTIME_NOW);

    if (t && t[0].nsec == UTIME_OMIT && t[1].nsec == UTIME_OMIT)
        return 0;
    if (!inode_owner_or_root(i)) {
        if (!both_now)
            return -EPERM;
        if (inode_permission(i, 2))
            return -EACCES;
    }
    for (unsigned k = 0; k < 2; k++) {
        if (!t || t[k].nsec == UTIME_NOW)
            *to[k] = now;
        else if (t[k].nsec != UTIME_OMIT)
            *to[k] = (u64)t[k].sec * NS + (u64)t[k].nsec;
    }
    i->ctime_ns = now;
    return 0;
}

static long utimes_at(int dirfd, u64 upath, unsigned walk_flags, const struct ktimes *t)
{
    struct walk w;
    long r;

    if (!upath) {
        struct file *f = fd_get(dirfd);

        if (!f)
            return -EBADF;
        r = f->flags & O_PATH ? -EBADF : inode_utimes(f->inode, t);
        file_put(f);
        return r;
    }
    r = walk_user(dirfd, upath, walk_flags, &w);
    if (r)
        return r;
    r = inode_utimes(w.d->inode, t);
    dentry_put(w.d);
    return r;
}

static bool nsec_ok(i64 nsec)
{
    return nsec == UTIME_NOW || nsec == UTIME_OMIT || (nsec >= 0 && nsec < (i64)NS);
}

long sys_utimensat(int dirfd, u64 upath, u64 utimes, int at)
{
    struct ktimes t[2];
    unsigned flags;

    if (utimes && copy_from_user(t, utimes, sizeof t))
        return -EFAULT;
    if (utimes && (!nsec_ok(t[0].nsec) || !nsec_ok(t[1].nsec)))
        return -EINVAL;
    if (walk_flags_of(at, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &flags))
        return -EINVAL;
    if (!upath && (dirfd == AT_FDCWD || at))
        return dirfd == AT_FDCWD ? -EFAULT : -EINVAL;
    return utimes_at(dirfd, upath, flags, utimes ? t : NULL);
}

/* struct timeval: microseconds. */
static long utimes_usec(int dirfd, u64 upath, u64 utimes)
{
    struct ktimes t[2];

    if (utimes && copy_from_user(t, utimes, sizeof t))
        return -EFAULT;
    for (unsigned k = 0; utimes && k < 2; k++) {
        if (t[k].nsec < 0 || t[k].nsec >= 1000000)
            return -EINVAL;
        t[k].nsec *= 1000;
    }
    return utimes_at(dirfd, upath, WALK_FOLLOW, utimes ? t : NULL);
}

long sys_utimes(u64 path, u64 times) { return path ? utimes_usec(AT_FDCWD, path, times) : -EFAULT; }
long sys_futimesat(int dirfd, u64 path, u64 times) { return utimes_usec(dirfd, path, times); }

long sys_utime(u64 path, u64 utimbuf)
{
    struct ktimes t[2] = {{0, 0}, {0, 0}};
    i64 sec[2];

    if (!path || (utimbuf && copy_from_user(sec, utimbuf, sizeof sec)))
        return -EFAULT;
    if (utimbuf) {
        t[0].sec = sec[0];
        t[1].sec = sec[1];
    }
    return utimes_at(AT_FDCWD, path, WALK_FOLLOW, utimbuf ? t : NULL);
}

/* ---- extended attributes: this file system has none ---- */

static long no_xattr_at(u64 upath, unsigned walk_flags, long answer)
{
    struct walk w;
    long r = walk_user(AT_FDCWD, upath, walk_flags, &w);

    if (r)
        return r;
    dentry_put(w.d);
    return answer;
}

static long no_xattr_fd(int fd, long answer)
{
    struct file *f = fd_get(fd);

    if (!f)
        return -EBADF;
    if (f->flags & O_PATH)
        answer = -EBADF;
    file_put(f);
    return answer;
}

long sys_setxattr(u64 path) { return no_xattr_at(path, WALK_FOLLOW, -EOPNOTSUPP); }
long sys_lsetxattr(u64 path) { return no_xattr_at(path, 0, -EOPNOTSUPP); }
long sys_fsetxattr(int fd) { return no_xattr_fd(fd, -EOPNOTSUPP); }
long sys_getxattr(u64 path) { return no_xattr_at(path, WALK_FOLLOW, -EOPNOTSUPP); }
long sys_lgetxattr(u64 path) { return no_xattr_at(path, 0, -EOPNOTSUPP); }
long sys_fgetxattr(int fd) { return no_xattr_fd(fd, -EOPNOTSUPP); }
long sys_listxattr(u64 path) { return no_xattr_at(path, WALK_FOLLOW, 0); }
long sys_llistxattr(u64 path) { return no_xattr_at(path, 0, 0); }
long sys_flistxattr(int fd) { return no_xattr_fd(fd, 0); }
long sys_removexattr(u64 path) { return no_xattr_at(path, WALK_FOLLOW, -EOPNOTSUPP); }
long sys_lremovexattr(u64 path) { return no_xattr_at(path, 0, -EOPNOTSUPP); }
long sys_fremovexattr(int fd) { return no_xattr_fd(fd, -EOPNOTSUPP); }
