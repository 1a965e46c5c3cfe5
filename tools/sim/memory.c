/*
 * memory.c - what workers hold of kernel memory: patterns, giving back, handing on.
 *
 * Whoever gets memory fills it with a pattern of its own and looks at it when he gives it back or
 * hands it on: another holder, or the library, that wrote into it meanwhile is found out.  A task may
 * hand what it holds to another through a box, so that memory is freed on other CPUs and nodes than it
 * came from.  The operations themselves: frames.c, heap.c, areas.c, dma.c.
 */
#include "held.h"

static const quire_gfp gfps[] = {QUIRE_GFP_KERNEL, QUIRE_GFP_ATOMIC, QUIRE_GFP_MOVABLE,
                                 QUIRE_GFP_ZERO,   QUIRE_GFP_DMA,    QUIRE_GFP_DMA32};

quire_gfp memory_gfp(uint32_t arg) { return gfps[arg % (sizeof gfps / sizeof gfps[0])]; }

/* ---- Patterns ---- */

/* Each 8 bytes of n at p: the pattern plus its place. */
void memory_fill(void *p, size_t n, uint64_t pattern)
{
    uint64_t *word = p;

    for (size_t i = 0; i < n / 8; i++)
        word[i] = pattern + i;
    monitor_hw_write(p, n);
}

void memory_check(const void *p, size_t n, uint64_t pattern, const char *what)
{
    const uint64_t *word = p;

    for (size_t i = 0; i < n / 8; i++)
        if (word[i] != pattern + i) {
            uint64_t pa = (uintptr_t)p + i * 8 - SIM_DIRECT_BASE;

            sim_frame_history(pa >> QUIRE_PAGE_SHIFT);
            sim_fail("content", "%s at %p: byte %zu of %zu reads %#llx, its holder wrote %#llx",
                     what, p, i * 8, n, (unsigned long long)word[i],
                     (unsigned long long)(pattern + i));
        }
}

void memory_check_zero(const void *p, size_t n, const char *what)
{
    const uint64_t *word = p;

    for (size_t i = 0; i < n / 8; i++)
        if (word[i])
            sim_fail("content", "%s at %p: byte %zu of %zu is not zero but %#llx", what, p, i * 8,
                     n, (unsigned long long)word[i]);
}

uint64_t memory_pattern(struct worker *w) { return worker_random(w) | 1; }

void memory_hold_bytes(struct worker *w, struct held *h, void *p, unsigned n, enum held_kind kind)
{
    h->kind = kind;
    h->n = n;
    h->p[0] = p;
    h->pattern = memory_pattern(w);
    memory_fill(p, n, h->pattern);
}

/* ---- Giving back, handing on ---- */

void memory_give_back(struct held *h)
{
    struct held mine = *h;

    h->kind = HELD_NOTHING; /* before the points of the call: nobody else may take it */
    switch (mine.kind) {
    case HELD_NOTHING: break;
    case HELD_FRAMES: frame_give_block(&mine); break;
    case HELD_PAGES: frame_give_pages(&mine); break;
    case HELD_OBJECTS: object_give(&mine); break;
    case HELD_KMALLOC:
        memory_check(mine.p[0], mine.n, mine.pattern, "kmalloc");
        if (!(mine.pattern & 2) || !quire_kfree_ready(mine.p[0]))
            quire_kfree(mine.p[0]);
        break;
    case HELD_AREA: quire_vfree(mine.p[0]); break;
    case HELD_KV:
        kv_check(&mine, mine.n);
        quire_kvfree(mine.p[0]);
        break;
    case HELD_PERCPU: percpu_give(&mine); break;
    case HELD_PIECE: piece_give(&mine); break;
    case HELD_STACK: quire_stack_free(Q_KVA((uintptr_t)mine.p[0])); break;
    case HELD_MAPPED: dma_give_back(&mine); break;
    case HELD_CMA:
        for (unsigned i = 0; i < mine.n; i++)
            frame_check(mine.p[i], mine.pattern + i);
        cma_give(mine.p[0], mine.n);
        break;
    }
}

/* Change what the slot and the box hold: one step, as an exchange under the tasks' own lock. */
static void exchange(struct held *slot, struct held *box)
{
    struct held t = *slot;

    monitor_acquire(box);
    *slot = *box;
    *box = t;
    monitor_release(box);
}

/* ---- In interrupts ---- */

/* A driver: it takes and gives back small things, on whichever CPU. */
void memory_interrupt(void)
{
    struct held *h = &world.irq[sim_cpu()][sim_below(SIM_RANDOM_FAULTS, IRQ_SLOTS)];
    uint64_t pattern = sim_random(SIM_RANDOM_FAULTS);

    if (h->kind != HELD_NOTHING) {
        /* others may still read it */
        if (h->kind == HELD_KMALLOC && pattern & 1 && quire_kfree_rcu(h->p[0]) == QUIRE_OK)
            h->kind = HELD_NOTHING;
        else
            memory_give_back(h);
        return;
    }
    h->pattern = pattern;
    h->refs = 1;
    if (pattern & 1) {
        h->p[0] = quire_page_alloc(0, QUIRE_GFP_ATOMIC, QUIRE_NODE_ANY);
        if (!h->p[0])
            return;
        sections_check(h->p[0], 0);
        h->n = 0;
        frame_fill(h->p[0], pattern);
        h->kind = HELD_FRAMES;
    } else {
        h->n = 64 << (pattern >> 1 & 3);
        h->p[0] = quire_kmalloc(h->n, QUIRE_GFP_ATOMIC);
        if (!h->p[0])
            return;
        memory_fill(h->p[0], h->n, pattern);
        if (!dma_on() || !(pattern & 8) || !dma_hold(h, h->p[0], h->n, pattern >> 4 & 7))
            h->kind = HELD_KMALLOC;
    }
}

/* ---- Operations ---- */

bool do_memory_op(struct worker *w, const struct sim_op *op)
{
    struct held *h = &w->slots[op->arg[0] % SIM_SLOTS];

    switch (op->kind) {
    case SIM_OP_frame_send:
    case SIM_OP_object_send: exchange(h, &world.boxes[op->arg[1] % SIM_BOXES]); return true;
    default:
        return do_frame_op(w, op, h) || do_heap_op(w, op, h) || do_reader_op(w, op, h) ||
               do_watch_op(w, op) || do_arena_op(w, op, h) || do_area_op(w, op, h) ||
               do_dma_op(w, op, h) || do_misuse_op(w, op);
    }
}

/* ---- Start and end ---- */

void memory_setup(void)
{
    watch_setup();
    misuse_setup();
    heap_setup();
    readers_setup();
    arena_setup();
    dma_setup();
    guards_setup();
}

void memory_teardown(void)
{
    for (unsigned i = 0; i < SIM_BOXES; i++)
        memory_give_back(&world.boxes[i]);
    for (unsigned i = 0; i < SIM_MAX_CPUS; i++)
        for (unsigned k = 0; k < IRQ_SLOTS; k++)
            memory_give_back(&world.irq[i][k]);
    guards_teardown();
    dma_teardown();
    arena_teardown();
    readers_teardown();
    heap_teardown();
}
