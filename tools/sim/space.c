/*
 * space.c - operations on address spaces, against a model that knows only pages.
 *
 * A worker has a region of its group's space, and a copy of all of it in each of its children.  For
 * each page of the region the model says what is mapped, with which rights, and which two words are
 * there.  Every answer of the library and every word read through the MMU must be the model's.
 * region.c has the model, mapping.c, touch.c and duel.c most operations; here are views, files,
 * families of spaces, and how all begins and ends.
 *
 * What shortage of memory or a failing device leaves open is either asked for (rights), remembered
 * as open (`maybe`), or made certain by unmapping it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../ports/sim/mmu.h"
#include "region.h"

/* ---- Views ---- */

struct view {
    struct worker *w;
    unsigned next; /* first page not yet seen */
};

static void must_be_hole(struct worker *w, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        if (w->now->pages[i].backing != NOTHING)
            region_wrong(w, "query", i, QUIRE_NOT_FOUND, "a mapping");
}

static bool see_vma(void *ctx, const struct quire_vma_info *v)
{
    struct view *view = ctx;
    struct worker *w = view->w;
    uint64_t base = region_va(w, 0), end = region_va(w, world.region);
    unsigned first, last;

    if (v->end.v <= base || v->start.v >= end)
        return true;
    first = v->start.v <= base ? 0 : (unsigned)((v->start.v - base) / PAGE);
    last = v->end.v >= end ? world.region : (unsigned)((v->end.v - base) / PAGE);
    must_be_hole(w, view->next, first);
    for (unsigned i = first; i < last; i++) {
        const struct mpage *p = &w->now->pages[i];

        if (p->backing == NOTHING || p->prot != v->prot ||
            v->object != (page_has_object(p) ? page_file(w, p)->o : NULL))
            region_wrong(w, "query", i, QUIRE_OK, "other rights or another object");
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

/* ---- Files ---- */

static void do_msync(struct worker *w, const struct sim_op *op)
{
    unsigned first, n;
    enum quire_status st;

    region_range(op, &first, &n);
    st = quire_msync(w->now->s, Q_UVA(region_va(w, first)), n * PAGE, QUIRE_MS_SYNC);
    if (st == QUIRE_IO && world.io_failures != w->io_started)
        return;
    if (n && st != (region_any(w, first, n, page_is_hole) ? QUIRE_NO_MEMORY : QUIRE_OK))
        region_wrong(w, "msync", first, st,
                     region_any(w, first, n, page_is_hole) ? "NO_MEMORY" : "OK");
    for (unsigned i = first; st == QUIRE_OK && i < first + n; i++) {
        const struct mpage *p = &w->now->pages[i];

        if (p->backing == FILE_SHARED && !page_beyond(w, p))
            file_on_device(w, page_file(w, p), p->index);
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
    for (unsigned i = 0; i < world.region; i++) {
        child->pages[i].locked = false; /* memory locks are not inherited: fork(2) */
        child->pages[i].held = false;   /* a device keeps the parent's page */
    }
}

/* What a child got from workers that went on meanwhile is not known, but it is what one of them wrote
 * at some time, or nothing. */
static void check_strangers(struct worker *w, const struct mspace *child)
{
    for (unsigned i = 1; i <= world.nworkers; i++) {
        const struct worker *o = &world.workers[i];

        for (unsigned k = 0; o->group == w->group && o != w && k < 8; k++) {
            uint64_t va = region_va(o, (unsigned)(worker_random(w) % world.region)), got;
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
    hold_outlives(w, child);
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
    if (sim_op_info[op->kind].arg_kinds[0] == SIM_ARG_PAGE)
        w->last_page = op->arg[0] * world.scale % world.region;
    switch (op->kind) {
    case SIM_OP_duel: do_duel(w, op->arg[0], op->arg[1]); return true;
    case SIM_OP_query: do_query(w); return true;
    case SIM_OP_move_page: move_page(w, w->last_page, op->arg[1]); return true;
    case SIM_OP_move_blocks: move_blocks(w, op->arg[0], op->arg[1]); return true;
    default:
        return do_mapping_op(w, op) || do_touch_op(w, op) || do_hold_op(w, op) ||
               do_family_op(w, op);
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
            uint64_t got, va = region_va(w, i) + word_offset(w->number, k);
            size_t done;

            st = quire_space_read(m->s, Q_UVA(va), &got, sizeof got, true, &done);
            if (st == QUIRE_NO_MEMORY && may_be_short(w))
                continue;
            if (st != (page_beyond(w, p) ? QUIRE_BUS_ADRERR : QUIRE_OK))
                region_wrong(w, "last read", i, st, page_beyond(w, p) ? "BUS_ADRERR" : "OK");
            if (st == QUIRE_OK)
                region_compare(w, i, k, got, "last read");
        }
    }
}

void space_check_all(struct worker *w)
{
    hold_check(w);
    check_whole(w, &w->home);
    for (unsigned k = 0; k < SIM_CHILDREN; k++)
        if (w->child[k].s)
            check_whole(w, &w->child[k]);
    w->now = &w->home;
}

void space_teardown(struct worker *w)
{
    hold_end(w);
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
    mmu_speculate((unsigned)sim_below(SIM_RANDOM_TLB, sim_cpus()), region_va(o, o->last_page));
}
