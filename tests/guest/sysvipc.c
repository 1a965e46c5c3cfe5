/*
 * sysvipc.c - System V shared memory, semaphores and message queues; and threads that end while
 * the last of them takes the memory away.
 *
 * proves: AS-43 AS-44 X-15 X-38
 */
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SIZE 10000

static void attach_count(int id, unsigned long want)
{
    struct shmid_ds ds;

    CHECK(!shmctl(id, IPC_STAT, &ds) && ds.shm_nattch == want && ds.shm_segsz == SIZE,
          "the segment is attached %lu times", want);
}

static void shared_memory(void)
{
    int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600), status;
    char *a, *b;
    pid_t child;

    CHECK(id >= 0 && shmget(IPC_PRIVATE, 0, 0600) < 0 && errno == EINVAL, "a segment of memory");
    a = shmat(id, NULL, 0);
    b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != (void *)-1 && b != (void *)-1 && a != b, "attached twice");
    strcpy(a, "hello");
    CHECK(!strcmp(b, "hello"), "both show the same memory");
    CHECK(mprotect(b, 4096, PROT_READ | PROT_WRITE) && errno == EACCES,
          "what is attached for reading stays so");
    attach_count(id, 2);
    child = fork();
    if (!child) {
        attach_count(id, 4);
        strcpy(a, "child");
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && !status && !strcmp(b, "child"),
          "a child shares it");
    attach_count(id, 2);
    CHECK(shmat(id, b, 0) == (void *)-1 && errno == EINVAL, "what is mapped stays mapped");
    CHECK(!munmap(a, 4096) && !shmdt(a) && shmdt(a) && errno == EINVAL,
          "the rest of a segment is detached once");
    CHECK(!shmctl(id, IPC_RMID, NULL), "removed");
    attach_count(id, 1);
    CHECK(!strcmp(b, "child") && !shmdt(b), "the memory stays until the last detaches");
    CHECK(shmctl(id, IPC_STAT, &(struct shmid_ds){0}) && errno == EINVAL, "and then it is gone");
}

static void remapped(void)
{
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    char *a = shmat(id, NULL, 0);

    CHECK(a != (void *)-1 && !syscall(SYS_remap_file_pages, a, 4096, 0, 0, 0), "mapped anew");
    CHECK(!shmctl(id, IPC_RMID, NULL) && syscall(SYS_remap_file_pages, a, 4096, 0, 0, 0) < 0,
          "not after its removal");
}

static int values[3] = {0, 1, -1};

static void semaphores(void)
{
    int id = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600), status;
    struct sembuf both[] = {{0, -1, 0}, {1, 1, 0}}, up = {0, 1, 0}, undone = {1, 5, SEM_UNDO};
    struct sembuf never = {0, -1, IPC_NOWAIT};
    struct timespec soon = {0, 20000000};
    pid_t child;

    CHECK(id >= 0 && semctl(id, 0, GETVAL) == values[0], "a set of two semaphores");
    CHECK(semop(id, &never, 1) && errno == EAGAIN, "nothing to take");
    CHECK(semtimedop(id, both, 2, &soon) && errno == EAGAIN && !semctl(id, 1, GETVAL),
          "all operations, or none");
    child = fork();
    if (!child)
        _exit(semop(id, both, 2) || semop(id, &undone, 1));
    while (!semctl(id, 0, GETNCNT))
        usleep(1000);
    CHECK(!semop(id, &up, 1) && waitpid(child, &status, 0) == child && !status,
          "a sleeper is woken");
    CHECK(semctl(id, 0, GETVAL) == 0 && semctl(id, 1, GETVAL) == values[1],
          "what it did stays, but for what is undone");
    child = fork();
    if (!child)
        _exit(semop(id, both, 2) < 0 && errno == EIDRM ? 0 : 1);
    while (!semctl(id, 0, GETNCNT))
        usleep(1000);
    CHECK(!semctl(id, 0, IPC_RMID) && waitpid(child, &status, 0) == child && !status,
          "removal wakes sleepers");
}

struct note {
    long type;
    char text[16];
};

/* The caller chooses how much the kernel has to copy: more than any contiguous block. */
static void more_operations_than_fit_a_block(void)
{
    enum { N = 900000 };
    struct sembuf *ops = malloc(N * sizeof *ops);
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600), fd = open("/proc/sys/kernel/sem", O_WRONLY);
    char limits[] = "32000 1024000000 1000000 32000";

    CHECK(fd >= 0 && write(fd, limits, sizeof limits - 1) > 0,
          "a million operations may be one call");
    for (int i = 0; i < N; i++)
        ops[i] = (struct sembuf){.sem_op = i % 2 ? -1 : 1};
    CHECK(!semop(id, ops, N) && semctl(id, 0, GETVAL) == 0, "%d operations at once", N);
    ops[N - 1].sem_op = -2;
    ops[N - 1].sem_flg = IPC_NOWAIT;
    CHECK(semop(id, ops, N) < 0 && errno == EAGAIN && semctl(id, 0, GETVAL) == 0, "all or none");
    semctl(id, 0, IPC_RMID);
    free(ops);
    close(fd);
}

static void messages(void)
{
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600), status;
    struct note n = {3, "three"}, m;
    pid_t child;

    CHECK(id >= 0 && !msgsnd(id, &n, 6, 0), "a message is sent");
    n = (struct note){2, "two"};
    CHECK(!msgsnd(id, &n, 4, 0), "and another");
    CHECK(msgrcv(id, &m, 2, 3, 0) < 0 && errno == E2BIG, "too long for two bytes");
    CHECK(msgrcv(id, &m, 16, -3, 0) == 4 && m.type == 2, "the lowest type first");
    CHECK(msgrcv(id, &m, 2, 0, MSG_NOERROR) == 2 && m.text[0] == 't', "cut off where wanted");
    CHECK(msgrcv(id, &m, 16, 0, IPC_NOWAIT) < 0 && errno == ENOMSG, "nothing left");
    child = fork();
    if (!child)
        _exit(msgrcv(id, &m, 16, 7, 0) == 4 ? 0 : 1);
    usleep(10000);
    n.type = 7;
    CHECK(!msgsnd(id, &n, 4, 0) && waitpid(child, &status, 0) == child && !status,
          "a receiver is woken");
    CHECK(!msgctl(id, IPC_RMID, NULL) && msgsnd(id, &n, 4, 0) && errno == EINVAL, "removed");
}

static void *idle(void *arg) { return arg; }

/* Each thread wakes its joiner as it ends, while the process is ending. */
static void ends_together(void)
{
    int status, failed = 0;

    for (int i = 0; i < 200; i++) {
        pid_t child = fork();

        if (!child) {
            pthread_t t[4];

            for (int k = 0; k < 4; k++)
                pthread_create(&t[k], NULL, idle, NULL);
            syscall(SYS_exit, 0);
        }
        failed += waitpid(child, &status, 0) != child || status;
    }
    CHECK(!failed, "threads that end together leave nothing behind");
}

static void usage_of_ignored(void)
{
    struct rusage r;
    pid_t child;

    signal(SIGCHLD, SIG_IGN);
    getrusage(RUSAGE_CHILDREN, &r);
    values[2] = (int)r.ru_maxrss;
    child = fork();
    if (!child) {
        memset(malloc(64 << 20), 1, 64 << 20);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) < 0 && errno == ECHILD && !getrusage(RUSAGE_CHILDREN, &r) &&
              r.ru_maxrss == values[2],
          "a child nobody waits for does not count");
}

int main(void)
{
    shared_memory();
    remapped();
    semaphores();
    more_operations_than_fit_a_block();
    messages();
    ends_together();
    usage_of_ignored();
    return 0;
}
