/*
 * hold.c - a device that keeps a page of a program for long, and reads or writes it now and then.
 *
 * Meanwhile the program goes on: it takes rights away and gives them back, forks, moves the mapping, cuts
 * huge pages, and so do its neighbours.  Whatever they do, as long as the program has the page at all,
 * what it writes is what the device reads, and what the device writes is what it reads.  A page that it has
 * given up is still the device's.
 */
#include <string.h>

#include "../../ports/sim/monitor.h"
#include "region.h"

/* Which page of the model it is; world.region: none any more. */
static unsigned held_page(const struct hold *h)
{
    unsigned i = 0;

    while (h->m && i < world.region && !h->m->pages[i].held)
        i++;
    return h->m ? i : world.region;
}

void hold_end(struct worker *w)
{
    unsigned page = held_page(&w->hold);

    if (page < world.region)
        w->hold.m->pages[page].held = false;
    if (w->hold.page)
        quire_page_put(w->hold.page);
    w->hold = (struct hold){0};
}

void hold_outlives(struct worker *w, const struct mspace *m)
{
    if (w->hold.m == m)
        w->hold.m = NULL;
}

static char *device_word(const struct worker *w, unsigned which)
{
    return (char *)quire_page_ptr(w->hold.page) + word_offset(w->number, which);
}

void hold_check(struct worker *w)
{
    unsigned page = held_page(&w->hold);

    for (unsigned which = 0; page < world.region && which < 2; which++) {
        uint64_t got, want = w->hold.m->pages[page].word[which];

        memcpy(&got, device_word(w, which), sizeof got);
        if (got != want)
            sim_fail("content",
                     "a device finds %#llx in word %u of page %u, where %#llx was written",
                     (unsigned long long)got, which, page, (unsigned long long)want);
    }
}

static void device_writes(struct worker *w)
{
    unsigned page = held_page(&w->hold), which = (unsigned)worker_random(w) & 1;
    uint64_t value = worker_value(w);

    memcpy(device_word(w, which), &value, sizeof value);
    monitor_hw_write(device_word(w, which), sizeof value);
    if (page < world.region)
        w->hold.m->pages[page].word[which] = value;
}

static void do_hold(struct worker *w, unsigned page)
{
    bool writes = worker_random(w) & 1;
    unsigned right = writes ? QUIRE_WRITE : QUIRE_READ;
    struct mpage *p = &w->now->pages[page];
    struct quire_page *got;

    hold_end(w);
    if (!region_judge(w, page, quire_space_page(w->now->s, Q_UVA(region_va(w, page)), right, &got),
                      page_expected(w, p, right), "hold"))
        return;
    /* what is not the program's own is the zero page, or the file's */
    if (!(quire_page_flags_now(got) & QUIRE_PG_ANON)) {
        quire_page_put(got);
        return;
    }
    w->hold = (struct hold){got, w->now, writes};
    region_own(w, page);
    p->held = true;
    for (unsigned which = 0; which < 2; which++) {
        uint64_t word;

        memcpy(&word, device_word(w, which), sizeof word);
        region_compare(w, page, which, word, "hold"); /* what an advice left open is seen now */
    }
}

static void do_hold_use(struct worker *w)
{
    if (!w->hold.page)
        return;
    sim_point(SIM_POINT_ACCESS, NULL);
    hold_check(w);
    if (w->hold.writes)
        device_writes(w);
    if (!(worker_random(w) % 4))
        hold_end(w);
}

bool do_hold_op(struct worker *w, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_OP_hold: do_hold(w, op->arg[0] * world.scale % world.region); return true;
    case SIM_OP_hold_use: do_hold_use(w); return true;
    default: return false;
    }
}
