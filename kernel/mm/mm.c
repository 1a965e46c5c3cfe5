/*
 * kernel/mm/mm.c - the system calls of the mmap family.
 *
 * Thin on purpose: the library has Linux's semantics and checks (include/quire/space.h), so a call
 * fetches its file, passes its arguments on and turns a status into an errno.
 */
#include "fs.h"
#include "sysv.h"
#include "task.h"
#include "uaccess.h"

#include <quire/heap.h>
#include <quire/space.h>

#define O_ACCMODE 3u
#define O_WRONLY  1u
#define O_RDWR    2u
#define O_PATH    010000000u

/* The object behind f, referenced, and what its opener may do with it. */
static struct quire_object *mappable(struct file *f, unsigned *max_prot, int *err)
{
    unsigned mode = f->flags & O_ACCMODE;
    struct quire_object *o;

    *err = 0;
    if (f->flags & O_PATH) {
        *err = -EBADF;
        return NULL;
    }
    *max_prot = QUIRE_EXEC | (mode == O_WRONLY ? 0 : QUIRE_READ) | (mode ? QUIRE_WRITE : 0);
    if (f->ops->mmap) {
        o = f->ops->mmap(f, err);
    } else {
        o = kfile_object(f);
        if (o)
            quire_object_get(o);
    }
    if (!o && !*err)
        *err = -ENODEV;
    return o;
}

/* A shared mapping, which the seals of a memfd may forbid. */
static long map_shared(struct file *f, struct quire_mmap *m, q_uva *out)
{
    long err = file_share_begin(f, m->prot & QUIRE_WRITE, &m->max_prot);

    if (err)
        return err;
    err = kerr(quire_mmap(current->space, m, out));
    file_share_end(f);
    return err;
}

static long map_file(struct quire_mmap *m, int fd, q_uva *out)
{
    struct file *f = fd_get(fd);
    int err = 0;
    long r;

    if (!f)
        return -EBADF;
    m->object = mappable(f, &m->max_prot, &err);
    if (!m->object) {
        r = err;
    } else if ((m->flags & QUIRE_MAP_TYPE) == QUIRE_MAP_PRIVATE) {
        /* writes its own copies, whatever the file's mode */
        m->max_prot |= QUIRE_WRITE;
        r = kerr(quire_mmap(current->space, m, out));
    } else {
        r = map_shared(f, m, out);
    }
    if (m->object)
        quire_object_put(m->object);
    file_put(f);
    return r;
}

long sys_mmap(u64 addr, u64 len, u64 prot, u64 flags, u64 fd, u64 offset)
{
    struct quire_mmap m = {.addr = Q_UVA(addr),
                           .len = len,
                           .prot = (unsigned)prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC),
                           .flags = (unsigned)flags,
                           .offset = offset};
    q_uva out;
    long err;

    if (offset & (QUIRE_PAGE_SIZE - 1))
        return -EINVAL;
    if (flags & QUIRE_MAP_ANONYMOUS) {
        m.offset = 0;
        err = kerr(quire_mmap(current->space, &m, &out));
    } else {
        err = map_file(&m, (int)fd, &out);
    }
    return err ? err : (long)out.v;
}

long sys_munmap(u64 addr, u64 len) { return kerr(quire_munmap(current->space, Q_UVA(addr), len)); }

long sys_mprotect(u64 addr, u64 len, u64 prot)
{
    return kerr(quire_mprotect(current->space, Q_UVA(addr), len,
                               prot > 0xffffffff ? 0xffu : (unsigned)prot));
}

/* Without protection keys in the CPU only key -1 (none) is legal; pkeys(7). */
long sys_pkey_mprotect(u64 addr, u64 len, u64 prot, int key)
{
    return key == -1 ? sys_mprotect(addr, len, prot) : -EINVAL;
}
long sys_pkey_alloc(u64 flags, u64 rights) { return flags || rights & ~3ul ? -EINVAL : -ENOSPC; }
long sys_pkey_free(int key)
{
    (void)key;
    return -EINVAL;
}

long sys_mremap(u64 old, u64 old_len, u64 new_len, u64 flags, u64 new_addr)
{
    q_uva out;
    long err =
        kerr(quire_mremap(current->space, Q_UVA(old), old_len, new_len,
                          flags > 0xffffffff ? ~0u : (unsigned)flags, Q_UVA(new_addr), &out));

    return err ? err : (long)out.v;
}

long sys_madvise(u64 addr, u64 len, int advice)
{
    return kerr(quire_madvise(current->space, Q_UVA(addr), len, advice));
}

long sys_brk(u64 want) { return (long)quire_brk(current->space, Q_UVA(want)).v; }

long sys_msync(u64 addr, u64 len, int flags)
{
    return kerr(quire_msync(current->space, Q_UVA(addr), len, (unsigned)flags));
}

long sys_mlock(u64 addr, u64 len)
{
    return kerr(quire_mlock(current->space, Q_UVA(addr), len, false));
}
long sys_mlock2(u64 addr, u64 len, int flags)
{
    return flags & ~1 ? -EINVAL : kerr(quire_mlock(current->space, Q_UVA(addr), len, flags & 1));
}
long sys_munlock(u64 addr, u64 len)
{
    return kerr(quire_munlock(current->space, Q_UVA(addr), len));
}
long sys_mlockall(int flags)
{
    return flags ? kerr(quire_mlockall(current->space, (unsigned)flags)) : -EINVAL;
}
long sys_munlockall(void) { return kerr(quire_mlockall(current->space, 0)); }

#define MINCORE_STEP 512u

long sys_mincore(u64 addr, u64 len, u64 vec)
{
    u64 pages = K_UP(len, QUIRE_PAGE_SIZE) >> QUIRE_PAGE_SHIFT;
    u8 *buf;
    long err = 0;

    if (addr & (QUIRE_PAGE_SIZE - 1))
        return -EINVAL;
    if (!user_range_ok(addr, len))
        return -ENOMEM;
    if (!user_range_ok(vec, pages))
        return -EFAULT;
    buf = quire_kmalloc(MINCORE_STEP, QUIRE_GFP_KERNEL);
    if (!buf)
        return -EAGAIN;
    for (u64 i = 0; i < pages && !err; i += MINCORE_STEP) {
        u64 n = K_MIN(pages - i, MINCORE_STEP);

        err = kerr(quire_mincore(current->space, Q_UVA(addr + (i << QUIRE_PAGE_SHIFT)),
                                 n << QUIRE_PAGE_SHIFT, buf));
        if (!err)
            err = copy_to_user(vec + i, buf, n);
    }
    quire_kfree(buf);
    return err;
}

/* The mapping of object in v, from start on, from another page of it on. */
static long map_again(const struct quire_vma_info *v, struct quire_object *object, u64 start,
                      u64 len, u64 pgoff, u64 flags)
{
    struct quire_mmap m = {.addr = Q_UVA(start),
                           .len = len,
                           .prot = v->prot,
                           .max_prot = v->max_prot,
                           .flags = QUIRE_MAP_SHARED | QUIRE_MAP_FIXED | QUIRE_MAP_POPULATE |
                                    ((unsigned)flags & QUIRE_MAP_NONBLOCK),
                           .object = object,
                           .offset = pgoff << QUIRE_PAGE_SHIFT,
                           .name = v->name};
    q_uva out;

    /* Shared memory without a name ends with its last mapping, and mapping anew unmaps first. */
    if (ipc_shm_ends(object)) {
        (void)quire_munmap(current->space, m.addr, len);
        return -EIDRM;
    }
    return kerr(quire_mmap(current->space, &m, &out));
}

/* Deprecated since Linux 3.16 and emulated there by mmap; so here (remap_file_pages(2)). */
long sys_remap_file_pages(u64 addr, u64 size, u64 prot, u64 pgoff, u64 flags)
{
    struct quire_vma_info v;
    u64 start = K_DOWN(addr, QUIRE_PAGE_SIZE), len = K_DOWN(size, QUIRE_PAGE_SIZE), offset;
    struct quire_object *object;
    long err;

    if (prot || start + len <= start || pgoff + (len >> QUIRE_PAGE_SHIFT) < pgoff)
        return -EINVAL;
    if (quire_space_vma(current->space, Q_UVA(start), false, &v) != QUIRE_OK || v.start.v > start ||
        !v.shared || start + len > v.end.v)
        return -EINVAL;
    object = quire_space_object(current->space, Q_UVA(start), &offset);
    if (!object)
        return -EINVAL;
    err = map_again(&v, object, start, len, pgoff, flags);
    quire_object_put(object);
    return err;
}
