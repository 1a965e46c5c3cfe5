/*
 * ports/hosted/hosted.c - the out-of-line hooks of the hosted port.
 */
#include "hosted.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <quire/port.h>

uintptr_t hosted_direct_base, hosted_vmemmap_base;
#if QUIRE_SHADOW
uintptr_t hosted_shadow_base, hosted_shadow_span;
#endif
__thread unsigned hosted_cpu;
#if HOSTED_INTERRUPTS
volatile unsigned hosted_in_interrupt, hosted_irqs_off;
#endif
__thread jmp_buf *hosted_panic_jump;
uint64_t hosted_tlb_flushes;
void (*hosted_dma_clean)(void *ptr, uint64_t bytes);
void (*hosted_dma_invalidate)(void *ptr, uint64_t bytes);
int hosted_log_on;
int hosted_fail_populate = -1;

static uint64_t arena_bytes, vmemmap_bytes;
static uint8_t *populated; /* by page of the vmemmap */
static char panic_text[512], log_last[512];
static char log_text[65536];
static size_t log_len;
__thread uintptr_t hosted_task;

/* Pages that parts of the array show: a file each, for the arena has none.  What they say does not change. */
static struct {
    uint64_t pa;
    int fd;
} shown[64];
static unsigned nshown;

static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED) {
        perror("hosted: mmap");
        abort();
    }
    return p;
}

void hosted_init(uint64_t span)
{
    hosted_fini();
    arena_bytes = span;
    /* 32 bytes a frame, and room for one pageblock beyond the end */
    vmemmap_bytes = (span / QUIRE_PAGE_SIZE + 512) * 32;
    vmemmap_bytes = (vmemmap_bytes + QUIRE_HUGE_SIZE - 1) & ~(QUIRE_HUGE_SIZE - 1);
    /* direct addresses keep the alignment of physical ones up to 1 GiB is not needed; 2 MiB is */
    arena_bytes += QUIRE_HUGE_SIZE;
    hosted_direct_base = (uintptr_t)reserve(arena_bytes);
    hosted_direct_base = (hosted_direct_base + QUIRE_HUGE_SIZE - 1) & ~(QUIRE_HUGE_SIZE - 1);
    if (QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP)
        hosted_vmemmap_base = (uintptr_t)reserve(vmemmap_bytes);
#if QUIRE_SHADOW
    hosted_shadow_span = arena_bytes - QUIRE_HUGE_SIZE;
    hosted_shadow_base = (uintptr_t)reserve(hosted_shadow_span / 8);
#endif
    populated = reserve(vmemmap_bytes / QUIRE_PAGE_SIZE);
    hosted_cpu = 0;
    hosted_fail_populate = -1;
#if QUIRE_DIRECT_LIMIT
    hosted_high_start(span);
#endif
}

void hosted_init_sparse(uint64_t span)
{
    hosted_init(span);
    /* a huge page would be 2 MiB for the sake of one byte */
    if (madvise((void *)hosted_direct_base, arena_bytes - QUIRE_HUGE_SIZE, MADV_NOHUGEPAGE) ||
        madvise((void *)hosted_vmemmap_base, vmemmap_bytes, MADV_NOHUGEPAGE))
        perror("hosted: no huge pages"); /* a host that knows none */
}

static bool overlaps(uintptr_t a, uintptr_t a_end, uintptr_t b, uint64_t len)
{
    return a < b + len && b < a_end;
}

/* The kernel's own count.  The two reservations may be one mapping there, but are no one else's. */
uint64_t hosted_resident(void)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    unsigned long start, end, kib;
    uint64_t sum = 0;
    bool ours = false;
    char line[512];

    if (!f) {
        perror("hosted: /proc/self/smaps");
        abort();
    }
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            ours = overlaps(start, end, hosted_direct_base, arena_bytes - QUIRE_HUGE_SIZE) ||
                   overlaps(start, end, hosted_vmemmap_base, vmemmap_bytes);
        else if (ours && sscanf(line, "Rss: %lu kB", &kib) == 1)
            sum += kib * 1024;
    fclose(f);
    return sum;
}

void hosted_fini(void)
{
    if (!arena_bytes)
        return;
    while (nshown)
        close(shown[--nshown].fd);
    /* the reservation began at most one huge page below the aligned base; unmapping the aligned
     * part is enough, the sliver stays reserved and unbacked */
    munmap((void *)hosted_direct_base, arena_bytes - QUIRE_HUGE_SIZE);
    if (QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP)
        munmap((void *)hosted_vmemmap_base, vmemmap_bytes);
#if QUIRE_SHADOW
    munmap((void *)hosted_shadow_base, hosted_shadow_span / 8);
#endif
    munmap(populated, vmemmap_bytes / QUIRE_PAGE_SIZE);
    arena_bytes = 0;
}

int hosted_populated(uint64_t pfn) { return populated[pfn * 32 / QUIRE_PAGE_SIZE]; }

void hosted_cpu_set(unsigned cpu) { hosted_cpu = cpu; }
const char *hosted_panic_text(void) { return panic_text; }
const char *hosted_log_last(void) { return log_last; }
const char *hosted_log_text(void) { return log_text; }
void hosted_log_clear(void) { log_len = log_text[0] = 0; }

/* Several threads may log: what they write may then mix, but stays in bounds. */
static void log_keep(const char *text, size_t len)
{
    size_t at = __atomic_fetch_add(&log_len, len + 1, __ATOMIC_RELAXED);

    if (at + len + 2 > sizeof log_text)
        return;
    memcpy(log_text + at, text, len);
    memcpy(log_text + at + len, "\n", 2);
}

void qport_log(enum quire_log_level level, const char *text, size_t len)
{
    snprintf(log_last, sizeof log_last, "%.*s", (int)len, text);
    log_keep(text, len);
    if (hosted_log_on)
        fprintf(stderr, "quire[%d]: %.*s\n", (int)level, (int)len, text);
}

void qport_panic(const char *text)
{
    snprintf(panic_text, sizeof panic_text, "%s", text);
    if (hosted_panic_jump)
        longjmp(*hosted_panic_jump, 1);
    fprintf(stderr, "quire panic: %s\n", text);
    abort();
}

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node)
{
    (void)node;
    if (hosted_fail_populate == 0) {
        hosted_fail_populate = -1;
        return QUIRE_NO_MEMORY;
    }
    if (hosted_fail_populate > 0)
        hosted_fail_populate--;
    for (uintptr_t at = from - hosted_vmemmap_base; at < to - hosted_vmemmap_base;
         at += QUIRE_PAGE_SIZE)
        populated[at / QUIRE_PAGE_SIZE] = 1;
    /* the whole array is lazily backed; parts of it may have been released */
    return mprotect((void *)from, to - from, PROT_READ | PROT_WRITE) ? QUIRE_NO_MEMORY : QUIRE_OK;
}

static int file_of(q_pa pa)
{
    for (unsigned i = 0; i < nshown; i++)
        if (shown[i].pa == pa.v)
            return shown[i].fd;
    if (nshown == sizeof shown / sizeof shown[0])
        return -1;
    shown[nshown].pa = pa.v;
    shown[nshown].fd = memfd_create("quire-map", 0);
    if (shown[nshown].fd < 0 || pwrite(shown[nshown].fd, (void *)(hosted_direct_base + pa.v),
                                       QUIRE_PAGE_SIZE, 0) != (ssize_t)QUIRE_PAGE_SIZE)
        return -1;
    return shown[nshown++].fd;
}

void hosted_vmemmap_share(uintptr_t at, q_pa pa)
{
    if (mmap((void *)at, QUIRE_PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, file_of(pa), 0) ==
        MAP_FAILED) {
        perror("hosted: shared struct pages");
        abort();
    }
}

enum quire_status hosted_vmemmap_unshare(uintptr_t at)
{
    void *new;

    if (hosted_fail_populate == 0) {
        hosted_fail_populate = -1;
        return QUIRE_NO_MEMORY;
    }
    if (hosted_fail_populate > 0)
        hosted_fail_populate--;
    new = mmap(NULL, QUIRE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (new == MAP_FAILED)
        return QUIRE_NO_MEMORY;
    memcpy(new, (void *)at, QUIRE_PAGE_SIZE);
    return mremap(new, QUIRE_PAGE_SIZE, QUIRE_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
                  (void *)at) == MAP_FAILED
               ? QUIRE_NO_MEMORY
               : QUIRE_OK;
}

/* The same memory in the arena and in the array: a file, for the arena has none. */
enum quire_status hosted_vmemmap_place(uintptr_t from, uintptr_t to, q_pa pa)
{
    uint64_t len = to - from;
    bool placed;
    int fd;

    for (uintptr_t at = from - hosted_vmemmap_base; at < to - hosted_vmemmap_base;
         at += QUIRE_PAGE_SIZE)
        if (populated[at / QUIRE_PAGE_SIZE])
            return QUIRE_EXISTS;
    if (hosted_fail_populate == 0) {
        hosted_fail_populate = -1;
        return QUIRE_NO_MEMORY;
    }
    fd = memfd_create("quire-device", 0);
    if (fd < 0)
        return QUIRE_NO_MEMORY;
    placed = !ftruncate(fd, (off_t)len) &&
             mmap((void *)from, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
                 MAP_FAILED &&
             mmap((void *)(hosted_direct_base + pa.v), len, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    close(fd);
    return placed ? QUIRE_OK : QUIRE_NO_MEMORY;
}

void hosted_vmemmap_displace(uintptr_t from, uintptr_t to)
{
    if (mmap((void *)from, to - from, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        perror("hosted: struct pages of a device");
        abort();
    }
}

/* Whoever touches it from now on crashes; memory of its own backs it next. */
void hosted_vmemmap_release(uintptr_t from, uintptr_t to)
{
    memset(populated + (from - hosted_vmemmap_base) / QUIRE_PAGE_SIZE, 0,
           (to - from) / QUIRE_PAGE_SIZE);
    if (madvise((void *)from, to - from, MADV_DONTNEED) ||
        mprotect((void *)from, to - from, PROT_NONE)) {
        perror("hosted: release of struct pages");
        abort();
    }
}
#endif

uint64_t qport_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t qport_random(void)
{
    uint64_t r;

    if (getrandom(&r, sizeof r, 0) != sizeof r)
        abort();
    return r;
}

void (*hosted_ipi)(unsigned cpu);
/* weak: a test of the lower layers alone does not link it */
extern void quire_shootdown_interrupt(void) __attribute__((weak));

/* Nobody can interrupt a thread politely, so the sender plays the target's interrupt. */
static void ipi_here(unsigned cpu)
{
    unsigned self = hosted_cpu;

    hosted_cpu = cpu;
    if (quire_shootdown_interrupt)
        quire_shootdown_interrupt();
    hosted_cpu = self;
}

void qport_ipi(const uint64_t cpus[QUIRE_MAX_CPUS / 64 + 1])
{
    for (unsigned cpu = 0; cpu < QUIRE_MAX_CPUS; cpu++)
        if (cpus[cpu / 64] >> cpu % 64 & 1)
            (hosted_ipi ? hosted_ipi : ipi_here)(cpu);
}

uintptr_t qport_task_id(void) { return (uintptr_t)gettid(); }

void qport_wait(const uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void qport_wake(const uint32_t *word, unsigned n)
{
    /* the system call's count is signed: ~0 would wake one */
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n > INT_MAX ? INT_MAX : n, NULL, NULL, 0);
}
