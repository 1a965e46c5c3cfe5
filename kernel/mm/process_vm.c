/*
 * kernel/mm/process_vm.c - process_vm_readv and process_vm_writev: memory of another process.
 */
#include "task.h"
#include "uaccess.h"

#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

#define IOV_MAX   1024u
#define STEP_SIZE 4096u

struct iovec {
    u64 base, len;
};

/* The caller's and the other side's position in their vectors. */
struct cursor {
    struct iovec *v;
    u64 n, i, off;
};

static int fetch(struct cursor *c, u64 iov, u64 n)
{
    *c = (struct cursor){.n = n};
    if (n > IOV_MAX)
        return -EINVAL;
    if (!n)
        return 0;
    c->v = quire_kvmalloc_array(n, sizeof *c->v, QUIRE_GFP_KERNEL);
    if (!c->v)
        return -ENOMEM;
    if (copy_from_user(c->v, iov, n * sizeof *c->v))
        return -EFAULT;
    for (u64 i = 0, total = 0; i < n; i++) {
        if ((i64)c->v[i].len < 0 || (i64)(total += c->v[i].len) < 0)
            return -EINVAL;
    }
    return 0;
}

/* Bytes left in the current element, skipping empty ones; 0 at the end. */
static u64 here(struct cursor *c)
{
    while (c->i < c->n && c->off == c->v[c->i].len) {
        c->i++;
        c->off = 0;
    }
    return c->i < c->n ? c->v[c->i].len - c->off : 0;
}

static u64 at(const struct cursor *c) { return c->v[c->i].base + c->off; }

/* One piece of at most STEP_SIZE; bytes moved, or -errno. */
static long move_piece(struct quire_space *other, struct cursor *local, struct cursor *remote,
                       u8 *buf, size_t n, bool write)
{
    size_t done = 0;
    enum quire_status s;

    if (write) {
        if (copy_from_user(buf, at(local), n))
            return -EFAULT;
        s = quire_space_write(other, Q_UVA(at(remote)), buf, n, false, &done);
    } else {
        s = quire_space_read(other, Q_UVA(at(remote)), buf, n, false, &done);
        if (done && copy_to_user(at(local), buf, done))
            return -EFAULT;
    }
    local->off += done;
    remote->off += done;
    return done ? (long)done : s == QUIRE_NO_MEMORY ? -ENOMEM : -EFAULT;
}

static long move_all(struct quire_space *other, struct cursor *local, struct cursor *remote,
                     bool write)
{
    u8 *buf = quire_kmalloc(STEP_SIZE, QUIRE_GFP_KERNEL);
    long total = 0, moved = 0;

    if (!buf)
        return -ENOMEM;
    for (;;) {
        u64 l = here(local), r = here(remote);
        size_t n = K_MIN(K_MIN(l, r), STEP_SIZE);

        if (!n)
            break;
        moved = move_piece(other, local, remote, buf, n, write);
        if (moved > 0)
            total += moved;
        if (moved != (long)n)
            break;
        cond_resched();
    }
    quire_kfree(buf);
    return total ? total : moved;
}

static bool may_access(const struct process *p)
{
    const struct process *me = current->proc;

    return !me->euid || (me->uid == p->uid && me->uid == p->euid && me->uid == p->suid &&
                         me->gid == p->gid && me->gid == p->egid && me->gid == p->sgid);
}

static long process_vm(int pid, u64 liov, u64 ln, u64 riov, u64 rn, u64 flags, bool write)
{
    struct cursor local = {0}, remote = {0};
    struct quire_space *space = NULL;
    struct process *p;
    long r;

    if (flags)
        return -EINVAL;
    r = fetch(&local, liov, ln);
    if (!r)
        r = fetch(&remote, riov, rn);
    if (!r && ln && rn) {
        unsigned long irq;

        p = process_find(pid);
        r = !p ? -ESRCH : may_access(p) ? 0 : -EPERM;
        if (!r) {
            irq = kspin_lock(&proc_lock);
            space = p->space;
            if (space)
                quire_space_get(space);
            kspin_unlock(&proc_lock, irq);
            r = space ? move_all(space, &local, &remote, write) : -ESRCH;
        }
        if (space)
            quire_space_put(space);
        if (p)
            process_put(p);
    }
    quire_kvfree(local.v);
    quire_kvfree(remote.v);
    return r;
}

long sys_process_vm_readv(int pid, u64 liov, u64 ln, u64 riov, u64 rn, u64 flags)
{
    return process_vm(pid, liov, ln, riov, rn, flags, false);
}
long sys_process_vm_writev(int pid, u64 liov, u64 ln, u64 riov, u64 rn, u64 flags)
{
    return process_vm(pid, liov, ln, riov, rn, flags, true);
}
