/*
 * kernel/include/wait.h - wait queues.
 *
 * A sleeper puts a struct waiter on one or several queues, then alternates between testing its condition and
 * wait_sleep(); whoever changes the condition calls waitq_wake*.  No wake-up is lost: wait_prepare
 * marks the task as about to sleep before the condition is tested, and a wake-up in between makes
 * wait_sleep return at once.
 *
 *     struct waiter w;
 *     waitq_add(&q, &w);
 *     for (;;) {
 *         wait_prepare();
 *         if (condition) break;
 *         err = wait_sleep(deadline_ns);        // 0, -ETIMEDOUT, or -EINTR if a signal is pending
 *         if (err) break;
 *     }
 *     wait_finish();
 *     waitq_remove(&w);
 */
#ifndef K_WAIT_H
#define K_WAIT_H

#include "lock.h"

struct task;
struct waitq;

struct waiter {
    struct waiter *next, *prev; /* circular, on q->head; under q->lock */
    struct waitq *q;
    struct task *task;
    /* NULL: wake task.  Else called instead, under q->lock with interrupts off; must not sleep or
     * touch q (epoll).  waitq_wake(q, n) counts only woken tasks. */
    void (*notify)(struct waiter *w);
};

struct waitq {
    struct kspin lock;
    struct waiter *first; /* NULL: empty; first->prev is the last */
};

#define WAIT_FOREVER (~(u64)0)

void waitq_add(struct waitq *q, struct waiter *w); /* w->task = current, at the end; notify NULL */
/* w->task stays the caller's, who sets it before: notify may be called before this returns. */
void waitq_add_notify(struct waitq *q, struct waiter *w, void (*notify)(struct waiter *));
void waitq_remove(struct waiter *w);
void wait_prepare(void);
/* deadline: ktime_ns() value or WAIT_FOREVER.  Interruptible by signals. */
int wait_sleep(u64 deadline_ns);
/* Same, but only a fatal signal (SIGKILL) interrupts. */
int wait_sleep_killable(u64 deadline_ns);
void wait_finish(void);
/* Any context. */
void waitq_wake_all(struct waitq *q);
void waitq_wake(struct waitq *q, unsigned n);

/* Sleep until cond; evaluates to 0 or -EINTR. */
#define WAIT_EVENT(q, cond)                  \
    ({                                       \
        struct waiter w_;                    \
        int err_ = 0;                        \
        waitq_add((q), &w_);                 \
        for (;;) {                           \
            wait_prepare();                  \
            if (cond)                        \
                break;                       \
            err_ = wait_sleep(WAIT_FOREVER); \
            if (err_ && !(cond))             \
                break;                       \
            err_ = 0;                        \
        }                                    \
        wait_finish();                       \
        waitq_remove(&w_);                   \
        err_;                                \
    })

#endif
