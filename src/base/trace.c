/*
 * base/trace.c - where a call came from; and the walk by frame pointers that a port may use.
 */
#include "trace.h"

#include <quire/format.h>

/* Frames of the library itself between the port's hook and the public call; at most so many. */
#define INNER_MAX 12u

unsigned quire_backtrace_frames(uintptr_t frame, uintptr_t low, uintptr_t high, uintptr_t *out,
                                unsigned max)
{
    unsigned n = 0;

    /* each frame: the caller's frame pointer, then the return address; callers lie above */
    while (n < max && frame >= low && frame < high && high - frame >= 2 * sizeof(uintptr_t) &&
           frame % sizeof(uintptr_t) == 0) {
        const volatile uintptr_t *at = (const volatile uintptr_t *)frame;

        if (!at[1])
            break;
        out[n++] = at[1];
        low = frame + 1;
        frame = at[0];
    }
    return n;
}

unsigned qi_trace(uintptr_t caller, uintptr_t *out, unsigned max)
{
    uintptr_t all[QI_TRACE_MAX + INNER_MAX];
    unsigned n = QPORT_BACKTRACE(caller, all, QI_TRACE_MAX + INNER_MAX), first = 0, got = 1;

    out[0] = caller;
    while (first < n && all[first] != caller)
        first++;
    for (unsigned i = first + 1; i < n && got < max; i++)
        out[got++] = all[i];
    return got;
}

const char *qi_place_text(uintptr_t addr, char *buf, size_t cap)
{
    size_t n = quire_snprintf(buf, cap, "%#lx ", (unsigned long)addr);

    if (n < cap)
        n += QPORT_SYMBOL(addr, buf + n, cap - n);
    if (n <= cap && buf[n - 1] == ' ')
        buf[n - 1] = 0;
    return buf;
}

void qi_log_trace(enum quire_log_level level, const uintptr_t *frames, unsigned n)
{
    char place[160];

    for (unsigned i = 0; i < n; i++)
        qi_log(level, "    %s %s", i ? "by" : "at", qi_place_text(frames[i], place, sizeof place));
}
