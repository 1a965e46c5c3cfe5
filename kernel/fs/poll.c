/*
 * fs/poll.c - poll(2) and select(2): wait until one of several files is ready.
 *
 * The first pass over the files puts a waiter on each of their queues; later passes only ask again.
 */
#include "fsint.h"
#include <signal.h>

#define POLL_ALWAYS (POLL_ERR | POLL_HUP)
#define CHUNK       32

struct chunk {
    struct chunk *next;
    unsigned n;
    struct waiter w[CHUNK];
};

/* The poll_table of a task that sleeps. */
struct sleeper {
    struct poll_table pt;
    struct chunk first, *last;
};

void poll_add(struct poll_table *pt, struct waitq *q)
{
    if (pt && !pt->err)
        pt->queue(pt, q);
}

static void queue_sleeper(struct poll_table *pt, struct waitq *q)
{
    struct sleeper *s = K_CONTAINER(pt, struct sleeper, pt);

    if (s->last->n == CHUNK) {
        struct chunk *c = quire_kmalloc(sizeof *c, QUIRE_GFP_KERNEL);

        if (!c) {
            pt->err = -ENOMEM;
            return;
        }
        c->next = NULL;
        c->n = 0;
        s->last->next = c;
        s->last = c;
    }
    waitq_add(q, &s->last->w[s->last->n++]);
}

static void sleeper_init(struct sleeper *s)
{
    s->pt.queue = queue_sleeper;
    s->pt.err = 0;
    s->first.next = NULL;
    s->first.n = 0;
    s->last = &s->first;
}

static void sleeper_fini(struct sleeper *s)
{
    struct chunk *c = &s->first;

    while (c) {
        struct chunk *next = c->next;

        for (unsigned k = 0; k < c->n; k++)
            waitq_remove(&c->w[k]);
        if (c != &s->first)
            quire_kfree(c);
        c = next;
    }
}

static unsigned file_poll(struct file *f, struct poll_table *pt)
{
    if (f->flags & O_PATH)
        return POLL_NVAL;
    return f->ops->poll ? f->ops->poll(f, pt) : POLL_IN | POLL_OUT;
}

/* The bits for normal data go with those for data. */
#define POLL_RDNORM 0x40u
#define POLL_WRNORM 0x100u
static unsigned widen(unsigned mask)
{
    return mask | (mask & POLL_IN ? POLL_RDNORM : 0) | (mask & POLL_OUT ? POLL_WRNORM : 0);
}

/* ---- the wait, common to poll and select ---- */

/* How many are ready; asks with pt on the first pass, NULL later. */
typedef int (*scan_fn)(void *ctx, struct poll_table *pt);

static int wait_ready(scan_fn scan, void *ctx, u64 deadline)
{
    struct sleeper *s = quire_kmalloc(sizeof *s, QUIRE_GFP_KERNEL);
    struct poll_table *pt;
    int n;

    if (!s)
        return -ENOMEM;
    sleeper_init(s);
    pt = deadline ? &s->pt : NULL;
    for (;;) {
        int err;

        wait_prepare();
        n = scan(ctx, pt);
        if (!n && pt && s->pt.err)
            n = s->pt.err;
        if (n || !deadline)
            break;
        pt = NULL;
        err = wait_sleep(deadline);
        if (err) {
            n = scan(ctx, NULL);
            if (!n && err != -ETIMEDOUT)
                n = -EINTR;
            break;
        }
    }
    wait_finish();
    sleeper_fini(s);
    quire_kfree(s);
    return n;
}

#define NS 1000000000ull

static u64 deadline_after(u64 ns)
{
    u64 now = ktime_ns();

    return ns > ~0ull - 1 - now ? WAIT_FOREVER - 1 : now + ns;
}

/* {seconds, sub-units} of user memory to a deadline: 0 is "do not wait"; unit 1 or 1000 ns. */
static int user_deadline(u64 utime, u64 unit, u64 *deadline)
{
    i64 t[2];

    *deadline = WAIT_FOREVER;
    if (!utime)
        return 0;
    if (copy_from_user(t, utime, sizeof t))
        return -EFAULT;
    if (t[0] < 0 || t[1] < 0 || (unit == 1 && (u64)t[1] >= NS))
        return -EINVAL;
    if (!t[0] && !t[1])
        *deadline = 0;
    else if ((u64)t[0] > ~0ull / NS / 2)
        *deadline = WAIT_FOREVER - 1;
    else
        *deadline = deadline_after((u64)t[0] * NS + (u64)t[1] * unit);
    return 0;
}

#define STICKY_TIMEOUTS 0x4000000u /* personality(2): as System V, the time given stays as it was */

static void put_remaining(u64 utime, u64 unit, u64 deadline)
{
    u64 now = ktime_ns(), left = deadline > now ? deadline - now : 0;
    i64 t[2] = {(i64)(left / NS), (i64)(left % NS / unit)};

    if (current->proc->personality & STICKY_TIMEOUTS)
        return;
    if (utime && deadline != WAIT_FOREVER && copy_to_user(utime, t, sizeof t))
        return; /* the result stands; Linux too gives up on the remaining time */
}

/* ---- poll ---- */

struct kpollfd {
    int fd;
    u16 events, revents;
};

struct poll_set {
    struct kpollfd *fds;
    u64 n;
};

static int scan_poll(void *ctx, struct poll_table *pt)
{
    struct poll_set *set = ctx;
    int ready = 0;

    for (u64 k = 0; k < set->n; k++) {
        struct kpollfd *p = &set->fds[k];
        struct file *f;

        p->revents = 0;
        if (p->fd < 0)
            continue;
        f = fd_get(p->fd);
        if (!f) {
            p->revents = POLL_NVAL;
        } else {
            p->revents = (u16)(widen(file_poll(f, pt)) & (p->events | POLL_ALWAYS | POLL_NVAL));
            file_put(f);
        }
        if (p->revents) {
            ready++;
            pt = NULL; /* no need to wait any more */
        }
    }
    return ready;
}

static long do_poll(u64 ufds, u64 n, u64 deadline)
{
    struct poll_set set = {.n = n};
    struct kpollfd few[8];
    long r;

    if (n > current->proc->rlim[RLIMIT_NOFILE].cur)
        return -EINVAL;
    set.fds = n > K_COUNT(few) ? quire_kvmalloc_array(n, sizeof *set.fds, QUIRE_GFP_KERNEL) : few;
    if (!set.fds)
        return -ENOMEM;
    if (copy_from_user(set.fds, ufds, n * sizeof *set.fds))
        r = -EFAULT;
    else
        r = wait_ready(scan_poll, &set, deadline);
    for (u64 k = 0; r >= 0 && k < n; k++)
        if (copy_to_user(ufds + k * sizeof *set.fds + offsetof(struct kpollfd, revents),
                         &set.fds[k].revents, sizeof set.fds[k].revents))
            r = -EFAULT;
    if (set.fds != few)
        quire_kvfree(set.fds);
    return r;
}

static long poll_again(u64 *args)
{
    long r = do_poll(args[0], args[1], args[2]);

    if (r == -EINTR)
        r = -ERESTART_RESTARTBLOCK;
    return r;
}

long sys_poll(u64 ufds, unsigned n, int ms)
{
    u64 deadline = ms < 0 ? WAIT_FOREVER : ms ? deadline_after((u64)ms * 1000000) : 0;
    long r = do_poll(ufds, n, deadline);

    if (r == -EINTR) {
        struct restart_block *rb = restart_block();

        rb->fn = poll_again;
        rb->args[0] = ufds;
        rb->args[1] = n;
        rb->args[2] = deadline;
        r = -ERESTART_RESTARTBLOCK;
    }
    return r;
}

long sys_ppoll(u64 ufds, unsigned n, u64 utime, u64 umask, u64 size)
{
    u64 deadline;
    long r = user_deadline(utime, 1, &deadline);

    if (!r)
        r = signal_mask_set_user(umask, size);
    if (r)
        return r;
    r = do_poll(ufds, n, deadline);
    signal_mask_restore(r == -EINTR);
    put_remaining(utime, 1, deadline);
    return r == -EINTR ? -ERESTARTNOHAND : r;
}

/* ---- select ---- */

#define SELECT_MAX 65536u

struct select_set {
    unsigned n, words;
    u64 *in[3], *out[3]; /* read, write, except */
    int err;
};

static int scan_select(void *ctx, struct poll_table *pt)
{
    static const unsigned wanted[3] = {POLL_IN | POLL_HUP | POLL_ERR, POLL_OUT | POLL_ERR,
                                       POLL_PRI};
    struct select_set *s = ctx;
    int ready = 0;

    for (unsigned k = 0; k < 3; k++)
        memset(s->out[k], 0, s->words * 8);
    for (unsigned fd = 0; fd < s->n; fd++) {
        u64 bit = 1ull << fd % 64;
        unsigned w = fd / 64, mask;
        struct file *f;

        if (!((s->in[0][w] | s->in[1][w] | s->in[2][w]) & bit))
            continue;
        f = fd_get((int)fd);
        if (!f) {
            s->err = -EBADF;
            return 1;
        }
        mask = file_poll(f, pt);
        file_put(f);
        for (unsigned k = 0; k < 3; k++)
            if ((s->in[k][w] & bit) && (mask & wanted[k])) {
                s->out[k][w] |= bit;
                ready++;
                pt = NULL;
            }
    }
    return ready;
}

static long do_select(int n, const u64 usets[3], u64 deadline)
{
    struct select_set s = {.err = 0};
    u64 few[6 * 16], *mem = few;
    long r = 0;

    if (n < 0)
        return -EINVAL;
    s.n = (unsigned)K_MIN((unsigned)n, K_MIN(files_capacity(current->proc->files), SELECT_MAX));
    s.words = (s.n + 63) / 64;
    if (s.words > 16)
        mem = quire_kvmalloc(6 * s.words * 8, QUIRE_GFP_KERNEL);
    if (!mem)
        return -ENOMEM;
    memset(mem, 0, 6 * s.words * 8);
    for (unsigned k = 0; k < 3; k++) {
        s.in[k] = mem + k * s.words;
        s.out[k] = mem + (3 + k) * s.words;
        if (usets[k] && copy_from_user(s.in[k], usets[k], s.words * 8))
            r = -EFAULT;
    }
    if (!r)
        r = wait_ready(scan_select, &s, deadline);
    if (r >= 0 && s.err)
        r = s.err;
    for (unsigned k = 0; r >= 0 && k < 3; k++)
        if (usets[k] && copy_to_user(usets[k], s.out[k], s.words * 8))
            r = -EFAULT;
    if (mem != few)
        quire_kvfree(mem);
    return r;
}

long sys_select(int n, u64 r, u64 w, u64 x, u64 utime)
{
    u64 deadline, sets[3] = {r, w, x};
    long res = user_deadline(utime, 1000, &deadline);

    if (res)
        return res;
    res = do_select(n, sets, deadline);
    put_remaining(utime, 1000, deadline);
    return res == -EINTR ? -ERESTARTNOHAND : res;
}

long sys_pselect6(int n, u64 r, u64 w, u64 x, u64 utime, u64 usig)
{
    u64 deadline, sets[3] = {r, w, x}, sig[2] = {0, 0};
    long res;

    if (usig && copy_from_user(sig, usig, sizeof sig))
        return -EFAULT;
    res = user_deadline(utime, 1, &deadline);
    if (!res)
        res = signal_mask_set_user(sig[0], sig[1]);
    if (res)
        return res;
    res = do_select(n, sets, deadline);
    signal_mask_restore(res == -EINTR);
    put_remaining(utime, 1, deadline);
    return res == -EINTR ? -ERESTARTNOHAND : res;
}
