/*
 * arch/fault.c - page faults: the CPU's words into the library's, and its answers into signals.
 */
#include "cpu.h"
#include "bare.h"
#include "measure.h"
#include "oom.h"
#include "signal.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

enum { SIGBUS = 7, SIGSEGV = 11, SEGV_MAPERR = 1, SEGV_ACCERR = 2, BUS_ADRERR = 2 };

/* Error code of the page fault (Intel SDM vol. 3, 4.7). */
#define PF_PRESENT 1u
#define PF_WRITE   2u
#define PF_USER    4u
#define PF_RSVD    8u
#define PF_FETCH   16u

#define OOM_PAUSE_NS 1000000

static unsigned access_of(u64 err)
{
    return err & PF_FETCH ? QUIRE_EXEC : err & PF_WRITE ? QUIRE_WRITE : QUIRE_READ;
}

static enum quire_status fault(u64 addr, u64 err)
{
    u64 t = measure_begin();
    enum quire_status s = quire_fault(current->space, Q_UVA(addr), access_of(err));

    measure_end(MEASURE_FAULT, t);
    return s;
}

/* Out of memory: kill the worst and try again; *s is the last answer.  False: we were chosen
 * ourselves. */
static bool out_of_memory(u64 addr, u64 err, enum quire_status *s)
{
    while (*s == QUIRE_NO_MEMORY) {
        if (signal_fatal_pending(current))
            return false;
        oom_kill();
        /* the victim needs the CPU more than we do */
        wait_prepare();
        wait_sleep_killable(ktime_ns() + OOM_PAUSE_NS);
        wait_finish();
        *s = fault(addr, err);
    }
    return true;
}

static __attribute__((noinline)) void fault_failed(struct regs *r, u64 addr, u64 err,
                                                   enum quire_status s)
{
    struct task *t = current;

    (void)r;
    if (s == QUIRE_NO_MEMORY && (!out_of_memory(addr, err, &s) || s == QUIRE_OK))
        return;
    t->trap_no = 14;
    t->trap_err = (u32)err;
    t->trap_addr = addr;
    switch (s) {
    case QUIRE_SEGV_ACCERR: signal_fault(SIGSEGV, SEGV_ACCERR, addr); break;
    case QUIRE_BUS_ADRERR:
    case QUIRE_IO: signal_fault(SIGBUS, BUS_ADRERR, addr); break;
    default: signal_fault(SIGSEGV, SEGV_MAPERR, addr); break;
    }
}

/* From entry.S: a fault of user mode; interrupts off. */
void page_fault_user(struct regs *r, u64 err)
{
    u64 addr = read_cr2();
    enum quire_status s;

    irq_on();
    if (__builtin_expect(addr >= USER_END || err & PF_RSVD, 0)) {
        if (err & PF_RSVD)
            die(r, "reserved bit set in a page-table entry for %#lx", (unsigned long)addr);
        fault_failed(r, addr, err | PF_PRESENT, QUIRE_SEGV_MAPERR);
        return;
    }
    s = fault(addr, err);
    if (__builtin_expect(s != QUIRE_OK, 0))
        fault_failed(r, addr, err, s);
    else
        current->min_flt++;
}

/* A copy to or from user memory met a page that is not there (or not writable) yet. */
static bool user_access_fault(struct regs *r, u64 addr, u64 err)
{
    enum quire_status s;

    if (addr >= USER_END || !current->space || !(r->rflags & RFLAGS_IF))
        return false;
    irq_on();
    s = fault(addr, err);
    if (s == QUIRE_NO_MEMORY && !out_of_memory(addr, err, &s))
        s = QUIRE_FAULT;
    irq_off();
    return s == QUIRE_OK;
}

/* From entry.S: a fault of the kernel's own; interrupts off. */
void page_fault_kernel(struct regs *r, u64 err)
{
    u64 addr = read_cr2();

    if (addr < USER_END) {
        struct regs at = *r;

        /* only the instructions of uaccess.c may touch user memory */
        if (extable_fixup(&at)) {
            if (!user_access_fault(r, addr, err))
                r->rip = at.rip;
            return;
        }
    } else if (bare_vmemmap_fault(addr) || extable_fixup(r)) {
        return;
    }
    if (addr < 4096)
        die(r, "null pointer %s at %#lx", err & PF_WRITE ? "write" : "read", (unsigned long)addr);
    if (quire_heap_fault((void *)addr, err & PF_WRITE))
        die(r, "%s of the heap's sampled objects at %#lx", err & PF_WRITE ? "write" : "read",
            (unsigned long)addr);
    if (quire_stack_guard_hit(Q_KVA(addr)))
        die(r, "kernel stack overflow at %#lx", (unsigned long)addr);
    die(r, "page fault in the kernel: %s of %#lx, error %#lx",
        err & PF_FETCH   ? "execution"
        : err & PF_WRITE ? "write"
                         : "read",
        (unsigned long)addr, (unsigned long)err);
}
