/*
 * kernel/proc/signal.c - signals: queues, who may take one, sending.
 *
 * Model.  A thread and a process have a queue each; a queue is a set of numbers and a list of what is
 * known of each signal, in order of arrival.  WORK_SIGNAL in a thread's work word says "there may be
 * something for you": senders set it, only the thread itself clears it, in signal_recalc().
 *
 * Invariants, under p->siglock:
 *   S1  a number of an entry on the list is in the set; a number may be in the set without an entry (no
 *       memory, or RLIMIT_SIGPENDING): then it is taken as a plain kill.
 *   S2  a thread that has a deliverable signal, must stop or must die has WORK_SIGNAL set.
 *   S3  numbers below 32 have at most one entry in a queue.
 *
 * Sources: signal(7), sigaction(2), POSIX.1-2017 2.4.
 */
#include "proc.h"

struct quire_cache *sighand_cache, *sigentry_cache, *task_signals_cache;

/* ---- handler tables ---- */

struct sighand *sighand_copy(struct sighand *from)
{
    struct sighand *h = quire_cache_alloc(sighand_cache, QUIRE_GFP_KERNEL);

    if (!h)
        return NULL;
    h->lock.word = 0;
    h->refs = 1;
    if (from) {
        unsigned long flags = kspin_lock(&from->lock);

        memcpy(h->action, from->action, sizeof(h->action));
        kspin_unlock(&from->lock, flags);
    } else {
        memset(h->action, 0, sizeof(h->action));
    }
    return h;
}

void sighand_put(struct sighand *h)
{
    if (__atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL) == 0)
        quire_cache_free(sighand_cache, h);
}

static struct sigaction_k action_locked(struct process *p, int signo)
{
    struct sighand *h = p->sighand;
    unsigned long flags = kspin_lock(&h->lock);
    struct sigaction_k act = h->action[signo - 1];

    kspin_unlock(&h->lock, flags);
    return act;
}

/* All default for a process that has ended. */
struct sigaction_k signal_action(struct process *p, int signo)
{
    struct sigaction_k act = {.handler = SIG_DFL};
    unsigned long flags = kspin_lock(&p->siglock);

    if (p->sighand)
        act = action_locked(p, signo);
    kspin_unlock(&p->siglock, flags);
    return act;
}

/* ---- queues; siglock held ---- */

static void entry_free(struct process *p, struct sigentry *e)
{
    if (e->counted)
        p->nsigpending--;
    if (!e->timer)
        quire_cache_free(sigentry_cache, e);
}

static void queue_append(struct signal_queue *q, struct sigentry *e)
{
    e->next = NULL;
    if (q->last)
        q->last->next = e;
    else
        q->first = e;
    q->last = e;
}

/* Take the entries out whose number is in set. */
void signal_remove(struct process *p, struct signal_queue *q, u64 set)
{
    struct sigentry **link = &q->first, *e, *last = NULL;

    q->set &= ~set;
    while ((e = *link)) {
        if (SIGBIT(e->si.signo) & set) {
            *link = e->next;
            if (e->timer)
                ptimers_signal_taken(e);
            entry_free(p, e);
        } else {
            last = e;
            link = &e->next;
        }
    }
    q->last = last;
}

void signal_queue_flush(struct process *p, struct signal_queue *q)
{
    if (q->set)
        signal_remove(p, q, ~(u64)0);
}

/* The first entry of signo into *out; more of them keep the number in the set. */
static void queue_take(struct process *p, struct signal_queue *q, int signo, struct sigentry *out)
{
    struct sigentry **link = &q->first, *prev = NULL, *e;
    bool found = false, more = false;

    *out = (struct sigentry){.si = {.signo = signo, .code = SI_USER}};
    while ((e = *link)) {
        if (e->si.signo != signo) {
            prev = e;
            link = &e->next;
        } else if (found) {
            more = true;
            break;
        } else {
            found = true;
            *link = e->next;
            if (q->last == e)
                q->last = prev;
            if (e->timer)
                ptimers_signal_taken(e);
            *out = *e;
            entry_free(p, e);
            out->timer = NULL;
        }
    }
    if (!more)
        q->set &= ~SIGBIT(signo);
}

/* Synchronous ones first, then by number, as Linux: 0 if none is in set. */
int signal_dequeue(struct task *t, u64 set, struct sigentry *out)
{
    struct process *p = t->proc;
    struct signal_queue *queues[2] = {&t->sig->pending, &p->pending};

    for (int i = 0; i < 2; i++) {
        u64 ready = queues[i]->set & set;
        int signo;

        if (!ready)
            continue;
        if (ready & SIGS_SYNC)
            ready &= SIGS_SYNC;
        signo = __builtin_ctzll(ready) + 1;
        queue_take(p, queues[i], signo, out);
        return signo;
    }
    return 0;
}

/* t is current, or new and not yet running. */
void signal_recalc(struct task *t)
{
    struct process *p = t->proc;

    if ((t->sig->pending.set | p->pending.set) & ~t->sig->mask || p->group_stop || p->cont_notify)
        task_set_work(t, WORK_SIGNAL);
    else
        __atomic_and_fetch(&t->work, ~WORK_SIGNAL, __ATOMIC_RELAXED);
}

static void notify(struct task *t)
{
    task_set_work(t, WORK_SIGNAL);
    task_wake(t);
}

bool signal_pending(struct task *t)
{
    return __atomic_load_n(&t->work, __ATOMIC_RELAXED) & WORK_SIGNAL;
}

bool signal_fatal_pending(struct task *t)
{
    return signal_pending(t) && t->sig && t->sig->pending.set & SIGBIT(SIGKILL);
}

/* ---- sending ---- */

void signal_group_exit_locked(struct process *p, int code)
{
    struct task *t = p->threads;

    p->group_exit = true;
    p->group_exit_code = code;
    p->group_stop = false;
    if (!t)
        return;
    do {
        t->sig->pending.set |= SIGBIT(SIGKILL);
        notify(t);
        t = t->thread_next;
    } while (t != p->threads);
    waitq_wake_all(&p->stop_wait);
}

static void remove_everywhere(struct process *p, u64 set)
{
    struct task *t = p->threads;

    if (p->pending.set & set)
        signal_remove(p, &p->pending, set);
    if (!t)
        return;
    do {
        if (t->sig->pending.set & set)
            signal_remove(p, &t->sig->pending, set);
        t = t->thread_next;
    } while (t != p->threads);
}

/* Stop and continue cancel each other, whatever the handlers say. */
static void stop_continue_effects(struct process *p, int signo)
{
    struct task *t;

    if (SIGBIT(signo) & SIGS_STOP)
        remove_everywhere(p, SIGBIT(SIGCONT));
    if (signo != SIGCONT && signo != SIGKILL)
        return;
    if (signo == SIGCONT)
        remove_everywhere(p, SIGS_STOP);
    if (!p->group_stop)
        return;
    p->group_stop = false;
    if (signo == SIGCONT && p->stopped) {
        p->continued = true;
        p->cont_notify = true;
    }
    p->stopped = false;
    t = p->threads;
    do {
        task_set_work(t, WORK_SIGNAL);
        t = t->thread_next;
    } while (t != p->threads);
    waitq_wake_all(&p->stop_wait);
}

static bool ignored(const struct task *t, const struct sigaction_k *act, int signo)
{
    if (!t || (t->sig->mask | t->sig->real_mask) & SIGBIT(signo))
        return false;
    return act->handler == SIG_IGN || (act->handler == SIG_DFL && SIGBIT(signo) & SIGS_IGNORED);
}

static bool takes(const struct task *t, int signo)
{
    return !t->exiting && (signo == SIGKILL || !(t->sig->mask & SIGBIT(signo)));
}

/* A thread to disturb: the running one, the leader, else the first that does not block it. */
static struct task *choose(struct process *p, int signo)
{
    struct task *t = p->threads, *fallback = NULL;

    if (current->proc == p && current->sig && takes(current, signo))
        return current;
    if (!t)
        return NULL;
    do {
        if (takes(t, signo)) {
            if (t->tid == p->pid || !signal_pending(t))
                return t;
            fallback = fallback ? fallback : t;
        }
        t = t->thread_next;
    } while (t != p->threads);
    return fallback;
}

static bool fatal(const struct task *t, const struct sigaction_k *act, int signo)
{
    if (signo == SIGKILL)
        return true;
    return act->handler == SIG_DFL && !(SIGBIT(signo) & (SIGS_IGNORED | SIGS_STOP)) &&
           !(t->sig->real_mask & SIGBIT(signo));
}

/* 0; -EAGAIN if a queued signal finds no room.  kill(2)'s own come through without their details. */
static int enqueue(struct process *p, struct signal_queue *q, const struct ksiginfo *si,
                   const u64 extra[2])
{
    bool must = si->signo >= SIGRTMIN && si->code != SI_USER;
    bool exempt = si->signo < SIGRTMIN && si->code >= 0;
    struct sigentry *e = NULL;

    if (exempt || p->nsigpending < p->rlim[RLIMIT_SIGPENDING].cur)
        e = quire_cache_alloc(sigentry_cache, QUIRE_GFP_ATOMIC);
    if (!e && must)
        return -EAGAIN;
    q->set |= SIGBIT(si->signo);
    if (!e)
        return 0;
    *e = (struct sigentry){.si = *si, .counted = true};
    if (extra)
        memcpy(e->extra, extra, sizeof(e->extra));
    p->nsigpending++;
    queue_append(q, e);
    return 0;
}

/* The signal is in a queue: wake a taker, or begin the end of the process. */
static void complete(struct process *p, struct task *only, const struct sigaction_k *act, int signo)
{
    struct task *t = only ? (takes(only, signo) ? only : NULL) : choose(p, signo);

    if (__atomic_load_n(&signalfd_wait.first, __ATOMIC_RELAXED))
        waitq_wake_all(&signalfd_wait);
    if (!t)
        return;
    if (fatal(t, act, signo) && !p->group_exit && !(SIGBIT(signo) & SIGS_CORE))
        signal_group_exit_locked(p, signo);
    notify(t);
}

/* only: to this thread of p; NULL: to the process. extra: bytes 32..47 of a queued siginfo, or NULL. */
int signal_send_locked(struct process *p, struct task *only, const struct ksiginfo *si,
                       const u64 extra[2])
{
    int signo = si->signo, err;
    struct sigaction_k act;
    struct signal_queue *q;

    if (!p->sighand || (only && !only->sig) || p->group_exit)
        return 0;
    act = action_locked(p, signo);
    stop_continue_effects(p, signo);
    if (ignored(only ? only : p->threads, &act, signo))
        return 0;
    q = only ? &only->sig->pending : &p->pending;
    if (signo < SIGRTMIN && q->set & SIGBIT(signo))
        return 0;
    err = enqueue(p, q, si, extra);
    if (!err)
        complete(p, only, &act, signo);
    return err;
}

int signal_send(struct process *p, struct task *only, const struct ksiginfo *si, const u64 extra[2])
{
    unsigned long flags = kspin_lock(&p->siglock);
    int err = signal_send_locked(p, only, si, extra);

    kspin_unlock(&p->siglock, flags);
    return err;
}

/* A timer's own entry: false if it still waits from last time. siglock held by the caller. */
bool signal_ptimer_queue(struct process *p, struct task *only, struct sigentry *e)
{
    struct signal_queue *q = only ? &only->sig->pending : &p->pending;
    struct sigaction_k act;
    int signo = e->si.signo;

    if (!p->sighand || p->group_exit)
        return true;
    act = action_locked(p, signo);
    if (ignored(only ? only : p->threads, &act, signo))
        return true;
    if (signo < SIGRTMIN && q->set & SIGBIT(signo))
        return false;
    q->set |= SIGBIT(signo);
    queue_append(q, e);
    complete(p, only, &act, signo);
    return true;
}

int signal_task(struct task *t, const struct ksiginfo *si)
{
    return t->proc ? signal_send(t->proc, t, si, NULL) : -ESRCH;
}

int signal_process(struct process *p, const struct ksiginfo *si)
{
    return signal_send(p, NULL, si, NULL);
}

int signal_pgrp(int pgid, const struct ksiginfo *si)
{
    unsigned long flags = kspin_lock(&proc_lock);
    int err = -ESRCH;

    for (struct process *p = process_list; p; p = p->all_next)
        if (p->pgid == pgid) {
            int e = signal_send(p, NULL, si, NULL);

            err = err == -ESRCH || !e ? e : err;
        }
    kspin_unlock(&proc_lock, flags);
    return err;
}

void signal_kill(struct process *p, int signo)
{
    unsigned long flags = kspin_lock(&p->siglock);

    if (!p->group_exit)
        signal_group_exit_locked(p, signo);
    kspin_unlock(&p->siglock, flags);
}

/* ---- to the current thread, whatever it blocks or ignores ---- */

static void force(const struct ksiginfo *si)
{
    struct task *t = current;
    struct process *p = t->proc;
    unsigned long flags = kspin_lock(&p->siglock), inner;
    struct sigaction_k *act = &p->sighand->action[si->signo - 1];

    inner = kspin_lock(&p->sighand->lock);
    if (act->handler == SIG_IGN || t->sig->mask & SIGBIT(si->signo)) {
        act->handler = SIG_DFL;
        t->sig->mask &= ~SIGBIT(si->signo);
    }
    kspin_unlock(&p->sighand->lock, inner);
    signal_send_locked(p, t, si, NULL);
    task_set_work(t, WORK_SIGNAL);
    kspin_unlock(&p->siglock, flags);
}

void signal_fault(int signo, int code, u64 addr)
{
    struct ksiginfo si = {.signo = signo, .code = code, .addr = addr};

    force(&si);
}

void signal_forced(int signo)
{
    struct ksiginfo si = {.signo = signo, .code = SI_KERNEL};

    force(&si);
}

/* ---- masks of the current thread ---- */

/* Signals of the process that we no longer take must find another thread. siglock held. */
static void retarget(struct process *p, u64 blocked)
{
    struct task *t = current->thread_next;
    u64 orphans = p->pending.set & blocked;

    for (; orphans && t != current; t = t->thread_next)
        if (orphans & ~t->sig->mask)
            notify(t);
}

void signal_mask_set(u64 mask)
{
    struct task *t = current;
    struct process *p = t->proc;
    unsigned long flags = kspin_lock(&p->siglock);
    u64 newly;

    mask &= ~SIGS_UNBLOCKABLE;
    newly = mask & ~t->sig->mask;
    t->sig->mask = mask;
    if (p->pending.set & newly && p->nthreads > 1)
        retarget(p, newly);
    signal_recalc(t);
    kspin_unlock(&p->siglock, flags);
}

int signal_mask_set_user(u64 umask, size_t size)
{
    u64 mask;

    if (!umask)
        return 0;
    if (size != 8)
        return -EINVAL;
    if (copy_from_user(&mask, umask, 8))
        return -EFAULT;
    current->sig->saved_mask = current->sig->mask;
    current->sig->restore_mask = true;
    signal_mask_set(mask);
    return 0;
}

void signal_mask_restore(bool interrupted)
{
    struct task_signals *s = current->sig;

    if (!s->restore_mask)
        return;
    if (interrupted && signal_pending(current))
        return; /* signal_deliver() does it, after the handler's frame is made */
    s->restore_mask = false;
    signal_mask_set(s->saved_mask);
}

struct restart_block *restart_block(void) { return &current->sig->restart; }
