/*
 * frame/deferred.c - a machine with much memory starts on a part of it, and takes over the rest later, on all
 * CPUs.
 *
 * Purpose.  What boot does for each frame, backing and clearing its struct page, and in some memory
 * models writing it (map.h), need not be done before the first program runs, nor by one CPU.
 *
 * Model.  Memory is cut into chunks of 2^QUIRE_SECTION_ORDER frames.  At boot a chunk is taken over if any
 * node has less than quire_boot.first_bytes below it; a bitmap has the others.  To its zone the pageblocks
 * of such a chunk are absent, as those of memory that may come later are (hotplug.c): nobody looks at
 * their struct pages, and quire_pfn_valid() says no.  The bit of a chunk is cleared by who takes it
 * over, those of his own node first.
 *
 *      deferred --bit cleared--> one CPU's --struct pages made--> --given to the zones--> free
 *
 * Concurrency.  A chunk belongs to the CPU that cleared its bit; pageblocks lie in one chunk, and no run of
 * free blocks is longer than a chunk, so that nothing outside it changes but the lists and counts
 * of the zone, under its lock.  Zones with nothing but deferred chunks are in the zone lists from the start.
 *
 * Failure.  A port without memory for the struct pages says so: the chunk is deferred again.
 *
 * Cost.  VMEMMAP: what the port needs, and 20 instructions a pageblock.  The others clear 32 bytes a frame.
 *
 * Sources.  Linux, mm/mm_init.c: deferred_init_memmap(), deferred_grow_zone().
 */
#include "map.h"

#define CHUNK_ORDER QUIRE_SECTION_ORDER

uint64_t qi_deferred_left;

static const struct quire_memmap *map;
static uint64_t *waiting;            /* bit n: chunk n is deferred */
static uint64_t nwords;              /* of it */
static uint64_t at[QUIRE_MAX_NODES]; /* the node's first chunk */
static uint64_t unfinished;          /* chunks not taken over, those under way as well */

static uint64_t chunk_of(uint64_t pfn) { return pfn >> CHUNK_ORDER; }

/* Go through the parts of ranges that lie in one chunk each; those of nodes that have enough below them are
 * marked, those of others (unmark) are not. */
static void mark(const struct quire_memmap *m, uint64_t first, bool unmark)
{
    uint64_t have[QUIRE_MAX_NODES] = {0};
    struct qi_map_range r;

    for (uint32_t i = 0; qi_map_next(m, &i, &r);)
        for (uint64_t n = chunk_of(r.from); n <= chunk_of(r.to - 1); n++) {
            uint64_t from = QI_MAX(r.from, n << CHUNK_ORDER);
            bool enough = have[r.node] >= first;

            if (enough && !unmark)
                waiting[n / 64] |= 1ull << n % 64;
            else if (!enough && unmark)
                waiting[n / 64] &= ~(1ull << n % 64);
            have[r.node] += QI_MIN(r.to, (n + 1) << CHUNK_ORDER) - from;
        }
}

enum quire_status qi_deferred_init(struct quire_memmap *m, uint64_t first_bytes)
{
    struct qi_map_range r;
    enum quire_status s;
    uint64_t top = 0;
    void *bits;

    qi_deferred_left = unfinished = nwords = 0;
    map = m;
    if (!first_bytes)
        return QUIRE_OK;
    for (unsigned n = 0; n < QUIRE_MAX_NODES; n++)
        at[n] = UINT64_MAX;
    for (uint32_t i = 0; qi_map_next(m, &i, &r);) {
        top = r.to;
        at[r.node] = QI_MIN(at[r.node], chunk_of(r.from));
    }
    nwords = chunk_of(top - 1) / 64 + 1;
    s = qi_boot_alloc(m, nwords * sizeof *waiting, 0, "deferred frames", &bits);
    if (s)
        return s;
    waiting = bits;
    for (uint64_t w = 0; w < nwords; w++)
        waiting[w] = 0;
    mark(m, first_bytes / QUIRE_PAGE_SIZE, false);
    mark(m, first_bytes / QUIRE_PAGE_SIZE, true);
    for (uint64_t w = 0; w < nwords; w++)
        unfinished += qi_popcount(waiting[w]);
    qi_deferred_left = unfinished;
    return QUIRE_OK;
}

bool qi_deferred_next(uint64_t *from, uint64_t *to)
{
    uint64_t n = chunk_of(*to), end = nwords * 64;

    if (*to == UINT64_MAX)
        return false;
    while (n < end && waiting[n / 64] >> n % 64 & 1)
        n++;
    *from = n << CHUNK_ORDER;
    while (n < end && !(waiting[n / 64] >> n % 64 & 1))
        n++;
    *to = n < end ? n << CHUNK_ORDER : UINT64_MAX;
    return true;
}

/* A chunk that nobody else works on from now on; false: there is none. */
static bool claim(uint64_t *chunk)
{
    uint64_t start = at[qi_cpu_nodes[qport_cpu()]];

    if (!qi_load_relaxed(&qi_deferred_left))
        return false;
    start = start == UINT64_MAX ? 0 : start;
    for (uint64_t k = 0; k <= nwords;
         k++) { /* the first word twice: from the start, and all of it */
        uint64_t w = (start / 64 + k) % nwords, bits, among = k ? ~0ull : ~0ull << start % 64;

        while ((bits = qi_load_relaxed(&waiting[w]) & among)) {
            uint64_t bit = bits & -bits;

            if (!(qi_fetch_and_acqrel(&waiting[w], ~bit) & bit))
                continue;
            qi_fetch_sub_relaxed(&qi_deferred_left, (uint64_t)1);
            *chunk = w * 64 + qi_lowest_bit(bit);
            return true;
        }
    }
    return false;
}

enum quire_status quire_frame_deferred_step(void)
{
    enum quire_status s;
    uint64_t n;

    if (!claim(&n))
        return QUIRE_NOT_FOUND;
    s = qi_frames_make(map, n << CHUNK_ORDER, (n + 1) << CHUNK_ORDER);
    if (!s)
        s = qi_frames_give(map, n << CHUNK_ORDER, (n + 1) << CHUNK_ORDER);
    if (s) {
        qi_fetch_or_acqrel(&waiting[n / 64], 1ull << n % 64);
        qi_fetch_add_relaxed(&qi_deferred_left, (uint64_t)1);
        return s;
    }
    if (qi_fetch_sub_acqrel(&unfinished, (uint64_t)1) == 1) {
        qi_frame_watermarks();
        qi_frame_stacks_update();
    }
    return QUIRE_OK;
}

uint64_t quire_frame_deferred(void) { return qi_load_acquire(&unfinished); }
