/*
 * kernel/proc/robust.c - locks whose owner dies: the list that a thread registers, walked when it leaves.
 *
 * The list lies in user memory and may be anything: at most ROBUST_MAX entries are followed, every access
 * may fail, and then the walk ends.  Layout: linux/futex.h, struct robust_list_head.
 */
#include "futex.h"

#define ROBUST_MAX 2048
#define HEAD_SIZE  24

static void lock_owner_died(struct task *t, u64 uaddr, bool pi)
{
    u32 seen, old, want;

    if (uaddr & 3 || get_user_u32(&seen, uaddr))
        return;
    for (;;) {
        if ((int)(seen & FUTEX_TID_MASK) != t->tid)
            return;
        want = (seen & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
        if (cmpxchg_user_u32(uaddr, seen, want, &old))
            return;
        if (old == seen)
            break;
        seen = old;
    }
    if (!pi && seen & FUTEX_WAITERS)
        futex_wake_address(uaddr, 1);
}

void robust_exit(struct task *t)
{
    u64 head = t->robust_list, entry, next, offset, pending;

    t->robust_list = 0;
    if (!head || get_user_u64(&entry, head) || get_user_u64(&offset, head + 8) ||
        get_user_u64(&pending, head + 16))
        return;
    /* Bit 0 of a link says that the lock is a PI one. */
    for (int i = 0; i < ROBUST_MAX && (entry & ~1ul) != head; i++) {
        bool bad = get_user_u64(&next, entry & ~1ul);

        if ((entry & ~1ul) != (pending & ~1ul))
            lock_owner_died(t, (entry & ~1ul) + offset, entry & 1);
        if (bad)
            return;
        entry = next;
        cond_resched();
    }
    if (pending & ~1ul)
        lock_owner_died(t, (pending & ~1ul) + offset, pending & 1);
}

long sys_set_robust_list(u64 head, size_t len)
{
    if (len != HEAD_SIZE)
        return -EINVAL;
    current->robust_list = head;
    current->robust_len = len;
    return 0;
}

long sys_get_robust_list(int tid, u64 uhead, u64 ulen)
{
    u64 head = current->robust_list;

    if (tid) {
        unsigned long flags = kspin_lock(&proc_lock);
        struct task *t = task_find_locked(tid);
        int err = 0;

        if (!t || !t->proc)
            err = -ESRCH;
        else if (!capable(CAP_SYS_PTRACE) && t->proc != current_process() &&
                 t->proc->uid != current_process()->uid)
            err = -EPERM;
        else
            head = t->robust_list;
        kspin_unlock(&proc_lock, flags);
        if (err)
            return err;
    }
    return put_user_u64(ulen, HEAD_SIZE) || put_user_u64(uhead, head) ? -EFAULT : 0;
}

long sys_set_tid_address(u64 uaddr)
{
    current->clear_child_tid = uaddr;
    return current->tid;
}
