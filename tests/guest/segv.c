/*
 * segv.c - faults become signals with the address and the reason; a handler on its own stack can
 * repair and go on; protection holds.
 *
 * proves: VE-30 VE-31 AS-26 VE-17 TRAP-10
 */
#include "guest.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static sigjmp_buf back;
static volatile sig_atomic_t got_signal, got_code;
static void *volatile got_address;
static volatile int on_alternate;
static char alternate[65536];

static void handler(int sig, siginfo_t *info, void *context)
{
    char here;

    (void)context;
    got_signal = sig;
    got_code = info->si_code;
    got_address = info->si_addr;
    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    siglongjmp(back, 1);
}

/* What access (0 read, 1 write, 2 execute) at p gives: the signal, or 0. */
static int try(volatile char *p, int access)
{
    got_signal = got_code = 0;
    got_address = NULL;
    if (!sigsetjmp(back, 1)) {
        if (access == 0)
            (void)*p;
        else if (access == 1)
            *p = 1;
        else
            ((void (*)(void))(uintptr_t)p)();
    }
    return got_signal;
}

static int expect(char *p, int access, int sig, int code)
{
    return try(p, access) == sig && got_code == code && got_address == (void *)p && on_alternate;
}

static int recurse(int depth);
static int (*volatile recurse_again)(int) =
    recurse; /* opaque: the compiler may not make it a loop */

static int recurse(int depth)
{
    volatile char room[4096];

    room[0] = 1;
    return depth == 0 ? 0 : recurse_again(depth - 1) + room[0];
}

static void stack_tests(void)
{
    int status;
    pid_t child;

    fflush(stdout);
    CHECK(recurse(500) == 500, "the stack grows by 2 MB on demand");
    child = fork();
    if (!child) {
        struct rlimit limit = {8 << 20, 8 << 20};

        setrlimit(RLIMIT_STACK, &limit);
        signal(SIGSEGV, SIG_DFL);
        _exit(recurse(1 << 20) != 0);
    }
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
          "a stack that overflows ends with SIGSEGV");
}

int main(void)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    char *p, *f;
    int fd;

    CHECK(!sigaltstack(&stack, NULL), "an alternate stack");
    CHECK(!sigaction(SIGSEGV, &action, NULL) && !sigaction(SIGBUS, &action, NULL), "handlers");
    p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED, "a mapping");
    CHECK(!try(p, 0) && *p == 0, "memory reads as zero");
    CHECK(!try(p, 1) && *p == 1, "and takes a write");
    CHECK(expect(p, 2, SIGSEGV, SEGV_ACCERR), "data is not executable");
    mprotect(p, 4096, PROT_READ);
    CHECK(expect(p, 1, SIGSEGV, SEGV_ACCERR), "read-only memory refuses a write");
    CHECK(!try(p, 0) && *p == 1, "and still reads");
    mprotect(p, 4096, PROT_NONE);
    CHECK(expect(p, 0, SIGSEGV, SEGV_ACCERR), "PROT_NONE refuses a read");
    mprotect(p, 4096, PROT_READ | PROT_WRITE);
    CHECK(!try(p, 1) && *p == 1, "and opens again with its content");
    munmap(p + 4096, 4096);
    CHECK(expect(p + 4096, 0, SIGSEGV, SEGV_MAPERR), "an unmapped page has no mapping");
    CHECK(!try(p + 8192, 1), "its neighbours stay");
    CHECK(expect((char *)16, 0, SIGSEGV, SEGV_MAPERR), "the null page has none");
    CHECK(expect((char *)0xffff800000000000ul - 4096, 0, SIGSEGV, SI_KERNEL) ||
              got_signal == SIGSEGV,
          "nor has an address that is not canonical");
    CHECK(try((char *)0xffffffff80000000ul, 0) == SIGSEGV, "nor, for us, the kernel");

    fd = memfd_create("segv", 0);
    CHECK(fd >= 0 && !ftruncate(fd, 4096), "a file of one page");
    f = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(f != MAP_FAILED && !try(f, 1), "mapped with two");
    CHECK(expect(f + 4096, 0, SIGBUS, BUS_ADRERR), "the page beyond its end is a bus error");
    CHECK(!ftruncate(fd, 0) && expect(f, 0, SIGBUS, BUS_ADRERR), "so is a page that was cut off");
    stack_tests();
    return 0;
}
