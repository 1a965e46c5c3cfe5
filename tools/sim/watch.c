/*
 * watch.c - the heap watched while it is in use: call sites, the leak scan, the search for damage.
 *
 * Workers and boxes are roots of the scan, with all data of the program.  A worker's slots do not change while it
 * scans, so nothing that they hold may be called lost, whatever the others do meanwhile.  At rest nothing
 * may be but the objects of which nobody keeps the address.
 */
#include "held.h"

#include <quire/leak.h>
#include <quire/track.h>

#include <stdlib.h>

enum { TOP = 8, EVERY = 5000, PLANTED = 12 };

extern char __data_start[], _end[]; /* NOLINT: the linker's names */

/* Only the words that are addresses of the machine's memory: others depend on the host, and on the runs before, and
 * a look at each is a point. */
static void root(void *scan, const void *from, const void *to)
{
    for (const uintptr_t *at = from; at + 1 <= (const uintptr_t *)to; at++)
        if (*at - SIM_DIRECT_BASE < world.program->machine.memory)
            quire_leak_root(scan, at, at + 1);
}

static void roots(void *scan, void *ctx)
{
    (void)ctx;
    root(scan, __data_start, _end);
    root(scan, world.workers, world.workers + world.nworkers + 1);
    root(scan, world.own, world.own + world.nworkers + 1);
}

/* ---- call sites ---- */

static void check_sites(void)
{
    struct quire_site top[TOP];
    size_t n = quire_heap_sites(top, TOP);

    for (size_t i = 0; i < n; i++)
        if (!top[i].calls || (i && top[i - 1].bytes < top[i].bytes))
            sim_fail("content",
                     "site %zu of %zu has %llu bytes and %llu calls, that before it %llu", i, n,
                     (unsigned long long)top[i].bytes, (unsigned long long)top[i].calls,
                     (unsigned long long)top[i - !!i].bytes);
}

/* What each site has, and what all have, is of one moment when nobody works. */
static void check_sums(void)
{
    struct quire_site *all = malloc(EVERY * sizeof *all);
    size_t n = quire_heap_sites(all, EVERY);
    struct quire_track_stats s;
    uint64_t live = 0, bytes = 0;

    for (size_t i = 0; i < n; i++) {
        live += all[i].count;
        bytes += all[i].bytes;
        if (all[i].peak < all[i].bytes || all[i].calls < all[i].count)
            sim_fail("verify", "a site has %llu bytes of at most %llu, in %llu of %llu calls",
                     (unsigned long long)all[i].bytes, (unsigned long long)all[i].peak,
                     (unsigned long long)all[i].count, (unsigned long long)all[i].calls);
    }
    free(all);
    quire_track_stats(&s);
    if (n < EVERY && (live != s.live || bytes != s.bytes))
        sim_fail("verify", "sites have %llu bytes in %llu objects, all together %llu in %llu",
                 (unsigned long long)bytes, (unsigned long long)live, (unsigned long long)s.bytes,
                 (unsigned long long)s.live);
}

/* ---- lost objects ---- */

static bool holds(const struct held *h, const void *p)
{
    for (unsigned i = 0; i < (h->kind == HELD_OBJECTS ? h->n : h->kind != HELD_NOTHING); i++)
        if (h->p[i] == p)
            return true;
    return false;
}

static bool not_mine(const struct quire_leak *leak, void *worker)
{
    const struct worker *w = worker;

    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (holds(&w->slots[i], leak->start))
            sim_fail("verify", "%p of %zu bytes is called lost, and is in slot %u of task %u",
                     leak->start, leak->bytes, i, w->number);
    return true;
}

static bool scan(void)
{
    bool on = world.program->machine.heap & QUIRE_HEAP_LEAKSCAN;
    struct quire_leak_stats stats;
    enum quire_status status = quire_leak_scan(&stats);

    if (status == QUIRE_NO_MEMORY && on)
        return false;
    if (status != (on ? QUIRE_OK : QUIRE_UNSUPPORTED))
        sim_fail("status", "leak scan: %s", quire_status_name(status));
    /* beside others what is counted first may be gone when the next is */
    if (on && ((world.still && stats.suspects > stats.objects) || stats.fresh > stats.suspects))
        sim_fail("content", "a scan of %llu objects found %llu lost, %llu of them new",
                 (unsigned long long)stats.objects, (unsigned long long)stats.suspects,
                 (unsigned long long)stats.fresh);
    return on;
}

struct rest {
    uintptr_t planted[PLANTED]; /* inverted: no word is the address of one */
    unsigned found;
};

static bool only_planted(const struct quire_leak *leak, void *arg)
{
    struct rest *r = arg;
    unsigned i = 0;

    while (i < PLANTED && (uintptr_t)leak->start != ~r->planted[i])
        i++;
    if (i == PLANTED)
        sim_fail("verify", "%p of %zu bytes is called lost at rest", leak->start, leak->bytes);
    r->found++;
    return true;
}

/* Addresses that a place had before would hide what is lost there now. */
static void forget_old(struct held *h, unsigned places)
{
    for (; places--; h++) {
        bool many = h->kind == HELD_OBJECTS || h->kind == HELD_PAGES || h->kind == HELD_CMA;
        unsigned used = h->kind == HELD_NOTHING ? 0 : many ? h->n : 1;

        for (unsigned i = used; i < sizeof h->p / sizeof *h->p; i++)
            h->p[i] = NULL;
    }
}

/* Two scans at rest: to call an object lost takes two in which nobody wrote into it.  The sizes are those of what
 * interrupts have: where they freed, something is planted. */
static void find_planted(void)
{
    struct quire_track_stats before, after;
    struct rest r = {.found = 0};
    unsigned n = 0;

    forget_old(world.boxes, SIM_BOXES);
    forget_old(&world.irq[0][0], SIM_MAX_CPUS * IRQ_SLOTS);
    for (unsigned i = 1; i <= world.nworkers; i++)
        forget_old(world.workers[i].slots, SIM_SLOTS);
    quire_track_stats(&before);
    for (unsigned i = 0; i < PLANTED; i++) {
        r.planted[i] = ~(uintptr_t)quire_kmalloc(64u << i % 4, QUIRE_GFP_KERNEL);
        n += ~r.planted[i] != 0;
    }
    quire_track_stats(&after);
    if (after.lost == before.lost && scan() && scan()) {
        quire_leak_each(only_planted, &r);
        if (r.found != n)
            sim_fail("verify", "of %u lost objects two scans found %u", n, r.found);
    }
    for (unsigned i = 0; i < PLANTED; i++)
        quire_kfree((void *)~r.planted[i]);
}

/* ---- operations ---- */

static void validate(void)
{
    if (quire_heap_validate() == QUIRE_OK)
        return;
    misuse_seen_damage();
    sim_fail("verify", "heap in use: %s", sim_last_error());
}

bool do_watch_op(struct worker *w, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_OP_heap_sites: check_sites(); return true;
    case SIM_OP_heap_validate: validate(); return true;
    case SIM_OP_leak_scan:
        if (scan())
            quire_leak_each(not_mine, w);
        return true;
    default: return false;
    }
}

void watch_setup(void)
{
    static const struct quire_leak_hooks hooks = {.roots = roots};

    quire_leak_set_hooks(&hooks);
    quire_leak_min_age(0);
}

void watch_at_rest(void)
{
    validate();
    check_sums();
    if (world.program->machine.heap & QUIRE_HEAP_LEAKSCAN)
        find_planted();
}
