/*
 * ports/malloc/pages.c - which frames have memory of the system behind them, and giving it back.
 *
 * Model.  Two bits for each frame, side by side, 64 frames a pair of words:
 *
 *     used    the library has handed the frame out, and not got it back
 *     dirty   it was used since the system last made it zeros
 *
 * The library tells of both moves (QPORT_EVENT).  Frames that are dirty and not used cost memory for
 * nothing; frames that are not dirty are zeros, which calloc() need not write.
 *
 * Purge.  Whoever frees looks now and then, and gives back with madvise(MADV_DONTNEED) what is more than
 * is worth keeping: a share of what is in use is kept at once, and the rest fades by a quarter each
 * TICK.  So a program that frees and allocates in turn does not pay for page faults, and one that has
 * become small is small soon.
 *
 * Concurrency.  Bits are atomic.  One purger at a time (malloc_pages_lock) names the word that it works
 * on; a frame that the library hands out sets its bit, which is a full barrier, and then waits if its word is
 * being purged.  The purger names the word, then reads which are used: one of the two sees the other.
 * Counts are kept by slot and added up when a slot has moved BATCH frames.
 *
 * Source.  jemalloc's decay and mimalloc's delayed purge, without their clocks in each page.
 */
#include <sys/mman.h>

#include <quire/port.h>

#include "process.h"

#define WORD      64u
#define BATCH     64u
#define TICK_NS   100000000u
#define MIB       (1u << 20 >> QUIRE_PAGE_SHIFT) /* in frames */
#define KEEP      (2 * MIB)                      /* not worth a system call */
#define FADE_OVER 32u                            /* this part of what is in use may stay dirty */
#define AT_ONCE   (64 * MIB)                     /* beyond this and what is in use: give back now */

static struct word {
    uint64_t used, dirty;
} * words;
static uint64_t nwords, top;  /* top, atomic: words ever used */
static uint64_t purging;      /* atomic: 1 + the word being purged; 0: none */
static uint64_t cursor;       /* malloc_pages_lock: where the next purge begins */
static int64_t nused, ndirty; /* atomic: frames used; free and dirty */
static uint64_t faded_ns;     /* atomic: when it was looked last */
struct malloc_lock malloc_pages_lock;

static struct tally {
    int32_t used, dirty;
    uint32_t moved;
} __attribute__((aligned(64))) tallies[QUIRE_MAX_CPUS];

bool malloc_pages_start(uint64_t frames)
{
    nwords = frames / WORD;
    words = mmap(NULL, nwords * sizeof *words, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return words != MAP_FAILED;
}

static uint64_t frame_of(const void *page)
{
    return quire_pfn_of_page(page).v - MALLOC_PA_START / QUIRE_PAGE_SIZE;
}
static char *address_of(uint64_t frame)
{
    return (char *)malloc_direct_base + MALLOC_PA_START + frame * QUIRE_PAGE_SIZE;
}
static uint64_t mask_of(uint64_t first, uint64_t n)
{
    return (n >= WORD ? ~0ull : (1ull << n) - 1) << first % WORD;
}

/* ---- Counts ---- */

static uint64_t clamped(const int64_t *count)
{
    int64_t n = __atomic_load_n(count, __ATOMIC_RELAXED);

    return n > 0 ? (uint64_t)n : 0;
}

void malloc_pages_count(uint64_t *used, uint64_t *dirty)
{
    *used = clamped(&nused);
    *dirty = clamped(&ndirty);
}

/* Give back what is too much. */
static void look(void)
{
    uint64_t used = clamped(&nused), dirty = clamped(&ndirty), keep = used / FADE_OVER + KEEP, now,
             then;

    if (dirty <= keep)
        return;
    if (dirty > used + AT_ONCE) {
        malloc_pages_purge(used / 2 + AT_ONCE / 2);
        return;
    }
    now = qport_now_ns();
    then = __atomic_load_n(&faded_ns, __ATOMIC_RELAXED);
    if (now - then < TICK_NS || !__atomic_compare_exchange_n(&faded_ns, &then, now, false,
                                                             __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    if (now - then < 3 * TICK_NS) /* else this is the first look for long: let it begin to fade */
        malloc_pages_purge(dirty - (dirty - keep + 3) / 4);
}

static void add(int32_t used, int32_t dirty, unsigned moved)
{
    struct tally *t = &tallies[malloc_cpu];

    t->used += used;
    t->dirty += dirty;
    t->moved += moved;
    if (MALLOC_LIKELY(t->moved < BATCH))
        return;
    __atomic_fetch_add(&nused, t->used, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ndirty, t->dirty, __ATOMIC_RELAXED);
    *t = (struct tally){0};
    if (used < 0)
        look();
}

/* ---- What the library tells ---- */

static void wait_for_purge(uint64_t w)
{
    while (MALLOC_UNLIKELY(__atomic_load_n(&purging, __ATOMIC_ACQUIRE) == w + 1))
        qport_relax();
}

static void raise_top(uint64_t w)
{
    uint64_t seen = __atomic_load_n(&top, __ATOMIC_RELAXED);

    while (MALLOC_UNLIKELY(seen <= w) &&
           !__atomic_compare_exchange_n(&top, &seen, w + 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
    }
}

void malloc_frames_taken(const void *page, unsigned order)
{
    uint64_t frame = frame_of(page), n = 1ull << order, dirty = 0;

    for (uint64_t at = frame; at < frame + n; at += WORD) {
        uint64_t mask = mask_of(at, n), w = at / WORD;

        __atomic_fetch_or(&words[w].used, mask, __ATOMIC_SEQ_CST);
        wait_for_purge(w);
        dirty += (uint64_t)__builtin_popcountll(__atomic_load_n(&words[w].dirty, __ATOMIC_RELAXED) &
                                                mask);
    }
    raise_top((frame + n - 1) / WORD);
    add((int32_t)n, -(int32_t)dirty, (unsigned)n);
}

void malloc_frames_given(const void *page, unsigned order)
{
    uint64_t frame = frame_of(page), n = 1ull << order;

    for (uint64_t at = frame; at < frame + n; at += WORD) {
        struct word *w = &words[at / WORD];
        uint64_t mask = mask_of(at, n);

        if ((__atomic_load_n(&w->dirty, __ATOMIC_RELAXED) & mask) != mask)
            __atomic_fetch_or(&w->dirty, mask, __ATOMIC_RELAXED);
        __atomic_fetch_and(&w->used, ~mask, __ATOMIC_RELEASE);
    }
    add(-(int32_t)n, (int32_t)n, (unsigned)n);
}

/* ---- Purge ---- */

/* One word, whose frames stay free meanwhile; frames given. */
static uint64_t purge_word(uint64_t w)
{
    uint64_t bits, gone;

    if (!(__atomic_load_n(&words[w].dirty, __ATOMIC_RELAXED) &
          ~__atomic_load_n(&words[w].used, __ATOMIC_RELAXED)))
        return 0;
    __atomic_store_n(&purging, w + 1, __ATOMIC_SEQ_CST);
    bits = __atomic_load_n(&words[w].dirty, __ATOMIC_SEQ_CST) &
           ~__atomic_load_n(&words[w].used, __ATOMIC_SEQ_CST);
    gone = bits;
    while (bits) {
        unsigned first = (unsigned)__builtin_ctzll(bits);
        uint64_t rest = ~(bits >> first);
        unsigned n = rest ? (unsigned)__builtin_ctzll(rest) : WORD;

        madvise(address_of(w * WORD + first), n * QUIRE_PAGE_SIZE, MADV_DONTNEED);
        bits &= ~mask_of(first, n);
    }
    __atomic_fetch_and(&words[w].dirty, ~gone, __ATOMIC_RELEASE);
    __atomic_store_n(&purging, 0, __ATOMIC_RELEASE);
    return (uint64_t)__builtin_popcountll(gone);
}

size_t malloc_pages_purge(uint64_t keep)
{
    uint64_t end = __atomic_load_n(&top, __ATOMIC_RELAXED), gone = 0, dirty = clamped(&ndirty);
    uint32_t free = 0;

    /* somebody purges already, or the process is being forked */
    if (!__atomic_compare_exchange_n(&malloc_pages_lock.word, &free, 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return 0;
    for (uint64_t i = 0; i < end && (keep == 0 || gone + keep < dirty); i++) {
        cursor = cursor + 1 < end ? cursor + 1 : 0;
        gone += purge_word(cursor);
    }
    __atomic_fetch_sub(&ndirty, (int64_t)gone, __ATOMIC_RELAXED);
    malloc_unlock(&malloc_pages_lock);
    return gone * QUIRE_PAGE_SIZE;
}

/* ---- Runs ---- */

static uint64_t frame_at(const char *p)
{
    return ((uintptr_t)p - malloc_direct_base - MALLOC_PA_START) / QUIRE_PAGE_SIZE;
}

static bool is_dirty(const char *p)
{
    uint64_t frame = frame_at(p);

    return __atomic_load_n(&words[frame / WORD].dirty, __ATOMIC_RELAXED) >> frame % WORD & 1;
}

void malloc_pages_clear(char *p, size_t bytes)
{
    for (char *end = p + bytes; p < end; p += QUIRE_PAGE_SIZE)
        if (is_dirty(p))
            memset(p, 0, (size_t)(end - p) < QUIRE_PAGE_SIZE ? (size_t)(end - p) : QUIRE_PAGE_SIZE);
}

void malloc_pages_spare(char *p, size_t bytes)
{
    char *end = p + bytes, *from;

    while (p < end) {
        for (from = p; p < end && is_dirty(p); p += QUIRE_PAGE_SIZE)
            __atomic_fetch_and(&words[frame_at(p) / WORD].dirty, ~(1ull << frame_at(p) % WORD),
                               __ATOMIC_RELAXED);
        if (p != from)
            madvise(from, (size_t)(p - from), MADV_DONTNEED);
        else
            p += QUIRE_PAGE_SIZE;
    }
}
