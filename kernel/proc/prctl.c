/*
 * kernel/proc/prctl.c - prctl, arch_prctl, personality: options of a process or thread.
 */
#include "proc.h"

enum {
    PR_SET_PDEATHSIG = 1,
    PR_GET_PDEATHSIG = 2,
    PR_GET_DUMPABLE = 3,
    PR_SET_DUMPABLE = 4,
    PR_GET_KEEPCAPS = 7,
    PR_SET_KEEPCAPS = 8,
    PR_GET_TIMING = 13,
    PR_SET_TIMING = 14,
    PR_SET_NAME = 15,
    PR_GET_NAME = 16,
    PR_GET_SECCOMP = 21,
    PR_CAPBSET_READ = 23,
    PR_CAPBSET_DROP = 24,
    PR_GET_TSC = 25,
    PR_SET_TSC = 26,
    PR_SET_TIMERSLACK = 29,
    PR_GET_TIMERSLACK = 30,
    PR_SET_CHILD_SUBREAPER = 36,
    PR_GET_CHILD_SUBREAPER = 37,
    PR_SET_NO_NEW_PRIVS = 38,
    PR_GET_NO_NEW_PRIVS = 39,
    PR_GET_TID_ADDRESS = 40,
    PR_SET_THP_DISABLE = 41,
    PR_GET_THP_DISABLE = 42,
    PR_CAP_AMBIENT = 47,
    PR_GET_SECUREBITS = 27,
    PR_SET_SECUREBITS = 28
};

static long set_name(u64 uname)
{
    char name[16] = {0};
    long n = strncpy_from_user(name, uname, sizeof(name));

    if (n == -EFAULT)
        return n;
    name[15] = 0;
    memcpy(current->comm, name, sizeof(name));
    return 0;
}

static long bounding_drop(u64 cap)
{
    struct process *p = current_process();

    if (!capable(CAP_SETPCAP))
        return -EPERM;
    if (cap > CAP_LAST)
        return -EINVAL;
    p->cap_bounding &= ~(1ull << cap);
    return 0;
}

static long set_flag(bool *flag, u64 value)
{
    if (value > 1)
        return -EINVAL;
    *flag = value;
    return 0;
}

enum { TSC_ENABLE = 1, TSC_SIGSEGV };

static long set_tsc(struct task *t, u64 mode)
{
    if (mode != TSC_ENABLE && mode != TSC_SIGSEGV)
        return -EINVAL;
    qport_preempt_disable();
    t->tsc_off = mode == TSC_SIGSEGV;
    arch_tsc_allow(!t->tsc_off);
    qport_preempt_enable();
    return 0;
}

/* Capabilities that an unprivileged program keeps over exec: a subset of permitted and inheritable. */
static long ambient(u64 op, u64 cap, u64 a4, u64 a5)
{
    enum { IS_SET = 1, RAISE, LOWER, CLEAR_ALL };
    struct process *p = current_process();
    u64 bit = cap <= CAP_LAST ? 1ull << cap : 0;

    if (op == CLEAR_ALL) {
        if (cap || a4 || a5)
            return -EINVAL;
        p->cap_ambient = 0;
        return 0;
    }
    if (!bit || a4 || a5)
        return -EINVAL;
    switch (op) {
    case IS_SET: return (p->cap_ambient & bit) != 0;
    case RAISE:
        if (!(p->cap_permitted & p->cap_inheritable & bit))
            return -EPERM;
        p->cap_ambient |= bit;
        return 0;
    case LOWER: p->cap_ambient &= ~bit; return 0;
    }
    return -EINVAL;
}

long sys_prctl(int option, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct process *p = current_process();
    struct task *t = current;

    switch (option) {
    case PR_SET_PDEATHSIG:
        if (a2 > NSIG)
            return -EINVAL;
        t->pdeath_signal = (int)a2;
        return 0;
    case PR_GET_PDEATHSIG: return put_user_u32(a2, (u32)t->pdeath_signal);
    case PR_GET_DUMPABLE: return p->dumpable;
    case PR_SET_DUMPABLE:
        if (a2 > 1)
            return -EINVAL;
        p->dumpable = (int)a2;
        return 0;
    case PR_GET_KEEPCAPS: return p->keep_caps;
    case PR_SET_KEEPCAPS: return set_flag(&p->keep_caps, a2);
    case PR_GET_TIMING: return 0;
    case PR_SET_TIMING: return a2 == 0 ? 0 : -EINVAL;
    case PR_SET_NAME: return set_name(a2);
    case PR_GET_NAME: return copy_to_user(a2, t->comm, sizeof(t->comm)) ? -EFAULT : 0;
    case PR_CAPBSET_READ: return a2 > CAP_LAST ? -EINVAL : (long)(p->cap_bounding >> a2 & 1);
    case PR_CAPBSET_DROP: return bounding_drop(a2);
    case PR_GET_TSC: return put_user_u32(a2, t->tsc_off ? TSC_SIGSEGV : TSC_ENABLE);
    case PR_SET_TSC: return set_tsc(t, a2);
    case PR_SET_CHILD_SUBREAPER: p->subreaper = a2 != 0; return 0;
    case PR_GET_CHILD_SUBREAPER: return put_user_u32(a2, p->subreaper);
    case PR_SET_NO_NEW_PRIVS:
        if (a2 != 1 || a3 || a4 || a5)
            return -EINVAL;
        p->no_new_privs = true;
        return 0;
    case PR_GET_NO_NEW_PRIVS: return a2 || a3 || a4 || a5 ? -EINVAL : p->no_new_privs;
    case PR_SET_TIMERSLACK: /* kept and told; timers here fire as early as they can */
        t->timerslack_ns = a2 && (i64)a2 > 0 ? a2 : t->default_slack_ns;
        return 0;
    case PR_GET_TIMERSLACK: return (long)t->timerslack_ns;
    case PR_SET_SECUREBITS:
        return capable(CAP_SETPCAP) ? (a2 ? -EINVAL : 0) : -EPERM; /* none is offered */
    case PR_GET_SECUREBITS: return 0;
    case PR_CAP_AMBIENT: return ambient(a2, a3, a4, a5);
    case PR_GET_TID_ADDRESS: return put_user_u64(a2, t->clear_child_tid);
    default: /* a kernel without seccomp, speculation control, ... */ return -EINVAL;
    }
}

/* ---- arch_prctl ---- */

enum {
    ARCH_SET_GS = 0x1001,
    ARCH_SET_FS,
    ARCH_GET_FS,
    ARCH_GET_GS,
    ARCH_GET_CPUID = 0x1011,
    ARCH_SET_CPUID
};

long sys_arch_prctl(int code, u64 addr)
{
    struct task *t = current;

    switch (code) {
    case ARCH_SET_FS:
        if (addr >= USER_END)
            return -EPERM;
        arch_bases_load(addr, t->gs_base);
        return 0;
    case ARCH_SET_GS:
        if (addr >= USER_END)
            return -EPERM;
        arch_bases_load(t->fs_base, addr);
        return 0;
    case ARCH_GET_FS: return put_user_u64(addr, t->fs_base);
    case ARCH_GET_GS: return put_user_u64(addr, t->gs_base);
    case ARCH_GET_CPUID: return 1;       /* the instruction does not fault */
    case ARCH_SET_CPUID: return -ENODEV; /* and this CPU cannot make it */
    }
    return -EINVAL;
}

long sys_personality(u32 persona)
{
    struct process *p = current_process();
    u32 old = p->personality;

    if (persona != 0xffffffffu)
        p->personality = persona;
    return old;
}
