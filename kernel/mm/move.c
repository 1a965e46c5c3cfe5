/*
 * mm/move.c - memory that keeps moving: quire.move=MS on the command line.
 *
 * Every MS milliseconds a thread moves all user memory out of the next 4 MiB, and begins again at the
 * bottom when it is at the top.  No program can see it, but by its time; whatever runs on this
 * kernel is thus a test of the mover.
 */
#include "arch/cpu.h"
#include "cmdline.h"
#include "measure.h"
#include "task.h"
#include "wait.h"
#include <quire/space.h>

#define PASS_FRAMES ((4u << 20) >> QUIRE_PAGE_SHIFT)

static u64 period_ns;

/* One behind the highest frame. */
static u64 end_of_memory(void)
{
    struct quire_zone_stats z;
    u64 end = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        end = K_MAX(end, z.end.v);
    return end;
}

static void move_main(void *unused)
{
    u64 at = 0;

    (void)unused;
    for (;;) {
        u64 begin = measure_begin();

        (void)quire_space_move_range(Q_PFN(at), PASS_FRAMES);
        measure_end(MEASURE_MOVE, begin);
        at += PASS_FRAMES;
        if (at >= end_of_memory())
            at = 0;
        wait_prepare();
        wait_sleep(ktime_ns() + period_ns);
        wait_finish();
    }
}

void move_init(void)
{
    struct task *t;

    period_ns = cmdline_number("quire.move", 0) * 1000000;
    if (!period_ns)
        return;
    t = task_alloc("move", move_main, NULL);
    if (!t)
        kpanic("no memory for the mover");
    task_start(t);
}
