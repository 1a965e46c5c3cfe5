/*
 * slab/leak.c - the leak scan: which objects does no word of memory point to?
 *
 * Model.  Marking, as a conservative collector does, which then collects nothing.  An object is white until
 * a word is found that is an address in it, then gray, and black when its own words have been looked at.
 * The colour is in struct qi_track.reached: below twice the number of this scan, that, or one more.
 *
 *     roots, memory without records --words--> gray --its words--> black
 *
 * Gray objects stand on a stack of bounded size, by address.  What finds it full is only coloured; then, the
 * stack empty, all records are gone through for gray ones, until there is none.  So nothing recurses,
 * and the memory a scan takes does not depend on what it finds.
 *
 * While others run.  Objects come, go and change hands while the scan looks.  Looking up an address,
 * and looking at up to CHUNK words of an object, are done under qi_track_lock, which whoever
 * frees a slab, a run or an area has to pass (track.c): memory that was found allocated stays the heap's
 * until the lock is dropped, and each chunk begins by asking again.  An address that moves from what the
 * scan has not seen yet to what it has already seen is missed.  Three things keep that from the report:
 * an object must be MIN_AGE old, as most that are handed around are not; when it is first found white, only a
 * checksum of its content is kept and it counts as gray, with all it points to; and so again each
 * time that its content has changed, for somebody has it who writes.
 *
 * What counts as an address: that of any byte of an object, for lists link to members, and tags are put
 * into low bits.
 *
 * Memory that is not tracked (allocated when there was no memory for a record, a run of which is not
 * known who asked) is a root, and so are the owner words of all frames' struct pages.
 *
 * Cost.  A word that is no address: 3 instructions; one that is: about 60.  Two walks over all records for
 * checksums and report.
 *
 * Sources: Linux, Documentation/dev-tools/kmemleak.rst, for the words, the checksum and the age, which
 * are taken from there; Boehm and Weiser, "Garbage Collection in an Uncooperative Environment", 1988, for the
 * overflow of the mark stack.  Rejected: kmemleak's tree of all objects by address, looked up at each
 * allocation: a slab finds its object by one multiplication.
 */
#include "leak.h"

#include "harden.h"

#if QUIRE_TRACK

#define CHUNK       64u /* words under the lock */
#define STACK_ORDER 4u
#define MIN_AGE_MS  5000u
#define PAUSE_WORDS 16384u
#define BATCH       8u

static const struct qi_lock_class scan_class = {"heap: leak scan"};
struct qi_rwsem qi_leak_lock;
static struct quire_leak_hooks hooks;
static uint32_t min_age; /* atomic; in ticks of struct qi_track_event */
uint32_t qi_leak_scans;

struct scan {
    uint32_t gray; /* twice the scan's number; black is one more */
    bool overflow;
    uint32_t depth, room;
    uintptr_t *stack;              /* addresses of gray objects */
    struct qi_track_large **large; /* those that there were at the start, by address */
    size_t nlarge;
    unsigned large_order;
    uint64_t words; /* since the last pause */
    struct quire_leak_stats stats;
};

void qi_leak_init(void)
{
    qi_rwsem_init(&qi_leak_lock, &scan_class);
    hooks = (struct quire_leak_hooks){0};
    quire_leak_min_age(MIN_AGE_MS);
    qi_leak_scans = 0;
}

void quire_leak_set_hooks(const struct quire_leak_hooks *h)
{
    hooks = h ? *h : (struct quire_leak_hooks){0};
}

void quire_leak_min_age(uint32_t ms)
{
    qi_store_relaxed(&min_age, (uint32_t)(((uint64_t)ms * 1000000) >> QI_TRACK_TICK_SHIFT));
}

/* ---- what is at an address; qi_track_lock is held ---- */

static struct qi_track_large *large_at(const struct scan *sc, uintptr_t p)
{
    size_t lo = 0, hi = sc->nlarge;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (sc->large[mid]->start <= p)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && p - sc->large[lo - 1]->start < sc->large[lo - 1]->bytes ? sc->large[lo - 1] : NULL;
}

/* The live, tracked object that p points into; false: none. */
static bool find(const struct scan *sc, uintptr_t p, struct qi_found *f)
{
    struct qi_slab *s = qi_leak_slab_at(p);

    *f = (struct qi_found){0};
    if (s) {
        uint64_t low, i = qi_mul_wide(p - s->origin, s->recip, &low);

        if (i >= 1 && i <= s->n)
            *f = qi_leak_object(s, (unsigned)i);
    } else {
        struct qi_track_large *l = large_at(sc, p);

        if (l)
            *f = (struct qi_found){&l->t, l->start, l->bytes};
    }
    return f->t && qi_load_acquire(&f->t->phase) == QI_TRACK_LIVE;
}

/* ---- colours ---- */

/* The object is referenced. */
static void shade(struct scan *sc, const struct qi_found *f)
{
    if (qi_load_relaxed(&f->t->reached) >= sc->gray ||
        (qi_load_relaxed(&f->t->marks) & QI_MARK_IGNORE))
        return;
    qi_store_relaxed(&f->t->reached, sc->gray);
    if (sc->depth < sc->room)
        sc->stack[sc->depth++] = f->start;
    else
        sc->overflow = true;
}

static void look_at(struct scan *sc, uintptr_t from, uintptr_t to)
{
    struct qi_found f;

    for (; from < to; from += sizeof(uintptr_t)) {
        uintptr_t word = qi_leak_word(from);

        if (word >= QUIRE_PAGE_SIZE && find(sc, word, &f))
            shade(sc, &f);
    }
}

static void pause_now_and_then(void *scan, size_t words)
{
    struct scan *sc = scan;

    sc->words += words;
    if (sc->words < PAUSE_WORDS)
        return;
    sc->words = 0;
    if (hooks.pause)
        hooks.pause(hooks.ctx);
}

/* [from, to) stays readable whatever happens. */
static void look_at_root(struct scan *sc, uintptr_t from, uintptr_t to)
{
    from = qi_align_up(from, sizeof(uintptr_t));
    to = qi_align_down(to, sizeof(uintptr_t));
    while (from < to) {
        uintptr_t end = QI_MIN(to, from + CHUNK * sizeof(uintptr_t));
        unsigned long irq = qi_spin_lock_irq(&qi_track_lock);

        look_at(sc, from, end);
        qi_spin_unlock_irq(&qi_track_lock, irq);
        from = end;
    }
}

void quire_leak_root(void *scan, const void *from, const void *to)
{
    look_at_root(scan, (uintptr_t)from, (uintptr_t)to);
}

/* Look at what the object at start holds, if it still is one, and gray. */
static void blacken(struct scan *sc, uintptr_t start)
{
    uintptr_t at = start, end;
    struct qi_found f;
    bool more = true;

    while (more) {
        unsigned long irq = qi_spin_lock_irq(&qi_track_lock);

        more =
            find(sc, start, &f) && f.start == start && qi_load_relaxed(&f.t->reached) >= sc->gray;
        if (more) {
            qi_store_relaxed(&f.t->reached, sc->gray + 1);
            end = qi_align_down(start + f.bytes, sizeof(uintptr_t));
            if (qi_load_relaxed(&f.t->marks) & QI_MARK_NO_SCAN)
                end = at;
            more = end - at > CHUNK * sizeof(uintptr_t);
            end = more ? at + CHUNK * sizeof(uintptr_t) : end;
            look_at(sc, at, end);
            at = end;
        }
        qi_spin_unlock_irq(&qi_track_lock, irq);
        pause_now_and_then(sc, CHUNK);
    }
}

/* ---- all objects ---- */

/* Call one, locked, for each object with a live record. */
static void each_object(struct scan *sc, qi_leak_one one)
{
    qi_leak_walk(one, pause_now_and_then, sc);
    for (size_t k = 0; k < sc->nlarge; k++) {
        unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
        struct qi_track_large *l = sc->large[k];
        struct qi_found f = {&l->t, l->start, l->bytes};

        if (qi_load_acquire(&l->t.phase) == QI_TRACK_LIVE)
            one(sc, &f);
        qi_spin_unlock_irq(&qi_track_lock, irq);
        pause_now_and_then(sc, BATCH);
    }
}

static void stack_gray(void *scan, const struct qi_found *f)
{
    struct scan *sc = scan;

    if (qi_load_relaxed(&f->t->reached) != sc->gray)
        return;
    if (sc->depth < sc->room)
        sc->stack[sc->depth++] = f->start;
    else
        sc->overflow = true;
}

static void blacken_all(struct scan *sc)
{
    for (;;) {
        while (sc->depth)
            blacken(sc, sc->stack[--sc->depth]);
        if (!sc->overflow)
            return;
        sc->overflow = false;
        each_object(sc, stack_gray);
    }
}

static void shade_held(void *scan, const struct qi_found *f)
{
    struct scan *sc = scan;

    sc->stats.objects++;
    if (qi_load_relaxed(&f->t->marks) & QI_MARK_HELD)
        shade(sc, f);
}

static bool is_white(const struct scan *sc, const struct qi_found *f)
{
    return qi_load_relaxed(&f->t->reached) < sc->gray &&
           !(qi_load_relaxed(&f->t->marks) & (QI_MARK_IGNORE | QI_MARK_HELD));
}

static uint32_t checksum(const struct qi_found *f)
{
    uint64_t h = f->bytes;

    for (uintptr_t at = f->start; at + sizeof(uintptr_t) <= f->start + f->bytes;
         at += sizeof(uintptr_t)) {
        h = (h ^ qi_leak_word(at)) * 0x9e3779b97f4a7c15;
        h ^= h >> 32;
    }
    return (uint32_t)h ? (uint32_t)h : 1;
}

static void shade_changed(void *scan, const struct qi_found *f)
{
    struct scan *sc = scan;
    uint32_t now;

    if (!is_white(sc, f))
        return;
    now = checksum(f);
    if (now != qi_load_relaxed(&f->t->content)) {
        qi_store_relaxed(&f->t->content, now);
        shade(sc, f);
    }
}

static void report_white(void *scan, const struct qi_found *f)
{
    struct scan *sc = scan;
    uint32_t before = qi_load_relaxed(&f->t->suspect);

    if (!is_white(sc, f) ||
        qi_track_now() - qi_load_relaxed(&f->t->alloc.time) < qi_load_relaxed(&min_age))
        return;
    qi_store_relaxed(&f->t->suspect, qi_leak_scans);
    sc->stats.suspects++;
    sc->stats.bytes += f->bytes;
    sc->stats.fresh += before + 1 != qi_leak_scans;
}

/* ---- a scan ---- */

/* Owner words name objects of the heap: pages of files, of kernel areas. */
static void root_owner(void *scan, uintptr_t owner)
{
    unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
    struct qi_found f;

    if (find(scan, owner, &f))
        shade(scan, &f);
    qi_spin_unlock_irq(&qi_track_lock, irq);
}

static void root_unknown(void *scan, uintptr_t from, uintptr_t to) { look_at_root(scan, from, to); }

static bool is_known(void *scan, uintptr_t start) { return large_at(scan, start); }

static void sift_down(struct qi_track_large **v, size_t n, size_t i)
{
    for (;;) {
        size_t most = i;
        struct qi_track_large *t = v[i];

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (v[child]->start > v[most]->start)
                most = child;
        if (most == i)
            return;
        v[i] = v[most];
        v[most] = t;
        i = most;
    }
}

static void sort(struct qi_track_large **v, size_t n)
{
    for (size_t k = n / 2; k-- > 0;)
        sift_down(v, n, k);
    for (size_t end = n; end-- > 1;) {
        struct qi_track_large *most = v[0];

        v[0] = v[end];
        v[end] = most;
        sift_down(v, end, 0);
    }
}

/* The large records, into memory that fits them; false: no memory. */
static bool list_large(struct scan *sc)
{
    unsigned long irq = qi_spin_lock_irq(&qi_track_lock);
    size_t n = qi_track_large_list(0, NULL, 0), room;
    struct quire_page *page;

    qi_spin_unlock_irq(&qi_track_lock, irq);
    sc->large_order = qi_log2_ceil((n * sizeof *sc->large >> QUIRE_PAGE_SHIFT) + 2);
    room = (QUIRE_PAGE_SIZE << sc->large_order) / sizeof *sc->large;
    page = quire_page_alloc(sc->large_order, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    if (!page)
        return false;
    sc->large = quire_page_ptr(page);
    irq = qi_spin_lock_irq(&qi_track_lock);
    n = qi_track_large_list(0, sc->large, room);
    sc->nlarge = QI_MIN(n, room);
    qi_spin_unlock_irq(&qi_track_lock, irq);
    sort(sc->large, sc->nlarge);
    return true;
}

static bool scan_begin(struct scan *sc)
{
    unsigned order = STACK_ORDER;
    struct quire_page *page = quire_page_alloc(order, QUIRE_GFP_NORETRY, QUIRE_NODE_ANY);

    if (!page) {
        order = 0;
        page = quire_page_alloc(order, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    }
    if (!page)
        return false;
    sc->stack = quire_page_ptr(page);
    sc->room = (uint32_t)((QUIRE_PAGE_SIZE << order) / sizeof *sc->stack);
    qi_track_watch_begin();
    if (list_large(sc))
        return true;
    qi_track_watch_end();
    quire_page_free(page, order);
    return false;
}

static void scan_end(struct scan *sc)
{
    struct quire_page *page = quire_page_of_ptr(sc->stack);

    qi_track_watch_end();
    quire_page_free(page, quire_page_order(page));
    quire_page_free(quire_page_of_ptr(sc->large), sc->large_order);
}

static void scan(struct scan *sc)
{
    qi_leak_scans++;
    sc->gray = qi_leak_scans * 2;
    if (hooks.roots)
        hooks.roots(sc, hooks.ctx);
    qi_leak_walk_unknown(root_unknown, is_known, sc);
    qi_leak_walk_owners(root_owner, sc);
    each_object(sc, shade_held);
    blacken_all(sc);
    each_object(sc, shade_changed);
    blacken_all(sc);
    each_object(sc, report_white);
}

enum quire_status quire_leak_scan(struct quire_leak_stats *out)
{
    struct scan sc = {0};

    if (!qi_heap_mode(QUIRE_HEAP_LEAKSCAN))
        return QUIRE_UNSUPPORTED;
    qi_rwsem_write_lock(&qi_leak_lock);
    if (!scan_begin(&sc)) {
        qi_rwsem_write_unlock(&qi_leak_lock);
        return QUIRE_NO_MEMORY;
    }
    scan(&sc);
    scan_end(&sc);
    sc.stats.scans = qi_leak_scans;
    *out = sc.stats;
    qi_rwsem_write_unlock(&qi_leak_lock);
    return QUIRE_OK;
}

#endif
