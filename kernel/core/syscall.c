/*
 * core/syscall.c - the table of system calls.  A call exists if sys_NAME is defined anywhere.
 */
#include "arch/cpu.h"

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

void syscall_init(void)
{
    for (unsigned i = 0; i < SYSCALL_COUNT; i++)
        if (!syscall_table[i])
            syscall_table[i] = (void *)absent;
}
