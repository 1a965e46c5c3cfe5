/*
 * kernel/ipc/ipc.c - System V IPC: identifiers, keys and permissions of its three kinds of objects.
 *
 * Model.  An identifier is a slot's number plus a sequence number times IPC_SPAN, so that a number is not soon
 * given to another object.  Slots are found by number, objects with a key by a hash.  Each kind has one
 * spin lock for its table and its objects: operations are short, and whoever must wait sleeps on a queue of the
 * object with a reference to it.  What may sleep (memory, user memory, mapping) is done outside.
 *
 * Sources: svipc(7), ipc(2), POSIX.
 */
#include "ipc.h"

#define IPC_SPAN 32768

struct ipc_limits ipc_limits = {.shmmax = ~0ull - (1ull << 24),
                                .shmall = ~0ull - (1ull << 24),
                                .shmmni = 4096,
                                .msgmax = 8192,
                                .msgmnb = 16384,
                                .msgmni = 32000,
                                .semmsl = 32000,
                                .semmns = 1024000000,
                                .semopm = 500,
                                .semmni = 32000};

static struct ipc_object **slot_of(struct ipc_kind *k, unsigned index)
{
    struct ipc_object **leaf = index < k->high ? k->leaf[index / IPC_LEAF] : NULL;

    return leaf ? &leaf[index % IPC_LEAF] : NULL;
}

struct ipc_object *ipc_at_locked(struct ipc_kind *k, int index)
{
    struct ipc_object **slot = index < 0 ? NULL : slot_of(k, (unsigned)index % IPC_SPAN);

    return slot ? *slot : NULL;
}

struct ipc_object *ipc_find_locked(struct ipc_kind *k, int id, int *err)
{
    struct ipc_object *o = id < 0 ? NULL : ipc_at_locked(k, id);

    *err = !o ? -EINVAL : o->id != id ? -EIDRM : 0;
    return *err ? NULL : o;
}

static struct ipc_object **bucket_of(struct ipc_kind *k, int key)
{
    return &k->bucket[((u32)key * 2654435761u) >> 24 & (IPC_BUCKETS - 1)];
}

static struct ipc_object *by_key_locked(struct ipc_kind *k, int key)
{
    struct ipc_object *o = *bucket_of(k, key);

    while (o && o->key != key)
        o = o->chain;
    return o;
}

void ipc_forget_key_locked(struct ipc_kind *k, struct ipc_object *o)
{
    struct ipc_object **at = bucket_of(k, o->key);

    if (o->key == IPC_PRIVATE)
        return;
    while (*at != o)
        at = &(*at)->chain;
    *at = o->chain;
    o->key = IPC_PRIVATE;
}

int ipc_highest_locked(const struct ipc_kind *k)
{
    unsigned i = k->high;

    while (i && (!k->leaf[(i - 1) / IPC_LEAF] || !k->leaf[(i - 1) / IPC_LEAF][(i - 1) % IPC_LEAF]))
        i--;
    return i ? (int)i - 1 : 0;
}

static bool in_group(u32 gid)
{
    const struct process *p = current_process();

    if (p->egid == gid)
        return true;
    for (int i = 0; i < p->ngroups; i++)
        if (p->groups[i] == gid)
            return true;
    return false;
}

/* want: permission bits, of owner, group and others alike. */
bool ipc_allowed(const struct ipc_object *o, u32 want)
{
    const struct process *p = current_process();
    u32 has = o->mode;

    want = (want >> 6 | want >> 3 | want) & 7;
    if (p->euid == o->uid || p->euid == o->cuid)
        has >>= 6;
    else if (in_group(o->gid) || in_group(o->cgid))
        has >>= 3;
    return !(want & ~has) || capable(CAP_IPC_OWNER);
}

bool ipc_owned(const struct ipc_object *o)
{
    u32 uid = current_process()->euid;

    return uid == o->uid || uid == o->cuid || capable(CAP_SYS_ADMIN);
}

void ipc_perm_fill(struct ipc_perm *to, const struct ipc_object *o)
{
    *to = (struct ipc_perm){.key = o->key,
                            .uid = o->uid,
                            .gid = o->gid,
                            .cuid = o->cuid,
                            .cgid = o->cgid,
                            .mode = o->mode,
                            .seq = o->seq};
}

void ipc_perm_set(struct ipc_object *o, const struct ipc_perm *from)
{
    o->uid = from->uid;
    o->gid = from->gid;
    o->mode = (o->mode & ~0777u) | (from->mode & 0777);
}

static bool slot_free_locked(struct ipc_kind *k, unsigned index)
{
    struct ipc_object **slot = slot_of(k, index);

    return !slot || !*slot;
}

/* The lowest free slot; the one wanted, and then the sequence number too, if it is free. */
static unsigned free_slot_locked(struct ipc_kind *k)
{
    unsigned i = 0, wanted = (unsigned)(k->next_id - 1);
    bool want = k->next_id;

    k->next_id = 0;
    if (want && wanted % IPC_SPAN < IPC_MAX && slot_free_locked(k, wanted % IPC_SPAN)) {
        k->seq = (u16)(wanted / IPC_SPAN);
        return wanted % IPC_SPAN;
    }
    if (k->used == k->high)
        return k->high;
    while (!slot_free_locked(k, i))
        i++;
    return i;
}

/* *leaf is a leaf that the slot may need. */
static int add_locked(struct ipc_kind *k, struct ipc_object *o, struct ipc_object ***leaf)
{
    const struct process *p = current_process();
    unsigned index = free_slot_locked(k);

    if (!k->leaf[index / IPC_LEAF]) {
        k->leaf[index / IPC_LEAF] = *leaf;
        *leaf = NULL;
    }
    k->high = K_MAX(k->high, index + 1);
    *slot_of(k, index) = o;
    k->used++;
    o->seq = k->seq;
    k->seq = (u16)(k->seq + 1) & 0x7fff;
    o->id = (int)(o->seq * IPC_SPAN + index);
    o->uid = o->cuid = p->euid;
    o->gid = o->cgid = p->egid;
    o->refs = 1;
    o->removed = false;
    if (o->key != IPC_PRIVATE) {
        struct ipc_object **at = bucket_of(k, o->key);

        o->chain = *at;
        *at = o;
    }
    return o->id;
}

/* The table forgets o; its reference is still to be put. */
void ipc_remove_locked(struct ipc_kind *k, struct ipc_object *o)
{
    ipc_forget_key_locked(k, o);
    *slot_of(k, (unsigned)o->id % IPC_SPAN) = NULL;
    k->used--;
    o->removed = true;
}

bool ipc_put_locked(struct ipc_object *o) { return --o->refs == 0; }

static int existing_locked(const struct ipc_request *r, struct ipc_object *o)
{
    int err;

    if ((r->flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
        return -EEXIST;
    err = r->check(o, r->size);
    if (err)
        return err;
    return ipc_allowed(o, (u32)r->flags & 0777) ? o->id : -EACCES;
}

int ipc_get(struct ipc_kind *k, const struct ipc_request *r, struct ipc_object *fresh, bool *taken)
{
    struct ipc_object **leaf = NULL, *o;
    unsigned long flags;
    int id;

    *taken = false;
    if (fresh) {
        leaf = quire_kmalloc(IPC_LEAF * sizeof(*leaf), QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
        if (!leaf)
            return -ENOMEM;
    }
    flags = kspin_lock(&k->lock);
    o = r->key == IPC_PRIVATE ? NULL : by_key_locked(k, r->key);
    if (o) {
        id = existing_locked(r, o);
    } else if (!fresh || (r->key != IPC_PRIVATE && !(r->flags & IPC_CREAT))) {
        id = -ENOENT;
    } else if (k->used >= K_MIN(*k->max, (u64)IPC_MAX)) {
        id = -ENOSPC;
    } else {
        fresh->key = r->key;
        fresh->mode = (u32)r->flags & 0777;
        id = add_locked(k, fresh, &leaf);
        *taken = true;
    }
    kspin_unlock(&k->lock, flags);
    quire_kfree(leaf);
    return id;
}

/* ---- /proc ---- */

static struct ipc_kind *kind_of(enum ipc_which which)
{
    return which == IPC_SHM ? &ipc_shm : which == IPC_MSG ? &ipc_msg : &ipc_sem;
}

int ipc_next_id(enum ipc_which which)
{
    return __atomic_load_n(&kind_of(which)->next_id, __ATOMIC_RELAXED) - 1;
}

void ipc_set_next_id(enum ipc_which which, int id)
{
    struct ipc_kind *k = kind_of(which);
    unsigned long flags = kspin_lock(&k->lock);

    k->next_id = id + 1;
    kspin_unlock(&k->lock, flags);
}

static int heading(enum ipc_which which, char *buf, size_t cap)
{
    static const char *const text[IPC_KINDS] = {
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  "
        "cgid"
        "      atime      dtime      ctime                   rss                  swap\n",
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
        "      stime      rtime      ctime\n",
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"};

    return (int)strlcpy(buf, text[which], cap);
}

int ipc_line(enum ipc_which which, int index, char *buf, size_t cap)
{
    struct ipc_kind *k = kind_of(which);

    if (index < 0)
        return heading(which, buf, cap);
    if ((unsigned)index >= __atomic_load_n(&k->high, __ATOMIC_RELAXED))
        return -1;
    return which == IPC_SHM   ? shm_line(index, buf, cap)
           : which == IPC_MSG ? msg_line(index, buf, cap)
                              : sem_line(index, buf, cap);
}
