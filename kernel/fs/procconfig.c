/*
 * fs/procconfig.c - /proc/config.gz: which optional parts this kernel has, under the names that Linux gives them.
 *
 * Test suites and boot scripts read it before they use a feature.  The file is a gzip member with one stored block
 * (RFC 1951, RFC 1952): a compressor would only make 2 KiB shorter.
 */
#include "gen.h"

/* clang-format off */
static const char options[] =
    "CONFIG_64BIT=y\n"
    "CONFIG_X86=y\n"
    "CONFIG_X86_64=y\n"
    "CONFIG_MMU=y\n"
    "CONFIG_SMP=y\n"
    "CONFIG_NUMA=y\n"
    "CONFIG_SYSVIPC=y\n"
    "CONFIG_SYSVIPC_SYSCTL=y\n"
    "CONFIG_CHECKPOINT_RESTORE=y\n"
    "CONFIG_FUTEX=y\n"
    "CONFIG_FUTEX_PI=y\n"
    "CONFIG_EPOLL=y\n"
    "CONFIG_SIGNALFD=y\n"
    "CONFIG_TIMERFD=y\n"
    "CONFIG_EVENTFD=y\n"
    "CONFIG_POSIX_TIMERS=y\n"
    "CONFIG_MEMBARRIER=y\n"
    "CONFIG_RSEQ=y\n"
    "CONFIG_ADVISE_SYSCALLS=y\n"
    "CONFIG_CROSS_MEMORY_ATTACH=y\n"
    "CONFIG_MEMFD_CREATE=y\n"
    "CONFIG_SHMEM=y\n"
    "CONFIG_TMPFS=y\n"
    "CONFIG_PROC_FS=y\n"
    "CONFIG_PROC_SYSCTL=y\n"
    "CONFIG_SYSFS=y\n"
    "CONFIG_DEVTMPFS=y\n"
    "CONFIG_UNIX98_PTYS=y\n"
    "CONFIG_FILE_LOCKING=y\n"
    "CONFIG_ELF_CORE=y\n"
    "CONFIG_BINFMT_ELF=y\n"
    "CONFIG_BINFMT_SCRIPT=y\n"
    "CONFIG_PRINTK=y\n"
    "CONFIG_MULTIUSER=y\n"
    "CONFIG_NET=y\n"
    "CONFIG_UNIX=y\n"
    "CONFIG_INET=y\n"
    "CONFIG_BLK_DEV_INITRD=y\n"
    "CONFIG_IKCONFIG=y\n"
    "CONFIG_IKCONFIG_PROC=y\n"
    "CONFIG_HZ=100\n"
    "# CONFIG_MODULES is not set\n"
    "# CONFIG_SWAP is not set\n"
    "# CONFIG_HUGETLBFS is not set\n"
    "# CONFIG_CGROUPS is not set\n"
    "# CONFIG_NAMESPACES is not set\n"
    "# CONFIG_PID_NS is not set\n"
    "# CONFIG_USER_NS is not set\n"
    "# CONFIG_NET_NS is not set\n"
    "# CONFIG_TIME_NS is not set\n"
    "# CONFIG_SECCOMP is not set\n"
    "# CONFIG_SECCOMP_FILTER is not set\n";
/* clang-format on */

/* RFC 1952, section 8. */
static u32 crc32(const char *p, size_t n)
{
    u32 c = ~0u;

    while (n--) {
        c ^= (u8)*p++;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static void put_le(struct text *t, u32 v, unsigned bytes)
{
    for (; bytes; bytes--, v >>= 8)
        text_put(t, &(char){(char)v}, 1);
}

int show_config(struct text *t, u64 key)
{
    static const char header[] = {0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
    u32 n = sizeof(options) - 1;

    (void)key;
    text_put(t, header, sizeof(header));
    put_le(t, 1, 1); /* the last block, stored */
    put_le(t, n, 2);
    put_le(t, ~n, 2);
    text_put(t, options, n);
    put_le(t, crc32(options, n), 4);
    put_le(t, n, 4);
    return 0;
}
