/*
 * arena/arena.c - memory of one's own, cut into pieces of any size.
 *
 * Purpose.  Serve where no frame allocator is, and objects for which runs of 2^n pages are too coarse: with
 * little waste, misuse named, and a report of who holds what.  Not for small objects by the million: each
 * costs 40 bytes and a lock.
 *
 * Model.  A region is a row of chunks, each with a header that says how large it is and how large the one in
 * front of it (boundary tags: Knuth, The Art of Computer Programming, vol. 1, 2.5), so both neighbours of a
 * freed chunk are found and merged at once:
 *
 *   | region | chunk  | chunk         | chunk    | END |
 *            | header | header, asked bytes, guard | ...
 *
 * The free ones form a tree by address (tree.c).  An allocation takes the lowest that is large enough, from its
 * front: first fit in order of addresses keeps the low end packed and the high end whole, and wastes the
 * least of the simple policies (Wilson, Johnstone, Neely, Boles, "Dynamic Storage Allocation: A Survey and
 * Critical Review", 1995; Johnstone, Wilson, 1998).  A linked list finds it in O(free chunks); the tree in
 * O(log), whatever the load: that the search is bounded is what lets it run with interrupts off.
 *
 * Invariants (quire_arena_verify checks them)
 *   A1  a header's check fits its words and its address
 *   A2  c.before is the size of the chunk in front, 0 for the first; the last is followed by END
 *   A3  no two neighbours are free
 *   A4  exactly the free chunks are in the tree, in order, with the right largest
 *   A5  the bytes behind what was asked for, at least GUARD of them, hold FILLER
 *   A6  pieces, used and total count what is there
 *
 * Misuse.  A header is sealed with 16 bits that depend on all its words, its address and a secret, so a pointer
 * that is no piece's, a piece freed twice (not OUT, or merged away and unsealed) and overwritten books are
 * told in 65535 of 65536 cases, and an overrun by one byte always, by the guard.  Who allocated the piece is
 * in the header and in the message.
 *
 * Aligned requests look at up to ALIGN_TRIES chunks that could do, then at one that must.
 *
 * Locking.  One spin lock, interrupts off, O(log n) but for walks.  Not held while a source is called.
 *
 * Failure.  No room, and no source or one that has nothing: NULL, counted, nothing changed.
 *
 * Rejected.  Segregated lists (dlmalloc, TLSF): faster by a constant, but good fit scatters large pieces over
 * the whole region.  Books outside the memory (vmem): would need an allocator.  Merging regions that touch:
 * a region of the source must go back as it came.
 */
#include "chunk.h"

#include "../base/trace.h"

#define ALIGN_TRIES 16u
#define ALIGN_MAX   ((size_t)1 << 30)

static const struct qi_lock_class arena_class = {"arena"};

_Static_assert(sizeof(((struct quire_arena *)0)->lock) >= sizeof(struct qi_spin),
               "room for the lock");

/* ---- seals ---- */

void qi_chunk_seal(const struct quire_arena *a, struct qi_chunk *c, uint64_t bytes, unsigned flags)
{
    uint64_t tag = bytes | flags;

    c->tag = qi_chunk_check(a, c, tag) << 48 | tag;
}

static void reseal(const struct quire_arena *a, struct qi_chunk *c)
{
    qi_chunk_seal(a, c, qi_chunk_bytes(c), c->tag & QI_CHUNK_FLAGS);
}

/* A piece that is handed out has been, or will be, one of what its header says. */
static void make_out(struct quire_arena *a, struct qi_chunk *c, uint64_t bytes, size_t asked,
                     uintptr_t site)
{
    uint8_t *end = (uint8_t *)qi_chunk_payload(c) + asked;

    c->asked = asked;
    c->site = site;
    qi_chunk_seal(a, c, bytes, QI_CHUNK_OUT);
    __builtin_memset(end, QI_CHUNK_FILLER, (size_t)((uint8_t *)qi_chunk_next(c) - end));
}

const uint8_t *qi_chunk_overrun(const struct qi_chunk *c)
{
    const uint8_t *end = (const uint8_t *)qi_chunk_next(c);

    for (const uint8_t *p = (const uint8_t *)qi_chunk_payload(c) + c->asked; p < end; p++)
        if (*p != QI_CHUNK_FILLER)
            return p;
    return NULL;
}

/* ---- chunks ---- */

/* The chunk behind c has another in front of it now. */
static void tell_next(struct quire_arena *a, struct qi_chunk *c)
{
    struct qi_chunk *next = qi_chunk_next(c);

    next->before = qi_chunk_bytes(c);
    reseal(a, next);
}

static void make_free(struct quire_arena *a, struct qi_chunk *c, uint64_t bytes)
{
    c->asked = c->site = 0;
    qi_chunk_seal(a, c, bytes, 0);
    tell_next(a, c);
    qi_tree_insert(a, c);
}

/* c is out; bytes of it are enough: the rest, if it can be a chunk, is free. */
static void cut(struct quire_arena *a, struct qi_chunk *c, uint64_t bytes)
{
    uint64_t rest = qi_chunk_bytes(c) - bytes;
    struct qi_chunk *tail, *next = qi_chunk_next(c);

    if (!rest)
        return;
    if (qi_chunk_is_free(next)) {
        qi_tree_remove(a, next);
        rest += qi_chunk_bytes(next);
    } else if (rest < QI_CHUNK_MIN) {
        return;
    }
    qi_chunk_seal(a, c, bytes, QI_CHUNK_OUT);
    tail = qi_chunk_next(c);
    tail->before = bytes;
    make_free(a, tail, rest);
}

/* Header, the bytes asked for and their guard in units; 0: too many. */
static uint64_t bytes_for(size_t asked)
{
    uint64_t bytes = asked;

    if (bytes >= QI_CHUNK_BYTES / 2)
        return 0;
    bytes = qi_align_up(bytes + QI_CHUNK_HEADER + QI_CHUNK_GUARD, QI_CHUNK_UNIT);
    return QI_MAX(bytes, (uint64_t)QI_CHUNK_MIN);
}

/* Where in c a chunk begins whose payload is aligned: at c, or far enough behind for a chunk between. */
static struct qi_chunk *aligned_in(struct qi_chunk *c, size_t align)
{
    uintptr_t at = qi_align_up((uintptr_t)qi_chunk_payload(c), align) - QI_CHUNK_HEADER;

    while (at != (uintptr_t)c && at - (uintptr_t)c < QI_CHUNK_MIN)
        at += align;
    return (struct qi_chunk *)at;
}

static bool fits(struct qi_chunk *c, uint64_t bytes, size_t align)
{
    return (uintptr_t)qi_chunk_next(c) - (uintptr_t)aligned_in(c, align) >= bytes &&
           (uintptr_t)aligned_in(c, align) < (uintptr_t)qi_chunk_next(c);
}

static struct qi_chunk *find(struct quire_arena *a, uint64_t bytes, size_t align)
{
    struct qi_chunk *c = qi_tree_fit(a, bytes);

    for (unsigned i = 0; c && !fits(c, bytes, align); i++) {
        if (i == ALIGN_TRIES)
            return qi_tree_fit(a, bytes + align + QI_CHUNK_MIN);
        c = qi_tree_fit_behind(a, c, bytes);
    }
    return c;
}

static void *take(struct quire_arena *a, uint64_t bytes, size_t asked, size_t align, uintptr_t site)
{
    struct qi_chunk *c = find(a, bytes, align), *at;
    uint64_t all, front;

    if (!c)
        return NULL;
    qi_tree_remove(a, c);
    at = aligned_in(c, align);
    all = qi_chunk_bytes(c);
    front = (uintptr_t)at - (uintptr_t)c;
    if (front) {
        at->before = front;
        qi_chunk_seal(a, c, front, 0);
        qi_tree_insert(a, c);
    }
    /* as a whole first, so that cutting it and telling the next is one path */
    at->asked = at->site = 0;
    qi_chunk_seal(a, at, all - front, QI_CHUNK_OUT);
    if (front)
        tell_next(a, at);
    cut(a, at, bytes);
    make_out(a, at, qi_chunk_bytes(at), asked, site);
    a->used += asked;
    a->peak = QI_MAX(a->peak, a->used);
    a->pieces++;
    a->allocs++;
    return qi_chunk_payload(at);
}

/* ---- regions ---- */

static bool overlaps(const struct quire_arena *a, uintptr_t from, uintptr_t to)
{
    for (const struct qi_region *r = a->regions; r; r = r->next)
        if (from < (uintptr_t)r + r->bytes && (uintptr_t)r < to)
            return true;
    return false;
}

static enum quire_status add(struct quire_arena *a, void *memory, size_t given, bool own)
{
    uintptr_t from = (uintptr_t)memory, to = from + given;
    uint64_t bytes = given;
    struct qi_region *r;
    struct qi_chunk *c, *end;
    unsigned long irq;

    if (to < from || bytes < QI_REGION_HEADER + QI_CHUNK_MIN + 2 * QI_CHUNK_HEADER ||
        bytes > QI_CHUNK_BYTES)
        return QUIRE_INVALID;
    from = (uintptr_t)qi_align_up(from, QI_CHUNK_UNIT);
    to = (uintptr_t)qi_align_down(to, QI_CHUNK_UNIT);
    irq = qi_spin_lock_irq(qi_arena_lock(a));
    if (overlaps(a, from, to)) {
        qi_spin_unlock_irq(qi_arena_lock(a), irq);
        return QUIRE_INVALID;
    }
    r = (struct qi_region *)from;
    *r = (struct qi_region){
        .next = a->regions, .bytes = to - from, .memory = memory, .given = given, .own = own};
    a->regions = r;
    a->low = a->nregions ? QI_MIN(a->low, from) : from;
    a->high = QI_MAX(a->high, to);
    a->nregions++;
    a->total += given;
    c = qi_region_first(r);
    end = (struct qi_chunk *)(to - QI_CHUNK_HEADER);
    end->asked = end->site = 0;
    c->before = 0;
    qi_chunk_seal(a, end, 0, QI_CHUNK_END);
    make_free(a, c, (uintptr_t)end - (uintptr_t)c);
    qi_spin_unlock_irq(qi_arena_lock(a), irq);
    return QUIRE_OK;
}

enum quire_status quire_arena_add(struct quire_arena *a, void *memory, size_t bytes)
{
    return add(a, memory, bytes, false);
}

void quire_arena_init(struct quire_arena *a, const char *name,
                      const struct quire_arena_source *source, uint64_t seed)
{
    *a = (struct quire_arena){.name = name};
    if (source)
        a->source = *source;
    a->secret = (seed ^ (uintptr_t)a) * 0x9e3779b97f4a7c15;
    qi_spin_init(qi_arena_lock(a), &arena_class);
}

/* Room for a chunk of bytes, aligned, from the source. */
static bool grow(struct quire_arena *a, uint64_t bytes, size_t align)
{
    uint64_t want = bytes + align + QI_REGION_HEADER + QI_CHUNK_MIN + 3 * QI_CHUNK_HEADER;
    size_t got = (size_t)QI_MAX(want, (uint64_t)a->source.step);
    void *memory;

    if (!a->source.get || want > SIZE_MAX)
        return false;
    memory = a->source.get(a->source.ctx, &got);
    if (!memory)
        return false;
    if (add(a, memory, got, true) == QUIRE_OK)
        return true;
    a->source.put(a->source.ctx, memory, got);
    return false;
}

/* A free chunk is all of a region of the source's: take it out.  The arena is locked. */
static struct qi_region *unlink_free_region(struct quire_arena *a)
{
    struct qi_region *r, *before = NULL;

    for (r = a->regions; r; before = r, r = r->next) {
        struct qi_chunk *c = qi_region_first(r);

        if (!r->own || !qi_chunk_is_free(c) || !(qi_chunk_next(c)->tag & QI_CHUNK_END))
            continue;
        qi_tree_remove(a, c);
        if (before)
            before->next = r->next;
        else
            a->regions = r->next;
        a->nregions--;
        a->total -= r->given;
        return r;
    }
    return NULL;
}

size_t quire_arena_trim(struct quire_arena *a)
{
    struct qi_region *r;
    size_t bytes = 0;

    for (;;) {
        unsigned long irq = qi_spin_lock_irq(qi_arena_lock(a));

        r = unlink_free_region(a);
        qi_spin_unlock_irq(qi_arena_lock(a), irq);
        if (!r)
            return bytes;
        bytes += r->given;
        a->source.put(a->source.ctx, r->memory, r->given);
    }
}

enum quire_status quire_arena_fini(struct quire_arena *a)
{
    if (quire_arena_report(a))
        return QUIRE_BUSY;
    quire_arena_trim(a);
    return QUIRE_OK;
}

/* ---- the public calls ---- */

void *quire_arena_alloc_for(struct quire_arena *a, size_t asked, size_t align, uintptr_t site)
{
    uint64_t bytes = bytes_for(asked);
    unsigned long irq;
    void *p = NULL;
    bool again;

    QI_CHECK(qi_is_pow2(align) && align <= ALIGN_MAX, "arena %s: alignment %lu", a->name,
             (unsigned long)align);
    align = QI_MAX(align, (size_t)QI_CHUNK_UNIT);
    for (again = bytes; again; again = !p && grow(a, bytes, align)) { /* others may be faster */
        irq = qi_spin_lock_irq(qi_arena_lock(a));
        p = take(a, bytes, asked, align, site);
        qi_spin_unlock_irq(qi_arena_lock(a), irq);
    }
    if (!p)
        qi_fetch_add_relaxed(&a->failures, 1);
    return p;
}

void *quire_arena_alloc(struct quire_arena *a, size_t bytes)
{
    return quire_arena_alloc_for(a, bytes, 1, QI_CALLER());
}

void *quire_arena_alloc_aligned(struct quire_arena *a, size_t bytes, size_t align)
{
    return quire_arena_alloc_for(a, bytes, align, QI_CALLER());
}

/* What is wrong with the piece p; NULL: it is one that is out, and its neighbours are sound.  Locked. */
static const char *wrong_with(const struct quire_arena *a, const void *p)
{
    const struct qi_chunk *c = qi_chunk_of(p);

    if (!qi_chunk_sealed(a, c))
        return "is not a piece of it, was freed before, or the bytes in front of it were "
               "overwritten";
    if (!(c->tag & QI_CHUNK_OUT))
        return "was freed before";
    if (qi_chunk_overrun(c))
        return "was overrun";
    if (!qi_chunk_sealed(a, qi_chunk_next(c)))
        return "was overrun beyond its guard, or the piece behind it underrun";
    if (c->before && !qi_chunk_sealed(a, qi_chunk_before(c)))
        return "stands behind a piece whose books are damaged";
    return NULL;
}

/* Lock the arena and look at p, which is not NULL; panics, unlocked, with what is wrong. */
static unsigned long lock_piece(struct quire_arena *a, const void *p, const char *who)
{
    unsigned long irq = qi_spin_lock_irq(qi_arena_lock(a));
    const struct qi_chunk *c = qi_chunk_of(p);
    const char *wrong = wrong_with(a, p);
    bool readable;

    if (QI_LIKELY(!wrong))
        return irq;
    readable = qi_chunk_sealed(a, c);
    qi_spin_unlock_irq(qi_arena_lock(a), irq);
    if (readable)
        qi_bug("arena %s: %s: %p, %lu bytes, allocated at %#lx, %s (offset %ld)", a->name, who, p,
               (unsigned long)c->asked, (unsigned long)c->site, wrong,
               qi_chunk_overrun(c) ? (long)(qi_chunk_overrun(c) - (const uint8_t *)p) : -1);
    qi_bug("arena %s: %s: %p %s", a->name, who, p, wrong);
}

/* c is out: it is free.  Locked. */
static void give(struct quire_arena *a, struct qi_chunk *c)
{
    struct qi_chunk *next = qi_chunk_next(c), *before = c->before ? qi_chunk_before(c) : NULL;
    uint64_t bytes = qi_chunk_bytes(c);

    a->used -= c->asked;
    a->pieces--;
    if (qi_chunk_is_free(next)) {
        qi_tree_remove(a, next);
        bytes += qi_chunk_bytes(next);
        next->tag = 0; /* no longer a header */
    }
    if (!before || !qi_chunk_is_free(before)) {
        make_free(a, c, bytes);
        return;
    }
    c->tag = 0;
    qi_chunk_seal(a, before, qi_chunk_bytes(before) + bytes, 0);
    tell_next(a, before);
    qi_tree_resized(a, before);
}

void quire_arena_free(struct quire_arena *a, void *p)
{
    unsigned long irq;

    if (!p)
        return;
    irq = lock_piece(a, p, "free");
    give(a, qi_chunk_of(p));
    qi_spin_unlock_irq(qi_arena_lock(a), irq);
}

size_t quire_arena_size(struct quire_arena *a, const void *p)
{
    unsigned long irq = lock_piece(a, p, "size");
    size_t asked = (size_t)qi_chunk_of(p)->asked;

    qi_spin_unlock_irq(qi_arena_lock(a), irq);
    return asked;
}

/* c, out, has asked bytes from now on, if it or what is behind it has room.  Locked. */
static bool resize(struct quire_arena *a, struct qi_chunk *c, uint64_t bytes, size_t asked)
{
    struct qi_chunk *next = qi_chunk_next(c);
    uint64_t room = qi_chunk_bytes(c), old = c->asked;

    if (room < bytes) {
        if (!qi_chunk_is_free(next) || room + qi_chunk_bytes(next) < bytes)
            return false;
        qi_tree_remove(a, next);
        room += qi_chunk_bytes(next);
        next->tag = 0;
        qi_chunk_seal(a, c, room, QI_CHUNK_OUT);
        tell_next(a, c);
    }
    cut(a, c, bytes);
    make_out(a, c, qi_chunk_bytes(c), asked, (uintptr_t)c->site);
    a->used += asked - old;
    a->peak = QI_MAX(a->peak, a->used);
    return true;
}

void *quire_arena_realloc(struct quire_arena *a, void *p, size_t asked)
{
    uint64_t bytes = bytes_for(asked);
    unsigned long irq;
    size_t old;
    void *fresh;
    bool done;

    if (!p)
        return quire_arena_alloc_for(a, asked, 1, QI_CALLER());
    if (!asked) {
        quire_arena_free(a, p);
        return NULL;
    }
    irq = lock_piece(a, p, "realloc");
    old = (size_t)qi_chunk_of(p)->asked;
    done = bytes && resize(a, qi_chunk_of(p), bytes, asked);
    qi_spin_unlock_irq(qi_arena_lock(a), irq);
    if (done)
        return p;
    fresh = quire_arena_alloc_for(a, asked, 1, QI_CALLER());
    if (!fresh)
        return NULL;
    __builtin_memcpy(fresh, p, QI_MIN(old, asked));
    quire_arena_free(a, p);
    return fresh;
}
