/*
 * fs/sockopt.c - getsockopt(2) and setsockopt(2).
 *
 * Options that ask for what a loopback does anyway (TCP_NODELAY: nothing is ever held back) are kept
 * and given back; those for which there is nothing are refused.
 */
#include "sock.h"

#define SOL_IP     0
#define SOL_SOCKET 1
#define SOL_TCP    6

enum {
    SO_DEBUG = 1,
    SO_REUSEADDR,
    SO_TYPE,
    SO_ERROR,
    SO_DONTROUTE,
    SO_BROADCAST,
    SO_SNDBUF,
    SO_RCVBUF,
    SO_KEEPALIVE,
    SO_OOBINLINE,
    SO_PRIORITY = 12,
    SO_LINGER,
    SO_REUSEPORT = 15,
    SO_PASSCRED,
    SO_PEERCRED,
    SO_RCVLOWAT,
    SO_SNDLOWAT,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SO_TIMESTAMP = 29,
    SO_ACCEPTCONN,
    SO_SNDBUFFORCE = 32,
    SO_RCVBUFFORCE,
    SO_PROTOCOL = 38,
    SO_DOMAIN
};

/* On or off, kept in sock.options by number. */
#define SWITCHES                                                                     \
    (1u << SO_DEBUG | 1u << SO_REUSEADDR | 1u << SO_DONTROUTE | 1u << SO_BROADCAST | \
     1u << SO_KEEPALIVE | 1u << SO_OOBINLINE | 1u << SO_REUSEPORT | 1u << SO_PASSCRED)

#define USEC_PER_SEC 1000000
#define BUF_MIN      2048u
#define BUF_MAX      (QUEUE_BYTES * 2)

static int set_timeout(u64 *ns, u64 uval, u32 len)
{
    i64 t[2];

    if (len < sizeof t)
        return -EINVAL;
    if (copy_from_user(t, uval, sizeof t))
        return -EFAULT;
    if (t[1] < 0 || t[1] >= USEC_PER_SEC)
        return -EDOM;
    *ns = t[0] < 0 ? 0 : (u64)t[0] * 1000000000u + (u64)t[1] * 1000;
    return 0;
}

static int set_socket(struct sock *s, int name, u64 uval, u32 len)
{
    u32 v;

    switch (name) {
    case SO_RCVTIMEO: return set_timeout(&s->recv_timeout_ns, uval, len);
    case SO_SNDTIMEO: return set_timeout(&s->send_timeout_ns, uval, len);
    case SO_LINGER:
        if (len < sizeof s->linger)
            return -EINVAL;
        return copy_from_user(s->linger, uval, sizeof s->linger);
    default: break;
    }
    if (len < sizeof v)
        return -EINVAL;
    if (get_user_u32(&v, uval))
        return -EFAULT;
    if (name > 0 && name < 32 && (SWITCHES >> name & 1)) {
        s->options = v ? s->options | 1u << name : s->options & ~(1u << name);
        return 0;
    }
    switch (name) {
    case SO_RCVBUF:
    case SO_RCVBUFFORCE: s->limit = K_MIN(K_MAX(v * 2, BUF_MIN), BUF_MAX); return 0;
    case SO_SNDBUF:
    case SO_SNDBUFFORCE: s->send_limit = K_MIN(K_MAX(v * 2, BUF_MIN), BUF_MAX); return 0;
    case SO_TYPE:
    case SO_ERROR:
    case SO_ACCEPTCONN:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    default: return -ENOPROTOOPT;
    }
}

static u32 *kept(struct sock *s, int level, int name)
{
    if (s->family != AF_INET || name <= 0 || name >= 32)
        return NULL;
    if (level == SOL_IP)
        return &s->ip_options[name];
    return level == SOL_TCP && s->type == SOCK_STREAM ? &s->tcp_options[name] : NULL;
}

long sys_setsockopt(int fd, int level, int name, u64 uval, u32 len)
{
    struct file *f = fd_get(fd);
    struct sock *s;
    u32 *keep;
    long r;

    if (!f)
        return -EBADF;
    s = f->priv;
    if (f->ops != &sock_file_ops)
        r = -ENOTSOCK;
    else if ((int)len < 0)
        r = -EINVAL;
    else if (level == SOL_SOCKET)
        r = set_socket(s, name, uval, len);
    else if (!(keep = kept(s, level, name)))
        r = level == SOL_IP || level == SOL_TCP ? -EOPNOTSUPP : -ENOPROTOOPT;
    else
        r = len < 4 ? -EINVAL : get_user_u32(keep, uval);
    file_put(f);
    return r;
}

struct answer {
    u8 b[16];
    u32 len;
};

static void say(struct answer *a, const void *p, u32 n)
{
    memcpy(a->b, p, n);
    a->len = n;
}

static void say_u32(struct answer *a, u32 v) { say(a, &v, sizeof v); }

static void say_timeout(struct answer *a, u64 ns)
{
    i64 t[2] = {(i64)(ns / 1000000000u), (i64)(ns % 1000000000u / 1000)};

    say(a, t, sizeof t);
}

static u32 take_error(struct sock *s)
{
    unsigned long flags = kspin_lock(&net_lock);
    u32 err = (u32)s->error;

    s->error = 0;
    kspin_unlock(&net_lock, flags);
    return err;
}

static int get_socket(struct sock *s, int name, struct answer *a)
{
    if (name > 0 && name < 32 && (SWITCHES >> name & 1)) {
        say_u32(a, s->options >> name & 1);
        return 0;
    }
    switch (name) {
    case SO_TYPE: say_u32(a, (u32)s->type); return 0;
    case SO_ERROR: say_u32(a, take_error(s)); return 0;
    case SO_DOMAIN: say_u32(a, (u32)s->family); return 0;
    case SO_PROTOCOL: say_u32(a, (u32)s->protocol); return 0;
    case SO_ACCEPTCONN: say_u32(a, s->state == SOCK_LISTENING); return 0;
    case SO_RCVBUF: say_u32(a, (u32)s->limit); return 0;
    case SO_SNDBUF: say_u32(a, s->send_limit); return 0;
    case SO_RCVLOWAT:
    case SO_SNDLOWAT: say_u32(a, 1); return 0;
    case SO_RCVTIMEO: say_timeout(a, s->recv_timeout_ns); return 0;
    case SO_SNDTIMEO: say_timeout(a, s->send_timeout_ns); return 0;
    case SO_LINGER: say(a, s->linger, sizeof s->linger); return 0;
    case SO_PEERCRED:
        if (s->was_connected) {
            say(a, &s->peer_cred, sizeof s->peer_cred);
        } else {
            struct ucred none = {0, ~0u, ~0u};

            say(a, &none, sizeof none);
        }
        return 0;
    default: return -ENOPROTOOPT;
    }
}

long sys_getsockopt(int fd, int level, int name, u64 uval, u64 ulen)
{
    struct file *f = fd_get(fd);
    struct answer a = {.len = 0};
    u32 room, *keep;
    long r;

    if (!f)
        return -EBADF;
    if (f->ops != &sock_file_ops)
        r = -ENOTSOCK;
    else if (get_user_u32(&room, ulen))
        r = -EFAULT;
    else if ((int)room < 0)
        r = -EINVAL;
    else if (level == SOL_SOCKET)
        r = get_socket(f->priv, name, &a);
    else if (!(keep = kept(f->priv, level, name)))
        r = level == SOL_IP || level == SOL_TCP ? -EOPNOTSUPP : -ENOPROTOOPT;
    else
        r = (say_u32(&a, *keep), 0);
    file_put(f);
    if (r)
        return r;
    room = K_MIN(room, a.len);
    return copy_to_user(uval, a.b, room) || put_user_u32(ulen, room) ? -EFAULT : 0;
}
