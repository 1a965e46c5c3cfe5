/*
 * fs/epoll.c - epoll(7).
 *
 * An item watches one file for one epoll.  It has waiters on the file's queues whose notify puts it
 * on the epoll's ready list; a wait polls the items of that list, reports, and puts level-triggered
 * ones back.  So a wait costs what is ready, not what is watched.
 *
 * Locking.  epoll_lock (sleeping) covers the sets of items, and that watched files live: a file's
 * last reference takes its items out under it.  The ready list is under ep->lock, which nests in
 * the watched queues' locks.
 */
#include "fsint.h"
#include <signal.h>

#define EPOLL_CTL_ADD  1
#define EPOLL_CTL_DEL  2
#define EPOLL_CTL_MOD  3
#define EPOLLEXCLUSIVE (1u << 28)
#define EPOLLWAKEUP    (1u << 29)
#define EPOLLONESHOT   (1u << 30)
#define EPOLLET        (1u << 31)
#define EPOLL_PRIVATE  (EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET)
#define ITEM_QUEUES    2
#define NEST_MAX       4
#define MAX_EVENTS     (0x7fffffff / 12)

struct kepoll_event {
    u32 events;
    u64 data;
} __attribute__((packed));

struct epoll {
    struct kspin lock;
    struct epoll_item *ready_first, *ready_last; /* under lock */
    u32 nready;
    struct waitq wait;        /* who waits here, and epolls that watch this */
    struct epoll_item *items; /* all; under epoll_lock */
};

struct epoll_item {
    struct epoll *ep;
    struct file *f; /* not referenced: see epoll_file_gone */
    int fd;
    u32 events; /* 0 of the private bits left: disarmed by ONESHOT */
    u64 data;
    struct epoll_item *next, *prev;             /* of ep */
    struct epoll_item *watch_next, *watch_prev; /* of f */
    struct epoll_item *ready_next;              /* under ep->lock */
    bool ready;                                 /* on the ready list */
    struct waiter w[ITEM_QUEUES];
    unsigned nw;
};

static struct kmutex epoll_lock;
static const struct file_ops epoll_ops;

static void make_ready(struct epoll_item *it)
{
    struct epoll *ep = it->ep;
    unsigned long flags = kspin_lock(&ep->lock);
    bool wake = !it->ready;

    if (wake) {
        it->ready = true;
        it->ready_next = NULL;
        if (ep->ready_last)
            ep->ready_last->ready_next = it;
        else
            ep->ready_first = it;
        ep->ready_last = it;
        ep->nready++;
    }
    kspin_unlock(&ep->lock, flags);
    if (wake)
        waitq_wake_all(&ep->wait);
}

static struct epoll_item *take_ready(struct epoll *ep)
{
    unsigned long flags = kspin_lock(&ep->lock);
    struct epoll_item *it = ep->ready_first;

    if (it) {
        ep->ready_first = it->ready_next;
        if (!ep->ready_first)
            ep->ready_last = NULL;
        it->ready = false;
        ep->nready--;
    }
    kspin_unlock(&ep->lock, flags);
    return it;
}

static void unready(struct epoll_item *it)
{
    struct epoll *ep = it->ep;
    unsigned long flags = kspin_lock(&ep->lock);

    if (it->ready) {
        struct epoll_item **at = &ep->ready_first, *prev = NULL;

        while (*at != it) {
            prev = *at;
            at = &prev->ready_next;
        }
        *at = it->ready_next;
        if (ep->ready_last == it)
            ep->ready_last = prev;
        it->ready = false;
        ep->nready--;
    }
    kspin_unlock(&ep->lock, flags);
}

/* In the watched queue's lock. */
static void notified(struct waiter *w)
{
    make_ready((struct epoll_item *)w->task); /* the field serves as our pointer */
}

struct item_table {
    struct poll_table pt;
    struct epoll_item *it;
};

static void queue_item(struct poll_table *pt, struct waitq *q)
{
    struct epoll_item *it = K_CONTAINER(pt, struct item_table, pt)->it;

    if (it->nw == ITEM_QUEUES) {
        pt->err = -ENOMEM;
        return;
    }
    /* before it is on the queue: a wake-up may come at once */
    it->w[it->nw].task = (struct task *)it;
    waitq_add_notify(q, &it->w[it->nw++], notified);
}

static unsigned item_poll(struct epoll_item *it, struct poll_table *pt)
{
    unsigned mask = it->f->ops->poll(it->f, pt);

    if (mask & POLL_IN)
        mask |= 0x40;
    if (mask & POLL_OUT)
        mask |= 0x100;
    return mask & (it->events | POLL_ERR | POLL_HUP);
}

/* ---- the set; epoll_lock held ---- */

static struct epoll_item *find(struct epoll *ep, struct file *f, int fd)
{
    struct epoll_item *it = f->watchers;

    while (it && (it->ep != ep || it->fd != fd))
        it = it->watch_next;
    return it;
}

static void item_free(struct epoll_item *it)
{
    for (unsigned k = 0; k < it->nw; k++)
        waitq_remove(&it->w[k]);
    unready(it);
    if (it->prev)
        it->prev->next = it->next;
    else
        it->ep->items = it->next;
    if (it->next)
        it->next->prev = it->prev;
    if (it->watch_prev)
        it->watch_prev->watch_next = it->watch_next;
    else
        __atomic_store_n(&it->f->watchers, it->watch_next, __ATOMIC_RELEASE);
    if (it->watch_next)
        it->watch_next->watch_prev = it->watch_prev;
    quire_kfree(it);
}

void epoll_file_gone(struct file *f)
{
    kmutex_lock(&epoll_lock);
    while (f->watchers)
        item_free(f->watchers);
    kmutex_unlock(&epoll_lock);
}

/* Does watching f lead back to ep, or too deep?  Recursion is bounded by NEST_MAX. */
static bool loops(const struct epoll *ep, const struct file *f, unsigned depth)
{
    const struct epoll *inner;

    if (f->ops != &epoll_ops)
        return false;
    inner = f->priv;
    if (inner == ep || depth > NEST_MAX)
        return true;
    for (const struct epoll_item *it = inner->items; it; it = it->next)
        if (loops(ep, it->f, depth + 1))
            return true;
    return false;
}

static int item_add(struct epoll *ep, struct file *f, int fd, const struct kepoll_event *ev)
{
    struct item_table t = {.pt = {.queue = queue_item}};
    struct epoll_item *it;

    if (loops(ep, f, 1))
        return -ELOOP;
    it = quire_kzalloc(sizeof *it, QUIRE_GFP_KERNEL);
    if (!it)
        return -ENOMEM;
    it->ep = ep;
    it->f = f;
    it->fd = fd;
    it->events = ev->events;
    it->data = ev->data;
    it->next = ep->items;
    if (it->next)
        it->next->prev = it;
    ep->items = it;
    it->watch_next = f->watchers;
    if (it->watch_next)
        it->watch_next->watch_prev = it;
    __atomic_store_n(&f->watchers, it, __ATOMIC_RELEASE);
    t.it = it;
    if (item_poll(it, &t.pt))
        make_ready(it);
    if (t.pt.err)
        item_free(it);
    return t.pt.err;
}

static int item_change(struct epoll_item *it, const struct kepoll_event *ev)
{
    if (it->events & EPOLLEXCLUSIVE)
        return -EINVAL;
    it->events = ev->events;
    it->data = ev->data;
    if (item_poll(it, NULL))
        make_ready(it);
    return 0;
}

static long control(struct file *epf, int op, struct file *f, int fd, const struct kepoll_event *ev)
{
    struct epoll *ep = epf->priv;
    struct epoll_item *it;
    long r;

    if (epf->ops != &epoll_ops || epf == f)
        return -EINVAL;
    if (!f->ops->poll)
        return -EPERM; /* regular files are always ready: epoll refuses them */
    if ((ev->events & EPOLLEXCLUSIVE) && op != EPOLL_CTL_DEL &&
        (op == EPOLL_CTL_MOD || f->ops == &epoll_ops))
        return -EINVAL;
    kmutex_lock(&epoll_lock);
    it = find(ep, f, fd);
    switch (op) {
    case EPOLL_CTL_ADD: r = it ? -EEXIST : item_add(ep, f, fd, ev); break;
    case EPOLL_CTL_MOD: r = it ? item_change(it, ev) : -ENOENT; break;
    case EPOLL_CTL_DEL:
        r = it ? 0 : -ENOENT;
        if (it)
            item_free(it);
        break;
    default: r = -EINVAL;
    }
    kmutex_unlock(&epoll_lock);
    return r;
}

long sys_epoll_ctl(int epfd, int op, int fd, u64 uev)
{
    struct kepoll_event ev = {.events = 0};
    struct file *epf, *f;
    long r;

    if (op != EPOLL_CTL_DEL && copy_from_user(&ev, uev, sizeof ev))
        return -EFAULT;
    epf = fd_get(epfd);
    f = fd_get(fd);
    if (!epf || !f || (f->flags & O_PATH))
        r = -EBADF;
    else
        r = control(epf, op, f, fd, &ev);
    if (epf)
        file_put(epf);
    if (f)
        file_put(f);
    return r;
}

/* ---- waiting ---- */

/*
 * Poll what is on the ready list now and report up to n events to buf.  Level-triggered items go
 * back to its end, so that all get their turn.
 */
static int harvest(struct epoll *ep, struct kepoll_event *buf, int n)
{
    struct epoll_item *it;
    int got = 0;

    kmutex_lock(&epoll_lock);
    for (u32 todo = __atomic_load_n(&ep->nready, __ATOMIC_RELAXED); got < n && todo; todo--) {
        unsigned mask;

        it = take_ready(ep);
        if (!it)
            break;
        if (!(it->events & ~EPOLL_PRIVATE))
            continue;
        mask = item_poll(it, NULL);
        if (!mask)
            continue;
        buf[got++] = (struct kepoll_event){mask, it->data};
        if (it->events & EPOLLONESHOT)
            it->events &= EPOLL_PRIVATE;
        else if (!(it->events & EPOLLET))
            make_ready(it);
    }
    kmutex_unlock(&epoll_lock);
    return got;
}

static bool may_have_events(const struct epoll *ep)
{
    return __atomic_load_n(&ep->nready, __ATOMIC_ACQUIRE) != 0;
}

static int wait_events(struct epoll *ep, struct kepoll_event *buf, int n, u64 deadline)
{
    struct waiter w;
    int got, err = 0;

    got = harvest(ep, buf, n);
    if (got || !deadline)
        return got;
    waitq_add(&ep->wait, &w);
    for (;;) {
        wait_prepare();
        if (may_have_events(ep)) {
            wait_finish();
            got = harvest(ep, buf, n);
            if (got)
                break;
            if (may_have_events(ep))
                continue;
            wait_prepare();
            if (may_have_events(ep))
                continue;
        }
        err = wait_sleep(deadline);
        if (err) {
            wait_finish();
            got = harvest(ep, buf, n);
            break;
        }
    }
    wait_finish();
    waitq_remove(&w);
    return got ? got : err == -ETIMEDOUT ? 0 : err;
}

static long do_wait(int epfd, u64 uevents, int n, u64 deadline)
{
    struct file *f;
    struct kepoll_event *buf;
    long r;

    if (n <= 0 || n > MAX_EVENTS)
        return -EINVAL;
    f = fd_get(epfd);
    if (!f)
        return -EBADF;
    if (f->ops != &epoll_ops) {
        file_put(f);
        return -EINVAL;
    }
    n = K_MIN(n, 1024); /* as many as one call reports */
    buf = quire_kvmalloc_array((size_t)n, sizeof *buf, QUIRE_GFP_KERNEL);
    r = buf ? wait_events(f->priv, buf, n, deadline) : -ENOMEM;
    if (r > 0 && copy_to_user(uevents, buf, (size_t)r * sizeof *buf))
        r = -EFAULT;
    quire_kvfree(buf);
    file_put(f);
    return r;
}

static u64 deadline_of_ms(int ms)
{
    return ms < 0 ? WAIT_FOREVER : ms ? ktime_ns() + (u64)ms * 1000000 : 0;
}

/* Nothing was taken when a signal came: it is reported, never restarted (signal(7)). */
long sys_epoll_wait(int epfd, u64 events, int n, int ms)
{
    return do_wait(epfd, events, n, deadline_of_ms(ms));
}

static long masked_wait(int epfd, u64 events, int n, u64 deadline, u64 umask, u64 size)
{
    long r = signal_mask_set_user(umask, size);

    if (r)
        return r;
    r = do_wait(epfd, events, n, deadline);
    signal_mask_restore(r == -EINTR);
    return r;
}

long sys_epoll_pwait(int epfd, u64 events, int n, int ms, u64 umask, u64 size)
{
    return masked_wait(epfd, events, n, deadline_of_ms(ms), umask, size);
}

long sys_epoll_pwait2(int epfd, u64 events, int n, u64 utime, u64 umask, u64 size)
{
    u64 deadline = WAIT_FOREVER;
    i64 t[2];

    if (utime) {
        if (copy_from_user(t, utime, sizeof t))
            return -EFAULT;
        if (t[0] < 0 || t[1] < 0 || t[1] >= 1000000000)
            return -EINVAL;
        deadline = !t[0] && !t[1] ? 0 : ktime_ns() + (u64)t[0] * 1000000000u + (u64)t[1];
    }
    return masked_wait(epfd, events, n, deadline, umask, size);
}

/* ---- the file ---- */

static unsigned epoll_poll(struct file *f, struct poll_table *pt)
{
    struct epoll *ep = f->priv;

    poll_add(pt, &ep->wait);
    return may_have_events(ep) ? POLL_IN : 0;
}

static void epoll_release(struct file *f)
{
    struct epoll *ep = f->priv;

    kmutex_lock(&epoll_lock);
    while (ep->items)
        item_free(ep->items);
    kmutex_unlock(&epoll_lock);
    quire_kfree(ep);
}

static const struct file_ops epoll_ops = {.poll = epoll_poll, .release = epoll_release};

static long create(u32 flags)
{
    struct epoll *ep = quire_kzalloc(sizeof *ep, QUIRE_GFP_KERNEL);
    struct file *f;

    if (!ep)
        return -ENOMEM;
    f = file_anon(&epoll_ops, "anon_inode:[eventpoll]", 0600, ep, O_RDWR);
    if (!f) {
        quire_kfree(ep);
        return -ENOMEM;
    }
    return fd_install_flags(f, flags);
}

long sys_epoll_create(int size) { return size <= 0 ? -EINVAL : create(0); }
long sys_epoll_create1(unsigned flags) { return flags & ~O_CLOEXEC ? -EINVAL : create(flags); }
