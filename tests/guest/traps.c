/*
 * traps.c - what a program can do wrong to the CPU becomes the right signal with the right
 * code; what it can do wrong to a system call becomes EFAULT; registers and vector state
 * survive both.
 *
 * proves: X-38 VE-30
 */
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int got_signal, got_code;
static void *volatile got_address;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)context;
    got_signal = sig;
    got_code = info->si_code;
    got_address = info->si_addr;
    siglongjmp(back, 1);
}

#define TRY(statement)             \
    ({                             \
        got_signal = got_code = 0; \
        got_address = NULL;        \
        if (!sigsetjmp(back, 1)) { \
            statement;             \
        }                          \
        got_signal;                \
    })

static void exceptions(void)
{
    volatile int zero = 0;
    volatile int one = 1;

    CHECK(TRY(one = one / zero) == SIGFPE && got_code == FPE_INTDIV && got_address,
          "division by zero");
    CHECK(TRY(__asm__ volatile("ud2")) == SIGILL && got_code == ILL_ILLOPN && got_address,
          "an undefined instruction");
    CHECK(TRY(__asm__ volatile("hlt")) == SIGSEGV && got_code == SI_KERNEL,
          "a privileged instruction");
    CHECK(TRY(__asm__ volatile("inb $0x60, %%al" : : : "al")) == SIGSEGV, "a port");
    CHECK(TRY(__asm__ volatile("int3")) == SIGTRAP && got_code == SI_KERNEL, "a breakpoint");
    CHECK(TRY(__asm__ volatile("int $0x21")) == SIGSEGV,
          "an interrupt that programs may not raise");
    CHECK(TRY(*(volatile char *)0x8000000000000000ul) == SIGSEGV && got_code == SI_KERNEL,
          "an address that is none");
    CHECK(TRY(*(volatile char *)0xffff800000100000ul) == SIGSEGV && got_code == SEGV_MAPERR &&
              got_address == (void *)0xffff800000100000ul,
          "the kernel's memory");
    CHECK(TRY(((void (*)(void))0x8000000000000000ul)()) == SIGSEGV,
          "a jump to an address that is none");
    CHECK(TRY(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop"
                               :
                               :
                               : "cc", "memory")) == SIGTRAP &&
              got_code == TRAP_TRACE,
          "a single step");
}

/* ---- bad addresses in system calls ---- */

/* opaque to the compiler, which knows better than to use them */
static char *volatile nowhere = (char *)8, *volatile kernel = (char *)0xffffffff81000000ul,
                      *volatile end = (char *)~0ul;

static void bad_addresses(void)
{
    int p[2];
    char *m = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec v[2];
    ssize_t n;

    CHECK(m != MAP_FAILED && !mprotect(m + 4096, 4096, PROT_NONE) &&
              !mprotect(m + 8192, 4096, PROT_READ),
          "pages with a hole");
    CHECK(!pipe(p), "a pipe");
    CHECK(write(p[1], nowhere, 16) == -1 && errno == EFAULT, "write from nowhere");
    CHECK(write(p[1], kernel, 16) == -1 && errno == EFAULT, "write from the kernel");
    CHECK(write(p[1], end, 16) == -1 && errno == EFAULT, "write past the end of everything");
    memset(m, 'x', 4096);
    CHECK(write(p[1], m, 64) == 64, "64 bytes");
    CHECK(read(p[0], m + 8192, 64) == -1 && errno == EFAULT, "read into what is read-only");
    CHECK(read(p[0], kernel, 64) == -1 && errno == EFAULT, "read into the kernel");
    n = syscall(SYS_clock_gettime, 1, m + 4096 - 8);
    CHECK(n == -1 && errno == EFAULT, "a structure that ends beyond its page");
    v[0] = (struct iovec){m, 10};
    v[1] = (struct iovec){m + 4096, 10};
    n = writev(p[1], v, 2);
    CHECK(n == 10 || (n == -1 && errno == EFAULT), "a vector with one bad part");
    memset(m, 'x', 4096);
    CHECK(open((char *)m + 4090, O_RDONLY) == -1 && errno == EFAULT, "a path that does not end");
    memcpy(m + 4096 - 6, "/proc", 6);
    n = open(m + 4096 - 6, O_RDONLY | O_DIRECTORY);
    CHECK(n >= 0, "a path that ends with its page");
    close((int)n);
    close(p[0]);
    close(p[1]);
    munmap(m, 3 * 4096);
}

/* ---- registers ---- */

static volatile int in_handler;

static void clobber(int sig)
{
    (void)sig;
    __asm__ volatile("pxor %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm7; xor %%r12d, %%r12d"
                     :
                     :
                     : "xmm0", "xmm7", "r12");
    sched_yield();
    in_handler++;
}

static void registers_survive_signals(void)
{
    uint64_t r12, xmm7, a = 0x1122334455667788ul, result;
    pid_t me = getpid();

    signal(SIGUSR1, clobber);
    __asm__ volatile("mov %[a], %%r12\n\tmovq %[a], %%xmm7\n\tmov $62, %%eax\n\tmov %[me], "
                     "%%edi\n\tmov $10, %%esi\n\t"
                     "syscall\n\tmov %%r12, %[r12]\n\tmovq %%xmm7, %[xmm7]"
                     : [r12] "=&r"(r12), [xmm7] "=&r"(xmm7), "=&a"(result)
                     : [a] "r"(a), [me] "r"(me)
                     : "rcx", "r11", "rdi", "rsi", "r12", "xmm7", "memory");
    CHECK(in_handler == 1 && result == 0 && r12 == a && xmm7 == a,
          "registers survive a signal in a system call");
}

#define THREADS 6

/* Each thread keeps a pattern of its own in all vector registers while the others do the same. */
static void *vectors(void *arg)
{
    uint64_t pattern = 0x0101010101010101ul * (uint64_t)(uintptr_t)arg, seen[4];

    for (int i = 0; i < 200; i++) {
        __asm__ volatile(
            "movq %1, %%xmm1\n\tmovq %1, %%xmm6\n\tmovq %1, %%xmm13\n\tmovq %1, %%xmm15\n\t"
            "mov $24, %%eax\n\tsyscall\n\t"
            "movq %%xmm1, (%0)\n\tmovq %%xmm6, 8(%0)\n\tmovq %%xmm13, 16(%0)\n\tmovq %%xmm15, "
            "24(%0)"
            :
            : "r"(seen), "r"(pattern)
            : "rax", "rcx", "r11", "xmm1", "xmm6", "xmm13", "xmm15", "memory");
        for (int k = 0; k < 4; k++)
            if (seen[k] != pattern)
                return (void *)1;
    }
    return NULL;
}

static void vector_state_is_each_threads_own(void)
{
    pthread_t t[THREADS];
    void *bad;
    int wrong = 0;

    for (int i = 0; i < THREADS; i++)
        wrong += pthread_create(&t[i], NULL, vectors, (void *)(uintptr_t)(i + 1)) != 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], &bad);
        wrong += bad != NULL;
    }
    CHECK(!wrong, "vector registers are each thread's own");
}

/* A handler that returns into nonsense gets a signal, and the machine goes on. */
static void nonsense(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)sig, (void)info;
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)0x8000000000000000ul;
}

static void bad_frames(void)
{
    struct sigaction a = {.sa_sigaction = nonsense, .sa_flags = SA_SIGINFO};

    sigaction(SIGUSR2, &a, NULL);
    CHECK(TRY(raise(SIGUSR2)) == SIGSEGV, "a return to an address that is none");
}

int main(void)
{
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &a, NULL);
    exceptions();
    bad_addresses();
    registers_survive_signals();
    vector_state_is_each_threads_own();
    bad_frames();
    return 0;
}
