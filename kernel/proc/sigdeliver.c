/*
 * kernel/proc/sigdeliver.c - on the way back to user mode: take signals, stop, die, or enter a handler;
 * then restart the interrupted call if nothing else was to be done.
 */
#include "proc.h"

#define NR_RESTART_SYSCALL 219

/* ---- stopping ---- */

/* Wait here until continued or killed. The first thread to arrive tells the parent. */
static void park(struct process *p)
{
    struct waiter w;
    unsigned long flags = kspin_lock(&proc_lock), inner = kspin_lock(&p->siglock);
    bool tell = p->group_stop && !p->stopped;

    if (tell) {
        p->stopped = true;
        p->stop_reported = p->continued = false;
    }
    kspin_unlock(&p->siglock, inner);
    if (tell)
        process_notify_parent_locked(p, CLD_STOPPED, p->stop_sig);
    kspin_unlock(&proc_lock, flags);
    waitq_add(&p->stop_wait, &w);
    for (;;) {
        wait_prepare();
        if (!__atomic_load_n(&p->group_stop, __ATOMIC_ACQUIRE) || signal_fatal_pending(current) ||
            wait_sleep_killable(WAIT_FOREVER))
            break;
    }
    wait_finish();
    waitq_remove(&w);
}

static void tell_continued(struct process *p)
{
    unsigned long flags = kspin_lock(&proc_lock);

    process_notify_parent_locked(p, CLD_CONTINUED, SIGCONT);
    kspin_unlock(&proc_lock, flags);
}

/* Default action of a stop signal.  Terminal stops do not reach an orphaned group. */
static void begin_stop(struct process *p, int signo)
{
    unsigned long flags = kspin_lock(&proc_lock), inner;
    struct task *t;

    if (signo != SIGSTOP && pgrp_orphaned_locked(p->pgid, NULL)) {
        kspin_unlock(&proc_lock, flags);
        return;
    }
    inner = kspin_lock(&p->siglock);
    if (!p->group_exit && !(p->pending.set & SIGBIT(SIGCONT))) {
        p->group_stop = true;
        p->stop_sig = signo;
        t = p->threads;
        do {
            task_set_work(t, WORK_SIGNAL);
            if (t != current)
                task_wake(t);
            t = t->thread_next;
        } while (t != p->threads);
    }
    kspin_unlock(&p->siglock, inner);
    kspin_unlock(&proc_lock, flags);
}

/* ---- dying ---- */

static void log_death(int signo, const struct regs *r)
{
    if (cmdline_has("print-fatal-signals"))
        printk("%s[%d]: signal %d at ip %lx sp %lx, fault address %lx", current->comm, current->tid,
               signo, r->rip, r->rsp, current->trap_addr);
}

/* Default action of a signal that ends the process. */
static _Noreturn void die_of(struct process *p, const struct ksiginfo *si, const struct regs *r)
{
    unsigned long flags;

    log_death(si->signo, r);
    if (SIGBIT(si->signo) & SIGS_CORE) {
        flags = kspin_lock(&p->siglock);
        if (!p->group_exit)
            signal_group_exit_locked(p, si->signo);
        kspin_unlock(&p->siglock, flags);
        /* Two threads that die at once write one file. */
        if (!__atomic_exchange_n(&p->dumping, true, __ATOMIC_ACQ_REL) && core_dump(r, si))
            p->group_exit_code |= 0x80;
    }
    exit_group(si->signo);
}

static _Noreturn void die(struct process *p)
{
    unsigned long flags = kspin_lock(&p->siglock);
    bool for_exec = p->group_exec && p->group_exec != current && !p->group_exit;

    kspin_unlock(&p->siglock, flags);
    if (for_exec)
        exit_thread(0);
    exit_group(SIGKILL);
}

/* ---- handlers ---- */

/* The interrupted call, if there is one, ends with EINTR or will be made again. */
static void settle_call(struct regs *r, const struct sigaction_k *act)
{
    if ((i64)r->orig_rax < 0)
        return;
    switch ((i64)r->rax) {
    case -ERESTART_RESTARTBLOCK:
    case -ERESTARTNOHAND: r->rax = (u64)-EINTR; break;
    case -ERESTARTSYS:
        if (!(act->flags & SA_RESTART)) {
            r->rax = (u64)-EINTR;
            break;
        }
        /* fall through */
    case -ERESTARTNOINTR:
        r->rax = r->orig_rax;
        r->rip -= 2;
        break;
    }
    r->orig_rax = (u64)-1;
}

static void enter_handler(struct regs *r, const struct sigaction_k *act, const struct sigentry *e)
{
    struct task_signals *s = current->sig;
    u64 saved = s->restore_mask ? s->saved_mask : s->mask;
    int signo = e->si.signo;

    settle_call(r, act);
    if (sigframe_push(r, act, e, saved)) {
        if (signo == SIGSEGV)
            die_of(current_process(), &e->si, r);
        signal_forced(SIGSEGV);
        return;
    }
    s->restore_mask = false;
    signal_mask_set(s->mask | act->mask | (act->flags & SA_NODEFER ? 0 : SIGBIT(signo)));
}

static void restart_call(struct regs *r)
{
    struct task_signals *s = current->sig;

    if ((i64)r->orig_rax >= 0) {
        switch ((i64)r->rax) {
        case -ERESTARTSYS:
        case -ERESTARTNOHAND:
        case -ERESTARTNOINTR:
            r->rax = r->orig_rax;
            r->rip -= 2;
            break;
        case -ERESTART_RESTARTBLOCK:
            r->rax = NR_RESTART_SYSCALL;
            r->rip -= 2;
            break;
        }
        r->orig_rax = (u64)-1;
    }
    if (s->restore_mask) {
        s->restore_mask = false;
        signal_mask_set(s->saved_mask);
    }
}

enum verdict { NOTHING_LEFT, AGAIN, DEATH, STOP, CONTINUED, ACTION };

/* What comes next, under the lock; for ACTION the signal and what to do with it. */
static enum verdict next(struct process *p, struct sigentry *e, struct sigaction_k *act)
{
    struct task *t = current;
    unsigned long flags = kspin_lock(&p->siglock), inner;
    enum verdict v = ACTION;
    int signo;

    if (t->sig->pending.set & SIGBIT(SIGKILL) || p->group_exit) {
        v = DEATH;
    } else if (p->group_stop) {
        v = STOP;
    } else if (p->cont_notify) {
        p->cont_notify = false;
        v = CONTINUED;
    } else if (!(signo = signal_dequeue(t, ~t->sig->mask, e))) {
        signal_recalc(t);
        v = NOTHING_LEFT;
    } else {
        inner = kspin_lock(&p->sighand->lock);
        *act = p->sighand->action[signo - 1];
        if (act->handler > SIG_IGN && act->flags & SA_RESETHAND)
            p->sighand->action[signo - 1].handler = SIG_DFL;
        kspin_unlock(&p->sighand->lock, inner);
        if (act->handler == SIG_IGN || (act->handler == SIG_DFL && SIGBIT(signo) & SIGS_IGNORED))
            v = AGAIN;
    }
    kspin_unlock(&p->siglock, flags);
    return v;
}

void signal_deliver(struct regs *r)
{
    struct process *p = current_process();
    struct sigentry e;
    struct sigaction_k act;

    for (;;) {
        switch (next(p, &e, &act)) {
        case NOTHING_LEFT: restart_call(r); return;
        case AGAIN: break;
        case DEATH: die(p);
        case STOP: park(p); break;
        case CONTINUED: tell_continued(p); break;
        case ACTION:
            if (act.handler > SIG_IGN) {
                enter_handler(r, &act, &e);
            } else if (SIGBIT(e.si.signo) & SIGS_STOP) {
                begin_stop(p, e.si.signo);
            } else {
                die_of(p, &e.si, r);
            }
            break;
        }
    }
}

long sys_restart_syscall(void)
{
    struct restart_block *b = restart_block();
    long (*fn)(u64 *) = b->fn;

    b->fn = NULL;
    return fn ? fn(b->args) : -EINTR;
}
