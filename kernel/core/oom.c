/*
 * core/oom.c - out of memory: one process dies so that the rest lives.
 *
 * Badness is what its death would give back, pages mapped and its page tables, moved by
 * oom_score_adj in thousandths of all memory (proc(5)); -1000 exempts.  Only one victim is being
 * killed at a time: until its memory is back, others who run dry wait for it.  Who is dying anyway is
 * not killed again.  Whoever shares the victim's memory dies with it, or the memory would stay.
 *
 * Process 1 is often the one program that runs here: it comes last, unless most memory is its own,
 * so that nobody else's death would help.  Its death ends the machine in order, with a status.
 */
#include "arch/cpu.h"
#include "oom.h"
#include "signal.h"
#include "task.h"
#include "virtio/balloon.h"

#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

enum { SIGKILL = 9 };

struct choice {
    struct process *worst;
    i64 score;
    struct quire_space_stats stats;
    bool dying; /* somebody's memory will be back without our doing */
};

static i64 badness(const struct process *p, const struct quire_space_stats *st)
{
    i64 pages = (i64)(st->rss_anon + st->rss_file + st->rss_shared + st->tables);
    i64 score = pages + (i64)p->oom_score_adj * (i64)(quire_managed_pages() / 1000);

    if (p->pid == 1 && pages <= (i64)quire_managed_pages() / 2)
        return 0;
    return score < 1 ? 1 : score;
}

static bool weigh(struct process *p, void *ctx)
{
    struct choice *c = ctx;
    struct quire_space_stats st;
    struct quire_space *s;
    i64 score;

    if (p->zombie || (p->oom_score_adj == -1000 && p->pid != 1))
        return true;
    s = process_space(p);
    if (!s)
        return true;
    quire_space_stats(s, &st);
    quire_space_put(s);
    if (p->group_exit) {
        c->dying = true;
        return true;
    }
    score = badness(p, &st);
    if (!c->worst || score > c->score) {
        if (c->worst)
            process_put(c->worst);
        c->worst = process_find(p->pid);
        c->score = score;
        c->stats = st;
    }
    return true;
}

/* Kill p if it lives in the space ctx, which is that of the victim. */
static bool kill_sharer(struct process *p, void *ctx)
{
    struct quire_space *s = process_space(p);

    if (!s)
        return true;
    if (s == ctx && p->pid != 1)
        signal_kill(p, SIGKILL);
    quire_space_put(s);
    return true;
}

static void kill_all(struct process *p)
{
    struct quire_space *s = process_space(p);

    signal_kill(p, SIGKILL);
    if (!s)
        return;
    process_for_each(kill_sharer, s);
    quire_space_put(s);
}

static void tell(const struct choice *c)
{
    unsigned long flags = kspin_lock(&proc_lock);
    char name[sizeof(current->comm)] = "?";

    if (c->worst->threads)
        memcpy(name, c->worst->threads->comm, sizeof(name));
    kspin_unlock(&proc_lock, flags);
    printk("quire: out of memory: killed pid %d (%s), score %ld, anonymous %lu KiB, files %lu KiB, "
           "tables %lu KiB, adj %d",
           c->worst->pid, name, (long)c->score, (unsigned long)c->stats.rss_anon * 4,
           (unsigned long)(c->stats.rss_file + c->stats.rss_shared) * 4,
           (unsigned long)c->stats.tables * 4, c->worst->oom_score_adj);
}

static int dying_pid; /* under oom_lock */
static u64 dying_since_ns;

/* Is the last victim still on its way?  After a second we stop waiting for it. */
static bool still_dying(void)
{
    struct process *p = dying_pid ? process_find(dying_pid) : NULL;
    bool yes = p && !p->zombie && ktime_ns() - dying_since_ns < 1000000000;

    if (p)
        process_put(p);
    return yes;
}

/* Memory that is only kept at hand: cleared tables, freed areas, empty slabs.  True if that helped. */
static bool give_back_caches(void)
{
    u64 before = quire_free_pages();

    quire_pt_trim();
    quire_kva_purge();
    quire_heap_shrink();
    return quire_free_pages() > before + 16;
}

static void kill_chosen(const struct choice *c)
{
    dying_pid = c->worst->pid;
    dying_since_ns = ktime_ns();
    tell(c);
    kill_all(c->worst);
}

/* One at a time, so that nobody chooses by numbers from before the last death. */
static struct kmutex oom_lock;

bool oom_make_room(void)
{
    bool done;

    kmutex_lock(&oom_lock);
    done = give_back_caches() || balloon_deflate_on_oom();
    kmutex_unlock(&oom_lock);
    return done;
}

bool oom_kill(void)
{
    struct choice c = {0};

    kmutex_lock(&oom_lock);
    if (!give_back_caches() && !balloon_deflate_on_oom() && !still_dying()) {
        process_for_each(weigh, &c);
        if (!c.worst && !c.dying)
            kpanic("out of memory and no process to kill: %lu of %lu pages free",
                   (unsigned long)quire_free_pages(), (unsigned long)quire_managed_pages());
        /* process 1 alone is left, and others make room already: not yet */
        if (c.worst && (c.score || !c.dying))
            kill_chosen(&c);
    }
    kmutex_unlock(&oom_lock);
    if (c.worst)
        process_put(c.worst);
    return true;
}
