/*
 * fs/io.c - read(2), write(2) and their kin: from descriptors and user addresses to a file's own
 * operations.
 */
#include "fsint.h"
#include <signal.h>

#define SIGPIPE 13

void sigpipe(void)
{
    struct ksiginfo si = {.signo = SIGPIPE, .pid = current->proc->pid};

    signal_task(current, &si);
}

static long do_rw(struct file *f, struct uio *u, u64 *pos, bool write)
{
    if (write) {
        if (!file_writable(f))
            return -EBADF;
        return f->ops->write ? f->ops->write(f, u, pos) : -EINVAL;
    }
    if (!file_readable(f))
        return -EBADF;
    return f->ops->read ? f->ops->read(f, u, pos) : -EINVAL;
}

/* At the file's own position, which seekable files keep under pos_lock. */
static long rw_at_pos(struct file *f, struct uio *u, bool write)
{
    long n;

    if (!f->ops->lseek) {
        u64 none = 0;

        return do_rw(f, u, &none, write);
    }
    kmutex_lock(&f->pos_lock);
    n = do_rw(f, u, &f->pos, write);
    kmutex_unlock(&f->pos_lock);
    return n;
}

static long rw_at(struct file *f, struct uio *u, i64 pos, bool write)
{
    u64 at = (u64)pos;

    if (!f->ops->lseek)
        return -ESPIPE;
    return do_rw(f, u, &at, write);
}

static long rw_single(int fd, u64 buf, u64 n, bool write)
{
    struct file *f = fd_get(fd);
    struct uio_user uu;
    long r;

    if (!f)
        return -EBADF;
    if (write ? !file_writable(f) : !file_readable(f))
        r = -EBADF;
    else
        r = uio_single(&uu, buf, n);
    if (!r)
        r = rw_at_pos(f, &uu.u, write);
    file_put(f);
    return r;
}

long sys_read(int fd, u64 buf, u64 n) { return rw_single(fd, buf, n, false); }
long sys_write(int fd, u64 buf, u64 n) { return rw_single(fd, buf, n, true); }

static long prw_single(int fd, u64 buf, u64 n, i64 pos, bool write)
{
    struct file *f;
    struct uio_user uu;
    long r;

    if (pos < 0)
        return -EINVAL;
    f = fd_get(fd);
    if (!f)
        return -EBADF;
    if (!f->ops->lseek)
        r = -ESPIPE;
    else if (write ? !file_writable(f) : !file_readable(f))
        r = -EBADF;
    else
        r = uio_single(&uu, buf, n);
    if (!r)
        r = rw_at(f, &uu.u, pos, write);
    file_put(f);
    return r;
}

long sys_pread64(int fd, u64 buf, u64 n, i64 pos) { return prw_single(fd, buf, n, pos, false); }
long sys_pwrite64(int fd, u64 buf, u64 n, i64 pos) { return prw_single(fd, buf, n, pos, true); }

/* pos -1: at the file's position, which only the ...2 calls allow. */
static long rw_vector(int fd, u64 iov, u64 n, i64 pos, bool at_pos, bool write)
{
    struct file *f;
    struct uio_user uu;
    long r;

    if (!at_pos && pos < 0)
        return -EINVAL;
    f = fd_get(fd);
    if (!f)
        return -EBADF;
    if (write ? !file_writable(f) : !file_readable(f))
        r = -EBADF;
    else if (!at_pos && !f->ops->lseek)
        r = -ESPIPE;
    else
        r = uio_from_user(&uu, iov, n);
    if (!r) {
        r = at_pos ? rw_at_pos(f, &uu.u, write) : rw_at(f, &uu.u, pos, write);
        uio_done(&uu);
    }
    file_put(f);
    return r;
}

long sys_readv(int fd, u64 iov, u64 n) { return rw_vector(fd, iov, n, 0, true, false); }
long sys_writev(int fd, u64 iov, u64 n) { return rw_vector(fd, iov, n, 0, true, true); }
long sys_preadv(int fd, u64 iov, u64 n, i64 pos)
{
    return rw_vector(fd, iov, n, pos, false, false);
}
long sys_pwritev(int fd, u64 iov, u64 n, i64 pos)
{
    return rw_vector(fd, iov, n, pos, false, true);
}

/* RWF_HIPRI and RWF_(D)SYNC ask for nothing that memory does not give; the others are refused. */
#define RWF_HARMLESS 7

long sys_preadv2(int fd, u64 iov, u64 n, i64 pos, u64 high, int flags)
{
    (void)high; /* pos is whole on 64 bits */
    if (flags & ~RWF_HARMLESS)
        return -EOPNOTSUPP;
    return rw_vector(fd, iov, n, pos, pos == -1, false);
}

long sys_pwritev2(int fd, u64 iov, u64 n, i64 pos, u64 high, int flags)
{
    (void)high;
    if (flags & ~RWF_HARMLESS)
        return -EOPNOTSUPP;
    return rw_vector(fd, iov, n, pos, pos == -1, true);
}

long sys_lseek(int fd, i64 off, int whence)
{
    struct file *f = fd_get(fd);
    i64 r = -ESPIPE;

    if (!f)
        return -EBADF;
    if (f->flags & O_PATH) {
        r = -EBADF;
    } else if ((unsigned)whence > 4) {
        r = -EINVAL;
    } else if (f->ops->lseek) {
        kmutex_lock(&f->pos_lock);
        r = f->ops->lseek(f, off, whence);
        kmutex_unlock(&f->pos_lock);
    }
    file_put(f);
    return r;
}

/* ---- syncing: memory is the only home of every file ---- */

static long sync_fd(int fd, bool any_kind)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    if (f->flags & O_PATH)
        r = -EBADF;
    else if (any_kind)
        r = 0;
    else
        r = f->ops->fsync ? f->ops->fsync(f) : -EINVAL;
    file_put(f);
    return r;
}

long sys_fsync(int fd) { return sync_fd(fd, false); }
long sys_fdatasync(int fd) { return sync_fd(fd, false); }
long sys_syncfs(int fd) { return sync_fd(fd, true); }
long sys_sync(void) { return 0; }

long sys_sync_file_range(int fd, i64 off, i64 n, unsigned flags)
{
    if (flags & ~7u)
        return -EINVAL;
    if (off < 0 || n < 0 || off + n < off)
        return -EINVAL;
    return sync_fd(fd, true);
}

long sys_fadvise64(int fd, i64 off, i64 len, int advice)
{
    struct file *f = fd_get(fd);
    long r = 0;

    (void)off;
    if (!f)
        return -EBADF;
    if (f->flags & O_PATH)
        r = -EBADF;
    else if ((f->inode->mode & S_IFMT) == S_IFIFO)
        r = -ESPIPE;
    else if (len < 0 || advice < 0 || advice > 5)
        r = -EINVAL;
    file_put(f);
    return r;
}

long sys_readahead(int fd, i64 off, u64 n)
{
    struct file *f = fd_get(fd);
    long r = 0;

    (void)off, (void)n;
    if (!f)
        return -EBADF;
    if (!file_readable(f))
        r = -EBADF;
    else if ((f->inode->mode & S_IFMT) != S_IFREG)
        r = -EINVAL;
    file_put(f);
    return r;
}

/* ---- ioctl ---- */

#define FIOCLEX  0x5451
#define FIONCLEX 0x5450
#define FIONBIO  0x5421
#define FIOASYNC 0x5452
#define FIONREAD 0x541b

static long set_flag(struct file *f, u64 arg, u32 bit)
{
    u32 on;

    if (get_user_u32(&on, arg))
        return -EFAULT;
    if (on)
        __atomic_or_fetch(&f->flags, bit, __ATOMIC_RELAXED);
    else
        __atomic_and_fetch(&f->flags, ~bit, __ATOMIC_RELAXED);
    return 0;
}

static long regular_left(struct file *f, u64 arg)
{
    u64 size = inode_size(f->inode);

    return put_user_u32(arg, size > f->pos ? (u32)(size - f->pos) : 0);
}

long sys_ioctl(int fd, unsigned cmd, u64 arg)
{
    struct file *f = fd_get(fd);
    long r;

    if (!f)
        return -EBADF;
    if (f->flags & O_PATH)
        r = -EBADF;
    else if (cmd == FIOCLEX || cmd == FIONCLEX)
        r = fd_cloexec(fd, cmd == FIOCLEX);
    else if (cmd == FIONBIO)
        r = set_flag(f, arg, O_NONBLOCK);
    else if (cmd == FIOASYNC)
        r = set_flag(f, arg, O_ASYNC);
    else if (cmd == FIONREAD && (f->inode->mode & S_IFMT) == S_IFREG)
        r = regular_left(f, arg);
    else
        r = f->ops->ioctl ? f->ops->ioctl(f, cmd, arg) : -ENOTTY;
    file_put(f);
    return r;
}
