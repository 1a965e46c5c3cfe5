/*
 * fs/procpid.c - /proc/PID: what the world may know of a process (proc(5)).
 *
 * key is the process number, and for what belongs to one thread its number in the upper half.  A
 * process that ended meanwhile gives ESRCH; memory is read only by its owner and root.
 */
#include "../proc/proc.h"
#include "gen.h"
#include "procpid.h"

#define NS_PER_TICK 10000000ull
#define PID_BASE    1000u /* position of process 0 in the list of /proc */

int key_pid(u64 key) { return (int)(u32)key; }
int key_tid(u64 key) { return key >> 32 ? (int)(key >> 32) : key_pid(key); }

struct quire_space *key_space(u64 key, int *err)
{
    struct process *p = process_find(key_pid(key));
    struct quire_space *s;

    *err = -ESRCH;
    if (!p)
        return NULL;
    *err = 0;
    if (fs_uid() && fs_uid() != p->euid)
        *err = -EACCES;
    s = *err ? NULL : process_space(p);
    process_put(p);
    return s; /* NULL and no error: it has no memory (any more) */
}

/* ---- numbers ---- */

static char state_of(const struct process *p, const struct task *t)
{
    if (p->zombie || !t)
        return 'Z';
    if (p->stopped)
        return 'T';
    switch (t->state) {
    case TASK_RUNNABLE: return 'R';
    case TASK_SLEEPING: return 'S';
    case TASK_STOPPED: return 'T';
    case TASK_ZOMBIE: return 'Z';
    default: return 'X';
    }
}

static const char *state_name(char c)
{
    switch (c) {
    case 'R': return "R (running)";
    case 'S': return "S (sleeping)";
    case 'T': return "T (stopped)";
    case 'Z': return "Z (zombie)";
    default: return "X (dead)";
    }
}

/* What a file about a process needs, taken at one moment under proc_lock. */
struct snapshot {
    int pid, tid, ppid, pgid, sid, nthreads, nice, policy, rt_priority, cpu, exit_signal;
    char comm[16], state;
    u64 utime, stime, cutime, cstime, start;
    u64 min_flt, maj_flt, cmin_flt, cmaj_flt, nvcsw, nivcsw;
    u32 uid[4], gid[4], groups[32];
    int ngroups;
    u64 sig_pending, shd_pending, blocked, ignored, caught;
    u64 cap[4];
    u64 affinity[4];
    u64 arg_start, arg_end, env_start, env_end, stack_limit, sigq, sigq_limit, nfds;
    bool no_new_privs;
    unsigned umask;
};

static void take_signals(struct snapshot *s, struct process *p, struct task *t)
{
    unsigned long flags = kspin_lock(&p->siglock);

    s->shd_pending = p->pending.set;
    if (t && t->sig) {
        s->sig_pending = t->sig->pending.set;
        s->blocked = t->sig->mask;
    }
    if (p->sighand) {
        for (int n = 1; n <= NSIG; n++) {
            u64 h = p->sighand->action[n - 1].handler;

            if (h == SIG_IGN)
                s->ignored |= SIGBIT(n);
            else if (h != SIG_DFL)
                s->caught |= SIGBIT(n);
        }
    }
    kspin_unlock(&p->siglock, flags);
}

static void take_ids(struct snapshot *s, const struct process *p)
{
    u32 uid[4] = {p->uid, p->euid, p->suid, p->fsuid},
        gid[4] = {p->gid, p->egid, p->sgid, p->fsgid};
    u64 cap[4] = {p->cap_inheritable, p->cap_permitted, p->cap_effective, p->cap_bounding};

    memcpy(s->uid, uid, sizeof uid);
    memcpy(s->gid, gid, sizeof gid);
    memcpy(s->cap, cap, sizeof cap);
    s->ngroups = p->ngroups;
    memcpy(s->groups, p->groups, sizeof s->groups);
    s->no_new_privs = p->no_new_privs;
}

static void take_thread(struct snapshot *s, const struct task *t)
{
    memcpy(s->comm, t->comm, sizeof s->comm);
    s->nice = t->nice;
    s->policy = t->policy;
    s->rt_priority = t->rt_priority;
    s->cpu = t->cpu;
    memcpy(s->affinity, t->affinity, sizeof s->affinity);
}

static struct task *thread_of(struct process *p, int tid)
{
    struct task *t = p->threads;

    if (!t)
        return NULL;
    do {
        if (t->tid == tid)
            return t;
        t = t->thread_next;
    } while (t != p->threads);
    return tid == p->pid ? t : NULL; /* the first thread may have gone before the others */
}

static void take_times(struct snapshot *s, struct process *p, struct task *t, bool one)
{
    struct task *k = p->threads;

    if (one) {
        s->utime = t->utime_ns;
        s->stime = t->stime_ns;
        s->min_flt = t->min_flt;
        s->maj_flt = t->maj_flt;
        s->nvcsw = t->nvcsw;
        s->nivcsw = t->nivcsw;
        return;
    }
    s->utime = p->utime_ns;
    s->stime = p->stime_ns;
    s->min_flt = p->min_flt;
    s->maj_flt = p->maj_flt;
    if (!k)
        return;
    do {
        s->utime += k->utime_ns;
        s->stime += k->stime_ns;
        s->min_flt += k->min_flt;
        s->maj_flt += k->maj_flt;
        k = k->thread_next;
    } while (k != p->threads);
    s->nvcsw = t ? t->nvcsw : 0;
    s->nivcsw = t ? t->nivcsw : 0;
}

static int take(struct snapshot *s, u64 key)
{
    struct process *p = process_find(key_pid(key));
    unsigned long flags;
    struct task *t;

    if (!p)
        return -ESRCH;
    memset(s, 0, sizeof *s);
    flags = kspin_lock(&proc_lock);
    t = thread_of(p, key_tid(key));
    s->pid = p->pid;
    s->tid = key_tid(key);
    s->ppid = p->parent ? p->parent->pid : 0;
    s->pgid = p->pgid;
    s->sid = p->sid;
    s->nthreads = p->nthreads;
    s->exit_signal = p->exit_signal;
    s->state = state_of(p, t);
    if (t)
        take_thread(s, t);
    take_times(s, p, t, key >> 32 && t);
    take_ids(s, p);
    take_signals(s, p, t);
    s->cutime = p->cutime_ns;
    s->cstime = p->cstime_ns;
    s->cmin_flt = p->cmin_flt;
    s->cmaj_flt = p->cmaj_flt;
    s->start = p->start_ns;
    s->arg_start = p->arg_start.v;
    s->arg_end = p->arg_end.v;
    s->env_start = p->env_start.v;
    s->env_end = p->env_end.v;
    s->stack_limit = p->rlim[RLIMIT_STACK].cur;
    s->sigq = p->nsigpending;
    s->sigq_limit = p->rlim[RLIMIT_SIGPENDING].cur;
    if (!p->zombie && p->files)
        s->nfds = files_capacity(p->files);
    s->umask = !p->zombie && p->fs ? p->fs->umask : 0;
    kspin_unlock(&proc_lock, flags);
    process_put(p);
    return 0;
}

static void space_stats(u64 key, struct quire_space_stats *out)
{
    struct process *p = process_find(key_pid(key));
    struct quire_space *s = p ? process_space(p) : NULL;

    memset(out, 0, sizeof *out);
    if (s) {
        quire_space_stats(s, out);
        quire_space_put(s);
    }
    if (p)
        process_put(p);
}

static unsigned long rss(const struct quire_space_stats *st)
{
    return (unsigned long)(st->rss_anon + st->rss_file + st->rss_shared);
}

static int show_stat(struct text *t, u64 key)
{
    struct snapshot s;
    struct quire_space_stats st;
    int err = take(&s, key), tty = console_session(s.sid);

    if (err)
        return err;
    space_stats(key, &st);
    text_printf(t, "%d (%s) %c %d %d %d %d %d 0 %lu %lu %lu %lu %lu %lu %lu %lu ", s.tid, s.comm,
                s.state, s.ppid, s.pgid, s.sid, tty ? (int)MAKEDEV(5, 1) : 0, tty ? tty : -1,
                (unsigned long)s.min_flt, (unsigned long)s.cmin_flt, (unsigned long)s.maj_flt,
                (unsigned long)s.cmaj_flt, (unsigned long)(s.utime / NS_PER_TICK),
                (unsigned long)(s.stime / NS_PER_TICK), (unsigned long)(s.cutime / NS_PER_TICK),
                (unsigned long)(s.cstime / NS_PER_TICK));
    text_printf(t, "%d %d %d 0 %lu %lu %lu %lu 1 1 %lu 0 0 ",
                s.policy ? -1 - s.rt_priority : 20 + s.nice, s.nice, s.nthreads,
                (unsigned long)(s.start / NS_PER_TICK), (unsigned long)(st.total << 12), rss(&st),
                (unsigned long)s.stack_limit, (unsigned long)st.stack_top.v);
    text_printf(t, "%lu %lu %lu %lu 0 0 0 %d %d %u %u 0 0 0 0 0 %lu %lu %lu %lu %lu 0\n",
                (unsigned long)(s.sig_pending & 0x7fffffff),
                (unsigned long)(s.blocked & 0x7fffffff), (unsigned long)(s.ignored & 0x7fffffff),
                (unsigned long)(s.caught & 0x7fffffff), s.exit_signal, s.cpu,
                (unsigned)s.rt_priority, (unsigned)s.policy, (unsigned long)st.brk_start.v,
                (unsigned long)s.arg_start, (unsigned long)s.arg_end, (unsigned long)s.env_start,
                (unsigned long)s.env_end);
    return 0;
}

static int show_statm(struct text *t, u64 key)
{
    struct quire_space_stats st;

    space_stats(key, &st);
    text_printf(t, "%lu %lu %lu %lu 0 %lu 0\n", (unsigned long)st.total, rss(&st),
                (unsigned long)(st.rss_file + st.rss_shared), (unsigned long)st.exec,
                (unsigned long)(st.data + st.stack));
    return 0;
}

static void cpu_list(struct text *t, const u64 mask[4])
{
    const char *sep = "";

    for (unsigned a = 0; a < cpus_online(); a++) {
        unsigned b = a;

        if (!(mask[a / 64] >> a % 64 & 1))
            continue;
        while (b + 1 < cpus_online() && (mask[(b + 1) / 64] >> (b + 1) % 64 & 1))
            b++;
        if (a == b)
            text_printf(t, "%s%u", sep, a);
        else
            text_printf(t, "%s%u-%u", sep, a, b);
        sep = ",";
        a = b;
    }
}

static void status_memory(struct text *t, const struct quire_space_stats *st)
{
    static const char format[] =
        "VmPeak:\t%8lu kB\nVmSize:\t%8lu kB\nVmLck:\t%8lu kB\nVmPin:\t%8lu kB\n";

    if (!st->total)
        return;
    text_printf(t, format, (unsigned long)(K_MAX(st->peak_total, st->total) << 2),
                (unsigned long)(st->total << 2), (unsigned long)(st->locked << 2), 0ul);
    text_printf(t,
                "VmHWM:\t%8lu kB\nVmRSS:\t%8lu kB\nRssAnon:\t%8lu kB\nRssFile:\t%8lu "
                "kB\nRssShmem:\t%8lu kB\n",
                (unsigned long)(K_MAX(st->peak_rss, (u64)rss(st)) << 2), rss(st) << 2,
                (unsigned long)(st->rss_anon << 2), (unsigned long)(st->rss_file << 2),
                (unsigned long)(st->rss_shared << 2));
    text_printf(
        t,
        "VmData:\t%8lu kB\nVmStk:\t%8lu kB\nVmExe:\t%8lu kB\nVmLib:\t%8lu kB\nVmPTE:\t%8lu kB\n"
        "VmSwap:\t%8lu kB\nHugetlbPages:\t%8lu kB\nCoreDumping:\t0\nTHP_enabled:\t1\n",
        (unsigned long)(st->data << 2), (unsigned long)(st->stack << 2),
        (unsigned long)(st->exec << 2), 0ul, (unsigned long)(st->tables << 2), 0ul, 0ul);
}

static int show_status(struct text *t, u64 key)
{
    struct snapshot s;
    struct quire_space_stats st;
    int err = take(&s, key);

    if (err)
        return err;
    space_stats(key, &st);
    text_printf(t,
                "Name:\t%s\nUmask:\t%04o\nState:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%"
                "d\nTracerPid:\t0\n",
                s.comm, s.umask, state_name(s.state), s.pid, s.tid, s.ppid);
    text_printf(t, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t%lu\nGroups:\t", s.uid[0],
                s.uid[1], s.uid[2], s.uid[3], s.gid[0], s.gid[1], s.gid[2], s.gid[3],
                (unsigned long)s.nfds);
    for (int k = 0; k < s.ngroups; k++)
        text_printf(t, "%u ", s.groups[k]);
    text_printf(t, "\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", s.pid, s.tid, s.pgid,
                s.sid);
    status_memory(t, &st);
    text_printf(
        t, "Threads:\t%d\nSigQ:\t%lu/%lu\nSigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\n",
        s.nthreads, (unsigned long)s.sigq, (unsigned long)s.sigq_limit,
        (unsigned long)s.sig_pending, (unsigned long)s.shd_pending, (unsigned long)s.blocked);
    text_printf(t, "SigIgn:\t%016lx\nSigCgt:\t%016lx\n", (unsigned long)s.ignored,
                (unsigned long)s.caught);
    text_printf(
        t, "CapInh:\t%016lx\nCapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\nCapAmb:\t%016lx\n",
        (unsigned long)s.cap[0], (unsigned long)s.cap[1], (unsigned long)s.cap[2],
        (unsigned long)s.cap[3], 0ul);
    text_printf(t,
                "NoNewPrivs:\t%d\nSeccomp:\t0\nSeccomp_filters:\t0\nCpus_allowed:\t%lx\nCpus_"
                "allowed_list:\t",
                s.no_new_privs,
                (unsigned long)(s.affinity[0] & ((1ull << K_MIN(cpus_online(), 63u)) - 1)));
    cpu_list(t, s.affinity);
    text_printf(t, "\nMems_allowed:\t%lx\nMems_allowed_list:\t0", (1ul << quire_nodes()) - 1);
    if (quire_nodes() > 1)
        text_printf(t, "-%u", quire_nodes() - 1);
    text_printf(t, "\nvoluntary_ctxt_switches:\t%lu\nnonvoluntary_ctxt_switches:\t%lu\n",
                (unsigned long)s.nvcsw, (unsigned long)s.nivcsw);
    return 0;
}

static int show_comm(struct text *t, u64 key)
{
    struct snapshot s;
    int err = take(&s, key);

    if (!err)
        text_printf(t, "%s\n", s.comm);
    return err;
}

static int store_comm(const char *p, size_t n, u64 key)
{
    struct task *t = task_find(key_tid(key));

    if (!t)
        return -ESRCH;
    if (t->proc != current->proc) {
        task_put(t);
        return -EINVAL;
    }
    while (n && p[n - 1] == '\n')
        n--;
    n = K_MIN(n, sizeof t->comm - 1);
    memset(t->comm, 0, sizeof t->comm);
    memcpy(t->comm, p, n);
    task_put(t);
    return 0;
}

/* ---- limits, scores ---- */

static int show_limits(struct text *t, u64 key)
{
    static const struct {
        const char *name, *unit;
    } rows[RLIMITS] = {
        {"Max cpu time", "seconds"},     {"Max file size", "bytes"},
        {"Max data size", "bytes"},      {"Max stack size", "bytes"},
        {"Max core file size", "bytes"}, {"Max resident set", "bytes"},
        {"Max processes", "processes"},  {"Max open files", "files"},
        {"Max locked memory", "bytes"},  {"Max address space", "bytes"},
        {"Max file locks", "locks"},     {"Max pending signals", "signals"},
        {"Max msgqueue size", "bytes"},  {"Max nice priority", ""},
        {"Max realtime priority", ""},   {"Max realtime timeout", "us"},
    };
    struct process *p = process_find(key_pid(key));

    if (!p)
        return -ESRCH;
    text_printf(t, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (unsigned k = 0; k < RLIMITS; k++) {
        char cur[24] = "unlimited", max[24] = "unlimited";

        if (p->rlim[k].cur != RLIM_INFINITY)
            ksnprintf(cur, sizeof cur, "%lu", (unsigned long)p->rlim[k].cur);
        if (p->rlim[k].max != RLIM_INFINITY)
            ksnprintf(max, sizeof max, "%lu", (unsigned long)p->rlim[k].max);
        text_printf(t, "%-25s %-20s %-20s %-10s\n", rows[k].name, cur, max, rows[k].unit);
    }
    process_put(p);
    return 0;
}

static int show_oom_score_adj(struct text *t, u64 key)
{
    struct process *p = process_find(key_pid(key));

    if (!p)
        return -ESRCH;
    text_printf(t, "%d\n", p->oom_score_adj);
    process_put(p);
    return 0;
}

static int store_oom_score_adj(const char *s, size_t n, u64 key)
{
    struct process *p;
    i64 v;
    int err = gen_number(s, -1000, 1000, &v);

    (void)n;
    if (err)
        return err;
    p = process_find(key_pid(key));
    if (!p)
        return -ESRCH;
    if (v < p->oom_score_adj && !capable(CAP_SYS_RESOURCE))
        err = -EACCES;
    else
        p->oom_score_adj = (int)v;
    process_put(p);
    return err;
}

/* The share of memory in use, in thousandths, moved by the adjustment; 0 at least. */
static int show_oom_score(struct text *t, u64 key)
{
    struct quire_space_stats st;
    struct process *p = process_find(key_pid(key));
    i64 score;

    if (!p)
        return -ESRCH;
    space_stats(key, &st);
    score = (i64)((rss(&st) + st.tables) * 1000 / quire_managed_pages()) + p->oom_score_adj;
    process_put(p);
    text_printf(t, "%ld\n", (long)K_MAX(score, 0));
    return 0;
}

static int show_wchan(struct text *t, u64 key)
{
    struct task *k = task_find(key_tid(key));

    if (!k)
        return -ESRCH;
    text_printf(t, "%s", k->state == TASK_SLEEPING && k->wait_reason ? k->wait_reason : "0");
    task_put(k);
    return 0;
}

/* The call that a sleeping thread is in: number, arguments, stack and instruction. */
static int show_syscall(struct text *t, u64 key)
{
    struct task *k = task_find(key_tid(key));
    const struct regs *r;

    if (!k)
        return -ESRCH;
    r = k->regs;
    if ((k->state == TASK_RUNNABLE && k != current) || !r)
        text_printf(t, "running\n");
    else if ((i64)r->orig_rax < 0)
        text_printf(t, "-1 0x%lx 0x%lx\n", (unsigned long)r->rsp, (unsigned long)r->rip);
    else
        text_printf(t, "%ld 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx\n", (long)r->orig_rax,
                    (unsigned long)r->rdi, (unsigned long)r->rsi, (unsigned long)r->rdx,
                    (unsigned long)r->r10, (unsigned long)r->r8, (unsigned long)r->r9,
                    (unsigned long)r->rsp, (unsigned long)r->rip);
    task_put(k);
    return 0;
}

static int show_cgroup(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "0::/\n");
    return 0;
}

/* ---- links ---- */

static long self_link(struct inode *i, char *buf, size_t cap)
{
    (void)i;
    return ksnprintf(buf, cap, "%d", current->proc->pid);
}
const struct inode_ops proc_self_ops = {.readlink = self_link};

static long thread_self_link(struct inode *i, char *buf, size_t cap)
{
    (void)i;
    return ksnprintf(buf, cap, "%d/task/%d", current->proc->pid, current->tid);
}
const struct inode_ops proc_thread_self_ops = {.readlink = thread_self_link};

/* The dentry behind cwd or root of a process, referenced. */
static struct dentry *place(struct inode *i, bool root, int *err)
{
    struct process *p = process_find(key_pid(i->key));
    struct dentry *d = NULL;
    unsigned long flags;

    *err = p ? -EACCES : -ENOENT;
    if (!p)
        return NULL;
    if (!fs_uid() || fs_uid() == p->euid) {
        *err = -ENOENT;
        flags = kspin_lock(&proc_lock);
        if (p->fs && !p->zombie) {
            unsigned long inner = kspin_lock(&p->fs->lock);

            d = dentry_get(root ? p->fs->root : p->fs->cwd);
            kspin_unlock(&p->fs->lock, inner);
        }
        kspin_unlock(&proc_lock, flags);
    }
    process_put(p);
    return d;
}

static struct dentry *cwd_follow(struct inode *i, int *err) { return place(i, false, err); }
static struct dentry *root_follow(struct inode *i, int *err) { return place(i, true, err); }

/* The text of a link that leads to a dentry; fs_tree_lock held. */
static long dentry_text(struct dentry *d, char *buf, size_t cap)
{
    long n = (long)dentry_path_locked(d, NULL, buf, cap);

    dentry_put(d);
    return n;
}

static long cwd_text(struct inode *i, char *buf, size_t cap)
{
    int err;
    struct dentry *d = cwd_follow(i, &err);

    return d ? dentry_text(d, buf, cap) : err;
}
static long root_text(struct inode *i, char *buf, size_t cap)
{
    int err;
    struct dentry *d = root_follow(i, &err);

    return d ? dentry_text(d, buf, cap) : err;
}
static const struct inode_ops cwd_ops = {.readlink = cwd_text, .follow = cwd_follow};
static const struct inode_ops root_ops = {.readlink = root_text, .follow = root_follow};

static long exe_text(struct inode *i, char *buf, size_t cap)
{
    struct process *p = process_find(key_pid(i->key));
    long n;

    if (!p)
        return -ENOENT;
    n = (long)strlcpy(buf, p->exe, cap);
    process_put(p);
    return n ? n : -ENOENT;
}
static const struct inode_ops exe_ops = {.readlink = exe_text};

/* ---- the directories of processes and threads ---- */

#define PID_ENTRIES                                                                      \
    GEN_FILE("maps", procpid_maps), GEN_FILE("smaps", procpid_smaps),                    \
        GEN_FILE("smaps_rollup", procpid_smaps_rollup), GEN_FILE("status", show_status), \
        GEN_FILE("statm", show_statm), GEN_FILE("stat", show_stat),                      \
        GEN_FILE("cmdline", procpid_cmdline), GEN_SECRET("environ", procpid_environ),    \
        GEN_SECRET("auxv", procpid_auxv), GEN_RW("comm", show_comm, store_comm),         \
        GEN_FILE("limits", show_limits), GEN_FILE("oom_score", show_oom_score),          \
        GEN_RW("oom_score_adj", show_oom_score_adj, store_oom_score_adj),                \
        GEN_FILE("wchan", show_wchan), GEN_SECRET("syscall", show_syscall),              \
        GEN_FILE("cgroup", show_cgroup), GEN_FILE("mounts", show_mounts),                \
        GEN_FILE("mountinfo", show_mountinfo),                                           \
        {.name = "mem", .mode = S_IFREG | 0600, .ops = &procpid_mem_ops},                \
        {.name = "pagemap", .mode = S_IFREG | 0400, .ops = &procpid_pagemap_ops},        \
        GEN_FILE("numa_maps", procpid_numa_maps),                                        \
        {.name = "map_files", .mode = S_IFDIR | 0500, .ops = &procpid_map_files_ops},    \
        {.name = "fd", .mode = S_IFDIR | 0500, .ops = &procpid_fd_ops},                  \
        {.name = "fdinfo", .mode = S_IFDIR | 0555, .ops = &procpid_fdinfo_ops},          \
        GEN_LINK("cwd", &cwd_ops), GEN_LINK("root", &root_ops), GEN_LINK("exe", &exe_ops)

static const struct inode_ops task_dir_ops;

static const struct gen_entry thread_table[] = {PID_ENTRIES, {.name = NULL}};
static const struct gen_entry pid_table[] = {
    PID_ENTRIES, {.name = "task", .mode = S_IFDIR | 0555, .ops = &task_dir_ops}, {.name = NULL}};

static const struct gen_entry pid_entry = GEN_DIR("pid", pid_table);
static const struct gen_entry thread_entry = GEN_DIR("tid", thread_table);

/* A number without sign, leading zeros or other text; 0 if it is none. */
int procpid_number(const char *name)
{
    i64 v;

    if (*name < '1' || *name > '9' || gen_number(name, 1, INT32_MAX, &v))
        return *name == '0' && !name[1] ? 0 : -1;
    for (const char *c = name; *c; c++)
        if (*c < '0' || *c > '9')
            return -1;
    return (int)v;
}

static struct dentry *owned(struct dentry *d, const struct process *p)
{
    if (d) {
        d->inode->uid = p->dumpable ? p->euid : 0;
        d->inode->gid = p->dumpable ? p->egid : 0;
    }
    return d;
}

struct dentry *procpid_lookup(struct dentry *root, const char *name, int *err)
{
    int pid = procpid_number(name);
    struct process *p = pid > 0 ? process_find(pid) : NULL;
    struct dentry *d;

    *err = -ENOENT;
    if (!p)
        return NULL;
    d = owned(gen_make(root, &pid_entry, name, (u64)pid, err), p);
    process_put(p);
    return d;
}

int process_next(int from)
{
    unsigned long flags = kspin_lock(&proc_lock);
    int best = -1;

    for (struct process *p = process_list; p; p = p->all_next)
        if (p->pid >= from && (best < 0 || p->pid < best))
            best = p->pid;
    kspin_unlock(&proc_lock, flags);
    return best;
}

int procpid_list(struct dir_emit *e, u64 *pos)
{
    if (*pos < PID_BASE)
        *pos = PID_BASE;
    for (;;) {
        int pid = process_next((int)(*pos - PID_BASE));
        char name[16];

        if (pid < 0)
            return 0;
        ksnprintf(name, sizeof name, "%d", pid);
        if (!dir_emit(e, name, gen_ino(&pid_entry, (u64)pid), S_IFDIR, PID_BASE + (u64)pid + 3))
            return e->err;
        *pos = PID_BASE + (u64)pid + 1;
    }
}

static struct dentry *task_lookup(struct dentry *dir, const char *name, int *err)
{
    int tid = procpid_number(name), pid = key_pid(dir->inode->key);
    struct task *t = tid > 0 ? task_find(tid) : NULL;
    struct dentry *d = NULL;

    *err = -ENOENT;
    if (t && t->proc->pid == pid)
        d = owned(gen_make(dir, &thread_entry, name, (u64)(u32)pid | (u64)tid << 32, err), t->proc);
    if (t)
        task_put(t);
    return d;
}

/* The lowest thread number of the process from `from` on, or -1. */
static int next_thread(int pid, int from)
{
    struct process *p = process_find(pid);
    int best = -1;
    unsigned long flags;
    struct task *t;

    if (!p)
        return -1;
    flags = kspin_lock(&proc_lock);
    t = p->threads;
    if (t)
        do {
            if (t->tid >= from && (best < 0 || t->tid < best))
                best = t->tid;
            t = t->thread_next;
        } while (t != p->threads);
    kspin_unlock(&proc_lock, flags);
    process_put(p);
    return best;
}

static int task_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    for (;;) {
        int tid = next_thread(key_pid(dir->inode->key), (int)*pos);
        char name[16];

        if (tid < 0)
            return 0;
        ksnprintf(name, sizeof name, "%d", tid);
        if (!dir_emit(e, name, gen_ino(&thread_entry, (u64)tid), S_IFDIR, (u64)tid + 3))
            return e->err;
        *pos = (u64)tid + 1;
    }
}

static const struct inode_ops task_dir_ops = {.lookup = task_lookup, .readdir = task_readdir};
