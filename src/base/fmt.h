/*
 * base/fmt.h - formatted output without a libc.
 *
 * Understood: %d %i %u %x %X %p %s %c %%, lengths h hh l ll z j t, flags '-', '0', '+', ' ', '#', width and
 * precision as numbers or '*'.  Everything else is copied as it stands.  No floating point.
 */
#ifndef QI_BASE_FMT_H
#define QI_BASE_FMT_H

#include <stdarg.h>
#include <quire/types.h>

/* Write at most cap - 1 characters and a 0 (cap 0: nothing).  Returns the full length, like
 * snprintf(3).  Any context. */
size_t qi_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap);
size_t qi_snprintf(char *buf, size_t cap, const char *fmt, ...) QUIRE_PRINTF(3, 4);

#endif
