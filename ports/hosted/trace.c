/*
 * ports/hosted/trace.c - where a call came from, by the unwinder of the compiler's runtime: exact without frame
 * pointers, so that the library is measured as it is; and the names that the dynamic linker knows.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <unwind.h>

#include <quire/port.h>

struct walk {
    uintptr_t caller;
    uintptr_t *out;
    unsigned n, max;
};

static _Unwind_Reason_Code step(struct _Unwind_Context *at, void *arg)
{
    struct walk *w = arg;
    uintptr_t ip = _Unwind_GetIP(at);

    if (w->n == w->max)
        return _URC_END_OF_STACK;
    if (w->n || ip == w->caller)
        w->out[w->n++] = ip;
    return _URC_NO_REASON;
}

unsigned hosted_backtrace(uintptr_t caller, uintptr_t *out, unsigned max)
{
    struct walk w = {.caller = caller, .out = out, .max = max};

    _Unwind_Backtrace(step, &w);
    return w.n;
}

size_t hosted_symbol(uintptr_t addr, char *buf, size_t cap)
{
    Dl_info i;
    int n;

    /* a return address may be the first byte behind the caller */
    if (!dladdr((void *)(addr - 1), &i) || !i.dli_fname)
        return 0;
    if (i.dli_sname)
        n = snprintf(buf, cap, "%s+%#lx", i.dli_sname,
                     (unsigned long)(addr - (uintptr_t)i.dli_saddr));
    else
        n = snprintf(buf, cap, "%s+%#lx", i.dli_fname,
                     (unsigned long)(addr - (uintptr_t)i.dli_fbase));
    return n < 0 ? 0 : (size_t)n;
}
