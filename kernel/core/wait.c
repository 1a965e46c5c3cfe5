/*
 * core/wait.c - wait queues, sleeping, the slow path of kmutex.  Contracts: wait.h, lock.h.
 */
#include "wait.h"
#include "signal.h"
#include "task.h"

static void link_last(struct waitq *q, struct waiter *w)
{
    if (!q->first) {
        w->next = w->prev = w;
        q->first = w;
        return;
    }
    w->next = q->first;
    w->prev = q->first->prev;
    w->prev->next = w;
    w->next->prev = w;
}

void waitq_add_notify(struct waitq *q, struct waiter *w, void (*notify)(struct waiter *))
{
    unsigned long flags;

    w->q = q;
    if (!notify)
        w->task = current; /* else the caller's, set before: a wake-up may come at once */
    w->notify = notify;
    flags = kspin_lock(&q->lock);
    link_last(q, w);
    kspin_unlock(&q->lock, flags);
}

void waitq_add(struct waitq *q, struct waiter *w) { waitq_add_notify(q, w, NULL); }

void waitq_remove(struct waiter *w)
{
    struct waitq *q = w->q;
    unsigned long flags = kspin_lock(&q->lock);

    if (w->next == w) {
        q->first = NULL;
    } else {
        w->next->prev = w->prev;
        w->prev->next = w->next;
        if (q->first == w)
            q->first = w->next;
    }
    kspin_unlock(&q->lock, flags);
}

void waitq_wake(struct waitq *q, unsigned n)
{
    unsigned long flags = kspin_lock(&q->lock);
    struct waiter *w = q->first;

    if (w) {
        do {
            if (w->notify) {
                w->notify(w);
            } else {
                task_wake(w->task);
                n--;
            }
            w = w->next;
        } while (n && w != q->first);
    }
    kspin_unlock(&q->lock, flags);
}

void waitq_wake_all(struct waitq *q) { waitq_wake(q, ~0u); }

/* ---- sleeping ---- */

void wait_prepare(void) { __atomic_store_n(&current->state, TASK_SLEEPING, __ATOMIC_SEQ_CST); }
void wait_finish(void) { __atomic_store_n(&current->state, TASK_RUNNABLE, __ATOMIC_SEQ_CST); }

struct alarm {
    struct ktimer timer;
    struct task *task;
};

static void alarm_rings(struct ktimer *t) { task_wake(K_CONTAINER(t, struct alarm, timer)->task); }

static bool interrupted(bool (*pending)(struct task *)) { return current->sig && pending(current); }

static int sleep(u64 deadline_ns, bool (*pending)(struct task *))
{
    struct alarm a = {.timer = {.fn = alarm_rings}, .task = current};

    if (interrupted(pending)) {
        wait_finish();
        return -EINTR;
    }
    if (deadline_ns == WAIT_FOREVER) {
        schedule();
    } else {
        if (ktime_ns() >= deadline_ns) {
            wait_finish();
            return -ETIMEDOUT;
        }
        ktimer_start(&a.timer, deadline_ns);
        schedule();
        ktimer_cancel_sync(&a.timer);
    }
    wait_finish();
    if (deadline_ns != WAIT_FOREVER && ktime_ns() >= deadline_ns)
        return -ETIMEDOUT;
    return interrupted(pending) ? -EINTR : 0;
}

int wait_sleep(u64 deadline_ns) { return sleep(deadline_ns, signal_pending); }
int wait_sleep_killable(u64 deadline_ns) { return sleep(deadline_ns, signal_fatal_pending); }

void kmutex_lock_slow(struct kmutex *m)
{
    while (__atomic_exchange_n(&m->word, 2, __ATOMIC_ACQUIRE))
        qport_wait(&m->word, 2);
}
