/*
 * space.c - operations on address spaces, against a model that knows only pages.
 *
 * A worker has a region of its group's space, and a copy of all of it in each of its children.  For
 * each page of the region the model says what is mapped, with which rights, and which two words are
 * there.  Every answer of the library and every word read through the MMU must be the model's.
 * What shortage of memory or a failing device leaves open is either asked for (rights), remembered
 * as open (`maybe`), or made certain by unmapping it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../ports/sim/mmu.h"
#include "world.h"

#define REGIONS 0x7f0000000000ull
#define BREAK   0x10000000ull
#define RW      (QUIRE_READ | QUIRE_WRITE)

static const unsigned prots[] = {RW, RW, QUIRE_READ, 0, QUIRE_READ | QUIRE_EXEC};

static uint64_t va_of(const struct worker *w, unsigned page)
{
    return REGIONS + ((uint64_t)w->place * world.region + page) * PAGE;
}

static struct file *file_of(struct worker *w, const struct mpage *p)
{
    if (p->backing == SHARED || p->backing == SHARED_PRIVATE)
        return &world.shared;
    return p->file ? w->file : &world.common;
}

static bool has_object(const struct mpage *p) { return p->backing >= SHARED; }
static bool is_private_file(const struct mpage *p)
{
    return p->backing == FILE_PRIVATE || p->backing == SHARED_PRIVATE;
}
static bool beyond(struct worker *w, const struct mpage *p)
{
    return has_object(p) && p->index >= file_of(w, p)->size;
}

/* The words that a read of the page gives; of a page that is not beyond its object. */
static uint64_t *words_of(struct worker *w, struct mpage *p)
{
    return has_object(p) && !p->own ? file_words(file_of(w, p), p->index, w) : p->word;
}

static void range(const struct sim_op *op, unsigned *first, unsigned *n)
{
    *first = op->arg[0] * world.scale % world.region;
    *n = op->arg[1] * world.scale;
    if (*n > world.region - *first)
        *n = world.region - *first;
}

_Noreturn static void wrong(struct worker *w, const char *what, unsigned page,
                            enum quire_status got, const char *expected)
{
    const struct mpage *p = &w->now->pages[page];

    sim_note("page %u at %#llx: backing %u rights %u own %u index %u file %u", page,
             (unsigned long long)va_of(w, page), p->backing, p->prot, p->own, p->index, p->file);
    sim_fail("status", "%s of page %u: %s, where the model has %s", what, page,
             quire_status_name(got), expected);
}

/* Make certain what is mapped: nothing. */
static void clear(struct worker *w, unsigned first, unsigned n)
{
    enum quire_status st = quire_munmap(w->now->s, Q_UVA(va_of(w, first)), n * PAGE);

    if (st == QUIRE_OK)
        memset(&w->now->pages[first], 0, n * sizeof w->now->pages[0]);
    else if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "munmap");
    else
        wrong(w, "munmap", first, st, "OK");
}

static bool any(const struct worker *w, unsigned first, unsigned n,
                bool (*is)(const struct mpage *))
{
    for (unsigned i = first; i < first + n; i++)
        if (is(&w->now->pages[i]))
            return true;
    return false;
}
static bool is_mapped(const struct mpage *p) { return p->backing != NOTHING; }
static bool is_hole(const struct mpage *p) { return p->backing == NOTHING; }
static bool is_locked(const struct mpage *p) { return p->locked; }
static bool is_not_anon(const struct mpage *p) { return p->backing != ANON; }

/* What must be gone for certain before anything else is done with it: clear() can fail. */
static void clear_for_sure(struct worker *w, unsigned first, unsigned n)
{
    for (unsigned tries = 0; any(w, first, n, is_mapped); tries++) {
        clear(w, first, n);
        if (tries > 100)
            sim_fail("no-progress", "munmap has failed %u times", tries);
        if (any(w, first, n, is_mapped))
            sim_sleep(10000);
    }
}

/* Whether the operation may have been cut short. */
static bool uncertain(const struct worker *w)
{
    return may_be_short(w) || world.io_failures != w->io_started;
}

/* ---- Mapping ---- */

static void populated(struct worker *w, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &w->now->pages[i];

        /* as in Linux: writable private mappings are written to, in advance */
        if (is_private_file(p) && !p->own && p->prot & QUIRE_WRITE && !beyond(w, p)) {
            memcpy(p->word, file_words(file_of(w, p), p->index, w), sizeof p->word);
            p->own = true;
        }
    }
}

static void do_mmap(struct worker *w, const struct sim_op *op)
{
    enum backing b = ANON + op->arg[3] % 5;
    unsigned first, n, index = op->arg[0] % OBJECT_PAGES, prot = prots[op->arg[2] % 5];
    struct mpage like = {.backing = (uint8_t)b, .prot = (uint8_t)prot, .own = b == ANON};
    struct quire_mmap m = {.len = 0, .prot = prot};
    enum quire_status st;
    bool taken;
    q_uva at;

    range(op, &first, &n);
    like.file = (b == FILE_SHARED || b == FILE_PRIVATE) && op->arg[0] & 1;
    taken = any(w, first, n, is_mapped);
    m.addr = Q_UVA(va_of(w, first));
    m.len = n * PAGE;
    m.flags = b == SHARED || b == FILE_SHARED ? QUIRE_MAP_SHARED : QUIRE_MAP_PRIVATE;
    m.flags |= op->arg[4] & 1 ? QUIRE_MAP_FIXED : QUIRE_MAP_FIXED_NOREPLACE;
    m.flags |= op->arg[4] & 2 ? QUIRE_MAP_POPULATE : 0;
    m.flags |= b == ANON ? QUIRE_MAP_ANONYMOUS : 0;
    m.object = b == ANON ? NULL : file_of(w, &like)->o;
    m.offset = b == ANON ? 0 : index * PAGE;
    st = quire_mmap(w->now->s, &m, &at);
    if (!(op->arg[4] & 1) && taken) {
        if (st != QUIRE_EXISTS && st != QUIRE_NO_MEMORY)
            wrong(w, "mmap", first, st, "EXISTS");
        return;
    }
    if (st == QUIRE_NO_MEMORY) {
        must_be_short(w, "mmap");
        return;
    }
    if (st != QUIRE_OK || at.v != m.addr.v)
        wrong(w, "mmap", first, st, "OK");
    for (unsigned i = 0; i < n; i++) {
        w->now->pages[first + i] = like;
        w->now->pages[first + i].index = index + i;
    }
    if (op->arg[4] & 2) {
        populated(w, first, n);
        if (b != ANON && uncertain(w))
            clear_for_sure(w, first, n);
    }
}

static void do_munmap(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;

    range(op, &first, &n);
    if (n)
        clear(w, first, n);
}

/* Ask what rights the pages have: the call stopped somewhere. */
static void learn_prot(struct worker *w, unsigned first, unsigned n, unsigned prot)
{
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &w->now->pages[i];
        struct quire_vma_info info;

        if (p->backing == NOTHING)
            continue;
        if (quire_space_vma(w->now->s, Q_UVA(va_of(w, i)), false, &info) != QUIRE_OK ||
            info.start.v > va_of(w, i))
            wrong(w, "query", i, QUIRE_NOT_FOUND, "a mapping");
        if (info.prot != p->prot && info.prot != prot)
            wrong(w, "mprotect", i, QUIRE_NO_MEMORY, "the old rights or the new");
        p->prot = (uint8_t)info.prot;
    }
}

static void do_mprotect(struct worker *w, const struct sim_op *op)
{
    unsigned first, n, i, prot = prots[op->arg[2] % 5];
    enum quire_status st;

    range(op, &first, &n);
    if (!n)
        return;
    st = quire_mprotect(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, prot);
    if (st == QUIRE_NO_MEMORY && may_be_short(w)) {
        learn_prot(w, first, n, prot);
        return;
    }
    for (i = first; i < first + n && w->now->pages[i].backing != NOTHING; i++)
        w->now->pages[i].prot = (uint8_t)prot;
    if (st != (i == first + n ? QUIRE_OK : QUIRE_NO_MEMORY))
        wrong(w, "mprotect", first, st, i == first + n ? "OK" : "NO_MEMORY, for there is a hole");
}

/* Ask which pages are still there: the target of a move that failed may be gone, all or nothing. */
static void learn_mapped(struct worker *w, unsigned first, unsigned n)
{
    bool gone = false, there = false;

    for (unsigned i = first; i < first + n; i++) {
        struct quire_vma_info info;

        if (w->now->pages[i].backing == NOTHING)
            continue;
        if (quire_space_vma(w->now->s, Q_UVA(va_of(w, i)), false, &info) == QUIRE_OK &&
            info.start.v <= va_of(w, i)) {
            there = true;
        } else {
            gone = true;
            w->now->pages[i] = (struct mpage){0};
        }
    }
    if (gone && there)
        wrong(w, "mremap", first, QUIRE_NO_MEMORY, "all of the target there, or nothing of it");
}

/* Several vmas cannot be one mapping for mremap. */
static bool one_mapping(const struct worker *w, unsigned first, unsigned n)
{
    const struct mpage *a = &w->now->pages[first];

    for (unsigned i = first; i < first + n; i++) {
        const struct mpage *p = &w->now->pages[i];

        if (p->backing == NOTHING || p->backing != a->backing || p->prot != a->prot ||
            p->file != a->file || (p->backing != ANON && p->index != a->index + (i - first)))
            return false;
    }
    return true;
}

static void do_mremap(struct worker *w, const struct sim_op *op)
{
    unsigned first, n, to = op->arg[2] * world.scale % world.region;
    struct mpage *pages = w->now->pages, *copy;
    enum quire_status st;
    q_uva out;

    range(op, &first, &n);
    if (!n || to + n > world.region)
        return;
    st = quire_mremap(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, n * PAGE,
                      QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED, Q_UVA(va_of(w, to)), &out);
    if (pages[first].backing != NOTHING && first < to + n && to < first + n) {
        if (st != QUIRE_INVALID)
            wrong(w, "mremap onto itself", first, st, "INVALID");
        return;
    }
    if (st == QUIRE_NO_MEMORY) {
        must_be_short(w, "mremap");
        learn_mapped(w, to, n);
        return;
    }
    /* FAULT also for what differs only in advice or locking, which the model does not keep */
    if (st == QUIRE_FAULT)
        return;
    if (st != QUIRE_OK || !one_mapping(w, first, n) || out.v != va_of(w, to))
        wrong(w, "mremap", first, st, "something else");
    copy = malloc(n * sizeof *copy);
    memcpy(copy, &pages[first], n * sizeof *copy);
    memset(&pages[first], 0, n * sizeof *copy);
    memcpy(&pages[to], copy, n * sizeof *copy);
    free(copy);
}

/* ---- Advice ---- */

enum { DONTNEED = 4, FREE = 8, HUGEPAGE = 14 };

static void dropped(struct worker *w, unsigned first, unsigned n, bool certain)
{
    for (unsigned i = first; i < first + n; i++) {
        struct mpage *p = &w->now->pages[i];

        if (p->backing == ANON && !certain) {
            p->maybe = true;
        } else if (p->backing == ANON || is_private_file(p)) {
            p->own = p->backing == ANON;
            p->maybe = false;
            p->word[0] = p->word[1] = 0;
        }
    }
}

static void do_dontneed(struct worker *w, unsigned first, unsigned n, int advice)
{
    enum quire_status st;

    if (any(w, first, n, is_locked) || (advice == FREE && any(w, first, n, is_not_anon)))
        return;
    st = quire_madvise(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, advice);
    if (st == QUIRE_NO_MEMORY && !any(w, first, n, is_hole)) {
        must_be_short(w, "madvise");
        dropped(w, first, n, false);
        for (unsigned i = first; i < first + n; i++)
            if (is_private_file(&w->now->pages[i]))
                clear_for_sure(w, i, 1);
        return;
    }
    if (st != (any(w, first, n, is_hole) ? QUIRE_NO_MEMORY : QUIRE_OK))
        wrong(w, "madvise", first, st, any(w, first, n, is_hole) ? "NO_MEMORY" : "OK");
    dropped(w, first, n, advice == DONTNEED && !may_be_short(w));
    if (may_be_short(w) && any(w, first, n, is_hole))
        for (unsigned i = first; i < first + n; i++)
            if (is_private_file(&w->now->pages[i]))
                clear_for_sure(w, i, 1);
}

static void do_madvise(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;
    int advice = (int)op->arg[2];
    enum quire_status st;

    range(op, &first, &n);
    if (!n)
        return;
    if (advice == DONTNEED || advice == FREE) {
        do_dontneed(w, first, n, advice);
        return;
    }
    st = quire_madvise(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, advice);
    if (st == QUIRE_NO_MEMORY && !any(w, first, n, is_hole))
        must_be_short(w, "madvise");
    else if (st != QUIRE_OK && st != QUIRE_NO_MEMORY && st != QUIRE_INVALID)
        wrong(w, "madvise", first, st, "OK, NO_MEMORY or INVALID");
}

static void do_huge(struct worker *w)
{
    enum quire_status st =
        quire_madvise(w->now->s, Q_UVA(va_of(w, 0)), world.region * PAGE, HUGEPAGE);

    if (st == QUIRE_NO_MEMORY && !any(w, 0, world.region, is_hole))
        must_be_short(w, "madvise");
}

static void do_mlock(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;
    enum quire_status st;

    range(op, &first, &n);
    if (!n)
        return;
    if (op->kind == SIM_OP_munlock) {
        st = quire_munlock(w->now->s, Q_UVA(va_of(w, first)), n * PAGE);
        for (unsigned i = first; i < first + n && st == QUIRE_OK; i++)
            w->now->pages[i].locked = false;
        return;
    }
    st = quire_mlock(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, false);
    for (unsigned i = first; i < first + n; i++)
        w->now->pages[i].locked = true;
    if (st == QUIRE_OK && !uncertain(w)) {
        populated(w, first, n);
        return;
    }
    for (unsigned i = first; i < first + n; i++)
        if (is_private_file(&w->now->pages[i]))
            clear_for_sure(w, i, 1);
}

/* ---- Access ---- */

/* Another worker of the group, by chance; NULL: there is none. */
static const struct worker *neighbour(struct worker *w)
{
    unsigned n = 1 + w->group * WORKERS_A_GROUP + (unsigned)(worker_random(w) % WORKERS_A_GROUP);

    return n <= world.nworkers && n != w->number ? &world.workers[n] : NULL;
}

/* What hardware does by itself: translate an address that nobody asked for. */
static void speculate(struct worker *w)
{
    unsigned once_in = w->program->switches.speculate;
    const struct worker *o;

    if (once_in && sim_one_in(SIM_RANDOM_TLB, once_in) && (o = neighbour(w)))
        mmu_speculate(sim_cpu(), va_of(o, sim_one_in(SIM_RANDOM_TLB, 2)
                                              ? o->last_page
                                              : (unsigned)sim_below(SIM_RANDOM_TLB, world.region)));
}

static enum quire_status reach(struct worker *w, uint64_t va, enum sim_access kind, uint64_t *value)
{
    for (unsigned tries = 0; tries < 2000; tries++) {
        enum quire_status st;

        speculate(w);
        if (sim_access(va, kind, true, value))
            return QUIRE_OK;
        st = quire_fault(w->now->s, Q_UVA(va), kind == SIM_ACCESS_WRITE ? QUIRE_WRITE : QUIRE_READ);
        if (st != QUIRE_OK)
            return st;
    }
    sim_fail("no-progress", "an access at %#llx faults again and again", (unsigned long long)va);
}

/* What the access must answer, but for what fails by itself. */
static enum quire_status expected(struct worker *w, const struct mpage *p, unsigned right)
{
    if (p->backing == NOTHING)
        return QUIRE_SEGV_MAPERR;
    if (!(p->prot & right))
        return QUIRE_SEGV_ACCERR;
    return beyond(w, p) ? QUIRE_BUS_ADRERR : QUIRE_OK;
}

/* True: the access was done; false: it failed, as it may. */
static bool judge(struct worker *w, unsigned page, enum quire_status st, enum quire_status want,
                  const char *what)
{
    const struct mpage *p = &w->now->pages[page];

    if (st == want)
        return st == QUIRE_OK;
    if (st == QUIRE_NO_MEMORY) {
        must_be_short(w, what);
        return false;
    }
    if (st == QUIRE_IO && has_object(p) && world.io_failures != w->io_started)
        return false;
    wrong(w, what, page, st, quire_status_name(want));
}

static void wrote(struct worker *w, unsigned page, unsigned which, uint64_t value)
{
    struct mpage *p = &w->now->pages[page];

    if (is_private_file(p) && !p->own) {
        memcpy(p->word, file_words(file_of(w, p), p->index, w), sizeof p->word);
        p->own = true;
    }
    words_of(w, p)[which] = value;
}

/* Look into the region of a neighbour, who goes on meanwhile: whatever is there, it is something
 * that he has written, or nothing. */
static void peek_at(struct worker *w, const struct worker *o, unsigned page);
static void do_peek(struct worker *w, unsigned page)
{
    const struct worker *o = neighbour(w);

    if (o) /* every other time where it works now */
        peek_at(w, o, worker_random(w) & 1 ? o->last_page : page);
}

static void peek_at(struct worker *w, const struct worker *o, unsigned page)
{
    unsigned which = (unsigned)worker_random(w) & 1;
    enum quire_status st;
    uint64_t got, va;

    va = va_of(o, page) + word_offset(o->number, which);
    st = reach(w, va, SIM_ACCESS_READ, &got);
    if (st == QUIRE_OK && got && !value_of(got, o) && got >> 48 != 0x1111)
        sim_fail("content", "page %u of task %u reads %#llx, which it never wrote", page, o->number,
                 (unsigned long long)got);
    if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "peek");
}

static void do_write(struct worker *w, unsigned page)
{
    unsigned which = (unsigned)worker_random(w) & 1;
    uint64_t value = worker_value(w), sent = value;
    uint64_t va = va_of(w, page) + word_offset(w->number, which);
    enum quire_status want = expected(w, &w->now->pages[page], QUIRE_WRITE);

    if (judge(w, page, reach(w, va, SIM_ACCESS_WRITE, &sent), want, "write"))
        wrote(w, page, which, value);
}

static void compare(struct worker *w, unsigned page, unsigned which, uint64_t got, const char *how)
{
    struct mpage *p = &w->now->pages[page];
    uint64_t *word = &words_of(w, p)[which];

    if (got == *word)
        return;
    if (p->maybe && !got) {
        *word = 0;
        return;
    }
    sim_note("page %u at %#llx: backing %u rights %u own %u index %u file %u", page,
             (unsigned long long)va_of(w, page), p->backing, p->prot, p->own, p->index, p->file);
    sim_fail("content", "%s of page %u, word %u: %#llx, where %#llx was written", how, page, which,
             (unsigned long long)got, (unsigned long long)*word);
}

static void do_read(struct worker *w, unsigned page)
{
    enum quire_status want = expected(w, &w->now->pages[page], QUIRE_READ);

    for (unsigned which = 0; which < 2; which++) {
        uint64_t got, va = va_of(w, page) + word_offset(w->number, which);

        if (judge(w, page, reach(w, va, SIM_ACCESS_READ, &got), want, "read"))
            compare(w, page, which, got, "read");
    }
}

static void do_copy(struct worker *w, const struct sim_op *op)
{
    unsigned page = op->arg[0] * world.scale % world.region, which = (unsigned)worker_random(w) & 1;
    uint64_t va = va_of(w, page) + word_offset(w->number, which), value = worker_value(w);
    const struct mpage *p = &w->now->pages[page];
    size_t done;

    if (op->kind == SIM_OP_copy_in) {
        enum quire_status st =
            quire_space_write(w->now->s, Q_UVA(va), &value, sizeof value, false, &done);

        if (judge(w, page, st, expected(w, p, QUIRE_WRITE), "copy in"))
            wrote(w, page, which, value);
    } else {
        enum quire_status st =
            quire_space_read(w->now->s, Q_UVA(va), &value, sizeof value, false, &done);

        if (judge(w, page, st, expected(w, p, QUIRE_READ), "copy out"))
            compare(w, page, which, value, "copy out");
    }
}

/* Look at one page of o, as do_peek() does. */
static void peek_at(struct worker *w, const struct worker *o, unsigned page);

/*
 * Two neighbours meet, so that what they do next falls together: one works on a page, the other looks
 * at it all the while.  Who finds nobody waits a little.
 */
static const struct {
    struct sim_op op[6];
    unsigned n;
    bool pokes; /* the neighbour may write too, into words of its own */
} duels[] = {
#define PAGE_HERE 0
    /* the first touch of a page */
    {{{SIM_OP_mmap, {PAGE_HERE, 1, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_madvise, {PAGE_HERE, 1, DONTNEED}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}}},
     5,
     true},
    /* a copy on write, and the end of the page that it was copied from */
    {{{SIM_OP_mmap, {PAGE_HERE, 1, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_fork, {0}},
      {SIM_OP_read, {PAGE_HERE}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_end, {0}}},
     6,
     true},
    /* a mapping that goes and comes */
    {{{SIM_OP_mmap, {PAGE_HERE, 2, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_munmap, {PAGE_HERE, 2}},
      {SIM_OP_mmap, {PAGE_HERE, 2, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}}},
     5,
     true},
    /* so much that the whole space is flushed */
    {{{SIM_OP_mmap, {PAGE_HERE, 60, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_munmap, {PAGE_HERE, 60}},
      {SIM_OP_mmap, {PAGE_HERE, 60, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_munmap, {PAGE_HERE, 60}}},
     6,
     true},
    /* rights that go and come */
    {{{SIM_OP_mmap, {PAGE_HERE, 3, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_mprotect, {PAGE_HERE, 3, 3}},
      {SIM_OP_mprotect, {PAGE_HERE, 3, 0}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}}},
     6,
     true},
    /* a file that gets shorter and longer under its mapping */
    {{{SIM_OP_mmap, {PAGE_HERE, 8, 0, 2, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_truncate, {0}},
      {SIM_OP_truncate, {OBJECT_PAGES}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}}},
     6,
     false},
    /* a private page of a file */
    {{{SIM_OP_mmap, {PAGE_HERE, 4, 0, 3, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_madvise, {PAGE_HERE, 4, DONTNEED}},
      {SIM_OP_read, {PAGE_HERE}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}}},
     6,
     false},
    /* pages that move away */
    {{{SIM_OP_mmap, {PAGE_HERE, 4, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_mremap, {PAGE_HERE, 4, 380}},
      {SIM_OP_mmap, {PAGE_HERE, 4, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}}},
     5,
     true},
};

static void fight(struct worker *w, uint32_t at, unsigned kind)
{
    for (unsigned i = 0; i < duels[kind].n; i++) {
        struct sim_op op = duels[kind].op[i];

        if (op.kind != SIM_OP_fork && op.kind != SIM_OP_end && op.kind != SIM_OP_truncate)
            op.arg[0] = at;
        do_space_op(w, &op);
        w->last_page = at * world.scale % world.region;
        /* in anonymous memory nobody's word but the writer's changes */
        if (!i)
            w->duel_pokes = duels[kind].pokes && w->now->pages[w->last_page].backing == ANON;
    }
    w->duel_pokes = false;
}

/* Write a word of ours into a page of o, who does not look at it. */
static void poke_at(struct worker *w, const struct worker *o, unsigned page)
{
    uint64_t value = worker_value(w);

    if (reach(w, va_of(o, page) + word_offset(w->number, 0), SIM_ACCESS_WRITE, &value) ==
        QUIRE_NO_MEMORY)
        must_be_short(w, "poke");
}

static void do_duel(struct worker *w, uint32_t at, unsigned kind)
{
    unsigned first = 1 + w->group * WORKERS_A_GROUP;

    if (w->now != &w->home)
        return;
    for (unsigned n = first; n < first + WORKERS_A_GROUP && n <= world.nworkers; n++) {
        struct worker *o = &world.workers[n];

        if (o == w || !o->duel_waits)
            continue;
        o->duel_waits = false;
        o->duel_on = true;
        for (unsigned i = 0; i < 12; i++)
            if (i % 3 == 1 && o->duel_pokes)
                poke_at(w, o, o->last_page);
            else
                peek_at(w, o, o->last_page);
        o->duel_on = false;
        return;
    }
    w->duel_waits = true;
    for (unsigned i = 0; i < 20 && w->duel_waits; i++)
        sim_sleep(3000);
    world.fighter = w;
    if (!w->duel_waits)
        fight(w, at, kind % (sizeof duels / sizeof duels[0]));
    w->duel_waits = false;
    while (w->duel_on) /* what the neighbour writes must not hit what comes next */
        sim_sleep(500);
}

static void do_fill(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;

    range(op, &first, &n);
    for (unsigned i = first; i < first + n && i < first + 120; i++)
        do_write(w, i);
}

static void do_sweep(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;

    range(op, &first, &n);
    for (unsigned i = first; i < first + n && i < first + 40; i++)
        do_read(w, i);
}

/* ---- Views ---- */

struct view {
    struct worker *w;
    unsigned next; /* first page not yet seen */
};

static void must_be_hole(struct worker *w, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        if (w->now->pages[i].backing != NOTHING)
            wrong(w, "query", i, QUIRE_NOT_FOUND, "a mapping");
}

static bool see_vma(void *ctx, const struct quire_vma_info *v)
{
    struct view *view = ctx;
    struct worker *w = view->w;
    uint64_t base = va_of(w, 0), end = va_of(w, world.region);
    unsigned first, last;

    if (v->end.v <= base || v->start.v >= end)
        return true;
    first = v->start.v <= base ? 0 : (unsigned)((v->start.v - base) / PAGE);
    last = v->end.v >= end ? world.region : (unsigned)((v->end.v - base) / PAGE);
    must_be_hole(w, view->next, first);
    for (unsigned i = first; i < last; i++) {
        const struct mpage *p = &w->now->pages[i];

        if (p->backing == NOTHING || p->prot != v->prot ||
            v->object != (has_object(p) ? file_of(w, p)->o : NULL))
            wrong(w, "query", i, QUIRE_OK, "other rights or another object");
    }
    view->next = last;
    return true;
}

static void do_query(struct worker *w)
{
    struct view view = {w, 0};

    quire_space_vmas(w->now->s, false, see_vma, &view);
    must_be_hole(w, view.next, world.region);
}

/* The word of a page below the break must be what was written there, or zero in a new page. */
static void check_brk_page(struct worker *w, uint64_t page)
{
    uint64_t got;
    enum quire_status st = reach(w, BREAK + page * PAGE, SIM_ACCESS_READ, &got);

    if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "memory of brk");
    else if (st != QUIRE_OK)
        sim_fail("status", "page %llu below the break: %s", (unsigned long long)page,
                 quire_status_name(st));
    else if (got != w->now->brk_words[page])
        sim_fail("content", "page %llu below the break reads %#llx, where %#llx was written",
                 (unsigned long long)page, (unsigned long long)got,
                 (unsigned long long)w->now->brk_words[page]);
}

/* The break moves only in spaces that a worker has alone, and not always to the end of a page. */
static void do_brk(struct worker *w, unsigned pages)
{
    static const unsigned odd[] = {0, 0, 8, 2048, 4088};
    struct mspace *m = w->now;
    uint64_t bytes = pages * PAGE + odd[worker_random(w) % 5], value = worker_value(w), got;
    uint64_t before = (m->brk_bytes + PAGE - 1) / PAGE, last = (bytes + PAGE - 1) / PAGE;

    if (!m->alone)
        return;
    if (!m->brk_words)
        m->brk_words = calloc(SIM_REGION_PAGES + 2, sizeof *m->brk_words);
    got = quire_brk(m->s, Q_UVA(BREAK + bytes)).v;
    if (got != BREAK + bytes) {
        must_be_short(w, "brk");
        return;
    }
    m->brk_bytes = bytes;
    for (uint64_t i = last; i < before; i++)
        m->brk_words[i] = 0;
    if (last)
        check_brk_page(w, last - 1);
    if (last > before)
        check_brk_page(w, before);
    if (last < before && reach(w, BREAK + last * PAGE, SIM_ACCESS_READ, &got) != QUIRE_SEGV_MAPERR)
        sim_fail("status", "memory beyond the break can be read");
    if (last && reach(w, BREAK + (last - 1) * PAGE, SIM_ACCESS_WRITE, &value) == QUIRE_OK)
        m->brk_words[last - 1] = value;
}

static void do_mincore(struct worker *w, const struct sim_op *op)
{
    uint8_t resident[SIM_REGION_PAGES * 3];
    unsigned first, n;
    enum quire_status st;

    range(op, &first, &n);
    if (!n)
        return;
    st = quire_mincore(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, resident);
    if (st != (any(w, first, n, is_hole) ? QUIRE_NO_MEMORY : QUIRE_OK))
        wrong(w, "mincore", first, st, any(w, first, n, is_hole) ? "NO_MEMORY" : "OK");
    for (unsigned i = 0; st == QUIRE_OK && i < n; i++) {
        const struct mpage *p = &w->now->pages[first + i];

        if (!(resident[i] & 1) && p->own && !p->maybe && (p->word[0] || p->word[1]))
            wrong(w, "mincore", first + i, st, "a page with content");
    }
}

/* The page, held as a device holds it. */
static void do_pin(struct worker *w, unsigned page)
{
    enum quire_status want = expected(w, &w->now->pages[page], QUIRE_READ);
    struct quire_page *got;
    uint64_t value;

    if (!judge(w, page, quire_space_page(w->now->s, Q_UVA(va_of(w, page)), QUIRE_READ, &got), want,
               "pin"))
        return;
    sim_point(SIM_POINT_ACCESS, NULL);
    memcpy(&value, (char *)quire_page_ptr(got) + word_offset(w->number, 0), 8);
    compare(w, page, 0, value, "pin");
    quire_page_put(got);
}

/* Equal keys for equal memory, and only for that. */
static void do_futex_key(struct worker *w, unsigned page)
{
    struct quire_futex_key a, b, next;
    uint64_t va = va_of(w, page);
    const struct mpage *p = &w->now->pages[page];
    enum quire_status st[3];

    if (p->backing == NOTHING || beyond(w, p))
        return;
    st[0] = quire_space_futex_key(w->now->s, Q_UVA(va), false, &a);
    st[1] = quire_space_futex_key(w->now->s, Q_UVA(va), false, &b);
    st[2] = quire_space_futex_key(w->now->s, Q_UVA(va + 4), false, &next);
    if (st[0] == QUIRE_OK && st[1] == QUIRE_OK && (a.a != b.a || a.b != b.b))
        wrong(w, "futex key", page, st[0], "the same key twice");
    if (st[0] == QUIRE_OK && st[2] == QUIRE_OK && a.a == next.a && a.b == next.b)
        wrong(w, "futex key", page, st[0], "another key for another word");
    if (st[0] == QUIRE_OK && a.object)
        quire_object_put(a.object);
    if (st[1] == QUIRE_OK && b.object)
        quire_object_put(b.object);
    if (st[2] == QUIRE_OK && next.object)
        quire_object_put(next.object);
}

/* ---- Files ---- */

static void do_msync(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;
    enum quire_status st;

    range(op, &first, &n);
    st = quire_msync(w->now->s, Q_UVA(va_of(w, first)), n * PAGE, QUIRE_MS_SYNC);
    if (st == QUIRE_IO && world.io_failures != w->io_started)
        return;
    if (n && st != (any(w, first, n, is_hole) ? QUIRE_NO_MEMORY : QUIRE_OK))
        wrong(w, "msync", first, st, any(w, first, n, is_hole) ? "NO_MEMORY" : "OK");
    for (unsigned i = first; st == QUIRE_OK && i < first + n; i++) {
        const struct mpage *p = &w->now->pages[i];

        if (p->backing == FILE_SHARED && !beyond(w, p))
            file_on_device(w, file_of(w, p), p->index);
    }
}

/* ---- Fork ---- */

static void do_fork(struct worker *w, struct mspace *child)
{
    enum quire_status st;

    if (child->s)
        return;
    st = quire_space_fork(w->now->s, &child->s);
    if (st != QUIRE_OK) {
        child->s = NULL;
        if (st != QUIRE_NO_MEMORY)
            sim_fail("status", "fork: %s", quire_status_name(st));
        must_be_short(w, "fork");
        return;
    }
    child->alone = true;
    child->brk_bytes = w->now->brk_bytes;
    if (w->now->brk_words) {
        size_t n = (SIM_REGION_PAGES + 2) * sizeof *child->brk_words;

        child->brk_words = malloc(n);
        memcpy(child->brk_words, w->now->brk_words, n);
    }
    child->pages = malloc(world.region * sizeof *child->pages);
    memcpy(child->pages, w->now->pages, world.region * sizeof *child->pages);
    for (unsigned i = 0; i < world.region; i++)
        child->pages[i].locked = false; /* memory locks are not inherited: fork(2) */
}

/* What a child got from workers that went on meanwhile is not known, but it is what one of them wrote
 * at some time, or nothing. */
static void check_strangers(struct worker *w, const struct mspace *child)
{
    for (unsigned i = 1; i <= world.nworkers; i++) {
        const struct worker *o = &world.workers[i];

        for (unsigned k = 0; o->group == w->group && o != w && k < 8; k++) {
            uint64_t va = va_of(o, (unsigned)(worker_random(w) % world.region)), got;
            size_t done;

            if (quire_space_read(child->s, Q_UVA(va + word_offset(i, k & 1)), &got, 8, false,
                                 &done) != QUIRE_OK)
                continue;
            if (got && !value_of(got, o) && got >> 48 != 0x1111)
                sim_fail("content", "a child reads %#llx at %#llx, which task %u never wrote",
                         (unsigned long long)got, (unsigned long long)va, i);
        }
    }
}

static void end_child(struct worker *w, struct mspace *child)
{
    if (!child->s || w->now == child)
        return;
    check_strangers(w, child);
    quire_space_put(child->s);
    free(child->pages);
    free(child->brk_words);
    *child = (struct mspace){0};
}

/* exec(2) begins like this. */
static void do_clear(struct worker *w)
{
    if (!w->now->alone || w->now == &w->home)
        return;
    quire_space_clear(w->now->s);
    memset(w->now->pages, 0, world.region * sizeof w->now->pages[0]);
    w->now->brk_bytes = 0;
    free(w->now->brk_words);
    w->now->brk_words = NULL;
    quire_brk_init(w->now->s, Q_UVA(BREAK));
}

static void enter(struct worker *w, struct mspace *m)
{
    if (!m->s)
        return;
    w->now = m;
    sim_use_space(m->s);
}

/* ---- Operations ---- */

static bool do_family_op(struct worker *w, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_OP_fork: do_fork(w, &w->child[op->arg[0] % SIM_CHILDREN]); return true;
    case SIM_OP_enter: enter(w, &w->child[op->arg[0] % SIM_CHILDREN]); return true;
    case SIM_OP_leave: enter(w, &w->home); return true;
    case SIM_OP_end: end_child(w, &w->child[op->arg[0] % SIM_CHILDREN]); return true;
    case SIM_OP_clear: do_clear(w); return true;
    case SIM_OP_msync: do_msync(w, op); return true;
    case SIM_OP_file_read:
    case SIM_OP_file_write:
        file_copy(w,
                  op->arg[0] & 1   ? w->file
                  : op->arg[0] & 2 ? &world.common
                                   : &world.shared,
                  op->arg[0] % OBJECT_PAGES, op->kind == SIM_OP_file_write);
        return true;
    case SIM_OP_truncate: file_truncate(w, w->file, op->arg[0] % (OBJECT_PAGES + 1)); return true;
    case SIM_OP_punch: file_punch(w, w->file, op->arg[0] % OBJECT_PAGES, op->arg[1]); return true;
    default: return false;
    }
}

bool do_space_op(struct worker *w, const struct sim_op *op)
{
    unsigned page = op->arg[0] * world.scale % world.region;

    if (sim_op_info[op->kind].arg_kinds[0] == SIM_ARG_PAGE)
        w->last_page = page;
    switch (op->kind) {
    case SIM_OP_mmap: do_mmap(w, op); return true;
    case SIM_OP_munmap: do_munmap(w, op); return true;
    case SIM_OP_mprotect: do_mprotect(w, op); return true;
    case SIM_OP_mremap: do_mremap(w, op); return true;
    case SIM_OP_madvise: do_madvise(w, op); return true;
    case SIM_OP_huge: do_huge(w); return true;
    case SIM_OP_mlock:
    case SIM_OP_munlock: do_mlock(w, op); return true;
    case SIM_OP_write: do_write(w, page); return true;
    case SIM_OP_read: do_read(w, page); return true;
    case SIM_OP_peek: do_peek(w, page); return true;
    case SIM_OP_sweep: do_sweep(w, op); return true;
    case SIM_OP_fill: do_fill(w, op); return true;
    case SIM_OP_duel: do_duel(w, op->arg[0], op->arg[1]); return true;
    case SIM_OP_copy_in:
    case SIM_OP_copy_out: do_copy(w, op); return true;
    case SIM_OP_brk: do_brk(w, op->arg[0]); return true;
    case SIM_OP_query: do_query(w); return true;
    case SIM_OP_mincore: do_mincore(w, op); return true;
    case SIM_OP_pin: do_pin(w, page); return true;
    case SIM_OP_futex_key: do_futex_key(w, page); return true;
    default: return do_family_op(w, op);
    }
}

/* ---- Start and end ---- */

void space_setup(struct worker *w)
{
    const struct quire_space_config config = {.start = Q_UVA(0x10000),
                                              .end = Q_UVA(0x7ffffffff000),
                                              .kernel_half = Q_KVA(0xffff800000000000),
                                              .limit_as = ~0ull,
                                              .limit_data = ~0ull,
                                              .limit_stack = 8 << 20,
                                              .limit_memlock = ~0ull};
    struct quire_space **group = &world.groups[w->group];

    if (!*group) {
        if (quire_space_create(&config, group) != QUIRE_OK)
            sim_fail("boot", "no memory for a space");
        quire_brk_init(*group, Q_UVA(BREAK));
    }
    w->home_pages = calloc(world.region, sizeof *w->home_pages);
    w->home = (struct mspace){.s = *group, .pages = w->home_pages};
    w->home.alone = world.nworkers == 1;
    w->now = &w->home;
}

/* Everything that the model knows of, also what the program may not read. */
static void check_whole(struct worker *w, struct mspace *m)
{
    enum quire_status st;

    sim_doing("the last look at a space");
    st = quire_space_verify(m->s);

    if (st != QUIRE_OK)
        sim_fail("verify", "space: %s", sim_last_error());
    w->now = m;
    do_query(w);
    for (unsigned i = 0; i < world.region; i++) {
        struct mpage *p = &m->pages[i];

        for (unsigned k = 0; p->backing != NOTHING && k < 2; k++) {
            uint64_t got, va = va_of(w, i) + word_offset(w->number, k);
            size_t done;

            st = quire_space_read(m->s, Q_UVA(va), &got, sizeof got, true, &done);
            if (st == QUIRE_NO_MEMORY && may_be_short(w))
                continue;
            if (st != (beyond(w, p) ? QUIRE_BUS_ADRERR : QUIRE_OK))
                wrong(w, "last read", i, st, beyond(w, p) ? "BUS_ADRERR" : "OK");
            if (st == QUIRE_OK)
                compare(w, i, k, got, "last read");
        }
    }
}

void space_check_all(struct worker *w)
{
    check_whole(w, &w->home);
    for (unsigned k = 0; k < SIM_CHILDREN; k++)
        if (w->child[k].s)
            check_whole(w, &w->child[k]);
    w->now = &w->home;
}

void space_teardown(struct worker *w)
{
    for (unsigned k = 0; k < SIM_CHILDREN; k++)
        end_child(w, &w->child[k]);
    free(w->home_pages);
    free(w->home.brk_words);
}

/* What a CPU translates by itself, at any time: what some task works on. */
void space_speculate(void)
{
    const struct worker *o = &world.workers[1 + sim_below(SIM_RANDOM_TLB, world.nworkers)];

    if (world.fighter && sim_one_in(SIM_RANDOM_TLB, 2))
        o = world.fighter;
    mmu_speculate((unsigned)sim_below(SIM_RANDOM_TLB, sim_cpus()), va_of(o, o->last_page));
}
