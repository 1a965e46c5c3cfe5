/*
 * arch/uaccess.c - access to user memory.  Contracts: uaccess.h.
 *
 * A fault on one of these instructions is first given to the space (fault.c), which may bring the
 * page; only if that fails does execution go on at the fix-up, with what is left to do still in
 * the registers.
 */
#include "uaccess.h"
#include "x86.h"

#include <quire/shadow.h>

/* Words, then the odd bytes; a word that faults is tried again bytewise, so that the count is
 * exact. */
static inline size_t copy(void *to, const void *from, size_t n)
{
    size_t left = n >> 3;

    __asm__ volatile("1: rep movsq\n"
                     "   movq %[tail], %%rcx\n"
                     "2: rep movsb\n"
                     "3:\n"
                     ".pushsection .text.fixup, \"ax\"\n"
                     "4: leaq (%[tail], %%rcx, 8), %%rcx\n"
                     "   jmp 2b\n"
                     ".popsection\n" EX_TABLE("1b", "4b") EX_TABLE("2b", "3b")
                     : "+D"(to), "+S"(from), "+c"(left)
                     : [tail] "r"(n & 7)
                     : "memory");
    return left;
}

size_t copy_from_user_part(void *to, u64 from, size_t n)
{
    quire_shadow_check(to, n, true);
    return user_range_ok(from, n) ? copy(to, (const void *)from, n) : n;
}

size_t copy_to_user_part(u64 to, const void *from, size_t n)
{
    quire_shadow_check(from, n, false);
    return user_range_ok(to, n) ? copy((void *)to, from, n) : n;
}

int copy_from_user(void *to, u64 from, size_t n)
{
    size_t left = copy_from_user_part(to, from, n);

    if (__builtin_expect(!left, 1))
        return 0;
    memset((char *)to + (n - left), 0, left);
    return -EFAULT;
}

int copy_to_user(u64 to, const void *from, size_t n)
{
    return copy_to_user_part(to, from, n) ? -EFAULT : 0;
}

int clear_user(u64 at, size_t n)
{
    size_t left = n >> 3;
    void *to = (void *)at;

    if (!user_range_ok(at, n))
        return -EFAULT;
    __asm__ volatile("1: rep stosq\n"
                     "   movq %[tail], %%rcx\n"
                     "2: rep stosb\n"
                     "3:\n"
                     ".pushsection .text.fixup, \"ax\"\n"
                     "4: leaq (%[tail], %%rcx, 8), %%rcx\n"
                     "   jmp 2b\n"
                     ".popsection\n" EX_TABLE("1b", "4b") EX_TABLE("2b", "3b")
                     : "+D"(to), "+c"(left)
                     : [tail] "r"(n & 7), "a"(0ul)
                     : "memory");
    return left ? -EFAULT : 0;
}

#define GET(v, type, from)                                           \
    ({                                                               \
        int err_ = -EFAULT;                                          \
        __asm__ volatile("1: mov %[mem], %[val]\n"                   \
                         "   xorl %[err], %[err]\n"                  \
                         "2:\n" EX_TABLE("1b", "2b")                 \
                         : [err] "+r"(err_), [val] "=&r"(v)          \
                         : [mem] "m"(*(const volatile type *)(from)) \
                         : "cc");                                    \
        err_;                                                        \
    })

#define PUT(to, type, v)                                                        \
    ({                                                                          \
        int err_ = -EFAULT;                                                     \
        __asm__ volatile("1: mov %[val], %[mem]\n"                              \
                         "   xorl %[err], %[err]\n"                             \
                         "2:\n" EX_TABLE("1b", "2b")                            \
                         : [err] "+r"(err_), [mem] "=m"(*(volatile type *)(to)) \
                         : [val] "r"(v)                                         \
                         : "cc", "memory");                                     \
        err_;                                                                   \
    })

static int get_byte(u8 *to, u64 from)
{
    u8 v = 0;
    int err = GET(v, u8, from);

    *to = v;
    return err;
}

int get_user_u32(u32 *to, u64 from)
{
    u32 v;
    int err;

    if (!user_range_ok(from, sizeof(v)))
        return -EFAULT;
    err = GET(v, u32, from);
    if (!err)
        *to = v;
    return err;
}

int get_user_u64(u64 *to, u64 from)
{
    u64 v;
    int err;

    if (!user_range_ok(from, sizeof(v)))
        return -EFAULT;
    err = GET(v, u64, from);
    if (!err)
        *to = v;
    return err;
}

int put_user_u32(u64 to, u32 v) { return user_range_ok(to, sizeof(v)) ? PUT(to, u32, v) : -EFAULT; }
int put_user_u64(u64 to, u64 v) { return user_range_ok(to, sizeof(v)) ? PUT(to, u64, v) : -EFAULT; }

int cmpxchg_user_u32(u64 at, u32 expected, u32 desired, u32 *old)
{
    int err = -EFAULT;
    u32 found = expected;

    if (!user_range_ok(at, 4) || at & 3)
        return -EFAULT;
    __asm__ volatile("1: lock cmpxchgl %[new], %[mem]\n"
                     "   movl $0, %[err]\n"
                     "2:\n" EX_TABLE("1b", "2b")
                     : [err] "+r"(err), [mem] "+m"(*(volatile u32 *)at), "+a"(found)
                     : [new] "r"(desired)
                     : "cc", "memory");
    if (!err)
        *old = found;
    return err;
}

/* A word at a time while no byte of it is 0 (Mycroft's test), never across a page that may be
 * missing. */
long strncpy_from_user(char *to, u64 from, size_t cap)
{
    size_t n = 0;

    while (n < cap) {
        u64 at = from + n, w;
        u8 c;

        if (!(at & 7) && cap - n >= 8 && user_range_ok(at, 8) && !GET(w, u64, at) &&
            !((w - 0x0101010101010101ull) & ~w & 0x8080808080808080ull)) {
            memcpy(to + n, &w, 8);
            n += 8;
            continue;
        }
        if (!user_range_ok(at, 1) || get_byte(&c, at))
            return -EFAULT;
        to[n] = (char)c;
        if (!c)
            return (long)n;
        n++;
    }
    return -ENAMETOOLONG;
}
