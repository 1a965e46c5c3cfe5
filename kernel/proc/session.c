/*
 * kernel/proc/session.c - process groups and sessions.
 */
#include "proc.h"

static void move_group_locked(struct process *p, int pgid)
{
    pid_use_locked(pgid);
    pid_drop_locked(p->pgid);
    p->pgid = pgid;
}

static bool group_in_session_locked(int pgid, int sid)
{
    for (struct process *p = process_list; p; p = p->all_next)
        if (p->pgid == pgid && p->sid == sid)
            return true;
    return false;
}

static long setpgid_locked(struct process *me, struct process *p, int pgid)
{
    if (!p || (p != me && p->parent != me))
        return -ESRCH;
    if (p != me && p->sid != me->sid)
        return -EPERM;
    if (p != me && p->did_exec)
        return -EACCES;
    if (p->sid == p->pid)
        return -EPERM; /* a session leader stays */
    if (pgid != p->pid && !group_in_session_locked(pgid, me->sid))
        return -EPERM;
    if (pgid != p->pgid)
        move_group_locked(p, pgid);
    return 0;
}

long sys_setpgid(int pid, int pgid)
{
    struct process *me = current_process();
    unsigned long flags;
    long result;

    if (pid == 0)
        pid = me->pid;
    if (pgid == 0)
        pgid = pid;
    if (pgid < 0)
        return -EINVAL;
    if (pid < 0)
        return -ESRCH;
    flags = kspin_lock(&proc_lock);
    result = setpgid_locked(me, process_find_locked(pid), pgid);
    kspin_unlock(&proc_lock, flags);
    return result;
}

long sys_getpgid(int pid)
{
    struct process *p;
    long result;

    if (pid == 0)
        return current_process()->pgid;
    p = process_find(pid);
    result = p ? p->pgid : -ESRCH;
    if (p)
        process_put(p);
    return result;
}

long sys_getpgrp(void) { return current_process()->pgid; }

long sys_getsid(int pid)
{
    struct process *p;
    long result;

    if (pid == 0)
        return current_process()->sid;
    p = process_find(pid);
    result = p ? p->sid : -ESRCH;
    if (p)
        process_put(p);
    return result;
}

long sys_setsid(void)
{
    struct process *me = current_process(), *p;
    unsigned long flags = kspin_lock(&proc_lock);
    long result = me->pid;

    for (p = process_list; p; p = p->all_next)
        if (p->pgid == me->pid)
            break;
    if (p || me->sid == me->pid) {
        result = -EPERM; /* a group of this number exists */
    } else {
        move_group_locked(me, me->pid);
        pid_use_locked(me->pid);
        pid_drop_locked(me->sid);
        me->sid = me->pid;
        me->tty_sid = 0;
    }
    kspin_unlock(&proc_lock, flags);
    return result;
}
