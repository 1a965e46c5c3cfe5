/*
 * kernel/proc/clone.c - fork, vfork, clone, clone3: new threads and processes.
 *
 * Check the flags, reserve everything, then link it under proc_lock, which cannot fail but for a
 * process that is dying.
 */
#include "proc.h"

#define CSIGNAL              0xfful
#define CLONE_VM             0x100ul
#define CLONE_FS             0x200ul
#define CLONE_FILES          0x400ul
#define CLONE_SIGHAND        0x800ul
#define CLONE_PIDFD          0x1000ul
#define CLONE_PTRACE         0x2000ul
#define CLONE_VFORK          0x4000ul
#define CLONE_PARENT         0x8000ul
#define CLONE_THREAD         0x10000ul
#define CLONE_NEWNS          0x20000ul
#define CLONE_SYSVSEM        0x40000ul
#define CLONE_SETTLS         0x80000ul
#define CLONE_PARENT_SETTID  0x100000ul
#define CLONE_CHILD_CLEARTID 0x200000ul
#define CLONE_DETACHED       0x400000ul
#define CLONE_UNTRACED       0x800000ul
#define CLONE_CHILD_SETTID   0x1000000ul
#define CLONE_NEWCGROUP      0x2000000ul
#define CLONE_NEWUTS         0x4000000ul
#define CLONE_NEWIPC         0x8000000ul
#define CLONE_NEWUSER        0x10000000ul
#define CLONE_NEWPID         0x20000000ul
#define CLONE_NEWNET         0x40000000ul
#define CLONE_IO             0x80000000ul
#define CLONE_CLEAR_SIGHAND  0x100000000ul
#define CLONE_INTO_CGROUP    0x200000000ul
#define CLONE_NEWTIME        0x80ul
#define CLONE_NEW_ALL                                                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET)

static int check_flags(const struct clone_args *a)
{
    u64 f = a->flags;

    if ((f & (CLONE_NEWNS | CLONE_FS)) == (CLONE_NEWNS | CLONE_FS) ||
        (f & (CLONE_NEWUSER | CLONE_FS)) == (CLONE_NEWUSER | CLONE_FS))
        return -EINVAL;
    if ((f & CLONE_THREAD && !(f & CLONE_SIGHAND)) || (f & CLONE_SIGHAND && !(f & CLONE_VM)))
        return -EINVAL;
    if (f & CLONE_PARENT && current_process() == process_one)
        return -EINVAL;
    if (f & CLONE_THREAD && f & (CLONE_NEWUSER | CLONE_NEWPID))
        return -EINVAL;
    if (f & CLONE_PIDFD && f & (CLONE_DETACHED | CLONE_THREAD))
        return -EINVAL;
    if (f & CLONE_SIGHAND && f & CLONE_CLEAR_SIGHAND)
        return -EINVAL;
    /* A kernel without namespaces: first the right to ask, then EINVAL. */
    if (f & CLONE_NEW_ALL)
        return f & ~CLONE_NEWUSER & CLONE_NEW_ALL && !capable(CAP_SYS_ADMIN) ? -EPERM : -EINVAL;
    if (f & CLONE_SETTLS && a->tls >= USER_END)
        return -EPERM;
    return 0;
}

/* ---- resources that a process shares or copies ---- */

static int copy_shared(struct process *p, const struct process *me, const struct clone_args *a)
{
    u64 f = a->flags;

    if (f & CLONE_VM) {
        p->space = me->space;
        quire_space_get(p->space);
    } else {
        enum quire_status st = quire_space_fork(me->space, &p->space);

        if (st != QUIRE_OK)
            return (int)kerr(st);
    }
    if (f & CLONE_FILES) {
        p->files = me->files;
        files_get(p->files);
    } else if (!(p->files = files_copy(me->files))) {
        return -ENOMEM;
    }
    if (f & CLONE_FS) {
        p->fs = me->fs;
        fs_context_get(p->fs);
    } else if (!(p->fs = fs_context_copy(me->fs))) {
        return -ENOMEM;
    }
    if (f & CLONE_SIGHAND) {
        p->sighand = me->sighand;
        __atomic_add_fetch(&p->sighand->refs, 1, __ATOMIC_RELAXED);
    } else if (!(p->sighand = sighand_copy(me->sighand))) {
        return -ENOMEM;
    }
    if (f & CLONE_CLEAR_SIGHAND)
        for (int i = 0; i < NSIG; i++)
            if (p->sighand->action[i].handler != SIG_IGN)
                p->sighand->action[i] = (struct sigaction_k){.handler = SIG_DFL};
    return 0;
}

static void drop_shared(struct process *p)
{
    if (p->space)
        quire_space_put(p->space);
    if (p->files)
        files_put(p->files);
    if (p->fs)
        fs_context_put(p->fs);
    if (p->sighand)
        sighand_put(p->sighand);
    if (p->exe_file)
        file_put(p->exe_file);
}

static void copy_identity(struct process *p, struct process *me, const struct clone_args *a)
{
    p->exit_signal = (int)a->exit_signal;
    p->uid = me->uid, p->euid = me->euid, p->suid = me->suid, p->fsuid = me->fsuid;
    p->gid = me->gid, p->egid = me->egid, p->sgid = me->sgid, p->fsgid = me->fsgid;
    p->ngroups = me->ngroups;
    memcpy(p->groups, me->groups, (size_t)me->ngroups * sizeof(p->groups[0]));
    p->cap_effective = me->cap_effective, p->cap_permitted = me->cap_permitted;
    p->cap_inheritable = me->cap_inheritable, p->cap_bounding = me->cap_bounding;
    p->cap_ambient = me->cap_ambient;
    memcpy(p->rlim, me->rlim, sizeof(p->rlim));
    p->oom_score_adj = me->oom_score_adj;
    p->dumpable = me->dumpable;
    p->personality = me->personality;
    p->tty_sid = me->tty_sid;
    p->no_new_privs = me->no_new_privs;
    p->keep_caps = me->keep_caps;
    strlcpy(p->exe, me->exe, sizeof(p->exe));
    p->exe_file = me->exe_file;
    if (p->exe_file)
        file_get(p->exe_file);
    p->arg_start = me->arg_start, p->arg_end = me->arg_end;
    p->env_start = me->env_start, p->env_end = me->env_end;
    p->auxv_start = me->auxv_start, p->auxv_end = me->auxv_end;
    p->group_live = 1;
    p->vm_shared = a->flags & CLONE_VM;
    p->files_shared = a->flags & CLONE_FILES;
}

/* RLIMIT_NPROC counts threads; root and the capable are exempt. */
static bool too_many_processes(void)
{
    struct process *me = current_process();
    u64 n = 0, limit = me->rlim[RLIMIT_NPROC].cur;
    unsigned long flags;

    if (limit == RLIM_INFINITY || me->uid == 0 || capable(CAP_SYS_RESOURCE) ||
        capable(CAP_SYS_ADMIN))
        return false;
    flags = kspin_lock(&proc_lock);
    for (struct process *p = process_list; p; p = p->all_next)
        if (p->uid == me->uid)
            n += (u64)p->nthreads;
    kspin_unlock(&proc_lock, flags);
    return n >= limit;
}

static struct process *new_process(const struct clone_args *a, int *err)
{
    struct process *me = current_process(), *p = process_alloc();

    *err = -ENOMEM;
    if (!p)
        return NULL;
    copy_identity(p, me, a);
    *err = copy_shared(p, me, a);
    if (!*err)
        return p;
    drop_shared(p);
    process_put(p);
    return NULL;
}

/* ---- threads ---- */

static struct task *new_thread(struct process *p, const struct clone_args *a)
{
    struct task *me = current, *t = task_alloc(me->comm, NULL, NULL);
    struct regs r = *me->regs;

    if (!t)
        return NULL;
    t->sig = quire_cache_alloc(task_signals_cache, QUIRE_GFP_KERNEL);
    if (!t->sig || mempolicy_clone(t, me)) {
        if (t->sig)
            quire_cache_free(task_signals_cache, t->sig);
        task_put(t);
        return NULL;
    }
    memset(t->sig, 0, sizeof(*t->sig));
    t->sig->mask = me->sig->restore_mask ? me->sig->saved_mask : me->sig->mask;
    if ((a->flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM) {
        t->sig->alt_flags = SS_DISABLE;
    } else {
        t->sig->alt_sp = me->sig->alt_sp;
        t->sig->alt_size = me->sig->alt_size;
        t->sig->alt_flags = me->sig->alt_flags;
    }
    t->proc = p;
    process_get(p);
    t->space = p->space;
    t->nice = me->nice;
    t->timerslack_ns = t->default_slack_ns = me->timerslack_ns;
    t->policy = me->policy;
    t->rt_priority = me->rt_priority;
    memcpy(t->affinity, me->affinity, sizeof(t->affinity));
    fpu_save_current();
    memcpy(t->fpu, me->fpu, fpu_size());
    t->fs_base = a->flags & CLONE_SETTLS ? a->tls : me->fs_base;
    t->gs_base = me->gs_base;
    t->clear_child_tid = a->flags & CLONE_CHILD_CLEARTID ? a->child_tid : 0;
    if (!(a->flags & CLONE_VM)) {
        t->rseq_addr = me->rseq_addr;
        t->rseq_sig = me->rseq_sig;
    }
    t->start_ns = ktime_ns();
    t->tsc_off = me->tsc_off;
    t->vfork_child = a->flags & CLONE_VFORK;
    if (a->stack)
        r.rsp = a->stack + a->stack_size;
    r.rax = 0;
    r.orig_rax = (u64)-1;
    task_set_user(t, &r);
    return t;
}

static void drop_thread(struct task *t)
{
    struct process *p = t->proc;

    quire_cache_free(task_signals_cache, t->sig);
    t->sig = NULL;
    t->proc = NULL;
    t->space = NULL;
    process_put(p);
    task_put(t);
}

/* ---- the commit ---- */

static int take_number(const struct clone_args *a)
{
    u32 wanted = 0;

    if (a->set_tid_size && get_user_u32(&wanted, a->set_tid))
        return -EFAULT;
    return (int)wanted;
}

/* 0, or -errno with nothing linked. */
static int link_new(struct task *t, const struct clone_args *a, int wanted)
{
    struct process *p = t->proc, *me = current_process();
    unsigned long flags = kspin_lock(&proc_lock), inner;
    int tid = pid_take_locked(wanted), err = 0;

    if (tid < 0) {
        kspin_unlock(&proc_lock, flags);
        return tid;
    }
    inner = kspin_lock(&me->siglock);
    if (me->group_exit || me->group_exec || signal_fatal_pending(current))
        err = -ERESTARTNOINTR;
    if (!err && p == me) {
        t->tid = tid;
        me->group_live++;
        task_link_locked(t);
    }
    kspin_unlock(&me->siglock, inner);
    if (err) {
        pid_drop_locked(tid);
    } else if (p != me) {
        t->tid = p->pid = tid;
        p->pgid = me->pgid;
        p->sid = me->sid;
        if (a->flags & CLONE_PARENT)
            p->exit_signal = me->exit_signal;
        process_link_locked(p, a->flags & CLONE_PARENT ? me->parent : me);
        task_link_locked(t);
        if (a->flags & CLONE_VM)
            me->vm_shared = true;
        if (a->flags & CLONE_FILES)
            me->files_shared = true;
    }
    kspin_unlock(&proc_lock, flags);
    return err;
}

/* The child's own copy of its tid is written before it runs: failure is passed over, as in Linux. */
static void store_tids(struct task *t, const struct clone_args *a)
{
    u32 tid = (u32)t->tid;
    size_t done;

    if (a->flags & CLONE_PARENT_SETTID)
        (void)put_user_u32(a->parent_tid, tid);
    if (a->flags & CLONE_CHILD_SETTID)
        (void)quire_space_write(t->space, Q_UVA(a->child_tid), &tid, sizeof(tid), false, &done);
}

/* Until the child runs another program or ends; only death interrupts. */
static void vfork_sleep(struct process *child, struct vfork_wait *v)
{
    struct waiter w;
    unsigned long flags;

    waitq_add(&v->q, &w);
    for (;;) {
        wait_prepare();
        if (__atomic_load_n(&v->done, __ATOMIC_ACQUIRE) || wait_sleep_killable(WAIT_FOREVER))
            break;
    }
    wait_finish();
    waitq_remove(&w);
    /* The child signals under proc_lock: after this it cannot touch our stack any more. */
    flags = kspin_lock(&proc_lock);
    if (child->vfork_wait == v)
        child->vfork_wait = NULL;
    kspin_unlock(&proc_lock, flags);
}

void vfork_release(struct process *p)
{
    unsigned long flags;
    struct vfork_wait *v;

    if (!p->vfork_wait)
        return;
    flags = kspin_lock(&proc_lock);
    v = p->vfork_wait;
    if (v) {
        p->vfork_wait = NULL;
        __atomic_store_n(&v->done, true, __ATOMIC_RELEASE);
        waitq_wake_all(&v->q);
    }
    kspin_unlock(&proc_lock, flags);
}

/* A descriptor for the child, number stored for the caller.  -errno: nothing is left open. */
static int install_pidfd(struct process *p, const struct clone_args *a)
{
    struct file *f;
    int err = pidfd_make(p, 0, &f), fd;

    if (err)
        return err;
    fd = fd_install(f, true, 0);
    if (fd < 0) {
        file_put(f);
        return fd;
    }
    if (put_user_u32(a->pidfd, (u32)fd)) {
        fd_close(fd);
        return -EFAULT;
    }
    return fd;
}

static void abandon(struct task *t, struct process *p)
{
    bool process = p != current_process();

    drop_thread(t);
    if (process) {
        drop_shared(p);
        process_put(p);
    }
}

/* Link and start t; v is the caller's if it waits for the child, else NULL. */
static long clone_commit(struct task *t, struct process *p, const struct clone_args *a, int wanted,
                         struct vfork_wait *v)
{
    int tid, err, fd = a->flags & CLONE_PIDFD ? install_pidfd(p, a) : 0;

    if (fd < 0) {
        abandon(t, p);
        return fd;
    }
    p->vfork_wait = v ? v : p->vfork_wait;
    err = link_new(t, a, wanted);
    if (err) {
        if (a->flags & CLONE_PIDFD)
            fd_close(fd);
        abandon(t, p);
        return err;
    }
    store_tids(t, a);
    tid = t->tid;
    if (v)
        process_get(p);
    task_start(t);
    if (v) {
        vfork_sleep(p, v);
        process_put(p);
    }
    return tid;
}

long clone_do(const struct clone_args *a)
{
    struct process *me = current_process(), *p = me;
    struct vfork_wait v = {0};
    struct task *t;
    int err = check_flags(a), wanted;

    if (err)
        return err;
    /* A signal that is there already is taken by the parent alone. */
    if (signal_pending(current))
        return -ERESTARTNOINTR;
    if (too_many_processes())
        return -EAGAIN;
    wanted = take_number(a);
    if (wanted < 0)
        return wanted;
    if (!(a->flags & CLONE_THREAD) && !(p = new_process(a, &err)))
        return err;
    t = new_thread(p, a);
    if (!t) {
        if (p != me) {
            drop_shared(p);
            process_put(p);
        }
        return -ENOMEM;
    }
    return clone_commit(t, p, a, wanted, a->flags & CLONE_VFORK && p != me ? &v : NULL);
}

/* ---- the calls ---- */

long sys_fork(void)
{
    struct clone_args a = {.exit_signal = SIGCHLD};

    return clone_do(&a);
}

long sys_vfork(void)
{
    struct clone_args a = {.flags = CLONE_VFORK | CLONE_VM, .exit_signal = SIGCHLD};

    return clone_do(&a);
}

long sys_clone(u64 flags, u64 stack, u64 parent_tid, u64 child_tid, u64 tls)
{
    struct clone_args a = {.flags = (u32)(flags & ~CSIGNAL),
                           .exit_signal = flags & CSIGNAL,
                           .stack = stack,
                           .parent_tid = parent_tid,
                           .child_tid = child_tid,
                           .pidfd = parent_tid,
                           .tls = tls};

    /* One argument cannot carry both. */
    if ((a.flags & (CLONE_PIDFD | CLONE_PARENT_SETTID)) == (CLONE_PIDFD | CLONE_PARENT_SETTID))
        return -EINVAL;
    return clone_do(&a);
}

/* The structure may be longer than ours if the rest is zero. */
static int read_clone_args(struct clone_args *a, u64 at, size_t size)
{
    u8 rest[64];

    memset(a, 0, sizeof(*a));
    if (size < 64)
        return -EINVAL;
    if (size > QUIRE_PAGE_SIZE)
        return -E2BIG;
    if (copy_from_user(a, at, K_MIN(size, sizeof(*a))))
        return -EFAULT;
    for (size_t off = sizeof(*a); off < size; off += sizeof(rest)) {
        size_t n = K_MIN(size - off, sizeof(rest));

        if (copy_from_user(rest, at + off, n))
            return -EFAULT;
        for (size_t i = 0; i < n; i++)
            if (rest[i])
                return -E2BIG;
    }
    return 0;
}

long sys_clone3(u64 uargs, size_t size)
{
    struct clone_args a;
    int err = read_clone_args(&a, uargs, size);

    if (err)
        return err;
    if (a.set_tid_size > 32 || !a.set_tid != !a.set_tid_size)
        return -EINVAL;
    if (a.exit_signal & ~CSIGNAL || a.exit_signal > NSIG)
        return -EINVAL;
    if (a.flags & ~(0xfffffffful | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP))
        return -EINVAL;
    if (a.flags & (CLONE_DETACHED | (CSIGNAL & ~CLONE_NEWTIME)))
        return -EINVAL;
    if (a.flags & (CLONE_NEWTIME | CLONE_INTO_CGROUP))
        return -EINVAL;
    if (a.flags & (CLONE_THREAD | CLONE_PARENT) && a.exit_signal)
        return -EINVAL;
    if (!a.stack != !a.stack_size || !user_range_ok(a.stack, a.stack_size))
        return -EINVAL;
    if (a.set_tid_size > 1)
        return -EINVAL; /* one level of process numbers */
    if (a.set_tid_size) {
        u32 wanted;

        if (get_user_u32(&wanted, a.set_tid))
            return -EFAULT;
        if ((int)wanted < 1 || wanted >= PID_MAX)
            return -EINVAL;
        if (!capable(CAP_SYS_ADMIN))
            return -EPERM;
    }
    return clone_do(&a);
}

long sys_unshare(u64 flags)
{
    struct process *me = current_process();

    if (flags & ~(CLONE_THREAD | CLONE_FS | CLONE_NEWNS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES |
                  CLONE_SYSVSEM | CLONE_NEW_ALL | CLONE_NEWTIME))
        return -EINVAL;
    if (flags & (CLONE_NEW_ALL | CLONE_NEWTIME))
        return capable(CAP_SYS_ADMIN) ? -EINVAL : -EPERM;
    if (flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) && me->nthreads > 1)
        return -EINVAL;
    if (flags & (CLONE_SIGHAND | CLONE_VM) && me->vm_shared)
        return -EINVAL;
    if (flags & CLONE_FS) {
        struct fs_context *fs = fs_context_copy(me->fs), *old = me->fs;

        if (!fs)
            return -ENOMEM;
        me->fs = fs;
        fs_context_put(old);
    }
    if (flags & CLONE_FILES) {
        struct files *files = files_copy(me->files), *old = me->files;

        if (!files)
            return -ENOMEM;
        me->files = files;
        me->files_shared = false;
        files_put(old);
    }
    return 0;
}

long sys_setns(int fd, int type)
{
    struct file *f = fd_get(fd);

    (void)type;
    if (!f)
        return -EBADF;
    file_put(f);
    return -EINVAL; /* no file here is a namespace */
}
