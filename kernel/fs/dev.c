/*
 * fs/dev.c - /dev: the memory devices of mem(4), terminals by number, and the names of both.
 */
#include "tty.h"

enum { DEV_NULL = 3, DEV_ZERO = 5, DEV_FULL = 7, DEV_RANDOM = 8, DEV_URANDOM = 9, DEV_KMSG = 11 };

static long read_nothing(struct file *f, struct uio *u, u64 *pos)
{
    (void)f, (void)u, (void)pos;
    return 0;
}

static long write_all(struct file *f, struct uio *u, u64 *pos)
{
    long n = (long)u->left;

    (void)f, (void)pos;
    u->left = 0;
    return n;
}

static long write_full(struct file *f, struct uio *u, u64 *pos)
{
    (void)f, (void)u, (void)pos;
    return -ENOSPC;
}

static long read_zeros(struct file *f, struct uio *u, u64 *pos)
{
    size_t before = u->left;

    (void)f, (void)pos;
    while (u->left) {
        if (uio_zero(u, K_MIN(u->left, (size_t)65536)))
            return before != u->left ? (long)(before - u->left) : -EFAULT;
        cond_resched();
    }
    return (long)before;
}

static long read_random(struct file *f, struct uio *u, u64 *pos)
{
    u8 block[256];
    size_t before = u->left;

    (void)f, (void)pos;
    while (u->left) {
        random_bytes(block, K_MIN(u->left, sizeof block));
        if (uio_put(u, block, K_MIN(u->left, sizeof block)))
            return before != u->left ? (long)(before - u->left) : -EFAULT;
        cond_resched();
    }
    return (long)before;
}

static i64 seek_nowhere(struct file *f, i64 off, int whence)
{
    (void)off, (void)whence;
    f->pos = 0;
    return 0;
}

static unsigned always_ready(struct file *f, struct poll_table *pt)
{
    (void)f, (void)pt;
    return POLL_IN | POLL_OUT;
}

/* Lines that programs log (logger, init) go to the kernel's log. */
static long write_log(struct file *f, struct uio *u, u64 *pos)
{
    char line[512];
    size_t n = K_MIN(u->left, sizeof line - 1);
    long all = (long)u->left;

    (void)f, (void)pos;
    if (uio_get(u, line, n))
        return -EFAULT;
    while (n && line[n - 1] == '\n')
        n--;
    line[n] = 0;
    printk("%s", line);
    return all;
}

/* Anonymous memory by another name: as large as any mapping may want. */
static struct quire_object *map_zeros(struct file *f, int *err)
{
    struct quire_object *o = NULL;

    (void)f;
    *err = (int)kerr(quire_object_create_shared((u64)UINT32_MAX << QUIRE_PAGE_SHIFT, &o));
    return *err ? NULL : o;
}

static const struct file_ops null_ops = {
    .read = read_nothing, .write = write_all, .lseek = seek_nowhere, .poll = always_ready};
static const struct file_ops zero_ops = {.read = read_zeros,
                                         .write = write_all,
                                         .lseek = seek_nowhere,
                                         .poll = always_ready,
                                         .mmap = map_zeros};
static const struct file_ops full_ops = {
    .read = read_zeros, .write = write_full, .lseek = seek_nowhere, .poll = always_ready};
static const struct file_ops random_ops = {
    .read = read_random, .write = write_all, .lseek = seek_nowhere, .poll = always_ready};
static const struct file_ops kmsg_ops = {
    .read = read_nothing, .write = write_log, .lseek = seek_nowhere, .poll = always_ready};

static int open_memory_device(struct file *f, unsigned minor)
{
    switch (minor) {
    case DEV_NULL: f->ops = &null_ops; return 0;
    case DEV_ZERO: f->ops = &zero_ops; return 0;
    case DEV_FULL: f->ops = &full_ops; return 0;
    case DEV_RANDOM:
    case DEV_URANDOM: f->ops = &random_ops; return 0;
    case DEV_KMSG: f->ops = &kmsg_ops; return 0;
    default: return -ENXIO;
    }
}

static int open_console_device(struct file *f, bool current_tty)
{
    if (current_tty && (console_tty.sid != current->proc->sid || console_tty.stream))
        return -ENXIO;
    f->ops = &tty_ops;
    if (!console_tty.stream && !(f->flags & O_NOCTTY) && !current_tty)
        tty_take_control(&console_tty);
    return 0;
}

int chrdev_open(struct file *f)
{
    u32 dev = f->inode->rdev;

    switch (DEV_MAJOR(dev)) {
    case 1: return open_memory_device(f, DEV_MINOR(dev));
    case 4: return DEV_MINOR(dev) == 64 ? open_console_device(f, false) : -ENXIO;
    case 5:
        switch (DEV_MINOR(dev)) {
        case 0: return open_console_device(f, true);
        case 1: return open_console_device(f, false);
        case 2: return ptmx_open(f);
        default: return -ENXIO;
        }
    case 136: return pts_open(f);
    default: return -ENXIO;
    }
}

static int add(struct dentry *dir, const char *name, u32 mode, u32 rdev, const char *target)
{
    struct dentry *d;
    int err = create_in(dir, name, mode, rdev, &d);

    if (err)
        return err;
    d->inode->mode = mode; /* not subject to a umask */
    if (target) {
        d->inode->target = quire_kstrdup(target, QUIRE_GFP_KERNEL);
        err = d->inode->target ? 0 : -ENOMEM;
    }
    dentry_put(d);
    return err;
}

struct dentry *devfs_root(u32 dev)
{
    static const struct {
        const char *name;
        u32 mode, rdev;
        const char *target;
    } nodes[] = {
        {"null", S_IFCHR | 0666, MAKEDEV(1, DEV_NULL), NULL},
        {"zero", S_IFCHR | 0666, MAKEDEV(1, DEV_ZERO), NULL},
        {"full", S_IFCHR | 0666, MAKEDEV(1, DEV_FULL), NULL},
        {"random", S_IFCHR | 0666, MAKEDEV(1, DEV_RANDOM), NULL},
        {"urandom", S_IFCHR | 0666, MAKEDEV(1, DEV_URANDOM), NULL},
        {"kmsg", S_IFCHR | 0644, MAKEDEV(1, DEV_KMSG), NULL},
        {"tty", S_IFCHR | 0666, MAKEDEV(5, 0), NULL},
        {"console", S_IFCHR | 0600, MAKEDEV(5, 1), NULL},
        {"ptmx", S_IFCHR | 0666, MAKEDEV(5, 2), NULL},
        {"ttyS0", S_IFCHR | 0660, MAKEDEV(4, 64), NULL},
        {"shm", S_IFDIR | 01777, 0, NULL},
        {"fd", S_IFLNK | 0777, 0, "/proc/self/fd"},
        {"stdin", S_IFLNK | 0777, 0, "/proc/self/fd/0"},
        {"stdout", S_IFLNK | 0777, 0, "/proc/self/fd/1"},
        {"stderr", S_IFLNK | 0777, 0, "/proc/self/fd/2"},
    };
    struct dentry *root = tmpfs_root(dev, 0755), *d;
    struct inode *pts;
    int err = root ? 0 : -ENOMEM;

    for (unsigned k = 0; !err && k < K_COUNT(nodes); k++)
        err = add(root, nodes[k].name, nodes[k].mode, nodes[k].rdev, nodes[k].target);
    if (!err) {
        pts = inode_new(S_IFDIR | 0755, dev);
        d = pts ? dentry_new(pts, root, "pts") : NULL;
        err = d ? dir_add(root, d) : -ENOMEM;
        if (!err)
            pts->ops = &pts_dir_ops;
        dentry_put(d);
    }
    if (err)
        return NULL; /* only at boot, where it ends the boot */
    return root;
}
