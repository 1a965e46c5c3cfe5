/*
 * core/rseq.c - restartable sequences: rseq(2).
 *
 * A thread may register a place in its memory where it always finds the number of the CPU that it
 * runs on, and where it says which stretch of code it is in that must not be interrupted.  After
 * every switch, and before a signal handler, the kernel writes the number and, if the thread was
 * inside such a stretch, lets it go on at the stretch's abort handler.  Sources: rseq(2), Linux's
 * include/uapi/linux/rseq.h.
 */
#include "arch/cpu.h"
#include "rseq.h"
#include "signal.h"
#include "task.h"
#include "uaccess.h"

#define RSEQ_SIZE         32
#define FLAG_UNREGISTER   1
#define CPU_UNINITIALIZED ((u32)-1)

/* Offsets in the user's struct rseq. */
enum { RSEQ_CPU_START = 0, RSEQ_CPU = 4, RSEQ_CS = 8, RSEQ_NODE = 20 };

struct critical_section {
    u32 version, flags;
    u64 start, length, abort;
};

/* If r is inside the section that the thread announced: on to its abort handler. */
static bool abort_section(struct task *t, struct regs *r)
{
    struct critical_section cs;
    u64 at;
    u32 signature;

    if (get_user_u64(&at, t->rseq_addr + RSEQ_CS))
        return false;
    if (!at)
        return true;
    if (copy_from_user(&cs, at, sizeof(cs)) || cs.version || cs.abort - cs.start < cs.length)
        return false;
    if (put_user_u64(t->rseq_addr + RSEQ_CS, 0))
        return false;
    if (r->rip - cs.start >= cs.length)
        return true;
    if (get_user_u32(&signature, cs.abort - 4) || signature != t->rseq_sig)
        return false;
    r->rip = cs.abort;
    return true;
}

void rseq_resume(struct regs *r)
{
    struct task *t = current;
    u32 cpu = qport_cpu();

    if (abort_section(t, r) && !put_user_u32(t->rseq_addr + RSEQ_CPU_START, cpu) &&
        !put_user_u32(t->rseq_addr + RSEQ_CPU, cpu) &&
        !put_user_u32(t->rseq_addr + RSEQ_NODE, this_cpu()->node))
        return;
    t->rseq_addr = 0;
    signal_fault(11 /* SIGSEGV */, 0x80 /* SI_KERNEL */, 0);
}

static long unregister(struct task *t, u64 at, u32 signature)
{
    if (!t->rseq_addr || t->rseq_addr != at)
        return -EINVAL;
    if (t->rseq_sig != signature)
        return -EPERM;
    if (put_user_u32(at + RSEQ_CPU_START, 0) || put_user_u32(at + RSEQ_CPU, CPU_UNINITIALIZED) ||
        put_user_u32(at + RSEQ_NODE, 0))
        return -EFAULT;
    t->rseq_addr = 0;
    return 0;
}

long sys_rseq(u64 at, u32 size, int flags, u32 signature)
{
    struct task *t = current;

    if (flags & FLAG_UNREGISTER)
        return flags & ~FLAG_UNREGISTER || size != RSEQ_SIZE ? -EINVAL
                                                             : unregister(t, at, signature);
    if (flags)
        return -EINVAL;
    if (t->rseq_addr) {
        if (t->rseq_addr != at || size != RSEQ_SIZE)
            return -EINVAL;
        return t->rseq_sig != signature ? -EPERM : -EBUSY;
    }
    if (size != RSEQ_SIZE || at % RSEQ_SIZE)
        return -EINVAL;
    if (!user_range_ok(at, size))
        return -EFAULT;
    t->rseq_addr = at;
    t->rseq_sig = signature;
    task_set_work(t, WORK_RSEQ); /* writes the number on the way out */
    return 0;
}
