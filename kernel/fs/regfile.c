/*
 * fs/regfile.c - regular files: read, write, seek, size.
 *
 * The content is the pages of the inode's object, the same that mappings show.  Bytes move between
 * those pages and the caller a page at a time.  inode.lock is held by writers only: the fault that
 * copying may cause takes no lock of the file system, so the buffer may be a mapping of this file.
 */
#include "fsint.h"
#include <signal.h>

#define SIGXFSZ 25

static int page_status(enum quire_status s)
{
    return s == QUIRE_NO_MEMORY ? -ENOSPC : (int)kerr(s);
}

/* A page that nothing was written to is zeros, and reading does not make it. */
static int read_part(struct inode *i, struct quire_object *o, struct uio *u, u64 off, size_t n)
{
    u64 index = off >> QUIRE_PAGE_SHIFT;
    struct quire_page *page = quire_object_peek(o, index);
    int err;

    if (!page && off >= i->reg.image_len)
        return uio_zero(u, n);
    if (!page) {
        enum quire_status s = quire_object_page(o, index, &page);

        if (s != QUIRE_OK)
            return (int)kerr(s);
    }
    err = uio_put(u, (char *)quire_page_ptr(page) + (off & ~QUIRE_PAGE_MASK), n);
    quire_page_put(page);
    return err;
}

static long reg_read(struct file *f, struct uio *u, u64 *pos)
{
    struct inode *i = f->inode;
    size_t before = u->left;
    int err = 0;
    struct quire_object *o = inode_object(i, &err);

    if (!o)
        return err;
    while (u->left && !err) {
        u64 size = quire_object_size(o), off = *pos + (before - u->left), part;
        size_t start = u->left;

        if (off >= size)
            break;
        part = QUIRE_PAGE_SIZE - (off & ~QUIRE_PAGE_MASK);
        part = K_MIN(part, size - off);
        err = read_part(i, o, u, off, K_MIN(part, u->left));
        if (!err && start == u->left)
            break;
        cond_resched();
    }
    if (i->atime_ns <= i->mtime_ns && before != u->left && !(f->flags & O_NOATIME))
        i->atime_ns = krealtime_ns();
    *pos += before - u->left;
    return before != u->left ? (long)(before - u->left) : err;
}

/*
 * Pages that files may still take.  A sixteenth of memory is kept for programs: with every frame in
 * files nobody could so much as start to remove one, and a program would be killed for each page.
 */
u64 file_room(void)
{
    u64 kept = quire_managed_pages() / 16, free = quire_free_pages();

    return free > kept ? free - kept : 0;
}

/* A write to page index of o would need a frame, and there is none for files. */
static bool no_room(struct quire_object *o, u64 index)
{
    struct quire_page *page;

    if (file_room())
        return false;
    page = quire_object_peek(o, index);
    if (page)
        quire_page_put(page);
    return !page;
}

static int write_part(struct quire_object *o, struct uio *u, u64 off, size_t n)
{
    struct quire_page *page;
    enum quire_status s;
    int err;

    if (no_room(o, off >> QUIRE_PAGE_SHIFT))
        return -ENOSPC;
    s = quire_object_page(o, off >> QUIRE_PAGE_SHIFT, &page);
    if (s != QUIRE_OK)
        return page_status(s);
    err = uio_get(u, (char *)quire_page_ptr(page) + (off & ~QUIRE_PAGE_MASK), n);
    quire_object_dirty(o, page);
    quire_page_put(page);
    return err;
}

/* How many of n bytes may be written at off: the limit of the process, the seals, the largest file. */
static long write_room(struct inode *i, u64 off, u64 n)
{
    u64 limit = current->proc ? current->proc->rlim[RLIMIT_FSIZE].cur : ~0ull;
    u64 largest = (u64)UINT32_MAX << QUIRE_PAGE_SHIFT;

    if (i->reg.seals & F_SEAL_WRITE || i->reg.seals & F_SEAL_FUTURE_WRITE)
        return -EPERM;
    if (off + n > inode_size(i) && (i->reg.seals & F_SEAL_GROW)) {
        if (off >= inode_size(i))
            return -EPERM;
        n = inode_size(i) - off;
    }
    if (off >= limit) {
        struct ksiginfo si = {.signo = SIGXFSZ, .pid = current->proc->pid};

        signal_task(current, &si);
        return -EFBIG;
    }
    if (off >= largest)
        return -EFBIG;
    n = K_MIN(n, limit - off);
    return (long)K_MIN(n, largest - off);
}

static long write_locked(struct inode *i, struct uio *u, u64 off)
{
    int err = 0;
    struct quire_object *o = inode_object(i, &err);
    u64 start = off;
    long room = o ? write_room(i, off, u->left) : err;

    if (room < 0)
        return room;
    while (off - start < (u64)room) {
        u64 part = QUIRE_PAGE_SIZE - (off & ~QUIRE_PAGE_MASK);
        size_t before = u->left;

        part = K_MIN(part, (u64)room - (off - start));
        err = write_part(o, u, off, part);
        off += before - u->left;
        if (err || before == u->left)
            break;
    }
    if (off > quire_object_size(o)) {
        enum quire_status s = quire_object_set_size(o, off);

        if (s != QUIRE_OK)
            return kerr(s);
    }
    if (off != start) {
        inode_touch(i);
        if (fs_uid() != 0)
            i->mode &= ~(i->mode & 010 ? S_ISUID | S_ISGID : S_ISUID);
    }
    return off != start ? (long)(off - start) : err;
}

static long reg_write(struct file *f, struct uio *u, u64 *pos)
{
    struct inode *i = f->inode;
    long n;

    if (!u->left)
        return 0;
    kmutex_lock(&i->lock);
    if (f->flags & O_APPEND)
        *pos = inode_size(i);
    n = write_locked(i, u, *pos);
    kmutex_unlock(&i->lock);
    if (n > 0)
        *pos += (u64)n;
    return n;
}

/* First index >= from that is present (data) or absent (hole), in a file of end pages. */
static u64 find_page(struct inode *i, struct quire_object *o, u64 from, u64 end, bool present)
{
    for (u64 k = from; k < end; k++) {
        struct quire_page *page = quire_object_peek(o, k);
        bool here = page || k << QUIRE_PAGE_SHIFT < i->reg.image_len;

        if (page)
            quire_page_put(page);
        if (here == present)
            return k;
        if (present && !quire_object_resident(o) && !i->reg.image_len)
            return end;
    }
    return end;
}

static i64 seek_data_hole(struct file *f, i64 off, bool data)
{
    struct inode *i = f->inode;
    int err;
    struct quire_object *o = inode_object(i, &err);
    u64 size, end, at;

    if (!o)
        return err;
    size = quire_object_size(o);
    if (off < 0 || (u64)off >= size)
        return -ENXIO;
    end = K_UP(size, QUIRE_PAGE_SIZE) >> QUIRE_PAGE_SHIFT;
    at = find_page(i, o, (u64)off >> QUIRE_PAGE_SHIFT, end, data);
    if (at == end)
        return data ? -ENXIO : (i64)size;
    return (i64)K_MAX(at << QUIRE_PAGE_SHIFT, (u64)off);
}

static i64 reg_lseek(struct file *f, i64 off, int whence)
{
    i64 base, to;

    switch (whence) {
    case 0: base = 0; break;
    case 1: base = (i64)f->pos; break;
    case 2: base = (i64)inode_size(f->inode); break;
    case 3:
    case 4:
        to = seek_data_hole(f, off, whence == 3);
        if (to >= 0)
            f->pos = (u64)to;
        return to;
    default: return -EINVAL;
    }
    if (__builtin_add_overflow(base, off, &to))
        return -EOVERFLOW;
    if (to < 0)
        return -EINVAL;
    f->pos = (u64)to;
    return to;
}

static struct quire_object *reg_mmap(struct file *f, int *err)
{
    struct quire_object *o = inode_object(f->inode, err);

    if (o)
        quire_object_get(o);
    return o;
}

static int reg_fsync(struct file *f)
{
    (void)f; /* memory is the only home */
    return 0;
}

const struct file_ops regfile_ops = {
    .read = reg_read,
    .write = reg_write,
    .lseek = reg_lseek,
    .mmap = reg_mmap,
    .fsync = reg_fsync,
};

/* ---- size ---- */

static int truncate_locked(struct inode *i, u64 size)
{
    u64 old = inode_size(i);
    int err;

    if (i->reg.seals & ((size < old ? F_SEAL_SHRINK : 0) | (size > old ? F_SEAL_GROW : 0)))
        return -EPERM;
    if (size > old && current->proc && size > current->proc->rlim[RLIMIT_FSIZE].cur) {
        struct ksiginfo si = {.signo = SIGXFSZ, .pid = current->proc->pid};

        signal_task(current, &si);
        return -EFBIG;
    }
    err = inode_set_size(i, size);
    if (!err)
        inode_touch(i);
    return err;
}

int inode_truncate(struct inode *i, u64 size)
{
    int err;

    kmutex_lock(&i->lock);
    err = truncate_locked(i, size);
    kmutex_unlock(&i->lock);
    return err;
}

static struct file *regular_fd(int fd, int *err)
{
    struct file *f = fd_get(fd);

    *err = -EBADF;
    if (!f)
        return NULL;
    if (f->flags & O_PATH)
        *err = -EBADF;
    else if ((f->inode->mode & S_IFMT) != S_IFREG || f->inode->ops)
        *err = -EINVAL;
    else
        return f;
    file_put(f);
    return NULL;
}

long sys_ftruncate(int fd, i64 size)
{
    struct file *f;
    int err;

    if (size < 0)
        return -EINVAL;
    f = regular_fd(fd, &err);
    if (!f)
        return err;
    err = file_writable(f) ? inode_truncate(f->inode, (u64)size) : -EINVAL;
    file_put(f);
    return err;
}

long sys_truncate(u64 upath, i64 size)
{
    struct walk w;
    int err;

    if (size < 0)
        return -EINVAL;
    err = walk_user(AT_FDCWD, upath, WALK_FOLLOW, &w);
    if (err)
        return err;
    if ((w.d->inode->mode & S_IFMT) == S_IFDIR)
        err = -EISDIR;
    else if ((w.d->inode->mode & S_IFMT) != S_IFREG || w.d->inode->ops)
        err = -EINVAL;
    else
        err = inode_permission(w.d->inode, 2);
    if (!err)
        err = inode_truncate(w.d->inode, (u64)size);
    dentry_put(w.d);
    return err;
}

/* ---- fallocate ---- */

#define FALLOC_KEEP_SIZE  1
#define FALLOC_PUNCH_HOLE 2

/* What the image holds comes back when a page is dropped, so there the hole is written as zeros. */
static int punch(struct inode *i, u64 off, u64 len)
{
    int err;
    struct quire_object *o = inode_object(i, &err);
    u64 size;

    if (!o)
        return err;
    size = quire_object_size(o);
    if (off >= size)
        return 0;
    if (off >= i->reg.image_len)
        return (int)kerr(quire_object_punch(o, off, len));
    for (u64 at = off; at < K_MIN(off + len, size);) {
        u64 part = K_MIN(QUIRE_PAGE_SIZE - (at & ~QUIRE_PAGE_MASK), off + len - at);
        struct quire_page *page;
        enum quire_status s = quire_object_page(o, at >> QUIRE_PAGE_SHIFT, &page);

        if (s != QUIRE_OK)
            return page_status(s);
        memset((char *)quire_page_ptr(page) + (at & ~QUIRE_PAGE_MASK), 0, part);
        quire_object_dirty(o, page);
        quire_page_put(page);
        at += part;
    }
    return 0;
}

static int reserve(struct inode *i, u64 off, u64 len, bool keep_size)
{
    int err;
    struct quire_object *o = inode_object(i, &err);

    if (!o)
        return err;
    if (off + len > current->proc->rlim[RLIMIT_FSIZE].cur || off + len > (u64)UINT32_MAX
                                                                             << QUIRE_PAGE_SHIFT)
        return -EFBIG;
    if (off + len > quire_object_size(o) && (i->reg.seals & F_SEAL_GROW))
        return -EPERM;
    if (len >> QUIRE_PAGE_SHIFT > file_room())
        return -ENOSPC;
    for (u64 k = off >> QUIRE_PAGE_SHIFT; k << QUIRE_PAGE_SHIFT < off + len; k++) {
        struct quire_page *page;
        enum quire_status s;

        if (no_room(o, k))
            return -ENOSPC;
        s = quire_object_page(o, k, &page);
        if (s != QUIRE_OK)
            return page_status(s);
        quire_page_put(page);
        if (signal_fatal_pending(current))
            return -EINTR;
        cond_resched();
    }
    if (!keep_size && off + len > quire_object_size(o))
        return (int)kerr(quire_object_set_size(o, off + len));
    return 0;
}

long sys_fallocate(int fd, int mode, i64 off, i64 len)
{
    struct file *f;
    i64 end;
    int err = 0;

    if (off < 0 || len <= 0)
        return -EINVAL;
    f = fd_get(fd);
    if (!f)
        return -EBADF;
    if (mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE))
        err = -EOPNOTSUPP;
    else if ((mode & FALLOC_PUNCH_HOLE) && !(mode & FALLOC_KEEP_SIZE))
        err = -EOPNOTSUPP;
    else if (!file_writable(f))
        err = -EBADF;
    else if ((f->inode->mode & S_IFMT) == S_IFIFO)
        err = -ESPIPE;
    else if ((f->inode->mode & S_IFMT) == S_IFDIR)
        err = -EISDIR;
    else if ((f->inode->mode & S_IFMT) != S_IFREG || f->inode->ops)
        err = -ENODEV;
    else if (__builtin_add_overflow(off, len, &end))
        err = -EFBIG;
    if (!err) {
        struct inode *i = f->inode;

        kmutex_lock(&i->lock);
        if ((mode & FALLOC_PUNCH_HOLE) && (i->reg.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
            err = -EPERM;
        else if (mode & FALLOC_PUNCH_HOLE)
            err = punch(i, (u64)off, (u64)len);
        else
            err = reserve(i, (u64)off, (u64)len, mode & FALLOC_KEEP_SIZE);
        if (!err)
            inode_touch(i);
        kmutex_unlock(&i->lock);
    }
    file_put(f);
    return err;
}

/* ---- as the rest of the kernel sees files ---- */

u64 kfile_size(struct file *f) { return inode_size(f->inode); }

struct quire_object *kfile_object(struct file *f)
{
    int err;

    if ((f->inode->mode & S_IFMT) != S_IFREG || f->inode->ops)
        return NULL;
    return inode_object(f->inode, &err);
}

long kfile_read(struct file *f, void *buf, size_t n, u64 pos)
{
    struct kiovec iov;
    struct uio u;

    uio_kernel(&u, &iov, buf, n);
    return f->ops->read ? f->ops->read(f, &u, &pos) : -EINVAL;
}

/* Seals that can still change, which only a memfd has. */
static bool seals_open(const struct file *f)
{
    return (f->inode->mode & S_IFMT) == S_IFREG && !f->inode->ops &&
           !(f->inode->reg.seals & F_SEAL_SEAL);
}

/* The lock is kept if the seals were open, so file_share_end sees them so too. */
int file_share_begin(struct file *f, bool write, unsigned *max_prot)
{
    bool open = seals_open(f);
    int err = 0;
    u32 seals;

    if ((f->inode->mode & S_IFMT) != S_IFREG || f->inode->ops)
        return 0;
    if (open)
        kmutex_lock(&f->inode->lock);
    seals = f->inode->reg.seals;
    if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) {
        if (write)
            err = -EPERM;
        else
            *max_prot &= ~QUIRE_WRITE;
    }
    if (open && (err || (seals & F_SEAL_SEAL)))
        kmutex_unlock(&f->inode->lock);
    return err;
}

/* Seals that were open at the begin are so still: only under the lock do they close. */
void file_share_end(struct file *f)
{
    if (seals_open(f))
        kmutex_unlock(&f->inode->lock);
}
