/*
 * readers.c - operations on objects that are read without a lock, and on sets filled in advance.
 *
 * A board shows an object in each of its places.  Its words are a pattern, which readers see from the first to the
 * last, however long they look, while others put new objects there and free the old ones for readers' sake.
 */
#include "held.h"

#include <quire/rcu.h>

enum { PLACES = 4, WORDS = 12 };

static struct quire_cache *shown;
static uint64_t *board[PLACES];

static void free_late(void *old)
{
    if (quire_kfree_rcu(old) == QUIRE_OK)
        return;
    quire_rcu_wait(); /* no memory to remember it */
    quire_kfree(old);
}

static void replace(struct worker *w, unsigned place)
{
    uint64_t *fresh = quire_cache_alloc(shown, QUIRE_GFP_KERNEL), *old;

    if (!fresh) {
        must_be_short(w, "an object for the board");
        return;
    }
    memory_fill(fresh, WORDS * 8, memory_pattern(w));
    QPORT_POINT(RMW, &board[place]);
    monitor_acquire(&board[place]);
    old = board[place];
    board[place] = fresh;
    monitor_release(&board[place]);
    if (old)
        free_late(old);
    if (fresh[0] & 1) /* not only when a batch is full */
        quire_rcu_reclaim();
}

static void look(unsigned place, unsigned times)
{
    uint64_t token = quire_rcu_read_lock();
    uint64_t *p, first;

    QPORT_POINT(LOAD, &board[place]);
    monitor_acquire(&board[place]);
    p = board[place];
    if (p) {
        first = p[0];
        for (unsigned i = 0; i <= times; i++) {
            monitor_reads(p, WORDS * 8);
            memory_check(p, WORDS * 8, first, "an object that is being read");
            QPORT_POINT(LOAD, p);
        }
    }
    quire_rcu_read_unlock(token);
}

/* A set is filled where an allocation may fail, and used where none may; the rest goes back. */
static void prefill(struct worker *w, struct held *h, unsigned cache, unsigned n)
{
    static const unsigned sizes[CACHES] = {24, 200, 1500, 64};
    struct quire_prefilled set = {.n = 0};
    unsigned want = n % 60 + 1, used = (want + 1) / 2;

    if (quire_prefilled_fill(&set, world.caches[cache], QUIRE_GFP_KERNEL, want) != QUIRE_OK) {
        must_be_short(w, "prefilled_fill");
        return;
    }
    if (used > sizeof h->p / sizeof *h->p)
        used = sizeof h->p / sizeof *h->p;
    h->pattern = memory_pattern(w);
    qport_preempt_disable();
    for (unsigned i = 0; i < used; i++) {
        h->p[i] = quire_prefilled_take(&set);
        memory_fill(h->p[i], sizes[cache], h->pattern + i);
    }
    qport_preempt_enable();
    h->kind = HELD_OBJECTS;
    h->n = used;
    h->cache = cache;
    /* more of them, then back with all that are left */
    if (quire_prefilled_fill(&set, world.caches[cache], QUIRE_GFP_KERNEL, want / 2) != QUIRE_OK)
        must_be_short(w, "prefilled_fill of a set in use");
    if (set.n < want - used)
        sim_fail("content", "a set of %u, of which %u were taken, has %u", want, used, set.n);
    quire_prefilled_return(&set);
}

bool do_reader_op(struct worker *w, const struct sim_op *op, struct held *h)
{
    switch (op->kind) {
    case SIM_OP_object_prefill:
        if (h->kind == HELD_NOTHING)
            prefill(w, h, op->arg[1] % CACHES, op->arg[2]);
        return true;
    case SIM_OP_board_replace: replace(w, op->arg[0] % PLACES); return true;
    case SIM_OP_board_read: look(op->arg[0] % PLACES, op->arg[1] % 16); return true;
    case SIM_OP_rcu_reclaim: quire_rcu_reclaim(); return true;
    default: return false;
    }
}

void readers_setup(void)
{
    for (unsigned i = 0; i < PLACES; i++)
        board[i] = NULL;
    if (quire_cache_create("board", WORDS * 8, 0, QUIRE_CACHE_RCU | QUIRE_CACHE_SHEAF(4), NULL,
                           &shown) != QUIRE_OK)
        sim_fail("boot", "no memory for the board");
}

void readers_teardown(void)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (board[i])
            free_late(board[i]);
    if (quire_cache_destroy(shown) != QUIRE_OK)
        sim_fail("leak", "objects of the board are still out");
}
