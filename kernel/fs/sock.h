/*
 * fs/sock.h - sockets: AF_UNIX, and AF_INET over the loopback.
 *
 * Both are the same thing underneath: a socket has a queue of messages that its peer, or for
 * datagrams anybody, appends to.  A stream is a queue whose message borders do not show.
 *
 * net_lock, a spin lock, covers every state, link and queue; messages are made and freed, and user
 * memory is touched, without it.  recv_lock keeps the head of the queue for one reader.
 */
#ifndef FS_SOCK_H
#define FS_SOCK_H

#include "fsint.h"

#define AF_UNIX        1
#define AF_INET        2
#define SOCK_STREAM    1
#define SOCK_DGRAM     2
#define SOCK_SEQPACKET 5
#define ADDR_MAX       128
#define QUEUE_BYTES    212992u
#define FDS_A_MESSAGE  253

#define MSG_OOB          1u
#define MSG_PEEK         2u
#define MSG_CTRUNC       8u
#define MSG_TRUNC        0x20u
#define MSG_DONTWAIT     0x40u
#define MSG_EOR          0x80u
#define MSG_WAITALL      0x100u
#define MSG_NOSIGNAL     0x4000u
#define MSG_CMSG_CLOEXEC 0x40000000u

struct addr {
    u32 len; /* 0: unnamed */
    u8 b[ADDR_MAX];
};

struct ucred {
    int pid;
    u32 uid, gid;
};

struct smsg {
    struct smsg *next;
    size_t len, off; /* bytes in all, bytes a stream's readers took */
    struct file **fds;
    unsigned nfds;
    struct ucred cred;
    struct addr from;
    u8 data[];
};

enum sock_state { SOCK_IDLE, SOCK_LISTENING, SOCK_CONNECTED, SOCK_CLOSED };

struct sock {
    u32 refs; /* atomic: its file, peers, a listener's queue, look-ups */
    int family, type, protocol;
    enum sock_state state;
    struct sock *peer; /* referenced */
    bool read_shut, write_shut;
    bool was_connected;
    bool connect_pending; /* connect(2) said EINPROGRESS; the next one says how it ended */
    int error;            /* SO_ERROR */
    struct smsg *first, *last;
    size_t queued, limit;                               /* bytes in the queue; SO_RCVBUF */
    struct sock *pending, *pending_last, *pending_next; /* connections to accept; referenced */
    int npending, backlog;
    struct waitq wait;
    struct kmutex recv_lock;
    struct ucred cred, peer_cred;
    struct addr name, peer_name;
    struct inode *bound;     /* of a path in the file system; referenced */
    struct sock *table_next; /* among those with a name in net_names */
    bool in_table;
    u64 recv_timeout_ns, send_timeout_ns; /* 0: none */
    u32 options;                          /* bit by SO_ number, for those that are only kept */
    u32 tcp_options[32], ip_options[32];
    u32 linger[2];
    u32 send_limit;
};

extern struct kspin net_lock;

/* ---- sockcore.c ---- */
struct sock *sock_new(int family, int type, int protocol);
void sock_get(struct sock *s);
void sock_put(struct sock *s);
struct smsg *smsg_new(size_t len);
void smsg_free(struct smsg *m);
void sock_close(struct sock *s);
/* Two fresh sockets become the ends of one connection; net_lock held. */
void sock_join(struct sock *a, struct sock *b);
int sock_shutdown(struct sock *s, int how);
unsigned sock_poll_mask(struct sock *s);

struct transfer {
    struct uio *u;
    unsigned flags;
    bool nonblock;
    struct addr name; /* send: where to, len 0: the peer.  receive: whence */
    struct file **fds;
    unsigned nfds;
    struct ucred cred;
    unsigned out_flags;
};
long sock_send(struct sock *s, struct transfer *t); /* takes over t->fds when it returns > 0 */
long sock_recv(struct sock *s, struct transfer *t); /* t->fds: the caller's, files referenced */

/* ---- sockname.c ---- */
int sock_bind(struct sock *s, const struct addr *a);
int sock_bind_auto(
    struct sock *s); /* a name for a sender that has none, where the family wants one */
int sock_connect(struct sock *s, const struct addr *a, bool nonblock);
void sock_unbind(struct sock *s);
/* The socket of a name, referenced, or NULL and *err. */
struct sock *sock_find(struct sock *from, const struct addr *a, int *err);
int addr_check(const struct sock *s, struct addr *a);

#endif
