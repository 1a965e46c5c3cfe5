/*
 * memcalls.c - what the memory calls refuse, and in which order: seals of a memfd, the limit of locked
 * memory, faults in several arguments at once.
 *
 * proves: VE-54
 */
#include "guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE 4096ul
#define RW   (PROT_READ | PROT_WRITE)

static int refused(void *p, int err) { return p == MAP_FAILED && errno == err; }

static void argument_order(void)
{
    int fd = open("/tmp/memcalls", O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0 && write(fd, "x", 1) == 1, "a file open for writing only");
    CHECK(refused(mmap(NULL, 0, RW, MAP_SHARED, fd, 0), EINVAL), "no length comes before no right");
    CHECK(refused(mmap(NULL, PAGE, RW, 0, fd, 0), EINVAL), "no type comes before no right");
    CHECK(refused(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES), "no right to read it");
    close(fd);
    unlink("/tmp/memcalls");
}

static void seals(void)
{
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    char *p, *q;

    CHECK(fd >= 0 && !ftruncate(fd, 2 * PAGE), "a memfd");
    p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    q = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED && q != MAP_FAILED, "mapped shared and privately");
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY,
          "busy: mprotect could make it writable");
    CHECK(!mprotect(p, PAGE, RW) && (*p = 1), "and does");
    CHECK(!fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), "sealed for the future");
    CHECK((p[1] = 2) && refused(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM),
          "the old mapping writes, none is new");
    munmap(p, PAGE);
    p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED && p[1] == 2, "one to read is made");
    CHECK(mprotect(p, PAGE, RW) == -1 && errno == EACCES, "and stays so");
    munmap(p, PAGE);
    CHECK(!fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), "sealed: a private mapping is no obstacle");
    CHECK(refused(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0), EPERM),
          "not writable when shared");
    CHECK((*q = 3) && (p = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0)) != MAP_FAILED && *p == 1,
          "private copies are");
    CHECK(pwrite(fd, "x", 1, 0) == -1 && errno == EPERM, "not by write either");
    close(fd);
}

/* CAP_IPC_LOCK of this process, which lifts the limit. */
static int may_lock(void)
{
    char line[128];
    unsigned long long caps = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        sscanf(line, "CapEff: %llx", &caps);
    if (f)
        fclose(f);
    return caps >> 14 & 1;
}

static void locked_memory(void)
{
    struct rlimit small = {4 * PAGE, 4 * PAGE};
    char *p = mmap(NULL, 16 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int root = may_lock(), r;

    CHECK(!setrlimit(RLIMIT_MEMLOCK, &small), "at most four pages locked");
    CHECK(!mlock(p, 4 * PAGE), "four are");
    r = mlock(p, 16 * PAGE);
    CHECK(root ? !r : r == -1 && errno == ENOMEM, "more only with the capability");
    munlock(p, 16 * PAGE);
    if (!geteuid() && setresuid(65534, 65534, 65534))
        CHECK(0, "another user");
    CHECK(!may_lock(), "which a plain user has not");
    CHECK(mlock(p, 16 * PAGE) == -1 && errno == ENOMEM, "so the limit holds");
    CHECK(!mlock(p, 4 * PAGE), "and four are locked again");
}

/* The memory devices have no place to be at. */
static void seek_nowhere(void)
{
    int fd = open("/dev/full", O_RDWR);

    CHECK(fd >= 0 && !lseek(fd, -12345, SEEK_SET) && !lseek(fd, -1, SEEK_END),
          "seeks lead nowhere");
    CHECK(write(fd, "x", 1) == -1 && errno == ENOSPC, "and it is full");
    close(fd);
}

int main(void)
{
    argument_order();
    seals();
    seek_nowhere();
    locked_memory();
    return 0;
}
