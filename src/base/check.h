/*
 * base/check.h - three ranks of assertion, and the log.
 *
 *   _Static_assert          compile time
 *   QI_CHECK(c, fmt, ...)   misuse by the caller: O(1), in every build; reports with values, then
 *                           qport_panic
 *   QI_ASSERT(c)            our own invariants, O(1): with QUIRE_DEBUG=1
 *   *_verify()              O(n) walks, called by tests and by the scrubber
 */
#ifndef QI_BASE_CHECK_H
#define QI_BASE_CHECK_H

#include <quire/port.h>

/* Format (see quire/format.h for what is understood), log as an error, qport_panic.  Any context. */
_Noreturn void qi_bug(const char *fmt, ...) QUIRE_PRINTF(1, 2);
/* Format and log one line.  Any context. */
void qi_log(enum quire_log_level level, const char *fmt, ...) QUIRE_PRINTF(2, 3);

#define QI_LIKELY(c)   __builtin_expect(!!(c), 1)
#define QI_UNLIKELY(c) __builtin_expect(!!(c), 0)

#define QI_CHECK(c, ...)         \
    do {                         \
        if (QI_UNLIKELY(!(c)))   \
            qi_bug(__VA_ARGS__); \
    } while (0)

#define QI_STR_(x) #x
#define QI_STR(x)  QI_STR_(x)

#if QUIRE_DEBUG
#define QI_ASSERT(c) QI_CHECK(c, "%s", __FILE__ ":" QI_STR(__LINE__) ": " #c)
#else
#define QI_ASSERT(c) ((void)sizeof(!(c)))
#endif

#endif
