/*
 * fs/inode.c - inodes, names and directories in memory.  The model and the locks stand in fsint.h.
 */
#include "fsint.h"

struct kmutex fs_tree_lock;
struct dentry *fs_root;

static u64 next_ino = 2; /* atomic */
static struct quire_cache *inode_cache, *dentry_cache;

static void *cache_zalloc(struct quire_cache **cache, const char *name, size_t size)
{
    if (!__atomic_load_n(cache, __ATOMIC_ACQUIRE)) {
        struct quire_cache *made, *none = NULL;

        if (quire_cache_create(name, size, 0, QUIRE_CACHE_ZERO, NULL, &made) != QUIRE_OK)
            return NULL;
        if (!__atomic_compare_exchange_n(cache, &none, made, false, __ATOMIC_RELEASE,
                                         __ATOMIC_RELAXED))
            (void)quire_cache_destroy(made); /* empty: cannot be refused */
    }
    return quire_cache_alloc(*cache, QUIRE_GFP_KERNEL);
}

struct inode *inode_new(u32 mode, u32 dev)
{
    struct inode *i = cache_zalloc(&inode_cache, "inode", sizeof *i);

    if (!i)
        return NULL;
    i->magic = INODE_MAGIC;
    i->refs = 1;
    i->mode = mode;
    i->dev = dev;
    i->ino = __atomic_fetch_add(&next_ino, 1, __ATOMIC_RELAXED);
    i->atime_ns = i->mtime_ns = i->ctime_ns = krealtime_ns();
    if ((mode & S_IFMT) == S_IFREG)
        i->reg.seals = F_SEAL_SEAL;
    return i;
}

void inode_get(struct inode *i) { __atomic_add_fetch(&i->refs, 1, __ATOMIC_RELAXED); }

static void inode_free(struct inode *i)
{
    u32 kind = i->mode & S_IFMT;

    if (i->ops && i->ops->free)
        i->ops->free(i);
    if (kind == S_IFDIR)
        quire_kvfree(i->dir.table);
    else if (kind == S_IFLNK)
        quire_kfree(i->target);
    else if (kind == S_IFIFO && i->pipe)
        pipe_free(i->pipe);
    quire_kfree(i->dead_path);
    i->magic = 0;
    quire_cache_free(inode_cache, i);
}

void inode_put(struct inode *i)
{
    if (__atomic_sub_fetch(&i->refs, 1, __ATOMIC_ACQ_REL))
        return;
    if ((i->mode & S_IFMT) == S_IFREG && i->reg.object)
        quire_object_put(i->reg.object); /* its release frees the inode: F3 */
    else
        inode_free(i);
}

/* ---- content of regular files ---- */

static enum quire_status fill_from_image(void *cookie, uint64_t index, void *page)
{
    struct inode *i = cookie;
    u64 at = index << QUIRE_PAGE_SHIFT, len = __atomic_load_n(&i->reg.image_len, __ATOMIC_RELAXED);

    if (at < len)
        memcpy(page, i->reg.image + at, K_MIN(len - at, QUIRE_PAGE_SIZE));
    return QUIRE_OK;
}

static void release_inode(void *cookie) { inode_free(cookie); }

static const struct quire_pager image_pager = {.fill = fill_from_image, .release = release_inode};
static const struct quire_pager memory_pager = {.release = release_inode};

struct quire_object *inode_object(struct inode *i, int *err)
{
    struct quire_object *o = __atomic_load_n(&i->reg.object, __ATOMIC_ACQUIRE), *none = NULL;
    enum quire_status s;

    *err = 0;
    if (o)
        return o;
    if (i->reg.image) {
        s = quire_object_create_file(&image_pager, i, i->reg.image_len, &o);
    } else {
        s = quire_object_create_shared(0, &o);
        if (s == QUIRE_OK)
            quire_object_set_cookie(o, i, &memory_pager);
    }
    if (s != QUIRE_OK) {
        *err = (int)kerr(s);
        return NULL;
    }
    if (!__atomic_compare_exchange_n(&i->reg.object, &none, o, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        static const struct quire_pager no_release = {.release = NULL};

        quire_object_set_cookie(o, NULL, &no_release); /* lost the race: not ours to free */
        quire_object_put(o);
        o = none;
    }
    return o;
}

u64 inode_size(const struct inode *i)
{
    const struct quire_object *o;

    switch (i->mode & S_IFMT) {
    case S_IFREG:
        if (i->ops)
            return 0; /* generated */
        o = __atomic_load_n(&i->reg.object, __ATOMIC_ACQUIRE);
        return o ? quire_object_size(o) : i->reg.image_len;
    case S_IFLNK: return i->target ? strlen(i->target) : 0;
    case S_IFDIR: return i->ops ? 0 : 40 + (u64)i->dir.count * 20;
    default: return 0;
    }
}

u64 inode_blocks(const struct inode *i)
{
    if ((i->mode & S_IFMT) != S_IFREG || i->ops)
        return 0;
    if (i->reg.image || !i->reg.object)
        return K_UP(inode_size(i), 4096) / 512;
    return quire_object_resident(i->reg.object) * 8;
}

int inode_set_size(struct inode *i, u64 size)
{
    int err;
    struct quire_object *o = inode_object(i, &err);
    enum quire_status s;

    if (!o)
        return err;
    if (size < i->reg.image_len) /* what grows back later is zeros */
        __atomic_store_n(&i->reg.image_len, size, __ATOMIC_RELAXED);
    s = quire_object_set_size(o, size);
    return s == QUIRE_OVERFLOW ? -EFBIG : (int)kerr(s);
}

void inode_touch(struct inode *i) { i->mtime_ns = i->ctime_ns = krealtime_ns(); }

/* ---- names ---- */

static u32 hash_name(const char *name)
{
    u32 h = 2166136261u; /* FNV-1a */

    while (*name)
        h = (h ^ (u8)*name++) * 16777619u;
    return h;
}

struct dentry *dentry_new(struct inode *inode, struct dentry *parent, const char *name)
{
    struct dentry *d = cache_zalloc(&dentry_cache, "dentry", sizeof *d);

    if (d)
        d->name = quire_kstrdup(name, QUIRE_GFP_KERNEL);
    if (!d || !d->name) {
        if (d)
            quire_cache_free(dentry_cache, d);
        inode_put(inode);
        return NULL;
    }
    d->refs = 1;
    d->inode = inode;
    d->hash = hash_name(name);
    d->parent = parent ? dentry_get(parent) : NULL;
    return d;
}

struct dentry *dentry_nameless(struct inode *inode, const char *name)
{
    return dentry_new(inode, NULL, name);
}

struct dentry *dentry_get(struct dentry *d)
{
    __atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
    return d;
}

void dentry_put(struct dentry *d)
{
    while (d && !__atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL)) {
        struct dentry *parent = d->parent;

        if (d->covers) /* only of an unmounted root, which has no parent */
            parent = d->covers;
        inode_put(d->inode);
        quire_kfree(d->name);
        quire_cache_free(dentry_cache, d);
        d = parent;
    }
}

struct dentry *dir_find(struct dentry *dir, const char *name)
{
    struct inode *i = dir->inode;
    u32 h = hash_name(name);

    if (!i->dir.table)
        return NULL;
    for (struct dentry *d = i->dir.table[h & (i->dir.buckets - 1)]; d; d = d->hash_next)
        if (d->hash == h && !strcmp(d->name, name))
            return d;
    return NULL;
}

static void hash_in(struct inode *i, struct dentry *d)
{
    struct dentry **head = &i->dir.table[d->hash & (i->dir.buckets - 1)];

    d->hash_next = *head;
    *head = d;
}

static void hash_out(struct inode *i, struct dentry *d)
{
    struct dentry **at = &i->dir.table[d->hash & (i->dir.buckets - 1)];

    while (*at != d)
        at = &(*at)->hash_next;
    *at = d->hash_next;
}

/* Room for one more: the table doubles when there are two names a bucket. */
static int dir_room(struct inode *i)
{
    u32 buckets = i->dir.table ? i->dir.buckets * 2 : 8;
    struct dentry **table;

    if (i->dir.table && i->dir.count < i->dir.buckets * 2)
        return 0;
    table = quire_kvcalloc(buckets, sizeof *table, QUIRE_GFP_KERNEL);
    if (!table)
        return i->dir.table ? 0 : -ENOMEM; /* longer chains still work */
    quire_kvfree(i->dir.table);
    i->dir.table = table;
    i->dir.buckets = buckets;
    for (struct dentry *d = i->dir.first; d; d = d->next)
        hash_in(i, d);
    return 0;
}

static void list_in(struct inode *i, struct dentry *d)
{
    d->cookie = ++i->dir.next_cookie;
    d->next = NULL;
    d->prev = i->dir.last;
    if (d->prev)
        d->prev->next = d;
    else
        i->dir.first = d;
    i->dir.last = d;
    i->dir.count++;
}

static void list_out(struct inode *i, struct dentry *d)
{
    if (d->prev)
        d->prev->next = d->next;
    else
        i->dir.first = d->next;
    if (d->next)
        d->next->prev = d->prev;
    else
        i->dir.last = d->prev;
    i->dir.count--;
}

int dir_add(struct dentry *dir, struct dentry *d)
{
    int err = dir_room(dir->inode);

    if (err)
        return err;
    dentry_get(d);
    hash_in(dir->inode, d);
    list_in(dir->inode, d);
    d->linked = true;
    d->alias_next = d->inode->aliases;
    d->inode->aliases = d;
    if ((d->inode->mode & S_IFMT) == S_IFDIR) {
        d->inode->nlink = 2;
        dir->inode->nlink++;
    } else {
        d->inode->nlink++;
    }
    inode_touch(dir->inode);
    return 0;
}

/* Keep the path for those who still map the file; without memory it is merely not shown. */
static void remember_path(struct dentry *d)
{
    char *buf = quire_kmalloc(PATH_CAP, QUIRE_GFP_KERNEL);

    if (!buf)
        return;
    dentry_path_locked(d, NULL, buf, PATH_CAP - 16);
    memcpy(buf + strlen(buf), " (deleted)", 11);
    d->inode->dead_path = quire_kstrdup(buf, QUIRE_GFP_KERNEL);
    quire_kfree(buf);
}

void dir_remove(struct dentry *d)
{
    struct inode *i = d->inode, *dir = d->parent->inode;
    struct dentry **at = &i->aliases;

    if (!d->alias_next && i->aliases == d && !i->dead_path && (i->mode & S_IFMT) == S_IFREG)
        remember_path(d);
    hash_out(dir, d);
    list_out(dir, d);
    d->linked = false;
    while (*at != d)
        at = &(*at)->alias_next;
    *at = d->alias_next;
    if ((i->mode & S_IFMT) == S_IFDIR) {
        i->nlink = 0;
        dir->nlink--;
    } else {
        i->nlink--;
    }
    i->ctime_ns = krealtime_ns();
    inode_touch(dir);
    dentry_put(d);
}

int dir_move(struct dentry *d, struct dentry *to_dir, const char *name)
{
    struct dentry *from_dir = d->parent;
    char *copy = quire_kstrdup(name, QUIRE_GFP_KERNEL);
    int err = copy ? dir_room(to_dir->inode) : -ENOMEM;

    if (err) {
        quire_kfree(copy);
        return err;
    }
    hash_out(from_dir->inode, d);
    list_out(from_dir->inode, d);
    quire_kfree(d->name);
    d->name = copy;
    d->hash = hash_name(copy);
    d->parent = dentry_get(to_dir);
    hash_in(to_dir->inode, d);
    list_in(to_dir->inode, d);
    if ((d->inode->mode & S_IFMT) == S_IFDIR) {
        from_dir->inode->nlink--;
        to_dir->inode->nlink++;
    }
    d->inode->ctime_ns = krealtime_ns();
    inode_touch(from_dir->inode);
    inode_touch(to_dir->inode);
    dentry_put(from_dir);
    return 0;
}

bool dir_empty(const struct inode *i) { return !i->dir.first; }

/* ---- paths ---- */

/*
 * The path of d up to root (NULL: the real one), built from its end.  Returns its length; a path
 * that does not fit loses its beginning.  What was unlinked gets Linux's " (deleted)".
 */
size_t dentry_path_locked(struct dentry *d, const struct dentry *root, char *buf, size_t cap)
{
    struct dentry *start = d;
    size_t at = cap - 1, len;
    bool dead = false;

    buf[at] = 0;
    if (!d->parent && !d->covers && d != fs_root) { /* nameless */
        strlcpy(buf, d->name, cap);
        return strlen(buf);
    }
    for (;;) {
        size_t n;

        if (d == root)
            break;
        if (d->covers) {
            d = d->covers;
            continue;
        }
        if (!d->parent)
            break;
        if (!d->linked && !d->inode->ops)
            dead = true;
        n = strlen(d->name);
        if (at < n + 1)
            break;
        at -= n;
        memcpy(buf + at, d->name, n);
        buf[--at] = '/';
        d = d->parent;
    }
    if (at == cap - 1)
        buf[--at] = '/';
    len = cap - 1 - at;
    memmove(buf, buf + at, len + 1);
    if (dead && start->parent && len + 11 <= cap) {
        memcpy(buf + len, " (deleted)", 11);
        len += 10;
    }
    return len;
}

void dentry_path(struct dentry *d, char *buf, size_t cap)
{
    kmutex_lock(&fs_tree_lock);
    dentry_path_locked(d, NULL, buf, cap);
    kmutex_unlock(&fs_tree_lock);
}

void inode_path(struct inode *i, char *buf, size_t cap)
{
    kmutex_lock(&fs_tree_lock);
    if (i->aliases)
        dentry_path_locked(i->aliases, NULL, buf, cap);
    else
        strlcpy(buf, i->dead_path ? i->dead_path : "", cap);
    kmutex_unlock(&fs_tree_lock);
}

bool object_file_info(struct quire_object *o, char *path, size_t cap, u64 *ino, u32 *dev)
{
    struct inode *i = quire_object_cookie(o);

    if (!i || i->magic != INODE_MAGIC)
        return false;
    inode_path(i, path, cap);
    *ino = i->ino;
    *dev = i->dev;
    return true;
}
