/*
 * kernel/proc/exit.c - the end of threads and processes.
 *
 * Every thread leaves its memory, then its process; the one that finds itself the last tears down
 * what the process holds and makes it a zombie (or nothing, if nobody will ask).  The kernel stack
 * and the task go in task_exit_final(), after the CPU has left them.
 */
#include "proc.h"
#include "sysv.h"

/* clear_child_tid: glibc's and musl's join waits on this word. */
static void clear_tid_address(struct task *t)
{
    u64 at = t->clear_child_tid;

    t->clear_child_tid = 0;
    if (at && !put_user_u32(at, 0))
        futex_wake_address(at, 1);
}

void thread_memory_release(struct task *t, bool others)
{
    if (t->robust_list)
        robust_exit(t);
    pi_exit(t);
    if (others)
        clear_tid_address(t);
    t->clear_child_tid = 0;
    t->robust_list = 0;
}

/* ---- process groups that lose their last link to another group of the session: POSIX, orphaned ---- */

bool pgrp_orphaned_locked(int pgid, struct process *ignored)
{
    for (struct process *p = process_list; p; p = p->all_next) {
        /* by POSIX, process 1 is a parent like others: here it may be the user's shell */
        if (p->pgid != pgid || p == ignored || p->zombie || !p->parent)
            continue;
        if (p->parent->pgid != pgid && p->parent->sid == p->sid)
            return false;
    }
    return true;
}

static bool pgrp_stopped_locked(int pgid)
{
    for (struct process *p = process_list; p; p = p->all_next)
        if (p->pgid == pgid && p->stopped)
            return true;
    return false;
}

static void pgrp_signal_locked(int pgid, int signo)
{
    struct ksiginfo si = {.signo = signo, .code = SI_KERNEL};

    for (struct process *p = process_list; p; p = p->all_next)
        if (p->pgid == pgid && !p->zombie)
            signal_send(p, NULL, &si, NULL);
}

/* p leaves parent: did that orphan p's group, with stopped members that nobody will wake? */
static void check_orphaned_group_locked(struct process *p, struct process *parent, bool p_dies)
{
    if (!parent || parent->pgid == p->pgid || parent->sid != p->sid)
        return;
    if (pgrp_stopped_locked(p->pgid) && pgrp_orphaned_locked(p->pgid, p_dies ? p : NULL)) {
        pgrp_signal_locked(p->pgid, SIGHUP);
        pgrp_signal_locked(p->pgid, SIGCONT);
    }
}

/* ---- family ---- */

static struct process *new_parent_locked(struct process *p)
{
    for (struct process *a = p->parent; a && a != process_one; a = a->parent)
        if (a->subreaper && !a->zombie && !a->group_exit)
            return a;
    return process_one;
}

static void parent_death_signal(struct process *child)
{
    struct task *t = child->threads;
    struct ksiginfo si = {.code = SI_USER, .pid = current->tid, .uid = (int)current_process()->uid};

    if (!t)
        return;
    do {
        si.signo = t->pdeath_signal;
        if (si.signo)
            signal_send(child, t, &si, NULL);
        t = t->thread_next;
    } while (t != child->threads);
}

static void reparent_children_locked(struct process *p)
{
    struct process *heir = new_parent_locked(p), *c;

    while ((c = p->children)) {
        child_remove_locked(c);
        child_add_locked(heir, c);
        c->exit_signal = SIGCHLD;
        parent_death_signal(c);
        if (c->zombie)
            process_notify_parent_locked(c, 0, 0);
        else
            check_orphaned_group_locked(c, p, false);
    }
}

/* The parent neither wants to know nor will wait: POSIX lets the child vanish. */
static bool nobody_waits(struct process *p)
{
    struct sigaction_k act;

    if (!p->parent || p->exit_signal != SIGCHLD || !p->parent->sighand)
        return !p->parent;
    act = signal_action(p->parent, SIGCHLD);
    return act.handler == SIG_IGN || act.flags & SA_NOCLDWAIT;
}

/* ---- the last thread ---- */

/* Taken away from the sight of others first, then closed. */
static void release_shared(struct process *p)
{
    struct files *files = p->files;
    struct fs_context *fs = p->fs;
    struct sighand *h = p->sighand;
    unsigned long flags;

    ipc_exit(p);
    itimers_exit(p);
    ptimers_exit(p);
    flags = kspin_lock(&proc_lock);
    p->files = NULL;
    p->fs = NULL;
    kspin_unlock(&proc_lock, flags);
    files_put(files);
    fs_context_put(fs);
    flags = kspin_lock(&p->siglock);
    p->sighand = NULL;
    signal_queue_flush(p, &p->pending);
    kspin_unlock(&p->siglock, flags);
    sighand_put(h);
    if (p->exe_file)
        file_put(p->exe_file);
}

static void release_space(struct process *p)
{
    struct quire_space *s;
    struct quire_space_stats stats;
    unsigned long flags;

    quire_space_stats(p->space, &stats);
    p->maxrss_kib = K_MAX(p->maxrss_kib, stats.peak_rss * 4);
    flags = kspin_lock(&p->siglock);
    s = p->space;
    p->space = NULL;
    kspin_unlock(&p->siglock, flags);
    quire_space_put(s);
}

static void become_zombie_locked(struct process *p)
{
    bool reap = nobody_waits(p);

    p->zombie = true;
    p->stopped = p->group_stop = false;
    check_orphaned_group_locked(p, p->parent, true);
    reparent_children_locked(p);
    process_notify_parent_locked(p, 0, 0);
    waitq_wake_all(&p->exit_wait);
    if (reap)
        process_reap_locked(p, false);
}

static void account(struct task *t)
{
    struct process *p = t->proc;

    p->utime_ns += t->utime_ns;
    p->stime_ns += t->stime_ns;
    p->min_flt += t->min_flt;
    p->maj_flt += t->maj_flt;
    p->nvcsw += t->nvcsw;
    p->nivcsw += t->nivcsw;
}

/* Off the lists: from here on nobody finds the thread.  Then wake who waits for the count to fall. */
static void leave_process(struct task *t, bool last)
{
    struct process *p = t->proc;
    struct task_signals *sig = t->sig;
    unsigned long flags, inner;

    flags = kspin_lock(&proc_lock);
    inner = kspin_lock(&p->siglock);
    account(t);
    task_unlink_locked(t);
    signal_queue_flush(p, &sig->pending);
    t->sig = NULL;
    kspin_unlock(&p->siglock, inner);
    if (last)
        become_zombie_locked(p);
    else if (p->group_exec)
        waitq_wake_all(&p->exit_wait);
    kspin_unlock(&proc_lock, flags);
    quire_cache_free(task_signals_cache, sig);
}

/* A thread that is not the last keeps the space until it has left it: the last may overtake it. */
/* t has left its memory.  True for the last thread to do so: only then nobody uses the shared parts. */
static bool last_of_group(struct process *p, int code)
{
    unsigned long flags = kspin_lock(&p->siglock);
    bool last = --p->group_live == 0;

    if (last)
        p->exit_status = p->group_exit ? p->group_exit_code : code;
    kspin_unlock(&p->siglock, flags);
    return last;
}

_Noreturn void exit_thread(int code)
{
    struct task *t = current;
    struct process *p = t->proc;
    bool last;

    t->exiting = true;
    t->exit_code = code;
    thread_memory_release(t, p->nthreads > 1 || p->vm_shared);
    qport_preempt_disable();
    t->space = NULL;
    quire_space_activate(NULL);
    qport_preempt_enable();
    last = last_of_group(p, code);
    if (last && p == process_one)
        system_end(p->exit_status);
    if (last) {
        release_shared(p);
        release_space(p);
        vfork_release(p);
    }
    leave_process(t, last);
    (void)qport_irq_save();
    t->proc = NULL;
    process_put(p);
    task_exit_final();
}

_Noreturn void exit_group(int code)
{
    struct process *p = current_process();
    unsigned long flags = kspin_lock(&p->siglock);

    if (p->group_exit)
        code = p->group_exit_code;
    else
        signal_group_exit_locked(p, code);
    kspin_unlock(&p->siglock, flags);
    exit_thread(code);
}

long sys_exit(int code) { exit_thread((code & 0xff) << 8); }

long sys_exit_group(int code) { exit_group((code & 0xff) << 8); }
