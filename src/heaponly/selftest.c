/*
 * heaponly/selftest.c - tells a wrong host from a bug of the heap.  Not called: qport_panic, which may not
 * return.
 */
#include "heaponly.h"

#include "../base/bits.h"
#include "../base/check.h"
#include "../base/selftest.h"

/* Two blocks of each order up to 3, aligned, writable, in the window, not the same; and back. */
static bool pages_work(void)
{
    for (unsigned order = 0; order <= 3; order++) {
        uint64_t bytes = QUIRE_PAGE_SIZE << order;
        char *a = quire_host_pages_get(order), *b = a ? quire_host_pages_get(order) : NULL;
        bool good = !a || qi_is_aligned((uintptr_t)a, bytes);

        if (b)
            good = good && qi_is_aligned((uintptr_t)b, bytes) && (b >= a + bytes || a >= b + bytes);
        if (a && b) {
            __builtin_memset(a, 0x5a, bytes);
            __builtin_memset(b, 0xa5, bytes);
            good = good && a[0] == 0x5a && a[bytes - 1] == 0x5a;
        }
        good = good && (!a || quire_pfn_valid(Q_PFN((uintptr_t)(a - (char *)QPORT_DIRECT_BASE) /
                                                    QUIRE_PAGE_SIZE)));
        if (b)
            quire_host_pages_put(b, order);
        if (a)
            quire_host_pages_put(a, order);
        if (!good || (!order && !a))
            return false;
    }
    return true;
}

enum quire_status quire_heap_only_selftest(const char **culprit)
{
    static const struct {
        const char *name;
        bool (*works)(void);
    } hooks[] = {
        {"quire_host_cpu, quire_host_irq_save, quire_host_irq_restore", qi_cpu_works},
        {"qport_now_ns", qi_clock_works},
        {"quire_host_pages_get, quire_host_pages_put", pages_work},
    };

    for (unsigned i = 0; i < QI_COUNT(hooks); i++)
        if (!hooks[i].works()) {
            *culprit = hooks[i].name;
            return QUIRE_INVALID;
        }
    qi_log(QUIRE_LOG_INFO, "heap: the host's functions work");
    return QUIRE_OK;
}
