/*
 * core/oom.c - out of memory: one process dies so that the rest lives.
 *
 * Badness is what its death would give back, pages mapped and its page tables, moved by
 * oom_score_adj in thousandths of all memory (proc(5)); -1000 exempts.  Only one victim is being
 * killed at a time: until its memory is back, others who run dry wait for it.
 */
#include "arch/cpu.h"
#include "signal.h"
#include "task.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

enum { SIGKILL = 9 };

struct choice {
    struct process *worst;
    i64 score;
    struct quire_space_stats stats;
};

static bool weigh(struct process *p, void *ctx)
{
    struct choice *c = ctx;
    struct quire_space_stats st;
    struct quire_space *s;
    i64 score;

    if (p->pid == 1 || p->zombie || p->oom_score_adj == -1000)
        return true;
    s = process_space(p);
    if (!s)
        return true;
    quire_space_stats(s, &st);
    quire_space_put(s);
    score = (i64)(st.rss_anon + st.rss_file + st.rss_shared + st.tables) +
            (i64)p->oom_score_adj * (i64)(quire_managed_pages() / 1000);
    if (score < 1)
        score = 1;
    if (!c->worst || score > c->score) {
        if (c->worst)
            process_put(c->worst);
        c->worst = process_find(p->pid);
        c->score = score;
        c->stats = st;
    }
    return true;
}

static struct kspin state_lock;
static int dying_pid;
static u64 dying_since_ns;

/* Is the last victim still on its way?  After a second we stop waiting for it. */
static bool still_dying(void)
{
    struct process *p = process_find(dying_pid);
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

bool oom_kill(void)
{
    struct choice c = {0};
    unsigned long flags;

    if (give_back_caches())
        return true;
    if (dying_pid && still_dying())
        return true;
    process_for_each(weigh, &c);
    if (!c.worst)
        kpanic("out of memory and no process to kill: %lu of %lu pages free",
               (unsigned long)quire_free_pages(), (unsigned long)quire_managed_pages());
    flags = kspin_lock(&state_lock);
    dying_pid = c.worst->pid;
    dying_since_ns = ktime_ns();
    kspin_unlock(&state_lock, flags);
    printk("quire: out of memory: killed pid %d (%s), score %ld, anonymous %lu KiB, files %lu KiB, "
           "tables %lu KiB, adj %d",
           c.worst->pid, c.worst->threads ? c.worst->threads->comm : "?", (long)c.score,
           (unsigned long)c.stats.rss_anon * 4,
           (unsigned long)(c.stats.rss_file + c.stats.rss_shared) * 4,
           (unsigned long)c.stats.tables * 4, c.worst->oom_score_adj);
    signal_kill(c.worst, SIGKILL);
    process_put(c.worst);
    return true;
}
