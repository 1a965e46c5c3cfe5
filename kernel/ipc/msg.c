/*
 * kernel/ipc/msg.c - System V message queues: msgget, msgsnd, msgrcv, msgctl.
 *
 * Model.  A queue is a list of messages in order of arrival.  A sender who finds it full and a receiver who finds
 * nothing that suits sleep on the queue's wait queue; every change wakes it.  Messages are copied from and to
 * user memory outside ipc_msg.lock: what a receiver has taken off the list is his alone.
 *
 * Sources: msgget(2), msgop(2), msgctl(2).
 */
#include "ipc.h"

enum { MSG_STAT = 11, MSG_INFO, MSG_STAT_ANY };
#define MSG_NOERROR 010000
#define MSG_EXCEPT  020000
#define MSG_COPY    040000

struct message {
    struct message *next;
    i64 type;
    size_t size;
    u8 text[];
};

struct msg_queue {
    struct ipc_object ipc;
    u64 stime, rtime, ctime, bytes, count, limit;
    int last_send, last_receive;
    struct message *first, **end;
    struct waitq wait;
};

struct msg_ds {
    struct ipc_perm perm;
    u64 stime, rtime, ctime, bytes, count, limit;
    int last_send, last_receive;
    u64 unused[2];
};

struct ipc_kind ipc_msg = {.max = &ipc_limits.msgmni};
static u64 total_bytes, total_messages; /* under ipc_msg.lock */

static struct msg_queue *queue_of(struct ipc_object *o)
{
    return K_CONTAINER(o, struct msg_queue, ipc);
}

static int any_size(struct ipc_object *o, u64 size)
{
    (void)o;
    (void)size;
    return 0;
}

long sys_msgget(int key, int flags)
{
    struct ipc_request r = {.key = key, .flags = flags, .check = any_size};
    struct msg_queue *q;
    bool taken;
    int id = ipc_get(&ipc_msg, &r, NULL, &taken);

    if (id != -ENOENT || (key != IPC_PRIVATE && !(flags & IPC_CREAT)))
        return id;
    q = quire_kmalloc(sizeof(*q), QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    if (!q)
        return -ENOMEM;
    q->ctime = ipc_now();
    q->limit = ipc_limits.msgmnb;
    q->end = &q->first;
    id = ipc_get(&ipc_msg, &r, &q->ipc, &taken);
    if (!taken)
        quire_kfree(q);
    return id;
}

/* ---- sending and receiving ---- */

static struct msg_queue *queue_get(int id, u32 want, int *err)
{
    unsigned long flags = kspin_lock(&ipc_msg.lock);
    struct ipc_object *o = ipc_find_locked(&ipc_msg, id, err);

    if (o && !ipc_allowed(o, want))
        *err = -EACCES;
    if (!*err)
        o->refs++;
    kspin_unlock(&ipc_msg.lock, flags);
    return *err ? NULL : queue_of(o);
}

static void queue_put(struct msg_queue *q)
{
    unsigned long flags = kspin_lock(&ipc_msg.lock);
    bool last = ipc_put_locked(&q->ipc);

    kspin_unlock(&ipc_msg.lock, flags);
    if (last)
        quire_kfree(q);
}

static int send_locked(struct msg_queue *q, struct message *m)
{
    if (q->ipc.removed)
        return -EIDRM;
    if (q->bytes + m->size > q->limit || q->count + 1 > q->limit)
        return -EAGAIN;
    *q->end = m;
    q->end = &m->next;
    q->bytes += m->size;
    q->count++;
    total_bytes += m->size;
    total_messages++;
    q->stime = ipc_now();
    q->last_send = current_process()->pid;
    waitq_wake_all(&q->wait);
    return 0;
}

struct wanted {
    i64 type;
    int flags;
    size_t room;
};

/* The link to the message that suits, or to nothing. */
static struct message **suits_locked(struct msg_queue *q, const struct wanted *w)
{
    struct message **best = NULL, **at;
    i64 n = 0, limit = w->type == INT64_MIN ? INT64_MAX : -w->type;

    for (at = &q->first; *at; at = &(*at)->next, n++) {
        i64 t = (*at)->type;

        if (w->flags & MSG_COPY     ? n == w->type
            : !w->type              ? true
            : w->type < 0           ? false
            : w->flags & MSG_EXCEPT ? t != w->type
                                    : t == w->type)
            return at;
        if (w->type < 0 && !(w->flags & MSG_COPY) && t <= limit && (!best || t < (*best)->type))
            best = at;
    }
    return best ? best : at;
}

static void take_locked(struct msg_queue *q, struct message **at)
{
    struct message *m = *at;

    *at = m->next;
    if (q->end == &m->next)
        q->end = at;
    q->bytes -= m->size;
    q->count--;
    total_bytes -= m->size;
    total_messages--;
    q->rtime = ipc_now();
    q->last_receive = current_process()->pid;
    waitq_wake_all(&q->wait);
}

/* copy: where a copy goes (MSG_COPY), with room for room bytes. */
static int receive_locked(struct msg_queue *q, const struct wanted *w, struct message **out)
{
    struct message **at;

    if (q->ipc.removed)
        return -EIDRM;
    at = suits_locked(q, w);
    if (!*at)
        return -ENOMSG;
    if ((*at)->size > w->room && !(w->flags & MSG_NOERROR))
        return -E2BIG;
    if (w->flags & MSG_COPY) {
        (*out)->type = (*at)->type;
        (*out)->size = K_MIN((*at)->size, w->room);
        memcpy((*out)->text, (*at)->text, (*out)->size);
        return 0;
    }
    *out = *at;
    take_locked(q, at);
    return 0;
}

/* Until it works: send m, or (w given) receive into *m. */
static int transfer(struct msg_queue *q, struct message **m, const struct wanted *w, int flags)
{
    int err, slept = 0, again = w ? -ENOMSG : -EAGAIN;
    struct waiter waiter;

    waitq_add(&q->wait, &waiter);
    for (;;) {
        unsigned long lock;

        wait_prepare();
        lock = kspin_lock(&ipc_msg.lock);
        err = w ? receive_locked(q, w, m) : send_locked(q, *m);
        kspin_unlock(&ipc_msg.lock, lock);
        if (err != again || flags & IPC_NOWAIT || slept)
            break;
        slept = wait_sleep(WAIT_FOREVER);
    }
    wait_finish();
    waitq_remove(&waiter);
    return err == again && !(flags & IPC_NOWAIT) ? -EINTR : err;
}

static struct message *message_new(size_t room)
{
    struct message *m = quire_kvmalloc(sizeof(*m) + room, QUIRE_GFP_KERNEL);

    if (m)
        m->next = NULL;
    return m;
}

long sys_msgsnd(int id, u64 user, u64 size, int flags)
{
    struct msg_queue *q;
    struct message *m;
    u64 type;
    int err = get_user_u64(&type, user);

    if (err)
        return err;
    if (id < 0 || size > ipc_limits.msgmax || (i64)type < 1)
        return -EINVAL;
    m = message_new(size);
    if (!m)
        return -ENOMEM;
    m->type = (i64)type;
    m->size = size;
    err = copy_from_user(m->text, user + sizeof(type), size);
    if (!err && (q = queue_get(id, 0222, &err))) {
        err = transfer(q, &m, NULL, flags);
        queue_put(q);
    }
    if (err)
        quire_kvfree(m);
    return err;
}

long sys_msgrcv(int id, u64 user, u64 size, i64 type, int flags)
{
    struct wanted w = {.type = type, .flags = flags, .room = size};
    struct message *m = NULL;
    struct msg_queue *q;
    long result;
    int err = 0;

    if (id < 0 || (i64)size < 0)
        return -EINVAL;
    if (flags & MSG_COPY) {
        if (flags & MSG_EXCEPT || !(flags & IPC_NOWAIT))
            return -EINVAL;
        m = message_new(K_MIN(size, ipc_limits.msgmax));
        if (!m)
            return -ENOMEM;
        w.room = K_MIN(size, ipc_limits.msgmax);
    }
    q = queue_get(id, 0444, &err);
    if (q) {
        err = transfer(q, &m, &w, flags);
        queue_put(q);
    }
    result = err;
    if (!err) {
        result = (long)K_MIN(m->size, size);
        if (put_user_u64(user, (u64)m->type) ||
            copy_to_user(user + sizeof(u64), m->text, (size_t)result))
            result = -EFAULT;
    }
    if (!err || flags & MSG_COPY)
        quire_kvfree(m);
    return result;
}

/* ---- msgctl ---- */

/* IPC_STAT of an identifier; the other two of a slot: its identifier, or -errno. */
static int look(int id, int cmd, struct msg_ds *ds)
{
    unsigned long flags = kspin_lock(&ipc_msg.lock);
    int err = -EINVAL;
    struct ipc_object *o =
        cmd == IPC_STAT ? ipc_find_locked(&ipc_msg, id, &err) : ipc_at_locked(&ipc_msg, id);

    if (o && cmd != MSG_STAT_ANY && !ipc_allowed(o, 0444)) {
        err = -EACCES;
    } else if (o) {
        const struct msg_queue *q = queue_of(o);

        *ds = (struct msg_ds){.stime = q->stime,
                              .rtime = q->rtime,
                              .ctime = q->ctime,
                              .bytes = q->bytes,
                              .count = q->count,
                              .limit = q->limit,
                              .last_send = q->last_send,
                              .last_receive = q->last_receive};
        ipc_perm_fill(&ds->perm, o);
        err = o->id;
    }
    kspin_unlock(&ipc_msg.lock, flags);
    return err;
}

static long status(int id, int cmd, u64 buf)
{
    struct msg_ds ds;
    int found = look(id, cmd, &ds);

    if (found < 0)
        return found;
    if (copy_to_user(buf, &ds, sizeof(ds)))
        return -EFAULT;
    return cmd == IPC_STAT ? 0 : found;
}

int msg_line(int index, char *buf, size_t cap)
{
    struct msg_ds ds;
    int id = look(index, MSG_STAT_ANY, &ds);

    if (id < 0)
        return 0;
    return ksnprintf(
        buf, cap, "%10d %10d  %4o  %10lu %10lu %5u %5u %5u %5u %5u %5u %10lu %10lu %10lu\n",
        ds.perm.key, id, ds.perm.mode, (unsigned long)ds.bytes, (unsigned long)ds.count,
        (unsigned)ds.last_send, (unsigned)ds.last_receive, ds.perm.uid, ds.perm.gid, ds.perm.cuid,
        ds.perm.cgid, (unsigned long)ds.stime, (unsigned long)ds.rtime, (unsigned long)ds.ctime);
}

static long info(int cmd, u64 buf)
{
    struct {
        int pool, map, max, queue, queues, segment_size, headers;
        u16 segments, pad;
    } i = {.pool = (int)(ipc_limits.msgmni * ipc_limits.msgmnb / 1024),
           .map = (int)ipc_limits.msgmnb,
           .max = (int)ipc_limits.msgmax,
           .queue = (int)ipc_limits.msgmnb,
           .queues = (int)ipc_limits.msgmni,
           .segment_size = 16,
           .headers = (int)ipc_limits.msgmnb,
           .segments = 0xffff};
    unsigned long flags = kspin_lock(&ipc_msg.lock);
    int highest = ipc_highest_locked(&ipc_msg);

    if (cmd == MSG_INFO) {
        i.pool = (int)ipc_msg.used;
        i.map = (int)total_messages;
        i.headers = (int)total_bytes;
    }
    kspin_unlock(&ipc_msg.lock, flags);
    return copy_to_user(buf, &i, sizeof(i)) ? -EFAULT : highest;
}

static long set(int id, const struct msg_ds *ds)
{
    unsigned long flags = kspin_lock(&ipc_msg.lock);
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_msg, id, &err);

    if (o && (!ipc_owned(o) || (ds->limit > ipc_limits.msgmnb && !capable(CAP_SYS_RESOURCE)))) {
        err = -EPERM;
    } else if (o) {
        ipc_perm_set(o, &ds->perm);
        queue_of(o)->limit = ds->limit;
        queue_of(o)->ctime = ipc_now();
        waitq_wake_all(&queue_of(o)->wait);
    }
    kspin_unlock(&ipc_msg.lock, flags);
    return err;
}

static long remove(int id)
{
    unsigned long flags = kspin_lock(&ipc_msg.lock);
    struct message *m = NULL, *next;
    int err;
    struct ipc_object *o = ipc_find_locked(&ipc_msg, id, &err);
    bool last = false;

    if (o && !ipc_owned(o)) {
        err = -EPERM;
    } else if (o) {
        struct msg_queue *q = queue_of(o);

        ipc_remove_locked(&ipc_msg, o);
        m = q->first;
        total_messages -= q->count;
        total_bytes -= q->bytes;
        waitq_wake_all(&q->wait);
        last = ipc_put_locked(o);
    }
    kspin_unlock(&ipc_msg.lock, flags);
    for (; m; m = next) {
        next = m->next;
        quire_kvfree(m);
    }
    if (last)
        quire_kfree(queue_of(o));
    return err;
}

long sys_msgctl(int id, int cmd, u64 buf)
{
    struct msg_ds ds;

    if (id < 0 || cmd < 0)
        return -EINVAL;
    switch (cmd) {
    case IPC_INFO:
    case MSG_INFO: return info(cmd, buf);
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY: return status(id, cmd, buf);
    case IPC_SET: return copy_from_user(&ds, buf, sizeof(ds)) ? -EFAULT : set(id, &ds);
    case IPC_RMID: return remove(id);
    default: return -EINVAL;
    }
}
