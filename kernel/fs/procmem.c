/*
 * fs/procmem.c - /proc/PID/maps, smaps, numa_maps, mem, and the strings that a program was started with.
 */
#include "mm/mempolicy.h"
#include "procpid.h"
#include "sysv.h"
#include <quire/space.h>

#define NAME_COLUMN 73 /* where Linux begins the name in a line of maps */
#define PATH_MAX    4096

struct maps {
    struct text *t;
    char *path; /* PATH_MAX bytes */
    bool detail;
    struct process *proc; /* of numa_maps */
    void (*tell)(struct maps *m, const struct quire_vma_info *v);
    struct text kept;          /* of struct quire_vma_info, their objects referenced */
    struct quire_vma_info sum; /* smaps_rollup */
};

static void name_of(struct maps *m, const struct quire_vma_info *v, u64 *ino, u32 *dev)
{
    m->path[0] = 0;
    *ino = 0;
    *dev = 0;
    if (v->name) {
        strlcpy(m->path, v->name, PATH_MAX);
    } else if (v->object && ipc_shm_name(v->object, m->path, PATH_MAX, ino)) {
        *dev = MAKEDEV(0, 1);
    } else if (v->object && !object_file_info(v->object, m->path, PATH_MAX, ino, dev) &&
               quire_object_kind(v->object) == QUIRE_OBJECT_SHARED) {
        strlcpy(m->path, "/dev/zero (deleted)", PATH_MAX);
        *ino = (u64)(uintptr_t)v->object >> 6 & 0xffffff;
        *dev = MAKEDEV(0, 1);
    }
}

static void header(struct maps *m, const struct quire_vma_info *v)
{
    size_t start = m->t->len, width;
    u64 ino;
    u32 dev;

    name_of(m, v, &ino, &dev);
    text_printf(m->t, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", (unsigned long)v->start.v,
                (unsigned long)v->end.v, v->prot & QUIRE_READ ? 'r' : '-',
                v->prot & QUIRE_WRITE ? 'w' : '-', v->prot & QUIRE_EXEC ? 'x' : '-',
                v->shared ? 's' : 'p', (unsigned long)(v->object ? v->offset : 0), DEV_MAJOR(dev),
                DEV_MINOR(dev), (unsigned long)ino);
    width = m->t->len - start;
    if (m->path[0])
        text_printf(m->t, "%*s%s", (int)(width < NAME_COLUMN ? NAME_COLUMN - width : 0), "",
                    m->path);
    text_put(m->t, "\n", 1);
}

static void row(struct text *t, const char *name, u64 kib)
{
    text_printf(t, "%-16s%8lu kB\n", name, (unsigned long)kib);
}

static void rows(struct text *t, const struct quire_vma_info *v)
{
    row(t, "Rss:", v->rss << 2);
    row(t, "Pss:", v->pss_bytes >> 10);
    row(t, "Shared_Clean:", v->shared_clean << 2);
    row(t, "Shared_Dirty:", v->shared_dirty << 2);
    row(t, "Private_Clean:", v->private_clean << 2);
    row(t, "Private_Dirty:", v->private_dirty << 2);
    row(t, "Referenced:", v->referenced << 2);
    row(t, "Anonymous:", v->anon << 2);
    row(t, "LazyFree:", 0);
    row(t, "AnonHugePages:", v->huge_pages << 2);
    row(t, "ShmemPmdMapped:", 0);
    row(t, "FilePmdMapped:", 0);
    row(t, "Shared_Hugetlb:", 0);
    row(t, "Private_Hugetlb:", 0);
    row(t, "Swap:", v->swap << 2);
    row(t, "SwapPss:", v->swap << 2);
    row(t, "Locked:", v->locked ? v->rss << 2 : 0);
}

static void flags_row(struct text *t, const struct quire_vma_info *v)
{
    unsigned max = v->max_prot ? v->max_prot : QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC;

    text_printf(t, "VmFlags: %s%s%s%s%s%s%s%s%s%s%s%s%s\n", v->prot & QUIRE_READ ? "rd " : "",
                v->prot & QUIRE_WRITE ? "wr " : "", v->prot & QUIRE_EXEC ? "ex " : "",
                v->shared ? "sh " : "", max & QUIRE_READ ? "mr " : "",
                max & QUIRE_WRITE ? "mw " : "", max & QUIRE_EXEC ? "me " : "",
                v->shared ? "ms " : "", v->grows_down ? "gd " : "", v->locked ? "lo " : "",
                v->dontfork ? "dc " : "", v->wipeonfork ? "wf " : "", v->huge ? "hg " : "");
}

static void one_map(struct maps *m, const struct quire_vma_info *v)
{
    header(m, v);
    if (!m->detail)
        return;
    row(m->t, "Size:", (v->end.v - v->start.v) >> 10);
    row(m->t, "KernelPageSize:", 4);
    row(m->t, "MMUPageSize:", 4);
    rows(m->t, v);
    text_printf(m->t, "THPeligible:    %d\n", v->huge && !v->object);
    flags_row(m->t, v);
}

/* A name in which white space would end a field (Linux, fs/proc/task_mmu.c). */
static void put_escaped(struct text *t, const char *s)
{
    for (; *s; s++)
        if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\\')
            text_printf(t, "\\%03o", (unsigned)(u8)*s);
        else
            text_put(t, s, 1);
}

/* numa_maps: how much of the mapping is on which node (numa(7)). */
static void numa_map(struct maps *m, const struct quire_vma_info *v)
{
    u64 ino, dirty = v->shared_dirty + v->private_dirty;
    u32 dev;

    name_of(m, v, &ino, &dev);
    text_printf(m->t, "%08lx ", (unsigned long)v->start.v);
    mempolicy_text(m->proc, &v->policy, m->t);
    if (v->object && m->path[0] == '/') {
        text_printf(m->t, " file=");
        put_escaped(m->t, m->path);
    } else if (!strcmp(m->path, "[heap]") || !strcmp(m->path, "[stack]")) {
        text_printf(m->t, " %.*s", (int)strlen(m->path) - 2, m->path + 1);
    }
    if (!v->rss) {
        text_put(m->t, "\n", 1);
        return;
    }
    if (v->anon)
        text_printf(m->t, " anon=%lu", (unsigned long)v->anon);
    if (dirty)
        text_printf(m->t, " dirty=%lu", (unsigned long)dirty);
    if (v->rss != v->anon && v->rss != dirty)
        text_printf(m->t, " mapped=%lu", (unsigned long)v->rss);
    if (v->most_maps > 1)
        text_printf(m->t, " mapmax=%lu", (unsigned long)v->most_maps);
    for (unsigned n = 0; n < quire_nodes(); n++)
        if (v->node_pages[n])
            text_printf(m->t, " N%u=%lu", n, (unsigned long)v->node_pages[n]);
    text_printf(m->t, " kernelpagesize_kB=4\n");
}

/* Names need the tree lock, under which others come to spaces: so vmas are kept, and told later. */
static bool keep_map(void *ctx, const struct quire_vma_info *v)
{
    struct maps *m = ctx;

    if (!text_room(&m->kept, sizeof *v))
        return false;
    text_put(&m->kept, (const char *)v, sizeof *v);
    if (v->object)
        quire_object_get(v->object);
    return true;
}

static void tell_kept(struct maps *m)
{
    for (size_t at = 0; at < m->kept.len; at += sizeof(struct quire_vma_info)) {
        struct quire_vma_info v;

        memcpy(&v, m->kept.p + at, sizeof v);
        m->tell(m, &v);
        if (v.object)
            quire_object_put(v.object);
    }
    m->t->failed |= m->kept.failed;
    text_fini(&m->kept);
}

static bool add_up(void *ctx, const struct quire_vma_info *v)
{
    struct quire_vma_info *s = &((struct maps *)ctx)->sum;

    if (!s->end.v)
        s->start = v->start;
    s->end = v->end;
    s->rss += v->rss;
    s->pss_bytes += v->pss_bytes;
    s->shared_clean += v->shared_clean;
    s->shared_dirty += v->shared_dirty;
    s->private_clean += v->private_clean;
    s->private_dirty += v->private_dirty;
    s->referenced += v->referenced;
    s->anon += v->anon;
    s->huge_pages += v->huge_pages;
    s->swap += v->swap;
    s->locked |= v->locked;
    return true;
}

/* visit each mapping of the process of key; no memory of its own: no text. */
static int walk_maps(struct maps *m, u64 key, bool detail,
                     bool (*visit)(void *, const struct quire_vma_info *))
{
    int err;
    struct quire_space *s = key_space(key, &err);

    if (!s)
        return err;
    m->path = quire_kmalloc(PATH_MAX, QUIRE_GFP_KERNEL);
    if (m->path)
        quire_space_vmas(s, detail, visit, m);
    else
        err = -ENOMEM;
    quire_space_put(s);
    if (m->path)
        tell_kept(m);
    quire_kfree(m->path);
    return err;
}

int procpid_maps(struct text *t, u64 key)
{
    struct maps m = {.t = t, .tell = one_map};

    return walk_maps(&m, key, false, keep_map);
}

int procpid_smaps(struct text *t, u64 key)
{
    struct maps m = {.t = t, .detail = true, .tell = one_map};

    return walk_maps(&m, key, true, keep_map);
}

int procpid_numa_maps(struct text *t, u64 key)
{
    struct maps m = {.t = t, .tell = numa_map, .proc = process_find(key_pid(key))};
    int err = m.proc ? walk_maps(&m, key, true, keep_map) : -ESRCH;

    if (m.proc)
        process_put(m.proc);
    return err;
}

int procpid_smaps_rollup(struct text *t, u64 key)
{
    struct maps m = {.t = t};
    int err = walk_maps(&m, key, true, add_up);

    if (err || !m.sum.end.v)
        return err ? err : -ESRCH;
    text_printf(t, "%08lx-%08lx ---p 00000000 00:00 0 ", (unsigned long)m.sum.start.v,
                (unsigned long)m.sum.end.v);
    text_printf(t, "%*s[rollup]\n", (int)(NAME_COLUMN - t->len), "");
    rows(t, &m.sum);
    return 0;
}

/* ---- strings in the program's memory ---- */

#define STRINGS_MAX (1u << 20)

static int copy_range(struct text *t, u64 key, u64 from, u64 to)
{
    int err;
    struct quire_space *s = key_space(key, &err);
    size_t done = 0;

    if (!s)
        return err;
    if (to > from && to - from <= STRINGS_MAX && text_room(t, to - from)) {
        if (quire_space_read(s, Q_UVA(from), t->p, to - from, false, &done) == QUIRE_OK || done)
            t->len = done;
    }
    quire_space_put(s);
    return 0;
}

struct ranges {
    u64 arg[2], env[2], auxv[2];
};

static int ranges_of(u64 key, struct ranges *r)
{
    struct process *p = process_find(key_pid(key));

    if (!p)
        return -ESRCH;
    *r = (struct ranges){{p->arg_start.v, p->arg_end.v},
                         {p->env_start.v, p->env_end.v},
                         {p->auxv_start.v, p->auxv_end.v}};
    process_put(p);
    return 0;
}

int procpid_cmdline(struct text *t, u64 key)
{
    struct process *p = process_find(key_pid(key));
    struct quire_space *s;
    size_t done = 0, n;

    if (!p)
        return -ESRCH;
    n = p->arg_end.v - p->arg_start.v;
    s = process_space(p); /* unlike the rest of its memory, everybody may see this */
    if (s && n && n <= STRINGS_MAX && text_room(t, n)) {
        if (quire_space_read(s, p->arg_start, t->p, n, false, &done) == QUIRE_OK || done)
            t->len = done;
    }
    if (s)
        quire_space_put(s);
    process_put(p);
    return 0;
}

int procpid_environ(struct text *t, u64 key)
{
    struct ranges r;
    int err = ranges_of(key, &r);

    return err ? err : copy_range(t, key, r.env[0], r.env[1]);
}

int procpid_auxv(struct text *t, u64 key)
{
    struct ranges r;
    int err = ranges_of(key, &r);

    return err ? err : copy_range(t, key, r.auxv[0], r.auxv[1]);
}

/* ---- mem: the memory itself, position = address ---- */

#define MEM_CHUNK 4096u

/* Read or write as much of u as there is memory from *pos on. */
static long mem_move(struct file *f, struct uio *u, u64 *pos, bool write)
{
    struct quire_space *s = f->priv;
    size_t before = u->left;
    u8 *buf = quire_kmalloc(MEM_CHUNK, QUIRE_GFP_KERNEL);
    int err = buf ? 0 : -ENOMEM;

    while (!err && u->left) {
        size_t n = K_MIN(u->left, (size_t)MEM_CHUNK), done = 0;

        if (*pos >= USER_END || n > USER_END - *pos)
            n = *pos >= USER_END ? 0 : USER_END - *pos;
        if (!n) {
            err = -EIO;
            break;
        }
        if (write) {
            n = uio_get_part(u, buf, n);
            (void)quire_space_write(s, Q_UVA(*pos), buf, n, true, &done);
            u->left += n - done; /* what memory did not take counts as not moved */
        } else {
            (void)quire_space_read(s, Q_UVA(*pos), buf, n, true, &done);
            done = uio_put_part(u, buf, done);
        }
        *pos += done;
        if (!done || (write && done < n))
            err = -EIO;
    }
    quire_kfree(buf);
    return before != u->left ? (long)(before - u->left) : err;
}

static long mem_read(struct file *f, struct uio *u, u64 *pos) { return mem_move(f, u, pos, false); }
static long mem_write(struct file *f, struct uio *u, u64 *pos) { return mem_move(f, u, pos, true); }

static i64 mem_lseek(struct file *f, i64 off, int whence)
{
    if (whence > 1)
        return -EINVAL;
    f->pos = whence ? f->pos + (u64)off : (u64)off;
    return (i64)f->pos;
}

static void mem_release(struct file *f)
{
    if (f->priv)
        quire_space_put(f->priv);
}

static const struct file_ops mem_ops = {
    .read = mem_read, .write = mem_write, .lseek = mem_lseek, .release = mem_release};

static int mem_open(struct file *f)
{
    int err;
    struct quire_space *s = key_space(f->inode->key, &err);

    if (!s)
        return err ? err : -EIO;
    f->ops = &mem_ops;
    f->priv = s;
    return 0;
}

const struct inode_ops procpid_mem_ops = {.open = mem_open};

/* ---- map_files: a link for each mapping of a file, named by its range ---- */

static const char *hex(const char *p, u64 *v)
{
    const char *start = p;

    for (*v = 0; p - start < 16; p++) {
        if (*p >= '0' && *p <= '9')
            *v = *v << 4 | (u64)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            *v = *v << 4 | (u64)(*p - 'a' + 10);
        else
            break;
    }
    return p != start && (*start != '0' || p == start + 1) ? p : NULL;
}

static bool parse_range(const char *name, u64 *from, u64 *to)
{
    const char *p = hex(name, from);

    p = p && *p == '-' ? hex(p + 1, to) : NULL;
    return p && !*p;
}

struct map_search {
    u64 from, to;
    struct quire_object *object; /* referenced */
    struct dir_emit *e;
    u64 *pos, at;
    u64 ino;
};

static bool match_map(void *ctx, const struct quire_vma_info *v)
{
    struct map_search *s = ctx;

    if (v->start.v != s->from || v->end.v != s->to || !v->object)
        return true;
    quire_object_get(v->object);
    s->object = v->object;
    return false;
}

/* The object behind a link, referenced, or NULL and *err. */
static struct quire_object *mapped_object(u64 key, u64 from, u64 to, int *err)
{
    struct map_search m = {.from = from, .to = to};
    struct quire_space *s = key_space(key, err);
    struct inode *i;

    if (!s) {
        *err = *err ? *err : -ENOENT;
        return NULL;
    }
    quire_space_vmas(s, false, match_map, &m);
    quire_space_put(s);
    i = m.object ? quire_object_cookie(m.object) : NULL;
    if (i && i->magic == INODE_MAGIC)
        return m.object;
    if (m.object)
        quire_object_put(m.object);
    *err = -ENOENT;
    return NULL;
}

/* fs_tree_lock held. */
static long map_text(struct inode *i, char *buf, size_t cap)
{
    u64 from, to;
    int err;
    struct quire_object *o;
    struct inode *file;

    if (!parse_range(i->priv, &from, &to))
        return -ENOENT;
    o = mapped_object(i->key, from, to, &err);
    if (!o)
        return err;
    file = quire_object_cookie(o);
    if (file->aliases)
        dentry_path_locked(file->aliases, NULL, buf, cap);
    else
        strlcpy(buf, file->dead_path ? file->dead_path : "", cap);
    quire_object_put(o);
    return (long)strlen(buf);
}

static void map_free(struct inode *i) { quire_kfree(i->priv); }

static const struct inode_ops map_link_ops = {.readlink = map_text, .free = map_free};

static struct dentry *map_lookup(struct dentry *dir, const char *name, int *err)
{
    u64 from, to;
    struct quire_object *o;
    struct inode *i;

    *err = -ENOENT;
    o = parse_range(name, &from, &to) ? mapped_object(dir->inode->key, from, to, err) : NULL;
    if (!o)
        return NULL;
    quire_object_put(o);
    *err = -ENOMEM;
    i = inode_new(S_IFLNK | 0700, dir->inode->dev);
    if (!i)
        return NULL;
    i->ops = &map_link_ops;
    i->priv = quire_kstrdup(name, QUIRE_GFP_KERNEL);
    i->key = dir->inode->key;
    i->nlink = 1;
    if (i->priv)
        return dentry_new(i, dir, name);
    inode_put(i);
    return NULL;
}

static bool list_map(void *ctx, const struct quire_vma_info *v)
{
    struct map_search *s = ctx;
    struct inode *i = v->object ? quire_object_cookie(v->object) : NULL;
    char name[40];

    if (!i || i->magic != INODE_MAGIC || s->at++ < *s->pos)
        return true;
    ksnprintf(name, sizeof name, "%lx-%lx", (unsigned long)v->start.v, (unsigned long)v->end.v);
    if (!dir_emit(s->e, name, s->ino + s->at, S_IFLNK, s->at + 2))
        return false;
    *s->pos = s->at;
    return true;
}

static int map_readdir(struct dentry *dir, struct dir_emit *e, u64 *pos)
{
    struct map_search m = {.e = e, .pos = pos, .ino = dir->inode->ino};
    int err;
    struct quire_space *s = key_space(dir->inode->key, &err);

    if (!s)
        return err;
    quire_space_vmas(s, false, list_map, &m);
    quire_space_put(s);
    return e->err;
}

const struct inode_ops procpid_map_files_ops = {.lookup = map_lookup, .readdir = map_readdir};
