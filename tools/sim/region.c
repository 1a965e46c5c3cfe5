/*
 * region.c - the model of a worker's region, and accesses through the MMU that are compared with it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../ports/sim/mmu.h"
#include "region.h"

struct file *page_file(struct worker *w, const struct mpage *p)
{
    if (p->backing == SHARED || p->backing == SHARED_PRIVATE)
        return &world.shared;
    return p->file ? w->file : &world.common;
}

bool page_beyond(struct worker *w, const struct mpage *p)
{
    return page_has_object(p) && p->index >= page_file(w, p)->size;
}

/* The words that a read of the page gives; of a page that is not beyond its object. */
uint64_t *page_words(struct worker *w, struct mpage *p)
{
    return page_has_object(p) && !p->own ? file_words(page_file(w, p), p->index, w) : p->word;
}

void region_range(const struct sim_op *op, unsigned *first, unsigned *n)
{
    *first = op->arg[0] * world.scale % world.region;
    *n = op->arg[1] * world.scale;
    if (*n > world.region - *first)
        *n = world.region - *first;
}

_Noreturn void region_wrong(struct worker *w, const char *what, unsigned page,
                            enum quire_status got, const char *expected)
{
    const struct mpage *p = &w->now->pages[page];

    sim_note("page %u at %#llx: backing %u rights %u own %u index %u file %u", page,
             (unsigned long long)region_va(w, page), p->backing, p->prot, p->own, p->index,
             p->file);
    sim_fail("status", "%s of page %u: %s, where the model has %s", what, page,
             quire_status_name(got), expected);
}

/* Make certain what is mapped: nothing. */
void region_clear(struct worker *w, unsigned first, unsigned n)
{
    enum quire_status st = quire_munmap(w->now->s, Q_UVA(region_va(w, first)), n * PAGE);

    if (st == QUIRE_OK)
        memset(&w->now->pages[first], 0, n * sizeof w->now->pages[0]);
    else if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "munmap");
    else
        region_wrong(w, "munmap", first, st, "OK");
}

bool region_any(const struct worker *w, unsigned first, unsigned n,
                bool (*is)(const struct mpage *))
{
    for (unsigned i = first; i < first + n; i++)
        if (is(&w->now->pages[i]))
            return true;
    return false;
}

/* What must be gone for certain before anything else is done with it: region_clear() can fail. */
void region_clear_for_sure(struct worker *w, unsigned first, unsigned n)
{
    for (unsigned tries = 0; region_any(w, first, n, page_is_mapped); tries++) {
        region_clear(w, first, n);
        if (tries > 5000)
            sim_fail("no-progress", "munmap has failed %u times", tries);
        if (region_any(w, first, n, page_is_mapped)) {
            memory_unhog(w); /* whoever waits for memory gives what he holds himself */
            sim_sleep(20000);
        }
    }
}

/* Whether the operation may have been cut short. */
bool region_uncertain(const struct worker *w)
{
    return may_be_short(w) || world.io_failures != w->io_started;
}

/* ---- Access ---- */

/* Another worker of the group, by chance; NULL: there is none. */
const struct worker *region_neighbour(struct worker *w)
{
    unsigned n = 1 + w->group * WORKERS_A_GROUP + (unsigned)(worker_random(w) % WORKERS_A_GROUP);

    return n <= world.nworkers && n != w->number ? &world.workers[n] : NULL;
}

/* What hardware does by itself: translate an address that nobody asked for. */
static void speculate(struct worker *w)
{
    unsigned once_in = w->program->switches.speculate;
    const struct worker *o;

    if (once_in && sim_one_in(SIM_RANDOM_TLB, once_in) && (o = region_neighbour(w)))
        mmu_speculate(sim_cpu(),
                      region_va(o, sim_one_in(SIM_RANDOM_TLB, 2)
                                       ? o->last_page
                                       : (unsigned)sim_below(SIM_RANDOM_TLB, world.region)));
}

enum quire_status region_reach(struct worker *w, uint64_t va, enum sim_access kind, uint64_t *value)
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
enum quire_status page_expected(struct worker *w, const struct mpage *p, unsigned right)
{
    if (p->backing == NOTHING)
        return QUIRE_SEGV_MAPERR;
    if (!(p->prot & right))
        return QUIRE_SEGV_ACCERR;
    return page_beyond(w, p) ? QUIRE_BUS_ADRERR : QUIRE_OK;
}

/* True: the access was done; false: it failed, as it may. */
bool region_judge(struct worker *w, unsigned page, enum quire_status st, enum quire_status want,
                  const char *what)
{
    const struct mpage *p = &w->now->pages[page];

    if (st == want)
        return st == QUIRE_OK;
    if (st == QUIRE_NO_MEMORY) {
        must_be_short(w, what);
        return false;
    }
    if (st == QUIRE_IO && page_has_object(p) && world.io_failures != w->io_started)
        return false;
    region_wrong(w, what, page, st, quire_status_name(want));
}

void region_own(struct worker *w, unsigned page)
{
    struct mpage *p = &w->now->pages[page];

    if (page_is_private_file(p) && !p->own) {
        memcpy(p->word, file_words(page_file(w, p), p->index, w), sizeof p->word);
        p->own = true;
    }
}

void region_wrote(struct worker *w, unsigned page, unsigned which, uint64_t value)
{
    region_own(w, page);
    page_words(w, &w->now->pages[page])[which] = value;
}

void region_compare(struct worker *w, unsigned page, unsigned which, uint64_t got, const char *how)
{
    struct mpage *p = &w->now->pages[page];
    uint64_t *word = &page_words(w, p)[which];

    if (got == *word)
        return;
    if (p->maybe && !got) {
        *word = 0;
        return;
    }
    sim_note("page %u at %#llx: backing %u rights %u own %u index %u file %u", page,
             (unsigned long long)region_va(w, page), p->backing, p->prot, p->own, p->index,
             p->file);
    sim_fail("content", "%s of page %u, word %u: %#llx, where %#llx was written", how, page, which,
             (unsigned long long)got, (unsigned long long)*word);
}

void region_peek(struct worker *w, const struct worker *o, unsigned page)
{
    unsigned which = (unsigned)worker_random(w) & 1;
    enum quire_status st;
    uint64_t got, va;

    va = region_va(o, page) + word_offset(o->number, which);
    st = region_reach(w, va, SIM_ACCESS_READ, &got);
    if (st == QUIRE_OK && got && !value_of(got, o) && got >> 48 != 0x1111)
        sim_fail("content", "page %u of task %u reads %#llx, which it never wrote", page, o->number,
                 (unsigned long long)got);
    if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "peek");
}
