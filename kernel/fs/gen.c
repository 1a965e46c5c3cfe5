/*
 * fs/gen.c - see gen.h.
 *
 * The text of a file is made at the first read of an opening, and again when it is read from the
 * start; so what one reader sees is of one moment.
 */
#include "gen.h"

u64 gen_ino(const struct gen_entry *e, u64 key)
{
    u64 h = (key + 1) * 0x9e3779b97f4a7c15ull ^ (u64)(uintptr_t)e * 0xff51afd7ed558ccdull;

    return 1ull << 40 | h >> 26;
}

struct dentry *gen_make(struct dentry *dir, const struct gen_entry *e, const char *name, u64 key,
                        int *err)
{
    struct inode *i = inode_new(e->mode, dir->inode->dev);
    struct dentry *d;

    *err = -ENOMEM;
    if (!i)
        return NULL;
    i->ino = gen_ino(e, key);
    i->nlink = 1;
    i->priv = (void *)(uintptr_t)e;
    i->key = key;
    i->uid = dir->inode->uid;
    i->gid = dir->inode->gid;
    if (e->ops)
        i->ops = e->ops;
    else
        i->ops = (e->mode & S_IFMT) == S_IFDIR ? &gen_dir_ops : &gen_file_ops;
    d = dentry_new(i, dir, name);
    if (d)
        *err = 0;
    return d;
}

struct dentry *gen_root(const struct gen_entry *e, u32 dev)
{
    struct inode *i = inode_new(S_IFDIR | 0555, dev);

    if (!i)
        return NULL;
    i->nlink = 2;
    i->ino = 1;
    i->priv = (void *)(uintptr_t)e;
    i->ops = e->ops ? e->ops : &gen_dir_ops;
    return dentry_nameless(i, "");
}

struct dentry *gen_find(struct dentry *dir, const struct gen_entry *table, const char *name,
                        u64 key, int *err)
{
    for (const struct gen_entry *e = table; e->name; e++)
        if (!strcmp(e->name, name))
            return gen_make(dir, e, e->name, e->key ? e->key : key, err);
    *err = -ENOENT;
    return NULL;
}

bool gen_list(const struct gen_entry *table, u64 key, u64 first, struct dir_emit *e, u64 *pos)
{
    u64 k = first;

    for (const struct gen_entry *g = table; g->name; g++, k++) {
        if (k < *pos)
            continue;
        if (!dir_emit(e, g->name, gen_ino(g, g->key ? g->key : key), g->mode, k + 3))
            return false;
        *pos = k + 1;
    }
    return true;
}

static struct dentry *table_lookup(struct dentry *dir, const char *name, int *err)
{
    const struct gen_entry *e = dir->inode->priv;

    return gen_find(dir, e->children, name, dir->inode->key, err);
}

static int table_readdir(struct dentry *dir, struct dir_emit *em, u64 *pos)
{
    const struct gen_entry *e = dir->inode->priv;

    gen_list(e->children, dir->inode->key, 0, em, pos);
    return em->err;
}

const struct inode_ops gen_dir_ops = {.lookup = table_lookup, .readdir = table_readdir};

/* ---- families: a position is the family's place in the list above the number ---- */

#define FAMILY_SHIFT 32

static u64 member_key(const struct gen_family *f, u64 n, u64 dir_key)
{
    return f->key ? f->key(n, dir_key) : n;
}

static struct dentry *family_lookup(struct dentry *dir, const char *name, int *err)
{
    const struct gen_entry *e = dir->inode->priv;

    for (const struct gen_family *f = e->families; f->prefix; f++) {
        size_t n = strlen(f->prefix);
        i64 v;

        if (strncmp(name, f->prefix, n) || name[n] < '0' || name[n] > '9' ||
            (name[n] == '0' && name[n + 1]) || gen_number(name + n, 0, (i64)f->count() - 1, &v))
            continue;
        if (!f->has || f->has((u64)v, dir->inode->key))
            return gen_make(dir, f->member, name, member_key(f, (u64)v, dir->inode->key), err);
    }
    return gen_find(dir, e->children, name, dir->inode->key, err);
}

static bool family_list(const struct gen_family *f, u64 first, u64 key, struct dir_emit *em,
                        u64 *pos)
{
    for (*pos = K_MAX(*pos, first); *pos - first < f->count(); ++*pos) {
        u64 n = *pos - first;
        char name[32];

        if (f->has && !f->has(n, key))
            continue;
        ksnprintf(name, sizeof name, "%s%lu", f->prefix, (unsigned long)n);
        if (!dir_emit(em, name, gen_ino(f->member, member_key(f, n, key)), f->member->mode,
                      *pos + 3))
            return false;
    }
    return true;
}

static int family_readdir(struct dentry *dir, struct dir_emit *em, u64 *pos)
{
    const struct gen_entry *e = dir->inode->priv;
    u64 first = 0;

    for (const struct gen_family *f = e->families; f->prefix; f++, first += 1ull << FAMILY_SHIFT)
        if (*pos < first + (1ull << FAMILY_SHIFT) &&
            !family_list(f, first, dir->inode->key, em, pos))
            return em->err;
    gen_list(e->children, dir->inode->key, first, em, pos);
    return em->err;
}

const struct inode_ops gen_family_ops = {.lookup = family_lookup, .readdir = family_readdir};

/* ---- files ---- */

#define STORE_MAX 65536u

static int make_text(struct file *f)
{
    const struct gen_entry *e = f->inode->priv;
    struct text *t = f->priv;
    int err;

    if (!t) {
        t = quire_kzalloc(sizeof *t, QUIRE_GFP_KERNEL);
        if (!t)
            return -ENOMEM;
        f->priv = t;
    }
    t->len = 0;
    t->failed = false;
    err = e->show(t, f->inode->key);
    if (!err && t->failed)
        err = -ENOMEM;
    if (err)
        text_fini(t);
    return err;
}

/* pos_lock does not cover pread(2), so the text has the inode's own lock. */
static long gen_read(struct file *f, struct uio *u, u64 *pos)
{
    struct inode *i = f->inode;
    struct text *t;
    long n = 0;

    kmutex_lock(&i->lock);
    t = f->priv;
    if (!((const struct gen_entry *)i->priv)->show)
        n = -EINVAL;
    else if (!t || !t->p || *pos == 0)
        n = make_text(f);
    t = f->priv;
    if (!n && *pos < t->len) {
        size_t part = K_MIN(u->left, t->len - *pos);

        n = (long)uio_put_part(u, t->p + *pos, part);
        if (!n && part)
            n = -EFAULT;
    }
    kmutex_unlock(&i->lock);
    if (n > 0)
        *pos += (u64)n;
    return n;
}

static long gen_write(struct file *f, struct uio *u, u64 *pos)
{
    const struct gen_entry *e = f->inode->priv;
    size_t n = u->left;
    char *buf;
    int err;

    if (!e->store)
        return -EACCES;
    if (n > STORE_MAX)
        return -EINVAL;
    buf = quire_kvmalloc(n + 1, QUIRE_GFP_KERNEL);
    if (!buf)
        return -ENOMEM;
    err = uio_get(u, buf, n);
    buf[n] = 0;
    if (!err)
        err = e->store(buf, n, f->inode->key);
    quire_kvfree(buf);
    if (err)
        return err;
    *pos += n;
    return (long)n;
}

static i64 gen_lseek(struct file *f, i64 off, int whence)
{
    i64 to = off + (whence == 1 ? (i64)f->pos : 0);

    if (whence > 1 || to < 0)
        return -EINVAL;
    f->pos = (u64)to;
    return to;
}

static void gen_release(struct file *f)
{
    if (f->priv)
        text_fini(f->priv);
    quire_kfree(f->priv);
}

static const struct file_ops gen_ops = {
    .read = gen_read, .write = gen_write, .lseek = gen_lseek, .release = gen_release};

static int gen_open(struct file *f)
{
    const struct gen_entry *e = f->inode->priv;

    if (file_writable(f) && !e->store)
        return -EACCES;
    f->ops = &gen_ops;
    return 0;
}

const struct inode_ops gen_file_ops = {.open = gen_open};

int gen_number(const char *text, i64 low, i64 high, i64 *out)
{
    bool negative = false;
    const char *end;
    u64 v;

    while (*text == ' ' || *text == '\t' || *text == '\n')
        text++;
    if (*text == '-') {
        negative = true;
        text++;
    }
    if (*text < '0' || *text > '9')
        return -EINVAL;
    for (end = text; *end >= '0' && *end <= '9'; end++)
        ;
    if (end - text > 18)
        return -ERANGE;
    v = kstrtou64(text, &end);
    while (*end == ' ' || *end == '\t' || *end == '\n')
        end++;
    if (*end || v > (u64)INT64_MAX)
        return -EINVAL;
    *out = negative ? -(i64)v : (i64)v;
    return *out < low || *out > high ? -EINVAL : 0;
}
