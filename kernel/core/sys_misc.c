/*
 * core/sys_misc.c - reboot(2), syslog(2), membarrier(2).
 */
#include "arch/cpu.h"
#include "printk.h"
#include "task.h"
#include "uaccess.h"
#include "wait.h"

#include <quire/barrier.h>

#define CAP_SYS_BOOT  22
#define CAP_SYS_ADMIN 21
#define CAP_SYSLOG    34

/* ---- reboot ---- */

long sys_reboot(u32 magic1, u32 magic2, u32 cmd, u64 arg)
{
    (void)arg;
    if (!capable(CAP_SYS_BOOT))
        return -EPERM;
    if (magic1 != 0xfee1dead ||
        (magic2 != 672274793 && magic2 != 85072278 && magic2 != 369367448 && magic2 != 537993216))
        return -EINVAL;
    switch (cmd) {
    case 0x89abcdef: /* Ctrl-Alt-Del on and off: there is no such key here */
    case 0: return 0;
    case 0x01234567: /* RESTART */
    case 0xa1b2c3d4: /* RESTART2 */
        report_print();
        printk("quire: exit status 0");
        power_reset();
    case 0xcdef0123: /* HALT */
    case 0x4321fedc: /* POWER_OFF */ system_end(0);
    default: return -EINVAL;
    }
}

/* ---- syslog ---- */

enum {
    LOG_CLOSE,
    LOG_OPEN,
    LOG_READ,
    LOG_READ_ALL,
    LOG_READ_CLEAR,
    LOG_CLEAR,
    LOG_OFF,
    LOG_ON,
    LOG_LEVEL,
    LOG_UNREAD,
    LOG_SIZE
};

static u64 reader_pos;

/* At most len of the last bytes. */
static long log_last(u64 buf, size_t len)
{
    u64 pos = printk_start(len);
    size_t done = 0;
    char part[256];

    while (done < len) {
        size_t n = printk_read(&pos, part, K_MIN(len - done, sizeof(part)));

        if (!n)
            break;
        if (copy_to_user(buf + done, part, n))
            return -EFAULT;
        done += n;
    }
    return (long)done;
}

/* What no LOG_READ has returned yet; waits for something. */
static long log_next(u64 buf, size_t len)
{
    char part[256];
    size_t n;

    while (!(n = printk_read(&reader_pos, part, K_MIN(len, sizeof(part))))) {
        wait_prepare();
        if (wait_sleep(ktime_ns() + 100000000) == -EINTR) {
            wait_finish();
            return -ERESTARTSYS;
        }
        wait_finish();
    }
    return copy_to_user(buf, part, n) ? -EFAULT : (long)n;
}

long sys_syslog(int type, u64 buf, int len)
{
    long n;

    if (type != LOG_READ_ALL && type != LOG_SIZE && !capable(CAP_SYSLOG) && !capable(CAP_SYS_ADMIN))
        return -EPERM;
    if ((type >= LOG_READ && type <= LOG_READ_CLEAR) && (!buf || len < 0))
        return -EINVAL;
    switch (type) {
    case LOG_CLOSE:
    case LOG_OPEN: return 0;
    case LOG_READ: return len ? log_next(buf, (size_t)len) : 0;
    case LOG_READ_ALL: return log_last(buf, (size_t)len);
    case LOG_READ_CLEAR:
        n = log_last(buf, (size_t)len);
        if (n >= 0)
            printk_clear();
        return n;
    case LOG_CLEAR: printk_clear(); return 0;
    case LOG_OFF:
    case LOG_ON: printk_console(type == LOG_ON); return 0;
    case LOG_LEVEL: /* only "nothing but emergencies" differs: lines have no levels */
        if (len < 1 || len > 8)
            return -EINVAL;
        printk_console(len > 1);
        return 0;
    case LOG_UNREAD: return (long)printk_unread(reader_pos);
    case LOG_SIZE: return PRINTK_RING;
    default: return -EINVAL;
    }
}

/* ---- membarrier ---- */

#define MB_GLOBAL                     0x1u
#define MB_GLOBAL_EXPEDITED           0x2u
#define MB_REGISTER_GLOBAL_EXPEDITED  0x4u
#define MB_PRIVATE_EXPEDITED          0x8u
#define MB_REGISTER_PRIVATE_EXPEDITED 0x10u
#define MB_PRIVATE_SYNC_CORE          0x20u
#define MB_REGISTER_PRIVATE_SYNC_CORE 0x40u
#define MB_ALL                        0x7fu

static void barrier(void *arg)
{
    (void)arg;
    /* the interrupt's return is serializing too, as SYNC_CORE wants */
    quire_barrier_store_load();
}

static long everywhere(void)
{
    quire_barrier_store_load();
    if (cpus_online() > 1)
        smp_call_others(barrier, NULL);
    return 0;
}

long sys_membarrier(int cmd, unsigned flags, int cpu)
{
    struct process *p = current->proc;
    u32 registered = __atomic_load_n(&p->membarrier, __ATOMIC_RELAXED);

    (void)cpu; /* counts only with the flag of the rseq commands, which are not there */
    if (flags)
        return -EINVAL;
    switch ((u32)cmd) {
    case 0: return MB_ALL;
    case MB_GLOBAL:
    case MB_GLOBAL_EXPEDITED: return everywhere();
    case MB_REGISTER_GLOBAL_EXPEDITED:
    case MB_REGISTER_PRIVATE_EXPEDITED:
    case MB_REGISTER_PRIVATE_SYNC_CORE:
        __atomic_fetch_or(&p->membarrier, (u32)cmd, __ATOMIC_RELAXED);
        return 0;
    case MB_PRIVATE_EXPEDITED:
        return registered & MB_REGISTER_PRIVATE_EXPEDITED ? everywhere() : -EPERM;
    case MB_PRIVATE_SYNC_CORE:
        return registered & MB_REGISTER_PRIVATE_SYNC_CORE ? everywhere() : -EPERM;
    default: return -EINVAL;
    }
}
