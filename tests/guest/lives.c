/*
 * lives.c - fork, clone, exec, exit and wait: families, groups, descriptors, arguments, errors.
 * Called with arguments it is the program that it executes.
 *
 * proves: VM-24
 */
#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;
static const char *self;

static int reap(pid_t child)
{
    int status = -1;

    return waitpid(child, &status, 0) == child ? status : -1;
}

static void waiting(void)
{
    int status;
    pid_t a, b;
    siginfo_t info;

    CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD, "no child to wait for");
    CHECK(waitpid(-1, &status, 0x100) == -1 && errno == EINVAL, "unknown options are refused");
    a = fork();
    if (!a)
        _exit(300);
    CHECK(WEXITSTATUS(reap(a)) == 300 % 256, "an exit status has eight bits");
    a = fork();
    if (!a) {
        pause();
        _exit(0);
    }
    CHECK(waitpid(a, &status, WNOHANG) == 0, "WNOHANG does not wait");
    b = fork();
    if (!b)
        _exit(3);
    CHECK(waitpid(b, &status, 0) == b && WEXITSTATUS(status) == 3, "one child while another lives");
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0,
          "waitid: nothing yet");
    CHECK(waitid(P_ALL, 0, &info, 0) == -1 && errno == EINVAL, "waitid wants to know what for");
    kill(a, SIGKILL);
    CHECK(waitid(P_PID, (id_t)a, &info, WEXITED) == 0 && info.si_code == CLD_KILLED &&
              info.si_status == SIGKILL,
          "killed");
    CHECK(waitpid(a, &status, 0) == -1 && errno == ECHILD, "a child is reaped once");
}

static void groups(void)
{
    pid_t child, grand;
    int fds[2], status;

    CHECK(!pipe(fds), "a pipe");
    child = fork();
    if (!child) {
        if (setpgid(0, 0) || getpgrp() != getpid() || setpgid(0, 999999) != -1)
            _exit(1);
        grand = fork();
        if (!grand) {
            pause();
            _exit(0);
        }
        if (getpgid(grand) != getpid() || kill(0, SIGUSR1) == -1)
            _exit(2);
        _exit(3);
    }
    status = reap(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1,
          "a signal to the group reaches all of it");
    child = fork();
    if (!child) {
        pid_t s = setsid();

        if (s != getpid() || getsid(0) != s || getpgrp() != s || setsid() != -1 || errno != EPERM)
            _exit(1);
        _exit(0);
    }
    CHECK(reap(child) == 0, "a new session");
    child = fork();
    if (!child) {
        grand = fork();
        if (!grand) {
            char c = 'x';

            while (getppid() == getpgrp())
                usleep(1000);
            c = getppid() == 1 ? 'y' : 'n';
            _exit(write(fds[1], &c, 1) != 1);
        }
        _exit(0);
    }
    reap(child);
    close(fds[0]);
    close(fds[1]);
}

static int stack_child(void *arg)
{
    *(volatile int *)arg = 42;
    return 5;
}

static void *exits_alone(void *arg)
{
    (void)arg;
    syscall(SYS_exit, 1);
    return NULL;
}

static void *exits_all(void *arg)
{
    (void)arg;
    exit(9);
}

static void cloning(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    volatile int shared = 0;
    int pid, pidfd = -1, status;
    struct pollfd p;
    siginfo_t info;
    pthread_t t;
    pid_t child;

    pid = clone(stack_child, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)&shared);
    CHECK(pid > 0 && WEXITSTATUS(reap(pid)) == 5 && shared == 42, "CLONE_VM shares memory");
    pid = clone(stack_child, stack + sizeof stack, CLONE_VM, (void *)&shared);
    CHECK(waitpid(pid, &status, 0) == -1 && errno == ECHILD, "a child without a signal is a clone");
    CHECK(waitpid(pid, &status, __WALL) == pid, "which __WALL finds");
    CHECK(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0) == -1 && errno == EINVAL,
          "a thread must share");
    CHECK(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0) == -1 && errno == EINVAL,
          "handlers need memory");
    shared = 0;
    child = vfork();
    if (!child) {
        shared = 1;
        _exit(0);
    }
    CHECK(shared == 1 && reap(child) == 0, "vfork waits and shares");
    pid = (int)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0);
    if (!pid) {
        usleep(50000);
        _exit(6);
    }
    p = (struct pollfd){.fd = pidfd, .events = POLLIN};
    CHECK(pid > 0 && pidfd >= 0 && poll(&p, 1, 5000) == 1, "a pidfd becomes readable at the end");
    CHECK(waitid(3, (id_t)pidfd, &info, WEXITED) == 0 && info.si_status == 6,
          "and can be waited for");
    close(pidfd);
    child = fork();
    if (!child) {
        pthread_create(&t, NULL, exits_alone, NULL);
        pthread_join(t, NULL);
        _exit(4);
    }
    CHECK(WEXITSTATUS(reap(child)) == 4, "exit of a thread ends the thread");
    child = fork();
    if (!child) {
        pthread_create(&t, NULL, exits_all, NULL);
        for (;;)
            pause();
    }
    CHECK(WEXITSTATUS(reap(child)) == 9, "exit_group ends all");
    child = fork();
    if (!child) {
        pthread_create(&t, NULL, (void *(*)(void *))exits_all, NULL);
        syscall(SYS_exit, 0);
    }
    CHECK(WEXITSTATUS(reap(child)) == 9, "a leader may leave first");
}

static int run(char *const argv[], char *const env[])
{
    pid_t child = fork();

    if (!child) {
        execve(self, argv, env);
        _exit(99);
    }
    return WEXITSTATUS(reap(child));
}

static void *execs(void *arg)
{
    execve(self, arg, environ);
    _exit(98);
}

static void *sleeps(void *arg)
{
    pause();
    return arg;
}

static int exec_errno(const char *path, const void *content, size_t n, int mode)
{
    char *argv[] = {"x", NULL};
    int fd, status;
    pid_t child;

    if (content) {
        unlink(path);
        fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
        if (write(fd, content, n) != (ssize_t)n)
            return -1;
        close(fd);
        chmod(path, (mode_t)mode);
    }
    child = fork();
    if (!child) {
        execve(path, argv, environ);
        _exit(errno);
    }
    status = reap(child);
    return WEXITSTATUS(status);
}

static void executing(void)
{
    char *argv[] = {"lives", "args", "one two", "", NULL}, *env[] = {"A=1", "LIVES=yes", NULL};
    char *many[600], *big = malloc(140000);
    char *count_args[] = {"lives", "fds", NULL};
    char path[64] = "/tmp/lives.XXXXXX", script[128];
    struct rlimit limit;
    pthread_t t;
    pid_t child;
    int fd;

    CHECK(run(argv, env) == 17, "arguments and environment arrive");
    memset(big, 'x', 100000);
    big[100000] = 0;
    many[0] = "lives";
    many[1] = "count";
    for (int i = 2; i < 500; i++)
        many[i] = "0123456789012345678901234567890123456789";
    many[500] = big;
    many[501] = NULL;
    CHECK(run(many, env) == 501 % 256, "a hundred thousand bytes of arguments");
    memset(big, 'x', 131072);
    big[131072] = 0;
    CHECK(run(many, env) == 99, "one that is too long is refused");
    big[131071] = 0;
    CHECK(run(many, env) == 501 % 256, "the longest is not");
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && run(count_args, env) == 3, "close-on-exec");
    close(fd);
    CHECK(exec_errno("/nonexistent", NULL, 0, 0) == ENOENT, "no such program");
    CHECK(exec_errno("/tmp", NULL, 0, 0) == EACCES, "a directory is no program");
    fd = mkstemp(path);
    close(fd);
    CHECK(exec_errno(path, "\177ELF", 4, 0644) == EACCES, "nor a file without permission");
    CHECK(exec_errno(path, "\177ELF garbage", 12, 0755) == ENOEXEC, "nor a broken one");
    CHECK(exec_errno(path, "", 0, 0755) == ENOEXEC, "nor an empty one");
    CHECK(exec_errno(path, "#!/nonexistent\n", 15, 0755) == ENOENT,
          "nor a script without interpreter");
    snprintf(script, sizeof script, "#!%s script arg\nrest", self);
    CHECK(exec_errno(path, script, strlen(script), 0755) == 23,
          "a script gets its interpreter and argument");
    unlink(path);
    child = fork();
    if (!child) {
        char *args[] = {"lives", "alone", NULL};

        pthread_create(&t, NULL, sleeps, NULL);
        pthread_create(&t, NULL, execs, args);
        for (;;)
            pause();
    }
    CHECK(WEXITSTATUS(reap(child)) == 31, "exec by a thread leaves one thread, the leader");
    getrlimit(RLIMIT_STACK, &limit);
    CHECK(posix_spawn(&child, self, NULL, NULL, argv, env) == 0 && WEXITSTATUS(reap(child)) == 17,
          "posix_spawn");
    CHECK(posix_spawn(&child, "/nonexistent", NULL, NULL, argv, env) == ENOENT,
          "posix_spawn tells errors");
    free(big);
}

static int as_program(int argc, char **argv)
{
    if (!strcmp(argv[1], "args"))
        return argc == 4 && !strcmp(argv[2], "one two") && !argv[3][0] && !argv[4] &&
                       getenv("LIVES") && !strcmp(getenv("A"), "1") && environ[2] == NULL &&
                       getauxval(AT_PAGESZ) == 4096 && getauxval(AT_RANDOM) && getauxval(AT_PHDR)
                   ? 17
                   : 1;
    if (!strcmp(argv[1], "count"))
        return argc % 256;
    if (!strcmp(argv[1], "fds")) {
        int n = 0;

        for (int fd = 0; fd < 64; fd++)
            n += fcntl(fd, F_GETFD) != -1;
        return n;
    }
    if (!strcmp(argv[1], "script arg"))
        return argc == 3 && strstr(argv[2], "lives.") ? 23 : 1;
    if (!strcmp(argv[1], "alone"))
        return syscall(SYS_gettid) == getpid() &&
                       guest_proc_value("/proc/self/status", "Threads:") == 1
                   ? 31
                   : 1;
    return 2;
}

static void usage(void)
{
    struct rusage r;
    char name[16] = {0};
    struct rlimit limit = {64 << 20, 64 << 20}, old;

    CHECK(!getrusage(RUSAGE_CHILDREN, &r) && r.ru_maxrss > 0 && r.ru_minflt > 0,
          "children's use is kept");
    prctl(PR_SET_NAME, "a name that is too long");
    prctl(PR_GET_NAME, name);
    CHECK(!strcmp(name, "a name that is "), "a thread's name has 15 letters");
    CHECK(!getrlimit(RLIMIT_AS, &old) && !setrlimit(RLIMIT_AS, &limit),
          "a limit of the address space");
    CHECK(mmap(NULL, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
              errno == ENOMEM,
          "holds");
}

int main(int argc, char **argv)
{
    static char path[4096];

    if (argc > 1)
        return as_program(argc, argv);
    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 1;
    self = path;
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    waiting();
    groups();
    cloning();
    executing();
    usage();
    return 0;
}
