/*
 * sockets.c - sockets between processes of one machine: AF_UNIX, and TCP and UDP on the loopback.
 *
 * proves: X-38
 */
#include "guest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static int fails(long result, int want) { return result == -1 && errno == want; }

static void pairs(void)
{
    int s[2], n;
    char buf[64];
    struct pollfd f;

    CHECK(fails(socket(77, SOCK_STREAM, 0), EAFNOSUPPORT) && fails(socket(AF_UNIX, 77, 0), EINVAL),
          "sockets that are not");
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && write(s[0], "abc", 3) == 3 &&
              write(s[0], "def", 3) == 3,
          "a pair");
    CHECK(ioctl(s[1], FIONREAD, &n) == 0 && n == 6, "bytes to read");
    CHECK(recv(s[1], buf, 4, MSG_PEEK) == 4 && recv(s[1], buf, 64, 0) == 6 &&
              !memcmp(buf, "abcdef", 6),
          "a stream has no borders");
    CHECK(fails(recv(s[1], buf, 1, MSG_DONTWAIT), EAGAIN), "MSG_DONTWAIT");
    f = (struct pollfd){s[1], POLLIN | POLLOUT | POLLRDHUP, 0};
    CHECK(poll(&f, 1, 0) == 1 && f.revents == POLLOUT, "writable");
    CHECK(shutdown(s[0], SHUT_WR) == 0 && read(s[1], buf, 1) == 0 && write(s[1], "x", 1) == 1 &&
              read(s[0], buf, 1) == 1,
          "half closed");
    CHECK(poll(&f, 1, 0) == 1 && f.revents == (POLLIN | POLLOUT | POLLRDHUP), "POLLRDHUP");
    close(s[0]);
    CHECK(poll(&f, 1, 0) == 1 && (f.revents & POLLHUP), "POLLHUP");
    CHECK(fails(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE), "EPIPE");
    close(s[1]);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) == 0 && write(s[0], "abc", 3) == 3 &&
              write(s[0], "defg", 4) == 4 && read(s[1], buf, 2) == 2 && read(s[1], buf, 64) == 4,
          "packets have borders");
    close(s[0]);
    CHECK(read(s[1], buf, 1) == 0, "the end of packets");
    close(s[1]);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s) == 0 && write(s[0], "", 0) == 0 &&
              read(s[1], buf, 64) == 0 && fails(read(s[1], buf, 64), EAGAIN),
          "an empty datagram");
    close(s[0]);
    close(s[1]);
}

static void serve(int family, const struct sockaddr *addr, socklen_t len, const char *what)
{
    int l = socket(family, SOCK_STREAM, 0), c, status, one = 1;
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    static char buf[300000];
    long sum = 0, k;

    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    CHECK(bind(l, addr, len) == 0 && listen(l, 5) == 0, "%s: listen", what);
    CHECK(getsockname(l, (struct sockaddr *)&at, &n) == 0 && at.ss_family == family,
          "%s: getsockname", what);
    if (!fork()) {
        int s = socket(family, SOCK_STREAM, 0);

        if (connect(s, (struct sockaddr *)&at, n))
            _exit(1);
        memset(buf, 1, sizeof buf);
        if (write(s, buf, sizeof buf) != sizeof buf)
            _exit(2);
        shutdown(s, SHUT_WR);
        _exit(read(s, buf, 16) != 5 || memcmp(buf, "thank", 5) ? 3 : 0);
    }
    CHECK((c = accept4(l, NULL, NULL, SOCK_CLOEXEC)) >= 0 && fcntl(c, F_GETFD) == FD_CLOEXEC,
          "%s: accept4", what);
    while ((k = read(c, buf, 7777)) > 0)
        for (long i = 0; i < k; i++)
            sum += buf[i];
    CHECK(sum == sizeof buf && write(c, "thank", 5) == 5, "%s: all came", what);
    wait(&status);
    CHECK(status == 0, "%s: the client is content", what);
    CHECK(recv(c, buf, 1, 0) == 0, "%s: the client is gone", what);
    CHECK(fails(accept(c, NULL, NULL), EINVAL), "%s: accept where nobody listens", what);
    fcntl(l, F_SETFL, O_NONBLOCK);
    CHECK(fails(accept(l, NULL, NULL), EAGAIN), "%s: nobody to accept", what);
    close(c);
    close(l);
    c = socket(family, SOCK_STREAM, 0);
    CHECK(fails(connect(c, (struct sockaddr *)&at, n), ECONNREFUSED), "%s: nobody listens", what);
    close(c);
}

static void unix_names(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/quire-sock-%d", getpid());
    serve(AF_UNIX, (struct sockaddr *)&a, sizeof a, "unix");
    CHECK(fails(bind(s, (struct sockaddr *)&a, sizeof a), EADDRINUSE) && unlink(a.sun_path) == 0,
          "unix: the name is taken");
    CHECK(fails(connect(s, (struct sockaddr *)&a, sizeof a), ENOENT), "unix: no such name");
    close(s);
    a.sun_path[0] = 0;
    serve(AF_UNIX, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 20),
          "abstract");
}

static int send_fd(int s, int fd)
{
    union {
        char b[CMSG_SPACE(sizeof fd)];
        struct cmsghdr align;
    } u = {.b = {0}};
    struct iovec iov = {"f", 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return (int)sendmsg(s, &m, 0);
}

static int receive_fd(int s, struct ucred *cred)
{
    union {
        char b[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof *cred)];
        struct cmsghdr align;
    } u;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
    int fd = -1;

    if (recvmsg(s, &m, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
        if (c->cmsg_type == SCM_CREDENTIALS)
            memcpy(cred, CMSG_DATA(c), sizeof *cred);
    }
    return fd;
}

static void rights(void)
{
    int s[2], p[2], fd, status, one = 1;
    char buf[8];
    struct ucred c = {0};
    socklen_t n = sizeof c;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) || pipe(p))
        CHECK(0, "pair and pipe");
    CHECK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &c, &n) == 0 && c.pid == getpid() &&
              c.uid == getuid(),
          "SO_PEERCRED");
    c.pid = 0;
    setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    if (!fork())
        _exit(send_fd(s[0], p[0]) != 1);
    wait(&status);
    CHECK(status == 0 && (fd = receive_fd(s[1], &c)) >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC,
          "a descriptor by SCM_RIGHTS");
    CHECK(c.pid > getpid() && c.uid == getuid(), "whose sender is known");
    CHECK(write(p[1], "pipe", 4) == 4 && read(fd, buf, 8) == 4, "and which works");
    CHECK(send_fd(s[0], fd) == 1 && read(s[1], buf, 1) == 1, "a descriptor that nobody takes");
    CHECK(fails(send_fd(s[0], 999), EBADF), "a descriptor that is not");
}

static void datagrams(int family, const struct sockaddr *addr, socklen_t len, const char *what)
{
    int a = socket(family, SOCK_DGRAM, 0), b = socket(family, SOCK_DGRAM, 0);
    struct sockaddr_storage at, from;
    socklen_t n = sizeof at, k = sizeof from;
    char buf[64];

    CHECK(bind(a, addr, len) == 0 && getsockname(a, (struct sockaddr *)&at, &n) == 0, "%s: bind",
          what);
    CHECK(sendto(b, "one", 3, 0, (struct sockaddr *)&at, n) == 3 &&
              sendto(b, "three", 5, 0, (struct sockaddr *)&at, n) == 5,
          "%s: sendto", what);
    CHECK(recvfrom(a, buf, 64, 0, (struct sockaddr *)&from, &k) == 3 &&
              recv(a, buf, 2, MSG_TRUNC) == 5,
          "%s: recvfrom, MSG_TRUNC", what);
    CHECK(connect(b, (struct sockaddr *)&at, n) == 0 && send(b, "four", 4, 0) == 4 &&
              read(a, buf, 64) == 4,
          "%s: connected", what);
    close(a);
    close(b);
}

static void options(void)
{
    int s = socket(AF_INET, SOCK_STREAM, 0), v = 1;
    socklen_t n = sizeof v;
    struct timeval tv = {0, 20000};
    int pair[2];
    char c;

    CHECK(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v) == 0 &&
              getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, &n) == 0 && v != 0,
          "TCP_NODELAY");
    CHECK(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n) == 0 && v == SOCK_STREAM, "SO_TYPE");
    CHECK(getsockopt(s, SOL_SOCKET, SO_ERROR, &v, &n) == 0 && v == 0, "SO_ERROR");
    CHECK(fails(setsockopt(s, SOL_SOCKET, 9999, &v, sizeof v), ENOPROTOOPT),
          "an option that is not");
    CHECK(fails(setsockopt(0, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v), ENOTSOCK), "no socket");
    CHECK(fails(recv(s, &c, 1, 0), ENOTCONN), "not connected");
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        CHECK(0, "pair");
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0 &&
              fails(read(pair[0], &c, 1), EAGAIN),
          "SO_RCVTIMEO");
}

int main(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    pairs();
    unix_names();
    rights();
    serve(AF_INET, (struct sockaddr *)&in, sizeof in, "tcp");
    datagrams(AF_INET, (struct sockaddr *)&in, sizeof in, "udp");
    snprintf(un.sun_path, sizeof un.sun_path, "/tmp/quire-dgram-%d", getpid());
    datagrams(AF_UNIX, (struct sockaddr *)&un, sizeof un, "unix datagrams");
    unlink(un.sun_path);
    options();
    return 0;
}
