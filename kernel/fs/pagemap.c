/*
 * fs/pagemap.c - /proc/PID/pagemap: a word for each page of a program's memory, which frame it is on; position
 * / 8 is the page's number (Linux, Documentation/admin-guide/mm/pagemap.rst).
 *
 * Frame numbers are for who may read kpageflags: others see 0 there.
 */
#include "../proc/proc.h"
#include "procpid.h"
#include <quire/space.h>

#define WORDS      256u
#define FRAME_BITS ((1ull << 55) - 1)

static long pagemap_read(struct file *f, struct uio *u, u64 *pos)
{
    u64 end = USER_END / QUIRE_PAGE_SIZE, *buf;
    long done = 0;

    if (*pos % 8 || u->left % 8)
        return -EINVAL;
    buf = quire_kmalloc(WORDS * 8, QUIRE_GFP_KERNEL);
    if (!buf)
        return -ENOMEM;
    while (u->left && *pos / 8 < end) {
        u64 first = *pos / 8, n = K_MIN(K_MIN(end - first, (u64)WORDS), u->left / 8);
        size_t put;

        quire_space_pagemap(f->priv, Q_UVA(first * QUIRE_PAGE_SIZE), n, buf);
        for (u64 k = 0; k < n && !capable(CAP_SYS_ADMIN); k++)
            buf[k] &= ~FRAME_BITS;
        put = uio_put_part(u, buf, n * 8);
        *pos += put;
        done += (long)put;
        if (put < n * 8) {
            done = done ? done : -EFAULT;
            break;
        }
        cond_resched();
    }
    quire_kfree(buf);
    return done;
}

static i64 pagemap_lseek(struct file *f, i64 off, int whence)
{
    i64 to = off + (whence == 1 ? (i64)f->pos : 0);

    if (whence > 1 || to < 0)
        return -EINVAL;
    f->pos = (u64)to;
    return to;
}

static void pagemap_release(struct file *f)
{
    if (f->priv)
        quire_space_put(f->priv);
}

static const struct file_ops pagemap_ops = {
    .read = pagemap_read, .lseek = pagemap_lseek, .release = pagemap_release};

static int pagemap_open(struct file *f)
{
    int err;
    struct quire_space *s;

    if (file_writable(f))
        return -EACCES;
    s = key_space(f->inode->key, &err);
    if (!s)
        return err ? err : -ESRCH;
    f->ops = &pagemap_ops;
    f->priv = s;
    return 0;
}

const struct inode_ops procpid_pagemap_ops = {.open = pagemap_open};
