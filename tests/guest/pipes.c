/*
 * pipes.c - pipes, fifos, and waiting for several files at once: poll, select, epoll, eventfd, timerfd.
 *
 * proves: X-38
 */
#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static int fails(long result, int want) { return result == -1 && errno == want; }

static volatile int got_pipe;
static void on_pipe(int n) { got_pipe += n == SIGPIPE; }
static void on_alarm(int n) { (void)n; }

static void plain(void)
{
    int p[2], n;
    char buf[70000];

    CHECK(pipe(p) == 0 && write(p[1], "abc", 3) == 3, "write to a pipe");
    CHECK(ioctl(p[0], FIONREAD, &n) == 0 && n == 3, "FIONREAD");
    CHECK(read(p[0], buf, 100) == 3 && !memcmp(buf, "abc", 3), "read what is there");
    CHECK(fails(lseek(p[0], 0, SEEK_SET), ESPIPE) && fails(pread(p[0], buf, 1, 0), ESPIPE),
          "a pipe has no position");
    CHECK(fails(read(p[1], buf, 1), EBADF) && fails(write(p[0], buf, 1), EBADF),
          "each end has its direction");
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    CHECK(fails(read(p[0], buf, 1), EAGAIN), "nothing to read");
    memset(buf, 'x', sizeof buf);
    CHECK(write(p[1], buf, sizeof buf) == 65536, "a pipe holds 65536 bytes");
    CHECK(fails(write(p[1], buf, 1), EAGAIN), "and no more");
    CHECK(read(p[0], buf, 100) == 100 && fails(write(p[1], buf, 4096), EAGAIN),
          "4096 bytes are written whole or not at all");
    CHECK(fcntl(p[1], F_GETPIPE_SZ) == 65536 && fcntl(p[1], F_SETPIPE_SZ, 131072) == 131072 &&
              write(p[1], buf, 4096) == 4096,
          "a larger pipe");
    close(p[1]);
    for (n = 0; read(p[0], buf, 4096) > 0; n++)
        ;
    CHECK(n >= 17 && read(p[0], buf, 1) == 0, "the end after the last byte");
    close(p[0]);
    CHECK(pipe2(p, O_CLOEXEC) == 0 && fcntl(p[0], F_GETFD) == FD_CLOEXEC, "pipe2");
    signal(SIGPIPE, on_pipe);
    close(p[0]);
    CHECK(fails(write(p[1], "x", 1), EPIPE) && got_pipe == 1, "EPIPE and SIGPIPE");
    close(p[1]);
}

static void between_processes(void)
{
    static char buf[1 << 20];
    int p[2], status;
    long sum = 0, want = 0, n;

    for (size_t k = 0; k < sizeof buf; k++)
        want += (unsigned char)(buf[k] = (char)(k * 7 + k / 251));
    if (pipe(p))
        CHECK(0, "pipe");
    if (!fork()) {
        close(p[0]);
        _exit(write(p[1], buf, sizeof buf) != sizeof buf);
    }
    close(p[1]);
    memset(buf, 0, sizeof buf);
    while ((n = read(p[0], buf, 3333)) > 0)
        for (long k = 0; k < n; k++)
            sum += (unsigned char)buf[k];
    wait(&status);
    close(p[0]);
    CHECK(sum == want && status == 0, "a megabyte through a pipe");
}

static void fifo(void)
{
    char name[] = "/tmp/quire-fifo-XXXXXX", buf[8];
    int fd, status;

    close(mkstemp(name));
    unlink(name);
    CHECK(mkfifo(name, 0600) == 0 && fails(open(name, O_WRONLY | O_NONBLOCK), ENXIO),
          "no reader of a fifo");
    if (!fork()) {
        fd = open(name, O_WRONLY);
        _exit(write(fd, "fifo", 4) != 4);
    }
    CHECK((fd = open(name, O_RDONLY)) >= 0 && read(fd, buf, 8) == 4 && read(fd, buf, 8) == 0,
          "both sides of a fifo");
    wait(&status);
    close(fd);
    unlink(name);
}

static void polling(void)
{
    int p[2], q[2];
    struct pollfd f[4];
    struct timeval tv = {0, 10000};
    fd_set r, w;

    if (pipe(p) || pipe(q))
        CHECK(0, "pipes");
    f[0] = (struct pollfd){p[0], POLLIN, 0};
    f[1] = (struct pollfd){q[1], POLLOUT, 0};
    f[2] = (struct pollfd){-1, POLLIN, 99};
    f[3] = (struct pollfd){999, POLLIN, 0};
    CHECK(poll(f, 1, 0) == 0 && poll(f, 1, 20) == 0, "nothing is ready");
    CHECK(poll(f, 4, -1) == 2 && f[0].revents == 0 && f[1].revents == POLLOUT &&
              f[2].revents == 0 && f[3].revents == POLLNVAL,
          "room, a negative descriptor, none");
    if (!fork()) {
        usleep(20000);
        _exit(write(p[1], "x", 1) != 1);
    }
    CHECK(poll(f, 1, 10000) == 1 && f[0].revents == POLLIN, "poll wakes up");
    wait(NULL);
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(p[0], &r);
    FD_SET(q[0], &r);
    FD_SET(q[1], &w);
    CHECK(select(q[1] + 1, &r, &w, NULL, NULL) == 2 && FD_ISSET(p[0], &r) && !FD_ISSET(q[0], &r) &&
              FD_ISSET(q[1], &w),
          "select");
    FD_ZERO(&r);
    FD_SET(q[0], &r);
    CHECK(select(q[0] + 1, &r, NULL, NULL, &tv) == 0 && !FD_ISSET(q[0], &r), "select in vain");
    close(p[1]);
    f[0].revents = 0;
    CHECK(poll(f, 1, 0) == 1 && f[0].revents == (POLLIN | POLLHUP), "a hang-up with data");
    close(q[0]);
    CHECK(poll(f + 1, 1, 0) == 1 && (f[1].revents & POLLERR), "a write end without reader");
    signal(SIGALRM, on_alarm);
    alarm(1);
    f[0].fd = -1;
    CHECK(fails(poll(f, 1, 5000), EINTR), "a signal ends poll");
    close(p[0]);
    close(q[1]);
}

static void *write_later(void *arg)
{
    usleep(20000);
    if (write(*(int *)arg, "y", 1) != 1)
        return arg;
    return NULL;
}

static void epolls(void)
{
    int e = epoll_create1(EPOLL_CLOEXEC), p[2], q[2], outer;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 7}, out[4];
    pthread_t t;
    char c;

    if (pipe(p) || pipe(q))
        CHECK(0, "pipes");
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev) == 0 &&
              fails(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev), EEXIST),
          "watch once");
    CHECK(fails(epoll_ctl(e, EPOLL_CTL_MOD, q[0], &ev), ENOENT) &&
              fails(epoll_ctl(e, EPOLL_CTL_ADD, e, &ev), EINVAL),
          "what is not watched, and itself");
    CHECK(fails(epoll_ctl(e, EPOLL_CTL_ADD, open("/proc/self/exe", O_RDONLY), &ev), EPERM),
          "files are not watched");
    CHECK(epoll_wait(e, out, 4, 0) == 0, "nothing is ready");
    pthread_create(&t, NULL, write_later, &p[1]);
    CHECK(epoll_wait(e, out, 4, 10000) == 1 && out[0].data.u64 == 7 && out[0].events == EPOLLIN,
          "epoll_wait wakes up");
    pthread_join(t, NULL);
    CHECK(epoll_wait(e, out, 4, 0) == 1, "level: still ready");
    ev.events = EPOLLIN | EPOLLET;
    ev.data.u64 = 8;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev) == 0 && epoll_wait(e, out, 4, 0) == 1 &&
              out[0].data.u64 == 8 && epoll_wait(e, out, 4, 0) == 0,
          "edge: once");
    CHECK(write(p[1], "z", 1) == 1 && epoll_wait(e, out, 4, 0) == 1 &&
              epoll_wait(e, out, 4, 0) == 0,
          "and again when more comes");
    ev.events = EPOLLIN | EPOLLONESHOT;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev) == 0 && epoll_wait(e, out, 4, 0) == 1 &&
              epoll_wait(e, out, 4, 0) == 0,
          "one shot");
    outer = epoll_create1(0);
    ev.events = EPOLLIN;
    epoll_ctl(outer, EPOLL_CTL_ADD, e, &ev);
    CHECK(fails(epoll_ctl(e, EPOLL_CTL_ADD, outer, &ev), ELOOP), "no circle of epolls");
    epoll_ctl(e, EPOLL_CTL_ADD, q[0], &ev);
    CHECK(write(q[1], "q", 1) == 1 && epoll_wait(outer, out, 4, 1000) == 1, "an epoll in an epoll");
    close(q[0]);
    CHECK(epoll_wait(e, out, 4, 0) == 0, "a closed file is not watched");
    CHECK(epoll_ctl(e, EPOLL_CTL_DEL, p[0], NULL) == 0 && read(p[0], &c, 1) == 1,
          "no longer watched");
    CHECK(fails(epoll_wait(e, out, 0, 0), EINVAL) && fails(epoll_wait(p[0], out, 1, 0), EINVAL),
          "wrong calls");
    close(e);
    close(outer);
    close(p[0]);
    close(p[1]);
    close(q[1]);
}

static void events(void)
{
    int e = eventfd(3, EFD_NONBLOCK), s = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK), t;
    unsigned long long v = 4;
    struct itimerspec at = {{0, 5000000}, {0, 5000000}}, left;
    struct pollfd f = {e, POLLIN | POLLOUT, 0};

    CHECK(write(e, &v, 8) == 8 && read(e, &v, 8) == 8 && v == 7, "eventfd adds up");
    CHECK(fails(read(e, &v, 8), EAGAIN) && fails(read(e, &v, 4), EINVAL), "eventfd is empty");
    CHECK(poll(&f, 1, 0) == 1 && f.revents == POLLOUT, "eventfd can be written");
    v = ~0ull;
    CHECK(fails(write(e, &v, 8), EINVAL), "eventfd refuses -1");
    CHECK(read(s, &v, 8) == 8 && v == 1 && read(s, &v, 8) == 8 && fails(read(s, &v, 8), EAGAIN),
          "eventfd as a semaphore");
    t = timerfd_create(CLOCK_MONOTONIC, 0);
    CHECK(timerfd_settime(t, 0, &at, NULL) == 0 && read(t, &v, 8) == 8 && v >= 1, "timerfd");
    usleep(30000);
    CHECK(read(t, &v, 8) == 8 && v >= 3, "timerfd counts what was missed");
    CHECK(timerfd_gettime(t, &left) == 0 && left.it_interval.tv_nsec == 5000000 &&
              left.it_value.tv_nsec <= 5000000,
          "timerfd_gettime");
    close(e);
    close(s);
    close(t);
}

static void splicing(void)
{
    int p[2], q[2];
    char buf[16] = "";

    if (pipe(p) || pipe(q))
        CHECK(0, "pipes");
    CHECK(write(p[1], "splice", 6) == 6 && tee(p[0], q[1], 3, 0) == 3 && read(q[0], buf, 16) == 3 &&
              !memcmp(buf, "spl", 3),
          "tee");
    CHECK(splice(p[0], NULL, q[1], NULL, 16, 0) == 6 && read(q[0], buf, 16) == 6 &&
              !memcmp(buf, "splice", 6),
          "splice");
    CHECK(fails(splice(p[0], NULL, q[1], NULL, 16, SPLICE_F_NONBLOCK), EAGAIN),
          "splice of nothing");
}

int main(void)
{
    plain();
    between_processes();
    fifo();
    polling();
    epolls();
    events();
    splicing();
    return 0;
}
