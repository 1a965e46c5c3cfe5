/*
 * fs/procfs.c - the top of /proc: what concerns the whole machine (proc(5)).
 */
#include "../proc/proc.h"
#include "procipc.h"
#include "virtio/balloon.h"
#include "virtio/reporting.h"
#include <quire/space.h>
#include <quire/stats.h>

#define NS         1000000000ull
#define KIB(pages) ((unsigned long)((pages) << 2))

/* ---- memory ---- */

struct usage {
    u64 anon, file, slab, table, kva;
};

static void count_frames(struct usage *u)
{
    struct quire_block_info b;

    *u = (struct usage){0};
    for (u64 n = 0; quire_block_info(n, &b) == QUIRE_OK; n++) {
        u->anon += b.anon;
        u->file += b.file;
        u->slab += b.slab;
        u->table += b.table;
        u->kva += b.kva;
    }
}

static int show_meminfo(struct text *t, u64 key)
{
    u64 total = quire_managed_pages(), free = quire_free_pages() + reporting_pages();
    u64 files, shared;
    struct usage u;

    (void)key;
    count_frames(&u);
    quire_object_totals(&files, &shared);
    text_printf(t, "MemTotal:       %8lu kB\nMemFree:        %8lu kB\nMemAvailable:   %8lu kB\n",
                KIB(total), KIB(free), KIB(free));
    text_printf(t, "Buffers:        %8lu kB\nCached:         %8lu kB\nSwapCached:     %8lu kB\n",
                0ul, KIB(files + shared), 0ul);
    text_printf(t, "SwapTotal:      %8lu kB\nSwapFree:       %8lu kB\n", 0ul, 0ul);
    text_printf(t, "AnonPages:      %8lu kB\nShmem:          %8lu kB\n", KIB(u.anon), KIB(shared));
    text_printf(t, "Slab:           %8lu kB\nSReclaimable:   %8lu kB\nSUnreclaim:     %8lu kB\n",
                KIB(u.slab), 0ul, KIB(u.slab));
    text_printf(t, "PageTables:     %8lu kB\n", KIB(u.table));
    text_printf(t, "Balloon:        %8lu kB\n", KIB(balloon_pages()));
    text_printf(t, "CommitLimit:    %8lu kB\nCommitted_AS:   %8lu kB\n", KIB(total),
                KIB(u.anon + shared));
    text_printf(t, "VmallocTotal:   34359738367 kB\nVmallocUsed:    %8lu kB\n", KIB(u.kva));
    text_printf(t, "HugePages_Total:   %5lu\nHugePages_Free:    %5lu\nHugePages_Rsvd:    %5lu\n",
                0ul, 0ul, 0ul);
    text_printf(t, "HugePages_Surp:    %5lu\nHugepagesize:       2048 kB\n", 0ul);
    return 0;
}

static int show_vmstat(struct text *t, u64 key)
{
    struct usage u;
    u64 files, shared;

    (void)key;
    count_frames(&u);
    quire_object_totals(&files, &shared);
    text_printf(t, "nr_free_pages %lu\nnr_anon_pages %lu\nnr_file_pages %lu\nnr_shmem %lu\n",
                (unsigned long)quire_free_pages(), (unsigned long)u.anon,
                (unsigned long)(files + shared), (unsigned long)shared);
    text_printf(t, "nr_page_table_pages %lu\nnr_slab_unreclaimable %lu\n", (unsigned long)u.table,
                (unsigned long)u.slab);
    for (unsigned k = 0; k < QUIRE_EVENT_COUNT; k++)
        text_printf(t, "%s %lu\n", quire_event_name(k), (unsigned long)quire_event_count(k));
    return 0;
}

static int library_text(struct text *t, size_t (*fn)(char *, size_t))
{
    size_t n = fn(NULL, 0);

    if (!text_room(t, n + 512)) /* it may grow between the two calls */
        return 0;
    n = fn(t->p + t->len, t->cap - t->len);
    t->len += K_MIN(n, t->cap - t->len - 1);
    return 0;
}

static int show_buddyinfo(struct text *t, u64 key)
{
    (void)key;
    return library_text(t, quire_buddyinfo);
}
static int show_zoneinfo(struct text *t, u64 key)
{
    (void)key;
    return library_text(t, quire_zoneinfo);
}
static int show_slabinfo(struct text *t, u64 key)
{
    (void)key;
    return library_text(t, quire_slabinfo);
}

static int show_blocks(struct text *t, u64 key)
{
    struct quire_block_info b;

    (void)key;
    text_printf(
        t,
        "# pfn node zone type free cached reserved slab table kva anon file huge other absent\n");
    for (u64 n = 0; quire_block_info(n, &b) == QUIRE_OK; n++)
        text_printf(t, "%lu %u %u %u %u %u %u %u %u %u %u %u %u %u %u\n", (unsigned long)b.start.v,
                    b.node, b.zone, b.type, b.free, b.cached, b.reserved, b.slab, b.table, b.kva,
                    b.anon, b.file, b.huge, b.other, b.absent);
    return 0;
}

static int show_events(struct text *t, u64 key)
{
    (void)key;
    for (unsigned k = 0; k < QUIRE_EVENT_COUNT; k++)
        text_printf(t, "%s %lu\n", quire_event_name(k), (unsigned long)quire_event_count(k));
    return 0;
}

static void pt_line(void *ctx, const char *line)
{
    text_put(ctx, line, strlen(line));
    text_put(ctx, "\n", 1);
}

static int show_pt(struct text *t, u64 key)
{
    struct quire_space *s = process_space(current->proc);

    (void)key;
    if (!s)
        return -ESRCH;
    quire_pt_dump(quire_space_root(s), 0, USER_END, pt_line, t);
    quire_space_put(s);
    return 0;
}

static const struct gen_entry quire_table[] = {GEN_FILE("blocks", show_blocks),
                                               GEN_FILE("events", show_events),
                                               GEN_SECRET("pt", show_pt),
                                               {.name = NULL}};

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
    GEN_LINK("mounts", &mounts_link_ops), GEN_FILE("meminfo", show_meminfo),
    GEN_FILE("vmstat", show_vmstat),      GEN_FILE("buddyinfo", show_buddyinfo),
    GEN_FILE("zoneinfo", show_zoneinfo),  GEN_SECRET("slabinfo", show_slabinfo),
    GEN_FILE("uptime", show_uptime),      GEN_FILE("loadavg", show_loadavg),
    GEN_FILE("stat", show_stat),          GEN_FILE("cpuinfo", show_cpuinfo),
    GEN_FILE("version", show_version),    GEN_FILE("filesystems", show_filesystems),
    GEN_FILE("cmdline", show_cmdline),    GEN_FILE("devices", show_devices),
    GEN_FILE("swaps", show_swaps),        GEN_DIR("sys", proc_sys_table),
    GEN_FILE("config.gz", show_config),   GEN_DIR("sysvipc", proc_sysvipc_table),
    GEN_DIR("quire", quire_table),        {.name = NULL},
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
