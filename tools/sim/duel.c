/*
 * duel.c - two tasks at one page at once.
 */
#include "region.h"

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
    /* pages whose frames move */
    {{{SIM_OP_mmap, {PAGE_HERE, 2, 0, 0, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_move_page, {PAGE_HERE, 0}},
      {SIM_OP_read, {PAGE_HERE}},
      {SIM_OP_move_page, {PAGE_HERE, 3}},
      {SIM_OP_write, {PAGE_HERE}}},
     6,
     true},
    {{{SIM_OP_mmap, {PAGE_HERE, 2, 0, 2, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_move_page, {PAGE_HERE, 0}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_move_page, {PAGE_HERE, 0}},
      {SIM_OP_msync, {PAGE_HERE, 2}}},
     6,
     false},
    /* a device that writes */
    {{{SIM_OP_mmap, {PAGE_HERE, 2, 0, 0, 1}},
      {SIM_OP_pin_write, {PAGE_HERE}},
      {SIM_OP_pin_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}},
      {SIM_OP_pin_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}}},
     6,
     true},
    /* a device that goes on while rights go and come */
    {{{SIM_OP_mmap, {PAGE_HERE, 2, 0, 0, 1}},
      {SIM_OP_hold, {PAGE_HERE}},
      {SIM_OP_mprotect, {PAGE_HERE, 2, 2}},
      {SIM_OP_mprotect, {PAGE_HERE, 2, 0}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_hold_use, {0}}},
     6,
     true},
    /* rights to shared memory, which may be moving */
    {{{SIM_OP_mmap, {PAGE_HERE, 3, 0, 1, 1}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_mprotect, {PAGE_HERE, 3, 3}},
      {SIM_OP_mprotect, {PAGE_HERE, 3, 0}},
      {SIM_OP_write, {PAGE_HERE}},
      {SIM_OP_read, {PAGE_HERE}}},
     6,
     false},
};
enum { DUELS = sizeof duels / sizeof duels[0] };

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

    if (region_reach(w, region_va(o, page) + word_offset(w->number, 0), SIM_ACCESS_WRITE, &value) ==
        QUIRE_NO_MEMORY)
        must_be_short(w, "poke");
}

void do_duel(struct worker *w, uint32_t at, unsigned kind)
{
    unsigned first = 1 + w->group * WORKERS_A_GROUP;
    bool moves;

    if (w->now != &w->home)
        return;
    for (unsigned n = first; n < first + WORKERS_A_GROUP && n <= world.nworkers; n++) {
        struct worker *o = &world.workers[n];

        if (o == w || !o->duel_waits)
            continue;
        o->duel_waits = false;
        o->duel_on = true;
        moves = worker_random(w) & 1;
        for (unsigned i = 0; i < 12; i++)
            if (i % 3 == 1 && o->duel_pokes)
                poke_at(w, o, o->last_page);
            else if (i % 4 == 2 && moves)
                move_page_of(w, o);
            else
                region_peek(w, o, o->last_page);
        o->duel_on = false;
        return;
    }
    w->duel_waits = true;
    for (unsigned i = 0; i < 20 && w->duel_waits; i++)
        sim_sleep(3000);
    world.fighter = w;
    if (!w->duel_waits)
        fight(w, at, (kind + at % 2 * SIM_BOXES) % DUELS);
    w->duel_waits = false;
    while (w->duel_on) /* what the neighbour writes must not hit what comes next */
        sim_sleep(500);
}
