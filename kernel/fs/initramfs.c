/*
 * fs/initramfs.c - the first file system: an empty tree, the usual mounts, and what a cpio image adds.
 *
 * The image is read twice: once to check every length, once to make names.  Contents stay in the
 * image and are copied page by page when first used (inode.c), so the time of a boot follows the
 * number of files, not their size.
 */
#include "cpio.h"
#include "tty.h"

/* Names of one file in the image: linked by (archive, device, number). */
struct hard_link {
    struct hard_link *next;
    unsigned archive;
    u32 dev_major, dev_minor, ino;
    struct inode *inode; /* referenced */
};

#define LINK_BUCKETS 256
struct loader {
    struct hard_link *links[LINK_BUCKETS];
};

static struct hard_link **link_bucket(struct loader *l, const struct cpio_entry *e)
{
    return &l->links[(e->ino ^ e->dev_minor * 31) % LINK_BUCKETS];
}

static struct hard_link *find_link(struct loader *l, const struct cpio_entry *e)
{
    struct hard_link *k = *link_bucket(l, e);

    while (k && (k->ino != e->ino || k->archive != e->archive || k->dev_major != e->dev_major ||
                 k->dev_minor != e->dev_minor))
        k = k->next;
    return k;
}

static int remember_link(struct loader *l, const struct cpio_entry *e, struct inode *i)
{
    struct hard_link *k = quire_kmalloc(sizeof *k, QUIRE_GFP_KERNEL), **head = link_bucket(l, e);

    if (!k)
        return -ENOMEM;
    *k = (struct hard_link){*head, e->archive, e->dev_major, e->dev_minor, e->ino, i};
    inode_get(i);
    *head = k;
    return 0;
}

static void forget_links(struct loader *l)
{
    for (unsigned b = 0; b < LINK_BUCKETS; b++)
        while (l->links[b]) {
            struct hard_link *k = l->links[b];

            l->links[b] = k->next;
            inode_put(k->inode);
            quire_kfree(k);
        }
}

/* The directory of path, made as far as missing; referenced.  *last is the rest. */
static int parent_of(const char *path, struct dentry **out, const char **last)
{
    struct dentry *d = dentry_get(fs_root);

    for (;;) {
        const char *slash;
        char name[NAME_LIMIT + 1];
        struct dentry *next;
        size_t n;

        while (*path == '/')
            path++;
        slash = strchr(path, '/');
        while (slash && *slash == '/')
            slash++;
        if (!slash || !*slash)
            break;
        n = (size_t)(strchr(path, '/') - path);
        memcpy(name, path, n); /* at most 255: cpio.c */
        name[n] = 0;
        path = slash;
        if (!strcmp(name, "."))
            continue;
        next = dir_find(d, name);
        if (next) {
            dentry_get(next);
        } else {
            int err = create_in(d, name, S_IFDIR | 0755, 0, &next);

            if (err) {
                dentry_put(d);
                return err;
            }
        }
        dentry_put(d);
        d = next;
        if ((d->inode->mode & S_IFMT) != S_IFDIR) {
            dentry_put(d);
            return -ENOTDIR;
        }
    }
    *out = d;
    *last = path;
    return 0;
}

static void set_attributes(struct inode *i, const struct cpio_entry *e)
{
    i->mode = (i->mode & S_IFMT) | (e->mode & 07777);
    i->uid = e->uid;
    i->gid = e->gid;
    i->atime_ns = i->mtime_ns = i->ctime_ns = e->mtime * 1000000000ull;
}

static int set_content(struct inode *i, const struct cpio_entry *e)
{
    switch (e->mode & S_IFMT) {
    case S_IFREG:
        if (e->size) {
            i->reg.image = e->data;
            i->reg.image_len = e->size;
        }
        return 0;
    case S_IFLNK:
        i->target = quire_kzalloc(e->size + 1, QUIRE_GFP_KERNEL);
        if (!i->target)
            return -ENOMEM;
        memcpy(i->target, e->data, e->size);
        return 0;
    default: return 0;
    }
}

/* One more name of a file that the image named before. */
static int add_link(struct dentry *dir, const char *name, struct inode *i)
{
    struct dentry *d;
    int err;

    inode_get(i);
    d = dentry_new(i, dir, name);
    err = d ? dir_add(dir, d) : -ENOMEM;
    dentry_put(d);
    return err;
}

static int add_named(struct loader *l, struct dentry *dir, const char *name,
                     const struct cpio_entry *e)
{
    struct dentry *d = dir_find(dir, name);
    struct hard_link *link;
    int err;

    if (d && (e->mode & S_IFMT) == S_IFDIR && (d->inode->mode & S_IFMT) == S_IFDIR) {
        set_attributes(d->inode, e);
        return 0;
    }
    if (d && (d->inode->mode & S_IFMT) == S_IFDIR)
        return -EISDIR;
    if (d)
        dir_remove(d); /* a later archive replaces a file, as on Linux */
    link = e->nlink > 1 && (e->mode & S_IFMT) == S_IFREG ? find_link(l, e) : NULL;
    if (link) {
        err = set_content(link->inode, e);
        return err ? err : add_link(dir, name, link->inode);
    }
    err =
        create_in(dir, name, e->mode & (S_IFMT | 07777), MAKEDEV(e->rdev_major, e->rdev_minor), &d);
    if (err)
        return err;
    set_attributes(d->inode, e);
    err = set_content(d->inode, e);
    if (!err && e->nlink > 1 && (e->mode & S_IFMT) == S_IFREG)
        err = remember_link(l, e, d->inode);
    if (err)
        dir_remove(d);
    dentry_put(d);
    return err;
}

static int add_entry(void *ctx, const struct cpio_entry *e)
{
    char name[NAME_LIMIT + 1];
    struct dentry *dir;
    const char *last;
    size_t n;
    int err = parent_of(e->name, &dir, &last);

    if (err) {
        printk("initramfs: %s: error %d", e->name, -err);
        return err;
    }
    n = strlen(last);
    while (n && last[n - 1] == '/')
        n--;
    memcpy(name, last, n);
    name[n] = 0;
    if (!n || !strcmp(name, "."))
        set_attributes(dir->inode, e);
    else
        err = add_named(ctx, dir, name, e);
    dentry_put(dir);
    if (err)
        printk("initramfs: %s: error %d", e->name, -err);
    return err;
}

/* Take everything out again but the directories that mounts stand on. */
static void remove_all(void)
{
    struct dentry *d = fs_root->inode->dir.first;

    while (d) {
        struct dentry *next = d->next, *up = d->parent;

        if ((d->inode->mode & S_IFMT) == S_IFDIR && !d->covered && d->inode->dir.first) {
            d = d->inode->dir.first;
            continue;
        }
        if (!d->covered)
            dir_remove(d);
        d = next ? next : up != fs_root ? up : NULL;
    }
}

int initramfs_load(const void *p, size_t n)
{
    struct cpio_fault fault = {0};
    struct loader *l;
    int err = cpio_read(p, n, NULL, NULL, &fault);

    if (err) {
        printk("initramfs: damaged at byte %lu: %s", (unsigned long)fault.offset, fault.what);
        return err;
    }
    l = quire_kzalloc(sizeof *l, QUIRE_GFP_KERNEL);
    if (!l)
        return -ENOMEM;
    kmutex_lock(&fs_tree_lock);
    err = cpio_read(p, n, add_entry, l, &fault);
    forget_links(l);
    if (err)
        remove_all();
    kmutex_unlock(&fs_tree_lock);
    quire_kfree(l);
    return err;
}

static void boot_mount(const char *type, const char *path)
{
    struct walk w;
    int err = fs_mkdir_path(path, 0755);

    if (!err)
        err = path_walk_locked(AT_FDCWD, path, WALK_FOLLOW, &w);
    if (!err) {
        err = mount_at(type, w.d, type, 0);
        dentry_put(w.d);
    }
    if (err)
        kpanic("fs: no memory for %s", path);
}

void fs_init(void)
{
    if (tty_init())
        kpanic("fs: no memory for the console");
    kmutex_lock(&fs_tree_lock);
    if (mount_at("rootfs", NULL, "ramfs", 0))
        kpanic("fs: no memory for the root");
    fs_root = fs_mounts->root;
    strlcpy(fs_mounts->type, "rootfs", sizeof fs_mounts->type);
    fs_root->inode->mode = S_IFDIR | 0755;
    boot_mount("devtmpfs", "/dev");
    boot_mount("proc", "/proc");
    boot_mount("sysfs", "/sys");
    if (fs_mkdir_path("/tmp", 01777) || fs_mkdir_path("/run", 0755) ||
        fs_mkdir_path("/dev/shm", 01777))
        kpanic("fs: no memory for the first directories");
    kmutex_unlock(&fs_tree_lock);
}
