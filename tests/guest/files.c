/*
 * files.c - files and directories: what path_resolution(7), open(2), rename(2) and their kin promise.
 *
 * proves: VM-25 X-38
 */
#include "guest.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* not known to the compiler, which would refuse them */
static void *volatile bad_address = (void *)8;
static volatile int minus_one = -1;

static char dir[] = "/tmp/quire-files-XXXXXX";

static int fails(int result, int want) { return result == -1 && errno == want; }

static void put(const char *name, const char *text)
{
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        CHECK(0, "write %s", name);
    close(fd);
}

static const char *get(const char *name)
{
    static char buf[256];
    int fd = open(name, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);

    close(fd);
    if (n < 0)
        return "(unreadable)";
    buf[n] = 0;
    return buf;
}

static void opening(void)
{
    struct stat st;
    int fd, fd2;
    char buf[16];

    CHECK(fails(open("none", O_RDONLY), ENOENT), "open of nothing");
    CHECK((fd = open("a", O_CREAT | O_EXCL | O_RDWR, 0640)) >= 0, "create");
    CHECK(fails(open("a", O_CREAT | O_EXCL, 0640), EEXIST), "O_EXCL on what is there");
    CHECK(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640 &&
              st.st_nlink == 1 && st.st_size == 0,
          "fstat of a new file");
    CHECK(write(fd, "hello", 5) == 5 && lseek(fd, 0, SEEK_CUR) == 5, "write moves the position");
    CHECK(pwrite(fd, "J", 1, 0) == 1 && lseek(fd, 0, SEEK_CUR) == 5, "pwrite does not");
    CHECK(pread(fd, buf, 16, 1) == 4 && !memcmp(buf, "ello", 4), "pread to the end");
    CHECK(fails((int)lseek(fd, -1, SEEK_SET), EINVAL), "lseek before the start");
    CHECK(lseek(fd, 10000, SEEK_SET) == 10000 && write(fd, "x", 1) == 1, "write beyond the end");
    CHECK(pread(fd, buf, 4, 5000) == 4 && !memcmp(buf, "\0\0\0\0", 4), "the gap is zeros");
    CHECK(fstat(fd, &st) == 0 && st.st_size == 10001, "size after it");
    CHECK(lseek(fd, 5, SEEK_HOLE) == 4096 && lseek(fd, 4096, SEEK_DATA) == 8192,
          "SEEK_HOLE and SEEK_DATA");
    fd2 = open("a", O_WRONLY | O_APPEND);
    CHECK(fd2 >= 0 && write(fd2, "yz", 2) == 2 && lseek(fd2, 0, SEEK_CUR) == 10003, "O_APPEND");
    CHECK(fails((int)read(fd2, buf, 1), EBADF), "read of a file open for writing");
    CHECK(ftruncate(fd, 3) == 0 && pread(fd, buf, 16, 0) == 3, "ftruncate");
    CHECK(ftruncate(fd, 6) == 0 && pread(fd, buf, 16, 0) == 6 && !memcmp(buf, "Jel\0\0\0", 6),
          "what comes back after truncation is zeros");
    CHECK(fails((int)write(fd, bad_address, 4), EFAULT), "write from a bad address");
    CHECK(open("a", O_WRONLY | O_TRUNC) >= 0 && fstat(fd, &st) == 0 && st.st_size == 0, "O_TRUNC");
    CHECK(fails(open("a/b", O_RDONLY), ENOTDIR), "a file is no directory");
    CHECK(fails(open("a", O_DIRECTORY), ENOTDIR), "O_DIRECTORY on a file");
    CHECK(fails(open(".", O_WRONLY), EISDIR), "writing a directory");
    close(fd2);
    close(fd);
}

static void names(void)
{
    struct stat st, st2;
    char buf[64], longname[300];
    int fd;

    CHECK(mkdir("d", 0755) == 0 && fails(mkdir("d", 0755), EEXIST), "mkdir twice");
    CHECK(mkdir("d/e", 0700) == 0 && stat("d", &st) == 0 && st.st_nlink == 3,
          "links of a directory");
    put("d/f", "one");
    CHECK(link("d/f", "d/g") == 0 && stat("d/g", &st) == 0 && st.st_nlink == 2, "hard link");
    CHECK(fails(link("d", "dd"), EPERM), "no hard link of a directory");
    CHECK(symlink("f", "d/l") == 0 && !strcmp(get("d/l"), "one"), "symbolic link");
    CHECK(readlink("d/l", buf, sizeof buf) == 1 && buf[0] == 'f', "readlink");
    CHECK(lstat("d/l", &st) == 0 && S_ISLNK(st.st_mode) && st.st_size == 1, "lstat of a link");
    CHECK(fails(open("d/l", O_RDONLY | O_NOFOLLOW), ELOOP), "O_NOFOLLOW");
    CHECK(symlink("loop2", "loop1") == 0 && symlink("loop1", "loop2") == 0 &&
              fails(open("loop1", O_RDONLY), ELOOP),
          "links in a circle");
    CHECK(symlink("made", "dangling") == 0 &&
              (fd = open("dangling", O_CREAT | O_WRONLY, 0644)) >= 0 && access("made", F_OK) == 0,
          "O_CREAT through a link");
    close(fd);
    CHECK(fails(rmdir("d"), ENOTEMPTY), "rmdir of a full directory");
    CHECK(fails(unlink("d/e"), EISDIR) && fails(rmdir("d/f"), ENOTDIR),
          "unlink and rmdir each for its kind");
    CHECK(fails(rmdir("d/e/."), EINVAL), "rmdir of .");
    CHECK(rename("d/f", "d/h") == 0 && fails(access("d/f", F_OK), ENOENT) &&
              !strcmp(get("d/h"), "one"),
          "rename");
    put("d/k", "two");
    CHECK(rename("d/k", "d/h") == 0 && !strcmp(get("d/h"), "two"), "rename over a file");
    CHECK(stat("d/g", &st) == 0 && st.st_nlink == 1, "the replaced name is gone");
    CHECK(fails(rename("d", "d/e/x"), EINVAL), "no directory into itself");
    CHECK(fails(rename("d/h", "d/e"), EISDIR) && fails(rename("d/e", "d/h"), ENOTDIR),
          "kinds that do not fit");
    CHECK(mkdir("d2", 0755) == 0 && rename("d/e", "d2/e") == 0 && stat("d2/e/..", &st) == 0 &&
              stat("d2", &st2) == 0 && st.st_ino == st2.st_ino,
          "a moved directory has a new parent");
    put("x1", "1");
    put("x2", "2");
    CHECK(renameat2(AT_FDCWD, "x1", AT_FDCWD, "x2", RENAME_EXCHANGE) == 0 &&
              !strcmp(get("x1"), "2") && !strcmp(get("x2"), "1"),
          "RENAME_EXCHANGE");
    CHECK(fails(renameat2(AT_FDCWD, "x1", AT_FDCWD, "x2", RENAME_NOREPLACE), EEXIST),
          "RENAME_NOREPLACE");
    memset(longname, 'n', sizeof longname);
    longname[256] = 0;
    CHECK(fails(open(longname, O_CREAT, 0644), ENAMETOOLONG), "name of 256");
    longname[255] = 0;
    CHECK((fd = open(longname, O_CREAT | O_WRONLY, 0644)) >= 0 && unlink(longname) == 0,
          "name of 255");
    close(fd);
    CHECK(fails(open("", O_RDONLY), ENOENT) && fails(unlink("d/"), EISDIR) &&
              fails(open("x1/", O_RDONLY), ENOTDIR),
          "empty name and slash at the end");
}

static void unlinked(void)
{
    char buf[8];
    int fd = open("u", O_CREAT | O_RDWR, 0644);
    struct stat st;

    CHECK(fd >= 0 && unlink("u") == 0 && write(fd, "abc", 3) == 3 && pread(fd, buf, 8, 0) == 3,
          "an unlinked file lives");
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0, "without links");
    close(fd);
    fd = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, "tmp", 3) == 3, "O_TMPFILE");
    close(fd);
}

static void listing(void)
{
    enum { N = 500 };
    static char seen[N];
    int count = 0, dots = 0;
    struct dirent *e;
    DIR *d;

    mkdir("many", 0755);
    for (int k = 0; k < N; k++) {
        char name[32];

        snprintf(name, sizeof name, "many/f%d", k);
        close(open(name, O_CREAT | O_WRONLY, 0644));
    }
    d = opendir("many");
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') {
            dots++;
            continue;
        }
        if (e->d_type == DT_REG && !seen[atoi(e->d_name + 1)]++)
            count++;
        if (count % 2) { /* removing what was listed disturbs nothing */
            char name[300];

            snprintf(name, sizeof name, "many/%s", e->d_name);
            unlink(name);
        }
    }
    closedir(d);
    CHECK(count == N && dots == 2, "getdents lists %d names once while some go", N);
}

static void at_calls(void)
{
    int d = open("d", O_RDONLY | O_DIRECTORY), p, fd;
    struct stat st;
    char cwd[256], buf[32];

    CHECK((fd = openat(d, "n", O_CREAT | O_WRONLY, 0600)) >= 0 && fstatat(d, "n", &st, 0) == 0,
          "openat, fstatat");
    CHECK(fchmodat(d, "n", 0444, 0) == 0 && fstatat(d, "n", &st, 0) == 0 &&
              (st.st_mode & 0777) == 0444,
          "fchmodat");
    CHECK(faccessat(d, "n", R_OK, 0) == 0 && unlinkat(d, "n", 0) == 0, "faccessat, unlinkat");
    CHECK(fails(openat(fd, "x", O_RDONLY), ENOTDIR), "openat below a file");
    CHECK(fails(openat(999, "x", O_RDONLY), EBADF), "openat below nothing");
    close(fd);
    CHECK(fchdir(d) == 0 && getcwd(cwd, sizeof cwd) && !strcmp(strrchr(cwd, '/'), "/d") &&
              chdir("..") == 0,
          "fchdir, getcwd");
    CHECK((p = open("d/h", O_PATH)) >= 0 && fails((int)read(p, buf, 1), EBADF) &&
              fstat(p, &st) == 0 && S_ISREG(st.st_mode),
          "O_PATH");
    CHECK(fails((int)syscall(79, cwd, 1L), ERANGE), "getcwd without room");
    close(p);
    close(d);
    CHECK(mkdir("gone", 0755) == 0 && chdir("gone") == 0 && rmdir("../gone") == 0 &&
              !getcwd(cwd, sizeof cwd) && errno == ENOENT &&
              fails(open("x", O_CREAT, 0644), ENOENT) && chdir(dir) == 0,
          "a working directory that was removed");
}

static void attributes(void)
{
    struct timespec t[2] = {{1000000000, 5}, {1100000000, 7}};
    struct stat st;
    struct statfs fs;

    put("t", "x");
    CHECK(utimensat(AT_FDCWD, "t", t, 0) == 0 && stat("t", &st) == 0 &&
              st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_nsec == 7,
          "utimensat");
    t[0].tv_nsec = UTIME_OMIT;
    t[1].tv_nsec = UTIME_NOW;
    CHECK(utimensat(AT_FDCWD, "t", t, 0) == 0 && stat("t", &st) == 0 &&
              st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec > 1200000000,
          "UTIME_OMIT, UTIME_NOW");
    CHECK(chmod("t", 04755) == 0 && stat("t", &st) == 0 && (st.st_mode & 07777) == 04755, "chmod");
    CHECK(chown("t", 5, 6) == 0 && stat("t", &st) == 0 && st.st_uid == 5 && st.st_gid == 6,
          "chown");
    CHECK((st.st_mode & 04000) == 0, "chown clears set-user-id");
    CHECK(statfs(".", &fs) == 0 && fs.f_bsize == 4096 && fs.f_namelen == 255, "statfs");
    CHECK(umask(027) == 022 && mkdir("um", 0777) == 0 && stat("um", &st) == 0 &&
              (st.st_mode & 0777) == 0750 && umask(022) == 027,
          "umask");
}

static void permissions(void)
{
    int status;

    put("secret", "s");
    chmod("secret", 0600);
    mkdir("closed", 0700);
    put("closed/x", "x");
    chmod(".", 0755);
    if (!fork()) {
        int bad = 0;

        if (setgid(1000) || setuid(1000))
            _exit(20);
        bad |= !fails(open("secret", O_RDONLY), EACCES) << 0;
        bad |= !fails(open("closed/x", O_RDONLY), EACCES) << 1;
        bad |= !fails(unlink("secret"), EACCES) << 2;
        bad |= !fails(open("new", O_CREAT | O_WRONLY, 0644), EACCES) << 3;
        bad |= !fails(chmod("secret", 0777), EPERM) << 4;
        bad |= !fails(access("secret", R_OK), EACCES) << 5;
        _exit(bad);
    }
    wait(&status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "another user is kept out (%d)",
          WEXITSTATUS(status));
}

static void mapped(void)
{
    int fd = open("m", O_CREAT | O_RDWR, 0644);
    char *p, *q, buf[8192];

    CHECK(ftruncate(fd, 8192) == 0 &&
              (p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED,
          "map a file");
    strcpy(p + 4000, "through the mapping");
    CHECK(pread(fd, buf, 20, 4000) == 20 && !strcmp(buf, "through the mapping"),
          "read sees what the mapping wrote");
    CHECK(pwrite(fd, "by write", 9, 0) == 9 && !strcmp(p, "by write"),
          "the mapping sees what write wrote");
    CHECK(pread(fd, p + 4096, 4096, 0) == 4096 && !strcmp(p + 4096, "by write"),
          "read into a mapping of the same file");
    CHECK(pwrite(fd, p, 8192, 0) == 8192, "write from a mapping of the same file");
    q = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    q[0] = 'Q';
    CHECK(p[0] == 'b' && pread(fd, buf, 1, 0) == 1 && buf[0] == 'b',
          "a private write stays private");
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 && p[0] == 0 &&
              p[4096] == 'b',
          "punch a hole");
    CHECK(fallocate(fd, 0, 0, 20000) == 0 && lseek(fd, 0, SEEK_END) == 20000, "fallocate extends");
    close(fd);
}

static void vectors(void)
{
    int fd = open("v", O_CREAT | O_RDWR, 0644), out = open("w", O_CREAT | O_RDWR, 0644);
    struct iovec iov[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    char x[3] = "", y[8] = "";
    struct iovec in[2] = {{x, 2}, {y, 7}};
    off_t off = 1;

    CHECK(writev(fd, iov, 3) == 5 && preadv(fd, in, 2, 0) == 5 && !strcmp(x, "ab") &&
              !strcmp(y, "cde"),
          "writev, preadv");
    CHECK(fails((int)writev(fd, iov, minus_one), EINVAL), "writev of -1");
    CHECK(sendfile(out, fd, &off, 10) == 4 && off == 5 && !strcmp(get("w"), "bcde"), "sendfile");
    off = 0;
    CHECK(copy_file_range(fd, &off, out, NULL, 2, 0) == 2 && !strcmp(get("w"), "bcdeab"),
          "copy_file_range");
    CHECK(fails((int)readv(fd, bad_address, 2), EFAULT), "readv with a bad vector");
    close(fd);
    close(out);
}

static void descriptors(void)
{
    int fd = open("v", O_RDWR), d, e, status;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};

    CHECK((d = fcntl(fd, F_DUPFD, 50)) == 50 && (e = dup(fd)) >= 0, "F_DUPFD, dup");
    CHECK(lseek(fd, 2, SEEK_SET) == 2 && lseek(d, 0, SEEK_CUR) == 2,
          "duplicates share the position");
    CHECK(dup2(fd, 60) == 60 && dup2(fd, fd) == fd && fails(dup3(fd, fd, 0), EINVAL), "dup2, dup3");
    CHECK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC &&
              fcntl(d, F_GETFD) == 0,
          "close-on-exec");
    CHECK(fcntl(fd, F_SETFL, O_APPEND) == 0 &&
              (fcntl(d, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_RDWR),
          "F_SETFL");
    CHECK(close_range(50, 60, 0) == 0 && fails(fcntl(50, F_GETFD), EBADF), "close_range");
    CHECK(fails(close(50), EBADF) && fails(dup2(fd, -1), EBADF) && fails(dup2(fd, 1 << 30), EBADF),
          "descriptors that are not");
    CHECK(fcntl(fd, F_SETLK, &l) == 0, "lock a range");
    if (!fork()) {
        struct flock m = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
        int bad = !fails(fcntl(fd, F_SETLK, &m), EAGAIN);

        fcntl(fd, F_GETLK, &m);
        _exit(bad |
              (m.l_type != F_WRLCK || m.l_start != 10 || m.l_len != 10 || m.l_pid != getppid())
                  << 1);
    }
    wait(&status);
    CHECK(WEXITSTATUS(status) == 0, "another process sees the lock (%d)", WEXITSTATUS(status));
    d = open("v", O_RDWR);
    CHECK(flock(fd, LOCK_EX) == 0 && fails(flock(d, LOCK_SH | LOCK_NB), EWOULDBLOCK) &&
              flock(fd, LOCK_UN) == 0 && flock(d, LOCK_SH | LOCK_NB) == 0,
          "flock");
    close(d);
    close(e);
    close(fd);
}

static void sealed(void)
{
    int fd = memfd_create("name", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    char path[64], to[64] = "";

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(fd >= 0 && readlink(path, to, sizeof to) > 0 && !strcmp(to, "/memfd:name (deleted)"),
          "memfd has its name");
    CHECK(ftruncate(fd, 4096) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0,
          "seal");
    CHECK(fails(ftruncate(fd, 0), EPERM) && fails(ftruncate(fd, 8192), EPERM) &&
              write(fd, "x", 1) == 1,
          "sealed sizes");
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0 &&
              fails((int)write(fd, "x", 1), EPERM) && fails(fcntl(fd, F_ADD_SEALS, 0), EPERM),
          "sealed content");
    close(fd);
}

int main(void)
{
    if (!mkdtemp(dir) || chdir(dir))
        CHECK(0, "make a directory");
    umask(022);
    opening();
    names();
    unlinked();
    listing();
    at_calls();
    attributes();
    permissions();
    mapped();
    vectors();
    descriptors();
    sealed();
    chdir("/");
    return 0;
}
