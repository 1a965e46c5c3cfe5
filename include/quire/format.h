/*
 * quire/format.h - formatted output without a libc, for the library and for kernels that have none of their own.
 *
 * Understood: %d %i %u %x %X %o %p %s %c %%, lengths h hh l ll z j t, flags '-', '0', '+', ' ', '#',
 * width and precision as numbers or '*'.  Everything else is copied as it stands.  No floating point.
 */
#ifndef QUIRE_FORMAT_H
#define QUIRE_FORMAT_H

#include <stdarg.h>
#include <quire/types.h>

/* Write at most cap - 1 characters and a 0 (cap 0: nothing).  Returns the full length, like
 * snprintf(3).  Any context. */
size_t quire_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap);
size_t quire_snprintf(char *buf, size_t cap, const char *fmt, ...) QUIRE_PRINTF(3, 4);

#endif
