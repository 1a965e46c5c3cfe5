/*
 * monitor_race.c - accesses that nothing orders.
 *
 * Model.  Each CPU has a vector clock; entry i says how far CPU i's past is ordered before it.  A
 * release (by an atomic, a fence, the machine) hands the clock on and begins a new epoch, an acquire
 * joins it.  Each granule of eight bytes remembers up to four accesses, each with its CPU, epoch,
 * bytes and place; each page the last write of all of it.  An access that touches a byte of a
 * remembered one, of another CPU, whose epoch its own clock does not cover, is unordered with it: a
 * race if one of them is a write and not both are atomic.
 *
 * An allocation writes all of the frame or object, and so does a free.  So a use that nothing orders
 * against a free is a race even if it came first in this run, and memory that comes from another CPU
 * brings its past with it: only the allocator's own synchronisation puts that in order.
 *
 * With more than four unordered accesses to a granule one is forgotten: a race can be missed, none
 * is invented.
 *
 * Sources.  Flanagan, Freund: FastTrack, PLDI 2009 (epochs); Serebryany, Iskhodzhanov:
 * ThreadSanitizer, WBIA 2009, and its second version's shadow cells.
 */
#include "monitor_parts.h"

/*
 * What these touch in frames is what programs keep there: two of them without order are the
 * program's own race, which is no business of the library's.  Whatever else races with one of them
 * is.
 */
static const char *const of_programs[] = {"quire_space_read", "quire_space_write",   "copy_bytes",
                                          "qport_copy_page",  "sim_copy_optimistic", NULL};

/*
 * A copy on write reads a frame that it holds by the leaf alone.  If another fault replaces the leaf the frame
 * may be freed and used anew under it: then its compare-and-swap fails, and what it read goes.  That it
 * keeps no copy of something else is seen by the bytes (tools/sim).
 */
static const char *const thrown_away[] = {"sim_copy_optimistic", NULL};

/*
 * Views that are of no one moment: counters of one writer, who must not pay for their readers, and
 * the state of blocks.  Nothing but what is shown depends on them.
 */
static const char *const shows_state[] = {"quire_zone_stats", "count_traffic", "quire_zoneinfo",
                                          "quire_page_flags", "count_block",   "qi_zone_of_frame",
                                          "classify",         "frame_present", "head_now",
                                          "uniform",          "is_offline",    NULL};

/*
 * These read the counters, lists and struct pages of a machine that goes on, and say what they saw:
 * a number that is a little old, or that does not fit the next one, is what they promise
 * (quire/stats.h).  To count by atomics for their sake would slow down who allocates.  What they
 * write, and what is written to what they decide by, is judged as ever.
 */
static const char *const of_reports[] = {"quire_free_pages", "cached_pages",     "census",
                                         "count_traffic",    "quire_zone_stats", "qi_zone_of_frame",
                                         "quire_pfn_valid",  "quire_page_flags", "classify",
                                         "frame_present",    "count_block",      "uniform",
                                         "quire_buddyinfo",  "say_stacks",       "say_zone",
                                         "quire_zoneinfo",   "quire_kpageflags", "quire_kpagecount",
                                         "is_offline",       "head_of",          NULL};

/*
 * The mark of a bad frame that somebody else holds: its holder changes his flags without an atomic,
 * and the mark may be lost, as quire_frame_poison() says.
 */
static const char *const may_be_lost[] = {"poison_elsewhere", NULL};

static inline cell make_cell(const struct cpu *c, unsigned bytes, cell type, uintptr_t pc)
{
    return (cell)c->now << 36 | (cell)c->number << 30 | (cell)bytes << 22 | type |
           ((pc - (uintptr_t)__executable_start) & CELL_PC);
}

void monitor_tick(struct cpu *c)
{
    struct epoch *e;
    unsigned depth = 0;

    c->now++;
    if (c->now >> CELL_CLOCK_BITS)
        sim_fail("monitor", "the clock of CPU %u has run out", c->number);
    c->clock.t[c->number] = c->now;
    if (monitor_words > monitor_ncpus)
        c->clock.t[monitor_ncpus + c->number] = c->now;
    e = &c->epochs[c->now % EPOCHS];
    e->clock = c->now;
    e->task = (uint16_t)sim_task_number();
    e->point = sim_points();
    for (unsigned i = monitor_context->depth; i && depth < EPOCH_FRAMES; i--)
        if (i <= STACK_DEPTH)
            e->stack[depth++] = monitor_context->stack[i - 1];
    e->frames = (uint16_t)depth;
}

static uintptr_t pc_of(cell c) { return (c & CELL_PC) + (uintptr_t)__executable_start; }

static __attribute__((cold, noinline)) void
report(const struct region *r, uintptr_t a, uint64_t bytes, cell type, uintptr_t pc, cell old)
{
    bool mixed = (type ^ old) & CELL_ATOMIC;

    if (mixed ? !monitor_config.mixed_races : !monitor_config.races)
        return;
    if ((!(type & CELL_WRITE) && monitor_in_function(pc, of_reports)) ||
        (!(old & CELL_WRITE) && monitor_in_function(pc_of(old), of_reports)))
        return;
    if (r == &monitor_regions[REGION_DIRECT] && monitor_in_function(pc, of_programs) &&
        monitor_in_function(pc_of(old), of_programs))
        return;
    if ((!(type & CELL_WRITE) && monitor_in_function(pc, shows_state)) ||
        (!(old & CELL_WRITE) && monitor_in_function(pc_of(old), shows_state)))
        return;
    if ((!(type & CELL_WRITE) && monitor_in_function(pc, thrown_away)) ||
        (!(old & CELL_WRITE) && monitor_in_function(pc_of(old), thrown_away)))
        return;
    if (mixed &&
        (monitor_in_function(pc, may_be_lost) || monitor_in_function(pc_of(old), may_be_lost)))
        return;
    monitor_pause();
    monitor_note_here("this access:", a, bytes, type, pc);
    monitor_note_cell("no order with:", old);
    monitor_note_place(a);
    sim_fail(mixed ? "mixed-race" : "race", "%u bytes at %p: nothing orders two accesses",
             (unsigned)bytes, (void *)a);
}

/* True if the new access makes the old cell needless: whoever races with the old one races with the
 * new one too. */
static inline bool covers(cell new, cell old, bool ordered)
{
    if (!ordered || (old & CELL_BYTES & ~new))
        return false;
    if (old & CELL_WRITE & ~new)
        return false;
    return !(new &CELL_ATOMIC) || (old & CELL_ATOMIC);
}

static inline bool unordered(const struct cpu *c, cell old)
{
    return cell_cpu(old) != c->number && cell_clock(old) > c->clock.t[cell_cpu(old)];
}

static void granule(struct region *r, uintptr_t a, unsigned bytes, cell type, uintptr_t pc)
{
    struct cpu *c = monitor_cpu;
    uint64_t off = a - r->base;
    struct page_shadow *page = &r->pages[off / PAGE];
    cell *cells = &r->cells[off / GRANULE * CELLS];
    cell new = make_cell(c, ((1u << bytes) - 1) << a % GRANULE, type, pc);
    int slot = -1;

    if (UNLIKELY(page->state == FRAME_IS_FREE || page->free))
        monitor_check_free(r, a, type, pc);
    for (unsigned i = 0; i < CELLS; i++)
        if (!((cells[i] ^ new) & ~CELL_PC))
            return;
    if (UNLIKELY(page->whole && unordered(c, page->whole)))
        report(r, a, bytes, type, pc, page->whole);
    page->touched = true;
    for (unsigned i = 0; i < CELLS; i++) {
        cell old = cells[i];
        bool late = old && unordered(c, old);

        if (!old || covers(new, old, !late)) {
            if (slot >= 0)
                cells[i] = 0;
            else
                slot = (int)i;
        }
        if (UNLIKELY(late && (old & new &CELL_BYTES) && ((old | new) & CELL_WRITE) &&
                     !(old & new &CELL_ATOMIC)))
            report(r, a, bytes, type, pc, old);
    }
    cells[slot >= 0 ? (unsigned)slot : c->now % CELLS] = new;
}

void monitor_access(uintptr_t a, uint64_t bytes, cell type, uintptr_t pc)
{
    struct region *r = region_of(a);
    uint64_t page;

    if (!r)
        return;
    monitor_here();
    bytes = bytes < r->base + r->bytes - a ? bytes : r->base + r->bytes - a;
    if ((type & (CELL_WRITE | CELL_ATOMIC)) == CELL_WRITE)
        monitor_forget(r, a, bytes);
    if (!r->cells || monitor_paused)
        return;
    while (bytes) {
        unsigned n = GRANULE - a % GRANULE;

        page = (a - r->base) / PAGE;
        if (a % PAGE == 0 && bytes >= PAGE && type == CELL_WRITE) {
            if (UNLIKELY(r->pages[page].state == FRAME_IS_FREE || r->pages[page].free))
                monitor_check_free(r, a, type, pc);
            monitor_page_write(r, page, pc);
            a += PAGE;
            bytes -= PAGE;
            continue;
        }
        n = n < bytes ? n : (unsigned)bytes;
        granule(r, a, n, type, pc);
        a += n;
        bytes -= n;
    }
}

void monitor_page_write(struct region *r, uint64_t page, uintptr_t pc)
{
    struct cpu *c = monitor_here();
    struct page_shadow *s = &r->pages[page];
    uintptr_t a = r->base + page * PAGE;
    cell *cells = &r->cells[page * GRANULES * CELLS];

    if (s->whole && unordered(c, s->whole))
        report(r, a, PAGE, CELL_WRITE, pc, s->whole);
    if (s->touched) {
        for (unsigned i = 0; i < GRANULES * CELLS; i++)
            if (cells[i] && unordered(c, cells[i]))
                report(r, a + i / CELLS * GRANULE, GRANULE, CELL_WRITE, pc, cells[i]);
        memset(cells, 0, GRANULES * CELLS * sizeof *cells);
    }
    s->touched = false;
    s->whole = make_cell(c, 0xff, CELL_WRITE, pc);
}
