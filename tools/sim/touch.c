/*
 * touch.c - operations that read and write memory, in every way that there is.
 */
#include <stdlib.h>
#include <string.h>

#include "../../ports/sim/monitor.h"
#include "region.h"

/* Look into the region of a neighbour, who goes on meanwhile: whatever is there, it is something
 * that he has written, or nothing. */
static void do_peek(struct worker *w, unsigned page)
{
    const struct worker *o = region_neighbour(w);

    if (o) /* every other time where it works now */
        region_peek(w, o, worker_random(w) & 1 ? o->last_page : page);
}

static void do_write(struct worker *w, unsigned page)
{
    unsigned which = (unsigned)worker_random(w) & 1;
    uint64_t value = worker_value(w), sent = value;
    uint64_t va = region_va(w, page) + word_offset(w->number, which);
    enum quire_status want = page_expected(w, &w->now->pages[page], QUIRE_WRITE);

    if (region_judge(w, page, region_reach(w, va, SIM_ACCESS_WRITE, &sent), want, "write"))
        region_wrote(w, page, which, value);
}

static void do_read(struct worker *w, unsigned page)
{
    enum quire_status want = page_expected(w, &w->now->pages[page], QUIRE_READ);

    for (unsigned which = 0; which < 2; which++) {
        uint64_t got, va = region_va(w, page) + word_offset(w->number, which);

        if (region_judge(w, page, region_reach(w, va, SIM_ACCESS_READ, &got), want, "read"))
            region_compare(w, page, which, got, "read");
    }
}

static void do_copy(struct worker *w, const struct sim_op *op)
{
    unsigned page = op->arg[0] * world.scale % world.region, which = (unsigned)worker_random(w) & 1;
    uint64_t va = region_va(w, page) + word_offset(w->number, which), value = worker_value(w);
    const struct mpage *p = &w->now->pages[page];
    size_t done;

    if (op->kind == SIM_OP_copy_in) {
        enum quire_status st =
            quire_space_write(w->now->s, Q_UVA(va), &value, sizeof value, false, &done);

        if (region_judge(w, page, st, page_expected(w, p, QUIRE_WRITE), "copy in"))
            region_wrote(w, page, which, value);
    } else {
        enum quire_status st =
            quire_space_read(w->now->s, Q_UVA(va), &value, sizeof value, false, &done);

        if (region_judge(w, page, st, page_expected(w, p, QUIRE_READ), "copy out"))
            region_compare(w, page, which, value, "copy out");
    }
}

static void do_fill(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;

    region_range(op, &first, &n);
    for (unsigned i = first; i < first + n && i < first + 120; i++)
        do_write(w, i);
}

static void do_sweep(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;

    region_range(op, &first, &n);
    for (unsigned i = first; i < first + n && i < first + 40; i++)
        do_read(w, i);
}

/* The word of a page below the break must be what was written there, or zero in a new page. */
static void check_brk_page(struct worker *w, uint64_t page)
{
    uint64_t got;
    enum quire_status st = region_reach(w, BREAK + page * PAGE, SIM_ACCESS_READ, &got);

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
    if (last < before &&
        region_reach(w, BREAK + last * PAGE, SIM_ACCESS_READ, &got) != QUIRE_SEGV_MAPERR)
        sim_fail("status", "memory beyond the break can be read");
    if (last && region_reach(w, BREAK + (last - 1) * PAGE, SIM_ACCESS_WRITE, &value) == QUIRE_OK)
        m->brk_words[last - 1] = value;
}

static void do_mincore(struct worker *w, const struct sim_op *op)
{
    uint8_t resident[SIM_REGION_PAGES * 3];
    unsigned first, n;
    enum quire_status st;

    region_range(op, &first, &n);
    if (!n)
        return;
    st = quire_mincore(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, resident);
    if (st != (region_any(w, first, n, page_is_hole) ? QUIRE_NO_MEMORY : QUIRE_OK))
        region_wrong(w, "mincore", first, st,
                     region_any(w, first, n, page_is_hole) ? "NO_MEMORY" : "OK");
    for (unsigned i = 0; st == QUIRE_OK && i < n; i++) {
        const struct mpage *p = &w->now->pages[first + i];

        if (!(resident[i] & 1) && p->own && !p->maybe && (p->word[0] || p->word[1]))
            region_wrong(w, "mincore", first + i, st, "a page with content");
    }
}

/* The page, held as a device holds it. */
static void do_pin(struct worker *w, unsigned page)
{
    enum quire_status want = page_expected(w, &w->now->pages[page], QUIRE_READ);
    struct quire_page *got;
    uint64_t value;

    if (!region_judge(w, page,
                      quire_space_page(w->now->s, Q_UVA(region_va(w, page)), QUIRE_READ, &got),
                      want, "pin"))
        return;
    sim_point(SIM_POINT_ACCESS, NULL);
    memcpy(&value, (char *)quire_page_ptr(got) + word_offset(w->number, 0), 8);
    region_compare(w, page, 0, value, "pin");
    quire_page_put(got);
}

/* The page, held and written as a device does it, which takes its time. */
static void do_pin_write(struct worker *w, unsigned page)
{
    enum quire_status want = page_expected(w, &w->now->pages[page], QUIRE_WRITE);
    unsigned which = (unsigned)worker_random(w) & 1;
    uint64_t value = worker_value(w);
    struct quire_page *got;

    if (!region_judge(w, page,
                      quire_space_page(w->now->s, Q_UVA(region_va(w, page)), QUIRE_WRITE, &got),
                      want, "pin to write"))
        return;
    if (worker_random(w) & 1)
        sim_sleep(20000);
    sim_point(SIM_POINT_ACCESS, NULL);
    memcpy((char *)quire_page_ptr(got) + word_offset(w->number, which), &value, 8);
    monitor_hw_write((char *)quire_page_ptr(got) + word_offset(w->number, which), 8);
    if (page_has_object(&w->now->pages[page]) && w->now->pages[page].backing < FILE_PRIVATE)
        quire_object_dirty(page_file(w, &w->now->pages[page])->o, got);
    quire_page_put(got);
    region_wrote(w, page, which, value);
}

/* Equal keys for equal memory, and only for that. */
static void do_futex_key(struct worker *w, unsigned page)
{
    struct quire_futex_key a, b, next;
    uint64_t va = region_va(w, page);
    const struct mpage *p = &w->now->pages[page];
    enum quire_status st[3];

    if (p->backing == NOTHING || page_beyond(w, p))
        return;
    st[0] = quire_space_futex_key(w->now->s, Q_UVA(va), false, &a);
    st[1] = quire_space_futex_key(w->now->s, Q_UVA(va), false, &b);
    st[2] = quire_space_futex_key(w->now->s, Q_UVA(va + 4), false, &next);
    if (st[0] == QUIRE_OK && st[1] == QUIRE_OK && (a.a != b.a || a.b != b.b))
        region_wrong(w, "futex key", page, st[0], "the same key twice");
    if (st[0] == QUIRE_OK && st[2] == QUIRE_OK && a.a == next.a && a.b == next.b)
        region_wrong(w, "futex key", page, st[0], "another key for another word");
    if (st[0] == QUIRE_OK && a.object)
        quire_object_put(a.object);
    if (st[1] == QUIRE_OK && b.object)
        quire_object_put(b.object);
    if (st[2] == QUIRE_OK && next.object)
        quire_object_put(next.object);
}

bool do_touch_op(struct worker *w, const struct sim_op *op)
{
    unsigned page = op->arg[0] * world.scale % world.region;

    switch (op->kind) {
    case SIM_OP_write: do_write(w, page); return true;
    case SIM_OP_read: do_read(w, page); return true;
    case SIM_OP_peek: do_peek(w, page); return true;
    case SIM_OP_sweep: do_sweep(w, op); return true;
    case SIM_OP_fill: do_fill(w, op); return true;
    case SIM_OP_copy_in:
    case SIM_OP_copy_out: do_copy(w, op); return true;
    case SIM_OP_brk: do_brk(w, op->arg[0]); return true;
    case SIM_OP_mincore: do_mincore(w, op); return true;
    case SIM_OP_pin: do_pin(w, page); return true;
    case SIM_OP_pin_write: do_pin_write(w, page); return true;
    case SIM_OP_futex_key: do_futex_key(w, page); return true;
    default: return false;
    }
}
