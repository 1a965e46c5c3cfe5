/*
 * fs/procvm.c - memory of the whole machine in /proc: meminfo, vmstat, the library's own texts
 * (proc(5)), and a word for each frame (kpageflags, kpagecount: Linux,
 * Documentation/admin-guide/mm/pagemap.rst).
 */
#include "../proc/proc.h"
#include "arch/cpu.h"
#include "gen.h"
#include "virtio/balloon.h"
#include "virtio/reporting.h"
#include <quire/percpu.h>
#include <quire/pt.h>
#include <quire/space.h>
#include <quire/stats.h>

#define KIB(pages) ((unsigned long)((pages) << 2))

static void row(struct text *t, const char *name, u64 pages)
{
    text_printf(t, "%-15s %8lu kB\n", name, KIB(pages));
}

/* The end of the highest zone. */
static u64 frames_end(void)
{
    struct quire_zone_stats z;
    u64 end = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        end = K_MAX(end, z.end.v);
    return end;
}

#define HUGE (1ull << 21)

/* Nothing of [va, va + 2 MiB) is mapped? */
static bool unmapped(u64 va)
{
    struct quire_translation first, last;

    quire_pt_translate(kernel_root, va, &first);
    quire_pt_translate(kernel_root, va + HUGE - 4096, &last);
    return !first.present && !last.present;
}

/* KiB of the direct map in leaves of 4 KiB, 2 MiB, 1 GiB: as Linux tells, for what it costs in TLB
 * entries. */
static void direct_map_rows(struct text *t)
{
    static const char *const names[] = {"DirectMap4k:", "DirectMap2M:", "DirectMap1G:"};
    u64 pages[3] = {0}, end = QPORT_DIRECT_BASE + (frames_end() << 12);

    for (u64 va = QPORT_DIRECT_BASE; va < end;) {
        struct quire_translation x;

        quire_pt_translate(kernel_root, va, &x);
        if (x.present) {
            pages[(x.leaf_shift - 12) / 9] += 1ull << (x.leaf_shift - 12);
            va += 1ull << x.leaf_shift;
        } else {
            va += va % HUGE == 0 && unmapped(va) ? HUGE : 4096;
        }
    }
    for (unsigned k = 0; k < K_COUNT(names); k++)
        row(t, names[k], pages[k]);
}

static void cma_rows(struct text *t)
{
    struct quire_zone_stats z;
    u64 total = 0, free = 0;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++) {
        total += z.cma;
        free += z.free_cma;
    }
    row(t, "CmaTotal:", total);
    row(t, "CmaFree:", free);
}

int show_meminfo(struct text *t, u64 key)
{
    u64 total = quire_managed_pages(), free = quire_free_pages() + reporting_pages();
    u64 files, shared;
    struct quire_percpu_stats percpu;
    struct quire_usage u;

    (void)key;
    quire_usage(QUIRE_NODE_ANY, &u);
    quire_object_totals(&files, &shared);
    row(t, "MemTotal:", total);
    row(t, "MemFree:", free);
    row(t, "MemAvailable:", free);
    row(t, "Buffers:", 0);
    row(t, "Cached:", files + shared);
    row(t, "SwapCached:", 0);
    row(t, "SwapTotal:", 0);
    row(t, "SwapFree:", 0);
    row(t, "AnonPages:", u.anon + u.anon_huge);
    row(t, "Shmem:", shared);
    row(t, "Slab:", u.slab);
    row(t, "SReclaimable:", 0);
    row(t, "SUnreclaim:", u.slab);
    row(t, "PageTables:", u.table);
    row(t, "Balloon:", balloon_pages());
    row(t, "CommitLimit:", total);
    row(t, "Committed_AS:", u.anon + u.anon_huge + shared);
    text_printf(t, "VmallocTotal:   34359738367 kB\n");
    quire_percpu_stats(&percpu);
    row(t, "VmallocUsed:", u.kva);
    row(t, "Percpu:", percpu.frames);
    text_printf(t, "HardwareCorrupted: %5lu kB\n", KIB(u.poisoned));
    row(t, "AnonHugePages:", u.anon_huge);
    cma_rows(t);
    text_printf(t, "HugePages_Total:   %5lu\nHugePages_Free:    %5lu\nHugePages_Rsvd:    %5lu\n",
                0ul, 0ul, 0ul);
    text_printf(t, "HugePages_Surp:    %5lu\nHugepagesize:       2048 kB\n", 0ul);
    direct_map_rows(t);
    return 0;
}

static void say_events(struct text *t)
{
    for (unsigned k = 0; k < QUIRE_EVENT_COUNT; k++)
        text_printf(t, "%s %lu\n", quire_event_name(k), (unsigned long)quire_event_count(k));
}

int show_vmstat(struct text *t, u64 key)
{
    struct quire_usage u;
    u64 files, shared;

    (void)key;
    quire_usage(QUIRE_NODE_ANY, &u);
    quire_object_totals(&files, &shared);
    text_printf(t, "nr_free_pages %lu\nnr_anon_pages %lu\nnr_file_pages %lu\nnr_shmem %lu\n",
                (unsigned long)quire_free_pages(), (unsigned long)(u.anon + u.anon_huge),
                (unsigned long)(files + shared), (unsigned long)shared);
    text_printf(t, "nr_page_table_pages %lu\nnr_slab_unreclaimable %lu\n", (unsigned long)u.table,
                (unsigned long)u.slab);
    text_printf(t, "nr_anon_transparent_hugepages %lu\n",
                (unsigned long)(u.anon_huge >> QUIRE_HUGE_ORDER));
    say_events(t);
    return 0;
}

/* ---- the library's texts ---- */

int show_library(struct text *t, u64 key)
{
    size_t (*fn)(char *, size_t) = (size_t(*)(char *, size_t))(uintptr_t)key;
    size_t n = fn(NULL, 0);

    if (!text_room(t, n + n / 8 + 512)) /* it may grow between the two calls */
        return 0;
    n = fn(t->p + t->len, t->cap - t->len);
    t->len += K_MIN(n, t->cap - t->len - 1);
    return 0;
}

static int show_events(struct text *t, u64 key)
{
    (void)key;
    say_events(t);
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

const struct gen_entry proc_quire_table[] = {GEN_LIBRARY("blocks", 0444, quire_blockinfo),
                                             GEN_FILE("colours", show_colours),
                                             GEN_FILE("events", show_events),
                                             GEN_SECRET("pt", show_pt),
                                             GEN_RW("validate", show_validate, store_validate),
                                             GEN_FILE("leakscan", show_leakscan),
                                             GEN_FILE("samples", show_samples),
                                             {.name = NULL}};
const struct gen_entry extfrag_table[] = {
    GEN_LIBRARY("unusable_index", 0444, quire_extfrag_unusable),
    GEN_LIBRARY("extfrag_index", 0444, quire_extfrag_index),
    {.name = NULL}};

/* ---- a word for each frame: position / 8 is the frame's number ---- */

#define WORDS 64u

static long words_read(struct uio *u, u64 *pos, u64 (*word)(q_pfn))
{
    u64 end = frames_end(), buf[WORDS];
    long done = 0;

    if (*pos % 8 || u->left % 8)
        return -EINVAL;
    while (u->left && *pos / 8 < end) {
        u64 first = *pos / 8, n = K_MIN(K_MIN(end - first, (u64)WORDS), u->left / 8);
        size_t put;

        for (u64 k = 0; k < n; k++)
            buf[k] = word(Q_PFN(first + k));
        put = uio_put_part(u, buf, n * 8);
        *pos += put;
        done += (long)put;
        if (put < n * 8)
            return done ? done : -EFAULT;
        cond_resched();
    }
    return done;
}

static long kpageflags_read(struct file *f, struct uio *u, u64 *pos)
{
    (void)f;
    return words_read(u, pos, quire_kpageflags);
}
static long kpagecount_read(struct file *f, struct uio *u, u64 *pos)
{
    (void)f;
    return words_read(u, pos, quire_kpagecount);
}

static i64 words_lseek(struct file *f, i64 off, int whence)
{
    i64 to = off + (whence == 1 ? (i64)f->pos : whence == 2 ? (i64)frames_end() * 8 : 0);

    if (whence > 2 || to < 0)
        return -EINVAL;
    f->pos = (u64)to;
    return to;
}

static const struct file_ops kpageflags_file = {.read = kpageflags_read, .lseek = words_lseek};
static const struct file_ops kpagecount_file = {.read = kpagecount_read, .lseek = words_lseek};

static int kpageflags_open(struct file *f)
{
    f->ops = &kpageflags_file;
    return file_writable(f) ? -EACCES : 0;
}
static int kpagecount_open(struct file *f)
{
    f->ops = &kpagecount_file;
    return file_writable(f) ? -EACCES : 0;
}

const struct inode_ops kpageflags_ops = {.open = kpageflags_open};
const struct inode_ops kpagecount_ops = {.open = kpagecount_open};
