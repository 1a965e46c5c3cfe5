/*
 * base/trace.c - where a call came from; and the walk by frame pointers that a port may use.
 */
#include "trace.h"

#include <quire/format.h>

unsigned quire_backtrace_frames(uintptr_t caller, uintptr_t frame, uintptr_t low, uintptr_t high,
                                uintptr_t *out, unsigned max)
{
    unsigned n = 0;

    /* each frame: the caller's frame pointer, then the return address; callers lie above */
    while (n < max && frame >= low && frame < high && high - frame >= 2 * sizeof(uintptr_t) &&
           frame % sizeof(uintptr_t) == 0) {
        const volatile uintptr_t *at = (const volatile uintptr_t *)frame;
        uintptr_t ret = at[1];

        if (!ret)
            break;
        if (n || ret == caller)
            out[n++] = ret;
        low = frame + 1;
        frame = at[0];
    }
    return n;
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
