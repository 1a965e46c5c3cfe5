/*
 * kernel/proc/process.c - processes and their numbers.
 *
 * Purpose: everything that a program is besides its memory and files: identity, family, threads,
 * signals, death.  This folder holds the process half of Linux's system-call interface.
 *
 * Model.  A process (struct process) is a family member: parent, children, group, session, limits,
 * an exit status.  It has one or more threads (struct task), which kernel/core schedules.  It borrows
 * a quire_space, a descriptor table, a file-system context and a handler table, each of which
 * clone(2) may share.
 *
 * Life.  clone_do() makes a process or a thread.  exit_thread() ends a thread; the last one makes the
 * process a zombie, which wait4(2) of the parent reaps.
 *
 * Invariants:
 *   P1  a number is in use (pid_uses > 0) while it is a thread's tid, a process's pid, or the group or
 *       session of a process; so a number is never reused while somebody can still name it.
 *   P2  a process is in the hash, in the list and on its parent's list from creation until reaped.
 *   P3  p->space, files, fs, sighand are non-NULL until the last thread leaves, NULL in a zombie.
 *   P4  p's threads hold a reference on p each; the family holds one until it is reaped.
 *   P5  p->group_live counts threads that have not left p's memory yet; the one that takes it to 0 tears
 *       the shared parts down.
 *
 * Locking: see proc.h.  Failure: every creation is check and reserve first, then a commit under
 * proc_lock that cannot fail.
 *
 * Sources: POSIX.1-2017, the man pages clone(2), wait(2), credentials(7).
 */
#include "proc.h"

#define HASH_SIZE 1024u

struct kspin proc_lock;
struct process *process_list;
struct process *process_one;

static struct process *process_hash[HASH_SIZE];
static struct task *task_hash[HASH_SIZE];
static u16 pid_uses[PID_MAX];
static int pid_last = 1;
int pid_max = PID_MAX;
static struct quire_cache *process_cache;

static void must_create(const char *name, size_t size, struct quire_cache **out)
{
    if (quire_cache_create(name, size, 0, 0, NULL, out) != QUIRE_OK)
        kpanic("no memory for the cache %s", name);
}

void proc_caches_init(void)
{
    must_create("process", sizeof(struct process), &process_cache);
    must_create("sighand", sizeof(struct sighand), &sighand_cache);
    must_create("sigentry", sizeof(struct sigentry), &sigentry_cache);
    must_create("task_signals", sizeof(struct task_signals), &task_signals_cache);
}

struct process *process_alloc(void)
{
    struct process *p = quire_cache_alloc(process_cache, QUIRE_GFP_KERNEL);

    if (!p)
        return NULL;
    memset(p, 0, sizeof(*p));
    p->refs = 1;
    p->start_ns = ktime_ns();
    return p;
}

void process_get(struct process *p) { __atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED); }

void process_put(struct process *p)
{
    if (__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) == 0)
        quire_cache_free(process_cache, p);
}

/* ---- numbers ---- */

int pid_take_locked(int wanted)
{
    if (wanted) {
        if (wanted >= PID_MAX || wanted < 0)
            return -EINVAL;
        if (pid_uses[wanted])
            return -EEXIST;
        pid_uses[wanted] = 1;
        return wanted;
    }
    for (int n = 0; n < pid_max; n++) {
        /* Like Linux: the numbers of early daemons are not used again after the first round. */
        pid_last = pid_last + 1 >= pid_max ? 300 : pid_last + 1;
        if (pid_uses[pid_last] == 0) {
            pid_uses[pid_last] = 1;
            return pid_last;
        }
    }
    return -EAGAIN;
}

void pid_use_locked(int pid)
{
    if (pid > 0)
        pid_uses[pid]++;
}

void pid_drop_locked(int pid)
{
    if (pid > 0)
        pid_uses[pid]--;
}

/* ---- hashes and lists ---- */

struct process *process_find_locked(int pid)
{
    struct process *p;

    if (pid <= 0)
        return NULL;
    for (p = process_hash[(unsigned)pid % HASH_SIZE]; p && p->pid != pid; p = p->hash_next)
        ;
    return p;
}

struct process *process_find(int pid)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct process *p = process_find_locked(pid);

    if (p)
        process_get(p);
    kspin_unlock(&proc_lock, flags);
    return p;
}

struct task *task_find_locked(int tid)
{
    struct task *t;

    if (tid <= 0)
        return NULL;
    for (t = task_hash[(unsigned)tid % HASH_SIZE]; t && t->tid != tid; t = t->tid_next)
        ;
    return t;
}

struct task *task_find(int tid)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct task *t = task_find_locked(tid);

    if (t)
        task_get(t);
    kspin_unlock(&proc_lock, flags);
    return t;
}

void child_add_locked(struct process *parent, struct process *p)
{
    p->parent = parent;
    __atomic_store_n(&p->ppid, parent ? parent->pid : 0, __ATOMIC_RELAXED);
    p->sibling_prev = NULL;
    p->sibling_next = parent ? parent->children : NULL;
    if (p->sibling_next)
        p->sibling_next->sibling_prev = p;
    if (parent)
        parent->children = p;
}

void child_remove_locked(struct process *p)
{
    if (p->sibling_next)
        p->sibling_next->sibling_prev = p->sibling_prev;
    if (p->sibling_prev)
        p->sibling_prev->sibling_next = p->sibling_next;
    else if (p->parent)
        p->parent->children = p->sibling_next;
    p->sibling_next = p->sibling_prev = NULL;
    p->parent = NULL;
}

void process_link_locked(struct process *p, struct process *parent)
{
    struct process **bucket = &process_hash[(unsigned)p->pid % HASH_SIZE];

    p->hash_next = *bucket;
    *bucket = p;
    p->all_prev = NULL;
    p->all_next = process_list;
    if (process_list)
        process_list->all_prev = p;
    process_list = p;
    child_add_locked(parent, p);
    pid_use_locked(p->pid);
    pid_use_locked(p->pgid);
    pid_use_locked(p->sid);
}

void process_unlink_locked(struct process *p)
{
    struct process **link = &process_hash[(unsigned)p->pid % HASH_SIZE];

    while (*link != p)
        link = &(*link)->hash_next;
    *link = p->hash_next;
    if (p->all_next)
        p->all_next->all_prev = p->all_prev;
    if (p->all_prev)
        p->all_prev->all_next = p->all_next;
    else
        process_list = p->all_next;
    child_remove_locked(p);
    pid_drop_locked(p->pid);
    pid_drop_locked(p->pgid);
    pid_drop_locked(p->sid);
}

static void task_hash_add(struct task *t)
{
    struct task **bucket = &task_hash[(unsigned)t->tid % HASH_SIZE];

    t->tid_next = *bucket;
    *bucket = t;
}

static void task_hash_remove(struct task *t)
{
    struct task **link = &task_hash[(unsigned)t->tid % HASH_SIZE];

    while (*link != t)
        link = &(*link)->tid_next;
    *link = t->tid_next;
}

/* The tid comes from pid_take_locked(), whose use passes to the thread. proc_lock and siglock. */
void task_link_locked(struct task *t)
{
    struct process *p = t->proc;

    if (p->threads) {
        t->thread_next = p->threads;
        t->thread_prev = p->threads->thread_prev;
        t->thread_prev->thread_next = t;
        p->threads->thread_prev = t;
    } else {
        t->thread_next = t->thread_prev = t;
        p->threads = t;
    }
    p->nthreads++;
    task_hash_add(t);
}

void task_unlink_locked(struct task *t)
{
    struct process *p = t->proc;

    task_hash_remove(t);
    if (t->thread_next == t)
        p->threads = NULL;
    else if (p->threads == t)
        p->threads = t->thread_next;
    t->thread_next->thread_prev = t->thread_prev;
    t->thread_prev->thread_next = t->thread_next;
    t->thread_next = t->thread_prev = t;
    p->nthreads--;
    pid_drop_locked(t->tid);
}

/* exec by a thread that is not the leader: it takes the leader's number, whose use passes to it. */
void task_rehash_locked(struct task *t, int tid)
{
    task_hash_remove(t);
    pid_drop_locked(t->tid);
    t->tid = tid;
    pid_use_locked(tid);
    task_hash_add(t);
}

void process_for_each(bool (*fn)(struct process *, void *), void *ctx)
{
    unsigned long flags = kspin_lock(&proc_lock);
    struct process *p = process_list, *next;

    if (p)
        process_get(p);
    kspin_unlock(&proc_lock, flags);
    while (p) {
        bool go_on = fn(p, ctx);

        /* p may have been reaped meanwhile: then its neighbours are unknown, and the walk restarts at
         * the next lower number that is still there. */
        flags = kspin_lock(&proc_lock);
        next = NULL;
        if (go_on && process_find_locked(p->pid) == p)
            next = p->all_next;
        else if (go_on)
            for (struct process *q = process_list; q; q = q->all_next)
                if (q->start_ns <= p->start_ns) {
                    next = q;
                    break;
                }
        if (next)
            process_get(next);
        kspin_unlock(&proc_lock, flags);
        process_put(p);
        p = next;
    }
}

struct process *init_process(void) { return process_one; }

struct quire_space *process_space(struct process *p)
{
    unsigned long flags = kspin_lock(&p->siglock);
    struct quire_space *s = p->space;

    if (s)
        quire_space_get(s);
    kspin_unlock(&p->siglock, flags);
    return s;
}

/* ---- the first process ---- */

static void init_identity(struct process *p)
{
    p->pid = p->pgid = p->sid = 1;
    p->exit_signal = SIGCHLD;
    p->dumpable = 1;
    p->cap_effective = p->cap_permitted = p->cap_bounding = CAPS_ALL;
    p->group_live = 1;
    strlcpy(p->exe, "/init", sizeof(p->exe));
    limits_init(p);
}

int process_become_init(void)
{
    struct task *t = current;
    struct process *p;
    unsigned long flags;

    if (!process_cache)
        proc_caches_init();
    p = process_alloc();
    t->sig = quire_cache_alloc(task_signals_cache, QUIRE_GFP_KERNEL);
    if (!p || !t->sig)
        return -ENOMEM;
    memset(t->sig, 0, sizeof(*t->sig));
    t->sig->alt_flags = SS_DISABLE;
    t->timerslack_ns = t->default_slack_ns = 50000;
    init_identity(p);
    p->sighand = sighand_copy(NULL);
    p->files = files_new();
    p->fs = fs_context_new();
    if (!p->sighand || !p->files || !p->fs)
        return -ENOMEM;
    flags = kspin_lock(&proc_lock);
    t->tid = pid_take_locked(1);
    t->proc = p;
    process_get(p);
    process_one = p;
    process_link_locked(p, NULL);
    task_link_locked(t);
    kspin_unlock(&proc_lock, flags);
    return 0;
}
