/*
 * fs/procfs.c - the top of /proc: what concerns the whole machine (proc(5)); its memory is in
 * procvm.c.
 */
#include "../proc/proc.h"
#include "procipc.h"

#define NS 1000000000ull

/* ---- time, CPUs, identity ---- */

struct cpu_sum {
    u64 user, system;
    unsigned tasks, running;
};

static void sum_times(struct cpu_sum *s)
{
    unsigned long flags = kspin_lock(&proc_lock);

    *s = (struct cpu_sum){0};
    for (struct process *p = process_list; p; p = p->all_next) {
        struct task *t = p->threads;

        s->user += p->utime_ns;
        s->system += p->stime_ns;
        if (!t)
            continue;
        do {
            s->user += t->utime_ns;
            s->system += t->stime_ns;
            s->tasks++;
            s->running += t->state == TASK_RUNNABLE;
            t = t->thread_next;
        } while (t != p->threads);
    }
    kspin_unlock(&proc_lock, flags);
}

static int show_uptime(struct text *t, u64 key)
{
    static u64
        shown; /* never less than what was said before: the times of the dead leave the sum */
    u64 now = ktime_ns(), idle, before = __atomic_load_n(&shown, __ATOMIC_RELAXED);
    struct cpu_sum s;

    (void)key;
    sum_times(&s);
    idle = now * cpus_online();
    idle -= K_MIN(idle, s.user + s.system);
    idle = K_MAX(idle, before);
    __atomic_store_n(&shown, idle, __ATOMIC_RELAXED);
    text_printf(t, "%lu.%02lu %lu.%02lu\n", (unsigned long)(now / NS),
                (unsigned long)(now % NS / 10000000), (unsigned long)(idle / NS),
                (unsigned long)(idle % NS / 10000000));
    return 0;
}

static int show_loadavg(struct text *t, u64 key)
{
    struct cpu_sum s;

    (void)key;
    sum_times(&s);
    /* the averages that Linux keeps over 1, 5 and 15 minutes are the present value here */
    text_printf(t, "%u.00 %u.00 %u.00 %u/%u %d\n", s.running, s.running, s.running, s.running,
                s.tasks, current->tid);
    return 0;
}

static int show_stat(struct text *t, u64 key)
{
    struct cpu_sum s;
    unsigned long ticks, user, sys;

    (void)key;
    sum_times(&s);
    ticks = (unsigned long)(ktime_ns() / 10000000);
    user = (unsigned long)(s.user / 10000000);
    sys = (unsigned long)(s.system / 10000000);
    text_printf(t, "cpu  %lu 0 %lu %lu 0 0 0 0 0 0\n", user, sys,
                ticks * cpus_online() - K_MIN(ticks * cpus_online(), user + sys));
    for (unsigned k = 0; k < cpus_online(); k++)
        text_printf(t, "cpu%u %lu 0 %lu %lu 0 0 0 0 0 0\n", k, user / cpus_online(),
                    sys / cpus_online(), ticks - K_MIN(ticks, (user + sys) / cpus_online()));
    text_printf(t, "ctxt 0\nbtime %lu\nprocesses %u\nprocs_running %u\nprocs_blocked 0\n",
                (unsigned long)((krealtime_ns() - ktime_ns()) / NS), s.tasks, s.running);
    return 0;
}

static void cpuid(u32 leaf, u32 out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(0));
}

static void cpu_flags(struct text *t)
{
    static const char *const edx1[32] = {
        "fpu", "vme",  "de",   "pse", "tsc",  "msr", "pae",   "mce", "cx8",     "apic", NULL,
        "sep", "mtrr", "pge",  "mca", "cmov", "pat", "pse36", NULL,  "clflush", NULL,   NULL,
        NULL,  "mmx",  "fxsr", "sse", "sse2", NULL,  "ht",    NULL,  NULL,      NULL};
    static const char *const ecx1[32] = {
        "pni", "pclmulqdq", NULL,    NULL,     NULL,     NULL,   NULL,     NULL,
        NULL,  "ssse3",     NULL,    NULL,     "fma",    "cx16", NULL,     NULL,
        NULL,  NULL,        NULL,    "sse4_1", "sse4_2", NULL,   "movbe",  "popcnt",
        NULL,  "aes",       "xsave", NULL,     "avx",    "f16c", "rdrand", "hypervisor"};
    u32 r[4], x[4];

    cpuid(1, r);
    for (unsigned k = 0; k < 32; k++)
        if ((r[3] >> k & 1) && edx1[k])
            text_printf(t, " %s", edx1[k]);
    for (unsigned k = 0; k < 32; k++)
        if ((r[2] >> k & 1) && ecx1[k])
            text_printf(t, " %s", ecx1[k]);
    cpuid(0x80000001, x);
    text_printf(t, "%s%s%s", x[3] >> 11 & 1 ? " syscall" : "", x[3] >> 20 & 1 ? " nx" : "",
                x[3] >> 29 & 1 ? " lm" : "");
}

static int show_cpuinfo(struct text *t, u64 key)
{
    u32 id[4], r[4], name[13] = {0};

    (void)key;
    cpuid(0, id);
    cpuid(1, r);
    for (u32 k = 0; k < 3; k++)
        cpuid(0x80000002 + k, &name[k * 4]);
    for (unsigned k = 0; k < cpus_online(); k++) {
        u32 family = r[0] >> 8 & 15, model = r[0] >> 4 & 15;

        text_printf(t, "processor\t: %u\nvendor_id\t: %.4s%.4s%.4s\n", k, (char *)&id[1],
                    (char *)&id[3], (char *)&id[2]);
        text_printf(t, "cpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\nstepping\t: %u\n",
                    family == 15 ? family + (r[0] >> 20 & 255) : family,
                    family == 15 || family == 6 ? model | (r[0] >> 12 & 0xf0) : model, (char *)name,
                    r[0] & 15);
        text_printf(t,
                    "cpu MHz\t\t: 1000.000\nphysical id\t: %u\nsiblings\t: 1\ncore id\t\t: 0\ncpu "
                    "cores\t: 1\n",
                    k);
        text_printf(t, "fpu\t\t: yes\nfpu_exception\t: yes\nwp\t\t: yes\nflags\t\t:");
        cpu_flags(t);
        text_printf(t, "\nclflush size\t: 64\ncache_alignment\t: 64\n"
                       "address sizes\t: 40 bits physical, 48 bits virtual\n\n");
    }
    return 0;
}

static int show_version(struct text *t, u64 key)
{
    char n[6][UTS_LEN];

    (void)key;
    uts_get(n);
    text_printf(t, "%s version %s (quire) %s\n", n[0], n[2], n[3]);
    return 0;
}

static int show_filesystems(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tramfs\n");
    return 0;
}

static int show_cmdline(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "%s\n", cmdline_all());
    return 0;
}

static int show_devices(struct text *t, u64 key)
{
    (void)key;
    text_printf(
        t, "Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n"
           "136 pts\n\nBlock devices:\n");
    return 0;
}

static int show_swaps(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    return 0;
}

/* ---- the directory ---- */

static long self_mounts(struct inode *i, char *buf, size_t cap)
{
    (void)i;
    return (long)strlcpy(buf, "self/mounts", cap);
}
static const struct inode_ops mounts_link_ops = {.readlink = self_mounts};

static const struct gen_entry top_table[] = {
    GEN_LINK("self", &proc_self_ops),     GEN_LINK("thread-self", &proc_thread_self_ops),
    GEN_LINK("mounts", &mounts_link_ops), PROCVM_ENTRIES,
    GEN_FILE("uptime", show_uptime),      GEN_FILE("loadavg", show_loadavg),
    GEN_FILE("stat", show_stat),          GEN_FILE("cpuinfo", show_cpuinfo),
    GEN_FILE("version", show_version),    GEN_FILE("filesystems", show_filesystems),
    GEN_FILE("cmdline", show_cmdline),    GEN_FILE("devices", show_devices),
    GEN_FILE("swaps", show_swaps),        GEN_DIR("sys", proc_sys_table),
    GEN_FILE("config.gz", show_config),   GEN_DIR("sysvipc", proc_sysvipc_table),
    GEN_DIR("quire", proc_quire_table),   {.name = NULL},
};

static struct dentry *top_lookup(struct dentry *dir, const char *name, int *err)
{
    struct dentry *d = gen_find(dir, top_table, name, 0, err);

    return d || *err != -ENOENT ? d : procpid_lookup(dir, name, err);
}

static int top_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    (void)dir;
    if (!gen_list(top_table, 0, 0, e, pos))
        return e->err;
    return procpid_list(e, pos);
}

static const struct inode_ops top_ops = {.lookup = top_lookup, .readdir = top_readdir};
static const struct gen_entry top = {.name = "proc", .mode = S_IFDIR | 0555, .ops = &top_ops};

struct dentry *procfs_root(u32 dev) { return gen_root(&top, dev); }
