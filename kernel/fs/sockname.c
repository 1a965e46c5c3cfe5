/*
 * fs/sockname.c - names of sockets, and how connections come about by them: paths and abstract names
 * of AF_UNIX (unix(7)), ports of AF_INET on the loopback (ip(7)).
 */
#include "sock.h"

#define LOOPBACK       0x7f000001u
#define PORT_EPHEMERAL 32768u
#define PORT_LAST      60999u
#define UNIX_PATH      108u

/* Sockets with an abstract name or a port; under net_lock. */
static struct sock *net_names;
static u32 next_port = PORT_EPHEMERAL;
static u32 next_auto;

struct inet_addr {
    u16 family, port_be;
    u32 addr_be;
    u8 zero[8];
};

static u16 swap16(u16 v) { return (u16)(v << 8 | v >> 8); }
static u32 port_of(const struct addr *a)
{
    return swap16(((const struct inet_addr *)a->b)->port_be);
}
static u32 ip_of(const struct addr *a)
{
    return __builtin_bswap32(((const struct inet_addr *)a->b)->addr_be);
}

static void inet_name(struct addr *a, u32 ip, u32 port)
{
    struct inet_addr in = {AF_INET, swap16((u16)port), __builtin_bswap32(ip), {0}};

    a->len = sizeof in;
    memcpy(a->b, &in, sizeof in);
}

/* Is a well formed for the family of s?  A path gets its 0. */
int addr_check(const struct sock *s, struct addr *a)
{
    u16 family;

    if (a->len < sizeof family)
        return -EINVAL;
    memcpy(&family, a->b, sizeof family);
    if (s->family == AF_INET) {
        if (a->len < sizeof(struct inet_addr))
            return -EINVAL;
        a->len = sizeof(struct inet_addr);
        return family == AF_INET ? 0 : -EAFNOSUPPORT;
    }
    if (family != AF_UNIX || a->len > 2 + UNIX_PATH)
        return -EINVAL;
    if (a->len > 2 && a->b[2]) {
        a->b[a->len] = 0; /* ADDR_MAX leaves room */
        a->len = 2 + (u32)strlen((char *)a->b + 2) + 1;
    }
    return 0;
}

static bool is_path(const struct addr *a) { return a->len > 2 && a->b[2]; }

static bool same_addr(const struct addr *a, const struct addr *b)
{
    return a->len == b->len && !memcmp(a->b, b->b, a->len);
}

/* ---- the table; net_lock held ---- */

static void table_add(struct sock *s)
{
    s->table_next = net_names;
    net_names = s;
    s->in_table = true;
}

static struct sock *find_abstract(const struct addr *a)
{
    struct sock *s = net_names;

    while (s && (s->family != AF_UNIX || !same_addr(&s->name, a)))
        s = s->table_next;
    return s;
}

static bool is_open_port(const struct sock *s)
{
    return s->type == SOCK_DGRAM ? s->state != SOCK_CLOSED : s->state == SOCK_LISTENING;
}

static struct sock *find_port(int type, u32 port, const struct sock *but, bool open_only)
{
    struct sock *s = net_names;

    while (s && (s->family != AF_INET || s->type != type || port_of(&s->name) != port || s == but ||
                 (open_only && !is_open_port(s))))
        s = s->table_next;
    return s;
}

void sock_unbind(struct sock *s)
{
    unsigned long flags = kspin_lock(&net_lock);
    struct sock **at = &net_names;

    if (s->in_table) {
        while (*at != s)
            at = &(*at)->table_next;
        *at = s->table_next;
        s->in_table = false;
    }
    if (s->bound && s->bound->sock == s)
        s->bound->sock = NULL; /* the name stays, and refuses */
    kspin_unlock(&net_lock, flags);
}

/* ---- bind ---- */

static int bind_path(struct sock *s, const struct addr *a)
{
    struct walk w;
    struct dentry *d = NULL;
    int err;

    kmutex_lock(&fs_tree_lock);
    err = path_walk_locked(AT_FDCWD, (const char *)a->b + 2, WALK_PARENT, &w);
    if (!err) {
        if (w.special)
            err = -EADDRINUSE;
        else if ((w.d->inode->mode & S_IFMT) != S_IFDIR)
            err = -ENOTDIR;
        else if ((d = lookup_one(w.d, w.last, &err))) {
            dentry_put(d);
            err = -EADDRINUSE;
        } else if (err == -ENOENT) {
            err = may_create(w.d);
        }
        if (!err)
            err = create_in(w.d, w.last, S_IFSOCK | (0777 & ~fs_umask()), 0, &d);
        if (!err) {
            unsigned long flags = kspin_lock(&net_lock);

            inode_get(d->inode);
            s->bound = d->inode;
            d->inode->sock = s;
            s->name = *a;
            kspin_unlock(&net_lock, flags);
            dentry_put(d);
        }
        dentry_put(w.d);
    }
    kmutex_unlock(&fs_tree_lock);
    return err;
}

static int bind_abstract(struct sock *s, const struct addr *a)
{
    unsigned long flags = kspin_lock(&net_lock);
    int err = 0;

    if (find_abstract(a)) {
        err = -EADDRINUSE;
    } else {
        s->name = *a;
        table_add(s);
    }
    kspin_unlock(&net_lock, flags);
    return err;
}

/* Five hexadecimal digits after a 0, as unix(7) says. */
static int bind_unnamed(struct sock *s)
{
    static const char digits[] = "0123456789abcdef";
    struct addr a = {.len = 8, .b = {AF_UNIX}};
    int err = -EADDRINUSE;

    for (unsigned tries = 0; err == -EADDRINUSE && tries < 1u << 20; tries++) {
        u32 n = __atomic_add_fetch(&next_auto, 1, __ATOMIC_RELAXED);

        for (unsigned k = 0; k < 5; k++)
            a.b[3 + k] = (u8)digits[n >> (16 - 4 * k) & 15];
        err = bind_abstract(s, &a);
    }
    return err;
}

#define SO_REUSEADDR 2
#define SO_REUSEPORT 15

static bool port_taken(const struct sock *s, u32 port)
{
    const struct sock *o = find_port(s->type, port, s, false);
    u32 reuse = 1u << SO_REUSEADDR | 1u << SO_REUSEPORT;

    if (!o)
        return false;
    if (s->options & o->options & (1u << SO_REUSEPORT))
        return false;
    return !(s->options & reuse) || !(o->options & reuse) || is_open_port(o);
}

static int bind_port(struct sock *s, u32 ip, u32 port)
{
    unsigned long flags = kspin_lock(&net_lock);
    int err = 0;

    if (!port) {
        u32 tries = PORT_LAST - PORT_EPHEMERAL + 1;

        do {
            port = next_port++;
            if (next_port > PORT_LAST)
                next_port = PORT_EPHEMERAL;
        } while (--tries && find_port(s->type, port, s, false));
        if (!tries)
            err = -EADDRINUSE;
    } else if (port_taken(s, port)) {
        err = -EADDRINUSE;
    }
    if (!err) {
        inet_name(&s->name, ip, port);
        table_add(s);
    }
    kspin_unlock(&net_lock, flags);
    return err;
}

static bool is_here(u32 ip) { return !ip || ip >> 24 == 127; }

int sock_bind(struct sock *s, const struct addr *a)
{
    if (s->family == AF_INET) {
        if (s->name.len)
            return -EINVAL;
        if (!is_here(ip_of(a)))
            return -EADDRNOTAVAIL;
        if (port_of(a) && port_of(a) < 1024 && fs_uid() != 0)
            return -EACCES;
        return bind_port(s, ip_of(a), port_of(a));
    }
    if (a->len == 2)
        return s->name.len ? 0 : bind_unnamed(s);
    if (s->name.len)
        return -EINVAL;
    return is_path(a) ? bind_path(s, a) : bind_abstract(s, a);
}

int sock_bind_auto(struct sock *s)
{
    return s->family == AF_INET && !s->name.len ? bind_port(s, LOOPBACK, 0) : 0;
}

/* ---- finding ---- */

static struct sock *find_path(const struct addr *a, int *err)
{
    struct walk w;
    struct sock *s = NULL;
    unsigned long flags;

    *err = path_walk(AT_FDCWD, (const char *)a->b + 2, WALK_FOLLOW, &w);
    if (*err)
        return NULL;
    if ((w.d->inode->mode & S_IFMT) != S_IFSOCK) {
        *err = -ECONNREFUSED;
    } else {
        *err = inode_permission(w.d->inode, 2);
        flags = kspin_lock(&net_lock);
        s = *err ? NULL : w.d->inode->sock;
        if (s)
            sock_get(s);
        else if (!*err)
            *err = -ECONNREFUSED;
        kspin_unlock(&net_lock, flags);
    }
    dentry_put(w.d);
    return s;
}

struct sock *sock_find(struct sock *from, const struct addr *a, int *err)
{
    struct sock *s;
    unsigned long flags;

    *err = 0;
    if (from->family == AF_UNIX && is_path(a)) {
        s = find_path(a, err);
    } else {
        if (from->family == AF_INET && !is_here(ip_of(a))) {
            *err = -ENETUNREACH;
            return NULL;
        }
        flags = kspin_lock(&net_lock);
        s = from->family == AF_UNIX ? find_abstract(a)
                                    : find_port(from->type, port_of(a), NULL, true);
        if (s)
            sock_get(s);
        else
            *err = -ECONNREFUSED;
        kspin_unlock(&net_lock, flags);
    }
    if (s && s->type != from->type) {
        sock_put(s);
        *err = -EPROTOTYPE;
        return NULL;
    }
    return s;
}

/* ---- connect ---- */

static int connect_datagram(struct sock *s, const struct addr *a)
{
    int err;
    struct sock *to, *old;
    unsigned long flags;
    u16 family;

    memcpy(&family, a->b, sizeof family);
    to = family ? sock_find(s, a, &err) : NULL;
    if (family && !to && !(s->family == AF_INET && err == -ECONNREFUSED))
        return err;
    err = family ? sock_bind_auto(s) : 0;
    flags = kspin_lock(&net_lock);
    old = s->peer;
    s->peer = to;
    s->peer_name = *a;
    if (!family)
        s->peer_name.len = 0;
    s->state = to ? SOCK_CONNECTED : SOCK_IDLE;
    s->was_connected = to != NULL;
    kspin_unlock(&net_lock, flags);
    sock_put(old);
    return err;
}

static bool accepts(const struct sock *l)
{
    return l->state != SOCK_LISTENING || l->npending <= l->backlog;
}

/* The server's end, queued at the listener.  -EAGAIN: its queue is full. */
static int join_listener(struct sock *s, struct sock *l, struct sock *fresh, const struct addr *a)
{
    unsigned long flags = kspin_lock(&net_lock);
    int err = 0;

    if (l->state != SOCK_LISTENING)
        err = -ECONNREFUSED;
    else if (s->state == SOCK_CONNECTED || s->was_connected)
        err = -EISCONN;
    else if (l->npending > l->backlog)
        err = -EAGAIN;
    if (!err) {
        fresh->name = s->family == AF_INET ? *a : l->name;
        if (s->family == AF_INET && !ip_of(&fresh->name))
            inet_name(&fresh->name, LOOPBACK, port_of(a));
        fresh->peer_name = s->name;
        s->peer_name = fresh->name;
        fresh->cred = l->cred;
        fresh->options = l->options;
        sock_join(s, fresh);
        if (l->pending_last)
            l->pending_last->pending_next = fresh;
        else
            l->pending = fresh;
        l->pending_last = fresh;
        l->npending++;
    }
    kspin_unlock(&net_lock, flags);
    return err;
}

static int connect_stream(struct sock *s, const struct addr *a, bool nonblock)
{
    int err;
    struct sock *l, *fresh;

    if (s->state == SOCK_LISTENING)
        return s->family == AF_UNIX ? -EINVAL : -EISCONN;
    if (s->connect_pending) {
        s->connect_pending = false;
        return 0;
    }
    if (s->state == SOCK_CONNECTED || s->was_connected)
        return -EISCONN;
    l = sock_find(s, a, &err);
    if (!l)
        return err;
    err = sock_bind_auto(s);
    fresh = err ? NULL : sock_new(s->family, s->type, s->protocol);
    if (!fresh) {
        sock_put(l);
        return err ? err : -ENOMEM;
    }
    while ((err = join_listener(s, l, fresh, a)) == -EAGAIN) {
        if (nonblock)
            break;
        if (WAIT_EVENT(&l->wait, accepts(l))) {
            err = -ERESTARTSYS;
            break;
        }
    }
    if (err)
        sock_put(fresh);
    else
        waitq_wake_all(&l->wait);
    sock_put(l);
    if (!err && nonblock && s->family == AF_INET) { /* TCP never connects at once, even to itself */
        s->connect_pending = true;
        err = -EINPROGRESS;
    }
    return err;
}

int sock_connect(struct sock *s, const struct addr *a, bool nonblock)
{
    return s->type == SOCK_DGRAM ? connect_datagram(s, a) : connect_stream(s, a, nonblock);
}
