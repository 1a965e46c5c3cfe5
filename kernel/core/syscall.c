/*
 * core/syscall.c - the table of system calls.  A call exists if sys_NAME is defined anywhere.
 */
#include "arch/cpu.h"
#include "measure.h"

#define SYSCALL(number, name) extern void sys_##name(void) __attribute__((weak));
#include "syscalls.def"
#undef SYSCALL

void *syscall_table[SYSCALL_COUNT] = {
#define SYSCALL(number, name) [number] = (void *)sys_##name,
#include "syscalls.def"
#undef SYSCALL
};

static const char *const call_names[SYSCALL_COUNT] = {
#define SYSCALL(number, name) [number] = #name,
#include "syscalls.def"
#undef SYSCALL
};

static long absent(void)
{
    static u64 named[SYSCALL_COUNT / 64 + 1];
    u64 nr = current->regs->orig_rax, bit = 1ull << nr % 64;

    if (nr < SYSCALL_COUNT && !(__atomic_fetch_or(&named[nr / 64], bit, __ATOMIC_RELAXED) & bit))
        printk("system call %lu (%s) is not there: first asked for by %s", (unsigned long)nr,
               call_names[nr] ? call_names[nr] : "?", current->comm);
    return -ENOSYS;
}

/* ---- with quire.report: how long the calls of the mmap family take ---- */

enum {
    NR_MMAP = 9,
    NR_MPROTECT,
    NR_MUNMAP,
    NR_BRK,
    NR_MREMAP = 25,
    NR_MSYNC,
    NR_MINCORE,
    NR_MADVISE,
    NR_MLOCK = 149,
    NR_MUNLOCK,
    NR_MLOCKALL,
    NR_MUNLOCKALL,
    NR_MLOCK2 = 325
};
static const u16 memory_calls[] = {NR_MMAP,     NR_MPROTECT,   NR_MUNMAP,  NR_BRK,   NR_MREMAP,
                                   NR_MSYNC,    NR_MINCORE,    NR_MADVISE, NR_MLOCK, NR_MUNLOCK,
                                   NR_MLOCKALL, NR_MUNLOCKALL, NR_MLOCK2};

typedef long (*call)(u64, u64, u64, u64, u64, u64);
static call measured_calls[SYSCALL_COUNT];

static long measured(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    u64 t = measure_begin();
    long r = measured_calls[current->regs->orig_rax](a, b, c, d, e, f);

    measure_end(MEASURE_CALL, t);
    return r;
}

void syscall_init(void)
{
    for (unsigned i = 0; i < SYSCALL_COUNT; i++)
        if (!syscall_table[i])
            syscall_table[i] = (void *)absent;
    for (unsigned i = 0; measure_on && i < K_COUNT(memory_calls); i++) {
        measured_calls[memory_calls[i]] = (call)syscall_table[memory_calls[i]];
        syscall_table[memory_calls[i]] = (void *)measured;
    }
}
