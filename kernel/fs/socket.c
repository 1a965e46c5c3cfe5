/*
 * fs/socket.c - the system calls of sockets.
 */
#include "sock.h"

const struct file_ops sock_file_ops;

static struct sock *sock_of(struct file *f) { return f->priv; }

static struct file *sock_fd(int fd, int *err)
{
    struct file *f = fd_get(fd);

    *err = -EBADF;
    if (!f || f->ops == &sock_file_ops)
        return f;
    *err = f->flags & O_PATH ? -EBADF : -ENOTSOCK;
    file_put(f);
    return NULL;
}

/* A file over s, whose reference it takes over, also on failure. */
static struct file *sock_file(struct sock *s, u32 flags)
{
    struct inode *i = inode_new(S_IFSOCK | 0777, MAKEDEV(0, 8));
    struct dentry *d = NULL;
    struct file *f = NULL;
    char name[32];

    if (i) {
        i->nlink = 1;
        i->uid = fs_uid();
        i->gid = fs_gid();
        ksnprintf(name, sizeof name, "socket:[%lu]", (unsigned long)i->ino);
        d = dentry_nameless(i, name);
    }
    if (d)
        f = file_on(d, &sock_file_ops, O_RDWR | (flags & O_NONBLOCK));
    if (f)
        f->priv = s;
    else
        sock_close(s);
    return f;
}

/* ---- the file ---- */

static long sock_read(struct file *f, struct uio *u, u64 *pos)
{
    struct transfer t = {.u = u, .nonblock = f->flags & O_NONBLOCK};
    long r = sock_recv(sock_of(f), &t);

    (void)pos;
    for (unsigned k = 0; k < t.nfds; k++) /* read(2) has no place for them */
        file_put(t.fds[k]);
    quire_kfree(t.fds);
    return r;
}

static struct ucred own_cred(void)
{
    return (struct ucred){current->proc->pid, current->proc->uid, current->proc->gid};
}

static long sock_write(struct file *f, struct uio *u, u64 *pos)
{
    struct transfer t = {.u = u, .nonblock = f->flags & O_NONBLOCK, .cred = own_cred()};

    (void)pos;
    return sock_send(sock_of(f), &t);
}

static unsigned sock_poll(struct file *f, struct poll_table *pt)
{
    poll_add(pt, &sock_of(f)->wait);
    return sock_poll_mask(sock_of(f));
}

#define FIONREAD 0x541b
#define SIOCOUTQ 0x5411

static long sock_ioctl(struct file *f, unsigned cmd, u64 arg)
{
    struct sock *s = sock_of(f);
    unsigned long flags;
    u32 n = 0;

    if (cmd != FIONREAD && cmd != SIOCOUTQ)
        return -ENOTTY;
    if (s->state == SOCK_LISTENING)
        return -EINVAL;
    flags = kspin_lock(&net_lock);
    if (cmd == FIONREAD)
        for (const struct smsg *m = s->first; m; m = m->next) {
            n += (u32)(m->len - m->off);
            if (s->type != SOCK_STREAM)
                break;
        }
    kspin_unlock(&net_lock, flags);
    return put_user_u32(arg, n);
}

static void sock_release(struct file *f) { sock_close(sock_of(f)); }

const struct file_ops sock_file_ops = {.read = sock_read,
                                       .write = sock_write,
                                       .ioctl = sock_ioctl,
                                       .poll = sock_poll,
                                       .release = sock_release};

/* ---- making ---- */

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

static int check_kind(int family, int type, int protocol)
{
    if (type <= 0 || type > 10)
        return -EINVAL;
    if (family == AF_UNIX) {
        if (protocol && protocol != AF_UNIX)
            return -EPROTONOSUPPORT;
        return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET
                   ? 0
                   : -ESOCKTNOSUPPORT;
    }
    if (family != AF_INET)
        return -EAFNOSUPPORT;
    if (type == SOCK_STREAM)
        return !protocol || protocol == IPPROTO_TCP ? 0 : -EPROTONOSUPPORT;
    if (type == SOCK_DGRAM)
        return !protocol || protocol == IPPROTO_UDP ? 0 : -EPROTONOSUPPORT;
    return -ESOCKTNOSUPPORT;
}

#define TYPE_FLAGS (O_CLOEXEC | O_NONBLOCK)

long sys_socket(int family, int type, int protocol)
{
    u32 flags = (u32)type & TYPE_FLAGS;
    struct sock *s;
    struct file *f;
    int err;

    type &= ~(int)TYPE_FLAGS;
    if (type & ~15)
        return -EINVAL;
    err = check_kind(family, type, protocol);
    if (err)
        return err;
    s = sock_new(family, type, protocol);
    f = s ? sock_file(s, flags) : NULL;
    return f ? fd_install(f, flags & O_CLOEXEC, 0) : -ENOMEM;
}

long sys_socketpair(int family, int type, int protocol, u64 ufds)
{
    u32 kflags = (u32)type & TYPE_FLAGS;
    struct sock *a, *b;
    struct file *fa, *fb;
    unsigned long flags;
    int err, fds[2];

    type &= ~(int)TYPE_FLAGS;
    err = check_kind(family, type, protocol);
    if (err)
        return err;
    if (family != AF_UNIX)
        return -EOPNOTSUPP;
    a = sock_new(family, type, protocol);
    b = sock_new(family, type, protocol);
    if (!a || !b) {
        sock_put(a);
        sock_put(b);
        return -ENOMEM;
    }
    flags = kspin_lock(&net_lock);
    sock_join(a, b);
    kspin_unlock(&net_lock, flags);
    fa = sock_file(a, kflags);
    fb = sock_file(b, kflags);
    if (!fa || !fb) {
        if (fa)
            file_put(fa);
        if (fb)
            file_put(fb);
        return -ENOMEM;
    }
    fds[0] = fd_install(fa, kflags & O_CLOEXEC, 0);
    if (fds[0] < 0) {
        file_put(fb);
        return fds[0];
    }
    fds[1] = fd_install(fb, kflags & O_CLOEXEC, 0);
    err = fds[1] < 0 ? fds[1] : copy_to_user(ufds, fds, sizeof fds);
    if (err) {
        fd_close(fds[0]);
        if (fds[1] >= 0)
            fd_close(fds[1]);
    }
    return err;
}

/* ---- addresses ---- */

static int addr_from_user(const struct sock *s, u64 uaddr, u32 len, struct addr *a)
{
    memset(a, 0, sizeof *a);
    if ((int)len < 0 || len >= ADDR_MAX)
        return -EINVAL;
    if (copy_from_user(a->b, uaddr, len))
        return -EFAULT;
    a->len = len;
    return addr_check(s, a);
}

/* Result in the way of accept(2): as much as fits, and the true length. */
static int addr_to_user(const struct sock *s, const struct addr *a, u64 uaddr, u64 ulen)
{
    struct addr none = {.len = s->family == AF_INET ? 16 : 2, .b = {(u8)s->family}};
    u32 room;

    if (!a->len)
        a = &none;
    if (get_user_u32(&room, ulen))
        return -EFAULT;
    if ((int)room < 0)
        return -EINVAL;
    if (copy_to_user(uaddr, a->b, K_MIN(room, a->len)) || put_user_u32(ulen, a->len))
        return -EFAULT;
    return 0;
}

long sys_bind(int fd, u64 uaddr, u32 len)
{
    struct addr a;
    int err;
    struct file *f = sock_fd(fd, &err);

    if (!f)
        return err;
    err = addr_from_user(sock_of(f), uaddr, len, &a);
    if (!err)
        err = sock_bind(sock_of(f), &a);
    file_put(f);
    return err;
}

long sys_connect(int fd, u64 uaddr, u32 len)
{
    struct addr a;
    int err;
    struct file *f = sock_fd(fd, &err);

    if (!f)
        return err;
    err = addr_from_user(sock_of(f), uaddr, len, &a);
    if (!err)
        err = sock_connect(sock_of(f), &a, f->flags & O_NONBLOCK);
    file_put(f);
    return err;
}

long sys_listen(int fd, int backlog)
{
    int err;
    struct file *f = sock_fd(fd, &err);
    struct sock *s;
    unsigned long flags;

    if (!f)
        return err;
    s = sock_of(f);
    err = s->type == SOCK_DGRAM ? -EOPNOTSUPP : 0;
    if (!err && s->family == AF_UNIX && !s->name.len)
        err = -EINVAL;
    if (!err)
        err = sock_bind_auto(s);
    if (!err) {
        flags = kspin_lock(&net_lock);
        if (s->state != SOCK_IDLE && s->state != SOCK_LISTENING)
            err = -EINVAL;
        else
            s->state = SOCK_LISTENING;
        s->backlog = K_MIN((unsigned)backlog, 4096u);
        kspin_unlock(&net_lock, flags);
    }
    waitq_wake_all(&s->wait);
    file_put(f);
    return err;
}

static struct sock *take_pending(struct sock *l)
{
    unsigned long flags = kspin_lock(&net_lock);
    struct sock *s = l->pending;

    if (s) {
        l->pending = s->pending_next;
        if (!l->pending)
            l->pending_last = NULL;
        l->npending--;
        s->pending_next = NULL;
    }
    kspin_unlock(&net_lock, flags);
    return s;
}

static long accept_on(struct file *lf, u64 uaddr, u64 ulen, u32 kflags)
{
    struct sock *l = sock_of(lf), *s;
    struct file *f;
    struct addr peer;
    int fd;

    if (l->type == SOCK_DGRAM)
        return -EOPNOTSUPP;
    if (l->state != SOCK_LISTENING)
        return -EINVAL;
    while (!(s = take_pending(l))) {
        if (l->read_shut)
            return -EINVAL;
        if (lf->flags & O_NONBLOCK)
            return -EAGAIN;
        if (WAIT_EVENT(&l->wait, l->pending || l->read_shut))
            return -ERESTARTSYS;
    }
    waitq_wake_all(&l->wait);
    peer = s->peer_name;
    f = sock_file(s, kflags);
    if (!f)
        return -ENOMEM;
    if (uaddr) {
        int err = addr_to_user(s, &peer, uaddr, ulen);

        if (err) {
            file_put(f);
            return err;
        }
    }
    fd = fd_install(f, kflags & O_CLOEXEC, 0);
    return fd;
}

long sys_accept4(int fd, u64 uaddr, u64 ulen, u32 flags)
{
    int err;
    struct file *f;
    long r;

    if (flags & ~TYPE_FLAGS)
        return -EINVAL;
    f = sock_fd(fd, &err);
    if (!f)
        return err;
    r = accept_on(f, uaddr, ulen, flags);
    file_put(f);
    return r;
}
long sys_accept(int fd, u64 uaddr, u64 ulen) { return sys_accept4(fd, uaddr, ulen, 0); }

static long name_of(int fd, u64 uaddr, u64 ulen, bool peer)
{
    int err;
    struct file *f = sock_fd(fd, &err);
    struct sock *s;

    if (!f)
        return err;
    s = sock_of(f);
    if (peer && s->state != SOCK_CONNECTED)
        err = -ENOTCONN;
    else
        err = addr_to_user(s, peer ? &s->peer_name : &s->name, uaddr, ulen);
    file_put(f);
    return err;
}

long sys_getsockname(int fd, u64 uaddr, u64 ulen) { return name_of(fd, uaddr, ulen, false); }
long sys_getpeername(int fd, u64 uaddr, u64 ulen) { return name_of(fd, uaddr, ulen, true); }

long sys_shutdown(int fd, int how)
{
    int err;
    struct file *f = sock_fd(fd, &err);

    if (!f)
        return err;
    err = how < 0 || how > 2 ? -EINVAL : sock_shutdown(sock_of(f), how);
    file_put(f);
    return err;
}

/* ---- sendto, recvfrom ---- */

long sys_sendto(int fd, u64 ubuf, u64 n, u32 flags, u64 uaddr, u32 len)
{
    struct uio_user uu;
    struct transfer t = {.u = &uu.u, .flags = flags, .cred = own_cred()};
    int err;
    struct file *f = sock_fd(fd, &err);
    long r;

    if (!f)
        return err;
    t.nonblock = (f->flags & O_NONBLOCK) || (flags & MSG_DONTWAIT);
    r = uio_single(&uu, ubuf, n);
    if (!r && uaddr)
        r = addr_from_user(sock_of(f), uaddr, len, &t.name);
    if (!r)
        r = sock_send(sock_of(f), &t);
    file_put(f);
    return r;
}

static void drop_fds(struct transfer *t)
{
    for (unsigned k = 0; k < t->nfds; k++)
        file_put(t->fds[k]);
    quire_kfree(t->fds);
    t->fds = NULL;
    t->nfds = 0;
}

long sys_recvfrom(int fd, u64 ubuf, u64 n, u32 flags, u64 uaddr, u64 ulen)
{
    struct uio_user uu;
    struct transfer t = {.u = &uu.u, .flags = flags};
    int err;
    struct file *f = sock_fd(fd, &err);
    long r;

    if (!f)
        return err;
    t.nonblock = (f->flags & O_NONBLOCK) || (flags & MSG_DONTWAIT);
    r = uio_single(&uu, ubuf, n);
    if (!r)
        r = sock_recv(sock_of(f), &t);
    drop_fds(&t);
    if (r >= 0 && uaddr) {
        struct sock *s = sock_of(f);

        if (s->type == SOCK_DGRAM)
            err = t.name.len || s->family == AF_INET ? addr_to_user(s, &t.name, uaddr, ulen)
                                                     : (int)put_user_u32(ulen, 0);
        else
            err = put_user_u32(ulen, 0);
        r = err ? err : r;
    }
    file_put(f);
    return r;
}

/* ---- sendmsg, recvmsg ---- */

struct kmsghdr {
    u64 name;
    u32 namelen, pad0;
    u64 iov, iovlen, control, controllen;
    u32 flags, pad1;
};
struct kcmsghdr {
    u64 len;
    int level, type;
};

#define SOL_SOCKET      1
#define SCM_RIGHTS      1
#define SCM_CREDENTIALS 2
#define CONTROL_MAX     4096u
#define SO_PASSCRED     16

static int take_rights(struct transfer *t, const u8 *data, size_t n)
{
    unsigned count = (unsigned)(n / 4);
    struct file **fds;

    if (count + t->nfds > FDS_A_MESSAGE)
        return -EINVAL;
    if (!count)
        return 0;
    fds = quire_krealloc_array(t->fds, t->nfds + count, sizeof *fds, QUIRE_GFP_KERNEL);
    if (!fds)
        return -ENOMEM;
    t->fds = fds;
    for (unsigned k = 0; k < count; k++) {
        int fd;

        memcpy(&fd, data + k * 4, 4);
        fds[t->nfds] = fd_get(fd);
        if (!fds[t->nfds])
            return -EBADF;
        t->nfds++;
    }
    return 0;
}

static int take_credentials(struct transfer *t, const u8 *data, size_t n)
{
    const struct process *p = current->proc;
    struct ucred c;

    if (n != sizeof c)
        return -EINVAL;
    memcpy(&c, data, sizeof c);
    if (fs_uid() && (c.pid != p->pid || (c.uid != p->uid && c.uid != p->euid && c.uid != p->suid) ||
                     (c.gid != p->gid && c.gid != p->egid && c.gid != p->sgid)))
        return -EPERM;
    t->cred = c;
    return 0;
}

/* What travels beside the data of sendmsg. */
static int control_in(const struct sock *s, struct transfer *t, u64 ucontrol, u64 n)
{
    u8 *buf;
    int err = 0;

    if (!n)
        return 0;
    if (n > CONTROL_MAX)
        return -ENOBUFS;
    buf = quire_kmalloc(n, QUIRE_GFP_KERNEL);
    if (!buf)
        return -ENOMEM;
    if (copy_from_user(buf, ucontrol, n))
        err = -EFAULT;
    for (u64 at = 0; !err && at + sizeof(struct kcmsghdr) <= n;) {
        struct kcmsghdr h;

        memcpy(&h, buf + at, sizeof h);
        if (h.len < sizeof h || h.len > n - at)
            err = -EINVAL;
        else if (h.level != SOL_SOCKET || s->family != AF_UNIX)
            err = s->family == AF_UNIX ? 0 : -EINVAL;
        else if (h.type == SCM_RIGHTS)
            err = take_rights(t, buf + at + sizeof h, h.len - sizeof h);
        else if (h.type == SCM_CREDENTIALS)
            err = take_credentials(t, buf + at + sizeof h, h.len - sizeof h);
        else
            err = -EINVAL;
        at += K_UP(h.len, 8);
    }
    quire_kfree(buf);
    return err;
}

static long send_message(struct file *f, u64 umsg, u32 flags)
{
    struct uio_user uu;
    struct kmsghdr h;
    struct transfer t = {.u = &uu.u, .flags = flags, .cred = own_cred()};
    struct sock *s = sock_of(f);
    long r;

    if (copy_from_user(&h, umsg, sizeof h))
        return -EFAULT;
    t.nonblock = (f->flags & O_NONBLOCK) || (flags & MSG_DONTWAIT);
    if (h.iovlen > UIO_MAX)
        return -EMSGSIZE;
    r = uio_from_user(&uu, h.iov, h.iovlen);
    if (r)
        return r;
    if (h.name && h.namelen)
        r = addr_from_user(s, h.name, h.namelen, &t.name);
    if (!r)
        r = control_in(s, &t, h.control, h.control ? h.controllen : 0);
    if (!r)
        r = sock_send(s, &t);
    drop_fds(&t); /* those that were not sent */
    uio_done(&uu);
    return r;
}

long sys_sendmsg(int fd, u64 umsg, u32 flags)
{
    int err;
    struct file *f = sock_fd(fd, &err);
    long r;

    if (!f)
        return err;
    r = send_message(f, umsg, flags);
    file_put(f);
    return r;
}

struct control_out {
    u64 at, left; /* user memory */
    u64 written;
    bool truncated;
};

static int put_control(struct control_out *c, int type, const void *data, size_t n)
{
    struct kcmsghdr h = {sizeof h + n, SOL_SOCKET, type};
    u64 whole = K_MIN(K_UP(h.len, 8), c->left);

    if (c->left < h.len) {
        c->truncated = true;
        return 0;
    }
    if (copy_to_user(c->at, &h, sizeof h) || copy_to_user(c->at + sizeof h, data, n))
        return -EFAULT;
    c->at += whole;
    c->left -= whole;
    c->written += whole;
    return 0;
}

/* Descriptors that do not fit are closed, which MSG_CTRUNC tells. */
static int put_rights(struct control_out *c, struct transfer *t, bool cloexec)
{
    u64 head = sizeof(struct kcmsghdr);
    unsigned fit = c->left > head ? (unsigned)K_MIN((c->left - head) / 4, (u64)t->nfds) : 0,
             done = 0;
    int fds[FDS_A_MESSAGE], err = 0;

    for (; done < fit; done++) {
        file_get(t->fds[done]);
        fds[done] = fd_install(t->fds[done], cloexec, 0);
        if (fds[done] < 0)
            break;
    }
    if (done < t->nfds)
        c->truncated = true;
    if (done)
        err = put_control(c, SCM_RIGHTS, fds, done * sizeof *fds);
    drop_fds(t);
    return err;
}

static int control_back(struct sock *s, struct transfer *t, struct kmsghdr *h)
{
    struct control_out c = {.at = h->control, .left = h->control ? h->controllen : 0};
    int err = 0;

    if ((s->options >> SO_PASSCRED & 1) && s->family == AF_UNIX)
        err = put_control(&c, SCM_CREDENTIALS, &t->cred, sizeof t->cred);
    if (!err && t->nfds)
        err = put_rights(&c, t, t->flags & MSG_CMSG_CLOEXEC);
    h->controllen = c.written;
    if (c.truncated)
        t->out_flags |= MSG_CTRUNC;
    return err;
}

static long receive_message(struct file *f, u64 umsg, u32 flags)
{
    struct uio_user uu;
    struct kmsghdr h;
    struct transfer t = {.u = &uu.u, .flags = flags};
    struct sock *s = sock_of(f);
    long r, err = 0;

    if (copy_from_user(&h, umsg, sizeof h))
        return -EFAULT;
    t.nonblock = (f->flags & O_NONBLOCK) || (flags & MSG_DONTWAIT);
    if (h.iovlen > UIO_MAX)
        return -EMSGSIZE;
    r = uio_from_user(&uu, h.iov, h.iovlen);
    if (r)
        return r;
    r = sock_recv(s, &t);
    uio_done(&uu);
    if (r >= 0) {
        u32 len = s->type == SOCK_DGRAM ? t.name.len : 0;

        if (h.name && copy_to_user(h.name, t.name.b, K_MIN(len, h.namelen)))
            err = -EFAULT;
        h.namelen = h.name ? len : 0;
        if (!err)
            err = control_back(s, &t, &h);
        h.flags = t.out_flags | (flags & MSG_CMSG_CLOEXEC);
        if (!err)
            err = put_user_u32(umsg + offsetof(struct kmsghdr, namelen), h.namelen);
        if (!err)
            err = put_user_u64(umsg + offsetof(struct kmsghdr, controllen), h.controllen);
        if (!err)
            err = put_user_u32(umsg + offsetof(struct kmsghdr, flags), h.flags);
    }
    drop_fds(&t);
    return err ? err : r;
}

long sys_recvmsg(int fd, u64 umsg, u32 flags)
{
    int err;
    struct file *f = sock_fd(fd, &err);
    long r;

    if (!f)
        return err;
    r = receive_message(f, umsg, flags);
    file_put(f);
    return r;
}

/* struct mmsghdr: a msghdr and what its message had; 64 bytes. */
long sys_sendmmsg(int fd, u64 uvec, u32 n, u32 flags)
{
    int err;
    struct file *f = sock_fd(fd, &err);
    long r = 0;
    u32 k = 0;

    if (!f)
        return err;
    for (; k < K_MIN(n, (u32)UIO_MAX); k++) {
        r = send_message(f, uvec + k * 64ul, flags);
        if (r < 0 || put_user_u32(uvec + k * 64ul + 56, (u32)r))
            break;
    }
    file_put(f);
    return k ? (long)k : r;
}
