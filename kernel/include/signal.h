/*
 * kernel/include/signal.h - signals as other parts of the kernel raise them.  See signal(7).
 */
#ifndef K_SIGNAL_H
#define K_SIGNAL_H

#include "k.h"

struct task;
struct process;
struct regs;

struct ksiginfo {
    int signo, code; /* SI_*, SEGV_*, ... */
    int err;
    int pid, uid;
    int status;
    u64 addr; /* si_addr of faults */
    u64 value;
    int timerid, overrun;
};

/* Queue to one thread / to a process; 0 or -errno.  Any context. */
int signal_task(struct task *t, const struct ksiginfo *si);
int signal_process(struct process *p, const struct ksiginfo *si);
int signal_pgrp(int pgid, const struct ksiginfo *si);
/* A synchronous fault of the current task: cannot be blocked or ignored (then it kills). */
void signal_fault(int signo, int code, u64 addr);
bool signal_pending(struct task *t);
bool signal_fatal_pending(struct task *t);
/* Way back to user mode with WORK_SIGNAL set; may not return (death). */
void signal_deliver(struct regs *r);
/* How a call that slept until a deadline goes on after a signal without handler: set fn and args, return
 * -ERESTART_RESTARTBLOCK; restart_syscall(2) then calls fn(args).  Of the current task. */
struct restart_block {
    long (*fn)(u64 *args);
    u64 args[6];
};
struct restart_block *restart_block(void);
/* pselect, ppoll, epoll_pwait: block mask (u64, user address; 0: no change) while waiting.
 * Afterwards signal_mask_restore(interrupted): if a signal ended the wait, its handler runs first. */
int signal_mask_set_user(u64 umask, size_t size);
void signal_mask_restore(bool interrupted);
/* The task is about to die as if by an uncatchable signal (OOM). */
void signal_kill(struct process *p, int signo);

#endif
