/*
 * forkloop.c - a thousand times fork, exec, exit: free memory is where it was.
 *
 * proves: X-03 TRAP-19 X-04
 * host: no
 * timeout: 400
 */
#include "guest.h"

#include <sys/wait.h>

#define ROUNDS 1000

static int round_trip(char *self)
{
    int status;
    pid_t child = fork();

    if (!child) {
        execl(self, self, "child", (char *)NULL);
        _exit(127);
    }
    return child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
           WEXITSTATUS(status) != 9;
}

int main(int argc, char **argv)
{
    long before, after, tables_before, tables_after;
    int bad = 0;

    if (argc > 1)
        return 9;
    for (int i = 0; i < 50; i++) /* caches fill first */
        bad += round_trip(argv[0]);
    CHECK(!bad, "fork, exec, exit work");
    before = guest_proc_value("/proc/meminfo", "MemFree");
    tables_before = guest_proc_value("/proc/meminfo", "PageTables");
    CHECK(before > 0, "/proc/meminfo tells the free memory");
    for (int i = 0; i < ROUNDS; i++)
        bad += round_trip(argv[0]);
    after = guest_proc_value("/proc/meminfo", "MemFree");
    tables_after = guest_proc_value("/proc/meminfo", "PageTables");
    CHECK(!bad, "%d times", ROUNDS);
    /* per-CPU lists and slabs breathe: a leak of one page a round would be 4,000 kB */
    printf("# free %ld kB before, %ld kB after; page tables %ld and %ld kB\n", before, after,
           tables_before, tables_after);
    CHECK(after >= before - 512, "free memory is what it was");
    CHECK(tables_after <= tables_before + 64, "page tables are what they were");
    return 0;
}
