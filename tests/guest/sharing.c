/*
 * sharing.c - fork copies nothing until somebody writes; then both sides keep their own; shared
 * mappings stay shared; text and data of files are seen by all.
 *
 * proves: VM-24 AS-27 VM-03 VM-05 VM-06 VM-07 VM-09 VM-25 VE-38 AS-18 AS-28 TRAP-8
 */
#include "guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGES 256
#define DEPTH 8

static const char constant[8192] = "read-only data of the program";
static char initialised[8192] = "initialised data";
static char zeroed[3 * 4096];

static int all(const char *p, size_t n, int value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != value)
            return 0;
    return 1;
}

/* Each generation writes its number into its own copy and checks that of its parent is gone from
 * it. */
static int generations(char *p, int depth)
{
    int status;
    pid_t child;

    for (int i = 0; i < PAGES; i++)
        if (p[i * 4096] != depth)
            return 1;
    if (depth == DEPTH)
        return 0;
    child = fork();
    if (!child) {
        for (int i = 0; i < PAGES; i++)
            p[i * 4096] = (char)(depth + 1);
        _exit(generations(p, depth + 1));
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        return 1;
    for (int i = 0; i < PAGES; i++)
        if (p[i * 4096] != depth)
            return 1;
    return 0;
}

static void file_mappings(const char *self)
{
    char buf[4096], *a, *b;
    int fd = open(self, O_RDONLY);

    CHECK(fd >= 0 && read(fd, buf, sizeof buf) == sizeof buf, "the program's file");
    a = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(a != MAP_FAILED && b != MAP_FAILED, "mapped twice");
    CHECK(!memcmp(a, buf, 4096) && !memcmp(b, buf, 4096), "reads as read(2) does");
    b[1] = 'x';
    CHECK(a[1] == 'E' && b[1] == 'x' && pread(fd, buf, 4, 0) == 4 && buf[1] == 'E',
          "a private write stays private");
    close(fd);
    CHECK(a[2] == 'L', "the mapping outlives the descriptor");
}

int main(int argc, char **argv)
{
    char *private, *shared, *file;
    int fd, status;
    pid_t child;

    (void)argc;
    CHECK(constant[0] == 'r' && initialised[0] == 'i' && all(zeroed, sizeof zeroed, 0),
          "segments hold what the file says");
    private = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(private != MAP_FAILED && shared != MAP_FAILED, "mappings");
    CHECK(all(private, PAGES * 4096, 0), "anonymous memory is zero");
    memset(private, 7, PAGES * 4096);
    fd = memfd_create("sharing", 0);
    CHECK(fd >= 0 && !ftruncate(fd, 4096), "a file");
    file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(file != MAP_FAILED, "mapped");
    fflush(stdout);
    child = fork();
    if (!child) {
        int bad = !all(private, PAGES * 4096, 7);

        memset(private, 9, PAGES / 2 * 4096);
        initialised[0] = 'c';
        shared[0] = 1;
        file[0] = 2;
        _exit(bad);
    }
    waitpid(child, &status, 0);
    CHECK(!status, "the child saw its parent's memory");
    CHECK(all(private, PAGES * 4096, 7) && initialised[0] == 'i',
          "the parent sees none of the child's writes");
    CHECK(shared[0] == 1 && file[0] == 2, "but those to shared memory");
    CHECK(pread(fd, private, 1, 0) == 1 && private[0] == 2, "which read(2) sees as well");
    memset(private, 0, PAGES * 4096);
    CHECK(!generations(private, 0), "%d generations keep apart", DEPTH);
    munmap(private, PAGES * 4096);
    private = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(all(private, PAGES * 4096, 0), "memory that was freed comes back as zeros");
    file_mappings(argv[0]);
    return 0;
}
