/*
 * signals.c - handlers, masks, queues, alternate stacks, interrupted calls, job control, timers.
 *
 * proves: AS-26
 */
#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

static volatile sig_atomic_t count, last_signal, last_code, last_value, order[64];
static volatile pid_t last_pid;
static siginfo_t last_info;

static void note(int sig, siginfo_t *info, void *context)
{
    (void)context;
    order[count % 64] = sig * 1000 + info->si_value.sival_int;
    count++;
    last_signal = sig;
    last_code = info->si_code;
    last_value = info->si_value.sival_int;
    last_pid = info->si_pid;
    last_info = *info;
}

static void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};

    sigemptyset(&a.sa_mask);
    sigaction(sig, &a, NULL);
}

static void reset(void) { count = last_signal = last_code = last_value = 0; }

static sigset_t set_of(int a, int b)
{
    sigset_t s;

    sigemptyset(&s);
    sigaddset(&s, a);
    if (b)
        sigaddset(&s, b);
    return s;
}

static void plain(void)
{
    struct sigaction a, old;

    handle(SIGUSR1, note, 0);
    reset();
    kill(getpid(), SIGUSR1);
    CHECK(count == 1 && last_signal == SIGUSR1 && last_code == SI_USER && last_pid == getpid(),
          "kill runs the handler before it returns");
    raise(SIGUSR1);
    CHECK(count == 2 && last_code == SI_TKILL, "raise too, with its own code");
    handle(SIGUSR1, note, SA_RESETHAND);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &old);
    CHECK(count == 3 && old.sa_handler == SIG_DFL, "SA_RESETHAND puts the default back");
    a.sa_handler = SIG_IGN;
    a.sa_flags = 0;
    sigemptyset(&a.sa_mask);
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    CHECK(count == 3, "an ignored signal is gone");
    CHECK(sigaction(SIGKILL, &a, NULL) == -1 && errno == EINVAL, "SIGKILL cannot be caught");
    CHECK(sigaction(65, &a, NULL) == -1 && errno == EINVAL, "there is no signal 65");
    CHECK(kill(getpid(), 0) == 0 && kill(999999, 0) == -1 && errno == ESRCH, "signal 0 asks");
}

static void queued(void)
{
    sigset_t s = set_of(SIGRTMIN, SIGRTMIN + 1), p, old;
    union sigval v;

    handle(SIGRTMIN, note, 0);
    handle(SIGRTMIN + 1, note, 0);
    handle(SIGUSR1, note, 0);
    sigaddset(&s, SIGUSR1);
    sigprocmask(SIG_BLOCK, &s, &old);
    reset();
    for (int i = 0; i < 3; i++) {
        v.sival_int = i + 1;
        sigqueue(getpid(), SIGRTMIN + 1, v);
        sigqueue(getpid(), SIGRTMIN, v);
        kill(getpid(), SIGUSR1);
    }
    sigpending(&p);
    CHECK(count == 0 && sigismember(&p, SIGRTMIN) && sigismember(&p, SIGUSR1) &&
              !sigismember(&p, SIGUSR2),
          "blocked signals wait");
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK(count == 7, "each queued one comes, the plain one once");
    handle(SIGUSR1, note, 0);
    sigprocmask(SIG_BLOCK, &s, &old);
    reset();
    for (int i = 0; i < 3; i++) {
        v.sival_int = i + 1;
        sigqueue(getpid(), SIGRTMIN, v);
    }
    for (int i = 0; i < 3; i++) {
        siginfo_t info;

        CHECK(sigwaitinfo(&s, &info) == SIGRTMIN && info.si_value.sival_int == i + 1 &&
                  info.si_code == SI_QUEUE,
              "sigwaitinfo takes queued ones in order");
    }
    struct timespec ts = {0, 20000000};
    CHECK(sigtimedwait(&s, NULL, &ts) == -1 && errno == EAGAIN, "sigtimedwait ends in time");
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK(count == 0, "without a handler being run");
}

static volatile sig_atomic_t nested, deepest, depth;

static void nest(int sig)
{
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (nested-- > 0)
        raise(sig);
    depth--;
}

static void nesting(void)
{
    struct sigaction a = {.sa_handler = nest};

    sigemptyset(&a.sa_mask);
    sigaction(SIGUSR2, &a, NULL);
    nested = 3;
    deepest = 0;
    raise(SIGUSR2);
    CHECK(deepest == 1, "a handler is not interrupted by its own signal");
    a.sa_flags = SA_NODEFER;
    sigaction(SIGUSR2, &a, NULL);
    nested = 3;
    deepest = 0;
    raise(SIGUSR2);
    CHECK(deepest == 4, "unless SA_NODEFER says so");
}

static char altstack[65536];
static volatile sig_atomic_t was_on_alt, alt_flags_inside;

static void on_alt(int sig)
{
    char here;
    stack_t now;

    (void)sig;
    sigaltstack(NULL, &now);
    alt_flags_inside = now.ss_flags;
    was_on_alt = &here >= altstack && &here < altstack + sizeof altstack;
}

static void alternate(void)
{
    stack_t s = {.ss_sp = altstack, .ss_size = sizeof altstack}, old;
    struct sigaction a = {.sa_handler = on_alt, .sa_flags = SA_ONSTACK};

    sigemptyset(&a.sa_mask);
    CHECK(!sigaltstack(&s, NULL) && !sigaltstack(NULL, &old) && old.ss_sp == altstack &&
              old.ss_flags == 0,
          "an alternate stack is remembered");
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    CHECK(was_on_alt && alt_flags_inside == SS_ONSTACK, "and used");
    s.ss_size = 100;
    CHECK(sigaltstack(&s, NULL) == -1 && errno == ENOMEM, "a tiny one is refused");
    s.ss_size = sizeof altstack;
    s.ss_flags = (int)(1u << 31);
    CHECK(!sigaltstack(&s, NULL), "SS_AUTODISARM is accepted");
    raise(SIGUSR1);
    CHECK(was_on_alt && (alt_flags_inside & SS_DISABLE), "and off inside of the handler");
    sigaltstack(NULL, &old);
    CHECK(old.ss_sp == altstack, "and back afterwards");
    s.ss_flags = SS_DISABLE;
    sigaltstack(&s, NULL);
}

static volatile double kept;

static void disturb(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    volatile double a = 1.5;

    (void)info;
    for (int i = 0; i < 100; i++)
        a = a * 1.25 + sig;
    kept = a;
    uc->uc_mcontext.gregs[REG_R12] = 0x1234567890abcdef;
    __asm__ volatile("xorpd %%xmm0, %%xmm0; xorpd %%xmm15, %%xmm15" ::: "xmm0", "xmm15");
}

static void context(void)
{
    uint64_t r12, xmm = 0x4242424242424242, out, pid = (uint64_t)getpid();
    long nr = SYS_kill;

    handle(SIGUSR1, disturb, 0);
    __asm__ volatile(
        "movq %[x], %%xmm15\n\tmov $7, %%r12\n\tsyscall\n\tmov %%r12, %[r]\n\tmovq %%xmm15, %[o]"
        : [r] "=&r"(r12), [o] "=&r"(out), "+a"(nr)
        : [x] "r"(xmm), "D"(pid), "S"((uint64_t)SIGUSR1)
        : "rcx", "r11", "r12", "xmm15", "memory");
    CHECK(nr == 0, "a call that a handler follows returns its value");
    CHECK(out == xmm, "vector registers come back");
    CHECK(r12 == 0x1234567890abcdef, "a register changed in the context takes effect");
}

static void *kick(void *arg)
{
    pthread_t *t = arg;

    usleep(50000);
    pthread_kill(*t, SIGUSR1);
    usleep(50000);
    return NULL;
}

static void interrupted(void)
{
    pthread_t me = pthread_self(), helper;
    int fds[2], n;
    char c;
    pid_t child;

    CHECK(!pipe(fds), "a pipe");
    handle(SIGUSR1, note, 0);
    pthread_create(&helper, NULL, kick, &me);
    n = (int)read(fds[0], &c, 1);
    CHECK(n == -1 && errno == EINTR, "a handler interrupts a read");
    pthread_join(helper, NULL);
    handle(SIGUSR1, note, SA_RESTART);
    child = fork();
    if (!child) {
        usleep(50000);
        kill(getppid(), SIGUSR1);
        usleep(50000);
        n = (int)write(fds[1], "x", 1);
        _exit(n != 1);
    }
    reset();
    n = (int)read(fds[0], &c, 1);
    CHECK(n == 1 && c == 'x' && count == 1, "SA_RESTART lets it go on");
    waitpid(child, NULL, 0);
    struct timespec ts = {5, 0}, left = {0, 0};
    pthread_create(&helper, NULL, kick, &me);
    n = nanosleep(&ts, &left);
    CHECK(n == -1 && errno == EINTR && left.tv_sec < 5 && left.tv_sec + left.tv_nsec > 0,
          "a sleep tells what was left");
    pthread_join(helper, NULL);
    close(fds[0]);
    close(fds[1]);
}

static void suspended(void)
{
    sigset_t s = set_of(SIGUSR1, 0), old, none;
    pid_t child;

    sigemptyset(&none);
    handle(SIGUSR1, note, 0);
    sigprocmask(SIG_BLOCK, &s, &old);
    reset();
    child = fork();
    if (!child) {
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    CHECK(sigsuspend(&none) == -1 && errno == EINTR && count == 1,
          "sigsuspend opens the mask and waits");
    sigprocmask(SIG_BLOCK, NULL, &none);
    CHECK(sigismember(&none, SIGUSR1), "the mask is back");
    sigprocmask(SIG_SETMASK, &old, NULL);
    waitpid(child, NULL, 0);
}

static void child_signals(void)
{
    int status;
    pid_t child;
    siginfo_t info;

    handle(SIGCHLD, note, SA_RESTART);
    reset();
    child = fork();
    if (!child)
        _exit(7);
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7, "a child's end");
    CHECK(count == 1 && last_code == CLD_EXITED && last_info.si_status == 7 && last_pid == child,
          "SIGCHLD tells how it ended");
    child = fork();
    if (!child)
        for (;;)
            pause();
    reset();
    kill(child, SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) &&
              WSTOPSIG(status) == SIGSTOP,
          "a stopped child is reported");
    CHECK(last_code == CLD_STOPPED && last_info.si_status == SIGSTOP, "and told");
    CHECK(waitpid(child, &status, WUNTRACED | WNOHANG) == 0, "once");
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status), "continued");
    kill(child, SIGTERM);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_KILLED &&
              info.si_status == SIGTERM && info.si_pid == child,
          "waitid looks without reaping");
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM,
          "killed");
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (!child)
        _exit(0);
    CHECK(waitpid(child, &status, 0) == -1 && errno == ECHILD,
          "who ignores SIGCHLD has no dead children");
    signal(SIGCHLD, SIG_DFL);
}

static int dies_with(void (*fn)(void))
{
    int status;
    pid_t child = fork();

    if (!child) {
        fn();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static volatile int *volatile nowhere = (volatile int *)8;

static void blocked_segv(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    *nowhere = 1;
}
static void ignored_fpe(void)
{
    volatile int zero = 0, seven = 7;

    signal(SIGFPE, SIG_IGN);
    zero = seven / zero;
}
static void illegal(void) { __asm__ volatile("ud2"); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void aborts(void) { abort(); }
static void broken_sigreturn(void)
{
    __asm__ volatile("mov $0x1000, %%rsp; mov $15, %%eax; syscall" ::: "memory");
}

static void deaths(void)
{
    CHECK(dies_with(blocked_segv) == SIGSEGV, "a fault cannot be blocked");
    CHECK(dies_with(ignored_fpe) == SIGFPE, "nor ignored");
    CHECK(dies_with(illegal) == SIGILL, "an illegal instruction");
    CHECK(dies_with(privileged) == SIGSEGV, "a privileged one");
    CHECK(dies_with(aborts) == SIGABRT, "abort");
    CHECK(dies_with(broken_sigreturn) == SIGSEGV, "sigreturn without a frame");
}

static void descriptor(void)
{
    sigset_t s = set_of(SIGUSR1, SIGUSR2), old;
    struct signalfd_siginfo info;
    struct pollfd p;
    int fd;

    sigprocmask(SIG_BLOCK, &s, &old);
    fd = signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0 && read(fd, &info, sizeof info) == -1 && errno == EAGAIN,
          "a signalfd with nothing in it");
    kill(getpid(), SIGUSR2);
    p = (struct pollfd){.fd = fd, .events = POLLIN};
    CHECK(poll(&p, 1, 1000) == 1 && p.revents == POLLIN, "polls readable");
    CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2 &&
              info.ssi_pid == (uint32_t)getpid(),
          "and gives the signal");
    close(fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void timers(void)
{
    struct itimerval it = {.it_interval = {0, 10000}, .it_value = {0, 10000}}, left;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
    struct itimerspec its = {.it_value = {0, 20000000}};
    struct timespec t0, t1;
    timer_t timer;

    handle(SIGALRM, note, 0);
    reset();
    setitimer(ITIMER_REAL, &it, NULL);
    while (count < 3)
        pause();
    CHECK(last_signal == SIGALRM, "an interval timer comes again and again");
    it.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &it, &left);
    CHECK(left.it_interval.tv_usec == 10000, "until it is stopped");
    CHECK(alarm(10) == 0 && alarm(0) == 10, "alarm tells the rest");
    handle(SIGPROF, note, SA_RESTART);
    reset();
    it = (struct itimerval){.it_value = {0, 20000}};
    setitimer(ITIMER_PROF, &it, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
    while (!count)
        ;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
    CHECK((t1.tv_sec - t0.tv_sec) * 1000000000l + t1.tv_nsec - t0.tv_nsec >= 10000000,
          "ITIMER_PROF counts processor time");
    handle(SIGRTMIN + 2, note, 0);
    ev.sigev_value.sival_int = 77;
    CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &timer), "timer_create");
    reset();
    CHECK(!timer_settime(timer, 0, &its, NULL), "timer_settime");
    while (!count)
        pause();
    CHECK(last_code == SI_TIMER && last_value == 77, "sends its value");
    CHECK(!timer_delete(timer) && timer_delete(timer) == -1 && errno == EINVAL, "timer_delete");
}

int main(void)
{
    plain();
    queued();
    nesting();
    alternate();
    context();
    interrupted();
    suspended();
    child_signals();
    deaths();
    descriptor();
    timers();
    return 0;
}
