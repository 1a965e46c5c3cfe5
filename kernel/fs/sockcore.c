/*
 * fs/sockcore.c - queues of messages between sockets.  See sock.h.
 */
#include "sock.h"
#include <signal.h>

#define STREAM_CHUNK 32768u

struct kspin net_lock;

struct sock *sock_new(int family, int type, int protocol)
{
    struct sock *s = quire_kzalloc(sizeof *s, QUIRE_GFP_KERNEL);

    if (!s)
        return NULL;
    s->refs = 1;
    s->family = family;
    s->type = type;
    s->protocol = protocol;
    s->limit = s->send_limit = QUEUE_BYTES;
    s->cred = (struct ucred){current->proc->pid, current->proc->euid, current->proc->egid};
    return s;
}

void sock_get(struct sock *s) { __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED); }

void sock_put(struct sock *s)
{
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL))
        return;
    while (s->first) {
        struct smsg *m = s->first;

        s->first = m->next;
        smsg_free(m);
    }
    if (s->bound)
        inode_put(s->bound);
    quire_kfree(s);
}

struct smsg *smsg_new(size_t len)
{
    struct smsg *m = quire_kvmalloc(sizeof *m + len, QUIRE_GFP_KERNEL);

    if (!m)
        return NULL;
    memset(m, 0, sizeof *m);
    m->len = len;
    return m;
}

void smsg_free(struct smsg *m)
{
    for (unsigned k = 0; k < m->nfds; k++)
        file_put(m->fds[k]);
    quire_kfree(m->fds);
    quire_kvfree(m);
}

static bool is_stream(const struct sock *s) { return s->type == SOCK_STREAM; }

/* ---- life of a connection ---- */

void sock_join(struct sock *a, struct sock *b)
{
    sock_get(a);
    sock_get(b);
    a->peer = b;
    b->peer = a;
    a->state = b->state = SOCK_CONNECTED;
    a->was_connected = b->was_connected = true;
    a->peer_cred = b->cred;
    b->peer_cred = a->cred;
}

/* Cut s from its peer, which learns of it; returns the peer, whose reference passes to the caller. */
static struct sock *part(struct sock *s)
{
    struct sock *p = s->peer;

    s->peer = NULL;
    if (p && p->peer == s && s->type != SOCK_DGRAM) {
        if (s->first && !p->error)
            p->error = ECONNRESET; /* what it sent was never read */
        p->read_shut = true;
        p->write_shut |= p->family == AF_UNIX; /* TCP learns it from its next segment */
    }
    return p;
}

void sock_close(struct sock *s)
{
    struct sock *peer, *pending;
    unsigned long flags;

    sock_unbind(s);
    flags = kspin_lock(&net_lock);
    s->state = SOCK_CLOSED;
    peer = part(s);
    pending = s->pending;
    s->pending = s->pending_last = NULL;
    kspin_unlock(&net_lock, flags);
    waitq_wake_all(&s->wait);
    if (peer) {
        waitq_wake_all(&peer->wait);
        sock_put(peer);
    }
    while (pending) { /* nobody will accept these */
        struct sock *next = pending->pending_next;

        sock_close(pending);
        pending = next;
    }
    sock_put(s);
}

int sock_shutdown(struct sock *s, int how)
{
    unsigned long flags = kspin_lock(&net_lock);
    struct sock *p = s->peer;
    int err = 0;

    if (s->state != SOCK_CONNECTED && s->state != SOCK_LISTENING && !s->was_connected) {
        err = -ENOTCONN;
    } else {
        if (how != 1)
            s->read_shut = true;
        if (how != 0)
            s->write_shut = true;
        if (p && p->peer == s && s->type != SOCK_DGRAM) {
            if (how != 1)
                p->write_shut = true;
            if (how != 0)
                p->read_shut = true;
        }
        if (p)
            sock_get(p);
    }
    kspin_unlock(&net_lock, flags);
    waitq_wake_all(&s->wait);
    if (!err && p) {
        waitq_wake_all(&p->wait);
        sock_put(p);
    }
    return err;
}

/* ---- waiting ---- */

typedef bool (*condition)(struct sock *s);

static int wait_for(struct sock *s, struct waitq *q, condition cond, bool nonblock, u64 timeout_ns)
{
    u64 deadline = timeout_ns ? ktime_ns() + timeout_ns : WAIT_FOREVER;
    struct waiter w;
    int err = 0;

    if (nonblock)
        return -EAGAIN;
    waitq_add(q, &w);
    for (;;) {
        wait_prepare();
        if (cond(s))
            break;
        err = wait_sleep(deadline);
        if (err && !cond(s))
            break;
        err = 0;
    }
    wait_finish();
    waitq_remove(&w);
    if (err == -ETIMEDOUT)
        return -EAGAIN;
    return err ? timeout_ns ? -EINTR : -ERESTARTSYS : 0;
}

static bool has_room(const struct sock *to) { return to->queued < to->limit || !to->first; }

static bool can_read(struct sock *s)
{
    return __atomic_load_n(&s->first, __ATOMIC_ACQUIRE) || s->read_shut || s->error ||
           s->state == SOCK_CLOSED;
}

/* For a sender that sleeps on the receiver's queue. */
static bool receiver_ready(struct sock *to)
{
    return has_room(to) || to->state == SOCK_CLOSED || to->read_shut;
}

unsigned sock_poll_mask(struct sock *s)
{
    unsigned long flags = kspin_lock(&net_lock);
    unsigned mask = 0;

    if (s->state == SOCK_LISTENING) {
        mask = s->pending ? POLL_IN : 0;
    } else {
        if (s->first || s->read_shut)
            mask |= POLL_IN;
        if (s->read_shut)
            mask |= POLL_RDHUP;
        if (s->error)
            mask |= POLL_ERR | POLL_IN | POLL_OUT;
        if (s->type == SOCK_DGRAM)
            mask |= !s->peer || has_room(s->peer) ? POLL_OUT : 0;
        else if (s->state == SOCK_CONNECTED && (!s->peer || has_room(s->peer)))
            mask |= POLL_OUT;
        if (s->type != SOCK_DGRAM && s->state == SOCK_IDLE)
            mask |= POLL_OUT | POLL_HUP;
        if (s->read_shut && s->write_shut)
            mask |= POLL_HUP;
    }
    kspin_unlock(&net_lock, flags);
    return mask;
}

/* ---- sending ---- */

static int take_error(struct sock *s)
{
    int err = s->error;

    s->error = 0;
    return -err;
}

/* The receiver, referenced, or NULL and *err. */
static struct sock *receiver(struct sock *s, struct transfer *t, int *err)
{
    struct sock *to = NULL;
    unsigned long flags;

    if (t->name.len && s->type == SOCK_DGRAM)
        return sock_find(s, &t->name, err);
    flags = kspin_lock(&net_lock);
    if (s->error && is_stream(s) && s->error != ECONNRESET)
        *err = take_error(s);
    else if (s->write_shut || (s->was_connected && !s->peer && s->type != SOCK_DGRAM))
        *err = -EPIPE;
    else if (!s->peer)
        *err = s->type == SOCK_DGRAM && s->family == AF_INET ? -EDESTADDRREQ : -ENOTCONN;
    else
        sock_get(to = s->peer);
    kspin_unlock(&net_lock, flags);
    return to;
}

/* Append m unless there is no room (-EAGAIN) or nobody reads any more.  1: it went to an end of TCP
 * that has closed, whose reset will be seen by the next call. */
static int append(struct sock *s, struct sock *to, struct smsg *m)
{
    unsigned long flags = kspin_lock(&net_lock);
    int err = 0;

    if (s->write_shut)
        err = -EPIPE;
    else if (to->state == SOCK_CLOSED && s->family == AF_INET && s->type == SOCK_STREAM)
        err = s->write_shut = true;
    else if (to->state == SOCK_CLOSED)
        err = s->type == SOCK_DGRAM ? -ECONNREFUSED : -EPIPE;
    else if (to->read_shut)
        err = -EPIPE;
    else if (to->type == SOCK_DGRAM && to->peer && to->peer != s && s->family == AF_UNIX)
        err = -EPERM;
    else if (!has_room(to))
        err = -EAGAIN;
    if (!err) {
        if (to->last)
            to->last->next = m;
        else
            __atomic_store_n(&to->first, m, __ATOMIC_RELEASE);
        to->last = m;
        to->queued += m->len + sizeof *m;
    }
    kspin_unlock(&net_lock, flags);
    return err;
}

/* One message of n bytes of t->u; with the descriptors, if it is the first. */
static int send_one(struct sock *s, struct sock *to, struct transfer *t, size_t n)
{
    struct smsg *m = smsg_new(n);
    int err = m ? 0 : -ENOMEM;

    if (!err && uio_get(t->u, m->data, n))
        err = -EFAULT;
    if (m) {
        m->cred = t->cred;
        m->from = s->name;
        m->fds = t->fds;
        m->nfds = t->nfds;
    }
    while (!err) {
        err = append(s, to, m);
        if (err != -EAGAIN)
            break;
        err = wait_for(to, &to->wait, receiver_ready, t->nonblock, s->send_timeout_ns);
    }
    if (err) {
        if (m) {
            m->fds = NULL; /* still the caller's */
            m->nfds = 0;
            smsg_free(m);
        }
        return err < 0 ? err : 0;
    }
    t->fds = NULL;
    t->nfds = 0;
    waitq_wake_all(&to->wait);
    return 0;
}

static long send_all(struct sock *s, struct sock *to, struct transfer *t)
{
    size_t all = t->u->left, done = 0;
    int err;

    if (!is_stream(s)) {
        if (all > s->send_limit)
            return -EMSGSIZE;
        err = send_one(s, to, t, all);
        return err ? err : (long)all;
    }
    while (done < all) {
        size_t n = K_MIN(all - done, (size_t)STREAM_CHUNK);

        err = send_one(s, to, t, n);
        if (err)
            return done ? (long)done : err;
        done += n;
    }
    return (long)done;
}

long sock_send(struct sock *s, struct transfer *t)
{
    int err = 0;
    struct sock *to;
    long r;

    if (t->flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (t->name.len && s->type != SOCK_DGRAM && s->family == AF_UNIX)
        return s->state == SOCK_CONNECTED ? -EISCONN : -EOPNOTSUPP; /* TCP looks at its peer only */
    if (s->type == SOCK_DGRAM) {
        err = sock_bind_auto(s);
        if (err)
            return err;
    }
    to = receiver(s, t, &err);
    if (to) {
        r = send_all(s, to, t);
        sock_put(to);
    } else if (err == -ECONNREFUSED && s->family == AF_INET && s->type == SOCK_DGRAM) {
        r = (long)t->u->left; /* a datagram to nobody is lost */
    } else {
        r = err;
    }
    if (r == -EPIPE && is_stream(s) && !(t->flags & MSG_NOSIGNAL))
        sigpipe();
    return r;
}

/* ---- receiving; recv_lock held ---- */

/* Take n bytes off the head, or all of it for messages. */
static void consume(struct sock *s, struct smsg *m, size_t n)
{
    unsigned long flags = kspin_lock(&net_lock);
    struct sock *peer = s->peer;
    bool done;

    m->off += n;
    done = !is_stream(s) || m->off == m->len;
    if (done) {
        __atomic_store_n(&s->first, m->next, __ATOMIC_RELEASE);
        if (!s->first)
            s->last = NULL;
        s->queued -= m->len + sizeof *m;
        if (peer)
            sock_get(peer);
    }
    kspin_unlock(&net_lock, flags);
    if (!done)
        return;
    smsg_free(m);
    waitq_wake_all(&s->wait); /* senders sleep here */
    if (peer) {               /* and poll there */
        waitq_wake_all(&peer->wait);
        sock_put(peer);
    }
}

/* Hand the descriptors of m to the receiver; those of a peeked message are shared. */
static void take_fds(struct smsg *m, struct transfer *t)
{
    if (!m->nfds)
        return;
    if (t->flags & MSG_PEEK) {
        t->fds = quire_kmemdup(m->fds, m->nfds * sizeof *t->fds, QUIRE_GFP_KERNEL);
        if (!t->fds)
            return;
        for (unsigned k = 0; k < m->nfds; k++)
            file_get(m->fds[k]);
        t->nfds = m->nfds;
        return;
    }
    t->fds = m->fds;
    t->nfds = m->nfds;
    m->fds = NULL;
    m->nfds = 0;
}

static bool same_sender(const struct smsg *m, const struct transfer *t)
{
    return m->cred.pid == t->cred.pid && m->cred.uid == t->cred.uid;
}

/* As many bytes as there are, over message borders, but not over descriptors. */
static long recv_stream(struct sock *s, struct transfer *t)
{
    struct smsg *m = __atomic_load_n(&s->first, __ATOMIC_ACQUIRE);
    size_t got = 0;

    while (m && t->u->left) {
        struct smsg *next;
        size_t n = K_MIN(m->len - m->off, t->u->left), moved;

        if (got && (m->nfds || !same_sender(m, t)))
            break;
        if (!got) {
            t->cred = m->cred;
            take_fds(m, t);
        }
        moved = uio_put_part(t->u, m->data + m->off, n);
        got += moved;
        next = __atomic_load_n(&m->next, __ATOMIC_ACQUIRE);
        if (t->flags & MSG_PEEK) {
            m = next;
        } else {
            consume(s, m, moved);
            m = __atomic_load_n(&s->first, __ATOMIC_ACQUIRE);
        }
        if (moved < n)
            return got ? (long)got : -EFAULT;
        if (t->nfds)
            break;
    }
    return (long)got;
}

static long recv_message(struct sock *s, struct transfer *t)
{
    struct smsg *m = s->first;
    size_t n = K_MIN(m->len, t->u->left), all = m->len;

    t->cred = m->cred;
    t->name = m->from;
    take_fds(m, t);
    if (uio_put_part(t->u, m->data, n) < n)
        return -EFAULT;
    if (n < all)
        t->out_flags |= MSG_TRUNC;
    if (s->type == SOCK_SEQPACKET)
        t->out_flags |= MSG_EOR;
    if (!(t->flags & MSG_PEEK))
        consume(s, m, all);
    return (long)(t->flags & MSG_TRUNC ? all : n);
}

static long recv_once(struct sock *s, struct transfer *t)
{
    if (__atomic_load_n(&s->first, __ATOMIC_ACQUIRE))
        return is_stream(s) ? recv_stream(s, t) : recv_message(s, t);
    if (s->error)
        return take_error(s);
    if (s->read_shut || s->state == SOCK_CLOSED)
        return 0;
    if (s->type != SOCK_DGRAM && s->state != SOCK_CONNECTED)
        return s->family == AF_UNIX && s->type == SOCK_STREAM ? -EINVAL : -ENOTCONN;
    return -EAGAIN;
}

long sock_recv(struct sock *s, struct transfer *t)
{
    long got = 0, r;

    if (t->flags & MSG_OOB)
        return s->family == AF_UNIX ? -EOPNOTSUPP : -EINVAL;
    if (is_stream(s) && !t->u->left)
        return 0;
    for (;;) {
        kmutex_lock(&s->recv_lock);
        r = recv_once(s, t);
        kmutex_unlock(&s->recv_lock);
        if (r > 0)
            got += r;
        if (r > 0 && is_stream(s) && (t->flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL &&
            t->u->left && !t->nfds)
            continue;
        if (r != -EAGAIN)
            break;
        r = wait_for(s, &s->wait, can_read, t->nonblock, s->recv_timeout_ns);
        if (r)
            break;
    }
    return got ? got : r;
}
