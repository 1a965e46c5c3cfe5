/*
 * kernel/proc/proc.h - what the files of kernel/proc share.
 *
 * Locks, outermost first:
 *   proc_lock     process tree, thread lists, hashes, pid numbers, groups and sessions, zombie and stop states
 *   p->siglock    pending signals and masks of p's threads, p->sighand, p's group_* flags
 *   sighand->lock the handlers (CLONE_SIGHAND may share them between processes)
 * A thread list changes under proc_lock and siglock together: whoever holds one of them may walk it.
 */
#ifndef KERNEL_PROC_PROC_H
#define KERNEL_PROC_PROC_H

#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>
#include "fs.h"
#include "k.h"
#include "lock.h"
#include "signal.h"
#include "task.h"
#include "uaccess.h"
#include "wait.h"

/* ---- signals ---- */

/* clang-format off */
enum {
    SIGHUP = 1, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2,
    SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU,
    SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS
};
/* clang-format on */
#define NSIG             64
#define SIGRTMIN         32
#define SIGBIT(n)        ((u64)1 << ((n)-1))
#define SIG_DFL          0ul
#define SIG_IGN          1ul
#define SIGS_UNBLOCKABLE (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))
#define SIGS_STOP        (SIGBIT(SIGSTOP) | SIGBIT(SIGTSTP) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU))
#define SIGS_IGNORED     (SIGBIT(SIGCHLD) | SIGBIT(SIGCONT) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH))
#define SIGS_SYNC                                                                           \
    (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP) | SIGBIT(SIGFPE) | \
     SIGBIT(SIGSYS))
#define SIGS_CORE                                                                            \
    (SIGBIT(SIGQUIT) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP) | SIGBIT(SIGABRT) | SIGBIT(SIGBUS) | \
     SIGBIT(SIGFPE) | SIGBIT(SIGSEGV) | SIGBIT(SIGXCPU) | SIGBIT(SIGXFSZ) | SIGBIT(SIGSYS))

#define SA_NOCLDSTOP 1ul
#define SA_NOCLDWAIT 2ul
#define SA_SIGINFO   4ul
#define SA_RESTORER  0x04000000ul
#define SA_ONSTACK   0x08000000ul
#define SA_RESTART   0x10000000ul
#define SA_NODEFER   0x40000000ul
#define SA_RESETHAND 0x80000000ul

#define SS_ONSTACK    1
#define SS_DISABLE    2
#define SS_AUTODISARM (1u << 31)

#define SI_USER   0
#define SI_KERNEL 0x80
#define SI_QUEUE  (-1)
#define SI_TIMER  (-2)
#define SI_TKILL  (-6)
enum { CLD_EXITED = 1, CLD_KILLED, CLD_DUMPED, CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED };

/* As rt_sigaction(2) passes it. */
struct sigaction_k {
    u64 handler, flags, restorer, mask;
};

struct sighand {
    struct kspin lock;
    u32 refs;
    struct sigaction_k action[NSIG]; /* by signal - 1 */
};

struct ptimer;

/* One queued signal. */
struct sigentry {
    struct sigentry *next;
    struct ksiginfo si;
    u64 extra[2];         /* SI_QUEUE: what the sender put into the rest of its siginfo */
    bool counted;         /* in the process's RLIMIT_SIGPENDING */
    struct ptimer *timer; /* its own entry: not freed when delivered */
};

struct task_signals {
    u64 mask, saved_mask;
    u64 real_mask;     /* during sigtimedwait: what is blocked besides */
    bool restore_mask; /* saved_mask takes effect after the next delivery */
    struct signal_queue pending;
    u64 alt_sp, alt_size;
    u32 alt_flags;
    struct restart_block restart;
};

/* signal.c */
extern struct quire_cache *sighand_cache, *sigentry_cache, *task_signals_cache;
struct sighand *sighand_copy(struct sighand *from); /* NULL from: all default; NULL: no memory */
void sighand_put(struct sighand *h);
struct sigaction_k signal_action(struct process *p, int signo);
void signal_queue_flush(struct process *p, struct signal_queue *q);
void signal_remove(struct process *p, struct signal_queue *q, u64 set);
int signal_send(struct process *p, struct task *only, const struct ksiginfo *si,
                const u64 extra[2]);
/* siglock held */
int signal_send_locked(struct process *p, struct task *only, const struct ksiginfo *si,
                       const u64 extra[2]);
int signal_dequeue(struct task *t, u64 set, struct sigentry *out);
void signal_recalc(struct task *t);
void signal_mask_set(u64 mask);
void signal_forced(int signo);
/* Number, or a ptimer's own entry that is still waiting. */
bool signal_ptimer_queue(struct process *p, struct task *only, struct sigentry *e);
void siginfo_to_user_bytes(const struct ksiginfo *si, const u64 extra[2], u8 out[128]);
/* The whole process begins to die: every thread gets SIGKILL. siglock held. */
void signal_group_exit_locked(struct process *p, int code);

/* sigdeliver.c, sigframe.c */
int sigframe_push(struct regs *r, const struct sigaction_k *act, const struct sigentry *e,
                  u64 mask);

/* signalfd.c: whoever waits for any signal to arrive */
extern struct waitq signalfd_wait;

/* core.c */
bool core_dump(const struct regs *r, const struct ksiginfo *si);

/* ---- processes ---- */

struct vfork_wait {
    bool done;
    struct waitq q;
};

#define PID_MAX 32768
extern int pid_max; /* numbers given out are below it: at most PID_MAX; /proc/sys/kernel/pid_max */

extern struct process *process_list; /* all, under proc_lock */
extern struct process *process_one;
void proc_caches_init(void);
struct process *process_alloc(void);
/* proc_lock held */
int pid_take_locked(int wanted); /* 0: any; number or -EAGAIN, -EEXIST */
void pid_use_locked(int pid);
void pid_drop_locked(int pid);
void process_link_locked(struct process *p, struct process *parent);
void process_unlink_locked(struct process *p);
void task_link_locked(struct task *t);
void task_unlink_locked(struct task *t);
struct process *process_find_locked(int pid);
struct task *task_find_locked(int tid);
void process_get(struct process *p);
void child_add_locked(struct process *parent, struct process *p);
void child_remove_locked(struct process *p);
void task_rehash_locked(struct task *t, int tid);

/* clone.c */
struct clone_args {
    u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};
long clone_do(const struct clone_args *a);

/* exit.c */
_Noreturn void exit_thread(int code);
_Noreturn void exit_group(int code);
void vfork_release(struct process *p);
/* The thread leaves its memory (exit, exec): robust list, owned PI futexes, clear_child_tid. */
void thread_memory_release(struct task *t, bool others);
bool pgrp_orphaned_locked(int pgid, struct process *ignored);

/* wait.c */
void process_notify_parent_locked(struct process *p, int code, int status);
void process_reap_locked(struct process *p, bool waited);
void process_cpu_ns(struct process *p, u64 *user, u64 *system);
void ns_to_timeval(u64 ns, u64 tv[2]);

/* futex.c */
void futex_exit(struct task *t);
void futex_wake_address(u64 uaddr, unsigned n);
void pi_exit(struct task *t);
void robust_exit(struct task *t);

/* timers */
void itimers_exit(struct process *p);
void ptimers_exit(struct process *p);
void cpu_timer_start(struct process *p); /* a limit or timer on CPU time was set */
void cpu_timer_start_locked(struct process *p);
bool ptimers_cpu_check(struct process *p);
long sys_timer_delete(int id);
void ptimers_signal_taken(struct sigentry *e);

/* random.c */
void random_bytes(void *to, size_t n);

/* pidfd.c */
#define PIDFD_NONBLOCK 0x800u /* O_NONBLOCK */
int pidfd_make(struct process *p, u32 flags, struct file **out);
struct process *pidfd_process(struct file *f);

/* ids.c */
enum {
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SETPCAP,
    CAP_IPC_LOCK = 14,
    CAP_SYS_CHROOT = 18,
    CAP_SYS_PTRACE,
    CAP_SYS_PACCT,
    CAP_SYS_ADMIN,
    CAP_SYS_BOOT,
    CAP_SYS_NICE,
    CAP_SYS_RESOURCE,
    CAP_SYS_TIME,
    CAP_LAST = 40
};
#define CAPS_ALL ((1ull << (CAP_LAST + 1)) - 1)
bool signal_permitted(struct process *p, int signo);

enum {
    RLIMIT_CPU,
    RLIMIT_FSIZE,
    RLIMIT_DATA,
    RLIMIT_STACK,
    RLIMIT_CORE,
    RLIMIT_RSS,
    RLIMIT_NPROC,
    RLIMIT_NOFILE,
    RLIMIT_MEMLOCK,
    RLIMIT_AS,
    RLIMIT_LOCKS,
    RLIMIT_SIGPENDING,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_RTPRIO,
    RLIMIT_RTTIME
};
#define RLIM_INFINITY (~(u64)0)
void limits_init(struct process *p);
/* Bytes that p may lock in memory: CAP_IPC_LOCK lifts the limit. */
u64 limits_memlock(const struct process *p);
/* Tell s, the space of p, after a change of p's limits or capabilities. */
void limits_apply(struct process *p, struct quire_space *s);

#define ADDR_NO_RANDOMIZE 0x0040000u

#define E_LIBBAD 80

/* struct timespec and timeval of user memory, as nanoseconds. */
int timespec_get(u64 at, u64 *ns);
int timespec_put(u64 at, u64 ns);

static inline struct process *current_process(void) { return current->proc; }

#endif
