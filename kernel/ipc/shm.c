/*
 * kernel/ipc/shm.c - System V shared memory: shmget, shmat, shmdt, shmctl.
 *
 * Model.  A segment is a shared object of the library with a name.  The table holds a reference to the object
 * until IPC_RMID; afterwards only its mappings do, and the object's release removes the segment.  How
 * often a segment is attached is not counted here: it is the number of the object's mappings.
 *
 * Locking: release runs where a mapping ends, with the space locked, so ipc_shm.lock comes after a space's lock and no
 * reference to an object is dropped under ipc_shm.lock.
 *
 * Sources: shmget(2), shmop(2), shmctl(2).
 */
#include "ipc.h"

enum { SHM_LOCK = 11, SHM_UNLOCK, SHM_STAT, SHM_INFO, SHM_STAT_ANY };
#define SHM_HUGETLB 04000
#define SHM_RDONLY  010000
#define SHM_RND     020000
#define SHM_REMAP   040000
#define SHM_EXEC    0100000
#define SHM_MAGIC   0x53484d53u
#define SHM_DEST    01000u
#define SHM_LOCKED  02000u

struct shm_segment {
    u32 magic; /* first, where an inode has its own: tells what a cookie is */
    struct ipc_object ipc;
    struct quire_object *object;
    u64 size, atime, dtime, ctime;
    int creator, last;
};

struct shm_ds {
    struct ipc_perm perm;
    u64 size, atime, dtime, ctime;
    int creator, last;
    u64 attached, unused[2];
};

struct ipc_kind ipc_shm = {.max = &ipc_limits.shmmni};
static u64 total_pages; /* under ipc_shm.lock */

static struct shm_segment *segment(struct ipc_object *o)
{
    return K_CONTAINER(o, struct shm_segment, ipc);
}

static u64 pages(const struct shm_segment *s)
{
    return K_UP(s->size, QUIRE_PAGE_SIZE) >> QUIRE_PAGE_SHIFT;
}

/* The last reference to the object is gone: after IPC_RMID, or before it was ever in the table. */
static void release(void *cookie)
{
    struct shm_segment *s = cookie;
    unsigned long flags = kspin_lock(&ipc_shm.lock);

    if (s->ipc.refs) {
        total_pages -= pages(s);
        ipc_remove_locked(&ipc_shm, &s->ipc);
    }
    kspin_unlock(&ipc_shm.lock, flags);
    quire_kfree(s);
}

static const struct quire_pager shm_pager = {.release = release};

/* ---- shmget ---- */

static int size_fits(struct ipc_object *o, u64 size)
{
    return size > segment(o)->size ? -EINVAL : 0;
}

static int segment_new(u64 size, struct shm_segment **out)
{
    struct shm_segment *s = quire_kmalloc(sizeof(*s), QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    enum quire_status st;

    if (!s)
        return -ENOMEM;
    st = quire_object_create_shared(K_UP(size, QUIRE_PAGE_SIZE), &s->object);
    if (st != QUIRE_OK) {
        quire_kfree(s);
        return (int)kerr(st);
    }
    quire_object_set_cookie(s->object, s, &shm_pager);
    s->magic = SHM_MAGIC;
    s->size = size;
    s->ctime = ipc_now();
    s->creator = current_process()->pid;
    *out = s;
    return 0;
}

/* Count the pages of s first, so that the sum is right when others see it. */
static int enter(const struct ipc_request *r, struct shm_segment *s)
{
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    bool taken = false, full = total_pages + pages(s) > ipc_limits.shmall;
    int id;

    if (!full)
        total_pages += pages(s);
    kspin_unlock(&ipc_shm.lock, flags);
    id = full ? -ENOSPC : ipc_get(&ipc_shm, r, &s->ipc, &taken);
    if (taken)
        return id;
    if (!full) {
        flags = kspin_lock(&ipc_shm.lock);
        total_pages -= pages(s);
        kspin_unlock(&ipc_shm.lock, flags);
    }
    quire_object_put(s->object);
    return id;
}

long sys_shmget(int key, u64 size, int flags)
{
    struct ipc_request r = {.key = key, .flags = flags, .check = size_fits, .size = size};
    struct shm_segment *s = NULL;
    bool taken;
    int id = ipc_get(&ipc_shm, &r, NULL, &taken);

    if (id != -ENOENT || (key != IPC_PRIVATE && !(flags & IPC_CREAT)))
        return id;
    if (!size || size > ipc_limits.shmmax)
        return -EINVAL;
    if (flags & SHM_HUGETLB) /* there is no pool of huge pages */
        return -EINVAL;
    id = segment_new(size, &s);
    return id ? id : enter(&r, s);
}

/* ---- shmat, shmdt ---- */

/* The segment's object, referenced; asked with the rights want. */
static struct quire_object *object_of(int id, u32 want, int *err)
{
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    struct ipc_object *o = ipc_find_locked(&ipc_shm, id, err);
    struct quire_object *object = NULL;

    if (o && !ipc_allowed(o, want))
        *err = -EACCES;
    else if (o && !quire_object_tryget(segment(o)->object))
        *err = -EIDRM;
    else if (o)
        object = segment(o)->object;
    kspin_unlock(&ipc_shm.lock, flags);
    return object;
}

/* The id's segment was attached (or detached) just now. */
static void touched(struct quire_object *object, bool attached)
{
    struct shm_segment *s = quire_object_cookie(object);
    unsigned long flags = kspin_lock(&ipc_shm.lock);

    *(attached ? &s->atime : &s->dtime) = ipc_now();
    s->last = current_process()->pid;
    kspin_unlock(&ipc_shm.lock, flags);
}

static int place(u64 *addr, int flags)
{
    if (!*addr)
        return flags & SHM_REMAP ? -EINVAL : 0;
    if (*addr & (QUIRE_PAGE_SIZE - 1)) {
        if (!(flags & SHM_RND))
            return -EINVAL;
        *addr = K_DOWN(*addr, QUIRE_PAGE_SIZE);
        if (!*addr && flags & SHM_REMAP)
            return -EINVAL;
    }
    return 0;
}

static long attach(struct quire_object *object, u64 addr, int flags)
{
    unsigned prot = QUIRE_READ | (flags & SHM_RDONLY ? 0 : QUIRE_WRITE);
    struct quire_mmap m = {.addr = Q_UVA(addr),
                           .len = quire_object_size(object),
                           .prot = prot | (flags & SHM_EXEC ? QUIRE_EXEC : 0),
                           .max_prot = prot | QUIRE_EXEC,
                           .flags = QUIRE_MAP_SHARED,
                           .object = object};
    enum quire_status st;
    q_uva out;

    if (addr && addr + m.len < addr)
        return -EINVAL;
    if (addr)
        m.flags |= flags & SHM_REMAP ? QUIRE_MAP_FIXED : QUIRE_MAP_FIXED_NOREPLACE;
    st = quire_mmap(current->space, &m, &out);
    if (st == QUIRE_EXISTS)
        return -EINVAL;
    if (st != QUIRE_OK)
        return kerr(st);
    touched(object, true);
    return (long)out.v;
}

long sys_shmat(int id, u64 addr, int flags)
{
    u32 want = flags & SHM_RDONLY ? 0444 : 0666;
    struct quire_object *object;
    long at;
    int err;

    if (id < 0)
        return -EINVAL;
    err = place(&addr, flags);
    if (err)
        return err;
    object = object_of(id, want | (flags & SHM_EXEC ? 0111 : 0), &err);
    if (!object)
        return err;
    at = attach(object, addr, flags);
    quire_object_put(object);
    return at;
}

static struct shm_segment *segment_of(struct quire_object *o)
{
    struct shm_segment *s = quire_object_cookie(o);

    return quire_object_kind(o) == QUIRE_OBJECT_SHARED && s && s->magic == SHM_MAGIC ? s : NULL;
}

bool ipc_shm_name(struct quire_object *o, char *name, size_t cap, u64 *id)
{
    struct shm_segment *s = segment_of(o);

    if (s) {
        ksnprintf(name, cap, "/SYSV%08x (deleted)", (unsigned)s->ipc.key);
        *id = (u64)s->ipc.id;
    }
    return s;
}

bool ipc_shm_ends(struct quire_object *o)
{
    struct shm_segment *s = segment_of(o);

    return s && __atomic_load_n(&s->ipc.mode, __ATOMIC_RELAXED) & SHM_DEST &&
           quire_object_mappings(o) == 1;
}

/* The first part of a segment attached at addr that is still there, at from or above; its object comes referenced. */
static struct quire_object *attached_part(u64 addr, u64 from, struct quire_vma_info *v)
{
    struct quire_object *o;
    u64 offset;

    for (; quire_space_vma(current->space, Q_UVA(from), false, v) == QUIRE_OK; from = v->end.v) {
        if (v->start.v < addr || v->start.v - addr != v->offset)
            continue;
        o = quire_space_object(current->space, v->start, &offset);
        if (o && segment_of(o))
            return o;
        if (o)
            quire_object_put(o);
    }
    return NULL;
}

long sys_shmdt(u64 addr)
{
    struct quire_object *object, *part;
    struct quire_vma_info v;
    u64 end;
    long err;

    if (addr & (QUIRE_PAGE_SIZE - 1) || !(object = attached_part(addr, addr, &v)))
        return -EINVAL;
    end = addr + quire_object_size(object);
    touched(object, false);
    err = kerr(quire_munmap(current->space, v.start, v.end.v - v.start.v));
    while (!err && v.end.v < end && (part = attached_part(addr, v.end.v, &v))) {
        if (part == object)
            err = kerr(quire_munmap(current->space, v.start, v.end.v - v.start.v));
        quire_object_put(part);
    }
    quire_object_put(object);
    return err;
}

/* ---- shmctl ---- */

static void describe_locked(const struct shm_segment *s, struct shm_ds *ds)
{
    *ds = (struct shm_ds){.size = s->size,
                          .atime = s->atime,
                          .dtime = s->dtime,
                          .ctime = s->ctime,
                          .creator = s->creator,
                          .last = s->last};
    ipc_perm_fill(&ds->perm, &s->ipc);
}

/* IPC_STAT of an identifier; the other two of a slot: its identifier, or -errno. */
static int look(int id, int cmd, struct shm_ds *ds, u64 *present)
{
    struct quire_object *object = NULL;
    struct ipc_object *o;
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    int result = -EINVAL, err = -EINVAL;

    o = cmd == IPC_STAT ? ipc_find_locked(&ipc_shm, id, &err) : ipc_at_locked(&ipc_shm, id);
    if (o && cmd != SHM_STAT_ANY && !ipc_allowed(o, 0444)) {
        err = -EACCES;
    } else if (o && quire_object_tryget(segment(o)->object)) {
        object = segment(o)->object;
        describe_locked(segment(o), ds);
        result = o->id;
    }
    kspin_unlock(&ipc_shm.lock, flags);
    if (!object)
        return err;
    ds->attached = quire_object_mappings(object);
    *present = quire_object_resident(object);
    quire_object_put(object);
    return result;
}

static long status(int id, int cmd, u64 buf)
{
    struct shm_ds ds;
    u64 present;
    int found = look(id, cmd, &ds, &present);

    if (found < 0)
        return found;
    if (copy_to_user(buf, &ds, sizeof(ds)))
        return -EFAULT;
    return cmd == IPC_STAT ? 0 : found;
}

int shm_line(int index, char *buf, size_t cap)
{
    struct shm_ds ds;
    u64 present;
    int id = look(index, SHM_STAT_ANY, &ds, &present);

    if (id < 0)
        return 0;
    return ksnprintf(
        buf, cap,
        "%10d %10d  %4o %21lu %5u %5u  %5lu %5u %5u %5u %5u %10lu %10lu %10lu %21lu %21lu\n",
        ds.perm.key, id, ds.perm.mode, (unsigned long)ds.size, (unsigned)ds.creator,
        (unsigned)ds.last, (unsigned long)ds.attached, ds.perm.uid, ds.perm.gid, ds.perm.cuid,
        ds.perm.cgid, (unsigned long)ds.atime, (unsigned long)ds.dtime, (unsigned long)ds.ctime,
        (unsigned long)(present << QUIRE_PAGE_SHIFT), 0ul);
}

static long limits(u64 buf)
{
    struct {
        u64 max, min, ids, per_process, all, unused[4];
    } info = {ipc_limits.shmmax, 1, ipc_limits.shmmni, ipc_limits.shmmni, ipc_limits.shmall, {0}};
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    int highest = ipc_highest_locked(&ipc_shm);

    kspin_unlock(&ipc_shm.lock, flags);
    return copy_to_user(buf, &info, sizeof(info)) ? -EFAULT : highest;
}

/* Pages of all segments that are there: each slot is looked at alone. */
static u64 resident(int highest)
{
    u64 sum = 0;

    for (int i = 0; i <= highest; i++) {
        unsigned long flags = kspin_lock(&ipc_shm.lock);
        struct ipc_object *o = ipc_at_locked(&ipc_shm, i);

        sum += o ? quire_object_resident(segment(o)->object) : 0;
        kspin_unlock(&ipc_shm.lock, flags);
    }
    return sum;
}

static long usage(u64 buf)
{
    struct {
        int used, pad;
        u64 total, resident, swapped, swap_attempts, swap_successes;
    } info = {0};
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    int highest = ipc_highest_locked(&ipc_shm);

    info.used = (int)ipc_shm.used;
    info.total = total_pages;
    kspin_unlock(&ipc_shm.lock, flags);
    info.resident = resident(highest);
    return copy_to_user(buf, &info, sizeof(info)) ? -EFAULT : highest;
}

static long set(int id, const struct ipc_perm *perm)
{
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_shm, id, &err);

    if (o && !ipc_owned(o)) {
        err = -EPERM;
    } else if (o) {
        ipc_perm_set(o, perm);
        segment(o)->ctime = ipc_now();
    }
    kspin_unlock(&ipc_shm.lock, flags);
    return err;
}

/* The name goes at once, the memory with the last mapping. */
static long remove(int id)
{
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    struct quire_object *object = NULL;
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_shm, id, &err);

    if (o && !ipc_owned(o)) {
        err = -EPERM;
    } else if (o && !(o->mode & SHM_DEST)) {
        ipc_forget_key_locked(&ipc_shm, o);
        o->mode |= SHM_DEST;
        object = segment(o)->object;
    }
    kspin_unlock(&ipc_shm.lock, flags);
    if (object)
        quire_object_put(object);
    return err;
}

/* Nothing here is ever swapped out: only the mark has to be kept. */
static long lock_pages(int id, bool lock)
{
    const struct process *p = current_process();
    unsigned long flags = kspin_lock(&ipc_shm.lock);
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_shm, id, &err);

    if (o && !capable(CAP_IPC_LOCK) &&
        ((p->euid != o->uid && p->euid != o->cuid) || (lock && !p->rlim[RLIMIT_MEMLOCK].cur)))
        err = -EPERM;
    else if (o)
        o->mode = lock ? o->mode | SHM_LOCKED : o->mode & ~SHM_LOCKED;
    kspin_unlock(&ipc_shm.lock, flags);
    return err;
}

long sys_shmctl(int id, int cmd, u64 buf)
{
    struct shm_ds ds;

    if (cmd < 0 || id < 0)
        return -EINVAL;
    switch (cmd) {
    case IPC_INFO: return limits(buf);
    case SHM_INFO: return usage(buf);
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY: return status(id, cmd, buf);
    case IPC_SET: return copy_from_user(&ds, buf, sizeof(ds)) ? -EFAULT : set(id, &ds.perm);
    case IPC_RMID: return remove(id);
    case SHM_LOCK:
    case SHM_UNLOCK: return lock_pages(id, cmd == SHM_LOCK);
    default: return -EINVAL;
    }
}
