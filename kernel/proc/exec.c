/*
 * kernel/proc/exec.c - execve(2): arguments in, the old program out.
 *
 * Order: read the strings, read and check the files, build the new space; then, and only then, the
 * point of no return: end the other threads, switch spaces, reset what exec resets.
 */
#include "exec.h"

#define AT_FDCWD            (-100)
#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_EMPTY_PATH       0x1000
#define O_NOFOLLOW          0x20000u

#define USER_CS 0x33
#define USER_SS 0x2b

/* ---- strings ---- */

static int strings_grow(struct exec_strings *s, size_t need)
{
    size_t cap = s->cap ? s->cap * 2 : 4096;
    char *bigger;

    while (cap < s->used + need)
        cap *= 2;
    if (cap > 2ul * EXEC_TOTAL_MAX)
        return -E2BIG;
    bigger = quire_kvrealloc(s->buf, cap, QUIRE_GFP_KERNEL);
    if (!bigger)
        return -ENOMEM;
    s->buf = bigger;
    s->cap = cap;
    return 0;
}

int exec_strings_add(struct exec_strings *s, const char *text)
{
    size_t n = strlen(text) + 1;
    int err = s->cap - s->used < n ? strings_grow(s, n) : 0;

    if (err)
        return err;
    memcpy(s->buf + s->used, text, n);
    s->used += n;
    return 0;
}

static int add_user_string(struct exec_strings *s, u64 at)
{
    for (;;) {
        size_t room = K_MIN(s->cap - s->used, (size_t)EXEC_STRING_MAX);
        long n = room ? strncpy_from_user(s->buf + s->used, at, room) : -ENAMETOOLONG;

        if (n >= 0) {
            s->used += (size_t)n + 1;
            return 0;
        }
        if (n != -ENAMETOOLONG)
            return (int)n;
        if (room == EXEC_STRING_MAX)
            return -E2BIG;
        n = strings_grow(s, room + 1);
        if (n)
            return (int)n;
    }
}

/* One vector of user pointers; a null vector counts as empty, as Linux has it. */
static int add_user_vector(struct exec_strings *s, u64 vector, unsigned *count)
{
    for (*count = 0; vector; ++*count) {
        u64 at;
        int err = get_user_u64(&at, vector + 8ul * *count);

        if (err)
            return err;
        if (!at)
            break;
        err = add_user_string(s, at);
        if (err)
            return err;
        if (s->used + 8ul * (s->argc + *count + 1) > s->limit)
            return -E2BIG;
        cond_resched();
    }
    return 0;
}

static u64 strings_limit(void)
{
    u64 quarter = current_process()->rlim[RLIMIT_STACK].cur / 4;

    return K_MAX(K_MIN(quarter, (u64)EXEC_TOTAL_MAX), (u64)EXEC_STRING_MAX);
}

static int read_user_strings(struct exec_strings *s, u64 argv, u64 envp)
{
    int err = add_user_vector(s, argv, &s->argc);

    /* A program always finds an argv[0] (Linux since 5.18). */
    if (!err && s->argc == 0) {
        err = exec_strings_add(s, "");
        s->argc = 1;
    }
    s->env_at = s->used;
    return err ? err : add_user_vector(s, envp, &s->envc);
}

static int read_kernel_strings(struct exec_strings *s, char *const argv[], char *const envp[])
{
    int err = 0;

    for (; argv[s->argc] && !err; s->argc++)
        err = exec_strings_add(s, argv[s->argc]);
    s->env_at = s->used;
    for (; envp[s->envc] && !err; s->envc++)
        err = exec_strings_add(s, envp[s->envc]);
    return err;
}

/* ---- the point of no return ---- */

/* End the other threads; the caller becomes the leader.  -EAGAIN: the process dies already. */
static int become_single(void)
{
    struct task *t = current;
    struct process *p = t->proc;
    struct waiter w;
    unsigned long flags = kspin_lock(&proc_lock);
    unsigned long inner = kspin_lock(&p->siglock);
    bool dying = p->group_exit || p->group_exec;

    if (!dying && p->nthreads > 1) {
        p->group_exec = t;
        for (struct task *o = t->thread_next; o != t; o = o->thread_next) {
            o->sig->pending.set |= SIGBIT(SIGKILL);
            task_set_work(o, WORK_SIGNAL);
            task_wake(o);
        }
    }
    kspin_unlock(&p->siglock, inner);
    kspin_unlock(&proc_lock, flags);
    if (dying)
        return -EAGAIN;
    waitq_add(&p->exit_wait, &w);
    for (;;) {
        wait_prepare();
        if (__atomic_load_n(&p->nthreads, __ATOMIC_ACQUIRE) == 1 ||
            wait_sleep_killable(WAIT_FOREVER))
            break;
    }
    wait_finish();
    waitq_remove(&w);
    flags = kspin_lock(&proc_lock);
    p->group_exec = NULL;
    dying = p->nthreads > 1;
    if (!dying && t->tid != p->pid)
        task_rehash_locked(t, p->pid);
    kspin_unlock(&proc_lock, flags);
    return dying ? -EAGAIN : 0;
}

static void switch_space(struct exec_job *job)
{
    struct task *t = current;
    struct process *p = t->proc;
    struct quire_space *old;
    unsigned long flags;

    thread_memory_release(t, p->vm_shared);
    qport_preempt_disable();
    flags = kspin_lock(&p->siglock);
    old = p->space;
    p->space = t->space = job->space;
    kspin_unlock(&p->siglock, flags);
    quire_space_activate(job->space);
    qport_preempt_enable();
    job->space = NULL;
    p->vm_shared = false;
    vfork_release(p);
    if (old)
        quire_space_put(old);
}

static void reset_signals(struct process *p, struct sighand *fresh)
{
    struct sighand *old = p->sighand;
    unsigned long flags = kspin_lock(&p->siglock);

    for (int i = 0; i < NSIG; i++)
        fresh->action[i] =
            (struct sigaction_k){.handler = old->action[i].handler == SIG_IGN ? SIG_IGN : SIG_DFL};
    p->sighand = fresh;
    current->sig->alt_sp = current->sig->alt_size = 0;
    current->sig->alt_flags = SS_DISABLE;
    current->sig->restart.fn = NULL;
    kspin_unlock(&p->siglock, flags);
    sighand_put(old);
}

static void reset_process(struct exec_job *job)
{
    struct task *t = current;
    struct process *p = t->proc;

    ptimers_exit(p);
    t->rseq_addr = 0;
    t->pdeath_signal = p->euid != p->uid || p->egid != p->gid ? 0 : t->pdeath_signal;
    t->fs_base = t->gs_base = 0;
    fpu_reset_current();
    arch_bases_load(0, 0);
    memcpy(t->comm, job->comm, sizeof(t->comm));
    if (p->exe_file)
        file_put(p->exe_file);
    p->exe_file = job->program.file;
    file_get(p->exe_file);
    inode_path(job->program.file->inode, p->exe, sizeof(p->exe));
    p->arg_start = Q_UVA(job->arg_start);
    p->arg_end = Q_UVA(job->arg_end);
    p->env_start = Q_UVA(job->env_start);
    p->env_end = Q_UVA(job->env_end);
    p->auxv_start = Q_UVA(job->auxv_start);
    p->auxv_end = Q_UVA(job->auxv_end);
    p->exit_signal = SIGCHLD;
    p->did_exec = true;
    p->dumpable = 1;
    p->keep_caps = false;
    p->personality &= ~0x0400000u; /* READ_IMPLIES_EXEC */
    if (p->euid == 0)
        p->cap_effective = p->cap_permitted = p->cap_bounding | p->cap_ambient;
    else
        p->cap_effective = p->cap_permitted = p->cap_ambient;
    limits_apply(p, current->space);
    p->suid = p->fsuid = p->euid;
    p->sgid = p->fsgid = p->egid;
    files_close_on_exec(p->files);
}

static int commit(struct exec_job *job, struct regs *r)
{
    struct process *p = current_process();
    struct sighand *fresh = sighand_copy(NULL);
    struct files *files = p->files_shared ? files_copy(p->files) : NULL;
    int err = !fresh || (p->files_shared && !files) ? -ENOMEM : become_single();

    if (err) {
        if (fresh)
            sighand_put(fresh);
        if (files)
            files_put(files);
        return err;
    }
    if (files) {
        struct files *old = p->files;

        p->files = files;
        p->files_shared = false;
        files_put(old);
    }
    switch_space(job);
    reset_signals(p, fresh);
    reset_process(job);
    *r = (struct regs){.rip = job->entry,
                       .rsp = job->sp,
                       .cs = USER_CS,
                       .ss = USER_SS,
                       .rflags = 0x202,
                       .orig_rax = (u64)-1};
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static void job_free(struct exec_job *job)
{
    exec_image_close(&job->program);
    exec_image_close(&job->interp);
    quire_kvfree(job->strings.buf);
    if (job->space)
        quire_space_put(job->space);
    quire_kfree(job);
}

static struct exec_job *job_new(void)
{
    struct exec_job *job = quire_kmalloc(sizeof(*job), QUIRE_GFP_KERNEL);

    if (!job)
        return NULL;
    memset(job, 0, offsetof(struct exec_job, execfn));
    job->execfn[0] = job->path[0] = 0;
    job->strings.limit = strings_limit();
    job->randomize =
        !(current_process()->personality & ADDR_NO_RANDOMIZE) && !cmdline_has("norandmaps");
    return job;
}

/* job->program.file, execfn and strings are set. */
static int job_run(struct exec_job *job, struct regs *r)
{
    int err;

    strlcpy(job->comm, base_name(job->execfn), sizeof(job->comm));
    strlcpy(job->path, job->execfn, sizeof(job->path));
    err = exec_image_open(job);
    if (!err)
        err = exec_build(job);
    return err ? err : commit(job, r);
}

/* ---- the calls ---- */

/* The file that dirfd and the path in job->execfn name; execfn becomes what the program is told. */
static struct file *open_at(struct exec_job *job, int dirfd, unsigned flags, int *err)
{
    struct file *f;

    *err = -ENOENT;
    if (!job->execfn[0] && !(flags & AT_EMPTY_PATH))
        return NULL;
    f = kfile_open_at(dirfd, job->execfn, flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0, err);
    if (f && job->execfn[0] != '/' && dirfd != AT_FDCWD) {
        ksnprintf(job->path, sizeof(job->path), job->execfn[0] ? "/dev/fd/%d/%s" : "/dev/fd/%d",
                  dirfd, job->execfn);
        strlcpy(job->execfn, job->path, sizeof(job->execfn));
    }
    return f;
}

long sys_execveat(int dirfd, u64 path, u64 argv, u64 envp, unsigned flags)
{
    struct exec_job *job;
    long n;
    int err = 0;

    if (flags & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    job = job_new();
    if (!job)
        return -ENOMEM;
    n = strncpy_from_user(job->execfn, path, sizeof(job->execfn));
    if (n < 0)
        err = (int)n;
    if (!err)
        job->program.file = open_at(job, dirfd, flags, &err);
    if (job->program.file)
        err = read_user_strings(&job->strings, argv, envp);
    if (!err)
        err = job_run(job, current->regs);
    job_free(job);
    return err;
}

long sys_execve(u64 path, u64 argv, u64 envp)
{
    return sys_execveat(AT_FDCWD, path, argv, envp, 0);
}

int kernel_execve(const char *path, char *const argv[], char *const envp[])
{
    struct exec_job *job;
    struct regs r;
    int err = current->proc ? 0 : process_become_init();

    if (err)
        return err;
    job = job_new();
    if (!job)
        return -ENOMEM;
    strlcpy(job->execfn, path, sizeof(job->execfn));
    job->program.file = kfile_open(path, 0, &err);
    if (job->program.file)
        err = read_kernel_strings(&job->strings, argv, envp);
    if (!err)
        err = job_run(job, &r);
    job_free(job);
    if (err)
        return err;
    task_enter_user(&r);
}
