/*
 * oom.c - 500 MiB of memory wanted on a machine of 512: an error or the end of one program, and the
 * machine lives.
 *
 * proves: TRAP-15
 * options: --mem 512M
 * host: no
 */
#include "guest.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

int main(void)
{
    long before = guest_proc_value("/proc/meminfo", "MemFree"), after;
    int status;
    pid_t child;

    CHECK(before > 0, "free memory is known");
    child = fork();
    if (!child) {
        size_t len = 600ul << 20;
        char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
            _exit(errno == ENOMEM ? 3 : 4);
        for (size_t i = 0; i < len; i += 4096)
            p[i] = 1;
        _exit(5);
    }
    CHECK(waitpid(child, &status, 0) == child, "the hungry child ended");
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
              (WIFEXITED(status) && WEXITSTATUS(status) == 3),
          "killed, or refused with ENOMEM");
    after = guest_proc_value("/proc/meminfo", "MemFree");
    printf("# free %ld kB before, %ld kB after\n", before, after);
    CHECK(after > before - 2048, "its memory is free again");
    return 0;
}
