/*
 * kernel/include/task.h - threads (struct task) and processes.
 *
 * A task is what is scheduled; a process is what shares memory (in general), files, signal handlers
 * and an exit status.  kernel/core owns the scheduling part of struct task, kernel/proc the rest.
 */
#ifndef K_TASK_H
#define K_TASK_H

#include "k.h"
#include "lock.h"
#include "wait.h"

struct quire_space;
struct files;
struct file;
struct fs_context;
struct sighand;
struct process;

/* User registers as saved on entry; order fixed by arch/entry.S.  Same layout for system calls,
 * faults and interrupts. */
struct regs {
    u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    u64 orig_rax; /* system call number, or -1 */
    u64 rip, cs, rflags, rsp, ss;
};

/* Of the stack of each task, up to kstack_top. */
#define KSTACK_BYTES 16384

enum task_state { TASK_RUNNABLE, TASK_SLEEPING, TASK_STOPPED, TASK_ZOMBIE, TASK_DEAD };

/* Reasons to take the slow way back to user mode, in task.work. */
#define WORK_RESCHED 1u
#define WORK_SIGNAL  2u
#define WORK_RSEQ    4u /* core/rseq.c */

struct task {
    /* arch/entry.S and arch/switch.S know these offsets (checked in task.c) */
    u64 kstack_top;  /* 0 */
    u64 saved_rsp;   /* 8 */
    u32 work;        /* 16: WORK_*; atomic */
    u32 preempt_off; /* 20 */
    u64 fs_base;     /* 24: user FS */
    u64 gs_base;     /* 32: user GS */
    void *fpu;       /* 40: 512-byte FXSAVE area (or XSAVE), 64-byte aligned */

    /* scheduler; under the run queue's lock */
    u32 state; /* enum task_state; atomic: SLEEPING to RUNNABLE by whoever wakes */
    int cpu;   /* where it runs or last ran */
    bool on_cpu;
    u8 on_queue, rq_class; /* see core/sched.c */
    u64 affinity[4];       /* bit mask of CPUs */
    struct task *rq_next, *rq_prev;
    i64 slice_left_ns;
    u64 run_start_ns, utime_ns, stime_ns;
    int nice, policy, rt_priority;
    bool reset_on_fork; /* SCHED_RESET_ON_FORK */
    bool sample_user;   /* where the last tick found it */
    const char *wait_reason;

    /* identity; constant */
    int tid;
    u64 canary; /* random: what its stack is watched with */
    struct process *proc;
    struct quire_policy *mempolicy; /* kernel/mm/mempolicy.c; only its own faults read it */
    struct quire_space
        *space; /* NULL for kernel threads; changed only by exec of the task itself */
    char comm[16];
    void (*kthread_main)(void *);
    void *kthread_arg;

    /* threads of the process: circular; under proc_lock */
    struct task *thread_next, *thread_prev;

    /* kernel/proc */
    struct task_signals *sig; /* pending set, mask, altstack */
    u64 clear_child_tid;      /* user address, or 0 */
    u64 robust_list, robust_len;
    u64 rseq_addr; /* core/rseq.c; 0: none.  fork without CLONE_VM copies both, exec clears */
    u32 rseq_sig;
    struct futex_waiter *futex; /* kernel/proc/futex.c */
    int exit_code;
    bool exiting, vfork_child, tsc_off; /* tsc_off: user mode may not read the TSC (PR_SET_TSC) */
    struct regs *regs;                  /* user registers of the current entry */
    u64 start_ns;
    u64 min_flt, maj_flt;
    u64 nvcsw, nivcsw;
    struct task *all_next, *all_prev; /* all tasks; core/task.c */
    u32 refs;
    struct task *tid_next; /* kernel/proc: hash by tid; under proc_lock */
    int pdeath_signal;
    /* last exception of user mode, set by arch before signal_fault(), for signal frames */
    u32 trap_no, trap_err;
    u64 trap_addr;
    u64 timerslack_ns, default_slack_ns;
};

/* The running task, in the per-CPU area at %gs:0. */
static inline struct task *current_task(void)
{
    struct task *t;

    __asm__ volatile("mov %%gs:0, %0" : "=r"(t));
    return t;
}
#define current current_task()

/* ---- kernel/core/sched.c ---- */

/* A new task with a kernel stack, not yet runnable.  A kernel thread if main is given. */
struct task *task_alloc(const char *comm, void (*main)(void *), void *arg);
/* First run of a user task: it returns to user mode with these registers. */
void task_set_user(struct task *t, const struct regs *r);
void task_start(struct task *t); /* make runnable for the first time */
/* kernel/mm/mempolicy.c: to, which has none, gets a copy of from's; 0 or -ENOMEM. */
int mempolicy_clone(struct task *to, const struct task *from);
/* Wake a sleeping task; any context. */
void task_wake(struct task *t);
void schedule(void);        /* give up the CPU in the current state */
void sched_yield_now(void); /* stay runnable */
/* Call one for each task that has a stack; interrupts off, no task begins or ends meanwhile. */
void tasks_each(void (*one)(struct task *t, void *ctx), void *ctx);
/* Where what is in use of the task's stack begins; of one that runs, all of it. */
u64 task_stack_low(const struct task *t);
void cond_resched(void);              /* long loops in task context */
_Noreturn void task_exit_final(void); /* off the CPU for ever; the scheduler frees stack and task */
void task_get(struct task *t);
void task_put(struct task *t);
int task_set_affinity(struct task *t, const u64 mask[4]);
unsigned cpus_online(void);
/* Bring utime_ns and stime_ns of t up to now, if it is running.  Any context; order: under proc_lock or siglock. */
void sched_charge(struct task *t);
/* Make t enter the slow path soon (kick its CPU if it runs elsewhere).  Any context. */
void task_set_work(struct task *t, u32 bits);

/* One-shot timer; fn runs in interrupt context. */
struct ktimer {
    u64 at_ns;
    void (*fn)(struct ktimer *);
    struct ktimer *child, *next, *prev; /* owned by core/timer.c */
    bool armed;
    u32 cpu;
};
void ktimer_start(struct ktimer *t, u64 at_ns); /* also moves an armed one */
bool ktimer_cancel(struct ktimer *t);           /* true if it had been armed */
/* Also waits until fn, if it runs on another CPU just now, has returned: before t's memory goes away.  The
 * caller holds no lock that fn takes. */
bool ktimer_cancel_sync(struct ktimer *t);

/* ---- processes (kernel/proc) ---- */

/* Signals that wait: the set, and what is known of each, in order of arrival. */
struct signal_queue {
    u64 set;
    struct sigentry *first, *last;
};

#define RLIMITS 16
struct rlimit64 {
    u64 cur, max;
};

struct process {
    int pid, pgid, sid;
    struct process *parent;
    struct process *children, *sibling_next, *sibling_prev; /* under proc_lock */
    struct task *threads;                                   /* any of them; under proc_lock */
    int nthreads;
    bool zombie, exiting, stopped, continued, stop_reported, cont_reported;
    int exit_status; /* as wait4(2) gives it */
    int stop_sig;
    int exit_signal;         /* to the parent; SIGCHLD for fork */
    struct waitq child_wait; /* wait4 of this process sleeps here */
    struct waitq exit_wait;  /* others who wait for its end (pidfd, vfork) */
    struct quire_space *space;
    struct files *files;
    struct fs_context *fs;
    struct file *exe_file;   /* keeps the program from being written to */
    struct sighand *sighand; /* handlers, and the pending set of the whole process */
    u32 uid, euid, suid, fsuid, gid, egid, sgid, fsgid;
    u32 groups[32];
    int ngroups;
    struct rlimit64 rlim[RLIMITS];
    u64 cutime_ns, cstime_ns, utime_ns, stime_ns; /* of reaped children; of dead threads */
    u64 min_flt, maj_flt, cmin_flt, cmaj_flt, maxrss_kib, cmaxrss_kib;
    u64 start_ns;
    int oom_score_adj, dumpable;
    struct ktimer itimer_real;
    u64 itimer_interval_ns;
    char exe[256]; /* path, for /proc/pid/exe */
    q_uva arg_start, arg_end, env_start, env_end, auxv_start,
        auxv_end; /* for /proc/pid/cmdline, environ, auxv */
    int tty_sid;
    struct process *hash_next;
    u32 refs;
    u32 personality;

    /* kernel/proc only */
    struct kspin siglock; /* pending sets, masks, sighand pointer; also thread-list changes */
    struct signal_queue pending;         /* of the whole process */
    struct waitq stop_wait;              /* stopped threads park here */
    struct vfork_wait *vfork_wait;       /* parent that waits for our exec or exit */
    struct process *all_next, *all_prev; /* all processes; under proc_lock */
    struct ptimer *ptimers;              /* timer_create(2) */
    struct task *group_exec;             /* the thread that kills the others for exec */
    bool group_exit, dumping, group_stop, did_exec, subreaper, no_new_privs, keep_caps, cont_notify;
    int group_exit_code, group_live;
    u64 cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
    u64 nvcsw, nivcsw, cnvcsw, cnivcsw, nsigpending;
    struct itimer_cpu {
        u64 at_ns, interval_ns;
    } itimer_virt, itimer_prof;
    struct ktimer cpu_timer;
    int next_timer_id;
    u32 membarrier;            /* commands registered; atomic; cleared by exec */
    int ppid;                  /* parent's pid, or 0: atomic, written under proc_lock */
    struct sem_undo *sem_undo; /* kernel/ipc/sem.c */
    bool files_shared,
        vm_shared; /* with another process (clone without CLONE_THREAD), once at least */
};

extern struct kspin proc_lock; /* the process tree, thread lists, all tasks */

struct process *process_find(int pid); /* with a reference, or NULL; process_put */
void process_put(struct process *p);
struct task *task_find(int tid);
/* Call fn for every process (a reference is held meanwhile) until it returns false. */
void process_for_each(bool (*fn)(struct process *, void *), void *ctx);
struct process *init_process(void);
/* The six names of uname(2): system, node, release, version, machine, domain. */
#define UTS_LEN 65
void uts_get(char names[6][UTS_LEN]);
/* The calling kernel thread becomes the only thread of process 1, with no files open and no program yet:
 * before descriptors can be installed for it.  0 or -errno. */
int process_become_init(void);
/* The space of p with a reference (quire_space_put), or NULL if it has ended. */
struct quire_space *process_space(struct process *p);
/* Does the current process have this capability (CAP_* of capabilities(7))? */
bool capable(unsigned cap);
/* Process 1 has ended with this wait status: report and power off.  Provided by kernel/core. */
_Noreturn void system_end(int wait_status);

/* kernel/arch: user vector state.  It is live in the registers while its task is in the kernel. */
size_t fpu_size(void);        /* bytes of a task's fpu area in use: 512, or the XSAVE size */
void fpu_save_current(void);  /* registers -> current->fpu */
void fpu_load_current(void);  /* current->fpu -> registers; the area must be valid for the CPU */
void fpu_reset_current(void); /* both to the state of a fresh program */
/* May user mode read the time stamp counter on this CPU? */
void arch_tsc_allow(bool yes);
/* Load the bases of the user FS and GS of the current task into the CPU (also store them in the task). */
void arch_bases_load(u64 fs_base, u64 gs_base);
/* Leave the kernel for good from a kernel thread that became a program: to these registers. */
_Noreturn void task_enter_user(const struct regs *r);

/* Kernel threads of the boot call this to become the first user program; never returns on success. */
int kernel_execve(const char *path, char *const argv[], char *const envp[]);

#endif
