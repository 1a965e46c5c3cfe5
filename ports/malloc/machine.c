/*
 * ports/malloc/machine.c - a machine in a process: the memory it pretends to have, its start, and the
 * hooks that are not about threads or frames.
 *
 * Memory is one range of addresses, reserved without anything behind it and as large as the host's memory (or as
 * much of that as the process may reserve).  The library starts on the first chunk and takes over the others when it needs
 * them (quire_boot.first_bytes): then a chunk and its struct pages are made accessible, and still cost nothing
 * until they are touched.  So a small program has a small machine, and what was freed is
 * used again before the heap grows.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <quire/port.h>

#include "process.h"

#define CHUNK     (QUIRE_PAGE_SIZE << QUIRE_SECTION_ORDER)
#define SPAN_MOST (1ull << 40)
/* The library takes its own tables from the top of the memory. */
#define TOP   CHUNK
#define ALIGN (QUIRE_PAGE_SIZE << QUIRE_MAX_ORDER)

uintptr_t malloc_direct_base, malloc_vmemmap_base, malloc_reserve_end;

static struct quire_mem_range ranges[4], reserved[160];
static struct quire_memmap map;
static bool started;

/* ---- Memory ---- */

static void *reserve(uint64_t bytes, int protection)
{
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* The host's memory, rounded up to a power of two. */
static uint64_t wanted_span(void)
{
    struct sysinfo host;
    uint64_t have, span = 2 * CHUNK;

    if (sysinfo(&host))
        return 1ull << 34;
    have = ((uint64_t)host.totalram + host.totalswap) * host.mem_unit;
    while (span < have && span < SPAN_MOST)
        span *= 2;
    return span;
}

/* Struct pages may be read from that of frame 0 on, so that any pointer may be looked up. */
static bool reserve_span(uint64_t span)
{
    uint64_t map_bytes = (MALLOC_PA_START + span) / QUIRE_PAGE_SIZE * sizeof(struct quire_page);
    char *memory = reserve(span + ALIGN, PROT_NONE), *pages;

    if (!memory)
        return false;
    pages = reserve(map_bytes, PROT_READ);
    if (!pages) {
        munmap(memory, span + ALIGN);
        return false;
    }
    memory = (char *)(((uintptr_t)memory + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    malloc_direct_base = (uintptr_t)memory - MALLOC_PA_START;
    malloc_vmemmap_base = (uintptr_t)pages;
    malloc_reserve_end = (uintptr_t)memory + span;
    madvise(pages, map_bytes, MADV_NOHUGEPAGE); /* fails where there are none */
    return true;
}

static bool allow(uintptr_t from, uintptr_t to)
{
    return !mprotect((void *)from, to - from, PROT_READ | PROT_WRITE);
}

/* A chunk is about to be taken over: its memory comes with its struct pages. */
enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node)
{
    uintptr_t first = malloc_direct_base +
                      (from - malloc_vmemmap_base) / sizeof(struct quire_page) * QUIRE_PAGE_SIZE;
    uintptr_t end = malloc_direct_base +
                    (to - malloc_vmemmap_base) / sizeof(struct quire_page) * QUIRE_PAGE_SIZE;

    (void)node;
    return allow(from, to) && allow(first, end) ? QUIRE_OK : QUIRE_NO_MEMORY;
}

/* ---- Start ---- */

static enum quire_status start_library(uint64_t span)
{
    struct quire_boot boot = {.map = &map, .nodes = 1, .cpus = malloc_slots, .first_bytes = CHUNK};
    enum quire_status s;

    quire_memmap_init(&map, ranges, sizeof ranges / sizeof ranges[0], reserved,
                      sizeof reserved / sizeof reserved[0]);
    s = quire_memmap_add(&map, Q_PA(MALLOC_PA_START), span, QUIRE_MEM_USABLE);
    if (!s)
        s = quire_frame_init(&boot);
    return s ? s : quire_heap_init();
}

bool malloc_machine_start(void)
{
    uint64_t span = wanted_span();
    int before = errno;

    while (!reserve_span(span))
        if ((span /= 2) < 2 * CHUNK)
            return false;
    madvise((void *)(malloc_reserve_end - TOP), TOP, MADV_NOHUGEPAGE);
    started = allow(malloc_reserve_end - TOP, malloc_reserve_end) &&
              malloc_pages_start(span / QUIRE_PAGE_SIZE) && start_library(span) == QUIRE_OK;
    errno = before;
    return started;
}

/* ---- Hooks ---- */

static void say(const char *text, size_t len)
{
    static const char prefix[] = "libquire-malloc: ";

    /* nothing can be done about a standard error that is closed */
    if (write(STDERR_FILENO, prefix, sizeof prefix - 1) < 0 ||
        write(STDERR_FILENO, text, len) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
        return;
}

/* That a request failed is the program's to tell; why there is no heap at all is not. */
void qport_log(enum quire_log_level level, const char *text, size_t len)
{
    if (!started && level == QUIRE_LOG_ERROR)
        say(text, len);
}

void qport_panic(const char *text)
{
    say(text, strlen(text));
    abort();
}

uint64_t qport_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t qport_random(void)
{
    uint64_t r;

    if (syscall(SYS_getrandom, &r, sizeof r, GRND_NONBLOCK) != sizeof r)
        r = qport_now_ns() ^ (uintptr_t)&r; /* early in the life of a machine */
    return r;
}

void qport_wait(const uint32_t *word, uint32_t expected)
{
    int before = errno;

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
    errno = before;
}

void qport_wake(const uint32_t *word, unsigned n)
{
    int before = errno;

    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n > INT32_MAX ? INT32_MAX : n, NULL, NULL, 0);
    errno = before;
}

/* ---- The port's own lock ---- */

void malloc_lock(struct malloc_lock *l)
{
    uint32_t seen = 0;

    if (MALLOC_LIKELY(__atomic_compare_exchange_n(&l->word, &seen, 1, false, __ATOMIC_ACQUIRE,
                                                  __ATOMIC_RELAXED)))
        return;
    for (int i = 0; i < 100; i++) { /* what is done under it is short */
        qport_relax();
        seen = 0;
        if (!__atomic_load_n(&l->word, __ATOMIC_RELAXED) &&
            __atomic_compare_exchange_n(&l->word, &seen, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return;
    }
    while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE))
        qport_wait(&l->word, 2);
}

void malloc_unlock(struct malloc_lock *l)
{
    if (MALLOC_UNLIKELY(__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2))
        qport_wake(&l->word, 1);
}
