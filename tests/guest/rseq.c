/*
 * rseq.c - restartable sequences: the CPU's number is always there, and an interrupted section
 * is aborted.
 */
#include "guest.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static struct rseq *area(void)
{
    return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void tick(int sig) { (void)sig; }

/* Stay in a section until something interrupts it: true if the abort handler was reached. */
static int spin_in_section(void)
{
    volatile struct rseq *a = area();
    int aborted = 0;

    __asm__ volatile(".pushsection .data.rseq, \"aw\"\n"
                     ".balign 32\n"
                     "3: .long 0, 0\n"
                     "   .quad 1f, 2f - 1f, 4f\n"
                     ".popsection\n"
                     "   lea 3b(%%rip), %%rax\n"
                     "   mov %%rax, %[cs]\n"
                     "1: pause\n"
                     "   jmp 1b\n"
                     "2: jmp 5f\n"
                     "   .byte 0x0f, 0xb9, 0x3d\n"
                     "   .long %c[sig]\n"
                     "4: movl $1, %[aborted]\n"
                     "5:\n"
                     : [cs] "=m"(a->rseq_cs), [aborted] "+r"(aborted)
                     : [sig] "i"(RSEQ_SIG)
                     : "rax", "memory");
    return aborted;
}

int main(void)
{
    struct itimerval soon = {.it_value = {0, 20000}};
    cpu_set_t all, one;
    unsigned wrong = 0;
    int status;
    pid_t child;

    CHECK(__rseq_size >= 20, "the C library has registered its area");
    CHECK(!sched_getaffinity(0, sizeof(all), &all), "CPUs");
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        sched_setaffinity(0, sizeof(one), &one);
        wrong += *(volatile unsigned *)&area()->cpu_id != (unsigned)i;
    }
    sched_setaffinity(0, sizeof(all), &all);
    CHECK(!wrong, "the area names the CPU after each move");
    child = fork();
    if (!child)
        _exit(*(volatile unsigned *)&area()->cpu_id >= CPU_SETSIZE);
    CHECK(waitpid(child, &status, 0) == child && !status, "and in a child");
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK(spin_in_section(), "a section that a signal interrupts is aborted");
    CHECK(!area()->rseq_cs, "and is over");
    CHECK(syscall(SYS_rseq, area(), 32, 0, RSEQ_SIG) == -1 && errno == EBUSY, "one area a thread");
    CHECK(syscall(SYS_rseq, area(), 32, 0, 7) == -1 && errno == EPERM, "whose signature is known");
    CHECK(syscall(SYS_rseq, area(), 32, 1, 7) == -1 && errno == EPERM, "and wanted for its end");
    CHECK(!syscall(SYS_rseq, area(), 32, 1, RSEQ_SIG), "the end");
    CHECK(*(volatile int *)&area()->cpu_id == -1, "no number any more");
    CHECK(syscall(SYS_rseq, 24, 32, 0, RSEQ_SIG) == -1 && errno == EINVAL, "an area is aligned");
    return 0;
}
