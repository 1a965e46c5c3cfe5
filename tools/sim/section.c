/*
 * section.c - pageblocks that go off line and come back, and memory that comes and goes, while others
 * allocate and free.
 *
 * The world knows of each pageblock whether it is off line or absent, so that no allocation may come from
 * one that is, and what each call may answer.  A call first claims its blocks: the model of a block is
 * exact, while calls for other blocks go on beside it.
 */
#include <stdlib.h>

#include "world.h"

enum { MOST = 3 }; /* blocks that a call names */

static const uint64_t FRAMES = QUIRE_HUGE_SIZE / QUIRE_PAGE_SIZE;

void sections_setup(void)
{
    struct quire_block_info b;

    world.nsections = sim_machine.memory / QUIRE_HUGE_SIZE;
    world.sections = calloc(world.nsections, sizeof *world.sections);
    world.first_hot = world.nsections;
    for (uint64_t i = world.nsections; i-- > 0;) {
        bool known = quire_block_info(i, &b) == QUIRE_OK;

        if (known && b.absent == FRAMES &&
            i >= (sim_machine.memory - sim_machine.hotplug) / QUIRE_HUGE_SIZE) {
            world.sections[i] = SECTION_ABSENT;
            world.first_hot = i;
        } else if (!known || b.absent || b.reserved || b.poisoned) {
            world.sections[i] = SECTION_NEVER;
        }
    }
    /* half of the programs want it for the kernel too */
    quire_memory_set_use(sim_machine.hotplug / QUIRE_HUGE_SIZE % 2 ? QUIRE_ADD_KERNEL
                                                                   : QUIRE_ADD_MOVABLE);
}

void sections_check(const struct quire_page *page, unsigned order)
{
    uint64_t first = quire_pfn_of_page(page).v, last = first + (1ull << order) - 1;

    for (uint64_t i = first / FRAMES; i <= last / FRAMES && i < world.nsections; i++)
        if (world.sections[i] == SECTION_OFF || world.sections[i] == SECTION_ABSENT)
            sim_fail("content", "frame %#llx order %u is handed out; block %llu is %s",
                     (unsigned long long)first, order, (unsigned long long)i,
                     world.sections[i] == SECTION_OFF ? "off line" : "absent");
}

/* ---- A call ---- */

struct call {
    uint64_t first;
    unsigned n;
    uint8_t was[MOST];
    bool alone; /* no other call at the beginning; then, at any time */
    uint64_t epoch;
};

/* False: another task moves one of them. */
static bool begin(struct call *c, unsigned at)
{
    *c = (struct call){.first = at % world.nsections, .n = 1 + at / world.nsections % MOST};
    if (c->n > world.nsections - c->first)
        c->n = 1;
    for (unsigned i = 0; i < c->n; i++)
        if ((c->was[i] = world.sections[c->first + i]) == SECTION_MOVING)
            return false;
    for (unsigned i = 0; i < c->n; i++)
        if (c->was[i] != SECTION_NEVER)
            world.sections[c->first + i] = SECTION_MOVING;
    c->alone = !world.moves++;
    c->epoch = ++world.move_epoch;
    return true;
}

static void end(struct call *c, enum quire_status st, enum section now)
{
    c->alone &= world.move_epoch == c->epoch;
    world.moves--;
    world.move_epoch++;
    for (unsigned i = 0; i < c->n; i++)
        world.sections[c->first + i] = st == QUIRE_OK ? (uint8_t)now : c->was[i];
}

static bool all_were(const struct call *c, enum section what)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->was[i] != what)
            return false;
    return true;
}

static void wrong(const struct call *c, const char *what, enum quire_status st)
{
    sim_fail("status", "%s of %u blocks from %llu, the first %u: %s", what, c->n,
             (unsigned long long)c->first, c->was[0], quire_status_name(st));
}

static void check_pages(const struct call *c)
{
    for (uint64_t f = 0; f < c->n * FRAMES; f += 37) {
        q_pfn pfn = Q_PFN(c->first * FRAMES + f);

        if (!(quire_page_flags(pfn) & QUIRE_PG_RESERVED))
            sim_fail("content", "frame %#llx is off line, its flags are %#x",
                     (unsigned long long)pfn.v, quire_page_flags(pfn));
    }
}

void section_off(unsigned at)
{
    enum quire_status st;
    struct call c;
    bool could;

    /* that the machine does not run short of memory is for others to see to */
    if (quire_free_pages() < world.low_mark + (MOST + 1) * FRAMES || !begin(&c, at))
        return;
    could = all_were(&c, SECTION_ON);
    st = quire_frame_offline(Q_PFN(c.first * FRAMES), c.n * FRAMES);
    if (st == QUIRE_OK)
        check_pages(&c);
    end(&c, st, SECTION_OFF);
    if (could ? st != QUIRE_OK && st != QUIRE_BUSY
              : st != QUIRE_INVALID && (c.alone || st != QUIRE_BUSY))
        wrong(&c, "offline", st);
}

void section_on(unsigned at)
{
    enum quire_status st;
    struct call c;
    bool could;

    if (!begin(&c, at))
        return;
    if (quire_free_pages() < world.low_mark)
        world.hog_epoch++; /* who fails now may say so when there is enough again */
    could = all_were(&c, SECTION_OFF);
    st = quire_frame_online(Q_PFN(c.first * FRAMES), c.n * FRAMES);
    end(&c, st, SECTION_ON);
    if (st != (could ? QUIRE_OK : QUIRE_INVALID) && (c.alone || st != QUIRE_BUSY))
        wrong(&c, "online", st);
}

/* ---- Memory that comes and goes ---- */

/* Blocks of the part of memory that may come; false: there is none, or another task moves them. */
static bool begin_hot(struct call *c, unsigned at)
{
    uint64_t n = world.nsections - world.first_hot;

    return n && begin(c, (unsigned)(world.first_hot + at % n + at / n % MOST * world.nsections));
}

static bool any_was(const struct call *c, enum section what)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->was[i] == what)
            return true;
    return false;
}

void memory_add(unsigned at, unsigned node)
{
    enum quire_status st;
    struct call c;
    bool could;

    if (!begin_hot(&c, at))
        return;
    if (quire_free_pages() < world.low_mark)
        world.hog_epoch++; /* as section_on() */
    could = all_were(&c, SECTION_ABSENT);
    st = quire_memory_add(Q_PA(c.first * QUIRE_HUGE_SIZE), c.n * QUIRE_HUGE_SIZE,
                          node % quire_nodes());
    end(&c, st, SECTION_ON);
    if (st != (could ? QUIRE_OK : QUIRE_EXISTS) && (c.alone || st != QUIRE_BUSY))
        wrong(&c, "add", st);
}

static void check_absent(const struct call *c)
{
    for (uint64_t f = 0; f < c->n * FRAMES; f += 37) {
        q_pfn pfn = Q_PFN(c->first * FRAMES + f);

        if (quire_pfn_valid(pfn) || quire_page_flags(pfn) != QUIRE_PG_RESERVED)
            sim_fail("content", "frame %#llx is absent, its flags are %#x",
                     (unsigned long long)pfn.v, quire_page_flags(pfn));
    }
}

void memory_remove(unsigned at)
{
    enum quire_status st;
    struct call c;
    bool none;

    if (quire_free_pages() < world.low_mark + (MOST + 1) * FRAMES || !begin_hot(&c, at))
        return;
    none = any_was(&c, SECTION_ABSENT);
    st = quire_memory_remove(Q_PA(c.first * QUIRE_HUGE_SIZE), c.n * QUIRE_HUGE_SIZE);
    if (st == QUIRE_OK)
        check_absent(&c);
    end(&c, st, SECTION_ABSENT);
    if (none ? st != QUIRE_NOT_FOUND && (c.alone || st != QUIRE_BUSY)
             : st != QUIRE_OK && st != QUIRE_BUSY)
        wrong(&c, "remove", st);
}

/* Questions about frames that may come or go at this moment: nobody knows the answers, but there are some. */
void frames_ask(unsigned at)
{
    uint64_t n = world.nsections - world.first_hot;
    uint64_t block = n ? world.first_hot + at % n : at % world.nsections;

    for (uint64_t f = at / 64 % 8; f < FRAMES; f += FRAMES / 8) {
        quire_kpageflags(Q_PFN(block * FRAMES + f));
        quire_kpagecount(Q_PFN(block * FRAMES + f));
    }
}

uint64_t sections_came(void)
{
    uint64_t n = 0;

    for (uint64_t i = world.first_hot; i < world.nsections; i++)
        n += world.sections[i] != SECTION_ABSENT ? FRAMES : 0;
    return n;
}

void sections_restore(void)
{
    world.came = sections_came();
    for (uint64_t i = 0; i < world.nsections; i++)
        if (world.sections[i] == SECTION_OFF) {
            enum quire_status st = quire_frame_online(Q_PFN(i * FRAMES), FRAMES);

            if (st != QUIRE_OK)
                sim_fail("status", "online of block %llu at the end: %s", (unsigned long long)i,
                         quire_status_name(st));
            world.sections[i] = SECTION_ON;
        }
    free(world.sections);
    world.sections = NULL;
    world.nsections = 0;
}
