/*
 * base/trace.h - where a call came from: return addresses, and their names.
 *
 * A trace is a list of return addresses, the innermost first.  How a stack is walked only the port
 * can know: QPORT_BACKTRACE (quire/port.h).  Without it a trace is the call site alone.
 */
#ifndef QI_BASE_TRACE_H
#define QI_BASE_TRACE_H

#include "check.h"

#define QI_TRACE_MAX 16u

/* The return address of the running function: the place that called it. */
#ifdef QPORT_CALLER
#define QI_CALLER() QPORT_CALLER()
#else
#define QI_CALLER() ((uintptr_t)__builtin_return_address(0))
#endif

/* A byte that somebody may write at this moment; for reports.  Not seen by those who watch for races. */
__attribute__((no_sanitize("thread", "address"))) static inline uint8_t qi_peek(const void *at)
{
    return *(const volatile uint8_t *)at;
}

/* caller, then those that called it, as far as the port can tell: 1..max addresses.  Any context.  Inline: each
 * function on the way is a step of the walk. */
static inline unsigned qi_trace(uintptr_t caller, uintptr_t *out, unsigned max)
{
    unsigned n = QPORT_BACKTRACE(caller, out, max);

    out[0] = caller;
    return n ? n : 1;
}
/* A line for each address, with its name if the port knows it.  Any context. */
void qi_log_trace(enum quire_log_level level, const uintptr_t *frames, unsigned n);
/* "address name", or the address alone, for a line of a report.  Returns buf. */
const char *qi_place_text(uintptr_t addr, char *buf, size_t cap);

#endif
