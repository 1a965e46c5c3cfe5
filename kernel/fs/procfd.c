/*
 * fs/procfd.c - /proc/PID/fd and fdinfo: the open files of a process.
 */
#include "../proc/proc.h"
#include "procpid.h"

/* Descriptor tables change hands at exit under proc_lock; a reference keeps one. */
static struct files *table_of(u64 key, int *err)
{
    struct process *p = process_find(key_pid(key));
    struct files *fs = NULL;
    unsigned long flags;

    *err = p ? -EACCES : -ESRCH;
    if (!p)
        return NULL;
    if (!fs_uid() || fs_uid() == p->euid) {
        flags = kspin_lock(&proc_lock);
        if (!p->zombie && p->files) {
            fs = p->files;
            files_get(fs);
        }
        kspin_unlock(&proc_lock, flags);
        *err = fs ? 0 : -ENOENT;
    }
    process_put(p);
    return fs;
}

static struct file *file_of(u64 key, int fd, int *err)
{
    struct files *fs = table_of(key, err);
    struct file *f;

    if (!fs)
        return NULL;
    f = files_get_fd(fs, fd);
    files_put(fs);
    *err = f ? 0 : -ENOENT;
    return f;
}

/* The number of the descriptor is the name of the entry; the key of the inode is the process. */
static int fd_of(const struct inode *i) { return (int)(uintptr_t)i->priv; }

static long fd_text(struct inode *i, char *buf, size_t cap)
{
    int err;
    struct file *f = file_of(i->key, fd_of(i), &err);
    long n;

    if (!f)
        return err;
    n = (long)dentry_path_locked(f->dentry, NULL, buf, cap);
    file_put(f);
    return n;
}

static struct dentry *fd_follow(struct inode *i, int *err)
{
    struct file *f = file_of(i->key, fd_of(i), err);
    struct dentry *d;

    if (!f)
        return NULL;
    d = dentry_get(f->dentry);
    file_put(f);
    return d;
}

static const struct inode_ops fd_link_ops = {.readlink = fd_text, .follow = fd_follow};

static struct dentry *make_entry(struct dentry *dir, const char *name, u32 mode, int fd,
                                 const struct inode_ops *ops, int *err)
{
    struct inode *i = inode_new(mode, dir->inode->dev);
    struct dentry *d;

    *err = -ENOMEM;
    if (!i)
        return NULL;
    i->nlink = 1;
    i->key = dir->inode->key;
    i->priv = (void *)(uintptr_t)fd;
    i->ops = ops;
    i->uid = dir->inode->uid;
    i->gid = dir->inode->gid;
    d = dentry_new(i, dir, name);
    if (d)
        *err = 0;
    return d;
}

static struct dentry *fd_lookup(struct dentry *dir, const char *name, int *err)
{
    int fd = procpid_number(name);
    struct file *f = fd < 0 ? NULL : file_of(dir->inode->key, fd, err);
    u32 mode = S_IFLNK;

    if (!f) {
        if (fd < 0 || *err != -EACCES)
            *err = -ENOENT;
        return NULL;
    }
    mode |= (file_readable(f) ? 0500 : 0) | (file_writable(f) ? 0300 : 0);
    file_put(f);
    return make_entry(dir, name, mode, fd, &fd_link_ops, err);
}

static int list_fds(struct dentry *dir, struct dir_emit *e, u64 *pos, u32 mode)
{
    int err;
    struct files *fs = table_of(dir->inode->key, &err);

    if (!fs)
        return err;
    for (;;) {
        int fd = *pos > INT32_MAX ? -1 : files_next_fd(fs, (int)*pos);
        char name[16];

        if (fd < 0)
            break;
        ksnprintf(name, sizeof name, "%d", fd);
        if (!dir_emit(e, name, dir->inode->ino + (u64)fd + 1, mode, (u64)fd + 3)) {
            err = e->err;
            break;
        }
        *pos = (u64)fd + 1;
    }
    files_put(fs);
    return err;
}

static int fd_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    return list_fds(dir, e, pos, S_IFLNK);
}

const struct inode_ops procpid_fd_ops = {.lookup = fd_lookup, .readdir = fd_readdir};

/* ---- fdinfo ---- */

static long info_read(struct file *f, struct uio *u, u64 *pos)
{
    char buf[192];
    int err;
    struct process *named;
    struct file *of = file_of(f->inode->key, fd_of(f->inode), &err);
    size_t n;

    if (!of)
        return err;
    n = (size_t)ksnprintf(buf, sizeof buf, "pos:\t%lu\nflags:\t0%o\nmnt_id:\t%u\nino:\t%lu\n",
                          (unsigned long)(of->ops->lseek ? of->pos : 0),
                          (of->flags & ~(O_KERNEL | O_COUNTED)) | O_LARGEFILE, of->inode->dev,
                          (unsigned long)of->inode->ino);
    named = pidfd_process(of);
    if (named) {
        int pid = named->zombie && !named->parent ? -1 : named->pid; /* -1: reaped */

        n += (size_t)ksnprintf(buf + n, sizeof buf - n, "Pid:\t%d\nNSpid:\t%d\n", pid, pid);
    }
    file_put(of);
    if (*pos >= n)
        return 0;
    n = K_MIN(n - *pos, u->left);
    if (uio_put(u, buf + *pos, n))
        return -EFAULT;
    *pos += n;
    return (long)n;
}

static i64 info_lseek(struct file *f, i64 off, int whence)
{
    if (whence || off < 0)
        return -EINVAL;
    f->pos = (u64)off;
    return off;
}

static const struct file_ops info_file_ops = {.read = info_read, .lseek = info_lseek};

static int info_open(struct file *f)
{
    f->ops = &info_file_ops;
    return file_writable(f) ? -EACCES : 0;
}
static const struct inode_ops info_ops = {.open = info_open};

static struct dentry *info_lookup(struct dentry *dir, const char *name, int *err)
{
    int fd = procpid_number(name);
    struct file *f = fd < 0 ? NULL : file_of(dir->inode->key, fd, err);

    if (!f) {
        if (fd < 0 || *err != -EACCES)
            *err = -ENOENT;
        return NULL;
    }
    file_put(f);
    return make_entry(dir, name, S_IFREG | 0444, fd, &info_ops, err);
}

static int info_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    return list_fds(dir, e, pos, S_IFREG);
}

const struct inode_ops procpid_fdinfo_ops = {.lookup = info_lookup, .readdir = info_readdir};
