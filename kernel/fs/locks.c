/*
 * fs/locks.c - advisory locks: POSIX (fcntl F_SETLK), open-file-description (F_OFD_SETLK), flock(2).
 *
 * All locks of a file hang on its inode, under one mutex; whoever waits for a lock sleeps on one
 * queue and tries again when any lock goes.
 */
#include "fsint.h"
#include <signal.h>

enum lock_kind { LOCK_POSIX, LOCK_OFD, LOCK_FLOCK };

struct file_lock {
    struct file_lock *next;
    enum lock_kind kind;
    bool exclusive;
    void *owner;    /* descriptor table, or struct file */
    u64 start, end; /* both included */
    int pid;
};

struct kflock {
    int16_t type, whence;
    i64 start, len;
    int pid;
};

#define F_GETLK      5
#define F_SETLK      6
#define F_SETLKW     7
#define F_OFD_GETLK  36
#define F_OFD_SETLK  37
#define F_OFD_SETLKW 38
#define F_RDLCK      0
#define F_WRLCK      1
#define F_UNLCK      2

static struct kmutex locks_mutex;
static struct waitq locks_wait;
static u64 generation; /* of releases; atomic */

static void released(void)
{
    __atomic_add_fetch(&generation, 1, __ATOMIC_RELEASE);
    waitq_wake_all(&locks_wait);
}

static bool same_family(enum lock_kind a, enum lock_kind b)
{
    return (a == LOCK_FLOCK) == (b == LOCK_FLOCK);
}

static struct file_lock *conflict(struct inode *i, const struct file_lock *want)
{
    struct file_lock *l = i->locks;

    while (l &&
           (!same_family(l->kind, want->kind) || l->owner == want->owner || l->end < want->start ||
            l->start > want->end || (!l->exclusive && !want->exclusive)))
        l = l->next;
    return l;
}

/* Take [want] out of the locks of its owner; *spare serves when one is cut in two. */
static bool cut(struct inode *i, const struct file_lock *want, struct file_lock **spare)
{
    struct file_lock **at = &i->locks;
    bool any = false;

    while (*at) {
        struct file_lock *l = *at;

        if (l->owner != want->owner || l->kind != want->kind || l->end < want->start ||
            l->start > want->end) {
            at = &l->next;
            continue;
        }
        any = true;
        if (l->start < want->start && l->end > want->end) {
            struct file_lock *tail = *spare;

            *spare = NULL;
            *tail = *l;
            tail->start = want->end + 1;
            l->end = want->start - 1;
            l->next = tail;
            at = &tail->next;
        } else if (l->start < want->start) {
            l->end = want->start - 1;
            at = &l->next;
        } else if (l->end > want->end) {
            l->start = want->end + 1;
            at = &l->next;
        } else {
            *at = l->next;
            quire_kfree(l);
        }
    }
    return any;
}

/* Set or (unlock) remove; wait: sleep while somebody else's lock stands in the way. */
static int apply(struct inode *i, const struct file_lock *want, bool unlock, bool wait)
{
    struct file_lock *fresh = quire_kmalloc(sizeof *fresh, QUIRE_GFP_KERNEL);
    struct file_lock *spare = quire_kmalloc(sizeof *spare, QUIRE_GFP_KERNEL);
    int err = fresh && spare ? 0 : -ENOMEM;
    bool freed = false;

    while (!err) {
        u64 seen;

        kmutex_lock(&locks_mutex);
        seen = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
        if (unlock || !conflict(i, want)) {
            freed = cut(i, want, &spare);
            if (!unlock) {
                *fresh = *want;
                fresh->next = i->locks;
                i->locks = fresh;
                fresh = NULL;
            }
            kmutex_unlock(&locks_mutex);
            break;
        }
        kmutex_unlock(&locks_mutex);
        if (!wait)
            err = -EAGAIN;
        else if (WAIT_EVENT(&locks_wait, __atomic_load_n(&generation, __ATOMIC_ACQUIRE) != seen))
            err = -ERESTARTSYS;
    }
    quire_kfree(fresh);
    quire_kfree(spare);
    if (freed)
        released();
    return err;
}

static void drop(struct inode *i, void *owner, bool posix)
{
    struct file_lock **at = &i->locks;
    bool any = false;

    kmutex_lock(&locks_mutex);
    while (*at) {
        struct file_lock *l = *at;

        if (l->owner == owner && (l->kind == LOCK_POSIX) == posix) {
            *at = l->next;
            quire_kfree(l);
            any = true;
        } else {
            at = &l->next;
        }
    }
    kmutex_unlock(&locks_mutex);
    if (any)
        released();
}

void locks_release_owner(struct inode *i, void *owner) { drop(i, owner, true); }
void locks_release_file(struct file *f) { drop(f->inode, f, false); }

/* struct flock to a range; -EINVAL if it lies before the file, -EOVERFLOW beyond the largest. */
static int to_range(struct file *f, const struct kflock *k, struct file_lock *out)
{
    i64 base, start, end;

    switch (k->whence) {
    case 0: base = 0; break;
    case 1: base = (i64)f->pos; break;
    case 2: base = (i64)inode_size(f->inode); break;
    default: return -EINVAL;
    }
    if (__builtin_add_overflow(base, k->start, &start))
        return -EOVERFLOW;
    if (start < 0)
        return -EINVAL;
    end = INT64_MAX;
    if (k->len > 0 && __builtin_add_overflow(start, k->len - 1, &end))
        return -EOVERFLOW;
    if (k->len < 0) {
        end = start - 1;
        start += k->len;
        if (start < 0)
            return -EINVAL;
    }
    out->start = (u64)start;
    out->end = (u64)end;
    return 0;
}

static int get_lock(struct file *f, const struct file_lock *want, struct kflock *k)
{
    struct file_lock *l;

    kmutex_lock(&locks_mutex);
    l = conflict(f->inode, want);
    if (l) {
        k->type = l->exclusive ? F_WRLCK : F_RDLCK;
        k->whence = 0;
        k->start = (i64)l->start;
        k->len = l->end == INT64_MAX ? 0 : (i64)(l->end - l->start + 1);
        k->pid = l->kind == LOCK_POSIX ? l->pid : -1;
    } else {
        k->type = F_UNLCK;
    }
    kmutex_unlock(&locks_mutex);
    return 0;
}

long locks_fcntl(struct file *f, unsigned cmd, u64 arg)
{
    bool ofd = cmd >= F_OFD_GETLK, get = cmd == F_GETLK || cmd == F_OFD_GETLK;
    struct file_lock want = {.kind = ofd ? LOCK_OFD : LOCK_POSIX,
                             .owner = ofd ? (void *)f : (void *)current->proc->files,
                             .pid = current->proc->pid};
    struct kflock k;
    int err;

    if (copy_from_user(&k, arg, sizeof k))
        return -EFAULT;
    if (ofd && k.pid)
        return -EINVAL;
    if (k.type < F_RDLCK || k.type > F_UNLCK || (get && k.type == F_UNLCK))
        return -EINVAL;
    err = to_range(f, &k, &want);
    if (err)
        return err;
    want.exclusive = k.type == F_WRLCK;
    if (get) {
        get_lock(f, &want, &k);
        return copy_to_user(arg, &k, sizeof k);
    }
    if ((k.type == F_RDLCK && !file_readable(f)) || (k.type == F_WRLCK && !file_writable(f)))
        return -EBADF;
    return apply(f->inode, &want, k.type == F_UNLCK, cmd == F_SETLKW || cmd == F_OFD_SETLKW);
}

#define LOCK_SH 1
#define LOCK_EX 2
#define LOCK_NB 4
#define LOCK_UN 8

long sys_flock(int fd, unsigned op)
{
    struct file *f;
    struct file_lock want = {.kind = LOCK_FLOCK, .end = INT64_MAX, .pid = current->proc->pid};
    unsigned what = op & ~LOCK_NB;
    long r;

    if (what != LOCK_SH && what != LOCK_EX && what != LOCK_UN)
        return -EINVAL;
    f = fd_get(fd);
    if (!f)
        return -EBADF;
    want.owner = f;
    want.exclusive = what == LOCK_EX;
    r = f->flags & O_PATH ? -EBADF : apply(f->inode, &want, what == LOCK_UN, !(op & LOCK_NB));
    file_put(f);
    return r;
}
