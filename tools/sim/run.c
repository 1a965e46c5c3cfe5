/*
 * run.c - one run of a program: bring the machine up, let the workers work, then see that nothing is
 * left, lost or damaged.
 */
#include <quire/stats.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../ports/sim/mmu.h"
#include "../../ports/sim/monitor.h"
#include "world.h"

struct world world;

enum { LOW_ZONE = (8 << 20) / QUIRE_PAGE_SIZE };

/* ---- Workers ---- */

uint64_t worker_random(struct worker *w)
{
    uint64_t z = (w->rng += 0x9e3779b97f4a7c15u);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t worker_value(struct worker *w)
{
    return 0x5aull << 56 | (uint64_t)w->number << 48 | ++w->version;
}

bool value_of(uint64_t value, const struct worker *w)
{
    return value >> 48 == (0x5a00u | w->number) && (value & 0xffffffffffffu) <= w->version;
}

bool may_be_short(const struct worker *w)
{
    uint64_t free_pages;

    if (world.hogs || world.hog_epoch != w->op_started)
        return true;
    sim_look_begin();
    free_pages = quire_free_pages();
    sim_look_end();
    /* what has come may be of no use for this request */
    return free_pages < world.low_mark + sections_came();
}

void must_be_short(struct worker *w, const char *what)
{
    if (!may_be_short(w))
        sim_fail("status", "%s: no memory, with %llu of %llu pages free", what,
                 (unsigned long long)quire_free_pages(), (unsigned long long)quire_managed_pages());
    world.out->frames_low++;
}

static void do_control_op(struct worker *w, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_OP_signal: world.events[op->arg[0] % SIM_EVENTS] = true; break;
    case SIM_OP_await:
        while (!world.events[op->arg[0] % SIM_EVENTS])
            sim_sleep(1000);
        break;
    case SIM_OP_sleep: sim_sleep(op->arg[0]); break;
    case SIM_OP_fail_frame:
    case SIM_OP_fail_heap:
        if (world.nworkers > 1)
            break; /* the library wants the other CPUs quiet for this */
        world.hog_epoch++;
        if (op->kind == SIM_OP_fail_frame)
            quire_frame_fail_after(op->arg[0]);
        else
            quire_heap_fail_after(op->arg[0]);
        break;
    default: sim_fail("program", "%s is no operation that can be run", sim_op_info[op->kind].name);
    }
    (void)w;
}

static void disarm(const struct sim_op *op)
{
    if (op->kind == SIM_OP_fail_frame || op->kind == SIM_OP_fail_heap || world.nworkers > 1)
        return;
    if (quire_frame_fail_armed())
        quire_frame_fail_after(-1);
    if (quire_heap_fail_armed())
        quire_heap_fail_after(-1);
}

static void work(void *arg)
{
    struct worker *w = arg;

    if (w->now && w->now->s)
        sim_use_space(w->now->s);
    for (size_t i = 0; i < w->ops->n; i++) {
        const struct sim_op *op = &w->ops->ops[i];

        sim_op_text(op, w->doing, sizeof w->doing);
        sim_doing(w->doing);
        w->op_started = world.hog_epoch - (i && w->ops->ops[i - 1].kind == SIM_OP_fail_frame) -
                        (i && w->ops->ops[i - 1].kind == SIM_OP_fail_heap);
        w->io_started = world.io_failures;
        if (!do_memory_op(w, op) && !do_space_op(w, op))
            do_control_op(w, op);
        disarm(op);
        misuse_go_on(w);
        world.out->ops_done++;
        sim_trace_mix(op->kind);
    }
    sim_doing("last things");
    memory_unhog(w);
    sim_use_space(NULL);
}

/* ---- When all is quiet ---- */

static void must_hold(enum quire_status status, const char *what)
{
    const char *said = sim_last_error();

    if (status != QUIRE_OK)
        sim_fail("verify", "%s: %s", what, said[0] ? said : quire_status_name(status));
}

static void verify_all(void)
{
    monitor_pause(); /* it looks into free memory too */
    must_hold(quire_frame_verify(), "frames");
    contig_verify();
    must_hold(quire_heap_verify(), "heap");
    must_hold(arena_verify(), "arena");
    must_hold(quire_kva_verify(), "kernel areas");
    monitor_resume();
    mmu_verify();
}

/* What the library has when nobody has anything: taken once at the start, with its caches warm, and
 * again at the end. */
struct books {
    uint64_t free, tables, objects, slab, areas, bad;
};

static uint64_t bad_frames(void)
{
    struct quire_zone_stats z;
    uint64_t n = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        n += z.poisoned;
    return n;
}

static struct books take_books(void)
{
    struct books b = {0};
    struct quire_cache_stats c;
    struct quire_block_info info;
    struct quire_kva_stats k;

    quire_kva_purge();
    quire_pt_trim();
    quire_heap_drain();
    quire_frame_drain();
    b.free = quire_free_pages();
    b.tables = quire_pt_pages() + quire_pt_cached();
    for (unsigned i = 0; quire_cache_stats(i, &c) == QUIRE_OK; i++)
        if (strncmp(c.name, "heap:", 5))
            b.objects += c.active;
    for (uint64_t i = 0; quire_block_info(i, &info) == QUIRE_OK; i++)
        b.slab += info.slab;
    b.bad = bad_frames();
    quire_kva_stats(&k);
    b.areas = k.areas + k.stacks;
    return b;
}

static void compare_books(const struct books *before, const struct books *after)
{
    if (after->objects != before->objects)
        sim_fail("leak", "%lld heap objects are left",
                 (long long)(after->objects - before->objects));
    if (after->areas != before->areas)
        sim_fail("leak", "%lld kernel areas are left", (long long)(after->areas - before->areas));
    /* tables of kernel windows stay (quire/pt.h), slabs of internal caches too: they are neither
     * lost nor free */
    if (after->bad < world.nbad)
        sim_fail("leak", "%u frames are bad, %llu are withheld", world.nbad,
                 (unsigned long long)after->bad);
    if (after->free + after->slab + after->tables + after->bad !=
        before->free + before->slab + before->tables + world.came)
        sim_fail("leak",
                 "frames free %llu, slabs %llu, tables %llu; at the start %llu, %llu, %llu, and "
                 "%llu came",
                 (unsigned long long)after->free, (unsigned long long)after->slab,
                 (unsigned long long)after->tables, (unsigned long long)before->free,
                 (unsigned long long)before->slab, (unsigned long long)before->tables,
                 (unsigned long long)world.came);
}

static void tear_down(void)
{
    world.still = true;
    monitor_all_ordered();
    sim_doing("a look at what is held");
    watch_at_rest();
    for (unsigned i = 1; i <= world.nworkers; i++) {
        struct worker *w = &world.workers[i];

        sim_doing("the last look at a task's memory");
        space_check_all(w);
        for (unsigned k = 0; k < SIM_SLOTS; k++)
            memory_give_back(&w->slots[k]);
    }
    sim_doing("the last look at the library");
    verify_all();
    sections_restore();
    nodes_teardown();
    sim_doing("giving everything back");
    for (unsigned i = 1; i <= world.nworkers; i++)
        space_teardown(&world.workers[i]);
    for (unsigned g = 0; g < SIM_PROGRAM_TASKS; g++)
        if (world.groups[g])
            quire_space_put(world.groups[g]);
    files_teardown();
    memory_teardown();
    verify_all();
}

static const char *dump_path;

void sim_blocks_to(const char *path) { dump_path = path; }

/* What every pageblock holds, for quire blocks. */
static void write_blocks(void)
{
    static char text[1 << 20];
    FILE *f = fopen(dump_path, "w");
    size_t n;

    sim_look_begin();
    n = quire_blockinfo(text, sizeof text);
    sim_look_end();
    if (!f || n >= sizeof text || fwrite(text, 1, n, f) != n || fclose(f))
        fprintf(stderr, "quire-sim: %s could not be written\n", dump_path);
}

/* The last task of a run. */
static void finish(void *before)
{
    struct books after;

    sim_doing("what was planted");
    misuse_settle();
    sim_doing("the last look");
    if (dump_path)
        write_blocks();
    tear_down();
    after = take_books();
    compare_books(before, &after);
}

/* ---- The run ---- */

static void count_run(void)
{
    struct mmu_stats mmu = mmu_stats();

    world.out->tlb_hits = mmu.hits;
    world.out->tlb_misses = mmu.walks;
    world.out->points = sim_points();
    world.out->hash = sim_trace_hash();
}

void sim_run_ends(void)
{
    count_run();
    fflush(NULL);
    _exit(0);
}

static void on_fail(const char *kind, const char *text)
{
    struct sim_outcome *o = world.out;
    size_t n;
    const struct sim_decision *d = sim_decisions(&n);

    snprintf(o->kind, sizeof o->kind, "%s", kind);
    snprintf(o->text, sizeof o->text, "%s", text);
    count_run();
    o->ndecisions = n < sizeof o->decisions / sizeof o->decisions[0]
                        ? n
                        : sizeof o->decisions / sizeof o->decisions[0];
    memcpy(o->decisions, d, o->ndecisions * sizeof *d);
}

static void make_world(const struct sim_program *p)
{
    world.program = p;
    world.nworkers = p->ntasks;
    world.scale = p->switches.groups & 1u << SIM_GROUP_HUGE ? 3 : 1;
    world.region = SIM_REGION_PAGES * world.scale;
    /* the DMA zone keeps much of its memory from everybody else */
    world.low_mark = quire_managed_pages() / 4 + LOW_ZONE + contig_area_frames();
    world.workers = calloc(p->ntasks + 1, sizeof *world.workers);
    world.own = calloc(p->ntasks + 1, sizeof *world.own);
    for (unsigned i = 1; i <= p->ntasks; i++) {
        struct worker *w = &world.workers[i];

        *w = (struct worker){.program = p, .ops = &p->tasks[i - 1], .number = i};
        w->group = (i - 1) / WORKERS_A_GROUP;
        w->place = (i - 1) % WORKERS_A_GROUP;
        w->rng = p->seed ^ (uint64_t)i << 32;
        w->file = &world.own[i];
    }
    memory_setup();
    sections_setup();
    nodes_setup();
    files_setup();
}

void sim_run_program(const struct sim_program *p, struct sim_outcome *out, FILE *report)
{
    const struct sim_watch watch = {.weak = p->switches.weak,
                                    .races = p->switches.races,
                                    .tlb_entries = p->switches.tlb_entries,
                                    .speculate = p->switches.speculate};
    struct books before;

    world = (struct world){.out = out};
    sim_random_seed(p->seed);
    sim_report_to(report, on_fail);
    sim_machine_start(&p->machine, &watch);
    sim_strategy_init(&p->schedule, p->machine.cpus);
    quire_pt_cache(p->switches.pt_cache);
    if (quire_frame_set_colours(p->switches.colours ? p->switches.colours : 1) != QUIRE_OK)
        sim_fail("boot", "%u colours", p->switches.colours);
    contig_setup(p);
    before = take_books();
    make_world(p);
    for (unsigned i = 1; i <= world.nworkers; i++) {
        space_setup(&world.workers[i]);
        sim_spawn(work, &world.workers[i]);
    }
    sim_on_interrupt(p->machine.interrupt_every ? memory_interrupt : NULL);
    sim_on_hardware(space_speculate, p->switches.speculate * 8);
    monitor_all_ordered();
    sim_run();
    sim_on_interrupt(NULL);
    sim_on_hardware(NULL, 0);
    sim_spawn(finish, &before);
    sim_run();
    count_run();
}
