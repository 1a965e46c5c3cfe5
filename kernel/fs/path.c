/*
 * fs/path.c - from a path to a dentry (path_resolution(7)), and permissions.
 *
 * A symbolic link is expanded into a new text, target and rest, so the walk is a loop without
 * recursion; 40 links are the limit, as on Linux.
 */
#include "fsint.h"

#define LINKS_MAX 40

u32 fs_uid(void) { return current && current->proc ? current->proc->fsuid : 0; }
u32 fs_gid(void) { return current && current->proc ? current->proc->fsgid : 0; }

static bool in_group(u32 gid)
{
    const struct process *p = current->proc;

    if (!p || p->fsgid == gid)
        return true;
    for (int k = 0; k < p->ngroups; k++)
        if (p->groups[k] == gid)
            return true;
    return false;
}

bool inode_owner_or_root(const struct inode *i) { return fs_uid() == 0 || fs_uid() == i->uid; }

int inode_permission(const struct inode *i, unsigned mask)
{
    u32 bits;

    if (fs_uid() == 0) /* root executes only what somebody may execute */
        return (mask & 1) && (i->mode & S_IFMT) != S_IFDIR && !(i->mode & 0111) ? -EACCES : 0;
    if (i->uid == fs_uid())
        bits = i->mode >> 6;
    else if (in_group(i->gid))
        bits = i->mode >> 3;
    else
        bits = i->mode;
    return mask & ~bits & 7 ? -EACCES : 0;
}

struct dentry *lookup_one(struct dentry *dir, const char *name, int *err)
{
    const struct inode_ops *ops = dir->inode->ops;
    struct dentry *d;

    if (ops) {
        *err = -ENOENT;
        return ops->lookup ? ops->lookup(dir, name, err) : NULL;
    }
    d = dir_find(dir, name);
    if (!d) {
        *err = -ENOENT;
        return NULL;
    }
    while (d->covered)
        d = d->covered;
    return dentry_get(d);
}

/* One level up, not above root. */
static void go_up(struct dentry **cur, const struct dentry *root)
{
    struct dentry *d = *cur;

    while (d != root && d->covers)
        d = d->covers;
    if (d != root && d->parent)
        d = d->parent;
    while (d->covered)
        d = d->covered;
    d = dentry_get(d);
    dentry_put(*cur);
    *cur = d;
}

static int read_link(struct dentry *d, char *buf, size_t cap)
{
    const struct inode_ops *ops = d->inode->ops;
    size_t n;

    if (ops && ops->readlink) {
        long r = ops->readlink(d->inode, buf, cap - 1);

        if (r >= 0)
            buf[r] = 0;
        return (int)r;
    }
    if (!d->inode->target)
        return -EINVAL;
    n = strlcpy(buf, d->inode->target, cap);
    return n < cap ? (int)n : -ENAMETOOLONG;
}

struct steps {
    struct dentry *cur, *root;
    char *text, *rest; /* text: PATH_CAP bytes; rest: what of it is still to do */
    char *spare;
    unsigned links;
};

/* link, whose reference is consumed, takes the place of the part just read. */
static int expand(struct steps *s, struct dentry *link)
{
    int n;

    if (++s->links > LINKS_MAX) {
        dentry_put(link);
        return -ELOOP;
    }
    if (!s->spare)
        s->spare = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
    if (!s->spare) {
        dentry_put(link);
        return -ENOMEM;
    }
    if (link->inode->ops && link->inode->ops->follow) {
        int err = 0;
        struct dentry *to = link->inode->ops->follow(link->inode, &err);

        dentry_put(link);
        if (!to)
            return err;
        dentry_put(s->cur);
        s->cur = to;
        return 0;
    }
    n = read_link(link, s->spare, PATH_CAP);
    dentry_put(link);
    if (n <= 0)
        return n ? n : -ENOENT;
    if ((size_t)n + strlen(s->rest) + 2 > PATH_CAP)
        return -ENAMETOOLONG;
    if (s->spare[0] == '/') {
        dentry_put(s->cur);
        s->cur = dentry_get(s->root);
    }
    if (*s->rest) { /* begins with the slash that followed the name */
        memcpy(s->spare + n, s->rest, strlen(s->rest) + 1);
    }
    char *t = s->text;

    s->text = s->rest = s->spare;
    s->spare = t;
    return 0;
}

static int search_permission(const struct dentry *d)
{
    if ((d->inode->mode & S_IFMT) != S_IFDIR)
        return -ENOTDIR;
    return inode_permission(d->inode, 1);
}

/* The next part of s->rest is name[0..len). */
static int one_part(struct steps *s, const char *name, bool last, bool slash, unsigned flags)
{
    struct dentry *d;
    int err;

    if (!strcmp(name, "."))
        return 0;
    if (!strcmp(name, "..")) {
        go_up(&s->cur, s->root);
        return 0;
    }
    d = lookup_one(s->cur, name, &err);
    if (!d)
        return err;
    if ((d->inode->mode & S_IFMT) == S_IFLNK && (!last || slash || (flags & WALK_FOLLOW)))
        return expand(s, d);
    dentry_put(s->cur);
    s->cur = d;
    return 0;
}

static int walk_steps(struct steps *s, unsigned flags, struct walk *w)
{
    char name[NAME_LIMIT + 1];

    for (;;) {
        size_t n = 0;
        char *after;
        bool slash;
        int err;

        while (*s->rest == '/')
            s->rest++;
        if (!*s->rest) {
            w->special = true;
            return 0;
        }
        err = search_permission(s->cur);
        if (err)
            return err;
        while (s->rest[n] && s->rest[n] != '/')
            n++;
        if (n > NAME_LIMIT)
            return -ENAMETOOLONG;
        memcpy(name, s->rest, n);
        name[n] = 0;
        s->rest += n;
        slash = *s->rest == '/';
        for (after = s->rest; *after == '/'; after++)
            ;
        if (!*after && (flags & WALK_PARENT)) {
            memcpy(w->last, name, n + 1);
            w->slash = slash;
            w->special = !strcmp(name, ".") || !strcmp(name, "..");
            return 0;
        }
        w->slash = slash;
        err = one_part(s, name, !*after, slash, flags);
        if (err)
            return err;
    }
}

static int walk_start(struct dentry *base, int dirfd, const char *path, unsigned flags,
                      struct steps *s)
{
    struct file *f;

    s->root = fs_rootdir();
    if (*path == '/' || base) {
        s->cur = dentry_get(*path == '/' ? s->root : base);
        return 0;
    }
    if (!*path && !(flags & WALK_EMPTY))
        return -ENOENT;
    if (dirfd == AT_FDCWD) {
        s->cur = fs_cwd();
        return 0;
    }
    f = fd_get(dirfd);
    if (!f)
        return -EBADF;
    if (!*path || (f->inode->mode & S_IFMT) == S_IFDIR)
        s->cur = dentry_get(f->dentry);
    file_put(f);
    return s->cur ? 0 : -ENOTDIR;
}

/*
 * A descriptor whose last reference falls here may release a file, which is safe:
 * no release takes the tree lock.
 */
static int walk_any(struct dentry *base, int dirfd, const char *path, unsigned flags,
                    struct walk *w)
{
    struct steps s = {.links = 0};
    int err;

    memset(w, 0, sizeof *w);
    err = walk_start(base, dirfd, path, flags, &s);
    if (!err) {
        s.text = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
        err = s.text ? 0 : -ENOMEM;
    }
    if (!err && strlcpy(s.text, path, PATH_CAP) >= PATH_CAP)
        err = -ENAMETOOLONG;
    if (!err) {
        s.rest = s.text;
        err = walk_steps(&s, flags, w);
    }
    if (!err && w->slash && !(flags & WALK_PARENT) && (s.cur->inode->mode & S_IFMT) != S_IFDIR)
        err = -ENOTDIR;
    quire_kfree(s.text);
    quire_kfree(s.spare);
    dentry_put(s.root);
    if (err)
        dentry_put(s.cur);
    else
        w->d = s.cur;
    return err;
}

int path_walk_locked(int dirfd, const char *path, unsigned flags, struct walk *w)
{
    return walk_any(NULL, dirfd, path, flags, w);
}

int path_walk_from(struct dentry *base, const char *path, unsigned flags, struct walk *w)
{
    return walk_any(base, AT_FDCWD, path, flags, w);
}

int path_walk(int dirfd, const char *path, unsigned flags, struct walk *w)
{
    int err;

    kmutex_lock(&fs_tree_lock);
    err = path_walk_locked(dirfd, path, flags, w);
    kmutex_unlock(&fs_tree_lock);
    return err;
}

char *path_from_user(u64 upath, int *err)
{
    char *buf = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);
    long n;

    *err = -ENOMEM;
    if (!buf)
        return NULL;
    n = strncpy_from_user(buf, upath, PATH_CAP);
    if (n < 0) {
        quire_kfree(buf);
        *err = (int)n;
        return NULL;
    }
    *err = 0;
    return buf;
}

int walk_user(int dirfd, u64 upath, unsigned flags, struct walk *w)
{
    int err;
    char *path = path_from_user(upath, &err);

    if (!path)
        return err;
    err = path_walk(dirfd, path, flags, w);
    quire_kfree(path);
    return err;
}
