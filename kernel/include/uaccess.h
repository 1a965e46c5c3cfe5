/*
 * kernel/include/uaccess.h - the only ways in which the kernel touches user memory.
 *
 * A bad address is an answer (-EFAULT), never a crash: the access instructions stand in an exception
 * table.  Ranges that leave the user half are refused before any access.  Task context: a page may be
 * faulted in.
 */
#ifndef K_UACCESS_H
#define K_UACCESS_H

#include "k.h"

int copy_from_user(void *to, u64 from, size_t n); /* 0 or -EFAULT; to is zeroed beyond the fault */
int copy_to_user(u64 to, const void *from, size_t n);
int clear_user(u64 to, size_t n);
/* Bytes NOT copied: for calls that return a short count. */
size_t copy_from_user_part(void *to, u64 from, size_t n);
size_t copy_to_user_part(u64 to, const void *from, size_t n);
/* Length without the 0, -EFAULT, or -ENAMETOOLONG if there is no 0 within cap. */
long strncpy_from_user(char *to, u64 from, size_t cap);
int get_user_u32(u32 *to, u64 from);
int get_user_u64(u64 *to, u64 from);
int put_user_u32(u64 to, u32 v);
int put_user_u64(u64 to, u64 v);
/* Atomic 32-bit compare-and-swap on user memory: 0 and *old = what was there, or -EFAULT. */
int cmpxchg_user_u32(u64 at, u32 expected, u32 desired, u32 *old);

static inline bool user_range_ok(u64 at, u64 n) { return at <= USER_END && n <= USER_END - at; }

#endif
