/*
 * mmap_host.c - the same random calls of the mmap family on Quire and on the Linux that runs this
 * test: same answers, same content, same mappings in the end.
 *
 * Both see a window at the same fixed addresses and one shared file (a memfd here, an object there). The host
 * is asked with the real system calls; its memory is read and written by process_vm_readv and
 * process_vm_writev, which give an error where a program would get a signal.
 */
#include <space_machine.h>

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

enum { WINDOW = 600, FILE_PAGES = 40 };
#define BASE 0x200000000000ull

static struct quire_space *s;
static struct quire_object *object;
static int memfd;
static bool host_thp;

static uint64_t va(unsigned page) { return BASE + page * PAGE; }

/* A system call on the host; 0 or the errno. */
static int host_call(long nr, long a, long b, long c, long d, long e, long f)
{
    return syscall(nr, a, b, c, d, e, f) == -1 ? errno : 0;
}

static void same(const char *call, enum quire_status quire, int host, uint64_t at, uint64_t len,
                 unsigned x, unsigned y)
{
    if (getenv("TRACE"))
        printf("%s(page %ld, %#llx, %#x, %#x) = %d\n", call, (long)(at - BASE) / 4096,
               (unsigned long long)len, x, y, host);
    if (quire_status_errno(quire) != host)
        fail_msg("%s(page %ld + %#llx, %#llx, %#x, %#x): Quire %d (%s), Linux %d (%s)", call,
                 (long)(at - BASE) / 4096, (unsigned long long)(at & 4095), (unsigned long long)len,
                 x, y, quire_status_errno(quire), quire_status_name(quire), host, strerror(host));
}

/* A range of the window; now and then one that no call should accept. */
static void pick(uint64_t *at, uint64_t *len)
{
    unsigned n = 1 + (unsigned)test_random_below(test_random_below(6) ? 30 : 200);

    *at = va((unsigned)test_random_below(WINDOW - n));
    *len = n * PAGE;
    switch (test_random_below(40)) {
    case 0: *at += test_random_below(4096); break;
    case 1: *len -= test_random_below(4096); break;
    case 2: *len = 0; break;
    case 3: *len = ~0ull - test_random_below(8192); break;
    }
}

static unsigned some_prot(void)
{
    static const unsigned prots[] = {3, 3, 3, 1, 0, 5, 2, 4};

    return prots[test_random_below(8)];
}

/* Whether the call might replace something outside the window: then leave it. */
static bool stays_inside(uint64_t at, uint64_t len)
{
    return at >= BASE && len <= WINDOW * PAGE && at + len + PAGE <= va(WINDOW);
}

static void do_map(void)
{
    static const unsigned kinds[] = {MAP_PRIVATE | MAP_ANONYMOUS,
                                     MAP_PRIVATE | MAP_ANONYMOUS,
                                     MAP_SHARED | MAP_ANONYMOUS,
                                     MAP_SHARED,
                                     MAP_PRIVATE,
                                     MAP_SHARED_VALIDATE,
                                     0,
                                     MAP_ANONYMOUS,
                                     MAP_SHARED_VALIDATE | MAP_ANONYMOUS};
    unsigned kind = kinds[test_random_below(9)], prot = some_prot();
    unsigned flags = kind | (test_random_below(3) ? MAP_FIXED : MAP_FIXED_NOREPLACE);
    uint64_t at, len, offset = test_random_below(FILE_PAGES) * PAGE, got;

    pick(&at, &len);
    if (!test_random_below(10))
        flags |= MAP_POPULATE;
    if (!test_random_below(10))
        flags |= MAP_NORESERVE;
    if (flags & MAP_ANONYMOUS)
        offset = 0;
    got = at;
    if (len && len < 1ull << 40 && !stays_inside(at, len))
        return;
    same("mmap", map_at(s, &got, len, prot, flags, kind & MAP_ANONYMOUS ? NULL : object, offset),
         host_call(SYS_mmap, (long)at, (long)len, prot, flags, kind & MAP_ANONYMOUS ? -1 : memfd,
                   (long)offset),
         at, len, (unsigned)(offset >> 12) << 8 | prot, flags);
}

static void do_unmap(void)
{
    uint64_t at, len;

    pick(&at, &len);
    same("munmap", quire_munmap(s, Q_UVA(at), len),
         host_call(SYS_munmap, (long)at, (long)len, 0, 0, 0, 0), at, len, 0, 0);
}

static void do_protect(void)
{
    uint64_t at, len;
    unsigned prot = test_random_below(20) ? some_prot() : 0x40;

    pick(&at, &len);
    same("mprotect", quire_mprotect(s, Q_UVA(at), len, prot),
         host_call(SYS_mprotect, (long)at, (long)len, prot, 0, 0, 0), at, len, prot, 0);
}

/* Linux does not merge what was written to separately; then a range that is one mapping here may be
 * two there, and mremap refuses it. */
static bool one_mapping_there(uint64_t at, uint64_t len)
{
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned long long start, end;
    char line[512];
    bool one = false;

    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        one |= sscanf(line, "%llx-%llx", &start, &end) == 2 && start <= at && at + len <= end;
    fclose(f);
    return one;
}

static void do_remap(void)
{
    static const unsigned all[] = {0, 3, 3, 3, 2, 5, 7, 8, 4};
    unsigned flags = all[test_random_below(9)];
    uint64_t at, len, to, new_len, x;
    struct quire_vma_info v;
    q_uva out;

    pick(&at, &len);
    pick(&to, &x);
    new_len = test_random_below(3) ? len : (1 + test_random_below(60)) * PAGE;
    /* growing in place depends on what lies above, which must be the same: inside the window */
    if (new_len > WINDOW * PAGE || len > WINDOW * PAGE || !stays_inside(at, new_len) ||
        !stays_inside(to, new_len))
        return;
    /* a free choice of place may differ: Linux's is not ours to predict */
    if ((flags & 5) == 5 && !(flags & 2))
        return;
    /* Linux 6.17 moves several mappings at once, older ones refuse: only ask about one */
    if (quire_space_vma(s, Q_UVA(at), false, &v) != QUIRE_OK || v.start.v > at ||
        at + len > v.end.v || !one_mapping_there(at, len))
        return;
    /* Linux takes the lock from all of the mapping then, not just from what was moved */
    if ((flags & 4) && v.locked)
        return;
    same("mremap", quire_mremap(s, Q_UVA(at), len, new_len, flags, Q_UVA(to), &out),
         host_call(SYS_mremap, (long)at, (long)len, (long)new_len, flags, (long)to, 0), at, len,
         (unsigned)(new_len >> 12), flags);
}

static void do_advise(void)
{
    static const int all[] = {0,  1,  2,  3,  4,  4,  4,  8,  9,  10, 11,
                              14, 15, 16, 17, 18, 19, 22, 23, 24, 5,  99};
    int advice = all[test_random_below(22)];
    uint64_t at, len;

    pick(&at, &len);
    if ((advice == 14 || advice == 15) && !host_thp)
        return;
    /* content of MADV_FREE'd pages is anybody's guess until written */
    if (advice == 8)
        return;
    same("madvise", quire_madvise(s, Q_UVA(at), len, advice),
         host_call(SYS_madvise, (long)at, (long)len, advice, 0, 0, 0), at, len, (unsigned)advice,
         0);
}

static void do_lock(void)
{
    bool lock = test_random_below(2);
    uint64_t at, len;

    pick(&at, &len);
    if (len > 40 * PAGE && len < 1ull << 40)
        return;
    if (lock) {
        bool on_fault = test_random_below(2);

        same("mlock", quire_mlock(s, Q_UVA(at), len, on_fault),
             host_call(SYS_mlock2, (long)at, (long)len, on_fault, 0, 0, 0), at, len, on_fault, 0);
    } else {
        same("munlock", quire_munlock(s, Q_UVA(at), len),
             host_call(SYS_munlock, (long)at, (long)len, 0, 0, 0, 0), at, len, 0, 0);
    }
}

static void do_sync(void)
{
    unsigned flags = (unsigned)test_random_below(9);
    uint64_t at, len;

    pick(&at, &len);
    same("msync", quire_msync(s, Q_UVA(at), len, flags),
         host_call(SYS_msync, (long)at, (long)len, flags, 0, 0, 0), at, len, flags, 0);
}

static void do_incore(void)
{
    static uint8_t ours[WINDOW + 8], theirs[WINDOW + 8];
    uint64_t at, len;

    pick(&at, &len);
    if (len > WINDOW * PAGE && len < 1ull << 40)
        return;
    same("mincore", quire_mincore(s, Q_UVA(at), len, ours),
         host_call(SYS_mincore, (long)at, (long)len, (long)theirs, 0, 0, 0), at, len, 0, 0);
}

static void do_truncate(void)
{
    uint64_t size = test_random_below(FILE_PAGES + 1) * PAGE + (test_random_below(2) ? 0 : 100);

    assert_int_equal(quire_object_set_size(object, size), QUIRE_OK);
    assert_int_equal(ftruncate(memfd, (off_t)size), 0);
}

static void do_store(void)
{
    uint64_t at = va((unsigned)test_random_below(WINDOW)) + (test_random_below(2) ? 0 : PAGE - 8);
    uint64_t value = test_random();
    struct iovec local = {&value, 8}, remote = {(void *)at, 8};
    bool ok = process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 8;
    enum quire_status st = store(s, at, value);

    if ((st == QUIRE_OK) != ok)
        fail_msg("store to page %ld: Quire %s, Linux %s", (long)(at - BASE) / 4096,
                 quire_status_name(st), ok ? "ok" : "fault");
}

static void compare_page(unsigned page)
{
    for (unsigned k = 0; k < 2; k++) {
        uint64_t at = va(page) + (k ? PAGE - 8 : 0), ours = 0, theirs = 0;
        struct iovec local = {&theirs, 8}, remote = {(void *)at, 8};
        bool ok = process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 8;
        size_t done;
        enum quire_status st = quire_space_read(s, Q_UVA(at), &ours, 8, false, &done);

        if ((st == QUIRE_OK) != ok || (ok && ours != theirs))
            fail_msg("page %u: Quire %s %llx, Linux %s %llx", page, quire_status_name(st),
                     (unsigned long long)ours, ok ? "ok" : "fault", (unsigned long long)theirs);
    }
}

/* ---- The mappings as both show them, a description a page ---- */

struct shown {
    unsigned prot;
    bool mapped, shared, file;
    uint64_t offset;
};

static bool show_ours(void *ctx, const struct quire_vma_info *v)
{
    struct shown *out = ctx;

    for (uint64_t a = v->start.v; a < v->end.v; a += PAGE)
        if (a >= BASE && a < va(WINDOW))
            out[(a - BASE) / PAGE] =
                (struct shown){v->prot, true, v->shared, v->object == object,
                               v->object == object ? v->offset + a - v->start.v : 0};
    return true;
}

static void show_theirs(struct shown *out)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];

    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long long start, end, offset;
        char p[5];

        if (sscanf(line, "%llx-%llx %4s %llx", &start, &end, p, &offset) != 4)
            continue;
        /* a sanitizer's shadow is a mapping of terabytes: only the window is looked at */
        for (uint64_t a = start > BASE ? start : BASE; a < end && a < va(WINDOW); a += PAGE) {
            bool file = strstr(line, "memfd:");

            out[(a - BASE) / PAGE] =
                (struct shown){(p[0] == 'r') | (p[1] == 'w') << 1 | (p[2] == 'x') << 2, true,
                               p[3] == 's', file, file ? offset + a - start : 0};
        }
    }
    fclose(f);
}

static void compare_all(void)
{
    static struct shown ours[WINDOW], theirs[WINDOW];

    memset(ours, 0, sizeof ours);
    memset(theirs, 0, sizeof theirs);
    quire_space_vmas(s, false, show_ours, ours);
    show_theirs(theirs);
    for (unsigned i = 0; i < WINDOW; i++) {
        if (memcmp(&ours[i], &theirs[i], sizeof ours[i]))
            fail_msg("page %u: Quire mapped %d prot %u shared %d file %d offset %llx, "
                     "Linux mapped %d prot %u shared %d file %d offset %llx",
                     i, ours[i].mapped, ours[i].prot, ours[i].shared, ours[i].file,
                     (unsigned long long)ours[i].offset, theirs[i].mapped, theirs[i].prot,
                     theirs[i].shared, theirs[i].file, (unsigned long long)theirs[i].offset);
        compare_page(i);
    }
    assert_int_equal(quire_space_verify(s), QUIRE_OK);
}

/* proves: TRAP-17 VE-54 VM-03 TRAP-9 */
static void the_same_calls_have_the_same_answers_on_linux(void **state)
{
    static void (*const calls[])(void) = {do_map,     do_map,   do_map,    do_unmap, do_protect,
                                          do_protect, do_remap, do_advise, do_lock,  do_sync,
                                          do_incore,  do_store, do_store,  do_store};
    unsigned steps = getenv("STEPS") ? (unsigned)atoi(getenv("STEPS")) : 30000;

    (void)state;
    test_seed("mmap_host");
    space_machine(256 * MIB);
    s = space_new();
    memfd = memfd_create("quire", 0);
    assert_true(memfd >= 0);
    assert_int_equal(quire_object_create_shared(0, &object), QUIRE_OK);
    host_thp = !access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK);
    do_truncate();
    for (unsigned i = 0; i < steps; i++) {
        calls[test_random_below(14)]();
        if (!test_random_below(200))
            do_truncate();
        if (i % 1000 == 0)
            compare_all();
    }
    compare_all();
    munmap((void *)BASE, WINDOW * PAGE);
    close(memfd);
    quire_space_put(s);
    quire_object_put(object);
    hosted_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_calls_have_the_same_answers_on_linux)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
