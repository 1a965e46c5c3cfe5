/*
 * quire/status.h - the result of every call that can fail.
 *
 * A status names the fault.  On anything but QUIRE_OK nothing has changed, unless the contract of
 * the call says what has.  Lack of memory is an ordinary status.
 */
#ifndef QUIRE_STATUS_H
#define QUIRE_STATUS_H

#include <quire/types.h>

/* name, Linux errno on x86-64 (errno(3)), text */
#define QUIRE_STATUSES(X)                                              \
    X(OK, 0, "success")                                                \
    X(NO_MEMORY, 12, "out of memory")                                  \
    X(INVALID, 22, "invalid argument")                                 \
    X(OVERFLOW, 75, "a size or range overflows")                       \
    X(EXISTS, 17, "the range is occupied")                             \
    X(NOT_FOUND, 2, "no such entry")                                   \
    X(ACCESS, 13, "the object does not allow this access")             \
    X(PERM, 1, "not permitted")                                        \
    X(BUSY, 16, "in use")                                              \
    X(AGAIN, 11, "try again")                                          \
    X(FAULT, 14, "bad address")                                        \
    X(NO_SPACE, 28, "no space left")                                   \
    X(IO, 5, "input or output error")                                  \
    X(LIMIT, 12, "a limit is reached")                                 \
    X(UNSUPPORTED, 95, "not supported")                                \
    X(NO_DEVICE, 19, "the object cannot be mapped")                    \
    X(INTERRUPTED, 4, "interrupted")                                   \
    X(SEGV_MAPERR, 14, "no mapping at the address")                    \
    X(SEGV_ACCERR, 14, "the mapping forbids this access")              \
    X(BUS_ADRERR, 14, "the mapping lies beyond the end of its object") \
    X(OVERLAP, 22, "ranges overlap")                                   \
    X(TOO_MANY, 12, "a fixed table is full")                           \
    X(CORRUPT, 117, "a structure is damaged")

enum quire_status {
#define QUIRE_STATUS_ENUM(name, err, text) QUIRE_##name,
    QUIRE_STATUSES(QUIRE_STATUS_ENUM)
#undef QUIRE_STATUS_ENUM
};

/* Text of a status, for logs: never NULL.  Any context. */
const char *quire_status_text(enum quire_status s);
/* "NO_MEMORY" and so on; "?" for a value outside the enum.  Any context. */
const char *quire_status_name(enum quire_status s);
/* The positive errno that Linux gives for this fault; 0 for QUIRE_OK.  Any context. */
int quire_status_errno(enum quire_status s);

#endif
