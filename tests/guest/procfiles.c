/*
 * procfiles.c - the files of /proc and /sys have Linux's formats, tell the truth about this program,
 * and stand hostile reads and writes.
 *
 * proves: X-38 AS-18
 */
#include "guest.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int fails(long result, int want) { return result == -1 && errno == want; }

static char text[1 << 20];
static const char *slurp(const char *name)
{
    int fd = open(name, O_RDONLY);
    size_t n = 0;
    ssize_t k;

    text[0] = 0;
    if (fd < 0)
        return text;
    while (n < sizeof text - 1 && (k = read(fd, text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)k;
    text[n] = 0;
    close(fd);
    return text;
}

/* The line of maps that holds addr. */
static int find_map(void *addr, unsigned long *from, unsigned long *to, char *perms, char *path)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int found = 0;

    while (!found && fgets(line, sizeof line, f)) {
        unsigned long off, ino;
        unsigned ma, mi;

        path[0] = 0;
        if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %255s", from, to, perms, &off, &ma, &mi, &ino,
                   path) < 7)
            found = -1;
        else
            found = (unsigned long)addr >= *from && (unsigned long)addr < *to;
    }
    fclose(f);
    return found > 0;
}

static void maps(void)
{
    unsigned long from, to;
    char perms[8], path[256], exe[256] = "", line[512];
    char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
         *name;
    int local, shared;
    FILE *f;

    CHECK(find_map(p, &from, &to, perms, path) && !strncmp(perms, "rw-p", 4),
          "maps has a new mapping");
    mprotect(p + 4096, 4096, PROT_NONE);
    CHECK(find_map(p + 4096, &from, &to, perms, path) && to - from == 4096 &&
              !strncmp(perms, "---p", 4),
          "maps shows a split");
    CHECK(find_map(&local, &from, &to, perms, path) && !strcmp(path, "[stack]"),
          "maps names the stack");
    CHECK(find_map(sbrk(0) - 1, &from, &to, perms, path) && !strcmp(path, "[heap]"),
          "maps names the heap");
    CHECK(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0 &&
              find_map((void *)maps, &from, &to, perms, path) && !strcmp(path, exe) &&
              !strncmp(perms, "r-xp", 4),
          "maps names the program");
    shared = memfd_create("maps", 0);
    if (ftruncate(shared, 4096))
        CHECK(0, "ftruncate");
    p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, shared, 0);
    CHECK(find_map(p, &from, &to, perms, path) && !strncmp(perms, "r--s", 4) &&
              !strcmp(path, "/memfd:maps"),
          "maps names shared memory");
    f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f))
        if ((name = strstr(line, "[stack]")))
            CHECK(name - line == 73, "the name stands in column 73");
    fclose(f);
}

static long smaps_value(void *addr, const char *row)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    int here = 0;
    long v = -1;

    while (v < 0 && fgets(line, sizeof line, f)) {
        unsigned long from, to;
        char c;

        if (sscanf(line, "%lx-%lx %c", &from, &to, &c) == 3)
            here = (unsigned long)addr >= from && (unsigned long)addr < to;
        else if (here && !strncmp(line, row, strlen(row)))
            sscanf(line + strlen(row), "%ld", &v);
    }
    fclose(f);
    return v;
}

static void smaps(void)
{
    char *p = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *q = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    madvise(q, 64 * 4096, MADV_NOHUGEPAGE);
    memset(p, 1, 16 * 4096);
    memset(q, 1, 8 * 4096);
    CHECK(smaps_value(p, "Size:") == 256 && smaps_value(p, "Rss:") == 64,
          "smaps counts pages that are there");
    CHECK(smaps_value(p, "KernelPageSize:") == 4 && smaps_value(p, "MMUPageSize:") == 4,
          "smaps knows the page size");
    munmap(p, 64 * 4096);
    CHECK(smaps_value(q, "Anonymous:") >= 32 && smaps_value(q, "Private_Dirty:") >= 32,
          "smaps knows private pages");
    munmap(q, 64 * 4096);
}

static void status(void)
{
    long before, rss;
    char *p;
    int pid = -1, ppid = -1;
    char comm[64] = "", state = 0;

    CHECK(guest_proc_value("/proc/self/status", "Pid") == getpid() &&
              guest_proc_value("/proc/self/status", "PPid") == getppid() &&
              guest_proc_value("/proc/self/status", "Threads") == 1,
          "status knows who this is");
    before = guest_proc_value("/proc/self/status", "VmSize");
    p = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(guest_proc_value("/proc/self/status", "VmSize") - before == 16 << 10,
          "VmSize grows by what is mapped");
    rss = guest_proc_value("/proc/self/status", "VmRSS");
    memset(p, 1, 16 << 20);
    CHECK(guest_proc_value("/proc/self/status", "VmRSS") - rss >= (15 << 10),
          "VmRSS by what is touched");
    munmap(p, 16 << 20);
    CHECK(sscanf(slurp("/proc/self/stat"), "%d (%63[^)]) %c %d", &pid, comm, &state, &ppid) == 4 &&
              pid == getpid() && state == 'R' && ppid == getppid() &&
              !strncmp(comm, "procfiles", 9),
          "stat");
    int fields = 1;
    for (char *c = strrchr(text, ')'); *c; c++)
        fields += *c == ' ';
    CHECK(fields == 51, "stat has 52 fields");
    long size = 0, resident = 0;
    CHECK(sscanf(slurp("/proc/self/statm"), "%ld %ld", &size, &resident) == 2 && size > resident &&
              resident > 0,
          "statm");
    CHECK(!strncmp(slurp("/proc/self/comm"), "procfiles", 9), "comm");
    CHECK(slurp("/proc/self/limits")[0] == 'L' && strstr(text, "Max open files"), "limits");
}

static void strings(char **argv)
{
    CHECK(!strcmp(slurp("/proc/self/cmdline"), argv[0]), "cmdline");
    CHECK(setenv("ADDED", "later", 1) == 0 && !strstr(slurp("/proc/self/environ"), "ADDED"),
          "environ is that of the start");
    CHECK(slurp("/proc/self/auxv") && *(unsigned long *)text != 0, "auxv");
}

static void *idle(void *arg)
{
    pthread_barrier_wait(arg);
    pthread_barrier_wait(arg);
    return NULL;
}

static int count_entries(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)))
        n += e->d_name[0] >= '0' && e->d_name[0] <= '9';
    if (d)
        closedir(d);
    return n;
}

static void directories(void)
{
    pthread_barrier_t b;
    pthread_t t;
    char path[64], to[64];
    int fd = open("/dev/null", O_RDONLY), pid;
    ssize_t n;
    struct stat st;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK((n = readlink(path, to, sizeof to)) == 9 && !memcmp(to, "/dev/null", 9),
          "fd names an open file");
    CHECK(stat(path, &st) == 0 && S_ISCHR(st.st_mode) && lstat(path, &st) == 0 &&
              S_ISLNK(st.st_mode),
          "fd leads to it");
    n = count_entries("/proc/self/fd");
    CHECK(open("/dev/null", O_RDONLY) >= 0 && count_entries("/proc/self/fd") == n + 1,
          "fd counts them");
    close(fd);
    CHECK(fails(readlink(path, to, sizeof to), ENOENT), "a closed one is gone");
    pthread_barrier_init(&b, NULL, 2);
    pthread_create(&t, NULL, idle, &b);
    pthread_barrier_wait(&b);
    CHECK(count_entries("/proc/self/task") == 2 &&
              guest_proc_value("/proc/self/status", "Threads") == 2,
          "task has the threads");
    pthread_barrier_wait(&b);
    pthread_join(t, NULL);
    pid = fork();
    if (!pid) {
        pause();
        _exit(0);
    }
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    CHECK(guest_proc_value(path, "PPid") == getpid(), "a child has its directory");
    kill(pid, 9);
    while (strncmp(strstr(slurp(path), "State:") ? strstr(text, "State:") : "State:\tZ",
                   "State:\tZ", 8))
        usleep(1000);
    CHECK(1, "a dead child is a zombie");
    wait(NULL);
    CHECK(fails(access(path, F_OK), ENOENT), "until it is awaited");
    CHECK(readlink("/proc/self", to, sizeof to) > 0 && atoi(to) == getpid(), "self");
}

static void memory_file(void)
{
    int fd = open("/proc/self/mem", O_RDWR);
    static char secret[64] = "read through mem";
    const char *locked = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char buf[64] = "";

    CHECK(fd >= 0 && pread(fd, buf, 64, (off_t)(unsigned long)secret) == 64 && !strcmp(buf, secret),
          "mem is read");
    CHECK(pwrite(fd, "WRITE", 5, (off_t)(unsigned long)secret) == 5 && !memcmp(secret, "WRITE", 5),
          "mem is written");
    CHECK(pwrite(fd, "forced", 6, (off_t)(unsigned long)locked) == 6 &&
              !memcmp(locked, "forced", 6),
          "also what the program may not write");
    CHECK(fails(pread(fd, buf, 8, 0), EIO) && fails(pread(fd, buf, 8, 0x7ffffffff000), EIO),
          "no memory there");
    close(fd);
}

static void machine(void)
{
    long total = guest_proc_value("/proc/meminfo", "MemTotal"),
         freeb = guest_proc_value("/proc/meminfo", "MemFree");
    double up = 0, idle_time = 0;

    CHECK(total > 0 && freeb > 0 && freeb < total &&
              guest_proc_value("/proc/meminfo", "MemAvailable") > 0,
          "meminfo");
    CHECK(guest_proc_value("/proc/meminfo", "Hugepagesize") == 2048 &&
              guest_proc_value("/proc/meminfo", "SwapTotal") >= 0,
          "huge pages and swap");
    CHECK(sscanf(slurp("/proc/uptime"), "%lf %lf", &up, &idle_time) == 2 && up > 0, "uptime");
    CHECK(!strncmp(slurp("/proc/stat"), "cpu  ", 5) && strstr(text, "btime "), "stat");
    CHECK(!strncmp(slurp("/proc/version"), "Linux version ", 14), "version");
    CHECK(strstr(slurp("/proc/cpuinfo"), "processor\t: 0"), "cpuinfo");
    CHECK(strstr(slurp("/proc/mounts"), " /proc proc rw,"), "mounts");
    CHECK(atoi(slurp("/proc/sys/kernel/pid_max")) >= 32768, "pid_max");
    CHECK(atoi(slurp("/proc/sys/vm/max_map_count")) >= 65530, "max_map_count");
    CHECK(strlen(slurp("/proc/sys/kernel/random/uuid")) == 37 && text[14] == '4', "a random uuid");
    CHECK(slurp("/sys/devices/system/cpu/online")[0] == '0' &&
              slurp("/sys/devices/system/node/online")[0] == '0',
          "CPUs and nodes");
    CHECK(strstr(slurp("/sys/devices/system/node/node0/meminfo"), "MemTotal:"), "memory of a node");
}

/* One of /proc/sys/vm takes the text. */
static int tune(const char *name, const char *value)
{
    char path[128];
    int fd;
    int ok;

    snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
    fd = open(path, O_WRONLY);
    ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    close(fd);
    return ok;
}

static void tunables(void)
{
    int min = atoi(slurp("/proc/sys/vm/min_free_kbytes"));
    char was[32];

    CHECK(min >= 128 && min <= 262144, "min_free_kbytes %d", min);
    CHECK(atoi(slurp("/proc/sys/vm/watermark_scale_factor")) == 10, "watermark_scale_factor");
    CHECK(atoi(slurp("/proc/sys/vm/watermark_boost_factor")) == 15000, "watermark_boost_factor");
    CHECK(!strncmp(slurp("/proc/sys/vm/lowmem_reserve_ratio"), "256\t256\t32\t", 11),
          "lowmem_reserve_ratio");
    CHECK(atoi(slurp("/proc/sys/vm/zone_reclaim_mode")) == 0, "zone_reclaim_mode");
    snprintf(was, sizeof was, "%d", min * 2);
    CHECK(tune("min_free_kbytes", was) && atoi(slurp("/proc/sys/vm/min_free_kbytes")) == min * 2,
          "min_free_kbytes doubled");
    CHECK(tune("min_free_kbytes", "0") && atoi(slurp("/proc/sys/vm/min_free_kbytes")) == min,
          "min_free_kbytes as it was");
    CHECK(!tune("watermark_scale_factor", "0") && !tune("watermark_scale_factor", "3001") &&
              !tune("zone_reclaim_mode", "3") && !tune("lowmem_reserve_ratio", "x") &&
              !tune("lowmem_reserve_ratio", "1 2 3 4 5 6"),
          "what is out of range is refused");
    CHECK(tune("lowmem_reserve_ratio", "128 64\n") &&
              !strncmp(slurp("/proc/sys/vm/lowmem_reserve_ratio"), "128\t64\t32\t", 10) &&
              tune("lowmem_reserve_ratio", "256 256"),
          "the first two ratios");
    CHECK(tune("watermark_scale_factor", "200\n") &&
              atoi(slurp("/proc/sys/vm/watermark_scale_factor")) == 200 &&
              tune("watermark_scale_factor", "10"),
          "watermark_scale_factor");
}

static void hostile(void)
{
    int fd = open("/proc/self/maps", O_RDONLY), adj;
    char buf[4096], all[1 << 16], odd[1 << 16];
    ssize_t n, k, m = 0;

    n = read(fd, all, sizeof all);
    lseek(fd, 0, SEEK_SET);
    while (m < n && (k = read(fd, odd + m, 7)) > 0)
        m += k;
    CHECK(m >= n && !memcmp(all, odd, (size_t)n / 2), "reads of seven bytes give the same");
    CHECK(pread(fd, buf, 10, 100) == 10 && !memcmp(buf, all + 100, 10), "a read from the middle");
    CHECK(pread(fd, buf, 10, 1 << 30) == 0 && fails(pread(fd, buf, 10, -1), EINVAL),
          "a read beyond the end, and before the start");
    close(fd);
    CHECK(fails(open("/proc/self/nothing", O_RDONLY), ENOENT) &&
              fails(open("/proc/999999", O_RDONLY), ENOENT) &&
              fails(open("/proc/-1", O_RDONLY), ENOENT) &&
              fails(open("/proc/01", O_RDONLY), ENOENT),
          "names that are not");
    adj = open("/proc/self/oom_score_adj", O_RDWR);
    CHECK(write(adj, "17\n", 3) == 3 && atoi(slurp("/proc/self/oom_score_adj")) == 17,
          "oom_score_adj is set");
    CHECK(fails(write(adj, "1001", 4), EINVAL) && fails(write(adj, "x", 1), EINVAL) &&
              fails(write(adj, "17x", 3), EINVAL) &&
              fails(write(adj, "99999999999999999999", 20), ERANGE),
          "garbage is refused");
    CHECK(atoi(slurp("/proc/self/oom_score_adj")) == 17, "and changes nothing");
    CHECK(write(adj, "0", 1) == 1, "back to nought");
    close(adj);
    CHECK(fails(mkdir("/proc/x", 0755), ENOENT) && fails(unlink("/proc/version"), EPERM),
          "/proc is not for files");
}

int main(int argc, char **argv)
{
    (void)argc;
    free(malloc(100));
    maps();
    smaps();
    status();
    strings(argv);
    directories();
    memory_file();
    machine();
    tunables();
    hostile();
    return 0;
}
