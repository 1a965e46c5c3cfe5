/*
 * fs/pty.c - pseudo-terminals (pty(7)): a terminal whose keyboard and screen are a file, the master.
 */
#include "tty.h"
#include <signal.h>

#define PTY_MAX 64

struct pty {
    struct tty tty;
    u32 refs; /* under ptys_lock: the master and each open slave */
    unsigned index;
    bool locked, master_gone;
    unsigned slaves;
    bool had_slave;
    struct kspin lock; /* the ring below */
    u8 *ring;          /* what the slave wrote: TTY_RING bytes */
    u32 tail, head;
    struct waitq wait; /* the master's reader, and slaves that wait for room */
};

static struct kmutex ptys_lock;
static struct pty *ptys[PTY_MAX];

static size_t pty_out(struct tty *t, int stream, const char *p, size_t n)
{
    struct pty *y = t->pty;
    unsigned long flags = kspin_lock(&y->lock);
    size_t k;

    (void)stream;
    for (k = 0; k < n && y->head - y->tail < TTY_RING; k++)
        y->ring[y->head++ % TTY_RING] = (u8)p[k];
    kspin_unlock(&y->lock, flags);
    waitq_wake_all(&y->wait);
    return k;
}

static void pty_put(struct pty *y)
{
    bool last;

    kmutex_lock(&ptys_lock);
    last = !--y->refs;
    if (last)
        ptys[y->index] = NULL;
    kmutex_unlock(&ptys_lock);
    if (!last)
        return;
    quire_kvfree(y->tty.ring);
    quire_kvfree(y->tty.marks);
    quire_kvfree(y->ring);
    quire_kfree(y);
}

/* ---- master ---- */

static long master_read(struct file *f, struct uio *u, u64 *pos)
{
    struct pty *y = f->priv;
    u8 buf[512];

    (void)pos;
    for (;;) {
        unsigned long flags = kspin_lock(&y->lock);
        size_t n = K_MIN(K_MIN(u->left, sizeof buf), (size_t)(y->head - y->tail));

        for (size_t k = 0; k < n; k++)
            buf[k] = y->ring[(y->tail + k) % TTY_RING];
        y->tail += (u32)n;
        kspin_unlock(&y->lock, flags);
        if (n) {
            waitq_wake_all(&y->wait);
            return uio_put(u, buf, n) ? -EFAULT : (long)n;
        }
        if (!u->left)
            return 0;
        if (y->had_slave && !y->slaves)
            return -EIO;
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (WAIT_EVENT(&y->wait, y->head != y->tail || (y->had_slave && !y->slaves)))
            return -ERESTARTSYS;
    }
}

static long master_write(struct file *f, struct uio *u, u64 *pos)
{
    struct pty *y = f->priv;
    size_t before = u->left;
    u8 buf[256];

    (void)pos;
    while (u->left) {
        size_t n = K_MIN(K_MIN(u->left, sizeof buf), tty_room(&y->tty));

        if (!n)
            break;
        if (uio_get(u, buf, n))
            return before != u->left ? (long)(before - u->left) : -EFAULT;
        tty_receive(&y->tty, buf, n);
    }
    return before == u->left && before ? -EAGAIN : (long)(before - u->left);
}

static unsigned master_poll(struct file *f, struct poll_table *pt)
{
    struct pty *y = f->priv;

    poll_add(pt, &y->wait);
    return (y->head != y->tail ? POLL_IN : 0) | (tty_room(&y->tty) ? POLL_OUT : 0) |
           (y->had_slave && !y->slaves ? POLL_HUP : 0);
}

#define TIOCGPTN    0x80045430u
#define TIOCSPTLCK  0x40045431u
#define TIOCGPTLCK  0x80045439u
#define TIOCGPTPEER 0x5441
#define FIONREAD    0x541b

static long master_ioctl(struct file *f, unsigned cmd, u64 arg)
{
    struct pty *y = f->priv;
    u32 v;

    switch (cmd) {
    case TIOCGPTN: return put_user_u32(arg, y->index);
    case TIOCGPTLCK: return put_user_u32(arg, y->locked);
    case TIOCSPTLCK:
        if (get_user_u32(&v, arg))
            return -EFAULT;
        y->locked = v;
        return 0;
    case FIONREAD: return put_user_u32(arg, y->head - y->tail);
    default: return tty_ioctl(&y->tty, f, cmd, arg);
    }
}

/* The line is cut: readers of the slave see the end, its session a hang-up. */
static void master_release(struct file *f)
{
    struct pty *y = f->priv;

    y->master_gone = true;
    __atomic_store_n(&y->tty.eof, true, __ATOMIC_RELEASE);
    waitq_wake_all(&y->tty.wait);
    waitq_wake_all(&y->wait);
    tty_signal(&y->tty, 1);  /* SIGHUP */
    tty_signal(&y->tty, 18); /* SIGCONT */
    pty_put(y);
}

static const struct file_ops master_ops = {.read = master_read,
                                           .write = master_write,
                                           .ioctl = master_ioctl,
                                           .poll = master_poll,
                                           .release = master_release};

static struct pty *pty_new(void)
{
    struct pty *y = quire_kzalloc(sizeof *y, QUIRE_GFP_KERNEL);

    if (!y)
        return NULL;
    y->ring = quire_kvmalloc(TTY_RING, QUIRE_GFP_KERNEL);
    if (!y->ring || tty_setup(&y->tty)) {
        quire_kvfree(y->ring);
        quire_kfree(y);
        return NULL;
    }
    y->tty.pty = y;
    y->tty.out = pty_out;
    y->refs = 1;
    y->locked = true;
    y->tty.size = (struct kwinsize){0, 0, 0, 0};
    return y;
}

int ptmx_open(struct file *f)
{
    struct pty *y = pty_new();
    unsigned k;

    if (!y)
        return -ENOMEM;
    kmutex_lock(&ptys_lock);
    for (k = 0; k < PTY_MAX && ptys[k]; k++)
        ;
    if (k < PTY_MAX) {
        ptys[k] = y;
        y->index = k;
    }
    kmutex_unlock(&ptys_lock);
    if (k == PTY_MAX) {
        y->index = 0;
        quire_kvfree(y->tty.ring);
        quire_kvfree(y->tty.marks);
        quire_kvfree(y->ring);
        quire_kfree(y);
        return -ENOSPC;
    }
    f->priv = y;
    f->ops = &master_ops;
    return 0;
}

/* ---- slave ---- */

static long slave_read(struct file *f, struct uio *u, u64 *pos)
{
    (void)pos;
    return tty_read(&((struct pty *)f->priv)->tty, f, u);
}

static long slave_write(struct file *f, struct uio *u, u64 *pos)
{
    struct pty *y = f->priv;

    (void)pos;
    while (u->left) {
        long n;

        if (y->master_gone)
            return -EIO;
        n = TTY_RING - (y->head - y->tail);
        if (n > 1) { /* room for at least a translated newline */
            size_t all = u->left, part = K_MIN(all, (size_t)n / 2);
            struct kiovec iov;
            struct uio k;
            u8 buf[512];

            part = K_MIN(part, sizeof buf);
            part = uio_get_part(u, buf, part);
            if (!part)
                return -EFAULT;
            uio_kernel(&k, &iov, buf, part);
            return tty_write(&y->tty, 1, f, &k);
        }
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (WAIT_EVENT(&y->wait, TTY_RING - (y->head - y->tail) > 1 || y->master_gone))
            return -ERESTARTSYS;
    }
    return 0;
}

static long slave_ioctl(struct file *f, unsigned cmd, u64 arg)
{
    return tty_ioctl(&((struct pty *)f->priv)->tty, f, cmd, arg);
}

static unsigned slave_poll(struct file *f, struct poll_table *pt)
{
    return tty_poll(&((struct pty *)f->priv)->tty, pt);
}

static void slave_release(struct file *f)
{
    struct pty *y = f->priv;

    kmutex_lock(&ptys_lock);
    y->slaves--;
    kmutex_unlock(&ptys_lock);
    waitq_wake_all(&y->wait);
    pty_put(y);
}

static const struct file_ops slave_ops = {.read = slave_read,
                                          .write = slave_write,
                                          .ioctl = slave_ioctl,
                                          .poll = slave_poll,
                                          .release = slave_release};

int pts_open(struct file *f)
{
    unsigned k = DEV_MINOR(f->inode->rdev);
    struct pty *y;
    int err = -EIO;

    kmutex_lock(&ptys_lock);
    y = k < PTY_MAX ? ptys[k] : NULL;
    if (y && !y->locked && !y->master_gone) {
        y->refs++;
        y->slaves++;
        y->had_slave = true;
        err = 0;
    }
    kmutex_unlock(&ptys_lock);
    if (err)
        return err;
    f->priv = y;
    f->ops = &slave_ops;
    if (!(f->flags & O_NOCTTY))
        tty_take_control(&y->tty);
    return 0;
}

/* ---- /dev/pts ---- */

static struct dentry *pts_lookup(struct dentry *dir, const char *name, int *err)
{
    unsigned k = 0;
    struct inode *i;

    *err = -ENOENT;
    if (!*name || strlen(name) > 3)
        return NULL;
    for (const char *c = name; *c; c++) {
        if (*c < '0' || *c > '9')
            return NULL;
        k = k * 10 + (unsigned)(*c - '0');
    }
    if (k >= PTY_MAX || !ptys[k] || (name[0] == '0' && name[1]))
        return NULL;
    i = inode_new(S_IFCHR | 0620, dir->inode->dev);
    *err = -ENOMEM;
    if (!i)
        return NULL;
    i->rdev = MAKEDEV(136, k);
    i->nlink = 1;
    i->ino = 3 + k;
    i->uid = fs_uid();
    i->gid = fs_gid();
    return dentry_new(i, dir, name);
}

static int pts_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    (void)dir;
    for (; *pos < PTY_MAX; ++*pos) {
        char name[8];

        ksnprintf(name, sizeof name, "%u", (unsigned)*pos);
        if (ptys[*pos] && !dir_emit(e, name, 3 + *pos, S_IFCHR, *pos + 3))
            return e->err;
    }
    return 0;
}

const struct inode_ops pts_dir_ops = {.lookup = pts_lookup, .readdir = pts_readdir};
