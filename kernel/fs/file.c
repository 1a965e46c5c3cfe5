/*
 * fs/file.c - openings, descriptor tables, and the directories that a process stands in.
 *
 * A descriptor table may be shared by threads; its slots change under its spin lock, and fd_get
 * takes a reference under it, so a file never dies under a call that uses it.
 */
#include "fsint.h"

struct fdslot {
    struct file *f;
    bool cloexec;
};

struct files {
    u32 refs; /* atomic */
    struct kspin lock;
    struct fdslot *slots; /* cap of them; under lock */
    unsigned cap;
    unsigned hint; /* no free slot below */
};

#define FDS_START 64u
#define FDS_MAX   (1u << 20)

/* ---- files ---- */

struct file *file_on(struct dentry *d, const struct file_ops *ops, u32 flags)
{
    struct file *f = quire_kzalloc(sizeof *f, QUIRE_GFP_KERNEL);

    if (!f) {
        dentry_put(d);
        return NULL;
    }
    f->ops = ops;
    f->dentry = d;
    f->inode = d->inode;
    f->flags = flags;
    f->refs = 1;
    return f;
}

struct file *file_anon(const struct file_ops *ops, const char *name, u32 mode, void *priv,
                       u32 flags)
{
    struct inode *i = inode_new(mode, MAKEDEV(0, 14));
    struct dentry *d = i ? dentry_nameless(i, name) : NULL;
    struct file *f;

    if (!d)
        return NULL;
    if (current->proc) {
        i->uid = current->proc->fsuid;
        i->gid = current->proc->fsgid;
    }
    f = file_on(d, ops, flags);
    if (f)
        f->priv = priv;
    return f;
}

struct file *file_alloc(const struct file_ops *ops, struct inode *inode, void *priv, u32 flags)
{
    struct dentry *d;
    struct file *f;

    if (!inode)
        return file_anon(ops, "anon_inode:[file]", 0600, priv, flags);
    inode_get(inode);
    d = dentry_nameless(inode, "anon_inode:[file]");
    f = d ? file_on(d, ops, flags) : NULL;
    if (f)
        f->priv = priv;
    return f;
}

void file_get(struct file *f) { __atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED); }

bool inode_claim(struct inode *i, int by)
{
    int busy = __atomic_load_n(&i->reg.busy, __ATOMIC_RELAXED);

    do {
        if (busy && (busy < 0) != (by < 0))
            return false;
    } while (!__atomic_compare_exchange_n(&i->reg.busy, &busy, busy + by, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return true;
}

void file_put(struct file *f)
{
    if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL))
        return;
    if (f->flags & O_COUNTED)
        __atomic_sub_fetch(&f->inode->reg.busy, f->flags & O_KERNEL ? -1 : 1, __ATOMIC_RELEASE);
    if (__atomic_load_n(&f->watchers, __ATOMIC_ACQUIRE))
        epoll_file_gone(f);
    if (f->inode->locks)
        locks_release_file(f);
    if (f->ops->release)
        f->ops->release(f);
    dentry_put(f->dentry);
    quire_kfree(f);
}

bool file_readable(const struct file *f)
{
    return (f->flags & O_ACCMODE) != O_WRONLY && !(f->flags & O_PATH);
}
bool file_writable(const struct file *f)
{
    return (f->flags & O_ACCMODE) != O_RDONLY && !(f->flags & O_PATH);
}

/* ---- descriptor tables ---- */

static struct fdslot *slots_alloc(unsigned n)
{
    return quire_kvcalloc(n, sizeof(struct fdslot), QUIRE_GFP_KERNEL);
}

struct files *files_new(void)
{
    struct files *fs = quire_kzalloc(sizeof *fs, QUIRE_GFP_KERNEL);

    if (!fs)
        return NULL;
    fs->refs = 1;
    fs->cap = FDS_START;
    fs->slots = slots_alloc(fs->cap);
    if (!fs->slots) {
        quire_kfree(fs);
        return NULL;
    }
    return fs;
}

struct files *files_copy(struct files *from)
{
    struct files *to = quire_kzalloc(sizeof *to, QUIRE_GFP_KERNEL);
    unsigned long flags;

    if (!to)
        return NULL;
    to->refs = 1;
    for (;;) { /* the table may grow while no lock is held */
        unsigned cap = __atomic_load_n(&from->cap, __ATOMIC_RELAXED);

        to->slots = slots_alloc(cap);
        if (!to->slots) {
            quire_kfree(to);
            return NULL;
        }
        to->cap = cap;
        flags = kspin_lock(&from->lock);
        if (from->cap <= cap)
            break;
        kspin_unlock(&from->lock, flags);
        quire_kvfree(to->slots);
    }
    for (unsigned k = 0; k < from->cap; k++) {
        to->slots[k] = from->slots[k];
        if (to->slots[k].f)
            file_get(to->slots[k].f);
    }
    to->hint = from->hint;
    kspin_unlock(&from->lock, flags);
    return to;
}

void files_get(struct files *fs) { __atomic_add_fetch(&fs->refs, 1, __ATOMIC_RELAXED); }

static void close_file(struct files *owner, struct file *f)
{
    if (__atomic_load_n(&f->inode->locks, __ATOMIC_RELAXED))
        locks_release_owner(f->inode, owner);
    file_put(f);
}

void files_put(struct files *fs)
{
    if (__atomic_sub_fetch(&fs->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (unsigned k = 0; k < fs->cap; k++)
        if (fs->slots[k].f)
            close_file(fs, fs->slots[k].f);
    quire_kvfree(fs->slots);
    quire_kfree(fs);
}

/* Take the file out of slot fd, or NULL. */
static struct file *slot_take(struct files *fs, unsigned fd)
{
    unsigned long flags = kspin_lock(&fs->lock);
    struct file *f = NULL;

    if (fd < fs->cap && fs->slots[fd].f) {
        f = fs->slots[fd].f;
        fs->slots[fd] = (struct fdslot){0};
        if (fd < fs->hint)
            fs->hint = fd;
    }
    kspin_unlock(&fs->lock, flags);
    return f;
}

void files_close_on_exec(struct files *fs)
{
    for (unsigned k = 0; k < fs->cap; k++)
        if (fs->slots[k].f && fs->slots[k].cloexec) {
            struct file *f = slot_take(fs, k);

            if (f)
                close_file(fs, f);
        }
}

struct file *files_get_fd(struct files *fs, int fd)
{
    unsigned long flags;
    struct file *f = NULL;

    if (!fs || fd < 0)
        return NULL;
    flags = kspin_lock(&fs->lock);
    if ((unsigned)fd < fs->cap) {
        f = fs->slots[fd].f;
        if (f)
            file_get(f);
    }
    kspin_unlock(&fs->lock, flags);
    return f;
}

struct file *fd_get(int fd)
{
    return current->proc ? files_get_fd(current->proc->files, fd) : NULL;
}

int files_next_fd(struct files *fs, int from)
{
    unsigned long flags = kspin_lock(&fs->lock);
    int found = -1;

    for (unsigned k = (unsigned)K_MAX(from, 0); k < fs->cap && found < 0; k++)
        if (fs->slots[k].f)
            found = (int)k;
    kspin_unlock(&fs->lock, flags);
    return found;
}

unsigned files_capacity(struct files *fs) { return __atomic_load_n(&fs->cap, __ATOMIC_RELAXED); }

/* At least want slots. */
static int files_grow(struct files *fs, unsigned want)
{
    unsigned cap = FDS_START;
    struct fdslot *slots, *old;
    unsigned long flags;

    while (cap < want)
        cap *= 2;
    slots = slots_alloc(cap);
    if (!slots)
        return -ENOMEM;
    flags = kspin_lock(&fs->lock);
    old = slots;
    if (fs->cap < cap) {
        old = fs->slots;
        memcpy(slots, old, fs->cap * sizeof *slots);
        fs->slots = slots;
        fs->cap = cap;
    }
    kspin_unlock(&fs->lock, flags);
    quire_kvfree(old);
    return 0;
}

static unsigned fd_limit(void)
{
    return (unsigned)K_MIN(current->proc->rlim[RLIMIT_NOFILE].cur, (u64)FDS_MAX);
}

int fd_install(struct file *f, bool cloexec, int from)
{
    struct files *fs = current->proc->files;
    unsigned limit = fd_limit();
    unsigned long flags;
    unsigned fd;

    for (;;) {
        flags = kspin_lock(&fs->lock);
        fd = K_MAX((unsigned)from, fs->hint);
        while (fd < fs->cap && fs->slots[fd].f)
            fd++;
        if (fd >= limit || fd < fs->cap)
            break;
        kspin_unlock(&fs->lock, flags);
        if (files_grow(fs, fd + 1)) {
            file_put(f);
            return -ENOMEM;
        }
    }
    if (fd >= limit) {
        kspin_unlock(&fs->lock, flags);
        file_put(f);
        return -EMFILE;
    }
    fs->slots[fd] = (struct fdslot){f, cloexec};
    if ((unsigned)from <= fs->hint)
        fs->hint = fd + 1;
    kspin_unlock(&fs->lock, flags);
    return (int)fd;
}

int fd_install_flags(struct file *f, u32 oflags) { return fd_install(f, oflags & O_CLOEXEC, 0); }

int fd_close(int fd)
{
    struct files *fs = current->proc->files;
    struct file *f = fd < 0 ? NULL : slot_take(fs, (unsigned)fd);

    if (!f)
        return -EBADF;
    close_file(fs, f);
    return 0;
}

long sys_close(int fd) { return fd_close(fd); }

#define CLOSE_RANGE_UNSHARE 2u
#define CLOSE_RANGE_CLOEXEC 4u

static int files_unshare(void)
{
    struct process *p = current->proc;
    struct files *copy, *old = p->files;

    if (__atomic_load_n(&old->refs, __ATOMIC_RELAXED) == 1)
        return 0;
    copy = files_copy(old);
    if (!copy)
        return -ENOMEM;
    p->files = copy;
    files_put(old);
    return 0;
}

long sys_close_range(unsigned first, unsigned last, unsigned how)
{
    struct files *fs;
    int err;

    if ((how & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) || first > last)
        return -EINVAL;
    err = how & CLOSE_RANGE_UNSHARE ? files_unshare() : 0;
    if (err)
        return err;
    fs = current->proc->files;
    for (unsigned fd = first; fd <= last && fd < fs->cap; fd++) {
        if (how & CLOSE_RANGE_CLOEXEC) {
            unsigned long flags = kspin_lock(&fs->lock);

            if (fs->slots[fd].f)
                fs->slots[fd].cloexec = true;
            kspin_unlock(&fs->lock, flags);
        } else {
            struct file *f = slot_take(fs, fd);

            if (f)
                close_file(fs, f);
        }
    }
    return 0;
}

/* ---- dup, and descriptor flags ---- */

long sys_dup(int fd)
{
    struct file *f = fd_get(fd);

    return f ? fd_install(f, false, 0) : -EBADF;
}

static long dup_to(int from, int to, bool cloexec)
{
    struct files *fs = current->proc->files;
    struct file *f, *old;
    unsigned long flags;

    if (to < 0 || (unsigned)to >= fd_limit())
        return -EBADF;
    f = fd_get(from);
    if (!f)
        return -EBADF;
    if ((unsigned)to >= fs->cap && files_grow(fs, (unsigned)to + 1)) {
        file_put(f);
        return -ENOMEM;
    }
    flags = kspin_lock(&fs->lock);
    old = fs->slots[to].f;
    fs->slots[to] = (struct fdslot){f, cloexec};
    kspin_unlock(&fs->lock, flags);
    if (old)
        close_file(fs, old);
    return to;
}

long sys_dup2(int from, int to)
{
    if (from == to) {
        struct file *f = fd_get(from);

        if (!f)
            return -EBADF;
        file_put(f);
        return to;
    }
    return dup_to(from, to, false);
}

long sys_dup3(int from, int to, int oflags)
{
    if (((u32)oflags & ~O_CLOEXEC) || from == to)
        return -EINVAL;
    return dup_to(from, to, (u32)oflags & O_CLOEXEC);
}

/* F_GETFD and F_SETFD; set < 0 asks. */
long fd_cloexec(int fd, int set)
{
    struct files *fs = current->proc->files;
    unsigned long flags = kspin_lock(&fs->lock);
    long r = -EBADF;

    if (fd >= 0 && (unsigned)fd < fs->cap && fs->slots[fd].f) {
        r = set < 0 ? fs->slots[fd].cloexec : 0;
        if (set >= 0)
            fs->slots[fd].cloexec = set & 1;
    }
    kspin_unlock(&fs->lock, flags);
    return r;
}

/* ---- where a process stands ---- */

struct fs_context *fs_context_new(void)
{
    struct fs_context *c = quire_kzalloc(sizeof *c, QUIRE_GFP_KERNEL);
    struct dentry *top = fs_root;

    if (!c)
        return NULL;
    c->refs = 1;
    c->umask = 022;
    c->cwd = dentry_get(top);
    c->root = dentry_get(top);
    return c;
}

struct fs_context *fs_context_copy(struct fs_context *from)
{
    struct fs_context *c = quire_kzalloc(sizeof *c, QUIRE_GFP_KERNEL);
    unsigned long flags;

    if (!c)
        return NULL;
    c->refs = 1;
    flags = kspin_lock(&from->lock);
    c->umask = from->umask;
    c->cwd = dentry_get(from->cwd);
    c->root = dentry_get(from->root);
    kspin_unlock(&from->lock, flags);
    return c;
}

void fs_context_get(struct fs_context *c) { __atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED); }

void fs_context_put(struct fs_context *c)
{
    if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
        return;
    dentry_put(c->cwd);
    dentry_put(c->root);
    quire_kfree(c);
}

static struct dentry *context_get(size_t member)
{
    struct fs_context *c = current && current->proc ? current->proc->fs : NULL;
    struct dentry *d;
    unsigned long flags;

    if (!c)
        return dentry_get(fs_root);
    flags = kspin_lock(&c->lock);
    d = dentry_get(*(struct dentry **)((char *)c + member));
    kspin_unlock(&c->lock, flags);
    return d;
}

static void context_set(size_t member, struct dentry *d)
{
    struct fs_context *c = current->proc->fs;
    struct dentry **at = (struct dentry **)((char *)c + member), *old;
    unsigned long flags = kspin_lock(&c->lock);

    old = *at;
    *at = d;
    kspin_unlock(&c->lock, flags);
    dentry_put(old);
}

struct dentry *fs_cwd(void) { return context_get(offsetof(struct fs_context, cwd)); }
struct dentry *fs_rootdir(void) { return context_get(offsetof(struct fs_context, root)); }
void fs_set_cwd(struct dentry *d) { context_set(offsetof(struct fs_context, cwd), d); }
void fs_set_root(struct dentry *d) { context_set(offsetof(struct fs_context, root), d); }
