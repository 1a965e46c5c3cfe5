/*
 * guards.c - pages that are closed to all CPUs without waiting (quire_pt_guard), as sampled objects are.
 *
 * All tasks share a few pages at addresses of their own.  One closes a page or opens it while nobody looks at it; all look at any.
 * What is open reads as it was written; what is closed and settled no CPU reads, whichever has it in its
 * TLB; in between either may be.  At the end each closing settles, once all CPUs have taken their interrupts.
 */
#include "held.h"

enum { GUARDED_ORDER = 2, GUARDED = 1 << GUARDED_ORDER, SETTLES_NS = 1000, SETTLE_TRIES = 10000 };

static struct guarded {
    enum { OPEN, CHANGING, CLOSED } state;
    unsigned users;  /* look at it now */
    uint64_t number; /* of its closing */
    uint64_t word;
} guards[GUARDED];
static struct quire_page *pages;

static uint64_t place(unsigned i) { return SIM_GUARDS_START + i * PAGE; }

void guards_setup(void)
{
    pages = quire_page_alloc(GUARDED_ORDER, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    if (!pages || quire_pt_kernel_map(place(0), quire_pa_of_page(pages), GUARDED * PAGE,
                                      QUIRE_READ | QUIRE_WRITE, QUIRE_PAGE_SHIFT) != QUIRE_OK)
        sim_fail("boot", "no memory for guarded pages");
    for (unsigned i = 0; i < GUARDED; i++) {
        guards[i] = (struct guarded){.word = 0x600d000 + i};
        if (!sim_access(place(i), SIM_ACCESS_WRITE, false, &guards[i].word))
            sim_fail("content", "guarded page %u is not mapped", i);
    }
}

static void change(unsigned i)
{
    bool close = guards[i].state == OPEN;
    uint64_t number;

    guards[i].state = CHANGING;
    number = quire_pt_guard(sim_kernel_root(), place(i), close);
    if (!close && number)
        sim_fail("status", "opening a page is no matter of other CPUs, but has number %llu",
                 (unsigned long long)number);
    guards[i].number = number;
    guards[i].state = close ? CLOSED : OPEN;
}

static void look(unsigned i)
{
    bool open = guards[i].state == OPEN, got;
    bool closed = guards[i].state == CLOSED && quire_pt_guard_settled(guards[i].number);
    uint64_t word = 0;

    got = sim_access(place(i), SIM_ACCESS_READ, false, &word);
    if (got ? closed : open)
        sim_fail("content", "a page that is %s to all CPUs is%s read (closing %llu)",
                 closed ? "closed" : "open", got ? "" : " not",
                 (unsigned long long)guards[i].number);
    if (got && word != guards[i].word)
        sim_fail("content", "guarded page %u reads %#llx", i, (unsigned long long)word);
}

void guards_op(unsigned at)
{
    unsigned i = at % GUARDED;
    struct guarded *g = &guards[i];

    if (g->state == CHANGING)
        return;
    if (at / GUARDED % 3 == 0 && !g->users) {
        change(i);
        return;
    }
    g->users++;
    look(i);
    g->users--;
}

void guards_teardown(void)
{
    for (unsigned i = 0; i < GUARDED; i++) {
        for (unsigned n = 0; guards[i].state == CLOSED && !quire_pt_guard_settled(guards[i].number);
             n++) {
            if (n == SETTLE_TRIES)
                sim_fail("hang", "closing %llu does not settle",
                         (unsigned long long)guards[i].number);
            sim_sleep(SETTLES_NS);
        }
        look(i);
        if (guards[i].state == CLOSED)
            change(i);
        look(i);
    }
    quire_pt_kernel_unmap(place(0), GUARDED * PAGE);
    quire_page_free(pages, GUARDED_ORDER);
}
