/*
 * core/leakscan.c - the leak scan of heap=leakscan by itself: a thread of low priority that scans at a
 * period, as Linux's does; and the switches of /sys/kernel/debug/kmemleak.
 *
 * The thread scans a minute after boot, for the first programs' start is no time for it, and then every ten.
 * Whoever switches it on or gives a period has it begin at once.  It runs at nice 10 and lets others run
 * between two pieces of a scan (heapwatch.c), so that a machine with work to do hardly sees it.  A scan that is
 * under way when it is switched off goes to its end, without memory for its books it is left out: the next
 * comes.
 *
 * Off for good: no scan any more, and nothing is tracked that only the scan wanted.
 *
 * Locking: state_lock guards all state here, and nothing is called under it but wake-ups.
 */
#include "heapwatch.h"
#include "ktime.h"
#include "lock.h"
#include "sched.h"
#include "task.h"
#include "wait.h"
#include <quire/track.h>

#define FIRST_SECS  60u
#define PERIOD_SECS 600u
#define SECOND_NS   1000000000ull
#define NICE        10

static struct kspin state_lock;
static struct leakscan_state state = {.period_secs = PERIOD_SECS};
static u64 next_ns = WAIT_FOREVER; /* of the thread's next scan */
static bool stacks = true;
static struct waitq changed; /* state or next_ns */

struct leakscan_state leakscan_state(void)
{
    unsigned long flags = kspin_lock(&state_lock);
    struct leakscan_state s = state;

    kspin_unlock(&state_lock, flags);
    return s;
}

bool leakscan_enabled(void)
{
    return quire_heap_options().flags & QUIRE_HEAP_LEAKSCAN && !leakscan_state().off;
}

bool leakscan_sees_stacks(void) { return __atomic_load_n(&stacks, __ATOMIC_RELAXED); }
void leakscan_set_stacks(bool on) { __atomic_store_n(&stacks, on, __ATOMIC_RELAXED); }

/* ---- one scan ---- */

static enum quire_status scan(bool by_itself)
{
    struct quire_leak_stats s;
    enum quire_status status = quire_leak_scan(&s);
    unsigned long flags;

    if (status != QUIRE_OK)
        return status;
    flags = kspin_lock(&state_lock);
    if (s.scans > state.last.scans)
        state.last = s;
    state.by_itself += by_itself;
    kspin_unlock(&state_lock, flags);
    if (s.fresh)
        printk("kmemleak: %lu new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
               (unsigned long)s.fresh);
    return QUIRE_OK;
}

enum quire_status leakscan_now(void) { return scan(false); }

/* ---- the thread ---- */

static bool is_due(u64 *until)
{
    unsigned long flags = kspin_lock(&state_lock);
    bool due = !state.off && state.automatic && ktime_ns() >= next_ns;

    *until = state.off || !state.automatic ? WAIT_FOREVER : next_ns;
    if (due)
        next_ns = WAIT_FOREVER;
    kspin_unlock(&state_lock, flags);
    return due;
}

static void wait_until_due(void)
{
    struct waiter w;
    u64 until;

    waitq_add(&changed, &w);
    for (;;) {
        wait_prepare();
        if (is_due(&until))
            break;
        wait_sleep(until);
    }
    wait_finish();
    waitq_remove(&w);
}

static void scan_main(void *unused)
{
    (void)unused;
    for (;;) {
        unsigned long flags;

        wait_until_due();
        (void)scan(true);
        flags = kspin_lock(&state_lock);
        if (next_ns == WAIT_FOREVER) /* nobody wants it sooner */
            next_ns = ktime_ns() + state.period_secs * SECOND_NS;
        kspin_unlock(&state_lock, flags);
    }
}

void leakscan_start(void)
{
    struct task *t;

    if (!leakscan_enabled())
        return;
    t = task_alloc("kmemleak", scan_main, NULL);
    if (!t)
        kpanic("no memory for the thread that scans for leaks");
    t->nice = NICE;
    state.automatic = true;
    next_ns = ktime_ns() + FIRST_SECS * SECOND_NS;
    task_start(t);
}

/* ---- switches ---- */

void leakscan_automatic(bool on)
{
    unsigned long flags = kspin_lock(&state_lock);

    if (on && !state.automatic)
        next_ns = 0;
    state.automatic = on;
    kspin_unlock(&state_lock, flags);
    waitq_wake_all(&changed);
}

void leakscan_period(u32 secs)
{
    unsigned long flags = kspin_lock(&state_lock);

    if (secs) {
        state.period_secs = secs;
        next_ns = 0;
    }
    state.automatic = secs;
    kspin_unlock(&state_lock, flags);
    waitq_wake_all(&changed);
}

void leakscan_off(void)
{
    unsigned long flags = kspin_lock(&state_lock);

    state.off = true;
    state.automatic = false;
    kspin_unlock(&state_lock, flags);
    waitq_wake_all(&changed);
    if (!(quire_heap_options().flags & QUIRE_HEAP_TRACK))
        quire_track_stop();
}
