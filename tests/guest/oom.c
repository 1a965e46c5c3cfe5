/*
 * oom.c - 500 MiB of memory wanted on a machine of 512: an error or the end of one program, and the
 * machine lives.
 *
 * proves: TRAP-15
 * options: --mem 512M
 * host: no
 */
#include "guest.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* Files in memory leave some of it to programs: the disk is full, and nobody dies. */
static void full_disk(void)
{
    static char block[1 << 16];
    int fd = open("/tmp/big", O_RDWR | O_CREAT, 0600), status;
    long mib = 0;
    pid_t child;
    ssize_t n;

    memset(block, 1, sizeof block);
    while ((n = write(fd, block, sizeof block)) == sizeof block && mib < 16384)
        mib++;
    CHECK(mib < 16384 && (n >= 0 ? write(fd, block, 4096) : n) == -1 && errno == ENOSPC,
          "a full disk");
    CHECK(fallocate(fd, 0, 0, 1l << 30) == -1 && errno == ENOSPC, "which gives nothing in advance");
    CHECK(pwrite(fd, block, sizeof block, 0) == sizeof block, "what is in it can be written again");
    child = fork();
    if (!child)
        execl("/proc/self/exe", "oom", "child", NULL);
    CHECK(child > 0 && waitpid(child, &status, 0) == child && !status, "a program still runs");
    CHECK(!ftruncate(fd, 0) && write(fd, block, sizeof block) == sizeof block,
          "with room there is again");
    close(fd);
    unlink("/tmp/big");
}

int main(int argc, char **argv)
{
    long before = guest_proc_value("/proc/meminfo", "MemFree"), after;
    int status;
    pid_t child;

    if (argc > 1 && !strcmp(argv[1], "child"))
        return 0;
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
    full_disk();
    return 0;
}
