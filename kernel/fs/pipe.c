/*
 * fs/pipe.c - pipes and fifos (pipe(7)).
 *
 * A ring of pages, made when first written.  The pipe's mutex covers ring and counts; user memory is
 * touched under it, which is safe as the fault path takes no such lock.  Writes of up to PIPE_BUF
 * bytes are whole.
 */
#include "fsint.h"
#include <signal.h>

#define PIPE_BUF     4096u
#define PIPE_PAGES   16u
#define PIPE_MAX_CAP (1u << 20)

struct pipe {
    struct kmutex lock;
    u8 **pages; /* npages of them; NULL: not made yet */
    u32 npages;
    u64 head, len; /* read position in the ring; bytes in it */
    u32 readers, writers;
    u64 reader_opens, writer_opens; /* for those who open a fifo and wait for the other side */
    struct waitq read_wait, write_wait;
};

static struct pipe *pipe_new(void)
{
    struct pipe *p = quire_kzalloc(sizeof *p, QUIRE_GFP_KERNEL);

    if (!p)
        return NULL;
    p->npages = PIPE_PAGES;
    p->pages = quire_kcalloc(p->npages, sizeof *p->pages, QUIRE_GFP_KERNEL);
    if (p->pages)
        return p;
    quire_kfree(p);
    return NULL;
}

static void free_ring(u8 **pages, u32 n)
{
    for (u32 k = 0; k < n; k++)
        quire_kfree(pages[k]);
    quire_kfree(pages);
}

void pipe_free(struct pipe *p)
{
    free_ring(p->pages, p->npages);
    quire_kfree(p);
}

static u64 capacity(const struct pipe *p) { return (u64)p->npages * 4096; }

struct pipe *file_pipe(struct file *f)
{
    return (f->inode->mode & S_IFMT) == S_IFIFO && !f->inode->ops ? f->inode->pipe : NULL;
}

/* ---- moving bytes; p->lock held ---- */

static int ring_put(struct pipe *p, struct uio *u, size_t n)
{
    while (n) {
        u64 at = (p->head + p->len) % capacity(p);
        size_t part = K_MIN(n, 4096 - at % 4096), moved;
        u8 **page = &p->pages[at / 4096];

        if (!*page)
            *page = quire_kmalloc(4096, QUIRE_GFP_KERNEL);
        if (!*page)
            return -ENOMEM;
        moved = uio_get_part(u, *page + at % 4096, part);
        p->len += moved;
        n -= moved;
        if (moved < part)
            return -EFAULT;
    }
    return 0;
}

/* Copy n <= len bytes from skip bytes after the head on, and leave them there. */
static int ring_copy(struct pipe *p, struct uio *u, u64 skip, size_t n)
{
    while (n) {
        u64 at = (p->head + skip) % capacity(p);
        size_t part = K_MIN(n, 4096 - at % 4096);

        if (uio_put_part(u, p->pages[at / 4096] + at % 4096, part) < part)
            return -EFAULT;
        skip += part;
        n -= part;
    }
    return 0;
}

static void ring_drop(struct pipe *p, size_t n)
{
    p->head = (p->head + n) % capacity(p);
    p->len -= n;
    if (!p->len)
        p->head = 0; /* the first page serves again, while it is in the cache */
}

static long pipe_read(struct file *f, struct uio *u, u64 *pos)
{
    struct pipe *p = f->inode->pipe;

    (void)pos;
    if (!u->left)
        return 0;
    for (;;) {
        size_t n;
        int err;

        kmutex_lock(&p->lock);
        n = K_MIN(u->left, p->len);
        if (n) {
            size_t before = u->left;

            err = ring_copy(p, u, 0, n);
            n = before - u->left;
            ring_drop(p, n);
            kmutex_unlock(&p->lock);
            waitq_wake_all(&p->write_wait);
            return n ? (long)n : err;
        }
        err = !p->writers ? 1 : f->flags & O_NONBLOCK ? -EAGAIN : 0;
        kmutex_unlock(&p->lock);
        if (err)
            return err < 0 ? err : 0;
        if (WAIT_EVENT(&p->read_wait, __atomic_load_n(&p->len, __ATOMIC_ACQUIRE) ||
                                          !__atomic_load_n(&p->writers, __ATOMIC_ACQUIRE)))
            return -ERESTARTSYS;
    }
}

/* Is there room for what a write of left bytes may put now? */
static bool room_for(const struct pipe *p, size_t left)
{
    u64 room = capacity(p) - __atomic_load_n(&p->len, __ATOMIC_ACQUIRE);

    return left <= PIPE_BUF ? room >= left : room > 0;
}

static long pipe_write(struct file *f, struct uio *u, u64 *pos)
{
    struct pipe *p = f->inode->pipe;
    size_t all = u->left;
    int err = 0;

    (void)pos;
    while (u->left && !err) {
        size_t left = u->left;
        bool wrote = false;

        kmutex_lock(&p->lock);
        if (!p->readers) {
            err = -EPIPE;
        } else if (all > PIPE_BUF ? room_for(p, PIPE_BUF + 1) : room_for(p, left)) {
            err = ring_put(p, u, K_MIN(left, capacity(p) - p->len));
            wrote = u->left != left;
        } else if (f->flags & O_NONBLOCK) {
            err = -EAGAIN;
        }
        kmutex_unlock(&p->lock);
        if (wrote)
            waitq_wake_all(&p->read_wait);
        else if (!err &&
                 WAIT_EVENT(&p->write_wait, room_for(p, all > PIPE_BUF ? PIPE_BUF + 1 : left) ||
                                                !__atomic_load_n(&p->readers, __ATOMIC_ACQUIRE)))
            err = -ERESTARTSYS;
    }
    if (err == -EPIPE)
        sigpipe();
    if (all != u->left)
        inode_touch(f->inode);
    return all != u->left ? (long)(all - u->left) : err;
}

static unsigned pipe_poll(struct file *f, struct poll_table *pt)
{
    struct pipe *p = f->inode->pipe;
    unsigned mask = 0;

    if (file_readable(f)) {
        poll_add(pt, &p->read_wait);
        if (__atomic_load_n(&p->len, __ATOMIC_ACQUIRE))
            mask |= POLL_IN;
        if (!__atomic_load_n(&p->writers, __ATOMIC_ACQUIRE) && p->writer_opens != f->pos)
            mask |= POLL_HUP;
    }
    if (file_writable(f)) {
        poll_add(pt, &p->write_wait);
        if (capacity(p) - __atomic_load_n(&p->len, __ATOMIC_ACQUIRE) >= PIPE_BUF)
            mask |= POLL_OUT;
        if (!__atomic_load_n(&p->readers, __ATOMIC_ACQUIRE))
            mask |= POLL_ERR;
    }
    return mask;
}

#define FIONREAD 0x541b

static long pipe_ioctl(struct file *f, unsigned cmd, u64 arg)
{
    return cmd == FIONREAD ? put_user_u32(arg, (u32)f->inode->pipe->len) : -ENOTTY;
}

static void pipe_release(struct file *f)
{
    struct pipe *p = f->inode->pipe;

    kmutex_lock(&p->lock);
    if (file_readable(f))
        __atomic_sub_fetch(&p->readers, 1, __ATOMIC_RELEASE);
    if (file_writable(f))
        __atomic_sub_fetch(&p->writers, 1, __ATOMIC_RELEASE);
    if (!p->readers && !p->writers) { /* what a fifo held goes with its last user */
        p->len = p->head = 0;
    }
    kmutex_unlock(&p->lock);
    waitq_wake_all(&p->read_wait);
    waitq_wake_all(&p->write_wait);
}

const struct file_ops fifo_ops = {
    .read = pipe_read,
    .write = pipe_write,
    .ioctl = pipe_ioctl,
    .poll = pipe_poll,
    .release = pipe_release,
};

/* ---- opening ---- */

static void count_open(struct pipe *p, struct file *f)
{
    if (file_readable(f)) {
        p->readers++;
        __atomic_add_fetch(&p->reader_opens, 1, __ATOMIC_RELEASE);
    }
    if (file_writable(f)) {
        p->writers++;
        __atomic_add_fetch(&p->writer_opens, 1, __ATOMIC_RELEASE);
    }
}

/* fifo(7): each side waits for the other, unless O_NONBLOCK or both at once. */
int fifo_open(struct file *f)
{
    struct inode *i = f->inode;
    struct pipe *p;
    u64 readers, writers;
    /* Of pipe(2), opened again through /proc/self/fd: it has had both ends, so nobody is waited for. */
    bool wait, nameless = i->dev == MAKEDEV(0, 12);

    kmutex_lock(&i->lock);
    if (!i->pipe)
        i->pipe = pipe_new();
    p = i->pipe;
    kmutex_unlock(&i->lock);
    if (!p)
        return -ENOMEM;
    kmutex_lock(&p->lock);
    if (!nameless && (f->flags & O_ACCMODE) == O_WRONLY && (f->flags & O_NONBLOCK) && !p->readers) {
        kmutex_unlock(&p->lock);
        return -ENXIO;
    }
    f->ops = &fifo_ops;
    count_open(p, f);
    readers = p->reader_opens;
    writers = p->writer_opens;
    wait = !nameless && !(f->flags & O_NONBLOCK) && (f->flags & O_ACCMODE) != O_RDWR &&
           !(file_readable(f) ? p->writers : p->readers);
    if (!nameless && file_readable(f) && !p->writers)
        f->pos = p->writer_opens; /* no hang-up before a writer came */
    else
        f->pos = ~0ull;
    kmutex_unlock(&p->lock);
    waitq_wake_all(&p->read_wait);
    waitq_wake_all(&p->write_wait);
    if (!wait)
        return 0;
    if (file_readable(f))
        return WAIT_EVENT(&p->read_wait, p->writer_opens != writers) ? -ERESTARTSYS : 0;
    return WAIT_EVENT(&p->write_wait, p->reader_opens != readers) ? -ERESTARTSYS : 0;
}

static struct file *pipe_end(struct dentry *d, u32 flags)
{
    struct file *f = file_on(dentry_get(d), &fifo_ops, flags);

    if (f) {
        count_open(d->inode->pipe, f);
        f->pos = ~0ull;
    }
    return f;
}

static int make_pipe(u32 flags, struct file **r, struct file **w)
{
    struct inode *i = inode_new(S_IFIFO | 0600, MAKEDEV(0, 12));
    struct dentry *d;
    char name[32];

    if (!i)
        return -ENOMEM;
    i->uid = fs_uid();
    i->gid = fs_gid();
    i->nlink = 1;
    i->pipe = pipe_new();
    ksnprintf(name, sizeof name, "pipe:[%lu]", (unsigned long)i->ino);
    if (!i->pipe) {
        inode_put(i);
        return -ENOMEM;
    }
    d = dentry_nameless(i, name);
    if (!d)
        return -ENOMEM;
    *r = pipe_end(d, O_RDONLY | (flags & O_NONBLOCK));
    *w = *r ? pipe_end(d, O_WRONLY | (flags & O_NONBLOCK)) : NULL;
    dentry_put(d);
    if (*w)
        return 0;
    if (*r)
        file_put(*r);
    return -ENOMEM;
}

static long do_pipe(u64 ufds, u32 flags)
{
    struct file *r, *w;
    int fds[2], err;

    if (flags & ~(O_CLOEXEC | O_NONBLOCK)) /* packets (O_DIRECT) are not offered */
        return -EINVAL;
    err = make_pipe(flags, &r, &w);
    if (err)
        return err;
    fds[0] = fd_install(r, flags & O_CLOEXEC, 0);
    if (fds[0] < 0) {
        file_put(w);
        return fds[0];
    }
    fds[1] = fd_install(w, flags & O_CLOEXEC, 0);
    if (fds[1] < 0) {
        fd_close(fds[0]);
        return fds[1];
    }
    if (copy_to_user(ufds, fds, sizeof fds)) {
        fd_close(fds[0]);
        fd_close(fds[1]);
        return -EFAULT;
    }
    return 0;
}

long sys_pipe(u64 fds) { return do_pipe(fds, 0); }
long sys_pipe2(u64 fds, unsigned flags) { return do_pipe(fds, flags); }

/* ---- F_GETPIPE_SZ, F_SETPIPE_SZ ---- */

#define F_SETPIPE_SZ 1031
#define F_GETPIPE_SZ 1032

/* A new ring of n pages with what the old one held. */
static int resize(struct pipe *p, u32 n)
{
    u8 **pages = quire_kcalloc(n, sizeof *pages, QUIRE_GFP_KERNEL);
    u64 used = K_UP(p->len, 4096) / 4096;

    if (!pages)
        return -ENOMEM;
    for (u64 k = 0; k < used; k++) {
        struct kiovec iov;
        struct uio u;
        size_t part = K_MIN(p->len - k * 4096, 4096ul);

        pages[k] = quire_kmalloc(4096, QUIRE_GFP_KERNEL);
        if (!pages[k]) {
            free_ring(pages, n);
            return -ENOMEM;
        }
        uio_kernel(&u, &iov, pages[k], part);
        ring_copy(p, &u, k * 4096, part); /* kernel memory: cannot fail */
    }
    free_ring(p->pages, p->npages);
    p->pages = pages;
    p->npages = n;
    p->head = 0;
    return 0;
}

long pipe_fcntl(struct file *f, unsigned cmd, u64 arg)
{
    struct pipe *p = file_pipe(f);
    u64 bytes = 4096;
    long r;

    if (!p)
        return -EBADF;
    if (cmd == F_GETPIPE_SZ)
        return (long)capacity(p);
    if (arg > 1u << 31)
        return -EINVAL;
    while (bytes < arg)
        bytes *= 2;
    if (bytes > PIPE_MAX_CAP && fs_uid() != 0)
        return -EPERM;
    kmutex_lock(&p->lock);
    if (bytes < p->len)
        r = -EBUSY;
    else
        r = resize(p, (u32)(bytes / 4096));
    if (!r)
        r = (long)capacity(p);
    kmutex_unlock(&p->lock);
    waitq_wake_all(&p->write_wait);
    return r;
}

/* ---- splice and its kin move bytes between a pipe and a file through a buffer ---- */

#define SPLICE_NONBLOCK 2u
#define SPLICE_FLAGS    15u
#define CHUNK           65536u

/* Read up to n bytes of in and write them to out; what cannot be written is not lost for a seekable
 * input, whose position advances only by what was. */
static long move_bytes(struct file *in, u64 *in_pos, struct file *out, u64 *out_pos, size_t n)
{
    u8 *buf = quire_kvmalloc(K_MIN(n, (size_t)CHUNK), QUIRE_GFP_KERNEL);
    size_t done = 0;
    long r = 0;

    if (!buf)
        return -ENOMEM;
    while (done < n) {
        size_t want = K_MIN(n - done, (size_t)CHUNK);
        struct kiovec iov;
        struct uio u;
        u64 at = *in_pos;
        long got, put = 0;

        uio_kernel(&u, &iov, buf, want);
        got = in->ops->read(in, &u, &at);
        if (got <= 0) {
            r = got;
            break;
        }
        while (put < got) {
            uio_kernel(&u, &iov, buf + put, (size_t)(got - put));
            r = out->ops->write(out, &u, out_pos);
            if (r <= 0)
                break;
            put += r;
        }
        *in_pos += (u64)put;
        done += (size_t)put;
        if (put < got)
            break;
        r = 0;
        if (!in->ops->lseek) /* a stream gives what it has, once */
            break;
        if (signal_pending(current))
            break;
    }
    quire_kvfree(buf);
    return done ? (long)done : r;
}

static int user_pos(u64 upos, struct file *f, u64 *pos)
{
    if (!upos) {
        *pos = f->pos;
        return 0;
    }
    if (!f->ops->lseek)
        return -ESPIPE;
    if (get_user_u64(pos, upos))
        return -EFAULT;
    return (i64)*pos < 0 ? -EINVAL : 0;
}

static void keep_pos(u64 upos, struct file *f, u64 pos, int *err)
{
    if (upos) {
        if (put_user_u64(upos, pos))
            *err = -EFAULT;
    } else if (f->ops->lseek) {
        f->pos = pos;
    }
}

static long transfer(struct file *in, u64 uin, struct file *out, u64 uout, u64 n)
{
    u64 in_pos, out_pos;
    int err;
    long r;

    if (!file_readable(in) || !file_writable(out))
        return -EBADF;
    if (!in->ops->read || !out->ops->write)
        return -EINVAL;
    err = user_pos(uin, in, &in_pos);
    if (!err)
        err = user_pos(uout, out, &out_pos);
    if (err)
        return err;
    r = move_bytes(in, &in_pos, out, &out_pos, K_MIN(n, 0x7ffff000ul));
    if (r > 0) {
        keep_pos(uin, in, in_pos, &err);
        keep_pos(uout, out, out_pos, &err);
    }
    return err ? err : r;
}

long sys_sendfile(int out_fd, int in_fd, u64 uoff, u64 n)
{
    struct file *in = fd_get(in_fd), *out = fd_get(out_fd);
    long r;

    if (!in || !out)
        r = -EBADF;
    else if (!file_readable(in) || !file_writable(out))
        r = -EBADF;
    else if (!in->ops->lseek || (out->flags & O_APPEND))
        r = -EINVAL;
    else
        r = transfer(in, uoff, out, 0, n);
    if (in)
        file_put(in);
    if (out)
        file_put(out);
    return r;
}

static bool is_regular(const struct file *f)
{
    return (f->inode->mode & S_IFMT) == S_IFREG && !f->inode->ops;
}

static int check_copy(struct file *in, u64 uin, struct file *out, u64 uout, u64 n)
{
    u64 a, b;
    int err;

    if ((in->inode->mode & S_IFMT) == S_IFDIR || (out->inode->mode & S_IFMT) == S_IFDIR)
        return -EISDIR;
    if (!is_regular(in) || !is_regular(out))
        return -EINVAL;
    if (!file_readable(in) || !file_writable(out) || (out->flags & O_APPEND))
        return -EBADF;
    err = user_pos(uin, in, &a);
    if (!err)
        err = user_pos(uout, out, &b);
    if (err)
        return err;
    n = K_MIN(n, 0x7ffff000ul);
    if (in->inode == out->inode && a < b + n && b < a + n)
        return -EINVAL;
    return 0;
}

long sys_copy_file_range(int in_fd, u64 uin, int out_fd, u64 uout, u64 n, unsigned flags)
{
    struct file *in, *out;
    long r;

    if (flags)
        return -EINVAL;
    in = fd_get(in_fd);
    out = fd_get(out_fd);
    r = in && out ? check_copy(in, uin, out, uout, n) : -EBADF;
    if (!r)
        r = transfer(in, uin, out, uout, n);
    if (in)
        file_put(in);
    if (out)
        file_put(out);
    return r;
}

/* At most what the pipe can give or take at once, so that nothing read is lost. */
static long splice_files(struct file *in, u64 uin, struct file *out, u64 uout, u64 n,
                         unsigned flags)
{
    struct pipe *from = file_pipe(in), *to = file_pipe(out);

    if (!from && !to)
        return -EINVAL;
    if ((from && uin) || (to && uout))
        return -ESPIPE;
    if (from && from == to)
        return -EINVAL;
    if (!file_readable(in) || !file_writable(out))
        return -EBADF;
    if (!to && (out->flags & O_APPEND))
        return -EINVAL;
    if (to) {
        u64 room;

        if (!WAIT_EVENT(&to->write_wait,
                        (flags & SPLICE_NONBLOCK) || room_for(to, 1) || !to->readers))
            room = capacity(to) - to->len;
        else
            return -ERESTARTSYS;
        if (!to->readers) {
            sigpipe();
            return -EPIPE;
        }
        if (!room)
            return -EAGAIN;
        n = K_MIN(n, room);
    }
    if ((flags & SPLICE_NONBLOCK) && from && !from->len)
        return from->writers ? -EAGAIN : 0;
    return transfer(in, uin, out, uout, n);
}

long sys_splice(int in_fd, u64 uin, int out_fd, u64 uout, u64 n, unsigned flags)
{
    struct file *in, *out;
    long r;

    if (!n)
        return 0;
    if (flags & ~SPLICE_FLAGS)
        return -EINVAL;
    in = fd_get(in_fd);
    out = fd_get(out_fd);
    r = in && out ? splice_files(in, uin, out, uout, n, flags) : -EBADF;
    if (in)
        file_put(in);
    if (out)
        file_put(out);
    return r;
}

/* Copy without consuming: the two pipes are locked in the order of their addresses. */
static long tee_pipes(struct pipe *from, struct pipe *to, u64 n)
{
    u8 *buf = quire_kvmalloc(CHUNK, QUIRE_GFP_KERNEL);
    struct kiovec iov;
    struct uio u;
    long r;

    if (!buf)
        return -ENOMEM;
    kmutex_lock(&from->lock);
    n = K_MIN(K_MIN(n, from->len), (u64)CHUNK);
    uio_kernel(&u, &iov, buf, n);
    ring_copy(from, &u, 0, n);
    kmutex_unlock(&from->lock);
    kmutex_lock(&to->lock);
    n = K_MIN(n, capacity(to) - to->len);
    uio_kernel(&u, &iov, buf, n);
    r = ring_put(to, &u, n);
    kmutex_unlock(&to->lock);
    waitq_wake_all(&to->read_wait);
    quire_kvfree(buf);
    return r ? r : (long)n;
}

static long tee_files(struct file *in, struct file *out, u64 n, unsigned flags)
{
    struct pipe *from = file_pipe(in), *to = file_pipe(out);

    if (!from || !to || from == to)
        return -EINVAL;
    if (!file_readable(in) || !file_writable(out))
        return -EBADF;
    if ((flags & SPLICE_NONBLOCK) && ((!from->len && from->writers) || !room_for(to, 1)))
        return -EAGAIN;
    if (WAIT_EVENT(&from->read_wait, from->len || !from->writers) ||
        WAIT_EVENT(&to->write_wait, room_for(to, 1) || !to->readers))
        return -ERESTARTSYS;
    if (!to->readers) {
        sigpipe();
        return -EPIPE;
    }
    return tee_pipes(from, to, n);
}

long sys_tee(int in_fd, int out_fd, u64 n, unsigned flags)
{
    struct file *in, *out;
    long r;

    if (flags & ~SPLICE_FLAGS)
        return -EINVAL;
    if (!n)
        return 0;
    in = fd_get(in_fd);
    out = fd_get(out_fd);
    r = in && out ? tee_files(in, out, n, flags) : -EBADF;
    if (in)
        file_put(in);
    if (out)
        file_put(out);
    return r;
}

/* Pages are copied, not given: what the program writes later does not show, as vmsplice(2) allows. */
long sys_vmsplice(int fd, u64 uiov, u64 n, unsigned flags)
{
    struct file *f = fd_get(fd);
    struct uio_user uu;
    long r;

    if (!f)
        return -EBADF;
    if (flags & ~SPLICE_FLAGS)
        r = -EINVAL;
    else if (!file_pipe(f))
        r = -EBADF;
    else
        r = uio_from_user(&uu, uiov, n);
    if (!r) {
        u64 none = 0;

        r = file_writable(f) ? pipe_write(f, &uu.u, &none) : pipe_read(f, &uu.u, &none);
        uio_done(&uu);
    }
    file_put(f);
    return r;
}
