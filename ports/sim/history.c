/*
 * history.c - what happened to each frame: the last few times it was allocated, freed, or made and
 * unmade a page table.  Kept beside the machine, found by frame number, shown in reports.
 */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "symbols.h"

enum { KEPT = 6 };

struct what {
    uint64_t point;
    const void *pc;
    const char *doing;
    uint8_t kind, cpu, task, order;
};

struct frame {
    uint32_t n; /* so far; the last KEPT are there */
    struct what last[KEPT];
};

static struct frame *frames;
static uint64_t nframes;

static const char *const names[] = {
    [SIM_EVENT_FRAME_ALLOC] = "allocated",
    [SIM_EVENT_FRAME_FREE] = "freed",
    [SIM_EVENT_TABLE_ALLOC] = "made a page table",
    [SIM_EVENT_TABLE_FREE] = "a page table no more",
};

void sim_history_init(uint64_t n)
{
    free(frames);
    nframes = n;
    frames = calloc(n, sizeof *frames);
}

void sim_history_event(enum sim_event_kind kind, uint64_t pfn, unsigned order, const void *pc)
{
    const struct sim_task *t = sim_current();
    struct what w = {.point = sim_points(),
                     .pc = pc,
                     .doing = t ? t->doing : NULL,
                     .kind = (uint8_t)kind,
                     .cpu = (uint8_t)sim_cpu(),
                     .task = (uint8_t)sim_task_number(),
                     .order = (uint8_t)order};

    for (uint64_t i = pfn; frames && i < pfn + (1ull << order) && i < nframes; i++)
        frames[i].last[frames[i].n++ % KEPT] = w;
}

void sim_frame_history(uint64_t pfn)
{
    const struct frame *f = &frames[pfn];

    if (!frames || pfn >= nframes || !f->n) {
        sim_note("frame %#llx: nothing is known of it", (unsigned long long)pfn);
        return;
    }
    for (uint32_t i = f->n > KEPT ? f->n - KEPT : 0; i < f->n; i++) {
        const struct what *w = &f->last[i % KEPT];
        char where[96];

        sim_note("frame %#llx: %s, order %u, at point %llu by CPU %u task %u in %s%s%s",
                 (unsigned long long)pfn, names[w->kind], w->order, (unsigned long long)w->point,
                 w->cpu, w->task, sim_symbol(w->pc, where, sizeof where), w->doing ? ", " : "",
                 w->doing ? w->doing : "");
    }
}
