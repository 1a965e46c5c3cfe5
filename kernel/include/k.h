/*
 * kernel/include/k.h - what every file of the reference kernel uses.
 *
 * The kernel is Quire's first embedder: it sees include/quire and ports/bare, never src/.  It has a
 * higher half (text at -2 GiB, the direct map at QPORT_DIRECT_BASE), one stack per task, and Linux's
 * system-call ABI for x86-64.  Errors inside the kernel are negative errnos, as in the ABI.
 */
#ifndef K_H
#define K_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <quire/types.h>
#include <quire/status.h>
#include "errno.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

#define K_COUNT(a)           (sizeof(a) / sizeof((a)[0]))
#define K_MIN(a, b)          ((a) < (b) ? (a) : (b))
#define K_MAX(a, b)          ((a) > (b) ? (a) : (b))
#define K_CONTAINER(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))
#define K_UP(v, a)           (((v) + (a)-1) & ~((u64)(a)-1))
#define K_DOWN(v, a)         ((v) & ~((u64)(a)-1))

/* Users live below this (canonical lower half, less the last page). */
#define USER_START 0x10000ul
#define USER_END   0x00007ffffffff000ul

void *memcpy(void *d, const void *s, size_t n);
void *memmove(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
char *strstr(const char *s, const char *what);
/* Copies at most cap - 1 characters and a 0; returns strlen(s). */
size_t strlcpy(char *d, const char *s, size_t cap);
/* The library's formatting (quire/format.h), with an int for what is left of a buffer. */
int ksnprintf(char *buf, size_t cap, const char *fmt, ...) QUIRE_PRINTF(3, 4);
int kvsnprintf(char *buf, size_t cap, const char *fmt, va_list ap);
/* Decimal, or 0x hexadecimal; *end after the last digit. */
u64 kstrtou64(const char *s, const char **end);

/* One or more lines to the kernel log. Any context. */
void printk(const char *fmt, ...) QUIRE_PRINTF(1, 2);
/* Registers, backtrace with symbols, then QEMU ends with a non-zero status.  Any context. */
/* Runs while the CPU's canary comes into being, and cannot have one itself. */
#define K_NO_CANARY __attribute__((no_stack_protector))

_Noreturn void kpanic(const char *fmt, ...) QUIRE_PRINTF(1, 2);

/* 0, or the negative errno of a status of the library. */
static inline long kerr(enum quire_status s) { return -(long)quire_status_errno(s); }

/* Value of "name=" on the command line copied to buf (decoded from %XX), or false. */
bool cmdline_get(const char *name, char *buf, size_t cap);
bool cmdline_has(const char *name);
const char *cmdline_all(void);

u64 ktime_ns(void);     /* monotonic since boot */
u64 krealtime_ns(void); /* since 1970 */

#endif
